"""Repositories of the Hugging Face Hub by their ids, as folders of this machine.

`huggingface_hub` fetches: its are the cache (`HF_HOME`), the offline mode (`HF_HUB_OFFLINE`), mirrors (`HF_ENDPOINT`),
tokens (`HF_TOKEN`), and going on where a fetch broke off. What lies in the cache whole is used without asking anybody.
No code is fetched: neither `.py` nor, where there are safetensors, pickled weights.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from esmcls.errors import EsmclsError, FetchError, MissingExtraError, WeightsError
from esmcls.files import sha256_file
from esmcls.foreign.transformers_folder import CONFIG, WEIGHTS, encoder_files, lacking, read_config

_ID: Final = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,96}/(?!\.)[A-Za-z0-9_.-]{1,96}", re.ASCII)
_REVISION: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}", re.ASCII)
_NETWORK: Final = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"})
"""Packages whose errors are those of a connection; which of them is there is huggingface_hub's choice."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_AGAIN: Final = "check the network and try again to resume, or give the path of a copy"


@dataclass(frozen=True)
class Repository:
    """A model on the hub.

    Parameters
    ----------
    id : str
        Owner and name, such as `facebook/esm2_t6_8M_UR50D`.
    revision : str
        Branch, tag or commit; default the main branch.
    """

    id: str
    revision: str = "main"

    def __str__(self) -> str:
        return self.id if self.revision == "main" else f"{self.id}@{self.revision}"


def parse_repository(name: str) -> Repository | None:
    """Read an id of the hub, with a revision after `@` if it has one; None if the text is none.

    Examples
    --------
    >>> parse_repository("facebook/esm2_t6_8M_UR50D@v1")
    Repository(id='facebook/esm2_t6_8M_UR50D', revision='v1')
    >>> parse_repository("models/mine.safetensors"), parse_repository("../mine"), parse_repository("bundled")
    (None, None, None)
    """
    repository, _, revision = name.partition("@")
    if not _ID.fullmatch(repository) or name.endswith((".pt", ".safetensors", ".bin", "@")):
        return None
    if ".." in name or "--" in repository or repository.endswith((".", "-")):  # which the hub does not give
        return None
    if revision and not _REVISION.fullmatch(revision):
        return None
    return Repository(repository, revision or "main")


def snapshot(name: str, *, tokenizer: bool = False) -> Path:
    """Return the folder of an encoder on the hub: `config.json`, weights and tokenizer.

    Parameters
    ----------
    name : str
        An id, with a revision after `@` if it is to be another than the main branch.
    tokenizer : bool
        Whether a folder of the cache without a tokenizer is not enough.

    Returns
    -------
    Path
        In the hub's cache, where it is fetched to if it is not there whole.

    Raises
    ------
    FetchError
        If there is no such repository, it is not lent, cannot be had now, or holds no weights.
    WeightsError
        If what lies in the cache is not what was fetched, or the disk does not take it.
    MissingExtraError
        If huggingface-hub is not installed.
    """
    repository = _repository(name)
    if (folder := cached_snapshot(repository, tokenizer=tokenizer)) is not None:
        check_blobs(folder)
        return folder
    with _asking(repository, tokenizer=tokenizer):
        from huggingface_hub import HfApi, snapshot_download

        files = HfApi().model_info(repository.id, revision=repository.revision).siblings or []
        wanted = _weighty(repository, [file.rfilename for file in files])
        patterns = [glob.escape(file) for file in wanted]
        return Path(snapshot_download(repository.id, revision=repository.revision, allow_patterns=patterns))


def cached_snapshot(repository: Repository, *, tokenizer: bool = False) -> Path | None:
    """Return the folder of an encoder if it lies whole in the hub's cache; the network is not asked."""
    config = cached_file(repository, CONFIG)
    return None if config is None or lacking(config.parent, tokenizer=tokenizer) else config.parent


def whole_snapshot(name: str) -> Path:
    """Return the folder of all files of a repository, as they are now; without a network, as the cache has them.

    Raises
    ------
    WeightsError, MissingExtraError
        As `snapshot` does.
    """
    repository = _repository(name)
    with _asking(repository):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(repository.id, revision=repository.revision))


def config_of(name: str) -> dict[str, Any]:
    """Return the `config.json` of a repository, fetched alone if it is not in the cache: what it is before it comes.

    Raises
    ------
    WeightsError, MissingExtraError
        As `snapshot` does, and if there is no such file.
    """
    repository = _repository(name)
    path = cached_file(repository, CONFIG)
    if path is None:
        with _asking(repository):
            from huggingface_hub import HfApi, hf_hub_download

            HfApi().model_info(repository.id, revision=repository.revision)  # fails at once; the other tries again
            path = Path(hf_hub_download(repository.id, CONFIG, revision=repository.revision))
    return read_config(path)


def hub_address() -> str:
    """Return the hub's address, or that of the mirror that `HF_ENDPOINT` names."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return "https://huggingface.co"
    return constants.ENDPOINT


def is_offline() -> bool:
    """Say whether `HF_HUB_OFFLINE` forbids to fetch anything."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def cache_folder(repository: Repository | None = None) -> Path:
    """Return the folder of the hub's cache, or that of a repository in it."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return Path("~/.cache/huggingface/hub").expanduser()
    place = Path(constants.HF_HUB_CACHE)
    return place if repository is None else place / f"models--{repository.id.replace('/', '--')}"


def cached_file(repository: Repository, file: str) -> Path | None:
    """Return where a file of a repository lies in the hub's cache, without asking the network; None if it does not."""
    if not cache_folder(repository).is_dir():  # told without the hub's library, which takes a while to load
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None  # the cache is this package's
    place = try_to_load_from_cache(repository.id, file, revision=repository.revision)
    return Path(place) if isinstance(place, str) else None


