"""Inputs as lines of text, unpacked by their content and decoded, from files or standard input."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, cast

from esmcls.errors import DataError, NotTextError
from esmcls.files import is_descriptor, kind_instead
from esmcls.remote.addresses import address_of
from esmcls.remote.streams import open_address

STDIN: Final = "-"
LONGEST_FIRST_LINE: Final = 1 << 20
"""Characters; a longer first line is no header."""
_MAGIC: Final = {b"\x1f\x8b": "gz", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst", b"BZh": "bz2"}
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_FORMATS: Final = "FASTA, CSV, TSV or Stockholm, as text"
_CONTROLS: Final = frozenset(range(32)) - frozenset(b"\t\n\r\f\x01")
"""Signs no text has; ^A does stand in NCBI's headers, between those of equal sequences."""

_FIXES: Final = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ELOOP: "mend the link",
    errno.ENOENT: "check the name",
}
NO_LIMITS: Final = "ESMCLS_NO_LIMITS"
"""Variable of the environment that, set to 1, takes off the limits below."""
LONGEST_LINE: Final = 16 << 20
"""Characters; the longest protein known has 45,000 residues, the longest table line of annotations some 100,000."""
LARGEST_RATIO: Final = 200
"""Times that text may be larger than its packed form; sequences reach 3 to 20."""
RATIO_FROM: Final = 16 << 20
"""Bytes of text from which on the ratio is looked at."""
_FORMULA: Final = frozenset("=+-@\t\r")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?", re.ASCII)


