"""The AXI4 write channels of the store engine, safe across a soft reset."""

from amaranth import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..parts.queues import Queue
from ..parts.skid import Slot, Stage
from .axi import AXI4WriteSignature, Burst
from .bursts import AddressLayout, BurstLayout
from .guard import BoundsLayout, WindowGuard

__all__ = ["OUTSTANDING_WRITES", "FilledBeatLayout", "WriteChannel", "written_words"]

#: Write bursts in flight.
OUTSTANDING_WRITES = 4


def written_words(config: AcceleratorConfig) -> int:
    """Words that a beat has room for; 1 where a word is longer than a beat."""
    return max(1, config.bus_bytes // config.word_bytes)


class FilledBeatLayout(data.StructLayout):
    """One beat of write data, and which of its words are ``filled``, from the lowest; where a word is longer than a
    beat, whether it is."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"data": config.bus_bits, "filled": written_words(config)})


class WriteChannel(wiring.Component):
    """Issues write bursts, sends their beats and collects the responses.

    Rules
    -----
    1. At most ``OUTSTANDING_WRITES`` bursts are under way. A burst's address is issued when all beats of the one before
       have been taken; its own follow as they come.
    2. ``finished`` is high for a cycle at the response to a burst that was marked ``last``; ``error`` in the
       cycle of each response that is an error. An error is never reported together with ``finished``.
    3. Only what the :class:`~celosia.hdl.bus.guard.WindowGuard` finds inside goes to the bus. After a burst that it
       refused nothing more does until a flush; ``outside`` is high from when every burst before it was answered.
    4. ``flush`` forgets the requester's interest: AWVALID and WVALID stay up until accepted, the beats still owed
       are sent with no byte enabled, but the one that is on the bus, which must stay as it is, their responses are
       taken and dropped, and no further burst is accepted before the last of them.
    5. ``quiet``: the bus owes no response, hence takes no beat.
    6. This component must not be reset when the requester is: only the reset of the whole bus may.

    Members
    -------
    requests : stream of :class:`BurstLayout`
    beats : stream of :class:`FilledBeatLayout`
        ``length + 1`` beats for each request; they may come before the request, and wait for it.
    finished, error, outside : 1 bit
    written : unsigned
        Words (of a beat's size, where they are longer) that the memory took in this cycle; for the counter.
    bounds : BoundsLayout
        Stable while a burst is requested.
    flush, quiet : 1 bit
    bus : AXI4WriteSignature

    Attributes
    ----------
    guard : WindowGuard
    dropping : Signal
        What a burst goes through, and that what comes is not wanted any more; for proofs.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self.guard = WindowGuard(config)
        self.dropping = Signal(name="dropping")
        super().__init__({
            "requests": In(stream.Signature(BurstLayout(config))),
            "beats": In(stream.Signature(FilledBeatLayout(config))),
            "finished": Out(1),
            "error": Out(1),
            "outside": Out(1),
            "written": Out(range(written_words(config) + 1)),
            "bounds": In(BoundsLayout(config)),
            "flush": In(1),
            "quiet": Out(1),
            "bus": Out(AXI4WriteSignature(config.address_bits, config.bus_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        config, bus = self._config, self.bus
        # Bursts that are owed a response.
        m.submodules.lasts = lasts = Queue(1, OUTSTANDING_WRITES)
        dropping = self.dropping
        refused = Signal()

        # Addresses: judged, then issued.
        guard = self.guard
        m.submodules.guard = ResetInserter(self.flush)(guard)
        m.submodules.addresses = addresses = Slot(AddressLayout(config))
        verdict = guard.verdicts.p
        wanted = Signal()
        judged = Signal()
        accept = Signal()
        sending = Signal()  # a burst is owed beats
        m.d.comb += [
            wanted.eq(~dropping & ~self.flush),
            guard.bounds.eq(self.bounds),
            guard.bursts.valid.eq(self.requests.valid & wanted),
            guard.bursts.p.eq(self.requests.p),
            self.requests.ready.eq(guard.bursts.ready & wanted),
            guard.verdicts.ready.eq(addresses.input.ready & lasts.input.ready & ~sending & ~refused),
            judged.eq(guard.verdicts.valid & guard.verdicts.ready & ~self.flush),
            accept.eq(judged & verdict.inside),
            lasts.input.valid.eq(accept),
            lasts.input.p.eq(verdict.burst.last),
            addresses.input.valid.eq(accept),
            addresses.input.p.address.eq(verdict.burst.address),
            addresses.input.p.length.eq(verdict.burst.length),
            addresses.output.ready.eq(bus.awready),
            bus.awvalid.eq(addresses.output.valid),
            bus.awaddr.eq(addresses.output.payload.address),
            bus.awlen.eq(addresses.output.payload.length),
            bus.awsize.eq(exact_log2(config.bus_bytes)),
            bus.awburst.eq(Burst.INCR),
            bus.awcache.eq(0b0011),
        ]

        # Data: `left` beats after this one of the burst that is being sent. What reaches the bus after a flush has no
        # byte enabled.
        m.submodules.sent = sent = Stage(data.StructLayout({"beat": FilledBeatLayout(config), "last": 1}))
        new, found = sent.input.p, sent.output.p
        left = Signal(8, reset_less=True)
        last_beat = Signal(reset_less=True)
        send = Signal()
        revoked = self.flush | dropping
        m.d.comb += [
            sent.input.valid.eq(sending & (self.beats.valid | dropping)),
            new.last.eq(last_beat),
            new.beat.data.eq(self.beats.p.data),
            new.beat.filled.eq(Mux(revoked, 0, self.beats.p.filled)),
            send.eq(sent.input.valid & sent.input.ready),
            self.beats.ready.eq(sent.input.ready & sending & ~dropping),
            sent.output.ready.eq(bus.wready),
            bus.wvalid.eq(sent.output.valid),
            bus.wdata.eq(found.beat.data),
            bus.wstrb.eq(Cat(bit.replicate(config.bus_bytes // written_words(config)) for bit in found.beat.filled)),
            bus.wlast.eq(found.last),
        ]
        with m.If(accept):
            m.d.sync += [
                sending.eq(1), left.eq(verdict.burst.length), last_beat.eq(verdict.burst.length == 0)]
        with m.Elif(send):
            m.d.sync += [sending.eq(~last_beat), left.eq(left - 1), last_beat.eq(left == 1)]

        # Responses.
        m.d.comb += [bus.bready.eq(1), lasts.output.ready.eq(bus.bvalid)]
        m.d.sync += [
            self.finished.eq(bus.bvalid & ~bus.bresp[1] & lasts.output.p & ~dropping & ~self.flush),
            self.error.eq(bus.bvalid & bus.bresp[1] & ~dropping & ~self.flush),
        ]
        m.d.sync += self.outside.eq(refused & lasts.empty & ~self.flush)
        with m.If(self.flush):
            m.d.sync += [dropping.eq(~lasts.empty), refused.eq(0)]
        with m.Else():
            with m.If(judged & ~verdict.inside):
                m.d.sync += refused.eq(1)
            with m.If(lasts.empty):
                m.d.sync += dropping.eq(0)
        m.d.comb += self.quiet.eq(lasts.empty)

        # What the memory takes.
        with m.If(bus.wvalid & bus.wready):
            m.d.comb += self.written.eq(sum(found.beat.filled))
        return m
