"""A sweep on a Dask cluster: one daemon for each worker process, kept for as long as the worker lives.

Dask moves the points of a worker that dies to others. A point that takes one worker after the other along is given up
by Dask, and kept as failed, like all others that fail.
"""

from __future__ import annotations

import importlib
import threading
from typing import Any, Iterator, List, Optional, Sequence, Tuple

from .client import Client
from .sweeps import SweepPoint, Task

_lock = threading.Lock()
_daemon: Optional[Client] = None


def daemon() -> Client:
    """This worker's daemon, started with its first point. It ends with the process, however that ends."""
    global _daemon
    with _lock:
        if _daemon is None:
            _daemon = Client()
        return _daemon


def work(task: Task) -> SweepPoint:
    return task.run(daemon())


def run(cluster: Any, tasks: Sequence[Task]) -> Iterator[Tuple[int, SweepPoint]]:
    """The points as they come in, with their numbers. `cluster` is a Dask client, cluster or scheduler's address."""
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise ImportError("a sweep on a cluster needs dask.distributed: pip install 'espalier[dask]'") from error
    if isinstance(cluster, distributed.Client):
        yield from _run(distributed, cluster, tasks)
        return
    with distributed.Client(cluster) as client:
        yield from _run(distributed, client, tasks)


def _run(distributed: Any, client: Any, tasks: Sequence[Task]) -> Iterator[Tuple[int, SweepPoint]]:
    # Not pure: the same point twice is computed twice, since files are its effect.
    futures: List[Any] = [client.submit(work, task, pure=False) for task in tasks]
    numbers = {future.key: index for index, future in enumerate(futures)}
    try:
        for future in distributed.as_completed(futures):
            index = numbers[future.key]
            if future.status == "finished":
                yield index, future.result()
            else:
                error = future.exception()
                kind = type(error).__name__
                yield index, SweepPoint(tasks[index].parameters, error=f"{kind}: {error}", error_kind=kind)
    finally:
        client.cancel([future for future in futures if not future.done()])
