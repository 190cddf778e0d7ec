"""A model, or its encoder, in the format of another program: a folder or a file that appears whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from esmcls.encoders.adapters import EncoderWeights
from esmcls.encoders.esm2 import digest_of_vectors, read_weights
from esmcls.encoders.huggingface.esm2_folder import save_hugging_face
from esmcls.errors import EncoderMismatchError, UnknownNameError, UsageError, WeightsError
from esmcls.files import atomic_folder
from esmcls.models.folder import load_model
from esmcls.models.model import Model, has_own_encoder
from esmcls.models.sharing.card import CARD, card_of_encoder
from esmcls.models.sharing.onnx_head import write_onnx
from esmcls.models.sharing.peft_folder import write_peft_folder

FORMATS: Final = ("hf", "peft", "onnx")
"""hf: the encoder as a folder of transformers. peft: its adapters alone. onnx: the head."""


def export_model(model: Model | str | Path, output: str | Path, *, format: str) -> Path:
    """Write a model's encoder, its adapters or its head for other programs.

    Parameters
    ----------
    model : Model, str or Path
        Or its folder.
    output : str or Path
        A new or empty folder, or, for onnx, a file.
    format : {"hf", "peft", "onnx"}

    Returns
    -------
    Path

    Raises
    ------
    UnknownNameError
        If there is no such format.
    UsageError
        If the encoder is no ESM-2, or the head has no form in ONNX.
    ModelError
        If the model has no adapters of its own.
    WeightsError, EncoderMismatchError
        If the encoder is not here, or another than the model was fitted on.
    FolderError
        If something else is there, or nothing can be written there.
    """
    if format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS)
    opened = model if isinstance(model, Model) else load_model(model)
    if format == "onnx":
        write_onnx(Path(output), opened)
        return Path(output)
    weights = weights_of(opened) if format == "hf" else None
    with atomic_folder(output) as folder:
        if weights is None:
            write_peft_folder(folder, opened.folder)
        else:
            save_hugging_face(folder, weights.config, weights.state, opened.spec.layers)
        (folder / CARD).write_text(card_of_encoder(opened, format), encoding="utf-8")
    return Path(output)


def weights_of(model: Model) -> EncoderWeights:
    """Return the weights of a model's encoder, adapters merged.

    Raises
    ------
    UsageError
        If it is no ESM-2, or there are several.
    WeightsError, EncoderMismatchError
        If it is not here, or another than the model was fitted on.
    """
    spec = model.spec
    name = str(model.folder) if has_own_encoder(model.folder) else spec.encoder
    if model.manifest.others:
        raise UsageError(f"model {model.name} reads the vectors of several encoders; export its members")
    try:
        weights = read_weights(name)
    except WeightsError as error:
        if name == str(model.folder) or Path(name).exists():
            raise
        raise UsageError(f"model {model.name}: its encoder {name} is no ESM-2 that is here ({error.found})") from None
    if spec.digest not in (weights.digest, digest_of_vectors(weights.digest, spec.precision)):
        raise EncoderMismatchError(spec.digest, weights.digest, name)
    return weights
