"""Takes the screenshots of the gallery: pages of a workspace as Chromium shows them, as small PNG files.

    esmcls data stratify data/demo.csv.gz --plan 24x14 --trained-only -o small.csv.gz
    esmcls embed small.csv.gz
    esmcls compare --heads linear,knn
    esmcls evaluate --model linear
    esmcls map
    esmcls app &
    python website/screenshots.py esmcls-work

Needs the package `playwright` and Chromium (`CHROMIUM` names it where it is not on the PATH). A page that is to be in
the gallery gets a line in SHOTS: of a file of the workspace, or, with an address, of a program that is running.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
LARGEST = 200_000
"""Bytes of an image."""


@dataclass(frozen=True)
class Shot:
    """A screenshot: its name, page, the heading it begins at ("" for the top), its size, a button pressed first."""

    name: str
    page: str
    heading: str = ""
    width: int = 1100
    height: int = 800
    press: str = ""


SHOTS = (
    Shot("report-top", "reports/compare/report.html", height=700),
    Shot("report-results", "reports/compare/report.html", "Results", height=920),
    Shot("report-trust", "reports/compare/report.html", "How far to trust a probability"),
    Shot("report-confusions", "reports/compare/report.html", "What the best model confuses"),
    Shot("report-wrong", "reports/evaluate-linear/report.html", "Every wrong protein", height=500),
    Shot("report-phone", "reports/compare/report.html", "Results", width=400, height=800),
    Shot("map", "reports/map.html", height=700),
    Shot("app", "http://127.0.0.1:7860/", height=1000, press="Ask"),
)


def main() -> None:
    """Take every screenshot whose page is there, and say which is not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--names", nargs="*", default=[shot.name for shot in SHOTS], help="those to take; default all")
    parser.add_argument("--out", type=Path, default=IMAGES)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        for shot in (shot for shot in SHOTS if shot.name in options.names):
            place = options.workspace.resolve() / shot.page
            if "://" not in shot.page and not place.exists():
                print(f"{shot.name}: {place} is not there")
                continue
            page.goto(shot.page if "://" in shot.page else place.as_uri(), wait_until="load")
            image = small(taken(page, shot))
            (options.out / f"{shot.name}.png").write_bytes(image)
            print(f"{shot.name}: {len(image):,} bytes")
        browser.close()


def taken(page: Page, shot: Shot) -> bytes:
    """Return a PNG of the page from the shot's heading down."""
    page.set_viewport_size({"width": shot.width, "height": shot.height})
    top = 0.0
    if shot.press:
        page.get_by_role("button", name=shot.press, exact=True).click()
        page.wait_for_selector("#details h3", timeout=120_000)
        page.get_by_role("button", name="Why").click()
        page.frame_locator("#beside iframe").locator("h2").first.wait_for(timeout=120_000)
    if shot.heading:
        box = page.locator("h2", has_text=shot.heading).first.bounding_box()
        assert box is not None, f"{shot.name}: the page has no heading {shot.heading!r}"
        top = max(box["y"] - 16, 0)
    height = min(shot.height, page.evaluate("document.documentElement.scrollHeight") - top)
    clip = {"x": 0, "y": top, "width": shot.width, "height": height}
    return page.screenshot(clip=clip, full_page=True)  # type: ignore[arg-type]


def small(png: bytes) -> bytes:
    """Return a PNG in as many colours as keep it below the limit, 256 at most."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (256, 128, 64, 32):
        buffer = io.BytesIO()
        image.quantize(colours).save(buffer, "PNG", optimize=True)
        if buffer.tell() <= LARGEST:
            break
    return buffer.getvalue()


if __name__ == "__main__":
    main()
