"""Tokenizers as model folders hold them, and each refusal by its whole sentence."""

import json
from pathlib import Path

import pytest
from celosia.firmware.model.model import EncoderModel, ModelError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import NFC, BertNormalizer, Lowercase, Sequence
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from tests import tiny_models
from tests.tiny_models import write_folder


def refusal(function, *args) -> str:
    with pytest.raises(ModelError) as caught:
        function(*args)
    return str(caught.value)


def with_normalizer(folder: Path, normalizer: object, **settings: object) -> EncoderModel:
    made = tiny_models.tokenizer({**{word: i for i, word in enumerate(tiny_models.WORDS[:10])}, "Red": 10})
    made.normalizer = normalizer
    write_folder(folder)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return EncoderModel.from_folder(folder)


@pytest.mark.parametrize(("own", "other", "ids"), [(False, True, [2, 4, 3]), (True, False, [2, 10, 3])])
@pytest.mark.parametrize("kind", [None, "BertTokenizer", "BertTokenizerFast"])
def test_where_both_files_state_a_case_it_is_said_which_is_taken(tmp_path: Path, own, other, ids, kind):
    model = with_normalizer(tmp_path, BertNormalizer(lowercase=own), do_lower_case=other, tokenizer_class=kind)
    assert model.tokenize("Red").tolist() == ids
    assert model.notes[1:] == (
        f"do_lower_case is {other} in tokenizer_config.json and {own} in tokenizer.json: the former is taken",)


def test_a_case_that_only_one_file_states_is_said_to_be_taken(tmp_path: Path):
    model = with_normalizer(tmp_path, BertNormalizer(lowercase=False))
    assert model.tokenize("Red").tolist() == [2, 10, 3]
    assert model.notes[1:] == (
        "do_lower_case is False in tokenizer.json, which is taken: tokenizer_config.json doesn't have it, and the "
        "library transformers would take True",)


def test_where_both_files_agree_nothing_is_said(tmp_path: Path):
    model = with_normalizer(tmp_path, BertNormalizer(lowercase=True), do_lower_case=True, strip_accents=None,
                            tokenize_chinese_chars=True)
    assert len(model.notes) == 1
    assert model.tokenize("Red").tolist() == [2, 4, 3]


def test_accents_are_kept_where_tokenizer_config_says_so(tmp_path: Path):
    model = with_normalizer(tmp_path, BertNormalizer(lowercase=True), strip_accents=False)
    assert model.tokenize("Réd").tolist() == [2, 1, 3]
    assert model.notes[1:] == (
        "strip_accents is False in tokenizer_config.json and None in tokenizer.json: the former is taken",)


def test_another_class_takes_tokenizer_json_as_it_is(tmp_path: Path):
    model = with_normalizer(tmp_path, BertNormalizer(lowercase=False), do_lower_case=True,
                            tokenizer_class="PreTrainedTokenizerFast")
    assert (model.tokenize("Red").tolist(), len(model.notes)) == ([2, 10, 3], 1)


@pytest.mark.parametrize("normalizer", [None, NFC(), BertNormalizer(lowercase=False), Lowercase(),
                                        BertNormalizer(lowercase=True), Sequence([NFC(), Lowercase()])])
