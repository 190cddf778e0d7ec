"""`esmcls cache`: what is embedded, whether it is sound, and how to bring caches together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esmcls.reporting.phrases import size
from esmcls_cli.options.command_groups import Group
from esmcls_cli.options.common import common
from esmcls_cli.options.names import complete_encoders
from esmcls_cli.options.speech import note
from esmcls_cli.options.values import PATH

if TYPE_CHECKING:
    from esmcls.cache.store import EmbeddingCache


@click.group("cache", cls=Group)
def command() -> None:
    """Look after the workspace's embeddings: info, verify, merge, compact."""


_encoder = click.option(
    "--encoder",
    metavar="NAME",
    shell_complete=complete_encoders,
    help="Only caches of this encoder.  [default: all]",
)


def _caches(workspace: Path, encoder: str | None) -> Iterator[EmbeddingCache]:
    """Open the workspace's caches one after the other, the one used last at the end."""
    from esmcls.cache.store import EmbeddingCache
    from esmcls.errors import WorkspaceError
    from esmcls.workspace.workspace import Workspace

    entries = [entry for entry in Workspace.open(workspace).caches if encoder in (None, entry.spec.encoder)]
    if not entries:
        of = f" with encoder {encoder!r}" if encoder is not None else ""
        raise WorkspaceError(workspace, f"nothing is embedded{of}", "run: esmcls embed INPUT")
    for entry in entries:
        with EmbeddingCache.open(entry.folder) as cache:
            yield cache


@command.command("info")
@_encoder
@common()
def info(workspace: Path, encoder: str | None) -> None:
    """Say what is embedded, with what, and how many bytes it takes."""
    from esmcls.info import about_cache

    for cache in _caches(workspace, encoder):
        click.echo("\n".join(about_cache(cache)))


@command.command("verify")
@_encoder
@click.option("--sample", type=click.IntRange(0), default=32, show_default=True, help="Sequences to embed again.")
@common(device=True)
def verify(workspace: Path, encoder: str | None, sample: int, device: str) -> None:
    """Read every byte, compare it with its digest, and embed a sample again."""
    from esmcls.cache.features import was_int8
    from esmcls.workspace.embed_in_workspace import encoder_of
    from esmcls.workspace.workspace import Workspace

    place = Workspace.open(workspace)
    sequences = place.dataset.sequences if place.has_dataset and sample else []
    for cache in _caches(workspace, encoder):
        opened = encoder_of(cache.spec, device) if sequences else None
        if opened is not None and was_int8(cache.spec, opened.digest):
            note(f"{cache.folder}: int8 as 0.1.0 rounded it, which no encoder makes now: none is embedded again")
            opened = None
        report = cache.verify(opened, sequences, sample)
        again = f"{report.checked} embedded again, off by at most {report.worst:.1e}"
        click.echo(
            f"{cache.folder}: sound; {report.rows:,} sequences, segments: {report.segments}, "
            f"{size(report.nbytes)}; {again if report.checked else 'none embedded again'}"
        )


@command.command("merge")
@click.argument("others", nargs=-1, required=True, type=PATH, metavar="FOLDER...")
@common()
def merge(others: tuple[Path, ...], workspace: Path) -> None:
    """Take over the embeddings of other workspaces or cache folders; what is here already stays."""
    from esmcls.workspace.embed_in_workspace import caches_in
    from esmcls.workspace.workspace import Workspace

    place = Workspace.open(workspace, create=True)
    for folder, spec in [entry for other in others for entry in caches_in(other)]:
        with place.cache_for(spec) as cache:
            click.echo(f"{folder}: {cache.merge([folder]):,} sequences taken over into {cache.folder}")


@command.command("compact")
@_encoder
@common()
def compact(workspace: Path, encoder: str | None) -> None:
    """Write the segments of each cache into one."""
    for cache in _caches(workspace, encoder):
        before = cache.compact()
        click.echo(f"{cache.folder}: {before} segments before, {cache.segments} now; {size(cache.nbytes)}")
