"""A scanner's folder, WORKSPACE/scanners/<name>/: what it is and its two heads; all that `scan` needs but the encoder.

scanners/<name>/
    scanner.json            format 1: families, spec of the vectors, lengths, settings, calibration; the heads' sha256
    residues/, windows/     what the linear heads' `save` writes
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from esmcls.cache.features import residues_by
from esmcls.cache.spec import EmbeddingSpec
from esmcls.encoders.encoder import load_encoder
from esmcls.encoders.windows import CONTEXT, parse_long, residues_seen
from esmcls.errors import EncoderMismatchError, ModelError, UnknownNameError, UsageError
from esmcls.files import read_as, refuse_address, replace_folder, settle, sha256_file, temporary_beside, write_json
from esmcls.heads.layers.linear import LinearConfig, LinearHead
from esmcls.heads.settings import parse_settings
from esmcls.scanning.judge import Judge
from esmcls.scanning.scanner import Recogniser, ResidueVectors, ScanConfig, Scanner
from esmcls.scanning.windows import MEASURES, Lengths
from esmcls.types import Vectors

FORMAT: Final = 1
SCANNERS: Final = "scanners"
MANIFEST: Final = "scanner.json"
HEADS: Final = ("residues", "windows")
AGAIN: Final = "copy the scanner's folder anew, or fit again: esmcls fit-scan"


@dataclass(frozen=True)
class _Saved:
    """What scanner.json holds besides the spec, which has a version of its own."""

    format: int
    families: tuple[str, ...]
    none: str
    sizes: tuple[int, ...]
    tried: tuple[int, ...]
    centres: tuple[float, ...]
    spreads: tuple[float, ...]
    config: ScanConfig
    judge: Judge
    heads: tuple[dict[str, Any], ...]
    files: dict[str, str]


def save_scanner(folder: Path, scanner: Scanner) -> Path:
    """Write a scanner's folder, whole or not at all; one that is there stays until the new one is whole.

    Raises
    ------
    ModelError
        If something else is there.
    """
    refuse_other(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(folder)
    heads = (scanner.recogniser.residues, scanner.recogniser.windows)
    try:
        for name, head in zip(HEADS, heads, strict=True):
            (temporary / name).mkdir(parents=True)
            head.save(temporary / name)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        for path in files:
            settle(path)
        lengths = scanner.recogniser.lengths
        saved = _Saved(
            FORMAT,
            scanner.families,
            heads[0].classes[-1],
            scanner.sizes,
            tuple(lengths.tried.tolist()),
            tuple(lengths.centres.tolist()),
            tuple(lengths.spreads.tolist()),
            scanner.recogniser.config,
            scanner.judge,
            tuple(asdict(head.chosen) for head in heads),
            {path.relative_to(temporary).as_posix(): sha256_file(path) for path in files},
        )
        write_json(temporary / MANIFEST, asdict(saved) | {"spec": scanner.spec.to_json()})
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def refuse_other(folder: Path) -> None:
    """Refuse a folder that is there and no scanner's: it is never replaced.

    Raises
    ------
    ModelError
        If it is one.
    """
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise ModelError(folder, "exists and is no scanner", "choose another name (--name) or move it away")


def find_scanner(workspace: Path, name: str | None = None) -> Path:
    """Return the folder of a scanner: of a workspace's by its name, its only one, or any by its path.

    Raises
    ------
    ModelError
        If there is none.
    UnknownNameError
        If there is none of that name.
    UsageError
        If there are several, and none is named.
    """
    if name is not None:
        refuse_address(name)
        if (Path(name) / MANIFEST).is_file():
            return Path(name)
    there = {path.parent.name: path.parent for path in sorted((workspace / SCANNERS).glob(f"*/{MANIFEST}"))}
    if name is not None:
        if name not in there:
            raise UnknownNameError("scanner", name, there)
        return there[name]
    if not there:
        raise ModelError(workspace, "holds no scanner", "fit one on the workspace's domains: esmcls fit-scan")
    if len(there) > 1:
        raise UsageError(f"{workspace} holds several scanners: {', '.join(there)}; name one with --scanner")
    return next(iter(there.values()))


def load_scanner(folder: Path, device: str = "cpu") -> Scanner:
    """Read a scanner's folder.

    Raises
    ------
    ModelError
        If it is missing, damaged, or of a newer format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelError(folder, f"holds no {MANIFEST}, so it is no scanner", "fit one: esmcls fit-scan")
    flat = read_as(path, dict[str, Any], ModelError, AGAIN)
    number = flat.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise ModelError(folder, f"is of format {str(number)[:9]}, newer than the {FORMAT} known here", "update esmcls")
    try:
        spec = EmbeddingSpec.from_json(flat.get("spec"))
    except ValueError as error:
        raise ModelError(path, f"is damaged ({error})", AGAIN) from None
    saved = read_as(path, _Saved, ModelError, AGAIN)
    _check(path, saved)
    classes = (*saved.families, saved.none)
    heads = [
        LinearHead.load(folder / name, _knobs(path, knobs), classes, device)
        for name, knobs in zip(HEADS, saved.heads, strict=True)
    ]
    for head in heads:
        if head.model.in_features != spec.width:
            raise ModelError(folder, f"heads of width {head.model.in_features}, vectors of {spec.width}", AGAIN)
    tried = np.array(saved.tried, dtype=np.int64)
    lengths = Lengths(tried, np.array(saved.centres), np.array(saved.spreads))
    recogniser = Recogniser(heads[0], heads[1], lengths, saved.config)
    return Scanner(saved.families, saved.sizes, spec, recogniser, saved.judge)


