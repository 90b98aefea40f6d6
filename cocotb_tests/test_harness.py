"""The harness itself: a testbench passes, a failing or an empty one fails, and builds are found again."""

import re
import shutil

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from celosia.sim import cache
from celosia.sim.verilator import ToolError

from cocotb_tests.harness import BenchFailure, run_testbench


class Accumulator(wiring.Component):
    """Adds ``data`` to ``total`` in each cycle with ``enable``."""

    def __init__(self, width: int):
        super().__init__({"enable": In(1), "data": In(width), "total": Out(width)})

    def elaborate(self, platform):
        m = Module()
        with m.If(self.enable):
            m.d.sync += self.total.eq(self.total + self.data)
        return m


@pytest.mark.parametrize("width", [8, 33])
def test_a_testbench_passes(width):
    result = run_testbench(Accumulator(width), bench="bench_harness", parameters={"width": width})
    assert result.passed == ("sums_modulo_two_to_the_width",)


def test_a_failing_coroutine_fails_with_its_name_and_seed(monkeypatch):
    monkeypatch.delenv("COCOTB_RANDOM_SEED", raising=False)
    with pytest.raises(BenchFailure, match=re.compile(
            r"^bench_harness: 1 of 2 tests failed; seed 77, log in .*fails_on_purpose: .*12345", re.S)):
        run_testbench(Accumulator(8), bench="bench_harness", parameters={"width": 8, "fail": True}, seed=77)


def test_no_coroutine_is_a_failure():
    with pytest.raises(BenchFailure, match="bench_harness: no cocotb test ran; seed "):
        run_testbench(Accumulator(8), bench="bench_harness", parameters={"width": 8}, testcase="no_such_test")


def test_a_missing_module_is_a_failure():
    with pytest.raises(BenchFailure, match="bench_nothing"):
        run_testbench(Accumulator(8), bench="bench_nothing")


def test_a_compiled_design_is_found_again(monkeypatch):
    run_testbench(Accumulator(8), bench="bench_harness", parameters={"width": 8})
    monkeypatch.setattr(cache, "_make", lambda folder, make: pytest.fail(f"{folder} is made again"))
    run_testbench(Accumulator(8), bench="bench_harness", parameters={"width": 8})


def test_the_environment_names_the_seed(monkeypatch):
    monkeypatch.setenv("COCOTB_RANDOM_SEED", "5")
    result = run_testbench(Accumulator(8), bench="bench_harness", parameters={"width": 8}, seed=77)
    assert result.seed == 5


@pytest.mark.parametrize("name", [
    "Verilator", pytest.param("Icarus", marks=pytest.mark.skipif(
        shutil.which("iverilog") is None, reason="iverilog is not installed (Debian: apt install iverilog)"))])
def test_verilog_that_does_not_compile_shows_the_message_of_the_simulator(name):
    with pytest.raises(ToolError, match=rf"^{name} can't compile top:(.|\n)*syntax error"):
        run_testbench("module top(input clk) oops endmodule", bench="bench_harness", simulator=name.lower())


def test_a_simulator_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("SIM", "questa")
    with pytest.raises(ValueError, match=r"^the simulator must be verilator or icarus, not 'questa'$"):
        run_testbench(Accumulator(8), bench="bench_harness")


def test_a_simulator_that_is_missing_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolError, match=(
            r"^the testbench needs iverilog to run under Icarus \(Debian: apt install iverilog\)$")):
        run_testbench(Accumulator(8), bench="bench_harness", simulator="icarus")
