"""The workers of a sweep: what one does with a run, and how to reach them.

Nothing but messages passes between the client and the workers. A run goes out as the notebook's
text and its parameters, and comes back as the bytes of the files it left. A worker runs it against
its own checkout, and refuses if that is another version than the client's.
"""

from __future__ import annotations

import asyncio
import copy
import os
import re
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from ipaddress import ip_address
from multiprocessing import resource_tracker
from pathlib import Path
from sysconfig import get_python_version
from typing import Any, TypeVar

from companion.running import record as provenance
from companion.running import run as runs
from companion.running.folders import cache, scratch_folder
from companion.running.kernel import Forks, Setting
from companion.running.page import Page, Run
from companion.running.record import Failed, Refused

T = TypeVar("T")
Place = tuple[tuple[int, ...], str | None]  # a worker's processors, and its GPU


@dataclass(frozen=True)
class Order:
    """What a sweep asks of its workers, as each needs to know it."""

    topic: str
    packages: Mapping[str, str]
    python: str
    root: str | None  # of workers on this machine; others have their own checkout
    fork: bool
    places: tuple[Place, ...]  # by worker


def order(root: Path, places: tuple[Place, ...], fork: bool) -> Order:
    """Write down what this checkout asks of workers: its own at ``places``, or a scheduler's."""
    topic, packages = f"companion-{secrets.token_hex(8)}", provenance.installed(root)
    return Order(topic, packages, get_python_version(), str(root) if places else None, fork, places)


def refusal(order: Order, page: Page) -> str | None:
    """Say why a run here would not be the one that was ordered; None where it would be.

    The page's text travels with the order; sources, pins and data are this checkout's.
    """
    root = provenance.checkout(Path(order.root) if order.root else None)
    here = provenance.parts(page.text, root, page.data)
    if changed := provenance.differences(page.parts, here):
        return f"of its checkout, {'; '.join(changed)}"
    if (python := get_python_version()) != order.python:
        return f"it has Python {python}, this one {order.python}"
    try:
        lines = requires(provenance.PACKAGE) or []
    except PackageNotFoundError:  # not installed, but on the path alone
        lines = []
    needed = {re.split(r"[^\w.-]", s, maxsplit=1)[0].lower() for s in lines if "extra" not in s}
    for name, version in provenance.installed(root).items():
        wanted = order.packages.get(name, "")
        if name.lower() in needed and version == "not installed" != wanted:
            return f"it has no {name}, this one {wanted}"
        versions = {v.partition("+")[0] for v in (version, wanted) if v[:1].isdigit()}
        if len(versions) == 2:  # both have it; builds of torch for another device are one version
            return f"it has {name} {version}, this one {wanted}"
    return None


_FORKS = Forks()


def execute(order: Order, run: Run) -> tuple[dict[str, bytes], str | None]:
    """Execute a run on a worker; returns the files it left, and its failure if any.

    Raises
    ------
    Refused : see `refusal`.
    """
    from distributed import get_worker

    worker = get_worker()
    me = f"{worker.address} (pid {os.getpid()})"
    if why := refusal(order, run.page):
        raise Refused(f"worker {me} is not of this version: {why}")
    worker.log_event(order.topic, {"run": run.id, "what": f"started on {me}"})
    if order.places:
        processors, gpu = order.places[int(worker.name)]
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, processors)  # of this thread, and of the kernel it starts
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    root = provenance.checkout(Path(order.root) if order.root else None)
    scratch = Path(worker.local_directory)
    forks = _FORKS if order.fork and hasattr(os, "pidfd_open") else None
    with scratch_folder(scratch, "run.") as work:
        failure = runs.produce(run, work, Setting(root, cache(root, scratch), forks=forks))
        paths = [path for path in sorted(work.rglob("*")) if path.is_file()]
        left = {path.relative_to(work).as_posix(): path.read_bytes() for path in paths}
    return left, str(failure) if failure else None


def bounded(seconds: float, call: Callable[[], T]) -> T:
    """Return what ``call`` does, or raise TimeoutError: Dask's own calls may wait for ever."""
    found: Future[T] = Future()

    def run() -> None:
        try:
            found.set_result(call())
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            found.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return found.result(seconds)


def check_address(address: str) -> str | None:
    """Check a scheduler's address; returns a warning where others could speak to it too.

    Whoever speaks to a Dask scheduler can run code on its workers and its clients.

    Raises
    ------
    Refused : it is no address.
    """
    pattern = r"(?:(tcp|tls)://)?([\w.-]+|\[[0-9a-f:.]+\]):(\d{1,5})"
    match = re.fullmatch(pattern, address, re.ASCII | re.IGNORECASE)
    if not match or not 0 < int(match[3]) < 65536:
        raise Refused(f"--scheduler {address[:80]!r}; allowed: tcp://HOST:PORT or tls://HOST:PORT.")
    host = match[2].strip("[]")
    with suppress(ValueError):  # a name is no address of IP
        host = "localhost" if ip_address(host).is_loopback else host
    if match[1] == "tls" or host == "localhost":
        return None
    return (
        f"warning: {address} is neither encrypted nor closed to others: whoever reaches it can run "
        "code on its workers and here; tls:// or a tunnel (ssh -L) keeps them out"
    )


