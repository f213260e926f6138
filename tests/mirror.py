"""A mirror of the web on this machine, as ``QBENCH_MIRROR`` names one: files and Git repositories
below their host's name."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from qbench.data.download import HUB
from qbench.spec.files import GitPath, HubFile


def git(*arguments: str | Path, stdin: bytes = b"", **environment: str) -> bytes:
    return subprocess.run(
        ["git", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=True,
        env={**os.environ, **environment},
    ).stdout


def needs_git() -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")


@dataclass
class Mirror:
    """Files and repositories by their place, such as ``example.org/a/net.bin``."""

    folder: Path
    files: dict[str, bytes | Path] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def put(self, url: str, content: bytes | Path) -> str:
        """Serve a file as ``url``; returns its SHA-256."""
        self.files[url.partition("://")[2]] = content
        data = content if isinstance(content, bytes) else content.read_bytes()
        return hashlib.sha256(data).hexdigest()

    def hub(self, file: HubFile, content: bytes) -> None:
        """Serve a file of the Hugging Face Hub."""
        self.put(f"{HUB}/{file.repo}/resolve/{file.revision}/{file.file}", content)

    def commit(self, repo: str, files: Mapping[str, bytes], mode: str = "100644") -> str:
        """Serve a repository that holds ``files`` in addition to what it held; returns the id of
        its new commit."""
        bare = self.folder / repo.partition("://")[2]
        if not bare.exists():
            git("init", "-q", "--bare", bare)
            for key in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
                git("-C", bare, "config", key, "true")
        stream = [b"commit refs/heads/main\ncommitter t <t@example.org> 1767225600 +0000\n"]
        stream.append(b"data 5\nfiles\n")
        if git("-C", bare, "for-each-ref"):
            stream.append(b"from refs/heads/main^0\n")
        for name, content in files.items():
            stream.append(f"M {mode} inline {name}\ndata {len(content)}\n".encode() + content)
            stream.append(b"\n")
        git("-C", bare, "fast-import", "--quiet", stdin=b"".join(stream))
        return git("-C", bare, "rev-parse", "refs/heads/main").decode().strip()

    def git(
        self, repo: str, path: str, files: Mapping[str, bytes], mode: str = "100644"
    ) -> GitPath:
        """Serve ``files`` in a repository; returns ``path`` in it."""
        return GitPath(repo=repo, commit=self.commit(repo, files, mode), path=path)


class _Handler(BaseHTTPRequestHandler):
    mirror: Mirror

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        if "service=git-upload-pack" in self.path:
            self._git()
        else:
            self._file(body=True)

    def do_POST(self) -> None:
        self._git()

    def _file(self, body: bool) -> None:
        self.mirror.asked.append(f"{self.command} {self.path}")
        content = self.mirror.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        data = content if isinstance(content, bytes) else content.read_bytes()
        self.send_response(200)
        if "/resolve/" in self.path:  # the Hugging Face Hub's
            self.send_header("X-Repo-Commit", self.path.partition("/resolve/")[2].split("/")[0])
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def _git(self) -> None:
        """Pass the request to Git's own server."""
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length", 0))
        answer = git(
            "http-backend",
            stdin=self.rfile.read(length),
            GIT_PROJECT_ROOT=str(self.mirror.folder),
            GIT_HTTP_EXPORT_ALL="1",
            REQUEST_METHOD=self.command,
            PATH_INFO=path,
            QUERY_STRING=query,
            CONTENT_TYPE=self.headers.get("Content-Type", ""),
            HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""),
            GIT_PROTOCOL=self.headers.get("Git-Protocol", ""),
            CONTENT_LENGTH=str(length),
        )
        head, _, body = answer.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for key, value in fields.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[Mirror]:
    """A mirror that serves until the block ends."""
    needs_git()
    made = Mirror(folder)
    handler = type("Handler", (_Handler,), {"mirror": made})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
