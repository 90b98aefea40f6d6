"""Advice for programs far from their bound."""

import re
from dataclasses import replace

import pytest
from celosia.firmware.compiler.advice import FAR, advice
from celosia.firmware.compiler.compiler import compile_program
from celosia.firmware.compiler.program import Program
from celosia.firmware.compiler.roofline import bound
from celosia.firmware.machine.estimate import estimate
from celosia.firmware.machine.layout import build_image
from celosia.firmware.quantise.synthetic import random_encoder
from celosia.hdl.config import AcceleratorConfig

NARROW = AcceleratorConfig(
    rows=4, cols=64, bus_bits=64, outstanding_reads=1, queue_depth=2, load_queue_depth=2, scratchpad_kib=16,
    accumulator_kib=16)
SHAPE = (12, 36, 4)


def compiled(config: AcceleratorConfig, shape: tuple[int, int, int], tokens: int) -> Program:
    return compile_program(build_image(config, random_encoder(*shape)), [tokens])


def predicted(config: AcceleratorConfig, program: Program) -> int:
    return estimate(config, program.instructions, program.edges).cycles


@pytest.mark.parametrize("tokens", [60, 160])
def test_it_names_what_helps_most(tokens: int) -> None:
    program = compiled(NARROW, SHAPE, tokens)
    cycles, least = predicted(NARROW, program), bound(program)
    sentence = advice(program)
    assert sentence is not None
    start = (f"the program takes {cycles} cycles, {cycles / least:.1f} times the {least} that an array of this size "
             "needs; ")
    found = re.fullmatch(
        re.escape(start) + r"raise (\w+) from (\d+) to (\d+): the cycle model then predicts (\d+)% of the cycles",
        sentence)
    assert found is not None
    name, value, double, percent = found.groups()
    assert (int(value), int(double)) == (getattr(NARROW, name), 2 * getattr(NARROW, name))
    better = replace(NARROW, **{name: int(double)})
    assert predicted(better, compiled(better, SHAPE, tokens)) / cycles == pytest.approx(int(percent) / 100, abs=0.006)
    for other in ("scratchpad_kib", "accumulator_kib", "queue_depth", "load_queue_depth", "outstanding_reads"):
        config = replace(NARROW, **{other: 2 * getattr(NARROW, other)})
        assert predicted(config, compiled(config, SHAPE, tokens)) / cycles > int(percent) / 100 - 0.006


def test_measured_cycles_take_the_place_of_predicted_ones() -> None:
    program = compiled(NARROW, SHAPE, 60)
    least = bound(program)
    assert advice(program, FAR * least) is None
    sentence = advice(program, FAR * least + 1)
    assert sentence is not None
    assert sentence.startswith(f"the program takes {FAR * least + 1} cycles, 5.0 times the {least} that ")


def test_there_is_none_where_no_parameter_helps() -> None:
    """A small program loses most of its cycles at its start and end."""
    program = compiled(AcceleratorConfig(), (48, 96, 3), 64)
    assert advice(program, FAR * bound(program) + 1) is None


def test_there_is_none_near_the_bound() -> None:
    assert advice(compiled(AcceleratorConfig(), (384, 1536, 12), 32)) is None
