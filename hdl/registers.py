"""The control and status registers: the one definition that the AXI4-Lite block, the driver, the C header and the
documents are made from."""

from dataclasses import dataclass

from .enums import Enum

__all__ = ["ACCELERATOR_ID", "COUNTERS", "COUNTER_BITS", "DEFAULT_WATCHDOG", "LOSSES", "REGISTERS", "VERSION",
           "WIDE_BITS", "Access", "Bits", "ErrorCause", "Register", "register"]

#: Reads as the ASCII characters "CELO".
ACCELERATOR_ID = 0x43454C4F
#: Major << 16 | minor of the register map and instruction set.
VERSION = 0x0002_0000
#: Cycles of the watchdog after a reset: more than any instruction takes with a memory that answers, a second or so.
DEFAULT_WATCHDOG = 1 << 27
#: Width of an address, which takes two registers: the upper one has the bits from 32 on.
WIDE_BITS = 48
#: The same of a counter, of which a configuration has the lower ``counter_bits``; the others read as zero.
COUNTER_BITS = 64


class Access(Enum):
    """How the host may use a register."""

    READ = "read-only"
    WRITE = "read-write"
    COMMAND = "write-only; a one starts the action, and reads zero"


class ErrorCause(Enum, shape=8):
    """Why a program stopped."""

    NONE = 0
    ILLEGAL_INSTRUCTION = 1
    FETCH_OUTSIDE_WINDOW = 2
    FETCH_BUS_ERROR = 3
    LOAD_OUTSIDE_WINDOW = 4
    LOAD_BUS_ERROR = 5
    STORE_OUTSIDE_WINDOW = 6
    STORE_BUS_ERROR = 7
    SEMAPHORE_OVERFLOW = 8
    WATCHDOG = 9


@dataclass(frozen=True)
class Bits:
    """A field of a register: name, lowest bit, width, meaning; its access where it is not that of the register,
    and the enumeration of its values where it has one."""

    name: str
    offset: int
    width: int
    doc: str
    access: Access | None = None
    values: type[Enum] | None = None


@dataclass(frozen=True)
class Register:
    """A 32-bit register at byte ``offset``; without ``bits`` it is one number of ``width`` bits. What has no meaning
    reads as zero. After a reset a register that is read-write has the value ``reset``."""

    name: str
    offset: int
    access: Access
    doc: str
    bits: tuple[Bits, ...] = ()
    width: int = 32
    reset: int = 0

    def fields(self) -> tuple[Bits, ...]:
        """The fields; of a register that is one number, that number, called ``value``."""
        return self.bits or (Bits("value", 0, self.width, self.doc),)

    def access_of(self, field: Bits) -> Access:
        """How the host may use one of :meth:`fields`."""
        return field.access or self.access


#: Why no row enters the array in a cycle: every cycle of a program counts as ``array_active`` or as the first of these
#: that holds.
LOSSES: dict[str, str] = {
    "lost_bank": "another reader had the scratchpad bank",
    "lost_half": "the vector engine had the accumulator half",
    "lost_tile": "the next B tile had not been read",
    "lost_data": "the next instruction waited for a load or store",
    "lost_vector": "the next instruction waited for the vector engine",
    "lost_fetch": "the next instruction had not been fetched or dispatched",
    "lost_latency": "latency of the start, of handing over, and of the end",
}

#: The counters (48 bits, cleared by a start, stopped by the end): name and what is counted.
COUNTERS: tuple[tuple[str, str], ...] = (
    ("cycles", "cycles from doorbell to end"),
    ("instructions", "instructions fetched"),
    ("read_bytes", "bytes read from DRAM"),
    ("write_bytes", "bytes that the memory has taken"),
    ("array_active", "cycles in which a row of A entered the array"),
    ("load_busy", "cycles in which the load engine had an instruction under way"),
    ("store_busy", "cycles in which the store engine had an instruction under way"),
    ("matmul_busy", "cycles in which the matmul engine had an instruction under way"),
    ("vector_busy", "cycles in which the vector engine had an instruction under way"),
    ("load_wait", "cycles in which the load engine waited for a semaphore"),
    ("store_wait", "cycles in which the store engine waited for a semaphore"),
    ("matmul_wait", "cycles in which the matmul engine waited for a semaphore"),
    ("vector_wait", "cycles in which the vector engine waited for a semaphore"),
    ("vector_conflict", "cycles in which the vector engine lost a scratchpad bank or an accumulator half"),
    *((name, f"cycles in which no row of A entered the array: {doc}") for name, doc in LOSSES.items()),
)


def _width(name: str) -> int:
    return WIDE_BITS - 32 if name.endswith("_high") else 32


