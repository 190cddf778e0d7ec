"""A scanner fitted on the domains of a workspace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from esmcls.datasets.dataset import Dataset
from esmcls.errors import UsageError
from esmcls.files import refuse_address
from esmcls.labels.kinds import ONE_LABEL
from esmcls.scanning.fit import Material, NamedDomains, ScanConfig, fit_scanner
from esmcls.scanning.folder import SCANNERS, encoded, refuse_other, save_scanner, whole
from esmcls.scanning.scanner import Scanner
from esmcls.workspace.workspace import Workspace


def fit_in_workspace(
    workspace: Workspace,
    name: str = "scan",
    *,
    linkers: Sequence[str] = (),
    proteins: Sequence[str] = (),
    encoder: str | None = None,
    config: ScanConfig | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[Path, Scanner]:
    """Fit a scanner on the train part of a workspace's domains, calibrate it on the validation part, and save it.

    Parameters
    ----------
    workspace : Workspace
        Of one label a sequence: the family of a domain.
    name : str
        Of the folder, in scanners/.
    linkers, proteins
        As in `Material`.
    encoder : str, optional
        Whose cache says how vectors are made; default the cache used last.
    config, seed
        As in `fit_scanner`.
    device : str
        Of the encoder.

    Returns
    -------
    (Path, Scanner)

    Raises
    ------
    UsageError
        If the workspace is of another kind of task, or lacks domains.
    """
    refuse_address(name)
    if workspace.task != ONE_LABEL:
        raise UsageError(f"{workspace.folder} is not of one label a sequence; scan finds domains, each of one family")
    if Path(name).name != name or name in ("", ".", ".."):
        raise UsageError(f"--name {name!r}: the name of a folder, without a path")
    folder = workspace.folder / SCANNERS / name
    refuse_other(folder)
    cache = workspace.latest_cache() if encoder is None else workspace.cache_of_encoder(encoder)
    spec = whole(cache.spec)
    parts = [_domains(workspace.dataset.part(part)) for part in ("train", "validation")]
    material = Material(parts[0], parts[1], linkers, proteins)
    scanner = fit_scanner(material, spec, encoded(spec, device), config, seed=seed)
    return save_scanner(folder, scanner), scanner


def _domains(part: Dataset) -> NamedDomains:
    return [(sequence, label) for sequence, label in zip(part.sequences, part.labels, strict=True) if label is not None]
