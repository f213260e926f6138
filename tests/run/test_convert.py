"""Conversion: the route of a model, the check of the result, and the cache. With a converter of a
few lines; test_converters.py has the real ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from qbench.errors import MachineryError, NoSource, UserError
from qbench.kit.adapter import PrepareError
from qbench.kit.converter import identifiers, match
from qbench.kit.model import SourceTensor
from qbench.run.artifacts import ArtifactStore
from qbench.run.planner import make_plan
from qbench.run.sources import convert
from qbench.run.sources.catalog import Catalog
from qbench.run.sources.convert import Converters
from qbench.run.workers.registry import Registry
from qbench.spec.case import EVERY_CASE, Filters
from qbench.spec.suite import Suite, WorkerLimits
from qbench.testing.fake import fake_model

TOY = '''
import json
import time
from dataclasses import replace
from pathlib import Path
import numpy as np
from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.model import SourceTensor
from qbench.kit import converter
from qbench.kit.adapter import Adapter
from qbench.kit.converter import Converted
from qbench.testing import FakeBackend


class Picky(FakeBackend):
    """Reads another format, and refuses what adapters refuse by default."""

    name = "picky"
    formats = ("picky",)
    precisions = {"cpu": ("fp32", "int8-static", "as-shipped")}
    supports = Adapter.supports


class ToyReader(FakeBackend):
    """Says whether a .toy file is quantized; it has no part in the tests otherwise."""

    name = "toyreader"
    formats = ("toy",)

    def describe(self, path):
        content = json.loads(path.read_text())
        return replace(super().describe(path), quantized=content.get("quantized", False))


class Converter(converter.Converter):
    """From .toy, the fake backend's own file with a wrong factor in it, to .fake."""

    name = "toy"
    packages = ("numpy",)
    _absent = {"absent_package": "absent-package"}
    routes = {"toy": {"fake": {}, "picky": {}}, "other": {"fake": _absent, "toy": _absent}}
    endings = {".toy": "toy"}
    described = ("toy", "other")

    def convert(self, source, form, samples, out):
        content = json.loads(source.path.read_text())
        factor = content.pop("factor")
        content.pop("quantized", None)
        if factor == "full":
            raise OSError(28, "No space left on device")
        if factor == "network":
            raise Unsupported("no network")
        if factor == "slow":
            time.sleep(60)
        if factor == "large":
            np.ones(10**9)
        if factor == "broken":
            raise PrepareError("the tool failed", operator="Conv")
        weights = np.asarray(content["weights"], np.float32)
        items = samples["image"]
        assert len(items) <= 16 and items.dtype == np.float32
        content["weights"] = (weights * factor).tolist()
        (out / f"any.{form}").write_text(json.dumps(content))
        reference = {"scores": items.reshape(len(items), -1) @ weights}
        names = {"image": SourceTensor("image", "NCHW")}, {"scores": SourceTensor("scores")}
        return Converted(f"any.{form}", *names, reference, "toy 1.0", ("a note",))
