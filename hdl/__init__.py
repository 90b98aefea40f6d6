"""Synthesizable Amaranth components, the configuration, the instruction set and the register map.

The names here are what another Amaranth design needs; each is imported when it is first used."""

from importlib import import_module
from typing import Any

__all__ = ["Accelerator", "AcceleratorConfig", "AcceleratorSignature"]

_HOMES = {
    "Accelerator": "celosia.hdl.accelerator",
    "AcceleratorConfig": "celosia.hdl.config",
    "AcceleratorSignature": "celosia.hdl.accelerator",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'celosia.hdl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
