"""Weights as model folders hold them, and each refusal by its whole sentence."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from celosia.firmware.model.model import EncoderModel, ModelError
from safetensors.numpy import save_file

from tests import tiny_models
from tests.tiny_models import write_folder

QUERY = "encoder.layer.0.attention.self.query.weight"
ONE_OF = "the weights must be in model.safetensors, or in files that model.safetensors.index.json names, and "
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 90868376\n"


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        EncoderModel.from_folder(folder)
    return str(caught.value)


def write_parts(folder: Path) -> dict[str, str]:
    """Replace the weights by two files and an index; returns its map."""
    arrays = tiny_models.arrays()
    (folder / "model.safetensors").unlink()
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    places = {name: files[i % 2] for i, name in enumerate(arrays)}
    for file in files:
        save_file({name: array for name, array in arrays.items() if places[name] == file}, folder / file)
    write_index(folder, places)
    return places


def write_index(folder: Path, places: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def save_raw(path: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> None:
    """A safetensors file, byte by byte, of types that NumPy doesn't have."""
    header, data = {}, b""
    for name, (kind, array) in tensors.items():
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_weights_in_parts_are_those_in_one_file(tmp_path: Path):
    folder = write_folder(tmp_path)
    whole = EncoderModel.from_folder(folder)
    write_parts(folder)
    assert EncoderModel.from_folder(folder).fingerprint == whole.fingerprint


def test_parts_that_are_not_there_are_refused(tmp_path: Path):
    folder = write_folder(tmp_path)
    places = write_parts(folder)
    index = folder / "model.safetensors.index.json"
    name, file = next(iter(places.items()))
    write_index(folder, {**places, "ghost": file})
    assert refusal(folder) == f"ghost is missing from {file}, where model.safetensors.index.json has it ({index})"
    write_index(folder, {**places, name: "../other.safetensors"})
    assert refusal(folder) == (f"the file of {name} in model.safetensors.index.json must be a name in the same folder, "
                               f"not '../other.safetensors' ({index})")
    write_index(folder, [])
    assert refusal(folder) == (
        f"model.safetensors.index.json must have a weight_map with the file of each array ({index})")
    write_index(folder, places)
    (folder / file).unlink()
    assert refusal(folder) == f"{file} can't be read: No such file or directory ({folder / file})"
    (folder / file).write_text(POINTER)
    assert refusal(folder) == (f"{file} is a Git LFS pointer of {len(POINTER)} bytes in the place of the file, which "
                               f"'git lfs pull' in its folder fetches ({folder / file})")


def test_bfloat16_is_widened(tmp_path: Path):
    rounded, halves = {}, {}
    for name, array in tiny_models.arrays().items():
        bits = array.view(np.uint32) >> 16
        halves[name] = ("BF16", bits.astype(np.uint16))
        rounded[name] = (bits << 16).view(np.float32)
    folder = write_folder(tmp_path)
    save_raw(folder / "model.safetensors", halves)
    model = EncoderModel.from_folder(folder)
    assert model.fingerprint == EncoderModel.from_arrays(rounded, heads=2, tokenizer=model.tokenizer).fingerprint
    assert model.layers[1].ffn_out_weight.dtype == np.float32


@pytest.mark.parametrize("kind", ["I8", "U8", "F8_E4M3"])
def test_weights_of_other_types_are_refused(tmp_path: Path, kind: str):
    folder = write_folder(tmp_path)
    tensors = {name: ("F32", array) for name, array in tiny_models.arrays().items()}
    tensors[QUERY] = (kind, np.zeros((16, 16), np.uint8))
    path = folder / "model.safetensors"
    save_raw(path, tensors)
    assert refusal(folder) == f"{QUERY} must be of type BF16, F16, F32 or F64, not {kind} ({path})"


def test_layer_norm_under_its_old_names(tmp_path: Path):
    old = {f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"):
           array for name, array in tiny_models.arrays().items()}
    assert sum(name.endswith(("gamma", "beta")) for name in old) == 10
    new = tmp_path / "new"
    new.mkdir()
    expected = EncoderModel.from_folder(write_folder(new))
    assert EncoderModel.from_folder(write_folder(tmp_path, old)).fingerprint == expected.fingerprint
    del old["bert.encoder.layer.1.output.LayerNorm.gamma"]
    assert refusal(write_folder(tmp_path, old)) == (
        "bert.encoder.layer.1.output.LayerNorm.weight is missing from the weights")


def test_more_word_embeddings_than_words(tmp_path: Path):
    arrays = tiny_models.arrays()
    table = arrays["embeddings.word_embeddings.weight"]
    padded = np.concatenate([table, np.zeros((5, 16), np.float32)])
    for vocabulary in (11, 16):
        folder = write_folder(tmp_path, {**arrays, "embeddings.word_embeddings.weight": padded}, vocab_size=vocabulary)
        model = EncoderModel.from_folder(folder)
        ids = model.tokenize("red cat")
        np.testing.assert_array_equal(model.embed(ids), EncoderModel.from_arrays(arrays, heads=2).embed(ids))


