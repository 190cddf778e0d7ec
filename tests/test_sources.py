"""Lines of text come out of any file, packed or not, or one clear error does."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from esmcls import text_files
from esmcls.errors import DataError, NotTextError
from esmcls.reading.readers import Source, find_sources, read_records
from esmcls.text_files import LONGEST_FIRST_LINE, STDIN, open_lines, shown

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
    "bzip2": bz2.compress,
}
LETTERS = random.Random(0).choices(b"ACDEFGHIKLMNPQRSTVWY", k=200_000)


def lines_of(path: Path | str) -> list[str]:
    with open_lines(str(path)) as lines:
        return list(lines)


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("name", ["a.fasta", "a.fasta.gz", "a"])
def test_packing_is_recognised_by_content_whatever_the_name(tmp_path: Path, packer: str, name: str) -> None:
    path = put(tmp_path / name, PACKERS[packer](b">a\nMKT\n\nAYI"))
    assert lines_of(path) == [">a\n", "MKT\n", "\n", "AYI"]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a\r\nb\r\n", ["a\n", "b\n"]),
        (b"a\rb\r", ["a\n", "b\n"]),
        (b"\xef\xbb\xbfa\nb", ["a\n", "b"]),
        (b"\n\r\n \na", ["\n", "\n", " \n", "a"]),
        (b"", []),
        (b"Sch\xc3\xbctz\n", ["Schütz\n"]),
        (b"Sch\xfctz\n\xe9", ["Schütz\n", "é"]),
        (b">gi|1 a\x01gi|2 b\n", [">gi|1 a\x01gi|2 b\n"]),
    ],
)
def test_line_ends_marks_and_old_encodings(tmp_path: Path, content: bytes, lines: list[str]) -> None:
    assert lines_of(put(tmp_path / "a", content)) == lines


def test_several_gzip_members_are_one_text(tmp_path: Path) -> None:
    assert lines_of(put(tmp_path / "a.gz", gzip.compress(b"a\n") + gzip.compress(b"b\n"))) == ["a\n", "b\n"]


@pytest.mark.parametrize("packer", ["gzip", "xz", "zstd", "bzip2"])
def test_a_packed_file_cut_off_is_an_error(tmp_path: Path, packer: str) -> None:
    packed = PACKERS[packer](b">a\n" + bytes(LETTERS))
    path = put(tmp_path / "a", packed[: len(packed) // 2])
    with pytest.raises(DataError) as caught:
        lines_of(path)
    assert str(caught.value) == (
        f"{path}: cannot be read to its end (Compressed file ended before the end-of-stream marker was reached); "
        "fetch or pack the file again"
    )


@pytest.mark.parametrize("packer", ["gzip", "xz", "bzip2"])
def test_a_damaged_packed_file_is_an_error(tmp_path: Path, packer: str) -> None:
    packed = bytearray(PACKERS[packer](b">a\n" + bytes(LETTERS)))
    packed[5000:5100] = bytes(100)
    path = put(tmp_path / "a", bytes(packed))
    with pytest.raises(DataError, match=r"cannot be read to its end \(.+\); fetch or pack the file again"):
        lines_of(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0", "binary data; give FASTA, CSV, TSV or Stockholm, as text"),
        (b"\n\nPK\x03\x04", "binary data; give FASTA, CSV, TSV or Stockholm, as text"),
        (gzip.compress(b"\x89HDF\r\n\x1a\n", mtime=0), "binary data; give FASTA, CSV, TSV or Stockholm, as text"),
        (b"A" * LONGEST_FIRST_LINE + b"\n", "a first line of a mebibyte; give FASTA, CSV, TSV or Stockholm, as text"),
        (">a\nMKT\n".encode("utf-16"), "UTF-16 text; save it as UTF-8"),
    ],
)
def test_what_is_no_text_is_told_from_its_beginning(tmp_path: Path, content: bytes, message: str) -> None:
    path = put(tmp_path / "a", content)
    with pytest.raises(NotTextError) as caught:
        lines_of(path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        lines_of(tmp_path)
    assert str(caught.value) == f"{tmp_path}: a folder, not a file; give a file"


def test_standard_input_is_read_packed_too_and_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(gzip.compress(b">a\nMKT\n")))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert lines_of(STDIN) == [">a\n", "MKT\n"]
    assert not stdin.buffer.closed


def test_messages_show_standard_input_by_its_name() -> None:
    assert (shown("-"), shown("a.fasta")) == ("<stdin>", "a.fasta")


@pytest.mark.parametrize(
    ("file", "item", "part"),
    [
        ("x/train.csv.gz", "x/train.csv.gz", "train"),
        ("x/Test.fasta", "x/Test.fasta", "test"),
        ("dev/data-00000-of-00001", "dev/data-00000-of-00001", "validation"),
        ("x/train_sequences.fasta", "x/train_sequences.fasta", None),
        ("test/x/a.csv", "test/x/a.csv", None),
        ("x/train/data-00000-of-00001", "x", "train"),
        ("train/data-00000-of-00001", "train", "train"),
        ("test/train/deep/a.csv", "test", "train"),
        ("train/test.csv", "train", "test"),
        ("x/a.csv", "x", None),
    ],
)
def test_the_nearest_name_on_the_way_to_a_file_gives_its_part(
    tmp_path: Path, file: str, item: str, part: str | None
) -> None:
    put(tmp_path / file, b"")
    assert find_sources(str(tmp_path / item)) == [Source(str(tmp_path / file), part, in_folder=item != file)]


def test_files_of_a_folder_come_sorted(tmp_path: Path) -> None:
    for name in ["b/2", "b/10", "a", "c/.hidden"]:
        put(tmp_path / name, b"")
    found = [Path(source.path).relative_to(tmp_path).as_posix() for source in find_sources(str(tmp_path))]
    assert found == ["a", "b/10", "b/2"]  # hidden files are listed, not read


def test_an_input_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DataError) as caught:
        find_sources("no/such.fasta")
    assert str(caught.value) == "no/such.fasta: no such file or folder; check the name"


# what has no end, or never begins


def test_pipes_sockets_devices_and_loops_of_links_are_refused_before_reading(tmp_path: Path) -> None:
    pipe, loop, place = tmp_path / "pipe", tmp_path / "loop", tmp_path / "socket"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    with socket.socket(socket.AF_UNIX) as listening:
        before = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket has 100 characters at most
        listening.bind("socket")
        os.chdir(before)
        for path, problem in (
            (pipe, "a pipe, not a file; give a file, or pipe it in and give -"),
            (place, "a socket, not a file; give a file"),
            (Path("/dev/zero"), "a device, not a file; give a file"),
            (loop, "cannot be opened (Too many levels of symbolic links); mend the link"),
        ):
            with pytest.raises(DataError) as caught:
                lines_of(path)
            assert str(caught.value) == f"{path}: {problem}"


def test_a_pipe_that_the_shell_makes_is_read() -> None:
    reading, writing = os.pipe()
    os.write(writing, b">a\nMKT\n")
    os.close(writing)
    assert lines_of(Path(f"/dev/fd/{reading}")) == [">a\n", "MKT\n"]
    os.close(reading)


# bombs


@pytest.mark.parametrize("packing", ["gzip", "xz", "zstd", "bzip2"])
def test_a_file_that_unpacks_to_far_more_than_it_is_is_refused_unless_switched_off(
    tmp_path: Path, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "RATIO_FROM", 1 << 20)
    path = put(tmp_path / "bomb.fasta", PACKERS[packing](b">a\n" + (b"A" * 99 + b"\n") * 50_000))
    with pytest.raises(DataError, match="its text is more than 200 times as large as the packed file; check it, and"):
        lines_of(path)
    monkeypatch.setenv("ESMCLS_NO_LIMITS", "1")
    assert len(lines_of(path)) == 50_001


def test_a_line_that_is_too_long_is_named_unless_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "LONGEST_LINE", 1000)
    path = tmp_path / "a.fasta"
    path.write_text(">a\n" + "A" * 999 + "\n" + "A" * 1001 + "\n")
    with pytest.raises(
        DataError, match=r"a\.fasta:3: a line of more than 1,000 characters; break it, or set ESMCLS_NO"
    ):
        lines_of(path)
    monkeypatch.setenv("ESMCLS_NO_LIMITS", "1")
    assert len(lines_of(path)) == 3


@pytest.mark.parametrize("line", ["A" * 60, ""])
def test_a_record_that_is_too_long_is_named_even_of_blank_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr("esmcls.reading.fasta.LONGEST_RECORD", 1000)
    path = tmp_path / "a.fasta"
    path.write_text(">a\nMKT\n>b\n" + f"{line}\n" * 1001)
    with pytest.raises(DataError, match=r"a\.fasta:3: a record of more than 1,000 characters; leave it out, or set"):
        list(read_records(path))
