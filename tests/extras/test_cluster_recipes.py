"""The scripts of docs/clusters.md do what they say: Snakemake runs its own, bash the others, Slurm is played."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from string import Template

import numpy as np
import pytest
import yaml
from pages import Block, blocks

from esmcls.cache.store import EmbeddingCache
from esmcls.workspace.workspace import Workspace

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clusters.md"
SEQUENCES = [f"MKT{'ACDEFGHIKL'[number % 10] * (1 + number)}" for number in range(40)]
PLAYED = (
    'srun() { "$@"; }; scontrol() { echo 127.0.0.1; }; ray() { while [ "$1" != -- ]; do shift; done; shift; "$@"; }; '
)
"""What Slurm and Ray are for a script here: each runs what it is given."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to be in with sequences.fasta, with our commands on the path."""
    records = (f">p{number}\n{sequence}\n" for number, sequence in enumerate(SEQUENCES))
    (tmp_path / "sequences.fasta").write_text("".join(records))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def scripts() -> list[Block]:
    return blocks(PAGE.read_text(encoding="utf-8"))


def file_of(name: str) -> str:
    """Return the block that the page gives as a file."""
    [text] = [block.text for block in scripts() if block.file == name]
    return text


def batch_script(word: str) -> str:
    """Return the only batch script with a word in it."""
    [text] = [block.text for block in scripts() if block.text.startswith("#!/bin/bash") and word in block.text]
    return text


def bash(script: str, *words: str, **variables: str) -> str:
    command = ["bash", "-euc", PLAYED + script, "script", *words]
    surroundings = {**os.environ, **variables}
    return subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True).stdout


def assert_all_is_embedded(workspace: Path, segments: int | None = None) -> None:
    [entry] = Workspace.open(workspace).caches
    with EmbeddingCache.open(entry.folder) as cache:
        assert cache.missing(SEQUENCES) == []
        assert np.isfinite(cache.read(SEQUENCES)).all()
        assert segments is None or cache.segments == segments


def test_snakemake_embeds_the_shares_and_joins_them(folder: Path) -> None:
    (folder / "Snakefile").write_text(file_of("workflow/Snakefile"))
    snakemake = [sys.executable, "-m", "snakemake", "--cores", "2"]
    subprocess.run(snakemake, check=True, capture_output=True)
    assert_all_is_embedded(folder / "proteins", segments=1)
    assert "sound; 40 sequences" in (folder / "done" / "verified.txt").read_text()
    again = subprocess.run(snakemake, check=True, capture_output=True, text=True)
    assert "Nothing to be done" in again.stderr + again.stdout


def test_the_script_blocks_of_nextflow_embed_the_shares_and_join_them(folder: Path) -> None:
    text = file_of("workflow/main.nf")
    parameters = dict(re.findall(r'^params\.(\w+) = "?(.*?)"?$', text, re.MULTILINE))
    embed, join = re.findall(r'"""\n(.*?)"""', text, re.DOTALL)
    values = {name: value.replace("$launchDir", str(folder)) for name, value in parameters.items()}

    def filled(script: str, **more: str) -> str:
        return Template(script.replace("${params.", "${")).substitute(values, **more)

    for part in range(1, int(parameters["parts"]) + 1):
        bash(filled(embed, part=str(part)))
    assert "sound; 40 sequences" in bash(filled(join))
    assert_all_is_embedded(folder / "proteins", segments=1)


def test_the_tasks_of_a_slurm_array_embed_everything(folder: Path) -> None:
    script = batch_script("--array")
    count = "3"
    for number in ("1", "3", "2"):
        facts = {"SLURM_ARRAY_TASK_ID": number, "SLURM_ARRAY_TASK_COUNT": count}
        bash(script, "sequences.fasta", "composition", "proteins", **facts)
    assert_all_is_embedded(folder / "proteins", segments=3)


def test_the_ray_script_for_slurm_gives_the_command_that_embeds(folder: Path) -> None:
    facts = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_NUM_NODES": "2"}
    script = batch_script("symmetric-run").replace("--engine ray --address auto", "--engine local")
    bash(script, "sequences.fasta", "composition", "proteins", **facts)
    assert_all_is_embedded(folder / "proteins", segments=1)


def test_symmetric_run_takes_the_options_that_the_page_gives_it() -> None:
    module = [sys.executable, "-m", "ray.scripts.scripts", "symmetric-run", "--help"]
    told = subprocess.run(module, capture_output=True, text=True, check=True).stdout
    given = re.findall(
        r" (--[\w-]+)", batch_script("symmetric-run").partition("ray symmetric-run")[2].partition(" -- ")[0]
    )
    assert given == ["--address", "--min-nodes"]
    assert all(option in told for option in given)


def test_the_manifest_for_kubernetes_is_yaml_whose_command_the_program_has(folder: Path) -> None:
    job = yaml.safe_load(file_of("workflow/rayjob.yaml"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    words = job["spec"]["entrypoint"].replace("/data/", f"{folder}/").replace("--engine ray", "--engine ray --dry-run")
    assert "40 distinct sequences: 0 cached" in bash(words.replace("--address auto", "--actors 2"))
    head, [workers] = (job["spec"]["rayClusterSpec"][name] for name in ("headGroupSpec", "workerGroupSpecs"))
    assert head["template"] == workers["template"]
    [mount] = head["template"]["spec"]["containers"][0]["volumeMounts"]
    assert mount["mountPath"] == "/data"
