"""How the driver stops an accelerator: nothing of it reaches memory afterwards, and a memory that does not answer is
told of."""

import re

import numpy as np
import pytest
from celosia import simulate
from celosia.firmware.driver import driver, transport
from celosia.firmware.driver.driver import DriverError, HardwareError, MemorySilentError
from celosia.firmware.quantise.synthetic import random_encoder, random_tokens
from celosia.hdl.registers import DEFAULT_WATCHDOG, ErrorCause, register
from celosia.sim.golden.encoder import run_layer
from celosia.sim.model import MemoryTiming

SHAPE = (24, 40, 2)


@pytest.fixture
def accelerator():
    made = simulate("tiny", timing=MemoryTiming(latency=200, write_latency=200))
    made.load(random_encoder(*SHAPE))
    yield made
    made.transport.simulation.close()


def right(accelerator):
    """A batch runs, and equals golden."""
    encoder, x = random_encoder(*SHAPE), random_tokens(np.random.default_rng(1), 9, SHAPE[0])
    np.testing.assert_array_equal(
        accelerator.run([x]).outputs[0], run_layer(encoder.layers[0], encoder.heads, x)["output"])


def batch():
    return [random_tokens(np.random.default_rng(2), 11, SHAPE[0])]


@pytest.mark.parametrize("cycles", [300, 1000, 2500, 4000])
def test_after_a_stop_memory_is_the_hosts(accelerator, cycles):
    with pytest.raises(DriverError, match=f"^the program must end within {cycles} cycles; it was stopped$"):
        accelerator.run(batch(), max_cycles=cycles)
    simulation = accelerator.transport.simulation
    before, statistics = simulation.memory[:1 << 20].copy(), simulation.statistics
    simulation.run_until(interrupt=False, max_cycles=2000)
    np.testing.assert_array_equal(simulation.memory[:1 << 20], before)
    assert simulation.statistics == statistics, "nothing was under way"
    right(accelerator)


def test_an_error_is_told_when_the_bus_owes_nothing(accelerator):
    simulation = accelerator.transport.simulation
    program = accelerator.program([11])
    simulation.inject_slave_error(program.input_address, 8)
    with pytest.raises(HardwareError) as caught:
        accelerator.run(batch())
    assert caught.value.cause is ErrorCause.LOAD_BUS_ERROR
    simulation.clear_faults()
    right(accelerator)


@pytest.mark.parametrize("silent", ["program", "input", "output"])
def test_a_silent_memory_is_told_of(accelerator, silent, monkeypatch):
    monkeypatch.setattr(driver, "_WATCHDOG", 3000)
    monkeypatch.setattr(driver, "_STOP_LOOKS", 50)
    monkeypatch.setattr(transport, "_STOP_CYCLES", 5000)
    simulation = accelerator.transport.simulation
    program = accelerator.program([11])
    address = {"program": program.address, "input": program.input_address, "output": program.kept[-1].address}[silent]
    simulation.inject_silence(address, 8)
    sentence = ("the accelerator is still being stopped after WATCHDOG: the memory has not answered what it was asked; "
                "reset memory and accelerator together")
    with pytest.raises(MemorySilentError, match=f"^{re.escape(sentence)}$"):
        accelerator.run(batch())
    status = transport.status_fields(simulation.read(register("status").offset))
    assert (status["busy"], status["stopping"], status["error"]) == (1, 1, 0), "the state can be read"
    simulation.clear_faults()
    simulation.reset()
    assert simulation.read(register("watchdog").offset) == DEFAULT_WATCHDOG
    right(accelerator)


def test_a_program_that_was_left_running_is_ended_first(accelerator):
    """A call that is interrupted leaves its program; the next one must not take that one's end for its own."""
    class Interrupted(Exception):
        pass

    def interrupt(cycles):
        raise Interrupted

    with pytest.raises(Interrupted):
        accelerator.run(batch() * 40, on_progress=interrupt)
    assert transport.status_fields(accelerator.transport.read_register(register("status").offset))["busy"] == 1
    right(accelerator)


def test_a_start_that_is_refused_is_told_of(accelerator, monkeypatch):
    for name in ("_be_idle", "_soft_reset"):
        monkeypatch.setattr(type(accelerator), name, lambda self: None)
    with pytest.raises(DriverError, match=r"^the program must end"):
        accelerator.run(batch() * 40, max_cycles=500)
    sentence = "the accelerator refuses the start: another host has started a program on it"
    with pytest.raises(DriverError, match=f"^{sentence}$"):
        accelerator.run(batch())
