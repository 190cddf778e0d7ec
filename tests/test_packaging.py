"""The packaging says the same thing everywhere: versions, dependencies, packages, and the commands of README."""

from __future__ import annotations

import ast
import configparser
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import esmcls
from esmcls.heads.registry import EXTRAS

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"esmcls": "esmcls", "cli": "esmcls_cli", "data": "esmcls_data"}
LATE = ["click", "faiss", "polars", "sklearn", "tqdm", "xopen", "zstandard"]
"""What a bare GPU image lacks."""
REFERENCES = ["dnaio", "esm", "onnx", "onnxruntime"]
"""What tests alone compare with: other tools' readers and models."""

MODULES = [module.name for module in pkgutil.walk_packages(esmcls.__path__, "esmcls.")]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read_string(read("setup.cfg"))
    return parser


def requirements(text: str) -> dict[str, Requirement]:
    """Read lines of requirements; where a name stands once for old and once for new Pythons, this Python's counts."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    found = [Requirement(line) for line in lines if line]
    return {one.name: one for one in found if one.marker is None or one.marker.evaluate()}


def direct(setup: configparser.ConfigParser) -> dict[str, Requirement]:
    return requirements(setup["options"]["install_requires"] + setup["options.extras_require"]["test"])


def readme_command(which: str) -> str:
    """Return README's command that ends in `which`."""
    [command] = [line for line in read("README.md").splitlines() if line.startswith("python3") and line.endswith(which)]
    return command


def test_ci_runs_the_test_command_of_readme() -> None:
    lines = read(".ci/run").splitlines()
    assert lines[-1] == readme_command("tox run")
    assert "set -eu" in lines
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def extras(setup: configparser.ConfigParser) -> dict[str, set[str]]:
    """Return the packages that each extra brings."""
    return {name: set(requirements(text)) for name, text in setup["options.extras_require"].items()}


