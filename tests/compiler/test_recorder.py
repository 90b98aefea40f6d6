"""Placement of buffers in a ring that is hardly larger than what an operation needs."""

from itertools import accumulate

import celosia.firmware.compiler.recorder as recorder_module
import pytest
from celosia.firmware.compiler.recorder import DramArray, Recorder, RingError, View, place
from celosia.firmware.machine.memory import Phase, Region, Ring
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import Function, Opcode


def test_everything_promised_is_exported() -> None:
    assert all(hasattr(recorder_module, name) for name in recorder_module.__all__)


def products(widths: list[int], tiles: int, parameters: int = 0) -> Recorder:
    """Pieces of activations of ``widths`` words, each for ``tiles`` tiles of weights of six words; before them an
    operation with ``parameters`` words of parameters."""
    recorder = Recorder(AcceleratorConfig())
    if parameters:
        recorder.vector(Function.GELU, 0, 1, 1, parameters=View(recorder.fill(parameters, 0, "", True), 0, 0))
    for width in widths:
        a = View(recorder.fill(width, 0, "piece"), 0, width)
        for _ in range(tiles):
            recorder.matmul(a, View(recorder.fill(6, 0, "tile"), 0, 6), 0, 1, 1, 1)
    return recorder


def test_loads_run_ahead_as_far_as_the_ring_allows() -> None:
    program = place(products([2, 2], 2), Ring(0, 100))
    assert [instruction.opcode for instruction in program] == [Opcode.LOAD] * 6 + [Opcode.MATMUL] * 4


@pytest.mark.parametrize("depth", [2, 16])
def test_no_more_loads_lie_before_an_operation_that_does_not_need_them_than_their_queue_holds(depth: int) -> None:
    """Else fetch would wait for their start before it comes to the operation."""
    recorder, b = Recorder(AcceleratorConfig(load_queue_depth=depth)), View(Region("b", 1, Phase.ALL, 1000), 0, 1)
    for i in range(80):
        recorder.matmul(View(recorder.fill(1, 64 * i, "tile"), 0, 1), b, 0, 1, 1, 1)
    program = place(recorder, Ring(0, 1000))
    ahead = list(accumulate(1 if i.opcode is Opcode.LOAD else -1 for i in program))
    assert max(ahead) == depth
    assert min(ahead) == 0


def test_what_goes_to_a_region_is_loaded_before_its_first_use() -> None:
    recorder, region = Recorder(AcceleratorConfig(load_queue_depth=2)), Region("stream", 8, Phase.ALL, 20)
    region.overlaps = [region]
    for row in (0, 4):
        recorder.fetch(region, DramArray(64 * row, 16, 8, 1), (row, row + 4), 0, 1, "input", row=row)
    for i in range(20):
        b = View(region, 0, 1) if i == 9 else View(recorder.fill(1, 1024 + i, "tile"), 0, 1)
        recorder.matmul(View(recorder.fill(1, 2048 + i, "tile"), 0, 1), b, 0, 1, 1, 1)
    program = place(recorder, Ring(0, 1000))
    products = [i for i, instruction in enumerate(program) if instruction.opcode is Opcode.MATMUL]
    inputs = [i for i, instruction in enumerate(program) if instruction.comment == "input"]
    assert len(inputs) == 2
    assert products[7] < inputs[0] < inputs[1] < products[9]


def test_parameters_have_a_ring_of_their_own_as_long_as_it_has_room() -> None:
    recorder = products([2, 2], 2, parameters=3)
    fields = [instruction.fields for instruction in place(recorder, Ring(20, 100), parameters=Ring(10, 3))]
    assert [f["scratchpad"] for f in fields if "scratchpad" in f] == [10, 20, 22, 28, 34, 36, 42]
    fields = [instruction.fields for instruction in place(recorder, Ring(20, 100), parameters=Ring(10, 2))]
    assert [f["scratchpad"] for f in fields if "scratchpad" in f] == [20, 23, 25, 31, 37, 39, 45]


def test_what_runs_ahead_can_cut_the_ring_to_pieces() -> None:
    recorder = products([1, 1], 1, parameters=2)
    with pytest.raises(RingError, match="6 words do not fit the ring"):
        place(recorder, Ring(0, 8))
    program = place(recorder, Ring(0, 8), ahead=False)
    load, matmul, vector = Opcode.LOAD, Opcode.MATMUL, Opcode.VECTOR
    assert [i.opcode for i in program] == [load, vector, load, load, matmul, load, load, matmul]
    assert [(i.fields["a"], i.fields["b"]) for i in program if i.opcode is matmul] == [(0, 1), (0, 1)]


def test_operands_that_are_larger_than_the_ring_are_refused() -> None:
    for ahead in (True, False):
        with pytest.raises(RingError):
            place(products([5], 1), Ring(0, 10), ahead)


def test_the_last_store_to_rows() -> None:
    recorder = Recorder(AcceleratorConfig())
    array = DramArray(0, 16, 8, 1)
    buffer = View(recorder.scratch(4), 0, 1)
    for rows in ((0, 4), (4, 8), (0, 4), (2, 3)):
        recorder.store(buffer, array, rows, 0, 1, "rows")
    assert [array.last_store(*rows) for rows in ((0, 1), (2, 4), (3, 5), (5, 8), (8, 9))] == [2, 3, 2, 1, -1]


@pytest.mark.parametrize("piece_words", [0, 2])
@pytest.mark.parametrize(("word", "words"), [(4, 2), (5, 1), (-1, 2), (0, 0)])
def test_words_that_a_row_does_not_have_are_refused(piece_words: int, word: int, words: int) -> None:
    """Else a row in pieces would have no end."""
    array = DramArray(0, 80, 3, 5, piece_words)
    with pytest.raises(ValueError, match=f"^a row has words 0 to 4, not {word} to {word + words - 1}$"):
        list(array.runs(AcceleratorConfig(), 0, word, words))
