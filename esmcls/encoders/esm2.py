"""The ESM-2 encoder: strings in, pooled vectors of any layers side by side out, whatever length the sequences have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmcls.encoders import BUNDLED, OWN
from esmcls.encoders.adapters import FILE, EncoderWeights, adapters_header, read_adapted
from esmcls.encoders.alphabet import BOS, EOS, tokenize
from esmcls.encoders.devices import choose_precision, note_emulation
from esmcls.encoders.gpu.packed import ESM2OnGPU
from esmcls.encoders.inference import PackedESM2
from esmcls.encoders.model import ModelConfig
from esmcls.encoders.pooling import Tokens, TransformerEncoder, check_layers
from esmcls.encoders.processor.int8 import digest_in_int8
from esmcls.encoders.sources.checkpoints import check_architecture
from esmcls.encoders.sources.places import config_of, have_weights
from esmcls.encoders.weights import ATTENTION_WEIGHT, default_layers, load_state, state_digest
from esmcls.encoders.windows import glue, positions_of
from esmcls.errors import WeightsError
from esmcls.foreign.transformers_folder import is_esm2

VALUES_A_TOKEN: Final = 20
"""Upper bound of the fp32 values that a pass holds at once, a token and unit of width: 4 of fc1, 3 of q, k, v, …"""


class ESM2Encoder(TransformerEncoder):
    """An `Encoder` that runs ESM-2.

    Parameters
    ----------
    name : str
        The one it was opened by.
    config : ModelConfig
    state : mapping of str to tensor
        Canonical, as `weights.load_state` returns it.
    layers : sequence of int, optional
        Layers side by side, in ascending order; default the last.
    long : str
        Strategy for sequences beyond the context.
    precision : {"auto", "fp32", "bf16", "fp16", "int8", "fp8"}
        What the hardware lacks is emulated, and noted in the log `esmcls`.
    device : str
    digest : str, optional
        Of the weights; default that of the state.

    Raises
    ------
    UsageError
        If a layer is not one of the model's, or an option does not fit the device.
    """

    def __init__(
        self,
        name: str,
        config: ModelConfig,
        state: Mapping[str, Tensor],
        *,
        layers: Sequence[int] | None = None,
        long: str = "balanced",
        precision: str = "auto",
        device: str = "cpu",
        digest: str | None = None,
    ) -> None:
        asked = check_layers(name, layers or (config.layers,), config.layers)
        super().__init__(name, digest or state_digest(state), asked, config.width, long=long, device=device)
        self.attention = self._attention(state)
        self.precision = choose_precision(precision, self.device)
        self.digest = digest_of_vectors(self.digest, self.precision)
        note_emulation(self.precision, self.device)
        kind = ESM2OnGPU if self.device.type == "cuda" else PackedESM2
        self.model = kind(config, state, self.precision, self.device)

    def _attention(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """Return the weights of a residue's score, (width,), where the encoder was fine-tuned to pool by attention."""
        if ATTENTION_WEIGHT not in state or state[ATTENTION_WEIGHT].numel() != self.width:
            return None  # trained on other layers: it has no such pooling with these
        return state[ATTENTION_WEIGHT].float().flatten().to(self.device)

    @property
    def depth(self) -> int:
        """The model's last layer."""
        return self.model.config.layers

    def tokens_of(self, residues: str) -> Tokens:
        """Return the tokens of one input between BOS and EOS."""
        return with_ends(residues)

    def states(self, inputs: Sequence[Tokens]) -> Iterator[Sequence[Tensor]]:
        """Run one packed stream and yield, for each of the encoder's layers, the state of each input."""
        lengths = [len(part) for part in inputs]
        for state in self.packed_states(inputs):
            yield torch.split(state, lengths)

    @property
    def attention_heads(self) -> int:
        """The attention heads of all layers together."""
        return self.model.config.layers * self.model.config.heads

    def attention_maps(self, sequence: str) -> Iterator[Tensor]:
        """Give the attention between the residues seen of a sequence, symmetric, layer by layer; see `symmetrised`.

        Float32 (heads, seen, seen). Of a sequence in several inputs, pairs that several of them hold have the mean,
        pairs that none holds zero.
        """
        cuts = self.strategy.cut(len(sequence))
        tokens = (torch.from_numpy(self.tokens_of(glue(sequence, cut))) for cut in cuts)
        layers = zip(*(self.model.attentions(part) for part in tokens), strict=True)
        if len(cuts) == 1:
            yield from (symmetrised(layer[:, 1:-1, 1:-1]) for [layer] in layers)
            return
        held = [positions_of(cut) for cut in cuts]
        seen = np.unique(np.concatenate(held))
        places = [torch.from_numpy(np.searchsorted(seen, positions)).to(self.device) for positions in held]
        for parts in layers:
            whole = torch.zeros(self.model.config.heads, len(seen), len(seen), device=self.device)
            times = torch.zeros(len(seen), len(seen), device=self.device)
            for part, place in zip(parts, places, strict=True):
                whole[:, place[:, None], place] += symmetrised(part[:, 1:-1, 1:-1])
                times[place[:, None], place] += 1
            yield whole / times.clamp(min=1)

    def packed_states(self, inputs: Sequence[Tokens]) -> Iterator[Tensor]:
        """Run one packed stream and yield each of the encoder's layers, (tokens of all inputs, width)."""
        tokens = torch.from_numpy(np.concatenate(inputs))
        for _, state in self.model.states(tokens, [len(part) for part in inputs], self.layers):
            yield state

    def memory_of(self, tokens: int) -> int:
        """Return the bytes that a pass over one input of so many tokens holds at once, at most."""
        return VALUES_A_TOKEN * 4 * tokens * self.model.config.width


