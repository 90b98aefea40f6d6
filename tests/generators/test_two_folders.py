"""Two generated folders of different prefixes in one project, and their files in one directory."""

import re
from pathlib import Path

import pytest
from celosia.generators.configurations import configuration
from celosia.generators.files import file_names, files_of
from celosia.generators.formats.fusesoc import core_name
from celosia.hdl.parts.lint import WAIVERS
from celosia.session import cached_verilog
from systemrdl import RDLCompiler

from cocotb_tests.pairs.designs import several_folders
from tests.generators.tools import VIVADO, fusesoc_run, needed, run, verilator, yosys

#: Both have a vendor's cells, and the files of the second end in the names of those of the first.
CONFIGS = {"npu": configuration("tiny", ["target=ecp5", "macs_per_multiplier=1"]),
           "second_npu": configuration("tiny", ["target=ecp5", "macs_per_multiplier=2"])}
PREFIXES = tuple(CONFIGS)
SOURCES = ("-f", "npu_simulation.f", "-f", "second_npu_simulation.f")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("both")
    for prefix, config in CONFIGS.items():
        for name, text in files_of(config, cached_verilog(config), prefix=prefix).items():
            assert not (path / name).exists()
            (path / name).write_text(text)
    (path / "pair.v").write_text(several_folders("pair", CONFIGS))
    return path


@pytest.mark.parametrize("order", [PREFIXES, PREFIXES[::-1]], ids="-".join)
def test_verilator_finds_no_fault(folder, order):
    sources = [word for prefix in order for word in ("-f", f"{prefix}_simulation.f")]
    assert verilator(folder, "-Wall", "--top-module", "pair", *(f"{prefix}.vlt" for prefix in order), "pair.v",
                     *sources) == (0, "")


@pytest.mark.parametrize(("waived", "other"), [PREFIXES, PREFIXES[::-1]], ids=PREFIXES)
def test_the_waivers_of_one_are_not_for_the_other(folder, waived, other):
    code, log = verilator(folder, "-Wall", "-Wno-fatal", "--top-module", "pair", f"{waived}.vlt", "pair.v", *SOURCES)
    assert code == 0
    found = set(re.findall(r"^%Warning-(\w+): (\S+?):", log, re.MULTILINE))
    assert {file for _rule, file in found} <= {f"{other}.v", f"{other}_cells.v"}
    rules = {waiver.rule for waiver in WAIVERS} - {"SYMRSVDWORD"}  # which is of the top's ports
    assert {rule for rule, file in found if file == f"{other}.v"} == rules


@needed("iverilog", "iverilog")
def test_icarus_elaborates_both(folder):
    assert run(folder, "iverilog", "-g2001", "-Wall", "-t", "null", "-s", "pair", "pair.v", "-c", "npu_simulation.f",
               "-c", "second_npu_simulation.f") == (0, "")


def test_yosys_reads_both(folder):
    code, log = yosys(folder, "read_verilog -lib +/ecp5/cells_bb.v; read_verilog pair.v npu.v second_npu.v; "
                              "hierarchy -check -top pair; proc; check -assert")
    assert code == 0, log[-2000:]
    assert "Found and reported 0 problems." in log


def test_an_address_map_has_both(folder, tmp_path):
    compiler = RDLCompiler()
    for prefix in PREFIXES:
        compiler.compile_file(str(folder / f"{prefix}.rdl"))
    (tmp_path / "pair.rdl").write_text("addrmap pair {\n" + "".join(
        f"    {prefix} {prefix}_0 @ 0x{0x1000 * index:x};\n" for index, prefix in enumerate(PREFIXES)) + "};\n")
    compiler.compile_file(str(tmp_path / "pair.rdl"))
    for index, node in enumerate(compiler.elaborate("pair").top.children()):
        assert (node.type_name, node.absolute_address) == (PREFIXES[index], 0x1000 * index)
        assert node.get_child_by_name("status").get_child_by_name("cause").get_property("encode") is not None


def test_fusesoc_lints_both(folder, tmp_path):
    (tmp_path / "pair.core").write_text("\n".join([
        "CAPI=2:", "name: mine:designs:pair:1.0", "filesets:", "  rtl:", "    files: [pair.v]",
        "    file_type: verilogSource-2001", f"    depend: [{', '.join(map(core_name, PREFIXES))}]", "targets:",
        "  lint:", "    filesets: [rtl]", "    toplevel: pair", "    flow: lint", "    flow_options:",
        "      tool: verilator", "      verilator_options: [-Wall]", ""]))
    (tmp_path / "pair.v").write_text((folder / "pair.v").read_text())
    code, log = fusesoc_run(folder, tmp_path, "--cores-root", tmp_path, "run", "--target", "lint",
                            "mine:designs:pair:1.0")
    assert code == 0, log[-2000:]
    assert "Warning" not in log
    assert "WARNING" not in log
    options = next(tmp_path.glob("build/*/lint/*.vc")).read_text().split()
    assert sorted(Path(word).name for word in options if word.startswith("src/")) == [
        "npu.v", "npu.vlt", "npu_cells.v", "pair.v", "second_npu.v", "second_npu.vlt", "second_npu_cells.v"]


@needed("tclsh", "tcl")
def test_one_vivado_packages_both(folder, tmp_path):
    """One after the other, in one interpreter."""
    (tmp_path / "vivado.tcl").write_text(VIVADO + "source [lindex $argv 1]\n")
    code, log = run(tmp_path, "tclsh", "vivado.tcl", *(folder / f"{prefix}_vivado.tcl" for prefix in PREFIXES))
    assert code == 0, log
    calls = [line.split("\t") for line in log.splitlines()]
    for what, of in [("name", "core"), ("top", "fileset")]:
        assert [value for command, name, value, target in (call for call in calls if call[0] == "set_property")
                if (name, target) == (what, of)] == list(PREFIXES)
    made = [call[2:4] for call in calls if call[0] == "create_project"]
    assert made == [[f"{prefix}_package", str(folder / f"{prefix}_vivado")] for prefix in PREFIXES]
    packaged = [call[call.index("-root_dir") + 1] for call in calls if call[0] == "package_project"]
    assert packaged == [str(folder / f"{prefix}_ip") for prefix in PREFIXES]


def test_no_file_is_of_both():
    names = [name for prefix, config in CONFIGS.items() for name in file_names(config, prefix=prefix)]
    assert len(names) == len(set(names))
