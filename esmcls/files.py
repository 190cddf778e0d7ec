"""Files that appear under their final name only when they are whole, and what those of a workspace are called."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import shutil
import socket
import stat
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, TextIO

from esmcls.errors import EsmclsError, FolderError, UsageError
from esmcls.moved import hand_on_names

hand_on_names(__name__)

STATE: Final = "workspace.json"
TABLE: Final = "dataset.parquet"
ONTOLOGY: Final = "ontology.json"
HIERARCHY: Final = "hierarchy.json"
"""In the folder of a model, too, that was fitted with one."""
MANIFEST: Final = "manifest.json"
"""In the folder of a model."""
SPEC: Final = "spec.json"
"""In the folder of a cache."""
PASSING: Final = ".passing"
"""There, where it serves to choose layers from, and goes then."""
STALE_SECONDS: Final = 3600.0
"""Age of a temporary file that is nobody's any more, where nothing is known of the process that made it."""
UNUSED_SECONDS: Final = 7 * 86400.0
"""That of a folder below TMPDIR, which machines may share: a search of another one may take days."""
_TEMPORARY: Final = re.compile(r"\..+\.(?P<pid>\d+)(-(?P<machine>[0-9a-f]{6}))?\.[0-9a-f]{8}\.tmp")
_KINDS: Final[dict[Callable[[int], bool], str]] = {
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISDIR: "a folder",
}
_DESCRIPTOR: Final = re.compile(r"/dev/(stdin|stdout|stderr|fd/\d+)|/proc/(self|\d+)/fd/\d+")
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""As `Path` leaves it of s3://bucket; a drive of Windows is one letter."""
_SAID: Final = re.compile(r"(?:os error|errno =|Errno) (\d+)")
"""How Rust, HDF5 and Python put the number of a system's error into a text."""
_OF_WRITING: Final = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Errors that FAISS puts into a text by their names alone."""
_UMASK: Final = re.compile(r"^Umask:\s*([0-7]+)", re.MULTILINE)
_umask_lock = threading.Lock()


def refuse_address(path: str | Path) -> None:
    """Refuse an address such as s3://bucket/folder, which would be taken for a folder `s3:`.

    Raises
    ------
    UsageError
        If it is one.
    """
    if _ADDRESS.match(str(path)):
        raise UsageError(f"{path}: an address, not a path; copy it to this machine and give a file or folder")


# modes and durability


def fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable; Windows opens no folders, and needs none of this."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_file(path: Path) -> None:
    """Make the bytes of `path` durable."""
    with open(path, "r+b" if sys.platform == "win32" else "rb") as handle:  # Windows flushes what may be written to
        os.fsync(handle.fileno())


def _umask() -> int:
    """Return the umask, unchanged for other threads where the system tells it (Linux since 4.7)."""
    with contextlib.suppress(OSError):
        if match := _UMASK.search(Path("/proc/self/status").read_text(encoding="ascii", errors="replace")):
            return int(match[1], 8)
    with _umask_lock:
        mask = os.umask(0o077)
        os.umask(mask)
        return mask


def settle(path: Path) -> None:
    """Give a new file the umask's mode and make it durable: some writers make files that only their owner may read."""
    with contextlib.suppress(PermissionError):  # a file system without modes
        path.chmod(0o666 & ~_umask())
    fsync_file(path)