def digest_of_vectors(digest: str, precision: str) -> str:
    """Return the digest of an encoder by that of its weights: in int8 another, in all else the same."""
    return digest_in_int8(digest) if precision == "int8" else digest


def symmetrised(attention: Tensor) -> Tensor:
    """Return attention plus its transpose, less the average product of rows and columns; (heads, residues, residues).

    As for contacts from attention in Rao et al. 2021, doi:10.1101/2020.12.15.422761; fair-esm 2.0.0, `esm/modules.py`,
    `symmetrize` and `apc`.

    Examples
    --------
    >>> symmetrised(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])).tolist()
    [[[-0.25, 0.25], [0.25, -0.25]]]
    """
    both = attention + attention.transpose(1, 2)
    rows = both.sum(2, keepdim=True)
    return both - rows * rows.transpose(1, 2) / rows.sum(1, keepdim=True)


def open_esm2(
    name: str,
    *,
    layers: Sequence[int] | None = None,
    long: str = "balanced",
    precision: str = "auto",
    device: str = "cpu",
) -> ESM2Encoder:
    """Open ESM-2 weights: `bundled`, a published name or an id of the hub (fetched if it is not here), or a path.

    Parameters
    ----------
    name, layers, long, precision, device
        As for `encoder.load_encoder`.

    Raises
    ------
    WeightsError
        If the weights cannot be had or read.
    UsageError
        If an option does not fit the model or the device.
    """
    name = BUNDLED if name == "esm2" else name
    weights = read_weights(name)
    return ESM2Encoder(
        name,
        weights.config,
        weights.state,
        layers=tuple(layers or weights.layers),
        long=long,
        precision=precision,
        device=device,
        digest=weights.digest,
    )


def read_weights(name: str) -> EncoderWeights:
    """Read the weights that `open_esm2` opens; a folder may hold adapters and name their encoder.

    Raises
    ------
    WeightsError
        If they cannot be had or read.
    """
    _refuse_other_kinds(name)
    path = have_weights(name)
    if (path / FILE).is_file() and not (path / OWN).is_file():
        header = adapters_header(path / FILE)
        config, state, digest = read_adapted(path / FILE, header)
        return EncoderWeights(config, state, digest, path, tuple(header.get("layers", ())))
    config, state = load_state(path)
    check_architecture(name, config, path)
    return EncoderWeights(config, state, state_digest(state), path, default_layers(path))


def _refuse_other_kinds(name: str) -> None:
    """Raise WeightsError if weights are of another kind than ESM-2, before they are fetched."""
    config = config_of(name)
    if config is not None and not is_esm2(config):
        kind = f"{config.get('model_type')!r:.40}"
        raise WeightsError(name, f"a model of another kind than ESM-2 ({kind})", "choose another: esmcls encoders")


def with_ends(sequence: str) -> npt.NDArray[np.uint8]:
    """Return the tokens of a sequence between BOS and EOS.

    Examples
    --------
    >>> with_ends("MK").tolist()
    [0, 20, 15, 2]
    """
    return np.concatenate([[BOS], tokenize(sequence), [EOS]]).astype(np.uint8)
