"""GELU and the softmax numerator: chords of one unit, see ``docs/numerics.md``."""

import math

from amaranth import Array, C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CURVE_LATENCY", "Curve", "chord_table"]

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


#: By the piece, and above it whether it is one of the exponential. The GELU's rounding is part of its bases.
_BASES = Array([*(C(base + 32, 18) for base, _ in GELU_TABLE), *(C(base, 18) for base, _ in EXPONENTIAL_TABLE)])
_SLOPES = Array([C(slope, signed(11)) for _, slope in GELU_TABLE + EXPONENTIAL_TABLE])


def _times(value, factor):
    """``value * factor`` as two summands, for an unsigned ``factor`` of few bits, which is not worth a multiplier."""
    rows = [Mux(bit, value << index, 0) for index, bit in enumerate(factor)]
    half = (len(rows) + 1) // 2
    return sum(rows[:half]), sum(rows[half:])


class Curve(wiring.Component):
    """A value on its way to the second scale, CURVE_LATENCY cycles long, one a cycle: through the GELU, into a softmax
    numerator, or as it is.

    GELU(x) is ``max(x, 0) - d(|x|)`` and the exponential ``2**-n`` times a mantissa: ``d`` and the mantissa are both
    ``BASE[i] + SLOPE[i] * r`` of a table of 32 chords.

    Members
    -------
    enable, bends : in, 5 bits
        Bit i clocks stage i; of a value that passes as it is, only bits of ``enable`` are high.
    gelu : in
        Beside ``value``: it goes through the GELU.
    exponential : in, 5 bits
        Bit i: the value in stage i becomes a numerator.
    value : in, signed 18 bits
        Of GELU, ``saturate(value, 16)`` with 8 fraction bits counts; of the exponential ``clamp(value, 0, 4095)``.
    keep : in
        The column is not masked; as the following, wanted in the last stage, four cycles after ``value``.
    adds, residual : in, and signed 8 bits
        ``residual`` is the operand, and the value passes by.
    shifted, zero_point : in, and signed 8 bits
        ``zero_point`` is what passes by.
    operand : out, signed 18 bits
        Of the second scale: of GELU its g, with 10 fraction bits.
    bypass : out, signed 18 bits
        What is added to the second scale's result: the numerator, a zero point, or the value as it is.
    """

    enable: In(CURVE_LATENCY)
    bends: In(CURVE_LATENCY)
    gelu: In(1)
    exponential: In(CURVE_LATENCY)
    value: In(signed(18))
    keep: In(1)
    adds: In(1)
    residual: In(signed(8))
    shifted: In(1)
    zero_point: In(signed(8))
    operand: Out(signed(18))
    bypass: Out(signed(18))

    def elaborate(self, platform):
        m = Module()
        value, sign = self.value, self.value[-1]
        passing = [Signal(signed(18), name=f"passing_{i}", reset_less=True) for i in range(4)]
        near = [Signal(name=f"near_{i}", reset_less=True) for i in range(4)]  # the chord counts
        octave = [Signal(4, name=f"octave_{i}", reset_less=True) for i in range(4)]
        index, remainder, remainder_1 = (Signal(5, name=name, reset_less=True) for name in (
            "index", "remainder", "remainder_1"))
        base, base_1 = (Signal(18, name=name, reset_less=True) for name in ("base", "base_1"))
        slope = Signal(signed(11), reset_less=True)
        products = [Signal(signed(16), name=f"product_{i}", reset_less=True) for i in range(2)]
        chord = Signal(signed(19), reset_less=True)

        # 1: piece and remainder. Of max(x, 0), 15 bits matter; of |x|, 10, and whether these are all.
        high = value[10:]
        positive = Mux(sign, 0, Mux(value[15:17].any(), C(2**15 - 1, 15), value[:15]))
        magnitude = Signal(10)
        u = Signal(12)
        m.d.comb += [
            magnitude.eq((value[:10] ^ sign.replicate(10)) + sign),
            u.eq(Mux(sign, 0, value[:12] | value[12:17].any().replicate(12))),
        ]
        with m.If(self.enable[0]):
            m.d.sync += [
                passing[0].eq(Mux(self.gelu, positive << 2, value)),
                near[0].eq(self.gelu & (~high.any() | (high.all() & value[:10].any()))),
            ]
        with m.If(self.bends[0]):
            m.d.sync += [
                Cat(remainder, index).eq(Mux(self.exponential[0], Cat(u[:3], C(0, 2), u[3:8]), magnitude)),
                octave[0].eq(u[8:]),
            ]
        # 2: the chord.
        with m.If(self.bends[1]):
            of_piece = Cat(index, self.exponential[1])
            m.d.sync += [base.eq(_BASES[of_piece]), slope.eq(_SLOPES[of_piece]), remainder_1.eq(remainder)]
        # 3, 4: its value.
        with m.If(self.bends[2]):
            m.d.sync += [base_1.eq(base), *(product.eq(part) for product, part in zip(
                products, _times(slope, remainder_1), strict=True))]
        with m.If(self.bends[3]):
            m.d.sync += chord.eq(base_1 + (products[0] + products[1]))
        for stage in range(1, 4):
            with m.If(self.enable[stage]):
                m.d.sync += [passing[stage].eq(passing[stage - 1]), near[stage].eq(near[stage - 1])]
            with m.If(self.bends[stage]):
                m.d.sync += octave[stage].eq(octave[stage - 1])
        # 5: what is made of it.
        half = Signal(9)
        m.d.comb += half.eq(chord[:18] >> 9 >> octave[3])
        with m.If(self.enable[4]):
            m.d.sync += self.operand.eq(passing[3] - Mux(near[3], chord >> 6, 0))
            with m.If(self.adds):
                m.d.sync += self.operand.eq(self.residual)
            m.d.sync += self.bypass.eq(Mux(self.shifted, self.zero_point, passing[3]))
            with m.If(self.exponential[4]):
                m.d.sync += self.bypass.eq(Mux(self.keep, ((half + 1) >> 1)[:8], 0))
        return m
