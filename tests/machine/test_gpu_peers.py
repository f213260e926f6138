"""Tests of the references for tests/gpu, without a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gpu_peers import apart, segments_ns, trtexec_command, trtexec_times

HELP_10 = """\
  --exposeDMA                 Serialize DMA transfers to and from device (default = disabled).
  --noDataTransfers           Disable DMA transfers to and from device (default = enabled).
  --useSpinWait               Actively synchronize on GPU events. (default = disabled)
  --useCudaGraph              Use CUDA graph to capture engine execution (default = disabled).
"""
"""Lines of TensorRT 10's ``trtexec --help`` (samples/common/sampleOptions.cpp)."""

HELP_11 = """\
  --exposeDMA                 Serialize DMA transfers to and from device
  --includeDataTransfers      Include DMA transfers to and from device
  --noSpinWait                Do not actively synchronize on GPU events
  --noCudaGraph               Do not use CUDA graphs
"""
"""The names of TensorRT 11's, where graphs and active waiting are on, and copies off."""

TIMES = """[
  { "startEnqMs" : 1000.5, "endEnqMs" : 1000.52
  , "startH2dMs" : 1000.5, "endH2dMs" : 1000.75
  , "startComputeMs" : 1000.75, "endComputeMs" : 1002.75
  , "startD2hMs" : 1002.75, "endD2hMs" : 1002.76
  , "h2dMs" : 0.25, "computeMs" : 2, "d2hMs" : 0.01, "latencyMs" : 2.26 }
, { "startEnqMs" : 1003, "endEnqMs" : 1003.04
  , "startH2dMs" : 1003, "endH2dMs" : 1003.25
  , "startComputeMs" : 1003.25, "endComputeMs" : 1005.5
  , "startD2hMs" : 1005.5, "endD2hMs" : 1005.52
  , "h2dMs" : 0.25, "computeMs" : 2.25, "d2hMs" : 0.02, "latencyMs" : 2.52 }
]
"""
"""Two calls as exportJSONTrace writes them (samples/common/sampleReporting.cpp): a comma before
every value and none after, milliseconds, no ``endToEndMs`` since TensorRT 8.5."""


def flags(help_text: str, transfers: bool) -> set[str]:
    command = trtexec_command(
        "trtexec", help_text, Path("a/model.engine"), Path("times.json"), 1, transfers
    )
    assert command[0] == "trtexec"
    assert {"--loadEngine=a/model.engine", "--exportTimes=times.json"} <= set(command)
    assert {"--device=1", "--warmUp=500", "--duration=3"} <= set(command)
    return {word for word in command[1:] if "=" not in word}


def test_trtexec_10_gets_every_flag():
    assert flags(HELP_10, True) == {"--useCudaGraph", "--useSpinWait", "--exposeDMA"}
    assert flags(HELP_10, False) == {"--useCudaGraph", "--useSpinWait", "--noDataTransfers"}


def test_trtexec_11_gets_only_flags_that_are_not_default():
    assert flags(HELP_11, True) == {"--includeDataTransfers", "--exposeDMA"}
    assert flags(HELP_11, False) == set()


def test_times_exported_by_trtexec():
    times = trtexec_times(TIMES)
    assert times["compute"].tolist() == [2.0e6, 2.25e6]
    assert times["latency"].tolist() == pytest.approx([2.26e6, 2.52e6])
    np.testing.assert_allclose(
        times["h2d"] + times["compute"] + times["d2h"], times["latency"], rtol=1e-9
    )
    np.testing.assert_allclose(times["enqueue"], [2e4, 4e4], rtol=1e-6)


def test_a_run_without_calls_is_no_result():
    with pytest.raises(ValueError, match="no calls"):
        trtexec_times("[\n]\n")


def test_how_far_two_sets_of_processes_lie_apart():
    assert apart([102, 101, 180], [100, 100, 99]) == pytest.approx(0.02)
    assert apart([98], [100]) == pytest.approx(-0.02)


def test_the_segments_of_a_call_add_up():
    record = {
        "h2d": {"p50_ns": 10.0},
        "compute": {"p50_ns": 200.0},
        "d2h": {"p50_ns": 5.0},
        "enqueue": {"p50_ns": 50.0},  # beside the others, and no part of them
    }
    assert segments_ns(record) == 215.0
    assert segments_ns({"compute": {"p50_ns": 200.0}}) == 200.0
