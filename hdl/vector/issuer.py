"""The front of the vector engine: fetches parameters, and issues one (row, group of columns) a cycle."""

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..functions import TRAITS, any_of
from ..isa import VECTOR, Function
from ..memory.interfaces import READ_LATENCY, ScratchpadReadSignature
from ..parts.resets import without_reset
from ..parts.skid import Skid
from .row_unit import RowEntry
from .stages import HELD, RESULT, SECOND, entry_stage

__all__ = [
    "FETCH_LATENCY",
    "GROUP_SPACING",
    "PARAMETER_SPACING",
    "START_LATENCY",
    "WRITE_BACK_SPACING",
    "Beat",
    "BeatIssuer",
    "ParameterFeeder",
    "group_cycles",
    "group_spacing",
    "group_words",
]

#: Fewest cycles from one group's row m to the next group's row m: the loop of the row statistics.
GROUP_SPACING = 5

#: The same of functions with first or second records: a lane holds the second record so long, until the last stage that
#: uses it has taken its part.
PARAMETER_SPACING = SECOND + 1 - HELD

#: The same of RESIDUAL, where a word of the accumulators has the columns of several groups: RESULT cycles after a beat
#: another one of its word would read while it writes.
WRITE_BACK_SPACING = RESULT + 1

#: Cycles from the one in which an instruction may start to the issue of its first beat, at least.
START_LATENCY = 4

#: Cycles from the issue of a group's first beat to that of the next group's, besides those in which the next one's
#: words are asked for.
FETCH_LATENCY = 3


def group_words(config: AcceleratorConfig, function: Function) -> int:
    """Scratchpad words that ``function`` reads for a group of columns: its mask, or its records."""
    traits = TRAITS[function]
    return 1 if traits.mask else (traits.first + traits.second) * config.parameter_words


def group_spacing(config: AcceleratorConfig, function: Function) -> int:
    """Fewest cycles between beats of the same row in two groups: rules 1 and 2 of :class:`BeatIssuer`."""
    traits = TRAITS[function]
    if traits.residual and config.cols > config.lanes:
        return WRITE_BACK_SPACING
    return PARAMETER_SPACING if traits.first or traits.second else GROUP_SPACING


def group_cycles(config: AcceleratorConfig, function: Function, m: int) -> int:
    """Cycles from the first beat of a group of ``m`` rows to the first of the next group of its instruction, where
    nobody else uses the banks of its operands."""
    spacing = group_spacing(config, function)
    return max(m, group_words(config, function) + FETCH_LATENCY, spacing + (m == spacing - 1) if m < spacing else 0)


class Beat(data.StructLayout):
    """What the pipeline must know of one (row, group): where its result goes, and in which slice of ``lanes`` bytes of
    the word (``part``); its accumulators, and in which slice of ``lanes`` columns; its entry of the row table."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({
            "destination": range(config.scratchpad_words), "part": range(max(2, config.rows // config.lanes)),
            "accumulator": range(config.accumulator_words), "slice": range(max(2, config.cols // config.lanes)),
            "row": range(config.row_entries)})


class _Request(data.StructLayout):
    """A word that the scratchpad is asked for: the ``first`` or ``last`` of its group, and whether the group has a
    second record only."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"address": range(config.scratchpad_words), "first": 1, "last": 1, "second_only": 1})


