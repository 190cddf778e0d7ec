"""The map: who is on it, where new proteins lie, and that pages, bundles and tables hold what was laid out."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tiny
from command import done, run

from esmcls.errors import UnknownNameError, UsageError
from esmcls.insight.map.figure import choose_colour, draw_map, largest
from esmcls.insight.map.layout import components, placed_among, whitened
from esmcls.insight.map.page import STEPS, UNKNOWN, colour_json, map_page, stepped_places
from esmcls.insight.map.proteins import Colour, Near, ProteinMap, make_map, nearest_known
from esmcls.insight.map.protspace import DELIMITER, write_bundle
from esmcls.insight.map.table import write_places
from esmcls.models.predict import open_model
from esmcls.reading.records import Protein
from esmcls.types import Floats, Vectors
from esmcls.workspace.workspace import Workspace

SPITEFUL = "</script><img src=x onerror=alert(1)>"


def drawn_map() -> ProteinMap:
    """Return a map of three known proteins and a new one."""
    colours = [
        Colour("label", ["F1", SPITEFUL, "F1", ""]),
        Colour("probability", np.array([0.5, 1.0, np.nan, 0.75])),
    ]
    places = np.array([[0.0, 0.0], [10.0, 5.0], [4.0, 0.0], [5.0, 2.5]])
    return ProteinMap(["a", SPITEFUL, "a", "n"], places, 3, colours, [[Near("a", "F1", 0.25)]])


def by_axes(vectors: Vectors, seed: int) -> Floats:
    """Lay out by the first two numbers, so that tests need no t-SNE."""
    return np.asarray(vectors[:, :2], dtype=np.float64)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace of six families with vectors of a tiny encoder and a linear model."""
    place = tmp_path_factory.mktemp("map")
    encoder = tiny.write_encoder(place / "tiny.safetensors")
    done("embed", tiny.write_set(place / "set.csv", 60), "-w", place / "w", "--encoder", encoder)
    done("fit", "-w", place / "w", "--head", "linear", "--set", "epochs", "0")
    return Workspace.open(place / "w")


# who is where


def test_whitening_makes_members_of_a_class_alike_in_all_directions() -> None:
    random = np.random.default_rng(0)
    codes = np.repeat(np.arange(20), 30)
    spread = np.array([4.0, 0.5, 1.0])
    vectors = (random.normal(size=(20, 3))[codes] + spread * random.normal(size=(600, 3))).astype(np.float32)
    _, whitening = whitened(vectors, codes)
    import torch

    rows = whitening(torch.from_numpy(vectors)).numpy()
    within = rows - np.stack([rows[codes == code].mean(0) for code in range(20)])[codes]
    deviations = np.sort(within.std(0))
    assert deviations[-1] / deviations[0] < 4 < spread.max() / spread.min()


def test_components_do_not_depend_on_the_sign_of_an_eigenvector() -> None:
    vectors = np.random.default_rng(1).normal(size=(40, 6)).astype(np.float32)
    first = components(vectors, 3)
    assert first.shape == (40, 3)
    assert components(vectors[::-1], 3)[::-1] == pytest.approx(first, abs=1e-3)


def test_a_new_protein_lies_by_its_nearest_and_not_between_two_groups() -> None:
    places = np.array([[0.0, 0.0], [2.0, 0.0], [100.0, 100.0]])
    [[x, y]] = placed_among(places, np.array([[1, 0, 2]]), np.array([[0.9, 0.9, 0.89]]))
    assert (x, y) == (1, 0)


def test_the_nearest_known_come_first() -> None:
    known = np.eye(3, dtype=np.float32)
    rows, cosines = nearest_known(known, np.array([[0.6, 0.8, 0.0]], dtype=np.float32))
    assert rows.tolist() == [[1, 0, 2]]
    assert cosines[0].tolist() == pytest.approx([0.8, 0.6, 0.0])


def test_a_known_protein_that_is_given_as_new_lies_on_itself(workspace: Workspace) -> None:
    data = workspace.dataset
    twin = Protein("twin", data.sequences[4])
    found = make_map(workspace.latest_cache(), data, [twin], lay=by_axes)
    assert found.nearest[0][0].id == data.ids[4]
    assert found.nearest[0][0].label == data.labels[4]
    assert found.nearest[0][0].distance == pytest.approx(0, abs=1e-3)
    assert found.colours[1].values[-1] == "new"


