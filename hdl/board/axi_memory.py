"""On-chip memory behind AXI4."""

from amaranth import Array, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2, exact_log2

from ..bus.axi import AXI4Signature, Burst, Response
from ..config import AcceleratorConfig
from ..parts.queues import Queue
from ..parts.ram import Ram

__all__ = ["MEMORY_GRANULE", "AxiMemory"]

#: Its size is a multiple of this many bytes.
MEMORY_GRANULE = 4096
#: Words of a bank: as deep as a block RAM of an ECP5 is at two bits, so that only banks are chosen between.
_BANK_WORDS = 8192
#: Beats between the memory and the bus.
_READ_AHEAD = 8


class AxiMemory(wiring.Component):
    """A memory of ``size`` bytes from byte ``base`` on; reads and writes are independent.

    Rules
    -----
    1. One burst is read and one is written at a time, a beat in each cycle that the manager takes or gives one.
    2. Bursts are INCR, of beats as wide as the bus (a burst of one beat may be of any type); another one is
       answered with SLVERR, and nothing of it is read or written.
    3. Of a beat, the bytes with a strobe are written. The write is seen by reads that are asked for after its
       response.
    4. A beat outside the memory is answered with DECERR: the data of a read is then zero, and nothing is
       written. The response to a write burst is an error when any of its beats had one.

    Parameters
    ----------
    config : AcceleratorConfig
        Tells the widths of the bus.
    base, size : int
        In bytes; ``size`` is a multiple of :data:`MEMORY_GRANULE`, and ``base`` one of the power of two that is not
        below ``size``.

    Members
    -------
    bus : AXI4Signature, in
        Responses have ID 0.

    The content survives a reset and is undefined after power-up.
    """

    def __init__(self, config: AcceleratorConfig, base: int, size: int):
        if size < MEMORY_GRANULE or size % MEMORY_GRANULE:
            raise ValueError(f"size must be a multiple of {MEMORY_GRANULE} bytes, not {size}")
        self._span = 1 << ceil_log2(size)
        if base % self._span or not 0 <= base <= (1 << config.address_bits) - size:
            raise ValueError(f"base must be a multiple of {self._span} below 2 ** {config.address_bits}, not {base:#x}")
        self._config = config
        self._base = base
        self._size = size
        super().__init__({"bus": In(AXI4Signature.of(config))})

    def elaborate(self, platform):
        m = Module()
        words = self._size // self._config.bus_bytes
        banks = []
        for index, first in enumerate(range(0, words, _BANK_WORDS)):
            depth = 1 << ceil_log2(min(_BANK_WORDS, words - first))
            bank = m.submodules[f"bank_{index}"] = Ram(self._config.bus_bits, depth, slices=self._config.bus_bytes)
            banks.append(bank)
        self._write(m, banks)
        self._read(m, banks)
        return m

    def _burst(self, m, prefix: str, start, step):
        """The burst of an address channel: whether it is legal, whether its beat lies inside, the beat's bank and
        word in it, and whether it is the last. ``start`` takes the burst, ``step`` goes to the next beat."""
        config, bus = self._config, self.bus
        shift, span_bits = exact_log2(config.bus_bytes), exact_log2(self._span)
        address, size, length = (getattr(bus, prefix + name) for name in ("addr", "size", "len"))
        bank_bits = exact_log2(_BANK_WORDS)
        legal = Signal(name=f"{prefix}_legal", reset_less=True)
        here = Signal(name=f"{prefix}_here", reset_less=True)
        # One bit more than an address in the memory, for the beats behind its end.
        word = Signal(max(span_bits - shift, bank_bits) + 1, name=f"{prefix}_word", reset_less=True)
        left = Signal(8, name=f"{prefix}_left", reset_less=True)
        with m.If(start):
            m.d.sync += [
                legal.eq(((getattr(bus, f"{prefix}burst") == Burst.INCR) | (length == 0)) & (size == shift)),
                here.eq(address[span_bits:] == self._base >> span_bits),
                word.eq(address[shift:span_bits]),
                left.eq(length),
            ]
        with m.Elif(step):
            m.d.sync += [word.eq(word + 1), left.eq(left - 1)]
        inside = here & (word < self._size // config.bus_bytes)
        return legal, inside, word[bank_bits:], word[:bank_bits], left == 0

    def _write(self, m, banks) -> None:
        bus = self.bus
        start, step = Signal(name="write_start"), Signal(name="write_step")
        failed = Signal(Response, reset_less=True)
        legal, inside, bank, offset, last = self._burst(m, "aw", start, step)
        # A register before each bank, so that no net leads to them all.
        enable = Signal(len(bus.wstrb), name="write_enable")
        for index, memory in enumerate(banks):
            strobe, address, word = (
                Signal.like(value, name=f"write_{name}_{index}", reset_less=True)
                for name, value in (("strobe", memory.write_enable), ("address", memory.write_address),
                                    ("word", memory.write_data)))
            m.d.sync += strobe.eq(0)
            with m.If(bank == index):
                m.d.sync += [strobe.eq(enable), address.eq(offset), word.eq(bus.wdata)]
            m.d.comb += [
                memory.write_enable.eq(strobe), memory.write_address.eq(address), memory.write_data.eq(word)]

        with m.FSM(name="write"):
            with m.State("address"):
                m.d.comb += [bus.awready.eq(1), start.eq(bus.awvalid)]
                m.d.sync += failed.eq(Response.OKAY)
                with m.If(bus.awvalid):
                    m.next = "data"
            with m.State("data"):
                m.d.comb += [bus.wready.eq(1), step.eq(bus.wvalid)]
                with m.If(bus.wvalid):
                    with m.If(~legal):
                        m.d.sync += failed.eq(Response.SLVERR)
                    with m.Elif(~inside):
                        m.d.sync += failed.eq(Response.DECERR)
                    with m.Else():
                        m.d.comb += enable.eq(bus.wstrb)
                    with m.If(last):
                        m.next = "response"
            with m.State("response"):
                m.d.comb += [bus.bvalid.eq(1), bus.bresp.eq(failed)]
                with m.If(bus.bready):
                    m.next = "address"

    def _read(self, m, banks) -> None:
        bus = self.bus
        start, step = Signal(name="read_start"), Signal(name="read_step")
        legal, inside, bank, offset, last = self._burst(m, "ar", start, step)
        beats = data.StructLayout({"data": len(bus.rdata), "resp": Response, "last": 1})
        m.submodules.beats = queue = Queue(beats, _READ_AHEAD)
        room = Signal(range(_READ_AHEAD + 1), init=_READ_AHEAD)  # for beats that are not asked for yet

        with m.FSM(name="read"):
            with m.State("address"):
                m.d.comb += [bus.arready.eq(1), start.eq(bus.arvalid)]
                with m.If(bus.arvalid):
                    m.next = "data"
            with m.State("data"):
                m.d.comb += step.eq(room != 0)
                with m.If(step & last):
                    m.next = "address"
        m.d.sync += room.eq(room - step + (bus.rvalid & bus.rready))

        # Four stages: a register before each bank, the memory, a register behind each bank, the choice of a bank.
        stage = data.StructLayout({"valid": 1, "resp": Response, "last": 1, "bank": len(bank)})
        asked, read, found = (Signal(stage, name=name) for name in ("asked", "read", "found"))
        words = []
        for index, memory in enumerate(banks):
            address = Signal.like(memory.read_address, name=f"read_address_{index}", reset_less=True)
            enable = Signal(name=f"read_enable_{index}")
            word = Signal(len(bus.rdata), name=f"word_{index}", reset_less=True)
            m.d.sync += [enable.eq(step & (bank == index)), word.eq(memory.read_data)]
            with m.If(bank == index):
                m.d.sync += address.eq(offset)
            m.d.comb += [memory.read_address.eq(address), memory.read_enable.eq(enable)]
            words.append(word)
        m.d.sync += [
            asked.valid.eq(step), asked.bank.eq(bank), asked.last.eq(last),
            asked.resp.eq(Mux(~legal, Response.SLVERR, Mux(inside, Response.OKAY, Response.DECERR))),
            read.eq(asked),
            found.eq(read),
        ]
        chosen = Signal(beats, reset_less=True)
        chosen_valid = Signal()
        m.d.sync += [
            chosen.data.eq(Mux(found.resp == Response.OKAY, Array(words)[found.bank], 0)),
            chosen.resp.eq(found.resp), chosen.last.eq(found.last), chosen_valid.eq(found.valid),
        ]
        beat = queue.output.p
        m.d.comb += [
            queue.input.valid.eq(chosen_valid), queue.input.p.eq(chosen),
            queue.output.ready.eq(bus.rready), bus.rvalid.eq(queue.output.valid),
            bus.rdata.eq(beat.data), bus.rresp.eq(beat.resp), bus.rlast.eq(beat.last),
        ]
