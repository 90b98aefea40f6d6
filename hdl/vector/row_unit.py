"""What the vector engine knows of a row: from the row's sums to the entry of the row table."""

import math

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..parts.multiplier import registered_product
from ..parts.ram import Rom
from ..parts.resets import without_reset
from .scale import saturated

__all__ = [
    "NORMALISE_LATENCY", "NORMALISE_SPACING", "ROW_UNIT_LATENCY", "RowEntry", "RowUnit", "SquaresLayout", "sum_bits"]

#: Cycles from a row's maximum, or the sum of its numerators, to its entry.
ROW_UNIT_LATENCY = 9
_DEVIATIONS = 10
#: Cycles from the sums of a row of LayerNorm to its entry, and from one such row to the next, at least.
NORMALISE_LATENCY = _DEVIATIONS + ROW_UNIT_LATENCY
NORMALISE_SPACING = 4


class RowEntry(data.Struct):
    """An entry of the row table: multiplier, shift and addend (minus the row's mean) of a FirstScale. A row maximum
    takes the lowest 32 bits of it instead."""

    multiplier: 16
    addend: signed(17)
    shift: 6


def sum_bits(config: AcceleratorConfig) -> int:
    """Width of a row's sum: of ``max_n`` numbers of int16, or of numerators, which is below 2**24."""
    return max(25, 16 + exact_log2(config.max_n))


class SquaresLayout(data.StructLayout):
    """The sum of ``count`` squares of int16, ``low + high * 2**16``: of their lower halves and of their upper ones, so
    that no carry goes a long way before the sum is complete."""

    def __init__(self, count: int):
        growth = exact_log2(count)
        super().__init__({"low": 16 + growth, "high": 15 + growth})


def _interpolation_table(function) -> tuple[list[int], list[int]]:
    """Base (19 fraction bits, with the 8 that round it) and drop of 64 pieces; ``function(i)`` for i = 0..63 gives a
    piece's ends."""
    ends = [function(i) for i in range(64)]
    bases = [round(2**19 * left) + 8 for left, _ in ends]
    drops = [round(2**19 * left) - round(2**19 * right) for left, right in ends]
    return bases, drops


def _reciprocal_ends(i: int) -> tuple[float, float]:
    return 1 / (1 + i / 64), 1 / (1 + (i + 1) / 64)


def _square_root_ends(i: int) -> tuple[float, float]:
    octave = 2 if i >= 32 else 1
    return (1 / math.sqrt(octave * (1 + i % 32 / 32)), 1 / math.sqrt(octave * (1 + (i % 32 + 1) / 32)))


