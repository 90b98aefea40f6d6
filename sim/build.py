"""Compiles Verilog into a simulation that Python loads, and keeps what was compiled."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

from rich.console import Console

from ..hdl.parts import lint
from .cache import CacheError, cache_root, cached_folder, content_key, unusable
from .processes import run
from .verilator import Toolchain, ToolError, plain_alias, plain_path

__all__ = ["WAIVERS", "Waves", "build_failure", "compile_model", "object_cache"]

#: Format of recorded waves: None compiles a model that can't record any, which is faster.
Waves = Literal["vcd", "fst"] | None

#: The warnings that are waived in a build, which asks for no style; any other one stops it.
WAIVERS = tuple(f"-Wno-{waiver.rule}" for waiver in lint.WAIVERS if not waiver.style)

_HARNESS = Path(__file__).with_name("harness.cpp")
_LIBRARY = "libmodel.so"
_VERILATOR_FLAGS = (
    "--cc", "--exe", "--prefix", "Vtop", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-timing",
    "--timescale", "1ns/1ns", *WAIVERS,
    # Small decisions as they are written: finding an index into a table takes longer.
    "-fno-table")
# Hidden: calls inside the library need no table, and two loaded models share nothing.
_COMPILER_FLAGS = "-fPIC -fvisibility=hidden -DVL_USER_FATAL -DVL_USER_STOP -DVL_USER_FINISH"
# clang++ leaves an atomic operation of Verilator's library to GCC's libatomic; g++ needs nothing of it.
_LINKER_FLAGS = "-shared -fPIC -Wl,--push-state,--as-needed -latomic -Wl,--pop-state"
_FAST, _SLOW = "-O3 -march=native", "-O1"
_PROFILE = "profile"
#: For each kind of compiler: what makes a simulation count its branches, and what makes use of the counts.
_COUNTING = {
    "clang++": (f"-fprofile-instr-generate={{folder}}/{_PROFILE}.raw", f"-fprofile-instr-use={{folder}}/{_PROFILE}"),
    "g++": ("-fprofile-generate -fprofile-update=single", "-fprofile-use -Wno-missing-profile"),
}


def compile_model(
    verilog: str,
    *,
    top: str = "top",
    compiler: str | None = None,
    waves: Waves = None,
    train: Sequence[str | Path] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Path:
    """The shared library of a simulation of ``verilog``: compiled, or found as it was compiled before.

    Parameters
    ----------
    verilog : str
        Text with the module ``top``, whose ports are those of the accelerator (``docs/simulation.md``).
    compiler : str, optional
        As for :meth:`Toolchain.find`.
    waves : "vcd", "fst" or None
        Which waves the simulation can record.
    train : sequence of str, optional
        Compile twice, the second time for what the simulation does in this command, which is given the library's path
        as one more argument (profile-guided optimisation).
    on_stage : function, optional
        Called with a few words at each stage of a compilation, and not at all when nothing is compiled.
        Without it, a spinner is shown on a terminal.

    Raises
    ------
    ToolError
        When a tool is missing, or the Verilog can't be compiled, or ``train`` fails; with the message of the tool.
    CacheError
        When the cache can't be written.
    """
    toolchain = Toolchain.find(compiler)
    if waves == "fst":
        _require_fst_headers(toolchain)
    harness = _HARNESS.read_bytes()
    if train is not None and toolchain.is_clang and shutil.which("llvm-profdata") is None:
        raise ToolError("llvm-profdata is not installed, which reads what clang++ counts: install it (Debian: apt "
                        "install llvm)")
    flags = json.dumps([top, waves, train and [str(word) for word in train], _VERILATOR_FLAGS, _COMPILER_FLAGS,
                        _LINKER_FLAGS, _FAST, _SLOW, _COUNTING])
    key = content_key(verilog, harness, flags, toolchain.identity)

    def make(folder: Path) -> list[str]:
        spinner = Console(stderr=True).status(f"compiling the simulation of {top} (once)")
        with spinner if on_stage is None else nullcontext():
            _compile(folder, toolchain, verilog, top, waves, train, on_stage or (lambda stage: None))
        return [_LIBRARY]

    return cached_folder("models", key, make) / _LIBRARY


def object_cache(toolchain: Toolchain) -> str:
    """The value of ``OBJCACHE`` for Verilator's makefile with which its library is compiled only once."""
    folder = cache_root() / "objects" / content_key(toolchain.identity)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(error) from error
    script = plain_path(Path(__file__).with_name("objcache.py"))
    return f"{plain_path(Path(sys.executable))} -I -S {script} {plain_path(folder)}"


