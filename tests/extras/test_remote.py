"""Inputs and workspaces at URLs, against an S3 server and a server of files on this machine."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from command import Ran, done, run
from tiny import write_set

ENCODER = ("--encoder", "composition", "--quiet")


class Bucket:
    """A bucket of its own for each test."""

    def __init__(self, endpoint: str, name: str) -> None:
        import boto3

        self.client = boto3.client("s3", endpoint_url=endpoint)
        self.name = name
        self.client.create_bucket(Bucket=name)

    def names(self, prefix: str = "") -> list[str]:
        """List the keys."""
        listed = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for entry in listed.get("Contents", [])]

    def read(self, key: str) -> bytes:
        """Return the content of a key."""
        body: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return body

    def put(self, key: str, content: bytes) -> None:
        """Put an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def delete(self, *keys: str) -> None:
        """Delete objects."""
        for key in keys:
            self.client.delete_object(Bucket=self.name, Key=key)

    @property
    def segments(self) -> list[str]:
        """The keys of sealed segments."""
        return [key for key in self.names("w/cache/") if key.endswith(".h5")]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Give what sets which machine this is: each has mirrors of its own."""

    def be(name: str) -> Path:
        folder = tmp_path / "machines" / name
        monkeypatch.setenv("ESMCLS_MIRRORS", str(folder))
        return folder

    be("first")
    return be


@pytest.fixture
def bucket(
    endpoint: str, request: pytest.FixtureRequest, machine: object, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    import s3fs

    values = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield Bucket(endpoint, hashlib.sha256(request.node.name.encode()).hexdigest()[:20])
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set.csv", 60)


def at(bucket: Bucket, name: str = "w") -> str:
    return f"s3://{bucket.name}/{name}"


def one_line(ran: Ran, code: int = 1) -> str:
    """Return the only line of a command that was refused."""
    assert (ran.code, ran.out) == (code, "")
    lines = [line for line in ran.err.splitlines() if ": its mirror here is " not in line]
    assert len(lines) == 1, ran.err
    return lines[0].removeprefix("esmcls: error: ")


def failing(message: str) -> Callable[..., Awaitable[bytes]]:
    """Return what stands for an operation of a store whose connection is lost."""

    async def operation(*_: object, **__: object) -> bytes:
        raise OSError(message)

    return operation


@contextlib.contextmanager
def broken(operation: str, instead: Callable[..., Awaitable[bytes]]) -> Iterator[None]:
    """Let something else be done in the place of an operation of the store."""
    import s3fs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3fs.S3FileSystem, operation, instead)
        s3fs.S3FileSystem.clear_instance_cache()  # an instance holds what the class had
        yield
    s3fs.S3FileSystem.clear_instance_cache()


async def too_short(*_: object, **__: object) -> bytes:
    """Stand for an answer that is cut off."""
    return b"too short"


# workspaces


def answers(workspace: str | Path, labelled: Path) -> list[str]:
    """Embed, fit, evaluate and predict; return all that is answered."""
    of = ("--quiet", "-w", workspace)
    said = [done("embed", labelled, *ENCODER, "-w", workspace).out]
    done("fit", "--head", "knn", *of)
    said.append(done("evaluate", *of).out)
    said.append(done("predict", labelled, "--model", "knn", *of).out)
    return said


def test_a_workspace_in_a_bucket_answers_as_one_in_a_folder(
    bucket: Bucket, labelled: Path, tmp_path: Path, machine: Callable[[str], Path]
) -> None:
    local = tmp_path / "w"
    assert answers(at(bucket), labelled) == answers(local, labelled)
    for name in ("dataset.parquet", "models/knn/knn.safetensors", "reports/evaluate-knn/metrics.json"):
        assert bucket.read(f"w/{name}") == (local / name).read_bytes(), name
    model = sorted(path.name for path in (local / "models" / "knn").iterdir())
    assert [key.rpartition("/")[2] for key in bucket.names("w/models/")] == model
    assert not [key for key in bucket.names() if "/." in key]

    second = machine("second")
    again = done("embed", labelled, *ENCODER, "-w", at(bucket))
    assert again.out == "54 sequences, 54 distinct: 0 embedded, 54 were cached\n"
    asked = ("predict", labelled, "--model", "knn", "--quiet", "-w")
    assert done(*asked, at(bucket)).out == done(*asked, local).out
    assert [path for path in second.rglob("*.h5") if path.is_file()] == []


def test_a_second_machine_reads_of_the_vectors_what_it_needs(
    bucket: Bucket, tmp_path: Path, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esmcls.remote.blocks.BLOCK", 4096)
    sequences = tmp_path / "many.fasta"
    sequences.write_text("".join(f">p{n}\nMK{'ACDEFGHIKL'[n % 10] * (1 + n // 10)}\n" for n in range(2000)))
    done("embed", sequences, *ENCODER, "--dtype", "float32", "-w", at(bucket))
    second = machine("second")
    assert (
        "0 embedded, 2,000 were cached"
        in done("embed", sequences, *ENCODER, "--dtype", "float32", "-w", at(bucket)).out
    )
    here = sum(path.stat().st_size for path in second.rglob("*.h5/*"))
    whole = len(bucket.read(bucket.segments[0]))
    assert 32 * 2000 <= here < 0.5 * whole
    assert ": sound; 2,000 sequences" in done("cache", "verify", "-w", at(bucket), "--quiet").out
    assert sum(path.stat().st_size for path in second.rglob("*.h5/*")) == whole


def test_segments_are_compacted_in_the_store(
    bucket: Bucket, labelled: Path, tmp_path: Path, machine: Callable[[str], Path]
) -> None:
    others = tmp_path / "others.fasta"
    others.write_text(">a\nMKVA\n>b\nMKVAA\n")
    done("embed", labelled, *ENCODER, "-w", at(bucket))
    machine("second")
    done("embed", others, *ENCODER, "-w", at(bucket))
    assert len(bucket.segments) == 2
    assert ": 2 segments before, 1 now; " in done("cache", "compact", "-w", at(bucket)).out
    assert len(bucket.segments) == 1
    machine("first")
    assert ", 2 were cached" in done("embed", others, *ENCODER, "-w", at(bucket)).out
    assert "sequences: 56; segments: 1;" in done("cache", "info", "-w", at(bucket)).out
    kept = {block.parent.name for block in (tmp_path / "machines").rglob(".blocks/*/*")}
    assert kept <= {Path(name).name for name in bucket.segments}  # of what was joined no block stays
    assert len(bucket.segments) == 1


KILLED = """
import os, sys
import esmcls.cache.store as store
from esmcls.remote.blocks import RemoteSegments
from esmcls_cli.main import main
put, count = RemoteSegments.put, []
def put_or_die(self, name):
    count.append(name)
    if len(count) == 2:
        os._exit(9)
    put(self, name)
