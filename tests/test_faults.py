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

from esmcls.cache import index as rows_module
from esmcls.cache import segments as segments_module
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


def test_a_first_embed_that_died_at_any_file_operation_is_mended_by_a_second(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    counts = drive("first", root)
    assert counts["operations"] > 15, "every write, fsync, rename and unlink"
    assert counts["broken"] == 0


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
    with pytest.raises(CacheError, match=r"00\.h5: this is no segment of an esmcls cache, or .*; move it out"):
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
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        change(file)
    with pytest.raises(CacheError) as caught:
        EmbeddingCache.open(tmp_path)
    assert str(caught.value).startswith(f"{path}: this segment {line}")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("soft link", "a link that esmcls does not write"),
        ("external link", "a link that esmcls does not write"),
        ("external storage", "a message of type 7"),
        ("virtual", "a column in chunks, or that lies in other files"),
        ("claim", "an address beyond its end"),
        ("packed claim", "a message of type 11"),
    ],
)
def test_a_segment_that_shows_bytes_of_other_files_or_claims_more_than_it_holds_is_refused(
    tmp_path: Path, change: str, problem: str
) -> None:
    path = segment_of(tmp_path)
    secret = tmp_path / "secret.h5f"
    with h5py.File(secret, "w") as file:
        file["mean"] = np.zeros((4, 26), dtype=np.float16)
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        shape, dtype = file["mean"].shape, file["mean"].dtype
        file.move("mean", "other")
        if change == "soft link":
            file["mean"] = h5py.SoftLink("/other")
        elif change == "external link":
            file["mean"] = h5py.ExternalLink(str(secret), "/mean")
        elif change == "external storage":
            file.create_dataset("mean", shape, dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
        elif change == "virtual":
            layout = h5py.VirtualLayout(shape, dtype)
            layout[:] = h5py.VirtualSource(str(secret), "mean", shape, dtype)
            file.create_virtual_dataset("mean", layout)
        else:
            packing = {"chunks": (1 << 20, shape[1]), "compression": "gzip"} if change == "packed claim" else {}
            file.create_dataset("mean", (1 << 40, shape[1]), dtype, **packing)
    with pytest.raises(
        CacheError, match=rf"no segment of an esmcls cache, or a damaged one \({problem}.*; move it out"
    ):
        EmbeddingCache.open(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_never_given_out(tmp_path: Path, value: float) -> None:
    path = segment_of(tmp_path)
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file["mean"][1, 2] = value
    with (
        EmbeddingCache.open(tmp_path) as cache,
        pytest.raises(CacheError, match=r"column mean of this segment is damaged \(a number that is not finite\)"),
    ):
        cache.read(["ACD", "C"])


@pytest.mark.parametrize(
    ("name", "shape", "dtype"), [("mean", (2, 7), "f2"), ("mean", (2, 26), "f8"), ("key", (2, 31), "u1")]
)
def test_a_column_of_another_form_than_the_specs_is_named(
    tmp_path: Path, name: str, shape: tuple[int, int], dtype: str
) -> None:
    path = segment_of(tmp_path)
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        del file[name]
        file[name] = np.zeros(shape, dtype=dtype)
    with pytest.raises(CacheError, match=f"this segment is damaged .column {name} is of"):
        EmbeddingCache.open(tmp_path)


@pytest.mark.parametrize("offsets", [[0, 5, 1, 2], [1, 1, 1, 2], [0, 1, 2, 9], [0, -1, 2, 2]])
def test_offsets_that_do_not_fit_are_named(tmp_path: Path, offsets: list[int]) -> None:
    spec = EmbeddingSpec.of(ToyEncoder(), poolings=("mean", "chunk"))
    with EmbeddingCache.open(tmp_path, spec) as cache:
        embed_into(cache, ToyEncoder(), SEQUENCES[:3])
    with h5py.File(next(tmp_path.glob("*.h5")), "r+") as file:
        file["chunk_offsets"][...] = offsets
    with (
        EmbeddingCache.open(tmp_path) as cache,
        pytest.raises(CacheError, match="the offsets of column chunk of this segment do not fit its rows"),
    ):
        cache.read_chunks(SEQUENCES[:3])


# what the system refuses is no damage


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM, errno.EACCES, errno.EIO, errno.ENFILE])
@pytest.mark.parametrize("place", ["open", "h5py.File"])
def test_an_error_of_the_system_never_advises_to_delete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, place: str
) -> None:
    path = segment_of(tmp_path)
    said = f"Unable to open file (unable to open file: name = 'x', errno = {code}, error message = 'x')"
    error = OSError(code, os.strerror(code)) if place == "open" else OSError(said)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(f"esmcls.cache.segments.{place}", fail, raising=False)
    with pytest.raises(CacheError) as caught:
        EmbeddingCache.open(tmp_path)
    assert str(caught.value).startswith(f"{path}: this segment cannot be read ({os.strerror(code)}); ")
    assert str(caught.value).endswith(" and run again; keep the file, its content was not found wrong")


