"""Sums and functions that give the same bits on every machine.

A sum of floats depends on its order, and the order on library, threads and CPU. So what is summed here is first
rounded to multiples of a power of two, so coarse that no partial sum needs more than the 53 bits of a float64: then
every order gives the same sum, the exact one. All else is made of + - * /, square roots and rounding, of which
IEEE 754 fixes each bit; the libraries' exp, erf and pow differ between CPUs.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["cholesky", "exponential", "fine_product", "gelu", "mean", "normalise", "on_grid", "power", "product",
           "total"]

Float = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]

_MANTISSA = 53
_ROWS = 1024  # of a product at a time: the temporaries stay small
_BLOCK = 64  # of a factorisation
_LOG2 = 0.6931471805599453


def on_grid(x: Float, bits: int, axis: int | None = None) -> Float64:
    """x rounded to whole steps, each a power of two, of which at most 2**bits make the largest entry; one step for
    each line along ``axis``, for all of x unless given."""
    wide = np.asarray(x, dtype=np.float64)
    top = np.abs(wide).max(axis=axis, keepdims=True, initial=0.0)
    exponent = np.maximum(np.frexp(top)[1] - bits, -1000)
    steps = wide * np.ldexp(1.0, -exponent)
    np.rint(steps, out=steps)
    steps *= np.ldexp(1.0, exponent)
    return steps


def _bits(count: int) -> int:
    """That both factors of ``count`` products may have, so that every sum of these is exact."""
    return (_MANTISSA - (count - 1).bit_length()) // 2


def product(a: Float, b: Float) -> Float:
    """C[m, n] = sum_k a[m, k] b[n, k], in the dtype of a, with the rows of both on grids of some 21 bits; also of
    stacks of matrices."""
    bits = _bits(a.shape[-1])
    right = np.swapaxes(on_grid(b, bits, -1), -1, -2)
    result = np.empty((*a.shape[:-1], b.shape[-2]), a.dtype)
    for at in range(0, a.shape[-2], _ROWS):
        part = (..., slice(at, at + _ROWS), slice(None))
        result[part] = on_grid(a[part], bits, -1) @ right
    return result


def fine_product(a: Float64, b: Float64) -> Float64:
    """As :func:`product`, to twice as many bits: each factor is the sum of a coarse and a fine part."""
    bits = _bits(a.shape[-1])
    a_coarse, b_coarse = on_grid(a, bits, -1), on_grid(b, bits, -1)
    a_fine, b_fine = on_grid(a - a_coarse, bits, -1), on_grid(b - b_coarse, bits, -1)
    crossed: Float64 = a_coarse @ b_fine.T + a_fine @ b_coarse.T
    return a_coarse @ b_coarse.T + crossed


def total(x: Float, axis: int) -> Float64:
    """The sum along an axis, which stays, of length 1."""
    bits = _MANTISSA - (x.shape[axis] - 1).bit_length()
    return np.asarray(on_grid(x, bits, axis).sum(axis=axis, keepdims=True))


def mean(x: Float, axis: int) -> Float64:
    """The mean along an axis, which stays, of length 1."""
    return total(x, axis) / x.shape[axis]


def normalise(h: Float, gain: Float, shift: Float, epsilon: float) -> tuple[Float, Float64]:
    """LayerNorm of each row, in the dtype of h, and the variances [rows]. A row of float32 without any variance gives
    the shift."""
    result = np.empty_like(h)
    variances = np.empty(len(h))
    for at in range(0, len(h), _ROWS):
        part = slice(at, at + _ROWS)
        deviation = h[part] - mean(h[part], 1)
        variance = mean(deviation * deviation, 1)
        result[part] = deviation / np.sqrt(np.maximum(variance + epsilon, 1e-300)) * gain + shift
        variances[part] = variance[:, 0]
    return result, variances


def power(x: ArrayLike, exponent: float) -> Float64:
    """x ** exponent for x >= 0 and an exponent from 0 to 1 with at most 8 binary digits, by square roots."""
    root = np.asarray(x, dtype=np.float64)
    result = root if exponent == 1 else np.ones_like(root)
    digits = round(exponent * 256)
    for place in range(7, -1, -1):
        root = np.sqrt(root)
        if digits >> place & 1:
            result = result * root
    return result


_POWERS = np.array([float(power(2.0, i / 256)) for i in range(256)])


def exponential(x: Float) -> Float64:
    """e ** x for x <= 0, within 1e-12 of it, relatively; as if x were -500 below that."""
    t = np.maximum(np.asarray(x, dtype=np.float64), -500.0) * (256 / _LOG2)
    whole = np.rint(t)
    r = (t - whole) * (_LOG2 / 256)
    index = whole.astype(np.int64)
    series = 1 + r * (1 + r * (0.5 + r * (1 / 6)))
    return np.ldexp(_POWERS[index & 255] * series, (index >> 8).astype(np.int32))


_NODES = 64  # of the tables of the normal distribution, to a unit, from 0 to 8
_DENSITY = np.array([float(exponential(np.array(-(i / _NODES) ** 2 / 2))) for i in range(8 * _NODES + 1)]
                    ) / math.sqrt(2 * math.pi)


def _integral() -> Float64:
    """Phi at the nodes: from each to the next by Taylor's series around the point halfway."""
    values = [0.5]
    for i in range(8 * _NODES):
        middle, half = (i + 0.5) / _NODES, 0.5 / _NODES
        density = float(exponential(np.array(-middle * middle / 2))) / math.sqrt(2 * math.pi)
        values.append(values[-1] + 2 * half * density * (1 + half * half * (middle * middle - 1) / 6))
    return np.array(values)


_PHI = _integral()


def gelu(x: Float) -> Float:
    """x Phi(x), in the dtype of x: Phi by Taylor's series from the nearest of 513 values, within 1e-10."""
    result = np.empty_like(x)
    for at in range(0, len(x), 64):
        part = x[at : at + 64].astype(np.float64)
        size = np.minimum(np.abs(part), 8.0)
        index = np.rint(size * _NODES).astype(np.int64)
        z = index / _NODES
        s = size - z
        series = 1 - s * (z / 2 - s * ((z * z - 1) / 6 - s * (z * (z * z - 3) / 24)))
        upper = _PHI[index] + _DENSITY[index] * s * series
        result[at : at + 64] = part * np.where(part < 0, 1 - upper, upper)
    return result


def cholesky(matrix: Float64) -> Float64:
    """The upper triangle U with U^T U = matrix, by blocks of rows.

    Raises
    ------
    ValueError
        When the matrix is not positive definite.
    """
    rest = np.array(matrix, dtype=np.float64)
    count = len(rest)
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        for i in range(start, stop):
            if not rest[i, i] > 0:
                raise ValueError(f"a covariance must be positive definite, and pivot {i} is {rest[i, i]:g}")
            rest[i, i:] /= math.sqrt(rest[i, i])
            rest[i + 1 : stop, i + 1 :] -= rest[i, i + 1 : stop, np.newaxis] * rest[i, i + 1 :]
        below = np.ascontiguousarray(rest[start:stop, stop:].T)
        rest[stop:, stop:] -= fine_product(below, below)
    return np.triu(rest)
