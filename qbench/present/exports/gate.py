"""A verdict for other programs: JSON, JUnit's XML, and Markdown for a CI's summary page.

Labels and reasons come from bundles, which may come from anyone: they are escaped for each format,
and control characters are left out.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from qbench.analysis.gate.judge import Finding, GateResult
from qbench.analysis.gate.record import headline

_NOT_XML = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
"""Characters that no XML 1.0 document may hold (section 2.2), control characters, and those that
turn the direction of writing."""
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+!|~&@-])")
TITLES = {
    "regression": "Regressions",
    "suspicion": "Suspicions, not confirmed",
    "accepted": "Accepted",
    "notice": "Notices",
}
MOST = 50
"""Findings of one severity that a summary lists."""


def to_junit(result: GateResult) -> bytes:
    """A test suite with a test case for each case of the run, and for each that is missing."""
    listed = {case.case_id for case in result.cases}
    gone = {f.case_id: f.label for f in result.findings if f.case_id not in listed}
    regressions: dict[str, list[Finding]] = {}
    for finding in result.of("regression"):
        regressions.setdefault(finding.case_id, []).append(finding)
    suite = ElementTree.Element("testsuite", name=_clean(f"qbench {result.suite}"))
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    if result.invalid is not None:
        _test(suite, "the run", result.suite, "error", "invalid", result.invalid)
        counts["tests"] += 1
        counts["errors"] += 1
    cases = [(c.case_id, c.label, c.status, c.reason) for c in result.cases]
    cases += [(case_id, label, "missing", None) for case_id, label in gone.items()]
    for case_id, label, status, reason in cases:
        name = f"{label} [{case_id}]"
        counts["tests"] += 1
        found = regressions.get(case_id)
        if found:
            counts["failures"] += 1
            kinds = ", ".join(dict.fromkeys(f.kind for f in found))
            _test(suite, name, result.suite, "failure", kinds, "\n".join(f.says for f in found))
        elif status in ("skipped", "missing"):
            counts["skipped"] += 1
            _test(suite, name, result.suite, "skipped", reason or status, "")
        else:
            _test(suite, name, result.suite)
    for key, count in counts.items():
        suite.set(key, str(count))
    properties = ElementTree.Element("properties")
    facts = {"run_id": result.run_id, "verdict": headline(result)}
    facts |= {"confirmed_by": result.confirmed_by} if result.confirmed_by else {}
    for key, value in facts.items():
        ElementTree.SubElement(properties, "property", name=key, value=_clean(value))
    suite.insert(0, properties)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _test(
    suite: ElementTree.Element,
    name: str,
    of: str,
    outcome: str = "",
    kind: str = "",
    text: str = "",
) -> None:
    test = ElementTree.SubElement(
        suite, "testcase", name=_clean(name), classname=_clean(f"qbench.{of}")
    )
    if outcome:
        element = ElementTree.SubElement(test, outcome, message=_clean(kind))
        element.text = _clean(text) or None


def _clean(words: str) -> str:
    return _NOT_XML.sub("", words)


def to_markdown(result: GateResult) -> str:
    """For a CI's summary page."""
    lines = [f"## qbench gate: {_plain(headline(result))}", ""]
    lines += [f"Run {_plain(result.run_id)} of the suite {_plain(result.suite)}, held against "]
    lines[-1] += _plain("; ".join(result.baselines) or "nothing") + "."
    lines[-1] += f" {result.compared} of {result.candidates} cases could be compared."
    if result.confirmed_by:
        lines += ["", f"New trials were made in {_plain(result.confirmed_by)}."]
    for severity, title in TITLES.items():
        found = [f for f in result.findings if f.severity == severity]
        if found:
            lines += ["", f"### {title}", "", "| case | what | |", "|---|---|---|"]
            lines += [
                f"| {_plain(f.label)} {f.case_id} | {_plain(f.kind)} | {_plain(f.says)}"
                f"{_plain(confirmation_text(f))} |"
                for f in found[:MOST]
            ]
            if len(found) > MOST:
                lines += ["", f"... and {len(found) - MOST} more"]
    if result.notes:
        lines += ["", *(f"- {_plain(note)}" for note in result.notes)]
    return "\n".join(lines) + "\n"


def confirmation_text(finding: Finding) -> str:
    """The result of the confirming trials, as the end of a sentence."""
    if finding.confirmed is None:
        return ""
    words = "; confirmed by new trials" if finding.confirmed else "; new trials do not show it"
    if finding.again is not None and finding.kind != "limit":
        words += f" ({100 * finding.again.value:.1f} %)"
    return words


def _plain(words: str) -> str:
    """One line, escaped for Markdown and HTML."""
    words = " ".join(_NOT_XML.sub("", words).split())
    return _MARKUP.sub(r"\\\1", words).replace("\\<", "&lt;").replace("\\>", "&gt;")
