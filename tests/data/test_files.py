"""Files of cards: finding, downloading, verifying and unpacking."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mirror import Mirror, serving

from qbench.data import digests, download
from qbench.data.digests import digest_path
from qbench.data.download import size_of
from qbench.data.files import locate, unpacked
from qbench.errors import UserError
from qbench.spec.files import HubFile, SourceFile
from qbench.spec.models import Companion, ModelSource
from qbench.storage import digest_file

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Site:
    """A small web site that counts what it is asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.short: set[str] = set()
        self.asked: list[str] = []
        self.sent = 0
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(site.files[self.path])))
                self.end_headers()

            def do_GET(self) -> None:
                site.asked.append(self.path)
                body = site.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                begin = int(self.headers.get("Range", "bytes=0-")[6:-1])
                if begin >= len(body):
                    self.send_error(416)
                    return
                self.send_response(206 if begin else 200)
                body = body[begin:]
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                sent = body[: len(body) // 2] if self.path in site.short else body
                site.sent += len(sent)
                self.wfile.write(sent)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def downloads(folder: Path) -> list[Path]:
    return [p for p in (folder / "cache").rglob("*") if p.is_file() and p.suffix != ".lock"]


def refused(action: Any, *args: Any) -> str:
    with pytest.raises(UserError) as caught:
        action(*args)
    return str(caught.value)


# --------------------------------------------------------------------------- where files are


def test_the_cards_folder_comes_before_assets_and_assets_before_the_web(
    tmp_path, monkeypatch, site: Site
):
    root, assets = tmp_path / "root", tmp_path / "assets"
    for folder in (root, assets):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "net.bin").write_bytes(CONTENT)
    site.files["/net.bin"] = CONTENT
    monkeypatch.setenv("QBENCH_ASSETS", str(assets))
    file = SourceFile(path="sub/net.bin", url=f"{site.url}/net.bin", sha256=SHA256)
    assert locate(file, root, print) == root / "sub" / "net.bin"
    (root / "sub" / "net.bin").unlink()
    assert locate(file, root, print) == assets / "sub" / "net.bin"
    assert site.asked == []
    (assets / "sub" / "net.bin").unlink()
    fetched = locate(file, root, print)
    assert tmp_path / "cache" in fetched.parents
    assert fetched.read_bytes() == CONTENT
    assert site.asked == ["/net.bin"]


def test_a_file_is_downloaded_once(tmp_path, site: Site):
    site.files["/net.bin"] = CONTENT
    file = SourceFile(url=f"{site.url}/net.bin", sha256=SHA256)
    said: list[str] = []
    first = locate(file, tmp_path, said.append)
    assert said == [f"downloading {site.url}/net.bin"]
    assert locate(file, tmp_path, said.append) == first
    assert len(site.asked) == len(said) == 1
    first.write_bytes(b"damaged")
    assert locate(file, tmp_path, print).read_bytes() == CONTENT
    assert len(site.asked) == 2


def test_two_files_of_one_name_do_not_meet_in_the_cache(tmp_path, site: Site):
    site.files = {"/a/model.onnx": b"one", "/b/model.onnx": b"two"}
    for path, body in site.files.items():
        file = SourceFile(url=site.url + path, sha256=hashlib.sha256(body).hexdigest())
        assert locate(file, tmp_path, print).read_bytes() == body


def test_a_download_that_is_another_file_is_refused_and_not_kept(tmp_path, site: Site):
    site.files["/net.bin"] = b"something else"
    file = SourceFile(url=f"{site.url}/net.bin", sha256=SHA256)
    message = refused(locate, file, tmp_path, print)
    assert SHA256 in message and site.url in message
    assert downloads(tmp_path) == []


def test_a_download_that_ends_half_way_goes_on_from_there(tmp_path, site: Site):
    large = CONTENT * 100
    site.files["/net.bin"] = large
    site.short.add("/net.bin")
    digest = hashlib.sha256(large).hexdigest()
    file = SourceFile(path="net.bin", url=f"{site.url}/net.bin", sha256=digest)
    message = refused(locate, file, tmp_path, print)
    assert "cannot download" in message and "QBENCH_ASSETS" in message
    (part,) = downloads(tmp_path)
    kept = part.stat().st_size
    assert kept > len(large) // 4
    site.short.clear()
    site.sent = 0
    assert locate(file, tmp_path, print).read_bytes() == large
    assert site.sent == len(large) - kept
    assert not part.exists()


