"""The computing half against the golden kernels, through its real commands, memories and timing."""

import random

import cocotb
import numpy as np
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import Function
from celosia.hdl.matmul.feeders import ACCUMULATE_SPACING
from celosia.sim.golden import kernels, tables
from celosia.sim.golden.parameters import (
    FirstParameters,
    RowParameters,
    ScalarParameters,
    SecondParameters,
)
from cocotb.triggers import RisingEdge

from cocotb_tests.datapath_driver import DatapathDriver
from cocotb_tests.harness import bench_parameters

CONFIG = AcceleratorConfig.from_dict(bench_parameters())
LIMIT = {"timeout_time": 2, "timeout_unit": "ms"}


_KINDS = {8: np.int8, 16: np.int16}


def _width():
    """At random, the bits of a result, and the field that asks for them."""
    wide = random.getrandbits(1)
    return 8 << wide, {"wide_result": wide}


def _generator():
    return np.random.default_rng(random.getrandbits(32))


def _sizes(unit):
    """One, and a unit with its neighbours."""
    return [1, unit - 1, unit, unit + 1]


def _records(parameters):
    names = parameters.__dataclass_fields__
    return [{name: int(getattr(parameters, name)[i]) for name in names} for i in range(len(parameters.shift))]


def _first(rng, n, peak, limit=127):
    """Random parameters that map accumulators up to ``peak`` to about ``limit``, some of them into saturation."""
    multiplier, shift = kernels.fit_multiplier(limit / peak * rng.uniform(0.2, 3, n))
    return FirstParameters(rng.integers(-peak // 4, peak // 4 + 1, n, dtype=np.int32), multiplier.astype(np.uint16),
                           shift.astype(np.uint8), rng.integers(-20, 21, n, dtype=np.int8))


def _second(rng, n, ratio, offset):
    multiplier, shift = kernels.fit_multiplier(ratio * rng.uniform(0.2, 2, n), 15, 31)
    sign = rng.choice([-1, 1], n)
    return SecondParameters(rng.integers(-offset, offset + 1, n, dtype=np.int32), (multiplier * sign).astype(np.int16),
                            shift.astype(np.uint8), rng.integers(-20, 21, n, dtype=np.int8))


async def _product(driver, rng, m, n, k_tiles, unsigned=False, half=0):
    """Fill accumulators with a random product; returns it with the columns padded to whole tiles."""
    config = driver.config
    k = k_tiles * config.rows
    a = rng.integers(0, 256, (m, k), dtype=np.uint8) if unsigned else rng.integers(-128, 128, (m, k), dtype=np.int8)
    n_tiles = -(-n // config.cols)
    b = rng.integers(-127, 128, (n_tiles * config.cols, k), dtype=np.int8)
    a_address, a_stride = await driver.place(a)
    b_address, b_stride = await driver.place(b)
    base = half * config.half_words
    await driver.matmul(a=a_address, a_stride=a_stride, b=b_address, b_stride=b_stride, accumulator=base,
                        accumulator_stride=m, m=m, n_tiles=n_tiles, k_tiles=k_tiles, a_unsigned=unsigned)
    return kernels.matmul(a, b), {"accumulator": base, "accumulator_stride": m, "m": m,
                                  "groups": n_tiles * config.cols // config.lanes}


async def _result(driver, shape, bits=8):
    """Room for a result of so many bits an element: address and stride."""
    stride = bits // 8 * -(-shape[1] // driver.config.rows)
    address = driver.allocate(shape[0] * stride)
    return address, stride


async def _noise(driver):
    """Reads and writes of somebody else, all over the banks: results must not depend on them."""
    dut, config = driver.dut, driver.config
    while True:
        dut.store__enable.value = random.getrandbits(1)
        dut.store__address.value = random.randrange(config.scratchpad_words)
        dut.load__enable.value = 0
        await RisingEdge(dut.clk)


async def _driver(dut):
    driver = DatapathDriver(dut, CONFIG)
    await driver.start()
    return driver, _generator()


async def _run(driver):
    """Let the engines finish under the noise of another reader."""
    noise = cocotb.start_soon(_noise(driver))
    await driver.finish()
    noise.cancel()
    driver.dut.store__enable.value = 0
    await RisingEdge(driver.dut.clk)


async def _check_requantised(driver, rng, acc, where):
    bits, field = _width()
    first = _first(rng, acc.shape[1], max(1, int(np.abs(acc).max())), (1 << bits - 1) - 1)
    address, stride = await _result(driver, acc.shape, bits)
    await driver.vector(Function.REQUANTISE, parameters=await driver.parameters(_records(first)),
                        destination=address, destination_stride=stride, **where, **field)
    await _run(driver)
    np.testing.assert_array_equal(await driver.fetch(address, acc.shape, _KINDS[bits]),
                                  kernels.requantise(acc, first, bits), strict=True)


@cocotb.test(**LIMIT)
async def array_multiplies_every_shape(dut):
    """Rows around the size at which tiles hide, both signednesses, one and several tiles."""
    for m in [*_sizes(CONFIG.cols), 2 * CONFIG.cols + 3]:
        driver, rng = await _driver(dut)
        for unsigned in (False, True):
            acc, where = await _product(driver, rng, m, 2 * CONFIG.cols, random.randint(1, 3), unsigned)
            await driver.finish("matmul")
            await _check_requantised(driver, rng, acc, where)


@cocotb.test(**LIMIT)
async def array_accumulates_and_chains(dut):
    """A reduction split over instructions that follow each other at once, with one row and with many."""
    for m in (1, 2, CONFIG.cols + 2):
        driver, rng = await _driver(dut)
        k_tiles, tiles = 3, 2
        a = rng.integers(-128, 128, (m, k_tiles * CONFIG.rows), dtype=np.int8)
        b = rng.integers(-127, 128, (tiles * CONFIG.cols, k_tiles * CONFIG.rows), dtype=np.int8)
        (a_address, a_stride), (b_address, b_stride) = await driver.place(a), await driver.place(b)
        for k in range(k_tiles):
            for tile in range(tiles):
                await driver.matmul(
                    a=a_address + k, a_stride=a_stride, b=b_address + k + tile * CONFIG.cols * b_stride,
                    b_stride=b_stride, accumulator=tile * m, m=m, n_tiles=1, k_tiles=1, accumulate=k > 0)
        await driver.finish("matmul")
        where = {"accumulator": 0, "accumulator_stride": m, "m": m, "groups": tiles * CONFIG.cols // CONFIG.lanes}
        await _check_requantised(driver, rng, kernels.matmul(a, b), where)


async def _multiply_and_add(driver, rng, m, sums):
    """A product of ``m`` rows at accumulator 0, to which those of ``sums`` (first word, rows) are added at once."""
    a = rng.integers(-128, 128, (m, CONFIG.rows), dtype=np.int8)
    b = rng.integers(-127, 128, (CONFIG.cols, CONFIG.rows), dtype=np.int8)
    (a_address, a_stride), (b_address, b_stride) = await driver.place(a), await driver.place(b)
    operands = {"a": a_address, "a_stride": a_stride, "b": b_address, "b_stride": b_stride, "n_tiles": 1, "k_tiles": 1}
    product = kernels.matmul(a, b)
    expected = np.concatenate([product, product])
    for first, rows, accumulate in ((m, m, 0), (0, m, 0), *((first, rows, 1) for first, rows in sums)):
        await driver.matmul(accumulator=first, m=rows, accumulate=accumulate, **operands)
        if accumulate:
            expected[first:first + rows] += product[:rows]
    await driver.finish("matmul")
    where = {"accumulator": 0, "m": 2 * m, "groups": CONFIG.cols // CONFIG.lanes}
    await _check_requantised(driver, rng, expected, where)


@cocotb.test(**LIMIT)
async def array_adds_to_what_it_has_just_made(dut):
    """An instruction adds to some of the last words of the one before, which ended a cycle or two ago; or to one of
    them after an instruction of a single row, which does not wait."""
    driver, rng = await _driver(dut)
    m = CONFIG.cols + 3
    for shared in range(1, m + 1):
        await _multiply_and_add(driver, rng, m, [(m - shared, m)])
        await _multiply_and_add(driver, rng, m, [(2 * m - 1, 1), (m - shared, 1)])


@cocotb.test(**LIMIT)
async def array_takes_wide_tensors_plane_by_plane(dut):
    """12 bits of A: the upper plane, then the lower one, which counts the sums before it 256 fold."""
    for m in (1, 3, CONFIG.cols + 1):
        driver, rng = await _driver(dut)
        k, n = 2 * CONFIG.rows, 2 * CONFIG.cols
        a = rng.integers(-2048, 2048, (m, k), dtype=np.int16)
        b = rng.integers(-127, 128, (n, k), dtype=np.int8)
        a_address, a_stride = await driver.place(a)
        b_address, b_stride = await driver.place(b)
        where = {"accumulator": 0, "accumulator_stride": m, "m": m}
        product = {"a_stride": a_stride, "b": b_address, "b_stride": b_stride, "n_tiles": 2, "k_tiles": 2, "a_wide": 1}
        await driver.matmul(a=a_address + 1, **product, **where)
        await driver.matmul(a=a_address, **product, **where, a_unsigned=1, accumulate=1, scale_accumulators=1)
        await driver.finish("matmul")
        await _check_requantised(driver, rng, kernels.matmul(a, b), where | {"groups": n // CONFIG.lanes})


def _activity(dut) -> list[int]:
    """For each cycle from now on, whether a row enters the array: a list that grows."""
    active: list[int] = []

    async def watch():
        while True:
            await RisingEdge(dut.clk)
            active.append(int(dut.progress.value) & 1)

    cocotb.start_soon(watch())
    return active


@cocotb.test(**LIMIT)
async def array_never_waits_for_a_tile_at_full_height(dut):
    """With at least ``cols`` rows, and as many as the accumulators need between two sums, the array is active in every
    cycle between the first row and the last."""
    driver, rng = await _driver(dut)
    m, active = max(CONFIG.cols, ACCUMULATE_SPACING), _activity(dut)
    a, a_stride = await driver.place(rng.integers(-128, 128, (m, 3 * CONFIG.rows), dtype=np.int8))
    bank = CONFIG.bank_words
    driver.bump = -(-driver.bump // bank) * bank  # B in a bank of its own
    b, b_stride = await driver.place(rng.integers(-127, 128, (2 * CONFIG.cols, 3 * CONFIG.rows), dtype=np.int8))
    await driver.matmul(a=a, a_stride=a_stride, b=b, b_stride=b_stride, accumulator_stride=m, m=m, n_tiles=2, k_tiles=3)
    await driver.finish()
    first, last = active.index(1), len(active) - 1 - active[::-1].index(1)
    assert last - first + 1 == sum(active) == 6 * m


@cocotb.test(**LIMIT)
async def array_hardly_waits_between_instructions(dut):
    """Those that go on with the sums of others, too, as long as they have ``cols`` rows: a cycle for each, in which it
    is taken over."""
    driver, rng = await _driver(dut)
    m, active = 32 + CONFIG.cols, _activity(dut)
    a, a_stride = await driver.place(rng.integers(-128, 128, (m, 3 * CONFIG.rows), dtype=np.int8))
    bank = CONFIG.bank_words
    driver.bump = -(-driver.bump // bank) * bank  # B in a bank of its own
    b, b_stride = await driver.place(rng.integers(-127, 128, (CONFIG.cols, 3 * CONFIG.rows), dtype=np.int8))
    for k in range(3):
        await driver.matmul(a=a + k, a_stride=a_stride, b=b + k, b_stride=b_stride, m=m, n_tiles=1, k_tiles=1,
                            accumulate=k > 0)
    await driver.finish()
    first, last = active.index(1), len(active) - 1 - active[::-1].index(1)
    assert sum(active) == 3 * m
    assert last - first + 1 == 3 * m + 2


@cocotb.test(**LIMIT)
async def gelu_equals_golden(dut):
    driver, rng = await _driver(dut)
    for m in _sizes(4):
        bits, field = _width()
        acc, where = await _product(driver, rng, m, 2 * CONFIG.cols, 2)
        await driver.finish("matmul")
        first, second = _activated(rng, acc, bits)
        address, stride = await _result(driver, acc.shape, bits)
        await driver.vector(Function.GELU, parameters=await driver.parameters(_records(first), _records(second)),
                            destination=address, destination_stride=stride, **where, **field)
        await _run(driver)
        np.testing.assert_array_equal(await driver.fetch(address, acc.shape, _KINDS[bits]),
                                      kernels.gelu(acc, first, second, bits), strict=True)


def _activated(rng, acc, bits):
    """Records of an activation of ``acc``, with results of so many bits."""
    peak = max(1, int(np.abs(acc).max()))
    return (_first(rng, acc.shape[1], peak, 1500),
            _second(rng, acc.shape[1], (1 << bits - 1) / 6000, 1 << 12))


@cocotb.test(**LIMIT)
async def loaded_curves_equal_golden(dut):
    """Each alone, and as the gate of an operand; a curve is loaded while instructions with the one before are under
    way."""
    driver, rng = await _driver(dut)
    for name, table in tables.CURVES.items():
        m, n = random.choice(_sizes(4)), CONFIG.cols + 1
        acc, where = await _product(driver, rng, m, n, 2)
        await driver.finish("matmul")
        await driver.load_curve(table)
        expected = []
        for gated in (False, True):
            bits, field = _width()
            first, second = _activated(rng, acc, bits)
            address, stride = await _result(driver, acc.shape, bits)
            if gated:
                kind = random.choice([np.int8, np.int16])
                peak = 1 << 8 * kind().itemsize - 1
                operand = rng.integers(-peak, peak, acc.shape, dtype=kind)
                # An activation has some 13 bits, the operand as many as it has.
                second.shift[:] = max(1, 13 + peak.bit_length() - bits)
                place, operand_stride = await driver.place(operand)
                field |= {"operand": place, "operand_stride": operand_stride, "wide_operand": int(kind is np.int16)}
                values = kernels.gated(acc, first, operand, second, table, bits)
            else:
                values = kernels.activation(acc, first, second, table, bits)
            expected.append((address, values))
            await driver.vector(Function.GATED if gated else Function.ACTIVATION,
                                parameters=await driver.parameters(_records(first), _records(second)),
                                destination=address, destination_stride=stride, **where, **field)
        await _run(driver)
        for address, values in expected:
            np.testing.assert_array_equal(await driver.fetch(address, acc.shape, values.dtype), values, strict=True,
                                          err_msg=name)


@cocotb.test(**LIMIT)
async def softmax_equals_golden(dut):
    """Scores, numerators, their product with the values, and its division by the row's sum; with a key mask, with a
    causal one, and with numerators of either width."""
    for m, causal, wide in [(1, 0, 1), (3, 0, 0), (CONFIG.cols, 1, 1), (CONFIG.cols + 1, 1, 0)]:
        driver, rng = await _driver(dut)
        n = random.randint(1, 3 * CONFIG.cols)
        acc, where = await _product(driver, rng, m, n, 1)
        await driver.finish("matmul")
        padded = acc.shape[1]
        keep = (np.arange(padded) < n) & (rng.random(padded) < 0.8)
        if m == 3:
            keep[:] = False  # a row with everything masked
        multiplier, shift = kernels.fit_multiplier(np.array([8 * 256 / max(1, np.abs(acc).max())]))
        scalar = ScalarParameters(int(multiplier[0]), int(shift[0]))
        mask = await driver.mask(keep)
        row = random.randrange(CONFIG.row_entries - m)
        width = -(-padded // CONFIG.rows) * CONFIG.rows
        kind = np.uint16 if wide else np.uint8
        address, stride = await driver.place(np.zeros((m, width), kind))
        diagonal = random.randint(-m, n)
        fields = {"causal": causal, "operand": diagonal & 0xFFFF} | where
        await driver.vector(Function.ROW_MAXIMUM, parameters=mask, row=row, **fields)
        await driver.vector(Function.EXPONENTIAL, parameters=mask, row=row, destination=address, wide_result=wide,
                            destination_stride=stride, multiplier=scalar.multiplier, shift=scalar.shift, **fields)
        await _run(driver)
        seen = kernels.causal_mask(keep, m, diagonal) if causal else keep
        numerators, totals = kernels.softmax_numerators(acc, seen, scalar, wide=bool(wide))
        np.testing.assert_array_equal(await driver.fetch(address, acc.shape, kind), numerators, strict=True)

        values = rng.integers(-127, 128, (CONFIG.cols, width), dtype=np.int8)
        b, b_stride = await driver.place(values)
        base = CONFIG.half_words
        product = {"a_stride": stride, "b": b, "b_stride": b_stride, "accumulator": base, "m": m, "n_tiles": 1,
                   "k_tiles": width // CONFIG.rows, "a_unsigned": 1, "a_wide": wide}
        if wide:
            await driver.matmul(a=address + 1, **product)
        await driver.matmul(a=address, **product, accumulate=wide, scale_accumulators=wide)
        await driver.finish("matmul")
        product = kernels.matmul(np.pad(numerators.astype(np.int16), ((0, 0), (0, width - padded))), values)
        bits, field = _width()
        second = _second(rng, CONFIG.cols, (1 << bits - 8) / 512, 1 << 12)
        address, stride = await _result(driver, product.shape, bits)
        await driver.vector(Function.ATTENTION_OUTPUT, parameters=await driver.parameters(_records(second)), row=row,
                            destination=address, destination_stride=stride, accumulator=base, m=m,
                            groups=CONFIG.cols // CONFIG.lanes, **field)
        await _run(driver)
        np.testing.assert_array_equal(await driver.fetch(address, product.shape, _KINDS[bits]),
                                      kernels.attention_output(product, totals, second, bits), strict=True)


@cocotb.test(**LIMIT)
async def layer_norm_equals_golden(dut):
    """Residual sum, statistics and normalisation of rows whose width is no multiple of the array; and without the
    mean, RMSNorm; with operands and results of either width."""
    for m, rms, wide in [(1, False, 0), (2, False, 1), (3, True, 1), (5, False, 0),
                         (CONFIG.cols, *(random.random() < 0.5 for _ in range(2)))]:
        driver, rng = await _driver(dut)
        n = random.randint(CONFIG.cols + 1, 3 * CONFIG.cols)
        acc, where = await _product(driver, rng, m, n, 2)
        await driver.finish("matmul")
        padded, inside = acc.shape[1], np.arange(acc.shape[1]) < n
        peak = max(1, int(np.abs(acc).max()))
        first, adds = _first(rng, padded, peak, 12000), _second(rng, padded, 0.3 if wide else 60, 1)
        for array in (first.bias, first.multiplier, adds.offset, adds.multiplier):
            array[~inside] = 0
        largest = 1 << 15 if wide else 128
        x = np.where(inside, rng.integers(-largest, largest, acc.shape), 0).astype(np.int16 if wide else np.int8)
        operand, operand_stride = await driver.place(x)
        scalar = kernels.RMS_SCALAR if rms else kernels.mean_scalar(n)
        row = random.randrange(CONFIG.row_entries - m)
        await driver.vector(Function.RESIDUAL, parameters=await driver.parameters(_records(first), _records(adds)),
                            operand=operand, operand_stride=operand_stride, wide_operand=int(wide), row=row,
                            multiplier=scalar.multiplier, shift=scalar.shift, **where)
        bits, field = _width()
        norm = _second(rng, padded, (30 << bits - 8) * n**0.5 / 2**17, 1 << 20)
        address, stride = await _result(driver, acc.shape, bits)
        await driver.vector(Function.LAYER_NORM, parameters=await driver.parameters(_records(norm)), row=row,
                            destination=address, destination_stride=stride, **where, **field)
        await _run(driver)
        h = kernels.residual(acc, first, x, adds)
        narrow = SecondParameters(*(getattr(norm, name)[:n] for name in norm.__dataclass_fields__))
        expected = kernels.layer_norm(h[:, :n], scalar, narrow, bits)
        np.testing.assert_array_equal((await driver.fetch(address, acc.shape, _KINDS[bits]))[:, :n], expected,
                                      strict=True)


@cocotb.test(**LIMIT)
async def raw_results_are_the_accumulators(dut):
    for m in _sizes(4):
        driver, rng = await _driver(dut)
        acc, where = await _product(driver, rng, m, 2 * CONFIG.cols, 2)
        await driver.finish("matmul")
        address, stride = await _result(driver, acc.shape, 32)
        await driver.vector(Function.RAW, destination=address, destination_stride=stride, **where)
        await _run(driver)
        np.testing.assert_array_equal(await driver.fetch(address, acc.shape, np.int32), acc, strict=True)


@cocotb.test(**LIMIT)
async def row_requantisation_equals_golden(dut):
    for m in _sizes(CONFIG.rows):
        driver, rng = await _driver(dut)
        acc, where = await _product(driver, rng, m, 2 * CONFIG.cols, 2)
        await driver.finish("matmul")
        bits, field = _width()
        multiplier, shift = kernels.fit_multiplier((1 << bits - 1) / max(1, np.abs(acc).max()) * rng.uniform(0.2, 3, m))
        rows = RowParameters(multiplier.astype(np.uint16), shift.astype(np.uint8))
        row = random.randrange(CONFIG.row_entries - m)
        await driver.vector(Function.LOAD_ROWS, parameters=await driver.row_records(_records(rows)), row=row, m=m)
        address, stride = await _result(driver, acc.shape, bits)
        await driver.vector(Function.ROW_REQUANTISE, row=row, destination=address, destination_stride=stride, **where,
                            **field)
        await _run(driver)
        np.testing.assert_array_equal(await driver.fetch(address, acc.shape, _KINDS[bits]),
                                      kernels.row_requantise(acc, rows, bits), strict=True)


@cocotb.test(**LIMIT)
async def rotary_embeddings_are_products(dut):
    """The heads of a token are the rows of A, B is its position's rotation: tiles on its diagonal are enough."""
    driver, rng = await _driver(dut)
    rows, cols, heads = CONFIG.rows, CONFIG.cols, 3
    width = 2 * max(rows, cols)
    x = rng.integers(-127, 128, (heads, width), dtype=np.int8)
    rotation = kernels.rotation(random.randrange(512), width)
    (a, stride), (b, b_stride) = await driver.place(x), await driver.place(rotation)
    for tile in range(width // cols):
        first_k = tile * cols // rows
        await driver.matmul(
            a=a + first_k, a_stride=stride, b=b + tile * cols * b_stride + first_k, b_stride=b_stride,
            accumulator=tile * heads, m=heads, n_tiles=1, k_tiles=max(1, cols // rows))
    await driver.finish("matmul")
    where = {"accumulator": 0, "accumulator_stride": heads, "m": heads, "groups": width // CONFIG.lanes}
    await _check_requantised(driver, rng, kernels.matmul(x, rotation), where)


@cocotb.test(**LIMIT)
async def engines_overlap_on_different_halves(dut):
    """A product in one half while the vector engine drains the other, again and again."""
    driver, rng = await _driver(dut)
    pending = []
    for step in range(6):
        acc, where = await _product(driver, rng, CONFIG.cols + step, CONFIG.cols, 2, half=step % 2)
        await driver.finish("matmul")
        first = _first(rng, acc.shape[1], max(1, int(np.abs(acc).max())))
        address, stride = await _result(driver, acc.shape)
        parameters = await driver.parameters(_records(first))
        await driver.finish("vector")
        await driver.vector(Function.REQUANTISE, parameters=parameters, destination=address,
                            destination_stride=stride, **where)
        pending.append((address, kernels.requantise(acc, first)))
    await driver.finish()
    for address, expected in pending:
        np.testing.assert_array_equal(await driver.fetch(address, expected.shape), expected, strict=True)
