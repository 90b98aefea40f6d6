"""What is proved of the memory bus, each as a component around the part in question: its inputs are free, what it
assumes of them is an ``Assume``, and what must hold an ``Assert`` with the clause that it quotes.

Clauses A3 to A5 are those of the AMBA AXI protocol specification (IHI 0022).
"""

from amaranth import Cat, ClockDomain, Module, Signal, Value
from amaranth.hdl import Assert, Assume
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2
from celosia.hdl.bus.axi import AXI4ReadSignature, AXI4Signature, AXI4WriteSignature, flat_ports
from celosia.hdl.bus.axi_arbiter import AxiArbiter
from celosia.hdl.bus.bursts import BurstLayout
from celosia.hdl.bus.guard import WindowGuard, WindowSignature, bounds_of
from celosia.hdl.bus.read_channel import ReadArbiter
from celosia.hdl.bus.write_channel import WriteChannel, written_words
from celosia.hdl.config import AcceleratorConfig

__all__ = [
    "CONFIG",
    "PROOFS",
    "ArbiterProof",
    "GuardProof",
    "OwedReadProof",
    "OwedWriteProof",
    "Proof",
    "ReadProof",
    "WriteProof",
]

#: Narrow enough for a solver: what is proved does not look at data.
CONFIG = AcceleratorConfig(rows=4, cols=4, bus_bits=64, address_bits=32, outstanding_reads=2)


class Proof(wiring.Component):
    """A component whose registers begin with their initial values and are never reset; ``ports``, for
    :func:`~celosia.synth.formal.prover.prove`, has its clock, too.

    Its assertions hold in the first ``depth`` cycles; with ``induction``, what holds for so many cycles in turn must
    also hold in the next one, whatever was before, and so for ever.
    """

    depth = 3
    induction = True

    def __init__(self):
        super().__init__()
        self._domain = ClockDomain("sync", reset_less=True)
        self.ports = {"clk": (self._domain.clk, None), **flat_ports(self)}

    def elaborate(self, platform):
        m = Module()
        m.domains += self._domain
        self.properties(m)
        return m

    def properties(self, m: Module) -> None:
        """Add them, and what is theirs, to ``m``."""
        raise NotImplementedError

    @staticmethod
    def before(m: Module, value, name: str) -> Signal:
        """``value`` in the cycle before; zero in the first one."""
        value = Value.cast(value)
        register = Signal(len(value), name=f"{name}_before")
        m.d.sync += register.eq(value)
        return register

    def held(self, m: Module, valid, ready, payload, name: str) -> None:
        """A3.2.1: what is offered stays offered, as it is, until it is taken."""
        waited, offered = self.before(m, valid & ~ready, f"{name}_waited"), self.before(m, payload, name)
        with m.If(waited):
            m.d.comb += [
                Assert(valid, f"{name}: VALID is held (A3.2.1)"),
                Assert(Value.cast(payload) == offered, f"{name}: what is offered is held (A3.2.1)"),
            ]

    def window(self, m: Module, take, may_take) -> WindowSignature:
        """The window as it was taken last; it is only taken where the part allows (``may_take``)."""
        kept = WindowSignature().create(path=("kept",))
        m.d.comb += Assume(may_take | ~take)
        with m.If(take):
            m.d.sync += [kept.base.eq(self.new_base), kept.limit.eq(self.new_limit)]
        return kept


def _lies_inside(window, address, length, beyond=0):
    """Whether a burst keeps every rule, worked out in bytes: ``address`` of its first byte, ``length`` + 1 beats."""
    size = CONFIG.bus_bytes
    first = address & ~(size - 1)
    last = first + (length + 1) * size - 1
    return ~beyond & (first >= window.base) & (last < window.limit) & ((first >> 12) == (last >> 12)) & (
        last < 1 << CONFIG.address_bits)


