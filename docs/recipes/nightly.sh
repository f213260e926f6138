#!/usr/bin/env bash
# One night: measure, apply the gate, write reports. All recipes in this folder call it.
#
#   nightly.sh [SUITE]
#
# QBENCH_RESULTS: folder for the bundles of all nights; must persist (default: results)
# QBENCH_OUT: folder for the pages and verdicts of this night (default: out)
#
# Exit code of the gate: 0 passed, 1 a regression or a failed case, 2 wrong input, 3 invalid run
# (too many cases broken, or the machine failed).
set -euo pipefail

suite=${1:-nightly.yaml}
results=${QBENCH_RESULTS:-results}
out=${QBENCH_OUT:-out}
mkdir -p "$results" "$out"

# --fresh: do not resume a night that was interrupted on another day.
code=0
qbench run "$suite" --results "$results" --fresh --no-report --json > "$out/run.json" || code=$?
if [ "$code" -gt 1 ]; then exit "$code"; fi   # 1: a case failed; the gate decides
bundle=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["bundle"])' < "$out/run.json")

code=0
qbench gate "$bundle" --results "$results" --confirm \
  --junit "$out/gate.xml" --summary "${GITHUB_STEP_SUMMARY:-$out/gate.md}" || code=$?

# Reports, and all raw data of the night. If they fail, the verdict still counts.
qbench report "$bundle" -o "$out/report.html" || true
qbench history --results "$results" -o "$out/history.html" || true
tar -czf "$out/bundle.tar.gz" -C "$(dirname "$bundle")" "$(basename "$bundle")" || true
qbench prune --results "$results" --keep-days 365 --keep-runs 30 --yes || true
exit "$code"
