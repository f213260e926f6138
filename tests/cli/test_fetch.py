"""``qbench fetch``: the files of a suite, listed and downloaded ahead."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest
import yaml
from conftest import Project
from mirror import Mirror, serving


@pytest.fixture
def mirror(tmp_path) -> Iterator[Mirror]:
    with serving(tmp_path / "mirror") as made:
        yield made


@pytest.fixture
def remote(project: Project, mirror: Mirror) -> Project:
    """The project with its model at a URL, its data in a repository."""
    model, data = (project.root / name for name in ("net.fake", "blobs.npz"))
    card = yaml.safe_load((project.root / "models/net.yaml").read_text())
    url = "https://models.example/a/net.fake"
    digest = mirror.put(url, model.read_bytes())
    card["sources"]["fake"] |= {"url": url, "sha256": digest}
    project.write("models/net.yaml", card)
    at = mirror.git("https://git.example/org/data", "set/blobs.npz", {"set/blobs.npz": b""})
    at = mirror.git(at.repo, at.path, {"set/blobs.npz": data.read_bytes()})
    card = yaml.safe_load((project.root / "datasets/blobs.yaml").read_text())
    card["files"]["data"] = {"git": {**at.model_dump(), "bytes": data.stat().st_size}}
    project.write("datasets/blobs.yaml", card)
    model.unlink()
    data.unlink()
    project.env["QBENCH_MIRROR"] = mirror.url
    return project


def test_files_are_listed_with_their_sizes_and_users(remote: Project, mirror: Mirror):
    suite = remote.suite()
    done = remote.qbench("fetch", suite, "--list")
    assert done.returncode == 0, done.stderr
    assert "models.example/a/net.fake" in done.stdout and "to fetch" in done.stdout
    answer = json.loads(remote.qbench("fetch", suite, "--list", "--json").stdout)
    size = len(mirror.files["models.example/a/net.fake"])  # type: ignore[arg-type]
    assert answer["bytes"]["https://models.example/a/net.fake"] == size
    assert {*answer["states"].values()} == {"to fetch"}
    assert "GET /models.example/a/net.fake" not in mirror.asked


def test_a_fetched_suite_runs_without_the_network(remote: Project, mirror: Mirror):
    suite = remote.suite(precisions=["fp32"])
    assert remote.qbench("fetch", suite).returncode == 0
    remote.env["QBENCH_MIRROR"] = "http://127.0.0.1:9"
    answer = json.loads(remote.qbench("fetch", suite, "--json").stdout)
    assert {*answer["states"].values()} == {"here"} and not answer["failed"]
    assert remote.run_json(suite)["counts"] == {"ok": 1}
    (case,) = remote.cases()
    assert case["accuracy"] == 1.0


def test_what_cannot_be_fetched_is_named_and_the_rest_is_fetched(remote: Project, mirror: Mirror):
    del mirror.files["models.example/a/net.fake"]
    suite = remote.suite()
    done = remote.qbench("fetch", suite, "--json")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    (failed,) = answer["failed"].values()
    assert "the server says 404" in failed and len(failed.splitlines()[0]) <= 200
    again = json.loads(remote.qbench("fetch", suite, "--list", "--json").stdout)
    assert sorted(again["states"].values()) == ["here", "to fetch"]


def test_a_file_without_an_address_is_said_before_anything_is_fetched(remote: Project):
    card = yaml.safe_load((remote.root / "models/net.yaml").read_text())
    del card["sources"]["fake"]["url"]
    remote.write("models/net.yaml", card)
    suite = remote.suite()
    done = remote.qbench("fetch", suite, "--list")
    assert done.returncode == 1 and "not to be had" in done.stdout
    done = remote.qbench("run", suite)
    assert done.returncode == 2 and "net.fake" in done.stderr


def test_an_untried_card_says_so_before_a_run_and_in_the_list(remote: Project):
    card = yaml.safe_load((remote.root / "models/net.yaml").read_text())
    remote.write("models/net.yaml", {**card, "untried": "its file was never at hand"})
    done = remote.qbench("run", remote.suite(precisions=["fp32"]), "--no-report")
    assert "net is untried: its file was never at hand" in done.stderr
    listed = [line for line in remote.qbench("models").stdout.splitlines() if "yolov10n" in line]
    assert len(listed) == 1 and "untried" in listed[0]


def test_an_unknown_model_is_a_users_error(remote: Project):
    done = remote.qbench("fetch", remote.suite(), "--model", "nte")
    assert done.returncode == 2 and "Did you mean 'net'?" in done.stderr


def test_digests_of_the_mirror_are_checked(remote: Project, mirror: Mirror):
    mirror.put("https://models.example/a/net.fake", b"forged")
    done = remote.qbench("fetch", remote.suite(), "--json")
    assert done.returncode == 1
    assert hashlib.sha256(b"forged").hexdigest() not in done.stdout
    assert "another file than expected" in done.stdout
