"""Programs of whole encoders in the functional machine: every tensor equals golden, and no order of the
engines gives another result. Memories start with random contents."""

import re
import sys
from dataclasses import replace
from itertools import pairwise

import celosia.firmware.compiler.scheduler as scheduler
import numpy as np
import pytest
from celosia.firmware.compiler.compiler import compile_program
from celosia.firmware.compiler.program import KEEPABLE, Program
from celosia.firmware.compiler.roofline import bound
from celosia.firmware.driver.driver import Accelerator
from celosia.firmware.driver.transport import FunctionalTransport
from celosia.firmware.machine.assembler import disassemble
from celosia.firmware.machine.estimate import estimate
from celosia.firmware.machine.geometry import CompileError
from celosia.firmware.machine.layout import ModelImage, build_image
from celosia.firmware.quantise.synthetic import random_encoder, random_tokens
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import Opcode
from celosia.sim.golden.encoder import run_encoder
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

SMALL = {"scratchpad_kib": 16, "accumulator_kib": 16}
CONFIGS = {
    "4x4": AcceleratorConfig(rows=4, cols=4, bus_bits=64, scratchpad_kib=32, accumulator_kib=16),
    "8x8": AcceleratorConfig(rows=8, cols=8, bus_bits=64, scratchpad_kib=64, accumulator_kib=64),
    "16x16": AcceleratorConfig(),
    "8x16": AcceleratorConfig(rows=8, cols=16),
    "16x8": AcceleratorConfig(rows=16, cols=8),
    "32x32": AcceleratorConfig(rows=32, cols=32, bus_bits=256),
    "4-lanes": AcceleratorConfig(lanes=4),
    "16x16-16KiB": AcceleratorConfig(**SMALL),
    "4x4-16KiB": AcceleratorConfig(rows=4, cols=4, bus_bits=256, row_entries=64, **SMALL),
    "64x64-16KiB": AcceleratorConfig(rows=64, cols=64, row_entries=64, **SMALL),
    "64x4-16KiB": AcceleratorConfig(rows=64, cols=4, row_entries=64, **SMALL),
    "4x64-16KiB": AcceleratorConfig(rows=4, cols=64, row_entries=64, **SMALL),
}
ODD = (20, 36, 5)  # hidden, ffn, heads
EVEN = (48, 96, 3)
MINILM = (384, 1536, 12)


def check(
    config: AcceleratorConfig, shape: tuple[int, int, int], lengths: list[int], layers: int = 1
) -> Program:
    """Run a batch, every second sentence with a mask, and compare every tensor of every layer."""
    encoder = random_encoder(*shape, layers, seed=sum(lengths))
    rng = np.random.default_rng(len(lengths))
    inputs = [random_tokens(rng, length, shape[0]) for length in lengths]
    masks = [rng.random(length) < 0.7 if i % 2 else None for i, length in enumerate(lengths)]
    accelerator = Accelerator(FunctionalTransport(config, 1 << 25, check_races=True, seed=1), config)
    accelerator.load(encoder)
    result = accelerator.run(inputs, masks, keep=KEEPABLE)
    for x, mask, output, tensors in zip(inputs, masks, result.outputs, result.tensors, strict=True):
        golden = run_encoder(encoder, x, mask)
        for layer, kept in enumerate(tensors):
            assert set(kept) == set(KEEPABLE)
            for name, values in kept.items():
                np.testing.assert_array_equal(
                    values, golden[layer][name], f"layer {layer} {name}", strict=True
                )
        np.testing.assert_array_equal(output, golden[-1]["output"], strict=True)
    return result.program


def image_of(config: AcceleratorConfig, shape: tuple[int, int, int], layers: int = 1) -> ModelImage:
    return build_image(config, random_encoder(*shape, layers))


def test_everything_promised_is_exported() -> None:
    assert all(hasattr(scheduler, name) for name in scheduler.__all__)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("length", [1, 5, 17, 32, 60])
