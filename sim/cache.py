"""Compiled simulations, kept by their content: what is compiled once is found again in milliseconds."""

import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import filelock
import platformdirs

from .processes import stoppable

__all__ = ["CacheError", "cache_root", "cached_folder", "content_key", "unusable"]

_DAYS_KEPT = 30
_MANIFEST = "manifest.json"


class CacheError(RuntimeError):
    """The cache folder can't be used. The message is one sentence."""


def cache_root() -> Path:
    """The folder of all compiled simulations: ``CELOSIA_CACHE``, else the platform's user cache folder."""
    named = os.environ.get("CELOSIA_CACHE")
    try:
        return Path(named).expanduser().absolute() if named else platformdirs.user_cache_path("celosia")
    except RuntimeError as error:
        raise CacheError(f"the cache folder can't be {named!r}: {error}") from error


def content_key(*parts: str | bytes) -> str:
    """A name for the content ``parts``: equal parts, and only they, have equal names."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


def cached_folder(kind: str, key: str, make: Callable[[Path], Sequence[str]]) -> Path:
    """The folder called ``key`` among those of ``kind``; made if it isn't there, or isn't whole.

    Parameters
    ----------
    make : function
        Fills the empty folder that it is given, and returns the names of the files that have to stay as
        they are. The folder is renamed afterwards: nothing in it may depend on its path.

    Rules
    -----
    1. Of several processes that want the same folder, one makes it and the others wait.
    2. What is returned was made completely, and the named files still have the content that ``make`` left.
    3. A folder that nobody wanted for 30 days is removed.
    4. A whole folder is used even where nothing can be written; who may read what is made here follows the umask.
    5. When this process is interrupted or terminated, what was half made is removed.

    Raises
    ------
    CacheError
        When the folder can't be written, or the disk is full. What ``make`` raises passes through.
    """
    parent = cache_root() / kind
    folder = parent / key
    try:
        if not _is_whole(folder):
            parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(parent / f"{key}.lock"):
                if not _is_whole(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                    _make(folder, make)
                    _prune(parent)
    except OSError as error:
        raise unusable(error) from error
    with suppress(OSError):  # it may belong to somebody else
        os.utime(folder)
    return folder


def unusable(error: OSError) -> CacheError:
    """The sentence for a cache folder in which ``error`` happened."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "the disk is full" if full else error.strerror or str(error)
    return CacheError(f"the cache folder {str(cache_root())!r} can't be written: {reason}; "
                      "free some space, or set CELOSIA_CACHE to another folder")


def _make(folder: Path, make: Callable[[Path], Sequence[str]]) -> None:
    temporary = folder.parent / f".{folder.name}-{secrets.token_hex(4)}"
    with stoppable():
        try:
            temporary.mkdir()
            names = make(temporary)
            manifest = {name: _digest(temporary / name) for name in names}
            (temporary / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return all(_digest(folder / name) == digest for name, digest in manifest.items())
    except (OSError, ValueError):
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _prune(parent: Path) -> None:
    oldest = time.time() - _DAYS_KEPT * 86400
    for path in parent.iterdir():
        with suppress(OSError):  # another process may remove it too
            if path.is_dir() and path.stat().st_mtime < oldest:
                shutil.rmtree(path, ignore_errors=True)
