"""What commands share: where they print, what they refuse, how they show progress, and how they write files."""

import json
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celosia.firmware.compiler.compiler import CompileError
from celosia.firmware.driver.driver import AcceleratorError
from celosia.firmware.driver.transport import TransportError
from celosia.firmware.model.model import ModelError
from celosia.firmware.model.sentences import text_lines
from celosia.hdl.config import ConfigError
from celosia.sim.cache import CacheError
from celosia.sim.verilator import ToolError
from celosia.synth.boards import BoardError
from celosia.synth.tools import SynthesisError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["BAD_INPUT", "InputError", "check_target", "err", "out", "progress", "read_texts", "write", "write_json"]

# A table that is cut to the 80 columns that a pipe is taken for is of no use. What users write is no markup.
out = Console(width=None if sys.stdout and sys.stdout.isatty() else 120, markup=False, emoji=False)
err = Console(stderr=True, markup=False, emoji=False)


class InputError(ValueError):
    """Something on the command line can't be used."""


#: What ends a command with one sentence and exit code 2.
BAD_INPUT = (AcceleratorError, BoardError, CacheError, CompileError, ConfigError, InputError, ModelError, OSError,
             SynthesisError, ToolError, TransportError)


@contextmanager
def progress() -> Iterator[Any]:
    """A bar for each stage, on a terminal; a function ``tell(stage, share)``."""
    bars: dict[str, Any] = {}
    with Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
                  TimeElapsedColumn(), console=err, transient=True, disable=not err.is_terminal) as shown:

        def tell(stage: str, share: float) -> None:
            if stage not in bars:
                bars[stage] = shown.add_task(stage, total=1.0)
            shown.update(bars[stage], completed=share)

        yield tell


def check_target(path: Path | None) -> None:
    """Refuse a file that can't be written, before the work is done for it; None is no file."""
    if path is None:
        return
    if not path.name or path.is_dir():
        raise InputError(f"the output {str(path)!r} must name a file, not a folder")
    if not path.parent.is_dir():
        raise InputError(f"the folder {str(path.parent)!r} of {path.name!r} must exist")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"the file {str(path)!r} can't be written: permission denied")


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all; a device or a pipe is written to as it is. Who may read a new file follows the
    umask; one that is replaced keeps its mode."""
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        path = path.resolve()  # a link stays, and the file that it names is replaced
        temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}")
        try:
            temporary.write_text(text, encoding="utf-8")
            if path.exists():
                temporary.chmod(stat.S_IMODE(path.stat().st_mode))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"the file {str(path)!r} can't be written: {error.strerror}") from error


def read_texts(path: Path | None) -> list[str]:
    """The texts in a file, or with None in standard input: one a line, without the empty ones."""
    what = "standard input" if path is None else f"the file {str(path)!r}"
    try:
        lines = text_lines(sys.stdin.buffer.read() if path is None else path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{what} can't be read as text: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def write_json(path: Path | None, data: Any) -> None:
    """Write ``data`` to ``path``, if it is wanted there."""
    if path is not None:
        write(path, json.dumps(data, indent=1) + "\n")
