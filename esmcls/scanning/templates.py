"""Proteins aligned with training domains by residue vectors: where in a protein lies what is like which domain.

    protein    . . . . [a a a a a - a a a] . . . . . .
    template         b  b b b b b b b b b  b b             a window reaches to both ends of the template

A score is told from chance by what the same template has with shuffled proteins: the mean and the deviation of its best
local alignments, whose score grows with the logarithm of the protein's length (Karlin and Altschul 1990).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

from esmcls.errors import ModelError
from esmcls.heads.alignment.residues.reduction import Codes, Reduction
from esmcls.heads.alignment.residues.scoring import Alignment, Scheme, Scratch, align_apart, scores
from esmcls.heads.alignment.residues.store import Residues
from esmcls.heads.saved_tensors import AGAIN, check_codes, read_tensors
from esmcls.scanning.windows import Windows
from esmcls.types import Floats, Indices, Vectors

MEASURES_OF_ALIGNMENT: Final = 4
"""By which an alignment is judged; see `Templates.candidates`."""
LEAST: Final = 4.0
"""Standard deviations above chance from which an alignment is looked at."""
TRACED: Final = 3
"""Templates of a family whose alignments with a protein are traced, the best."""
REPEATS: Final = 20
"""Domains that are alike one template, in a piece of a protein, at most."""
PIECE: Final = 1022
"""Residues of a protein that are aligned at once, at least three times the longest template."""
SCHEME: Final = Scheme(offset=1.5, opening=2.0, extension=0.5)
"""Chosen by `benchmarks/scan.py --development`."""

TENSORS: Final = "templates.safetensors"
SHAPES: Final = {
    "lengths": ("int64", "templates"),
    "families": ("int64", "templates"),
    "mean": ("float32", "width"),
    "matrix": ("float32", "width", "components"),
    "chance_means": ("float64", "templates"),
    "chance_spreads": ("float64", "templates"),
    "chance_slope": ("float64", "one"),
}


@dataclass(frozen=True, eq=False)
class Chance:
    """What templates score with shuffled proteins.

    Parameters
    ----------
    means, spreads : float64 arrays, (templates,)
        At the logarithm of length 0.
    slope : float
        What a score gains with the natural logarithm of the protein's residues, in spreads.

    Examples
    --------
    >>> chance = Chance(np.array([10.0]), np.array([2.0]), slope=0.5)
    >>> chance.standard(np.array([14.0]), 1).tolist()
    [2.0]
    """

    means: Floats
    spreads: Floats
    slope: float

    @classmethod
    def of(cls, scores_of: Floats, lengths: Indices) -> Chance:
        """Fit to the scores of shuffled proteins, (proteins, templates), of these lengths."""
        logs = np.log(np.maximum(lengths, 1))
        away = logs - logs.mean()
        means, spreads = scores_of.mean(0), np.maximum(scores_of.std(0), 1e-6)
        slope = 0.0
        if np.ptp(logs) > 0:
            slope = float((away @ ((scores_of - means) / spreads)).mean() / (away @ away))
        left = (scores_of - means) / spreads - slope * away[:, None]
        within = np.maximum(left.std(0), 1e-6)  # without what the lengths explain
        return cls(means - spreads * slope * logs.mean(), spreads * within, slope / float(within.mean()))

    def standard(self, scores_of: npt.NDArray[np.floating], length: int) -> Floats:
        """Return how many spreads the scores of a protein of this length lie above chance, (templates,)."""
        above = (scores_of - self.means) / self.spreads - self.slope * np.log(max(length, 1))
        return np.asarray(above, dtype=np.float64)

    def score_of(self, template: int, standard: float, length: int) -> float:
        """Return the score of a template that lies so many spreads above chance.

        Examples
        --------
        >>> chance = Chance(np.array([10.0]), np.array([2.0]), slope=0.5)
        >>> chance.score_of(0, 2.0, 1)
        14.0
        """
        above = standard + self.slope * float(np.log(max(length, 1)))
        return float(self.means[template] + self.spreads[template] * above)


@dataclass(frozen=True, eq=False)
class Traced:
    """An alignment of a protein with a template of so many residues, its score so many spreads above chance."""

    alignment: Alignment
    template: int
    length: int
    above: float

    @property
    def start(self) -> int:
        """The first residue of the protein that is aligned."""
        return int(self.alignment.query[0])

    @property
    def end(self) -> int:
        """The one after the last."""
        return int(self.alignment.query[-1]) + 1

    def window(self, offset: int, residues: int) -> tuple[int, int]:
        """Return what reaches to both ends of the template, in a protein that ends after so many residues."""
        missing = self.length - 1 - int(self.alignment.target[-1])
        return max(offset + self.start - int(self.alignment.target[0]), 0), min(offset + self.end + missing, residues)

    def is_beside(self, other: Traced) -> bool:
        """Whether it is another template's, and has half of the other's residues."""
        common = min(self.end, other.end) - max(self.start, other.start)
        return self.template != other.template and 2 * common > other.end - other.start

    def measures(self, beside: float) -> list[float]:
        """Return the measures of its window, beside which another template lies so far above chance."""
        pairs = len(self.alignment.target)
        similarity = self.alignment.score / pairs
        return [*np.log([self.above, max(beside, 1.0)]).tolist(), pairs / self.length, float(np.log(similarity))]


@dataclass(frozen=True, eq=False)
class Templates:
    """Training domains, as reduced residue vectors, and what they score by chance.

    Parameters
    ----------
    reduction : Reduction
    residues : Residues
    families : int64 array, (templates,)
        The code of each one's family.
    chance : Chance
    """

    reduction: Reduction
    residues: Residues
    families: Indices
    chance: Chance
    _scratch: Scratch = field(default_factory=Scratch, repr=False)

    @classmethod
    def of(cls, domains: Sequence[tuple[Codes, int]], reduction: Reduction) -> Templates:
        """Return the templates of domains: the reduced residues and the family of each; chance is not known yet."""
        lengths = np.array([len(codes) for codes, _ in domains], dtype=np.int64)
        residues = Residues(np.concatenate([codes for codes, _ in domains]), np.cumsum(lengths) - lengths, lengths)
        families = np.array([family for _, family in domains], dtype=np.int64)
        return cls(reduction, residues, families, Chance(np.zeros(len(lengths)), np.ones(len(lengths)), 0.0))

    def __len__(self) -> int:
        """Return their number."""
        return len(self.families)

    def take(self, rows: Indices) -> Templates:
        """Return some of them."""
        residues = Residues(self.residues.codes, self.residues.starts[rows], self.residues.lengths[rows])
        chance = replace(self.chance, means=self.chance.means[rows], spreads=self.chance.spreads[rows])
        return replace(self, residues=residues, families=self.families[rows], chance=chance)

    def scores(self, codes: Codes) -> npt.NDArray[np.float32]:
        """Return the score of the best alignment of a protein with each template, (templates,)."""
        return scores(codes, self.residues, np.arange(len(self)), SCHEME, self._scratch)

    def fitted(self, shuffled: Iterable[Vectors]) -> Templates:
        """Return the same templates with what they score with shuffled proteins, of their residue vectors."""
        codes = [self.reduction.codes(vectors) for vectors in shuffled]
        of_chance = np.stack([self.scores(protein) for protein in codes]).astype(np.float64)
        return replace(self, chance=Chance.of(of_chance, np.array([len(protein) for protein in codes], dtype=np.int64)))

    def candidates(self, vectors: Vectors) -> tuple[Windows, Floats]:
        """Return the windows of a protein that align with a template, and their measures, of its residue vectors.

        The measures are the logarithm of how far the score lies above chance, the same of the family's next best
        template there, the share of the template that is aligned, and the logarithm of the score by the pair.
        """
        codes = self.reduction.codes(vectors)
        rows: list[tuple[int, int, int]] = []
        measures: list[list[float]] = []
        for start, end in self._pieces(len(codes)):
            for window, measured in self._of_piece(codes[start:end], start, len(codes)):
                rows.append(window)
                measures.append(measured)
        windows = Windows(*np.array(rows, dtype=np.int64).reshape(-1, 3).T)
        return windows, np.array(measures, dtype=np.float64).reshape(-1, MEASURES_OF_ALIGNMENT)

    def _pieces(self, residues: int) -> list[tuple[int, int]]:
        """Return the pieces of a protein that are aligned at once: they overlap by the longest template."""
        longest = int(self.residues.lengths.max())
        size = max(PIECE, 3 * longest)
        starts = range(0, max(residues - longest, 1), size - longest)
        return [(start, min(start + size, residues)) for start in starts]

    def _of_piece(self, codes: Codes, offset: int, residues: int) -> list[tuple[tuple[int, int, int], list[float]]]:
        """Return windows and measures of a piece that begins at `offset` of a protein of so many residues."""
        above = self.chance.standard(self.scores(codes), len(codes))
        windows = []
        for family in np.unique(self.families[above >= LEAST]).tolist():
            members = np.flatnonzero((self.families == family) & (above >= LEAST))
            best = members[np.argsort(-above[members], kind="stable")][:TRACED]
            traced = [alignment for row in best.tolist() for alignment in self._traced(codes, row)]
            for alignment in traced:
                beside = max((other.above for other in traced if other.is_beside(alignment)), default=0.0)
                windows.append(((*alignment.window(offset, residues), family), alignment.measures(beside)))
        return windows

    def _traced(self, codes: Codes, template: int) -> list[Traced]:
        """Return the alignments of a protein with a template that share no residue of the protein, the best first."""
        least = self.chance.score_of(template, LEAST, len(codes))
        length = int(self.residues.lengths[template])
        apart = align_apart(codes, self.residues.of(template), SCHEME, least, REPEATS)
        spread = float(self.chance.spreads[template])
        return [Traced(alignment, template, length, LEAST + (alignment.score - least) / spread) for alignment in apart]

    def save(self, folder: Path) -> None:
        """Write `residues.npy` (int8) and `templates.safetensors`."""
        self.residues.save(folder)
        tensors = {
            "lengths": torch.from_numpy(self.residues.lengths),
            "families": torch.from_numpy(self.families),
            "mean": torch.from_numpy(self.reduction.mean),
            "matrix": torch.from_numpy(self.reduction.matrix),
            "chance_means": torch.from_numpy(self.chance.means),
            "chance_spreads": torch.from_numpy(self.chance.spreads),
            "chance_slope": torch.tensor([self.chance.slope], dtype=torch.float64),
        }
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / TENSORS)

    @classmethod
    def load(cls, folder: Path, n_families: int, width: int) -> Templates:
        """Read what `save` wrote, of so many families and vectors of a width.

        Raises
        ------
        ModelError
            If a file is missing or damaged, or they do not fit one another.
        """
        path = folder / TENSORS
        tensors = read_tensors(path, SHAPES, width=width, one=1)
        state = {name: tensor.numpy() for name, tensor in tensors.items()}
        families = check_codes(path, state["families"], n_families)
        if not len(families) or state["lengths"].min() < 1 or state["chance_spreads"].min() <= 0:
            raise ModelError(path, "a length or spread that is not above 0", AGAIN)
        reduction = Reduction(state["mean"], state["matrix"])
        residues = Residues.load(folder, state["lengths"], reduction.components)
        chance = Chance(state["chance_means"], state["chance_spreads"], float(state["chance_slope"][0]))
        return cls(reduction, residues, families, chance)