def test_a_damaged_half_of_a_download_is_thrown_away(tmp_path, site: Site):
    site.files["/net.bin"] = CONTENT
    file = SourceFile(url=f"{site.url}/net.bin", sha256=SHA256)
    found = locate(file, tmp_path, print)
    found.rename(found.with_name(f".{found.name}.part"))
    (part,) = downloads(tmp_path)
    part.write_bytes(b"?" * len(CONTENT))
    assert SHA256 in refused(locate, file, tmp_path, print)
    assert locate(file, tmp_path, print).read_bytes() == CONTENT


def test_a_mirror_takes_the_place_of_every_host(tmp_path, site: Site, monkeypatch):
    site.files["/upstream.example/a/net.bin"] = CONTENT
    monkeypatch.setenv("QBENCH_MIRROR", f"{site.url}/")
    file = SourceFile(url="https://upstream.example/a/net.bin", sha256=SHA256)
    assert size_of(file) == len(CONTENT)
    assert locate(file, tmp_path, print).read_bytes() == CONTENT
    site.files["/upstream.example/a/other.bin"] = b"forged"
    forged = SourceFile(url="https://upstream.example/a/other.bin", sha256=SHA256)
    assert SHA256 in refused(locate, forged, tmp_path, print)


def test_a_site_without_the_file_or_without_an_answer_is_a_users_error(tmp_path, site: Site):
    for url in (f"{site.url}/none", "http://127.0.0.1:9/closed", "http://[broken/"):
        file = SourceFile(path="net.bin", url=url, sha256=SHA256)
        message = refused(locate, file, tmp_path, print)
        assert url in message and "Put the file at net.bin" in message
    assert downloads(tmp_path) == []


def test_a_file_with_another_digest_is_refused_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.delenv("QBENCH_ASSETS", raising=False)
    (tmp_path / "net.bin").write_bytes(b"other")
    file = SourceFile(path="net.bin", sha256=SHA256)
    message = refused(locate, file, tmp_path, print)
    assert str(tmp_path / "net.bin") in message
    assert SHA256 in message and hashlib.sha256(b"other").hexdigest() in message


def test_a_missing_file_says_where_it_was_looked_for(tmp_path, monkeypatch):
    file = SourceFile(path="sub/net.bin")
    monkeypatch.delenv("QBENCH_ASSETS", raising=False)
    message = refused(locate, file, tmp_path, print)
    assert "sub/net.bin" in message and str(tmp_path) in message and "not set" in message
    monkeypatch.setenv("QBENCH_ASSETS", str(tmp_path / "elsewhere"))
    assert str(tmp_path / "elsewhere") in refused(locate, file, tmp_path, print)


# --------------------------------------------------------------------------- the Hub

COMMIT = "714eb0fa89d2f80546fda750413ed43d93601a13"


