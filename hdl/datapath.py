"""Scratchpad, accumulators, matmul and vector engine, wired together: everything that computes."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig
from .isa import MATMUL, VECTOR
from .matmul.engine import MatmulEngine
from .matmul.feeders import Progress
from .memory.accumulators import Accumulators
from .memory.halves import HalfLock
from .memory.interfaces import CommandSignature, ScratchpadReadSignature, ScratchpadWriteSignature
from .memory.scratchpad import Scratchpad
from .parts.resets import reset_after
from .vector.engine import VectorEngine

__all__ = ["Datapath"]


class Datapath(wiring.Component):
    """The computing half of the accelerator.

    Members
    -------
    matmul, vector : CommandSignature
        The sequencer's side is ``Out``.
    load, store : ScratchpadWriteSignature, ScratchpadReadSignature
        The DMA's side is ``Out``.
    progress : out, Progress
    vector_conflict : out
        For the counters.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "matmul": In(CommandSignature(MATMUL)),
            "vector": In(CommandSignature(VECTOR)),
            "load": In(ScratchpadWriteSignature(config)),
            "store": In(ScratchpadReadSignature(config)),
            "progress": Out(Progress),
            "vector_conflict": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.scratchpad = scratchpad = Scratchpad(self.config)
        m.submodules.accumulators = accumulators = Accumulators(self.config)
        m.submodules.half_lock = lock = HalfLock()
        m.submodules.matmul = matmul = MatmulEngine(self.config)
        vector = VectorEngine(self.config)
        m.submodules.vector = reset_after(m, "vectors")(vector)
        wiring.connect(m, wiring.flipped(self.matmul), matmul.control)
        wiring.connect(m, wiring.flipped(self.vector), vector.control)
        wiring.connect(m, wiring.flipped(self.load), scratchpad.load)
        wiring.connect(m, wiring.flipped(self.store), scratchpad.store)
        wiring.connect(m, matmul.weights, scratchpad.weights)
        wiring.connect(m, matmul.activations, scratchpad.activations)
        wiring.connect(m, matmul.accumulators, accumulators.matmul)
        wiring.connect(m, matmul.claim, lock.matmul)
        wiring.connect(m, vector.parameters, scratchpad.parameters)
        wiring.connect(m, vector.operand, scratchpad.operand)
        wiring.connect(m, vector.results, scratchpad.vector)
        wiring.connect(m, vector.accumulators, accumulators.vector)
        wiring.connect(m, vector.claim, lock.vector)
        m.d.comb += [
            self.progress.eq(matmul.progress),
            self.vector_conflict.eq(vector.conflict),
        ]
        return m
