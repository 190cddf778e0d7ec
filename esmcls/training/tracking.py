"""Training runs in Weights & Biases or TensorBoard, for who wants them there besides the log and its curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from esmcls.errors import MissingExtraError, UnknownNameError

if TYPE_CHECKING:
    from esmcls.training.loop import Entry

TRACKERS: Final = ("wandb", "tensorboard")
PROJECT: Final = "esmcls"


class Tracker(Protocol):
    """Takes each step's entry; is closed in the end."""

    def __call__(self, entry: Entry) -> None:
        """Take the entry of a step."""
        ...

    def close(self) -> None:
        """Write what is not written yet."""
        ...


class Wandb:
    """A run of Weights & Biases; with WANDB_MODE=offline it stays on this machine, below `folder`."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, object]) -> None:
        try:
            import wandb
        except ImportError:
            raise MissingExtraError("--track wandb", "wandb", "track") from None
        self.run = wandb.init(project=PROJECT, name=name, dir=str(folder), config=dict(config))

    def __call__(self, entry: Entry) -> None:
        """Take the entry of a step."""
        self.run.log({name: value for name, value in entry.items() if name != "step"}, step=int(entry["step"]))

    def close(self) -> None:
        """Write what is not written yet."""
        self.run.finish()


class TensorBoard:
    """Event files of TensorBoard, below `folder`."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, object]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtraError("--track tensorboard", "tensorboard", "track") from None
        self.writer: Any = SummaryWriter(str(folder / "tensorboard" / name))
        self.writer.add_text("config", "\n".join(f"    {key}: {value}" for key, value in config.items()))

    def __call__(self, entry: Entry) -> None:
        """Take the entry of a step."""
        for name, value in entry.items():
            if name != "step":
                self.writer.add_scalar(name, value, int(entry["step"]))

    def close(self) -> None:
        """Write what is not written yet."""
        self.writer.close()


def open_tracker(kind: str, folder: Path, name: str, config: Mapping[str, object]) -> Tracker:
    """Begin a run.

    Parameters
    ----------
    kind : {"wandb", "tensorboard"}
    folder : Path
        Where its files go.
    name : str
    config : mapping
        Settings that are shown with the run.

    Raises
    ------
    UnknownNameError
        If there is no such tracker.
    MissingExtraError
        If its package is not installed.
    """
    if kind not in TRACKERS:
        raise UnknownNameError("tracker", kind, TRACKERS)
    folder.mkdir(parents=True, exist_ok=True)
    return (Wandb if kind == "wandb" else TensorBoard)(folder, name, config)
