"""Fitted models of terms into one: an ensemble, weighed by what each says of validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from esmcls.errors import ModelError, UsageError, WorkspaceError
from esmcls.heads.ensemble.term_ensemble import TermEnsembleHead, TermMember, find_related, said
from esmcls.heads.neighbours.term_votes import HELD_MOST
from esmcls.heads.registry import Log, reads_vectors
from esmcls.labels.labels import LabelSets
from esmcls.models.combine import ENSEMBLE
from esmcls.models.model import Model
from esmcls.models.predict import features_for
from esmcls.models.term_fitting import TermFit, validate
from esmcls.workspace.workspace import Workspace


def combine_terms(
    models: Sequence[Model], workspace: Workspace, *, device: str = "cpu", log: Log | None = None
) -> TermFit:
    """Combine fitted models; none is fitted again.

    Parameters
    ----------
    models : sequence of Model
        Of one workspace's terms, fitted on its train part alone: the validation part weighs them.
    workspace : Workspace
        Theirs.
    device, log
        As in `esmcls.models.term_fitting.fit_term_sets`.

    Raises
    ------
    UsageError
        If there are fewer than two models, or they were fitted on other classes.
    ModelError
        If one was fitted on another split or on the validation rows, too: it would be trusted too much.
    WorkspaceError
        If there is no validation part.
    """
    if len(models) < 2:
        raise UsageError("an ensemble takes two models or more")
    part = workspace.dataset.part("validation")
    if not len(part):
        found, fix = "its split has no validation part, which weighs the members", "embed with one (--validation)"
        raise WorkspaceError(workspace.folder, found, fix)
    for model in models:
        _check(model, workspace)
    first = models[0].manifest
    specs = tuple(dict.fromkeys(spec for one in models if reads_vectors(one.head) for spec in one.manifest.specs))
    manifest = replace(first, head=ENSEMBLE, spec=(specs or (first.spec,))[0], others=specs[1:], files={})
    members = [TermMember(one.folder.name, one.manifest.head, one.head, one.manifest.spec) for one in models]
    terms = models[0].terms
    assert terms is not None
    labels = LabelSets.from_names(workspace.term_sets(part).names(), terms.classes, terms.groups)
    x = features_for(replace(models[0], manifest=manifest), part, workspace)
    held = x.take(range(min(len(x), HELD_MOST)))
    truth = labels.take(slice(HELD_MOST))
    head = TermEnsembleHead.of(members, truth, lambda: said(members, held), find_related(members, held), device, log)
    own = head.specs or (first.spec,)  # without those of members that are left out
    manifest = replace(manifest, spec=own[0], others=own[1:])
    scores, thresholds = validate(head, terms, x, labels)
    return TermFit(head, replace(manifest, config=asdict(head.chosen), validation=scores), terms, thresholds)


def _check(model: Model, workspace: Workspace) -> None:
    if not model.manifest.many or model.manifest.split_digest != workspace.split_digest:
        raise ModelError(model.folder, "was not fitted on the terms and split of this workspace", "fit it again")
    if model.manifest.setup.get("refit"):
        found = "was fitted on the validation rows, too: nothing tells how much to trust it"
        raise ModelError(model.folder, found, "fit it again with --no-refit")
