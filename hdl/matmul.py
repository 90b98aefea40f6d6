"""The matmul engine: feeds the array with tiles and activations and adds its sums to the accumulators."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .accumulators import ACCUMULATOR_READ_LATENCY, AccumulatorPortSignature
from .array import SystolicArray, array_latency, sum_bits
from .config import AcceleratorConfig
from .delay import DelayLine
from .halves import HalfClaimSignature, HalfUse
from .interfaces import READ_LATENCY, CommandSignature, ScratchpadReadSignature
from .isa import MATMUL

__all__ = ["AccumulateStage", "ActivationFeeder", "MatmulEngine", "RowTag", "WeightFeeder"]


#: Fewest cycles between two reads of an accumulator word: the second finds what the first has added.
ACCUMULATE_SPACING = 4


class RowTag(data.Struct):
    """What travels beside a row of A through the array to the accumulators."""

    address: 16
    add: 1
    last: 1


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
    tile_ready : out
        All words of a tile have been read, or will have been with the next cycle: from that one on the tile may be
        swapped in.
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
            "tile_ready": Out(1),
            "swapped": In(1),
            "shift": Out(config.cols),
        })

    def elaborate(self, platform):
        cols = self.config.cols
        m = Module()
        active, setup = Signal(), Signal()
        instruction = Signal(MATMUL.layout, reset_less=True)
        row_start, tile_start, address = Signal(16), Signal(16), Signal(16)  # of column cols - 1
        column = Signal(range(cols), init=cols - 1)
        k, n = Signal(16), Signal(16)  # tiles left after this one
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
        with m.If(self.command.valid & self.command.ready):
            m.d.sync += [
                active.eq(1),
                setup.eq(1),
                self.following.valid.eq(1),
                instruction.eq(payload),
                row_start.eq(payload.b - payload.b_stride),
                k.eq(payload.k_tiles - 1),
                n.eq(payload.n_tiles - 1),
            ]
        with m.If(setup):
            m.d.sync += [
                setup.eq(0), row_start.eq(next_row_start), tile_start.eq(next_row_start),
                address.eq(next_row_start),
            ]

        # Rule 2 of the array holds because a tile is begun only after the swap of the tile before has been seen
        # here, and the activations' path to the array is one register longer; rule 3, because `swapped` is no
        # earlier than the last word.
        m.d.comb += [
            self.port.enable.eq(active & ~setup & ~complete),
            self.port.address.eq(address),
            self.tile_ready.eq(complete | (self.port.enable & (column <= 1))),
        ]
        with m.If(self.port.enable):
            m.d.sync += [column.eq(column - 1), address.eq(address - instruction.b_stride)]
            with m.If(column == 0):
                m.d.sync += [complete.eq(~self.swapped), k.eq(k - 1), tile_start.eq(tile_start + 1),
                             address.eq(tile_start + 1)]
                with m.If(k == 0):
                    m.d.sync += [
                        k.eq(instruction.k_tiles - 1), n.eq(n - 1), row_start.eq(next_row_start),
                        tile_start.eq(next_row_start), address.eq(next_row_start),
                    ]
                    with m.If(n == 0):
                        m.d.sync += active.eq(0)
        with m.Elif(self.swapped):
            m.d.sync += complete.eq(0)

        # Rule 1 of the array: step i shifts the columns 0 to i.
        valid = Signal(READ_LATENCY)
        m.d.sync += valid.eq(Cat(self.port.enable, valid))
        columns = Signal(cols, init=1)
        with m.If(valid[-1]):
            m.d.comb += self.shift.eq(columns)
            m.d.sync += columns.eq(Mux(columns[-1], 1, Cat(C(1, 1), columns)))
        return m


class ActivationFeeder(wiring.Component):
    """Streams the A rows of each tile, once the tile is ready, and names the accumulator of each row.

    Members
    -------
    following : in, stream of MATMUL
        From the :class:`WeightFeeder`.
    port : ScratchpadReadSignature
    tile_ready : in
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
    waits_for_tile, conflict : out
        For the counters.

    The next row is worked out while the scratchpad is asked for the one before.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "following": In(stream.Signature(MATMUL.layout)),
            "port": Out(ScratchpadReadSignature(config)),
            "tile_ready": In(1),
            "swapped": Out(1),
            "request": Out(1),
            "half": Out(1),
            "grant": In(1),
            "start": Out(1),
            "stall": In(1),
            "row": Out(1),
            "tag": Out(RowTag),
            "unsigned": Out(1),
            "waits_for_tile": Out(1),
            "conflict": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        active, started = Signal(), Signal()
        instruction = Signal(MATMUL.layout, reset_less=True)
        payload = self.following.payload

        # The half: claimed with the last row of the instruction before, or as soon as it can be had after that.
        half_bit = exact_log2(self.config.half_words)
        waiting, accept, claimed = Signal(), Signal(), Signal()
        last_tile = Signal()
        m.d.comb += [
            waiting.eq(active & ~started),
            self.half.eq(Mux(waiting, instruction.accumulator[half_bit], payload.accumulator[half_bit])),
            self.request.eq(waiting | (self.following.valid & (~active | last_tile))),
            claimed.eq(self.grant & ~self.stall),
            accept.eq(self.following.valid & self.following.ready),
            self.start.eq((waiting | accept) & claimed),
        ]
        with m.If(waiting & claimed):
            m.d.sync += started.eq(1)

        # The row that the scratchpad is asked for.
        asked_first = Signal()  # of its tile
        m.d.comb += [
            self.row.eq(self.port.enable & self.port.ready),
            self.swapped.eq(self.row & asked_first),
        ]

        # The row after that.
        address, tile_start = Signal(16), Signal(16)
        accumulator, column_start = Signal(16), Signal(16)
        row, k, n = Signal(16), Signal(16), Signal(16)  # left after this one
        first_row, last_row, few_rows, add, tile_taken = (
            Signal(name=name) for name in ("first_row", "last_row", "few_rows", "add", "tile_taken"))
        since_tile = Signal(range(ACCUMULATE_SPACING))
        adds, last, tile, next_row, advance, step = (
            Signal(name=name) for name in ("adds", "last", "tile", "next_row", "advance", "step"))
        m.d.comb += [
            adds.eq(add | instruction.accumulate),
            last.eq(last_row & last_tile),
            tile.eq(self.tile_ready & ~tile_taken & ((since_tile == 0) | ~adds)),
            next_row.eq(active & started & (~first_row | tile)),
            advance.eq(~self.port.enable | self.port.ready),
            step.eq(next_row & advance),
            self.following.ready.eq(~active | (step & last)),
            self.waits_for_tile.eq(active & started & first_row & ~tile),
            self.conflict.eq((self.port.enable & ~self.port.ready) | waiting),
        ]
        with m.If(self.swapped):
            m.d.sync += tile_taken.eq(0)
        with m.If(advance):
            m.d.sync += self.port.enable.eq(next_row)
            with m.If(since_tile != 0):
                m.d.sync += since_tile.eq(since_tile - 1)
        with m.If(step):
            m.d.sync += [
                self.port.address.eq(address), asked_first.eq(first_row), self.unsigned.eq(instruction.a_unsigned),
                self.tag.address.eq(accumulator), self.tag.add.eq(adds), self.tag.last.eq(last),
                first_row.eq(0), row.eq(row - 1), last_row.eq(row == 1), address.eq(address + instruction.a_stride),
                accumulator.eq(accumulator + 1),
            ]
            with m.If(first_row):
                m.d.sync += tile_taken.eq(1)
            with m.If(last_row):
                m.d.sync += [
                    first_row.eq(1), row.eq(instruction.m - 1), last_row.eq(instruction.m == 1),
                    k.eq(k - 1), last_tile.eq((k == 1) & (n == 0)), add.eq(1),
                    tile_start.eq(tile_start + 1), address.eq(tile_start + 1), accumulator.eq(column_start),
                ]
                with m.If(last | few_rows):
                    m.d.sync += since_tile.eq(ACCUMULATE_SPACING - 1)
                with m.If(k == 0):
                    m.d.sync += [
                        k.eq(instruction.k_tiles - 1), n.eq(n - 1), add.eq(0),
                        last_tile.eq((instruction.k_tiles == 1) & (n == 1)),
                        tile_start.eq(instruction.a), address.eq(instruction.a),
                        column_start.eq(column_start + instruction.accumulator_stride),
                        accumulator.eq(column_start + instruction.accumulator_stride),
                    ]
                    with m.If(n == 0):
                        m.d.sync += active.eq(0)
        with m.If(accept):
            m.d.sync += [
                active.eq(1), started.eq(claimed), first_row.eq(1), add.eq(0), instruction.eq(payload),
                address.eq(payload.a), tile_start.eq(payload.a), accumulator.eq(payload.accumulator),
                column_start.eq(payload.accumulator), row.eq(payload.m - 1), k.eq(payload.k_tiles - 1),
                n.eq(payload.n_tiles - 1), last_row.eq(payload.m == 1), few_rows.eq(payload.m < ACCUMULATE_SPACING),
                last_tile.eq((payload.k_tiles == 1) & (payload.n_tiles == 1)),
            ]
        return m


