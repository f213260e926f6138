"""qbench.spec.suite: what a suite file may say, where errors point, and what cases it makes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qbench.errors import UserError
from qbench.run.artifacts import ArtifactStore
from qbench.run.plan import Plan
from qbench.run.planner import make_plan
from qbench.run.sources.catalog import Catalog
from qbench.run.workers.registry import Registry
from qbench.spec.case import Case, Filters
from qbench.spec.precisions import complete_options
from qbench.spec.suite import Suite, find_suite, load_suite, shipped_suites, suites_dir
from qbench.spec.yamlfile import load
from qbench.testing.fake import FakeBackend

LEAST = """\
name: small
models: [net]
precisions:
  - fp32
  - int8-static
backends: [fake]
"""
"""A suite of six lines: what a test adds stands in line 7 and after it."""


def read(path: Path, text: str | bytes) -> Suite:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_suite(path, backends=["fake", "fast"], models=["net", "resnet8"])


def refusal(folder: Path, text: str | bytes) -> str:
    """qbench's error about a suite, without the path of the file."""
    path = folder / "suite.yaml"
    with pytest.raises(UserError) as caught:
        read(path, text)
    assert caught.value.exit_code == 2
    message = str(caught.value)
    assert message.startswith(str(path)), "the file is named first"
    return message.removeprefix(str(path))


# --------------------------------------------------------------------------- strictness

MISSPELT = {
    "a key": (LEAST + "rouns: 3\n", 7, "rouns", "rounds"),
    "a key below a key": (
        LEAST + "limits:\n  trial_timeout: 3\n",
        8,
        "trial_timeout",
        "trial_timeout_s",
    ),
    "a key of an exclusion": (
        LEAST + "exclude:\n  - {model: net}\n  - {bakend: fake}\n",
        9,
        "bakend",
        "backend",
    ),
    "a key of an override": (
        LEAST + "overrides:\n  fake:\n    thread: [1]\n",
        9,
        "thread",
        "threads",
    ),
    "a model": (LEAST.replace("[net]", "\n  - net\n  - resnet"), 4, "resnet", "resnet8"),
    "a backend": (LEAST.replace("[fake]", "[fake, fst]"), 6, "fst", "fast"),
    "a precision": (LEAST.replace("int8-static", "int8-statik"), 5, "int8-statik", "int8-static"),
    "an option": (
        LEAST.replace("int8-static", "int8-static: {per_chanel: true}"),
        5,
        "per_chanel",
        "per_channel",
    ),
    "a backend to override": (LEAST + "overrides:\n  fakee: {threads: [1]}\n", 8, "fakee", "fake"),
    "a precision to override": (
        LEAST + "overrides:\n  fake:\n    options: {int8-statc: {}}\n",
        9,
        "int8-statc",
        "int8-static",
    ),
    "an option to override": (
        LEAST + "overrides:\n  fake:\n    options: {int8-static: {per_chan: false}}\n",
        9,
        "per_chan",
        "per_channel",
    ),
    "a model to exclude": (LEAST + "exclude:\n  - model: nett\n", 8, "nett", "net"),
    "a precision to exclude": (LEAST + "exclude:\n  - precision: fp23\n", 8, "fp23", "fp32"),
    "a backend to exclude": (LEAST + "exclude:\n  - backend: fkae\n", 8, "fkae", "fake"),
}


@pytest.mark.parametrize("what", MISSPELT)
def test_a_misspelt_name_is_shown_with_its_line_and_the_nearest_valid_one(tmp_path, what: str):
    text, line, wrong, right = MISSPELT[what]
    message = refusal(tmp_path, text)
    assert message.startswith(f":{line}: ")
    assert f"'{wrong}'" in message
    assert f"Did you mean '{right}'?" in message


