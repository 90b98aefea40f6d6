"""The vector engine: one (row, group of ``lanes`` columns) a cycle through every function.

Stages, counted from the issue of a beat (0):

=========  ====================================================================================
stage      what is visible
=========  ====================================================================================
3          accumulators; row entry, or scalar
4          what the first scale takes of them; second operand
7          second record
10         result of the first scale
15         operand of the second scale: as it is, or through the curve; and what passes it by
20         result of the second scale
22         the result, written to the accumulators or to the scratchpad
23 + L     sums and maxima over the lanes (L = log2 lanes)
24 + L     the one of them that counts
26 + L     row totals
35 + L     row table entry, written; of LayerNorm later, when the rows are walked over once more
=========  ====================================================================================

The pipeline never stalls: a beat is issued when everything it needs has been granted.
"""

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..functions import any_of
from ..isa import CURVE_PIECES, FIRST_PARAMETERS, SECOND_PARAMETERS, VECTOR, Function
from ..memory.accumulators import ACCUMULATOR_READ_LATENCY, AccumulatorPortSignature
from ..memory.halves import HalfClaimSignature, HalfHold
from ..memory.interfaces import READ_LATENCY, CommandSignature, ScratchpadReadSignature, ScratchpadWriteSignature
from ..parts.delay import DelayLine
from ..parts.ram import Ram, SharedTable
from ..parts.resets import without_reset
from .curves import GELU_WIDTH, PIECE_WIDTHS, Chord
from .feeder import ParameterFeeder
from .issuer import Beat, BeatIssuer
from .lane import Lane, LaneInputs, RowOperands, chosen
from .row_statistics import RowStatistics, Tree
from .row_unit import RowEntry, RowUnit, SquaresLayout
from .stages import OPERANDS, RESULT, SCALED, SECOND, Stages

__all__ = ["VectorEngine"]


