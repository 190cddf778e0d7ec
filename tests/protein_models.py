"""A tiny model of random weights of every family that `transformers` has classes of, in the files of its tokenizer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, processors

LETTERS = "ACDEFGHIKLMNPQRSTVWYXBUZO"
T5_ORDER = "ALGVSREDTIPKFQNYMHWCXBOUZ"
"""The residues of ProtT5's vocabulary, from its third token on."""
BERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"LAGVESIKRDTPNQFYMHCWXUBZO"]
ESM_TOKENS = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]
T5_SHAPE = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
BERT_SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def write_sentencepiece(folder: Path, pieces: Sequence[str]) -> None:
    """Write a vocabulary as T5's tokenizer has it: padding, end and unknown first, then words of one letter."""
    from sentencepiece import sentencepiece_model_pb2 as format_

    model = format_.ModelProto()
    for number, piece in enumerate(["<pad>", "</s>", "<unk>", *pieces]):
        kind = {0: 3, 1: 3, 2: 2}.get(number, 1)  # control, control, unknown, normal
        model.pieces.add(piece=piece, score=0.0 if number < 3 else -2.0, type=kind)
    model.trainer_spec.MergeFrom(format_.TrainerSpec(model_type=1, pad_id=0, eos_id=1, unk_id=2, bos_id=-1))
    (folder / "spiece.model").write_bytes(model.SerializeToString())


def _prott5(folder: Path) -> None:
    write_sentencepiece(folder, [f"▁{letter}" for letter in T5_ORDER])
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')


def _prostt5(folder: Path) -> None:
    _prott5(folder)
    structures = {letter: 128 + number for number, letter in enumerate("algvsredtipkfqnymhwc")}
    added = structures | {"<fold2AA>": 148, "<AA2fold>": 149}
    (folder / "added_tokens.json").write_text(json.dumps(added))


def _ankh(folder: Path, *specials: str) -> None:
    pieces = ["<pad>", "</s>", "<unk>", *T5_ORDER, *(f"<extra_id_{number}>" for number in range(4)), *specials]
    tokenizer = Tokenizer(models.Unigram([(piece, 0.0 if piece in "<>" else -2.0) for piece in pieces], unk_id=2))
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>", *specials])
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))


def _ankh3(folder: Path) -> None:
    _ankh(folder, "[NLU]", "[S2S]")


def _protbert(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(BERT_TOKENS) + "\n")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')


def _esm(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(ESM_TOKENS))


def _esmc(folder: Path) -> None:
    """Write nothing: its tokenizer has no file."""


@dataclass(frozen=True)
class Kind:
    """How a family's model is made, and how its authors write a sequence for its tokenizer."""

    model: str
    config: dict[str, Any]
    files: Callable[[Path], None]
    tokenizer: str
    write: Callable[[str], object]
    ends: tuple[int, int]  # special tokens before and after the residues
    cls: bool


def _spaced(sequence: str) -> str:
    return " ".join(re.sub("[UZOB]", "X", sequence))


_T5 = ("T5EncoderModel", "T5Tokenizer")
_GATED = T5_SHAPE | {"feed_forward_proj": "gated-gelu", "vocab_size": 40}
_ESM = BERT_SHAPE | {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32, "token_dropout": True}
_ESM |= {"max_position_embeddings": 1026, "layer_norm_eps": 1e-5, "position_embedding_type": "absolute"}
KINDS: dict[str, Kind] = {
    "ProtT5": Kind(_T5[0], T5_SHAPE | {"vocab_size": 128}, _prott5, _T5[1], _spaced, (0, 1), False),
    "ProstT5": Kind(
        _T5[0], T5_SHAPE | {"vocab_size": 150}, _prostt5, _T5[1], lambda s: f"<AA2fold> {_spaced(s)}", (1, 1), False
    ),
    "Ankh": Kind(_T5[0], _GATED, _ankh, "PreTrainedTokenizerFast", list, (0, 1), False),
    "Ankh3": Kind(
        _T5[0],
        _GATED | {"feed_forward_proj": "gated-silu"},
        _ankh3,
        "PreTrainedTokenizerFast",
        lambda s: ["[NLU]", *s],
        (1, 1),
        False,
    ),
    "ProtBert": Kind(
        "BertModel",
        BERT_SHAPE | {"vocab_size": 30, "max_position_embeddings": 1100},
        _protbert,
        "BertTokenizer",
        _spaced,
        (1, 1),
        True,
    ),
    "ESM-1b": Kind("EsmModel", _ESM | {"emb_layer_norm_before": True}, _esm, "EsmTokenizer", str, (1, 1), True),
    "ESM-1v": Kind("EsmModel", _ESM | {"emb_layer_norm_before": False}, _esm, "EsmTokenizer", str, (1, 1), True),
}
if hasattr(transformers, "EsmcModel"):
    KINDS["ESM C"] = Kind("EsmcModel", BERT_SHAPE | {"vocab_size": 64}, _esmc, "EsmcTokenizer", str, (1, 1), True)


def random_model(kind: Kind, seed: int = 0, **changes: Any) -> torch.nn.Module:
    """Return a family's model, its biases and norms random too: what they are by default hides what is swapped."""
    model_class = getattr(transformers, kind.model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: torch.nn.Module = model_class(model_class.config_class(**(kind.config | changes))).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def write_model(folder: Path, name: str, seed: int = 0, **changes: Any) -> torch.nn.Module:
    """Write a family's model with its tokenizer's files, and return it."""
    kind = KINDS[name]
    model = random_model(kind, seed, **changes)
    model.save_pretrained(folder)  # type: ignore[operator]
    kind.files(folder)
    return model


def tokens_by_tokenizer(folder: Path, name: str, sequence: str) -> list[int]:
    """Return what the family's own tokenizer makes of a sequence that is written as its authors write it."""
    kind = KINDS[name]
    tokenizer_class = getattr(transformers, kind.tokenizer)
    tokenizer = tokenizer_class() if kind.tokenizer == "EsmcTokenizer" else tokenizer_class.from_pretrained(folder)
    text = kind.write(sequence)
    tokens: list[int] = tokenizer(text, is_split_into_words=isinstance(text, list))["input_ids"]
    return tokens


def states_by_transformers(model: torch.nn.Module, tokens: Sequence[int]) -> NDArray[np.float32]:
    """Return all layers side by side of one input that runs alone, (tokens, layers x width)."""
    ids = torch.tensor([tokens])
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True).hidden_states
    return torch.cat([state[0] for state in states], dim=1).numpy()
