"""What an engine's queue keeps of an instruction: the bits that the engine looks at, and no others."""

from amaranth import Cat, Const, Value
from amaranth.lib import data
from amaranth.utils import ceil_log2, exact_log2

from ..config import AcceleratorConfig
from ..isa import FORMATS, SEMAPHORES, TRANSFER, VECTOR, Engine, Format, Function, Opcode, semaphore_index

__all__ = ["ENGINE_FORMATS", "INDEX_BITS", "NEIGHBOURS", "QueuedLayout", "foreign_semaphores"]

#: The instruction format of each engine.
ENGINE_FORMATS = {engine: FORMATS[Opcode[engine.name]] for engine in Engine}

#: Width of an instruction's index: the lowest bits of its address that count instructions. An instruction is handed
#: out only while those that are queued or under way lie not so many before it (the decoder's rule 4): with the address
#: of the next one to be fetched, the index tells the address.
INDEX_BITS = 10

#: The engines with which one has semaphores in common, a semaphore in each direction; the order of its bits in a queue.
NEIGHBOURS = {engine: tuple(other for other in Engine if other is not engine) for engine in Engine}


def foreign_semaphores(engine: Engine, wait: Value, signal: Value) -> Value:
    """Whether an instruction of ``engine`` has a bit in its masks ``wait`` and ``signal`` (16 bits each) that stands
    for a semaphore of others."""
    takes = {semaphore_index(other, engine) for other in NEIGHBOURS[engine]}
    gives = {semaphore_index(engine, other) for other in NEIGHBOURS[engine]}
    return Cat(*(wait[s] for s in range(SEMAPHORES) if s not in takes),
               *(signal[s] for s in range(SEMAPHORES) if s not in gives)).any()


def _widths(config: AcceleratorConfig, format: Format) -> dict[str, int]:
    """How many of the lowest bits of a field matter, by its name; all, where nothing is said here. Addresses and
    strides are taken modulo the words of their memory (``operand`` may be a column in place of one), and the decoder
    checks the rows of VECTOR."""
    scratchpad, accumulators = exact_log2(config.scratchpad_words), exact_log2(config.accumulator_words)
    return {
        **dict.fromkeys(("scratchpad", "scratchpad_stride", "a", "a_stride", "b", "b_stride", "destination",
                         "destination_stride", "operand_stride", "parameters"), scratchpad),
        **dict.fromkeys(("accumulator", "accumulator_stride"), accumulators),
        **({"row": exact_log2(config.row_entries), "m": exact_log2(config.row_entries) + 1,
            "function": ceil_log2(max(function.value for function in Function) + 1)} if format is VECTOR else {}),
    }


class QueuedLayout(data.StructLayout):
    """An instruction of ``engine`` in its queue.

    Fields are those of its format but for ``opcode`` and ``tag``, ``function`` where it has none, and the bits that
    nobody looks at. ``wait`` and ``signal`` have a bit for each of the engine's :data:`NEIGHBOURS`; ``dram_address``
    counts beats, with one more bit for "beyond all addresses", and ``dram_stride`` counts beats; ``index`` says where
    in the program the instruction stands.
    """

    def __init__(self, config: AcceleratorConfig, engine: Engine):
        self._config, self._engine = config, engine
        self._format = format = ENGINE_FORMATS[engine]
        self._shift = exact_log2(config.bus_bytes)
        widths = _widths(config, format)
        left_out = {"opcode", "tag", *(("function",) if format is not VECTOR else ())}
        kept = {field.name: min(field.width, widths.get(field.name, field.width)) for field in format.fields
                if field.name not in left_out}
        kept["wait"] = kept["signal"] = len(NEIGHBOURS[engine])
        if format is TRANSFER:
            kept["dram_address"] = config.address_bits - self._shift + 1
            kept["dram_stride"] -= self._shift
        super().__init__({**kept, "index": INDEX_BITS})

    def packed(self, word: Value, index: Value) -> Value:
        """The bits of an item for the instruction that lies in memory as ``word`` (256 bits), at ``index``."""
        config, engine = self._config, self._engine
        layout = self._format.layout
        fields = data.View(layout, word[:layout.size])
        special = {
            "wait": Cat(fields.wait[semaphore_index(other, engine)] for other in NEIGHBOURS[engine]),
            "signal": Cat(fields.signal[semaphore_index(engine, other)] for other in NEIGHBOURS[engine]),
            "index": index,
        }
        if self._format is TRANSFER:
            special["dram_address"] = Cat(fields.dram_address[self._shift:config.address_bits],
                                          fields.dram_address[config.address_bits:].any())
            special["dram_stride"] = fields.dram_stride[self._shift:]
        return Cat(special[name] if name in special else fields[name][:field.width] for name, field in self)

    def restored(self, item: data.View) -> Value:
        """The instruction of ``item`` as its engine gets it, in the bits of its format; what is not kept is zero."""
        parts = []
        for field in self._format.fields:
            if field.name in ("wait", "signal") or field.name not in self.members:
                parts.append(Const(0, field.width))
                continue
            value = Value.cast(item[field.name])
            if field.name in ("dram_address", "dram_stride"):
                value = Cat(Const(0, self._shift), value)
            parts.append(Cat(value, Const(0, max(0, field.width - len(value))))[:field.width])
        return Cat(parts)
