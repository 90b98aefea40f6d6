"""The counting semaphores that order the engines."""

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .isa import SEMAPHORE_BITS, SEMAPHORES, Engine

__all__ = ["SemaphoreSignature", "Semaphores"]


class SemaphoreSignature(wiring.Signature):
    """An engine's dealings with the semaphores (the engine's side is ``Out``).

    Members
    -------
    request : 1 bit, wanted : a bit a semaphore
        An instruction waits for every semaphore in ``wanted``. Both stay until ``grant``.
    grant : 1 bit
        The semaphores in ``wanted`` have been taken in this cycle.
    blocked : 1 bit
        One of them is zero.
    given : a bit a semaphore
        To be incremented in this cycle.
    """

    def __init__(self) -> None:
        super().__init__({
            "request": Out(1),
            "wanted": Out(SEMAPHORES),
            "grant": In(1),
            "blocked": In(1),
            "given": Out(SEMAPHORES),
        })


class Semaphores(wiring.Component):
    """``SEMAPHORES`` counters of ``SEMAPHORE_BITS`` bits, zero after a reset.

    Rules
    -----
    1. A grant takes all wanted semaphores in one cycle, each of which was above zero.
    2. A semaphore given in cycle t can be taken in cycle t + 2.
    3. Engines that want a common semaphore are granted one at a time, in the order of ``Engine``; others
       don't hold each other up.
    4. Any number of engines may give the same semaphore in a cycle. ``overflow`` shows, in the cycle after,
       those that went beyond their range, until a reset.

    Members
    -------
    load, store, matmul, vector : SemaphoreSignature
    overflow : a bit a semaphore
    """

    def __init__(self) -> None:
        super().__init__({
            **{engine.name.lower(): In(SemaphoreSignature()) for engine in Engine},
            "overflow": Out(SEMAPHORES),
        })

    def elaborate(self, platform):
        m = Module()
        ports = [getattr(self, engine.name.lower()) for engine in Engine]
        counts = [Signal(SEMAPHORE_BITS, name=f"count_{i}") for i in range(SEMAPHORES)]
        zero = Cat(count == 0 for count in counts)
        given = Signal(SEMAPHORES)
        taken = Signal(SEMAPHORES)

        # Found free in one cycle, granted in the next. In between, only a grant to another engine that wants
        # a common semaphore can interfere.
        free = [Signal(name=f"free_{engine.name.lower()}") for engine in Engine]
        for i, port in enumerate(ports):
            rivals = [Signal(name=f"rival_{engine.name.lower()}_{i}") for engine in Engine]
            for j, other in enumerate(ports):
                if i != j:
                    m.d.comb += rivals[j].eq((port.wanted & other.wanted).any())
            held_up = Signal(name=f"held_up_{i}")
            m.d.comb += [
                port.blocked.eq(port.request & (port.wanted & zero).any()),
                held_up.eq(Cat(free[j] & rivals[j] for j in range(i)).any()),
                port.grant.eq(free[i] & ~held_up),
            ]
            interferes = Cat(ports[j].grant & rivals[j] for j in range(len(ports)) if j != i).any()
            m.d.sync += free[i].eq(port.request & ~port.blocked & ~port.grant & ~interferes)

        # Counting.
        m.d.comb += [
            given.eq(_any_of(port.given for port in ports)),
            taken.eq(_any_of(port.wanted & port.grant.replicate(SEMAPHORES) for port in ports)),
        ]
        with m.If(given.any() | taken.any()):
            for i, count in enumerate(counts):
                total = Signal(SEMAPHORE_BITS + 2, name=f"total_{i}")
                m.d.comb += total.eq(count + sum(port.given[i] for port in ports) - taken[i])
                m.d.sync += count.eq(total)
                with m.If(total[SEMAPHORE_BITS:].any()):
                    m.d.sync += self.overflow[i].eq(1)
        return m


def _any_of(masks):
    total = 0
    for mask in masks:
        total |= mask
    return total
