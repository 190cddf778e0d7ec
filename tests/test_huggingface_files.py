"""A folder of `transformers`' files: what in it decides the digest, and one clear line for all that is not right."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from command import done, run
from hub_server import Hub, Repository, files_of, lay_out, serving, use_hub
from protein_models import KINDS, write_model, write_sentencepiece
from safetensors.torch import load_file, save_file

from esmcls.encoders.encoder import describe_encoders, encoder_names, load_encoder
from esmcls.encoders.huggingface import model as opening
from esmcls.encoders.huggingface.encoder import open_hf
from esmcls.encoders.huggingface.families import FAMILIES
from esmcls.errors import EsmclsError, MissingExtraError, UsageError, WeightsError

Change = Callable[[Path], None]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of some families."""
    root = tmp_path_factory.mktemp("written")
    for name in ("ProtT5", "ProtBert", "ESM-1b"):
        write_model(root / name, name)
    return root


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies of them that a test may change."""

    def make(name: str) -> Path:
        return Path(shutil.copytree(written / name, tmp_path / "model"))

    return make


def digest(folder: Path) -> str:
    return open_hf(str(folder), precision="fp32").digest


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def as_bin(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def as_shards(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:5], "model-00002-of-00002.safetensors": names[5:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def with_a_head(folder: Path) -> None:
    def add(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[f"bert.{name}"] = tensors.pop(name)
        tensors["cls.predictions.bias"] = torch.zeros(30)
        tensors["bert.pooler.dense.weight"] = torch.zeros(32, 32)

    change_weights(folder, add)


def with_a_decoder(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.update({"decoder.block.0.weight": torch.zeros(3)}))


def under_the_other_name(folder: Path) -> None:
    change_weights(
        folder, lambda tensors: tensors.update({"encoder.embed_tokens.weight": tensors.pop("shared.weight")})
    )


def in_tokenizer_json(folder: Path) -> None:
    transformers.BertTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    (folder / "vocab.txt").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("ProtT5", as_bin),
        ("ProtT5", as_shards),
        ("ProtT5", with_a_decoder),
        ("ProtT5", under_the_other_name),
        ("ProtBert", with_a_head),
        ("ProtBert", in_tokenizer_json),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_the_same_weights_in_other_files_have_the_same_digest(
    family: str, change: Change, copy: Callable[[str], Path], written: Path
) -> None:
    folder = copy(family)
    change(folder)
    assert digest(folder) == digest(written / family)


def test_half_precision_files_have_the_digest_of_their_values(copy: Callable[[str], Path]) -> None:
    folder = copy("ProtT5")
    change_weights(folder, lambda tensors: tensors.update({name: tensors[name].half() for name in tensors}))
    halved = digest(folder)
    change_weights(folder, lambda tensors: tensors.update({name: tensors[name].float() for name in tensors}))
    assert digest(folder) == halved


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("ProtT5", lambda folder: change_config(folder, layer_norm_epsilon=1e-3)),
        ("ProtT5", lambda folder: change_config(folder, relative_attention_max_distance=64)),
        ("ProtBert", lambda folder: change_config(folder, num_attention_heads=2)),
        ("ESM-1b", lambda folder: change_config(folder, token_dropout=False)),
        (
            "ProtT5",
            lambda folder: change_weights(
                folder, lambda tensors: tensors["encoder.final_layer_norm.weight"].add_(0.001)
            ),
        ),
        (
            "ProtT5",
            lambda folder: write_sentencepiece(folder, [f"▁{letter}" for letter in "ACDEFGHIKLMNPQRSTVWYXBOUZ"]),
        ),
    ],
)
def test_the_digest_changes_with_all_that_decides_a_vector(
    family: str, change: Change, copy: Callable[[str], Path], written: Path
) -> None:
    folder = copy(family)
    change(folder)
    assert digest(folder) != digest(written / family)


@pytest.mark.parametrize("changes", [{"dropout_rate": 0.5}, {"torch_dtype": "float16"}, {"architectures": ["T5Model"]}])
def test_the_digest_does_not_change_with_what_decides_nothing(
    changes: dict[str, Any], copy: Callable[[str], Path], written: Path
) -> None:
    folder = copy("ProtT5")
    change_config(folder, **changes)
    assert digest(folder) == digest(written / "ProtT5")


def english(folder: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"]
    words += [f"{first}{second}" for first in "abcde" for second in "aeiou"]
    (folder / "vocab.txt").write_text("\n".join(words))


def of_dna(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ACGTN"]))


def of_code(folder: Path) -> None:
    change_config(folder, model_type="AMPLIFY", auto_map={"AutoModel": "amplify.AMPLIFY"})
    (folder / "amplify.py").write_text("raise SystemExit('it ran')")


def that_runs_code(folder: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return exec, ("raise SystemExit('it ran')",)

    (folder / "model.safetensors").unlink()
    torch.save({"shared.weight": Runs()}, folder / "pytorch_model.bin")


def lacking_a_shard(folder: Path) -> None:
    as_shards(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def drop(*names: str) -> Change:
    return lambda folder: [(folder / name).unlink() for name in names] and None  # type: ignore[func-returns-value]


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    return lambda folder: change_weights(folder, change)


NORM = "encoder.block.1.layer.0.layer_norm.weight"
FAULTS: list[tuple[str, Change, str]] = [
    (
        "ProtBert",
        english,
        "no model of proteins: 35 of its 66 tokens are words, such as eu; give a protein language model",
    ),
    ("ProtBert", of_dna, "no model of proteins: its vocabulary has no token for D, E, F, H, I; give a protein"),
    (
        "ProtBert",
        of_code,
        "the model type 'AMPLIFY' needs code of its own (amplify.AMPLIFY), which is never run; bring it as a plugin of "
        "the group esmcls.encoders, or give one of ProstT5, Ankh3, Ankh, ProtT5, ProtBert, ESM-1b/1v, ESM C, ESM-2",
    ),
    (
        "ProtBert",
        lambda folder: change_config(folder, model_type="gpt2"),
        "the model type 'gpt2' is of no family of protein encoders that is known; bring it as a plugin of the group",
    ),
    ("ProtT5", that_runs_code, "more than tensors is pickled in it (exec), which would run code and is not read"),
    ("ProtT5", lacking_a_shard, "1 of 2 files of weights missing: model-00002-of-00002.safetensors"),
    ("ProtT5", drop("model.safetensors"), "no weights (looked in: "),
    (
        "ProtT5",
        drop("spiece.model", "tokenizer_config.json"),
        "no vocabulary (tokenizer.json, vocab.txt, spiece.model)",
    ),
    ("ProtT5", lambda folder: (folder / "spiece.model").write_bytes(b"x"), "spiece.model cannot be read ("),
    ("ProtBert", lambda folder: (folder / "vocab.txt").write_bytes(b"\xff\xfe"), "vocab.txt cannot be read ("),
    ("ProtBert", lambda folder: (folder / "tokenizer.json").write_text("[]"), "tokenizer.json cannot be read ("),
    ("ProtBert", lambda folder: (folder / "added_tokens.json").write_text('{"a": "b"}'), "vocab.txt cannot be read ("),
    (
        "ProtBert",
        lambda folder: (folder / "vocab.txt").write_text("\n".join("LAGVESIKRDTPNQFYMHWCX")),
        "the vocabulary lacks [CLS], [SEP], which a model of the family ProtBert has",
    ),
    ("ProtT5", weights(lambda tensors: tensors.pop(NORM)), f"parameters missing: {NORM} (1 in all)"),
    ("ProtT5", weights(lambda tensors: tensors.pop("shared.weight")), "parameters missing: "),
    (
        "ProtT5",
        weights(lambda tensors: tensors.update({NORM.replace("1", "7"): torch.ones(32)})),
        "unknown parameters: encoder.block.7.layer.0.layer_norm.weight (1 in all); give the weights and the config",
    ),
    ("ProtT5", weights(lambda tensors: tensors.update({NORM: torch.ones(31)})), "it and config.json make no model ("),
    ("ProtT5", weights(lambda tensors: tensors[NORM].fill_(float("nan"))), f"NaN or infinity in {NORM}"),
    (
        "ProtT5",
        weights(lambda tensors: tensors.update({"encoder.q.lora_A.weight": torch.ones(2, 2)})),
        "adapters of PEFT (LoRA) that are not merged",
    ),
    ("ProtT5", lambda folder: change_config(folder, vocab_size=20), "the vocabulary has token 27, and the model has"),
    ("ProtT5", lambda folder: change_config(folder, num_layers=1 << 40), "its config.json is refused ("),
    ("ESM-1b", lambda folder: change_config(folder, pad_token_id=None), "pad_token_id None instead of 1"),
    (
        "ESM-1b",
        lambda folder: change_config(folder, num_attention_heads=5),
        "it and config.json make no model (The hidden size",
    ),
    ("ProtBert", lambda folder: change_config(folder, hidden_act="gelo"), "it and config.json make no model ("),
    ("ProtT5", lambda folder: change_config(folder, d_model="wide"), "its config.json is refused ("),
]


@pytest.mark.parametrize(("family", "fault", "told"), FAULTS, ids=[told[:40] for _, _, told in FAULTS])
def test_what_is_not_right_with_a_folder_is_told_in_one_line(
    family: str, fault: Change, told: str, copy: Callable[[str], Path]
) -> None:
    folder = copy(family)
    fault(folder)
    with pytest.raises(EsmclsError) as caught:
        load_encoder(str(folder))
    message = str(caught.value)
    assert told in message
    assert "\n" not in message
    assert str(folder) in message


def test_what_is_trained_end_to_end_is_esm2_alone(written: Path, tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("id,sequence,label,split\na,MKT,A,train\nb,MKV,B,train\nc,MKL,A,validation\n")
    done("embed", str(tmp_path / "set.csv"), "--encoder", "kmer", "-w", str(tmp_path / "w"), "--quiet")
    ran = run("finetune", "--encoder", str(written / "ProtT5"), "-w", str(tmp_path / "w"))
    assert ran.code == 1
    assert "a model of another kind than ESM-2 ('t5')" in ran.err


@pytest.mark.parametrize("package", ["transformers", "sentencepiece"])
def test_a_package_that_is_not_installed_is_named_with_the_extra_that_brings_it(
    package: str, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    told = rf"needs the package {package}; run: pip install 'esmcls\[hf\]'"
    with pytest.raises(MissingExtraError, match=told):
        load_encoder(str(written / "ProtT5"))


def test_a_family_that_the_installed_transformers_lacks_is_named(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "hasattr", lambda module, name: name != "T5EncoderModel", raising=False)
    with pytest.raises(WeightsError, match=r"transformers [0-9.]+ has no class T5EncoderModel; update it"):
        load_encoder(str(written / "ProtT5"))


def test_opening_says_nothing_itself(written: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_encoder(str(written / "ProtT5"), precision="fp32")
    assert capfd.readouterr() == ("", "")


PROTT5 = {"d_model": 1024, "d_ff": 16384, "d_kv": 128, "num_layers": 24, "num_heads": 32}
ANKH = {"d_kv": 64, "num_layers": 48, "feed_forward_proj": "gated-gelu", "vocab_size": 144}
SHAPES: dict[str, dict[str, Any]] = {
    "Rostlab/ProstT5": PROTT5 | {"vocab_size": 150},
    "Rostlab/prot_t5_xl_uniref50": PROTT5 | {"vocab_size": 128},
    "ElnaggarLab/ankh-base": ANKH | {"d_model": 768, "d_ff": 3072, "num_heads": 12},
    "ElnaggarLab/ankh-large": ANKH | {"d_model": 1536, "d_ff": 3840, "num_heads": 16},
    "Rostlab/prot_bert": {
        **{"hidden_size": 1024, "num_hidden_layers": 30, "num_attention_heads": 16, "intermediate_size": 4096},
        **{"vocab_size": 30, "max_position_embeddings": 40000},
    },
    "facebook/esm1b_t33_650M_UR50S": {
        **{"hidden_size": 1280, "num_hidden_layers": 33, "num_attention_heads": 20, "intermediate_size": 5120},
        **{"vocab_size": 33, "pad_token_id": 1, "emb_layer_norm_before": True},
    },
    "biohub/ESMC-300M": {
        **{"hidden_size": 960, "num_hidden_layers": 30, "num_attention_heads": 15, "intermediate_size": 2560}
    },
    "biohub/ESMC-6B": {},
}
"""From the `config.json` of each on the hub, and of the last two from what `EsmcConfig` says."""


@pytest.mark.parametrize("name", SHAPES)
def test_cards_of_published_checkpoints_count_the_parameters_of_their_class(name: str) -> None:
    [(family, published)] = [(one, two) for one in FAMILIES for two in one.published if two.name == name]
    if not hasattr(transformers, family.model):
        pytest.skip("a class of transformers 5")
    options = {"add_pooling_layer": False} if family.pooler else {}
    with torch.device("meta"):
        model = getattr(transformers, family.model)(getattr(transformers, family.config)(**SHAPES[name]), **options)
    counted = sum(tensor.numel() for key, tensor in model.named_parameters() if not re.search(family.unused, key))
    assert (published.layers, published.width) == (model.config.num_hidden_layers, model.config.hidden_size)
    assert published.parameters == counted


def test_every_family_with_a_model_here_is_one_of_the_table() -> None:
    assert {re.sub("ESM-1[bv]", "ESM-1b/1v", name) for name in KINDS} | {"ESM C"} == {
        family.name for family in FAMILIES
    }


def test_encoders_are_listed_with_family_licence_and_size() -> None:
    cards = {card.name: card for card in describe_encoders()}
    assert cards["Rostlab/prot_t5_xl_half_uniref50-enc"].licence == "AFL-3.0"
    assert cards["ElnaggarLab/ankh-base"].licence == "CC-BY-NC-SA-4.0"
    assert (cards["bundled"].family, cards["bundled"].licence) == ("ESM-2", "MIT")
    assert cards["facebook/esm1b_t33_650M_UR50S"].family == "ESM-1b/1v"
    assert cards["biohub/ESMC-300M"].bytes == 4 * 332_011_200
    assert set(cards) < set(encoder_names())


# by an id of the hub


PROTT5_ID = "Rostlab/prot_t5_xl_half_uniref50-enc"


def test_an_id_in_the_hubs_cache_is_the_encoder_of_its_files(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path, offline=True)
    place = lay_out(cache, PROTT5_ID, files_of(written / "ProtT5"))
    encoder = load_encoder(PROTT5_ID, precision="fp32")
    assert (encoder.name, encoder.digest) == (PROTT5_ID, digest(written / "ProtT5"))
    card = next(card for card in describe_encoders() if card.name == PROTT5_ID)
    assert (card.present, card.source, card.family) == (True, str(place), "ProtT5")
    assert card.bytes == (written / "ProtT5" / "model.safetensors").stat().st_size


def test_a_snapshot_without_its_tokenizer_is_told_where_it_cannot_be_fetched(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path, offline=True)
    files = files_of(written / "ProtT5")
    lay_out(cache, PROTT5_ID, {file: content for file, content in files.items() if file != "spiece.model"})
    with pytest.raises(WeightsError, match="its weights are on this machine, but no file of its tokenizer"):
        load_encoder(PROTT5_ID)


@pytest.fixture
def hub(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with ProtT5's files, and a model that needs code of its own."""
    files = files_of(written / "ProtT5")
    of_code = files | {"config.json": b'{"model_type": "AMPLIFY", "auto_map": {"AutoModel": "amplify.AMPLIFY"}}'}
    repositories = {PROTT5_ID: Repository(files), "chandar-lab/AMPLIFY_120M": Repository(of_code)}
    with serving(Hub(repositories=repositories), monkeypatch, tmp_path) as server:
        yield server


