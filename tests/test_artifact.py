"""Model folders: whole or not at all, checked when read, bound to their encoder."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError
from toy_encoder import ToyEncoder, letters, stacked

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.encoders.encoder import load_encoder
from esmcls.errors import EncoderMismatchError, ModelError, NonFiniteError, SequenceTooLargeError, UsageError
from esmcls.files import sha256_file
from esmcls.heads.base import Head
from esmcls.heads.registry import list_heads, load_head
from esmcls.labels.labels import Labels
from esmcls.models import folder as folder_module
from esmcls.models.folder import load_model, read_manifest, save_model
from esmcls.models.manifest import Manifest
from esmcls.models.model import Model

SEQUENCES = [letters(number) for number in range(60)]
LABELS = Labels.from_names([f"length {len(sequence)}" for sequence in SEQUENCES])


def fitted(name: str = "linear") -> Head:
    return load_head(name)().fit(
        Features.from_arrays(stacked(SEQUENCES).astype(np.float16), SEQUENCES, encoder=ToyEncoder), LABELS
    )


def manifest(head: Head, name: str = "linear", encoder: Any = None) -> Manifest:
    spec = EmbeddingSpec.of(encoder or ToyEncoder())
    counts = tuple(LABELS.counts().tolist())
    config = {field: getattr(head.chosen, field) for field in head.chosen.__dataclass_fields__}
    return Manifest(name, config, LABELS.classes, counts, spec, "mean", "d1", "s1", 3, {"macro_f1": 0.5}, 60)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    head = fitted()
    return save_model(tmp_path_factory.mktemp("models") / "one", head, manifest(head))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def open_toy(folder: Path, **options: Any) -> Model:
    return load_model(folder, encoder=ToyEncoder(**options))


@pytest.mark.parametrize("name", list_heads())
def test_a_loaded_model_predicts_from_sequences_what_its_head_predicts_from_the_cache(
    name: str, tmp_path: Path
) -> None:
    head = fitted(name)
    model = open_toy(save_model(tmp_path / "m", head, manifest(head, name)))
    cached = Features.from_arrays(stacked(SEQUENCES).astype(np.float16), SEQUENCES, encoder=ToyEncoder)
    np.testing.assert_array_equal(model.predict_proba(SEQUENCES), head.predict_proba(cached))
    codes, probabilities = head.top_k(cached, 2)
    told = model.predict(SEQUENCES, k=2)
    assert [[label for label, _ in row] for row in told] == [[LABELS.classes[c] for c in row] for row in codes]
    np.testing.assert_array_equal([[value for _, value in row] for row in told], probabilities)


def test_the_manifest_comes_back_as_it_was_and_names_every_file(saved: Path) -> None:
    found = read_manifest(saved)
    assert replace(found, files={}) == manifest(load_model(saved).head)
    assert set(found.files) == {"linear.safetensors"}
    assert {path.name for path in saved.iterdir()} == {"linear.safetensors", "manifest.json", "README.md"}
    text = (saved / "manifest.json").read_text()
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    assert set(found.versions) == {"esmcls", "numpy", "python", "torch"}


def test_no_sequences_give_no_predictions(saved: Path) -> None:
    model = open_toy(saved)
    assert model.predict([]) == []
    assert model.predict_proba([]).shape == (0, len(model.classes))


def test_the_encoder_is_opened_when_first_needed_and_then_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, dict[str, Any]]] = []

    def opener(name: str, **options: Any) -> ToyEncoder:
        opened.append((name, options))
        return ToyEncoder()

    monkeypatch.setattr("esmcls.cache.features.load_encoder", opener)
    model = load_model(folder)
    assert opened == []
    assert model.encoder is model.encoder
    load_model(folder, encoder="/weights/elsewhere").predict(["ACD"])
    options = {"layers": (0,), "long": "ends:4", "precision": "fp32", "device": "cpu"}
    assert opened == [("toy", options), ("/weights/elsewhere", options)]


def test_a_registered_encoder_is_opened_by_its_name(tmp_path: Path) -> None:
    encoder = load_encoder("composition")
    vectors = encoder.encode(SEQUENCES).pooled["mean"].astype(np.float16)
    head = load_head("knn")().fit(Features.from_arrays(vectors), LABELS)
    model = load_model(save_model(tmp_path / "m", head, manifest(head, "knn", encoder)))
    np.testing.assert_array_equal(model.predict_proba(SEQUENCES), head.predict_proba(Features.from_arrays(vectors)))


def test_an_encoder_with_another_digest_is_refused(saved: Path) -> None:
    with pytest.raises(EncoderMismatchError, match="the model was fitted on encoder digest 70, but toy has 71"):
        open_toy(saved, digest="71").predict(["ACD"])


def test_an_encoder_opened_with_other_options_is_refused(saved: Path) -> None:
    with pytest.raises(UsageError, match="not opened as for the model: long ends:2 against ends:4; open it alike"):
        open_toy(saved, long="ends:2").predict(["ACD"])


def test_equal_sequences_are_embedded_once_and_answered_each_in_input_order(saved: Path) -> None:
    encoder = ToyEncoder(batch=2)
    model = load_model(saved, encoder=encoder)
    one = model.predict(["ACD", "WAAA", "acd", "ACD*", "C"])
    assert encoder.batches_seen == [["ACD", "WAAA"], ["C"]]
    assert one[0] == one[2] == one[3]
    assert one[1] == model.predict(["WAAA"])[0]


def test_vectors_are_rounded_as_the_cache_stores_them(saved: Path) -> None:
    features = open_toy(saved).features(["A" * 2049])  # odd numbers over 2048 are none in float16
    assert features.vectors("mean").dtype == np.float16
    assert features.vectors("mean")[0].tolist() == [2048, 0, 0, 2048]


@pytest.mark.parametrize("trouble", ["nan_at", "huge_at"])
def test_a_vector_that_is_not_finite_is_an_error_that_names_the_sequence(saved: Path, trouble: str) -> None:
    with pytest.raises(NonFiniteError, match=r"sequence ACDC \(4 residues\): .*--dtype float32"):
        open_toy(saved, **{trouble: "ACDC"}).predict(["ACD", "ACDC"])


def test_a_sequence_that_does_not_fit_is_told_by_its_place_in_the_call(saved: Path) -> None:
    model = open_toy(saved, batch=2, too_large=("WWWW",))
    with pytest.raises(SequenceTooLargeError) as error:
        model.predict(["A", "A", "C", "D", "WWWW", "WWWW"])
    assert error.value.index == 4


# writing


def test_a_save_that_fails_leaves_the_old_model_and_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "manifest.json").read_bytes()
    head = fitted()

    def full(self: Head, place: Path) -> None:
        (place / "half").write_text("x")
        raise OSError("no space left on device")

    monkeypatch.setattr(type(head), "save", full)
    with pytest.raises(OSError, match="no space"):
        save_model(folder, head, manifest(head))
    assert (folder / "manifest.json").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_new_model_takes_the_place_of_the_old_one(folder: Path) -> None:
    head = fitted("knn")
    save_model(folder, head, manifest(head, "knn"))
    assert load_model(folder).manifest.head == "knn"
    assert not (folder / "linear.safetensors").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_crash_at_any_rename_leaves_the_old_or_the_new_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head, rename = fitted("knn"), os.replace
    monkeypatch.setattr("esmcls.files._exchange", lambda one, two: False)
    for crash in (1, 2):
        calls = iter(range(1, 9))

        def replace_or_die(old: Any, new: Any, crash: int = crash, calls: Any = calls) -> None:
            if Path(new).suffix != ".json" and next(calls) == crash:
                raise KeyboardInterrupt
            rename(old, new)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace_or_die)
            with pytest.raises(KeyboardInterrupt):
                save_model(folder, head, manifest(head, "knn"))
        assert load_model(folder).manifest.head == "linear"


def test_a_model_that_is_replaced_while_it_is_read_is_read_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = fitted("knn")
    check = folder_module._check_files

    def replaced_in_between(path: Path, found: Manifest) -> None:
        if found.head == "linear":
            save_model(folder, head, manifest(head, "knn"))
        check(path, found)

    monkeypatch.setattr(folder_module, "_check_files", replaced_in_between)
    assert load_model(folder).manifest.head == "knn"


def test_a_folder_that_is_no_model_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    head = fitted()
    with pytest.raises(ModelError, match="exists and is no model folder; choose another name"):
        save_model(tmp_path, head, manifest(head))
    assert (tmp_path / "thesis.tex").read_text() == "all of it"


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("Error in faiss::write_index: write error in index.faiss: 16 != 48 (No space left on device)"),
    ],
)
def test_a_full_disk_while_a_model_is_written_names_the_model_and_leaves_the_former(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def save(head: object, place: Path) -> None:
        (place / "half").write_bytes(bytes(16))
        raise error

    head, before = fitted(), read_manifest(folder)
    monkeypatch.setattr(type(head), "save", save)
    with pytest.raises(OSError, match=r"\[Errno 28\] No space left on device: '.*model'$"):
        save_model(folder, head, replace(manifest(head), seed=4))
    assert read_manifest(folder) == before
    assert list(folder.parent.iterdir()) == [folder]


def test_a_place_that_cannot_be_written_is_told_before_anything_is_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write anywhere
    with pytest.raises(ModelError, match="models/one: a model cannot be written there; make its folder one that you"):
        folder_module.refuse_foreign(tmp_path / "models" / "one")


# reading what is not right


def test_a_missing_folder_and_a_folder_of_something_else_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder; fit one: esmcls fit"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"holds no manifest\.json, so it is no model"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "manifest.json: is damaged"),
        ("[]", "manifest.json: is damaged"),
        ('{"format": 1}', "manifest.json: is damaged"),
        ('{"format": 2}', "is of format 2, newer than the 1 known here; update esmcls"),
        ('{"format": "new"}', "manifest.json: is damaged"),
        ("\udcff", "manifest.json: is damaged"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_one_line(folder: Path, text: str, message: str) -> None:
    (folder / "manifest.json").write_text(text, errors="surrogateescape")
    with pytest.raises(ModelError, match=message) as error:
        load_model(folder)
    assert "\n" not in str(error.value)


def test_a_manifest_with_a_key_too_many_or_too_few_is_damaged(folder: Path) -> None:
    whole = json.loads((folder / "manifest.json").read_text())
    for flat in (whole | {"extra": 1}, {key: whole[key] for key in whole if key != "seed"}, whole | {"spec": {}}):
        (folder / "manifest.json").write_text(json.dumps(flat))
        with pytest.raises(ModelError, match="is damaged"):
            load_model(folder)


def test_a_file_that_changed_or_is_missing_is_named(folder: Path) -> None:
    path = folder / "linear.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"linear.safetensors: is not as it was written \(sha256 differs\)"):
        load_model(folder)
    path.unlink()
    with pytest.raises(ModelError, match=r"linear.safetensors: is missing; copy the whole model folder"):
        load_model(folder)


@pytest.mark.parametrize("name", list_heads())
def test_files_that_do_not_hold_a_head_are_one_line_even_if_their_digest_is_right(name: str, tmp_path: Path) -> None:
    head = fitted(name)
    place = save_model(tmp_path / "m", head, manifest(head, name))
    flat = json.loads((place / "manifest.json").read_text())
    for file in flat["files"]:
        (place / file).write_bytes(b"not this")
    flat["files"] = {file: sha256_file(place / file) for file in flat["files"]}
    (place / "manifest.json").write_text(json.dumps(flat))
    with pytest.raises(ModelError, match="cannot be read") as error:
        load_model(place)
    assert "\n" not in str(error.value)


def test_a_setting_that_this_version_does_not_know_is_an_error(folder: Path) -> None:
    flat = json.loads((folder / "manifest.json").read_text())
    flat["config"]["momentum"] = 0.9
    (folder / "manifest.json").write_text(json.dumps(flat))
    with pytest.raises(ModelError, match="unknown setting 'momentum'"):
        load_model(folder)
