"""The documentation as a site: it is built strictly, has every page and command, and asks no network when read."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from esmcls_cli.main import COMMANDS
from esmcls_cli.main import esmcls as program

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
OF_A_DISK = {"file", "data", "about", "blob"}
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}
"""What a browser fetches by itself; links of <link>, too, but for those that only name a page."""


class Html(HTMLParser):
    """What a page links to, loads, is called in its parts, and says in paragraphs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.paragraphs: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.ids.add(named.get("id", ""))
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        if tag == "link" and named.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(named["href"])
        if tag in LOADED and LOADED[tag] in named:
            self.loaded.append(named[LOADED[tag]])
        if tag == "p":
            self.inside = "p"
            self.paragraphs.append("")
        elif tag in ("code", "pre"):
            self.inside = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "p":
            self.inside = ""
        elif tag == "code" and self.paragraphs:
            self.inside = "p"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.paragraphs[-1] += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    surroundings = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    ran = subprocess.run(words, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "WARNING" not in ran.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Html]:
    found = {path.relative_to(site).as_posix(): Html(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    return {name: page for name, page in found.items() if name != "404.html"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("no Chromium here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def asked(browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """A page of the browser, and the addresses that it asks for."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    yield page, addresses
    page.close()


def test_every_page_and_notebook_is_on_the_site_and_in_its_navigation(pages: dict[str, Html]) -> None:
    names = {source.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for source in SOURCES}
    assert names | {"commands.html"} == {name for name in pages if not name.startswith("repository/")}
    assert names <= {unquote(link).split("#")[0] for link in pages["index.html"].links} | {"index.html"}


def test_every_link_leads_to_a_file_of_the_site_and_to_a_part_that_is_there(pages: dict[str, Html], site: Path) -> None:
    for name, page in pages.items():
        for link in page.links:
            address = urlsplit(link)
            if address.scheme or not link.strip("#."):
                continue
            target = (site / name).parent / unquote(address.path) if address.path else site / name
            assert target.exists(), f"{name}: {link}"
            path = target.resolve().relative_to(site.resolve()).as_posix()
            if address.fragment and path in pages:
                assert unquote(address.fragment) in pages[path].ids, f"{name}: {link}"


def test_nothing_of_a_page_is_loaded_from_elsewhere(pages: dict[str, Html], site: Path) -> None:
    for name, page in pages.items():
        for address in page.loaded:
            assert not urlsplit(address).scheme, f"{name}: {address}"
            assert ((site / name).parent / address.split("?")[0]).exists(), f"{name}: {address}"


def test_lists_and_tables_of_the_pages_are_such_on_the_site(pages: dict[str, Html]) -> None:
    """Python's Markdown wants an empty line before a list and a table, which other readers of the files do not."""
    unmade = re.compile(r"^(?:[-*] |\d+\. |\||```)", re.MULTILINE)
    assert unmade.search(Html("<p>First <code>a</code>:\n- one\n- two</p>").paragraphs[0])
    found = {name: said for name, page in pages.items() for said in page.paragraphs if unmade.search(said)}
    assert found == {}


def every_option(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield the words of each command with each of its options."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        for param in command.get_params(context):
            if isinstance(param, click.Option) and not param.hidden:
                yield from ((" ".join((*words, name)), option) for option in (*param.opts, *param.secondary_opts))
        if isinstance(command, click.Group):
            yield from every_option(command, (*words, name))


def test_the_page_of_commands_has_every_option_of_every_command(site: Path) -> None:
    text = re.sub(
        r"<[^>]+>", "", re.sub(r"<h[23] id=\"([^\"]+)\">", r"\n## \1\n", (site / "commands.html").read_text())
    )
    parts = re.split(r"^## (\S+)$", text, flags=re.MULTILINE)[1:]
    told = dict(zip(parts[::2], parts[1::2], strict=True))
    missing = [
        (command, option)
        for command, option in every_option(program)
        if not re.search(rf"(?<![\w-]){option}(?![\w-])", told.get(f"esmcls-{command.replace(' ', '-')}", ""))
    ]
    assert missing == []
    assert "[error|skip]" in told["esmcls-embed"]
    assert {f"esmcls-{command}" for command in COMMANDS} <= set(told)


def test_no_page_asks_the_network_or_is_wider_than_a_screen(
    pages: dict[str, Html], site: Path, asked: tuple[Page, list[str]]
) -> None:
    page, addresses = asked
    for name in pages:
        page.goto((site / name).as_uri(), wait_until="load")
        for width in (1400, 400):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    assert len(addresses) > len(pages)
    assert {urlsplit(address).scheme for address in addresses} <= OF_A_DISK


def test_search_works_from_a_disk(site: Path, asked: tuple[Page, list[str]]) -> None:
    page, addresses = asked
    page.goto((site / "index.html").as_uri())
    page.keyboard.press("/")
    page.keyboard.type("strangers")
    page.wait_for_selector(".md-search-result__item >> text=Strangers", timeout=60_000)
    assert {urlsplit(address).scheme for address in addresses} <= OF_A_DISK


def website(name: str) -> Any:
    """Import a module of `website/`, which MkDocs finds beside its hooks."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "website" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for the names in annotations
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "website"))
        spec.loader.exec_module(module)
    return module


def test_a_help_text_is_shown_letter_for_letter_but_for_its_code() -> None:
    pages = website("command_pages")
    assert pages.safe("Writes models/<name>/, a_b and `x|<y>`.") == "Writes models/&lt;name&gt;/, a\\_b and `x|<y>`."
    assert pages.described("One\nline.\n\n\b\n  a  b\n  c  d\n") == "One line.\n\n```text\n  a  b\n  c  d\n```"


def test_options_stand_in_the_groups_of_the_help_page_and_commands_of_a_group_below_it() -> None:
    @click.group()
    def group() -> None:
        """Do things."""

    @group.command()
    @click.argument("file")
    @click.option("--how", type=click.Choice(["a", "b"]), help="In which way.")
    def one(file: str, how: str) -> None:
        """Do one thing."""

    page = website("command_pages").commands_page(group)
    assert "## esmcls one\n\n```text\nesmcls one [OPTIONS] FILE\n```\n\nDo one thing.\n" in page
    assert "| options | |\n|---|---|\n| `--how [a|b]` | In which way. |" in page


def test_a_notebook_is_a_page_with_what_its_cells_answered(tmp_path: Path) -> None:
    png = {"output_type": "display_data", "data": {"image/png": "aGVsbG8=", "text/plain": "a figure"}}
    said = {"output_type": "stream", "text": ["1\n", "2\n"]}
    cells = [
        {"cell_type": "markdown", "source": ["# Title"]},
        {"cell_type": "code", "source": ["f()"], "outputs": [said, png]},
    ]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    text, images = website("notebook_pages").notebook_page(tmp_path / "n.ipynb")
    assert text.startswith("# Title\n\nThis page is the notebook")
    assert text.endswith("```python\nf()\n```\n\n```text\n1\n2\n```\n\n![What the cell shows](n-1.png)\n")
    assert images == {"n-1.png": b"hello"}


def test_every_picture_of_the_pages_is_small_and_the_gallery_shows_all_that_its_script_takes() -> None:
    images = {path.stem: path.stat().st_size for path in (ROOT / "docs" / "images").glob("*.png")}
    assert max(images.values()) <= 200_000
    taken = {shot.name for shot in website("screenshots").SHOTS}
    shown = set(re.findall(r"\(images/([\w-]+)\.png\)", (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")))
    assert taken == shown <= set(images)


def test_a_page_outside_of_docs_leads_to_the_pages_of_the_site_and_names_what_else_it_links_to() -> None:
    text = "See [a](../docs/a.md), [b](../docs/b.md#c), [d](d.csv), [e](https://e.org) and [f](#f)."
    led = "See [a](../../a.md), [b](../../b.md#c), d, [e](https://e.org) and [f](#f)."
    assert website("hooks").page_elsewhere(text, "data/README.md") == led
