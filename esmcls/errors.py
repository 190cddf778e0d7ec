"""Every error a user can meet: each holds its facts, prints one line and ends in what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Final

_CONTROLS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What ends a line, and what a terminal would obey."""


class EsmclsError(Exception):
    """Base of all errors that are the input's or the surroundings' fault, not a bug.

    Examples
    --------
    >>> print(DataError("a.fasta", "'\x1b[2J'", "name it"))
    a.fasta: '\\x1b[2J'; name it
    """

    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        """Return the message in one line: what a terminal would obey, in names and contents, as Python writes it."""
        return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), super().__str__())


class UsageError(EsmclsError):
    """The command or call was put together wrongly."""

    exit_code: ClassVar[int] = 2


class DataError(EsmclsError):
    """A file holds something that cannot be used.

    Parameters
    ----------
    path : str or Path
        The file, as the user named it.
    found : str
        The problem, such as the text that stands there.
    fix : str
        The remedy, as an order.
    line, column : int, optional
        1-based; the column counts residues of the sequence's line.
    record : str, optional
        Id of the record.
    """

    def __init__(
        self,
        path: str | Path,
        found: str,
        fix: str,
        *,
        line: int | None = None,
        column: int | None = None,
        record: str | None = None,
    ) -> None:
        self.path = str(path)
        self.found = found
        self.fix = fix
        self.line = line
        self.column = column
        self.record = record
        place = ":".join(str(part) for part in (self.path, line, column) if part is not None)
        who = f"record {record!r}: " if record is not None else ""
        super().__init__(f"{place}: {who}{found}; {fix}")


