"""One layer of the real model through the host driver, on the RTL of a small array."""

from dataclasses import replace

import numpy as np
import pytest
from celosia.firmware.compiler.program import KEEPABLE
from celosia.firmware.machine.estimate import estimate
from celosia.firmware.model.model import EncoderModel, find_default_model
from celosia.firmware.quantise.quantise import quantise_input
from celosia.runner import compare, run_texts
from celosia.session import quantise, simulate
from celosia.sim.golden.encoder import run_encoder


@pytest.fixture(scope="module")
def model():
    return EncoderModel.from_folder(find_default_model())


@pytest.fixture(scope="module")
def one_layer(model):
    encoder = quantise(model)
    return replace(encoder, layers=encoder.layers[:1])


@pytest.fixture(scope="module")
def accelerator():
    return simulate("small")


def test_every_tensor_of_two_sentences_equals_golden(model, one_layer, accelerator):
    inputs = [quantise_input(one_layer, model.embed(model.tokenize(text)))
              for text in ("A celosia is a flower of the amaranth family.", "So is cockscomb.")]
    masks = [None, np.arange(len(inputs[1])) != 2]
    accelerator.load(one_layer)
    result = accelerator.run(inputs, masks, keep=KEEPABLE)
    golden = [run_encoder(one_layer, x, mask) for x, mask in zip(inputs, masks, strict=True)]
    wrong, compared = compare(result, golden)
    assert (wrong, compared) == ([], 2 * len(KEEPABLE))
    assert len(result.layers) == 1
    assert result.layers[0] == result.counters
    program = result.program
    predicted = estimate(program.geometry.config, program.instructions, program.edges).cycles
    assert predicted == pytest.approx(result.counters["cycles"], rel=0.02)


def test_a_difference_is_found(model, one_layer, accelerator):
    """The comparison can fail: golden of another input differs."""
    x = quantise_input(one_layer, model.embed(model.tokenize("A flower.")))
    accelerator.load(one_layer)
    other = x.copy()
    other[1, 5] += 1
    wrong, _ = compare(accelerator.run([x]), [run_encoder(one_layer, other)])
    assert wrong == ["text 0, layer 0, output"]


def test_report_of_a_run(model, one_layer, accelerator):
    report = run_texts(accelerator, model, one_layer, ["Red flowers.", "Blue skies."])
    data = report.to_json()
    assert report.bit_exact
    assert data["bit_exact"] is True
    assert data["config"] == "small"
    assert data["tokens"] == [5, 5]
    assert 0.5 < data["roofline_efficiency"] <= 1
    assert data["cycles"] == report.counters["cycles"] == sum(row.cycles for row in report.layers)
    assert report.similarity is not None
