"""The front of the matmul engine: reads B tiles one ahead, and streams the A rows of each tile."""

from amaranth import C, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from ..config import AcceleratorConfig
from ..isa import MATMUL
from ..memory.interfaces import READ_LATENCY, ScratchpadReadSignature
from ..parts.skid import Skid

__all__ = [
    "ACCUMULATE_SPACING", "CLOSE_WORDS", "ActivationFeeder", "Progress", "RowRequest", "RowTag", "WeightFeeder",
    "tile_cycles",
]

#: Fewest cycles between two reads of an accumulator word: the second finds what the first has added.
ACCUMULATE_SPACING = 5
#: An instruction that adds to one of so many last words of the one before waits until that is settled.
CLOSE_WORDS = 1 << ceil_log2(ACCUMULATE_SPACING)


def tile_cycles(config: AcceleratorConfig, m: int, adds: bool) -> int:
    """Cycles from the first row of a tile to that of the next one of the instruction, where nobody else uses the
    rows' banks; ``adds``: the next one's ``m`` sums are added to this one's."""
    spacing = ACCUMULATE_SPACING + (m == ACCUMULATE_SPACING - 1) if adds and m < ACCUMULATE_SPACING else 0
    return max(m, config.cols, spacing)


class RowTag(data.Struct):
    """What travels beside a row of A through the array to the accumulators."""

    address: 16
    add: 1
    scale: 1  # add to 256 times the word
    last: 1


class RowRequest(data.StructLayout):
    """A row of A that the scratchpad is asked for: the ``first`` of its tile, ``unsigned``, and its ``tag``."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"address": range(config.scratchpad_words), "first": 1, "unsigned": 1, "tag": RowTag})


class WeightFeeder(wiring.Component):
    """Reads the B tiles of one instruction after the other, one tile ahead of the activations.

    Members
    -------
    command : in, stream of MATMUL
        From the queue.
    following : out, stream of MATMUL
        The instruction whose tiles are being read, for the :class:`ActivationFeeder`.
    port : ScratchpadReadSignature
        Always ready.
    tile_loaded : out
        But for two words, a tile has been read: in the cycle after the next one it may be swapped in.
    swapped : in
        The tile is swapped in with the vector that is read in this cycle.
    shift : out, ``cols`` bits
        Which columns of the array shift, beside ``port.data``.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "command": In(stream.Signature(MATMUL.layout)),
            "following": Out(stream.Signature(MATMUL.layout)),
            "port": Out(ScratchpadReadSignature(config)),
            "tile_loaded": Out(1),
            "swapped": In(1),
            "shift": Out(config.cols),
        })

    def elaborate(self, platform):
        cols = self.config.cols
        m = Module()
        active = Signal()
        setup = Signal()
        reading = Signal()  # active, and neither setup nor complete
        instruction = Signal(MATMUL.layout, reset_less=True)
        row_start = Signal(16, reset_less=True)  # of the first column, as the two below
        tile_start = Signal(16, reset_less=True)
        address = Signal(16, reset_less=True)
        column = Signal(range(cols), init=cols - 1)
        k = Signal(16, reset_less=True)  # tiles left after this one, as n
        n = Signal(16, reset_less=True)
        last_column = Signal()  # none is left after this one, as the next two
        last_k = Signal()
        last_n = Signal()
        one_k = Signal()  # there is only one
        complete = Signal()  # a whole tile waits to be swapped in

        payload = self.command.payload
        m.d.comb += [
            self.command.ready.eq(~active & ~self.following.valid),
            self.following.payload.eq(instruction),
        ]
        with m.If(self.following.ready):
            m.d.sync += self.following.valid.eq(0)
        next_row_start = Signal(16)
        m.d.comb += next_row_start.eq(row_start + (instruction.b_stride << exact_log2(cols)))
        # Rule 1 of the array: the first column is the last one, or is column 0.
        latches = self.config.weight_latches
        before = payload.b_stride << exact_log2(cols) if latches else payload.b_stride
        next_column = address + instruction.b_stride if latches else address - instruction.b_stride
        with m.If(self.command.valid & self.command.ready):
            m.d.sync += [active.eq(1), setup.eq(1), self.following.valid.eq(1)]
        with m.If(self.command.ready):  # a copy that is not needed does no harm
            m.d.sync += [
                instruction.eq(payload),
                row_start.eq(payload.b - before),
                k.eq(payload.k_tiles - 1),
                n.eq(payload.n_tiles - 1),
                last_k.eq(payload.k_tiles == 1),
                one_k.eq(payload.k_tiles == 1),
                last_n.eq(payload.n_tiles == 1),
            ]
        with m.If(setup):
            m.d.sync += [
                setup.eq(0), reading.eq(~complete), row_start.eq(next_row_start), tile_start.eq(next_row_start),
                address.eq(next_row_start),
            ]

        # Rule 2 of the array holds because a tile is begun only after the swap of the tile before has been seen
        # here, and both come to the array as fast; rule 3, because `swapped` is no earlier than the last word.
        m.d.comb += [
            self.port.enable.eq(reading),
            self.port.address.eq(address),
            self.tile_loaded.eq(reading & (column == 2)),
        ]
        with m.If(reading):
            m.d.sync += [
                column.eq(column - 1), last_column.eq(column == 1), address.eq(next_column)]
            with m.If(last_column):
                m.d.sync += [complete.eq(~self.swapped), reading.eq(self.swapped), k.eq(k - 1), last_k.eq(k == 1),
                             tile_start.eq(tile_start + 1), address.eq(tile_start + 1)]
                with m.If(last_k):
                    m.d.sync += [
                        k.eq(instruction.k_tiles - 1), last_k.eq(one_k), n.eq(n - 1), last_n.eq(n == 1),
                        row_start.eq(next_row_start), tile_start.eq(next_row_start), address.eq(next_row_start),
                    ]
                    with m.If(last_n):
                        m.d.sync += [active.eq(0), reading.eq(0)]
        with m.Elif(self.swapped):
            m.d.sync += [complete.eq(0), reading.eq(active)]

        # Rule 1 of the array: step i shifts the columns 0 to i, or is taken by column i.
        valid = Signal(READ_LATENCY)
        m.d.sync += valid.eq(Cat(self.port.enable, valid))
        columns = Signal(cols, init=1)
        with m.If(valid[-1]):
            m.d.comb += self.shift.eq(columns)
            m.d.sync += columns.eq(Mux(columns[-1], 1, Cat(C(not latches, 1), columns)))
        return m


