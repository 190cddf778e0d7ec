"""`esmcls embed`: sequences into the workspace's cache, and a labelled set as its dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esmcls.errors import UsageError
from esmcls.labels.kinds import NAMED, OF_RESIDUES
from esmcls.reporting.phrases import length_of_time, size
from esmcls_cli.engine import ENGINE_OPTIONS, engine_options
from esmcls_cli.options.command_groups import Grouped
from esmcls_cli.options.common import common
from esmcls_cli.options.names import complete_encoders, fetch_encoder
from esmcls_cli.options.progress import progress
from esmcls_cli.options.reading import (
    evidence_option,
    label_column_option,
    mask_column_option,
    on_bad_option,
    split_column_option,
)
from esmcls_cli.options.speech import note, warn
from esmcls_cli.options.values import SOURCE, integers

if TYPE_CHECKING:
    from esmcls.cache.spec import EmbeddingSpec
    from esmcls.cache.to_embed import EmbedReport
    from esmcls.engines.ray_team import Cluster
    from esmcls.reading.inputs import Inputs
    from esmcls.reading.readers import OnBad
    from esmcls.workspace.embed_in_workspace import EmbeddingRecipe
    from esmcls.workspace.intake import Intake
    from esmcls.workspace.workspace import Workspace


_GROUPS = {
    "Common options": ("labels", "encoder", "workspace", "device", "dry_run", "quiet"),
    "Parts and labels": (
        *("validation", "test", "task", "label_column", "mask_column", "split_column", "obo", "evidence"),
        *("no_propagate", "hierarchy", "clusters", "on_bad_record", "seed"),
    ),
    "How a vector is made": ("layers", "keep_all_layers", "long", "window", "stride", "pool", "precision"),
    "What is kept, and where it is made": (
        *("dtype", "chunks", "residues", "residue_dtype", "shard"),
        *ENGINE_OPTIONS,
        "debug",
    ),
}


@click.command("embed", cls=Grouped, groups=_GROUPS)
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option("--validation", type=SOURCE, multiple=True, metavar="FILE", help="Records of the validation part.")
@click.option("--test", type=SOURCE, multiple=True, metavar="FILE", help="Records of the test part.")
@click.option(
    "--labels",
    type=SOURCE,
    multiple=True,
    metavar="FILE",
    help="Table `id<TAB>label`, FASTA of residues' labels, or CAFA's with --obo.",
)
@click.option(
    "--task",
    type=click.Choice(NAMED),
    help="What the labels are.  [default: what they look like; with --obo, its terms]",
)
@label_column_option
@mask_column_option
@split_column_option
@click.option("--obo", type=SOURCE, metavar="FILE", help="Gene Ontology: --labels list terms of it, many a protein.")
@evidence_option
@click.option("--no-propagate", is_flag=True, help="Learn the terms listed alone, without those that contain them.")
@click.option(
    "--hierarchy",
    metavar="dots|cath|ec|FILE",
    help="What classes lie under: labels are codes with dots, or a table `child<TAB>parent` says it.",
)
@click.option("--clusters", type=SOURCE, metavar="FILE", help="Table of the cluster of each id: draw whole clusters.")
@click.option(
    "--encoder",
    shell_complete=complete_encoders,
    default="bundled",
    show_default=True,
    metavar="NAME_OR_PATH",
    help="`esmcls encoders` lists names; ids of the Hugging Face Hub are others.",
)
@click.option(
    "--layers",
    metavar="N,N,…",
    help="Layers side by side, 0 the embedding; auto: those that do best on the validation part.  [default: the "
    "encoder's]",
)
@click.option("--keep-all-layers", is_flag=True, help="With --layers auto, keep the vectors of all layers, too.")
@click.option("--long", default="balanced", show_default=True, help="start, balanced, ends, window, chunk or full.")
@click.option("--window", type=click.IntRange(1), help="Residues of a window or chunk.")
@click.option("--stride", type=click.IntRange(1), help="Residues from one window to the next.")
@click.option("--pool", default="mean", show_default=True, help="mean, cls, max: one or more with commas between.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8", "fp8"]),
    default="auto",
    show_default=True,
    help="auto: that of the encoder's cache here, else bf16 or fp16, as the hardware has it.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="Of the vectors that are kept.",
)
@click.option("--chunks", is_flag=True, help="Keep the vector of each encoder input, too.")
@click.option("--residues", is_flag=True, help="Keep the vector of each residue, too (large).")
@click.option(
    "--residue-dtype",
    type=click.Choice(["as-dtype", "int8"]),
    default="as-dtype",
    show_default=True,
    help="int8: keep those of residues in half the bytes.",
)
@click.option("--dry-run", is_flag=True, help="Say how many bytes and how much time it would take.")
@click.option("--shard", metavar="I/N", help="Embed the I-th of N shares; run all N, anywhere, into one workspace.")
@on_bad_option
@common(devices=True, seed=True)
@engine_options
def command(
    inputs: tuple[str, ...],
    validation: tuple[Path, ...],
    test: tuple[Path, ...],
    labels: tuple[Path, ...],
    task: str | None,
    label_column: str | None,
    mask_column: str | None,
    split_column: str | None,
    obo: Path | None,
    evidence: tuple[str, ...],
    no_propagate: bool,
    hierarchy: str | None,
    clusters: Path | None,
    workspace: Path,
    encoder: str,
    layers: str | None,
    keep_all_layers: bool,
    long: str,
    window: int | None,
    stride: int | None,
    pool: str,
    precision: str,
    dtype: str,
    chunks: bool,
    residues: bool,
    residue_dtype: str,
    dry_run: bool,
    shard: str | None,
    on_bad_record: OnBad,
    device: str,
    seed: int,
    cluster: Cluster | None,
) -> int:
    """Embed sequences into the workspace; what is there already is not embedded again.

    INPUT is FASTA, CSV or TSV with a column `sequence`, Pfam's Stockholm, a folder of these, `-`, or the URL of one
    (https://, s3://, gs://); packed or not.
    If it has labels it becomes the workspace's dataset, else its vectors are only kept. With --obo the labels are
    Gene Ontology terms, in CAFA's tables `EntryID term aspect`. Without INPUT: the dataset again, in a fresh
    workspace the demo set.
    """
    from esmcls.cache.spec import RESIDUE, RESIDUE_INT8
    from esmcls.datasets.dataset import Dataset
    from esmcls.encoders.windows import parse_long
    from esmcls.engines.embed import embed_on_ray
    from esmcls.files import STATE
    from esmcls.reading.inputs import Inputs
    from esmcls.workspace.embed_in_workspace import EmbeddingRecipe, embed_in_workspace, kind_of
    from esmcls.workspace.workspace import Workspace

    place = Workspace.open(workspace, create=not dry_run) if not dry_run or (workspace / STATE).exists() else None
    given = (inputs, validation, test, labels, clusters, on_bad_record, obo, not no_propagate)
    files = Inputs(*given, task, hierarchy, evidence, label_column, mask_column, split_column)
    intake = _intake(files, place, workspace, seed)
    encoder = encoder if place is None else place.encoder_name(encoder)
    fetch_encoder(encoder)
    of_residues = {"int8": RESIDUE_INT8, "as-dtype": RESIDUE}[residue_dtype]
    wishes = (("chunk", chunks), (of_residues, residues or residue_dtype == "int8"))
    ragged = tuple(name for name, wanted in wishes if wanted)
    auto = layers == "auto"
    if auto and kind_of(place, intake) in OF_RESIDUES:
        raise UsageError(
            "--layers auto is not for labels of residues: it compares vectors of proteins; name the layers"
        )
    if keep_all_layers and not auto:
        raise UsageError("--keep-all-layers belongs to --layers auto; give that, too")
    recipe = EmbeddingRecipe(
        encoder,
        None if auto else integers(layers, "--layers"),
        str(parse_long(long, window=window, stride=stride)),
        precision,
        dtype,
        (*pool.split(","), *ragged),
    )
    part = _shard(shard)
    if auto and (part != (1, 1) or cluster is not None):
        shares = "the shares" if cluster is None else "them with --engine ray"
        raise UsageError(f"--layers auto looks at all sequences; embed {shares} with all layers named, then run it")
    if dry_run:
        recipe = _whole(place, recipe, device) if auto else recipe
        lines = _plan_lines(place, intake, recipe, device, part, cluster)
        note(*intake.lines())
        click.echo("\n".join(lines))
        return 0
    assert place is not None
    if auto:
        return _embed_auto(place, intake, recipe, keep_all_layers, device, seed)
    first = not place.caches
    if cluster is None:
        report = embed_in_workspace(place, intake, recipe, device=device, shard=part, progress=progress)
    else:
        report = embed_on_ray(place, intake, recipe, cluster, shard=part, progress=progress)
    code = _tell(report, intake)
    if (
        first
        and layers is None
        and isinstance(intake.dataset, Dataset)
        and place.caches[-1].spec.layers
        and place.task not in OF_RESIDUES
    ):
        note(_of_auto(place.caches[-1].spec, report))
    return code


def _tell(report: EmbedReport, intake: Intake) -> int:
    """Say what was embedded; return the exit code."""
    note(*intake.lines())
    click.echo("\n".join(report.lines()))
    for name in intake.names(report.too_large):
        warn(f"{name}: too large for the memory; left out")
    return 3 if intake.tally.bad or report.too_large else 0


def _whole(place: Workspace | None, recipe: EmbeddingRecipe, device: str) -> EmbeddingRecipe:
    """Return a recipe with all layers, as --layers auto embeds them."""
    from esmcls.layer_choice.embed import whole_recipe

    return whole_recipe(place, recipe, device)[1]


def _embed_auto(
    place: Workspace, intake: Intake, recipe: EmbeddingRecipe, keep_all: bool, device: str, seed: int
) -> int:
    """Embed with layers that are chosen; return the exit code."""
    from esmcls.layer_choice.embed import embed_choosing_layers

    chosen = embed_choosing_layers(
        place, intake, recipe, keep_all=keep_all, device=device, seed=seed, progress=progress
    )
    code = _tell(chosen.report, intake)
    click.echo("\n".join(chosen.lines()))
    return code


def _of_auto(spec: EmbeddingSpec, report: EmbedReport) -> str:
    """Say that layers can be chosen, and what that costs: all are embedded, in one go."""
    layers = f"layer{'' if len(spec.layers) == 1 else 's'} {','.join(map(str, spec.layers))}"
    return (
        f"{layers}: the encoder's own; --layers auto takes those that do best on the validation part, for about "
        f"{length_of_time(1.3 * report.seconds)} more, all layers on disk meanwhile"
    )


def _intake(inputs: Inputs, place: Workspace | None, folder: Path, seed: int) -> Intake:
    """Take in the INPUT; without one the workspace's dataset again, or in a fresh workspace the demo set."""
    from esmcls.workspace.intake import Intake, demo_set, labelled_again, take_in

    if not inputs.inputs and inputs.files:
        raise UsageError("--validation, --test, --labels, --obo and --clusters belong to an INPUT; name it, too")
    if not inputs.propagate and inputs.obo is None:
        raise UsageError("--no-propagate belongs to --obo FILE; give that, too")
    if inputs.evidence and inputs.obo is None:
        raise UsageError("--evidence belongs to --obo FILE; give that, too")
    if inputs.inputs:
        return take_in(inputs, seed=seed)
    if place is not None and place.has_dataset:
        note(f"no INPUT: the dataset of {folder} again")
        if inputs.hierarchy is not None:
            return labelled_again(place.dataset, place.task, inputs.hierarchy)
        return Intake(place.dataset)
    if place is not None and place.caches:
        raise UsageError(f"no INPUT, and {folder} has no dataset to embed again; name a file")
    note("no INPUT and a fresh workspace: the demo set")
    return take_in(replace(inputs, inputs=(demo_set(),)), seed=seed)


def _shard(text: str | None) -> tuple[int, int]:
    part, _, parts = (text or "1/1").partition("/")
    if not (part.isdecimal() and parts.isdecimal()):
        raise UsageError(f"--shard {text}: give I/N, such as 1/4 for the first of four")
    return int(part), int(parts)


def _plan_lines(
    place: Workspace | None,
    intake: Intake,
    recipe: EmbeddingRecipe,
    device: str,
    shard: tuple[int, int],
    cluster: Cluster | None,
) -> list[str]:
    """Return what a run would take; nothing is written."""
    from esmcls.engines.embed import plan_on_ray
    from esmcls.heads.alignment.residues.aligner import ResidueConfig
    from esmcls.workspace.embed_in_workspace import kind_of, plan_in_workspace

    if cluster is None:
        plan = plan_in_workspace(place, intake, recipe, device=device, shard=shard)
    else:
        on_ray = plan_on_ray(place, intake, recipe, cluster, shard=shard)
        plan = on_ray.plan
    each = ResidueConfig.components
    of_align = f"a model of the head align keeps {each} bytes a residue: {size(each * plan.residues)} of all these"
    return [
        f"{plan.distinct:,} distinct sequences: {plan.cached:,} cached, {plan.missing:,} to embed",
        f"{plan.residues:,} residues, {size(plan.nbytes)} on disk, about {length_of_time(plan.seconds)}",
        *([] if cluster is None else on_ray.lines()),
        *([of_align] if plan.of_residues and plan.residues and kind_of(place, intake) not in OF_RESIDUES else []),
        "nothing was written (--dry-run)",
    ]
