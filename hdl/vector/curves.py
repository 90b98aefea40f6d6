"""GELU and the softmax numerator: piecewise linear, see ``docs/numerics.md``."""

import math

from amaranth import Array, C, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CURVE_LATENCY", "Exponential", "Gelu", "chord_table"]

CURVE_LATENCY = 5


def chord_table(function, step: float, divisor: int) -> list[tuple[int, int]]:
    """(base, slope) of the 32 pieces of ``function``, each ``step`` long and ``divisor`` remainders wide: the chord,
    moved by half of its error in the middle of the piece."""
    pieces = []
    for i in range(32):
        left, right, middle = function(i * step), function((i + 1) * step), function((i + 0.5) * step)
        pieces.append((round(left + (middle - (left + right) / 2) / 2), round((right - left) / divisor)))
    return pieces


def _gelu_excess(a: float) -> float:
    """a * Phi(-a): what GELU(a) falls short of max(a, 0)."""
    return a * math.erfc(a / math.sqrt(2)) / 2


#: 16 fraction bits; the argument in steps of 1/8.
GELU_TABLE = chord_table(lambda a: _gelu_excess(a) * 2**16, 1 / 8, 32)
#: 255 * 2**-t with 10 fraction bits; slopes are negative.
EXPONENTIAL_TABLE = chord_table(lambda t: 255 * 2**10 * 2.0**-t, 1 / 32, 8)


def _times(value, factor):
    """``value * factor`` as two summands, for an unsigned ``factor`` of few bits, which is not worth a multiplier."""
    rows = [Mux(bit, value << index, 0) for index, bit in enumerate(factor)]
    half = (len(rows) + 1) // 2
    return sum(rows[:half]), sum(rows[half:])


class Gelu(wiring.Component):
    """``result`` is g of the GELU, 10 fraction bits, for ``x = saturate(value, 16)`` with 8 fraction bits;
    CURVE_LATENCY cycles later, one a cycle.

    Members
    -------
    enable : in, 5 bits
        Bit i clocks stage i.
    value, result : signed 18 bits
    """

    enable: In(CURVE_LATENCY)
    value: In(signed(18))
    result: Out(signed(18))

    def elaborate(self, platform):
        m = Module()
        base_bits = max(base for base, _ in GELU_TABLE).bit_length()
        bases = Array([base for base, _ in GELU_TABLE])
        slopes = Array([C(slope, signed(10)) for _, slope in GELU_TABLE])
        value, sign = self.value, self.value[-1]
        positive = [Signal(15, name=f"positive_{i}", reset_less=True) for i in range(4)]
        near = [Signal(name=f"near_{i}", reset_less=True) for i in range(4)]
        magnitude = Signal(10, reset_less=True)
        remainder = Signal(5, reset_less=True)
        base = Signal(base_bits, reset_less=True)
        slope = Signal(signed(10), reset_less=True)
        products = [Signal(signed(15), name=f"product_{i}", reset_less=True) for i in range(2)]
        base_1 = Signal(base_bits + 1, reset_less=True)
        excess = Signal(signed(17), reset_less=True)
        # Of max(x, 0), 15 bits; of |x|, 10, and whether these are all.
        high = value[10:]
        with m.If(self.enable[0]):
            m.d.sync += [
                magnitude.eq((value[:10] ^ sign.replicate(10)) + sign),
                near[0].eq(~high.any() | (high.all() & value[:10].any())),
                positive[0].eq(Mux(sign, 0, Mux(value[15:17].any(), C(2**15 - 1, 15), value[:15]))),
            ]
        with m.If(self.enable[1]):
            m.d.sync += [
                base.eq(bases[magnitude[5:]]), slope.eq(slopes[magnitude[5:]]), remainder.eq(magnitude[:5]),
                near[1].eq(near[0]), positive[1].eq(positive[0]),
            ]
        with m.If(self.enable[2]):
            m.d.sync += [*(product.eq(part) for product, part in zip(products, _times(slope, remainder), strict=True)),
                         base_1.eq(base + 32), near[2].eq(near[1]), positive[2].eq(positive[1])]
        with m.If(self.enable[3]):
            m.d.sync += [
                excess.eq(base_1 + (products[0] + products[1])), near[3].eq(near[2]), positive[3].eq(positive[2])]
        with m.If(self.enable[4]):
            m.d.sync += self.result.eq((positive[3] << 2) - Mux(near[3], excess >> 6, 0))
        return m


class Exponential(wiring.Component):
    """``result = e`` of the softmax for ``u = clamp(value, 0, 4095)``, or 0 where masked; CURVE_LATENCY cycles
    later, one a cycle.

    Members
    -------
    enable : in, 5 bits
        Bit i clocks stage i.
    value : in, signed 18 bits
    keep : in
        The column is not masked; wanted in the last stage, four cycles after ``value``.
    result : out, 8 bits
    """

    enable: In(CURVE_LATENCY)
    value: In(signed(18))
    keep: In(1)
    result: Out(8)

    def elaborate(self, platform):
        m = Module()
        bases = Array([base for base, _ in EXPONENTIAL_TABLE])
        drops = Array([-slope for _, slope in EXPONENTIAL_TABLE])
        u = Signal(12, reset_less=True)
        base = Signal(18, reset_less=True)
        drop = Signal(10, reset_less=True)
        remainder = Signal(3, reset_less=True)
        product = Signal(13, reset_less=True)
        base_1 = Signal(18, reset_less=True)
        octave = [Signal(4, name=f"octave_{i}", reset_less=True) for i in range(3)]
        mantissa = Signal(18, reset_less=True)
        with m.If(self.enable[0]):
            with m.If(self.value < 0):
                m.d.sync += u.eq(0)
            with m.Elif(self.value[12:] != 0):
                m.d.sync += u.eq(4095)
            with m.Else():
                m.d.sync += u.eq(self.value)
        with m.If(self.enable[1]):
            m.d.sync += [base.eq(bases[u[3:8]]), drop.eq(drops[u[3:8]]), remainder.eq(u[:3]), octave[0].eq(u[8:])]
        with m.If(self.enable[2]):
            m.d.sync += [product.eq(sum(_times(drop, remainder))), base_1.eq(base), octave[1].eq(octave[0])]
        with m.If(self.enable[3]):
            m.d.sync += [mantissa.eq(base_1 - product), octave[2].eq(octave[1])]
        half = Signal(9)
        m.d.comb += half.eq(mantissa >> 9 >> octave[2])
        with m.If(self.enable[4]):
            m.d.sync += self.result.eq(Mux(self.keep, (half + 1) >> 1, 0))
        return m

