"""Environments: the suite's keys, building, and two versions in the same rounds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_sets import picture, write_zip
from packaging.version import Version

from qbench.run.workers.environments import EnvironmentStore
from qbench.spec.suite import Environment

pytestmark = pytest.mark.slow

NUMPY = "numpy==2.4.*"
OLDER = "onnxruntime==1.30.*"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where no package index answers."""
    folder = tmp_path_factory.mktemp("index")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "tomli"]
    if subprocess.run(command, capture_output=True, timeout=120).returncode:
        pytest.skip("no package index can be reached")


# --------------------------------------------------------------------------- what a suite may say


@pytest.mark.parametrize(
    ("environments", "said"),
    [
        ({"a": "--index-url=http://x"}, "not an option"),
        ({"a": "numpy=1"}, "requirement"),
        ({"a": {"requirements": ["numpy\n--pre"]}}, "not an option"),
        ({"a": {}}, "requirements, or the python"),
        ({"a": {"python": "/usr/bin/python3"}}, "backends"),
        ({"default": "numpy"}, "default"),
        ({"a": {"requirements": ["numpy"], "variables": {"A=B": "1"}}}, "pattern"),
        ({"a": {"requirements": ["numpy"], "backends": ["fakes"]}}, "fake"),
        ({"a b": "numpy"}, "pattern"),
        ({"a": {"requirements": ["numpy"], "prepare": ["fp9"]}}, "unknown precision 'fp9'"),
        ({"a": {"requirements": ["numpy"], "prepare": []}}, "prepare"),
        ({"a": {"requirements": ["numpy"], "prepare": "fp8"}}, "prepare"),
    ],
)
def test_wrong_environments_are_refused_with_their_line(project, environments, said):
    done = project.qbench("plan", project.suite(environments=environments))
    assert done.returncode == 2
    assert said in done.stderr
    assert "small.yaml:" in done.stderr


def test_an_environment_of_no_backend_is_refused(project):
    done = project.qbench("plan", project.suite(environments={"a": "tomli"}))
    assert done.returncode == 2
    assert "environment a" in done.stderr and "backends: [...]" in done.stderr


def test_a_plan_holds_the_cases_of_every_environment(project):
    suite = project.suite(
        environments={"older": "numpy<2.4", "newer": "numpy"},
        exclude=[{"environment": "newer", "precision": "int8-static"}],
    )
    done = project.qbench("plan", suite, "--json")
    assert done.returncode == 0, done.stderr
    cases = [entry["case"] for entry in json.loads(done.stdout)["cases"]]
    assert sorted((c["environment"], c["precision"]) for c in cases) == [
        ("default", "fp32"),
        ("default", "int8-static"),
        ("newer", "fp32"),
        ("older", "fp32"),
        ("older", "int8-static"),
    ]


# --------------------------------------------------------------------------- runs


ASKS = """
import os, sys
from qbench.kit.adapter import Adapter, Unavailable

class Backend(Adapter):
    name, api_version = "asks", 2
    formats = ("fake",)
    runtime_packages = prepare_packages = ("numpy",)

    def probe(self):
        own = [p for p in sys.path if p.endswith("packages") and "site" not in p]
        return Unavailable(f"{os.environ.get('FLAVOUR')} {own}", "Never mind")

    def open(self, artifact, config, inspect=False):
        raise NotImplementedError
"""
"""An adapter whose probe tells a variable, and whether it finds the packages of the project."""


def existing(**more) -> dict:
    """The interpreter that the tests run in, as it is."""
    return {"python": sys.executable, "backends": ["fake"], **more}


