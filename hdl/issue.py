"""The queue of one engine: holds its instructions until their semaphores are there."""

from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig
from .decoder import QueueLayout
from .interfaces import CommandSignature
from .isa import SEMAPHORES, Format
from .semaphores import SemaphoreSignature

__all__ = ["UNDER_WAY", "IssueUnit", "UnderWayLayout"]

#: Instructions that an engine may have under way, besides the oldest.
UNDER_WAY = 8


class UnderWayLayout(data.StructLayout):
    """What is kept of an instruction that is under way."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"signal": SEMAPHORES, "address": config.address_bits})


class IssueUnit(wiring.Component):
    """Queue, issue and completion of one engine's instructions.

    Rules
    -----
    1. The oldest instruction of the queue takes its semaphores, all at once, and is then offered to the
       engine until that accepts it. An engine that is still busy may thus hold semaphores for its next
       instruction.
    2. From ``finished`` of an engine to ``valid`` of the instruction that waits for its signal: three cycles.
    3. At most ``UNDER_WAY + 1`` instructions are accepted and not finished.
    4. An engine raises ``finished`` once for each instruction, not before the third cycle after it accepted
       it.

    Parameters
    ----------
    config : AcceleratorConfig
    format : Format
        Of the engine's instructions.

    Members
    -------
    queue : stream of :class:`QueueLayout`
        From the decoder.
    engine : CommandSignature
    semaphores : SemaphoreSignature
    enable : 1 bit
        While low, no semaphore is asked for.
    idle : 1 bit
        Nothing is queued or under way.
    busy : 1 bit
        An instruction is under way.
    waiting : 1 bit
        None is under way, and the next one waits for a semaphore.
    oldest : UnderWayLayout
        The oldest instruction under way, while ``busy``.
    ended : 1 bit
        An instruction finished in the cycle before, and gives its semaphores in this one.
    latest : UnderWayLayout
        The one that ``ended`` last, before ``hold``.
    hold : 1 bit
        Freezes ``latest``.
    head : address_bits
        Address of the oldest instruction in the queue, while neither ``idle`` nor ``busy``.
    """

    def __init__(self, config: AcceleratorConfig, format: Format):
        self._config = config
        self._format = format
        super().__init__({
            "queue": In(stream.Signature(QueueLayout(config, format))),
            "engine": Out(CommandSignature(format)),
            "semaphores": Out(SemaphoreSignature()),
            "enable": In(1),
            "idle": Out(1),
            "busy": Out(1),
            "waiting": Out(1),
            "oldest": Out(UnderWayLayout(config)),
            "ended": Out(1),
            "latest": Out(UnderWayLayout(config)),
            "hold": In(1),
            "head": Out(config.address_bits),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        layout = QueueLayout(config, self._format)
        # One more for the register behind the memory.
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=layout.size, depth=config.queue_depth + 1)
        m.submodules.under_way = under_way = SyncFIFOBuffered(
            width=UnderWayLayout(config).size, depth=UNDER_WAY + 1)
        head = data.View(layout, fifo.r_data)
        command = self.engine.command
        entry = Signal(UnderWayLayout(config))
        claimed = Signal()
        transfer = Signal()
        m.d.comb += [
            fifo.w_data.eq(self.queue.p),
            fifo.w_en.eq(self.queue.valid),
            self.queue.ready.eq(fifo.w_rdy),

            self.semaphores.request.eq(fifo.r_rdy & ~claimed & under_way.w_rdy & self.enable),
            self.semaphores.wanted.eq(head.instruction.wait),
            command.p.eq(head.instruction),
            command.valid.eq(claimed | self.semaphores.grant),
            transfer.eq(command.valid & command.ready),
            fifo.r_en.eq(transfer),
            self.head.eq(head.address),

            under_way.w_en.eq(transfer),
            entry.signal.eq(head.instruction.signal),
            entry.address.eq(head.address),
            under_way.w_data.eq(entry),
            under_way.r_en.eq(self.engine.finished),
            self.oldest.eq(under_way.r_data),
            self.busy.eq(under_way.level != 0),
            self.waiting.eq(self.semaphores.blocked & ~self.busy),
        ]
        m.d.sync += [claimed.eq(command.valid & ~command.ready), self.ended.eq(self.engine.finished)]
        ended = Signal(UnderWayLayout(config), reset_less=True)
        with m.If(self.engine.finished):
            m.d.sync += ended.eq(self.oldest)
        with m.If(self.ended):
            m.d.comb += self.semaphores.given.eq(ended.signal)
        with m.If(self.ended & ~self.hold):
            m.d.sync += self.latest.eq(ended)

        # `idle` counts from the queue's entrance, so that no instruction is ever between two places.
        inside = Signal(range(config.queue_depth + 1 + UNDER_WAY + 1 + 1))
        enters = self.queue.valid & self.queue.ready
        m.d.comb += self.idle.eq(inside == 0)
        m.d.sync += inside.eq(inside + enters - self.ended)
        return m