def test_every_tensor_equals_golden(name: str, length: int) -> None:
    check(CONFIGS[name], ODD if length % 2 else EVEN, [length])


@pytest.mark.parametrize("name", CONFIGS)
def test_two_sentences(name: str) -> None:
    check(CONFIGS[name], ODD, [7, 20])


@pytest.mark.parametrize("name", ["8x8", "16x16", "16x16-16KiB", "4x64-16KiB"])
def test_several_layers_and_groups(name: str) -> None:
    check(CONFIGS[name], EVEN, [33, 100, 1, 40], layers=2)


@pytest.mark.parametrize("name", ["4x4-16KiB", "16x16-16KiB", "64x64-16KiB"])
def test_long_sentences_in_small_memories(name: str) -> None:
    check(CONFIGS[name], EVEN, [200])


def test_a_real_layer() -> None:
    check(CONFIGS["16x16"], MINILM, [40])


def test_a_real_layer_in_small_memories() -> None:
    check(AcceleratorConfig(scratchpad_kib=32, accumulator_kib=16), MINILM, [20])


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        pytest.param(  # a row is longer than an accumulator half
            CONFIGS["16x16-16KiB"], (2112, 64, 4), marks=pytest.mark.regress),
        (CONFIGS["16x16-16KiB"], (1024, 64, 16)),  # a row's parameters are more than the scratchpad
        (CONFIGS["64x64-16KiB"], (768, 900, 12)),  # 64 rows are more than the scratchpad
        (CONFIGS["4x64-16KiB"], (200, 1000, 5)),
    ],
)
def test_rows_that_memories_cannot_hold(config: AcceleratorConfig, shape: tuple[int, int, int]) -> None:
    check(config, shape, [3])


@pytest.mark.parametrize(
    ("rows", "cols", "options", "shape", "lengths", "streamed"),
    [
        (16, 16, {}, (32, 12_000, 2), [9], {"hidden"}),
        (16, 16, {}, (16, 17_000, 1), [3, 4], {"hidden"}),  # a row is longer than the scratchpad
        (64, 64, {}, (64, 9000, 2), [5, 3], {"hidden"}),
        (4, 4, {"bus_bits": 256}, (8, 9000, 1), [5], {"hidden"}),
        (16, 16, {}, (384, 200, 12), [20], {"hidden", "rows"}),
        (8, 8, {"bus_bits": 256}, (100, 50, 100), [10], {"hidden", "rows"}),  # each head takes 32 bytes
        (64, 64, {"lanes": 4, "bus_bits": 256}, (256, 64, 1), [3], {"hidden", "rows", "heads"}),
        (64, 64, {"lanes": 4, "bus_bits": 256}, (192, 64, 1), [130], {"hidden", "rows", "heads"}),
        (64, 4, {"lanes": 4, "bus_bits": 256}, (128, 64, 1), [20], {"hidden", "rows", "heads"}),
        (4, 64, {"bus_bits": 256}, (300, 64, 1), [40], {"hidden", "rows", "heads"}),
    ],
)
def test_rows_and_heads_that_memories_cannot_hold_are_streamed(
    rows: int, cols: int, options: dict[str, int], shape: tuple[int, int, int], lengths: list[int], streamed: set[str]
) -> None:
    config = AcceleratorConfig(rows=rows, cols=cols, max_k=32768, row_entries=64, **options, **SMALL)
    program = check(config, shape, lengths)
    assert [plan.choice.streamed for plan in program.plans] == [streamed] * len(program.plans)
    assert f"streamed: {', '.join(sorted(streamed))}" in program.plans[0].describe()