WRONG_VALUES = {
    "text for a number": ('threads: ["2"]', "threads.0"),
    "text for a list": ('threads: "2"', "threads"),
    "a number for a list": ("threads: 2", "threads"),
    "a truth for a number": ("rounds: true", "rounds"),
    "a word of YAML 1.1 for a truth": ("rounds: yes", "rounds"),
    "a fraction for a count": ("rounds: 2.5", "rounds"),
    "no rounds": ("rounds: 0", "rounds"),
    "fewer than none": ("rounds: -3", "rounds"),
    "nothing": ("rounds:", "rounds"),
    "a list for a number": ("rounds: [3]", "rounds"),
    "no time": ("timed_s: 0", "timed_s"),
    "endless time": ("timed_s: .inf", "timed_s"),
    "no number": ("warmup_s: .nan", "warmup_s"),
    "an unknown scenario": ("scenarios: [server]", "scenarios.0"),
    "no scenario": ("scenarios: []", "scenarios"),
    "no threads": ("threads: [0]", "threads.0"),
    "a value twice": ("batch_sizes: [1, 2, 1]", "batch_sizes"),
    "an exclusion of all": ("exclude: [{}]", "exclude.0"),
    "power without its source": ("cpu_power: {watts_per_core: 3.5}", "cpu_power.source"),
    "a date among hints": (
        "overrides: {fake: {hints: {since: 2026-01-01}}}",
        "overrides.fake.hints",
    ),
    "a name with a slash": ("overrides: {a/b: {}}", "overrides.a/b"),
}


@pytest.mark.parametrize("what", WRONG_VALUES)
def test_a_value_of_a_wrong_kind_is_shown_with_its_key_and_line(tmp_path, what: str):
    line, key = WRONG_VALUES[what]
    message = refusal(tmp_path, LEAST + "# a comment\n" + line + "\n")
    assert message.startswith(":8: ")
    assert key in message


@pytest.mark.parametrize("key", ["name", "models", "precisions", "backends"])
def test_a_key_that_is_needed_and_missing_is_named(tmp_path, key: str):
    content = yaml.safe_load(LEAST)
    del content[key]
    assert f"'{key}' is missing" in refusal(tmp_path, yaml.safe_dump(content))


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "ä", "x" * 65, "a\n"])
def test_a_name_is_one_that_can_be_a_file_name_everywhere(tmp_path, name: str):
    content = {**yaml.safe_load(LEAST), "name": name}
    assert ": name: " in refusal(tmp_path, yaml.safe_dump(content))


NOT_YAML = {
    "a key twice": (LEAST + "rounds: 3\nseed: 1\nrounds: 4\n", 9, "duplicate key"),
    "an anchor": (LEAST + "threads: &one [1]\nstreams: [1]\n", 7, "anchors"),
    "an alias": (LEAST + "threads: *one\n", 7, "aliases"),
    "a merge": (LEAST + "limits:\n  <<: {memory_mb: 9}\n", 8, "merge keys"),
    "a tag": (LEAST + "description: !!python/object/apply:os.system [id]\n", 7, "tags"),
    "a tab": (LEAST + "limits:\n\tmemory_mb: 900\n", 8, r"'\t'"),
    "an open bracket": (LEAST + "threads: [1\nstreams: 2\n", 8, "not valid YAML"),
    "two documents": (LEAST + "---\nname: other\n", 7, "another document"),
    "a control character": (LEAST + "description: \x07\n", 7, "#x0007"),
    "a zero byte": (LEAST + "description: \0\n", 7, "#x0000"),
    "Latin-1": (LEAST.encode() + "description: é\n".encode("latin-1"), 7, "not UTF-8"),
    "UTF-16": (LEAST.encode("utf-16"), 1, "not UTF-8"),
    "nothing at all": ("", 1, "keys and values"),
    "only a comment": ("# later\n", 1, "keys and values"),
    "a list": ("- name: small\n", 1, "keys and values"),
    "a word": ("small\n", 1, "keys and values"),
}


