"""The encoder of all families that `transformers` has classes of: padded batches, any layers, residues alone pooled.

Products within the layers are those of ESM-2 (`inference.prepare`): rounded as the precision says, emulated where the
hardware lacks it; the residual stream, LayerNorm and attention stay fp32. What `transformers` calls hidden state n is
what block n is given, and the last is what the model returns: layers beyond those asked for are left out of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from esmcls.encoders.devices import Precision, choose_precision, keep_freed_memory, note_emulation
from esmcls.encoders.huggingface.families import fixed_vocabulary
from esmcls.encoders.huggingface.model import OpenedModel, check_model_type, classes_of, open_model
from esmcls.encoders.huggingface.vocabulary import FILES
from esmcls.encoders.inference import DTYPES, prepare
from esmcls.encoders.pooling import Tokens, TransformerEncoder, check_layers
from esmcls.encoders.sources.places import config_of, find_weights, have_weights
from esmcls.encoders.windows import CONTEXT
from esmcls.errors import FetchError, UsageError

VALUES_A_TOKEN: Final = 24
"""Upper bound of the fp32 values that a pass holds at once, a token and unit of width: 16 of ProtT5's products, …"""
SCORES: Final = 3
"""Of attention that holds its scores: their bias, the bias with the mask, and the scores."""


