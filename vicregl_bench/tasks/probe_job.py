"""A task that scores frozen features directly: features, then every point of its grid."""

import json
import shutil
import time
from contextlib import suppress
from dataclasses import replace

from filelock import Timeout

from vicregl_bench.atomic import write_atomic
from vicregl_bench.data import stat_key
from vicregl_bench.engine.device import default_workers
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.engine.stop import StopFlag
from vicregl_bench.features.cache import FeatureCache, code_version
from vicregl_bench.records import Record
from vicregl_bench.tasks.job import TrunkJob
from vicregl_bench.tasks.measured import Measured
from vicregl_bench.tasks.plan import Plan
from vicregl_bench.tasks.probing import ProbeDomain, Probing
from vicregl_bench.tasks.state import Spent, forget_state

_POLL_S = 0.5
_MADE_OF = "made_of.json"
FEATURES = "features"
"""Folder of the cached features, in that of the records."""


class ProbeJob(TrunkJob):
    """A probe: one process scores, all that have the same command compute what is shared."""

    unit = "points of the grid"

    def __init__(self, plan: Plan, reporter: Reporter, found: Record | None) -> None:
        super().__init__(plan, reporter, found)
        domain = plan.domain
        assert isinstance(domain, ProbeDomain)
        self.domain = domain
        self.heads = domain.heads()
        self._points = plan.work / "points"
        self._probing: Probing | None = None

    @property
    def total(self) -> int:
        """Points of the grid."""
        return len(self.heads)

    def spent(self) -> Spent:
        """What it took so far, earlier interrupted parts included."""
        done = 0 if self._probing is None else len(self._probing.done)
        return replace(self.clock.spent(), iterations=done)

    def forget(self) -> None:
        """Remove the points that the record has; cached features stay."""
        forget_state(self.plan.work)
        shutil.rmtree(self._points, ignore_errors=True)

    def measure(self, stop: StopFlag) -> Measured | None:
        """Score every point of the grid.

        Returns None where another process has left the record of the same run.

        Raises:
            RunInterruptedError: asked to stop; what is done is kept.
            filelock.Timeout: another process has the run, and nothing of it can be shared.
            RuntimeError: the trunk changed.
        """
        plan, workers = self.plan, self.plan.request.workers
        self._probing = probing = Probing(
            trunk=self.trunk,
            device=plan.device,
            train=plan.train,
            holdout=plan.holdout,
            val=plan.dataset.val,
            keep=plan.keep,
            workers=default_workers(plan.device) if workers is None else workers,
            reporter=self.reporter,
            stopped=lambda: stop.requested,
            cache=FeatureCache(plan.request.out / FEATURES),
            points=self._points,
            outcome=self.domain.outcome,
        )
        if not self._take_or_join(probing):
            return None
        self._drop_stale()
        with self.clock:
            scores = self.domain.probe(probing)
        self.heads = self.domain.heads()
        probing.done.update(self.heads)
        self.require_unchanged()
        # at which step is not known of a probe
        diverged_at = tuple(0 if head in probing.diverged else -1 for head in self.heads)
        return Measured(self.heads, diverged_at, scores)

    def _drop_stale(self) -> None:
        """Remove what was kept of other files of pictures, by other code or on another device.

        The key of a run does not tell these apart, that of cached features does.

        Raises:
            DataError: a picture's file is missing.
            OSError: the folder cannot be written.
        """
        made_of = {
            **code_version(),
            "device": self.plan.device.type,
            "files": stat_key(self.plan.dataset.splits),
        }
        content, note = json.dumps(made_of, indent=1).encode(), self._points / _MADE_OF
        with suppress(FileNotFoundError):
            if note.read_bytes() == content:
                return
        if self._points.exists():
            self.reporter.warn(
                f"what {self._points} keeps of the interrupted run is of files, of code or of a "
                "device that changed since: it is computed anew"
            )
            shutil.rmtree(self._points)
        write_atomic(note, content)

    def _take_or_join(self, probing: Probing) -> bool:
        """Take the run; where another process has it, share its work and wait.

        Returns whether there is work left.

        Raises:
            filelock.Timeout: another process has the run, and nothing of it can be shared.
        """
        try:
            return self.take()
        except Timeout:
            if not self.domain.shares:
                raise
        self.reporter.warn(
            f"another process has this run ({self.plan.work}): what both need is computed together"
        )
        self.domain.share(probing)
        while True:
            probing.check_stop()
            with suppress(Timeout):
                return self.take()
            time.sleep(_POLL_S)
