"""Areas of a netlist of gates, block by block."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..tools import SynthesisError
from .gates import FLIP_FLOP, FLIP_FLOP_WITH_ENABLE, GATES, LATCH, SMALL_MEMORY_BIT
from .mapping import SMALL_MEMORY

__all__ = ["Area", "areas", "is_latch", "is_memory", "is_register"]

#: Cells that only say something to Yosys.
_NOTES = {"$scopeinfo"}


@dataclass
class Area:
    """What a block is made of. Areas can be added.

    Attributes
    ----------
    gates : Counter
        Gates by their name in :data:`~celosia.synth.area.gates.GATES`.
    flip_flops, with_enable, latches : int
        ``with_enable`` flip-flops, those with an enable or a reset, are not among ``flip_flops``.
    small_bits, memory_bits : int
        Bits of memories of few words, and of others.
    """

    gates: Counter[str] = field(default_factory=Counter)
    flip_flops: int = 0
    with_enable: int = 0
    latches: int = 0
    small_bits: int = 0
    memory_bits: int = 0

    def __add__(self, other: "Area") -> "Area":
        return Area(self.gates + other.gates, *(getattr(self, name) + getattr(other, name) for name in (
            "flip_flops", "with_enable", "latches", "small_bits", "memory_bits")))

    @property
    def nand2(self) -> float:
        """Area without memories, in NANDs of two inputs."""
        return (sum(GATES[name].area * count for name, count in self.gates.items()) + FLIP_FLOP * self.flip_flops
                + FLIP_FLOP_WITH_ENABLE * self.with_enable + LATCH * self.latches)

    @property
    def nand2_with_small_memories(self) -> float:
        """Area with the memories of few words, in NANDs of two inputs."""
        return self.nand2 + SMALL_MEMORY_BIT * self.small_bits


def is_register(kind: str) -> bool:
    """Whether cells of this type are flip-flops or latches."""
    return kind.startswith("$_") and ("FF" in kind or is_latch(kind))


def is_latch(kind: str) -> bool:
    """Whether cells of this type are latches."""
    return "LATCH" in kind


def is_memory(module: Mapping[str, Any]) -> bool:
    """Whether a module of a netlist is a memory: it has nothing in it."""
    return int(module["attributes"].get("blackbox", "0"), 2) == 1


def areas(modules: Mapping[str, Any], top: str, depth: int = 3) -> dict[str, Area]:
    """The area of each block of a netlist.

    Parameters
    ----------
    modules
        From :func:`~celosia.synth.area.mapping.map_to_gates`.
    top : str
    depth : int
        Names in a block's name, such as 3 in ``datapath.matmul.array``; what lies deeper counts there. Numbers at
        the end of names are left out: ``row_0`` and ``row_1`` are one block.

    Raises
    ------
    SynthesisError
        When the netlist has a cell that is neither gate nor register nor memory.
    """
    found: dict[str, Area] = {}
    whole: dict[str, Area] = {}

    def own(name: str) -> tuple[Area, list[tuple[str, str]]]:
        area, instances = Area(), []
        for cell_name, cell in modules[name]["cells"].items():
            kind = cell["type"]
            if kind in GATES:
                area.gates[kind] += 1
            elif is_latch(kind):
                area.latches += 1
            elif is_register(kind):
                if cell["connections"].keys() & {"E", "R", "S", "AD"}:
                    area.with_enable += 1
                else:
                    area.flip_flops += 1
            elif kind in modules and is_memory(modules[kind]):
                bits = _number(cell, "WIDTH") << _number(cell, "ADDRESS_BITS")
                if SMALL_MEMORY.fullmatch(kind):
                    area.small_bits += bits
                else:
                    area.memory_bits += bits
            elif kind in modules:
                instances.append((cell_name, kind))
            elif kind not in _NOTES:
                raise SynthesisError(f"the netlist must consist of gates, registers and memories, not of {kind}")
        return area, instances

    def total(name: str) -> Area:
        if name not in whole:
            area, instances = own(name)
            for _, kind in instances:
                area += total(kind)
            whole[name] = area
        return whole[name]

    def walk(name: str, way: tuple[str, ...]) -> None:
        area, instances = (total(name), []) if len(way) == depth else own(name)
        block = ".".join(way) or top
        found[block] = found.get(block, Area()) + area
        for cell_name, kind in instances:
            walk(kind, (*way, re.sub(r"(_?\d+)+$", "", cell_name)))

    walk(top, ())
    return found


def _number(cell: Mapping[str, Any], parameter: str) -> int:
    """A parameter of a cell, which Yosys writes in binary digits."""
    return int(cell["parameters"][parameter], 2)
