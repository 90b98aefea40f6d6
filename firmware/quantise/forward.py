"""The float model over all calibration sequences at once, the same to the bit on every machine."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...sim.golden.parameters import FloatLayer
from . import exact

__all__ = ["forward", "output_bias"]

Float32 = NDArray[np.float32]
_PROBABILITY = 2.0**22  # steps to one


def output_bias(layer: FloatLayer) -> NDArray[np.float64]:
    """Every row of the softmax sums to one, so the value bias passes through it unchanged."""
    value = layer.value_bias.astype(np.float64)[np.newaxis]
    return layer.output_bias + exact.product(value, layer.output_weight)[0]


def forward(layer: FloatLayer, heads: int, epsilon: float, x: Float32, lengths: Sequence[int]
            ) -> dict[str, NDArray[Any]]:
    """A layer over all sequences, rows one under the other. Key, value and context come without the biases of key and
    value, as the hardware has them; ``ffn_in`` is what GELU takes, ``ffn_hidden`` what it gives.

    Raises
    ------
    ValueError
        When a sum before a LayerNorm hardly varies over a row, so that the LayerNorm's epsilon would be felt.
    """
    query = exact.product(x, layer.query_weight) + layer.query_bias
    key, value = exact.product(x, layer.key_weight), exact.product(x, layer.value_weight)
    context = np.empty_like(query)
    at = 0
    for length in lengths:
        part = slice(at, at + length)
        context[part] = _attention(query[part], key[part], value[part], heads)
        at += length

    def normalise(name: str, h: Float32, gain: Float32, shift: Float32) -> Float32:
        result, variances = exact.normalise(h, gain, shift, epsilon)
        smallest = float(variances[variances > 0].min(initial=np.inf))  # without any, the result is the shift
        if epsilon > smallest / 100:
            raise ValueError(f"layer_norm_eps must be at most a hundredth of the smallest variance before "
                             f"the {name} LayerNorm ({smallest:g}), not {epsilon:g}")
        return result.astype(np.float32)

    attention_sum = exact.product(context, layer.output_weight) + output_bias(layer).astype(np.float32) + x
    attention_norm = normalise("attention", attention_sum, layer.attention_norm_gain, layer.attention_norm_shift)
    ffn_in = exact.product(attention_norm, layer.ffn_in_weight) + layer.ffn_in_bias
    ffn_hidden = exact.gelu(ffn_in)
    output_sum = exact.product(ffn_hidden, layer.ffn_out_weight) + layer.ffn_out_bias + attention_norm
    output = normalise("output", output_sum, layer.output_norm_gain, layer.output_norm_shift)
    return {"x": x, "query": query, "key": key, "value": value, "context": context, "attention_sum": attention_sum,
            "attention_norm": attention_norm, "ffn_in": ffn_in, "ffn_hidden": ffn_hidden, "output_sum": output_sum,
            "output": output}


def _attention(query: Float32, key: Float32, value: Float32, heads: int) -> Float32:
    """The context [L, d] of one sequence."""
    length, hidden = query.shape

    def split(x: Float32) -> Float32:
        return x.reshape(length, heads, hidden // heads).transpose(1, 0, 2)

    scores = exact.product(split(query), split(key)) * np.float32(math.sqrt(heads / hidden))
    numerators = exact.exponential(scores - scores.max(axis=-1, keepdims=True))
    numerators = np.rint(numerators * _PROBABILITY)  # whole numbers, so that their sum is exact
    weighted = exact.product(numerators, split(value).transpose(0, 2, 1))
    context = weighted / numerators.sum(axis=-1, keepdims=True)
    return context.transpose(1, 0, 2).reshape(length, hidden).astype(np.float32)
