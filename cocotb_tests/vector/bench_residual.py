"""RESIDUAL while the array's weights, in the same bank, keep its second operand waiting: at every distance of the two
instructions, so that the beats of a row come at every distance that there is."""

import random

import cocotb
import numpy as np
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import Function
from celosia.sim.golden import kernels
from celosia.sim.golden.parameters import FirstParameters, SecondParameters

from cocotb_tests.datapath_driver import DatapathDriver
from cocotb_tests.harness import bench_parameters
from cocotb_tests.models import cycles

CONFIG = AcceleratorConfig.from_toml(bench_parameters()["config"])


def records(parameters):
    names = parameters.__dataclass_fields__
    return [{name: int(getattr(parameters, name)[i]) for name in names} for i in range(CONFIG.cols)]


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def sums_of_waiting_rows_equal_golden(dut):
    """A row's mean and spread, and its columns normalised with them, for few rows of a word of accumulators each."""
    rng = np.random.default_rng(random.getrandbits(32))
    cols, rows = CONFIG.cols, CONFIG.rows
    for distance in range(2 * cols):
        # Rows of the other product: its weights are read for ``cols`` cycles, and then pause for some rows or, where a
        # wide operand shall wait before its first beat alone, longer than it takes to write the rows back.
        alone = distance % 2
        tall = cols + (bench_parameters()["pause"] or (40 if alone else random.randint(4, 12)))
        driver = DatapathDriver(dut, CONFIG)
        await driver.start()
        m = random.randint(2, 6)
        a = rng.integers(-128, 128, (tall, rows), dtype=np.int8)
        b = rng.integers(-127, 128, (cols, rows), dtype=np.int8)
        (a_address, a_stride), (b_address, b_stride) = await driver.place(a), await driver.place(b)
        await driver.matmul(a=a_address, a_stride=a_stride, b=b_address, b_stride=b_stride, m=m, n_tiles=1, k_tiles=1)
        first = FirstParameters(rng.integers(-99, 99, cols, dtype=np.int32), rng.integers(1, 1 << 16, cols, np.uint16),
                                np.full(cols, 17, np.uint8), np.zeros(cols, np.int8))
        kind = np.int16 if alone else random.choice([np.int8, np.int16])
        limit = np.iinfo(kind)
        adds = SecondParameters(np.zeros(cols, np.int32), rng.integers(-1 << 14, 1 << 14, cols, np.int16),
                                np.full(cols, limit.bits, np.uint8), np.zeros(cols, np.int8))
        norm = SecondParameters(rng.integers(-99, 99, cols, dtype=np.int32), rng.integers(1, 1 << 15, cols, np.int16),
                                np.full(cols, 20, np.uint8), np.zeros(cols, np.int8))
        both, last = await driver.parameters(records(first), records(adds)), await driver.parameters(records(norm))
        driver.bump = -(-driver.bump // CONFIG.bank_words) * CONFIG.bank_words
        x = rng.integers(limit.min, limit.max, (m, cols), dtype=kind, endpoint=True)
        residual, residual_stride = await driver.place(x)
        await driver.finish()

        await driver.matmul(a=a_address, a_stride=a_stride, b=residual, b_stride=0, accumulator=CONFIG.half_words,
                            m=tall, n_tiles=1, k_tiles=8)
        await cycles(dut.clk, distance)
        scalar = kernels.mean_scalar(cols)
        stride = -(-cols // rows)
        where = {"m": m, "row": 0, "groups": cols // CONFIG.lanes, "accumulator": 0, "accumulator_stride": m}
        # The records of RESIDUAL are there before it starts: it waits for what comes before it to finish.
        await driver.vector(Function.REQUANTISE, parameters=both, destination=driver.allocate(m * stride),
                            destination_stride=stride, **where)
        await driver.vector(Function.RESIDUAL, parameters=both, operand=residual, operand_stride=residual_stride,
                            wide_operand=x.itemsize - 1, multiplier=scalar.multiplier, shift=scalar.shift, **where)
        result = driver.allocate(m * stride)
        await driver.vector(Function.LAYER_NORM, parameters=last, destination=result, destination_stride=stride,
                            **where)
        await driver.finish()
        h = kernels.residual(kernels.matmul(a[:m], b), first, x, adds)
        np.testing.assert_array_equal(await driver.fetch(result, (m, cols)), kernels.layer_norm(h, scalar, norm),
                                      strict=True)
