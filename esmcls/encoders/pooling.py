"""What every encoder that is a transformer does alike: it cuts long sequences into inputs, runs them stream by stream,
pools any layers side by side over residues alone, and puts the inputs of a sequence together again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmcls.encoders.devices import Precision, exact_products, free_memory, is_out_of_memory, note_processor
from esmcls.encoders.encoder import KEEPS, POOLINGS, BatchPlan, Embedded, resolve_device
from esmcls.encoders.gpu.segments import Segments
from esmcls.encoders.gpu.transfer import HostCopies
from esmcls.encoders.windows import CONTEXT, Cut, Strategy, cut_length, glue, parse_long
from esmcls.errors import NonFiniteError, SequenceTooLargeError, UsageError
from esmcls.types import Residues, Vectors

Tokens: TypeAlias = npt.NDArray[np.integer[Any]]
"""(tokens,): one encoder input, residues between the special tokens of its family."""

BATCH_TOKENS: Final = {"cpu": 1 << 13, "cuda": 1 << 15, "mps": 1 << 13}
STREAM_TOKENS: Final = {"cpu": 1 << 10, "cuda": 1 << 15, "mps": 1 << 13}
"""A CPU is fastest with streams whose states stay in its cache, a GPU with long ones."""


@dataclass
class _Input:
    """One encoder input: where it is from, and its vectors once it has run."""

    sequence: int
    tokens: Tokens
    whole: bool  # whether its residue vectors are needed on the host
    pooled: Mapping[str, Vectors]  # pooling -> (width,)
    residues: Residues | None = None


class TransformerEncoder(ABC):
    """An `Encoder` that runs a transformer; a subclass says how residues become tokens, and tokens states.

    Parameters
    ----------
    name : str
        The one it was opened by.
    digest : str
        Of all that decides a vector.
    layers : sequence of int
        Layers side by side, in ascending order.
    width : int
        Of one layer.
    long : str
        Strategy for sequences beyond the context.
    device : str

    Raises
    ------
    UsageError
        If an option does not fit the device.
    """

    padded: ClassVar[bool] = False
    """Whether a stream takes as much as its longest input for each: such streams are of inputs of like lengths."""
    ends: tuple[int, int] = (1, 1)
    """Special tokens before and after the residues; of one before them, cls is the vector."""
    attention: Tensor | None = None
    """Weights of a residue's score, (width of all layers,), where the encoder was trained to pool by attention."""
    precision: Precision

    def __init__(self, name: str, digest: str, layers: Sequence[int], width: int, *, long: str, device: str) -> None:
        self.name = name
        self.digest = digest
        self.device = torch.device(resolve_device(device))
        self.layers = tuple(layers)
        self.width = width * len(self.layers)
        self.strategy: Strategy = parse_long(long)
        self.stream_tokens = STREAM_TOKENS[self.device.type]
        self.computes = False  # until the first batch

    @property
    @abstractmethod
    def depth(self) -> int:
        """The model's last layer."""

    @abstractmethod
    def tokens_of(self, residues: str) -> Tokens:
        """Return the tokens of one input, its special tokens around the residues."""

    @abstractmethod
    def states(self, inputs: Sequence[Tokens]) -> Iterator[Sequence[Tensor]]:
        """Run one stream and yield, for each of the encoder's layers, the state of each input, (tokens, width).

        Float32; what is yielded may be overwritten when the next layer is asked for.
        """

    def packed_states(self, inputs: Sequence[Tokens]) -> Iterator[Tensor]:
        """Run one stream and yield each of the encoder's layers, (tokens of all inputs, width)."""
        for parts in self.states(inputs):
            yield torch.cat(list(parts))

    @abstractmethod
    def memory_of(self, tokens: int) -> int:
        """Return the bytes that a pass over one input of so many tokens holds at once, at most."""

    def check_pooling(self, poolings: Sequence[str]) -> None:
        """Raise UsageError if the encoder does not have one of these poolings."""
        if "attention" in poolings and self.attention is None:
            layers = ", ".join(map(str, self.layers))
            raise UsageError(
                f"encoder {self.name} has no attention over residues for layers {layers}; choose mean, cls or max, or "
                "train one: esmcls finetune --pool attention"
            )

    @property
    def long(self) -> str:
        """Canonical text of the long-sequence strategy."""
        return str(self.strategy)

    def batches(self, lengths: Iterable[int]) -> Iterator[int]:
        """Yield how many of the next sequences make up a batch, in input order; `lengths` is in residues."""
        inputs = (self.strategy.cut(length) for length in lengths)
        tokens = (sum(cut_length(cut) + sum(self.ends) for cut in cuts) for cuts in inputs)
        return BatchPlan(BATCH_TOKENS[self.device.type]).counts(tokens)

    @property
    def runs_ahead(self) -> bool:
        """Whether what `launch` begins runs while the host goes on, as on a CUDA device."""
        return self.device.type == "cuda"

    def encode(self, sequences: Sequence[str], poolings: Sequence[str] = ("mean",), keep: str = "") -> Embedded:
        """Encode one batch.

        Parameters
        ----------
        sequences : sequence of str
            Upper-case residues.
        poolings : sequence of {"mean", "cls", "max", "attention"}
            All but cls leave out special tokens; cls is the first of them, of a cut sequence the mean over its inputs.
            Attention weighs residues by the softmax of a score, and is for an encoder that was fine-tuned with it.
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
        return self.launch(sequences, poolings, keep)()

    def launch(
        self, sequences: Sequence[str], poolings: Sequence[str] = ("mean",), keep: str = ""
    ) -> Callable[[], Embedded]:
        """Begin to encode one batch; what is returned waits for it, and takes all else as `encode` does.

        A device that runs ahead has the next batch in its queue before the host waits for this one.
        """
        check_request(sequences, poolings, keep)
        self.check_pooling(poolings)
        if not self.computes:
            note_processor(self.precision, self.device)
            self.computes = True
        cuts = [self.strategy.cut(len(sequence)) for sequence in sequences]
        inputs = [
            _Input(index, self.tokens_of(glue(sequence, cut)), keep == "residue" or len(cuts[index]) > 1, {})
            for index, sequence in enumerate(sequences)
            for cut in cuts[index]
        ]
        to_run = sorted(inputs, key=lambda part: -len(part.tokens)) if self.padded else inputs
        asked = tuple(dict.fromkeys([*poolings, *(["mean"] if keep == "chunk" else [])]))
        fill_in = self._run(to_run, sequences, asked)

        def finish() -> Embedded:
            fill_in()
            joined = self._join(inputs, cuts, poolings, keep)
            check_finite(sequences, joined.pooled)
            return joined

        return finish

    def _run(self, inputs: Sequence[_Input], sequences: Sequence[str], poolings: Sequence[str]) -> Callable[[], None]:
        """Run all inputs, stream by stream, and return what fills in their vectors.

        Out of memory halves the streams from there on.
        """
        copies = HostCopies(self.device)
        fillings: list[Callable[[], None]] = []
        start = 0
        while start < len(inputs):
            longest = len(inputs[start].tokens) if self.padded else 0
            rest = (max(longest, len(inputs[place].tokens)) for place in range(start, len(inputs)))
            count = next(BatchPlan(self.stream_tokens).counts(rest))
            stream = inputs[start : start + count]
            try:
                self._check_memory(stream)
                if self.runs_ahead:
                    fillings.append(self._launch_stream(stream, poolings, copies))
                else:
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
        if self.runs_ahead:
            copies.all_begun()

        def fill_in() -> None:
            copies.wait()
            for filling in fillings:
                filling()

        return fill_in

    def _check_memory(self, stream: Sequence[_Input]) -> None:
        """Raise MemoryError, before the system's own measures, if one input beyond the context does not fit."""
        tokens = len(stream[0].tokens)
        if tokens > CONTEXT + sum(self.ends) and self.memory_of(tokens) > free_memory(self.device):
            raise MemoryError

    def _run_stream(self, stream: Sequence[_Input], poolings: Sequence[str]) -> None:
        """Run one stream, pooling each layer as soon as it is there."""
        lengths = [len(part.tokens) for part in stream]
        pooled: dict[str, list[Tensor]] = {pooling: [] for pooling in poolings}  # a layer: (inputs, width)
        attended: list[Tensor] = []  # a layer: (tokens, width)
        residues: list[list[Residues]] = [[] for _ in stream]
        with exact_products():
            for parts in self.states([part.tokens for part in stream]):
                for pooling, layers in pooled.items():
                    if pooling == "attention":
                        attended.append(torch.cat(list(parts)))  # a residue's score is of all its layers
                    else:
                        layers.append(torch.stack([self._pool(part, pooling) for part in parts]))
                for encoder_input, part, vectors in zip(stream, parts, residues, strict=True):
                    if encoder_input.whole:
                        vectors.append(self._inside(part).cpu().numpy().copy())  # of what the next layer overwrites
            if attended:
                whole = torch.split(torch.cat(attended, dim=1), lengths)
                pooled["attention"] = [
                    torch.stack([pool_by_attention(self._inside(part), self.attention) for part in whole])
                ]
        on_host = {pooling: torch.cat(layers, dim=1).cpu().numpy() for pooling, layers in pooled.items()}
        for place, encoder_input in enumerate(stream):
            encoder_input.pooled = {pooling: vectors[place] for pooling, vectors in on_host.items()}
            encoder_input.residues = np.concatenate(residues[place], axis=1) if encoder_input.whole else None

    def _launch_stream(
        self, stream: Sequence[_Input], poolings: Sequence[str], copies: HostCopies
    ) -> Callable[[], None]:
        """Put one stream into the device's queue, pooled there; what is returned fills in the vectors that came."""
        lengths = [len(part.tokens) for part in stream]
        whole = [place for place, part in enumerate(stream) if part.whole]
        segments = Segments(lengths, self.ends, self.device)
        pooled: dict[str, list[Tensor]] = {pooling: [] for pooling in poolings}  # a layer: (inputs, width)
        attended: list[Tensor] = []  # a layer: (tokens, width)
        kept: list[Tensor] = []  # a layer: (tokens of the inputs from the first to the last of `whole`, width)
        with exact_products():
            for states in self.packed_states([part.tokens for part in stream]):
                for pooling, layers in pooled.items():
                    if pooling == "attention":
                        attended.append(states)
                    else:
                        layers.append(segments.pool(states, pooling))
                if whole:
                    kept.append(copies.begin(states[sum(lengths[: whole[0]]) : sum(lengths[: whole[-1] + 1])]))
            if attended:
                assert self.attention is not None
                pooled["attention"] = [segments.pool_by_attention(torch.cat(attended, dim=1), self.attention)]
        on_host = {pooling: copies.begin(torch.cat(layers, dim=1)) for pooling, layers in pooled.items()}

        def fill_in() -> None:
            for place, part in enumerate(stream):
                part.pooled = {pooling: vectors[place].numpy().copy() for pooling, vectors in on_host.items()}
            if whole:
                parts = [torch.split(layer, lengths[whole[0] : whole[-1] + 1]) for layer in kept]
                for place in whole:
                    inside = [self._inside(layer[place - whole[0]]).numpy() for layer in parts]
                    stream[place].residues = np.concatenate(inside, axis=1)

        return fill_in

    def _inside(self, vectors: Tensor) -> Tensor:
        """Return the vectors of residues alone, (tokens, width) to (residues, width)."""
        before, after = self.ends
        return vectors[before : len(vectors) - after]

    def _pool(self, vectors: Tensor, pooling: str) -> Tensor:
        """Pool one input with its special tokens, (tokens, width) to (width,)."""
        if pooling == "cls":
            return vectors[0].clone()
        return self._inside(vectors).mean(0) if pooling == "mean" else self._inside(vectors).amax(0)

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


def check_layers(name: str, layers: Sequence[int], depth: int) -> tuple[int, ...]:
    """Return the layers in ascending order, each once; UsageError if one is negative or beyond the last.

    Examples
    --------
    >>> check_layers("bundled", [5, 3, 3], depth=5)
    (3, 5)
    """
    wrong = [layer for layer in layers if not 0 <= layer <= depth]
    if wrong:
        raise UsageError(
            f"encoder {name} has no layer {', '.join(map(str, wrong))}; choose from 0, the embedding, to "
            f"{depth}, the last"
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
