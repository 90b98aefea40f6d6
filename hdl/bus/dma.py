"""The load and the store engine: 2-D strided transfers between DRAM and scratchpad.

Rules of both
-------------
1. An instruction is accepted as soon as the addresses of the one before have been worked out, while its data
   may still be under way: transfers follow each other without a gap on the bus. At most ``TRANSFERS`` are
   under way.
2. Instructions finish in order. A load has finished when its last word is stored, a store when the response
   to its last burst has come.
3. A row starts at the first byte of a beat; its bytes follow without gaps. What is left of the row's last
   beat is ignored by a load and has no byte enabled in a store.
4. ``outside`` (the guard refused a burst) and ``bus_error`` (an error response) stay high from when
   every earlier instruction has finished until a reset: the oldest instruction under way is the one that
   failed.
5. A reset while bursts are under way leaves it to the bus side (``ReadArbiter``, ``WriteChannel``) to
   complete them.
"""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..config import AcceleratorConfig
from ..isa import TRANSFER
from ..memory.interfaces import READ_LATENCY, CommandSignature, ScratchpadReadSignature, ScratchpadWriteSignature
from ..parts.queues import Queue
from ..parts.skid import Skid
from .bursts import BurstGenerator, BurstLayout
from .read_channel import BeatLayout
from .words import AREA, WordLayout, WordWalker
from .write_channel import StrobedBeatLayout

__all__ = ["TRANSFERS", "LoadEngine", "StoreEngine"]

#: Instructions that a transfer engine has under way at most.
TRANSFERS = 8


class _Transfers:
    """What both engines do with an instruction: hand it to the burst generator and to the word walker, and
    count those under way. ``words`` is what the walker finds, from a register."""

    def __init__(self, m: Module, config: AcceleratorConfig, engine):
        m.submodules.places = places = Skid(WordLayout(config))
        self.words = places.output
        m.submodules.bursts = bursts = BurstGenerator(config)
        m.submodules.walker = walker = WordWalker(config)
        m.submodules.areas = areas = Queue(AREA, TRANSFERS)
        under_way = Signal(range(TRANSFERS + 1))
        room = Signal(init=1)  # fewer than TRANSFERS are under way
        instruction = engine.instructions.command
        accept = Signal()
        finish = engine.instructions.finished
        m.d.comb += [
            accept.eq(instruction.valid & instruction.ready),
            instruction.ready.eq(bursts.transfer.ready & room),
            bursts.transfer.valid.eq(instruction.valid & room),
            bursts.transfer.p.eq(instruction.p),
            areas.input.valid.eq(accept),  # as many areas are there at most as instructions are under way
            *(areas.input.p[name].eq(instruction.p[name]) for name in dict(AREA)),
        ]
        connect(m, walker.area, areas.output)
        with m.If(accept & ~finish):
            m.d.sync += [under_way.eq(under_way + 1), room.eq(under_way != TRANSFERS - 1)]
        with m.Elif(finish & ~accept):
            m.d.sync += [under_way.eq(under_way - 1), room.eq(1)]
        m.submodules.requests = requests = Skid(BurstLayout(config))
        connect(m, bursts.bursts, requests.input)
        connect(m, flipped(engine.requests), requests.output)
        connect(m, walker.words, places.input)


