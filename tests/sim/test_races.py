"""The race checker: each needed semaphore is missed, and no more than those."""

import pytest
from celosia.hdl.isa import Function
from celosia.sim.races import RaceError

from tests.programs import DATA, SQUARE, between, load, matmul, run, store, vector, whole_product


def race(config, *program, **options):
    with pytest.raises(RaceError) as caught:
        run(config, *program, check_races=True, **options)
    return str(caught.value)


@pytest.mark.parametrize(("semaphore", "producer", "consumer"), [
    (("load", "matmul"), "0 (LOAD)", "3 (MATMUL)"), (("load", "vector"), "2 (LOAD)", "4 (REQUANTISE)"),
    (("matmul", "vector"), "3 (MATMUL)", "4 (REQUANTISE)"), (("vector", "store"), "4 (REQUANTISE)", "5 (STORE)"),
])
def test_each_semaphore_is_needed(semaphore, producer, consumer):
    config = SQUARE
    m, n, k = 6, 8, 8
    program = whole_product(config, m, n, k, 8 * n, DATA + 0x3000, 8)
    run(config, *program, check_races=True)
    for _, fields in program:
        for name in ("wait", "signal"):
            fields[name] = fields.get(name, 0) & ~between(*semaphore)
    run(config, *program)  # in order, it works
    message = race(config, *program)
    assert message.startswith(f"instruction {consumer} reads ")
    assert message.endswith(f"which instruction {producer} writes, and no semaphore orders them")


def test_names_both_instructions_and_the_word():
    message = race(SQUARE, load(words=4, dram_address=DATA, scratchpad=10),
                   matmul(a=12, b=20), load(words=4, dram_address=DATA, scratchpad=40))
    assert message == ("instruction 1 (MATMUL) reads scratchpad word 12, which instruction 0 (LOAD) writes, "
                       "and no semaphore orders them")


def test_write_after_read():
    first, second = matmul(a=0, b=20), load(words=4, dram_address=DATA, scratchpad=20)
    assert race(SQUARE, first, second) == (
        "instruction 1 (LOAD) writes scratchpad word 20, which instruction 0 (MATMUL) reads, "
        "and no semaphore orders them")
    first[1]["signal"] = second[1]["wait"] = between("matmul", "load")
    run(SQUARE, first, second, check_races=True)


def test_write_after_write():
    requantise = vector(Function.REQUANTISE, parameters=100, destination=20)
    assert race(SQUARE, requantise, load(words=4, dram_address=DATA, scratchpad=20)) == (
        "instruction 1 (LOAD) writes scratchpad word 20, which instruction 0 (REQUANTISE) writes, "
        "and no semaphore orders them")


def test_accumulators_are_watched():
    requantise = vector(Function.REQUANTISE, accumulator=5, parameters=100, destination=200)
    assert race(SQUARE, requantise, matmul(accumulator=4, m=2)) == (
        "instruction 1 (MATMUL) writes accumulator word 5, which instruction 0 (REQUANTISE) reads, "
        "and no semaphore orders them")
    run(SQUARE, requantise, matmul(accumulator=6, m=2, a=300, b=300), check_races=True)


def test_dram_is_watched():
    put = store(words=1, dram_address=DATA + 8, scratchpad=0)
    assert race(SQUARE, put, load(words=4, dram_address=DATA, scratchpad=20)) == (
        "instruction 1 (LOAD) reads DRAM byte 8200, which instruction 0 (STORE) writes, "
        "and no semaphore orders them")
    assert race(SQUARE, load(words=4, dram_address=DATA, scratchpad=20), put).startswith(
        "instruction 1 (STORE) writes DRAM byte 8200, which instruction 0 (LOAD) reads")
    run(SQUARE, put, load(words=1, dram_address=DATA, scratchpad=20), check_races=True)


def test_order_within_an_engine_counts():
    twice = load(words=4, dram_address=DATA, scratchpad=20)
    run(SQUARE, twice, twice, check_races=True)


def test_a_chain_over_a_third_engine_counts():
    """LOAD writes word 20; MATMUL waits for it; STORE waits for MATMUL only, and reads word 20."""
    loaded, used = between("load", "matmul"), between("matmul", "store")
    chain = [load(words=4, dram_address=DATA, scratchpad=20, signal=loaded),
             matmul(a=100, b=100, wait=loaded, signal=used),
             store(words=1, dram_address=DATA + 0x100, scratchpad=20, wait=used)]
    run(SQUARE, *chain, check_races=True)
    # The signal of an instruction says nothing of what its engine does later.
    late = [chain[0], chain[1], load(words=1, dram_address=DATA, scratchpad=20), chain[2]]
    assert race(SQUARE, *late).startswith(
        "instruction 3 (STORE) reads scratchpad word 20, which instruction 2 (LOAD) writes")
    # In the engine that waits, what comes later is ordered too; what came before is not.
    after = [*chain, store(words=1, dram_address=DATA + 0x100, scratchpad=23)]
    run(SQUARE, *after, check_races=True)
    before = [chain[0], store(words=1, dram_address=DATA + 0x200, scratchpad=23), *chain[1:]]
    assert race(SQUARE, *before).startswith("instruction 1 (STORE) reads scratchpad word 23")


def test_tokens_are_first_in_first_out():
    """The first wait takes the first signal, though a second has been given."""
    loaded = between("load", "store")
    program = [load(words=1, dram_address=DATA, scratchpad=0, signal=loaded),
               load(words=1, dram_address=DATA, scratchpad=1, signal=loaded),
               store(words=1, dram_address=DATA + 0x100, scratchpad=1, wait=loaded),
               store(words=1, dram_address=DATA + 0x100, scratchpad=0, wait=loaded)]
    assert race(SQUARE, *program).startswith(
        "instruction 2 (STORE) reads scratchpad word 1, which instruction 1 (LOAD) writes")


def test_a_semaphore_that_only_program_order_keeps_in_range():
    loaded = between("load", "matmul")
    pair = [load(words=1, dram_address=DATA, signal=loaded), matmul(a=100, b=100, wait=loaded)]
    run(SQUARE, *pair * 255, check_races=True)
    assert race(SQUARE, *pair * 256) == (
        "semaphore 2 must not exceed 255, but may reach 256 after instruction 510 (LOAD)")
