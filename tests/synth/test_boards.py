"""Bitstreams for boards: dividers, pins and constraints, and what becomes of what the tools report. The tools are
stand-ins: the true ones take many minutes."""

import json
import re
from fractions import Fraction
from pathlib import Path

import pytest
from amaranth import Module
from amaranth.lib import wiring
from celosia.__main__ import app
from celosia.generators.configurations import configuration
from celosia.hdl.board.system import System
from celosia.hdl.config import AcceleratorConfig
from celosia.synth import boards
from celosia.synth.boards import BoardError, BoardOptions, Pll, build_board
from celosia.synth.tools import SynthesisError

SMALL = AcceleratorConfig(rows=4, cols=4, bus_bits=64, scratchpad_kib=16, scratchpad_banks=2, accumulator_kib=16,
                          row_entries=64, max_k=64, max_n=64, max_tokens=16)
CLOCK = "$glbnet$clk"


@pytest.mark.parametrize("mhz", range(10, 201, 5))
def test_the_loop_makes_every_clock_exactly(mhz: int) -> None:
    pll = Pll.of(25, mhz)
    assert Fraction(25, pll.reference) * pll.feedback == mhz
    assert 25 / pll.reference >= 3.125
    assert 400 <= mhz * pll.output <= 800
    assert max(pll.reference, pll.feedback, pll.output) <= 128


def test_dividers_that_lattice_tools_choose() -> None:
    assert Pll.of(25, 50) == Pll(1, 2, 12)  # as ecppll says


@pytest.mark.parametrize(("clock_mhz", "baud", "divisor"), [
    (50, 1_000_000, 50), (120, 3_000_000, 40), (80, 115_200, 694), (10, 2_000_000, 5)])
def test_the_divisor_hits_the_baud_rate(clock_mhz: int, baud: int, divisor: int) -> None:
    assert BoardOptions(clock_mhz, baud).divisor == divisor


@pytest.mark.parametrize(("options", "sentence"), [
    ({"clock_mhz": 5}, "clock_mhz must be a multiple of 5 from 10 to 200, not 5"),
    ({"clock_mhz": 33}, "clock_mhz must be a multiple of 5 from 10 to 200, not 33"),
    ({"baud": 0}, "baud must be at least 300, and within 1 % of 50 MHz divided by a whole number of at least 4, not 0"),
    ({"baud": 3_000_000}, "baud must be at least 300, and within 1 % of 50 MHz divided by a whole number of at least "
     "4, not 3000000"),
    ({"baud": 25_000_000}, "baud must be at least 300, and within 1 % of 50 MHz divided by a whole number of at "
     "least 4, not 25000000"),
    ({"memory_kib": 0}, "memory_kib must be a multiple of 4, not 0"),
])
def test_refused_options(options: dict[str, int], sentence: str) -> None:
    with pytest.raises(BoardError, match=f"^{re.escape(sentence)}$"):
        BoardOptions(**options)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch) -> Path:
    """Stand-ins for the tools: nextpnr copies ``report.json`` beside them."""
    folder = tmp_path / "tools"
    folder.mkdir()
    scripts = {
        "YOSYS": "echo synthesised > celosia.json",
        "NEXTPNR_ECP5": f'cp "{folder}/report.json" timing.json; echo "$@" > arguments; echo placed > celosia.config',
        "ECPPACK": "echo bits > celosia.bit && echo vectors > celosia.svf",
    }
    for variable, script in scripts.items():
        path = folder / variable.lower()
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv(variable, str(path))
    report(folder, 61.2)
    return folder


class Echo(wiring.Component):
    """In the place of the system, where its inside does not matter and its generation would take long."""

    def __init__(self, *arguments, **options):
        super().__init__(System(*arguments, **options).signature)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.tx.eq(self.rx)
        return m


@pytest.fixture
def echo(monkeypatch) -> None:
    monkeypatch.setattr(boards, "System", Echo)


def report(folder: Path, achieved: float) -> None:
    (folder / "report.json").write_text(json.dumps({
        "fmax": {CLOCK: {"achieved": achieved, "constraint": 50.0}},
        "utilization": {"DP16KD": {"used": 199, "available": 208}, "DCUA": {"used": 0, "available": 2}}}))


