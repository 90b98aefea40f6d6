"""The front of the vector engine: fetches parameters, and issues one (row, group of columns) a cycle."""

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..functions import any_of
from ..isa import VECTOR, Function
from ..memory.interfaces import READ_LATENCY, ScratchpadReadSignature
from ..parts.resets import without_reset
from ..parts.skid import Skid
from .row_unit import RowEntry
from .stages import RESULT

__all__ = ["GROUP_SPACING", "WRITE_BACK_SPACING", "Beat", "BeatIssuer", "ParameterFeeder"]

#: Fewest cycles from one group's row m to the next group's row m: the loop of the row statistics.
GROUP_SPACING = 5

#: The same of RESIDUAL, where a word of the accumulators has the columns of several groups: RESULT + 1 cycles after a
#: beat another one of its word would read while it writes.
WRITE_BACK_SPACING = RESULT + 2


class Beat(data.Struct):
    """What the pipeline must know of one (row, group)."""

    destination: 16
    part: 4  # which slice of `lanes` bytes of the destination word
    accumulator: 16
    slice: 4  # which slice of `lanes` columns of the accumulator word
    row: 16  # row table entry


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
        The records are there, and no beat has been issued with them.
    taken : in
        The first beat of the group is issued in this cycle.
    released : in
        The pipeline has copied the records: they may be overwritten.
    quiet : in
        No vector instruction is under way.
    entry_valid, entry_row, entry : out
        LOAD_ROWS writes an entry of the row table.
    rows_loaded : out
        LOAD_ROWS has finished.
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
            "entry_row": Out(16),
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
        free = Signal(init=1)
        address, groups = (Signal(16, name=name, reset_less=True) for name in ("address", "groups"))
        wanted, left, missing = (  # words of a group; of this one, those not yet asked for, and not yet received
            Signal(range(2 * words + 1), name=name, reset_less=True) for name in ("wanted", "left", "missing"))
        one_left, none_missing = (Signal(name=name, reset_less=True) for name in ("one_left", "none_missing"))
        start, place = (  # a bit for each word of the records: where the first goes, and the next
            Signal(2 * words, name=name, reset_less=True) for name in ("start", "place"))
        begins = Signal()  # with the first group of an instruction
        granted = Signal()
        records = [Signal.like(record, name=f"{name}_record", reset_less=True)
                   for name, record in (("first", self.first), ("second", self.second))]
        m.d.comb += [self.first.eq(records[0]), self.second.eq(records[1])]

        payload = self.command.payload
        rows = payload.function == Function.LOAD_ROWS.value
        m.d.comb += [
            self.command.ready.eq(~active & ~loading_rows & ~self.following.valid),
            self.following.payload.eq(instruction),
        ]
        with m.If(self.following.ready):
            m.d.sync += self.following.valid.eq(0)
        accept = Signal()
        m.d.comb += accept.eq(self.command.valid & self.command.ready)
        with m.If(accept):
            m.d.sync += [loading_rows.eq(rows), active.eq(~rows), self.following.valid.eq(~rows)]
        with m.If(self.command.ready):  # a copy that is not needed does no harm
            m.d.sync += [instruction.eq(payload), address.eq(payload.parameters), groups.eq(payload.groups)]

            first, second, mask = (any_of(payload.function, trait) for trait in ("first", "second", "mask"))
            m.d.sync += [
                wanted.eq(Mux(mask, 1, Mux(first, words, 0) + Mux(second, words, 0))),
                start.eq(Mux(second & ~first, 1 << words, 1)),
            ]

        # The words of a group, straight from the port into their place.
        arriving = Signal(READ_LATENCY)
        m.d.sync += arriving.eq(Cat(self.port.enable & self.port.ready, arriving))
        asking = Signal()
        row_request = Signal()
        m.submodules.requests = requests = Skid(address.shape())
        m.d.comb += [
            requests.input.valid.eq(asking | row_request),
            requests.input.payload.eq(address),
            granted.eq(requests.input.valid & requests.input.ready),
            requests.output.ready.eq(self.port.ready),
            self.port.enable.eq(requests.output.valid),
            self.port.address.eq(requests.output.payload),
        ]
        arms = Signal()
        m.d.comb += arms.eq(active & free & none_missing & ~begins)
        m.d.sync += [
            begins.eq(accept),
            asking.eq(active & free & ~begins & Mux(granted, ~one_left, left.any())),
        ]
        with m.If(granted):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1), one_left.eq(left == 2)]
        stores = Signal(2 * words)  # the word that arrives goes there
        with m.If(active & arriving[-2]):
            m.d.sync += [stores.eq(place), place.eq(place << 1)]
        with m.Else():
            m.d.sync += stores.eq(0)
        with m.If(active & arriving[-1]):
            m.d.sync += [missing.eq(missing - 1), none_missing.eq(missing == 1)]
        for index in range(2 * words):
            with m.If(stores[index]):
                m.d.sync += records[index // words].word_select(index % words, word_bits).eq(self.port.data)
        with m.If(begins | arms):
            m.d.sync += [
                left.eq(wanted), one_left.eq(wanted == 1), missing.eq(wanted), none_missing.eq(wanted == 0),
                place.eq(start),
            ]
        with m.If(self.released):
            m.d.sync += free.eq(1)
        with m.If(self.taken):
            m.d.sync += self.armed.eq(0)
        with m.If(arms):
            m.d.sync += [self.armed.eq(1), free.eq(0), groups.eq(groups - 1)]
            with m.If(groups == 1):
                m.d.sync += active.eq(0)

        self._load_rows(m, instruction, loading_rows, row_request, granted, arriving[-1])
        return m

    def _load_rows(self, m, instruction, loading_rows, request, granted, arrived):
        """One word after the other; its records go to the row table one a cycle."""
        records = self.config.rows // 4
        row, left = (Signal(16, name=name, reset_less=True) for name in ("row", "left"))
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
        with m.If(request & granted):
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
    armed, taken
        As there.
    residual : ScratchpadReadSignature
    request, half, grant
        As in :class:`~celosia.hdl.memory.halves.HalfClaimSignature`.
    stall : in
        Too many instructions are under way: start none.
    quiet : in
        No vector instruction is under way.
    instruction : out, VECTOR
        The one that is started, or waits to be.
    start : out
        It has its half from this cycle on; its first beat is issued later.
    issue : out
        ``beat`` is issued in this cycle; its residual operand was asked for in the cycle before.
    function, first_of_group, in_first_group, in_last_group, last : out
        Of the beat's instruction, and where in it the beat lies; in the first and last group of the whole row.
    busy : out
        An instruction is held, started or not.
    conflict : out
        For the counters.

    The next beat is worked out while the residual operand of the one before is asked for.

    Rules
    -----
    1. Beats of the same row in two groups of an instruction are at least GROUP_SPACING cycles apart.
    2. Those of RESIDUAL that share a word of the accumulators are at least WRITE_BACK_SPACING cycles apart. The
       parameters of a group come later than that after its first beat, but its other rows may have waited for their
       residual operands.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self._layout = data.StructLayout({
            "beat": Beat, "residual": range(config.scratchpad_words), "reads_residual": 1,
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
            "stall": In(1),
            "quiet": In(1),
            "instruction": Out(VECTOR.layout),
            "start": Out(1),
            "issue": Out(1),
            "beat": Out(Beat),
            "function": Out(VECTOR.layout["function"].shape),
            "first_of_group": Out(1),
            "in_first_group": Out(1),
            "in_last_group": Out(1),
            "last": Out(1),
            "busy": Out(1),
            "conflict": Out(1),
        })

    def elaborate(self, platform):
        config = self.config
        slices, parts = config.cols // config.lanes, config.rows // config.lanes
        m = Module()
        instruction = self.instruction
        active = Signal()
        started = Signal()  # which implies active
        drains = Signal()
        reads_residual = Signal()

        # The start. What RESIDUAL writes back, nobody reads before it is written.
        writing_back = Signal()
        drained = Signal()
        waiting = Signal()
        just_started = Signal()
        with m.If(just_started & reads_residual):
            m.d.sync += writing_back.eq(1)
        with m.Elif(self.quiet):
            m.d.sync += writing_back.eq(0)
        m.d.comb += [
            drained.eq(self.quiet | ~(drains | writing_back)),
            waiting.eq(active & ~started),
            self.busy.eq(active),
            self.half.eq(instruction.accumulator[exact_log2(config.half_words)]),
            self.start.eq(self.request & self.grant),
        ]
        m.d.sync += [
            self.request.eq(waiting & drained & ~self.stall & ~self.start),
            just_started.eq(self.start),
        ]
        with m.If(self.start):
            m.d.sync += started.eq(1)

        # The beats that wait for their residual operands, if they have any.
        m.submodules.beats = beats = Skid(self._layout)
        held = beats.output.payload
        m.d.comb += [
            self.residual.enable.eq(beats.output.valid & held.reads_residual),
            self.residual.address.eq(held.residual),
            beats.output.ready.eq(~held.reads_residual | self.residual.ready),
            self.conflict.eq(self.request | (self.residual.enable & ~self.residual.ready)),
        ]
        m.d.sync += self.issue.eq(beats.output.valid & beats.output.ready)
        m.d.sync += [without_reset(m, getattr(self, name)).eq(held[name]) for name in (
            "beat", "function", "first_of_group", "in_first_group", "in_last_group", "last")]

        # The next beat.
        row, group = (Signal(16, name=name, reset_less=True) for name in ("row", "group"))  # left after this one
        # Of a group from the next, after its last row.
        most = WRITE_BACK_SPACING if slices > 1 else GROUP_SPACING
        spacing = Signal(range(most))
        spaced = Signal(init=1)  # no more of it is left
        group_spacing = Signal(range(most), reset_less=True)
        # Where the beat is, and where the first rows of its group and of the next one are: the latter is known a cycle
        # after the group has begun, which is long enough.
        accumulator, destination, residual, group_accumulator, group_destination, group_residual, next_accumulator, \
            next_destination, next_residual, index = (Signal(16, name=name, reset_less=True) for name in (
                "accumulator", "destination", "residual", "group_accumulator", "group_destination", "group_residual",
                "next_accumulator", "next_destination", "next_residual", "index"))
        slice_, part = (Signal(4, name=name, reset_less=True) for name in ("slice", "part"))
        first_of_group, in_first_group, last_row, last_group, one_row = (
            Signal(name=name, reset_less=True) for name in (
                "first_of_group", "in_first_group", "last_row", "last_group", "one_row"))
        last_part, last_slice = part == parts - 1, slice_ == slices - 1
        m.d.sync += [
            next_accumulator.eq(group_accumulator + Mux(last_slice, instruction.accumulator_stride, 0)),
            next_destination.eq(group_destination + last_part),
            next_residual.eq(group_residual + last_part),
        ]
        new = beats.input.payload
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
        wanted_spacing = self._less(GROUP_SPACING, payload.m)
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
                drains.eq(any_of(payload.function, "drains")),
                reads_residual.eq(any_of(payload.function, "residual")),
            ]
        return m

    @staticmethod
    def _less(spacing: int, rows: Value):
        """What is left of ``spacing`` when ``rows`` have been issued."""
        return Mux(rows < spacing, spacing - rows, 0)
