"""What the vector engine knows of a row: from the row's sums to the entry of the row table."""

import math

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..enums import Enum
from ..parts.multiplier import registered_product
from ..parts.ram import Rom
from ..parts.resets import without_reset
from .scale import saturated

__all__ = ["ROW_UNIT_LATENCY", "RowEntry", "RowKind", "RowUnit", "SquaresLayout", "sum_bits"]

ROW_UNIT_LATENCY = 22


class RowKind(Enum, shape=2):
    """What a row's sums become."""

    MAXIMUM = 0
    RECIPROCAL = 1
    NORMALISE = 2


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
    """Base (19 fraction bits) and drop of 64 pieces; ``function(i)`` for i = 0..63 gives a piece's ends."""
    ends = [function(i) for i in range(64)]
    bases = [round(2**19 * left) for left, _ in ends]
    drops = [round(2**19 * left) - round(2**19 * right) for left, right in ends]
    return bases, drops


def _reciprocal_ends(i: int) -> tuple[float, float]:
    return 1 / (1 + i / 64), 1 / (1 + (i + 1) / 64)


def _square_root_ends(i: int) -> tuple[float, float]:
    octave = 2 if i >= 32 else 1
    return (1 / math.sqrt(octave * (1 + i % 32 / 32)), 1 / math.sqrt(octave * (1 + (i % 32 + 1) / 32)))