RemoteSegments.put = put_or_die
store.SEAL_BYTES = 1
main(sys.argv[1:])
"""


def test_a_writer_that_is_killed_leaves_a_cache_that_opens(
    bucket: Bucket, tmp_path: Path, machine: Callable[[str], Path]
) -> None:
    sequences = tmp_path / "many.fasta"
    sequences.write_text("".join(f">p{n}\nMK{'A' * n}\n" for n in range(1, 900)))
    words = ["embed", str(sequences), *ENCODER, "-w", at(bucket)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], env=os.environ, check=False)
    assert (killed.returncode, len(bucket.segments)) == (9, 1)
    assert "w/workspace.json" not in bucket.names()

    machine("second")
    there = int(done(*words).out.split(" embedded, ")[1].split()[0])
    assert 0 < there < 899
    assert ": sound; 899 sequences" in done("cache", "verify", "-w", at(bucket), "--quiet").out

    machine("first")  # what was sealed there and not put is put now
    done(*words)
    assert len(bucket.segments) == 3
    assert ": sound; 899 sequences" in done("cache", "verify", "-w", at(bucket), "--quiet").out


def test_a_model_that_was_half_put_is_none(bucket: Bucket, labelled: Path, machine: Callable[[str], Path]) -> None:
    done("embed", labelled, *ENCODER, "-w", at(bucket))
    done("fit", "--head", "knn", "-w", at(bucket))
    bucket.delete("w/models/knn/manifest.json")
    machine("second")
    assert one_line(run("predict", labelled, "--quiet", "-w", at(bucket))).startswith(f"{at(bucket)}: no model; ")
    machine("first")
    assert one_line(run("predict", labelled, "--quiet", "-w", at(bucket))).startswith(f"{at(bucket)}: no model; ")
    done("fit", "--head", "knn", "-w", at(bucket))
    assert "w/models/knn/manifest.json" in bucket.names()


def test_what_is_cut_off_in_the_store_is_told_by_its_url(
    bucket: Bucket, labelled: Path, machine: Callable[[str], Path]
) -> None:
    done("embed", labelled, *ENCODER, "-w", at(bucket))
    (key,) = bucket.segments
    bucket.put("w/dataset.parquet", bucket.read("w/dataset.parquet")[:-100])
    machine("second")
    table = one_line(run("fit", "-w", at(bucket), "--quiet"))
    bucket.put(key, bucket.read(key)[:-100])
    machine("third")
    segment = one_line(run("cache", "info", "-w", at(bucket), "--quiet"))
    assert segment.startswith(f"s3://{bucket.name}/{key}: this segment is truncated; ")
    assert table.startswith(f"{at(bucket)}/dataset.parquet: its content is not what workspace.json says; ")


def test_a_connection_that_is_lost_leaves_no_block_behind(
    bucket: Bucket, labelled: Path, machine: Callable[[str], Path]
) -> None:
    done("embed", labelled, *ENCODER, "-w", at(bucket))
    second = machine("second")
    with broken("_cat_file", failing("reset by peer")):
        lost = one_line(run("cache", "info", "-w", at(bucket), "--quiet"))
        assert "cannot be read: the connection failed or broke off (reset by peer); check the network" in lost
    with broken("_cat_file", too_short):
        short = one_line(run("cache", "info", "-w", at(bucket), "--quiet"))
        assert ": 9 bytes came instead of " in short
    assert list(second.rglob("*.h5/*")) == []
    assert ": sound; 54 sequences" in done("cache", "verify", "-w", at(bucket), "--quiet").out


def test_what_cannot_be_put_waits_in_the_mirror(bucket: Bucket, labelled: Path, machine: Callable[[str], Path]) -> None:
    done("embed", labelled, *ENCODER, "-w", at(bucket))
    with broken("_put_file", failing("broken pipe")):
        ran = run("fit", "--head", "knn", "-w", at(bucket), "--quiet")
        assert (ran.code, ran.err.count("\n")) == (1, 1)
        assert "cannot be written: the connection failed or broke off (broken pipe)" in ran.err
    assert bucket.names("w/models/") == []
    done("info", "-w", at(bucket))
    assert "w/models/knn/manifest.json" in bucket.names("w/models/")
    machine("second")
    assert "model: knn" in done("info", "-w", at(bucket)).out


def test_of_two_writers_of_a_model_the_last_stays(
    bucket: Bucket, labelled: Path, machine: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    from esmcls import mirrored

    done("embed", labelled, *ENCODER, "-w", at(bucket))
    with mirrored(at(bucket)) as folder:
        machine("second")
        done("fit", "--head", "knn", "--name", "a", "-w", at(bucket))
        machine("first")
        done("fit", "--head", "linear", "--name", "a", "-w", folder)
    said = [record.getMessage() for record in caplog.records if record.name == "esmcls"]
    assert said == [f"{at(bucket)}/models/a: another has put it meanwhile; replaced"]
    machine("second")
    assert "model: a, linear" in done("info", "-w", at(bucket)).out
    done("predict", labelled, "--quiet", "-w", at(bucket))


def test_a_data_set_is_not_replaced_by_that_of_another_writer(
    bucket: Bucket, labelled: Path, tmp_path: Path, machine: Callable[[str], Path]
) -> None:
    from esmcls import mirrored
    from esmcls.errors import EsmclsError

    other = write_set(tmp_path / "other.csv", 90)
    context = mirrored(at(bucket))
    folder = context.__enter__()
    done("embed", other, *ENCODER, "-w", folder)
    machine("second")
    done("embed", labelled, *ENCODER, "-w", at(bucket))
    machine("first")
    with pytest.raises(EsmclsError, match="another has put another data set meanwhile; nothing was put from here but"):
        context.__exit__(None, None, None)
    assert json.loads(bucket.read("w/workspace.json"))["dataset"]["records"] == 54


def test_who_only_embeds_keeps_the_data_set_that_another_has_put_meanwhile(
    bucket: Bucket, labelled: Path, tmp_path: Path, machine: Callable[[str], Path]
) -> None:
    from esmcls import mirrored

    done("embed", labelled, *ENCODER, "-w", at(bucket))
    with mirrored(at(bucket)) as folder:
        done("embed", *ENCODER, "--dtype", "float32", "-w", folder)
        machine("second")
        done("embed", write_set(tmp_path / "other.csv", 90), *ENCODER, "-w", at(bucket))
        machine("first")
    state = json.loads(bucket.read("w/workspace.json"))
    assert len(state["caches"]) == 2
    for name in ("first", "second", "third"):
        machine(name)
        assert f"{state['dataset']['records']} records" in done("info", "-w", at(bucket)).out.replace("records: ", "")
        done("fit", "--head", "knn", "--name", name, "-w", at(bucket))


def test_a_mirror_is_known_through_links(
    bucket: Bucket, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from esmcls.remote.mirror import address_above, mirror_folder

    (tmp_path / "disk").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("ESMCLS_MIRRORS", str(tmp_path / "linked"))
    done("embed", labelled, *ENCODER, "-w", at(bucket))
    name = mirror_folder(at(bucket)).name
    for root in ("linked", "disk"):
        assert address_above(tmp_path / root / name / "cache") == f"{at(bucket)}/cache"


def test_what_is_removed_in_the_store_is_removed_in_the_mirror(bucket: Bucket, labelled: Path) -> None:
    done("embed", labelled, *ENCODER, "-w", at(bucket))
    done("fit", "--head", "knn", "-w", at(bucket))
    bucket.delete(*bucket.names("w/models/knn/"))
    assert "model: " not in done("info", "-w", at(bucket)).out
    bucket.delete(*bucket.names("w/"))
    assert one_line(run("fit", "-w", at(bucket), "--quiet")).startswith(f"{at(bucket)}: no workspace here; ")
    assert bucket.names() == []


def test_nothing_is_written_by_a_command_that_only_reads(bucket: Bucket, labelled: Path) -> None:
    done("embed", labelled, *ENCODER, "-w", at(bucket))
    done("fit", "--head", "knn", "-w", at(bucket))
    stamps = bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]
    done("predict", labelled, "--quiet", "-w", at(bucket))
    done("info", "-w", at(bucket))
    assert bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"] == stamps


# inputs


class Files(http.server.BaseHTTPRequestHandler):
    """Serves files; knows parts of them, cuts them off, or changes them, as told."""

    def __init__(self, served: Served, *args: object) -> None:
        self.served = served
        super().__init__(*args)  # type: ignore[arg-type]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer without content."""
        self.answer(content=False)

    def do_GET(self) -> None:
        """Answer."""
        self.answer(content=True)

    def answer(self, content: bool) -> None:
        """Send a file, or the part that is asked for."""
        data = self.served.files.get(self.path.partition("?")[0])
        status = self.served.status or (404 if data is None else 200)
        data = data or b""
        whole, part = data, self.headers.get("Range", "") if self.served.parts else ""
        if part and status == 200:
            start, _, stop = part.removeprefix("bytes=").partition("-")
            data, status = data[int(start) : int(stop or len(data)) + 1], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.md5(whole).hexdigest()}"')
        if self.served.parts:
            self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{int(start) + len(data) - 1}/{len(whole)}")
        self.end_headers()
        if content:
            self.wfile.write(data[: self.served.cut])
            self.served.sent(self.path)