class LoadEngine(wiring.Component):
    """Copies rows from DRAM into the scratchpad, a beat or a word a cycle, whichever is smaller.

    Members
    -------
    instructions : CommandSignature(TRANSFER)
    requests : stream of :class:`BurstLayout`
    data : stream of :class:`BeatLayout`
        The beats of the requests, in order.
    port : ScratchpadWriteSignature
        Always with every bit of ``mask`` set. The word of a beat is offered two cycles after the beat.
    outside, bus_error : 1 bit
        Rule 4.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "instructions": In(CommandSignature(TRANSFER)),
            "requests": Out(stream.Signature(BurstLayout(config))),
            "data": In(stream.Signature(BeatLayout(config))),
            "port": Out(ScratchpadWriteSignature(config)),
            "outside": Out(1),
            "bus_error": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, port, beat = self._config, self.port, self.data
        words = _Transfers(m, config, self).words
        bits, bus_bits = 8 * config.word_bytes, config.bus_bits

        # No path leads from the scratchpad, which may make a word wait, to the bus.
        write = data.StructLayout({"address": port.address.shape(), "word": bits, "last": 1})
        m.submodules.skid = skid = Skid(write)
        ready, waiting = skid.input.ready, skid.output
        enable = Signal()
        last = Signal(reset_less=True)
        address = Signal.like(port.address, reset_less=True)
        word = Signal(bits, reset_less=True)
        free = Signal()  # the word is not complete yet, or moves on
        takes = Signal()  # a beat, or part of it, when there is one
        step = Signal()
        completes = Signal()  # the word is complete with it
        failed = Signal()  # a beat was an error: no more is taken
        refused = Signal()  # it stood for a burst outside the window
        drained = Signal()  # all that came before it is stored
        m.d.comb += [
            free.eq(~enable | ready),
            takes.eq(words.valid & free & ~failed),
            step.eq(beat.valid & takes),
            words.ready.eq(step & completes),
            skid.input.valid.eq(enable),
            skid.input.payload.eq(Cat(address, word, last)),
            waiting.ready.eq(port.ready),
            port.enable.eq(waiting.valid),
            port.address.eq(waiting.p.address),
            port.data.eq(waiting.p.word),
            port.mask.eq(~0),
            drained.eq(failed & ~enable & ~waiting.valid & ~self.instructions.finished),
            self.outside.eq(drained & refused),
            self.bus_error.eq(drained & ~refused),
        ]
        m.d.sync += self.instructions.finished.eq(waiting.valid & port.ready & waiting.p.last)
        with m.If(free):
            m.d.sync += enable.eq(step & completes & ~beat.p.error)
            # A copy that is not needed does no harm; neither does that of the word below.
            m.d.sync += [address.eq(words.p.address), last.eq(words.p.last)]
        with m.If(step & beat.p.error):
            m.d.sync += [failed.eq(1), refused.eq(beat.p.outside)]

        if bits == bus_bits:
            m.d.comb += [completes.eq(1), beat.ready.eq(takes)]
            with m.If(free):
                m.d.sync += word.eq(beat.p.data)
        elif bits > bus_bits:
            part = Signal(range(bits // bus_bits))
            m.d.comb += [completes.eq(part == bits // bus_bits - 1), beat.ready.eq(takes)]
            with m.If(free):
                m.d.sync += word.word_select(part, bus_bits).eq(beat.p.data)
            with m.If(step):
                m.d.sync += part.eq(part + 1)
        else:
            part = Signal(range(bus_bits // bits))
            row_beat_ends = words.p.row_ends | (part == bus_bits // bits - 1)
            m.d.comb += [completes.eq(1), beat.ready.eq(takes & row_beat_ends)]
            with m.If(free):
                m.d.sync += word.eq(beat.p.data.word_select(part, bits))
            with m.If(step):
                m.d.sync += part.eq(Mux(row_beat_ends, 0, part + 1))
        return m


class StoreEngine(wiring.Component):
    """Copies rows from the scratchpad to DRAM, a beat or a word a cycle, whichever is smaller.

    Members
    -------
    instructions : CommandSignature(TRANSFER)
    port : ScratchpadReadSignature
    requests : stream of :class:`BurstLayout`
    beats : stream of :class:`StrobedBeatLayout`
        The beats of the requests, in order; they may come before their request.
    burst_finished, burst_error, burst_outside : 1 bit
        From the ``WriteChannel``.
    outside, bus_error : 1 bit
        Rule 4, but ``bus_error`` is a pulse.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "instructions": In(CommandSignature(TRANSFER)),
            "port": Out(ScratchpadReadSignature(config)),
            "requests": Out(stream.Signature(BurstLayout(config))),
            "beats": Out(stream.Signature(StrobedBeatLayout(config))),
            "burst_finished": In(1),
            "burst_error": In(1),
            "burst_outside": In(1),
            "outside": Out(1),
            "bus_error": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, port = self._config, self.port
        words = _Transfers(m, config, self).words
        m.submodules.skid = skid = Skid(WordLayout(config))
        asked = skid.output
        m.submodules.beats_skid = beats_skid = Skid(StrobedBeatLayout(config))
        connect(m, flipped(self.beats), beats_skid.output)
        bits, bus_bits = 8 * config.word_bytes, config.bus_bits

        # Reads go out only while the buffer has room for all that are under way, or wait for the scratchpad.
        m.submodules.buffer = buffer = Queue(
            data.StructLayout({"word": bits, "ends_row": 1}), 2 * (READ_LATENCY + 2))
        stored = buffer.output
        owed = Signal(range(buffer.depth + 1))  # words in the buffer and on their way to it
        room = Signal(init=1)
        ask = Signal()
        read = Signal()
        taken = Signal()
        arriving = Signal(READ_LATENCY)
        row_ends = Signal(READ_LATENCY)
        m.d.comb += [
            skid.input.valid.eq(words.valid & room),
            skid.input.payload.eq(words.p),
            words.ready.eq(skid.input.ready & room),
            ask.eq(words.valid & words.ready),
            port.enable.eq(asked.valid),
            port.address.eq(asked.p.address),
            asked.ready.eq(port.ready),
            read.eq(port.enable & port.ready),
            taken.eq(stored.valid & stored.ready),
            buffer.input.valid.eq(arriving[-1]),
            buffer.input.p.word.eq(port.data),
            buffer.input.p.ends_row.eq(row_ends[-1]),
            self.instructions.finished.eq(self.burst_finished),
            self.bus_error.eq(self.burst_error),
            self.outside.eq(self.burst_outside),
        ]
        m.d.sync += [arriving.eq(Cat(read, arriving)), row_ends.eq(Cat(asked.p.row_ends, row_ends))]
        with m.If(ask & ~taken):
            m.d.sync += [owed.eq(owed + 1), room.eq(owed != buffer.depth - 1)]
        with m.Elif(taken & ~ask):
            m.d.sync += [owed.eq(owed - 1), room.eq(1)]

        beat = beats_skid.input
        word, word_ends_row = stored.p.word, stored.p.ends_row
        if bits == bus_bits:
            m.d.comb += [
                beat.valid.eq(stored.valid),
                stored.ready.eq(beat.ready),
                beat.p.data.eq(word),
                beat.p.strobe.eq(~0),
            ]
        elif bits > bus_bits:
            part = Signal(range(bits // bus_bits))
            m.d.comb += [
                beat.valid.eq(stored.valid),
                stored.ready.eq(beat.ready & (part == bits // bus_bits - 1)),
                beat.p.data.eq(word.word_select(part, bus_bits)),
                beat.p.strobe.eq(~0),
            ]
            with m.If(beat.valid & beat.ready):
                m.d.sync += part.eq(part + 1)
        else:
            ratio = bus_bits // bits
            part = Signal(range(ratio))
            valid = Signal()
            filled = Signal(ratio, reset_less=True)
            packed = Signal(bus_bits, reset_less=True)
            ends = word_ends_row | (part == ratio - 1)
            m.d.comb += [
                stored.ready.eq(~valid | beat.ready),
                beat.valid.eq(valid),
                beat.p.data.eq(packed),
                beat.p.strobe.eq(Cat(bit.replicate(config.word_bytes) for bit in filled)),
            ]
            with m.If(taken):
                m.d.sync += [
                    packed.word_select(part, bits).eq(word),
                    filled.eq(Mux(part == 0, 1, filled | (1 << part))),
                    part.eq(Mux(ends, 0, part + 1)),
                    valid.eq(ends),
                ]
            with m.Elif(beat.ready):
                m.d.sync += valid.eq(0)
        return m
