"""Runs a cocotb testbench on the simulated RTL as one pytest test.

A testbench of a unit is two files. ``test_dma.py`` is what pytest collects: it makes the RTL and calls
:func:`run_testbench`, once for each set of parameters::

    import pytest
    from celosia.hdl.bus.dma import Reader
    from cocotb_tests.harness import run_testbench

    @pytest.mark.parametrize("bus_bits", [64, 128])
    def test_reader(bus_bits):
        run_testbench(Reader(bus_bits), bench="bench_dma", parameters={"bus_bits": bus_bits})

``bench_dma.py`` holds the coroutines, which run inside the simulator's process, and reads the parameters::

    import cocotb
    from cocotb_tests.harness import bench_parameters, start_clock

    @cocotb.test(timeout_time=1, timeout_unit="ms")
    async def copies_every_beat(dut):
        bus_bits = bench_parameters()["bus_bits"]
        await start_clock(dut)

The pytest test fails when a coroutine fails, and when no coroutine ran. The seed of ``random`` is new each
time, and printed; ``COCOTB_RANDOM_SEED=123`` repeats a run. ``WAVES=1`` writes
``build/waves/<test>/dump.vcd``.

The simulator is Verilator. ``SIM=icarus`` runs the same testbenches under Icarus Verilog (Debian: iverilog), which has
four states and is far slower; its waves are in ``dump.fst``. A testbench that takes an x for a
number fails there: read signals as ``int(signal.value)`` or compare them, and never ask cocotb to resolve an x.
``cocotb_tests/simulators`` is what runs under Icarus each time.

A test that must see a planted fault fixes the seed: one draw in many may miss it.

Give each coroutine a ``timeout_time``: a design that hangs would otherwise run for ever.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch
from xml.etree import ElementTree

__all__ = ["BenchFailure", "BenchResult", "bench_parameters", "run_testbench", "start_clock"]

_ROOT = Path(__file__).resolve().parent.parent
_PARAMETERS = "CELOSIA_BENCH_PARAMETERS"
#: Simulators, the usual one first, and what they call a file of waves.
_WAVES = {"verilator": "dump.vcd", "icarus": "dump.fst"}


class BenchFailure(AssertionError):
    """A coroutine failed, none ran, or the simulator stopped. The message names tests, seed and log."""


@dataclass(frozen=True)
class BenchResult:
    """What a run did: names of the coroutines that ``passed``, and the ``seed``."""

    passed: tuple[str, ...]
    seed: int


def bench_parameters() -> dict[str, Any]:
    """Inside the simulator: the ``parameters`` that :func:`run_testbench` was given."""
    return json.loads(os.environ[_PARAMETERS])


async def start_clock(dut: Any, period_ns: int = 10) -> None:
    """Inside the simulator: start the clock ``clk`` and hold ``rst``, if there is one, for two edges.

    Returns at the first edge that finds the design out of reset: drive the inputs before. A value that is
    read at an edge is the one that the edge found, and what is written at it shows at the next edge.
    """
    from cocotb.clock import Clock
    from cocotb.triggers import RisingEdge

    if hasattr(dut, "rst"):
        dut.rst.value = 1
    Clock(dut.clk, period_ns, unit="ns").start(start_high=False)
    for _ in range(2):
        await RisingEdge(dut.clk)
    if hasattr(dut, "rst"):
        dut.rst.value = 0
    await RisingEdge(dut.clk)


def run_testbench(
    design: Any,
    *,
    bench: str,
    top: str = "top",
    ports: Any = None,
    target: str = "generic",
    parameters: Mapping[str, Any] | None = None,
    testcase: str | None = None,
    seed: int | None = None,
    simulator: str | None = None,
    defines: Mapping[str, str] | None = None,
) -> BenchResult:
    """Compile ``design`` (or find it compiled), and run the coroutines of ``bench`` on it.

    Parameters
    ----------
    design : Elaboratable, Component or str
        An Amaranth design, or Verilog text that has a module ``top``.
    bench : str
        Module in this folder with the coroutines, such as ``"bench_dma"``.
    top : str
        Name of the top module.
    ports : optional
        As for ``amaranth.back.verilog.convert``; a ``wiring.Component`` needs none.
    target : str, optional
        As in the configuration; its vendor's cells are simulated by their models.
    parameters : mapping, optional
        What :func:`bench_parameters` returns inside the simulator; anything that JSON can carry.
    testcase : str, optional
        Run this coroutine only, or several, with commas between.
    seed : int, optional
        Seed of ``random`` inside the simulator; ``COCOTB_RANDOM_SEED`` overrides, else it is drawn.
    simulator : str, optional
        ``"verilator"`` or ``"icarus"``; by default what the environment variable ``SIM`` says, else Verilator.
    defines : mapping, optional
        Verilog macros, with their texts. By default ``CELOSIA_COLLISIONS``: a word of a memory that is read while it
        is written reads as garbage, as it may in hardware.

    Raises
    ------
    BenchFailure
        When a coroutine failed, or none ran.
    ToolError, CacheError
        When the design can't be compiled here.
    ValueError
        When there is no such simulator.
    """
    from celosia.generators.verilog import convert, simulation_models
    from celosia.sim.verilator import Toolchain
    from cocotb_tools.runner import get_runner

    simulator = simulator or os.environ.get("SIM") or "verilator"
    if simulator not in _WAVES:
        raise ValueError(f"the simulator must be {' or '.join(_WAVES)}, not {simulator!r}")

    verilog = design if isinstance(design, str) else convert(design, name=top, target=target, ports=ports)
    verilog += simulation_models(target)
    waves = os.environ.get("WAVES", "0") not in ("", "0")
    defines = dict({"CELOSIA_COLLISIONS": "1"} if defines is None else defines)
    icarus = simulator == "icarus"
    toolchain = None if icarus else Toolchain.find()
    build_dir = _build(toolchain, verilog, top, waves, defines) if toolchain else _build_icarus(
        verilog, top, waves, defines)
    seed = int(os.environ.get("COCOTB_RANDOM_SEED") or (secrets.randbits(31) if seed is None else seed))

    name = re.sub(r"[^\w.-]+", "-", os.environ.get("PYTEST_CURRENT_TEST", bench).split(" ")[0]).strip("-")
    if waves:
        folder = _ROOT / "build" / "waves" / name
        folder.mkdir(parents=True, exist_ok=True)
    else:
        folder = Path(tempfile.mkdtemp(prefix="celosia-bench-"))
    results_file, log_file = folder / "results.xml", folder / "sim.log"
    environment = {
        **(toolchain.environment() if toolchain else {}),
        _PARAMETERS: json.dumps(dict(parameters or {})),
        "COCOTB_ANSI_OUTPUT": "0",
        # Bus models by others print DeprecationWarnings: they must not become errors in the simulator.
        "PYTHONWARNINGS": "",
    }
    # The simulator's PYTHONPATH is made from sys.path: with the root in front, it finds this folder.
    with patch.dict(os.environ, environment), patch.object(sys, "path", [str(_ROOT), *sys.path]):
        runner = get_runner(simulator)
        stopped = ""
        try:
            runner.test(
                test_module=f"cocotb_tests.{bench}", hdl_toplevel=top, hdl_toplevel_lang="verilog", seed=seed,
                build_dir=build_dir, test_dir=folder, testcase=testcase, waves=waves,
                plusargs=[f"+dumpfile_path={folder / _WAVES[simulator]}"] if waves and icarus else [],
                results_xml=str(results_file), log_file=log_file)
        except (SystemExit, RuntimeError) as error:
            stopped = str(error)  # the reason stands in the results, or else in the log
    log = log_file.read_text(errors="replace") if log_file.is_file() else ""
    print(log)
    print(f"{bench}, {simulator}: seed {seed}" + (f", waves in {folder / _WAVES[simulator]}" if waves else ""))
    passed = _check(results_file, bench, seed, folder, stopped, log)
    if not waves:
        shutil.rmtree(folder, ignore_errors=True)
    return BenchResult(passed, seed)


#: Compiles by cocotb's runner: the paths of cocotb's own folders, and the arguments, are the command's argument.
_BUILD = """
import json, sys
from pathlib import Path
from cocotb_tools import config, runner
paths, arguments = json.loads(sys.argv[1])
for name, path in paths.items():
    setattr(config, name, Path(path))