class Served:
    """What the server has, and what is wrong with it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.parts = True
        self.status = 0
        self.cut: int | None = None
        self.sent: Callable[[str], object] = lambda path: None
        self.address = ""


@pytest.fixture
def served() -> Iterator[Served]:
    files = Served()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, files)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        files.address = f"http://127.0.0.1:{server.server_address[1]}"
        yield files
        server.shutdown()


@pytest.mark.parametrize("parts", [True, False])
def test_a_packed_input_at_a_url_is_read_as_one_here(
    served: Served, labelled: Path, tmp_path: Path, parts: bool
) -> None:
    served.parts = parts
    packed = gzip.compress(labelled.read_bytes())
    served.files["/set.txt"] = packed
    address = f"{served.address}/set.txt?signature=1"
    ran = done("embed", address, "--encoder", "composition", "-w", tmp_path / "there")
    here = done("embed", labelled, "--encoder", "composition", "-w", tmp_path / "here")
    assert ran.out == here.out
    assert f"{address}: id from 'id', sequence from 'sequence', label from 'label'" in ran.err
    states = [json.loads((tmp_path / name / "workspace.json").read_text()) for name in ("there", "here")]
    assert states[0]["dataset"]["digest"] == states[1]["dataset"]["digest"]
    digest = hashlib.sha256(packed).hexdigest()
    assert states[0]["dataset"]["files"] == [
        {"path": f"{served.address}/set.txt", "bytes": len(packed), "sha256": digest}
    ]


def test_inputs_in_a_bucket_and_labels_at_a_url_are_read(bucket: Bucket, served: Served, tmp_path: Path) -> None:
    bucket.put("seqs.fasta", b"".join(b">p%d\nMK%s\n" % (n, b"ACDE"[n % 4 : n % 4 + 1] * (n + 1)) for n in range(40)))
    table = "".join(f"p{n}\tF{n % 4}\n" for n in range(40))
    served.files["/labels.tsv"] = table.encode()
    of = (*ENCODER, "-w", tmp_path / "w")
    ran = done("embed", f"s3://{bucket.name}/seqs.fasta", "--labels", f"{served.address}/labels.tsv", *of)
    assert ran.out.startswith("40 sequences, 40 distinct: 40 embedded")
    done("fit", "--head", "knn", "-w", tmp_path / "w", "-q")
    predicted = done("predict", f"s3://{bucket.name}/seqs.fasta", "-w", tmp_path / "w", "-q").out
    assert predicted.count("\n") == 41


def test_an_error_in_an_input_names_its_url_and_line(served: Served, tmp_path: Path) -> None:
    served.files["/a.fasta"] = b">a\nMKV\n>b\nMK1V\n"
    served.files["/labels.tsv"] = b"a\tF\nb\n"
    address = f"{served.address}/a.fasta"
    line = one_line(run("embed", address, *ENCODER, "-w", tmp_path / "w"))
    assert line.startswith(f"{address}:4:3: record 'b': ")
    line = one_line(run("embed", address, "--labels", f"{served.address}/labels.tsv", *ENCODER, "-w", tmp_path / "w"))
    assert line.startswith(f"{served.address}/labels.tsv:2: ")


def test_the_name_of_a_file_at_a_url_says_its_part(served: Served, labelled: Path, tmp_path: Path) -> None:
    header, *rows = [line.rsplit(",", 1)[0] for line in labelled.read_text().splitlines()]
    served.files["/train.csv"] = "\n".join([header, *rows[:50]]).encode()
    served.files["/test/a.csv"] = "\n".join([header, *rows[50:]]).encode()
    ran = run(
        "embed", f"{served.address}/train.csv", f"{served.address}/test/a.csv", *ENCODER[:2], "-w", tmp_path / "w"
    )
    assert re.search(r", 4 test\n", ran.err)


@pytest.mark.parametrize("parts", [True, False])
def test_a_connection_that_breaks_off_is_one_line_and_leaves_no_data_set(
    served: Served, labelled: Path, tmp_path: Path, parts: bool
) -> None:
    served.parts = parts
    served.files["/set.csv"] = labelled.read_bytes()
    served.cut = 2000
    line = one_line(run("embed", f"{served.address}/set.csv", *ENCODER, "-w", tmp_path / "w"))
    assert line.startswith(f"{served.address}/set.csv: cannot be read beyond ")
    assert line.endswith("; check the network and run again")
    assert json.loads((tmp_path / "w" / "workspace.json").read_text())["dataset"] is None


def test_an_input_that_changes_while_it_is_read_is_refused(served: Served, labelled: Path, tmp_path: Path) -> None:
    content = labelled.read_bytes()
    served.files["/set.csv"] = content
    served.sent = lambda path: served.files.update({"/set.csv": content.replace(b"F0", b"F1")})
    line = one_line(run("embed", f"{served.address}/set.csv", *ENCODER, "-w", tmp_path / "w"))
    assert line == f"{served.address}/set.csv: has changed while it was read; run again"


# what is refused, in one line each


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "cannot be read: nothing is there; check the names, that of the bucket, too"),
        (403, "cannot be read: access is denied ("),
        (500, "cannot be read: the server answers 500; check the address"),
    ],
)
def test_a_server_that_gives_nothing_is_told(served: Served, tmp_path: Path, status: int, message: str) -> None:
    served.files["/a.fasta"] = b">a\nMKV\n"
    served.status = status
    line = one_line(run("embed", f"{served.address}/a.fasta", *ENCODER, "-w", tmp_path / "w"))
    assert line.startswith(f"{served.address}/a.fasta: {message}")


def test_names_that_are_not_there_are_told(bucket: Bucket, labelled: Path, tmp_path: Path) -> None:
    nothing = "cannot be read: nothing is there; check the names, that of the bucket, too"
    for address in (at(bucket, "a.fasta"), "s3://no-such-bucket/a.fasta"):
        assert one_line(run("embed", address, *ENCODER, "-w", tmp_path / "w")) == f"{address}: {nothing}"
    address = "s3://no-such-bucket/w"
    line = one_line(run("embed", labelled, *ENCODER, "-w", address))
    assert line == f"{address}: no such bucket (no-such-bucket); check its name, or make it"
    assert one_line(run("fit", "-w", at(bucket))).startswith(f"{at(bucket)}: no workspace here; ")
    bucket.put("folder/a.fasta", b">a\nMKV\n")
    folder = one_line(run("embed", at(bucket, "folder"), *ENCODER, "-w", tmp_path / "w"))
    assert folder == f"{at(bucket, 'folder')}: a folder, of which files are not listed; give its files, each by its URL"


def test_missing_credentials_are_told(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    line = one_line(run("info", "-w", at(bucket)))
    assert line == (
        f"{at(bucket)}: cannot be listed: no credentials; "
        "set those of the store, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    line = one_line(run("embed", "http://127.0.0.1:9/a.fasta", *ENCODER, "-w", tmp_path / "w"))
    assert line.startswith("http://127.0.0.1:9/a.fasta: cannot be read: the connection failed or broke off (")


def test_vectors_that_are_there_for_a_while_are_not_put(bucket: Bucket) -> None:
    from esmcls import EmbeddingSpec, Workspace, load_encoder, mirrored

    encoder = load_encoder("composition")
    with mirrored(at(bucket)) as folder:
        place = Workspace.open(folder, create=True)
        with place.cache_for(EmbeddingSpec.of(encoder), passing=True) as cache:
            cache.append(["MKV"], encoder.encode(["MKV"]))
    assert bucket.names() == ["w/workspace.json"]
    with mirrored(at(bucket)) as folder, Workspace.open(folder).cache_for(EmbeddingSpec.of(encoder)) as cache:
        assert len(cache) == 1
    assert len(bucket.segments) == 1


def test_the_commands_of_the_page_run(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs" / "remote.md").read_text(encoding="utf-8")
    commands = [line for line in page.splitlines() if line.startswith("esmcls ") and " -w s3://bucket/w" in line]
    assert len(commands) == 5
    (tmp_path / "data").symlink_to(root / "data")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        done(*command.replace("s3://bucket/", f"s3://{bucket.name}/").split()[1:])
    assert (tmp_path / "answers.tsv").read_text().count("\n") == 2210
