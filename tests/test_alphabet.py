from __future__ import annotations

import numpy as np
import pytest
from esm.data import Alphabet
from hypothesis import given
from hypothesis import strategies as st

from esmcls.encoders import alphabet
from esmcls.encoders.alphabet import TOKENS, tokenize

REFERENCE = Alphabet.from_architecture("ESM-1b")
LETTERS = "ACDEFGHIKLMNPQRSTVWYXBUZO"


def test_the_order_of_tokens_is_fair_esms() -> None:
    assert list(TOKENS) == REFERENCE.all_toks


def test_special_tokens_have_fair_esms_numbers() -> None:
    ours = (alphabet.BOS, alphabet.PAD, alphabet.EOS, alphabet.UNK, alphabet.MASK)
    fair = REFERENCE
    assert ours == (fair.cls_idx, fair.padding_idx, fair.eos_idx, fair.unk_idx, fair.mask_idx)


@given(st.text(LETTERS, min_size=1, max_size=60))
def test_a_sequence_has_fair_esms_tokens(sequence: str) -> None:
    assert tokenize(sequence).tolist() == REFERENCE.encode(sequence)


@pytest.mark.parametrize("letter", "UZOBX")
def test_rare_letters_have_their_own_token(letter: str) -> None:
    assert TOKENS[tokenize(letter)[0]] == letter


def test_a_letter_without_token_is_unknown_and_text_beyond_ascii_is_refused() -> None:
    assert tokenize("J*a1").tolist() == [alphabet.UNK] * 4
    with pytest.raises(UnicodeEncodeError):
        tokenize("MÄK")


def test_an_empty_sequence_has_no_tokens() -> None:
    assert tokenize("").shape == (0,)
    assert tokenize("").dtype == np.uint8
