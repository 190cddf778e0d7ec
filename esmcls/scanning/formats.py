"""Domains as other programs read them: a table, GFF3, and the table that HMMER writes with --domtblout."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TextIO
from urllib.parse import quote

from esmcls.reporting.gff3 import BEGIN, attribute, seqid
from esmcls.scanning.scanner import Domain, Scanned, Scanner

COLUMNS: Final = ("id", "start", "end", "family", "probability", "score", "by_chance")
FORMATS: Final = ("tsv", "gff3", "domtblout")
_DOMTBLOUT: Final = (
    "#                                                                            --- full sequence --- "
    "-------------- this domain -------------   hmm coord   ali coord   env coord\n"
    "# target name        accession   tlen query name           accession   qlen   E-value  score  bias   #  of  "
    "c-Evalue  i-Evalue  score  bias  from    to  from    to  from    to  acc description of target\n"
    "#------------------- ---------- ----- -------------------- ---------- ----- --------- ------ ----- --- --- "
    "--------- --------- ------ ----- ----- ----- ----- ----- ----- ----- ---- ---------------------\n"
)


@dataclass
class Count:
    """What was written."""

    proteins: int = 0
    with_domains: int = 0
    domains: int = 0
    residues: int = 0

    def add(self, scanned: Scanned) -> None:
        """Count a protein."""
        self.proteins += 1
        self.with_domains += bool(scanned.domains)
        self.domains += len(scanned.domains)
        self.residues += len(scanned.protein.sequence)

    def __str__(self) -> str:
        none = self.proteins - self.with_domains
        return (
            f"{self.proteins:,} proteins of {self.residues:,} residues: {self.domains:,} domains in "
            f"{self.with_domains:,} of them, {none:,} with none of these"
        )


def write(format_: str, scanner: Scanner, proteins: Iterable[Scanned], handle: TextIO) -> Count:
    """Write the domains of proteins as they come.

    Parameters
    ----------
    format_ : {"tsv", "gff3", "domtblout"}
    scanner : Scanner
    proteins : iterable of Scanned
    handle : text file
    """
    begin, rows = _WRITERS[format_]
    handle.write(begin)
    count = Count()
    for scanned in proteins:
        count.add(scanned)
        handle.write(rows(scanner, scanned))
    return count


def _table(scanner: Scanner, scanned: Scanned) -> str:
    """Return a line a domain."""
    lines = io.StringIO()
    rows = csv.writer(lines, delimiter="\t", lineterminator="\n")
    for domain in scanned.domains:
        numbers = (f"{domain.probability:.4f}", f"{domain.score:.2f}", f"{domain.by_chance:.2g}")
        rows.writerow((scanned.protein.id, domain.start, domain.end, domain.family, *numbers))
    return lines.getvalue()


def _gff3(scanner: Scanner, scanned: Scanned) -> str:
    """Return the region of the protein and a feature a domain, whose score is its probability."""
    name = seqid(scanned.protein.id)
    lines = [f"##sequence-region {name} 1 {len(scanned.protein.sequence)}\n"]
    for domain in scanned.domains:
        about = f"Name={attribute(domain.family)};by_chance={domain.by_chance:.2g}"
        place = f"{domain.start}\t{domain.end}\t{domain.probability:.4f}\t.\t."
        lines.append(f"{name}\tesmcls\tpolypeptide_domain\t{place}\t{about}\n")
    return "".join(lines)


def _domtblout(scanner: Scanner, scanned: Scanned) -> str:
    """Return a line a domain with the 23 columns of HMMER's user guide; a blank in a name is written as %20.

    A family is as long as the median of its training domains, and a domain is taken to be all of it.
    """
    return "".join(_hmmer_line(scanner, scanned, domain) for domain in scanned.domains)


def _hmmer_line(scanner: Scanner, scanned: Scanned, domain: Domain) -> str:
    of_family = [other for other in scanned.domains if other.family == domain.family]
    size = scanner.sizes[scanner.families.index(domain.family)]
    best = max(of_family, key=lambda other: other.score)
    length = len(scanned.protein.sequence)
    chance = f"{domain.by_chance:>9.2g}"
    return (
        f"{_word(domain.family):<20} {'-':<10} {size:>5} {_word(scanned.protein.id):<20} {'-':<10} {length:>5} "
        f"{best.by_chance:>9.2g} {best.score:>6.1f} {0:>5.1f} {of_family.index(domain) + 1:>3} {len(of_family):>3} "
        f"{chance} {chance} {domain.score:>6.1f} {0:>5.1f} {1:>5} {size:>5} {domain.start:>5} {domain.end:>5} "
        f"{domain.start:>5} {domain.end:>5} {domain.probability:>4.2f} -\n"
    )


def _word(name: str) -> str:
    """Return a name without blanks, which end a column."""
    return "".join(quote(letter) if letter.isspace() else letter for letter in name)


_WRITERS: Final[dict[str, tuple[str, Callable[[Scanner, Scanned], str]]]] = {
    "tsv": ("\t".join(COLUMNS) + "\n", _table),
    "gff3": (BEGIN, _gff3),
    "domtblout": (_DOMTBLOUT, _domtblout),
}
