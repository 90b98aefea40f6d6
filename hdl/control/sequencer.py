"""Runs a program: fetch, check, dispatch to the engines' queues, start and order them, and stop on any
fault."""

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from ..bus.bursts import ADDRESS_BITS, BurstLayout
from ..bus.guard import BoundsLayout, WindowSignature, bounds_of
from ..bus.read_channel import BeatLayout
from ..config import AcceleratorConfig
from ..isa import INSTRUCTION_BYTES, Engine
from ..memory.interfaces import CommandSignature
from ..parts.one_hot import selected
from ..parts.resets import reset_by, without_reset
from ..registers import ErrorCause
from .control import StatusSignature
from .decoder import Decoder
from .fetch import Fetch
from .issue import IssueUnit
from .queued import ENGINE_FORMATS, INDEX_BITS, NEIGHBOURS
from .semaphores import Semaphores

__all__ = ["END_LATENCY", "START_LATENCY", "Sequencer"]

#: A reset goes from the instruction queues to the DMA, the matmul engine and the vector engine, a cycle each, and is
#: long enough to hold them all at once.
_RESET_CYCLES = 4
#: Cycles from the beginning of a reset to when the last of these has left it.
_RESET_REACHES = 2 * _RESET_CYCLES - 1
#: Cycles from the beginning of a program to when it runs, and its first block may be asked for.
START_LATENCY = _RESET_REACHES
#: Cycles from when nothing is under way any more to the last fault that may come of it.
_LATEST_FAULT = 3
#: Cycles from ``finished`` of the last instruction to the end of the program.
END_LATENCY = 3 + _LATEST_FAULT


