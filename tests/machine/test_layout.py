"""The DRAM image of a model."""

import celosia.firmware.machine.layout as layout
import numpy as np
import pytest
from celosia.firmware.machine.layout import build_image, curve_records, record_type
from celosia.firmware.quantise.synthetic import random_encoder
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import CHORD, CURVE_PIECES, FIRST_PARAMETERS, ROW_RECORD, SECOND_PARAMETERS
from celosia.sim.golden.tables import CURVES

CONFIGS = [
    AcceleratorConfig(),
    AcceleratorConfig(rows=4, cols=4, bus_bits=256, scratchpad_kib=16),
    AcceleratorConfig(rows=64, cols=16, lanes=4, scratchpad_kib=16),
]


def test_everything_promised_is_exported() -> None:
    assert all(hasattr(layout, name) for name in layout.__all__)


@pytest.mark.parametrize("record", [FIRST_PARAMETERS, SECOND_PARAMETERS, ROW_RECORD, CHORD])
def test_records_are_those_of_the_instruction_set(record) -> None:
    kind = record_type(record)
    assert kind.itemsize == record.size
    values = {name: int(np.iinfo(kind[name]).min) or 7 for name in kind.names}
    item = np.zeros(1, kind)
    for name, value in values.items():
        item[name] = value
    assert item.tobytes() == record.encode(**values)


def test_chords_of_a_curve() -> None:
    curve = CURVES["silu"]
    content = curve_records(curve).tobytes()
    assert len(content) == CURVE_PIECES * CHORD.size
    for piece in range(CURVE_PIECES):
        fields = CHORD.decode(content[piece * CHORD.size :])
        assert fields == {"base": curve.base[piece], "slope": curve.slope[piece]}


@pytest.mark.parametrize("config", CONFIGS)
def test_weights_stream_in_order(config: AcceleratorConfig) -> None:
    encoder = random_encoder(40, 72, 2)
    image = build_image(config, encoder)
    weight = image.layers[0].weights["ffn_in"]
    rows = []
    for tile in range(weight.tiles):
        pieces = []
        for piece in range(weight.pieces):
            start = weight.offset + weight.word(tile, piece) * config.rows
            assert start % config.bus_bytes == 0
            width = weight.width(piece) * config.rows
            pieces.append(image.data[start : start + config.cols * width].reshape(config.cols, width))
        rows.append(np.concatenate(pieces, axis=1))
    matrix = np.concatenate(rows).view(np.int8)
    np.testing.assert_array_equal(matrix[:72, :40], encoder.layers[0].ffn_in_weight)
    assert not matrix[72:].any()
    assert not matrix[:, 40:].any()


@pytest.mark.parametrize("config", CONFIGS)
def test_channels_of_the_values_are_not_padded(config: AcceleratorConfig) -> None:
    encoder = random_encoder(40, 72, 2)
    image = build_image(config, encoder)
    weight = image.layers[0].weights["value"]
    assert weight.tiles * config.cols == image.geometry.value_channels
    for channel in (0, 19, 20, 39):
        tile, row = divmod(channel, config.cols)
        start = weight.offset + (weight.word(tile) + row * weight.width(0)) * config.rows
        values = image.data[start : start + weight.width(0) * config.rows].view(np.int8)
        np.testing.assert_array_equal(values[:40], encoder.layers[0].value_weight[channel, : values.size])


@pytest.mark.parametrize("config", CONFIGS)
def test_parameters_lie_side_by_side(config: AcceleratorConfig) -> None:
    encoder = random_encoder(40, 72, 2)
    image = build_image(config, encoder)
    parameters = image.layers[0].parameters["ffn_in"]
    assert parameters.group_words == 2 * config.parameter_words
    layer = encoder.layers[0]
    for column in (0, 5, 71):
        group, lane = divmod(column, config.lanes)
        word = parameters.offset + group * parameters.group_words * config.rows
        first = image.data[word + 8 * lane :][:8].tobytes()
        second = image.data[word + config.parameter_words * config.rows + 8 * lane :][:8].tobytes()
        assert FIRST_PARAMETERS.decode(first)["bias"] == layer.ffn_in.bias[column]
        assert SECOND_PARAMETERS.decode(second)["multiplier"] == layer.gelu.multiplier[column]


def test_the_map_for_people() -> None:
    text = build_image(CONFIGS[0], random_encoder(40, 72, 2, layers=2)).describe()
    assert len(text.splitlines()) == 2 * (6 + 9)
    assert "layer 1 ffn_out: 3 tiles x 5 words, 1 pieces a tile" in text
