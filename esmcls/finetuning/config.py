"""Every knob of fine-tuning: what is trained and how, and the encoder and rows that it is trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

from esmcls.datasets.held_out import NOTHING, Shares
from esmcls.encoders import BUNDLED
from esmcls.encoders.adapters import TARGETS, LoRA
from esmcls.errors import UnknownNameError, UsageError
from esmcls.finetuning.packing import TRAINED
from esmcls.training.losses import LossName, NumberLossName, Weighting
from esmcls.training.optimizers import OPTIMIZERS
from esmcls.training.schedule import TrainingPlan
from esmcls.training.term_losses import TermLossName

Method = Literal["lora", "top-k", "full"]
RATES: Final = {"lora": 2e-4, "top-k": 2e-5, "full": 2e-5}
WARMUP, WARMUP_SHARE = 1000, 0.06
"""Steps, and share of all steps: the less of the two."""
CHECKPOINT_MINUTES: Final = 10.0
"""What a crash costs at most. A checkpoint of 650M in full is 8 GB, which is written in seconds."""


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
    loss : str, optional
        "ce", "focal" or "logit-adjusted" of one label a protein, see `esmcls.training.losses`; "bce", "weighted",
        "focal" or "asymmetric" of Gene Ontology terms, see `esmcls.training.term_losses`; "mse" or "huber" of numbers.
        Default the first of these.
    gamma, tau, class_weights, beta, weight_cap, sampling
        As those of the head `mlp`. Of terms there is `gamma`, and `weight_cap` of the weighted loss (0 for its 10).
    start : {"linear", "zero"}
        Whether the output layer begins as the linear head fitted on the frozen encoder, or at zero.
    optimizer : {"adamw", "adamw8bit"}
    checkpointing : bool
        Compute a layer's inner states again in the backward pass: less memory, a third more time.
    validate_every, patience : int
        Steps between validations (0: each epoch); validations without a better score before it stops (0: never).
    checkpoint_minutes : float
        Minutes between checkpoints; 0: they go by steps alone.
    checkpoint_every : int
        Steps between checkpoints besides; 0: they go by minutes alone.
    average : float
        See `esmcls.training.schedule.TrainingPlan`; .99 averages over the last 100 steps or so.
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
    loss: LossName | TermLossName | NumberLossName | None = None
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
    checkpoint_minutes: float = CHECKPOINT_MINUTES
    checkpoint_every: int = 0
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

    def plan(self, epoch: int) -> TrainingPlan:
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
        return TrainingPlan(
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


@dataclass(frozen=True)
class FinetuneInputs:
    """The encoder that is fine-tuned, and the rows that it is fine-tuned on.

    Parameters
    ----------
    encoder : str
        As `load_encoder` takes ESM-2.
    layers : tuple of int, optional
        Layers side by side; default the encoder's own.
    long : str
        Strategy for sequences beyond the context.
    precision : {"auto", "fp32", "bf16", "fp16"}
        Of training, which is in fp32 where the hardware lacks bf16; the tuned encoder is run in it too.
    families : int, optional
        The largest so many, by training sequences; default all.
    stratify : str, optional
        So many training sequences of each, such as 1000x200+4000x50; see `esmcls.datasets.sampling_plan.TrainingPlan`.
    shares : Shares
        What to set aside first; families are taken away for good, whatever `folds` they have: to tune an encoder once a
        fold would take too long.
    adapters_only : bool
        Keep LoRA's adapters without the encoder they change.
    """

    encoder: str = BUNDLED
    layers: tuple[int, ...] | None = None
    long: str = "balanced"
    precision: str = "auto"
    families: int | None = None
    stratify: str | None = None
    shares: Shares = NOTHING
    adapters_only: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", self.shares.taking_away())


def settings_of(config: FinetuneConfig) -> dict[str, Any]:
    """Return every knob as plain values for JSON."""
    return asdict(config) | {"targets": list(config.targets), "lr": config.peak}


def inputs_of(inputs: FinetuneInputs) -> dict[str, Any]:
    """Return what a manifest tells of the inputs, beside what it has of its own, as plain values for JSON."""
    names = ("encoder", "long", "families", "stratify", "adapters_only")
    layers = None if inputs.layers is None else list(inputs.layers)
    return {name: getattr(inputs, name) for name in names} | {"layers": layers}
