"""The contract of an encoder: strings in, one float32 vector a sequence and pooling out; and finding one by its name.

Encoders are plugins of the entry-point group `esmcls.encoders`; the built-in ones use the same lines. A plugin is a
function `open(name, *, layers, long, precision, device) -> Encoder`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from esmcls.encoders import BUNDLED
from esmcls.encoders.download import CHECKPOINTS
from esmcls.errors import PluginError, UnknownNameError, UsageError
from esmcls.types import Indices, Vectors

GROUP: Final = "esmcls.encoders"
POOLINGS: Final = ("mean", "cls", "max", "attention")
KEEPS: Final = ("", "chunk", "residue")


@dataclass
class Embedded:
    """Vectors of n sequences, in their order.

    Parameters
    ----------
    pooled : dict of float32 arrays, pooling -> (n, width)
    inputs : int64 array, (n,)
        Encoder inputs that each sequence was cut into.
    seen : int64 array, (n,)
        Residues of each sequence that the encoder saw.
    chunks : list of float32 arrays, or None
        If kept, (inputs, width) for each sequence: the mean of each of its inputs.
    residues : list of float32 arrays, or None
        If kept, (residues seen, width) for each sequence.
    """

    pooled: dict[str, Vectors]
    inputs: Indices
    seen: Indices
    chunks: list[Vectors] | None = None
    residues: list[Vectors] | None = None


class Encoder(Protocol):
    """The contract of every encoder. All but `batches` and `encode` goes into the embedding spec."""

    @property
    def name(self) -> str:
        """The name it was opened by."""

    @property
    def digest(self) -> str:
        """Hexadecimal digest of all that decides a vector but the options below."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers side by side in a vector."""

    @property
    def width(self) -> int:
        """Width of one pooled vector: all layers together."""

    @property
    def long(self) -> str:
        """Canonical text of the long-sequence strategy."""

    @property
    def precision(self) -> str:
        """Precision of the arithmetic, never `auto`."""

    def batches(self, lengths: Iterable[int]) -> Iterator[int]:
        """Yield how many of the next sequences make up a batch, in input order; `lengths` is read lazily."""

    def encode(self, sequences: Sequence[str], poolings: Sequence[str] = ("mean",), keep: str = "") -> Embedded:
        """Encode one batch, of any size.

        Parameters
        ----------
        sequences : sequence of str
            Upper-case residues.
        poolings : sequence of {"mean", "cls", "max", "attention"}
            The last for an encoder that was fine-tuned with it.
        keep : {"", "chunk", "residue"}
            Vectors to return besides the pooled ones.

        Raises
        ------
        SequenceTooLargeError
            If a sequence does not fit into memory even alone.
        NonFiniteError
            If a vector holds NaN or infinity.
        """


Opener: TypeAlias = Callable[..., Encoder]


@dataclass(frozen=True)
class EncoderCard:
    """Facts of an encoder that are known without opening it.

    Parameters
    ----------
    name : str
    layers, width, parameters : int
        Of the model; no layers and parameters where there is nothing to train.
    bytes : int
        Of the weights: their file if it is here, else all parameters in fp32.
    source : str
        Where the weights come from.
    present : bool
        Whether they are on this machine.
    """

    name: str
    layers: int
    width: int
    parameters: int
    bytes: int
    source: str
    present: bool


@dataclass(frozen=True)
class BatchPlan:
    """Batches of sequences, filled greedily in input order.

    Parameters
    ----------
    budget : int
        Tokens of a batch; a sequence beyond it is a batch of its own.

    Examples
    --------
    >>> list(BatchPlan(budget=10).counts([4, 6, 1, 30, 5, 5]))
    [2, 1, 1, 2]
    """

    budget: int

    def counts(self, tokens: Iterable[int]) -> Iterator[int]:
        """Yield how many of the next sequences make up a batch; `tokens` is what each of them takes."""
        count = filled = 0
        for size in tokens:
            if count and filled + size > self.budget:
                yield count
                count = filled = 0
            count = count + 1
            filled = filled + size
        if count:
            yield count


def load_encoder(
    name: str,
    *,
    layers: Sequence[int] | None = None,
    long: str = "balanced",
    precision: str = "auto",
    device: str = "cpu",
) -> Encoder:
    """Open an encoder by its name.

    Parameters
    ----------
    name : str
        `bundled`, a published ESM-2 name such as `esm2_t12_35M_UR50D`, the path of ESM-2 weights, or a plugin's name
        (`kmer`, `composition`).
    layers : sequence of int, optional
        Layers side by side, 0 the embedding; default what the encoder's card says, else the last.
    long : str
        Strategy for sequences beyond the context, see `windows.parse_long`.
    precision : {"auto", "fp32", "bf16", "fp16", "int8"}
        `auto` is bf16 where the hardware has it, else fp32; any other works on all hardware, emulated in fp32 where
        it lacks it.
    device : str
        `cpu`, `cuda`, `cuda:N` or `mps`.

    Returns
    -------
    Encoder

    Raises
    ------
    UnknownNameError
        If the name is none of these.
    PluginError
        If the plugin does not load.
    WeightsError
        If the weights cannot be had; nothing takes their place.
    UsageError
        If an option does not fit the encoder or the device.
    """
    return find_opener(name)(name, layers=layers, long=long, precision=precision, device=device)


