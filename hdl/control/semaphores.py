"""The counting semaphores that order the engines."""

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..isa import SEMAPHORE_BITS, SEMAPHORES, Engine
from ..parts.one_hot import merged

__all__ = ["OVERFLOW_LATENCY", "SemaphoreSignature", "Semaphores"]

#: Cycles from giving a semaphore once too often to ``overflow``.
OVERFLOW_LATENCY = 3


class SemaphoreSignature(wiring.Signature):
    """An engine's dealings with the semaphores (the engine's side is ``Out``).

    Members
    -------
    request : 1 bit, wanted : a bit a semaphore
        An instruction waits for every semaphore in ``wanted``. Both stay until ``grant``.
    grant : 1 bit
        The semaphores in ``wanted``, which stay so in the next cycle too, have been taken in this one.
    blocked, by_load : 1 bit
        In the cycle before one of them was zero; one that was last given by the load or store engine, or by nobody yet.
    gives : 1 bit, given : a bit a semaphore
        To be incremented in this cycle; none unless ``gives``.
    """

    def __init__(self) -> None:
        super().__init__({
            "request": Out(1),
            "wanted": Out(SEMAPHORES),
            "grant": In(1),
            "blocked": In(1),
            "by_load": In(1),
            "gives": Out(1),
            "given": Out(SEMAPHORES),
        })


class Semaphores(wiring.Component):
    """``SEMAPHORES`` counters of ``SEMAPHORE_BITS`` bits, zero after a reset.

    Rules
    -----
    1. A grant takes all wanted semaphores in one cycle, each of which was above zero.
    2. A semaphore given in cycle t can be taken in cycle t + 2; one that has been taken and is not zero, four cycles
       later, since it counts as zero until its counter says otherwise.
    3. Engines that want a common semaphore are granted one at a time, in the order of ``Engine``; others
       don't hold each other up.
    4. Any number of engines may give the same semaphore in a cycle. ``overflow`` shows, ``OVERFLOW_LATENCY`` cycles
       later, those that are beyond their range.

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
        counts = [Signal(SEMAPHORE_BITS + 1, name=f"count_{i}") for i in range(SEMAPHORES)]
        zero = Signal(SEMAPHORES, init=-1)
        taken = Signal(SEMAPHORES)
        of_load = Signal(SEMAPHORES, init=-1)  # last given by the load or store engine

        # Found free in one cycle, granted in the next, taken in the one after that. In between, only a grant to another
        # engine that wants a common semaphore can interfere. Who rivals whom is a register too: wants stay.
        free = Signal(len(ports))
        granted = Signal(len(ports))
        rivals = [Signal(len(ports), name=f"rivals_{i}") for i in range(len(ports))]
        for i, port in enumerate(ports):
            held_up, interferes, lacks = (Signal(name=f"{name}_{i}") for name in ("held_up", "interferes", "lacks"))
            common = Cat((port.wanted & other.wanted).any() for other in ports)
            grants = Cat(other.grant for other in ports)
            others = ~(1 << i)
            m.d.comb += [
                lacks.eq((port.wanted & zero).any()),
                held_up.eq((free & rivals[i] & ((1 << i) - 1)).any()),
                interferes.eq(((grants | granted) & common & others).any()),
                port.grant.eq(free[i] & ~held_up),
            ]
            m.d.sync += [
                free[i].eq(port.request & ~lacks & ~port.grant & ~interferes),
                granted[i].eq(port.grant),
                rivals[i].eq(common),
                port.blocked.eq(port.request & lacks),
                port.by_load.eq(port.request & (port.wanted & zero & of_load).any()),
            ]

        # Counting takes three stages: who gives and who takes, the change that this makes, and the sum. Whether a
        # semaphore may be zero is known at once. A word has a bit a semaphore.
        def later(value, name):
            register = Signal(SEMAPHORES, name=name)
            m.d.sync += register.eq(value)
            return register

        m.d.comb += taken.eq(merged(
            port.wanted & was_granted.replicate(SEMAPHORES) for port, was_granted in zip(ports, granted, strict=True)))
        given = Signal(SEMAPHORES)
        m.d.comb += given.eq(merged(port.given for port in ports))
        takes = later(taken, "takes")
        changes = later(later(given, "gives") | takes, "changes")
        change = [later(bit, f"change_{index}") for index, bit in enumerate(
            _change([later(port.given, f"gives_{index}") for index, port in enumerate(ports)], takes))]
        for i, count in enumerate(counts):
            with m.If(changes[i]):
                m.d.sync += count.eq(count + Cat(bit[i] for bit in change).as_signed())
        counted = Cat(count.any() for count in counts) & ~takes & ~later(takes, "taking")
        m.d.comb += self.overflow.eq(Cat(count[SEMAPHORE_BITS] for count in counts))
        m.d.sync += [
            zero.eq(~given & (taken | (zero & ~counted))),
            of_load.eq((of_load & ~given) | self.load.given | self.store.given),
        ]
        return m


def _change(gives, takes):
    """How many of four words give, less one where ``takes`` does, for each bit of the words: three words with the bits
    of the number, and one with its sign."""
    first, second, third, fourth = gives
    odd = [first ^ second, third ^ fourth]
    both = [first & second, third & fourth]
    bits = [odd[0] ^ odd[1], both[0] ^ both[1] ^ (odd[0] & odd[1]), both[0] & both[1]]
    borrow, less = takes, []
    for bit in bits:
        less.append(bit ^ borrow)
        borrow = ~bit & borrow
    return [*less, borrow]
