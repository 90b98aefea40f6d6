"""Random programs on several accelerators at once."""

import cocotb
from celosia.hdl.config import AcceleratorConfig
from cocotb.triggers import gather

from cocotb_tests.accelerator_driver import AcceleratorDriver
from cocotb_tests.harness import bench_parameters, start_clock

CONFIGS = {name: AcceleratorConfig.from_toml(text) for name, text in bench_parameters()["configs"].items()}


class Part:
    """Those ports of ``dut`` that belong to the accelerator ``name``, as a design of their own."""

    def __init__(self, dut, name):
        self.clk, self.rst, self._log, self._name = dut.clk, dut.rst, dut._log, f"{dut._name}.{name}"
        for port in dir(dut):
            if port.startswith(f"{name}_"):
                setattr(self, port.removeprefix(f"{name}_"), getattr(dut, port))


@cocotb.test(timeout_time=40, timeout_unit="ms")
async def each_runs_its_programs(dut):
    """What the one does is nothing to the other."""
    accelerators = [AcceleratorDriver(Part(dut, name), config, latency=10) for name, config in CONFIGS.items()]
    await start_clock(dut)

    async def run(accelerator):
        await accelerator.open()
        for _ in range(bench_parameters()["programs"]):
            await accelerator.run_random(60)

    await gather(*(run(accelerator) for accelerator in accelerators))