class Hub:
    """The part of the Hugging Face Hub that serves files, on this machine."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.digests: dict[str, str] = {}
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                hub.asked.append(f"{self.command} {self.path}")
                content = hub.files.get(self.path)
                if content is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("X-Repo-Commit", COMMIT)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hub.digests[self.path]}"')
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def put(self, file: str, content: bytes, digest: str | None = None) -> None:
        path = f"/org/net/resolve/{COMMIT}/{file}"
        self.files[path] = content
        self.digests[path] = digest or hashlib.sha256(content).hexdigest()


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    made = Hub()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{made.server.server_port}")
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def hub_file(file: str = "onnx/model.onnx", **more: Any) -> SourceFile:
    return SourceFile(hub=HubFile(repo="org/net", file=file, revision=COMMIT), **more)


def test_a_file_of_the_hub_is_fetched_once(tmp_path, hub: Hub):
    hub.put("onnx/model.onnx", CONTENT)
    said: list[str] = []
    for _ in range(2):
        path = locate(hub_file(sha256=SHA256), tmp_path, said.append)
        assert path.read_bytes() == CONTENT and tmp_path / "cache" in path.parents
    assert len([line for line in hub.asked if line.startswith("GET /org/net/resolve")]) == 1
    assert len(said) == 1 and "org/net/onnx/model.onnx" in said[0] and COMMIT in said[0]


def test_a_small_file_of_the_hub_has_gits_digest(tmp_path, hub: Hub):
    git = hashlib.sha1(b"blob 5\0hello").hexdigest()
    assert git == "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"  # `printf hello | git hash-object ...`
    hub.put("config.json", b"hello", git)
    assert locate(hub_file("config.json"), tmp_path, print).read_bytes() == b"hello"


def test_a_file_that_differs_from_the_hubs_digest_is_refused_and_not_kept(tmp_path, hub: Hub):
    hub.put("onnx/model.onnx", b"other" * 100, SHA256)
    message = refused(locate, hub_file(), tmp_path, print)
    assert SHA256 in message and "is damaged" in message
    assert not [p for p in downloads(tmp_path) if p.read_bytes() == b"other" * 100]
    hub.put("onnx/model.onnx", CONTENT)
    assert locate(hub_file(), tmp_path, print).read_bytes() == CONTENT


def test_the_cards_digest_counts_for_the_hub_too(tmp_path, hub: Hub):
    hub.put("onnx/model.onnx", b"replaced")
    assert "expected " + SHA256 in refused(locate, hub_file(sha256=SHA256), tmp_path, print)


def test_a_hub_without_the_file_or_without_an_answer_is_a_users_error(
    tmp_path, hub: Hub, monkeypatch
):
    message = refused(locate, hub_file("none.onnx", path="net.onnx"), tmp_path, print)
    assert "org/net/none.onnx" in message and "Put the file at net.onnx" in message
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the library tries again, and again
    message = refused(locate, hub_file(), tmp_path, print)
    assert "cannot download" in message and "name it by 'path'" in message


def test_without_its_library_the_hub_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install huggingface_hub" in refused(locate, hub_file(), tmp_path, print)
    (tmp_path / "net.onnx").write_bytes(CONTENT)
    assert locate(hub_file(path="net.onnx"), tmp_path, print) == tmp_path / "net.onnx"


def test_companions_are_found_next_to_the_model(tmp_path, hub: Hub):
    beside = Companion(name="model.onnx.data")
    hub.put("onnx/model.onnx.data", CONTENT)
    source = ModelSource(hub=HubFile(repo="org/net", file="onnx/model.onnx", revision=COMMIT))
    assert locate(source.companion_file(beside), tmp_path, print).read_bytes() == CONTENT
    local = ModelSource(path="files/model.onnx").companion_file(beside)
    assert local.path == "files/model.onnx.data"
    remote = ModelSource(url="http://h/a/model.onnx", sha256=SHA256).companion_file(
        Companion(name="model.onnx.data", sha256=SHA256)
    )
    assert remote.url == "http://h/a/model.onnx.data" and remote.sha256 == SHA256


# --------------------------------------------------------------------------- Git repositories

REPO = "https://git.example/org/data"
STORED = {
    "set/a.bin": CONTENT,
    "set/sub/b.txt": b"one\r\ntwo\n",  # Git's filters would change the ends of lines
    ".gitattributes": b"*.txt text eol=lf\n",
    "other/large.bin": bytes(range(256)) * 4000,
}


@pytest.fixture
def mirror(tmp_path, monkeypatch) -> Iterator[Mirror]:
    with serving(tmp_path / "mirror") as made:
        monkeypatch.setenv("QBENCH_MIRROR", made.url)
        yield made


def test_a_folder_of_a_repository_is_fetched_once_and_byte_by_byte(tmp_path, mirror: Mirror):
    file = SourceFile(git=mirror.git(REPO, "set", STORED))
    said: list[str] = []
    for _ in range(2):
        found = locate(file, tmp_path, said.append)
    assert {p.relative_to(found).as_posix(): p.read_bytes() for p in found.rglob("*.*")} == {
        "a.bin": STORED["set/a.bin"],
        "sub/b.txt": STORED["set/sub/b.txt"],
    }
    assert len(said) == 1 and REPO in said[0]
    assert sum(p.stat().st_size for p in downloads(tmp_path)) < 2 * len(CONTENT)  # nothing else


def test_a_file_and_all_of_a_repository(tmp_path, mirror: Mirror):
    at = mirror.git(REPO, "set/a.bin", STORED)
    assert locate(SourceFile(git=at), tmp_path, print).read_bytes() == CONTENT
    every = at.model_copy(update={"path": "."})
    found = locate(SourceFile(git=every), tmp_path, print)
    assert {p.relative_to(found).as_posix() for p in found.rglob("*") if p.is_file()} == {*STORED}


def test_a_repository_is_read_at_the_cards_commit(tmp_path, mirror: Mirror):
    first = mirror.git(REPO, "set/a.bin", STORED)
    mirror.commit(REPO, {"set/a.bin": b"changed later"})
    assert locate(SourceFile(git=first), tmp_path, print).read_bytes() == CONTENT


def test_a_repository_without_the_commit_or_the_path_is_a_users_error(tmp_path, mirror: Mirror):
    at = mirror.git(REPO, "set", STORED)
    for wrong, named in (
        ({"commit": "0" * 40}, "0000000000"),
        ({"path": "none"}, "has no none"),
        ({"repo": "https://git.example/org/gone"}, "org/gone"),
    ):
        message = refused(locate, SourceFile(git=at.model_copy(update=wrong)), tmp_path, print)
        assert named in message
    assert downloads(tmp_path) == []


def test_without_git_the_message_names_it(tmp_path, mirror: Mirror, monkeypatch):
    at = mirror.git(REPO, "set", STORED)
    monkeypatch.setenv("PATH", "")
    assert "git is not installed" in refused(locate, SourceFile(git=at), tmp_path, print)


def test_a_link_in_a_repository_is_refused(tmp_path, mirror: Mirror):
    at = mirror.git(REPO, "set", {"set/link": b"/etc/passwd"}, mode="120000")
    assert "is a link" in refused(locate, SourceFile(git=at), tmp_path, print)


# --------------------------------------------------------------------------- folders, archives


def folder(path: Path) -> Path:
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"graph")
    (path / "variables" / "data").write_bytes(CONTENT)
    return path


def test_a_folders_digest_is_that_of_its_names_and_contents(tmp_path):
    first, second = folder(tmp_path / "a"), folder(tmp_path / "b")
    digest = digest_path(first)
    assert digest == digest_path(second)
    assert locate(SourceFile(path="a", sha256=digest), tmp_path, print) == first
    (second / "saved_model.pb").write_bytes(b"grape")
    assert digest_path(second) != digest
    assert digest in refused(locate, SourceFile(path="b", sha256=digest), tmp_path, print)
    (second / "saved_model.pb").write_bytes(b"graph")
    (second / "saved_model.pb").rename(second / "other.pb")
    assert digest_path(second) != digest


def test_a_link_out_of_a_folder_is_refused(tmp_path):
    made = folder(tmp_path / "a")
    (tmp_path / "secret").write_text("x")
    (made / "link").symlink_to(tmp_path / "secret")
    assert "points out" in refused(digest_path, made)


def test_archives_are_unpacked_once(tmp_path):
    made = folder(tmp_path / "a")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(made, "net")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in made.rglob("*"):
            archive.write(path, Path("net") / path.relative_to(made))
    for name in ("a.tar.gz", "a.zip"):
        found = unpacked(tmp_path / name)
        assert digest_path(found / "net") == digest_path(made)
        assert unpacked(tmp_path / name) == found
    assert unpacked(made) == made


def test_a_file_in_a_zip_is_named_by_member(tmp_path):
    """Also one at the end of a file of another kind, as in a .tflite with metadata."""
    path = tmp_path / "net.tflite"
    path.write_bytes(b"TFL3" + bytes(100))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("vocab.txt", "one\ntwo\n")
    file = SourceFile(path="net.tflite", sha256=digest_file(path), member="vocab.txt")
    assert locate(file, tmp_path, print).read_text() == "one\ntwo\n"
    assert locate(file, tmp_path, print) == locate(file, tmp_path, print)
    absent = SourceFile(path="net.tflite", member="labels.txt")
    assert "labels.txt" in refused(locate, absent, tmp_path, print)


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt"])
def test_an_archive_that_would_land_outside_is_refused(tmp_path, name: str):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "x")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    for file in ("a.zip", "a.tar.gz"):
        assert "outside the archive" in refused(unpacked, tmp_path / file)
    assert not list(tmp_path.rglob("out.txt"))
    assert not Path("/tmp/out.txt").exists()


def test_a_link_in_an_archive_that_leads_outside_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = tarfile.SYMTYPE, "../../etc"
        archive.addfile(member)
    assert "cannot be unpacked" in refused(unpacked, tmp_path / "a.tar.gz")


class Zeros(io.RawIOBase):
    """So many zeros, counting how many were read."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        buffer[:] = bytes(len(buffer))
        return len(buffer)


