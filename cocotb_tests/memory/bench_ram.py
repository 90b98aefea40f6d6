"""A memory against a list of its words, with what it returns for one that is read while it is written."""

import random

import cocotb
from cocotb.triggers import RisingEdge

from cocotb_tests.harness import bench_parameters, start_clock

WIDTH, DEPTH, SLICES = (bench_parameters()[name] for name in ("width", "depth", "slices"))
GARBAGE = bench_parameters()["garbage"]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def words_are_what_was_written_last(dut):
    """A collision returns the word as it was, or with ``garbage`` its inverse; every other read what rule 1 says."""
    dut.write_enable.value = dut.read_enable.value = 0
    await start_clock(dut)
    words: list[int | None] = [None] * DEPTH
    expected: int | None = None
    collisions = 0
    for _ in range(2000):
        write, read = random.randrange(4), random.randrange(4)
        enable = random.choice([0, random.getrandbits(SLICES), -1 % (1 << SLICES)])
        data, reads = random.getrandbits(WIDTH), random.getrandbits(1)
        dut.write_enable.value, dut.write_address.value, dut.write_data.value = enable, write, data
        dut.read_enable.value, dut.read_address.value = reads, read
        await RisingEdge(dut.clk)
        if expected is not None:
            assert int(dut.read_data.value) == expected
        if reads:
            expected = words[read]
            if enable and read == write and expected is not None:
                collisions += 1
                if GARBAGE:
                    expected ^= (1 << WIDTH) - 1
        size = WIDTH // SLICES
        mask = sum(((1 << size) - 1) << size * index for index in range(SLICES) if enable >> index & 1)
        before = words[write]
        if before is not None:
            words[write] = before & ~mask | data & mask
        elif enable == (1 << SLICES) - 1:
            words[write] = data
    assert collisions > 10
