"""Weights in safetensors files: one, or several with an index."""

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from .files import ModelError, check_no_pointer, is_there, read_json

__all__ = ["Weights", "read_weights"]

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

#: Endings of files that hold weights in other ways, or under other names.
_OTHERS = (".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".ot", ".onnx", ".gguf", ".tflite",
           ".npz", ".safetensors")
_NAMED = 3  # of what was found instead


class Weights(Mapping[str, NDArray[Any]]):
    """Arrays by name, each read when it is asked for. F16, F32 and F64 come as they are, BF16 as float32, which holds
    each of its values; another type is refused when the array is asked for."""

    def __init__(self, files: list[Path]):
        self._homes: dict[str, Path] = {}
        self._files: dict[Path, Any] = {}
        for path in files:
            check_no_pointer(path)
            try:
                self._files[path] = safe_open(path, framework="numpy")
            except OSError as error:
                raise ModelError(f"{path.name} can't be read: {error.strerror or error} ({path})") from error
            except SafetensorError as error:
                raise ModelError(f"{path.name} must be a safetensors file: {error} ({path})") from error
            self._homes |= dict.fromkeys(self._files[path].keys(), path)

    def place(self, name: str, path: Path) -> bool:
        """Let an array be the one in ``path``, whatever other files have it; false where that has none."""
        if name not in set(self._files[path].keys()):
            return False
        self._homes[name] = path
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)

    def __contains__(self, name: object) -> bool:
        return name in self._homes  # without reading the array

    def __getitem__(self, name: str) -> NDArray[Any]:
        path = self._homes[name]
        kind = self._files[path].get_slice(name).get_dtype()
        if kind == "BF16":
            return _read_bf16(path, name)
        if kind not in ("F32", "F16", "F64"):
            raise ModelError(f"{name} must be of type BF16, F16, F32 or F64, not {kind} ({path})")
        return self._files[path].get_tensor(name)


def read_weights(folder: Path) -> Weights:
    """The weights of ``folder``: ``model.safetensors``, or the files that ``model.safetensors.index.json`` names.

    Raises
    ------
    ModelError
        When there are none: what is there in their place. When a file is missing, damaged, or a Git LFS pointer.
    """
    if is_there(folder / SINGLE):
        return Weights([folder / SINGLE])
    if is_there(folder / INDEX):
        return _read_parts(folder / INDEX)
    found = sorted(str(path.relative_to(folder)) for place in (folder, folder / "onnx", folder / "openvino")
                   if place.is_dir() for path in place.iterdir() if path.name.endswith(_OTHERS))
    if not found:
        raise ModelError(f"the weights must be in {SINGLE}, or in files that {INDEX} names, and {str(folder)!r} has "
                         "neither")
    names = ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
    raise ModelError(f"the weights must be in {SINGLE}, or in files that {INDEX} names, and {str(folder)!r} has only "
                     f"{names}: save_pretrained of the library that wrote it writes that format")


def _read_parts(index: Path) -> Weights:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{index.name} must have a weight_map with the file of each array ({index})")
    for name, file in places.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise ModelError(f"the file of {name} in {index.name} must be a name in the same folder, not {file!r} "
                             f"({index})")
    weights = Weights([index.parent / file for file in sorted(set(places.values()))])
    for name, file in places.items():
        if not weights.place(name, index.parent / file):
            raise ModelError(f"{name} is missing from {file}, where {index.name} has it ({index})")
    return weights


def _read_bf16(path: Path, name: str) -> NDArray[np.float32]:
    """An array of bfloat16, the upper half of a float32 each, which NumPy has no type for."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        entry = json.loads(file.read(size))[name]
        start, end = entry["data_offsets"]
        file.seek(8 + size + start)
        halves = np.frombuffer(file.read(end - start), dtype="<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
