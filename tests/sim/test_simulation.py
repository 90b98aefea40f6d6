"""The Verilated simulation: its memory, ports and clock, with a small copy engine for an accelerator."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from celosia.sim import model as simulation_module
from celosia.sim.build import compile_model
from celosia.sim.model import BusError, MemoryTiming, Simulation, WavesError
from numpy.testing import assert_array_equal

VERILOG = Path(__file__).with_name("copy_engine.v").read_text()
BASE = 0x8000_0000
BEAT = 16
SIZE = 1 << 18
TARGET = SIZE // 2
SOURCE, DESTINATION, BURSTS, LENGTH, FLAGS, STROBES, START = range(0, 28, 4)
WORST, CYCLES, UNTIL_FIRST, SINCE_FIRST = range(28, 44, 4)
READ_ONLY, NO_LAST, UNSTABLE = 1, 2, 4


def exactly(text):
    return f"^{re.escape(text)}$"


@pytest.fixture(scope="session")
def library():
    return compile_model(VERILOG)


@pytest.fixture
def memory():
    memory = np.zeros(SIZE, np.uint8)
    memory[:TARGET] = np.random.default_rng(7).integers(0, 256, TARGET, np.uint8)
    return memory


def start(sim, *, source=BASE, destination=BASE + TARGET, bursts=16, beats=256, flags=0, strobes=0xFFFF):
    sim.reset()
    values = {SOURCE: source, DESTINATION: destination, BURSTS: bursts, LENGTH: beats - 1, FLAGS: flags,
              STROBES: strobes, START: 1}
    for register, value in values.items():
        sim.write(register, value)


def run(sim, **work):
    start(sim, **work)
    assert sim.run_until(max_cycles=100_000)


@pytest.mark.parametrize("timing", [
    MemoryTiming(), MemoryTiming(latency=1, write_latency=1), MemoryTiming(outstanding=1),
    MemoryTiming(beats_per_cycle=0.3), MemoryTiming(stall=0.5, seed=1), MemoryTiming(stall=0.9, seed=2),
], ids=repr)
@pytest.mark.parametrize("beats", [1, 2, 255, 256])
def test_every_beat_is_copied(library, memory, timing, beats):
    bursts = 1 if beats == 255 else 4  # 255 beats: the next burst would cross a 4 KiB boundary
    with Simulation(library, memory, base=BASE, timing=timing) as sim:
        start(sim, bursts=bursts, beats=beats)
        assert sim.run_until(max_cycles=100_000)
        assert sim.read(WORST) == 0
        statistics = sim.statistics
    size = bursts * beats * BEAT
    assert_array_equal(memory[TARGET:TARGET + size], memory[:size], strict=True)
    assert not memory[TARGET + size:].any()
    counts = (bursts, bursts * beats, size)
    assert (statistics.read_bursts, statistics.read_beats, statistics.read_bytes) == counts
    assert (statistics.write_bursts, statistics.write_beats, statistics.write_bytes) == counts


@pytest.mark.parametrize("latency", [1, 2, 40, 100])
def test_the_first_beat_comes_after_the_latency_and_bursts_stream_without_a_gap(library, memory, latency):
    with Simulation(library, memory, base=BASE, timing=MemoryTiming(latency=latency)) as sim:
        start(sim, bursts=16, beats=16, flags=READ_ONLY)
        assert sim.run_until(max_cycles=10_000)
        assert sim.read(UNTIL_FIRST) == latency
        assert sim.read(SINCE_FIRST) == 16 * 16 - 1


def test_the_bandwidth_is_what_was_asked_for(library, memory):
    with Simulation(library, memory, base=BASE, timing=MemoryTiming(beats_per_cycle=0.25)) as sim:
        start(sim, flags=READ_ONLY)
        assert sim.run_until(max_cycles=100_000)
        assert sim.read(SINCE_FIRST) == pytest.approx(4 * 16 * 256, abs=8)


def test_stalls_follow_from_the_seed(library, memory):
    def cycles(seed):
        with Simulation(library, memory, base=BASE, timing=MemoryTiming(stall=0.3, seed=seed)) as sim:
            start(sim)
            assert sim.run_until(max_cycles=100_000)
            return sim.cycles

    assert cycles(1) == cycles(1) != cycles(2)


def test_only_strobed_bytes_are_written(library, memory):
    with Simulation(library, memory, base=BASE) as sim:
        start(sim, bursts=1, beats=4, strobes=0b1000_0000_0000_0110)
        assert sim.run_until(max_cycles=1000)
        assert sim.statistics.write_bytes == 4 * 3
    expected = memory[:64].reshape(4, 16) * np.isin(np.arange(16), [1, 2, 15]).astype(np.uint8)
    assert_array_equal(memory[TARGET:TARGET + 64].reshape(4, 16), expected, strict=True)


@pytest.mark.parametrize("address", [BASE + 5 * BEAT + 3, BASE + TARGET + 5 * BEAT])
def test_an_injected_error_answers_one_beat_with_slverr(library, memory, address):
    with Simulation(library, memory, base=BASE) as sim:
        sim.inject_slave_error(address, 1)
        start(sim, bursts=2, beats=8)
        assert sim.run_until(max_cycles=1000)
        assert sim.read(WORST) == 2
        assert sim.statistics.slave_errors == 1
        assert not memory[TARGET + 5 * BEAT:TARGET + 6 * BEAT].any()
        sim.clear_faults()
        start(sim, bursts=2, beats=8)
        assert sim.run_until(max_cycles=1000)
        assert sim.read(WORST) == 0
    assert_array_equal(memory[TARGET:TARGET + 16 * BEAT], memory[:16 * BEAT], strict=True)


@pytest.mark.parametrize("address", [BASE + 3 * BEAT, BASE + TARGET + 3 * BEAT])
def test_a_silent_range_is_never_answered_until_it_is_cleared(library, memory, address):
    with Simulation(library, memory, base=BASE) as sim:
        sim.inject_silence(address, BEAT)
        start(sim, bursts=2, beats=8)
        assert not sim.run_until(max_cycles=20_000)
        sim.clear_faults()
        assert sim.run_until(max_cycles=1000)
        assert sim.read(WORST) == 0


def test_a_reset_forgets_silent_bursts(library, memory):
    with Simulation(library, memory, base=BASE) as sim:
        sim.inject_silence(BASE, BEAT)
        start(sim, bursts=2, beats=8)
        assert not sim.run_until(max_cycles=1000)
        start(sim, source=BASE + 4096, bursts=2, beats=8)
        assert sim.run_until(max_cycles=1000)
    assert_array_equal(memory[TARGET:TARGET + 256], memory[4096:4096 + 256], strict=True)


@pytest.mark.parametrize(("source", "count", "first"), [
    (BASE - 256, 16, BASE - 256), (BASE + SIZE - 256, 8, BASE + SIZE - 128), (0xFFFF_FF00, 16, 0xFFFF_FF00)])
def test_an_access_outside_the_memory_is_a_decode_error(library, memory, source, count, first):
    with Simulation(library, memory[:SIZE - 128], base=BASE) as sim:
        start(sim, source=source, bursts=1, beats=16, flags=READ_ONLY)
        assert sim.run_until(max_cycles=1000)
        assert sim.read(WORST) == 3
        assert (sim.statistics.decode_errors, sim.statistics.first_decode_error) == (count, first)
        sim.clear_statistics()
        assert sim.statistics.decode_errors == 0


@pytest.mark.parametrize(("work", "timing", "message"), [
    ({"source": BASE + 16, "flags": READ_ONLY}, MemoryTiming(),
     r"AXI4 rule broken: ar burst of 256 beats at 0x80000010 crosses a 4 KiB boundary \(cycle \d+\)"),
    ({"destination": BASE + TARGET + 16}, MemoryTiming(),
     r"AXI4 rule broken: aw burst of 256 beats at 0x80020010 crosses a 4 KiB boundary \(cycle \d+\)"),
    ({"flags": NO_LAST, "beats": 4}, MemoryTiming(),
     r"AXI4 rule broken: wlast is 0 with 1 beats left at 0x80020030 \(cycle \d+\)"),
    ({"flags": UNSTABLE | READ_ONLY, "beats": 4}, MemoryTiming(stall=0.9),
     r"AXI4 rule broken: ar payload changed before arready \(cycle \d+\)"),
])
def test_a_broken_rule_is_named_and_ends_the_simulation(library, memory, work, timing, message):
    with Simulation(library, memory, base=BASE, timing=timing) as sim:
        with pytest.raises(BusError, match=f"^{message}$"):
            run(sim, **work)
        with pytest.raises(BusError, match=f"^{message}$"):
            sim.clock.tick()


def test_a_refused_register_access_is_an_error(library, memory):
    with Simulation(library, memory) as sim:
        sim.reset()
        with pytest.raises(BusError, match=exactly("the read of register 0x40 was answered with SLVERR")):
            sim.read(64)
        unanswered = exactly("the read of register 0x30 was not answered in 10000 cycles")
        with pytest.raises(BusError, match=unanswered):
            sim.read(48)


def test_ports_and_clock(library, memory):
    with Simulation(library, memory) as sim:
        sim.reset(cycles=3)
        assert (sim.cycles, sim.clock.cycles) == (3, 3)
        assert sim.io.rst == 0
        sim.clock.tick(7)
        assert sim.cycles == 10
        # The copy engine writes what it reads in the same cycle: an output follows its input at once.
        wide = 0x0123456789ABCDEF_FEDCBA9876543210
        sim.io.m_axi_mem_rdata = wide
        assert sim.io.m_axi_mem_wdata == wide
        assert {"clk", "interrupt", "m_axi_mem_rdata"} <= set(dir(sim.io)) == set(sim.io)
        with pytest.raises(AttributeError, match=exactly("interrupt is an output, it can't be set")):
            sim.io.interrupt = 1
        with pytest.raises(AttributeError, match=r"^the top module has no port 'nothing'; it has clk, "):
            _ = sim.io.nothing
        with pytest.raises(ValueError, match=exactly("rst must be from 0 to 2**1 - 1, not 2")):
            sim.io.rst = 2
    sim.close()
    with pytest.raises(ValueError, match=exactly("the simulation is closed")):
        sim.clock.tick()


def test_two_simulations_of_one_library_are_independent(library, memory):
    other = memory[::-1].copy()
    with Simulation(library, memory, base=BASE) as a, Simulation(library, other, base=BASE) as b:
        start(a, bursts=1, beats=2)
        start(b, bursts=1, beats=4)
        assert a.run_until(max_cycles=1000)
        assert b.run_until(max_cycles=1000)
    assert not memory[TARGET + 32:].any()
    assert_array_equal(other[TARGET:TARGET + 64], other[:64], strict=True)


def test_progress_is_told_and_a_run_without_the_interrupt_goes_on(library, memory):
    told = []
    with Simulation(library, memory, base=BASE) as sim:
        start(sim, bursts=1, beats=1)
        begin = sim.cycles
        assert sim.run_until(interrupt=False, max_cycles=250_000, on_progress=told.append)
        assert sim.cycles - begin == 250_000
    assert told == [100_000, 200_000, 250_000]


@pytest.mark.parametrize(("change", "message"), [
    ({"latency": 0}, "latency must be at least 1 cycle, not 0"),
    ({"beats_per_cycle": 1.5}, "beats_per_cycle must be above 0 and at most 1, not 1.5"),
    ({"outstanding": 257}, "outstanding must be from 1 to 256 bursts, not 257"),
    ({"stall": 1.0}, "stall must be at least 0 and below 1, not 1.0"),
])
def test_a_timing_out_of_range_is_refused(change, message):
    with pytest.raises(ValueError, match=exactly(message)):
        MemoryTiming(**change)


def test_a_memory_that_can_not_be_shared_is_refused(library, memory):
    rule = exactly("memory must be a writable, contiguous array of uint8 with one dimension")
    for wrong in (memory.view(np.int8), memory[::2], memory.reshape(2, -1), memory.tobytes()):
        with pytest.raises(ValueError, match=rule):
            Simulation(library, wrong)
    rule = exactly("the size of memory must be a multiple of the bus width, 16 bytes, not 17")
    with pytest.raises(ValueError, match=rule):
        Simulation(library, memory[:17])
    rule = exactly("base must be a multiple of the bus width, 16 bytes, not 8")
    with pytest.raises(ValueError, match=rule):
        Simulation(library, memory, base=8)


@pytest.mark.parametrize("beat_bytes", [8, 32])
def test_other_bus_widths(memory, beat_bytes):
    verilog = VERILOG.replace("BYTES = 16", f"BYTES = {beat_bytes}")
    with Simulation.from_verilog(verilog, memory, base=BASE, timing=MemoryTiming(stall=0.2)) as sim:
        start(sim, bursts=4, beats=64, strobes=0xFFFF_FFFF)
        assert sim.run_until(max_cycles=10_000)
    size = 4 * 64 * beat_bytes
    assert_array_equal(memory[TARGET:TARGET + size], memory[:size], strict=True)


def test_waves_are_recorded_on_request(library, memory, tmp_path):
    without = exactly('this model was compiled without waves: compile it with waves="vcd"')
    with Simulation(library, memory) as sim, pytest.raises(WavesError, match=without):
        sim.start_waves(tmp_path / "none.vcd")
    with Simulation.from_verilog(VERILOG, memory, base=BASE, waves="vcd") as sim:
        start(sim, bursts=1, beats=4)
        nowhere = exactly("waves can't be written to '/nowhere/x.vcd': No such file or directory")
        with pytest.raises(WavesError, match=nowhere):
            sim.start_waves("/nowhere/x.vcd")
        sim.start_waves(tmp_path / "first.vcd")
        assert sim.run_until(max_cycles=1000)
        sim.stop_waves()
        sim.clock.tick(5)
        sim.start_waves(tmp_path / "second.vcd")
        sim.clock.tick(5)
    for name in ("first.vcd", "second.vcd"):
        text = (tmp_path / name).read_text()
        assert "m_axi_mem_araddr" in text
        assert "1ns" in text
        assert text.count("\n#") >= 10
    assert not (tmp_path / "none.vcd").exists()


def test_the_clock_loop_calls_no_python(library, memory):
    calls = []
    with Simulation(library, memory, base=BASE) as sim:
        sim.reset()
        sys.setprofile(lambda frame, event, argument: calls.append(event))
        try:
            sim.clock.tick(1_000_000)
        finally:
            sys.setprofile(None)
        assert sim.cycles > 1_000_000
    assert len(calls) < 1000


def test_every_public_name_is_there():
    assert all(hasattr(simulation_module, name) for name in simulation_module.__all__)
