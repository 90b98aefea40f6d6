"""The functional machine against the golden kernels."""

import numpy as np
import pytest
from celosia.firmware.machine.layout import curve_records
from celosia.hdl.isa import INSTRUCTION_BYTES, ROW_RECORD, Function
from celosia.sim import functional, functional_vector, memories, races
from celosia.sim.functional import FunctionalMachine, Work
from celosia.sim.golden import kernels, tables
from celosia.sim.golden.parameters import RowParameters, ScalarParameters
from numpy.testing import assert_array_equal

from tests.programs import (
    BASE,
    DATA,
    SQUARE,
    between,
    each_config,
    first_parameters,
    image,
    load,
    matmul,
    pack_records,
    run,
    second_parameters,
    store,
    vector,
    whole_product,
)


class Bench:
    """A machine with random accumulators for ``m`` rows of ``groups`` groups, at places that are not zero, and room for
    results of ``size`` bytes an element."""

    def __init__(self, config, m=5, groups=3, spread=2**16, seed=0, size=1):
        self.config, self.m, self.groups, self.size = config, m, groups, size
        self.rng = np.random.default_rng(seed)
        self.machine = FunctionalMachine(config, seed=seed)
        self.columns = groups * config.lanes
        self.tiles = -(-self.columns // config.cols)
        self.words = -(-self.columns // config.rows)
        self.row_words = size * self.words
        self.start, self.stride = config.half_words + 3, m + 2
        self.acc = self.rng.integers(-spread, spread, (m, self.tiles * config.cols), dtype=np.int32)
        for tile in range(self.tiles):
            at = self.start + tile * self.stride
            self.machine.accumulators[at : at + m] = self.acc[:, tile * config.cols :][:, : config.cols]
        self.acc = self.acc[:, : self.columns]

    def place(self, word, content):
        content = np.frombuffer(content, np.uint8)
        self.machine.scratchpad.reshape(-1)[word * self.config.rows :][: content.size] = content

    def instruction(self, function, **fields):
        return vector(function, **{
            "accumulator": self.start, "accumulator_stride": self.stride, "destination": 7,
            "destination_stride": self.row_words + 1, "parameters": 500, "row": 2, "m": self.m,
            "groups": self.groups, **fields})

    def run(self, *program):
        self.before = self.machine.scratchpad.copy()
        run(self.config, *program, machine=self.machine, check_races=True)

    def place_rows(self, word, x):
        """A tensor as an operand of ``row_words(x)`` + 1 words a row."""
        stored = kernels.planes(np.pad(x, ((0, 0), (0, -x.shape[1] % self.config.rows))), self.config.rows)
        for i, row in enumerate(stored):
            self.place(word + i * (len(row) // self.config.rows + 1), row.tobytes())
        return {"operand": word, "operand_stride": stored.shape[1] // self.config.rows + 1,
                "wide_operand": int(x.itemsize == 2)}

    def result(self, kind=np.int8):
        """The result, after a look at what lies around it."""
        size = np.dtype(kind).itemsize
        assert size == self.size
        after = self.machine.scratchpad.copy()
        result = np.zeros((self.m, self.words * self.config.rows, size), np.uint8)
        for i in range(self.m):
            area = slice(7 + i * (self.row_words + 1), 7 + i * (self.row_words + 1) + self.row_words)
            for plane in range(size):
                words = after[area][plane::size]
                result[i, :, plane] = words.reshape(-1)
                flat = words.reshape(-1).copy()
                flat[: self.columns] = self.before[area][plane::size].reshape(-1)[: self.columns]
                after[area][plane::size] = flat.reshape(-1, self.config.rows)
        assert_array_equal(after, self.before)
        return result.view(np.dtype(kind).newbyteorder("<"))[:, : self.columns, 0].astype(kind)


def test_names():
    for module in functional, functional_vector, memories, races:
        assert all(hasattr(module, name) for name in module.__all__)


@each_config
@pytest.mark.parametrize("stride", [0, 1])
def test_transfers(config, stride):
    """A load and a store with strides on both sides; bytes between the rows stay."""
    rng = np.random.default_rng(0)
    memory = rng.integers(0, 256, 0x8000, dtype=np.uint8)
    words = max(3, config.bus_bytes // config.rows + 1)
    size, bus = words * config.rows, config.bus_bytes
    step = (-(-size // bus) + stride) * bus
    data = DATA - BASE
    rows = np.array([memory[data + i * step :][:size] for i in range(4)])
    expected = memory.copy()
    for i in range(4):
        expected[0x4000 + i * (step + bus) :][:size] = rows[i]
    machine, memory, work = run(
        config,
        load(count=4, words=words, dram_address=DATA, dram_stride=step, scratchpad=5,
             scratchpad_stride=words + stride, signal=between("load", "store")),
        store(count=4, words=words, dram_address=BASE + 0x4000, dram_stride=step + bus, scratchpad=5,
              scratchpad_stride=words + stride, wait=between("load", "store")),
        memory=memory, check_races=True)
    code = 3 * INSTRUCTION_BYTES
    assert_array_equal(memory[code:], expected[code:])
    for i in range(4):
        assert_array_equal(machine.scratchpad[5 + i * (words + stride) :][:words].reshape(-1), rows[i])
    assert work == Work(instructions=3, macs=0, read_bytes=4 * size, write_bytes=4 * size)


def test_a_load_may_repeat_one_row():
    memory = image((DATA, bytes(range(8))))
    machine, _, _ = run(SQUARE, load(count=3, words=2, dram_address=DATA, scratchpad=1, scratchpad_stride=2),
                        memory=memory)
    assert_array_equal(machine.scratchpad[1:7].reshape(3, 8), np.tile(np.arange(8, dtype=np.uint8), (3, 1)))


@each_config
@pytest.mark.parametrize("unsigned", [0, 1])
@pytest.mark.parametrize("m", [1, 5])
def test_matmul(config, m, unsigned):
    rng = np.random.default_rng(m)
    machine = FunctionalMachine(config, seed=1)
    n_tiles, k_tiles = 3, 2
    a = rng.integers(0, 256, (m, k_tiles * config.rows), dtype=np.uint8)
    b = rng.integers(0, 256, (n_tiles * config.cols, k_tiles * config.rows), dtype=np.uint8)
    for i, row in enumerate(a):
        machine.scratchpad[10 + 3 * i :][:k_tiles] = row.reshape(k_tiles, -1)
    for i, row in enumerate(b):
        machine.scratchpad[200 + 4 * i :][:k_tiles] = row.reshape(k_tiles, -1)
    block = matmul(a=10, a_stride=3, b=200, b_stride=4, accumulator=8, accumulator_stride=m + 1, m=m,
                   n_tiles=n_tiles, k_tiles=k_tiles, a_unsigned=unsigned)
    before = machine.accumulators.copy()
    _, _, work = run(config, block, machine=machine)
    product = kernels.matmul(a if unsigned else a.view(np.int8), b.view(np.int8))
    for tile in range(n_tiles):
        at = 8 + tile * (m + 1)
        before[at : at + m] = product[:, tile * config.cols :][:, : config.cols]
    assert_array_equal(machine.accumulators, before, strict=True)
    assert work.macs == a.shape[0] * b.size

    block[1]["accumulate"] = 1
    run(config, block, machine=machine)
    assert_array_equal(machine.accumulators[8 : 8 + m], 2 * product[:, : config.cols], strict=True)


@each_config
@pytest.mark.parametrize("m", [1, 5])
def test_matmul_of_a_wide_tensor(config, m):
    rng = np.random.default_rng(m)
    machine = FunctionalMachine(config, seed=1)
    n, k = 2 * config.cols, 3 * config.rows
    a = rng.integers(-2048, 2048, (m, k), dtype=np.int16)
    b = rng.integers(-127, 128, (n, k), dtype=np.int8)
    machine.scratchpad[10:][: 6 * m] = kernels.planes(a, config.rows).reshape(6 * m, -1)
    machine.scratchpad[300:][: 3 * n] = b.view(np.uint8).reshape(3 * n, -1)
    where = {"a_stride": 6, "b": 300, "b_stride": 3, "accumulator": 8, "accumulator_stride": m, "m": m,
             "n_tiles": 2, "k_tiles": 3, "a_wide": 1}
    run(config, matmul(a=11, **where),
        matmul(a=10, **where, a_unsigned=1, accumulate=1, scale_accumulators=1), machine=machine)
    product = kernels.matmul(a, b)
    assert_array_equal(machine.accumulators[8 : 8 + m], product[:, : config.cols], strict=True)
    assert_array_equal(machine.accumulators[8 + m : 8 + 2 * m], product[:, config.cols :], strict=True)


both_widths = pytest.mark.parametrize("kind", [np.int8, np.int16])


def wide(kind):
    """Bits of a result, and the field that asks for them."""
    size = np.dtype(kind).itemsize
    return 8 * size, {"wide_result": size - 1}


@each_config
@both_widths
@pytest.mark.parametrize("groups", [1, 3, 4])
def test_requantise(config, groups, kind):
    (bits, field), size = wide(kind), np.dtype(kind).itemsize
    bench = Bench(config, groups=groups, size=size)
    first, records = first_parameters(bench.rng, bench.columns)
    bench.place(500, pack_records(config, bench.columns, records))
    bench.run(bench.instruction(Function.REQUANTISE, **field))
    assert_array_equal(bench.result(kind), kernels.requantise(bench.acc, first, bits), strict=True)


@each_config
@both_widths
def test_gelu(config, kind):
    bits, field = wide(kind)
    bench = Bench(config, spread=2**12, size=bits // 8)
    first, one = first_parameters(bench.rng, bench.columns)
    second, two = second_parameters(bench.rng, bench.columns, shift=8 if bits == 16 else 14)
    bench.place(500, pack_records(config, bench.columns, one, two))
    bench.run(bench.instruction(Function.GELU, **field))
    assert_array_equal(bench.result(kind), kernels.gelu(bench.acc, first, second, bits), strict=True)


@each_config
@both_widths
@pytest.mark.parametrize("name", tables.CURVES)
def test_activation(config, kind, name):
    bits, field = wide(kind)
    table = tables.CURVES[name]
    bench = Bench(config, spread=2**12, size=bits // 8)
    first, one = first_parameters(bench.rng, bench.columns)
    second, two = second_parameters(bench.rng, bench.columns, shift=8 if bits == 16 else 14)
    bench.place(500, pack_records(config, bench.columns, one, two))
    bench.place(900, curve_records(table))
    bench.run(bench.instruction(Function.LOAD_CURVE, parameters=900, shift=table.width, m=0, groups=0),
              bench.instruction(Function.ACTIVATION, **field))
    assert_array_equal(bench.result(kind), kernels.activation(bench.acc, first, second, table, bits), strict=True)


@each_config
@both_widths
@pytest.mark.parametrize("operand", [np.int8, np.int16])
def test_gated(config, kind, operand):
    bits, field = wide(kind)
    table = tables.CURVES["silu"]
    bench = Bench(config, spread=2**12, size=bits // 8)
    first, one = first_parameters(bench.rng, bench.columns)
    second, two = second_parameters(bench.rng, bench.columns, shift=8 if bits == 16 else 14)
    x = bench.rng.integers(np.iinfo(operand).min, np.iinfo(operand).max, bench.acc.shape, dtype=operand, endpoint=True)
    bench.place(500, pack_records(config, bench.columns, one, two))
    bench.place(900, curve_records(table))
    field |= bench.place_rows(300, x)
    bench.run(bench.instruction(Function.LOAD_CURVE, parameters=900, shift=table.width),
              bench.instruction(Function.GATED, **field))
    assert_array_equal(bench.result(kind), kernels.gated(bench.acc, first, x, second, table, bits), strict=True)


@each_config
@pytest.mark.parametrize("ignored", [0, 1])
def test_raw(config, ignored):
    bench = Bench(config, spread=2**30, size=4)
    bench.run(bench.instruction(Function.RAW, wide_result=ignored, wide_operand=ignored, causal=ignored))
    assert_array_equal(bench.result(np.int32), bench.acc, strict=True)


@each_config
@both_widths
def test_row_requantise(config, kind):
    bits, field = wide(kind)
    bench = Bench(config, size=bits // 8)
    rows = RowParameters(bench.rng.integers(2**15, 2**16, bench.m, dtype=np.uint16),
                         bench.rng.integers(20, 26, bench.m, dtype=np.uint8))
    bench.place(900, b"".join(ROW_RECORD.encode(multiplier=m, shift=s)
                              for m, s in zip(rows.multiplier, rows.shift, strict=True)))
    bench.run(bench.instruction(Function.LOAD_ROWS, parameters=900),
              bench.instruction(Function.ROW_REQUANTISE, **field))
    assert_array_equal(bench.result(kind), kernels.row_requantise(bench.acc, rows, bits), strict=True)


@each_config
@both_widths
@pytest.mark.parametrize("diagonal", [None, 0, 2, -2, 32767, -32768])
@pytest.mark.parametrize("masked", ["some", "none", "all"])
def test_softmax(config, masked, diagonal, kind):
    """Both passes, then the quotient of the next product's rows."""
    bits, field = wide(kind)
    bench = Bench(config, size=bits // 8)
    mask = {"some": bench.rng.random(bench.columns) < 0.7, "none": np.ones(bench.columns, bool),
            "all": np.zeros(bench.columns, bool)}[masked]
    words = b"".join(part.tobytes().ljust(config.rows, b"\x55")
                     for part in mask.astype(np.uint8).reshape(bench.groups, -1))
    bench.place(500, words)
    scalar = ScalarParameters(50000, 22)
    causal = {} if diagonal is None else {"causal": 1, "operand": diagonal & 0xFFFF}
    if causal:
        mask = kernels.causal_mask(mask, bench.m, diagonal)
    fields = {**causal, **field, "multiplier": scalar.multiplier, "shift": scalar.shift}
    bench.run(bench.instruction(Function.ROW_MAXIMUM, **fields), bench.instruction(Function.EXPONENTIAL, **fields))
    e, total = kernels.softmax_numerators(bench.acc, mask, scalar, wide=bits == 16)
    assert_array_equal(bench.result(np.uint16 if bits == 16 else np.uint8), e, strict=True)

    second, records = second_parameters(bench.rng, bench.columns)
    bench.place(500, pack_records(config, bench.columns, records))
    bench.run(bench.instruction(Function.ATTENTION_OUTPUT, **field))
    assert_array_equal(bench.result(kind), kernels.attention_output(bench.acc, total, second, bits), strict=True)


@each_config
def test_softmax_of_a_causal_row_in_blocks(config):
    """Blocks of columns and of rows of one triangle: each instruction counts from its own first column and row."""
    bench = Bench(config, m=6, groups=4)
    half, m = bench.columns // 2, bench.m // 2
    tiles = -(-half // config.cols)
    if half % config.cols:
        pytest.skip("the second block of columns begins within a tile")
    bench.place(500, b"".join(bytes([1] * config.lanes).ljust(config.rows) for _ in range(bench.groups)))
    scalar = ScalarParameters(50000, 22)
    program = []
    for function in Function.ROW_MAXIMUM, Function.EXPONENTIAL:
        for row in 0, m:
            for block in range(2):
                program.append(bench.instruction(
                    function, m=m, row=2 + row, groups=2, multiplier=scalar.multiplier, shift=scalar.shift,
                    accumulator=bench.start + row + block * tiles * bench.stride, causal=1,
                    operand=(row - block * half) & 0xFFFF, parameters=500 + 2 * block, continues=block,
                    unfinished=1 - block,
                    destination=7 + row * (bench.words + 1) + block * half // config.rows))
    if half % config.rows:
        pytest.skip("the second block of columns begins within a word")
    bench.run(*program)
    mask = kernels.causal_mask(np.ones(bench.columns, bool), bench.m, 0)
    e, _ = kernels.softmax_numerators(bench.acc, mask, scalar)
    assert_array_equal(bench.result(np.uint8), e, strict=True)


@each_config
@both_widths
@pytest.mark.parametrize("operand", [np.int8, np.int16])
def test_residual_and_layer_norm(config, kind, operand):
    bits, field = wide(kind)
    bench = Bench(config, size=bits // 8)
    x = bench.rng.integers(np.iinfo(operand).min, np.iinfo(operand).max, bench.acc.shape, dtype=operand, endpoint=True)
    first, one = first_parameters(bench.rng, bench.columns)
    second, two = second_parameters(bench.rng, bench.columns, shift=5 if operand is np.int8 else 13)
    norm, three = second_parameters(bench.rng, bench.columns)
    bench.place(500, pack_records(config, bench.columns, one, two))
    bench.place(800, pack_records(config, bench.columns, three))
    scalar = kernels.mean_scalar(bench.columns)
    bench.run(bench.instruction(Function.RESIDUAL, **bench.place_rows(300, x), multiplier=scalar.multiplier,
                                shift=scalar.shift),
              bench.instruction(Function.LAYER_NORM, parameters=800, **field))
    h = kernels.residual(bench.acc, first, x, second)
    assert_array_equal(bench.result(kind), kernels.layer_norm(h, scalar, norm, bits), strict=True)
    words = bench.machine.accumulators[bench.start : bench.start + bench.m]
    width = min(bench.columns, config.cols)
    assert_array_equal(words[:, :width], h[:, :width])


@each_config
def test_a_whole_product_through_memory(config):
    """Load, multiply, requantise, store, with semaphores that suffice; on-chip memories random at first."""
    rng = np.random.default_rng(3)
    m, n, k = 6, 2 * max(config.rows, config.cols), 2 * config.rows
    a = rng.integers(-128, 128, (m, k), dtype=np.int8)
    b = rng.integers(-127, 128, (n, k), dtype=np.int8)
    first, records = first_parameters(rng, n)
    parameters = pack_records(config, n, records)
    memory = image((DATA, a.tobytes()), (DATA + 0x1000, b.tobytes()), (DATA + 0x2000, parameters))
    out = DATA + 0x3000
    step = -(-n // config.bus_bytes) * config.bus_bytes
    program = whole_product(config, m, n, k, len(parameters), out, step)
    for seed in (None, 1):
        _, after, work = run(config, *program, memory=memory.copy(), machine=FunctionalMachine(config, seed),
                             check_races=True)
        y = np.array([after[out - BASE + i * step :][:n] for i in range(m)]).view(np.int8)
        assert_array_equal(y, kernels.requantise(kernels.matmul(a, b), first), strict=True)
        assert work == Work(6 + 1, m * n * k, m * k + n * k + len(parameters), m * n)


def test_observer_sees_each_instruction():
    seen = []
    run(SQUARE, *[load(words=1, dram_address=DATA)] * 3, observer=seen.append)
    assert seen == [0, 1, 2]
