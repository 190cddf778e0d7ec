"""The main job on the bundled set, without network: embed, compare heads beside baselines, and predict.

The random-weight encoder that stands in the table exists here alone, in a temporary folder: it shows what an encoder's
shape gives without anything learned, and is never a substitute for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from esmcls.datasets.dataset import Dataset
from esmcls.encoders import BUNDLED
from esmcls.errors import WorkspaceError
from esmcls.evaluation.compare import compare
from esmcls.evaluation.plan import ComparisonPlan
from esmcls.files import MANIFEST, atomic_path, temporary_folder
from esmcls.metrics.classification import Interval
from esmcls.models.combine import ENSEMBLE
from esmcls.models.fit import fit
from esmcls.models.folder import read_manifest
from esmcls.models.predict import open_model, write_answers
from esmcls.plain_values import write_json
from esmcls.reading.inputs import Inputs
from esmcls.reading.records import Protein
from esmcls.reporting.phrases import percent, span
from esmcls.tasks.one_label.results import OneLabelRow
from esmcls.workspace.embed_in_workspace import EmbeddingRecipe, Progress, embed_in_workspace
from esmcls.workspace.intake import Intake, demo_set, take_in
from esmcls.workspace.manifests import BASELINE
from esmcls.workspace.workspace import Workspace

RANDOM: Final = "random weights"
FASTA: Final = "unknown.fasta"
PREDICTIONS: Final = "predictions.tsv"
CANDIDATES: Final = 50
"""That `align` aligns with a protein: what it chooses of 50, 100, 200 and 400 on the bundled set's validation part."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What the demo runs on; the defaults are the demo.

    Parameters
    ----------
    data : Path, optional
        Labelled set; default the bundled one.
    encoder : str
        The encoder that the workspace is left with.
    baselines : tuple of str
        Encoders that stand beside it in the table.
    random : bool
        Whether one of the encoder's shape with random weights does, too.
    heads : tuple of str
        Fitted on the vectors of each of them.
    own_heads : tuple of str
        Fitted on those of `encoder` alone, since they read residues. Their ensemble with the others stands beside them.
    settings : mapping
        Head -> knob -> value.
    """

    data: Path | None = None
    encoder: str = BUNDLED
    baselines: tuple[str, ...] = ("composition", "kmer")
    random: bool = True
    heads: tuple[str, ...] = ("linear", "knn")
    own_heads: tuple[str, ...] = ("align",)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"align": {"candidates": CANDIDATES}})


@dataclass(frozen=True)
class Row:
    """A line of the table: a head on an encoder's vectors, measured on the test part."""

    encoder: str
    head: str
    metrics: Mapping[str, Interval]
    n: int

    def cells(self) -> tuple[str, ...]:
        """Return encoder, head, and accuracy and macro F1 in percent, each with its 95 % interval."""
        shown = []
        for name in ("accuracy", "macro_f1"):
            interval = self.metrics[name]
            shown += [percent(interval.value), span(interval)]
        return (self.encoder, self.head, *shown)


HEADER: Final = ("encoder", "head", "accuracy %", "95 %", "macro F1 %", "95 %")


@dataclass(frozen=True)
class Demo:
    """What the demo left.

    Parameters
    ----------
    folder : Path
        The workspace.
    rows : list of Row
        The table, baselines first.
    model : str
        The workspace's best model.
    fasta, predictions : Path
        Sequences of the test part, and what the best model says of them.
    report : Path
        The page of the comparison of all of them.
    """

    folder: Path
    rows: list[Row]
    model: str
    fasta: Path
    predictions: Path
    report: Path


def run_demo(
    folder: str | Path,
    options: Options = Options(),
    *,
    seed: int = 0,
    device: str = "cpu",
    say: Say = lambda line: None,
    progress: Progress | None = None,
) -> Demo:
    """Run the main job and leave a workspace with models and predictions.

    Parameters
    ----------
    folder : str or Path
        A new workspace, or one that an earlier demo left.
    options : Options
    seed : int
        Of the split, the heads and the random weights.
    device : str
    say : callable
        Told what is being done.
    progress : callable, optional
        From the residues to embed to a context manager that gives the function to tell of those embedded.

    Raises
    ------
    WorkspaceError
        If the folder is a workspace with another dataset.
    """
    data = options.data or demo_set()
    intake = take_in(Inputs((data,)), seed=seed)
    dataset, bench = intake.dataset, _Bench(options, seed, device, say, progress)
    assert isinstance(dataset, Dataset)  # since it is labelled
    workspace = _begin(Path(folder), intake)
    say(f"{len(dataset):,} sequences of {len(set(dataset.labels)):,} classes")
    with temporary_folder("demo") as temporary:
        beside: list[Beside] = []
        for number, (name, source) in enumerate(_baselines(options, temporary, seed)):
            beside += bench.fit_beside(_begin(temporary / str(number), intake), name, source)
        rows, report = bench.compare(workspace, beside)
    best = workspace.best_model()
    say(f"predicting with the best model, {best.name}")
    fasta, predictions = _predict(workspace, best, dataset.part("test"), device)
    return Demo(Path(folder), rows, best.name, fasta, predictions, report)


