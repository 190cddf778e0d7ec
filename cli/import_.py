"""`esmcls import`: embeddings that another tool made."""

from __future__ import annotations

from pathlib import Path

import click

from esmcls_cli.options.common import common
from esmcls_cli.options.speech import note, warn
from esmcls_cli.options.values import PATH, SOURCE, integers


@click.command("import")
@click.argument("file", type=PATH)
@click.option("--sequences", multiple=True, required=True, metavar="INPUT", help="Their sequences, joined by id.")
@click.option("--labels", type=SOURCE, metavar="FILE", help="Table `id<TAB>label`.")
@click.option("--hierarchy", metavar="dots|cath|ec|FILE", help="As in `esmcls embed`.")
@click.option("--pool", default="mean", show_default=True, help="What to make of residue vectors: mean, cls or max.")
@click.option("--layers", metavar="N,N,…", help="Layers to take of fair-esm's files.  [default: all]")
@common(seed=True)
def command(
    file: Path,
    sequences: tuple[str, ...],
    labels: Path | None,
    hierarchy: str | None,
    pool: str,
    layers: str | None,
    workspace: Path,
    seed: int,
) -> int:
    """Bring the vectors of FILE into the workspace.

    FILE is what `esmcls export` writes (npz, h5, Parquet), an h5 of bio_embeddings, EAT or UniProt, a .pth or SQLite
    file of Protify, a run or SQLite file of FastPLMs, a .npy of PEPE, safetensors, or the folder that fair-esm's
    extract.py wrote; it is known by what it holds, not by its name. Labelled sequences become the workspace's dataset.
    """
    from esmcls.reading.inputs import Inputs
    from esmcls.workspace.embed_in_workspace import import_in_workspace
    from esmcls.workspace.workspace import Workspace

    place = Workspace.open(workspace, create=True)
    inputs = Inputs(sequences, labels=labels, hierarchy=hierarchy)
    report, facts = import_in_workspace(
        place, file, inputs, pooling=pool, layers=integers(layers, "--layers"), seed=seed
    )
    note(*facts)
    click.echo(f"{report.imported:,} vectors imported")
    for names, kind in (
        (report.without_sequence, "vectors without a sequence"),
        (report.without_vector, "sequences without a vector"),
    ):
        if names:
            warn(f"{len(names):,} {kind}: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}")
    return 3 if report.without_sequence else 0
