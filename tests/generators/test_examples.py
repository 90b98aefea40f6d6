"""The examples in docs/examples do what they say."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import celosia.hdl
import numpy as np
import pytest
from celosia import simulate
from celosia.firmware.driver.transport import FunctionalTransport
from celosia.generators.configurations import configuration
from celosia.generators.files import files_of
from celosia.generators.formats.ports import interfaces_of
from celosia.session import cached_verilog
from celosia.sim.build import WAIVERS
from celosia.sim.verilator import Toolchain

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def run(name, *arguments):
    return subprocess.run([sys.executable, EXAMPLES / name, *map(str, arguments)], text=True, capture_output=True,
                          check=False)


def lint(folder, top, *options):
    toolchain = Toolchain.find()
    done = subprocess.run([toolchain.command, "--lint-only", "--quiet", "--top-module", top, *options],
                          cwd=folder, env=toolchain.environment() | {"PATH": "/usr/bin:/bin"}, capture_output=True,
                          text=True, check=False)
    return done.returncode, done.stderr


def test_the_names_for_other_designs_are_imported_when_they_are_used():
    assert celosia.hdl.Accelerator is celosia.hdl.accelerator.Accelerator
    assert all(hasattr(celosia.hdl, name) for name in celosia.hdl.__all__)
    with pytest.raises(AttributeError, match=r"^module 'celosia\.hdl' has no attribute 'Nothing'$"):
        _ = celosia.hdl.Nothing
    program = "import sys, celosia.hdl.config; sys.exit('amaranth' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_amaranth_soc_runs_its_program():
    done = run("amaranth_soc.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("64 bytes copied in ")
    assert done.stdout.endswith(" cycles: as they were\n")


def test_the_amaranth_soc_becomes_verilog(tmp_path):
    done = run("amaranth_soc.py", tmp_path / "soc.v")
    assert (done.returncode, done.stderr) == (0, "")
    text = (tmp_path / "soc.v").read_text()
    for module in ("soc", r"\soc.accelerator", r"\soc.ram", r"\soc.starter"):
        assert f"\nmodule {module}" in text
    assert lint(tmp_path, "soc", *WAIVERS, "soc.v") == (0, "")


def loaded(name):
    """An example as a module."""
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_attention_of_a_decoder_equals_golden():
    """On the functional machine, whatever its memories hold, and on the simulated hardware."""
    example = loaded("decoder_attention")
    simulated = simulate(example.CONFIG).transport
    for tokens, width, seed in (16, 8, 0), (8, 16, 1):
        head = example.Head(tokens, width, seed)
        golden = head.golden()
        for transport in (*(FunctionalTransport(example.CONFIG, example.MEMORY_BYTES, check_races=True, seed=seed)
                            for seed in (None, 1)), simulated):
            np.testing.assert_array_equal(example.run(transport, head), golden, strict=True)
        assert np.sqrt(np.mean((golden - head.exact()) ** 2) / np.mean(head.exact() ** 2)) < 0.08
    simulated.simulation.close()


def test_the_attention_of_a_decoder_says_how_far_it_is_off():
    done = run("decoder_attention.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"equal to the golden kernels: True; off from floating point by 5\.\d % RMS\n", done.stdout)


def test_the_litex_soc_names_every_port(monkeypatch):
    """Without LiteX: only the names are looked at."""
    source = (EXAMPLES / "litex_soc.py").read_text()
    for line in source.splitlines():
        if line.startswith(("from litex", "from migen")):
            parts = line.split()[1].split(".")
            for i in range(len(parts)):
                monkeypatch.setitem(sys.modules, ".".join(parts[:i + 1]), MagicMock())
    example = loaded("litex_soc")
    buses = {"s_axi_ctrl": example.AXI4_LITE, "m_axi_mem": example.AXI4}
    for interface in interfaces_of(configuration("tiny")):
        if interface.name in buses:
            named = example.axi_ports(interface.name, MagicMock(), buses[interface.name], manager=interface.manager)
            assert set(named) == {f"{'o' if port.output else 'i'}_{port.name}" for port in interface.ports}
        else:
            (port,) = interface.ports
            assert f'"{"o" if port.output else "i"}_{port.name}": ' in source


def test_the_litex_soc_elaborates(tmp_path):
    pytest.importorskip("litex", reason="LiteX is not installed (pip install litex pythondata-cpu-vexriscv)")
    pytest.importorskip("pythondata_cpu_vexriscv", reason="the CPU is not installed (pip install "
                                                          "pythondata-cpu-vexriscv)")
    config = configuration("tiny")
    for name, text in files_of(config, cached_verilog(config), prefix="npu").items():
        (tmp_path / name).write_text(text)
    done = run("litex_soc.py", tmp_path / "npu", tmp_path / "soc")
    assert done.returncode == 0, done.stderr[-2000:]
    code, log = lint(tmp_path / "soc", "soc", "-Wno-fatal", tmp_path / "npu.vlt", "-f", "soc.f")
    assert code == 0
    assert "PIN" not in log
