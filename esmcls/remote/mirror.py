"""A workspace in a store of objects, and its mirror: a folder of this machine in which commands work as in any other.

    <mirrors>/<name>-<8 hex digits of the URL's sha256>/
        .mirror.json       the URL, and what was alike here and there when it was last looked at
        .lock              while files go to and fro
        workspace.json, dataset.parquet, cache/, models/, reports/     a workspace as elsewhere

Before a command all files come from the store that have changed there, but for segments of vectors; after it, all go
there that have changed here. A store replaces one object at once and locks nothing, so files go in an order in which
whoever reads meanwhile sees something whole: what is described before what describes it, a model's manifest last. Of
one file that two put, the last stays; a data set is not replaced by another one.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from esmcls.errors import FolderError, UsageError
from esmcls.files import HIERARCHY, MANIFEST, ONTOLOGY, PASSING, SPEC, STATE, TABLE, atomic_path, sha256_file
from esmcls.plain_values import from_plain, parse_json, read_json, write_json
from esmcls.remote.addresses import STORES, AddressError, Entry, address_of, entry_of, file_system, told

MIRRORS: Final = "ESMCLS_MIRRORS"
"""Variable of the environment that names the folder of all mirrors."""
LEDGER: Final = ".mirror.json"
SEGMENT: Final = re.compile(r"[^.].*\.h5")
MOST_TRIES: Final = 5
"""How often files are fetched anew because some have changed in between."""
_LAST: Final = {SPEC: 0, MANIFEST: 2, STATE: 3}
"""File -> when it goes to the store: what describes others comes last, what others are found by first."""
_OF_DATASET: Final = {TABLE, ONTOLOGY, HIERARCHY}
_log = logging.getLogger("esmcls")


@dataclass
class _Known:
    """A file that was alike in both places: as the store said of it, and its content."""

    size: int
    stamp: str
    mtime_ns: int
    sha256: str


@dataclass
class _Ledger:
    """What .mirror.json holds."""

    address: str
    files: dict[str, _Known] = field(default_factory=dict)


def mirrors() -> Path:
    """Return the folder of all mirrors: `$ESMCLS_MIRRORS`, else `esmcls/mirrors` of the user's cache directory."""
    if folder := os.environ.get(MIRRORS):
        return Path(os.path.realpath(folder))
    caches = os.environ.get("XDG_CACHE_HOME")
    if not caches:
        try:
            caches = str(Path.home() / ".cache")
        except RuntimeError:  # a user whom the system does not know
            caches = tempfile.gettempdir()
    return Path(os.path.realpath(caches)) / "esmcls" / "mirrors"


