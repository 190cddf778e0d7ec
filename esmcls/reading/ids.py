"""Ids as tools write them: joins by id, by the first rule that finds a partner, and counts of the rules.

One protein is `sp|P69905|HBA_HUMAN` in UniProt's FASTA, `P69905` in its tables, MMseqs2's output and AlphaFold's file
names, and the whole header line in fair-esm's files. Every join goes through the rules below, in their order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from esmcls.reading.rows import clean_cell

_UNIPROT: Final = re.compile(r"(?:sp|tr)\|([^|\s]+)\|[^|\s]+")
_BARS: Final = {
    "cl": 1,
    "sp": 1,
    "tr": 1,
    "gb": 1,
    "ref": 1,
    "pdb": 1,
    "bbs": 1,
    "lcl": 1,
    "pir": 2,
    "prf": 2,
    "gnl": 2,
    "pat": 2,
    "gi": 3,
}
"""Prefix -> bars before the id; of MMseqs2, src/commons/Util.cpp, getFastaHeaderPosition."""
_ACCESSION: Final = re.compile(r"[OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9](?:[A-Z][A-Z0-9]{2}[0-9]){1,2}")
_PDB: Final = re.compile(r"(?:pdb[|:])?(\d(?=\d{0,2}[A-Z])[A-Z0-9]{3})[|:_.-]?([A-Za-z0-9]{1,4})", re.IGNORECASE)
_ALPHAFOLD: Final = re.compile(r"AF-([A-Z0-9]+)-F\d+(?:-model_v\d+)?(?:\.(?:pdb|cif))?")


def accession(id_: str) -> str:
    """Return the key that joins tables and records: of UniProt's ids the accession, any other id as it is.

    Examples
    --------
    >>> accession("sp|P69905|HBA_HUMAN"), accession("P69905"), accession("pdb|1abc|A")
    ('P69905', 'P69905', 'pdb|1abc|A')
    """
    match = _UNIPROT.fullmatch(id_) if "|" in id_ else None
    return match[1] if match else id_


def is_accession(key: str) -> bool:
    """Say whether a key is an accession of UniProt, as https://www.uniprot.org/help/accession_numbers has it.

    Examples
    --------
    >>> is_accession("P69905"), is_accession("A0A023GPI8"), is_accession("mine1")
    (True, True, False)
    """
    return _ACCESSION.fullmatch(key) is not None


def first_word(id_: str) -> str:
    """Return an id up to its first blank: fair-esm's label is the whole line of the FASTA."""
    return id_.split(maxsplit=1)[0] if id_.strip() else id_


def mmseqs_id(id_: str) -> str:
    """Return what MMseqs2 makes of an id.

    Examples
    --------
    >>> mmseqs_id("gi|5|ref|NP_1.2|"), mmseqs_id("pdb|1abc|A"), mmseqs_id("gnl|db|x y")
    ('NP_1.2', '1abc', 'x')
    """
    words = first_word(id_).removeprefix("consensus_").split("|")
    bars = _BARS.get(words[0], 0)
    return words[bars] if len(words) > bars else first_word(id_)


def pdb_chain(id_: str) -> str:
    """Return entry and chain of the PDB in one way of writing; another id as it is.

    Examples
    --------
    >>> pdb_chain("1ABC:A"), pdb_chain("pdb|1abc|A"), pdb_chain("1abc_A"), pdb_chain("P69905")
    ('1abc_A', '1abc_A', '1abc_A', 'P69905')
    """
    match = _PDB.fullmatch(first_word(id_))
    return f"{match[1].lower()}_{match[2]}" if match else id_


def alphafold_accession(id_: str) -> str:
    """Return the accession of a model of AlphaFold's database; another id as it is."""
    match = _ALPHAFOLD.fullmatch(first_word(id_))
    return match[1] if match else accession(id_)


def file_name(id_: str) -> str:
    """Return an id as ProtTrans and bio_embeddings write it into files: `_` for `/` and `.`."""
    return first_word(id_).replace("/", "_").replace(".", "_")


RULES: Final[dict[str, Callable[[str], str]]] = {
    "as they are": clean_cell,
    "by UniProt's accession": accession,
    "by the first word": first_word,
    "by the id that MMseqs2 takes of a header": mmseqs_id,
    "by entry and chain of the PDB": pdb_chain,
    "by the accession of AlphaFold's model": alphafold_accession,
    "with _ for / and .": file_name,
}
"""How ids are made comparable, in the order in which it is tried."""


@dataclass
class IdJoin:
    """The ids of one side of a join, to be found by those of the other.

    Parameters
    ----------
    ids : iterable of str

    Examples
    --------
    >>> join = IdJoin(["P69905", "1abc_A"])
    >>> join.find("sp|P69905|HBA_HUMAN"), join.find("1ABC:A"), join.find("P6990")
    ('P69905', '1abc_A', None)
    """

    ids: Iterable[str]
    matched: Counter[str] = field(default_factory=Counter)
    """Rule -> ids found by it."""

    def __post_init__(self) -> None:
        self.ids = dict.fromkeys(self.ids)
        self._keys: dict[str, dict[str, str | None]] = {}

    def find(self, id_: str) -> str | None:
        """Return the partner of an id by the first rule that gives exactly one, or None."""
        for rule, key_of in RULES.items():
            partner = self._of_rule(rule, key_of).get(key_of(clean_cell(id_)))
            if partner is not None:
                self.matched[rule] += 1
                return partner
        return None

    def _of_rule(self, rule: str, key_of: Callable[[str], str]) -> dict[str, str | None]:
        """Return the ids by their keys; None where several have one key."""
        if rule not in self._keys:
            keys: dict[str, str | None] = {}
            for id_ in self.ids:
                key = key_of(clean_cell(id_))
                keys[key] = id_ if keys.get(key, id_) == id_ else None  # several of one key: none of them is meant
            self._keys[rule] = keys
        return self._keys[rule]


def rule_lines(matched: Counter[str], to: str = "") -> list[str]:
    """Return a line for each rule but that of equal ids, with how many ids it joined.

    Examples
    --------
    >>> rule_lines(Counter({"as they are": 3, "by UniProt's accession": 1}), " to labels")
    ["1 id joined to labels by UniProt's accession"]
    """
    counts = {rule: matched[rule] for rule in RULES if matched[rule] and rule != "as they are"}
    return [f"{count:,} id{'' if count == 1 else 's'} joined{to} {rule}" for rule, count in counts.items()]
