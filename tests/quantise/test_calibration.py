"""Calibration: which sequences are made of which texts, for which model, and each refusal by its whole sentence."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from celosia.firmware.model.model import EncoderModel, ModelError, find_default_model
from celosia.firmware.model.sentences import calibration_sentences, evaluation_kinds
from celosia.firmware.quantise import calibration
from celosia.firmware.quantise.calibration import calibration_sequences
from celosia.firmware.quantise.quantise import quantise_input
from celosia.session import quantise
from celosia.sim.golden.encoder import run_encoder
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from tests import tiny_models


@pytest.fixture
def model(tmp_path: Path) -> EncoderModel:
    return EncoderModel.from_folder(tiny_models.write_folder(tmp_path))


def with_positions(model: EncoderModel, positions: int) -> EncoderModel:
    tables = replace(model.embeddings, position=np.resize(model.embeddings.position, (positions, model.hidden)))
    return replace(model, embeddings=tables, max_tokens=positions)


def chosen(model: EncoderModel, texts: list[str]) -> list[list[int]]:
    """The token ids of the sequences, by a model that gives them back instead of their embeddings."""
    found: list[list[int]] = []

    class Listener:
        def __getattr__(self, name: str):
            return getattr(model, name)

        def embed(self, ids: np.ndarray) -> np.ndarray:
            found.append(ids.tolist())
            return model.embed(ids)

    assert len(calibration_sequences(Listener(), texts)) == len(found)
    return found


def test_every_exported_name_is_there():
    assert all(hasattr(calibration, name) for name in calibration.__all__)


def test_sequences_are_texts_fragments_and_joined_texts(model: EncoderModel):
    red, green, blue, cat, dog, sits, runs = range(4, 11)
    found = chosen(model, ["red cat sits green dog runs", "blue"] * 16)
    assert found[:2] == [[2, red, cat, sits, green, dog, runs, 3], [2, blue, 3]]
    assert found[32:37] == [[2, red, 3], [2, green, dog, 3], [2, sits, green, dog, 3],
                            [2, red, cat, sits, green, 3], [2, blue, 3]]
    assert [len(ids) for ids in found[32 + 128 : 32 + 128 + 8]] == [4, 5, 6, 7, 8, 9, 10, 12]
    assert found[32 + 128] == [2, red, cat, 3]
    assert found[32 + 129] == [2, sits, green, dog, 3], "the next goes on where the last ended"


@pytest.mark.parametrize("positions", [1, 2, 3, 5, 12, 40])
def test_sequences_fit_the_model(model: EncoderModel, positions: int):
    """Whatever the model's length, longer texts are cut into pieces, and every word takes part."""
    text = "red cat sits green dog runs blue " * 5
    found = chosen(with_positions(model, positions), [text])
    assert max(map(len, found)) == positions
    if positions > 2:
        body = [token for ids in found[: -(-35 // (positions - 2))] for token in ids[1:-1]]
        assert body == [4, 7, 9, 5, 8, 10, 6] * 5


def test_every_token_and_length_of_a_small_vocabulary_is_seen(model: EncoderModel):
    found = chosen(with_positions(model, 200), ["red cat"])
    assert {token for ids in found for token in ids} == set(range(11))
    runs = {len(ids) - 2 for ids in found if len({*ids[1:-1]}) == 1}
    assert {1, 2, 3, 4, 6, 9, 16, 32, 80} <= runs, "one token many times"
    assert max(map(len, found)) == 200, "joined texts go up to the model's length"


def test_a_tokenizer_without_special_tokens_is_taken(model: EncoderModel):
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(tiny_models.WORDS)}, unk_token="[UNK]"))
    found = chosen(replace(model, tokenizer=tokenizer), ["red", ""])
    assert [4] in found
    assert [] not in found


def refusal(function, *args, **kwargs) -> str:
    with pytest.raises(ModelError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize(("texts", "sentence"), [
    ("red cat", "calibration needs a sequence of texts, not the one text 'red cat'"),
    ([], "calibration needs at least 1 text, not 0"),
    (7, "calibration needs a sequence of texts, not int"),
    (["red", b"cat"], "a text to calibrate with must be a string, and number 1 is bytes"),
])
def test_what_is_no_text_is_refused(model: EncoderModel, texts, sentence: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CELOSIA_CACHE", str(tmp_path / "cache"))
    assert refusal(calibration_sequences, model, texts) == sentence
    assert refusal(quantise, model, calibration=texts) == sentence


def test_bare_layers_take_no_text():
    assert refusal(calibration_sequences, tiny_models.model(), ["red"]) == (
        "the model arrays has no tokenizer, so it takes no text")


def test_own_texts_calibrate(model: EncoderModel, tmp_path: Path, monkeypatch):
    """Other texts, other scales; and the same again from the cache."""
    monkeypatch.setenv("CELOSIA_CACHE", str(tmp_path / "cache"))
    shipped = quantise(model)
    shares: list[float] = []
    own = quantise(model, calibration=["red cat", "blue dog runs"], progress=shares.append)
    assert shares == [0.5, 1.0]
    assert own.layers[0].query.bias.tolist() != shipped.layers[0].query.bias.tolist()
    quantise(model, calibration=["red cat", "blue dog runs"], progress=shares.append)
    assert len(shares) == 2
    x = model.embed(model.tokenize("green dog sits"))
    output = run_encoder(own, quantise_input(own, x))[-1]["output"] * own.output_scale
    assert np.abs(output - model.encode(x)).max() < 0.5


def test_the_shipped_texts_fit_a_model_of_few_positions():
    try:
        whole = EncoderModel.from_folder(find_default_model())
    except ModelError as error:
        pytest.skip(str(error))
    lengths = [len(x) for x in calibration_sequences(with_positions(whole, 48), calibration_sentences())]
    assert max(lengths) == 48


def test_the_other_evaluation_texts_are_not_used_for_calibration():
    """But for single tokens, which any text has."""
    try:
        model = EncoderModel.from_folder(find_default_model())
    except ModelError as error:
        pytest.skip(str(error))
    kinds = evaluation_kinds()
    assert list(kinds) == ["scripts", "code", "numbers", "degenerate"]
    assert min(map(len, kinds.values())) >= 8
    used = {tuple(ids) for ids in chosen(model, calibration_sentences())}
    ids = [tuple(model.tokenize(text).tolist()) for texts in kinds.values() for text in texts]
    assert not {text for text in ids if len(text) > 3} & used


def test_of_many_texts_an_even_sample_is_taken(model: EncoderModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(calibration, "_MOST_TEXTS", 3)
    few, many = ["red", "blue", "cat"], ["red", "red", "blue", "blue", "cat", "cat"]
    found = [np.concatenate(calibration_sequences(model, texts)) for texts in (few, many)]
    np.testing.assert_array_equal(*found)


def test_a_text_that_no_tokenizer_takes_is_refused(model: EncoderModel):
    assert refusal(calibration_sequences, model, ["\ud800"]).startswith("the tokenizer can't take the text ")
