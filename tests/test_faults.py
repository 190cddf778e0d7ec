"""What can go wrong on a disk: no sealed row is lost, no value changed, and one clear line says what happened."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from toy_encoder import ToyEncoder, letters, stacked

from esmcls.cache.embed import embed_into
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.errors import CacheError

DRIVER = Path(__file__).with_name("fault_driver.py")
SPEC = EmbeddingSpec.of(ToyEncoder())
SEQUENCES = [letters(number) for number in range(12)]


def drive(*arguments: object) -> dict[str, int]:
    """Run the driver; return its counts."""
    command = [sys.executable, str(DRIVER), *map(str, arguments)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def segment_of(folder: Path) -> Path:
    """Make a cache of one segment and return its file."""
    with EmbeddingCache.open(folder, SPEC) as cache:
        cache.append(["ACD"] * 3 + ["C"], ToyEncoder().encode(["ACD"] * 3 + ["C"]))
    return next(folder.glob("*.h5"))


def test_a_crash_at_any_single_file_operation_loses_no_sealed_row_and_changes_no_value(tmp_path: Path) -> None:
    operations = drive("crash", tmp_path)["operations"]
    assert operations > 100, "every write, fsync, rename and unlink of a run that seals and compacts"
    for folder in sorted(tmp_path.iterdir()):
        log = (folder / "sealed.log").read_text().split() if (folder / "sealed.log").exists() else []
        with EmbeddingCache.open(folder / "cache", EmbeddingSpec.of(ToyEncoder(), poolings=("mean", "chunk"))) as cache:
            absent = cache.missing(SEQUENCES)
            assert absent == list(range(len(SEQUENCES) - len(absent), len(SEQUENCES))), "a beginning is there"
            assert len(cache) >= (int(log[-1]) if log else 0)
            assert len(cache) % 3 == 0, "whole batches"
            there = SEQUENCES[: len(cache)]
            assert np.array_equal(cache.read(there), stacked(there))
            encoder = ToyEncoder()
            embed_into(cache, encoder, SEQUENCES)
            assert encoder.batches_seen == [SEQUENCES[start : start + 3] for start in range(len(there), 12, 3)]
            assert np.array_equal(cache.read(SEQUENCES), stacked(SEQUENCES))
            assert [len(part) for part in cache.read_chunks(SEQUENCES)] == [1] * 12


def test_random_kills_lose_no_sealed_row_and_change_no_value(tmp_path: Path) -> None:
    counts = drive("kill", tmp_path, 20)
    assert (counts["kills"], counts["lost"], counts["changed"]) == (20, 0, 0)
    assert counts["rows_sealed"] > 0


def test_two_writers_at_once_store_everything(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import fault_driver as d; from pathlib import Path;"
        "s = [d.letters(n) for n in range(60)]; s = s if sys.argv[3] == '0' else s[::-1];"
        "d.run(Path(sys.argv[2]), s, 0.001)"
    )
    arguments = [sys.executable, "-c", code, str(DRIVER.parent), str(tmp_path)]
    writers = [subprocess.Popen([*arguments, number], stderr=subprocess.PIPE, text=True) for number in "01"]
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [("", 0)] * 2
    sequences = [letters(number) for number in range(60)]
    with EmbeddingCache.open(tmp_path) as cache:
        assert np.array_equal(cache.read(sequences), stacked(sequences))
        cache.compact()
        assert len(cache) == cache.verify().rows == 60
        assert np.array_equal(cache.read(sequences), stacked(sequences))


# the disk


def test_a_full_disk_is_one_line_and_keeps_what_is_sealed(tmp_path: Path) -> None:
    """A limit on the size of files, in a process of its own; HDF5 left alone ends such a process with SIGSEGV."""
    with EmbeddingCache.open(tmp_path, SPEC) as cache:
        embed_into(cache, ToyEncoder(), SEQUENCES[:3])
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_faults import fill_the_disk; fill_the_disk(sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(DRIVER.parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    fix = "make room on the disk, then run again: what is sealed stays"
    assert done.stdout == f"{tmp_path}: a segment cannot be written (File too large); {fix}\n"
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(tmp_path.iterdir())) == 2, "no temporary file is left"
    with EmbeddingCache.open(tmp_path) as cache:
        assert np.array_equal(cache.read(SEQUENCES[:3]), stacked(SEQUENCES[:3]))


def fill_the_disk(folder: str) -> None:
    """Embed under a limit of 3 kB a file and print the error; called in a child."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
    try:
        with EmbeddingCache.open(folder) as cache:
            embed_into(cache, ToyEncoder(), [letters(number) for number in range(100)])
    except CacheError as error:
        print(error)


