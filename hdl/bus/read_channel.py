"""The AXI4 read channels: shared between the instruction fetch and the load engine, and safe across a soft
reset."""

from amaranth import Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..parts.queues import Queue
from ..parts.skid import Skid
from .axi import AXI4ReadSignature, Burst
from .bursts import AddressLayout, BurstLayout

__all__ = ["BeatLayout", "ReadArbiter"]


class BeatLayout(data.StructLayout):
    """One beat of read data; ``error``: the memory answered it with an error."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"data": config.bus_bits, "error": 1})


class ReadArbiter(wiring.Component):
    """Issues read bursts for two requesters and hands each its beats, in the order of the requests.

    Rules
    -----
    1. The fetch goes first; at most ``outstanding_reads`` bursts are under way.
    2. All bursts have ID 0, so data comes in the order of the requests; a first-in first-out queue of owners
       says for whom.
    3. ``flush`` forgets the requesters' interest: ARVALID stays up until accepted, every beat still to come
       is taken and dropped, and no further burst is issued before the last of them.
    4. This component must not be reset when the requesters are: only the reset of the whole bus may.

    By rule 3 a soft reset is over at once for the host, but a read that the memory never answers keeps the
    bus: AXI4 has no means to withdraw it, and later reads of the same ID must wait for it. A program that is
    started in this state runs into its watchdog again, and a reset of the memory and the accelerator together
    is needed.

    Members
    -------
    fetch_requests, load_requests : stream of :class:`BurstLayout`
        ``last`` is ignored.
    fetch_data, load_data : stream of :class:`BeatLayout`
        ``ready`` of one holds up the other.
    flush : 1 bit
    beat : 1 bit
        A beat has come that somebody wants; for the counter.
    bus : AXI4ReadSignature
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        requests, beats = stream.Signature(BurstLayout(config)), stream.Signature(BeatLayout(config))
        super().__init__({
            "fetch_requests": In(requests),
            "load_requests": In(requests),
            "fetch_data": Out(beats),
            "load_data": Out(beats),
            "flush": In(1),
            "beat": Out(1),
            "bus": Out(AXI4ReadSignature(config.address_bits, config.bus_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        config, bus = self._config, self.bus
        m.submodules.owners = owners = Queue(1, config.outstanding_reads)
        dropping = Signal()

        # Requests.
        m.submodules.addresses = addresses = Skid(AddressLayout(config))
        request = addresses.input.payload
        may_issue = Signal()
        issue = Signal()
        m.d.comb += [
            may_issue.eq(addresses.input.ready & owners.input.ready & ~dropping & ~self.flush),
            self.fetch_requests.ready.eq(may_issue),
            self.load_requests.ready.eq(may_issue & ~self.fetch_requests.valid),
            issue.eq(may_issue & (self.fetch_requests.valid | self.load_requests.valid)),
            owners.input.p.eq(self.fetch_requests.valid),
            owners.input.valid.eq(issue),
            addresses.input.valid.eq(issue),
            request.address.eq(Mux(owners.input.p, self.fetch_requests.p.address, self.load_requests.p.address)),
            request.length.eq(Mux(owners.input.p, self.fetch_requests.p.length, self.load_requests.p.length)),
            addresses.output.ready.eq(bus.arready),
            bus.arvalid.eq(addresses.output.valid),
            bus.araddr.eq(addresses.output.payload.address),
            bus.arlen.eq(addresses.output.payload.length),
            bus.arsize.eq(exact_log2(config.bus_bytes)),
            bus.arburst.eq(Burst.INCR),
            bus.arcache.eq(0b0011),
        ]

        # Data. A beat that comes in knows whose it is; those that nobody wants any more do not come in.
        beats = Skid(data.StructLayout({"beat": BeatLayout(config), "for_fetch": 1}))
        m.submodules.beats = ResetInserter(self.flush)(beats)
        new, found = beats.input.payload, beats.output.payload
        m.d.comb += [
            bus.rready.eq(beats.input.ready),
            beats.input.valid.eq(bus.rvalid & ~dropping),
            owners.output.ready.eq(bus.rvalid & bus.rready & bus.rlast),
            new.beat.data.eq(bus.rdata),
            new.beat.error.eq(bus.rresp[1]),
            new.for_fetch.eq(owners.output.p),
            self.fetch_data.p.eq(found.beat),
            self.load_data.p.eq(found.beat),
            self.fetch_data.valid.eq(beats.output.valid & found.for_fetch),
            self.load_data.valid.eq(beats.output.valid & ~found.for_fetch),
            beats.output.ready.eq(Mux(found.for_fetch, self.fetch_data.ready, self.load_data.ready)),
            self.beat.eq(beats.output.valid & beats.output.ready),
        ]
        with m.If(self.flush):
            m.d.sync += dropping.eq(~owners.empty)
        with m.Elif(owners.empty):
            m.d.sync += dropping.eq(0)
        return m
