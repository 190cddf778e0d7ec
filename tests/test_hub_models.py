"""Models on the hub: pushed in one commit, predicted with by their repository; a server on this machine is the hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import done, run
from families import write_families, write_unknown
from hub_server import COMMIT, Hub, Repository, serving, use_hub
from huggingface_hub import ModelCard
from tiny import write_encoder, write_set

import esmcls
from esmcls.errors import ModelError
from esmcls.models.folder import read_manifest
from esmcls.models.sharing.card import CARD
from esmcls.models.sharing.hub_models import push_model


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a model, and unknown proteins beside it."""
    folder = tmp_path_factory.mktemp("place")
    done("embed", write_families(folder / "set.csv"), "--encoder", "composition", "-w", folder / "w")
    done("fit", "--head", "linear", "-w", folder / "w")
    write_unknown(folder / "unknown.fasta")
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on this machine, a token for it and an empty cache."""
    monkeypatch.setenv("HF_TOKEN", "hf_of_this_test")
    with serving(Hub(), monkeypatch, tmp_path / "home") as hub:
        yield hub


def answers(*command: str | Path) -> list[list[str]]:
    """Return the columns of a prediction but the model's name."""
    rows = [line.split("\t") for line in done("predict", *command, "--format", "tsv").out.splitlines()]
    model = rows[0].index("model")
    return [row[:model] + row[model + 1 :] for row in rows]


def test_a_pushed_model_predicts_by_its_repository_as_it_does_here(place: Path, hub: Hub, tmp_path: Path) -> None:
    ran = done("push", "linear", "me/families", "-w", place / "w")
    assert ran.out == f"{hub.address}/me/families/commit/{COMMIT}: 4 files of model linear\n"
    assert ran.err == "esmcls: next: esmcls predict FASTA --model hf:me/families\n"
    manifest = read_manifest(place / "w" / "models" / "linear")
    assert hub.commits == [sorted([*manifest.files, "manifest.json", "README.md"])]
    unknown = place / "unknown.fasta"
    elsewhere = answers(unknown, "--model", "hf:me/families", "-w", tmp_path / "nowhere")
    here = answers(unknown, "--model", "linear", "--no-nearest", "-w", place / "w")
    assert elsewhere == here
    assert esmcls.load_model("hf:me/families").name == "me/families"
    assert esmcls.load_model(f"hf:me/families@{COMMIT}").predict(["MKTAY"])


def test_what_was_fetched_is_there_without_a_network(
    place: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done("push", "linear", "me/families", "-w", place / "w")
    expected = esmcls.load_model("hf:me/families").predict(["MKTAY"])
    hub.repositories.clear()
    use_hub(monkeypatch, hub.address, tmp_path / "home", offline=True)
    assert esmcls.load_model("hf:me/families").predict(["MKTAY"]) == expected


def test_the_card_goes_along_and_says_where_the_model_is(place: Path, hub: Hub) -> None:
    done("push", "linear", "me/families", "--private", "-w", place / "w")
    text = hub.repositories["me/families"].files["README.md"].decode()
    assert 'esmcls.load_model("hf:me/families")' in text
    assert "OWNER" not in text
    assert ModelCard(text).data.to_dict()["library_name"] == "esmcls"
    assert hub.repositories["me/families"].private


def test_what_is_no_part_of_the_model_stays_here_and_is_told(place: Path, hub: Hub, tmp_path: Path) -> None:
    folder = shutil.copytree(place / "w" / "models" / "linear", tmp_path / "mine")
    (folder / "notes.txt").write_text("secret")
    (folder / CARD).unlink()
    ran = done("push", folder, "me/mine")
    assert "not sent, for they are no part of the model: notes.txt\n" in ran.err
    assert "notes.txt" not in hub.repositories["me/mine"].files
    assert "README.md" not in hub.repositories["me/mine"].files


def test_no_path_of_this_machine_is_sent(hub: Hub, tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "tiny.safetensors")
    done("embed", write_set(tmp_path / "set.csv"), "--encoder", encoder, "-w", tmp_path / "w", "--device", "cpu")
    tune = ("finetune", "-w", tmp_path / "w", "--encoder", encoder, "--epochs", "1", "--device", "cpu")
    done(*tune, "--method", "full", "--name", "full")
    done(*tune, "--method", "lora", "--adapters-only", "--name", "adapters")
    done("push", "full", "me/full", "-w", tmp_path / "w")
    sent = hub.repositories["me/full"].files
    assert not [name for name, content in sent.items() if str(tmp_path).encode() in content]
    assert json.loads(sent["manifest.json"])["setup"]["finetuned"]["encoder"] == "tiny.safetensors"
    shutil.rmtree(tmp_path / "w" / "models" / "full")
    assert esmcls.load_model("hf:me/full").predict(["MKTAYIAKQR"])
    ran = run("push", "adapters", "me/adapters", "-w", tmp_path / "w")
    assert ran.code == 2
    assert "which lies on this machine alone; fine-tune without --adapters-only" in ran.err
    assert "me/adapters" not in hub.repositories


# what goes wrong


def test_a_file_that_was_changed_on_the_hub_is_refused(place: Path, hub: Hub) -> None:
    done("push", "linear", "me/families", "-w", place / "w")
    files = hub.repositories["me/families"].files
    files["linear.safetensors"] = files["linear.safetensors"][:-1] + b"?"
    with pytest.raises(ModelError, match="is not as it was written"):
        esmcls.load_model("hf:me/families")


def test_a_repository_of_another_kind_is_one_line(place: Path, hub: Hub) -> None:
    hub.repositories["me/other"] = Repository({"config.json": b"{}"})
    ran = run("predict", place / "unknown.fasta", "--model", "hf:me/other")
    assert ran.code == 1
    assert ran.err == (
        "esmcls: error: hf:me/other: holds no manifest.json, so it is no model of esmcls; "
        "name one that esmcls push wrote\n"
    )


def test_a_repository_that_does_not_exist_is_one_line(place: Path, hub: Hub, tmp_path: Path) -> None:
    ran = run("predict", place / "unknown.fasta", "--model", "hf:me/nothing", "-o", tmp_path / "out.tsv")
    assert ran.code == 1
    assert ran.err.startswith("esmcls: error: hf:me/nothing: there is no such repository")
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "out.tsv").exists()


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (401, "log in with a token that may write"),
        (403, "log in with"),
        (500, "try again later; nothing was committed"),
    ],
)
def test_a_push_that_the_hub_refuses_is_one_line(status: int, problem: str, place: Path, hub: Hub) -> None:
    hub.status = status
    ran = run("push", "linear", "me/families", "-w", place / "w")
    assert ran.code == 1
    assert f"hf:me/families: {hub.address} answers {status}" in ran.err
    assert problem in ran.err
    assert ran.err.count("\n") == 1
    assert hub.repositories == {}


def test_a_hub_that_is_not_there_is_one_line(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path)
    manifest = read_manifest(place / "w" / "models" / "linear")
    with pytest.raises(ModelError, match=r"hf:me/a: http://127\.0\.0\.1:9 cannot be reached \(.*check the network"):
        push_model(place / "w" / "models" / "linear", manifest, "me/a")


@pytest.mark.parametrize("name", ["families", "a/b/c", "../x", "me/"])
def test_what_is_no_repository_is_refused_before_anybody_is_asked(name: str, place: Path) -> None:
    for command in (("push", "linear", name), ("predict", place / "unknown.fasta", "--model", f"hf:{name}")):
        ran = run(*command, "-w", place / "w")
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert f"{name}: no repository of the hub; write OWNER/NAME, such as me/families" in ran.err
