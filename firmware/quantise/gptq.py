"""GPTQ: rounding of a weight matrix that lets later columns make good the errors of earlier ones."""

import numpy as np
from numpy.typing import NDArray

from . import exact

__all__ = ["covariance", "round_gptq"]

_BLOCK = 64
_ROWS = 1024  # 1024 products of two codes are below 2**24, so float32 sums them exactly


def covariance(codes: NDArray[np.int8]) -> NDArray[np.float64]:
    """[in, in] of the rows of codes [T, in], the population's: from sums of whole numbers."""
    count, width = codes.shape
    squares, sums = np.zeros((width, width)), np.zeros(width)
    for at in range(0, count, _ROWS):
        part = codes[at : at + _ROWS].astype(np.float32)
        squares += part.T @ part
        sums += part.sum(axis=0)
    centre = sums / count
    return squares / count - centre[:, np.newaxis] * centre


def round_gptq(weight: NDArray[np.float64], covariance: NDArray[np.float64], limit: int = 127
               ) -> NDArray[np.int8]:
    """Round a matrix to integers so that its products with the inputs stay close.

    Follows Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
    Transformers" (2022), with the columns in the order of falling input variance. With the covariance H = U^T U, U an
    upper triangle, and the errors e of a row's weights, the mean square error of its product is |U e|^2. Its terms are
    made small from the last to the first, each by the choice of one weight: the last holds e_n alone, term j only e_j
    and the errors that are known by then::

        q_j = round(w_j + sum_{i > j} U_ji e_i / U_jj),  e_j = w_j - q_j

    Parameters
    ----------
    weight
        [out, in], in units of its steps: plain rounding would be ``rint(weight)``.
    covariance
        [in, in] of the inputs, positive definite.
    limit
        Largest magnitude of the result.
    """
    order = np.argsort(np.diag(covariance), kind="stable")  # the last comes first
    upper = exact.cholesky(covariance[np.ix_(order, order)])
    upper /= np.diag(upper)[:, np.newaxis]
    wanted = np.ascontiguousarray(weight.T[order])
    rounded, errors = np.empty_like(wanted), np.zeros_like(wanted)
    for start in reversed(range(0, len(wanted), _BLOCK)):
        stop = min(start + _BLOCK, len(wanted))
        moved = wanted[start:stop].copy()
        if stop < len(wanted):
            moved += exact.product(upper[start:stop, stop:], errors[stop:].T)
        for i in reversed(range(start, stop)):
            rounded[i] = np.clip(np.rint(moved[i - start]), -limit, limit)
            errors[i] = wanted[i] - rounded[i]
            moved[: i - start] += upper[start:i, i, np.newaxis] * errors[i]
    result = np.empty(wanted.shape, dtype=np.int8)
    result[order] = rounded
    return np.ascontiguousarray(result.T)
