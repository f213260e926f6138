"""Sessions of pytest with the plugin, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.metadata import entry_points
from pathlib import Path

INSTALLED = bool(entry_points(group="pytest11", name="qbench"))
LOAD = ["-p", "qbench" if INSTALLED else "qbench.testing.pytest_plugin", "-p", "no:cacheprovider"]
"""The entry point if there is one: a plugin must not be there under two names. Other plugins are
loaded where a test names them: all that are installed take a second each time."""


class Pytest:
    """A session of pytest in the project's folder.

    Attributes:
        out: what it printed.
        outcomes: by the test's name, what became of it, from the JUnit file.
        properties: by the test's name, its properties by name.
    """

    def __init__(self, project, *args: str | Path, **env: str) -> None:
        junit = project.root / "junit.xml"
        junit.unlink(missing_ok=True)
        path = [project.env["PYTHONPATH"], os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *LOAD, f"--junit-xml={junit}", *map(str, args)],
            cwd=project.root,
            env={
                **project.env,
                "PYTHONPATH": os.pathsep.join(filter(None, path)),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                **env,
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.out, self.code = done.stdout + done.stderr, done.returncode
        self.outcomes: dict[str, str] = {}
        self.messages: dict[str, str] = {}
        self.properties: dict[str, dict[str, str]] = {}
        for case in ET.parse(junit).iter("testcase") if junit.exists() else ():
            name = str(case.get("name"))
            wrong = [child for child in case if child.tag != "properties"]
            self.outcomes[name] = wrong[0].tag if wrong else "passed"
            self.messages[name] = "".join(str(w.get("message")) + str(w.text) for w in wrong)
            self.properties[name] = {
                str(p.get("name")): str(p.get("value")) for p in case.iter("property")
            }
