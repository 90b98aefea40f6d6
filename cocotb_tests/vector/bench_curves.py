"""GELU, the softmax numerator and what passes by, for every input that the port can carry."""

import random

import cocotb
import numpy as np
from celosia.hdl.vector.curves import CURVE_LATENCY, Curve
from celosia.sim.golden import kernels, tables

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


KINDS = ("gelu", "exponential", "as it is", "adds", "shifted")


def expected_of(rng, kind, values, operands, valid):
    """Operand and bypass of ``values`` for each ``kind`` [cycles, LANES]; places in ``operands`` what these need."""
    keep = rng.integers(0, 2, values.shape).astype(bool)
    residual, zero_point = (rng.integers(-128, 128, values.shape) for _ in range(2))
    gelu, exponential, adds, shifted = (kind == KINDS.index(name) for name in (
        "gelu", "exponential", "adds", "shifted"))
    place(operands, "gelu", gelu, valid)
    place(operands, "value", values, valid)
    operands["exponential"], operands["bends"] = (
        pulses(valid & flag, CURVE_LATENCY) for flag in (exponential, exponential | gelu))
    for name, wanted in [("keep", keep), ("adds", adds), ("residual", residual), ("shifted", shifted | gelu),
                         ("zero_point", zero_point)]:
        place(operands, name, wanted, valid, CURVE_LATENCY - 1)
    bent = kernels.curve(kernels.saturate(values, 16), tables.GELU)
    numerator = np.where(keep, kernels.exponential(np.clip(values, 0, 4095)), 0)
    operand = np.select([gelu, adds], [bent, residual], values)
    bypass = np.select([exponential, shifted | gelu], [numerator, zero_point], values)
    return {"operand": operand, "bypass": bypass}


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def every_value_equals_golden(dut):
    """Every value in every kind, kinds mixed at random; a result stays until the next."""
    rng = np.random.default_rng(random.getrandbits(32))
    unit = Curve()
    await start_clock(dut)
    kind_of = rng.integers(0, len(KINDS), 2**18)
    for turn in range(len(KINDS)):
        values, valid = every_value(rng)
        operands = noise(rng, operand_dtype(unit), *valid.shape)
        operands["enable"] = pulses(valid, CURVE_LATENCY)
        kind = (kind_of[values + 2**17] + turn) % len(KINDS)
        expected = expected_of(rng, kind, values, operands, valid)
        found = (await play(dut, operands, result_dtype(unit)))[CURVE_LATENCY:]
        last = last_valid(valid)[:len(found)]
        for name, wanted in expected.items():
            wanted = np.take_along_axis(wanted, np.maximum(last, 0), axis=0)
            # Of an exponential, nobody wants the operand.
            seen = (last >= 0) & ((name == "bypass") | (np.take_along_axis(
                kind, np.maximum(last, 0), axis=0) != KINDS.index("exponential")))
            np.testing.assert_array_equal(found[name][seen], wanted[seen], err_msg=name)
        assert valid[:len(found)].sum() == 2**18
