"""The golden encoder: layers in exact integers, with every tensor that the hardware makes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import kernels
from .parameters import Int8, QuantisedEncoder, QuantisedLayer, SecondParameters

__all__ = ["run_encoder", "run_layer"]

Tensors = dict[str, NDArray[Any]]


def _columns(second: SecondParameters, part: slice) -> SecondParameters:
    return SecondParameters(second.offset[part], second.multiplier[part], second.shift[part],
                            second.zero_point[part])


def run_layer(layer: QuantisedLayer, heads: int, x: Int8, mask: NDArray[np.bool_] | None = None) -> Tensors:
    """One layer over one sequence.

    Parameters
    ----------
    x
        int8 [L, d].
    mask
        bool [L], true for the keys that take part; every key unless given.

    Returns
    -------
    dict
        Every tensor that the hardware materialises, in the order of the computation: ``query``, ``key`` int8
        [L, d]; ``value_transposed`` int8 [d, L]; ``scores`` int32, ``numerators`` uint8 [h, L, L];
        ``totals`` int64 [h, L]; ``context`` int8 [L, d]; ``attention_sum`` int16, ``attention_norm`` int8
        [L, d]; ``ffn_hidden`` int8 [L, f]; ``output_sum`` int16, ``output`` int8 [L, d].

    Raises
    ------
    ValueError
        When x is not int8 [L, d] with L at least 1, or the mask is not [L].
    """
    hidden = layer.query_weight.shape[1]
    if x.dtype != np.int8 or x.ndim != 2 or x.shape[0] < 1 or x.shape[1] != hidden:
        raise ValueError(f"x must be int8 [L, {hidden}] with L at least 1, not {x.dtype} {list(x.shape)}")
    length = x.shape[0]
    mask = np.ones(length, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if mask.shape != (length,):
        raise ValueError(f"the mask must be [{length}], one entry a token, not {list(mask.shape)}")
    width = hidden // heads
    mean = kernels.mean_scalar(hidden)

    query = kernels.requantise(kernels.matmul(x, layer.query_weight), layer.query)
    key = kernels.requantise(kernels.matmul(x, layer.key_weight), layer.key)
    value_transposed = kernels.row_requantise(kernels.matmul(layer.value_weight, x), layer.value)

    scores = np.empty((heads, length, length), dtype=np.int32)
    numerators = np.empty((heads, length, length), dtype=np.uint8)
    totals = np.empty((heads, length), dtype=np.int64)
    weighted = np.empty((length, hidden), dtype=np.int32)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores[head] = kernels.matmul(query[:, part], key[:, part])
        numerators[head], totals[head] = kernels.softmax_numerators(scores[head], mask, layer.score)
        weighted[:, part] = kernels.matmul(numerators[head], value_transposed[part])
    context = np.empty((length, hidden), dtype=np.int8)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        context[:, part] = kernels.attention_output(
            weighted[:, part], totals[head], _columns(layer.context, part))

    attention_sum = kernels.residual(
        kernels.matmul(context, layer.output_weight), layer.output, x, layer.output_residual)
    attention_norm = kernels.layer_norm(attention_sum, mean, layer.attention_norm)
    ffn_hidden = kernels.gelu(kernels.matmul(attention_norm, layer.ffn_in_weight), layer.ffn_in, layer.gelu)
    output_sum = kernels.residual(
        kernels.matmul(ffn_hidden, layer.ffn_out_weight), layer.ffn_out, attention_norm, layer.ffn_residual)
    output = kernels.layer_norm(output_sum, mean, layer.output_norm)
    return {"query": query, "key": key, "value_transposed": value_transposed, "scores": scores,
            "numerators": numerators, "totals": totals, "context": context, "attention_sum": attention_sum,
            "attention_norm": attention_norm, "ffn_hidden": ffn_hidden, "output_sum": output_sum,
            "output": output}


def run_encoder(encoder: QuantisedEncoder, x: Int8, mask: NDArray[np.bool_] | None = None) -> list[Tensors]:
    """All layers over one sequence: the tensors of each (see :func:`run_layer`); the result is
    ``[-1]["output"]``, int8 on the encoder's ``output_scale``."""
    tensors = []
    for layer in encoder.layers:
        tensors.append(run_layer(layer, encoder.heads, x, mask))
        x = tensors[-1]["output"]
    return tensors
