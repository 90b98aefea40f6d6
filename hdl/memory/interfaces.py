"""What the blocks of the accelerator say to each other, besides streams of instructions."""

from amaranth import unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import AcceleratorConfig
from ..isa import Format

__all__ = ["READ_LATENCY", "CommandSignature", "ScratchpadReadSignature", "ScratchpadWriteSignature"]

#: Cycles from a granted scratchpad read to its data.
READ_LATENCY = 5


class CommandSignature(wiring.Signature):
    """Instructions from an engine's queue to the engine (the sequencer's side is ``Out``).

    Members
    -------
    command : stream of ``instruction.layout``
        The next instruction whose semaphores have been taken. The engine may take instruction i + 1 while
        instruction i is still under way.
    finished : 1 bit
        High for a cycle when the oldest instruction under way has finished (rule 2 of the instruction set).
    """

    def __init__(self, instruction: Format):
        super().__init__({
            "command": Out(stream.Signature(instruction.layout)),
            "finished": In(1),
        })


class ScratchpadReadSignature(wiring.Signature):
    """One reader of the scratchpad (the reader's side is ``Out``).

    Rules
    -----
    1. A read is made in each cycle in which ``enable`` and ``ready`` are both high; ``ready`` may depend on
       ``enable`` and ``address`` in the same cycle, and they must not depend on ``ready``.
    2. ``data`` is valid ``READ_LATENCY`` cycles after the read and for that cycle only.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__({
            "enable": Out(1),
            "address": Out(range(config.scratchpad_words)),
            "ready": In(1),
            "data": In(unsigned(8 * config.word_bytes)),
        })


class ScratchpadWriteSignature(wiring.Signature):
    """One writer of the scratchpad (the writer's side is ``Out``).

    Rules
    -----
    1. A write is made in each cycle in which ``enable`` and ``ready`` are both high; ``ready`` may depend on
       ``enable`` and ``address`` in the same cycle, and they must not depend on ``ready``.
    2. Of ``data``, those slices of ``lanes`` bytes are stored whose bit in ``mask`` is set.
    3. A read granted in a later cycle returns what was written; one granted in the same cycle or the one before
       returns anything.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__({
            "enable": Out(1),
            "address": Out(range(config.scratchpad_words)),
            "data": Out(unsigned(8 * config.word_bytes)),
            "mask": Out(unsigned(config.rows // config.lanes)),
            "ready": In(1),
        })
