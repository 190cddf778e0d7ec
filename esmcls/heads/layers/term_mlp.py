"""The MLP head for many labels: hidden layers on whitened rows, or on a protein's chunks that attention weighs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from esmcls.heads.layers.knobs import TrainedConfig, check_ranges
from esmcls.heads.layers.trained import TrainedHead

_RANGES: Final = {"hidden": (1, 1e6), "depth": (0, 100)}


@dataclass(frozen=True)
class TermMLPConfig(TrainedConfig):
    """Knobs of the MLP head besides those of `esmcls.heads.layers.knobs.TrainedConfig`.

    Parameters
    ----------
    hidden, depth : int
        Width and number of the hidden layers.
    norm : {"none", "layer", "batch"}
        What stands between a hidden layer and its ReLU.
    attention : bool
        Take the vectors of a protein's encoder inputs (`esmcls embed --chunks`) and learn how much each counts; they
        are standardised, not whitened.
    """

    dropout: float = 0.3
    hidden: int = 1024
    depth: int = 1
    norm: Literal["none", "layer", "batch"] = "none"
    attention: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, _RANGES)


class TermMLPHead(TrainedHead):
    """A multi-layer perceptron with an output a class.

    Examples
    --------
    >>> import numpy as np
    >>> from esmcls.cache.features import Features
    >>> from esmcls.labels.labels import LabelSets
    >>> x = Features.from_arrays(np.array([[0, 1], [0, 2], [5, 1], [5, 2]] * 5, dtype=np.float32))
    >>> labels = LabelSets.from_names([["a"], ["a", "c"], ["b"], ["b", "c"]] * 5)
    >>> (TermMLPHead().fit(x, labels).predict_proba(x.take(range(4))) > 0.5).tolist()
    [[True, False, False], [True, False, True], [False, True, False], [False, True, True]]
    """

    Config: ClassVar[type[TrainedConfig]] = TermMLPConfig
    file: ClassVar[str] = "mlp.safetensors"
