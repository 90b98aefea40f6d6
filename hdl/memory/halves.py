"""Who may use which accumulator half: the lock between the matmul and the vector engine."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

__all__ = ["HALF_USES", "HalfClaimSignature", "HalfHold", "HalfLock", "HalfUse"]

#: Instructions that an engine has under way at most.
HALF_USES = 4


class HalfClaimSignature(wiring.Signature):
    """An engine's claim on accumulator halves (the engine's side is ``Out``).

    Rules
    -----
    1. An engine that may want to start an instruction in ``half`` holds ``request`` high, and starts in a cycle in
       which ``grant`` is high, or not.
    2. ``owned[h]`` is high from the cycle after the start until every access of every started instruction in half
       ``h`` is over. An instruction in an owned half is granted at once.
    """

    def __init__(self) -> None:
        super().__init__({"request": Out(1), "half": Out(1), "grant": In(1), "owned": Out(2)})


class HalfLock(wiring.Component):
    """Grants a half to one engine at a time; where both ask in the same cycle, the matmul engine goes first.

    No engine waits for the other while it owns a half, so the lock can't deadlock.
    """

    matmul: In(HalfClaimSignature())
    vector: In(HalfClaimSignature())

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [
            self.matmul.grant.eq(~self.vector.owned.bit_select(self.matmul.half, 1)),
            self.vector.grant.eq(~self.matmul.owned.bit_select(self.vector.half, 1)
                                 & ~(self.matmul.request & (self.matmul.half == self.vector.half))),
        ]
        return m


class HalfUse(wiring.Component):
    """An engine's book of the instructions it has under way in each half, for ``owned`` of rule 2.

    Members
    -------
    start, start_half : in
        An instruction starts in this cycle, in this half.
    finish : in
        The oldest instruction under way finishes in this cycle.
    owned : out, 2 bits
        Rule 2 of :class:`HalfClaimSignature`.
    idle : out
        No instruction is under way.
    full : out
        ``depth`` instructions (a power of two) are under way: none may start.
    """

    def __init__(self, depth: int = HALF_USES):
        self.depth = depth
        super().__init__({
            "start": In(1), "start_half": In(1), "finish": In(1), "owned": Out(2), "idle": Out(1, init=1),
            "full": Out(1)})

    def elaborate(self, platform):
        m = Module()
        count = Signal(range(self.depth + 1))
        halves = Signal(self.depth)  # of the instructions under way, the oldest at bit 0
        shifted = Signal(self.depth)
        left = Signal(range(self.depth + 1))
        m.d.comb += [shifted.eq(halves), left.eq(count)]
        with m.If(self.finish):
            m.d.comb += [shifted.eq(halves >> 1), left.eq(count - 1)]
        m.d.sync += [halves.eq(shifted), count.eq(left), self.idle.eq((left == 0) & ~self.start),
                     self.full.eq(left + self.start == self.depth)]
        with m.If(self.start):
            m.d.sync += [halves.bit_select(left[:exact_log2(self.depth)], 1).eq(self.start_half), count.eq(left + 1)]
        for half in range(2):
            # How many there are of the half, and so whether it is owned, changes by one at most.
            uses = Signal(range(self.depth + 1), name=f"uses_{half}")
            more, fewer = Signal(name=f"more_{half}"), Signal(name=f"fewer_{half}")
            m.d.comb += [
                more.eq(self.start & (self.start_half == half)),
                fewer.eq(self.finish & (halves[0] == half)),
            ]
            with m.If(more & ~fewer):
                m.d.sync += [uses.eq(uses + 1), self.owned[half].eq(1)]
            with m.Elif(fewer & ~more):
                m.d.sync += [uses.eq(uses - 1), self.owned[half].eq(uses != 1)]
        return m


class HalfHold(wiring.Component):
    """An engine's book of the halves that it holds, for ``owned`` of rule 2, where instructions leave their halves
    in any order.

    Members
    -------
    start, start_half : in
        An instruction starts in this cycle, in this half.
    leave, leave_half : in
        One that has started in this half leaves it with this cycle.
    keep : in, 2 bits
        The half is held whoever has left it.
    owned : out, 2 bits
        Rule 2 of :class:`HalfClaimSignature`.

    Rules
    -----
    1. At most ``depth`` instructions have started and not left.
    """

    def __init__(self, depth: int = HALF_USES):
        self.depth = depth
        super().__init__({
            "start": In(1), "start_half": In(1), "leave": In(1), "leave_half": In(1), "keep": In(2), "owned": Out(2)})

    def elaborate(self, platform):
        m = Module()
        for half in range(2):
            uses, left = (Signal(range(self.depth + 1), name=f"{name}_{half}") for name in ("uses", "left"))
            more, fewer = Signal(name=f"more_{half}"), Signal(name=f"fewer_{half}")
            m.d.comb += [
                more.eq(self.start & (self.start_half == half)),
                fewer.eq(self.leave & (self.leave_half == half)),
                left.eq(uses - fewer),
            ]
            m.d.sync += [uses.eq(left + more), self.owned[half].eq(more | (left != 0) | self.keep[half])]
        return m
