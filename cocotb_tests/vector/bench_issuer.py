"""The issuer of beats alone, whose operands come when they like: beats in their order, and rules 1 and 2."""

import random

import cocotb
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.functions import TRAITS
from celosia.hdl.isa import VECTOR, Function
from celosia.hdl.vector.issuer import GROUP_SPACING, PARAMETER_SPACING, WRITE_BACK_SPACING
from celosia.hdl.vector.stages import RESULT
from cocotb.triggers import ReadOnly, RisingEdge

from cocotb_tests.harness import bench_parameters, start_clock

CONFIG = AcceleratorConfig.from_toml(bench_parameters()["config"])
FUNCTIONS = (Function.RESIDUAL, Function.RESIDUAL, Function.GATED, Function.REQUANTISE, Function.ROW_REQUANTISE)


def instruction():
    """A function's fields, with few rows, since many keep any distance."""
    return random.choice(FUNCTIONS), {
        "m": random.choice([1, 2, 3, random.randint(4, 30)]), "groups": random.randint(1, 4),
        "wide_operand": random.getrandbits(1)}


def least(function):
    """Cycles from a beat to the beat of the same row in the next group, and from a group's first beat to the next
    one's, at least."""
    writes_back = function is Function.RESIDUAL and CONFIG.cols > CONFIG.lanes
    traits = TRAITS[function]
    spacing = PARAMETER_SPACING if traits.first or traits.second else GROUP_SPACING
    return (WRITE_BACK_SPACING if writes_back else GROUP_SPACING), (WRITE_BACK_SPACING if writes_back else spacing)


class Operands:
    """Ready when they like: always, now and then, or after a long time."""

    def __init__(self):
        self._manner, self._left = "always", 0

    def ready(self):
        if self._left == 0:
            self._manner, self._left = random.choice(["always", "now and then", "late"]), random.randint(1, 60)
        self._left -= 1
        return int({"always": True, "now and then": random.random() < 0.5, "late": False}[self._manner])


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def beats_keep_their_distances(dut):
    await start_clock(dut)
    operands = Operands()
    dut.grant.value, dut.armed.value = 1, 1
    waiting = [instruction() for _ in range(400)]
    begun: list[tuple[Function, dict[str, int]]] = []
    beats: list[int] = []  # the cycles of those of the oldest instruction in ``begun``
    writes: set[int] = set()
    walks: set[int] = set()
    cycle = 0
    while waiting or begun:
        function, fields = waiting[0] if waiting else (Function.REQUANTISE, {})
        word = int.from_bytes(VECTOR.encode(function=function.value, **fields), "little")
        payload = dut.following__payload
        payload.value = word & (1 << len(payload)) - 1
        offered = bool(waiting) and random.random() < 0.8
        dut.following__valid.value = int(offered)
        dut.operand__ready.value = operands.ready()
        dut.written.value, dut.walked.value = int(cycle in writes), int(cycle in walks)
        await ReadOnly()
        if offered and int(dut.following__ready.value):
            begun.append(waiting.pop(0))
        if int(dut.issue.value):
            function, fields = begun[0]
            m, count = fields["m"], len(beats)
            row, (each, first) = count % m, least(function)
            if count >= m:
                apart = cycle - beats[count - m]
                needed = first if row == 0 else each
                assert apart >= needed, f"{function.name}: beats of row {row} are {apart} cycles apart, not {needed}"
            beats.append(cycle)
            last = len(beats) == m * fields["groups"]
            assert int(dut.last.value) == int(last)
            assert int(dut.function.value) == function.value
            if last:
                if function is Function.RESIDUAL:
                    writes.add(cycle + RESULT - 1)
                    walks.add(cycle + RESULT + random.randint(1, 40))
                begun.pop(0)
                beats.clear()
        await RisingEdge(dut.clk)
        cycle += 1
