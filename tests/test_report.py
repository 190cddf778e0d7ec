"""The report holds a comparison's numbers as they are, in words that follow from them, and asks for nothing else."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import compared
import pytest
from compared import ACCURACIES, LEFT_OUT, NAMES, a_comparison, a_timing

from esmcls.reporting import report as frame
from esmcls.tasks.one_label import report
from esmcls.tasks.one_label.figures import FIGURES
from esmcls.tasks.one_label.results import OneLabelReport

VOID = {"meta", "br", "link", "img", "input", "hr"}
EVIL = "<script>alert('&amp;')</script> & \"x\""
COST = '<section id="cost">'


class Outline(HTMLParser):
    """Reads a page and notes what is open, and its ids, references, tags and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: set[str] = set()
        self.tags: set[str] = set()
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open += [] if tag in VOID else [tag]
        self.handle_startendtag(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids += [values["id"]] if "id" in values else []
        self.references |= {found for value in values.values() for found in re.findall(r"url\(#(.*?)\)", value)}
        self.references |= {value.removeprefix("#") for name, value in values.items() if name.endswith("href")}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def full() -> dict[str, Any]:
    """Return a comparison that has all that one may have, and names that no page should take for markup."""
    comparison = a_comparison() | {"family_names": NAMES | {EVIL: EVIL}}
    comparison["not_run"] = [{"name": "gbm", "reason": f"needs {EVIL}"}]
    comparison["settings"]["folds"] = 2
    for row in comparison["rows"]:
        row["confusions"][0]["true"] = EVIL
        row["folds"] = [{"accuracy": 0.5, "macro_f1": 0.25}, {"accuracy": 0.6, "macro_f1": 0.45}]
    return comparison


def bare() -> dict[str, Any]:
    """Return a comparison of one model without anything that may be left out."""
    comparison = a_comparison(["linear"], open_set=False, sets=False, levels=False)
    comparison["rows"][0]["confusions"] = []
    for tier in comparison["rows"][0]["tiers"]:
        tier["accuracy"] = None
    return comparison


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, all_formats: None) -> Path:
    """Give the folder of a full report."""
    made = tmp_path_factory.mktemp("reports") / "new" / "compare"
    assert write_report(made, full(), a_timing(full())) == made / "report.html"
    return made


@pytest.fixture
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "save_figures", lambda report, folder, figures: [])


def write_report(folder: Path, comparison: dict[str, Any], timing: dict[str, Any]) -> Path:
    return report.write_one_label_report(folder, compared.read(comparison), compared.read_timing(timing))


def page(comparison: dict[str, Any], timing: dict[str, Any], figures: dict[str, str]) -> str:
    return report.page(compared.read(comparison), compared.read_timing(timing), figures)


def lines(comparison: dict[str, Any], timing: dict[str, Any]) -> list[str]:
    return report.lines(compared.read(comparison), compared.read_timing(timing))


def tables(comparison: dict[str, Any], timing: dict[str, Any]) -> dict[str, Any]:
    return report.tables(compared.read(comparison), compared.read_timing(timing))


def summary(comparison: dict[str, Any]) -> list[str]:
    return report.summary(compared.read(comparison))


def read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The folder


def test_timing_changes_its_own_files_and_the_last_section_of_the_page_and_not_a_byte_more(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(comparison: OneLabelReport, to: Path, figures: Any) -> list[str]:  # it knows no timing; see test_plots.py
        shutil.copytree(folder / "figures", to, dirs_exist_ok=True)
        return list(FIGURES)

    monkeypatch.setattr(frame, "save_figures", copy)
    write_report(tmp_path, full(), a_timing(full(), factor=3))
    first, second = everything(folder), everything(tmp_path)
    assert first.keys() == second.keys()
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"timing.json", "timing.tsv", "report.html"}
    (before, cost), (before_too, cost_too) = (files["report.html"].decode().split(COST) for files in (first, second))
    assert before == before_too
    assert cost != cost_too
    assert cost.endswith("</section>\n</body>\n</html>\n")
    assert cost.count("<section") == 0


