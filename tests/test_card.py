"""The card beside every model: the hub's own reader reads it; an evaluation writes into it; its owner may, too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command import done
from families import write_families
from huggingface_hub import ModelCard
from ontologies import write_cafa, write_obo

from esmcls.encoders import BUNDLED
from esmcls.models.folder import load_model, read_manifest
from esmcls.models.sharing.card import BEGIN, CARD, END, add_measured, model_card

SECTIONS = ["What it is", "Scores", "On a test part", "Calibration", "Intended use", "Licence", "How to predict"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a linear model."""
    folder = tmp_path_factory.mktemp("place")
    done("embed", write_families(folder / "set.csv"), "--encoder", "composition", "-w", folder / "w")
    done("fit", "--head", "linear", "-w", folder / "w")
    return folder


@pytest.fixture
def model(place: Path, tmp_path: Path) -> Path:
    """A copy of its folder, to be changed."""
    return shutil.copytree(place / "w" / "models" / "linear", tmp_path / "linear")


def test_the_hub_reads_the_front_matter_of_every_model(place: Path) -> None:
    folder = place / "w" / "models" / "linear"
    manifest = read_manifest(folder)
    card = ModelCard.load(folder / CARD)
    about = card.data.to_dict()
    assert (about["library_name"], about["license"]) == ("esmcls", "unknown")
    told = about["esmcls"]
    assert (told["head"], told["encoder"], told["classes"]) == ("linear", "composition", len(manifest.classes))
    assert told["data_digest"] == manifest.dataset_digest
    assert told["split_digest"] == manifest.split_digest
    assert told["encoder_digest"] == manifest.spec.digest
    assert told["validation"]["accuracy"] == pytest.approx(manifest.validation["accuracy"])
    assert [line.removeprefix("## ") for line in card.text.splitlines() if line.startswith("## ")] == SECTIONS


def test_the_accuracy_has_wilsons_interval(place: Path) -> None:
    manifest = read_manifest(place / "w" / "models" / "linear")
    manifest.validation.clear()
    manifest.validation.update({"accuracy": 0.9, "macro_f1": 0.5, "n": 100})
    text = model_card("linear", manifest)
    assert "| accuracy | 90.0 | 82.6 to 94.5 |" in text  # Rate.of(np.arange(100) < 90, np.arange(100))
    assert "| macro F1 | 50.0 | – |" in text


def test_a_known_encoder_has_its_licence_and_its_place_on_the_hub(place: Path) -> None:
    manifest = read_manifest(place / "w" / "models" / "linear")
    for name, licence, base in (
        (BUNDLED, "mit", None),
        ("esm2_t6_8M_UR50D", "mit", "facebook/esm2_t6_8M_UR50D"),
        ("Rostlab/prot_t5_xl_half_uniref50-enc@v1", "afl-3.0", None),
        ("/home/me/secret/mine.safetensors", "unknown", None),
    ):
        manifest.setup["finetuned"] = {"encoder": name}
        text = model_card("m", manifest)
        about = ModelCard(text).data.to_dict()
        assert (about["license"], about.get("base_model")) == (licence, base)
        assert "fine-tuned" in text
        assert "/home/me" not in text


def test_names_mean_nothing_to_markdown(place: Path) -> None:
    from dataclasses import replace

    manifest = read_manifest(place / "w" / "models" / "linear")
    hostile = ("<script>", "a | b", "`rm`", "two\nlines", "---")
    card = ModelCard(model_card("<b>", replace(manifest, classes=hostile, class_counts=(1,) * 5), ["told | <i>"]))
    assert "‹script›`, `a ¦ b`, `'rm'`, `two lines`, `---`." in card.text
    assert not any(sign in card.text.replace(BEGIN, "").replace(END, "") for sign in ("<", "| b"))


def test_a_model_of_terms_says_its_scores_by_aspect(tmp_path: Path) -> None:
    train, _, table = write_cafa(tmp_path)
    obo = write_obo(tmp_path / "go.obo")
    done("embed", train, "--labels", table, "--obo", obo, "--encoder", "composition", "-w", tmp_path / "w")
    done("fit", "--head", "naive", "-w", tmp_path / "w")
    card = ModelCard.load(tmp_path / "w" / "models" / "naive" / CARD)
    assert card.data.to_dict()["esmcls"]["task"] == "go_terms"
    assert "| Fmax, molecular function | " in card.text
    assert "- thresholds from " in card.text


def test_an_evaluation_writes_what_it_measured_into_the_card(place: Path, tmp_path: Path) -> None:
    home = shutil.copytree(place / "w", tmp_path / "w")
    path = home / "models" / "linear" / CARD
    path.write_text(path.read_text().replace("not known here: write it down before", "MINE, before"))
    assert "Not measured yet: `esmcls evaluate --model linear`" in path.read_text()
    ran = done("evaluate", "--model", "linear", "-w", home)
    text = path.read_text()
    [accuracy] = [line for line in ran.out.splitlines() if line.startswith("accuracy")]
    assert accuracy in text
    assert "95 % interval" in text.partition(BEGIN)[2].partition(END)[0]
    assert "MINE, before" in text
    done("evaluate", "--model", "linear", "-w", home)
    assert path.read_text() == text
    load_model(home / "models" / "linear")


def test_an_evaluation_on_other_sequences_leaves_the_card_as_it_is(place: Path, tmp_path: Path) -> None:
    home = shutil.copytree(place / "w", tmp_path / "w")
    before = (home / "models" / "linear" / CARD).read_text()
    done("evaluate", place / "set.csv", "--model", "linear", "-w", home)
    assert (home / "models" / "linear" / CARD).read_text() == before


@pytest.mark.parametrize("text", [None, "mine\n", f"mine {END} {BEGIN}\n"])
def test_a_card_of_its_owners_own_is_left_alone(text: str | None, model: Path) -> None:
    (model / CARD).unlink()
    if text is not None:
        (model / CARD).write_text(text)
    assert not add_measured(model, "test", ["accuracy 1"])
    assert (model / CARD).exists() == (text is not None)
    assert text is None or (model / CARD).read_text() == text
    assert load_model(model).name == "linear"
