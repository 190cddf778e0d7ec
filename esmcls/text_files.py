"""Inputs as lines of text, unpacked by their content and decoded, from files or standard input."""

from __future__ import annotations

import codecs
import contextlib
import io
import itertools
import sys
from collections.abc import Iterator
from typing import BinaryIO, Final, cast

from xopen import xopen

from esmcls.errors import DataError, NotTextError

STDIN: Final = "-"
LONGEST_FIRST_LINE: Final = 1 << 20
"""Characters; a longer first line is no header."""
_MAGIC: Final = {b"\x1f\x8b": "gz", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst", b"BZh": "bz2"}
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_FORMATS: Final = "FASTA, CSV, TSV or Stockholm, as text"
_CONTROLS: Final = frozenset(range(32)) - frozenset(b"\t\n\r\f\x01")
"""Signs no text has; ^A does stand in NCBI's headers, between those of equal sequences."""


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
        A file, or "-" for standard input.

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
        yield itertools.chain(_first_lines(text, path), _guarded(text, path))


@contextlib.contextmanager
def _stdin() -> Iterator[io.BufferedReader]:
    # a buffer of our own over the process's, for whatever stands there may lack `peek`
    buffered = _buffered(sys.stdin.buffer)
    try:
        yield buffered
    finally:
        buffered.detach()


def _buffered(stream: BinaryIO) -> io.BufferedReader:
    return cast(io.BufferedReader, io.BufferedReader(cast(io.RawIOBase, stream)))


@contextlib.contextmanager
def _file(path: str) -> Iterator[io.BufferedReader]:
    with contextlib.ExitStack() as stack:
        try:
            handle = stack.enter_context(open(path, "rb"))
        except OSError as error:
            raise DataError(path, f"cannot be opened ({error.strerror})", "check its permissions") from error
        yield handle


@contextlib.contextmanager
def _unpack(raw: io.BufferedReader, path: str) -> Iterator[io.BufferedReader]:
    head = raw.peek()
    packing = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if packing is None:
        yield raw
        return
    with xopen(raw, "rb", format=packing, threads=0) as stream:
        unpacked = _buffered(stream)
        with _as_data_error(path):
            unpacked.peek()
        yield unpacked


def _check_text(head: bytes, path: str) -> None:
    if head.startswith(_UTF16):
        raise NotTextError(shown(path), "UTF-16 text", "save it as UTF-8")
    if not _CONTROLS.isdisjoint(head):
        raise NotTextError(shown(path), "binary data", f"give {_FORMATS}")


def _first_lines(text: io.TextIOWrapper, path: str) -> Iterator[str]:
    """Give the lines up to the first that is not blank, none of them longer than a header may be."""
    for line in _guarded(iter(lambda: text.readline(LONGEST_FIRST_LINE), ""), path):
        if len(line) == LONGEST_FIRST_LINE:
            raise NotTextError(shown(path), "a first line of a mebibyte", f"give {_FORMATS}")
        yield line
        if line.strip():
            return


def _guarded(lines: Iterator[str], path: str) -> Iterator[str]:
    with _as_data_error(path):
        for line in lines:  # noqa: UP028  (`yield from` would close the file, standard input too, when it is left early)
            yield line


@contextlib.contextmanager
def _as_data_error(path: str) -> Iterator[None]:
    # reading alone is done inside: each unpacker has errors of its own that share no base but Exception
    try:
        yield
    except Exception as error:
        raise DataError(shown(path), f"cannot be read to its end ({error})", "fetch or pack the file again") from error


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("esmcls-latin-1", _as_latin_1)
