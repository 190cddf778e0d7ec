"""The card of a model: README.md with the front matter that the Hugging Face Hub reads, beside every model.

The manifest does not count it among the model's files: who has it may write into it, and an evaluation replaces what
stands between its two marks alone. Source of the front matter: huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from esmcls.encoders import BUNDLED
from esmcls.encoders.huggingface.families import AFL, FAMILIES, MIT, NON_COMMERCIAL
from esmcls.encoders.sources.checkpoints import checkpoint_of
from esmcls.encoders.sources.hub import parse_repository
from esmcls.files import atomic_text
from esmcls.labels.kinds import (
    GO_TERMS,
    MANY_LABELS,
    NUMBER,
    ONE_LABEL,
    RESIDUE_LABEL,
    RESIDUE_NUMBER,
    STRUCTURE,
    WITHOUT_CLASSES,
)
from esmcls.metrics.open_set import wilson
from esmcls.metrics.regression import MEASURES
from esmcls.models.manifest import Manifest
from esmcls.reporting.phrases import percent

if TYPE_CHECKING:
    from esmcls.models.model import Model

CARD: Final = "README.md"
BEGIN: Final = "<!-- what esmcls evaluate measured: begin -->"
END: Final = "<!-- what esmcls evaluate measured: end -->"
OWN_REPOSITORY: Final = "hf:OWNER/REPOSITORY"
"""What stands for a model's place on the hub, until it has one."""
_SHOWN: Final = 12
"""Classes that are named."""
_LONGEST: Final = 80
_NO_WEIGHTS: Final = ("composition", "kmer")
_OF_THE_HUB: Final = (MIT, AFL, NON_COMMERCIAL)
"""Licences that the hub knows by these names, in small letters."""
_NAMES: Final = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "fmax": "Fmax, mean of the aspects",
    "fmax_C": "Fmax, cellular component",
    "fmax_F": "Fmax, molecular function",
    "fmax_P": "Fmax, biological process",
    "precision_l": "long-range contacts among the L likeliest pairs (P@L)",
    "precision_l5": "the same among the L/5 likeliest",
    "lddt": "lDDT of expected distances",
}
_UNMEASURED: Final = "Not measured yet: `esmcls evaluate --model {name}` writes it here, with its intervals."
_USE: Final = """\
To suggest {what} for protein sequences of the kind that it was fitted on, for people to check. {limits}
It is not for decisions on health, and it knows nothing of what its training set does not hold: proteins of other
organisms, fragments, designed or mutated sequences may be answered badly, and as surely as any other."""
_LIMITS: Final = {
    ONE_LABEL: "To every sequence it gives one of its classes, strangers too, unless it was fitted to reject these "
    "(see calibration).",
    GO_TERMS: "Terms that it lacks are never predicted, and a term's absence means nothing.",
    MANY_LABELS: "Labels that it lacks are never predicted, and every sequence is given one at least.",
    RESIDUE_LABEL: "To every residue it gives one of its classes, whatever the protein.",
    RESIDUE_NUMBER: "To every residue it gives a number, whatever the protein.",
    STRUCTURE: "To every sequence it gives distances, also where it has none: a chain that is disordered, or folds "
    "with others alone; the confidence of each residue says how far they may be trusted.",
    NUMBER: "To every sequence it gives a number, however far it is from all that it was fitted on; the nearest "
    "training protein, which is told beside it, says how far.",
}
_SUGGESTS: Final = {
    ONE_LABEL: "a class",
    GO_TERMS: "Gene Ontology terms",
    MANY_LABELS: "labels",
    RESIDUE_LABEL: "a label a residue",
    RESIDUE_NUMBER: "a number a residue",
    STRUCTURE: "distances and contacts between residues, and a CA trace",
    NUMBER: "a number, such as a temperature or an activity,",
}
_PREDICTS: Final = {
    ONE_LABEL: "one label a protein",
    GO_TERMS: "Gene Ontology terms of proteins",
    MANY_LABELS: "any number of labels a protein",
    RESIDUE_LABEL: "one label a residue of proteins",
    RESIDUE_NUMBER: "a number a residue of proteins",
    STRUCTURE: "distances between the residues of a protein, their contacts and a CA trace",
    NUMBER: "a number a protein",
}
"""By kind of task: what limits an answer, and what is answered."""
_HOW: Final = """\
```console
$ pip install esmcls
$ esmcls predict proteins.fasta --model {name}
```

where `{name}` is its name in the workspace, its folder, or on the hub `{repository}`. In Python:

```python
import esmcls

model = esmcls.load_model("{repository}")  # or the folder
model.predict(["MKTAYIAKQRQISFVKSHFSRQ"])
```"""


