"""One lane of the vector pipeline, from a column's accumulator to its result. Stages as in ``engine.py``."""

from dataclasses import dataclass
from typing import Any

from amaranth import Array, C, Cat, Mux, Signal, signed
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..isa import Function
from ..parts.multiplier import registered_product
from ..parts.shared import Shared
from ..parts.square import Square
from .curves import Curve
from .issuer import GROUP_SPACING
from .scale import FirstScale, SecondScale
from .stages import HELD, OPERANDS, RESCALED, RESULT, SCALED, SECOND, Stages

__all__ = ["Lane", "LaneInputs", "RowOperands", "chosen"]


def chosen(values, index):
    """``values[index]``; the number of values is a power of two."""
    return Array(values)[index[:exact_log2(len(values))]] if len(values) > 1 else values[0]


@dataclass(frozen=True)
class RowOperands:
    """What the row, or the instruction, gives to the first scale of every lane, in stage OPERANDS - 1.

    ``by_row``: take ``addend``, ``multiplier`` and ``shift`` from here, not from the column's parameters.
    ``negate``: subtract the accumulator.
    """

    by_row: Signal
    negate: Signal
    addend: Signal
    multiplier: Signal
    shift: Signal


@dataclass(frozen=True)
class LaneInputs:
    """A lane's operands.

    ``column``, its accumulator in stage OPERANDS - 1, and the ``byte`` of it that RAW wants; ``operand``, a byte in
    stage SECOND - 1; ``first``, ``second`` and ``kept``, parameters and mask as fetched; ``row``; ``seen`` and
    ``seen_late``, whether a causal mask leaves it, in stages OPERANDS and SECOND - 1; ``width``, of the curve's pieces,
    in stage SCALED; ``narrow``, whether the result has 8 bits, in stage RESULT - 1.
    """

    column: Any
    byte: Any
    operand: Any
    first: Any
    second: Any
    kept: Any
    row: RowOperands
    seen: Any
    seen_late: Any
    width: Any
    narrow: Any


