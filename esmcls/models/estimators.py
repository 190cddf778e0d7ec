"""Embeddings as a step of a scikit-learn pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin

from esmcls.cache.embed import embed
from esmcls.encoders.encoder import load_encoder
from esmcls.types import Residues


class ESMEmbedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """Turn protein sequences into vectors; nothing is learned from them.

    Parameters
    ----------
    encoder, layers, pooling, precision, long, device
        As in `embed`.
    cache : str or Path, optional
        A folder to keep vectors in, so that folds and refits embed no sequence twice.

    Attributes
    ----------
    n_features_out_ : int
        Width of a vector, known after `fit`.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> model = make_pipeline(ESMEmbedder(encoder="composition"), LogisticRegression(C=100))
    >>> sequences, labels = ["KKKLKK", "KKRKLK", "DEDDAE", "EEDADD"], ["basic", "basic", "acid", "acid"]
    >>> model.fit(sequences, labels).predict(["KRKRK"]).item()
    'basic'
    """

    def __init__(
        self,
        encoder: str = "bundled",
        layers: Sequence[int] | None = None,
        pooling: str = "mean",
        precision: str = "auto",
        long: str = "balanced",
        cache: str | Path | None = None,
        device: str = "cpu",
    ) -> None:
        self.encoder = encoder
        self.layers = layers
        self.pooling = pooling
        self.precision = precision
        self.long = long
        self.cache = cache
        self.device = device

    def fit(self, X: Sequence[str], y: object = None) -> ESMEmbedder:
        """Check that the encoder can be had, and learn the width of its vectors.

        Raises
        ------
        EsmclsError
            If it cannot.
        TypeError
            If `X` is not a list of texts.
        """
        _as_sequences(X)
        self.n_features_out_ = self._encoder().width
        return self

    def transform(self, X: Sequence[str]) -> Residues:
        """Embed sequences.

        Parameters
        ----------
        X : list or array of str, (n,) or (n, 1)

        Returns
        -------
        float32 array, (n, width)

        Raises
        ------
        SequenceError
            If a text is no protein sequence.
        TypeError
            If `X` is not a list of texts.
        """
        return embed(_as_sequences(X), self._encoder(), pooling=self.pooling, cache=self.cache)

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Name the numbers of a vector `esmembedder0`, `esmembedder1`, … as scikit-learn's decompositions do."""
        prefix = type(self).__name__.lower()
        return np.array([f"{prefix}{number}" for number in range(self.n_features_out_)], dtype=object)

    def _encoder(self) -> Any:
        return load_encoder(
            self.encoder, layers=self.layers, long=self.long, precision=self.precision, device=self.device
        )

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn that `transform` needs no `fit`."""
        return True

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn (1.6 and later) that the input is texts, not a table of numbers."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        return tags


def _as_sequences(X: Any) -> list[str]:
    """Return the texts of a list, an array, a column or a series."""
    values = X if isinstance(X, str) else np.asarray(X, dtype=object)
    if not isinstance(values, str) and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if isinstance(values, str) or values.ndim != 1 or not all(isinstance(value, str) for value in values):
        raise TypeError("sequences are expected as a list, an array or one column of texts")
    return [str(value) for value in values]
