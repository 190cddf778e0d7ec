"""CAFA's tables: a protein's terms are joined to its sequence by id, and what cannot be used is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import done, run
from gene_ontology import BINDING, ION, METAL, NUCLEUS, TRANSPORT, ZINC, F, write_cafa, write_obo

from esmcls.datasets.dataset import Dataset, build
from esmcls.datasets.split import SplitReport
from esmcls.errors import DataError, UnknownNameError, UsageError, WorkspaceError
from esmcls.labels.ontology import Ontology, read_obo
from esmcls.reading.inputs import Inputs
from esmcls.reading.joined.term_tables import TermTable
from esmcls.reading.readers import read_records
from esmcls.reading.records import Protein, Record, Tally
from esmcls.tasks.go_terms.statistics import describe_terms
from esmcls.workspace.intake import take_in
from esmcls.workspace.workspace import Workspace

FIX_ROW = "give id<TAB>term<TAB>aspect, one a line (the aspect may be left out)"


@pytest.fixture
def ontology(tmp_path: Path) -> Ontology:
    return read_obo(write_obo(tmp_path / "go.obo"))


def terms_of(folder: Path, text: str, ontology: Ontology) -> dict[str, str]:
    path = folder / "terms.tsv"
    path.write_text(text)
    return {id_: label for id_, (label, *_) in TermTable.of([str(path)], ontology).labels.items()}


def records(*rows: tuple[str, str, str | None]) -> list[Record]:
    return [Record(Protein(f"p{n}", sequence), label, part, "in", n) for n, (sequence, label, part) in enumerate(rows)]


# tables


@pytest.mark.parametrize(
    "text",
    [
        f"EntryID\tterm\taspect\na\t{ZINC}\tF\nb\t{NUCLEUS}\tC\na\t{BINDING}\tF\n",
        f"EntryID\tterm\taspect\na\t{ZINC}\tMFO\nb\t{NUCLEUS}\tCCO\na\t{BINDING}\tmfo\n",
        f"a\t{ZINC}\tmolecular_function\nb\t{NUCLEUS}\tCC\n\na\t{BINDING}\tMF\n",
        f"a\t{ZINC}\nb\t{NUCLEUS}\na\t{BINDING}\n",
        f"id,aspect,term\na,F,{ZINC}\nb,C,{NUCLEUS}\na,F,{BINDING}\n",
        f"a\t{ZINC}\tF\na\t{BINDING}\tF\nb\tGO:0000007\tC\na\t{ZINC}\tF\nb\t{NUCLEUS}\tC\n",
    ],
    ids=["as CAFA has it", "long aspects", "no header", "no aspect", "other columns", "equal rows, an old id"],
)
def test_the_terms_of_an_id_are_one_label_however_the_table_writes_them(
    tmp_path: Path, ontology: Ontology, text: str
) -> None:
    assert terms_of(tmp_path, text, ontology) == {"a": f"{BINDING} {ZINC}", "b": NUCLEUS}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"a\t{ZINC}\tF\nb\t{ZINC}\tC\n", f":2: record 'b': aspect C, but the ontology has {ZINC} in F; "),
        (f"a\t{ZINC}\tX\n", ":1: record 'a': aspect 'X'; write C, F or P, or CCO, MFO or BPO"),
        (f"EntryID\tterm\taspect\na\t{ZINC}\n", f":2: 2 cells, where the first row has 3; {FIX_ROW}"),
        ("a\n", f":1: 1 cell instead of 2 or 3; {FIX_ROW}"),
        (f"a\t{ZINC}\tF\n\t{ZINC}\tF\n", f":2: no id; {FIX_ROW}"),
        ("a\t\tF\n", f":1: record 'a': no term; {FIX_ROW}"),
        ("a\tGO:1\tF\n", ": no term that the ontology knows; "),
        ("", ": no term that the ontology knows; "),
    ],
)
def test_a_row_that_cannot_be_used_is_an_error_with_its_line(
    tmp_path: Path, ontology: Ontology, text: str, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        terms_of(tmp_path, text, ontology)
    assert str(caught.value).startswith(str(tmp_path / "terms.tsv") + message)


def test_terms_that_the_ontology_does_not_know_are_counted_and_listed(tmp_path: Path, ontology: Ontology) -> None:
    fasta, table, tally = tmp_path / "a.fasta", tmp_path / "t.tsv", Tally()
    fasta.write_text(">a\nMK\n>b\nMA\n")
    table.write_text(f"a\t{ZINC}\na\tGO:0000008\na\tGO:77\nb\tGO:0000008\nb\t{ION}\n")
    found = [record.label for record in read_records(fasta, labels=table, ontology=ontology, tally=tally)]
    assert found == [ZINC, ION]
    assert tally.lines() == [
        "2 records read",
        "3 rows left out, of 2 terms that the ontology does not know:",
        "  GO:0000008, GO:77",
    ]


@pytest.mark.parametrize(("inside", "listed"), [("sp|P1|A_HUMAN", "P1"), ("P1", "tr|P1|A_HUMAN"), ("x|P1|y", "x|P1|y")])
def test_a_uniprot_header_is_joined_by_its_accession(
    tmp_path: Path, ontology: Ontology, inside: str, listed: str
) -> None:
    fasta, table = tmp_path / "a.fasta", tmp_path / "t.tsv"
    fasta.write_text(f">{inside} some protein\nMK\nTA\n")
    table.write_text(f"{listed}\t{ZINC}\tF\n{listed}\t{NUCLEUS}\tC\n")
    [record] = read_records(fasta, labels=table, ontology=ontology)
    assert (record.protein, record.label) == (Protein(inside, "MKTA"), f"{ZINC} {NUCLEUS}")
    table.write_text(f"{listed}\tkinase\n")
    assert [record.label for record in read_records(fasta, labels=table)] == ["kinase"]


def test_two_headers_of_one_accession_are_one_id_twice(tmp_path: Path, ontology: Ontology) -> None:
    fasta, table = tmp_path / "a.fasta", tmp_path / "t.tsv"
    fasta.write_text(">sp|P1|A\nMK\n>P1\nMA\n")
    table.write_text(f"P1\t{ZINC}\tF\n")
    with pytest.raises(DataError, match=r"a.fasta:3: record 'P1': this id stands at .*a.fasta:1 too"):
        list(read_records(fasta, labels=table, ontology=ontology))


def test_a_protein_without_a_known_term_is_a_bad_record(tmp_path: Path, ontology: Ontology) -> None:
    fasta, table, tally = tmp_path / "a.fasta", tmp_path / "t.tsv", Tally()
    fasta.write_text(">a\nMK\n>b\nMA\n>c\nMC\n")
    table.write_text(f"a\t{ZINC}\nb\tGO:0000008\n")
    with pytest.raises(DataError, match=r"a.fasta:3: record 'b': no known term in the labels table; add its id"):
        list(read_records(fasta, labels=table, ontology=ontology))
    kept = read_records(fasta, labels=table, ontology=ontology, on_bad="skip", tally=tally)
    assert [record.protein.id for record in kept] == ["a"]
    assert [bad.id for bad in tally.bad] == ["b", "c"]


@pytest.mark.parametrize(
    "text", [f"EntryID\tterm\taspect\na\t{ZINC}\tF\n", f"a\t{ZINC}\tF\n", f"a\t{ZINC}\na\t{ION}\n"]
)
def test_without_an_ontology_a_table_of_terms_says_what_to_give(tmp_path: Path, text: str) -> None:
    fasta, table = tmp_path / "a.fasta", tmp_path / "t.tsv"
    fasta.write_text(">a\nMK\n")
    table.write_text(text)
    with pytest.raises(
        DataError, match="a table of Gene Ontology terms, several a protein; give the ontology, too: --obo"
    ):
        read_records(fasta, labels=table)


def test_an_ontology_without_a_table_of_terms_is_refused(tmp_path: Path, ontology: Ontology) -> None:
    fasta, _ = write_cafa(tmp_path)
    with pytest.raises(UsageError, match="is for a table of terms; name it, too"):
        read_records(fasta, ontology=ontology)


# split


def test_a_split_of_many_labels_is_drawn_by_sequence_at_random(ontology: Ontology) -> None:
    rows = records(*(("M" + "ACDE"[n % 4] * (n // 4 + 1), ZINC, None) for n in range(200)), ("MA", NUCLEUS, None))
    dataset, report, _ = build(rows, ontology=ontology)
    assert (report.kind, [dataset.parts.count(part) for part in ("validation", "test")]) == ("random", [20, 20])
    assert report.lines()[0] == "random split: 80 % train, 10 % validation, 10 % test (seed 0)"
    again, _, _ = build(rows[::-1], ontology=ontology)
    assert again.split_digest() == dataset.split_digest()
    assert build(rows, seed=1, ontology=ontology).dataset.split_digest() != dataset.split_digest()


def test_a_tenth_of_train_becomes_validation_though_every_set_of_terms_stands_once(ontology: Ontology) -> None:
    sets = [f"{BINDING} GO:{n}" for n in range(50)]
    rows = records(*(("M" + "A" * (n + 1), one, "train") for n, one in enumerate(sets)), ("MC", TRANSPORT, "test"))
    dataset, report, _ = build(rows, ontology=ontology)
    assert (report.drawn_validation, dataset.parts.count("train")) == (5, 45)
    assert report.lines()[-1] == "warning: 2 terms without a training protein; never predicted"


# workspace


def test_a_workspace_keeps_ontology_and_direct_terms_and_gives_propagated_sets(
    tmp_path: Path, ontology: Ontology
) -> None:
    dataset = Dataset(["a", "b"], ["MA", "MC"], [f"{ION} {METAL}", f"{NUCLEUS} {F}"], ["train", "test"])
    Workspace.open(tmp_path / "w", create=True).set_dataset(dataset, SplitReport("given"), ontology=ontology)
    place = Workspace.open(tmp_path / "w")
    assert place.has_terms
    assert place.ontology is not None
    assert place.ontology.digest() == ontology.digest()
    assert place.term_sets(place.dataset).names() == [(BINDING, ION, METAL), (NUCLEUS,)]
    train = place.term_sets(place.dataset.part("train"))
    assert (train.classes, train.groups) == ((BINDING, ION, METAL), ("F", "F", "F"))
    assert place.state()["dataset"]["classes"] == 4


def test_propagation_that_is_switched_off_is_remembered(tmp_path: Path, ontology: Ontology) -> None:
    dataset = Dataset(["a"], ["MA"], [f"{ION} {METAL}"], ["train"])
    Workspace.open(tmp_path, create=True).set_dataset(dataset, SplitReport("given"), (), ontology, propagate=False)
    assert Workspace.open(tmp_path).term_sets(dataset).names() == [(ION, METAL)]


def test_a_workspace_of_one_label_has_no_ontology_and_says_so(tmp_path: Path, ontology: Ontology) -> None:
    place, dataset = Workspace.open(tmp_path, create=True), Dataset(["a"], ["MA"], [ION], ["train"])
    place.set_dataset(dataset, SplitReport("given"), ontology=ontology)
    place.set_dataset(dataset, SplitReport("given"))
    assert not (tmp_path / "ontology.json").exists()
    for one in (place, Workspace.open(tmp_path)):
        assert (one.has_terms, one.ontology) == (False, None)
        with pytest.raises(
            WorkspaceError, match="one label each, not terms; embed them with --labels TABLE --obo FILE"
        ):
            one.term_sets(dataset)


def test_a_changed_ontology_file_is_refused(tmp_path: Path, ontology: Ontology) -> None:
    dataset = Dataset(["a"], ["MA"], [ION], ["train"])
    Workspace.open(tmp_path, create=True).set_dataset(dataset, SplitReport("given"), ontology=ontology)
    (tmp_path / "ontology.json").write_text("{}")
    with pytest.raises(WorkspaceError, match=r"ontology.json: its content is not what workspace.json says; run: "):
        Workspace.open(tmp_path).ontology  # noqa: B018


def test_models_hold_on_to_the_ontology_they_were_fitted_with(tmp_path: Path, ontology: Ontology) -> None:
    place, dataset = Workspace.open(tmp_path, create=True), Dataset(["a"], ["MA"], [ION], ["train"])
    place.set_dataset(dataset, SplitReport("given"), ontology=ontology)
    (tmp_path / "models" / "m").mkdir(parents=True)
    (tmp_path / "models" / "m" / "manifest.json").write_text("{}")
    place.set_dataset(dataset, SplitReport("given"), ontology=ontology)
    for changes in ({}, {"ontology": ontology, "propagate": False}):
        with pytest.raises(WorkspaceError, match="were fitted on another dataset or split"):
            place.set_dataset(dataset, SplitReport("given"), **changes)


# commands


def test_cafas_files_become_the_data_set_of_a_workspace(tmp_path: Path, ontology: Ontology) -> None:
    fasta, table = write_cafa(tmp_path)
    test, test_terms = tmp_path / "late.fasta", tmp_path / "late.tsv"
    test.write_text(">Q1\nMWWW\nKK\n")
    test_terms.write_text(f"Q1\t{METAL}\tMFO\n")
    tables = ("--labels", table, "--labels", test_terms, "--obo", tmp_path / "go.obo")
    options = ("--encoder", "composition", "-w", tmp_path / "w")
    ran = done("embed", fasta, *tables, "--test", test, *options)
    assert "41 sequences, 41 distinct: 41 embedded" in ran.out
    assert "esmcls: no validation part given: 4 of train drawn for it (seed 0)" in ran.err
    place = Workspace.open(tmp_path / "w")
    assert place.dataset.part("test").labels == [METAL]
    assert set(place.dataset.labels) == {f"{ZINC} {TRANSPORT}", NUCLEUS, METAL}
    assert [Path(file["path"]).name for file in place.state()["dataset"]["files"]] == [
        "train_sequences.fasta", "late.fasta", "train_terms.tsv", "late.tsv", "go.obo"
    ]  # fmt: skip
    assert done("embed", *options).err.startswith(f"esmcls: no INPUT: the dataset of {tmp_path / 'w'} again")
    assert Workspace.open(tmp_path / "w").has_terms


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("embed", "{fasta}", "--labels", "{table}"), "a table of Gene Ontology terms, several a protein; give the "),
        (("embed", "{fasta}", "--obo", "{obo}"), "an ontology (--obo) is for a table of terms; name it, too"),
        (("embed", "{fasta}", "--no-propagate"), "--no-propagate belongs to --obo FILE; give that, too"),
        (("data", "stats", "--obo", "{obo}"), "--labels and --obo belong to an INPUT; name it, too"),
    ],
)  # fmt: skip
def test_what_is_missing_beside_terms_is_said(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    fasta, table = write_cafa(tmp_path)
    files = {"fasta": fasta, "table": table, "obo": write_obo(tmp_path / "go.obo")}
    ran = run(*(word.format(**files) for word in words), "-w", tmp_path / "w")
    assert ran.code in (1, 2)
    assert message in ran.err


# statistics


def test_statistics_count_terms_by_protein_frequency_and_aspect(ontology: Ontology) -> None:
    rows = [("MA", ZINC, None)] * 6 + [("MC" * 4, f"{BINDING} {NUCLEUS}", None)] * 45
    found = describe_terms(records(*rows), ontology, limit=5)
    assert found.buckets["F"] == {"1-5": 0, "6-10": 3, "11-50": 0, "51-500": 1, ">500": 0}
    assert found.buckets["C"] == {"1-5": 0, "6-10": 0, "11-50": 1, "51-500": 0, ">500": 0}
    assert (found.covered, found.terms, found.cut) == ({"C": 45, "F": 51, "P": 0}, 5, 45)
    told = found.to_json()["terms_a_protein"]
    assert told == {
        "direct": {"median": 2.0, "mean": 1.88, "most": 2},
        "propagated": {"median": 2.0, "mean": 2.24, "most": 4},
    }


def test_statistics_of_a_part_are_of_its_proteins_alone(ontology: Ontology) -> None:
    rows = records(("MA", ZINC, None), ("MC", NUCLEUS, "test"), ("MD", ION, "train"))
    assert describe_terms(rows, ontology, part="train").covered == {"C": 0, "F": 2, "P": 0}
    assert describe_terms(rows, ontology, part="test").propagated.tolist() == [1]


def test_statistics_of_an_input_and_of_its_workspace_are_the_same_but_for_parts(tmp_path: Path) -> None:
    fasta, table = write_cafa(tmp_path)
    obo = write_obo(tmp_path / "go.obo")
    given = done("data", "stats", fasta, "--labels", table, "--obo", obo, "-o", tmp_path / "stats").out
    assert "terms a protein  median  mean  most\ndirect              1.5   1.5     2\n" in given
    assert "\npropagated            3   3.0     5\n" in given
    assert "\nmolecular_function             0     0      4       0     0\n" in given
    assert "proteins with a term of  number  percent\ncellular_component           20    50.00\n" in given
    assert "family" not in given
    kept = json.loads((tmp_path / "stats" / "stats.json").read_text())
    assert (kept["terms"], kept["covered"], "families" in kept) == (6, {"C": 20, "F": 20, "P": 20}, False)
    assert sorted(path.name for path in (tmp_path / "stats").iterdir()) == ["stats.html", "stats.json"]
    done("embed", fasta, "--labels", table, "--obo", obo, "--encoder", "composition", "-w", tmp_path / "w")
    ours = done("data", "stats", "-w", tmp_path / "w").out
    parts = "part        sequences\ntrain              32\nvalidation          4\ntest                4\n\n"
    assert ours.replace(parts, "") == given


def test_a_workspace_of_families_is_described_as_its_files_are(tmp_path: Path) -> None:
    csv = tmp_path / "a.csv"
    csv.write_text("sequence,label,split\nMA,x,train\nMC,y,validation\nMD,x,test\n")
    done("embed", csv, "--encoder", "composition", "-w", tmp_path / "w")
    assert done("data", "stats", "-w", tmp_path / "w").out == done("data", "stats", csv).out


def test_tables_are_read_once_for_all_parts(
    tmp_path: Path, ontology: Ontology, monkeypatch: pytest.MonkeyPatch
) -> None:
    fasta, table = write_cafa(tmp_path)
    test, calls, of = tmp_path / "late.fasta", list[object](), TermTable.of.__func__  # type: ignore[attr-defined]
    test.write_text(">P00001\nMW\n")
    monkeypatch.setattr(TermTable, "of", classmethod(lambda *args: calls.append(args) or of(*args)))
    intake = take_in(Inputs((fasta,), (), (test,), (table,), obo=tmp_path / "go.obo"))
    assert (len(calls), len(intake.dataset), intake.tally.unused_labels) == (1, 41, 0)


def test_terms_of_an_ontology_are_no_labels_of_another_kind(tmp_path):
    with pytest.raises(UsageError, match=r"an ontology .--obo. is for its terms, not for --task one-label"):
        Inputs((tmp_path / "a.fasta",), obo=tmp_path / "go.obo", task="one-label")
    with pytest.raises(UnknownNameError, match="one-lable"):
        Inputs((tmp_path / "a.fasta",), task="one-lable")
