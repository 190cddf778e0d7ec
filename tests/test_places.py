"""The name of an encoder leads to the same weights from whatever source, in one order; bad names are one line each."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from command import done, run
from hub_server import COMMIT, Hub, Repository, files_of, lay_out, serving, use_hub
from origins import SHAPE, save_fair_esm, save_hugging_face, shard, small_state
from toy_encoder import ToyEncoder

from esmcls.encoders import encoder as contract
from esmcls.encoders.encoder import load_encoder
from esmcls.encoders.esm2 import read_weights
from esmcls.encoders.sources.checkpoints import CHECKPOINTS, Checkpoint, checkpoint_of
from esmcls.encoders.sources.places import config_of, find_weights, have_weights, is_published, places_of
from esmcls.encoders.weights import save_state, state_digest
from esmcls.errors import FetchError, WeightsError
from esmcls.workspace.workspace import Workspace

NAME = "esm2_t2_test"
ID = f"facebook/{NAME}"
BOTH = pytest.mark.parametrize("name", [NAME, ID])
FASTA = ">a\nMKTAYIAKQR\n>b\nMKTAYIAKQRQISFVKSHFSRQ\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small ESM-2 as fair-esm, as transformers, in shards, and as esmcls writes it."""
    folder = tmp_path_factory.mktemp("source")
    state = small_state()
    save_fair_esm(folder / "a.pt", state)
    save_hugging_face(folder / "hf", state)
    shard(save_hugging_face(folder / "shards", state))
    save_state(folder / "a.safetensors", SHAPE, state)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which all places are looked for, empty ones, on a machine without a network."""
    monkeypatch.delenv("ESMCLS_WEIGHTS_URL", raising=False)
    monkeypatch.setenv("ESMCLS_WEIGHTS", str(tmp_path / "own"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setitem(CHECKPOINTS, NAME, Checkpoint(NAME, 2, 32, 4))
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path, offline=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.fasta").write_text(FASTA)
    return tmp_path


@pytest.fixture
def hub(home: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve the small ESM-2 as the hub does, and at fair-esm's address."""
    plain = {f"/fair-esm/{NAME}.pt": (source / "a.pt").read_bytes()}
    repositories = {ID: Repository(files_of(source / "hf"))}
    with serving(Hub(repositories=repositories, plain=plain), monkeypatch, home) as server:
        monkeypatch.setattr("esmcls.encoders.sources.fair_esm.ADDRESS", f"{server.address}/fair-esm/")
        yield server


