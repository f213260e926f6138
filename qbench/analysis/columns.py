"""The columns of the case table: what each means, and so what scripts may rely on.

New columns may be added; none is renamed without a new schema version. Empty means not measured,
never zero.
"""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """One column: its group, its name (with the unit), one sentence, and how it is computed, where
    the sentence does not say it; "" where it does."""

    group: str
    name: str
    doc: str
    formula: str = ""


_TABLE = """
what        | model                   | The model card's name.
what        | task                    | The card's task.
what        | source_format           | Format of the file that the backend prepared from.
what        | converted_from          | Format that qbench converted that file from; empty if it came so.
what        | conversion_sqnr_db      | Closeness of the converted model to its source, worst output.
what        | backend                 | The adapter's name.
what        | backend_version         | Version of the runtime that ran.
what        | environment             | Interpreter and packages that the workers ran in.
what        | precision               | The precision that was asked for.
what        | variant                 | Options that differ from the precision's defaults.
what        | quantizer               | Tool and function that quantized the model.
what        | recipe                  | `best`: the backend's own best path; `shared`: one model for all.
what        | calibration_items       | How many items the quantizer was given.
what        | effective_precision     | What most multiply-accumulates really ran at, read back.
what        | int8_mac_share          | Share of multiply-accumulates that ran in int8.
what        | flags                   | What the precision's name hides, such as `int8 in name only`.
what        | fallback_ops            | Operators that the fast path did not take.
what        | device                  | Where it ran.
what        | scenario                | How inferences were issued.
what        | scenario_options        | The scenario's options that differ from its defaults.
what        | batch_size              | Items in one call.
what        | threads                 | Threads that one call may use.
what        | streams                 | Calls that may run at the same time.
outcome     | status                  | ok, skipped, prepare_failed, error, crashed, timeout or oom.
outcome     | reason                  | Why it is not ok, in a sentence.
outcome     | rounds                  | Good trials, each in a fresh process.
outcome     | samples                 | Timed calls in all of them.
outcome     | noisy                   | Whether a quarter of the trials, or more, are doubtful.
outcome     | noise_reason            | By what.
outcome     | doubtful_trials         | Trials that something speaks against.
outcome     | clean_share             | Share of the window in which nothing else had the processor, median over trials, as all below.
outcome     | run_delay_share         | Share of the window that its threads waited for a processor.
outcome     | others_cores            | How many processors others kept busy meanwhile.
outcome     | clock_ghz               | The processor's clock at the window's end.
outcome     | temperature_c           | The processor's hottest sensor then.
outcome     | half_width              | Half the 95 % interval of p10, or of its paired ratio to fp32: the wider; 0.01 is 1 %.
outcome     | inconclusive            | Whether that is wider than the suite's target; empty for a fixed number of rounds.
outcome     | warmup_calls            | Calls before timing, until the latency was stable; median over trials.
outcome     | warmup_ms               | How long they took.
speed       | latency_p10_ms          | 10th percentile of a call; geometric mean over trials, as all; empty below 10 calls in a trial.
speed       | latency_p10_low_ms      | Lower end of its 95 % interval over trials; empty below 6.
speed       | latency_p10_high_ms     | Upper end.
speed       | latency_p50_ms          | Median of a call of one batch.
speed       | latency_p50_low_ms      | Lower end of its 95 % interval over trials; empty below 6.
speed       | latency_p50_high_ms     | Upper end.
speed       | latency_p90_ms          | 90th percentile; empty below 10 calls in a trial.
speed       | latency_p90_low_ms      | Lower end of its 95 % interval over trials; empty below 6.
speed       | latency_p90_high_ms     | Upper end.
speed       | latency_p99_ms          | 99th percentile; empty below 100 calls in a trial.
speed       | latency_p99_low_ms      | Lower end of its 95 % interval over trials; empty below 6.
speed       | latency_p99_high_ms     | Upper end.
speed       | latency_p99_9_ms        | 99.9th percentile; empty below 1000 calls in a trial.
speed       | latency_p99_9_low_ms    | Lower end of its 95 % interval over trials; empty below 6.
speed       | latency_p99_9_high_ms   | Upper end.
speed       | throughput_ips          | Items per second of the whole timed window.
speed       | throughput_ips_low      | Lower end of its 95 % interval.
speed       | throughput_ips_high     | Upper end.
speed       | speedup                 | fp32's p50 over this p50, same model, backend and conditions, by rounds.
speed       | speedup_low             | Lower end of its 95 % interval.
speed       | speedup_high            | Upper end.
speed       | speedup_p10             | The same on p10: the steadier figure, which gates use.
pipeline    | decode_ms               | Host time to decode a picture, median over frames; empty where there is nothing to decode.
pipeline    | preprocess_ms           | Host time from the decoded item to the model's input.
pipeline    | postprocess_ms          | Host time from the outputs to the answer: class, boxes, mask, score.
pipeline    | io_convert_us           | Placing and converting the inputs of a call once, median over trials.
pipeline    | e2e_p50_ms              | A frame from its stored form to its answer, median.
pipeline    | e2e_p99_ms              | Its 99th percentile; empty below 100 frames in a trial.
pipeline    | fps                     | Frames over wall time, one at a time, nothing overlapping.
pipeline    | deadline_miss_rate      | Share of paced frames whose result came too late or not at all.
pipeline    | paced_hz                | Results a second of paced frames.
pipeline    | paced_jitter_ms         | 99th percentile less median of their response time.
pipeline    | processor_left          | Share of the case's processors' time that paced frames leave to others.
sustained   | sustained_p50_ms        | Median in the last minute of a long load (its last fifth, below five minutes).
sustained   | sustained_p99_ms        | 99th percentile in it; empty below 100 calls there in a trial.
sustained   | sustained_ratio         | That median over that of the first minute: 1.3 is 30 % slower once hot.
start       | process_start_ms        | Starting the interpreter, median over trials.
start       | import_ms               | Importing the runtime, median over trials.
start       | load_ms                 | Loading and compiling the artifact, median over trials.
start       | first_inference_ms      | The first call, median over trials.
start       | cold_start_ms           | From starting the process to the first result, median over trials.
start       | prepare_s               | Converting and quantizing, once; others may have run beside it.
size        | source_size_mb          | The source file, in 10^6 bytes.
size        | artifact_size_mb        | The prepared files, in 10^6 bytes.
size        | memory_load_peak_mb     | Peak while loading, over the process with its runtime imported.
size        | memory_load_anonymous_mb | Of the growth when loaded, what is the process's own.
size        | memory_load_file_mb     | Of the growth when loaded, what is mapped from files.
size        | memory_peak_mb          | Peak of the first call and the warm-up, over the same baseline.
size        | memory_anonymous_mb     | Of the growth after warm-up, what is the process's own.
size        | memory_file_mb          | Of the growth after warm-up, what is mapped from files.
size        | memory_process_peak_mb  | Peak of the whole process.
size        | device_memory_mb        | Memory that the process took on the device, at most in a window; median over trials.
size        | device_memory_by        | How that is known: by NVML of the process, by NVML as the difference to before, or by the runtime.
size        | cpu_utilization         | Processor time over wall time of the timed window; 1 is one core.
energy      | energy_mj_per_inference | Millijoules for one item, by energy_method; above idle where it is measured.
energy      | energy_mj_per_inference_low| Lower end of its 95 % interval; below 0 where it cannot be told from idle.
energy      | energy_mj_per_inference_high| Upper end.
energy      | energy_gross_mj_per_inference | The same with the idle share; there even if the load does not rise above idle.
energy      | power_w                 | Mean power of the timed window, by energy_method.
energy      | idle_w                  | Idle power that was subtracted.
energy      | energy_window_s         | Length of the window.
energy      | energy_method           | How it was found; never compare across methods.
energy      | energy_scope            | What it covers.
energy      | energy_is_measured      | False for a proxy.
energy      | energy_reason           | Why it is not of a better method, or a figure is missing.
energy      | energy_noise            | What disturbed a quarter of its windows or more; sensors count the work of others, too.
energy      | instructions_per_inference | Retired instructions.
energy      | instructions_per_cycle  | Retired instructions for each cycle of the processor.
gpu         | gpu_compute_p50_ms      | A call's computing, median; of a pass after the timed window, as all segments; median over trials. By events on the GPU, or the host's clock where the runtime has none (docs/gpu.md).
gpu         | gpu_h2d_p50_ms          | Copying a call's inputs to the GPU.
gpu         | gpu_d2h_p50_ms          | Copying a call's outputs from the GPU.
gpu         | gpu_enqueue_p50_ms      | Host time until a call was handed over to the GPU.
gpu         | gpu_sm_clock_mhz        | The GPU's clock in the window, median over trials, as all below.
gpu         | gpu_memory_clock_mhz    | Its memory's clock.
gpu         | gpu_power_w             | Its mean power in the window; not for energies, whose windows are longer.
gpu         | gpu_temperature_c       | Its highest temperature in a window.
gpu         | gpu_throttled           | What lowered its clock, with the share of the readings in the worst trial; `no`: nothing did.
gpu         | gpu_warnings            | What bounds throughput beside computing, and whether the GPU's time is unstable, as trtexec warns.
quality     | accuracy_metric         | The metric of the model card.
quality     | accuracy                | The metric's value on the evaluation items.
quality     | accuracy_low            | Lower end of its 95 % interval: Wilson's for shares, else bootstrap.
quality     | accuracy_high           | Upper end.
quality     | accuracy_items          | How many items were evaluated.
quality     | accuracy_data           | The data set, and how much of the official one that is.
quality     | reference               | The backend whose float32 outputs this is compared with.
quality     | accuracy_delta          | Accuracy less the float32 reference's, on the same items.
quality     | accuracy_delta_low      | Lower end of its 95 % interval, for matched pairs.
quality     | accuracy_delta_high     | Upper end.
quality     | accuracy_delta_p        | McNemar's exact p-value of it; empty for other metrics than shares.
quality     | accuracy_items_needed   | Items that would give it an interval of ±1 point, as things are.
quality     | sqnr_db                 | Signal to quantization noise against the float32 reference.
quality     | cosine                  | Mean cosine similarity to it.
quality     | max_abs_difference      | Largest difference of a value from it.
quality     | agreement               | Share of items with its top class.
quality     | outputs_digest          | SHA-256 of all outputs.
proof       | macs                    | Multiply-accumulates of a call.
proof       | roofline_share          | The least time that the machine's measured ceilings allow, over p10.
proof       | roofline_bound          | What makes that least time: compute or memory.
proof       | floor_us                | What a call of this backend costs on a network that does nothing.
proof       | loadgen_valid           | MLPerf LoadGen's verdict, by the options of the scenario.
proof       | loadgen_latency_ms      | LoadGen's result: the percentile that early stopping vouches for.
proof       | loadgen_qps             | LoadGen's result: samples or queries a second.
proof       | target_qps              | Queries per second that were asked for.
proof       | isa                     | Instruction sets of the processor that matter here.
proof       | power_mode              | The frequency governor or power mode.
identity    | case_id                 | Digest of what was requested, without versions.
identity    | artifact_digest         | SHA-256 of the prepared files.
identity    | model_digest            | SHA-256 of the source file.
identity    | dataset_digest          | SHA-256 of evaluation items and preprocessing.
identity    | host_id                 | Digest that stands for the machine.
identity    | run_id                  | The bundle.
"""

