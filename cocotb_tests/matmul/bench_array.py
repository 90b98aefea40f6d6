"""Tiles and vectors at every distance that the array's rules allow, against a matrix product."""

import random

import cocotb
import numpy as np
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.matmul.array import array_latency, sum_bits
from cocotb.triggers import RisingEdge

from cocotb_tests.harness import bench_parameters, start_clock

CONFIG = AcceleratorConfig(**bench_parameters())
ROWS, COLS = CONFIG.rows, CONFIG.cols
LATENCY = array_latency(CONFIG)


def packed(values, bits):
    return sum((int(value) & (1 << bits) - 1) << bits * i for i, value in enumerate(values))


def unpacked(word, bits, count):
    values = [word >> bits * i & (1 << bits) - 1 for i in range(count)]
    return [value - (value >> bits - 1 << bits) for value in values]


def vector(rng):
    """Row of A, int8 or uint8, or all at one end; and whether it is uint8."""
    if rng.random() < 0.2:
        end = rng.choice([-128, 127, 0, 255])
        return np.full(ROWS, end), end == 255 or (end == 0 and rng.random() < 0.5)
    return (rng.integers(0, 256, ROWS), True) if rng.random() < 0.5 else (rng.integers(-128, 128, ROWS), False)


def tile(rng):
    """B[n, k], with -128: keys and values have it."""
    if rng.random() < 0.1:
        return np.full((COLS, ROWS), -128)
    return rng.integers(-128, 128, (COLS, ROWS))


class Feeder:
    """Makes the inputs of each cycle by rules 1 to 3. ``weights`` and ``vectors`` are the probabilities of a step and
    of a vector in a cycle; whatever is not defined is noise."""

    def __init__(self, rng, tiles):
        self.rng = rng
        self.tiles = tiles
        self.following = tile(rng)
        self.active = None
        self.steps = 0  # of the following tile that have been shifted
        self.vectors = 0  # of the active tile that are to come

    def cycle(self, weights, vectors, rows):
        """activations, unsigned, swap, weights, shift, and the sums that will come of it (None: undefined)."""
        rng, swap, sums = self.rng, 0, None
        column, shift = rng.integers(-128, 128, ROWS), 0
        if self.steps < COLS and rng.random() < weights:
            if CONFIG.weight_latches:
                column, shift = self.following[self.steps], 1 << self.steps
            else:
                column, shift = self.following[COLS - 1 - self.steps], (2 << self.steps) - 1
            self.steps += 1
        activations, unsigned = rng.integers(0, 256, ROWS), rng.random() < 0.5
        may_swap = self.vectors == 0 and self.steps == COLS
        if rng.random() < vectors and (self.vectors or may_swap):
            if not self.vectors:
                swap, self.steps, self.tiles = 1, 0, self.tiles - 1
                self.active, self.following = self.following, tile(rng)
                self.vectors = rows(rng)
            activations, unsigned = vector(rng)
            sums = self.active @ activations
            self.vectors -= 1
        return activations, unsigned, swap, column, shift, sums


async def run(dut, weights, vectors, rows, tiles=25):
    """Returns the cycles that it took from the first to the last vector, and their number."""
    rng = np.random.default_rng(random.getrandbits(32))
    dut.swap.value = dut.shift.value = 0
    await start_clock(dut)
    feeder, expected, now = Feeder(rng, tiles), {}, 0
    while feeder.tiles or feeder.vectors or (expected and max(expected) >= now):
        activations, unsigned, swap, column, shift, sums = feeder.cycle(
            weights, vectors if feeder.tiles or feeder.vectors else 0, rows)
        dut.activations.value = packed(activations, 8)
        dut.unsigned_activations.value = int(unsigned)
        dut.swap.value = swap
        dut.weights.value = packed(column, 8)
        dut.shift.value = shift
        if sums is not None:
            expected[now + LATENCY] = list(sums)
        await RisingEdge(dut.clk)
        if now in expected:
            assert unpacked(int(dut.sums.value), sum_bits(CONFIG), COLS) == expected[now], f"cycle {now}"
        now += 1
    return max(expected) - min(expected) + 1, len(expected)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def products_equal_numpy(dut):
    """Few and many vectors a tile, with idle cycles in either stream, in both, and in none."""
    for weights in (0.3, 1.0):
        for vectors in (0.3, 1.0):
            await run(dut, weights, vectors, lambda rng: int(rng.integers(1, 2 * COLS)))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def tiles_of_as_many_rows_as_columns_follow_without_a_gap(dut):
    """The weights move in while the tile before computes: the first step comes in the cycle after its swap (rule 2),
    the swap with the last step (rule 3)."""
    span, count = await run(dut, 1.0, 1.0, lambda rng: COLS)
    assert span == count == 25 * COLS
