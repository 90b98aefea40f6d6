"""Post-training quantisation: a float encoder and calibration sequences in, the integers of every layer out.

``docs/quantisation.md`` describes the scheme, ``docs/numerics.md`` the arithmetic that the integers feed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...sim.golden import kernels
from ...sim.golden.parameters import (
    FirstParameters,
    FloatLayer,
    QuantisedEncoder,
    QuantisedLayer,
    RowParameters,
    ScalarParameters,
    SecondParameters,
)
from ...sim.golden.reference import exact_gelu, normalise, reference_attention
from ..model.model import EncoderModel, ModelError
from .gptq import round_gptq

__all__ = ["MINIMUM_SEQUENCES", "SCHEME", "calibration_sequences", "quantise_encoder", "quantise_input"]

Float = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]
Progress = Callable[[float], None]

#: Version of the scheme: another one gives other integers.
SCHEME = 1

#: Fewer calibration sequences cost accuracy: with 8 the mean cosine falls by 0.009.
MINIMUM_SEQUENCES = 64

_CODE = 127  # largest int8 magnitude in use
_BIAS_LIMIT = 2**30
_SUM_HEADROOM = 1.5  # of the 16-bit sums before LayerNorm over the largest value seen
_INPUT_BALANCE = 1.0  # a of a layer's input, see _channel_grid
_NORM_BALANCE = 0.8
_GELU_BALANCE = 0.85
_FRAGMENTS = 3
_NOISE = 1 / 12  # variance of an operand's own rounding, in steps


@dataclass(frozen=True)
class _Grid:
    """real = (code - zero) * scale, by channel; ``zero`` holds whole numbers."""

    scale: Float64
    zero: Float64


@dataclass(frozen=True)
class _Linear:
    """int8 weights [out, in], float scale [out] of their accumulators, the sum of each row's weights times
    the zero points of the input, and what the rounding costs on average (real units, [out])."""

    weight: NDArray[np.int8]
    scale: Float64
    zero: Float64
    correction: Float64


def calibration_sequences(model: EncoderModel, sentences: Sequence[str]) -> list[Float]:
    """The layers' inputs, float32 [L, d] each, for sentences to calibrate with: every sentence, and three
    fragments of one to four of its words, since very short texts drive many channels further than any
    sentence does. All with the model's prompt, and cut to its longest input."""
    texts = list(sentences)
    for index, sentence in enumerate(sentences):
        words = sentence.split()
        for turn in range(_FRAGMENTS):
            count = min(1 + (index + turn) % 4, len(words))
            start = (7 * index + 13 * turn) % (len(words) - count + 1)
            texts.append(" ".join(words[start : start + count]))
    return [model.embed(model.tokenize(text, cut=True)) for text in texts]


def quantise_input(encoder: QuantisedEncoder, x: Float) -> NDArray[np.int8]:
    """Codes of the first layer's input [L, d]: nearest, saturated at +-127."""
    return np.clip(np.rint(x / encoder.input_scale), -_CODE, _CODE).astype(np.int8)


