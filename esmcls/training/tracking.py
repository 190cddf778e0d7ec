"""Training runs in Weights & Biases or TensorBoard, for who wants them there besides the log and its curves."""

from __future__ import annotations

import importlib
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
        import wandb

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
        from torch.utils.tensorboard import SummaryWriter

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


def check_tracker(kind: str) -> None:
    """Make sure that a run can be shown there, before anything takes time.

    Raises
    ------
    UnknownNameError
        If there is no such tracker.
    MissingExtraError
        If its package is not installed.
    """
    if kind not in TRACKERS:
        raise UnknownNameError("tracker", kind, TRACKERS)
    try:
        importlib.import_module("wandb" if kind == "wandb" else "torch.utils.tensorboard")
    except ImportError:
        raise MissingExtraError(f"--track {kind}", kind, "track") from None


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
    UnknownNameError, MissingExtraError
        As `check_tracker`.
    """
    check_tracker(kind)
    folder.mkdir(parents=True, exist_ok=True)
    return (Wandb if kind == "wandb" else TensorBoard)(folder, name, config)
