"""A model without the layers that its vectors do not need.

One layer more than the last that is named stays, where there is one: the model's last layer goes through a final
LayerNorm and the others do not, so that a layer is only itself while another follows. It is never computed here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

from esmcls.encoders.esm2 import read_weights
from esmcls.encoders.huggingface.esm2_folder import save_hugging_face
from esmcls.encoders.pooling import check_layers
from esmcls.encoders.weights import ATTENTION_WEIGHT, State, save_state, state_digest
from esmcls.errors import FolderError, UsageError
from esmcls.files import atomic_folder

Format: TypeAlias = Literal["esmcls", "hf"]
_LAYER: Final = re.compile(r"layers\.(\d+)\.")


@dataclass(frozen=True)
class Cut:
    """An encoder that was cut.

    Parameters
    ----------
    path : Path
        Our file, or the folder of transformers.
    layers : tuple of int
        Its default layers: those that were wanted.
    kept, of : int
        Layers of its model, and of the whole one.
    parameters, before : int
        Numbers of both.
    digest : str
        Of its weights.
    """

    path: Path
    layers: tuple[int, ...]
    kept: int
    of: int
    parameters: int
    before: int
    digest: str

    def lines(self) -> list[str]:
        """Say what is left of what."""
        layers = ",".join(map(str, self.layers))
        size = f"{self.kept} of {self.of} layers, {self.parameters:,} of {self.before:,} parameters"
        return [f"{self.path}: {size}; its vectors are layers {layers}; digest {self.digest[:12]}"]


def cut_encoder(name: str, layers: Sequence[int], output: str | Path, format: Format = "esmcls") -> Cut:
    """Write an ESM-2 without the layers above those wanted; its vectors of these are the whole model's.

    Parameters
    ----------
    name : str
        As `load_encoder` takes it.
    layers : sequence of int
        Those wanted, which become its default ones.
    output : str or Path
        A file .safetensors, or with the format hf a folder that is not there yet.
    format : {"esmcls", "hf"}
        Ours, or what `AutoModel.from_pretrained` of transformers opens, where they are its `hidden_states`.

    Raises
    ------
    UsageError
        If the model has not these layers, or needs all it has.
    FolderError
        If something is at the output's place.
    WeightsError
        If the weights cannot be had.
    """
    path = Path(output)
    _check_output(path, format)
    weights = read_weights(name)
    wanted = check_layers(name, layers, weights.config.layers)
    depth = min(max(wanted) + 1, weights.config.layers)
    if depth == weights.config.layers:
        problem = f"layers {','.join(map(str, wanted))} of encoder {name} need all of its {depth} layers"
        raise UsageError(f"{problem} (the one after the last wanted stays, too); there is nothing to cut")
    config = replace(weights.config, layers=depth)
    state = _without_upper(weights.state, depth, len(wanted) * config.width)
    if format == "hf":
        with atomic_folder(path) as folder:
            save_hugging_face(folder, config, state, wanted)
    else:
        save_state(path, config, state, layers=wanted)
    return Cut(path, wanted, depth, weights.config.layers, _size(state), _size(weights.state), state_digest(state))


def _check_output(path: Path, format: str) -> None:
    if format not in ("esmcls", "hf"):
        raise UsageError(f"format {format!r}: choose esmcls or hf")
    if not path.absolute().parent.is_dir():
        raise FolderError(path, "its folder does not exist", "make the folder, or write elsewhere")
    if format == "hf" and path.exists():
        raise FolderError(path, "is there already", "name a folder that is not there")
    if format == "esmcls" and path.suffix != ".safetensors":
        raise UsageError(f"{path}: our format is a file .safetensors; end the name so, or choose --format hf")
    if path.is_dir():
        raise FolderError(path, "is a folder", "name a file")


def _size(state: State) -> int:
    return sum(tensor.numel() for tensor in state.values())


def _without_upper(state: State, depth: int, width: int) -> State:
    """Leave out the layers above those kept, and weights that pool over other layers than are wanted."""
    numbers = {name: _LAYER.match(name) for name in state}
    lower = {name: state[name] for name, match in numbers.items() if match is None or int(match[1]) < depth}
    pooled = lower.get(ATTENTION_WEIGHT)
    if pooled is not None and pooled.numel() != width:
        del lower[ATTENTION_WEIGHT]
    return lower
