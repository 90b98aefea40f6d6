"""The load and the store engine: 2-D strided transfers between DRAM and scratchpad.

Rules of both
-------------
1. An instruction is accepted as soon as the addresses of the one before have been worked out, while its data
   may still be under way: transfers follow each other without a gap on the bus. At most ``TRANSFERS`` wait for their
   data behind the one whose data moves.
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
from .words import AreaLayout, WordLayout, WordWalker
from .write_channel import FilledBeatLayout

__all__ = ["TRANSFERS", "LoadEngine", "StoreEngine"]

#: Instructions that a transfer engine has accepted, and whose data does not move yet, at most.
TRANSFERS = 4


def _words_of(m: Module, config: AcceleratorConfig, engine: "LoadEngine | StoreEngine"):
    """What both engines do with an instruction: hand it to the burst generator, whose bursts are the ``requests``, and
    to the word walker. Returns what this finds, a stream of :class:`WordLayout`."""
    m.submodules.bursts = bursts = BurstGenerator(config)
    m.submodules.walker = walker = WordWalker(config)
    m.submodules.areas = areas = Queue(AreaLayout(config), TRANSFERS)
    instruction = engine.instructions.command
    m.d.comb += [
        instruction.ready.eq(bursts.transfer.ready & areas.input.ready),
        bursts.transfer.valid.eq(instruction.valid & areas.input.ready),
        bursts.transfer.p.eq(instruction.p),
        areas.input.valid.eq(instruction.valid & bursts.transfer.ready),
        *(areas.input.p[name].eq(instruction.p[name]) for name in dict(AreaLayout(config))),
    ]
    connect(m, walker.area, areas.output)
    connect(m, flipped(engine.requests), bursts.bursts)
    return walker.words


class LoadEngine(wiring.Component):
    """Copies rows from DRAM into the scratchpad, a beat or a word a cycle, whichever is smaller.

    Members
    -------
    instructions : CommandSignature(TRANSFER)
    requests : stream of :class:`BurstLayout`
    data : stream of :class:`BeatLayout`
        The beats of the requests, in order.
    port : ScratchpadWriteSignature
        Always with every bit of ``mask`` set. The word of a beat is offered in the cycle after the beat.
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
        bits, bus_bits = 8 * config.word_bytes, config.bus_bits
        m.submodules.places = places = Skid(WordLayout(config))
        connect(m, places.input, _words_of(m, config, self))
        words = places.output

        # No path leads from the scratchpad, which may make a word wait, to the bus.
        write = data.StructLayout({"address": port.address.shape(), "word": bits, "last": 1})
        m.submodules.skid = skid = Skid(write)
        new, waiting = skid.input.p, skid.output
        takes = Signal()  # a beat, or part of it, when there is one
        step = Signal()
        completes = Signal()  # the word is complete with it
        failed = Signal()  # a beat was an error: no more is taken
        refused = Signal()  # it stood for a burst outside the window
        drained = Signal()  # all that came before it is stored
        m.d.comb += [
            takes.eq(words.valid & skid.input.ready & ~failed),
            step.eq(beat.valid & takes),
            words.ready.eq(step & completes),
            skid.input.valid.eq(step & completes & ~beat.p.error),
            new.address.eq(words.p.address),
            new.last.eq(words.p.last),
            waiting.ready.eq(port.ready),
            port.enable.eq(waiting.valid),
            port.address.eq(waiting.p.address),
            port.data.eq(waiting.p.word),
            port.mask.eq(~0),
            drained.eq(failed & ~waiting.valid & ~self.instructions.finished),
            self.outside.eq(drained & refused),
            self.bus_error.eq(drained & ~refused),
        ]
        m.d.sync += self.instructions.finished.eq(waiting.valid & port.ready & waiting.p.last)
        with m.If(step & beat.p.error):
            m.d.sync += [failed.eq(1), refused.eq(beat.p.outside)]

        if bits == bus_bits:
            m.d.comb += [completes.eq(1), beat.ready.eq(takes), new.word.eq(beat.p.data)]
        elif bits < bus_bits:
            part = Signal(range(bus_bits // bits))
            beat_ends = words.p.row_ends | (part == bus_bits // bits - 1)
            m.d.comb += [
                completes.eq(1), beat.ready.eq(takes & beat_ends), new.word.eq(beat.p.data.word_select(part, bits))]
            with m.If(step):
                m.d.sync += part.eq(Mux(beat_ends, 0, part + 1))
        else:
            part = Signal(range(bits // bus_bits))
            before = Signal(bits - bus_bits, reset_less=True)  # the beats of the word that have come
            m.d.comb += [
                completes.eq(part == bits // bus_bits - 1), beat.ready.eq(takes), new.word.eq(Cat(before, beat.p.data))]
            with m.If(step):
                m.d.sync += [part.eq(part + 1), before.eq(Cat(before, beat.p.data)[bus_bits:])]
        return m


class StoreEngine(wiring.Component):
    """Copies rows from the scratchpad to DRAM, a beat or a word a cycle, whichever is smaller.

    Members
    -------
    instructions : CommandSignature(TRANSFER)
    port : ScratchpadReadSignature
    requests : stream of :class:`BurstLayout`
    beats : stream of :class:`FilledBeatLayout`
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
            "beats": Out(stream.Signature(FilledBeatLayout(config))),
            "burst_finished": In(1),
            "burst_error": In(1),
            "burst_outside": In(1),
            "outside": Out(1),
            "bus_error": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, port = self._config, self.port
        words = _words_of(m, config, self)
        m.submodules.skid = skid = Skid(WordLayout(config))
        asked, beat = skid.output, self.beats
        bits, bus_bits = 8 * config.word_bytes, config.bus_bits

        # Reads go out only while the buffer has room for all that are under way, or wait for the scratchpad: for as
        # many as there are cycles from one to when its word may leave the buffer.
        m.submodules.buffer = buffer = Queue(
            data.StructLayout({"word": bits, "ends_row": 1}), READ_LATENCY + 4)
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

        word, word_ends_row = stored.p.word, stored.p.ends_row
        if bits == bus_bits:
            m.d.comb += [
                beat.valid.eq(stored.valid), stored.ready.eq(beat.ready), beat.p.data.eq(word), beat.p.filled.eq(1)]
        elif bits > bus_bits:
            part = Signal(range(bits // bus_bits))
            m.d.comb += [
                beat.valid.eq(stored.valid),
                stored.ready.eq(beat.ready & (part == bits // bus_bits - 1)),
                beat.p.data.eq(word.word_select(part, bus_bits)),
                beat.p.filled.eq(1),
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
                beat.p.filled.eq(filled),
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
