"""The host driver on the functional machine: checks, results, errors."""

import re

import celosia.firmware.driver.driver as driver
import numpy as np
import pytest
from celosia.firmware.driver.driver import (
    Accelerator,
    DriverError,
    HardwareError,
    HardwareMismatchError,
    utilisation,
)
from celosia.firmware.driver.transport import FunctionalTransport, SimulatedTransport
from celosia.firmware.machine.layout import build_image
from celosia.firmware.quantise.synthetic import random_encoder, random_tokens
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.registers import COUNTERS, VERSION, ErrorCause, register
from celosia.sim.golden.encoder import run_encoder

CONFIG = AcceleratorConfig()
ENCODER = random_encoder(48, 96, 3, layers=2)


class Recorder(FunctionalTransport):
    """Counts what is written to memory."""

    def __init__(self, config: AcceleratorConfig = CONFIG, memory_bytes: int = 1 << 20):
        super().__init__(config, memory_bytes)
        self.written: list[int] = []
        self.ends = True
        self.counted: dict[int, int] = {}  # by offset: what registers read, whatever happened

    def read_register(self, offset):
        return self.counted.get(offset, super().read_register(offset))

    def write_memory(self, address, data):
        self.written.append(data.size)
        super().write_memory(address, data)

    def wait_interrupt(self, *args, **options):
        return self.ends and super().wait_interrupt(*args, **options)


@pytest.fixture
def transport() -> Recorder:
    return Recorder()


@pytest.fixture
def accelerator(transport: Recorder) -> Accelerator:
    accelerator = Accelerator(transport, CONFIG)
    accelerator.load(ENCODER)
    return accelerator


def tokens(length: int, seed: int = 0) -> np.ndarray:
    return random_tokens(np.random.default_rng(seed), length, 48)


def test_everything_promised_is_exported() -> None:
    assert all(hasattr(driver, name) for name in driver.__all__)


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (AcceleratorConfig(cols=8), "config_array"),
        (AcceleratorConfig(scratchpad_kib=128), "config_memory"),
        (AcceleratorConfig(row_entries=256), "config_limits"),
        (AcceleratorConfig(max_k=2048), "config_sizes"),
        (AcceleratorConfig(counter_bits=48), "config_control"),
    ],
)
def test_other_hardware_is_refused(transport: Recorder, other: AcceleratorConfig, name: str) -> None:
    found = transport.read_register(register(name).offset)
    with pytest.raises(HardwareMismatchError) as error:
        Accelerator(transport, other)
    assert (error.value.register, error.value.found) == (name, found)
    expected = error.value.expected
    assert str(error.value) == (
        f"register {name} must read {expected:#010x} for this configuration, not {found:#010x}"
    )


def test_no_accelerator_is_refused(transport: Recorder) -> None:
    transport._registers[register("id").offset] = 0xDEADBEEF
    rule = "register id must read 0x43454c4f for this configuration, not 0xdeadbeef"
    with pytest.raises(HardwareMismatchError, match=rule):
        Accelerator(transport, CONFIG)


def test_another_version_is_refused(transport: Recorder) -> None:
    transport._registers[register("version").offset] = 0x0001_0002
    rule = ("the accelerator must have version 2.0 of register map and instruction set, as this driver has, not 1.2: "
            "generate it anew, or use the driver that belongs to it")
    with pytest.raises(HardwareMismatchError, match=f"^{re.escape(rule)}$") as error:
        Accelerator(transport, CONFIG)
    assert (error.value.register, error.value.expected, error.value.found) == ("version", VERSION, 0x0001_0002)


def test_results_and_counters(accelerator: Accelerator) -> None:
    inputs = [tokens(11), tokens(3, 1)]
    mask = np.arange(11) < 8
    result = accelerator.run(inputs, [mask, None])
    for index, (x, m) in enumerate(zip(inputs, [mask, None], strict=True)):
        golden = run_encoder(ENCODER, x, m)
        np.testing.assert_array_equal(result.outputs[index], golden[-1]["output"], strict=True)
        for layer, kept in enumerate(result.tensors[index]):
            np.testing.assert_array_equal(kept["output"], golden[layer]["output"], strict=True)
    assert set(result.counters) == {name for name, _ in COUNTERS}
    assert result.counters["instructions"] == len(result.program.instructions)
    assert result.counters["write_bytes"] == 2 * 14 * 48
    assert set(utilisation(result.counters)) == {"array", "load", "store", "matmul", "vector"}


