"""Encoders of any shape on the RTL of arrays of several proportions, with the smallest memories there are."""

from functools import cache

import numpy as np
import pytest
from celosia.firmware.compiler.program import KEEPABLE
from celosia.firmware.driver.driver import Accelerator
from celosia.firmware.quantise.synthetic import random_encoder, random_tokens
from celosia.hdl.config import AcceleratorConfig
from celosia.runner import compare
from celosia.session import simulate
from celosia.sim.golden.encoder import run_encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SMALLEST = {"scratchpad_kib": 16, "accumulator_kib": 16, "row_entries": 64, "queue_depth": 2, "load_queue_depth": 2}
CONFIGS = {
    "4x4, 64 bits": AcceleratorConfig(rows=4, cols=4, bus_bits=64, scratchpad_banks=2, **SMALLEST),
    "4x8, 128 bits": AcceleratorConfig(rows=4, cols=8, bus_bits=128, **SMALLEST),
    "8x4, 256 bits": AcceleratorConfig(rows=8, cols=4, bus_bits=256, outstanding_reads=1, **SMALLEST),
}


@cache
def accelerator(name: str) -> Accelerator:
    return simulate(CONFIGS[name])


@pytest.mark.parametrize("name", [
    "4x4, 64 bits", *(pytest.param(name, marks=pytest.mark.regress) for name in CONFIGS if name != "4x4, 64 bits")])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    heads=st.integers(1, 4),
    head=st.integers(1, 20),
    ffn=st.integers(1, 120),
    texts=st.lists(st.tuples(st.integers(1, 24), st.integers(0, 24)), min_size=1, max_size=3),
    layers=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_every_tensor_equals_golden(
    name: str, heads: int, head: int, ffn: int, texts: list[tuple[int, int]], layers: int, seed: int
) -> None:
    """``texts`` are tokens, and how many of them are masked, at most all but one."""
    encoder, rng = random_encoder(heads * head, ffn, heads, layers), np.random.default_rng(seed)
    inputs = [random_tokens(rng, tokens, heads * head) for tokens, _ in texts]
    masks = [rng.permutation(tokens) >= min(masked, tokens - 1) for tokens, masked in texts]
    device = accelerator(name)
    device.load(encoder)
    result = device.run(inputs, masks, keep=KEEPABLE)
    golden = [run_encoder(encoder, x, mask) for x, mask in zip(inputs, masks, strict=True)]
    wrong, compared = compare(result, golden)
    assert (wrong, compared) == ([], len(texts) * layers * len(KEEPABLE))
