"""Activations and the softmax numerator: chords of one unit, see ``docs/numerics.md``."""

import math

from amaranth import Array, C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CURVE_LATENCY", "GELU_WIDTH", "PIECE_WIDTHS", "Chord", "Curve", "chord_table"]

CURVE_LATENCY = 5
#: Binary logarithms of the lengths that pieces of a loaded curve may have, in steps.
PIECE_WIDTHS = range(3, 8)
#: That of GELU.
GELU_WIDTH = 5


class Chord(data.Struct):
    """A piece of a loaded curve: where it starts, with the 32 that round it, and its rise per step."""

    base: 15
    slope: signed(9)


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
    """``value * factor`` as two summands, for an unsigned ``factor`` of seven bits, which is not worth a multiplier."""
    rows = [Mux(bit, value << index, 0) for index, bit in enumerate(factor)]
    return (rows[0] + rows[1]) + (rows[2] + rows[3]), (rows[4] + rows[5]) + rows[6]


class Curve(wiring.Component):
    """A value on its way to the second scale, CURVE_LATENCY cycles long, one a cycle: through an activation, into a
    softmax numerator, or as it is.

    An activation is ``max(x, 0) - d(|x|)`` and the exponential ``2**-n`` times a mantissa: ``d`` and the mantissa are
    both ``BASE[i] + SLOPE[i] * r`` of a table of 32 chords. Registers have no enables but before the table, which rests
    while values pass as they are.

    Members
    -------
    bends : in
        Beside ``value``: it goes through an activation, or becomes a numerator.
    activates : in
        Beside ``value``: it goes through an activation.
    width : in, a bit for each of PIECE_WIDTHS
        Beside ``value``: that of the activation's pieces; of GELU 5.
    loaded : in
        A cycle later: the activation is the one of ``chord``, not GELU.
    index : out, 5 bits
    chord : in, Chord
        The piece ``index`` of the loaded curve, in the same cycle.
    exponential : in, 5 bits
        Bit i: the value in stage i becomes a numerator.
    value : in, signed 18 bits
        Of an activation, ``saturate(value, 16)`` with 8 fraction bits counts; of the exponential
        ``clamp(value, 0, 4095)``.
    keep : in
        The column is not masked; as the following, wanted in the last stage, four cycles after ``value``.
    wide : in
        The numerator has 12 bits.
    adds, added : in, and signed 16 bits
        ``added`` is the operand, and the value passes by.
    shifted, zero_point : in, and signed 8 bits
        ``zero_point`` is what passes by.
    operand : out, signed 18 bits
        Of the second scale: of an activation its g, with 10 fraction bits.
    bypass : out, signed 18 bits
        What is added to the second scale's result: the numerator, a zero point, or the value as it is.
    """

    bends: In(1)
    activates: In(1)
    width: In(len(PIECE_WIDTHS))
    loaded: In(1)
    index: Out(5)
    chord: In(Chord)
    exponential: In(CURVE_LATENCY)
    value: In(signed(18))
    keep: In(1)
    wide: In(1)
    adds: In(1)
    added: In(signed(16))
    shifted: In(1)
    zero_point: In(signed(8))
    operand: Out(signed(18))
    bypass: Out(signed(18))

    def elaborate(self, platform):
        m = Module()
        value, sign, widest = self.value, self.value[-1], PIECE_WIDTHS[-1]
        passing = [Signal(signed(18), name=f"passing_{i}", reset_less=True) for i in range(4)]
        near = [Signal(name=f"near_{i}", reset_less=True) for i in range(4)]  # the chord counts
        octave = [Signal(4, name=f"octave_{i}", reset_less=True) for i in range(4)]
        index = Signal(5, reset_less=True)
        remainder, remainder_1 = (Signal(widest, name=name, reset_less=True) for name in ("remainder", "remainder_1"))
        base, base_1 = (Signal(18, name=name, reset_less=True) for name in ("base", "base_1"))
        slope = Signal(signed(11), reset_less=True)
        products = [Signal(signed(16), name=f"product_{i}", reset_less=True) for i in range(2)]
        chord = Signal(signed(19), reset_less=True)
        m.d.comb += self.index.eq(index)

        # 1: piece and remainder. Of max(x, 0), 15 bits matter; of |x|, 12, and whether these are all.
        bits = widest + 5
        high = value[bits:]
        positive = Mux(sign, 0, Mux(value[15:17].any(), C(2**15 - 1, 15), value[:15]))
        magnitude = Signal(bits)
        u = Signal(12)
        inside = Signal()
        m.d.comb += [
            magnitude.eq((value[:bits] ^ sign.replicate(bits)) + sign),
            u.eq(Mux(sign, 0, value[:12] | value[12:17].any().replicate(12))),
            inside.eq(~high.any() | (high.all() & value[:bits].any())),
        ]
        piece = Signal(5)
        beyond = Signal()
        below = Signal(widest)
        for width, chosen in zip(PIECE_WIDTHS, self.width, strict=True):
            with m.If(chosen):
                m.d.comb += [
                    piece.eq(magnitude[width:width + 5]), below.eq(magnitude[:width]),
                    beyond.eq(magnitude[width + 5:].any())]
        m.d.sync += [
            passing[0].eq(Mux(self.activates, positive << 2, value)),
            near[0].eq(self.activates & inside & ~beyond),
        ]
        with m.If(self.bends):
            m.d.sync += [
                index.eq(Mux(self.exponential[0], u[3:8], piece)),
                remainder.eq(Mux(self.exponential[0], u[:3], below)),
                octave[0].eq(u[8:]),
            ]
        # 2: the chord.
        of_piece = Cat(index, self.exponential[1])
        m.d.sync += [
            base.eq(Mux(self.loaded, self.chord.base, _BASES[of_piece])),
            slope.eq(Mux(self.loaded, self.chord.slope, _SLOPES[of_piece])),
            remainder_1.eq(remainder),
        ]
        # 3, 4: its value.
        m.d.sync += [
            base_1.eq(base), *(product.eq(part) for product, part in zip(
                products, _times(slope, remainder_1), strict=True)),
            chord.eq(base_1 + (products[0] + products[1])),
        ]
        for stage in range(1, 4):
            m.d.sync += [register[stage].eq(register[stage - 1]) for register in (passing, near, octave)]
        # 5: what is made of it.
        half = Signal(13)
        m.d.comb += half.eq(chord[:18] >> 5 >> octave[3])
        m.d.sync += [
            self.operand.eq(Mux(self.adds, self.added, passing[3] - Mux(near[3], chord >> 6, 0))),
            self.bypass.eq(Mux(self.shifted, self.zero_point, passing[3])),
        ]
        with m.If(self.exponential[4]):
            m.d.sync += self.bypass.eq(Mux(self.keep, ((Mux(self.wide, half, half >> 4) + 1) >> 1)[:12], 0))
        return m
