"""One job in the hands of the worker: its child process is followed, and its row in the queue told how it goes."""

from __future__ import annotations

import logging
import multiprocessing
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing import connection as pipes
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from forwardinf_core.errors import StoreError
from forwardinf_core.jobs import child, queue
from forwardinf_core.jobs.context import Progress, project_gone
from forwardinf_core.jobs.execution import remove_work
from forwardinf_core.jobs.memory import memory_kills
from forwardinf_core.projects.places import user_folder

POLL_S = 0.2  # a cancel is seen this late
FLUSH_S = 0.5  # a running job's row is written this often at most
HEARTBEAT_S = 2.0  # and at least
ASK_S = 1.0  # a child that was asked to stop has this long to do so by itself
TERMINATE_S = 0.3
RETRY_S = 1.0  # after the database could not be written
MAX_CRASHES = 5  # of the child, in a row and without progress
MAX_HALVINGS = 10
LOG_LINES = 60
LOGGER = logging.getLogger(__name__)

Ending = Literal["cancel", "stop", "gone", "project"]


def lock_file() -> Path:
    """Return the file whose lock makes a process the worker of this machine."""
    return user_folder() / "worker.lock"


def log_folder() -> Path:
    """Return where the worker and the jobs leave what they print."""
    return user_folder() / "logs"


