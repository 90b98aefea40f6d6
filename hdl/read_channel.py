"""The AXI4 read channels: shared between the instruction fetch and the load engine, and safe across a soft
reset."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import AXI4ReadSignature, Burst
from .bursts import AddressLayout, BurstLayout
from .config import AcceleratorConfig
from .skid import Skid

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
        # A FIFO of depth 1 would have an address without bits.
        m.submodules.owners = owners = SyncFIFO(width=1, depth=max(2, config.outstanding_reads))
        dropping = Signal()

        # Requests.
        m.submodules.addresses = addresses = Skid(AddressLayout(config))
        new = addresses.input.payload
        may_issue = Signal()
        m.d.comb += [
            may_issue.eq(addresses.input.ready & (owners.level != config.outstanding_reads) & ~dropping & ~self.flush),
            self.fetch_requests.ready.eq(may_issue),
            self.load_requests.ready.eq(may_issue & ~self.fetch_requests.valid),
            owners.w_data.eq(self.fetch_requests.valid),
            owners.w_en.eq(may_issue & (self.fetch_requests.valid | self.load_requests.valid)),
            addresses.input.valid.eq(owners.w_en),
            new.address.eq(Mux(owners.w_data, self.fetch_requests.p.address, self.load_requests.p.address)),
            new.length.eq(Mux(owners.w_data, self.fetch_requests.p.length, self.load_requests.p.length)),
            addresses.output.ready.eq(bus.arready),
            bus.arvalid.eq(addresses.output.valid),
            bus.araddr.eq(addresses.output.payload.address),
            bus.arlen.eq(addresses.output.payload.length),
            bus.arsize.eq(exact_log2(config.bus_bytes)),
            bus.arburst.eq(Burst.INCR),
            bus.arcache.eq(0b0011),
        ]

        # Data: two registers, so that neither RREADY nor the data outputs depend on the other side in the
        # cycle. A beat that comes in knows whose it is; those that nobody wants any more do not come in.
        valid, spare_valid = Signal(2), Signal(2)  # for the fetch, for the load engine
        beat, spare = (Signal(BeatLayout(config), name=name, reset_less=True) for name in ("beat", "spare"))
        arrives, taken = Signal(), Signal()
        new_valid, new = Signal(2), Signal(BeatLayout(config))
        m.d.comb += [
            bus.rready.eq(~spare_valid.any()),
            arrives.eq(bus.rvalid & bus.rready),
            owners.r_en.eq(arrives & bus.rlast),
            new_valid.eq(Mux(arrives & ~dropping, Cat(owners.r_data, ~owners.r_data), 0)),
            new.data.eq(bus.rdata),
            new.error.eq(bus.rresp[1]),
        ]
        with m.If(~valid.any() | taken):
            m.d.sync += valid.eq(Mux(spare_valid.any(), spare_valid, new_valid))
            m.d.sync += [beat.eq(new), spare_valid.eq(0)]
            with m.If(spare_valid.any()):
                m.d.sync += beat.eq(spare)
        with m.Elif(arrives):
            m.d.sync += [spare.eq(new), spare_valid.eq(new_valid)]

        m.d.comb += [
            self.fetch_data.p.eq(beat),
            self.load_data.p.eq(beat),
            self.fetch_data.valid.eq(valid[0]),
            self.load_data.valid.eq(valid[1]),
            taken.eq((valid & Cat(self.fetch_data.ready, self.load_data.ready)).any()),
            self.beat.eq(taken),
        ]
        with m.If(self.flush):
            m.d.sync += [dropping.eq(owners.r_rdy), valid.eq(0), spare_valid.eq(0)]
        with m.Elif(~owners.r_rdy):
            m.d.sync += dropping.eq(0)
        return m
