"""Layers chosen by the labels: compared on validation, kept as the cache, and an encoder cut to them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command import done, run
from ontologies import write_cafa, write_obo
from tiny import sequences, write_set

from esmcls.cache.embed import embed_into
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.encoders.encoder import load_encoder
from esmcls.encoders.model import ESM2, ModelConfig
from esmcls.encoders.weights import save_state
from esmcls.errors import CacheError, UsageError
from esmcls.layer_choice.choice import ScoredLayers, choose, compare_layers
from esmcls.layer_choice.cut import cut_encoder
from esmcls.layer_choice.scores import of_layers
from esmcls.workspace.embed_in_workspace import embed_dataset
from esmcls.workspace.workspace import Workspace

CONFIG = ModelConfig(layers=4, width=16, heads=2)
ALL = (0, 1, 2, 3, 4)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of four layers, each of which changes its residues as much as the others, and random norms."""
    path = tmp_path_factory.mktemp("encoder") / "four.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = ESM2(CONFIG)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    save_state(path, CONFIG, model.state_dict(), layers=(3, 4))
    return path


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled set with its three parts."""
    return write_set(tmp_path_factory.mktemp("set") / "set.csv")


def caches(workspace: Path) -> list[tuple[int, ...]]:
    """Return the layers of a workspace's caches, those used last at the end."""
    return [entry.spec.layers for entry in Workspace.open(workspace).caches]


def content(folder: Path, texts: Sequence[str]) -> dict[str, bytes]:
    """Return what a cache, which is sound, holds of sequences, by pooling."""
    with EmbeddingCache.open(folder) as cache:
        cache.verify()
        stored = {name: cache.read(texts, name).tobytes() for name in cache.spec.pooled}
        if cache.spec.ragged:
            stored["chunk"] = np.concatenate(cache.read_chunks(texts)).tobytes()
        return stored


# what the chosen layers' cache holds


@pytest.mark.parametrize("wanted", [(1,), (0, 3), (2, 3, 4)])
def test_layers_taken_from_a_wider_cache_are_those_that_the_encoder_gives_alone(
    encoder: Path, tmp_path: Path, wanted: tuple[int, ...]
) -> None:
    texts = [*sequences(117), "MKV" * 40, "ACDEFGHIKLMNPQRSTVWY" * 8, "M"]  # some are cut into several inputs
    folders = []
    for name, layers in (("wide", ALL), ("alone", wanted)):
        opened = load_encoder(str(encoder), layers=layers, long="window:64:32")
        spec = EmbeddingSpec.of(opened, "float16", ("mean", "cls", "max", "chunk"))
        folders.append(tmp_path / name)
        with EmbeddingCache.open(folders[-1], spec) as cache:
            embed_into(cache, opened, texts)
    with EmbeddingCache.open(folders[0]) as wide, EmbeddingCache.open(tmp_path / "taken", spec) as taken:
        assert (taken.take_layers(wide), taken.take_layers(wide)) == (len(texts), 0)
    assert content(tmp_path / "taken", texts) == content(folders[1], texts)


def test_a_cache_takes_layers_of_the_same_vectors_alone(encoder: Path, tmp_path: Path) -> None:
    spec = EmbeddingSpec.of(load_encoder(str(encoder), layers=ALL))
    narrow = of_layers(spec, (1, 2))
    others = [
        replace(narrow, layers=(1, 9)),
        replace(narrow, digest="another"),
        replace(narrow, dtype="float32"),
        replace(narrow, poolings=("cls",)),
        replace(narrow, poolings=("attention",)),
        replace(spec, poolings=("mean", "attention")),
    ]
    with EmbeddingCache.open(tmp_path / "wide", replace(spec, poolings=("mean", "attention"))) as wide:
        assert narrow.columns_in(wide.spec) is not None
        for number, other in enumerate(others):
            with (
                EmbeddingCache.open(tmp_path / str(number), other) as cache,
                pytest.raises(CacheError, match="has not the layers wanted"),
            ):
                cache.take_layers(wide)


