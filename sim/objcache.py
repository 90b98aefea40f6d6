"""A compiler launcher that compiles Verilator's run-time library once, instead of once for each design.

Verilator's makefile puts ``$(OBJCACHE)`` before each compiler call. Called as ``objcache.py FOLDER COMPILER
ARGUMENT...``, this script takes the object of a source of the library from FOLDER, or puts it there; any
other call passes through. It imports only the standard library, so that it starts in a few milliseconds.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys

__all__ = ["main"]


def _is_library(source: str) -> bool:
    return os.path.basename(source).startswith("verilated") and os.path.isabs(source)


def main(arguments: list[str]) -> int:
    """Compile; the compiler's exit code is returned. ``arguments`` are FOLDER and the command."""
    folder, command = arguments[0], arguments[1:]
    sources = [word for word in command if word.endswith(".cpp")]
    if len(sources) != 1 or not _is_library(sources[0]) or "-o" not in command:
        return subprocess.run(command, check=False).returncode
    target = command[command.index("-o") + 1]
    key = hashlib.sha256("\0".join(command).encode()).hexdigest()[:32]
    stored = os.path.join(folder, key + ".o")
    try:
        shutil.copyfile(stored, target)
        return 0
    except OSError:
        pass
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        temporary = f"{stored}.{os.getpid()}"
        try:
            shutil.copyfile(target, temporary)
            os.replace(temporary, stored)
        except OSError:  # a full disk costs time here, not the build
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