class GuardProof(Proof):
    """The guard judges as :func:`_lies_inside` does, whatever is offered, and holds its verdicts."""

    take: In(1)
    new_base: In(48)
    new_limit: In(48)
    burst: In(BurstLayout(CONFIG))
    valid: In(1)
    ready: In(1)

    def properties(self, m):
        m.submodules.guard = guard = WindowGuard(CONFIG)
        kept = self.window(m, self.take, ~self.valid & ~guard.waiting & ~guard.verdicts.valid)
        m.d.comb += [
            Value.cast(guard.bounds).eq(bounds_of(CONFIG, kept)),
            guard.bursts.p.eq(self.burst), guard.bursts.valid.eq(self.valid), guard.verdicts.ready.eq(self.ready),
        ]
        _judges(m, guard, kept)
        self.held(m, guard.verdicts.valid, self.ready, guard.verdicts.payload, "verdict")


def _judges(m, guard, window) -> None:
    """Both stages of a guard are right."""
    shift = exact_log2(CONFIG.bus_bytes)
    page_beats = 4096 // CONFIG.bus_bytes
    with m.If(guard.waiting):
        begin = guard.burst.address[shift:] & (page_beats - 1)
        m.d.comb += Assert(guard.end == begin + guard.burst.length, "guard: where the burst ends in its page")
    verdict = guard.verdicts.p
    with m.If(guard.verdicts.valid):
        m.d.comb += Assert(
            verdict.inside == _lies_inside(window, verdict.burst.address, verdict.burst.length, verdict.burst.beyond),
            "guard, rule 1: inside the window, within 4 KiB (A3.4.1), below 2 ** address_bits")


class ReadProof(Proof):
    """The read channels: whatever fetch and load engine ask for and whenever they are flushed."""

    take: In(1)
    new_base: In(48)
    new_limit: In(48)
    fetch: In(BurstLayout(CONFIG))
    fetch_valid: In(1)
    load: In(BurstLayout(CONFIG))
    load_valid: In(1)
    fetch_ready: In(1)
    load_ready: In(1)
    flush: In(1)
    bus: Out(AXI4ReadSignature(CONFIG.address_bits, CONFIG.bus_bits))

    def properties(self, m):
        m.submodules.reads = reads = ReadArbiter(CONFIG)
        bus, guard = reads.bus, reads.guard
        # The sequencer takes a window while nobody asks; what was judged before may still wait for the bus.
        judging = guard.waiting | guard.verdicts.valid
        kept = self.window(m, self.take, ~judging & ~self.fetch_valid & ~self.load_valid)
        wiring.connect(m, wiring.flipped(self.bus), bus)
        m.d.comb += [
            Value.cast(reads.bounds).eq(bounds_of(CONFIG, kept)), reads.flush.eq(self.flush),
            reads.fetch_requests.p.eq(self.fetch), reads.fetch_requests.valid.eq(self.fetch_valid),
            reads.load_requests.p.eq(self.load), reads.load_requests.valid.eq(self.load_valid),
            reads.fetch_data.ready.eq(self.fetch_ready), reads.load_data.ready.eq(self.load_ready),
        ]
        _judges(m, guard, kept)
        _reaches_inside(m, kept, bus.arvalid, bus.araddr, bus.arlen, "AR")
        self.held(m, bus.arvalid, bus.arready, Cat(bus.araddr, bus.arlen, bus.arsize, bus.arburst), "AR")


def _reaches_inside(m, window, valid, address, length, name: str) -> None:
    """What is on the bus lies inside the window of its program, by which it was judged."""
    of_bus = WindowSignature().create(path=(name, "bus"))
    with m.If(~valid):
        m.d.sync += [of_bus.base.eq(window.base), of_bus.limit.eq(window.limit)]
    with m.Else():
        m.d.comb += Assert(_lies_inside(of_bus, address, length), f"{name}: inside the window, within 4 KiB (A3.4.1)")


