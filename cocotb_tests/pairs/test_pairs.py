"""Two accelerators of different configurations in one design: from one conversion, and from two generated folders."""

import pytest
from celosia.generators.files import sources_of
from celosia.generators.verilog import convert, simulation_models, to_verilog
from celosia.hdl.bus.axi import flat_ports
from celosia.hdl.config import AcceleratorConfig

from cocotb_tests.harness import run_testbench
from cocotb_tests.pairs.designs import Several, several_folders

SMALL = {"bus_bits": 64, "scratchpad_kib": 16, "scratchpad_banks": 4, "accumulator_kib": 16, "row_entries": 64,
         "max_k": 64, "max_n": 64, "max_tokens": 16}
FLAT = AcceleratorConfig(rows=4, cols=8, **SMALL)
SQUARE = AcceleratorConfig(rows=8, cols=8, lanes=4, macs_per_multiplier=2, target="ecp5", **SMALL)
SHARING = AcceleratorConfig(rows=4, cols=4, macs_per_multiplier=2, target="ecp5", **SMALL)
PLAIN = AcceleratorConfig(rows=4, cols=4, target="ecp5", **SMALL | {"bus_bits": 128})


def check(verilog, configs):
    run_testbench(verilog, bench="pairs.bench_pairs", top="pair", parameters={
        "programs": 5, "configs": {name: config.to_toml() for name, config in configs.items()}})


@pytest.mark.regress
def test_two_accelerators_in_one_amaranth_design():
    configs = {"first": FLAT, "second": SQUARE}
    design = Several(configs)
    check(convert(design, name="pair", target="ecp5", ports=flat_ports(design)) + simulation_models("ecp5"), configs)


def test_two_generated_folders_in_one_design():
    configs = {"npu": PLAIN, "npu_2": SHARING}
    texts = [source.text for prefix, config in configs.items()
             for source in sources_of(config, to_verilog(config), prefix=prefix)]
    check("".join([*texts, several_folders("pair", configs)]), configs)
