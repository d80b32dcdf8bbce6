"""The client for asyncio: the same session and requests, awaited instead of waited for.

    async with espalier.AsyncClient() as client:
        reports = await asyncio.gather(*(client.inspect(path) for path in paths))

Answers arrive on the session's reading thread and are handed to the event loop; a cancelled task cancels its request.
Callbacks for progress and parts of results run on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import weakref
from typing import Any, Callable, Concatenate, Coroutine, Dict, Mapping, Optional, ParamSpec, TypeVar

from . import requests
from .client import dressed
from .connection import Progress, ProgressCallback, ProgressOption, Request
from .requests import PathLike
from .servers import Daemon, transport_factory
from .session import START_SECONDS, Session
from .transport import Command

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _awaits(
    build: Callable[Parameters, Request[Result]],
) -> Callable[Concatenate[AsyncClient, Parameters], Coroutine[Any, Any, Result]]:
    async def method(self: AsyncClient, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return await self._ask(build(*args, **kwargs))

    return dressed(method, build)


class AsyncClient:
    """One session with a server. The arguments are those of `Client`.

    The server is started by the first request, by `open()`, or by `async with`.
    """

    def __init__(
        self,
        server: Optional[Command] = None,
        *,
        pipe: Optional[PathLike] = None,
        daemon: Daemon = "private",
        initialization_options: Optional[Mapping[str, Any]] = None,
        start_timeout: float = START_SECONDS,
        restart: bool = True,
        progress: ProgressOption = None,
    ):
        self._session = Session(
            transport_factory(server, pipe, daemon),
            initialization_options=initialization_options,
            start_timeout=start_timeout,
            restart=restart,
            progress=progress if not callable(progress) else None,
        )
        self._progress = progress if callable(progress) else None
        # As of `Client`: a forgotten one takes its server along.
        weakref.finalize(self, self._session.close)

    @property
    def server_info(self) -> Dict[str, Any]:
        """Name and version of the server; empty until there is one."""
        return self._session.server_info

    @property
    def capabilities(self) -> Dict[str, Any]:
        """Formats, methods, options and limits, by name; empty until there is a server."""
        return self._session.capabilities

    async def open(self) -> None:
        """Makes sure that there is a server; raises why there can be none."""
        await asyncio.to_thread(self._session.open)

    async def close(self) -> None:
        """Ends the session, and with it a server that was started for it. Requests still running fail."""
        await asyncio.to_thread(self._session.close)

    async def __aenter__(self) -> AsyncClient:
        await self.open()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _ask(self, request: Request[Result]) -> Result:
        loop = asyncio.get_running_loop()
        if request.on_part is not None:
            listener = request.on_part

            def hear(part: Any) -> None:
                loop.call_soon_threadsafe(functools.partial(listener, part))

            request = dataclasses.replace(request, on_part=hear)
        # Starting may mean to start a server, or to wait for one that another task starts.
        call = await asyncio.to_thread(self._session.start, request, self._on_loop(loop, request.progress))
        done = asyncio.Event()

        def settle() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(done.set)

        call.add_done_callback(settle)
        try:
            await asyncio.wait_for(done.wait(), request.timeout)
        except asyncio.TimeoutError:
            raise call.expire(request.timeout) from None
        except asyncio.CancelledError:
            call.cancel()
            raise
        return call.outcome()

    def _on_loop(self, loop: asyncio.AbstractEventLoop, wanted: ProgressOption) -> Optional[ProgressCallback]:
        callback = self._progress if wanted is None else wanted
        if not callable(callback):
            return None
        chosen: ProgressCallback = callback

        def report(step: Progress) -> None:
            loop.call_soon_threadsafe(chosen, step)

        return report

    inspect = _awaits(requests.inspect)
    recommend = _awaits(requests.recommend)
    sensitivity = _awaits(requests.sensitivity)
    compress = _awaits(requests.compress)
    verify = _awaits(requests.verify)
    models = _awaits(requests.models)
    release = _awaits(requests.release)
    ping = _awaits(requests.ping)
    stop_server = _awaits(requests.stop_server)
