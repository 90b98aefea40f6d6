"""One engine works while another does: what hides under what, by the cycle model."""

from itertools import pairwise

import numpy as np
import pytest
from celosia.firmware.compiler.compiler import compile_program
from celosia.firmware.compiler.program import KEEPABLE, Program
from celosia.firmware.compiler.roofline import bound
from celosia.firmware.driver.driver import Accelerator
from celosia.firmware.driver.transport import FunctionalTransport
from celosia.firmware.machine.estimate import Slot, estimate
from celosia.firmware.machine.layout import build_image
from celosia.firmware.quantise.synthetic import random_encoder, random_tokens
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import Engine, Function, Opcode
from celosia.sim.golden.encoder import run_encoder

BASE = AcceleratorConfig()
#: Softmax takes half the lanes longer than the products of scores and values.
NARROW = AcceleratorConfig(rows=8, cols=8, lanes=4)
MINILM = (384, 1536, 12)


@pytest.mark.parametrize(("tokens", "least"), [(128, 0.99), (32, 0.98), (8, 0.96)])
def test_the_estimate_is_near_the_roofline(tokens: int, least: float) -> None:
    config = BASE
    program = compile_program(build_image(config, random_encoder(*MINILM, 6)), [tokens])
    cycles = estimate(config, program.instructions, program.edges).cycles
    assert least < bound(program) / cycles <= 1


@pytest.mark.parametrize(
    ("norm", "product"), [("layer 0 attention_norm", "ffn_in tile"), ("layer 0 output_norm", "layer 1 query")]
)
def test_a_product_begins_before_the_layer_norm_of_its_rows_has_ended(norm: str, product: str) -> None:
    """Where there is one block of rows, under whose LayerNorm no product of another could hide."""
    config = BASE
    program = compile_program(build_image(config, random_encoder(*MINILM, 2)), [32])
    slots = estimate(config, program.instructions, program.edges).slots
    normalised = [
        slot.end for slot, i in zip(slots, program.instructions, strict=True)
        if i.function is Function.LAYER_NORM and i.comment.startswith(norm)
    ]
    began = next(
        slot.start for slot, i in zip(slots, program.instructions, strict=True)
        if i.opcode is Opcode.MATMUL and product in i.comment
    )
    assert normalised[0] < began < normalised[-1]


def slots_of(program: Program) -> list[Slot]:
    return estimate(program.geometry.config, program.instructions, program.edges).slots


@pytest.mark.parametrize(
    ("width", "heads", "lengths", "products"),
    [
        (64, 4, [8], 4),
        (64, 4, [24], 4),
        (64, 4, [61], 4),
        (64, 4, [24, 24], 8),
        (64, 4, [20, 3, 19], 8),  # those of the second sentence are among the first one's
        (60, 5, [24], 5),  # heads of 12: a tile and a half
    ],
)
def test_values_are_made_while_softmax_works(width: int, heads: int, lengths: list[int], products: int) -> None:
    """Where softmax takes longer than the products of a head, and every tensor equals golden."""
    encoder = random_encoder(width, 64, heads, 2)
    accelerator = Accelerator(FunctionalTransport(NARROW, 1 << 24, check_races=True, seed=1), NARROW)
    accelerator.load(encoder)
    rng = np.random.default_rng(sum(lengths))
    batch = [random_tokens(rng, length, width) for length in lengths]
    result = accelerator.run(batch, keep=KEEPABLE)
    assert result.program.plans[0].choice.turns
    for x, tensors in zip(batch, result.tensors, strict=True):
        for kept, layer in zip(tensors, run_encoder(encoder, x), strict=True):
            for name, values in kept.items():
                np.testing.assert_array_equal(values, layer[name], name, strict=True)
    instructions = [i for i in result.program.instructions if i.comment.startswith("layer 0")]
    values = [k for k, i in enumerate(instructions) if i.opcode is Opcode.MATMUL and "value row" in i.comment]
    assert len(values) == products
    for first, end in pairwise(values):
        assert any(i.function is Function.EXPONENTIAL for i in instructions[first:end])


def test_the_array_hardly_waits_for_softmax() -> None:
    program = compile_program(build_image(NARROW, random_encoder(256, 256, 16)), [64])
    slots = [slot for slot, i in zip(slots_of(program), program.instructions, strict=True)
             if i.engine is Engine.MATMUL and any(what in i.comment for what in ("scores", "value", "context"))]
    work = sum(slot.end - slot.start for slot in slots)
    assert work > 0.95 * (slots[-1].end - slots[0].start)


@pytest.mark.parametrize(
    ("config", "shape", "lengths"),
    [
        (BASE, MINILM, [128]),  # the products take longer
        (NARROW, (20, 64, 5), [24]),  # heads of 4, of too few rows
        (NARROW, (16, 64, 1), [24]),  # one head: nothing to take turns with
        (AcceleratorConfig(rows=8, cols=8, lanes=4, row_entries=64), (64, 64, 4), [60]),  # the row table is too small
    ],
)
def test_values_are_made_at_once_elsewhere(
    config: AcceleratorConfig, shape: tuple[int, int, int], lengths: list[int]
) -> None:
    program = compile_program(build_image(config, random_encoder(*shape)), lengths)
    assert not any(plan.choice.turns for plan in program.plans)


@pytest.mark.parametrize(("shape", "tokens"), [((128, 512, 2), 16), ((128, 512, 2), 128), (MINILM, 128), (MINILM, 1)])
def test_what_is_read_together_lies_in_different_banks(shape: tuple[int, int, int], tokens: int) -> None:
    """Where there is room, so that no operand waits for another."""
    program = compile_program(build_image(BASE, random_encoder(*shape)), [tokens])
    plan = program.plans[0]
    banks = {
        name: {*range(region.address // BASE.bank_words, -(-region.end // BASE.bank_words))}
        for name, several in plan.regions.items() for region in several
    }
    for names in (("query", "key"), ("numerators", "value"), ("stream", "hidden"), ("stream", "query")):
        assert not banks[names[0]] & banks[names[1]]
    stream = plan.regions["stream"][0]
    assert (stream.address + stream.cut) % BASE.bank_words == 0 or not stream.cut
    assert bool(stream.cut) is (plan.choice.block < tokens)
