"""qbench.storage: what a crash, a full disk or a second process leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbench.storage import (
    append_line,
    digest_file,
    digest_json,
    drop_torn_line,
    folder_bytes,
    new_folder,
    read_lines,
    remove_half_made,
    write_file,
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    return made


# --------------------------------------------------------------------------- whole files


def test_a_file_is_replaced_as_a_whole(folder: Path):
    path = folder / "a.json"
    write_file(path, "old")
    reader = path.open()
    write_file(path, b"new\xff")
    assert path.read_bytes() == b"new\xff"
    assert reader.read() == "old", "who has opened the old file still reads that"
    reader.close()
    assert names(folder) == ["a.json"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("step", ["fsync", "replace", "fchmod"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    folder: Path, monkeypatch, step: str, error: BaseException
):
    path = folder / "a.json"
    write_file(path, "old")

    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(Path if step == "replace" else os, step, fail)
    with pytest.raises(type(error)):
        write_file(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert names(folder) == ["a.json"]


def test_digests(folder: Path):
    (folder / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert digest_file(folder / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert digest_json({"a": 1, "b": [2]}) == digest_json({"b": [2], "a": 1})
    assert digest_json({"a": [1, 2]}) != digest_json({"a": [2, 1]})
    assert digest_json("abc") != digest_json(["abc"])


# --------------------------------------------------------------------------- lines

records = st.lists(
    st.dictionaries(
        st.text(max_size=5),
        st.none()
        | st.booleans()
        | st.integers(-(1 << 63), (1 << 64) - 1)
        | st.text(max_size=8)
        | st.just({"a": ["\n"]}),
        max_size=4,
    ),
    max_size=6,
)


@given(records, st.data())
@settings(deadline=None, max_examples=60)
def test_a_cut_at_any_byte_loses_at_most_the_line_it_falls_into(scratch: Path, written, data):
    path = scratch / "journal.jsonl"
    path.unlink(missing_ok=True)
    ends = [0]
    for record in written:
        append_line(path, record)
        ends.append(path.stat().st_size)
    assert read_lines(path) == written
    if not written:
        return
    cut = data.draw(st.integers(0, ends[-1]))
    path.write_bytes(path.read_bytes()[:cut])
    kept = sum(end <= cut for end in ends) - 1
    assert read_lines(path) == written[:kept]
    drop_torn_line(path)
    assert path.stat().st_size == ends[kept]
    append_line(path, {"after": 1})
    assert read_lines(path) == [*written[:kept], {"after": 1}]


@pytest.mark.parametrize(
    "damage",
    [
        b"{",
        b"",
        b"[1]",
        b"null",
        b"\xff\xfe",
        b'{"a": 1}{"b": 2}',
        b'{"a": 18446744073709551616}',
        b'{"a": -9223372036854775809}',
    ],
)
def test_a_damaged_line_in_the_middle_is_reported_with_its_number(folder: Path, damage: bytes):
    path = folder / "journal.jsonl"
    path.write_bytes(b'{"a": 1}\n' + damage + b'\n{"a": 3}\n')
    with pytest.raises(ValueError, match=r"journal\.jsonl:2: damaged line"):
        read_lines(path)


def test_a_file_that_is_not_there_has_no_lines(folder: Path):
    assert read_lines(folder / "none.jsonl") == []
    drop_torn_line(folder / "none.jsonl")
    assert names(folder) == []


def test_a_value_that_is_no_json_leaves_the_file_as_it_was(folder: Path):
    path = folder / "journal.jsonl"
    append_line(path, {"a": 1})
    with pytest.raises(TypeError):
        append_line(path, {"a": object()})
    assert read_lines(path) == [{"a": 1}]


# --------------------------------------------------------------------------- folders


def test_a_folder_appears_when_it_is_whole(folder: Path):
    target = folder / "deep" / "target"
    with new_folder(target) as out:
        (out / "sub").mkdir()
        (out / "sub" / "file").write_text("content")
        assert not target.exists()
    assert (target / "sub" / "file").read_text() == "content"
    assert names(folder / "deep") == ["target"]
    assert target.stat().st_mode & 0o777 == 0o755
    assert folder_bytes(target) == 7


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_folder_that_fails_leaves_nothing(folder: Path, error: type[BaseException]):
    with pytest.raises(error), new_folder(folder / "target") as out:
        (out / "file").write_text("half")
        raise error
    assert names(folder) == []


def test_of_two_that_make_the_same_folder_the_first_wins(folder: Path):
    target = folder / "target"
    with new_folder(target) as late:
        (late / "file").write_text("late")
        with new_folder(target) as early:
            (early / "file").write_text("early")
    assert (target / "file").read_text() == "early"
    assert names(folder) == ["target"]


def test_many_at_once_make_one_whole_folder(folder: Path):
    target, errors = folder / "target", []
    barrier = threading.Barrier(8)

    def make(number: int) -> None:
        try:
            with new_folder(target) as out:
                for name in ("a", "b"):
                    (out / name).write_text(str(number))
                barrier.wait(10)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=make, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert names(folder) == ["target"]
    assert (target / "a").read_text() == (target / "b").read_text()


def test_a_file_where_the_folder_should_be_is_an_error(folder: Path):
    (folder / "target").write_text("in the way")
    with pytest.raises(OSError), new_folder(folder / "target"):
        pass
    assert names(folder) == ["target"]


def test_a_journal_is_one_json_object_a_line(folder: Path):
    append_line(folder / "j", {"b": "line\nbreak", "a": None})
    assert (folder / "j").read_text().count("\n") == 1
    assert json.loads((folder / "j").read_text()) == {"a": None, "b": "line\nbreak"}


def test_folders_of_killed_processes_are_removed_and_those_of_live_ones_kept(folder: Path):
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom qbench.storage import new_folder\n"
        f"with new_folder(Path({str(folder)!r}) / 'made') as out:\n"
        "    (out / 'half').write_text('x')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code])
    assert done.returncode == -9 and list(folder.glob(".*")), "it left something"
    with new_folder(folder / "mine") as out:
        (out / "whole").write_text("y")
        remove_half_made(folder)
        assert (out / "whole").exists()
    assert [p.name for p in folder.iterdir()] == ["mine"]
