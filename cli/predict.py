"""`esmcls predict`: labels for new sequences."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from esmcls.errors import UsageError
from esmcls_cli.options import PATH, common, note, on_bad_option, output_file, share, warn

if TYPE_CHECKING:
    from esmcls.models.model import Model
    from esmcls.models.predict import Written
    from esmcls.reading.records import Protein


@click.command("predict")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--model", metavar="NAME_OR_FOLDER", help="[default: the workspace's best, by its score on validation]")
@click.option("--encoder", metavar="PATH", help="Weights of the model's encoder, where they lie elsewhere now.")
@click.option(
    "--top-k",
    type=click.IntRange(1),
    help="Classes a sequence, likeliest first.  [default: 1; of Gene Ontology terms all]",
)
@click.option("--coverage", type=share, help="Fill `set`: classes that hold the true one this often, such as .95.")
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1, min_open=True),
    help="Terms: the least probability to write.  [default: .1 and what is predicted; in cafa .01]",
)
@click.option(
    "--aspect",
    "aspects",
    multiple=True,
    type=click.Choice(["C", "F", "P"]),
    help="Terms: of this aspect alone; can be repeated.",
)
@click.option(
    "--at-least",
    type=click.IntRange(0),
    help="Terms: so many are predicted in an aspect where none reaches its threshold.  [default: 1]",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["tsv", "jsonl", "cafa"]),
    default="tsv",
    show_default=True,
    help="cafa: a CAFA submission, for terms.",
)
@click.option("-o", "--output", type=PATH, help="File to write, whole or not at all.  [default: stdout]")
@on_bad_option
@common(device=True)
def command(
    inputs: tuple[str, ...],
    workspace: Path,
    model: str | None,
    encoder: str | None,
    format_: str,
    output: Path | None,
    on_bad_record: Any,
    device: str,
    **options: Any,
) -> int:
    """Give each sequence of INPUT its likeliest classes, or its Gene Ontology terms.

    INPUT is anything that `esmcls embed` takes; `-` is standard input. Every record is answered, in input order.
    A model that was fitted with --hold-out-families says in `status` whether a sequence is of a family it knows; one
    fitted with --calibration can fill `set`. A model of terms writes those of at least --min-score, and says which of
    them are predicted by the thresholds that validation chose.
    """
    from esmcls.models.predict import open_model
    from esmcls.reading.readers import read_records
    from esmcls.reading.records import Tally

    opened = open_model(workspace, model, device=device, encoder=encoder)
    tally = Tally()
    proteins = (record.protein for record in read_records(inputs, on_bad=on_bad_record, tally=tally))
    answer = _labels if opened.terms is None else _terms
    _check(opened, options | {"format": "cafa" if format_ == "cafa" else None})
    with _writing(output) as handle:
        written = answer(opened, proteins, handle, format_, **options)
    note(*tally.lines(), f"model {opened.folder.name}: {written.records:,} records answered")
    for name in written.left_out:
        warn(f"{name}: too large for the memory; left without a label")
    return 3 if tally.bad or written.left_out else 0


_FOR_TERMS = {"min_score": "--min-score", "aspects": "--aspect", "at_least": "--at-least", "format": "--format cafa"}
_FOR_ONE = {"coverage": "--coverage"}


def _check(model: Model, options: dict[str, Any]) -> None:
    """Refuse options that do not apply to a model."""
    if model.terms is None:
        wrong, has = _FOR_TERMS, "gives one label a protein"
    else:
        wrong, has = _FOR_ONE, "gives Gene Ontology terms"
    for name in (name for name in wrong if options[name] not in (None, ())):
        raise UsageError(f"model {model.folder.name} {has}: leave {wrong[name]} out, or name another with --model")


def _labels(
    model: Model,
    proteins: Iterable[Protein],
    handle: TextIO,
    format_: str,
    *,
    top_k: int | None,
    coverage: float | None,
    **_: Any,
) -> Written:
    from esmcls.models.predict import predict_stream, write_predictions

    return write_predictions(predict_stream(model, proteins, top_k or 1, coverage=coverage), handle, format_)


def _terms(
    model: Model,
    proteins: Iterable[Protein],
    handle: TextIO,
    format_: str,
    *,
    top_k: int | None,
    min_score: float | None,
    aspects: tuple[str, ...],
    at_least: int | None,
    **_: Any,
) -> Written:
    from esmcls.tasks.go_terms.prediction import Wanted, answer_terms, predict_terms, write_cafa, write_terms

    given: dict[str, Any] = {"min_score": min_score, "aspects": "".join(aspects) or None, "most": top_k}
    known = {name: value for name, value in given.items() if value is not None}
    if format_ == "cafa":
        if at_least is not None:
            raise UsageError("--at-least is for tables: --format cafa holds all terms of at least --min-score")
        return write_cafa(answer_terms(model, proteins, Wanted.cafa(**known)), model.classes, handle)
    wanted = Wanted(**known, at_least=1 if at_least is None else at_least)
    return write_terms(predict_terms(model, proteins, wanted), handle, format_)


@contextlib.contextmanager
def _writing(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    from esmcls.files import atomic_path

    with atomic_path(output_file(output)) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        yield handle
