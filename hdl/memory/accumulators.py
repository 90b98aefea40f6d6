"""The accumulators: int32 words of ``cols`` columns in two halves, one for the array, one for the vector engine."""

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..parts.ram import Ram

__all__ = ["ACCUMULATOR_READ_LATENCY", "AccumulatorPortSignature", "Accumulators"]

#: Cycles from a read to its data.
ACCUMULATOR_READ_LATENCY = 3


class AccumulatorPortSignature(wiring.Signature):
    """A user of the accumulators (the user's side is ``Out``).

    Rules
    -----
    1. A read with ``read_enable`` has its ``read_data`` exactly ``ACCUMULATOR_READ_LATENCY`` cycles later.
    2. A write is seen by reads from the next cycle on. One in the same cycle would read the word while it is written,
       which is not to be: see ``ACCUMULATE_SPACING`` and ``WRITE_BACK_SPACING``.
    3. The two users never access the same half at the same time; the :class:`~celosia.hdl.memory.halves.HalfLock` sees
       to it.
    4. ``write_data`` comes a cycle after the rest of a write, from registers. Of it, those slices of ``lanes`` columns
       are stored whose bit in ``write_mask`` is set.
    """

    def __init__(self, config: AcceleratorConfig):
        address = range(config.accumulator_words)
        word = data.ArrayLayout(signed(32), config.cols)
        super().__init__({
            "read_enable": Out(1),
            "read_address": Out(address),
            "read_data": In(word),
            "write_enable": Out(1),
            "write_address": Out(address),
            "write_data": Out(word),
            "write_mask": Out(unsigned(config.cols // config.lanes)),
        })


class Accumulators(wiring.Component):
    """Two memories of ``half_words`` words with one read and one write port each.

    Members
    -------
    matmul, vector : AccumulatorPortSignature
        The array's side and the vector engine's.

    The content survives a reset and is undefined after power-up.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "matmul": In(AccumulatorPortSignature(config)),
            "vector": In(AccumulatorPortSignature(config)),
        })

    def elaborate(self, platform):
        config = self.config
        m = Module()
        half_bit = exact_log2(config.half_words)
        width = 32 * config.cols
        ports = (self.matmul, self.vector)
        outputs = []
        for half in range(2):
            memory = m.submodules[f"half_{half}"] = Ram(width, config.half_words, slices=config.cols // config.lanes)
            reads, writes = [], []
            for port, name in zip(ports, ("matmul", "vector"), strict=True):
                reading, writing = Signal(name=f"{name}_reads_{half}"), Signal(name=f"{name}_writes_{half}")
                m.d.comb += [
                    reading.eq(port.read_enable & (port.read_address[half_bit] == half)),
                    writing.eq(port.write_enable & (port.write_address[half_bit] == half)),
                ]
                reads.append(reading)
                writes.append(writing)
            # The registers before the memory. Data come from registers of the ports, for both halves.
            read = Signal(name=f"reads_{half}")
            read_address = Signal(half_bit, name=f"read_address_{half}", reset_less=True)
            matmul_writes = Signal(name=f"matmul_writes_now_{half}", reset_less=True)
            write_mask = Signal(memory.slices, name=f"write_mask_{half}")
            write_address = Signal(half_bit, name=f"write_address_{half}", reset_less=True)
            m.d.sync += [
                read.eq(reads[0] | reads[1]),
                read_address.eq(Mux(reads[0], self.matmul.read_address, self.vector.read_address)),
                matmul_writes.eq(writes[0]),
                write_mask.eq(Mux(writes[0], self.matmul.write_mask, Mux(writes[1], self.vector.write_mask, 0))),
                write_address.eq(Mux(writes[0], self.matmul.write_address, self.vector.write_address)),
            ]
            m.d.comb += [
                memory.read_enable.eq(read),
                memory.read_address.eq(read_address),
                memory.write_enable.eq(write_mask),
                memory.write_address.eq(write_address),
                memory.write_data.eq(Mux(
                    matmul_writes, self.matmul.write_data.as_value(), self.vector.write_data.as_value())),
            ]

            # The register after it, which needs no enable: the memory holds its word.
            output = Signal(width, name=f"output_{half}", reset_less=True)
            m.d.sync += output.eq(memory.read_data)
            outputs.append(output)

        for port, name in zip(ports, ("matmul", "vector"), strict=True):
            half_of = Signal(ACCUMULATOR_READ_LATENCY, name=f"{name}_half", reset_less=True)
            m.d.sync += half_of.eq(Cat(port.read_address[half_bit], half_of))
            m.d.comb += port.read_data.as_value().eq(Mux(half_of[-1], outputs[1], outputs[0]))
        return m
