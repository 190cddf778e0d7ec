"""Pages of the room's own templates, in which every id and label is escaped and nothing is fetched."""

from __future__ import annotations

import json
from importlib import resources
from typing import Final

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

_ESCAPED: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""What could end a script or begin a comment in it."""


def fill(template: str, **values: object) -> str:
    """Return a page by a template of this room; values are escaped unless they are `Markup`."""
    folder = resources.files("esmcls").joinpath("insight")
    loader = FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8"))
    options = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return f"{Environment(loader=loader, **options).get_template(template).render(**values)}\n"


def script_json(value: object) -> Markup:
    r"""Return JSON that can stand in a script: no text in it ends the script.

    Examples
    --------
    >>> print(script_json(["</script>"]))
    ["\u003c/script\u003e"]
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup("".join(_ESCAPED.get(sign, sign) for sign in text))
