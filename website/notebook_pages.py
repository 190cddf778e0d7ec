"""Pages made from notebooks: their text, their cells, and what the cells answered when they were run last."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as a page in Markdown, and the images that it shows by their names beside the page."""
    images: dict[str, bytes] = {}
    parts = [f"This page is the notebook `docs/notebooks/{path.name}`; its cells are run by the tests."]
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            parts += answered(output, images, path.stem)
    return "\n\n".join([parts[1], parts[0], *parts[2:]]) + "\n", images


def answered(output: dict[str, Any], images: dict[str, bytes], stem: str) -> Iterator[str]:
    """Yield what a cell answered: an image, a table as HTML, else its text."""
    data: dict[str, Any] = output.get("data", {})
    if "image/png" in data:
        name = f"{stem}-{len(images) + 1}.png"
        images[name] = base64.b64decode("".join(data["image/png"]))
        yield f"![What the cell shows]({name})"
    elif "text/html" in data:
        yield f"<div>{''.join(data['text/html'])}</div>"
    elif text := "".join(data.get("text/plain", output.get("text", ""))).rstrip():
        yield f"```text\n{text}\n```"
