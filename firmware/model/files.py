"""The files of a model folder: each is read whole, and is what its name says, or is refused in one sentence."""

import json
from pathlib import Path
from typing import Any

__all__ = ["ModelError", "check_no_pointer", "is_there", "read_json", "read_optional", "read_text"]

#: How a Git LFS pointer begins: the few lines that a clone without Git LFS has in the place of a large file.
_POINTER = b"version https://git-lfs"


class ModelError(ValueError):
    """A model, a text or a file of quantised weights can't be used. One sentence: the value and the rule."""


def is_there(path: Path) -> bool:
    """Whether a folder lists this file; a link to nothing is a file that is missing, not one that was never there."""
    try:
        return path.exists() or path.is_symlink()
    except (OSError, ValueError) as error:  # no name that a file can have
        raise ModelError(f"the path {str(path)[:80]!r} can't be a file's: {error}") from error


def check_no_pointer(path: Path) -> None:
    """Refuse a Git LFS pointer.

    Raises
    ------
    ModelError
        When ``path`` is one, or can't be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{path.name} can't be read: {reason} ({path})") from error
    if start == _POINTER:
        raise ModelError(f"{path.name} is a Git LFS pointer of {path.stat().st_size} bytes in the place of the file, "
                         f"which 'git lfs pull' in its folder fetches ({path})")


def read_text(path: Path, what: str) -> str:
    """The text of a file, which must be ``what``: "JSON", "a tokenizer".

    Raises
    ------
    ModelError
        When it can't be read, is a Git LFS pointer, or is no UTF-8.
    """
    check_no_pointer(path)
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(f"{path.name} can't be read: {error.strerror} ({path})") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path.name} must be {what}: {error} ({path})") from error


def read_json(path: Path, kind: type = dict) -> Any:
    """The JSON object (``dict``) or list that a file holds.

    Raises
    ------
    ModelError
        As :func:`read_text`, and when it holds something else.
    """
    text = read_text(path, "JSON")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path.name} must be JSON: {error} ({path})") from error
    if not isinstance(value, kind):
        name = "a JSON object" if kind is dict else "a JSON list"
        raise ModelError(f"{path.name} must hold {name}, not {type(value).__name__} ({path})")
    return value


def read_optional(path: Path) -> dict[str, Any]:
    """As :func:`read_json`; without the file, an empty object."""
    return read_json(path) if is_there(path) else {}
