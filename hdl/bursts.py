"""From a 2-D transfer to AXI4 bursts: the address side of the load and the store engine."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .config import AcceleratorConfig
from .isa import TRANSFER
from .registers import WIDE_BITS

__all__ = ["ADDRESS_BITS", "BURST_BEATS", "AddressLayout", "BurstGenerator", "BurstLayout", "WindowSignature"]

#: Bits of an address in the registers and instructions, whatever the bus has.
ADDRESS_BITS = WIDE_BITS

#: Longest burst in beats. Short enough that an instruction fetch behind ``outstanding_reads`` bursts is not
#: late, long enough that 40 cycles of latency and a burst's overhead vanish.
BURST_BEATS = 64


class BurstLayout(data.StructLayout):
    """One burst: ``address`` of its first byte, ``length`` (beats - 1, as AxLEN), ``last`` burst of its
    transfer."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"address": config.address_bits, "length": 8, "last": 1})


class AddressLayout(data.StructLayout):
    """A burst as it is put on the bus: ``address`` of its first byte, ``length`` (beats - 1, as AxLEN)."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"address": config.address_bits, "length": 8})


class WindowSignature(wiring.Signature):
    """The bytes of DRAM that may be touched (``Out`` at the registers): ``base`` <= address < ``limit``."""

    def __init__(self) -> None:
        super().__init__({"base": Out(ADDRESS_BITS), "limit": Out(ADDRESS_BITS)})


class BurstGenerator(wiring.Component):
    """Splits transfers into bursts and checks each against the window.

    Rules
    -----
    1. A burst has from 1 to ``beats`` beats and never crosses a multiple of ``beats`` beats, hence never a 4
       KiB boundary.
    2. A burst is offered only when all its bytes lie in the window and below 2 ** ``address_bits``.
    3. At a burst that breaks rule 2, ``outside`` rises and stays; nothing is offered any more until a reset.
    4. The next transfer is accepted once every burst of the one before has been checked: at ``outside``, the
       transfer that was accepted last is the one that failed. Its first burst is offered three cycles later,
       and then a burst a cycle.

    Parameters
    ----------
    config : AcceleratorConfig
    beats : int
        Longest burst; a power of two, at most 256, and at most 4 KiB.

    Members
    -------
    transfer : stream of ``TRANSFER.layout``
        What to split. ``count`` and ``words`` are at least 1; the low bits of address and stride are ignored.
    bursts : stream of :class:`BurstLayout`
    window : WindowSignature
        Must not change while a transfer is under way.
    outside : 1 bit
        Rule 3.
    """

    def __init__(self, config: AcceleratorConfig, beats: int = BURST_BEATS):
        self._config = config
        self._beats = min(beats, 256, 4096 // config.bus_bytes)
        super().__init__({
            "transfer": In(stream.Signature(TRANSFER.layout)),
            "bursts": Out(stream.Signature(BurstLayout(config))),
            "window": In(WindowSignature()),
            "outside": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, beats = self._config, self._beats
        chunk_bits = exact_log2(beats)
        shift = exact_log2(config.bus_bytes)
        address_bits = config.address_bits - shift  # addresses count beats here; one more bit says "beyond"
        transfer = self.transfer.p

        # Stage 0: the next burst of the current row. `row` is where the row after it starts.
        active = Signal()
        address = Signal(address_bits + 1, reset_less=True)
        room = Signal(range(beats + 1), reset_less=True)
        left = Signal(16 + max(0, exact_log2(config.word_bytes) - shift), reset_less=True)
        row = Signal(address_bits + 1, reset_less=True)
        stride = Signal(32 - shift, reset_less=True)
        row_beats = Signal.like(left)
        rows_left = Signal(16, reset_less=True)
        row_ends = Signal()
        advance = Signal()

        first = transfer.dram_address[shift:config.address_bits]
        beyond = transfer.dram_address[config.address_bits:].any()
        burst_valid = Signal()
        m.d.comb += [
            self.transfer.ready.eq(~active & ~burst_valid & ~self.outside),
            row_ends.eq((left[:len(room)] <= room) & (left[len(room):] == 0)),
        ]
        with m.If(self.transfer.valid & self.transfer.ready):
            m.d.sync += [
                active.eq(1),
                address.eq(Cat(first, beyond)),
                room.eq(beats - first[:chunk_bits]),
                left.eq(self._row_beats(transfer.words)),
                row_beats.eq(self._row_beats(transfer.words)),
                row.eq(self._add(Cat(first, beyond), transfer.dram_stride[shift:])),
                stride.eq(transfer.dram_stride[shift:]),
                rows_left.eq(transfer.count),
            ]
        with m.Elif(active & advance):
            with m.If(~row_ends):
                m.d.sync += [
                    address.eq(self._add(address, room)),
                    room.eq(beats),
                    left.eq(left - room),
                ]
            with m.Else():
                m.d.sync += [
                    active.eq(rows_left != 1),
                    rows_left.eq(rows_left - 1),
                    address.eq(row),
                    room.eq(beats - row[:chunk_bits]),
                    left.eq(row_beats),
                    row.eq(self._add(row, stride)),
                ]

        # Stage 1: the burst, to be compared with the window.
        burst_address = Signal(address_bits + 1, reset_less=True)
        burst_length = Signal(chunk_bits, reset_less=True)
        burst_last = Signal(reset_less=True)
        with m.If(advance):
            m.d.sync += burst_valid.eq(active)
            with m.If(active):
                m.d.sync += [
                    burst_address.eq(address),
                    burst_length.eq(Mux(row_ends, left, room) - 1),
                    burst_last.eq(row_ends & (rows_left == 1)),
                ]
        # No carry: a burst stays in its chunk.
        end_low = (burst_address[:chunk_bits] + burst_length)[:chunk_bits]
        first_byte = Cat(Const(0, shift), burst_address[:-1])
        last_byte = Cat(Const(-1, shift), end_low, burst_address[chunk_bits:-1])

        # Stage 2: the checked burst.
        checked_valid = Signal()
        checked_inside = Signal(reset_less=True)
        m.d.comb += advance.eq(~checked_valid | (self.bursts.valid & self.bursts.ready))
        with m.If(advance):
            m.d.sync += checked_valid.eq(burst_valid)
            with m.If(burst_valid):
                m.d.sync += [
                    checked_inside.eq((first_byte >= self.window.base) & (last_byte < self.window.limit)
                                      & ~burst_address[-1]),
                    self.bursts.p.address.eq(first_byte),
                    self.bursts.p.length.eq(burst_length),
                    self.bursts.p.last.eq(burst_last),
                ]
        m.d.comb += [
            self.bursts.valid.eq(checked_valid & checked_inside),
            self.outside.eq(checked_valid & ~checked_inside),
        ]
        return m

    def _row_beats(self, words):
        """Beats of a row of ``words`` words, the last perhaps partly used."""
        ratio = self._config.word_bytes / self._config.bus_bytes
        if ratio >= 1:
            return words << exact_log2(int(ratio))
        return (words + int(1 / ratio) - 1) >> exact_log2(int(1 / ratio))

    @staticmethod
    def _add(address, step):
        """``address + step``, with the top bit, "beyond all addresses", kept once it is set."""
        total = address[:-1] + step
        return Cat(total[:len(address) - 1], address[-1] | total[len(address) - 1:].any())
