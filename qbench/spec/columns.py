"""The case table: its row, and for each column its meaning, unit and heading.

This is the only place where a column is declared. Terminal, pages and exports choose columns from
``COLUMNS`` by name. Scripts rely on the names: new columns may be added, none is renamed without a
new schema version. None means not measured or not known, never zero.
"""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple


class Column(NamedTuple):
    """One column of the case table.

    Attributes:
        group: what the column is about, as ``speed``.
        title: its heading, without the unit.
        unit: of the values as readers see them; "" for words and plain numbers. ``%`` and ``pp``:
            the table holds shares, which are shown times 100.
        doc: its meaning, in one or two sentences.
        formula: how it is computed, with the source; "" where ``doc`` says it.
        rank: the order in which columns are left out where space is short, the highest first; 0:
            never.
        name: of the field of ``CaseRow``.
    """

    group: str
    title: str
    unit: str
    doc: str
    formula: str = ""
    rank: int = 0
    name: str = ""


Words = str | None
Number = float | None
Count = int | None
Flag = bool | None

_LOW = "Lower end of its 95 % interval over trials; empty below 6 trials."
_HIGH = "Upper end of its 95 % interval."
_AS_P10 = "interval as for latency_p10_ms"


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseRow:
    """One case of a bundle: the columns of the case table, by name."""

    # fmt: off
    model: Annotated[str, Column("case", "model", "", "Name of the model card.")]
    task: Annotated[Words, Column("case", "task", "", "Task of the model card.")] = None
    source_format: Annotated[Words, Column("case", "source format", "", "Format of the file that the backend prepared from.")] = None
    converted_from: Annotated[Words, Column("case", "converted from", "", "Format that qbench converted that file from; empty if it was not converted.")] = None
    input_shapes: Annotated[Words, Column("case", "input shapes", "", "Shapes of the inputs; a name stands for the batch. Empty for bundles that do not record them.")] = None
    conversion_sqnr_db: Annotated[Number, Column("case", "conversion SQNR", "dB", "Closeness of the converted model to its source, worst output.", "As sqnr_db, of the converted file's outputs against its source's.")] = None
    backend: Annotated[str, Column("case", "backend", "", "Name of the adapter.")]
    backend_version: Annotated[Words, Column("case", "version", "", "Version of the runtime that ran.")] = None
    environment: Annotated[str, Column("case", "environment", "", "Interpreter and packages that the workers ran in.")]
    precision: Annotated[str, Column("case", "precision", "", "Requested precision.")]
    variant: Annotated[Words, Column("case", "variant", "", "Options that differ from the precision's defaults.")] = None
    quantizer: Annotated[Words, Column("case", "quantizer", "", "Tool and function that quantized the model.")] = None
    recipe: Annotated[str, Column("case", "recipe", "", "`best`: the backend's own best path; `shared`: one quantized model for all backends.")]
    calibration_items: Annotated[Count, Column("case", "calibration items", "", "Number of items that the quantizer was calibrated on.")] = None
    effective_precision: Annotated[Words, Column("case", "ran at", "", "Precision of most multiply-accumulates, as read back from the runtime.", rank=2)] = None
    int8_mac_share: Annotated[Number, Column("case", "in int8", "%", "Share of multiply-accumulates that ran in int8.", "multiply-accumulates in int8 / all multiply-accumulates of a call.")] = None
    flags: Annotated[Words, Column("case", "flags", "", "Warnings that precision and figures hide: `int8 in name only`, `quantized in name only` (a quantized file that runs in floating point), `int8 sums may saturate` (x86 without VNNI), `bf16 emulated`, `far from float32` (below 10 dB), `inputs outside their scale` (5 % or more of a quantized input's values).")] = None
    fallback_ops: Annotated[Count, Column("case", "fallback operators", "", "Number of operators that ran outside the fast path.")] = None
    device: Annotated[str, Column("case", "device", "", "Device that it ran on.")]
    scenario: Annotated[str, Column("case", "scenario", "", "How inferences were issued.")]
    scenario_options: Annotated[Words, Column("case", "options", "", "Options of the scenario that differ from its defaults.")] = None
    batch_size: Annotated[int, Column("case", "batch", "", "Items in one call.")]
    threads: Annotated[int, Column("case", "threads", "", "Threads that one call may use.")]
    streams: Annotated[int, Column("case", "streams", "", "Calls that may run at the same time.")]

    status: Annotated[Words, Column("outcome", "status", "", "ok, skipped, prepare_failed, wrong_output, error, crashed, timeout or oom; empty if the run was interrupted before it.")] = None
    reason: Annotated[Words, Column("outcome", "reason", "", "Why it is not ok, in a sentence.")] = None
    rounds: Annotated[int, Column("outcome", "rounds", "", "Good trials, each in a fresh process.")] = 0
    samples: Annotated[Count, Column("outcome", "calls", "", "Timed calls in all trials together.")] = None
    noisy: Annotated[Flag, Column("outcome", "noisy", "", "Whether a quarter of the trials or more are doubtful.", "doubtful_trials / rounds ≥ 0.25.")] = None
    noise_reason: Annotated[Words, Column("outcome", "noise", "", "What disturbed them, with the worst figure of each kind.")] = None
    doubtful_trials: Annotated[Count, Column("outcome", "doubtful trials", "", "Trials that were disturbed, or whose warm-up had not ended.")] = None
    clean_share: Annotated[Number, Column("outcome", "clean", "%", "Share of the window in which nothing else used the processor; median over trials, as the figures below.", "Σ wall time of the blocks of calls whose wall time is their processor time / Σ wall time.")] = None
    run_delay_share: Annotated[Number, Column("outcome", "waited", "%", "Share of the window in which its threads waited for a processor.", "time in which its threads were ready and had no processor / (window × threads × streams).")] = None
    others_cores: Annotated[Number, Column("outcome", "others", "cores", "Number of processors that other processes kept busy during the window.", "processor time of all other processes / window.")] = None
    clock_ghz: Annotated[Number, Column("outcome", "clock", "GHz", "Processor clock at the end of the window.")] = None
    temperature_c: Annotated[Number, Column("outcome", "temperature", "°C", "Hottest sensor of the processor at the end of the window.")] = None
    half_width: Annotated[Number, Column("outcome", "p10 ±", "%", "Half the 95 % interval of p10, or of its paired ratio to fp32, whichever is wider; 0.01 is 1 %.", "exp(t(0.975; n − 1) · s / √n) − 1, s the standard deviation of the n trials' ln p10, or of the rounds' ln ratios.")] = None
    inconclusive: Annotated[Flag, Column("outcome", "inconclusive", "", "Whether the half width exceeds the suite's target; empty for a fixed number of rounds.", "half_width > the suite's target, or no interval.")] = None
    warmup_calls: Annotated[Number, Column("outcome", "warm-up", "calls", "Calls before timing, until the latency was stable; median over trials.")] = None
    warmup_ms: Annotated[Number, Column("outcome", "warm-up", "ms", "Duration of the warm-up; median over trials.")] = None

    latency_p10_ms: Annotated[Number, Column("speed", "p10", "ms", "10th percentile of a call's latency; geometric mean over trials, as all percentiles; empty below 10 calls in a trial.", "exp(Σ ln p10ᵢ / n), p10ᵢ of the calls of trial i, interpolated linearly; 95 % interval: × exp(± t(0.975; n − 1) · s / √n), s the standard deviation of ln p10ᵢ, from n = 6 on.")] = None
    latency_p10_low_ms: Annotated[Number, Column("speed", "p10, low", "ms", _LOW)] = None
    latency_p10_high_ms: Annotated[Number, Column("speed", "p10, high", "ms", _HIGH)] = None
    latency_p50_ms: Annotated[Number, Column("speed", "p50", "ms", "Median latency of a call of one batch.", f"exp(Σ ln p50ᵢ / n), p50ᵢ the median call of trial i; {_AS_P10}.")] = None
    latency_p50_low_ms: Annotated[Number, Column("speed", "p50, low", "ms", _LOW)] = None
    latency_p50_high_ms: Annotated[Number, Column("speed", "p50, high", "ms", _HIGH)] = None
    latency_p90_ms: Annotated[Number, Column("speed", "p90", "ms", "90th percentile; empty below 10 calls in a trial.", f"exp(Σ ln p90ᵢ / n), p90ᵢ of the calls of trial i; {_AS_P10}.")] = None
    latency_p90_low_ms: Annotated[Number, Column("speed", "p90, low", "ms", _LOW)] = None
    latency_p90_high_ms: Annotated[Number, Column("speed", "p90, high", "ms", _HIGH)] = None
    latency_p99_ms: Annotated[Number, Column("speed", "p99", "ms", "99th percentile; empty below 100 calls in a trial.", f"exp(Σ ln p99ᵢ / n), p99ᵢ of the calls of trial i; {_AS_P10}.", 6)] = None
    latency_p99_low_ms: Annotated[Number, Column("speed", "p99, low", "ms", _LOW)] = None
    latency_p99_high_ms: Annotated[Number, Column("speed", "p99, high", "ms", _HIGH)] = None
    latency_p99_9_ms: Annotated[Number, Column("speed", "p99.9", "ms", "99.9th percentile; empty below 1000 calls in a trial.", f"exp(Σ ln p99.9ᵢ / n), p99.9ᵢ of the calls of trial i; {_AS_P10}.")] = None
    latency_p99_9_low_ms: Annotated[Number, Column("speed", "p99.9, low", "ms", _LOW)] = None
    latency_p99_9_high_ms: Annotated[Number, Column("speed", "p99.9, high", "ms", _HIGH)] = None
    throughput_ips: Annotated[Number, Column("speed", "throughput", "items/s", "Items per second over the whole timed window.", f"exp(Σ ln(itemsᵢ / wall timeᵢ) / n) over trials; {_AS_P10}.", 5)] = None
    throughput_ips_low: Annotated[Number, Column("speed", "throughput, low", "items/s", _LOW)] = None
    throughput_ips_high: Annotated[Number, Column("speed", "throughput, high", "items/s", _HIGH)] = None
    speedup: Annotated[Number, Column("speed", "speed-up", "× fp32", "p50 of fp32 over this p50: same model, backend and conditions, paired by round.", f"exp(Σ ln(p50 of fp32 in round i / p50 in round i) / n) over the rounds that both have; {_AS_P10}.")] = None
    speedup_low: Annotated[Number, Column("speed", "speed-up, low", "× fp32", _LOW)] = None
    speedup_high: Annotated[Number, Column("speed", "speed-up, high", "× fp32", _HIGH)] = None
    speedup_p10: Annotated[Number, Column("speed", "speed-up of p10", "× fp32", "The same for p10: the steadier figure, which gates use.", "As speedup, of p10.")] = None

    decode_ms: Annotated[Number, Column("pipeline", "decode", "ms", "Host time to decode a picture, median over frames; empty where nothing is decoded.")] = None
    preprocess_ms: Annotated[Number, Column("pipeline", "preprocess", "ms", "Host time from the decoded item to the model's input.")] = None
    postprocess_ms: Annotated[Number, Column("pipeline", "postprocess", "ms", "Host time from the outputs to the answer: class, boxes, mask, score.")] = None
    io_convert_us: Annotated[Number, Column("pipeline", "placing inputs", "µs", "Time to place and convert the inputs of a call once, median over trials.")] = None
    e2e_p50_ms: Annotated[Number, Column("pipeline", "frame p50", "ms", "Median time from a frame's stored form to its answer.")] = None
    e2e_p99_ms: Annotated[Number, Column("pipeline", "frame p99", "ms", "99th percentile of it; empty below 100 frames in a trial.", rank=3)] = None
    fps: Annotated[Number, Column("pipeline", "frames", "per s", "Frames over wall time, one frame at a time, nothing overlapping.")] = None
    deadline_miss_rate: Annotated[Number, Column("pipeline", "missed", "%", "Share of paced frames whose result came too late or not at all.")] = None
    paced_hz: Annotated[Number, Column("pipeline", "results", "per s", "Results per second of paced frames.", rank=2)] = None
    paced_jitter_ms: Annotated[Number, Column("pipeline", "jitter", "ms", "99th percentile minus median of the response time of paced frames.", rank=1)] = None
    processor_left: Annotated[Number, Column("pipeline", "processor left", "%", "Share of the case's processors that paced frames leave to other work.", "1 − processor time of the case / (window × threads).")] = None

    sustained_p50_ms: Annotated[Number, Column("sustained", "p50 at the end", "ms", "Median latency in the last minute of a long load (in its last fifth, if it is shorter than five minutes).")] = None
    sustained_p99_ms: Annotated[Number, Column("sustained", "p99 at the end", "ms", "99th percentile in it; empty below 100 calls there in a trial.", rank=2)] = None
    sustained_ratio: Annotated[Number, Column("sustained", "end / begin", "×", "That median over the median of the first minute: 1.3 is 30 % slower once hot.", "sustained_p50_ms / median of the first minute, or of the first fifth.")] = None

    process_start_ms: Annotated[Number, Column("start", "process start", "ms", "Time to start the interpreter, median over trials.")] = None
    import_ms: Annotated[Number, Column("start", "import", "ms", "Time to import the runtime, median over trials.")] = None
    load_ms: Annotated[Number, Column("start", "load", "ms", "Time to load and compile the artifact, median over trials.")] = None
    first_inference_ms: Annotated[Number, Column("start", "first inference", "ms", "Duration of the first call, median over trials.")] = None
    cold_start_ms: Annotated[Number, Column("start", "cold start", "ms", "Time from starting the process to the first result, median over trials.", "Process start to first result: more than the sum of its named phases.", 8)] = None
    prepare_s: Annotated[Number, Column("start", "prepare", "s", "Time to convert and quantize, measured once; others may have run at the same time.")] = None

    source_size_mb: Annotated[Number, Column("size", "source size", "MB", "Size of the source file, in 10^6 bytes.")] = None
    artifact_size_mb: Annotated[Number, Column("size", "size", "MB", "Size of the prepared files, in 10^6 bytes.", rank=4)] = None
    memory_load_peak_mb: Annotated[Number, Column("size", "load peak", "MB", "Peak memory while loading, over the process with its runtime imported.", "highest resident size while loading − resident size once the runtime is imported.")] = None
    memory_load_anonymous_mb: Annotated[Number, Column("size", "loaded, own", "MB", "Part of the growth after loading that belongs to the process itself.")] = None
    memory_load_file_mb: Annotated[Number, Column("size", "loaded, from files", "MB", "Part of the growth after loading that is mapped from files.")] = None
    memory_peak_mb: Annotated[Number, Column("size", "peak memory", "MB", "Peak memory of the first call and the warm-up, over the same baseline.", "highest resident size in first call and warm-up − resident size once the runtime is imported.", 7)] = None
    memory_anonymous_mb: Annotated[Number, Column("size", "running, own", "MB", "Part of the growth after warm-up that belongs to the process itself.")] = None
    memory_file_mb: Annotated[Number, Column("size", "running, from files", "MB", "Part of the growth after warm-up that is mapped from files.")] = None
    memory_process_peak_mb: Annotated[Number, Column("size", "whole process", "MB", "Peak memory of the whole process.")] = None
    device_memory_mb: Annotated[Number, Column("size", "device memory", "MB", "Maximum memory that the process took on the device in a window; median over trials.", "By difference: memory used on the card in the window − memory used before the worker was started, nobody else being there.", 3)] = None
    device_memory_by: Annotated[Words, Column("size", "memory by", "", "Source of that figure: NVML, of the process; NVML, as the difference to before; or the runtime.")] = None
    cpu_utilization: Annotated[Number, Column("size", "cores busy", "", "Processor time over wall time of the timed window; 1 is one core.", "processor time of the process / wall time, median over trials.")] = None

    energy_mj_per_inference: Annotated[Number, Column("energy", "energy", "mJ", "Millijoules for one item, by energy_method; above idle where it is measured.", "Measured: mean over windows of (joules − idle_w × seconds) / items. By processor time: exp(mean of ln(watts per core × processor time / items)) over trials. By operations: Σ operations × energy of one.", 10)] = None
    energy_mj_per_inference_low: Annotated[Number, Column("energy", "energy, low", "mJ", "Lower end of its 95 % interval; below 0 where it cannot be distinguished from idle.")] = None
    energy_mj_per_inference_high: Annotated[Number, Column("energy", "energy, high", "mJ", _HIGH)] = None
    energy_gross_mj_per_inference: Annotated[Number, Column("energy", "gross", "mJ", "Millijoules for one item, idle share included; known even if the load does not rise above idle.", "Mean over windows of joules / items.", 2)] = None
    power_w: Annotated[Number, Column("energy", "power", "W", "Mean power in the timed window, by energy_method.", rank=1)] = None
    idle_w: Annotated[Number, Column("energy", "idle", "W", "Idle power that was subtracted.", rank=1)] = None
    energy_window_s: Annotated[Number, Column("energy", "window", "s", "Length of the window.")] = None
    energy_method: Annotated[Words, Column("energy", "method", "", "How it was found; never compare across methods.")] = None
    energy_scope: Annotated[Words, Column("energy", "scope", "", "Part of the machine that it covers.")] = None
    energy_is_measured: Annotated[Flag, Column("energy", "measured", "", "False for a proxy.")] = None
    energy_reason: Annotated[Words, Column("energy", "reason", "", "Why no better method was used, or why a figure is missing.")] = None
    energy_noise: Annotated[Words, Column("energy", "disturbed", "", "What disturbed a quarter of its windows or more; sensors count the work of other processes too.")] = None
    instructions_per_inference: Annotated[Number, Column("energy", "instructions per inference", "", "Retired instructions for one item.", "instructions of the window / items, median over trials.")] = None
    instructions_per_cycle: Annotated[Number, Column("energy", "per cycle", "", "Retired instructions for each cycle of the processor.", "instructions / cycles of the window, median over trials.")] = None

    gpu_compute_p50_ms: Annotated[Number, Column("gpu", "computing p50", "ms", "Median compute time of a call, from a pass after the timed window, as all segments; median over trials. By events on the GPU, or the host's clock where the runtime has none (docs/gpu.md).")] = None
    gpu_h2d_p50_ms: Annotated[Number, Column("gpu", "inputs p50", "ms", "Median time to copy a call's inputs to the GPU.", rank=1)] = None
    gpu_d2h_p50_ms: Annotated[Number, Column("gpu", "outputs p50", "ms", "Median time to copy a call's outputs from the GPU.", rank=1)] = None
    gpu_enqueue_p50_ms: Annotated[Number, Column("gpu", "handing over p50", "ms", "Median host time until a call was handed over to the GPU.", rank=2)] = None
    gpu_sm_clock_mhz: Annotated[Number, Column("gpu", "clock", "MHz", "GPU clock in the window, median over trials, as the figures below.", rank=4)] = None
    gpu_memory_clock_mhz: Annotated[Number, Column("gpu", "memory clock", "MHz", "Clock of the GPU's memory.")] = None
    gpu_power_w: Annotated[Number, Column("gpu", "power", "W", "Mean power of the GPU in the window; not for energies, whose windows are longer.", "Mean of NVML's readings in the window; from Ampere on (A100 aside) each is of the last second, and so lags behind.", 5)] = None
    gpu_temperature_c: Annotated[Number, Column("gpu", "temperature", "°C", "Highest temperature of the GPU in a window.", rank=6)] = None
    gpu_throttled: Annotated[Words, Column("gpu", "throttled", "", "Reasons why its clock was lowered, with the share of the readings in the worst trial; `no`: it was not.", rank=4)] = None
    gpu_warnings: Annotated[Words, Column("gpu", "warnings", "", "Limits of throughput other than computing, and whether the GPU's time is unstable, as trtexec warns.", "Bound by the host: enqueue p50 > 0.8 × compute p50; by copying: h2d or d2h p50 ≥ compute p50; unstable: standard deviation / mean of compute > 1 % (TensorRT, trtexec, sampleReporting.cpp).")] = None

    accuracy_metric: Annotated[Words, Column("quality", "metric", "", "Metric of the model card.")] = None
    accuracy: Annotated[Number, Column("quality", "accuracy", "%", "The metric on the evaluation items.", "Of a share: right items / items; other metrics as accuracy.md has them. Interval: Wilson (JASA 1927), else the 2.5 and 97.5 % points of 1000 resamples of the items.", 1)] = None
    accuracy_low: Annotated[Number, Column("quality", "accuracy, low", "%", "Lower end of its 95 % interval: Wilson's for shares, else bootstrap.")] = None
    accuracy_high: Annotated[Number, Column("quality", "accuracy, high", "%", _HIGH)] = None
    accuracy_items: Annotated[Count, Column("quality", "items", "items", "Number of items that were evaluated.")] = None
    accuracy_data: Annotated[Words, Column("quality", "data", "", "The data set, and how much of the official one that is.")] = None
    reference: Annotated[Words, Column("quality", "reference", "", "Backend whose float32 outputs this case is compared with.")] = None
    accuracy_delta: Annotated[Number, Column("quality", "Δ accuracy", "pp", "Accuracy minus the float32 reference's, on the same items.", "accuracy − accuracy of the float32 reference on the same items. Interval of shares: Agresti and Min (Statistics in Medicine 2005), of other metrics a paired bootstrap.", 2)] = None
    accuracy_delta_low: Annotated[Number, Column("quality", "Δ accuracy, low", "pp", "Lower end of its 95 % interval, for matched pairs.")] = None
    accuracy_delta_high: Annotated[Number, Column("quality", "Δ accuracy, high", "pp", _HIGH)] = None
    accuracy_delta_p: Annotated[Number, Column("quality", "p of Δ", "", "McNemar's exact p-value of it; empty for metrics that are not shares.", "Two-sided binomial test of the items that only one of both has right, at ½ (McNemar, Psychometrika 1947).")] = None
    accuracy_items_needed: Annotated[Count, Column("quality", "±1 pp takes", "items", "Items that would give the delta an interval of ±1 point, at the disagreement seen.", "⌈1.96² · d / 0.01²⌉, d the share of items that only one of both has right (Agresti, Categorical Data Analysis, 10.1).")] = None
    sqnr_db: Annotated[Number, Column("quality", "SQNR", "dB", "Signal to quantization noise ratio against the float32 reference.", "10 log₁₀(Σ r² / Σ (r − y)²), r the reference's outputs, y these, over all items; the worst output; at most 200.", 3)] = None
    cosine: Annotated[Number, Column("quality", "cosine", "", "Mean cosine similarity to the reference.", "Mean over items of r · y / (‖r‖ ‖y‖), r the reference's outputs, y these; the worst output.")] = None
    equal_values: Annotated[Number, Column("quality", "equal values", "%", "Share of integer output values (class indices) that equal the reference's.", "Share of values of integer outputs without a scale, over all items; the worst output.")] = None
    max_abs_difference: Annotated[Number, Column("quality", "largest difference", "", "Largest difference of a value from the reference's.", "max |r − y|, r the reference's outputs, y these.")] = None
    agreement: Annotated[Number, Column("quality", "agreement", "%", "Share of items with the reference's top class.")] = None
    outputs_digest: Annotated[Words, Column("quality", "outputs digest", "", "SHA-256 of all outputs.")] = None

    macs: Annotated[Count, Column("proof", "MACs", "", "Multiply-accumulates of a call.")] = None
    roofline_share: Annotated[Number, Column("proof", "of roofline", "%", "Minimum time that the machine's measured ceilings allow, over p10.", "max(Σ multiply-accumulates / highest rate measured at their precision, (weight bytes − cache bytes) / measured bandwidth) / p10 (Williams et al., CACM 2009).", 9)] = None
    roofline_bound: Annotated[Words, Column("proof", "bound by", "", "Ceiling that sets this minimum: compute or memory.")] = None
    floor_us: Annotated[Number, Column("proof", "floor", "µs", "Cost of a call of this backend on an empty network.", "p10 of a call of the yardstick that does nothing, its best trial.")] = None
    loadgen_valid: Annotated[Flag, Column("proof", "verdict", "", "MLPerf LoadGen's verdict, by the options of the scenario.")] = None
    loadgen_latency_ms: Annotated[Number, Column("proof", "latency, early stopping", "ms", "LoadGen's result: the percentile that early stopping vouches for.")] = None
    loadgen_qps: Annotated[Number, Column("proof", "result", "per s", "LoadGen's result: samples or queries per second.")] = None
    target_qps: Annotated[Number, Column("proof", "rate that held", "per s", "Requested queries per second.", rank=1)] = None
    isa: Annotated[Words, Column("proof", "instruction sets", "", "Instruction sets of the processor that matter for inference.")] = None
    power_mode: Annotated[Words, Column("proof", "power mode", "", "Frequency governor or power mode.")] = None

    case_id: Annotated[str, Column("identity", "case", "", "Digest of the request, without versions.", "SHA-256 of the request, its first digits.")]
    artifact_digest: Annotated[Words, Column("identity", "artifact digest", "", "SHA-256 of the prepared files.")] = None
    model_digest: Annotated[Words, Column("identity", "model digest", "", "SHA-256 of the source file.")] = None
    dataset_digest: Annotated[Words, Column("identity", "data set digest", "", "SHA-256 of evaluation items and preprocessing.")] = None
    host_id: Annotated[str, Column("identity", "host", "", "Digest that identifies the machine.")]
    run_id: Annotated[str, Column("identity", "run", "", "The bundle.")]
    # fmt: on


COLUMNS: dict[str, Column] = {
    name: annotation.__metadata__[0]._replace(name=name)
    for name, annotation in CaseRow.__annotations__.items()
}
"""The columns of the case table by name, in their order."""
NAMES: tuple[str, ...] = tuple(COLUMNS)
INTERVALS: dict[str, tuple[str, str]] = {
    name.replace("_low", ""): (name, name.replace("_low", "_high"))
    for name in NAMES
    if "_low" in name
}
"""By column with an interval, the columns of its lower and upper end."""


def as_dict(row: CaseRow) -> dict[str, Any]:
    """The columns of a row by name, in their order; for exports, pictures and other programs."""
    return {name: getattr(row, name) for name in NAMES}
