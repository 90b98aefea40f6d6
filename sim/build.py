"""Compiles Verilog into a simulation that Python loads, and keeps what was compiled."""

import sys
from pathlib import Path

from .cache import cache_root, content_key, unusable
from .verilator import Toolchain

__all__ = ["WAIVERS", "object_cache"]

#: Warnings of Verilator that are noise on generated Verilog; any other one stops a build.
WAIVERS = (
    "-Wno-WIDTHEXPAND",  # Amaranth extends operands where Verilog's own rules do it
    "-Wno-WIDTHTRUNC",  # and truncates in assignments, where Amaranth's rules say so
)


def object_cache(toolchain: Toolchain) -> str:
    """The value of ``OBJCACHE`` for Verilator's makefile with which its library is compiled only once."""
    folder = cache_root() / "objects" / content_key(toolchain.identity)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(error) from error
    return f"{sys.executable} -I -S {Path(__file__).with_name('objcache.py')} {folder}"
