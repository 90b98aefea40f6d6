"""The DRAM image of a model: weights and parameters in the order and form in which the accelerator streams
them.

A weight matrix is cut into column tiles of ``cols`` rows, and, where a tile is too long for the scratchpad,
into pieces along the reduction. Each piece is contiguous; so are the pieces of a tile and the tiles of a
matrix, so that any run of them is one transfer. Parameters lie apart, a record or two for each group of
``lanes`` columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...hdl.config import AcceleratorConfig
from ...hdl.isa import CHORD, FIRST_PARAMETERS, ROW_RECORD, SECOND_PARAMETERS, Format
from ...sim.golden.kernels import mean_scalar
from ...sim.golden.parameters import (
    Curve,
    FirstParameters,
    QuantisedEncoder,
    QuantisedLayer,
    RowParameters,
    ScalarParameters,
    SecondParameters,
)
from .geometry import Geometry, ceil_div

__all__ = ["LayerImage", "ModelImage", "ParameterImage", "WeightImage", "build_image", "curve_records", "record_type"]

Bytes = NDArray[np.uint8]
Columns = NDArray[np.int64]


@dataclass(frozen=True)
class WeightImage:
    """Where a weight matrix lies: ``tiles`` tiles of ``cols`` rows; ``k_words`` words of reduction,
    ``row_words`` with the bus's padding, in pieces of ``piece_words``."""

    name: str
    offset: int  # bytes from the start of the image
    tiles: int
    k_words: int
    row_words: int
    piece_words: int
    tile_words: int

    @property
    def pieces(self) -> int:
        """Pieces of a tile."""
        return ceil_div(self.row_words, self.piece_words)

    def width(self, piece: int) -> int:
        """Words of a row in ``piece``, with padding."""
        return min(self.piece_words, self.row_words - piece * self.piece_words)

    def reduction(self, piece: int) -> int:
        """Words of the reduction in ``piece``, without padding."""
        return min(self.piece_words, self.k_words - piece * self.piece_words)

    def word(self, tile: int, piece: int = 0) -> int:
        """Words from the start of the matrix to a piece of a tile."""
        cols = self.tile_words // self.row_words
        return tile * self.tile_words + piece * self.piece_words * cols


@dataclass(frozen=True)
class ParameterImage:
    """Where the parameter records of a matrix lie: ``group_words`` words for each group of columns (or
    ROW_RECORD bytes for each row)."""

    name: str
    offset: int
    group_words: int


@dataclass(frozen=True)
class LayerImage:
    """A layer: its weights and parameters by name, and its scalars."""

    weights: dict[str, WeightImage]
    parameters: dict[str, ParameterImage]
    score: ScalarParameters


@dataclass(frozen=True, eq=False)
class ModelImage:
    """A model, placed: ``data`` goes to DRAM once, whatever is run afterwards."""

    geometry: Geometry
    layers: tuple[LayerImage, ...]
    mean: ScalarParameters
    data: Bytes

    def describe(self) -> str:
        """A table for people: what lies where."""
        lines = []
        for index, layer in enumerate(self.layers):
            for weight in layer.weights.values():
                lines.append(
                    f"{weight.offset:#010x}  layer {index} {weight.name}: {weight.tiles} tiles x "
                    f"{weight.k_words} words, {weight.pieces} pieces a tile"
                )
            for parameter in layer.parameters.values():
                lines.append(f"{parameter.offset:#010x}  layer {index} {parameter.name} parameters")
        return "\n".join(sorted(lines)) + "\n"


