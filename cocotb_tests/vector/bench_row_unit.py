"""Row maxima, reciprocals and LayerNorm statistics in one stream, against the golden kernels."""

import random

import cocotb
import numpy as np
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.vector.row_unit import (
    NORMALISE_LATENCY,
    NORMALISE_SPACING,
    ROW_UNIT_LATENCY,
    RowEntry,
    RowUnit,
    SquaresLayout,
)
from celosia.sim.golden import kernels

from cocotb_tests.harness import bench_parameters, start_clock
from cocotb_tests.vector.lanes import noise, operand_dtype, play, result_dtype

LANES = bench_parameters()["lanes"]
CONFIG = AcceleratorConfig(max_n=bench_parameters()["max_n"])


def widths():
    """One, and each power of two with its neighbours, up to the widest row."""
    powers = [2**i for i in range(1, CONFIG.max_n.bit_length())]
    near = {n + step for n in powers for step in (-1, 0, 1)}
    return sorted(n for n in near if n <= CONFIG.max_n)


def rows(rng, count, width):
    """int16 rows [count, width]: noise of any size around any mean, the ends of the range, and constants."""
    spread = 2.0 ** rng.uniform(-2, 15, (count, 1))
    mean = rng.choice([-1, 0, 1], (count, 1)) * 2.0 ** rng.uniform(0, 15, (count, 1))
    h = kernels.saturate(np.rint(rng.normal(mean, spread, (count, width))), 16)
    ends = np.array([-32768, -32767, -1, 0, 1, 32767])
    for index in range(0, count, 4):
        h[index] = rng.choice(ends, width) if index % 8 else rng.choice(ends)
    h[1::16] = rng.choice([-32768, 32767], (len(h[1::16]), width))
    return h


def totals(rng, count):
    """Sums of numerators below 2**24: the small ones, powers of two with their neighbours, and any."""
    near = 1 << rng.integers(0, 25, count)
    kinds = [rng.integers(0, 512, count), near + rng.integers(-1, 2, count), rng.integers(0, 2**24, count)]
    return np.minimum(np.choose(rng.integers(0, 3, count), kinds), 2**24 - 1)


def entries(found):
    """The fields of entries as arrays."""
    fields = {}
    for name, field in RowEntry.as_shape():
        value = found >> field.offset & (1 << field.width) - 1
        fields[name] = value - (value >> field.width - 1 << field.width) if name == "addend" else value
    return fields


def arrivals(rng, cycles):
    """When rows come: of LayerNorm as close together as they may be or farther apart, others in any cycle in which they
    are not written with one of these. Both [cycles, LANES], with nothing in the last NORMALISE_LATENCY cycles."""
    normalised = np.zeros((cycles + NORMALISE_LATENCY, LANES), bool)
    for lane in range(LANES):
        gaps = NORMALISE_SPACING + rng.choice([0, 0, 1, 2, 3, 7, 20], cycles)
        steps = np.cumsum(gaps)
        normalised[steps[steps < cycles], lane] = True
    direct = rng.random(normalised.shape) < rng.choice([0.3, 0.9, 1.0])
    direct[cycles:] = False
    shift = NORMALISE_LATENCY - ROW_UNIT_LATENCY
    direct[shift:] &= ~normalised[:-shift]
    return normalised, direct


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def entries_equal_golden(dut):
    """A scalar changes only when the pipeline is empty; everything else at any time."""
    rng = np.random.default_rng(random.getrandbits(32))
    unit = RowUnit(CONFIG)
    dut.operands.value = 0
    await start_clock(dut)
    for width in widths():
        cycles = max(48, min(800, 2**19 // width // LANES))
        normalised, direct = arrivals(rng, cycles)
        operands = noise(rng, operand_dtype(unit), *direct.shape)
        scalar = kernels.mean_scalar(width)
        operands["multiplier"], operands["shift"] = scalar.multiplier, scalar.shift

        h = rows(rng, normalised.sum(), width)
        halves = SquaresLayout(CONFIG.max_n)
        squares = sum(half.sum(axis=1) << halves[name].offset for name, half in (
            ("low", h * h & 0xFFFF), ("high", h * h >> 16)))
        operands["has_sums"] = normalised
        operands["total"][normalised], operands["squares"][normalised] = h.sum(axis=1), squares

        total, is_maximum = totals(rng, direct.sum()), rng.random(direct.sum()) < 0.5
        maximum = rng.integers(-(2**31), 2**31, total.size) >> rng.integers(0, 32, total.size)
        operands["valid"] = direct
        operands["is_maximum"][direct], operands["value"][direct] = is_maximum, np.where(is_maximum, maximum, total)

        found = await play(dut, operands, result_dtype(unit))
        of_sums, of_values = normalised[:-NORMALISE_LATENCY], direct[:-ROW_UNIT_LATENCY]
        written = np.zeros((2, *direct.shape), bool)
        written[0, NORMALISE_LATENCY:], written[1, ROW_UNIT_LATENCY:] = of_sums, of_values
        np.testing.assert_array_equal(found["written"], written.any(axis=0))
        np.testing.assert_array_equal(found["normalised"][written.any(axis=0)], written[0][written.any(axis=0)])

        mean, root, root_shift = kernels.layer_norm_statistics(h, scalar)
        got = entries(found["entry"][NORMALISE_LATENCY:][of_sums].astype(np.int64))
        for name, expected in [("multiplier", root), ("shift", root_shift), ("addend", -mean)]:
            np.testing.assert_array_equal(got[name], expected, err_msg=f"{name}, {width} columns")
        entry = found["entry"][ROW_UNIT_LATENCY:][of_values].astype(np.int64)
        np.testing.assert_array_equal(entry[is_maximum] & 0xFFFFFFFF, maximum[is_maximum] & 0xFFFFFFFF)
        multiplier, shift = kernels.reciprocal(total)
        got = entries(entry)
        for name, expected in [("multiplier", multiplier), ("shift", shift), ("addend", np.zeros_like(shift))]:
            np.testing.assert_array_equal(
                got[name][~is_maximum], expected[~is_maximum], err_msg=f"{name} of a sum of numerators")
