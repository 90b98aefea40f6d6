"""The float reference: its functions against exact ones, its layer against torch's where it is installed."""

import math

import numpy as np
import pytest
from celosia.sim.golden import reference
from celosia.sim.golden.reference import (
    erf,
    exact_gelu,
    reference_attention,
    reference_encoder,
    reference_layer,
)

from tests import tiny_models


def test_every_exported_name_is_there():
    assert all(hasattr(reference, name) for name in reference.__all__)


def test_erf_is_exact():
    x = np.concatenate([np.linspace(-7, 7, 20001), [0.0, -0.0, np.inf, -np.inf, 1e-300, 5.999, 6.001]])
    expected = np.array([math.erf(value) for value in x])
    assert np.abs(erf(x) - expected).max() < 1e-14
    assert erf(np.zeros((2, 3))).shape == (2, 3)


def test_gelu_keeps_its_type():
    x = np.array([-1.0, 0.0, 1.0], dtype=np.float32)
    assert exact_gelu(x).dtype == np.float32
    np.testing.assert_allclose(exact_gelu(x), [-0.15865525, 0, 0.84134475], rtol=1e-6)


def test_masked_keys_take_no_part():
    rng = np.random.default_rng(3)
    model = tiny_models.model()
    x = rng.normal(size=(7, 16))
    mask = np.array([True, False, True, True, False, True, True])
    whole = reference_encoder(model.layers, 2, 1e-12, x, mask)[-1]["output"][mask]
    alone = reference_encoder(model.layers, 2, 1e-12, x[mask])[-1]["output"]
    np.testing.assert_allclose(whole, alone, atol=1e-12)


def test_without_any_key_the_context_is_zero():
    x = np.ones((3, 4))
    _, probabilities, context = reference_attention(x, x, x, 2, np.zeros(3, dtype=bool))
    assert not probabilities.any()
    assert not context.any()


def test_the_tensors_follow_from_each_other():
    model = tiny_models.model()
    x = np.random.default_rng(4).normal(size=(5, 16))
    tensors = reference_layer(model.layers[0], 2, 1e-12, x)
    assert list(tensors) == ["query", "key", "value", "scores", "probabilities", "context", "attention_sum",
                             "attention_norm", "ffn_hidden", "output_sum", "output"]
    np.testing.assert_allclose(tensors["probabilities"].sum(axis=-1), 1)
    assert all(tensor.dtype == np.float64 for tensor in tensors.values())
    narrow = reference_layer(model.layers[0], 2, 1e-12, x.astype(np.float32))
    assert all(tensor.dtype == np.float32 for tensor in narrow.values())
    np.testing.assert_allclose(narrow["output"], tensors["output"], atol=1e-5)


def test_against_torch():
    torch = pytest.importorskip("torch")
    layer = tiny_models.model(heads=4).layers[0]
    peer = torch.nn.TransformerEncoderLayer(16, 4, 40, dropout=0, activation="gelu", layer_norm_eps=1e-5,
                                            batch_first=True, dtype=torch.float64).eval()

    def tensor(*arrays):
        return torch.from_numpy(np.concatenate(arrays).astype(np.float64))

    peer.load_state_dict({
        "self_attn.in_proj_weight": tensor(layer.query_weight, layer.key_weight, layer.value_weight),
        "self_attn.in_proj_bias": tensor(layer.query_bias, layer.key_bias, layer.value_bias),
        "self_attn.out_proj.weight": tensor(layer.output_weight),
        "self_attn.out_proj.bias": tensor(layer.output_bias),
        "linear1.weight": tensor(layer.ffn_in_weight), "linear1.bias": tensor(layer.ffn_in_bias),
        "linear2.weight": tensor(layer.ffn_out_weight), "linear2.bias": tensor(layer.ffn_out_bias),
        "norm1.weight": tensor(layer.attention_norm_gain), "norm1.bias": tensor(layer.attention_norm_shift),
        "norm2.weight": tensor(layer.output_norm_gain), "norm2.bias": tensor(layer.output_norm_shift)})
    x = np.random.default_rng(5).normal(size=(9, 16))
    mask = np.array([True] * 6 + [False] * 3)
    with torch.no_grad():
        padding = torch.from_numpy(~mask)[None]
        expected = peer(torch.from_numpy(x)[None], src_key_padding_mask=padding)[0].numpy()
    found = reference_layer(layer, 4, 1e-5, x, mask)["output"]
    np.testing.assert_allclose(found[:6], expected[:6], atol=1e-12)
