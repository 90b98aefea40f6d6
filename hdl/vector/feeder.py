"""The parameters of the vector engine: each group's are read ahead of its first beat."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import AcceleratorConfig
from ..functions import TRAITS, any_of
from ..isa import CURVE_PIECES, VECTOR, Function
from ..memory.interfaces import READ_LATENCY, ScratchpadReadSignature
from ..parts.skid import Skid
from .curves import PIECE_WIDTHS, Chord
from .row_unit import RowEntry

__all__ = ["ParameterFeeder", "group_words"]


def group_words(config: AcceleratorConfig, function: Function) -> int:
    """Scratchpad words that ``function`` reads for a group of columns: its mask, or its records."""
    traits = TRAITS[function]
    return 1 if traits.mask else (traits.first + traits.second) * config.parameter_words


class _Request(data.StructLayout):
    """A word that the scratchpad is asked for: the ``first`` or ``last`` of its group, and whether the group has a
    second record only."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"address": range(config.scratchpad_words), "first": 1, "last": 1, "second_only": 1})


class ParameterFeeder(wiring.Component):
    """Reads the parameters of each group ahead of its first beat, across instructions; runs LOAD_ROWS and LOAD_CURVE
    itself.

    Members
    -------
    command : in, stream of VECTOR
        From the queue.
    following : out, stream of VECTOR
        The instruction whose parameters are being read, for the :class:`BeatIssuer`. Not LOAD_ROWS or LOAD_CURVE.
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
    chord_valid, chord, piece_width : out
        LOAD_CURVE writes piece ``entry_row`` of the curve.
    loaded : out
        LOAD_ROWS or LOAD_CURVE has finished.

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
            "chord_valid": Out(1),
            "chord": Out(Chord),
            "piece_width": Out(range(PIECE_WIDTHS.stop)),
            "loaded": Out(1),
        })

    def elaborate(self, platform):
        config = self.config
        words = config.parameter_words
        word_bits = 8 * config.word_bytes
        m = Module()
        instruction = Signal(VECTOR.layout, reset_less=True)
        active = Signal()
        loading = Signal()
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
        loads = payload.function.matches(Function.LOAD_ROWS.value, Function.LOAD_CURVE.value)
        accept = Signal()
        m.d.comb += [
            self.command.ready.eq(~active & ~loading & ~self.following.valid),
            self.following.payload.eq(instruction),
            accept.eq(self.command.valid & self.command.ready),
        ]
        with m.If(self.following.ready):
            m.d.sync += self.following.valid.eq(0)
        with m.If(accept):
            m.d.sync += [loading.eq(loads), active.eq(~loads), self.following.valid.eq(~loads)]

        # The requests: of the next group as soon as the first beat of this one is issued.
        table_request = Signal()
        asked = Signal()
        granted = Signal()
        m.submodules.requests = requests = Skid(_Request(config))
        request = requests.input.payload
        m.d.comb += [
            requests.input.valid.eq((active & room & some_left) | table_request),
            request.address.eq(address),
            request.first.eq(begins | table_request),
            request.last.eq(one_left & ~table_request),
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

        self._load_table(m, instruction, loading, table_request, asked, arriving[-1], records[0][:word_bits])
        return m

    def _load_table(self, m, instruction, loading, request, asked, arrived, word):
        """One ``word`` after the other, where else the first one of a group is; its records go to the row table or the
        curve one a cycle."""
        records = self.config.rows // 4
        row = Signal(range(self.config.row_entries), name="row", reset_less=True)
        left = Signal(16, name="rows_left", reset_less=True)
        index = Signal(range(max(2, records)))
        record = Signal(32)
        waiting = Signal()
        writing = Signal()
        begun = Signal()
        curve = Signal()
        m.d.comb += [
            curve.eq(instruction.function == Function.LOAD_CURVE.value),
            record.eq(word.word_select(index, 32)),
            self.entry_valid.eq(writing & ~curve),
            self.entry_row.eq(row),
            self.entry.multiplier.eq(record[:16]),
            self.entry.shift.eq(record[16:22]),
            self.chord_valid.eq(writing & curve),
            self.chord.base.eq(record[:15] + 32),
            self.chord.slope.eq(record[16:25].as_signed()),
            self.piece_width.eq(instruction.shift),
        ]
        with m.If(loading & ~begun & self.quiet):
            m.d.sync += [
                begun.eq(1), request.eq(1), row.eq(Mux(curve, 0, instruction.row)),
                left.eq(Mux(curve, CURVE_PIECES, instruction.m))]
        with m.If(request & asked):
            m.d.sync += [waiting.eq(1), request.eq(0)]
        with m.If(waiting & arrived):
            m.d.sync += [waiting.eq(0), writing.eq(1), index.eq(0)]
        m.d.sync += self.loaded.eq(0)
        with m.If(writing):
            m.d.sync += [row.eq(row + 1), left.eq(left - 1), index.eq(index + 1)]
            with m.If(left == 1):
                m.d.sync += [writing.eq(0), begun.eq(0), loading.eq(0), self.loaded.eq(1)]
            with m.Elif(index == records - 1):
                m.d.sync += [writing.eq(0), request.eq(1)]
