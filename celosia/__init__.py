"""Celosia: integer-only Transformer encoder accelerators, generated, verified and run from Python.

The names here are what a user needs to run a model; each is imported when it is first used::

    import celosia

    model = celosia.EncoderModel.from_folder(celosia.find_default_model())
    accelerator = celosia.simulate("base")
    accelerator.load(celosia.quantise(model))
    result = accelerator.run([x])  # x: int8 [tokens, hidden]
"""

from importlib import import_module
from typing import Any

__all__ = ["Accelerator", "AcceleratorConfig", "EncoderModel", "configuration", "connect", "find_default_model",
           "quantise", "run_texts", "simulate"]

_HOMES = {
    "Accelerator": "celosia.firmware.driver.driver",
    "AcceleratorConfig": "celosia.hdl.config",
    "EncoderModel": "celosia.firmware.model.model",
    "configuration": "celosia.generators.configurations",
    "connect": "celosia.session",
    "find_default_model": "celosia.firmware.model.model",
    "quantise": "celosia.session",
    "run_texts": "celosia.runner",
    "simulate": "celosia.session",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'celosia' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
