"""`esmcls pretrain`: what it writes, which objectives it takes by default, where clusters come from."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from command import done, run

from esmcls.encoders.model import ESM2, ModelConfig
from esmcls.encoders.weights import save_state
from esmcls.pretraining.run import PretrainConfig
from esmcls_cli.main import esmcls
from esmcls_cli.options.values import integers

SMALL = ("--layers", "1", "--width", "8", "--heads", "2", "--teacher-layers", "1,2", "--student-layers", "1")
SHORT = ("--steps", "2", "--tokens", "128", "--shortest", "8", "--longest", "20")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    rows = [f"c{row // 2}\tp{row}\t{''.join(random.choice(list('ACDEFGHIKLMNPQRSTVWY'), 30))}" for row in range(40)]
    (tmp_path / "corpus.tsv").write_text("\n".join(["cluster\tid\tsequence", *rows]) + "\n")
    return tmp_path / "corpus.tsv"


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(layers=2, width=16, heads=2)
    save_state(tmp_path / "teacher.safetensors", config, ESM2(config).state_dict())
    return tmp_path / "teacher.safetensors"


def logged(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in output.with_suffix(".log.jsonl").read_text().splitlines()]


def test_a_pretrained_encoder_can_be_embedded_with(corpus: Path, teacher: Path, tmp_path: Path) -> None:
    output = tmp_path / "own.safetensors"
    ran = done("pretrain", corpus, "--teacher", teacher, *SMALL, *SHORT, "-o", output)
    assert ran.out.splitlines() == [
        f"{output}: trained for 2 steps; curves in own.svg, log in own.log.jsonl",
        f"next: esmcls embed --encoder {output} ...",
    ]
    assert "esmcls: training for 2 steps" in ran.err.splitlines()
    assert (tmp_path / "own.svg").read_text().startswith("<?xml")
    told = done("info", output).out.splitlines()
    assert told[1] == "ESM-2: 1 layers, width 8, 2 heads"
    ran = done("embed", corpus, "--encoder", output, "-w", tmp_path / "w")
    assert ran.out == "40 sequences, 40 distinct: 40 embedded, 0 were cached\n"


def test_with_a_teacher_it_learns_from_it_alone_and_without_one_from_masked_residues(
    corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    done("pretrain", corpus, "--teacher", teacher, *SMALL, *SHORT, "-o", tmp_path / "taught.safetensors")
    done("pretrain", corpus, *SMALL, *SHORT, "-o", tmp_path / "alone.safetensors")
    parts = [set(logged(tmp_path / f"{name}.safetensors")[0]) for name in ("taught", "alone")]
    always = {"step", "lr", "loss", "tokens", "seconds"}
    assert [found - always for found in parts] == [{"residue", "pooled"}, {"masked"}]


def test_clusters_come_from_the_column_or_from_a_table(corpus: Path, teacher: Path, tmp_path: Path) -> None:
    table = tmp_path / "clusters.tsv"
    table.write_text("".join(f"p{row // 2 * 2}\tp{row}\n" for row in range(40)))
    plain = tmp_path / "plain.fasta"
    rows = [line.split("\t") for line in corpus.read_text().splitlines()[1:]]
    plain.write_text("".join(f">{name}\n{text}\n" for _, name, text in rows))
    given = ("--teacher", teacher, *SMALL, *SHORT)
    done("pretrain", corpus, *given, "--clusters", "-o", tmp_path / "column.safetensors")
    done("pretrain", plain, *given, "--clusters", table, "-o", tmp_path / "table.safetensors")
    written = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("column", "table")]
    assert "contrast" in logged(tmp_path / "column.safetensors")[0]
    assert written[0] == written[1]


def test_residue_targets_and_profiles_are_learned_beside_the_teacher(
    corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    (tmp_path / "t.tsv").write_text("id\tsequence\tss8\taccessibility\na\tMKTAYIAKQR\tCHHHH?EEEC\t" + "5 " * 10 + "\n")
    np.savez(tmp_path / "p.npz", id=["a"], length=[10], profile=np.ones((10, 20)))
    given = (corpus, "--teacher", teacher, *SMALL, *SHORT, "--residue-targets", tmp_path / "t.tsv")
    done("pretrain", *given, "-o", tmp_path / "one.safetensors")
    done("pretrain", *given, "--residue-profiles", tmp_path / "p.npz", "-o", tmp_path / "two.safetensors")
    parts = [set(logged(tmp_path / f"{name}.safetensors")[0]) for name in ("one", "two")]
    taught = {"step", "lr", "loss", "tokens", "seconds", "residue", "pooled"}
    assert [found - taught for found in parts] == [{"states", "accessibility"}, {"states", "accessibility", "profile"}]


def test_profiles_without_their_table_are_refused(corpus: Path, tmp_path: Path) -> None:
    ran = run("pretrain", corpus, "--residue-profiles", tmp_path / "p.npz", "-o", tmp_path / "own.safetensors")
    assert (ran.code, "give it, too: --residue-targets FILE" in ran.err) == (2, True)


def test_a_bad_record_of_targets_is_one_line_with_its_place(corpus: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text("id\tsequence\tss8\taccessibility\na\tMKT\tCH\t\n")
    ran = run("pretrain", corpus, "--residue-targets", table, "-o", tmp_path / "own.safetensors")
    assert ran.code == 1
    expected = f"{table}:2: record 'a': 2 states of secondary structure of 3 residues; give one for each residue"
    assert expected in ran.err


def test_a_sequence_without_a_cluster_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("id\tsequence\np\tMKTAYIAKQR\n")
    ran = run("pretrain", tmp_path / "a.tsv", "--clusters", "-o", tmp_path / "own.safetensors")
    assert ran.code != 0
    expected = f"{tmp_path / 'a.tsv'}, line 2: p has no cluster; give SEQUENCES a column cluster, or --clusters a table"
    assert expected in ran.err


def test_an_output_that_cannot_be_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    ran = run("pretrain", tmp_path / "absent.fasta", "-o", tmp_path / "no" / "own.safetensors")
    assert ran.code != 0
    assert "its folder does not exist" in ran.err


def test_the_defaults_of_pretraining_are_those_of_the_library() -> None:
    command = esmcls.get_command(click.Context(esmcls), "pretrain")
    assert command is not None
    default = PretrainConfig()
    decided = {"default_layers", *(f"{name}_weight" for name in ("distill", "mlm", "contrast", "structure", "profile"))}
    names = vars(default).keys() - decided
    given = {one.name: one.default for one in command.params if one.name in names}
    given["teacher_layers"] = integers(given["teacher_layers"], "--teacher-layers")
    assert given == {name: value for name, value in vars(default).items() if name in given}
    assert len(given) >= 10
