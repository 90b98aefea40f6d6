"""What follows the encoder: every module against a reference of its own, and each refusal by its whole sentence."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from celosia.firmware.model.model import EncoderModel, ModelError

from tests import tiny_models
from tests.tiny_models import write_folder, write_module, write_modules_json

TEXT = "red cat sits green dog runs"
FLAGS = ["cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
ROOM = "sentence_transformers.sentence_transformer.modules"


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        EncoderModel.from_folder(folder)
    return str(caught.value)


def pooled(tokens: np.ndarray, mode: str, start: int = 0) -> np.ndarray:
    """Written out token by token, of those from ``start`` on."""
    rows = [(place, row) for place, row in enumerate(tokens, 1) if place > start]
    if mode in ("cls", "lasttoken"):
        return rows[0 if mode == "cls" else -1][1]
    if mode == "max":
        return np.array([max(row[column] for _, row in rows) for column in range(tokens.shape[1])])
    scale = {"mean": len(rows), "mean_sqrt_len_tokens": math.sqrt(len(rows)),
             "weightedmean": sum(place for place, _ in rows)}[mode]
    return sum((place if mode == "weightedmean" else 1) * row for place, row in rows) / scale


def encoded(folder: Path) -> tuple[EncoderModel, np.ndarray]:
    """The model, and the output of its last layer for the text."""
    model = EncoderModel.from_folder(folder)
    return model, model.encode(model.embed(model.tokenize(TEXT)).astype(np.float64))


def with_pooling(folder: Path, config: dict | None = None, *more: str, types: dict[str, str] | None = None) -> Path:
    write_module(folder, "1_Pooling", {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
                 if config is None else config)
    return write_modules_json(write_folder(folder), "1_Pooling", *more, types=types)


@pytest.mark.parametrize("written", ["flags", "name", "list"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pooling_in_every_version(tmp_path: Path, mode: str, written: str):
    config = {"flags": {"word_embedding_dimension": 16,
                        **{f"pooling_mode_{flag}": name == mode for flag, name in zip(FLAGS, MODES, strict=True)}},
              "name": {"embedding_dimension": 16, "pooling_mode": mode, "include_prompt": True},
              "list": {"embedding_dimension": 16, "pooling_mode": [mode]}}[written]
    model, tokens = encoded(with_pooling(tmp_path, config))
    assert model.pooling == mode
    np.testing.assert_allclose(model.pool(tokens), pooled(tokens, mode), atol=1e-12)  # not scaled: no Normalize


def test_vectors_of_several_modes_are_joined(tmp_path: Path):
    flags = {f"pooling_mode_{flag}": True for flag in reversed(FLAGS)}
    model, tokens = encoded(with_pooling(tmp_path, {"word_embedding_dimension": 16, **flags}))
    np.testing.assert_allclose(model.pool(tokens), np.concatenate([pooled(tokens, mode) for mode in MODES]), atol=1e-12)
    named = {"embedding_dimension": 16, "pooling_mode": ["lasttoken", "mean"]}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(named))
    model, tokens = encoded(tmp_path)
    assert model.pooling == "lasttoken+mean"
    np.testing.assert_allclose(model.pool(tokens), np.concatenate([tokens[-1], tokens.mean(axis=0)]), atol=1e-12)


def test_a_pooling_that_names_no_mode_takes_the_mean(tmp_path: Path):
    assert EncoderModel.from_folder(with_pooling(tmp_path, {"word_embedding_dimension": 16})).pooling == "mean"


def test_masked_tokens_have_no_part(tmp_path: Path):
    mask = np.array([False, True, True, True, False, True, True, False])
    for mode in MODES:
        folder = tmp_path / mode
        folder.mkdir()
        model, tokens = encoded(with_pooling(folder, {"embedding_dimension": 16, "pooling_mode": mode}))
        places = np.flatnonzero(mask)
        if mode == "weightedmean":  # places count from the first token that takes part
            expected = (tokens[places] * places[:, None]).sum(axis=0) / places.sum()
        else:
            expected = pooled(tokens[mask], mode)
        np.testing.assert_allclose(model.pool(tokens, mask), expected, atol=1e-12)
    with pytest.raises(ModelError, match=r"^an embedding needs more than 0 tokens, not 0$"):
        model.pool(tokens, np.zeros(8, bool))


def test_a_prompt_can_be_left_out_of_the_pooling(tmp_path: Path):
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(
        {"prompts": {"query": "red cat "}, "default_prompt_name": "query"}))
    for mode in MODES:
        config = {"embedding_dimension": 16, "pooling_mode": mode, "include_prompt": False}
        if mode == MODES[0]:
            with_pooling(tmp_path, config)
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(config))
        model = EncoderModel.from_folder(tmp_path)
        ids = model.tokenize("dog runs")
        assert ids.tolist() == [2, 4, 7, 8, 10, 3]
        tokens = model.encode(model.embed(ids).astype(np.float64))
        start = 0 if mode == "cls" else 3
        np.testing.assert_allclose(model.pool(tokens), pooled(tokens, mode, start=start), atol=1e-12)
    with pytest.raises(ModelError, match=r"^an embedding needs more than 3 tokens, those of the prompt, not 3$"):
        model.pool(tokens[:3])


def test_the_whole_chain_in_float_and_in_integers(tmp_path: Path):
    rng = np.random.default_rng(3)
    weight, bias, gain, shift = (rng.normal(size=size).astype(np.float32) for size in ((24, 32), 24, 24, 24))
    write_module(tmp_path, "2_Dense", {"in_features": 32, "out_features": 24, "bias": True,
                                       "activation_function": "torch.nn.modules.activation.Tanh"},
                 {"linear.weight": weight, "linear.bias": bias})
    write_module(tmp_path, "3_LayerNorm", {"dimension": 24}, {"norm.weight": gain, "norm.bias": shift})
    write_module(tmp_path, "4_Dropout", {"dropout": 0.2})
    folder = with_pooling(tmp_path, {"embedding_dimension": 16, "pooling_mode": ["cls", "mean"]}, "2_Dense",
                          "3_LayerNorm", "4_Dropout", "5_Normalize")  # a Normalize has no folder in older versions
    model, tokens = encoded(folder)

    def reference(tokens: np.ndarray) -> np.ndarray:
        x = np.tanh(weight @ np.concatenate([tokens[0], tokens.mean(axis=0)]) + bias)
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5) * gain + shift
        return x / math.sqrt(sum(x * x))

    np.testing.assert_allclose(model.pool(tokens), reference(tokens), atol=1e-6)
    assert model.pool(tokens.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(model.pool(tokens.astype(np.float32)), reference(tokens), atol=1e-5)
    codes = rng.integers(-127, 128, (8, 16), dtype=np.int8)
    np.testing.assert_array_equal(model.pool(codes), model.pool(codes.astype(np.float64)))
    np.testing.assert_allclose(model.pool(codes * 0.05), reference(codes * 0.05), atol=1e-6)
    np.testing.assert_allclose(model.sentence_embedding(TEXT), reference(tokens), atol=1e-5)


@pytest.mark.parametrize(("activation", "function"), [
    ("torch.nn.modules.linear.Identity", lambda x: x),
    ("torch.nn.modules.activation.ReLU", lambda x: max(x, 0)),
    ("torch.nn.modules.activation.GELU", lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
    ("torch.nn.modules.activation.Sigmoid", lambda x: 1 / (1 + math.exp(-x))),
    ("torch.nn.modules.activation.SiLU", lambda x: x / (1 + math.exp(-x))),
    ("torch.nn.modules.activation.LeakyReLU", lambda x: x if x > 0 else x / 100),
    (None, math.tanh),
])
@pytest.mark.parametrize("bias", [True, False])
def test_a_dense_module(tmp_path: Path, activation: str | None, function, bias: bool):
    rng = np.random.default_rng(4)
    arrays = {"linear.weight": rng.normal(size=(5, 16)).astype(np.float32)}
    config = {"in_features": 16, "out_features": 5, "bias": bias}
    if activation:
        config["activation_function"] = activation
    if bias:
        arrays["linear.bias"] = rng.normal(size=5).astype(np.float32)
    write_module(tmp_path, "2_Dense", config, arrays)
    model, tokens = encoded(with_pooling(tmp_path, None, "2_Dense"))
    sums = arrays["linear.weight"] @ pooled(tokens, "mean") + arrays.get("linear.bias", 0)
    np.testing.assert_allclose(model.pool(tokens), [function(float(x)) for x in sums], atol=1e-6)


@pytest.mark.parametrize("out", [16, 6])
def test_a_dense_module_beside_its_input(tmp_path: Path, out: int):
    rng = np.random.default_rng(5)
    arrays = {"linear.weight": rng.normal(size=(out, 16)).astype(np.float32)}
    if out != 16:
        arrays["residual.weight"] = rng.normal(size=(out, 16)).astype(np.float32)
    write_module(tmp_path, "2_Dense", {"in_features": 16, "out_features": out, "bias": False, "use_residual": True,
                                       "activation_function": "torch.nn.modules.activation.ReLU"}, arrays)
    model, tokens = encoded(with_pooling(tmp_path, None, "2_Dense"))
    x = pooled(tokens, "mean")
    expected = np.maximum(arrays["linear.weight"] @ x, 0) + (x if out == 16 else arrays["residual.weight"] @ x)
    np.testing.assert_allclose(model.pool(tokens), expected, atol=1e-6)


def test_modules_of_each_token_before_the_pooling(tmp_path: Path):
    weight = np.random.default_rng(6).normal(size=(8, 16)).astype(np.float32)
    write_module(tmp_path, "1_Dense", {"in_features": 16, "out_features": 8, "bias": False,
                                       "activation_function": "torch.nn.modules.linear.Identity",
                                       "module_input_name": "token_embeddings"}, {"linear.weight": weight})
    write_module(tmp_path, "2_Normalize", {"module_input_name": "token_embeddings",
                                           "module_output_name": "token_embeddings"})
    write_module(tmp_path, "3_Pooling", {"embedding_dimension": 8, "pooling_mode": "max"})
    model, tokens = encoded(write_modules_json(write_folder(tmp_path), "1_Dense", "2_Normalize", "3_Pooling"))
    rows = [row / math.sqrt(row @ row) for row in tokens @ weight.T]
    np.testing.assert_allclose(model.pool(tokens), pooled(np.array(rows), "max"), atol=1e-6)


def test_an_embedding_without_length_stays_zero(tmp_path: Path):
    write_module(tmp_path, "2_Dense", {"in_features": 16, "out_features": 4, "bias": False,
                                       "activation_function": "torch.nn.modules.activation.ReLU"},
                 {"linear.weight": np.zeros((4, 16), np.float32)})
    model, tokens = encoded(with_pooling(tmp_path, None, "2_Dense", "3_Normalize"))
    assert model.pool(tokens).tolist() == [0, 0, 0, 0]
    assert model.similarity(model.pool(tokens), model.pool(tokens)) == 0


def test_folders_are_those_that_modules_json_names(tmp_path: Path):
    (tmp_path / "0_Transformer").mkdir()
    write_folder(tmp_path / "0_Transformer")
    (tmp_path / "0_Transformer" / "sentence_bert_config.json").write_text('{"max_seq_length": 7}')
    write_module(tmp_path, "1_Pooling", {"pooling_mode_cls_token": True})  # of another version, and not named
    write_module(tmp_path, "pooled_by_max", {"pooling_mode": "max", "embedding_dimension": 16})
    types = {"0_Transformer": "sentence_transformers.base.modules.transformer.Transformer",
             "pooled_by_max": f"{ROOM}.pooling.Pooling", "": "sentence_transformers.models.Normalize.Normalize"}
    (tmp_path / "modules.json").write_text(json.dumps(
        [{"idx": 9 - i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(types.items())]))
    (tmp_path / "config.json").write_text("{}")  # of the Normalize, whose folder is the model's own
    model, tokens = encoded(tmp_path)
    assert (model.pooling, model.cut, model.max_tokens) == ("max", 7, 12)
    expected = pooled(tokens, "max")
    np.testing.assert_allclose(model.pool(tokens), expected / math.sqrt(expected @ expected), atol=1e-12)


def test_without_modules_json_the_mean_is_said_to_be_taken(tmp_path: Path):
    model, tokens = encoded(write_folder(tmp_path))
    assert model.notes == (
        "there is no modules.json: the tokens are pooled by their mean, and the embedding is scaled to unit length",)
    mean = pooled(tokens, "mean")
    np.testing.assert_allclose(model.pool(tokens), mean / math.sqrt(mean @ mean), atol=1e-12)


def test_without_modules_json_numbered_folders_are_said_to_be_taken(tmp_path: Path):
    for name in ("onnx", "1_backup"):
        (tmp_path / name).mkdir()
    write_module(tmp_path, "1_Pooling", {"word_embedding_dimension": 16, "pooling_mode_cls_token": True})
    write_folder(tmp_path)
    model, tokens = encoded(tmp_path)
    assert model.notes == ("there is no modules.json: what follows the encoder is taken from the folders 1_Pooling, "
                           "and the embedding is scaled to unit length",)
    np.testing.assert_allclose(model.pool(tokens), tokens[0] / math.sqrt(tokens[0] @ tokens[0]), atol=1e-12)
    weight = np.eye(16, dtype=np.float32)[:3]
    write_module(tmp_path, "2_Dense", {"in_features": 16, "out_features": 3, "bias": False,
                                       "activation_function": "torch.nn.modules.linear.Identity"},
                 {"linear.weight": weight})
    write_module(tmp_path, "10_Normalize")
    model, tokens = encoded(tmp_path)
    assert model.notes == ("there is no modules.json: what follows the encoder is taken from the folders 1_Pooling, "
                           "2_Dense, 10_Normalize",)
    start = tokens[0][:3]
    np.testing.assert_allclose(model.pool(tokens), start / math.sqrt(start @ start), atol=1e-12)


def test_numbered_folders_that_say_too_little_are_refused(tmp_path: Path):
    write_folder(tmp_path)
    write_module(tmp_path, "2_Dense", {})
    assert refusal(tmp_path) == f"modules.json is needed to say how 2_Dense follows the encoder ({tmp_path})"
    write_module(tmp_path, "3_CNN", {})
    assert refusal(tmp_path) == (
        "the folder 3_CNN must be that of a Pooling, Dense, LayerNorm, Normalize, Dropout, or modules.json must say "
        f"what it is ({tmp_path / '3_CNN'})")


KNOWN = "a module must be Transformer, Pooling, Dense, LayerNorm, Normalize, Dropout of the library "


@pytest.mark.parametrize("kind", [
    "sentence_transformers.models.CNN", "sentence_transformers.models.WordWeights", "sentence_transformers.models.LSTM",
    "sentence_transformers.models.WeightedLayerPooling", "sentence_transformers.base.modules.router.Router",
    "sentence_transformers.sparse_encoder.models.SpladePooling", "pylate.models.Dense.Dense", "my_own.Pooling"])
def test_another_module_is_refused_by_name(tmp_path: Path, kind: str):
    folder = with_pooling(tmp_path, None, "2_More", types={"2_More": kind})
    assert refusal(folder) == f"{KNOWN}sentence_transformers, not {kind!r} ({tmp_path / 'modules.json'})"


def test_a_list_of_modules_that_is_no_chain_is_refused(tmp_path: Path):
    write_folder(tmp_path)
    index = tmp_path / "modules.json"

    def listed(*entries: object) -> str:
        index.write_text(json.dumps(entries))
        return refusal(tmp_path)

    def module(kind: str, path: str = "") -> dict:
        return {"path": path, "type": f"sentence_transformers.models.{kind}"}

    must = "modules.json must list one Transformer, and it first, not "
    assert listed() == f"{must}nothing ({index})"
    assert listed(module("Pooling")) == f"{must}Pooling ({index})"
    assert listed(module("Transformer"), module("Transformer")) == f"{must}Transformer, Transformer ({index})"
    assert listed(module("Transformer")) == (
        "modules.json must list a Pooling, which makes one vector of the tokens, and lists Transformer alone")
    assert listed(module("Transformer"), module("Normalize", "2_Normalize")) == (
        "2_Normalize needs a sentence_embedding, and no module before it makes one")
    assert listed(module("Transformer"), 7) == (
        f"each module in modules.json must have a path and a type, not 7 ({index})")
    for path in ("../other", "/etc", "a/../../b", "c:\\x"):
        assert listed(module("Transformer", path)) == (
            f"the path of a module must be a folder of the model, not {path!r} ({index})")
    index.write_text("{}")
    assert refusal(tmp_path) == f"modules.json must hold a JSON list, not dict ({index})"


@pytest.mark.parametrize(("config", "sentence"), [
    ({"pooling_mode_mean_tokens": False}, "one of pooling_mode_mean_tokens must be true ({config})"),
    ({"pooling_mode_mean_tokens": 1}, "pooling_mode_mean_tokens must be true or false, not 1 ({config})"),
    ({"pooling_mode": "median"},
     "pooling must be cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken, or several of them, not 'median'"),
    ({"pooling_mode": []},
     "pooling must be cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken, or several of them, not []"),
    ({"pooling_mode_median_tokens": True},
     "1_Pooling/config.json asks for pooling_mode_median_tokens = True, which isn't known ({config})"),
    ({"embedding_dimension": 384, "pooling_mode": "mean"},
     "embedding_dimension of 1_Pooling must be 16, the width of what comes before it, not 384"),
    ({"include_prompt": "no", "pooling_mode": "mean"}, "include_prompt must be true or false, not 'no' ({config})"),
])
def test_a_pooling_is_refused(tmp_path: Path, config: dict, sentence: str):
    folder = with_pooling(tmp_path, config)
    assert refusal(folder) == sentence.format(config=tmp_path / "1_Pooling" / "config.json")


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"in_features": 32}, "in_features of 2_Dense must be 16, the width of what comes before it, not 32"),
    ({"out_features": 0}, "out_features must be a positive integer, not 0 ({config})"),
    ({"out_features": 5}, "linear.weight of 2_Dense must have the shape [5, 16], not [4, 16] ({folder})"),
    ({"bias": False}, "linear.bias is among the weights of 2_Dense, whose config.json asks for linear.weight alone "
                      "({folder})"),
    ({"use_residual": True}, "residual.weight is missing from the weights of 2_Dense ({folder})"),
    ({"activation_function": "torch.nn.modules.activation.PReLU"},
     "activation_function must be Identity, Tanh, ReLU, GELU, Sigmoid, SiLU, LeakyReLU of torch.nn, not "
     "'torch.nn.modules.activation.PReLU' ({config})"),
    ({"activation_function": "my_own.Tanh"},
     "activation_function must be Identity, Tanh, ReLU, GELU, Sigmoid, SiLU, LeakyReLU of torch.nn, not 'my_own.Tanh' "
     "({config})"),
    ({"module_input_name": "scores"},
     "module_input_name must be 'token_embeddings' or 'sentence_embedding', not 'scores' ({config})"),
    ({"module_output_name": "scores"},
     "module_output_name must be module_input_name, 'sentence_embedding', not 'scores' ({config})"),
    ({"dropout": 0.1}, "2_Dense/config.json asks for dropout = 0.1, which isn't known ({config})"),
])
def test_a_dense_module_is_refused(tmp_path: Path, changes: dict, sentence: str):
    config = {"in_features": 16, "out_features": 4, "bias": True,
              "activation_function": "torch.nn.modules.activation.Tanh", **changes}
    write_module(tmp_path, "2_Dense", config, {"linear.weight": np.ones((4, 16), np.float32),
                                               "linear.bias": np.ones(4, np.float32)})
    folder = with_pooling(tmp_path, None, "2_Dense")
    assert refusal(folder) == sentence.format(config=tmp_path / "2_Dense" / "config.json", folder=tmp_path / "2_Dense")


def test_weights_of_a_module_are_refused_as_those_of_the_encoder(tmp_path: Path):
    write_module(tmp_path, "2_Dense", {"in_features": 16, "out_features": 4, "bias": False})
    folder = with_pooling(tmp_path, None, "2_Dense")
    (tmp_path / "2_Dense" / "pytorch_model.bin").write_bytes(b"weights")
    assert refusal(folder) == (
        "the weights must be in model.safetensors, or in files that model.safetensors.index.json names, and "
        f"{str(tmp_path / '2_Dense')!r} has only pytorch_model.bin: save_pretrained of the library that wrote it "
        "writes that format")
    tiny_models.save_file({"linear.weight": np.full((4, 16), np.nan, np.float32)},
                          tmp_path / "2_Dense" / "model.safetensors")
    assert refusal(folder) == f"linear.weight of 2_Dense must be finite, and isn't ({tmp_path / '2_Dense'})"
    (tmp_path / "1_Pooling" / "config.json").unlink()
    config = tmp_path / "1_Pooling" / "config.json"
    assert refusal(folder) == f"config.json can't be read: No such file or directory ({config})"


def test_the_fingerprint_sees_the_chain(tmp_path: Path):
    prints = set()
    write_module(tmp_path, "2_Dense", {"in_features": 16, "out_features": 4, "bias": False})
    with_pooling(tmp_path, None, "2_Dense")
    for mode in MODES:
        for value in (0, 1):
            (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
            tiny_models.save_file({"linear.weight": np.full((4, 16), value, np.float32)},
                                  tmp_path / "2_Dense" / "model.safetensors")
            prints.add(EncoderModel.from_folder(tmp_path).fingerprint)
    assert len(prints) == 2 * len(MODES)
