"""The shipped suites for a stranger: an empty cache, no folder of assets, and a mirror that serves
the assets' items in upstream's own form."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from command_line import run_here
from mirror import Mirror, serving
from upstream import PACKERS, copied_suites, put_dscnn

from qbench.data.items import Items, make_items
from qbench.data.readers import open_reader
from qbench.run.sources.catalog import Catalog
from qbench.spec.datasets import FORMATS, Split
from qbench.spec.suite import Suite, shipped_suites, suites_dir
from qbench.spec.yamlfile import load

SHIPPED = Catalog([suites_dir()])


@pytest.mark.parametrize("name", SHIPPED.names)
def test_everything_that_a_card_needs_has_an_address_and_a_digest(name: str, monkeypatch):
    """A commit, or the SHA-256 of what a URL gives; or the file is shipped with qbench."""
    monkeypatch.delenv("QBENCH_ASSETS", raising=False)
    needed = list(SHIPPED.files_of(SHIPPED.card(name)))
    assert needed
    for file, root in needed:
        shipped = file.path is not None and (root / file.path).exists()
        by_commit = file.git or (file.hub and len(file.hub.revision) == 40)
        by_keras = file.remote and not (file.url or file.hub or file.git)
        assert shipped or by_commit or (file.url and file.sha256) or by_keras, file.label
        if by_keras or file.hub:
            assert SHIPPED.card(name).untried, "nobody has seen these files"


@pytest.mark.parametrize("name", shipped_suites())
def test_no_shipped_suite_needs_an_untried_card(name: str):
    suite, _ = load(shipped_suites()[name], Suite)
    assert not [model for model in suite.models if SHIPPED.card(model).untried]


class Web(NamedTuple):
    """Copies of the shipped suites, the assets, and a mirror that has what the copies name."""

    suites: Path
    assets: Path
    mirror: Mirror


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    assets = Path(os.environ.get("QBENCH_ASSETS", "none"))
    if not assets.is_dir():
        pytest.skip("QBENCH_ASSETS does not name a folder of assets")
    folder = tmp_path_factory.mktemp("web")
    with serving(folder / "mirror") as mirror:
        yield Web(copied_suites(folder / "suites", assets, mirror, list(PACKERS)), assets, mirror)


USERS = {
    "cifar10_test": ("resnet8_cifar10", "evaluation"),
    "cifar10_calib_train": ("resnet8_cifar10", "calibration"),
    "mnist_t10k": ("mnist_cnn", "evaluation"),
    "kws01": ("dscnn_kws_int8", "evaluation"),
    "coco_val128": ("fastestdet_coco352", "evaluation"),
    "imagenet_val1300": ("mobilenet_v1_025_224", "evaluation"),
    "imagenet_samples": ("mobilenet_v1_025_224", "calibration"),
    "sst2_glue_dev": ("avgwordvec_sst2", "evaluation"),
}
"""A model that uses each data set that is not shipped."""


def test_every_data_set_of_the_shipped_suites_is_proven():
    splits = (
        split
        for name in SHIPPED.names
        for split in (SHIPPED.card(name).evaluation, SHIPPED.card(name).calibration)
    )
    used = {split.dataset for split in splits if split is not None}
    assert used - {"digits"} == {*USERS} == {*PACKERS}


@pytest.mark.parametrize("name", USERS)
def test_upstreams_files_hold_the_items_of_the_assets(name: str, web: Web, monkeypatch):
    """The same decoded items and labels, chosen by the card's rule; pictures: the first ones."""
    model, split = USERS[name]

    def items(suites: Path) -> Items:
        catalog = Catalog([suites])
        data, files = catalog.data(name)
        card = catalog.card(model)
        chosen = Split(dataset=name, items=":12" if FORMATS[data.format].encoded else ":")
        found = make_items(card, data, files, chosen, print, suites)
        with open_reader(data, files) as reader:
            assert len(reader) == data.items
        return found

    monkeypatch.delenv("QBENCH_ASSETS", raising=False)
    monkeypatch.setenv("QBENCH_MIRROR", web.mirror.url)
    theirs = items(web.suites)
    monkeypatch.delenv("QBENCH_MIRROR")
    monkeypatch.setenv("QBENCH_ASSETS", str(web.assets))
    ours = items(suites_dir())
    assert theirs.count == ours.count > 0 and theirs.digest == ours.digest
    for mine, other in zip(theirs.feeds.values(), ours.feeds.values(), strict=True):
        np.testing.assert_array_equal(np.load(mine), np.load(other))
    assert (theirs.labels is None) == (split == "calibration" and name == "imagenet_samples")


