"""Pictures: what they show is the case table's, and nothing that names say harms or breaks them."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from crafted import Crafted
from paths import ROOT
from PIL import Image

from qbench.analysis.table.table import case_table
from qbench.bundle.bundle import Bundle
from qbench.errors import UserError
from qbench.present.pictures import CHARTS, NoData, figures
from qbench.present.pictures.look import DOTS_PER_INCH, PALETTE, PARTS, SCALE, Look, drawing
from qbench.present.pictures.shown import shown

pytest.importorskip("matplotlib", reason="pictures need the extra 'figures'")

HOSTILE = '$\\frac{1$ <script>alert(1)</script> & "q" \u202e\x07\x1b[31m 你好 🦄 é \\n' + "w" * 500
SERIES = ["end_s", "calls", "p50_ms", "p99_ms", "frequency_khz", "temperature_c"]
WORK = {"weight_bytes": 1_000_000, "activation_bytes": 1_000_000}


def several(
    folder: Path, names: tuple[str, str, str] = ("net", "fake", "other"), **begin: Any
) -> Bundle:
    """Two backends at two precisions and two batch sizes, six rounds each, in which one answer of
    twelve is wrong at int8; and a long load."""
    model, *backends = names
    crafted = Crafted(folder, **begin)
    crafted.labels = np.arange(12) % 3 if model == "net" else None
    scores = np.eye(3, dtype=np.float32)[np.arange(12) % 3]
    wrong = scores.copy()
    wrong[0] = [0, 1, 0]
    reference = None
    for factor, backend in enumerate(backends, 1):
        for batch in (1, 4):
            for precision, ms in (("fp32", 4.0), ("int8-static", 1.5)):
                case = crafted.case(precision, model=model, backend=backend, batch_size=batch)
                outputs = scores if precision == "fp32" else wrong
                crafted.evaluation(case, outputs, reference, **WORK)
                reference = reference or case
                for number in range(6):
                    side = 0.02 if precision == "fp32" else -0.02
                    spread = 1 + side * (number - 2.5)
                    crafted.trial(case, number, factor * batch**0.5 * ms * spread)
    options = {"rounds": 1, "duration_s": 6.0, "step_s": 0.5}
    load = crafted.case("fp32", model=model, scenario="sustained", scenario_options=options)
    facts = {"columns": SERIES, "part_s": 1.0}
    crafted.trial(load, 0, 1.0, facts=facts, figures={"sustained_ratio": 1.3})
    bundle = crafted.done()
    series = np.full((10, len(SERIES)), np.nan)
    series[:, 0] = np.arange(1, 11) * 0.5
    series[:, 2:4] = [1.0, 2.0]
    series[:, 5] = 60.0
    path = bundle.path / "traces" / f"r000-{load}" / "series.npy"
    path.parent.mkdir(parents=True)
    np.save(path, series)
    return bundle


def roofed(folder: Path) -> Bundle:
    """A case of 0.5 GMAC/s, and a yardstick of 1."""
    crafted = Crafted(folder)
    for name, macs in (("net", 500_000), ("yardstick_matmul", 1_000_000)):
        case = crafted.case("fp32", model=name)
        crafted.trial(case, 0, 1.0)
        crafted.evaluation(case, np.eye(4, 10, dtype=np.float32), macs={"fp32": macs}, **WORK)
    bundle = crafted.open()
    plan = json.loads((bundle.path / "plan.json").read_text())
    plan["cases"], plan["yardsticks"] = plan["cases"][:1], plan["cases"][1:]
    (bundle.path / "plan.json").write_text(json.dumps(plan))
    return Bundle(bundle.path)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return several(tmp_path_factory.mktemp("several"))


def one(bundles: list[Bundle], name: str, ending: str = "svg", **more: Any) -> bytes:
    content = figures(bundles, [name], ending, **more)[name]
    assert isinstance(content, bytes), content
    return content


# --------------------------------------------------------------------------- reading an SVG


class Drawn:
    """An SVG as a reader sees it: words, and marks and bars at the values of the axes."""

    def __init__(self, content: bytes) -> None:
        self.root = ElementTree.fromstring(content)
        self.texts = [
            "".join(node.itertext()).strip()
            for node in self.root.iter()
            if node.tag.endswith("}text")
        ]
        self.groups = {
            node.get("id", ""): node for node in self.root.iter() if node.tag.endswith("}g")
        }

    def ids(self, pattern: str) -> list[str]:
        return [name for name in self.groups if re.fullmatch(pattern, name)]

    def ticks(self, axis: str, panel: int = 1) -> list[tuple[float, float]]:
        """Place on the page and value of each label of a panel's axis, "x" or "y"."""
        found = []
        for node in self.groups[f"axes_{panel}"].iter():
            if re.match(rf"{axis}tick_", node.get("id", "")):
                use = next(n for n in node.iter() if n.tag.endswith("}use"))
                label = "".join(node.itertext()).strip().replace(",", "").replace("−", "-")
                if label:
                    found.append((float(use.get(axis, "nan")), float(label)))
        return found

    def value(self, at: float, axis: str, logarithmic: bool = False) -> float:
        """The value at a place, from the first and the last label of the first panel."""
        (low, first), *_, (high, last) = self.ticks(axis)
        if logarithmic:
            first, last = np.log(first), np.log(last)
        found = first + (at - low) / (high - low) * (last - first)
        return float(np.exp(found) if logarithmic else found)

    def mark(self, name: str) -> tuple[float, float]:
        use = next(n for n in self.groups[name].iter() if n.tag.endswith("}use"))
        return float(use.get("x", "nan")), float(use.get("y", "nan"))

    def span(self, name: str) -> tuple[float, float]:
        """Left and right end of a bar."""
        path = next(n for n in self.groups[name].iter() if n.tag.endswith("}path"))
        xs = [float(x) for x in re.findall(r"[ML] ([\d.]+) ", path.get("d", ""))]
        return min(xs), max(xs)


