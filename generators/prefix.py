"""The prefix: how all names begin that a generated folder gives to a design, so that two can be used together."""

import re

from celosia.hdl.config import AcceleratorConfig, ConfigError

from .keywords import KEYWORDS
from .verilog import TOP, vendor_cells

__all__ = ["LONGEST_PREFIX", "check_prefix", "default_prefix"]

#: The most characters of a prefix; names that begin with it are longer.
LONGEST_PREFIX = 64


def check_prefix(prefix: str) -> None:
    """Raise :class:`ConfigError` when ``prefix`` is no name, or no beginning of one, in a language of the files.

    C++ keeps two underscores in a row for itself, VHDL has none, and one at the end would make two.
    """
    if not re.fullmatch("[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", prefix) or len(prefix) > LONGEST_PREFIX:
        raise ConfigError(f"the prefix must be at most {LONGEST_PREFIX} letters, digits and single underscores, with a "
                          f"letter at the beginning and no underscore at the end, not {prefix!r}")
    for language, words in KEYWORDS.items():
        if prefix.lower() in words:
            raise ConfigError(f"the prefix must be no keyword, which {prefix!r} is in {language}")
    if prefix in vendor_cells():
        raise ConfigError(f"the prefix must not be {prefix!r}, the name of a vendor's cell that accelerators use")


def default_prefix(config: AcceleratorConfig) -> str:
    """The prefix that comes from the name of ``config``: ``celosia_base`` for ``base``.

    Raises
    ------
    ConfigError
        When the name is too long.
    """
    prefix = "_".join([TOP, *re.findall("[A-Za-z0-9]+", config.name)])
    if len(prefix) > LONGEST_PREFIX:
        raise ConfigError(f"the name {config.name!r} is too long for a prefix of at most {LONGEST_PREFIX} characters: "
                          "choose one with --prefix")
    return prefix
