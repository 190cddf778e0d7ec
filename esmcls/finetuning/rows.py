"""Which rows of the data set are trained on, validated on and tested."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import SetAside, set_aside
from esmcls.datasets.sampling import stratify
from esmcls.datasets.sampling_plan import SamplingPlan, by_size
from esmcls.errors import UsageError, WorkspaceError
from esmcls.finetuning.config import FinetuneInputs
from esmcls.reading.record_columns import Columns
from esmcls.tasks.objective import Objective
from esmcls.workspace.workspace import Workspace


@dataclass(frozen=True)
class Rows:
    """The rows of a run.

    Parameters
    ----------
    apart : SetAside
        The rows of the chosen families, and what was set aside of them.
    train, held, test : Dataset
        To train on, to validate on, and to measure the finished model on.
    lines : list of str
        What to tell of the choice.
    """

    apart: SetAside
    train: Dataset
    held: Dataset
    test: Dataset
    lines: list[str]


def choose_rows(workspace: Workspace, objective: Objective, inputs: FinetuneInputs, seed: int) -> Rows:
    """Choose the rows of a run; where there is no validation part, some training rows are held out for it.

    Raises
    ------
    WorkspaceError
        If there is nothing to train on.
    UsageError
        If the families or the plan cannot be had.
    """
    dataset, lines = choose_families(workspace.dataset, inputs.families, inputs.stratify, seed)
    apart = set_aside(dataset, inputs.shares, seed)
    train, held = apart.kept.part("train"), apart.kept.part("validation")
    if not len(train):
        raise WorkspaceError(workspace.folder, "has no train part", "embed a labelled data set: esmcls embed INPUT")
    if not len(held):  # then the epoch is chosen on rows that are not trained on
        trained_on, held_out = objective.hold_out(train, seed)
        train, held = train.take(trained_on.tolist()), train.take(held_out.tolist())
    return Rows(apart, train, held, apart.kept.part("test"), lines)


def choose_families(dataset: Dataset, families: int | None, plan: str | None, seed: int) -> tuple[Dataset, list[str]]:
    """Return the rows of the largest families in all parts, with train drawn by a plan, and what to tell of it.

    Raises
    ------
    UsageError
        If `families` is less than 2, or the plan cannot be read.
    """
    if families is not None and families < 2:
        raise UsageError(f"--families {families}: give at least 2")
    if families is None and plan is None:
        return dataset, []
    sizes = Counter(label for label, part in zip(dataset.labels, dataset.parts, strict=True) if part == "train")
    largest = set(by_size(sizes)[:families])
    dataset = dataset.take([row for row, label in enumerate(dataset.labels) if label in largest])
    if plan is None:
        return dataset, []
    source = Columns(dataset.ids, dataset.sequences, dataset.labels, list(dataset.parts))
    drawn = stratify(source, SamplingPlan.parse(plan), seed=seed, trained_only=True)
    return dataset.take(sorted(drawn.rows)), drawn.lines() + drawn.warnings()
