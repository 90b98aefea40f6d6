"""The two requantisations of a vector lane: wide product, rounding shift, saturation."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..parts.multiplier import registered_product

__all__ = ["FIRST_SCALE_LATENCY", "SECOND_SCALE_LATENCY", "FirstScale", "SecondScale", "saturated"]

FIRST_SCALE_LATENCY = 6
SECOND_SCALE_LATENCY = 5


def saturated(value, bits: int):
    """``saturate(value, bits)`` of ``docs/numerics.md`` for a signed value of more than ``bits`` bits."""
    sign = value[-1]
    fits = (value[bits - 1:-1] == sign.replicate(len(value) - bits))
    return Mux(fits, value[:bits], _limit(sign, bits)).as_signed()


def _limit(sign, bits: int):
    """The number of ``bits`` bits that is farthest from 0 on the side of ``sign``."""
    return Mux(sign, C(1 << bits - 1, bits), C((1 << bits - 1) - 1, bits))


class CoarseShift:
    """Adds a register to module ``m``: ``value`` shifted right by ``bytes`` bytes.

    What is then shifted by up to 7 bits more and saturated to 19 needs 26 bits of it, its sign, and whether it has
    more: that is found beside the shift.
    """

    _KEPT = 26

    def __init__(self, m, value, bytes):
        sign = value[-1]
        self._value = Signal(self._KEPT, name="coarse", reset_less=True)
        self._sign, self._beyond = Signal(name="coarse_sign", reset_less=True), Signal(name="beyond", reset_less=True)
        # A byte above the kept ones that is no copy of the sign matters if it is not shifted down to them.
        differs = [(value[low:low + 8] != sign.replicate(min(8, len(value) - low)))
                   for low in range(self._KEPT, len(value), 8)]
        matters = [different & (bytes <= index) for index, different in enumerate(differs)]
        m.d.sync += [
            self._value.eq(value >> Cat(C(0, 3), bytes)), self._sign.eq(sign), self._beyond.eq(Cat(matters).any())]

    def shifted(self, bits):
        """``saturate(value >> bits, 19)``, for ``bits`` from 0 to 7."""
        sign, fine = self._sign, Cat(self._value, self._sign).as_signed() >> bits
        # A bit that is no copy of the sign matters if it is not shifted below bit 18: found beside the shift.
        above = self._KEPT - 18
        matters = (self._value[18:] ^ sign.replicate(above)) & (C(-1, above) << bits)[:above]
        return Mux(self._beyond | matters.any(), _limit(sign, 19), fine[:19]).as_signed()


class FirstScale(wiring.Component):
    """``result = scale1(accumulator + addend, multiplier, shift)``, or with ``negate``
    ``scale1(addend - accumulator, ...)``; FIRST_SCALE_LATENCY cycles later, one a cycle. Its registers need no
    enables: while nothing comes, what came last stays at the inputs.

    Members
    -------
    accumulator, addend : in, signed 32 bits
        Their sum (difference) fits 33 bits.
    negate : in
    multiplier : in, unsigned 16 bits
    shift : in, from 1 to 47
    result : out, signed 18 bits
    """

    accumulator: In(signed(32))
    addend: In(signed(32))
    negate: In(1)
    multiplier: In(16)
    shift: In(6)
    result: Out(signed(18))

    def elaborate(self, platform):
        m = Module()
        # 1: the sum. The shift is by one less; the last bit is for rounding.
        x = Signal(signed(33), reset_less=True)
        multiplier = Signal(16, reset_less=True)
        shift = [Signal(6, name=f"shift_{i}", reset_less=True) for i in range(4)]
        m.d.sync += [
            x.eq(Mux(self.negate, ~self.accumulator, self.accumulator) + self.addend + self.negate),
            multiplier.eq(self.multiplier),
            *(later.eq(earlier) for earlier, later in zip([self.shift - 1, *shift], shift, strict=False)),
        ]
        # 2: two partial products that fit a hardware multiplier each, or two.
        low = registered_product(m, platform, "low", x[:16], multiplier)
        high = registered_product(m, platform, "high", x[16:].as_signed(), multiplier)
        # 3: the product.
        product = Signal(signed(49), reset_less=True)
        m.d.sync += product.eq(Cat(low[:16], high + low[16:]))
        # 4: shift by whole bytes; see whether more is left than the next stage has room for.
        coarse = CoarseShift(m, product, shift[2][3:])
        # 5: shift by bits, keep one for rounding.
        half = Signal(signed(19), reset_less=True)
        m.d.sync += half.eq(coarse.shifted(shift[3][:3]))
        # 6: round.
        rounded = Signal(signed(19))
        m.d.comb += rounded.eq((half + 1) >> 1)
        m.d.sync += self.result.eq(saturated(rounded, 18))
        return m


class SecondScale(wiring.Component):
    """``result = scale2(x, offset, multiplier, shift)``, SECOND_SCALE_LATENCY cycles later, one a cycle, without
    enables as in :class:`FirstScale`.

    A column's parameters change between beats; each is wanted in the stage that uses it, so that it need not
    travel: ``offset`` one cycle after ``multiplier``, and the two parts of ``shift`` two and three cycles after.

    Members
    -------
    x : in, signed 18 bits
    multiplier : in, signed 16 bits
    offset : in, signed 32 bits
    coarse, fine : in, 2 and 3 bits
        ``shift - 1``, its upper and its lower bits.
    result : out, signed 18 bits
    """

    x: In(signed(18))
    multiplier: In(signed(16))
    offset: In(signed(32))
    coarse: In(2)
    fine: In(3)
    result: Out(signed(18))

    def elaborate(self, platform):
        m = Module()
        total = Signal(signed(35), reset_less=True)
        half = Signal(signed(19), reset_less=True)
        rounded = Signal(signed(19))
        m.d.comb += rounded.eq((half + 1) >> 1)
        product = registered_product(m, platform, "product", self.x, self.multiplier)
        m.d.sync += total.eq(product + self.offset)
        coarse = CoarseShift(m, total, self.coarse)
        m.d.sync += [half.eq(coarse.shifted(self.fine)), self.result.eq(saturated(rounded, 18))]
        return m
