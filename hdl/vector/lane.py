"""One lane of the vector pipeline, from a column's accumulator to its result. Stages as in ``vector.py``."""

from dataclasses import dataclass
from typing import Any

from amaranth import Array, Cat, Mux, Signal, signed
from amaranth.utils import exact_log2

from ..isa import Function
from ..parts.multiplier import registered_product
from ..parts.shared import Shared
from .curves import Exponential, Gelu
from .scale import FirstScale, SecondScale, saturated
from .stages import CURVED, OPERANDS, RESCALED, RESULT, SCALED, SECOND, Stages

__all__ = ["Lane", "LaneInputs", "RowOperands", "chosen"]


def chosen(values, index):
    """``values[index]``; the number of values is a power of two."""
    return Array(values)[index[:exact_log2(len(values))]] if len(values) > 1 else values[0]


@dataclass(frozen=True)
class RowOperands:
    """What the row, or the instruction, gives to the first scale of every lane, in stage OPERANDS.

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
    """A lane's operands: ``column``, its accumulator two stages before OPERANDS; ``residual``, a byte in stage CURVED;
    ``first``, ``second`` and ``kept``, parameters and mask as fetched; ``row``."""

    column: Any
    residual: Any
    first: Any
    second: Any
    kept: Any
    row: RowOperands


class Lane:
    """Adds a lane to module ``m``.

    Attributes
    ----------
    unmasked : signed 32 bits
        The accumulator, or the smallest number where masked, in stage OPERANDS + 1 of ROW_MAXIMUM.
    result : signed 16 bits
        In stage RESULT: int16 of RESIDUAL, uint8 of EXPONENTIAL, else int8.
    value, square : signed 17, 32 bits
        ``result`` and its square, one stage later, where a row's sums are wanted.
    """

    def __init__(self, m, platform, stages: Stages, lane: int, inputs: LaneInputs):
        self._m, self._platform, self._stages, self._lane = m, platform, stages, lane
        self._copy_parameters(inputs)
        scaled = self._first_scale(inputs)
        plain, gelu, exponential = self._curves(scaled)
        rescaled, bypass = self._second_scale(inputs, plain, gelu, exponential)
        self._finish(rescaled, bypass)

    def _register(self, shape, name):
        return Signal(shape, name=f"{name}_{self._lane}", reset_less=True)

    def _shared(self, name, kind):
        """A function of the lane, whose module all lanes share."""
        shared = self._m.submodules[f"{name}_{self._lane}"] = Shared(name, kind)
        return shared.component

    def _copied(self, stage, name, value, condition):
        """A parameter for the beats from ``stage`` on: copied when the first of its group comes by."""
        register = self._register(value.shape(), name)
        with self._m.If(self._stages.new_group[stage - 1] & condition):
            self._m.d.sync += register.eq(value)
        return register

    def _copy_parameters(self, inputs):
        has, first, second = self._stages.has, inputs.first, inputs.second
        used = has(OPERANDS - 1, "first")
        self._bias = self._copied(OPERANDS, "bias", first.bias, used)
        self._multiplier1 = self._copied(OPERANDS, "multiplier1", first.multiplier, used)
        self._shift1 = self._copied(OPERANDS, "shift1", first.shift[:6], used)
        self._keep1 = self._copied(OPERANDS, "keep1", inputs.kept, has(OPERANDS - 1, "mask"))
        self._keep2 = self._copied(CURVED - 1, "keep2", inputs.kept, has(CURVED - 2, "mask"))

        def rescaling(stage, name, value):
            return self._copied(stage, name, value, has(stage - 1, "second_scale"))

        less_one = second.shift[:5] - 1
        self._multiplier2 = rescaling(SECOND, "multiplier2", second.multiplier)
        self._offset2 = rescaling(SECOND + 1, "offset2", second.offset)
        self._coarse2 = rescaling(SECOND + 2, "coarse2", less_one[3:5])
        self._fine2 = rescaling(SECOND + 3, "fine2", less_one[:3])
        rescaled = has(RESCALED - 1, "second_scale")
        self._zero_point = self._copied(
            RESCALED, "zero_point", Mux(rescaled, second.zero_point, first.zero_point),
            rescaled | has(RESCALED - 1, "first"))

    def _first_scale(self, inputs):
        m, stages, row = self._m, self._stages, inputs.row
        # A register where the columns lie, and one where the lane does.
        column = self._register(signed(32), "column")
        accumulator = self._register(signed(32), "accumulator")
        with m.If(stages.valid[OPERANDS - 2]):
            m.d.sync += column.eq(inputs.column)
        with m.If(stages.valid[OPERANDS - 1]):
            m.d.sync += accumulator.eq(column)
        self.unmasked = self._register(signed(32), "unmasked")
        with m.If(stages.runs(OPERANDS, Function.ROW_MAXIMUM)):
            m.d.sync += self.unmasked.eq(Mux(self._keep1, accumulator, -2**31))

        # What the row says, or the column: chosen a stage before it is used, since lanes lie far apart.
        operand, addend = self._register(signed(32), "operand"), self._register(signed(32), "addend")
        multiplier, shift = self._register(16, "multiplier"), self._register(6, "shift")
        negate = self._register(1, "negate")
        with m.If(stages.valid[OPERANDS]):
            m.d.sync += [
                operand.eq(accumulator),
                addend.eq(Mux(row.by_row, row.addend, self._bias)),
                negate.eq(row.negate),
                multiplier.eq(Mux(row.by_row, row.multiplier, self._multiplier1)),
                shift.eq(Mux(row.by_row, row.shift, self._shift1)),
            ]
        scale = self._shared("first_scale", FirstScale)
        m.d.comb += [
            scale.enable.eq(Cat(stages.valid[OPERANDS + 1:SCALED])),
            scale.accumulator.eq(operand),
            scale.addend.eq(addend),
            scale.negate.eq(negate),
            scale.multiplier.eq(multiplier),
            scale.shift.eq(shift),
        ]
        return scale.result

    def _curves(self, scaled):
        """The scaled value as it is, through GELU, and through the exponential, in stage CURVED."""
        m, stages = self._m, self._stages
        gelu, exponential = self._shared("gelu", Gelu), self._shared("exponential", Exponential)
        plain = scaled
        for stage in range(SCALED, CURVED):
            m.d.comb += [
                gelu.enable[stage - SCALED].eq(stages.runs(stage, Function.GELU)),
                exponential.enable[stage - SCALED].eq(stages.runs(stage, Function.EXPONENTIAL)),
            ]
            register = self._register(signed(18), f"plain_{stage + 1}")
            with m.If(stages.valid[stage]):
                m.d.sync += register.eq(plain)
            plain = register
        m.d.comb += [gelu.value.eq(scaled), exponential.value.eq(scaled), exponential.keep.eq(self._keep2)]
        return plain, gelu.result, exponential.result

    def _second_scale(self, inputs, plain, gelu, exponential):
        """The result of the second scale, and what passes it by, in stage RESCALED."""
        m, stages = self._m, self._stages
        operand, bypass = self._register(signed(18), "operand"), self._register(signed(18), f"bypass_{SECOND}")
        with m.If(stages.valid[CURVED]):
            m.d.sync += bypass.eq(Mux(stages.is_(CURVED, Function.EXPONENTIAL), exponential, plain))
            with m.If(stages.is_(CURVED, Function.RESIDUAL)):
                m.d.sync += operand.eq(inputs.residual.as_signed())
            with m.Else():
                m.d.sync += operand.eq(Mux(stages.is_(CURVED, Function.GELU), gelu, plain))

        scale = self._shared("second_scale", SecondScale)
        m.d.comb += [
            scale.x.eq(operand),
            scale.multiplier.eq(self._multiplier2),
            scale.offset.eq(self._offset2),
            scale.coarse.eq(self._coarse2),
            scale.fine.eq(self._fine2),
        ]
        for stage in range(SECOND, RESCALED):
            m.d.comb += scale.enable[stage - SECOND].eq(stages.runs_with(stage, "second_scale"))
            register = self._register(signed(18), f"bypass_{stage + 1}")
            with m.If(stages.valid[stage]):
                m.d.sync += register.eq(bypass)
            bypass = register
        return scale.result, bypass

    def _finish(self, rescaled, bypass):
        m, stages = self._m, self._stages
        addend = Signal(signed(18), name=f"addend_{self._lane}")
        with m.If(stages.is_(RESCALED, Function.RESIDUAL)):
            m.d.comb += addend.eq(bypass)
        with m.Elif(~stages.is_(RESCALED, Function.EXPONENTIAL, Function.ROW_REQUANTISE)):
            m.d.comb += addend.eq(self._zero_point)
        total = self._register(signed(19), "total")
        with m.If(stages.valid[RESCALED]):
            m.d.sync += total.eq(Mux(stages.has(RESCALED, "second_scale"), rescaled, bypass) + addend)
        self.result = self._register(signed(16), "result")
        with m.If(stages.valid[RESULT - 1]):
            with m.If(stages.is_(RESULT - 1, Function.RESIDUAL)):
                m.d.sync += self.result.eq(saturated(total, 16))
            with m.Elif(stages.is_(RESULT - 1, Function.EXPONENTIAL)):
                m.d.sync += self.result.eq(total)
            with m.Else():
                m.d.sync += self.result.eq(saturated(total, 8))

        wanted = Signal(name=f"wanted_{self._lane}")
        m.d.comb += wanted.eq(stages.runs_with(RESULT, "statistics"))
        self.value = self._register(signed(17), "value")
        with m.If(wanted):
            m.d.sync += self.value.eq(self.result)
        self.square = registered_product(
            m, self._platform, f"square_{self._lane}", self.result, self.result, wanted)
