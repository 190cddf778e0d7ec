"""The encoder that is fine-tuned: its weights, the layers that are used, and how it is opened for prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from esmcls.encoders.adapters import FILE, EncoderWeights
from esmcls.encoders.devices import Precision, choose_precision, note_fp32_training
from esmcls.encoders.esm2 import ESM2Encoder, read_weights
from esmcls.encoders.pooling import check_layers
from esmcls.encoders.weights import ATTENTION_WEIGHT
from esmcls.errors import UsageError
from esmcls.finetuning.config import FinetuneInputs


@dataclass(frozen=True, eq=False)
class StartingEncoder:
    """The encoder as it is before training.

    Parameters
    ----------
    name : str
        As it was asked for.
    weights : EncoderWeights
    layers : tuple of int
        Whose states lie side by side.
    long : str
        Strategy for sequences beyond the context.
    precision : {"fp32", "bf16", "fp16"}
        Of training.
    device : str
    """

    name: str
    weights: EncoderWeights
    layers: tuple[int, ...]
    long: str
    precision: Precision
    device: str

    def opened(self) -> ESM2Encoder:
        """Open it."""
        return self.with_state(self.name, self.weights.state, self.weights.digest)

    def with_state(self, name: str, state: Mapping[str, Tensor], digest: str | None = None) -> ESM2Encoder:
        """Open other weights of its shape, as `predict` will: in the precision of training."""
        return ESM2Encoder(
            name,
            self.weights.config,
            state,
            layers=self.layers,
            long=self.long,
            precision=self.precision,
            device=self.device,
            digest=digest,
        )

    def pooling(self, wanted: str) -> str:
        """Return what frozen vectors are pooled by: attention begins as the mean, unless the encoder has it already."""
        return "mean" if wanted == "attention" and ATTENTION_WEIGHT not in self.weights.state else wanted


def read_encoder(inputs: FinetuneInputs, device: torch.device) -> StartingEncoder:
    """Read the weights of the encoder that is to be fine-tuned.

    Raises
    ------
    WeightsError
        If they cannot be had or read.
    UsageError
        If it lacks a layer, or fp16 is asked of another device than CUDA.
    """
    weights = read_weights(inputs.encoder)
    wanted = inputs.layers or weights.layers or (weights.config.layers,)
    layers = check_layers(inputs.encoder, wanted, weights.config.layers)
    precision = training_precision(inputs.precision, device)
    note_fp32_training(precision, device)
    return StartingEncoder(inputs.encoder, weights, layers, inputs.long, precision, str(device))


def check_adapters(inputs: FinetuneInputs, encoder: StartingEncoder) -> None:
    """Refuse to keep adapters of an encoder that is kept as adapters itself; ask before anything takes time.

    Raises
    ------
    UsageError
        If both are so.
    """
    if inputs.adapters_only and (encoder.weights.path / FILE).is_file():
        raise UsageError("adapters on adapters: merge the first ones into an encoder, or leave out --adapters-only")


def training_precision(precision: str, device: torch.device) -> Precision:
    """Return the precision of training; `auto` is bf16 where the hardware has it, else fp32.

    Raises
    ------
    UsageError
        If it is unknown, or fp16, whose losses are scaled, is asked of another device than CUDA.
    """
    if precision == "fp16" and device.type != "cuda":
        raise UsageError("precision 'fp16' needs a CUDA device; use bf16 or fp32")
    return choose_precision(precision, device, training=True)
