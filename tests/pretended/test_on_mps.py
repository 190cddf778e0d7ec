"""What is run on one of Apple's GPUs, on a pretended one: it has no float64, and no kernel for segments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command import done
from pretended_device import pretended, without_kernel
from tiny import write_encoder, write_set

from esmcls.cache.features import Features
from esmcls.heads.layers.mlp import MLPHead, TermMLPHead
from esmcls.labels.labels import Labels, LabelSets
from esmcls.training.device_operations import doubled, segment_largest, segment_sums

VECTORS = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
X = Features.from_arrays(VECTORS)
SHORT = ("--method", "full", "--max-steps", "2", "--batch", "4", "--validate-every", "2", "--name", "tuned")


def test_it_refuses_float64() -> None:
    with pretended():
        x = torch.ones(4, device="mps").requires_grad_()
        (x * x).sum().backward()
        assert x.grad is not None
        assert x.grad.cpu().tolist() == [2.0] * 4
        with pytest.raises(TypeError, match="no float64"):
            x.double()
        with pytest.raises(TypeError, match="no float64"):
            torch.ones(4, dtype=torch.float64).to("mps")


def test_sums_and_maxima_of_segments_and_their_gradients_are_those_of_a_processor() -> None:
    values, lengths = torch.tensor([[1.0, -2.0], [3.0, 5.0], [7.0, 0.0]]), torch.tensor([2, 1])
    plain = values.clone().requires_grad_()
    segment_sums(plain, lengths).square().sum().backward()
    with pretended() as device:
        there, counts = values.to("mps").requires_grad_(), lengths.to("mps")
        sums = segment_sums(there, counts)
        sums.square().sum().backward()
        assert torch.equal(sums.detach().cpu(), segment_sums(values, lengths))
        assert there.grad is not None
        assert torch.equal(there.grad.cpu(), plain.grad)
        largest = segment_largest(there[:, 0].detach(), counts)
        assert largest.cpu().tolist() == [3.0, 7.0]
        assert doubled(sums.detach()).dtype == torch.float64
        assert without_kernel(device.overloads) == set()


def test_networks_for_one_label_and_for_many_are_fitted_and_asked() -> None:
    labels = Labels.from_names([f"F{row % 3}" for row in range(60)])
    terms = LabelSets.from_names([["a"], ["b", "c"], ["c"]] * 20, "abc", "FPP")
    with pretended():
        head = MLPHead(replace(MLPHead().config, epochs=2), "mps").fit(X, labels)
        assert np.isfinite(head.familiarity(X)).all()
        many = TermMLPHead(replace(TermMLPHead().config, epochs=2), "mps").fit(X, terms)
        assert np.isfinite(many.predict_proba(X)).all()


def test_the_commands_run_with_their_defaults(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "tiny.safetensors")
    work = ("-w", tmp_path / "w", "--device", "mps")
    (tmp_path / "new.fasta").write_text(">a\nMKTAYIAKQRQISFVKSHFSRQ\n")
    with pretended() as device:
        done("embed", write_set(tmp_path / "set.csv"), "--encoder", encoder, *work)
        for head in ("linear", "knn"):
            ran = done("fit", "--head", head, *work)
            assert ran.err.startswith("esmcls: on mps (Apple's GPU): vectors in the precision of their model, heads in")
        done("finetune", "--encoder", encoder, *SHORT, *work)
        done("predict", tmp_path / "new.fasta", "--model", "tuned", *work)
        assert without_kernel(device.overloads) == set()
