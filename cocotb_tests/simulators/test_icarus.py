"""Icarus Verilog, which has x: each unit, and layers on the whole accelerator. Elsewhere the same runs under
Verilator at length."""

import re
import shutil
from functools import cache

import pytest
from celosia.generators.verilog import TOP, to_verilog
from celosia.hdl.bus.axi import flat_ports
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.control.control import Control
from celosia.hdl.control_plane import ControlPlane
from celosia.hdl.datapath import Datapath
from celosia.hdl.matmul.array import SystolicArray
from celosia.hdl.memory.scratchpad import Scratchpad
from celosia.hdl.parts.ram import Ram, SharedTable
from celosia.hdl.vector.curves import Curve
from celosia.hdl.vector.row_unit import RowUnit
from celosia.hdl.vector.scale import FirstScale, SecondScale

from cocotb_tests.bus.test_dma import TransferTop
from cocotb_tests.harness import BenchFailure, run_testbench
from cocotb_tests.vector.lanes import Lanes

pytestmark = pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed (Debian: apt "
                                                                         "install iverilog)")

SMALL = {"rows": 4, "cols": 4, "bus_bits": 64, "scratchpad_kib": 16, "scratchpad_banks": 4, "accumulator_kib": 16,
         "row_entries": 64, "max_k": 64, "max_n": 64, "max_tokens": 16}
CONFIG = AcceleratorConfig(**SMALL)
TWO_BANKS = {"rows": 4, "cols": 4, "scratchpad_kib": 16, "scratchpad_banks": 2}
SHARED = {"rows": 4, "cols": 4, "target": "ecp5", "macs_per_multiplier": 2}
LATCHES = {"rows": 4, "cols": 8, "columns_per_activation": 2, "weight_latches": 1}
COMPUTING = {**TWO_BANKS, "accumulator_kib": 16, "row_entries": 64}
_START = re.compile(r"^(  (?:output )?reg (?:\[\d+:0\] )?(?:\\\S+ |\w+) ?)= [^;]*;", re.MULTILINE)
_NOISE = re.compile(r"  // synthesis translate_off\n.*?  // synthesis translate_on\n", re.DOTALL)


#: Of each unit a design, its testbench, what that is told, and which of its tests are run; all, if none is named.
UNITS = {
    "ram": (lambda: Ram(24, 64, 3), "memory.bench_ram", {"width": 24, "depth": 64, "slices": 3, "garbage": True}, ""),
    "table": (lambda: SharedTable(24, 32, 4), "memory.bench_table", {"width": 24, "depth": 32, "readers": 4}, ""),
    "scratchpad": (lambda: Scratchpad(AcceleratorConfig(**TWO_BANKS)), "memory.bench_scratchpad", TWO_BANKS, ""),
    "array": (lambda: SystolicArray(AcceleratorConfig(**SHARED)), "matmul.bench_array", SHARED, ""),
    "latches": (lambda: SystolicArray(AcceleratorConfig(**LATCHES)), "matmul.bench_array", LATCHES, ""),
    "first scale": (lambda: Lanes(FirstScale, 2), "vector.bench_scale", {"lanes": 2}, "first_scale_equals_golden"),
    "second scale": (lambda: Lanes(SecondScale, 2), "vector.bench_scale", {"lanes": 2}, "second_scale_equals_golden"),
    "curve": (lambda: Lanes(Curve, 64), "vector.bench_curves", {"lanes": 64, "values": 2**14}, ""),
    "row unit": (lambda: Lanes(lambda: RowUnit(AcceleratorConfig(max_n=64)), 2), "vector.bench_row_unit",
                 {"lanes": 2, "max_n": 64}, ""),
    "datapath": (lambda: Datapath(AcceleratorConfig(**COMPUTING)), "bench_datapath", COMPUTING,
                 "row_requantisation_equals_golden,gelu_equals_golden,raw_results_are_the_accumulators,"
                 "loaded_curves_equal_golden"),
    "registers": (lambda: Control(CONFIG), "control.bench_control", {"config": CONFIG.to_toml()}, ""),
    "sequencer": (lambda: ControlPlane(CONFIG), "control.bench_sequencer", {"config": CONFIG.to_toml()},
                  "a_program_runs,semaphores_are_clear_at_each_start"),
    "transfers": (lambda: TransferTop(CONFIG), "bus.bench_dma", {"config": CONFIG.to_toml()},
                  "stores_write_their_bytes_and_no_other,the_last_bytes_of_the_window_can_be_used"),
}


verilog = cache(to_verilog)


@pytest.mark.parametrize("unit", UNITS)
def test_unit(unit):
    make, bench, parameters, testcases = UNITS[unit]
    design = make()
    ports = flat_ports(design) if bench.startswith(("bus.", "control.")) else None
    run_testbench(design, bench=bench, ports=ports, parameters=parameters, testcase=testcases or None,
                  target=parameters.get("target", "generic"), simulator="icarus")


def test_the_latches_that_are_synthesised():
    run_testbench(SystolicArray(AcceleratorConfig(**LATCHES)), bench="matmul.bench_array", parameters=LATCHES,
                  simulator="icarus", defines={"SYNTHESIS": "1"})


def layer(text, testcase=None, seed=None):
    run_testbench(text, bench="simulators.bench_layer", top=TOP, simulator="icarus", testcase=testcase, seed=seed,
                  parameters={"config": CONFIG.to_toml()})


def test_layers():
    layer(verilog(CONFIG))


def test_a_layer_of_registers_that_begin_as_x():
    """As in a chip, where only a reset gives registers their values."""
    text, count = _START.subn(r"\1;", verilog(CONFIG))
    assert count > 1000
    layer(text, testcase="layers_equal_golden")


def test_an_x_in_memory_is_seen(monkeypatch):
    monkeypatch.delenv("COCOTB_RANDOM_SEED", raising=False)
    text, count = _NOISE.subn("", verilog(CONFIG))
    assert count == 2
    with pytest.raises(BenchFailure, match=r"byte [0-7] of m_axi_mem_wdata is X+"):
        layer(text, testcase="layers_equal_golden", seed=1)
