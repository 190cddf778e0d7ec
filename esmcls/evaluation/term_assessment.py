"""A model of Gene Ontology terms measured on a workspace's test part or on proteins of the user's, and the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from esmcls.datasets.dataset import Dataset
from esmcls.errors import WorkspaceError
from esmcls.evaluation.assess import test_part, write_metrics
from esmcls.heads.term_heads import TermHead
from esmcls.labels.information_accretion import information_accretion, read_ia
from esmcls.labels.labels import LabelSets
from esmcls.models.model import Model
from esmcls.models.predict import features_for
from esmcls.tasks.go_terms.evaluation import TermEvaluation, evaluate_terms, with_unseen
from esmcls.tasks.go_terms.hierarchy import Terms
from esmcls.workspace.workspace import Workspace


@dataclass(frozen=True)
class TermAssessment:
    """What came of it.

    Parameters
    ----------
    evaluation : TermEvaluation
    file : Path or None
        The metrics as JSON; None where there is no workspace to write them in.
    same_split : bool
        Whether the model was fitted on the split whose test part was taken; if not, it may know some of it.
    weighted_by : str
        Where the information accretion is from: the training terms, a file, or empty where it is not known.
    """

    evaluation: TermEvaluation
    file: Path | None
    same_split: bool
    weighted_by: str

    def lines(self) -> list[str]:
        """Return tables for people, one line each."""
        if self.weighted_by:
            return [*self.evaluation.lines(), "", f"information accretion: from {self.weighted_by}"]
        return [
            *self.evaluation.lines(),
            "",
            "information accretion is not known: give --ia FILE for weighted measures",
        ]


def assess_terms(
    model: Model,
    workspace: Workspace | None,
    given: Dataset | None = None,
    *,
    ia: str | Path | None = None,
    source: str = "",
    seed: int = 0,
) -> TermAssessment:
    """Measure a model as CAFA does and write the metrics into the workspace.

    Parameters
    ----------
    model : Model
        Of many labels.
    workspace : Workspace or None
        Needed where `given` is None; information accretion is counted on its train part.
    given : Dataset, optional
        Proteins with their terms to measure on, which are propagated; default the workspace's test part.
    ia : str or Path, optional
        Table of information accretion, instead.
    source, seed
        As in `esmcls.evaluation.assess.assess`.

    Raises
    ------
    WorkspaceError
        If the workspace has no dataset of terms, or its split no test part.
    UsageError
        If no protein has a term.
    """
    assert model.terms is not None
    same, known = True, workspace if workspace is not None and workspace.has_terms else None
    if given is not None:
        part, sets = given, model.terms.ontology.term_sets(label.split() for label in given.labels)
    elif known is None:
        place = model.folder if workspace is None else workspace.folder
        raise WorkspaceError(place, "no test part with Gene Ontology terms", "give INPUT and --labels")
    else:
        part, same = test_part(known, known.dataset), model.manifest.split_digest == known.split_digest
        sets = known.term_sets(part)
    truth = with_unseen(sets, model.classes, model.terms.groups)
    weights, weighted_by = _accretion(truth, model.terms, known, ia)
    features = features_for(model, part, workspace)
    blocks = model.terms.blocks(cast(TermHead, model.head), features)
    counts = np.array(model.manifest.class_counts, dtype=np.int64)
    lengths = np.array([len(sequence) for sequence in part.sequences], dtype=np.int64)
    found = evaluate_terms(truth, blocks, counts, weights, seed, lengths=lengths)
    body = found.to_json() | {"information_accretion": weighted_by}
    return TermAssessment(found, write_metrics(model, workspace, source, body), same, weighted_by)


def _accretion(
    truth: LabelSets, terms: Terms, workspace: Workspace | None, ia: str | Path | None
) -> tuple[npt.NDArray[np.float64] | None, str]:
    """Return the bits of each class of `truth` and where they are from; a term that no training protein has says 0."""
    if ia is not None:
        return read_ia(ia, truth.classes), Path(ia).name
    if workspace is None:
        return None, ""
    labels = workspace.term_sets(workspace.dataset.part("train"))
    values = information_accretion(labels, terms.ontology).tolist()
    bits = dict(zip(labels.classes, values, strict=True))
    return np.array([bits.get(name, 0.0) for name in truth.classes]), "the training terms"