@dataclass
class Task:
    """One job in the hands of the worker: its child, what the child said, and what of it the row does not say yet."""

    job: queue.JobStatus
    modules: tuple[str, ...]
    stopping: threading.Event
    ended: child.Ended | None = None
    ending: Ending | None = None
    values: dict[str, object] = field(default_factory=dict)  # columns to write
    log: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    written_s: float = field(default_factory=time.monotonic)
    done: float = 0.0
    is_moving: bool = False
    watch: queue.Watch = field(default_factory=queue.Watch)

    def run(self) -> None:
        """Have the job done and settle its row."""
        self.log.extend(self.job.log)
        kills_before = memory_kills()
        context = multiprocessing.get_context(start_method())
        ours, theirs = context.Pipe()
        log_file = log_folder() / f"job-{self.job.id}.log"
        arguments = (theirs, self.job, self.modules, log_file)
        process: BaseProcess = context.Process(  # type: ignore[attr-defined]  # every start method has one
            target=child.main, args=arguments, name=f"job-{self.job.id}"
        )
        try:
            process.start()
            theirs.close()
            self._follow(process, ours)
        except (OSError, EOFError) as error:  # no memory for a process, or the fork server was killed
            LOGGER.warning("the child of job %s did not start: %s", self.job.id, error)
        finally:
            _end(process)
            ours.close()
        self._settle(memory_kills() > kills_before)

    def _follow(self, process: BaseProcess, link: Connection) -> None:
        asked_s = 0.0
        is_open = True
        while is_open or process.is_alive():
            ready = pipes.wait([link, process.sentinel] if is_open else [process.sentinel], POLL_S)
            if link in ready:
                is_open = self._hear(link)
            elif process.sentinel in ready:
                is_open = False
            self._write_row()
            if self.ending is None:
                self.ending = self._reason_to_end()
                if self.ending is not None:
                    asked_s = time.monotonic()
                    _ask_to_stop(link)
            elif time.monotonic() - asked_s > ASK_S:
                return

    def _hear(self, link: Connection) -> bool:
        """Take in what the child said; return False at the end of the pipe."""
        try:
            while link.poll():
                message: child.Message = link.recv()
                match message:
                    case child.Started(threads):
                        self.values["threads"] = threads
                    case child.Reported(progress, peak):
                        self._take(progress, peak)
                    case child.Logged(text):
                        self._say(text)
                    case child.Ended():
                        self.ended = message
        except (EOFError, OSError):
            return False
        return True

    def _take(self, progress: Progress, peak: int) -> None:
        if not self.is_moving:
            self.is_moving, self.written_s = True, float("-inf")  # the first sign of life is shown at once
        self.done = progress.done
        self.values.update(done=progress.done, total=progress.total, note=progress.note, rate=progress.rate)
        self.values["peak_bytes"] = max(peak, self.job.peak_bytes)

    def _say(self, text: str) -> None:
        self.log.append(text)
        self.values["log"] = "\n".join(self.log)

    def _write_row(self) -> None:
        age = time.monotonic() - self.written_s
        if age < (FLUSH_S if self.values else HEARTBEAT_S):
            return
        self.written_s = time.monotonic()
        try:
            queue.change(self.job.id, "running", **self.values, heartbeat_s=self.written_s)
        except StoreError as error:  # a locked database or a full disk: the next time will say it all
            LOGGER.warning("%s", error)
        else:
            self.values.clear()

    def _reason_to_end(self) -> Ending | None:
        if self.stopping.is_set():
            return "stop"
        if not self.job.project.is_dir():
            return "project"
        if not lock_file().exists():
            return "gone"
        if not self.watch.has_news():
            return None
        try:
            wanted = queue.cancel_wanted(self.job.id)
        except StoreError as error:
            self.watch.forget()
            LOGGER.warning("%s", error)
            return None
        return "gone" if wanted is None else "cancel" if wanted else None

    def _settle(self, short_of_memory: bool) -> None:
        """Write how it ended. Keeps trying: the row is all that anyone will know."""
        values = {**self.values, **self._verdict(short_of_memory), "rate": None, "cancel_requested": 0}
        while lock_file().exists():
            try:
                queue.change(self.job.id, "running", **values)
                break
            except StoreError as error:
                LOGGER.warning("%s", error)
                if self.stopping.wait(RETRY_S):
                    return  # still called running: the next worker queues it again
        if values["state"] == "done":
            remove_work(self.job.project, self.job.binding)

    def _verdict(self, short_of_memory: bool) -> dict[str, object]:
        ended, now = self.ended, time.time()
        if self.ending == "project" and (ended is None or ended.state != "done"):
            error = project_gone(self.job.project)
            return {"state": "failed", "error_title": error.title, "error_hint": error.hint, "finished": now}
        if self.ending == "cancel" and (ended is None or ended.state != "done"):
            return {"state": "cancelled", "finished": now}
        if ended is not None and not (self.ending == "stop" and ended.state == "cancelled"):
            return {
                "state": ended.state,
                "result": ended.result,
                "error_title": ended.error,
                "error_hint": ended.hint,
                "peak_bytes": max(ended.peak_bytes, self.job.peak_bytes),
                "finished": None if ended.state == "paused" else now,
            }
        if self.ending is not None:
            return {"state": "queued"}
        return self._after_crash(short_of_memory)

    def _after_crash(self, short_of_memory: bool) -> dict[str, object]:
        row = queue.read(self.job.id)
        furthest = max(self.done, row.done)
        progressed = furthest > self.job.crashed_at
        if short_of_memory and self.job.halvings < MAX_HALVINGS:
            self._say("The system ended the job for want of memory: going on with batches of half the size.")
            return {"state": "queued", "halvings": self.job.halvings + 1, "log": "\n".join(self.log)}
        crashes = 1 if progressed else self.job.crashes + 1
        if crashes < MAX_CRASHES:
            self._say("The process of the job was killed: going on from its last finished chunk.")
            values = {"state": "queued", "crashes": crashes, "crashed_at": furthest}
            return {**values, "log": "\n".join(self.log)}
        return {
            "state": "failed",
            "error_title": f"The process of the job was killed {crashes} times without getting on.",
            "error_hint": f"See {log_folder() / f'job-{self.job.id}.log'}; a smaller model or batch may help.",
            "finished": time.time(),
        }


def _ask_to_stop(link: Connection) -> None:
    try:
        link.send("cancel")
    except OSError:  # the child has just ended
        return


def _end(process: BaseProcess) -> None:
    """See that the process is no more."""
    if process.pid is None:
        return
    for end, patience_s in ((process.terminate, TERMINATE_S), (process.kill, None)):
        if process.is_alive():
            end()
            process.join(patience_s)
    process.join()


def start_method() -> str:
    """Return how children are made: forked from a clean process where the system can, spawned elsewhere."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
