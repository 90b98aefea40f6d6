"""The vector functions of the functional machine: parameters, row table, results."""

from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..hdl.config import AcceleratorConfig
from ..hdl.isa import CHORD, CURVE_PIECES, FIRST_PARAMETERS, ROW_RECORD, SECOND_PARAMETERS, Format, Function
from .golden import kernels
from .golden.parameters import Curve, FirstParameters, RowParameters, ScalarParameters, SecondParameters
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


_FIRST, _SECOND, _ROW, _CHORD = (
    _record_type(record) for record in (FIRST_PARAMETERS, SECOND_PARAMETERS, ROW_RECORD, CHORD))
_USES_FIRST = (Function.REQUANTISE, Function.GELU, Function.RESIDUAL, Function.ACTIVATION, Function.GATED)
_USES_SECOND = (Function.GELU, Function.ATTENTION_OUTPUT, Function.RESIDUAL, Function.LAYER_NORM, Function.ACTIVATION,
                Function.GATED)


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
    """Executes VECTOR instructions on ``memories``; it alone has the row table and the curve."""

    def __init__(self, config: AcceleratorConfig, memories: Memories):
        self._config = config
        self._memories = memories
        self._table = _RowTable(config.row_entries)
        # Of the rows of an unfinished RESIDUAL: sum, sum of squares, columns; no columns where there is none.
        self._sums = np.zeros((3, config.row_entries), np.int64)
        # Of those of an unfinished ROW_MAXIMUM or EXPONENTIAL: the function, and maximum or sum.
        self._softmax: list[Function | None] = [None] * config.row_entries
        self._totals = np.zeros(config.row_entries, np.int64)
        self._curve: Curve | None = None

    def execute(self, function: Function, f: dict[str, int]) -> None:
        """Execute ``function`` with the fields ``f``; raises RuleError."""
        config, table, bits = self._config, self._table, 16 if f.get("wide_result") else 8
        if function is Function.LOAD_CURVE:
            self._load_curve(f)
            return
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
                self._write(f, kernels.requantise(acc, first, bits))
            case Function.GELU:
                first, second = self._parameters(function, f)
                self._write(f, kernels.gelu(acc, first, second, bits))
            case Function.ACTIVATION:
                first, second = self._parameters(function, f)
                self._write(f, kernels.activation(acc, first, second, self._loaded_curve(), bits))
            case Function.GATED:
                first, second = self._parameters(function, f)
                operand, read = self._operand(f, acc.shape[1])
                written = self._write(f, kernels.gated(acc, first, operand, second, self._loaded_curve(), bits))
                shared = np.intersect1d(read, written)
                if shared.size:
                    raise RuleError(f"operand and destination must not share words, as scratchpad word {shared[0]}")
            case Function.RAW:
                self._write(f, acc)
            case Function.ROW_MAXIMUM:
                self._sums[:, rows] = 0  # the sums and maxima of all functions have the same place
                largest, finished = self._softmax_total(function, f, rows, kernels.row_maximum(acc, self._seen(f)))
                if finished:
                    table.write(rows, _RowKind.MAXIMUM, largest)
            case Function.EXPONENTIAL:
                self._sums[:, rows] = 0
                top = table.read(rows, _RowKind.MAXIMUM)[0]
                e, total = kernels.softmax_numerators(acc, self._seen(f), self._scalar(f), top, bits == 16)
                total, finished = self._softmax_total(function, f, rows, total)
                width = 24 if bits == 16 else 20
                if total.max() >= 2**width:
                    raise RuleError(f"a row's numerators must sum to less than 2**{width}, not to {total.max()}")
                if finished:
                    table.write(rows, _RowKind.SCALE, *kernels.reciprocal(total))
                self._write(f, e)
            case Function.ATTENTION_OUTPUT:
                multiplier, shift, _ = table.read(rows, _RowKind.SCALE)
                _, second = self._parameters(function, f)
                self._write(f, kernels.normalise(acc, 0, multiplier, shift, second, bits))
            case Function.ROW_REQUANTISE:
                multiplier, shift, _ = table.read(rows, _RowKind.SCALE)
                scales = RowParameters(multiplier.astype(np.uint16), shift.astype(np.uint8))
                self._write(f, kernels.row_requantise(acc, scales, bits))
            case Function.RESIDUAL:
                self._residual(f, acc, rows)
            case Function.LAYER_NORM:
                multiplier, shift, mean = table.read(rows, _RowKind.STATISTICS)
                _, second = self._parameters(function, f)
                self._write(f, kernels.normalise(acc, mean, multiplier, shift, second, bits))

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
        x, _ = self._operand(f, width)
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

    def _operand(self, f: dict[str, int], width: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """The second operand [m, width], int8 or int16, and its words."""
        m, size = f["m"], 2 if f.get("wide_operand") else 1
        words = self._memories.area(Space.SCRATCHPAD, "operand", f["operand"], m, f["operand_stride"],
                                    size * -(-width // self._config.word_bytes), write=False)
        data = self._memories.scratchpad[words].reshape(m, -1, size, self._config.word_bytes).swapaxes(2, 3)
        return np.ascontiguousarray(data).view(f"<i{size}").reshape(m, -1)[:, :width], words

    def _write(self, f: dict[str, int], result: NDArray[Any]) -> NDArray[np.int64]:
        """Results [m, groups * lanes] of one, two or four bytes, in as many planes, to the scratchpad; bytes of the
        last words beyond them stay. Returns the words."""
        memories, (m, width), size = self._memories, result.shape, result.itemsize
        row_words = size * -(-width // self._config.word_bytes)
        if m > 1 and f["destination_stride"] < row_words:
            raise RuleError(f"destination_stride must be at least the {row_words} words of a row, not "
                            f"{f['destination_stride']}")
        words = memories.area(Space.SCRATCHPAD, "destination", f["destination"], m, f["destination_stride"],
                              row_words, write=True)
        content = result.astype(result.dtype.newbyteorder("<")).view(np.uint8).reshape(m, width, size)
        planes = memories.scratchpad[words].reshape(m, -1, size, self._config.word_bytes)
        for plane in range(size):
            row = planes[:, :, plane].reshape(m, -1)
            row[:, :width] = content[:, :, plane]
            planes[:, :, plane] = row.reshape(m, -1, self._config.word_bytes)
        memories.scratchpad[words] = planes.reshape(*words.shape, -1)
        memories.computed[words] = True
        return words

    def _parameter_words(self, f: dict[str, int], words: int) -> NDArray[np.uint8]:
        """Bytes of ``words`` parameter words."""
        memories = self._memories
        places = memories.area(Space.SCRATCHPAD, "parameters", f["parameters"], 1, 0, words, write=False)
        if memories.computed[places[0]].any():
            word = int(places[0][memories.computed[places[0]]][0])
            raise RuleError(f"parameters must be loaded, and scratchpad word {word} holds a result")
        return memories.scratchpad[places[0]]

    def _seen(self, f: dict[str, int]) -> NDArray[np.bool_]:
        """Which columns count: [groups * lanes], or [m, groups * lanes] where that depends on the row."""
        words = self._parameter_words(f, f["groups"])
        mask = words[:, : self._config.lanes].ravel() != 0
        if not f.get("causal"):
            return mask
        return kernels.causal_mask(mask, f["m"], (f["operand"] ^ 0x8000) - 0x8000)

    def _load_curve(self, f: dict[str, int]) -> None:
        words = self._parameter_words(f, -(-CURVE_PIECES * CHORD.size // self._config.word_bytes))
        chords = words.ravel()[: CURVE_PIECES * CHORD.size].view(_CHORD)
        try:
            self._curve = Curve(chords["base"].astype(np.int64), chords["slope"].astype(np.int64), f["shift"])
        except ValueError as error:
            raise RuleError(str(error)) from None

    def _loaded_curve(self) -> Curve:
        if self._curve is None:
            raise RuleError("a curve must have been loaded before it is used")
        return self._curve

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
        zero = (second["multiplier"] == 0) & (second["offset"] == 0) & (function is not Function.GATED)
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
