"""What is trained: ESM-2 and a linear layer on its scaled states, pooled over a protein or those of each residue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from esmcls.encoders.adapters import adapters_of, attach, merge_adapters, without_adapters
from esmcls.encoders.devices import Precision, is_emulated
from esmcls.encoders.inference import DTYPES
from esmcls.encoders.model import ESM2
from esmcls.encoders.weights import ATTENTION_WEIGHT, State
from esmcls.errors import UsageError
from esmcls.finetuning.config import FinetuneConfig
from esmcls.finetuning.packing import Packed
from esmcls.heads.layers.linear import scaled
from esmcls.tasks.objective import OutputLayer

FOLLOWS: Final = 0.9
"""What a step leaves of the centre that training subtracts; the rest is the mean vector of its proteins."""


def check_layers_trained(config: FinetuneConfig, layers: tuple[int, ...]) -> None:
    """Refuse to train more top layers than those that are used; ask before anything takes time.

    Raises
    ------
    UsageError
        If there are not so many.
    """
    used = max(layers)
    if config.method == "top-k" and config.top_layers > used:
        raise UsageError(f"{config.top_layers} top layers asked of an encoder of which {used} are used")


class Tuned(nn.Module):
    """An encoder and an output layer on its scaled, pooled states; its state is what is trained, and what scales.

    An encoder's first steps move the vectors of all proteins together. Whitening enlarges directions that hardly vary,
    so a common shift, which tells no family from another, would soon count for more than what does. What is subtracted
    therefore follows the encoder: in training `centre`, a running mean over steps, else `mean`, which is measured.

    Parameters
    ----------
    encoder : ESM2
    layer : OutputLayer
        Where the output layer begins; the scaling stays.
    layers : tuple of int
        Layers of the encoder whose states lie side by side.
    config : FinetuneConfig
    precision : {"fp32", "bf16", "fp16"}
        Where the hardware lacks it, fp32.

    Raises
    ------
    UsageError
        If more top layers are asked for than are used.
    """

    budget: Tensor  # tokens of a piece; 0 where nothing is said
    centre: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(
        self, encoder: ESM2, layer: OutputLayer, layers: tuple[int, ...], config: FinetuneConfig, precision: Precision
    ) -> None:
        super().__init__()
        if precision not in ("fp32", "bf16", "fp16"):
            raise UsageError(f"precision {precision!r} is not for training; use bf16 or fp32")
        self.encoder, self.layers, self.config, self.precision = encoder, layers, config, precision
        self.scaling, self.dropout = type(layer.scaling), nn.Dropout(config.dropout)
        for name, value in zip(("mean", "spread"), vars(layer.scaling).values(), strict=True):
            self.register_buffer(name, value.clone())
        self.register_buffer("centre", self.mean.clone())
        self.pooled = self.mean.new_zeros(0, len(self.mean))  # vectors of the last forward pass
        [n_classes, width] = layer.weight.shape
        self.out = nn.Linear(width, n_classes)
        self.out.load_state_dict({"weight": layer.weight, "bias": layer.bias})
        self.attention = nn.Linear(width, 1, bias=False) if config.pooling == "attention" else None
        if self.attention is not None:
            nn.init.zeros_(self.attention.weight)
        self.register_buffer("budget", torch.tensor(config.tokens or 0))
        encoder.checkpointing = config.checkpointing
        self._choose()
        self.register_state_dict_post_hook(_drop_frozen)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_miss_frozen)  # type: ignore[no-untyped-call]

    def _choose(self) -> None:
        """Freeze what the method does not train, and layers that are not used."""
        encoder, used, config = self.encoder, max(self.layers), self.config
        if config.method == "lora":
            attach(encoder, config.lora, used)
            return
        check_layers_trained(config, self.layers)
        first = 0 if config.method == "full" else used - config.top_layers
        trained = [encoder.layers[number] for number in range(first, used)]
        trained += [encoder.embed_tokens] if config.method == "full" else []
        trained += [encoder.emb_layer_norm_after] if used == encoder.config.layers else []
        encoder.requires_grad_(False)
        for module in trained:
            module.requires_grad_(True)

    def forward(self, packed: Packed) -> Tensor:
        """Return logits, float32 (answers, classes); an answer is a protein or a residue."""
        device = packed.tokens.device
        lower = self.lower_on(device)
        with torch.autocast(device.type, lower, enabled=lower is not None):
            states = self.encoder(packed.tokens, packed.offsets, self.layers)
        side_by_side = torch.cat([states[layer].float() for layer in self.layers], dim=-1)
        scores = None if self.attention is None else self.attention(side_by_side)[:, 0]
        pooled = packed.pool(side_by_side, scores)
        self.pooled, centre = pooled.detach(), self.centre if self.training else self.mean
        logits: Tensor = self.out(self.dropout(scaled(self.scaling(centre, self.spread), pooled)))
        return logits

    def lower_on(self, device: torch.device) -> torch.dtype | None:
        """Return what products are computed in on a device, where that is not fp32."""
        lower = self.precision != "fp32" and not is_emulated(self.precision, device)
        return DTYPES[self.precision] if lower else None

    def follow(self, sums: Tensor, count: float) -> None:
        """Move the centre towards the mean of a step's vectors, whose sums are (width,), unless they overflowed."""
        if sums.isfinite().all():
            self.centre.mul_(FOLLOWS).add_(sums / count, alpha=1 - FOLLOWS)

    @property
    def moved(self) -> bool:
        """Whether any step was taken: the centre is then no longer the mean that the head was fitted with."""
        return not torch.equal(self.centre, self.mean)

    @property
    def outer(self) -> nn.Module:
        """What is trained besides the encoder."""
        return nn.ModuleList([self.out] if self.attention is None else [self.out, self.attention])

    def encoder_state(self, start: Mapping[str, Tensor]) -> State:
        """Return the canonical state of the tuned encoder, adapters merged, given the one that training began with."""
        frozen = _frozen(self.encoder)  # perhaps rounded here
        state = {
            name: start[name] if name in frozen else value.detach().cpu()
            for name, value in without_adapters(self.encoder).items()
        }
        if self.config.method == "lora":
            state = merge_adapters(state, adapters_of(self.encoder), self.config.lora)
        return state | self.attention_state()

    def attention_state(self) -> State:
        """Return what scores residues, if anything does."""
        return {} if self.attention is None else {ATTENTION_WEIGHT: self.attention.weight.detach().cpu().clone()}


def _frozen(module: nn.Module) -> set[str]:
    return {name for name, value in module.named_parameters() if not value.requires_grad}


def _drop_frozen(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for name in _frozen(module):
        state.pop(prefix + name, None)


def _miss_frozen(module: nn.Module, keys: Any) -> None:
    frozen = _frozen(module)
    keys.missing_keys[:] = [name for name in keys.missing_keys if name not in frozen]