def quantise_encoder(model: EncoderModel, sequences: Sequence[Float], *, gptq: bool = False,
                     progress: Progress | None = None) -> QuantisedEncoder:
    """Quantise every layer, with static scales from calibration sequences.

    Parameters
    ----------
    sequences
        Inputs of the first layer, float [L, d] each, at least 64.
    gptq
        Round the weights by GPTQ instead of each on its own: slower, closer to the float model.
    progress
        Called with the share that is done, from 0 to 1.

    Raises
    ------
    ModelError
        When there are too few sequences, one is not [L, d], or a layer doesn't fit the integer formats.
    """
    if len(sequences) < MINIMUM_SEQUENCES:
        raise ModelError(f"calibration needs at least {MINIMUM_SEQUENCES} sequences, not {len(sequences)}")
    for x in sequences:
        if x.ndim != 2 or x.shape[0] < 1 or x.shape[1] != model.hidden:
            raise ModelError(f"a calibration sequence must be [L, {model.hidden}] with L at least 1, "
                             f"not {list(x.shape)}")
        if not np.isfinite(x).all():
            raise ModelError("a calibration sequence must be finite")
    rows = np.concatenate([x.astype(np.float32) for x in sequences])
    lengths = [len(x) for x in sequences]
    grid = _channel_grid(rows, np.ones(model.hidden), _INPUT_BALANCE, symmetric=True)
    layers, scales = [], [grid.scale]
    for index, layer in enumerate(model.layers):
        try:
            tensors = _forward(layer, model, rows, lengths)
            output = _channel_grid(tensors["output"], np.ones(model.hidden), _INPUT_BALANCE, symmetric=True)
            layers.append(_quantise_layer(layer, model, tensors, grid, output, gptq))
        except (ValueError, np.linalg.LinAlgError) as error:
            raise ModelError(f"layer {index} doesn't fit the integer formats: {error}") from error
        rows, grid = tensors["output"], output
        scales.append(grid.scale)
        if progress is not None:
            progress((index + 1) / len(model.layers))
    return QuantisedEncoder(model.heads, tuple(layers), np.stack(scales))


def _forward(layer: FloatLayer, model: EncoderModel, x: Float, lengths: Sequence[int]) -> dict[str, Float]:
    """A layer over all sequences at once, rows one under the other. Key, value and context come without the
    biases of key and value, as the hardware has them."""
    query = x @ layer.query_weight.T + layer.query_bias
    key, value = x @ layer.key_weight.T, x @ layer.value_weight.T
    context = np.empty_like(query)
    at = 0
    for length in lengths:
        part = slice(at, at + length)
        context[part] = reference_attention(query[part], key[part], value[part], model.heads)[2]
        at += length
    attention_sum = context @ layer.output_weight.T + _output_bias(layer).astype(x.dtype) + x
    attention_norm = normalise(
        attention_sum, layer.attention_norm_gain, layer.attention_norm_shift, model.epsilon)
    ffn_hidden = exact_gelu(attention_norm @ layer.ffn_in_weight.T + layer.ffn_in_bias)
    output_sum = ffn_hidden @ layer.ffn_out_weight.T + layer.ffn_out_bias + attention_norm
    output = normalise(output_sum, layer.output_norm_gain, layer.output_norm_shift, model.epsilon)
    for name, h in (("attention", attention_sum), ("output", output_sum)):
        variance = float(h.var(axis=1).min())
        if model.epsilon > variance / 100:
            raise ValueError(f"layer_norm_eps must be at most a hundredth of the smallest variance before "
                             f"the {name} LayerNorm ({variance:g}), not {model.epsilon:g}")
    return {"x": x, "query": query, "key": key, "value": value, "context": context,
            "attention_sum": attention_sum, "attention_norm": attention_norm, "ffn_hidden": ffn_hidden,
            "output_sum": output_sum, "output": output}


def _output_bias(layer: FloatLayer) -> Float64:
    """Every row of the softmax sums to one, so the value bias passes through it unchanged."""
    weight, bias = layer.output_weight.astype(np.float64), layer.value_bias.astype(np.float64)
    return layer.output_bias + weight @ bias


def _channel_grid(tensor: Float, consumer: Float64, balance: float, symmetric: bool) -> _Grid:
    """int8 codes by channel, without clipping anything seen.

    With half the range h_c and the largest weight w_c that consumes channel c: t_c = h_c^a / w_c^(1-a), scale
    s_c = t_c max_c(h_c / t_c) / 127. a = 1 uses the codes of each channel fully; below it, channels that meet
    small weights give up codes so that those weights keep theirs.
    """
    low, high = tensor.min(axis=0).astype(np.float64), tensor.max(axis=0).astype(np.float64)
    half = np.maximum(-low, high) if symmetric else (high - low) / 2
    half = np.maximum(half, max(half.max() * 1e-3, 1e-30))
    weights = np.maximum(consumer, max(consumer.max() * 1e-6, 1e-30))
    t = half**balance / weights ** (1 - balance)
    scale = t * (half / t).max() / _CODE
    zero = np.zeros_like(scale) if symmetric else np.rint(-(high + low) / 2 / scale)
    return _Grid(scale, zero)


