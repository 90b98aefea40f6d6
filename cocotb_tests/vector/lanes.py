"""Many copies of a pipelined unit side by side: a testbench plays NumPy arrays of operands through them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from amaranth import Cat, Module, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

__all__ = ["Lanes", "noise", "operand_dtype", "place", "play", "pulses", "result_dtype"]

Records = NDArray[Any]
#: Stages of a unit, at most.
_DEEPEST = 32


def _dtype(unit: wiring.Component, flow: Any) -> np.dtype:
    fields = []
    for name, member in unit.signature.members.items():
        if member.flow is flow:
            shape = Shape.cast(member.shape)
            size = next(size for size in (1, 2, 4, 8) if 8 * size >= shape.width)
            fields.append((name, f"<{'i' if shape.signed else 'u'}{size}"))
    return np.dtype(fields)


def _fields(record: np.dtype) -> list[tuple[str, np.dtype, int]]:
    """Name, type and byte offset of each field."""
    return [(name, found[0], found[1]) for name, found in (record.fields or {}).items()]


def operand_dtype(unit: wiring.Component) -> np.dtype:
    """A record of the unit's inputs, by their names; each takes 1, 2, 4 or 8 bytes."""
    return _dtype(unit, In)


def result_dtype(unit: wiring.Component) -> np.dtype:
    """A record of the unit's outputs."""
    return _dtype(unit, Out)


class Lanes(wiring.Component):
    """``count`` units of what ``make`` returns.

    Members
    -------
    operands : in
        ``count`` records of :func:`operand_dtype`.
    results : out
        ``count`` records of :func:`result_dtype`.
    """

    def __init__(self, make: Callable[[], wiring.Component], count: int):
        self.units = [make() for _ in range(count)]
        self._inputs, self._outputs = operand_dtype(self.units[0]), result_dtype(self.units[0])
        super().__init__({"operands": In(8 * self._inputs.itemsize * count),
                          "results": Out(8 * self._outputs.itemsize * count)})

    def elaborate(self, platform):
        m = Module()
        results = []
        for index, unit in enumerate(self.units):
            m.submodules[f"unit_{index}"] = unit
            record = self.operands.word_select(index, 8 * self._inputs.itemsize)
            for name, _, offset in _fields(self._inputs):
                member = Value.cast(getattr(unit, name))
                m.d.comb += member.eq(record[8 * offset:8 * offset + len(member)])
            for name, dtype, _ in _fields(self._outputs):
                member = Value.cast(getattr(unit, name))
                wide = Signal(Shape(8 * dtype.itemsize, member.shape().signed), name=f"{name}_{index}")
                m.d.comb += wide.eq(member)
                results.append(wide)
        m.d.comb += self.results.eq(Cat(results))
        return m


def noise(rng: np.random.Generator, dtype: np.dtype, cycles: int, count: int) -> Records:
    """Records [cycles, count] of random bytes: what may stand at the inputs while nothing is valid."""
    return rng.integers(0, 256, (cycles, count * dtype.itemsize), dtype=np.uint8).view(dtype)


def place(
    operands: Records, name: str, values: NDArray[Any], valid: NDArray[np.bool_], delay: int = 0
) -> None:
    """Put ``values`` [cycles, count] into field ``name`` where they are ``valid``, ``delay`` cycles later."""
    cycles = len(operands) - delay
    operands[name][delay:][valid[:cycles]] = values[:cycles][valid[:cycles]]


def pulses(valid: NDArray[np.bool_], stages: int) -> NDArray[np.uint8]:
    """Enables [cycles, count] of a pipeline: ``valid`` in bit 0, and bit i what bit 0 was i cycles ago."""
    result = np.zeros(valid.shape, np.uint8)
    for stage in range(stages):
        result[stage:] |= valid[:len(valid) - stage].astype(np.uint8) << stage
    return result


async def play(dut: Any, operands: Records, dtype: np.dtype) -> Records:
    """Apply a row of ``operands`` in each cycle; returns the results that stood beside them. Before the first one zeros
    pass through the unit, since what has no reset holds x, where the simulator knows that."""
    from cocotb.triggers import RisingEdge

    dut.operands.value = 0
    for _ in range(_DEEPEST):
        await RisingEdge(dut.clk)
    size = dtype.itemsize * operands.shape[1]
    found = bytearray()
    for row in operands:
        dut.operands.value = int.from_bytes(row.tobytes(), "little")
        await RisingEdge(dut.clk)
        found += dut.results.value.to_unsigned().to_bytes(size, "little")
    return np.frombuffer(bytes(found), dtype).reshape(operands.shape)
