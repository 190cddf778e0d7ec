"""Residue vectors made small: whitened principal components, brought to length 1, eight bits each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from esmcls.types import Vectors

Codes = npt.NDArray[np.int8]

MOST_CODE = 127
TRIFLE = 1e-6
"""Of the largest eigenvalue: a component with less is left at 0, not blown up."""


@dataclass(frozen=True, eq=False)
class Reduction:
    """A linear map of residue vectors, fitted on some of them.

    Parameters
    ----------
    mean : float32 array, (width,)
    matrix : float32 array, (width, components)
        Principal axes, each divided by the standard deviation along it.

    Examples
    --------
    >>> residues = np.array([[3, 0], [-3, 0], [0, 1], [0, -1]], dtype=np.float32)
    >>> Reduction.of(residues, components=2).codes(residues).tolist()
    [[127, 0], [-127, 0], [0, 127], [0, -127]]
    """

    mean: npt.NDArray[np.float32]
    matrix: npt.NDArray[np.float32]

    @classmethod
    def of(cls, residues: Vectors, components: int) -> Reduction:
        """Fit on residue vectors, (n, width), the `components` axes of largest variance, or all there are."""
        mean = residues.mean(0, dtype=np.float64)
        centred = torch.from_numpy(residues.astype(np.float32) - mean.astype(np.float32))
        scatter = (centred.T @ centred).double() / len(residues)
        values, axes = torch.linalg.eigh(scatter)  # ascending
        values = values.flip(0)[:components].clamp(min=0)
        axes = axes.flip(1)[:, :components]
        axes = axes * torch.sign(axes.gather(0, axes.abs().argmax(0, keepdim=True)))  # one of two equal directions
        scales = torch.where(values > TRIFLE * values[0], values.rsqrt(), 0.0)
        return cls(mean.astype(np.float32), (axes * scales).float().numpy())

    @property
    def components(self) -> int:
        """Numbers of a reduced residue: its bytes."""
        return int(self.matrix.shape[1])

    def codes(self, residues: Vectors) -> Codes:
        """Return the residues of one protein, (n, width), as int8 (n, components).

        Each is brought to length 1; then one factor for the protein makes its largest number 127. The factor is not
        kept: similarities are standardised, where it falls out.
        """
        reduced = (residues.astype(np.float32) - self.mean) @ self.matrix
        reduced /= np.maximum(np.linalg.norm(reduced, axis=1, keepdims=True), TRIFLE)
        factor = MOST_CODE / max(float(np.abs(reduced).max(initial=0)), TRIFLE)
        return np.rint(reduced * factor).astype(np.int8)
