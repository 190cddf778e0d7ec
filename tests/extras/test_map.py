"""The map as its command makes it, and its page in Chromium: it asks for nothing, and marks who is searched for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import chains
import numpy as np
import pytest
import tiny
from command import done, run
from playwright.sync_api import Browser, sync_playwright

import esmcls
from esmcls.errors import UsageError
from esmcls.insight.map.layout import laid_out
from esmcls.insight.map.page import map_page
from esmcls.insight.map.proteins import Colour, Near, ProteinMap

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
SPITEFUL = "</script><script>document.title='taken'</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def page_of(folder: Path) -> Path:
    """Write the page of two thousand proteins of three groups, and a new one."""
    random = np.random.default_rng(0)
    centres = np.array([[0, 0], [60, 0], [0, 60]])
    places = np.concatenate([centres[np.arange(2000) % 3] + random.normal(size=(2000, 2)) * 4, [[60, 1]]])
    ids = [f"P{row:05}" for row in range(1999)] + [SPITEFUL, "newcomer"]
    labels = [f"F{row % 3}" for row in range(1999)] + [SPITEFUL, ""]
    shares = np.append(random.uniform(size=2000), np.nan)
    colours = [Colour("label", labels), Colour("probability", shares)]
    drawn = ProteinMap(ids, places, 2000, colours, [[Near("P00001", "F1", 0.1)]])
    (folder / "map.html").write_text(map_page(drawn, "Map of proteins", "said"), encoding="utf-8")
    return folder / "map.html"


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_asks_for_nothing_and_marks_the_protein_that_is_searched_for(
    width: int, browser: Browser, tmp_path: Path
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    address = page_of(tmp_path).as_uri()
    page.goto(address)
    page.fill("#search", "P00004")
    page.wait_for_selector("#ring:not([hidden])")
    page.wait_for_timeout(200)
    ring, stage = page.locator("#ring").bounding_box(), page.locator("#stage").bounding_box()
    assert ring is not None
    assert stage is not None
    assert page.locator("#ring").get_attribute("data-row") == "4"
    assert "P00004" in page.inner_text("#found")
    assert "label: F1" in page.inner_text("#found")
    middle = ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2
    assert middle[0] == pytest.approx(stage["x"] + stage["width"] / 2, abs=3)  # the map moved to it
    assert middle[1] == pytest.approx(stage["y"] + stage["height"] / 2, abs=3)
    colour = page.evaluate(
        "() => { const c = document.getElementById('canvas');"
        " return [...c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data]; }"
    )
    assert colour != [255, 255, 255, 255]  # a point lies there
    page.fill("#search", "</script>")
    assert SPITEFUL in page.inner_text("#found")
    page.click("#new button")
    assert "near: P00001 (F1), distance 0.1" in page.inner_text("#found")
    page.select_option("#colour", "probability")
    assert page.is_visible("#range")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() == "Map of proteins"
    assert asked == [address]
    assert wrong == []
    page.close()


def test_the_same_seed_gives_the_same_map_of_groups_that_stay_together() -> None:
    random = np.random.default_rng(0)
    groups = np.arange(150) % 3
    vectors = (5 * random.normal(size=(3, 10))[groups] + random.normal(size=(150, 10))).astype(np.float32)
    places = laid_out(vectors, seed=3)
    assert np.array_equal(places, laid_out(vectors, seed=3))
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + 1e9 * np.eye(150)
    assert (groups[distances.argmin(1)] == groups).mean() > 0.95


def test_three_proteins_make_no_map() -> None:
    with pytest.raises(UsageError, match="3 proteins make no map; embed at least 4"):
        laid_out(np.eye(3, dtype=np.float32))


def test_the_command_writes_every_format(tmp_path: Path) -> None:
    encoder = tiny.write_encoder(tmp_path / "tiny.safetensors")
    done("embed", tiny.write_set(tmp_path / "set.csv", 60), "-w", tmp_path / "w", "--encoder", encoder)
    (tmp_path / "new.fasta").write_text(f">n1\n{tiny.sequences(60)[3]}\n")
    names = ["m.html", "m.png", "m.svg", "m.tsv", "m.parquetbundle"]
    words = [word for name in names for word in ("-o", tmp_path / name)]
    out = done("map", "-w", tmp_path / "w", "--new", tmp_path / "new.fasta", *words).out
    assert out.count("proteins and 1 new") == 5
    last = (tmp_path / "m.tsv").read_text().splitlines()[-1].split("\t")
    assert last[0] == "n1"
    assert all((tmp_path / name).stat().st_size > 500 for name in names)
    for wrong, message in [("m.gif", "a map is written as .html, .png"), ("m.png", "name it .svg")]:
        more = ["--format", "svg"] if wrong == "m.png" else []
        assert message in run("map", "-w", tmp_path / "w", "-o", tmp_path / wrong, *more).err


def test_a_model_of_structures_colours_no_map(tmp_path: Path) -> None:
    esmcls.fit(chains.workspace(tmp_path / "w"), "separation")
    said = run("map", "--model", "separation", "-w", tmp_path / "w")
    assert (said.code, "is of another kind; a map is coloured by one of one label" in said.err) == (2, True)
