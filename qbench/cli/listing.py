"""Commands about this machine and the shipped files: doctor, backends, models, suites."""

from __future__ import annotations

from qbench.cli.common import DEFAULT_RESULTS, FAILED, AsJson, Results, console, print_json


def doctor(results: Results = DEFAULT_RESULTS, as_json: AsJson = False) -> int:
    """Check whether this machine is fit to measure.

    Each finding comes with the command that fixes it. Takes about a second and changes nothing.
    The exit code is 1 if a finding is bad.

    \b
    Examples:
      qbench doctor
      qbench doctor --json | jq .fit
    """
    from dataclasses import asdict

    from qbench.machine.doctor import HEADERS, examine, rows, verdict
    from qbench.machine.lock import another_run
    from qbench.present.terminal.tables import simple_table
    from qbench.storage import cache_dir

    folders = {"results": results, "cache": cache_dir()}
    findings = examine(folders=folders, others=[another_run()])
    fit = all(finding.status != "bad" for finding in findings)
    if as_json:
        print_json({"fit": fit, "findings": [asdict(finding) for finding in findings]})
    else:
        out = console()
        out.print(simple_table(HEADERS, rows(findings)))
        out.print(verdict(findings), markup=False)
    return 0 if fit else FAILED


def backends(as_json: AsJson = False) -> int:
    """List the backends with their devices and precisions here.

    A backend that does not work is listed with the reason and the remedy.

    \b
    Examples:
      qbench backends
      qbench backends --json | jq .tensorrt
    """
    from dataclasses import asdict

    from qbench.kit.adapter import Ready
    from qbench.present.terminal.backends import backend_tables
    from qbench.run.workers.registry import Registry

    probes = Registry().probe()
    if as_json:
        print_json({n: {"ready": isinstance(p, Ready), **asdict(p)} for n, p in probes.items()})
        return 0
    out = console()
    tables, lines = backend_tables(probes)
    for table in tables:
        out.print(table)
    for line in lines:
        out.print(line, markup=False)
    return 0


def models(as_json: AsJson = False) -> int:
    """List the shipped model cards.

    'untried' marks a card that nobody has run with its real files yet.

    Cards for your own suites go in a folder models/ next to the suite file.
    """
    from qbench.present.terminal.tables import simple_table
    from qbench.run.sources.catalog import Catalog
    from qbench.spec.suite import suites_dir

    catalog = Catalog([suites_dir()])
    cards = [catalog.card(name) for name in catalog.names]
    if as_json:
        print_json([card.model_dump(mode="json") for card in cards])
        return 0
    rows = []
    for card in cards:
        expected = f"{100 * card.expected.value:.1f} %" if card.expected else None
        expected = "untried" if card.untried else expected
        rows.append((card.name, card.task, ", ".join(card.sources), expected, card.description))
    console().print(simple_table(["model", "task", "formats", "fp32", "description"], rows))
    return 0


def suites(as_json: AsJson = False) -> int:
    """List the shipped suites."""
    from qbench.present.terminal.tables import simple_table
    from qbench.spec.suite import Suite, shipped_suites
    from qbench.spec.yamlfile import load

    found = [load(path, Suite)[0] for path in shipped_suites().values()]
    if as_json:
        print_json([suite.model_dump(mode="json") for suite in found])
        return 0
    rows = [(suite.name, ", ".join(suite.models), suite.description) for suite in found]
    console().print(simple_table(["suite", "models", "description"], rows))
    return 0
