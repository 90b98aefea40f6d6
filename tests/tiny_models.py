"""Small random encoders for tests: arrays under their Hugging Face names, and folders that hold them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from celosia.firmware.model.model import EncoderModel
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "blue", "cat", "dog", "sits", "runs"]


def arrays(hidden: int = 16, ffn: int = 40, layers: int = 2, seed: int = 1, positions: int = 12,
           embeddings: bool = True) -> dict[str, NDArray[Any]]:
    """Weights of deviation 1 / sqrt(in), some biases, and gains around one."""
    rng = np.random.default_rng(seed)
    made = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        made[f"{name}.weight"] = (rng.normal(size=(outputs, inputs)) / np.sqrt(inputs)).astype(np.float32)
        made[f"{name}.bias"] = rng.normal(size=outputs, scale=0.2).astype(np.float32)

    def norm(name: str) -> None:
        made[f"{name}.weight"] = rng.normal(1, 0.2, size=hidden).astype(np.float32)
        made[f"{name}.bias"] = rng.normal(0, 0.2, size=hidden).astype(np.float32)

    for index in range(layers):
        prefix = f"encoder.layer.{index}"
        for part in ("query", "key", "value"):
            linear(f"{prefix}.attention.self.{part}", hidden, hidden)
        linear(f"{prefix}.attention.output.dense", hidden, hidden)
        norm(f"{prefix}.attention.output.LayerNorm")
        linear(f"{prefix}.intermediate.dense", ffn, hidden)
        linear(f"{prefix}.output.dense", hidden, ffn)
        norm(f"{prefix}.output.LayerNorm")
    if embeddings:
        for table, rows in (("word", len(WORDS)), ("position", positions), ("token_type", 2)):
            made[f"embeddings.{table}_embeddings.weight"] = rng.normal(size=(rows, hidden)).astype(np.float32)
        norm("embeddings.LayerNorm")
    return made


def model(heads: int = 2, **options: Any) -> EncoderModel:
    """A model of bare layers unless ``embeddings=True``."""
    return EncoderModel.from_arrays(arrays(**{"embeddings": False, **options}), heads=heads)


def sequences(hidden: int = 16, count: int = 64, seed: int = 2) -> list[NDArray[np.float32]]:
    """Normal inputs of 1 to 12 rows."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(1 + i % 12, hidden)).astype(np.float32) for i in range(count)]


def tokenizer(words: dict[str, int] | None = None) -> Tokenizer:
    """Words apart at blanks, between [CLS] and [SEP]; cuts at 4 and pads to 9, as shipped tokenizers do."""
    made = Tokenizer(WordLevel(words or {word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    made.enable_truncation(4)
    made.enable_padding(length=9)
    return made


CONFIG = {"model_type": "bert", "hidden_act": "gelu", "hidden_size": 16, "num_attention_heads": 2,
          "num_hidden_layers": 2, "intermediate_size": 40, "max_position_embeddings": 12, "vocab_size": 11,
          "layer_norm_eps": 1e-12}


def write_folder(folder: Path, tensors: dict[str, NDArray[Any]] | None = None, **changes: Any) -> Path:
    """A Hugging Face folder; ``changes`` go into config.json (None removes a key)."""
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(arrays() if tensors is None else tensors, folder / "model.safetensors")
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def write_module(folder: Path, name: str, config: dict[str, Any] | None = None,
                 tensors: dict[str, NDArray[Any]] | None = None) -> None:
    """The folder of a module of sentence-transformers inside ``folder``."""
    (folder / name).mkdir()
    if config is not None:
        (folder / name / "config.json").write_text(json.dumps(config))
    if tensors is not None:
        save_file(tensors, folder / name / "model.safetensors")


def write_modules_json(folder: Path, *paths: str, types: dict[str, str] | None = None) -> Path:
    """A modules.json of a Transformer in ``folder`` itself, and of the modules in folders like ``1_Pooling``."""
    types = {"": "sentence_transformers.models.Transformer",
             **{path: f"sentence_transformers.models.{path.partition('_')[2]}" for path in paths}, **(types or {})}
    (folder / "modules.json").write_text(json.dumps(
        [{"idx": i, "name": str(i), "path": path, "type": types[path]} for i, path in enumerate(("", *paths))]))
    return folder
