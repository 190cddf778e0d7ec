"""The contract of an encoder: strings in, one float32 vector a sequence and pooling out; and finding one by its name.

Encoders are plugins of the entry-point group `esmcls.encoders`; the built-in ones use the same lines. A plugin is a
function `open(name, *, layers, long, precision, device) -> Encoder`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, runtime_checkable

from esmcls.encoders import BUNDLED
from esmcls.encoders.huggingface.families import FAMILIES, MIT, Family, Published
from esmcls.encoders.sources.checkpoints import CHECKPOINTS
from esmcls.encoders.sources.hub import hub_address
from esmcls.encoders.sources.places import bundled_path, config_of, find_weights, names_weights, source_of
from esmcls.errors import PluginError, UnknownNameError, UsageError
from esmcls.foreign.plugins import entry_points
from esmcls.foreign.safetensors_header import read_shapes
from esmcls.foreign.transformers_folder import is_esm2

if TYPE_CHECKING:
    from torch import Tensor

    from esmcls.types import Indices, Vectors  # which load NumPy

GROUP: Final = "esmcls.encoders"
POOLINGS: Final = ("mean", "cls", "max", "attention")
KEEPS: Final = ("", "chunk", "residue")
ESM2: Final = "ESM-2"
"""The family that has our own model."""
_OF_WEIGHTS: Final = ("esm2", "hf")
"""Plugins that open weights, which have names of their own."""


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


@runtime_checkable
class GivesAttention(Protocol):
    """An encoder that shows what its residues attend to."""

    @property
    def attention_heads(self) -> int:
        """The attention heads of all layers together."""

    def attention_maps(self, sequence: str) -> Iterator[Tensor]:
        """Give, layer by layer, the attention between the residues seen, symmetric: float32 (heads, seen, seen)."""


@runtime_checkable
class AheadEncoder(Protocol):
    """What an `Encoder` has besides, if it can begin a batch before another is fetched."""

    @property
    def runs_ahead(self) -> bool:
        """Whether what `launch` begins runs while the host goes on."""

    def launch(
        self, sequences: Sequence[str], poolings: Sequence[str] = ("mean",), keep: str = ""
    ) -> Callable[[], Embedded]:
        """Begin to encode one batch; what is returned waits for it. Errors are those of `encode`, now or then."""


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
    family : str
        Of the model.
    licence : str
        Of the weights; empty where there are none, or a plugin does not say.
    """

    name: str
    layers: int
    width: int
    parameters: int
    bytes: int
    source: str
    present: bool
    family: str = ""
    licence: str = ""


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
        `bundled`, a published ESM-2 name such as `esm2_t12_35M_UR50D`, an id of the Hugging Face Hub such as
        `facebook/esm2_t12_35M_UR50D` (with a revision after `@` if you want one), the path of weights, or a plugin's
        name (`kmer`, `composition`). Models of other families than ESM-2 need the extra `hf`.
    layers : sequence of int, optional
        Layers side by side, 0 the embedding; default what the encoder's card says, else the last.
    long : str
        Strategy for sequences beyond the context, see `windows.parse_long`.
    precision : {"auto", "fp32", "bf16", "fp16", "int8", "fp8"}
        `auto` is bf16 where the hardware has it, else fp16 on a GPU that is fast in it, else fp32; any other works on
        all hardware, emulated in fp32 where it lacks it.
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
    """Return the card of every encoder: the bundled one, the published ones of all families, and the plugins."""
    cards = [_bundled_card(), *map(_published_card, CHECKPOINTS)]
    cards += [_hub_card(family, published) for family in FAMILIES for published in family.published]
    return cards + [_plugin_card(plugin) for name, plugin in sorted(_plugins().items()) if name not in _OF_WEIGHTS]


def resolve_device(device: str) -> str:
    """Return the device to use.

    Parameters
    ----------
    device : str
        `auto` (CUDA, else Apple's MPS, else the CPU), `cpu`, `cuda`, `cuda:N`, `mps`, or several with commas between.
        `auto` passes over a GPU that the installed torch cannot run on, with a line in the log `esmcls`.

    Raises
    ------
    UsageError
        If there is no such device on this machine, or the installed torch cannot run on it.

    Examples
    --------
    >>> resolve_device("cpu")
    'cpu'
    """
    import torch

    from esmcls.encoders.devices import lacking_build

    if "," in device:
        return ",".join(resolve_device(part.strip()) for part in device.split(","))
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        if there["cuda"] and (usable := _first_usable_gpu()) is not None:
            return usable
        return "mps" if there["mps"] else "cpu"
    kind, _, number = device.partition(":")
    limit = torch.cuda.device_count() if kind == "cuda" else 1
    if not there.get(kind, False) or (number and not (number.isdecimal() and int(number) < limit)):
        known = ", ".join(["auto", *(kind for kind, present in there.items() if present)])
        raise UsageError(f"there is no device {device!r} here; choose one of: {known}")
    if kind == "cuda" and (lacking := lacking_build(int(number or 0))) is not None:
        raise UsageError(f"device {device!r}: {lacking}, or choose cpu")
    return device