class Sequencer(wiring.Component):
    """Runs one program at a time. It is idle, starts or runs a program, or stops: then it waits until the bus owes
    nothing any more.

    Rules
    -----
    1. ``start`` takes ``program``, ``window`` and ``watchdog`` as they are in its cycle, and causes a ``reset``, after
       which the program is fetched. It waits for the end of a stop that a soft reset began. It is refused while another
       program starts or runs, or a start waits, and from a fault to the next soft reset; ``status.refused`` says so
       until a start is taken or a soft reset is made.
    2. A program is done when END was decoded, no instruction is queued or under way, and no fetched beat is
       owed.
    3. At the first fault its cause and the address of its instruction are kept, a stop begins, and with it ``reset``:
       no engine starts or ends anything after that. Of several faults in a cycle the first of ``ErrorCause`` counts,
       the load engine's before the store engine's.
    4. The address is, while there is a cause, for ILLEGAL_INSTRUCTION and FETCH_*, the instruction that was to be
       decoded; for LOAD_* and STORE_*, the one under way; for SEMAPHORE_OVERFLOW, the one that signalled; for WATCHDOG,
       the oldest under way of the first engine that has one, else the one that waits in the first queue, else the
       one to be fetched.
    5. ``soft_reset`` clears the status, forgets a start that waits, and begins a stop and a ``reset``, whatever goes
       on.
    6. A stop ends when ``reset`` has reached everything and the bus is quiet. ``status.busy`` is high from the
       start of a program, or a soft reset, to the end of the stop; ``done`` or ``error`` rise as it falls.
    7. ``reset`` is a register, high for four cycles, and during the reset of the whole; what it resets needs no other
       reset. It reaches the last engine three cycles later, and no instruction is offered before that has left it.

    Members
    -------
    start, soft_reset : 1 bit
    program, window, watchdog
        From the registers.
    bounds : BoundsLayout
        The window of the program that runs.
    quiet : 1 bit
        The bus owes nothing.
    status : StatusSignature
    reset : 1 bit
        For all engines and what belongs to them.
    clear : 1 bit
        For the counters, in the cycle in which a program begins, and from a soft reset until it has reached all.
    moving : 1 bit
        A program runs, or is being stopped after a fault: what the memory takes is its own.
    fetch_requests, fetch_data : streams
        To and from the read arbiter.
    fetch_passed, fetch_refused : 1 bit
        From there.
    load, store, matmul, vector : CommandSignature
    load_outside, load_bus_error, store_outside, store_bus_error : 1 bit
        Faults of the oldest instruction under way.
    decoded : 1 bit
        An instruction has been decoded.
    busy, waiting : 4 bits
        One for each ``Engine``, as in ``IssueUnit`` in the cycle before.
    running : 1 bit
        A program starts or runs.
    matmul_blocked, matmul_blocked_by_load, matmul_unfetched : 1 bit
        The next MATMUL instruction waits for a semaphore, or for one that the load or store engine gives; none waits,
        but the program has not ended.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "start": In(1),
            "soft_reset": In(1),
            "program": In(ADDRESS_BITS),
            "window": In(WindowSignature()),
            "watchdog": In(32),
            "bounds": Out(BoundsLayout(config)),
            "quiet": In(1),
            "status": Out(StatusSignature()),
            "reset": Out(1, init=1),
            "clear": Out(1),
            "moving": Out(1),
            "fetch_requests": Out(stream.Signature(BurstLayout(config))),
            "fetch_data": In(stream.Signature(BeatLayout(config))),
            "fetch_passed": In(1),
            "fetch_refused": In(1),
            **{engine.name.lower(): Out(CommandSignature(format))
               for engine, format in ENGINE_FORMATS.items()},
            "load_outside": In(1),
            "load_bus_error": In(1),
            "store_outside": In(1),
            "store_bus_error": In(1),
            "decoded": Out(1),
            "busy": Out(len(Engine)),
            "waiting": Out(len(Engine)),
            "running": Out(1),
            "matmul_blocked": Out(1),
            "matmul_blocked_by_load": Out(1),
            "matmul_unfetched": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, status = self._config, self.status
        fetch, decoder, semaphores = Fetch(config), Decoder(config), Semaphores()
        units = {engine: IssueUnit(config, engine) for engine in Engine}
        resettable = reset_by(m, "units", self.reset)
        m.submodules.fetch = resettable(fetch)
        m.submodules.decoder = resettable(decoder)
        m.submodules.semaphores = resettable(semaphores)

        running = Signal()
        all_idle = Cat(unit.idle for unit in units.values()).all()
        finished = Signal(len(Engine))
        connect(m, flipped(self.fetch_requests), fetch.requests)
        connect(m, fetch.data, flipped(self.fetch_data))
        connect(m, decoder.fetched, fetch.instructions)
        m.d.comb += [
            units[Engine.LOAD].fails.eq(self.load_outside | self.load_bus_error),
            units[Engine.STORE].fails.eq(self.store_outside | self.store_bus_error),
        ]
        # What a start takes: the registers may be written while the program runs.
        take = Signal()
        bounds = without_reset(m, self.bounds)
        watchdog = Signal.like(self.watchdog, reset_less=True)
        shift, top = exact_log2(config.bus_bytes), config.address_bits
        with m.If(take):
            m.d.sync += [Value.cast(bounds).eq(bounds_of(config, self.window)), watchdog.eq(self.watchdog)]
        m.d.comb += [
            fetch.take.eq(take),
            fetch.program.eq(Cat(self.program[shift:top], self.program[top:].any())),
            fetch.enable.eq(running & ~decoder.ended),
            fetch.passed.eq(self.fetch_passed), fetch.refused.eq(self.fetch_refused),
        ]
        for i, (engine, unit) in enumerate(units.items()):
            name = engine.name.lower()
            m.submodules[name] = resettable(unit)
            port = getattr(self, name)
            connect(m, flipped(port), unit.engine)
            connect(m, unit.queue, getattr(decoder, name))
            connect(m, unit.semaphores, getattr(semaphores, name))
            m.d.comb += [unit.enable.eq(running), finished[i].eq(unit.ended)]
            m.d.sync += [self.busy[i].eq(unit.busy & running), self.waiting[i].eq(unit.waiting & running)]
        matmul = units[Engine.MATMUL]
        lacks = Signal.like(matmul.semaphores.lacks, name="matmul_lacks")
        m.d.sync += lacks.eq(Mux(matmul.semaphores.request, matmul.semaphores.lacks, 0))
        moved = [giver in (Engine.LOAD, Engine.STORE) for giver in NEIGHBOURS[Engine.MATMUL]]
        m.d.comb += [
            self.decoded.eq(decoder.dispatched & running),
            self.matmul_blocked.eq(lacks.any()),
            self.matmul_blocked_by_load.eq(
                Cat(bit for bit, by_load in zip(lacks, moved, strict=True) if by_load).any()),
            self.matmul_unfetched.eq(matmul.empty & ~decoder.ended),
        ]

        # Of the end, or, between two halves of the indices, of those of the half before, no fault can come any more:
        # they have finished. An engine's oldest instruction tells of which half the others are.
        settled = Signal(_LATEST_FAULT)
        old = Cat(~unit.idle & (unit.fault_index[-1] != decoder.fetched.p.index[-1]) for unit in units.values()).any()
        rests = Mux(decoder.turning, ~old, all_idle & decoder.ended & fetch.quiet & self.quiet)
        m.d.sync += settled.eq(Mux(running & rests, Cat(1, settled), 0))
        m.d.comb += decoder.turned.eq(settled[-1])

        # The watchdog.
        cycles_left = Signal.like(watchdog, reset_less=True)
        expired = Signal()
        with m.If(~running | finished.any()):
            m.d.sync += [cycles_left.eq(watchdog), expired.eq(0)]
        with m.Else():
            m.d.sync += [cycles_left.eq(cycles_left - 1), expired.eq((cycles_left == 0) & watchdog.any())]

        # Faults in the order in which they count: cause, condition, and whose instruction it is, one-hot: an
        # engine's, or the one that was fetched. An engine's own faults take the oldest instruction, or the one that
        # signalled, or the head.
        fetched = 1 << len(Engine)
        busy, held = Cat(unit.busy for unit in units.values()), Cat(~unit.idle for unit in units.values())
        stuck = Signal(len(Engine) + 1)
        waits = Cat(Mux(busy.any(), busy, held), 1)
        faults = [(cause, decoder.cause == cause, fetched) for cause in (
            ErrorCause.ILLEGAL_INSTRUCTION, ErrorCause.FETCH_OUTSIDE_WINDOW, ErrorCause.FETCH_BUS_ERROR)]
        faults += [
            (ErrorCause.LOAD_OUTSIDE_WINDOW, self.load_outside, 1 << Engine.LOAD.value),
            (ErrorCause.LOAD_BUS_ERROR, self.load_bus_error, 1 << Engine.LOAD.value),
            (ErrorCause.STORE_OUTSIDE_WINDOW, self.store_outside, 1 << Engine.STORE.value),
            (ErrorCause.STORE_BUS_ERROR, self.store_bus_error, 1 << Engine.STORE.value),
        ]
        faults += [(ErrorCause.SEMAPHORE_OVERFLOW, unit.overflows, 1 << engine.value) for engine, unit in units.items()]
        faults += [(ErrorCause.WATCHDOG, expired, stuck)]

        # A register for the conditions, and one for the first of them; meanwhile the indices are held.
        faulty = Signal(len(faults))
        first = Signal(len(faults))
        failing = Signal()
        m.d.sync += [
            faulty.eq(Cat(condition & running for _cause, condition, _owner in faults)),
            first.eq(faulty & -faulty),
            failing.eq(faulty.any() & running),
        ]
        m.d.comb += [unit.hold.eq(faulty.any()) for unit in units.values()]
        with m.If(~faulty.any()):
            m.d.sync += stuck.eq(waits & -waits)
        low, high = exact_log2(INSTRUCTION_BYTES), exact_log2(INSTRUCTION_BYTES) + INDEX_BITS
        owner = Signal(len(Engine) + 1)
        index = Signal(INDEX_BITS, reset_less=True)
        m.d.comb += [
            owner.eq(selected(first, [owner for _cause, _condition, owner in faults])),
            # What is under way may be of the half before that of what is fetched.
            status.error_address.eq(Cat(fetch.address[:low], index, fetch.address[high:] - (
                index[-1] & ~fetch.address[high - 1]))),
        ]
        # The states: idle, starting, running, stopping.
        starting = Signal(_RESET_REACHES)
        stopping = Signal()
        faulted = Signal()  # by a fault, which shows when the stop ends
        pending = Signal()  # a start waits for the end of a stop
        reaching = Signal(_RESET_REACHES)  # a reset is on its way
        begin = Signal()
        reset = Signal()
        stopped = Signal()
        resetting = Signal(_RESET_CYCLES - 1)
        m.d.comb += [
            status.busy.eq(running | starting.any() | stopping | pending),
            status.stopping.eq(stopping),
            take.eq(self.start & ~running & ~starting.any() & ~pending & ~faulted),
            begin.eq(pending & ~stopping),
            self.running.eq(running | starting.any()),
            # Events come some cycles after what they are about: they are cleared as long as a soft reset spreads.
            self.clear.eq(begin | self.soft_reset | (stopping & ~faulted & self.reset)),
            self.moving.eq(running | (stopping & faulted)),
            stopped.eq(stopping & ~reset & ~reaching.any() & self.quiet),
            reset.eq(begin | self.soft_reset | (running & failing)),
        ]
        m.d.sync += [
            starting.eq(Cat(begin, starting)),
            reaching.eq(Cat(reset, reaching)),
            resetting.eq(Cat(reset, resetting)),
            self.reset.eq(reset | resetting.any()),
            status.refused.eq((status.refused | self.start) & ~take & ~self.soft_reset),
        ]
        with m.If(take):
            m.d.sync += [pending.eq(1), status.done.eq(0)]
        with m.If(begin):
            m.d.sync += pending.eq(0)
        with m.If(starting[-1]):
            m.d.sync += running.eq(1)
        with m.If(running):
            with m.If(failing):
                m.d.sync += [
                    running.eq(0), stopping.eq(1), faulted.eq(1),
                    status.cause.eq(selected(first, [cause.value for cause, _condition, _owner in faults])),
                    index.eq(selected(
                        owner, [*(unit.fault_index for unit in units.values()), fetch.address[low:high]])),
                ]
            with m.Elif(settled[-1] & decoder.ended):
                m.d.sync += [running.eq(0), status.done.eq(1)]
        with m.If(stopped):
            m.d.sync += [stopping.eq(0), status.error.eq(faulted)]
        with m.If(self.soft_reset):
            m.d.sync += [
                starting.eq(0),
                pending.eq(0),
                running.eq(0),
                stopping.eq(1),
                faulted.eq(0),
                status.done.eq(0),
                status.error.eq(0),
                status.cause.eq(ErrorCause.NONE),
            ]
        return m
