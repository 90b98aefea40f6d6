"""Finds and runs the FPGA tools that come as Python packages (YoWASP)."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from celosia.sim.processes import run

__all__ = ["SynthesisError", "find_tool", "run_tool"]


class SynthesisError(RuntimeError):
    """A tool is missing, or refused the design. The message has its last words."""


def find_tool(name: str) -> str:
    """The command ``yowasp-<name>``: the one beside this Python, else the first on the path.

    Raises
    ------
    SynthesisError
        When there is none.
    """
    beside = Path(sys.executable).with_name(f"yowasp-{name}")
    found = str(beside) if beside.exists() else shutil.which(f"yowasp-{name}")
    if found is None:
        raise SynthesisError(f"yowasp-{name} must be installed: pip install 'celosia[synth]'")
    return found


def run_tool(name: str, arguments: Sequence[str | Path], folder: Path) -> str:
    """Run the YoWASP tool ``name`` in ``folder``, and return what it printed; it is kept there, in ``<name>.log``.

    Raises
    ------
    SynthesisError
        When the tool is not installed, or it fails.
    """
    log = folder / f"{name}.log"
    with log.open("w") as output:
        done = run([find_tool(name), *arguments], cwd=folder, output=output)
    text = log.read_text(errors="replace")
    if done.returncode:
        raise SynthesisError(f"{name} failed; its log is {log}:\n{text[-2000:]}")
    return text
