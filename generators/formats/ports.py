"""The ports of the Verilog, in the interfaces that they belong to: what packaging, constraints and pages name."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from amaranth import ClockDomain, Shape
from amaranth.lib.wiring import Member, Out
from celosia.hdl.accelerator import AcceleratorSignature
from celosia.hdl.bus.axi import AXI4LiteSignature, AXI4Signature
from celosia.hdl.config import AcceleratorConfig

__all__ = ["Interface", "Kind", "Port", "clock_name", "interfaces_of", "reset_name"]

_SYNC = ClockDomain("sync")


class Kind(Enum):
    """What an interface is, in words for a page."""

    CLOCK = "clock"
    RESET = "synchronous reset, active high"
    AXI4 = "AXI4"
    AXI4_LITE = "AXI4-Lite"
    INTERRUPT = "interrupt, active high, until it is acknowledged"


_KINDS = {AXI4LiteSignature: Kind.AXI4_LITE, AXI4Signature: Kind.AXI4}


@dataclass(frozen=True)
class Port:
    """A port: its name in the Verilog, its name in the specification of its interface, direction, width in bits."""

    name: str
    logical: str
    output: bool
    width: int


@dataclass(frozen=True)
class Interface:
    """Ports that belong together. The accelerator is the ``manager`` of an interface that it drives: of the memory
    bus and the interrupt."""

    name: str
    kind: Kind
    manager: bool
    ports: tuple[Port, ...]


def clock_name() -> str:
    """The name that Amaranth gives the clock of its domain ``sync``."""
    return _SYNC.clk.name


def reset_name() -> str:
    """The name that Amaranth gives the reset of its domain ``sync``."""
    assert _SYNC.rst is not None
    return _SYNC.rst.name


def interfaces_of(config: AcceleratorConfig) -> tuple[Interface, ...]:
    """The interfaces of the accelerator of ``config``; every port of the Verilog is in exactly one of them."""
    clock, reset = clock_name(), reset_name()
    return (Interface(clock, Kind.CLOCK, False, (Port(clock, "CLK", False, 1),)),
            Interface(reset, Kind.RESET, False, (Port(reset, "RST", False, 1),)),
            *_members(config))


def _members(config: AcceleratorConfig) -> Iterator[Interface]:
    for name, member in AcceleratorSignature(config).members.items():
        manager = member.flow is Out
        if member.is_port:
            yield Interface(name, Kind.INTERRUPT, manager, (_port(name, "INTERRUPT", member, manager),))
            continue
        outside = member.signature if manager else member.signature.flip()
        yield Interface(name, _KINDS[type(outside)], manager, tuple(
            _port(f"{name}_{part}", part, inner, inner.flow is Out)
            for part, inner in member.signature.members.items()))


def _port(name: str, part: str, member: Member, output: bool) -> Port:
    return Port(name, part.upper(), output, Shape.cast(member.shape).width)
