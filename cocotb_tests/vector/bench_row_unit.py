"""Row maxima, reciprocals and LayerNorm statistics in one stream, against the golden kernels."""

import random

import cocotb
import numpy as np
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.vector.row_unit import ROW_UNIT_LATENCY, RowEntry, RowKind, RowUnit, SquaresLayout
from celosia.sim.golden import kernels

from cocotb_tests.harness import bench_parameters, start_clock
from cocotb_tests.vector.lanes import noise, operand_dtype, place, play, result_dtype

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
    """Sums of numerators below 2**20: the small ones, powers of two with their neighbours, and any."""
    near = 1 << rng.integers(0, 20, count)
    kinds = [rng.integers(0, 512, count), near + rng.integers(-1, 2, count), rng.integers(0, 2**20, count)]
    return np.minimum(np.choose(rng.integers(0, 3, count), kinds), 2**20 - 1)


def entries(found):
    """The fields of entries as arrays."""
    fields = {}
    for name, field in RowEntry.as_shape():
        value = found >> field.offset & (1 << field.width) - 1
        fields[name] = value - (value >> field.width - 1 << field.width) if name == "addend" else value
    return fields


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def entries_equal_golden(dut):
    """A scalar changes only when the pipeline is empty; everything else at any time."""
    rng = np.random.default_rng(random.getrandbits(32))
    unit = RowUnit(CONFIG)
    dut.operands.value = 0
    await start_clock(dut)
    for width in widths():
        cycles = max(24, min(400, 2**18 // width // LANES))
        density = rng.choice([0.3, 0.9, 1.0])
        valid = rng.random((cycles + ROW_UNIT_LATENCY, LANES)) < density
        valid[cycles:] = False
        count = valid.size
        scalar = kernels.mean_scalar(width)
        h = rows(rng, count, width)
        mean, root, root_shift = kernels.layer_norm_statistics(h, scalar)
        total = totals(rng, count)
        multiplier, shift = kernels.reciprocal(total)
        maximum = rng.integers(-(2**31), 2**31, count) >> rng.integers(0, 32, count)
        kind = rng.integers(0, 3, count)
        is_root, is_reciprocal = kind == RowKind.NORMALISE.value, kind == RowKind.RECIPROCAL.value
        first = np.select([is_root, is_reciprocal], [h.sum(axis=1), total], maximum)
        halves = SquaresLayout(CONFIG.max_n)
        squares = sum(  # of the lower and of the upper halves; anything where they do not count
            np.where(is_root, half.sum(axis=1), rng.integers(0, 2**30, count)) << halves[name].offset
            for name, half in (("low", h * h & 0xFFFF), ("high", h * h >> 16)))

        operands = noise(rng, operand_dtype(unit), *valid.shape)
        operands["valid"], operands["multiplier"], operands["shift"] = valid, scalar.multiplier, scalar.shift
        for name, values in [("kind", kind), ("first", first), ("squares", squares)]:
            place(operands, name, values.reshape(valid.shape), valid)
        found = await play(dut, operands, result_dtype(unit))
        written = np.zeros(valid.shape, bool)
        written[ROW_UNIT_LATENCY:] = valid[:cycles]
        np.testing.assert_array_equal(found["written"], written)

        chosen = valid[:cycles].reshape(-1)
        entry = found["entry"][ROW_UNIT_LATENCY:].reshape(-1)[chosen].astype(np.int64)
        is_root, is_reciprocal = is_root[:chosen.size][chosen], is_reciprocal[:chosen.size][chosen]
        neither = ~is_root & ~is_reciprocal
        low = 0xFFFFFFFF
        np.testing.assert_array_equal(entry[neither] & low, maximum[:chosen.size][chosen][neither] & low)
        got = entries(entry)
        for name, of_root, of_reciprocal in [("multiplier", root, multiplier), ("shift", root_shift, shift),
                                             ("addend", -mean, np.zeros(count, np.int64))]:
            expected = np.where(is_root, of_root[:chosen.size][chosen], of_reciprocal[:chosen.size][chosen])
            np.testing.assert_array_equal(
                got[name][~neither], expected[~neither], err_msg=f"{name}, {width} columns")
