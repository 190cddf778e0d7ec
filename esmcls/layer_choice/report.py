"""The report of a choice of layers: a page that works offline, the curve as SVG, all scores as TSV, all of it as JSON.

    reports/layers-<encoder>-<key>/report.html  layers.svg  layers.tsv  choice.json

The last is read again: it says what was chosen on which data set. Of the same scores they are the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from esmcls.cache.spec import EmbeddingSpec
from esmcls.datasets.statistics_page import overview_page
from esmcls.errors import WorkspaceError
from esmcls.files import atomic_path, atomic_text
from esmcls.layer_choice.choice import IN_PERCENT, IN_WORDS, LayerChoice, in_words
from esmcls.plain_values import read_as, write_json
from esmcls.reporting.figure_style import COLORS, house_style, save_figure
from esmcls.workspace.workspace import Workspace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

JSON: Final = "choice.json"
TABLE: Final = "layers.tsv"
FIGURE: Final = "layers.svg"
PAGE: Final = "report.html"


def report_folder(workspace: Workspace, spec: EmbeddingSpec) -> Path:
    """Return where the report of a choice among the layers of a spec lies, there or not."""
    return workspace.reports / f"layers-{spec.short_name}-{spec.key()[:8]}"


def read_choice(workspace: Workspace, spec: EmbeddingSpec) -> LayerChoice | None:
    """Return what was chosen among the layers of a spec for the workspace's data set, if that was done.

    Raises
    ------
    WorkspaceError
        If the file of it is damaged.
    """
    return next((choice for choice, _ in read_choices(workspace) if choice.spec == spec.key()), None)


def read_choices(workspace: Workspace) -> list[tuple[LayerChoice, Path]]:
    """Return what was chosen for the workspace's data set, each with the page of its report.

    Raises
    ------
    WorkspaceError
        If the file of one is damaged.
    """
    if not workspace.has_dataset:
        return []
    digests = workspace.dataset_digest, workspace.split_digest
    fix = "delete it: the layers are then compared again"
    paths = sorted(workspace.reports.glob(f"layers-*/{JSON}"))
    choices = [(read_as(path, LayerChoice, WorkspaceError, fix), path.with_name(PAGE)) for path in paths]
    return [entry for entry in choices if (entry[0].dataset_digest, entry[0].split_digest) == digests]


def write_choice(folder: Path, choice: LayerChoice) -> Path:
    """Write the report of a choice and return its page; each file is there whole or not at all, the JSON last."""
    folder.mkdir(parents=True, exist_ok=True)
    draw_layers(choice, folder / FIGURE)
    with atomic_text(folder / TABLE) as handle:
        handle.write(f"layers\t{choice.measure}\tchosen\tencoder's own\n")
        for entry in choice.scored:
            marks = ["yes" if entry.layers == layers else "" for layers in (choice.layers, choice.default)]
            handle.write("\t".join([in_words(entry.layers), f"{entry.score:.6f}", *marks]) + "\n")
    with atomic_path(folder / PAGE) as temporary:
        temporary.write_text(_page(choice, (folder / FIGURE).read_text(encoding="utf-8")), encoding="utf-8")
    write_json(folder / JSON, choice.to_json())
    return folder / PAGE


def _page(choice: LayerChoice, figure: str) -> str:
    measure = IN_WORDS.get(choice.measure, choice.measure)
    best_first = sorted(choice.scored, key=lambda entry: (-entry.score, len(entry.layers)))
    marks = {choice.default: "the encoder's own", choice.last: "the last"} | {choice.layers: "chosen"}
    rows = [(in_words(entry.layers), choice.in_words(entry.score), marks.get(entry.layers, "")) for entry in best_first]
    about = (
        f"<p>{choice.lines()[0]}.</p>\n<p>Each layer alone (0 is the embedding) and pairs and triples of the best, by "
        f"{measure} of {choice.by} with train, on {choice.asked:,} proteins of the validation "
        "part; the test part was not read. The encoder's own layers stay unless others are ahead by more than chance "
        "(one-sided, 5 %). Another head may see layers otherwise.</p>"
    )
    title = f"Layers of {choice.encoder}"
    return overview_page([[("layers", measure, ""), *rows]], title, figure, about, "Score of each layer")


def draw_layers(choice: LayerChoice, output: Path) -> None:
    """Draw what each layer reaches alone, with lines for those chosen and the encoder's own."""
    with house_style():
        save_figure(_figure(choice), output)


def _figure(choice: LayerChoice) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    percent = choice.measure in IN_PERCENT
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    measure = IN_WORDS.get(choice.measure, choice.measure)
    axes.set(xlabel="layer (0: the embedding)", ylabel=f"{measure} on validation" + (" (%)" if percent else ""))
    factor = 100 if percent else 1
    alone = [(entry.layers[0], factor * entry.score) for entry in choice.alone]
    axes.plot(*zip(*alone, strict=True), color=COLORS[0], marker="o", label="each alone")
    for name, layers, color in (("chosen", choice.layers, COLORS[1]), ("encoder's own", choice.default, COLORS[2])):
        level = factor * choice.score_of(layers)
        axes.axhline(level, color=color, linestyle="--", label=f"{in_words(layers)}, {name}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure
