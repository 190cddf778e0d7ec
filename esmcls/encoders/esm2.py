"""The ESM-2 encoder: strings in, pooled vectors of any layers side by side out, whatever length the sequences have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmcls.encoders import BUNDLED
from esmcls.encoders.adapters import FILE, EncoderWeights, adapters_header, read_adapted
from esmcls.encoders.alphabet import BOS, EOS, tokenize
from esmcls.encoders.devices import choose_precision, exact_products, free_memory, is_out_of_memory, note_emulation
from esmcls.encoders.download import CHECKPOINTS, check_architecture, fetch
from esmcls.encoders.encoder import KEEPS, POOLINGS, BatchPlan, Embedded, resolve_device
from esmcls.encoders.inference import PackedESM2
from esmcls.encoders.model import ModelConfig
from esmcls.encoders.weights import ATTENTION_WEIGHT, OWN, default_layers, find_weights, load_state, state_digest
from esmcls.encoders.windows import CONTEXT, Cut, Strategy, cut_length, glue, parse_long
from esmcls.errors import NonFiniteError, SequenceTooLargeError, UsageError
from esmcls.types import Residues, Vectors

BATCH_TOKENS: Final = {"cpu": 1 << 13, "cuda": 1 << 15, "mps": 1 << 13}
STREAM_TOKENS: Final = {"cpu": 1 << 10, "cuda": 1 << 15, "mps": 1 << 13}
"""A CPU is fastest with streams whose states stay in its cache, a GPU with long ones."""
VALUES_A_TOKEN: Final = 20
"""Upper bound of the fp32 values that a pass holds at once, a token and unit of width: 4 of fc1, 3 of q, k, v, …"""


@dataclass
class _Input:
    """One encoder input: where it is from, and its vectors once it has run."""

    sequence: int
    tokens: npt.NDArray[np.uint8]  # (residues + 2,)
    whole: bool  # whether its residue vectors are needed on the host
    pooled: Mapping[str, Vectors]  # pooling -> (width,)
    residues: Residues | None = None


class ESM2Encoder:
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
    precision : {"auto", "fp32", "bf16", "fp16", "int8"}
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
        self.name = name
        self.digest = digest or state_digest(state)
        self.device = torch.device(resolve_device(device))
        self.layers = check_layers(name, layers or (config.layers,), config)
        self.width = config.width * len(self.layers)
        self.strategy: Strategy = parse_long(long)
        self.attention = self._attention(state)
        self.precision = choose_precision(precision, self.device)
        note_emulation(self.precision, self.device)
        self.model = PackedESM2(config, state, self.precision, self.device)
        self.stream_tokens = STREAM_TOKENS[self.device.type]

    def _attention(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """Return the weights of a residue's score, (width,), where the encoder was fine-tuned to pool by attention."""
        if ATTENTION_WEIGHT not in state or state[ATTENTION_WEIGHT].numel() != self.width:
            return None  # trained on other layers: it has no such pooling with these
        return state[ATTENTION_WEIGHT].float().flatten().to(self.device)

    @property
    def depth(self) -> int:
        """The model's last layer."""
        return self.model.config.layers

    @property
    def long(self) -> str:
        """Canonical text of the long-sequence strategy."""
        return str(self.strategy)

    def batches(self, lengths: Iterable[int]) -> Iterator[int]:
        """Yield how many of the next sequences make up a batch, in input order; `lengths` is in residues."""
        inputs = (self.strategy.cut(length) for length in lengths)
        tokens = (sum(cut_length(cut) + 2 for cut in cuts) for cuts in inputs)
        return BatchPlan(BATCH_TOKENS[self.device.type]).counts(tokens)

    def encode(self, sequences: Sequence[str], poolings: Sequence[str] = ("mean",), keep: str = "") -> Embedded:
        """Encode one batch.

        Parameters
        ----------
        sequences : sequence of str
            Upper-case residues.
        poolings : sequence of {"mean", "cls", "max", "attention"}
            All but cls leave out BOS and EOS; cls is BOS, of a cut sequence the mean over its inputs. Attention weighs
            residues by the softmax of a score, and is for an encoder that was fine-tuned with it.
        keep : {"", "chunk", "residue"}

        Returns
        -------
        Embedded
            A residue that several inputs hold counts once, with its mean over them.

        Raises
        ------
        UsageError
            If a pooling or `keep` is unknown, or a sequence empty.
        SequenceTooLargeError
            If a sequence does not fit into memory even alone.
        NonFiniteError
            If a vector holds NaN or infinity.
        """
        check_request(sequences, poolings, keep)
        if "attention" in poolings and self.attention is None:
            layers = ", ".join(map(str, self.layers))
            raise UsageError(
                f"encoder {self.name} has no attention over residues for layers {layers}; choose mean, cls or max, or "
                "train one: esmcls finetune --pool attention"
            )
        cuts = [self.strategy.cut(len(sequence)) for sequence in sequences]
        inputs = [
            _Input(index, with_ends(glue(sequence, cut)), keep == "residue" or len(cuts[index]) > 1, {})
            for index, sequence in enumerate(sequences)
            for cut in cuts[index]
        ]
        self._run(inputs, sequences, dict.fromkeys([*poolings, *(["mean"] if keep == "chunk" else [])]))
        joined = self._join(inputs, cuts, poolings, keep)
        check_finite(sequences, joined.pooled)
        return joined

    def _run(self, inputs: Sequence[_Input], sequences: Sequence[str], poolings: Iterable[str]) -> None:
        """Fill in the vectors of all inputs, stream by stream; out of memory halves the streams from there on."""
        start = 0
        while start < len(inputs):
            rest = (len(inputs[place].tokens) for place in range(start, len(inputs)))
            count = next(BatchPlan(self.stream_tokens).counts(rest))
            stream = inputs[start : start + count]
            try:
                self._check_memory(stream)
                self._run_stream(stream, poolings)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if count == 1:
                    index = stream[0].sequence
                    raise SequenceTooLargeError(index, len(sequences[index])) from None
                self.stream_tokens = min(self.stream_tokens, sum(len(part.tokens) for part in stream)) // 2
            else:
                start += count

    def _check_memory(self, stream: Sequence[_Input]) -> None:
        """Raise MemoryError, before the system's own measures, if one input beyond the context does not fit."""
        tokens = len(stream[0].tokens)
        if tokens > CONTEXT + 2 and VALUES_A_TOKEN * 4 * tokens * self.model.config.width > free_memory(self.device):
            raise MemoryError

    def _run_stream(self, stream: Sequence[_Input], poolings: Iterable[str]) -> None:
        """Run one stream, pooling each layer as soon as it is there."""
        tokens = torch.from_numpy(np.concatenate([part.tokens for part in stream]))
        lengths = [len(part.tokens) for part in stream]
        pooled: dict[str, list[Tensor]] = {pooling: [] for pooling in poolings}  # a layer: (inputs, width)
        attended: list[Tensor] = []  # a layer: (tokens, width)
        residues: list[list[Residues]] = [[] for _ in stream]
        with exact_products():
            for _, state in self.model.states(tokens, lengths, self.layers):
                parts = torch.split(state, lengths)
                for pooling, layers in pooled.items():
                    if pooling == "attention":
                        attended.append(state.clone())  # a residue's score is of all its layers
                    else:
                        layers.append(torch.stack([pool(part, pooling) for part in parts]))
                for encoder_input, part, vectors in zip(stream, parts, residues, strict=True):
                    if encoder_input.whole:
                        vectors.append(part[1:-1].cpu().numpy().copy())  # a view of what the next layer overwrites
            if attended:
                parts = torch.split(torch.cat(attended, dim=1), lengths)
                pooled["attention"] = [torch.stack([pool_by_attention(part[1:-1], self.attention) for part in parts])]
        on_host = {pooling: torch.cat(layers, dim=1).cpu().numpy() for pooling, layers in pooled.items()}
        for place, encoder_input in enumerate(stream):
            encoder_input.pooled = {pooling: vectors[place] for pooling, vectors in on_host.items()}
            encoder_input.residues = np.concatenate(residues[place], axis=1) if encoder_input.whole else None

    def _join(
        self, inputs: Sequence[_Input], cuts: Sequence[Sequence[Cut]], poolings: Sequence[str], keep: str
    ) -> Embedded:
        """Put the inputs of each sequence together."""
        n = len(cuts)
        pooled: dict[str, Vectors] = {pooling: np.zeros((n, self.width), np.float32) for pooling in poolings}
        seen = np.zeros(n, np.int64)
        chunks: list[Vectors] = []
        residues: list[Vectors] = []
        rest = iter(inputs)
        for row, cut in enumerate(cuts):
            of_sequence = [next(rest) for _ in cut]
            whole = [part.residues for part in of_sequence if part.residues is not None]
            vectors = self.strategy.join(whole, cut)[0] if whole else None
            seen[row] = cut_length(cut[0]) if vectors is None else len(vectors)
            for pooling in poolings:
                pooled[pooling][row] = pool_joined(
                    [part.pooled for part in of_sequence], vectors, pooling, self.attention
                )
            if keep == "chunk":
                chunks.append(np.stack([part.pooled["mean"] for part in of_sequence]))
            if keep == "residue" and vectors is not None:
                residues.append(vectors)
        counts = np.array([len(cut) for cut in cuts], dtype=np.int64)
        return Embedded(
            pooled, counts, seen, chunks if keep == "chunk" else None, residues if keep == "residue" else None
        )


def open_esm2(
    name: str,
    *,
    layers: Sequence[int] | None = None,
    long: str = "balanced",
    precision: str = "auto",
    device: str = "cpu",
) -> ESM2Encoder:
    """Open ESM-2 weights: `bundled`, a published name (fetched if it is not here) or a path.

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
    path = fetch(name) if name in CHECKPOINTS else find_weights(name)
    if (path / FILE).is_file() and not (path / OWN).is_file():
        header = adapters_header(path / FILE)
        config, state, digest = read_adapted(path / FILE, header)
        return EncoderWeights(config, state, digest, path, tuple(header.get("layers", ())))
    config, state = load_state(path)
    check_architecture(name, config, path)
    return EncoderWeights(config, state, state_digest(state), path, default_layers(path))


def check_layers(name: str, layers: Sequence[int], config: ModelConfig) -> tuple[int, ...]:
    """Return the layers in ascending order, each once; UsageError if one is negative or beyond the last.

    Examples
    --------
    >>> check_layers("bundled", [5, 3, 3], ModelConfig(layers=5, width=8, heads=2))
    (3, 5)
    """
    wrong = [layer for layer in layers if not 0 <= layer <= config.layers]
    if wrong:
        raise UsageError(
            f"encoder {name} has no layer {', '.join(map(str, wrong))}; choose from 0, the embedding, to "
            f"{config.layers}, the last"
        )
    return tuple(sorted(set(layers)))


def check_request(sequences: Sequence[str], poolings: Sequence[str], keep: str) -> None:
    """Raise UsageError if a pooling or `keep` is unknown, or a sequence empty."""
    unknown = [pooling for pooling in poolings if pooling not in POOLINGS]
    if unknown:
        raise UsageError(f"unknown pooling {', '.join(unknown)}; choose from {', '.join(POOLINGS)}")
    if keep not in KEEPS:
        raise UsageError(f"unknown vectors to keep: {keep!r}; choose from chunk, residue")
    if "" in sequences:
        raise UsageError(f"sequence number {list(sequences).index('') + 1} has no residues; leave it out")


def check_finite(sequences: Sequence[str], pooled: Mapping[str, Vectors]) -> None:
    """Raise NonFiniteError for the first sequence with NaN or infinity in a vector."""
    for pooling, vectors in pooled.items():
        for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
            raise NonFiniteError(
                sequences[row], f"its {pooling} vector holds NaN or infinity", "check the weights, or use fp32"
            )


def with_ends(sequence: str) -> npt.NDArray[np.uint8]:
    """Return the tokens of a sequence between BOS and EOS.

    Examples
    --------
    >>> with_ends("MK").tolist()
    [0, 20, 15, 2]
    """
    return np.concatenate([[BOS], tokenize(sequence), [EOS]]).astype(np.uint8)


def pool(vectors: Tensor, pooling: str) -> Tensor:
    """Pool one input with its BOS and EOS, (tokens, width) to (width,)."""
    if pooling == "cls":
        return vectors[0].clone()
    return vectors[1:-1].mean(0) if pooling == "mean" else vectors[1:-1].amax(0)


def pool_by_attention(vectors: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean of residues weighed by the softmax of their scores, (residues, width) to (width,).

    Examples
    --------
    >>> pool_by_attention(torch.tensor([[0.0, 1.0], [4.0, 3.0]]), torch.zeros(2))
    tensor([2., 2.])
    """
    assert weight is not None
    return (vectors @ weight).softmax(0) @ vectors


def pool_joined(
    inputs: Sequence[Mapping[str, Vectors]], vectors: Residues | None, pooling: str, attention: Tensor | None = None
) -> Vectors:
    """Pool a sequence of one or several pooled inputs; `vectors` is (residues seen, width) where there are several."""
    if len(inputs) == 1 or vectors is None:
        return inputs[0][pooling]
    if pooling == "cls":
        cls: Vectors = np.mean([pooled["cls"] for pooled in inputs], axis=0)
        return cls
    if pooling == "attention" and attention is not None:
        return np.asarray(pool_by_attention(torch.from_numpy(vectors), attention.cpu()).numpy(), dtype=np.float32)
    joined: Vectors = vectors.mean(axis=0, dtype=np.float64) if pooling == "mean" else vectors.max(axis=0)
    return joined
