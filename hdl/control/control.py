"""The control and status registers behind an AXI4-Lite port."""

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..bus.axi import AXI4LiteSignature, Response
from ..bus.bursts import ADDRESS_BITS
from ..bus.guard import WindowSignature
from ..config import AcceleratorConfig
from ..parts.one_hot import merged, selected
from ..registers import ACCELERATOR_ID, COUNTERS, REGISTERS, VERSION, Access, ErrorCause, Register, register
from .counters import CounterSignature

__all__ = ["CONTROL_ADDRESS_BITS", "Control", "StatusSignature", "constant_registers"]

#: Width of an address on the control port.
CONTROL_ADDRESS_BITS = 12

#: Registers among which a read chooses by the lowest bits of the offset.
_ROW = 8


class StatusSignature(wiring.Signature):
    """What the host sees of the program (``Out`` at the sequencer); fields as in the ``status`` register."""

    def __init__(self) -> None:
        super().__init__({
            "busy": Out(1),
            "done": Out(1),
            "error": Out(1),
            "stopping": Out(1),
            "refused": Out(1),
            "cause": Out(ErrorCause),
            "error_address": Out(ADDRESS_BITS),
        })


def constant_registers(config: AcceleratorConfig) -> dict[str, int]:
    """Values of the registers that tell what the hardware is, by name."""
    fields: dict[str, dict[str, int]] = {
        "version": {"minor": VERSION & 0xFFFF, "major": VERSION >> 16},
        "config_array": {
            "rows": config.rows, "cols": config.cols, "lanes": config.lanes, "bus_bytes": config.bus_bytes},
        "config_memory": {
            "scratchpad_kib": config.scratchpad_kib, "accumulator_kib": config.accumulator_kib,
            "scratchpad_banks": config.scratchpad_banks},
        "config_limits": {
            "row_entries": config.row_entries, "queue_depth": config.queue_depth,
            "address_bits": config.address_bits},
        "config_sizes": {
            "max_k_log2": exact_log2(config.max_k), "max_n_log2": exact_log2(config.max_n),
            "max_tokens_log2": exact_log2(config.max_tokens), "outstanding_reads": config.outstanding_reads},
        "config_control": {"counter_bits": config.counter_bits, "load_queue_depth": config.load_queue_depth},
    }
    values = {"id": ACCELERATOR_ID}
    for name, parts in fields.items():
        bits = {field.name: field for field in register(name).bits}
        if set(bits) != set(parts):
            raise ValueError(f"the fields of {name} must be {', '.join(bits)}, not {', '.join(parts)}")
        values[name] = sum(value << bits[part].offset for part, value in parts.items())
        for part, value in parts.items():
            if value >> bits[part].width:
                raise ValueError(f"{name}.{part} must fit {bits[part].width} bits, not {value}")
    return values