class RowUnit(wiring.Component):
    """Softmax reciprocal, LayerNorm mean and reciprocal square root of ``docs/numerics.md``.

    What becomes of a maximum, or of a sum of numerators, is one pipeline, which takes a row a cycle. A row of LayerNorm
    comes into it when its squared deviations have been worked out, by two multipliers in NORMALISE_SPACING cycles.

    Members
    -------
    valid, is_maximum : in
        ``value`` is here: a row's maximum, to be stored as it is, or the sum of its numerators.
    value : in, signed 32 bits
    has_sums : in
        ``total`` and ``squares`` are here: the sums of h and h * h of a row of LayerNorm.
    total : in, signed ``sum_bits``
    squares : in, SquaresLayout
    multiplier, shift : in
        256 / N of the rows of LayerNorm; may change only while none is on its way.
    written : out
        ``entry`` is to be stored in the row table: ROW_UNIT_LATENCY cycles after ``valid``, or NORMALISE_LATENCY after
        ``has_sums``.
    normalised : out
        It is one of LayerNorm.
    entry : out, RowEntry

    Rules
    -----
    1. Rows of LayerNorm are at least NORMALISE_SPACING cycles apart.
    2. No two rows are written in the same cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "valid": In(1),
            "is_maximum": In(1),
            "value": In(signed(32)),
            "has_sums": In(1),
            "total": In(signed(sum_bits(config))),
            "squares": In(SquaresLayout(config.max_n)),
            "multiplier": In(16),
            "shift": In(6),
            "written": Out(1),
            "normalised": Out(1),
            "entry": Out(RowEntry),
        })

    def elaborate(self, platform):
        m = Module()
        width = 31 + exact_log2(self.config.max_n)
        valid = Signal(ROW_UNIT_LATENCY)
        had_sums = Signal(NORMALISE_LATENCY)
        m.d.sync += [valid.eq(Cat(self.valid, valid)), had_sums.eq(Cat(self.has_sums, had_sums))]
        has_sums = [self.has_sums, *had_sums]  # [i]: a row's sums came i cycles ago
        deviations, mean = self._deviations(m, platform, has_sums, width)

        # From here on, stages are counted from `value`.
        is_root = has_sums[_DEVIATIONS:]
        is_maximum = self._carried(m, self.valid & self.is_maximum, 0, 6, "is_maximum")

        # 1: the number whose reciprocal (square root) is wanted, at least 1 (64).
        below_64 = deviations[-1] | ~deviations[6:].any()
        direct = Mux(~self.is_maximum & (self.value == 0), 1, self.value)
        number = Signal(width, reset_less=True)
        with m.If(self.valid | is_root[0]):
            m.d.sync += number.eq(Mux(is_root[0], Mux(below_64, 64, deviations), direct))

        # 2 to 4: bring its leading one to the top, by up to three times 16, 4 and 1 places.
        zeros: list[Signal] = []
        for stage, step in ((2, 16), (3, 4), (4, 1)):
            shifted, times = self._normalised(number, step, is_maximum[stage - 1])
            number = self._register(m, stage, width, shifted, "number")
            zeros = [
                self._register(m, stage, 2, value, f"zeros_{index}") for index, value in enumerate([*zeros, times])]
        logarithm = Signal(6)
        m.d.comb += logarithm.eq(width - 1 - Cat(reversed(zeros)))

        # 5 to 9: table and interpolation. A maximum rides in two halves, as an addend and as a base without a drop.
        root_bases, root_drops = _interpolation_table(_square_root_ends)
        bases, drops = _interpolation_table(_reciprocal_ends)
        below = number[:-1][-20:]
        index = self._register(
            m, 5, 7, Mux(is_root[4], Cat(below[15:], logarithm[0], 1), Cat(below[14:], 0)), "index")
        remainder = self._register(m, 5, 8, Mux(is_root[4], below[7:15], below[6:14]), "remainder")
        shift = self._register(m, 5, 6, Mux(is_root[4], (logarithm >> 1) - 2, logarithm + 6), "shift")
        addend = self._register(
            m, 5, signed(17), Mux(is_root[4], -mean, Mux(is_maximum[4], number[16:32], 0)), "addend")
        m.submodules.table = table = Rom(34, [base | drop << 20 for base, drop in zip(
            bases + root_bases, drops + root_drops, strict=True)], "celosia_reciprocals")
        m.d.comb += [table.read_enable.eq(1), table.read_address.eq(index)]
        maximum = self._carried(m, number[:16], 4, 6, "maximum")[6]
        base = self._register(m, 7, 20, Mux(is_maximum[6], maximum << 4, table.read_data[:20]), "base")
        drop = self._register(m, 7, 14, Mux(is_maximum[6], 0, table.read_data[20:]), "drop")
        remainder, shift, addend, base = (
            self._carried(m, value, start, stop, name)[stop] for name, value, start, stop in (
                ("remainder", remainder, 5, 7), ("shift", shift, 5, 8), ("addend", addend, 5, 8), ("base", base, 7, 8)))
        fall = registered_product(m, platform, "fall", drop, remainder)[8:]
        entry = without_reset(m, self.entry)
        m.d.comb += [self.written.eq(valid[-1] | is_root[-1]), self.normalised.eq(is_root[-1])]
        m.d.sync += [entry.multiplier.eq((base - fall)[4:]), entry.addend.eq(addend), entry.shift.eq(shift)]
        return m

    def _deviations(self, m, platform, has_sums, width):
        """The sum of squared deviations, signed, in the cycle _DEVIATIONS; the mean, four cycles later. Every register
        has a row for NORMALISE_SPACING cycles. Wide products are made of ones that fit a hardware multiplier."""
        def held(start, value, name):
            """A register for ``value`` of the cycle ``start - 1``, in cycles ``start`` to ``start + 3``."""
            register = Signal.like(value, name=f"{name}_{start}", reset_less=True)
            with m.If(has_sums[start - 1]):
                m.d.sync += register.eq(value)
            return register

        def halves(value):
            return value[:17], value[17:].as_signed()

        # 1 to 4: the mean with 8 fraction bits, sum * (256 / N): first the product of the upper half.
        total = held(1, self.total, "total")
        squares = Signal(width)
        m.d.comb += squares.eq(self.squares.low + (self.squares.high << 16))
        squares = held(5, held(1, squares, "squares"), "squares")
        low, high = halves(total)
        factor = Signal(signed(18))
        m.d.comb += factor.eq(Mux(has_sums[1], high, low))
        by_count = registered_product(m, platform, "by_count", factor, self.multiplier)
        upper = self._register(m, 3, signed(len(high) + 16), by_count, "upper")
        less_one = Signal(6, reset_less=True)
        m.d.sync += less_one.eq(self.shift - 1)  # it has long been what it is
        coarse = self._register(m, 4, signed(34), ((upper << 17) + by_count) >> (less_one & 0b111000), "coarse")
        fine = Signal(signed(27))
        m.d.comb += fine.eq(coarse >> less_one[:3])
        mean8 = held(5, ((fine + 1) >> 1)[:26].as_signed(), "mean8")

        # 5 to 8: its four products with the sum. Each is taken from the squares as soon as it is there. Of the
        # correction only bits from 7 on matter, so twice the deviations are `2 * squares - (correction >> 7)`.
        total = held(5, total, "total")
        left, right = (Signal(signed(18), name=name) for name in ("left", "right"))
        (mean_low, mean_high), (low, high) = halves(mean8), halves(total)
        m.d.comb += [left.eq(Mux(has_sums[7] | has_sums[8], mean_high, mean_low)),
                     right.eq(Mux(has_sums[6] | has_sums[8], high, low))]
        product = registered_product(m, platform, "product", left, right)
        part = Signal(signed(width + 3))
        with m.If(has_sums[6]):
            m.d.comb += part.eq(product >> 7)
        with m.Elif(has_sums[9]):
            m.d.comb += part.eq(product << 27)
        with m.Else():
            m.d.comb += part.eq(product << 10)
        twice = Signal(signed(width + 3), reset_less=True)
        before = Signal(signed(width + 3))
        m.d.comb += before.eq(Mux(has_sums[6], squares << 1, twice))
        with m.If(Cat(has_sums[6:10]).any()):
            m.d.sync += twice.eq(self._difference(before, part))

        rounded = Signal(signed(19))
        m.d.comb += rounded.eq((mean8 + 128) >> 8)
        return twice[1:].as_signed(), held(13, held(9, saturated(rounded, 16), "mean"), "mean")

    @staticmethod
    def _difference(left, right, low=24):
        """``left - right``, as wide as ``left``: of the upper bits there are two, until the lower ones are known."""
        below = Cat(left[:low], 0) + ~Cat(right[:low], 0) + 1
        above, less = left[low:] + ~right[low:] + 1, left[low:] + ~right[low:]
        return Cat(below[:low], Mux(below[low], less, above)[:len(left) - low])

    @staticmethod
    def _register(m, stage, shape, value, name):
        signal = Signal(shape, name=f"{name}_{stage}", reset_less=True)
        m.d.sync += signal.eq(value)
        return signal

    def _carried(self, m, value, start, stop, name):
        """``value``, which is visible in stage ``start``, in the stages start to stop."""
        stages = {start: value}
        for stage in range(start + 1, stop + 1):
            stages[stage] = self._register(m, stage, value.shape(), stages[stage - 1], name)
        return stages

    @staticmethod
    def _normalised(number, step, is_maximum):
        """``number``, shifted by ``step`` places until one of its upper ``step`` bits is set, up to three times, and
        how often; a maximum stays where it is. Since the number is not 0, its last bits need not be looked at."""
        width = len(number)
        first, second = (~number[width - (place + 1) * step:width - place * step].any() for place in range(2))
        third = ~number[width - 3 * step:width - 2 * step].any() if width >= 3 * step else 0
        twice = first & second & ~is_maximum
        once = Mux(first & second, third, first) & ~is_maximum
        shifted = Mux(twice, number << 2 * step, number)[:width]
        return Mux(once, shifted << step, shifted)[:width], Cat(once, twice)