def failing(code: int) -> Callable[..., Any]:
    """Return a function that fails as the system does."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("operation", ["replace", "fsync"])
@pytest.mark.parametrize(
    ("code", "line"),
    [
        (errno.ENOSPC, "(No space left on device); make room on the disk, then run again: what is sealed stays"),
        (errno.EROFS, "(Read-only file system); choose a folder that can be written to, or repair this one, then run"),
        (errno.EACCES, "(Permission denied); choose a folder that can be written to, or repair this one, then run"),
        (errno.EIO, "(Input/output error); choose a folder that can be written to, or repair this one, then run"),
    ],
)
def test_an_error_while_sealing_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, code: int, line: str
) -> None:
    with EmbeddingCache.open(tmp_path, SPEC) as cache:
        embed_into(cache, ToyEncoder(), SEQUENCES[:3])
        with monkeypatch.context() as patch:
            patch.setattr(f"esmcls.files.os.{operation}", failing(code))
            with pytest.raises(CacheError) as caught:
                embed_into(cache, ToyEncoder(), SEQUENCES)
        assert str(caught.value).startswith(f"{tmp_path}: a segment cannot be written {line}")
        assert len(str(caught.value).splitlines()) == 1
        assert len(list(tmp_path.iterdir())) == 2
        embed_into(cache, ToyEncoder(), SEQUENCES)
        assert np.array_equal(cache.read(SEQUENCES), stacked(SEQUENCES))


def test_a_read_only_folder_can_be_read_and_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment_of(tmp_path / "there")
    for name in ("mkdir", "write_text", "unlink"):
        monkeypatch.setattr(Path, name, failing(errno.EROFS))
    with EmbeddingCache.open(tmp_path / "there", SPEC) as cache:
        assert np.array_equal(cache.read(["C"]), stacked(["C"]))
    with pytest.raises(CacheError, match=r"new: cannot be opened \(Read-only file system\); choose a folder"):
        EmbeddingCache.open(tmp_path / "new", SPEC)


def test_a_file_where_the_folder_should_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"file: cannot be opened \((File exists|Not a directory)\); choose a folder"):
        EmbeddingCache.open(tmp_path / "file", SPEC)


# segments that are none


@pytest.mark.parametrize("size", [0, 10, 100, 500, 2000, -1])
def test_a_truncated_segment_is_named_and_not_passed_over(tmp_path: Path, size: int) -> None:
    path = segment_of(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:size])
    with pytest.raises(CacheError) as caught:
        EmbeddingCache.open(tmp_path)
    assert str(caught.value).startswith(f"{path}: this segment is ")
    assert str(caught.value).endswith("; delete this file and run embed again; what else is cached stays")
    path.unlink()
    with EmbeddingCache.open(tmp_path) as cache:
        assert cache.missing(["C"]) == [0]


def test_foreign_files_are_named(tmp_path: Path) -> None:
    segment_of(tmp_path)
    (tmp_path / "notes.txt").write_text("not a segment, and not called one")
    EmbeddingCache.open(tmp_path).close()
    text = tmp_path / "00.h5"
    text.write_text("no HDF5 at all")
    with pytest.raises(CacheError, match=r"00\.h5: this segment is no HDF5 file, or a damaged one; delete this file"):
        EmbeddingCache.open(tmp_path)
    text.unlink()
    with h5py.File(text, "w") as file:
        file["P12345"] = np.zeros(1024)
    with pytest.raises(CacheError, match=r"00\.h5: this is no segment of an esmcls cache; move it out of this folder"):
        EmbeddingCache.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda file: file.attrs.__setitem__("format", 2), "is of format 2; this esmcls reads up to 1; update esmcls"),
        (lambda file: file.attrs.__setitem__("spec", "{"), "is damaged (Expecting"),
        (lambda file: file.__delitem__("mean"), "is damaged ("),
        (lambda file: file.__delitem__("key"), "is damaged ("),
    ],
)
def test_a_segment_that_says_something_else_is_named(
    tmp_path: Path, change: Callable[[h5py.File], None], line: str
) -> None:
    path = segment_of(tmp_path)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(CacheError) as caught:
        EmbeddingCache.open(tmp_path)
    assert str(caught.value).startswith(f"{path}: this segment {line}")


def test_a_segment_of_another_spec_is_named(tmp_path: Path) -> None:
    segment_of(tmp_path / "a")
    other = EmbeddingSpec.of(ToyEncoder(digest="71"))
    with EmbeddingCache.open(tmp_path / "b", other) as cache:
        cache.append(["A"], ToyEncoder().encode(["A"]))
    path = next((tmp_path / "b").glob("*.h5")).rename(tmp_path / "a" / "x.h5")
    with pytest.raises(CacheError) as caught:
        EmbeddingCache.open(tmp_path / "a")
    why = "this segment is of another spec (digest 70 against 71)"
    assert str(caught.value) == f"{path}: {why}; move it out of this folder"
