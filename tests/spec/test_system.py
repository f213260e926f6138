"""The description of a system: fields read from the machine, and fields of a person."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path

import machines
import pytest
from paths import ROOT

from qbench.errors import UserError
from qbench.machine.host import fingerprint
from qbench.spec.suite import suites_dir
from qbench.spec.system import FIELDS, Power, System, load_system, missing, mlperf_system

SOFTWARE = {"qbench": "1.0", "onnxruntime": "1.23.0", "openvino": None}


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_board_that_a_person_describes(tmp_path: Path):
    path = write(
        tmp_path / "system.yaml",
        "submitter: The evaluators\nstatus: available\nsystem_type: edge\ncooling: passive\n"
        "host_network_card_count: 1\naccelerators_per_node: 1\n"
        "accelerator_on_chip_memories: 4 MB L2\n"
        "price: {amount: 249, currency: USD, date: 2026-01-31, source: a shop}\n"
        "power:\n  power_supply_quantity_and_rating_watts: 1x 65 W\n",
    )
    system = load_system(path)
    assert system is not None and system.price is not None
    assert system.price.date == datetime.date(2026, 1, 31)
    host = fingerprint(machines.jetson(tmp_path / "board"), {})
    fields = mlperf_system({**host, "architecture": "aarch64"}, system, SOFTWARE)
    assert fields["cooling"] == "passive"
    assert fields["host_network_card_count"] == "1"
    assert fields["accelerators_per_node"] == 1
    assert fields["accelerator_on-chip_memories"] == "4 MB L2"
    assert fields["power_supply_quantity_and_rating_watts"] == "1x 65 W"
    assert fields["system_name"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert fields["host_processors_per_node"] == 1
    assert fields["host_processor_core_count"] == 6
    assert fields["host_processor_model_name"] == "Cortex-A78AE"
    assert fields["host_processor_caches"] == "6x L1d 64 KiB, 2x L3 2 MiB"
    assert fields["host_memory_capacity"] == "7.4 GiB"
    assert fields["operating_system"] == "Ubuntu 22.04.5 LTS, Linux 5.15.148-tegra"
    assert fields["framework"] == "qbench 1.0, onnxruntime 1.23.0"
    assert fields["accelerator_model_name"] is None, "nobody has said so"
    assert "accelerator_model_name" in missing(fields)
    assert "cooling" not in missing(fields)


def test_without_a_person_nothing_is_guessed(tmp_path: Path):
    host = fingerprint(machines.laptop(tmp_path), {})
    fields = mlperf_system(host, None, SOFTWARE)
    assert set(fields) == set(FIELDS)
    for name in ("submitter", "cooling", "status", "host_storage_type", "hw_notes"):
        assert fields[name] is None
    assert set(missing(fields)) == {name for name in FIELDS if fields[name] is None}
    assert fields["system_name"] == "LENOVO 20XW"
    assert fields["host_processor_frequency"] == "4200 MHz"


def test_a_person_who_says_so_is_believed(tmp_path: Path):
    host = fingerprint(machines.laptop(tmp_path), {})
    system = System(system_name="Bench 3", host_processor_frequency="2.4 GHz, turbo off")
    fields = mlperf_system(host, system, SOFTWARE)
    assert fields["system_name"] == "Bench 3"
    assert fields["host_processor_frequency"] == "2.4 GHz, turbo off"
    assert host["max_frequency_mhz"] == 4200, "what was read stays beside it"


def test_accelerators_are_those_that_nvml_names_or_none(tmp_path: Path):
    host = fingerprint(machines.laptop(tmp_path), {}) | {"architecture": "x86_64"}
    assert mlperf_system(host, None, {})["accelerators_per_node"] is None, "its display might be"
    plain = host | {"gpus": None, "pci_accelerators": []}
    fields = mlperf_system(plain, None, {})
    assert fields["accelerators_per_node"] == 0
    assert fields["accelerator_model_name"] == fields["accelerator_on-chip_memories"] == "N/A"
    gpu = {
        "name": "NVIDIA H200",
        "memory_bytes": 140 * 2**30,
        "max_clock_mhz": 1980,
        "pcie_generation": 5,
        "pcie_lanes": 16,
        "driver": "580.65",
        "cuda": "13.1",
    }
    fields = mlperf_system(host | {"gpus": [gpu, gpu]}, None, {})
    assert fields["accelerators_per_node"] == 2
    assert fields["accelerator_model_name"] == "NVIDIA H200"
    assert fields["accelerator_memory_capacity"] == "140 GiB"
    assert fields["accelerator_host_interconnect"] == "PCIe Gen5 x16"
    assert "NVIDIA driver 580.65" in str(fields["other_software_stack"])


def test_the_fields_are_those_that_mlperf_asks_for():
    assert len(FIELDS) == len(set(FIELDS)) == 35, "SYSTEM_DESC_REQUIRED_FIELDS of v4.1"
    given = {name.replace("on_chip", "on-chip") for name in System.model_fields}
    assert given - set(FIELDS) == {"form_factor", "price", "power"}
    assert len(Power.model_fields) == 15, "SYSTEM_DESC_REQUIRED_FIELDS_POWER of v4.1"


def test_it_survives_a_bundle(tmp_path: Path):
    text = "price: {amount: 1.5, currency: EUR, date: 2026-01-31, source: x}\ncooling: air\n"
    system = load_system(write(tmp_path / "s.yaml", text))
    assert system is not None
    record = json.loads(json.dumps(system.model_dump(mode="json")))
    assert System.model_validate(record) == system


def test_the_environment_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("QBENCH_SYSTEM", raising=False)
    assert load_system() is None
    monkeypatch.setenv("QBENCH_SYSTEM", str(write(tmp_path / "one.yaml", "cooling: air\n")))
    two = write(tmp_path / "two.yaml", "cooling: liquid\n")
    assert load_system() == System(cooling="air")
    assert load_system(two) == System(cooling="liquid"), "what is given comes first"


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("cooling: air\ncoolin: air\n", 2, "Did you mean 'cooling'"),
        ("cooling: air\nstatus: ready\n", 2, "'available', 'preview' or 'rdi'"),
        ("price:\n  amount: -5\n", 2, "greater than 0"),
        ("price: {amount: 5, currency: EUR, date: 2026-01-31}\n", 1, "'price.source' is missing"),
        (
            "price:\n  amount: 5\n  currency: Euro\n  date: 2026-01-31\n  source: x\n",
            3,
            "price.currency",
        ),
        (
            "price:\n  amount: 5\n  currency: EUR\n  date: soon\n  source: x\n",
            4,
            "price.date",
        ),
        ("power:\n  power_supply_detail: x\n", 2, "power_supply_details"),
        ("host_memory_configuration: []\n", 1, "host_memory_configuration"),
        ("cooling: true\n", 1, "cooling"),
        ("- cooling\n", 1, "keys and values"),
    ],
)
def test_errors_are_reported_with_their_line(tmp_path: Path, text: str, place: int, said: str):
    path = write(tmp_path / "system.yaml", text)
    with pytest.raises(UserError) as error:
        load_system(path)
    assert f"{path}:{place}:" in str(error.value)
    assert said in str(error.value)


def test_the_template_and_the_documents_example_load(tmp_path: Path):
    """The template is all comments: each key, uncommented, is one that a System takes."""
    text = (suites_dir() / "templates" / "system.yaml").read_text()
    lines = re.findall(r"^# ((?:  )?[a-z_]+:.*)$", text, re.M)
    system = load_system(write(tmp_path / "system.yaml", "\n".join(lines)))
    assert system is not None and system.price and system.power
    unmentioned = {name for name in System.model_fields if getattr(system, name) is None}
    assert unmentioned == {"host_processor_frequency"}
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "machines.md").read_text(), re.S)
    assert load_system(write(tmp_path / "example.yaml", example))
