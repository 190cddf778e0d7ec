"""Work in a workspace's caches: embed an intake, or plan that, import other tools' vectors, find caches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from esmcls.cache.embed import RunPlan, embed_into, plan_run
from esmcls.cache.exchange.import_vectors import (
    ImportReport,
    check_import,
    import_embeddings,
    imported_spec,
)
from esmcls.cache.exchange.read_vectors import read_vectors
from esmcls.cache.features import open_encoder
from esmcls.cache.parallel import embed_on_devices
from esmcls.cache.spec import IMPORTED, RESIDUE, RESIDUE_INT8, EmbeddingSpec, sequence_key
from esmcls.cache.store import EmbeddingCache
from esmcls.cache.to_embed import EmbedProgress, EmbedReport, Shard
from esmcls.datasets.dataset import Dataset
from esmcls.encoders import BUNDLED
from esmcls.encoders.encoder import Encoder, load_encoder
from esmcls.encoders.windows import Balanced, Window
from esmcls.errors import CacheError, UsageError
from esmcls.files import SPEC, STATE, temporary_folder
from esmcls.labels.kinds import OF_RESIDUES
from esmcls.reading.inputs import Inputs
from esmcls.reading.records import Tally
from esmcls.workspace.intake import Intake, take_in
from esmcls.workspace.workspace import CacheEntry, Workspace

Progress: TypeAlias = "Callable[[int | None], AbstractContextManager[EmbedProgress | None]]"
"""From the residues of the input (None: not known) to a context that gives what to call with those done."""


@dataclass(frozen=True)
class EmbeddingRecipe:
    """The options of embedding; see `load_encoder` and `EmbeddingSpec`.

    Parameters
    ----------
    precision : str
        `auto` is that of the encoder's latest cache in the workspace, so that vectors fit together; else the encoder's.

    Raises
    ------
    UsageError
        If the layers are no numbers.
    """

    encoder: str = BUNDLED
    layers: tuple[int, ...] | None = None
    long: str = "balanced"
    precision: str = "auto"
    dtype: str = "float16"
    poolings: tuple[str, ...] = ("mean",)

    def __post_init__(self) -> None:
        if isinstance(self.layers, str):
            raise UsageError(
                f"layers {self.layers!r}: give numbers; to have them chosen, embed with several and ask "
                "esmcls.choose_layers, or use the command's --layers auto"
            )

    def for_labels(self, kind: str) -> EmbeddingRecipe:
        """Return the recipe that labels of a kind need: those of residues, the vectors of all residues."""
        if kind not in OF_RESIDUES:
            return self
        of_residues = {RESIDUE, RESIDUE_INT8} & {*self.poolings}
        poolings = self.poolings if of_residues else (*self.poolings, RESIDUE)
        return replace(self, poolings=poolings, long=str(Window()) if self.long == str(Balanced()) else self.long)

    def precision_in(self, workspace: Workspace | None) -> str:
        """Return the precision; `auto` where the workspace has no vectors of the encoder."""
        known = [self.precision]
        if self.precision == "auto" and workspace is not None:
            known += [entry.spec.precision for entry in workspace.caches if entry.spec.encoder == self.encoder]
        return known[-1]

    def open(
        self, workspace: Workspace | None, device: str, why_slow: Callable[[str], str | None] | None = None
    ) -> tuple[Encoder, EmbeddingSpec]:
        """Open the encoder; return it with the spec of its cache.

        Parameters
        ----------
        workspace : Workspace, optional
        device : str
        why_slow : callable, optional
            Says of a precision why no vectors are to be begun in it, if so: where another device is to make them.

        Raises
        ------
        UsageError
            If int8 or fp8 is asked for where it is slower than fp32, and the workspace has no such vectors of the
            encoder.
        """
        precision = self.precision_in(workspace)
        if precision in ("int8", "fp8") and not self._goes_on(workspace, precision):
            problem = (why_slow or partial(why_slow_on, device))(precision)
            if problem is not None:
                raise UsageError(problem)
        encoder = load_encoder(self.encoder, layers=self.layers, long=self.long, precision=precision, device=device)
        return encoder, EmbeddingSpec.of(encoder, self.dtype, self.poolings)

    def _goes_on(self, workspace: Workspace | None, precision: str) -> bool:
        """Tell whether a workspace has vectors of the encoder in a precision."""
        caches = [] if workspace is None else workspace.caches
        return any((entry.spec.encoder, entry.spec.precision) == (self.encoder, precision) for entry in caches)


def why_slow_on(device: str, precision: str) -> str | None:
    """Return why vectors of a precision are not to be begun on a device; see `devices.why_slow`."""
    import torch

    from esmcls.encoders.devices import why_slow

    return why_slow(precision, torch.device(device))


class EmbeddingEngine(Protocol):
    """Where sequences are embedded: in this process and beside it, or on a cluster."""

    def open(self, recipe: EmbeddingRecipe, workspace: Workspace) -> tuple[Encoder, EmbeddingSpec]:
        """Open the encoder; return it with the spec of its cache."""

    def embed(
        self,
        cache: EmbeddingCache,
        encoder: Encoder,
        name: str,
        sequences: Iterable[str],
        *,
        residues: int | None = None,
        shard: Shard = (1, 1),
        progress: EmbedProgress | None = None,
    ) -> EmbedReport:
        """Embed what the cache does not hold yet; `residues` are those of all sequences, where that is known."""


@dataclass(frozen=True)
class Here:
    """An `EmbeddingEngine` of this machine: several devices, with commas between, are given a process each."""

    device: str = "cpu"

    def open(self, recipe: EmbeddingRecipe, workspace: Workspace) -> tuple[Encoder, EmbeddingSpec]:
        """Open the encoder on the first device; return it with the spec of its cache."""
        return recipe.open(workspace, self.device.split(",")[0])

    def embed(
        self,
        cache: EmbeddingCache,
        encoder: Encoder,
        name: str,
        sequences: Iterable[str],
        *,
        residues: int | None = None,
        shard: Shard = (1, 1),
        progress: EmbedProgress | None = None,
    ) -> EmbedReport:
        """Embed what the cache does not hold yet."""
        devices = self.device.split(",")
        if len(devices) == 1:
            return embed_into(cache, encoder, sequences, progress=progress, shard=shard)
        return embed_on_devices(cache, name, sequences, devices, progress=progress, shard=shard)


def embed_in_workspace(
    workspace: Workspace,
    intake: Intake,
    recipe: EmbeddingRecipe = EmbeddingRecipe(),
    *,
    device: str = "cpu",
    shard: Shard = (1, 1),
    progress: Progress | None = None,
    passing: bool = False,
    engine: EmbeddingEngine | None = None,
) -> EmbedReport:
    """Make a labelled intake the workspace's dataset, and embed what its cache of this recipe does not hold yet.

    Files are gone through once before anything is embedded: so an error in their last line costs seconds, and it is
    known how much there is to do. What a cache of the same encoder with more layers or poolings holds is taken from
    there.

    Parameters
    ----------
    workspace : Workspace
    intake : Intake
    recipe : EmbeddingRecipe
    device : str
        Several, with commas between, are given a process each.
    shard : (int, int)
        (i, n) embeds the i-th of n parts only, 1-based.
    progress : callable, optional
        From the residues of the input (None: not known) to a context manager that gives what to call with those done.
    passing : bool
        Whether the cache, if it is new, is there for what is done next alone; see `Workspace.cache_for`.
    engine : EmbeddingEngine, optional
        Where it is done, in place of `device`.
    """
    engine = engine or Here(device)
    encoder, spec = engine.open(recipe.for_labels(kind_of(workspace, intake)), workspace)
    keep_dataset(workspace, intake)
    with workspace.cache_for(spec, passing=passing) as cache:
        workspace.take_layers(cache)
        residues = sum(map(len, intake.sequences)) if intake.again else None
        with (progress or _silent)(residues) as tell:
            todo = (cache, encoder, recipe.encoder, intake.sequences)
            return engine.embed(*todo, residues=residues, shard=shard, progress=tell)


def kind_of(workspace: Workspace | None, intake: Intake) -> str:
    """Return the kind of task of what is embedded: of new labels, or of those that are there already."""
    if intake.report is not None or not isinstance(intake.dataset, Dataset):
        return intake.task
    return workspace.task if workspace is not None and workspace.has_dataset else intake.task


def embed_dataset(
    workspace: Workspace | str | Path,
    inputs: str | Path | Sequence[str | Path],
    *,
    validation: Sequence[str | Path] = (),
    test: Sequence[str | Path] = (),
    labels: Sequence[str | Path] = (),
    obo: str | Path | None = None,
    clusters: str | Path | None = None,
    propagate: bool = True,
    task: str | None = None,
    hierarchy: str | Path | None = None,
    label_column: str | None = None,
    mask_column: str | None = None,
    split_column: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    **options: Any,
) -> EmbedReport:
    """Embed sequences from files into a workspace, and make a labelled set its dataset: what `esmcls embed` does.

    Parameters
    ----------
    workspace : Workspace, str or Path
        Begun where there is none.
    inputs : file or files
        FASTA, CSV, TSV or Stockholm, packed or not, or folders of these.
    validation, test : sequences of str or Path
        More files, each record of which is of that part.
    labels : sequence of str or Path
        Tables of the label of each id, or of its terms where there is an `obo`.
    obo : str or Path, optional
        The Gene Ontology: labels are terms of it.
    clusters : str or Path, optional
        Table of the cluster of each id, to split by.
    propagate : bool
        Whether a protein with a term has those that contain it, too.
    task : str, optional
        What the labels are, one of `esmcls.labels.kinds.NAMED`; default what they look like.
    hierarchy : str or Path, optional
        Of the labels: `dots`, `cath` or `ec`, where they are codes with dots, else a table of child and parent.
    label_column, mask_column, split_column : str, optional
        The columns of tables that hold labels, of which residues these are known, and parts; see `NamedColumns`.
    device : str
    seed : int
        Of the split, where one is drawn.
    **options
        Of `EmbeddingRecipe`: encoder, layers, long, precision, dtype, poolings.

    Returns
    -------
    EmbedReport

    Raises
    ------
    DataError
        If a record cannot be used, or only some have a label.
    """
    workspace = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace, create=True)
    sources = Inputs(
        (inputs,) if isinstance(inputs, (str, Path)) else tuple(inputs),
        tuple(validation),
        tuple(test),
        tuple(map(Path, labels)) or None,
        None if clusters is None else Path(clusters),
        obo=None if obo is None else Path(obo),
        propagate=propagate,
        task=task,
        hierarchy=hierarchy,
        label_column=label_column,
        mask_column=mask_column,
        split_column=split_column,
    )
    intake = take_in(sources, seed=seed)
    name = workspace.encoder_name(options.pop("encoder", BUNDLED))
    return embed_in_workspace(workspace, intake, EmbeddingRecipe(name, **options), device=device)


def plan_in_workspace(
    workspace: Workspace | None,
    intake: Intake,
    recipe: EmbeddingRecipe = EmbeddingRecipe(),
    *,
    device: str = "cpu",
    shard: Shard = (1, 1),
) -> RunPlan:
    """Say what `embed_in_workspace` would take; nothing is written. Without a workspace everything is to do."""
    encoder, spec = recipe.for_labels(kind_of(workspace, intake)).open(workspace, device.split(",")[0])
    entries = workspace.caches if workspace else []
    known = [entry.folder for entry in entries if entry.spec == spec]
    with temporary_folder("plan") as empty, ExitStack() as stack:
        cache = stack.enter_context(EmbeddingCache.open(known[0] if known else empty, spec))
        wider = [entry.folder for entry in entries if shard == (1, 1) and spec.columns_in(entry.spec) is not None]
        rest = _NotTaken(intake.sequences, [stack.enter_context(EmbeddingCache.open(folder)) for folder in wider])
        plan = plan_run(cache, encoder, rest, shard=shard)
    return replace(plan, distinct=plan.distinct + len(rest.taken), cached=plan.cached + len(rest.taken))


class _NotTaken:
    """Sequences that no cache of more layers holds; `taken` are the keys of those that one does."""

    def __init__(self, sequences: Iterable[str], wider: Sequence[EmbeddingCache]) -> None:
        self.sequences = sequences
        self.wider = wider
        self.taken: set[bytes] = set()

    def __iter__(self) -> Iterator[str]:
        for sequence in self.sequences:
            if all(cache.missing([sequence]) for cache in self.wider):
                yield sequence
            else:
                self.taken.add(sequence_key(sequence))


@contextmanager
def _silent(_: int | None) -> Iterator[None]:
    yield None


def keep_dataset(workspace: Workspace, intake: Intake) -> None:
    """Make a labelled intake the workspace's dataset; of anything else, the names alone are kept."""
    if intake.unlabelled:
        workspace.remember_unlabelled(intake.unlabelled)
    if isinstance(intake.dataset, Dataset) and intake.report is not None:
        about = (intake.ontology, intake.propagate, intake.task)
        workspace.set_dataset(intake.dataset, intake.report, intake.files, *about)
    if intake.hierarchy is not None:
        workspace.set_hierarchy(intake.hierarchy)


