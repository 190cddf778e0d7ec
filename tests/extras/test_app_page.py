"""The page in a browser and as an API: nothing leaves the machine, markup is shown as text, files hold the answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from families import write_families
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import sync_playwright

import esmcls
from esmcls.app.models import OpenModels
from esmcls.app.page import build, serve
from esmcls.app.questions import Limits

pytestmark = pytest.mark.filterwarnings("default")
MARKUP = "<img/src=x/onerror=alert(1)>"
FASTA = f">{MARKUP}\nM{'A' * 30}LIVE\n>second\nM{'K' * 30}LIVE\n"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("app")
    place = esmcls.Workspace.open(folder / "w", create=True)
    esmcls.embed_dataset(place, write_families(folder / "families.csv"), encoder="composition")
    esmcls.fit(place, "knn")
    limits = Limits(sequences=3, residues=1000)
    page = build(OpenModels.of(folder / "w"), limits, folder)
    yield serve(page, "127.0.0.1", 0, limits)
    page.close()


def test_programs_ask_what_the_page_asks(address: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.fasta"
    path.write_text(FASTA)
    client = Client(address, verbose=False)
    table, files, said, shown = client.predict("", handle_file(path), "knn", api_name="/ask")
    classes = [row[table["headers"].index("class")] for row in table["value"]["data"]]
    assert classes == ["alanine-rich", "lysine-rich"]
    assert Path(files[0]).read_text().count("\n") > 2
    assert said.startswith("2 proteins asked of knn")
    assert MARKUP not in shown


@pytest.mark.parametrize(
    ("text", "told"),
    [(">a\nMK1\n", "the pasted text:2:3"), (">a\nMK\n" * 4, "more than 3 sequences"), ("", "nothing is asked")],
)
def test_what_cannot_be_asked_is_told_in_a_line(address: str, text: str, told: str) -> None:
    with pytest.raises(AppError, match=told):
        Client(address, verbose=False).predict(text, None, "knn", api_name="/ask")


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_shows_answers_and_asks_no_other_machine(address: str, width: int, tmp_path: Path) -> None:
    browser_path = shutil.which("chromium")
    assert browser_path, "the env extras needs Debian's package chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        asked, alerts = list[str](), list[str]()
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
        page.goto(address)
        page.get_by_label("Sequences").fill(FASTA)
        page.get_by_role("button", name="Ask").click()
        page.wait_for_selector("#details h3", timeout=60_000)
        assert page.locator("#details h3").inner_text() == MARKUP
        page.locator("#answers").get_by_text("lysine-rich").first.click()
        page.wait_for_function("document.querySelector('#details h3').innerText == 'second'", timeout=30_000)
        page.get_by_role("button", name="All on the map").click()
        frame = page.frame_locator("#beside iframe")
        frame.locator("#new").get_by_text("second").wait_for(timeout=120_000)
        assert page.get_by_role("button", name="Domains of all").count() == 0
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        browser.close()
    assert alerts == []
    assert overflow <= 0
    outside = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert outside == []
