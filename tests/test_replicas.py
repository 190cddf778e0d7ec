"""Processes that train one model together: two on the CPU against one that takes the batches of both."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from esmcls.encoders.model import ESM2, ModelConfig
from esmcls.encoders.weights import load_state, save_state
from esmcls.errors import UsageError
from esmcls.pretraining.corpus import Corpus
from esmcls.pretraining.run import PretrainConfig, Pretraining
from esmcls.training.loop import Entry, run
from esmcls.training.processes import ALONE, Replicas, _starts_its_own, start_replicas
from esmcls.training.schedule import TrainingPlan

EXCHANGE = """
import json, torch
from esmcls.training.processes import start_replicas
replicas = start_replicas(["cpu", "cpu"])
model = torch.nn.Linear(2, 1)
for value in model.parameters():
    value.grad = torch.full_like(value, 1.0 + replicas.rank)
replicas.average_gradients(model)
rows = replicas.gather(torch.tensor([[replicas.rank, 0], [replicas.rank, 1]]))
entry = replicas.average_entry({"loss": float(replicas.rank)})
if replicas.first:
    print(json.dumps([replicas.count, [p.grad.unique().tolist() for p in model.parameters()], rows.tolist(), entry]))
"""


@dataclass(frozen=True)
class Numbered(Replicas):
    """Stands for the process of a number."""

    number: int = 0

    @property
    def rank(self) -> int:
        return self.number


class OneAfterTheOther(Pretraining):
    """Takes the batches of two processes in one."""

    def loss(self, step: int) -> tuple[Tensor, Entry]:
        found = []
        for number in (0, 1):
            self.replicas = Numbered(number=number)
            found.append(super().loss(step))
        entries = [entry for _, entry in found]
        return (found[0][0] + found[1][0]) / 2, {name: sum(e[name] for e in entries) / 2 for name in entries[0]}


@pytest.mark.extras
def test_gradients_and_entries_become_their_mean_and_rows_are_joined_in_order(tmp_path: Path) -> None:
    (tmp_path / "exchange.py").write_text(EXCHANGE)
    ran = subprocess.run([sys.executable, tmp_path / "exchange.py"], capture_output=True, text=True, check=True)
    count, gradients, rows, entry = json.loads(ran.stdout.splitlines()[-1])
    assert (count, gradients, entry) == (2, [[1.5], [1.5]], {"loss": 0.5})
    assert rows == [[0, 0], [0, 1], [1, 0], [1, 1]]


@pytest.mark.extras
def test_two_processes_train_as_one_with_the_batches_of_both(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sequences = ["".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), 30)) for _ in range(40)]
    (tmp_path / "own.fasta").write_text("".join(f">{row}\n{text}\n" for row, text in enumerate(sequences)))
    torch.manual_seed(0)
    teacher = ESM2(ModelConfig(2, 24, 3))
    save_state(tmp_path / "teacher.safetensors", teacher.config, teacher.state_dict())
    size = {"layers": 2, "width": 16, "heads": 2, "steps": 4, "tokens": 128, "shortest": 8, "longest": 32}
    options = [word for name, value in size.items() for word in (f"--{name}", str(value))]
    options += ["--teacher", tmp_path / "teacher.safetensors", "--teacher-layers", "1,2", "--mlm-weight", "0.5"]
    options += ["-o", tmp_path / "own.safetensors", "--device", "cpu,cpu"]
    command = [sys.executable, "-m", "esmcls_cli.main", "pretrain", tmp_path / "own.fasta", *options]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    assert ran.stderr.count("esmcls: on cpu (") == 1

    config = PretrainConfig(**size, teacher_layers=(1, 2), mlm_weight=0.5)
    corpus = Corpus(sequences, tokens=128, shortest=8, longest=32)
    reference = OneAfterTheOther(config, corpus, teacher)
    history = run(reference, TrainingPlan(4, config.lr, config.warmup, clip=1.0))
    logged = [json.loads(line) for line in (tmp_path / "own.log.jsonl").read_text().splitlines()]
    assert [entry["loss"] for entry in logged] == pytest.approx([e["loss"] for e in history.entries], rel=1e-4)
    assert [entry["tokens"] for entry in logged] == [2 * entry["tokens"] for entry in history.entries]
    _, state = load_state(tmp_path / "own.safetensors")
    for name, value in reference.model["student"].state_dict().items():
        assert torch.allclose(state[name].float(), value, atol=2e-3), name


def test_one_device_needs_no_other_process() -> None:
    assert start_replicas(["cpu"]) == ALONE
    assert (ALONE.rank, ALONE.count, ALONE.first) == (0, 1, True)


@pytest.mark.extras
def test_two_machines_train_together(tmp_path: Path) -> None:
    text = EXCHANGE.replace('["cpu", "cpu"]', '["cpu"], nodes=2')
    (tmp_path / "exchange.py").write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    command = [sys.executable, str(tmp_path / "exchange.py")]
    machines = [
        subprocess.Popen(
            command, env=os.environ | place | {"NODE_RANK": str(number)}, stdout=subprocess.PIPE, text=True
        )
        for number in (0, 1)
    ]
    first, second = (machine.communicate(timeout=120)[0] for machine in machines)
    count, gradients, rows, entry = json.loads(first.splitlines()[-1])
    assert (count, gradients, entry) == (2, [[1.5], [1.5]], {"loss": 0.5})
    assert rows == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert [machine.returncode for machine in machines] == [0, 0]
    assert not second.strip()


def test_one_device_alone_cannot_share_a_model() -> None:
    with pytest.raises(UsageError, match="--shard: cpu alone has nobody to share the model with"):
        start_replicas(["cpu"], sharded=True)


@pytest.mark.extras
def test_what_the_first_process_does_alone_is_done_when_the_others_go_on(tmp_path: Path) -> None:
    text = """
