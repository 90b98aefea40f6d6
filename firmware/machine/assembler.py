"""Instructions as objects, as bytes, and as a listing that a person can read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ...hdl.isa import (
    FORMATS,
    INSTRUCTION_BYTES,
    SEMAPHORES,
    Engine,
    Function,
    Opcode,
    semaphore_engines,
    semaphore_index,
)

__all__ = [
    "AssemblerError",
    "Instruction",
    "assemble",
    "disassemble",
    "listing",
    "semaphore_index",
    "semaphore_name",
]

_HEADER_FIELDS = ("opcode", "function", "wait", "signal", "tag")
_ENGINES = {
    Opcode.LOAD: Engine.LOAD,
    Opcode.STORE: Engine.STORE,
    Opcode.MATMUL: Engine.MATMUL,
    Opcode.VECTOR: Engine.VECTOR,
}


class AssemblerError(ValueError):
    """A program can't be encoded or decoded. The message names the instruction and the rule."""


@dataclass(slots=True)
class Instruction:
    """One instruction.

    Parameters
    ----------
    opcode, function
        What to do; ``function`` is None except for VECTOR.
    fields
        The operands, by the names of :data:`~celosia.hdl.isa.FORMATS`; those that are not given are zero.
    comment
        Names of the tensors, for the listing.
    wait, signal
        Masks of semaphores.
    tag
        Free for the compiler: its place in the program's order, modulo 2**16.
    """

    opcode: Opcode
    fields: dict[str, int] = field(default_factory=dict)
    function: Function | None = None
    comment: str = ""
    wait: int = 0
    signal: int = 0
    tag: int = 0

    @property
    def engine(self) -> Engine | None:
        """The engine that executes it; None for END, which is the sequencer's own."""
        return _ENGINES.get(self.opcode)

    def encode(self) -> bytes:
        """Its ``INSTRUCTION_BYTES`` bytes."""
        function = 0 if self.function is None else self.function.value
        return FORMATS[self.opcode].encode(
            opcode=self.opcode.value,
            function=function,
            wait=self.wait,
            signal=self.signal,
            tag=self.tag,
            **self.fields,
        )

    @classmethod
    def decode(cls, record: bytes) -> "Instruction":
        """The instruction that ``record`` holds; raises :class:`AssemblerError` when it is none."""
        try:
            opcode = Opcode(record[0])
            function = Function(record[1]) if opcode is Opcode.VECTOR else None
        except ValueError as error:
            raise AssemblerError(f"{record[:2].hex()} starts no instruction: {error}") from error
        values = FORMATS[opcode].decode(record)
        header = {name: values.pop(name) for name in _HEADER_FIELDS}
        return cls(opcode, values, function, "", header["wait"], header["signal"], header["tag"])

    def __str__(self) -> str:
        """One line of the listing, without the address."""
        name = self.opcode.name.lower() if self.function is None else self.function.name.lower()
        operands = [
            f"{key}={value:#x}" if key == "dram_address" else f"{key}={value}"
            for key, value in self.fields.items()
            if value
        ]
        for word, mask in (("wait", self.wait), ("signal", self.signal)):
            if mask:
                names = [semaphore_name(i) for i in range(SEMAPHORES) if mask >> i & 1]
                operands.append(f"{word}({', '.join(names)})")
        text = f"{name:<17}{' '.join(operands)}".rstrip()
        return f"{text:<110} ; {self.comment}" if self.comment else text


def semaphore_name(index: int) -> str:
    """``load>matmul`` and the like: the inverse of :func:`semaphore_index`, for people."""
    producer, consumer = semaphore_engines(index)
    return f"{producer.name.lower()}>{consumer.name.lower()}"


def assemble(program: Iterable[Instruction]) -> bytes:
    """The bytes of ``program``; raises :class:`AssemblerError` on a value that does not fit its field."""
    records = []
    for index, instruction in enumerate(program):
        try:
            records.append(instruction.encode())
        except ValueError as error:
            raise AssemblerError(f"instruction {index} ({instruction.comment}): {error}") from error
    return b"".join(records)


def disassemble(code: bytes) -> list[Instruction]:
    """The instructions in ``code``, up to the first END or its last byte; raises :class:`AssemblerError`."""
    if len(code) % INSTRUCTION_BYTES:
        raise AssemblerError(f"a program must be a multiple of {INSTRUCTION_BYTES} bytes, not {len(code)}")
    program = []
    for offset in range(0, len(code), INSTRUCTION_BYTES):
        program.append(Instruction.decode(code[offset : offset + INSTRUCTION_BYTES]))
        if program[-1].opcode is Opcode.END:
            break
    return program


def listing(program: Sequence[Instruction], address: int = 0) -> str:
    """``program`` for people: a line an instruction, from DRAM byte ``address`` on."""
    return (
        "\n".join(
            f"{address + i * INSTRUCTION_BYTES:#010x}  {instruction}" for i, instruction in enumerate(program)
        )
        + "\n"
    )
