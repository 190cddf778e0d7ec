"""A Hugging Face Hub on this machine: the few routes by which a repository is fetched and pushed, and fair-esm's."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from esmcls.errors import FetchError

COMMIT = "5" * 40


@dataclass
class Repository:
    """What the hub has of a repository."""

    files: dict[str, bytes]
    revisions: tuple[str, ...] = ("main",)
    gated: bool = False
    private: bool = False


@dataclass
class Hub:
    """What the server has, what is wrong with it, and what it was asked."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    plain: dict[str, bytes] = field(default_factory=dict)
    """Files that lie outside of repositories, by their path."""
    status: int = 200
    """Answered to everything, unless it is 200."""
    cut_after: list[int] = field(default_factory=list)
    """Bytes that are sent before the line drops, one for each answer that is a large file, or the rest of one."""
    etag: str = ""
    """Of files outside of repositories; default the digest of what they hold."""
    asked: list[str] = field(default_factory=list)
    """Method and path of every request, and the range that was asked for."""
    commits: list[list[str]] = field(default_factory=list)
    """The files of each commit that was pushed."""

    def bodies(self) -> list[str]:
        """Return the files that were sent, in the order in which they were asked for."""
        return [line.removeprefix("GET ") for line in self.asked if line.startswith("GET ") and "/api/" not in line]


class Handler(BaseHTTPRequestHandler):
    """Answers as huggingface.co does."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        """Take a repository, say how its files are to come, take a commit of them."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path).path
        if self.hub.status != 200:
            return self.send(self.hub.status, b"")
        if path == "/api/validate-yaml":
            return self.send_json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            told = json.loads(content)
            name = "/".join(filter(None, [told.get("organization"), told["name"]]))
            private = "private" in (told.get("visibility"), told.get("private") and "private")
            self.hub.repositories.setdefault(name, Repository({}, private=private))
            return self.send_json({"url": f"{self.hub.address}/{name}", "id": name, "name": name})
        if path.endswith("/preupload/main"):
            named = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(content)["files"]]
            return self.send_json({"files": [file | {"shouldIgnore": False} for file in named]})
        return self.commit(path.removeprefix("/api/models/").removesuffix("/commit/main"), content)

    def commit(self, name: str, content: bytes) -> None:
        lines = [json.loads(line) for line in content.splitlines()]
        files = {line["value"]["path"]: line["value"]["content"] for line in lines if line["key"] == "file"}
        self.hub.repositories[name].files.update({file: base64.b64decode(text) for file, text in files.items()})
        self.hub.commits.append(sorted(files))
        address = f"{self.hub.address}/{name}/commit/{COMMIT}"
        self.send_json({"success": True, "commitOid": COMMIT, "commitUrl": address, "pullRequestUrl": None})

    def send_json(self, body: object) -> None:
        self.send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(" ".join(filter(None, [self.command, path, self.headers.get("Range")])))
        if self.hub.status != 200:
            return self.send(self.hub.status, b"")
        if path in self.hub.plain:
            return self.send_file(self.hub.plain[path], self.hub.etag)
        if path.startswith("/api/models/"):
            return self.answer_about(path.removeprefix("/api/models/"))
        name, found, rest = path.strip("/").partition("/resolve/")
        if not found:
            return self.send(404, b"")
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self.refuse(404, "RepoNotFound")
        revision, _, file = rest.partition("/")
        if repository.gated:
            return self.refuse(403, "GatedRepo")
        if revision not in (*repository.revisions, COMMIT):
            return self.refuse(404, "RevisionNotFound")
        if file not in repository.files:
            return self.refuse(404, "EntryNotFound")
        return self.send_file(repository.files[file])

    def answer_about(self, path: str) -> None:
        owner, name, *rest = path.split("/")
        repository = self.hub.repositories.get(f"{owner}/{name}")
        if repository is None:
            return self.refuse(404, "RepoNotFound")
        if rest and rest[1] not in (*repository.revisions, COMMIT):
            return self.refuse(404, "RevisionNotFound")
        files = repository.files
        if rest[:1] == ["tree"]:
            about: object = [
                {"type": "file", "path": file, "size": len(files[file]), "oid": COMMIT} for file in sorted(files)
            ]
        else:
            siblings = [{"rfilename": file} for file in sorted(files)]
            about = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings, "private": False}
        return self.send_json(about)

    def refuse(self, status: int, code: str) -> None:
        self.send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def send_file(self, content: bytes, etag: str = "") -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        headers = {"ETag": f'"{etag or hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send(206 if start else 200, content[start:], headers)

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if len(body) > 10_000 and self.hub.cut_after:
            self.wfile.write(body[: self.hub.cut_after.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(body)


@contextlib.contextmanager
def serving(hub: Hub, patch: pytest.MonkeyPatch, home: Path) -> Iterator[Hub]:
    """Let huggingface_hub in this process ask `hub` alone, with an empty cache below `home`."""
    handler = type("HandlerOfHub", (Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        hub.address = f"http://127.0.0.1:{http.server_address[1]}"
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        patch.setenv("no_proxy", "127.0.0.1")
        use_hub(patch, hub.address, home)
        yield hub
        http.shutdown()


def use_hub(patch: pytest.MonkeyPatch, address: str, home: Path, *, offline: bool = False) -> Path:
    """Set in this process what `HF_ENDPOINT`, `HF_HOME` and `HF_HUB_OFFLINE` set in a new one; return the cache."""
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _http

    for place in (constants, file_download):  # before 1.0 both have it
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(place, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    patch.setattr(constants, "ENDPOINT", address)
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(constants, "HF_HUB_OFFLINE", offline)
    patch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what is less than this when a line drops is lost
    patch.setattr("time.sleep", lambda seconds: None)  # between tries
    getattr(_http, "reset_sessions", lambda: None)()  # before 1.0 a session is offline or is not
    return home / "hub"


def lay_out(cache: Path, name: str, files: dict[str, bytes], revision: str = "main") -> Path:
    """Lay files out as a snapshot in the hub's cache, as huggingface_hub does; return its folder."""
    folder = cache / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    for place in (folder / "refs", folder / "blobs", snapshot):
        place.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / revision).write_text(COMMIT)
    for file, content in files.items():
        blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / file).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


def as_told(fetch: Callable[[], Path]) -> Path:
    """Fetch, and once more where the error says so: before 1.0 huggingface_hub does not try again by itself."""
    try:
        return fetch()
    except FetchError as error:
        if "try again to resume" not in str(error):
            raise
        return fetch()


def files_of(folder: Path) -> dict[str, bytes]:
    """Return what the files of a folder hold, by their names."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}