def test_an_existing_interpreter_is_measured_in_the_same_rounds(project):
    answer = project.run_json(project.suite(environments={"twin": existing()}))
    assert answer["counts"] == {"ok": 4}
    bundle = project.root / answer["bundle"]
    trials = [json.loads(line) for line in (bundle / "journal.jsonl").read_text().splitlines()]
    rounds = [[t["case_id"] for t in trials if t["round"] == number] for number in (0, 1)]
    assert len(rounds[0]) == 4 and sorted(rounds[0]) == sorted(rounds[1])
    begin = json.loads((bundle / "begin.json").read_text())
    assert begin["environments"]["twin"]["resolved"]["numpy"]
    assert sys.executable not in (bundle / "begin.json").read_text()
    cases = project.cases()
    assert {case["environment"] for case in cases} == {"default", "twin"}
    # prepared once: what is compared is the runtime
    assert len({case["artifact_digest"] for case in cases}) == 2


def test_its_variables_reach_the_workers_and_nothing_of_qbenchs_own_path(project):
    project.adapter("asks", ASKS)
    environments = {"twin": existing(backends=["asks"], variables={"FLAVOUR": "sweet"})}
    suite = project.suite(backends=["fake", "asks"], environments=environments)
    project.run_json(suite)
    reasons = {c["environment"]: c["reason"] for c in project.cases() if c["backend"] == "asks"}
    assert "sweet []" in reasons["twin"]
    assert "None" in reasons["default"] and "packages" in reasons["default"]


TOOL = """
import os
from qbench.kit.adapter import Unsupported
from qbench.testing.fake import FakeBackend

class Backend(FakeBackend):
    name = "tool"

    def prepare(self, model, target, calibration, out):
        if target.precision != "fp32" and "TOOL" not in os.environ:
            raise Unsupported("the tool is not installed here")
        return super().prepare(model, target, calibration, out)
"""
"""An adapter that quantizes only where a tool is: a variable stands for it."""


def test_an_environment_may_do_nothing_but_prepare(project):
    """No case runs in it; what it prepares runs in all others, and it prepares nothing else."""
    project.adapter("tool", TOOL)
    both = ["tool", "fake"]  # with the fake, the kit holds the module that both are made of
    tools = existing(backends=[*both], variables={"TOOL": "1"}, prepare=["int8-static"])
    suite = project.suite(
        backends=both,
        precisions=["fp32", "int8-static", "int8-dynamic"],
        environments={"tools": tools, "twin": existing(backends=[*both])},
        exclude=[{"backend": "fake"}],
        rounds=1,
    )
    answer = project.run_json(suite)
    cases = {(c["environment"], c["precision"]): c for c in project.cases()}
    assert {environment for environment, _ in cases} == {"default", "twin"}
    for environment in ("default", "twin"):
        assert cases[environment, "fp32"]["status"] == "ok"
        assert cases[environment, "int8-static"]["status"] == "ok"
        assert cases[environment, "int8-dynamic"]["reason"] == "the tool is not installed here"
    begin = json.loads((project.root / answer["bundle"] / "begin.json").read_text())
    assert begin["environments"]["tools"]["resolved"]["numpy"]


THERE = """
import os
from qbench.kit.adapter import Unavailable
from qbench.testing.fake import FakeBackend

class Backend(FakeBackend):
    name = "there"

    def probe(self):
        if "THERE" not in os.environ:
            return Unavailable("its runtime is not installed here", "install it")
        return super().probe()
"""
"""An adapter whose runtime is in an environment only, as onnxruntime-gpu may be."""


def test_a_runtime_that_only_an_environment_has_gives_the_reference(project):
    project.adapter("there", THERE)
    both = ["there", "fake"]  # with the fake, the kit holds the module that both are made of
    suite = project.suite(
        backends=both,
        precisions=["fp32", "int8-static"],
        environments={"its": existing(backends=[*both], variables={"THERE": "1"})},
        exclude=[{"backend": "fake"}],
        overrides={"fake": {"devices": ["cuda"]}},  # which it lacks, so that it gives none
        rounds=1,
    )
    plan = json.loads(project.qbench("plan", suite, "--json").stdout)["cases"]
    skips = {(e["case"]["environment"], e["case"]["precision"]): e["skip"] for e in plan}
    assert skips["default", "fp32"] == "its runtime is not installed here. install it"
    unknown = "not known until `qbench run` has built the environment its"
    assert skips["its", "fp32"].startswith(unknown)
    project.run_json(suite)
    cases = {(c["environment"], c["precision"]): c for c in project.cases()}
    assert cases["default", "fp32"]["reason"] == "its runtime is not installed here. install it"
    assert cases["its", "fp32"]["status"] == cases["its", "int8-static"]["status"] == "ok"
    assert cases["its", "int8-static"]["sqnr_db"] is not None


