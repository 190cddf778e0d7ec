"""What surrounds a command, closed files, full disks, no home, few descriptors: one line each, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from command import run
from families import write_families
from toy_encoder import ToyEncoder, letters

from esmcls.cache.exchange.export_vectors import export_embeddings
from esmcls.cache.exchange.read_vectors import read_vectors
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.errors import DataError
from esmcls_cli import main as main_module

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits and descriptors are POSIX")


def shell(script: str, **options: Any) -> tuple[int, str, str]:
    """Run a line of shell in which `esmcls` is the command; return exit code, stdout and stderr."""
    command = f'esmcls() {{ "{sys.executable}" -m esmcls_cli.main "$@"; }}; {script}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, **options)
    return done.returncode, done.stdout, done.stderr


# standard files


def test_closed_standard_files_are_one_line_each() -> None:
    code, out, err = shell("esmcls heads >&-; esmcls data stats - <&-; esmcls heads >/dev/full; esmcls heads 2>&- >&-")
    assert err.splitlines() == [
        "esmcls: error: <stdout>: Bad file descriptor; open standard output, or give -o FILE",
        "esmcls: error: <stdin>: standard input is closed; give a file, or pipe something in",
        "esmcls: error: No space left on device; make room on the disk",
    ]
    assert (code, out) == (1, "")


# addresses


@pytest.mark.parametrize(
    "words",
    [
        "predict a.fasta -o gs://bucket/a.tsv",
        "predict a.fasta --output=s3://bucket/a.tsv",
        "fit --encoder https://example.org/esm2.pt",
        "predict a.fasta --model s3://bucket/w/models/knn",
        "compare --ia https://example.org/ia.tsv",
        "export --output s3://bucket/a.npz",
        "info s3://bucket/w",
        "import s3://bucket/vectors.h5 --sequences a.csv",
        "cache merge s3://bucket/w",
    ],
)
def test_an_address_is_refused_where_a_file_or_folder_of_this_machine_is_needed(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run(*words.split())
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert "://" in ran.err
    assert ran.err.endswith(": an address, not a path; copy it to this machine and give a file or folder\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", ["embed a.csv --encoder {0}", "embed a.csv --clusters={0}", "import {0} --sequences a.csv", "info {0}"]
)
@pytest.mark.parametrize(("place", "kind"), [("pipe", "a pipe"), ("/dev/zero", "a device")])
def test_a_pipe_or_device_in_place_of_a_file_is_refused_before_anything_is_read(
    words: str, place: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    ran = run(*words.format(place).split())
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"esmcls: error: {place}: {kind}, not a file; give a file")


# disks and memory


def test_a_full_disk_while_exporting_to_hdf5_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[1]); from test_surroundings import *;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY));"
        "fill_and_export(Path(sys.argv[2]))"
    )
    target = tmp_path / "out.h5"
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"[Errno 27] File too large: '{target}'\n", "")
    assert not target.exists()


def fill_and_export(target: Path) -> None:
    """Export 400 vectors and print the error; called in a child."""
    sequences = [letters(number) for number in range(400)]

    class Proteins:
        def __init__(self) -> None:
            self.ids, self.sequences = [str(number) for number in range(400)], sequences

    with EmbeddingCache.open(target.parent / "cache", EmbeddingSpec.of(ToyEncoder())) as cache:
        for start in range(0, 400, 50):
            cache.append(sequences[start : start + 50], ToyEncoder().encode(sequences[start : start + 50]))
            cache.flush()
        try:
            export_embeddings(cache, Proteins(), target, format="h5")
        except OSError as error:
            print(error)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("Permission denied (os error 13)"), "Permission denied; check the path, its permissions and the free"),
        (OSError("something of a library"), "something of a library; check the path, its permissions and the free"),
        (MemoryError(), "the memory is full; free some, or give smaller files or less at a time"),
        (OSError(24, "Too many open files", "a"), "a: Too many open files; raise the limit of open files (ulimit -n)"),
    ],
)
def test_what_the_system_refuses_is_one_line(error: Exception, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(main_module, "_run", fail)
    ran = run("heads")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"esmcls: error: {line}")
    assert len(ran.err.splitlines()) == 1


# hostile imports


@pytest.mark.parametrize("kind", ["soft", "external", "storage"])
def test_an_import_that_points_at_other_files_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "in.h5"
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = np.ones(3, dtype=np.float32)
    with h5py.File(path, "w") as file:
        if kind == "storage":
            file.create_dataset("a", (3,), "f4", external=[(str(tmp_path / "other.h5"), 0, h5py.h5f.UNLIMITED)])
        else:
            file["a"] = h5py.SoftLink("/b") if kind == "soft" else h5py.ExternalLink(str(tmp_path / "other.h5"), "/a")
    with pytest.raises(
        DataError, match=r"in\.h5:/a: (a link instead of a protein's dataset|vectors that lie in another file)"
    ):
        list(read_vectors(path))


# odd machines


def test_the_whole_way_goes_without_a_home_in_a_c_locale_with_forty_descriptors(tmp_path: Path) -> None:
    write_families(tmp_path / "families.csv")
    place = f"-w '{tmp_path}/w' --quiet"
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": "/nonexistent/home", "OMP_NUM_THREADS": "1"}
    script = (
        f"ulimit -n 40; esmcls embed '{tmp_path}/families.csv' --encoder composition {place} &&"
        f"esmcls fit --head linear {place} && unset HOME &&"
        f"esmcls predict '{tmp_path}/families.csv' -o '{tmp_path}/out.tsv' {place}"
    )
    code, _, err = shell(script, env=environment)
    assert (code, err) == (0, "esmcls: model linear, the only one here\n")
    assert (tmp_path / "out.tsv").stat().st_size > 0
