"""Whatever the files of a model folder hold, a model is made of it or it is refused in one line."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from celosia.firmware.model.model import EncoderModel, ModelError

from tests.tiny_models import write_folder, write_module, write_modules_json

VALUES = [None, True, False, 0, -1, 1, 3, 10**30, 1.5, float("nan"), "", "x", "é" * 50, [], [1], ["x"], [None], [[]],
          {}, {"a": 1}, {"a": None}, {"0": []}, [{}], [{"content": 3}]]
JUNK = [b"", b"\0", b"\xff\xfe", b"{" * 5, b"[" * 100_000, b'{"a":' * 100_000]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with every file that is read, and most of the settings."""
    write_module(tmp_path, "1_Pooling", {"embedding_dimension": 16, "pooling_mode": "mean", "include_prompt": True,
                                         "pooling_mode_cls_token": False})
    write_module(tmp_path, "2_Dense", {
        "in_features": 16, "out_features": 4, "bias": True, "module_input_name": "sentence_embedding",
        "activation_function": "torch.nn.modules.activation.Tanh", "use_residual": False},
        {"linear.weight": np.ones((4, 16), np.float32), "linear.bias": np.ones(4, np.float32)})
    write_module(tmp_path, "3_LayerNorm", {"dimension": 4},
                 {"norm.weight": np.ones(4, np.float32), "norm.bias": np.ones(4, np.float32)})
    write_module(tmp_path, "4_Normalize", {"module_input_name": "sentence_embedding"})
    write_modules_json(write_folder(tmp_path), "1_Pooling", "2_Dense", "3_LayerNorm", "4_Normalize")
    for name, table in {
        "sentence_bert_config": {"max_seq_length": 8, "do_lower_case": True, "model_args": {}, "modality_config": {}},
        "config_sentence_transformers": {"prompts": {"q": "red "}, "default_prompt_name": "q", "truncate_dim": 3,
                                         "similarity_fn_name": "dot", "model_type": "SentenceTransformer"},
        "tokenizer_config": {"do_lower_case": True, "model_max_length": 8, "truncation_side": "right",
                             "tokenizer_class": "BertTokenizer", "added_tokens_decoder": {"4": {"content": "red"}},
                             "extra_special_tokens": ["red"], "auto_map": None, "strip_accents": None},
        "special_tokens_map": {"additional_special_tokens": ["red"], "cls_token": "[CLS]"},
        "added_tokens": {"red": 4},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(table))
    return tmp_path


def run(folder: Path) -> None:
    sentence = ""
    try:
        EncoderModel.from_folder(folder).sentence_embedding("red cat")
    except ModelError as error:
        sentence = str(error)
    assert "\n" not in sentence


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of each value in a JSON file."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in inside for place in places(part, (*path, key)))]


@pytest.mark.parametrize("name", [
    "config.json", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "1_Pooling/config.json",
    "2_Dense/config.json", "3_LayerNorm/config.json", "4_Normalize/config.json"])
def test_any_value_in_any_place(folder: Path, name: str):
    EncoderModel.from_folder(folder)
    path = folder / name
    whole = json.loads(path.read_text())
    for place in places(whole):
        for value in VALUES:
            table = value
            if place:
                table = part = deepcopy(whole)
                for key in place[:-1]:
                    part = part[key]
                part[place[-1]] = value
            path.write_text(json.dumps(table))
            run(folder)
    for junk in JUNK:
        path.write_bytes(junk)
        run(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "2_Dense/model.safetensors", "3_LayerNorm/model.safetensors"])
def test_any_damage_to_weights(folder: Path, name: str):
    data = (folder / name).read_bytes()
    for damaged in (b"", data[:4], data[:8], data[:100], data[:-1], data + b"x", bytes(100), b"\xff" * 100,
                    data[:8] + b"x" * 100 + data[108:]):
        (folder / name).write_bytes(damaged)
        run(folder)
