"""Checks each fetched instruction and hands it to the queue of its engine."""

from amaranth import Cat, Const, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..config import AcceleratorConfig
from ..isa import FORMATS, MATMUL, TRANSFER, VECTOR, Engine, Function, Opcode
from ..registers import ErrorCause
from .fetch import FetchedLayout
from .queued import QueuedLayout, foreign_semaphores

__all__ = ["DECODE_LATENCY", "Decoder"]

#: Cycles from when an instruction is offered to the decoder to when it is put into its queue.
DECODE_LATENCY = 2

_OPCODES = {engine: Opcode[engine.name] for engine in Engine}


class Decoder(wiring.Component):
    """Checks and dispatches.

    Rules
    -----
    1. An instruction is legal when its opcode is known, and LOAD, STORE: ``count`` and ``words`` are at least
       1, ``dram_address`` and (where ``count`` is above 1) ``dram_stride`` are multiples of the bus width in
       bytes; MATMUL: ``m``, ``n_tiles`` and ``k_tiles`` are at least 1; VECTOR: ``function`` is known, ``m``
       and (but for LOAD_ROWS) ``groups`` are at least 1, and ``row + m`` is at most ``row_entries``. All of these: a
       semaphore in ``wait`` or ``signal`` belongs to the engine.
    2. Instructions are dispatched in their order, each ``DECODE_LATENCY`` cycles after it was offered at best.
    3. After END (``ended``), and at a fault (``cause`` is not NONE), nothing more is dispatched until a
       reset.
    4. Indices come in halves, an upper and a lower one. Between two halves nothing is dispatched until every
       instruction of the half before the last one has finished: while ``turning``, this waits for ``turned``.

    Members
    -------
    fetched : stream of :class:`FetchedLayout`
    load, store, matmul, vector : stream of :class:`~celosia.hdl.control.queued.QueuedLayout`
    dispatched : 1 bit
        An instruction (an END too) was decoded in the cycle before; for the counter.
    ended : 1 bit
    turning, turned : 1 bit
        Rule 4.
    cause : ErrorCause
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "fetched": In(stream.Signature(FetchedLayout())),
            **{engine.name.lower(): Out(stream.Signature(QueuedLayout(config, engine)))
               for engine in Engine},
            "dispatched": Out(1),
            "ended": Out(1),
            "turning": Out(1),
            "turned": In(1),
            "cause": Out(ErrorCause),
        })

    def elaborate(self, platform):
        m = Module()
        word = self.fetched.p.word
        queues = [getattr(self, engine.name.lower()) for engine in Engine]
        index = self.fetched.p.index
        m.d.comb += [
            Value.cast(queue.p).eq(QueuedLayout(self._config, engine).packed(word, index))
            for engine, queue in zip(Engine, queues, strict=True)]

        # What is to be known of the instruction, each thing a register.
        known = []

        def register(name, condition):
            flag = Signal(name=name, reset_less=True)
            known.append(flag.eq(condition))
            return flag

        opcode = word[:Opcode.as_shape().width]
        is_opcode = {code: register(f"is_{code.name.lower()}", opcode == code) for code in FORMATS}
        legal = Cat(is_opcode[code] & condition for code, condition in self._legal(register, word).items()).any()

        targets = Signal(len(queues))
        m.d.comb += Cat(queue.valid for queue in queues).eq(targets)
        m.d.sync += self.dispatched.eq(0)
        with m.FSM():
            with m.State("Check"), m.If(self.fetched.valid):
                m.d.sync += known
                m.next = "Examine"
            with m.State("Examine"):
                with m.If(self.fetched.p.outside):
                    m.d.sync += self.cause.eq(ErrorCause.FETCH_OUTSIDE_WINDOW)
                    m.next = "Stopped"
                with m.Elif(self.fetched.p.error):
                    m.d.sync += self.cause.eq(ErrorCause.FETCH_BUS_ERROR)
                    m.next = "Stopped"
                with m.Elif(~legal):
                    m.d.sync += [self.cause.eq(ErrorCause.ILLEGAL_INSTRUCTION), self.dispatched.eq(1)]
                    m.next = "Stopped"
                with m.Elif(is_opcode[Opcode.END]):
                    m.d.sync += [self.ended.eq(1), self.dispatched.eq(1)]
                    m.next = "Stopped"
                with m.Else():
                    m.d.sync += targets.eq(Cat(is_opcode[_OPCODES[engine]] for engine in Engine))
                    m.next = "Dispatch"
            with m.State("Dispatch"), m.If((Cat(queue.ready for queue in queues) & targets).any()):
                m.d.sync += [targets.eq(0), self.dispatched.eq(1)]
                with m.If(index[:-1].all()):
                    m.next = "Turn"
                with m.Else():
                    m.d.comb += self.fetched.ready.eq(1)
                    m.next = "Check"
            with m.State("Turn"):
                m.d.comb += [self.turning.eq(1), self.fetched.ready.eq(self.turned)]
                with m.If(self.turned):
                    m.next = "Check"
            with m.State("Stopped"):
                pass  # the instruction stays where it is: its address is wanted
        return m

    def _legal(self, register, word):
        """Rule 1: a condition for each opcode, of what ``register`` makes of its parts."""
        config = self._config
        header = data.View(FORMATS[Opcode.END].layout, word[:FORMATS[Opcode.END].layout.size])
        owned = {_OPCODES[engine]: register(
            f"{engine.name.lower()}_semaphores", ~foreign_semaphores(engine, header.wait, header.signal))
            for engine in Engine}
        bus_shift = exact_log2(config.bus_bytes)
        transfer, matmul, vector = (
            data.View(format.layout, word[:format.layout.size]) for format in (TRANSFER, MATMUL, VECTOR))
        transfers = (
            register("transfer_count", transfer.count != 0) & register("transfer_words", transfer.words != 0)
            & register("aligned_address", ~transfer.dram_address[:bus_shift].any())
            & (register("aligned_stride", ~transfer.dram_stride[:bus_shift].any())
               | register("one_row", transfer.count == 1)))
        legal = {
            Opcode.END: Const(1),
            Opcode.LOAD: transfers,
            Opcode.STORE: transfers,
            Opcode.MATMUL: (
                register("matmul_m", matmul.m != 0) & register("matmul_n", matmul.n_tiles != 0)
                & register("matmul_k", matmul.k_tiles != 0)),
            Opcode.VECTOR: (
                (register("loads_curve", vector.function == Function.LOAD_CURVE)
                 | (register("vector_m", vector.m != 0)
                    & register("rows_exist", vector.row + vector.m <= config.row_entries)
                    & (register("vector_groups", vector.groups != 0)
                       | register("loads_rows", vector.function == Function.LOAD_ROWS))))
                & register("known_function", Cat(vector.function == function for function in Function).any())),
        }
        assert set(legal) == set(FORMATS)
        return {code: condition & owned.get(code, 1) for code, condition in legal.items()}
