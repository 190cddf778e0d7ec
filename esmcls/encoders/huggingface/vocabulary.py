"""The vocabulary of a tokenizer's files as a table, residue to token: one look-up a sequence, as its tokenizer has it.

A protein's tokenizer has a token a residue, so that a table of them says all that it does; `tests/test_huggingface.py`
compares both. Nothing of a tokenizer is run: its files are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from esmcls.encoders.huggingface.families import Family, words_of
from esmcls.errors import MissingExtraError, WeightsError
from esmcls.plain_values import from_plain, read_json
from esmcls.reading.records import RESIDUES

STANDARD: Final = RESIDUES[:20]
FILES: Final = ("tokenizer.json", "vocab.txt", "spiece.model")
"""One of which holds the vocabulary, the first that is there; the files below add tokens to it."""
_ADDED: Final = "added_tokens.json"
_SETTINGS: Final = "tokenizer_config.json"
_FEW_WORDS: Final = 20
"""Words in a vocabulary of residues, at most; there is none in any that is published."""


@dataclass(frozen=True)
class TokenTable:
    """Residues to tokens.

    Parameters
    ----------
    start, end : tuple of int
        Special tokens before and after the residues.
    letters : int64 array, (256,)
        The token of each byte.

    Examples
    --------
    >>> letters = np.zeros(256, dtype=np.int64)
    >>> letters[[ord("M"), ord("K")]] = 20, 15
    >>> TokenTable((0,), (2,), letters).tokenize("MKM").tolist()
    [0, 20, 15, 20, 2]
    """

    start: tuple[int, ...]
    end: tuple[int, ...]
    letters: npt.NDArray[np.int64]

    def tokenize(self, residues: str) -> npt.NDArray[np.int64]:
        """Return the tokens of one input."""
        inside = self.letters[np.frombuffer(residues.encode("ascii"), dtype=np.uint8)]
        return np.concatenate([self.start, inside, self.end]).astype(np.int64)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold of it: what decides a vector."""
        tokens = {letter: int(self.letters[ord(letter)]) for letter in RESIDUES}
        return {"start": list(self.start), "end": list(self.end), "letters": tokens}


def read_vocabulary(folder: Path, name: str) -> dict[str, int]:
    """Read the tokens of a model's vocabulary, each with its number.

    Parameters
    ----------
    folder : Path
    name : str
        Of the encoder, for errors.

    Raises
    ------
    WeightsError
        If no file of a tokenizer is there, or one cannot be read.
    MissingExtraError
        If it is one of sentencepiece, and that is not installed.
    """
    file = next((folder / file for file in FILES if (folder / file).is_file()), None)
    if file is None:
        raise WeightsError(name, f"no vocabulary ({', '.join(FILES)})", "fetch the tokenizer's files, too", [folder])
    readers = {"tokenizer.json": _of_json, "vocab.txt": _of_text, "spiece.model": _of_sentencepiece}
    try:
        return readers[file.name](file) | _added(folder)
    except (OSError, ValueError, RuntimeError) as error:  # the last is sentencepiece's
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]
        raise WeightsError(name, f"{file.name} cannot be read ({reason})", "fetch the file again") from None


def _of_json(path: Path) -> dict[str, int]:
    """Read `tokenizer.json`, whose vocabulary is a table, or pairs of a token and its score in order."""
    content = from_plain(dict[str, Any], read_json(path))
    model = from_plain(dict[str, Any], content.get("model"))
    pairs = model.get("vocab")
    tokens = (
        {str(pair[0]): number for number, pair in enumerate(from_plain(list[list[Any]], pairs)) if pair}
        if isinstance(pairs, list)
        else from_plain(dict[str, int], pairs)
    )
    added = from_plain(list[dict[str, Any]], content.get("added_tokens") or [])
    return tokens | {str(token.get("content")): from_plain(int, token.get("id")) for token in added}


