"""Post-training quantisation: a float encoder and calibration sequences in, the integers of every layer out.

``docs/quantisation.md`` describes the scheme, ``docs/numerics.md`` the arithmetic that the integers feed. All sums are
those of :mod:`.exact`, so the same model and sequences give the same integers on every machine.
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
from ..model.model import EncoderModel, ModelError
from . import exact
from .forward import forward, output_bias
from .gptq import covariance, round_gptq

__all__ = ["MINIMUM_SEQUENCES", "SCHEME", "quantise_encoder", "quantise_input"]

Float = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]
Int8 = NDArray[np.int8]
Progress = Callable[[float], None]

#: Version of the scheme: another one gives other integers.
SCHEME = 2

#: Fewer calibration sequences cost accuracy: with 8 the mean cosine falls by 0.009.
MINIMUM_SEQUENCES = 64

_CODE = 127  # largest int8 magnitude in use
_BIAS_LIMIT = 2**30
_SUM_HEADROOM = 1.4  # of the 16-bit sums before LayerNorm over the largest value seen
_INPUT_BALANCE = 1.0  # a of a layer's input, see _channel_grid; with few binary digits, see exact.power
_NORM_BALANCE = 13 / 16
_GELU_BALANCE = 27 / 32
_NOISE = 1.0  # added to the variance of each channel, in steps: rarely used channels count, too
_LOG2_E = 1.4426950408889634
_WHOLE_SOFTMAX = 4096.0  # steps of the exponent after which a numerator is zero
_GELU_STEP = 2.0**-8  # of GELU's input
_GELU_LIMIT = 127.99  # of GELU's input: 16 bits of these steps
_LEAST_HALF = 1e-3  # of a channel's half range, of the largest channel's

# No ratio may be larger than its multiplier and a shift of 1 hold, so no result's step is finer than its operand's
# by more than these.
_FIRST_FINEST = 2.0**-14
_SECOND_FINEST = 2.0**-13


@dataclass(frozen=True)
class _Grid:
    """real = (code - zero) * scale, by channel; ``zero`` holds whole numbers."""

    scale: Float64
    zero: Float64


@dataclass(frozen=True)
class _Operand:
    """What weights are rounded for: the grid of their input, the mean [in] of its codes less the zero points, and the
    codes' covariance [in, in], None for plain rounding."""

    grid: _Grid
    mean: Float64
    covariance: Float64 | None


@dataclass(frozen=True)
class _Linear:
    """int8 weights [out, in], float scale [out] of their accumulators, the sum of each row's weights times
    the zero points of the input, and what the rounding costs on average (real units, [out])."""

    weight: Int8
    scale: Float64
    zero: Float64
    correction: Float


def quantise_input(encoder: QuantisedEncoder, x: Float) -> Int8:
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
    grid = _input_grid(rows, 0.0)
    layers, scales = [], [grid.scale]
    for index, layer in enumerate(model.layers):
        try:
            # Numbers that are too large for a float are refused below, or stop the exact products.
            with np.errstate(over="ignore", invalid="ignore"):
                tensors = forward(layer, model.heads, model.epsilon, rows, lengths)
            if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
                raise ValueError("its numbers are beyond those of float32")
            output = _input_grid(tensors["output"], _norm_finest(layer.output_norm_gain, layer.output_norm_shift))
            layers.append(_quantise_layer(layer, model.heads, tensors, grid, output, gptq))
        except (IndexError, OverflowError, ValueError) as error:
            raise ModelError(f"layer {index} doesn't fit the integer formats: {error}") from error
        rows, grid = tensors["output"], output
        scales.append(grid.scale)
        if progress is not None:
            progress((index + 1) / len(model.layers))
    return QuantisedEncoder(model.heads, tuple(layers), np.stack(scales))


def _channel_grid(tensor: Float, consumer: Float64, balance: float, finest: float | Float64, *, symmetric: bool
                  ) -> _Grid:
    """int8 codes by channel, without clipping anything seen, no step below ``finest``.

    With half the range h_c and the largest weight w_c that consumes channel c: t_c = h_c^a / w_c^(1-a), scale
    s_c = t_c max_c(h_c / t_c) / 127. a = 1 uses the codes of each channel fully; below it, channels that meet
    small weights give up codes so that those weights keep theirs.
    """
    low, high = tensor.min(axis=0).astype(np.float64), tensor.max(axis=0).astype(np.float64)
    half = np.maximum(-low, high) if symmetric else (high - low) / 2
    half = np.maximum(half, max(half.max() * _LEAST_HALF, 1e-30))
    weights = np.maximum(consumer, max(consumer.max() * 1e-6, 1e-30))
    t = exact.power(half, balance) / exact.power(weights, 1 - balance)
    scale = np.maximum(t * (half / t).max() / _CODE, finest)
    if symmetric:
        return _Grid(scale, np.zeros_like(scale))
    middle = (high + low) / 2
    scale = np.maximum(scale, np.abs(middle) / _CODE)  # the zero point is a code itself
    return _Grid(scale, np.rint(-middle / scale))


