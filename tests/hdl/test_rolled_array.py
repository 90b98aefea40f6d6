"""The simulator's model of the array against the array, in lockstep."""

import random

import numpy as np
import pytest
from amaranth import Cat, Module, Signal
from celosia.generators.configurations import configuration
from celosia.generators.verilog import convert, simulation_models, to_verilog
from celosia.hdl.accelerator import Accelerator
from celosia.hdl.bus.axi import flat_ports
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.matmul.array import SystolicArray, array_latency
from celosia.hdl.matmul.rolled_array import RolledArray
from celosia.hdl.parts import latched_word
from celosia.hdl.parts.multiplier import PRODUCT_BITS
from celosia.sim.build import compile_model
from celosia.sim.model import Simulation

CYCLES = 20_000


def random_bits(m, count):
    """At least ``count`` bits from xorshift generators."""
    seeds = random.Random(1)
    words = []
    for index in range(count // 64 + 1):
        word = Signal(64, name=f"random_{index}", init=seeds.getrandbits(64) | 1)
        first = Signal(64, name=f"first_{index}")
        second = Signal(64, name=f"second_{index}")
        m.d.comb += [first.eq(word ^ (word << 13)), second.eq(first ^ (first >> 7))]
        m.d.sync += word.eq(second ^ (second << 17))
        words.append(word)
    return Cat(words)


class Lockstep(Accelerator):
    """Both arrays behind the accelerator's ports, which are idle, fed by the same noise: rows of int8 and of
    uint8, tiles that are shifted and swapped in at any time, also where the rules forbid it.

    ``interrupt`` is high from the first cycle on in which their sums differ, once what they begin with has left them;
    ``m_axi_mem.wdata`` is 1 when each bit that a product reaches has been high and low.
    """

    def elaborate(self, platform):
        m = Module()
        m.submodules.array = array = SystolicArray(self.config)
        m.submodules.rolled = rolled = RolledArray(self.config)
        rows, cols = self.config.rows, self.config.cols
        noise = random_bits(m, 16 * rows + 4 * cols)
        products = Cat(total[:PRODUCT_BITS] for total in array.sums)
        was_high, was_low = Signal(len(products)), Signal(len(products))
        activations, weights, events = noise[:8 * rows], noise[8 * rows:16 * rows], noise[16 * rows:]
        m.d.sync += [
            was_high.eq(was_high | products),
            was_low.eq(was_low | ~products),
        ]
        for either in (array, rolled):
            m.d.comb += [
                either.activations.as_value().eq(activations),
                either.unsigned_activations.eq(events[0]),
                either.weights.as_value().eq(weights),
                either.swap.eq(events[1:4].all()),
                either.shift.eq(events[cols:2 * cols] & events[2 * cols:3 * cols]),
            ]
        settling = Signal(range(array_latency(self.config) + 1), init=array_latency(self.config))
        with m.If(settling != 0):
            m.d.sync += settling.eq(settling - 1)
        with m.Elif(array.sums.as_value() != rolled.sums.as_value()):
            m.d.sync += self.interrupt.eq(1)
        m.d.comb += self.m_axi_mem.wdata.eq((was_high & was_low).all())
        return m


def check(config, before=""):
    """Run both in lockstep; ``before`` is Verilog that comes before theirs."""
    design = Lockstep(config)
    verilog = before + convert(design, name="lockstep", target=config.target, ports=flat_ports(design)) + \
        simulation_models(config.target)
    with Simulation(compile_model(verilog, top="lockstep"), np.zeros(4096, np.uint8)) as simulation:
        simulation.reset()
        assert not simulation.run_until(max_cycles=CYCLES), f"they differ before cycle {simulation.cycles}"
        assert simulation.cycles > CYCLES
        assert simulation.io.m_axi_mem_wdata == 1, "a bit of the sums has never changed"


@pytest.mark.parametrize(("rows", "cols", "target", "share", "height", "width"), [
    (8, 4, "generic", 1, 4, 4), (4, 16, "xilinx", 2, 1, 2), (4, 4, "ecp5", 1, 1, 1), (8, 8, "generic", 1, 2, 2),
    (8, 8, "ecp5", 2, 4, 4), (4, 8, "generic", 2, 2, 8),
    *(pytest.param(*shape, marks=pytest.mark.regress) for shape in (
        (16, 16, "generic", 1, 4, 4), (16, 4, "ecp5", 2, 1, 2), (16, 8, "generic", 1, 16, 8),
        (8, 8, "generic", 1, 1, 1), (4, 4, "xilinx", 1, 4, 1))),
])
def test_sums_are_equal_in_every_cycle(rows, cols, target, share, height, width):
    check(AcceleratorConfig(rows=rows, cols=cols, lanes=4, target=target, macs_per_multiplier=share,
                            rows_per_sum=height, columns_per_activation=width))


@pytest.mark.parametrize(("rows", "cols", "height", "width"), [
    (8, 8, 4, 4), *(pytest.param(*shape, marks=pytest.mark.regress) for shape in ((4, 4, 4, 4), (4, 16, 2, 8)))])
def test_latches_change_no_sum(rows, cols, height, width):
    check(AcceleratorConfig(rows=rows, cols=cols, lanes=4, rows_per_sum=height, columns_per_activation=width,
                            weight_latches=1))


def test_a_clock_whose_gate_is_no_latch_is_seen(monkeypatch):
    monkeypatch.setattr(latched_word, "_MODULE", latched_word._MODULE.replace("if (!clk) swaps", "swaps"))
    with pytest.raises(AssertionError, match="they differ before cycle"):
        check(AcceleratorConfig(rows=4, cols=4, weight_latches=1))


@pytest.mark.parametrize(("rows", "height", "width"), [
    (8, 4, 4), *(pytest.param(*shape, marks=pytest.mark.regress) for shape in ((4, 2, 1), (16, 8, 2), (8, 8, 8)))])
def test_the_gates_that_are_synthesised_make_the_same_sums(rows, height, width):
    """Simulators get the formula of a sum of products; here they get its Booth digits and its tree."""
    check(AcceleratorConfig(rows=rows, cols=8, lanes=4, rows_per_sum=height, columns_per_activation=width),
          before="`define SYNTHESIS\n")


def test_only_who_asks_gets_the_model():
    config = configuration("tiny")
    assert "celosia_rolled_array" not in to_verilog(config)
    rolled = to_verilog(config, rolled_array=True)
    assert "module celosia_rolled_array" in rolled
    assert "celosia_fused_rows" not in rolled