def advised() -> Iterator[tuple[str, str, str]]:
    """Give the place, the package and the extra of each error that says what to install; "" for a package by itself."""
    for path in sorted((ROOT / "esmcls").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "MissingExtraError":
                texts = [text.value if isinstance(text, ast.Constant) else "" for text in node.args]
                assert len(texts) in (2, 3)
                yield f"{path.name}:{node.lineno}", texts[1], (*texts, "")[2]


def test_what_an_error_advises_to_install_is_an_extra_that_brings_the_package(
    setup: configparser.ConfigParser,
) -> None:
    brings = extras(setup) | {"": set(requirements(setup["options"]["install_requires"]))}
    wrong = {advice for advice in advised() if advice[1] and advice[1] not in brings.get(advice[2], set())}
    assert wrong == set()
    assert {package: extra for package, extra in EXTRAS.items() if package not in brings[extra]} == {}
    assert {extra for _, _, extra in advised()} >= {"go", "homology", "finetune", "track"}


def test_every_extra_that_is_named_anywhere_is_one(setup: configparser.ConfigParser) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    code = [path for folder in ("esmcls", "cli", "data") for path in (ROOT / folder).rglob("*.py")]
    named = {
        (path.name, extra)
        for path in pages + code
        for extra in re.findall(r"(?:esmcls|\.|whl)\[(\w+)\]", path.read_text(encoding="utf-8"))
    }
    assert {extra for _, extra in named} >= {"go", "finetune", "track"}
    assert {(page, extra) for page, extra in named if extra not in extras(setup)} == set()


def test_readme_installs_from_a_checkout_or_a_wheel_since_there_is_no_address_yet() -> None:
    commands = re.findall(r"pip install ([^&\n`]*)", read("README.md"))
    assert {re.sub(r"-c constraints.txt ", "", command).split()[0] for command in commands} == {
        *(".", "'.[go]'", "tox"),
        f"dist/esmcls-{esmcls.__version__}-py3-none-any.whl",
        "'esmcls[go]'",  # where it is installed already
        *("--no-deps", "'nvidia-cuda-runtime-cu12>=12.6'"),  # instead of faiss-cpu
    }
    assert "Once it is installed, `pip install 'esmcls[go]'`" in read("README.md")
    rows = re.findall(r"^\| `(\w+)` \|", read("README.md"), re.MULTILINE)
    assert set(rows) >= {"go", "homology", "finetune", "track"}


def test_both_commands_of_readme_install_through_the_constraints() -> None:
    for which in ("esmcls demo", "tox run"):
        assert " -c constraints.txt " in readme_command(which)


def test_the_newest_change_and_the_citation_name_this_version_and_one_day() -> None:
    [version, day] = re.findall(r"^## \[(\d[^\]]*)\] - (\S+)$", read("CHANGELOG.md"), re.MULTILINE)[0]
    citation = dict(line.split(": ", 1) for line in read("CITATION.cff").splitlines() if re.match(r"\S+: ", line))
    assert version == citation["version"] == esmcls.__version__
    assert day == citation["date-released"]


def test_setup_cfg_names_every_package(setup: configparser.ConfigParser) -> None:
    found = {
        ".".join((FOLDERS[folder], *init.parent.relative_to(ROOT / folder).parts))
        for folder in FOLDERS
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert set(setup["options"]["packages"].split()) == found
    mapped = dict(line.split(" = ") for line in setup["options"]["package_dir"].strip().splitlines())
    assert mapped == {package: folder for folder, package in FOLDERS.items()}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_package_says_that_it_is_typed(folder: str) -> None:
    assert (ROOT / folder / "py.typed").exists()


def test_the_oldest_constraints_are_the_lower_bounds_of_setup_cfg(setup: configparser.ConfigParser) -> None:
    bounds = {name: str(one.specifier).replace(">=", "==") for name, one in direct(setup).items() if name != "torch"}
    oldest = {name: str(one.specifier) for name, one in requirements(read("constraints-oldest.txt")).items()}
    assert bounds.items() <= oldest.items()


def test_the_constraints_pin_every_direct_dependency_within_its_bounds(setup: configparser.ConfigParser) -> None:
    pinned = requirements(read("constraints.txt"))
    for name, wanted in direct(setup).items():
        [pin] = pinned[name].specifier
        assert pin.operator == "=="
        assert wanted.specifier.contains(pin.version), name


def test_both_constraint_files_pin_the_same_torch() -> None:
    files = ("constraints.txt", "constraints-oldest.txt")
    assert len({str(requirements(read(name))["torch"].specifier) for name in files}) == 1


@pytest.mark.parametrize("group", ["console_scripts", "esmcls.encoders", "esmcls.heads"])
def test_every_registered_name_leads_to_something_callable(setup: configparser.ConfigParser, group: str) -> None:
    lines = setup["options.entry_points"][group].strip().splitlines()
    assert lines
    for name, value in (line.split(" = ") for line in lines):
        assert callable(EntryPoint(name, value, group).load())


def import_without(names: list[str], modules: list[str], then: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys\nsys.modules.update(dict.fromkeys({names!r}))\n"
    code += "".join(f"import {module}\n" for module in modules) + then
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_encoder_cache_and_training_import_on_an_image_with_torch_numpy_h5py_and_safetensors_alone() -> None:
    encoding = ["encoders.encoder", "encoders.esm2", "encoders.inference", "encoders.weights"]
    modules = [*encoding, "cache.store", "cache.embed", "training.loop", "pretraining.run"]
    ran = import_without(LATE, [f"esmcls.{module}" for module in modules])
    assert ran.returncode == 0, ran.stderr


def test_every_module_and_the_commands_do_without_the_tools_that_tests_compare_with() -> None:
    ran = import_without(REFERENCES, [*MODULES, "esmcls_cli.main"], then="assert esmcls_cli.main.main(['--help']) == 0")
    assert ran.returncode == 0, ran.stderr


def test_an_import_of_what_is_not_there_would_be_seen() -> None:
    assert "import of click halted" in import_without(LATE, ["esmcls_cli.main"]).stderr