def _weighty(repository: Repository, names: Sequence[str]) -> list[str]:
    """Return the files that an encoder is of, having made sure that weights are among them."""
    wanted = encoder_files(names)
    if not any(file in WEIGHTS for file in wanted):
        some = ", ".join(sorted(names)[:5]) or "nothing"
        raise FetchError(str(repository), f"it has no weights ({', '.join(WEIGHTS)}), but {some}", "name another")
    return wanted


def sha256_once(file: Path) -> str:
    """Return the sha256 of a file, which is read again only if it was written since."""
    state = file.stat()
    return _sha256_of(file, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256_of(file: Path, size: int, written: int) -> str:
    return sha256_file(file)


def check_blobs(folder: Path) -> None:
    """Raise WeightsError if a file of a snapshot is not what was fetched: large ones are links to their sha256."""
    for file in folder.iterdir():
        expected = file.readlink().name if file.is_symlink() else ""
        if _SHA256.fullmatch(expected) and (actual := sha256_once(file)) != expected:
            problem = f"{file} has sha256 {actual[:12]}…, but {expected[:12]}… was fetched"
            raise WeightsError(str(folder), problem, "remove the file that the link leads to, then fetch it again")


def _repository(name: str) -> Repository:
    repository = parse_repository(name)
    if repository is None:
        raise WeightsError(name, "no id of the hub", "write OWNER/NAME, and a revision after @ if you want one")
    return repository


@contextlib.contextmanager
def _asking(repository: Repository, *, tokenizer: bool = False) -> Iterator[None]:
    """Ask the hub about a repository; what lies of it in the cache already is told with what went wrong."""
    try:
        with asking(str(repository), f"{hub_address()}/{repository.id}", cache_folder(), "HF_HOME"):
            yield
    except FetchError as error:
        config = cached_file(repository, CONFIG)
        missing = lacking(config.parent, tokenizer=tokenizer) if config is not None else []
        if not missing:
            raise
        some = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        found = f"the hub's cache has it without {some}, and {error.found}"
        raise FetchError(str(repository), found, error.fix, error.looked) from None


@contextlib.contextmanager
def asking(name: str, address: str, folder: Path, variable: str) -> Iterator[None]:
    """Keep huggingface_hub from saying anything itself while it is asked, and make one line of each of its errors.

    Parameters
    ----------
    name : str
        Of the encoder.
    address : str
        Of the page or file that is asked for.
    folder : Path
        Where it is written to.
    variable : str
        The one that moves that folder.
    """
    try:
        with _silence():
            yield
    except ImportError:
        raise MissingExtraError(f"fetching {name}", "huggingface-hub") from None
    except (EsmclsError, AssertionError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror and not _of_network(error):
            problem = f"{folder} cannot be written ({error.strerror})"
            raise WeightsError(name, problem, f"make room there, or set {variable}") from None
        meaning = _meaning(error, name, address)
        if meaning is None:
            raise
        raise FetchError(name, *meaning) from None


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Turn off the library's warnings, and its bars where stderr is no terminal and its own variable says nothing."""
    from huggingface_hub import constants
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    chatter = get_verbosity()
    decided = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or are_progress_bars_disabled()
    hide = not decided and not sys.stderr.isatty()
    set_verbosity(logging.ERROR)
    if hide:
        disable_progress_bars()
    try:
        yield
    finally:
        set_verbosity(chatter)
        if hide:
            enable_progress_bars()


def _meaning(error: Exception, name: str, address: str) -> tuple[str, str] | None:
    """Say what an error of huggingface_hub means, and what to do; None if it is not about what was asked."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        fix = f"accept its terms at {address} and log in (hf auth login, or HF_TOKEN)"
        return "a gated repository: the hub gives it only to whom its owner lets have it", fix
    if isinstance(error, errors.RepositoryNotFoundError):
        fix = f"check the name at {address}, or log in (hf auth login, or HF_TOKEN)"
        return "there is no such repository on the hub, or it is private", fix
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision {name.partition('@')[2] or 'main'!r}", "name a branch, a tag or a commit"
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled) or _of_network(error):
        if constants.HF_HUB_OFFLINE:
            fix = "unset it, or fetch it where there is a network and give the path of the copy"
            return "it is not on this machine, and HF_HUB_OFFLINE says not to fetch it", fix
        return f"{address} cannot be reached ({_first_line(error.__cause__ or error)})", _AGAIN
    if isinstance(error, errors.EntryNotFoundError):
        return f"{address} has no {CONFIG}: no model of transformers", "name another"
    if isinstance(error, errors.HfHubHTTPError):
        return f"{address} answers {error.response.status_code}", _AGAIN
    if isinstance(error, OSError):  # what came is not what was announced
        return f"{address} does not answer as it should ({_first_line(error)})", _AGAIN
    return None


def _of_network(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in _NETWORK


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:120]
