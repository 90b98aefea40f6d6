"""Single accesses over AXI4 or AXI4-Lite that come to an end even when the bus does not answer."""

from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..bus.axi import AXI4LiteSignature, AXI4Signature, Burst

__all__ = ["AccessLayout", "BusAccess", "OutcomeLayout"]


class AccessLayout(data.StructLayout):
    """An access to one word of ``bytes_`` bytes: ``write`` the bytes of ``data`` that ``strobe`` names, or read all.
    ``address`` is that of the word, in bytes."""

    def __init__(self, address_bits: int, bytes_: int):
        super().__init__({"write": 1, "address": address_bits, "data": 8 * bytes_, "strobe": bytes_})


class OutcomeLayout(data.StructLayout):
    """How an access went: ``data`` of a read, ``error``: the bus answered with one, ``timeout``: it did not
    answer."""

    def __init__(self, bytes_: int):
        super().__init__({"data": 8 * bytes_, "error": 1, "timeout": 1})


class BusAccess(wiring.Component):
    """Makes one access after the other.

    Rules
    -----
    1. ``outcome.valid`` is high for one cycle for each request, at most ``limit + 2`` cycles after it was accepted.
    2. AXI has no means to withdraw an access. After a timeout the bus is left as it is: valid stays up until
       accepted, the late answer is taken and dropped. A request that comes before that waits for it, and
       is not made at all when it waits for ``limit`` cycles: its outcome is then a timeout too.

    Parameters
    ----------
    bus : AXI4LiteSignature or AXI4Signature
        The port; an access is a burst of one beat.
    limit : int
        Cycles after which an access has failed.

    Members
    -------
    request : stream of :class:`AccessLayout`, in
    outcome : :class:`OutcomeLayout`, with ``outcome_valid``, out
    bus : out
    """

    def __init__(self, bus: AXI4LiteSignature | AXI4Signature, limit: int):
        self._limit = limit
        bits = bus.members["wdata"].shape
        self._bytes = bits // 8
        super().__init__({
            "request": In(stream.Signature(AccessLayout(bus.members["awaddr"].shape, self._bytes))),
            "outcome": Out(OutcomeLayout(self._bytes)),
            "outcome_valid": Out(1),
            "bus": Out(bus),
        })

    def elaborate(self, platform):
        m = Module()
        bus: Any = self.bus
        request, outcome = self.request, self.outcome
        access = Signal.like(request.p, reset_less=True)
        address_due = Signal()
        data_due = Signal()
        answer_due = Signal()
        answered = Signal()
        settled = Signal()  # nothing is due
        left = Signal(range(self._limit + 1))

        m.d.comb += [
            bus.awaddr.eq(access.address), bus.araddr.eq(access.address),
            bus.wdata.eq(access.data), bus.wstrb.eq(access.strobe),
            bus.awvalid.eq(address_due & access.write), bus.arvalid.eq(address_due & ~access.write),
            bus.wvalid.eq(data_due), bus.bready.eq(1), bus.rready.eq(1),
            answered.eq(Mux(access.write, bus.bvalid, bus.rvalid)),
            settled.eq(~address_due & ~data_due & ~answer_due),
        ]
        if isinstance(bus.signature, AXI4Signature):
            m.d.comb += bus.wlast.eq(1)
            for prefix in ("aw", "ar"):
                m.d.comb += [
                    getattr(bus, f"{prefix}size").eq(exact_log2(self._bytes)),
                    getattr(bus, f"{prefix}burst").eq(Burst.INCR),
                    getattr(bus, f"{prefix}cache").eq(0b0011),
                ]

        with m.If(Mux(access.write, bus.awready, bus.arready)):
            m.d.sync += address_due.eq(0)
        with m.If(bus.wready):
            m.d.sync += data_due.eq(0)
        with m.If(answered):
            m.d.sync += [answer_due.eq(0), outcome.data.eq(bus.rdata),
                         outcome.error.eq(Mux(access.write, bus.bresp[1], bus.rresp[1]))]

        m.d.sync += self.outcome_valid.eq(0)
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.FSM():
            with m.State("idle"):
                m.d.sync += [left.eq(self._limit), outcome.timeout.eq(0)]
                with m.If(request.valid):
                    m.next = "queue"
            with m.State("queue"):
                with m.If(settled):
                    m.d.comb += request.ready.eq(1)
                    m.d.sync += [
                        access.eq(request.p), address_due.eq(1), data_due.eq(request.p.write), answer_due.eq(1),
                        left.eq(self._limit)]
                    m.next = "wait"
                with m.Elif(left == 0):
                    m.d.comb += request.ready.eq(1)
                    m.d.sync += [outcome.timeout.eq(1), self.outcome_valid.eq(1)]
                    m.next = "idle"
            with m.State("wait"), m.If(settled | (left == 0)):
                m.d.sync += [outcome.timeout.eq(~settled), self.outcome_valid.eq(1)]
                m.next = "idle"
        return m
