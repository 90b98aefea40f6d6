"""GPTQ: rounding of a weight matrix that lets later columns make good the errors of earlier ones."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["round_gptq"]

_BLOCK = 64


def round_gptq(weight: NDArray[np.float64], covariance: NDArray[np.float64], limit: int = 127
               ) -> NDArray[np.int8]:
    """Round a matrix to integers so that its products with the inputs stay close.

    Follows Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
    Transformers" (2022), section 3.3, with the columns in the order of falling input variance.

    Parameters
    ----------
    weight
        [out, in], in units of its steps: plain rounding would be ``rint(weight)``.
    covariance
        [in, in] of the inputs, positive definite.
    limit
        Largest magnitude of the result.
    """
    order = np.argsort(-np.diag(covariance), kind="stable")
    inverse = np.linalg.inv(covariance[np.ix_(order, order)])
    factor = np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float32)  # upper triangular
    rest = np.ascontiguousarray(weight.T[order], dtype=np.float32)
    rounded = np.empty(rest.shape, dtype=np.int8)
    for start in range(0, len(rest), _BLOCK):
        stop = min(start + _BLOCK, len(rest))
        errors = np.empty_like(rest[start:stop])
        for i in range(start, stop):
            nearest = np.clip(np.rint(rest[i]), -limit, limit)
            rounded[i] = nearest
            errors[i - start] = (rest[i] - nearest) / factor[i, i]
            rest[i + 1 : stop] -= factor[i, i + 1 : stop, np.newaxis] * errors[i - start]
        rest[stop:] -= factor[start:stop, stop:].T @ errors
    result = np.empty_like(rounded)
    result[order] = rounded
    return np.ascontiguousarray(result.T)
