"""Repositories of the Hugging Face Hub as folders of this machine: against a hub of our own, and in its cache."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import COMMIT, Hub, Repository, as_told, files_of, lay_out, serving, use_hub
from origins import save_hugging_face, shard, small_state

from esmcls.encoders.sources.hub import Repository as Name
from esmcls.encoders.sources.hub import config_of, parse_repository, snapshot, whole_snapshot
from esmcls.errors import FetchError, MissingExtraError, WeightsError
from esmcls.foreign.transformers_folder import encoder_files, lacking

MODEL = "lab/model"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of a small ESM-2 as transformers writes them, and what else lies in such repositories."""
    folder = save_hugging_face(tmp_path_factory.mktemp("source") / "hf", small_state())
    beside = {"vocab.txt": b"<cls>\n", "README.md": b"# a model\n", "modeling.py": b"raise SystemExit\n"}
    return files_of(folder) | beside | {"pytorch_model.bin": b"pickled", "tf_model.h5": b"TensorFlow's"}


@pytest.fixture
def hub(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    repositories = {MODEL: Repository(dict(files), revisions=("main", "v1"))}
    with serving(Hub(repositories=repositories), monkeypatch, tmp_path) as server:
        yield server


def sent(hub: Hub) -> set[str]:
    """Return the names of the files that the hub sent."""
    return {body.partition(" ")[0].rpartition("/")[2] for body in hub.bodies()}


def left(home: Path) -> list[str]:
    """Return the names of all files below the hub's cache that somebody could take for those of a model."""
    places = [place for place in (home / "hub").rglob("*") if place.is_file() and ".locks" not in place.parts]
    return sorted(place.name for place in places if "blobs" in place.parts or "snapshots" in place.parts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("facebook/esm2_t6_8M_UR50D", Name("facebook/esm2_t6_8M_UR50D")),
        ("a/b.c-d@v1.0", Name("a/b.c-d", "v1.0")),
        ("a/b@refs/pr/3", Name("a/b", "refs/pr/3")),
        *((text, None) for text in ("b", "a/b/c", "/a/b", "./a", "a/", "~/a", "a/.b", "a/b.pt", "a/b.safetensors")),
        *((text, None) for text in ("a/b@", "a/b@../c", "a/b@x y", "a--b/c", "a/b.bin", "", "a\\b", "a/b-", "é/b")),
    ],
)
def test_an_id_has_one_slash_and_looks_like_no_path(text: str, expected: Name | None) -> None:
    assert parse_repository(text) == expected


