"""What is fine-tuned: ESM-2 and a linear layer on its pooled, scaled states, and every knob of how."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn

from esmcls.encoders.adapters import TARGETS, LoRA, adapters_of, attach, base_of, merge
from esmcls.encoders.devices import Precision
from esmcls.encoders.inference import DTYPES
from esmcls.encoders.model import ESM2
from esmcls.encoders.weights import ATTENTION, State
from esmcls.errors import UnknownNameError, UsageError
from esmcls.finetuning.packing import TRAINED, Packed
from esmcls.heads.layers.linear import LinearHead, scaled
from esmcls.training.losses import LossName, Weighting
from esmcls.training.optimizers import OPTIMIZERS
from esmcls.training.schedule import Plan

Method = Literal["lora", "top-k", "full"]
RATES: Final = {"lora": 2e-4, "top-k": 2e-5, "full": 2e-5}
FOLLOWS: Final = 0.9
"""What a step leaves of the centre that training subtracts; the rest is the mean vector of its proteins."""
WARMUP, WARMUP_SHARE = 1000, 0.06
"""Steps, and share of all steps: the less of the two."""


@dataclass(frozen=True)
class FinetuneConfig:
    """What is trained, how, and for how long.

    Parameters
    ----------
    method : {"lora", "top-k", "full"}
        Adapters on each layer's products, the last `top_layers` layers, or the whole encoder.
    rank, alpha, targets : int, int, tuple of str
        Of LoRA; see `esmcls.encoders.adapters.LoRA`.
    top_layers : int
    epochs : float
    max_steps : int, optional
        Steps at most.
    batch : int
        Sequences a step, over all pieces and processes.
    tokens : int, optional
        Tokens of a piece; default by the device. Out of memory halves it, and the batch stays.
    lr : float, optional
        Peak rate of the encoder; default 2e-4 with LoRA, else 2e-5.
    head_lr : float
        That of the output layer.
    weight_decay, clip : float
        Of the matrices; largest gradient norm (0 for none).
    warmup : int, optional
        Steps of linear rise; default 1,000 or 6 % of all, the less of the two.
    schedule : {"cosine", "linear"}
        Fall from the peak to `floor` times it.
    pooling : {"mean", "cls", "attention"}
        Attention begins as the mean: the score of a residue is a product with a vector of zeros, which is trained.
    dropout : float
        Share of the scaled vector's numbers that is left out before the output layer.
    crop : int
        Residues of the random crop that a longer protein is trained on; 0 to train on what prediction sees of it.
    mask : float
        Share of the residues that stand as `<mask>` in training, others each time: they cannot be learned by heart.
    loss, gamma, tau, class_weights, beta, weight_cap, sampling
        As those of the head `mlp`; see `esmcls.training.losses`.
    start : {"linear", "zero"}
        Whether the output layer begins as the linear head fitted on the frozen encoder, or at zero.
    optimizer : {"adamw", "adamw8bit"}
    checkpointing : bool
        Compute a layer's inner states again in the backward pass: less memory, a third more time.
    validate_every, patience : int
        Steps between validations (0: each epoch); validations without a better macro F1 before it stops (0: never).
    checkpoint_every : int
        Steps between checkpoints.
    average : float
        See `esmcls.training.schedule.Plan`; .99 averages over the last 100 steps or so.
    seed : int

    Raises
    ------
    UnknownNameError
        If a name is none of those above.
    UsageError
        If a number is out of its range.
    """

    method: Method = "lora"
    rank: int = 8
    alpha: int = 16
    targets: tuple[str, ...] = TARGETS
    top_layers: int = 2
    epochs: float = 3.0
    max_steps: int | None = None
    batch: int = 64
    tokens: int | None = None
    lr: float | None = None
    head_lr: float = 1e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup: int | None = None
    schedule: Literal["cosine", "linear"] = "cosine"
    floor: float = 0.1
    pooling: str = "mean"
    dropout: float = 0.1
    crop: int = 0
    mask: float = 0.0
    loss: LossName = "ce"
    gamma: float = 2.0
    tau: float = 1.0
    class_weights: Weighting = "none"
    beta: float = 0.999
    weight_cap: float = 0.0
    sampling: Literal["as-is", "balanced"] = "as-is"
    start: Literal["linear", "zero"] = "linear"
    optimizer: str = "adamw"
    checkpointing: bool = False
    validate_every: int = 0
    patience: int = 0
    checkpoint_every: int = 200
    average: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        named = {"method": get_args(Method), "schedule": ("cosine", "linear"), "pooling": TRAINED}
        named |= {"sampling": ("as-is", "balanced"), "start": ("linear", "zero"), "optimizer": OPTIMIZERS}
        for name, known in named.items():
            if getattr(self, name) not in known:
                raise UnknownNameError(name, str(getattr(self, name)), known)
        if not (self.epochs > 0 and self.batch > 0 and self.peak > 0 and self.head_lr > 0 and self.top_layers > 0):
            raise UsageError("epochs, batch, learning rates and top layers must be above 0")
        below = {"dropout": self.dropout, "mask": self.mask, "average": self.average}
        if not (all(0 <= share < 1 for share in below.values()) and 0 <= self.floor <= 1):
            shares = ", ".join(f"{name} {share}" for name, share in below.items())
            raise UsageError(f"{shares} and floor {self.floor} must be shares, the first three below 1")

    @property
    def peak(self) -> float:
        """Peak learning rate of the encoder."""
        return RATES[self.method] if self.lr is None else self.lr

    @property
    def lora(self) -> LoRA:
        """Shape of the adapters."""
        return LoRA(self.rank, self.alpha, self.targets)

    def plan(self, epoch: int) -> Plan:
        """Return the plan for epochs of so many steps.

        Examples
        --------
        >>> plan = FinetuneConfig(epochs=2).plan(100)
        >>> plan.steps, plan.warmup, plan.lr, plan.validate_every
        (200, 12, 0.0002, 100)
        """
        steps = max(1, round(self.epochs * epoch))
        steps = steps if self.max_steps is None else min(steps, self.max_steps)
        warmup = min(WARMUP, round(WARMUP_SHARE * steps)) if self.warmup is None else self.warmup
        return Plan(
            steps,
            self.peak,
            warmup,
            self.schedule,
            self.floor,
            self.clip,
            validate_every=self.validate_every or epoch,
            patience=self.patience,
            checkpoint_every=self.checkpoint_every,
            seed=self.seed,
            validate_first=True,
            average=self.average,
        )


class Tuned(nn.Module):
    """An encoder and an output layer on its scaled, pooled states; its state is what is trained, and what scales.

    An encoder's first steps move the vectors of all proteins together. Whitening enlarges directions that hardly vary,
    so a common shift, which tells no family from another, would soon count for more than what does. What is subtracted
    therefore follows the encoder: in training `centre`, a running mean over steps, else `mean`, which is measured.

    Parameters
    ----------
    encoder : ESM2
    head : LinearHead
        Fitted: its scaling stays, its layer over its temperature is where the output layer begins.
    layers : tuple of int
        Layers of the encoder whose states lie side by side.
    config : FinetuneConfig
    precision : {"fp32", "bf16", "fp16"}

    Raises
    ------
    UsageError
        If more top layers are asked for than are used.
    MissingExtraError
        If LoRA is asked for and peft is not installed.
    """

    budget: Tensor  # tokens of a piece; 0 where nothing is said
    centre: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(
        self, encoder: ESM2, head: LinearHead, layers: tuple[int, ...], config: FinetuneConfig, precision: Precision
    ) -> None:
        super().__init__()
        if precision not in ("fp32", "bf16", "fp16"):
            raise UsageError(f"precision {precision!r} is not for training; use bf16 or fp32")
        self.encoder, self.layers, self.config, self.precision = encoder, layers, config, precision
        self.scaling, self.dropout = type(head.scaling), nn.Dropout(config.dropout)
        for name, value in zip(("mean", "spread"), vars(head.scaling).values(), strict=True):
            self.register_buffer(name, value.clone())
        self.register_buffer("centre", self.mean.clone())
        self.pooled = self.mean.new_zeros(0, len(self.mean))  # vectors of the last forward pass
        self.out = nn.Linear(head.model.in_features, head.model.out_features)
        calibrated = 1 / (head.chosen.temperature or 1.0)  # else it would learn first to be surer of everything
        self.out.load_state_dict({name: calibrated * value for name, value in head.model.state_dict().items()})
        self.attention = nn.Linear(head.model.in_features, 1, bias=False) if config.pooling == "attention" else None
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
        first = 0 if config.method == "full" else used - config.top_layers
        if first < 0:
            raise UsageError(f"{config.top_layers} top layers asked of an encoder of which {used} are used")
        trained = [encoder.layers[number] for number in range(first, used)]
        trained += [encoder.embed_tokens] if config.method == "full" else []
        trained += [encoder.emb_layer_norm_after] if used == encoder.config.layers else []
        encoder.requires_grad_(False)
        for module in trained:
            module.requires_grad_(True)

    def forward(self, packed: Packed) -> Tensor:
        """Return logits, float32 (proteins, classes)."""
        kind, dtype = packed.tokens.device.type, DTYPES[self.precision]
        with torch.autocast(kind, dtype, enabled=dtype != torch.float32):
            states = self.encoder(packed.tokens, packed.offsets, self.layers)
        side_by_side = torch.cat([states[layer].float() for layer in self.layers], dim=-1)
        scores = None if self.attention is None else self.attention(side_by_side)[:, 0]
        pooled = packed.pool(side_by_side, scores)
        self.pooled, centre = pooled.detach(), self.centre if self.training else self.mean
        logits: Tensor = self.out(self.dropout(scaled(self.scaling(centre, self.spread), pooled)))
        return logits

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

    def encoder_state(self) -> State:
        """Return the canonical state of the tuned encoder, adapters merged."""
        state = base_of(self.encoder)
        if self.config.method == "lora":
            state = merge(state, adapters_of(self.encoder), self.config.lora)
        return state | self.attention_state()

    def attention_state(self) -> State:
        """Return what scores residues, if anything does."""
        return {} if self.attention is None else {ATTENTION: self.attention.weight.detach().cpu().clone()}


def _frozen(module: nn.Module) -> set[str]:
    return {name for name, value in module.named_parameters() if not value.requires_grad}


def _drop_frozen(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for name in _frozen(module):
        state.pop(prefix + name, None)


def _miss_frozen(module: nn.Module, keys: Any) -> None:
    frozen = _frozen(module)
    keys.missing_keys[:] = [name for name in keys.missing_keys if name not in frozen]


def settings_of(config: FinetuneConfig) -> dict[str, Any]:
    """Return every knob as plain values for JSON."""
    return asdict(config) | {"targets": list(config.targets), "lr": config.peak}
