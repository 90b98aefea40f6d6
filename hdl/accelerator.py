"""The accelerator: control plane and datapath."""

from amaranth import Module, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .axi import AXI4LiteSignature, AXI4Signature
from .config import AcceleratorConfig
from .control import CONTROL_ADDRESS_BITS
from .control_plane import ControlPlane
from .datapath import Datapath

__all__ = ["Accelerator"]


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

    Everything is in the clock domain ``sync``, with a synchronous reset.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "s_axi_ctrl": In(AXI4LiteSignature(CONTROL_ADDRESS_BITS)),
            "m_axi_mem": Out(AXI4Signature.of(config)),
            "interrupt": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.control_plane = control = ControlPlane(self.config)
        datapath = Datapath(self.config)
        m.submodules.datapath = ResetInserter(control.reset)(datapath)
        connect(m, flipped(self.s_axi_ctrl), control.s_axi_ctrl)
        connect(m, flipped(self.m_axi_mem), control.m_axi_mem)
        connect(m, control.matmul, datapath.matmul)
        connect(m, control.vector, datapath.vector)
        connect(m, control.load_port, datapath.load)
        connect(m, control.store_port, datapath.store)
        m.d.comb += [
            self.interrupt.eq(control.interrupt),
            control.array_active.eq(datapath.array_active),
            control.matmul_tile_stall.eq(datapath.matmul_tile_stall),
            control.matmul_conflict.eq(datapath.matmul_conflict),
            control.vector_conflict.eq(datapath.vector_conflict),
        ]
        return m
