"""Proteins are annotated without labels of one's own, by a reference that says with every answer what it knows."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command import Ran, done, run
from gaf import gaf_row, write_gaf
from safetensors.numpy import save_file

from esmcls.errors import EngineMismatchError, ModelError
from esmcls.files import MANIFEST
from esmcls.models.folder import load_model
from esmcls.reading.records import Protein
from esmcls.reference.annotate import annotate, open_reference, shipped
from esmcls.reference.build import Built, build_reference
from esmcls.reference.packed import pack, unpack
from esmcls.reference.scope import NOTHING_NEAR, SIMILAR, Scope
from esmcls.workspace.workspace import Workspace

DEMO = Path(__file__).parents[1] / "data" / "demo.csv.gz"
CLASSES = 10
SIZE_OF_SHIPPED = 6_000_000
HAEMOGLOBIN = (
    "MVHLTPEEKSAVTALWGKVNVDEVGGEALGRLLVVYPWTQRFFESFGDLSTPDAVMGNPKVKAHGKKVLGAFSDGLAHLDNLKGTFATLSELHCDKLHVDPENFRLL"
    "GNVLVCVLAHHFGKEFTPPVQAAYQKVVAGVANALAHKYH"
)
OXYGEN_BINDING = "GO:0019825"


def demo_proteins() -> dict[str, list[tuple[str, str]]]:
    """Return the proteins of some classes of the demo set: label -> id and sequence."""
    classes: dict[str, list[tuple[str, str]]] = {}
    with gzip.open(DEMO, "rt") as lines:
        for row in csv.DictReader(lines):
            classes.setdefault(row["label"], []).append((row["id"], row["sequence"]))
    return dict(sorted(classes.items())[:CLASSES])


def term_of(number: int) -> str:
    return f"GO:{1000 + number:07d}"


def group_of(number: int) -> str:
    return f"GO:{100 + number % 2:07d}"


def write_inputs(folder: Path) -> tuple[Path, Path, Path]:
    """Write a FASTA file in which the last protein of each class is missing, a GAF and an ontology."""
    stanzas = ["format-version: 1.2", "[Term]\nid: GO:0003674\nname: molecular_function\nnamespace: molecular_function"]
    stanzas += [
        f"[Term]\nid: {group_of(number)}\nname: group {number}\nnamespace: molecular_function\nis_a: GO:0003674"
        for number in range(2)
    ]
    fasta: list[str] = []
    rows: list[str] = []
    for number, (name, members) in enumerate(demo_proteins().items()):
        about = f"name: {name}\nnamespace: molecular_function\nis_a: {group_of(number)}"
        stanzas.append(f"[Term]\nid: {term_of(number)}\n{about}")
        fasta += [f">sp|{id_}|X_HUMAN\n{sequence}\n" for id_, sequence in members[:-1]]
        rows += [gaf_row(id_, term_of(number), "F") for id_, _ in members[:-1]]
    (folder / "proteins.fasta").write_text("".join(fasta))
    (folder / "go.obo").write_text("\n\n".join(stanzas) + "\n")
    return folder / "proteins.fasta", write_gaf(folder / "proteins.gaf", *rows), folder / "go.obo"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Ran]]:
    """Build a reference of a GAF, without MMseqs2: phmmer aligns, and validation is drawn at random."""
    folder = tmp_path_factory.mktemp("reference")
    fasta, gaf, obo = write_inputs(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("esmcls.reference.build.MMSEQS", "mmseqs-hidden-here")
        options = ("--obo", obo, "--encoder", "kmer", "--source", "Demo of 2014", "-w", folder / "w")
        yield folder / "REF", done("reference", "build", fasta, gaf, "-o", folder / "REF", *options)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def random_protein(length: int = 150) -> str:
    return "M" + "".join(random.Random(3).choices("ACDEFGHIKLMNPQRSTVWY", k=length))


def write_queries(folder: Path) -> Path:
    """Write the last protein of each class, which the reference lacks, and one that nothing is like."""
    last = [members[-1] for members in demo_proteins().values()]
    text = "".join(f">{id_}\n{sequence}\n" for id_, sequence in last) + f">random\n{random_protein()}\n"
    (folder / "queries.fasta").write_text(text)
    return folder / "queries.fasta"


# build, and back


def test_a_reference_is_built_of_fasta_and_gaf_and_says_what_it_knows(built: tuple[Path, Ran]) -> None:
    folder, ran = built
    known = sum(len(members) - 1 for members in demo_proteins().values())
    assert ran.out.startswith(
        f"{folder}: homology; Demo of 2014: {known:,} proteins, 12 terms\n"
    )  # as good without knn
    shown = done("reference", "show", folder).out
    assert shown.startswith(f"Demo of 2014: {known:,} proteins, 12 terms\n")
    assert "what was told was right" in shown


@pytest.fixture(scope="module")
def of_vectors(built: tuple[Path, Ran]) -> Built:
    """Build another of the same workspace as where no engine is installed."""
    folder = built[0].parent
    return build_reference(Workspace.open(folder / "w"), folder / "vectors", source="Vectors", aligned=False)


def test_without_an_engine_vectors_tell_what_is_near(of_vectors: Built) -> None:
    assert of_vectors.members == ("knn",)
    assert of_vectors.scope.shuffled > 10
    assert 0 < of_vectors.scope.distance < 1
    with open_reference(of_vectors.folder) as reference:
        queries = [Protein(members[-1][0], members[-1][1]) for members in demo_proteins().values()]
        rows = list(annotate(reference, [*queries, Protein("random", random_protein())]))
    assert {row.status for row in rows} == {SIMILAR, NOTHING_NEAR}
    assert rows[-1].status == NOTHING_NEAR
    assert str(rows[-1].nearest).startswith("distance ")


def test_new_proteins_get_their_terms_and_a_stranger_none(built: tuple[Path, Ran], tmp_path: Path) -> None:
    ran = done("annotate", write_queries(tmp_path), "--reference", built[0])
    rows = rows_of(ran.out)
    right = [
        term_of(number) in {row["term"] for row in rows if row["id"] == members[-1][0]}
        for number, members in enumerate(demo_proteins().values())
    ]
    assert sum(right) >= 8
    assert [row["status"] for row in rows if row["id"] == "random"] == [NOTHING_NEAR]
    assert all(row["reference"].startswith("Demo of 2014: ") for row in rows)
    assert "reference: Demo of 2014: " in ran.err
    assert "1 nothing near is known" in ran.err


def test_the_most_specific_terms_are_told_and_all_where_asked_for(built: tuple[Path, Ran], tmp_path: Path) -> None:
    queries = write_queries(tmp_path)
    short = rows_of(done("annotate", queries, "--reference", built[0]).out)
    whole = rows_of(done("annotate", queries, "--reference", built[0], "--all-terms").out)
    groups = {group_of(0), group_of(1)}
    both = {row["id"] for row in short if row["term"] in groups} & {
        row["id"] for row in short if row["term"] and row["term"] not in groups and int(row["term"][3:]) % 2 == 0
    }
    assert len(whole) > len(short)
    assert groups <= {row["term"] for row in whole}
    assert not [row for row in short if row["id"] in both and row["term"] == group_of(0)]
    assert {row["id"] for row in short} == {row["id"] for row in whole}


def test_an_empty_aspect_leaves_one_row_that_says_so(built: tuple[Path, Ran], tmp_path: Path) -> None:
    rows = rows_of(done("annotate", write_queries(tmp_path), "--reference", built[0], "--aspect", "P").out)
    assert len(rows) == CLASSES + 1
    assert {row["note"] for row in rows if row["status"] == "aligned"} == {"no term is sure enough"}


def test_a_gaf_says_what_it_is_from_and_is_read_again(built: tuple[Path, Ran], tmp_path: Path) -> None:
    queries, answers = write_queries(tmp_path), tmp_path / "answers.gaf"
    done("annotate", queries, "--reference", built[0], "-o", answers, "--taxon", "9606")
    lines = answers.read_text().splitlines()
    assert lines[0] == "!gaf-version: 2.2"
    assert any(line.startswith("!reference: Demo of 2014") for line in lines)
    assert f"!random: {NOTHING_NEAR}" in lines
    cells = next(line.split("\t") for line in lines if not line.startswith("!"))
    assert (len(cells), cells[6], cells[12]) == (17, "IEA", "taxon:9606")
    assert cells[7].startswith("UniProtKB:")
    obo = built[0].parent / "go.obo"
    again = ("--labels", answers, "--obo", obo, "--evidence", "IEA", "--encoder", "composition", "--dry-run")
    answered = tmp_path / "answered.fasta"
    named = {line.split("\t")[1] for line in lines if not line.startswith("!")}
    kept = [f">{one}" for one in queries.read_text().split(">") if one.split("\n")[0] in named]
    answered.write_text("".join(one[1:] if not one.startswith(">") else one for one in kept))
    done("embed", answered, *again, "-w", tmp_path / "w")


def test_of_records_with_one_accession_a_gaf_holds_the_first_and_the_others_are_told(
    built: tuple[Path, Ran], tmp_path: Path
) -> None:
    queries = tmp_path / "twice.fasta"
    text = write_queries(tmp_path).read_text()
    sequence = "".join(text.split(">")[1].split("\n")[1:])
    queries.write_text(f'>x"1 one\n{sequence}\n>x"1 two\n{sequence}\n')
    ran = done("annotate", queries, "--reference", built[0], "--format", "gaf")
    rows = [line.split("\t") for line in ran.out.splitlines() if not line.startswith("!")]
    assert {row[1] for row in rows} == {'x"1'}
    assert len({row[4] for row in rows}) == len(rows)
    assert "1 record" in ran.err
    assert "not written" in ran.err


def test_a_submission_holds_scores_of_all_but_strangers(built: tuple[Path, Ran], tmp_path: Path) -> None:
    ran = done("annotate", write_queries(tmp_path), "--reference", built[0], "--format", "cafa")
    lines = [line.split("\t") for line in ran.out.splitlines()]
    assert {len(line) for line in lines} == {3}
    assert "random" not in {line[0] for line in lines}
    assert all(0 < float(score) <= 1 for _, _, score in lines)


def test_json_has_the_scope_in_every_object(built: tuple[Path, Ran], tmp_path: Path) -> None:
    ran = done("annotate", write_queries(tmp_path), "--reference", built[0], "--format", "jsonl")
    objects = [json.loads(line) for line in ran.out.splitlines()]
    assert {one["reference"] for one in objects} == {str(Scope.of(load_model(built[0])))}


def test_a_packed_reference_says_what_the_folder_says(
    built: tuple[Path, Ran], of_vectors: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "small.safetensors"
    pack([built[0], of_vectors.folder], packed)
    folders = (built[0], of_vectors.folder)
    assert packed.stat().st_size < sum(one.stat().st_size for place in folders for one in place.iterdir()) / 2
    queries = write_queries(tmp_path)
    answered = [rows_of(done("annotate", queries, "--reference", place).out) for place in (built[0], packed)]
    assert answered[0] == answered[1]  # sequences are kept as they are
    monkeypatch.setattr("esmcls.reference.packed.installed", lambda name: None)
    answered = [rows_of(done("annotate", queries, "--reference", place).out) for place in (of_vectors.folder, packed)]
    status, rounded = ({row["id"]: row["status"] for row in rows} for rows in answered)
    assert status == rounded
    terms, others = ({(row["id"], row["term"]) for row in rows} for rows in answered)
    assert len(terms & others) >= 0.8 * len(terms | others)  # vectors are rounded: a term may cross its threshold
    pack([built[0]], packed)
    with pytest.raises(EngineMismatchError, match="phmmer"):
        unpack(packed, tmp_path)


# what ships with the package


def test_what_ships_is_small_and_tells_of_a_well_known_protein(tmp_path: Path) -> None:
    assert shipped().stat().st_size <= SIZE_OF_SHIPPED
    queries = tmp_path / "queries.fasta"
    queries.write_text(f">P68871 human haemoglobin, beta\n{HAEMOGLOBIN}\n>random\n{random_protein()}\n")
    ran = done("annotate", queries)
    rows = rows_of(ran.out)
    assert OXYGEN_BINDING in {row["term"] for row in rows if row["id"] == "P68871"}
    assert [row["status"] for row in rows if row["id"] == "random"] == [NOTHING_NEAR]
    assert all(row["reference"].startswith("UniProtKB/Swiss-Prot 2014_01") for row in rows)


# bad inputs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reference", "nowhere"], "nowhere: no such model folder; fit one: esmcls fit"),
        (["-o", "answers.xlsx"], "-o answers.xlsx: end the name in .tsv, .csv, .jsonl, .gaf, .cafa, or say what"),
        (["--taxon", "9606"], "--taxon is for --format gaf"),
        (["--format", "gaf", "--all-terms"], "--all-terms is for tables"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    queries = write_queries(tmp_path)
    ran = run("annotate", queries, *words, "--quiet")
    assert (ran.code in (1, 2), ran.out, ran.err.count("\n")) == (True, "", 1)
    assert message in ran.err


def test_what_is_no_reference_is_refused(built: tuple[Path, Ran], tmp_path: Path) -> None:
    queries = write_queries(tmp_path)
    for text in ("", "no reference"):
        (tmp_path / "REF").write_text(text)
        ran = run("annotate", queries, "--reference", tmp_path / "REF", "--quiet")
        assert (ran.code, ran.err.count("\n")) == (1, 1)
        assert "give a reference: a folder of esmcls reference build" in ran.err
    manifest = json.loads((built[0] / MANIFEST).read_text())
    manifest["setup"]["reference"]["proteins"] = "many"
    model = load_model(built[0])
    damaged = json.loads(json.dumps(manifest["setup"]))
    model.manifest.setup.update(damaged)
    with pytest.raises(ModelError, match="its scope is damaged"):
        Scope.of(model)
    del model.manifest.setup["reference"]
    with pytest.raises(ModelError, match="but no reference; make one with esmcls reference build"):
        Scope.of(model)


def test_a_file_that_would_write_elsewhere_is_refused(tmp_path: Path) -> None:
    packed = tmp_path / "evil.safetensors"
    for name, files in (("../out", {}), ("model", {"../../out": "a"})):
        models = json.dumps([{"name": name, "engine": "", "files": files}])
        save_file({"a.bytes": np.zeros(1, np.uint8)}, packed, {"format": "1", "models": models})
        with pytest.raises(ModelError, match="outside the folder"):
            unpack(packed, tmp_path)
        (tmp_path / "model").rmdir() if (tmp_path / "model").exists() else None
    assert not (tmp_path.parent / "out").exists()


def test_too_few_proteins_or_a_folder_of_something_else_are_refused(tmp_path: Path) -> None:
    _, gaf, obo = write_inputs(tmp_path)
    few = tmp_path / "few.fasta"
    few.write_text("".join(f">{id_}\n{sequence}\n" for id_, sequence in next(iter(demo_proteins().values()))[:9]))
    options = ("--obo", obo, "--encoder", "composition", "--quiet")
    ran = run("reference", "build", few, gaf, "-o", tmp_path / "REF", *options)
    assert ran.code == 1
    assert "9 proteins with terms, too few for a reference; give 20 or more" in ran.err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    ran = run("reference", "build", few, gaf, "-o", tmp_path / "mine", *options)
    assert "exists and is no model folder" in ran.err
