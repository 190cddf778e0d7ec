"""The page: sequences in, a table, files and a protein's details out; the same as an API that programs call."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from esmcls.app.answers import Answers, ask
from esmcls.app.details import details
from esmcls.app.models import OpenModels
from esmcls.app.questions import Limits, proteins_of
from esmcls.app.verdicts import MEANING
from esmcls.errors import EsmclsError, MissingExtraError

EXAMPLE: Final = ">example\nMRIMKFFKDVGKEMKKVSWPKGKELTRYTITVISTVIFFVIFFALLDTGISQLIRLIVE\n"
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
    with gradio.Blocks(title="esmcls", analytics_enabled=False) as page:
        gradio.Markdown("# esmcls\nPaste sequences or drop a file; nothing leaves this machine.")
        kept = gradio.State(None)
        with gradio.Row():
            pasted = gradio.Textbox(
                label="Sequences (FASTA, a table, or one sequence)", lines=8, max_lines=20, value=EXAMPLE, scale=3
            )
            with gradio.Column(scale=1):
                dropped = gradio.File(label="or a file", type="filepath", height=120)
                model = gradio.Dropdown(models.names, value=models.names[0], label="Model")
                start = gradio.Button("Ask", variant="primary")
        said = gradio.Markdown(_about(limits))
        table = gradio.Dataframe(interactive=False, max_chars=60, label="Answers", elem_id="answers", max_height=420)
        files = gradio.File(label="Files", interactive=False, file_count="multiple")
        shown = gradio.HTML(label="The protein", elem_id="details")
        start.click(
            _asking(gradio, models, limits, folder),
            [pasted, dropped, model],
            [table, files, said, shown, kept],
            api_name="ask",
            concurrency_limit=1,
        )
        table.select(_choosing(gradio), [kept], [shown], api_visibility="private")
    return page.queue(max_size=WAITING)


def _about(limits: Limits) -> str:
    words = "; ".join(f"*{word}*: {meaning}" for word, meaning in MEANING.items())
    return f"Up to {limits.sequences:,} sequences and {limits.residues:,} residues at a time. {words}."


def _asking(gradio: Any, models: OpenModels, limits: Limits, folder: Path) -> Callable[..., Any]:
    def asking(pasted: str, dropped: str | None, model: str, progress: Any = gradio.Progress()) -> Any:  # noqa: B008
        """Ask a model: FASTA or table as text, or a file, and the model's name; a table, files, what was asked."""
        try:
            proteins = proteins_of(pasted, dropped, limits)
            progress(0, desc=f"opening {model}")
            answers = ask(models.get(model), proteins, lambda done, total: progress((done, total), unit="proteins"))
            place = Path(tempfile.mkdtemp(prefix="answers-", dir=folder))
            paths = [str(path) for path in answers.write(place)]
        except EsmclsError as error:
            raise gradio.Error(html.escape(str(error), quote=False), duration=None, print_exception=False) from None
        shown = answers.table()
        value = gradio.Dataframe(value=shown.rows, headers=shown.titles, datatype=shown.types)
        return value, paths, html.escape(answers.line(), quote=False), details(answers, 1), answers

    return asking


def _choosing(gradio: Any) -> Callable[..., str]:
    def choosing(answers: Answers | None, chosen: Any) -> str:
        return "" if answers is None else details(answers, int(chosen.row_value[0]))

    choosing.__annotations__["chosen"] = gradio.SelectData
    return choosing


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
    """
    import gradio

    fonts = {"font": ("system-ui", "sans-serif"), "font_mono": ("ui-monospace", "monospace")}
    _, address, _ = page.launch(
        server_name=host,
        server_port=port or None,
        max_file_size=limits.bytes,
        theme=gradio.themes.Default(**fonts),
        css=_STYLE,
        share=False,
        quiet=True,
        ssr_mode=False,
        footer_links=[],
        prevent_thread_lock=True,
    )
    return str(address)
