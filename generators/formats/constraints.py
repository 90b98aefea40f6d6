"""Timing constraints: the one clock, for Vivado, for tools that read SDC, and for nextpnr."""

import math

from celosia.hdl.config import ConfigError

from .ports import clock_name

__all__ = ["DEFAULT_MHZ", "check_frequency", "to_lpf", "to_sdc", "to_xdc"]

#: Frequency that is asked for when nobody says another.
DEFAULT_MHZ = 100.0
_LOWEST, _HIGHEST = 1, 2000


def check_frequency(mhz: float) -> None:
    """Raise :class:`ConfigError` when ``mhz`` is no frequency for the clock."""
    if not (math.isfinite(mhz) and _LOWEST <= mhz <= _HIGHEST):
        raise ConfigError(f"the frequency must be from {_LOWEST} to {_HIGHEST} MHz, not {mhz:g}")


def _create_clock(mhz: float) -> str:
    check_frequency(mhz)
    period = math.floor(1e6 / mhz) / 1e3  # in whole picoseconds, and never too long
    return f"create_clock -name {clock_name()} -period {period:.3f} [get_ports {clock_name()}]"


def to_xdc(mhz: float) -> str:
    """The clock at ``mhz`` MHz, for Vivado.

    Raises
    ------
    ConfigError
        When ``mhz`` is out of its range; so do the other functions here.
    """
    return "\n".join([
        f"# Celosia accelerator at {mhz:g} MHz: generated, do not edit.",
        "# For synthesis on its own (out of context); in a design, the clock that drives it is constrained there.",
        _create_clock(mhz),
        ""])


def to_sdc(mhz: float) -> str:
    """The clock at ``mhz`` MHz, for tools that read Synopsys design constraints."""
    return "\n".join([f"# Celosia accelerator at {mhz:g} MHz: generated, do not edit.", _create_clock(mhz), ""])


def to_lpf(mhz: float) -> str:
    """The clock at ``mhz`` MHz, for nextpnr-ecp5. Pins are the board's."""
    check_frequency(mhz)
    return "\n".join([
        f"# Celosia accelerator at {mhz:g} MHz: generated, do not edit. Where its pins lie is up to the board.",
        f'FREQUENCY PORT "{clock_name()}" {mhz:.3f} MHZ;',
        ""])