def raise_descriptor_limit() -> None:
    """Let this process open as many files as it may, 65,536 at most."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


# files, whole or not at all


def is_descriptor(path: str | Path) -> bool:
    """Say whether a path names an open file of the process: /dev/stdin, or /dev/fd/63 as `<(command)` gives it."""
    return _DESCRIPTOR.fullmatch(str(path)) is not None


def is_device(path: str | Path) -> bool:
    """Say whether what stands at `path` is to be written to, not replaced: a pipe, a device, an open descriptor."""
    if is_descriptor(path):
        return True
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def kind_instead(path: str | Path) -> str | None:
    """Return what stands at a path instead of a file, in words; None where it is a file. Links are followed.

    Raises
    ------
    OSError
        If the system does not say what it is: there is nothing, or a loop of links.
    """
    mode = Path(path).stat().st_mode
    return None if stat.S_ISREG(mode) else next((name for test, name in _KINDS.items() if test(mode)), "no file")


def refuse_what_is_no_file(path: str | Path) -> None:
    """Refuse, before anything is read, what has no end or never begins: a pipe, a socket, a device, a folder.

    Raises
    ------
    ValueError
        If it is one.
    OSError
        As `kind_instead`.
    """
    if (kind := kind_instead(path)) is not None:
        raise ValueError(f"{kind}, not a file")


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary sibling of `path` to write to; it becomes `path` when the block ends well, else it is removed.

    A link is followed. What is neither file nor folder is never replaced: it is written to when the block has ended.

    Raises
    ------
    OSError
        If the system does not take it; also where a library that writes says so in an error of its own.
    UsageError
        If `path` is an address.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     (Path(folder) / "a.txt").read_text()
    'whole'
    """
    refuse_address(path)
    if is_device(path):
        with temporary_folder("output") as folder:
            with errors_of_the_system(folder, folder):
                yield folder / "output"
            with open(folder / "output", "rb") as whole, open(path, "wb") as device:
                shutil.copyfileobj(whole, device)
        return
    target = Path(os.path.realpath(path))
    temporary = temporary_beside(target)
    try:
        with errors_of_the_system(temporary, path):
            yield temporary
            settle(temporary)
            os.replace(temporary, target)
            fsync_folder(target.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give a folder to fill, which appears whole at `path` or not at all; an empty one there gives way.

    Raises
    ------
    FolderError
        If its own folder is not there, or something else is.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FolderError(target, "its folder does not exist", "make the folder, or write elsewhere")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FolderError(target, "is there already", "name a new folder")
    remove_left_overs(target.parent)
    temporary = temporary_beside(target)
    try:
        with errors_of_the_system(temporary, target):
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    settle(file)
            os.replace(temporary, target)
            fsync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def atomic_text(path: str | Path) -> Iterator[TextIO]:
    """Give UTF-8 text to write to, of a file that appears whole; a pipe or device gets each line as it comes."""
    if is_device(path):
        with open(path, "w", encoding="utf-8") as handle:
            yield handle
    else:
        with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as handle:
            yield handle


@contextlib.contextmanager
def errors_of_the_system(temporary: Path, path: str | Path) -> Iterator[None]:
    """Name `path` in errors of the system, and find these behind the errors of libraries that write.

    Parameters
    ----------
    temporary : Path
        The file, or the folder of files, that is written.
    path : str or Path
        What it is to become.

    Raises
    ------
    OSError
        If the system did not take it.
    """
    try:
        yield
    except EsmclsError:
        raise
    except Exception as error:
        number = _system_error(error, temporary)
        if number is None or (isinstance(error, OSError) and not _is_of(error.filename, temporary)):
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _is_of(filename: str | bytes | int | None, temporary: Path) -> bool:
    """Say whether an error names no file, or one that its user has never heard of."""
    return filename is None or (isinstance(filename, str) and Path(filename).is_relative_to(temporary))


def system_errno(error: BaseException) -> int | None:
    """Return the number of the system's error behind one of Python, safetensors, polars, HDF5 or FAISS; else None.

    Examples
    --------
    >>> system_errno(OSError("Unable to open file (errno = 24, error message = 'Too many open files')"))
    24
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error)
    match = _SAID.search(text)
    if match and int(match[1]):
        return int(match[1])
    return next((number for number in _OF_WRITING if f"({os.strerror(number)})" in text), None)


def _system_error(error: Exception, temporary: Path) -> int | None:
    """Return the number of the system's error that ended a writer; else None."""
    if (number := system_errno(error)) is not None:
        return number
    if not isinstance(error, RuntimeError | OSError):
        return None
    files = [path for path in (temporary, *temporary.rglob("*")) if path.is_file()]
    if not files:
        return None
    try:  # torch says no more than that it failed: ask the disk itself
        with open(max(files, key=lambda path: path.stat().st_mtime), "ab", buffering=0) as handle:
            rest = memoryview(bytes(1 << 20))
            while len(rest):
                rest = rest[handle.write(rest) or 0 :]
            os.fsync(handle.fileno())
    except OSError as failure:
        return failure.errno
    return None


# temporary files, and those that dead processes left


@cache
def _machine() -> str:
    """Return what tells this machine, since it began, from others whose processes have the same numbers."""
    facts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:6]


