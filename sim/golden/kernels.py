"""Every operation of the accelerator in exact integers, in the words of ``docs/numerics.md``.

Arguments may be of any integer type; everything is computed in int64, which holds every intermediate exactly.
Matrices are [M, N]: rows of tokens, columns of channels (or of keys, in a softmax). Results are int8, or with
``bits=16`` int16: a wide tensor.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .parameters import Curve, FirstParameters, Int8, Int32, RowParameters, ScalarParameters, SecondParameters
from .tables import (
    EXP_BASE,
    EXP_SLOPE,
    GELU,
    RECIPROCAL_BASE,
    RECIPROCAL_DROP,
    RSQRT_BASE,
    RSQRT_DROP,
)

__all__ = [
    "RMS_SCALAR",
    "activation",
    "attention_output",
    "causal_mask",
    "curve",
    "exponential",
    "fit_multiplier",
    "gated",
    "gelu",
    "layer_norm",
    "layer_norm_statistics",
    "matmul",
    "mean_scalar",
    "normalise",
    "planes",
    "reciprocal",
    "reciprocal_square_root",
    "requantise",
    "residual",
    "rotation",
    "row_maximum",
    "row_requantise",
    "saturate",
    "scale1",
    "scale2",
    "shift_round",
    "softmax_numerators",
]

Int16 = NDArray[np.int16]
Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]
UInt16 = NDArray[np.uint16]


def _wide(x: ArrayLike) -> Int64:
    return np.asarray(x).astype(np.int64)


def _column(x: ArrayLike) -> Int64:
    return _wide(x)[:, np.newaxis]


def shift_round(x: ArrayLike, s: ArrayLike) -> Int64:
    """``x / 2**s`` rounded to nearest, ties towards plus infinity; ``s = 0`` leaves x as it is."""
    shift = _wide(s)
    return (_wide(x) + ((np.int64(1) << shift) >> 1)) >> shift


def saturate(x: ArrayLike, bits: int) -> Int64:
    """Clamp to the signed range of ``bits`` bits."""
    return np.clip(_wide(x), -(1 << bits - 1), (1 << bits - 1) - 1)


def scale1(x: ArrayLike, multiplier: ArrayLike, shift: ArrayLike) -> Int64:
    """First scaling: x 33 bits, multiplier unsigned 16 bits, shift 1 to 47; the result has 18 bits."""
    return saturate(shift_round(_wide(x) * _wide(multiplier), shift), 18)


def scale2(x: ArrayLike, offset: ArrayLike, multiplier: ArrayLike, shift: ArrayLike) -> Int64:
    """Second scaling: x 18 bits, offset 32, multiplier signed 16, shift 1 to 31; the result has 18 bits."""
    return saturate(shift_round(_wide(x) * _wide(multiplier) + _wide(offset), shift), 18)


def matmul(a: NDArray[np.int8] | NDArray[np.uint8] | Int16, b: Int8) -> Int32:
    """C[m, n] = sum_k A[m, k] * B[n, k]: a int8, uint8 or int16 [M, K], b int8 [N, K].

    A floating-point product of integers is exact while every sum stays below the width of the mantissa.

    Raises
    ------
    ValueError
        When the shapes don't fit each other, or K is above 65536 or a so large that an int32 could overflow.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"a and b must be [M, K] and [N, K], not {list(a.shape)} and {list(b.shape)}")
    if a.shape[1] > 65536:
        raise ValueError(f"K must be at most 65536, not {a.shape[1]}")
    wide = a.dtype == np.int16
    peak = int(np.abs(a.astype(np.int32)).max(initial=0)) if wide else 255 if a.dtype == np.uint8 else 128
    largest = a.shape[1] * peak * 128
    if wide and largest >= 2**31:
        raise ValueError(f"K times the largest |a| must be below 2**24, not {a.shape[1]} times {peak}")
    if largest <= 2**24:
        return (a.astype(np.float32) @ b.astype(np.float32).T).astype(np.int32)
    return (a.astype(np.float64) @ b.astype(np.float64).T).astype(np.int32)