def rows(bundle: Bundle) -> list[dict[str, Any]]:
    return case_table(bundle).to_dict("records")


# --------------------------------------------------------------------------- what they show


def test_accuracy_and_latency_are_the_tables(bundle: Bundle):
    drawn = Drawn(one([bundle], "accuracy", condition="single-stream, batch 1"))
    cases = [r for r in rows(bundle) if r["batch_size"] == 1 and r["scenario"] == "single-stream"]
    assert len(drawn.ids(r"case-A-\w+")) == len(cases) == 4
    for case in cases:
        x, y = drawn.mark(f"case-A-{case['case_id']}")
        assert drawn.value(x, "x", True) == pytest.approx(case["latency_p50_ms"], rel=1e-3)
        assert drawn.value(y, "y") == pytest.approx(100 * case["accuracy"], rel=1e-3)
    words = " ".join(drawn.texts)
    assert "p50 latency of a call, ms" in words and "accuracy (top1), %" in words
    assert "Pareto front" in words and "95 % intervals" in words
    assert f"{bundle.run_id}: a processor, 6 rounds, qbench 0" in words
    assert "n = 12" in words and "5 cases of other conditions are left out" in words


def test_the_heat_map_says_every_speedup(bundle: Bundle):
    drawn = Drawn(one([bundle], "speedup", condition="single-stream, batch 1"))
    assert len(drawn.ids(r"case-A-\w+")) == 2, "of int8, by each backend"
    assert drawn.texts.count("2.67") == 2, "4.0 / 1.5"
    assert drawn.texts.count("2.47 … 2.88") == 2, "t-interval of the six log-ratios"
    assert "fake int8-static" in drawn.texts and "other int8-static" in drawn.texts


def test_bars_are_as_long_as_the_tables_values(bundle: Bundle):
    drawn = Drawn(one([bundle], "memory", condition="single-stream, batch 1"))
    (case, *_) = rows(bundle)
    for field, megabytes in (("memory_load_peak_mb", 4.0), ("memory_peak_mb", 6.0)):
        begin, end = drawn.span(f"case-A-{case['case_id']}-{field}")
        assert drawn.value(begin, "x") == pytest.approx(0, abs=1e-3)
        assert drawn.value(end, "x") == pytest.approx(megabytes, rel=1e-3)
    assert "peak memory, MB" in drawn.texts
    drawn = Drawn(one([bundle], "startup", condition="single-stream, batch 1"))
    _, start = drawn.span(f"case-A-{case['case_id']}-process_start_ms")
    begin, end = drawn.span(f"case-A-{case['case_id']}-import_ms")
    assert begin == pytest.approx(start, abs=0.01), "stacked"
    assert drawn.value(end, "x") == pytest.approx(50, rel=1e-3), "10 ms and 40 ms"
    assert drawn.texts.count("70.0") == 4, "the cold start of each case"