def test_the_folder_holds_the_numbers_the_tables_and_the_figures(folder: Path) -> None:
    names = ["table", "levels", "level_sets", "tiers", "lengths", "confusions", "folds", "open_set", "sets"]
    names += ["leakage", "timing"]
    figures = {f"figures/{name}.{suffix}" for name in FIGURES for suffix in ("svg", "png", "pdf")}
    others = {"report.html", "report.json", "timing.json"} | {f"{name}.tsv" for name in names}
    assert set(everything(folder)) == others | figures
    assert json.loads((folder / "report.json").read_text()) == full()
    assert json.loads((folder / "timing.json").read_text()) == a_timing(full())


@pytest.mark.usefixtures("_no_figures")
def test_tables_of_an_earlier_report_that_had_more_are_removed(tmp_path: Path) -> None:
    write_report(tmp_path, full(), a_timing(full()))
    write_report(tmp_path, bare() | {"leakage": None}, a_timing(bare()))
    left = {"report.html", "report.json", "timing.json", "table.tsv", "tiers.tsv", "lengths.tsv", "timing.tsv"}
    assert set(everything(tmp_path)) == left


@pytest.mark.usefixtures("_no_figures")
def test_a_report_that_fails_leaves_the_old_page_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, text: str, **options: Any) -> None:
        self.write_bytes(b"half")
        raise OSError("no space left on device")

    write_report(tmp_path, bare(), a_timing(bare()))
    old = everything(tmp_path)
    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="no space left"):
        write_report(tmp_path, a_comparison(["linear"]), a_timing(bare()))
    now = everything(tmp_path)
    assert {name: now[name] for name in ("report.html", "report.json")} == {
        name: old[name] for name in ("report.html", "report.json")
    }
    assert not any("tmp" in name for name in now)


# The tables


def test_the_table_has_all_metrics_of_each_row_to_the_last_digit(folder: Path) -> None:
    rows = full()["rows"]
    found = read(folder / "table.tsv")
    assert [one["model"] for one in found] == list(ACCURACIES)
    assert [one["baseline"] for one in found] == ["no"] * 6 + ["yes"] * 2
    for one, row in zip(found, rows, strict=True):
        for name, interval in row["metrics"].items():
            assert [float(one[key]) for key in (name, f"{name}_low", f"{name}_high")] == list(interval.values())
        assert float(one["calibration_error"]) == row["calibration_error"]
        assert float(one["megabytes"]) == row["megabytes"]
        assert (one["head"], one["encoder"]) == (row["head"], row["encoder"])


def test_the_table_compares_with_the_best_and_leaves_the_bests_own_cells_empty(folder: Path) -> None:
    best, *others = read(folder / "table.tsv")
    columns = ["difference", "difference_low", "difference_high", "p", "p_holm"]
    assert [best[name] for name in columns] == [""] * 5
    for one, row in zip(others, full()["rows"][1:], strict=True):
        versus = row["versus_best"]
        assert [float(one[name]) for name in columns] == [*versus["difference"].values(), versus["p"], versus["p_holm"]]


def test_no_table_but_that_of_timing_holds_a_time(folder: Path) -> None:
    for path in folder.glob("*.tsv"):
        assert any("seconds" in name for name in read(path)[0]) == (path.name == "timing.tsv")


def test_the_other_tables_hold_a_line_a_model_and_what_it_was_measured_on(folder: Path) -> None:
    row = full()["rows"][0]
    tiers = [
        (one["model"], one["training_members"], int(one["n"]), one["accuracy"]) for one in read(folder / "tiers.tsv")
    ]
    assert tiers[:4] == [
        ("ensemble", one["name"], one["n"], "" if one["accuracy"] is None else repr(one["accuracy"]))
        for one in row["tiers"]
    ]
    assert len(tiers) == len(read(folder / "lengths.tsv")) == 4 * len(ACCURACIES)
    assert [one["residues"] for one in read(folder / "lengths.tsv")][:2] == ["<100", "100-199"]
    confusion = {
        "model": "ensemble",
        "true": EVIL,
        "true_name": EVIL,
        "predicted": "PF00069",
        "predicted_name": "Pkinase",
    }
    assert read(folder / "confusions.tsv")[0] == confusion | {"n": "30", "of": "41"}
    assert read(folder / "folds.tsv")[1] == {"model": "ensemble", "fold": "2", "accuracy": "0.6", "macro_f1": "0.45"}
    told = {name: str(value) for name, value in row["open_set"].items() if name != "roc"}
    assert read(folder / "open_set.tsv")[0] == {"model": "ensemble"} | told
    assert read(folder / "sets.tsv")[0] == {"model": "ensemble"} | {
        key: str(value) for key, value in row["sets"].items()
    }


