"""Proteins folded by a model of structures: traces in memory, or a file each."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import numpy as np

from esmcls.cache.features import Features
from esmcls.errors import FolderError, UsageError
from esmcls.files import atomic_text
from esmcls.labels.kinds import STRUCTURE
from esmcls.models.model import Model
from esmcls.models.predict import answer_stream, as_model
from esmcls.reading.records import Protein, several
from esmcls.reporting.rows import TOO_LARGE, Unanswered
from esmcls.structures.distogram import PairAnswer
from esmcls.structures.folding.fold import STARTS, Fold
from esmcls.structures.folding.fold import fold as fold_answer
from esmcls.structures.writing import ENDINGS, WRITERS, TraceFile, check_room
from esmcls.version import __version__
from esmcls.workspace.workspace import Workspace

_LONGEST_NAME: Final = 100
_FACTS: Final = re.compile(r"confidence (\S+), loss (\S+), of mirror image (\S+)")
_KEY: Final = "esmcls fold key"


@runtime_checkable
class AnswersPairs(Protocol):
    """What of a `esmcls.heads.contract.PairHead` is needed to fold."""

    def per_protein(self, x: Features) -> Iterator[PairAnswer]:
        """Give what is said of each protein, one in memory at a time."""
        ...


def pair_head_of(model: Model) -> AnswersPairs:
    """Return the head of a model of structures; UsageError if the model is of another kind of task."""
    head: object = model.head
    if model.manifest.kind != STRUCTURE or not isinstance(head, AnswersPairs):
        raise UsageError(
            f"model {model.name} is of {model.task.name}; fold takes one of structures "
            "(esmcls embed CHAINS --task structure, then esmcls fit)"
        )
    return head


@dataclass(frozen=True)
class Folding:
    """How proteins are folded.

    Parameters
    ----------
    starts : int
        Tries of each protein, of which the best by its loss is taken.
    seed : int
        Decides the starts but the first.
    device : str
        Of the descent.
    """

    starts: int = STARTS
    seed: int = 0
    device: str = "cpu"

    def __call__(self, model: Model, proteins: Iterable[Protein]) -> Iterator[tuple[Protein, Fold | Unanswered]]:
        """Fold proteins as they come, one in memory at a time; the reason where one cannot be."""
        head = pair_head_of(model)

        def folds(x: Features) -> list[Fold | Unanswered]:
            try:
                return [
                    fold_answer(answer, starts=self.starts, seed=self.seed, device=self.device)
                    for answer in head.per_protein(x)
                ]
            except MemoryError:
                return [TOO_LARGE]

        return answer_stream(model, proteins, folds, block=1)


def fold(
    model: Model | Workspace | str | Path,
    proteins: Iterable[Protein | str],
    *,
    starts: int = STARTS,
    seed: int = 0,
    device: str = "cpu",
) -> list[Fold]:
    """Fold proteins with a model of structures, in input order.

    Parameters
    ----------
    model : Model, Workspace, str or Path
        A workspace stands for its best model; a path is a model folder or a workspace.
    proteins : iterable of Protein or str
    starts : int
        Tries of each, of which the best by its loss is taken.
    seed : int
        Decides the starts but the first.
    device : str
        Where a model is loaded that is named by a path, and of the descent.

    Returns
    -------
    list of Fold
        `trace`, float32 (residues, 3) in Å, `confidence`, float32 (residues,), and `loss`; both arrays are NaN where
        the encoder did not see a residue, or anything of the protein since it does not fit into memory.

    Raises
    ------
    UsageError
        If the model is of another kind of task, or `proteins` is a single text.
    """
    named = [
        protein if isinstance(protein, Protein) else Protein(str(number), protein)
        for number, protein in enumerate(several("fold", proteins, Protein), 1)
    ]
    folded = Folding(starts, seed, device)(as_model(model, device), named)
    return [_nothing(len(protein.sequence)) if isinstance(answer, Unanswered) else answer for protein, answer in folded]


def _nothing(length: int) -> Fold:
    unknown = np.full((length, 3), np.nan, dtype=np.float32)
    return Fold(unknown, unknown[:, 0], float("nan"), float("nan"))


@dataclass(frozen=True)
class FoldRow:
    """A row of the table of what was folded.

    Parameters
    ----------
    id : str
    length : int
        Residues.
    unseen : int
        Residues that the encoder did not see: they have no atom.
    confidence : float or None
        Mean predicted lDDT of the others, in [0, 1].
    loss, mirror_loss : float or None
        See `Fold`.
    file : str
        Its name in the folder; "" if there is none.
    status : str
        folded; kept, if an earlier run had written the file; or why there is none.
    """

    id: str
    length: int
    unseen: int
    confidence: float | None
    loss: float | None
    mirror_loss: float | None
    file: str
    status: str


@dataclass
class FoldFolder:
    """A folder with a file a protein, each written whole or not at all.

    A file that an earlier run wrote of the same model, sequence and settings is kept; one of others is never replaced.

    Parameters
    ----------
    folder : Path
        Is there.
    model : Model
    folding : Folding
    format : {"pdb", "mmcif"}
    """

    folder: Path
    model: Model
    folding: Folding
    format: str = "pdb"
    renamed: int = 0
    """Proteins whose file is not called by their id."""
    _names: set[str] = field(default_factory=set, init=False)

    def write(self, proteins: Iterable[Protein]) -> Iterator[FoldRow]:
        """Fold proteins and write their files; a row each, in input order, once its file is there.

        Raises
        ------
        FolderError
            If there is a file in the place of one that is not of the same model, sequence and settings.
        UsageError
            If the model is of another kind of task, or the format has no room for a protein.
        """
        written_before: list[FoldRow] = []
        paths: list[Path] = []

        def to_fold() -> Iterator[Protein]:
            for protein in proteins:
                check_room(self.format, protein.id, len(protein.sequence))
                path = self.folder / self._name_of(protein.id)
                row = self._kept(path, protein)
                if row is None:
                    paths.append(path)
                    yield protein
                else:
                    written_before.append(row)

        for protein, answer in self.folding(self.model, to_fold()):
            while written_before:
                yield written_before.pop(0)
            yield self._written(paths.pop(0), protein, answer)
        yield from written_before

    def _written(self, path: Path, protein: Protein, answer: Fold | Unanswered) -> FoldRow:
        length = len(protein.sequence)
        if isinstance(answer, Unanswered):
            return FoldRow(protein.id, length, length, None, None, None, "", str(answer))
        known = answer.confidence[~np.isnan(answer.confidence)]
        confidence = round(float(known.mean()), 4) if len(known) else float("nan")
        loss, mirror_loss = round(answer.loss, 4), round(answer.mirror_loss, 4)
        remarks = (
            f"CA trace predicted by esmcls {__version__} with model {self.model.name}: no experiment, no side chains.",
            "The B-factor is the predicted lDDT of the residue, times 100.",
            f"confidence {confidence}, loss {loss}, of mirror image {mirror_loss}",
            f"{_KEY} {self._key(protein)}",
        )
        text = WRITERS[self.format](TraceFile(protein.id, protein.sequence, answer.trace, answer.confidence, remarks))
        with atomic_text(path) as handle:
            handle.write(text)
        return FoldRow(protein.id, length, length - len(known), confidence, loss, mirror_loss, path.name, "folded")

    def _kept(self, path: Path, protein: Protein) -> FoldRow | None:
        """Return the row of a file that an earlier run wrote; None if there is no file."""
        if not path.exists():
            return None
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        facts = _FACTS.search(text)
        if facts is None or f"{_KEY} {self._key(protein)}" not in text:
            found = "is there already, and not of this model, sequence and settings"
            raise FolderError(path, found, "write into another folder (-o FOLDER), or remove it")
        length = len(protein.sequence)
        atoms = sum(line.startswith("ATOM ") for line in text.splitlines())
        confidence, loss, mirror_loss = map(float, facts.groups())
        return FoldRow(protein.id, length, length - atoms, confidence, loss, mirror_loss, path.name, "kept")

    def _key(self, protein: Protein) -> str:
        """Return what tells files of other models, sequences and settings apart."""
        manifest = self.model.manifest
        of_model: list[object] = [manifest.files, manifest.spec.digest, __version__]
        parts = [protein.id, protein.sequence, self.folding.starts, self.folding.seed, *of_model]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def _name_of(self, id_: str) -> str:
        """Return the name of a protein's file: none is used twice, nor differs from another in case alone."""
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", id_)[:_LONGEST_NAME]
        plain = f"_{plain}" if not plain or plain[0] in ".-" else plain
        name, number = plain, 1
        while name.lower() in self._names:
            number += 1
            name = f"{plain}-{number}"
        self._names.add(name.lower())
        self.renamed += name != id_
        return f"{name}{ENDINGS[self.format]}"