def record_type(record: Format) -> np.dtype:
    """The NumPy type of a parameter record, whose fields are whole bytes."""
    names, formats, offsets = [], [], []
    for item in record.fields:
        names.append(item.name)
        formats.append(f"<{'i' if item.signed else 'u'}{item.width // 8}")
        offsets.append(item.offset // 8)
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": record.size})


_FIRST, _SECOND, _ROW, _CHORD = (
    record_type(record) for record in (FIRST_PARAMETERS, SECOND_PARAMETERS, ROW_RECORD, CHORD))


def curve_records(curve: Curve) -> Bytes:
    """The chords of ``curve``, as LOAD_CURVE with ``shift`` = ``curve.width`` reads them."""
    records = np.zeros(len(curve.base), dtype=_CHORD)
    records["base"], records["slope"] = curve.base, curve.slope
    return records.view(np.uint8)


def _records(
    parameters: FirstParameters | SecondParameters | RowParameters, columns: Columns, width: int
) -> NDArray:
    """One record for each of ``width`` columns: those of ``parameters`` at ``columns``, elsewhere zero, shift
    1."""
    kinds: dict[type, np.dtype] = {FirstParameters: _FIRST, SecondParameters: _SECOND, RowParameters: _ROW}
    records = np.zeros(width, dtype=kinds[type(parameters)])
    records["shift"] = 1
    assert records.dtype.names is not None
    for name in records.dtype.names:
        records[name][columns] = getattr(parameters, name)
    return records


class _Builder:
    """Places one array after the other."""

    def __init__(self, geometry: Geometry):
        self._geometry = geometry
        self._config: AcceleratorConfig = geometry.config
        self._parts: list[Bytes] = []
        self.offset = 0

    def place(self, part: Bytes) -> int:
        """Append ``part`` at a multiple of the bus width; returns its offset."""
        offset = self.offset
        pad = -part.size % self._config.bus_bytes
        self._parts += [part, np.zeros(pad, np.uint8)]
        self.offset += part.size + pad
        return offset

    def join(self) -> Bytes:
        return np.concatenate(self._parts)

    def weight(
        self, name: str, values: NDArray[np.int8], rows: Columns, columns: Columns, height: int, k_words: int
    ) -> WeightImage:
        """Place ``values``, whose rows and columns go to ``rows`` and ``columns`` of a zero matrix of
        ``height``."""
        config = self._config
        step = self._geometry.weight_step
        row_words = ceil_div(k_words, step) * step
        piece_words = self._geometry.piece_words(row_words)
        tiles = ceil_div(height, config.cols)
        padded = np.zeros((tiles * config.cols, row_words * config.rows), dtype=np.int8)
        padded[rows[:, np.newaxis], columns] = values
        tiled = padded.reshape(tiles, config.cols, row_words * config.rows)
        size = piece_words * config.rows
        data = np.concatenate(
            [tiled[:, :, k : k + size].reshape(tiles, -1) for k in range(0, row_words * config.rows, size)],
            axis=1,
        )
        return WeightImage(
            name,
            self.place(data.reshape(-1).view(np.uint8)),
            tiles,
            k_words,
            row_words,
            piece_words,
            config.cols * row_words,
        )

    def parameters(
        self, name: str, parts: Sequence[FirstParameters | SecondParameters], columns: Columns, words: int
    ) -> ParameterImage:
        """Place the records of ``parts``, side by side for each group, for ``words`` words of columns."""
        config = self._config
        groups = self._geometry.groups(words)
        size = config.parameter_words * config.word_bytes
        data = np.zeros((groups, len(parts), size), dtype=np.uint8)
        for i, part in enumerate(parts):
            records = _records(part, columns, groups * config.lanes)
            data[:, i, : 8 * config.lanes] = records.view(np.uint8).reshape(groups, -1)
        return ParameterImage(name, self.place(data.reshape(-1)), len(parts) * config.parameter_words)

    def row_parameters(self, name: str, part: RowParameters, rows: Columns, height: int) -> ParameterImage:
        """Place the row records of ``part``."""
        return ParameterImage(name, self.place(_records(part, rows, height).view(np.uint8)), 0)


def _build_layer(builder: _Builder, g: Geometry, layer: QuantisedLayer) -> LayerImage:
    plain, wide = np.arange(g.hidden), np.arange(g.ffn)
    heads = (np.arange(g.heads)[:, np.newaxis] * g.head_words * g.config.rows + np.arange(g.head)).reshape(-1)
    context, hidden, ffn = (words * g.config.rows for words in (g.context_words, g.hidden_words, g.ffn_words))
    weights = [
        builder.weight("query", layer.query_weight, heads, plain, context, g.hidden_words),
        builder.weight("key", layer.key_weight, heads, plain, context, g.hidden_words),
        builder.weight("value", layer.value_weight, plain, plain, g.value_channels, g.hidden_words),
        builder.weight("output", layer.output_weight, plain, heads, hidden, g.context_words),
        builder.weight("ffn_in", layer.ffn_in_weight, wide, plain, ffn, g.hidden_words),
        builder.weight("ffn_out", layer.ffn_out_weight, plain, wide, hidden, g.ffn_words),
    ]
    parameters = [
        builder.parameters("query", [layer.query], heads, g.context_words),
        builder.parameters("key", [layer.key], heads, g.context_words),
        builder.row_parameters("value", layer.value, plain, g.value_channels),
        builder.parameters("context", [layer.context], heads, g.context_words),
        builder.parameters("output", [layer.output, layer.output_residual], plain, g.hidden_words),
        builder.parameters("attention_norm", [layer.attention_norm], plain, g.hidden_words),
        builder.parameters("ffn_in", [layer.ffn_in, layer.gelu], wide, g.ffn_words),
        builder.parameters("ffn_out", [layer.ffn_out, layer.ffn_residual], plain, g.hidden_words),
        builder.parameters("output_norm", [layer.output_norm], plain, g.hidden_words),
    ]
    return LayerImage({w.name: w for w in weights}, {p.name: p for p in parameters}, layer.score)


def build_image(config: AcceleratorConfig, encoder: QuantisedEncoder) -> ModelImage:
    """Arrange ``encoder`` for ``config``; raises :class:`CompileError` when it exceeds a limit."""
    geometry = Geometry.of(config, encoder)
    builder = _Builder(geometry)
    layers = tuple(_build_layer(builder, geometry, layer) for layer in encoder.layers)
    return ModelImage(geometry, layers, mean_scalar(encoder.hidden), builder.join())
