"""How texts are to be read and compared, as the folder of a sentence-transformers model says."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import ModelError, is_there, read_optional
from .modules import SIMILARITIES, TOKENS

__all__ = ["EncoderSettings", "ModelSettings", "read_encoder_settings", "read_model_settings"]

_NAMES = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_FILES = tuple(f"sentence_{name}_config.json" for name in _NAMES)

#: Settings of the encoder that change nothing in the result, and those that do except with the value here.
_HARMLESS = ("unpad_inputs", "cache_dir", "backend")
_PLAIN = {"transformer_task": "feature-extraction", "module_output_name": TOKENS}
_PLAIN_TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}

#: Tables of arguments for other libraries, and the arguments that change nothing in the result.
_ARGUMENTS = ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs")
_HARMLESS_ARGUMENTS = {"add_pooling_layer", "attn_implementation", "device_map", "dtype", "torch_dtype",
                       "trust_remote_code", "use_fast"}

_MODEL_FILE = "config_sentence_transformers.json"
_MODEL_KEYS = ("__version__", "prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim", "model_type",
               "requirements")


@dataclass(frozen=True)
class EncoderSettings:
    """``max_seq_length`` and ``do_lower_case`` of the file called ``source``."""

    max_seq_length: int | None
    do_lower_case: bool
    source: str


@dataclass(frozen=True)
class ModelSettings:
    """What is put before each text, how many numbers of an embedding are kept, the function that compares two, and what
    was left out or chosen."""

    prompt: str
    width: int | None
    similarity: str
    notes: tuple[str, ...]


def read_encoder_settings(folder: Path) -> EncoderSettings:
    """``sentence_bert_config.json`` of the encoder's folder, or what older versions called it; all may be missing.

    Raises
    ------
    ModelError
        When the file is damaged, or asks for something that isn't known.
    """
    path = next((folder / name for name in _FILES if is_there(folder / name)), folder / _FILES[0])
    table = read_optional(path)
    for key, value in table.items():
        if not _is_known(key, value) and value not in (None, False, {}, []):
            raise ModelError(f"{path.name} asks for {key} = {value!r}, which isn't known ({path})")
    length = table.get("max_seq_length")
    if length is not None and (type(length) is not int or length < 1):
        raise ModelError(f"max_seq_length must be a positive integer, not {length!r} ({path})")
    lower = table.get("do_lower_case", False)
    if not isinstance(lower, bool):
        raise ModelError(f"do_lower_case must be true or false, not {lower!r} ({path})")
    return EncoderSettings(length, lower, path.name)


def _is_known(key: str, value: Any) -> bool:
    if key in _ARGUMENTS and isinstance(value, dict):
        return value.keys() <= _HARMLESS_ARGUMENTS
    if key == "modality_config" and isinstance(value, dict):
        return value.get("text") == _PLAIN_TEXT
    return key in ("max_seq_length", "do_lower_case", *_HARMLESS) or _PLAIN.get(key) == value


def read_model_settings(root: Path, prompt_name: str | None = None) -> ModelSettings:
    """``config_sentence_transformers.json``, which may be missing.

    Parameters
    ----------
    prompt_name
        The name of the prompt to take; that of ``default_prompt_name`` unless given.

    Raises
    ------
    ModelError
        When the file is damaged or asks for something that isn't known, or there is no such prompt.
    """
    path = root / _MODEL_FILE
    table = read_optional(path)
    for key, value in table.items():
        if key not in _MODEL_KEYS and value not in (None, False, {}, []):
            raise ModelError(f"{path.name} asks for {key} = {value!r}, which isn't known ({path})")
    if table.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        raise ModelError(f"model_type must be 'SentenceTransformer', not {table['model_type']!r} ({path})")
    similarity = table.get("similarity_fn_name") or "cosine"
    if similarity not in list(SIMILARITIES):
        raise ModelError(f"similarity_fn_name must be {', '.join(SIMILARITIES)}, not {similarity!r} ({path})")
    width = table.get("truncate_dim")
    if width is not None and (type(width) is not int or width < 1):
        raise ModelError(f"truncate_dim must be a positive integer, not {width!r} ({path})")
    notes = []
    if similarity != "cosine":
        notes.append(f"two texts are compared by {similarity}, not by the cosine (similarity_fn_name in {path.name})")
    prompt, note = _prompt(table, prompt_name, path)
    return ModelSettings(prompt, width, similarity, (*notes, *note))


def _prompt(table: dict[str, Any], name: str | None, path: Path) -> tuple[str, tuple[str, ...]]:
    prompts = table.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise ModelError(f"prompts must be texts by their names, not {prompts!r} ({path})")
    chosen = name if name is not None else table.get("default_prompt_name")
    if chosen is not None and (not isinstance(chosen, str) or chosen not in prompts):
        raise ModelError(f"a prompt must be one of {', '.join(map(repr, prompts)) or 'none'} in {path.name}, not "
                         f"{chosen!r} ({path})")
    if chosen is not None:
        prompt = prompts[chosen] or ""
        origin = f"default_prompt_name in {path.name}" if name is None else f"the prompt {chosen!r}"
        return prompt, (f"{prompt!r} is put before each text ({origin})",) if prompt else ()
    told = ", ".join(f"{text!r} ({key})" for key, text in prompts.items() if text)
    note = f"no prompt is put before the texts: {path.name} has {told}, and no default_prompt_name"
    return "", (note,) if told else ()
