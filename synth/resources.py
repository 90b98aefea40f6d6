"""Resources of an accelerator on an FPGA family, as Yosys synthesises it, and where in the hierarchy they go."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celosia.generators.verilog import TOP
from celosia.hdl.config import AcceleratorConfig

from .depth import Path as LogicPath
from .depth import deepest_paths, net_names
from .families import FAMILIES, Family, Part
from .floorplan import floorplan, placement_commands
from .pins import PINS_TOP, few_pins
from .tools import SynthesisError, run_tool

__all__ = ["RESOURCES", "Resources", "synthesise"]

#: What is counted.
RESOURCES = ("luts", "flip_flops", "multipliers", "block_rams")
#: Prefixes of the types of latches.
_LATCHES = ("LDCE", "LDPE", "DLATCH", "$_DLATCH", "TRELLIS_LATCH", "DL")


@dataclass(frozen=True)
class Resources:
    """What Yosys made of an accelerator.

    Attributes
    ----------
    luts, flip_flops, multipliers, block_rams
        How many; ``luts`` with those of carry chains and of distributed memory.
    hierarchy : dict of str to dict of str to float
        The same four by block, such as ``datapath.matmul.array``. A LUT counts where the register lies that it feeds.
    deepest : Path
        The path with the most LUTs between two registers.
    """

    luts: int
    flip_flops: int
    multipliers: int
    block_rams: float
    hierarchy: dict[str, dict[str, float]]
    deepest: LogicPath


def synthesise(
    config: AcceleratorConfig, verilog: str, family: str, folder: Path, part: Part | None = None
) -> Resources:
    """Synthesise the accelerator of ``config``, with a register at each port, for a family.

    Parameters
    ----------
    verilog : str
        What :func:`~celosia.generators.verilog.to_verilog` has made of ``config``.
    family : str
        One of ``FAMILIES``.
    folder : Path
        Where ``design.v``, ``netlist.json`` and Yosys' log are left.
    part : Part, optional
        What the netlist is to be placed on: the cells of the floorplan get their places.

    Raises
    ------
    SynthesisError
        When Yosys is not installed or refuses the design, or the netlist has a latch.
    """
    kind = FAMILIES[family]
    (folder / "design.v").write_text(verilog + few_pins(config))
    run_tool("yosys", ["-q", "-p", "; ".join([
        "read_verilog design.v", *([f"read_verilog -lib {kind.cells}"] if kind.cells else []),
        f"hierarchy -check -top {PINS_TOP}", "proc", "check -assert",
        f"{kind.synthesis} -top {PINS_TOP}", "check -assert",
        *(placement_commands(floorplan(config, part)) if part else []), "write_json netlist.json"])], folder)
    netlist = json.loads((folder / "netlist.json").read_text())
    cells = netlist["modules"][PINS_TOP]["cells"]
    latches = [name for name, cell in cells.items() if cell["type"].startswith(_LATCHES)]
    if latches:
        raise SynthesisError(f"the netlist must have no latch, not {latches[0]}")
    hierarchy = _hierarchy(netlist["modules"][PINS_TOP], kind)
    total = {name: sum(counts[name] for counts in hierarchy.values()) for name in RESOURCES}
    return Resources(
        int(total["luts"]), int(total["flip_flops"]), int(total["multipliers"]), total["block_rams"],
        dict(sorted(hierarchy.items())), deepest_paths(netlist, PINS_TOP)[0])


def _resource(kind: str, family: Family) -> tuple[str, float] | None:
    """Which of the four a cell of type ``kind`` is, and how many."""
    for name, costs in (("luts", family.luts), ("block_rams", family.block_rams)):
        prefix = max((prefix for prefix in costs if kind.startswith(prefix)), key=len, default=None)
        if prefix is not None:
            return name, costs[prefix]
    if kind.startswith(family.multipliers):
        return "multipliers", 1
    return ("flip_flops", 1) if kind.startswith(family.flip_flops) else None


def _hierarchy(module: dict[str, Any], family: Family) -> dict[str, dict[str, float]]:
    names = net_names(module)
    cells = module["cells"]
    sinks: dict[int, str] = {}  # a net's first reader that is not the cell itself
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for bit in bits:
                    sinks.setdefault(bit, name)
    blocks: dict[str, str] = {}

    def block(name: str) -> str:
        """Block of a cell: by the name of a net that it drives, else that of its first reader."""
        way = []
        while name not in blocks:
            way.append(name)
            cell = cells[name]
            driven = [bit for port, bits in cell["connections"].items()
                      if cell["port_directions"][port] == "output" for bit in bits if isinstance(bit, int)]
            named = next((names[bit] for bit in driven if not names.get(bit, "$").startswith("$")), None)
            following = next((sinks[bit] for bit in driven if bit in sinks and sinks[bit] not in way), None)
            if named is not None or following is None:
                blocks[name] = _block_of(named or name)
            else:
                name = following
        for cell_name in way:
            blocks[cell_name] = blocks[name]
        return blocks[name]

    found: dict[str, dict[str, float]] = {}
    for name, cell in cells.items():
        resource = _resource(cell["type"], family)
        if resource is not None:
            counts = found.setdefault(block(name), dict.fromkeys(RESOURCES, 0.0))
            counts[resource[0]] += resource[1]
    return found


def _block_of(net: str) -> str:
    """``design.datapath.matmul.array.row_3.sums[2]`` lies in ``datapath.matmul.array``."""
    parts = net.split(".")
    if parts[0] != "design" or len(parts) < 3:
        return TOP if parts[0] == "design" else PINS_TOP
    inside = [part for part in parts[1:-1] if not part.startswith("$") and not part.rpartition("_")[2].isdigit()]
    return ".".join(inside[:3]) or TOP
