"""Quantisation: ranges, closeness to float, files, and each refusal by its whole sentence."""

import json
import struct
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from celosia.firmware.model.model import EncoderModel, ModelError, find_default_model
from celosia.firmware.model.sentences import calibration_sentences, evaluation_sentences
from celosia.firmware.quantise import quantise, store
from celosia.firmware.quantise.calibration import calibration_sequences
from celosia.firmware.quantise.gptq import round_gptq
from celosia.firmware.quantise.quantise import quantise_encoder, quantise_input
from celosia.firmware.quantise.store import load_encoder, load_or_quantise, save_encoder
from celosia.sim.golden.encoder import run_encoder
from celosia.sim.golden.parameters import (
    FirstParameters,
    QuantisedEncoder,
    RowParameters,
    ScalarParameters,
    SecondParameters,
)
from numpy.testing import assert_array_equal

from tests import tiny_models


@pytest.fixture(scope="module")
def encoder() -> QuantisedEncoder:
    return quantise_encoder(tiny_models.model(), tiny_models.sequences())


def refusal(function, *args, **kwargs) -> str:
    with pytest.raises(ModelError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def assert_equal_encoders(one: QuantisedEncoder, other: QuantisedEncoder) -> None:
    assert one.heads == other.heads
    assert_array_equal(one.input_scale, other.input_scale, strict=True)
    assert_array_equal(one.output_scale, other.output_scale, strict=True)
    for left, right in zip(one.layers, other.layers, strict=True):
        for spec in fields(left):
            a, b = getattr(left, spec.name), getattr(right, spec.name)
            if isinstance(a, np.ndarray):
                assert_array_equal(a, b, strict=True)
            else:
                for part in fields(a):
                    assert_array_equal(getattr(a, part.name), getattr(b, part.name), strict=True)


def mean_error(model: EncoderModel, encoder: QuantisedEncoder) -> float:
    """Root mean square difference from float over fresh sequences."""
    errors = []
    for x in tiny_models.sequences(model.hidden, seed=8):
        output = run_encoder(encoder, quantise_input(encoder, x))[-1]["output"]
        errors.append(output * encoder.output_scale - model.encode(x))
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def test_every_exported_name_is_there():
    assert all(hasattr(module, name) for module in (quantise, store) for name in module.__all__)


def check_ranges(encoder: QuantisedEncoder) -> None:
    for layer in encoder.layers:
        for spec in fields(layer):
            value = getattr(layer, spec.name)
            if isinstance(value, np.ndarray):
                assert value.dtype == np.int8
                assert np.abs(value.astype(int)).max() == 127
                continue
            shift = np.asarray(value.shift)
            assert shift.min() >= 1
            assert shift.max() <= (31 if isinstance(value, SecondParameters) else 47)
            if isinstance(value, FirstParameters):
                assert np.abs(value.bias.astype(np.int64)).max() <= 2**30
            if isinstance(value, FirstParameters | RowParameters):
                assert value.multiplier.min() >= 2**15 - 1, "every multiplier uses all its bits"
            if isinstance(value, ScalarParameters):
                assert 2**15 - 1 <= value.multiplier < 2**16
        for name in ("query", "key", "output", "ffn_in", "ffn_out"):
            assert not getattr(layer, name).zero_point.any()
        assert not layer.key.bias.any()


def test_every_integer_is_in_its_range(encoder: QuantisedEncoder):
    check_ranges(encoder)


@pytest.mark.parametrize("gptq", [False, True])
def test_extreme_weights_fit_the_formats(gptq: bool):
    """Rows of zeros, huge and tiny gains, negative gains, far biases."""
    arrays = tiny_models.arrays(embeddings=False)
    arrays["encoder.layer.0.attention.self.query.weight"][:3] = 0
    arrays["encoder.layer.0.attention.self.value.weight"][5] = 0
    arrays["encoder.layer.0.intermediate.dense.weight"][7:9] = 0
    arrays["encoder.layer.0.intermediate.dense.bias"][7] = -80
    arrays["encoder.layer.1.output.dense.weight"][2] *= 1e-6
    arrays["encoder.layer.0.output.LayerNorm.weight"][:4] = [30, -30, 1e-5, 0]
    arrays["encoder.layer.0.attention.output.LayerNorm.bias"][1] = 50
    model = EncoderModel.from_arrays(arrays, heads=2)
    made = quantise_encoder(model, tiny_models.sequences(), gptq=gptq)
    for layer in made.layers:
        for first in (layer.query, layer.output, layer.ffn_in, layer.ffn_out):
            assert first.shift.min() >= 1
            assert first.shift.max() <= 47
    assert mean_error(model, made) < 0.5


def test_gptq_comes_closer():
    model = tiny_models.model(hidden=32, ffn=96)
    sequences = tiny_models.sequences(32, count=200)
    nearest = mean_error(model, quantise_encoder(model, sequences))
    chosen = mean_error(model, quantise_encoder(model, sequences, gptq=True))
    assert chosen < nearest < 0.04


def test_gptq_keeps_integers_and_beats_rounding():
    rng = np.random.default_rng(9)
    mixing = rng.normal(size=(24, 24))
    inputs = rng.normal(size=(500, 24)) @ mixing
    weight = rng.uniform(-20, 20, size=(10, 24)).round(2)
    covariance = inputs.T @ inputs / 500
    assert_array_equal(round_gptq(weight.round(), covariance), weight.round().astype(np.int8), strict=True)

    def error(rounded: np.ndarray) -> float:
        return float((((weight - rounded) @ inputs.T) ** 2).mean())

    assert error(round_gptq(weight, covariance)) < 0.7 * error(np.rint(weight))
    assert np.abs(round_gptq(weight * 10, covariance).astype(int)).max() == 127


def test_progress_is_told(encoder: QuantisedEncoder):
    shares: list[float] = []
    made = quantise_encoder(tiny_models.model(), tiny_models.sequences(), progress=shares.append)
    assert shares == [0.5, 1.0]
    assert_equal_encoders(made, encoder)


def test_bad_calibration_is_refused():
    model = tiny_models.model()
    sequences = tiny_models.sequences()
    assert refusal(quantise_encoder, model, sequences[:63]) == (
        "calibration needs at least 64 sequences, not 63")
    assert refusal(quantise_encoder, model, [*sequences, np.zeros((2, 15), np.float32)]) == (
        "a calibration sequence must be [L, 16] with L at least 1, not [2, 15]")
    assert refusal(quantise_encoder, model, [*sequences, np.full((2, 16), np.nan, np.float32)]) == (
        "a calibration sequence must be finite")


def test_a_large_epsilon_is_refused():
    model = EncoderModel.from_arrays(tiny_models.arrays(embeddings=False), heads=2, epsilon=0.5)
    found = refusal(quantise_encoder, model, tiny_models.sequences())
    assert found.startswith("layer 0 doesn't fit the integer formats: layer_norm_eps must be at most a "
                            "hundredth of the smallest variance before the attention LayerNorm (")
    assert found.endswith("), not 0.5")


def test_a_file_gives_back_what_was_saved(encoder: QuantisedEncoder, tmp_path: Path):
    path = tmp_path / "tiny.safetensors"
    save_encoder(encoder, path, {"model": "tiny"})
    again, notes = load_encoder(path)
    assert_equal_encoders(again, encoder)
    assert notes == {"model": "tiny"}
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.safetensors"]


def rewrite(path: Path, change) -> None:
    """Change the metadata of a safetensors file, and nothing else."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    change(header["__metadata__"])
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def test_damaged_files_are_refused(encoder: QuantisedEncoder, tmp_path: Path):
    path = tmp_path / "tiny.safetensors"
    save_encoder(encoder, path)
    whole = path.read_bytes()

    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert refusal(load_encoder, path).startswith(f"{str(path)!r} is damaged: its checksum must be ")
    path.write_bytes(whole[:-1])
    assert refusal(load_encoder, path).startswith(f"{str(path)!r} must be a quantised encoder: ")
    path.write_bytes(whole)
    rewrite(path, lambda metadata: metadata.update(heads="4"))
    assert refusal(load_encoder, path).startswith(f"{str(path)!r} is damaged: its checksum must be ")
    path.write_bytes(whole)
    rewrite(path, lambda metadata: metadata.update(version="1"))
    assert refusal(load_encoder, path) == f"a quantised encoder must be of version 2, not 1 ({path})"
    path.write_bytes(whole)
    rewrite(path, lambda metadata: metadata.update(format="pt"))
    assert refusal(load_encoder, path) == (
        f"a quantised encoder must have the format 'celosia-quantised-encoder', not 'pt' ({path})")
    path.unlink()
    assert refusal(load_encoder, path).startswith(f"{str(path)!r} can't be read: No such file ")


def test_wrong_shapes_are_refused(encoder: QuantisedEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "tiny.safetensors"
    arrays = store._to_arrays(encoder)

    def save(changed) -> str:
        monkeypatch.setattr(store, "_to_arrays", lambda encoder: changed)
        save_encoder(encoder, path)
        return refusal(load_encoder, path)

    assert save({**arrays, "layers.1.output.bias": np.zeros(15, np.int32)}) == (
        f"layers.1.output.bias must be int32 [16], not int32 [15] ({path})")
    assert save({**arrays, "layers.1.gelu.shift": np.zeros(40, np.int32)}) == (
        f"layers.1.gelu.shift must be uint8 [40], not int32 [40] ({path})")
    assert save({name: array for name, array in arrays.items() if name != "layers.1.score"}) == (
        f"layers.1.score is missing from {str(path)!r}")


def test_a_file_is_written_whole_or_not_at_all(encoder: QuantisedEncoder, tmp_path: Path, monkeypatch):
    path = tmp_path / "tiny.safetensors"
    path.write_text("before")

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    assert refusal(save_encoder, encoder, path) == (
        f"the quantised encoder can't be written to {str(path)!r}: No space left on device")
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.safetensors"]
    assert path.read_text() == "before"
    missing = tmp_path / "nowhere" / "tiny.safetensors"
    assert refusal(save_encoder, encoder, missing) == (
        f"the quantised encoder can't be written to {str(missing)!r}: No such file or directory")
    assert refusal(save_encoder, encoder, path, {"heads": "3"}) == (
        "a note must not be called 'heads', which the file itself uses")


def test_a_model_is_quantised_once(tmp_path: Path):
    (tmp_path / "model").mkdir()
    model = EncoderModel.from_folder(tiny_models.write_folder(tmp_path / "model"))
    sentences = ["red cat sits", "green dog runs blue"] * 32
    shares: list[float] = []
    cache = tmp_path / "cache"
    first = load_or_quantise(model, sentences, cache, progress=shares.append)
    assert len(shares) == 2
    again = load_or_quantise(model, sentences, cache, progress=shares.append)
    assert len(shares) == 2, "the second time, the file is read"
    assert_equal_encoders(first, again)
    load_or_quantise(model, sentences, cache, gptq=False, progress=shares.append)
    assert len(shares) == 4, "other rounding, other file"
    for file in cache.iterdir():
        file.write_bytes(b"damaged")
    assert_equal_encoders(load_or_quantise(model, sentences, cache, progress=shares.append), first)
    assert len(shares) == 6, "a damaged file is made anew"
    (tmp_path / "file").write_text("")
    assert refusal(load_or_quantise, model, sentences, tmp_path / "file") == (
        f"the folder {str(tmp_path / 'file')!r} can't be made: File exists")


def test_the_sentences_are_what_they_are_said_to_be():
    calibration, evaluation = calibration_sentences(), evaluation_sentences()
    assert (len(calibration), len(evaluation)) == (196, 299)
    assert len({*calibration, *evaluation}) == 495
    try:
        model = EncoderModel.from_folder(find_default_model())
    except ModelError as error:
        pytest.skip(str(error))
    lengths = [len(model.tokenize(sentence)) - 2 for sentence in calibration + evaluation]
    assert (min(lengths), max(lengths)) == (5, 60)


def test_a_real_layer_keeps_its_meaning():
    """The first layer alone of the real model, plainly rounded: quick, and far closer than a wrong scale."""
    try:
        whole = EncoderModel.from_folder(find_default_model())
    except ModelError as error:
        pytest.skip(str(error))
    model = replace(whole, layers=whole.layers[:1])
    made = quantise_encoder(model, calibration_sequences(model, calibration_sentences()[:64]))
    check_ranges(made)
    for sentence in evaluation_sentences()[:8]:
        x = model.embed(model.tokenize(sentence))
        output = run_encoder(made, quantise_input(made, x))[-1]["output"] * made.output_scale
        assert model.pool(output) @ model.pool(model.encode(x)) > 0.998
