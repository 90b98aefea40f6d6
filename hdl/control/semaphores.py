"""The counting semaphores that order the engines."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..isa import SEMAPHORE_BITS, Engine
from .queued import NEIGHBOURS

__all__ = ["SemaphoreSignature", "Semaphores"]

_OTHERS = len(Engine) - 1


class SemaphoreSignature(wiring.Signature):
    """An engine's dealings with the semaphores (the engine's side is ``Out``). A word has a bit for each of its
    ``NEIGHBOURS``.

    Members
    -------
    request : 1 bit, wanted : a bit a neighbour
        An instruction waits for what every neighbour in ``wanted`` gives. ``wanted`` stays until the cycle after
        ``grant``.
    grant : 1 bit
        They are there.
    takes : 1 bit
        In the cycle after ``grant``, which is the last one before the next ``request``: they are taken.
    lacks : a bit a neighbour
        Those that hold up the request.
    gives : 1 bit, given : a bit a neighbour
        While ``gives``, to whom a semaphore is given in this cycle.
    overflows : 1 bit
        One of them can't count that.
    """

    def __init__(self) -> None:
        super().__init__({
            "request": Out(1),
            "wanted": Out(_OTHERS),
            "grant": In(1),
            "takes": Out(1),
            "lacks": In(_OTHERS),
            "gives": Out(1),
            "given": Out(_OTHERS),
            "overflows": In(1),
        })


class Semaphores(wiring.Component):
    """A counter of ``SEMAPHORE_BITS`` bits for each ordered pair of engines, zero after a reset.

    Rules
    -----
    1. A grant takes all wanted semaphores at once, each of which is above zero. A semaphore is given by one engine and
       taken by one, so that nobody else can take it.
    2. A semaphore given in cycle t can be taken in cycle t + 1.
    3. Given when it is at its largest value, and not taken at the same time, a semaphore overflows.

    Members
    -------
    load, store, matmul, vector : SemaphoreSignature
    """

    def __init__(self) -> None:
        super().__init__({engine.name.lower(): In(SemaphoreSignature()) for engine in Engine})

    def elaborate(self, platform):
        m = Module()
        ports = {engine: getattr(self, engine.name.lower()) for engine in Engine}
        zero: dict[Engine, dict[Engine, Signal]] = {engine: {} for engine in Engine}  # by taker and giver
        beyond: dict[Engine, dict[Engine, Signal]] = {engine: {} for engine in Engine}  # by giver and taker
        for giver, gives in ports.items():
            for taker in NEIGHBOURS[giver]:
                takes = ports[taker]
                name = f"{giver.name.lower()}_{taker.name.lower()}"
                count = Signal(SEMAPHORE_BITS, name=name)
                more, less = Signal(name=f"{name}_more"), Signal(name=f"{name}_less")
                zero[taker][giver] = Signal(name=f"{name}_zero")
                beyond[giver][taker] = Signal(name=f"{name}_beyond")
                m.d.comb += [
                    more.eq(gives.gives & gives.given[NEIGHBOURS[giver].index(taker)]),
                    less.eq(takes.takes & takes.wanted[NEIGHBOURS[taker].index(giver)]),
                    zero[taker][giver].eq(count == 0),
                    beyond[giver][taker].eq(more & ~less & count.all()),
                ]
                with m.If(more ^ less):
                    m.d.sync += count.eq(count + Mux(less, -1, 1))
        for engine, port in ports.items():
            m.d.comb += [
                port.lacks.eq(port.wanted & Cat(zero[engine][other] for other in NEIGHBOURS[engine])),
                port.grant.eq(port.request & ~port.lacks.any()),
                port.overflows.eq(Cat(beyond[engine].values()).any()),
            ]
        return m
