"""Reads the program from DRAM, ahead of the decoder."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..bus.bursts import BurstLayout
from ..bus.read_channel import BeatLayout
from ..config import AcceleratorConfig
from ..isa import INSTRUCTION_BYTES
from ..parts.queues import Queue
from .queued import INDEX_BITS

__all__ = ["ASK_LATENCY", "PREFETCH", "Fetch", "FetchedLayout", "program_bits"]

#: Instructions in each of the two blocks that are read ahead.
PREFETCH = 8
#: Cycles from the verdict on a block, or when the last beat of one is taken out of the buffer, to the next request.
ASK_LATENCY = 3


def program_bits(config: AcceleratorConfig) -> int:
    """Width of a program's address in beats, with a bit for "beyond all addresses"."""
    return config.address_bits - exact_log2(config.bus_bytes) + 1


class FetchedLayout(data.StructLayout):
    """An instruction as it lies in memory, its ``index``, and whether reading it failed: ``outside`` the window or with
    an ``error`` response; then ``word`` means nothing."""

    def __init__(self) -> None:
        super().__init__({"word": 8 * INSTRUCTION_BYTES, "index": INDEX_BITS, "outside": 1, "error": 1})


class Fetch(wiring.Component):
    """Reads instructions from ``program`` upwards.

    Rules
    -----
    1. At most two blocks of ``PREFETCH`` instructions are read ahead of the last accepted instruction, one
       burst for each; room for their beats is reserved beforehand. From a block that is refused, since the window ends
       in it, on, a burst is a beat.
    2. Reading ahead never fails: only an instruction that the decoder gets to is reported ``outside`` or
       ``error``, and it is the last one.
    3. ``quiet`` is high while no burst is wanted, and from then on until the bus is known to owe a beat.

    Members
    -------
    take : 1 bit
        ``program`` is that of the next one: between the reset of the last and the first cycle with ``enable``.
    program : unsigned
        Address of the first instruction in beats; one more bit says "beyond all addresses".
    enable : 1 bit
        While low, no further burst is requested; one that is already offered goes out.
    requests : stream of :class:`BurstLayout`
        One at a time: each is answered by ``passed`` or ``refused``.
    passed, refused : 1 bit
    data : stream of :class:`BeatLayout`
        Always ready.
    instructions : stream of :class:`FetchedLayout`
    address : address_bits
        Of the instruction that is offered, or will be next; a reset leaves it.
    quiet : 1 bit
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "take": In(1),
            "program": In(program_bits(config)),
            "enable": In(1),
            "requests": Out(stream.Signature(BurstLayout(config))),
            "data": In(stream.Signature(BeatLayout(config))),
            "passed": In(1),
            "refused": In(1),
            "instructions": Out(stream.Signature(FetchedLayout())),
            "address": Out(config.address_bits),
            "quiet": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        shift = exact_log2(config.bus_bytes)
        beats = PREFETCH * INSTRUCTION_BYTES // config.bus_bytes  # of a block; blocks are aligned
        block_bits = exact_log2(beats)
        beats_per_instruction = max(1, INSTRUCTION_BYTES // config.bus_bytes)
        stored = data.StructLayout({"data": config.bus_bits, "error": 1})
        m.submodules.buffer = buffer = Queue(stored, 2 * beats + 1)
        beat = buffer.output

        # Bursts. `address` counts beats, and has a bit more than the bus, so that it can pass the end.
        address = Signal(program_bits(config), reset_less=True)
        next_beat = Signal(config.address_bits - shift, reset_less=True)  # of the instruction that is offered next
        single = Signal()  # a burst is a beat
        ended = Signal()  # the next beat lies outside
        reserved = Signal(range(2 * beats + 1))  # beats that are in the buffer or will be
        room = Signal(init=1)  # for another block
        burst = self.requests
        burst_beats = Signal(range(beats + 1))
        asking = Signal()  # a burst is wanted
        popped = Signal()
        asked = Signal(2)  # until the bus owes the beats, and says so
        m.d.sync += asked.eq(Cat(asking, asked))
        m.d.comb += self.quiet.eq(~asking & ~asked.any())
        with m.If(self.take):
            m.d.sync += [address.eq(self.program), next_beat.eq(self.program)]
        with m.FSM() as states:
            with m.State("Size"):
                m.d.sync += burst_beats.eq(Mux(single, 1, beats - address[:block_bits]))
                m.next = "Wait"
            with m.State("Wait"), m.If(self.enable & ~ended & room):
                m.next = "Request"
            with m.State("Request"):
                m.d.comb += burst.valid.eq(1)
                with m.If(burst.ready):
                    m.next = "Judge"
            with m.State("Judge"):
                with m.If(self.passed):
                    m.d.sync += address.eq(Cat(address[:block_bits] | ~single.replicate(block_bits),
                                               address[block_bits:]) + 1)
                    m.next = "Size"
                with m.If(self.refused):
                    m.d.sync += [ended.eq(single), single.eq(1)]
                    m.next = "Size"
        m.d.comb += [
            asking.eq(states.ongoing("Request") | states.ongoing("Judge")),
            burst.p.address.eq(Cat(Const(0, shift), address[:-1])),
            burst.p.beyond.eq(address[-1]),
            burst.p.length.eq(burst_beats - 1),
        ]
        m.d.sync += [
            reserved.eq(reserved + Mux(self.passed, burst_beats, 0) - popped),
            room.eq(reserved <= beats),
        ]
        m.d.comb += [
            self.data.ready.eq(1),
            buffer.input.valid.eq(self.data.valid),
            buffer.input.p.data.eq(self.data.p.data),
            buffer.input.p.error.eq(self.data.p.error),
        ]

        # Instructions from beats.
        word = Signal(8 * INSTRUCTION_BYTES, reset_less=True)
        part = Signal(range(max(2, beats_per_instruction)))
        complete = Signal()
        failed = Signal()
        outside = Signal()
        output = self.instructions
        m.d.comb += [
            output.valid.eq(complete),
            output.p.word.eq(word),
            output.p.error.eq(failed),
            output.p.outside.eq(outside),
            beat.ready.eq(~complete),
            popped.eq(beat.valid & beat.ready),
        ]
        with m.If(popped):
            m.d.sync += [
                word.word_select(part, config.bus_bits).eq(beat.p.data),
                failed.eq(failed | beat.p.error),
                part.eq(Mux(part == beats_per_instruction - 1, 0, part + 1)),
                complete.eq(part == beats_per_instruction - 1),
            ]
        with m.Elif(~complete & ended & (reserved == 0)):
            m.d.sync += [complete.eq(1), outside.eq(1)]
        with m.Elif(output.ready & ~failed & ~outside):
            m.d.sync += complete.eq(0)
        accepted = Signal()  # the next instruction comes later than in the next cycle
        m.d.sync += accepted.eq(complete & output.ready)
        with m.If(accepted):
            m.d.sync += next_beat.eq(next_beat + beats_per_instruction)
        m.d.comb += [
            self.address.eq(Cat(Const(0, shift), next_beat)),
            output.p.index.eq(self.address[exact_log2(INSTRUCTION_BYTES):][:INDEX_BITS]),
        ]
        return m
