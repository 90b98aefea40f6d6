"""The vector engine: one (row, group of ``lanes`` columns) a cycle through every function.

Stages, counted from the issue of a beat (0):

=========  ====================================================================================
stage      what is visible
=========  ====================================================================================
3          accumulators, residual operand, row entry, first parameters
9          result of the first scale
13         GELU, softmax numerator
14         operand of the second scale
19         result of the second scale
20         the result, written to scratchpad or accumulators
21 + L     sums and maxima over the lanes (L = log2 lanes)
22 + L     row totals
37 + L     row table entry, written
=========  ====================================================================================

The pipeline never stalls: a beat is issued when everything it needs has been granted.
"""

from amaranth import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .accumulators import AccumulatorPortSignature
from .config import AcceleratorConfig
from .curves import CURVE_LATENCY, Exponential, Gelu
from .delay import DelayLine
from .functions import any_of
from .halves import HalfClaimSignature, HalfUse
from .interfaces import CommandSignature, ScratchpadReadSignature, ScratchpadWriteSignature
from .isa import FIRST_PARAMETERS, SECOND_PARAMETERS, VECTOR, Function
from .row_statistics import RowStatistics, Tree, tree_latency
from .row_unit import ROW_UNIT_LATENCY, RowEntry, RowKind, RowUnit, squares_bits
from .scale import FIRST_SCALE_LATENCY, SECOND_SCALE_LATENCY, FirstScale, SecondScale, saturated
from .vector_control import Beat, BeatIssuer, ParameterFeeder

__all__ = ["VectorEngine"]

OPERANDS = 3
SCALED = OPERANDS + FIRST_SCALE_LATENCY
CURVED = SCALED + CURVE_LATENCY
SECOND = CURVED + 1
RESCALED = SECOND + SECOND_SCALE_LATENCY
RESULT = RESCALED + 1

_CODE_BITS = 4


def _chosen(values, index):
    """``values[index]``; the number of values is a power of two."""
    return Array(values)[index[:exact_log2(len(values))]] if len(values) > 1 else values[0]


