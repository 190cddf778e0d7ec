"""The report of one model: what its kind of task is told of the data set, of the model, and of nearest proteins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import NOTHING, Shares, set_aside
from esmcls.evaluation.fit_and_ask import trained_on
from esmcls.evaluation.nearness import nearness
from esmcls.evaluation.neighbours import neighbours
from esmcls.evaluation.origin import machine, origin
from esmcls.heads.registry import reads_vectors
from esmcls.labels.kinds import classes_in_words
from esmcls.models.model import Model, cache_with
from esmcls.models.recipe import EXPLANATION, model_digest
from esmcls.tasks.closeness import Neighbours
from esmcls.tasks.comparing import Proceedings, Setting
from esmcls.tasks.examining import TEST_PART, Exam, Examination, Examined
from esmcls.tasks.task import AnyTask
from esmcls.workspace.workspace import Workspace


@dataclass(frozen=True, eq=False)
class Told:
    """All that the report of an evaluation is made of.

    Parameters
    ----------
    model : Model
    task : Task
        Who measured it.
    workspace, known : Workspace or None
        That caches are looked for in, and it if its data set is of the model's kind.
    exam : Exam
    examined : Examined
    on : str
        "test part", or a word for what was given.
    same_split : bool
        See `Assessment`.
    date : str
        Of the report.
    """

    model: Model
    task: AnyTask
    workspace: Workspace | None
    known: Workspace | None
    exam: Exam
    examined: Examined
    on: str
    same_split: bool
    date: str

    def write(self, folder: Path, names: Mapping[str, str]) -> Path:
        """Write the report into a folder and return its page."""
        train = self._trained_on()

        def nearest(rows: Sequence[int]) -> Neighbours:
            return neighbours(self.model, self.exam.x.take(list(rows)), train, self.workspace)

        examination = Examination(
            on=self.on,
            facts=self._facts(),
            notes=[line for beside in self.examined.beside for line in beside.lines()],
            warnings=self._warnings(),
            about=self._about(),
            encoder=self.model.spec.short_name if reads_vectors(self.model.head) else "",
            proceedings=self._proceedings(train),
            nearest=nearest,
            machine=machine(),
            names=names,
        )
        page: Path = self.task.write_examination(folder, self.model, self.exam, self.examined.evaluation, examination)
        return page

    def _trained_on(self) -> Dataset:
        """Return the proteins of the workspace that the model was fitted on; nobody, where it was another's."""
        if self.known is None:
            return self.exam.part.take([])
        shares = Shares.of_setup(self.model.manifest.setup)
        dataset = set_aside(self.known.dataset, shares, self.model.manifest.seed).kept
        return trained_on(dataset, self.model.refitted)

    def _about(self) -> dict[str, Any]:
        files = (path for path in self.model.folder.rglob("*") if path.is_file())
        return {
            "model": model_digest(self.model.folder),
            "validation": self.model.manifest.validation,
            "explanation": self.model.manifest.setup.get(EXPLANATION, ""),
            "megabytes": round(sum(path.stat().st_size for path in files) / 1e6, 1),
        }

    def _facts(self) -> list[tuple[str, str]]:
        facts = [("Measured on", self.on)] if self.on != TEST_PART else []
        classes = classes_in_words(self.model.task.kind, len(self.model.classes))
        facts += [("Model", f"{self.model.name}: head {self.model.head_name}, {classes}")]
        if reads_vectors(self.model.head):
            facts.append(("Encoder", ", ".join(dict.fromkeys(spec.short_name for spec in self.model.specs))))
        fitted = ", ".join(f"{name} {version}" for name, version in self.model.manifest.versions.items())
        return [*facts, ("Fitted with", fitted)] if fitted else facts

    def _warnings(self) -> list[str]:
        if self.same_split:
            return []
        return ["The model was fitted on another split, so it may have seen sequences of this test part."]

    def _proceedings(self, train: Dataset) -> Proceedings:
        counts = Counter(self.known.dataset.parts) if self.known is not None else Counter[str]()
        records = {part: counts.get(part, 0) for part in ("train", "validation", "test")}
        cache = cache_with(self.workspace, [*train.sequences, *self.exam.part.sequences], self.model.spec)
        return Proceedings(
            records=records | {"test": len(self.exam.part)},
            split_digest="" if self.known is None else self.known.split_digest,
            heads=[self.model.head_name],
            encoders=[self.model.spec.short_name],
            knobs={},
            folds=0,
            setting=Setting(NOTHING, seed=self.exam.seed, ia=self.exam.ia),
            not_run=[],
            origin=origin(self.known, self.date),
            nearness=nearness([(self.exam.part, train)], self.workspace, cache),
        )
