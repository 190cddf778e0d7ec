"""Files and folders appear whole or not at all, with the umask's mode, and nothing that is no file is replaced."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import h5py
import numpy as np
import polars as pl
import pytest
import torch
from command import run
from safetensors.numpy import save_file

import esmcls.files as files_module
from esmcls.errors import UsageError
from esmcls.files import (
    atomic_path,
    atomic_text,
    put_all_back,
    put_back,
    remove_left_overs,
    replace_folder,
    temporary_beside,
    temporary_folder,
)
from esmcls.plain_values import write_json

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes, pipes and links are POSIX")
WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("a"),
    "safetensors": lambda path: save_file({"a": np.zeros(100_000)}, path),
    "hdf5": lambda path: h5py.File(path, "w").close(),
    "parquet": lambda path: pl.DataFrame({"a": np.random.default_rng(0).random(100_000)}).write_parquet(path),
    "torch": lambda path: torch.save({"a": torch.zeros(100_000)}, path),
    "faiss": lambda path: write_index(np.zeros((1_000, 64), dtype=np.float32), path),
}


def write_index(vectors: Any, path: Path) -> None:
    """Write an index of FAISS, whose errors tell the system's by its words."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(path))


@pytest.fixture
def umask() -> Iterator[None]:
    """Let the group read what is written, and nobody else."""
    before = os.umask(0o027)
    yield
    os.umask(before)


# modes


@posix
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.usefixtures("umask")
def test_every_writer_leaves_a_file_of_the_umasks_mode(tmp_path: Path, writer: str) -> None:
    with atomic_path(tmp_path / "a") as temporary:
        WRITERS[writer](temporary)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@posix
@pytest.mark.usefixtures("umask")
def test_every_file_of_a_workspace_has_the_umasks_mode(tmp_path: Path) -> None:
    table = tmp_path / "set.csv"
    sequences = {"a": "MKTAYIAKQRWLND", "b": "GSGSHMAAPLPELQ"}
    rows = [f"{c}{n},{sequences[c]}{'ACDEFGHIKLMNPQRSTVWY'[n]},{c}" for c in "ab" for n in range(20)]
    table.write_text("id,sequence,label\n" + "\n".join(rows) + "\n")
    place = ("-w", tmp_path / "w")
    assert run("embed", table, "--encoder", "composition", *place).code == 0
    assert run("compare", "--heads", "knn,linear", *place).code == 0
    files = [path for path in (tmp_path / "w").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".h5", ".json", ".parquet", ".safetensors", ".html"}
    assert [path.name for path in files if stat.S_IMODE(path.stat().st_mode) != 0o640] == []


def test_the_umask_is_known_where_the_system_does_not_tell_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = files_module._umask()
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "Name:\tpython\n")
    assert files_module._umask() == told


# what `-o` points at


@posix
def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link = tmp_path / "link"
    link.symlink_to("far/file")
    for text in ("first", "second"):
        with atomic_path(link) as temporary:
            temporary.write_text(text)
        assert link.is_symlink()
        assert (tmp_path / "far" / "file").read_text() == text
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["file"]


@posix
@pytest.mark.parametrize("write", [atomic_text, atomic_path])
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path, write: Any) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    with write(pipe) as target:
        target.write_text("through") if isinstance(target, Path) else target.write("through")
    reader.join(10)
    assert (read, stat.S_ISFIFO(pipe.stat().st_mode)) == (["through"], True)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@posix
@pytest.mark.parametrize("write", [atomic_text, atomic_path])
def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path, write: Any) -> None:
    master, terminal = os.openpty()
    name = os.ttyname(terminal)
    node = Path(name).stat().st_ino
    with write(name) as target:
        target.write_text("through\n") if isinstance(target, Path) else target.write("through\n")
    assert os.read(master, 100) == b"through\r\n"
    assert (Path(name).stat().st_ino, stat.S_ISCHR(Path(name).stat().st_mode)) == (node, True)
    os.close(master)
    os.close(terminal)


