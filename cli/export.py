"""`esmcls export`: embeddings as a file that other tools read, or a model as other programs open it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import click

from esmcls.errors import UsageError
from esmcls_cli.options.common import common
from esmcls_cli.options.names import complete_encoders, complete_models
from esmcls_cli.options.output import output_file
from esmcls_cli.options.speech import note
from esmcls_cli.options.values import PATH, given_options

VECTORS = ("npz", "h5", "parquet")
MODELS = ("hf", "peft", "onnx")
_ABOUT_MODELS = {"hf": "the encoder, for transformers", "peft": "the adapters, for PEFT", "onnx": "the head"}


@click.command("export")
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option(
    "--format",
    "format_",
    type=click.Choice([*VECTORS, *MODELS]),
    required=True,
    help="Of vectors: NumPy, HDF5, or a table with a row a sequence. Of a model: transformers, PEFT, ONNX.",
)
@click.option("-o", "--output", type=PATH, required=True, help="File or folder to write, whole or not at all.")
@click.option(
    "--model",
    metavar="NAME_OR_FOLDER",
    shell_complete=complete_models,
    help="Write this model instead of vectors.",
)
@click.option(
    "--encoder",
    shell_complete=complete_encoders,
    help="Take the cache of this encoder.  [default: the cache used last]",
)
@click.option("--pool", default="mean", show_default=True, help="mean, cls or max.")
@common()
def command(
    inputs: tuple[str, ...],
    workspace: Path,
    format_: str,
    output: Path,
    model: str | None,
    encoder: str | None,
    pool: str,
) -> None:
    """Write the vectors of the dataset, or of the records of INPUT, to one file; or a model for other programs.

    npz: ids, vectors, lengths. h5: a dataset a protein with the attribute original_id, as UniProt ships them. parquet:
    the columns id, length, vector.

    Of a model, hf is its ESM-2 as a folder of transformers, which AutoModel.from_pretrained and --encoder open; peft
    the adapters of `finetune --method lora --adapters-only`, for PeftModel.from_pretrained; onnx a head of linear or
    mlp with all its scaling, from vectors to probabilities.
    """
    if (format_ in MODELS) != (model is not None):
        wanted = f"writes a model; name it with --model (vectors: {', '.join(VECTORS)})"
        other = f"is of vectors; a model is written as {', '.join(MODELS)}"
        raise UsageError(f"--format {format_} {wanted if model is None else other}")
    if model is None:
        _export_vectors(inputs, workspace, format_, output, encoder, pool)
        return
    refused = [*(["INPUT"] if inputs else []), *given_options({"encoder": "--encoder", "pool": "--pool"})]
    if refused:
        raise UsageError(f"{refused[0]} says nothing of a model; leave it out")
    _export_model(workspace, model, format_, output)


def _export_model(workspace: Path, model: str, format_: str, output: Path) -> None:
    from esmcls.models.predict import open_model
    from esmcls.models.sharing.export_model import export_model

    opened = open_model(workspace, model)
    export_model(opened, output_file(output) if format_ == "onnx" else output, format=format_)
    click.echo(f"{output}: {_ABOUT_MODELS[format_]}, of model {opened.name}")


def _export_vectors(
    inputs: tuple[str, ...], workspace: Path, format_: str, output: Path, encoder: str | None, pool: str
) -> None:
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
