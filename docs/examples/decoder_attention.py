"""A head of a decoder's attention, as a program written by hand: rotary embeddings, a causal mask, wide numerators.

    python docs/examples/decoder_attention.py         # on the functional machine
    python docs/examples/decoder_attention.py rtl     # on the simulated hardware

For each position p, query and key are two rows of a product with the rotation of p, of which only tiles on the
diagonal are computed. Scores are the product of both; row i of the softmax sees the columns up to i. Its numerators
have 12 bits, and are multiplied with the values plane by plane.
"""

import sys

import numpy as np
from celosia import simulate
from celosia.firmware.driver.transport import FunctionalTransport, Transport, status_fields
from celosia.firmware.machine.assembler import Instruction, assemble
from celosia.firmware.machine.dependencies import synchronise
from celosia.firmware.machine.layout import record_type
from celosia.generators.configurations import configuration
from celosia.hdl.isa import FIRST_PARAMETERS, SECOND_PARAMETERS, Function, Opcode
from celosia.hdl.registers import register
from celosia.sim.golden import kernels
from celosia.sim.golden.parameters import FirstParameters, ScalarParameters, SecondParameters

__all__ = ["CONFIG", "MEMORY_BYTES", "Head", "run"]

CONFIG = configuration("tiny")
MEMORY_BYTES = 1 << 16
#: Where the output goes, and the program; the data lie before both.
OUTPUT, PROGRAM = 0x8000, 0xC000
#: Real scores to a step of the accumulators: queries and keys are int8 in steps of 1/32, and scores are divided by the
#: root of the head's width.
STEP = 1 / 32


