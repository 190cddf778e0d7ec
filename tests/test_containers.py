"""The Dockerfile and the conda recipe say what they must; neither can be built where tests run."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import esmcls

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
CONDA = {"huggingface-hub": "huggingface_hub", "matplotlib": "matplotlib-base", "torch": "pytorch"}
"""What conda-forge calls a package that PyPI calls otherwise."""
CARELESS = """FROM python:latest
RUN pip install esmcls
RUN apt-get update && apt-get install -y git
CMD esmcls
"""

PIP = "install --no-cache-dir --constraint constraints.txt"

Instruction = tuple[str, str]


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def instructions(text: str) -> list[Instruction]:
    """Return a Dockerfile's instructions, each with what follows it, on one line."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def faults(text: str) -> list[str]:
    """Return what is wrong with a Dockerfile."""
    found = []
    for word, rest in instructions(text):
        if word == "FROM" and not re.match(r"[\w/.-]+:\d+\.\d+\.\d+-[\w-]+( AS \w+)?$", rest):
            found.append(f"not pinned: {rest}")
        if "pip install" in rest and "--constraint constraints.txt" not in rest:
            found.append("pip without constraints")
        if "pip install" in rest and "--no-cache-dir" not in rest:
            found.append("pip keeps its cache")
        if "apt-get install" in rest and "rm -rf /var/lib/apt/lists/*" not in rest:
            found.append("apt keeps its lists")
        if word in ("CMD", "ENTRYPOINT") and not rest.startswith("["):
            found.append(f"{word} by way of a shell")
    users = [rest for word, rest in instructions(text) if word == "USER"]
    if not users or users[-1] in ("root", "0"):
        found.append("runs as root")
    return found


def test_the_image_is_pinned_constrained_without_caches_and_without_root() -> None:
    assert faults(DOCKERFILE) == []


def test_a_careless_dockerfile_is_found_out() -> None:
    assert faults(CARELESS) == [
        "not pinned: python:latest",
        "pip without constraints",
        "pip keeps its cache",
        "apt keeps its lists",
        "CMD by way of a shell",
        "runs as root",
    ]


def test_every_file_that_the_image_copies_is_let_through_and_tests_and_workspaces_are_not() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    let_through = {line[1:] for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    assert all((ROOT / name).exists() for name in let_through)
    assert {
        "esmcls",
        "cli",
        "data",
        "setup.cfg",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "constraints.txt",
    } <= let_through
    assert not {"tests", "esmcls-work", ".git"} & let_through


def test_python_and_the_extras_of_the_image_are_those_that_the_package_has(setup: configparser.ConfigParser) -> None:
    versions = {match[1] for match in re.finditer(r"^FROM python:([\d.]+)", DOCKERFILE, re.MULTILINE)}
    [version] = versions
    assert version in SpecifierSet(setup["options"]["python_requires"])
    assert f"Python :: {version.rpartition('.')[0]}" in setup["metadata"]["classifiers"]
    [extras] = [rest for word, rest in instructions(DOCKERFILE) if word == "ARG" and rest.startswith("EXTRAS=")]
    assert set(extras.removeprefix("EXTRAS=").split(",")) <= set(setup["options.extras_require"])


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        (
            "cpu",
            f"{PIP} --extra-index-url https://download.pytorch.org/whl/cpu .[go]",
        ),
        ("cuda", f"{PIP} .[go]"),
        ("tpu", "COMPUTE is cpu or cuda, not tpu"),
    ],
)
def test_the_build_argument_decides_which_torch_is_installed(compute: str, said: str) -> None:
    """The shell script of the Dockerfile is run with an `echo` in the place of pip."""
    [script] = [rest for word, rest in instructions(DOCKERFILE) if word == "RUN" and "COMPUTE" in rest]
    script = script.replace("python -m venv /opt/esmcls", "true").replace("/opt/esmcls/bin/pip", "echo")
    surroundings = {"COMPUTE": compute, "EXTRAS": "go", "PATH": "/usr/bin:/bin"}
    words = ["sh", "-c", script]
    ran = subprocess.run(words, env=surroundings, capture_output=True, text=True, check=False)
    assert (ran.stdout + ran.stderr).strip() == said
    assert ran.returncode == (0 if compute in ("cpu", "cuda") else 2)


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    """The recipe as conda reads it, for this version."""
    text = (ROOT / "recipe" / "meta.yaml").read_text(encoding="utf-8")
    [version] = re.findall(r'{% set version = "([^"]+)" %}', text)
    plain = re.sub(r"{%.*%}", "", text).replace("{{ version }}", version).replace("{{ PYTHON }}", "python")
    read: dict[str, Any] = yaml.safe_load(plain)
    return read


def test_the_recipe_requires_what_setup_cfg_requires(recipe: dict[str, Any], setup: configparser.ConfigParser) -> None:
    wanted = [Requirement(line) for line in setup["options"]["install_requires"].strip().splitlines()]
    named = {f"{CONDA.get(one.name, one.name)} {one.specifier}" for one in wanted}
    assert set(recipe["requirements"]["run"]) == named | {f"python {setup['options']['python_requires']}"}


def test_the_recipe_is_of_this_version_and_has_its_command(
    recipe: dict[str, Any], setup: configparser.ConfigParser
) -> None:
    assert recipe["package"] == {"name": "esmcls", "version": esmcls.__version__}
    assert recipe["build"]["entry_points"] == setup["options.entry_points"]["console_scripts"].strip().splitlines()
    assert recipe["about"]["license"] == setup["metadata"]["license"]
    assert recipe["about"]["summary"] == setup["metadata"]["description"]
    [needed] = re.findall(r'"setuptools(>=\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert f"setuptools {needed}" in recipe["requirements"]["host"]