def put(source: Path, place: Path) -> Path:
    """Copy a file or a folder of files."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        place.write_bytes(source.read_bytes())
        return place
    place.mkdir()
    for name, content in files_of(source).items():
        (place / name).write_bytes(content)
    return place


@BOTH
def test_places_are_looked_in_in_one_order(name: str, home: Path, source: Path) -> None:
    assert find_weights(name) is None
    file = put(source / "a.pt", home / f"torch/hub/checkpoints/{NAME}.pt")
    assert find_weights(name) == file
    folder = lay_out(home / "hub", ID, files_of(source / "hf"))
    assert find_weights(name) == folder
    put(source / "hf", home / name)
    assert find_weights(name) == Path(name)
    for kind, ending in (("hf", ""), ("a.safetensors", ".safetensors"), ("a.pt", ".pt")):
        own = put(source / kind, home / f"own/{NAME}{ending}")
        assert find_weights(name) == own
    assert [str(place) for place in places_of(name)][-4:] == [
        str(home / "own" / NAME),
        name,
        str(home / f"hub/models--facebook--{NAME}"),
        str(home / f"torch/hub/checkpoints/{NAME}.pt"),
    ]


@BOTH
def test_the_same_weights_of_every_source_have_one_digest(name: str, hub: Hub, home: Path, source: Path) -> None:
    expected = state_digest(small_state())
    for revision in (name, f"{ID}@main", f"{ID}@{COMMIT}"):
        assert load_encoder(revision).digest == expected
    for form in ("a.pt", "a.safetensors", "hf", "shards"):
        assert load_encoder(str(source / form)).digest == expected


def test_a_revision_is_looked_for_in_the_hub_alone(home: Path, source: Path) -> None:
    put(source / "a.pt", home / f"torch/hub/checkpoints/{NAME}.pt")
    put(source / "a.pt", home / f"own/{NAME}.pt")
    assert find_weights(f"{ID}@v1") is None
    folder = lay_out(home / "hub", ID, files_of(source / "hf"), revision="v1")
    assert find_weights(f"{ID}@v1") == folder


def test_a_snapshot_in_the_hubs_cache_gives_the_vectors_of_its_path_byte_for_byte(
    home: Path, source: Path, shared: Path | None
) -> None:
    real = shared and shared / "weights/esm2_t6_8M_hemolysis"
    for path, known in [(source / "hf", ID)] + ([(real, "facebook/esm2_t6_8M_UR50D")] if real else []):
        lay_out(home / "hub", known, files_of(path))
        of_name, of_path = load_encoder(known), load_encoder(str(path))
        assert of_name.digest == of_path.digest
        sequences = ["MKTAYIAKQR", "MKTAYIAKQRQISFVKSHFSRQ", "M"]
        vectors = [encoder.encode(sequences).pooled["mean"] for encoder in (of_name, of_path)]
        np.testing.assert_array_equal(*vectors)


def test_embed_by_id_and_by_path_share_one_cache_folder(home: Path, source: Path) -> None:
    lay_out(home / "hub", ID, files_of(source / "hf"))
    for encoder, embedded in ((ID, 2), (source / "hf", 0), (NAME, 0), (source / "a.pt", 0)):
        assert f"{embedded} embedded" in done("embed", "a.fasta", "--encoder", encoder, "-w", "work").out
    assert len(list((home / "work/cache").iterdir())) == 1
    done("embed", "a.fasta", "--encoder", source / "hf", "-w", "other")
    [one], [other] = ([*(home / work / "cache").iterdir()] for work in ("work", "other"))
    assert one.name == other.name
    assert datasets(one) == datasets(other)


def datasets(cache: Path) -> dict[str, bytes]:
    """Return the bytes of all arrays of the one segment of a cache."""
    [segment] = cache.rglob("*.h5")
    with h5py.File(segment) as file:
        return {name: np.asarray(file[name]).tobytes() for name in file}


@BOTH
def test_vectors_are_found_under_both_names_of_a_checkpoint(name: str, home: Path, source: Path) -> None:
    lay_out(home / "hub", ID, files_of(source / "hf"))
    done("embed", "a.fasta", "--encoder", name, "-w", "work")
    workspace = Workspace.open(home / "work")
    [of_name], [of_id] = workspace.caches_of(NAME), workspace.caches_of(ID)
    assert of_name == of_id
    assert workspace.caches_of(f"lab/{NAME}") == []


@BOTH
def test_what_is_not_here_is_fetched_from_the_hub_into_its_cache(name: str, hub: Hub, home: Path) -> None:
    assert have_weights(name) == home / f"hub/models--facebook--{NAME}/snapshots/{COMMIT}"
    assert not [line for line in hub.asked if "fair-esm" in line]


@BOTH
def test_fair_esms_address_is_asked_where_the_hub_does_not_give_it(
    name: str, hub: Hub, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.repositories.clear()
    assert have_weights(name) == home / f"torch/hub/checkpoints/{NAME}.pt"
    assert read_weights(name).digest == state_digest(small_state())
    [note] = caplog.messages
    assert note.startswith(f"{name}: there is no such repository on the hub, or it is private; asking http://127.")


def test_a_mirror_of_fair_esms_address_is_asked_instead_of_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESMCLS_WEIGHTS_URL", f"{hub.address}/fair-esm")
    assert have_weights(ID).name == f"{NAME}.pt"
    assert not [line for line in hub.asked if "/api/" in line]


def test_where_both_sources_fail_one_line_names_both_and_every_place(hub: Hub, home: Path) -> None:
    hub.repositories.clear()
    hub.plain.clear()
    with pytest.raises(FetchError) as caught:
        have_weights(NAME)
    message = str(caught.value)
    assert message.startswith(f"encoder {NAME}: there is no such repository on the hub, or it is private, and http://")
    assert f"{NAME}.pt answers 404" in message
    for place in places_of(NAME):
        assert str(place) in message
    assert "\n" not in message


def test_offline_nobody_is_asked(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, hub.address, home, offline=True)
    for name in (NAME, ID, "lab/model"):
        with pytest.raises(FetchError, match="HF_HUB_OFFLINE says not to fetch it"):
            have_weights(name)
    assert hub.asked == []


def test_a_name_leads_to_the_same_from_every_folder_unless_it_is_a_path(home: Path, source: Path) -> None:
    for name in ("bundled", NAME, ID, f"{ID}@v1", "lab/model"):
        assert is_published(name)
    put(source / "hf", home / "lab/model")
    for name in ("lab/model", "./lab/model", "models/x.pt", "kmer"):
        assert not is_published(name)


def test_both_names_are_the_checkpoint_without_a_revision(home: Path) -> None:
    assert checkpoint_of(NAME) is checkpoint_of(ID) is CHECKPOINTS[NAME]
    for name in (f"{ID}@v1", f"lab/{NAME}", f"/models/{NAME}", f"facebook/{NAME}.pt", "bundled", ""):
        assert checkpoint_of(name) is None


def test_a_path_that_is_not_there_is_not_taken_for_an_id(home: Path) -> None:
    for name in ("./lab/model", "lab/model.pt", "/lab/model", "a/b/c"):
        with pytest.raises(WeightsError, match=r"weights not found \(looked in: .*\); check the path, or set ESMC"):
            have_weights(name)


def test_an_encoder_of_another_kind_is_opened_by_its_plugin(
    hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_other(name: str, **_: object) -> ToyEncoder:
        opened.append(name)
        return ToyEncoder()

    monkeypatch.setattr("test_places.open_other", open_other, raising=False)
    values = {"hf": "test_places:open_other", "esm2": "esmcls.encoders.esm2:open_esm2"}
    monkeypatch.setattr(contract, "entry_points", lambda group: [EntryPoint(*item, group) for item in values.items()])
    hub.repositories["lab/t5"] = Repository({"config.json": b'{"model_type": "t5"}', "model.safetensors": b""})
    lay_out(home / "hub", "lab/here", {"config.json": b'{"model_type": "t5"}', "model.safetensors": b""})
    (home / "folder").mkdir()
    (home / "folder/config.json").write_text('{"model_type": "bert"}')
    for name in ("lab/t5", "lab/here", str(home / "folder"), "folder"):
        load_encoder(name)
    assert opened == ["lab/t5", "lab/here", str(home / "folder"), "folder"]
    assert [body.rpartition("/")[2] for body in hub.bodies()] == ["config.json"]
    assert load_encoder(ID).layers == (2,)


# bad input, on the command line: one line, and nothing half-written


def refused(home: Path, encoder: str) -> str:
    """Embed with an encoder that cannot be had; return the line that says so."""
    ran = run("embed", "a.fasta", "--encoder", encoder, "-w", "work", "--quiet")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.count("\n") == 1
    assert not (home / "work/cache").exists()
    return ran.err.removeprefix("esmcls: error: ").rstrip()


def test_an_id_that_does_not_exist_is_told_with_the_nearest_one(hub: Hub, home: Path) -> None:
    message = refused(home, "facebook/esm2_t6_8M")
    assert message == (
        "encoder facebook/esm2_t6_8M: there is no such repository on the hub, or it is private (looked in: "
        f"{home}/own/facebook/esm2_t6_8M.pt, {home}/own/facebook/esm2_t6_8M.safetensors, "
        f"{home}/own/facebook/esm2_t6_8M, facebook/esm2_t6_8M, {home}/hub/models--facebook--esm2_t6_8M); "
        f"did you mean facebook/esm2_t6_8M_UR50D? Else check the name at {hub.address}/facebook/esm2_t6_8M, or log in "
        "(hf auth login, or HF_TOKEN)"
    )


def of_another_kind(model_type: str) -> dict[str, bytes]:
    return {"config.json": json.dumps({"model_type": model_type}).encode(), "model.safetensors": b"weights"}


def malicious() -> bytes:
    class Malicious:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, ("ran",)

    return pickle.dumps(Malicious(), protocol=2)


@pytest.mark.parametrize(
    ("repository", "message"),
    [
        (Repository({}, gated=True), r"a gated repository: .* accept its terms at http://127\S+/lab/model and log in"),
        (Repository(of_another_kind("gpt2")), r"a model of another kind than ESM-2 \('gpt2'\); choose another: esmcls"),
        (Repository({"model.safetensors": b""}), r"has no config\.json: no model of transformers"),
        (Repository({"config.json": b"[]"}), "no configuration of a model"),
    ],
)
def test_a_model_that_is_none_for_us_is_refused_before_its_weights_come(
    repository: Repository, message: str, hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    esm2 = EntryPoint("esm2", "esmcls.encoders.esm2:open_esm2", "esmcls.encoders")
    monkeypatch.setattr(contract, "entry_points", lambda group: [esm2])
    hub.repositories["lab/model"] = repository
    assert re.search(message, refused(home, "lab/model"))
    assert not [body for body in hub.bodies() if "model.safetensors" in body]


def test_pickled_weights_that_would_run_code_run_none(hub: Hub, home: Path, source: Path) -> None:
    files = {"config.json": (source / "hf/config.json").read_bytes(), "pytorch_model.bin": malicious()}
    hub.repositories["lab/model"] = Repository(files)
    message = refused(home, "lab/model")
    assert "pytorch_model.bin: more than tensors is pickled in it" in message
    assert message.endswith("; give its weights as safetensors")
    assert not (home / "ran").exists()


def test_a_snapshot_that_lacks_a_shard_is_refused_offline(home: Path, source: Path) -> None:
    files = files_of(source / "shards")
    del files["model-00001-of-00002.safetensors"]
    lay_out(home / "hub", ID, files)
    assert "the hub's cache has it without model-00001-of-00002.safetensors" in refused(home, ID)


def test_no_network_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", home)
    message = refused(home, "lab/model")
    assert "encoder lab/model: http://127.0.0.1:9/lab/model cannot be reached (" in message
    assert message.endswith("check the network and try again to resume, or give the path of a copy")


def test_a_checkpoint_of_the_hub_that_is_of_another_shape_is_refused(
    hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHECKPOINTS, NAME, Checkpoint(NAME, 3, 32, 4))
    assert "holds a model of 2 layers x 32, 4 heads, instead of 3 layers x 32, 4 heads" in refused(home, ID)


def test_files_beside_a_configuration_of_transformers_are_of_their_own_kind(home: Path, source: Path) -> None:
    put(source / "hf", home / "folder")
    put(source / "a.pt", home / "folder/a.pt")
    assert (config_of("folder") or {})["model_type"] == "esm"
    assert (config_of("folder/model.safetensors") or {})["model_type"] == "esm"
    assert config_of("folder/a.pt") is config_of("bundled") is config_of(NAME) is None
