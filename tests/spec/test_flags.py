"""Flags of a precision: what its name hides."""

from __future__ import annotations

import pytest

from qbench.kit.operators import EffectivePrecision
from qbench.spec.precisions import flags


def ran(sums_in_16_bits: bool = False, **operators: int) -> EffectivePrecision:
    precision = max(operators, key=lambda name: operators[name])
    return EffectivePrecision(precision, operators, sums_in_16_bits=sums_in_16_bits)


@pytest.mark.parametrize(
    ("cpu_flags", "saturates"),
    [
        (["avx2"], True),
        (["avx2", "avx512f"], True),
        (["avx2", "avx_vnni"], False),
        (["avx2", "avx512f", "avx512_vnni"], False),
        (["asimd", "asimddp"], False),
        ([], False),
    ],
)
def test_int8_sums_saturate_on_x86_without_vnni(cpu_flags: list[str], saturates: bool):
    found = ["int8 sums may saturate"] if saturates else []
    assert flags("int8-static", ran(True, int8=9), cpu_flags) == found
    assert flags("as-shipped", ran(True, int8=9), cpu_flags) == found
    assert flags("int8-static", ran(False, int8=9), cpu_flags) == []


def test_a_quantized_file_that_runs_in_floating_point_is_quantized_in_name_only():
    assert flags("as-shipped", ran(fp32=9)) == ["quantized in name only"]
    assert flags("as-shipped", ran(fp32=9, int8=9)) == []
    assert flags("as-shipped", ran(int16=9)) == []
    assert flags("fp32", ran(fp32=9)) == []
    assert flags("w8", ran(fp32=9)) == [], "weights only: the name says so"
