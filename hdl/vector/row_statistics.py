"""Sums and maxima over the columns of a row: trees over the lanes, then a running total for each row."""

from amaranth import C, Cat, Module, Mux, Shape, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..parts.ram import Ram
from ..parts.resets import without_reset
from .row_unit import NORMALISE_LATENCY, NORMALISE_SPACING, SquaresLayout, sum_bits

__all__ = ["WALK_LATENCY", "RowStatistics", "Tree", "tree_latency"]

#: Cycles from the one in which the sums of a row of LayerNorm are read to the one in which its entry is written.
WALK_LATENCY = 2 + NORMALISE_LATENCY


def tree_latency(config: AcceleratorConfig) -> int:
    """Stages of a tree over the lanes."""
    return exact_log2(config.lanes)


def maximum(left, right):
    """The larger of two signed values, by the sign of their difference: a comparison would become a tree of logic."""
    return Mux((right - left)[-1], left, right)


class Tree(wiring.Component):
    """Combines ``lanes`` values into one, a register after each level.

    Parameters
    ----------
    shape
        Of the values; sums grow by a bit a level, maxima do not.
    maximum
        The largest value in place of the sum.

    Members
    -------
    enable : in
        Clocks the first level; the others follow.
    values : in
    result : out
    """

    def __init__(self, shape, lanes: int, maximum: bool = False):
        self.levels = exact_log2(lanes)
        self.maximum = maximum
        self.shape = shape
        growth = 0 if maximum else self.levels
        super().__init__({
            "enable": In(1),
            "values": In(data.ArrayLayout(shape, lanes)),
            "result": Out(Shape(shape.width + growth, shape.signed)),
        })

    def elaborate(self, platform):
        m = Module()
        values = [self.values[i] for i in range(len(self.values))]
        for level in range(self.levels):
            grown = Shape(self.shape.width + (0 if self.maximum else level + 1), self.shape.signed)
            combined = []
            for index, (left, right) in enumerate(zip(values[::2], values[1::2], strict=True)):
                node = Signal(grown, name=f"level_{level}_{index}", reset_less=True)
                with m.If(self.enable if level == 0 else C(1, 1)):
                    m.d.sync += node.eq(maximum(left, right) if self.maximum else left + right)
                combined.append(node)
            values = combined
        m.d.comb += self.result.eq(values[0])
        return m