def test_without_names_of_families_the_confusions_have_no_column_for_them() -> None:
    assert list(tables(a_comparison(), a_timing(a_comparison()))["confusions.tsv"][0]) == [
        "model", "true", "predicted", "n", "of",
    ]  # fmt: skip


def test_the_terminal_shows_the_accuracy_at_every_level_where_classes_have_a_hierarchy() -> None:
    comparison = a_comparison(["lightgbm"])
    assert lines(comparison, a_timing(comparison))[-5:-2] == [
        "accuracy %  clan  family  near misses",
        "lightgbm    72.2       –            7",
        "",
    ]


# The page


def test_every_tag_is_closed_and_every_reference_leads_to_one_place_in_the_page(folder: Path) -> None:
    found = Outline((folder / "report.html").read_text())
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    assert found.references
    assert found.references <= set(found.ids)


def test_the_page_asks_for_nothing_from_elsewhere(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert "http" not in text
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    assert not Outline(text).tags & {"script", "link", "img", "iframe", "object"}
    assert text.count("<svg") == len(FIGURES)


def test_names_of_users_are_text_and_no_markup(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert EVIL not in text
    shown = "".join(Outline(text).text)
    assert shown.count(EVIL) == 5  # family, its name and the reason; in the figure, family and name
    assert f"needs {EVIL}" in shown


def test_the_page_shows_the_numbers_of_the_best_model_in_bold_and_baselines_in_grey(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    cell = '<td>{} <span class="span">{}</span></td>'
    assert cell.format("80.1", "78.9–81.3") + cell.format("89.1", "87.9–90.3") in text
    assert cell.format("−5.2", "−6.3 to −4.0") + "<td>&lt; 0.001</td>" in text
    assert '<tr class="best"><th scope="row">ensemble</th>' in text
    assert '<tr class="baseline"><th scope="row">majority <small>baseline</small></th>' in text
    assert '<tr><th scope="row">linear</th>' in text
    assert "<td>55.0 ± 7.1</td><td>35.0 ± 14.1</td>" in text  # of two folds, the deviation by n - 1


def test_the_page_says_what_a_paper_must_say(folder: Path) -> None:
    shown = " ".join(" ".join(Outline((folder / "report.html").read_text()).text).split())
    for words in (
        "Data set families.csv",
        "Date 2026-11-29",
        "drawn within each class: 80 % train, 10 % validation, 10 % test (seed 0)",
        "Made with esmcls 0.2.0, numpy 2.0.0, python 3.11.7, torch 2.6.0.",
        "A Processor, 2 cores.",
        "A model does well on proteins that look like those it has seen. By identity.",
        "no alignment < 30 % ≥ 90 %",
        f"Fit of ensemble {LEFT_OUT}",
    ):
        assert words in shown


def test_every_column_that_is_marked_is_explained_below(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    marked = re.findall(r"<th>([^<]*)<sup>(.)</sup></th>", text)
    assert [f"{mark} {name}" for name, mark in marked] == re.findall(r"<dt>(. [^<]*)</dt>", text)
    assert len(marked) == 7


def test_a_figure_stands_under_its_section_with_a_caption(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert text.count("<figcaption><b>") == text.count("</figure>") == len(FIGURES)


def test_what_a_comparison_has_not_is_not_on_the_page() -> None:
    text, whole = (page(one, a_timing(one), {}) for one in (bare(), full()))
    for heading in ("What the best model confuses", "Proteins of no known family", "Sets of families", "Left out"):
        assert heading not in text
        assert heading in whole
    for word in ("Cross-validation", "Strangers", "<figure", "open_set.tsv"):
        assert word not in text
    assert Outline(text).open == Outline(whole).open == []


def test_the_encoder_stands_beside_a_model_that_does_not_name_it_where_there_are_several() -> None:
    comparison = a_comparison(["a", "kmer/linear"])
    assert "<small>bundled" not in page(comparison, a_timing(comparison), {})
    comparison["settings"]["encoders"] = ["bundled", "kmer"]
    text = page(comparison, a_timing(comparison), {})
    assert '<th scope="row">a <small>bundled</small></th>' in text
    assert '<th scope="row">kmer/linear <small>baseline</small></th>' in text


# Words


def test_the_summary_names_the_best_and_how_it_stands_to_the_next_to_homology_and_to_a_baseline() -> None:
    assert summary(a_comparison()) == [
        "The best of 6 models and 2 baselines on the test part (4,525 proteins) is ensemble: "
        "accuracy 80.1 % (95 % interval 78.9–81.3).",
        "It is better than homology by 5.2 points (4.0–6.3, p < 0.001).",
        "It is better than kmer/linear, a baseline, by 37.8 points (36.6–38.9, p < 0.001).",
    ]


def test_a_difference_that_chance_may_give_is_called_none() -> None:
    comparison = a_comparison(["mlp", "lightgbm", "homology"])
    comparison["rows"].sort(key=lambda row: row["name"] != "mlp")
    comparison["best"] = "mlp"
    comparison["rows"][1]["versus_best"] = {
        "difference": {"value": -0.009, "low": -0.02, "high": 0.003},
        "p": 0.1212,
        "p_holm": 0.1212,
    }
    told = summary(comparison)
    assert told[1].startswith("It cannot be told apart from ")
    assert told[1].endswith(": it is 0.9 points ahead (−0.3 to 2.0, p = 0.121).")


def test_what_was_measured_in_folds_is_not_said_of_the_test_part(folder: Path) -> None:
    comparison = a_comparison()
    comparison["settings"]["folds"] = 5
    records = comparison["dataset"]["records"]
    measured = (
        f"in 5 folds of train and validation ({records['train'] + records['validation']:,} proteins; the test part"
    )
    assert measured in summary(comparison)[0]
    text = (folder / "report.html").read_text()  # of a comparison on folds
    assert " on the test part" not in summary(comparison)[0] + text.partition("Calibration")[0]


def test_a_model_alone_is_compared_with_nothing() -> None:
    assert summary(bare()) == [
        "The best of 1 model on the test part (4,525 proteins) is linear: accuracy 69.4 % (95 % interval 68.2–70.6)."
    ]


def test_the_terminal_shows_first_what_was_left_out_and_then_one_aligned_line_a_model() -> None:
    comparison = a_comparison(["ensemble", "lightgbm", "majority"], levels=False)
    comparison["not_run"] = [{"name": "homology", "reason": "needs pyhmmer"}]
    comparison["rows"][1]["versus_best"] |= {"p": 0.01, "p_holm": 0.02}
    timing = a_timing(comparison)
    timing["rows"][2] |= {"fit_seconds": None, "proteins_per_second": None}
    assert lines(comparison, timing) == [
        "left out: homology: needs pyhmmer",
        "",
        "model           accuracy %  top-5  macro F1        p    fit   MB",
        "ensemble  80.1 (78.9–81.3)   89.1      74.1        –  7.7 s   16",
        "lightgbm  72.2 (71.0–73.4)   81.2      66.2    0.020   31 s   14",
        "majority     2.1 (0.9–3.4)   11.1       0.0  < 0.001      –  0.4",
        "",
        "accuracy %    <5  5-19  20-99  ≥100",
        "ensemble    58.1  74.1   87.1     –",
        "lightgbm    50.2  66.2   79.2     –",
        "majority     0.0   0.0    9.1     –",
        "",
        "<5, 5-19, 20-99, ≥100: accuracy by training members of the family",
        "p: whether it is as accurate as the best (paired bootstrap, Holm's correction)",
    ]


def test_timing_may_stand_in_another_order_and_lack_a_number() -> None:
    comparison = a_comparison(["ensemble", "majority"])
    timing = {"rows": a_timing(comparison)["rows"][::-1]}
    timing["rows"][0]["fit_seconds"] = None
    text = html.unescape(page(comparison, timing, {})).split(COST)[1]
    assert "ensemble</th><td>7.7 s</td><td>52,000</td>" in text
    assert "<td>–</td><td>17,333</td>" in text