_FORMULAS = """
conversion_sqnr_db       | As sqnr_db, of the converted file's outputs against its source's.
int8_mac_share           | multiply-accumulates in int8 / all multiply-accumulates of a call.
noisy                    | doubtful_trials / rounds ≥ 0.25.
clean_share              | Σ wall time of the blocks of calls whose wall time is their processor time / Σ wall time.
run_delay_share          | time in which its threads were ready and had no processor / (window × threads × streams).
others_cores             | processor time of all other processes / window.
half_width               | exp(t(0.975; n − 1) · s / √n) − 1, s the standard deviation of the n trials' ln p10, or of the rounds' ln ratios.
inconclusive             | half_width > the suite's target, or no interval.
latency_p10_ms           | exp(Σ ln p10ᵢ / n), p10ᵢ of the calls of trial i, interpolated linearly; 95 % interval: × exp(± t(0.975; n − 1) · s / √n), s the standard deviation of ln p10ᵢ, from n = 6 on.
latency_p50_ms           | exp(Σ ln p50ᵢ / n), p50ᵢ the median call of trial i; interval as of latency_p10_ms.
latency_p90_ms           | exp(Σ ln p90ᵢ / n), p90ᵢ of the calls of trial i; interval as of latency_p10_ms.
latency_p99_ms           | exp(Σ ln p99ᵢ / n), p99ᵢ of the calls of trial i; interval as of latency_p10_ms.
latency_p99_9_ms         | exp(Σ ln p99.9ᵢ / n), p99.9ᵢ of the calls of trial i; interval as of latency_p10_ms.
throughput_ips           | exp(Σ ln(itemsᵢ / wall timeᵢ) / n) over trials; interval as of latency_p10_ms.
speedup                  | exp(Σ ln(p50 of fp32 in round i / p50 in round i) / n) over the rounds that both have; interval as of latency_p10_ms.
speedup_p10              | As speedup, of p10.
processor_left           | 1 − processor time of the case / (window × threads).
sustained_ratio          | sustained_p50_ms / median of the first minute, or of the first fifth.
cold_start_ms            | Process start to first result: more than the sum of its named phases.
memory_load_peak_mb      | highest resident size while loading − resident size once the runtime is imported.
memory_peak_mb           | highest resident size in first call and warm-up − resident size once the runtime is imported.
device_memory_mb         | By difference: memory used on the card in the window − memory used before the worker was started, nobody else being there.
gpu_power_w              | Mean of NVML's readings in the window; from Ampere on (A100 aside) each is of the last second, and so lags behind.
gpu_warnings             | Bound by the host: enqueue p50 > 0.8 × compute p50; by copying: h2d or d2h p50 ≥ compute p50; unstable: standard deviation / mean of compute > 1 % (TensorRT, trtexec, sampleReporting.cpp).
cpu_utilization          | processor time of the process / wall time, median over trials.
energy_mj_per_inference  | Measured: mean over windows of (joules − idle_w × seconds) / items. By processor time: exp(mean of ln(watts per core × processor time / items)) over trials. By operations: Σ operations × energy of one.
energy_gross_mj_per_inference | Mean over windows of joules / items.
instructions_per_inference | instructions of the window / items, median over trials.
instructions_per_cycle   | instructions / cycles of the window, median over trials.
accuracy                 | Of a share: right items / items; other metrics as accuracy.md has them. Interval: Wilson (JASA 1927), else the 2.5 and 97.5 % points of 1000 resamples of the items.
accuracy_delta           | accuracy − accuracy of the float32 reference on the same items. Interval of shares: Agresti and Min (Statistics in Medicine 2005), of other metrics a paired bootstrap.
accuracy_delta_p         | Two-sided binomial test of the items that only one of both has right, at ½ (McNemar, Psychometrika 1947).
accuracy_items_needed    | ⌈1.96² · d / 0.01²⌉, d the share of items that only one of both has right (Agresti, Categorical Data Analysis, 10.1).
sqnr_db                  | 10 log₁₀(Σ r² / Σ (r − y)²), r the reference's outputs, y these, over all items; the worst output; at most 200.
cosine                   | Mean over items of r · y / (‖r‖ ‖y‖), r the reference's outputs, y these; the worst output.
max_abs_difference       | max |r − y|, r the reference's outputs, y these.
roofline_share           | max(Σ multiply-accumulates / highest rate measured at their precision, (weight bytes − cache bytes) / measured bandwidth) / p10 (Williams et al., CACM 2009).
floor_us                 | p10 of a call of the yardstick that does nothing, its best trial.
case_id                  | SHA-256 of the request, its first digits.
"""

_HOW: dict[str, str] = dict(
    [part.strip() for part in line.split("|", 1)] for line in _FORMULAS.strip().splitlines()
)
COLUMNS: tuple[Column, ...] = tuple(
    Column(group, name, doc, _HOW.get(name, ""))
    for group, name, doc in (
        [part.strip() for part in line.split("|", 2)] for line in _TABLE.strip().splitlines()
    )
)
NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)
