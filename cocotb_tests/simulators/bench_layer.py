"""Encoder layers and random programs on the whole accelerator, few enough for a slow simulator, without an x."""

import cocotb
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.registers import REGISTERS

from cocotb_tests.accelerator_driver import AcceleratorDriver, Job
from cocotb_tests.harness import bench_parameters
from cocotb_tests.simulators.unknowns import watch_for_unknowns

CONFIG = AcceleratorConfig.from_toml(bench_parameters()["config"])


async def watched(dut):
    accelerator = await AcceleratorDriver(dut, CONFIG, latency=10).start()
    watch_for_unknowns(dut)
    return accelerator


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def layers_equal_golden(dut):
    """Widths and lengths that fill no tile, so that words which nobody wrote go through the array; then every register
    is read."""
    accelerator = await watched(dut)
    for pause, shape, lengths, masked in [(0.0, (6, 10, 2), [3], True), (0.2, (8, 8, 1), [2], False)]:
        accelerator.stress(pause)
        await accelerator.run(Job(CONFIG, shape, lengths, masked))
    for register in REGISTERS:
        await accelerator.read(register.name)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_program_writes_what_golden_writes(dut):
    """All engines at once, in an order of their own."""
    accelerator = await watched(dut)
    await accelerator.run_random(16)
