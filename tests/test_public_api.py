"""What `import esmcls` promises: every public name, and nothing heavy before it is used."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import esmcls

HEAVY = ("torch", "h5py", "polars", "sklearn", "faiss", "numpy")


def loaded_after(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import esmcls; dir(esmcls)") == set()


def test_the_check_for_heavy_modules_would_find_one() -> None:
    assert "numpy" in loaded_after("import numpy")


def test_the_help_page_and_the_reading_of_records_load_neither_torch_nor_h5py() -> None:
    helped = "from esmcls_cli.main import main\nassert main(['--help']) == 0"
    assert loaded_after(helped) == set()
    assert loaded_after("import esmcls; esmcls.read_records, esmcls.load_encoder") & {"torch", "h5py"} == set()


@pytest.mark.parametrize("name", [name for name in esmcls.__all__ if name != "__version__"])
def test_a_public_name_is_imported_from_its_module_at_first_use(name: str) -> None:
    value = getattr(esmcls, name)
    assert value is getattr(importlib.import_module(f"esmcls.{esmcls._HOMES[name]}"), name)
    assert inspect.getdoc(value)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'esmcls' has no attribute 'embedd'"):
        esmcls.embedd  # noqa: B018


def test_no_public_name_hides_a_submodule() -> None:
    submodules = {module.name for module in pkgutil.iter_modules(esmcls.__path__)}
    assert submodules.isdisjoint(esmcls.__all__)


def test_type_checkers_see_the_same_names_as_the_interpreter() -> None:
    tree = ast.parse(Path(esmcls.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: str(statement.module).removeprefix("esmcls.")
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen == esmcls._HOMES


def test_dir_lists_names_that_are_not_imported_yet() -> None:
    assert set(esmcls.__all__) <= set(dir(esmcls))


def test_every_room_is_told_of_in_the_package_docstring() -> None:
    told = (esmcls.__doc__ or "").replace(",", " ").split()
    assert {module.name for module in pkgutil.iter_modules(esmcls.__path__)} - {"version"} <= set(told)
