"""The numbers of an encoder layer: floats as imported, and the integers that the quantiser makes of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Curve", "FirstParameters", "FloatLayer", "QuantisedEncoder", "QuantisedLayer", "RowParameters",
           "ScalarParameters", "SecondParameters"]

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class FloatLayer:
    """One post-LayerNorm encoder layer in float32; d hidden, f FFN width. Weights are [out, in]."""

    query_weight: Float32  # [d, d]
    query_bias: Float32  # [d]
    key_weight: Float32  # [d, d]
    key_bias: Float32  # [d]
    value_weight: Float32  # [d, d]
    value_bias: Float32  # [d]
    output_weight: Float32  # [d, d]
    output_bias: Float32  # [d]
    attention_norm_gain: Float32  # [d]
    attention_norm_shift: Float32  # [d]
    ffn_in_weight: Float32  # [f, d]
    ffn_in_bias: Float32  # [f]
    ffn_out_weight: Float32  # [d, f]
    ffn_out_bias: Float32  # [d]
    output_norm_gain: Float32  # [d]
    output_norm_shift: Float32  # [d]


@dataclass(frozen=True)
class FirstParameters:
    """First records of N columns: ``bias`` int32 [N], ``multiplier`` uint16 [N], ``shift`` uint8 [N] (1 to
    47), ``zero_point`` int8 [N]."""

    bias: Int32
    multiplier: NDArray[np.uint16]
    shift: NDArray[np.uint8]
    zero_point: Int8


@dataclass(frozen=True)
class SecondParameters:
    """Second records of N columns: ``offset`` int32 [N], ``multiplier`` int16 [N], ``shift`` uint8 [N] (1 to
    31), ``zero_point`` int8 [N]."""

    offset: Int32
    multiplier: NDArray[np.int16]
    shift: NDArray[np.uint8]
    zero_point: Int8


@dataclass(frozen=True)
class RowParameters:
    """Row records of N rows: ``multiplier`` uint16 [N], ``shift`` uint8 [N] (1 to 47)."""

    multiplier: NDArray[np.uint16]
    shift: NDArray[np.uint8]


@dataclass(frozen=True)
class ScalarParameters:
    """One mantissa (unsigned 16 bits) and shift (1 to 47)."""

    multiplier: int
    shift: int


@dataclass(frozen=True)
class Curve:
    """An activation, as chords of d in ``max(x, 0) - d(|x|)``: ``base`` and ``slope`` of 32 pieces, each ``2**width``
    steps of 2**-8 long; 16 fraction bits.

    Raises
    ------
    ValueError
        When a piece breaks a rule of ``docs/numerics.md``.
    """

    base: NDArray[np.int64]  # below 2**15
    slope: NDArray[np.int64]  # from -256 to 255
    width: int  # from 3 to 7

    def __post_init__(self) -> None:
        if not 3 <= self.width <= 7:
            raise ValueError(f"a piece must have a width from 3 to 7, not {self.width}")
        ends = self.base + np.multiply.outer((0, (1 << self.width) - 1), self.slope) + 32
        for name, values, low, high in (("base", self.base, 0, 2**15), ("slope", self.slope, -256, 256),
                                        ("base + slope * step + 32", ends[0], 0, 2**15),
                                        ("base + slope * step + 32", ends[1], 0, 2**15)):
            bad = (values < low) | (values >= high)
            if bad.any():
                piece = int(np.argmax(bad))
                raise ValueError(f"{name} of piece {piece} must be from {low} to {high - 1}, not {values[piece]}")


@dataclass(frozen=True)
class QuantisedLayer:
    """One post-LayerNorm encoder layer; d hidden, f FFN width. Weights are int8 [out, in] within +-127.

    Notes
    -----
    Key and value have no bias: the softmax ignores a key bias, a value bias is folded into ``output.bias``.
    """

    query_weight: Int8  # [d, d]
    query: FirstParameters  # d; zero points 0
    key_weight: Int8  # [d, d]
    key: FirstParameters  # d; biases and zero points 0
    score: ScalarParameters  # maps a score difference to log2 units with 8 fraction bits
    value_weight: Int8  # [d, d]
    value: RowParameters  # d
    context: SecondParameters  # d: the attention output
    output_weight: Int8  # [d, d]
    output: FirstParameters  # d: to the int16 grid of the residual sum
    output_residual: SecondParameters  # d: the layer's input to the same grid
    attention_norm: SecondParameters  # d
    ffn_in_weight: Int8  # [f, d]
    ffn_in: FirstParameters  # f: to 8 fraction bits
    gelu: SecondParameters  # f
    ffn_out_weight: Int8  # [d, f]
    ffn_out: FirstParameters  # d
    ffn_residual: SecondParameters  # d
    output_norm: SecondParameters  # d


@dataclass(frozen=True)
class QuantisedEncoder:
    """A stack of layers with the scales between them.

    ``scales`` is float [layers + 1, d]: real = int8 * scale, per channel, of the input of each layer and, behind the
    last, of its output. The input of layer i + 1 is the int8 output of layer i.
    """

    heads: int
    layers: tuple[QuantisedLayer, ...]
    scales: NDArray[np.float64]

    @property
    def input_scale(self) -> NDArray[np.float64]:
        """Of the first layer's input."""
        return self.output_scale_of(-1)

    @property
    def output_scale(self) -> NDArray[np.float64]:
        """Of the last layer's output."""
        return self.output_scale_of(len(self.layers) - 1)

    def output_scale_of(self, layer: int) -> NDArray[np.float64]:
        """Of the output of ``layer``; of the encoder's input for -1."""
        scale: NDArray[np.float64] = self.scales[layer + 1]
        return scale

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return int(self.layers[0].query_weight.shape[0])

    @property
    def ffn(self) -> int:
        """Width of the feed-forward network."""
        return int(self.layers[0].ffn_in_weight.shape[0])
