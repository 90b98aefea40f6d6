"""Quantised encoders in files: written whole or not at all, read back only when nothing has changed."""

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ...sim.golden.parameters import (
    FirstParameters,
    QuantisedEncoder,
    QuantisedLayer,
    RowParameters,
    ScalarParameters,
    SecondParameters,
)
from ..model.model import EncoderModel, ModelError
from .calibration import calibration_sequences, check_texts
from .quantise import SCHEME, quantise_encoder

__all__ = ["VERSION", "load_encoder", "load_or_quantise", "save_encoder"]

#: Version of the file format; another one is refused.
VERSION = 2

_FORMAT = "celosia-quantised-encoder"
_RESERVED = ("format", "version", "checksum", "heads", "layers")
_MAKERS = {"first": FirstParameters, "second": SecondParameters, "row": RowParameters}

#: Each field of a layer: its kind, and its widths in d (hidden) and f (FFN width).
_LAYOUT = {
    "query_weight": ("weight", "dd"), "query": ("first", "d"),
    "key_weight": ("weight", "dd"), "key": ("first", "d"),
    "score": ("scalar", ""),
    "value_weight": ("weight", "dd"), "value": ("row", "d"),
    "context": ("second", "d"),
    "output_weight": ("weight", "dd"), "output": ("first", "d"), "output_residual": ("second", "d"),
    "attention_norm": ("second", "d"),
    "ffn_in_weight": ("weight", "fd"), "ffn_in": ("first", "f"), "gelu": ("second", "f"),
    "ffn_out_weight": ("weight", "df"), "ffn_out": ("first", "d"), "ffn_residual": ("second", "d"),
    "output_norm": ("second", "d"),
}
_TYPES = {"bias": np.int32, "offset": np.int32, "shift": np.uint8, "zero_point": np.int8}
_MULTIPLIERS = {"first": np.uint16, "second": np.int16, "row": np.uint16}

Arrays = dict[str, NDArray[Any]]


def save_encoder(encoder: QuantisedEncoder, path: str | Path, notes: Mapping[str, str] | None = None) -> None:
    """Write an encoder to one file (a safetensors container), in place of what is there, whole or not at all.

    Parameters
    ----------
    notes
        Free text by name, kept beside the numbers: where the encoder comes from.

    Raises
    ------
    ModelError
        When the file can't be written, or a note has a reserved name.
    """
    path = Path(path)
    arrays = _to_arrays(encoder)
    metadata = {"format": _FORMAT, "version": str(VERSION), "heads": str(encoder.heads),
                "layers": str(len(encoder.layers)), **(notes or {})}
    for name in notes or {}:
        if name in _RESERVED:
            raise ModelError(f"a note must not be called {name!r}, which the file itself uses")
    metadata["checksum"] = _checksum(arrays, metadata)
    temporary = path.with_name(f".{path.name[:100]}-{secrets.token_hex(4)}")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(save(arrays, metadata))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise ModelError(f"the quantised encoder can't be written to {str(path)!r}: {reason}") from error


