"""The accelerator with memory and a serial line: all that a board without DRAM needs."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from ..accelerator import Accelerator
from ..bus.axi_arbiter import AxiArbiter
from ..config import AcceleratorConfig
from .axi_memory import AxiMemory
from .serial_bridge import SerialBridge

__all__ = ["System"]


class System(wiring.Component):
    """An accelerator whose DRAM is on the chip, and whose host is behind a serial line.

    Parameters
    ----------
    config : AcceleratorConfig
    memory_bytes, memory_base : int
        As of :class:`~celosia.hdl.board.axi_memory.AxiMemory`.
    divisor, idle_cycles : int
        As of :class:`~celosia.hdl.board.serial_bridge.SerialBridge`.

    Members
    -------
    rx, tx : serial line
        8 data bits, no parity, one stop bit.
    active : out
        A request of the host is being carried out or answered.
    ended : out
        The accelerator's interrupt: a program has ended or failed, and the host has not acknowledged it.
    refused : out
        The host's last request was answered with an error.

    Everything runs on the clock of the domain ``sync``.
    """

    def __init__(self, config: AcceleratorConfig, *, memory_bytes: int, divisor: int, idle_cycles: int,
                 memory_base: int = 0):
        self._accelerator = Accelerator(config)
        self._bridge = SerialBridge(config, divisor=divisor, idle_cycles=idle_cycles, memory_base=memory_base,
                                    memory_bytes=memory_bytes)
        self._memory = AxiMemory(config, memory_base, memory_bytes)
        self._arbiter = AxiArbiter(config)
        super().__init__({
            "rx": In(1, init=1), "tx": Out(1, init=1), "active": Out(1), "ended": Out(1), "refused": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.accelerator = accelerator = self._accelerator
        m.submodules.bridge = bridge = self._bridge
        m.submodules.memory = memory = self._memory
        m.submodules.arbiter = arbiter = self._arbiter
        connect(m, bridge.registers, accelerator.s_axi_ctrl)
        connect(m, bridge.memory, arbiter.first)
        connect(m, accelerator.m_axi_mem, arbiter.second)
        connect(m, arbiter.memory, memory.bus)
        m.d.comb += [
            bridge.rx.eq(self.rx),
            self.tx.eq(bridge.tx),
            self.active.eq(bridge.active),
            self.ended.eq(accelerator.interrupt),
            self.refused.eq(bridge.refused),
        ]
        return m
