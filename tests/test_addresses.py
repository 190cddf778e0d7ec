"""URLs as inputs and workspaces: what is told of them apart from any server; with one it is `extras/test_remote.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command import run

from esmcls.errors import UsageError
from esmcls.remote.addresses import address_of, file_name
from esmcls.remote.mirror import LEDGER, address_above, mirror_folder, mirrors
from esmcls.workspace.workspace import Workspace


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("https://example.org//a.fasta?next=http://b", "https://example.org//a.fasta?next=http://b"),
        ("S3://bucket/w", "s3://bucket/w"),
        (Path("s3://bucket/w"), "s3://bucket/w"),
        ("file:///a", "file:///a"),
        ("a/b.fasta", None),
        ("C:/a.fasta", None),
        ("a:b", None),
    ],
)
def test_a_url_is_told_from_a_path(path: str | Path, address: str | None) -> None:
    assert address_of(path) == address


def test_the_name_of_a_file_at_a_url_is_without_its_query() -> None:
    assert file_name("https://example.org/set/test.csv?raw=1") == "test.csv"
    assert file_name("s3://bucket/train.fasta") == "train.fasta"


@pytest.mark.parametrize(
    ("words", "package"),
    [
        ("embed https://example.org/a.fasta", "aiohttp"),
        ("predict http://example.org/a.fasta", "aiohttp"),
        ("embed --labels s3://bucket/a.tsv s3://bucket/a.fasta", "s3fs"),
        ("embed a.fasta -w s3://bucket/w", "s3fs"),
        ("fit --workspace=s3://bucket/w", "s3fs"),
    ],
)
def test_without_the_extra_an_address_is_refused_in_one_line_that_names_it(
    words: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    ran = run(*words.split())
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (1, "", 1)
    assert ran.err.endswith(f" needs the package {package}; run: pip install 'esmcls[remote]'\n")
    assert [path.name for path in tmp_path.iterdir() if ":" in path.name] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("embed ftp://example.org/a.fasta", "ftp://example.org/a.fasta: an address that is not read here (known: http"),
        ("embed a.fasta -w https://example.org/w", "https://example.org/w: no workspace can be there; give a folder"),
        ("fit -w s3://", "s3://: no workspace can be there; give a folder"),
        ("fit -w file:///w", "file:///w: no workspace can be there; give a folder, s3:// or gs://"),
    ],
)
def test_an_address_that_cannot_serve_is_refused_in_one_line(words: str, message: str) -> None:
    ran = run(*words.split())
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert message in ran.err


def test_a_workspace_at_a_url_is_opened_through_its_mirror() -> None:
    with pytest.raises(
        UsageError, match=r"^s3://bucket/w: an address, not a folder; open the folder that esmcls\.mirr"
    ):
        Workspace.open("s3://bucket/w")


def test_a_user_without_a_home_has_mirrors_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ESMCLS_MIRRORS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert mirrors() == Path.home() / ".cache" / "esmcls" / "mirrors"
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert mirrors().parts[-2:] == ("esmcls", "mirrors")


def test_a_folder_of_a_mirror_stands_for_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESMCLS_MIRRORS", str(tmp_path / "mirrors"))
    folder = mirror_folder("s3://bucket/w")
    assert folder.parent == tmp_path / "mirrors"
    assert folder != mirror_folder("gs://bucket/w")
    folder.mkdir(parents=True)
    assert address_above(folder / "cache") is None
    (folder / LEDGER).write_text('{"address": "s3://bucket/w", "files": {}}')
    assert address_above(folder / "cache" / "key") == "s3://bucket/w/cache/key"
    assert address_above(tmp_path) is None
