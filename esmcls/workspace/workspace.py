"""A workspace: the folder that holds one data set with its one split, the caches of its embeddings, and the models.

    workspace.json     format 1: source files, counts, digests, split, caches in the order of last use
    dataset.parquet    id, sequence, label, part
    ontology.json      where a protein has many labels: the Gene Ontology
    hierarchy.json     where the classes of one label a protein have one
    cache/<spec>/      models/<name>/      reports/

Its models are comparable because all stand on the same split; so the split cannot be changed under them.
"""

from __future__ import annotations

import html
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from esmcls.cache.spec import EmbeddingSpec
from esmcls.datasets.dataset import Dataset, classes_in
from esmcls.datasets.split import SplitReport
from esmcls.encoders.sources.checkpoints import checkpoint_of
from esmcls.errors import CacheError, FolderError, UnknownNameError, UsageError, WorkspaceError
from esmcls.files import (
    HIERARCHY,
    MANIFEST,
    ONTOLOGY,
    PASSING,
    SPEC,
    STATE,
    TABLE,
    put_all_back,
    remove_left_overs,
    sha256_file,
    temporary_beside,
)
from esmcls.labels.hierarchy import Hierarchy
from esmcls.labels.kinds import GO_TERMS, KINDS, ONE_LABEL, WITHOUT_CLASSES
from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import Ontology
from esmcls.plain_values import read_json, write_json
from esmcls.remote.addresses import address_of
from esmcls.workspace.manifests import ModelChoice, choose, encoder_digest
from esmcls.workspace.state_file import (
    EMBED,
    begin_state,
    describe_file,
    facts_of_terms,
    files_of,
    first_names,
    identity_of,
    read_state,
)

if TYPE_CHECKING:
    from esmcls.cache.store import EmbeddingCache


_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", re.ASCII)


class CacheEntry(NamedTuple):
    """A cache of a workspace: its folder and spec, without opening it."""

    folder: Path
    spec: EmbeddingSpec