def temporary_beside(target: Path) -> Path:
    """Return a hidden name beside `target` that says which process it is of."""
    return target.with_name(f".{target.name[:60]}.{os.getpid()}-{_machine()}.{uuid.uuid4().hex[:8]}.tmp")


@contextlib.contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """Give a folder below TMPDIR for what is needed for a while; those that dead processes left there are removed.

    Examples
    --------
    >>> with temporary_folder("example") as folder:
    ...     (folder / "steps").write_text("1")
    1
    >>> folder.exists()
    False
    """
    parent = Path(tempfile.gettempdir())
    remove_left_overs(parent, UNUSED_SECONDS, ".esmcls-*")
    folder = temporary_beside(parent / f"esmcls-{purpose}")
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_left_overs(folder: Path, seconds: float = STALE_SECONDS, pattern: str = "*") -> None:
    """Remove the temporary files and folders that dead processes left in `folder`; what cannot be removed stays.

    Parameters
    ----------
    folder : Path
    seconds : float
        Age of what is nobody's any more, where nothing is known of the process that made it.
    pattern : str
        Of their names.
    """
    with contextlib.suppress(OSError):
        for path in list(folder.glob(pattern)):
            with contextlib.suppress(OSError):  # another user's, in a folder of all
                _remove_if_nobodys(path, seconds)


def _remove_if_nobodys(path: Path, seconds: float) -> None:
    name = _TEMPORARY.fullmatch(path.name)
    if name is None or not _is_nobodys(path, int(name["pid"]), name["machine"], seconds):
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_nobodys(path: Path, pid: int, machine: str | None, seconds: float) -> bool:
    if machine == _machine() and sys.platform != "win32":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # it lives, and is another user's
            pass
    return path.lstat().st_mtime < time.time() - seconds


# folders, whole or not at all


def replace_folder(new: Path, folder: Path) -> None:
    """Put the folder `new` at the place of `folder`; where the system can, no reader sees a moment without either.

    What was there lies at `new` after an exchange; else it is removed, and a crash between two renames leaves it where
    `put_back` finds it.
    """
    if not (folder.exists() and _exchange(new, folder)):
        previous = _previous(folder)
        while True:
            if folder.exists():
                shutil.rmtree(previous, ignore_errors=True)
                os.replace(folder, previous)
            try:
                os.replace(new, folder)
                break
            except OSError as error:  # a reader has put it back in between
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    put_back(folder)
                    raise
        shutil.rmtree(previous, ignore_errors=True)
    fsync_folder(folder.parent)


def _previous(folder: Path) -> Path:
    """Where a replaced folder lies between the two renames."""
    return folder.with_name(f".{folder.name}.previous")


def put_back(folder: Path) -> None:
    """Put back the folder that a crash between the two renames of `replace_folder` left aside."""
    if _previous(folder).is_dir() and not folder.exists():
        with contextlib.suppress(OSError):  # another process was first, or nobody may write here
            os.replace(_previous(folder), folder)


def put_all_back(parent: Path) -> None:
    """Put back every folder below `parent` that was left aside."""
    with contextlib.suppress(OSError):
        for path in list(parent.glob(".*.previous")):
            put_back(parent / path.name[1:].removesuffix(".previous"))


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; return False where the system or the file system cannot (Linux: renameat2)."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)  # of glibc 2.28 and musl 1.2.6
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0


def sha256_file(path: str | Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
