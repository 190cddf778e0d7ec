"""The families of protein language models that classes of `transformers` run: all that differs between them.

How residues are written, and what a model reads besides them, is what the authors of each family do in their own
examples: the model cards of Rostlab/prot_t5_xl_half_uniref50-enc, Rostlab/ProstT5, Rostlab/prot_bert and
ElnaggarLab/ankh3-large; ankh's `src/ankh`; `EsmTokenizer` and `EsmcTokenizer` of transformers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from esmcls.encoders.devices import Precision  # which loads torch

AFL: Final = "AFL-3.0"
NON_COMMERCIAL: Final = "CC-BY-NC-SA-4.0"
MIT: Final = "MIT"
EVERY: Final[tuple[Precision, ...]] = ("fp32", "bf16", "fp16")
NO_FP16: Final[tuple[Precision, ...]] = ("fp32", "bf16")
"""T5 was trained in bf16: its feed-forward products exceed 65,504, the largest number of fp16."""


@dataclass(frozen=True)
class Published:
    """A published checkpoint of a family.

    Parameters
    ----------
    name : str
        Its id on the hub.
    layers, width, parameters : int
        Of the encoder alone.
    licence : str
        Of the weights, where it is not the family's.
    """

    name: str
    layers: int
    width: int
    parameters: int
    licence: str = ""


@dataclass(frozen=True)
class Family:
    """A family of protein language models.

    Parameters
    ----------
    name : str
        As people call it.
    model_type : str
        Of its `config.json`.
    config, model : str
        Names of its classes in `transformers`.
    blocks, norm : str
        Where in the model its layers are, and what the last state goes through; no norm where there is none.
    own : str
        Pattern of the names of weights that the encoder reads, whatever head was saved around it.
    unused : str
        Pattern of those in the model that decide no state.
    alias : tuple of str
        Two names of one weight, of which a file may have either.
    pooler : bool
        Whether its class makes a layer of its own for a vector of the whole sequence, unless it is told not to.
    deciding : tuple of str
        Entries of the configuration that decide a vector besides the weights.
    start, end : tuple of str
        Special tokens before and after the residues: never pooled.
    cls : bool
        Whether the first of them is a vector of the whole sequence.
    as_x : str
        Letters that its authors write as X.
    positions : int or None
        Entries of `max_position_embeddings` that are no token's, where positions are learned; else there is no limit.
    precisions : tuple of str
        Those that do not overflow.
    dense : bool
        Whether attention holds a score for each head and pair of tokens at once.
    told_by : tuple of str
        Of families of one model type: a token of its vocabulary, or a configuration's entry and how it begins.
    fixed : tuple of str
        Its vocabulary, where it is in no file.
    licence : str
        Of its weights.
    published : tuple of Published
    """

    name: str
    model_type: str
    config: str
    model: str
    blocks: str
    norm: str
    own: str
    deciding: tuple[str, ...]
    licence: str
    unused: str = "^$"
    start: tuple[str, ...] = ()
    end: tuple[str, ...] = ()
    cls: bool = False
    pooler: bool = False
    alias: tuple[str, ...] = ()
    as_x: str = ""
    positions: int | None = None
    precisions: tuple[Precision, ...] = EVERY
    dense: bool = False
    told_by: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()

    def is_of(self, config: Mapping[str, Any], vocabulary: Collection[str]) -> bool:
        """Say whether a model of its type is of this family."""
        if len(self.told_by) == 2:
            entry, beginning = self.told_by
            return str(config.get(entry)).startswith(beginning)
        return all(token in vocabulary for token in self.told_by)


_RARE: Final = "UZOB"
_T5: Final[dict[str, Any]] = {
    "model_type": "t5",
    "config": "T5Config",
    "model": "T5EncoderModel",
    "blocks": "encoder.block",
    "norm": "encoder.final_layer_norm",
    "own": r"^(encoder\.|shared\.)",
    "alias": ("encoder.embed_tokens.weight", "shared.weight"),
    "deciding": (
        "num_heads",
        "d_kv",
        "feed_forward_proj",
        "layer_norm_epsilon",
        "relative_attention_num_buckets",
        "relative_attention_max_distance",
    ),
    "end": ("</s>",),
    "precisions": NO_FP16,
    "dense": True,
}
_ESM_ALPHABET: Final = (*("<cls>", "<pad>", "<eos>", "<unk>"), *"LAGVSERTIDPKQNFYMHWCXBUZO.-|", "<mask>")

FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        "ProstT5",
        **_T5,
        start=("<AA2fold>",),  # its other language, structures, begins with <fold2AA>
        as_x=_RARE,
        told_by=("<AA2fold>",),
        licence=MIT,
        published=(
            Published("Rostlab/ProstT5", 24, 1024, 1_208_164_352),
            Published("Rostlab/ProstT5_fp16", 24, 1024, 1_208_164_352),
        ),
    ),
    Family("Ankh3", **_T5, start=("[NLU]",), told_by=("[NLU]",), licence=NON_COMMERCIAL),
    Family(
        "Ankh",
        **_T5,
        told_by=("feed_forward_proj", "gated"),
        licence=NON_COMMERCIAL,
        published=(
            Published("ElnaggarLab/ankh-base", 48, 768, 453_170_304),
            Published("ElnaggarLab/ankh-large", 48, 1536, 1_151_707_136),
        ),
    ),
    Family(
        "ProtT5",
        **_T5,
        as_x=_RARE,
        licence=AFL,
        published=(
            Published("Rostlab/prot_t5_xl_half_uniref50-enc", 24, 1024, 1_208_141_824),
            Published("Rostlab/prot_t5_xl_uniref50", 24, 1024, 1_208_141_824),
        ),
    ),
    Family(
        "ProtBert",
        model_type="bert",
        config="BertConfig",
        model="BertModel",
        blocks="encoder.layer",
        norm="",
        own=r"^(bert\.)?(embeddings|encoder)\.",
        pooler=True,
        deciding=("num_attention_heads", "hidden_act", "layer_norm_eps", "is_decoder"),
        start=("[CLS]",),
        end=("[SEP]",),
        cls=True,
        as_x=_RARE,
        positions=0,
        licence=AFL,
        published=(
            Published("Rostlab/prot_bert", 30, 1024, 418_881_536),
            Published("Rostlab/prot_bert_bfd", 30, 1024, 418_881_536),
        ),
    ),
    Family(
        "ESM-1b/1v",
        model_type="esm",
        config="EsmConfig",
        model="EsmModel",
        blocks="encoder.layer",
        norm="encoder.emb_layer_norm_after",
        own=r"^(esm\.)?(embeddings|encoder)\.",
        unused=r"^contact_head\.",
        pooler=True,
        deciding=(
            "num_attention_heads",
            "layer_norm_eps",
            "token_dropout",
            "emb_layer_norm_before",
            "position_embedding_type",
            "is_decoder",
        ),
        start=("<cls>",),
        end=("<eos>",),
        cls=True,
        positions=2,  # the first token is at the one after padding's number, which is 1
        licence=MIT,
        published=(
            Published("facebook/esm1b_t33_650M_UR50S", 33, 1280, 650_716_160),
            *(Published(f"facebook/esm1v_t33_650M_UR90S_{number}", 33, 1280, 650_713_600) for number in range(1, 6)),
        ),
    ),
    Family(
        "ESM C",
        model_type="esmc",
        config="EsmcConfig",
        model="EsmcModel",
        blocks="layers",
        norm="norm",
        own=r"^(esmc\.)?(embed_tokens|layers|norm)\.",
        deciding=("num_attention_heads", "hidden_act", "head_dim", "rope_parameters"),
        start=("<cls>",),
        end=("<eos>",),
        cls=True,
        fixed=_ESM_ALPHABET,
        licence=MIT,
        published=(
            Published("biohub/ESMC-300M", 30, 960, 332_011_200),
            Published("biohub/ESMC-600M", 36, 1152, 573_632_640),
            Published("biohub/ESMC-6B", 80, 2560, 6_345_280_000),
        ),
    ),
)
MODEL_TYPES: Final = tuple(sorted({family.model_type for family in FAMILIES}))
_WORD: Final = re.compile(r"(▁|##)?[A-Za-z]{2,}")
_DIGITS: Final = frozenset("0123456789")


def family_of(config: Mapping[str, Any], vocabulary: Collection[str]) -> Family:
    """Return the family of a model whose type is one of `MODEL_TYPES`."""
    of_type = [family for family in FAMILIES if family.model_type == config.get("model_type")]
    return next(family for family in of_type if family.is_of(config, vocabulary))


def fixed_vocabulary(model_type: str) -> dict[str, int]:
    """Return the vocabulary that a model type's tokenizer has without a file, or none."""
    fixed = next((family.fixed for family in FAMILIES if family.model_type == model_type), ())
    return {token: number for number, token in enumerate(fixed)}


def words_of(vocabulary: Collection[str]) -> list[str]:
    """Return the tokens of a vocabulary that are words or numerals of a language: those of proteins are residues.

    Examples
    --------
    >>> words_of(["▁A", "<AA2fold>", "[CLS]", "a", "the", "##ing", "7"])
    ['the', '##ing', '7']
    """
    return [token for token in vocabulary if _WORD.fullmatch(token) or token.lstrip("▁#") in _DIGITS]