'''


BACKENDS = {
    "fake": "qbench.testing:FakeBackend",
    "picky": "toy_converter:Picky",
    "toyreader": "toy_converter:ToyReader",
}


@pytest.fixture
def toy(project, tmp_path: Path, monkeypatch) -> Any:
    """Sets the card's sources, and gives a catalogue with the converter ``toy``; what it reports is
    in ``said``."""
    packages = tmp_path / "toys"
    packages.mkdir()
    (packages / "toy_converter.py").write_text(TOY)
    monkeypatch.syspath_prepend(packages)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    monkeypatch.delitem(sys.modules, "toy_converter", raising=False)

    class Toy:
        said: list[str] = []

        def file(self, factor: Any, **content: Any) -> None:
            fake_model(project.root / "net.toy", factor=factor, **content)

        def catalog(self, **sources: Any) -> Catalog:
            path = project.root / "models" / "net.yaml"
            card = yaml.safe_load(path.read_text())
            card["sources"] = sources or {"toy": {"path": "net.toy"}}
            project.write("models/net.yaml", yaml.safe_dump(card))
            backends = Registry(BACKENDS)
            targets = {"toy": "toy_converter:Converter"}
            converters = Converters(self.said.append, backends, targets)
            return Catalog([project.root], self.said.append, converters)

    made = Toy()
    made.said = []
    made.file(1.0)
    return made


def refused(catalog: Catalog, form: str = "fake") -> NoSource:
    with pytest.raises(NoSource) as caught:
        catalog.model(catalog.card("net"), form)
    return caught.value


def kept(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache" / "converted").glob("*/conversion.json"))


def test_a_conversion_is_checked_described_and_kept(toy, tmp_path):
    catalog = toy.catalog()
    card = catalog.card("net")
    assert catalog.can_give(card, "fake") and not catalog.can_give(card, "onnx")
    model = catalog.model(card, "fake")
    assert model.format == "fake" and model.path.name == "model.fake"
    assert model.source_inputs == {"image": SourceTensor("image", "NCHW")}
    conversion = model.conversion
    assert conversion is not None
    assert conversion["source_format"] == "toy" and conversion["tool"] == "toy 1.0"
    assert conversion["versions"] == {"numpy": np.__version__}
    assert conversion["items"] == 16 and conversion["notes"] == ["a note"]
    assert conversion["sqnr_db"]["scores"] > 100 and conversion["seconds"] > 0
    assert "converting net from toy to fake" in toy.said
    toy.said.clear()
    again = toy.catalog()
    assert again.model(again.card("net"), "fake") == model
    assert toy.said == [] and len(kept(tmp_path)) == 1


@pytest.mark.parametrize("what", ["model.fake", "conversion.json"])
def test_a_damaged_conversion_is_repeated(toy, tmp_path, what: str):
    catalog = toy.catalog()
    before = catalog.model(catalog.card("net"), "fake")
    content = before.path.read_bytes()
    toy.said.clear()
    damaged = before.path.with_name(what)
    damaged.write_bytes(damaged.read_bytes()[:-20])
    again = toy.catalog()
    after = again.model(again.card("net"), "fake")
    assert after.digest == before.digest and after.path.read_bytes() == content
    assert len([line for line in toy.said if "converting" in line]) == 1
    assert len(kept(tmp_path)) == 1


def test_a_full_disk_is_not_the_models_fault(toy):
    toy.file("full")
    catalog = toy.catalog()
    with pytest.raises(MachineryError, match="the disk is full"):
        catalog.model(catalog.card("net"), "fake")


def test_another_source_is_converted_again(toy):
    first = toy.catalog()
    before = first.model(first.card("net"), "fake")
    toy.file(1.0001)
    second = toy.catalog()
    after = second.model(second.card("net"), "fake")
    assert after.digest != before.digest
    # A factor of 1 + e leaves noise of e^2 of the signal: 20 log10(10^4) dB.
    assert after.conversion and after.conversion["sqnr_db"]["scores"] == pytest.approx(80, abs=0.5)


def test_a_conversion_that_changes_the_outputs_is_a_failure(toy, tmp_path):
    toy.file(1.1)  # 20 dB
    no = refused(toy.catalog())
    assert no.status == "prepare_failed"
    assert "output 'scores'" in no.reason and "20.0 dB" in no.reason and "40 dB" in no.reason
    assert kept(tmp_path) == []
    toy.file(1.005)  # 46 dB
    catalog = toy.catalog()
    assert catalog.model(catalog.card("net"), "fake")


def conversions(toy) -> int:
    return len([line for line in toy.said if "converting" in line])


def test_a_tools_failure_is_reported_once_and_not_retried(toy):
    toy.file("broken")
    catalog = toy.catalog()
    for _ in range(2):
        no = refused(catalog)
        assert no.status == "prepare_failed" and "the tool failed (operator: Conv)" in no.reason
    assert conversions(toy) == 1
    again = refused(toy.catalog())  # as another run
    assert again.status == "prepare_failed" and conversions(toy) == 1
    assert "the tool failed (operator: Conv)" in again.reason
    retry = "failed in an earlier run (retry: qbench cache clean converted): "
    assert again.reason.startswith(retry) and "PrepareError" in again.log == no.log


def test_a_conversion_that_failed_is_tried_again_when_something_changed(toy, monkeypatch):
    toy.file("broken")
    refused(toy.catalog())
    monkeypatch.setattr(convert, "__version__", "999")  # another qbench
    assert "earlier" not in refused(toy.catalog()).reason and conversions(toy) == 2
    catalog = toy.catalog()  # more time
    with pytest.raises(NoSource, match="Conv"):
        catalog.model(catalog.card("net"), "fake", WorkerLimits(prepare_timeout_s=700))
    assert conversions(toy) == 3
    assert ArtifactStore().clean(["converted"]) > 0
    refused(toy.catalog())
    assert conversions(toy) == 4
    toy.file(1.0)  # another source
    catalog = toy.catalog()
    assert catalog.model(catalog.card("net"), "fake")


def test_a_conversion_has_the_limits_of_the_suite(toy):
    toy.file("slow")
    catalog = toy.catalog()
    with pytest.raises(NoSource, match=r"limit of 0\.5 s") as no:
        catalog.model(catalog.card("net"), "fake", WorkerLimits(prepare_timeout_s=0.5))
    assert no.value.status == "timeout"
    toy.file("large")
    catalog = toy.catalog()
    with pytest.raises(NoSource, match="memory") as no:
        catalog.model(catalog.card("net"), "fake", WorkerLimits(memory_mb=500))
    assert no.value.status == "oom"


def test_unavailable_conversions_are_skipped(toy):
    toy.file("network")
    no = refused(toy.catalog())
    assert no.status == "skipped" and "no network" in no.reason


def test_a_missing_package_is_named_with_pip(toy):
    catalog = toy.catalog(other={"path": "net.toy"})
    assert catalog.can_give(catalog.card("net"), "fake")
    no = refused(catalog)
    assert no.status == "skipped"
    assert "absent-package is not installed: pip install absent-package" in no.reason


def test_the_way_that_can_be_gone_comes_first_and_originals_before_what_converters_make(toy):
    catalog = toy.catalog(other={"path": "net.toy"}, toy={"path": "net.toy"})
    model = catalog.model(catalog.card("net"), "fake")
    assert model.conversion and model.conversion["source_format"] == "toy"
    routes = list(catalog._converters._routes(catalog.card("net"), "fake"))
    assert [route.source for route in routes] == ["other", "toy"]  # converters make .toy too


def test_a_source_in_the_format_itself_is_not_converted(toy, project):
    catalog = toy.catalog(toy={"path": "net.toy"}, fake={"path": "net.fake"})
    model = catalog.model(catalog.card("net"), "fake")
    assert model.conversion is None and model.path == project.root / "net.fake"
    assert model.source_inputs == {"image": SourceTensor("image", "NCHW")}  # the card's own names


def test_files_without_a_card_are_recognized_by_their_suffix(toy):
    converters = toy.catalog()._converters
    assert converters.endings() == {".toy": "toy"}
    assert converters.readers() == dict.fromkeys(("toy", "other"), "toy_converter:Converter")


def test_a_converter_that_cannot_be_imported_is_a_users_error(project):
    with pytest.raises(UserError, match="no_such_module"):
        catalog = Catalog([project.root], converters=Converters(targets={"x": "no_such_module:C"}))
        catalog.can_give(catalog.card("net"), "onnx")


# --------------------------------------------------------------------------- the kit


def test_names_are_matched_as_the_card_says_else_as_they_are_else_if_only_one_is_meant():
    def matched(wanted: dict[str, str], found: list[str]) -> dict[str, str]:
        return match("input", {n: SourceTensor(name) for n, name in wanted.items()}, found)

    assert matched({"image": "x"}, ["x"]) == {"image": "x"}
    assert matched({"image": ""}, ["input_1"]) == {"image": "input_1"}
    assert matched({"b": "", "a": ""}, ["a", "b"]) == {"b": "b", "a": "a"}
    for wanted, found in (
        ({"image": "y"}, ["x"]),  # a wrong name is not guessed
        ({"a": "", "b": ""}, ["x", "y"]),
        ({"a": "x", "b": "x"}, ["x", "y"]),
        ({"a": ""}, ["a", "b"]),
    ):
        with pytest.raises(PrepareError):
            matched(wanted, found)


def test_canonical_names_become_distinct_identifiers():
    words = identifiers(["a/b", "a.b", "1", "scores", "größe"])
    assert len(set(words.values())) == 5 and words["scores"] == "scores"
    assert all(word.isidentifier() and word.isascii() for word in words.values())


BAD_SOURCES = {
    "torch without a callable": {"torch": {"path": "net.py"}},
    "torch from a url": {
        "torch": {"url": "http://h/net.py", "sha256": "0" * 64, "callable": "make"}
    },
    "a callable elsewhere": {"keras": {"path": "net.keras", "callable": "make"}},
    "a callable that is an expression": {"torch": {"path": "net.py", "callable": "make()"}},
    "a signature elsewhere": {"onnx": {"path": "a.onnx", "signature": "decode"}},
    "an application that is a path": {"keras-applications": {"model": "os.system"}},
    "an application with a file": {"keras-applications": {"model": "ResNet50", "path": "x"}},
    "a companion elsewhere": {"onnx": {"path": "a.onnx", "companions": [{"name": "../b"}]}},
    "a hub file upwards": {"onnx": {"hub": {"repo": "a/b", "file": "../c"}}},
    "a repository that is a url": {"onnx": {"hub": {"repo": "http://h/b", "file": "c"}}},
    "an unknown input": {"onnx": {"path": "a.onnx", "inputs": {"img": {"name": "x"}}}},
}


@pytest.mark.parametrize("what", BAD_SOURCES)
def test_sources_are_checked_when_the_card_is_read(toy, what: str):
    with pytest.raises(UserError, match=r"net\.yaml:\d+: .*"):
        toy.catalog(**BAD_SOURCES[what]).card("net")


# --------------------------------------------------------------------------- the plan


def planned(toy, convert: bool = True, filters: Filters = EVERY_CASE, **suite: Any) -> Any:
    """The plan of a suite on the backend ``fake``, which reads ``.fake`` files only."""
    content = {"name": "s", "models": ["net"], "backends": ["fake"], "precisions": ["fp32"]}
    registry = Registry(BACKENDS)
    made = Suite.model_validate({**content, "roofline": False, **suite})
    probes = registry.probe(made.backends)
    catalog = toy.catalog()
    return make_plan(
        made, catalog, registry, probes, ArtifactStore(), filters, None, convert=convert
    )


def test_showing_a_plan_converts_nothing(toy):
    plan = planned(toy, convert=False)
    (case,) = plan.cases
    assert case.skip is None and case.failure is None and case.preparation is not None
    assert case.preparation.model.format == "fake" and conversions(toy) == 0
    assert plan.to_json()["cases"][0]["conversion"] == {"source_format": "toy"}
    assert plan.estimate_minutes(ArtifactStore()) > 0 and plan.estimate_disk_mb() > 0
    ran = planned(toy)
    assert conversions(toy) == 1 and ran.cases[0].preparation.key != case.preparation.key
    toy.said.clear()
    again = planned(toy, convert=False)  # as it was converted
    assert again.cases[0].preparation.key == ran.cases[0].preparation.key
    assert conversions(toy) == 0


def test_a_plan_knows_what_failed_before(toy):
    toy.file("broken")
    assert planned(toy, convert=False).cases[0].failure is None  # not tried yet
    assert "the tool failed" in planned(toy).cases[0].failure
    assert "in an earlier run" in planned(toy, convert=False).cases[0].failure
    assert conversions(toy) == 1


def test_what_the_backend_refuses_is_not_converted_for_it(toy):
    precisions = [{"int8-static": {"per_channel": False}}]
    (case,) = planned(toy, backends=["picky"], precisions=precisions).cases
    assert case.skip == "picky has no option per_channel"
    assert conversions(toy) == 0


def test_a_reference_that_filters_leave_out_needs_no_conversion(toy):
    backends = ["picky", "fake"]
    plan = planned(toy, filters=Filters(backends=("fake",)), backends=backends)
    assert [p.case.backend for p in plan.references["net"]] == ["fake"]
    assert [line for line in toy.said if "picky" in line] == [] and conversions(toy) == 1
    plan = planned(toy, backends=backends)
    assert [p.case.backend for p in plan.references["net"]] == backends
    assert conversions(toy) == 2


def test_a_quantized_file_is_converted_for_as_shipped_only(toy):
    toy.file(1.0, quantized=True)
    precisions = ["fp32", "int8-static"]
    plan = planned(toy, backends=["picky"], precisions=precisions)
    assert [case.skip for case in plan.cases] == ["the file is quantized: ask for as-shipped"] * 2
    assert conversions(toy) == 0 and plan.references == {}
    toy.file(1.0)  # a float file is nothing that was shipped quantized
    (case,) = planned(toy, backends=["picky"], precisions=["as-shipped"]).cases
    assert case.skip is not None and conversions(toy) == 0


def test_only_a_bit_exact_conversion_of_a_quantized_file_runs_as_shipped(toy):
    zeros = np.zeros((64, 10)).tolist()  # no rounding, whatever the batch
    toy.file(1.0, quantized=True, weights=zeros)
    (case,) = planned(toy, backends=["picky"], precisions=["as-shipped"]).cases
    assert case.preparation is not None and case.preparation.model.format == "picky"
    toy.file(1.0001, quantized=True)  # 80 dB: enough for a float file
    for _ in range(2):
        (case,) = planned(toy, backends=["picky"], precisions=["as-shipped"]).cases
        assert case.failure is None and case.skip is not None
        assert "rounds differently ('scores')" in case.skip
    assert conversions(toy) == 2  # the refusal is remembered


def test_an_excluded_reference_costs_nothing(toy):
    backends = ["picky", "fake"]
    exclude = [{"backend": "picky"}, {"precision": "fp32"}]
    plan = planned(toy, backends=backends, exclude=exclude, precisions=["fp32", "int8-static"])
    assert [p.case.precision for p in plan.cases] == ["int8-static"]
    assert plan.references == {} and conversions(toy) == 1
    exclude = [{"backend": "picky"}, {"precision": "fp32", "batch_size": 2}]
    plan = planned(toy, backends=backends, exclude=exclude, batch_sizes=[1, 2])
    assert [p.case.backend for p in plan.references["net"]] == ["fake"]
