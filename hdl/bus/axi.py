"""AXI4 and AXI4-Lite as Amaranth signatures, and the flat port names that tools expect.

Only what the accelerator uses: one transaction ID (constant 0, so that everything is answered in order), INCR
bursts of full beats. The names are those of the AMBA AXI protocol specification (IHI 0022), in lower case.
"""

from typing import Any

from amaranth.hdl import Value, ValueCastable
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import AcceleratorConfig
from ..enums import Enum

__all__ = [
    "AXI4LiteSignature",
    "AXI4ReadSignature",
    "AXI4Signature",
    "AXI4WriteSignature",
    "Burst",
    "Response",
    "connect_channels",
    "flat_ports",
]


class Burst(Enum, shape=2):
    """AxBURST."""

    FIXED = 0
    INCR = 1
    WRAP = 2


class Response(Enum, shape=2):
    """RRESP and BRESP. Bit 1 set: an error."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


def _address_channel(prefix: str, address_bits: int) -> dict[str, wiring.Member]:
    return {
        f"{prefix}id": Out(1),
        f"{prefix}addr": Out(address_bits),
        f"{prefix}len": Out(8),
        f"{prefix}size": Out(3),
        f"{prefix}burst": Out(2),
        f"{prefix}lock": Out(1),
        f"{prefix}cache": Out(4),
        f"{prefix}prot": Out(3),
        f"{prefix}qos": Out(4),
        f"{prefix}valid": Out(1),
        f"{prefix}ready": In(1),
    }


class AXI4ReadSignature(wiring.Signature):
    """The AR and R channels of an AXI4 port (the manager's side is ``Out``).

    Parameters
    ----------
    address_bits, data_bits : int
        Widths of ``araddr`` and ``rdata``.
    """

    def __init__(self, address_bits: int, data_bits: int):
        super().__init__({
            **_address_channel("ar", address_bits),
            "rid": In(1),
            "rdata": In(data_bits),
            "rresp": In(2),
            "rlast": In(1),
            "rvalid": In(1),
            "rready": Out(1),
        })


class AXI4WriteSignature(wiring.Signature):
    """The AW, W and B channels of an AXI4 port (the manager's side is ``Out``).

    Parameters
    ----------
    address_bits, data_bits : int
        Widths of ``awaddr`` and ``wdata``.
    """

    def __init__(self, address_bits: int, data_bits: int):
        super().__init__({
            **_address_channel("aw", address_bits),
            "wdata": Out(data_bits),
            "wstrb": Out(data_bits // 8),
            "wlast": Out(1),
            "wvalid": Out(1),
            "wready": In(1),
            "bid": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
        })


class AXI4Signature(wiring.Signature):
    """All five channels of an AXI4 port (the manager's side is ``Out``).

    Parameters
    ----------
    address_bits, data_bits : int
        Widths of the addresses and of the data.
    """

    def __init__(self, address_bits: int, data_bits: int):
        super().__init__({
            **dict(AXI4WriteSignature(address_bits, data_bits).members.items()),
            **dict(AXI4ReadSignature(address_bits, data_bits).members.items()),
        })

    @classmethod
    def of(cls, config: AcceleratorConfig) -> "AXI4Signature":
        """The memory bus of ``config``."""
        return cls(config.address_bits, config.bus_bits)


class AXI4LiteSignature(wiring.Signature):
    """An AXI4-Lite port with 32-bit data (the manager's side is ``Out``).

    Parameters
    ----------
    address_bits : int
        Width of ``awaddr`` and ``araddr``.
    """

    def __init__(self, address_bits: int = 12):
        super().__init__({
            "awaddr": Out(address_bits),
            "awprot": Out(3),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(32),
            "wstrb": Out(4),
            "wvalid": Out(1),
            "wready": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
            "araddr": Out(address_bits),
            "arprot": Out(3),
            "arvalid": Out(1),
            "arready": In(1),
            "rdata": In(32),
            "rresp": In(2),
            "rvalid": In(1),
            "rready": Out(1),
        })


def connect_channels(m: Any, port: Any, part: Any) -> None:
    """Connect the channels that ``part`` has (read or write ones, a manager inside) to ``port``, the whole
    AXI4 port of the component that is being elaborated; adds the statements to module ``m``."""
    for name, member in part.signature.members.items():
        outer, inner = getattr(port, name), getattr(part, name)
        m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)


def flat_ports(component: Any) -> dict[str, tuple[Any, Any]]:
    """The ports of ``component`` for ``amaranth.back.verilog.convert(ports=...)``, the parts of each name
    joined by one underscore (``m_axi_mem_awaddr``), as cocotbext-axi and FPGA tools expect of a bus."""
    ports = {}
    for path, _member, value in component.signature.flatten(component):
        signal = value.as_value() if isinstance(value, ValueCastable) else value
        if isinstance(signal, Value):
            ports["_".join(map(str, path))] = (signal, None)
    return ports
