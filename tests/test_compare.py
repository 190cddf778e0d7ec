"""Every head on the same split, of whatever kind of task: fitted once, kept, compared; what cannot run is told."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kinds import KINDS, Kind, relabelled, without_part

from esmcls.datasets.held_out import Shares
from esmcls.errors import MissingExtraError, UsageError, WorkspaceError
from esmcls.evaluation import fit_and_ask
from esmcls.evaluation.compare import Compared, compare
from esmcls.evaluation.plan import ComparisonPlan
from esmcls.models.combine import combine_in_workspace
from esmcls.models.fit import fit_head
from esmcls.models.folder import read_manifest
from esmcls.tasks.kinds import task_of
from esmcls.workspace.workspace import Workspace

HEADS = ("knn", "linear", "ensemble")
SETTINGS = {"knn": {"k": "3"}, "linear": {"epochs": "2"}}


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def workspace(kind: Kind, tmp_path: Path) -> Workspace:
    return kind.workspace(tmp_path / "w")


def run(workspace: Workspace, **plan: Any) -> tuple[Compared, list[str]]:
    """Compare two heads and their ensemble, or what the plan says; return what came of it and what was said."""
    said: list[str] = []
    options: dict[str, Any] = {"heads": HEADS, "settings": SETTINGS, "baselines": False, "draws": 50} | plan
    options["settings"] = {head: knobs for head, knobs in options["settings"].items() if head in options["heads"]}
    return compare(workspace, ComparisonPlan(**options), say=said.append), said


def rows(compared: Compared) -> dict[str, Any]:
    return {row["name"]: row for row in compared.report.to_json()["rows"]}


def test_the_report_is_plain_values_with_the_best_first_and_the_one_that_validation_chose(workspace: Workspace) -> None:
    compared, _ = run(workspace)
    report = compared.report.to_json()
    assert set(rows(compared)) == set(HEADS)
    assert report["best"] == report["rows"][0]["name"]
    scores = {name: row["validation"][task_of(workspace).score] for name, row in rows(compared).items()}
    assert scores[report["chosen"]] == max(scores.values())
    assert report["dataset"]["records"] == {"train": 18, "validation": 6, "test": 6}
    assert report["dataset"]["split_digest"] == workspace.split_digest
    assert report["settings"]["encoders"] == ["composition"]
    assert report["settings"]["knobs"] == SETTINGS
    assert json.loads(json.dumps(report)) == report
    assert [row["name"] for row in compared.timing.to_json()["rows"]] == [row["name"] for row in report["rows"]]


def test_a_comparison_has_lines_for_a_terminal_and_writes_its_report(workspace: Workspace, tmp_path: Path) -> None:
    compared, _ = run(workspace)
    page = compared.write(tmp_path / "report")
    assert page == tmp_path / "report" / "report.html"
    assert json.loads((page.parent / "report.json").read_text())["rows"] == compared.report.to_json()["rows"]
    assert any(line.startswith("ensemble") for line in compared.lines())
    assert compared._repr_html_().startswith("<pre>")


def test_options_of_a_plan_may_be_given_one_by_one(workspace: Workspace) -> None:
    compared = compare(workspace, heads=("knn",), settings={"knn": SETTINGS["knn"]}, baselines=False)
    assert compared.report == run(workspace, heads=("knn",), draws=None)[0].report


def test_a_second_run_fits_nothing_and_reports_the_same_bytes_timing_too(workspace: Workspace) -> None:
    once, first = run(workspace)
    again, said = run(workspace)
    assert not any("kept" in line for line in first)
    assert not any("fitting" in line for line in said)
    assert json.dumps(again.report.to_json()) == json.dumps(once.report.to_json())
    assert again.timing == once.timing


def test_two_runs_in_two_folders_give_the_same_bytes_but_for_what_is_timed(kind: Kind, tmp_path: Path) -> None:
    """The same answers, models, tables and figures; times lie in files of their own and in the page's last section."""
    pages, files = [], []
    for name in ("one", "two"):
        workspace = kind.workspace(tmp_path / name)
        page = run(workspace)[0].write()
        pages.append(page.read_text().split('<section id="cost">')[0])
        below = [path for path in workspace.folder.rglob("*") if path.is_file() and "cache" not in path.parts]
        files.append({path.relative_to(workspace.folder): path.read_bytes() for path in below})
    one, two = files
    assert one.keys() == two.keys()
    differing = {path.name for path in one if one[path] != two[path]}
    timed = {f"{name}.seconds.json" for name in HEADS} | {"timing.json", "timing.tsv", "report.html"}
    assert differing <= timed
    assert pages[0] == pages[1]


