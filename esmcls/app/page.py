"""The page: sequences in, a table, files and a protein's details out; the same as an API that programs call."""

from __future__ import annotations

import contextlib
import html
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from esmcls.app.answers import Answers, ask
from esmcls.app.beside import domains, on_the_map, why
from esmcls.app.details import details
from esmcls.app.models import OpenModels
from esmcls.app.questions import EXAMPLE, Limits, proteins_of
from esmcls.app.verdicts import MEANING
from esmcls.errors import EsmclsError, MissingExtraError, UsageError

HOUR: Final = 3600
"""Seconds that files of a question are kept, and answers for the buttons below them."""
WAITING: Final = 32
"""Questions that may wait; the next is told that there are too many."""
_STYLE: Final = (
    ".esmcls-strip svg{width:100%;height:auto}.esmcls-sequence{font-family:ui-monospace,monospace;word-break:break-all}"
    "footer{display:none!important}"
)


def build(models: OpenModels, limits: Limits, folder: Path) -> Any:
    """Return the page, as `gradio.Blocks`.

    Parameters
    ----------
    models : OpenModels
    limits : Limits
    folder : Path
        Where files to take home are written.

    Raises
    ------
    MissingExtraError
        If Gradio is not installed.
    """
    try:
        import gradio
    except ModuleNotFoundError:
        raise MissingExtraError("the page", "gradio", "app") from None
    with gradio.Blocks(title="esmcls", analytics_enabled=False, delete_cache=(HOUR, HOUR)) as page:
        gradio.Markdown("# esmcls\nPaste sequences or drop a file; nothing leaves this machine.")
        answers, chosen = gradio.State(None, time_to_live=HOUR), gradio.State(1, time_to_live=HOUR)
        with gradio.Row():
            pasted = gradio.Textbox(
                label="Sequences (FASTA, a table, or one sequence)", lines=8, max_lines=20, value=EXAMPLE, scale=3
            )
            with gradio.Column(scale=1):
                dropped = gradio.File(label="or a file", type="filepath", height=120)
                model = gradio.Dropdown(models.names, value=models.names[0], label="Model")
                start = gradio.Button("Ask", variant="primary")
        said = gradio.Markdown(_about(limits))
        table = gradio.Dataframe(interactive=False, label="Answers", elem_id="answers", max_height=420)
        files = gradio.File(label="Files", interactive=False, file_count="multiple")
        shown = gradio.HTML(label="The protein", elem_id="details")
        with gradio.Row():
            because = gradio.Button("Why: what each residue adds")
            along = gradio.Button("Domains of all", visible=models.has_scanner)
            around = gradio.Button("All on the map", visible=models.has_dataset)
        beside = gradio.HTML(elem_id="beside")
        hidden: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "model", "concurrency_limit": 1}
        asked = _Asked(gradio, models, limits, folder)
        answered = start.click(
            asked.ask,
            [pasted, dropped, model],
            [table, files, said, shown, answers, chosen],
            api_name="ask",
            concurrency_id="model",
            concurrency_limit=1,
        )
        answered.then(lambda: "", None, [beside], api_visibility="private")
        table.select(asked.choosing(), [answers], [shown, chosen, beside], api_visibility="private")
        because.click(asked.why, [answers, chosen], [beside], **hidden)
        along.click(asked.domains, [answers, files], [beside, files], **hidden)
        around.click(asked.on_the_map, [answers], [beside], **hidden)
    return page.queue(max_size=WAITING)


def _about(limits: Limits) -> str:
    words = "; ".join(f"*{word}*: {meaning}" for word, meaning in MEANING.items())
    return f"Up to {limits.sequences:,} sequences and {limits.residues:,} residues at a time. {words}."


@dataclass(frozen=True)
class _Asked:
    """What the page's buttons do. Answers are kept by the browser's session; errors are told in a line."""

    gradio: Any
    models: OpenModels
    limits: Limits
    folder: Path

    @property
    def ask(self) -> Callable[..., Any]:
        def ask_models(pasted: str, dropped: str | None, model: str, progress: Any = self.gradio.Progress()) -> Any:  # noqa: B008
            """Ask a model: FASTA or a table as text, or a file, and the model's name."""
            with self._told():
                proteins = proteins_of(pasted, dropped, self.limits)
                progress(0, desc=f"opening {model}")
                opened = self.models.get(str(model))
                answers = ask(opened, proteins, lambda done, total: progress((done, total), unit="proteins"))
                paths = [str(path) for path in answers.write(self._place())]
            shown = answers.table()
            value = self.gradio.Dataframe(value=shown.rows, headers=shown.titles, datatype=shown.types)
            return value, paths, html.escape(answers.line(), quote=False), details(answers, 1), answers, 1

        return ask_models

    def choosing(self) -> Callable[..., Any]:
        """Return what a click on a row does."""

        def choose(answers: Answers | None, chosen: Any) -> Any:
            if answers is None:
                return "", 1, ""
            number = int(chosen.row_value[0])
            return details(answers, number), number, ""

        choose.__annotations__["chosen"] = self.gradio.SelectData  # by which Gradio knows that it is to be given
        return choose

    def why(self, answers: Answers | None, number: int) -> str:
        with self._told():
            return why(_there(answers), number)

    def domains(self, answers: Answers | None, files: list[str] | None) -> Any:
        with self._told():
            proteins = [answered.protein for answered in _there(answers).answered]
            shown = domains(self.models.workspace, proteins, self._place(), self.models.device)
        return shown.drawing(), [*(files or []), *map(str, shown.paths)]

    def on_the_map(self, answers: Answers | None) -> str:
        with self._told():
            return on_the_map(self.models.workspace, _there(answers))

    def _place(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="answers-", dir=self.folder))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn an error of ours into a message of the page."""
        try:
            yield
        except EsmclsError as error:
            text = html.escape(str(error), quote=False)
            raise self.gradio.Error(text, duration=None, print_exception=False) from None


def _there(answers: Answers | None) -> Answers:
    if answers is None:
        raise UsageError("nothing was asked yet; ask first")
    return answers


def serve(page: Any, host: str, port: int, limits: Limits) -> str:
    """Serve a page in the background, and return its address.

    Parameters
    ----------
    page : gradio.Blocks
        From `build`.
    host : str
        127.0.0.1 alone is reached from no other machine.
    port : int
        0 for the first that is free from 7860 on.
    limits : Limits

    Raises
    ------
    UsageError
        If the port is taken, or the address is none of this machine.
    """
    import gradio

    fonts = {"font": ("system-ui", "sans-serif"), "font_mono": ("ui-monospace", "monospace")}
    options = {"share": False, "quiet": True, "ssr_mode": False, "footer_links": [], "prevent_thread_lock": True}
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port or None,
            max_file_size=limits.bytes,
            theme=gradio.themes.Default(**fonts),
            css=_STYLE,
            **options,
        )
    except OSError as error:
        raise UsageError(f"{host}:{port} cannot be had ({error}); give another --port, or 0") from None
    return str(address)