class RowUnit(wiring.Component):
    """Softmax reciprocal, LayerNorm mean and reciprocal square root of ``docs/numerics.md``; ROW_UNIT_LATENCY cycles,
    one row a cycle.

    Members
    -------
    valid, kind : in
        A row's sums are here, to become what ``kind`` says.
    first : in, signed 32 bits
        The maximum, the sum of the numerators, or the sum of h.
    squares : in
        The sum of h * h.
    multiplier, shift : in
        256 / N of the NORMALISE rows; may change only while none is on its way.
    written : out
        ``entry`` is to be stored in the row table.
    entry : out, RowEntry
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "valid": In(1),
            "kind": In(RowKind),
            "first": In(signed(32)),
            "squares": In(SquaresLayout(config.max_n)),
            "multiplier": In(16),
            "shift": In(6),
            "written": Out(1),
            "entry": Out(RowEntry),
        })

    def elaborate(self, platform):
        config = self.config
        m = Module()
        width = 31 + exact_log2(config.max_n)
        sum_width = sum_bits(config)
        valid = Signal(ROW_UNIT_LATENCY)
        m.d.sync += valid.eq(Cat(self.valid, valid))
        clock = [self.valid, *(valid[i] for i in range(ROW_UNIT_LATENCY - 1))]  # clock[i] clocks stage i + 1

        def carried(value, start, stop, name):
            """``value``, which is visible in stage ``start``, in the stages start to stop."""
            stages = {start: value}
            for stage in range(start + 1, stop + 1):
                register = Signal.like(value, name=f"{name}_{stage}", reset_less=True)
                with m.If(clock[stage - 1]):
                    m.d.sync += register.eq(stages[stage - 1])
                stages[stage] = register
            return stages

        def register(stage, shape, value, name):
            signal = Signal(shape, name=f"{name}_{stage}", reset_less=True)
            with m.If(clock[stage - 1]):
                m.d.sync += signal.eq(value)
            return signal

        kind = carried(self.kind.as_value(), 0, 18, "kind")
        first = carried(self.first, 0, 10, "first")
        squares = register(1, width, self.squares.low + (self.squares.high << 16), "squares")
        squares = carried(squares, 1, 8, "squares")

        def product(stage, left, right, name):
            return registered_product(m, platform, f"{name}_{stage}", left, right, clock[stage - 1])

        # The mean with 8 fraction bits: sum * (256 / N). Wide products are made of ones that fit a hardware multiplier.
        total = first[0][:sum_width].as_signed()
        low = product(1, total[:17], self.multiplier, "by_count_low")
        high = product(1, total[17:].as_signed(), self.multiplier, "by_count_high")
        by_count = register(2, signed(sum_width + 17), (high << 17) + low, "by_count")
        less_one = Signal(6, reset_less=True)
        m.d.sync += less_one.eq(self.shift - 1)  # it has long been what it is
        coarse = register(3, signed(sum_width + 17), by_count >> (less_one & 0b111000), "coarse")
        fine = register(4, signed(27), coarse >> less_one[:3], "fine")
        mean8 = carried(register(5, signed(26), (fine + 1) >> 1, "mean8"), 5, 8, "mean8")

        # The sum of squared deviations, and the mean as an integer.
        total = first[5][:sum_width].as_signed()
        lows = product(6, mean8[5][:17], total[:17], "lows")
        highs = product(6, mean8[5][17:].as_signed(), total[17:].as_signed(), "highs")
        crosses = [product(6, mean8[5][17:].as_signed(), total[:17], "cross_0"),
                   product(6, mean8[5][:17], total[17:].as_signed(), "cross_1")]
        straight = register(7, signed(26 + sum_width), Cat(lows, highs).as_signed(), "straight")
        cross = register(7, signed(sum_width + 2), crosses[0] + crosses[1], "cross")
        # `squares - ((correction + 128) >> 8)`, the correction being `straight + (cross << 17)`: bits from 33 on (25 of
        # the difference) come a stage after those below them.
        correction = register(8, 27, Cat(straight[7:17], straight[17:33] + cross[:16]), "correction")  # from bit 7 on
        straight_high = register(8, signed(sum_width - 7), straight[33:].as_signed(), "straight_high")
        cross_high = register(8, signed(sum_width - 14), cross[16:].as_signed(), "cross_high")
        correction_high = register(
            9, signed(sum_width - 7), straight_high + cross_high + correction[26], "correction_high")
        squares_high = register(9, width - 25, squares[8][25:], "squares_high")
        difference = register(9, 26, squares[8][:25] + ~correction[1:26] + ~correction[0], "difference")
        difference_high = register(
            10, signed(width - 23), squares_high + ~correction_high + difference[25], "difference_high")
        deviations = Cat(register(10, 25, difference[:25], "difference_low"), difference_high[:-2])
        below_64 = difference_high[-1] | ~Cat(deviations[6:], difference_high[-2]).any()
        mean = Signal(signed(19))
        m.d.comb += mean.eq((mean8[8] + 128) >> 8)
        mean = register(9, signed(16), saturated(mean, 16), "mean")
        # A maximum goes on as an addend (its upper half) and as a number that is not shifted (its lower half).
        addend = Mux(kind[9] == RowKind.NORMALISE, -mean, Mux(kind[9] == RowKind.MAXIMUM, first[9] >> 16, 0))
        addend = carried(register(10, signed(17), addend, "addend"), 10, 21, "addend")

        # The number whose reciprocal (square root) is wanted, at least 1 (64).
        is_zero = register(10, 1, first[9] == 0, "is_zero")
        number = Signal(width)
        with m.If(kind[10] == RowKind.NORMALISE):
            m.d.comb += number.eq(Mux(below_64, 64, deviations))
        with m.Else():
            m.d.comb += number.eq(Mux(is_zero & (kind[10] != RowKind.MAXIMUM), 1, first[10]))
        number = register(11, width, number, "number")

        # Bring its leading one to the top: binary search; the last two steps share a stage.
        zeros = 0
        zeros_bits = 6
        stage = 11
        stage_after = {32: 12, 16: 13, 8: 14, 4: 15, 1: 16}
        for step in (step for step in (32, 16, 8, 4, 2, 1) if step < width):
            shifted, count = Signal(width, name=f"shifted_{step}"), Signal(zeros_bits, name=f"count_{step}")
            empty = (number[-step:] == 0) & (kind[stage] != RowKind.MAXIMUM)
            m.d.comb += [shifted.eq(Mux(empty, number << step, number)), count.eq(zeros + Mux(empty, step, 0))]
            number, zeros = shifted, count
            if step in stage_after:
                stage = stage_after[step]
                number = register(stage, width, number, "number")
                zeros = register(stage, zeros_bits, zeros, "zeros")
        logarithm = Signal(zeros_bits)
        m.d.comb += logarithm.eq(width - 1 - zeros)

        # Table and interpolation.
        root_bases, root_drops = _interpolation_table(_square_root_ends)
        bases, drops = _interpolation_table(_reciprocal_ends)
        below = number[:-1][-20:]
        normalises = kind[16] == RowKind.NORMALISE
        index = register(17, 7, Mux(normalises, Cat(below[15:], logarithm[0], 1), Cat(below[14:], 0)), "index")
        remainder = register(17, 8, Mux(normalises, below[7:15], below[6:14]), "remainder")
        remainder = carried(remainder, 17, 19, "remainder")
        m.submodules.table = table = Rom(34, [base | drop << 20 for base, drop in zip(
            bases + root_bases, drops + root_drops, strict=True)], "celosia_reciprocals")
        m.d.comb += [table.read_enable.eq(clock[17]), table.read_address.eq(index)]
        maximum, is_maximum = carried(number[:16], 16, 18, "maximum")[18], kind[18] == RowKind.MAXIMUM
        base = register(19, 20, Mux(is_maximum, maximum << 4, table.read_data[:20]), "base")
        base = carried(base, 19, 20, "base")
        drop = register(19, 14, Mux(is_maximum, 0, table.read_data[20:]), "drop")
        shift = carried(register(17, 6, Mux(normalises, (logarithm >> 1) - 2, logarithm + 6), "shift"),
                        17, 21, "shift")
        fall = product(20, drop, remainder[19], "fall")[8:]

        m.d.comb += self.written.eq(valid[-1])
        interpolated = register(21, 20, base[20] - fall + 8, "interpolated")
        entry = without_reset(m, self.entry)
        with m.If(clock[21]):
            m.d.sync += [
                entry.multiplier.eq(interpolated[4:]), entry.addend.eq(addend[21]), entry.shift.eq(shift[21])]
        return m