def test_a_counter_that_stopped_is_named(transport: Recorder) -> None:
    """Its highest bit is set; a counter just below is none of them, and 64 bits are read from both registers."""
    for bits in (32, 40, 64):
        config = AcceleratorConfig(counter_bits=bits)
        transport = Recorder(config)
        accelerator = Accelerator(transport, config)
        accelerator.load(ENCODER)
        most = 1 << bits - 1
        values = {"load_busy": most - 1, "store_busy": most, "vector_wait": most + 3}
        for name, value in values.items():
            transport.counted[register(f"{name}_low").offset] = value & 0xFFFF_FFFF
            transport.counted[register(f"{name}_high").offset] = value >> 32
        result = accelerator.run([tokens(5)])
        assert {name: result.counters[name] for name in values} == values
        assert set(result.stopped) == {"store_busy", "vector_wait"}


def test_weights_are_placed_once_and_programs_are_reused(
    accelerator: Accelerator, transport: Recorder
) -> None:
    first = accelerator.run([tokens(5)])
    transport.written.clear()
    second = accelerator.run([tokens(5, 1)])
    assert second.program is first.program
    assert sum(transport.written) < 1024  # the input and the mask
    accelerator.run([tokens(6)])
    x = tokens(5, 2)
    np.testing.assert_array_equal(accelerator.run([x]).outputs[0], run_encoder(ENCODER, x)[-1]["output"])


def test_a_model_can_be_replaced(accelerator: Accelerator) -> None:
    other, x = random_encoder(48, 96, 3, layers=1, seed=9), tokens(5)
    accelerator.run([x])
    accelerator.load(other)
    np.testing.assert_array_equal(accelerator.run([x]).outputs[0], run_encoder(other, x)[-1]["output"])


def test_a_model_for_other_hardware_is_refused(accelerator: Accelerator) -> None:
    image = build_image(AcceleratorConfig(name="other", rows=8), ENCODER)
    rule = "the model is arranged for configuration 'other' and can't run on 'custom': config_array must be"
    with pytest.raises(DriverError, match=re.escape(rule)):
        accelerator.load(image)


def test_too_small_a_memory_is_refused() -> None:
    accelerator = Accelerator(Recorder(memory_bytes=1 << 10), CONFIG)
    with pytest.raises(DriverError, match=r"the model's \d+ bytes must fit the memory of 1024"):
        accelerator.load(ENCODER)
    size = build_image(CONFIG, ENCODER).data.size
    accelerator = Accelerator(Recorder(memory_bytes=size + 64), CONFIG)
    accelerator.load(ENCODER)
    with pytest.raises(
        DriverError, match=rf"model, program and tensors need \d+ bytes, and the memory has {size + 64}"
    ):
        accelerator.run([tokens(5)])


class Stand:
    """Of a :class:`~celosia.sim.model.Simulation` what its transport needs; registers are read as ``behind`` has
    them."""

    def __init__(self, behind: FunctionalTransport):
        self.memory, self.base, self.read = behind.memory, behind.base_address, behind.read_register
        self.write = behind.write_register

    def reset(self) -> None:
        pass


@pytest.mark.parametrize("way", [lambda machine: machine, lambda machine: SimulatedTransport(Stand(machine))])
@pytest.mark.parametrize(("bits", "base", "size"), [
    (32, 1 << 32, 1 << 20),
    (32, (1 << 32) - 64, 128),
    (32, (3 << 32) + 64, 64),
    (40, (1 << 40) - 64, 128),
    (48, 1 << 48, 64),
    (32, -64, 128),
])
def test_addresses_beyond_those_of_the_bus_are_refused(way, bits: int, base: int, size: int) -> None:
    config = AcceleratorConfig(address_bits=bits)
    machine = FunctionalTransport(config, size, base)
    machine.write_register = machine.write_memory = None  # nothing is written
    rule = (f"every address of the memory must be below 2 ** address_bits = {1 << bits:#x}, with address_bits = "
            f"{bits}; it lies from {base:#x} to {base + size - 1:#x}")
    with pytest.raises(DriverError, match=f"^{re.escape(rule)}$"):
        Accelerator(way(machine), config)


