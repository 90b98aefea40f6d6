"""The generated systolic array alone, with new data in every cycle: the measure of the simulation's speed."""

import time

import numpy as np
from amaranth import Cat, Module, Signal
from celosia.generators.verilog import convert
from celosia.hdl.accelerator import Accelerator
from celosia.hdl.bus.axi import flat_ports
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.matmul.array import SystolicArray
from celosia.sim.build import compile_model
from celosia.sim.model import Simulation

__all__ = ["bare_array_rate"]


class BareArray(Accelerator):
    """The array behind the accelerator's ports, which are idle; fed by a shift register with feedback."""

    def elaborate(self, platform):
        m = Module()
        m.submodules.array = array = SystolicArray(self.config)
        bits = len(array.activations.as_value()) + len(array.weights.as_value())
        noise = Signal(bits, init=0x9E3779B97F4A7C15F39CC0605CEDC835 | 1)
        count, columns = Signal(range(2 * self.config.cols)), Signal(self.config.cols, init=1)
        m.d.sync += [
            noise.eq(Cat(noise[11:] ^ noise[:-11], noise[:11] ^ noise[-11:])),
            count.eq(count + 1),
            columns.eq(Cat(columns[-1], columns)),
        ]
        m.d.comb += [
            array.activations.as_value().eq(noise),
            array.weights.as_value().eq(noise[-len(array.weights.as_value()):]),
            array.swap.eq(count == 0),
            array.shift.eq(columns),
            self.m_axi_mem.wdata.eq(Cat(total[:8] for total in array.sums)),
        ]
        return m


def bare_array_rate(config: AcceleratorConfig, compiler: str = "g++", seconds: float = 2.0) -> float:
    """Simulated cycles per CPU second of the array of ``config`` alone."""
    design = BareArray(config)
    text = convert(design, name="bare", ports=flat_ports(design))
    memory = np.zeros(4096, np.uint8)
    with Simulation(compile_model(text, top="bare", compiler=compiler), memory) as simulation:
        simulation.reset()
        cycles, start = 0, time.process_time()
        while time.process_time() - start < seconds:
            simulation.run_until(interrupt=False, max_cycles=20_000)
            cycles += 20_000
        return cycles / (time.process_time() - start)