def test_weights_without_a_part_are_named(tmp_path: Path):
    arrays = tiny_models.arrays()
    pooler = {"pooler.dense.weight": np.zeros((16, 16), np.float32), "pooler.dense.bias": np.zeros(16, np.float32)}
    counters = {"embeddings.position_ids": np.arange(12)[None], "embeddings.token_type_ids": np.zeros((1, 12), int)}
    bare = "there is no modules.json: the tokens are pooled by their mean, and the embedding is scaled to unit length"
    assert EncoderModel.from_folder(write_folder(tmp_path, {**arrays, **counters})).notes == (bare,)
    assert EncoderModel.from_folder(write_folder(tmp_path, {**arrays, **counters, **pooler})).notes == (
        bare, "these weights have no part in the embedding: pooler.dense.bias, pooler.dense.weight")
    head = {f"cls.predictions.{i}": np.zeros(1, np.float32) for i in range(3)}
    prefixed = {f"bert.{name}": array for name, array in {**arrays, **pooler}.items()}
    assert EncoderModel.from_arrays({**prefixed, **head}, heads=2).notes == (
        "these weights have no part in the embedding: bert.pooler.dense.bias, bert.pooler.dense.weight, "
        "cls.predictions.0, cls.predictions.1 and 1 more",)
    later = EncoderModel.from_folder(write_folder(tmp_path, num_hidden_layers=1))
    assert later.notes[1] == (
        "these weights have no part in the embedding: encoder.layer.1.attention.output.LayerNorm.bias, "
        "encoder.layer.1.attention.output.LayerNorm.weight, encoder.layer.1.attention.output.dense.bias, "
        "encoder.layer.1.attention.output.dense.weight and 12 more")


@pytest.mark.parametrize("name", [
    "encoder.layer.0.attention.self.query.lora_A.weight", "encoder.layer.1.crossattention.self.key.weight",
    "embeddings.projection.weight", "encoder.layer.0.attention.self.distance_embedding.weight"])
def test_a_part_that_bert_has_not_is_refused(tmp_path: Path, name: str):
    folder = write_folder(tmp_path, {**tiny_models.arrays(), name: np.zeros((16, 2), np.float32)})
    assert refusal(folder) == f"{name} is among the weights, and a BERT encoder has no such part"


@pytest.mark.parametrize(("files", "found"), [
    (["pytorch_model.bin"], "pytorch_model.bin"),
    (["pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "x.pt"],
     "pytorch_model-00001-of-00002.bin, pytorch_model-00002-of-00002.bin, pytorch_model.bin.index.json and 1 more"),
    (["tf_model.h5", "flax_model.msgpack"], "flax_model.msgpack, tf_model.h5"),
    (["model.fp16.safetensors", "onnx/model.onnx"], "model.fp16.safetensors, onnx/model.onnx"),
])
def test_weights_in_another_format_are_named(tmp_path: Path, files: list[str], found: str):
    folder = write_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(b"weights")
    assert refusal(folder) == (f"{ONE_OF}{str(folder)!r} has only {found}: save_pretrained of the library that wrote "
                               "it writes that format")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                                  "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"])
def test_a_pointer_in_the_place_of_a_file_is_refused(tmp_path: Path, name: str):
    folder = write_folder(tmp_path)
    (folder / name).write_text(POINTER)
    assert refusal(folder) == (f"{name} is a Git LFS pointer of {len(POINTER)} bytes in the place of the file, which "
                               f"'git lfs pull' in its folder fetches ({folder / name})")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                                  "modules.json", "sentence_bert_config.json"])
def test_a_link_to_nothing_is_a_missing_file(tmp_path: Path, name: str):
    folder = write_folder(tmp_path)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "blob")
    assert refusal(folder) == f"{name} can't be read: No such file or directory ({folder / name})"


def test_an_adapter_is_refused(tmp_path: Path):
    folder = write_folder(tmp_path)
    (folder / "adapter_config.json").write_text("{}")
    assert refusal(folder) == (
        "adapter_config.json asks for an adapter beside the weights, which isn't read: merge it into them, as "
        f"merge_and_unload of the library peft does ({folder / 'adapter_config.json'})")


def test_an_array_is_taken_from_the_file_that_the_index_names(tmp_path: Path):
    places = write_parts(write_folder(tmp_path))
    right = EncoderModel.from_folder(tmp_path)
    first, second = sorted(set(places.values()))
    name = next(name for name, file in places.items() if file == first and name != QUERY)
    arrays = tiny_models.arrays()
    save_file({n: array for n, array in arrays.items() if places[n] == second} | {name: 2 * arrays[name]},
              tmp_path / second)
    assert EncoderModel.from_folder(tmp_path).fingerprint == right.fingerprint
    elsewhere = first if places[QUERY] == second else second
    write_index(tmp_path, places | {QUERY: elsewhere})
    assert refusal(tmp_path).startswith(f"{QUERY} is missing from {elsewhere}, ")
