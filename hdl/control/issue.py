"""The queue of one engine: holds its instructions until their semaphores are there."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import AcceleratorConfig
from ..isa import SEMAPHORES, Format
from ..memory.interfaces import CommandSignature
from ..parts.queues import Queue
from ..parts.resets import without_reset
from .decoder import QueueLayout
from .semaphores import OVERFLOW_LATENCY, SemaphoreSignature

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
    2. From ``finished`` of an engine to ``valid`` of the instruction that waits for its signal: four cycles.
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
    empty : 1 bit
        Nothing is queued.
    busy : 1 bit
        An instruction is under way.
    waiting : 1 bit
        None is under way, and the next one waits for a semaphore.
    ended : 1 bit
        An instruction finished in the cycle before, and gives its semaphores in this one.
    overflow : a bit a semaphore
        Those that an instruction has given once too often, ``OVERFLOW_LATENCY`` cycles after ``ended``.
    overflows : 1 bit
        One cycle later: they were given by an instruction of this engine.
    fails : 1 bit
        The engine reports a fault of its oldest instruction under way.
    fault_address : address_bits
        One cycle later, the address of the instruction that is to be blamed for a fault: the one that ``overflows``,
        unless the engine ``fails``; else the oldest that is under way, or in the queue.
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
            "empty": Out(1),
            "busy": Out(1),
            "waiting": Out(1),
            "ended": Out(1),
            "overflow": In(SEMAPHORES),
            "overflows": Out(1),
            "fails": In(1),
            "fault_address": Out(config.address_bits),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        layout = QueueLayout(config, self._format)
        m.submodules.waiting_instructions = queue = Queue(layout, config.queue_depth)
        m.submodules.under_way = under_way = Queue(UnderWayLayout(config), UNDER_WAY + 1)
        wiring.connect(m, wiring.flipped(self.queue), queue.input)

        # The instruction that has its semaphores leaves the queue for a register: no path leads from the engine to
        # the queue.
        head, command = queue.output.p, self.engine.command
        claimed = Signal(layout, reset_less=True)
        granted = Signal()  # in the cycle before: it leaves the queue, and counts as under way
        m.d.sync += granted.eq(self.semaphores.grant)
        m.d.comb += [
            self.semaphores.request.eq(
                queue.output.valid & ~command.valid & under_way.input.ready & self.enable),
            self.semaphores.wanted.eq(head.instruction.wait),
            queue.output.ready.eq(granted),
            command.p.eq(claimed.instruction),

            # So that no path leads from the engine to this queue either.
            under_way.input.valid.eq(granted),
            under_way.input.p.signal.eq(head.instruction.signal),
            under_way.input.p.address.eq(head.address),
            under_way.output.ready.eq(self.engine.finished),
            self.empty.eq(queue.empty & ~command.valid),
            self.busy.eq(~under_way.empty),
            self.waiting.eq(self.semaphores.blocked & ~self.busy),
        ]
        oldest = under_way.output.p
        m.d.sync += self.ended.eq(self.engine.finished)
        with m.If(self.semaphores.grant):
            m.d.sync += command.valid.eq(1)
        with m.Elif(command.ready):
            m.d.sync += command.valid.eq(0)
        with m.If(~command.valid):  # a copy that is not needed does no harm
            m.d.sync += claimed.eq(head)
        ended = Signal(UnderWayLayout(config), reset_less=True)
        with m.If(self.engine.finished):
            m.d.sync += ended.eq(oldest)
        m.d.comb += self.semaphores.gives.eq(self.ended)
        with m.If(self.ended):
            m.d.comb += self.semaphores.given.eq(ended.signal)

        # Faults: an overflow shows when the instruction that has signalled is in `latest`.
        latest, latest_valid = ended, self.ended
        for cycle in range(OVERFLOW_LATENCY):
            next_latest = Signal.like(latest, name=f"latest_{cycle}", reset_less=True)
            next_valid = Signal(name=f"latest_valid_{cycle}")
            m.d.sync += [next_latest.eq(latest), next_valid.eq(latest_valid)]
            latest, latest_valid = next_latest, next_valid
        fault_address = without_reset(m, self.fault_address)
        overflowed = Signal.like(latest.address, reset_less=True)
        m.d.sync += [
            self.overflows.eq(latest_valid & (latest.signal & self.overflow).any()), overflowed.eq(latest.address)]
        with m.If(self.overflows & ~self.fails):
            m.d.sync += fault_address.eq(overflowed)
        with m.Elif(self.busy):
            m.d.sync += fault_address.eq(oldest.address)
        with m.Else():
            m.d.sync += fault_address.eq(Mux(command.valid, claimed.address, head.address))

        # `idle` counts from the queue's entrance, so that no instruction is ever between two places.
        inside = Signal(range(queue.depth + under_way.depth + 2))
        enters = self.queue.valid & self.queue.ready
        m.d.comb += self.idle.eq(inside == 0)
        m.d.sync += inside.eq(inside + enters - self.ended)
        return m