def test_a_suite_runs_from_an_empty_cache(web: Web, monkeypatch, tmp_path):
    """Fetched, then run without a network; the accuracy is that of the card."""
    pytest.importorskip("ai_edge_litert", reason="runs the TFLite form")
    env = {name: value for name, value in os.environ.items() if name != "QBENCH_ASSETS"}
    suite = web.suites / "short.yaml"
    suite.write_text(
        "name: short\nmodels: [resnet8_cifar10, resnet8_cifar10_int8]\n"
        "precisions: [fp32, as-shipped]\nbackends: [tflite]\nrounds: 2\nwarmup_s: 0.01\n"
        "timed_s: 0.02\nroofline: false\nexclude:\n"
        "  - {model: resnet8_cifar10, precision: as-shipped}\n"
        "  - {model: resnet8_cifar10_int8, precision: fp32}\n"
    )
    fetched = run_here(tmp_path, {**env, "QBENCH_MIRROR": web.mirror.url}, "fetch", str(suite))
    assert fetched.returncode == 0, fetched.stderr
    alone = {**env, "QBENCH_MIRROR": "http://127.0.0.1:9"}
    done = run_here(tmp_path, alone, "run", str(suite), "--no-report", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"] == {"ok": 2}
    shown = run_here(tmp_path, alone, "show", "latest", "--json").stdout
    accuracies = {case["model"]: case["accuracy"] for case in json.loads(shown)["cases"]}
    expected = SHIPPED.card("resnet8_cifar10").expected
    assert expected and accuracies["resnet8_cifar10"] == expected.value
    assert accuracies["resnet8_cifar10_int8"] == pytest.approx(expected.value, abs=0.02)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_float_model_of_the_shipped_suites_is_as_accurate_as_its_card_says(
    web: Web, tmp_path: Path
):
    """From an empty cache, on every runtime: files, conversions and items are the right ones."""
    for module in ("tensorflow", "tf2onnx", "onnxruntime", "openvino", "ai_edge_litert"):
        pytest.importorskip(module)
    put_dscnn(web.suites, web.assets, web.mirror, tmp_path)
    suites = (load(path, Suite)[0] for path in shipped_suites().values())
    models = {name: SHIPPED.card(name).expected for suite in suites for name in suite.models}
    suite = {
        "name": "all",
        "models": [name for name in models if models[name]],
        "precisions": ["fp32"],
        "backends": ["onnxruntime", "openvino", "tflite"],
        "rounds": 2,
        "warmup_s": 0.01,
        "timed_s": 0.02,
        "roofline": False,
        "exclude": [{"model": "ssd_mobilenet_v1_coco300_uint8"}],
    }
    path = web.suites / "all.yaml"
    path.write_text(json.dumps(suite))
    env = {name: value for name, value in os.environ.items() if name != "QBENCH_ASSETS"}
    env |= {"QBENCH_MIRROR": web.mirror.url}
    done = run_here(tmp_path, env, "run", str(path), "--no-report", "--json")
    assert done.returncode == 0, done.stderr
    shown = run_here(tmp_path, env, "show", "latest", "--json").stdout
    cases = [case for case in json.loads(shown)["cases"] if case["status"] == "ok"]
    assert {case["model"] for case in cases} == {*suite["models"]} - {suite["exclude"][0]["model"]}
    for case in cases:
        expected = models[case["model"]]
        assert expected and case["accuracy_items"] == expected.items, case["model"]
        assert case["accuracy"] == pytest.approx(expected.value, abs=0.005), case["model"]