def _compile(
    folder: Path, toolchain: Toolchain, verilog: str, top: str, waves: Waves, train: Sequence[str | Path] | None,
    on_stage: Callable[[str], None],
) -> None:
    # Every tool works in the folder with the objects, and every path is relative to it: make has no way to write one
    # with a blank in it.
    objects = folder / "obj"
    objects.mkdir()
    (folder / f"{top}.v").write_text(verilog, encoding="utf-8")
    shutil.copyfile(_HARNESS, objects / _HARNESS.name)
    on_stage("translating Verilog to C++")
    _run(toolchain.environment(), [
        toolchain.program, *_VERILATOR_FLAGS, *([f"--trace-{waves}"] if waves else []), "--top-module", top,
        "--Mdir", ".", "-CFLAGS", _COMPILER_FLAGS, "-LDFLAGS", _LINKER_FLAGS, "-o", f"../{_LIBRARY}",
        f"../{top}.v", _HARNESS.name], cwd=objects)
    (objects / "ports.inc").write_text(_port_table((objects / "Vtop.h").read_text(encoding="utf-8")), encoding="utf-8")
    if train is None:
        on_stage("compiling C++")
        _make(toolchain, objects, cached=True)
    else:
        on_stage("compiling C++ that counts what it does")
        with plain_alias(folder) as place:
            count, use = (flags.format(folder=place) for flags in _COUNTING["clang++" if toolchain.is_clang else "g++"])
            _make(toolchain, objects, flags=count)
            on_stage("counting what the simulation does")
            _run({}, [*train, folder / _LIBRARY], "can't run the simulation")
            if toolchain.is_clang:
                _run({}, ["llvm-profdata", "merge", "-o", folder / _PROFILE, folder / f"{_PROFILE}.raw"])
            for path in [folder / _LIBRARY, *objects.glob("*.o"), *objects.glob("*.a"), *objects.glob("*.gch")]:
                path.unlink()
            on_stage("compiling C++ for what it does")
            _make(toolchain, objects, flags=use)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.name != _LIBRARY:
            path.rmdir() if path.is_dir() else path.unlink()


def _make(toolchain: Toolchain, objects: Path, *, flags: str = "", cached: bool = False) -> None:
    """Compile and link what Verilator has written."""
    variables = {"OPT_FAST": f"{_FAST} {flags}".strip(), "OPT_GLOBAL": f"{_FAST} {flags}".strip(), "OPT_SLOW": _SLOW,
                 "CURDIR": "."}  # Verilator's makefile would refuse a blank there, which does no harm
    if flags:
        variables["LDFLAGS"] = flags
    if cached:
        variables["OBJCACHE"] = object_cache(toolchain)
    _run(toolchain.environment(**variables), ["make", "-j2", "-f", "Vtop.mk"], cwd=objects)


def _port_table(header: str) -> str:
    """The ports that the C++ class declares, one macro call a port."""
    lines = []
    for kind, name, high, low in re.findall(r"VL_(IN|OUT)(?:8|16|64|W)?\(&?(\w+),(\d+),(\d+)", header):
        # How Verilator spells words that C++ has taken, and a double underscore.
        text = name.removeprefix("__SYM__").replace("___05F", "__")
        lines.append(f'{kind}PUT({name}, "{text}", {int(high) - int(low) + 1})\n')
    return "".join(lines)


def _run(
    environment: dict[str, str], command: Sequence[str | Path], failure: str = "can't compile the simulation",
    cwd: Path | None = None,
) -> None:
    done = run(command, cwd=cwd, env={**os.environ, **environment})
    if done.returncode == 0:
        return
    raise build_failure(f"{Path(command[0]).name} {failure}", done.stdout)


def build_failure(what: str, log: str) -> ToolError | CacheError:
    """The exception for a build that failed with ``log``: a full disk, or ``what`` and the messages."""
    if "No space left on device" in log:
        return unusable(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    messages = [line for line in log.splitlines() if re.search(r"error|warning", line, re.IGNORECASE)]
    return ToolError(f"{what}:\n" + ("\n".join(messages[:20]) or log[-2000:]))


def _require_fst_headers(toolchain: Toolchain) -> None:
    probe = subprocess.run(
        [toolchain.compiler, "-E", "-x", "c++", "-o", "/dev/null", "-"],
        input="#include <lz4.h>\n#include <zlib.h>\n", text=True, capture_output=True, check=False)
    if probe.returncode != 0:
        raise ToolError("FST waves need the headers lz4.h and zlib.h (Debian: apt install liblz4-dev "
                        "zlib1g-dev); VCD waves need none")