class Control(wiring.Component):
    """The registers of ``REGISTERS``.

    Rules
    -----
    1. One write and one read are handled at a time; the write address and its data may come in any order.
    2. A write to an offset without a register, or to a read-only one, changes nothing and is answered with
       SLVERR; a read of an offset without a register returns 0 with SLVERR. The two lowest address bits are
       ignored.
    3. Only the bytes with a strobe are written; a command needs the strobe of its byte.
    4. ``start`` and ``reset`` are high for one cycle. A write that asks for both resets.
    5. ``interrupt`` is high while it is enabled, a program has ended or failed, and this was not acknowledged yet; what
       lowers it does so before its write is answered, and a command that the sequencer refuses leaves it as it is.
    6. ``error_address`` reads as zero while ``status.cause`` is NONE.
    7. A counter's two halves are read separately: they belong together once the program has ended.

    Members
    -------
    bus : AXI4LiteSignature
    start, reset : 1 bit
    program : 48 bits
    window : WindowSignature
    watchdog : 32 bits
    status : StatusSignature
    counters : CounterSignature
    interrupt : 1 bit
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "bus": In(AXI4LiteSignature(CONTROL_ADDRESS_BITS)),
            "start": Out(1),
            "reset": Out(1),
            "program": Out(ADDRESS_BITS),
            "window": Out(WindowSignature()),
            "watchdog": Out(32, init=register("watchdog").reset),
            "status": In(StatusSignature()),
            "counters": In(CounterSignature(config)),
            "interrupt": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        acknowledged = Signal()
        ended = self.status.done | self.status.error
        enable = Signal()
        m.d.comb += self.interrupt.eq(enable & ended & ~acknowledged)
        with m.If(~ended):
            m.d.sync += acknowledged.eq(0)
        acknowledge = self._write(m, enable)
        with m.If(acknowledge):
            m.d.sync += acknowledged.eq(ended)
        self._read(m, enable)
        return m

    def _halves(self):
        """The 48-bit read-write registers, by the name that their halves share."""
        return {"program": self.program, "window_base": self.window.base, "window_limit": self.window.limit}

    def _write(self, m, enable):
        """The write side; returns the acknowledgement of the interrupt."""
        bus = self.bus
        address_held = Signal()
        data_held = Signal()
        offset = Signal(CONTROL_ADDRESS_BITS - 2, reset_less=True)
        word = Signal(32, reset_less=True)
        strobe = Signal(4, reset_less=True)
        decode = Signal()
        execute = Signal()
        answer = Signal()  # a cycle later: a command has had its effect
        acknowledge = Signal()
        writable = [reg for reg in REGISTERS if reg.access is not Access.READ]
        writes = {reg.name: Signal(name=f"writes_{reg.name}") for reg in writable}
        m.d.comb += decode.eq(address_held & data_held & ~bus.bvalid & ~execute & ~answer)
        m.d.sync += [
            bus.awready.eq(~(bus.awvalid & bus.awready) & (~address_held | execute)),
            bus.wready.eq(~(bus.wvalid & bus.wready) & (~data_held | execute)),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [address_held.eq(1), offset.eq(bus.awaddr[2:])]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [data_held.eq(1), word.eq(bus.wdata), strobe.eq(bus.wstrb)]
        m.d.sync += [
            self.start.eq(0), self.reset.eq(0), execute.eq(decode), answer.eq(execute),
            *(writes[reg.name].eq(decode & (offset == reg.offset // 4)) for reg in writable),
        ]
        for reg in writable:
            with m.If(writes[reg.name]):
                self._write_register(m, reg, word, strobe, enable, acknowledge)
        with m.If(execute):
            m.d.sync += [
                address_held.eq(0),
                data_held.eq(0),
                bus.bresp.eq(Mux(Cat(writes.values()).any(), Response.OKAY, Response.SLVERR)),
            ]
        with m.If(answer):
            m.d.sync += bus.bvalid.eq(1)
        with m.Elif(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        return acknowledge

    def _write_register(self, m: Module, reg: Register, word, strobe, enable, acknowledge) -> None:
        if reg.name == "control":
            start, reset = word[0] & strobe[0], word[1] & strobe[0]
            m.d.sync += [self.start.eq(start & ~reset), self.reset.eq(reset)]
            return
        if reg.name == "interrupt":
            with m.If(strobe[0]):
                m.d.sync += enable.eq(word[0])
                m.d.comb += acknowledge.eq(word[1])
            return
        name, _, half = reg.name.rpartition("_")
        if half in ("low", "high"):
            whole = self._halves()[name]
            target = whole[32:] if half == "high" else whole[:32]
        else:
            assert reg.name == "watchdog"
            target = self.watchdog
        for i in range(0, len(target), 8):
            with m.If(strobe[i // 8]):
                m.d.sync += target[i:i + 8].eq(word[i:i + 8])

    def _read(self, m: Module, enable) -> None:
        bus, status = self.bus, self.status
        values = dict(constant_registers(self._config))
        values["control"] = 0
        fields = register("status").bits
        values["status"] = merged(
            Value.cast(getattr(status, field.name)) << field.offset for field in fields)
        values["interrupt"] = enable
        values["watchdog"] = self.watchdog
        wholes = {**self._halves(), "error_address": status.error_address,
                  **{name: getattr(self.counters, name) for name, _doc in COUNTERS}}
        for name, whole in wholes.items():
            values[f"{name}_low"], values[f"{name}_high"] = whole[:32], whole[32:]
        assert set(values) == {reg.name for reg in REGISTERS}

        # Which register is wanted: the row of eight in which it lies, and its place there. Then that one.
        offset = Signal(CONTROL_ADDRESS_BITS - 2, reset_less=True)
        places = {reg.name: divmod(reg.offset // 4, _ROW) for reg in REGISTERS}
        rows = {row: Signal(name=f"row_{row}", reset_less=True) for row, _column in places.values()}
        columns = [Signal(name=f"column_{column}", reset_less=True) for column in range(_ROW)]
        decoding = Signal()
        choosing = Signal()
        m.d.sync += [
            decoding.eq(bus.arvalid & bus.arready), choosing.eq(decoding),
            bus.arready.eq(~(bus.arvalid & bus.arready) & ~decoding & ~choosing & (~bus.rvalid | bus.rready)),
            *(wanted.eq(offset >> exact_log2(_ROW) == row) for row, wanted in rows.items()),
            *(wanted.eq(offset[:exact_log2(_ROW)] == column) for column, wanted in enumerate(columns)),
        ]
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += offset.eq(bus.araddr[2:])
        is_wanted = {name: rows[row] & columns[column] for name, (row, column) in places.items()}
        is_shown = {name: is_wanted[name] & (Value.cast(status.cause).any() if name.startswith("error_address") else 1)
                    for name in is_wanted}
        with m.If(choosing):
            m.d.sync += [
                bus.rvalid.eq(1),
                bus.rdata.eq(selected(is_shown.values(), [values[name] for name in is_shown])),
                bus.rresp.eq(Mux(merged(is_wanted.values()), Response.OKAY, Response.SLVERR)),
            ]
        with m.Elif(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