def load_encoder(path: str | Path) -> tuple[QuantisedEncoder, dict[str, str]]:
    """Read what :func:`save_encoder` wrote: the encoder, and its notes.

    Raises
    ------
    ModelError
        When the file can't be read, is damaged, of another version, or its shapes don't fit each other.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ModelError(f"a quantised encoder must have the format {_FORMAT!r}, "
                                 f"not {metadata.get('format')!r} ({path})")
            if metadata.get("version") != str(VERSION):
                raise ModelError(f"a quantised encoder must be of version {VERSION}, "
                                 f"not {metadata.get('version')} ({path})")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except OSError as error:
        raise ModelError(f"{str(path)!r} can't be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ModelError(f"{str(path)!r} must be a quantised encoder: {error}") from error
    stated = metadata.pop("checksum", None)
    actual = _checksum(arrays, metadata)
    if stated != actual:
        raise ModelError(f"{str(path)!r} is damaged: its checksum must be {stated}, not {actual}")
    encoder = _from_arrays(arrays, metadata, path)
    return encoder, {name: text for name, text in metadata.items() if name not in _RESERVED}


def load_or_quantise(model: EncoderModel, sentences: Sequence[str], folder: str | Path, *, gptq: bool = True,
                     progress: Callable[[float], None] | None = None) -> QuantisedEncoder:
    """The quantised model, from ``folder`` if it was quantised there before, else quantised and kept there.

    The file is named by the content: model, sentences, scheme and rounding. A file that can't be read back is
    made again. ``progress`` is called as by :func:`quantise_encoder`, and not at all when the file is there.

    Raises
    ------
    ModelError
        When the model can't be quantised, or the folder can't be written.
    """
    check_texts(sentences)
    content = json.dumps([SCHEME, VERSION, model.fingerprint, list(sentences), gptq])
    key = hashlib.sha256(content.encode()).hexdigest()[:32]
    path = Path(folder) / f"{key}.safetensors"
    with suppress(ModelError):  # not there, or damaged: made anew
        return load_encoder(path)[0]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"the folder {str(path.parent)!r} can't be made: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK | os.X_OK):  # said before the work is done, not after
        raise ModelError(f"the quantised encoder can't be written to {str(path)!r}: "
                         f"{os.strerror(errno.EACCES)}")
    encoder = quantise_encoder(model, calibration_sequences(model, sentences), gptq=gptq, progress=progress)
    save_encoder(encoder, path, {"model": model.name, "fingerprint": model.fingerprint,
                                 "rounding": "gptq" if gptq else "nearest", "sentences": str(len(sentences))})
    return encoder


def _checksum(arrays: Arrays, metadata: Mapping[str, str]) -> str:
    """SHA-256 over everything else in the file."""
    digest = hashlib.sha256(json.dumps(dict(sorted(metadata.items()))).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _to_arrays(encoder: QuantisedEncoder) -> Arrays:
    arrays: Arrays = {"scales": encoder.scales}
    for index, layer in enumerate(encoder.layers):
        for spec in fields(layer):
            value = getattr(layer, spec.name)
            name = f"layers.{index}.{spec.name}"
            if isinstance(value, ScalarParameters):
                arrays[name] = np.array([value.multiplier, value.shift], dtype=np.int32)
            elif is_dataclass(value):
                arrays |= {f"{name}.{part.name}": getattr(value, part.name) for part in fields(value)}
            else:
                arrays[name] = value
    return arrays


def _from_arrays(arrays: Arrays, metadata: Mapping[str, str], path: Path) -> QuantisedEncoder:
    def take(name: str, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
        if name not in arrays:
            raise ModelError(f"{name} is missing from {str(path)!r}")
        array = arrays[name]
        if array.shape != shape or array.dtype != kind:
            raise ModelError(f"{name} must be {np.dtype(kind)} {list(shape)}, not {array.dtype} "
                             f"{list(array.shape)} ({path})")
        return array

    first = arrays.get("layers.0.ffn_in_weight", np.zeros((0, 0)))
    if first.ndim != 2:
        raise ModelError(f"layers.0.ffn_in_weight must have two dimensions, not {first.ndim} ({path})")
    sizes = {"f": first.shape[0], "d": first.shape[1]}
    heads, count = int(metadata.get("heads", 0)), int(metadata.get("layers", 0))
    if heads < 1 or count < 1 or sizes["d"] < 1 or sizes["d"] % heads:
        raise ModelError(f"heads must be a positive divisor of the hidden width {sizes['d']}, "
                         f"not {heads} ({path})")

    def part(index: int, field: str, kind: str, widths: str) -> Any:
        name = f"layers.{index}.{field}"
        shape = tuple(sizes[width] for width in widths)
        if kind == "weight":
            return take(name, shape, np.int8)
        if kind == "scalar":
            return ScalarParameters(*take(name, (2,), np.int32).tolist())
        maker = _MAKERS[kind]
        types = {**_TYPES, "multiplier": _MULTIPLIERS[kind]}
        return maker(**{spec.name: take(f"{name}.{spec.name}", shape, types[spec.name])
                        for spec in fields(maker)})

    layers = tuple(QuantisedLayer(**{field: part(index, field, kind, widths)
                                     for field, (kind, widths) in _LAYOUT.items()}) for index in range(count))
    return QuantisedEncoder(heads, layers, take("scales", (count + 1, sizes["d"]), np.float64))
