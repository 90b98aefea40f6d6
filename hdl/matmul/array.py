"""The weight-stationary systolic array."""

from typing import Any

from amaranth import C, Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..parts.latched_word import LatchedWord
from ..parts.multiplier import PRODUCT_BITS, add_products, products_latency
from ..parts.shared import Shared
from ..parts.sum_of_products import SIGN_OFFSET, SumOfProducts, correction_offset, offset

__all__ = ["FusedRows", "LatchedRows", "MultiplierRows", "SystolicArray", "array_latency", "sum_bits"]


def sum_bits(config: AcceleratorConfig) -> int:
    """Width of a column's partial sum: ``rows`` products."""
    return PRODUCT_BITS + exact_log2(config.rows)


def array_latency(config: AcceleratorConfig) -> int:
    """Cycles from an activation vector at the input to its sums at the output."""
    return (config.rows // config.rows_per_sum + config.cols // config.columns_per_activation
            + products_latency(config))


def _delay(m, value, cycles, name, shape):
    for stage in range(cycles):
        register = Signal(shape, name=f"{name}_delay{stage}", reset_less=True)
        m.d.sync += register.eq(value)
        value = register
    return value


def _shifted(m, weight, shift, name, shape):
    """The next weights of a row: where their column shifts, they move on, into column 0 from ``weight``."""
    following = []
    for c in range(len(shift)):
        register = Signal(shape, name=f"{name}_{c}", reset_less=True)
        with m.If(shift[c]):
            m.d.sync += register.eq(weight)
        following.append(register)
        weight = register
    return following


