"""The story: write images, train both ways, be killed in the middle, resume, and compare."""

from __future__ import annotations

import statistics
import time
from contextlib import AbstractContextManager
from dataclasses import replace

from s3torch.harness.demo.events import Ended, EpochEnded, Event, Loaded, Saved, Started, Step, Written
from s3torch.harness.demo.place import Place, own_server, users_store
from s3torch.harness.demo.process import DemoError, WorkerProcess
from s3torch.harness.demo.settings import Job, Settings
from s3torch.harness.demo.verdict import RunRecord, Verdict, compare
from s3torch.harness.demo.view import View

__all__ = ["run_demo"]

_KIB = 1024


def run_demo(settings: Settings, view: View) -> bool:
    """Run the demo.

    Args:
        settings: Its options, checked.
        view: What the user sees.

    Returns:
        Whether the resumed run ended exactly as the uninterrupted one.

    Raises:
        DemoError: It could not be run to its end.
    """
    started = time.perf_counter()
    view.heading("A store")
    place: AbstractContextManager[Place]
    place = own_server(settings) if settings.uri is None else users_store(settings, view.say)
    with place as ready:
        view.say(f"Working on {ready.description}")
        verdict = _Story(settings, ready, view).tell()
    view.say(f"Done in {time.perf_counter() - started:.0f} s")
    return verdict.is_same


class _Story:
    """The parts of the demo, in order."""

    def __init__(self, settings: Settings, place: Place, view: View) -> None:
        self._settings = settings
        self._place = place
        self._view = view

    def tell(self) -> Verdict:
        settings, view = self._settings, self._view
        self._write()

        view.heading("Training on S3MapDataset, uninterrupted")
        straight = self._train(self._job(run="uninterrupted"))
        view.heading("Training on S3IterableDataset")
        iterable = self._train(self._job(run="iterable", style="iterable"))

        epoch = settings.epochs // 2 + 1
        job = self._job(run="interrupted")
        job = replace(job, hold_at=(epoch, job.steps // 2))
        view.heading("The same training once more, to be killed in the middle")
        self._train(job)
        view.heading("A new process resumes from the latest checkpoint in S3")
        resumed = self._train(replace(job, hold_at=None, resume=True))

        verdict = compare(straight, resumed)
        self._summarize(straight, iterable, resumed)
        self._pronounce(straight, resumed, verdict)
        return verdict

    def _job(self, *, run: str, style: str = "map") -> Job:
        settings = self._settings
        return Job(
            store=self._place.address,
            task="train",
            samples=settings.samples,
            run=run,
            style="map" if style == "map" else "iterable",
            epochs=settings.epochs,
            workers=settings.workers,
        )

    def _write(self) -> None:
        settings, view = self._settings, self._view
        view.heading(f"A data set: {settings.samples} images of discs, squares and crosses, one object each")
        job = Job(store=self._place.address, task="write", samples=settings.samples)
        seconds = 0.0
        with WorkerProcess(job, self._place.env) as process, view.bar("writing", settings.samples) as bar:
            for event in process.events():
                if isinstance(event, Written):
                    seconds = event.seconds
                    bar.update(event.images, f"{event.images / max(seconds, 1e-9):6.0f} objects/s")
        view.say(f"Wrote {settings.samples} objects in {seconds:.1f} s")

    def _train(self, job: Job) -> RunRecord:
        """Run one training process to its end, or to where it is to be killed."""
        record, view = RunRecord(), self._view
        total = job.epochs * job.steps
        with WorkerProcess(job, self._place.env) as process, view.bar("training", total) as bar:
            for event in process.events():
                self._note(record, event)
                if isinstance(event, Step):
                    done = (event.epoch - 1) * job.steps + event.step
                    rate = f"{event.samples_per_second:6.0f} samples/s"
                    bar.update(done, f"{rate}  epoch {event.epoch}  loss {event.loss:.4f}")
                    if job.hold_at == (event.epoch, event.step):
                        how = process.kill()
                        view.say(f"Killed ({how}) in epoch {event.epoch} at step {event.step} of {job.steps}")
                        return record
        if not record.digest or job.hold_at is not None:
            raise DemoError("the training process ended before its time")
        return record

    def _note(self, record: RunRecord, event: Event) -> None:
        """Keep what the proof and the summary need, and tell what the reader may want to know."""
        say = self._view.say
        if isinstance(event, Started):
            record.first_epoch = event.epoch
        elif isinstance(event, Step):
            record.losses[event.epoch, event.step] = event.loss
        elif isinstance(event, EpochEnded):
            record.epochs.append(event)
            say(
                f"Epoch {event.epoch}: loss {event.loss:.4f}, accuracy {event.accuracy:.1%}, "
                f"{event.samples_per_second:.0f} samples/s"
            )
        elif isinstance(event, Saved):
            record.saved.append(event)
            say(f"Saved {event.uri}: {event.size / _KIB:.0f} KiB in {event.seconds * 1e3:.0f} ms", style="dim")
        elif isinstance(event, Loaded):
            record.loaded = event
            say(f"Found {event.uri} and loaded it in {event.seconds * 1e3:.0f} ms")
        elif isinstance(event, Ended):
            record.loss, record.digest = event.loss, event.digest

    def _summarize(self, straight: RunRecord, iterable: RunRecord, resumed: RunRecord) -> None:
        saved = [*straight.saved, *iterable.saved, *resumed.saved]
        save_ms = statistics.median(event.seconds for event in saved) * 1e3
        rows = [
            ["S3MapDataset", f"{straight.samples_per_second():.0f} samples/s"],
            ["S3IterableDataset", f"{iterable.samples_per_second():.0f} samples/s"],
            ["Checkpoint size", f"{saved[-1].size / _KIB:.0f} KiB"],
            [f"Checkpoint save (median of {len(saved)})", f"{save_ms:.0f} ms"],
        ]
        if resumed.loaded is not None:
            rows.append(["Checkpoint load", f"{resumed.loaded.seconds * 1e3:.0f} ms"])
        self._view.table("Summary", ["", "measured here"], rows)
        if self._settings.uri is None:
            self._view.say("moto is a test server in Python: it, not the client, sets these rates.", style="dim")

    def _pronounce(self, straight: RunRecord, resumed: RunRecord, verdict: Verdict) -> None:
        view = self._view
        view.heading("The proof")
        view.say(f"uninterrupted  final loss {straight.loss!r}  parameters sha256 {straight.digest[:16]}")
        view.say(f"resumed        final loss {resumed.loss!r}  parameters sha256 {resumed.digest[:16]}")
        if verdict.is_same:
            view.say(
                f"EQUAL: the losses of all {verdict.batches} batches after the resume, and every parameter and "
                "optimizer state, agree to the last bit.",
                style="bold green",
            )
        for difference in verdict.differences:
            view.say(f"DIFFERENT: {difference}", style="bold red")