class Workspace:
    """The state of a workspace in `folder`; made by `open`. What it is to remember is on disk when the call returns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"<Workspace {self.folder}: {', '.join(f'{name} {value}' for name, value in self._facts().items())}>"

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        cells = {"workspace": self.folder, **self._facts()}
        rows = (f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>" for name, value in cells.items())
        return f"<table>{''.join(rows)}</table>"

    def _facts(self) -> dict[str, str]:
        """Return what people ask first."""
        about = self.state()["dataset"]
        facts = {"dataset": "none"}
        if about is not None:
            kind = "terms" if "ontology" in about else "classes"
            labels = {"task": self.task} if self.task in WITHOUT_CLASSES else {kind: f"{about['classes']:,}"}
            facts = {"records": f"{about['records']:,}", **labels}
        encoders = dict.fromkeys(entry.spec.short_name for entry in self.caches)
        return facts | {
            "vectors of": ", ".join(encoders) or "nothing",
            "models": ", ".join(path.name for path in self.models()) or "none",
        }

    @classmethod
    def open(cls, folder: str | Path, create: bool = False) -> Workspace:
        """Open a workspace, or begin one with `create`.

        Raises
        ------
        WorkspaceError
            If there is none, its workspace.json is damaged or from a newer esmcls, or the folder is another file.
        UsageError
            If it is a URL.
        """
        if (address := address_of(folder)) is not None:
            fix = "open the folder that esmcls.mirrored(address) gives, or -w ADDRESS of a command"
            raise UsageError(f"{address}: an address, not a folder; {fix}")
        workspace = cls(Path(folder))
        if create:
            remove_left_overs(workspace.folder)
        if not (workspace.folder / STATE).exists():
            if not create:
                raise WorkspaceError(folder, "no workspace here", f"{EMBED} first, or name another with -w DIR")
            begin_state(workspace.folder)
        workspace.state()
        return workspace

    def state(self) -> dict[str, Any]:
        """Read workspace.json as it is now: other processes may write it too."""
        return read_state(self.folder)

    def _update(self, **changes: object) -> None:
        write_json(self.folder / STATE, self.state() | changes)

    @property
    def has_dataset(self) -> bool:
        """True if a data set is remembered."""
        return self.state()["dataset"] is not None

    @cached_property
    def dataset(self) -> Dataset:
        """The data set, read when first asked for.

        Raises
        ------
        WorkspaceError
            If there is none, or dataset.parquet is not the one that workspace.json describes.
        """
        path = self._checked(TABLE, self._known("dataset")["parquet_sha256"])
        try:
            return replace(Dataset.load(path), task=self.task)
        except FolderError as error:
            raise WorkspaceError(path, error.found, f"{EMBED} again") from error

    def _checked(self, name: str, sha256: str) -> Path:
        """Return the path of a file that is as workspace.json describes it."""
        path = self.folder / name
        if not path.exists():
            raise WorkspaceError(path, "the file is missing", f"{EMBED} again")
        if sha256_file(path) != sha256:
            raise WorkspaceError(path, "its content is not what workspace.json says", f"{EMBED} again")
        return path

    @property
    def task(self) -> str:
        """The kind of task that the data set's labels are for, one of `esmcls.labels.kinds.KINDS`.

        Raises
        ------
        WorkspaceError
            If there is no data set, or a newer esmcls made it of a kind that is not known here.
        """
        if self.has_terms:
            return GO_TERMS
        task = str(self._known("dataset").get("task", ONE_LABEL))
        if task not in KINDS:
            raise WorkspaceError(self.folder / STATE, f"a kind of task {task[:40]!r}, not known here", "update esmcls")
        return task

    @property
    def has_terms(self) -> bool:
        """True if the proteins of the data set have many labels each, terms of an ontology."""
        return "ontology_sha256" in (self.state()["dataset"] or {})

    @cached_property
    def ontology(self) -> Ontology | None:
        """The ontology of the data set's terms, read when first asked for; None where a protein has one label.

        Raises
        ------
        WorkspaceError
            If ontology.json is not the one that workspace.json describes.
        """
        if not self.has_terms:
            return None
        return Ontology.load(self._checked(ONTOLOGY, self._known("dataset")["ontology_sha256"]))

    @property
    def hierarchy(self) -> Hierarchy | None:
        """The hierarchy of the data set's classes; None where none was named for these labels.

        Raises
        ------
        WorkspaceError
            If hierarchy.json is not the one that workspace.json describes.
        """
        state = self.state()
        known = state.get("hierarchy")
        if known is None or known["dataset"] != (state["dataset"] or {}).get("digest"):
            return None
        return Hierarchy.load(self._checked(HIERARCHY, known["sha256"]))

    def set_hierarchy(self, hierarchy: Hierarchy) -> None:
        """Remember the hierarchy of the data set's classes, in place of one that may be there.

        Models that were fitted before keep what they know.
        """
        path = self.folder / HIERARCHY
        hierarchy.save(path)
        self._update(hierarchy={"sha256": sha256_file(path), "dataset": self.dataset_digest})

    @property
    def propagate(self) -> bool:
        """Whether a protein with a term has those that contain it, too."""
        return bool(self._known("dataset")["propagate"])

    def term_sets(self, dataset: Dataset) -> LabelSets:
        """Return the terms that are learned and measured, of some records of the data set.

        They are propagated, unless that was switched off when the set was embedded, and without roots; the classes are
        those that occur, sorted, each with its aspect as group.

        Raises
        ------
        WorkspaceError
            If the data set has one label a protein.
        """
        if self.ontology is None:
            fix = "embed them with --labels TABLE --obo FILE, in another workspace (-w DIR)"
            raise WorkspaceError(self.folder, "its proteins have one label each, not terms", fix)
        return self.ontology.term_sets((label.split() for label in dataset.labels), self.propagate)

    def _known(self, key: str) -> dict[str, Any]:
        state = self.state()
        known = state[key]
        if known is None and state.get("unlabelled"):
            names = first_names(map(str, state["unlabelled"]))
            fix = "name the column of labels label, or give a table of them: esmcls embed INPUT --labels TABLE"
            raise WorkspaceError(self.folder, f"no dataset: no labels were found in {names}", fix)
        if known is None:
            raise WorkspaceError(self.folder, "no dataset", EMBED)
        return dict(known)

    def remember_unlabelled(self, names: Sequence[str]) -> None:
        """Remember inputs without labels, so that a command that needs a dataset can say why there is none."""
        if not self.has_dataset and self.state().get("unlabelled") != list(names):
            self._update(unlabelled=list(names))

    @property
    def dataset_digest(self) -> str:
        """The digest of the labelled sequences, `Dataset.digest`, as remembered."""
        return str(self._known("dataset")["digest"])

    @property
    def split_digest(self) -> str:
        """The digest of the split, `Dataset.split_digest`, as remembered."""
        return str(self._known("split")["digest"])

    @property
    def drawn_validation(self) -> bool:
        """True if the validation part was drawn here, not given by the user; not known of old workspaces: False."""
        return bool(self._known("split").get("drawn_validation", False))

    def set_dataset(
        self,
        dataset: Dataset,
        report: SplitReport,
        files: Sequence[str | Path] = (),
        ontology: Ontology | None = None,
        propagate: bool = True,
        task: str = ONE_LABEL,
    ) -> None:
        """Make `dataset` the one of this workspace.

        Parameters
        ----------
        dataset : Dataset
        report : SplitReport
            Of its split; kind, seed and fractions are remembered.
        files : sequence of str or Path
            Files, folders or URLs that it was read from; each file is remembered with bytes and sha256.
        ontology : Ontology, optional
            Labels are terms of it, many a protein.
        propagate : bool
            Whether a protein with a term has those that contain it, too.
        task : str
            What the labels are.

        Raises
        ------
        WorkspaceError
            If models stand here that were fitted on other sequences, labels or parts, or another ontology.
        """
        facts = dataset.facts() | facts_of_terms(dataset, ontology, propagate)
        if ontology is None and task != ONE_LABEL:  # else an older esmcls knows what it is
            facts |= {"task": task, "classes": len(classes_in(task)(dataset.labels))}
        split = report.facts() | {"digest": dataset.split_digest()}
        self._guard_models(identity_of(facts), split["digest"])
        dataset.save(self.folder / TABLE)
        if ontology is not None:
            ontology.save(self.folder / ONTOLOGY)
            facts["ontology_sha256"] = sha256_file(self.folder / ONTOLOGY)
        facts["files"] = [describe_file(file) for path in files for file in files_of(path)]
        facts["parquet_sha256"] = sha256_file(self.folder / TABLE)
        self._update(dataset=facts, split=split)
        kind = task if ontology is None else GO_TERMS
        known = dataset if dataset.task == kind else replace(dataset, task=kind)
        self.__dict__.update(dataset=known, ontology=ontology)
        if ontology is None:
            (self.folder / ONTOLOGY).unlink(missing_ok=True)

    def _guard_models(self, identity: Mapping[str, object], split_digest: object) -> None:
        state = self.state()
        models = self.models()
        known = state["dataset"] and (identity_of(state["dataset"]), (state["split"] or {}).get("digest"))
        if models and known != (identity, split_digest):
            problem = (
                f"its models ({first_names(path.name for path in models)}) were fitted on another dataset or split"
            )
            raise WorkspaceError(self.folder, problem, "use another workspace (-w DIR), or delete its models/ first")

    @property
    def caches(self) -> list[CacheEntry]:
        """The caches on disk, the one used last at the end; one that workspace.json does not know comes first."""
        used = {name: place for place, name in enumerate(self.state()["caches"])}
        folders = [path.parent for path in (self.folder / "cache").glob(f"*/{SPEC}")]
        folders.sort(key=lambda folder: (used.get(folder.name, -1), folder.name))
        return [CacheEntry(folder, _read_spec(folder / SPEC)) for folder in folders]

    def cache_for(self, spec: EmbeddingSpec, *, passing: bool = False) -> EmbeddingCache:
        """Open the cache of a spec, made if it is new, and remember it as the one used last.

        Parameters
        ----------
        spec : EmbeddingSpec
        passing : bool
            If it is new it serves what is done next, such as choosing layers, and `drop_passing` may remove it, until
            it is opened here without this.
        """
        from esmcls.cache.store import EmbeddingCache

        folder = self.folder / "cache" / spec.key()
        folder.parent.mkdir(exist_ok=True)
        if not passing:
            (folder / PASSING).unlink(missing_ok=True)
        elif not folder.exists():
            folder.mkdir()
            (folder / PASSING).touch()
        cache = EmbeddingCache.open(folder, spec)
        before = [name for name in self.state()["caches"] if name != folder.name]
        self._update(caches=[*before, folder.name])
        return cache

    def take_layers(self, cache: EmbeddingCache) -> int:
        """Let a cache take over what caches that keep more hold, without embedding again; return how many rows."""
        from esmcls.cache.store import EmbeddingCache

        taken = 0
        for entry in reversed(self.caches):
            if cache.spec.columns_in(entry.spec) is not None:
                with EmbeddingCache.open(entry.folder) as wider:
                    taken += cache.take_layers(wider)
        return taken

    def drop_passing(self, spec: EmbeddingSpec) -> bool:
        """Remove the cache of a spec if it is a passing one; return whether it was removed.

        It disappears at once, whatever happens then.
        """
        folder = self.folder / "cache" / spec.key()
        if not (folder / PASSING).exists():
            return False
        self._update(caches=[name for name in self.state()["caches"] if name != folder.name])
        dropped = temporary_beside(self.folder / folder.name)
        os.replace(folder, dropped)
        shutil.rmtree(dropped, ignore_errors=True)
        return True

    def encoder_name(self, name: str) -> str:
        """Return the path of a tuned encoder that is models/<name> of this workspace; any other name as it is."""
        model = self.folder / name
        return str(model) if not Path(name).exists() and (model / MANIFEST).is_file() else name

    def latest_cache(self) -> EmbeddingCache:
        """Open the cache used last.

        Raises
        ------
        WorkspaceError
            If nothing is embedded yet.
        """
        return self._open(self.caches, "nothing is embedded yet", EMBED)

    def caches_of(self, name: str) -> list[CacheEntry]:
        """Return the caches of an encoder, the one used last at the end.

        Parameters
        ----------
        name : str
            As it was embedded with, without the folder of its weights, or the beginning of its digest. That of a model
            of this workspace is known by its digest, too: fine-tuning may have left the encoder as it was.
        """
        checkpoint = checkpoint_of(name)  # which has two names
        names = {name, self.encoder_name(name), checkpoint.name if checkpoint else name}
        manifest = self.folder / name / MANIFEST
        digest = encoder_digest(manifest) if manifest.is_file() else name
        return [
            entry
            for entry in self.caches
            if names & {entry.spec.encoder, entry.spec.short_name}
            or (len(digest) > 7 and entry.spec.digest.startswith(digest))
        ]

    def cache_of_encoder(self, name: str) -> EmbeddingCache:
        """Open the cache used last among those of an encoder; see `caches_of`.

        Raises
        ------
        WorkspaceError
            If there is none.
        """
        there = first_names(sorted({entry.spec.encoder for entry in self.caches})) or "none"
        problem = f"nothing is embedded with encoder {name!r} (there are: {there})"
        return self._open(self.caches_of(name), problem, f"run: esmcls embed --encoder {name}")

    def _open(self, entries: Sequence[CacheEntry], problem: str, fix: str) -> EmbeddingCache:
        from esmcls.cache.store import EmbeddingCache

        if not entries:
            raise WorkspaceError(self.folder, problem, fix)
        return EmbeddingCache.open(entries[-1].folder)

    @property
    def reports(self) -> Path:
        """The folder of reports, made if need be."""
        folder = self.folder / "reports"
        folder.mkdir(exist_ok=True)
        return folder

    def model_folder(self, name: str) -> Path:
        """Return the folder of a model of this workspace, there or not.

        Raises
        ------
        UsageError
            If `name` is no plain name: letters, digits and ``. _ + -``, the first a letter or digit, 100 at most.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(f"model name {name!r}: use letters, digits and . _ + -, beginning with a letter or digit")
        return self.folder / "models" / name

    def models(self) -> list[Path]:
        """Return the folders of all models, sorted by name; what holds no manifest is no model."""
        put_all_back(self.folder / "models")
        folders = [path.parent for path in (self.folder / "models").glob(f"*/{MANIFEST}")]
        return sorted(folder for folder in folders if _NAME.fullmatch(folder.name))

    def find_model(self, name_or_folder: str | Path) -> Path:
        """Return the folder of a model of this workspace by name, or of any model by its folder.

        Raises
        ------
        UnknownNameError
            If there is neither.
        """
        models = {path.name: path for path in self.models()}
        path = models.get(str(name_or_folder), Path(name_or_folder))
        if not (path / MANIFEST).is_file():
            raise UnknownNameError("model", str(name_or_folder), models)
        return path

    def best_model(self) -> Path:
        """Return the folder of the best model; see `choose_model`."""
        return self.choose_model().best

    def choose_model(self) -> ModelChoice:
        """Return the model of the highest score on validation (see `manifests`); of equals, the first by name.

        Scores are compared among models of the same classes and validation rows: of such groups, it is the one of most
        classes, then of most rows, then of most models. Baselines of comparisons are never chosen beside other models.

        Raises
        ------
        WorkspaceError
            If there is no model.
        ModelError
            If a manifest cannot be read.
        """
        models = self.models()
        if not models:
            raise WorkspaceError(self.folder, "no model", "run: esmcls fit --head linear")
        return choose(models)


def _read_spec(path: Path) -> EmbeddingSpec:
    try:
        return EmbeddingSpec.from_json(read_json(path))
    except (OSError, ValueError, UsageError) as error:
        raise CacheError(path, f"cannot be read ({error})", f"delete this cache's folder and {EMBED}") from error