class WriteProof(Proof):
    """The write channels: whatever the store engine asks for and whenever it is flushed."""

    take: In(1)
    new_base: In(48)
    new_limit: In(48)
    store: In(BurstLayout(CONFIG))
    store_valid: In(1)
    data: In(CONFIG.bus_bits)
    filled: In(written_words(CONFIG))
    beat_valid: In(1)
    flush: In(1)
    bus: Out(AXI4WriteSignature(CONFIG.address_bits, CONFIG.bus_bits))

    def properties(self, m):
        m.submodules.writes = writes = WriteChannel(CONFIG)
        bus, guard = writes.bus, writes.guard
        kept = self.window(m, self.take, ~guard.waiting & ~guard.verdicts.valid & ~self.store_valid)
        wiring.connect(m, wiring.flipped(self.bus), bus)
        m.d.comb += [
            Value.cast(writes.bounds).eq(bounds_of(CONFIG, kept)), writes.flush.eq(self.flush),
            writes.requests.p.eq(self.store), writes.requests.valid.eq(self.store_valid),
            writes.beats.p.data.eq(self.data), writes.beats.p.filled.eq(self.filled),
            writes.beats.valid.eq(self.beat_valid),
        ]
        _judges(m, guard, kept)
        _reaches_inside(m, kept, bus.awvalid, bus.awaddr, bus.awlen, "AW")
        self.held(m, bus.awvalid, bus.awready, Cat(bus.awaddr, bus.awlen, bus.awsize, bus.awburst), "AW")
        self.held(m, bus.wvalid, bus.wready, Cat(bus.wdata, bus.wstrb, bus.wlast), "W")
        revoked = self.before(m, self.flush | writes.dropping, "revoked")
        free = self.before(m, ~bus.wvalid | bus.wready, "free")
        with m.If(revoked & free & bus.wvalid):
            m.d.comb += Assert(bus.wstrb == 0, "W, rule 4: what reaches the bus after a flush writes nothing")
        m.d.comb += Assert(writes.written <= written_words(CONFIG), "W: words of a beat")


def _everywhere(bounds) -> list:
    """Assignments that let the window have no end: what is owed does not hang on it."""
    return [bounds.base.eq(0), bounds.limit.eq(1 << len(bounds.limit) - 1)]


class OwedReadProof(Proof):
    """Bursts that the memory owes, counted outside."""

    depth = 12
    induction = False
    fetch_valid: In(1)
    load_valid: In(1)
    beyond: In(1)
    fetch_ready: In(1)
    load_ready: In(1)
    flush: In(1)
    bus: Out(AXI4ReadSignature(CONFIG.address_bits, CONFIG.bus_bits))

    def properties(self, m):
        m.submodules.reads = reads = ReadArbiter(CONFIG)
        bus = reads.bus
        wiring.connect(m, wiring.flipped(self.bus), bus)
        m.d.comb += [
            *_everywhere(reads.bounds), reads.flush.eq(self.flush),
            reads.fetch_requests.valid.eq(self.fetch_valid), reads.load_requests.valid.eq(self.load_valid),
            reads.load_requests.p.beyond.eq(self.beyond),  # a burst that is refused
            reads.fetch_data.ready.eq(self.fetch_ready), reads.load_data.ready.eq(self.load_ready),
        ]
        owed = Signal(4)
        begins, ends = bus.arvalid & bus.arready, bus.rvalid & bus.rready & bus.rlast
        m.d.sync += owed.eq(owed + begins - ends)
        m.d.comb += Assume(~bus.rvalid | (owed != 0))
        m.d.comb += Assert(owed <= CONFIG.outstanding_reads, "R, rule 1: bursts under way")
        with m.If(reads.quiet):
            m.d.comb += Assert((owed == 0) & ~bus.arvalid, "R, rule 5: quiet")


