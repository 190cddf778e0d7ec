"""The scikit-learn transformer does what scikit-learn expects of one, and gives the vectors of `embed`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from esmcls.cache.embed import embed
from esmcls.encoders import kmer
from esmcls.errors import SequenceError, UnknownNameError, UsageError
from esmcls.models.estimators import ESMEmbedder

SEQUENCES = ["MKTAYIAKQR", "GGSGGSGGS", "MKTAYIAKQR", "WWCWYF"]


def test_it_gives_the_vectors_of_embed() -> None:
    found = ESMEmbedder(encoder="kmer").fit_transform(SEQUENCES)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, embed(SEQUENCES, "kmer"))


@pytest.mark.parametrize(
    "given",
    [
        tuple(SEQUENCES),
        np.array(SEQUENCES),
        np.array(SEQUENCES, dtype=object),
        np.array(SEQUENCES)[:, None],
    ],
    ids=["tuple", "array", "object array", "column"],
)
def test_it_takes_lists_arrays_and_columns(given: object) -> None:
    found = ESMEmbedder(encoder="composition").fit_transform(given)
    np.testing.assert_array_equal(found, embed(SEQUENCES, "composition"))


@pytest.mark.parametrize(
    "given", ["MKT", [1, 2], [["MK", "MV"]], ["MKT", None], np.zeros((3, 2))], ids=lambda given: type(given).__name__
)
def test_anything_but_texts_is_refused(given: object) -> None:
    with pytest.raises(TypeError, match="expected as a list, an array or one column of texts"):
        ESMEmbedder(encoder="composition").fit(given)
    with pytest.raises(TypeError, match="one column of texts"):
        ESMEmbedder(encoder="composition").transform(given)


def test_no_sequences_give_no_rows() -> None:
    assert ESMEmbedder(encoder="composition").transform([]).shape == (0, 25)


def test_a_clone_has_the_same_parameters_and_is_not_fitted() -> None:
    original = ESMEmbedder(
        encoder="kmer", layers=(1,), pooling="max", precision="bf16", long="full", cache="x", device="cuda"
    )
    assert clone(original).get_params() == original.get_params()
    fitted = ESMEmbedder(encoder="kmer").fit(SEQUENCES)
    assert not hasattr(clone(fitted), "n_features_out_")


def test_parameters_can_be_set_by_name() -> None:
    model = make_pipeline(ESMEmbedder(encoder="kmer"), LogisticRegression())
    model.set_params(esmembedder__encoder="composition")
    assert model[0].fit_transform(SEQUENCES).shape == (4, 25)


def test_every_number_of_a_vector_has_a_name() -> None:
    model = ESMEmbedder(encoder="composition").fit(SEQUENCES)
    names = model.get_feature_names_out()
    assert model.n_features_out_ == len(names) == len(set(names)) == 25
    assert names[:2].tolist() == ["esmembedder0", "esmembedder1"]


def test_it_stands_beside_other_columns() -> None:
    columns = np.array([[sequence, size] for sequence, size in zip(SEQUENCES, "1212", strict=True)], dtype=object)
    both = make_column_transformer((ESMEmbedder(encoder="composition"), [0]), ("passthrough", [1]))
    assert both.fit_transform(columns).shape == (4, 26)


def test_a_pipeline_learns_and_is_searched_through(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kinds = {"basic": "KRHA", "acid": "DEAA"}
    labels = [kind for kind in kinds for _ in range(12)]
    sequences = ["".join(rng.choice(list(kinds[label]), 30)) for label in labels]
    model = make_pipeline(ESMEmbedder(encoder="composition", cache=tmp_path), LogisticRegression())
    assert cross_val_score(model, sequences, labels, cv=3).mean() > 0.9
    search = GridSearchCV(model, {"esmembedder__encoder": ["composition", "kmer"]}, cv=2).fit(sequences, labels)
    assert list(search.predict(["KKRHKK", "DDEEDE"])) == ["basic", "acid"]


def test_with_a_cache_no_sequence_is_embedded_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    real = kmer.KmerEncoder.encode

    def counting(self: kmer.KmerEncoder, sequences: list[str], *options: object, **named: object) -> object:
        encoded.extend(sequences)
        return real(self, sequences, *options, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(kmer.KmerEncoder, "encode", counting)
    model = ESMEmbedder(encoder="composition", cache=tmp_path)
    first = model.fit_transform(SEQUENCES)
    again = clone(model).fit_transform([*SEQUENCES, "MV"])
    assert sorted(encoded) == sorted({*SEQUENCES, "MV"})
    np.testing.assert_array_equal(again[:4], first)


def test_a_wrong_parameter_is_told_at_fit() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'kmer'"):
        ESMEmbedder(encoder="kmerr").fit(SEQUENCES)
    with pytest.raises(UsageError, match="has no layers"):
        ESMEmbedder(encoder="kmer", layers=(3,)).fit(SEQUENCES)


def test_a_text_that_is_no_sequence_is_refused() -> None:
    with pytest.raises(SequenceError, match="residue 3"):
        ESMEmbedder(encoder="kmer").transform(["MK1T"])


def test_scikit_learn_knows_that_it_needs_texts_and_no_fit() -> None:
    from sklearn.utils import get_tags

    tags = get_tags(ESMEmbedder())
    assert (tags.requires_fit, tags.input_tags.string, tags.input_tags.two_d_array) == (False, True, False)


def test_the_package_does_not_import_scikit_learn_with_it() -> None:
    code = "import sys, esmcls, esmcls.encoders.kmer; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