def places_here(workers: int | None, most: int) -> tuple[Place, ...]:
    """Give each local worker its processors, and its GPU where CUDA_VISIBLE_DEVICES names some."""
    from dask.system import CPU_COUNT  # what this process may use: affinity and cgroups

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    gpus = [gpu.strip() for gpu in named if gpu.strip() not in ("", "-1")]
    if workers is not None and not 1 <= workers <= (len(gpus) or 1024):
        allowed = f"1 to {len(gpus)}, one a GPU" if gpus else "1 to 1024"
        raise Refused(f"--workers {workers}; allowed: {allowed}.")
    count = workers or max(1, min(len(gpus) or CPU_COUNT, most))
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    return tuple(
        (tuple(cores[i::count]) or (cores[i % len(cores)],), gpus[i] if gpus else None)
        for i in range(count)
    )


@contextmanager
def _own_settings() -> Iterator[None]:
    """Set Dask's defaults in place of the user's settings, here and in what is started within."""
    import dask
    import distributed  # noqa: F401  # its defaults are Dask's too

    before, environment = copy.deepcopy(dask.config.config), dict(os.environ)
    for name in filter(re.compile("DASK_").match, environment):
        del os.environ[name]
    # Of a killed worker a semaphore or two is left, which Python removes when the sweep ends, and
    # says so on stderr in a process that takes its filters from here.
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker:UserWarning"
    dask.config.refresh(paths=[], env={})
    # workers keep no profile of what they run, which costs a thread that looks every 10 ms
    dask.config.set({"distributed.worker.profile.enabled": False})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        dask.config.config.clear()
        dask.config.config.update(before)


@contextmanager
def _held() -> Iterator[None]:
    """Hold back what a terminal sends to all of its processes, until a start is over.

    Threads and processes that are started within never get it: what ends them is this process.
    """
    sent = {getattr(signal, name, signal.SIGINT) for name in ("SIGINT", "SIGQUIT", "SIGHUP")}
    mask = getattr(signal, "pthread_sigmask", lambda *_: None)  # not on Windows
    resource_tracker.ensure_running()  # which would undo the mask where it starts
    mask(signal.SIG_BLOCK, sent)
    try:
        yield
    finally:
        mask(signal.SIG_UNBLOCK, sent)


@contextmanager
def local(folder: Path, workers: int) -> Iterator[Any]:
    """Start workers on this machine, one thread each, which no other user can speak to."""
    from distributed import Client, LocalCluster

    with _own_settings(), ExitStack() as stack:
        with _held():
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,  # of the worker alone; the notebook runs in its kernel
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                local_directory=str(folder),
                security=True,
                silence_logs="CRITICAL",
            )
            stack.enter_context(cluster)
            client = stack.enter_context(Client(cluster))
        yield client


@contextmanager
def existing(address: str, seconds: float) -> Iterator[Any]:
    """Connect to a scheduler that exists and has at least one worker."""
    import logging

    from distributed import Client
    from distributed.comm import connect
    from distributed.security import Security

    arguments = Security().get_connection_args("client")
    if address.startswith("tls://") and arguments["ssl_context"] is None:
        raise Refused(
            f"--scheduler {address} needs Dask's own settings distributed.comm.tls: ca-file, "
            "client.cert and client.key, in ~/.config/dask/*.yaml or DASK_CONFIG."
        )
    for name in ("distributed.client", "distributed.core"):  # a lost scheduler is reported below
        logging.getLogger(name).setLevel(logging.CRITICAL)

    async def answers() -> None:
        (await connect(address, timeout=seconds, **arguments)).abort()

    with ExitStack() as stack:
        try:
            # first: a client that finds none is not closed within minutes; and what answers may be
            # no scheduler, and never say so
            asyncio.run(asyncio.wait_for(answers(), seconds))
            client = Client(address, timeout=seconds, set_as_default=False)
            stack.callback(client.close, timeout=5)
            bounded(seconds + 1, lambda: client.wait_for_workers(1, timeout=seconds))
        except OSError as error:
            raise Failed(f"no workers at {address} within {seconds:.0f} s: {error}") from error
        yield client


def ask_all(client: Any, order: Order, page: Page, seconds: float) -> None:
    """Ask every worker whether it is of this version."""
    try:
        answers = bounded(seconds, lambda: client.run(refusal, order, page, on_error="return"))
    except TimeoutError as error:
        raise Failed(f"{client.scheduler.address} gave no answer in {seconds:.0f} s") from error
    bad = [f"{worker}: {why}" for worker, why in sorted(answers.items()) if why is not None]
    if bad:
        raise Refused(
            "nothing was started; workers that are not of this version (give them this checkout "
            "and these pins, or retire them):\n" + "\n".join(bad)
        )
