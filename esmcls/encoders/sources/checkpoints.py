"""The six published ESM-2 checkpoints: their names, and the shape that each must have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from esmcls.encoders.sources.hub import Repository, parse_repository
from esmcls.errors import WeightsError

if TYPE_CHECKING:
    from esmcls.encoders.model import ModelConfig

OWNER: Final = "facebook"
"""Of the checkpoints' repositories on the Hugging Face Hub."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A published ESM-2 checkpoint and the shape it must have.

    Examples
    --------
    >>> CHECKPOINTS["esm2_t6_8M_UR50D"].parameters
    7408960
    """

    name: str
    layers: int
    width: int
    heads: int

    @property
    def file(self) -> str:
        """Name of fair-esm's file of it."""
        return f"{self.name}.pt"

    @property
    def repository(self) -> Repository:
        """Where it lies on the hub."""
        return Repository(f"{OWNER}/{self.name}")

    @property
    def parameters(self) -> int:
        """Parameters of the encoder, without language-model and contact heads."""
        width = self.width
        attention = 4 * (width + 1) * width
        feed_forward = (8 * width + 5) * width
        norms = 4 * width
        return 33 * width + self.layers * (attention + feed_forward + norms) + 2 * width


CHECKPOINTS: Final = {
    checkpoint.name: checkpoint
    for checkpoint in (
        Checkpoint("esm2_t6_8M_UR50D", 6, 320, 20),
        Checkpoint("esm2_t12_35M_UR50D", 12, 480, 20),
        Checkpoint("esm2_t30_150M_UR50D", 30, 640, 20),
        Checkpoint("esm2_t33_650M_UR50D", 33, 1280, 20),
        Checkpoint("esm2_t36_3B_UR50D", 36, 2560, 40),
        Checkpoint("esm2_t48_15B_UR50D", 48, 5120, 40),
    )
}


def checkpoint_of(name: str) -> Checkpoint | None:
    """Return the checkpoint that fair-esm or the hub calls so; None of any other name, and of one with a revision.

    Examples
    --------
    >>> checkpoint_of("facebook/esm2_t6_8M_UR50D") is checkpoint_of("esm2_t6_8M_UR50D")
    True
    """
    repository = parse_repository(name)
    owner, _, short = name.rpartition("/")
    known = CHECKPOINTS.get(short if owner in ("", OWNER) else "")
    return known if known is None or repository in (None, known.repository) else None


def check_architecture(name: str, config: ModelConfig, where: str | Path) -> None:
    """Raise WeightsError if weights named as a published checkpoint are a model of another shape.

    Parameters
    ----------
    name : str
        An encoder's name; one that is not a checkpoint's, at any revision, has no expected shape.
    config : ModelConfig
        From `weights.load_state`.
    where : str or Path
        The file or folder, for the message.
    """
    expected = checkpoint_of(name.partition("@")[0])
    if expected is None:
        return
    published, actual = ((shape.layers, shape.width, shape.heads) for shape in (expected, config))
    if published != actual:
        shapes = "{} layers x {}, {} heads, instead of {} layers x {}, {} heads".format(*actual, *published)
        raise WeightsError(name, f"{where} holds a model of {shapes}", "remove it and fetch it again")
