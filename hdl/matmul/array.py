"""The weight-stationary systolic array."""

from typing import Any

from amaranth import Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..parts.multiplier import PRODUCT_BITS, add_products, products_latency
from ..parts.shared import Shared

__all__ = ["ArrayRow", "SystolicArray", "array_latency", "sum_bits"]


def sum_bits(config: AcceleratorConfig) -> int:
    """Width of a column's partial sum: ``rows`` products."""
    return PRODUCT_BITS + exact_log2(config.rows)


def array_latency(config: AcceleratorConfig) -> int:
    """Cycles from an activation vector at the input to its sums at the output."""
    return config.rows + config.cols // config.macs_per_multiplier + products_latency(config) - 1


def _delay(m, value, cycles, name, shape):
    for stage in range(cycles):
        register = Signal(shape, name=f"{name}_delay{stage}", reset_less=True)
        m.d.sync += register.eq(value)
        value = register
    return value


class ArrayRow(wiring.Component):
    """A row of PEs, in groups of ``macs_per_multiplier``: the PEs of a group share a multiplier, and with it their
    activation. Group g sees everything g cycles after group 0.

    A PE holds two weights: the active one, and the next tile's, which moves in meanwhile.

    Parameters
    ----------
    cols, macs_per_multiplier : int
    target : str
        As in the configuration.
    width : int
        Bits of a sum.

    Members
    -------
    activation : in, signed 9 bits
    weight : in, signed 8 bits
    shift : in, ``cols`` bits
        Columns whose next weight moves on in this cycle, column 0 from ``weight``, the others from their left.
    swap : in, a bit a group
        From this cycle's activation of the group on, the next weights are the active ones.
    above : in, ``cols`` x signed ``width``
        Partial sums of the row above, wanted ``products_latency`` cycles after the activation (and g).
    sums : out, ``cols`` x signed ``width``
        ``above`` and the products, one cycle later.
    """

    def __init__(self, cols: int, width: int, macs_per_multiplier: int, target: str):
        self.share, self.target = macs_per_multiplier, target
        sums = data.ArrayLayout(signed(width), cols)
        super().__init__({
            "activation": In(signed(9)),
            "weight": In(signed(8)),
            "shift": In(unsigned(cols)),
            "swap": In(unsigned(cols // macs_per_multiplier)),
            "above": In(sums),
            "sums": Out(sums),
        })

    def elaborate(self, platform):
        m = Module()
        share = self.share
        activation, weight = self.activation, self.weight
        for g in range(len(self.swap)):
            held = Signal(signed(9), name=f"activation_{g}", reset_less=True)
            m.d.sync += held.eq(activation)
            columns = range(share * g, share * (g + 1))
            following = []
            for c in columns:
                register = Signal(signed(8), name=f"next_{c}", reset_less=True)
                with m.If(self.shift[c]):
                    m.d.sync += register.eq(weight)
                following.append(register)
                weight = register
            products = add_products(m, self.target, f"{g}", activation, held, following, self.swap[g])
            for c, product in zip(columns, products, strict=True):
                m.d.sync += self.sums[c].eq(self.above[c] + product)
            activation = held
        return m


class SystolicArray(wiring.Component):
    """``rows`` x ``cols`` PEs; activations move right, partial sums down, weights are shifted in from the left.

    Row r sees everything r cycles after row 0.

    Members
    -------
    activations : in, ``rows`` x signed 9 bits
        One vector A[m, k tile] a cycle; cycles between vectors may hold anything.
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
       columns 0 to i shift. Idle cycles may lie between steps.
    2. The first step of a tile comes no earlier than the ``swap`` of the tile before, in the same cycle at best.
    3. ``swap`` comes at least one cycle after the last step of its tile.

    Nothing here has a reset: what the array holds before the first swap is undefined and marked so by whoever
    feeds it.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "activations": In(data.ArrayLayout(signed(9), config.rows)),
            "swap": In(1),
            "weights": In(data.ArrayLayout(signed(8), config.rows)),
            "shift": In(unsigned(config.cols)),
            "sums": Out(data.ArrayLayout(signed(sum_bits(config)), config.cols)),
        })

    def elaborate(self, platform):
        config = self.config
        shape = signed(sum_bits(config))
        share = config.macs_per_multiplier
        m = Module()
        groups = config.cols // share
        above: Any = None
        shift, swap = self.shift, self.swap
        for r in range(config.rows):
            if r:
                shift = _delay(m, shift, 1, f"shift_{r}", config.cols)
            if r % 2 == 0:
                # Two rows share the swaps: an ECP5 has few enables for the four multipliers of a block.
                swap = _delay(m, swap, 2 if r else 0, f"swap_{r}", 1)
                swaps = Signal(groups + 1, name=f"swaps_{r}")
                following = Signal(groups, name=f"swaps_after_{r}", reset_less=True)
                m.d.comb += swaps.eq(Cat(swap, following))
                m.d.sync += following.eq(swaps)
            m.submodules[f"row_{r}"] = shared = Shared(
                "array_row", ArrayRow, config.cols, sum_bits(config), share, config.target)
            row = shared.component
            m.d.comb += [
                row.activation.eq(_delay(m, self.activations[r], r, f"activation_{r}", signed(9))),
                row.weight.eq(_delay(m, self.weights[r], r, f"weight_{r}", signed(8))),
                row.shift.eq(shift),
                row.swap.eq(swaps[r % 2:]),
            ]
            if above is not None:
                m.d.comb += row.above.eq(above)
            above = row.sums
        for c in range(config.cols):
            m.d.comb += self.sums[c].eq(_delay(m, above[c], groups - 1 - c // share, f"sum_{c}", shape))
        return m
