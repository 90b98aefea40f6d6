"""The Verilog of a design, mapped to gates by Yosys and ABC."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

from celosia.sim.processes import run

from ..tools import SynthesisError
from .gates import genlib

__all__ = ["SMALL_MEMORY", "map_to_gates", "memories_of"]

#: How the module of a memory of few words is called, and that of any memory: after the prefix, before the target.
SMALL_MEMORY = re.compile(r"\w+_small_ram(_\w+)?")
_MEMORY = re.compile(r"\w+_ram(_\w+)?")
_MODULE = re.compile(r"^module (\w+)", re.MULTILINE)
#: What ABC does: structure, two passes that make it smaller, and a mapping for area.
_ABC = "+strash;dc2;dc2;map,-a,-B,0.9;topo"
#: pyosys is a library; in a process of its own its memory is freed, and what it prints can be kept.
_PROGRAM = "import sys, pyosys.libyosys as yosys; yosys.run_pass('script ' + sys.argv[1], yosys.Design())"


def memories_of(verilog: str) -> list[str]:
    """The names of the modules that are memories."""
    return [name for name in _MODULE.findall(verilog) if _MEMORY.fullmatch(name)]


def map_to_gates(verilog: str, top: str, folder: Path) -> dict[str, Any]:
    """Map a design to the gates of :data:`~celosia.synth.area.gates.GATES`, with its hierarchy.

    Parameters
    ----------
    verilog : str
        All of its modules. Memories stay what they are.
    top : str
        Name of the module at the top.
    folder : Path
        Where ``design.v``, ``gates.genlib``, ``map.ys``, ``netlist.json`` and Yosys' log are left.

    Returns
    -------
    dict
        The modules of the netlist by name, as Yosys' ``write_json`` describes them.

    Raises
    ------
    SynthesisError
        When pyosys is not installed, or Yosys refuses the design.
    """
    if importlib.util.find_spec("pyosys") is None:
        raise SynthesisError("pyosys must be installed: pip install 'celosia[area]'")
    (folder / "design.v").write_text(verilog)
    (folder / "gates.genlib").write_text(genlib())
    (folder / "map.ys").write_text("\n".join([
        "read_verilog -sv design.v",
        *(f"blackbox {name}" for name in memories_of(verilog)),
        f"hierarchy -check -top {top}",
        "setattr -mod -unset keep_hierarchy *",
        "setattr -unset init *",  # the flip-flops of an ASIC begin with anything
        f"synth -noabc -booth -top {top}", "check -assert",
        # Gates alone: ABC would cut the logic up at the enables of flip-flops.
        "select -set gates t:$_* t:$_*FF* %d t:$_*LATCH* %d t:$_SR_* %d",
        f"abc -genlib gates.genlib -script {_ABC} @gates",
        "opt -fast", "opt_clean -purge", "write_json netlist.json", ""]))
    log = folder / "yosys.log"
    with log.open("w") as output:
        done = run([sys.executable, "-c", _PROGRAM, "map.ys"], cwd=folder, output=output)
    if done.returncode:
        raise SynthesisError(f"yosys failed; its log is {log}:\n{log.read_text(errors='replace')[-2000:]}")
    modules: dict[str, Any] = json.loads((folder / "netlist.json").read_text())["modules"]
    return modules
