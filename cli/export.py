"""`esmcls export`: embeddings as a file that other tools read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import click

from esmcls_cli.options import PATH, common, complete_encoders, note, output_file


@click.command("export")
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["npz", "h5", "parquet"]),
    required=True,
    help="Of NumPy, HDF5, or a table with a row a sequence.",
)
@click.option("-o", "--output", type=PATH, required=True, help="File to write, whole or not at all.")
@click.option(
    "--encoder",
    shell_complete=complete_encoders,
    help="Take the cache of this encoder.  [default: the cache used last]",
)
@click.option("--pool", default="mean", show_default=True, help="mean, cls or max.")
@common()
def command(
    inputs: tuple[str, ...], workspace: Path, format_: str, output: Path, encoder: str | None, pool: str
) -> None:
    """Write the vectors of the dataset, or of the records of INPUT, to one file.

    npz: ids, vectors, lengths. h5: a dataset a protein with the attribute original_id, as UniProt ships them. parquet:
    the columns id, length, vector.
    """
    from esmcls.cache.exchange.export_vectors import export_embeddings
    from esmcls.workspace.workspace import Workspace

    place = Workspace.open(workspace)
    proteins = _proteins(inputs) if inputs else place.dataset
    with place.latest_cache() if encoder is None else place.cache_of_encoder(encoder) as cache:
        count = export_embeddings(cache, proteins, output_file(output), format=format_, pooling=pool)
        note(f"{cache.spec.encoder}: {pool} vectors of {cache.spec.width:,} numbers")
    click.echo(f"{output}: {count:,} vectors")


@dataclass
class _Proteins:
    ids: list[str] = field(default_factory=list)
    sequences: list[str] = field(default_factory=list)


def _proteins(inputs: tuple[str, ...]) -> _Proteins:
    from esmcls.reading.readers import read_records

    proteins = _Proteins()
    for record in read_records(inputs):
        proteins.ids.append(record.protein.id)
        proteins.sequences.append(record.protein.sequence)
    return proteins
