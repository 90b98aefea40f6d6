"""The named configurations."""

import re
from collections.abc import Iterable
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

from celosia.hdl.config import AcceleratorConfig, ConfigError

__all__ = ["configuration", "configuration_names"]


def _folder():
    return files("celosia.generators") / "configs"


def configuration_names() -> list[str]:
    """The names of the configurations that come with the package, the smallest array first."""
    found = [AcceleratorConfig.from_toml(entry.read_text()) for entry in _folder().iterdir()
             if entry.name.endswith(".toml")]
    return [config.name for config in sorted(found, key=lambda config: (config.macs_per_cycle, config.name))]


def configuration(name: str, settings: Iterable[str] = ()) -> AcceleratorConfig:
    """A configuration by its name, or from a TOML file.

    Parameters
    ----------
    name : str
        One of :func:`configuration_names`, or the path of a file (ending in ``.toml``).
    settings : iterable of str
        ``parameter=value``, which replace parameters of the configuration.

    Raises
    ------
    ConfigError
        When there is no such configuration, or a parameter breaks its rule.
    """
    if name.endswith(".toml"):
        config = AcceleratorConfig.from_file(Path(name))
    elif name in (names := configuration_names()):
        config = AcceleratorConfig.from_toml((_folder() / f"{name}.toml").read_text())
    else:
        raise ConfigError(f"{name!r} is no configuration; there are {', '.join(names)}, or a path ending in .toml")
    changes: dict[str, int | str] = {}
    for setting in settings:
        key, equals, value = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ConfigError(f"a setting must be parameter=value, not {setting!r}")
        changes[key] = int(value) if re.fullmatch("-?[0-9]{1,18}", value) else value
    if changes.keys() & {"rows", "cols"}:
        changes.setdefault("lanes", 0)  # which follow the array, unless they are set too
    if changes:
        changes.setdefault("status", "experimental")  # no regression runs what is made up here
    return AcceleratorConfig.from_dict({**asdict(config), **changes})
