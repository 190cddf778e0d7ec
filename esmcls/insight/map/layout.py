"""Places in a plane: vectors are whitened, reduced to their principal components, and laid out by t-SNE.

van der Maaten and Hinton 2008, J. Mach. Learn. Res. 9:2579; by openTSNE, with Fourier transforms (Linderman et al.
2019, doi:10.1038/s41592-018-0308-4), which `benchmarks/map_speed.py` compares with UMAP.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from esmcls.errors import MissingExtraError, UsageError
from esmcls.heads.neighbours.finder import whitening_of
from esmcls.heads.whitening import Whitening, WithinClass, row_blocks
from esmcls.types import Floats, Indices, Vectors

COMPONENTS: Final = 50
"""Principal components that are laid out."""
SHRINKAGE: Final = 0.1
PERPLEXITY: Final = 30.0
FEWEST: Final = 4
"""Proteins that a map is made of at least."""
SOFTNESS: Final = 0.05
"""A neighbour weighs with exp(cosine / softness) where a new protein is placed."""


def require_opentsne() -> None:
    """Make sure that a map can be laid out, before anything takes time; MissingExtraError if not."""
    try:
        import openTSNE  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("esmcls map", "openTSNE", "map") from None


def whitened(vectors: Vectors, codes: Indices | None) -> tuple[Vectors, Whitening]:
    """Return vectors whitened and of length 1, float32 (n, width), and the map that does it.

    Parameters
    ----------
    vectors : float array, (n, width)
    codes : int64 array, (n,), optional
        The class of each, -1 for one that is not to be used; the covariance within classes is what whitens. Where
        there are no classes, that of all.
    """
    known = np.arange(len(vectors)) if codes is None else np.flatnonzero(codes >= 0)
    classes = np.zeros(len(known), dtype=np.int64)
    if codes is not None and len(known):
        _, classes = np.unique(codes[known], return_inverse=True)
    rows = vectors[known] if len(known) else vectors
    within = WithinClass.of(rows, classes, int(classes.max(initial=0)) + 1) if len(known) else None
    whitening = whitening_of(rows, within, SHRINKAGE)
    return unit_rows(vectors, whitening), whitening


def unit_rows(vectors: Vectors, whitening: Whitening) -> Vectors:
    """Return rows whitened and of length 1, float32."""
    return np.concatenate([whitening.unit(block).numpy() for _, block in row_blocks(vectors)])


def components(vectors: Vectors, most: int = COMPONENTS) -> Vectors:
    """Return the first principal components of rows, float32 (n, most), each of a sign of its own choosing.

    The sign is such that the largest weight is positive: it is no machine's.
    """
    rows = torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32))
    centred = rows - rows.double().mean(0).float()
    _, axes = torch.linalg.eigh((centred.T @ centred).double())
    axes = axes.flip(1)[:, : min(most, *rows.shape)]
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return np.asarray((centred @ (axes * largest.sign()).float()).numpy())


def laid_out(vectors: Vectors, seed: int = 0) -> Floats:
    """Return places in a plane, float64 (n, 2); the same rows and seed give the same places on one machine.

    Parameters
    ----------
    vectors : float array, (n, width)
    seed : int

    Raises
    ------
    UsageError
        If there are fewer than four rows.
    MissingExtraError
        If openTSNE is not installed.
    """
    if len(vectors) < FEWEST:
        raise UsageError(f"{len(vectors)} proteins make no map; embed at least {FEWEST}")
    require_opentsne()
    from openTSNE import TSNE

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    method = TSNE(perplexity=perplexity, metric="euclidean", random_state=seed, n_jobs=1)
    return np.asarray(method.fit(components(vectors)), dtype=np.float64)


def placed_among(places: Floats, nearest: Indices, cosines: Floats) -> Floats:
    """Return places of new proteins, (n, 2): where their nearest known ones lie.

    The nearest one and those of its neighbours that lie near it are averaged; one that lies elsewhere on the map would
    draw a protein into the void between two groups.

    Parameters
    ----------
    places : float64 array, (known, 2)
    nearest : int64 array, (n, k)
        Known proteins, the nearest first.
    cosines : float64 array, (n, k)

    Examples
    --------
    >>> known = np.array([[0.0, 0.0], [1.0, 0.0], [90.0, 90.0], [91.0, 90.0]])
    >>> placed_among(known, np.array([[0, 1, 2]]), np.array([[0.9, 0.9, 0.9]])).tolist()
    [[0.5, 0.0]]
    """
    spots = places[nearest]  # (n, k, 2)
    away = np.linalg.norm(spots - spots[:, :1], axis=2)  # (n, k)
    reach = 0.05 * float(np.ptp(places, axis=0).max())
    weights = np.exp((cosines - cosines[:, :1]) / SOFTNESS) * (away <= reach)
    return np.asarray((weights[:, :, None] * spots).sum(1) / weights.sum(1)[:, None])
