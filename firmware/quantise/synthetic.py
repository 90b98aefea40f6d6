"""Random quantised encoders of any shape, for tests and benchmarks: every integer kernel sees its full
range."""

import numpy as np
from numpy.typing import NDArray

from ...sim.golden.kernels import fit_multiplier
from ...sim.golden.parameters import (
    FirstParameters,
    QuantisedEncoder,
    QuantisedLayer,
    RowParameters,
    ScalarParameters,
    SecondParameters,
)

__all__ = ["random_encoder", "random_tokens"]

_SIGMA = 45.0  # deviation of int8 tensors


def random_tokens(rng: np.random.Generator, length: int, hidden: int) -> NDArray[np.int8]:
    """An int8 input [length, hidden]."""
    return np.clip(np.rint(rng.normal(0, _SIGMA, (length, hidden))), -128, 127).astype(np.int8)


def _first(rng: np.random.Generator, width: int, ratio: float, bias: float, zero: bool) -> FirstParameters:
    multiplier, shift = fit_multiplier(ratio * rng.uniform(0.7, 1.3, width))
    return FirstParameters(
        np.rint(rng.normal(0, bias, width)).astype(np.int32),
        multiplier.astype(np.uint16),
        shift.astype(np.uint8),
        rng.integers(-8, 9, width).astype(np.int8) if zero else np.zeros(width, np.int8),
    )


def _second(
    rng: np.random.Generator, width: int, ratio: float | NDArray[np.float64], offset: float
) -> SecondParameters:
    multiplier, shift = fit_multiplier(ratio * rng.uniform(0.7, 1.3, width), 15, 31)
    offsets = np.rint(rng.normal(0, offset, width) * np.ldexp(1.0, np.minimum(shift, 20)))
    return SecondParameters(
        offsets.astype(np.int32),
        multiplier.astype(np.int16),
        shift.astype(np.uint8),
        rng.integers(-8, 9, width).astype(np.int8),
    )


def _layer(rng: np.random.Generator, hidden: int, ffn: int, heads: int) -> QuantisedLayer:
    def weight(height: int, width: int) -> NDArray[np.int8]:
        return np.clip(np.rint(rng.normal(0, 40, (height, width))), -127, 127).astype(np.int8)

    narrow, wide = 40 * _SIGMA * hidden**0.5, 40 * _SIGMA * ffn**0.5  # deviations of the accumulators
    row_multiplier, row_shift = fit_multiplier(_SIGMA / narrow * rng.uniform(0.7, 1.3, hidden))
    scores = _SIGMA * _SIGMA * (hidden // heads) ** 0.5
    score_multiplier, score_shift = fit_multiplier(1.5 * 256 / scores)
    sign = rng.choice([-1.0, 1.0], hidden)
    norm = _SIGMA / 2**17 * hidden**0.5
    return QuantisedLayer(
        query_weight=weight(hidden, hidden),
        query=_first(rng, hidden, _SIGMA / narrow, narrow / 4, False),
        key_weight=weight(hidden, hidden),
        key=_first(rng, hidden, _SIGMA / narrow, 0, False),
        score=ScalarParameters(int(score_multiplier), int(score_shift)),
        value_weight=weight(hidden, hidden),
        value=RowParameters(row_multiplier.astype(np.uint16), row_shift.astype(np.uint8)),
        context=_second(rng, hidden, 2 / 2**9, 4),
        output_weight=weight(hidden, hidden),
        output=_first(rng, hidden, 4000 / narrow, narrow / 4, False),
        output_residual=_second(rng, hidden, 4000 / _SIGMA, 100),
        attention_norm=_second(rng, hidden, sign * norm, 4),
        ffn_in_weight=weight(ffn, hidden),
        ffn_in=_first(rng, ffn, 300 / narrow, narrow / 4, False),
        gelu=_second(rng, ffn, _SIGMA / 600, 4),
        ffn_out_weight=weight(hidden, ffn),
        ffn_out=_first(rng, hidden, 4000 / wide, wide / 4, False),
        ffn_residual=_second(rng, hidden, 4000 / _SIGMA, 100),
        output_norm=_second(rng, hidden, sign * norm, 4),
    )


def random_encoder(hidden: int, ffn: int, heads: int, layers: int = 1, seed: int = 0) -> QuantisedEncoder:
    """An encoder whose tensors spread over most of their range."""
    rng = np.random.default_rng(seed)
    return QuantisedEncoder(
        heads, tuple(_layer(rng, hidden, ffn, heads) for _ in range(layers)), np.ones((layers + 1, hidden))
    )