@pytest.mark.parametrize(
    ("options", "shape", "lengths"),
    [
        ({"rows": 4, "cols": 64, "queue_depth": 2, "load_queue_depth": 2, "bus_bits": 64, "outstanding_reads": 1},
         (12, 36, 4), [512]),
        ({"rows": 4, "cols": 64, "bus_bits": 128}, (12, 36, 4), [90, 20]),
        ({"rows": 64, "cols": 64, "row_entries": 64, "lanes": 4}, EVEN, [200]),
        ({"rows": 4, "cols": 64, "row_entries": 64, "bus_bits": 128}, (8, 20, 2), [150]),  # statistics of two units
        ({"rows": 4, "cols": 64, "bus_bits": 128}, (8, 20, 2), [70, 50]),
    ],
)
def test_keys_come_in_chunks_where_few_rows_of_scores_fit(
    options: dict[str, int], shape: tuple[int, int, int], lengths: list[int]
) -> None:
    plan = check(AcceleratorConfig(**options, **SMALL), shape, lengths).plans[0]
    assert plan.choice.chunk_tiles
    assert f"with chunks of {plan.choice.chunk_tiles} tiles" in plan.describe()


@pytest.mark.parametrize(
    ("options", "shape", "tokens", "most"),
    [
        ({"rows": 4, "cols": 64}, (12, 36, 4), 512, 34),
        ({"rows": 8, "cols": 8}, MINILM, 32, 2),
        ({"rows": 8, "cols": 8}, MINILM, 128, 2),
    ],
)
def test_small_memories_and_one_read_at_a_time_stay_near_the_bound(
    options: dict[str, int], shape: tuple[int, int, int], tokens: int, most: float
) -> None:
    config = AcceleratorConfig(queue_depth=2, load_queue_depth=2, bus_bits=64, outstanding_reads=1, **options, **SMALL)
    program = compile_program(image_of(config, shape), [tokens])
    assert estimate(config, program.instructions, program.edges).cycles < most * bound(program)


def test_nothing_is_streamed_where_a_block_is_as_wide_as_the_array() -> None:
    for memory in ({}, {"scratchpad_kib": 64, "accumulator_kib": 64}):
        image = image_of(AcceleratorConfig(**memory), MINILM)
        for tokens in (8, 32, 128):
            plan, = compile_program(image, [tokens]).plans
            assert not plan.choice.streamed


@pytest.mark.parametrize("memory", [{}, SMALL])
def test_padded_heads_and_texts_may_be_longer_than_a_reduction(memory: dict[str, int]) -> None:
    check(AcceleratorConfig(max_k=64, max_n=64, bus_bits=256, **memory), ODD, [100])


def test_512_tokens_in_the_smallest_memories() -> None:
    """The mask takes half of the scratchpad, and a tile of weights a quarter."""
    config = AcceleratorConfig(rows=64, cols=64, lanes=4, bus_bits=256, row_entries=64, **SMALL)
    check(config, (16, 64, 1), [512])


def powers(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low.bit_length() - 1, high.bit_length() - 1).map(lambda exponent: 1 << exponent)


@st.composite
def configs(draw: st.DrawFn) -> AcceleratorConfig:
    """Any proportions, small memories."""
    rows, cols = draw(powers(4, 64)), draw(powers(4, 64))
    return AcceleratorConfig(
        rows=rows, cols=cols, lanes=draw(powers(4, min(rows, cols))), bus_bits=draw(powers(64, 256)),
        scratchpad_kib=draw(powers(16, 64)), scratchpad_banks=draw(powers(2, 16)),
        accumulator_kib=draw(powers(16, 64)), row_entries=draw(powers(64, 512)), queue_depth=draw(powers(2, 64)),
        load_queue_depth=draw(powers(2, 64)), max_k=32768)