class Head:
    """Random queries, keys and values of ``tokens`` positions and ``width`` columns, and the program for them.

    Attributes
    ----------
    image : uint8 [PROGRAM + program]
        DRAM from byte 0 on.
    """

    def __init__(self, tokens: int, width: int, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.tokens, self.width = tokens, width
        self.query_key = rng.integers(-127, 128, (2 * tokens, width), dtype=np.int8)  # side by side, for each token
        self.values = rng.integers(-127, 128, (tokens, width), dtype=np.int8)
        multiplier, shift = (int(value) for value in kernels.fit_multiplier(1 / 127))
        self.rotated = _equal(FirstParameters, width, 0, multiplier, shift, 0)
        multiplier, shift = (int(value) for value in kernels.fit_multiplier(STEP**2 / width**0.5 / np.log(2) * 256))
        self.score = ScalarParameters(multiplier, shift)
        self.context = _equal(SecondParameters, width, 0, 1 << 14, 14 + 9, 0)  # steps of the values
        self.image = np.zeros(MEMORY_BYTES, np.uint8)
        self._instructions: list[Instruction] = []
        self._bytes = self._words = 0
        self._write_program()

    def _load(self, content: np.ndarray) -> int:
        """Place ``content`` in DRAM, and load it; returns its word in the scratchpad."""
        data = np.ascontiguousarray(content).view(np.uint8).ravel()
        place, words = self._reserve(data.size), data.size // CONFIG.word_bytes
        self.image[self._bytes:][:data.size] = data
        self._add(Opcode.LOAD, dram_address=self._bytes, count=1, words=words, scratchpad=place)
        self._bytes += -(-data.size // CONFIG.bus_bytes) * CONFIG.bus_bytes
        return place

    def _reserve(self, size: int) -> int:
        place = self._words
        self._words += size // CONFIG.word_bytes
        return place

    def _records(self, form, parameters) -> np.ndarray:
        """Of each column, in groups of lanes, of which each takes whole words."""
        records = np.zeros(self.width, record_type(form))
        for name in records.dtype.names:
            records[name] = getattr(parameters, name)
        size = 8 * CONFIG.lanes
        groups = records.view(np.uint8).reshape(-1, size)
        return np.pad(groups, ((0, 0), (0, CONFIG.parameter_words * CONFIG.word_bytes - size)))

    def _add(self, opcode: Opcode, function: Function | None = None, **fields: int) -> None:
        self._instructions.append(Instruction(opcode, fields, function))

    def _write_program(self) -> None:
        rows, cols, lanes, half = CONFIG.rows, CONFIG.cols, CONFIG.lanes, CONFIG.half_words
        tokens, width = self.tokens, self.width
        words, groups = width // rows, width // lanes
        query_key, values = self._load(self.query_key), self._load(self.values.T)
        rotated, context = (self._load(self._records(*each)) for each in (
            (FIRST_PARAMETERS, self.rotated), (SECOND_PARAMETERS, self.context)))
        mask = self._load(np.ones((tokens // lanes, rows), np.uint8))
        turned, numerators, output = (self._reserve(size) for size in (
            2 * tokens * width, 2 * tokens * tokens, tokens * width))

        # Rotate query and key of each position, two rows. The halves of the accumulators take turns.
        for position in range(tokens):
            rotation, sums = self._load(kernels.rotation(position, width)), position % 2 * half
            place = 2 * position * words
            for tile in range(width // cols):
                k = tile * cols // rows  # where the tile meets the diagonal
                self._add(Opcode.MATMUL, a=query_key + place + k, a_stride=words, b=rotation + tile * cols * words + k,
                          b_stride=words, accumulator=sums + 2 * tile, accumulator_stride=2, m=2, n_tiles=1,
                          k_tiles=max(1, cols // rows))
            self._add(Opcode.VECTOR, Function.REQUANTISE, accumulator=sums, accumulator_stride=2, m=2, groups=groups,
                      parameters=rotated, destination=turned + place, destination_stride=words)

        # Scores, and their softmax.
        self._add(Opcode.MATMUL, a=turned, a_stride=2 * words, b=turned + words, b_stride=2 * words, m=tokens,
                  accumulator=0, accumulator_stride=tokens, n_tiles=tokens // cols, k_tiles=words)
        scores = {"accumulator": 0, "accumulator_stride": tokens, "m": tokens, "groups": tokens // lanes,
                  "parameters": mask, "causal": 1}
        self._add(Opcode.VECTOR, Function.ROW_MAXIMUM, **scores)
        self._add(Opcode.VECTOR, Function.EXPONENTIAL, **scores, multiplier=self.score.multiplier,
                  shift=self.score.shift, destination=numerators, destination_stride=2 * tokens // rows, wide_result=1)

        # The upper plane of the numerators, then the lower one, times the values.
        product = {"a_stride": 2 * tokens // rows, "a_wide": 1, "a_unsigned": 1, "b": values,
                   "b_stride": tokens // rows, "accumulator": half, "accumulator_stride": tokens, "m": tokens,
                   "n_tiles": width // cols, "k_tiles": tokens // rows}
        self._add(Opcode.MATMUL, a=numerators + 1, **product)
        self._add(Opcode.MATMUL, a=numerators, **product, accumulate=1, scale_accumulators=1)
        self._add(Opcode.VECTOR, Function.ATTENTION_OUTPUT, accumulator=half, accumulator_stride=tokens, m=tokens,
                  groups=groups, parameters=context, destination=output, destination_stride=words)
        self._add(Opcode.STORE, dram_address=OUTPUT, count=1, words=tokens * words, scratchpad=output)

        synchronise(CONFIG, self._instructions, (OUTPUT, PROGRAM))
        self._add(Opcode.END)
        code = np.frombuffer(assemble(self._instructions), np.uint8)
        self.image[PROGRAM:][:code.size] = code

    def golden(self) -> np.ndarray:
        """The output, int8 [tokens, width], of the golden kernels."""
        tokens, width = self.tokens, self.width
        turned = np.concatenate([
            kernels.requantise(kernels.matmul(pair, kernels.rotation(position, width)), self.rotated)
            for position, pair in enumerate(self.query_key.reshape(tokens, 2, width))])
        mask = kernels.causal_mask(np.ones(tokens, bool), tokens, 0)
        e, total = kernels.softmax_numerators(kernels.matmul(turned[::2], turned[1::2]), mask, self.score, wide=True)
        sums = kernels.matmul(e.astype(np.int16), np.ascontiguousarray(self.values.T))
        return kernels.attention_output(sums, total, self.context)

    def exact(self) -> np.ndarray:
        """The same in floating point [tokens, width]."""
        tokens, width = self.tokens, self.width
        angle = np.arange(tokens)[:, np.newaxis] * 10000.0 ** (-np.arange(0, width, 2) / width)
        pairs = (self.query_key * STEP).reshape(tokens, 2, width // 2, 2) @ [1, 1j]
        turned = pairs * np.exp(1j * angle)[:, np.newaxis]
        scores = np.real(turned[:, 0] @ turned[:, 1].conj().T) / width**0.5
        scores[np.triu_indices(tokens, 1)] = -np.inf
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True) @ self.values


def _equal(kind, columns: int, *values: int):
    """Parameters that are the same for each column."""
    return kind(*(np.full(columns, value) for value in values))


def run(transport: Transport, head: Head) -> np.ndarray:
    """The output, int8 [tokens, width], of ``head``'s program on what is behind ``transport``."""
    transport.write_memory(0, head.image)
    for name, value in (("program", PROGRAM), ("window_base", 0), ("window_limit", MEMORY_BYTES)):
        transport.write_register(register(f"{name}_low").offset, value)
        transport.write_register(register(f"{name}_high").offset, 0)
    transport.write_register(register("interrupt").offset, 1)
    transport.write_register(register("control").offset, 1)
    transport.wait_interrupt(1_000_000)
    status = status_fields(transport.read_register(register("status").offset))
    if not status["done"]:
        raise RuntimeError(f"the program must end, not stop with {status}")
    data = transport.read_memory(OUTPUT, head.tokens * head.width)
    return data.view(np.int8).reshape(head.tokens, head.width)


def main(machine: str) -> None:
    """Run a head of 16 positions and 8 columns on the functional machine, or on the hardware (``rtl``)."""
    head = Head(16, 8)
    transport = simulate(CONFIG).transport if machine == "rtl" else FunctionalTransport(
        CONFIG, MEMORY_BYTES, check_races=True)
    output = run(transport, head)
    error = np.sqrt(np.mean((output - head.exact()) ** 2) / np.mean(head.exact() ** 2))
    print(f"equal to the golden kernels: {np.array_equal(output, head.golden())}; off from floating point by "
          f"{100 * error:.1f} % RMS")


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["rtl"]):
        sys.exit("usage: python docs/examples/decoder_attention.py [rtl]")
    main("".join(sys.argv[1:]))