def _first_usable_gpu() -> str | None:
    """Return the first CUDA device that the installed torch can run on; of those before it, and of none, a line."""
    import torch

    from esmcls.encoders.devices import lacking_build, say

    for number in range(torch.cuda.device_count()):
        if (lacking := lacking_build(number)) is None:
            return f"cuda:{number}" if number else "cuda"
        say(f"device cuda:{number} is passed over: {lacking}")
    return None


def encoder_names() -> list[str]:
    """Return the names of the bundled encoder, the published ones and the plugins."""
    ids = [checkpoint.repository.id for checkpoint in CHECKPOINTS.values()]
    ids += [published.name for family in FAMILIES for published in family.published]
    return [BUNDLED, *CHECKPOINTS, *ids, *(name for name in sorted(_plugins()) if name not in _OF_WEIGHTS)]


def find_opener(name: str) -> Opener:
    """Return what opens an encoder, without opening it; errors are those of `load_encoder` about names and plugins."""
    plugins = _plugins()
    if name in plugins:
        return _load(plugins[name])
    if names_weights(name):
        return _open_by_kind
    known = [BUNDLED, *CHECKPOINTS, *(plugin for plugin in plugins if plugin != "hf")]
    raise UnknownNameError("encoder", name, known)


def _open_by_kind(
    name: str,
    *,
    layers: Sequence[int] | None = None,
    long: str = "balanced",
    precision: str = "auto",
    device: str = "cpu",
) -> Encoder:
    """Open weights by what they are: ESM-2, which has our own model, or another one that a plugin `hf` knows."""
    plugins = _plugins()
    config = config_of(name)
    of_other = config is not None and not is_esm2(config) and "hf" in plugins
    opener = _load(plugins["hf" if of_other else "esm2"])
    return opener(name, layers=layers, long=long, precision=precision, device=device)


def _plugins() -> dict[str, EntryPoint]:
    return {plugin.name: plugin for plugin in entry_points(group=GROUP)}


def _load(plugin: EntryPoint) -> Opener:
    try:
        opener: Opener = plugin.load()
    except Exception as error:
        raise PluginError(GROUP, plugin.name, plugin.value, error) from error
    return opener


def _bundled_card() -> EncoderCard:
    path = bundled_path()
    if not path.exists():
        return EncoderCard(BUNDLED, 0, 0, 0, 0, "comes with the package", False, ESM2, MIT)
    shapes = read_shapes(path)  # of the header alone: opening it would load PyTorch
    layers = len({name.split(".")[1] for name in shapes if name.startswith("layers.")})
    [width] = shapes["emb_layer_norm_after.weight"]
    shape = (layers, width, sum(map(math.prod, shapes.values())), path.stat().st_size)
    return EncoderCard(BUNDLED, *shape, "comes with the package", True, ESM2, MIT)


def _published_card(name: str) -> EncoderCard:
    checkpoint = CHECKPOINTS[name]
    place = find_weights(name)
    size = _size(place) if place is not None else 4 * checkpoint.parameters
    source = source_of(checkpoint) if place is None else str(place)
    shape = (checkpoint.layers, checkpoint.width, checkpoint.parameters, size)
    return EncoderCard(name, *shape, source, place is not None, ESM2, MIT)


def _hub_card(family: Family, published: Published) -> EncoderCard:
    place = find_weights(published.name)
    size = _size(place) if place is not None else 4 * published.parameters
    source = f"{hub_address()}/{published.name}" if place is None else str(place)
    shape = (published.layers, published.width, published.parameters, size)
    licence = published.licence or family.licence
    return EncoderCard(published.name, *shape, source, place is not None, family.name, licence)


def _size(place: Path) -> int:
    """Return the bytes of weights: of their file, or of all files in their folder that hold some."""
    files = (
        [place] if place.is_file() else [file for file in place.iterdir() if file.suffix in (".safetensors", ".bin")]
    )
    return sum(file.stat().st_size for file in files)


def _plugin_card(plugin: EntryPoint) -> EncoderCard:
    encoder = load_encoder(plugin.name)
    source = f"no weights ({plugin.value})"
    return EncoderCard(plugin.name, len(encoder.layers), encoder.width, 0, 0, source, True, "plugin")