def test_an_environment_that_should_prepare_and_cannot_be_made_fails_what_it_prepares(project):
    project.adapter("tool", TOOL)
    gone = existing(backends=["tool"], python="/no/such/python", prepare=["int8-static"])
    project.run_json(project.suite(backends=["tool"], environments={"tools": gone}, rounds=1))
    exact, quantized = project.cases()
    assert exact["status"] == "ok" and quantized["status"] == "prepare_failed"
    assert "environment tools: cannot run python" in quantized["reason"]


def test_two_environments_that_prepare_the_same_are_refused(project):
    twice = {name: existing(prepare=["int8-static"]) for name in ("a", "b")}
    done = project.qbench("plan", project.suite(environments=twice))
    assert done.returncode == 2
    assert "a and b both prepare int8-static for fake" in done.stderr


def test_an_interpreter_that_is_not_there_is_a_result(project):
    suite = project.suite(environments={"gone": existing(python="/no/such/python")})
    answer = project.run_json(suite)
    assert answer["counts"] == {"ok": 2, "prepare_failed": 2}
    reasons = [c["reason"] for c in project.cases() if c["environment"] == "gone"]
    assert all("environment gone: cannot run python: No such file" in r for r in reasons)


def test_requirements_that_do_not_resolve_are_a_result_with_the_resolvers_message(project):
    suite = project.suite(environments={"none": "numpy==0.0.0.1"})
    answer = project.run_json(suite)
    assert answer["counts"] == {"ok": 2, "prepare_failed": 2}
    reason = next(c["reason"] for c in project.cases() if c["environment"] == "none")
    assert "numpy" in reason and "0.0.0.1" in reason


