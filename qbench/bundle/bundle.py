"""Bundles: the folder that one run writes, and the unit that people copy, compare and publish.

Layout::

    begin.json        host, software, seed, request; a folder without it is not a bundle
    plan.json         the cases, skipped ones with their reasons
    suite.yaml        the suite as it was read
    bandwidth.json    bytes per second of the machine's memory, if the suite asks for a roofline
    prepare.jsonl     one line for each artifact
    evaluate.jsonl    one line for each evaluation: quality, effective precision
    journal.jsonl     one line for each trial, written before the next begins
    samples/          <trial>.npy, only until the run ends: see samples.parquet
    traces/           <trial>/...: other files of a scenario: series, LoadGen's logs
    predictions/      <evaluation>/<n>.npy: outputs for every evaluation item; labels-<model>.npy;
                      chosen-<model>.npy: indices of the evaluated items in the data set
    energy.jsonl      the energy pass: one line for each window, and for the baseline
    energy/           the sensors' readings: [readings, 2], time (ns) and joules or watts
    trials.parquet    derived from journal and samples: one row for each trial
    samples.parquet   one row for each call of a timed window: trial, int64 nanoseconds
    manifest.json     digests of all these; written last: a folder without it is incomplete

A bundle may come from another machine, so it is not trusted: only JSON and plain arrays are read,
and names that lead outside the folder are refused.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from functools import cached_property
from io import BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError

from qbench.bundle.records.energy import EnergyLine, EnergyRecord
from qbench.bundle.records.run import (
    FILES,
    SCHEMA,
    Bandwidth,
    Begin,
    Evaluated,
    Manifest,
    Plan,
    Prepared,
    Trial,
)
from qbench.bundle.trials import (
    PERCENTILES,
    TRIAL_COLUMNS,
    check_trials,
    percentile,
    percentile_name,
)
from qbench.errors import UserError
from qbench.storage import (
    TEMPORARY,
    append_line,
    copy_file,
    digest_file,
    drop_torn_line,
    parse_json,
    read_lines,
    write_file,
)

Model = TypeVar("Model", bound=BaseModel)
_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")


class Bundle:
    """A bundle on disk, complete or not.

    Attributes:
        path: its folder.

    Raises:
        UserError: the folder is not a bundle, or a bundle of another schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "begin.json").is_file():
            raise UserError(
                f"{path} is not a bundle: it has no begin.json",
                "Give the path of a bundle, its id, or 'latest'.",
            )
        schema = _json(path / "begin.json").get("schema")
        if type(schema) is not int or schema != SCHEMA:
            raise UserError(
                f"{path} was written with schema {schema!r:.40}, this version reads {SCHEMA}",
                "Run the suite again, or use the qbench that begin.json names under software.",
            )

    @classmethod
    def create(
        cls, path: Path, begin: Mapping[str, Any], plan: Mapping[str, Any], suite: str
    ) -> Bundle:
        """Create a new, incomplete bundle."""
        path.mkdir(parents=True)
        return cls.create_in(path, begin, plan, suite)

    @classmethod
    def create_in(
        cls, path: Path, begin: Mapping[str, Any], plan: Mapping[str, Any], suite: str
    ) -> Bundle:
        """Like ``create``, in an existing empty folder."""
        for folder in ("samples", "predictions"):
            (path / folder).mkdir()
        write_file(path / "plan.json", json.dumps(plan, indent=1, sort_keys=True))
        write_file(path / "suite.yaml", suite)
        write_file(
            path / "begin.json",
            json.dumps({**begin, "schema": SCHEMA}, indent=1, sort_keys=True),
        )
        return cls(path)

    # ------------------------------------------------------------------ reading

    @cached_property
    def begin(self) -> Begin:
        """``begin.json``."""
        return self._record(Begin, "begin.json", _json(self.path / "begin.json"))

    @cached_property
    def plan(self) -> Plan:
        """``plan.json``."""
        return self._record(Plan, "plan.json", _json(self.path / "plan.json"))

    @cached_property
    def manifest(self) -> Manifest:
        """``manifest.json`` of a complete bundle."""
        return self._record(Manifest, "manifest.json", _json(self.path / "manifest.json"))

    @property
    def suite_text(self) -> str:
        """The suite as it was read; "" if its file is missing."""
        try:
            return (self.path / "suite.yaml").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    @property
    def run_id(self) -> str:
        return self.begin.run_id

    @property
    def complete(self) -> bool:
        return (self.path / "manifest.json").is_file()

    @property
    def prepared(self) -> dict[str, Prepared]:
        """The last record of each artifact, by its key."""
        return {record.artifact_key: record for record in self._lines("prepare.jsonl", Prepared)}

    @property
    def evaluated(self) -> dict[str, Evaluated]:
        """The last record of each evaluation, by its id."""
        return {record.evaluation_id: record for record in self._lines("evaluate.jsonl", Evaluated)}

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order in which they ran."""
        return self._lines("journal.jsonl", Trial)

    @property
    def energy(self) -> list[EnergyLine]:
        """The records of the energy pass, in file order."""
        return [record.root for record in self._lines("energy.jsonl", EnergyRecord)]

    def lines(self, name: str) -> list[BaseModel]:
        """Read the records of ``prepare.jsonl``, ``evaluate.jsonl``, ``journal.jsonl`` or
        ``energy.jsonl``, in file order; an incomplete last line is skipped."""
        return self._lines(name, FILES[name])

    def _lines(self, name: str, kind: type[Model]) -> list[Model]:
        try:
            records = read_lines(self.path / name)
        except ValueError as error:
            raise UserError(str(error), "The bundle is damaged; run the suite again.") from None
        return [
            self._record(kind, name, record, f":{number}")
            for number, record in enumerate(records, 1)
        ]

    def _record(
        self, kind: type[Model], name: str, record: dict[str, Any], line: str = ""
    ) -> Model:
        """Validate a record of the file ``name``.

        Raises:
            UserError: a required field is missing, or a field has another type.
        """
        try:
            return kind.model_validate(record, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            keys = ".".join(str(key) for key in first["loc"])
            where = f"{self.path / name}{line}: damaged: {keys}".removesuffix(": ")
            reason = first["msg"].removeprefix("Value error, ")
            raise UserError(f"{where}: {reason}", "Run the suite again.") from None

    def samples(self, name: str) -> np.ndarray:
        """Return the latencies of a successful trial, ``[calls]`` int64 nanoseconds: from
        ``samples.parquet`` or, until the run ends, from the trial's own file."""
        path = self.inside("samples", f"{name}.npy")
        if not self.complete and path.exists():
            samples = read_array(path)
        else:
            path = self.path / "samples.parquet"
            samples = self._stored_samples.get(name, np.array([]))
        if samples.ndim != 1 or samples.dtype != np.int64 or (samples <= 0).any():
            raise UserError(
                f"{path} is damaged: not a list of positive int64", "Run the suite again."
            )
        return samples

    @property
    def has_predictions(self) -> bool:
        """Whether the bundle contains predictions; ``qbench pack`` leaves them out."""
        return self.begin.packed is None or self.begin.packed.predictions

    @cached_property
    def _stored_samples(self) -> dict[str, np.ndarray]:
        """``samples.parquet`` by trial."""
        import pyarrow.parquet as pq

        try:
            columns = ["trial", "latency_ns"]
            table = pq.read_table(
                self.path / "samples.parquet", columns=columns, read_dictionary=["trial"]
            )
            names = table["trial"].to_pandas()
            trials = names.cat.codes.to_numpy()
            samples = table["latency_ns"].to_numpy()
        except (
            OSError,
            ValueError,
            KeyError,
            AttributeError,
        ) as error:  # pyarrow's errors are ValueErrors
            raise UserError(
                f"{self.path / 'samples.parquet'} is missing or damaged: {error}",
                "`qbench verify` says what was changed; another copy has to replace it.",
            ) from None
        if not len(trials):
            return {}
        starts = np.flatnonzero(np.append(True, trials[1:] != trials[:-1]))
        parts = np.split(samples, starts[1:])
        return dict(zip(names.iloc[starts].tolist(), parts, strict=True))

    def outputs(self, evaluation_id: str) -> dict[str, np.ndarray]:
        """Return the predictions of an evaluation by output name, memory-mapped and read-only."""
        return self.outputs_of(self.evaluated[evaluation_id])

    def outputs_of(self, record: Evaluated) -> dict[str, np.ndarray]:
        """Like ``outputs``, for a record that was already read."""
        return {
            name: read_array(self.inside("predictions", record.evaluation_id, file))
            for name, file in record.outputs.items()
        }

    def reference(self, model: str) -> str | None:
        """Return the id of the evaluation that the model's others are compared with: the first
        successful one of the plan's candidates; None if there is none yet."""
        done = self.evaluated
        for entry in self.plan.references.get(model, []):
            record = done.get(entry.evaluation_id or "")
            if record is not None and record.status == "ok":
                return record.evaluation_id
        return None

    def labels(self, model: str) -> np.ndarray | None:
        """Return the labels of the evaluated items, in evaluation order; None if they have none."""
        return self._of_items("labels", model)

    def chosen(self, model: str) -> np.ndarray | None:
        """Return the indices of the evaluated items in the data set; None for made-up items."""
        return self._of_items("chosen", model)

    def _of_items(self, what: str, model: str) -> np.ndarray | None:
        path = self.inside("predictions", f"{what}-{model}.npy")
        return read_array(path) if path.exists() else None

    def inside(self, *names: str) -> Path:
        """Return the path of a file that a record names.

        Raises:
            UserError: the path leads out of the bundle.
        """
        for name in names:
            if not _is_file_name(name):
                raise UserError(
                    f"{self.path}: a record names the file '{name}', which is not a file name"
                )
        path = self.path.joinpath(*names)
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise UserError(f"{path} is a link that leads out of the bundle")
        return path

    def trials_frame(self) -> pd.DataFrame:
        """Return one row for each trial, with the percentiles of its samples: read from
        ``trials.parquet`` if the bundle is complete, else computed."""
        name = "trials.parquet" if self.complete else "journal.jsonl"
        try:
            if self.complete:
                frame = pd.read_parquet(self.path / name)[TRIAL_COLUMNS]
            else:
                frame = self.compute_trials()
            check_trials(frame)
            return frame
        except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow: ValueErrors
            raise UserError(
                f"{self.path / name} is missing or damaged: {error}",
                "`qbench verify` says what was changed; a copy or another run has to replace it.",
            ) from None

    def compute_trials(self) -> pd.DataFrame:
        """Compute ``trials_frame`` from journal and samples. Latencies in ns, memory in bytes."""
        return pd.DataFrame([self._trial_row(t) for t in self.trials], columns=TRIAL_COLUMNS)

    def _trial_row(self, trial: Trial) -> dict[str, Any]:
        row: dict[str, Any] = {key: getattr(trial, key, None) for key in TRIAL_COLUMNS}
        row |= trial.phases | (trial.counters or {})
        row |= {f"memory_{key}": value for key, value in trial.memory.items()}
        row |= {f"warmup_{key}": trial.warmup.get(key) for key in ("calls", "ns", "stable")}
        if trial.status == "ok":
            samples = self.samples(trial.trial)
            for point in PERCENTILES:
                row[f"{percentile_name(point)}_ns"] = percentile(samples, point)
        return row

    def copy_file(self, name: str, target: Path) -> None:
        """Copy a file that holds no records, without syncing it to disk."""
        shutil.copyfile(self.path / name, target)

    # ------------------------------------------------------------------ writing

    def resume(self) -> None:
        """Prepare the bundle for appending after a crash: remove torn lines and temporary files."""
        (self.path / "samples").mkdir(exist_ok=True)
        for name in ("prepare.jsonl", "evaluate.jsonl", "journal.jsonl", "energy.jsonl"):
            drop_torn_line(self.path / name)
        for path in [p for p in self.path.rglob(f"{TEMPORARY}*") if p.is_file()]:
            path.unlink()

    def add_prepared(self, record: dict[str, Any]) -> None:
        append_line(self.path / "prepare.jsonl", record)

    def add_evaluated(self, record: dict[str, Any], outputs: Mapping[str, Path]) -> None:
        """Add an evaluation with its output files."""
        folder = self.path / "predictions" / record["evaluation_id"]
        folder.mkdir(exist_ok=True)
        for index, source in enumerate(outputs.values()):
            copy_file(source, folder / f"{index}.npy")
        names = {name: f"{index}.npy" for index, name in enumerate(outputs)}
        append_line(self.path / "evaluate.jsonl", {**record, "outputs": names})

    def add_bandwidth(self, record: Mapping[str, Any]) -> None:
        """Store the bandwidth of the machine's memory."""
        write_file(self.path / "bandwidth.json", json.dumps(record, sort_keys=True))

    @property
    def bandwidth(self) -> Bandwidth | None:
        """Bandwidth of the machine's memory; None if it was not measured."""
        path = self.path / "bandwidth.json"
        if not path.exists():
            return None
        return self._record(Bandwidth, path.name, _json(path))

    def add_energy(self, record: Mapping[str, Any], series: Mapping[str, np.ndarray]) -> None:
        """Append a line of the energy pass; the series that it names are written first."""
        folder = self.path / "energy"
        folder.mkdir(exist_ok=True)
        for name, array in series.items():
            buffer = BytesIO()
            np.save(buffer, array)
            write_file(self.inside("energy", name), buffer.getvalue())
        append_line(self.path / "energy.jsonl", dict(record))

    def energy_series(self, name: str) -> np.ndarray:
        """Read a series that a record names: see ``qbench.bundle.records.energy.Reading``."""
        return read_array(self.inside("energy", name))

    def add_items(self, model: str, labels: Path | None, chosen: Path | None) -> None:
        """Store the labels of the evaluated items, and their indices in the data set."""
        for name, source in (("labels", labels), ("chosen", chosen)):
            path = self.path / "predictions" / f"{name}-{model}.npy"
            if source is not None and not path.exists():
                copy_file(source, path)

    def add_trial(
        self, record: dict[str, Any], samples: Path | None, traces: Mapping[str, Path]
    ) -> Trial:
        """Add a trial: its files first, then its line; all are on disk on return.

        Args:
            traces: additional files of its scenario, by name.
        """
        if samples is not None:
            target = self.inside("samples", f"{record['trial']}.npy")
            copy_file(samples, target)
            record = {**record, "samples_sha256": digest_file(target)}
        if traces:
            folder = self.inside("traces", record["trial"])
            folder.mkdir(parents=True, exist_ok=True)
            for name, source in traces.items():
                copy_file(source, self.inside("traces", record["trial"], name))
            record = {**record, "traces": sorted(traces)}
        append_line(self.path / "journal.jsonl", record)
        return self._record(Trial, "journal.jsonl", record)

    def trace(self, trial: str, name: str) -> Path:
        """Return the path of an additional file of a trial's scenario."""
        return self.inside("traces", trial, name)

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write the tables and then the manifest, which makes the bundle complete.

        The trials' own files are removed only after ``samples.parquet`` is on disk, so a run that
        is killed in between can be resumed.
        """
        self._write_table("trials.parquet", self.compute_trials(), "DELTA_BINARY_PACKED")
        self._write_table("samples.parquet", self.compute_samples(), "BYTE_STREAM_SPLIT")
        self.__dict__.pop("_stored_samples", None)
        shutil.rmtree(self.path / "samples")
        files = {
            str(path.relative_to(self.path)): digest_file(path)
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and not path.name.startswith(TEMPORARY)
        }
        manifest = {**facts, "schema": SCHEMA, "run_id": self.run_id, "files": files}
        write_file(self.path / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True))

    def compute_samples(self) -> pd.DataFrame:
        """Return one row for each timed call of successful trials: ``trial``, ``latency_ns``."""
        good = [trial.trial for trial in self.trials if trial.status == "ok"]
        frames = [pd.DataFrame({"trial": t, "latency_ns": self.samples(t)}) for t in good]
        columns = pd.DataFrame({"trial": pd.Series(dtype=str), "latency_ns": pd.Series(dtype=int)})
        return pd.concat([columns, *frames], ignore_index=True)

    def _write_table(self, name: str, frame: pd.DataFrame, integers_as: str) -> None:
        """
        Args:
            integers_as: Parquet encoding of integer columns. The low bytes of samples are noise
                and the high bytes repeat: BYTE_STREAM_SPLIT with zstd takes 0.8 to 1.2 bytes a
                call, DELTA_BINARY_PACKED 1.4 to 1.9.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        buffer = pa.BufferOutputStream()
        integers = [c for c in frame.columns if frame[c].dtype == np.int64]
        pq.write_table(
            pa.Table.from_pandas(frame, preserve_index=False),
            buffer,
            use_dictionary=[c for c in frame.columns if c not in integers],  # type: ignore[arg-type]
            column_encoding=dict.fromkeys(integers, integers_as),
            compression="zstd",
        )
        write_file(self.path / name, buffer.getvalue().to_pybytes())

    # ------------------------------------------------------------------ checking

    def problems(self) -> list[str]:
        """Return the differences between the files and the manifest, one line each with the file's
        name: changed, missing, added, or not a regular file of this folder."""
        if not self.complete:
            return ["the bundle is incomplete: it has no manifest.json"]
        try:
            manifest, run_id = self.manifest, self.run_id
        except UserError as error:
            return [error.message]
        found: list[str] = []
        if manifest.run_id != run_id:
            found.append(f"manifest.json is of the run {manifest.run_id}, not of {run_id}")
        present, strange = self._present()
        found += [f"{name} is {what}" for name, what in strange.items()]
        for name, digest in manifest.files.items():
            if name in strange:
                continue
            if name not in present:
                inside = all(map(_is_file_name, name.split("/")))
                found.append(
                    f"{name} is missing" if inside else f"{name} is not a file of a bundle"
                )
            elif digest_file(self.path / name) != digest:
                found.append(f"{name} was changed")
        added = present - {*manifest.files, "manifest.json"}
        return found + [f"{name} was added" for name in sorted(added)]

    def _present(self) -> tuple[set[str], dict[str, str]]:
        """Return the names of regular files, and links and devices: their kind by name."""
        files: set[str] = set()
        strange: dict[str, str] = {}
        for path in sorted(self.path.rglob("*")):
            name = str(path.relative_to(self.path))
            if path.is_symlink():
                inside = path.resolve().is_relative_to(self.path.resolve())
                strange[name] = "a link" if inside else "a link that leads out of the bundle"
            elif path.is_file():
                if not path.name.startswith(TEMPORARY):  # as in ``finish``
                    files.add(name)
            elif not path.is_dir():
                strange[name] = "neither file nor folder"
        return files, strange


def _is_file_name(name: Any) -> bool:
    """Whether it is a plain file name: no path, and not the name of a temporary file."""
    return isinstance(name, str) and bool(_NAME.match(name)) and not name.startswith(TEMPORARY)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}", "Run the suite again.") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged: not a JSON object", "Run the suite again.")
    return cast("dict[str, Any]", value)


def read_array(path: Path) -> np.ndarray:
    """Memory-map a numeric array, read-only. A header that promises more than the file contains is
    refused before memory is allocated, and predictions may be larger than memory."""
    try:
        with np.errstate(over="ignore"):  # in the product of a shape
            array = np.asarray(np.lib.format.open_memmap(path, mode="r"))
        if array.dtype.kind not in "biuf":
            raise ValueError(f"it holds {array.dtype}, and no numbers")
        return array
    except (OSError, ValueError, EOFError, OverflowError, TypeError, TokenError) as error:
        raise UserError(f"{path} is missing or damaged: {error}", "Run the suite again.") from None
