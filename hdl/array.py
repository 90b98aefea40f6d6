"""The weight-stationary systolic array."""

from amaranth import Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .config import AcceleratorConfig

__all__ = ["SystolicArray", "array_latency", "sum_bits"]


def sum_bits(config: AcceleratorConfig) -> int:
    """Width of a column's partial sum: ``rows`` products of 16 bits (255 * -128 fits)."""
    return 16 + exact_log2(config.rows)


def array_latency(config: AcceleratorConfig) -> int:
    """Cycles from an activation vector at the input to its sums at the output."""
    return config.rows + config.cols + 1


class SystolicArray(wiring.Component):
    """``rows`` x ``cols`` PEs; activations move right, partial sums down, weights are shifted in from the left.

    A PE holds two weights: the active one, and the next tile's, which moves in meanwhile. Row r of the array
    sees everything r cycles after row 0.

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
        rows, cols = self.config.rows, self.config.cols
        width = sum_bits(self.config)
        m = Module()

        def delay(value, cycles, name, shape):
            for stage in range(cycles):
                register = Signal(shape, name=f"{name}_delay{stage}", reset_less=True)
                m.d.sync += register.eq(value)
                value = register
            return value

        above = [None] * cols
        shift, swap = self.shift, self.swap
        for r in range(rows):
            if r:
                shift = delay(shift, 1, f"shift_{r}", cols)
                swap = delay(swap, 1, f"swap_{r}", 1)
            activation = delay(self.activations[r], r, f"activation_{r}", signed(9))
            weight = delay(self.weights[r], r, f"weight_{r}", signed(8))
            swaps = Signal(cols, name=f"swaps_{r}", reset_less=True)
            m.d.sync += swaps.eq(Cat(swap, swaps))
            for c in range(cols):
                here = f"{r}_{c}"
                held = Signal(signed(9), name=f"activation_{here}", reset_less=True)
                shadow = Signal(signed(8), name=f"shadow_{here}", reset_less=True)
                active = Signal(signed(8), name=f"active_{here}", reset_less=True)
                product = Signal(signed(16), name=f"product_{here}", reset_less=True)
                total = Signal(signed(width), name=f"sum_{here}", reset_less=True)
                m.d.sync += [
                    held.eq(activation),
                    product.eq(held * active),
                    total.eq(product if above[c] is None else above[c] + product),
                ]
                with m.If(shift[c]):
                    m.d.sync += shadow.eq(weight)
                with m.If(swap if c == 0 else swaps[c - 1]):
                    m.d.sync += active.eq(shadow)
                activation, weight, above[c] = held, shadow, total
        for c in range(cols):
            m.d.comb += self.sums[c].eq(delay(above[c], cols - 1 - c, f"deskew_{c}", signed(width)))
        return m