def no_formula(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: with a blank before it, which is lost in reading.

    Examples
    --------
    >>> no_formula("=cmd()"), no_formula("-1.5"), no_formula("PF00001")
    (' =cmd()', '-1.5', 'PF00001')
    """
    return f" {cell}" if cell[:1] in _FORMULA and not _NUMBER.fullmatch(cell) else cell


def shown(path: str) -> str:
    """Return the name of a source as messages show it."""
    return "<stdin>" if path == STDIN else path


@contextlib.contextmanager
def open_lines(path: str) -> Iterator[Iterator[str]]:
    """Open a text source and give its lines, with ends as `\\n` and without a BOM.

    It is unpacked if its first bytes say gzip, xz, zstd or bzip2, whatever its name. Bytes that are no UTF-8 are read
    as Latin-1, as old flat files have them.

    Parameters
    ----------
    path : str
        A file, "-" for standard input, or a URL.

    Yields
    ------
    iterator of str

    Raises
    ------
    DataError
        If the file cannot be opened, or is cut off or damaged, here or while its lines are read.
    NotTextError
        If it is UTF-16 or binary.
    """
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(_stdin() if path == STDIN else _file(path))
        unpacked = stack.enter_context(_unpack(raw, path))
        _check_text(unpacked.peek(), path)
        text = io.TextIOWrapper(unpacked, encoding="utf-8-sig", errors="esmcls-latin-1")
        stack.callback(text.detach)  # what lies below is closed by its own context, standard input by nobody
        yield _lines(text, path)


def read_unpacked(path: str) -> bytes:
    """Return the bytes of a file or URL, unpacked as `open_lines` does.

    Raises
    ------
    DataError
        If the file cannot be opened, or is cut off or damaged.
    """
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(_stdin() if path == STDIN else _file(path))
        unpacked = stack.enter_context(_unpack(raw, path))
        with _as_data_error(path):
            return unpacked.read()


@contextlib.contextmanager
def _stdin() -> Iterator[io.BufferedReader]:
    if sys.stdin is None:
        raise DataError(shown(STDIN), "standard input is closed", "give a file, or pipe something in")
    # a buffer of our own over the process's, for whatever stands there may lack `peek`
    buffered = _buffered(sys.stdin.buffer)
    try:
        yield buffered
    finally:
        buffered.detach()


def _buffered(stream: BinaryIO | io.RawIOBase) -> io.BufferedReader:
    return cast(io.BufferedReader, io.BufferedReader(cast(io.RawIOBase, stream)))


@contextlib.contextmanager
def _file(path: str) -> Iterator[io.BufferedReader]:
    if (address := address_of(path)) is not None:
        with open_address(address) as stream:
            yield stream
        return
    with contextlib.ExitStack() as stack:
        try:
            check_readable(path)
            handle = stack.enter_context(open(path, "rb"))
        except OSError as error:
            fix = _FIXES.get(error.errno or 0, "check its permissions")
            raise DataError(path, f"cannot be opened ({error.strerror})", fix) from error
        yield handle


def check_readable(path: str) -> None:
    """Refuse, before anything is read, what has no end or never begins: sockets, devices, and named pipes of a folder.

    Pipes that a shell makes (`<(zcat a.gz)`, /dev/stdin) are read.

    Raises
    ------
    DataError
        If it is neither a file nor such a pipe.
    OSError
        If the system does not say what it is: a loop of links, say.
    """
    kind = kind_instead(path)
    if kind is None or is_descriptor(path):
        return
    fix = "give a file, or pipe it in and give -" if kind == "a pipe" else "give a file"
    raise DataError(path, f"{kind}, not a file", fix)


@contextlib.contextmanager
def _unpack(raw: io.BufferedReader, path: str) -> Iterator[io.BufferedReader]:
    head = raw.peek()
    packing = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if packing is None:
        yield raw
        return
    from xopen import xopen

    counted = _Counted(raw)
    with xopen(io.BufferedReader(counted), "rb", format=packing, threads=0) as stream:
        unpacked = _buffered(_Unpacked(stream, counted, path))
        with _as_data_error(path):
            unpacked.peek()
        yield unpacked


def _check_text(head: bytes, path: str) -> None:
    if head.startswith(_UTF16):
        raise NotTextError(shown(path), "UTF-16 text", "save it as UTF-8")
    if not _CONTROLS.isdisjoint(head):
        raise NotTextError(shown(path), "binary data", f"give {_FORMATS}")


def _lines(text: io.TextIOWrapper, path: str) -> Iterator[str]:
    """Give the lines, none longer than a line may be; those up to the first that is not blank, than a header may be."""
    longest = LONGEST_FIRST_LINE
    number = 0
    with _as_data_error(path):
        while line := text.readline(longest):
            number += 1
            if len(line) == longest and not line.endswith("\n"):
                raise _too_long(path, longest, number)
            if longest == LONGEST_FIRST_LINE and line.strip():
                longest = -1 if limits_are_off() else LONGEST_LINE
            yield line


def _too_long(path: str, longest: int, line: int) -> DataError:
    if longest == LONGEST_FIRST_LINE:
        return NotTextError(shown(path), "a first line of a mebibyte", f"give {_FORMATS}")
    problem = f"a line of more than {longest:,} characters"
    return DataError(shown(path), problem, f"break it, or set {NO_LIMITS}=1 if it is right", line=line)


class RecordLimit:
    """Characters that what is held in memory until its end is read may yet have: a record, a row, an alignment.

    Parameters
    ----------
    path : str
        For messages.
    line : int
        1-based, where it begins.
    what : str
    most : int
    fix : str
        The remedy, as an order.
    """

    def __init__(
        self, path: str, line: int, what: str = "a record", most: int = LONGEST_LINE, fix: str = "leave it out"
    ) -> None:
        self.path = path
        self.line = line
        self.what = what
        self.most = most
        self.fix = fix
        self.rest = sys.maxsize if limits_are_off() else most

    def take(self, count: int) -> None:
        """Count so many characters more.

        Raises
        ------
        DataError
            If there are more than there may be.
        """
        self.rest -= count
        if self.rest < 0:
            fix = f"{self.fix}, or set {NO_LIMITS}=1 if it is right"
            raise DataError(shown(self.path), f"{self.what} of more than {self.most:,} characters", fix, line=self.line)


def limits_are_off() -> bool:
    """Say whether the user has taken off the limits on lines, records and packed files."""
    return os.environ.get(NO_LIMITS, "") not in ("", "0")


class _Counted(io.RawIOBase):
    """Bytes of a packed file, counted as they are read."""

    def __init__(self, source: io.BufferedReader) -> None:
        self.source = source
        self.count = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is there."""
        count = self.source.readinto1(buffer)
        self.count += count
        return count


class _Unpacked(io.RawIOBase):
    """Bytes of what a packed file holds; an error where they are far too many."""

    def __init__(self, source: BinaryIO, packed: _Counted, path: str) -> None:
        self.source = source
        self.packed = packed
        self.path = path
        self.count = 0
        self.most = sys.maxsize if limits_are_off() else RATIO_FROM

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read as much as is asked for."""
        data = self.source.read(len(buffer))
        buffer[: len(data)] = data
        self.count += len(data)
        if self.count > self.most and self.count > LARGEST_RATIO * self.packed.count:
            problem = f"its text is more than {LARGEST_RATIO} times as large as the packed file"
            raise DataError(shown(self.path), problem, f"check it, and set {NO_LIMITS}=1 if it is right")
        return len(data)


@contextlib.contextmanager
def _as_data_error(path: str) -> Iterator[None]:
    # reading alone is done inside: each unpacker has errors of its own that share no base but Exception
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(shown(path), f"cannot be read to its end ({error})", "fetch or pack the file again") from error


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("esmcls-latin-1", _as_latin_1)
