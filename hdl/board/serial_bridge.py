"""From a serial line to the accelerator's registers and memory."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from ..bus.axi import AXI4LiteSignature, AXI4Signature
from ..config import AcceleratorConfig
from ..control.control import CONTROL_ADDRESS_BITS
from ..parts.ram import Ram
from .bus_access import BusAccess
from .serial_frames import (
    BRIDGE_INFO,
    PAYLOAD_BYTES,
    PROTOCOL_VERSION,
    FrameReceiver,
    FrameSender,
    Operation,
    Status,
)
from .serial_line import SerialReceiver, SerialTransmitter

__all__ = ["SerialBridge"]

_REGISTER_BYTES = 4


class SerialBridge(wiring.Component):
    """Carries out the requests of :mod:`~celosia.hdl.board.serial_frames`, one after the other, and answers each.

    Rules
    -----
    1. Nothing of a request is carried out before its checksum was found right. A frame that is not whole gets no
       reply; one with a wrong checksum or length is answered with CHECKSUM or LENGTH, and then rule 3 of
       :class:`~celosia.hdl.board.serial_frames.FrameReceiver` holds.
    2. Addresses count bytes, and need not be aligned: of a word that is partly in the range only those bytes are
       written. Words are accessed in the order of their addresses, the next when the one before has ended.
    3. At the first access that the bus answers with an error, or does not answer within ``bus_cycles``, the
       request ends with BUS_ERROR or BUS_TIMEOUT; words before it have been written. See rule 2 of
       :class:`~celosia.hdl.board.bus_access.BusAccess` for what then becomes of the bus.
    4. A request to write with the tag and the operation of the request before is a repetition of it, made because
       the reply was lost: it is not carried out again, and gets the same status. HELLO is never the same request.
    5. HELLO is answered with :data:`~celosia.hdl.board.serial_frames.BRIDGE_INFO`; a request of an operation that
       there is not, with OPERATION.

    Parameters
    ----------
    config : AcceleratorConfig
        Tells the width of the memory bus.
    divisor : int
        Cycles of a bit on the line.
    idle_cycles : int
        Cycles without a byte after which a frame that was begun is forgotten.
    memory_base, memory_bytes : int
        Told to the host; the bridge takes any address.
    bus_cycles : int
        Longest access.

    Members
    -------
    rx, tx : serial line
    registers : AXI4LiteSignature, out
    memory : AXI4Signature, out
        One burst of one beat at a time.
    active : out
        A request is being carried out or answered.
    refused : out
        The last request was answered with another status than OKAY.
    """

    def __init__(self, config: AcceleratorConfig, *, divisor: int, idle_cycles: int, memory_base: int,
                 memory_bytes: int, bus_cycles: int = 1 << 16):
        self._config = config
        self._divisor = divisor
        self._idle_cycles = idle_cycles
        self._bus_cycles = bus_cycles
        self._info = BRIDGE_INFO.encode(version=PROTOCOL_VERSION, payload_bytes=PAYLOAD_BYTES,
                                        memory_base=memory_base, memory_bytes=memory_bytes)
        super().__init__({
            "rx": In(1, init=1),
            "tx": Out(1, init=1),
            "registers": Out(AXI4LiteSignature(CONTROL_ADDRESS_BITS)),
            "memory": Out(AXI4Signature.of(config)),
            "active": Out(1),
            "refused": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = SerialReceiver(self._divisor)
        m.submodules.transmitter = transmitter = SerialTransmitter(self._divisor)
        m.submodules.frames = frames = FrameReceiver(self._idle_cycles)
        m.submodules.sender = sender = FrameSender()
        m.submodules.register_access = register_access = BusAccess(self.registers.signature, self._bus_cycles)
        m.submodules.memory_access = memory_access = BusAccess(self.memory.signature, self._bus_cycles)
        m.submodules.buffer = buffer = Ram(8, PAYLOAD_BYTES)
        connect(m, receiver.line, frames.line)
        connect(m, sender.bytes, transmitter.bytes)
        connect(m, flipped(self.registers), register_access.bus)
        connect(m, flipped(self.memory), memory_access.bus)
        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx)]

        request, reply = frames.request, sender.reply
        word_bytes = self._config.bus_bytes
        lane_bits, register_lane_bits = exact_log2(word_bytes), exact_log2(_REGISTER_BYTES)
        operation = request.p.operation
        writes = operation[0]
        on_registers = Signal()
        status = Signal(Status)  # of the last request that was carried out, for its repetition
        verdict = Signal(Status)
        position = Signal(range(PAYLOAD_BYTES + 1), reset_less=True)  # bytes that are done
        lane = Signal(lane_bits, reset_less=True)  # of the next byte in its word
        word = Signal(32 - register_lane_bits, reset_less=True)  # its number, in words of 4 bytes
        data = Signal(8 * word_bytes, reset_less=True)
        strobe = Signal(word_bytes, reset_less=True)
        word_ends = Signal()
        last = Signal()
        known = Signal()
        repeated = Signal()
        before = Signal(len(operation) + len(request.p.tag))  # operation and tag of the last request; 0: none
        m.d.comb += [
            on_registers.eq((operation == Operation.READ_REGISTERS) | (operation == Operation.WRITE_REGISTERS)),
            known.eq(on_registers | (operation == Operation.READ_MEMORY) | (operation == Operation.WRITE_MEMORY)),
            repeated.eq(writes & (before == Cat(operation, request.p.tag))),
            word_ends.eq(Mux(on_registers, lane[:register_lane_bits].all(), lane.all())),
            last.eq(position == request.p.length - 1),
        ]

        # The buffer: filled by the receiver, or by what is read for the reply.
        keep = Signal()
        kept = Signal(8)
        m.d.comb += [
            buffer.write_enable.eq(frames.buffer.enable | keep),
            buffer.write_address.eq(Mux(keep, position, frames.buffer.address)),
            buffer.write_data.eq(Mux(keep, kept, frames.buffer.data)),
            buffer.read_enable.eq(1),
            buffer.read_address.eq(Mux(reply.valid, sender.buffer.address, position)),
            sender.buffer.data.eq(buffer.read_data),
        ]

        # The access to the word, on one of the buses.
        access = Signal()
        outcome = Signal.like(memory_access.outcome)
        outcome_valid = Signal()
        outside = Mux(on_registers, word[CONTROL_ADDRESS_BITS - register_lane_bits:] != 0, 0)
        m.d.comb += [
            register_access.request.valid.eq(access & on_registers),
            register_access.request.p.write.eq(writes),
            register_access.request.p.address.eq(Cat(Const(0, register_lane_bits), word)),
            register_access.request.p.data.eq(data),
            register_access.request.p.strobe.eq(strobe),
            memory_access.request.valid.eq(access & ~on_registers),
            memory_access.request.p.write.eq(writes),
            memory_access.request.p.address.eq(
                Cat(Const(0, lane_bits), word[lane_bits - register_lane_bits:])),
            memory_access.request.p.data.eq(data),
            memory_access.request.p.strobe.eq(strobe),
        ]
        with m.If(on_registers):
            m.d.comb += [
                outcome_valid.eq(register_access.outcome_valid),
                outcome.data.eq(register_access.outcome.data),
                outcome.error.eq(register_access.outcome.error),
                outcome.timeout.eq(register_access.outcome.timeout),
            ]
        with m.Else():
            m.d.comb += [outcome_valid.eq(memory_access.outcome_valid), outcome.eq(memory_access.outcome)]

        m.d.comb += [
            self.active.eq(request.valid),
            verdict.eq(Mux(request.p.verdict == Status.OKAY, status, request.p.verdict)),
            reply.p.status.eq(verdict),
            reply.p.tag.eq(request.p.tag),
        ]
        with m.If((verdict == Status.OKAY) & ~writes):
            m.d.comb += reply.p.length.eq(Mux(operation == Operation.HELLO, len(self._info), request.p.length))

        with m.FSM():
            with m.State("idle"):
                m.d.sync += [
                    position.eq(0), strobe.eq(0), word.eq(request.p.address[register_lane_bits:]),
                    lane.eq(Mux(on_registers, request.p.address[:register_lane_bits], request.p.address[:lane_bits])),
                ]
                with m.If(request.valid):
                    m.next = "reply"
                    with m.If((request.p.verdict == Status.OKAY) & ~repeated):
                        m.d.sync += [status.eq(Status.OKAY), before.eq(Cat(operation, request.p.tag))]
                        with m.If(operation == Operation.HELLO):
                            m.d.sync += before.eq(0)
                            m.next = "inform"
                        with m.Elif(~known):
                            m.d.sync += status.eq(Status.OPERATION)
                        with m.Elif((request.p.length == 0) | (request.p.length > PAYLOAD_BYTES)):
                            m.d.sync += status.eq(Status.LENGTH)
                        with m.Elif(writes):
                            m.next = "fetch"
                        with m.Else():
                            m.next = "access"
            with m.State("inform"):
                m.d.comb += [keep.eq(1), kept.eq(Const(int.from_bytes(self._info, "little"), 8 * len(self._info))
                                                 .word_select(position[:4], 8))]
                m.d.sync += position.eq(position + 1)
                with m.If(position == len(self._info) - 1):
                    m.next = "reply"
            with m.State("fetch"):  # the buffer answers in the next cycle
                m.next = "gather"
            with m.State("gather"):
                m.d.sync += [
                    data.word_select(lane, 8).eq(buffer.read_data), strobe.bit_select(lane, 1).eq(1),
                    lane.eq(lane + 1), position.eq(position + 1)]
                m.next = "fetch"
                with m.If(word_ends | last):
                    m.next = "access"
            with m.State("access"):
                m.d.comb += access.eq(~outside)
                with m.If(outside):
                    m.d.sync += status.eq(Status.BUS_ERROR)
                    m.next = "reply"
                with m.Elif(Mux(on_registers, register_access.request.ready, memory_access.request.ready)):
                    m.next = "outcome"
            with m.State("outcome"), m.If(outcome_valid):
                m.d.sync += [
                    data.eq(outcome.data), strobe.eq(0), lane.eq(0),
                    word.eq(word + Mux(on_registers, 1, word_bytes // _REGISTER_BYTES))]
                m.next = "reply"
                with m.If(outcome.timeout):
                    m.d.sync += status.eq(Status.BUS_TIMEOUT)
                with m.Elif(outcome.error):
                    m.d.sync += status.eq(Status.BUS_ERROR)
                with m.Elif(~writes):
                    m.d.sync += lane.eq(lane)
                    m.next = "spread"
                with m.Elif(position != request.p.length):
                    m.next = "fetch"
            with m.State("spread"):
                m.d.comb += [keep.eq(1), kept.eq(data.word_select(lane, 8))]
                m.d.sync += [lane.eq(lane + 1), position.eq(position + 1)]
                with m.If(last):
                    m.next = "reply"
                with m.Elif(word_ends):
                    m.d.sync += lane.eq(0)
                    m.next = "access"
            with m.State("reply"):
                m.d.comb += reply.valid.eq(1)
                with m.If(reply.ready):
                    m.d.comb += request.ready.eq(1)
                    m.d.sync += self.refused.eq(verdict != Status.OKAY)
                    m.next = "idle"
        return m
