"""On Windows every module is imported, and what needs POSIX says so when it is called."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from esmcls.finetuning.task import peak_memory

IMPORT_ALL = """
import builtins, importlib, pkgutil, sys

real = builtins.__import__

def without_posix(name, globals=None, *others, **named):
    ours = (globals or {}).get("__name__", "").startswith("esmcls")
    if ours and name in ("fcntl", "resource", "pwd", "grp", "termios"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return real(name, globals, *others, **named)

builtins.__import__ = without_posix
names = []
for root in ("esmcls", "esmcls_cli", "esmcls_data"):
    package = importlib.import_module(root)
    names += [root, *(module.name for module in pkgutil.walk_packages(package.__path__, f"{root}."))]
for name in names:
    if not name.startswith("esmcls_data."):  # scripts that made files
        importlib.import_module(name)
print(len(names))
"""


def test_every_module_is_imported_without_fcntl_and_resource() -> None:
    run = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 100


def test_peak_memory_of_a_cpu_is_not_known_without_posix_and_stops_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak_memory(torch.device("cpu")) > 1 << 20
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory(torch.device("cpu")) == 0


def imported_packages(path: Path) -> set[str]:
    """Return the packages that a module imports, wherever it does."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("folder", ["esmcls", "cli", "data"])
def test_fair_esm_and_dnaio_are_for_tests_alone(folder: str) -> None:
    for path in (Path(__file__).parents[1] / folder).rglob("*.py"):
        assert not imported_packages(path) & {"esm", "dnaio"}, path
