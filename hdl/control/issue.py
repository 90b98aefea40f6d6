"""The queue of one engine: holds its instructions until their semaphores are there."""

from amaranth import Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import AcceleratorConfig
from ..isa import Engine
from ..memory.interfaces import CommandSignature
from ..parts.queues import Queue
from ..parts.resets import without_reset
from .queued import ENGINE_FORMATS, INDEX_BITS, NEIGHBOURS, QueuedLayout
from .semaphores import SemaphoreSignature

__all__ = ["CLAIM_LATENCY", "SIGNAL_LATENCY", "UNDER_WAY", "IssueUnit", "UnderWayLayout", "queue_depth"]

#: Instructions that an engine may have under way, besides the oldest.
UNDER_WAY = 4
#: Cycles from when an instruction is accepted, or one of too many under way has finished, to when the next is offered.
CLAIM_LATENCY = 2
#: Cycles from ``finished`` of an engine to when the instruction that waits for its signal is offered.
SIGNAL_LATENCY = 3


def queue_depth(config: AcceleratorConfig, engine: Engine) -> int:
    """Instructions that wait in the queue of ``engine``, besides the one that is offered to it."""
    return config.load_queue_depth if engine is Engine.LOAD else config.queue_depth


class UnderWayLayout(data.StructLayout):
    """What is kept of an instruction of ``engine`` that is under way, as in its queue."""

    def __init__(self, engine: Engine):
        super().__init__({"signal": len(NEIGHBOURS[engine]), "index": INDEX_BITS})


class IssueUnit(wiring.Component):
    """Queue, issue and completion of one engine's instructions.

    Rules
    -----
    1. The oldest instruction of the queue takes its semaphores, all at once, and is then offered to the
       engine until that accepts it. An engine that is still busy may thus hold semaphores for its next
       instruction.
    2. The next instruction is offered ``CLAIM_LATENCY`` cycles after one was accepted, and ``SIGNAL_LATENCY`` cycles
       after ``finished`` of the engine whose signal it waits for, at the earliest.
    3. At most ``UNDER_WAY + 1`` instructions are offered and not finished.
    4. An engine raises ``finished`` once for each instruction, not before the third cycle after it accepted
       it.

    Parameters
    ----------
    config : AcceleratorConfig
    engine : Engine

    Members
    -------
    queue : stream of :class:`~celosia.hdl.control.queued.QueuedLayout`
        From the decoder.
    engine : CommandSignature
    semaphores : SemaphoreSignature
    enable : 1 bit
        While low, no semaphore is asked for.
    idle : 1 bit
        Nothing is queued or under way.
    empty : 1 bit
        Nothing is queued.
    busy : 1 bit
        An instruction is under way.
    waiting : 1 bit
        None is under way, and the next one waits for a semaphore.
    ended : 1 bit
        An instruction finished in the cycle before, and gives its semaphores in this one.
    overflows : 1 bit
        One of them can't be given any more.
    fails : 1 bit
        The engine reports a fault of its oldest instruction under way.
    hold : 1 bit
        ``fault_index`` stays as it is.
    fault_index : ``INDEX_BITS``
        One cycle later, the index of the instruction that is to be blamed for a fault: the one that ``overflows``,
        unless the engine ``fails``; else the oldest that is under way, or in the queue.
    """

    def __init__(self, config: AcceleratorConfig, engine: Engine):
        self._config = config
        self._engine = engine
        super().__init__({
            "queue": In(stream.Signature(QueuedLayout(config, engine))),
            "engine": Out(CommandSignature(ENGINE_FORMATS[engine])),
            "semaphores": Out(SemaphoreSignature()),
            "enable": In(1),
            "idle": Out(1),
            "empty": Out(1),
            "busy": Out(1),
            "waiting": Out(1),
            "ended": Out(1),
            "overflows": Out(1),
            "fails": In(1),
            "hold": In(1),
            "fault_index": Out(INDEX_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        layout = QueuedLayout(self._config, self._engine)
        # One instruction more lies at the queue's output, until the engine accepts it.
        m.submodules.waiting_instructions = queue = Queue(
            layout, queue_depth(self._config, self._engine) + 1)
        m.submodules.under_way = under_way = Queue(UnderWayLayout(self._engine), UNDER_WAY + 1)
        wiring.connect(m, wiring.flipped(self.queue), queue.input)

        head, command, semaphores = queue.output.p, self.engine.command, self.semaphores
        granted = Signal()  # in the cycle before: it counts as under way
        oldest = under_way.output.p
        m.d.sync += [granted.eq(semaphores.grant), self.ended.eq(self.engine.finished)]
        m.d.comb += [
            semaphores.request.eq(queue.output.valid & ~command.valid & under_way.input.ready & self.enable),
            semaphores.wanted.eq(head.wait),
            semaphores.takes.eq(granted),
            queue.output.ready.eq(command.valid & command.ready),
            Value.cast(command.p).eq(layout.restored(head)),
            under_way.input.valid.eq(granted),
            under_way.input.p.signal.eq(head.signal),
            under_way.input.p.index.eq(head.index),
            under_way.output.ready.eq(self.engine.finished),
            self.empty.eq(queue.empty),
            self.busy.eq(~under_way.empty),
        ]
        m.d.sync += self.waiting.eq(semaphores.request & semaphores.lacks.any() & ~self.busy)
        with m.If(semaphores.grant):
            m.d.sync += command.valid.eq(1)
        with m.Elif(command.ready):
            m.d.sync += command.valid.eq(0)
        ended = Signal(UnderWayLayout(self._engine), reset_less=True)
        with m.If(self.engine.finished):
            m.d.sync += ended.eq(oldest)
        m.d.comb += [semaphores.gives.eq(self.ended), semaphores.given.eq(ended.signal)]

        # Faults.
        fault_index = without_reset(m, self.fault_index)
        m.d.comb += self.overflows.eq(semaphores.overflows)
        with m.If(~self.hold):
            with m.If(self.overflows & ~self.fails):
                m.d.sync += fault_index.eq(ended.index)
            with m.Elif(self.busy):
                m.d.sync += fault_index.eq(oldest.index)
            with m.Else():
                m.d.sync += fault_index.eq(head.index)

        # `idle` counts from the queue's entrance, so that no instruction is ever between two places.
        inside = Signal(range(queue.depth + under_way.depth + 2))
        enters = self.queue.valid & self.queue.ready
        m.d.comb += self.idle.eq(inside == 0)
        m.d.sync += inside.eq(inside + enters - self.ended)
        return m
