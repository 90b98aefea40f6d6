"""From a component with properties to "proved": Yosys writes the transition relation, smtbmc and z3 look for a way out.

This is what SymbiYosys does for its engine ``smtbmc z3``, in two calls.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import rtlil

from ..tools import SynthesisError, find_tool, run_tool
from .properties import Proof

__all__ = ["Outcome", "prove"]

_SCRIPT = """read_rtlil design.il
hierarchy -check -top top
proc; flatten; opt -full; memory_map; opt; async2sync; dffunmap; chformal -lower; opt_clean
write_smt2 -wires design.smt2
"""


@dataclass(frozen=True)
class Outcome:
    """``proved``, or where the assertions stand that do not hold (``reason``)."""

    proved: bool
    reason: str


def prove(design: Proof, folder: Path) -> Outcome:
    """Prove every assertion of ``design``, as far as it says.

    Parameters
    ----------
    design : Proof
    folder : Path
        For what the tools write; it must exist.

    Raises
    ------
    SynthesisError
        When a tool is missing, or did not understand the design.
    """
    (folder / "design.il").write_text(rtlil.convert(design, name="top", ports=design.ports))
    (folder / "prepare.ys").write_text(_SCRIPT)
    run_tool("yosys", ["-q", "-s", "prepare.ys"], folder)
    for mode in ([], ["-i"])[:1 + design.induction]:
        outcome = _smtbmc([*mode, "-t", str(design.depth), "design.smt2"], folder)
        if not outcome.proved:
            return outcome
    return outcome


def _smtbmc(arguments: list[str], folder: Path) -> Outcome:
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    done = subprocess.run([find_tool("yosys-smtbmc"), "-s", "z3", "--presat", *arguments], cwd=folder,
                          capture_output=True, text=True, env=environment, check=False)
    lines = done.stdout.splitlines()
    if any(line.endswith("Status: PASSED") or line.endswith("Status: passed") for line in lines):
        return Outcome(True, "")
    if not any("Status: FAILED" in line or "Status: failed" in line for line in lines):
        raise SynthesisError(f"smtbmc failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    failures = [match[1] for line in lines if (match := re.search(r"Assert failed in .*?(\w+\.py:\d+)", line))]
    return Outcome(False, ", ".join(failures))
