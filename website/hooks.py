"""What MkDocs is told besides mkdocs.yml: navigation, pages that are made, files of the repository that are linked."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from command_pages import commands_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from notebook_pages import notebook_page

from esmcls_cli.main import esmcls

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
COPIED = "repository"
"""Folder of the site for files of the repository that are no pages."""
ROW = re.compile(r"^\| \[([^\]]+)\]\(([^)]+)\) \|", re.MULTILINE)
RELATIVE = re.compile(r"\[([^\]]*)\]\(([^):#\s]+)(#[^)\s]*|)\)")
OUTWARD = re.compile(r"\]\(((?:\.\./)+[^)#\s]+)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the navigation from the tables of the first page: a section for each of its headings."""
    config.nav = [{"Documentation": "index.md"}, *navigation((DOCS / "index.md").read_text(encoding="utf-8"))]
    return config


def navigation(index: str) -> list[dict[str, Any]]:
    """Return the sections of the index with the pages that their tables name.

    Commands, of which no file is kept, are the first page of the last section.
    """
    parts = re.split(r"^## (.+)\n", index, flags=re.MULTILINE)[1:]
    sections = {title: ROW.findall(text) for title, text in zip(parts[::2], parts[1::2], strict=True)}
    nav: list[dict[str, Any]] = [
        {title: [{name: page_of(target)} for name, target in rows]} for title, rows in sections.items() if rows
    ]
    [(_, last)] = nav[-1].items()
    last.insert(0, {"Commands": "commands.md"})
    return nav


def page_of(target: str) -> str:
    """Return the page of the site that a file of the repository becomes."""
    return target.removesuffix(".ipynb") + ".md" if target.endswith(".ipynb") else target


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies nowhere or elsewhere: the page of commands, notebooks as pages, linked files, our script."""
    files.append(File.generated(config, "commands.md", content=commands_page(esmcls)))
    script = "assets/iframe-worker.js"
    files.append(File.generated(config, script, abs_src_path=str(ROOT / "website" / script)))
    for notebook in sorted((DOCS / "notebooks").glob("*.ipynb")):
        text, images = notebook_page(notebook)
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=text))
        for name, data in images.items():
            files.append(File.generated(config, f"notebooks/{name}", content=data))
    for path in sorted(set(linked_files())):
        if path.endswith(".md"):
            page = page_elsewhere((ROOT / path).read_text(encoding="utf-8"), path)
            named: dict[str, Any] = {"content": page, "inclusion": InclusionLevel.NOT_IN_NAV}
        else:
            named = {"abs_src_path": str(ROOT / path)}
        files.append(File.generated(config, f"{COPIED}/{path}", **named))
    return files


def linked_files() -> Iterator[str]:
    """Yield the files outside of docs/ that its pages link to, by their paths in the repository."""
    for page in DOCS.glob("*.md"):
        for target in OUTWARD.findall(page.read_text(encoding="utf-8")):
            yield posixpath.normpath(posixpath.join("docs", target))


def page_elsewhere(markdown: str, path: str) -> str:
    """Return a page that lies outside of docs/, with links to pages that lie there; what else it links to is named."""
    here = posixpath.dirname(f"{COPIED}/{path}")

    def led(match: re.Match[str]) -> str:
        name, target, part = match.groups()
        found = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        is_page = found.startswith("docs/") and found.endswith(".md")
        return f"[{name}]({posixpath.relpath(found.removeprefix('docs/'), here)}{part})" if is_page else name

    return RELATIVE.sub(led, markdown)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files of the repository lead to their copies on the site, and those to notebooks to their pages."""
    folder = posixpath.dirname(page.file.src_uri)
    if folder.startswith(COPIED):
        return markdown

    def copied(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, match[1]))
        if path.startswith("docs/"):
            return match[0]
        return f"]({posixpath.relpath(f'{COPIED}/{path}', folder or '.')}"

    return re.sub(r"\]\(([^)#\s]+)\.ipynb\)", r"](\1.md)", OUTWARD.sub(copied, markdown))
