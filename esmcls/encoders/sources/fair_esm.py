"""The second source of the ESM-2 checkpoints: fair-esm's address, for where the Hugging Face Hub cannot be had.

They land in torch hub's cache folder under the name torch hub gives them, so a file that fair-esm fetched is used and
the other way round. `huggingface_hub` fetches, as it does its own files; while it does, the bytes stand in a file that
no reader looks at:

    <name>.pt.part          what has come so far; the next try asks for the rest
    <name>.pt.part.version  the server's `ETag`, so that halves of two versions are never joined
    <name>.pt               whole, of the announced size, and a checkpoint of the expected shape
    <name>.pt.sha256        what was fetched, in the form that `sha256sum -c` reads; compared at every later use

Facebook publishes no digests of these files, so there is none to compare a first fetch with.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from esmcls.encoders.sources.checkpoints import CHECKPOINTS, Checkpoint, check_architecture
from esmcls.encoders.sources.hub import asking, sha256_once
from esmcls.errors import UnknownNameError, WeightsError
from esmcls.files import atomic_path, fsync_file, fsync_folder, sha256_file

ADDRESS: Final = "https://dl.fbaipublicfiles.com/fair-esm/models/"
"""Source: fair-esm 2.0.0, `esm/pretrained.py`."""
ADDRESS_VARIABLE: Final = "ESMCLS_WEIGHTS_URL"


def torch_hub_place(name: str) -> Path:
    """Return where torch hub, and with it fair-esm, keeps a checkpoint."""
    return _torch_hub_folder() / "checkpoints" / f"{name}.pt"


def _torch_hub_folder() -> Path:
    """Return torch hub's folder, by its own rule (`torch/hub.py`), so that PyTorch need not be loaded to find it."""
    if "torch" in sys.modules:  # it may have been given another one
        import torch

        return Path(torch.hub.get_dir())
    caches = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    return Path(os.environ.get("TORCH_HOME", caches / "torch")).expanduser() / "hub"


def fetch(name: str, *, base_url: str | None = None) -> Path:
    """Fetch the file of a checkpoint into torch hub's folder, if it is not there.

    Parameters
    ----------
    name : str
        One of `CHECKPOINTS`.
    base_url : str, optional
        Where to fetch from; default what `ESMCLS_WEIGHTS_URL` names, else `ADDRESS`.

    Raises
    ------
    UnknownNameError
        If there is no such checkpoint.
    WeightsError
        If it cannot be fetched whole, or what came (or lay there) is not this checkpoint. Nothing takes its place.
    MissingExtraError
        If huggingface-hub is not installed.
    """
    if name not in CHECKPOINTS:
        raise UnknownNameError("encoder", name, CHECKPOINTS)
    target = torch_hub_place(name)
    if target.exists():
        check_recorded_digest(target)
        return target
    url = (base_url or os.environ.get(ADDRESS_VARIABLE) or ADDRESS).rstrip("/") + f"/{name}.pt"
    with asking(name, url, target.parent, "TORCH_HOME"):
        from filelock import FileLock

        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            if not target.exists():  # another process fetched it while this one waited
                _Fetch(CHECKPOINTS[name], url, target).run()
    return target


def check_recorded_digest(path: Path) -> None:
    """Raise WeightsError if a file is not what was fetched; a file that was not fetched by us has no record."""
    record = _sibling(path, ".sha256")
    if path.is_dir() or not record.exists():
        return
    expected = record.read_text(encoding="ascii").split()[0]
    actual = sha256_once(path)
    if expected != actual:
        problem = f"{path} has sha256 {actual[:12]}…, but {expected[:12]}… was fetched"
        raise WeightsError(path.stem, problem, f"remove it and {record.name}, then fetch it again")


class _Fetch:
    """One checkpoint on its way into torch hub's folder, by the one process that holds its lock."""

    def __init__(self, checkpoint: Checkpoint, url: str, target: Path) -> None:
        self.checkpoint = checkpoint
        self.url = url
        self.target = target
        self.part = _sibling(target, ".part")
        self.version = _sibling(target, ".part.version")

    def run(self) -> None:
        """Fetch what is missing; what came stays for the next time if it does not get there."""
        from huggingface_hub import get_hf_file_metadata
        from huggingface_hub.file_download import http_get

        announced = get_hf_file_metadata(self.url)
        self.begin(announced.etag or "", announced.size)
        with open(self.part, "ab") as part:
            http_get(self.url, part, resume_size=part.tell(), expected_size=announced.size)
        self.finish()

    def begin(self, version: str, size: int | None) -> None:
        """Keep what came before if it is of the version that the server has now, and no more than that is."""
        known = self.version.read_text(encoding="utf-8") if self.version.exists() else ""
        came = self.part.stat().st_size if self.part.exists() else 0
        if known != version or not version or came > (size or 0):
            self.discard()
        self.version.write_text(version, encoding="utf-8")

    def finish(self) -> None:
        """Check what came, record its digest, and give it its name."""
        from esmcls.encoders.weights import load_state

        try:
            config, _ = load_state(self.part)
            check_architecture(self.checkpoint.name, config, self.part)
        except WeightsError as error:
            self.discard()
            fix = f"put {self.checkpoint.file} into a folder and set ESMCLS_WEIGHTS to it, or try again"
            raise WeightsError(self.checkpoint.name, f"what {self.url} sent is not it ({error.found})", fix) from None
        with atomic_path(_sibling(self.target, ".sha256")) as temporary:
            temporary.write_text(f"{sha256_file(self.part)}  {self.target.name}\n", encoding="ascii")
        fsync_file(self.part)
        os.replace(self.part, self.target)
        self.version.unlink(missing_ok=True)
        fsync_folder(self.target.parent)

    def discard(self) -> None:
        """Begin anew."""
        self.part.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)


def _sibling(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
