"""The golden integer encoder: its tensors, its mask, and what it refuses."""

import numpy as np
import pytest
from celosia.firmware.quantise.quantise import quantise_encoder, quantise_input
from celosia.sim.golden import kernels
from celosia.sim.golden.encoder import run_encoder, run_layer
from celosia.sim.golden.parameters import QuantisedEncoder
from numpy.testing import assert_array_equal

from tests import tiny_models


@pytest.fixture(scope="module")
def encoder() -> QuantisedEncoder:
    return quantise_encoder(tiny_models.model(), tiny_models.sequences(count=200))


def codes(length: int, seed: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(-127, 128, size=(length, 16), dtype=np.int8)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9])
def test_shapes_and_types(encoder: QuantisedEncoder, length: int):
    tensors = run_layer(encoder.layers[0], 2, codes(length))
    expected = {
        "query": ("int8", (length, 16)), "key": ("int8", (length, 16)),
        "value_transposed": ("int8", (16, length)),
        "scores": ("int32", (2, length, length)), "numerators": ("uint8", (2, length, length)),
        "totals": ("int64", (2, length)), "context": ("int8", (length, 16)),
        "attention_sum": ("int16", (length, 16)), "attention_norm": ("int8", (length, 16)),
        "ffn_hidden": ("int8", (length, 40)), "output_sum": ("int16", (length, 16)),
        "output": ("int8", (length, 16))}
    assert {name: (str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()} == expected


def test_attention_by_hand(encoder: QuantisedEncoder):
    """Each tensor of the attention follows from the ones before it, head by head."""
    layer, x = encoder.layers[0], codes(5)
    mask = np.array([True, True, False, True, False])
    found = run_layer(layer, 2, x, mask)
    value = x.astype(int) @ layer.value_weight.T.astype(int)
    assert_array_equal(found["value_transposed"], kernels.row_requantise(value.T, layer.value))
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        scores = found["query"][:, part].astype(int) @ found["key"][:, part].T.astype(int)
        assert_array_equal(found["scores"][head], scores)
        numerators, totals = kernels.softmax_numerators(scores, mask, layer.score)
        assert_array_equal(found["numerators"][head], numerators)
        assert_array_equal(found["totals"][head], totals)
        assert not numerators[:, ~mask].any()
        assert (numerators.max(axis=1) == 255).all()


def test_masked_keys_take_no_part(encoder: QuantisedEncoder):
    x, mask = codes(6), np.array([True, False, True, True, False, True])
    whole = run_encoder(encoder, x, mask)
    alone = run_encoder(encoder, x[mask])
    for some, few in zip(whole, alone, strict=True):
        for name in ("query", "context", "attention_sum", "attention_norm", "ffn_hidden", "output"):
            assert_array_equal(some[name][mask], few[name], strict=True)


def test_without_any_key_the_context_is_zero(encoder: QuantisedEncoder):
    tensors = run_layer(encoder.layers[0], 2, codes(3), np.zeros(3, dtype=bool))
    assert not tensors["totals"].any()
    assert not tensors["context"].any()


def test_layers_are_chained(encoder: QuantisedEncoder):
    x = codes(4)
    tensors = run_encoder(encoder, x)
    assert len(tensors) == 2
    assert_array_equal(run_layer(encoder.layers[1], 2, tensors[0]["output"])["output"], tensors[1]["output"])


def test_bad_operands_are_refused(encoder: QuantisedEncoder):
    layer = encoder.layers[0]

    def refusal(x: np.ndarray, mask: np.ndarray | None = None) -> str:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole sentence is compared
            run_layer(layer, 2, x, mask)
        return str(caught.value)

    assert refusal(np.zeros((3, 15), np.int8)) == "x must be int8 [L, 16] with L at least 1, not int8 [3, 15]"
    assert refusal(np.zeros((3, 16), int)) == "x must be int8 [L, 16] with L at least 1, not int64 [3, 16]"
    assert refusal(np.zeros((0, 16), np.int8)) == "x must be int8 [L, 16] with L at least 1, not int8 [0, 16]"
    assert refusal(codes(3), np.ones(4, bool)) == "the mask must be [3], one entry a token, not [4]"


def test_the_result_is_close_to_float(encoder: QuantisedEncoder):
    model = tiny_models.model()
    errors = []
    for x in tiny_models.sequences(seed=7):
        output = run_encoder(encoder, quantise_input(encoder, x))[-1]["output"]
        errors.append(output * encoder.output_scale - model.encode(x))
    assert np.sqrt((np.concatenate(errors) ** 2).mean()) < 0.035
