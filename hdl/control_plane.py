"""Everything of the accelerator but its datapath: registers, sequencer, DMA and the memory bus."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .bus.axi import AXI4LiteSignature, AXI4Signature, connect_channels
from .bus.dma import LoadEngine, StoreEngine
from .bus.read_channel import ReadArbiter
from .bus.write_channel import WriteChannel
from .config import AcceleratorConfig
from .control.control import CONTROL_ADDRESS_BITS, Control
from .control.counters import Counters
from .control.losses import Losses
from .control.sequencer import Sequencer
from .isa import MATMUL, VECTOR, Engine
from .matmul.feeders import Progress
from .memory.interfaces import CommandSignature, ScratchpadReadSignature, ScratchpadWriteSignature
from .parts.resets import reset_by
from .registers import LOSSES

__all__ = ["ControlPlane"]


class ControlPlane(wiring.Component):
    """Wires the control side together.

    Rules
    -----
    1. ``reset`` is high for some cycles when a program starts, when it fails and at a soft reset. Everything
       that works on instructions, in here and in the datapath, must be reset by it, and needs no other reset: no
       ``finished`` may follow it.
    2. The bus side of the DMA is not reset by it: bursts under way are completed, their data dropped, writes
       without byte enables (``ReadArbiter``, ``WriteChannel``); until then the program is being stopped.

    Members
    -------
    s_axi_ctrl : AXI4LiteSignature
        The registers.
    m_axi_mem : AXI4Signature
        The memory.
    interrupt : 1 bit
    matmul, vector : CommandSignature
    load_port : ScratchpadWriteSignature
    store_port : ScratchpadReadSignature
    reset : 1 bit
    progress : Progress
    vector_conflict : 1 bit
        What happens in the datapath, for the counters.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "s_axi_ctrl": In(AXI4LiteSignature(CONTROL_ADDRESS_BITS)),
            "m_axi_mem": Out(AXI4Signature.of(config)),
            "interrupt": Out(1),
            "matmul": Out(CommandSignature(MATMUL)),
            "vector": Out(CommandSignature(VECTOR)),
            "load_port": Out(ScratchpadWriteSignature(config)),
            "store_port": Out(ScratchpadReadSignature(config)),
            "reset": Out(1),
            "progress": In(Progress),
            "vector_conflict": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.control = control = Control(config)
        m.submodules.counters = counters = Counters(config)
        m.submodules.losses = losses = Losses()
        m.submodules.sequencer = sequencer = Sequencer(config)
        m.submodules.reads = reads = ReadArbiter(config)
        m.submodules.writes = writes = WriteChannel(config)
        load, store = LoadEngine(config), StoreEngine(config)
        reset = Signal(init=1)
        m.d.sync += reset.eq(sequencer.reset)
        resettable = reset_by(m, "transfers", reset)
        m.submodules.load, m.submodules.store = resettable(load), resettable(store)

        connect(m, control.bus, flipped(self.s_axi_ctrl))
        connect_channels(m, self.m_axi_mem, reads.bus)
        connect_channels(m, self.m_axi_mem, writes.bus)
        connect(m, control.status, sequencer.status)
        connect(m, control.counters, counters.values)
        connect(m, sequencer.load, load.instructions)
        connect(m, sequencer.store, store.instructions)
        connect(m, sequencer.matmul, flipped(self.matmul))
        connect(m, sequencer.vector, flipped(self.vector))
        connect(m, sequencer.fetch_requests, reads.fetch_requests)
        connect(m, reads.fetch_data, sequencer.fetch_data)
        connect(m, load.requests, reads.load_requests)
        connect(m, reads.load_data, load.data)
        connect(m, load.port, flipped(self.load_port))
        connect(m, store.port, flipped(self.store_port))
        connect(m, store.requests, writes.requests)
        connect(m, store.beats, writes.beats)
        connect(m, control.window, sequencer.window)
        quiet = Signal()
        m.d.sync += quiet.eq(reads.quiet & writes.quiet)
        m.d.comb += [
            self.interrupt.eq(control.interrupt),
            self.reset.eq(reset),
            reads.flush.eq(reset),
            writes.flush.eq(reset),
            store.burst_finished.eq(writes.finished),
            store.burst_error.eq(writes.error),
            store.burst_outside.eq(writes.outside),
            reads.bounds.eq(sequencer.bounds),
            writes.bounds.eq(sequencer.bounds),
            sequencer.quiet.eq(quiet),
            sequencer.fetch_passed.eq(reads.fetch_passed),
            sequencer.fetch_refused.eq(reads.fetch_refused),
            sequencer.start.eq(control.start),
            sequencer.soft_reset.eq(control.reset),
            sequencer.program.eq(control.program),
            sequencer.watchdog.eq(control.watchdog),
            sequencer.load_outside.eq(load.outside),
            sequencer.load_bus_error.eq(load.bus_error),
            sequencer.store_outside.eq(store.outside),
            sequencer.store_bus_error.eq(store.bus_error),
        ]

        events, running = counters.events, sequencer.running
        m.d.comb += [
            counters.clear.eq(sequencer.clear),
            events.cycles.eq(running),
            events.instructions.eq(sequencer.decoded),
            events.read_bytes.eq(reads.beat & running),
            events.write_bytes.eq(Mux(sequencer.moving, writes.written, 0)),
        ]
        m.d.comb += [
            events.vector_conflict.eq(self.vector_conflict & running),
            losses.running.eq(running),
            losses.progress.eq(self.progress),
            losses.blocked.eq(sequencer.matmul_blocked),
            losses.by_load.eq(sequencer.matmul_blocked_by_load),
            losses.unfetched.eq(sequencer.matmul_unfetched),
            *(getattr(events, name).eq(getattr(losses.events, name)) for name in ("array_active", *LOSSES)),
        ]
        for engine in Engine:
            name = engine.name.lower()
            m.d.comb += [
                getattr(events, f"{name}_busy").eq(sequencer.busy[engine.value]),
                getattr(events, f"{name}_wait").eq(sequencer.waiting[engine.value]),
            ]
        return m