class HuggingFaceEncoder(TransformerEncoder):
    """An `Encoder` that runs a protein language model of `transformers`.

    Parameters
    ----------
    name : str
        The one it was opened by.
    opened : OpenedModel
        Becomes the encoder's: it is truncated after the last layer asked for.
    layers : sequence of int, optional
        Layers side by side, in ascending order; default the last.
    long : str
        Strategy for sequences beyond the context.
    precision : {"auto", "fp32", "bf16", "fp16"}
        As for ESM-2, where the family does not overflow in it.
    device : str

    Raises
    ------
    UsageError
        If an option does not fit the model or the device.
    """

    padded: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        opened: OpenedModel,
        *,
        layers: Sequence[int] | None = None,
        long: str = "balanced",
        precision: str = "auto",
        device: str = "cpu",
    ) -> None:
        asked = check_layers(name, layers or (opened.depth,), opened.depth)
        super().__init__(name, opened.digest, asked, opened.width, long=long, device=device)
        self.opened = opened
        self.table = opened.table
        self.ends = (len(opened.table.start), len(opened.table.end))
        self._check_positions()
        self.precision = self._choose(precision)
        note_emulation(self.precision, self.device)
        keep_freed_memory()
        self.given: dict[int, Tensor] = {}  # a layer: (inputs, tokens, width), while a stream runs
        self.model = self._prepared(opened)

    @property
    def depth(self) -> int:
        """The model's last layer."""
        return self.opened.depth

    def _check_positions(self) -> None:
        """Refuse inputs that are longer than the positions that the model has learned."""
        if self.opened.positions is None:
            return
        most = self.opened.positions - sum(self.ends)
        longest = self.strategy.longest
        if most <= CONTEXT if longest is None else longest > most:
            raise UsageError(
                f"encoder {self.name} has learned positions for {most:,} residues, so that --long {self.long} cannot "
                f"be; choose --long balanced:{most} or window:{most}"
            )

    def _choose(self, precision: str) -> Precision:
        """Return the precision to compute in, one that the family does not overflow in."""
        family = self.opened.family
        chosen = choose_precision(precision, self.device)
        if precision == "auto" and chosen not in family.precisions:
            return "fp32"
        if chosen not in family.precisions:
            why = "overflows in fp16" if chosen == "fp16" else f"has no {chosen}"
            raise UsageError(f"encoder {self.name}: {family.name} {why}; choose {', '.join(family.precisions)} or auto")
        return chosen

    def _prepared(self, opened: OpenedModel) -> nn.Module:
        """Return the model as it runs: truncated, its products prepared, and its blocks watched."""
        blocks = opened.model.get_submodule(opened.family.blocks)
        assert isinstance(blocks, nn.ModuleList)
        last = self.layers[-1]
        if last < opened.depth:
            del blocks[last:]
            if opened.family.norm:
                _replace(opened.model, opened.family.norm, nn.Identity())
        for block in blocks:
            products = [path for path, module in block.named_modules() if isinstance(module, nn.Linear)]
            for path in products:
                _replace(block, path, PreparedLinear(block.get_submodule(path), self.precision, self.device))
        for number, block in enumerate(blocks):
            if number in self.layers:
                block.register_forward_pre_hook(self._watch(number), with_kwargs=True)
        return opened.model.to(self.device)

    def _watch(self, layer: int) -> Any:
        """Return a hook that keeps what a block is given."""

        def keep(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            self.given[layer] = arguments[0] if arguments else named["hidden_states"]

        return keep

    def check_pooling(self, poolings: Sequence[str]) -> None:
        """Raise UsageError if the family does not have one of these poolings."""
        family = self.opened.family
        if "attention" in poolings:
            raise UsageError(f"encoder {self.name} was not trained to pool by attention; choose mean or max")
        if "cls" in poolings and not family.cls:
            raise UsageError(f"encoder {self.name}: {family.name} has no token of a whole sequence; choose mean or max")

    def tokens_of(self, residues: str) -> Tokens:
        """Return the tokens of one input, the family's special ones around the residues."""
        return self.table.tokenize(residues)

    @torch.inference_mode()
    def states(self, inputs: Sequence[Tokens]) -> Iterator[Sequence[Tensor]]:
        """Run one padded batch and yield, for each of the encoder's layers, the state of each input."""
        lengths = [len(tokens) for tokens in inputs]
        tokens = torch.full((len(inputs), max(lengths)), self.opened.pad, dtype=torch.int64)
        mask = torch.zeros_like(tokens)
        for row, part in enumerate(inputs):
            tokens[row, : len(part)] = torch.from_numpy(part)
            mask[row, : len(part)] = 1
        self.given.clear()
        output = self.model(input_ids=tokens.to(self.device), attention_mask=mask.to(self.device))
        self.given[self.layers[-1]] = output.last_hidden_state
        for layer in self.layers:
            state = self.given.pop(layer).float()  # (inputs, tokens, width)
            yield [state[row, :length] for row, length in enumerate(lengths)]

    def memory_of(self, tokens: int) -> int:
        """Return the bytes that a pass over one input of so many tokens holds at once, at most."""
        if self.opened.positions is not None and tokens > self.opened.positions:
            return sys.maxsize  # it cannot be run at all
        scores = SCORES * self.opened.heads if self.opened.family.dense else 1
        return 4 * tokens * (VALUES_A_TOKEN * self.opened.width + scores * tokens)


class PreparedLinear(nn.Module):
    """A product of fp32 states with weights that are prepared for one precision and device."""

    weight = None
    """T5 asks what its products are in, to give them that; these take fp32."""

    def __init__(self, linear: nn.Module, precision: Precision, device: torch.device) -> None:
        super().__init__()
        assert isinstance(linear, nn.Linear)
        weight = linear.weight.detach()
        bias = torch.zeros_like(weight[:, 0]) if linear.bias is None else linear.bias.detach()
        self.product = prepare(weight, bias, precision, device)
        self.dtype = DTYPES[precision]

    def forward(self, x: Tensor) -> Tensor:
        """Return fp32, (..., out), of fp32, (..., in)."""
        flat = self.product(x.flatten(0, -2).to(self.dtype))
        return flat.float().view(*x.shape[:-1], -1)


def _replace(parent: nn.Module, path: str, new: nn.Module) -> None:
    """Put a module in the place of another."""
    above, _, name = path.rpartition(".")
    setattr(parent.get_submodule(above), name, new)


def open_hf(
    name: str,
    *,
    layers: Sequence[int] | None = None,
    long: str = "balanced",
    precision: str = "auto",
    device: str = "cpu",
) -> HuggingFaceEncoder:
    """Open a protein language model of `transformers`: an id of the hub (fetched if it is not here), or a path.

    Parameters
    ----------
    name, layers, long, precision, device
        As for `encoder.load_encoder`.

    Raises
    ------
    WeightsError
        If the model cannot be had or read, is of no known family, or needs code of its own.
    MissingExtraError
        If `transformers` is not installed.
    UsageError
        If an option does not fit the model or the device.
    """
    config = config_of(name)
    if config is None:
        known = "Rostlab/prot_t5_xl_half_uniref50-enc"
        raise UsageError(f"encoder {name!r} names no model of transformers; name one, such as {known}, or its folder")
    check_model_type(config, name)
    classes_of(config, name)  # before anything large is fetched
    in_no_file = bool(fixed_vocabulary(str(config["model_type"])))
    opened = open_model(have_weights(name) if in_no_file else _have_with_tokenizer(name), name)
    return HuggingFaceEncoder(name, opened, layers=layers, long=long, precision=precision, device=device)


def _have_with_tokenizer(name: str) -> Path:
    """Return where weights and tokenizer lie, and say which of them cannot be had."""
    try:
        return have_weights(name, tokenizer=True)
    except FetchError as error:
        if (place := find_weights(name)) is None:
            raise
        fix = f"fetch {', '.join(FILES)} of it where there is a network, or give the path of a copy with one"
        found = "its weights are on this machine, but no file of its tokenizer, and it cannot be fetched"
        raise FetchError(name, found, fix, [str(place)]) from error