class VectorEngine(wiring.Component):
    """Runs VECTOR instructions.

    Members
    -------
    control : CommandSignature(VECTOR)
        The sequencer's side is ``Out``.
    parameters, residual : ScratchpadReadSignature
    results : ScratchpadWriteSignature
        Must always be ready.
    accumulators : AccumulatorPortSignature
    claim : HalfClaimSignature
    conflict : out
        For the counters.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "control": In(CommandSignature(VECTOR)),
            "parameters": Out(ScratchpadReadSignature(config)),
            "residual": Out(ScratchpadReadSignature(config)),
            "results": Out(ScratchpadWriteSignature(config)),
            "accumulators": Out(AccumulatorPortSignature(config)),
            "claim": Out(HalfClaimSignature()),
            "conflict": Out(1),
        })

    def elaborate(self, platform):
        config = self.config
        totals = RESULT + 1 + tree_latency(config)  # stage in which a beat's sums over the lanes are visible
        entry_stage = totals + 1 + ROW_UNIT_LATENCY
        m = Module()
        m.submodules.feeder = feeder = ParameterFeeder(config)
        m.submodules.issuer = issuer = BeatIssuer(config)
        m.submodules.use = use = HalfUse()
        wiring.connect(m, wiring.flipped(self.control.command), feeder.command)
        wiring.connect(m, feeder.following, issuer.following)
        wiring.connect(m, feeder.port, wiring.flipped(self.parameters))
        wiring.connect(m, issuer.residual, wiring.flipped(self.residual))

        def travel(value, stages, name):
            """A one-bit ``value`` of stage 0 in the stages 0 to ``stages``."""
            register = Signal(stages, name=name)
            m.d.sync += register.eq(Cat(value, register))
            return [value, *(register[i] for i in range(stages))]

        valid = travel(issuer.issue, entry_stage, "valid")
        new_group = travel(issuer.issue & issuer.first_of_group, RESULT, "new_group")
        last = travel(issuer.issue & issuer.last, entry_stage, "last")
        first_group = travel(issuer.in_first_group, totals, "first_group")
        last_group = travel(issuer.in_last_group, totals + 1, "last_group")
        function = [issuer.instruction.function[:_CODE_BITS]]
        for stage in range(1, totals + 2):
            code = Signal(_CODE_BITS, name=f"function_{stage}", reset_less=True)
            m.d.sync += code.eq(function[-1])
            function.append(code)

        def is_(stage, *functions):
            return function[stage].matches(*(f.value for f in functions))

        def has(stage, trait):
            return any_of(function[stage], trait)

        finished = Signal()
        m.d.sync += finished.eq(last[entry_stage])
        m.d.comb += [
            issuer.armed.eq(feeder.armed),
            feeder.taken.eq(issuer.taken),
            feeder.released.eq(new_group[RESCALED]),
            feeder.quiet.eq(use.idle & ~issuer.busy),
            issuer.quiet.eq(use.idle),
            issuer.stall.eq(use.full),
            self.claim.request.eq(issuer.request),
            self.claim.half.eq(issuer.half),
            self.claim.owned.eq(use.owned),
            issuer.grant.eq(self.claim.grant),
            use.start.eq(issuer.start),
            use.start_half.eq(issuer.half),
            use.finish.eq(finished),
            self.control.finished.eq(finished | feeder.rows_loaded),
            self.conflict.eq(issuer.conflict | (self.parameters.enable & ~self.parameters.ready)),
        ]

        # The scalar of an instruction: the functions that have one drain the pipeline first.
        multiplier, shift = Signal(16, reset_less=True), Signal(6, reset_less=True)
        with m.If(issuer.start & is_(0, Function.EXPONENTIAL, Function.RESIDUAL)):
            m.d.sync += [multiplier.eq(issuer.instruction.multiplier), shift.eq(issuer.instruction.shift)]

        m.d.comb += [
            self.accumulators.read_enable.eq(issuer.issue),
            self.accumulators.read_address.eq(issuer.beat.accumulator),
        ]
        # The row table.
        m.submodules.row_table = row_table = Memory(shape=RowEntry, depth=config.row_entries, init=[])
        row_read, row_write = row_table.read_port(), row_table.write_port()
        row_index = Signal(16, reset_less=True)
        with m.If(issuer.issue):
            m.d.sync += row_index.eq(issuer.beat.row)
        m.d.comb += [row_read.addr.eq(row_index), row_read.en.eq(valid[1])]
        row_addend, row_multiplier = Signal(signed(32), reset_less=True), Signal(16, reset_less=True)
        row_shift, by_row, negate = Signal(6, reset_less=True), Signal(), Signal()
        with m.If(valid[2]):
            m.d.sync += [by_row.eq(has(2, "row_scaled") | is_(2, Function.EXPONENTIAL)),
                         negate.eq(is_(2, Function.EXPONENTIAL))]
            with m.If(is_(2, Function.EXPONENTIAL)):
                m.d.sync += [row_addend.eq(row_read.data.as_value()[:32].as_signed()),
                             row_multiplier.eq(multiplier), row_shift.eq(shift)]
            with m.Else():
                m.d.sync += [
                    row_addend.eq(Mux(is_(2, Function.LAYER_NORM), -row_read.data.mean, 0)),
                    row_multiplier.eq(row_read.data.multiplier), row_shift.eq(row_read.data.shift),
                ]
        slices = [issuer.beat.slice]
        for stage in (1, 2):
            slice_ = Signal(4, name=f"slice_{stage}", reset_less=True)
            m.d.sync += slice_.eq(slices[-1])
            slices.append(slice_)

        # The residual operand waits for the second scale.
        lane_bits = 8 * config.lanes
        parts = [issuer.beat.part]
        for stage in range(1, OPERANDS + 1):
            part = Signal(4, name=f"part_{stage}", reset_less=True)
            m.d.sync += part.eq(parts[-1])
            parts.append(part)
        words = [self.residual.data.word_select(index, lane_bits) for index in range(config.rows // config.lanes)]
        residual = _chosen(words, parts[OPERANDS])
        for stage in range(OPERANDS, CURVED):
            register = Signal(lane_bits, name=f"residual_{stage + 1}", reset_less=True)
            with m.If(valid[stage] & is_(stage, Function.RESIDUAL)):
                m.d.sync += register.eq(residual)
            residual = register

        # The lanes.
        first = data.View(data.ArrayLayout(FIRST_PARAMETERS.layout, config.lanes),
                          feeder.first[:64 * config.lanes])
        second = data.View(data.ArrayLayout(SECOND_PARAMETERS.layout, config.lanes),
                           feeder.second[:64 * config.lanes])
        m.submodules.maximum_tree = maximum_tree = Tree(signed(32), config.lanes, maximum=True)
        m.submodules.sum_tree = sum_tree = Tree(signed(17), config.lanes)
        m.submodules.square_tree = square_tree = Tree(signed(32), config.lanes)
        results = []
        for lane in range(config.lanes):
            def copied(stage, value, condition, lane=lane):
                """A parameter of this lane, for the beats from ``stage`` on."""
                name, value = value
                register = Signal(value.shape() if hasattr(value, "shape") else 1,
                                  name=f"{name}_{lane}", reset_less=True)
                with m.If(new_group[stage - 1] & condition):
                    m.d.sync += register.eq(value)
                return register

            first_there = has(OPERANDS - 1, "first")
            bias = copied(OPERANDS, ("bias", first[lane].bias), first_there)
            multiplier1 = copied(OPERANDS, ("multiplier1", first[lane].multiplier), first_there)
            shift1 = copied(OPERANDS, ("shift1", first[lane].shift[:6]), first_there)
            kept = feeder.first[8 * lane: 8 * lane + 8].any()
            keep1 = copied(OPERANDS, ("keep1", kept), has(OPERANDS - 1, "mask"))
            keep2 = copied(CURVED - 1, ("keep2", kept), has(CURVED - 2, "mask"))

            def rescales(stage):
                return has(stage - 1, "second_scale")

            less_one = second[lane].shift[:5] - 1
            multiplier2 = copied(SECOND, ("multiplier2", second[lane].multiplier), rescales(SECOND))
            offset2 = copied(SECOND + 1, ("offset2", second[lane].offset), rescales(SECOND + 1))
            coarse2 = copied(SECOND + 2, ("coarse2", less_one[3:5]), rescales(SECOND + 2))
            fine2 = copied(SECOND + 3, ("fine2", less_one[:3]), rescales(SECOND + 3))
            zero_point = copied(
                RESCALED, ("zero_point", Mux(has(RESCALED - 1, "second_scale"), second[lane].zero_point,
                                             first[lane].zero_point)),
                has(RESCALED - 1, "second_scale") | has(RESCALED - 1, "first"))

            accumulator = Signal(signed(32), name=f"accumulator_{lane}", reset_less=True)
            columns = [self.accumulators.read_data[index * config.lanes + lane]
                       for index in range(config.cols // config.lanes)]
            with m.If(valid[OPERANDS - 1]):
                m.d.sync += accumulator.eq(_chosen(columns, slices[2]))

            unmasked = Signal(signed(32), name=f"unmasked_{lane}", reset_less=True)
            with m.If(valid[OPERANDS] & is_(OPERANDS, Function.ROW_MAXIMUM)):
                m.d.sync += unmasked.eq(Mux(keep1, accumulator, -2**31))
            m.d.comb += maximum_tree.values[lane].eq(unmasked)

            scale1 = m.submodules[f"first_scale_{lane}"] = FirstScale()
            m.d.comb += [
                scale1.enable.eq(Cat(valid[OPERANDS:SCALED])),
                scale1.accumulator.eq(accumulator),
                scale1.addend.eq(Mux(by_row, row_addend, bias)),
                scale1.negate.eq(negate),
                scale1.multiplier.eq(Mux(by_row, row_multiplier, multiplier1)),
                scale1.shift.eq(Mux(by_row, row_shift, shift1)),
            ]

            gelu = m.submodules[f"gelu_{lane}"] = Gelu()
            exponential = m.submodules[f"exponential_{lane}"] = Exponential()
            plain = scale1.result
            for stage in range(SCALED, CURVED):
                m.d.comb += [
                    gelu.enable[stage - SCALED].eq(valid[stage] & is_(stage, Function.GELU)),
                    exponential.enable[stage - SCALED].eq(valid[stage] & is_(stage, Function.EXPONENTIAL)),
                ]
                register = Signal(signed(18), name=f"plain_{stage + 1}_{lane}", reset_less=True)
                with m.If(valid[stage]):
                    m.d.sync += register.eq(plain)
                plain = register
            m.d.comb += [gelu.value.eq(scale1.result), exponential.value.eq(scale1.result), exponential.keep.eq(keep2)]

            operand = Signal(signed(18), name=f"operand_{lane}", reset_less=True)
            bypass = Signal(signed(18), name=f"bypass_{SECOND}_{lane}", reset_less=True)
            with m.If(valid[CURVED]):
                m.d.sync += bypass.eq(Mux(is_(CURVED, Function.EXPONENTIAL), exponential.result, plain))
                with m.If(is_(CURVED, Function.RESIDUAL)):
                    m.d.sync += operand.eq(residual.word_select(lane, 8).as_signed())
                with m.Else():
                    m.d.sync += operand.eq(Mux(is_(CURVED, Function.GELU), gelu.result, plain))

            scale2 = m.submodules[f"second_scale_{lane}"] = SecondScale()
            m.d.comb += [
                scale2.x.eq(operand),
                scale2.multiplier.eq(multiplier2),
                scale2.offset.eq(offset2),
                scale2.coarse.eq(coarse2),
                scale2.fine.eq(fine2),
            ]
            for stage in range(SECOND, RESCALED):
                m.d.comb += scale2.enable[stage - SECOND].eq(valid[stage] & has(stage, "second_scale"))
                register = Signal(signed(18), name=f"bypass_{stage + 1}_{lane}", reset_less=True)
                with m.If(valid[stage]):
                    m.d.sync += register.eq(bypass)
                bypass = register

            # The result: int16 of RESIDUAL, uint8 of EXPONENTIAL, else int8.
            total = Signal(signed(19), name=f"total_{lane}")
            addend = Signal(signed(18), name=f"addend_{lane}")
            with m.If(is_(RESCALED, Function.RESIDUAL)):
                m.d.comb += addend.eq(bypass)
            with m.Elif(~is_(RESCALED, Function.EXPONENTIAL, Function.ROW_REQUANTISE)):
                m.d.comb += addend.eq(zero_point)
            m.d.comb += total.eq(Mux(has(RESCALED, "second_scale"), scale2.result, bypass) + addend)
            result = Signal(signed(16), name=f"result_{lane}", reset_less=True)
            with m.If(valid[RESCALED]):
                with m.If(is_(RESCALED, Function.RESIDUAL)):
                    m.d.sync += result.eq(saturated(total, 16))
                with m.Elif(is_(RESCALED, Function.EXPONENTIAL)):
                    m.d.sync += result.eq(total)
                with m.Else():
                    m.d.sync += result.eq(saturated(total, 8))
            results.append(result)

            value = Signal(signed(17), name=f"value_{lane}", reset_less=True)
            square = Signal(signed(32), name=f"square_{lane}", reset_less=True)
            with m.If(valid[RESULT] & has(RESULT, "statistics")):
                m.d.sync += [value.eq(result), square.eq(result * result)]
            m.d.comb += [sum_tree.values[lane].eq(value), square_tree.values[lane].eq(square)]

        # Write back.
        m.submodules.beats = beats = DelayLine(Beat, RESULT)
        m.d.comb += [
            beats.input.eq(issuer.beat),
            self.results.enable.eq(valid[RESULT] & has(RESULT, "writes_scratchpad")),
            self.results.address.eq(beats.output.destination),
            self.results.data.eq(Cat(result[:8] for result in results).replicate(config.rows // config.lanes)),
            self.results.mask.eq(1 << beats.output.part),
            self.accumulators.write_enable.eq(valid[RESULT] & is_(RESULT, Function.RESIDUAL)),
            self.accumulators.write_address.eq(beats.output.accumulator),
            self.accumulators.write_mask.eq(1 << beats.output.slice),
        ]
        for column in range(config.cols):
            m.d.comb += self.accumulators.write_data[column].eq(results[column % config.lanes])

        # Row statistics.
        for level in range(tree_latency(config)):
            here = valid[RESULT + 1 + level]
            m.d.comb += [
                sum_tree.enable[level].eq(here & has(RESULT + 1 + level, "statistics")),
                square_tree.enable[level].eq(here & is_(RESULT + 1 + level, Function.RESIDUAL)),
                maximum_tree.enable[level].eq(
                    valid[OPERANDS + 1 + level] & is_(OPERANDS + 1 + level, Function.ROW_MAXIMUM)),
            ]
        m.submodules.maxima = maxima = DelayLine(signed(32), RESULT - OPERANDS)
        m.submodules.rows = rows = DelayLine(16, totals - 2)
        m.submodules.written_rows = written_rows = DelayLine(16, entry_stage)
        m.submodules.statistics = statistics = RowStatistics(config)
        m.submodules.row_unit = row_unit = RowUnit(config)
        is_maximum = is_(totals, Function.ROW_MAXIMUM)
        m.d.comb += [
            maxima.input.eq(maximum_tree.result),
            rows.input.eq(issuer.beat.row),
            written_rows.input.eq(issuer.beat.row),
            statistics.row.eq(rows.output),
            statistics.row_valid.eq(valid[totals - 2] & has(totals - 2, "statistics")),
            statistics.valid.eq(valid[totals] & has(totals, "statistics")),
            statistics.first_group.eq(first_group[totals]),
            statistics.is_maximum.eq(is_maximum),
            statistics.value.eq(Mux(is_maximum, maxima.output, sum_tree.result)),
            statistics.square.eq(square_tree.result.as_unsigned()[:squares_bits(config)]),
            row_unit.valid.eq(valid[totals + 1] & last_group[totals + 1] & has(totals + 1, "statistics")),
            row_unit.kind.eq(Mux(is_(totals + 1, Function.ROW_MAXIMUM), RowKind.MAXIMUM,
                                 Mux(is_(totals + 1, Function.RESIDUAL), RowKind.NORMALISE, RowKind.RECIPROCAL))),
            row_unit.first.eq(statistics.total),
            row_unit.squares.eq(statistics.total_squares),
            row_unit.multiplier.eq(multiplier),
            row_unit.shift.eq(shift),
            row_write.en.eq(row_unit.written | feeder.entry_valid),
            row_write.addr.eq(Mux(feeder.entry_valid, feeder.entry_row, written_rows.output)),
            row_write.data.eq(Mux(feeder.entry_valid, feeder.entry, row_unit.entry)),
        ]
        return m