class UnknownNameError(UsageError):
    """A name that nothing is registered under.

    Examples
    --------
    >>> str(UnknownNameError("head", "linaer", ["knn", "linear"]))
    "unknown head 'linaer'; did you mean 'linear'? (known: knn, linear)"
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.known = sorted(known)
        near = difflib.get_close_matches(name, self.known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        super().__init__(f"unknown {kind} {name!r}; {hint}(known: {', '.join(self.known) or 'none'})")


class MissingExtraError(EsmclsError):
    """A feature whose package is not installed: of an extra of esmcls, or of none.

    Examples
    --------
    >>> str(MissingExtraError("the Gene Ontology", "obonet", "go"))
    "the Gene Ontology needs the package obonet; run: pip install 'esmcls[go]'"
    >>> str(MissingExtraError("to_frame", "polars"))
    'to_frame needs the package polars; run: pip install polars'
    """

    def __init__(self, feature: str, package: str, extra: str = "") -> None:
        self.feature = feature
        self.package = package
        self.extra = extra
        named = f"'esmcls[{extra}]'" if extra else package
        super().__init__(f"{feature} needs the package {package}; run: pip install {named}")


class PluginError(EsmclsError):
    """A registered plugin that cannot be imported: never skipped in silence."""

    def __init__(self, group: str, name: str, target: str, cause: BaseException) -> None:
        self.group = group
        self.name = name
        self.target = target
        super().__init__(
            f"plugin {name!r} of {group} ({target}) does not load: {cause}; repair or uninstall the package it is from"
        )


class WidthMismatchError(EsmclsError):
    """Vectors of another width than the head was fitted on."""

    def __init__(self, expected: int, actual: int, what: str = "head") -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"the {what} was fitted on vectors of width {expected}, but these have width {actual}; "
            "use the encoder, layers and pooling it was fitted with"
        )


class EncoderMismatchError(EsmclsError):
    """A model and an encoder whose digests differ."""

    def __init__(self, expected: str, actual: str, name: str, fix: str = "") -> None:
        self.expected = expected
        self.actual = actual
        self.name = name
        super().__init__(
            f"the model was fitted on encoder digest {expected[:12]}, but {name} has {actual[:12]}; "
            + (fix or "give the weights it was fitted with (--encoder PATH) or fit again")
        )


class WeightsError(EsmclsError):
    """Encoder weights that cannot be had, read or trusted."""

    def __init__(self, name: str, found: str, fix: str, looked: Sequence[str | Path] = ()) -> None:
        self.name = name
        self.found = found
        self.fix = fix
        self.looked = [str(place) for place in looked]
        where = f" (looked in: {', '.join(self.looked)})" if self.looked else ""
        super().__init__(f"encoder {name}: {found}{where}; {fix}")


class FetchError(WeightsError):
    """Weights that their source does not give: not there, not to whom asks, or out of reach."""


class EngineError(EsmclsError):
    """A search program that cannot be had or fails; `said` is all that it printed."""

    def __init__(self, name: str, found: str, fix: str, said: str = "") -> None:
        self.name = name
        self.found = found
        self.fix = fix
        self.said = said
        super().__init__(f"engine {name}: {found}; {fix}")


class EngineMismatchError(EsmclsError):
    """A model whose hits were found by another search program, or another version of it, than is here."""

    def __init__(self, expected: str, actual: str) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"the model is of search engine {expected}, but here is {actual}: its scores may differ; "
            "install the one it is of, or fit again (with --set any_version true, where only versions may differ)"
        )


class FolderError(EsmclsError):
    """A cache, model or workspace folder that is not what it should be."""

    def __init__(self, path: str | Path, found: str, fix: str) -> None:
        self.path = str(path)
        self.found = found
        self.fix = fix
        super().__init__(f"{path}: {found}; {fix}")


class CacheError(FolderError):
    """An embedding cache that cannot be read or written."""


class ModelError(FolderError):
    """A model folder that cannot be read."""


class WorkspaceError(FolderError):
    """A workspace that lacks what a command needs."""


class NonFiniteError(EsmclsError):
    """A vector with NaN or infinity: never stored, never classified."""

    def __init__(self, sequence: str, what: str, fix: str) -> None:
        self.sequence = sequence
        self.what = what
        self.fix = fix
        start = sequence[:20] + ("…" if len(sequence) > 20 else "")
        super().__init__(f"sequence {start} ({len(sequence)} residues): {what}; {fix}")


class SequenceTooLargeError(EsmclsError):
    """One sequence that does not fit into memory even alone; the rest goes on."""

    exit_code: ClassVar[int] = 3

    def __init__(self, index: int, length: int) -> None:
        self.index = index
        self.length = length
        super().__init__(
            f"sequence number {index + 1} ({length} residues) does not fit into memory alone; "
            "use --long balanced or window"
        )


class TerminatedError(EsmclsError):
    """A training run that was asked to end (SIGTERM), and left a checkpoint.

    Examples
    --------
    >>> str(TerminatedError(120, 900))
    'asked to end after step 120 of 900, which is kept; go on with --resume'
    """

    exit_code: ClassVar[int] = 143  # 128 + SIGTERM, as shells say it

    def __init__(self, done: int, steps: int) -> None:
        self.done = done
        self.steps = steps
        super().__init__(f"asked to end after step {done:,} of {steps:,}, which is kept; go on with --resume")


class NothingLearnedError(EsmclsError):
    """A training run in fp16 of which no step could be taken: the gradients were not finite.

    Parameters
    ----------
    steps : int
        That were skipped, one after another.
    scale : float
        Of the losses in the last of them.

    Examples
    --------
    >>> str(NothingLearnedError(40, 2.0**-24)).partition("; ")[2]
    'nothing was learned: train in bf16 or fp32 (--precision), or lower --lr'
    """

    def __init__(self, steps: int, scale: float) -> None:
        self.steps = steps
        self.scale = scale
        last = "of its one step" if steps == 1 else f"of all {steps:,} last steps"
        problem = f"fp16: the gradients {last} were not finite, down to losses times {scale:.2g}; nothing was learned"
        super().__init__(f"{problem}: train in bf16 or fp32 (--precision), or lower --lr")


class SequenceError(EsmclsError):
    """A text that is no protein sequence.

    Parameters
    ----------
    found : str
        The problem, such as the text that stands there.
    fix : str
        The remedy, as an order.
    position : int, optional
        0-based, in the text as given.
    number : int, optional
        Which of several texts, from 1.

    Examples
    --------
    >>> str(SequenceError("sign '-'", "write residues alone", 2))
    "residue 3: sign '-'; write residues alone"
    """

    def __init__(self, found: str, fix: str, position: int | None = None, number: int | None = None) -> None:
        self.found = found
        self.fix = fix
        self.position = position
        places = [] if number is None else [f"sequence {number}"]
        places += [] if position is None else [f"residue {position + 1}"]
        super().__init__(f"{', '.join(places)}{': ' if places else ''}{found}; {fix}")


class NotTextError(DataError):
    """A file that is no text, or not in an encoding that is read."""
