"""The tables of ``docs/numerics.md``, computed from the functions that they approximate."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXP_BASE", "EXP_SLOPE", "GELU_BASE", "GELU_SLOPE", "RECIPROCAL_BASE", "RECIPROCAL_DROP",
           "RSQRT_BASE", "RSQRT_DROP", "chord", "exp_curve", "gelu_curve", "rsqrt_argument"]

Table = NDArray[np.int64]


def chord(f: Callable[[float], float], start: float, width: float) -> tuple[float, float]:
    """Start and rise of the chord of ``f`` over ``width``, moved by half of its error in the middle."""
    p, q, middle = f(start), f(start + width), f(start + width / 2)
    return p + (middle - (p + q) / 2) / 2, q - p


def exp_curve(t: float) -> float:
    """255 * 2**-t with 10 fraction bits."""
    return 255 * 2**10 * 2.0**-t


def gelu_curve(a: float) -> float:
    """d = x * Phi(-x) with 16 fraction bits, at x = a / 256."""
    return a / 256 * math.erfc(a / 256 / math.sqrt(2)) / 2 * 2**16


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

_gelu = [chord(gelu_curve, 32 * i, 32) for i in range(32)]
#: a * Phi(-a): value and rise per 1/256 of each of 32 pieces from 0 to 4.
GELU_BASE = _integers([base for base, _ in _gelu])
GELU_SLOPE = _integers([rise / 32 for _, rise in _gelu])

_reciprocal = _integers([2**19 / (1 + i / 64) for i in range(65)])
#: 1 / (1 + t): value and fall over each of 64 pieces.
RECIPROCAL_BASE = _reciprocal[:-1]
RECIPROCAL_DROP = _reciprocal[:-1] - _reciprocal[1:]

_rsqrt_start = _integers([2**19 / math.sqrt(rsqrt_argument(i)) for i in range(64)])
_rsqrt_end = _integers([2**19 / math.sqrt(rsqrt_argument(i) + (1 + i // 32) / 32) for i in range(64)])
#: 1 / sqrt(v): value and fall over each of 32 pieces from 1 to 2 and 32 from 2 to 4.
RSQRT_BASE = _rsqrt_start
RSQRT_DROP = _rsqrt_start - _rsqrt_end
