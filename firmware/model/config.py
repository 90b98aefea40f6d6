"""config.json of a BERT encoder: what the importer can't take over is refused."""

from pathlib import Path
from typing import Any

from .files import ModelError, is_there, read_json

__all__ = ["check_epsilon", "read_config"]

_SIZES = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "max_position_embeddings")

#: Keys that ask for another computation than a plain BERT encoder's, when they hold anything.
_FOREIGN = ("add_cross_attention", "is_encoder_decoder", "is_causal", "quantization_config", "compression_config",
            "pruned_heads", "auto_map")


def read_config(folder: Path) -> dict[str, Any]:
    """The checked ``config.json`` of ``folder``.

    Raises
    ------
    ModelError
        Naming the first key that is missing or not supported; or that there is an adapter for the weights.
    """
    if is_there(folder / "adapter_config.json"):
        raise ModelError("adapter_config.json asks for an adapter beside the weights, which isn't read: merge it into "
                         f"them, as merge_and_unload of the library peft does ({folder / 'adapter_config.json'})")
    config = read_json(folder / "config.json")
    _check(config)
    return config


def _check(config: dict[str, Any]) -> None:
    def require(key: str, allowed: tuple[Any, ...], default: Any = None) -> None:
        value = config.get(key, default)
        if value not in allowed:
            rule = " or ".join(repr(one) for one in allowed)
            raise ModelError(f"{key} must be {rule}, not {value!r}")

    require("model_type", ("bert",))
    if config.get("hidden_act") != "gelu_python":  # the same function
        require("hidden_act", ("gelu",))
    require("position_embedding_type", ("absolute",), "absolute")
    require("is_decoder", (False,), False)
    for key in _FOREIGN:
        if config.get(key):
            raise ModelError(f"{key} must be absent from config.json or empty, not {config[key]!r}")
    for key in _SIZES:
        _check_size(key, config.get(key))
    for key in ("vocab_size", "type_vocab_size"):
        if key in config:
            _check_size(key, config[key])


def _check_size(key: str, value: Any) -> None:
    if type(value) is not int or value < 1:
        raise ModelError(f"{key} must be a positive integer, not {value!r}")


def check_epsilon(value: Any) -> float:
    """``layer_norm_eps`` as a float.

    Raises
    ------
    ModelError
        When it is none from 0 to below 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ModelError(f"layer_norm_eps must be a number from 0 to below 1, not {value!r}")
    return float(value)
