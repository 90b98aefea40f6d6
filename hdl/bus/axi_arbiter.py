"""Two AXI4 managers on one subordinate."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import AcceleratorConfig
from .axi import AXI4ReadSignature, AXI4Signature, AXI4WriteSignature

__all__ = ["AxiArbiter"]


class AxiArbiter(wiring.Component):
    """Shares a memory between two managers, a burst at a time; reads and writes are independent.

    Rules
    -----
    1. A manager has the bus from its address until the last beat of the data it reads, or the response to
       what it writes. Nothing is accepted from the other meanwhile.
    2. When both wait, ``first`` goes first: it has to leave cycles between its bursts.
    3. Write data goes through up to its burst's last beat, before or after the address; what follows belongs to another
       address, and waits until that has been granted.
    4. No path leads from an address channel's valid to its ready in the same cycle.

    Members
    -------
    first, second : AXI4Signature, in
    memory : AXI4Signature, out
    """

    def __init__(self, config: AcceleratorConfig):
        self._signature = AXI4Signature.of(config)
        self._widths = config.address_bits, config.bus_bits
        super().__init__({
            "first": In(self._signature), "second": In(self._signature), "memory": Out(self._signature)})

    def elaborate(self, platform):
        m = Module()
        memory = self.memory
        self._share(m, "read", AXI4ReadSignature(*self._widths), "ar", memory.rvalid & memory.rready & memory.rlast)
        self._share(m, "write", AXI4WriteSignature(*self._widths), "aw", memory.bvalid & memory.bready)
        return m

    def _share(self, m, name: str, channels: wiring.Signature, prefix: str, ends) -> None:
        """One direction: its ``channels``, the ``prefix`` of its address channel, and when a burst is over."""
        memory = self.memory
        managers = (self.first, self.second)
        owner = Signal(name=f"{name}_owner")
        busy, addressed = Signal(name=f"{name}_busy"), Signal(name=f"{name}_addressed")
        sent = Signal(name=f"{name}_sent")  # the last beat of what is written
        wanted = [getattr(manager, f"{prefix}valid") for manager in managers]
        with m.If(~busy):
            m.d.sync += [busy.eq(wanted[0] | wanted[1]), owner.eq(~wanted[0]), addressed.eq(0), sent.eq(0)]
        with m.Elif(ends):
            m.d.sync += busy.eq(0)
        with m.Else():
            with m.If(getattr(memory, f"{prefix}valid") & getattr(memory, f"{prefix}ready")):
                m.d.sync += addressed.eq(1)
            if prefix == "aw":
                with m.If(memory.wvalid & memory.wready & memory.wlast):
                    m.d.sync += sent.eq(1)

        for index, manager in enumerate(managers):
            for member, spec in channels.members.items():
                outer, inner = getattr(memory, member), getattr(manager, member)
                mine = busy & (owner == index)
                if member.startswith(prefix):
                    mine &= ~addressed
                if member in ("wvalid", "wready"):
                    mine &= ~sent
                source, target = (inner, outer) if spec.flow is Out else (outer, inner)
                if member.endswith(("valid", "ready")):
                    with m.If(mine):
                        m.d.comb += target.eq(source)
                elif spec.flow is In:
                    m.d.comb += target.eq(source)
                else:
                    with m.If(owner == index):
                        m.d.comb += target.eq(source)