def _input_grid(tensor: Float, finest: float | Float64) -> _Grid:
    return _channel_grid(tensor, np.ones(tensor.shape[1]), _INPUT_BALANCE, finest, symmetric=True)


def _norm_finest(gain: Float, shift: Float) -> Float64:
    """Finest step of a LayerNorm's output: its ratio and its offset must fit the second record."""
    return np.maximum(np.abs(_norm_ratio(gain)) * _SECOND_FINEST, np.abs(shift.astype(np.float64)) * 2.0**-20)


def _norm_ratio(gain: Float) -> Float64:
    return gain.astype(np.float64) * math.sqrt(len(gain)) / 2**17


def _largest(tensor: Float) -> float:
    return float(np.abs(tensor).max())


def _steps(weight: Float, grid: _Grid) -> Float64:
    """Accumulator scales [out] at which the weights, with the input's scales folded in, use their codes fully."""
    return np.abs(weight * grid.scale).max(axis=1) / _CODE


def _operand(tensor: Float, grid: _Grid, gptq: bool) -> _Operand:
    """``tensor`` [T, in] are the calibration rows, in real units."""
    codes = np.clip(np.rint(tensor / grid.scale) + grid.zero, -_CODE, _CODE).astype(np.int8)
    mean = codes.sum(axis=0, dtype=np.int64) / len(codes) - grid.zero
    return _Operand(grid, mean, covariance(codes) + _NOISE * np.eye(len(mean)) if gptq else None)


def _quantise_linear(weight: Float, operand: _Operand, target: float | Float64, bias: Float64) -> _Linear:
    """Fold the operand's scales into the weights [out, in], and round them by output channel. The accumulators are
    coarse enough for a multiplier with all its bits to ``target``, and for the bias."""
    folded = weight * operand.grid.scale
    scale = np.maximum.reduce([_steps(weight, operand.grid), target * np.full(len(bias), 2.0**-24),
                               np.abs(bias) / 2**28])
    steps = folded / scale[:, np.newaxis]
    if operand.covariance is None:
        rounded = np.clip(np.rint(steps), -_CODE, _CODE).astype(np.int8)
    else:
        rounded = round_gptq(steps, operand.covariance, _CODE)
    codes = rounded.astype(np.float64)
    error = folded - codes * scale[:, np.newaxis]
    return _Linear(rounded, scale, codes @ operand.grid.zero,
                   exact.product(error, operand.mean[np.newaxis])[:, 0])


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
    room = 30 - np.frexp(np.maximum(np.abs(offset), 1.0))[1]  # of a signed 32-bit offset
    limit = np.clip(room, 1, 31).astype(np.int64)
    multiplier, shift = kernels.fit_multiplier(ratio, 15)
    multiplier = np.where(shift > limit, np.rint(np.ldexp(ratio, limit)).astype(np.int64), multiplier)
    shift = np.minimum(shift, limit)
    whole = np.rint(np.ldexp(offset, shift))
    if np.abs(whole).max() >= 2**31:
        raise ValueError(f"an offset must be within +-2**30 int8 steps, not {np.abs(offset).max():g}")
    zeros = np.zeros(len(ratio)) if zero is None else zero
    return SecondParameters(whole.astype(np.int32), multiplier.astype(np.int16), shift.astype(np.uint8),
                            np.clip(zeros, -128, 127).astype(np.int8))


def _norm(gain: Float, shift: Float, grid: _Grid) -> SecondParameters:
    """LayerNorm from 17 fraction bits of (h - mean) / sqrt(sum of squares) to the grid of its output."""
    return _second(_norm_ratio(gain) / grid.scale, shift / grid.scale + grid.zero)


def _residual(grid: _Grid, target: float) -> SecondParameters:
    return _second(grid.scale / target, -grid.zero * grid.scale / target)