def test_an_interrupted_comparison_goes_on_where_it_stopped(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = fit_and_ask.fit_dataset

    def stopped(task: Any, dataset: Any, cache: Any, head: str, *args: Any, **options: Any) -> Any:
        if head == "linear":
            raise KeyboardInterrupt
        return fit(task, dataset, cache, head, *args, **options)

    monkeypatch.setattr(fit_and_ask, "fit_dataset", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(workspace)
    monkeypatch.undo()
    compared, said = run(workspace)
    assert "knn: kept from an earlier run" in said
    assert {"linear: fitting", "ensemble: fitting"} <= set(said)
    assert set(rows(compared)) == set(HEADS)


def test_other_options_are_fitted_again_and_so_is_the_ensemble_but_no_other_head(workspace: Workspace) -> None:
    run(workspace)
    _, said = run(workspace, settings=SETTINGS | {"knn": {"k": "2"}})
    assert {"knn-2: fitting", "linear: kept from an earlier run", "ensemble-2: fitting"} <= set(said)
    assert "linear-3: fitting" in run(workspace, seed=1)[1]


def test_other_draws_of_the_bootstrap_fit_nothing_again(workspace: Workspace) -> None:
    run(workspace)
    assert not any("fitting" in line for line in run(workspace, draws=60)[1])


def test_answers_that_are_damaged_are_asked_for_again_of_the_same_model(workspace: Workspace) -> None:
    once, _ = run(workspace)
    (workspace.reports / "compare-1" / "answers" / "knn.safetensors").write_bytes(b"damaged")
    again, said = run(workspace)
    assert "knn: asking" in said
    assert not any("fitting" in line for line in said)
    assert again.report.to_json()["rows"] == once.report.to_json()["rows"]


def test_a_model_that_another_fit_replaced_stays_and_is_fitted_again_by_another_name(workspace: Workspace) -> None:
    run(workspace)
    folder = fit_head(workspace, "linear", {"warm_start": "false", "epochs": "1"}).folder
    before = (folder / "manifest.json").read_bytes()
    compared, said = run(workspace)
    assert "linear-1: so called since other settings made models/linear, which stays" in said
    assert {"linear-1: fitting", "knn: kept from an earlier run", "ensemble: fitting"} <= set(said)
    assert set(rows(compared)) == {"linear-1", "knn", "ensemble"}
    assert (folder / "manifest.json").read_bytes() == before
    assert "linear: fitting" in run(workspace, replace=True)[1]
    assert (folder / "manifest.json").read_bytes() != before


def test_an_ensemble_of_other_members_is_fitted_again(workspace: Workspace) -> None:
    run(workspace)
    _, said = run(workspace, heads=("knn", "linear", "mlp", "ensemble"), settings=SETTINGS | {"mlp": {"epochs": "1"}})
    assert {"knn: kept from an earlier run", "ensemble-2: fitting"} <= set(said)


def test_a_model_that_is_fitted_already_stands_beside_the_heads(workspace: Workspace) -> None:
    fit_head(workspace, "knn", {"k": "1"}, name="mine")
    compared, said = run(workspace, heads=("linear",), models=("mine",))
    assert (rows(compared)["mine"]["head"], rows(compared)["mine"]["encoder"]) == ("knn", "composition")
    times = {row["name"]: row["fit_seconds"] for row in compared.timing.to_json()["rows"]}
    assert times["mine"] is None
    assert "mine: asking" in said
    assert "mine: kept from an earlier run" in run(workspace, heads=("linear",), models=("mine",))[1]
    elsewhere = str(shutil.move(workspace.folder / "models" / "mine", workspace.folder.parent / "moved"))
    assert "moved: asking" in run(workspace, heads=("linear",), models=(elsewhere,))[1]
    assert "moved: kept from an earlier run" in run(workspace, heads=("linear",), models=(elsewhere,))[1]


def test_a_model_that_may_know_the_test_part_is_not_compared(kind: Kind, workspace: Workspace, tmp_path: Path) -> None:
    shuffled = replace(workspace.dataset, parts=workspace.dataset.parts[::-1])
    folder = fit_head(kind.workspace(tmp_path / "other", shuffled), "knn", SETTINGS["knn"], name="elsewhere").folder
    with pytest.raises(UsageError, match=r"^--models elsewhere: fitted on another split, so it may know the test part"):
        run(workspace, heads=("linear",), models=(str(folder),))
    mine = fit_head(workspace, "knn", SETTINGS["knn"], name="mine").folder
    if not task_of(workspace).many:
        with pytest.raises(
            UsageError, match=r"^--models mine: it knows other families than those that this comparison"
        ):
            run(workspace, heads=("linear",), models=("mine",), shares=Shares(0.4))
        with pytest.raises(UsageError, match="of 3 families is 0; hold out at least 2"):
            run(workspace, encoders=("kmer",), shares=Shares(0.01))
    with pytest.raises(UsageError, match="cannot stand beside folds"):
        run(workspace, models=("mine",), folds=2)
    with pytest.raises(UsageError, match="--models names two models mine"):
        run(workspace, heads=("linear",), models=("mine", shutil.copytree(mine, tmp_path / "mine")))
    assert not list(workspace.reports.iterdir())
    assert workspace.models() == [mine]


def test_a_model_that_is_called_as_a_head_stands_beside_that_head(workspace: Workspace) -> None:
    fit_head(workspace, "linear", {"epochs": "1"})
    compared, _ = run(workspace, heads=("linear",), models=("linear",))
    assert set(rows(compared)) == {"linear", "linear-1"}


def test_a_model_of_another_kind_of_task_is_not_compared(tmp_path: Path) -> None:
    one_label, terms = (kind.workspace(tmp_path / str(number)) for number, kind in enumerate(KINDS))
    folders = [str(fit_head(one, "knn", SETTINGS["knn"], name="other").folder) for one in (one_label, terms)]
    for workspace, folder, kind in ((one_label, folders[1], "one label"), (terms, folders[0], "Gene Ontology terms")):
        with pytest.raises(
            UsageError, match=rf"^--models other: a model of another kind of task than {kind}; leave it"
        ):
            run(workspace, heads=("linear",), models=(folder,))


def test_a_head_whose_extra_is_missing_is_listed_with_what_to_install(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = type(task_of(workspace))
    find = task.head_class

    def missing(self: Any, name: str) -> Any:
        if name == "mlp":
            raise MissingExtraError("head mlp", "perceptron", "mlp")
        return find(self, name)

    monkeypatch.setattr(task, "head_class", missing)
    compared, _ = run(workspace, heads=("knn", "mlp"))
    assert compared.report.to_json()["not_run"] == [
        {"name": "mlp", "reason": "head mlp needs the package perceptron; run: pip install 'esmcls[mlp]'"}
    ]
    assert set(rows(compared)) == {"knn"}


def test_a_head_that_cannot_be_fitted_is_listed_with_the_reason(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise MissingExtraError("head knn", "faiss", "knn")

    monkeypatch.setattr(task_of(workspace).head_class("knn"), "fit", missing)
    compared, _ = run(workspace)
    assert set(rows(compared)) == {"linear"}
    assert compared.report.to_json()["not_run"] == [
        {"name": "knn", "reason": "head knn needs the package faiss; run: pip install 'esmcls[knn]'"},
        {"name": "ensemble", "reason": "combines two models or more, and linear alone was fitted"},
    ]


def test_nothing_that_can_be_fitted_is_an_error_with_the_reasons(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise MissingExtraError("head knn", "faiss", "knn")

    monkeypatch.setattr(task_of(workspace).head_class("knn"), "fit", missing)
    with pytest.raises(UsageError, match="no head could be fitted: knn: head knn needs the package faiss"):
        run(workspace, heads=("knn",))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"settings": {"linear": {"epochs": "abc"}}}, "linear: setting epochs: 'abc' is not"),
        ({"settings": {"knn": {"k": "0"}}}, "knn: setting k: 0 is not at least 1"),
        ({"settings": {"knn": {"kk": "1"}}}, "knn: unknown setting 'kk'"),
        ({"settings": {"ensemble": {"member": "knn"}}}, "ensemble"),
        ({"heads": ("knn", "linaer")}, "unknown head 'linaer'; did you mean 'linear'"),
        ({"encoders": ("kmre",)}, "unknown encoder 'kmre'; did you mean 'kmer'"),
        ({"longs": ("windows",)}, "strategy 'windows'; did you mean 'window'"),
        ({"models": ("mine",)}, "unknown model 'mine'"),
        ({"name": "a/b"}, "name 'a/b': use letters, digits"),
    ],
)
def test_what_is_asked_for_wrongly_is_told_before_anything_is_embedded_or_fitted(
    workspace: Workspace, plan: dict[str, Any], message: str
) -> None:
    said: list[str] = []
    with pytest.raises(UsageError, match=message):
        compare(workspace, ComparisonPlan(**{"heads": HEADS, "baselines": False} | plan), say=said.append)
    assert not said
    assert not workspace.models()


def test_a_knob_of_a_head_that_takes_no_part_is_a_slip(workspace: Workspace) -> None:
    message = "--set linear: it is not among the heads that are compared"
    with pytest.raises(UsageError, match=message):
        compare(workspace, ComparisonPlan(heads=("knn",), settings={"linear": {"epochs": "1"}}, baselines=False))


def test_another_comparison_gets_another_name_and_leaves_report_and_models_as_they_are(workspace: Workspace) -> None:
    first, _ = run(workspace)
    page = first.write()
    assert page.parent == workspace.reports / "compare-1"
    assert (workspace.reports / "compare").resolve() == page.parent.resolve()
    before = {
        path: path.read_bytes() for path in workspace.folder.rglob("*") if path.is_file() and "models" in str(path)
    }
    told = (page.parent / "report.json").read_bytes()
    second, _ = run(workspace, settings={"knn": {"k": "1"}})
    assert second.write().parent == workspace.reports / "compare-2"
    assert (workspace.reports / "compare").resolve() == (workspace.reports / "compare-2").resolve()
    assert (page.parent / "report.json").read_bytes() == told
    assert all(path.read_bytes() == content for path, content in before.items())
    assert run(workspace)[0].write().parent == workspace.reports / "compare-1"
    assert (workspace.reports / "compare").resolve() == (workspace.reports / "compare-1").resolve()


def test_a_comparison_and_its_models_are_called_as_its_user_wants(workspace: Workspace) -> None:
    compared, _ = run(workspace, name="mine")
    assert set(rows(compared)) == {"knn-mine", "linear-mine", "ensemble-mine"}
    assert compared.write().parent == workspace.reports / "compare-mine"
    assert not any("fitting" in line for line in run(workspace, name="mine")[1])
    with pytest.raises(UsageError, match="a comparison mine of other settings is there; give another --name, or"):
        run(workspace, name="mine", seed=1)
    assert "knn-mine: fitting" in run(workspace, name="mine", seed=1, replace=True)[1]
    fit_head(workspace, "knn", {"k": "2"}, name="knn-yours")
    with pytest.raises(UsageError, match="a model knn-yours is there that other settings made; give the comparison"):
        run(workspace, name="yours")


def test_where_there_are_no_links_the_latest_report_is_a_copy(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    for plan in ({}, {"seed": 1}):
        page = run(workspace, heads=("knn",), **plan)[0].write()
        latest = workspace.reports / "compare"
        assert not latest.is_symlink()
        assert (latest / "report.json").read_bytes() == (page.parent / "report.json").read_bytes()


def test_the_report_of_an_older_esmcls_gets_a_name_of_its_own(workspace: Workspace) -> None:
    old = workspace.reports / "compare"
    old.mkdir()
    (old / "report.json").write_text("{}")
    assert run(workspace, heads=("knn",))[0].write().parent.name == "compare-2"
    assert (workspace.reports / "compare-1" / "report.json").read_text() == "{}"


def test_a_head_that_nothing_is_registered_as_is_an_error(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="unknown head 'kn'; did you mean 'knn'"):
        run(workspace, heads=("kn",))


def test_another_encoder_is_embedded_if_need_be_and_the_ensemble_reads_those_of_its_members(
    workspace: Workspace,
) -> None:
    settings = {"linear": {"epochs": "1", "whiten": "false"}}
    compared, said = run(workspace, heads=("linear", "ensemble"), encoders=("composition", "kmer"), settings=settings)
    assert set(rows(compared)) == {"linear", "linear-kmer", "ensemble"}
    assert "embedding with kmer" in said
    manifest = read_manifest(workspace.find_model("ensemble"))
    encoders = {"linear": "composition", "linear-kmer": "kmer"}
    members = manifest.config["members"].split(",")
    assert {spec.encoder for spec in manifest.specs} == {encoders[name] for name in members}
    with workspace.latest_cache() as cache:
        assert cache.spec.encoder == "composition"


def test_without_a_test_part_folds_are_asked_for(kind: Kind, tmp_path: Path) -> None:
    workspace = kind.workspace(tmp_path / "w", without_part(kind.dataset(), "test"))
    with pytest.raises(WorkspaceError, match="its split has no test part; compare on folds: --folds 5"):
        run(workspace)


def test_folds_ask_about_each_train_and_validation_protein_once_and_never_about_a_test_protein(
    kind: Kind, tmp_path: Path
) -> None:
    """Labels of the test part that nothing else has would show; so would models, which are not for prediction."""
    poison = "poison" if kind.name == "one label" else "GO:0008270"
    workspace = kind.workspace(tmp_path / "w", relabelled(kind.dataset(), "test", poison))
    compared, said = run(workspace, folds=3)
    poisoned, _ = run(kind.workspace(tmp_path / "another", relabelled(kind.dataset(), "test", kind.another)), folds=3)
    assert compared.report.to_json()["rows"] == poisoned.report.to_json()["rows"]
    assert compared.report.to_json()["settings"]["folds"] == 3
    assert {"knn.0: fitting", "linear.2: fitting", "ensemble.1: fitting"} <= set(said)
    task = task_of(workspace)
    for name in HEADS:
        paths = [workspace.reports / "compare-1" / "answers" / f"{name}.{fold}.safetensors" for fold in range(3)]
        asked = [length for path in paths for length in read_lengths(path)]
        lengths = [
            len(sequence)
            for sequence, part in zip(workspace.dataset.sequences, workspace.dataset.parts, strict=True)
            if part != "test"
        ]
        assert sorted(asked) == sorted(lengths)
        assert len(rows(compared)[name]["folds"]) == 3
    assert workspace.models() == []
    assert task.score in rows(compared)["knn"]["validation"]


def read_lengths(path: Path) -> list[int]:
    """Return the residues of the proteins that kept answers are about."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        lengths: list[int] = file.get_tensor("lengths").tolist()
    return lengths


def test_folds_are_kept_one_by_one_and_a_run_goes_on_where_it_stopped(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, fits = fit_and_ask.fit_dataset, list[str]()

    def stopped(task: Any, dataset: Any, cache: Any, head: str, *args: Any, **options: Any) -> Any:
        fits.append(head)
        if len(fits) == 4:  # linear of the second fold
            raise KeyboardInterrupt
        return fit(task, dataset, cache, head, *args, **options)

    monkeypatch.setattr(fit_and_ask, "fit_dataset", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(workspace, folds=3)
    monkeypatch.undo()
    compared, said = run(workspace, folds=3)
    kept = [line for line in said if line.endswith("kept from an earlier run")]
    assert kept == [f"{name}: kept from an earlier run" for name in ("knn.0", "linear.0", "ensemble.0", "knn.1")]
    again, said = run(workspace, folds=3)
    assert not any("fitting" in line for line in said)
    assert json.dumps(again.report.to_json()) == json.dumps(compared.report.to_json())
    assert again.timing == compared.timing


def test_a_model_combined_by_hand_stands_beside_the_heads(workspace: Workspace) -> None:
    run(workspace, heads=("knn", "linear"))
    combine_in_workspace(workspace, ["knn", "linear"], "both")
    compared, said = run(workspace, heads=("knn", "linear"), models=("both",))
    assert "both: asking" in said
    assert rows(compared)["both"]["head"] == "ensemble"


def test_models_of_the_same_settings_are_taken_as_they_are_whoever_fitted_them(workspace: Workspace) -> None:
    refit = workspace.drawn_validation and task_of(workspace).refits_in_comparisons
    for head in ("knn", "linear"):
        fit_head(workspace, head, SETTINGS[head], refit=refit)
    combine_in_workspace(workspace, ["knn", "linear"], "ensemble")
    before = {path.name: (path / "manifest.json").read_bytes() for path in workspace.models()}
    compared, said = run(workspace)
    assert {path.name: (path / "manifest.json").read_bytes() for path in workspace.models()} == before
    assert set(rows(compared)) == set(HEADS)
    assert [line for line in said if "not fitted again" in line] == [
        f"{head}: was fitted with the same settings, and is not fitted again" for head in HEADS
    ]
    assert [cost.fit_seconds for cost in compared.timing.rows] == [None] * 3


@pytest.mark.parametrize("other", [{"settings": {"k": "1"}}, {"seed": 1}, {"settings": {"k": "3"}, "refit": True}])
def test_a_model_of_other_settings_stays_and_the_comparison_makes_its_own(
    workspace: Workspace, other: dict[str, Any]
) -> None:
    refit = workspace.drawn_validation and task_of(workspace).refits_in_comparisons
    fit_head(workspace, "knn", **({"settings": SETTINGS["knn"], "refit": refit} | other))
    before = (workspace.model_folder("knn") / "manifest.json").read_bytes()
    compared, _ = run(workspace, heads=("knn",))
    assert set(rows(compared)) == {"knn-1"}
    assert (workspace.model_folder("knn") / "manifest.json").read_bytes() == before


def test_a_comparison_measured_otherwise_takes_the_models_of_the_one_before(workspace: Workspace) -> None:
    run(workspace)
    compared, said = run(workspace, coverage=0.8)
    assert set(rows(compared)) == set(HEADS)
    assert not [line for line in said if line.endswith("fitting")]
