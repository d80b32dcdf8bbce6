"""The client that waits: the server's methods as typed calls.

    with espalier.connect() as client:
        recommendation = client.recommend("model.onnx", recommendation_ratio=0.3)
        client.compress("model.onnx", "smaller.onnx", layers=recommendation.available_layers)

Each method waits for its answer; its `start_` twin returns the `Call` at once, to be waited for or cancelled. All of it
may be used from any number of threads. `requests` says what there is to ask, `session` what happens when a server dies.
"""

from __future__ import annotations

import inspect
import weakref
from typing import Any, Callable, Concatenate, Dict, Mapping, Optional, ParamSpec, TypeVar

from . import requests
from .connection import Call, ProgressOption, Request
from .requests import PathLike
from .servers import Daemon, transport_factory
from .session import START_SECONDS, Session
from .transport import Command

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Method = TypeVar("Method", bound=Callable[..., Any])


def dressed(method: Method, build: Callable[..., Any]) -> Method:
    """`method`, known by the name, description and parameters of `build` to those who ask at run time."""
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    method.__name__ = method.__qualname__ = build.__name__
    method.__doc__ = build.__doc__
    signature = inspect.Signature([own, *inspect.signature(build).parameters.values()])
    method.__signature__ = signature  # type: ignore[attr-defined]
    return method


def _waits(build: Callable[Parameters, Request[Result]]) -> Callable[Concatenate[Client, Parameters], Result]:
    def method(self: Client, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return self._session.start(build(*args, **kwargs)).result()

    return dressed(method, build)


def _starts(build: Callable[Parameters, Request[Result]]) -> Callable[Concatenate[Client, Parameters], Call[Result]]:
    def method(self: Client, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Call[Result]:
        return self._session.start(build(*args, **kwargs))

    return dressed(method, build)


class Client:
    """One session with a server, which is started where it is needed and again when it died.

    `server` is the program or a command with arguments: by default the environment's ESPALIER_SERVER, else `espalierd`
    beside this package or on PATH. `daemon` says whose it is:

    - "private": a child process of this client's own, which ends with it
    - "shared": the one that all processes of this user share, started where none runs
    - "running": that one if it runs, else a private one

    With `pipe`, the running server that listens on that Unix socket. A shared server goes on when a client ends.

    `progress`: what calls show that say nothing of it: True, bars; False, nothing; a callable gets each `Progress`; by
    default bars if standard error is a terminal, or in a notebook. Without `restart` a client ends with its server.
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
            progress=progress,
        )
        # Also at interpreter exit; the session must not know this object, or it would never be collected.
        weakref.finalize(self, self._session.close)
        self._session.open()

    @property
    def server_info(self) -> Dict[str, Any]:
        """Name and version of the server."""
        return self._session.server_info

    @property
    def capabilities(self) -> Dict[str, Any]:
        """Formats, methods, options and limits, by name."""
        return self._session.capabilities

    def close(self) -> None:
        """Ends the session, and with it a server that was started for it. Calls still running fail."""
        self._session.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    inspect = _waits(requests.inspect)
    recommend = _waits(requests.recommend)
    sensitivity = _waits(requests.sensitivity)
    compress = _waits(requests.compress)
    verify = _waits(requests.verify)
    models = _waits(requests.models)
    release = _waits(requests.release)
    ping = _waits(requests.ping)
    stop_server = _waits(requests.stop_server)

    start_inspect = _starts(requests.inspect)
    start_recommend = _starts(requests.recommend)
    start_sensitivity = _starts(requests.sensitivity)
    start_compress = _starts(requests.compress)
    start_verify = _starts(requests.verify)


def connect(
    server: Optional[Command] = None,
    *,
    pipe: Optional[PathLike] = None,
    daemon: Optional[Daemon] = None,
    initialization_options: Optional[Mapping[str, Any]] = None,
    start_timeout: float = START_SECONDS,
    restart: bool = True,
    progress: ProgressOption = None,
) -> Client:
    """A `Client`, which see, of the daemon that all processes of this user share.

    For `with espalier.connect() as client:`. The daemon is started where none runs, and ends when it has had no clients
    for ten minutes. With a `server` of one's own choice that one is started, for this client alone; with a `pipe` the
    server there is used.
    """
    if daemon is None:
        daemon = "shared" if server is None and pipe is None else "private"
    return Client(
        server,
        pipe=pipe,
        daemon=daemon,
        initialization_options=initialization_options,
        start_timeout=start_timeout,
        restart=restart,
        progress=progress,
    )