def _begin(folder: Path, intake: Intake) -> Workspace:
    workspace = Workspace.open(folder, create=True)
    assert isinstance(intake.dataset, Dataset)
    assert intake.report is not None
    if workspace.has_dataset and workspace.dataset_digest != intake.dataset.digest():
        raise WorkspaceError(folder, "holds another dataset", "name a new folder for the demo (-w DIR)")
    workspace.set_dataset(intake.dataset, intake.report, intake.files)
    return workspace


def _baselines(options: Options, folder: Path, seed: int) -> Iterator[tuple[str, str]]:
    """Yield the name of each encoder to stand beside, and what to open it by."""
    yield from zip(options.baselines, options.baselines, strict=True)
    if options.random:
        yield RANDOM, str(save_random_encoder(folder / "random.safetensors", options.encoder, seed))


def save_random_encoder(path: Path, like: str, seed: int) -> Path:
    """Write an ESM-2 of another's shape and default layers with the random weights that torch begins with."""
    import torch

    from esmcls.encoders.model import ESM2
    from esmcls.encoders.sources.places import have_weights
    from esmcls.encoders.weights import default_layers, load_state, save_state

    weights = have_weights(like)
    config, _ = load_state(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = ESM2(config).state_dict()
    save_state(path, config, state, layers=default_layers(weights))
    return path


@dataclass(frozen=True)
class Beside:
    """A model that is there only to be beaten: what its encoder is called, its head, its folder."""

    encoder: str
    head: str
    folder: Path


@dataclass(frozen=True)
class _Bench:
    """Fits each head on each encoder's vectors in the same way."""

    options: Options
    seed: int
    device: str
    say: Say
    progress: Progress | None

    def fit_beside(self, workspace: Workspace, name: str, source: str) -> list[Beside]:
        """Embed and fit what is only there to be beaten; `source` is what the encoder is opened by."""
        self.say(f"embedding with {name}")
        self._embed(workspace, EmbeddingRecipe(source))
        fitted = []
        for head in self.options.heads:
            made = fit(workspace, head, seed=self.seed, device=self.device, name=f"{head}-{name.replace(' ', '-')}")
            fitted.append(Beside(name, head, as_baseline(made.folder)))
        return fitted

    def compare(self, workspace: Workspace, beside: Sequence[Beside]) -> tuple[list[Row], Path]:
        """Embed with the demo's encoder, compare the heads and their ensemble with the others, write the report.

        Vectors of residues are kept for as long as heads are fitted on them: they take many times what the others do.
        """
        encoder = self.options.encoder
        self.say(f"embedding with {encoder}")
        recipe = EmbeddingRecipe(encoder)
        with_residues = replace(recipe, poolings=(*recipe.poolings, "residue"))
        if self.options.own_heads:
            self._embed(workspace, with_residues, passing=True)
        self._embed(workspace, recipe)
        heads = (*self.options.heads, *self.options.own_heads)
        plan = ComparisonPlan(
            heads=(*heads, ENSEMBLE),
            models=tuple(str(model.folder) for model in beside),
            settings={head: dict(knobs) for head, knobs in self.options.settings.items() if head in heads},
            baselines=False,
            seed=self.seed,
        )
        compared = compare(workspace, plan, device=self.device, say=self.say)
        workspace.drop_passing(with_residues.open(workspace, self.device)[1])
        page = compared.write()
        reached = {row.name: row for row in compared.report.rows if isinstance(row, OneLabelRow)}
        n = compared.report.dataset.records["test"]
        baselines = [(model.encoder, model.head, model.folder.name) for model in beside]
        models = [(encoder, name, name) for name in (*heads, ENSEMBLE)]
        named = [(name, head, reached[model]) for name, head, model in (*baselines, *models) if model in reached]
        return [Row(name, head, row.metrics, n) for name, head, row in named], page

    def _embed(self, workspace: Workspace, recipe: EmbeddingRecipe, passing: bool = False) -> None:
        intake = Intake(workspace.dataset)
        embed_in_workspace(workspace, intake, recipe, device=self.device, progress=self.progress, passing=passing)


def as_baseline(folder: Path) -> Path:
    """Mark a model as one that is there only to be beaten, so that reports show it as such; return its folder."""
    manifest = read_manifest(folder)
    marked = replace(manifest, setup=manifest.setup | {BASELINE: True})
    write_json(folder / MANIFEST, marked.to_json())
    return folder


def _predict(workspace: Workspace, model: Path, part: Dataset, device: str) -> tuple[Path, Path]:
    fasta, predictions = workspace.folder / FASTA, workspace.folder / PREDICTIONS
    proteins = [Protein(*pair) for pair in zip(part.ids, part.sequences, strict=True)]
    with atomic_path(fasta) as temporary:
        temporary.write_text("".join(f">{protein.id}\n{protein.sequence}\n" for protein in proteins), encoding="utf-8")
    with atomic_path(predictions) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        write_answers(open_model(workspace.folder, str(model), device=device), proteins, handle)
    return fasta, predictions