def test_every_round_has_its_distribution(bundle: Bundle):
    drawn = Drawn(one([bundle], "distributions", condition="single-stream, batch 1"))
    assert len(drawn.ids(r"case-A-\w+-round-\d+")) == 4 * 6
    assert {"net fake", "net other", "share of calls"} <= set(drawn.texts)


def test_throughput_stands_at_its_batch_size(bundle: Bundle):
    drawn = Drawn(one([bundle], "throughput"))
    measured = [row for row in rows(bundle) if row["scenario"] == "single-stream"]
    assert len(drawn.ids(r"case-A-\w+")) == len(measured) == 8
    for case in measured:
        x, y = drawn.mark(f"case-A-{case['case_id']}")
        assert drawn.value(x, "x", True) == pytest.approx(case["batch_size"], rel=1e-3)
        assert drawn.value(y, "y", True) == pytest.approx(case["throughput_ips"], rel=1e-3)
    assert {"batch size", "throughput, items/s"} <= set(drawn.texts)


def test_proxies_of_energy_say_so(bundle: Bundle):
    drawn = Drawn(one([bundle], "energy", condition="single-stream, batch 1"))
    assert len(drawn.ids(r"case-A-\w+")) == 4
    assert "estimated, not measured" in drawn.texts and "energy of an inference, mJ" in drawn.texts


def test_a_case_lies_under_its_ceiling(tmp_path: Path):
    drawn = Drawn(one([roofed(tmp_path)], "roofline"))
    (name,) = drawn.ids(r"case-A-\w+")
    assert drawn.value(drawn.mark(name)[1], "y", True) == pytest.approx(0.5, rel=1e-2)
    assert "fp32: 1 GMAC/s" in drawn.texts and "multiply-accumulates per byte" in drawn.texts


def test_a_long_load_shows_the_machines_readings(bundle: Bundle):
    drawn = Drawn(one([bundle], "sustained"))
    assert {"latency, ms", "temperature, °C", "seconds of load"} <= set(drawn.texts)
    assert "clock, GHz" not in drawn.texts, "this machine does not tell its clock"
    assert "last part over first: 1.3" in " ".join(drawn.texts)


def test_runs_have_panels_of_their_own(bundle: Bundle, tmp_path: Path):
    other = several(tmp_path, run_id="20260102-000000-crafted-0002")
    words = " ".join(Drawn(one([bundle, other], "accuracy")).texts)
    assert "A: net" in words and "B: net" in words
    assert f"A: {bundle.run_id}" in words and f"B: {other.run_id}" in words


def test_doubtful_cases_are_marked(tmp_path: Path):
    crafted = Crafted(
        tmp_path, settings={"cpu_power": None, "rounds": {"least": 6, "most": 6, "target": 0.001}}
    )
    for precision, spread in (("fp32", 0.5), ("int8-static", 0.0)):
        case = crafted.case(precision)
        for number in range(6):
            crafted.trial(case, number, 4.0 + spread * number)
    texts = Drawn(one([crafted.done()], "startup")).texts
    assert "fake fp32 ?" in texts
    assert any(re.fullmatch(r"\?: noisy or inconclusive, [12] of 2 cases", text) for text in texts)


# --------------------------------------------------------------------------- nothing to show


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("accuracy", "no case has both"),
        ("speedup", "no case has a speed-up"),
        ("throughput", "several batch sizes"),
        ("energy", "no case has an energy"),
        ("roofline", "no case has a roofline"),
        ("sustained", "long load"),
    ],
)
def test_a_chart_without_data_says_why(tmp_path: Path, name: str, reason: str):
    crafted = Crafted(tmp_path)
    crafted.trial(crafted.case("fp32"), 0, 4.0)
    found = figures([crafted.done()], [name, "memory"], "svg")
    assert isinstance(found["memory"], bytes), "the others are drawn"
    why = found[name]
    assert isinstance(why, NoData) and re.search(reason, why.message) and why.fix


