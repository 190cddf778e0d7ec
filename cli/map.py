"""`esmcls map`: all proteins in a plane."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from esmcls.errors import UsageError
from esmcls_cli.options.common import common
from esmcls_cli.options.names import complete_encoders, complete_models
from esmcls_cli.options.output import output_file
from esmcls_cli.options.speech import note
from esmcls_cli.options.values import PATH

if TYPE_CHECKING:
    from esmcls.insight.map.proteins import ProteinMap
    from esmcls.models.model import Model
    from esmcls.reading.records import Protein
    from esmcls.workspace.workspace import Workspace

FORMATS = {
    ".html": "html",
    ".png": "png",
    ".svg": "svg",
    ".pdf": "pdf",
    ".tsv": "tsv",
    ".parquetbundle": "protspace",
}
"""What the end of a file's name stands for."""


@click.command("map")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help=".html (to move about in), .png, .svg, .pdf, .tsv or .parquetbundle (ProtSpace); can be repeated.  "
    "[default: map.html in the workspace's reports]",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["html", "png", "svg", "pdf", "tsv", "protspace"]),
    help="Of the one FILE.  [default: as FILE ends]",
)
@click.option(
    "--encoder",
    metavar="NAME",
    shell_complete=complete_encoders,
    help="Whose vectors to lay out, if several encoders embedded the set.  [default: the latest]",
)
@click.option("--new", type=PATH, metavar="FILE", help="New proteins to draw over the known ones, as FASTA or a table.")
@click.option(
    "--model",
    metavar="NAME_OR_FOLDER",
    shell_complete=complete_models,
    help="Colour by its answers, too: class, probability, and status.",
)
@click.option("--colour", metavar="NAME", help="Of figures: label, part, probability and so on.  [default: label]")
@click.option(
    "--most", type=click.IntRange(4), default=200_000, show_default=True, help="Proteins; of more, so many are drawn."
)
@common(device=True, seed=True)
def command(
    outputs: tuple[Path, ...],
    format_: str | None,
    encoder: str | None,
    new: Path | None,
    model: str | None,
    colour: str | None,
    most: int,
    workspace: Path,
    device: str,
    seed: int,
) -> int:
    """Lay out the workspace's proteins in a plane, alike ones near one another.

    Vectors are whitened and laid out by t-SNE. The page works offline: move about, zoom, search an id, colour by label,
    part, a model's answer or its probability. New proteins lie where their nearest known ones do.
    """
    from esmcls.insight.map.figure import choose_colour
    from esmcls.insight.map.layout import require_opentsne
    from esmcls.insight.map.proteins import make_map
    from esmcls.workspace.workspace import Workspace

    require_opentsne()
    place = Workspace.open(workspace)
    formats = _formats(outputs or (place.reports / "map.html",), format_)
    cache = place.latest_cache() if encoder is None else place.cache_of_encoder(encoder)
    proteins = [] if new is None else _read(new)
    opened = _opened(place, model, device)
    drawn = make_map(cache, place.dataset, proteins, opened, most=most, seed=seed)
    chosen = choose_colour(drawn, colour)
    if drawn.left_out:
        note(f"{drawn.left_out:,} proteins are not on the map: not embedded, or beyond --most {most:,}")
    for path, kind in formats:
        _write(path, kind, drawn, chosen.name, cache.spec.short_name)
        click.echo(f"{path}: {drawn.known:,} proteins" + f" and {len(proteins):,} new" * bool(proteins))
    return 0


def _formats(outputs: tuple[Path, ...], format_: str | None) -> list[tuple[Path, str]]:
    """Return each file with its format."""
    if format_ is not None and len(outputs) > 1:
        raise UsageError("--format is for one FILE; several have the format that each name ends in")
    pairs = []
    for path in outputs:
        kind = format_ or FORMATS.get(path.suffix.lower())
        if kind is None:
            raise UsageError(f"-o {path}: a map is written as {', '.join(FORMATS)}; end the name in one of these")
        if kind in ("png", "svg", "pdf") and path.suffix.lower() != f".{kind}":
            raise UsageError(f"-o {path}: a figure's name ends in its format; name it .{kind}")
        pairs.append((output_file(path), kind))
    return pairs


def _read(path: Path) -> list[Protein]:
    from esmcls.reading.readers import find_sources, read_records
    from esmcls.reading.records import Tally

    find_sources(str(path))
    tally = Tally()
    proteins = [record.protein for record in read_records([str(path)], on_bad="error", tally=tally)]
    note(*tally.lines())
    return proteins


def _opened(place: Workspace, model: str | None, device: str) -> Model | None:
    from esmcls.models.predict import open_model

    return None if model is None else open_model(place.folder, model, device=device)


def _write(path: Path, kind: str, drawn: ProteinMap, colour: str, encoder: str) -> None:
    from esmcls.files import atomic_text
    from esmcls.insight.map.figure import choose_colour, draw_map
    from esmcls.insight.map.page import map_page
    from esmcls.insight.map.protspace import write_bundle
    from esmcls.insight.map.table import write_places

    if kind == "protspace":
        write_bundle(path, drawn)
    elif kind in ("html", "tsv"):
        with atomic_text(path) as handle:
            if kind == "tsv":
                write_places(handle, drawn)
            else:
                about = f"{drawn.known:,} proteins by the vectors of {encoder}, whitened and laid out by t-SNE."
                handle.write(map_page(drawn, "Map of proteins", about))
    else:
        draw_map(drawn, path, choose_colour(drawn, colour))