def mirror_folder(address: str) -> Path:
    """Return where the mirror of a workspace lies, there or not."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", address.partition("://")[2])[-40:].strip("-.")
    return mirrors() / f"{name}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"


def address_above(folder: Path) -> str | None:
    """Return the URL that a folder of a mirror stands for; None of any other folder."""
    place, root = Path(os.path.realpath(folder)), mirrors()
    if not place.is_relative_to(root) or place == root:
        return None
    name, *rest = place.relative_to(root).parts
    try:
        ledger = from_plain(_Ledger, read_json(root / name / LEDGER))
    except (OSError, ValueError):
        return None
    return "/".join([ledger.address, *rest])


def put_file(path: Path, address: str) -> Entry:
    """Put a file into a store, whole or not at all, and make sure that it is there.

    Raises
    ------
    AddressError
        If the store did not take it.
    """
    system, place = file_system(address)
    with told(address, "cannot be written"):
        system.put_file(str(path), place)
        entry = entry_of(system.info(place))
    if entry.size != path.stat().st_size:
        problem = f"{entry.size:,} of {path.stat().st_size:,} bytes are there after writing"
        raise AddressError(address, problem, "run again; another may write it, too")
    return entry


@contextlib.contextmanager
def mirrored(address: str | Path) -> Iterator[Path]:
    """Give the mirror of a workspace in a store, as it is there now; at the end what has changed goes there.

    Parameters
    ----------
    address : str
        `s3://bucket/folder` or `gs://bucket/folder`. Where nothing is there yet, the mirror is an empty folder.

    Raises
    ------
    UsageError
        If it is another address, or none.
    AddressError
        If the store does not give or take something.

    Examples
    --------
    >>> with mirrored("https://example.org/w") as folder:
    ...     pass
    Traceback (most recent call last):
    esmcls.errors.UsageError: https://example.org/w: no workspace can be there; give a folder, s3:// or gs://
    """
    place = address_of(address) or str(address)
    scheme, _, rest = place.partition("://")
    if scheme not in STORES or not rest.strip("/"):
        raise UsageError(f"{place}: no workspace can be there; give a folder, s3:// or gs://")
    mirror = Mirror(place.rstrip("/"))
    mirror.fetch()
    try:
        yield mirror.folder
    except BaseException as error:
        try:
            mirror.put()
        except AddressError as failure:
            _log.warning("not put: %s; the next command with this workspace puts it", failure)
        raise mirror.of_store(error) from error.__cause__
    mirror.put()


class Mirror:
    """One workspace here and there."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.folder = mirror_folder(address)
        self.system, self.path = file_system(address)

    def of_store(self, error: BaseException) -> BaseException:
        """Return an error of a file in the mirror as one of that in the store."""
        if not isinstance(error, FolderError) or not Path(error.path).is_relative_to(self.folder):
            return error
        name = Path(error.path).relative_to(self.folder).as_posix()
        return type(error)(self.address if name == "." else f"{self.address}/{name}", error.found, error.fix)

    # from the store

    def fetch(self) -> None:
        """Make the mirror like the store, but for what was not put there yet.

        Raises
        ------
        AddressError
            If the store does not give it, or if it does not stop changing.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock():
            ledger = self._ledger()
            try:
                there = self._listed()
                for _ in range(MOST_TRIES):
                    self._fetch(there, ledger)
                    before, there = there, self._listed()
                    if before == there:
                        return
            finally:
                self._save(ledger)
        raise AddressError(self.address, "changes faster than it can be read", "run again when its writers are done")

    def _fetch(self, there: dict[str, Entry], ledger: _Ledger) -> None:
        here, given_up = self._files(), set()
        for name, entry in there.items():
            known = ledger.files.get(name)
            as_known = known is not None and (known.size, known.stamp) == entry
            if name not in here and _is_segment(name):
                continue  # read through blocks
            if name in here and (as_known or (_is_segment(name) and here[name].stat().st_size == entry.size)):
                if known is None:
                    ledger.files[name] = self._known(name, entry)
                continue
            before = sha256_file(here[name]) if name in here and self._is_new(name, ledger) else None
            self._get(name, entry)
            ledger.files[name] = self._known(name, entry)
            if before is not None and before != ledger.files[name].sha256:
                given_up.add(_unit(name))
        for unit in sorted(given_up):
            _log.warning("%s/%s: another has put it; what was not put from here is given up", self.address, unit)
        gone = [name for name in ledger.files if name not in there]
        not_put = {_unit(name) for name in here if self._is_new(name, ledger)} if gone else set()
        for name in gone:
            del ledger.files[name]
            if _unit(name) not in not_put:
                (self.folder / name).unlink(missing_ok=True)

    def _get(self, name: str, entry: Entry) -> None:
        """Fetch one file, whole or not at all."""
        address, target = f"{self.address}/{name}", self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            with told(address):
                self.system.get_file(f"{self.path}/{name}", str(temporary))
            came = temporary.stat().st_size
            if came != entry.size:
                raise AddressError(address, f"{came:,} bytes came instead of {entry.size:,}", "run again")

    # to the store

    def put(self) -> None:
        """Put what has changed in the mirror, and remove what was removed.

        Raises
        ------
        AddressError
            If the store does not take it, or another data set is there now.
        """
        with self._lock():
            ledger, here = self._ledger(), self._files()
            changed = [name for name in here if self._is_new(name, ledger)]
            gone = [name for name in ledger.files if name not in here and not _is_segment(name)]
            if not changed and not gone:
                return
            there = self._listed()
            self._meet_another_state(changed, there, ledger)
            for unit in sorted({_unit(name) for name in changed if _is_anothers(name, there, ledger)}):
                _log.warning("%s/%s: another has put it meanwhile; replaced", self.address, unit)
            try:
                self._unsettle_models(changed, there)
                for name in sorted(changed, key=lambda name: (_LAST.get(Path(name).name, 1), name)):
                    self._put(name, there, ledger)
                for name in gone:
                    self._remove(name, there, ledger)
            finally:
                self._save(ledger)

    def _is_new(self, name: str, ledger: _Ledger) -> bool:
        known = ledger.files.get(name)
        return known is None or self._has_changed(name, known)

    def _put(self, name: str, there: dict[str, Entry], ledger: _Ledger) -> None:
        entry = there.get(name)
        if _is_segment(name) and entry is not None and entry.size == (self.folder / name).stat().st_size:
            ledger.files[name] = self._known(name, entry)  # put when it was sealed
            return
        entry = put_file(self.folder / name, f"{self.address}/{name}")
        ledger.files[name] = self._known(name, entry)

    def _remove(self, name: str, there: dict[str, Entry], ledger: _Ledger) -> None:
        known = ledger.files.pop(name)
        if there.get(name) == (known.size, known.stamp):
            with told(f"{self.address}/{name}", "cannot be removed"):
                self.system.rm_file(f"{self.path}/{name}")

    def _unsettle_models(self, changed: list[str], there: dict[str, Entry]) -> None:
        """Remove the manifests of models that are about to be replaced: without one a folder is no model."""
        for name in changed:
            if Path(name).name == MANIFEST and there.pop(name, None) is not None:
                with told(f"{self.address}/{name}", "cannot be removed"):
                    self.system.rm_file(f"{self.path}/{name}")

    def _meet_another_state(self, changed: list[str], there: dict[str, Entry], ledger: _Ledger) -> None:
        """Where another has put workspace.json since we looked: keep theirs with our caches, if the data set is theirs.

        Raises
        ------
        AddressError
            If we have changed the data set, too, and to another.
        """
        known = ledger.files.get(STATE)
        if STATE not in changed or STATE not in there or (known and there[STATE] == (known.size, known.stamp)):
            return
        address = f"{self.address}/{STATE}"
        with told(address):
            theirs = _state_of(self.system.cat_file(f"{self.path}/{STATE}"))
        ours = _state_of((self.folder / STATE).read_bytes())
        if not _OF_DATASET & {*changed}:
            write_json(self.folder / STATE, _with_caches(theirs, ours))
        elif not theirs.get("dataset") or _dataset_of(theirs) == _dataset_of(ours):
            write_json(self.folder / STATE, _with_caches(ours, theirs))
        else:
            problem = "another has put another data set meanwhile; nothing was put from here but sealed vectors"
            raise AddressError(address, problem, f"use another workspace, or delete {self.folder} and run again")

    # both

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        from filelock import FileLock

        with FileLock(self.folder / ".lock"):
            yield

    def _listed(self) -> dict[str, Entry]:
        """Return what is in the store, without models that are not whole: those have no manifest."""
        with told(self.address, "cannot be listed"):
            try:
                entries = self.system.find(self.path, detail=True)
            except FileNotFoundError:
                entries = {}
            if not entries:
                self._refuse_no_bucket()
        listed = {str(path)[len(self.path) + 1 :]: entry_of(about) for path, about in entries.items()}
        models = {_unit(name) for name in listed if name == f"{_unit(name)}/{MANIFEST}"}
        whole = (name for name in listed if not name.startswith("models/") or _unit(name) in models)
        return {name: listed[name] for name in whole if _is_plain(name)}

    def _refuse_no_bucket(self) -> None:
        bucket = self.path.partition("/")[0]
        try:
            there = self.system.exists(bucket)
        except PermissionError:  # to look at the whole of it
            return
        if not there:
            raise AddressError(self.address, f"no such bucket ({bucket})", "check its name, or make it")

    def _files(self) -> dict[str, Path]:
        """Return what is in the mirror, without hidden files, links, and vectors that are there for a while only."""
        files: dict[str, Path] = {}
        for place, folders, names in os.walk(self.folder):
            if PASSING in names:
                folders.clear()
                continue
            folders[:] = [name for name in folders if not name.startswith(".")]
            paths = [Path(place, name) for name in names if not name.startswith(".")]
            files |= {path.relative_to(self.folder).as_posix(): path for path in paths if not path.is_symlink()}
        return files

    def _known(self, name: str, entry: Entry) -> _Known:
        path = self.folder / name
        digest = "" if _is_segment(name) else sha256_file(path)
        return _Known(entry.size, entry.stamp, path.stat().st_mtime_ns, digest)

    def _has_changed(self, name: str, known: _Known) -> bool:
        about = (self.folder / name).stat()
        if (about.st_size, about.st_mtime_ns) == (known.size, known.mtime_ns) or _is_segment(name):
            return False
        return sha256_file(self.folder / name) != known.sha256

    def _ledger(self) -> _Ledger:
        try:
            ledger = from_plain(_Ledger, read_json(self.folder / LEDGER))
        except (OSError, ValueError):
            return _Ledger(self.address)
        return ledger if ledger.address == self.address else _Ledger(self.address)

    def _save(self, ledger: _Ledger) -> None:
        write_json(self.folder / LEDGER, asdict(ledger))


def _is_plain(name: str) -> bool:
    """Say whether a name of the store is one that a workspace has: nothing hidden, nothing that leads out of it."""
    parts = name.split("/")
    return all(part and not part.startswith(".") and "\\" not in part and ":" not in part for part in parts)


def _unit(name: str) -> str:
    """Return what a file comes and goes with: its model or report, or else itself alone."""
    return "/".join(name.split("/")[:2]) if name.startswith(("models/", "reports/")) else name


def _is_anothers(name: str, there: dict[str, Entry], ledger: _Ledger) -> bool:
    """Say whether another has put a file since we looked, and what is there is lost when ours is put."""
    known = ledger.files.get(name)
    as_known = known is not None and there.get(name) == (known.size, known.stamp)
    return name in there and not as_known and name != STATE and not _is_segment(name) and not name.endswith(f"/{SPEC}")


def _is_segment(name: str) -> bool:
    return name.startswith("cache/") and SEGMENT.fullmatch(name.rpartition("/")[2]) is not None


def _state_of(text: bytes) -> dict[str, Any]:
    """Return what a workspace.json says; nothing where it is damaged."""
    try:
        state = parse_json(text)
    except ValueError:
        return {}
    return state if isinstance(state, dict) else {}


def _with_caches(state: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return a workspace.json with the caches of another one before its own, of which the last is what heads read."""
    caches = list(state.get("caches", []))
    return {**state, "caches": [name for name in other.get("caches", []) if name not in caches] + caches}


def _dataset_of(state: Mapping[str, Any]) -> Any:
    """Return the identity of a workspace's data set, with its split and hierarchy."""
    about = state.get("dataset")
    named = about if isinstance(about, dict) else {}
    keys = ("digest", "ontology", "propagate", "task")
    return [named.get(key) for key in keys], state.get("split"), state.get("hierarchy")