def write_card(folder: Path, name: str, manifest: Manifest, told: Sequence[str] = ()) -> None:
    """Write the card of a model into its folder.

    Parameters
    ----------
    folder : Path
    name : str
        Of the model.
    manifest : Manifest
    told : sequence of str
        What rows that were not fitted on tell of it; see `Findings.lines`.
    """
    (folder / CARD).write_text(model_card(name, manifest, told), encoding="utf-8")


def model_card(name: str, manifest: Manifest, told: Sequence[str] = ()) -> str:
    """Return the card of a model as Markdown; see `write_card`."""
    sections = {
        "What it is": _table(_facts(manifest)),
        "Scores": _scores(manifest),
        "On a test part": f"{BEGIN}\n{_UNMEASURED.format(name=_plain(name))}\n{END}",
        "Calibration": "\n".join(f"- {line}" for line in _calibration(manifest, told)),
        "Intended use": _USE.format(what=_SUGGESTS[manifest.kind], limits=_LIMITS[manifest.kind]),
        "Licence": _licences(manifest),
        "How to predict": _HOW.format(name=_plain(name), repository=OWN_REPOSITORY),
    }
    title = f"# {_plain(name)}\n\n{_summary(manifest)}\n"
    return "\n".join([_front(_front_matter(manifest)), title, *_sections(sections)])


def card_of_encoder(model: Model, format: str) -> str:
    """Return the card of what is exported of a model for other programs: its encoder, or the adapters."""
    manifest, spec = model.manifest, model.spec
    loads = {
        "hf": 'from transformers import AutoModel, AutoTokenizer\n\nmodel = AutoModel.from_pretrained("FOLDER")\n'
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        "peft": "from peft import PeftModel\nfrom transformers import AutoModel\n\n"
        'model = PeftModel.from_pretrained(AutoModel.from_pretrained("BASE"), "FOLDER")  # or FOLDER/base',
    }[format]
    layers = ", ".join(map(str, spec.layers))
    sections = {
        "What it is": _table(_facts(manifest)),
        "Scores": _scores(manifest),
        "How to use it": f"```python\n{loads}\n```\n\nThe head reads hidden states {layers} side by side, pooled by "
        f"{spec.pooled[0]} over the residues, without the first and last token. `esmcls embed --encoder FOLDER "
        f"--layers {layers.replace(' ', '')}` makes the same vectors.",
        "Licence": _licences(manifest),
    }
    front = _front_matter(manifest) | {"library_name": "peft" if format == "peft" else "transformers"}
    title = f"# The {'adapters' if format == 'peft' else 'encoder'} of {_plain(model.name)}\n\n{_summary(manifest)}\n"
    return "\n".join([_front(front), title, *_sections(sections)])


def add_measured(folder: Path, title: str, lines: Iterable[str]) -> bool:
    """Put what was measured between the marks of a model's card; say whether there is a card with marks.

    Parameters
    ----------
    folder : Path
        Of the model.
    title : str
        What it was measured on.
    lines : iterable of str
        As `esmcls evaluate` prints them.
    """
    path = folder / CARD
    try:
        text = path.read_text(encoding="utf-8")
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            return False
        body = "\n".join(line.rstrip().replace("```", "'''") for line in lines)
        with atomic_text(path) as handle:
            handle.write(f"{before}{BEGIN}\n{_plain(title)}\n\n```text\n{body}\n```\n{END}{after}")
    except (OSError, ValueError):  # a card is not worth an evaluation
        return False
    return True


def _front_matter(manifest: Manifest) -> dict[str, Any]:
    """Return what the hub reads of a model, and under our name what people look for."""
    encoder = encoder_name(manifest)
    front: dict[str, Any] = {
        "license": _licence_of(encoder).lower() if _licence_of(encoder) in _OF_THE_HUB else "unknown",
        "library_name": "esmcls",
        "tags": ["biology", "protein", "regression" if manifest.kind == NUMBER else "classification"],
    }
    if (checkpoint := checkpoint_of(encoder)) is not None:
        front |= {"base_model": checkpoint.repository.id}
    return front | {
        "esmcls": {
            "task": manifest.kind.replace("-", "_"),
            "head": manifest.head,
            "classes": len(manifest.classes),
            "encoder": encoder,
            "encoder_digest": manifest.spec.digest,
            "data_digest": manifest.dataset_digest,
            "split_digest": manifest.split_digest,
            "validation": {name: round(value, 6) for name, value in manifest.validation.items()},
        }
    }


def _front(values: Mapping[str, Any]) -> str:
    """Return front matter; JSON is YAML, and needs no rules of quoting."""
    return "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in values.items()), "---", ""])


def _sections(sections: Mapping[str, str]) -> list[str]:
    return [f"## {title}\n\n{body}\n" for title, body in sections.items()]


def _summary(manifest: Manifest) -> str:
    if manifest.kind in WITHOUT_CLASSES:
        return f"Predicts {_PREDICTS[manifest.kind]}, from its sequence."
    named = ", ".join(_code(name) for name in manifest.classes[:_SHOWN])
    more = f" and {len(manifest.classes) - _SHOWN:,} more" if len(manifest.classes) > _SHOWN else ""
    return f"Predicts {_PREDICTS[manifest.kind]}, from its sequence: {named}{more}."


