"""The AXI4 read channels: shared between the instruction fetch and the load engine, and safe across a soft
reset."""

from amaranth import Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..parts.queues import Queue
from ..parts.skid import Slot
from .axi import AXI4ReadSignature, Burst
from .bursts import AddressLayout, BurstLayout
from .guard import BoundsLayout, WindowGuard

__all__ = ["BeatLayout", "ReadArbiter"]


class BeatLayout(data.StructLayout):
    """One beat of read data; ``error``: the memory answered it with an error, or, with ``outside``, it stands for a
    burst that was refused, and ``data`` means nothing."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"data": config.bus_bits, "error": 1, "outside": 1})


class ReadArbiter(wiring.Component):
    """Issues read bursts for two requesters and hands each its beats, in the order of the requests.

    Rules
    -----
    1. The fetch goes first; at most ``outstanding_reads`` bursts are under way.
    2. All bursts have ID 0, so data comes in the order of the requests; a first-in first-out queue of owners
       says for whom.
    3. Only what the :class:`~celosia.hdl.bus.guard.WindowGuard` finds inside goes to the bus. In place of a burst of
       the load engine that it refused comes one beat, ``outside``, in the order of the requests; the fetch is told at
       once, of each of its bursts, whether it ``passed`` or was ``refused``.
    4. ``flush`` forgets the requesters' interest: ARVALID stays up until accepted, every beat still to come is taken
       and dropped, and no further burst is issued before the last of them.
    5. ``quiet``: the bus owes no beat.
    6. This component must not be reset when the requesters are: only the reset of the whole bus may.

    AXI4 has no means to withdraw a read, and later reads of the same ID must wait for it: while the memory does not
    answer, ``quiet`` does not rise.

    Members
    -------
    fetch_requests, load_requests : stream of :class:`BurstLayout`
        ``last`` is ignored.
    fetch_passed, fetch_refused : 1 bit
    fetch_data, load_data : stream of :class:`BeatLayout`
        ``valid`` comes from the bus in the same cycle, and RREADY from ``ready``, which must not depend on ``valid``.
        One holds up the other.
    bounds : BoundsLayout
        Stable while a burst is requested.
    flush, quiet : 1 bit
    beat : 1 bit
        A beat has come that somebody wants; for the counter.
    bus : AXI4ReadSignature

    Attributes
    ----------
    guard : WindowGuard
        What a burst goes through, for proofs.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self.guard = WindowGuard(config)
        requests, beats = stream.Signature(BurstLayout(config)), stream.Signature(BeatLayout(config))
        super().__init__({
            "fetch_requests": In(requests),
            "load_requests": In(requests),
            "fetch_data": Out(beats),
            "load_data": Out(beats),
            "fetch_passed": Out(1),
            "fetch_refused": Out(1),
            "bounds": In(BoundsLayout(config)),
            "flush": In(1),
            "quiet": Out(1),
            "beat": Out(1),
            "bus": Out(AXI4ReadSignature(config.address_bits, config.bus_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        config, bus = self._config, self.bus
        owner = data.StructLayout({"for_fetch": 1, "refused": 1})
        m.submodules.owners = owners = Queue(owner, config.outstanding_reads)
        dropping = Signal()
        wanted = Signal()  # what the requesters want is issued
        m.d.comb += wanted.eq(~dropping & ~self.flush)

        # Requests: judged, then issued, or refused.
        guard = self.guard
        m.submodules.guard = ResetInserter(self.flush)(guard)
        m.submodules.addresses = addresses = Slot(AddressLayout(config))
        asks, verdict = guard.bursts, guard.verdicts.p
        judged = Signal()
        m.d.comb += [
            guard.bounds.eq(self.bounds),
            asks.valid.eq((self.fetch_requests.valid | self.load_requests.valid) & wanted),
            guard.tag.eq(self.fetch_requests.valid),
            asks.p.eq(Mux(guard.tag, self.fetch_requests.p, self.load_requests.p)),
            self.fetch_requests.ready.eq(asks.ready & wanted),
            self.load_requests.ready.eq(asks.ready & wanted & ~self.fetch_requests.valid),

            guard.verdicts.ready.eq(addresses.input.ready & owners.input.ready),
            judged.eq(guard.verdicts.valid & guard.verdicts.ready & ~self.flush),
            self.fetch_passed.eq(judged & verdict.tag & verdict.inside),
            self.fetch_refused.eq(judged & verdict.tag & ~verdict.inside),
            owners.input.p.for_fetch.eq(verdict.tag),
            owners.input.p.refused.eq(~verdict.inside),
            owners.input.valid.eq(judged & ~self.fetch_refused),
            addresses.input.valid.eq(judged & verdict.inside),
            addresses.input.p.address.eq(verdict.burst.address),
            addresses.input.p.length.eq(verdict.burst.length),
            addresses.output.ready.eq(bus.arready),
            bus.arvalid.eq(addresses.output.valid),
            bus.araddr.eq(addresses.output.payload.address),
            bus.arlen.eq(addresses.output.payload.length),
            bus.arsize.eq(exact_log2(config.bus_bytes)),
            bus.arburst.eq(Burst.INCR),
            bus.arcache.eq(0b0011),
        ]

        # Data. A beat goes straight to who asked for it; those that nobody wants any more are taken and dropped.
        turn = owners.output
        refused = Signal()  # it is the turn of a burst that was refused
        ready = Signal()  # a beat would be taken
        comes = Signal()  # there is one that is wanted, or what stands for a burst
        beat = Signal(BeatLayout(config))
        m.d.comb += [
            refused.eq(turn.p.refused),
            ready.eq(Mux(turn.p.for_fetch, self.fetch_data.ready, self.load_data.ready) | dropping),
            comes.eq(turn.valid & (bus.rvalid | refused) & ~dropping),
            bus.rready.eq(turn.valid & ~refused & ready),
            turn.ready.eq(ready & (refused | (bus.rvalid & bus.rlast))),
            beat.data.eq(bus.rdata),
            beat.error.eq(bus.rresp[1] | refused),
            beat.outside.eq(refused),
            self.fetch_data.p.eq(beat),
            self.load_data.p.eq(beat),
            self.fetch_data.valid.eq(comes & turn.p.for_fetch),
            self.load_data.valid.eq(comes & ~turn.p.for_fetch),
            self.beat.eq(comes & ready & ~refused),
            self.quiet.eq(owners.empty),
        ]
        with m.If(self.flush):
            m.d.sync += dropping.eq(~owners.empty)
        with m.Elif(owners.empty):
            m.d.sync += dropping.eq(0)
        return m
