"""modules.json: which folder holds the encoder, and which modules follow it. Each is imported or refused by name."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import ModelError, is_there, read_json, read_optional
from .modules import (
    ACTIVATIONS,
    POOLING_MODES,
    SENTENCE,
    TOKENS,
    Dense,
    HostModule,
    LayerNorm,
    Normalize,
    Pooling,
)
from .weights import read_weights

__all__ = ["Listing", "default_chain", "pooling_modes", "read_chain", "read_listing"]

_LIBRARY = "sentence_transformers."
_TRANSFORMER = "Transformer"

#: The flags of older pooling configurations, in the order in which their vectors are joined.
_FLAGS = {"pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_mean_tokens": "mean",
          "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
          "pooling_mode_weightedmean_tokens": "weightedmean", "pooling_mode_lasttoken": "lasttoken"}

#: The library's other modules, by which folders without a modules.json are known to be modules.
_OTHERS = ("Asym", "BoW", "CLIPModel", "CNN", "LSTM", "Router", "SparseAutoEncoder", "SpladePooling", "StaticEmbedding",
           "WeightedLayerPooling", "WordEmbeddings", "WordWeights")

_UNASKED = "the tokens are pooled by their mean, and the embedding is scaled to unit length"


@dataclass(frozen=True)
class Listing:
    """The encoder's folder; the kind (Pooling, Dense, ...) and the folder of each module after it; what was chosen
    without being asked. ``declared``: there is a modules.json."""

    encoder: Path
    modules: tuple[tuple[str, Path], ...]
    notes: tuple[str, ...]
    declared: bool


def default_chain(modes: tuple[str, ...] = ("mean",)) -> tuple[HostModule, ...]:
    """Pooling to an embedding of unit length."""
    return Pooling(modes), Normalize()


def pooling_modes(names: Any) -> tuple[str, ...]:
    """Modes of pooling by their names, joined by ``+`` or in a list.

    Raises
    ------
    ModelError
        When there is none, or an unknown one.
    """
    modes = names.lower().split("+") if isinstance(names, str) else names
    if not isinstance(modes, list) or not modes or not all(mode in list(POOLING_MODES) for mode in modes):
        raise ModelError(f"pooling must be {', '.join(POOLING_MODES)}, or several of them, not {names!r}")
    return tuple(modes)


def read_listing(root: Path) -> Listing:
    """What ``modules.json`` lists. Without one: the folders that are numbered as modules are, or none.

    Raises
    ------
    ModelError
        When it is damaged, or lists a module that isn't known, or the encoder not first and once.
    """
    index = root / "modules.json"
    if not is_there(index):
        return _read_folders(root)
    entries = []
    for entry in read_json(index, list):
        path, kind = (entry.get("path"), entry.get("type")) if isinstance(entry, dict) else (None, None)
        if not isinstance(path, str) or not isinstance(kind, str):
            raise ModelError(f"each module in modules.json must have a path and a type, not {entry!r} ({index})")
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path or ":" in path:
            raise ModelError(f"the path of a module must be a folder of the model, not {path!r} ({index})")
        entries.append((_kind(kind, index), root / path))
    kinds = [kind for kind, _ in entries]
    if kinds[:1] != [_TRANSFORMER] or kinds.count(_TRANSFORMER) > 1:
        raise ModelError("modules.json must list one Transformer, and it first, not "
                         f"{', '.join(kinds) or 'nothing'} ({index})")
    return Listing(entries[0][1], tuple(entries[1:]), (), declared=True)


def _kind(name: str, source: Path) -> str:
    """The class of a module, without the library's rooms, which were moved about."""
    kind = name.rpartition(".")[2]
    if not name.startswith(_LIBRARY) or kind not in (_TRANSFORMER, *_READERS):
        raise ModelError(f"a module must be {', '.join((_TRANSFORMER, *_READERS))} of the library "
                         f"sentence_transformers, not {name!r} ({source})")
    return kind


