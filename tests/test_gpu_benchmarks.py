"""The scripts for whoever has a GPU run through on a CPU, and the page about GPUs says what its arithmetic does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parent.parent
UNSIGNED = "waiting for the host"


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_every_part_of_the_gpu_benchmark_measures_something(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = script("gpu", monkeypatch)
    scope = gpu.Scope(torch.device("cpu"), gpu.TINY, 128, (20, 62), 32, 200, 1)
    results = gpu.measure(scope, list(gpu.PARTS), minutes=5)
    assert list(results) == ["ceilings", "shapes", "encode", "small", "host", "finetune", "heads", "knn"]
    for rows in results.values():
        assert rows
        for row in rows:
            assert not row["what"].startswith(("failed", "out of time")), row
            assert all(
                value > 0 for name, value in row.items() if name not in ("what", "peak GB", "waiting for the host")
            )


def test_what_the_gpu_benchmark_measures_of_fp8_runs_where_there_is_a_product_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = script("gpu", monkeypatch)
    monkeypatch.setattr(gpu, "hardware_precisions", lambda device: {"fp32", "fp8"})
    monkeypatch.setattr(torch, "_scaled_mm", lambda a, b, *scales, out_dtype: (a.float() @ b.float()).to(out_dtype))
    scope = gpu.Scope(torch.device("cpu"), gpu.TINY, 128, (20,), 32, 200, 1)
    results = gpu.measure(scope, ["ceilings", "shapes", "encode"], minutes=5)
    rows = [row["what"] for part in results.values() for row in part if "fp8" in row["what"]]
    products = ["tiny product 32 to 128 in fp8", "tiny product 128 to 32 in fp8"]
    assert rows == ["product fp8 by row", *products, "tiny fp8, 20 residues"]


def test_which_products_are_worth_fp8_is_measured_for_each_set_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    products = script("fp8_products", monkeypatch)
    monkeypatch.setattr(products, "SETS", ["", "fc1"])
    none, first = products.rows("bundled", ["MKTAYIAKQRQISFVKSHFSRQ", "MLEKVIKEIEGKVEEVK"])
    assert (none["in fp8"], first["in fp8"]) == ("", "fc1")
    assert 0.99 < first["cosine_min"] < none["cosine_min"] < 1


def test_a_part_that_fails_is_told_and_the_next_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = script("gpu", monkeypatch)

    def broken(_: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(gpu.PARTS, "shapes", broken)
    scope = gpu.Scope(torch.device("cpu"), gpu.TINY, 128, (20,), 32, 200, 1)
    results = gpu.measure(scope, ["shapes", "host"], minutes=5)
    assert results["shapes"] == [{"what": "failed: RuntimeError: no such kernel"}]
    assert results["host"][0]["residues/s"] > 0
    assert "failed: RuntimeError: no such kernel" in capsys.readouterr().out
    assert gpu.measure(scope, ["ceilings"], minutes=0)["ceilings"][-1]["what"].startswith("out of time")


def test_the_page_about_gpus_says_what_the_arithmetic_does(monkeypatch: pytest.MonkeyPatch) -> None:
    scale = script("scale", monkeypatch)
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    for part in scale.report(scale.options([])).split("\n\n"):
        assert part in page


def test_the_time_of_a_token_is_the_sum_of_its_three_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    scale = script("scale", monkeypatch)
    shape = scale.Shape("one", layers=1, width=1000, heads=10, share=0.5)
    products, between, attention = 24e6 / 400e12, 48e3 / 2.55e12, 4 * 100 * 1000 / 220e12
    assert shape.seconds(100) == pytest.approx(products + between + attention)
    assert shape.of_peak(100, 48) == pytest.approx((24e6 + 4e5) / (products + between + attention) / 800e12)