def test_a_cache_takes_vectors_from_one_that_keeps_residues_too(encoder: Path, tmp_path: Path) -> None:
    texts = sequences(5)
    opened = load_encoder(str(encoder), layers=ALL)
    spec = EmbeddingSpec.of(opened)
    with EmbeddingCache.open(tmp_path / "wide", replace(spec, poolings=("mean", "residue"))) as wide:
        wide.append(texts, opened.encode(texts, keep="residue"))
        wide.flush()
        with EmbeddingCache.open(tmp_path / "narrow", spec) as narrow:
            assert (narrow.take_layers(wide), narrow.take_layers(wide)) == (len(texts), 0)
            np.testing.assert_array_equal(narrow.read(texts), wide.read(texts))


# --layers auto


def test_auto_leaves_the_cache_of_the_chosen_layers_and_a_report(encoder: Path, families: Path, tmp_path: Path) -> None:
    ran = done("embed", families, "--encoder", encoder, "--layers", "auto", "-w", tmp_path / "w", "--quiet")
    [report] = (tmp_path / "w" / "reports").iterdir()
    choice = json.loads((report / "choice.json").read_text())
    scores = {tuple(entry["layers"]): entry["score"] for entry in choice["scored"]}
    assert caches(tmp_path / "w") == [tuple(choice["layers"])]
    assert {(0,), (1,), (2,), (3,), (4,), (3, 4)} <= scores.keys()  # each alone, and the encoder's own
    assert sum(len(layers) == 3 for layers in scores) == 4
    assert "108 embedded" in ran.out
    assert f"layer{'s' * (len(choice['layers']) > 1)} {','.join(map(str, choice['layers']))} " in ran.out
    assert str(report / "report.html") in ran.out
    table = (report / "layers.tsv").read_text().splitlines()
    assert len(table) == 1 + len(scores)
    assert "<svg" in (report / "report.html").read_text()
    assert "the test part was not read" in (report / "report.html").read_text()


def test_all_layers_are_kept_where_that_is_asked_for_and_chosen_ones_come_last(
    encoder: Path, families: Path, tmp_path: Path
) -> None:
    done("embed", families, "--encoder", encoder, "--layers", "auto", "--keep-all-layers", "-w", tmp_path, "-q")
    kept, chosen = caches(tmp_path)
    assert (kept, len(chosen) < 5) == (ALL, True)
    assert "0 embedded, 108 were cached" in done("embed", "--layers", "1,4", "--encoder", encoder, "-w", tmp_path).out
    assert "0 embedded, 108 were cached" in done("embed", "--layers", "auto", "--encoder", encoder, "-w", tmp_path).out
    assert ALL in caches(tmp_path)


def test_a_dry_run_counts_what_is_taken_from_a_wider_cache_as_cached(
    encoder: Path, families: Path, tmp_path: Path
) -> None:
    done("embed", families, "--encoder", encoder, "--layers", "0,1,2,3,4", "-w", tmp_path, "-q")
    (tmp_path / "new.fasta").write_text(">a\nMKVLAWCD\n>b\n" + sequences(1)[0] + "\n")
    ran = done("embed", tmp_path / "new.fasta", "--encoder", encoder, "--layers", "2", "--dry-run", "-w", tmp_path)
    assert ran.out.startswith("2 distinct sequences: 1 cached, 1 to embed\n8 residues, ")
    assert caches(tmp_path) == [ALL]
    plan = done("embed", families, "--encoder", encoder, "--layers", "auto", "--dry-run", "-w", tmp_path / "fresh").out
    assert plan.startswith("108 distinct sequences: 0 cached, 108 to embed")
    assert not (tmp_path / "fresh").exists()


def test_a_cache_of_all_layers_that_was_there_before_stays(encoder: Path, families: Path, tmp_path: Path) -> None:
    done("embed", families, "--encoder", encoder, "--layers", "0,1,2,3,4", "-w", tmp_path, "-q")
    ran = done("embed", "--encoder", encoder, "--layers", "auto", "-w", tmp_path)
    assert "0 embedded, 108 were cached" in ran.out
    assert ALL in caches(tmp_path)


def test_what_was_chosen_stays_for_the_same_data_set_and_for_sequences_without_labels(
    encoder: Path, families: Path, tmp_path: Path
) -> None:
    auto = ("--encoder", encoder, "--layers", "auto", "-w", tmp_path / "w", "-q")
    first = done("embed", families, *auto)
    again = done("embed", *auto)
    assert "0 embedded" in again.out
    assert again.out.splitlines()[1] == first.out.splitlines()[1]
    (tmp_path / "new.fasta").write_text(">a\nMKVLAWCD\n")
    assert "1 embedded" in done("embed", tmp_path / "new.fasta", *auto).out
    assert len(caches(tmp_path / "w")) == 1