def _read_folders(root: Path) -> Listing:
    numbered = sorted((int(match[1]), match[2], path) for path in root.iterdir()
                      if path.is_dir() and (match := re.fullmatch(r"([0-9]+)_(\w+)", path.name))
                      and match[2] in (_TRANSFORMER, *_READERS, *_OTHERS))
    modules = [(kind, path) for _, kind, path in numbered]
    encoder = modules.pop(0)[1] if modules and modules[0][0] == _TRANSFORMER else root
    for kind, path in modules:
        if kind not in _READERS:
            raise ModelError(f"the folder {path.name} must be that of a {', '.join(_READERS)}, or modules.json must "
                             f"say what it is ({path})")
    if not any(kind == "Pooling" for kind, _ in modules):
        if modules:
            raise ModelError(f"modules.json is needed to say how {modules[0][1].name} follows the encoder ({root})")
        return Listing(encoder, (), (f"there is no modules.json: {_UNASKED}",), declared=False)
    names = ", ".join(path.name for _, path in modules)
    note = f"there is no modules.json: what follows the encoder is taken from the folders {names}"
    if modules[-1][0] != "Normalize":
        note += ", and the embedding is scaled to unit length"
        modules.append(("Normalize", root / "Normalize"))
    return Listing(encoder, tuple(modules), (note,), declared=False)


@dataclass
class _Widths:
    """The width of each tensor so far, to hold each module's own against."""

    of: dict[str, int]

    def take(self, name: str, module: str) -> int:
        if name not in self.of:
            raise ModelError(f"{module} needs a {name}, and no module before it makes one")
        return self.of[name]

    def check(self, what: str, value: Any, width: int) -> None:
        if value != width:
            raise ModelError(f"{what} must be {width}, the width of what comes before it, not {value!r}")


def read_chain(listing: Listing, width: int) -> tuple[HostModule, ...]:
    """The modules after an encoder of this width.

    Raises
    ------
    ModelError
        When a file is missing or damaged, a setting isn't known, widths don't fit each other, or the chain ends
        without a sentence embedding.
    """
    if not listing.modules and not listing.declared:
        return default_chain()
    widths = _Widths({TOKENS: width})
    chain = tuple(_READERS[kind](path, widths) for kind, path in listing.modules)
    if SENTENCE not in widths.of:
        raise ModelError("modules.json must list a Pooling, which makes one vector of the tokens, and lists "
                         f"{', '.join((_TRANSFORMER, *(kind for kind, _ in listing.modules)))} alone")
    return tuple(module for module in chain if module is not None)


def _check_keys(config: dict[str, Any], known: tuple[str, ...], path: Path) -> None:
    for key, value in config.items():
        if key not in known and value not in (None, False):
            raise ModelError(f"{path.name}/config.json asks for {key} = {value!r}, which isn't known "
                             f"({path / 'config.json'})")


def _check_flag(config: dict[str, Any], key: str, default: bool, path: Path) -> bool:
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise ModelError(f"{key} must be true or false, not {value!r} ({path / 'config.json'})")
    return value


def _read_tensor(config: dict[str, Any], path: Path) -> str:
    """The tensor that a module replaces."""
    source = config.get("module_input_name") or SENTENCE
    if source not in (TOKENS, SENTENCE):
        raise ModelError(f"module_input_name must be {TOKENS!r} or {SENTENCE!r}, not {source!r} "
                         f"({path / 'config.json'})")
    target = config.get("module_output_name") or source
    if target != source:
        raise ModelError(f"module_output_name must be module_input_name, {source!r}, not {target!r} "
                         f"({path / 'config.json'})")
    return source


