"""Random programs for all engines: legal, ordered by semaphores, and full of dependencies between neighbours."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from celosia.firmware.machine.assembler import Instruction, assemble
from celosia.firmware.machine.dependencies import synchronise
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.functions import TRAITS, operand_words, result_words
from celosia.hdl.isa import (
    CHORD,
    CURVE_PIECES,
    FIRST_PARAMETERS,
    ROW_RECORD,
    SECOND_PARAMETERS,
    Format,
    Function,
    Opcode,
)
from celosia.sim.golden import kernels

__all__ = ["RandomProgram"]

#: Accumulator words of each half, row table entries, and groups of an instruction that are used at most: few, so
#: that instructions meet.
_TILE_WORDS, _ROWS, _GROUPS = 24, 16, 4
_DATA_WORDS = 512
_RECORDS: dict[str, tuple[Format, ...]] = {
    "first": (FIRST_PARAMETERS,), "second": (SECOND_PARAMETERS,), "both": (FIRST_PARAMETERS, SECOND_PARAMETERS),
    "gated": (FIRST_PARAMETERS, SECOND_PARAMETERS)}
_PARAMETERS = {
    Function.REQUANTISE: "first", Function.GELU: "both", Function.ROW_MAXIMUM: "mask", Function.EXPONENTIAL: "mask",
    Function.ATTENTION_OUTPUT: "second", Function.RESIDUAL: "both", Function.LAYER_NORM: "second",
    Function.LOAD_ROWS: "rows", Function.LOAD_CURVE: "chords", Function.ACTIVATION: "both", Function.GATED: "gated"}
#: What a function finds in the row table, and what it leaves there.
_NEEDS = {Function.EXPONENTIAL: "maximum", Function.ATTENTION_OUTPUT: "scale", Function.ROW_REQUANTISE: "scale",
          Function.LAYER_NORM: "statistics"}
_LEAVES = {Function.ROW_MAXIMUM: "maximum", Function.EXPONENTIAL: "scale", Function.LOAD_ROWS: "scale",
           Function.RESIDUAL: "statistics"}


def _record(form: Format, zeros: bool = True) -> bytes:
    """A record whose result is neither always zero nor always saturated; now and then all zeros, with ``zeros``."""
    if zeros and random.random() < 0.05:
        return bytes(form.size)
    zero = random.randint(-128, 127)
    if form is FIRST_PARAMETERS:
        return form.encode(bias=random.randint(-2000, 2000), multiplier=random.randrange(1 << 16),
                           shift=random.choice([1, 47, *range(14, 24)]), zero_point=zero)
    if form is SECOND_PARAMETERS:
        return form.encode(offset=random.randint(-1 << 20, 1 << 20), multiplier=random.randint(-1 << 15, 32767),
                           shift=random.choice([1, 31, *range(10, 22)]), zero_point=zero)
    return form.encode(multiplier=random.randrange(1 << 16), shift=random.choice([1, 47, *range(14, 24)]))


def _chord(width: int) -> bytes:
    """A piece of ``2**width`` steps that a curve may have."""
    steps = (1 << width) - 1
    ends = [random.choice([0, 2**15 - 33, random.randrange(2**15 - 32)]) for _ in range(2)]
    slope = max(-256, min(255, int((ends[1] - ends[0]) / steps)))
    return CHORD.encode(base=ends[0], slope=slope)


class RandomProgram:
    """Instructions, and the memory that they work on.

    Scratchpad and DRAM have an area for data and one for each kind of parameters, so that a record is always a
    record. First everything is loaded and every accumulator written; then come ``length`` random instructions.

    Parameters
    ----------
    base, limit
        The DRAM that may be touched: parameters and data at its start, then the program, then room for stores.

    Attributes
    ----------
    memory : uint8 [limit - base]
    address : int
        Of the program.
    """

    def __init__(self, config: AcceleratorConfig, length: int, base: int, limit: int):
        self.config = config
        self.memory = np.frombuffer(random.randbytes(limit - base), np.uint8).copy()
        self.instructions: list[Instruction] = []
        self._base = base
        #: Words and DRAM address of each area.
        self._areas: dict[str, tuple[int, int, int]] = {}
        self._words, self._bytes = 0, base
        for kind, forms in _RECORDS.items():
            self._area(kind, lambda kind=kind, forms=forms: self._columns(forms, kind != "gated"))
        self._area("mask", lambda: bytes(random.choice([0, 1, 1, 128, 255])
                                         for _ in range(2 * _GROUPS * config.word_bytes)))
        self._area("rows", lambda: b"".join(_record(ROW_RECORD) for _ in range(2 * _ROWS)))
        self._piece_width = random.randint(3, 7)
        self._area("chords", lambda: b"".join(_chord(self._piece_width) for _ in range(CURVE_PIECES)))
        self._has_curve = False
        self._area("data", lambda: random.randbytes(_DATA_WORDS * config.word_bytes))
        self._stored = self._bytes  # what stores may write: half of the rest
        self._stored_end = self._stored + (limit - self._stored) // 2 // 4096 * 4096
        self.address = self._stored_end
        self._kinds = ["nothing"] * _ROWS
        self._m = self._m_before = 1
        self._tiles_before = 1, 0, 1
        self._initialise()
        makers = [self._load, self._store, self._matmul, self._matmul, self._vector, self._vector, self._vector] * 3
        makers += [self._wide_matmul, self._wide_matmul]
        while len(self.instructions) < length:
            random.choice(makers)()
        self._show()
        synchronise(config, self.instructions, (self._stored, self._stored_end))
        self.instructions.append(Instruction(Opcode.END))
        code = np.frombuffer(assemble(self.instructions), np.uint8)
        assert self.address + code.size <= limit
        self.memory[self.address - base:][:code.size] = code

    def _area(self, kind: str, make: Callable[[], bytes]) -> None:
        """Place two versions, of which either may be loaded."""
        versions = make(), make()
        words = len(versions[0]) // self.config.word_bytes
        self._areas[kind] = self._words, words, self._bytes
        for content in versions:
            self.memory[self._bytes - self._base:][:len(content)] = np.frombuffer(content, np.uint8)
            self._bytes += -(-len(content) // self.config.bus_bytes) * self.config.bus_bytes
        self._words += words

    def _columns(self, forms: tuple[Format, ...], zeros: bool) -> bytes:
        """Groups of records, as the vector engine reads them."""
        config = self.config
        size = config.parameter_words * config.word_bytes
        return b"".join(b"".join(_record(form, zeros) for _ in range(config.lanes)).ljust(size, b"\xaa")
                        for _ in range(2 * _GROUPS) for form in forms)

    def _add(self, opcode: Opcode, function: Function | None = None, **fields: int) -> None:
        self.instructions.append(Instruction(opcode, fields, function))

    def _transfer(self, opcode: Opcode, start: int, words: int, address: int) -> None:
        self._add(opcode, dram_address=address, count=1, words=words, scratchpad=start)

    def _initialise(self) -> None:
        for start, words, address in self._areas.values():
            self._transfer(Opcode.LOAD, start, words, address)
        data = self._areas["data"][0]
        for half in range(2):
            self._add(Opcode.MATMUL, a=data, a_stride=1, b=data + 100, b_stride=1, n_tiles=1, k_tiles=1,
                      accumulator=half * self.config.half_words, accumulator_stride=0, m=_TILE_WORDS)

    def _show(self) -> None:
        """Store the data, then the accumulators, as far as a byte shows them."""
        config, (start, words, _) = self.config, self._areas["data"]
        self._transfer(Opcode.STORE, start, words, self._stored)
        row_words = -(-config.cols // config.word_bytes)
        for half in range(2):
            self._add(Opcode.VECTOR, Function.REQUANTISE, accumulator=half * config.half_words,
                      accumulator_stride=0, m=_TILE_WORDS, row=0, groups=config.cols // config.lanes,
                      destination=start + half * _TILE_WORDS * row_words, destination_stride=row_words,
                      parameters=self._areas["first"][0])
        self._transfer(Opcode.STORE, start, words, self._stored + _DATA_WORDS * config.word_bytes)

    def _place(self, words: int, rows: int) -> tuple[int, int]:
        """Start and stride in the data area of ``rows`` rows of ``words`` words."""
        start, size, _ = self._areas["data"]
        stride = words + random.choice([0, 0, 0, 1, 3])
        extent = (rows - 1) * stride + words
        assert extent <= size, (rows, stride)
        # Often the same places.
        offset = random.choice([0, size - extent, random.randrange(size - extent + 1)])
        return start + offset, stride

    def _random_transfer(self, opcode: Opcode, low: int, high: int) -> None:
        config = self.config
        count, words = random.choice([1, 1, 2, 5]), random.choice([1, 2, 3, 7, 8, 20])
        start, stride = self._place(words, count)
        bus = config.bus_bytes
        pitch = (-(-words * config.word_bytes // bus) + random.choice([0, 0, 1])) * bus
        if count == 1:
            pitch = 0
        span = max(pitch * count, -(-words * config.word_bytes // bus) * bus)
        address = low + random.randrange((high - low - span) // bus) // random.choice([1, 1, 50]) * bus
        self._add(opcode, dram_address=address, dram_stride=pitch, count=count, words=words, scratchpad=start,
                  scratchpad_stride=stride)

    def _load(self) -> None:
        if random.random() < 0.3:  # parameters anew, which somebody may be reading
            kind = random.choice([kind for kind in self._areas if kind != "data"])
            start, words, address = self._areas[kind]
            size = -(-words * self.config.word_bytes // self.config.bus_bytes) * self.config.bus_bytes
            self._transfer(Opcode.LOAD, start, words, address + random.randrange(2) * size)
            return
        what = random.choice([(self._base, self._stored), (self._stored, self._stored_end)])
        self._random_transfer(Opcode.LOAD, *what)

    def _store(self) -> None:
        self._random_transfer(Opcode.STORE, self._stored, self._stored_end)

    def _tiles(self, m: int, most: int) -> tuple[int, int, int]:
        """Number of column tiles, accumulator of the first, and stride, within a half; often those of before."""
        if random.random() < 0.4 and self._tiles_before[0] <= most and self._m_before == m:
            return self._tiles_before
        tiles = random.randint(1, min(most, _TILE_WORDS // m))
        spare = _TILE_WORDS - m * tiles
        stride = m + (random.randint(0, spare // (tiles - 1)) if tiles > 1 else 0)
        start = random.randint(0, _TILE_WORDS - (tiles - 1) * stride - m)
        accumulator = random.randrange(2) * self.config.half_words + start
        self._m_before, self._tiles_before = m, (tiles, accumulator, stride)
        return self._tiles_before

    def _matmul(self) -> None:
        fields = self._product(1)
        self._add(Opcode.MATMUL, **fields, accumulate=random.getrandbits(1), a_unsigned=random.getrandbits(1))

    def _wide_matmul(self) -> None:
        """The upper plane of A, and then the lower one; the upper may itself come in two products."""
        fields = self._product(2)
        a, upper = fields.pop("a"), fields | {"a_wide": 1}
        if random.random() < 0.3:
            self._add(Opcode.MATMUL, a=a, **upper)
            upper["accumulate"] = 1
        self._add(Opcode.MATMUL, a=a + 1, **upper)
        self._add(Opcode.MATMUL, a=a, **{**upper, "accumulate": 1}, a_unsigned=1, scale_accumulators=1)

    def _product(self, planes: int) -> dict[str, int]:
        config = self.config
        m = random.choice([1, 1, 2, 3, 4, 5, 8, 12])
        n_tiles, accumulator, accumulator_stride = self._tiles(m, 3)
        k_tiles = random.choice([1, 1, 2, 3])
        a, a_stride = self._place(planes * k_tiles, m)
        b, b_stride = self._place(k_tiles, n_tiles * config.cols)
        return {"a": a, "a_stride": a_stride, "b": b, "b_stride": b_stride, "accumulator": accumulator,
                "accumulator_stride": accumulator_stride, "m": m, "n_tiles": n_tiles, "k_tiles": k_tiles}

    def _vector(self) -> None:
        config = self.config
        function = random.choice(list(Function))
        if function in (Function.ACTIVATION, Function.GATED) and not self._has_curve:
            function = Function.LOAD_CURVE
        traits = TRAITS[function]
        m = self._m if random.random() < 0.5 else random.choice([1, 1, 2, 3, 4, 5, 8])
        self._m = m
        rows = range(_ROWS - m + 1)
        if function in _NEEDS:
            rows = [row for row in rows if set(self._kinds[row:row + m]) == {_NEEDS[function]}]
            if not rows:
                return
        row = random.choice(rows)
        tiles, accumulator, accumulator_stride = self._tiles(m, 2)
        slices = config.cols // config.lanes
        groups = min(_GROUPS, tiles * slices - random.randrange(slices))
        fields: dict[str, Any] = {"m": m, "row": row}
        if function not in (Function.LOAD_ROWS, Function.LOAD_CURVE):
            fields |= {"groups": groups, "accumulator": accumulator, "accumulator_stride": accumulator_stride}
        # Also where the function does not use it.
        fields |= {flag: int(random.random() < 0.4) for flag in ("causal", "wide_result", "wide_operand")}
        if function in _PARAMETERS:
            fields["parameters"] = self._parameters(function, m, groups)
        row_words = -(-groups * config.lanes // config.word_bytes)
        if traits.writes_scratchpad:
            fields["destination"], fields["destination_stride"] = self._place(
                row_words * result_words(function, fields), m)
        if traits.operand:
            fields |= self._operand(function, fields, row_words, m)
        if traits.mask and fields["causal"]:
            fields["operand"] = random.choice([0, -1, m, random.randint(-m, groups * config.lanes), -1 << 15]) & 0xFFFF
        if function is Function.LOAD_CURVE:
            fields["shift"], self._has_curve = self._piece_width, True
        if function is Function.RESIDUAL:
            # Now and then a row comes in two or three instructions.
            columns = groups * config.lanes * random.choice([1, 1, 2, 3])
            scalar = kernels.mean_scalar(columns)
            fields |= {"multiplier": scalar.multiplier, "shift": scalar.shift}
            for part in range(columns // (groups * config.lanes) - 1):
                self._add(Opcode.VECTOR, function, **{**fields, "continues": int(part > 0), "unfinished": 1})
                fields["continues"] = 1
        if function is Function.EXPONENTIAL:
            fields |= {"multiplier": random.randrange(1 << 16), "shift": random.choice([1, 47, *range(10, 24)])}
        if function in _LEAVES:
            self._kinds[row:row + m] = [_LEAVES[function]] * m
        self._add(Opcode.VECTOR, function, **fields)

    def _parameters(self, function: Function, m: int, groups: int) -> int:
        """The first word of the function's parameters, somewhere in their area."""
        kind = _PARAMETERS[function]
        start, words, _ = self._areas[kind]
        match kind:
            case "rows":
                unit, used = 1, -(-m * ROW_RECORD.size // self.config.word_bytes)
            case "chords":
                unit, used = 1, words
            case "mask":
                unit, used = 1, groups
            case _:
                unit = self.config.parameter_words * len(_RECORDS[kind])
                used = groups * unit
        return start + random.randrange((words - used) // unit + 1) * unit

    def _operand(self, function: Function, fields: dict[str, Any], row_words: int, m: int) -> dict[str, int]:
        """Where the second operand lies: apart from the result."""
        words = row_words * operand_words(function, fields)
        while True:
            operand, stride = self._place(words, m)
            start = fields.get("destination", 0)
            end = start + (m - 1) * fields.get("destination_stride", 0) + row_words * result_words(function, fields)
            if operand >= end or start >= operand + (m - 1) * stride + words:
                return {"operand": operand, "operand_stride": stride}
