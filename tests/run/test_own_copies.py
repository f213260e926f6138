"""``--data NAME=FOLDER``: the user's own copies of data sets."""

from __future__ import annotations

import pytest
import yaml
from conftest import Project
from data_sets import picture, write_folder

KINDS = "abcdefghij"


@pytest.fixture
def pictures(project: Project) -> Project:
    """The project with a part of a set of pictures, and the card of all of it without its files."""
    card = yaml.safe_load((project.root / "models/net.yaml").read_text())
    part = {
        "name": "part",
        "format": "image-folder",
        "files": {"images": {"path": "part"}},
        "whole": "whole",
    }
    whole = {"name": "whole", "format": "image-folder", "files": {"images": {"path": "nowhere"}}}
    project.write("datasets/part.yaml", part)
    project.write("datasets/whole.yaml", whole)
    steps = [{"color": "gray"}, {"resize": {"size": [8, 8]}}, {"scale": 0.01}, {"layout": "NCHW"}]
    card |= {
        "preprocess": {"image": steps},
        "evaluation": {"dataset": "part"},
        "calibration": {"dataset": "blobs", "items": "0:20"},
        "expected": {"value": 1.0, "items": 10},
    }
    project.write("models/net.yaml", card)
    write_folder(project.root / "part", {f"{kind}/a.png": picture(8, 8, 1) for kind in KINDS})
    files = {f"{kind}/{n}.png": picture(8, 8, n) for kind in KINDS for n in range(3)}
    write_folder(project.root / "mine", files)
    return project


def test_the_official_set_takes_the_place_of_its_part(pictures: Project):
    suite = pictures.suite(precisions=["fp32"])
    args = ["run", suite, "--no-report"]
    assert pictures.qbench(*args).returncode in (0, 1)
    (case,) = pictures.cases()
    assert case["accuracy_items"] == 10
    done = pictures.qbench(*args, "--data", f"whole={pictures.root / 'mine'}")
    assert done.returncode in (0, 1), done.stderr
    assert "check its preprocessing" not in done.stderr  # the card's accuracy is of the part
    (case,) = pictures.cases()
    assert case["accuracy_items"] == 30


def test_a_data_set_is_read_from_a_copy(pictures: Project):
    (pictures.root / "part").rename(pictures.root / "elsewhere")
    suite = pictures.suite(precisions=["fp32"])
    done = pictures.qbench("plan", suite, "--data", f"part={pictures.root / 'elsewhere'}")
    assert done.returncode == 0, done.stderr
    assert pictures.qbench("plan", suite).returncode == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("whoel=mine", "Did you mean 'whole'?"),
        ("whole=gone", "there is no gone"),
        ("whole", "it names a data set and your copy of it"),
    ],
)
def test_a_wrong_copy_is_a_users_error(pictures: Project, given: str, said: str):
    done = pictures.qbench("run", pictures.suite(), "--data", given)
    assert done.returncode == 2 and said in done.stderr


def test_a_model_file_has_one_set_of_data(pictures: Project):
    twice = ["--data", "mine", "--data", "part"]
    done = pictures.qbench("run", "--model", "net.fake", *twice)
    assert done.returncode == 2 and "given twice" in done.stderr


@pytest.mark.parametrize("option", [["--size", "hieght=3"], ["--shape", "nope=1x2"]])
def test_sizes_that_no_model_of_a_suite_has_are_refused(project: Project, option: list[str]):
    done = project.qbench("plan", str(project.suite(backends=["fake"])), *option)
    assert done.returncode == 2 and option[1].partition("=")[0] in done.stderr