def test_another_split_is_chosen_for_anew(encoder: Path, families: Path, tmp_path: Path) -> None:
    auto = ("--encoder", encoder, "--layers", "auto", "-w", tmp_path / "w", "-q")
    done("embed", families, *auto)
    (tmp_path / "moved.csv").write_text(families.read_text().replace(",test\n", ",train\n", 3))
    assert "compared in" in done("embed", tmp_path / "moved.csv", *auto).out


def test_the_test_part_has_no_say(encoder: Path, families: Path, tmp_path: Path) -> None:
    scores = []
    for name, label in (("right", r"\g<0>"), ("wrong", "F9,test")):
        (tmp_path / f"{name}.csv").write_text(re.sub(r"F\d,test", label, families.read_text()))
        done("embed", tmp_path / f"{name}.csv", "--encoder", encoder, "--layers", "auto", "-w", tmp_path / name, "-q")
        [path] = (tmp_path / name / "reports").glob("*/choice.json")
        scores.append(json.loads(path.read_text())["scored"])
    assert scores[0] == scores[1]


def test_a_report_is_the_same_bytes_twice(encoder: Path, families: Path, tmp_path: Path) -> None:
    reports = []
    for name in "ab":
        done("embed", families, "--encoder", encoder, "--layers", "auto", "-w", tmp_path / name, "-q")
        [folder] = (tmp_path / name / "reports").iterdir()
        reports.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert reports[0] == reports[1]
    assert reports[0].keys() == {"choice.json", "layers.svg", "layers.tsv", "report.html"}


def test_terms_choose_layers_by_fmax(encoder: Path, tmp_path: Path) -> None:
    train, test, terms = write_cafa(tmp_path)
    labels = ("--test", test, "--labels", terms, "--obo", write_obo(tmp_path / "go.obo"))
    ran = done("embed", train, *labels, "--encoder", encoder, "--layers", "auto", "-w", tmp_path / "w", "-q")
    assert re.search(r"chosen.*: Fmax [01]\.\d+ on \d+ validation proteins", ran.out)


# interrupted


class Ended(BaseException):
    """Stands for the end of the process."""


STEPS = {
    "while all layers are embedded": "esmcls.cache.embed._count",
    "before layers are compared": "esmcls.layer_choice.embed.LayerScores",
    "before the report": "esmcls.layer_choice.report.draw_layers",
    "before the report's JSON": "esmcls.layer_choice.report.write_json",
    "before the chosen layers are taken": "esmcls.cache.store.EmbeddingCache.take_layers",
    "before all layers are dropped": "esmcls.workspace.workspace.Workspace.drop_passing",
    "while all layers are dropped": "esmcls.workspace.workspace.shutil.rmtree",
}


@pytest.mark.parametrize("place", STEPS.values(), ids=STEPS)
def test_a_run_that_ends_anywhere_is_finished_by_the_next(
    encoder: Path, families: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    done("embed", families, "--encoder", encoder, "--layers", "auto", "-w", tmp_path / "whole", "-q")
    embed = ("embed", families, "--encoder", encoder, "--layers", "auto", "-w", tmp_path / "ended", "-q")
    with monkeypatch.context() as patched:
        patched.setattr(place, ends)
        with pytest.raises(Ended):
            run(*embed)
    ran = done(*embed)
    assert "0 embedded" in ran.out or place == STEPS["while all layers are embedded"]
    assert caches(tmp_path / "ended") == caches(tmp_path / "whole")
    [one], [two] = ([entry.folder for entry in Workspace.open(tmp_path / name).caches] for name in ("ended", "whole"))
    texts = [line.split(",")[1] for line in families.read_text().splitlines()[1:]]
    assert content(one, texts) == content(two, texts)


def ends(*_: object, **__: object) -> None:
    """End."""
    raise Ended


# what cannot be


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--encoder", "kmer"), "encoder kmer has no layers to choose from; leave --layers out"),
        (("--shard", "1/2"), "--layers auto looks at all sequences; embed the shares with all layers named"),
        (("--pool", "attention"), "--pool attention belongs to the layers it was trained on"),
    ],
)
def test_auto_where_there_is_nothing_to_choose_is_one_line(
    families: Path, tmp_path: Path, args: tuple[str, ...], message: str
) -> None:
    ran = run("embed", families, "--layers", "auto", *args, "-w", tmp_path / "w", "-q")
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert message in ran.err
    assert not (tmp_path / "w" / "cache").exists()