def onnx_net(path: Path, name: str, kind: int, shape: list[int], features: int) -> None:
    """A network of one matrix product: an input of ``features`` numbers, two scores."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    weights = np.random.default_rng(1).normal(size=(features, 2)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", [name], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["real"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, kind, ["N", *shape])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save(model, path)


def pictures_and_texts(project) -> list[str]:
    """A model of pictures and one of texts, with their data sets; their names."""
    card = {
        "task": "image-classification",
        "licence": "CC0-1.0",
        "outputs": {"scores": {"dtype": "float32", "shape": ["N", 2]}},
    }
    files = {f"{kind}/{n}.png": picture(9, 9, n) for kind in ("cat", "dog") for n in range(4)}
    write_zip(project.root / "pets.zip", files)
    onnx_net(project.root / "pets.onnx", "image", 1, [3, 8, 8], 192)  # 1: FLOAT
    project.write(
        "datasets/pets.yaml",
        {"name": "pets", "format": "image-zip", "files": {"images": {"path": "pets.zip"}}},
    )
    steps = [{"resize": {"size": [8, 8]}}, {"scale": 0.5}, {"layout": "NCHW"}]
    project.write(
        "models/pets.yaml",
        {
            **card,
            "name": "pets",
            "inputs": {"image": {"dtype": "float32", "shape": ["N", 3, 8, 8]}},
            "sources": {"onnx": {"path": "pets.onnx"}},
            "preprocess": {"image": steps},
            "evaluation": {"dataset": "pets"},
        },
    )
    (project.root / "words.tsv").write_text("text\tlabel\nup up\t1\ndown\t0\nno word\t0\n")
    (project.root / "vocab.txt").write_text("<PAD>\n<UNKNOWN>\nup\ndown\n")
    onnx_net(project.root / "words.onnx", "ids", 7, [6], 6)  # 7: INT64
    data = {"name": "words", "format": "tsv", "files": {"data": {"path": "words.tsv"}}}
    project.write("datasets/words.yaml", {**data, "labels": "label"})
    tokens = {"kind": "words", "vocab": {"path": "vocab.txt"}, "length": 6}
    project.write(
        "models/words.yaml",
        {
            **card,
            "name": "words",
            "task": "text-classification",
            "inputs": {"ids": {"dtype": "int64", "shape": ["N", 6]}},
            "sources": {"onnx": {"path": "words.onnx"}},
            "preprocess": {"ids": [{"array": "text"}, {"tokenize": tokens}]},
            "evaluation": {"dataset": "words"},
        },
    )
    return ["pets", "words"]


def test_pipelines_of_pictures_and_texts_run_in_an_environment(project):
    """With an adapter of its own package: the fake one would bring all of qbench along."""
    pytest.importorskip("onnxruntime", reason="runs the pipelines")
    suite = project.suite(
        models=pictures_and_texts(project),
        backends=["onnxruntime"],
        precisions=["fp32"],
        scenarios=["pipeline"],
        environments={"twin": existing(backends=["onnxruntime"])},
        rounds=1,
    )
    answer = project.run_json(suite)
    assert answer["counts"] == {"ok": 4}, project.cases()
    for case in project.cases():
        pictures = case["model"] == "pets"
        assert case["fps"] > 0 and case["preprocess_ms"] > 0
        assert (case["decode_ms"] is not None) == pictures


# --------------------------------------------------------------------------- installing


def make(folder: Path, **asked) -> dict:
    store = EnvironmentStore(folder / "cache", folder)
    return store.build(
        {"a": Environment.model_validate(asked)}, {"fake": "qbench.testing:FakeBackend"}
    )


def test_an_environment_is_built_once_and_has_the_resolved_versions(index, tmp_path: Path):
    made = make(tmp_path, requirements=["tomli==2.*"])["a"]
    assert not made.failure
    assert made.interpreter is not None
    assert Version(made.resolved["tomli"]).major == 2 and made.resolved["numpy"]
    assert "pandas" not in made.resolved
    record = made.interpreter.python.parents[2] / "environment.json"
    for folder in (record.parent, made.interpreter.kit):  # as compiled as the default environment
        assert list(folder.rglob("__pycache__/*.pyc"))
    before = record.stat().st_mtime_ns
    again = make(tmp_path, requirements=["tomli==2.*"])["a"]
    assert again.digest == made.digest
    assert record.stat().st_mtime_ns == before


def test_without_an_index_what_was_resolved_before_is_used_and_said(
    index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = make(tmp_path, requirements=["tomli==2.*"])["a"]
    for name in ("UV_OFFLINE", "UV_NO_CACHE", "PIP_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    again = make(tmp_path, requirements=["tomli==2.*"])["a"]
    assert again.digest == made.digest and again.interpreter == made.interpreter
    assert "resolved as last time" in again.note
    other = make(tmp_path, requirements=["tomli==2.0.*"])["a"]
    assert other.failure and other.interpreter is None


def test_a_missing_wheel_is_reported_relative_to_the_suite(tmp_path: Path):
    made = make(tmp_path, requirements=["missing-1.0-py3-none-any.whl"])["a"]
    assert "missing-1.0-py3-none-any.whl" in made.failure and "suite's folder" in made.failure


def test_two_versions_of_a_runtime_in_the_same_rounds(index, project):
    pytest.importorskip("onnxruntime")
    suite = project.suite(
        models=["digits_cnn"],
        backends=["onnxruntime"],
        roofline=False,
        environments={"ort-previous": OLDER},
    )
    answer = project.run_json(suite)
    assert answer["counts"] == {"ok": 4}
    cases = {(c["environment"], c["precision"]): c for c in project.cases()}
    older = cases["ort-previous", "int8-static"]
    assert older["backend_version"].startswith("1.30.")
    assert cases["default", "int8-static"]["backend_version"] != older["backend_version"]
    assert cases["default", "int8-static"]["artifact_digest"] == older["artifact_digest"]
    assert older["accuracy"] is not None and older["speedup"] is not None
