"""Numbers among labels: recognised, told apart from names of classes, refused where one is none; columns by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import done, run

from esmcls.datasets.dataset import Built, build
from esmcls.datasets.held_out import Shares, set_aside
from esmcls.errors import DataError
from esmcls.labels.numbers import Numbers, tenths
from esmcls.reading.inputs import Inputs
from esmcls.reading.records import Protein, Record, Tally
from esmcls.workspace.intake import take_in


def record(number: int, label: str, part: str | None = None) -> Record:
    sequence = "MKT" + "ACDEFGHIKL"[number % 10] * (10 + number // 10)
    return Record(Protein(f"p{number}", sequence), label, part, "s.csv", number + 2)


def built(labels: list[str], task: str | None = None) -> Built:
    return build([record(number, label) for number, label in enumerate(labels)], task=task)


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# what labels are taken for


@pytest.mark.parametrize(
    "labels",
    [
        ["37.5", "40.1", "61.25"],
        ["0.34", "1", "0"],
        ["-1.5e-3", "+2", ".5"],
        [f"{number / 100:.2f}" for number in range(40)],
    ],
)
def test_amounts_are_taken_for_numbers(labels: list[str]) -> None:
    assert built(labels).task == "number"


@pytest.mark.parametrize("labels", [["1", "2", "3"], ["0", "1"], ["1.10.8", "2.40", "3"], ["1", "2", "x"], ["1", "NA"]])
def test_a_handful_of_whole_numbers_and_codes_are_names_of_classes(labels: list[str]) -> None:
    assert built(labels).task == "one-label"


@pytest.mark.parametrize(
    "labels", [[str(number) for number in range(40)], ["1.0", "2.0", "3.0"], ["1.10", "2.40", "3.105"]]
)
def test_what_may_be_either_is_asked_about_and_taken_as_the_user_says(labels: list[str]) -> None:
    with pytest.raises(DataError, match="that may be names of classes, or amounts; say which: --task one-label or"):
        built(labels)
    assert built(labels, "number").task == "number"
    assert built(labels, "one-label").task == "one-label"


@pytest.mark.parametrize("text", ["nan", "NA", "n/a", "inf", "-", "> 95", "37,5", "1_000", "1e999"])
def test_a_value_that_is_none_is_told_with_its_file_line_and_id(text: str) -> None:
    with pytest.raises(DataError) as caught:
        built(["37.5", "40.1", text, "61.5"])
    assert str(caught.value).startswith(
        f"s.csv:4: record 'p2': value {text!r}, where a number is expected; give a number"
    )
    assert "--task one-label" in str(caught.value)


def test_names_are_no_numbers_where_the_user_says_number() -> None:
    with pytest.raises(DataError, match=r"s.csv:3: record 'p1': value 'kinase', where a number is expected"):
        built(["1.5", "kinase"], "number")


def test_numbers_are_what_texts_say_and_all_finite() -> None:
    numbers = Numbers.from_texts(["1.50", "-2e1"])
    assert numbers.values.tolist() == [1.5, -20.0]
    assert numbers.take([1, 0]).values.tolist() == [-20.0, 1.5]
    assert (numbers.classes, numbers.n_classes, numbers.counts().tolist(), len(numbers)) == ((), 0, [], 2)
    with pytest.raises(ValueError, match="value 'nan', where a number is expected"):
        Numbers.from_texts(["nan"])
    with pytest.raises(ValueError, match="not finite"):
        Numbers(np.array([np.inf]))
    with pytest.raises(ValueError, match="2 dimensions instead of 1"):
        Numbers(np.zeros((2, 2)))


# the split


def test_each_part_of_a_drawn_split_has_its_share_of_small_and_large_numbers() -> None:
    values = np.random.default_rng(0).normal(size=200).round(3)
    dataset = built([str(value) for value in values]).dataset
    for part in ("validation", "test"):
        held = np.array([float(label) for label in dataset.part(part).labels])
        assert len(held) == 20
        below = np.array([(held < cut).mean() for cut in np.quantile(values, [0.25, 0.5, 0.75])])
        np.testing.assert_allclose(below, [0.25, 0.5, 0.75], atol=0.11)


def test_equal_numbers_stand_in_one_bin_and_bins_are_about_as_large() -> None:
    names = tenths([str(number % 20) for number in range(100)])
    assert len(set(names)) == 10
    assert len(set(names[::20])) == 1


def test_one_sequence_with_two_values_is_told_of_and_one_value_written_in_two_ways_is_not(tmp_path: Path) -> None:
    rows = "a,MKTAYIAKQR,1.5\nb,MKTAYIAKQR,2.5\nc,MKTAYIAKQW,3.0\nd,MKTAYIAKQW,3.00\ne,MKTAYIAKQY,4.5\n"
    path = table(tmp_path / "s.csv", "id,sequence,target\n" + rows)
    lines = take_in(Inputs((path,))).lines()
    assert "warning: 1 sequence with more than one value; all kept" in lines
    assert any(line.startswith("task: number, 5 values from 1.5 to 4.5; records: ") for line in lines)


def test_names_that_are_numbers_are_told_of(tmp_path: Path) -> None:
    path = table(tmp_path / "s.csv", "id,sequence,label\na,MKTAYIAKQR,1\nb,MKTAYIAKQW,2\n")
    lines = take_in(Inputs((path,))).lines()
    assert (
        "labels are numbers (1, 2, …: 2 different ones), taken for names of classes; amounts are --task number" in lines
    )


def test_calibration_rows_of_numbers_are_drawn_though_hardly_any_recurs() -> None:
    dataset = built([f"{number}.5" for number in range(100)]).dataset
    apart = set_aside(dataset, Shares(calibration=0.2))
    assert len(apart.calibration) == 16
    assert not set(apart.calibration.sequences) & set(apart.kept.sequences)
    assert len(apart.kept) + 16 == 100


# columns by their name

GB1 = """\
sequence,target,one_vs_rest,three_vs_rest
MKTAYIAKQR,1.5,train,train
MKTAYIAKQW,0.5,test,train
MKTAYIAKQY,2.25,test,test
"""


def test_the_column_of_parts_is_the_one_that_is_named(tmp_path: Path) -> None:
    path = table(tmp_path / "gb1.csv", GB1)
    parts = [record.part for record in Inputs((path,), split_column="three_vs_rest").records(Tally())]
    assert parts == ["train", "train", "test"]


def test_columns_that_say_parts_are_told_of_where_none_is_named(tmp_path: Path) -> None:
    path = table(tmp_path / "gb1.csv", GB1)
    intake = take_in(Inputs((path,)))
    told = f"{path}: one_vs_rest, three_vs_rest say parts, and none was taken: choose one with --split-column NAME"
    assert told in intake.lines()
    assert not any("say parts" in line for line in take_in(Inputs((path,), split_column="one_vs_rest")).lines())


def test_flips_validation_column_is_read_beside_one_of_parts_that_is_named(tmp_path: Path) -> None:
    rows = "MKTAYIAKQR,1.5,train,True\nMKTAYIAKQW,0.5,train,False\nMKTAYIAKQY,2.5,test,False\n"
    path = table(tmp_path / "s.csv", "sequence,target,mine,validation\n" + rows)
    parts = [record.part for record in Inputs((path,), split_column="mine").records(Tally())]
    assert parts == ["validation", "train", "test"]


def test_a_split_of_flips_is_read_for_numbers_as_it_is_published(tmp_path: Path) -> None:
    rows = [
        f"MKTAYIAK{'ACDEFGHIKL'[number % 10]}{'MNPQRSTVWY'[number // 10]},{number * 0.37 - 2:.4f},"
        f"{'test' if number % 4 == 3 else 'train'},{('', 'True', '', 'False')[number % 4]}\n"
        for number in range(40)
    ]
    path = table(tmp_path / "two_vs_many.csv", "sequence,target,set,validation\n" + "".join(rows))
    intake = take_in(Inputs((path,)))
    assert intake.dataset.task == "number"
    assert intake.dataset.labels[:2] == ["-2.0000", "-1.6300"]
    assert intake.dataset.parts[:4] == ["train", "validation", "train", "test"]
    assert not any("not read" in line for line in intake.lines())


def test_the_column_of_labels_is_the_one_that_is_named_in_any_table(tmp_path: Path) -> None:
    path = table(tmp_path / "s.tsv", "set\ttm_celsius\tsequence\ntrain\t47.7\tMKTAYIAKQR\ntest\t46.5\tMKTAYIAKQW\n")
    labels = [record.label for record in Inputs((path,), label_column="tm_celsius").records(Tally())]
    assert labels == ["47.7", "46.5"]
    fasta = table(tmp_path / "s.fasta", ">a\nMKTAYIAKQR\n")
    labels_table = table(tmp_path / "l.tsv", "id\tfamily\ttm\na\tF1\t47.7\n")
    records = Inputs((fasta,), labels=labels_table, label_column="tm").records(Tally())
    assert [record.label for record in records] == ["47.7"]


def test_a_column_that_is_not_there_is_an_error_that_names_those_that_are(tmp_path: Path) -> None:
    path = table(tmp_path / "gb1.csv", GB1)
    with pytest.raises(DataError) as caught:
        list(Inputs((path,), split_column="two_vs_rest").records(Tally()))
    columns = "sequence, target, one_vs_rest, three_vs_rest"
    assert str(caught.value) == f"{path}:1: no column 'two_vs_rest'; its columns are {columns}; name one of them"


# before anything is embedded


def test_statistics_of_numbers_tell_how_they_are_spread(tmp_path: Path) -> None:
    rows = "".join(f"p{number},MKTAYIAK{'ACDEF'[number % 5] * 3},{number}.5\n" for number in range(11))
    path = table(tmp_path / "s.csv", "id,sequence,target\n" + rows)
    ran = done("data", "stats", path, "-o", tmp_path / "stats")
    values = {line.split()[0]: line.split()[-1] for line in ran.out.splitlines() if line}
    assert (values["smallest"], values["largest"], values["standard"]) == ("0.5", "10.5", "3.16228")
    told = json.loads((tmp_path / "stats" / "stats.json").read_text())
    assert (told["mean"], told["ambiguous"], told["values"]["median"]) == (5.5, 5, 5.5)
    assert "families" not in told


def test_numbers_have_no_families_to_draw_of_but_parts_can_be_drawn(tmp_path: Path) -> None:
    rows = "".join(f"p{number},MKTAYIAK{'ACDEFGHIKL'[number]},{number}.5\n" for number in range(10))
    path = table(tmp_path / "s.csv", "id,sequence,target\n" + rows)
    ran = run("data", "stratify", path, "--total", "5", "-o", tmp_path / "out.csv", "--quiet")
    assert (ran.code, ran.err) == (
        1,
        "esmcls: error: input: labels are numbers: there are no families to draw of; draw parts: esmcls data split\n",
    )
    done("data", "split", path, "--fractions", "0.6,0.2,0.2", "-o", tmp_path / "out.csv")
    parts = [line.rsplit(",", 1)[1] for line in (tmp_path / "out.csv").read_text().splitlines()[1:]]
    assert (parts.count("train"), parts.count("test")) == (6, 2)
