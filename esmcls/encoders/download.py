"""The six published ESM-2 checkpoints: fetched once, resumed where a fetch broke off, checked before they are used.

They land in torch hub's cache folder under the name torch hub gives them, so a file that fair-esm fetched is used and
the other way round. While a fetch runs, its bytes stand in a `.part` file that no reader looks at:

    <name>.pt.part          what has come so far; the next try asks for the rest (HTTP `Range`)
    <name>.pt.part.version  the server's `ETag`, so that halves of two versions are never joined (`If-Range`)
    <name>.pt               whole, of the announced size, and a checkpoint of the expected shape
    <name>.pt.sha256        what was fetched, in the form that `sha256sum -c` reads; compared at every later use

Facebook publishes no digests of these files, so there is none to compare a first fetch with.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from esmcls.errors import PlatformError, UnknownNameError, WeightsError
from esmcls.files import atomic_path, fsync_file, fsync_folder, sha256_file

if TYPE_CHECKING:
    from esmcls.encoders.model import ModelConfig

ADDRESS: Final = "https://dl.fbaipublicfiles.com/fair-esm/models/"
"""Source: fair-esm 2.0.0, `esm/pretrained.py`."""
ADDRESS_VARIABLE: Final = "ESMCLS_WEIGHTS_URL"
_BYTES_AT_ONCE: Final = 1 << 18
_TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which the same request may succeed."""

FetchProgress = Callable[[int, "int | None"], None]
"""Called with the bytes there are and the bytes there will be (None if the server does not say)."""


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
        """Name of its file."""
        return f"{self.name}.pt"

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


def fetch(
    name: str,
    *,
    base_url: str | None = None,
    progress: FetchProgress | None = None,
    timeout: float = 60.0,
    retries: int = 5,
    pause: float = 1.0,
) -> Path:
    """Return the file of a checkpoint, fetching it if it is on this machine nowhere.

    Parameters
    ----------
    name : str
        One of `CHECKPOINTS`.
    base_url : str, optional
        Where to fetch from; default what `ESMCLS_WEIGHTS_URL` names, else `ADDRESS`.
    progress : callable, optional
        Called with (bytes there, bytes in all or None) after every block.
    timeout : float
        Seconds without a byte after which a connection counts as broken.
    retries : int
        Broken connections in a row, none of which brought anything new, before giving up.
    pause : float
        Seconds before the first retry, doubled before each further one.

    Returns
    -------
    Path
        In the folder that `ESMCLS_WEIGHTS` names, else in torch hub's cache.

    Raises
    ------
    UnknownNameError
        If there is no such checkpoint.
    WeightsError
        If it cannot be fetched whole, or what came (or lay there) is not this checkpoint. Nothing takes its place.
    PlatformError
        If it must be fetched on Windows.
    """
    if name not in CHECKPOINTS:
        raise UnknownNameError("encoder", name, CHECKPOINTS)
    from esmcls.encoders.weights import hub_places

    places = hub_places(name)
    for place in places:
        if place.exists():
            check_recorded_digest(place)
            return place
    url = (base_url or os.environ.get(ADDRESS_VARIABLE) or ADDRESS).rstrip("/") + f"/{name}.pt"
    fetcher = _Fetch(CHECKPOINTS[name], url, places, progress, timeout)
    try:
        with fetcher.lock():
            fetcher.run(retries, pause)
    except OSError as error:
        raise fetcher.error(f"{places[-1].parent} cannot be written ({error.strerror})", "set TORCH_HOME") from None
    return fetcher.target


def check_architecture(name: str, config: ModelConfig, where: str | Path) -> None:
    """Raise WeightsError if a file named as a published checkpoint holds a model of another shape.

    Parameters
    ----------
    name : str
        An ESM-2 name; one that is not in `CHECKPOINTS` has no expected shape.
    config : ModelConfig
        From `weights.load_state`.
    where : str or Path
        The file, for the message.
    """
    expected = CHECKPOINTS.get(name)
    if expected is None:
        return
    published, actual = ((shape.layers, shape.width, shape.heads) for shape in (expected, config))
    if published != actual:
        shapes = "{} layers x {}, {} heads, instead of {} layers x {}, {} heads".format(*actual, *published)
        raise WeightsError(name, f"{where} holds a model of {shapes}", "remove the file and fetch it again")


def check_recorded_digest(path: Path) -> None:
    """Raise WeightsError if a file is not what was fetched; a file that was not fetched by us has no record."""
    record = _sibling(path, ".sha256")
    if path.is_dir() or not record.exists():
        return
    expected = record.read_text(encoding="ascii").split()[0]
    actual = sha256_file(path)
    if expected != actual:
        problem = f"{path} has sha256 {actual[:12]}…, but {expected[:12]}… was fetched"
        raise WeightsError(path.stem, problem, f"remove it and {record.name}, then fetch it again")


class _Broken(Exception):
    """A connection that ended early; trying again may help."""


