"""The driver speaks through pyserial and a pseudo-terminal to the Verilated system of the board, whose serial pins are
simulated bit by bit."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from celosia.__main__ import app
from celosia.firmware.driver.driver import Accelerator, HardwareError
from celosia.firmware.driver.serial_transport import SerialTransport
from celosia.firmware.quantise.synthetic import random_encoder, random_tokens
from celosia.generators.verilog import convert
from celosia.hdl.bus.axi import flat_ports
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.registers import ErrorCause
from celosia.sim.build import compile_model
from celosia.sim.golden.encoder import run_encoder
from celosia.sim.model import Simulation

from tests.driver.serial_board import PinsToTerminal, SimulatedSystem
from tests.tiny_models import arrays, write_folder

# Small, so that it is soon compiled.
CONFIG = AcceleratorConfig(rows=4, cols=4, bus_bits=64, scratchpad_kib=16, scratchpad_banks=2, accumulator_kib=16,
                           row_entries=64, max_k=64, max_n=64, max_tokens=16)
MEMORY_BYTES, BASE = 16 << 10, 0x4000_0000
DIVISOR, IDLE_CYCLES = 8, 10_000
ENCODER = random_encoder(24, 40, 3)


@pytest.fixture(scope="module")
def port() -> Iterator[str]:
    """A port with the board of the configuration ``ulx3s``. The line damages two bytes in each direction."""
    design = SimulatedSystem(
        CONFIG, memory_bytes=MEMORY_BYTES, divisor=DIVISOR, idle_cycles=IDLE_CYCLES, memory_base=BASE)
    text = convert(design, name="board", ports=flat_ports(design))
    damaged = (300, 700)
    with Simulation(compile_model(text, top="board"), np.zeros(4096, np.uint8)) as simulation:
        pins = PinsToTerminal(simulation, DIVISOR, damaged)
        pins.start()
        yield pins.name_of_port
        pins.stop()
    assert next(pins.up) > max(damaged)
    assert next(pins.down) > max(damaged)


def connect(port: str) -> SerialTransport:
    # A second of the board takes long here, and the longer, the busier the machine is.
    return SerialTransport(port, timeout=200, quiet=0.5)


def test_a_layer_equals_golden(port: str, tmp_path: Path, capsys) -> None:
    transport = connect(port)
    assert (transport.base_address, transport.memory_bytes) == (BASE, MEMORY_BYTES)
    accelerator = Accelerator(transport, CONFIG)
    accelerator.load(ENCODER)
    rng = np.random.default_rng(0)
    x, mask = random_tokens(rng, 9, 24), np.arange(9) < 7
    golden = run_encoder(ENCODER, x, mask)[-1]
    result = accelerator.run([x], [mask], keep=("query", "output"))
    np.testing.assert_array_equal(result.outputs[0], golden["output"], strict=True)
    np.testing.assert_array_equal(result.tensors[0][0]["query"], golden["query"], strict=True)
    assert result.counters["instructions"] == len(result.program.instructions)
    assert result.counters["cycles"] > 0
    assert result.layers == []

    # An instruction that is none, and what the driver makes of it; then the program again.
    transport.write_memory(result.program.address, np.zeros(32, np.uint8))
    with pytest.raises(HardwareError) as error:
        accelerator.run([x], [mask], keep=("query", "output"))
    assert (error.value.cause, error.value.address) == (ErrorCause.ILLEGAL_INSTRUCTION, result.program.address)
    again = accelerator.run([x], [mask], keep=("query", "output"))
    np.testing.assert_array_equal(again.outputs[0], golden["output"], strict=True)
    transport.close()

    # The command line, with a model of its own. At this baud rate it has more patience.
    (tmp_path / "small.toml").write_text(CONFIG.to_toml())
    model = write_folder(tmp_path, arrays(layers=1, positions=64), num_hidden_layers=1, max_position_embeddings=64)
    arguments = ["run", "--transport", f"serial:{port}@4800", "--config", str(tmp_path / "small.toml"),
                 "--model", str(model), "--text", "red cat sits"]
    assert not app(arguments, standalone_mode=False)
    assert "1 tensors compared: all equal to golden\n" in capsys.readouterr().out