class OwedWriteProof(Proof):
    """Beats that a burst owes, for the burst of any number: exactly as many as its length says, the last marked."""

    depth = 12
    induction = False
    length: In(1)
    last: In(1)
    store_valid: In(1)
    beat_valid: In(1)
    flush: In(1)
    tracked: In(2)
    bus: Out(AXI4WriteSignature(CONFIG.address_bits, CONFIG.bus_bits))

    def properties(self, m):
        m.submodules.writes = writes = WriteChannel(CONFIG)
        bus = writes.bus
        wiring.connect(m, wiring.flipped(self.bus), bus)
        tracked, started = Signal.like(self.tracked), Signal()
        m.d.sync += [tracked.eq(self.tracked), started.eq(1)]
        m.d.comb += [
            *_everywhere(writes.bounds), writes.flush.eq(self.flush), Assume(~started | (tracked == self.tracked)),
            writes.requests.p.length.eq(self.length), writes.requests.p.last.eq(self.last),
            writes.requests.valid.eq(self.store_valid), writes.beats.valid.eq(self.beat_valid),
        ]
        asked, sent, answered = (Signal(4, name=name) for name in ("asked", "sent", "answered"))
        length, beats = Signal(8), Signal(8)
        knows_length, knows_beats = Signal(), Signal()
        takes = bus.wvalid & bus.wready
        m.d.sync += [
            asked.eq(asked + (bus.awvalid & bus.awready)), sent.eq(sent + (takes & bus.wlast)),
            answered.eq(answered + bus.bvalid)]
        m.d.comb += Assume(~bus.bvalid | ((answered != asked) & (answered != sent)))  # A3.3.1
        with m.If(bus.awvalid & bus.awready & (asked == self.tracked)):
            m.d.sync += [length.eq(bus.awlen), knows_length.eq(1)]
        with m.If(takes & (sent == self.tracked)):
            m.d.sync += [beats.eq(beats + 1), knows_beats.eq(bus.wlast)]
        with m.If(knows_length & knows_beats):
            m.d.comb += Assert(beats == length + 1, "W: as many beats as the address said (A3.4.1)")
        with m.If(writes.quiet):
            m.d.comb += Assert((asked == sent) & (asked == answered) & ~bus.awvalid & ~bus.wvalid, "W, rule 5: quiet")


class ArbiterProof(Proof):
    """Two managers that keep AXI's rules share a memory that takes data before its address."""

    depth = 20
    induction = False
    first: In(AXI4Signature.of(CONFIG))
    second: In(AXI4Signature.of(CONFIG))
    memory: Out(AXI4Signature.of(CONFIG))

    def properties(self, m):
        m.submodules.arbiter = arbiter = AxiArbiter(CONFIG)
        for name in ("first", "second", "memory"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(arbiter, name))
        memory = arbiter.memory
        for manager in (self.first, self.second):
            for channel in ("aw", "w"):
                valid, ready = getattr(manager, f"{channel}valid"), getattr(manager, f"{channel}ready")
                waited = self.before(m, valid & ~ready, f"{channel}_waited")
                with m.If(waited):
                    m.d.comb += Assume(valid)
        # An address and a whole burst of data, in any order, and then the answer.
        addressed, sent = Signal(), Signal()
        with m.If(memory.bvalid & memory.bready):
            m.d.sync += [addressed.eq(0), sent.eq(0)]
        with m.Else():
            with m.If(memory.awvalid & memory.awready):
                m.d.sync += addressed.eq(1)
            with m.If(memory.wvalid & memory.wready & memory.wlast):
                m.d.sync += sent.eq(1)
        m.d.comb += Assume(~memory.bvalid | (addressed & sent))  # A3.3.1
        m.d.comb += [
            Assert(~(sent & memory.wvalid), "W, rule 3: no data behind a last beat that was not answered"),
            Assert(~(addressed & memory.awvalid), "AW, rule 1: no address before the answer to the last"),
        ]


#: Every proof, by its name.
PROOFS: dict[str, type[Proof]] = {
    "guard": GuardProof, "reads": ReadProof, "writes": WriteProof, "owed reads": OwedReadProof,
    "owed writes": OwedWriteProof, "arbiter": ArbiterProof,
}
