"""From a 2-D transfer to AXI4 bursts: the address side of the load and the store engine."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..isa import TRANSFER
from ..parts.resets import without_reset
from ..registers import WIDE_BITS

__all__ = ["ADDRESS_BITS", "BURST_BEATS", "AddressLayout", "BurstGenerator", "BurstLayout"]

#: Bits of an address in the registers and instructions, whatever the bus has.
ADDRESS_BITS = WIDE_BITS

#: Longest burst in beats. Short enough that an instruction fetch behind ``outstanding_reads`` bursts is not
#: late, long enough that 40 cycles of latency and a burst's overhead vanish.
BURST_BEATS = 64


class BurstLayout(data.StructLayout):
    """A burst that is wanted: ``address`` of its first byte, ``beyond`` all addresses of the bus or not, ``length``
    (beats - 1, as AxLEN), ``last`` burst of its transfer."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"address": config.address_bits, "beyond": 1, "length": 8, "last": 1})


class AddressLayout(data.StructLayout):
    """A burst as it is put on the bus: ``address`` of its first byte, ``length`` (beats - 1, as AxLEN)."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"address": config.address_bits, "length": 8})


class BurstGenerator(wiring.Component):
    """Splits transfers into bursts.

    Rules
    -----
    1. A burst has from 1 to ``beats`` beats and never crosses a multiple of ``beats`` beats, hence never a 4
       KiB boundary.
    2. The next transfer is accepted once every row of the one before has begun. Its first burst is offered three
       cycles later, and then a burst a cycle.
    3. Bursts are offered wherever they lie: the :class:`~celosia.hdl.bus.guard.WindowGuard` judges them.

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
        Nothing moves on while it is not ready, so that the way to the rows is short.
    """

    def __init__(self, config: AcceleratorConfig, beats: int = BURST_BEATS):
        self._config = config
        self._beats = min(beats, 256, 4096 // config.bus_bytes)
        super().__init__({
            "transfer": In(stream.Signature(TRANSFER.layout)),
            "bursts": Out(stream.Signature(BurstLayout(config))),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        chunk_bits = exact_log2(self._beats)
        shift = exact_log2(config.bus_bytes)
        address_bits = config.address_bits - shift  # addresses count beats here; one more bit says "beyond"
        transfer = self.transfer.p
        advance = Signal()

        # Stage 0: the rows.
        active = Signal()
        row = Signal(address_bits + 1, reset_less=True)
        stride = Signal(32 - shift, reset_less=True)
        row_beats = Signal(16 + max(0, exact_log2(config.word_bytes) - shift), reset_less=True)
        rows_left = Signal(16, reset_less=True)
        last_row = Signal(reset_less=True)
        next_row = Signal()
        accept = Signal()
        m.d.comb += accept.eq(self.transfer.valid & self.transfer.ready)
        with m.If(self.transfer.ready):  # a copy that is not needed does no harm
            m.d.sync += [
                active.eq(accept),
                row.eq(Cat(transfer.dram_address[shift:config.address_bits],
                           transfer.dram_address[config.address_bits:].any())),
                stride.eq(transfer.dram_stride[shift:]),
                row_beats.eq(self._row_beats(transfer.words)),
                rows_left.eq(transfer.count),
                last_row.eq(transfer.count == 1),
            ]
        with m.Elif(active & next_row):
            m.d.sync += [
                active.eq(~last_row),
                row.eq(self._add(row, stride)),
                rows_left.eq(rows_left - 1),
                last_row.eq(rows_left == 2),
            ]

        # Stage 1: a row's first chunk, how many more it reaches into, and where in the last one it ends.
        first_valid = Signal()
        first = Signal.like(row, reset_less=True)
        last_beat = Signal(len(row_beats) + 1, reset_less=True)  # from the start of the first chunk
        first_of_last_row = Signal(reset_less=True)
        load = Signal()
        with m.If(next_row):
            m.d.sync += [
                first_valid.eq(active), first.eq(row), last_beat.eq(row[:chunk_bits] + row_beats - 1),
                first_of_last_row.eq(last_row),
            ]
        m.d.comb += next_row.eq(~first_valid | load)

        # Stage 2: the bursts of a row.
        valid = Signal()
        address = Signal.like(row, reset_less=True)
        chunks = Signal(len(last_beat) - chunk_bits, reset_less=True)  # left after this one
        end = Signal(chunk_bits, reset_less=True)
        last_chunk = Signal(reset_less=True)
        in_last_row = Signal(reset_less=True)
        m.d.comb += load.eq(~valid | (advance & last_chunk))
        with m.If(load):
            m.d.sync += [
                valid.eq(first_valid), address.eq(first), chunks.eq(last_beat[chunk_bits:]),
                end.eq(last_beat[:chunk_bits]), last_chunk.eq(last_beat[chunk_bits:] == 0),
                in_last_row.eq(first_of_last_row),
            ]
        with m.Elif(advance):
            m.d.sync += [
                address[:chunk_bits].eq(0), address[chunk_bits:].eq(self._add(address[chunk_bits:], 1)),
                chunks.eq(chunks - 1), last_chunk.eq(chunks == 1),
            ]

        # Stage 3: the burst.
        burst = without_reset(m, self.bursts.payload)
        burst_ends = Mux(last_chunk, end, self._beats - 1)
        m.d.comb += advance.eq(~self.bursts.valid | self.bursts.ready)
        with m.If(advance):
            m.d.sync += [
                self.bursts.valid.eq(valid),
                burst.address.eq(Cat(Const(0, shift), address[:-1])),
                burst.beyond.eq(address[-1]),
                burst.length.eq(burst_ends - address[:chunk_bits]),
                burst.last.eq(last_chunk & in_last_row),
            ]
        m.d.sync += self.transfer.ready.eq(~accept & ~active)
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
