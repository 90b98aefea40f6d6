"""Random programs on the whole accelerator, against the interpreter that executes them one by one."""

import cocotb
from celosia.hdl.config import AcceleratorConfig

from cocotb_tests.accelerator_driver import AcceleratorDriver
from cocotb_tests.harness import bench_parameters

CONFIG = AcceleratorConfig.from_toml(bench_parameters()["config"])


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def memory_is_as_if_executed_in_order(dut):
    """Semaphores order what must be ordered, and nothing else."""
    accelerator = await AcceleratorDriver(dut, CONFIG, latency=10).start()
    for _ in range(bench_parameters()["programs"]):
        await accelerator.run_random(60)