class Progress(data.Struct):
    """What the matmul engine does in a cycle: a row enters the array (``row``), was refused by its scratchpad ``bank``,
    or is not asked for, since the vector engine has the accumulator ``half`` or the next B ``tile`` is not there.
    ``busy``: an instruction is being carried out."""

    row: 1
    bank: 1
    half: 1
    tile: 1
    busy: 1


class ActivationFeeder(wiring.Component):
    """Streams the A rows of each tile, once the tile is ready, and names the accumulator of each row.

    Members
    -------
    following : in, stream of MATMUL
        From the :class:`WeightFeeder`.
    port : ScratchpadReadSignature
    tile_loaded : in
        See :class:`WeightFeeder`.
    swapped : out
        The first row of a tile is read in this cycle.
    request, half, grant
        As in :class:`HalfClaimSignature`.
    start : out
        An instruction has its half from this cycle on.
    stall : in
        Too many instructions are under way: start none.
    row : out
        A row is read in this cycle; ``tag`` goes with it.
    unsigned : out
        The row is uint8.
    progress : out, Progress

    The next row is worked out while the scratchpad is asked for the one before.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "following": In(stream.Signature(MATMUL.layout)),
            "port": Out(ScratchpadReadSignature(config)),
            "tile_loaded": In(1),
            "swapped": Out(1),
            "request": Out(1),
            "half": Out(1),
            "grant": In(1),
            "start": Out(1),
            "stall": In(1),
            "row": Out(1),
            "tag": Out(RowTag),
            "unsigned": Out(1),
            "progress": Out(Progress),
        })

    def elaborate(self, platform):
        m = Module()
        active = Signal()
        started = Signal()  # which implies active
        instruction = Signal(MATMUL.layout, reset_less=True)
        payload = self.following.payload

        # The half: claimed with the instruction, or as soon as it can be had after that.
        half_bit = exact_log2(self.config.half_words)
        waiting = Signal()
        accept = Signal()
        claimed = Signal()
        m.d.comb += [
            waiting.eq(active & ~started),
            self.half.eq(Mux(active, instruction.accumulator[half_bit], payload.accumulator[half_bit])),
            self.request.eq(waiting | accept),
            claimed.eq(self.grant & ~self.stall),
            self.following.ready.eq(~active),
            accept.eq(self.following.valid & ~active),
            self.start.eq(self.request & claimed),
        ]
        with m.If(waiting & claimed):
            m.d.sync += started.eq(1)

        # The rows that the scratchpad is asked for.
        m.submodules.requests = requests = Skid(RowRequest(self.config))
        ask = requests.output.payload
        m.d.comb += [
            self.port.enable.eq(requests.output.valid),
            self.port.address.eq(ask.address),
            self.row.eq(self.port.enable & self.port.ready),
            requests.output.ready.eq(self.port.ready),
            self.swapped.eq(self.row & ask.first),
            self.tag.eq(ask.tag),
            self.unsigned.eq(ask.unsigned),
        ]

        # The next row.
        address, tile_start, accumulator, column_start = (Signal(16, name=name, reset_less=True) for name in (
            "address", "tile_start", "accumulator", "column_start"))
        row, k, n = (Signal(16, name=name, reset_less=True) for name in ("row", "k", "n"))  # left after this one
        first_row, last_row, last_k, last_n, few_rows, add, scale, one_row, one_k = (
            Signal(name=name, reset_less=True) for name in (
                "first_row", "last_row", "last_k", "last_n", "few_rows", "add", "scale", "one_row", "one_k"))
        next_tile = Signal(16)
        tile_waits = Signal()  # to be swapped in
        since_tile = Signal(range(ACCUMULATE_SPACING))
        between_tiles = Signal(range(ACCUMULATE_SPACING), reset_less=True)
        settled = Signal(init=1)
        # Rows of this tile may add to words of the last rows: of an instruction with few rows, or of one that ended
        # close behind this one's first word, since a word is read again as many cycles later as they lie apart. The
        # instruction before that ended longer ago: one of a single row takes `cols` cycles.
        near = Signal(reset_less=True)
        ended = Signal(16, reset_less=True)
        distance = Signal(16)
        last = Signal()
        tile = Signal()
        step = Signal()
        new = requests.input.payload
        m.d.comb += [
            last.eq(last_row & last_k & last_n),
            distance.eq(payload.accumulator - ended),
            tile.eq(tile_waits & (settled | ~add | ~near)),
            requests.input.valid.eq(started & (~first_row | tile)),
            step.eq(requests.input.valid & requests.input.ready),
            new.address.eq(address), new.first.eq(first_row), new.unsigned.eq(instruction.a_unsigned),
            new.tag.address.eq(accumulator), new.tag.add.eq(add), new.tag.scale.eq(scale), new.tag.last.eq(last),
            next_tile.eq(tile_start + Mux(instruction.a_wide, 2, 1)),
            self.progress.row.eq(self.row),
            self.progress.bank.eq(self.port.enable & ~self.port.ready),
            self.progress.half.eq(waiting),
            self.progress.tile.eq(started & first_row & ~tile),
            self.progress.busy.eq(active),
        ]
        with m.If(self.tile_loaded):
            m.d.sync += tile_waits.eq(1)
        with m.If((since_tile != 0) & ~requests.output.valid):
            m.d.sync += [since_tile.eq(since_tile - 1), settled.eq(since_tile == 1)]
        with m.If(step):
            m.d.sync += [
                first_row.eq(0), row.eq(row - 1), last_row.eq(row == 1), address.eq(address + instruction.a_stride),
                accumulator.eq(accumulator + 1), ended.eq(accumulator + 1),
            ]
            with m.If(first_row):
                # What a tile overwrites, nobody reads; its words are read again after this one's rows.
                m.d.sync += [tile_waits.eq(0), since_tile.eq(0), settled.eq(1)]
            with m.If(last_row):
                m.d.sync += [
                    first_row.eq(1), row.eq(instruction.m - 1), last_row.eq(one_row), near.eq(1),
                    k.eq(k - 1), last_k.eq(k == 1), add.eq(1), scale.eq(0),
                    tile_start.eq(next_tile), address.eq(next_tile), accumulator.eq(column_start),
                ]
                with m.If(last):
                    m.d.sync += [since_tile.eq(ACCUMULATE_SPACING - 1), settled.eq(0)]
                with m.Elif(few_rows):
                    m.d.sync += [since_tile.eq(between_tiles), settled.eq(0)]
                with m.If(last_k):
                    m.d.sync += [
                        k.eq(instruction.k_tiles - 1), last_k.eq(one_k), n.eq(n - 1), last_n.eq(n == 1),
                        add.eq(instruction.accumulate), scale.eq(instruction.scale_accumulators),
                        tile_start.eq(instruction.a), address.eq(instruction.a),
                        column_start.eq(column_start + instruction.accumulator_stride),
                        accumulator.eq(column_start + instruction.accumulator_stride),
                    ]
                    with m.If(last_n):
                        m.d.sync += [active.eq(0), started.eq(0)]
        with m.If(~active):  # a copy that is not needed does no harm
            m.d.sync += [
                active.eq(accept), started.eq(accept & claimed), first_row.eq(1), add.eq(payload.accumulate),
                scale.eq(payload.scale_accumulators),
                near.eq(distance[exact_log2(CLOSE_WORDS):].all()),
                instruction.eq(payload), address.eq(payload.a), tile_start.eq(payload.a),
                accumulator.eq(payload.accumulator), column_start.eq(payload.accumulator), row.eq(payload.m - 1),
                k.eq(payload.k_tiles - 1), n.eq(payload.n_tiles - 1), last_row.eq(payload.m == 1),
                few_rows.eq(payload.m < ACCUMULATE_SPACING), one_row.eq(payload.m == 1),
                # The first row of the next tile may be asked for as soon as ACCUMULATE_SPACING cycles after this one's.
                between_tiles.eq(Mux(payload.m >= ACCUMULATE_SPACING - 1, 1, ACCUMULATE_SPACING - 1 - payload.m)),
                last_k.eq(payload.k_tiles == 1), one_k.eq(payload.k_tiles == 1), last_n.eq(payload.n_tiles == 1),
            ]
        return m