def _registers() -> tuple[Register, ...]:
    read, write, command = Access.READ, Access.WRITE, Access.COMMAND
    upper = f"bits {WIDE_BITS - 1} to 32"
    resets = {"watchdog": DEFAULT_WATCHDOG}
    specs: list[tuple[str, Access, str, tuple[Bits, ...]]] = [
        ("id", read, f"what tells a Celosia accelerator: 0x{ACCELERATOR_ID:08x}, the characters CELO", ()),
        ("version", read, "major and minor version of register map and instruction set",
         (Bits("minor", 0, 16, "counts additions"), Bits("major", 16, 16, "counts changes that break a driver"))),
        ("config_array", read, "shape of the array and the vector engine",
         (Bits("rows", 0, 8, "rows of the array"), Bits("cols", 8, 8, "columns of the array"),
          Bits("lanes", 16, 8, "lanes of the vector engine"),
          Bits("bus_bytes", 24, 8, "bytes in a beat of the memory bus"))),
        ("config_memory", read, "memories",
         (Bits("scratchpad_kib", 0, 12, "scratchpad, in KiB"),
          Bits("accumulator_kib", 12, 12, "accumulators, both halves, in KiB"),
          Bits("scratchpad_banks", 24, 8, "banks of the scratchpad"))),
        ("config_limits", read, "limits",
         (Bits("row_entries", 0, 12, "row table entries"),
          Bits("queue_depth", 12, 8, "instructions in a queue, but that of loads"),
          Bits("address_bits", 20, 8, "width of an AXI4 address"))),
        ("config_sizes", read, "largest sizes, as binary logarithms",
         (Bits("max_k_log2", 0, 8, "longest reduction"), Bits("max_n_log2", 8, 8, "widest LayerNorm row"),
          Bits("max_tokens_log2", 16, 8, "longest sequence"),
          Bits("outstanding_reads", 24, 8, "read bursts in flight"))),
        ("control", command, "commands",
         (Bits("start", 0, 1, "run the program, with window and watchdog as they are now; waits for the end of a soft "
               "reset; refused while a program runs, and after an error"),
          Bits("reset", 1, 1, "soft reset: stops and clears everything but the registers that are read-write"))),
        ("status", read, "state",
         (Bits("busy", 0, 1, "a program runs, waits to be started, or is being stopped"),
          Bits("done", 1, 1, "a program has ended without error, and the memory bus owes nothing"),
          Bits("error", 2, 1, "a program has stopped with an error, and the memory bus owes nothing; a soft reset "
               "clears it"),
          Bits("stopping", 3, 1, "a program is being stopped, after an error or a soft reset: the memory still has to "
               "answer, and may still be written"),
          Bits("refused", 4, 1, "a start was refused; cleared by one that is not, and by a soft reset"),
          Bits("cause", 8, 8, "why it has stopped, or is being stopped", values=ErrorCause))),
        ("interrupt", write, "interrupt",
         (Bits("enable", 0, 1, "raise the line while done or error is set"),
          Bits("acknowledge", 1, 1, "lower the line until the next end", Access.COMMAND))),
        ("program_low", write, "DRAM byte address of the program, bits 31 to 0; a multiple of the bus width", ()),
        ("program_high", write, upper, ()),
        ("window_base_low", write, "lowest DRAM byte address that may be touched, bits 31 to 0", ()),
        ("window_base_high", write, upper, ()),
        ("window_limit_low", write, "first DRAM byte address above the window, bits 31 to 0", ()),
        ("window_limit_high", write, upper, ()),
        ("watchdog", write, "cycles without any engine finishing an instruction after which the program is "
         f"stopped; 0 turns it off; {DEFAULT_WATCHDOG:,} after a reset", ()),
        ("error_address_low", read, "DRAM byte address of the instruction that failed, zero while `cause` is, bits 31 "
         "to 0", ()),
        ("error_address_high", read, upper, ()),
        ("config_control", read, "control",
         (Bits("counter_bits", 0, 8, "width of a performance counter, which stops when its highest bit is set: what it "
               "reads then is the least that it can have been"),
          Bits("load_queue_depth", 8, 8, "instructions in the queue of loads"))),
    ]
    registers = [Register(name, 4 * i, access, doc, bits, _width(name), resets.get(name, 0))
                 for i, (name, access, doc, bits) in enumerate(specs)]
    offset = 0x80
    for name, doc in COUNTERS:
        registers.append(Register(f"{name}_low", offset, read, f"{doc}, bits 31 to 0", ()))
        registers.append(Register(f"{name}_high", offset + 4, read, f"bits {COUNTER_BITS - 1} to 32", ()))
        offset += 8
    return tuple(registers)


REGISTERS = _registers()


def register(name: str) -> Register:
    """The register called ``name``; raises ``KeyError`` when there is none."""
    for candidate in REGISTERS:
        if candidate.name == name:
            return candidate
    raise KeyError(name)