def every_layer(encoder: Encoder) -> tuple[int, ...]:
    """Return all layers that an encoder's model has, 0 the embedding: to its `depth`, where it has that attribute.

    Raises
    ------
    UsageError
        If the encoder has no layers to choose from.
    """
    depth = int(getattr(encoder, "depth", 0))
    if not depth:
        raise UsageError(f"encoder {encoder.name} has no layers to choose from; leave --layers out")
    return tuple(range(depth + 1))


def describe_encoders() -> list[EncoderCard]:
    """Return the card of every encoder: the bundled one, the published ESM-2 checkpoints, and the plugins."""
    cards = [_bundled_card(), *map(_published_card, CHECKPOINTS)]
    return cards + [_plugin_card(plugin) for name, plugin in sorted(_plugins().items()) if name != "esm2"]


def resolve_device(device: str) -> str:
    """Return the device to use.

    Parameters
    ----------
    device : str
        `auto` (CUDA, else Apple's MPS, else the CPU), `cpu`, `cuda`, `cuda:N`, `mps`, or several with commas between.

    Raises
    ------
    UsageError
        If there is no such device on this machine.

    Examples
    --------
    >>> resolve_device("cpu")
    'cpu'
    """
    import torch

    if "," in device:
        return ",".join(resolve_device(part.strip()) for part in device.split(","))
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(kind for kind, present in there.items() if present)
    kind, _, number = device.partition(":")
    limit = torch.cuda.device_count() if kind == "cuda" else 1
    if not there.get(kind, False) or (number and not (number.isdecimal() and int(number) < limit)):
        known = ", ".join(["auto", *(kind for kind, present in there.items() if present)])
        raise UsageError(f"there is no device {device!r} here; choose one of: {known}")
    return device


def encoder_names() -> list[str]:
    """Return the names of the bundled encoder, the published ones and the plugins."""
    return [BUNDLED, *CHECKPOINTS, *(name for name in sorted(_plugins()) if name != "esm2")]


def find_opener(name: str) -> Opener:
    """Return what opens an encoder, without opening it; errors are those of `load_encoder` about names and plugins."""
    plugins = _plugins()
    if name in plugins:
        return _load(plugins[name])
    if name in (BUNDLED, *CHECKPOINTS) or _looks_like_path(name):
        return _load(plugins["esm2"])
    raise UnknownNameError("encoder", name, [BUNDLED, *CHECKPOINTS, *plugins])


def _plugins() -> dict[str, EntryPoint]:
    return {plugin.name: plugin for plugin in entry_points(group=GROUP)}


def _load(plugin: EntryPoint) -> Opener:
    try:
        opener: Opener = plugin.load()
    except Exception as error:
        raise PluginError(GROUP, plugin.name, plugin.value, error) from error
    return opener


def _looks_like_path(name: str) -> bool:
    return os.sep in name or Path(name).suffix in {".pt", ".safetensors"} or Path(name).exists()


def _bundled_card() -> EncoderCard:
    from esmcls.encoders.weights import bundled_path, load_state

    path = bundled_path()
    if not path.exists():
        return EncoderCard(BUNDLED, 0, 0, 0, 0, "comes with the package", False)
    config, state = load_state(path)
    parameters = sum(tensor.numel() for tensor in state.values())
    size = path.stat().st_size
    return EncoderCard(BUNDLED, config.layers, config.width, parameters, size, "comes with the package", True)


def _published_card(name: str) -> EncoderCard:
    from esmcls.encoders.download import ADDRESS
    from esmcls.encoders.weights import hub_places

    checkpoint = CHECKPOINTS[name]
    place = next((place for place in hub_places(name) if place.exists()), None)
    size = place.stat().st_size if place is not None and place.is_file() else 4 * checkpoint.parameters
    source = str(place or f"{ADDRESS}{checkpoint.file}")
    return EncoderCard(
        name, checkpoint.layers, checkpoint.width, checkpoint.parameters, size, source, place is not None
    )


def _plugin_card(plugin: EntryPoint) -> EncoderCard:
    encoder = load_encoder(plugin.name)
    return EncoderCard(plugin.name, len(encoder.layers), encoder.width, 0, 0, f"no weights ({plugin.value})", True)
