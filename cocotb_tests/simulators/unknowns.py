"""Looks for x at the accelerator's ports, in simulators that have it. For use inside the simulator."""

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

__all__ = ["watch_for_unknowns"]

#: Channels that the accelerator drives, with what is on them beside ``valid``.
_CHANNELS = {
    "m_axi_mem_aw": ("addr", "len", "size", "burst"), "m_axi_mem_w": ("strb", "last"),
    "m_axi_mem_ar": ("addr", "len", "size", "burst"), "s_axi_ctrl_b": ("resp",), "s_axi_ctrl_r": ("data", "resp"),
}
_ALWAYS = ("interrupt", "m_axi_mem_bready", "m_axi_mem_rready", "s_axi_ctrl_awready", "s_axi_ctrl_wready",
           "s_axi_ctrl_arready", *(f"{channel}valid" for channel in _CHANNELS))


def watch_for_unknowns(dut: Any) -> None:
    """From now on, at each edge: no x in a handshake or the interrupt, in what an address or a response says, in data
    that a register read returns, and in a byte that is written. To be started after a reset."""
    cocotb.start_soon(_watch(dut))


async def _watch(dut: Any) -> None:
    while True:
        await RisingEdge(dut.clk)
        for name in _ALWAYS:
            _known(dut, name)
        for channel, members in _CHANNELS.items():
            if getattr(dut, f"{channel}valid").value == 1:
                for member in members:
                    _known(dut, channel + member)
        if dut.m_axi_mem_wvalid.value == 1:
            bits, strobes = str(dut.m_axi_mem_wdata.value), str(dut.m_axi_mem_wstrb.value)
            for index, strobe in enumerate(reversed(strobes)):
                byte = bits[len(bits) - 8 * index - 8:][:8]
                assert strobe == "0" or not set(byte) - set("01"), f"byte {index} of m_axi_mem_wdata is {byte}"


def _known(dut: Any, name: str) -> None:
    value = str(getattr(dut, name).value)
    assert not set(value) - set("01"), f"{name} is {value}"
