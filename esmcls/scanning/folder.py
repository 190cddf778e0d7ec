"""A scanner's folder, WORKSPACE/scanners/<name>/: all that `scan` needs but the encoder; no sequence is in it.

scanners/<name>/
    scanner.json            format 2: families, spec of the vectors, calibration; the files' sha256
    templates/              training domains, a byte a component and residue, and what they score by chance

Format 1 has two linear heads instead, and lengths and settings for them: `heads/first_format.py` reads it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from esmcls.cache.features import encoder_of, residues_by
from esmcls.cache.spec import EmbeddingSpec
from esmcls.encoders.windows import CONTEXT, parse_long, residues_seen
from esmcls.errors import ModelError, UnknownNameError, UsageError
from esmcls.files import refuse_address, replace_folder, settle, sha256_file, temporary_beside
from esmcls.plain_values import read_as, write_json
from esmcls.scanning.checks import AGAIN, check_families, check_files, check_judge
from esmcls.scanning.heads.first_format import load_first
from esmcls.scanning.judge import Judge
from esmcls.scanning.scanner import ResidueVectors, Scanner
from esmcls.scanning.templates import MEASURES_OF_ALIGNMENT, Templates
from esmcls.types import Vectors

FORMAT: Final = 2
SCANNERS: Final = "scanners"
MANIFEST: Final = "scanner.json"
TEMPLATES: Final = "templates"


@dataclass(frozen=True)
class _Saved:
    """What scanner.json holds besides the spec, which has a version of its own."""

    format: int
    families: tuple[str, ...]
    sizes: tuple[int, ...]
    found: float
    judge: Judge
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
    assert isinstance(scanner.recogniser, Templates)
    assert scanner.found is not None
    try:
        (temporary / TEMPLATES).mkdir(parents=True)
        scanner.recogniser.save(temporary / TEMPLATES)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        for path in files:
            settle(path)
        digests = {path.relative_to(temporary).as_posix(): sha256_file(path) for path in files}
        saved = _Saved(FORMAT, scanner.families, scanner.sizes, scanner.found, scanner.judge, digests)
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

    Parameters
    ----------
    folder : Path
    device : str
        Of the heads of format 1.

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
    if number == 1:
        return load_first(path, spec, device)
    saved = read_as(path, _Saved, ModelError, AGAIN)
    check_families(path, saved.families, saved.sizes)
    check_judge(path, saved.judge, MEASURES_OF_ALIGNMENT)
    check_files(path, saved.files)
    templates = Templates.load(folder / TEMPLATES, len(saved.families), spec.width)
    return Scanner(saved.families, saved.sizes, spec, templates, saved.judge, saved.found)


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
    encoder = encoder_of(spec, source, device)

    def residue_vectors(sequences: Sequence[str]) -> Iterator[Vectors]:
        return residues_by(encoder, sequences, spec)

    return residue_vectors