def _of_text(path: Path) -> dict[str, int]:
    """Read `vocab.txt`, a token a line."""
    return {token.strip(): number for number, token in enumerate(path.read_text(encoding="utf-8").splitlines())}


def _of_sentencepiece(path: Path) -> dict[str, int]:
    """Read a model of sentencepiece."""
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise MissingExtraError(f"the vocabulary {path}", "sentencepiece", "hf") from None
    pieces = SentencePieceProcessor()
    pieces.LoadFromSerializedProto(path.read_bytes())
    return {pieces.IdToPiece(number): number for number in range(len(pieces))}


def _added(folder: Path) -> dict[str, int]:
    """Read the tokens that were added to a vocabulary after its file was made."""
    tokens: dict[str, int] = {}
    if (folder / _SETTINGS).is_file():
        settings = from_plain(dict[str, Any], read_json(folder / _SETTINGS))
        numbered = from_plain(dict[str, dict[str, Any]], settings.get("added_tokens_decoder") or {})
        tokens = {str(token.get("content")): int(number) for number, token in numbered.items()}
    if (folder / _ADDED).is_file():
        tokens |= from_plain(dict[str, int], read_json(folder / _ADDED))
    return tokens


def token_table(family: Family, vocabulary: Mapping[str, int], rows: int, name: str) -> TokenTable:
    """Return the table of a family's residues and special tokens.

    Parameters
    ----------
    family : Family
    vocabulary : mapping of str to int
    rows : int
        Tokens that the model has an embedding of.
    name : str
        Of the encoder, for errors.

    Raises
    ------
    WeightsError
        If a residue has no token of its own, as in a model of a language, or the model has no row for one.
    """
    check_proteins(vocabulary, name)
    letters = {letter: number for letter in RESIDUES if (number := _number(letter, vocabulary)) is not None}
    specials = {token: vocabulary[token] for token in (*family.start, *family.end) if token in vocabulary}
    lacking = [token for token in (*family.start, *family.end) if token not in specials]
    lacking += [letter for letter in (*STANDARD, "X") if letter not in letters]
    if lacking:
        found = f"the vocabulary lacks {', '.join(lacking[:5])}, which a model of the family {family.name} has"
        raise WeightsError(name, found, "fetch the tokenizer's files again")
    used = {*letters.values(), *specials.values()}
    if not 0 <= min(used) <= max(used) < rows:
        found = f"the vocabulary has token {max(used)}, and the model has embeddings of {rows} tokens"
        raise WeightsError(name, found, "fetch config.json and the tokenizer's files again")
    table = np.full(256, letters["X"], dtype=np.int64)
    for letter, number in letters.items():
        table[ord(letter)] = letters["X"] if letter in family.as_x else number
    start, end = (tuple(specials[token] for token in tokens) for tokens in (family.start, family.end))
    return TokenTable(start, end, table)


def check_proteins(vocabulary: Mapping[str, int], name: str) -> None:
    """Refuse a vocabulary of words, or one without a token for each of the twenty residues.

    Raises
    ------
    WeightsError
        If it is no vocabulary of proteins.
    """
    words = words_of(vocabulary)
    if len(words) > _FEW_WORDS:
        found = f"no model of proteins: {len(words):,} of its {len(vocabulary):,} tokens are words, such as {words[-1]}"
        raise WeightsError(name, found, "give a protein language model, whose tokens are residues")
    lacking = [letter for letter in STANDARD if _number(letter, vocabulary) is None]
    if lacking:
        found = f"no model of proteins: its vocabulary has no token for {', '.join(lacking[:5])}"
        raise WeightsError(name, found, "give a protein language model, whose tokens are residues")


def _number(letter: str, vocabulary: Mapping[str, int]) -> int | None:
    """Return the token of a residue; sentencepiece marks what begins a word, and residues are written as words."""
    return vocabulary.get(f"▁{letter}", vocabulary.get(letter))
