"""The main job on a model whose folder asks for more than an encoder: embeddings, similarity and notes are its own."""

import json

import numpy as np
import pytest
from celosia.firmware.driver.driver import Accelerator
from celosia.firmware.driver.transport import FunctionalTransport
from celosia.firmware.model.model import EncoderModel
from celosia.firmware.model.sentences import calibration_sentences
from celosia.firmware.quantise.calibration import calibration_sequences
from celosia.firmware.quantise.quantise import quantise_encoder, quantise_input
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.registers import register
from celosia.runner import run_texts
from celosia.session import simulate
from celosia.sim.golden.encoder import run_encoder

from tests.tiny_models import write_folder, write_module, write_modules_json


def test_a_run_follows_the_folder_of_the_model(tmp_path):
    weight = np.random.default_rng(7).normal(size=(6, 16)).astype(np.float32)
    write_module(tmp_path, "1_Pooling", {"embedding_dimension": 16, "pooling_mode": "max"})
    write_module(tmp_path, "2_Dense", {"in_features": 16, "out_features": 6, "bias": False,
                                       "activation_function": "torch.nn.modules.linear.Identity"},
                 {"linear.weight": weight})
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    (tmp_path / "config_sentence_transformers.json").write_text('{"similarity_fn_name": "dot"}')
    model = EncoderModel.from_folder(write_modules_json(write_folder(tmp_path), "1_Pooling", "2_Dense"))
    encoder = quantise_encoder(model, calibration_sequences(model, calibration_sentences()))
    texts = ["red cat", "green dog runs blue sits"]
    accelerator = simulate("tiny", observed=True)
    report = run_texts(accelerator, model, encoder, texts)

    assert report.bit_exact
    assert [row.tokens for row in report.texts] == [4, 5]
    cut = "a text of more than 5 tokens is cut to its first 5 (max_seq_length in sentence_bert_config.json)"
    assert report.notes == (
        "two texts are compared by dot, not by the cosine (similarity_fn_name in config_sentence_transformers.json)",
        cut, "a text of 7 tokens is cut to its first 5: 'green dog runs blue sits'")
    assert json.loads(json.dumps(report.to_json()))["notes"] == list(report.notes)

    def embedding(tokens: np.ndarray) -> np.ndarray:
        return weight @ tokens.max(axis=0)

    floats = [model.embed(model.tokenize(text)) for text in texts]
    a, b = (embedding(model.encode(x)) for x in floats)
    a8, b8 = (embedding(run_encoder(encoder, quantise_input(encoder, x))[-1]["output"] * encoder.output_scale)
              for x in floats)
    assert report.similarity == pytest.approx((a @ b, a8 @ b8), rel=1e-5)
    cosines = [x @ y / np.sqrt((x @ x) * (y @ y)) for x, y in ((a, a8), (b, b8))]
    assert [row.cosine for row in report.texts] == pytest.approx(cosines, rel=1e-6)
    assert min(cosines) > 0.98


class _LongRun(FunctionalTransport):
    """Has read so many bytes that their counter has stopped."""

    def read_register(self, offset):
        return 1 << 31 if offset == register("read_bytes_low").offset else super().read_register(offset)


def test_a_report_names_the_counters_that_stopped(tmp_path):
    model = EncoderModel.from_folder(write_folder(tmp_path))
    encoder = quantise_encoder(model, calibration_sequences(model, calibration_sentences()))
    note = "the counter read_bytes stopped, and shows less than there was: raise counter_bits, which is 32"
    for bits, notes in ((32, (note,)), (33, ())):
        config = AcceleratorConfig(counter_bits=bits)
        report = run_texts(Accelerator(_LongRun(config, 1 << 20), config), model, encoder, ["red cat"])
        assert report.bit_exact
        assert report.notes[len(model.notes):] == notes
