"""The named configurations."""

import re
from collections.abc import Iterable
from dataclasses import asdict, fields
from importlib.resources import files
from pathlib import Path

from celosia.hdl.config import AcceleratorConfig, ConfigError

__all__ = ["configuration", "configuration_names"]


def _folder():
    return files("celosia.generators") / "configs"


def configuration_names() -> list[str]:
    """The names of the configurations that come with the package, the smallest array first."""
    found = [AcceleratorConfig.from_toml(entry.read_text(encoding="utf-8")) for entry in _folder().iterdir()
             if entry.name.endswith(".toml")]
    return [config.name for config in sorted(found, key=lambda config: (config.macs_per_cycle, config.name))]


def configuration(name: str, settings: Iterable[str] = ()) -> AcceleratorConfig:
    """A configuration by its name, or from a TOML file.

    Parameters
    ----------
    name : str
        One of :func:`configuration_names`, or the path of a file (ending in ``.toml``).
    settings : iterable of str
        ``parameter=value``, which replace parameters of the configuration. A number is written as in TOML: 16, 0x10 or
        1_6; a word as it is, or in quotes.

    Raises
    ------
    ConfigError
        When there is no such configuration, or a parameter breaks its rule.
    """
    if name.endswith(".toml"):
        config = AcceleratorConfig.from_file(Path(name))
    elif name in (names := configuration_names()):
        config = AcceleratorConfig.from_toml((_folder() / f"{name}.toml").read_text(encoding="utf-8"))
    else:
        raise ConfigError(f"{name!r} is no configuration; there are {', '.join(names)}, or a path ending in .toml")
    words = {spec.name for spec in fields(AcceleratorConfig) if isinstance(spec.default, str)}
    changes: dict[str, int | str] = {}
    for setting in settings:
        key, equals, value = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ConfigError(f"a setting must be parameter=value, not {setting!r}")
        changes[key] = _word(value) if key in words else _number(value)
    if changes.keys() & {"rows", "cols"}:
        changes.setdefault("lanes", 0)  # which follow the array, unless they are set too
    others = {key for key, value in changes.items() if getattr(config, key, value) != value}
    if others & {"target", "rows", "cols", "macs_per_multiplier"}:
        changes.setdefault("rows_per_sum", 0)  # so does this, and the target
    if others & {"target", "macs_per_multiplier"}:
        changes.setdefault("weight_latches", 0)  # which not all of them have
    if changes.keys() & {"rows_per_sum"}:
        changes.setdefault("columns_per_activation", 0)
    if changes:
        changes.setdefault("status", "experimental")  # no regression runs what is made up here
    return AcceleratorConfig.from_dict({**asdict(config), **changes})


def _word(value: str) -> str:
    """The value of a parameter that is a word, even where it looks like a number."""
    quoted = re.fullmatch(r"""(["'])(.*)\1""", value, re.DOTALL)
    return quoted[2] if quoted else value


def _number(value: str) -> int | str:
    """The value of a parameter that is a number; what is none stays what it is, for the parameter's rule to name."""
    if re.fullmatch("[+-]?[0-9]+(_[0-9]+)*", value) and len(value) < 20:
        return int(value)
    if re.fullmatch("0(x[0-9A-Fa-f]+(_[0-9A-Fa-f]+)*|o[0-7]+(_[0-7]+)*|b[01]+(_[01]+)*)", value) and len(value) < 66:
        return int(value, 0)
    return value