def test_errors_are_reported(bundle: Bundle, tmp_path: Path):
    with pytest.raises(UserError, match="Did you mean 'speedup'"):
        figures([bundle], ["speed-up"], "svg")
    with pytest.raises(UserError, match="Known: pdf, png, svg"):
        figures([bundle], ["speedup"], "jpg")
    with pytest.raises(UserError, match="Did you mean 'net'"):
        figures([bundle], ["speedup"], "svg", model="nets")
    with pytest.raises(UserError, match="single-stream, batch 4"):
        figures([bundle], ["speedup"], "svg", condition="batch 5")
    crafted = Crafted(tmp_path)
    crafted.case("fp32", skip="not here")
    with pytest.raises(UserError, match="no case of these bundles went well"):
        figures([crafted.done()], ["speedup"], "svg")


def test_without_matplotlib_the_error_says_what_to_install(bundle: Bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install matplotlib"):
        figures([bundle], ["speedup"], "svg")


# --------------------------------------------------------------------------- names from outside


def evil(folder: Path) -> Bundle:
    names = (HOSTILE, f"a{HOSTILE}", f"b{HOSTILE}")
    host = {"host_id": "h", "cpu_model": HOSTILE + "\ud800", "cpu_flags": [], "caches": None}
    return several(
        folder, names, software={"qbench": HOSTILE}, system={"system_name": HOSTILE},
        host={**host, "governor": None, "power_mode": None},
    )  # fmt: skip


@pytest.mark.slow
def test_names_are_text_in_every_picture(tmp_path: Path):
    bundle = evil(tmp_path)
    for name, content in figures([bundle], list(CHARTS), "svg").items():
        if isinstance(content, NoData):
            assert name == "roofline"
            continue
        drawn = Drawn(content)  # well-formed XML
        assert not [node for node in drawn.root.iter() if node.tag.endswith("script")]
        words = " ".join(drawn.texts)
        assert "$\\frac{1$ <script>" in words, "as it is, and no mathematics"
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e\ud800-\udfff]", words)
        assert max(map(len, drawn.texts)) < 400
    for ending, begin in (("pdf", b"%PDF"), ("png", b"\x89PNG")):
        found = figures([bundle], list(CHARTS), ending)
        assert all(isinstance(c, NoData) or c.startswith(begin) for c in found.values())


