"""Every error is one line on stderr and an exit code; a bug keeps its traceback."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from command import done, run
from families import write_families, write_unknown

from esmcls.errors import DataError
from esmcls.heads.layers.linear import LinearHead
from esmcls.heads.registry import list_heads
from esmcls.models.folder import load_model
from esmcls.models.predict import predict
from esmcls.reading.records import Protein

ENCODERS = (
    "bundled, composition, esm2, esm2_t12_35M_UR50D, esm2_t30_150M_UR50D, esm2_t33_650M_UR50D, esm2_t36_3B_UR50D, "
    "esm2_t48_15B_UR50D, esm2_t6_8M_UR50D, kmer"
)
HEADS = ", ".join(list_heads())
KNOBS = ", ".join(sorted(LinearHead.Config.__dataclass_fields__))
COMMANDS = (
    "annotate, app, cache, compare, cut-encoder, data, demo, embed, encoders, evaluate, explain, export, finetune, fit, "
    "fit-scan, fold, heads, import, info, layers, map, predict, pretrain, push, reference, scan"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a labelled set, an unlabelled one, faulty files, and workspaces at several stages."""
    folder = tmp_path_factory.mktemp("home")
    families = write_families(folder / "families.csv")
    write_unknown(folder / "unknown.fasta")
    (folder / "bad.fasta").write_text(">a\nMKT\n>b\nMK1T\n")
    (folder / "empty.fasta").write_text("")
    (folder / "mixed.csv").write_text("id,sequence,label\na,MKT,\nb,MKV,x\n")
    (folder / "folder").mkdir()
    done("embed", folder / "unknown.fasta", "--encoder", "composition", "-w", folder / "unlabelled")
    done("embed", families, "--encoder", "composition", "-w", folder / "unfitted")
    done("embed", families, "--encoder", "composition", "-w", folder / "w")
    done("fit", "--head", "knn", "-w", folder / "w")
    return folder


USAGE = [
    ("fitt", f"unknown command 'fitt'; did you mean 'fit'? (known: {COMMANDS})"),
    ("cache verfy", "unknown command 'verfy'; did you mean 'verify'? (known: compact, info, merge, verify)"),
    ("cache", "missing command (see: esmcls cache --help)"),
    ("fit --hed knn", "no such option --hed; did you mean --head? (see: esmcls fit --help)"),
    ("predict", "missing argument 'INPUT...' (see: esmcls predict --help)"),
    ("embed x.fasta --device cpu,cpu --shard 3", "--shard 3: give I/N, such as 1/4 for the first of four"),
    ("embed x.fasta --layers 3,x", "--layers 3,x: not whole numbers with commas between, such as 3,4,5"),
    ("embed x.fasta --device tpu", "there is no device 'tpu' here; choose one of: auto, cpu"),
    ("fit --device cpu,cpu", "--device cpu,cpu: several devices are for embed, pretrain and finetune; give one"),
    ("embed --test x.fasta", "--validation, --test, --labels, --obo and --clusters belong to an INPUT; name it, too"),
    (
        "embed {home}/unknown.fasta --long ballanced",
        "unknown long-sequence strategy 'ballanced'; did you mean 'balanced'? "
        "(known: balanced, chunk, ends, full, start, window)",
    ),
    (
        "embed {home}/unknown.fasta --encoder kmr",
        f"unknown encoder 'kmr'; did you mean 'kmer'? (known: {ENCODERS})",
    ),
    (
        "embed {home}/unknown.fasta --encoder kmer --layers 3",
        "encoder 'kmer' counts, so it has no layers; leave them out",
    ),
    (
        "embed {home}/unknown.fasta --encoder composition --shard 3/2",
        "there is no shard 3/2; choose 1/2 to 2/2",
    ),
    ("embed -w {home}/unlabelled", "no INPUT, and {home}/unlabelled has no dataset to embed again; name a file"),
    ("fit --head kn -w {home}/w", f"unknown head 'kn'; did you mean 'knn'? (known: {HEADS})"),
    (
        "fit --head linear --set epoch 3 -w {home}/w",
        f"unknown setting 'epoch'; did you mean 'epochs'? (known: {KNOBS})",
    ),
    (
        "fit --head linear --set epochs many -w {home}/w",
        "setting epochs: 'many' is not a whole number; give --set epochs VALUE",
    ),
    ("predict {home}/unknown.fasta --model knm -w {home}/w", "unknown model 'knm'; did you mean 'knn'? (known: knn)"),
]


