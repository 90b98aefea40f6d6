"""What a model does with the encoder's output, in float on the host: pooling, and what follows it.

Each module works on the tensors that the ones before it left, by name: the encoder leaves ``token_embeddings`` [L, d],
and the last must have left ``sentence_embedding``. NumPy keeps the wider type of tensor and weights.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...sim.golden.reference import exact_gelu, normalise

__all__ = ["ACTIVATIONS", "POOLING_MODES", "SENTENCE", "SIMILARITIES", "TOKENS", "Dense", "HostModule", "LayerNorm",
           "Normalize", "Pooling", "Truncate", "cosine"]

Array = NDArray[Any]
Float32 = NDArray[np.float32]

TOKENS, SENTENCE = "token_embeddings", "sentence_embedding"


class HostModule(Protocol):
    """A module after the encoder."""

    def apply(self, tensors: dict[str, Array], kept: Array, prompt: int) -> None:
        """Replace or add tensors. ``kept`` are the positions of the tokens that take part, rising; ``prompt`` is how
        many tokens the model's prompt has, with what stands before it."""


def _first(tokens: Array, weights: Array) -> Array:
    return tokens[0]


def _largest(tokens: Array, weights: Array) -> Array:
    return tokens.max(axis=0)


def _mean(tokens: Array, weights: Array) -> Array:
    return tokens.mean(axis=0)


def _mean_sqrt_len(tokens: Array, weights: Array) -> Array:
    return (tokens.sum(axis=0) / np.sqrt(len(tokens))).astype(tokens.dtype)


def _weighted_mean(tokens: Array, weights: Array) -> Array:
    return (weights.astype(tokens.dtype) @ tokens / weights.sum()).astype(tokens.dtype)


def _last(tokens: Array, weights: Array) -> Array:
    return tokens[-1]


#: By the names that sentence-transformers gives them, in the order in which it joins several: of tokens [n, d] and
#: their places in the text, counted from 1.
POOLING_MODES: dict[str, Callable[[Array, Array], Array]] = {
    "cls": _first, "max": _largest, "mean": _mean, "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean, "lasttoken": _last}


@dataclass(frozen=True)
class Pooling:
    """One vector of the tokens: that of each mode, one after the other. Without ``include_prompt`` the tokens of the
    prompt, and what stands before it, have no part in it, but that ``cls`` is the very first token."""

    modes: tuple[str, ...]
    include_prompt: bool = True

    def apply(self, tensors: dict[str, Array], kept: Array, prompt: int) -> None:
        """See :class:`HostModule`."""
        first, weights = tensors[TOKENS][kept[:1]], kept - kept[0] + 1
        if not self.include_prompt:
            kept, weights = kept[prompt:], weights[prompt:]
        tokens = tensors[TOKENS]
        tokens = tokens if len(kept) == len(tokens) else tokens[kept]
        # The first token is the first one, whether or not it has a part in the others.
        vectors = [POOLING_MODES[mode](first if mode == "cls" else tokens, weights) for mode in self.modes]
        tensors[SENTENCE] = vectors[0] if len(vectors) == 1 else np.concatenate(vectors)


def _sigmoid(x: Array) -> Array:
    return (np.tanh(x / 2) + 1) / 2


#: By the names of torch's classes, with their defaults.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "Identity": lambda x: x, "Tanh": np.tanh, "ReLU": lambda x: np.maximum(x, 0), "GELU": exact_gelu,
    "Sigmoid": _sigmoid, "SiLU": lambda x: x * _sigmoid(x), "LeakyReLU": lambda x: np.where(x > 0, x, x * 0.01)}


@dataclass(frozen=True, eq=False)
class Dense:
    """``activation(x @ weight.T + bias)``, weight [out, in], with ``residual`` [out, in] also ``+ x @ residual.T``, and
    with ``add_input`` also ``+ x``."""

    weight: Float32
    bias: Float32 | None = None
    activation: str = "Identity"
    tensor: str = SENTENCE
    add_input: bool = False
    residual: Float32 | None = None

    def apply(self, tensors: dict[str, Array], kept: Array, prompt: int) -> None:
        """See :class:`HostModule`."""
        x = tensors[self.tensor]
        y: Array = x @ self.weight.T
        if self.bias is not None:
            y = y + self.bias
        y = ACTIVATIONS[self.activation](y)
        if self.add_input:
            y = y + x
        if self.residual is not None:
            y = y + x @ self.residual.T
        tensors[self.tensor] = y


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """LayerNorm of the sentence embedding."""

    gain: Float32
    shift: Float32
    epsilon: float = field(default=1e-5, init=False)  # torch's default; no file has another

    def apply(self, tensors: dict[str, Array], kept: Array, prompt: int) -> None:
        """See :class:`HostModule`."""
        tensors[SENTENCE] = normalise(tensors[SENTENCE], self.gain, self.shift, self.epsilon)


@dataclass(frozen=True)
class Normalize:
    """A vector, or each row, over its length, or over 1e-12 if it is shorter."""

    tensor: str = SENTENCE

    def apply(self, tensors: dict[str, Array], kept: Array, prompt: int) -> None:
        """See :class:`HostModule`."""
        x = tensors[self.tensor]
        if x.ndim == 1:
            tensors[self.tensor] = x / max(float(np.linalg.norm(x)), 1e-12)
        else:
            tensors[self.tensor] = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class Truncate:
    """The first ``width`` numbers of the sentence embedding, or all if there are fewer."""

    width: int

    def apply(self, tensors: dict[str, Array], kept: Array, prompt: int) -> None:
        """See :class:`HostModule`."""
        tensors[SENTENCE] = tensors[SENTENCE][: self.width]


def cosine(a: Array, b: Array) -> float:
    """Of the angle between two vectors; 0 when one has no length."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-24))


#: How alike two embeddings are, by the names that sentence-transformers gives the functions; more is more alike.
SIMILARITIES: dict[str, Callable[[Array, Array], float]] = {
    "cosine": cosine, "dot": lambda a, b: float(a @ b), "euclidean": lambda a, b: -float(np.linalg.norm(a - b)),
    "manhattan": lambda a, b: -float(np.abs(a - b).sum())}
