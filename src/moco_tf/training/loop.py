"""The loop: a step a batch; now and then a log line, an evaluation, a checkpoint.

Pre-training, the linear probe and fine-tuning share it. What is theirs comes as a `Job`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from moco_tf.distribute.workers import Workers
from moco_tf.errors import InputError, WorkerLostError
from moco_tf.runs.background_save import AsyncCheckpointer
from moco_tf.runs.storage import RunStorage
from moco_tf.training.clock import StepClock
from moco_tf.training.job import BadImages, Job, Plan
from moco_tf.training.memory import give_back_freed_memory
from moco_tf.training.reporting import Reporter
from moco_tf.training.signals import Interrupted, StopSignals, Unsaved

_BEGINS_ANEW = "the untrained encoder was not evaluated yet. The same command begins anew."
_FAILED = 2  # a batch cannot be made; 1: it passes over an unreadable image


class Loop:
    """Trains a `Job` from `job.progress.step` on.

    Args:
        batches: of the steps from there on.
        failed: (error, step) -> what to raise where a batch cannot be read.
        storage: where checkpoints go.
        bad_images: notes unreadable images; none: a batch with one of them fails.
        beginning: evaluates what the job was before its first step, and is called when that is
            taken, so that it comes sooner; none: nothing is to be known of it.
    """

    def __init__(
        self,
        job: Job,
        batches: Iterator[Any],
        plan: Plan,
        *,
        failed: Callable[..., InputError],
        storage: RunStorage,
        workers: Workers,
        reporter: Reporter,
        bad_images: BadImages | None = None,
        beginning: Callable[[], None] | None = None,
    ):
        self.job, self.progress, self.plan = job, job.progress, plan
        self.batches, self.failed = batches, failed
        self.storage, self.workers, self.reporter = storage, workers, reporter
        self.bad_images, self.beginning = bad_images, beginning
        self.clock, self.compiling = StepClock(), True
        self.exit_message = lambda: storage.exit_message(plan.preemption_seconds, workers.chief)

    def run(self) -> None:
        """Trains to the end.

        Raises:
            InputError: an image cannot be read any more; the state is saved.
            DivergedError: numbers are not finite; what was saved before stays.
            Interrupted, Unsaved: a signal arrived; see there.
            WorkerLostError: another worker is gone; the state is saved.
        """
        storage, progress = self.storage, self.progress
        with (
            StopSignals(self.plan.preemption_seconds, self.exit_message) as self.stop,
            AsyncCheckpointer(storage.folder, storage.check_lock, storage.send) as self.saver,
        ):
            if progress.evaluation_due:
                self._evaluate_late()
            if not self.plan.last_step:
                self._evaluate_beginning()
            if self.plan.save_first or not self.plan.last_step:
                self.save(None)
            while progress.step < self.plan.last_step:
                self.saver.check()
                batch = self._next_batch()
                with self.workers.collective():
                    self.job.step(batch)
                self.clock.steps += 1
                if self.compiling:
                    self._note_first_step()
                    self._evaluate_beginning()
                progress.step += 1
                self._after_step()

    def _after_step(self) -> None:
        """Logs, evaluates, saves and leaves, each where it is due."""
        progress, plan, stop = self.progress, self.plan, self.stop
        progress.epoch, into_epoch = divmod(progress.step, plan.epoch_steps)
        last = progress.step == plan.last_step
        evaluates = (last or not into_epoch) and self.job.evaluation_due(progress.epoch, last)
        regular = progress.step % plan.log_every == 0 or (plan.log_epochs and not into_epoch)
        tags: list[str | None] = []
        if evaluates and self.job.evaluates_first:
            tags += self.evaluate()
        if (last or stop.signal or regular) and not (progress.evaluation_due and evaluates):
            self.log(regular)
        if evaluates and not self.job.evaluates_first:
            tags += self.evaluate()
        wanted = stop.signal if progress.evaluation_due or not last else None
        try:
            signal = self.workers.all_reduce_max(wanted or 0)  # all leave after one step
        except WorkerLostError:
            self.save(*tags, None)  # the step is whole
            raise
        if not into_epoch or progress.step % plan.checkpoint_every == 0 or last or signal:
            tags.append(None)
        if stop.signal:
            self.saver.wait()
            if (self.saver.seconds or 0) > stop.seconds_left():
                raise Unsaved(stop.signal, progress.step, self.exit_message())
        if tags:
            self.save(*tags)
        self._leave_if(signal)

    def save(self, *tags: str | None) -> None:
        """Begins to save the state under each tag; None is the checkpoint of the step."""
        job, progress = self.job, self.progress
        if not self.workers.chief:
            job.watch.check()
            return
        progress.seconds += self.clock.lap()
        with self.clock.excluded():
            self.saver.wait()
            self.storage.check_lock()
            progress.written = self.reporter.written()
            arrays = job.arrays()
            job.watch.check(arrays)
            self.saver.save(arrays, step=progress.step, extra=job.extra(), tags=tags)

    def log(self, regular: bool) -> None:
        """Writes a row of numbers."""
        values = self.job.row(regular) | (self.bad_images.row() if self.bad_images else {})
        timing = self.clock.close(self.plan.images_per_step)
        self.progress.seconds += timing.pop("seconds")
        self.progress.images_per_second = timing.get(
            "images_per_second", self.progress.images_per_second
        )
        epoch = (self.progress.step - 1) // self.plan.epoch_steps
        self.reporter.metrics(self.progress.step, {"epoch": epoch} | values | timing)
        if not np.isfinite(list(values.values())).all():
            self.saver.wait()  # so that the checkpoint that is named is the last one
        self.job.watch.check()

    def evaluate(self) -> list[str]:
        """Evaluates to the end or not at all; returns the tags of the checkpoint it deserves."""
        self.progress.evaluation_due = True
        with self.clock.excluded() as spent:
            self.stop.run_interruptible(self._evaluate_now)
        if self.progress.evaluation_due:
            return []
        self.progress.seconds += spent.seconds
        return self.job.note_evaluation()

    def _evaluate_beginning(self) -> None:
        """To the end, or the run begins anew: no checkpoint has what is needed for it."""
        if self.beginning is None:
            return
        with self.clock.excluded():
            ended = self.stop.run_interruptible(self.beginning)
        if not ended:
            signal = self.workers.all_reduce_max(self.stop.signal or 0)  # all leave after this step
            self.workers.barrier()
            raise Unsaved(signal, self.progress.step + 1, _BEGINS_ANEW)
        self.beginning = None  # which holds weights

    def _evaluate_now(self) -> None:
        self.job.evaluate()
        self.progress.evaluation_due = False

    def _evaluate_late(self) -> None:
        """The evaluation that a signal interrupted in the process before."""
        if self.job.evaluation_due(self.progress.epoch, last=True):
            tags = self.evaluate()
            if self.job.evaluates_first and not self.progress.evaluation_due:
                self.log(True)
            self.save(*tags, None)
        self.progress.evaluation_due = self.progress.evaluation_due and self.workers.chief
        self._leave_if(self.workers.all_reduce_max(self.stop.signal or 0))

    def _next_batch(self) -> Any:
        if self.compiling:
            self.reporter.stage("compiling the first step")
        batch = failure = None
        with self.clock.waiting():
            try:
                batch = next(self.batches)
            except tf.errors.OpError as error:
                failure = error
            new = failure is None and self.bad_images is not None and self.bad_images.any_new()
            anywhere = self.workers.all_reduce_max(_FAILED if failure else int(new))
        refused = None
        if anywhere and anywhere != _FAILED and self.bad_images:
            refused = self.bad_images.note(self.progress.step)
        if anywhere != _FAILED and not refused:
            return batch
        self.save(None)
        self.saver.wait()
        self.workers.barrier()  # the chief has saved
        raise refused or self.failed(failure, step=self.progress.step)

    def _note_first_step(self) -> None:
        self.job.wait()
        self.reporter.line(f"first step after {self.clock.end_of_first_step():.1f} s")
        give_back_freed_memory()
        self.compiling = False

    def _leave_if(self, signal: int | None) -> None:
        if signal:
            self.saver.wait()
            self.storage.finish()
            self.workers.barrier()  # the chief has saved
            raise Interrupted(signal, self.progress.step)
