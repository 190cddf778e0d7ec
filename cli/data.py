"""`esmcls data`: statistics of a set of sequences or structures, a smaller one drawn from it, its parts drawn anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esmcls.errors import UsageError
from esmcls.labels.kinds import GO_TERMS, NAMED, ONE_LABEL
from esmcls.reporting.phrases import percent_of, table
from esmcls_cli.options.command_groups import Group
from esmcls_cli.options.common import common
from esmcls_cli.options.output import output_file
from esmcls_cli.options.reading import evidence_option, on_bad_option
from esmcls_cli.options.speech import note, warn
from esmcls_cli.options.values import PATH, SOURCE

if TYPE_CHECKING:
    from esmcls.datasets.sampling_plan import Allotment
    from esmcls.datasets.statistics import Statistics
    from esmcls.datasets.structures import StructureSet
    from esmcls.labels.ontology import Ontology
    from esmcls.reading.inputs import Inputs
    from esmcls.reading.readers import OnBad
    from esmcls.reading.record_columns import Columns
    from esmcls.reading.records import Record, Tally


@click.group("data", cls=Group)
def command() -> None:
    """Look at a set of sequences before it is embedded: stats, structures, stratify, split."""


_inputs = click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
_labels = click.option("--labels", type=SOURCE, multiple=True, metavar="FILE", help="Table `id<TAB>label`.")
_output = click.option("-o", "--output", type=PATH, required=True, help="The .csv or .csv.gz to write.")


@command.command("stats")
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@_labels
@click.option("--obo", type=SOURCE, metavar="FILE", help="Gene Ontology: the tables of --labels list terms of it.")
@click.option("--task", type=click.Choice(NAMED), help="What the labels are.  [default: what they look like]")
@click.option("--limit", type=click.IntRange(1), default=1022, show_default=True, help="Count what is longer.")
@click.option(
    "--part", type=click.Choice(["train", "validation", "test"]), help="Records of this part alone.  [default: all]"
)
@click.option(
    "--x-min", type=click.IntRange(1), help="Fit the power law from this size up.  [default: where it fits best]"
)
@evidence_option
@click.option("-o", "--output", type=PATH, metavar="FOLDER", help="Write stats.json, stats.html and rank-size.svg.")
@on_bad_option
@common()
def stats(
    inputs: tuple[str, ...],
    labels: tuple[Path, ...],
    obo: Path | None,
    task: str | None,
    limit: int,
    part: str | None,
    x_min: int | None,
    evidence: tuple[str, ...],
    output: Path | None,
    on_bad_record: OnBad,
    workspace: Path,
) -> int:
    """Count sequences, residues and families, and say how unequal the families are.

    Of many labels a protein: how many, how rare they are, and of Gene Ontology terms which aspects are covered.
    Without INPUT: the workspace's dataset.
    """
    from esmcls.datasets.statistics import describe_records
    from esmcls.reading.inputs import Inputs
    from esmcls.reading.records import Tally
    from esmcls.tasks.go_terms.statistics import describe_terms
    from esmcls.tasks.many_labels.statistics import describe_labels
    from esmcls.workspace.workspace import Workspace

    tally = Tally()
    files = Inputs(inputs, labels=labels, on_bad=on_bad_record, obo=obo, task=task, evidence=evidence)
    records, ontology, many = _described(files, workspace, tally)
    statistics: Statistics
    if ontology is not None:
        statistics = describe_terms(records, ontology, limit=limit, part=part)
    elif many:
        statistics = describe_labels(records, limit=limit, part=part)
    else:
        lists: list[str] = []
        noted = _noting_lists(records, lists)
        kind = task if inputs else Workspace.open(workspace).task
        checked = bool(inputs) or kind not in (ONE_LABEL, GO_TERMS)
        statistics = describe_records(noted, limit=limit, part=part, x_min=x_min, checked=checked, task=kind)
        if lists and inputs and task is None:  # known once all has been read
            tally = Tally()
            statistics = describe_labels(_anew(files, tally), limit=limit, part=part)
    note(*([*tally.lines(), *tally.source_lines()] if inputs else []))
    click.echo("\n\n".join(table(section) for section in statistics.sections()))
    if output is not None:
        from esmcls.datasets.statistics_page import write_overview

        names = inputs or (str(workspace),)
        title = "Sequences of " + ", ".join(Path(name).name or name for name in names) + (f", {part}" if part else "")
        note(f"written: {', '.join(map(str, write_overview(statistics, output, title)))}")
    return 3 if tally.bad else 0


def _described(files: Inputs, workspace: Path, tally: Tally) -> tuple[Iterable[Record], Ontology | None, bool]:
    """Return the records to describe, the ontology where they have terms, and whether they have many labels."""
    from esmcls.labels.kinds import MANY_LABELS
    from esmcls.workspace.workspace import Workspace

    if files.inputs:
        return files.records(tally), files.ontology, files.task == MANY_LABELS
    if files.files or files.task:
        given = "--task belongs" if files.task else "--labels and --obo belong"
        raise UsageError(f"{given} to an INPUT; name it, too")
    place = Workspace.open(workspace)
    return place.dataset.records(), place.ontology, place.task == MANY_LABELS


def _noting_lists(records: Iterable[Record], lists: list[str]) -> Iterator[Record]:
    """Pass records on, and note the first label that lists several."""
    from esmcls.labels.label_lists import lists_several

    for record in records:
        if not lists and record.label and lists_several(record.label):
            lists.append(record.label)
        yield record


def _anew(files: Inputs, tally: Tally) -> Iterable[Record]:
    """Read files a second time."""
    if not files.rereadable:
        raise UsageError("labels with ; or | between them, from standard input, which is read once: --task many-labels")
    return files.records(tally)


@command.command("structures")
@_inputs
@click.option("--validation", type=SOURCE, multiple=True, metavar="FILE", help="Chains of the validation part.")
@click.option("--test", type=SOURCE, multiple=True, metavar="FILE", help="Chains of the test part.")
@click.option("-o", "--output", type=PATH, metavar="FILE", help="The .csv or .csv.gz to write; esmcls embed reads it.")
@click.option("--ss8", type=PATH, metavar="FILE", help="Write a FASTA of DSSP's states, to fit a residue head on.")
@click.option("--accessibility", type=PATH, metavar="FILE", help="Write a FASTA of relative accessibilities.")
@on_bad_option
@common(workspace=False)
def structures(
    inputs: tuple[str, ...],
    validation: tuple[Path, ...],
    test: tuple[Path, ...],
    output: Path | None,
    ss8: Path | None,
    accessibility: Path | None,
    on_bad_record: OnBad,
) -> int:
    """Count the protein chains of structures, and say how many of a test part have relatives in another.

    INPUT: PDB, mmCIF and BinaryCIF files, packed or not, an .npz of chains, or folders of these. A chain's part is that
    of the option, else what its file or folder is called (test, validation, train). Secondary structure and
    accessibility are those of the .npz; of other files they are made from atoms where one of the outputs is asked for,
    the former by mkdssp where it is installed.
    """
    from esmcls.datasets.structures import StructureSet
    from esmcls.reading.record_columns import check_table_name
    from esmcls.reading.structures.inputs import StructureReading, chains_of_inputs

    outputs = [output_file(path) for path in (output, ss8, accessibility) if path is not None]
    if output is not None:
        check_table_name(output)
    reading = StructureReading()
    pairs = [
        pair
        for paths, part in ((inputs, None), (validation, "validation"), (test, "test"))
        for pair in chains_of_inputs(paths, reading, part=part, skip=on_bad_record == "skip", surface=bool(outputs))
    ]
    note(*reading.lines())
    given = any(part not in (None, "train") for _, part in pairs)
    chains = StructureSet([chain for chain, _ in pairs], [part or ("train" if given else None) for _, part in pairs])
    if given and (rest := sum(part is None for _, part in pairs)):
        note(f"{rest:,} chains without a part beside others with one: taken as train")
    click.echo("\n\n".join(table(section) for section in chains.sections()))
    if chains.rows("test"):
        click.echo(f"\n{_leakage(chains)}")
    _write_structures(chains, output, ss8, accessibility)
    return 3 if reading.bad else 0


def _leakage(chains: StructureSet) -> str:
    """Search the test chains among all others, and say how many are found."""
    import os

    import numpy as np

    from esmcls.datasets.structures import LEAKS_BELOW, SENSITIVITIES, leakage
    from esmcls.heads.alignment.search import Limits, installed, search

    tested = chains.rows("test")
    others = [row for row in range(len(chains.parts)) if chains.parts[row] != "test"]
    engine = installed()
    if engine is None or not others:
        return f"leakage: not looked for, {'there is no other part' if engine else 'MMseqs2 is not installed'}"
    both = chains.sequences(tested), chains.sequences(others)
    evalues = [
        search(engine, *both, Limits(sensitivity, LEAKS_BELOW), best=1, threads=os.cpu_count() or 1).evalues[:, 0]
        for sensitivity in SENSITIVITIES[: 1 if engine.name == "phmmer" else None]
    ]
    return f"{leakage(np.min(evalues, axis=0))} ({engine.name} {engine.version})"


def _write_structures(chains: StructureSet, output: Path | None, ss8: Path | None, accessibility: Path | None) -> None:
    if output is not None:
        chains.write(output)
        note(f"{output}: {len(chains.chains):,} chains; next: esmcls embed {output}")
    for path, write, what in (
        (ss8, chains.write_states, "DSSP states"),
        (accessibility, chains.write_accessibility, "accessibility"),
    ):
        if path is not None:
            count = write(path)
            note(f"{path}: {what} of {count:,} of {len(chains.chains):,} chains")


@command.command("stratify")
@_inputs
@_labels
@click.option("--plan", metavar="NxM+NxM…", help="M sequences of each of the N largest families, then of the next N.")
@click.option("--total", type=click.IntRange(1), help="So many sequences, of each family in proportion to its size.")
@click.option("--keep-all-classes", is_flag=True, help="With --total: at least 3 of each family, or all that it has.")
@click.option("--trained-only", is_flag=True, help="Leave validation and test of families not drawn from out.")
@_output
@on_bad_option
@common(workspace=False, seed=True)
def stratify(
    inputs: tuple[str, ...],
    labels: tuple[Path, ...],
    plan: str | None,
    total: int | None,
    keep_all_classes: bool,
    trained_only: bool,
    output: Path,
    on_bad_record: OnBad,
    seed: int,
) -> int:
    """Draw a smaller set: so many sequences of each family.

    Where a split is given, only train is drawn from; validation and test go through unchanged. What is drawn depends on
    the seed and the sequences alone, not on the order of INPUT. Counts and every family with fewer sequences than asked
    for go to a file .report.json beside the output.
    """
    from esmcls.datasets.sampling import stratify as draw
    from esmcls.plain_values import write_json

    allotment = _allotment(plan, total, keep_all_classes)
    report = _report_of(output)
    source, tally = _read(inputs, labels, on_bad_record, labelled=True)
    note(*tally.lines(), *tally.source_lines())
    drawn = draw(source, allotment, seed=seed, trained_only=trained_only)
    source.write(output, drawn.parts, drawn.rows)
    write_json(report, {"format": 1, "asked": str(allotment), "seed": seed, **drawn.to_json()})
    note(*drawn.lines())
    warn(*drawn.warnings())
    click.echo(f"{output}: {drawn.drawn[0]:,} sequences of {drawn.drawn[1]:,} families; report in {report.name}")
    return 3 if tally.bad else 0


def _allotment(plan: str | None, total: int | None, keep_all_classes: bool) -> Allotment:
    from esmcls.datasets.sampling_plan import AT_LEAST, SamplingPlan, Total

    if (plan is None) == (total is None):
        raise UsageError("how many sequences? give either --plan, such as 1000x200+4000x50, or --total")
    if plan is None:
        assert total is not None
        return Total(total, AT_LEAST if keep_all_classes else 0)
    if keep_all_classes:
        raise UsageError("--keep-all-classes belongs to --total; a plan says of each family how many")
    return SamplingPlan.parse(plan)


def _report_of(output: Path) -> Path:
    """Return where the report of a table goes, having made sure that both can appear there."""
    from esmcls.reading.record_columns import check_table_name

    name = check_table_name(output_file(output)).name
    return output.with_name(name[: name.lower().rindex(".csv")] + ".report.json")


def _read(
    inputs: Sequence[str], labels: Sequence[Path], on_bad: OnBad, *, labelled: bool = False
) -> tuple[Columns, Tally]:
    from esmcls.reading.readers import read_records
    from esmcls.reading.record_columns import Columns
    from esmcls.reading.records import Tally

    tally = Tally()
    records = read_records(inputs, labels=labels, several=None, on_bad=on_bad, tally=tally)
    return Columns.of(records, labelled=labelled), tally


@command.command("split")
@_inputs
@_labels
@click.option("--by-cluster", is_flag=True, help="Whole clusters of similar sequences at a time, by MMseqs2.")
@click.option("--clusters", type=SOURCE, metavar="FILE", help="Table of the cluster of each id, instead of MMseqs2.")
@click.option(
    "--identity",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="Share of identical residues that makes a cluster.",
)
@click.option(
    "--method",
    type=click.Choice(["easy-cluster", "easy-linclust"]),
    default="easy-cluster",
    show_default=True,
    help="Of MMseqs2: the sensitive one, or the fast one.",
)
@click.option("--fractions", default="0.8,0.1,0.1", show_default=True, help="Shares of train, validation and test.")
@_output
@on_bad_option
@common(workspace=False, seed=True)
def split(
    inputs: tuple[str, ...],
    labels: tuple[Path, ...],
    by_cluster: bool,
    clusters: Path | None,
    identity: float,
    method: str,
    fractions: str,
    output: Path,
    on_bad_record: OnBad,
    seed: int,
) -> int:
    """Draw train, validation and test anew, family by family or by whole clusters; a given split is passed over."""
    from esmcls.datasets.clusters import cluster_sequences, find_mmseqs
    from esmcls.datasets.sampling import clusters_of, split_anew
    from esmcls.datasets.split import check_fractions
    from esmcls.reading.record_columns import check_table_name

    shares = check_fractions(_numbers(fractions))
    check_table_name(output_file(output))
    if by_cluster and clusters is None:
        find_mmseqs()
    source, tally = _read(inputs, labels, on_bad_record)
    groups = None
    if clusters is not None:
        groups = clusters_of(source, clusters, tally)
    elif by_cluster:
        groups = cluster_sequences(source.sequences, identity=identity, method=method)
    note(*tally.lines(), *tally.source_lines())
    parts, report = split_anew(source, groups, fractions=shares, seed=seed)
    source.write(output, parts)
    passed = sum(part is not None for part in source.parts)
    note(*report.lines(), *([f"{passed:,} records had a part: passed over"] if passed else []))
    click.echo(table(_parts_table(source, parts, groups)))
    return 3 if tally.bad else 0


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--fractions {text}: not numbers with commas between, such as 0.8,0.1,0.1") from None


def _parts_table(source: Columns, parts: list[str], groups: list[str] | None) -> list[list[str]]:
    """Return records, families and clusters of each part, under their names."""
    from esmcls.datasets.split import part_counts

    kinds = {"families": source.labels, "clusters": groups}
    columns = {name: column for name, column in kinds.items() if column is not None}
    rows = [["part", "records", "percent", *columns]]
    for part, count in part_counts(parts).items():
        distinct = (
            len({name for name, here in zip(column, parts, strict=True) if here == part}) for column in columns.values()
        )
        rows.append([part, f"{count:,}", percent_of(count, len(parts), 1), *(f"{number:,}" for number in distinct)])
    return rows