def _tensor_scale(tensor: Float) -> float:
    return max(float(np.abs(tensor).max()), 1e-30) / _CODE


def _sum_scale(tensor: Float) -> float:
    """A power of two that leaves headroom over the largest sum seen on a 16-bit grid."""
    return 2.0 ** math.ceil(math.log2(max(float(np.abs(tensor).max()), 1e-30) * _SUM_HEADROOM / (2**15 - 1)))


def _quantise_linear(weight: Float, operand: Float, grid: _Grid, least: Float64, gptq: bool) -> _Linear:
    """Fold the operand's scales into the weights [out, in], and round them by output channel.

    ``operand`` [T, in] are the calibration rows, in real units; ``least`` [out] bounds the scale from below.
    """
    folded = weight.astype(np.float64) * grid.scale
    scale = np.maximum(np.abs(folded).max(axis=1) / _CODE, least)
    steps = folded / scale[:, np.newaxis]
    mean = operand.mean(axis=0, dtype=np.float64)
    if gptq:
        deviation = (operand - mean.astype(operand.dtype)) / grid.scale.astype(operand.dtype)
        covariance = (deviation.T @ deviation).astype(np.float64) / len(operand)
        rounded = round_gptq(steps, covariance + _NOISE * np.eye(len(mean)), _CODE)
    else:
        rounded = np.clip(np.rint(steps), -_CODE, _CODE).astype(np.int8)
    exact = rounded.astype(np.float64)
    error = folded - exact * scale[:, np.newaxis]
    return _Linear(rounded, scale, exact @ grid.zero, error @ (mean / grid.scale))


def _first(linear: _Linear, bias: Float64, target: float | Float64) -> FirstParameters:
    """First records from accumulators to steps of ``target``, with the bias and its correction."""
    whole = np.rint((bias + linear.correction) / linear.scale) - linear.zero
    if np.abs(whole).max() > _BIAS_LIMIT:
        raise ValueError(f"a bias must be within +-2**30 accumulator steps, not {np.abs(whole).max():g}")
    multiplier, shift = kernels.fit_multiplier(linear.scale / target)
    return FirstParameters(whole.astype(np.int32), multiplier.astype(np.uint16), shift.astype(np.uint8),
                           np.zeros(len(whole), dtype=np.int8))


def _second(ratio: Float64, offset: Float64, zero: Float64 | None = None) -> SecondParameters:
    """Second records: ``x * ratio + offset``, then the zero point."""
    room = np.floor(np.log2((2**31 - 1) / np.maximum(np.abs(offset), 1.0)))  # of a signed 32-bit offset
    limit = np.clip(room, 1, 31).astype(np.int64)
    multiplier, shift = kernels.fit_multiplier(ratio, 15)
    multiplier = np.where(shift > limit, np.rint(np.ldexp(ratio, limit)).astype(np.int64), multiplier)
    shift = np.minimum(shift, limit)
    whole = np.rint(np.ldexp(offset, shift))
    if np.abs(whole).max() >= 2**31:
        raise ValueError(f"an offset must be within +-2**30 int8 steps, not {np.abs(offset).max():g}")
    zeros = np.zeros(len(ratio)) if zero is None else zero
    if np.abs(zeros).max() > 128:
        raise ValueError(f"a zero point must be within -128 to 127, not {zeros[np.abs(zeros).argmax()]:g}")
    return SecondParameters(whole.astype(np.int32), multiplier.astype(np.int16), shift.astype(np.uint8),
                            np.clip(zeros, -128, 127).astype(np.int8))


def _floor(target: float | Float64, bias: Float64) -> Float64:
    """Smallest accumulator scale for which the multiplier has all its bits and the bias fits easily."""
    return np.maximum(target * 2.0**-24, np.abs(bias) / 2**28)


def _norm(gain: Float, shift: Float, grid: _Grid) -> SecondParameters:
    """LayerNorm from 17 fraction bits of (h - mean) / sqrt(sum of squares) to the grid of its output."""
    ratio = gain.astype(np.float64) * math.sqrt(len(gain)) / 2**17 / grid.scale
    return _second(ratio, shift / grid.scale + grid.zero)


