"""What the system lets a run have, tried before one starts.

Where open files, threads or memory give out later, it is a thread of Dask, Jupyter or ZeroMQ that
meets it, which says so in a traceback or not at all.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from companion.running.record import Refused


def check(folder: Path, workers: int = 0) -> None:
    """Take what a run takes here, or a sweep by ``workers`` processes, and give it back.

    Raises
    ------
    Refused : the system does not give so much (says of what, and how to have more).
    OSError : ``folder`` cannot be written, or its disk is full.
    """
    files, threads = max(80, 40 + 16 * workers), min(16 + 32 * max(workers, 1), 512)

    def start(held: ExitStack) -> None:
        over = threading.Event()
        held.callback(over.set)
        for _ in range(threads):
            threading.Thread(target=over.wait, daemon=True).start()

    def open_all(held: ExitStack) -> None:
        for _ in range(files):
            held.callback(os.close, os.open(os.devnull, os.O_RDONLY))

    for what, option, take in (
        (f"{files} open files", "-n", open_all),
        ("512 MiB of address space", "-v", lambda held: held.enter_context(mmap.mmap(-1, 1 << 29))),
        (f"{threads} threads and processes", "-u` or `ulimit -v", start),
    ):
        try:
            with ExitStack() as held:
                take(held)
        except (OSError, RuntimeError, MemoryError) as error:
            raise Refused(
                f"this takes {what}, which the system does not give ({error}); raise its limit "
                f"(`ulimit {option}` shows it)" + ", or use fewer --workers." * (workers > 1)
            ) from error
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(16384))
        file.flush()
