"""Small hand-made programs: instructions, a memory to put them in, and a machine to run them on."""

import numpy as np
import pytest
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import (
    FIRST_PARAMETERS,
    FORMATS,
    SECOND_PARAMETERS,
    Engine,
    Function,
    Opcode,
    semaphore_index,
)
from celosia.sim.functional import FunctionalMachine, ProgramError
from celosia.sim.golden.parameters import FirstParameters, SecondParameters

BASE = 0x1000
PROGRAM, DATA = BASE, BASE + 0x1000

CONFIGS = [
    AcceleratorConfig(name="square", rows=4, cols=4, scratchpad_kib=16, accumulator_kib=16, bus_bits=64),
    AcceleratorConfig(name="wide", rows=8, cols=16, scratchpad_kib=16, accumulator_kib=16, bus_bits=64),
    AcceleratorConfig(name="tall", rows=16, cols=8, scratchpad_kib=16, accumulator_kib=16),
    AcceleratorConfig(name="few-lanes", rows=8, cols=16, lanes=4, scratchpad_kib=16, accumulator_kib=16,
                      bus_bits=128),
    AcceleratorConfig(name="tall-few", rows=16, cols=8, lanes=4, scratchpad_kib=16, accumulator_kib=16,
                      bus_bits=256),
]
each_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
SQUARE = CONFIGS[0]


def load(**fields):
    return Opcode.LOAD, {"count": 1, **fields}


def store(**fields):
    return Opcode.STORE, {"count": 1, **fields}


def matmul(**fields):
    return Opcode.MATMUL, {"m": 1, "n_tiles": 1, "k_tiles": 1, **fields}


def vector(function, **fields):
    return Opcode.VECTOR, {"function": function.value, "m": 1, "groups": 1, **fields}


def assemble(program):
    return b"".join(FORMATS[opcode].encode(opcode=opcode.value, **fields)
                    for opcode, fields in [*program, (Opcode.END, {})])


def image(*parts, size=0x8000):
    memory = np.zeros(size, np.uint8)
    for address, content in parts:
        content = np.frombuffer(content, np.uint8)
        memory[address - BASE :][: content.size] = content
    return memory


def run(config, *program, memory=None, machine=None, **options):
    machine = machine or FunctionalMachine(config)
    memory = image() if memory is None else memory
    code = np.frombuffer(assemble(program), np.uint8)
    memory[PROGRAM - BASE :][: code.size] = code
    work = machine.run(memory, PROGRAM, BASE, **options)
    return machine, memory, work


def refusal(config, *program, **options):
    with pytest.raises(ProgramError) as caught:
        run(config, *program, **options)
    return str(caught.value)


def between(giver, taker):
    """The mask of the semaphore that engine ``giver`` gives and ``taker`` takes."""
    return 1 << semaphore_index(Engine[giver.upper()], Engine[taker.upper()])


def pack_records(config, columns, *record_lists):
    """Parameter words of groups of lanes: first records, then second."""
    out = b""
    size = config.parameter_words * config.word_bytes
    for group in range(columns // config.lanes):
        for records in record_lists:
            part = b"".join(records[group * config.lanes : (group + 1) * config.lanes])
            out += part.ljust(size, b"\xaa")
    return out


def first_parameters(rng, n):
    first = FirstParameters(rng.integers(-999, 999, n, dtype=np.int32),
                            rng.integers(2**15, 2**16, n, dtype=np.uint16),
                            rng.integers(17, 21, n, dtype=np.uint8), rng.integers(-9, 9, n, dtype=np.int8))
    columns = zip(first.bias, first.multiplier, first.shift, first.zero_point, strict=True)
    return first, [FIRST_PARAMETERS.encode(bias=b, multiplier=m, shift=s, zero_point=z)
                   for b, m, s, z in columns]


def second_parameters(rng, n, shift=14):
    second = SecondParameters(rng.integers(-(2**16), 2**16, n, dtype=np.int32),
                              rng.integers(-(2**14), 2**14, n, dtype=np.int16),
                              rng.integers(shift, shift + 3, n, dtype=np.uint8),
                              rng.integers(-9, 9, n, dtype=np.int8))
    columns = zip(second.offset, second.multiplier, second.shift, second.zero_point, strict=True)
    return second, [SECOND_PARAMETERS.encode(offset=o, multiplier=m, shift=s, zero_point=z)
                    for o, m, s, z in columns]


def whole_product(config, m, n, k, parameter_bytes, out, step):
    rows = config.rows
    weights, parameters = between("load", "matmul"), between("load", "vector")
    sums, results = between("matmul", "vector"), between("vector", "store")
    return [
        load(words=m * k // rows, dram_address=DATA, scratchpad=0),
        load(words=n * k // rows, dram_address=DATA + 0x1000, scratchpad=100, signal=weights),
        load(words=parameter_bytes // rows, dram_address=DATA + 0x2000, scratchpad=600, signal=parameters),
        matmul(a=0, a_stride=2, b=100, b_stride=2, m=m, n_tiles=n // config.cols, k_tiles=2,
               accumulator_stride=m, wait=weights, signal=sums),
        vector(Function.REQUANTISE, m=m, groups=n // config.lanes, accumulator_stride=m, destination=900,
               destination_stride=n // rows, parameters=600, wait=parameters | sums, signal=results),
        store(count=m, words=n // rows, dram_address=out, dram_stride=step, scratchpad=900,
              scratchpad_stride=n // rows, wait=results),
    ]
