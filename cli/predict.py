"""`esmcls predict`: labels for new sequences."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from esmcls.errors import UsageError
from esmcls_cli.colours import NarrowRows
from esmcls_cli.engine import engine_options
from esmcls_cli.options.common import common
from esmcls_cli.options.names import model_option, weights_option
from esmcls_cli.options.output import output_file, text_output
from esmcls_cli.options.reading import evidence_option, on_bad_option
from esmcls_cli.options.speech import note, warn
from esmcls_cli.options.values import PATH, SOURCE, share

if TYPE_CHECKING:
    from esmcls.engines.ray_team import Cluster
    from esmcls.models.model import Model
    from esmcls.tasks.go_terms.known.taxon_terms import TaxonTerms


@click.command("predict")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@model_option
@weights_option
@click.option(
    "--vectors",
    type=PATH,
    metavar="FILE",
    help="Vectors of INPUT by their ids, as `esmcls import` takes them: for a model on imported ones.",
)
@click.option(
    "--top-k",
    type=click.IntRange(1),
    help="Classes a sequence, likeliest first.  [default: 1; of Gene Ontology terms all]",
)
@click.option(
    "--nearest/--no-nearest",
    default=None,
    help="Look for the nearest training protein among the workspace's vectors, where the model knows none.  "
    "[default: if there are 50,000 at most]",
)
@click.option(
    "--coverage",
    type=share,
    help="Fill `set`, `answer` (in a hierarchy), `low` and `high` (numbers): they hold the truth so often (.95).",
)
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1, min_open=True),
    help="Terms, labels, contacts: the least probability to write.  [default: .1 and what is predicted; in cafa .01]",
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
    help="Terms and labels: so many are predicted (of an aspect) where none reaches its threshold.  [default: 1]",
)
@click.option(
    "--known",
    multiple=True,
    type=SOURCE,
    metavar="FILE",
    help="Terms: GAF or table of what is known of the proteins, which is no news; can be repeated.",
)
@evidence_option
@click.option(
    "--taxon-constraints",
    type=PATH,
    metavar="FILE",
    help="Terms: leave out what a protein's organism cannot have: GO's taxon constraints (OBO), or term, "
    "never_in_taxon or only_in_taxon, taxon a line.",
)
@click.option(
    "--taxonomy", type=PATH, metavar="FILE", help="For these: nodes.dmp of NCBI's taxonomy, or child and parent a line."
)
@click.option(
    "--taxon",
    metavar="ID_OR_FILE",
    help="For these: the taxon of all proteins, or a table or GAF of whose each is.  [default: OX= of the headers]",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["tsv", "csv", "xlsx", "jsonl", "cafa", "fasta", "gff3"]),
    help="cafa: a CAFA submission, for terms; fasta, gff3: labels of residues, or their segments.  [default: as FILE "
    "ends, else tsv]",
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    help="File to write, whole or not at all: .tsv, .csv, .xlsx, .jsonl, .fasta or .gff3.  [default: stdout]",
)
@click.option(
    "--alignments",
    type=PATH,
    metavar="FILE",
    help="Write how each sequence aligns, of a model with the head align: a row a segment (TSV).",
)
@on_bad_option
@common(device=True)
@engine_options
def command(
    inputs: tuple[str, ...],
    workspace: Path,
    model: str | None,
    encoder: str | None,
    vectors: Path | None,
    format_: str | None,
    output: Path | None,
    alignments: Path | None,
    on_bad_record: Any,
    device: str,
    top_k: int | None,
    nearest: bool | None,
    known: tuple[Path, ...],
    evidence: tuple[str, ...],
    taxon_constraints: Path | None,
    taxonomy: Path | None,
    taxon: str | None,
    cluster: Cluster | None,
    **options: Any,
) -> int:
    """Give each sequence of INPUT its likeliest classes, labels, terms, number or contacts; or its residues a label.

    INPUT is anything that `esmcls embed` takes; `-` is standard input. Every record is answered, in input order; a
    terminal shows the columns that fit in eighty places, a file or pipe gets all.
    A model that was fitted with --hold-out-families says in `status` whether a sequence is accepted as of a family it
    knows, or rejected as a stranger; one fitted with --calibration can fill `set` and, where classes have a hierarchy,
    answer the narrowest `level` that is sure enough. One on imported vectors answers where it has the sequence's
    vector, and says no_vector where not. A model of terms or many labels writes those of at least --min-score, and says
    which of them are predicted by the thresholds that validation chose; terms that --known lists and all that contain
    them are left out, and so is what a NOT there denies; one of residues writes a row for each, and one
    of structures a row for each likely contact, as many as there are residues at most. `note` says what makes
    an answer doubtful: residues that the encoder did not see, a fragment, letters of DNA, low complexity; `model` whose
    answer it is.
    """
    from esmcls.engines.predict import ModelSource, asker_on_ray
    from esmcls.files import STATE
    from esmcls.models.predict import write_answers
    from esmcls.reading.readers import find_sources, read_records
    from esmcls.reading.records import Tally
    from esmcls.reporting.rows import NO_VECTOR
    from esmcls.workspace.workspace import Workspace

    for item in inputs:
        find_sources(item)  # a file that is not there is told before a model is loaded
    if output is not None:
        output_file(output)
    narrow = output is None and format_ is None and sys.stdout.isatty()
    format_ = format_ or _format_of(output)
    if format_ == "xlsx" and output is None:
        raise UsageError("--format xlsx writes a file; name it with -o FILE")
    if model is None and (workspace / STATE).exists():
        warn(str(Workspace.open(workspace).choose_model()))
    source = ModelSource(workspace, model, device, encoder, vectors, nearest)
    opened = source.open()
    if opened.lacks_neighbours:
        note("nearest training proteins are not told: their vectors are not in this workspace, or too many (--nearest)")
    options |= _known(opened, known, evidence)
    taxa = _taxa(opened, taxon_constraints, taxonomy, taxon)
    options |= {} if taxa is None else {"taxa": taxa}
    tally = Tally()
    proteins = (record.protein for record in read_records(inputs, on_bad=on_bad_record, tally=tally))
    with contextlib.ExitStack() as files:
        handle = files.enter_context(_writing(output, narrow))
        segments = None if alignments is None else files.enter_context(_writing(alignments, narrow=False))
        asker = None if cluster is None else asker_on_ray(cluster, source)
        written = write_answers(opened, proteins, handle, format_, k=top_k, alignments=segments, ask=asker, **options)
    if narrow:
        note("on a terminal these columns alone; all of them with -o FILE, or --format tsv")
    note(*tally.lines(), f"model {opened.name}: {written.summary()}", *([] if taxa is None else taxa.lines()))
    if written.repeated:
        warn(f"{len(written.repeated):,} records with the id of an earlier one, not written: {written.repeated[0]}, …")
    if written.undescribed:
        warn(f"{written.undescribed:,} descriptions left out: none of the first records has one, so there is no column")
    for name, status in zip(written.left_out, written.why, strict=True):
        if status != NO_VECTOR:
            warn(f"{name}: too large for the memory; left without a label")
    if lacking := [name for name, why in zip(written.left_out, written.why, strict=True) if why == NO_VECTOR]:
        names = ", ".join(lacking[:5]) + (", …" if len(lacking) > 5 else "")
        warn(f"{len(lacking):,} without a vector, left without a label: {names}; give theirs with --vectors FILE")
    return 3 if tally.bad or written.left_out else 0


def _known(model: Model, known: tuple[Path, ...], evidence: tuple[str, ...]) -> dict[str, Any]:
    """Return the options that say what is known, told once it is read."""
    model.task.refuse({"--known": known, "--evidence": evidence}, f"model {model.name}")
    if not known:
        return {"evidence": evidence}
    from esmcls.tasks.go_terms.known.known_terms import KnownTerms

    assert model.task.ontology is not None  # of a kind of task that takes --known
    terms = KnownTerms.read(known, model.task.ontology, evidence)
    note(*terms.lines())
    return {"known": terms}


def _taxa(model: Model, constraints: Path | None, taxonomy: Path | None, taxon: str | None) -> TaxonTerms | None:
    """Return what organisms cannot have, told once it is read; None where nothing is given."""
    given = {"--taxon-constraints": constraints, "--taxonomy": taxonomy, "--taxon": taxon}
    model.task.refuse(given, f"model {model.name}")
    if constraints is None:
        for option in (option for option, value in given.items() if value is not None):
            raise UsageError(f"{option} says whose proteins are for --taxon-constraints FILE; give that, too")
        return None
    if taxonomy is None:
        raise UsageError("--taxon-constraints needs --taxonomy FILE: nodes.dmp of NCBI's, or child<TAB>parent")
    from esmcls.tasks.go_terms.known.taxon_terms import TaxonTerms

    assert model.task.ontology is not None  # of a kind of task that takes them
    taxa = TaxonTerms.read(constraints, taxonomy, model.task.ontology, taxon)
    note(*taxa.read_lines())
    return taxa


_OTHER_FORMATS = ("bz2", "gz", "html", "json", "ods", "parquet", "xls", "xz", "zip", "zst")
"""What a file's name may end in that is never what it would hold."""


def _format_of(output: Path | None) -> str:
    """Return the format that a file's name ends in: a table with tabs, where it ends in nothing known."""
    suffix = "" if output is None else output.suffix.lower().lstrip(".")
    if suffix in _OTHER_FORMATS:
        raise UsageError(
            f"-o {output}: answers are written as .tsv, .csv, .xlsx or .jsonl; end the name in one of these"
        )
    known = ("csv", "xlsx", "jsonl", "fasta", "gff3")
    return suffix if suffix in known else {"fa": "fasta", "gff": "gff3"}.get(suffix, "tsv")


@contextlib.contextmanager
def _writing(output: Path | None, narrow: bool) -> Iterator[TextIO]:
    with text_output(output) as handle:
        yield cast(TextIO, NarrowRows(handle)) if narrow and output is None else handle
