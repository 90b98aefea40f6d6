"""How many LUTs lie between two registers: the logic depth of a netlist that Yosys mapped to a family's cells."""

from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

__all__ = ["Path", "deepest_paths", "net_names"]

_CARRY = {"CARRY4", "CARRY8", "CCU2C", "ALU", "SB_CARRY"}
_MULTIPLEXER = {"MUXF5", "MUXF6", "MUXF7", "MUXF8", "MUXF9", "PFUMX", "L6MUX21"}
#: Registers of multipliers: one of them on the way from the operands to the result makes it no part of a path.
_MULTIPLIER_REGISTERS = ("AREG", "BREG", "MREG", "PREG", "REG_INPUTA_CLK", "REG_PIPELINE_CLK", "REG_OUTPUT_CLK")


@dataclass(frozen=True)
class Path:
    """The deepest path that ends at a cell.

    Attributes
    ----------
    clock : str
        Net that clocks the register at its end.
    start : str
        Net that it starts from.
    luts : int
        LUTs on it.
    cells : tuple of (str, str)
        Type and output net of each combinational cell on it, from the first.
    end : str
        Net or cell in which it ends.
    """

    clock: str
    start: str
    luts: int
    cells: tuple[tuple[str, str], ...]
    end: str


def _is_lut(kind: str) -> bool:
    # A LUT used as a memory is read through its inputs, like any other.
    return kind.startswith(("LUT", "SB_LUT", "RAM32", "RAM64", "TRELLIS_DPR", "RAM16"))


def _is_combinational(cell: dict[str, Any]) -> bool:
    kind = cell["type"]
    if kind.startswith(("DSP48", "MULT18", "SB_MAC16")):
        registers = (str(cell["parameters"].get(name, "NONE")) for name in _MULTIPLIER_REGISTERS)
        return all(value == "NONE" or value.strip("0") == "" for value in registers)
    return _is_lut(kind) or kind in _CARRY | _MULTIPLEXER | {"INV"}


def _inputs(cell: dict[str, Any], port: str, index: int) -> Iterator[int]:
    """The nets on which bit ``index`` of an output depends. In a carry chain these are the bits below it too."""
    for name, bits in cell["connections"].items():
        if cell["port_directions"][name] == "input":
            known = bits[:index + 1] if cell["type"] in ("CARRY4", "CARRY8") else bits
            yield from (bit for bit in known if isinstance(bit, int))


def net_names(module: dict[str, Any]) -> dict[int, str]:
    """A name for each net of a module of a netlist; one that a person gave, if there is one."""
    names: dict[int, str] = {}
    for name, net in module["netnames"].items():
        for index, bit in enumerate(net["bits"]):
            if bit not in names or (names[bit].startswith("$") and not name.startswith("$")):
                names[bit] = f"{name}[{index}]" if len(net["bits"]) > 1 else name
    return names


def deepest_paths(netlist: dict[str, Any], top: str, count: int = 1) -> list[Path]:
    """The deepest paths, each to another register, the deepest first; ties in the order of the cells.

    Parameters
    ----------
    netlist
        What ``write_json`` wrote after ``synth_<family> -flatten``.
    top : str
        Name of the module.
    count : int
        Paths wanted, for each clock.
    """
    module = netlist["modules"][top]
    cells, names = module["cells"], net_names(module)
    driver, graph = {}, {}
    for cell in cells.values():
        if _is_combinational(cell):
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "output":
                    for index, bit in enumerate(bits):
                        if isinstance(bit, int):
                            graph[bit] = list(_inputs(cell, port, index))
                            driver[bit] = cell
    depth: dict[int | None, int] = {}
    before: dict[int, int | None] = {}
    for bit in TopologicalSorter(graph).static_order():
        if bit in graph:
            before[bit] = max(graph[bit], key=lambda other: depth.get(other, 0), default=None)
            depth[bit] = depth.get(before[bit], 0) + _is_lut(driver[bit]["type"])
    ends: dict[str, list[tuple[int, str, int]]] = {}
    for name, cell in cells.items():
        if _is_combinational(cell):
            continue
        clock, worst = "", None
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] != "input":
                continue
            for bit in bits:
                if port.upper() in ("C", "CLK", "CLK0", "CLKA", "CLKARDCLK", "WCLK") and isinstance(bit, int):
                    clock = names[bit]
                elif bit in depth and (worst is None or depth[bit] > depth[worst]):
                    worst = bit
        if worst is not None:
            ends.setdefault(clock, []).append((depth[worst], name, worst))
    paths: list[Path] = []
    for clock, found in sorted(ends.items()):
        for luts, name, bit in sorted(found, key=lambda end: -end[0])[:count]:
            way: list[tuple[str, str]] = []
            here: int | None = bit
            while here in driver:
                way.append((driver[here]["type"], names[here]))
                here = before[here]
            q = next((names[bits[0]] for port, bits in cells[name]["connections"].items()
                      if port in ("Q", "O") and bits and isinstance(bits[0], int)), name)
            start = "a constant" if here is None else names.get(here, "a constant")
            paths.append(Path(clock, start, luts, tuple(reversed(way)), q))
    return paths
