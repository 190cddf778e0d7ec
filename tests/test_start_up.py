"""Start-up: a command loads what it computes with, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from command import done
from families import write_families

from esmcls.encoders import encoder
from esmcls.encoders.sources import fair_esm
from esmcls.encoders.sources.places import bundled_path
from esmcls.encoders.weights import load_state
from esmcls.errors import WeightsError
from esmcls.foreign.safetensors_header import read_shapes


def loaded(modules: tuple[str, ...], *words: str) -> list[str]:
    """Run a command in a process of its own and return which of some modules are loaded at its end."""
    code = f"import sys; from esmcls_cli.main import main; code = main({list(words)})\n"
    code += f"sys.exit(code or ' '.join(name for name in {modules} if name in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout, ran.stderr
    return ran.stderr.splitlines()[-1].split()


@pytest.mark.parametrize("words", [("heads",), ("heads", "--terms", "--json"), ("heads", "knn"), ("encoders",)])
def test_names_and_defaults_are_listed_without_loading_what_computes(words: tuple[str, ...]) -> None:
    assert loaded(("torch", "lightgbm", "scipy", "h5py", "polars", "huggingface_hub.file_download"), *words) == []


SAID = """
import gc, json, sys
from esmcls_cli.main import main
codes = [main(words) for words in json.loads(sys.argv[1])]
said = {"codes": codes, "loaded": list(sys.modules), "collects": gc.isenabled(), "frozen": gc.get_freeze_count()}
sys.exit(json.dumps(said))
"""


@pytest.fixture(scope="module")
def after_predict(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what a process says of itself that has asked a model of each room of heads about one protein."""
    folder = tmp_path_factory.mktemp("fitted")
    table, protein, workspace = write_families(folder / "set.csv"), folder / "one.fasta", folder / "w"
    protein.write_text(">a\nMKTAYIAKQRQISFVKSHFSRQ\n", encoding="utf-8")
    done("embed", table, "--encoder", "composition", "-w", workspace)
    knobs = {"linear": "epochs 1", "mlp": "epochs 1", "knn": "k 1", "ensemble": "members linear,knn"}
    for head, knob in knobs.items():
        done("fit", "--head", head, "--set", *knob.split(), "--encoder", "composition", "-w", workspace)
    words = ["predict", str(protein), "-w", str(workspace), "--device", "cpu", "--model"]
    asked = json.dumps([[*words, head] for head in knobs])
    ran = subprocess.run([sys.executable, "-c", SAID, asked], capture_output=True, text=True, check=False)
    said: dict[str, Any] = json.loads(ran.stderr.splitlines()[-1])
    assert said["codes"] == [0] * len(knobs), ran.stderr
    return said


def test_predict_loads_no_optimiser_no_algebra_and_no_compiler(after_predict: dict[str, Any]) -> None:
    heavy = {"scipy", "sklearn", "sympy", "lightgbm", "matplotlib", "numba", "huggingface_hub", "torch._dynamo"}
    assert heavy.isdisjoint(after_predict["loaded"])


def test_pythons_collector_leaves_what_torch_brings_alone_and_is_at_work_again(after_predict: dict[str, Any]) -> None:
    assert after_predict["frozen"] > 100_000
    assert after_predict["collects"]


def test_the_bundled_encoders_card_is_what_its_weights_say() -> None:
    config, state = load_state(bundled_path())
    [card] = [card for card in encoder.describe_encoders() if card.name == "bundled"]
    assert (card.layers, card.width) == (config.layers, config.width)
    assert card.parameters == sum(tensor.numel() for tensor in state.values())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "Expecting value"),
        (b"\xff" * 8, "a header of 18446744073709551615 bytes"),
        (b"\x02" + bytes(7) + b"[]", "instead of"),
        (b"\x08" + bytes(7) + b'{"a":{}}', "shape"),
    ],
)
def test_what_is_no_file_of_safetensors_is_refused_in_one_line(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=problem) as error:
        read_shapes(tmp_path / "a.safetensors")
    assert "fetch the file again" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "environment", [{}, {"TORCH_HOME": "~/torch"}, {"XDG_CACHE_HOME": "caches"}, {"XDG_CACHE_HOME": ""}]
)
def test_torch_hubs_folder_is_found_without_torch(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    expected = Path(torch.hub.get_dir()) / "checkpoints" / "a.pt"
    assert fair_esm.torch_hub_place("a") == expected
    monkeypatch.delitem(sys.modules, "torch")
    assert fair_esm.torch_hub_place("a") == expected
