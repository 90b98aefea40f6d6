"""Two engines that start and finish at random share the halves; both rules of the claim, cycle by cycle."""

import random
from collections import deque

import cocotb
from cocotb.triggers import RisingEdge, Timer

from cocotb_tests.harness import bench_parameters, start_clock

DEPTH = bench_parameters()["depth"]
ENGINES = ("matmul", "vector")


class Engine:
    """What one engine has under way, in order, and what it asks for."""

    def __init__(self, dut, name):
        self._dut, self._name = dut, name
        self.halves = deque()
        self.request, self.half, self.start = False, 0, False
        self.started = [0, 0]

    def signal(self, name):
        return getattr(self._dut, f"{self._name}_{name}")

    def drive(self, rate, finish):
        """Inputs of the coming cycle; a request stays until it is granted, or is dropped now and then."""
        if not self.request or random.random() < 0.05:
            self.request, self.half = random.random() < rate, random.getrandbits(1)
        self.finish = bool(self.halves) and random.random() < finish
        self.signal("request").value = self.request
        self.signal("half").value = self.half
        self.signal("finish").value = self.finish
        # A granted engine may need time before it starts.
        self.signal("may_start").value = self.willing = random.random() < 0.7

    def owned(self):
        return sum(1 << half for half in set(self.halves))

    def after(self, grant):
        """The end of the cycle: the book's outputs are what it has under way; then it changes."""
        assert self.signal("owned").value == self.owned()
        assert self.signal("idle").value == (not self.halves)
        assert self.signal("full").value == (len(self.halves) == DEPTH)
        started = self.request and grant and self.willing and len(self.halves) < DEPTH
        assert self.signal("start").value == started
        if self.finish:
            self.halves.popleft()
        if started:
            self.halves.append(self.half)
            self.started[self.half] += 1
            self.request = False


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def no_half_is_ever_shared(dut):
    engines = [Engine(dut, name) for name in ENGINES]
    for engine in engines:
        engine.drive(0, 0)
    await start_clock(dut)
    most = 0
    for rates in [(0.9, 0.1), (0.1, 0.9), (0.9, 0.9), (1.0, 0.2)]:
        for _ in range(2500):
            for engine in engines:
                engine.drive(*rates)
            await RisingEdge(dut.clk)
            matmul, vector = engines
            free = [not other.owned() >> engine.half & 1
                    for engine, other in ((matmul, vector), (vector, matmul))]
            # Rule 2 and the priority: the vector engine waits only where matmul asks for the same half.
            free[1] = free[1] and not (matmul.request and matmul.half == vector.half)
            for engine, grant in zip(engines, free, strict=True):
                assert engine.signal("grant").value == grant
                if engine.request and engine.owned() >> engine.half & 1:
                    assert grant or engine is vector
                engine.after(grant)
            assert not matmul.owned() & vector.owned()
            most = max(most, len(matmul.halves), len(vector.halves))
    assert most == DEPTH
    assert min(count for engine in engines for count in engine.started) > 100


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def the_lock_grants_as_its_rules_say(dut):
    """All 256 inputs of the lock alone, those that no engine makes included."""
    for word in range(256):
        dut.lock_inputs.value = word
        await Timer(1, "ns")
        (m_request, m_half, m_owned), (_, v_half, v_owned) = (
            (word >> base & 1, word >> base + 1 & 1, word >> base + 2 & 3) for base in (0, 4))
        assert dut.lock_grants.value == (
            (not v_owned >> m_half & 1)
            | (not m_owned >> v_half & 1 and not (m_request and m_half == v_half)) << 1)
