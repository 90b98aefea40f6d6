"""Where the cycles of the array go: each is either one in which a row enters it, or has one cause why none does."""

from amaranth import Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..matmul.feeders import Progress
from ..registers import LOSSES

__all__ = ["LossSignature", "Losses"]


class LossSignature(wiring.Signature):
    """A bit for ``array_active`` and each of ``LOSSES``, of which one is high in a cycle of a program (``Out`` at
    :class:`Losses`)."""

    def __init__(self) -> None:
        super().__init__({name: Out(1) for name in ("array_active", *LOSSES)})


class Losses(wiring.Component):
    """Names the cause of a cycle: the first that holds, in the order of ``LOSSES``, and the last where none does.

    Members
    -------
    running : in
        A program runs.
    progress : in, Progress
    blocked, by_load : in
        The next MATMUL instruction waits for a semaphore; for one that the load or store engine is to give.
    unfetched : in
        No MATMUL instruction waits, but the program has not ended yet.
    events : LossSignature
        Two cycles later.
    """

    running: In(1)
    progress: In(Progress)
    blocked: In(1)
    by_load: In(1)
    unfetched: In(1)
    events: Out(LossSignature())

    def elaborate(self, platform):
        m = Module()

        def before(name):
            register = Signal.like(getattr(self, name), name=f"{name}_before")
            m.d.sync += register.eq(getattr(self, name))
            return register

        progress, blocked, by_load, unfetched, running = map(
            before, ("progress", "blocked", "by_load", "unfetched", "running"))
        idle = ~progress.busy
        holds = {
            "array_active": progress.row,
            "lost_bank": progress.bank,
            "lost_half": progress.half,
            "lost_tile": progress.tile,
            "lost_data": idle & blocked & by_load,
            "lost_vector": idle & blocked,
            "lost_fetch": idle & unfetched,
            "lost_latency": 1,
        }
        assert list(holds)[1:] == list(LOSSES)
        found: Value = Const(0)
        for name, holds_now in holds.items():
            m.d.sync += getattr(self.events, name).eq(running & holds_now & ~found)
            found |= holds_now
        return m
