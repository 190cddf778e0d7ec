"""A hierarchy of classes: what lies under what, by codes with dots or by a table, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import done, run

from esmcls.errors import DataError, FolderError, UsageError, WorkspaceError
from esmcls.files import STATE
from esmcls.labels.hierarchy import ClassTree, Hierarchy
from esmcls.reading.inputs import Inputs
from esmcls.workspace.intake import take_in
from esmcls.workspace.read_hierarchy import LabelPlaces, Place, read_hierarchy, read_parents
from esmcls.workspace.workspace import Workspace

CLANS = "family\tclan\nPF1\tCL1\nPF2\tCL1\nPF3\tCL2\nPF4\t\n"
LETTERS = {"1.1.1": "A", "1.1.2": "G", "2.1.1": "K"}


def labels_of(*names: str) -> LabelPlaces:
    """Return labels as if each were met in a line of its own of set.csv."""
    places = LabelPlaces()
    places.first = {name: Place("set.csv", line, f"p{line}") for line, name in enumerate(names, 2)}
    return places


def write_set(path: Path, labels: dict[str, str] = LETTERS) -> Path:
    """Write four proteins a class as CSV, each class rich in a letter."""
    rows = [
        f"{letter}{number},M{letter * (12 + number)}LIVE,{label}"
        for label, letter in labels.items()
        for number in range(4)
    ]
    path.write_text("\n".join(["id,sequence,label", *rows]) + "\n")
    return path


def table(folder: Path, text: str) -> Path:
    path = folder / "parents.tsv"
    path.write_text(text)
    return path


# codes with dots


def test_a_code_lies_under_each_of_its_beginnings() -> None:
    assert Hierarchy.of_dots(["1.10.8.10"]).path("1.10.8.10") == ("1", "1.10", "1.10.8", "1.10.8.10")


@pytest.mark.parametrize("code", ["1.1.-.-", "1.1.-", "1.1"])
def test_a_partial_code_is_an_inner_node_however_it_is_written(code: str) -> None:
    hierarchy = Hierarchy.of_dots(["1.1.1.1", code], "ec")
    assert hierarchy.path(code) == ("1", "1.1")
    assert hierarchy.says_all("1.1.1.1")
    assert not hierarchy.says_all(code)


def test_levels_have_the_names_of_cath_or_ec_where_these_are_enough() -> None:
    assert Hierarchy.of_dots(["3.40.50"], "cath").levels == ("class", "architecture", "fold")
    assert Hierarchy.of_dots(["1.1.1.1"], "ec").levels == ("class", "subclass", "sub-subclass", "serial number")
    assert Hierarchy.of_dots(["1.2"]).levels == ("level 1", "level 2")
    assert Hierarchy.of_dots(["1.2.3.4.5"], "cath").levels[-1] == "level 5"


def test_a_label_that_is_no_code_is_told_with_its_line() -> None:
    with pytest.raises(
        DataError, match=r"^set.csv:3: record 'p3': label 'kinase', no code with dots \(--hierarchy dots\); give"
    ):
        read_hierarchy("dots", labels_of("1.1", "kinase"))


@pytest.mark.parametrize("label", ["1..2", "1.-.3", "-.1", "7"])
def test_a_code_with_a_gap_or_without_dots_is_refused(label: str) -> None:
    with pytest.raises(DataError, match="no code with dots"):
        read_hierarchy("dots", labels_of("1.1", label))


def test_the_beginning_of_other_codes_is_a_label_without_dots_that_counts_where_it_ends() -> None:
    hierarchy, lines = read_hierarchy("ec", labels_of("1.1", "1"))
    assert hierarchy.path("1") == ("1",)
    assert lines[1] == "1 of 2 classes are not of the last level (1): they count at the levels that they name"


def test_two_labels_of_one_node_are_refused_with_the_line_of_the_second() -> None:
    with pytest.raises(
        DataError, match=r"^set.csv:4: record 'p4': labels '1.1' and '1.1.-.-', two of one node; write it one way"
    ):
        read_hierarchy("ec", labels_of("1.1", "1.2", "1.1.-.-"))


# a table


def test_a_table_names_parents_and_its_header_the_levels(tmp_path: Path) -> None:
    hierarchy, lines = read_hierarchy(table(tmp_path, CLANS), labels_of("PF1", "PF2", "PF3", "PF4", "PF9"))
    assert hierarchy.levels == ("clan", "family")
    assert [hierarchy.path(name) for name in ("PF1", "PF4", "PF9")] == [("CL1", "PF1"), ("PF4",), ("PF9",)]
    assert lines == [
        "hierarchy: 2 levels (clan, family), table of 3",
        "2 of 5 classes have no parent there (PF4, PF9): each stands alone",
    ]


def test_classes_with_a_version_are_found_in_a_table_without_and_that_is_told(tmp_path: Path) -> None:
    hierarchy, lines = read_hierarchy(table(tmp_path, CLANS), labels_of("PF1.23", "PF2.4", "PF4.1", "PF3"))
    assert hierarchy.path("PF1.23") == ("CL1", "PF1.23")
    assert lines[1:] == [
        "2 classes stand there without their version (PF1.23 as PF1, …)",
        "1 of 4 classes have no parent there (PF4.1): each stands alone",
    ]


def test_a_table_may_go_deeper_and_unevenly_and_needs_no_header(tmp_path: Path) -> None:
    path = table(tmp_path, "a1\tA\nA\ttop\nb1\tother\n")
    hierarchy, _ = read_hierarchy(path, labels_of("a1", "b1", "A"))
    assert hierarchy.levels == ("level 1", "level 2", "level 3")
    assert hierarchy.path("a1") == ("top", "A", "a1")
    assert hierarchy.path("b1") == ("other", "b1")
    assert [hierarchy.says_all(name) for name in ("a1", "b1", "A")] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\tb\nb\tc\nc\ta\n", "parents.tsv:3: a circle: a under b under c under a; leave one of these lines out"),
        ("a\ta\n", "parents.tsv:1: a circle: a under a; leave one of these lines out"),
        ("a\tx\nb\tx\na\ty\n", "parents.tsv:3: record 'a': a under y here, under x in line 1; leave one parent each"),
        ("a\tx\nb x\n", "parents.tsv:2: 1 cell where child and parent are to stand; give two, tab-separated"),
        ("a\tx\na\tb\tx\n", "parents.tsv:2: 3 cells where child and parent are to stand; give two, tab-separated"),
        ("a\t\n", "parents.tsv: no child with a parent; give a line each, tab-separated: child, then parent"),
        ("", "parents.tsv: no child with a parent; give a line each, tab-separated: child, then parent"),
    ],
)
def test_what_is_wrong_in_a_table_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError) as error:
        read_parents(table(tmp_path, text))
    assert str(error.value) == f"{tmp_path}/{said}"


def test_the_same_line_twice_is_no_second_parent(tmp_path: Path) -> None:
    assert read_parents(table(tmp_path, "a\tx\na\tx\n")) == ({"a": "x"}, ())


def test_a_table_of_other_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"parents.tsv: no parent of any class, such as 'kinase'; give a table"):
        read_hierarchy(table(tmp_path, CLANS), labels_of("kinase"))


def test_a_table_may_be_packed_and_of_commas(tmp_path: Path) -> None:
    path = tmp_path / "parents.csv"
    path.write_text('child,parent\n"a, the first",x\nb,x\n')
    assert read_parents(path) == ({"a, the first": "x", "b": "x"}, ("child", "parent"))


# classes as arrays


def test_answers_are_right_down_to_where_they_agree() -> None:
    classes = ["1.1.1", "1.1.2", "1.2.1", "2.1.1", "1.1.-"]
    tree = ClassTree.of(Hierarchy.of_dots(classes), classes)
    truth, said = np.array([0, 0, 0, 0, 0, 4, 4]), np.array([0, 1, 2, 3, 4, 4, 0])
    assert tree.agreement(truth, said).tolist() == [3, 2, 1, 0, 2, 2, 2]
    assert tree.right_at(truth, said)[:, 2].tolist() == [True, False, False, False, False, True, False]
    assert tree.counts_at(truth).tolist() == [[True] * 3] * 5 + [[True, True, False]] * 2


def test_a_class_that_stands_alone_counts_at_every_level() -> None:
    hierarchy = Hierarchy(("clan", "family"), {"PF1": "CL1", "PF2": "CL1"})
    tree = ClassTree.of(hierarchy, ["PF1", "PF2", "PF4"])
    truth, said = np.array([2, 2, 0]), np.array([2, 0, 2])
    assert tree.counts_at(truth).all()
    assert tree.right_at(truth, said).tolist() == [[True, True], [False, False], [False, False]]


# files


def test_a_hierarchy_is_read_as_it_was_written(tmp_path: Path) -> None:
    for hierarchy in (Hierarchy.of_dots(["1.1"]), Hierarchy(("clan", "family"), {"PF1": "CL1"})):
        hierarchy.save(tmp_path / "h.json")
        again = Hierarchy.load(tmp_path / "h.json")
        assert again == hierarchy
        assert again.digest() == hierarchy.digest()


@pytest.mark.parametrize(
    "damage",
    [{"format": 2}, {"levels": []}, {"levels": ["a", "a"]}, {"parents": {"a": "b", "b": "a"}}, {"dots": "yes"}],
)
def test_a_damaged_file_is_told(tmp_path: Path, damage: dict[str, object]) -> None:
    path = tmp_path / "h.json"
    Hierarchy(("clan", "family"), {"PF1": "CL1"}).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(FolderError, match=r"h\.json"):
        Hierarchy.load(path)


# a workspace


def test_a_workspace_remembers_the_hierarchy_of_its_labels(tmp_path: Path) -> None:
    place = tmp_path / "w"
    embed = ("embed", write_set(tmp_path / "set.csv"), "--encoder", "composition", "-w", place)
    assert (
        "esmcls: hierarchy: 3 levels (level 1, level 2, level 3), codes with dots"
        in done(*embed, "--hierarchy", "dots").err
    )
    assert "hierarchy: 3 levels (level 1, level 2, level 3), codes with dots" in done("info", place).out
    done(*embed, "--quiet")  # the same labels again
    assert Workspace.open(place).hierarchy is not None
    done("embed", write_set(tmp_path / "b.csv", LETTERS | {"3.1.1": "W"}), "--encoder", "composition", "-w", place)
    assert Workspace.open(place).hierarchy is None  # these are others


def test_a_hierarchy_may_be_named_later_without_the_input(tmp_path: Path) -> None:
    place = tmp_path / "w"
    done("embed", write_set(tmp_path / "set.csv"), "--encoder", "composition", "-w", place)
    assert Workspace.open(place).hierarchy is None
    ran = done("embed", "--hierarchy", "cath", "--encoder", "composition", "-w", place)
    assert "12 distinct: 0 embedded" in ran.out
    hierarchy = Workspace.open(place).hierarchy
    assert hierarchy is not None
    assert hierarchy.levels == ("class", "architecture", "fold")


def test_imported_vectors_can_come_with_a_hierarchy(tmp_path: Path) -> None:
    data = write_set(tmp_path / "set.csv")
    names = [line.split(",")[0] for line in data.read_text().splitlines()[1:]]
    np.savez(tmp_path / "vectors.npz", ids=np.array(names), vectors=np.eye(len(names), dtype=np.float32))
    words = ("import", tmp_path / "vectors.npz", "--sequences", data, "--hierarchy", "dots", "-w", tmp_path / "w")
    assert "hierarchy: 3 levels" in done(*words).err
    assert Workspace.open(tmp_path / "w").hierarchy is not None


def test_a_hierarchy_file_that_was_changed_is_told(tmp_path: Path) -> None:
    place = tmp_path / "w"
    embed = ("embed", write_set(tmp_path / "set.csv"), "--encoder", "composition", "-w", place)
    done(*embed, "--hierarchy", "dots")
    (place / "hierarchy.json").write_text("{}")
    with pytest.raises(WorkspaceError, match=r"hierarchy\.json: its content is not what workspace.json says"):
        _ = Workspace.open(place).hierarchy
    state = json.loads((place / STATE).read_text())
    (place / STATE).write_text(json.dumps(state | {"hierarchy": 7}))
    with pytest.raises(WorkspaceError, match="not the state of a workspace"):
        Workspace.open(place)


def test_the_line_of_a_bad_label_is_that_of_the_file(tmp_path: Path) -> None:
    path = write_set(tmp_path / "set.csv", LETTERS | {"kinase": "W"})
    ran = run("embed", path, "--hierarchy", "dots", "--encoder", "composition", "-w", tmp_path / "w")
    assert ran.code == 1
    assert ran.err.splitlines()[-1].startswith(
        f"esmcls: error: {path}:14: record 'W0': label 'kinase', no code with dots"
    )
    assert not (tmp_path / "w" / "dataset.parquet").exists()


def test_a_hierarchy_is_for_one_label_a_protein(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave --hierarchy out"):
        Inputs((tmp_path / "a.fasta",), obo=tmp_path / "go.obo", hierarchy="dots")
    bare = tmp_path / "bare.fasta"
    bare.write_text(">a\nMKT\n")
    with pytest.raises(DataError, match="no label"):
        take_in(Inputs((bare,), hierarchy="dots"))