class ParameterFeeder(wiring.Component):
    """Reads the parameters of each group ahead of its first beat, across instructions; runs LOAD_ROWS itself.

    Members
    -------
    command : in, stream of VECTOR
        From the queue.
    following : out, stream of VECTOR
        The instruction whose parameters are being read, for the :class:`BeatIssuer`. Not LOAD_ROWS.
    port : ScratchpadReadSignature
    first, second : out, ``parameter_words`` words each
        The records of a group; the mask is in the first word of ``first``.
    armed : out
        No beat has been issued with the records that are there, or will be READ_LATENCY cycles after this went high.
    taken : in
        The first beat of the group is chosen in this cycle, to be issued in the second cycle after it or later.
    released : in
        It is issued in the next cycle.
    quiet : in
        All vector instructions before have finished.
    entry_valid, entry_row, entry : out
        LOAD_ROWS writes an entry of the row table.
    rows_loaded : out
        LOAD_ROWS has finished.

    Rules
    -----
    1. A group's records are there from READ_LATENCY - 2 cycles after the issue of its first beat on. Of those of the
       next group, the first word comes READ_LATENCY + 2 cycles after it at the soonest, and the others one by one.
       So a group takes ``words`` + 3 cycles, where no other reader has the bank, and no rule of the
       :class:`BeatIssuer` more.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        record = 8 * config.word_bytes * config.parameter_words
        super().__init__({
            "command": In(stream.Signature(VECTOR.layout)),
            "following": Out(stream.Signature(VECTOR.layout)),
            "port": Out(ScratchpadReadSignature(config)),
            "first": Out(record),
            "second": Out(record),
            "armed": Out(1),
            "taken": In(1),
            "released": In(1),
            "quiet": In(1),
            "entry_valid": Out(1),
            "entry_row": Out(range(config.row_entries)),
            "entry": Out(RowEntry),
            "rows_loaded": Out(1),
        })

    def elaborate(self, platform):
        config = self.config
        words = config.parameter_words
        word_bits = 8 * config.word_bytes
        m = Module()
        instruction = Signal(VECTOR.layout, reset_less=True)
        active = Signal()
        loading_rows = Signal()
        address = Signal(range(config.scratchpad_words), reset_less=True)
        groups = Signal(16, reset_less=True)
        room = Signal(init=1)  # the words of the next group may be asked for
        wanted, left = (  # words of a group; of this one, those not yet asked for
            Signal(range(2 * words + 1), name=name, reset_less=True) for name in ("wanted", "left"))
        some_left, one_left, none_wanted, begins, second_only = (Signal(name=name, reset_less=True) for name in (
            "some_left", "one_left", "none_wanted", "begins", "second_only"))
        records = [Signal.like(record, name=f"{name}_record", reset_less=True)
                   for name, record in (("first", self.first), ("second", self.second))]
        m.d.comb += [self.first.eq(records[0]), self.second.eq(records[1])]

        payload = self.command.payload
        rows = payload.function == Function.LOAD_ROWS.value
        accept = Signal()
        m.d.comb += [
            self.command.ready.eq(~active & ~loading_rows & ~self.following.valid),
            self.following.payload.eq(instruction),
            accept.eq(self.command.valid & self.command.ready),
        ]
        with m.If(self.following.ready):
            m.d.sync += self.following.valid.eq(0)
        with m.If(accept):
            m.d.sync += [loading_rows.eq(rows), active.eq(~rows), self.following.valid.eq(~rows)]

        # The requests: of the next group as soon as the first beat of this one is issued.
        row_request = Signal()
        asked = Signal()
        granted = Signal()
        m.submodules.requests = requests = Skid(_Request(config))
        request = requests.input.payload
        m.d.comb += [
            requests.input.valid.eq((active & room & some_left) | row_request),
            request.address.eq(address),
            request.first.eq(begins),
            request.last.eq(one_left & ~row_request),
            request.second_only.eq(second_only),
            asked.eq(requests.input.valid & requests.input.ready),
            requests.output.ready.eq(self.port.ready),
            self.port.enable.eq(requests.output.valid),
            self.port.address.eq(requests.output.payload.address),
            granted.eq(self.port.enable & self.port.ready),
        ]
        with m.If(asked):
            m.d.sync += [
                address.eq(address + 1), left.eq(left - 1), some_left.eq(~one_left), one_left.eq(left == 2),
                begins.eq(0)]
        arms = Signal()
        m.d.comb += arms.eq((granted & requests.output.payload.last) | (active & room & none_wanted))
        with m.If(self.released):
            m.d.sync += room.eq(1)
        with m.If(self.taken):
            m.d.sync += self.armed.eq(0)
        with m.If(arms):
            m.d.sync += [
                self.armed.eq(1), room.eq(0), groups.eq(groups - 1),
                left.eq(wanted), some_left.eq(~none_wanted), one_left.eq(wanted == 1), begins.eq(1)]
            with m.If(groups == 1):
                m.d.sync += active.eq(0)
        with m.If(self.command.ready):  # a copy that is not needed does no harm
            first, second, mask = (any_of(payload.function, trait) for trait in ("first", "second", "mask"))
            now = Mux(mask, 1, Mux(first, words, 0) + Mux(second, words, 0))
            m.d.sync += [
                instruction.eq(payload), address.eq(payload.parameters), groups.eq(payload.groups),
                wanted.eq(now), left.eq(now), none_wanted.eq(now == 0), some_left.eq(now != 0), one_left.eq(now == 1),
                begins.eq(1), second_only.eq(second & ~first)]

        # The words of a group, straight from the port into their place.
        arriving = Signal(READ_LATENCY)
        marks = Signal(2 * (READ_LATENCY - 1), reset_less=True)
        m.d.sync += [
            arriving.eq(Cat(granted, arriving)),
            marks.eq(Cat(requests.output.payload.first, requests.output.payload.second_only, marks))]
        place, stores, following_place = (  # a bit for each word of the records
            Signal(2 * words, name=name) for name in ("place", "stores", "following_place"))
        m.d.comb += place.eq(Mux(marks[-2], Mux(marks[-1], 1 << words, 1), following_place))
        m.d.sync += stores.eq(Mux(arriving[-2], place, 0))  # the word that arrives next goes there
        with m.If(arriving[-2]):
            m.d.sync += following_place.eq(place << 1)
        for index in range(2 * words):
            with m.If(stores[index]):
                m.d.sync += records[index // words].word_select(index % words, word_bits).eq(self.port.data)

        self._load_rows(m, instruction, loading_rows, row_request, asked, arriving[-1])
        return m

    def _load_rows(self, m, instruction, loading_rows, request, asked, arrived):
        """One word after the other; its records go to the row table one a cycle."""
        records = self.config.rows // 4
        row = Signal(range(self.config.row_entries), name="row", reset_less=True)
        left = Signal(16, name="rows_left", reset_less=True)
        word = Signal(8 * self.config.word_bytes, reset_less=True)
        index = Signal(range(max(2, records)))
        waiting = Signal()
        writing = Signal()
        begun = Signal()
        m.d.comb += [
            self.entry_valid.eq(writing),
            self.entry_row.eq(row),
            self.entry.multiplier.eq(word[:16]),
            self.entry.shift.eq(word[16:22]),
        ]
        with m.If(loading_rows & ~begun & self.quiet):
            m.d.sync += [begun.eq(1), request.eq(1), row.eq(instruction.row), left.eq(instruction.m)]
        with m.If(request & asked):
            m.d.sync += [waiting.eq(1), request.eq(0)]
        with m.If(waiting & arrived):
            m.d.sync += [waiting.eq(0), writing.eq(1), word.eq(self.port.data), index.eq(0)]
        m.d.sync += self.rows_loaded.eq(0)
        with m.If(writing):
            m.d.sync += [row.eq(row + 1), left.eq(left - 1), word.eq(word >> 32), index.eq(index + 1)]
            with m.If(left == 1):
                m.d.sync += [writing.eq(0), begun.eq(0), loading_rows.eq(0), self.rows_loaded.eq(1)]
            with m.Elif(index == records - 1):
                m.d.sync += [writing.eq(0), request.eq(1)]


class BeatIssuer(wiring.Component):
    """Walks over the groups and, within a group, the rows of an instruction, and issues a beat a cycle.

    Members
    -------
    following : in, stream of VECTOR
        From the :class:`ParameterFeeder`.
    armed, taken, released
        As there.
    residual : ScratchpadReadSignature
    request, half, grant
        As in :class:`~celosia.hdl.memory.halves.HalfClaimSignature`.
    instruction : out, VECTOR
        The one that is started, or waits to be.
    start : out
        It has its half from this cycle on; its first beat is issued later.
    issue : out
        ``beat`` is issued in this cycle; its residual operand was asked for in the cycle before.
    function, first_of_group, in_first_group, in_last_group, last : out
        Of the beat's instruction, and where in it the beat lies; in the first and last group of the whole row.
    written : in
        RESIDUAL writes its last word in this cycle.
    writes_back : out, 2 bits
        RESIDUAL has started in the half, and has not yet written all of its words.
    quiet : out
        No instruction is held, and all have finished.
    conflict : out
        For the counters.

    The next beat is worked out while the residual operand of the one before is asked for.

    Rules
    -----
    1. Beats of the same row in two groups of an instruction are at least GROUP_SPACING cycles apart.
    2. Those of RESIDUAL that share a word of the accumulators are at least WRITE_BACK_SPACING cycles apart, and those
       of any function with records at least PARAMETER_SPACING. The records of a group may come sooner than that after
       its first beat, and its other rows may have waited for their residual operands.
    3. A function that reads the row table starts when all entries have been written that instructions before it make;
       one with a scalar, when all before it have finished as well; any, when RESIDUAL has written its half. Others
       follow at once.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self._layout = data.StructLayout({
            "beat": Beat(config), "residual": range(config.scratchpad_words), "reads_residual": 1,
            "function": VECTOR.layout["function"].shape, "first_of_group": 1, "in_first_group": 1,
            "in_last_group": 1, "last": 1})
        super().__init__({
            "following": In(stream.Signature(VECTOR.layout)),
            "armed": In(1),
            "taken": Out(1),
            "residual": Out(ScratchpadReadSignature(config)),
            "request": Out(1),
            "half": Out(1),
            "grant": In(1),
            "released": Out(1),
            "instruction": Out(VECTOR.layout),
            "start": Out(1),
            "issue": Out(1),
            "beat": Out(Beat(config)),
            "function": Out(VECTOR.layout["function"].shape),
            "first_of_group": Out(1),
            "in_first_group": Out(1),
            "in_last_group": Out(1),
            "last": Out(1),
            "written": In(1),
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
        reads_rows, scalar, reads_residual = (
            Signal(name=name, reset_less=True) for name in ("reads_rows", "scalar", "reads_residual"))

        # What has been issued needs a fixed time to be written, the results and the entries of the row table. The reads
        # of an instruction come later than its start: that of the row table as its first beat is issued, that of the
        # residual operand a cycle before.
        m.submodules.beats = beats = Skid(self._layout)
        finished = self._ended(m, "finished", self.issue & self.last, RESULT - 1)
        settled = self._ended(m, "settled", self.issue & self.last & self.in_last_group
                              & any_of(self.function, "statistics"), entry_stage(config) + 1 - START_LATENCY)
        all_issued = Signal()
        m.d.comb += all_issued.eq(~started & ~beats.output.valid & ~self.issue)

        # The start. What RESIDUAL writes back, nobody reads before it is written.
        writing_back = Signal()
        written_half = Signal(reset_less=True)
        drained = Signal()
        waiting = Signal()
        just_started = Signal()
        with m.If(just_started & reads_residual):
            m.d.sync += [writing_back.eq(1), written_half.eq(self.half)]
        with m.Elif(self.written):
            m.d.sync += writing_back.eq(0)
        m.d.comb += [
            drained.eq((~(reads_rows | scalar) | (all_issued & settled)) & (~scalar | finished)
                       & ~(writing_back & (self.half == written_half))),
            waiting.eq(active & ~started),
            self.writes_back.eq(Cat(writing_back & (written_half == half) for half in range(2))),
            self.quiet.eq(~active & all_issued & finished & settled),
            self.half.eq(instruction.accumulator[exact_log2(config.half_words)]),
            self.start.eq(self.request & self.grant),
        ]
        m.d.sync += [
            self.request.eq(waiting & drained & ~self.start),
            just_started.eq(self.start),
        ]
        with m.If(self.start):
            m.d.sync += started.eq(1)

        # The beats that wait for their residual operands, if they have any.
        held = beats.output.payload
        m.d.comb += [
            self.residual.enable.eq(beats.output.valid & held.reads_residual),
            self.residual.address.eq(held.residual),
            beats.output.ready.eq(~held.reads_residual | self.residual.ready),
            self.released.eq(beats.output.valid & beats.output.ready & held.first_of_group),
            self.conflict.eq(self.request | (self.residual.enable & ~self.residual.ready)),
        ]
        m.d.sync += self.issue.eq(beats.output.valid & beats.output.ready)
        m.d.sync += [without_reset(m, getattr(self, name)).eq(held[name]) for name in (
            "beat", "function", "first_of_group", "in_first_group", "in_last_group", "last")]

        # The next beat.
        new = beats.input.payload
        row, group = (Signal(16, name=name, reset_less=True) for name in ("row", "group"))  # left after this one
        # Of a group from the next, after its last row.
        most = WRITE_BACK_SPACING if slices > 1 else PARAMETER_SPACING
        spacing = Signal(range(most))
        spaced = Signal(init=1)  # no more of it is left
        group_spacing = Signal(range(most), reset_less=True)
        # Where the beat is, and where the first rows of its group and of the next one are: the latter is known a cycle
        # after the group has begun, which is long enough.
        accumulator, destination, residual, group_accumulator, group_destination, group_residual, next_accumulator, \
            next_destination, next_residual, index = (Signal(16, name=name, reset_less=True) for name in (
                "accumulator", "destination", "residual", "group_accumulator", "group_destination", "group_residual",
                "next_accumulator", "next_destination", "next_residual", "index"))
        slice_, part = (Signal.like(new.beat[name], name=name, reset_less=True) for name in ("slice", "part"))
        first_of_group, in_first_group, last_row, last_group, one_row = (
            Signal(name=name, reset_less=True) for name in (
                "first_of_group", "in_first_group", "last_row", "last_group", "one_row"))
        last_part, last_slice = part == parts - 1, slice_ == slices - 1
        m.d.sync += [
            next_accumulator.eq(group_accumulator + Mux(last_slice, instruction.accumulator_stride, 0)),
            next_destination.eq(group_destination + last_part),
            next_residual.eq(group_residual + last_part),
        ]
        step = Signal()
        m.d.comb += [
            beats.input.valid.eq(started & (~first_of_group | (spaced & self.armed))),
            step.eq(beats.input.valid & beats.input.ready),
            self.taken.eq(step & first_of_group),
            new.beat.accumulator.eq(accumulator), new.beat.slice.eq(slice_), new.beat.destination.eq(destination),
            new.beat.part.eq(part), new.beat.row.eq(index), new.residual.eq(residual),
            new.reads_residual.eq(reads_residual), new.function.eq(instruction.function),
            new.first_of_group.eq(first_of_group), new.in_first_group.eq(in_first_group),
            new.in_last_group.eq(last_group & ~instruction.unfinished), new.last.eq(last_row & last_group),
        ]
        with m.If(~spaced & ~beats.output.valid):
            m.d.sync += [spacing.eq(spacing - 1), spaced.eq(spacing == 1)]
        with m.If(step):
            m.d.sync += [
                first_of_group.eq(0), row.eq(row - 1), last_row.eq(row == 1), index.eq(index + 1),
                accumulator.eq(accumulator + 1),
                destination.eq(destination + instruction.destination_stride),
                residual.eq(residual + instruction.residual_stride),
            ]
            with m.If(first_of_group):
                m.d.sync += [spacing.eq(group_spacing), spaced.eq(group_spacing == 0)]
            with m.If(last_row):
                m.d.sync += [
                    first_of_group.eq(1), in_first_group.eq(0), row.eq(instruction.m - 1),
                    last_row.eq(one_row), index.eq(instruction.row), group.eq(group - 1),
                    last_group.eq(group == 1),
                    part.eq(Mux(last_part, 0, part + 1)), slice_.eq(Mux(last_slice, 0, slice_ + 1)),
                    group_accumulator.eq(next_accumulator), accumulator.eq(next_accumulator),
                    group_destination.eq(next_destination), destination.eq(next_destination),
                    group_residual.eq(next_residual), residual.eq(next_residual),
                ]
                with m.If(last_group):
                    m.d.sync += [active.eq(0), started.eq(0)]

        payload = self.following.payload
        m.d.comb += self.following.ready.eq(~active)
        has_records = any_of(payload.function, "first") | any_of(payload.function, "second")
        wanted_spacing = Mux(
            has_records, self._less(PARAMETER_SPACING, payload.m), self._less(GROUP_SPACING, payload.m))
        if slices > 1:
            wanted_spacing = Mux(any_of(payload.function, "residual"), self._less(WRITE_BACK_SPACING, payload.m),
                                 wanted_spacing)
        with m.If(~active):  # a copy that is not needed does no harm
            m.d.sync += [
                active.eq(self.following.valid), started.eq(0), instruction.eq(payload), first_of_group.eq(1),
                in_first_group.eq(~payload.continues), row.eq(payload.m - 1), group.eq(payload.groups - 1),
                last_row.eq(payload.m == 1), one_row.eq(payload.m == 1), last_group.eq(payload.groups == 1),
                group_spacing.eq(wanted_spacing),
                index.eq(payload.row), part.eq(0), slice_.eq(0),
                group_accumulator.eq(payload.accumulator), accumulator.eq(payload.accumulator),
                group_destination.eq(payload.destination), destination.eq(payload.destination),
                group_residual.eq(payload.residual), residual.eq(payload.residual),
                *(register.eq(any_of(payload.function, trait)) for register, trait in (
                    (reads_rows, "reads_rows"), (scalar, "scalar"), (reads_residual, "residual"))),
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
