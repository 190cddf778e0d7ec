"""The one place where the name of an encoder's weights becomes a file or folder of this machine.

Looked for in this order:

    ESMCLS_WEIGHTS/<name>           the folder of a machine without a network: a file of fair-esm, one of ours, a folder
    <name>                          a path
    HF_HOME/hub/models--…           the cache of the Hugging Face Hub, which transformers and others fill, too
    TORCH_HOME/hub/checkpoints/…    torch hub's folder, which fair-esm fills
    the Hugging Face Hub            fetched into its cache
    fair-esm's address              fetched into torch hub's folder

The last two are asked for the six checkpoints of ESM-2 under both of their names, `esm2_t6_8M_UR50D` and
`facebook/esm2_t6_8M_UR50D`; fair-esm's alone where `ESMCLS_WEIGHTS_URL` names a mirror of it.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from esmcls.encoders import BUNDLED, OWN
from esmcls.encoders.sources import fair_esm, hub
from esmcls.encoders.sources.checkpoints import CHECKPOINTS, Checkpoint, checkpoint_of
from esmcls.encoders.sources.hub import Repository, parse_repository
from esmcls.errors import FetchError, WeightsError
from esmcls.foreign.transformers_folder import CONFIG, read_config

WEIGHTS_VARIABLE: Final = "ESMCLS_WEIGHTS"
_FILES: Final = (".pt", ".safetensors", ".bin")


def names_weights(name: str) -> bool:
    """Say whether a text can be the name of weights: bundled or published ones, an id of the hub, or a path."""
    return name == BUNDLED or name in CHECKPOINTS or _looks_like_path(name) or parse_repository(name) is not None


def is_published(name: str) -> bool:
    """Say whether a name leads to the same weights from every folder and machine: it is none of a path."""
    published = name == BUNDLED or name in CHECKPOINTS or parse_repository(name) is not None
    return published and not Path(name).exists()


def bundled_path() -> Path:
    """Return the file of the encoder that comes with the package."""
    import esmcls_data

    return Path(esmcls_data.__file__).with_name(OWN)


def find_weights(name: str, *, tokenizer: bool = False) -> Path | None:
    """Return where weights lie on this machine, without asking the network; None if they are not here.

    Parameters
    ----------
    name : str
    tokenizer : bool
        Whether a folder of the hub's cache without a tokenizer is not enough.

    Raises
    ------
    WeightsError
        If they are here, and not what was fetched.
    """
    if name == BUNDLED:
        return bundled_path()
    for place in _paths(name):
        if place.exists():
            return place
    repository = _repository_of(name)
    if repository is not None and (folder := hub.cached_snapshot(repository, tokenizer=tokenizer)) is not None:
        return folder
    checkpoint = checkpoint_of(name)
    if checkpoint is not None and (file := fair_esm.torch_hub_place(checkpoint.name)).exists():
        fair_esm.check_recorded_digest(file)
        return file
    return None


def have_weights(name: str, *, tokenizer: bool = False) -> Path:
    """Return where weights lie on this machine, having fetched them if they were not here; see `find_weights`.

    Raises
    ------
    WeightsError
        If they are not here and cannot be fetched; the message names every place.
    MissingExtraError
        If they must be fetched and huggingface-hub is not installed.
    """
    if (place := find_weights(name, tokenizer=tokenizer)) is not None:
        return place
    repository, checkpoint = _repository_of(name), checkpoint_of(name)
    looked = list(map(str, places_of(name)))
    try:
        if checkpoint is not None:
            return _fetch_checkpoint(checkpoint, name)
        if repository is not None:
            return hub.snapshot(name, tokenizer=tokenizer)
    except FetchError as error:
        raise FetchError(name, error.found, _near(name) + error.fix, looked) from None
    raise WeightsError(name, "weights not found", f"check the path, or set {WEIGHTS_VARIABLE} to their folder", looked)


def config_of(name: str) -> dict[str, Any] | None:
    """Return the `config.json` of weights in the form of transformers; None of weights in another form.

    It is fetched alone if the weights are not here, so that what they are is known before they come.

    Raises
    ------
    WeightsError, MissingExtraError
        As `have_weights` does.
    """
    if name == BUNDLED:
        return None
    if (place := find_weights(name)) is not None:
        folder = place if place.is_dir() else place.parent
        of_transformers = (folder / CONFIG).is_file() and not (folder / OWN).exists() and place.suffix != ".pt"
        return read_config(folder / CONFIG) if of_transformers else None
    if checkpoint_of(name) is not None or parse_repository(name) is None:
        return None
    try:
        return hub.config_of(name)
    except FetchError as error:
        raise FetchError(name, error.found, _near(name) + error.fix, list(map(str, places_of(name)))) from None


def places_of(name: str) -> Iterator[Path]:
    """Give the places where weights of this name are looked for, in order."""
    yield from _paths(name)
    if (repository := _repository_of(name)) is not None:
        yield hub.cache_folder(repository)
    if (checkpoint := checkpoint_of(name)) is not None:
        yield fair_esm.torch_hub_place(checkpoint.name)


def source_of(checkpoint: Checkpoint) -> str:
    """Return the address that a checkpoint is fetched from."""
    if mirror := os.environ.get(fair_esm.ADDRESS_VARIABLE):
        return f"{mirror.rstrip('/')}/{checkpoint.file}"
    return f"{hub.hub_address()}/{checkpoint.repository.id}"


def _fetch_checkpoint(checkpoint: Checkpoint, name: str) -> Path:
    """Fetch a checkpoint of ESM-2 from the hub, or from fair-esm's address where the hub does not give it."""
    if os.environ.get(fair_esm.ADDRESS_VARIABLE):
        return fair_esm.fetch(checkpoint.name)
    try:
        return hub.snapshot(checkpoint.repository.id)
    except FetchError as error:
        if hub.is_offline():
            raise
        logging.getLogger("esmcls").warning("%s: %s; asking %s instead", name, error.found, fair_esm.ADDRESS)
        try:
            return fair_esm.fetch(checkpoint.name)
        except FetchError as second:
            raise FetchError(name, f"{error.found}, and {second.found}", second.fix) from None


def _paths(name: str) -> Iterator[Path]:
    """Give the paths that a name may be, the folder of a machine without a network first."""
    folder = os.environ.get(WEIGHTS_VARIABLE)
    if folder and not _is_path_alone(name):
        checkpoint = checkpoint_of(name)
        for known in dict.fromkeys([name, checkpoint.name if checkpoint else name]):
            yield from (Path(folder) / f"{known}{ending}" for ending in (".pt", ".safetensors", ""))
    yield Path(name)


def _repository_of(name: str) -> Repository | None:
    checkpoint = checkpoint_of(name)
    return parse_repository(name) if checkpoint is None else checkpoint.repository


def _is_path_alone(name: str) -> bool:
    """Say whether a name is a path as it is written, be there something or not."""
    return name.endswith(_FILES) or (os.sep in name and parse_repository(name) is None)


def _looks_like_path(name: str) -> bool:
    return _is_path_alone(name) or Path(name).exists()


def _near(name: str) -> str:
    """Return a question about a checkpoint of nearly this name; nothing if there is none, or it is one."""
    known = [checkpoint.repository.id for checkpoint in CHECKPOINTS.values()]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f"did you mean {near[0]}? Else " if near and checkpoint_of(name) is None else ""
