"""What a model was made of: two models of one recipe are the same, whoever asked for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from esmcls.cache.spec import EmbeddingSpec
from esmcls.datasets.held_out import Shares
from esmcls.files import MANIFEST, sha256_file
from esmcls.heads.settings import Settings, parse_settings
from esmcls.models.manifest import Manifest, versions
from esmcls.tasks.task import AnyTask

ASKED: Final = "asked"
"""What a manifest's setup says of the knobs as they were asked for, before any was chosen."""

EXPLANATION: Final = "explanation"
"""What a manifest's setup says of the way of fitting that the head took, such as which members an ensemble left out."""


def asked(task: AnyTask, config: Settings, members: Sequence[Path] = ()) -> dict[str, Any]:
    """Return what a manifest keeps of what was asked for.

    Parameters
    ----------
    task : Task
    config : Settings
        Of the head, with None where something is to be chosen.
    members : sequence of Path
        Folders of the models that an ensemble is of.
    """
    wanted: dict[str, Any] = {"config": asdict(config), "labels": task.identity()}
    return wanted | ({"members": [[folder.name, model_digest(folder)] for folder in members]} if members else {})


def model_digest(folder: Path) -> str | None:
    """Return what identifies a model folder's content: its manifest holds the digest of every other file."""
    path = folder / MANIFEST
    return sha256_file(path) if path.is_file() else None


@dataclass(frozen=True)
class Recipe:
    """All that decides a model, but for the machine.

    Parameters
    ----------
    head : str
    specs : tuple of EmbeddingSpec
        Of the vectors; empty of an ensemble, whose members say it.
    data : tuple of (str, str)
        Digests of the data set and of its split.
    seed : int
    shares : Shares
        What was set aside.
    refit : bool
        Whether validation rows were fitted on in the end.
    asked : dict
        See `asked`.
    versions : dict
    """

    head: str
    specs: tuple[EmbeddingSpec, ...]
    data: tuple[str, str]
    seed: int
    shares: Shares
    refit: bool
    asked: Mapping[str, Any]
    versions: Mapping[str, str]

    @classmethod
    def of(cls, manifest: Manifest) -> Recipe | None:
        """Return that of a model; None where its manifest does not say it, as that of a tuned one or by 0.1.0."""
        wanted = manifest.setup.get(ASKED)
        if not isinstance(wanted, Mapping):
            return None
        specs = () if "members" in wanted else manifest.specs
        data = manifest.dataset_digest, manifest.split_digest
        shares = Shares.of_setup(manifest.setup)
        refit = bool(manifest.setup.get("refit"))
        return cls(manifest.head, specs, data, manifest.seed, shares, refit, wanted, manifest.versions)

    @classmethod
    def planned(
        cls,
        task: AnyTask,
        head: str,
        settings: Mapping[str, Any],
        specs: tuple[EmbeddingSpec, ...],
        data: tuple[str, str],
        *,
        seed: int,
        shares: Shares,
        refit: bool,
        members: Sequence[Path] = (),
    ) -> Recipe:
        """Return that of a model to be made.

        Raises
        ------
        EsmclsError
            If there is no such head or knob.
        """
        config = parse_settings(task.head_class(head).Config, settings)
        wanted = asked(task, config, members)
        return cls(head, () if members else specs, data, seed, shares, refit, wanted, versions())
