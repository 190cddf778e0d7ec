"""`esmcls reference`: what `esmcls annotate` asks, made of proteins and annotations of the user's, or shown."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esmcls_cli.options.command_groups import Group
from esmcls_cli.options.common import common
from esmcls_cli.options.names import complete_encoders, fetch_encoder
from esmcls_cli.options.progress import progress
from esmcls_cli.options.reading import evidence_option, on_bad_option
from esmcls_cli.options.speech import note, warn
from esmcls_cli.options.values import PATH

if TYPE_CHECKING:
    from esmcls.reading.readers import OnBad


@click.group("reference", cls=Group)
def command() -> None:
    """What `esmcls annotate` asks: build one of your own proteins, or show what one knows."""


@command.command("build")
@click.argument("proteins", type=PATH, metavar="PROTEINS")
@click.argument("annotations", nargs=-1, required=True, type=PATH, metavar="ANNOTATIONS...")
@click.option("-o", "--output", type=PATH, required=True, metavar="REF", help="Folder to write, a model folder.")
@click.option("--obo", type=PATH, required=True, metavar="FILE", help="The Gene Ontology, such as go-basic.obo.")
@click.option("--source", help="What and of when it is, told with every answer.  [default: the names of the files]")
@evidence_option
@click.option(
    "--clusters",
    type=PATH,
    metavar="FILE",
    help="Table of the cluster of each id.  [default: by MMseqs2 at 30 % identity, where it is installed]",
)
@click.option(
    "--components",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Numbers that are kept of a vector: fewer are smaller and a little worse.  [default: all]",
)
@click.option("--encoder", default="bundled", show_default=True, shell_complete=complete_encoders, metavar="NAME")
@click.option("-w", "--workspace", type=PATH, help="Keep data set, vectors and models there.  [default: nowhere]")
@on_bad_option
@common(workspace=False, device=True, seed=True)
def build(
    proteins: Path,
    annotations: tuple[Path, ...],
    output: Path,
    obo: Path,
    source: str | None,
    evidence: tuple[str, ...],
    clusters: Path | None,
    components: int,
    encoder: str,
    workspace: Path | None,
    on_bad_record: OnBad,
    device: str,
    seed: int,
) -> int:
    """Make a reference of PROTEINS, a FASTA file, and their ANNOTATIONS: GAF files, or tables `id<TAB>term`.

    Its parts are those of `esmcls embed --obo` and `esmcls fit`: nearest neighbours among vectors and, where MMseqs2
    or pyhmmer is installed, alignment; weighed on whole clusters that are then fitted on, too. `esmcls annotate
    --reference REF` asks it, and so does `esmcls predict --model REF`. At any size: what was embedded into a
    --workspace is not embedded again.
    """
    from esmcls.models.folder import refuse_foreign
    from esmcls.reading.inputs import Inputs
    from esmcls.reference.build import SETTINGS, build_reference, read_inputs
    from esmcls.workspace.embed_in_workspace import EmbeddingRecipe, embed_in_workspace
    from esmcls.workspace.workspace import Workspace

    refuse_foreign(output)
    with _workspace(workspace) as folder:
        given = ((proteins,), (), (), annotations, clusters, on_bad_record, obo, True, None, None, evidence)
        intake = read_inputs(Inputs(*given), seed)
        note(*intake.lines())
        fetch_encoder(encoder)
        place = Workspace.open(folder, create=True)
        report = embed_in_workspace(place, intake, EmbeddingRecipe(encoder), device=device, progress=progress)
        note(*report.lines())
        for name in intake.names(report.too_large):
            warn(f"{name}: too large for the memory; left out")
        settings = {**SETTINGS, "knn": {"components": components}}
        named = source or ", ".join(path.name for path in (proteins, *annotations, obo))
        built = build_reference(place, output, source=named, settings=settings, device=device, seed=seed)
    click.echo("\n".join([str(built), *built.scope.lines()[1:]]))
    note(f"next: esmcls annotate FASTA --reference {output}")
    return 3 if intake.tally.bad or report.too_large else 0


@contextlib.contextmanager
def _workspace(given: Path | None) -> Iterator[Path]:
    """Give the workspace that was named, or one for a while."""
    if given is not None:
        yield given
        return
    from esmcls.files import temporary_folder

    with temporary_folder("reference") as folder:
        yield folder / "workspace"


@command.command("show")
@click.argument("reference", type=PATH, required=False, metavar="[REF]")
@common(workspace=False)
def show(reference: Path | None) -> None:
    """Say what a reference knows: the one that comes with esmcls, or REF."""
    from esmcls.reference.annotate import open_reference

    with open_reference(reference) as known:
        click.echo("\n".join([*known.scope.lines(), f"model: {known.model.name}, head {known.model.head_name}"]))
