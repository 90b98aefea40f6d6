"""Weights that hold nothing, or next to nothing, and inputs of GELU beyond its 16 bits: the integer model follows."""

import numpy as np
import pytest
from celosia.firmware.model.model import EncoderModel
from celosia.firmware.quantise.quantise import quantise_encoder, quantise_input
from celosia.sim.golden.encoder import run_encoder, run_layer
from celosia.sim.golden.parameters import QuantisedEncoder
from celosia.sim.golden.reference import reference_layer

from tests import tiny_models

ATTENTION, FFN = "attention.self", "intermediate.dense"
QUERY, KEY, VALUE = (f"{ATTENTION}.{part}" for part in ("query", "key", "value"))
ATTENTION_OUT, FFN_OUT = "attention.output.dense", "output.dense"
ATTENTION_NORM, NORM = "attention.output.LayerNorm", "output.LayerNorm"


def both(*names: str) -> list[str]:
    return [f"{name}.{part}" for name in names for part in ("weight", "bias")]


#: What is set to zero in both layers.
DEAD = {
    "FFN": both(FFN, FFN_OUT),
    "first FFN weights": both(FFN),
    "second FFN weights": both(FFN_OUT),
    "values": both(VALUE),
    "output projection": both(ATTENTION_OUT),
    "attention": both(VALUE, ATTENTION_OUT),
    "queries": both(QUERY),
    "keys": both(KEY),
    "queries and keys": both(QUERY, KEY),
    "gains after attention": [f"{ATTENTION_NORM}.weight"],
    "gains of the output": [f"{NORM}.weight"],
    "all gains": [f"{ATTENTION_NORM}.weight", f"{NORM}.weight"],
    "LayerNorms": both(ATTENTION_NORM, NORM),
    "all weights": [f"{name}.weight" for name in (QUERY, KEY, VALUE, ATTENTION_OUT, FFN, FFN_OUT)],
    "all weights and gains": [f"{name}.weight" for name in (QUERY, KEY, VALUE, ATTENTION_OUT, FFN, FFN_OUT,
                                                            ATTENTION_NORM, NORM)],
    "everything": both(QUERY, KEY, VALUE, ATTENTION_OUT, FFN, FFN_OUT, ATTENTION_NORM, NORM),
}
#: Rows of these, one or a head.
PARTS = {
    "a channel": (slice(3, 4), both(FFN, VALUE, ATTENTION_NORM, NORM)),
    "a head": (slice(0, 8), both(QUERY, KEY, VALUE)),
    "a neuron": (slice(7, 8), both(FFN)),
    "the first channels of the output": (slice(0, 4), both(NORM)),
}


def scaled(factor: float, names: list[str], part: slice = slice(None)) -> EncoderModel:
    arrays = tiny_models.arrays(embeddings=False)
    for layer in range(2):
        for name in names:
            arrays[f"encoder.layer.{layer}.{name}"][part] *= np.float32(factor)
    return EncoderModel.from_arrays(arrays, heads=2)


def error(model: EncoderModel, encoder: QuantisedEncoder) -> float:
    """Root mean square difference from the float model over fresh sequences."""
    errors = []
    for x in tiny_models.sequences(seed=8):
        output = run_encoder(encoder, quantise_input(encoder, x))[-1]["output"]
        errors.append(output * encoder.output_scale - model.encode(x))
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def check(model: EncoderModel, bound: float = 0.1) -> QuantisedEncoder:
    for gptq in (False, True):
        encoder = quantise_encoder(model, tiny_models.sequences(), gptq=gptq)
        assert error(model, encoder) < bound
    return encoder


@pytest.mark.parametrize("name", DEAD)
def test_what_is_zero_stays_zero(name: str):
    check(scaled(0, DEAD[name]))


@pytest.mark.parametrize("name", PARTS)
def test_a_dead_part_does_no_harm(name: str):
    part, names = PARTS[name]
    check(scaled(0, names, part))


@pytest.mark.parametrize("factor", [1e-6, 1e-20, 1e-38])
@pytest.mark.parametrize("name", [FFN, FFN_OUT, QUERY, VALUE, ATTENTION_OUT, ATTENTION_NORM, NORM])
def test_next_to_nothing_is_like_nothing(name: str, factor: float):
    check(scaled(factor, [f"{name}.weight"]))


def test_a_model_of_zeros_gives_zeros():
    model = scaled(0, DEAD["everything"])
    encoder = check(model)
    for tensors in run_encoder(encoder, quantise_input(encoder, tiny_models.sequences()[5])):
        assert not (tensors["output"] * encoder.output_scale).any()


def test_zeros_as_input():
    model = tiny_models.model()
    encoder = quantise_encoder(model, [np.zeros_like(x) for x in tiny_models.sequences()], gptq=True)
    x = np.zeros((3, 16), np.float32)
    output = run_encoder(encoder, quantise_input(encoder, x))[-1]["output"] * encoder.output_scale
    assert np.abs(output - model.encode(x)).max() < 0.1


@pytest.mark.parametrize("bias", [-30, -200, -1e5])
def test_a_gelu_that_is_always_off(bias: float):
    arrays = tiny_models.arrays(embeddings=False)
    for layer in range(2):
        arrays[f"encoder.layer.{layer}.{FFN}.bias"][...] = bias
    check(EncoderModel.from_arrays(arrays, heads=2))


def test_a_sharp_softmax_fits():
    """Scores so far apart that the largest takes all: the exponent's ratio is limited, and nothing is refused."""
    encoder = quantise_encoder(scaled(1e6, [f"{QUERY}.weight"]), tiny_models.sequences())
    assert all(layer.score.multiplier << 20 >= 2**15 << layer.score.shift for layer in encoder.layers)


@pytest.mark.parametrize("largest", [100, 130, 250, 800, 1e5])
def test_gelu_takes_whatever_was_seen(largest: float):
    """Inputs beyond 128 don't fit GELU's 16 bits with 8 fraction bits; their channels get a coarser step."""
    model = scaled(1, [])
    layer = model.layers[0]
    tensors = [reference_layer(layer, 2, 1e-12, x) for x in tiny_models.sequences()]
    inputs = np.concatenate([tensor["attention_norm"] for tensor in tensors]) @ layer.ffn_in_weight.T
    names = [f"{FFN}.weight"]
    stretched = scaled(largest / inputs[:, :20].max(), names, slice(0, 20))
    encoder = quantise_encoder(stretched, tiny_models.sequences(), gptq=True)
    found, expected = [], []
    for x in tiny_models.sequences():
        found.append(run_layer(encoder.layers[0], 2, quantise_input(encoder, x))["ffn_hidden"][:, :20])
        expected.append(reference_layer(stretched.layers[0], 2, 1e-12, x)["ffn_hidden"][:, :20])
    channels = zip(np.concatenate(found).T, np.concatenate(expected).T, strict=True)
    straight = [np.corrcoef(codes, values)[0, 1] for codes, values in channels]
    assert min(straight) > 0.99, "codes follow what GELU gives, channel by channel"
    assert error(stretched, encoder) < 0.1