class _Fetch:
    """One checkpoint on its way into torch hub's cache."""

    def __init__(
        self, checkpoint: Checkpoint, url: str, places: list[Path], progress: FetchProgress | None, timeout: float
    ) -> None:
        self.checkpoint = checkpoint
        self.url = url
        self.places = places
        self.timeout = timeout
        self.progress: FetchProgress = progress or (lambda there, total: None)
        self.target = places[-1]
        self.part = _sibling(self.target, ".part")
        self.version = _sibling(self.target, ".part.version")

    def run(self, retries: int, pause: float) -> None:
        """Fetch until the file is whole; what came stays for the next time when it does not get there."""
        if self.target.exists():  # another process fetched it while this one waited for the lock
            self.part.unlink(missing_ok=True)
            return
        best = self.size()
        failures = 0
        while True:
            try:
                self.attempt()
                break
            except (_Broken, OSError, http.client.HTTPException) as error:
                failures = 0 if self.size() > best else failures + 1
                best = max(best, self.size())
                if failures > retries:
                    raise self.error(f"{self.url} does not answer as it should ({error})") from None
                time.sleep(pause * 2 ** max(failures - 1, 0))
        self.finish()

    def attempt(self) -> None:
        """Ask for what is missing and append it to the part file."""
        try:
            with urllib.request.urlopen(self.request(), timeout=self.timeout) as response:
                self.receive(response, *_extent(response))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # nothing lies behind what we have: it is whole already, or not of this file
                if _total(error.headers.get("Content-Range")) != self.size():
                    self.discard()
                    raise _Broken("the part that was here does not fit the file") from None
            elif error.code in _TRY_AGAIN:
                raise
            else:
                raise self.error(f"{self.url} answers {error.code} {error.reason}") from None

    def request(self) -> urllib.request.Request:
        headers = {"User-Agent": "esmcls", "Accept-Encoding": "identity"}
        if self.size():
            headers["Range"] = f"bytes={self.size()}-"
            if self.version.exists():
                headers["If-Range"] = self.version.read_text(encoding="ascii")
        return urllib.request.Request(self.url, headers=headers)

    def receive(self, response: http.client.HTTPResponse, start: int, total: int | None) -> None:
        if start not in (0, self.size()):
            raise _Broken(f"it sends from byte {start} on instead of {self.size()}")
        self.remember_version(response)
        with open(self.part, "r+b") as part:
            part.truncate(start)  # a server that ignores `Range` sends the whole file: begin again
            part.seek(start)
            there = start
            self.progress(there, total)
            while block := response.read1(_BYTES_AT_ONCE):
                self.write(part, block)
                there += len(block)
                self.progress(there, total)
        if total is not None and there != total:
            raise _Broken(f"it ends after {there:,} of {total:,} bytes")

    def write(self, part: IO[bytes], block: bytes) -> None:
        try:
            part.write(block)
            part.flush()
        except OSError as error:  # a full disk: trying again does not help
            raise self.error(f"{self.part} cannot be written ({error.strerror})", "make room there") from None

    def remember_version(self, response: http.client.HTTPResponse) -> None:
        version = response.headers.get("ETag", "")
        if version and not version.startswith("W/"):  # a weak one does not promise equal bytes (RFC 9110, 13.1.5)
            self.version.write_text(version, encoding="ascii")
        else:
            self.version.unlink(missing_ok=True)

    def finish(self) -> None:
        """Check what came, record its digest, and give it its name."""
        from esmcls.encoders.weights import load_state

        try:
            config, _ = load_state(self.part)
            check_architecture(self.checkpoint.name, config, self.part)
        except WeightsError as error:
            self.discard()
            raise self.error(f"what {self.url} sent is not it ({error.found})") from None
        with atomic_path(_sibling(self.target, ".sha256")) as temporary:
            temporary.write_text(f"{sha256_file(self.part)}  {self.target.name}\n", encoding="ascii")
        fsync_file(self.part)
        os.replace(self.part, self.target)
        self.version.unlink(missing_ok=True)
        fsync_folder(self.target.parent)

    def discard(self) -> None:
        """Empty the part file, but keep it: it carries the lock."""
        os.truncate(self.part, 0)
        self.version.unlink(missing_ok=True)

    def size(self) -> int:
        return self.part.stat().st_size

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Let one process at a time fetch this file; the others wait and then find it there."""
        try:
            import fcntl
        except ImportError:
            fix = f"put {self.checkpoint.file} into a folder and set ESMCLS_WEIGHTS to it"
            raise PlatformError("fetching weights", "fcntl", fix) from None
        self.target.parent.mkdir(parents=True, exist_ok=True)
        with open(self.part, "ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def error(self, problem: str, fix: str = "") -> WeightsError:
        fix = fix or f"put {self.checkpoint.file} into a folder and set ESMCLS_WEIGHTS to it, or try again to resume"
        return WeightsError(self.checkpoint.name, problem, fix, self.places)


def _sibling(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Return where the answer begins in the file, and the size of the whole file if the server tells."""
    length = response.headers.get("Content-Length")
    if response.status != 206:
        return 0, int(length) if length is not None else None
    span = response.headers.get("Content-Range", "")  # bytes 100-199/200
    try:
        return int(span.removeprefix("bytes ").split("-")[0]), _total(span)
    except ValueError:
        raise _Broken(f"its Content-Range is {span!r}") from None


def _total(span: str | None) -> int | None:
    total = (span or "").rpartition("/")[2]
    return int(total) if total.isdigit() else None