def sent(hub: Hub) -> set[str]:
    return {body.partition(" ")[0].rpartition("/")[2] for body in hub.bodies()}


def test_an_id_is_fetched_with_its_tokenizer_once(hub: Hub, written: Path) -> None:
    assert load_encoder(PROTT5_ID, precision="fp32").digest == digest(written / "ProtT5")
    assert {"config.json", "model.safetensors", "spiece.model"} <= sent(hub)
    hub.asked.clear()
    load_encoder(PROTT5_ID, precision="fp32")
    assert hub.asked == []


def test_a_model_that_needs_code_is_refused_before_its_weights_are_fetched(hub: Hub) -> None:
    with pytest.raises(WeightsError, match=r"encoder chandar-lab/AMPLIFY_120M: the model type 'AMPLIFY' needs code of"):
        load_encoder("chandar-lab/AMPLIFY_120M")
    assert sent(hub) == {"config.json"}


def test_nothing_large_is_fetched_for_a_package_that_is_missing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=rf"encoder {PROTT5_ID}, a model of the type t5, needs the package"):
        load_encoder(PROTT5_ID)
    assert sent(hub) == {"config.json"}


def test_the_plugins_own_name_is_none_of_an_encoder() -> None:
    with pytest.raises(UsageError, match="encoder 'hf' names no model of transformers; name one, such as Rostlab"):
        load_encoder("hf")