def test_lower_case_goes_before_any_normalizer(tmp_path: Path, normalizer):
    (tmp_path / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    assert with_normalizer(tmp_path, normalizer).tokenize("Red").tolist() == [2, 4, 3]


@pytest.mark.parametrize(("files", "found"), [
    (["vocab.txt"], "vocab.txt"), (["merges.txt", "vocab.json"], "vocab.json, merges.txt"),
    (["sentencepiece.bpe.model"], "sentencepiece.bpe.model")])
def test_a_tokenizer_in_another_format_is_named(tmp_path: Path, files: list[str], found: str):
    folder = write_folder(tmp_path)
    (folder / "tokenizer.json").unlink()
    for name in files:
        (folder / name).write_text("red\n")
    assert refusal(EncoderModel.from_folder, folder) == (
        f"the tokenizer must be in tokenizer.json, and {str(folder)!r} has only {found}: save_pretrained of a fast "
        "tokenizer of the library transformers writes it")


@pytest.mark.parametrize(("file", "table", "sentence"), [
    ("added_tokens.json", {"red": 4, "[NEW]": 11},
     "added_tokens.json names the token '[NEW]', with the id 11, which tokenizer.json doesn't have ({path})"),
    ("added_tokens.json", {"red": 5},
     "added_tokens.json names the token 'red', with the id 5, which tokenizer.json has with the id 4 ({path})"),
    ("tokenizer_config.json", {"added_tokens_decoder": {"4": {"content": "red"}, "12": {"content": "[NEW]"}}},
     "tokenizer_config.json names the token '[NEW]', with the id 12, which tokenizer.json doesn't have ({path})"),
    ("tokenizer_config.json", {"extra_special_tokens": {"image": "[NEW]"}},
     "tokenizer_config.json names the token '[NEW]', which tokenizer.json doesn't have ({path})"),
    ("special_tokens_map.json", {"cls_token": "[CLS]", "additional_special_tokens": [{"content": "[NEW]"}]},
     "special_tokens_map.json names the token '[NEW]', which tokenizer.json doesn't have ({path})"),
    ("tokenizer_config.json", {"do_lower_case": "yes"}, None),
    ("tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"},
     "tokenizer_config.json asks for a tokenizer in Python, tokenizer_class = 'BertJapaneseTokenizer', and only "
     "tokenizer.json is read ({path})"),
    ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["mine.Tokenizer", None]}},
     "tokenizer_config.json asks for a tokenizer in Python, auto_map = {{'AutoTokenizer': ['mine.Tokenizer', None]}}, "
     "and only tokenizer.json is read ({path})"),
])
def test_a_file_that_changes_the_tokenizer_is_refused(tmp_path: Path, file: str, table: dict, sentence: str | None):
    folder = write_folder(tmp_path)
    (folder / file).write_text(json.dumps(table))
    if sentence is None:  # there is no BERT normalizer that it could change
        EncoderModel.from_folder(folder)
        return
    assert refusal(EncoderModel.from_folder, folder) == sentence.format(path=tmp_path / file)


def test_a_special_token_without_an_id_is_refused(tmp_path: Path):
    path = write_folder(tmp_path) / "tokenizer.json"
    table = json.loads(path.read_text())
    template = table["post_processor"]
    for processor in (template, {"type": "Sequence", "processors": [template]}):
        template["special_tokens"].pop("[SEP]", None)
        table["post_processor"] = processor
        path.write_text(json.dumps(table))
        assert refusal(EncoderModel.from_folder, tmp_path) == (
            f"tokenizer.json must have an id for the special token '[SEP]' of its post_processor ({path})")


def test_a_case_that_is_none_is_refused(tmp_path: Path):
    assert refusal(lambda: with_normalizer(tmp_path, BertNormalizer(), do_lower_case="yes")) == (
        f"do_lower_case must be true or false, not 'yes' ({tmp_path / 'tokenizer_config.json'})")


def test_texts_that_the_tokenizer_cannot_take_are_refused():
    made = Tokenizer(WordLevel({"red": 0, "[A]": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    model = EncoderModel.from_arrays(tiny_models.arrays(), heads=2, tokenizer=made)
    assert model.tokenize("red").tolist() == [0]
    assert refusal(model.tokenize, "blue") == (
        "the tokenizer can't take the text 'blue': WordLevel error: Missing [UNK] token from the vocabulary")
    made.post_processor = TemplateProcessing(single="[A]:0 $A:1", special_tokens=[("[A]", 1)])
    model = EncoderModel.from_arrays(tiny_models.arrays(), heads=2, tokenizer=made)
    assert refusal(model.tokenize, "red") == "the tokenizer must give every token of a text the type 0, not 1"
