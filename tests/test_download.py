"""Fetching checkpoints: every way a connection can fail, against a server of our own."""

from __future__ import annotations

import argparse
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from command import done
from torch import nn

from esmcls.encoders import download
from esmcls.encoders.download import CHECKPOINTS, Checkpoint, check_architecture, check_recorded_digest, fetch
from esmcls.encoders.model import ESM2, ModelConfig
from esmcls.errors import UnknownNameError, WeightsError

NAME = "esm2_t2_test"
SHAPE = ModelConfig(layers=2, width=32, heads=4)


@dataclass
class Behaviour:
    """What the server does, and what it was asked."""

    content: bytes
    ranges: bool = True
    etag: str | None = '"v1"'
    status: list[int] = field(default_factory=list)  # answered first, one a request
    cut_after: list[int | None] = field(default_factory=list)  # bytes sent before the line drops, one a request
    stall: bool = False
    announced: bool = True
    shift: int = 0  # sends ranges from another byte than asked
    asked: list[str | None] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler, released: threading.Event) -> None:
        span = handler.headers.get("Range")
        self.asked.append(span)
        if self.status and (status := self.status.pop(0)) != 200:
            return handler.send_error(status)
        start = int(span.removeprefix("bytes=").rstrip("-")) if span and self.ranges else 0
        if start and handler.headers.get("If-Range", self.etag) != self.etag:
            start = 0
        if start >= len(self.content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.content)}")
            return handler.end_headers()
        self.send(handler, start, released)

    def send(self, handler: BaseHTTPRequestHandler, start: int, released: threading.Event) -> None:
        start += self.shift if start else 0
        body, total = self.content[start:], len(self.content)
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if self.announced:
            handler.send_header("Content-Length", str(len(body)))
        if self.etag:
            handler.send_header("ETag", self.etag)
        handler.end_headers()
        cut = self.cut_after.pop(0) if self.cut_after else None
        handler.wfile.write(body[:cut])
        if self.stall:
            handler.wfile.flush()
            released.wait(20)


