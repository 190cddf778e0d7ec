"""What a folder or file of esmcls is, in lines for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from esmcls.cache.index import read_unseen
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.errors import FolderError
from esmcls.files import HIERARCHY, MANIFEST, SPEC, STATE
from esmcls.labels.hierarchy import Hierarchy
from esmcls.labels.kinds import CLASSES_OF, WITHOUT_CLASSES, classes_in_words
from esmcls.models.folder import read_manifest
from esmcls.models.manifest import Manifest
from esmcls.models.recipe import EXPLANATION
from esmcls.reading.records import PARTS
from esmcls.reporting.phrases import scores_in_words
from esmcls.workspace.workspace import Workspace


def about(path: str | Path) -> list[str]:
    """Say what a workspace, model folder, cache folder or encoder file holds.

    Raises
    ------
    FolderError
        If it is none of these.
    """
    path = Path(path)
    if not path.exists():
        raise FolderError(path, "no such file or folder", "give a workspace, a model, a cache or an encoder file")
    for name, describe in _KINDS.items():
        if (path / name).is_file():
            return list(describe(path))
    if path.suffix == ".safetensors" or (path / "config.json").is_file() or path.suffix == ".pt":
        return list(_encoder(path))
    raise FolderError(
        path, "neither a workspace, nor a model, a cache or an encoder", "esmcls embed and esmcls fit make them"
    )


def _workspace(path: Path) -> Iterator[str]:
    place = Workspace.open(path)
    state = place.state()
    yield f"workspace {path}"
    if (known := state["dataset"]) is None:
        yield "dataset: none"
    else:
        classes = classes_in_words(place.task, known["classes"])
        yield f"dataset: {known['records']:,} records, {known['sequences']:,} sequences, {classes}"
        yield f"task: {place.task}"
        if place.hierarchy is not None:
            yield f"hierarchy: {place.hierarchy}"
        parts = ", ".join(f"{known['parts'].get(part, 0):,} {part}" for part in PARTS)
        yield f"split: {state['split']['kind']} (seed {state['split']['seed']}): {parts}"
    for entry in place.caches:
        yield f"cache: {_spec(entry.spec)} in {entry.folder}"
        yield from _unseen(entry.folder)
    best = place.best_model() if place.models() else None
    for folder in place.models():
        yield f"model: {folder.name}, {_model_line(folder)}{' (best)' if folder == best else ''}"


def _model(path: Path) -> Iterator[str]:
    manifest = read_manifest(path)
    yield f"model {path}"
    yield f"head: {manifest.head}, " + ", ".join(f"{name} {value}" for name, value in sorted(manifest.config.items()))
    if explanation := manifest.setup.get(EXPLANATION):
        yield f"fit: {explanation}"
    yield f"encoder: {_spec(manifest.spec)}, pooling {manifest.pooling}, digest {manifest.spec.digest[:12]}"
    of = "with" if manifest.kind in WITHOUT_CLASSES else "of"
    yield f"fitted on: {manifest.n_train:,} sequences {of} {_classes(manifest)}, seed {manifest.seed}"
    yield f"validation: {scores_in_words(manifest.validation)}"
    if (path / HIERARCHY).is_file():
        yield f"hierarchy: {Hierarchy.load(path / HIERARCHY)}"
    yield "versions: " + ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items()))


def _model_line(path: Path) -> str:
    manifest = read_manifest(path)
    validation = scores_in_words(manifest.validation)
    return f"{manifest.head} on {manifest.spec.encoder}, {_classes(manifest)}, validation {validation}"


def _classes(manifest: Manifest) -> str:
    return classes_in_words(manifest.kind, len(manifest.classes), CLASSES_OF.get(manifest.kind, "classes"))


def _cache(path: Path) -> Iterator[str]:
    with EmbeddingCache.open(path) as cache:
        yield from about_cache(cache)


def about_cache(cache: EmbeddingCache) -> list[str]:
    """Say what a cache holds."""
    return [
        f"cache {cache.folder}",
        f"vectors: {_spec(cache.spec)}, encoder digest {cache.spec.digest[:12]}",
        f"sequences: {len(cache):,}; segments: {cache.segments}; bytes: {cache.nbytes:,}",
        *_unseen(cache.folder),
    ]


def _unseen(folder: Path) -> Iterator[str]:
    """Say what imported vectors know nothing of."""
    if counts := read_unseen(folder).values():
        many = "" if len(counts) == 1 else "s"
        yield f"not seen: {sum(counts):,} residues of {len(counts):,} sequence{many}, as they were imported"


def _spec(spec: EmbeddingSpec) -> str:
    layers = f"layers {','.join(map(str, spec.layers))}, " if spec.layers else ""
    return (
        f"{spec.encoder}, {layers}{spec.width:,} numbers as {spec.dtype}, {'+'.join(spec.poolings)}, "
        f"long {spec.long}, {spec.precision}"
    )


def _encoder(path: Path) -> Iterator[str]:
    from esmcls.encoders.weights import default_layers, load_state, state_digest

    config, state = load_state(path)
    yield f"encoder {path}"
    yield f"ESM-2: {config.layers} layers, width {config.width}, {config.heads} heads"
    yield f"parameters: {sum(tensor.numel() for tensor in state.values()):,}, digest {state_digest(state)[:12]}"
    if layers := default_layers(path):
        yield f"default layers: {','.join(map(str, layers))}"


_KINDS: Final[dict[str, Callable[[Path], Iterator[str]]]] = {
    STATE: _workspace,
    MANIFEST: _model,
    SPEC: _cache,
}
