"""`esmcls fit`: a head on the dataset's train part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from esmcls.errors import UsageError
from esmcls_cli.options.common import common
from esmcls_cli.options.names import complete_encoders, complete_heads, complete_models
from esmcls_cli.options.set_aside import set_aside_options, shares_of
from esmcls_cli.options.speech import note
from esmcls_cli.options.values import given_options

_SET_ASIDE = {
    "hold_out_families": "--hold-out-families",
    "calibration": "--calibration",
    "false_acceptance": "--false-acceptance",
    "accept_known": "--accept-known",
}
"""Options that not every kind of task has."""


@click.command("fit")
@click.option(
    "--head",
    shell_complete=complete_heads,
    help="What to fit; `esmcls heads` lists them.  [default: linear; of numbers ridge]",
)
@click.option(
    "--set", "settings", nargs=2, multiple=True, metavar="NAME VALUE", help="A knob of the head; can be repeated."
)
@click.option(
    "--of",
    "members",
    multiple=True,
    metavar="MODEL",
    shell_complete=complete_models,
    help="A model to combine (--head ensemble); twice or more, or with commas between.",
)
@click.option("--name", help="Name of the model.  [default: that of the head]")
@click.option(
    "--encoder",
    shell_complete=complete_encoders,
    help="Take the cache of this encoder.  [default: the cache used last]",
)
@click.option("--pool", help="Pooled vectors to take: mean, cls or max.  [default: the head's]")
@set_aside_options(
    "Hold this share of the families out, such as 10%, in 5 folds: each is a stranger once, to a head fitted for that "
    "alone, and sets the threshold of rejection. The model is fitted on all of them. Five more fits.  "
    "[default: none; all, where a line is drawn]"
)
@click.option(
    "--refit/--no-refit",
    default=None,
    help="Fit the validation rows, too, once all is chosen.  [default: where esmcls drew them, not where given]",
)
@common(device=True, seed=True)
def command(
    workspace: Path,
    head: str | None,
    settings: tuple[tuple[str, str], ...],
    members: tuple[str, ...],
    name: str | None,
    encoder: str | None,
    pool: str | None,
    hold_out_families: float | None,
    calibration: float,
    false_acceptance: float | None,
    accept_known: float | None,
    refit: bool | None,
    device: str,
    seed: int,
) -> None:
    """Fit a classifier, or a regression of numbers, on the embedded dataset.

    Every choice is made on the validation part; the test part is never looked at. Writes models/<name>/.
    """
    from esmcls.heads.trees.time_estimate import in_words
    from esmcls.models.combine import combine_in_workspace
    from esmcls.models.fit import fit_head
    from esmcls.tasks.kinds import task_of
    from esmcls.workspace.workspace import Workspace

    place = Workspace.open(workspace)
    task = task_of(place)
    head = head or task.default_head
    task.refuse(given_options(_SET_ASIDE), str(workspace))

    if place.model_folder(name or head) in place.models():
        note(f"models/{name or head} is there already, and is replaced once this fit is done; --name keeps both")

    def log(entry: dict[str, float]) -> None:
        if "estimated_seconds" in entry:
            note(f"{head}: about {in_words(entry['estimated_seconds'])}")

    names = [name for text in members for name in _models_named(text)]
    if names:
        if head != "ensemble":
            raise UsageError(f"--of is for --head ensemble, not for {head}")
        if hold_out_families or calibration:
            raise UsageError("--hold-out-families and --calibration are for the members: fit them with these")
        point = {"false_acceptance": false_acceptance, "accept_known": accept_known}
        fitted = combine_in_workspace(place, names, name or head, dict(settings), device, log, **point)
    else:
        shares = shares_of(hold_out_families, calibration, false_acceptance, accept_known, by_default=1.0)
        options: dict[str, Any] = {"name": name, "encoder": encoder, "refit": refit, "pooling": pool}
        options |= {"device": device, "seed": seed, "log": log, "shares": shares}
        fitted = fit_head(place, head, dict(settings), **options)
    click.echo("\n".join([str(fitted), *fitted.lines()]))
    note(f"next: {task.next_steps}")


def _models_named(text: str) -> list[str]:
    """Return the models that a --of names: a folder, whatever is in its path, or names with commas between."""
    from esmcls.files import MANIFEST

    return [text] if (Path(text) / MANIFEST).is_file() else text.split(",")
