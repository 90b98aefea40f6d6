"""Reads the program from DRAM, ahead of the decoder."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..bus.bursts import ADDRESS_BITS, BurstLayout, WindowSignature
from ..bus.read_channel import BeatLayout
from ..config import AcceleratorConfig
from ..isa import INSTRUCTION_BYTES
from ..parts.queues import Queue
from ..parts.skid import Skid

__all__ = ["PREFETCH", "Fetch", "FetchedLayout"]

#: Instructions in each of the two blocks that are read ahead.
PREFETCH = 16


class FetchedLayout(data.StructLayout):
    """An instruction as it lies in memory, its ``address``, and whether reading it failed: ``outside`` the
    window or with an ``error`` response; then ``word`` means nothing."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({
            "word": 8 * INSTRUCTION_BYTES, "address": config.address_bits, "outside": 1, "error": 1})


class Fetch(wiring.Component):
    """Reads instructions from ``program`` upwards, from the end of reset on.

    Rules
    -----
    1. At most two blocks of ``PREFETCH`` instructions are read ahead of the last accepted instruction, one
       burst for each, clipped at the end of the window; room for their beats is reserved beforehand.
    2. Reading ahead never fails: only an instruction that the decoder gets to is reported ``outside`` or
       ``error``, and it is the last one.
    3. ``quiet`` is high while no beat is owed.

    Members
    -------
    enable : 1 bit
        While low, no further burst is requested; one that is already offered goes out.
    program : 48 bits
        Address of the first instruction; the low bits, below the bus width, are ignored. Stable while
        enabled.
    window : WindowSignature
    requests : stream of :class:`BurstLayout`
    data : stream of :class:`BeatLayout`
        Always ready.
    instructions : stream of :class:`FetchedLayout`
    quiet : 1 bit
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "enable": In(1),
            "program": In(ADDRESS_BITS),
            "window": In(WindowSignature()),
            "requests": Out(stream.Signature(BurstLayout(config))),
            "data": In(stream.Signature(BeatLayout(config))),
            "instructions": Out(stream.Signature(FetchedLayout(config))),
            "quiet": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        shift = exact_log2(config.bus_bytes)
        beats = PREFETCH * INSTRUCTION_BYTES // config.bus_bytes  # of a block; blocks are aligned
        block_bits = exact_log2(beats)
        beats_per_instruction = max(1, INSTRUCTION_BYTES // config.bus_bytes)
        m.submodules.buffer = buffer = Queue(BeatLayout(config), 2 * beats + 1)
        # A block RAM's output is late: a register takes it, before it becomes part of an instruction.
        beat = stream.Signature(BeatLayout(config)).create()
        item = Signal(BeatLayout(config), reset_less=True)
        item_valid = Signal()
        m.d.comb += [beat.payload.eq(item), beat.valid.eq(item_valid), buffer.output.ready.eq(~item_valid | beat.ready)]
        with m.If(buffer.output.ready):
            m.d.sync += [item.eq(buffer.output.payload), item_valid.eq(buffer.output.valid)]

        # Bursts. `address` counts beats, and has a bit more than the bus, so that it can pass the end.
        address = Signal(config.address_bits - shift + 1)
        limit = self.window.limit[shift:]
        above_base = Signal()
        next_beat = Signal(config.address_bits - shift)  # of the instruction that is offered next
        # The comparison with the limit's block is made in two halves.
        middle = (config.address_bits - shift + block_bits) // 2
        upper_above, upper_equal, lower_above, lower_equal = (Signal(name=name, reset_less=True) for name in (
            "upper_above", "upper_equal", "lower_above", "lower_equal"))
        in_last_block = Signal()
        m.d.comb += in_last_block.eq(upper_equal & lower_equal)
        ended = Signal()  # the next block lies outside
        end = Mux(in_last_block, Cat(limit[:block_bits], 0), beats)  # of the block, in beats
        reserved = Signal(range(2 * beats + 1))  # beats that are in the buffer or will be
        owed = Signal(range(2 * beats + 1))
        room = Signal(init=1)  # for another block
        m.submodules.bursts = bursts = Skid(BurstLayout(config))
        wiring.connect(m, wiring.flipped(self.requests), bursts.output)
        burst = bursts.input
        burst_beats = Signal(range(beats + 1))
        requested = Signal()
        popped = Signal()
        m.d.comb += self.quiet.eq((owed == 0) & ~burst.valid & ~requested)
        m.d.sync += requested.eq(burst.valid & burst.ready)
        with m.FSM():
            with m.State("Start"), m.If(self.enable):
                m.d.sync += [address.eq(self.program[shift:]), next_beat.eq(self.program[shift:])]
                with m.If(self.program[config.address_bits:].any()):
                    m.d.sync += address[-1].eq(1)
                m.next = "Compare"
            with m.State("Compare"):
                m.d.sync += [
                    above_base.eq(Cat(Const(0, shift), address) >= self.window.base),
                    upper_above.eq((address[middle:] > limit[middle:]) | address[-1]),
                    upper_equal.eq(address[middle:] == limit[middle:]),
                    lower_above.eq(address[block_bits:middle] > limit[block_bits:middle]),
                    lower_equal.eq(address[block_bits:middle] == limit[block_bits:middle]),
                ]
                m.next = "Size"
            with m.State("Size"):
                m.d.sync += [
                    burst_beats.eq(end - address[:block_bits]),
                    ended.eq(upper_above | (upper_equal & lower_above) | ~above_base | (end <= address[:block_bits])),
                ]
                m.next = "Wait"
            with m.State("Wait"), m.If(self.enable & ~ended & room):
                m.next = "Request"
            with m.State("Request"):
                m.d.comb += burst.valid.eq(1)
                with m.If(burst.ready):
                    m.d.sync += address[block_bits:].eq(address[block_bits:] + 1)
                    m.d.sync += address[:block_bits].eq(0)
                    m.next = "Compare"
        m.d.comb += [
            burst.p.address.eq(Cat(Const(0, shift), address[:-1])),
            burst.p.length.eq(burst_beats - 1),
        ]
        arrived = self.data.valid & self.data.ready
        m.d.sync += [
            reserved.eq(reserved + Mux(requested, burst_beats, 0) - popped),
            owed.eq(owed + Mux(requested, burst_beats, 0) - arrived),
            room.eq(reserved <= beats),
        ]
        m.d.comb += [
            self.data.ready.eq(1),
            buffer.input.valid.eq(self.data.valid),
            buffer.input.p.eq(self.data.p),
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
        m.d.comb += output.p.address.eq(Cat(Const(0, shift), next_beat))
        return m
