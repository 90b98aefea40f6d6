"""The scratchpad: banks of int8 words with one read and one write port each, shared by fixed priority."""

from amaranth import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..parts.ram import Ram
from ..parts.resets import without_reset
from .interfaces import READ_LATENCY, ScratchpadReadSignature, ScratchpadWriteSignature

__all__ = ["READERS", "WRITERS", "Scratchpad"]

#: Readers, the most urgent first. Activations come last: their stream is the longest, and all the others
#: together are finite work, so nobody starves.
READERS = ("weights", "operand", "parameters", "store", "activations")
#: Writers, the most urgent first. The vector pipeline can't wait for its write; a load can.
WRITERS = ("vector", "load")


class Scratchpad(wiring.Component):
    """Word ``w`` lies in bank ``w // bank_words``. Any number of accesses to different banks proceed at once; of
    two reads (or two writes) to one bank the more urgent goes first.

    Members
    -------
    weights, operand, parameters, store, activations : ScratchpadReadSignature
        See :data:`READERS`. ``weights`` is always ready.
    vector, load : ScratchpadWriteSignature
        See :data:`WRITERS`. ``vector`` is always ready.

    The content survives a reset and is undefined after power-up.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        members: dict[str, wiring.Member] = {}
        for name in READERS:
            members[name] = Out(ScratchpadReadSignature(config)).flip()
        for name in WRITERS:
            members[name] = Out(ScratchpadWriteSignature(config)).flip()
        super().__init__(members)

    def elaborate(self, platform):
        config = self.config
        m = Module()
        offset_bits = exact_log2(config.bank_words)
        word_bits = 8 * config.word_bytes
        readers = [getattr(self, name) for name in READERS]
        writers = [getattr(self, name) for name in WRITERS]
        banks = config.scratchpad_banks

        def wants(ports, bank, kind):
            signals = []
            for name, port in zip(kind, ports, strict=True):
                signal = Signal(name=f"{name}_wants_{bank}")
                m.d.comb += signal.eq(port.enable & (port.address[offset_bits:] == bank))
                signals.append(signal)
            return signals

        # What is written waits in one place for all banks.
        offsets = [Signal(offset_bits, name=f"{name}_offset", reset_less=True) for name in WRITERS]
        written = [Signal(word_bits, name=f"{name}_written", reset_less=True) for name in WRITERS]
        for port, offset, word in zip(writers, offsets, written, strict=True):
            with m.If(port.enable):
                m.d.sync += [offset.eq(port.address), word.eq(port.data)]

        bank_data = []
        for bank in range(banks):
            memory = m.submodules[f"bank_{bank}"] = Ram(
                word_bits, config.bank_words, slices=config.rows // config.lanes)

            # The registers before the memory.
            requests = wants(readers, bank, READERS)
            reads, address = Signal(name=f"reads_{bank}"), Signal(offset_bits, name=f"address_{bank}", reset_less=True)
            m.d.sync += reads.eq(Cat(requests).any())
            with m.If(requests[0]):
                m.d.sync += address.eq(readers[0].address)
            for index in range(1, len(readers)):
                with m.Elif(requests[index]):
                    m.d.sync += address.eq(readers[index].address)
            m.d.comb += [memory.read_enable.eq(reads), memory.read_address.eq(address)]

            requests = wants(writers, bank, WRITERS)
            urgent = Signal(name=f"urgent_{bank}", reset_less=True)
            mask = Signal(memory.slices, name=f"write_mask_{bank}")
            m.d.sync += [
                urgent.eq(requests[0]),
                mask.eq(Mux(requests[0], writers[0].mask, writers[1].mask & requests[1].replicate(memory.slices))),
            ]
            m.d.comb += [
                memory.write_enable.eq(mask),
                memory.write_address.eq(Mux(urgent, *offsets)),
                memory.write_data.eq(Mux(urgent, *written)),
            ]

            # The register after the memory, which needs no enable: the memory holds its word.
            data = Signal(word_bits, name=f"data_{bank}", reset_less=True)
            m.d.sync += data.eq(memory.read_data)
            bank_data.append(data)

        def give_way(ports):
            """Of two ports that want the same bank, the later one waits. Banks are compared in pairs: that is a
            shorter way than through the banks themselves."""
            for index, port in enumerate(ports):
                m.d.comb += port.ready.eq(~Cat(
                    other.enable & (other.address[offset_bits:] == port.address[offset_bits:])
                    for other in ports[:index]).any())

        give_way(readers)
        give_way(writers)
        for name, port in zip(READERS, readers, strict=True):
            granted = Signal(name=f"{name}_granted")
            m.d.comb += granted.eq(port.enable & port.ready)
            stages = READ_LATENCY - 1
            valid = Signal(stages, name=f"{name}_valid")
            m.d.sync += valid.eq(Cat(granted, valid))
            bank_of = [Signal(range(banks), name=f"{name}_bank_{stage}", reset_less=True) for stage in range(stages)]
            m.d.sync += [bank.eq(before) for before, bank in zip(
                [port.address[offset_bits:], *bank_of], bank_of, strict=False)]
            # Chosen in two steps, since banks and readers lie far apart; held until the next read of this port, so that
            # idle cycles toggle nothing.
            group_bits = (exact_log2(banks) + 1) // 2
            groups = [Signal(word_bits, name=f"{name}_group_{index}", reset_less=True)
                      for index in range(banks >> group_bits)]
            with m.If(valid[-2]):
                m.d.sync += [group.eq(Array(bank_data[index << group_bits:index + 1 << group_bits])[
                    bank_of[-2][:group_bits]]) for index, group in enumerate(groups)]
            found = without_reset(m, port.data)
            with m.If(valid[-1]):
                m.d.sync += found.eq(Array(groups)[bank_of[-1][group_bits:]])
        return m