class VectorEngine(wiring.Component):
    """Runs VECTOR instructions.

    Members
    -------
    control : CommandSignature(VECTOR)
        The sequencer's side is ``Out``.
    parameters, operand : ScratchpadReadSignature
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
            "operand": Out(ScratchpadReadSignature(config)),
            "results": Out(ScratchpadWriteSignature(config)),
            "accumulators": Out(AccumulatorPortSignature(config)),
            "claim": Out(HalfClaimSignature()),
            "conflict": Out(1),
        })

    def elaborate(self, platform):
        config = self.config
        m = Module()
        m.submodules.feeder = feeder = ParameterFeeder(config)
        m.submodules.issuer = issuer = BeatIssuer(config)
        m.submodules.row_table = row_table = Ram(RowEntry.as_shape().size, config.row_entries)
        stages = Stages(m, config, issuer)

        # The scalar of an instruction: those that have one start when all before them have finished.
        multiplier = Signal(16, reset_less=True)
        shift = Signal(6, reset_less=True)
        has_scalar = Signal()
        m.d.sync += has_scalar.eq(
            issuer.start & any_of(issuer.instruction.function, "scalar"))
        with m.If(has_scalar):
            m.d.sync += [multiplier.eq(issuer.instruction.multiplier), shift.eq(issuer.instruction.shift)]

        self._control(m, stages, feeder, issuer)
        row = self._row_operands(m, stages, issuer, row_table, multiplier, shift)
        lanes = self._lanes(m, platform, stages, feeder, issuer, row)
        self._write_back(m, stages, issuer, lanes)
        row_unit, normalised_row = self._statistics(m, stages, issuer, lanes, multiplier, shift)

        m.submodules.written_rows = written_rows = DelayLine(
            range(config.row_entries), stages.entry)
        m.d.comb += [
            written_rows.input.eq(issuer.beat.row),
            row_table.write_enable.eq(row_unit.written | feeder.entry_valid),
            row_table.write_address.eq(Mux(feeder.entry_valid, feeder.entry_row, Mux(
                row_unit.normalised, normalised_row, written_rows.output))),
            row_table.write_data.eq(Mux(feeder.entry_valid, feeder.entry.as_value(), row_unit.entry.as_value())),
        ]
        return m

    def _control(self, m, stages, feeder, issuer):
        """Instructions in, halves, and the end of an instruction."""
        m.submodules.hold = hold = HalfHold()
        half_bit = exact_log2(self.config.half_words)
        wiring.connect(m, wiring.flipped(self.control.command), feeder.command)
        wiring.connect(m, feeder.following, issuer.following)
        wiring.connect(m, feeder.port, wiring.flipped(self.parameters))
        wiring.connect(m, issuer.operand, wiring.flipped(self.operand))
        m.d.sync += self.conflict.eq(issuer.conflict | (self.parameters.enable & ~self.parameters.ready))
        m.d.comb += [
            # The last result is written in this cycle. Rows and accumulators nobody else sees before they are.
            self.control.finished.eq(stages.last[RESULT] | feeder.loaded),
            issuer.written.eq(stages.last[RESULT - 1] & stages.is_(RESULT - 1, Function.RESIDUAL)),
            issuer.armed.eq(feeder.armed),
            feeder.taken.eq(issuer.taken),
            feeder.released.eq(issuer.released),
            feeder.quiet.eq(issuer.quiet),
            self.claim.request.eq(issuer.request),
            self.claim.half.eq(issuer.half),
            self.claim.owned.eq(hold.owned),
            issuer.grant.eq(self.claim.grant),
            hold.start.eq(issuer.start),
            hold.start_half.eq(issuer.half),
            # Its accumulators are read with the last beat's issue, and RESIDUAL's written later.
            hold.leave.eq(issuer.issue & issuer.last),
            hold.leave_half.eq(issuer.beat.accumulator[half_bit]),
            hold.keep.eq(issuer.writes_back),
            self.accumulators.read_enable.eq(issuer.issue),
            self.accumulators.read_address.eq(issuer.beat.accumulator),
        ]

    def _row_operands(self, m, stages, issuer, row_table, multiplier, shift):
        """The entry of the row table, or the instruction's scalar, in stage OPERANDS - 1."""
        here = OPERANDS - 2  # two stages after the read of the entry
        entry = Signal(RowEntry, reset_less=True)
        m.d.comb += [row_table.read_address.eq(issuer.beat.row), row_table.read_enable.eq(issuer.issue)]
        with m.If(stages.valid[here - 1]):
            m.d.sync += entry.eq(row_table.read_data)
        row = RowOperands(
            by_row=Signal(name="by_row"), negate=Signal(name="negate"),
            addend=Signal(signed(32), name="row_addend", reset_less=True),
            multiplier=Signal(16, name="row_multiplier", reset_less=True),
            shift=Signal(6, name="row_shift", reset_less=True))
        exponential, raw = stages.is_(here, Function.EXPONENTIAL), stages.is_(here, Function.RAW)
        with m.If(stages.valid[here]):
            m.d.sync += [row.by_row.eq(stages.has(here, "row_scaled") | exponential | raw), row.negate.eq(exponential)]
            with m.If(exponential):
                m.d.sync += [row.addend.eq(entry.as_value()[:32].as_signed()), row.multiplier.eq(multiplier),
                             row.shift.eq(shift)]
            with m.Elif(raw):
                m.d.sync += [row.addend.eq(0), row.multiplier.eq(2), row.shift.eq(1)]
            with m.Else():
                m.d.sync += [
                    row.addend.eq(Mux(stages.is_(here, Function.LAYER_NORM), entry.addend, 0)),
                    row.multiplier.eq(entry.multiplier), row.shift.eq(entry.shift),
                ]
        return row

    def _operand(self, m, part):
        """The second operand's bytes of a beat, asked for a cycle before it is issued. They wait for the second scale,
        until the stage before SECOND."""
        bits = 8 * self.config.lanes
        words = [self.operand.data.word_select(index, bits) for index in range(self.config.rows // self.config.lanes)]
        operand = chosen(words, part)
        for stage in range(READ_LATENCY - 1, SECOND - 1):
            register = Signal(bits, name=f"operand_{stage + 1}", reset_less=True)
            m.d.sync += register.eq(operand)
            operand = register
        return operand

    def _curve(self, m, stages, feeder):
        """The loaded curve, and the width of the pieces of a beat's activation, in stage SCALED."""
        m.submodules.curve = curve = SharedTable(Chord.as_shape().size, CURVE_PIECES, self.config.lanes)
        loaded, width = (Signal(len(PIECE_WIDTHS), name=name, reset_less=True) for name in ("loaded_width", "width"))
        writes = Signal(name="writes_chord")
        place = Signal(range(CURVE_PIECES), name="chord_place", reset_less=True)
        chord = Signal(Chord, name="chord", reset_less=True)
        # From registers: look-up tables that are memories are read through all of their inputs, as tools see it.
        m.d.sync += [writes.eq(feeder.chord_valid), place.eq(feeder.entry_row), chord.eq(feeder.chord)]
        m.d.comb += [
            curve.write_enable.eq(writes), curve.write_address.eq(place), curve.write_data.eq(chord.as_value())]
        with m.If(feeder.chord_valid):
            m.d.sync += loaded.eq(Cat(feeder.piece_width == choice for choice in PIECE_WIDTHS))
        m.d.sync += width.eq(
            Mux(stages.is_(SCALED - 1, Function.GELU), 1 << PIECE_WIDTHS.index(GELU_WIDTH), loaded))
        return curve, width

    def _lanes(self, m, platform, stages, feeder, issuer, row):
        config = self.config

        def carried(value, cycles, name):
            for stage in range(1, cycles + 1):
                register = Signal.like(value, name=f"{name}_{stage}", reset_less=True)
                m.d.sync += register.eq(value)
                value = register
            return value

        def seen(sight, name):
            """A bit for each lane, a stage later than ``sight``."""
            bits = Signal(config.lanes, name=name, reset_less=True)
            m.d.sync += bits.eq(Cat(
                sight.all | (~sight.none & (sight.last >= lane if lane else 1)) for lane in range(config.lanes)))
            return bits

        slice_, plane = (carried(value, ACCUMULATOR_READ_LATENCY, name) for value, name in (
            (issuer.beat.slice, "slice"), (issuer.plane, "plane")))
        operand = self._operand(m, carried(issuer.beat.part, READ_LATENCY - 1, "part"))
        sight = carried(issuer.sight, OPERANDS - 1, "sight")
        early, late = seen(sight, "seen"), seen(carried(sight, SECOND - 1 - OPERANDS, "late_sight"), "late_seen")
        curve, width = self._curve(m, stages, feeder)
        narrow = Signal(reset_less=True)
        m.d.sync += narrow.eq(~(stages.is_(RESULT - 2, Function.RESIDUAL) | stages.wide[RESULT - 2]))

        def records(form, words):
            return data.View(data.ArrayLayout(form.layout, config.lanes), words[:8 * form.size * config.lanes])

        first, second = records(FIRST_PARAMETERS, feeder.first), records(SECOND_PARAMETERS, feeder.second)
        lanes = []
        for lane in range(config.lanes):
            columns = [self.accumulators.read_data[column] for column in range(lane, config.cols, config.lanes)]
            column = chosen(columns, slice_)
            lanes.append(Lane(m, platform, config, stages, lane, LaneInputs(
                column=column, byte=column.as_unsigned().word_select(plane, 8), operand=operand.word_select(lane, 8),
                first=first[lane], second=second[lane], kept=feeder.first.word_select(lane, 8).any(), row=row,
                seen=early[lane], seen_late=late[lane], width=width, narrow=narrow)))
        m.d.comb += [
            curve.read_address.eq(Cat(lane.index for lane in lanes)),
            Cat(lane.chord.as_value() for lane in lanes).eq(curve.read_data)]
        return lanes

    def _write_back(self, m, stages, issuer, lanes):
        config = self.config
        m.submodules.beats = beats = DelayLine(Beat(config), RESULT - 1)
        m.d.comb += beats.input.eq(issuer.beat)
        # From registers, so that who else writes to the scratchpad soon knows whether the bank is free.
        here, beat = RESULT - 1, beats.output
        accumulators, results = self.accumulators, self.results
        m.d.comb += [
            accumulators.write_enable.eq(stages.runs(here, Function.RESIDUAL)),
            accumulators.write_address.eq(beat.accumulator),
            accumulators.write_mask.eq(1 << beat.slice),
        ]
        m.d.sync += results.enable.eq(stages.runs_with(here, "writes_scratchpad"))
        written_to = [(without_reset(m, member), value) for member, value in (
            (results.address, beat.destination), (results.mask, 1 << beat.part))]
        with m.If(stages.valid[here]):
            m.d.sync += [register.eq(value) for register, value in written_to]
        m.d.comb += [
            results.data.eq(Cat(lane.result[:8] for lane in lanes).replicate(config.rows // config.lanes)),
            *(accumulators.write_data[column].eq(lanes[column % config.lanes].result)
              for column in range(config.cols)),
        ]

    def _statistics(self, m, stages, issuer, lanes, multiplier, shift):
        """Over the lanes, over the groups, and at the last group into the row unit."""
        config, trees, totals, after = self.config, stages.totals - 1, stages.totals, stages.totals + 2
        m.submodules.maximum_tree = maximum_tree = Tree(signed(32), config.lanes, maximum=True)
        m.submodules.sum_tree = sum_tree = Tree(signed(16), config.lanes)
        # Of squares the lower and the upper halves.
        square_trees = {part: Tree(unsigned(bits), config.lanes) for part, bits in (("low", 16), ("high", 15))}
        for part, tree in square_trees.items():
            m.submodules[f"square_{part}_tree"] = tree
        for index, lane in enumerate(lanes):
            m.d.comb += [
                maximum_tree.values[index].eq(lane.unmasked),
                sum_tree.values[index].eq(lane.result),
                square_trees["low"].values[index].eq(lane.square[:16]),
                square_trees["high"].values[index].eq(lane.square[16:31]),
            ]
        m.d.comb += [
            maximum_tree.enable.eq(stages.runs(OPERANDS, Function.ROW_MAXIMUM)),
            sum_tree.enable.eq(stages.runs_with(RESULT, "statistics")),
            *(tree.enable.eq(stages.runs(RESULT + 1, Function.RESIDUAL)) for tree in square_trees.values()),
        ]
        m.submodules.maxima = maxima = DelayLine(signed(32), RESULT + 1 - OPERANDS)
        m.submodules.rows = rows = DelayLine(range(config.row_entries), totals - 2)
        m.submodules.statistics = statistics = RowStatistics(config)
        m.submodules.row_unit = row_unit = RowUnit(config)
        is_maximum = Signal()
        complete = Signal()
        sums = Signal(sum_tree.result.shape(), reset_less=True)  # as late as those of the squares
        value = Signal(signed(32), reset_less=True)
        squares = Signal(SquaresLayout(config.lanes), reset_less=True)
        m.d.sync += [is_maximum.eq(stages.is_(trees, Function.ROW_MAXIMUM)), sums.eq(sum_tree.result)]
        with m.If(stages.runs_with(trees, "statistics")):
            m.d.sync += [
                value.eq(Mux(stages.is_(trees, Function.ROW_MAXIMUM), maxima.output, sums)),
                *(squares[part].eq(tree.result) for part, tree in square_trees.items()),
            ]
        m.d.comb += [
            maxima.input.eq(maximum_tree.result),
            rows.input.eq(issuer.beat.row),
            statistics.row.eq(rows.output),
            statistics.row_valid.eq(stages.runs_with(totals - 2, "statistics")),
            statistics.valid.eq(stages.runs_with(totals, "statistics")),
            statistics.first_group.eq(stages.first_group[trees]),
            statistics.is_maximum.eq(is_maximum),
            statistics.value.eq(value),
            statistics.squares.eq(squares),
            complete.eq(stages.valid[after] & stages.has(after, "statistics") & stages.last_group[after]),
            statistics.complete.eq(complete & stages.is_(after, Function.RESIDUAL)),
            statistics.last.eq(stages.last[after]),
            statistics.written.eq(row_unit.normalised),
            issuer.walked.eq(statistics.walked),
            row_unit.valid.eq(complete & ~stages.is_(after, Function.RESIDUAL)),
            row_unit.is_maximum.eq(stages.is_(after, Function.ROW_MAXIMUM)),
            row_unit.value.eq(statistics.total),
            row_unit.has_sums.eq(statistics.has_sums),
            row_unit.total.eq(statistics.sums),
            row_unit.squares.eq(statistics.squares_sum),
            row_unit.multiplier.eq(multiplier),
            row_unit.shift.eq(shift),
        ]
        return row_unit, statistics.entry_row
