"""The arrays of a BERT encoder by their Hugging Face names, checked one by one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...sim.golden.parameters import FloatLayer
from .files import ModelError

__all__ = ["Embeddings", "Encoder", "import_arrays"]

Float32 = NDArray[np.float32]

#: Name of a layer's tensor after ``encoder.layer.<i>.``, and its shape in d (hidden) and f (FFN width).
_LAYER_TENSORS = {
    "query_weight": ("attention.self.query.weight", "dd"),
    "query_bias": ("attention.self.query.bias", "d"),
    "key_weight": ("attention.self.key.weight", "dd"),
    "key_bias": ("attention.self.key.bias", "d"),
    "value_weight": ("attention.self.value.weight", "dd"),
    "value_bias": ("attention.self.value.bias", "d"),
    "output_weight": ("attention.output.dense.weight", "dd"),
    "output_bias": ("attention.output.dense.bias", "d"),
    "attention_norm_gain": ("attention.output.LayerNorm.weight", "d"),
    "attention_norm_shift": ("attention.output.LayerNorm.bias", "d"),
    "ffn_in_weight": ("intermediate.dense.weight", "fd"),
    "ffn_in_bias": ("intermediate.dense.bias", "f"),
    "ffn_out_weight": ("output.dense.weight", "df"),
    "ffn_out_bias": ("output.dense.bias", "d"),
    "output_norm_gain": ("output.LayerNorm.weight", "d"),
    "output_norm_shift": ("output.LayerNorm.bias", "d"),
}

#: What LayerNorm's weight and bias were called at first, as in bert-base-uncased's own file.
_OLD = {".LayerNorm.weight": ".LayerNorm.gamma", ".LayerNorm.bias": ".LayerNorm.beta"}

#: Counters that some versions keep among the weights; they hold 0, 1, 2, ... and zeros.
_COUNTERS = ("embeddings.position_ids", "embeddings.token_type_ids")


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The embedding tables, float32: ``word`` [vocabulary, d], ``position`` [positions, d], ``kind`` [d] (of
    the first token type, which a single text has), ``gain`` and ``shift`` [d] of their LayerNorm."""

    word: Float32
    position: Float32
    kind: Float32
    gain: Float32
    shift: Float32


@dataclass(frozen=True, eq=False)
class Encoder:
    """What was imported, and the names of the arrays that have no part in it."""

    layers: tuple[FloatLayer, ...]
    embeddings: Embeddings | None
    unused: tuple[str, ...]


class _Source:
    """Arrays under a prefix, which remembers those that were taken."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]):
        self.arrays = arrays
        self.prefix = "bert." if any(name.startswith("bert.encoder.") for name in arrays) else ""
        self.taken: set[str] = set()

    def get(self, name: str) -> tuple[str, NDArray[Any]]:
        full = self.prefix + name
        for new, old in _OLD.items():
            if full.endswith(new) and full not in self.arrays and full.removesuffix(new) + old in self.arrays:
                full = full.removesuffix(new) + old
        if full not in self.arrays:
            raise ModelError(f"{full} is missing from the weights")
        self.taken.add(full)
        return full, np.asarray(self.arrays[full])

    def width(self, name: str) -> int:
        """The length of an array's first axis."""
        array = self.get(name)[1]
        return array.shape[0] if array.ndim else 0

    def take(self, name: str, shape: tuple[int, ...], *, more_rows: bool = False) -> Float32:
        """A float32 copy of an array of this shape, or with more rows if that is allowed."""
        full, array = self.get(name)
        if not np.issubdtype(array.dtype, np.floating):
            raise ModelError(f"{full} must be floating point, not {array.dtype}")
        if array.shape != shape and not (more_rows and array.ndim == len(shape) and array.shape[0] > shape[0]
                                         and array.shape[1:] == shape[1:]):
            raise ModelError(f"{full} must have the shape {list(shape)}, not {list(array.shape)}")
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            raise ModelError(f"{full} must be finite, but holds {array[tuple(bad[0])]} at {bad[0].tolist()}")
        with np.errstate(over="ignore"):
            copy = np.array(array, dtype=np.float32, order="C")
        if not np.isfinite(copy).all():
            worst = array[tuple(np.argwhere(~np.isfinite(copy))[0])]
            raise ModelError(f"{full} must be within the range of float32, but holds {worst:g}")
        return copy


def import_arrays(arrays: Mapping[str, NDArray[Any]], heads: int, config: Mapping[str, Any] | None = None) -> Encoder:
    """The encoder that ``arrays`` hold, under their names with or without the prefix ``bert.``.

    Parameters
    ----------
    config
        A checked ``config.json`` whose sizes the arrays must have; without one the arrays give the sizes. The word
        embeddings may have more rows than ``vocab_size``: some models pad them.

    Raises
    ------
    ModelError
        Naming the first array that is missing, of a wrong shape or type, not finite, or no part of a BERT encoder.
    """
    source = _Source(arrays)
    if config is None:
        d = source.width("encoder.layer.0.attention.self.query.weight")
        sizes = {"d": d, "f": source.width("encoder.layer.0.intermediate.dense.weight")}
        start = f"{source.prefix}encoder.layer."
        numbers = [name.removeprefix(start).split(".")[0] for name in arrays if name.startswith(start)]
        count = 1 + max(int(number) for number in numbers if number.isdecimal())
    else:
        sizes = {"d": config["hidden_size"], "f": config["intermediate_size"]}
        count = config["num_hidden_layers"]
    if type(heads) is not int or heads < 1 or sizes["d"] % heads:
        raise ModelError(f"heads must be a positive divisor of the hidden width {sizes['d']}, not {heads!r}")
    layers = tuple(
        FloatLayer(**{key: source.take(f"encoder.layer.{i}.{name}", tuple(sizes[c] for c in shape))
                      for key, (name, shape) in _LAYER_TENSORS.items()})
        for i in range(count))
    embeddings = None
    if config is not None or any(name.startswith(f"{source.prefix}embeddings.") for name in arrays):
        embeddings = _embeddings(source, sizes["d"], config)
    return Encoder(layers, embeddings, _unused(source, count))


def _embeddings(source: _Source, d: int, config: Mapping[str, Any] | None) -> Embeddings:
    def rows(table: str, key: str) -> int:
        return config[key] if config and key in config else source.width(f"embeddings.{table}_embeddings.weight")

    words, positions = rows("word", "vocab_size"), rows("position", "max_position_embeddings")
    kinds = rows("token_type", "type_vocab_size")
    return Embeddings(
        word=source.take("embeddings.word_embeddings.weight", (words, d), more_rows=True),
        position=source.take("embeddings.position_embeddings.weight", (positions, d)),
        kind=source.take("embeddings.token_type_embeddings.weight", (kinds, d))[0],
        gain=source.take("embeddings.LayerNorm.weight", (d,)),
        shift=source.take("embeddings.LayerNorm.bias", (d,)))


def _unused(source: _Source, count: int) -> tuple[str, ...]:
    """The names that were not taken: of heads and the like. One inside the encoder is refused: it would change the
    result."""
    inside = tuple(source.prefix + part for part in ("embeddings.", *(f"encoder.layer.{i}." for i in range(count))))
    counters = tuple(source.prefix + name for name in _COUNTERS)
    unused = sorted(name for name in source.arrays if name not in source.taken and name not in counters)
    for name in unused:
        if name.startswith(inside):
            raise ModelError(f"{name} is among the weights, and a BERT encoder has no such part")
    return tuple(unused)