def _residual(grid: _Grid, target: float) -> SecondParameters:
    return _second(grid.scale / target, -grid.zero * grid.scale / target)


def _quantise_layer(layer: FloatLayer, model: EncoderModel, tensors: dict[str, Float], x: _Grid,
                    output: _Grid, gptq: bool) -> QuantisedLayer:
    def as_float(array: Float) -> Float64:
        return array.astype(np.float64)

    def widest(weight: Float) -> Float64:
        return as_float(np.abs(weight).max(axis=0))

    def linear(weight: Float, operand: str, grid: _Grid, target: float | Float64, bias: Float) -> _Linear:
        return _quantise_linear(weight, tensors[operand], grid, _floor(target, as_float(bias)), gptq)

    nothing = np.zeros(model.hidden)
    query_scale, key_scale = _tensor_scale(tensors["query"]), _tensor_scale(tensors["key"])
    query = linear(layer.query_weight, "x", x, query_scale, layer.query_bias)
    key = linear(layer.key_weight, "x", x, key_scale, nothing)
    steps = query_scale * key_scale / math.sqrt(model.hidden / model.heads) * math.log2(math.e) * 256
    score = kernels.fit_multiplier(np.array(steps))

    value_grid = _channel_grid(tensors["value"], nothing, 1.0, symmetric=True)
    value = linear(layer.value_weight, "x", x, value_grid.scale, nothing)
    row_multiplier, row_shift = kernels.fit_multiplier(value.scale / value_grid.scale)
    context_grid = _channel_grid(tensors["context"], nothing, 1.0, symmetric=True)

    attention_scale = _sum_scale(tensors["attention_sum"])
    output_bias = _output_bias(layer) + as_float(layer.output_weight) @ value.correction
    attention = linear(layer.output_weight, "context", context_grid, attention_scale, output_bias)
    norm_grid = _channel_grid(tensors["attention_norm"], widest(layer.ffn_in_weight), _NORM_BALANCE,
                              symmetric=False)

    ffn_in = linear(layer.ffn_in_weight, "attention_norm", norm_grid, 2.0**-8, layer.ffn_in_bias)
    with_zero = np.concatenate([tensors["ffn_hidden"], np.zeros((1, model.ffn), np.float32)])
    hidden_grid = _channel_grid(with_zero, widest(layer.ffn_out_weight), _GELU_BALANCE, symmetric=False)
    ffn_scale = _sum_scale(tensors["output_sum"])
    ffn_out = linear(layer.ffn_out_weight, "ffn_hidden", hidden_grid, ffn_scale, layer.ffn_out_bias)

    return QuantisedLayer(
        query_weight=query.weight, query=_first(query, as_float(layer.query_bias), query_scale),
        key_weight=key.weight, key=_first(replace(key, correction=nothing), nothing, key_scale),
        score=ScalarParameters(int(score[0]), int(score[1])),
        value_weight=value.weight,
        value=RowParameters(row_multiplier.astype(np.uint16), row_shift.astype(np.uint8)),
        context=_second(value_grid.scale / context_grid.scale / 2**9, nothing),
        output_weight=attention.weight, output=_first(attention, output_bias, attention_scale),
        output_residual=_residual(x, attention_scale),
        attention_norm=_norm(layer.attention_norm_gain, layer.attention_norm_shift, norm_grid),
        ffn_in_weight=ffn_in.weight, ffn_in=_first(ffn_in, as_float(layer.ffn_in_bias), 2.0**-8),
        gelu=_second(1 / 1024 / hidden_grid.scale, np.zeros(model.ffn), hidden_grid.zero),
        ffn_out_weight=ffn_out.weight, ffn_out=_first(ffn_out, as_float(layer.ffn_out_bias), ffn_scale),
        ffn_residual=_residual(norm_grid, ffn_scale),
        output_norm=_norm(layer.output_norm_gain, layer.output_norm_shift, output),
    )