class Lane:
    """Adds a lane to module ``m``.

    Attributes
    ----------
    unmasked : signed 32 bits
        The accumulator, or the smallest number where masked, in stage OPERANDS of ROW_MAXIMUM.
    index, chord
        To and from the loaded curve, as those of :class:`~celosia.hdl.vector.curves.Curve`.
    result : signed 16 bits
        In stage RESULT: int16 of RESIDUAL and of wide results, uint8 of EXPONENTIAL (if wide, 12 bits) and RAW, else
        int8. Where the upper byte of a result is wanted, it is the lower byte of this.
    square : 31 bits, or more that are 0
        Of ``result``, one stage later.
    """

    def __init__(self, m, platform, config: AcceleratorConfig, stages: Stages, lane: int, inputs: LaneInputs):
        self._m, self._platform, self._stages, self._lane = m, platform, stages, lane
        self._hold_parameters(inputs)
        scaled = self._first_scale(inputs)
        operand, bypass = self._curve(scaled, inputs)
        self._finish(self._second_scale(operand), bypass, inputs)
        if config.fused:
            square = self._shared("square", Square, 16)
            self.square = self._register(31, "square")
            m.d.comb += square.value.eq(self.result)
            m.d.sync += self.square.eq(square.result)
        else:
            self.square = registered_product(m, platform, f"square_{lane}", self.result, self.result)

    def _register(self, shape, name):
        return Signal(shape, name=f"{name}_{self._lane}", reset_less=True)

    def _shared(self, name, kind, *arguments):
        """A function of the lane, whose module all lanes share."""
        shared = self._m.submodules[f"{name}_{self._lane}"] = Shared(name, kind, *arguments)
        return shared.component

    def _copied(self, stage, name, value, trait):
        """A parameter for the beats from ``stage`` on: copied when the first of its group comes by."""
        register = self._register(value.shape(), name)
        with self._m.If(self._stages.new_group[stage - 1] & self._stages.has(stage - 1, trait)):
            self._m.d.sync += register.eq(value)
        return register

    def _hold_parameters(self, inputs):
        """The mask, and the second record, from the feeder. A group comes GROUP_SPACING cycles after the one before at
        the soonest, PARAMETER_SPACING where it has records: that is how long a register is good for."""
        keep, self._keep = inputs.kept, {}
        for stage in [*range(OPERANDS, SECOND - 1, GROUP_SPACING), SECOND - 1]:
            keep = self._keep[stage] = self._copied(stage, f"keep_{stage}", keep, "mask")

        # The zero point of REQUANTISE, which has no second record, goes through the second scale as an offset.
        first, second = inputs.first, inputs.second
        has_second = self._stages.has(HELD - 1, "second")

        def held(name, value, otherwise):
            return self._copied(HELD, name, Mux(has_second, value, otherwise), "second_scale")

        multiplier = held("held_multiplier", second.multiplier, C(0, signed(16)))
        offset = held("held_offset", second.offset, (first.zero_point << 1).as_signed())
        less_one = held("held_shift", (second.shift[:5] - 1)[:5], C(0, 5))
        zero_point = self._copied(HELD, "held_zero_point", second.zero_point, "second")

        # From there each to the stage that uses it.
        self._zero_point = self._copied(SECOND - 1, "zero_point", zero_point, "second")
        self._multiplier2 = self._copied(SECOND, "multiplier2", multiplier, "second_scale")
        self._offset2 = self._copied(SECOND + 1, "offset2", offset, "second_scale")
        shift = self._copied(SECOND + 1, "shift2", less_one, "second_scale")
        self._coarse2 = self._copied(SECOND + 2, "coarse2", shift[3:5], "second_scale")
        self._fine2 = self._copied(SECOND + 3, "fine2", shift[:3], "second_scale")

    def _first_scale(self, inputs):
        """The accumulator and what the row says, or the column, once for each group: straight into the registers that
        the first scale reads."""
        m, stages, row, first, here = self._m, self._stages, inputs.row, inputs.first, OPERANDS - 1
        accumulator, addend = (self._register(signed(32), name) for name in ("accumulator", "addend"))
        multiplier, shift = self._register(16, "multiplier"), self._register(6, "shift")
        negate = self._register(1, "negate")
        with m.If(stages.valid[here]):
            m.d.sync += [
                accumulator.eq(Mux(stages.is_(here, Function.RAW), inputs.byte, inputs.column)), negate.eq(row.negate)]
        with m.If(stages.valid[here] & row.by_row):
            m.d.sync += [addend.eq(row.addend), multiplier.eq(row.multiplier), shift.eq(row.shift)]
        with m.Elif(stages.new_group[here] & stages.has(here, "first")):
            m.d.sync += [addend.eq(first.bias), multiplier.eq(first.multiplier), shift.eq(first.shift[:6])]

        self.unmasked = Signal(signed(32), name=f"unmasked_{self._lane}")
        m.d.comb += self.unmasked.eq(Mux(self._keep[OPERANDS] & inputs.seen, accumulator, -2**31))
        scale = self._shared("first_scale", FirstScale)
        m.d.comb += [
            scale.accumulator.eq(accumulator),
            scale.addend.eq(addend),
            scale.negate.eq(negate),
            scale.multiplier.eq(multiplier),
            scale.shift.eq(shift),
        ]
        return scale.result

    def _curve(self, scaled, inputs):
        """The operand of the second scale, and what passes it by, in stage SECOND."""
        m, stages, last = self._m, self._stages, SECOND - 1
        loaded = Function.ACTIVATION, Function.GATED
        # The second operand: its lower bytes have come first, if it is wide. GATED multiplies by it.
        lower = self._register(8, "operand_lower")
        operand = Signal(signed(16), name=f"operand_{self._lane}")
        with m.If(stages.fetches[last]):
            m.d.sync += lower.eq(inputs.operand)
        m.d.comb += operand.eq(Mux(
            stages.wide_operand[last], Cat(lower, inputs.operand).as_signed(), inputs.operand.as_signed()))
        with m.If(stages.runs(last, Function.GATED)):
            m.d.sync += self._multiplier2.eq(operand)

        curve = self._shared("curve", Curve)
        self.index, self.chord = curve.index, curve.chord
        m.d.comb += [
            curve.bends.eq(stages.runs(SCALED, Function.GELU, Function.EXPONENTIAL, *loaded)),
            curve.activates.eq(stages.is_(SCALED, Function.GELU, *loaded)),
            curve.width.eq(inputs.width),
            curve.loaded.eq(stages.is_(SCALED + 1, *loaded)),
            curve.exponential.eq(Cat(stages.is_(stage, Function.EXPONENTIAL) for stage in range(SCALED, SECOND))),
            curve.value.eq(scaled),
            curve.keep.eq(self._keep[last] & inputs.seen_late),
            curve.wide.eq(stages.wide[last]),
            curve.adds.eq(stages.is_(last, Function.RESIDUAL)),
            curve.added.eq(operand),
            curve.shifted.eq(stages.has(last, "second") & ~stages.is_(last, Function.RESIDUAL)),
            curve.zero_point.eq(self._zero_point),
        ]
        return curve.operand, curve.bypass

    def _second_scale(self, operand):
        """Its result, in stage RESCALED."""
        m = self._m
        scale = self._shared("second_scale", SecondScale)
        m.d.comb += [
            scale.x.eq(operand),
            scale.multiplier.eq(self._multiplier2),
            scale.offset.eq(self._offset2),
            scale.coarse.eq(self._coarse2),
            scale.fine.eq(self._fine2),
        ]
        return scale.result

    def _finish(self, rescaled, bypass, inputs):
        m, stages = self._m, self._stages
        for stage in range(SECOND, RESCALED):
            register = self._register(signed(18), f"bypass_{stage + 1}")
            m.d.sync += register.eq(bypass)
            bypass = register
        total = self._register(signed(19), "total")
        m.d.sync += total.eq(Mux(stages.has(RESCALED, "second_scale"), rescaled, 0) + bypass)
        self.result = self._register(signed(16), "result")
        last = RESULT - 1
        # Saturated to 16 bits, to 8, or as it is. Bits above the 8 are copies of the sign.
        sign, narrow = total[-1], inputs.narrow
        beyond = [(total[bits - 1:-1] != sign.replicate(19 - bits)) for bits in (8, 16)]
        as_it_is = stages.is_(last, Function.EXPONENTIAL, Function.RAW)
        clipped = Signal(name=f"clipped_{self._lane}")
        m.d.comb += clipped.eq(~as_it_is & Mux(narrow, *beyond))
        limit = Cat((~sign).replicate(7), Mux(narrow, sign, ~sign).replicate(8), sign)
        result = Mux(clipped, limit, total[:16]).as_signed()
        m.d.sync += self.result.eq(Mux(stages.upper[last], result >> 8, result))