@pytest.mark.parametrize(
    ("there", "weights"),
    [
        (["model.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
        (
            ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
            + ["pytorch_model.bin", "model-old.safetensors"],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
        ),
        (
            ["pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"],
            ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
        ),
    ],
)
def test_the_best_kind_of_weights_is_chosen_and_no_code(there: list[str], weights: list[str]) -> None:
    beside = ["config.json", "spiece.model", "vocab.txt"]
    others = ["tf_model.h5", "flax_model.msgpack", "modeling_x.py", "onnx/model.onnx", "README.md", "onnx/config.json"]
    assert encoder_files([*there, *beside, *others]) == sorted([*weights, *beside])


def test_what_is_needed_of_a_repository_is_fetched_once(hub: Hub, tmp_path: Path, files: dict[str, bytes]) -> None:
    folder = snapshot(MODEL)
    assert folder == tmp_path / "hub" / "models--lab--model" / "snapshots" / COMMIT
    assert files_of(folder) == {name: files[name] for name in ("config.json", "model.safetensors", "vocab.txt")}
    before = len(hub.asked)
    assert snapshot(MODEL) == folder
    assert len(hub.asked) == before


def test_a_revision_is_asked_for_by_its_name(hub: Hub) -> None:
    assert snapshot(f"{MODEL}@v1") == snapshot(f"{MODEL}@{COMMIT}")
    assert f"GET /api/models/{MODEL}/revision/v1" in hub.asked
    with pytest.raises(FetchError, match=r"lab/model@v2: it has no revision 'v2'; name a branch, a tag or a commit"):
        snapshot(f"{MODEL}@v2")


def test_a_line_that_drops_is_taken_up_again(hub: Hub, files: dict[str, bytes]) -> None:
    hub.cut_after = [5_000]
    folder = as_told(lambda: snapshot(MODEL))
    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    [resumed] = [body for body in hub.bodies() if "bytes=" in body]
    assert resumed.endswith("model.safetensors bytes=5000-")


def test_the_configuration_comes_alone_before_the_weights(hub: Hub) -> None:
    assert config_of(MODEL)["model_type"] == "esm"
    assert sent(hub) == {"config.json"}
    assert config_of(MODEL)["hidden_size"] == 32


def test_a_cached_folder_that_lacks_files_is_completed(hub: Hub, tmp_path: Path, files: dict[str, bytes]) -> None:
    config_of(MODEL)
    assert files_of(snapshot(MODEL)).keys() == {"config.json", "model.safetensors", "vocab.txt"}
    (snapshot(MODEL) / "vocab.txt").unlink()
    assert "vocab.txt" not in files_of(snapshot(MODEL))  # which an encoder with a tokenizer of ours can do without
    assert files_of(snapshot(MODEL, tokenizer=True)).keys() == {"config.json", "model.safetensors", "vocab.txt"}


def test_a_whole_repository_may_be_asked_for(hub: Hub, files: dict[str, bytes]) -> None:
    assert files_of(whole_snapshot(MODEL)) == files


def test_the_cache_is_used_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path, offline=True)
    folder = lay_out(tmp_path / "hub", MODEL, files)
    assert snapshot(MODEL) == snapshot(f"{MODEL}@{COMMIT}") == whole_snapshot(MODEL) == folder
    with pytest.raises(FetchError, match=r"lab/model@v1: it is not on this machine, and HF_HUB_OFFLINE says not to fe"):
        snapshot(f"{MODEL}@v1")


def test_the_librarys_own_variables_decide_where_and_whether_it_asks(tmp_path: Path, files: dict[str, bytes]) -> None:
    folder = lay_out(tmp_path / "home" / "hub", MODEL, files)
    code = f"from esmcls.encoders.sources.hub import snapshot; print(snapshot({MODEL!r})); snapshot('lab/other')"
    variables = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | variables)
    assert ran.stdout == f"{folder}\n"
    assert "lab/other: http://127.0.0.1:9/lab/other cannot be reached" in ran.stderr.splitlines()[-1]
    offline = os.environ | variables | {"HF_HUB_OFFLINE": "1"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=offline)
    assert "lab/other: it is not on this machine, and HF_HUB_OFFLINE" in ran.stderr.splitlines()[-1]


# bad input


def test_an_id_that_the_hub_has_not_is_one_line(hub: Hub, tmp_path: Path) -> None:
    for ask in (snapshot, config_of, whole_snapshot):
        with pytest.raises(FetchError) as caught:
            ask("lab/none")
        assert str(caught.value) == (
            "encoder lab/none: there is no such repository on the hub, or it is private; "
            f"check the name at {hub.address}/lab/none, or log in (hf auth login, or HF_TOKEN)"
        )
    assert left(tmp_path) == []


def test_a_gated_repository_is_one_line_that_says_where_to_ask(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[MODEL].gated = True
    for ask in (snapshot, config_of):
        with pytest.raises(FetchError) as caught:
            ask(MODEL)
        assert str(caught.value) == (
            "encoder lab/model: a gated repository: the hub gives it only to whom its owner lets have it; "
            f"accept its terms at {hub.address}/lab/model and log in (hf auth login, or HF_TOKEN)"
        )
    assert left(tmp_path) == []


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path)
    for ask in (snapshot, config_of, whole_snapshot):
        with pytest.raises(FetchError) as caught:
            ask(MODEL)
        assert str(caught.value).startswith("encoder lab/model: http://127.0.0.1:9/lab/model cannot be reached (")
        assert str(caught.value).endswith("; check the network and try again to resume, or give the path of a copy")
        assert "\n" not in str(caught.value)
    assert left(tmp_path) == []


