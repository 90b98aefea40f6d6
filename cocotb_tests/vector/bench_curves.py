"""GELU and the softmax numerator for every input that their ports can carry."""

import random

import cocotb
import numpy as np
from celosia.hdl.vector.curves import CURVE_LATENCY, Exponential, Gelu
from celosia.sim.golden import kernels

from cocotb_tests.harness import bench_parameters, start_clock
from cocotb_tests.vector.lanes import last_valid, noise, operand_dtype, place, play, pulses, result_dtype

LANES = bench_parameters()["lanes"]


def every_value(rng):
    """The 2**18 values in random order, with idle cycles: values and valid, both [cycles, LANES]."""
    steps = 2**18 // LANES
    busy = np.sort(rng.choice(steps * 5 // 4, steps, replace=False))
    valid = np.zeros((steps * 5 // 4 + CURVE_LATENCY, LANES), bool)
    valid[busy] = True
    values = np.zeros(valid.shape, np.int64)
    values[busy] = rng.permutation(np.arange(-(2**17), 2**17)).reshape(steps, LANES)
    return values, valid


async def check(dut, unit, operands, valid, expected):
    await start_clock(dut)
    operands["enable"] = pulses(valid, CURVE_LATENCY)
    found = (await play(dut, operands, result_dtype(unit)))["result"][CURVE_LATENCY:]
    last = last_valid(valid)[:len(found)]  # a result stays until the next
    wanted = np.take_along_axis(expected, np.maximum(last, 0), axis=0)
    np.testing.assert_array_equal(found[last >= 0], wanted[last >= 0])
    assert valid[:len(found)].sum() == 2**18


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def gelu_equals_golden(dut):
    rng = np.random.default_rng(random.getrandbits(32))
    unit, (values, valid) = Gelu(), every_value(rng)
    operands = noise(rng, operand_dtype(unit), *valid.shape)
    place(operands, "value", values, valid)
    await check(dut, unit, operands, valid, kernels.gelu_fixed(kernels.saturate(values, 16)))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def exponential_equals_golden(dut):
    """Every u twice: masked and not. The mask comes with the last stage."""
    rng = np.random.default_rng(random.getrandbits(32))
    unit = Exponential()
    keep_first = rng.integers(0, 2, 2**18).astype(bool)
    for keep_of in (keep_first, ~keep_first):
        values, valid = every_value(rng)
        keep = keep_of[values + 2**17]
        operands = noise(rng, operand_dtype(unit), *valid.shape)
        place(operands, "value", values, valid)
        place(operands, "keep", keep, valid, CURVE_LATENCY - 1)
        exponential = kernels.exponential(np.clip(values, 0, 4095))
        await check(dut, unit, operands, valid, np.where(keep, exponential, 0))
