"""Both scales against the golden kernels, with idle cycles and the ends of every operand."""

import random

import cocotb
import numpy as np
from celosia.hdl.vector.scale import FIRST_SCALE_LATENCY, SECOND_SCALE_LATENCY, FirstScale, SecondScale
from celosia.sim.golden import kernels

from cocotb_tests.harness import bench_parameters, start_clock
from cocotb_tests.vector.lanes import noise, operand_dtype, place, play, result_dtype

LANES = bench_parameters()["lanes"]
CYCLES = 4000


def signed_values(rng, bits, shape):
    """Every magnitude, and the ends of the range and of the ranges within."""
    values = rng.integers(-(2**bits // 2), 2**bits // 2, shape) >> rng.integers(0, bits, shape)
    ends = np.array([-(2**bits // 2), 1 - 2**bits // 2, -1, 0, 1, 2**bits // 2 - 2, 2**bits // 2 - 1])
    return np.where(rng.random(shape) < 0.3, rng.choice(ends, shape), values)


def unsigned_values(rng, bits, shape):
    """The same for unsigned ones; powers of two make ties."""
    values = rng.integers(0, 2**bits, shape) >> rng.integers(0, bits, shape)
    ends = np.array([0, 1, 2, 2**(bits - 1), 2**bits - 2, 2**bits - 1])
    powers = 1 << rng.integers(0, bits, shape)
    kind = rng.random(shape)
    return np.where(kind < 0.2, rng.choice(ends, shape), np.where(kind < 0.4, powers, values))


def shifts(rng, product, largest):
    """Half of them near the edge of saturation, the others anything from 1 to ``largest``."""
    size = np.frexp(np.abs(product).astype(np.float64))[1]
    near = np.clip(size - 17 + rng.integers(-3, 4, product.shape), 1, largest)
    anything = rng.choice(np.concatenate([np.arange(1, largest + 1), [1, largest] * 4]), product.shape)
    return np.where(rng.random(product.shape) < 0.5, near, anything)


async def compare(dut, unit, operands, valid, expected, latency):
    """A result for each operand, ``latency`` cycles after it; anything comes between them."""
    await start_clock(dut)
    found = (await play(dut, operands, result_dtype(unit)))["result"][latency:]
    seen = valid[:len(found)]
    np.testing.assert_array_equal(found[seen], expected[:len(found)][seen])
    assert seen.sum() > 0.6 * seen.size


def traffic(rng):
    """In which cycles a lane has an operand: sparse, dense, and without a gap."""
    density = np.repeat([0.2, 0.7, 0.95, 1.0], CYCLES // 4)[:, np.newaxis]
    return rng.random((CYCLES, LANES)) < density


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def first_scale_equals_golden(dut):
    rng = np.random.default_rng(random.getrandbits(32))
    unit, valid = FirstScale(), traffic(rng)
    accumulator, addend = (signed_values(rng, 32, valid.shape) for _ in range(2))
    multiplier, negate = unsigned_values(rng, 16, valid.shape), rng.integers(0, 2, valid.shape)
    zero = rng.random(valid.shape) < 0.01  # the record of zeros
    multiplier[zero] = addend[zero] = 0
    x = addend + np.where(negate, -accumulator, accumulator)
    assert {int(x.min()), int(x.max())} == {-(2**32), 2**32 - 1}
    shift = np.where(zero, 0, shifts(rng, x * multiplier, 47))
    operands = noise(rng, operand_dtype(unit), *valid.shape)
    for name, values in [("accumulator", accumulator), ("addend", addend), ("negate", negate),
                         ("multiplier", multiplier), ("shift", shift)]:
        place(operands, name, values, valid)
    await compare(dut, unit, operands, valid, kernels.scale1(x, multiplier, shift), FIRST_SCALE_LATENCY)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def second_scale_equals_golden(dut):
    """Offset and shift come later than the operand, as the unit wants them."""
    rng = np.random.default_rng(random.getrandbits(32))
    unit, valid = SecondScale(), traffic(rng)
    x, multiplier, offset = (signed_values(rng, bits, valid.shape) for bits in (18, 16, 32))
    zero = rng.random(valid.shape) < 0.01
    multiplier[zero] = offset[zero] = 0
    shift = np.where(zero, 0, shifts(rng, x * multiplier + offset, 31))
    less_one = shift - 1 & 31
    operands = noise(rng, operand_dtype(unit), *valid.shape)
    for name, values, delay in [("x", x, 0), ("multiplier", multiplier, 0), ("offset", offset, 1),
                                ("coarse", less_one >> 3, 2), ("fine", less_one & 7, 3)]:
        place(operands, name, values, valid, delay)
    expected = kernels.scale2(x, offset, multiplier, shift)
    await compare(dut, unit, operands, valid, expected, SECOND_SCALE_LATENCY)
