"""The lock on the accumulator halves, with the books of two engines and on its own."""

import pytest
from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from celosia.hdl.memory.halves import HALF_USES, HalfHold, HalfLock, HalfUse

from cocotb_tests.harness import run_testbench


class Engines(wiring.Component):
    """Two engines that ask, start and finish as they are told, and a second lock whose claims are all inputs."""

    def __init__(self, depth):
        self.depth = depth
        members = {"lock_inputs": In(8), "lock_grants": Out(2)}
        for name in ("matmul", "vector"):
            members |= {f"{name}_{member}": In(1) for member in ("request", "half", "finish", "may_start")}
            members |= {f"{name}_{member}": Out(1) for member in ("grant", "start", "idle", "full")}
            members[f"{name}_owned"] = Out(2)
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.lock = lock = HalfLock()
        m.submodules.alone = alone = HalfLock()
        for index, name in enumerate(("matmul", "vector")):
            use = m.submodules[f"{name}_use"] = HalfUse(self.depth)
            claim, free = getattr(lock, name), getattr(alone, name)
            start = Signal(name=f"{name}_starts")
            request, half, finish, may_start, grant, started, idle, full, owned = (
                getattr(self, f"{name}_{member}") for member in
                ("request", "half", "finish", "may_start", "grant", "start", "idle", "full", "owned"))
            m.d.comb += [
                claim.request.eq(request), claim.half.eq(half), claim.owned.eq(use.owned),
                start.eq(request & claim.grant & may_start & ~use.full),
                use.start.eq(start), use.start_half.eq(half), use.finish.eq(finish),
                grant.eq(claim.grant), started.eq(start), idle.eq(use.idle), full.eq(use.full), owned.eq(use.owned),
                Cat(free.request, free.half, free.owned).eq(self.lock_inputs.word_select(index, 4)),
                self.lock_grants[index].eq(free.grant),
            ]
        return m


@pytest.mark.parametrize("depth", [2, pytest.param(4, marks=pytest.mark.regress), 8])
def test_halves(depth):
    run_testbench(Engines(depth), bench="memory.bench_halves", parameters={"depth": depth})


def test_hold():
    run_testbench(HalfHold(), bench="memory.bench_hold", parameters={"depth": HALF_USES})
