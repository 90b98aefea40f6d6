"""Finds and runs the FPGA tools that come as Python packages (YoWASP)."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["SynthesisError", "run_tool"]


class SynthesisError(RuntimeError):
    """A tool is missing, or refused the design. The message has its last words."""


def run_tool(name: str, arguments: Sequence[str | Path], folder: Path) -> str:
    """Run the YoWASP tool ``name`` in ``folder``, and return what it printed; it is kept there, in ``<name>.log``.

    Raises
    ------
    SynthesisError
        When the tool is not installed, or it fails.
    """
    beside = Path(sys.executable).with_name(f"yowasp-{name}")
    command = str(beside) if beside.exists() else shutil.which(f"yowasp-{name}")
    if command is None:
        raise SynthesisError(f"yowasp-{name} must be installed: pip install 'celosia[synth]'")
    log = folder / f"{name}.log"
    with log.open("w") as output:
        done = subprocess.run([command, *map(str, arguments)], cwd=folder, stdout=output, stderr=subprocess.STDOUT,
                              check=False)
    text = log.read_text(errors="replace")
    if done.returncode:
        raise SynthesisError(f"{name} failed; its log is {log}:\n{text[-2000:]}")
    return text
