"""The issuer of the vector engine: one (row, group of columns) a cycle."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..functions import TRAITS, any_of
from ..isa import VECTOR, Function
from ..memory.interfaces import ScratchpadReadSignature
from ..parts.resets import without_reset
from ..parts.skid import Skid
from .feeder import group_words
from .row_statistics import WALK_LATENCY
from .stages import HELD, RESULT, SECOND, entry_stage

__all__ = [
    "FETCH_LATENCY",
    "GROUP_SPACING",
    "PARAMETER_SPACING",
    "START_LATENCY",
    "WRITE_BACK_SPACING",
    "Beat",
    "BeatIssuer",
    "Sight",
    "group_cycles",
    "group_spacing",
]

#: Fewest cycles from one group's row m to the next group's row m: the loop of the row statistics.
GROUP_SPACING = 5

#: The same of functions with first or second records: a lane holds the second record so long, until the last stage that
#: uses it has taken its part.
PARAMETER_SPACING = SECOND + 1 - HELD

#: The same of RESIDUAL, where a word of the accumulators has the columns of several groups: RESULT - 1 cycles after a
#: beat another one of its word would read while it writes.
WRITE_BACK_SPACING = RESULT

#: Cycles from the one in which an instruction may start to the issue of its first beat, at least.
START_LATENCY = 4

#: Cycles from the issue of a group's first beat to that of the next group's, besides those in which the next one's
#: words are asked for.
FETCH_LATENCY = 3


def group_spacing(config: AcceleratorConfig, function: Function) -> int:
    """Fewest cycles between beats of the same row in two groups: rules 1 and 2 of :class:`BeatIssuer`."""
    traits = TRAITS[function]
    if function is Function.RESIDUAL and config.cols > config.lanes:
        return WRITE_BACK_SPACING
    return PARAMETER_SPACING if traits.first or traits.second else GROUP_SPACING


def group_cycles(config: AcceleratorConfig, function: Function, m: int, planes: int = 1, fetches: int = 0) -> int:
    """Cycles from the first beat of a group of ``m`` rows to the first of the next group of its instruction, where
    nobody else uses the banks of its operands; ``planes`` and ``fetches``: beats of a row, and cycles before them in
    which the lower bytes of its operand are fetched."""
    spacing = group_spacing(config, function)
    spaced = m * (planes - 1) + spacing + (m == spacing - 1) if m < spacing else 0
    return max(m * (planes + fetches), group_words(config, function) + FETCH_LATENCY, spaced)


class Beat(data.StructLayout):
    """What the pipeline must know of one (row, group): where its result goes, and in which slice of ``lanes`` bytes of
    the word (``part``); its accumulators, and in which slice of ``lanes`` columns; its entry of the row table."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({
            "destination": range(config.scratchpad_words), "part": range(max(2, config.rows // config.lanes)),
            "accumulator": range(config.accumulator_words), "slice": range(max(2, config.cols // config.lanes)),
            "row": range(config.row_entries)})


class Sight(data.StructLayout):
    """The lanes that a causal mask leaves a beat: ``all``, ``none``, or those up to ``last``."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"last": range(config.lanes), "all": 1, "none": 1})


class BeatIssuer(wiring.Component):
    """Walks over the groups and, within a group, the rows of an instruction, and issues a beat a cycle, one for each
    plane of the result.

    Members
    -------
    following : in, stream of VECTOR
        From the :class:`~celosia.hdl.vector.feeder.ParameterFeeder`.
    armed, taken, released
        As there.
    operand : ScratchpadReadSignature
    request, half, grant
        As in :class:`~celosia.hdl.memory.halves.HalfClaimSignature`.
    instruction : out, VECTOR
        The one that is started, or waits to be.
    start : out
        It has its half from this cycle on; its first beat is issued later.
    issue : out
        ``beat`` is issued in this cycle; its operand was asked for in the cycle before.
    fetch : out
        In this cycle not: the lower bytes of the next beat's operand were asked for in the cycle before.
    plane, wide, upper, wide_operand : out
        Which bytes of the result the beat gives; whether it has 16 bits, and these are the upper ones; whether the
        operand has 16 bits.
    sight : out, Sight
    function, first_of_group, in_first_group, in_last_group, last : out
        Of the beat's instruction, and where in it the beat lies; in the first and last group of the whole row.
    written : in
        RESIDUAL writes its last word in this cycle.
    walked : in
        The sums of the last row of a RESIDUAL are read again in this cycle.
    writes_back : out, 2 bits
        RESIDUAL has started in the half, and has not yet written all of its words.
    quiet : out
        No instruction is held, and all have finished.
    conflict : out
        For the counters.

    The next beat is worked out while the operand of the one before is asked for.

    Rules
    -----
    1. Beats of the same row in two groups of an instruction are at least GROUP_SPACING cycles apart.
    2. Those of RESIDUAL that share a word of the accumulators are at least WRITE_BACK_SPACING cycles apart, and those
       of any function with records at least PARAMETER_SPACING. The records of a group may come sooner than that after
       its first beat, and its other rows may have waited for their operands.
    3. A function that reads the row table starts when all entries have been written that instructions before it make;
       one with a scalar, when all before it have finished as well; one that makes row statistics, when the entries of
       RESIDUAL have been written; any, when RESIDUAL has written its half. Others follow at once.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self._layout = data.StructLayout({
            "beat": Beat(config), "operand": range(config.scratchpad_words), "reads_operand": 1, "fetches": 1,
            "plane": 2, "wide": 1, "upper": 1, "wide_operand": 1, "sight": Sight(config),
            "function": VECTOR.layout["function"].shape, "first_of_group": 1, "in_first_group": 1,
            "in_last_group": 1, "last": 1})
        super().__init__({
            "following": In(stream.Signature(VECTOR.layout)),
            "armed": In(1),
            "taken": Out(1),
            "operand": Out(ScratchpadReadSignature(config)),
            "request": Out(1),
            "half": Out(1),
            "grant": In(1),
            "released": Out(1),
            "instruction": Out(VECTOR.layout),
            "start": Out(1),
            "issue": Out(1),
            "fetch": Out(1),
            "plane": Out(2),
            "wide": Out(1),
            "upper": Out(1),
            "wide_operand": Out(1),
            "sight": Out(Sight(config)),
            "beat": Out(Beat(config)),
            "function": Out(VECTOR.layout["function"].shape),
            "first_of_group": Out(1),
            "in_first_group": Out(1),
            "in_last_group": Out(1),
            "last": Out(1),
            "written": In(1),
            "walked": In(1),
            "writes_back": Out(2),
            "quiet": Out(1),
            "conflict": Out(1),
        })

    def elaborate(self, platform):
        config = self.config
        slices, parts = config.cols // config.lanes, config.rows // config.lanes
        m = Module()
        instruction = self.instruction
        active = Signal()
        started = Signal()  # which implies active
        reads_rows, scalar, reads_operand, statistics, is_residual = (
            Signal(name=name, reset_less=True) for name in (
                "reads_rows", "scalar", "reads_operand", "statistics", "is_residual"))

        # What has been issued needs a fixed time to be written, the results and the entries of the row table. The reads
        # of an instruction come later than its start: that of the row table as its first beat is issued, that of the
        # operand a cycle before.
        m.submodules.beats = beats = Skid(self._layout)
        finished = self._ended(m, "finished", self.issue & self.last, RESULT - 1)
        settled = self._ended(m, "settled", self.issue & self.last & self.in_last_group
                              & any_of(self.function, "statistics"), entry_stage(config) + 1 - START_LATENCY)
        walks = Signal()  # the rows of a RESIDUAL are not complete, or have not been read again
        normalised = Signal()
        walk_ended = self._ended(m, "walk_ended", self.walked, WALK_LATENCY + 1 - START_LATENCY)
        all_issued = Signal()
        m.d.comb += normalised.eq(~walks & walk_ended)
        m.d.comb += all_issued.eq(~started & ~beats.output.valid & ~self.issue)

        # The start. What RESIDUAL writes back, nobody reads before it is written.
        writing_back = Signal()
        written_half = Signal(reset_less=True)
        drained = Signal()
        waiting = Signal()
        just_started = Signal()
        with m.If(just_started & is_residual):
            m.d.sync += [writing_back.eq(1), written_half.eq(self.half)]
        with m.Elif(self.written):
            m.d.sync += writing_back.eq(0)
        with m.If(just_started & is_residual & ~instruction.unfinished):
            m.d.sync += walks.eq(1)
        with m.Elif(self.walked):
            m.d.sync += walks.eq(0)
        m.d.comb += [
            drained.eq((~(reads_rows | scalar) | (all_issued & settled & normalised))
                       & (~statistics | normalised)
                       & (~(scalar | reads_operand) | (all_issued & finished))
                       & ~(writing_back & (self.half == written_half))),
            waiting.eq(active & ~started),
            self.writes_back.eq(Cat(writing_back & (written_half == half) for half in range(2))),
            self.quiet.eq(~active & all_issued & finished & settled & normalised),
            self.half.eq(instruction.accumulator[exact_log2(config.half_words)]),
            self.start.eq(self.request & self.grant),
        ]
        m.d.sync += [
            self.request.eq(waiting & drained & ~self.start),
            just_started.eq(self.start),
        ]
        with m.If(self.start):
            m.d.sync += started.eq(1)

        # The beats that wait for their operands, if they have any.
        held = beats.output.payload
        leaves = Signal()
        m.d.comb += [
            self.operand.enable.eq(beats.output.valid & held.reads_operand),
            self.operand.address.eq(held.operand),
            beats.output.ready.eq(~held.reads_operand | self.operand.ready),
            leaves.eq(beats.output.valid & beats.output.ready),
            self.released.eq(leaves & held.first_of_group),
            self.conflict.eq(self.request | (self.operand.enable & ~self.operand.ready)),
        ]
        m.d.sync += [self.issue.eq(leaves & ~held.fetches), self.fetch.eq(leaves & held.fetches)]
        m.d.sync += [without_reset(m, getattr(self, name)).eq(held[name]) for name in (
            "beat", "plane", "wide", "upper", "wide_operand", "sight", "function", "first_of_group", "in_first_group",
            "in_last_group", "last")]

        # The next beat.
        new = beats.input.payload
        row, group = (Signal(16, name=name, reset_less=True) for name in ("row", "group"))  # left after this one
        # Of a group from the next, after its last row; it counts from the first beat's leave on, which may have waited
        # long for its operand.
        most = WRITE_BACK_SPACING if slices > 1 else PARAMETER_SPACING
        spacing = Signal(range(most))
        spaced = Signal(init=1)  # no more of it is left
        left = Signal()
        group_spacing = Signal(range(most), reset_less=True)
        # Where the beat is, and where the first rows of its group and of the next one are: the latter is known a cycle
        # after the group has begun, which is long enough.
        (accumulator, group_accumulator, next_accumulator), (destination, group_destination, next_destination), \
            (operand, group_operand, next_operand) = (
                [Signal(range(words), name=f"{prefix}{name}", reset_less=True) for prefix in ("", "group_", "next_")]
                for name, words in (("accumulator", config.accumulator_words), ("destination", config.scratchpad_words),
                                    ("operand", config.scratchpad_words)))
        index = Signal.like(new.beat.row, name="index", reset_less=True)
        slice_, part = (Signal.like(new.beat[name], name=name, reset_less=True) for name in ("slice", "part"))
        first_of_group, in_first_group, last_row, last_group, one_row = (
            Signal(name=name, reset_less=True) for name in (
                "first_of_group", "in_first_group", "last_row", "last_group", "one_row"))
        last_part, last_slice = part == parts - 1, slice_ == slices - 1
        # The planes of the result, and whether the lower bytes of the operand come before them; from the end of one row
        # to the next.
        plane, planes = (Signal(2, name=name, reset_less=True) for name in ("plane", "planes_less_one"))
        fetches, last_plane, one_plane, wide, wide_operand, causal = (Signal(name=name, reset_less=True) for name in (
            "fetches", "last_plane", "one_plane", "wide", "wide_operand", "causal"))
        destination_step, operand_step = (
            Signal.like(destination, name=name) for name in ("destination_step", "operand_step"))
        # The last column, counted from the group's first, that the row sees.
        columns = max(16, exact_log2(config.half_words * config.cols)) + 2
        limit, group_limit, next_limit = (Signal(signed(columns), name=name, reset_less=True) for name in (
            "limit", "group_limit", "next_limit"))
        lane_bits = exact_log2(config.lanes)
        m.d.sync += [
            next_accumulator.eq(group_accumulator + Mux(last_slice, instruction.accumulator_stride, 0)),
            next_destination.eq(group_destination + Mux(last_part, planes + 1, 0)),
            next_operand.eq(group_operand + Mux(last_part, wide_operand + 1, 0)),
            next_limit.eq(group_limit - config.lanes),
            destination_step.eq(instruction.destination_stride - planes),
            operand_step.eq(instruction.operand_stride - wide_operand),
        ]
        step = Signal()
        opens = Signal()  # the beat needs the parameters of its group
        m.d.comb += [
            opens.eq(first_of_group & ~fetches),
            beats.input.valid.eq(started & (~opens | (spaced & self.armed))),
            step.eq(beats.input.valid & beats.input.ready),
            self.taken.eq(step & opens),
            new.beat.accumulator.eq(accumulator), new.beat.slice.eq(slice_), new.beat.destination.eq(destination),
            new.beat.part.eq(part), new.beat.row.eq(index), new.operand.eq(operand),
            new.reads_operand.eq(reads_operand), new.fetches.eq(fetches), new.function.eq(instruction.function),
            new.plane.eq(plane), new.wide.eq(wide), new.upper.eq(wide & plane[0]), new.wide_operand.eq(wide_operand),
            new.sight.last.eq(limit[:lane_bits]), new.sight.none.eq(causal & limit[-1]),
            new.sight.all.eq(~causal | (~limit[-1] & limit[lane_bits:-1].any())),
            new.first_of_group.eq(opens), new.in_first_group.eq(in_first_group),
            new.in_last_group.eq(last_group & ~instruction.unfinished),
            new.last.eq(last_row & last_group & last_plane & ~fetches),
        ]
        with m.If(~spaced & left & (~beats.output.valid | (held.fetches & self.operand.ready))):
            m.d.sync += [spacing.eq(spacing - 1), spaced.eq(spacing == 1)]
        with m.If(self.released):
            m.d.sync += left.eq(1)
        # Whether there is a step is known late: nothing else here asks for it.
        with m.If(step):
            with m.If(fetches):
                m.d.sync += [fetches.eq(0), operand.eq(operand + 1)]
            with m.Else():
                m.d.sync += [
                    first_of_group.eq(0), plane.eq(plane + 1), last_plane.eq(wide | plane[1]),
                    destination.eq(destination + 1)]
                with m.If(first_of_group):
                    m.d.sync += [spacing.eq(group_spacing), spaced.eq(group_spacing == 0), left.eq(0)]
            with m.If(~fetches & last_plane):
                m.d.sync += [
                    plane.eq(0), last_plane.eq(one_plane), fetches.eq(wide_operand),
                    row.eq(row - 1), last_row.eq(row == 1), index.eq(index + 1),
                    accumulator.eq(accumulator + 1),
                    destination.eq(destination + destination_step),
                    operand.eq(operand + operand_step),
                    limit.eq(limit + 1),
                ]
                with m.If(last_row):
                    m.d.sync += [
                        first_of_group.eq(1), in_first_group.eq(0), row.eq(instruction.m - 1),
                        last_row.eq(one_row), index.eq(instruction.row), group.eq(group - 1),
                        last_group.eq(group == 1),
                        part.eq(Mux(last_part, 0, part + 1)), slice_.eq(Mux(last_slice, 0, slice_ + 1)),
                        group_accumulator.eq(next_accumulator), accumulator.eq(next_accumulator),
                        group_destination.eq(next_destination), destination.eq(next_destination),
                        group_operand.eq(next_operand), operand.eq(next_operand),
                        group_limit.eq(next_limit), limit.eq(next_limit),
                    ]
                    with m.If(last_group):
                        m.d.sync += [active.eq(0), started.eq(0)]

        payload = self.following.payload
        m.d.comb += self.following.ready.eq(~active)
        is_residual_next = payload.function == Function.RESIDUAL.value
        has_records = any_of(payload.function, "first") | any_of(payload.function, "second")
        wanted_spacing = Mux(
            has_records, self._less(PARAMETER_SPACING, payload.m), self._less(GROUP_SPACING, payload.m))
        if slices > 1:
            wanted_spacing = Mux(is_residual_next, self._less(WRITE_BACK_SPACING, payload.m), wanted_spacing)
        raw = payload.function == Function.RAW.value
        doubles = payload.wide_result & any_of(payload.function, "writes_scratchpad") & ~raw
        fetches_first = payload.wide_operand & any_of(payload.function, "operand")
        with m.If(~active):  # a copy that is not needed does no harm
            m.d.sync += [
                active.eq(self.following.valid), started.eq(0), instruction.eq(payload), first_of_group.eq(1),
                in_first_group.eq(~payload.continues), row.eq(payload.m - 1), group.eq(payload.groups - 1),
                last_row.eq(payload.m == 1), one_row.eq(payload.m == 1), last_group.eq(payload.groups == 1),
                group_spacing.eq(wanted_spacing),
                index.eq(payload.row), part.eq(0), slice_.eq(0),
                group_accumulator.eq(payload.accumulator), accumulator.eq(payload.accumulator),
                group_destination.eq(payload.destination), destination.eq(payload.destination),
                group_operand.eq(payload.operand), operand.eq(payload.operand),
                group_limit.eq(payload.operand.as_signed()), limit.eq(payload.operand.as_signed()),
                plane.eq(0), planes.eq(Mux(raw, 3, doubles)), one_plane.eq(~raw & ~doubles),
                last_plane.eq(~raw & ~doubles), wide.eq(doubles), fetches.eq(fetches_first),
                wide_operand.eq(fetches_first), causal.eq(payload.causal & any_of(payload.function, "mask")),
                is_residual.eq(is_residual_next),
                *(register.eq(any_of(payload.function, trait)) for register, trait in (
                    (reads_rows, "reads_rows"), (scalar, "scalar"), (reads_operand, "operand"),
                    (statistics, "statistics"))),
            ]
        return m

    @staticmethod
    def _ended(m, name: str, event: Value, cycles: int):
        """A register: low from the cycle after ``event`` on, high from the ``cycles``th cycle after it."""
        left, ended = Signal(range(cycles), name=f"{name}_in"), Signal(name=name, init=1)
        with m.If(event):
            m.d.sync += [left.eq(cycles - 1), ended.eq(0)]
        with m.Elif(~ended):
            m.d.sync += [left.eq(left - 1), ended.eq(left == 1)]
        return ended

    @staticmethod
    def _less(spacing: int, rows: Value):
        """Cycles without a beat that must follow ``rows`` beats, in a row, until one of the next group's is chosen,
        which is issued two cycles later than it might be."""
        return Mux(rows >= spacing, 0, Mux(rows == spacing - 1, 1, (spacing - 1 - rows)[:8]))