def import_in_workspace(
    workspace: Workspace,
    file: str | Path,
    inputs: Inputs,
    *,
    pooling: str = "mean",
    layers: Sequence[int] | None = None,
    seed: int = 0,
) -> tuple[ImportReport, list[str]]:
    """Bring another tool's vectors into a cache of their own; labelled sequences become the dataset.

    Returns
    -------
    ImportReport
    list of str
        Lines that tell the user of the sequences.
    """
    spec = imported_spec(file, pooling=pooling, layers=layers)
    intake = take_in(inputs, seed=seed)
    tally = Tally()
    records = list(inputs.records(tally))
    check_import(file, read_vectors(file, pooling=pooling, layers=layers), records)
    with workspace.cache_for(spec) as cache:
        report = import_embeddings(cache, read_vectors(file, pooling=pooling, layers=layers), records)
    keep_dataset(workspace, intake)
    lines = tally.lines() + report.lines() + intake.about_hierarchy
    return report, lines + (intake.report.lines() if intake.report else [])


def encoder_of(spec: EmbeddingSpec, device: str = "cpu") -> Encoder | None:
    """Open the encoder that made a cache; None where its vectors were imported."""
    return None if spec.encoder == IMPORTED else open_encoder(spec, device=device)


def caches_in(path: str | Path) -> list[CacheEntry]:
    """Return the caches of a workspace, or the one that a folder is.

    Raises
    ------
    CacheError
        If it is neither.
    """
    path = Path(path)
    if (path / STATE).is_file():
        return Workspace.open(path).caches
    if not (path / SPEC).is_file():
        raise CacheError(path, "neither a workspace nor a cache", "name a folder that esmcls embed made")
    with EmbeddingCache.open(path) as cache:
        return [CacheEntry(path, cache.spec)]