def test_a_hub_in_trouble_is_one_line(hub: Hub, tmp_path: Path) -> None:
    hub.status = 500
    with pytest.raises(FetchError, match=r"http://127\S+/lab/model answers 500; check the network and try again"):
        snapshot(MODEL)
    assert left(tmp_path) == []


def test_a_fetch_that_breaks_off_leaves_no_folder_that_is_taken_for_whole(hub: Hub, files: dict[str, bytes]) -> None:
    config_of(MODEL)
    hub.cut_after = [20_000, *[0] * 20]
    with pytest.raises(FetchError, match=r"the hub's cache has it without model\.safetensors, and .* cannot be reach"):
        snapshot(MODEL)
    hub.cut_after = []
    assert (snapshot(MODEL) / "model.safetensors").read_bytes() == files["model.safetensors"]


def test_a_missing_shard_is_fetched_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Hub, files: dict[str, bytes]
) -> None:
    folder = shard(save_hugging_face(tmp_path / "sharded", small_state()))
    hub.repositories[MODEL].files = files_of(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    whole = lay_out(tmp_path / "hub", MODEL, files_of(folder))
    assert lacking(whole) == ["model-00002-of-00002.safetensors"]
    use_hub(monkeypatch, hub.address, tmp_path, offline=True)
    with pytest.raises(FetchError) as caught:
        snapshot(MODEL)
    assert str(caught.value) == (
        "encoder lab/model: the hub's cache has it without model-00002-of-00002.safetensors, and it is not on this "
        "machine, and HF_HUB_OFFLINE says not to fetch it; unset it, or fetch it where there is a network and give the "
        "path of the copy"
    )
    use_hub(monkeypatch, hub.address, tmp_path)
    assert lacking(snapshot(MODEL)) == []


def test_a_repository_without_weights_says_what_it_holds_and_fetches_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[MODEL].files = {"config.json": b"{}", "adapter_model.safetensors": b"", "README.md": b""}
    with pytest.raises(FetchError, match=r"it has no weights \(model\.safetensors, .*\), but README\.md, adapter"):
        snapshot(MODEL)
    assert left(tmp_path) == []


def test_a_repository_that_is_no_model_of_transformers_is_one_line(hub: Hub) -> None:
    del hub.repositories[MODEL].files["config.json"]
    with pytest.raises(FetchError, match=r"has no config\.json: no model of transformers; name another"):
        config_of(MODEL)
    hub.repositories[MODEL].files["config.json"] = b"<html>"
    with pytest.raises(WeightsError, match=r"config\.json: no configuration of a model \(.*\); fetch the folder again"):
        config_of(MODEL)


def test_weights_that_changed_since_they_were_fetched_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path, offline=True)
    folder = lay_out(tmp_path / "hub", MODEL, files)
    blob = (folder / "model.safetensors").resolve()
    blob.write_bytes(files["model.safetensors"][:-1] + b"x")
    with pytest.raises(WeightsError, match=r"model\.safetensors has sha256 \w{12}…, but \w{12}… was fetched; remove"):
        snapshot(MODEL)


def test_a_disk_that_takes_nothing_is_one_line(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("a file")
    with pytest.raises(WeightsError, match=rf"{tmp_path}/hub cannot be written \(.*\); make room there, or set HF_"):
        snapshot(MODEL)


def test_without_the_library_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"fetching lab/model needs the package huggingface-hub; run: pip inst"):
        snapshot(MODEL)


def test_what_is_no_id_is_one_line() -> None:
    with pytest.raises(WeightsError, match=r"encoder \.\./a: no id of the hub; write OWNER/NAME, and a revision af"):
        snapshot("../a")


def test_the_library_says_nothing_of_its_own(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    hub.cut_after = [5_000]
    as_told(lambda: snapshot(MODEL))
    assert capfd.readouterr() == ("", "")
