"""Coroutines that show how a testbench is written; the design is an accumulator behind a stream."""

import random

import cocotb
from cocotb.triggers import RisingEdge

from cocotb_tests.harness import bench_parameters, start_clock


@cocotb.test(timeout_time=100, timeout_unit="us")
async def sums_modulo_two_to_the_width(dut):
    width = bench_parameters()["width"]
    dut.enable.value = 0
    await start_clock(dut)
    expected = 0
    for _ in range(200):
        enable, data = random.getrandbits(1), random.getrandbits(width)
        dut.enable.value = enable
        dut.data.value = data
        await RisingEdge(dut.clk)  # what is read now is what the edge found: this addition is not yet in it
        assert dut.total.value.to_unsigned() == expected
        expected = (expected + enable * data) % (1 << width)


@cocotb.test(timeout_time=100, timeout_unit="us", skip=not bench_parameters().get("fail"))
async def fails_on_purpose(dut):
    await start_clock(dut)
    assert dut.total.value.to_unsigned() == 12345
