"""The host's side: loads models, runs batches, reads results and counters, and explains errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...hdl.config import AcceleratorConfig
from ...hdl.control.control import constant_registers
from ...hdl.isa import INSTRUCTION_BYTES
from ...hdl.registers import COUNTERS, WIDE_BITS, ErrorCause, register
from ...sim.golden.parameters import QuantisedEncoder
from ..compiler.compiler import compile_program
from ..compiler.program import KeptTensor, Program
from ..machine.assembler import AssemblerError, Instruction
from ..machine.layout import ModelImage, build_image
from .transport import Progress, Transport, status_fields

__all__ = [
    "Accelerator",
    "AcceleratorError",
    "BatchResult",
    "DriverError",
    "HardwareError",
    "HardwareMismatchError",
    "MemorySilentError",
    "utilisation",
]

#: Cycles without progress after which the hardware stops a program.
_WATCHDOG = 10_000_000
#: Looks at the status after which a stop does not end any more: the memory owes an answer.
_STOP_LOOKS = 10_000
_DEFAULT_CYCLES = 10_000_000_000

Mask = NDArray[np.bool_]
Tensors = dict[str, NDArray[np.generic]]


class AcceleratorError(RuntimeError):
    """The driver could not do what it was asked to."""


class DriverError(AcceleratorError):
    """A call that the driver refuses. One sentence: the value and the rule."""


class HardwareMismatchError(AcceleratorError):
    """The hardware is not what the configuration says, or of another version than this driver: ``register``,
    ``expected``, ``found``."""

    def __init__(self, name: str, expected: int, found: int):
        if name == "version":
            mine, theirs = (f"{value >> 16}.{value & 0xFFFF}" for value in (expected, found))
            super().__init__(f"the accelerator must have version {mine} of register map and instruction set, as this "
                             f"driver has, not {theirs}: generate it anew, or use the driver that belongs to it")
        else:
            super().__init__(f"register {name} must read {expected:#010x} for this configuration, not {found:#010x}")
        self.register, self.expected, self.found = name, expected, found


class MemorySilentError(AcceleratorError):
    """The accelerator can't come to rest, since the memory does not answer: no register helps, AXI4 has no means to
    withdraw what was asked for."""

    def __init__(self, cause: ErrorCause):
        reason = f" after {cause.name}" if cause is not ErrorCause.NONE else ""
        super().__init__(
            f"the accelerator is still being stopped{reason}: the memory has not answered what it was asked; "
            "reset memory and accelerator together")
        self.cause = cause


class HardwareError(AcceleratorError):
    """A program stopped with an error: its ``cause``, the DRAM ``address`` of the instruction, and the
    ``instruction`` (None when there is none at the address)."""

    def __init__(self, cause: ErrorCause, address: int, instruction: Instruction | None, comment: str):
        text = str(instruction) if instruction is not None else "no instruction"
        super().__init__(
            f"the accelerator stopped: {cause.name}, at {address:#x}: {text}"
            + (f" ; {comment}" if comment else "")
        )
        self.cause, self.address, self.instruction = cause, address, instruction


@dataclass(frozen=True, eq=False)
class BatchResult:
    """What a run gives.

    ``outputs``: int8 [L, d] of each sentence, from the last layer. ``tensors[sentence][layer]``: everything
    that was kept, by its golden name. ``counters``: by the names of :data:`~celosia.hdl.registers.COUNTERS`.
    ``layers``: the counters of each layer, from the moment the last output of the layer before reached DRAM to
    the moment its own did, where every layer's output is kept and the transport sees the bus; else empty. They
    add up to ``counters``.
    ``stopped``: the names of counters that stopped, since they could count no further: there was at least as much.
    """

    outputs: list[NDArray[np.int8]]
    tensors: list[list[Tensors]]
    counters: dict[str, int]
    layers: list[dict[str, int]]
    program: Program
    stopped: tuple[str, ...] = ()


class Accelerator:
    """An accelerator of configuration ``config`` behind ``transport``.

    Raises
    ------
    HardwareMismatchError
        When its registers tell of other hardware, naming the first that differs.
    DriverError
        When some of the transport's memory, in which program, window and tensors lie, is out of its reach.
    """

    def __init__(self, transport: Transport, config: AcceleratorConfig):
        self.transport = transport
        self.config = config
        for name, expected in constant_registers(config).items():
            found = self._read(name)
            if found != expected:
                raise HardwareMismatchError(name, expected, found)
        _check_addresses(config, transport)
        self._image: ModelImage | None = None
        self._programs: dict[tuple[tuple[int, ...], tuple[str, ...], bool | None], Program] = {}
        self._placed: Program | None = None

    def _read(self, name: str) -> int:
        return self.transport.read_register(register(name).offset)

    def _write(self, name: str, value: int) -> None:
        self.transport.write_register(register(name).offset, value)

    def _read_wide(self, name: str) -> int:
        return self._read(f"{name}_high") << 32 | self._read(f"{name}_low")

    def _write_wide(self, name: str, value: int) -> None:
        self._write(f"{name}_low", value & 0xFFFF_FFFF)
        self._write(f"{name}_high", value >> 32)

    def _command(self, name: str, field: str) -> None:
        bits = next(bits for bits in register(name).bits if bits.name == field)
        self._write(name, 1 << bits.offset)

    def _check_configuration(self, image: ModelImage) -> None:
        mine, theirs = constant_registers(self.config), constant_registers(image.geometry.config)
        for name, value in mine.items():
            if theirs[name] != value:
                raise DriverError(
                    f"the model is arranged for configuration {image.geometry.config.name!r} and can't run "
                    f"on {self.config.name!r}: {name} must be {value:#010x}, not {theirs[name]:#010x}"
                )

    def load(self, model: QuantisedEncoder | ModelImage) -> ModelImage:
        """Place a model in DRAM; it stays for every later :meth:`run`.

        Raises
        ------
        CompileError
            When the model exceeds a limit of the configuration.
        DriverError
            When it was arranged for another configuration, or does not fit the memory.
        """
        image = model if isinstance(model, ModelImage) else build_image(self.config, model)
        self._check_configuration(image)
        if image.data.size > self.transport.memory_bytes:
            raise DriverError(
                f"the model's {image.data.size} bytes must fit the memory of {self.transport.memory_bytes}"
            )
        self._be_idle()
        self.transport.write_memory(self.transport.base_address, image.data)
        self._image, self._programs, self._placed = image, {}, None
        return image

    def program(
        self, lengths: Sequence[int], keep: Sequence[str] = ("output",), apart: bool | None = None
    ) -> Program:
        """The program for sentences of ``lengths`` tokens, compiled once for each list of lengths; ``apart`` as for
        :func:`~celosia.firmware.compiler.compiler.compile_program`.

        Raises
        ------
        CompileError
            As :func:`~celosia.firmware.compiler.compiler.compile_program`.
        DriverError
            When no model is loaded, or the program and its tensors do not fit the memory.
        """
        if self._image is None:
            raise DriverError("a model must be loaded before a program is made for it")
        key = (tuple(lengths), tuple(keep), apart)
        if key not in self._programs:
            base = self.transport.base_address
            program = compile_program(self._image, lengths, keep, base, apart=apart)
            if program.end > base + self.transport.memory_bytes:
                raise DriverError(
                    f"model, program and tensors need {program.end - base} bytes, and the memory has "
                    f"{self.transport.memory_bytes}"
                )
            self._programs[key] = program
        return self._programs[key]

    def run(
        self,
        inputs: Sequence[NDArray[np.int8]],
        masks: Sequence[Mask | None] | None = None,
        keep: Sequence[str] = ("output",),
        max_cycles: int = _DEFAULT_CYCLES,
        on_progress: Progress | None = None,
        apart: bool | None = None,
    ) -> BatchResult:
        """Run a batch: int8 [L, d] and, if given, bool [L] (false: not attended to) for each sentence; ``keep`` and
        ``apart`` as for :meth:`program`.

        Raises
        ------
        DriverError
            When an input or a mask has the wrong shape or type, or ``max_cycles`` have passed without an end.
        HardwareError
            When the accelerator stopped with an error; a soft reset has been made.
        MemorySilentError
            When it can't stop, since the memory does not answer.
        """
        if self._image is None:
            raise DriverError("a model must be loaded before a batch can run")
        self._be_idle()
        masks = [None] * len(inputs) if masks is None else masks
        self._check_inputs(inputs, masks, self._image.geometry.hidden)
        program = self.program([len(x) for x in inputs], keep, apart)
        self._place(program)
        self._write_inputs(program, inputs, masks)
        snapshots = self._execute(program, max_cycles, on_progress)
        counters = self._counters()
        tensors: list[list[Tensors]] = [[{} for _ in range(program.geometry.layers)] for _ in inputs]
        for kept in program.kept:
            tensors[kept.sentence][kept.layer][kept.name] = self._read_tensor(program, kept)
        outputs = [layers[-1]["output"].view(np.int8) for layers in tensors]
        stopped = tuple(name for name, value in counters.items() if value >> self.config.counter_bits - 1)
        return BatchResult(outputs, tensors, counters, _by_layer(program, snapshots, counters), program, stopped)

    @staticmethod
    def _check_inputs(inputs: Sequence[NDArray[np.int8]], masks: Sequence[Mask | None], hidden: int) -> None:
        if len(masks) != len(inputs):
            raise DriverError(
                f"there must be one mask for each of the {len(inputs)} inputs, not {len(masks)}"
            )
        for index, (x, mask) in enumerate(zip(inputs, masks, strict=True)):
            if not isinstance(x, np.ndarray):
                raise DriverError(f"input {index} must be int8 [tokens, {hidden}], not {type(x).__name__}")
            if x.dtype != np.int8 or x.ndim != 2 or x.shape[1] != hidden:
                raise DriverError(
                    f"input {index} must be int8 [tokens, {hidden}], not {x.dtype} {list(x.shape)}"
                )
            if mask is not None and (mask.dtype != np.bool_ or mask.shape != (len(x),)):
                raise DriverError(
                    f"mask {index} must be bool [{len(x)}], not {mask.dtype} {list(mask.shape)}"
                )

    def _place(self, program: Program) -> None:
        if self._placed is not program:
            self.transport.write_memory(program.address, np.frombuffer(program.code, np.uint8))
            self._placed = program

    def _write_inputs(
        self, program: Program, inputs: Sequence[NDArray[np.int8]], masks: Sequence[Mask | None]
    ) -> None:
        rows = np.zeros((sum(program.lengths), program.input_row_bytes), np.uint8)
        rows[:, : program.geometry.hidden] = np.concatenate(inputs).view(np.uint8)
        self.transport.write_memory(program.input_address, rows.reshape(-1))
        self.transport.write_memory(program.mask_address, program.mask(masks))

    def _counters(self) -> dict[str, int]:
        return {name: self._read_wide(name) for name, _ in COUNTERS}

    def _execute(
        self, program: Program, max_cycles: int, on_progress: Progress | None
    ) -> list[dict[str, int]]:
        """Run the program; the counters as they were at each of its :func:`_layer_marks`."""
        base = self.transport.base_address
        self._write_wide("program", program.address)
        self._write_wide("window_base", base)
        self._write_wide("window_limit", min(base + self.transport.memory_bytes, (1 << WIDE_BITS) - 1))
        self._write("watchdog", _WATCHDOG)
        self._command("interrupt", "enable")
        self._command("control", "start")
        if self._status()["refused"]:
            raise DriverError("the accelerator refuses the start: another host has started a program on it")
        snapshots: list[dict[str, int]] = []
        ended = self.transport.wait_interrupt(
            max_cycles, on_progress, [address for _, address in _layer_marks(program)],
            lambda index: snapshots.append(self._counters()),
        )
        fields = self._status()
        if fields["stopping"]:
            self._rest(ErrorCause(fields["cause"]))
            fields = self._status()
        if fields["error"]:
            error = self._explain(program, ErrorCause(fields["cause"]))
            self._placed = None
            self._soft_reset()
            raise error
        if not ended or not fields["done"]:
            self._soft_reset()
            raise DriverError(f"the program must end within {max_cycles} cycles; it was stopped")
        self._command("interrupt", "acknowledge")
        return snapshots

    def _status(self) -> dict[str, int]:
        return status_fields(self._read("status"))

    def _be_idle(self) -> None:
        """End what an earlier call has left, before memory is written: a program that runs on, since its call was
        interrupted, or an error that nobody has cleared."""
        fields = self._status()
        if fields["busy"] or fields["error"]:
            self._soft_reset()

    def _soft_reset(self) -> None:
        self._command("control", "reset")
        self._rest(ErrorCause.NONE)

    def _rest(self, cause: ErrorCause) -> None:
        """Wait until a stop has ended and the bus owes nothing: from then on memory is the host's."""
        for _ in range(_STOP_LOOKS):
            if not self._status()["busy"]:
                return
        raise MemorySilentError(cause)

    def _explain(self, program: Program, cause: ErrorCause) -> HardwareError:
        address = self._read_wide("error_address")
        index = (address - program.address) // INSTRUCTION_BYTES
        comment = program.instructions[index].comment if 0 <= index < len(program.instructions) else ""
        try:
            instruction = Instruction.decode(self.transport.read_memory(address, INSTRUCTION_BYTES).tobytes())
        except (AssemblerError, ValueError):
            instruction = None
        return HardwareError(cause, address, instruction, comment)

    def _read_tensor(self, program: Program, kept: KeptTensor) -> NDArray[np.generic]:
        data = self.transport.read_memory(kept.address, kept.count * kept.row_bytes)
        return kept.extract(data, program.geometry)


