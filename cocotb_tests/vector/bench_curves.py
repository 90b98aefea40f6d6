"""Activations, the softmax numerator and what passes by, for every input that the port can carry, or some of them."""

import random

import cocotb
import numpy as np
from celosia.hdl.vector.curves import CURVE_LATENCY, PIECE_WIDTHS, Curve
from celosia.sim.golden import kernels, parameters, tables

from cocotb_tests.harness import bench_parameters, start_clock
from cocotb_tests.vector.lanes import noise, operand_dtype, place, play, pulses, result_dtype

LANES = bench_parameters()["lanes"]
#: How many of the values are tried in a turn.
VALUES = bench_parameters().get("values", 2**18)


def every_value(rng):
    """The 2**18 values, or as many of them as are tried, in random order, with idle cycles: values and valid, both
    [cycles, LANES]."""
    steps = VALUES // LANES
    busy = np.sort(rng.choice(steps * 5 // 4, steps, replace=False))
    valid = np.zeros((steps * 5 // 4 + CURVE_LATENCY, LANES), bool)
    valid[busy] = True
    values = np.zeros(valid.shape, np.int64)
    values[busy] = rng.permutation(np.arange(-(2**17), 2**17))[:VALUES].reshape(steps, LANES)
    return values, valid


KINDS = ("gelu", "loaded", "exponential", "as it is", "adds", "shifted")


def extreme_curve(rng, width):
    """A curve whose pieces reach the limits of what a curve may be."""
    steps = (1 << width) - 1
    ends = rng.choice([-32, 0, 100, 2**15 - 33], (2, 32))
    base = np.maximum(ends[0], 0)
    slope = np.clip(np.trunc((ends[1] - base) / steps), -256, 255).astype(np.int64)
    return parameters.Curve(base, slope, width)


def expected_of(rng, kind, table, values, operands, valid):
    """Operand and bypass of ``values`` for each ``kind`` [cycles, LANES]; places in ``operands`` what these need."""
    keep, wide = (rng.integers(0, 2, values.shape).astype(bool) for _ in range(2))
    added, zero_point = rng.integers(-2**15, 2**15, values.shape), rng.integers(-128, 128, values.shape)
    gelu, loaded, exponential, adds, shifted = (kind == KINDS.index(name) for name in (
        "gelu", "loaded", "exponential", "adds", "shifted"))
    activates = gelu | loaded
    x = kernels.saturate(values, 16)
    place(operands, "activates", activates, valid)
    place(operands, "width", np.where(loaded, 1 << PIECE_WIDTHS.index(table.width), 1 << PIECE_WIDTHS.index(5)), valid)
    place(operands, "value", values, valid)
    place(operands, "loaded", loaded, valid, 1)
    piece = np.minimum(np.abs(x) >> table.width, 31)
    place(operands, "chord", table.base[piece] + 32 | (table.slope[piece] & 511) << 15, valid, 1)
    operands["exponential"] = pulses(valid & exponential, CURVE_LATENCY)
    operands["bends"] = valid & (exponential | activates)
    for name, wanted in [("keep", keep), ("wide", wide), ("adds", adds), ("added", added),
                         ("shifted", shifted | activates), ("zero_point", zero_point)]:
        place(operands, name, wanted, valid, CURVE_LATENCY - 1)
    numerator = np.where(wide, *(kernels.exponential(np.clip(values, 0, 4095), wide=kind) for kind in (True, False)))
    operand = np.select([gelu, loaded, adds], [kernels.curve(x, tables.GELU), kernels.curve(x, table), added], values)
    bypass = np.select([exponential, shifted | activates], [np.where(keep, numerator, 0), zero_point], values)
    return {"operand": operand, "bypass": bypass}


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def every_value_equals_golden(dut):
    """Every value in every kind, kinds mixed at random, with a loaded curve of every width."""
    rng = np.random.default_rng(random.getrandbits(32))
    unit = Curve()
    await start_clock(dut)
    kind_of = rng.integers(0, len(KINDS), 2**18)
    for turn in range(len(KINDS)):
        values, valid = every_value(rng)
        operands = noise(rng, operand_dtype(unit), *valid.shape)
        kind = (kind_of[values + 2**17] + turn) % len(KINDS)
        table = extreme_curve(rng, PIECE_WIDTHS[turn % len(PIECE_WIDTHS)])
        expected = expected_of(rng, kind, table, values, operands, valid)
        found = (await play(dut, operands, result_dtype(unit)))[CURVE_LATENCY:]
        for name, wanted in expected.items():
            # Of an exponential, nobody wants the operand.
            seen = valid & ((name == "bypass") | (kind != KINDS.index("exponential")))
            seen, wanted = seen[:len(found)], wanted[:len(found)]
            np.testing.assert_array_equal(found[name][seen], wanted[seen], err_msg=name)
        assert valid[:len(found)].sum() == VALUES
