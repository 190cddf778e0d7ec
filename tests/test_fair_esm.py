"""fair-esm's address, the second source of ESM-2: every way a connection can fail, against a server of our own."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command import done
from hub_server import Hub, as_told, serving, use_hub
from origins import SHAPE, save_fair_esm, small_state

from esmcls.encoders.model import ESM2, ModelConfig
from esmcls.encoders.sources import fair_esm
from esmcls.encoders.sources.checkpoints import CHECKPOINTS, Checkpoint, check_architecture
from esmcls.encoders.sources.fair_esm import check_recorded_digest, fetch
from esmcls.errors import FetchError, UnknownNameError, WeightsError

NAME = "esm2_t2_test"
PATH = f"/models/{NAME}.pt"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a checkpoint as fair-esm saves it, of random weights."""
    return save_fair_esm(tmp_path_factory.mktemp("source") / "a.pt", small_state()).read_bytes()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return torch hub's (empty) folder of checkpoints, with a checkpoint small enough for tests to be known."""
    monkeypatch.delenv("ESMCLS_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setitem(CHECKPOINTS, NAME, Checkpoint(NAME, 2, 32, 4))
    return tmp_path / "torch/hub/checkpoints"


@pytest.fixture
def server(checkpoint: bytes, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve the checkpoint on this machine, as fair-esm's address does."""
    with serving(Hub(plain={PATH: checkpoint}), monkeypatch, tmp_path) as hub:
        monkeypatch.setenv("ESMCLS_WEIGHTS_URL", f"{hub.address}/models/")
        yield hub


def part_file(folder: Path, content: bytes, version: str) -> Path:
    folder.mkdir(parents=True)
    (folder / f"{NAME}.pt.part").write_bytes(content)
    (folder / f"{NAME}.pt.part.version").write_text(version)
    return folder / f"{NAME}.pt.part"


def ranges(server: Hub) -> list[str]:
    """Return what was asked for of the file: "" for all of it."""
    return [body.removeprefix(PATH).strip() for body in server.bodies()]


def visible(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))


def test_a_checkpoint_lands_whole_in_torch_hubs_folder_with_its_digest(
    folder: Path, server: Hub, checkpoint: bytes
) -> None:
    path = fetch(NAME)
    assert path == Path(torch.hub.get_dir()) / "checkpoints" / f"{NAME}.pt"
    assert path.read_bytes() == checkpoint
    digest = hashlib.sha256(checkpoint).hexdigest()
    assert (folder / f"{NAME}.pt.sha256").read_text() == f"{digest}  {NAME}.pt\n"
    assert visible(folder) == [f"{NAME}.pt", f"{NAME}.pt.sha256"]


def test_a_second_call_uses_the_file_and_asks_nobody(folder: Path, server: Hub) -> None:
    assert fetch(NAME) == fetch(NAME)
    assert ranges(server) == [""]


def test_an_argument_goes_before_the_variable(folder: Path, server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESMCLS_WEIGHTS_URL", "http://127.0.0.1:9/nobody")
    assert fetch(NAME, base_url=f"{server.address}/models").exists()


def test_a_line_that_drops_is_taken_up_again_and_gives_the_same_bytes(
    folder: Path, server: Hub, checkpoint: bytes
) -> None:
    server.cut_after = [30_000]
    assert as_told(lambda: fetch(NAME)).read_bytes() == checkpoint
    assert ranges(server) == ["", "bytes=30000-"]


def test_what_came_before_a_failure_is_resumed_by_the_next_run(folder: Path, server: Hub, checkpoint: bytes) -> None:
    server.cut_after = [20_000, *[0] * 20]
    with pytest.raises(FetchError, match=rf"encoder {NAME}: http://127.* cannot be reached \(.*; check the network"):
        fetch(NAME)
    assert visible(folder) == [f"{NAME}.pt.part", f"{NAME}.pt.part.version"]
    assert (folder / f"{NAME}.pt.part").stat().st_size == 20_000
    server.cut_after = []
    assert fetch(NAME).read_bytes() == checkpoint
    assert set(ranges(server)[1:]) == {"bytes=20000-"}


def test_a_part_of_another_version_is_not_joined(folder: Path, server: Hub, checkpoint: bytes) -> None:
    part_file(folder, b"x" * 5_000, version="v0")
    server.etag = "v1"
    assert fetch(NAME).read_bytes() == checkpoint
    assert ranges(server) == [""]


@pytest.mark.parametrize("rest", [b"", b"more"])
def test_a_part_that_is_whole_only_gets_its_name_and_a_longer_one_is_thrown_away(
    rest: bytes, folder: Path, server: Hub, checkpoint: bytes
) -> None:
    part_file(folder, checkpoint + rest, version="v1")
    server.etag = "v1"
    assert fetch(NAME).read_bytes() == checkpoint
    assert ranges(server) == ([""] if rest else [])


def test_a_missing_file_is_one_line_and_not_asked_for_again(folder: Path, server: Hub) -> None:
    server.plain = {}
    with pytest.raises(FetchError, match=rf"^encoder {NAME}: http://127\S*{NAME}\.pt answers 404; check the net"):
        fetch(NAME)
    assert len([line for line in server.asked if NAME in line]) == 1


def test_nobody_at_the_address_is_an_error_not_random_weights(folder: Path, server: Hub) -> None:
    with pytest.raises(FetchError, match=r"http://127\.0\.0\.1:9/esm2_t2_test\.pt cannot be reached \("):
        fetch(NAME, base_url="http://127.0.0.1:9/")
    assert visible(folder) == []


def test_nothing_is_asked_for_where_the_hub_is_to_be_left_alone(
    folder: Path, server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, server.address, tmp_path, offline=True)
    with pytest.raises(FetchError, match="HF_HUB_OFFLINE says not to fetch it; unset it, or fetch it where"):
        fetch(NAME)
    assert server.asked == []


def test_a_page_in_place_of_the_checkpoint_is_refused_and_removed(folder: Path, server: Hub) -> None:
    server.plain = {PATH: b"<html>Please log in</html>"}
    with pytest.raises(WeightsError, match=rf"what \S+{NAME}\.pt sent is not it .*; put {NAME}\.pt into a folder and"):
        fetch(NAME)
    assert visible(folder) == []


def test_a_checkpoint_of_another_shape_is_refused(folder: Path, server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHECKPOINTS, NAME, Checkpoint(NAME, 3, 32, 4))
    with pytest.raises(WeightsError, match="2 layers x 32, 4 heads, instead of 3 layers x 32, 4 heads"):
        fetch(NAME)
    assert visible(folder) == []


def test_a_file_that_changed_since_it_was_fetched_is_refused(folder: Path, server: Hub) -> None:
    path = fetch(NAME)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"was fetched; remove it and esm2_t2_test\.pt\.sha256"):
        fetch(NAME)


def test_a_file_that_torch_hub_fetched_is_used_without_a_record(folder: Path, server: Hub, checkpoint: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / f"{NAME}.pt").write_bytes(checkpoint)
    assert fetch(NAME) == folder / f"{NAME}.pt"
    check_recorded_digest(folder / f"{NAME}.pt")
    assert server.asked == []


def test_several_callers_at_once_fetch_once(folder: Path, server: Hub, checkpoint: bytes) -> None:
    came: list[bytes] = []
    callers = [threading.Thread(target=lambda: came.append(fetch(NAME).read_bytes())) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert came == [checkpoint] * 4
    assert ranges(server) == [""]
    assert visible(folder) == [f"{NAME}.pt", f"{NAME}.pt.sha256"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"cannot be written \(Not a directory\); make room there, or set TORCH_H"):
        fetch(NAME)


def test_a_full_disk_is_one_line_and_what_came_is_kept(
    folder: Path, server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(WeightsError, match=r"cannot be written \(No space left on device\); make room there, or set T"):
        fetch(NAME)
    assert visible(folder) == [f"{NAME}.pt.part", f"{NAME}.pt.part.version"]


def test_an_unknown_checkpoint_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'esm2_t12_35M_UR50D'"):
        fetch("esm2_t12_35M_UR50")


def test_a_name_outside_the_table_has_no_expected_shape() -> None:
    check_architecture("my_encoder", SHAPE, "here")
    check_architecture("somebody/my_encoder", SHAPE, "here")


@pytest.mark.parametrize("name", list(CHECKPOINTS))
def test_a_checkpoint_counts_the_parameters_of_its_model(name: str) -> None:
    card = CHECKPOINTS[name]
    with torch.device("meta"):
        model = ESM2(ModelConfig(card.layers, card.width, card.heads))
    assert card.parameters == sum(parameter.numel() for parameter in model.parameters())
    for known in (name, f"facebook/{name}", f"facebook/{name}@v1"):
        check_architecture(known, model.config, "here")
        with pytest.raises(WeightsError, match=r"here holds a model of 2 layers x 32, 4 heads, instead of"):
            check_architecture(known, SHAPE, "here")


def test_the_table_holds_fair_esms_names() -> None:
    from esm import pretrained

    published = {name for name in dir(pretrained) if name.startswith("esm2_")}
    assert set(CHECKPOINTS) - {NAME} == published


def test_the_embed_command_fetches_what_is_missing(folder: Path, server: Hub, tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">a\nMKTAYIAKQR\n")
    ran = done("embed", tmp_path / "a.fasta", "--encoder", NAME, "-w", tmp_path / "work")
    assert (folder / f"{NAME}.pt").exists()
    assert "1 distinct: 1 embedded" in ran.out


def test_the_address_is_the_one_in_fair_esms_own_code() -> None:
    import inspect

    from esm import pretrained

    assert fair_esm.ADDRESS in inspect.getsource(pretrained)
