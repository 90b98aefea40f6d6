"""The folder that `celosia generate` writes, read by the tools that it is for."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from celosia.generators import files
from celosia.generators.configurations import configuration
from celosia.generators.files import Source, file_names, files_of
from celosia.generators.formats import constraints, documents, fusesoc, ports, readme, systemrdl, vivado, waivers
from celosia.generators.formats.constraints import to_lpf, to_sdc, to_xdc
from celosia.generators.formats.fusesoc import core_name
from celosia.generators.formats.ports import Kind, interfaces_of
from celosia.generators.observer import OBSERVER, observer
from celosia.generators.verilog import TOP, convert, simulation_models
from celosia.hdl.config import ConfigError
from celosia.hdl.matmul.rolled_array import RolledArray
from celosia.hdl.parts.lint import WAIVERS
from celosia.session import cached_verilog

from tests.generators.tools import VIVADO, fusesoc_run, needed, run, verilator, yosys

CONFIG = configuration("tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("generated")
    for name, text in files_of(CONFIG, cached_verilog(CONFIG)).items():
        (path / name).write_text(text)
    return path


@pytest.mark.parametrize("module", [constraints, documents, files, fusesoc, ports, readme, systemrdl, vivado, waivers],
                         ids=lambda module: module.__name__)
def test_every_public_name_is_there(module):
    assert all(hasattr(module, name) for name in module.__all__)


def test_the_readme_names_every_file(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == set(file_names(CONFIG))
    readme = (folder / "celosia_README.md").read_text()
    listed = re.findall(r"^\| `(\S+)` \| ", readme.split("## Interfaces")[0], re.MULTILINE)
    assert {*listed, "celosia_README.md"} == names
    assert len(listed) == len(names) - 1


def test_the_files_do_not_depend_on_the_process():
    program = ("import json; from celosia.generators.configurations import configuration;"
               "from celosia.generators.files import files_of; print(json.dumps(files_of(configuration('tiny'), '')))")
    first, second = (run(None, sys.executable, "-c", program, PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert first == second
    assert first[0] == 0


def test_verilator_finds_no_fault(folder):
    assert verilator(folder, "-Wall", "--top-module", TOP, "celosia.vlt", "-f", "celosia.f") == (0, "")
    assert verilator(folder, "-Wall", "--default-language", "1364-2001", "--top-module", TOP, "celosia.vlt", "-f",
                     "celosia.f") == (0, "")


@pytest.mark.parametrize("name", ["rect", "base"])
def test_verilator_finds_no_fault_in_other_shapes(tmp_path, name):
    config = configuration(name)
    texts = files_of(config, cached_verilog(config))
    for file in ("celosia.v", "celosia.vlt"):
        (tmp_path / file).write_text(texts[file])
    assert verilator(tmp_path, "-Wall", "--top-module", TOP, "celosia.vlt", "celosia.v") == (0, "")


def test_every_waiver_is_needed_and_explained(folder):
    code, log = verilator(folder, "-Wall", "-Wno-fatal", "--top-module", TOP, "-f", "celosia.f")
    assert code == 0
    assert set(re.findall(r"^%Warning-(\w+)", log, re.MULTILINE)) == {waiver.rule for waiver in WAIVERS}
    for waiver in WAIVERS:
        assert f"// {waiver.reason}\nlint_off -rule {waiver.rule} -file" in (folder / "celosia.vlt").read_text()


def test_waivers_are_for_the_generated_file_alone(folder, tmp_path):
    (tmp_path / "mine.v").write_text("module mine(input a, output wire b);\n  assign b = 1'b0;\nendmodule\n")
    code, log = verilator(folder, "-Wall", "--top-module", "mine", "celosia.vlt", tmp_path / "mine.v")
    assert code != 0
    assert "UNUSEDSIGNAL" in log


@pytest.mark.parametrize(("target", "share"), [("ecp5", 1), ("ecp5", 2), ("xilinx", 2)])
def test_tools_take_every_mapping(tmp_path, target, share):
    config = configuration("tiny", [f"target={target}", f"macs_per_multiplier={share}"])
    files = files_of(config, cached_verilog(config))
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    sources = "celosia_simulation.f" if "celosia_simulation.f" in files else "celosia.f"
    assert verilator(tmp_path, "-Wall", "--top-module", TOP, "celosia.vlt", "-f", sources) == (0, "")
    if shutil.which("iverilog"):
        assert run(tmp_path, "iverilog", "-g2001", "-Wall", "-t", "null", "-s", TOP, "-c", sources) == (0, "")


def test_tools_take_latches(tmp_path):
    config = configuration("tiny", ["weight_latches=1"])
    for name, text in files_of(config, cached_verilog(config)).items():
        (tmp_path / name).write_text(text)
    for options in ((), ("--default-language", "1364-2001"), ("-DSYNTHESIS",)):
        assert verilator(tmp_path, "-Wall", *options, "--top-module", TOP, "celosia.vlt", "celosia.v") == (0, "")
    code, log = yosys(tmp_path, f"read_verilog celosia.v; hierarchy -check -top {TOP}; proc; check -assert; "
                                "select -assert-count 3 *celosia_latched_word*/t:$dlatch")
    assert code == 0, log[-2000:]
    if shutil.which("iverilog"):
        assert run(tmp_path, "iverilog", "-g2001", "-Wall", "-t", "null", "-s", TOP, "celosia.v") == (0, "")


@needed("iverilog", "iverilog")
def test_icarus_elaborates_it(folder):
    assert run(folder, "iverilog", "-g2001", "-Wall", "-t", "null", "-s", TOP, "-c", "celosia.f") == (0, "")


def test_yosys_reads_it(folder):
    code, log = yosys(folder, f"read_verilog celosia.v; hierarchy -check -top {TOP}; proc; check -assert")
    assert code == 0, log[-2000:]
    assert "Found and reported 0 problems." in log


def declared(tmp_path, *texts):
    """Write the texts after the directive of another file that no net is implied, and before one."""
    # In the header of a module no semicolon ends a port; in its body Amaranth declares each port as a net too.
    assert not re.findall(r"^(?:module .*\(|  )(?:input|output) (?!wire |reg )[^;]*$", "\n".join(texts), re.MULTILINE)
    directive = "`default_nettype none\n"
    (tmp_path / "all.v").write_text(directive + "\n".join(texts) + "\n" + directive)


@pytest.mark.parametrize("target", ["generic", "ecp5", "xilinx"])
def test_every_net_is_declared(tmp_path, target):
    """Of the accelerator and of the models of cells."""
    declared(tmp_path, cached_verilog(configuration("tiny", [f"target={target}"])), simulation_models(target))
    code, log = verilator(tmp_path, "-Wno-fatal", "--top-module", TOP, "all.v")
    assert (code, "%Error" in log) == (0, False), log[-2000:]
    code, log = yosys(tmp_path, f"read_verilog all.v; hierarchy -top {TOP}")  # which has the vendors' cells
    assert code == 0, log[-2000:]
    if shutil.which("iverilog"):
        assert run(tmp_path, "iverilog", "-g2001", "-t", "null", "-s", TOP, "all.v") == (0, "")


def test_every_net_of_the_observer_is_declared(tmp_path):
    """It reads signals inside of the accelerator, which only simulators do."""
    declared(tmp_path, cached_verilog(CONFIG), observer(CONFIG))
    code, log = verilator(tmp_path, "-Wno-fatal", "--top-module", OBSERVER, "all.v")
    assert (code, "%Error" in log) == (0, False), log[-2000:]


def test_every_net_of_the_rolled_array_is_declared(tmp_path):
    declared(tmp_path, convert(RolledArray(CONFIG), name=TOP, rolled_array=True))
    code, log = verilator(tmp_path, "-Wno-fatal", "--top-module", TOP, "all.v")
    assert (code, "%Error" in log) == (0, False), log[-2000:]


def test_fusesoc_lints_it(folder, tmp_path):
    code, log = fusesoc_run(folder, tmp_path, "run", "--target", "lint", core_name(TOP))
    assert code == 0, log[-2000:]
    assert "Warning" not in log
    options = next(tmp_path.glob("build/*/lint/*.vc")).read_text().split()
    assert options[:3] == ["--Mdir", ".", "--lint-only"]
    assert "-Wall" in options
    assert [Path(word).name for word in options if word.startswith("src/")] == ["celosia.vlt", "celosia.v"]


@pytest.mark.parametrize(("tool", "files"), [
    ("vivado", ["celosia.v", "celosia.xdc"]), ("trellis", ["celosia.v", "celosia.lpf"]),
    ("verilator", ["celosia.v", "celosia.vlt"]), ("icarus", ["celosia.v"])])
def test_fusesoc_gives_a_tool_what_it_reads(folder, tmp_path, tool, files):
    code, log = fusesoc_run(folder, tmp_path, "run", "--setup", "--target", "default", "--tool", tool,
                            core_name(TOP))
    assert code == 0, log[-2000:]
    design = next(tmp_path.glob("build/*/*/*.eda.yml")).read_text()
    assert re.findall(r"name: src/[^/]+/(\S+)", design) == files


def test_a_model_is_simulated_and_not_synthesised(tmp_path, monkeypatch):
    accelerator = Source("celosia.v", "", f"module {TOP}(output wire q);\n  CELL cell_0 (.q(q));\nendmodule\n")
    model = Source("cells.v", "", "module CELL(output wire q);\n  assign q = 1'b0;\nendmodule\n", simulation_only=True)
    monkeypatch.setattr(files, "sources_of", lambda config, verilog, prefix: (accelerator, model))
    texts = files_of(CONFIG, "")
    assert texts["celosia.f"] == "celosia.v\n"
    assert texts["celosia_simulation.f"] == "celosia.v\ncells.v\n"
    assert "cells.v" not in texts["celosia_vivado.tcl"]
    assert "-f celosia_simulation.f" in texts["celosia_README.md"]
    (tmp_path / "core").mkdir()
    for name, text in texts.items():
        (tmp_path / "core" / name).write_text(text)
    for arguments, names in [(["--target", "lint"], ["celosia.v", "cells.v", "celosia.vlt"]),
                             (["--target", "default", "--tool", "vivado"], ["celosia.v", "celosia.xdc"])]:
        work = tmp_path / arguments[-1]
        work.mkdir()
        code, log = fusesoc_run(tmp_path / "core", work, "run", "--setup", *arguments, core_name(TOP))
        assert code == 0, log[-2000:]
        design = next(work.glob("build/*/*/*.eda.yml")).read_text()
        assert re.findall(r"name: src/[^/]+/(\S+)", design) == names


def verilog_ports(folder):
    """The ports in the Verilog: direction and width by name."""
    text = (folder / "celosia.v").read_text()
    module = text[text.index(f"module {TOP}("):]
    module = module[:module.index("endmodule")]
    return {name: (direction, int(high or 0) + 1) for direction, high, name in re.findall(
        r"^  (input|output) (?:reg |wire )?(?:\[(\d+):0\] )?(\w+)", module, re.MULTILINE)}


def test_interfaces_hold_every_port_once(folder):
    listed = [port for interface in interfaces_of(CONFIG) for port in interface.ports]
    assert {port.name: ("output" if port.output else "input", port.width) for port in listed} == verilog_ports(folder)
    assert len(listed) == len({port.name for port in listed})
    assert [interface.name for interface in interfaces_of(CONFIG)] == [
        "clk", "rst", "s_axi_ctrl", "m_axi_mem", "interrupt"]


@needed("tclsh", "tcl")
def test_the_packaging_script_declares_every_port_in_one_interface(folder, tmp_path):
    (tmp_path / "vivado.tcl").write_text(VIVADO)
    code, log = run(tmp_path, "tclsh", "vivado.tcl", folder / "celosia_vivado.tcl")
    assert code == 0, log
    calls = [line.split("\t") for line in log.splitlines()]
    assert ["add_files", "-norecurse", str(folder / "celosia.v")] in calls
    assert ["add_files", "-norecurse", "-fileset", "constrs_1", str(folder / "celosia.xdc")] in calls
    assert calls[-2:] == [["save_core", "core"], ["close_project", "-delete"]]
    properties = {(target, name): value for command, name, value, target in (
        call for call in calls if call[0] == "set_property")}
    ports = [value for (_target, name), value in properties.items() if name == "physical_name"]
    assert sorted(ports) == sorted(verilog_ports(folder))
    assert properties["files", "USED_IN"] == "synthesis implementation out_of_context"
    types = {target.removeprefix("interface/"): (value, properties[target, "interface_mode"])
             for (target, name), value in properties.items() if name == "abstraction_type_vlnv"}
    assert types == {
        "clk": ("xilinx.com:signal:clock_rtl:1.0", "slave"), "rst": ("xilinx.com:signal:reset_rtl:1.0", "slave"),
        "s_axi_ctrl": ("xilinx.com:interface:aximm_rtl:1.0", "slave"),
        "m_axi_mem": ("xilinx.com:interface:aximm_rtl:1.0", "master"),
        "interrupt": ("xilinx.com:signal:interrupt_rtl:1.0", "master")}
    parameters = {target.removeprefix("interface/").replace("/parameter", ""): value
                  for (target, name), value in properties.items() if name == "value"}
    assert parameters == {
        "clk/ASSOCIATED_BUSIF": "s_axi_ctrl:m_axi_mem", "clk/ASSOCIATED_RESET": "rst", "rst/POLARITY": "ACTIVE_HIGH",
        "s_axi_ctrl/PROTOCOL": "AXI4LITE", "m_axi_mem/PROTOCOL": "AXI4", "m_axi_mem/MAX_BURST_LENGTH": "64",
        "m_axi_mem/NUM_READ_OUTSTANDING": "8", "m_axi_mem/SUPPORTS_NARROW_BURST": "0",
        "interrupt/SENSITIVITY": "LEVEL_HIGH"}
    assert properties["interface/s_axi_ctrl", "slave_memory_map_ref"] == "s_axi_ctrl"
    assert properties["map/s_axi_ctrl/registers", "range"] == "4096"
    assert properties["interface/m_axi_mem", "master_address_space_ref"] == "m_axi_mem"
    assert properties["space/m_axi_mem", "range"] == str(1 << CONFIG.address_bits)
    for interface in interfaces_of(CONFIG):
        for port in interface.ports:
            assert properties[f"interface/{interface.name}/port/{port.logical}", "physical_name"] == port.name
            if interface.kind in (Kind.AXI4, Kind.AXI4_LITE):
                assert port.name == f"{interface.name}_{port.logical.lower()}"


@pytest.mark.parametrize(("mhz", "period", "frequency"), [
    (100, "10.000", "100.000"), (333, "3.003", "333.000"), (66.6667, "14.999", "66.667"), (1, "1000.000", "1.000")])
def test_constraints_ask_for_the_frequency(mhz, period, frequency):
    clock = f"\ncreate_clock -name clk -period {period} [get_ports clk]\n"
    assert clock in to_xdc(mhz)
    assert clock in to_sdc(mhz)
    assert f'\nFREQUENCY PORT "clk" {frequency} MHZ;\n' in to_lpf(mhz)
    assert float(period) <= 1000 / mhz


@pytest.mark.parametrize(("mhz", "shown"), [(0, "0"), (-100, "-100"), (2001, "2001"), (float("nan"), "nan"),
                                            (float("inf"), "inf")])
def test_refused_frequencies(mhz, shown):
    with pytest.raises(ConfigError, match=f"^the frequency must be from 1 to 2000 MHz, not {shown}$"):
        files_of(CONFIG, "", mhz=mhz)