@st.composite
def works(draw: st.DrawFn) -> tuple[tuple[int, int, int], list[int], int]:
    """Shape (hidden, ffn, heads), lengths and layers; at most one of them beyond what small memories hold at once."""
    heads, head, ffn = draw(st.integers(1, 6)), draw(st.integers(1, 40)), draw(st.integers(1, 300))
    lengths, layers = draw(st.lists(st.integers(1, 40), min_size=1, max_size=3)), draw(st.integers(1, 2))
    long = draw(st.sampled_from([*["nothing"] * 6, "ffn", "head", "heads", "length"]))
    if long != "nothing":
        lengths, layers = lengths[:1], 1
    match long:
        case "ffn":
            heads, head, ffn = 1, min(head, 16), draw(st.integers(300, 12_000))
        case "head":
            heads, head = 1, draw(st.integers(40, 300))
        case "heads":
            heads, head = draw(st.integers(6, 60)), min(head, 2)
        case "length":
            heads, head, ffn, lengths = 1, min(head, 16), min(ffn, 64), [draw(st.integers(40, 512))]
    return (heads * head, ffn, heads), lengths, layers


#: A beat of the bus has 8 words of the scratchpad.
WIDE_BEATS = AcceleratorConfig(
    rows=4, cols=4, lanes=4, bus_bits=256, scratchpad_banks=2, row_entries=512, queue_depth=2, load_queue_depth=2,
    max_k=32768, **SMALL)


@pytest.mark.parametrize(
    ("config", "shape", "length"),
    [
        # A step of a beat's column tiles takes more than a half of the accumulators for as many rows as are left.
        (WIDE_BEATS, (1, 29, 1), 129),
        (WIDE_BEATS, (1, 17, 1), 130),
        (WIDE_BEATS, (6, 300, 3), 191),
        (replace(WIDE_BEATS, rows=8), (3, 29, 1), 257),
        (replace(WIDE_BEATS, bus_bits=128), (2, 13, 2), 255),
        # The last chunk of keys is shorter than a beat.
        (WIDE_BEATS, (1, 29, 1), 257),
        (WIDE_BEATS, (6, 5, 6), 259),
        (replace(WIDE_BEATS, bus_bits=64), (2, 5, 1), 421),
        (replace(WIDE_BEATS, cols=64, bus_bits=128), (12, 36, 4), 261),
    ],
)
def test_widths_and_lengths_that_are_no_whole_beats(
    config: AcceleratorConfig, shape: tuple[int, int, int], length: int
) -> None:
    check(config, shape, [length])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(config=configs(), work=works())
@example(config=WIDE_BEATS, work=((1, 29, 1), [129], 1))
@example(config=WIDE_BEATS, work=((1, 29, 1), [257], 1))
def test_any_encoder_on_any_configuration(
    config: AcceleratorConfig, work: tuple[tuple[int, int, int], list[int], int]
) -> None:
    check(config, *work)


def test_a_fully_masked_sentence() -> None:
    config, encoder = CONFIGS["8x8"], random_encoder(*EVEN)
    accelerator = Accelerator(FunctionalTransport(config, 1 << 20, check_races=True), config)
    accelerator.load(encoder)
    x, mask = random_tokens(np.random.default_rng(0), 9, 48), np.zeros(9, bool)
    output = accelerator.run([x], [mask]).outputs[0]
    np.testing.assert_array_equal(output, run_encoder(encoder, x, mask)[-1]["output"], strict=True)


