"""The accelerator: control plane and datapath."""

from amaranth import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from .bus.axi import AXI4LiteSignature, AXI4Signature
from .config import AcceleratorConfig
from .control.control import CONTROL_ADDRESS_BITS
from .control_plane import ControlPlane
from .datapath import Datapath
from .parts.resets import reset_by

__all__ = ["RESET_CYCLES", "Accelerator", "AcceleratorSignature"]

#: Cycles for which a reset is held inside after it ended outside.
RESET_CYCLES = 4


class AcceleratorSignature(wiring.Signature):
    """The ports of an accelerator but clock and reset, as :class:`Accelerator` describes them."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({
            "s_axi_ctrl": In(AXI4LiteSignature(CONTROL_ADDRESS_BITS)),
            "m_axi_mem": Out(AXI4Signature.of(config)),
            "interrupt": Out(1),
        })


def _connect_while(m, condition, port, inside) -> None:
    """Connect ``port`` of the component that is being elaborated with the same one ``inside`` it; VALID and READY go
    out only while ``condition`` holds."""
    for name, member in port.signature.members.items():
        outer, inner = getattr(port, name), getattr(inside, name)
        if member.flow is In:
            m.d.comb += inner.eq(outer)
        elif name.endswith(("valid", "ready")):
            m.d.comb += outer.eq(inner & condition)
        else:
            m.d.comb += outer.eq(inner)


class Accelerator(wiring.Component):
    """An integer-only Transformer encoder accelerator.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    s_axi_ctrl : AXI4LiteSignature, in
        The registers of :mod:`~celosia.hdl.registers`.
    m_axi_mem : AXI4Signature, out
        DRAM, with one transaction ID.
    interrupt : out
        High from the end of a program, or its error, until it is acknowledged, if enabled.

    Everything runs on the clock of the domain ``sync``; its synchronous reset is registered first, so that the
    reset of thousands of registers does not hang on a pin. The pin itself gates VALID, READY and ``interrupt``.

    Rules
    -----
    1. A reset of one cycle is enough. From its first cycle until ``RESET_CYCLES`` after its last one no VALID, no READY
       and no interrupt is high on any port: AXI asks for the VALIDs (A3.1.2), and what is not accepted is not lost.
    2. What was under way on the memory bus is forgotten: a memory must be reset together with the accelerator, unless
       it is known to owe nothing.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(AcceleratorSignature(config))

    def elaborate(self, platform):
        m = Module()
        m.domains.core = core = ClockDomain(local=True)
        m.d.comb += core.clk.eq(ClockSignal())
        held = Signal(RESET_CYCLES, init=-1)
        m.d.sync += held.eq(held >> 1)
        m.d.comb += core.rst.eq(held[0])
        open_ports = ~(ResetSignal(allow_reset_less=True) | held[0])
        control, datapath = ControlPlane(self.config), Datapath(self.config)
        m.submodules.control_plane = DomainRenamer("core")(control)
        computing_reset = Signal(init=1)
        m.d.sync += computing_reset.eq(control.reset)
        m.submodules.datapath = reset_by(m, "computing", computing_reset)(datapath)
        _connect_while(m, open_ports, self.s_axi_ctrl, control.s_axi_ctrl)
        _connect_while(m, open_ports, self.m_axi_mem, control.m_axi_mem)
        connect(m, control.matmul, datapath.matmul)
        connect(m, control.vector, datapath.vector)
        connect(m, control.load_port, datapath.load)
        connect(m, control.store_port, datapath.store)
        m.d.comb += [
            self.interrupt.eq(control.interrupt & open_ports),
            control.progress.eq(datapath.progress),
            control.vector_conflict.eq(datapath.vector_conflict),
        ]
        return m
