"""Conformance tests for adapters, and a fake backend that needs no runtime.

In an adapter's own tests::

    from qbench.testing.conformance import AdapterConformance

    class TestMyRuntime(AdapterConformance):
        target = "qbench_myruntime:Backend"

By default the tests use the shipped ``digits_cnn`` in the first format that the adapter reads. For
another format, override ``model``.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from qbench.kit.adapter import (
    API_VERSION,
    Adapter,
    PrepareError,
    Program,
    Ready,
    Stream,
    Unavailable,
    Unsupported,
)
from qbench.kit.model import (
    Artifact,
    Calibration,
    Feed,
    Model,
    PrepareTarget,
    RunConfig,
    relayout_shape,
    scattered,
)
from qbench.kit.operators import EFFECTIVE, EffectivePrecision


class AdapterConformance:
    """Tests of the plugin contract for one adapter. Subclass it and set ``target``."""

    target: str
    """``module:Class``, as in the entry point."""
    device = "cpu"
    """Device to test on; artifacts are compiled for it if the adapter requires that."""
    tolerance_db = 15.0
    """Minimum SQNR of a quantized program's outputs against float32's, in dB."""

    # -------------------------------------------------------------- test data

    def model(self, folder: Path) -> Model:
        """A small model that the adapter reads; override it for other formats."""
        from qbench.run.sources.catalog import Catalog
        from qbench.spec.suite import suites_dir

        catalog = Catalog([suites_dir()])
        card = catalog.card("digits_cnn")
        form = next(f for f in self.backend().formats if f in card.sources)
        return catalog.model(card, form)

    def stateful(self, folder: Path) -> Model:
        """A small model with states of at least two inferences' memory; override it if the adapter
        feeds back."""
        raise NotImplementedError(f"{type(self).__name__}.stateful has to return a model")

    def feed(self, model: Model, batch: int, seed: int = 0) -> Feed:
        """Random inputs in the model's dtypes: floats in 0..1, integers in 0..10."""
        rng = np.random.default_rng(seed)
        result = {}
        for name, spec in model.inputs.items():
            shape, dtype = spec.at(batch), np.dtype(spec.dtype)
            values = rng.random(shape) if dtype.kind == "f" else rng.integers(0, 10, shape)
            result[name] = values.astype(dtype)
        return result

    def items(self, model: Model, count: int, seed: int = 0) -> Feed:
        """``count`` items as ``feed`` makes them, ``[count, *TensorSpec.item]``; an input without a
        batch axis has one value for all."""
        return {
            name: np.array(array)
            for name, array in scattered(self.feed(model, count, seed), model.inputs, count).items()
        }

    # -------------------------------------------------------------- helpers

    def backend(self) -> Adapter:
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)()

    def ready(self) -> Ready:
        import pytest

        answer = self._probed
        if isinstance(answer, Unavailable):
            pytest.skip(f"{self.target}: {answer.reason}")
        if self.device not in answer.precisions:
            reasons = answer.missing.get(self.device, {}).values()
            pytest.skip(f"{self.target} on {self.device}: {next(iter(reasons), 'does not run')}")
        return answer

    @cached_property
    def _probed(self) -> Ready | Unavailable:
        return self.backend().probe()

    def precisions(self) -> tuple[str, ...]:
        """Precisions of the adapter on the device."""
        return self.ready().precisions[self.device]

    def config(self, **changes: Any) -> RunConfig:
        """A configuration for the device; ``changes`` are fields of ``RunConfig``."""
        return RunConfig(**{"device": self.device, **changes})

    def prepare_target(self, precision: str) -> PrepareTarget:
        from qbench.spec.precisions import complete_options

        kind = self.device.partition(":")[0]
        return PrepareTarget(precision, complete_options(precision, {}), kind)

    def artifact(
        self, folder: Path, precision: str = "fp32", model: Model | None = None
    ) -> Artifact:
        """Prepare the model, or another one, at a precision, as the prepare job does."""
        from qbench.kit.precisions import PRECISIONS

        backend, model = self.backend(), model or self.model(folder)
        target = self.prepare_target(precision)
        reason = backend.supports(model, target)
        if reason is not None:
            raise Unsupported(reason)
        calibration = None
        if PRECISIONS[precision].calibrated:
            calibration = Calibration(self.items(model, 32, seed=1))
        out = folder / f"artifact-{precision}"
        out.mkdir()
        backend.import_runtime()
        provenance = backend.prepare(model, target, calibration, out)
        return Artifact(out, model, target, provenance)

    def compiled(self, artifact: Artifact, config: RunConfig) -> Artifact:
        """The artifact to open: itself, or the one compiled from it."""
        if self.device not in self.ready().compiled:
            return artifact
        backend = self.backend()
        out = artifact.path / f"compiled-{config.batch}-{len(list(artifact.path.iterdir()))}"
        kept = artifact.path.parent / "kept"
        out.mkdir()
        kept.mkdir(exist_ok=True)
        backend.import_runtime()
        alone = replace(config, threads=1, streams=1)
        provenance = backend.compile(artifact, alone, kept, out)
        assert provenance is not None, "an adapter that lists devices in compiled compiles"
        return replace(artifact, path=out, provenance=provenance)

    def open(self, artifact: Artifact, config: RunConfig, inspect: bool = False) -> Program:
        return self.backend().open(self.compiled(artifact, config), config, inspect)

    def outputs(self, artifact: Artifact, config: RunConfig | None = None) -> Feed:
        """Outputs for fixed inputs."""
        config = config or self.config()
        with self.open(artifact, config) as program:
            stream = program.stream()
            stream.bind(self.feed(artifact.model, config.batch))
            stream.infer()
            return {name: np.array(array) for name, array in stream.read().items()}

    # -------------------------------------------------------------- the tests

    def test_declares_itself(self) -> None:
        from qbench.kit.precisions import PRECISIONS
        from qbench.run.workers.registry import KIND_OF_DEVICE

        backend = self.backend()
        assert backend.api_version == API_VERSION
        assert backend.name and backend.formats and backend.runtime_packages
        assert isinstance(backend.prepare_version, int)
        answer = backend.probe()
        if isinstance(answer, Unavailable):
            assert answer.reason and answer.fix
            return
        assert backend.import_runtime() == answer.version
        for names in answer.precisions.values():
            assert "fp32" in names, "float32 is what the others are compared with"
            assert set(names) <= set(PRECISIONS), "precisions have the vocabulary's names"
        for device, reasons in answer.missing.items():
            assert all(reasons.values()), "every missing precision has a reason"
            assert not set(reasons) & set(answer.precisions.get(device, ()))
        for device in answer.compiled:
            assert set(KIND_OF_DEVICE) <= set(answer.devices[device])

    def test_importing_the_adapter_imports_no_runtime(self) -> None:
        module = self.target.partition(":")[0]
        code = (
            f"import sys, numpy; before = set(sys.modules); import {module};"
            "new = {m.partition('.')[0] for m in set(sys.modules) - before};"
            "print(*sorted(new - set(sys.stdlib_module_names)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert set(done.stdout.split()) <= {"qbench", module.partition(".")[0]}

    def test_every_precision_is_close_to_float32(self, tmp_path: Path) -> None:
        precisions = self.precisions()
        exact = self.outputs(self.artifact(tmp_path, "fp32"))
        ran = []
        for precision in precisions:
            if precision == "fp32":
                continue
            try:
                got = self.outputs(self.artifact(tmp_path, precision))
            except Unsupported as reason:
                assert str(reason)
                continue
            ran.append(precision)
            for name, array in exact.items():
                noise = np.sum((array - got[name]) ** 2.0)
                close = 10 * np.log10(np.sum(array**2.0) / max(noise, 1e-30))
                assert close >= self.tolerance_db, f"{precision}, {name}: {close:.1f} dB"
        if len(precisions) > 1:
            assert ran, "no precision except fp32 runs on this model"

    def test_a_quantized_artifact_is_recorded_and_runs_in_int8(self, tmp_path: Path) -> None:
        from qbench.spec.precisions import int8_share

        precisions = self.precisions()
        exact = self.outputs(self.artifact(tmp_path, "fp32"))
        for precision in precisions:
            if not precision.startswith("int8-"):
                continue
            try:
                artifact = self.artifact(tmp_path, precision)
                with self.open(artifact, self.config(), inspect=True) as program:
                    effective = program.effective()
                    assert program.mismatch() is None, precision
            except Unsupported:
                continue
            assert artifact.provenance.quantizer, precision
            assert artifact.provenance.quantized_ops, precision
            assert effective.precision == "int8", precision
            share = int8_share(effective.macs)
            assert share is None or 0.5 <= share <= 1, precision
            got = self.outputs(artifact)
            changed = [name for name in exact if not np.array_equal(got[name], exact[name])]
            assert changed, f"{precision} changed no number"

    def test_outputs_have_the_cards_names_shapes_and_types(self, tmp_path: Path) -> None:
        self.ready()
        artifact = self.artifact(tmp_path)
        outputs = self.outputs(artifact)
        assert list(outputs) == list(artifact.model.outputs)
        for name, spec in artifact.model.outputs.items():
            assert outputs[name].shape == spec.at(1)
            assert outputs[name].dtype == np.dtype(spec.dtype)
        with self.open(artifact, self.config()) as program:
            assert set(program.inputs) == set(artifact.model.inputs)
            assert set(program.outputs) == set(artifact.model.outputs)

    def test_the_same_inputs_give_the_same_outputs(self, tmp_path: Path) -> None:
        self.ready()
        artifact = self.artifact(tmp_path)
        first, second = self.outputs(artifact), self.outputs(artifact)
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])

    def test_every_call_computes_the_same_and_from_what_was_bound(self, tmp_path: Path) -> None:
        """A timed loop calls ``infer`` thousands of times after one ``bind``."""
        for precision in self.precisions():
            try:
                artifact = self.artifact(tmp_path, precision)
                program = self.open(artifact, self.config())
            except Unsupported:
                continue
            with program:
                stream = program.stream()
                feed = {n: a.copy() for n, a in self.feed(artifact.model, 1).items()}
                stream.bind(feed)
                for array in feed.values():
                    array[...] = 0  # the caller may reuse its arrays
                seen = []
                for _ in range(3):
                    stream.infer()
                    seen.append({n: np.array(a) for n, a in stream.read().items()})
                stream.infer()
                stream.bind(self.feed(artifact.model, 1, seed=9))
                late = {n: np.array(a) for n, a in stream.read().items()}
            for name, array in seen[0].items():
                for other in (seen[1], seen[2], late):
                    np.testing.assert_array_equal(array, other[name], err_msg=precision)

    def test_binding_other_inputs_changes_the_outputs(self, tmp_path: Path) -> None:
        self.ready()
        artifact = self.artifact(tmp_path)
        with self.open(artifact, self.config()) as program:
            stream = program.stream()
            seen = []
            for seed in (0, 1, 0):
                stream.bind(self.feed(artifact.model, 1, seed))
                stream.infer()
                seen.append({n: np.array(a) for n, a in stream.read().items()})
        changed = [name for name in seen[0] if not np.array_equal(seen[0][name], seen[1][name])]
        assert changed, "other inputs gave the same outputs"
        for name, array in seen[0].items():
            np.testing.assert_array_equal(array, seen[2][name])

    def test_streams_do_not_mix(self, tmp_path: Path) -> None:
        self.ready()
        artifact = self.artifact(tmp_path)
        alone = self.outputs(artifact)
        with self.open(artifact, self.config(streams=2)) as program:
            one, two = program.stream(), program.stream()
            one.bind(self.feed(artifact.model, 1))
            two.bind(self.feed(artifact.model, 1, seed=5))
            one.infer()
            two.infer()
            for name, array in one.read().items():
                np.testing.assert_allclose(array, alone[name], rtol=1e-4, atol=1e-5)

    def test_states_are_fed_back(self, tmp_path: Path) -> None:
        """What ``infer`` feeds back equals what a caller feeds by hand."""
        import pytest

        if not self.backend().feeds_back:
            pytest.skip(f"{self.target} feeds nothing back")
        self.ready()
        artifact = self.artifact(tmp_path, model=self.stateful(tmp_path))
        model = artifact.model
        first, second = self.feed(model, 1, seed=0), self.feed(model, 1, seed=1)
        inputs = {name: second[name] for name in second if name not in model.states}

        with self.open(artifact, self.config(streams=2)) as program:
            stream, other = program.stream(), program.stream()

            def ran(stream: Stream, feed: Feed | None = None) -> Feed:
                if feed is not None:
                    stream.bind(feed)
                stream.infer()
                return {name: np.array(array) for name, array in stream.read().items()}

            def by_hand(feed: Feed, last: Feed | None) -> Feed:
                states = {n: last[s.output] for n, s in model.states.items()} if last else {}
                return ran(other, {**feed, **states})

            def read() -> Feed:
                return {name: np.array(array) for name, array in stream.read().items()}

            wanted = [by_hand(first, None)]
            for feed in (first, first, second, second):
                wanted.append(by_hand(feed, wanted[-1]))
            seen = [ran(stream, first), ran(stream), ran(stream)]
            other.infer()  # another stream's state is its own
            stream.bind(inputs)
            kept = read()
            seen += [ran(stream), ran(stream)]
            again = ran(stream, first)

        name = next(iter(model.states.values())).output
        assert not np.allclose(wanted[0][name], wanted[1][name]), "the model has no memory"
        for number, want in enumerate(wanted):
            _assert_equal(seen[number], want, f"inference {number}")
        _assert_equal(kept, seen[2], "bind must not change the last outputs")
        _assert_equal(again, wanted[0], "a state that is bound replaces the one before it")

    def test_a_batch_equals_its_items(self, tmp_path: Path) -> None:
        self.ready()
        artifact = self.artifact(tmp_path)
        try:
            together = self.outputs(artifact, self.config(batch=4))
        except Unsupported as reason:
            assert "batch" in str(reason)
            return
        feed, model = self.feed(artifact.model, 4), artifact.model

        def item(array: np.ndarray, axis: int | None, index: int) -> np.ndarray:
            return array if axis is None else np.take(array, [index], axis)

        with self.open(artifact, self.config()) as program:
            stream = program.stream()
            for index in range(4):
                stream.bind({n: item(a, model.inputs[n].batch, index) for n, a in feed.items()})
                stream.infer()
                for name, array in stream.read().items():
                    alone = item(together[name], model.outputs[name].batch, index)
                    np.testing.assert_allclose(array, alone, rtol=1e-3, atol=1e-4)

    def test_a_file_is_described_as_its_card_says(self, tmp_path: Path) -> None:
        self.ready()
        backend, model = self.backend(), self.model(tmp_path)
        backend.import_tools()
        try:
            described = backend.describe(model.path)
        except Unsupported as reason:
            assert str(reason)
            return
        assert set(described.inputs) == {t.name for t in model.source_inputs.values()}
        assert {t.name for t in model.source_outputs.values()} <= set(described.outputs)
        for name, spec in model.inputs.items():
            tensor = model.source_inputs[name]
            found = described.inputs[tensor.name]
            want = relayout_shape(spec.shape, spec.layout, tensor.layout)
            for axis, (have, size) in enumerate(zip(found.shape, want, strict=True)):
                free = isinstance(have, str)
                assert free or have == (1 if axis == spec.batch else size), (name, axis)
            assert np.dtype(found.dtype) == np.dtype(spec.dtype)

    def test_wrong_inputs_are_refused(self, tmp_path: Path) -> None:
        import pytest

        self.ready()
        artifact = self.artifact(tmp_path)
        good = self.feed(artifact.model, 1)
        specs = artifact.model.inputs
        name = next(name for name, spec in specs.items() if spec.shape)
        with self.open(artifact, self.config()) as program:
            stream = program.stream()
            with pytest.raises(ValueError, match="no_such_input"):
                stream.bind({"no_such_input": good[name]})
            with pytest.raises(ValueError, match=name):
                stream.bind({**good, name: good[name][..., :-1]})
            if specs[name].batch is not None:
                with pytest.raises(ValueError, match=name):
                    stream.bind({**good, name: self.feed(artifact.model, 2)[name]})

    def test_unknown_hints_are_refused(self, tmp_path: Path) -> None:
        import pytest

        self.ready()
        artifact = self.artifact(tmp_path)
        with pytest.raises(ValueError, match="no_such_hint"):
            self.open(artifact, self.config(hints={"no_such_hint": 1}))

    def test_a_damaged_file_is_a_prepare_error(self, tmp_path: Path) -> None:
        import pytest

        self.ready()
        model = self.model(tmp_path)
        content = model.path.read_bytes()
        for name, damaged in {"cut": content[: len(content) // 2], "text": b"hello\n"}.items():
            path = tmp_path / f"{name}{model.path.suffix}"
            path.write_bytes(damaged)
            out = tmp_path / f"out-{name}"
            out.mkdir()
            backend = self.backend()
            backend.import_tools()
            broken = Model(**{**vars(model), "path": path})
            with pytest.raises((PrepareError, Unsupported)):
                backend.describe(path)
            with pytest.raises(PrepareError):
                backend.prepare(broken, self.prepare_target("fp32"), None, out)

    def test_effective_precision_is_read_back(self, tmp_path: Path) -> None:
        self.ready()
        artifact = self.artifact(tmp_path)
        with self.open(artifact, self.config(), inspect=True) as program:
            effective = program.effective()
        assert effective.precision == "fp32"
        assert set(effective.operators) <= set(EFFECTIVE)
        assert set(effective.macs or {}) <= set(EFFECTIVE)
        assert sum(effective.operators.values()) > 0
        for amount in (effective.weight_bytes, effective.activation_bytes):
            assert amount is None or amount > 0, "unknown bytes are None"

    def test_a_profile_agrees_with_the_effective_precision(self, tmp_path: Path) -> None:
        self.ready()
        artifact = self.artifact(tmp_path)
        with self.open(artifact, self.config(), inspect=True) as program:
            try:
                profile = program.profile(self.feed(artifact.model, 1), runs=3)
            except Unsupported as reason:
                assert str(reason)
                return
            if profile is None:
                return
            effective = program.effective()
        summary = EffectivePrecision.of(profile.operators)
        assert summary.operators == effective.operators
        assert summary.weight_bytes in (None, effective.weight_bytes), "None if unknown"
        assert {op.role for op in profile.operators} <= {"compute", "convert", "other"}
        times = [op.ns for op in profile.operators if op.ns is not None]
        assert len(times) in (0, len(profile.operators)), "all operators have a time, or none"
        assert times or profile.notes, "a note says that the runtime reports no times"
        assert not times or sum(times) > 0

    def test_layers_have_the_same_names_in_all_artifacts(self, tmp_path: Path) -> None:
        """The float32 artifact compared with a quantized one."""
        precisions = [p for p in self.precisions() if p in ("fp32", "int8-static")]
        shown = []
        for precision in precisions:
            try:
                artifact = self.artifact(tmp_path, precision)
                feeds = [self.feed(artifact.model, 1)]
                found = self.backend().activations(artifact, self.config(), feeds)
                if found is None:
                    return
                (layers,) = found
            except Unsupported as reason:
                assert str(reason)
                return
            assert layers and all(layer.values.dtype == np.float32 for layer in layers)
            shown.append({layer.name: layer.values for layer in layers})
        common = set(shown[0]).intersection(*shown[1:])
        assert len(common) * 2 >= len(shown[0]), "at least half of the layers can be compared"
        for layers in shown[1:]:
            for name in common:
                exact, got = shown[0][name], layers[name]
                assert exact.shape == got.shape, name
                noise, signal = np.sum((exact - got) ** 2.0), np.sum(exact**2.0)
                assert noise <= signal, f"{name} has nothing in common with float32's"

    def test_it_works_in_workers(self, tmp_path: Path) -> None:
        """Prepare, evaluate and measure float32 and static int8 through the worker protocol."""
        for precision in ("fp32", "int8-static"):
            if precision in self.precisions():
                folder = tmp_path / precision
                folder.mkdir()
                self._run_in_workers(folder, precision)

    def _run_in_workers(self, folder: Path, precision: str) -> None:
        from qbench.run.workers.isolate import run_job

        model = self.model(folder)
        items = {name: f"{name}.npy" for name in model.inputs}
        for name, array in self.items(model, 16).items():
            np.save(folder / items[name], array)
        files = {file: folder / file for file in items.values()}

        def job(name: str, files: Mapping[str, Path], **request: Any) -> Mapping[str, Any]:
            work = folder / name
            work.mkdir()
            outcome = run_job(name, self.target, request, work, files, timeout_s=120)
            assert outcome.status == "ok", outcome.reason + outcome.log
            return outcome.result

        job(
            "prepare",
            {**files, model.path.name: model.path},
            model={**model.to_json(), "path": model.path.name, "companions": {}},
            target=asdict(self.prepare_target(precision)),
            calibration=items if precision == "int8-static" else None,
            calibration_items=8,
        )
        made = folder / "prepare" / "out"
        config = {"artifact": "artifact", "config": asdict(self.config())}
        if self.device in self.ready().compiled:
            kept = folder / "kept"
            kept.mkdir()
            job("compile", {"artifact": made, "kept": kept}, **config, kept="kept")
            made = folder / "compile" / "out"
        opened, common = {**files, "artifact": made}, {**config, "feeds": items}
        outputs = job("evaluate", opened, **common)["outputs"]
        assert list(outputs) == list(model.outputs)
        for file in outputs.values():
            assert len(np.load(folder / "evaluate" / file)) == 16
        how = {"scenario": "closed_loop", "options": {}, "warmup_s": 0.02, "timed_s": 0.02}
        result = job("measure", opened, **common, **how)
        samples = np.load(folder / "measure" / "samples.npy")
        assert samples.dtype == np.int64
        assert len(samples) == result["calls"] > 0
        assert (samples > 0).all()


def _assert_equal(got: Feed, want: Feed, why: str) -> None:
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-6, err_msg=why)
