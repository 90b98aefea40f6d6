"""The tables of ``docs/numerics.md``, computed from the functions that they approximate."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .parameters import Curve

__all__ = ["ACTIVATIONS", "CURVES", "EXP_BASE", "EXP_SLOPE", "GELU", "RECIPROCAL_BASE", "RECIPROCAL_DROP",
           "RSQRT_BASE", "RSQRT_DROP", "chord", "curve_of", "exp_curve", "rsqrt_argument"]

Table = NDArray[np.int64]


def chord(f: Callable[[float], float], start: float, width: float) -> tuple[float, float]:
    """Start and rise of the chord of ``f`` over ``width``, moved by half of its error in the middle."""
    p, q, middle = f(start), f(start + width), f(start + width / 2)
    return p + (middle - (p + q) / 2) / 2, q - p


def exp_curve(t: float) -> float:
    """255 * 2**-t with 10 fraction bits."""
    return 255 * 2**10 * 2.0**-t


def rsqrt_argument(index: int) -> float:
    """The mantissa, from 1 to 4, at which piece ``index`` (0 to 63) of the reciprocal square root starts."""
    odd, j = divmod(index, 32)
    return (1 + odd) * (1 + j / 32)


def _integers(values: list[float]) -> Table:
    return np.array([round(value) for value in values], dtype=np.int64)


_exp = [chord(exp_curve, i / 32, 1 / 32) for i in range(32)]
#: 2**-t: value and fall per 1/256 of each of 32 pieces of an octave.
EXP_BASE = _integers([base for base, _ in _exp])
EXP_SLOPE = _integers([-rise / 8 for _, rise in _exp])

def _sigmoid(x: float) -> float:
    return math.exp(min(x, 0)) / (1 + math.exp(-abs(x)))


#: Activations f with an even max(x, 0) - f(x).
ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "gelu": lambda x: x * math.erfc(-x / math.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    "silu": lambda x: x * _sigmoid(x),
    "hard_swish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "relu": lambda x: max(x, 0.0),
}


def curve_of(activation: Callable[[float], float], width: int) -> Curve:
    """The chords of an activation f with an even ``max(x, 0) - f(x)``, in pieces of ``2**width`` steps of 2**-8."""
    step = 1 << width
    chords = [chord(lambda a: -activation(-a / 256) * 2**16, step * i, step) for i in range(32)]
    return Curve(_integers([base for base, _ in chords]), _integers([rise / step for _, rise in chords]), width)


#: Of each the width at which its largest error is least.
CURVES: dict[str, Curve] = {name: curve_of(ACTIVATIONS[name], width) for name, width in (
    ("gelu", 5), ("gelu_tanh", 5), ("quick_gelu", 6), ("silu", 6), ("hard_swish", 5), ("relu", 3))}
#: The curve that the hardware has built in.
GELU = CURVES["gelu"]

_reciprocal = _integers([2**19 / (1 + i / 64) for i in range(65)])
#: 1 / (1 + t): value and fall over each of 64 pieces.
RECIPROCAL_BASE = _reciprocal[:-1]
RECIPROCAL_DROP = _reciprocal[:-1] - _reciprocal[1:]

_rsqrt_start = _integers([2**19 / math.sqrt(rsqrt_argument(i)) for i in range(64)])
_rsqrt_end = _integers([2**19 / math.sqrt(rsqrt_argument(i) + (1 + i // 32) / 32) for i in range(64)])
#: 1 / sqrt(v): value and fall over each of 32 pieces from 1 to 2 and 32 from 2 to 4.
RSQRT_BASE = _rsqrt_start
RSQRT_DROP = _rsqrt_start - _rsqrt_end