def test_keeping_all_layers_belongs_to_auto(families: Path, tmp_path: Path) -> None:
    ran = run("embed", families, "--keep-all-layers", "-w", tmp_path / "w")
    assert (ran.code, "--keep-all-layers belongs to --layers auto" in ran.err) == (2, True)


def test_without_labels_or_validation_nothing_is_embedded_and_one_line_says_why(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "unlabelled.fasta").write_text(">a\nMKV\n>b\nMLV\n")
    (tmp_path / "train.csv").write_text("id,sequence,label,split\na,MKV,x,train\nb,MLV,y,train\nc,MLL,y,test\n")
    problems = {"unlabelled.fasta": "unlabelled.fasta: no labels", "train.csv": "no validation or no train part"}
    for name, problem in problems.items():
        workspace = tmp_path / f"w-{name}"
        ran = run("embed", tmp_path / name, "--encoder", encoder, "--layers", "auto", "-w", workspace, "-q")
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (1, "", 1)
        assert problem in ran.err
        assert "name the layers" in ran.err
        assert not (workspace / "cache").exists()


def test_a_damaged_choice_is_named(encoder: Path, families: Path, tmp_path: Path) -> None:
    embed = ("embed", families, "--encoder", encoder, "--layers", "auto", "-w", tmp_path, "-q")
    done(*embed)
    [path] = (tmp_path / "reports").glob("*/choice.json")
    path.write_text("{}")
    ran = run(*embed)
    assert (ran.code, "choice.json: is damaged" in ran.err, "delete it" in ran.err) == (1, True, True)
    path.unlink()
    done(*embed)


def test_the_first_embedding_of_a_labelled_set_says_that_layers_can_be_chosen(
    encoder: Path, families: Path, tmp_path: Path
) -> None:
    said = "layers 3,4: the encoder's own; --layers auto takes those that do best on the validation part, for about"
    embed = ("embed", families, "--encoder", encoder, "-w", tmp_path)
    assert [said in run(*embed).err for _ in range(2)] == [True, False]
    for number, options in enumerate([("--encoder", encoder, "--layers", "3"), ("--encoder", "kmer")]):
        assert "--layers auto" not in run("embed", families, *options, "-w", tmp_path / str(number)).err


# esmcls layers


def test_layers_are_compared_without_embedding(encoder: Path, families: Path, tmp_path: Path) -> None:
    done("embed", families, "--encoder", encoder, "--layers", "0,2,4", "-w", tmp_path, "-q")
    ran = done("layers", "-w", tmp_path)
    rows = [line.split()[0] for line in ran.out.splitlines()[1:-2]]
    assert rows == ["0", "2", "4", "0,2", "0,4", "2,4", "0,2,4"]
    assert "compared in" in ran.out
    assert caches(tmp_path) == [(0, 2, 4)]
    assert "as compared before" in done("layers", "-w", tmp_path).out


def test_after_auto_the_comparison_of_all_layers_is_shown(encoder: Path, families: Path, tmp_path: Path) -> None:
    done("embed", families, "--encoder", encoder, "--layers", "auto", "-w", tmp_path, "-q")
    ran = done("layers", "-w", tmp_path)
    assert ran.out.count("\n") > len(ALL)
    assert "as compared before" in ran.out


def test_one_layer_is_no_choice(encoder: Path, families: Path, tmp_path: Path) -> None:
    done("embed", families, "--encoder", encoder, "--layers", "4", "-w", tmp_path, "-q")
    ran = run("layers", "-w", tmp_path)
    assert (ran.code, ran.out) == (1, "")
    assert "no cache holds several layers to choose from; run: esmcls embed --layers auto --keep-all-layers" in ran.err


def test_layers_in_words_are_for_the_command(families: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"layers 'auto': give numbers; .*choose_layers"):
        embed_dataset(tmp_path, families, layers="auto")


# the choice


def test_the_best_layers_are_chosen_unless_the_encoders_own_are_as_good() -> None:
    own = (3,)
    for score, chosen in ((0.80, own), (0.832, own), (0.834, (1, 2))):  # 1.645 standard errors are 0.0329
        scored = [ScoredLayers((1,), 0.7), ScoredLayers(own, 0.8), ScoredLayers((1, 2), score)]
        assert choose(scored, own, lambda _: 0.02) == chosen