import sys, time
from pathlib import Path
from esmcls.training.processes import start_replicas
replicas, done = start_replicas(["cpu", "cpu"]), Path(sys.argv[1])
with replicas.first_alone() as first:
    if first:
        time.sleep(0.5)
        done.touch()
print(replicas.any(not done.exists()))
"""
    (tmp_path / "wait.py").write_text(text)
    command = [sys.executable, tmp_path / "wait.py", tmp_path / "done"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "True" not in ran.stdout
    with ALONE.first_alone() as first:
        assert first


@pytest.mark.parametrize(
    ("surroundings", "devices", "nodes", "own"),
    [
        ({}, 4, 1, False),
        ({"SLURM_NTASKS": "1"}, 4, 1, True),
        ({"SLURM_NTASKS": "4"}, 4, 1, False),
        ({"SLURM_NTASKS": "8"}, 4, 2, False),
        ({"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "interactive"}, 4, 1, False),
        ({"SLURM_NTASKS": "1", "TORCHELASTIC_RUN_ID": "a"}, 4, 1, False),
    ],
)
def test_slurms_only_process_starts_those_of_the_other_devices(
    monkeypatch: pytest.MonkeyPatch, surroundings: dict[str, str], devices: int, nodes: int, own: bool
) -> None:
    for name in ("SLURM_NTASKS", "SLURM_JOB_NAME", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    assert _starts_its_own(devices, nodes) is own


def test_another_number_of_slurms_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")
    line = "Slurm starts 2 processes (tasks) for 8 devices: give sbatch --nodes=2 --ntasks-per-node=4"
    with pytest.raises(UsageError, match=re.escape(line)):
        start_replicas([f"cuda:{number}" for number in range(4)], nodes=2)


def test_blocks_of_a_shared_model_are_gathered_in_bf16_and_all_else_stays_fp32() -> None:
    seen: dict[str, torch.dtype] = {}

    class Block(torch.nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen["block"] = self.weight.dtype
            return super().forward(x.to(self.weight.dtype)).float()

    model = torch.nn.Sequential(Block(4, 4), torch.nn.Linear(4, 2))
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        Replicas(sharded=True).place(model, [model[0]], torch.bfloat16)
        model(torch.ones(3, 4)).sum().backward()
        dtypes = {name: (value.dtype, value.grad.dtype) for name, value in model.named_parameters()}
    finally:
        torch.distributed.destroy_process_group()
    assert seen == {"block": torch.bfloat16}
    assert set(dtypes.values()) == {(torch.float32, torch.float32)}


def test_devices_of_two_kinds_are_refused() -> None:
    with pytest.raises(UsageError, match="devices of one kind train together"):
        start_replicas(["cpu", "cuda:0"])
