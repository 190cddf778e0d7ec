"""Repositories of the Hugging Face Hub by their ids, as folders of this machine.

`huggingface_hub` fetches: its are the cache (`HF_HOME`), the offline mode (`HF_HUB_OFFLINE`), mirrors (`HF_ENDPOINT`),
tokens (`HF_TOKEN`), and going on where a fetch broke off. What lies in the cache whole is used without asking anybody.
No code is fetched: neither `.py` nor, where there are safetensors, pickled weights.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from esmcls.errors import EsmclsError, MissingExtraError, WeightsError
from esmcls.files import from_plain, read_json

CONFIG: Final = "config.json"
SHARD_INDEX: Final = ".index.json"
WEIGHTS: Final = (
    "model.safetensors",
    f"model.safetensors{SHARD_INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{SHARD_INDEX}",
)
"""Of a model of transformers, the best first."""
TOKENIZERS: Final = (
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
)
"""Files of which a tokenizer has one at least."""
_BESIDE: Final = re.compile(r"[^/]*\.(json|txt|model)", re.ASCII)
"""What lies beside weights: configuration, tokenizer, licence."""
_ID: Final = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,96}/(?!\.)[A-Za-z0-9_.-]{1,96}", re.ASCII)
_REVISION: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}", re.ASCII)
_NETWORK: Final = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"})
"""Packages whose errors are those of a connection; which of them is there is huggingface_hub's choice."""
_NOT_THERE: Final = "there is no such repository on the hub, or it is private"
_AGAIN: Final = "check the network (and HF_ENDPOINT) and try again to resume, or give the folder of its files"


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


def snapshot(name: str, *, tokenizer: bool = False, show: bool = False) -> Path:
    """Return the folder of an encoder on the hub: `config.json`, weights and tokenizer.

    Parameters
    ----------
    name : str
        An id, with a revision after `@` if it is to be another than the main branch.
    tokenizer : bool
        Whether a folder of the cache without a tokenizer is not enough.
    show : bool
        Whether to show bars of the bytes that come, where stderr is a terminal.

    Returns
    -------
    Path
        In the hub's cache, where it is fetched to if it is not there whole.

    Raises
    ------
    WeightsError
        If there is no such repository, it is not lent, cannot be had now, or holds no weights.
    MissingExtraError
        If huggingface_hub is not installed.
    """
    repository = _repository(name)
    config = cached_file(repository, CONFIG)
    if config is not None and not lacking(config.parent, tokenizer=tokenizer):
        return config.parent
    lacks = lacking(config.parent, tokenizer=tokenizer) if config is not None else []
    with _asking(repository, show=show, lacks=lacks):
        from huggingface_hub import model_info, snapshot_download

        files = model_info(repository.id, revision=repository.revision).siblings or []
        wanted = _weighty(repository, [file.rfilename for file in files])
        patterns = [glob.escape(file) for file in wanted]
        return Path(snapshot_download(repository.id, revision=repository.revision, allow_patterns=patterns))


def whole_snapshot(name: str, *, show: bool = False) -> Path:
    """Return the folder of all files of a repository, as they are now; without a network, as the cache has them.

    Raises
    ------
    WeightsError, MissingExtraError
        As `snapshot` does.
    """
    repository = _repository(name)
    with _asking(repository, show=show):
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
            from huggingface_hub import hf_hub_download

            path = Path(hf_hub_download(repository.id, CONFIG, revision=repository.revision))
    return read_config(path)


def read_config(path: Path) -> dict[str, Any]:
    """Return what a `config.json` of transformers says.

    Raises
    ------
    WeightsError
        If it cannot be read or is none.
    """
    try:
        return from_plain(dict[str, Any], read_json(path))
    except (OSError, ValueError) as error:
        raise WeightsError(str(path), f"no configuration of a model ({error})", "fetch the folder again") from None


def is_esm2(config: dict[str, Any]) -> bool:
    """Say whether a `config.json` is that of an ESM-2 model."""
    return (config.get("model_type"), config.get("position_embedding_type")) == ("esm", "rotary")


