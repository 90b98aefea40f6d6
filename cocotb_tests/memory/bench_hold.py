"""The book of the halves that the vector engine holds, against a list of who is in which."""

import random

import cocotb
from cocotb.triggers import RisingEdge

from cocotb_tests.harness import bench_parameters, start_clock

DEPTH = bench_parameters()["depth"]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_half_is_held_until_the_last_has_left(dut):
    """Instructions start and leave in any order, in the same cycle too; a half is also held while it is kept."""
    inputs = ("start", "start_half", "leave", "leave_half", "keep")
    for name in inputs:
        getattr(dut, name).value = 0
    await start_clock(dut)
    inside, owned, most, shared = [], 0, 0, 0
    for cycle in range(4000):
        rate = 0.7 if cycle // 50 % 2 else 0.2
        leave = bool(inside) and random.random() < 1 - rate
        left = random.choice(inside) if leave else random.getrandbits(1)
        start, half = len(inside) < DEPTH and random.random() < rate, random.getrandbits(1)
        keep = sum((random.random() < 0.1) << index for index in range(2))
        for name, value in zip(inputs, (start, half, leave, left, keep), strict=True):
            getattr(dut, name).value = value
        await RisingEdge(dut.clk)
        assert dut.owned.value == owned, (cycle, inside)
        if leave:
            inside.remove(left)
        inside += [half] * start
        owned = sum(1 << index for index in range(2) if index in inside or keep >> index & 1)
        most, shared = max(most, len(inside)), shared + (start and leave and left == half)
    assert most == DEPTH
    assert shared > 50
