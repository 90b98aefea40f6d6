"""The matmul engine: feeds the array with tiles and activations and adds its sums to the accumulators."""

import operator

from amaranth import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config import AcceleratorConfig
from ..isa import MATMUL
from ..memory.accumulators import ACCUMULATOR_READ_LATENCY, AccumulatorPortSignature
from ..memory.halves import HalfClaimSignature, HalfUse
from ..memory.interfaces import READ_LATENCY, CommandSignature, ScratchpadReadSignature
from ..parts.delay import DelayLine
from ..parts.resets import without_reset
from .array import array_latency, sum_bits
from .feeders import ActivationFeeder, Progress, RowTag, WeightFeeder
from .rolled_array import array_for

__all__ = ["TAG_LEAD", "AccumulateStage", "MatmulEngine", "finish_latency"]

#: Cycles from a row's tag to its sums: the accumulator word is read meanwhile.
TAG_LEAD = ACCUMULATOR_READ_LATENCY + 1


def _sums_latency(config: AcceleratorConfig) -> int:
    """Cycles from the read of a row of A to its sums."""
    return READ_LATENCY + array_latency(config)


def finish_latency(config: AcceleratorConfig) -> int:
    """Cycles from the read of an instruction's last row of A to ``finished``."""
    return _sums_latency(config) + 1


def _add_narrow(word: Value, number: Value) -> Value:
    """``word + number``, as wide as the word, of a signed number that is narrower, where adders are made of gates: the
    upper bits of the word go up or down by one while the lower ones are added, and are taken or not."""
    bits = len(number) - 1
    low = word[:bits] + number[:bits]
    high, negative = word[bits:], number[bits]
    flip = negative.replicate(len(high))
    moved = ((high ^ flip) + 1)[:len(high)] ^ flip
    return Cat(low[:bits], Mux(low[bits] ^ negative, moved, high))


class AccumulateStage(wiring.Component):
    """Adds each vector of sums to its accumulator word or to 256 times that, or overwrites it.

    Members
    -------
    valid, tag : in
        A row's tag, ``TAG_LEAD`` cycles before its sums.
    sums : in
        From the array.
    port : AccumulatorPortSignature
    finished : out
        The last row of an instruction has been written.

    A word must be read again no earlier than ``ACCUMULATE_SPACING`` cycles later. Between the same row of two tiles of
    an instruction lie at least ``m`` cycles; where that is too few, and between instructions, the
    :class:`~celosia.hdl.matmul.feeders.ActivationFeeder` waits.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "valid": In(1),
            "tag": In(RowTag),
            "sums": In(data.ArrayLayout(signed(sum_bits(config)), config.cols)),
            "port": Out(AccumulatorPortSignature(config)),
            "finished": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        valid, tag = self.valid, self.tag
        m.d.comb += [
            self.port.read_enable.eq(valid & tag.add),
            self.port.read_address.eq(tag.address),
        ]
        before = [Signal(signed(32), name=f"before_{c}", reset_less=True) for c in range(self.config.cols)]
        overwrites, scales = (Signal(name=name, reset_less=True) for name in ("overwrites", "scales"))
        for stage in range(TAG_LEAD):
            if stage == ACCUMULATOR_READ_LATENCY - 1:
                m.d.sync += [overwrites.eq(~tag.add), scales.eq(tag.scale)]
            if stage == ACCUMULATOR_READ_LATENCY:
                for c, word in enumerate(before):
                    read = self.port.read_data[c]
                    m.d.sync += word.eq(Mux(overwrites, 0, Mux(scales, read << 8, read)))
            next_valid, next_tag = Signal(name=f"valid_{stage}"), Signal(RowTag, name=f"tag_{stage}", reset_less=True)
            m.d.sync += [next_valid.eq(valid), next_tag.eq(tag)]
            valid, tag = next_valid, next_tag
        m.d.comb += [self.port.write_enable.eq(valid), self.port.write_address.eq(tag.address)]
        m.d.sync += self.finished.eq(valid & tag.last)
        total = without_reset(m, self.port.write_data)
        add = _add_narrow if self.config.fused else operator.add
        m.d.sync += [total[c].eq(add(word, self.sums[c])) for c, word in enumerate(before)]
        m.d.comb += self.port.write_mask.eq(C(-1, len(self.port.write_mask)))
        return m


class MatmulEngine(wiring.Component):
    """Everything between MATMUL instructions and the accumulators.

    Members
    -------
    control : CommandSignature(MATMUL)
        The sequencer's side is ``Out``.
    weights, activations : ScratchpadReadSignature
    accumulators : AccumulatorPortSignature
    claim : HalfClaimSignature
    progress : out, Progress
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "control": In(CommandSignature(MATMUL)),
            "weights": Out(ScratchpadReadSignature(config)),
            "activations": Out(ScratchpadReadSignature(config)),
            "accumulators": Out(AccumulatorPortSignature(config)),
            "claim": Out(HalfClaimSignature()),
            "progress": Out(Progress),
        })

    def elaborate(self, platform):
        config = self.config
        m = Module()
        m.submodules.weight_feeder = weight_feeder = WeightFeeder(config)
        m.submodules.activation_feeder = feeder = ActivationFeeder(config)
        m.submodules.array = array = array_for(platform, config)
        m.submodules.accumulate = accumulate = AccumulateStage(config)
        m.submodules.use = use = HalfUse()
        wiring.connect(m, wiring.flipped(self.control.command), weight_feeder.command)
        wiring.connect(m, weight_feeder.following, feeder.following)
        wiring.connect(m, weight_feeder.port, wiring.flipped(self.weights))
        wiring.connect(m, feeder.port, wiring.flipped(self.activations))
        wiring.connect(m, accumulate.port, wiring.flipped(self.accumulators))
        m.d.comb += [
            feeder.tile_loaded.eq(weight_feeder.tile_loaded),
            weight_feeder.swapped.eq(feeder.swapped),
            self.claim.request.eq(feeder.request),
            self.claim.half.eq(feeder.half),
            self.claim.owned.eq(use.owned),
            feeder.grant.eq(self.claim.grant),
            feeder.stall.eq(use.full),
            use.start.eq(feeder.start),
            use.start_half.eq(feeder.half),
            use.finish.eq(accumulate.finished),
            self.control.finished.eq(accumulate.finished),
            self.progress.eq(feeder.progress),
        ]

        # Rows come out of the scratchpad READ_LATENCY cycles after the read.
        swaps = Signal(READ_LATENCY)
        unsigned_rows = Signal(READ_LATENCY)
        m.d.sync += [
            swaps.eq(Cat(feeder.swapped, swaps)),
            unsigned_rows.eq(Cat(feeder.unsigned, unsigned_rows)),
        ]
        m.d.comb += [
            array.activations.as_value().eq(self.activations.data),
            array.unsigned_activations.eq(unsigned_rows[-1]),
            array.swap.eq(swaps[-1]),
            array.shift.eq(weight_feeder.shift),
            array.weights.as_value().eq(self.weights.data),
            accumulate.sums.eq(array.sums),
        ]

        # The tags take the same way, and leave it early enough for the accumulators to be read.
        latency = _sums_latency(config) - TAG_LEAD
        in_flight = Signal(latency)
        m.submodules.tags = tags = DelayLine(RowTag, latency)
        m.d.sync += in_flight.eq(Cat(feeder.row, in_flight))
        m.d.comb += [
            tags.input.eq(feeder.tag),
            accumulate.valid.eq(in_flight[-1]),
            accumulate.tag.eq(tags.output),
        ]
        return m
