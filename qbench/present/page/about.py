"""Facts about the runs: the header, the method, and how to reproduce them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from qbench.analysis.statistics import estimates
from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import to_json
from qbench.present.words.named import PageCase
from qbench.present.words.run import Run
from qbench.spec.suite import MIN_ROUNDS
from qbench.storage import digest_file

SUITE_CHARACTERS = 20_000


def run_facts(run: Run) -> dict[str, Any]:
    """Facts for the header, and how to reproduce the run."""
    begin = run.bundle.begin
    host = begin.host
    filters = {name: values for name, values in begin.filters.items() if values}
    return {
        "letter": run.letter,
        "run_id": run.bundle.run_id,
        "suite": begin.suite,
        "cases": len(run.cases),
        "started": begin.started.replace("T", " "),
        "cpu": host.cpu_model or "an unnamed processor",
        "cores": host.cores_usable or host.cores_logical,
        "os": host.os or host.system or "an unnamed system",
        "complete": run.bundle.complete,
        "command": shlex.join(["qbench", *begin.command]),
        "digests": [
            ("suite’s digest", begin.suite_digest),
            ("plan’s digest", begin.plan_digest),
            ("manifest’s digest", _manifest_digest(run.bundle)),
        ],
        "seed": begin.seed,
        "filters": "; ".join(f"{k}: {', '.join(v)}" for k, v in filters.items()),
        "software": begin.software,
        "environments": [
            {
                "name": name,
                "python": built.python,
                "requirements": built.requirements,
                "digest": built.digest,
                "failure": built.failure,
            }
            for name, built in begin.environments.items()
        ],
        "packages": [
            f"{name}=={version}" for name, version in sorted((host.packages or {}).items())
        ],
        "suite_text": run.bundle.suite_text[:SUITE_CHARACTERS],
    }


def _manifest_digest(bundle: Bundle) -> str | None:
    """Covers every file of a complete bundle."""
    return digest_file(bundle.path / "manifest.json") if bundle.complete else None


def method(runs: Sequence[Run], cases: Sequence[PageCase]) -> dict[str, Any]:
    """Settings and conventions that the figures rest on."""
    settings = [to_json(run.bundle.begin.settings) for run in runs]
    numbers = {
        key: ", ".join(dict.fromkeys(_setting(s[key]) for s in settings if key in s)) or "–"
        for key in ("rounds", "warmup_s", "timed_s")
    }
    return {
        **numbers,
        "least_rounds": MIN_ROUNDS,
        "confidence": f"{100 * estimates.CONFIDENCE:g} %",
        "metrics": sorted({c.accuracy_metric for c in cases if c.accuracy_metric}),
        "energy": sorted({c.energy_method for c in cases if c.energy_method}),
        "proxy": any(case.energy_is_measured is False for case in cases),
        "random_data": any(
            record.data_is_random for run in runs for record in run.evaluated.values()
        ),
    }


def _setting(value: Any) -> str:
    """A number, or the rule that determines the number of rounds."""
    if isinstance(value, Mapping):
        target = f"until p10 is known to {100 * value['target']:g} %" if "target" in value else ""
        return f"{value.get('least', '–')} to {value.get('most', '–')}, {target}"
    return f"{value:g}" if isinstance(value, int | float) else str(value)
