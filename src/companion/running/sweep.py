"""Many runs of one notebook on Dask workers: on this machine, or at a scheduler that exists.

Only this process writes into the output folder, each run whole or not at all, and holds the lock of
each run that it has under way. So whatever is killed, the same command goes on from there, and two
sweeps into one folder share the work.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from companion.running import cluster, limits
from companion.running import run as runs
from companion.running.folders import cache, clean, lock_of, writing
from companion.running.page import Run
from companion.running.record import Failed, Refused


def _unpack(files: Mapping[str, bytes], work: Path) -> None:
    (work / "results").mkdir()
    for name, data in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
            raise Failed(f"a worker sent a file named {name[:80]!r}")
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_bytes(data)


def check(todo: Sequence[Run], scheduler: str | None, workers: int | None) -> str | None:
    """Check where the runs are to be made, before anything starts; returns a warning, or None.

    Raises
    ------
    Refused : no address, no number of workers, or a file that other machines do not have.
    """
    if scheduler is None:
        cluster.places_here(workers, len(todo))
        return None
    if workers is not None:
        raise Refused("--workers and --scheduler exclude each other.")
    if named := [name for run in todo for name in run.files]:
        raise Refused(
            f"parameter {named[0]} names a file of this machine; allowed with --scheduler: "
            "parameters that are values."
        )
    return cluster.check_address(scheduler)


def plan(todo: Sequence[Run], out: Path, say: Callable[[str], None]) -> None:
    """Say what a sweep would run; nothing is started."""
    done = 0
    for run in todo:
        why = runs.skipped(out / run.page.name / run.id)
        done += bool(why)
        say(f"{run.id} {run.describe()}: {why or 'to do'}")
    say(f"{len(todo)} runs of {todo[0].page.name}, {done} of them done; nothing was started")


def sweep(
    todo: Sequence[Run],
    root: Path,
    out: Path,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    seconds: float = 60,
    fork: bool = True,
    say: Callable[[str], None] = print,
) -> Counter[str]:
    """Run every run that is not done into ``out``; one that fails does not stop the others.

    Parameters
    ----------
    todo : from `grid.expand`: runs of one page.
    scheduler : address of one that exists; without it ``workers`` processes of this machine do it,
        by default as many as it has processors or visible GPUs.
    seconds : how long to wait for a scheduler and a worker.
    fork : fork kernels from a process that has imported what the page imports (on Linux).
    say : told one line a run.

    Returns
    -------
    How many runs were ``done`` and ``skipped``.

    Raises
    ------
    Refused : a worker has another version, and nothing was started.
    Failed : runs failed (it lists them), the scheduler was lost, or ``out`` cannot be written.
    """
    page, out = todo[0].page, out.absolute()
    folder = out / page.name
    if warning := check(todo, scheduler, workers):
        say(warning)
    places = () if scheduler else cluster.places_here(workers, len(todo))
    ends: dict[str, list[str]] = {"done": [], "skipped": [], "failed": []}

    def settle(run: Run, kind: str, what: str) -> None:
        ends[kind].append(f"{run.id} {run.describe()}: {what}")
        say(ends[kind][-1])

    left: deque[Run] = deque()
    for run in todo:
        why = runs.skipped(folder / run.id)
        settle(run, "skipped", why) if why else left.append(run)
    if not left:
        return Counter(skipped=len(todo))
    own, order = _ready(root, folder, len(places), say), cluster.order(root, places, fork)
    there = cluster.existing(scheduler, seconds) if scheduler else cluster.local(own, len(places))
    with there as client:
        cluster.ask_all(client, order, page, max(seconds, 30))
        say(f"dashboard: {client.dashboard_link}")
        ended = _results(client, order, left, out, seconds)
        for one in tqdm(ended, total=len(left), unit="run", file=sys.stderr, disable=None):
            settle(*one)
    if failed := ends["failed"]:
        raise Failed("\n".join([f"{len(failed)} of {len(todo)} runs failed:", *failed]))
    return Counter({kind: len(lines) for kind, lines in ends.items()})


def _ready(root: Path, folder: Path, workers: int, say: Callable[[str], None]) -> Path:
    """Make the folder of runs ready; returns one for what workers keep for a while."""
    with writing(folder):
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        if removed := clean(folder.parent, folder.name):
            say(f"removed {removed} unfinished folders of killed runs")
        limits.check(folder, workers)
        return cache(root, folder.parent)


def _results(
    client: Any, order: cluster.Order, left: deque[Run], out: Path, seconds: float
) -> Iterator[tuple[Run, str, str]]:
    """Hand the runs to the workers; yields each with what became of it, when its files lie here.

    Only a few runs a worker are under way at a time, so that results do not pile up, and a second
    sweep into the same folder finds runs to do.
    """
    from distributed.client import CancelledError

    folder = out / left[0].page.name
    flight: dict[Any, tuple[Run, FileLock]] = {}
    seen, asked, threads = time.monotonic(), 0.0, 0

    def log(run_id: str, what: str) -> None:
        with writing(folder), (folder / "logs" / f"{run_id}.log").open("a", encoding="utf-8") as f:
            f.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {what}\n")

    client.subscribe_topic(order.topic, lambda event: log(event[1]["run"], event[1]["what"]))
    try:
        while left or flight:
            if (now := time.monotonic()) - asked > 1:
                threads, asked = sum(cluster.bounded(seconds, client.nthreads).values()), now
                seen = now if threads else seen
            if client.status != "running":  # what is submitted now would wait for ever
                raise ConnectionError("connection lost")
            if now - seen > seconds:
                raise Failed(
                    f"{client.scheduler.address} has had no worker for {seconds:.0f} s; what is "
                    "done is kept, and the same command goes on from there"
                )
            for _ in range(len(left) if len(flight) < 2 * threads else 0):
                run = left.popleft()
                lock = _claimed(out, run)
                if lock is None:  # another sweep has it
                    left.append(run)
                elif why := runs.skipped(folder / run.id):
                    lock.release()
                    yield run, "skipped", why
                else:
                    key = f"{run.page.name}-{run.id}-{secrets.token_hex(4)}"
                    future = client.submit(cluster.execute, order, run, key=key, pure=False)
                    flight[future] = run, lock
                    if len(flight) >= 2 * threads:
                        break
            ended = [future for future in flight if future.done()]
            for future in ended:
                run, _ = flight[future]
                kind, what = _settled(future, run, out)
                log(run.id, what)
                flight.pop(future)[1].release()
                yield run, kind, what
            if not ended:
                time.sleep(0.05 if flight else 0.5)
    except (OSError, CancelledError) as error:  # of Dask's; our own writing fails as `Failed`
        lost = f"the scheduler {client.scheduler.address} is lost; what is done is in {folder}"
        raise Failed(f"{lost}, and the same command goes on from there") from error
    finally:
        for _, lock in flight.values():
            lock.release()


def _claimed(out: Path, run: Run) -> FileLock | None:
    """Take the lock of a run; None where another process holds it."""
    with writing(out):
        lock = lock_of(out, run.page.name, run.id)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
    return lock


def _settled(future: Any, run: Run, out: Path) -> tuple[str, str]:
    """Say what became of a run, whose files are written here, whole or not at all."""
    if error := future.exception():
        if isinstance(error, Refused):
            raise Failed(f"{error}; the sweep stops here") from error
        return "failed", f"{type(error).__name__} on a worker: {error}"
    files, failure = future.result()

    def fill(work: Path) -> str | None:
        _unpack(files, work)
        return failure  # type: ignore[no-any-return]  # of Dask's

    with writing(out / run.page.name / run.id):
        try:
            return "done", runs.deliver(run, out, fill)[1]
        except Failed as error:
            return "failed", str(error)