def _read_pooling(path: Path, widths: _Widths) -> Pooling:
    config = read_json(path / "config.json")
    _check_keys(config, ("word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt", *_FLAGS),
                path)
    width = widths.take(TOKENS, path.name)
    for key in ("word_embedding_dimension", "embedding_dimension"):
        if key in config:
            widths.check(f"{key} of {path.name}", config[key], width)
    if config.get("pooling_mode") is not None:
        modes = pooling_modes(config["pooling_mode"])
    else:
        flags = [key for key in _FLAGS if key in config]
        modes = tuple(_FLAGS[key] for key in flags if _check_flag(config, key, False, path))
        if flags and not modes:
            raise ModelError(f"one of {', '.join(flags)} must be true ({path / 'config.json'})")
        modes = modes or ("mean",)
    widths.of[SENTENCE] = width * len(modes)
    return Pooling(modes, _check_flag(config, "include_prompt", True, path))


def _read_dense(path: Path, widths: _Widths) -> Dense:
    config = read_json(path / "config.json")
    _check_keys(config, ("in_features", "out_features", "bias", "activation_function", "module_input_name",
                         "module_output_name", "use_residual"), path)
    tensor = _read_tensor(config, path)
    width = widths.take(tensor, path.name)
    widths.check(f"in_features of {path.name}", config.get("in_features"), width)
    out = config.get("out_features")
    if type(out) is not int or out < 1:
        raise ModelError(f"out_features must be a positive integer, not {out!r} ({path / 'config.json'})")
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    name = activation.rpartition(".")[2] if isinstance(activation, str) else ""
    if name not in ACTIVATIONS or not activation.startswith("torch.nn."):
        raise ModelError(f"activation_function must be {', '.join(ACTIVATIONS)} of torch.nn, not {activation!r} "
                         f"({path / 'config.json'})")
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (out, width)}
    if _check_flag(config, "bias", True, path):
        shapes["linear.bias"] = (out,)
    use_residual = _check_flag(config, "use_residual", False, path)
    if use_residual and out != width:
        shapes["residual.weight"] = (out, width)
    arrays = _read_arrays(path, shapes)
    widths.of[tensor] = out
    return Dense(arrays["linear.weight"], arrays.get("linear.bias"), name, tensor,
                 use_residual and out == width, arrays.get("residual.weight"))


def _read_layer_norm(path: Path, widths: _Widths) -> LayerNorm:
    config = read_json(path / "config.json")
    _check_keys(config, ("dimension",), path)
    width = widths.take(SENTENCE, path.name)
    widths.check(f"dimension of {path.name}", config.get("dimension"), width)
    arrays = _read_arrays(path, {"norm.weight": (width,), "norm.bias": (width,)})
    return LayerNorm(arrays["norm.weight"], arrays["norm.bias"])


def _read_normalize(path: Path, widths: _Widths) -> Normalize:
    config = read_optional(path / "config.json")  # older versions write none
    _check_keys(config, ("module_input_name", "module_output_name"), path)
    tensor = _read_tensor(config, path)
    widths.take(tensor, path.name)
    return Normalize(tensor)


def _read_dropout(path: Path, widths: _Widths) -> None:
    """Dropout does something in training alone."""
    _check_keys(read_optional(path / "config.json"), ("dropout",), path)


_READERS: dict[str, Callable[[Path, _Widths], Any]] = {
    "Pooling": _read_pooling, "Dense": _read_dense, "LayerNorm": _read_layer_norm, "Normalize": _read_normalize,
    "Dropout": _read_dropout}


def _read_arrays(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
    """The arrays of a module, which must be these and no others."""
    weights = read_weights(path)
    for name in weights:
        if name not in shapes:
            raise ModelError(f"{name} is among the weights of {path.name}, whose config.json asks for "
                             f"{', '.join(shapes)} alone ({path})")
    arrays = {}
    for name, shape in shapes.items():
        if name not in weights:
            raise ModelError(f"{name} is missing from the weights of {path.name} ({path})")
        array = weights[name].astype(np.float32)
        if array.shape != shape:
            raise ModelError(f"{name} of {path.name} must have the shape {list(shape)}, not {list(array.shape)} "
                             f"({path})")
        if not np.isfinite(array).all():
            raise ModelError(f"{name} of {path.name} must be finite, and isn't ({path})")
        arrays[name] = array
    return arrays