def cached_file(repository: Repository, file: str) -> Path | None:
    """Return where a file of a repository lies in the hub's cache, without asking the network; None if it does not."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None  # the cache is this package's
    place = try_to_load_from_cache(repository.id, file, revision=repository.revision)
    return Path(place) if isinstance(place, str) else None


def encoder_files(names: Collection[str]) -> list[str]:
    """Choose from the files of a repository those that an encoder is of: the best kind of weights, and what is beside.

    Examples
    --------
    >>> encoder_files(["config.json", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "modeling.py"])
    ['config.json', 'model.safetensors']
    """
    weights = next((file for file in WEIGHTS if file in names), None)
    wanted = {name for name in names if _BESIDE.fullmatch(name) and not name.endswith(SHARD_INDEX)}
    if weights is not None:
        wanted.add(weights)
        wanted |= {name for name in names if weights.endswith(SHARD_INDEX) and _is_shard(name, weights)}
    return sorted(wanted)


def _weighty(repository: Repository, names: Sequence[str]) -> list[str]:
    """Return the files that an encoder is of, having made sure that weights are among them."""
    wanted = encoder_files(names)
    if not any(file in WEIGHTS for file in wanted):
        some = ", ".join(sorted(names)[:5]) or "nothing"
        raise _error(repository, f"it has no weights ({', '.join(WEIGHTS)}), but {some}", "name another")
    return wanted


def lacking(folder: Path, *, tokenizer: bool = False) -> list[str]:
    """Return the files of an encoder that a folder of the cache lacks."""
    weights = next((file for file in WEIGHTS if (folder / file).is_file()), None)
    if weights is None:
        return [WEIGHTS[0]]
    missing = _missing_shards(folder / weights) if weights.endswith(SHARD_INDEX) else []
    if tokenizer and not any((folder / file).is_file() for file in TOKENIZERS):
        missing.append("its tokenizer")
    return missing


def _missing_shards(index: Path) -> list[str]:
    try:
        files = from_plain(dict[str, str], read_config(index).get("weight_map"))
    except ValueError as error:
        raise WeightsError(str(index), f"no index of sharded weights ({error})", "fetch the folder again") from None
    return [file for file in sorted(set(files.values())) if not (index.parent / file).is_file()]


def _is_shard(name: str, index: str) -> bool:
    stem, _, ending = index.removesuffix(SHARD_INDEX).rpartition(".")
    return re.fullmatch(rf"{re.escape(stem)}-\d+-of-\d+\.{ending}", name) is not None


def _repository(name: str) -> Repository:
    repository = parse_repository(name)
    if repository is None:
        raise WeightsError(name, "no id of the hub", "write OWNER/NAME, and a revision after @ if you want one")
    return repository


@contextlib.contextmanager
def _asking(repository: Repository, *, show: bool = False, lacks: Collection[str] = ()) -> Iterator[None]:
    """Keep huggingface_hub from saying anything itself while it is asked, and make one line of each of its errors."""
    try:
        with _silence(show=show):
            yield
    except ImportError:
        raise MissingExtraError(f"fetching {repository}", "huggingface-hub") from None
    except (EsmclsError, AssertionError):
        raise
    except Exception as error:
        line = _line_of(repository, error, lacks)
        if line is None:
            raise
        raise line from None


@contextlib.contextmanager
def _silence(*, show: bool) -> Iterator[None]:
    """Turn off the library's warnings and, unless they are to be shown or its own variable decides, its bars."""
    from huggingface_hub import constants
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    chatter = get_verbosity()
    hide = not show and constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not are_progress_bars_disabled()
    set_verbosity(logging.ERROR)
    if hide:
        disable_progress_bars()
    try:
        yield
    finally:
        set_verbosity(chatter)
        if hide:
            enable_progress_bars()


def _line_of(repository: Repository, error: Exception, lacks: Collection[str]) -> WeightsError | None:
    """Say in one line what an error of huggingface_hub means; None if it is not about the hub or the disk."""
    from huggingface_hub import constants, errors

    address = f"{constants.ENDPOINT}/{repository.id}"
    page = f"accept its terms at {address} and log in (hf auth login, or HF_TOKEN)"
    if isinstance(error, errors.GatedRepoError):
        return _error(repository, "a gated repository: the hub gives it only to whom its owner lets have it", page)
    if isinstance(error, errors.RepositoryNotFoundError):
        return _error(repository, _NOT_THERE, f"check the name at {address}, or log in (hf auth login, or HF_TOKEN)")
    if isinstance(error, errors.RevisionNotFoundError):
        return _error(repository, f"it has no revision {repository.revision!r}", "name a branch, a tag or a commit")
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return _not_here(repository, error, lacks)
    if isinstance(error, errors.EntryNotFoundError):
        return _error(repository, f"no {CONFIG} there: no model of transformers", "name another")
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code if error.response is not None else "in an unknown way"
        return _error(repository, f"the hub answers {status}", _AGAIN)
    if type(error).__module__.partition(".")[0] in _NETWORK:
        return _not_here(repository, error, lacks)
    if isinstance(error, OSError) and error.strerror:
        problem = f"{constants.HF_HUB_CACHE} cannot be written ({error.strerror})"
        return _error(repository, problem, "make room there, or set HF_HOME")
    if isinstance(error, OSError):  # what came is not what the hub announced
        return _error(repository, f"the hub's answer is of no use ({_first_line(error)})", _AGAIN)
    return None


def _not_here(repository: Repository, error: Exception, lacks: Collection[str]) -> WeightsError:
    """Say that what is not in the cache, or not whole, cannot be fetched now."""
    from huggingface_hub import constants

    some = ", ".join(list(lacks)[:3]) + (f" and {len(lacks) - 3} more" if len(lacks) > 3 else "")
    state = f"the hub's cache has it without {some}" if lacks else "it is not in the hub's cache"
    looked = [Path(constants.HF_HUB_CACHE) / f"models--{repository.id.replace('/', '--')}"]
    if constants.HF_HUB_OFFLINE:
        fix = f"fetch it where there is a network (hf download {repository.id}), or unset HF_HUB_OFFLINE"
        return _error(repository, f"{state}, and HF_HUB_OFFLINE says not to fetch it", fix, looked)
    reason = _first_line(error.__cause__ or error)
    return _error(repository, f"{state}, and {constants.ENDPOINT} cannot be reached ({reason})", _AGAIN, looked)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:120]


def _error(repository: Repository, found: str, fix: str, looked: Sequence[Path] = ()) -> WeightsError:
    return WeightsError(str(repository), found, fix, looked)
