"""Settings beside the encoder: length, prompts, similarity; each refusal by its whole sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from celosia.firmware.model.model import EncoderModel, ModelError
from celosia.firmware.model.sentences import calibration_sentences
from celosia.firmware.quantise.calibration import calibration_sequences

from tests.tiny_models import write_folder, write_module, write_modules_json

TEXT = "red cat sits green dog runs blue"  # 9 tokens with [CLS] and [SEP], of 12 positions
ENCODER, MODEL = "sentence_bert_config.json", "config_sentence_transformers.json"


def folder_with(folder: Path, **files: dict[str, Any]) -> Path:
    """A sentence-transformers folder; ``files`` by their names without .json."""
    write_module(folder, "1_Pooling", {"pooling_mode_mean_tokens": True})
    write_modules_json(write_folder(folder), "1_Pooling")
    for name, table in files.items():
        (folder / f"{name}.json").write_text(json.dumps(table))
    return folder


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        EncoderModel.from_folder(folder, **options)
    return str(caught.value)


def cut_note(length: int, source: str, kept: str = "first") -> str:
    return f"a text of more than {length} tokens is cut to its {kept} {length} ({source})"


def test_a_long_text_is_cut_and_its_cut_is_said(tmp_path: Path):
    model = EncoderModel.from_folder(folder_with(tmp_path, sentence_bert_config={"max_seq_length": 5}))
    assert model.notes == (cut_note(5, f"max_seq_length in {ENCODER}"),)
    assert model.tokenize(TEXT).tolist() == [2, 4, 7, 9, 3]
    assert model.text_notes(["red cat sits", TEXT, "red " * 50]) == (
        f"a text of 9 tokens is cut to its first 5: {TEXT!r}",
        "a text of 52 tokens is cut to its first 5: '" + "red " * 10 + "...'")
    assert model.max_tokens == 12
    np.testing.assert_array_equal(model.sentence_embedding(TEXT), model.sentence_embedding("red cat sits"))
    assert model.embed(np.full(12, 4)).shape == (12, 16)  # ids that come from elsewhere are not cut


def test_the_accelerator_may_take_less_than_the_model_cuts_to(tmp_path: Path):
    model = EncoderModel.from_folder(folder_with(tmp_path, sentence_bert_config={"max_seq_length": 7}))
    with pytest.raises(ModelError, match=f"^a text must have at most 6 tokens, not 9: '{TEXT}'$"):
        model.tokenize(TEXT, limit=6)
    assert model.tokenize(TEXT, limit=7).tolist() == [2, 4, 7, 9, 5, 8, 3]


@pytest.mark.parametrize(("files", "cut", "source"), [
    ({"sentence_bert_config": {"max_seq_length": 6}, "tokenizer_config": {"model_max_length": 5}}, 6,
     "max_seq_length in sentence_bert_config.json"),
    ({"sentence_roberta_config": {"max_seq_length": 6}}, 6, "max_seq_length in sentence_roberta_config.json"),
    ({"sentence_bert_config": {"max_seq_length": None}, "tokenizer_config": {"model_max_length": 5}}, 5,
     "model_max_length in tokenizer_config.json"),
    ({"tokenizer_config": {"model_max_length": 10**30}}, 12, "max_position_embeddings in config.json"),
    ({"sentence_bert_config": {"max_seq_length": 512}}, 12, "max_position_embeddings in config.json"),
    ({}, 12, "max_position_embeddings in config.json"),
])
def test_the_length_is_that_of_the_library(tmp_path: Path, files: dict, cut: int, source: str):
    model = EncoderModel.from_folder(folder_with(tmp_path, **files))
    assert (model.cut, model.notes) == (cut, (cut_note(cut, source),))
    assert len(model.tokenize("red " * 50)) == cut


def test_without_a_stated_length_a_text_is_not_cut(tmp_path: Path):
    model = EncoderModel.from_folder(write_folder(tmp_path))
    assert model.cut is None
    with pytest.raises(ModelError, match=r"^a text must have at most 12 tokens, not 52: "):
        model.tokenize("red " * 50)
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 8}')
    model = EncoderModel.from_folder(tmp_path)
    assert model.notes[1] == cut_note(8, "model_max_length in tokenizer_config.json")
    assert len(model.tokenize("red " * 50)) == 8


def test_a_text_can_lose_its_start(tmp_path: Path):
    model = EncoderModel.from_folder(folder_with(
        tmp_path, sentence_bert_config={"max_seq_length": 5}, tokenizer_config={"truncation_side": "left"}))
    assert model.notes == (cut_note(5, f"max_seq_length in {ENCODER}", "last"),)
    assert model.tokenize(TEXT).tolist() == [2, 8, 10, 6, 3]
    assert model.text_notes([TEXT]) == (f"a text of 9 tokens is cut to its last 5: {TEXT!r}",)


def test_sentences_to_calibrate_with_are_cut_to_any_model(tmp_path: Path):
    model = EncoderModel.from_folder(write_folder(tmp_path))
    sequences = calibration_sequences(model, calibration_sentences())
    assert max(len(x) for x in sequences) == 12


def test_lower_case_is_made_before_the_tokenizer(tmp_path: Path):
    plain = EncoderModel.from_folder(folder_with(tmp_path))
    assert plain.tokenize("Red CAT sits").tolist() == [2, 1, 1, 9, 3]
    (tmp_path / ENCODER).write_text('{"do_lower_case": true}')
    lower = EncoderModel.from_folder(tmp_path)
    assert lower.tokenize("Red CAT sits").tolist() == [2, 4, 7, 9, 3]
    assert lower.fingerprint != plain.fingerprint


PROMPTS = {"prompts": {"query": "blue dog ", "passage": "", "document": None}, "default_prompt_name": "query"}


def test_the_default_prompt_is_put_before_each_text(tmp_path: Path):
    model = EncoderModel.from_folder(folder_with(tmp_path, config_sentence_transformers=PROMPTS))
    assert model.tokenize("red cat").tolist() == [2, 6, 8, 4, 7, 3]
    assert model.notes[0] == f"'blue dog ' is put before each text (default_prompt_name in {MODEL})"
    cut = EncoderModel.from_folder(folder_with_cut(tmp_path, 5))
    assert cut.tokenize("red cat").tolist() == [2, 6, 8, 4, 3]


def folder_with_cut(folder: Path, length: int) -> Path:
    (folder / ENCODER).write_text(json.dumps({"max_seq_length": length}))
    return folder


def test_a_prompt_can_be_chosen_by_its_name(tmp_path: Path):
    folder = folder_with(tmp_path, config_sentence_transformers={**PROMPTS, "default_prompt_name": None})
    model = EncoderModel.from_folder(folder)
    assert model.tokenize("red cat").tolist() == [2, 4, 7, 3]
    assert model.notes[0] == (f"no prompt is put before the texts: {MODEL} has 'blue dog ' (query), and no "
                              "default_prompt_name")
    chosen = EncoderModel.from_folder(folder, prompt_name="query")
    assert chosen.tokenize("red cat").tolist() == [2, 6, 8, 4, 7, 3]
    assert chosen.notes[0] == "'blue dog ' is put before each text (the prompt 'query')"
    assert chosen.fingerprint != model.fingerprint
    for name in ("passage", "document"):
        assert EncoderModel.from_folder(folder, prompt_name=name).notes == model.notes[1:]
    assert refusal(folder, prompt_name="title") == (
        f"a prompt must be one of 'query', 'passage', 'document' in {MODEL}, not 'title' ({folder / MODEL})")


@pytest.mark.parametrize(("name", "expected"), [
    (None, 11 / np.sqrt(5 * 25)), ("cosine", 11 / np.sqrt(5 * 25)), ("dot", 11.0), ("euclidean", -np.sqrt(8)),
    ("manhattan", -4.0)])
def test_embeddings_are_compared_by_the_function_of_the_model(tmp_path: Path, name: str | None, expected: float):
    model = EncoderModel.from_folder(folder_with(tmp_path, config_sentence_transformers={"similarity_fn_name": name}))
    assert model.similarity(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == pytest.approx(expected)
    told = name not in (None, "cosine")
    assert (f"two texts are compared by {name}, not by the cosine (similarity_fn_name in {MODEL})"
            in model.notes) == told


def test_an_embedding_is_cut_to_its_first_numbers(tmp_path: Path):
    whole = EncoderModel.from_folder(folder_with(tmp_path)).sentence_embedding(TEXT)
    for width in (5, 99):
        (tmp_path / MODEL).write_text(json.dumps({"truncate_dim": width}))
        np.testing.assert_array_equal(EncoderModel.from_folder(tmp_path).sentence_embedding(TEXT), whole[:width])


def test_settings_that_change_nothing_are_taken(tmp_path: Path):
    text = {"method": "forward", "method_output_name": "last_hidden_state"}
    model = EncoderModel.from_folder(folder_with(
        tmp_path,
        sentence_bert_config={"transformer_task": "feature-extraction", "modality_config": {"text": text},
                              "module_output_name": "token_embeddings", "processing_kwargs": {}, "unpad_inputs": None,
                              "tokenizer_args": None, "model_args": {"torch_dtype": "float16"}},
        config_sentence_transformers={"__version__": {"sentence_transformers": "6.2.0"}, "truncate_dim": None,
                                      "model_type": "SentenceTransformer", "prompts": {"query": "", "document": ""}}))
    assert model.notes == (cut_note(12, "max_position_embeddings in config.json"),)


@pytest.mark.parametrize(("file", "table", "sentence"), [
    (ENCODER, {"max_seq_length": 0}, "max_seq_length must be a positive integer, not 0 ({path})"),
    (ENCODER, {"max_seq_length": 2.5}, "max_seq_length must be a positive integer, not 2.5 ({path})"),
    (ENCODER, {"max_seq_length": 2},
     "max_seq_length must be at least 3, the special tokens and one more, not 2 ({path})"),
    (ENCODER, {"do_lower_case": "yes"}, "do_lower_case must be true or false, not 'yes' ({path})"),
    (ENCODER, {"transformer_task": "fill-mask"},
     f"{ENCODER} asks for transformer_task = 'fill-mask', which isn't known ({{path}})"),
    (ENCODER, {"query_expansion": {"strategy": "fixed"}},
     f"{ENCODER} asks for query_expansion = {{{{'strategy': 'fixed'}}}}, which isn't known ({{path}})"),
    (ENCODER, {"tokenizer_args": {"model_max_length": 8}},
     f"{ENCODER} asks for tokenizer_args = {{{{'model_max_length': 8}}}}, which isn't known ({{path}})"),
    (ENCODER, {"modality_config": {"text": {"method": "get_text_features"}}},
     f"{ENCODER} asks for modality_config = {{{{'text': {{{{'method': 'get_text_features'}}}}}}}}, which isn't known "
     "({path})"),
    (MODEL, {"model_type": "SparseEncoder"}, "model_type must be 'SentenceTransformer', not 'SparseEncoder' ({path})"),
    (MODEL, {"truncate_dim": 0}, "truncate_dim must be a positive integer, not 0 ({path})"),
    (MODEL, {"query_prefix": "[Q] "}, f"{MODEL} asks for query_prefix = '[Q] ', which isn't known ({{path}})"),
    (MODEL, {"similarity_fn_name": "maxsim"},
     "similarity_fn_name must be cosine, dot, euclidean, manhattan, not 'maxsim' ({path})"),
    (MODEL, {"prompts": ["query: "]}, "prompts must be texts by their names, not ['query: '] ({path})"),
    (MODEL, {"default_prompt_name": "query"}, f"a prompt must be one of none in {MODEL}, not 'query' ({{path}})"),
    ("tokenizer_config.json", {"model_max_length": -1}, "model_max_length must be a positive integer, not -1 ({path})"),
    ("tokenizer_config.json", {"truncation_side": "both"},
     "truncation_side must be 'left' or 'right', not 'both' ({path})"),
])
def test_a_setting_is_refused(tmp_path: Path, file: str, table: dict, sentence: str):
    folder_with(tmp_path)
    (tmp_path / file).write_text(json.dumps(table))
    assert refusal(tmp_path) == sentence.format(path=tmp_path / file)
