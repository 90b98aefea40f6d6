"""A NumPy interpreter of programs: what :mod:`~celosia.hdl.isa` means, without the time that it takes.

It executes instructions one after the other, in program order. That is one of the orders in which the engines
may run; with ``check_races`` it also proves that every other order gives the same result.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..hdl.config import AcceleratorConfig
from ..hdl.isa import (
    FORMATS,
    INSTRUCTION_BYTES,
    SEMAPHORE_BITS,
    SEMAPHORES,
    Engine,
    Function,
    Opcode,
    semaphore_engines,
)
from .functional_vector import VectorUnit
from .golden import kernels
from .memories import Memories, RuleError
from .races import RaceChecker, Space

__all__ = ["FunctionalMachine", "ProgramError", "Work"]

_ENGINES: dict[Any, Any] = {Opcode.LOAD: Engine.LOAD, Opcode.STORE: Engine.STORE,
                            Opcode.MATMUL: Engine.MATMUL, Opcode.VECTOR: Engine.VECTOR}


class ProgramError(ValueError):
    """An instruction breaks a rule: its number in the program (from 0), its name, the rule and the value.

    Attributes
    ----------
    index : int
        Number of the instruction.
    """

    def __init__(self, index: int, name: str, rule: str):
        super().__init__(f"instruction {index} ({name}): {rule}")
        self.index = index


@dataclass
class Work:
    """What a program did: instructions, products of the array, payload bytes of loads and of stores."""

    instructions: int = 0
    macs: int = 0
    read_bytes: int = 0
    write_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Instruction:
    code: Any  # an Opcode, or a Function
    engine: Any  # an Engine; None for END
    fields: dict[str, int]

    @property
    def name(self) -> str:
        return str(self.code.name)


class FunctionalMachine:
    """An accelerator without time.

    Parameters
    ----------
    config
        The accelerator.
    seed
        What the on-chip memories hold at first: zeros, or random contents from this seed. A sound program
        gives the same result with any.

    Attributes
    ----------
    scratchpad : uint8 [scratchpad_words, rows]
    accumulators : int32 [accumulator_words, cols]
    """

    def __init__(self, config: AcceleratorConfig, seed: int | None = None):
        self.config = config
        self._memories = Memories(config, seed)
        self._vector = VectorUnit(config, self._memories)
        self.scratchpad = self._memories.scratchpad
        self.accumulators = self._memories.accumulators

    def run(
        self,
        memory: NDArray[np.uint8],
        program_address: int,
        base_address: int = 0,
        window: tuple[int, int] | None = None,
        check_races: bool = False,
        observer: Callable[[int], None] | None = None,
    ) -> Work:
        """Execute the program at DRAM byte ``program_address`` to its END.

        Parameters
        ----------
        memory
            The DRAM from byte ``base_address`` on, a contiguous array; stores change it.
        window
            First and last + 1 DRAM byte that may be touched; all of ``memory`` unless given.
        check_races
            Also require that semaphores order all that conflicts (:class:`~celosia.sim.races.RaceChecker`).
        observer
            Called after each instruction with its number.

        Returns
        -------
        Work

        Raises
        ------
        ProgramError
            When an instruction breaks a rule of the instruction set, would leave the window or a memory,
            waits for a semaphore that nothing before it has signalled, or END finds a semaphore above zero.
        RaceError
            When the result would depend on the speed of the engines.
        """
        config, memories = self.config, self._memories
        if memory.dtype != np.uint8 or memory.ndim != 1 or not memory.flags.c_contiguous:
            raise ValueError("memory must be a contiguous uint8 array of one dimension")
        for name, value in ("base_address", base_address), ("program_address", program_address):
            if value % config.bus_bytes:
                raise ValueError(f"{name} must be a multiple of {config.bus_bytes} bytes, not {value:#x}")
        low, high = window or (base_address, base_address + memory.size)
        memories.attach(memory, base_address, (max(low, base_address), min(high, base_address + memory.size)))
        races = RaceChecker(memories.places(), base_address, memories.dram_unit) if check_races else None
        memories.trace = [] if check_races else None
        semaphores = [0] * SEMAPHORES
        work = Work()
        while True:
            index = work.instructions
            instruction = self._fetch(index, program_address + index * INSTRUCTION_BYTES)
            work.instructions += 1
            memories.program = (program_address, program_address + work.instructions * INSTRUCTION_BYTES)
            name, fields = instruction.name, instruction.fields
            try:
                if instruction.engine is None:
                    self._end(fields, semaphores)
                    return work
                self._own_semaphores(instruction.engine, fields)
                for s in range(SEMAPHORES):
                    if fields["wait"] >> s & 1:
                        _require(semaphores[s] > 0, f"semaphore {s} must be above zero to be waited for")
                        semaphores[s] -= 1
                self._execute(instruction, work)
                if races and memories.trace is not None:
                    races.observe(instruction.engine, f"instruction {index} ({name})", fields["wait"],
                                  fields["signal"], memories.trace)
                    memories.trace.clear()
                for s in range(SEMAPHORES):
                    if fields["signal"] >> s & 1:
                        limit = (1 << SEMAPHORE_BITS) - 1
                        _require(semaphores[s] < limit, f"semaphore {s} must not exceed {limit}")
                        semaphores[s] += 1
            except RuleError as error:
                raise ProgramError(index, name, str(error)) from None
            if observer:
                observer(index)

    def _fetch(self, index: int, address: int) -> _Instruction:
        try:
            record = self._memories.dram_bytes(address, INSTRUCTION_BYTES)
        except RuleError as error:
            raise ProgramError(index, "fetch", str(error)) from None
        opcode = _code(Opcode, record[0], index, "opcode")
        fields = FORMATS[opcode].decode(record)
        code = _code(Function, record[1], index, "function") if opcode is Opcode.VECTOR else opcode
        return _Instruction(code, _ENGINES.get(opcode), fields)

    def _end(self, fields: dict[str, int], semaphores: list[int]) -> None:
        _require(not fields["wait"] and not fields["signal"], "END must neither wait nor signal")
        for s, count in enumerate(semaphores):
            _require(count == 0, f"semaphore {s} must be back at zero, not at {count}")

    @staticmethod
    def _own_semaphores(engine: Any, fields: dict[str, int]) -> None:
        for s in range(SEMAPHORES):
            giver, taker = semaphore_engines(s)
            found = f"not from {giver.name} to {taker.name}"
            if fields["wait"] >> s & 1:
                _require(taker is engine is not giver,
                         f"semaphore {s} must go from another engine to {engine.name} to be waited for, {found}")
            if fields["signal"] >> s & 1:
                _require(giver is engine is not taker,
                         f"semaphore {s} must go from {engine.name} to another engine to be signalled, {found}")

    def _execute(self, instruction: _Instruction, work: Work) -> None:
        fields = instruction.fields
        match instruction.engine:
            case Engine.LOAD:
                work.read_bytes += self._load(fields)
            case Engine.STORE:
                work.write_bytes += self._store(fields)
            case Engine.MATMUL:
                work.macs += self._matmul(fields)
            case Engine.VECTOR:
                self._vector.execute(instruction.code, fields)

    def _transfer_words(self, f: dict[str, int], write: bool) -> NDArray[np.int64]:
        _at_least_one(f, "count", "words")
        return self._memories.area(Space.SCRATCHPAD, "scratchpad", f["scratchpad"], f["count"],
                                   f["scratchpad_stride"], f["words"], write)

    def _load(self, f: dict[str, int]) -> int:
        words = self._transfer_words(f, write=True)
        rows = self._memories.dram_rows(f["dram_address"], f["count"], f["dram_stride"],
                                        f["words"] * self.config.word_bytes, write=False)
        self.scratchpad[words] = rows.reshape(*words.shape, -1)
        self._memories.computed[words] = False
        return rows.size

    def _store(self, f: dict[str, int]) -> int:
        words = self._transfer_words(f, write=False)
        rows = self._memories.dram_rows(f["dram_address"], f["count"], f["dram_stride"],
                                        f["words"] * self.config.word_bytes, write=True)
        for row, values in zip(rows, self.scratchpad[words].reshape(rows.shape), strict=True):
            row[:] = values  # one by one: where rows overlap, the last wins
        return rows.size

    def _matmul(self, f: dict[str, int]) -> int:
        config, memories = self.config, self._memories
        _at_least_one(f, "m", "n_tiles", "k_tiles")
        m, n, k = f["m"], f["n_tiles"] * config.cols, f["k_tiles"] * config.rows
        _require(k <= config.max_k, f"k_tiles * rows must be at most max_k = {config.max_k}, not {k}")
        step = 2 if f["a_wide"] else 1  # words of the other plane lie between: they count as read, too
        a_words = step * (f["k_tiles"] - 1) + 1
        a = memories.area(Space.SCRATCHPAD, "a", f["a"], m, f["a_stride"], a_words, write=False)[:, ::step]
        b = memories.area(Space.SCRATCHPAD, "b", f["b"], n, f["b_stride"], f["k_tiles"], write=False)
        c = memories.accumulator_area(f, f["n_tiles"], write=True)
        left = self.scratchpad[a].reshape(m, k)
        right = self.scratchpad[b].reshape(n, k).view(np.int8)
        product = kernels.matmul(left if f["a_unsigned"] else left.view(np.int8), right)
        product = product.reshape(m, f["n_tiles"], config.cols).swapaxes(0, 1)
        if f["accumulate"]:
            total = self.accumulators[c].astype(np.int64) * (256 if f["scale_accumulators"] else 1) + product
            _require(np.abs(total).max() < 2**31, f"a sum must fit 32 bits, not reach {np.abs(total).max()}")
            product = total.astype(np.int32)
        self.accumulators[c] = product
        return m * n * k


def _code(codes: Any, value: int, index: int, what: str) -> Any:
    """The member of the enumeration ``codes`` that has ``value``."""
    members = {code.value: code for code in codes}
    if value not in members:
        raise ProgramError(index, "decode", f"the {what} must be one of {sorted(members)}, not {value}")
    return members[value]


def _require(holds: bool | np.bool_, rule: str) -> None:
    if not holds:
        raise RuleError(rule)


def _at_least_one(fields: dict[str, int], *names: str) -> None:
    for name in names:
        _require(fields[name] >= 1, f"{name} must be at least 1, not 0")