def _swapped(m, following, swap, name):
    """The active weights of a row, which ``following`` becomes with its group's swap."""
    active = []
    for c, weight in enumerate(following):
        register = Signal(weight.shape(), name=f"{name}_{c}", reset_less=True)
        with m.If(swap[c * len(swap) // len(following)]):
            m.d.sync += register.eq(weight)
        active.append(register)
    return active


class _Rows(wiring.Component):
    """Rows of PEs that have a register of sums together, in groups of columns that take an activation in the same
    cycle. Group g sees everything g cycles after group 0.

    A PE holds two weights: the active one, and the next tile's, which moves in meanwhile.

    Members
    -------
    activations : in, ``rows`` x signed
    weights : in, ``rows`` x signed 8 bits
    shift : in, ``cols`` bits
        Columns whose next weights move on in this cycle, column 0 from ``weights``, the others from their left.
    swap : in, a bit a group
        From this cycle's activations of the group on, the next weights are the active ones.
    above : in, ``cols`` x signed ``width``
        Partial sums of the rows above, wanted ``products_latency`` cycles after the activations (and g).
    sums : out, ``cols`` x signed ``width``
        ``above`` and the products, one cycle later.
    """

    def __init__(self, rows: int, cols: int, width: int, columns_per_activation: int, activation_bits: int,
                 above: dict[str, wiring.Member]):
        self.rows, self.cols, self.columns = rows, cols, columns_per_activation
        super().__init__({
            "activations": In(data.ArrayLayout(signed(activation_bits), rows)),
            "weights": In(data.ArrayLayout(signed(8), rows)),
            "shift": In(unsigned(cols)),
            "swap": In(unsigned(cols // columns_per_activation)),
            **above,
            "sums": Out(data.ArrayLayout(signed(width), cols)),
        })

    def _held(self, m):
        """For each group, the activations at its input, and one cycle later."""
        before = [self.activations[r] for r in range(self.rows)]
        for g in range(len(self.swap)):
            held = [Signal(before[0].shape(), name=f"activation_{r}_{g}", reset_less=True) for r in range(self.rows)]
            m.d.sync += [after.eq(value) for after, value in zip(held, before, strict=True)]
            yield g, before, held
            before = held


class MultiplierRows(_Rows):
    """Rows whose products come out of multipliers with registers, one for ``macs_per_multiplier`` columns.

    Parameters
    ----------
    rows, cols, macs_per_multiplier : int
    columns_per_activation : int
    width : int
        Bits of a sum.
    target : str
        As in the configuration.
    """

    def __init__(self, rows: int, cols: int, width: int, columns_per_activation: int, macs_per_multiplier: int,
                 target: str):
        super().__init__(rows, cols, width, columns_per_activation, 9,
                         {"above": In(data.ArrayLayout(signed(width), cols))})
        self.share, self.target = macs_per_multiplier, target

    def elaborate(self, platform):
        m = Module()
        following = [_shifted(m, self.weights[r], self.shift, f"next_{r}", signed(8)) for r in range(self.rows)]
        for g, activations, held in self._held(m):
            for first in range(self.columns * g, self.columns * (g + 1), self.share):
                columns = range(first, first + self.share)
                products = [add_products(m, self.target, f"{r}_{first // self.share}", activations[r], held[r],
                                         [following[r][c] for c in columns], self.swap[g]) for r in range(self.rows)]
                for c, column_products in zip(columns, zip(*products, strict=True), strict=True):
                    m.d.sync += self.sums[c].eq(sum(column_products, self.above[c]))
        return m


class FusedRows(_Rows):
    """Rows whose products are made and added to what is above in one go.

    The sums lack :func:`~celosia.hdl.parts.sum_of_products.offset` for each activation, and have ``SIGN_OFFSET`` too
    much for each row. The first rows of an array (``correction`` is not 0) make good what all rows do, and correct sums
    of rows of uint8, which are fed as int8, 128 less: by 128 times the column's weights. The total of a column of
    weights moves as they do.

    Parameters
    ----------
    rows, cols, columns_per_activation : int
    width : int
        Bits of a sum.
    correction : int
        Bits of a total of weights; 0 for all but the first rows.

    Members
    -------
    start : in, signed ``width``
        With a correction, in place of ``above``: what the sums of this cycle's activations begin with.
    corrected : in, 1 bit
        With a correction: this cycle's activations are 128 less than they are meant.
    total : in, signed ``correction``
        With a correction: the sum over all rows of the array of the weights that move in.
    """

    def __init__(self, rows: int, cols: int, width: int, columns_per_activation: int, correction: int):
        super().__init__(
            rows, cols, width, columns_per_activation, 8,
            {"start": In(signed(width)), "corrected": In(1), "total": In(signed(correction))} if correction else
            {"above": In(data.ArrayLayout(signed(width), cols))})
        self.width, self.correction = width, correction

    def elaborate(self, platform):
        m = Module()
        columns = self._active(m)
        if self.correction:
            start, corrected = self.start, self.corrected
        for g, _activations, held in self._held(m):
            products = m.submodules[f"products_{g}"] = SumOfProducts(
                self.rows, self.columns, self.width, self.correction)
            if self.correction:
                start = _delay(m, start, 1, f"start_{g}", signed(self.width))
                corrected = _delay(m, corrected, 1, f"corrected_{g}", 1)
                m.d.comb += products.corrected.eq(corrected)
            m.d.comb += [products.activations[r].eq(held[r]) for r in range(self.rows)]
            for index in range(self.columns):
                c = self.columns * g + index
                m.d.comb += [
                    products.weights[index].as_value().eq(columns[c][:8 * self.rows]),
                    products.above[index].eq(start if self.correction else self.above[c]),
                ]
                if self.correction:
                    m.d.comb += products.corrections[index].eq(columns[c][8 * self.rows:])
                m.d.sync += self.sums[c].eq(products.sums[index])
        return m

    def _active(self, m) -> list[Any]:
        """The active weights of each column, and behind them their total where there is a correction."""
        parts = [*(self.weights[r] for r in range(self.rows)), *([self.total] if self.correction else [])]
        names = [*map(str, range(self.rows)), "total"]
        active = [_swapped(m, _shifted(m, part, self.shift, f"next_{name}", part.shape()), self.swap, f"active_{name}")
                  for part, name in zip(parts, names, strict=False)]
        return [Cat(column) for column in zip(*active, strict=True)]


class LatchedRows(FusedRows):
    """The same with the weights in :class:`~celosia.hdl.parts.latched_word.LatchedWord`. They do not move from column
    to column: a column of which ``shift`` has a bit takes what comes in, a cycle later."""

    def _active(self, m):
        parts = Cat(self.weights.as_value(), *([self.total] if self.correction else []))
        incoming = _delay(m, parts, 1, "incoming", len(parts))
        takes = _delay(m, self.shift, 1, "takes", self.cols)
        columns = []
        for c in range(self.cols):
            word = m.submodules[f"weights_{c}"] = LatchedWord(len(parts))
            m.d.comb += [word.word.eq(incoming), word.take.eq(takes[c]), word.swap.eq(self.swap[c // self.columns])]
            columns.append(word.active)
        return columns


class SystolicArray(wiring.Component):
    """``rows`` x ``cols`` PEs; activations move right, partial sums down, weights are shifted in from the left.

    ``rows_per_sum`` rows see everything in the same cycle, and have a register of sums together; the next ones see it
    a cycle later. Behind the activations' inputs there is a register.

    Members
    -------
    activations : in, ``rows`` x 8 bits
        One vector A[m, k tile] a cycle; cycles between vectors may hold anything.
    unsigned_activations : in
        The vector is uint8, not int8.
    swap : in
        High together with the first vector of a tile: from this vector on, the shifted-in weights are active.
    weights : in, ``rows`` x signed 8 bits
        One column of a tile, B[n, k tile].
    shift : in, ``cols`` bits
        Columns that shift in this cycle.
    sums : out, ``cols`` x signed ``sum_bits``
        The products' sums over the rows, ``array_latency`` cycles after their vector.

    Rules
    -----
    1. A tile is shifted in by ``cols`` cycles of shifting, column ``cols - 1`` first; in step i (from 0) the
       columns 0 to i shift. Idle cycles may lie between steps. With ``weight_latches`` column 0 comes first, and in
       step i only column i has a bit in ``shift``.
    2. The first step of a tile comes at least one cycle after the ``swap`` of the tile before.
    3. ``swap`` comes no earlier than the last step of its tile, in the same cycle at best.

    Nothing here has a reset: what the array holds before the first swap is undefined and marked so by whoever
    feeds it.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "activations": In(data.ArrayLayout(unsigned(8), config.rows)),
            "unsigned_activations": In(1),
            "swap": In(1),
            "weights": In(data.ArrayLayout(signed(8), config.rows)),
            "shift": In(unsigned(config.cols)),
            "sums": Out(data.ArrayLayout(signed(sum_bits(config)), config.cols)),
        })

    def elaborate(self, platform):
        config = self.config
        shape = signed(sum_bits(config))
        m = Module()
        height, groups = config.rows_per_sum, config.cols // config.columns_per_activation
        entered = self._entered(m)
        swap = _delay(m, self.swap, 1, "swap", 1)
        shift = self.shift
        above: Any = None
        for index in range(config.rows // height):
            if index:
                shift = _delay(m, shift, 1, f"shift_{index}", config.cols)
            if index % 2 == 0:
                # Two of them share the swaps: an ECP5 has few enables for the four multipliers of a block.
                swap = _delay(m, swap, 2 if index else 0, f"swap_{index}", 1)
                swaps = Signal(groups + 1, name=f"swaps_{index}")
                following = Signal(groups, name=f"swaps_after_{index}", reset_less=True)
                m.d.comb += swaps.eq(Cat(swap, following))
                m.d.sync += following.eq(swaps)
            rows = self._rows(m, index, entered)
            m.d.comb += [rows.shift.eq(shift), rows.swap.eq(swaps[index % 2:])]
            for place in range(height):
                r = height * index + place
                m.d.comb += [
                    rows.activations[place].eq(
                        _delay(m, entered[r], index, f"activation_{r}", rows.activations[place].shape())),
                    rows.weights[place].eq(_delay(m, self.weights[r], index, f"weight_{r}", signed(8))),
                ]
            if above is not None:
                m.d.comb += rows.above.eq(above)
            above = rows.sums
        for c in range(config.cols):
            wait = groups - 1 - c // config.columns_per_activation
            m.d.comb += self.sums[c].eq(_delay(m, above[c], wait, f"sum_{c}", shape))
        return m

    def _entered(self, m) -> list[Any]:
        """The register behind the inputs: activations with a ninth bit, or 128 less where they are unsigned."""
        entered = []
        for r in range(self.config.rows):
            byte, sign = self.activations[r], self.activations[r][7]
            if self.config.fused:
                value = Cat(byte[:7], sign ^ self.unsigned_activations)
            else:
                value = Cat(byte, sign & ~self.unsigned_activations)
            entered.append(_delay(m, value.as_signed(), 1, f"activation_{r}_entered", signed(len(value))))
        return entered

    def _rows(self, m, index: int, entered: list[Any]) -> Any:
        """The rows that have the register of sums ``index``."""
        config = self.config
        arguments = (config.rows_per_sum, config.cols, sum_bits(config), config.columns_per_activation)
        if not config.fused:
            shared = Shared("multiplier_rows", MultiplierRows, *arguments, config.macs_per_multiplier, config.target)
        else:
            correction = 8 + exact_log2(config.rows) if index == 0 else 0
            name, rows = ("latched_rows", LatchedRows) if config.weight_latches else ("fused_rows", FusedRows)
            shared = Shared(name, rows, *arguments, correction)
            if correction:
                too_much = config.rows * SIGN_OFFSET + correction_offset(correction)
                m.d.comb += [
                    shared.component.start.eq(sum((offset(value) for value in entered), C(-too_much))),
                    shared.component.corrected.eq(_delay(m, self.unsigned_activations, 1, "corrected", 1)),
                    shared.component.total.eq(sum((self.weights[r] for r in range(config.rows)), C(0, signed(8)))),
                ]
        m.submodules[f"rows_{index}"] = shared
        return shared.component