def many_segments(folder: Path, count: int) -> None:
    """Make a cache of so many segments of one sequence each."""
    with EmbeddingCache.open(folder, SPEC) as cache:
        for number in range(count):
            cache.append([letters(number)], ToyEncoder().encode([letters(number)]))
            write = cache._write(cache._pending.columns())
            cache._pending = type(cache._pending)(SPEC)
            write.close()


def test_a_cache_of_more_segments_than_descriptors_is_read_compacted_and_verified(tmp_path: Path) -> None:
    many_segments(tmp_path, 60)
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[1]); from test_faults import *;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20));"
        "cache = EmbeddingCache.open(sys.argv[2]); names = [letters(n) for n in range(60)];"
        "print(cache.segments, np.array_equal(cache.read(names), stacked(names)));"
        "print(cache.verify().rows, cache.compact());"
        "print(np.array_equal(cache.read(names), stacked(names)))"
    )
    command = [sys.executable, "-c", code, str(DRIVER.parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("60 True\n60 60\nTrue\n", "")


def test_the_index_beside_many_segments_opens_them_without_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_segments(tmp_path, 40)
    names = [letters(number) for number in range(40)]
    index = tmp_path / rows_module.INDEX
    assert not index.exists()
    EmbeddingCache.open(tmp_path).close()
    assert index.exists()
    opened: list[str] = []
    opening = segments_module.Segment.opened
    monkeypatch.setattr(
        segments_module.Segment, "opened", lambda segment: opened.append(segment.name) or opening(segment)
    )
    with EmbeddingCache.open(tmp_path) as cache:
        assert (cache.segments, opened) == (40, [])
        assert np.array_equal(cache.read(names), stacked(names))
    for content in (b"", b"{}\n", b"[" * 100_000, index.read_bytes()[:-32], b"{" + index.read_bytes()):
        index.write_bytes(content)
        with EmbeddingCache.open(tmp_path) as cache:
            assert np.array_equal(cache.read(names), stacked(names)), "rebuilt from the segments"
    opened.clear()
    path = sorted(tmp_path.glob("*.h5"))[7]
    os.utime(path, (0, 0))
    with EmbeddingCache.open(tmp_path) as cache:
        assert opened == [path.name], "a file that is not as it was is read itself"


def test_a_reader_goes_on_where_another_process_has_compacted_what_it_listed(tmp_path: Path) -> None:
    many_segments(tmp_path, 40)
    names = [letters(number) for number in range(40)]
    EmbeddingCache.open(tmp_path).close()
    with EmbeddingCache.open(tmp_path) as reader, EmbeddingCache.open(tmp_path) as other:
        assert other.compact() == 40
        assert np.array_equal(reader.read(names), stacked(names))
        assert (reader.segments, reader.verify().rows, reader.compact()) == (1, 40, 1)


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