@pytest.mark.parametrize("name", ["a.zip", "a.tgz"])
def test_an_archive_that_would_unpack_to_far_more_is_refused_before_it_does(
    tmp_path, monkeypatch, name: str
):
    """60 MB of zeros, in two parts of which the first alone may pass."""
    parts = {"small": 1_000_000, "large": 59_000_000}
    path = tmp_path / name
    if name == "a.zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for part, size in parts.items():
                archive.writestr(part, bytes(size))
    else:
        with tarfile.open(path, "w:gz") as archive:
            for part, size in parts.items():
                member = tarfile.TarInfo(part)
                member.size = size
                archive.addfile(member, io.BufferedReader(Zeros()))
    assert path.stat().st_size < 100_000
    read = 0
    gunzip = gzip.GzipFile.read

    def counted(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        nonlocal read
        data = gunzip(self, size)
        read += len(data)
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    assert "bomb" in refused(unpacked, path)
    assert read < 2_000_000
    assert not list((tmp_path / "cache" / "unpacked").glob("*"))


def test_a_damaged_archive_is_a_users_error(tmp_path):
    made = folder(tmp_path / "a")
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        archive.add(made, "net")
    content = (tmp_path / "a.tgz").read_bytes()
    for damaged in (content[: len(content) // 2], content[:30] + bytes(50) + content[80:]):
        (tmp_path / "a.tgz").write_bytes(damaged)
        refused(unpacked, tmp_path / "a.tgz")
    assert not list((tmp_path / "cache" / "unpacked").glob("*"))


def test_a_file_is_digested_once_while_it_stays_as_it_is(tmp_path, monkeypatch):
    path, asked = tmp_path / "net.onnx", []

    def counted(path: Path) -> str:
        asked.append(path)
        return digest_file(path)

    monkeypatch.setattr(digests, "digest_file", counted)
    path.write_bytes(CONTENT)
    assert [digest_path(path) for _ in range(2)] == [SHA256] * 2
    assert len(asked) == 2  # written just now: it may be written again at the same time
    os.utime(path, (1e9, 1e9))
    assert [digest_path(path) for _ in range(3)] == [SHA256] * 3 and len(asked) == 3
    path.write_bytes(CONTENT[::-1])
    os.utime(path, (1e9 + 1, 1e9 + 1))
    assert digest_path(path) == hashlib.sha256(CONTENT[::-1]).hexdigest()


def test_a_file_that_is_not_an_archive_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(CONTENT)
    assert "not a folder, .zip or .tar.gz" in refused(unpacked, tmp_path / "a.zip")


def test_a_member_read_first_leaves_the_archive_to_be_unpacked(tmp_path):
    path = tmp_path / "net.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("vocab.txt", "saved/saved_model.pb"):
            archive.writestr(name, name)
    locate(SourceFile(path="net.zip", member="vocab.txt"), tmp_path, print)
    names = {str(p.relative_to(unpacked(path))) for p in unpacked(path).rglob("*") if p.is_file()}
    assert names == {"vocab.txt", "saved/saved_model.pb"}


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret"])
def test_a_member_is_inside_its_archive(name: str):
    with pytest.raises(ValueError, match="member"):
        SourceFile(path="net.zip", member=name)


def test_git_is_not_told_of_another_repository(monkeypatch: pytest.MonkeyPatch):
    """As hooks have it: GIT_DIR goes before -C."""
    monkeypatch.setenv("GIT_DIR", "/mine/.git")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "0")
    assert "GIT_DIR" not in download.environment() and "GIT_CONFIG_COUNT" in download.environment()