def labels_of(axis: Any) -> list[Any]:
    """The visible ones, except rotated ones, whose boxes overlap where the text does not."""
    low, high = sorted(axis.get_view_interval())
    labels = [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    labels += [t.label2 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    return [t for t in labels if t.get_visible() and t.get_text() and not t.get_rotation()]


def texts_of(figure: Any) -> list[Any]:
    """All text; of tick labels only the visible ones."""
    ticks = {
        id(label)
        for panel in figure.axes
        for axis in (panel.xaxis, panel.yaxis)
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
    }
    texts = figure.findobj(lambda artist: hasattr(artist, "get_text") and artist.get_visible())
    labels = [t for p in figure.axes for axis in (p.xaxis, p.yaxis) for t in labels_of(axis)]
    return [t for t in texts if t.get_text() and id(t) not in ticks] + labels


@pytest.mark.slow
@pytest.mark.parametrize("width", [8.5, 16.0])
@pytest.mark.parametrize("hostile", [False, True])
def test_no_word_is_cut_and_no_label_covers_another(tmp_path: Path, width: float, hostile: bool):
    bundles = (
        [evil(tmp_path / "a")] if hostile else [several(tmp_path / "a"), roofed(tmp_path / "b")]
    )
    look = Look(width)
    with drawing(look):
        cases = shown(bundles, None, None)
        for name, chart in CHARTS.items():
            try:
                figure = chart.draw(cases, look).figure
            except NoData:
                continue
            figure.set_dpi(DOTS_PER_INCH)
            figure.draw_without_rendering()
            page = figure.bbox
            for artist in texts_of(figure):
                box, text = artist.get_window_extent(), artist.get_text()[:60]
                assert page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1, f"{name}: {text}"
                assert page.y0 - 1 <= box.y0 and box.y1 <= page.y1 + 1, f"{name}: {text}"
            for panel in figure.axes:
                for axis in (panel.xaxis, panel.yaxis):
                    boxes = [label.get_window_extent() for label in labels_of(axis)]
                    for first, last in combinations(boxes, 2):
                        assert not first.shrunk(0.9, 0.9).overlaps(last.shrunk(0.9, 0.9)), name


# --------------------------------------------------------------------------- files


@pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
def test_the_same_bundle_gives_the_same_bytes(bundle: Bundle, ending: str):
    assert one([bundle], "accuracy", ending) == one([bundle], "accuracy", ending)


def test_pictures_are_as_wide_as_asked(bundle: Bundle):
    for width in (8.5, 16.0):
        picture = Image.open(io.BytesIO(one([bundle], "memory", "png", look=Look(width))))
        assert picture.size[0] == pytest.approx(width / 2.54 * 200, abs=1)
        page = re.search(
            rb"/MediaBox \[ ?0 0 ([\d.]+) ", one([bundle], "memory", "pdf", look=Look(width))
        )
        assert page and float(page[1]) == pytest.approx(width / 2.54 * 72, abs=0.5)


def test_text_stays_text(bundle: Bundle):
    assert b"DejaVu Sans" in one([bundle], "speedup")
    content = one([bundle], "speedup", "pdf")
    assert b"/Type0" in content or b"/TrueType" in content
    assert b"CreationDate" not in content


def test_a_dark_picture_has_a_dark_ground(bundle: Bundle):
    for dark, lightest in ((False, 255), (True, 40)):
        content = one([bundle], "memory", "png", look=Look(dark=dark))
        corner = Image.open(io.BytesIO(content)).convert("L").getpixel((1, 1))
        assert (corner == 255) if not dark else (corner < lightest)


def test_threads_draw_without_disturbing_each_other_or_their_user(bundle: Bundle):
    import matplotlib as mpl

    mpl.rcParams["font.size"] = 31.0
    try:
        names = ("font.size", "svg.hashsalt", "text.parse_math", "svg.fonttype")
        before, alone = [mpl.rcParams[name] for name in names], one([bundle], "speedup")
        found: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: found.append(one([bundle], "speedup")))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [alone] * 3
        assert [mpl.rcParams[name] for name in names] == before
    finally:
        mpl.rcdefaults()


def test_pyplot_is_not_needed(bundle: Bundle):
    code = (
        "import sys; from pathlib import Path; from qbench.bundle.bundle import Bundle\n"
        "from qbench.present.pictures import figures\n"
        f"figures([Bundle(Path({str(bundle.path)!r}))], ['memory'], 'png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_colours_are_the_pages():
    style = (ROOT / "qbench" / "present" / "assets" / "page" / "page.css").read_text()
    named = dict(re.findall(r"--([\w-]+): light-dark\(([^)]*)\)", style))
    for colours, names in (
        (PALETTE, [f"hue-{number}" for number in range(1, 9)]),
        (PARTS, [f"part-{number}" for number in range(1, 5)]),
        (SCALE, ["slower", "even", "faster"]),
    ):
        light, dark = zip(*(named[name].split(", ") for name in names), strict=True)
        assert colours == {False: list(light), True: list(dark)}
    for look, number in ((Look(), 0), (Look(dark=True), 1)):
        for name in ("back", "text", "quiet", "line"):
            assert getattr(look, name) == named[name].split(", ")[number]


# --------------------------------------------------------------------------- the command


def test_the_command_draws_one_chart_or_all_that_it_can(project):
    name = several(project.root).path.name
    done = project.qbench("figure", name, "speedup", "-o", "s.pdf", "--width", "8.5", "--dark")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["s.pdf"]
    assert (project.root / "s.pdf").read_bytes().startswith(b"%PDF")
    done = project.qbench("figure", name, "all", "-o", "pictures", "--format", "svg")
    assert done.returncode == 0 and "no roofline: no case has a roofline" in done.stderr
    made = {path.stem for path in (project.root / "pictures").glob("*.svg")}
    assert made == set(CHARTS) - {"roofline"}
    assert sorted(done.stdout.split()) == sorted(f"pictures/{stem}.svg" for stem in made)


def test_the_command_says_what_is_wrong(project):
    name = several(project.root).path.name
    for command, words in (
        (("roofline", "-o", "r.svg"), "docs/roofline.md"),
        (("roofs", "-o", "r.svg"), "Did you mean 'roofline'"),
        (("memory", "-o", "memory"), "Known: pdf, png, svg"),
        (("memory", "-o", "nowhere/m.svg"), "there is no folder nowhere"),
    ):
        done = project.qbench("figure", name, *command)
        assert done.returncode == 2 and words in done.stderr, done.stderr
        assert not list(project.root.glob("r.svg"))