def test_of_too_many_some_are_drawn_by_the_seed(workspace: Workspace) -> None:
    cache, data = workspace.latest_cache(), workspace.dataset
    first, again, other = (make_map(cache, data, most=10, seed=seed, lay=by_axes).ids for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 10
    assert make_map(cache, data, most=10, lay=by_axes).left_out == len(data) - 10


def test_a_models_answers_are_colours(workspace: Workspace) -> None:
    model = open_model(workspace.folder, "linear")
    data = workspace.dataset
    found = make_map(workspace.latest_cache(), data, [Protein("n", data.sequences[0])], model, lay=by_axes)
    colours = {colour.name: colour.values for colour in found.colours}
    assert list(colours) == ["label", "part", "predicted", "probability", "right or wrong"]
    assert colours["predicted"][0] == colours["predicted"][-1] == model.predict([data.sequences[0]])[0][0][0]
    assert float(colours["probability"][0]) == pytest.approx(
        float(model.predict_proba([data.sequences[0]]).max()), abs=0.02
    )
    assert colours["right or wrong"][-1] == ""


# what is written


def page_data(page: str) -> dict[str, object]:
    [found] = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    data: dict[str, object] = json.loads(found)
    return data


def test_nothing_from_the_user_ends_the_pages_script_and_nothing_is_fetched() -> None:
    page = map_page(drawn_map(), SPITEFUL, "said")
    assert SPITEFUL not in page
    assert page.count("</script>") == 2
    assert page_data(page)["ids"] == ["a", SPITEFUL, "a", "n"]
    assert not re.findall(r"https?://|src=\"|@import|url\(", page)


def test_places_on_the_page_keep_their_proportions() -> None:
    steps = stepped_places(drawn_map())
    assert steps[:, 0].tolist() == [0, STEPS, round(0.4 * STEPS), round(STEPS / 2)]
    assert steps[0, 1] - steps[1, 1] == pytest.approx(STEPS / 2, abs=1)


def test_colours_on_the_page_are_codes_by_frequency_or_steps_of_a_range() -> None:
    label, probability = (colour_json(colour) for colour in drawn_map().colours)
    assert (label["names"], label["counts"]) == (["F1", SPITEFUL, ""], [2, 1, 1])
    assert np.frombuffer(base64.b64decode(label["codes"]), "<u2").tolist() == [0, 1, 0, 2]
    assert (probability["low"], probability["high"]) == (0.5, 1.0)
    steps = np.frombuffer(base64.b64decode(probability["steps"]), "<u2").tolist()
    assert steps == [0, STEPS - 1, UNKNOWN, (STEPS - 1) // 2]


def test_many_labels_have_wide_codes() -> None:
    wide = colour_json(Colour("label", [str(number) for number in range(70_000)]))
    codes = np.frombuffer(base64.b64decode(wide["codes"]), "<u4")
    assert [wide["names"][code] for code in codes[[0, 69_999]]] == ["0", "69999"]


def test_a_bundle_has_the_three_tables_of_protspace(tmp_path: Path) -> None:
    write_bundle(tmp_path / "map.parquetbundle", drawn_map())
    parts = (tmp_path / "map.parquetbundle").read_bytes().split(DELIMITER)
    annotations, metadata, data = (pl.read_parquet(io.BytesIO(part)) for part in parts)
    assert annotations["identifier"].to_list() == ["a", SPITEFUL, "a (2)", "n"]
    assert annotations["probability"].to_list() == [0.5, 1.0, None, 0.75]
    assert metadata.columns == ["projection_name", "dimensions", "info_json"]
    assert data.columns == ["projection_name", "identifier", "x", "y", "z"]
    assert data["identifier"].to_list() == annotations["identifier"].to_list()
    assert set(data["projection_name"]) == set(metadata["projection_name"])


def test_labels_of_a_bundle_are_single_ones(tmp_path: Path) -> None:
    drawn = ProteinMap(["a"], np.zeros((1, 2)), 1, [Colour("label", ["one;two|3"])])
    write_bundle(tmp_path / "b", drawn)
    annotations = pl.read_parquet(io.BytesIO((tmp_path / "b").read_bytes().split(DELIMITER)[0]))
    assert annotations["label"].to_list() == ["one,two/3"]


def test_the_table_has_a_row_a_protein() -> None:
    handle = io.StringIO()
    write_places(handle, drawn_map())
    rows = list(csv.DictReader(handle.getvalue().splitlines(), delimiter="\t"))
    assert [row["label"] for row in rows] == ["F1", SPITEFUL, "F1", ""]
    assert (rows[3]["nearest_id"], rows[3]["distance"], rows[2]["probability"]) == ("a", "0.25", "")


@pytest.mark.parametrize("colour", ["label", "probability"])
def test_a_figure_is_the_same_bytes_twice(colour: str, tmp_path: Path) -> None:
    drawn = drawn_map()
    for name in ("one.svg", "two.svg"):
        draw_map(drawn, tmp_path / name, choose_colour(drawn, colour))
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "two.svg").read_text()
    assert SPITEFUL not in text


def test_a_legend_names_the_most_frequent() -> None:
    assert largest(["b", "a", "c", "a", "b", ""]) == ["a", "b", "c"]
    with pytest.raises(UnknownNameError, match="unknown colour 'lable'; did you mean 'label'"):
        choose_colour(drawn_map(), "lable")


# refusals


def test_without_opentsne_the_extra_is_named(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    ran = run("map", "-w", workspace.folder)
    assert "esmcls map needs the package openTSNE; run: pip install 'esmcls[map]'" in ran.err


def test_a_model_of_another_kind_colours_no_map(workspace: Workspace) -> None:
    model = open_model(workspace.folder, "linear")
    model.task = type("Task", (), {"kind": "number"})()
    with pytest.raises(UsageError, match="a map is coloured by one of one label a protein"):
        make_map(workspace.latest_cache(), workspace.dataset, model=model, lay=by_axes)
