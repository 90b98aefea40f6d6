"""The AXI4 write channels of the store engine, safe across a soft reset."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..parts.queues import Queue
from ..parts.skid import Skid
from .axi import AXI4WriteSignature, Burst
from .bursts import AddressLayout, BurstLayout

__all__ = ["OUTSTANDING_WRITES", "StrobedBeatLayout", "WriteChannel"]

#: Write bursts in flight.
OUTSTANDING_WRITES = 8


class StrobedBeatLayout(data.StructLayout):
    """One beat of write data, and which of its bytes are to be written."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"data": config.bus_bits, "strobe": config.bus_bytes})


class WriteChannel(wiring.Component):
    """Issues write bursts, sends their beats and collects the responses.

    Rules
    -----
    1. At most ``OUTSTANDING_WRITES`` bursts are under way. A burst's address is issued at once, its beats
       follow as they come, those of one burst after those of the one before.
    2. ``finished`` is high for a cycle at the response to a burst that was marked ``last``; ``error`` in the
       cycle of each response that is an error. An error is never reported together with ``finished``.
    3. ``flush`` forgets the requester's interest: AWVALID and WVALID stay up until accepted, the beats still owed
       are sent with no byte enabled, but the two that may be on their way to the bus, their responses are taken and
       dropped, and no further burst is accepted before the last of them.
    4. This component must not be reset when the requester is: only the reset of the whole bus may.

    Members
    -------
    requests : stream of :class:`BurstLayout`
    beats : stream of :class:`StrobedBeatLayout`
        ``length + 1`` beats for each request; they may come before the request, and wait for it.
    finished, error : 1 bit
    flush : 1 bit
    bus : AXI4WriteSignature
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "requests": In(stream.Signature(BurstLayout(config))),
            "beats": In(stream.Signature(StrobedBeatLayout(config))),
            "finished": Out(1),
            "error": Out(1),
            "flush": In(1),
            "bus": Out(AXI4WriteSignature(config.address_bits, config.bus_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        config, bus = self._config, self.bus
        # Bursts that are owed beats, and those that are owed a response.
        m.submodules.lengths = lengths = Queue(8, OUTSTANDING_WRITES)
        m.submodules.lasts = lasts = Queue(1, OUTSTANDING_WRITES)
        dropping = Signal()

        # Addresses.
        m.submodules.addresses = addresses = Skid(AddressLayout(config))
        accept = Signal()
        m.d.comb += [
            self.requests.ready.eq(addresses.input.ready & lasts.input.ready & ~dropping & ~self.flush),
            accept.eq(self.requests.valid & self.requests.ready),
            lengths.input.valid.eq(accept),  # never more than the bursts that are owed a response
            lengths.input.p.eq(self.requests.p.length),
            lasts.input.valid.eq(accept),
            lasts.input.p.eq(self.requests.p.last),
            addresses.input.valid.eq(accept),
            addresses.input.payload.address.eq(self.requests.p.address),
            addresses.input.payload.length.eq(self.requests.p.length),
            addresses.output.ready.eq(bus.awready),
            bus.awvalid.eq(addresses.output.valid),
            bus.awaddr.eq(addresses.output.payload.address),
            bus.awlen.eq(addresses.output.payload.length),
            bus.awsize.eq(exact_log2(config.bus_bytes)),
            bus.awburst.eq(Burst.INCR),
            bus.awcache.eq(0b0011),
        ]

        # Data: `left` beats after this one of the burst that is being sent.
        m.submodules.sent = sent = Skid(data.StructLayout({"beat": StrobedBeatLayout(config), "last": 1}))
        sending = Signal()
        left = Signal(8, reset_less=True)
        last_beat = Signal(reset_less=True)
        send = Signal()
        m.d.comb += [
            sent.input.valid.eq(sending & (self.beats.valid | dropping)),
            sent.input.payload.last.eq(last_beat),
            sent.input.payload.beat.data.eq(self.beats.p.data),
            sent.input.payload.beat.strobe.eq(Mux(dropping, 0, self.beats.p.strobe)),
            send.eq(sent.input.valid & sent.input.ready),
            lengths.output.ready.eq(~sending | (send & last_beat)),
            self.beats.ready.eq(sent.input.ready & sending & ~dropping),
            sent.output.ready.eq(bus.wready),
            bus.wvalid.eq(sent.output.valid),
            bus.wdata.eq(sent.output.payload.beat.data),
            bus.wstrb.eq(sent.output.payload.beat.strobe),
            bus.wlast.eq(sent.output.payload.last),
        ]
        with m.If(lengths.output.ready):
            m.d.sync += [
                sending.eq(lengths.output.valid), left.eq(lengths.output.p), last_beat.eq(lengths.output.p == 0)]
        with m.Elif(send):
            m.d.sync += [left.eq(left - 1), last_beat.eq(left == 1)]

        # Responses.
        m.d.comb += [bus.bready.eq(1), lasts.output.ready.eq(bus.bvalid)]
        m.d.sync += [
            self.finished.eq(bus.bvalid & ~bus.bresp[1] & lasts.output.p & ~dropping & ~self.flush),
            self.error.eq(bus.bvalid & bus.bresp[1] & ~dropping & ~self.flush),
        ]
        with m.If(self.flush):
            m.d.sync += dropping.eq(~lasts.empty)
        with m.Elif(lasts.empty):
            m.d.sync += dropping.eq(0)
        return m