def _check_addresses(config: AcceleratorConfig, memory: Transport) -> None:
    """Refuse a memory with addresses that the accelerator's bus can't give with a :class:`DriverError`."""
    base, end = memory.base_address, memory.base_address + memory.memory_bytes
    if base < 0 or end > 1 << config.address_bits:
        raise DriverError(
            f"every address of the memory must be below 2 ** address_bits = {1 << config.address_bits:#x}, "
            f"with address_bits = {config.address_bits}; it lies from {base:#x} to {end - 1:#x}"
        )


def _layer_marks(program: Program) -> list[tuple[int, int]]:
    """(layer, DRAM address of its last output byte) for each group of sentences, in the order of the program."""
    last = {(kept.sentence, kept.layer): kept.address + kept.count * kept.row_bytes - 1
            for kept in program.kept if kept.name == "output"}
    ends = [group.sentences[-1].index for group in program.groups]
    marks = [(layer, last.get((end, layer))) for end in ends for layer in range(program.geometry.layers)]
    return [(layer, address) for layer, address in marks if address is not None]


def _by_layer(
    program: Program, snapshots: list[dict[str, int]], final: dict[str, int]
) -> list[dict[str, int]]:
    marks, layers = _layer_marks(program), program.geometry.layers
    if not snapshots or len(snapshots) != len(marks) or len(marks) != layers * len(program.groups):
        return []
    totals = [dict.fromkeys(final, 0) for _ in range(layers)]
    before = dict.fromkeys(final, 0)
    for (layer, _), after in zip(marks, [*snapshots[:-1], final], strict=True):
        for name in final:
            totals[layer][name] += after[name] - before[name]
        before = after
    return totals


def utilisation(counters: Mapping[str, int]) -> dict[str, float]:
    """Share of the cycles in which the array and each engine worked."""
    cycles = max(1, counters["cycles"])
    names = {"array": "array_active"} | {e: f"{e}_busy" for e in ("load", "store", "matmul", "vector")}
    return {name: counters[counter] / cycles for name, counter in names.items()}
