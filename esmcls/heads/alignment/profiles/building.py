"""From the members of a family to its profile: FAMSA aligns them, HMMER makes a model of the alignment.

FAMSA: Deorowicz, Debudaj-Grabysz and Gudyś (2016), Sci. Rep. 6, 33964, through pyfamsa. HMMER 3: Eddy (2011), PLoS
Comput. Biol. 7, e1002195, through pyhmmer: Larralde and Zeller (2023), Bioinformatics 39, btad214. Both are asked with
their defaults: Henikoff's position-based weights, as many effective sequences as give .59 bits a position, BLOSUM62
and gaps of .02 and .4 for a family of a single sequence.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from esmcls.encoders.alphabet import TO_COMMON_RESIDUES
from esmcls.errors import EngineError
from esmcls.heads.alignment.profiles.models import Profile

SEED: Final = 42
"""Of the random sequences that a model's scores are fitted on: HMMER's own default, anew for each model."""
MATRIX: Final = "BLOSUM62"


@dataclass(frozen=True)
class Sizes:
    """How many members a profile is of.

    Parameters
    ----------
    family : int
        Members of a whole family that are aligned, at most.
    subfamily : int
        Members of a branch that has a profile of its own, at most; 0 where there are to be none.
    """

    family: int
    subfamily: int


def members_key(members: Sequence[str]) -> bytes:
    """Return what a profile is kept under: one of the same aligned members, in their order, has the same."""
    return hashlib.sha256("\n".join(members).encode("ascii")).digest()


def spread(members: list[str], most: int) -> list[str]:
    """Return the members that are aligned: all, or so many, spread evenly over them.

    Examples
    --------
    >>> spread(["A", "C", "D", "E"], 2)
    ['A', 'D']
    """
    if len(members) <= most:
        return members
    return [members[place * len(members) // most] for place in range(most)]


def branches(tree: str, most: int) -> list[list[int]]:
    """Return the leaves of the largest branches of a Newick tree with no more than so many leaves.

    Examples
    --------
    >>> branches("((7:1.0,(1:1.0,4:1.0):1.0):1.0,(2:1.0,11:1.0):1.0);", 2)
    [[7], [1, 4], [2, 11]]
    """
    ended: list[list[list[int]]] = [[]]  # of each open bracket, the branches that ended in it, with their leaves
    cut: list[list[int]] = []
    for sign in re.findall(r"[()]|(?<=[(,])\d+", tree):
        if sign == "(":
            ended.append([])
        elif sign != ")":
            ended[-1].append([int(sign)])
        else:
            parts = ended.pop()
            joined = [leaf for part in parts for leaf in part]
            if len(joined) <= most and all(parts):
                ended[-1].append(joined)
            else:  # an empty branch stands for one that was cut
                cut += filter(None, parts)
                ended[-1].append([])
    return cut + [branch for branch in ended[0] if branch]


def build_families(
    families: Sequence[list[str]], known: Mapping[bytes, Profile], sizes: Sizes, threads: int
) -> list[dict[bytes, Profile]]:
    """Return the profiles of each family: that of the whole, then those of its branches where it is larger than these.

    Parameters
    ----------
    families : sequence of list of str
        Distinct members, at least one each.
    known : mapping
        Profiles that were built before, by `members_key`; they are taken as they are.
    sizes : Sizes
    threads : int
        Alignments at a time.

    Returns
    -------
    list of dict
        By `members_key`; those that cannot be searched with are left out.

    Raises
    ------
    EngineError
        If FAMSA or HMMER cannot take a sequence.
    """
    workshop = _Workshop()
    with ThreadPoolExecutor(max(1, threads)) as pool:
        groups = list(pool.map(lambda members: workshop.split(members, sizes), families))
        keyed = {members_key(members): members for split in groups for members in split}
        new = {key: members for key, members in keyed.items() if key not in known}
        built = dict(zip(new, pool.map(workshop.build, new.values()), strict=True))
    profiles = {key: known[key] if key in known else built[key] for key in keyed}
    keys = [map(members_key, split) for split in groups]
    return [{key: profiles[key] for key in split if profiles[key].usable} for split in keys]


class _Workshop(threading.local):
    """The tools of a thread, which cannot be shared."""

    def __init__(self) -> None:
        import pyfamsa
        from pyhmmer import easel, plan7

        self.alphabet = easel.Alphabet.amino()
        self.background = plan7.Background(self.alphabet)
        self.builder = plan7.Builder(self.alphabet, seed=SEED, score_matrix=MATRIX)
        self.aligner = pyfamsa.Aligner(threads=1)
        self.planner = pyfamsa.Aligner(threads=1, guide_tree="upgma")

    def split(self, members: list[str], sizes: Sizes) -> list[list[str]]:
        """Return the members of each profile of a family."""
        whole = spread(members, sizes.family)
        if not 0 < sizes.subfamily < len(members):
            return [whole]
        with _failing_in_one_line():
            tree = self.planner.build_tree(_spelled_for_famsa(members)).dumps().decode("ascii")
        parts = branches(tree, sizes.subfamily)
        return [whole, *([members[row] for row in sorted(part)] for part in sorted(parts, key=min))]

    def build(self, members: list[str]) -> Profile:
        """Return the profile of a family."""
        with _failing_in_one_line():
            return Profile.of(self._of_one(members[0]) if len(members) == 1 else self._of_several(members))

    def _of_one(self, sequence: str) -> Any:
        from pyhmmer import easel

        text = easel.TextSequence(name=b"family", sequence=sequence)
        return self.builder.build(text.digitize(self.alphabet), self.background)[0]

    def _of_several(self, members: list[str]) -> Any:
        """Return the model of the alignment; of the longest member, where no column has residues of half of them."""
        from pyhmmer import easel

        rows = [
            easel.TextSequence(name=str(row).encode(), sequence=sequence)
            for row, sequence in enumerate(self.align(members))
        ]
        alignment = easel.TextMSA(name=b"family", sequences=rows).digitize(self.alphabet)
        try:
            return self.builder.build_msa(alignment, self.background)[0]
        except (ValueError, RuntimeError):
            return self._of_one(max(members, key=len))

    def align(self, members: list[str]) -> list[str]:
        """Return members with gaps, `-`, in their order."""
        gapped = {int(row.id): row.sequence.decode() for row in self.aligner.align(_spelled_for_famsa(members))}
        return [_spelled(member, gapped[row]) for row, member in enumerate(members)]


@contextmanager
def _failing_in_one_line() -> Iterator[None]:
    """Tell of a sequence that a library cannot take in one line."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise EngineError("hmmer", f"failed ({error})", "leave the sequence out, or take another head") from error


def _spelled_for_famsa(members: list[str]) -> list[Any]:
    """Return members as FAMSA's sequences, named by their places; the profile is made of their residues as they are."""
    import pyfamsa

    return [
        pyfamsa.Sequence(str(row).encode(), member.translate(TO_COMMON_RESIDUES).encode())
        for row, member in enumerate(members)
    ]


def _spelled(member: str, gapped: str) -> str:
    """Put a member's own residues into its aligned form.

    Examples
    --------
    >>> _spelled("MUK", "-MC--K")
    '-MU--K'
    """
    residues = iter(member)
    return "".join("-" if sign == "-" else next(residues) for sign in gapped)