def _quantise_layer(layer: FloatLayer, heads: int, tensors: dict[str, Float], x: _Grid, output: _Grid, gptq: bool
                    ) -> QuantisedLayer:
    hidden = layer.query_weight.shape[1]
    nothing = np.zeros(hidden)

    def tensor_scale(name: str, weight: Float) -> float:
        return max(_largest(tensors[name]) / _CODE, float(_steps(weight, x).max()) * _FIRST_FINEST, 1e-30)

    def sum_scale(name: str, weight: Float, operand: _Grid, residual: _Grid) -> float:
        """Leaves headroom over the largest sum seen on a 16-bit grid."""
        return max(_largest(tensors[name]) * _SUM_HEADROOM / (2**15 - 1),
                   float(_steps(weight, operand).max()) * _FIRST_FINEST, float(residual.scale.max()) * _SECOND_FINEST)

    def widest(weight: Float) -> Float64:
        return np.abs(weight).max(axis=0).astype(np.float64)

    inputs = _operand(tensors["x"], x, gptq)
    query_bias = layer.query_bias.astype(np.float64)
    query_scale = tensor_scale("query", layer.query_weight)
    query = _quantise_linear(layer.query_weight, inputs, query_scale, query_bias)
    key_scale = tensor_scale("key", layer.key_weight)
    key = _quantise_linear(layer.key_weight, inputs, key_scale, nothing)
    steps = query_scale * key_scale / math.sqrt(hidden / heads) * _LOG2_E * 256
    score = kernels.fit_multiplier(min(steps, _WHOLE_SOFTMAX))

    value_grid = _channel_grid(tensors["value"], nothing, 1.0, _steps(layer.value_weight, x) * _FIRST_FINEST,
                               symmetric=True)
    value = _quantise_linear(layer.value_weight, inputs, value_grid.scale, nothing)
    row_multiplier, row_shift = kernels.fit_multiplier(value.scale / value_grid.scale)
    context_grid = _channel_grid(tensors["context"], nothing, 1.0, value_grid.scale / 2**9 * _SECOND_FINEST,
                                 symmetric=True)

    attention_scale = sum_scale("attention_sum", layer.output_weight, context_grid, x)
    attention_bias = output_bias(layer) + exact.product(value.correction[np.newaxis], layer.output_weight)[0]
    attention = _quantise_linear(layer.output_weight, _operand(tensors["context"], context_grid, gptq),
                                 attention_scale, attention_bias)
    norm_grid = _channel_grid(tensors["attention_norm"], widest(layer.ffn_in_weight), _NORM_BALANCE,
                              _norm_finest(layer.attention_norm_gain, layer.attention_norm_shift), symmetric=False)

    ffn_in_bias = layer.ffn_in_bias.astype(np.float64)
    unit = _gelu_units(tensors["ffn_in"], _steps(layer.ffn_in_weight, norm_grid))
    ffn_in = _quantise_linear(layer.ffn_in_weight, _operand(tensors["attention_norm"], norm_grid, gptq),
                              unit * _GELU_STEP, ffn_in_bias)
    with_zero = np.concatenate([tensors["ffn_hidden"], np.zeros((1, len(unit)), np.float32)])
    hidden_grid = _channel_grid(with_zero, widest(layer.ffn_out_weight), _GELU_BALANCE,
                                unit / 1024 * _SECOND_FINEST, symmetric=False)
    ffn_scale = sum_scale("output_sum", layer.ffn_out_weight, hidden_grid, norm_grid)
    ffn_out_bias = layer.ffn_out_bias.astype(np.float64)
    ffn_out = _quantise_linear(layer.ffn_out_weight, _operand(tensors["ffn_hidden"], hidden_grid, gptq),
                               ffn_scale, ffn_out_bias)

    return QuantisedLayer(
        query_weight=query.weight, query=_first(query, query_bias, query_scale),
        key_weight=key.weight, key=_first(replace(key, correction=nothing), nothing, key_scale),
        score=ScalarParameters(int(score[0]), int(score[1])),
        value_weight=value.weight,
        value=RowParameters(row_multiplier.astype(np.uint16), row_shift.astype(np.uint8)),
        context=_second(value_grid.scale / context_grid.scale / 2**9, nothing),
        output_weight=attention.weight, output=_first(attention, attention_bias, attention_scale),
        output_residual=_residual(x, attention_scale),
        attention_norm=_norm(layer.attention_norm_gain, layer.attention_norm_shift, norm_grid),
        ffn_in_weight=ffn_in.weight, ffn_in=_first(ffn_in, ffn_in_bias, unit * _GELU_STEP),
        gelu=_second(unit / 1024 / hidden_grid.scale, np.zeros(len(unit)), hidden_grid.zero),
        ffn_out_weight=ffn_out.weight, ffn_out=_first(ffn_out, ffn_out_bias, ffn_scale),
        ffn_residual=_residual(norm_grid, ffn_scale),
        output_norm=_norm(layer.output_norm_gain, layer.output_norm_shift, output),
    )


def _gelu_units(ffn_in: Float, steps: Float64) -> Float64:
    """What one stands for at GELU's input, by channel: 1, or the smallest power of two with which everything seen is
    below 128. GELU(u x) is u GELU(x) but for 0.17 u near zero, a third of a step of such a channel's codes."""
    excess = np.maximum(ffn_in.max(axis=0) / _GELU_LIMIT, steps / _GELU_STEP * _FIRST_FINEST)
    return np.ldexp(1.0, np.maximum(np.frexp(excess)[1], 0))