@posix
def test_an_open_descriptor_is_written_to_where_it_stands(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "from esmcls.files import atomic_text\nwith atomic_text('/dev/stdout') as handle: handle.write('new')"
    with open(log, "w") as handle:
        handle.write("old ")
        handle.flush()
        subprocess.run([sys.executable, "-c", code], stdout=handle, check=True)
    inode = log.stat().st_ino
    assert log.read_text().endswith("new")
    assert log.stat().st_ino == inode


@posix
def test_a_loop_of_links_is_an_error_of_the_system_and_stays(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"), atomic_path(tmp_path / "a"):
        raise AssertionError("nothing is written")
    assert (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("address", ["s3://bucket/w", "https://example.org/a.csv", "s3:/bucket", "file:///tmp/a"])
def test_an_address_is_refused_and_no_folder_made(address: str) -> None:
    with pytest.raises(UsageError, match="an address, not a path"), atomic_path(Path(address)):
        raise AssertionError("nothing is written")


# errors of the system


@posix
def test_a_full_disk_is_an_error_of_the_system_whatever_library_writes(tmp_path: Path) -> None:
    code = (
        "import resource, sys\nsys.path.insert(0, sys.argv[1])\n"
        "from test_files import WRITERS, Path, atomic_path\nfrom esmcls.files import errors_of_the_system\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))\n"
        "WRITERS['text'] = lambda path: path.write_text('a' * 100_000)\n"
        "for name in ['text', 'safetensors', 'parquet', 'torch', 'faiss']:\n"
        "    try:\n"
        "        with atomic_path(sys.argv[2]) as temporary:\n"
        "            WRITERS[name](temporary)\n"
        "    except OSError as error:\n"
        "        print(error.errno, error.filename)\n"
        "    folder = Path(sys.argv[2] + '.tmp')\n"
        "    folder.mkdir(exist_ok=True)\n"
        "    try:\n"
        "        with errors_of_the_system(folder, sys.argv[2]):\n"
        "            WRITERS[name](folder / name)\n"
        "    except OSError as error:\n"
        "        print(error.errno, error.filename)\n"
    )
    target = tmp_path / "a"
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == (f"{errno.EFBIG} {target}\n" * 10, 0), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.tmp"]


def test_an_error_that_is_not_the_systems_stays_what_it_is(tmp_path: Path) -> None:
    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"), atomic_path(tmp_path / "a") as temporary:
        fail(temporary)
    assert list(tmp_path.iterdir()) == []


# what dead processes left


def test_temporary_files_of_dead_processes_are_removed_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from esmcls.files import temporary_beside;"
        "p = Path(sys.argv[1]); temporary_beside(p / 'a').write_text('');"
        "t = temporary_beside(p / 'models'); t.mkdir(); (t / 'b').write_text('')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    living = temporary_beside(tmp_path / "a")
    living.write_text("")
    elsewhere = tmp_path / f".a.{os.getpid()}-000000.0a1b2c3d.tmp"
    elsewhere.write_text("")
    others = tmp_path / ".notes.tmp"
    others.write_text("")
    assert len(list(tmp_path.iterdir())) == 5
    remove_left_overs(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([living.name, elsewhere.name, others.name])
    os.utime(elsewhere, (0, 0))
    remove_left_overs(tmp_path)
    assert not elsewhere.exists()


@posix
def test_a_temporary_folder_that_sigkill_left_is_removed_by_the_next_of_any_purpose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import os, signal, sys, tempfile; from esmcls.files import temporary_folder; tempfile.tempdir = sys.argv[1]\n"
        "with temporary_folder('search') as folder:\n"
        "    (folder / 'steps').mkdir()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    elsewhere = tmp_path / f".esmcls-search.{os.getpid()}-000000.0a1b2c3d.tmp"
    elsewhere.mkdir()
    os.utime(elsewhere, (time.time() - 86400,) * 2)  # a search of another machine, which shares the disk
    with temporary_folder("other") as folder, temporary_folder("other") as beside:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert sorted(tmp_path.iterdir()) == sorted([folder, beside, elsewhere])
    assert list(tmp_path.iterdir()) == [elsewhere]


# folders


def folder_of(path: Path, text: str) -> Path:
    """Make a folder with one file."""
    path.mkdir()
    (path / "file").write_text(text)
    return path


@pytest.fixture(params=["exchange", "two renames"])
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "two renames":
        monkeypatch.setattr(files_module, "_exchange", lambda one, two: False)


@pytest.mark.usefixtures("_either_way")
def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", "old")
    replace_folder(folder_of(tmp_path / "new", "new"), folder)
    assert (folder / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".previous")] == []


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
def test_a_reader_never_sees_a_moment_without_the_folder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", "0")
    ended = threading.Event()
    unseen: list[int] = []

    def look() -> None:
        while not ended.is_set():
            if not folder.is_dir():
                unseen.append(1)

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(200):
        new = tmp_path / f"new{number}"
        replace_folder(folder_of(new, str(number)), folder)
    ended.set()
    reader.join()
    assert unseen == []


def test_what_a_crash_between_two_renames_left_is_put_back(tmp_path: Path) -> None:
    folder_of(tmp_path / ".model.previous", "old")
    put_all_back(tmp_path)
    assert (tmp_path / "model" / "file").read_text() == "old"
    folder_of(tmp_path / ".model.previous", "older")
    put_back(tmp_path / "model")
    assert (tmp_path / "model" / "file").read_text() == "old", "a folder that is there is not replaced"


def test_a_folder_that_a_reader_put_back_in_between_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "_exchange", lambda one, two: False)
    folder = folder_of(tmp_path / "model", "old")
    new = folder_of(tmp_path / "new", "new")
    replace, calls = os.replace, []

    def slow(source: Path, target: Path) -> None:
        replace(source, target)
        calls.append(target)
        if len(calls) == 1:
            replace(target, folder)  # as a reader does that finds it aside

    monkeypatch.setattr(os, "replace", slow)
    replace_folder(new, folder)
    assert (folder / "file").read_text() == "new"


def test_json_is_whole_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert list(tmp_path.iterdir()) == []