def test_a_build_that_meets_timing(tools: Path, tmp_path: Path) -> None:
    output, told = tmp_path / "out", []
    made = build_board("ulx3s", SMALL, output, BoardOptions(60, 2_000_000, 64, seed=7), on_stage=told.append)
    assert made.met
    assert made.fmax == {CLOCK: (61.2, 50.0)}
    assert made.used == {"DP16KD": (199, 208)}
    assert [path.read_text() for path in made.files] == ["bits\n", "vectors\n"]
    assert made.files == [output / "celosia.bit", output / "celosia.svf"]
    assert json.loads((output / "timing.json").read_text())["fmax"]
    assert told[0] == "generating"

    pins = (output / "build" / "celosia.lpf").read_text()
    for name, site in (("clk25_0", "G2"), ("uart_0__rx", "M1"), ("uart_0__tx", "L4"), ("button_fire_0", "R1"),
                       ("led_3", "D2"), ("stay_on_0", "L2")):
        assert f'LOCATE COMP "{name}__io" SITE "{site}";' in pins
    assert 'FREQUENCY PORT "clk25_0__io" 25000000.0 HZ;' in pins
    design = (output / "build" / "celosia.il").read_text()
    assert "cell \\EHXPLLL" in design
    for name, value in (("CLKI_DIV", 5), ("CLKFB_DIV", 12), ("CLKOP_DIV", 10)):
        assert re.search(rf"parameter (signed )?\\{name} {value}\n", design), name
    arguments = (output / "build" / "arguments").read_text()
    for text in ("--85k", "--package CABGA381", "--speed 6", "--timing-allow-fail", "--seed 7"):
        assert text in arguments


def test_a_build_that_misses_timing_leaves_no_bitstream(tools: Path, echo: None, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert len(build_board("ulx3s", SMALL, output).files) == 2
    report(tools, 49.9)
    made = build_board("ulx3s", SMALL, output)
    assert (made.met, made.files) == (False, [])
    assert sorted(path.name for path in output.iterdir()) == ["build", "timing.json"]


def test_a_tool_that_fails_is_quoted(tools: Path, echo: None, tmp_path: Path) -> None:
    (tools / "nextpnr_ecp5").write_text("#!/bin/sh\necho 'ERROR: it does not fit' >&2\nexit 1\n")
    output = tmp_path / "out"
    with pytest.raises(SynthesisError) as error:
        build_board("ulx3s", SMALL, output)
    log = output / "build" / "build.log"
    assert str(error.value) == f"the bitstream can't be built, see {log}:\nERROR: it does not fit\n"
    assert not (output / "celosia.bit").exists()


def test_a_missing_tool_is_named_before_anything_is_written(tools: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ECPPACK", "/no/such/tool")
    rule = "/no/such/tool must be installed, or ECPPACK name another tool"
    with pytest.raises(SynthesisError, match=f"^{re.escape(rule)}$"):
        build_board("ulx3s", SMALL, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("achieved", "code", "verdict"), [
    (61.2, 0, "met"), (49.9, 1, "MISSED: there is no bitstream")])
def test_the_command_tells(
    tools: Path, echo: None, tmp_path: Path, capsys, achieved: float, code: int, verdict: str
) -> None:
    report(tools, achieved)
    arguments = ["build", "--board", "ulx3s", "-o", str(tmp_path / "out")]
    assert (app(arguments, standalone_mode=False) or 0) == code
    printed = capsys.readouterr().out
    assert f"clock {CLOCK}: {achieved} MHz, and 50.0 MHz are needed: {verdict}\n" in printed
    assert ("celosia.bit: 5 bytes" in printed) is (code == 0)
    assert re.search(r"DP16KD +. +199 +. +208", printed)


def test_the_configuration_of_the_board_has_a_bus_and_memory_that_fit() -> None:
    config = configuration("ulx3s")
    assert (config.rows, config.cols, config.bus_bits) == (8, 8, 64)
    # Of the 208 block RAMs of 2 KiB, some are left for tables and buffers.
    assert (config.scratchpad_kib + config.accumulator_kib + BoardOptions().memory_kib) // 2 <= 200