runner.get_abs_path = Path  # which would follow the links
runner.get_runner("verilator").build(**arguments)
"""


def _build(toolchain: Any, verilog: str, top: str, waves: bool, defines: Mapping[str, str]) -> Path:
    import cocotb_tools
    from celosia.sim.build import WAIVERS, build_failure, object_cache
    from celosia.sim.cache import cached_folder, content_key
    from celosia.sim.processes import run
    from celosia.sim.verilator import plain_alias, plain_path
    from cocotb_tools import config

    # What cocotb links with: the compiled testbench finds it there when it runs, too.
    paths = {name: str(plain_path(Path(getattr(config, name)))) for name in ("libs_dir", "share_dir")}
    # Testbenches are compiled more often than they run long: little optimisation, compiled fast.
    variables = {"OPT_FAST": "-O1", "OPT_SLOW": "-O0", "OPT_GLOBAL": "-O1", "OBJCACHE": object_cache(toolchain)}
    environment = toolchain.environment(**variables)
    key = content_key(
        verilog, top, str(waves), json.dumps([defines, WAIVERS]), toolchain.identity, environment["MAKEFLAGS"],
        str(Path(cocotb_tools.__file__).resolve()), version("cocotb"))

    def make(folder: Path) -> list[str]:
        source = folder / f"{top}.v"
        source.write_text(verilog, encoding="utf-8")
        with plain_alias(folder) as place:
            arguments = {"sources": [str(place / source.name)], "hdl_toplevel": top, "build_dir": str(place),
                         "waves": waves, "defines": dict(defines), "timescale": ["1ns", "1ps"],
                         "build_args": [*WAIVERS, "--no-timing"]}
            # A process of its own, so that all that it starts ends with it when the build is interrupted.
            linked = {} if place == folder else {"CURDIR": "."}  # which make would give its true name, blanks and all
            done = run([sys.executable, "-c", _BUILD, json.dumps([paths, arguments])],
                       env={**os.environ, **toolchain.environment(**variables, **linked)})
        if done.returncode:
            raise build_failure(f"Verilator can't compile {top}", done.stdout)
        for path in folder.iterdir():
            if path.name not in (top, source.name):
                path.unlink() if path.is_file() else shutil.rmtree(path)
        return [top]

    return cached_folder("cocotb", key, make)


def _build_icarus(verilog: str, top: str, waves: bool, defines: Mapping[str, str]) -> Path:
    from celosia.sim.cache import cached_folder, content_key
    from celosia.sim.verilator import ToolError
    from cocotb_tools.runner import get_runner

    if shutil.which("iverilog") is None:
        raise ToolError("the testbench needs iverilog to run under Icarus (Debian: apt install iverilog)")
    tool = subprocess.run(["iverilog", "-V"], capture_output=True, text=True, check=True).stdout.split("\n", 1)[0]
    key = content_key("icarus", verilog, top, str(waves), json.dumps(defines), tool)

    def make(folder: Path) -> list[str]:
        source, log_file = folder / f"{top}.v", folder / "build.log"
        source.write_text(verilog)
        try:
            get_runner("icarus").build(
                sources=[source], hdl_toplevel=top, build_dir=folder, waves=waves, defines=defines,
                timescale=("1ns", "1ps"), build_args=[] if waves else ["-g2001"], log_file=log_file)
        except RuntimeError as error:
            log = log_file.read_text(errors="replace")
            raise ToolError(f"Icarus can't compile {top}:\n{log[-3000:]}") from error
        return ["sim.vvp"]

    return cached_folder("cocotb", key, make)


def _check(
    results_file: Path, bench: str, seed: int, folder: Path, stopped: str, log: str
) -> tuple[str, ...]:
    """The names of the coroutines that passed; raises :class:`BenchFailure`."""
    hint = f"seed {seed}, log in {folder}"
    if not results_file.is_file():
        raise BenchFailure(f"{bench}: the simulator left no results: {stopped}; {hint}\n{log[-3000:]}")
    passed, failed = [], []
    for case in ElementTree.parse(results_file).getroot().iter("testcase"):
        name = case.get("name", "?")
        problems = [*case.findall("failure"), *case.findall("error")]
        if problems:
            message = problems[0].get("message") or problems[0].get("error_msg") or (problems[0].text or "")
            failed.append(f"{name}: {message.strip()}")
        elif case.find("skipped") is None:
            passed.append(name)
    if failed:
        raise BenchFailure(f"{bench}: {len(failed)} of {len(failed) + len(passed)} tests failed; {hint}\n"
                           + "\n".join(failed))
    if not passed:
        raise BenchFailure(f"{bench}: no cocotb test ran; {hint}")
    return tuple(passed)