class RowStatistics(wiring.Component):
    """The running total of each row over the groups of an instruction. When the last rows of LayerNorm are complete, it
    walks over them again, and gives their sums to the row unit as fast as that takes them.

    Members
    -------
    row : in
        The row of the beat that is two cycles before the one of ``valid``.
    row_valid : in
        ``row`` is a row.
    first_group : in
        A cycle before ``valid``: the beat is the row's first.
    valid, is_maximum, value, squares : in
        A beat's combined columns; of ``value`` the sum or the maximum over all beats is taken, of ``squares`` the sums.
    total : out
        Two cycles later: over this beat and all earlier groups of its row.
    complete, last : in
        With ``total``: these are all columns of a row of LayerNorm; the last row of its instruction.
    has_sums : out
        ``sums`` and ``squares_sum`` are those of a row, NORMALISE_SPACING cycles after those of the one before.
    walked : out
        Two cycles before the last ones.
    written : in
        The entry of the next row is written.
    entry_row : out
        That row.

    Rules
    -----
    1. Beats of the same row are at least five cycles apart.
    2. From the first row that is ``complete`` to ``walked``, only rows of the same instruction come, and then no
       complete ones until the last entry is written.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "row": In(range(config.row_entries)),
            "row_valid": In(1),
            "valid": In(1),
            "first_group": In(1),
            "is_maximum": In(1),
            "value": In(signed(32)),
            "squares": In(SquaresLayout(config.lanes)),
            "total": Out(signed(32)),
            "complete": In(1),
            "last": In(1),
            "has_sums": Out(1),
            "sums": Out(signed(sum_bits(config))),
            "squares_sum": Out(SquaresLayout(config.max_n)),
            "walked": Out(1),
            "written": In(1),
            "entry_row": Out(range(config.row_entries)),
        })

    def elaborate(self, platform):
        m = Module()
        squares_layout = SquaresLayout(self.config.max_n)
        memory = m.submodules.memory = Ram(32 + squares_layout.size, self.config.row_entries)
        before = Signal(32 + squares_layout.size, reset_less=True)
        rows = [Signal.like(self.row, name=f"row_{i}", reset_less=True) for i in range(4)]
        used = Signal()
        used_again = Signal()
        again, row_again = self._walk(m, rows[3])
        m.d.comb += [
            memory.read_address.eq(Mux(again, row_again, self.row)), memory.read_enable.eq(self.row_valid | again)]
        m.d.sync += [
            used.eq(memory.read_enable), used_again.eq(again), self.has_sums.eq(used_again),
            *(later.eq(row) for row, later in zip([self.row, *rows], rows, strict=False)),
        ]
        with m.If(used):  # nothing is before the first group
            m.d.sync += before.eq(Mux(self.first_group & ~used_again, 0, memory.read_data))

        # The sums and the comparison (in two halves), and then what is wanted of them.
        old, old_squares = before[:32].as_signed(), data.View(squares_layout, before[32:])
        m.d.comb += [self.sums.eq(old), self.squares_sum.eq(old_squares)]
        was, new = (Signal(signed(32), name=name, reset_less=True) for name in ("was", "new"))
        added = Signal(signed(sum_bits(self.config)), reset_less=True)
        squares = Signal(squares_layout, reset_less=True)
        first, is_maximum, is_first, upper_above, upper_equal, lower_above = (
            Signal(name=name, reset_less=True) for name in (
                "first", "is_maximum", "is_first", "upper_above", "upper_equal", "lower_above"))
        combined = Signal()
        writing = Signal()
        m.d.sync += [combined.eq(self.valid), writing.eq(combined), first.eq(self.first_group)]
        with m.If(self.valid):
            m.d.sync += [
                was.eq(old), new.eq(self.value), is_maximum.eq(self.is_maximum), is_first.eq(first),
                upper_above.eq(self.value[16:].as_signed() > old[16:].as_signed()),
                upper_equal.eq(self.value[16:] == old[16:]),
                lower_above.eq(self.value[:16] > old[:16]),
                added.eq(old[:len(added)] + self.value[:len(added)]),
                *(squares[part].eq(old_squares[part] + self.squares[part]) for part in ("low", "high")),
            ]
        replaces = is_first | upper_above | (upper_equal & lower_above)
        total = without_reset(m, self.total)
        total_squares = Signal(squares_layout, reset_less=True)
        with m.If(combined):
            m.d.sync += [
                total.eq(Mux(is_maximum, Mux(replaces, new, was), added)),
                total_squares.eq(squares),
            ]
        m.d.comb += [
            memory.write_address.eq(rows[3]),
            memory.write_data.eq(Cat(self.total, total_squares.as_value())),
            memory.write_enable.eq(writing),
        ]
        return m

    def _walk(self, m, row):
        """Whether a row's sums are read again, and which ones; ``row`` is the one of ``complete``."""
        next_row, entry_row = (Signal.like(row, name=name, reset_less=True) for name in ("next_row", "next_entry_row"))
        left = Signal(range(self.config.row_entries + 1))
        wait = Signal(range(NORMALISE_SPACING))
        walking = Signal()
        reads = Signal()
        m.d.comb += [
            reads.eq(walking & (wait == 0)), self.walked.eq(reads & (left == 1)), self.entry_row.eq(entry_row)]
        with m.If(self.complete):
            m.d.sync += [left.eq(left + 1), walking.eq(self.last)]
            with m.If(left == 0):
                m.d.sync += [next_row.eq(row), entry_row.eq(row)]
        m.d.sync += wait.eq(Mux(~walking | (wait == NORMALISE_SPACING - 1), 0, wait + 1))
        with m.If(reads):
            m.d.sync += [next_row.eq(next_row + 1), left.eq(left - 1)]
        with m.If(self.walked):
            m.d.sync += walking.eq(0)
        with m.If(self.written):
            m.d.sync += entry_row.eq(entry_row + 1)
        return reads, next_row
