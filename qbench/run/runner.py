"""Running a suite: plan, prepare, evaluate, measure in rounds, and leave a bundle.

``run_suite`` reads as the program. Every result is on disk before the next step begins, so that
the same command continues an interrupted run.
"""

from __future__ import annotations

from qbench.bundle.bundle import Bundle
from qbench.errors import as_user_error
from qbench.machine.energy.wall import MeterError
from qbench.machine.gpu.sharing import SharedGpu, refuse_shared
from qbench.machine.lock import alone_in, measuring_lock
from qbench.run.artifacts import ArtifactStore
from qbench.run.planner import check_runnable, make_plan
from qbench.run.progress import Progress, Silent
from qbench.run.request import Request, begin, check_writable, now
from qbench.run.sources.catalog import Catalog
from qbench.run.stages.evaluate import evaluate
from qbench.run.stages.measure import measure, measure_energy_windows, measure_memory
from qbench.run.stages.prepare import build_environments, prepare
from qbench.run.stages.sitting import Sitting, next_number
from qbench.run.workers.registry import Registry


def run_suite(
    request: Request, catalog: Catalog, registry: Registry, progress: Progress | None = None
) -> Bundle:
    """Run a suite, or continue an interrupted run of it, and return the complete bundle.

    Raises:
        UserError: the request cannot be run: a wrong name or file, every case skipped, another
            run in progress.
        MachineryError: the disk is full; the bundle can be continued.
        KeyboardInterrupt: the bundle can be continued.
    """
    progress = progress or Silent()
    check_writable(request.results)
    if request.wall:
        with as_user_error(MeterError), request.wall.running():
            pass  # refuse an unusable meter now, not after all rounds
    with measuring_lock(), alone_in(request.results):
        suite, store = request.suite, ArtifactStore()
        store.remove_stale()
        probes = registry.probe(suite.backends)
        environments = build_environments(request, registry, store, progress)
        plan = make_plan(suite, catalog, registry, probes, store, request.filters, environments)
        check_runnable(plan)
        if not request.allow_shared_gpu:
            with as_user_error(SharedGpu):
                refuse_shared({p.case.device: p.gpu for p in plan.runnable if p.gpu})
        bundle = begin(request, plan, probes, registry)
        number = next_number(bundle)
        sitting = Sitting(plan, bundle, store, registry, catalog, progress, request, number)
        prepare(sitting)
        evaluate(sitting)
        measure_memory(sitting)
        measure(sitting)
        measure_energy_windows(sitting)
        bundle.finish({"finished": now()})
    return bundle