def _check(path: Path, saved: _Saved) -> None:
    """Make sure that what is there belongs together.

    Raises
    ------
    ModelError
        If it does not.
    """
    n = len(saved.families)
    sizes = {len(values) for values in (saved.sizes, saved.centres, saved.spreads)}
    if sizes != {n} or len({*saved.families, saved.none}) != n + 1 or not n:
        raise ModelError(path, f"is damaged (not one length for each of {n} families)", AGAIN)
    judge = saved.judge
    if {len(judge.centre), len(judge.spread), len(judge.weights)} != {MEASURES} or not saved.tried:
        raise ModelError(path, "is damaged (a calibration of other measures)", AGAIN)
    if min(*saved.spreads, *judge.spread, judge.scale) <= 0 or min(saved.tried) < 1 or saved.config.stride < 1:
        raise ModelError(path, "is damaged (a length or spread that is not above 0)", AGAIN)
    if len(saved.heads) != len(HEADS):
        raise ModelError(path, f"is damaged ({len(saved.heads)} heads instead of {len(HEADS)})", AGAIN)
    for name, digest in saved.files.items():
        file = path.parent / name
        if ".." in Path(name).parts or not file.is_file() or sha256_file(file) != digest:
            raise ModelError(file, "is not as it was written (sha256 differs)", AGAIN)


def _knobs(path: Path, knobs: dict[str, Any]) -> LinearConfig:
    try:
        return parse_settings(LinearConfig, knobs)
    except UsageError as error:
        raise ModelError(path, f"is damaged ({error})", AGAIN) from None


def whole(spec: EmbeddingSpec) -> EmbeddingSpec:
    """Return the spec of vectors of all residues: windows where a strategy would leave residues of long proteins out.

    Examples
    --------
    >>> spec = EmbeddingSpec("esm2", "c0ffee", (6,), "balanced", "fp32", "float16", ("mean",), 320)
    >>> whole(spec).long, whole(replace(spec, long="full")).long
    ('window:1022:511', 'full')
    """
    strategy = parse_long(spec.long)
    if residues_seen(strategy, 4 * (strategy.longest or CONTEXT)) < 4 * (strategy.longest or CONTEXT):
        strategy = parse_long("window")
    return replace(spec, long=str(strategy), poolings=("mean",))


def encoded(spec: EmbeddingSpec, device: str = "cpu", source: str | None = None) -> ResidueVectors:
    """Return what makes the residue vectors of a spec.

    Parameters
    ----------
    spec : EmbeddingSpec
        From `whole`.
    device : str
    source : str, optional
        Where the encoder's weights lie, if elsewhere than its name says.

    Raises
    ------
    UsageError
        If its encoder has no vectors of residues.
    EncoderMismatchError
        If what is found is another encoder.
    """
    if not spec.of_residues:
        raise UsageError(f"encoder {spec.encoder} has no vectors of residues; embed with ESM-2 or another such model")
    options: dict[str, Any] = {"layers": spec.layers or None, "long": spec.long, "precision": spec.precision}
    encoder = load_encoder(source or spec.encoder, **options, device=device)
    if encoder.digest != spec.digest:
        raise EncoderMismatchError(spec.digest, encoder.digest, encoder.name)

    def residue_vectors(sequences: Sequence[str]) -> Iterator[Vectors]:
        return residues_by(encoder, sequences, spec)

    return residue_vectors