def compiling_work(image: ModelImage, tokens: int) -> tuple[int, int]:
    """Calls and resumptions of Python and C functions that compiling takes, and instructions that come of it."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        program = compile_program(image, [tokens])
    finally:
        sys.setprofile(None)
    return calls, len(program.instructions)


def test_the_program_is_small_and_made_in_few_calls() -> None:
    calls, instructions = compiling_work(image_of(CONFIGS["16x16"], MINILM, 6), 128)
    assert instructions < 10_000
    assert calls < 1000 * instructions


def test_compiling_takes_work_in_proportion_to_the_instructions() -> None:
    """Calls are counted, since times depend on what else the machine does: an instruction of 24 further layers costs
    what it costs in six further ones. All tensors are spilled, so that every part of the compiler has its share."""
    work = [compiling_work(image_of(CONFIGS["64x64-16KiB"], EVEN, layers), 40) for layers in (2, 8, 32)]
    costs = [(more - less) / (longer - shorter) for (less, shorter), (more, longer) in pairwise(work)]
    assert costs[1] < 1.02 * costs[0]


def test_only_what_is_kept_is_stored() -> None:
    image = image_of(CONFIGS["16x16"], EVEN, 3)

    def stores(keep: tuple[str, ...]) -> int:
        program = compile_program(image, [20], keep)
        assert {t.name for t in program.kept} == {"output", *keep}
        return sum(i.opcode is Opcode.STORE for i in program.instructions)

    assert stores(()) == 1
    assert stores(("output",)) == 3
    assert stores(("output", "attention_norm")) == 6


def test_code_listing_and_plan() -> None:
    program = compile_program(image_of(CONFIGS["8x8"], EVEN, 2), [20, 9])
    assert [i.opcode for i in disassemble(program.code)] == [i.opcode for i in program.instructions]
    text = program.listing()
    for part in ("layer 1 ffn_in weights, tile 0", "layer 0 scores, sentence 1 head 2 row", "load>matmul"):
        assert part in text
    assert "2 sentences, 29 tokens" in program.plans[0].describe()


def test_addresses_follow_the_base() -> None:
    base = 0x4000_0000
    config, encoder = CONFIGS["16x16"], random_encoder(*EVEN)
    accelerator = Accelerator(FunctionalTransport(config, 1 << 20, base_address=base), config)
    accelerator.load(encoder)
    x = random_tokens(np.random.default_rng(0), 9, 48)
    np.testing.assert_array_equal(accelerator.run([x]).outputs[0], run_encoder(encoder, x)[-1]["output"])


@pytest.mark.parametrize(("base", "workspace"), [(1 << 32, None), (0, 1 << 32), ((1 << 32) - 64, None), (-64, None)])
def test_addresses_beyond_those_of_the_bus_are_refused(base: int, workspace: int | None) -> None:
    image = image_of(CONFIGS["16x16"], EVEN)
    rule = (r"^every address of a program must be below 2 \*\* address_bits = 0x100000000, with address_bits = 32; "
            r"model, program and tensors lie from -?0x[0-9a-f]+ to 0x[0-9a-f]+$")
    with pytest.raises(CompileError, match=rule):
        compile_program(image, [3], base=base, workspace=workspace)


@pytest.mark.parametrize(
    ("config", "shape", "lengths", "keep", "rule"),
    [
        (CONFIGS["16x16"], EVEN, [], (), "a batch must have at least one sentence"),
        (CONFIGS["16x16"], EVEN, [3, 0], (), "a sentence must have 1 to 512 tokens, not 0"),
        (CONFIGS["16x16"], EVEN, [513], (), "a sentence must have 1 to 512 tokens, not 513"),
        (
            CONFIGS["16x16"],
            EVEN,
            [3],
            ("scores",),
            "'scores' can't be kept; what can is query, key, value_transposed",
        ),
        (
            AcceleratorConfig(max_n=64),
            (128, 64, 2),
            [3],
            (),
            "the hidden width must be at most max_n = 64, not 128",
        ),
        (
            AcceleratorConfig(max_k=64),
            (64, 100, 2),
            [3],
            (),
            "the longest reduction must be at most max_k = 64, not 112",
        ),
        (
            AcceleratorConfig(rows=64, cols=64, max_tokens=2048, **SMALL),  # a head is wider than the accumulators
            (2112, 64, 1),
            [2048],
            (),
            "the scores of 2048 tokens must fit 32 accumulator words of 64 columns",
        ),
    ],
)
def test_refusals(
    config: AcceleratorConfig,
    shape: tuple[int, int, int],
    lengths: list[int],
    keep: tuple[str, ...],
    rule: str,
) -> None:
    with pytest.raises(CompileError, match=re.escape(rule)):
        compile_program(image_of(config, shape), lengths, keep)