@pytest.mark.parametrize("what", NOT_YAML)
def test_a_file_that_is_no_mapping_in_yaml_is_refused_with_the_line(tmp_path, what: str):
    text, line, words = NOT_YAML[what]
    message = refusal(tmp_path, text)
    assert message.startswith(f":{line}: ")
    assert words in message


@pytest.mark.parametrize(
    "text",
    [
        LEAST + "description: '" + "x" * 1_000_000 + "'\n",
        LEAST + "description: " + "[" * 1200 + "\n",
        LEAST + "description: 2001-99-99\n",
        LEAST + f"rounds: {'9' * 5000}\n",
    ],
    ids=["over a megabyte", "nested too deeply", "no such day", "a number of 5000 digits"],
)
def test_unusual_yaml_is_refused_too(tmp_path, text: str):
    assert refusal(tmp_path, text)


def test_a_file_of_exactly_a_megabyte_is_read(tmp_path):
    path = tmp_path / "suite.yaml"
    filler = 1_000_000 - len(LEAST)
    assert read(path, LEAST + "#" * (filler - 1) + "\n").name == "small"
    assert "larger" in refusal(tmp_path, LEAST + "#" * filler + "\n")


def test_a_file_that_is_not_there_is_a_users_error(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        load_suite(tmp_path / "none.yaml", [], [])
    with pytest.raises(UserError, match=r"there is no suite file .*\n.*qbench init"):
        find_suite(str(tmp_path / "none.yaml"))
    with pytest.raises(UserError, match=r"no suite 'quikc'\n.*Did you mean 'quick'\?"):
        find_suite("quikc")


VALUES = ["", "1", "[1]", "{}", "{int8-static: 5}", "[{fp32: [a]}]", "~", "|", ">", "'", '"']
VALUES += ["2001-02-31", "1:30", "0x1f", "1e400", ".nan", "[[", "{a", "@", "%", "0b2", "=_"]
YAMLISH = st.lists(
    st.one_of(
        st.sampled_from(LEAST.splitlines()),
        st.sampled_from(
            ["limits:", "  memory_mb: 3", "- 1", "exclude:", "  - model: net", "overrides:", "---"]
        ),
        st.builds(
            "{}{}{}{}".format,
            st.sampled_from(["", "  ", "- ", "\t", "? ", "# "]),
            st.sampled_from(["rounds", "threads", "hints", "options", "precisions", "", "<<", "5"]),
            st.sampled_from([": ", ":", " ", ": &a ", ": *a", ": !!int "]),
            st.sampled_from(VALUES),
        ),
        st.text(max_size=20),
    ),
    max_size=12,
).map("\n".join)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("suites") / "suite.yaml"


@given(YAMLISH.map(str.encode) | st.binary(max_size=60))
@example((LEAST + "overrides: {fake: {hints: {a: {b: [1, 0x10, 2.50, true]}}}}").encode())
@example(LEAST.replace("int8-static", "int8-static: 5").encode())
@settings(deadline=None, max_examples=150)
def test_whatever_a_file_holds_it_is_a_suite_or_a_users_error(scratch: Path, content: bytes):
    try:
        suite = read(scratch, content)
    except UserError as error:
        assert str(scratch) in str(error)
    else:
        assert len(suite.digest()) == 64
        json.dumps([override.hints for override in suite.overrides.values()])


# --------------------------------------------------------------------------- forms and digest


def test_short_and_long_forms_of_a_precision_mean_the_same(tmp_path):
    path = tmp_path / "suite.yaml"
    forms = [
        "[fp32, {int8-static: {per_channel: false}}]",
        "[{fp32: }, {int8-static: {per_channel: false}}]",
        "[{name: fp32}, {name: int8-static, options: {per_channel: false}}]",
        "\n- fp32\n- int8-static:\n    per_channel: false\n",
    ]
    head = "name: s\nmodels: [net]\nbackends: [fake]\nprecisions: "
    suites = [read(path, head + form) for form in forms]
    assert [(p.name, p.options) for p in suites[0].precisions] == [
        ("fp32", {}),
        ("int8-static", {"per_channel": False}),
    ]
    assert all(suite == suites[0] and suite.digest() == suites[0].digest() for suite in suites)


@pytest.mark.parametrize(
    "form",
    [
        "{int8-static: 5}",
        "{int8-static: [per_channel]}",
        "{int8-static: 0}",
        "{int8-static: false}",
        "{name: int8-static, options: 5}",
        "{int8-static: {}, fp32: {}}",
        "{fp32: {per_channel: true}}",
        "{int8-static: {per_channel: 1}}",
        "{int8-static: {calibration_items: 0}}",
        "{int8-static: {calibration_items: true}}",
        "{int8-static: {calibration_method: max}}",
        "5",
        "[fp32]",
    ],
)
def test_a_precision_in_another_form_is_refused_at_its_line(tmp_path, form: str):
    text = LEAST.replace("int8-static", form)
    assert refusal(tmp_path, text).startswith(":5: ")


def test_the_digest_ignores_formatting(tmp_path):
    path = tmp_path / "suite.yaml"
    content = {
        **yaml.safe_load(LEAST),
        "rounds": 3,
        "limits": {"memory_mb": 900.0, "trial_timeout_s": 5.0},
        "overrides": {"fake": {"threads": [2], "hints": {"b": 1, "a": 2}}},
    }
    digest = read(path, yaml.safe_dump(content)).digest()
    order = list(content)
    for seed in range(5):
        random.Random(seed).shuffle(order)
        text = yaml.safe_dump({k: content[k] for k in order}, sort_keys=False)
        commented = "".join(f"# note {seed}\n{line}\n" for line in text.splitlines())
        assert read(path, commented).digest() == digest
    assert read(path, json.dumps(content)).digest() == digest, "JSON is YAML"
    assert read(path, yaml.safe_dump({**content, "seed": 0})).digest() == digest, "a default"
    for change in ({"rounds": 4}, {"models": ["resnet8"]}, {"limits": {"memory_mb": 901.0}}):
        assert read(path, yaml.safe_dump({**content, **change})).digest() != digest


# --------------------------------------------------------------------------- what is shipped


@pytest.mark.parametrize("name", [*shipped_suites(), "templates/suite"])
def test_a_shipped_suite_loads(name: str):
    catalog = Catalog([suites_dir()])
    backends = ["onnxruntime", "openvino", "tensorrt", "tflite"]
    suite = load_suite(suites_dir() / f"{name}.yaml", backends, catalog.names)
    assert suite.models and suite.precisions[0].name == "fp32"


def test_shipped_suites_and_cards_are_found_by_name():
    assert {"quick", "imagenet_edge", "mlperf_tiny"} <= set(shipped_suites())
    assert find_suite("quick") == shipped_suites()["quick"]


@pytest.mark.parametrize(
    "path", sorted((suites_dir() / "models").glob("*.yaml")), ids=lambda p: p.stem
)
def test_a_shipped_card_loads_and_its_splits_are_disjoint(path: Path):
    catalog = Catalog([suites_dir()])
    card = catalog.card(path.stem)
    for split in (card.evaluation, card.calibration):
        if split is not None:
            catalog.dataset(split.dataset)
    assert card.licence
    for form, source in card.sources.items():
        commit = source.git or (source.hub and len(source.hub.revision) == 40)
        by_keras = form == "keras-applications"  # Keras itself knows its files' digests
        assert source.sha256 or commit or by_keras, "a shipped card says which file it means"


def test_the_commented_lines_of_the_template_can_be_used(tmp_path):
    """The template's commented lines (``# ``) are valid YAML once uncommented."""
    text = (suites_dir() / "templates" / "suite.yaml").read_text()
    for old, new in {
        "  # - int8-static: {per_channel": "  - int8-static: {per_channel",
        "# streams:": "streams:",
        "  # memory_mb: 4000      #": "  memory_mb: 4000      #",
        "# exclude:": "exclude:",
        "#   - {": "  - {",
        "# cpu_power:": "cpu_power:",
    }.items():
        assert old in text
        text = text.replace(old, new)
    start = text.index("# overrides:")
    end = text.index("\n\n", start)
    block = text[start:end].replace("\n# ", "\n").removeprefix("# ")
    path = tmp_path / "suite.yaml"
    path.write_text(text[:start] + block + text[end:])
    suite = load(path, Suite)[0]
    assert suite.limits.memory_mb == 4000
    assert len(suite.exclude) == 2
    assert suite.overrides["openvino"].threads == [1, 2]
    assert suite.overrides["openvino"].options["int8-static"] == {"calibration_items": 200}
    assert suite.cpu_power and suite.cpu_power.watts_per_core == 3.5


def test_the_template_says_the_defaults():
    suite = load(suites_dir() / "templates" / "suite.yaml", Suite)[0]
    said = suite.model_dump(exclude_unset=True)
    bare = Suite.model_validate(
        {k: said[k] for k in ("name", "description", "models", "backends", "precisions")}
    )
    assert suite == bare


# --------------------------------------------------------------------------- cases


def planned(project, text: str, filters: Filters | None = None) -> Plan:
    path = project.write("suite.yaml", text)
    suite = load_suite(path, ["fake"], ["net"])
    registry = Registry({"fake": "qbench.testing:FakeBackend"})
    probes = {"fake": FakeBackend().probe()}
    return make_plan(
        suite, Catalog([project.root]), registry, probes, ArtifactStore(), filters or Filters()
    )


def cases(plan: Plan) -> list[Case]:
    return [p.case for p in plan.cases]


def test_a_plan_is_every_combination(project):
    text = LEAST + "scenarios: [single-stream, offline]\nbatch_sizes: [1, 4]\nstreams: [1, 2]\n"
    found = cases(planned(project, text))
    asked = {(c.precision, c.scenario, c.batch_size, c.streams) for c in found}
    assert asked == {
        (precision, scenario, batch, streams)
        for precision in ("fp32", "int8-static")
        for batch in (1, 4)
        for scenario, streams in (("single-stream", 1), ("offline", 1), ("offline", 2))
    }
    assert len(found) == 12 == len({c.case_id for c in found})


def test_an_exclusion_takes_what_matches_every_key_of_it(project):
    text = LEAST + "batch_sizes: [1, 4]\nexclude:\n  - {precision: int8-static, batch_size: 4}\n"
    found = {(c.precision, c.batch_size) for c in cases(planned(project, text))}
    assert found == {("fp32", 1), ("fp32", 4), ("int8-static", 1)}


def test_exclusions_add_up(project):
    text = LEAST + "batch_sizes: [1, 4]\nexclude:\n  - {batch_size: 4}\n  - {precision: fp32}\n"
    found = {(c.precision, c.batch_size) for c in cases(planned(project, text))}
    assert found == {("int8-static", 1)}


def test_a_suite_that_excludes_all_is_a_users_error(project):
    with pytest.raises(UserError, match="leave no case"):
        planned(project, LEAST + "exclude:\n  - {backend: fake}\n")


def test_an_override_replaces_lists_options_and_hints(project):
    text = LEAST.replace("int8-static", "int8-static: {per_channel: false, calibration_items: 5}")
    text += (
        "batch_sizes: [1, 4]\n"
        "overrides:\n"
        "  fake:\n"
        "    batch_sizes: [8]\n"
        "    hints: {mode: fast}\n"
        "    options: {int8-static: {calibration_items: 7}}\n"
    )
    exact, quantized = cases(planned(project, text))
    assert (exact.batch_size, quantized.batch_size) == (8, 8)
    assert exact.hints == quantized.hints == {"mode": "fast"}
    assert exact.options == {}
    changed = {"per_channel": False, "calibration_items": 7}  # the suite's, and the override's
    assert quantized.options == {**complete_options("int8-static", {}), **changed}


def test_options_of_every_kind_can_be_written(project):
    options = "{excluded_operators: [Gemm, Conv], max_accuracy_drop: 0.01, calibration_items: 7}"
    _, case = cases(planned(project, LEAST.replace("int8-static", f"int8-static: {options}")))
    assert case.options["excluded_operators"] == ["Conv", "Gemm"]
    assert case.options["max_accuracy_drop"] == 0.01
    assert json.loads(case.model_dump_json())["options"] == case.options  # plain JSON values
    assert case.variant == "calibration_items=7,excluded_operators=Conv+Gemm,max_accuracy_drop=0.01"


@pytest.mark.parametrize(
    "options", ["{max_accuracy_drop: true}", "{excluded_operators: Gemm}", "{per_channel: 1}",
                "{excluded_operators: [1]}", "{calibration_items: 7.5}", "{preset: fast}"],
)  # fmt: skip
def test_an_option_of_another_kind_is_refused(project, options: str):
    with pytest.raises(UserError, match="option"):
        planned(project, LEAST.replace("int8-static", f"int8-static: {options}"))


def test_a_case_id_is_of_what_was_asked_for_and_not_of_the_rest_of_the_suite(project):
    alone = cases(planned(project, LEAST))
    among = cases(planned(project, LEAST + "batch_sizes: [1, 2]\nrounds: 3\nseed: 9\n"))
    assert {c.case_id for c in alone} < {c.case_id for c in among}
    default = LEAST.replace("int8-static", "int8-static: {per_channel: true}")
    assert [c.case_id for c in cases(planned(project, default))] == [c.case_id for c in alone]
    other = LEAST.replace("int8-static", "int8-static: {per_channel: false}")
    changed = cases(planned(project, other))
    assert changed[0].case_id == alone[0].case_id
    assert changed[1].case_id != alone[1].case_id


def test_cases_that_cannot_run_here_keep_their_reason(project):
    text = LEAST.replace("fp32", "fp32\n  - fp16\n  - w4") + "threads: [1, 4096]\n"
    plan = planned(project, text)
    reasons = {(p.case.precision, p.case.threads): p.skip for p in plan.cases}
    assert len(reasons) == 8
    assert reasons["fp32", 1] is None and reasons["int8-static", 1] is None
    assert reasons["fp16", 1] == "the fake backend has no half precision"
    assert "w4" in str(reasons["w4", 1])
    assert "4096 threads" in str(reasons["fp32", 4096])


def test_filters_choose_and_the_reference_is_kept(project):
    plan = planned(project, LEAST, Filters(precisions=("int8-static",)))
    assert [c.precision for c in cases(plan)] == ["int8-static"]
    assert [p.case.precision for p in plan.references["net"]] == ["fp32"]
    assert len(plan.evaluations()) == 2
    with pytest.raises(UserError, match=r"no precision 'fp16'\n.*Known: fp32, int8-static"):
        planned(project, LEAST, Filters(precisions=("fp16",)))


def test_the_command_line_plans_the_same(project):
    path = project.write("suite.yaml", LEAST)
    done = project.qbench("plan", path.name, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cases"] == planned(project, LEAST).to_json()["cases"]
    project.write("suite.yaml", LEAST + "rounds: 0\n")
    done = project.qbench("plan", path.name)
    assert done.returncode == 2
    assert "suite.yaml:7: rounds" in done.stderr


def test_the_environments_that_the_suite_for_gpus_proposes_can_be_used(tmp_path: Path):
    text = (suites_dir() / "gpu.yaml").read_text()
    start = text.index("# environments:")
    path = tmp_path / "suite.yaml"
    path.write_text(text[:start] + text[start:].replace("\n# ", "\n").removeprefix("# "))
    environments = load(path, Suite)[0].environments
    assert environments["modelopt"].prepare == ["fp8", "w4"]
    assert environments["ort-cuda"].requirements == ["onnxruntime-gpu[cuda,cudnn]"]
