"""URLs that are read or written, the file system that knows each, and what goes wrong with one, in a line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from esmcls.errors import DataError, EsmclsError, MissingExtraError, UsageError

FileSystem: TypeAlias = Any
"""An `fsspec.AbstractFileSystem`; the package may be absent."""
PACKAGES: Final = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs"}
"""Scheme -> what fsspec needs to speak it."""
SECONDS_TO_CONNECT: Final = 30
SECONDS_OF_SILENCE: Final = 300
STORES: Final = ("s3", "gs")
"""Schemes of stores that list what they hold, and take what is put."""
_IN_EXTRA: Final = ("aiohttp", "s3fs")
_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/+)(.*)", re.DOTALL)
_CREDENTIALS: Final = frozenset(
    ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "DefaultCredentialsError")
)
"""Names of errors of botocore and google-auth."""
_NETWORK: Final = "check the network and run again"


class AddressError(DataError):
    """What lies at a URL and cannot be had, or not whole; or cannot be put there."""


class Entry(NamedTuple):
    """An object of a store: its bytes, and what changes when it does."""

    size: int
    stamp: str


def address_of(path: str | Path) -> str | None:
    """Return the URL that a path is, as it was before `Path` took a slash from it; None if it is a path.

    Examples
    --------
    >>> address_of("https://example.org/a.fasta?raw=1"), address_of(Path("s3://bucket/w"))
    ('https://example.org/a.fasta?raw=1', 's3://bucket/w')
    >>> address_of("a.fasta") is None, address_of("C:/a.fasta") is None
    (True, True)
    """
    parts = _ADDRESS.fullmatch(str(path))
    if parts is None:
        return None
    scheme, slashes, rest = parts.groups()
    return f"{scheme.lower()}:{slashes if len(slashes) > 1 else '//'}{rest}"


def file_name(address: str) -> str:
    """Return the name that a URL ends in, without a query.

    Examples
    --------
    >>> file_name("https://example.org/set/train.csv.gz?download=1")
    'train.csv.gz'
    """
    return urlsplit(address).path.rstrip("/").rpartition("/")[2]


def without_secrets(address: str) -> str:
    """Return a URL without user, password and query, which may be a signature: as it is remembered.

    Examples
    --------
    >>> without_secrets("https://me:word@example.org/set.csv?signature=1f2e")
    'https://example.org/set.csv'
    """
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def file_system(address: str) -> tuple[FileSystem, str]:
    """Return the file system that knows a URL, and its name there.

    Raises
    ------
    UsageError
        If its scheme is none that is read here.
    MissingExtraError
        If the extra is not installed.
    """
    scheme = address.partition(":")[0]
    if scheme not in PACKAGES:
        known = ", ".join(f"{name}://" for name in PACKAGES)
        raise UsageError(f"{address}: an address that is not read here (known: {known}); copy it to this machine")
    package = PACKAGES[scheme]
    try:
        import fsspec

        __import__(package)
    except ImportError as error:
        absent = error.name if error.name in ("fsspec", package) else package
        extra = "remote" if package in _IN_EXTRA or absent == "fsspec" else ""
        raise MissingExtraError(address, absent, extra) from error
    with told(address):
        system, path = fsspec.core.url_to_fs(address, use_listings_cache=False, **_options(scheme))
    return system, str(path)


def _options(scheme: str) -> dict[str, Any]:
    """Return what a file system is to do otherwise than by itself."""
    if not scheme.startswith("http"):
        return {}
    from aiohttp import ClientTimeout

    # a stream may take hours, as long as something comes; proxies and .netrc are the user's
    timeout = ClientTimeout(total=None, sock_connect=SECONDS_TO_CONNECT, sock_read=SECONDS_OF_SILENCE)
    return {"client_kwargs": {"timeout": timeout, "trust_env": True}}


@contextlib.contextmanager
def told(address: str, found: str = "cannot be read") -> Iterator[None]:
    """Turn what goes wrong with a URL into one line.

    Each file system has errors of its own, which share no base but Exception.

    Raises
    ------
    AddressError
    """
    try:
        yield
    except (EsmclsError, MemoryError):
        raise
    except Exception as error:
        problem, fix = _problem(error)
        raise AddressError(address, f"{found}: {problem}", fix) from error


def _problem(error: BaseException) -> tuple[str, str]:
    """Return what an error says, and what to do."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    status = getattr(error, "status", None)
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and cause is not None and type(cause).__module__.startswith("aiohttp"):
        return _problem(cause)  # fsspec says so of every fault of a server
    if isinstance(error, FileNotFoundError) or status == 404:
        return "nothing is there", "check the names, that of the bucket, too"
    if {kind.__name__ for kind in type(error).__mro__} & _CREDENTIALS:
        return "no credentials", "set those of the store, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if isinstance(error, PermissionError) or status in (401, 403):
        return f"access is denied ({text})", "check your credentials and what they may do there"
    if status is not None:
        return f"the server answers {status}", "check the address"
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return f"{error.filename}: {error.strerror}", "make room or check the permissions there"
    return f"the connection failed or broke off ({text})", _NETWORK


def entry_of(about: Mapping[str, Any]) -> Entry:
    """Return what a file system says of an object."""
    names = ("ETag", "etag", "generation", "LastModified", "Last-Modified", "updated")
    stamp = next((about[name] for name in names if about.get(name)), "")
    return Entry(int(about.get("size") or 0), str(stamp).strip('"'))