@pytest.mark.parametrize("bits", [32, 48])
def test_the_last_addresses_of_the_bus_can_be_used(bits: int) -> None:
    config, size = AcceleratorConfig(address_bits=bits), 1 << 17
    transport = FunctionalTransport(config, size, (1 << bits) - size)
    accelerator = Accelerator(transport, config)
    accelerator.load(ENCODER)
    x = tokens(5)
    np.testing.assert_array_equal(accelerator.run([x]).outputs[0], run_encoder(ENCODER, x)[-1]["output"])
    assert transport._wide("window_limit") == min(1 << bits, (1 << 48) - 1)


@pytest.mark.parametrize(
    ("inputs", "masks", "rule"),
    [
        ([tokens(5).astype(np.int16)], None, "input 0 must be int8 [tokens, 48], not int16 [5, 48]"),
        ([tokens(5), tokens(5)[:, :40]], None, "input 1 must be int8 [tokens, 48], not int8 [5, 40]"),
        ([tokens(5)], [np.ones(4, bool)], "mask 0 must be bool [5], not bool [4]"),
        ([tokens(5)], [np.ones(5)], "mask 0 must be bool [5], not float64 [5]"),
        ([tokens(5)], [], "there must be one mask for each of the 1 inputs, not 0"),
    ],
)
def test_bad_batches_are_refused(accelerator: Accelerator, inputs, masks, rule: str) -> None:
    with pytest.raises(DriverError, match=re.escape(rule)):
        accelerator.run(inputs, masks)


def test_nothing_runs_without_a_model(transport: Recorder) -> None:
    accelerator = Accelerator(transport, CONFIG)
    with pytest.raises(DriverError, match="a model must be loaded before a batch can run"):
        accelerator.run([tokens(5)])
    with pytest.raises(DriverError, match="a model must be loaded before a program is made for it"):
        accelerator.program([5])


def test_an_error_names_cause_address_and_instruction(accelerator: Accelerator, transport: Recorder) -> None:
    x = tokens(5)
    program = accelerator.run([x]).program
    index = next(i for i, item in enumerate(program.instructions) if "scores" in item.comment)
    broken = bytearray(program.instructions[index].encode())
    broken[22] = broken[23] = 0xFF  # most of all fields: an operand outside its memory
    address = program.address + 32 * index
    transport.write_memory(address, np.frombuffer(bytes(broken), np.uint8))
    with pytest.raises(HardwareError) as error:
        accelerator.run([x])
    assert error.value.cause is ErrorCause.ILLEGAL_INSTRUCTION
    assert error.value.address == address
    assert error.value.instruction is not None
    assert str(error.value).startswith(
        f"the accelerator stopped: ILLEGAL_INSTRUCTION, at {address:#x}: matmul "
    )
    assert "layer 0 scores, sentence 0 head 0 row 0" in str(error.value)


def test_the_driver_recovers_from_an_error(accelerator: Accelerator, transport: Recorder) -> None:
    x = tokens(5)
    program = accelerator.program([5])
    accelerator.run([x])
    transport.write_memory(program.address, np.zeros(32, np.uint8))
    with pytest.raises(HardwareError, match=f"ILLEGAL_INSTRUCTION, at {program.address:#x}: no instruction"):
        accelerator.run([x])
    np.testing.assert_array_equal(accelerator.run([x]).outputs[0], run_encoder(ENCODER, x)[-1]["output"])


def test_a_program_that_does_not_end_is_stopped(accelerator: Accelerator, transport: Recorder) -> None:
    transport.ends = False
    with pytest.raises(DriverError, match="the program must end within 1000 cycles; it was stopped"):
        accelerator.run([tokens(5)], max_cycles=1000)


def test_refuses_an_input_that_is_no_array():
    config = AcceleratorConfig(rows=4, cols=4, bus_bits=64, scratchpad_kib=32, accumulator_kib=16)
    accelerator = Accelerator(FunctionalTransport(config, 1 << 20), config)
    accelerator.load(random_encoder(8, 16, 2))
    with pytest.raises(DriverError, match=r"^input 0 must be int8 \[tokens, 8\], not NoneType$"):
        accelerator.run([None])