def planes(x: Int8 | UInt8 | Int16 | UInt16 | Int32, word: int) -> UInt8:
    """A tensor [M, N] of B bytes an element as it lies in memory [M, B * N]: of each ``word`` columns the lowest bytes,
    then the next higher ones, and so on.

    Of a wide tensor, x = 256 * upper + lower, with the upper plane int8 and the lower uint8. N is a multiple of
    ``word``.
    """
    (m, n), size = x.shape, x.itemsize
    data = x.astype(x.dtype.newbyteorder("<")).view(np.uint8)
    return data.reshape(m, n // word, word, size).swapaxes(2, 3).reshape(m, size * n)


def _first(acc: ArrayLike, first: FirstParameters) -> Int64:
    return scale1(_wide(acc) + _wide(first.bias), first.multiplier, first.shift)


def _second(x: ArrayLike, second: SecondParameters) -> Int64:
    return scale2(x, second.offset, second.multiplier, second.shift)


def _result(x: Int64, bits: int) -> Any:
    return saturate(x, bits).astype({8: np.int8, 16: np.int16}[bits])


def requantise(acc: ArrayLike, first: FirstParameters, bits: int = 8) -> Any:
    """Accumulators [M, N] to ``bits`` bits, by column."""
    return _result(_first(acc, first) + _wide(first.zero_point), bits)


def row_requantise(acc: ArrayLike, rows: RowParameters, bits: int = 8) -> Any:
    """Accumulators [M, N] to ``bits`` bits, by row."""
    return _result(scale1(acc, _column(rows.multiplier), _column(rows.shift)), bits)


def curve(x: ArrayLike, table: Curve) -> Int64:
    """The activation of x (16 bits, 8 fraction bits) with 10 fraction bits: max(x, 0) - d(|x|)."""
    x = _wide(x)
    a = np.abs(x)
    pieces, width = len(table.base), table.width
    i, r = np.minimum(a >> width, pieces - 1), a & (1 << width) - 1
    d = np.where(a >= pieces << width, 0, (_wide(table.base)[i] + _wide(table.slope)[i] * r + 32) >> 6)
    return (np.maximum(x, 0) << 2) - d


def activation(
    acc: ArrayLike, first: FirstParameters, second: SecondParameters, table: Curve, bits: int = 8
) -> Any:
    """Accumulators [M, N] through a curve to ``bits`` bits, by column."""
    x = saturate(_first(acc, first), 16)
    return _result(_second(curve(x, table), second) + _wide(second.zero_point), bits)


def gelu(acc: ArrayLike, first: FirstParameters, second: SecondParameters, bits: int = 8) -> Any:
    """Accumulators [M, N] through GELU to ``bits`` bits, by column."""
    return activation(acc, first, second, GELU, bits)


def gated(
    acc: ArrayLike, first: FirstParameters, operand: ArrayLike, second: SecondParameters, table: Curve, bits: int = 8
) -> Any:
    """Accumulators [M, N] through a curve, times the operand (int8 or int16 [M, N]), to ``bits`` bits by column; the
    multipliers of ``second`` don't count."""
    g = curve(saturate(_first(acc, first), 16), table)
    return _result(scale2(g, second.offset, operand, second.shift) + _wide(second.zero_point), bits)


def causal_mask(mask: ArrayLike, rows: int, diagonal: int) -> NDArray[np.bool_]:
    """bool [rows, N]: row i sees those columns of ``mask`` (bool [N]) that are not beyond i + ``diagonal``."""
    keep = np.asarray(mask, dtype=bool)
    return keep & (np.arange(keep.size) <= np.arange(rows)[:, np.newaxis] + diagonal)


def row_maximum(acc: ArrayLike, mask: ArrayLike) -> Int32:
    """Largest score of each row over the columns where ``mask`` (bool [N] or [M, N]) is true; -2**31 without any."""
    return np.where(np.asarray(mask, dtype=bool), _wide(acc), -(2**31)).max(axis=1).astype(np.int32)


def exponential(u: ArrayLike, wide: bool = False) -> Any:
    """255 * 2**-(u / 256), rounded, for u from 0 to 4095: uint8, or with ``wide`` 4 fraction bits of it, uint16."""
    u = _wide(u)
    i, r, n = u >> 3 & 31, u & 7, u >> 8
    e = shift_round(EXP_BASE[i] - EXP_SLOPE[i] * r, (6 if wide else 10) + n)
    return e.astype(np.uint16 if wide else np.uint8)


def softmax_numerators(
    acc: ArrayLike, mask: ArrayLike, scalar: ScalarParameters, top: ArrayLike | None = None, wide: bool = False
) -> tuple[Any, Int64]:
    """Numerators e [M, N] of scores [M, N], and their sums Z [M].

    ``mask`` is bool [N] or [M, N] (true: takes part); ``scalar`` maps a difference of scores to log2 units with
    8 fraction bits; ``top`` [M] is the maximum of each row, found here unless given. With ``wide``, e is uint16.
    """
    top = row_maximum(acc, mask) if top is None else top
    u = np.clip(scale1(_column(top) - _wide(acc), scalar.multiplier, scalar.shift), 0, 4095)
    e = exponential(u, wide)
    e = np.where(np.asarray(mask, dtype=bool), e, e.dtype.type(0))
    return e, e.sum(axis=1, dtype=np.int64)


def _floor_log2(x: Int64) -> Int64:
    return np.frexp(x.astype(np.float64))[1].astype(np.int64) - 1  # exact: x is below 2**53


def _mantissa(x: Int64, k: Int64) -> Int64:
    """The 20 bits below the leading one of x, which is bit k; lower ones are dropped."""
    return (x << np.maximum(20 - k, 0) >> np.maximum(k - 20, 0)) - 2**20


def _interpolate(base: Int64, drop: Int64, r: Int64) -> Int64:
    return (base - (drop * r >> 8) + 8) >> 4


def reciprocal(total: ArrayLike) -> tuple[Int64, Int64]:
    """(m, s) for which ``scale1(a, m, s)`` is a / total with 9 fraction bits; total below 2**24, 0 is 1."""
    z = np.maximum(_wide(total), 1)
    k = _floor_log2(z)
    t = _mantissa(z, k)
    i, r = t >> 14, t >> 6 & 255
    return _interpolate(RECIPROCAL_BASE[i], RECIPROCAL_DROP[i], r), k + 6


def reciprocal_square_root(v: ArrayLike) -> tuple[Int64, Int64]:
    """(m, s) for which ``scale1(a, m, s)`` is a / sqrt(v) with 17 fraction bits; v from 64 to 2**52."""
    v = _wide(v)
    k = _floor_log2(v)
    t = _mantissa(v, k)
    h, odd = k >> 1, k & 1
    i, r = 32 * odd + (t >> 15), t >> 7 & 255
    return _interpolate(RSQRT_BASE[i], RSQRT_DROP[i], r), h - 2


def attention_output(acc: ArrayLike, total: ArrayLike, second: SecondParameters, bits: int = 8) -> Any:
    """Sums of numerators times values [M, N], divided by the row's total [M], to ``bits`` bits by column."""
    return normalise(acc, 0, *reciprocal(total), second, bits)


def normalise(
    x: ArrayLike, mean: ArrayLike, multiplier: ArrayLike, shift: ArrayLike, second: SecondParameters, bits: int = 8
) -> Any:
    """x - mean, scaled by the row's multiplier and shift ([M] each), then to ``bits`` bits by column."""
    rows = [np.reshape(_wide(value), (-1, 1)) for value in (mean, multiplier, shift)]
    return _result(_second(scale1(_wide(x) - rows[0], *rows[1:]), second) + _wide(second.zero_point), bits)


def residual(acc: ArrayLike, first: FirstParameters, operand: ArrayLike, second: SecondParameters) -> Int16:
    """Accumulators [M, N] plus the residual operand (int8 or int16 [M, N]), on one 16-bit grid."""
    return saturate(_first(acc, first) + _second(operand, second), 16).astype(np.int16)


def layer_norm_statistics(h: ArrayLike, scalar: ScalarParameters) -> tuple[Int64, Int64, Int64]:
    """Mean, and (m, s) of 1 / sqrt(V), of each row of h (16 bits [M, N]); ``scalar`` is 256 / N."""
    h = _wide(h)
    return statistics_of_sums(h.sum(axis=1), (h * h).sum(axis=1), scalar)


def statistics_of_sums(s1: Int64, s2: Int64, scalar: ScalarParameters) -> tuple[Int64, Int64, Int64]:
    """:func:`layer_norm_statistics` of rows whose values sum to ``s1``, and their squares to ``s2`` [M]."""
    mean8 = shift_round(s1 * scalar.multiplier, scalar.shift)
    v = np.maximum(s2 - shift_round(mean8 * s1, 8), 64)
    return saturate(shift_round(mean8, 8), 16), *reciprocal_square_root(v)


def layer_norm(h: ArrayLike, scalar: ScalarParameters, second: SecondParameters, bits: int = 8) -> Any:
    """LayerNorm of the rows of h (16 bits [M, N]) to ``bits`` bits, by column; RMSNorm with ``scalar`` =
    ``RMS_SCALAR``."""
    return normalise(h, *layer_norm_statistics(h, scalar), second, bits)


def rotation(position: int, width: int, base: float = 10000.0) -> Int8:
    """The rotary embedding of ``position`` for heads of ``width`` columns as a B of :func:`matmul`, in steps of 1/127.

    Columns 2 i and 2 i + 1 turn by ``position * base ** (-2 i / width)`` (Su et al., arXiv 2104.09864, 3.2.2): only
    blocks of two by two on the diagonal are not zero.
    """
    angle = position * base ** (-np.arange(0, width, 2) / width)
    cosine, sine = np.rint(127 * np.cos(angle)), np.rint(127 * np.sin(angle))
    even = np.arange(0, width, 2)
    matrix = np.zeros((width, width), np.int8)
    matrix[even, even], matrix[even + 1, even + 1] = cosine, cosine
    matrix[even, even + 1], matrix[even + 1, even] = -sine, sine
    return matrix


#: The mean of an RMSNorm is zero.
RMS_SCALAR = ScalarParameters(0, 1)


def fit_multiplier(ratio: ArrayLike, bits: int = 16, max_shift: int = 47) -> tuple[Int64, Int64]:
    """(m, s) with m / 2**s as close to ``ratio`` as ``bits`` bits hold it.

    A first record takes 16 bits and shifts to 47; a second record 15 bits (of magnitude: a negative ratio
    gives a negative m) and shifts to 31. A ratio of zero gives m = 0.

    Raises
    ------
    ValueError
        When a ratio is not finite, or too large for a shift of 1.
    """
    ratio = np.asarray(ratio, dtype=np.float64)
    size, limit = np.abs(ratio), 2**bits - 1
    bad = ~(np.rint(size * 2) <= limit)
    if bad.any():
        raise ValueError(f"a ratio must be finite and at most {limit / 2:g}, not {ratio[bad].flat[0]:g}")
    s = np.clip(bits - np.frexp(size)[1], 1, max_shift).astype(np.int64)  # size * 2**s < 2**bits
    s -= np.rint(np.ldexp(size, s)) > limit
    s = np.where(size == 0, max_shift, s)
    return np.rint(np.ldexp(ratio, s)).astype(np.int64), s


def mean_scalar(width: int) -> ScalarParameters:
    """256 / width, for :func:`layer_norm_statistics`."""
    m, s = fit_multiplier(np.array(256 / width))
    return ScalarParameters(int(m), int(s))