@pytest.mark.parametrize(("words", "message"), USAGE, ids=[words for words, _ in USAGE])
def test_a_usage_error_exits_with_2_and_says_what_was_meant(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.fasta").write_text(">a\nMKT\n")
    ran = run(*words.format(home=home).split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"esmcls: error: {message.format(home=home)}\n"


DATA = [
    (
        "embed {home}/bad.fasta --encoder composition -w {home}/new",
        "{home}/bad.fasta:4:3: record 'b': sign '1', which is no amino acid; "
        "use the 20 amino acids and X B U Z O alone",
    ),
    (
        "predict {home}/unknown.fasta -w {home}/none",
        "{home}/none: no workspace here; run: esmcls embed INPUT first, or name another with -w DIR",
    ),
    ("predict {home}/unknown.fasta -w {home}/unfitted", "{home}/unfitted: no model; run: esmcls fit --head linear"),
    (
        "fit -w {home}/unlabelled",
        "{home}/unlabelled: no dataset: no labels were found in {home}/unknown.fasta; name the column of labels label, "
        "or give a table of them: esmcls embed INPUT --labels TABLE",
    ),
    (
        "fit -w {home}/w --encoder kmer",
        "{home}/w: nothing is embedded with encoder 'kmer' (there are: composition); run: esmcls embed --encoder kmer",
    ),
    (
        "predict {home}/unknown.fasta -w {home}/w --encoder kmer",
        "the model was fitted on encoder digest *, but kmer has *; "
        "give the weights it was fitted with (--encoder PATH) or fit again",
    ),
    (
        "evaluate {home}/unknown.fasta -w {home}/w",
        "{home}/unknown.fasta:1: record 'new': no label; give a table of labels (--labels TABLE)",
    ),
    (
        "predict {home}/unknown.fasta -w {home}/w -o {home}/no/out.tsv",
        "{home}/no/out.tsv: its folder does not exist; make the folder, or write elsewhere",
    ),
    ("predict {home}/unknown.fasta -w {home}/w -o {home}/folder", "{home}/folder: is a folder; name a file"),
    (
        "embed {home}/unknown.fasta --test {home}/unknown.fasta -w {home}/new",
        "{home}/unknown.fasta:1: record 'new': no label; "
        "give labels (--labels TABLE), or leave --validation, --test and --clusters out",
    ),
    (
        "cache verify -w {home}/w --encoder kmer",
        "{home}/w: nothing is embedded with encoder 'kmer'; run: esmcls embed INPUT",
    ),
    (
        "cache merge {home}/folder -w {home}/w",
        "{home}/folder: neither a workspace nor a cache; name a folder that esmcls embed made",
    ),
    (
        "info {home}/folder",
        "{home}/folder: neither a workspace, nor a model, a cache or an encoder; esmcls embed and esmcls fit make them",
    ),
    (
        "info {home}/nothing",
        "{home}/nothing: no such file or folder; give a workspace, a model, a cache or an encoder file",
    ),
    (
        "export {home}/bad.fasta --format npz -o {home}/v.npz -w {home}/w",
        "{home}/bad.fasta:4:3: record 'b': sign '1', which is no amino acid; "
        "use the 20 amino acids and X B U Z O alone",
    ),
    (
        "import {home}/families.csv --sequences {home}/families.csv -w {home}/new",
        "{home}/families.csv: no file of vectors of any format that is known; give npz, h5, Parquet, safetensors, SQLite, "
        ".pth, a .npy of PEPE, or a folder of .pt files or of FastPLMs",
    ),
]


def same(told: str, expected: str) -> bool:
    """Compare whole texts; `*` stands for a digest."""
    return re.fullmatch(re.escape(expected).replace(r"\*", "[0-9a-f]+"), told) is not None


@pytest.mark.parametrize(("words", "message"), DATA, ids=[words for words, _ in DATA])
def test_a_data_error_exits_with_1_and_names_the_place_and_the_way_out(home: Path, words: str, message: str) -> None:
    ran = run(*words.format(home=home).split())
    assert (ran.code, ran.out) == (1, "")
    told = ran.err.removeprefix("esmcls: model knn, the only one here\n")
    assert same(told, f"esmcls: error: {message.format(home=home)}\n"), ran.err


def test_a_file_without_records_is_an_error(home: Path, tmp_path: Path) -> None:
    ran = run("embed", home / "empty.fasta", "--encoder", "composition", "-w", tmp_path / "w")
    assert ran.code == 1
    assert ran.err.startswith(f"esmcls: error: {home / 'empty.fasta'}: ")
    assert ran.err.count("\n") == 1


def test_labels_on_some_records_alone_are_an_error(home: Path, tmp_path: Path) -> None:
    ran = run("embed", home / "mixed.csv", "--encoder", "composition", "-w", tmp_path / "w")
    assert ran.code == 1
    assert ran.err.startswith(f"esmcls: error: {home / 'mixed.csv'}:")
    assert ran.err.count("\n") == 1


def test_another_dataset_does_not_replace_the_one_that_models_stand_on(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("id,sequence,label\na,MKT,x\nb,MKV,y\n")
    ran = run("embed", other, "--encoder", "composition", "-w", home / "w")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"esmcls: error: {home / 'w'}: its models (knn) were fitted on another dataset or split; "
        "use another workspace (-w DIR), or delete its models/ first\n"
    )


@pytest.fixture
def imported(home: Path, tmp_path: Path) -> Path:
    """A workspace with a model on imported vectors; beside it `vectors.npz`, of which they are."""
    vectors = tmp_path / "vectors.npz"
    done("export", "--format", "npz", "-o", vectors, "-w", home / "w")
    done("import", vectors, "--sequences", home / "families.csv", "-w", tmp_path / "w")
    done("fit", "--head", "knn", "-w", tmp_path / "w")
    return tmp_path / "w"


def test_a_model_of_imported_vectors_answers_where_it_has_one_and_names_the_rest(home: Path, imported: Path) -> None:
    known = [line.split(",") for line in (home / "families.csv").read_text().splitlines()[1:3]]
    asked = imported.parent / "asked.fasta"
    text = "".join(f">other-{line[0]}\n{line[1]}\n" for line in known)
    asked.write_text(text + (home / "unknown.fasta").read_text())
    ran = run("predict", asked, "-w", imported)
    rows = [line.split("\t") for line in ran.out.splitlines()[1:]]
    assert ran.code == 3
    assert [row[6] for row in rows] == ["", "", *["no_vector"] * 3]
    assert all(row[2] for row in rows[:2])
    assert "3 without a vector, left without a label: new, other, new; give theirs with --vectors FILE\n" in ran.err


def test_vectors_of_new_sequences_are_taken_from_a_file_by_id(home: Path, imported: Path) -> None:
    """They answer as those do that the encoder makes itself."""
    asked, new = imported.parent / "asked.fasta", imported.parent / "new.npz"
    asked.write_text(">one\nMKTAYIAKQRQISFVK\n>two\nGGGGPLWWCA\n")
    done("embed", asked, "--encoder", "composition", "-w", home / "w")
    done("export", asked, "--format", "npz", "-o", new, "-w", home / "w")
    done("fit", "--head", "knn", "-w", home / "w")
    ran = run("predict", asked, "--vectors", new, "-w", imported)
    assert (ran.code, ran.out) == (0, done("predict", asked, "--model", "knn", "-w", home / "w").out)
    np.savez(imported.parent / "wide.npz", new=np.zeros(7, dtype=np.float32))
    ran = run("predict", asked, "--vectors", imported.parent / "wide.npz", "-w", imported)
    assert ran.code == 1
    assert "a vector of 7 numbers, where the model was fitted on 25; give vectors made as those of training" in ran.err


def test_residues_that_imported_vectors_lack_are_told_wherever_they_are_used(home: Path, tmp_path: Path) -> None:
    proteins = [line.split(",")[:2] for line in (home / "families.csv").read_text().splitlines()[1:]]
    numbers = np.random.default_rng(0)
    matrices = {name: numbers.random((len(text), 6), np.float32) for name, text in proteins}
    short = {**matrices, proteins[0][0]: matrices[proteins[0][0]][:-3]}
    np.savez(tmp_path / "short.npz", **short)
    done("import", tmp_path / "short.npz", "--sequences", home / "families.csv", "-w", tmp_path / "w")
    done("fit", "--head", "knn", "-w", tmp_path / "w")
    [name, text] = proteins[0]
    told = f"3 of {len(text)} residues unseen"
    (tmp_path / "one.fasta").write_text(f">{name}\n{text}\n")
    assert told in done("predict", tmp_path / "one.fasta", "-w", tmp_path / "w").out
    assert "not seen: 3 residues of 1 sequence, as they were imported\n" in done("info", tmp_path / "w").out

    (tmp_path / "new.fasta").write_text(f">sp|{name}|X\n{text[::-1]}\n")
    np.savez(tmp_path / "new.npz", **{name: short[name]})
    words = ("predict", tmp_path / "new.fasta", "-w", tmp_path / "w", "--vectors", tmp_path / "new.npz")
    assert told in done(*words).out
    np.savez(tmp_path / "new.npz", **{name: np.zeros((len(text) + 2, 6), np.float32)})
    ran = run(*words)
    assert (ran.code, len(ran.err.splitlines())) == (1, 2)
    assert f"{len(text) + 2} rows for {len(text)} residues, BOS and EOS among them; store the vectors" in ran.err


def test_the_library_takes_vectors_as_a_file_or_by_their_ids(imported: Path) -> None:
    with np.load(imported.parent / "vectors.npz") as file:
        name, vector = file["ids"][0], file["vectors"][0]
    asked = [Protein(f"tr|{name}|X", "MKTAYIAKQR")]
    model = load_model(imported / "models" / "knn")
    [by_file] = predict(model, asked, vectors=imported.parent / "vectors.npz")
    [by_id] = predict(model, asked, vectors={name: vector})
    assert by_file == by_id
    assert by_id.status is None
    assert predict(model, asked)[0].status == "no_vector"
    with pytest.raises(DataError, match="vectors: record 'a': a vector of 7 numbers, where the model was fitted on 25"):
        predict(model, asked, vectors={"a": np.zeros(7)})
    with pytest.raises(DataError, match="vectors: record 'a': what is no vector, where the model was fitted on 25"):
        predict(model, asked, vectors={"a": np.zeros((3, 25))})


def test_vectors_are_refused_by_a_model_that_embeds(home: Path, imported: Path) -> None:
    done("fit", "--head", "knn", "-w", home / "w")
    ran = run("predict", home / "unknown.fasta", "--vectors", imported.parent / "vectors.npz", "-w", home / "w")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.endswith("--vectors is for models on imported vectors; this one embeds what it is asked about\n")


def test_without_cache_and_file_a_model_of_imported_vectors_says_what_to_give(home: Path, imported: Path) -> None:
    alone = (imported / "models" / "knn").rename(imported.parent / "alone")
    ran = run("predict", home / "unknown.fasta", "--model", alone)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"esmcls: error: {alone}: fitted on imported vectors, whose encoder is not known here; "
        "give the vectors of new sequences (--vectors FILE)\n"
    )


def test_a_missing_path_is_told_without_a_traceback(tmp_path: Path) -> None:
    ran = run("embed", tmp_path / "nothing.fasta", "--encoder", "composition", "-w", tmp_path / "w")
    assert ran.code == 1
    assert ran.err.startswith(f"esmcls: error: {tmp_path / 'nothing.fasta'}: ")
    assert ran.err.count("\n") == 1


def test_an_error_of_the_system_names_the_path(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28), str(tmp_path / "out.tsv"))

    monkeypatch.setattr("esmcls.files.os.replace", full)
    ran = run("predict", home / "unknown.fasta", "-o", tmp_path / "out.tsv", "-w", home / "w")
    assert ran.code == 1
    assert ran.err.splitlines()[-1] == (
        f"esmcls: error: {tmp_path / 'out.tsv'}: No space left on device; make room on the disk"
    )
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_an_error_came_from(home: Path, tmp_path: Path) -> None:
    ran = run("fit", "--debug", "-w", tmp_path / "none")
    assert ran.code == 1
    assert ran.err.startswith("Traceback (most recent call last):\n")
    assert ran.err.splitlines()[-1].startswith(f"esmcls: error: {tmp_path / 'none'}: no workspace here")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(group: str) -> list[str]:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("esmcls_cli.heads.list_heads", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run("heads")


def test_ctrl_c_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(group: str) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr("esmcls_cli.heads.list_heads", interrupted)
    ran = run("heads")
    assert (ran.code, ran.out, ran.err) == (130, "", "esmcls: error: interrupted\n")


def test_a_process_that_is_asked_to_end_cleans_up_and_exits_with_143(monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned = []

    def asked(group: str) -> list[str]:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            cleaned.append("up")
        return []

    monkeypatch.setattr("esmcls_cli.heads.list_heads", asked)
    before = signal.getsignal(signal.SIGTERM)
    ran = run("heads")
    assert (ran.code, ran.out, ran.err) == (143, "", "esmcls: error: asked to end\n")
    assert (cleaned, signal.getsignal(signal.SIGTERM)) == (["up"], before)


def test_sequences_that_do_not_fit_are_named_and_the_exit_code_is_3(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from esmcls.encoders.kmer import KmerEncoder
    from esmcls.errors import SequenceTooLargeError

    encode = KmerEncoder.encode

    def small(self: KmerEncoder, sequences: list[str], *rest: object) -> object:
        for index, sequence in enumerate(sequences):
            if sequence.startswith("MKKK"):
                raise SequenceTooLargeError(index, len(sequence))
        return encode(self, sequences, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(KmerEncoder, "encode", small)
    ran = run("embed", home / "unknown.fasta", "--encoder", "composition", "-w", tmp_path / "w")
    assert ran.code == 3
    assert ran.err.splitlines()[-1] == "esmcls: other: too large for the memory; left out"
    ran = run("predict", home / "unknown.fasta", "-w", home / "w")
    assert ran.code == 3
    assert [line.split("\t")[6] for line in ran.out.splitlines()[1:]] == ["", "too_large", ""]
    assert ran.err.splitlines()[-1] == "esmcls: other: too large for the memory; left without a label"