class AccumulateStage(wiring.Component):
    """Adds each vector of sums to its accumulator word, or overwrites it.

    Members
    -------
    valid, tag : in
        A row's tag, ``ACCUMULATOR_READ_LATENCY`` cycles before its sums.
    sums : in
        From the array.
    port : AccumulatorPortSignature
    finished : out
        The last row of an instruction has been written.

    A word must be read again no earlier than ``ACCUMULATE_SPACING`` cycles later. Between the same row of two tiles of
    an instruction lie at least ``m`` cycles; where that is too few, and between instructions, the
    :class:`ActivationFeeder` waits.
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
        for stage in range(ACCUMULATOR_READ_LATENCY):
            next_valid, next_tag = Signal(name=f"valid_{stage}"), Signal(RowTag, name=f"tag_{stage}")
            m.d.sync += [next_valid.eq(valid), next_tag.eq(tag)]
            valid, tag = next_valid, next_tag
        finishing = Signal()
        m.d.sync += [
            self.port.write_enable.eq(valid),
            self.port.write_address.eq(tag.address),
            finishing.eq(valid & tag.last),
            self.finished.eq(finishing),
        ]
        with m.If(valid):
            for c in range(self.config.cols):
                before = Mux(tag.add, self.port.read_data[c], 0)
                m.d.sync += self.port.write_data[c].eq(before + self.sums[c])
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
    array_active, tile_stall, conflict : out
        For the counters.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "control": In(CommandSignature(MATMUL)),
            "weights": Out(ScratchpadReadSignature(config)),
            "activations": Out(ScratchpadReadSignature(config)),
            "accumulators": Out(AccumulatorPortSignature(config)),
            "claim": Out(HalfClaimSignature()),
            "array_active": Out(1),
            "tile_stall": Out(1),
            "conflict": Out(1),
        })

    def elaborate(self, platform):
        config = self.config
        m = Module()
        m.submodules.weight_feeder = weight_feeder = WeightFeeder(config)
        m.submodules.activation_feeder = feeder = ActivationFeeder(config)
        m.submodules.array = array = SystolicArray(config)
        m.submodules.accumulate = accumulate = AccumulateStage(config)
        m.submodules.use = use = HalfUse()
        wiring.connect(m, wiring.flipped(self.control.command), weight_feeder.command)
        wiring.connect(m, weight_feeder.following, feeder.following)
        wiring.connect(m, weight_feeder.port, wiring.flipped(self.weights))
        wiring.connect(m, feeder.port, wiring.flipped(self.activations))
        wiring.connect(m, accumulate.port, wiring.flipped(self.accumulators))
        m.d.comb += [
            feeder.tile_ready.eq(weight_feeder.tile_ready),
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
            self.array_active.eq(feeder.row),
            self.tile_stall.eq(feeder.waits_for_tile),
            self.conflict.eq(feeder.conflict),
        ]

        # Rows come out of the scratchpad READ_LATENCY cycles after the read, and pass one register, in which they
        # get their ninth bit.
        rows = Signal(READ_LATENCY + 1)
        swaps = Signal(READ_LATENCY + 1)
        unsigned_rows = Signal(READ_LATENCY)
        m.d.sync += [
            rows.eq(Cat(feeder.row, rows)),
            swaps.eq(Cat(feeder.swapped, swaps)),
            unsigned_rows.eq(Cat(feeder.unsigned, unsigned_rows)),
        ]
        row_bytes = data.View(data.ArrayLayout(8, config.rows), self.activations.data)
        with m.If(rows[READ_LATENCY - 1]):
            for r in range(config.rows):
                sign = row_bytes[r][7] & ~unsigned_rows[READ_LATENCY - 1]
                m.d.sync += array.activations[r].eq(Cat(row_bytes[r], sign))
        m.d.comb += [
            array.swap.eq(swaps[READ_LATENCY]),
            array.shift.eq(weight_feeder.shift),
            array.weights.as_value().eq(self.weights.data),
            accumulate.sums.eq(array.sums),
        ]

        # The tags take the same way, and leave it early enough for the accumulators to be read.
        latency = READ_LATENCY + 1 + array_latency(config) - ACCUMULATOR_READ_LATENCY
        in_flight = Signal(latency)
        m.submodules.tags = tags = DelayLine(RowTag, latency)
        m.d.sync += in_flight.eq(Cat(feeder.row, in_flight))
        m.d.comb += [
            tags.input.eq(feeder.tag),
            accumulate.valid.eq(in_flight[-1]),
            accumulate.tag.eq(tags.output),
        ]
        return m