def _facts(manifest: Manifest) -> dict[str, str]:
    spec = manifest.spec
    tuned = manifest.setup.get("finetuned")
    encoder = f"{_code(encoder_name(manifest))}, {'fine-tuned, ' if tuned else ''}digest `{spec.digest[:16]}`"
    sizes = sorted(manifest.class_counts)
    layers = ", ".join(map(str, spec.layers)) or "–"
    classes = f"{len(manifest.classes):,}" + (f", of {sizes[0]:,} to {sizes[-1]:,} sequences" if sizes else "")
    facts = {
        "head": _code(manifest.head),
        "classes": WITHOUT_CLASSES.get(manifest.kind, classes),
        "fitted on": f"{manifest.n_train:,} sequences, seed {manifest.seed}",
        "data": f"digest `{manifest.dataset_digest}`",
        "split": f"digest `{manifest.split_digest}`",
        "encoder": encoder,
        "vectors": f"layers {layers}, {manifest.pooling} of residues, long sequences {spec.long}, {spec.precision}",
    }
    versions = ", ".join(f"{name} {_plain(value)}" for name, value in sorted(manifest.versions.items()))
    return facts | {"versions": versions}


def _scores(manifest: Manifest) -> str:
    """Return the scores on validation rows; of a share of proteins, with Wilson's interval."""
    n = int(manifest.validation.get("n", 0))
    if not n:
        return "There was no validation part."
    rows = []
    for name, value in manifest.validation.items():
        if name in _NAMES:
            low, high = wilson(value, n) if name == "accuracy" else (None, None)
            interval = "–" if low is None else f"{percent(low)} to {percent(high)}"
            rows.append(f"| {_NAMES[name]} | {percent(value)} | {interval} |")
        elif name in MEASURES:
            rows.append(f"| {MEASURES[name]} | {value:.4g} | – |")
    refit = ", before these were fitted, too" if manifest.setup.get("refit") else ""
    unit = "" if manifest.kind == NUMBER else "; in percent"
    about = f"On the {n:,} sequences of the validation part, on which choices were made{refit}{unit}."
    return "\n".join([about, "", "| score | value | 95 % interval |", "|---|---|---|", *rows])


def _calibration(manifest: Manifest, told: Sequence[str]) -> list[str]:
    """Return how probabilities, or intervals, came to be what they are."""
    config, lines = manifest.config, list(map(_plain, told))
    if config.get("temperature"):
        lines.append(f"logits are divided by {config['temperature']:.4g}, which validation chose")
    if config.get("slope") is not None and config.get("shift") is not None:
        lines.append(f"logits are times {config['slope']:.4g}, plus {config['shift']:.4g}, which validation chose")
    if manifest.kind == NUMBER:
        return lines or ["nothing was set aside to measure intervals on (fit with --calibration 10%)"]
    if manifest.kind == STRUCTURE:
        return ["the confidence of a residue is the lDDT that the head predicts; esmcls evaluate tells what is reached"]
    return lines or ["probabilities are as the head makes them; nothing was set aside to measure them"]


def _licences(manifest: Manifest) -> str:
    encoder = encoder_name(manifest)
    licence = _licence_of(encoder)
    weights = f"{licence} (`{_plain(encoder)}`)" if licence else f"not known here ({_code(encoder)}): write it down"
    data = "not known here: write it down before you give the model away, for its head is made of them"
    return f"- weights of the encoder: {weights}\n- data: {data}"


def encoder_name(manifest: Manifest) -> str:
    """Return what the encoder is called, or the one that was fine-tuned; never a path of the machine."""
    tuned = manifest.setup.get("finetuned")
    name = str(tuned.get("encoder") or manifest.spec.encoder) if isinstance(tuned, dict) else manifest.spec.encoder
    return name if parse_repository(name) is not None else Path(name).name or name


def _licence_of(encoder: str) -> str:
    """Return the licence of weights that are known; nothing for others."""
    if encoder == BUNDLED or checkpoint_of(encoder) is not None:
        return MIT
    name = encoder.partition("@")[0]
    for family in FAMILIES:
        for published in family.published:
            if published.name == name:
                return published.licence or family.licence
    return "none, for it has none" if encoder.startswith(_NO_WEIGHTS) else ""


def _table(facts: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())])


def _code(text: str) -> str:
    return f"`{_plain(text)}`"


def _plain(text: str) -> str:
    """Return a text in one line that means nothing to Markdown, tables or HTML."""
    shown = "".join(sign if sign.isprintable() else " " for sign in str(text))[:_LONGEST]
    return shown.translate(str.maketrans("`|<>", "'¦‹›"))
