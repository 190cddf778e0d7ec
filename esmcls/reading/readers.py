"""Records of every input format, recognised by content, checked and streamed."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from esmcls.errors import DataError, NotTextError, SequenceError, UnknownNameError, UsageError
from esmcls.labels.label_lists import labels_in
from esmcls.labels.residue_labels import masked
from esmcls.reading.annotations.evidence import evidence_codes
from esmcls.reading.fasta import read_fasta
from esmcls.reading.joined.label_tables import LabelTable
from esmcls.reading.joined.term_tables import TermTable
from esmcls.reading.records import GAPS, PARTS, BadRecord, Protein, RawRecord, Record, Tally, clean_sequence, part_of
from esmcls.reading.rows import TableFacts
from esmcls.reading.stockholm import read_stockholm
from esmcls.reading.structures.entries import holds_chains, structure_entries
from esmcls.reading.structures.formats import format_by_line, format_by_name
from esmcls.reading.tables import USUAL, NamedColumns, read_table, table_layout
from esmcls.remote.addresses import address_of, file_name
from esmcls.remote.streams import check_address
from esmcls.text_files import STDIN, open_lines, shown

if TYPE_CHECKING:
    from esmcls.labels.ontology import Ontology

OnBad: TypeAlias = Literal["error", "skip"]
_Reader: TypeAlias = Callable[[Iterator[str], str], Iterator[RawRecord | DataError]]
_FORMATS: Final = "FASTA, Pfam's Stockholm, or CSV or TSV with a header that names a column sequence"
_HIDDEN: Final = re.compile(r"^\.|^#.*#$|~$|\.(?:bak|orig|swp|tmp)$", re.IGNORECASE)
"""Names that file managers do not show, or that editors give to older states of a file."""
_NO_GAPS: Final = str.maketrans("", "", GAPS)


class Source(NamedTuple):
    """A file to read (or "-"), the part that its path names, and whether it was found in a folder."""

    path: str
    part: str | None
    in_folder: bool = False


def find_sources(item: str, hidden: list[str] | None = None) -> list[Source]:
    """Return the files an input stands for: itself, or all files below a folder, sorted, that a user sees there.

    Links are followed. Left out of a folder are hidden files and folders (`.name`), backups (`name~`, `name.bak`,
    `#name#`), and files that were met already under another name.

    Parameters
    ----------
    item : str
        A file, a folder, "-", or the URL of a file.
    hidden : list of str, optional
        Gets what was left out.

    Raises
    ------
    DataError
        If there is no such file or folder, or a folder cannot be read.
    """
    path = Path(item)
    if item == STDIN:
        return [Source(STDIN, None)]
    if (address := address_of(item)) is not None:
        check_address(address)
        return [Source(address, _first_part(file_name(address), file_name(address.rpartition("/")[0])))]
    if path.is_dir():
        files = sorted(_seen_below(path, [] if hidden is None else hidden))
        return [Source(str(file), _part_below(file, path), in_folder=True) for file in files]
    if not path.exists():
        raise DataError(item, "no such file or folder", "check the name")
    typed = _typed(path)
    return [Source(item, _first_part(typed.name, typed.parent.name))]


def _typed(path: Path) -> Path:
    """Return a path from the root, so that the names in it do not depend on where the user stands; links stay."""
    return Path(os.path.normpath(path.absolute()))


def _seen_below(folder: Path, hidden: list[str]) -> Iterator[Path]:
    """Yield the files below a folder that a user sees, each once; note the others."""
    met = {folder.resolve()}
    for place, folders, names in os.walk(folder, onerror=_cannot_be_listed, followlinks=True):
        folders.sort()
        for name in [*folders, *sorted(names)]:
            path = Path(place, name)
            again = path.resolve() in met
            met.add(path.resolve())
            if again or _HIDDEN.search(name):
                hidden.append(str(path))
                folders[:] = [other for other in folders if other != name]
            elif name not in folders:
                yield path


def _cannot_be_listed(error: OSError) -> None:
    raise DataError(error.filename, f"a folder that cannot be listed ({error.strerror})", "check its permissions")


def _part_below(file: Path, folder: Path) -> str | None:
    # the nearest name wins: test/train/a.csv is train
    names = reversed(file.parent.relative_to(folder).parts)
    return _first_part(file.name, *names, _typed(folder).name)


def _first_part(*names: str) -> str | None:
    return next(filter(None, (part_of(name.split(".")[0]) for name in names)), None)


def read_records(
    inputs: str | Path | Sequence[str | Path],
    *,
    labels: str | Path | Sequence[str | Path] | LabelTable | None = None,
    ontology: Ontology | None = None,
    several: bool | None = False,
    part: str | None = None,
    on_bad: OnBad = "error",
    tally: Tally | None = None,
    columns: NamedColumns = USUAL,
    structures: bool = False,
) -> Iterator[Record]:
    """Stream the records of files and folders in their order.

    A file is FASTA, CSV or TSV, or Stockholm, packed or not, whatever its name, or a structure (PDB, mmCIF, BinaryCIF
    or an .npz of chains), whose chains are records with their CA trace as label; "-" is standard input. Of a folder all
    files below it are read, sorted by name, and those that hold no records are listed in the tally. A record's part is
    `part`, else what its file says (`SET=`, or a column split, set or part), else what the name of the file or the
    folder says (train, dev, val, valid, validation, test).

    Parameters
    ----------
    inputs : str, Path or sequence of them
        Files, folders, URLs of files, or "-".
    labels : str, Path or sequence of them, or LabelTable, optional
        Tables `id<TAB>label` to take the labels from, by id; of UniProt's ids (`sp|P69905|HBA_HUMAN`) by accession.
    ontology : Ontology, optional
        The tables are CAFA's, `id<TAB>term<TAB>aspect`; a label is the direct terms of a protein, one space between.
    several : bool, optional
        Whether an id may stand in the tables more than once, with a label each time; None: if the labels differ.
    part : {"train", "validation", "test"}, optional
        The part of every record, whatever the files say.
    on_bad : {"error", "skip"}
        Of a record that cannot be used: raise, or list it in the tally.
    tally : Tally, optional
        Is filled while the records are read.
    columns : NamedColumns
        Of tables, where their names are none of the usual.
    structures : bool
        Of a folder with both sequences and structures, read the structures; default the sequences.

    Returns
    -------
    iterator of Record

    Raises
    ------
    DataError
        If a file cannot be read or a record cannot be used; it names file, line, id and column.
    UnknownNameError
        If `part` or `on_bad` is none of the words above.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "two.fasta")
    ...     _ = path.write_text(">a\\nMKT\\nAYI\\n>b\\nmklv*\\n")
    ...     [record.protein.sequence for record in read_records(path)]
    ['MKTAYI', 'MKLV']
    """
    _check_word("part", part or PARTS[0], PARTS)
    _check_word("on_bad", on_bad, ("error", "skip"))
    tally = Tally() if tally is None else tally
    table = label_table(labels, ontology, several, columns=columns)
    chosen = _choose(_as_list(inputs), table.paths if table else (), tally, structures)
    of_records = columns if table is None else NamedColumns(part=columns.part)
    return _stream(chosen, table, part, on_bad, tally, of_records)


def label_table(
    labels: str | Path | Sequence[str | Path] | LabelTable | None,
    ontology: Ontology | None = None,
    several: bool | None = False,
    evidence: Sequence[str] = (),
    columns: NamedColumns = USUAL,
) -> LabelTable | None:
    """Read tables of labels, or of terms where an ontology is given; None where there are none.

    `several` is as in `read_records`. Of GAFs the rows of these evidence codes count; see `evidence_codes`. The columns
    of labels and masks that the user named are those of these tables.

    Raises
    ------
    DataError
        If a table cannot be used.
    UsageError
        If there is an ontology and no table, or evidence and no ontology.
    UnknownNameError
        If one is no evidence code.
    """
    if evidence and ontology is None:
        raise UsageError("evidence codes (--evidence) are for terms of an ontology; give that, too (--obo FILE)")
    if isinstance(labels, LabelTable):
        return labels.anew()
    paths = _as_list(labels, "labels") if labels is not None else []
    if ontology is not None and not paths:
        raise UsageError("an ontology (--obo) is for a table of terms; name it, too (--labels FILE)")
    if not paths:
        return None
    if ontology is None:
        return LabelTable.read(paths, several, columns._replace(part=None))
    return TermTable.of(paths, ontology, evidence_codes(evidence))


def _check_word(kind: str, word: str, known: Sequence[str]) -> None:
    if word not in known:
        raise UnknownNameError(kind, word, known)


def _as_list(items: str | Path | Sequence[str | Path], what: str = "inputs") -> list[str]:
    """Return paths as texts, of one path or several."""
    paths = [items] if isinstance(items, str | Path) else list(items) if isinstance(items, Iterable) else [items]
    for number, path in enumerate(paths, 1):
        if not isinstance(path, str | Path) or not str(path):
            raise UsageError(f"{what}: number {number} is {path!r}, not the name of a file or folder")
    return [str(path) for path in paths]


def _choose(inputs: list[str], tables: Sequence[str], tally: Tally, structures: bool) -> list[Source]:
    """Return the files to read: each input that is a file, and of each folder those that hold records."""
    chosen: list[Source] = []
    label_tables = {Path(table).resolve() for table in tables}
    for item in inputs:
        sources = find_sources(item, tally.hidden)
        if item != STDIN and Path(item).is_dir():
            sources = [source for source in sources if Path(source.path).resolve() not in label_tables]
            contents = {source.path: _content(source.path) for source in sources}
            first, second = ("structures", "sequences") if structures else ("sequences", "structures")
            wanted = first if first in contents.values() else second
            tally.unread.extend(path for path, content in contents.items() if content != wanted)
            sources = [source for source in sources if contents[source.path] == wanted]
            if not sources:
                raise DataError(item, "no file with records in this folder", f"give {_FORMATS}")
        chosen.extend(sources)
    return chosen


def _content(path: str) -> Literal["sequences", "structures"] | None:
    """Return what a file of a folder is to be read for; a damaged packed file is an error here too."""
    kind = format_by_name(path)
    if kind == "bcif" or (kind == "arrays" and holds_chains(path)):
        return "structures"
    try:
        with open_lines(path) as lines:
            first = _head(lines)[-1]
            if _reader_of(first, path) is not None:
                return "sequences"
            return "structures" if format_by_line(first, path) else None
    except NotTextError:
        return None


def _head(lines: Iterator[str]) -> list[str]:
    """Take the lines up to the first that is not blank; an empty file gives one empty line."""
    head = []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    return head or [""]


def _reader_of(first: str, path: str, tally: Tally | None = None, columns: NamedColumns = USUAL) -> _Reader | None:
    """Return the reader of the format whose first line that is not blank this is; the tally is told of a table."""
    if first.startswith(">"):
        return read_fasta
    if first.startswith("# STOCKHOLM"):
        return read_stockholm
    try:
        layout = table_layout(first)
    except ValueError as error:
        raise DataError(path, str(error), "rename one of them") from error
    if layout is None:
        return None
    facts = TableFacts()
    if tally is not None:
        tally.tables[path] = facts
    return partial(read_table, layout=layout.with_columns(columns, path), facts=facts)


def _entries(
    source: Source, tally: Tally, columns: NamedColumns, labelled: bool = True
) -> Iterator[RawRecord | DataError]:
    """Give the entries of one file; those of a structure have labels if they are to be `labelled`."""
    path = shown(source.path)
    of_structure = partial(structure_entries, notes=tally.structures, in_folder=source.in_folder, labelled=labelled)
    kind = format_by_name(source.path)
    if kind in ("bcif", "arrays"):
        yield from of_structure(source.path, kind)
        return
    with open_lines(source.path) as lines:
        head = _head(lines)
        if not head[-1].strip():
            raise DataError(path, "an empty file", f"give {_FORMATS}")
        reader = _reader_of(head[-1], path, tally, columns)
        if reader is None and (kind := format_by_line(head[-1], path)):
            yield from of_structure(path, kind, text="".join(itertools.chain(head, lines)))
            return
        if reader is None:
            start = head[-1].strip()[:40]
            raise DataError(
                path, f"neither sequences nor a table of them ({start!r})", f"give {_FORMATS}", line=len(head)
            )
        yield from reader(itertools.chain(head, lines), path)


def _stream(
    sources: list[Source],
    table: LabelTable | None,
    part: str | None,
    on_bad: OnBad,
    tally: Tally,
    columns: NamedColumns,
) -> Iterator[Record]:
    for source in sources:
        for entry in _entries(source, tally, columns, labelled=table is None):
            record = _checked_record(entry, shown(source.path), table, part, source.part, tally)
            if isinstance(record, Record):
                tally.count(record, shown(source.path))
                yield record
            elif on_bad == "skip":
                tally.bad.append(BadRecord.of(record))
            else:
                raise record
    if table is not None:
        table.tell(tally)


def _checked_record(
    entry: RawRecord | DataError,
    path: str,
    table: LabelTable | None,
    part: str | None,
    path_part: str | None,
    tally: Tally,
) -> Record | DataError:
    """Check an entry, join its label and decide its part; else return its error."""
    if isinstance(entry, RawRecord) and table is not None:
        entry = table.join(entry, path)
    if isinstance(entry, DataError):
        return entry
    if entry.label is not None and not labels_in(entry.label):
        problem = f"no label in {entry.label!r}" if entry.label else "no label"
        return DataError(path, problem, "give it one or leave the record out", line=entry.line, record=entry.id)
    text = "".join(entry.texts)
    try:
        sequence, replaced = clean_sequence(text.translate(_NO_GAPS) if entry.gapped else text)
    except SequenceError as error:
        return _located(entry, path, error)
    if entry.mask and entry.label is not None:
        try:
            entry = entry._replace(label=masked(entry.label, entry.mask))
        except ValueError as error:
            fix = "give a sign of the mask for each residue"
            return DataError(path, str(error), fix, line=entry.line, record=entry.id)
    tally.j_replaced += replaced
    protein = Protein(entry.id, sequence, entry.description)
    return Record(protein, entry.label, part or entry.part or path_part, path, entry.line)


def _located(entry: RawRecord, path: str, error: SequenceError) -> DataError:
    """Say at which physical line and column (both 1-based) of the file an error stands."""
    if error.position is None:
        return DataError(path, error.found, error.fix, line=entry.line, record=entry.id)
    signs = (
        (line, column)
        for line, text in zip(entry.lines, entry.texts, strict=True)
        for column, sign in enumerate(text, 1)
        if not (entry.gapped and sign in GAPS)
    )
    line, column = next(itertools.islice(signs, error.position, None))
    return DataError(path, error.found, error.fix, line=line, column=column, record=entry.id)