def test_of_equally_good_layers_the_fewest_are_chosen() -> None:
    scored = [ScoredLayers((1,), 0.9), ScoredLayers((2,), 0.1), ScoredLayers((0, 1), 0.9)]
    assert choose(scored, (2,), lambda _: 0.01) == (1,)


def test_of_a_deep_model_only_the_best_layers_are_joined() -> None:
    asked: list[tuple[int, ...]] = []

    def score(layers: tuple[int, ...]) -> float:
        asked.append(layers)
        return 1 / (1 + min(abs(layer - 12) for layer in layers))

    scored = compare_layers(score, range(34), (33,))
    assert len(asked) == len(set(asked)) == 34 + 6 + 4
    assert {layer for entry in scored[34:] for layer in entry.layers} == {10, 11, 12, 13}


# cut-encoder


def test_a_cut_model_gives_the_whole_models_layers(encoder: Path, tmp_path: Path) -> None:
    cut = cut_encoder(str(encoder), (1, 2), tmp_path / "cut.safetensors")
    folder = cut_encoder(str(encoder), (1, 2), tmp_path / "hf", "hf")
    assert (cut.kept, cut.of, cut.digest) == (3, 4, folder.digest)
    whole = load_encoder(str(encoder), layers=(1, 2), precision="fp32")
    texts = sequences(4)
    expected = whole.encode(texts, ("mean", "cls")).pooled
    for path in (cut.path, folder.path):
        opened = load_encoder(str(path), precision="fp32")
        assert (opened.layers, opened.digest) == ((1, 2), cut.digest)
        found = opened.encode(texts, ("mean", "cls")).pooled
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_transformers_opens_a_cut_model_and_has_its_layers(encoder: Path, tmp_path: Path) -> None:
    import transformers  # takes seconds

    cut = cut_encoder(str(encoder), (0, 2), tmp_path / "hf", "hf")
    model, about = transformers.AutoModel.from_pretrained(cut.path, output_loading_info=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(cut.path)
    assert all(name.startswith(("pooler.", "contact_head.")) for name in about["missing_keys"])
    text = sequences(1)[0]
    with torch.no_grad():
        states = model.eval()(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
    found = torch.cat([states[layer][0, 1:-1].mean(0) for layer in (0, 2)]).numpy()
    expected = load_encoder(str(encoder), layers=(0, 2), precision="fp32").encode([text]).pooled["mean"][0]
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5


def test_the_workspace_says_what_to_cut(encoder: Path, families: Path, tmp_path: Path) -> None:
    done("embed", families, "--encoder", encoder, "--layers", "0,2", "-w", tmp_path / "w", "-q")
    ran = done("cut-encoder", "-o", tmp_path / "cut.safetensors", "-w", tmp_path / "w")
    assert "3 of 4 layers" in ran.out
    assert "its vectors are layers 0,2" in ran.out
    again = done("embed", families, "--encoder", tmp_path / "cut.safetensors", "-w", tmp_path / "w")
    assert "108 embedded" in again.out


def test_what_cannot_be_cut_is_one_line(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    cases = {
        ("--layers", "4", "-o", tmp_path / "a.safetensors"): (2, "need all of its 4 layers"),
        ("--layers", "3", "-o", tmp_path / "a.safetensors"): (2, "there is nothing to cut"),
        ("--layers", "7", "-o", tmp_path / "a.safetensors"): (2, "has no layer 7; choose from 0"),
        ("--layers", "1", "-o", tmp_path / "a.pt"): (2, "end the name so, or choose --format hf"),
        ("--layers", "1", "-o", tmp_path / "no" / "a.safetensors"): (1, "its folder does not exist"),
        ("--layers", "1", "-o", tmp_path / "there", "--format", "hf"): (1, "is there already"),
    }
    for args, (code, message) in cases.items():
        ran = run("cut-encoder", "--encoder", encoder, *args)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (code, "", 1), ran.err
        assert message in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_folder_that_is_written_half_is_not_there(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esmcls.encoders.huggingface.esm2_folder.write_json", ends)
    with pytest.raises(Ended):
        cut_encoder(str(encoder), (1,), tmp_path / "hf", "hf")
    assert list(tmp_path.iterdir()) == []
