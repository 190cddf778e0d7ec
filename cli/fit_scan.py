"""`esmcls fit-scan`: what `scan` needs, from the workspace's domains."""

from __future__ import annotations

from pathlib import Path

import click

from esmcls_cli.options.common import common
from esmcls_cli.options.names import complete_encoders
from esmcls_cli.options.speech import note
from esmcls_cli.options.values import PATH


@click.command("fit-scan")
@click.option("--name", default="scan", show_default=True, help="Name of the scanner.")
@click.option(
    "--linkers",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="Stretches of real proteins without a domain of these families; can be repeated.  [default: shuffled domains]",
)
@click.option(
    "--proteins",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="Whole proteins: those that hold a training domain, to the residue, are learnt from, too; can be repeated.",
)
@click.option(
    "--members",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Domains of a family that proteins are aligned with, at most: time grows with them.",
)
@click.option(
    "--encoder",
    shell_complete=complete_encoders,
    help="Make vectors as in the cache of this encoder.  [default: of the cache used last]",
)
@common(device=True, seed=True)
def command(
    workspace: Path,
    name: str,
    linkers: tuple[Path, ...],
    proteins: tuple[Path, ...],
    members: int,
    encoder: str | None,
    device: str,
    seed: int,
) -> None:
    """Fit a scanner, which finds domains in whole proteins, on the embedded data set of domains.

    Domains of the train part are put together to proteins, with linkers between, and the residue vectors kept that they
    have there: what proteins are aligned with. Chains of the validation part, and shuffled ones, calibrate it; then its
    domains are kept, too. The test part is never looked at. Writes scanners/<name>/.
    """
    from esmcls.scanning.fit import ScanConfig
    from esmcls.scanning.in_workspace import fit_in_workspace
    from esmcls.workspace.workspace import Workspace

    place = Workspace.open(workspace)
    stretches, whole = (_sequences(paths) for paths in (linkers, proteins))
    note(f"embedding chains of the domains, with {len(stretches):,} linkers between, and {len(whole):,} whole proteins")
    folder, scanner = fit_in_workspace(
        place,
        name,
        linkers=stretches,
        proteins=whole,
        encoder=encoder,
        config=ScanConfig(members=members),
        seed=seed,
        device=device,
    )
    click.echo(
        f"{folder}: {len(scanner.families):,} families; of validation domains in chains {scanner.found:.1%} are found"
    )
    note("next: esmcls scan proteins.fasta")


def _sequences(paths: tuple[Path, ...]) -> list[str]:
    from esmcls.reading.readers import read_records

    return [record.protein.sequence for record in read_records(list(paths))] if paths else []
