#!/usr/bin/env bash
# One night: measure, judge, and write what people read. Every recipe in this folder calls it.
#
#   nightly.sh [SUITE]
#
# QBENCH_RESULTS: where the bundles of all nights are kept; must outlive the night (results)
# QBENCH_OUT: the pages and verdicts of this night (out)
#
# Exit code, the gate's: 0 passed, 1 a regression or a failed case, 2 wrong input, 3 the run says
# nothing (too many cases broken, or the machine failed).
set -euo pipefail

suite=${1:-nightly.yaml}
results=${QBENCH_RESULTS:-results}
out=${QBENCH_OUT:-out}
mkdir -p "$results" "$out"

# --fresh: a night that was interrupted is not gone on with on another day.
code=0
qbench run "$suite" --results "$results" --fresh --no-report --json > "$out/run.json" || code=$?
if [ "$code" -gt 1 ]; then exit "$code"; fi   # 1: a case failed, which the gate judges
bundle=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["bundle"])' < "$out/run.json")

code=0
qbench gate "$bundle" --results "$results" --confirm \
  --junit "$out/gate.xml" --summary "${GITHUB_STEP_SUMMARY:-$out/gate.md}" || code=$?

# What people read, and all raw data of the night. A verdict is no worse without them.
qbench report "$bundle" -o "$out/report.html" || true
qbench history --results "$results" -o "$out/history.html" || true
tar -czf "$out/bundle.tar.gz" -C "$(dirname "$bundle")" "$(basename "$bundle")" || true
qbench prune --results "$results" --keep-days 365 --keep-runs 30 --yes || true
exit "$code"
