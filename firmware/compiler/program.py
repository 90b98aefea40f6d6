"""A compiled program: its instructions, its place in DRAM, and where the tensors lie that the host reads and writes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..machine.assembler import Instruction, listing
from ..machine.dependencies import Edge
from ..machine.geometry import Geometry
from .groups import Group
from .planner import Plan

__all__ = ["KEEPABLE", "KeptTensor", "Program"]

#: What ``keep`` may name: the tensors of the golden encoder that the hardware holds as 8 bits.
KEEPABLE = (
    "query",
    "key",
    "value_transposed",
    "numerators",
    "context",
    "attention_norm",
    "ffn_hidden",
    "output",
)


@dataclass(frozen=True)
class KeptTensor:
    """Where the host finds a tensor of one sentence.

    Rows of ``row_bytes`` from DRAM byte ``address``; in each, row ``i`` of ``count`` rows begins with byte
    ``column``; ``heads`` heads of ``width`` bytes every ``pitch`` bytes make a row of the golden tensor.
    """

    name: str
    layer: int
    sentence: int
    address: int
    row_bytes: int
    count: int
    column: int
    heads: int
    width: int
    pitch: int

    def extract(self, data: NDArray[np.uint8], geometry: Geometry) -> NDArray[Any]:
        """The golden tensor: its shape and type, from the bytes of its rows."""
        rows = data.reshape(self.count, self.row_bytes)
        parts = [rows[:, self.column + h * self.pitch :][:, : self.width] for h in range(self.heads)]
        values = np.concatenate(parts, axis=1)
        if self.name == "numerators":
            return values.reshape(geometry.heads, self.width, self.width)
        if self.name == "value_transposed":
            values = values[: geometry.hidden]
        return values.view(np.int8)


@dataclass(eq=False)
class Program:
    """A compiled program and its place in DRAM; all addresses are absolute.

    ``input_address`` takes the int8 rows of all sentences, ``input_row_bytes`` apart; ``mask_address`` the
    mask. ``end`` is the first byte behind everything that the program touches.
    """

    geometry: Geometry
    lengths: tuple[int, ...]
    keep: tuple[str, ...]
    address: int
    instructions: list[Instruction]
    code: bytes
    edges: list[Edge]
    plans: list[Plan]
    input_address: int
    input_row_bytes: int
    mask_address: int
    mask_bytes: int
    kept: list[KeptTensor]
    end: int
    groups: list[Group] = field(default_factory=list)

    def mask(self, masks: Sequence[NDArray[np.bool_] | None]) -> NDArray[np.uint8]:
        """The mask bytes of a batch: for each sentence the keys that take part; all of them where it is
        None."""
        config = self.geometry.config
        result = np.zeros((self.mask_bytes // config.word_bytes, config.word_bytes), np.uint8)
        for group in self.groups:
            for s in group.sentences:
                window = np.zeros(s.window_words * config.rows, np.uint8)
                chosen = masks[s.index]
                first = s.start - s.window
                window[first : first + s.length] = 1 if chosen is None else chosen
                word = group.mask_row + s.mask
                result[word : word + s.mask_words, : config.lanes] = window.reshape(-1, config.lanes)
        return result.reshape(-1)

    def listing(self) -> str:
        """The program for people."""
        return listing(self.instructions, self.address)
