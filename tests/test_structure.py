"""The package keeps the shape that `benchmarks/structure.py` measures, and the script measures what it says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENDS = {"app", "demo", "engines", "info", "insight", "reference", "scanning"}
"""What some commands do: the rooms of the flow itself know none of these."""


@pytest.fixture(scope="module")
def structure() -> Any:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("structure_benchmark", ROOT / "benchmarks" / "structure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the names in annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def modules(structure: Any) -> list[Any]:
    """All modules of the library and of the commands."""
    return [*structure.modules_below(ROOT / "esmcls"), *structure.modules_below(ROOT / "cli")]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A checkout of a few modules: `b.two` and `b.three` form a circle, `a` climbs to `b`."""
    files = {
        "__init__": "from esmcls.b.two import told",
        "errors": "",
        "a": "def f(x: Any) -> set[Any]:\n    'What it is.'\n    from esmcls.b import two\n    return cast(int, x)\n",
        "b/__init__": "",
        "b/two": "import esmcls.b.three\nfrom esmcls.errors import Fault\nx, y = 1, len('a')\nx, y = y, x\n",
        "b/three": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from esmcls.b.two import told\n",
    }
    for name, text in files.items():
        path = tmp_path / "esmcls" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "setup.cfg").write_text(
        "[importlinter:contract:rooms]\nlayers =\n    b\n    a | c\n    errors : types\n"
    )
    return tmp_path


def test_the_root_has_ten_files_at_most(structure: Any) -> None:
    assert structure.files_of_folders(ROOT / "esmcls")["esmcls"] <= 10


def test_no_modules_import_one_another_in_a_circle(structure: Any, modules: list[Any]) -> None:
    assert structure.circles(structure.imports(modules)) == []


def test_rooms_are_joined_by_few_arrows(structure: Any, modules: list[Any]) -> None:
    graph = structure.imports([module for module in modules if module.name.startswith("esmcls.")])
    arrows = structure.of_rooms(graph)
    assert sum(len(targets) for room, targets in arrows.items() if room not in ENDS) <= 180
    assert max(len(arrows[room]) for room in ENDS) <= 15
    assert {room for room in arrows if arrows[room] & ENDS} <= ENDS


def test_every_room_has_its_place_in_the_order(structure: Any, modules: list[Any]) -> None:
    rooms = {structure.room_of(module.name) for module in modules if module.name.startswith("esmcls.")}
    assert rooms == set(structure.room_order(ROOT))


def test_half_of_the_functions_have_seven_lines_or_fewer(structure: Any, modules: list[Any]) -> None:
    assert median(structure.length(function) for module in modules for function in module.functions()) <= 7


def test_imports_are_found_wherever_they_stand(structure: Any, small: Path) -> None:
    assert structure.imports(structure.modules_below(small / "esmcls")) == {
        "esmcls.a": {"esmcls.b.two"},
        "esmcls.b": set(),
        "esmcls.b.three": {"esmcls.b.two"},
        "esmcls.b.two": {"esmcls.b.three", "esmcls.errors"},
        "esmcls.errors": set(),
    }


def test_rooms_circles_and_climbs_are_read_from_the_imports(structure: Any, small: Path) -> None:
    graph = structure.imports(structure.modules_below(small / "esmcls"))
    assert structure.of_rooms(graph) == {"a": {"b"}, "b": {"errors"}, "errors": set()}
    assert structure.circles(graph) == [["esmcls.b.three", "esmcls.b.two"]]
    assert structure.room_order(small) == {"errors": 0, "types": 0, "a": 1, "c": 1, "b": 2}
    assert structure.climbs(graph, structure.room_order(small)) == [("esmcls.a", "esmcls.b.two")]
    assert structure.files_of_folders(small / "esmcls") == {"esmcls": 2, "esmcls/b": 2}


def test_code_is_counted(structure: Any, small: Path) -> None:
    by_name = {module.name: module for module in structure.modules_below(small / "esmcls")}
    a = by_name["esmcls.a"]
    [function] = a.functions()
    assert (structure.length(function), structure.length(function, docstring=False)) == (4, 3)
    assert [structure.says_any(annotation) for annotation in structure.annotations(a)] == [True, True]
    assert (structure.casts(a), structure.what_docstrings(a)) == (1, 1)
    assert structure.packed_assignments(by_name["esmcls.b.two"]) == 1


def test_two_checkouts_are_printed_side_by_side(
    structure: Any, small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["structure.py", str(small), str(small)])
    structure.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(structure.figures(small))
    assert ["casts", "1", "1"] in [line.split() for line in lines]
    assert any(line.startswith("circles of modules ") and line.count("1 (of 2)") == 2 for line in lines)
