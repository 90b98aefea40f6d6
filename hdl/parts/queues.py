"""First in, first out: the one queue that everything is made of."""

from amaranth import Module, Shape, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .ram import Ram

__all__ = ["QUEUE_LATENCY", "Queue"]

#: Cycles from when an item is put into an empty queue to when it can be taken.
QUEUE_LATENCY = 2


class Queue(wiring.Component):
    """A queue whose handshakes are registers on both sides: no path leads through it.

    Rules
    -----
    1. It holds up to ``depth`` items; one can be taken ``QUEUE_LATENCY`` cycles after it was put in.
    2. A reset forgets them.

    Parameters
    ----------
    shape
        Of an item.
    depth : int
        At least 1.

    Members
    -------
    input, output : streams of ``shape``
    empty : out
        Nothing is inside.
    """

    def __init__(self, shape, depth: int):
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        self._shape = shape
        self.depth = depth
        super().__init__({
            "input": In(stream.Signature(shape)),
            "output": Out(stream.Signature(shape)),
            "empty": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        source, sink = self.input, self.output
        words = 1 << ceil_log2(max(2, self.depth - 1))  # one more lies in the register behind the memory
        memory = m.submodules.memory = Ram(Shape.cast(self._shape).width, words)
        put = Signal()
        load = Signal()
        take = Signal()
        held = Signal(range(self.depth + 1))  # items in the memory and in the register
        room = Signal(init=1)
        some = Signal()  # there is an item in the memory
        write = Signal(range(words))
        read = Signal(range(words))
        m.d.comb += [
            source.ready.eq(room),
            put.eq(source.valid & room),
            take.eq(sink.valid & sink.ready),
            load.eq(some & (~sink.valid | sink.ready)),
            memory.write_enable.eq(put),
            memory.write_address.eq(write),
            memory.write_data.eq(Value.cast(source.payload)),
            memory.read_enable.eq(load),
            memory.read_address.eq(read),
            Value.cast(sink.payload).eq(memory.read_data),
            self.empty.eq(~some & ~sink.valid),
        ]
        with m.If(put):
            m.d.sync += write.eq(write + 1)
        with m.If(load):
            m.d.sync += [read.eq(read + 1), sink.valid.eq(1)]
        with m.Elif(sink.ready):
            m.d.sync += sink.valid.eq(0)
        with m.If(put):
            m.d.sync += some.eq(1)
        with m.Elif(load):  # the last one in the memory, where only this and the register's are held
            m.d.sync += some.eq(held != 1 + sink.valid)
        with m.If(put & ~take):
            m.d.sync += [held.eq(held + 1), room.eq(held != self.depth - 1)]
        with m.Elif(take & ~put):
            m.d.sync += [held.eq(held - 1), room.eq(1)]
        return m
