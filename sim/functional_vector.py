"""The vector functions of the functional machine: parameters, row table, results."""

from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..hdl.config import AcceleratorConfig
from ..hdl.isa import FIRST_PARAMETERS, ROW_RECORD, SECOND_PARAMETERS, Format, Function
from .golden import kernels
from .golden.parameters import FirstParameters, RowParameters, ScalarParameters, SecondParameters
from .memories import Memories, RuleError
from .races import Space

__all__ = ["VectorUnit"]

_LARGEST_FIRST_SHIFT = 47
_LARGEST_SECOND_SHIFT = 31


def _record_type(record: Format) -> np.dtype:
    """The NumPy type of a record whose fields are whole bytes."""
    return np.dtype({
        "names": [field.name for field in record.fields],
        "formats": [f"<{'i' if field.signed else 'u'}{field.width // 8}" for field in record.fields],
        "offsets": [field.offset // 8 for field in record.fields],
        "itemsize": record.size,
    })


_FIRST, _SECOND, _ROW = (_record_type(record) for record in (FIRST_PARAMETERS, SECOND_PARAMETERS, ROW_RECORD))
_USES_FIRST = (Function.REQUANTISE, Function.GELU, Function.RESIDUAL)
_USES_SECOND = (Function.GELU, Function.ATTENTION_OUTPUT, Function.RESIDUAL, Function.LAYER_NORM)


class _RowKind(Enum):
    """What an entry of the row table holds."""

    NOTHING = "nothing"
    MAXIMUM = "a maximum"
    SCALE = "a multiplier and shift"
    STATISTICS = "a mean, multiplier and shift"


class _RowTable:
    """Entries of which each holds what the last function left there."""

    def __init__(self, entries: int):
        self._kind = np.full(entries, _RowKind.NOTHING)
        self._values = np.zeros((3, entries), np.int64)

    def write(self, rows: slice, kind: _RowKind, *values: ArrayLike) -> None:
        self._kind[rows] = kind
        for column, value in zip(self._values, values, strict=False):
            column[rows] = value

    def read(self, rows: slice, *kinds: _RowKind) -> NDArray[np.int64]:
        """The three values [3, m]; raises RuleError when an entry holds something else than ``kinds``."""
        for i, kind in enumerate(self._kind[rows]):
            if kind not in kinds:
                raise RuleError(
                    f"row table entry {rows.start + i} must hold {kinds[0].value}, not {kind.value}")
        return self._values[:, rows]


class VectorUnit:
    """Executes VECTOR instructions on ``memories``; it alone has the row table."""

    def __init__(self, config: AcceleratorConfig, memories: Memories):
        self._config = config
        self._memories = memories
        self._table = _RowTable(config.row_entries)
        # Of the rows of an unfinished RESIDUAL: sum, sum of squares, columns; no columns where there is none.
        self._sums = np.zeros((3, config.row_entries), np.int64)
        # Of those of an unfinished ROW_MAXIMUM or EXPONENTIAL: the function, and maximum or sum.
        self._softmax: list[Function | None] = [None] * config.row_entries
        self._totals = np.zeros(config.row_entries, np.int64)

    def execute(self, function: Function, f: dict[str, int]) -> None:
        """Execute ``function`` with the fields ``f``; raises RuleError."""
        config, table = self._config, self._table
        rows = slice(f["row"], f["row"] + f["m"])
        if f["m"] < 1 or rows.stop > config.row_entries:
            most = config.row_entries - f["row"]
            raise RuleError(f"m must be from 1 to row_entries - row = {most}, not {f['m']}")
        if function is Function.LOAD_ROWS:
            multiplier, shift = self._row_records(f)
            table.write(rows, _RowKind.SCALE, multiplier, shift)
            return
        if f["groups"] < 1:
            raise RuleError("groups must be at least 1, not 0")

        acc = self._accumulators(f)
        match function:
            case Function.REQUANTISE:
                first, _ = self._parameters(function, f)
                self._write(f, kernels.requantise(acc, first))
            case Function.GELU:
                first, second = self._parameters(function, f)
                self._write(f, kernels.gelu(acc, first, second))
            case Function.ROW_MAXIMUM:
                self._sums[:, rows] = 0  # the sums and maxima of all functions have the same place
                largest, finished = self._softmax_total(function, f, rows, kernels.row_maximum(acc, self._mask(f)))
                if finished:
                    table.write(rows, _RowKind.MAXIMUM, largest)
            case Function.EXPONENTIAL:
                self._sums[:, rows] = 0
                top = table.read(rows, _RowKind.MAXIMUM)[0]
                e, total = kernels.softmax_numerators(acc, self._mask(f), self._scalar(f), top)
                total, finished = self._softmax_total(function, f, rows, total)
                if total.max() >= 2**20:
                    raise RuleError(f"a row's numerators must sum to less than 2**20, not to {total.max()}")
                if finished:
                    table.write(rows, _RowKind.SCALE, *kernels.reciprocal(total))
                self._write(f, e)
            case Function.ATTENTION_OUTPUT:
                multiplier, shift, _ = table.read(rows, _RowKind.SCALE)
                _, second = self._parameters(function, f)
                self._write(f, kernels.normalise(acc, 0, multiplier, shift, second))
            case Function.ROW_REQUANTISE:
                multiplier, shift, _ = table.read(rows, _RowKind.SCALE)
                scales = RowParameters(multiplier.astype(np.uint16), shift.astype(np.uint8))
                self._write(f, kernels.row_requantise(acc, scales))
            case Function.RESIDUAL:
                self._residual(f, acc, rows)
            case Function.LAYER_NORM:
                multiplier, shift, mean = table.read(rows, _RowKind.STATISTICS)
                _, second = self._parameters(function, f)
                self._write(f, kernels.normalise(acc, mean, multiplier, shift, second))

    def _softmax_total(
        self, function: Function, f: dict[str, int], rows: slice, values: NDArray[Any]
    ) -> tuple[NDArray[np.int64], bool]:
        """``values`` with those of the instructions that this one continues, and whether no more columns follow."""
        found = values.astype(np.int64)
        if f.get("continues"):
            if any(earlier is not function for earlier in self._softmax[rows]):
                raise RuleError(f"a {function.name} that continues must follow an unfinished one of the same rows")
            total = self._totals[rows]
            found = np.maximum(total, found) if function is Function.ROW_MAXIMUM else total + found
        unfinished = bool(f.get("unfinished"))
        self._totals[rows] = found
        self._softmax[rows] = [function if unfinished else None] * f["m"]
        return found, not unfinished

    def _residual(self, f: dict[str, int], acc: NDArray[np.int32], rows: slice) -> None:
        config, memories = self._config, self._memories
        width = acc.shape[1]
        self._softmax[rows] = [None] * f["m"]
        if not f.get("continues"):
            self._sums[:, rows] = 0
        elif not self._sums[2, rows].all():
            raise RuleError("a RESIDUAL that continues must follow an unfinished one of the same rows")
        columns = width + int(self._sums[2, rows].max())
        if columns > config.max_n:
            raise RuleError(f"groups * lanes must be at most max_n = {config.max_n}, not {columns}")
        first, second = self._parameters(Function.RESIDUAL, f)
        words = memories.area(Space.SCRATCHPAD, "residual", f["residual"], f["m"], f["residual_stride"],
                              -(-width // config.word_bytes), write=False)
        x = memories.scratchpad[words].reshape(f["m"], -1)[:, :width].view(np.int8)
        scalar = self._scalar(f)
        h = kernels.residual(acc, first, x, second)
        wide = h.astype(np.int64)
        self._sums[:, rows] += wide.sum(axis=1), (wide * wide).sum(axis=1), np.full(f["m"], width)
        if not f.get("unfinished"):
            total, squares, _ = self._sums[:, rows]
            mean, multiplier, shift = kernels.statistics_of_sums(total, squares, scalar)
            self._table.write(rows, _RowKind.STATISTICS, multiplier, shift, mean)
            self._sums[:, rows] = 0

        places = self._accumulator_words(f, write=True)
        tiles = memories.accumulators[places].swapaxes(0, 1).reshape(f["m"], -1)
        tiles[:, :width] = h
        memories.accumulators[places] = tiles.reshape(f["m"], len(places), config.cols).swapaxes(0, 1)

    def _accumulator_words(self, f: dict[str, int], write: bool) -> NDArray[np.int64]:
        tiles = -(-f["groups"] * self._config.lanes // self._config.cols)
        return self._memories.accumulator_area(f, tiles, write)

    def _accumulators(self, f: dict[str, int]) -> NDArray[np.int32]:
        """Accumulators [m, groups * lanes]."""
        words = self._accumulator_words(f, write=False)
        values = self._memories.accumulators[words].swapaxes(0, 1).reshape(f["m"], -1)
        return values[:, : f["groups"] * self._config.lanes]

    def _write(self, f: dict[str, int], result: NDArray[np.int8] | NDArray[np.uint8]) -> None:
        """Results [m, groups * lanes] to the scratchpad; bytes of the last word beyond them stay."""
        memories, (m, width) = self._memories, result.shape
        row_words = -(-width // self._config.word_bytes)
        if m > 1 and f["destination_stride"] < row_words:
            raise RuleError(f"destination_stride must be at least the {row_words} words of a row, not "
                            f"{f['destination_stride']}")
        words = memories.area(Space.SCRATCHPAD, "destination", f["destination"], m, f["destination_stride"],
                              row_words, write=True)
        values = memories.scratchpad[words].reshape(m, -1)
        values[:, :width] = result.view(np.uint8)
        memories.scratchpad[words] = values.reshape(*words.shape, -1)
        memories.computed[words] = True

    def _parameter_words(self, f: dict[str, int], words: int) -> NDArray[np.uint8]:
        """Bytes of ``words`` parameter words."""
        memories = self._memories
        places = memories.area(Space.SCRATCHPAD, "parameters", f["parameters"], 1, 0, words, write=False)
        if memories.computed[places[0]].any():
            word = int(places[0][memories.computed[places[0]]][0])
            raise RuleError(f"parameters must be loaded, and scratchpad word {word} holds a result")
        return memories.scratchpad[places[0]]

    def _mask(self, f: dict[str, int]) -> NDArray[np.bool_]:
        words = self._parameter_words(f, f["groups"])
        return words[:, : self._config.lanes].ravel() != 0

    def _parameters(self, function: Any, f: dict[str, int]) -> tuple[FirstParameters, SecondParameters]:
        """First and second records, by column; of a kind that ``function`` does not use there are none."""
        uses = function in _USES_FIRST, function in _USES_SECOND
        per_record = self._config.parameter_words
        words = self._parameter_words(f, f["groups"] * sum(uses) * per_record)
        records = words.reshape(f["groups"], sum(uses), -1)[:, :, : 8 * self._config.lanes]
        empty = records[:, :0]
        first = np.ascontiguousarray(records[:, 0] if uses[0] else empty).ravel().view(_FIRST)
        second = np.ascontiguousarray(records[:, -1] if uses[1] else empty).ravel().view(_SECOND)
        _check_shifts(first["shift"], first["multiplier"] == 0, _LARGEST_FIRST_SHIFT, "first record")
        zero = (second["multiplier"] == 0) & (second["offset"] == 0)
        _check_shifts(second["shift"], zero, _LARGEST_SECOND_SHIFT, "second record")
        return (FirstParameters(*(first[name] for name in _FIRST.names or ())),
                SecondParameters(*(second[name] for name in _SECOND.names or ())))

    def _row_records(self, f: dict[str, int]) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
        words = self._parameter_words(f, -(-f["m"] * ROW_RECORD.size // self._config.word_bytes))
        records = words.ravel()[: f["m"] * ROW_RECORD.size].view(_ROW)
        _check_shifts(records["shift"], records["multiplier"] == 0, _LARGEST_FIRST_SHIFT, "row record")
        return records["multiplier"], records["shift"]

    def _scalar(self, f: dict[str, int]) -> ScalarParameters:
        if not 1 <= f["shift"] <= _LARGEST_FIRST_SHIFT:
            raise RuleError(f"shift must be from 1 to {_LARGEST_FIRST_SHIFT}, not {f['shift']}")
        return ScalarParameters(f["multiplier"], f["shift"])


def _check_shifts(shift: NDArray[np.uint8], zero: NDArray[np.bool_], largest: int, name: str) -> None:
    """A shift is from 1 to ``largest``; a record whose product is zero may leave it at 0."""
    bad = (shift > largest) | ((shift == 0) & ~zero)
    if bad.any():
        column = int(np.argmax(bad))
        raise RuleError(f"the shift of {name} {column} must be from 1 to {largest}, not {shift[column]}")