@pytest.fixture
def checkpoint(tmp_path: Path) -> bytes:
    """Return the bytes of a checkpoint as fair-esm saves it, of random weights."""
    torch.manual_seed(0)
    model = ESM2(SHAPE)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    arguments = argparse.Namespace(encoder_layers=2, encoder_embed_dim=32, encoder_attention_heads=4)
    state = {f"encoder.sentence_encoder.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"cfg": {"model": arguments}, "model": state}, tmp_path / "source.pt")
    return (tmp_path / "source.pt").read_bytes()


@pytest.fixture
def server(checkpoint: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Behaviour]:
    """Serve the checkpoint on this machine; yields what may be changed about it."""
    behaviour, released = Behaviour(checkpoint), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour.answer(self, released)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        monkeypatch.setenv("ESMCLS_WEIGHTS_URL", f"http://127.0.0.1:{http.server_address[1]}/models/")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield behaviour
        released.set()
        http.shutdown()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return torch hub's (empty) folder of checkpoints, with a checkpoint small enough for tests to be known."""
    monkeypatch.delenv("ESMCLS_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setitem(CHECKPOINTS, NAME, Checkpoint(NAME, 2, 32, 4))
    return tmp_path / "torch/hub/checkpoints"


def quick_fetch(**options: object) -> Path:
    return fetch(NAME, **{"timeout": 5.0, "retries": 2, "pause": 0.001} | options)  # type: ignore[arg-type]


def part_file(hub: Path, content: bytes, etag: str | None = '"v1"') -> Path:
    hub.mkdir(parents=True)
    (hub / f"{NAME}.pt.part").write_bytes(content)
    if etag:
        (hub / f"{NAME}.pt.part.version").write_text(etag)
    return hub / f"{NAME}.pt.part"


def test_a_checkpoint_lands_whole_in_torch_hubs_folder_with_its_digest(hub: Path, server: Behaviour) -> None:
    path = quick_fetch()
    assert path == Path(torch.hub.get_dir()) / "checkpoints" / f"{NAME}.pt"
    assert path.read_bytes() == server.content
    digest = hashlib.sha256(server.content).hexdigest()
    assert (hub / f"{NAME}.pt.sha256").read_text() == f"{digest}  {NAME}.pt\n"
    assert sorted(file.name for file in hub.iterdir()) == [f"{NAME}.pt", f"{NAME}.pt.sha256"]


def test_a_second_call_uses_the_file_and_asks_nobody(hub: Path, server: Behaviour) -> None:
    assert quick_fetch() == quick_fetch()
    assert server.asked == [None]


def test_progress_tells_the_bytes_there_and_in_all(
    hub: Path, server: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_BYTES_AT_ONCE", 40_000)
    told: list[tuple[int, int | None]] = []
    quick_fetch(progress=lambda done, total: told.append((done, total)))
    total = len(server.content)
    assert told[0] == (0, total)
    assert told[-1] == (total, total)
    assert len(told) > 2
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_the_air_gapped_folder_is_looked_in_first(
    hub: Path, server: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    own = tmp_path / "own" / f"{NAME}.pt"
    own.write_bytes(server.content)
    quick_fetch()
    monkeypatch.setenv("ESMCLS_WEIGHTS", str(own.parent))
    assert quick_fetch() == own


def test_an_argument_goes_before_the_variable(
    hub: Path, server: Behaviour, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import os

    address = os.environ["ESMCLS_WEIGHTS_URL"]
    monkeypatch.setenv("ESMCLS_WEIGHTS_URL", "http://127.0.0.1:9/nobody")
    assert quick_fetch(base_url=address).exists()


def test_an_interrupted_fetch_resumes_and_gives_the_same_bytes(hub: Path, server: Behaviour) -> None:
    server.cut_after = [30_000]
    path = quick_fetch()
    assert server.asked == [None, "bytes=30000-"]
    assert path.read_bytes() == server.content


def test_what_came_before_a_failure_is_resumed_by_the_next_run(hub: Path, server: Behaviour) -> None:
    server.cut_after = [20_000, 0, 0, 0]
    with pytest.raises(WeightsError, match=r"ends after 20,000 of [\d,]+ bytes"):
        quick_fetch()
    assert not (hub / f"{NAME}.pt").exists()
    assert (hub / f"{NAME}.pt.part").stat().st_size == 20_000
    assert quick_fetch().read_bytes() == server.content
    assert server.asked == [None, *["bytes=20000-"] * 4]


def test_many_short_answers_are_fine_as_long_as_each_brings_something(hub: Path, server: Behaviour) -> None:
    server.cut_after = [9_000] * 8
    assert quick_fetch(retries=0, pause=0).read_bytes() == server.content


def test_a_server_that_ignores_range_starts_the_file_anew(hub: Path, server: Behaviour) -> None:
    server.ranges = False
    server.cut_after = [30_000]
    assert quick_fetch().read_bytes() == server.content
    assert server.asked == [None, "bytes=30000-"]


def test_a_part_of_another_version_is_not_joined(hub: Path, server: Behaviour) -> None:
    part_file(hub, b"x" * 5_000, etag='"v0"')
    assert quick_fetch().read_bytes() == server.content


def test_a_part_from_a_server_without_versions_is_resumed(hub: Path, server: Behaviour) -> None:
    server.etag = None
    part_file(hub, server.content[:5_000], etag=None)
    assert quick_fetch().read_bytes() == server.content
    assert server.asked == ["bytes=5000-"]


def test_a_part_that_is_whole_already_only_gets_its_name(hub: Path, server: Behaviour) -> None:
    part_file(hub, server.content)
    assert quick_fetch().read_bytes() == server.content


def test_a_part_longer_than_the_file_is_thrown_away(hub: Path, server: Behaviour) -> None:
    part_file(hub, server.content + b"more")
    assert quick_fetch().read_bytes() == server.content


def test_a_range_from_another_byte_than_asked_is_refused(hub: Path, server: Behaviour) -> None:
    part_file(hub, server.content[:5_000])
    server.shift = 7
    with pytest.raises(WeightsError, match="sends from byte 5007 on instead of 5000"):
        quick_fetch()
    assert (hub / f"{NAME}.pt.part").read_bytes() == server.content[:5_000]


def test_a_stalled_connection_is_given_up_after_the_timeout(hub: Path, server: Behaviour) -> None:
    server.stall = True
    server.cut_after = [10_000, 0, 0]
    with pytest.raises(WeightsError, match="timed out"):
        quick_fetch(timeout=0.2, retries=1)
    assert (hub / f"{NAME}.pt.part").stat().st_size == 10_000


def test_a_missing_file_is_named_with_every_place_and_not_asked_for_again(hub: Path, server: Behaviour) -> None:
    server.status = [404]
    with pytest.raises(WeightsError) as caught:
        quick_fetch()
    message = str(caught.value)
    assert message.startswith(f"encoder {NAME}: http://127.0.0.1:")
    assert "answers 404 Not Found (looked in: " in message
    assert str(hub / f"{NAME}.pt") in message
    assert message.endswith(f"; put {NAME}.pt into a folder and set ESMCLS_WEIGHTS to it, or try again to resume")
    assert "\n" not in message
    assert len(server.asked) == 1


def test_an_overloaded_server_is_asked_again(hub: Path, server: Behaviour) -> None:
    server.status = [503, 429]
    assert quick_fetch().read_bytes() == server.content


def test_nobody_at_the_address_is_an_error_not_random_weights(hub: Path) -> None:
    with pytest.raises(WeightsError, match="does not answer as it should"):
        quick_fetch(base_url="http://127.0.0.1:9/", retries=1)
    assert not (hub / f"{NAME}.pt").exists()


def test_an_unannounced_size_is_told_as_unknown_and_the_content_still_checked(hub: Path, server: Behaviour) -> None:
    server.announced = False
    server.cut_after = [30_000]
    totals: set[int | None] = set()
    with pytest.raises(WeightsError, match="sent is not it"):
        quick_fetch(progress=lambda _, total: totals.add(total))
    assert totals == {None}
    assert not (hub / f"{NAME}.pt").exists()


def test_a_page_in_place_of_the_checkpoint_is_refused(hub: Path, server: Behaviour) -> None:
    server.content = b"<html>Please log in</html>"
    with pytest.raises(WeightsError, match="sent is not it"):
        quick_fetch()
    assert not (hub / f"{NAME}.pt").exists()
    assert (hub / f"{NAME}.pt.part").stat().st_size == 0


def test_a_checkpoint_of_another_shape_is_refused(
    hub: Path, server: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHECKPOINTS, NAME, Checkpoint(NAME, 3, 32, 4))
    with pytest.raises(WeightsError, match="2 layers x 32, 4 heads, instead of 3 layers x 32, 4 heads"):
        quick_fetch()
    assert not (hub / f"{NAME}.pt").exists()


def test_a_file_that_changed_since_it_was_fetched_is_refused(hub: Path, server: Behaviour) -> None:
    path = quick_fetch()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"was fetched; remove it and esm2_t2_test\.pt\.sha256"):
        quick_fetch()


def test_a_file_that_torch_hub_fetched_is_used_without_a_record(hub: Path, server: Behaviour) -> None:
    hub.mkdir(parents=True)
    (hub / f"{NAME}.pt").write_bytes(server.content)
    assert quick_fetch() == hub / f"{NAME}.pt"
    check_recorded_digest(hub / f"{NAME}.pt")
    assert server.asked == []


def test_several_callers_at_once_fetch_once(hub: Path, server: Behaviour) -> None:
    found: list[bytes] = []
    callers = [threading.Thread(target=lambda: found.append(quick_fetch().read_bytes())) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert found == [server.content] * 4
    assert len(server.asked) == 1
    assert sorted(file.name for file in hub.iterdir()) == [f"{NAME}.pt", f"{NAME}.pt.sha256"]


def test_a_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, hub: Path, server: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"cannot be written \(Not a directory\).*; set TORCH_HOME"):
        quick_fetch()


def test_a_full_disk_is_one_line_and_not_tried_again(
    hub: Path, server: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def write(self, block: bytes) -> int:
            raise OSError(28, "No space left on device")

    real = download._Fetch.write
    monkeypatch.setattr(download._Fetch, "write", lambda self, out, block: real(self, Full(), block))  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match=r"\.part cannot be written \(No space left on device\).*; make room there"):
        quick_fetch()
    assert len(server.asked) == 1


def test_an_unknown_checkpoint_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'esm2_t12_35M_UR50D'"):
        fetch("esm2_t12_35M_UR50")


def test_a_name_outside_the_table_has_no_expected_shape() -> None:
    check_architecture("my_encoder", SHAPE, "here")


@pytest.mark.parametrize("name", list(CHECKPOINTS))
def test_a_checkpoint_counts_the_parameters_of_its_model(name: str) -> None:
    card = CHECKPOINTS[name]
    with torch.device("meta"):
        model = ESM2(ModelConfig(card.layers, card.width, card.heads))
    assert card.parameters == sum(parameter.numel() for parameter in model.parameters())
    check_architecture(name, model.config, "here")


def test_the_table_holds_fair_esms_names() -> None:
    from esm import pretrained

    published = {name for name in dir(pretrained) if name.startswith("esm2_")}
    assert set(CHECKPOINTS) - {NAME} == published


def test_the_embed_command_fetches_what_is_missing(server: Behaviour, hub: Path, tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">a\nMKTAYIAKQR\n")
    ran = done("embed", tmp_path / "a.fasta", "--encoder", NAME, "-w", tmp_path / "work")
    assert (hub / f"{NAME}.pt").exists()
    assert "1 distinct: 1 embedded" in ran.out
