"""A server that speaks the few routes of the Hugging Face Hub by which a model is pushed and fetched.

Source of the routes: huggingface_hub 2.4.0, hf_api.py (create_repo, create_commit, repo_info) and file_download.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server holds: the files of each repository, by its name; and the refusal that it answers pushes with."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    commits: list[list[str]] = field(default_factory=list)
    refuse: int | None = None
    address: str = ""


class _Answers(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _send(self, body: object, status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _missing(self, code: str) -> None:
        self._send({"error": "not found"}, 404, X_Error_Code=code, X_Error_Message="not found")

    def do_POST(self) -> None:
        """Take a repository, ask for its files, take a commit."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path).path
        if path == "/api/validate-yaml":
            self._send({"errors": [], "warnings": []})
        elif self.hub.refuse is not None:
            self._send({"error": "no"}, self.hub.refuse)
        elif path == "/api/repos/create":
            told = json.loads(content)
            name = "/".join(part for part in (told.get("organization"), told["name"]) if part)
            self.hub.repositories.setdefault(name, {})
            self.hub.private |= (
                {name} if "private" in (told.get("visibility"), told.get("private") and "private") else set()
            )
            self._send({"url": f"{self.hub.address}/{name}", "id": name, "name": name})
        elif path.endswith("/preupload/main"):
            files = json.loads(content)["files"]
            self._send({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]})
        else:
            self._commit(path.removeprefix("/api/models/").removesuffix("/commit/main"), content)

    def _commit(self, name: str, content: bytes) -> None:
        lines = [json.loads(line) for line in content.splitlines()]
        files = {line["value"]["path"]: line["value"]["content"] for line in lines if line["key"] == "file"}
        self.hub.repositories[name] |= {path: base64.b64decode(text) for path, text in files.items()}
        self.hub.commits.append(sorted(files))
        url = f"{self.hub.address}/{name}/commit/{COMMIT}"
        self._send({"success": True, "commitOid": COMMIT, "commitUrl": url, "pullRequestUrl": None})

    def do_HEAD(self) -> None:
        """Tell of a file."""
        self.do_GET()

    def do_GET(self) -> None:
        """Give what is told of a repository, or a file of it."""
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        files = self.hub.repositories.get(name)
        if files is None:
            self._missing("RepoNotFound")
        elif parts[0] == "api" and parts[4:5] == ["tree"]:
            self._send([self._entry(path, content) for path, content in files.items()])
        elif parts[0] == "api":
            siblings = [{"rfilename": path} for path in files]
            self._send({"id": name, "modelId": name, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings})
        elif "/".join(parts[4:]) in files:
            content = files["/".join(parts[4:])]
            etag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
            self._send(content, ETag=f'"{etag}"', X_Repo_Commit=COMMIT)
        else:
            self._missing("EntryNotFound")

    def _entry(self, path: str, content: bytes) -> dict[str, Any]:
        oid = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        return {"type": "file", "path": path, "size": len(content), "oid": oid}


@contextmanager
def serving() -> Iterator[Hub]:
    """Run a hub on this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (_Answers,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
