"""A session that outlives its server: connections made when they are needed, and again when one was lost.

Both clients are faces of this. What may be repeated is, once and by itself: calls that were in flight when the server
died are asked again of the next one, one after the other, so that a request which is a server's death takes no other
along. What writes files is not: its caller is told, and looks. A server that dies again and again is given up.
"""

from __future__ import annotations

import collections
import sys
import threading
import time
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, TypeVar

from . import progress
from .connection import Call, Connection, ProgressCallback, ProgressOption, Request
from .errors import EspalierError, ProtocolError, ServerStopped
from .requests import absolute
from .transport import Transport

Result = TypeVar("Result")

VERSION = "0.1.0"
PROTOCOL_VERSION = "1.0"
START_SECONDS = 30.0
# Servers lost in so many seconds before no new one is tried, as editors do with theirs.
MOST_RESTARTS = 5
RESTART_SECONDS = 180.0


class Session:
    """`server_info` and `capabilities` are those that the present server named."""

    def __init__(
        self,
        transport: Callable[[], Transport],
        *,
        initialization_options: Optional[Mapping[str, Any]] = None,
        start_timeout: float = START_SECONDS,
        restart: bool = True,
        progress: ProgressOption = None,
    ):
        self._transport = transport
        self._initialization_options = initialization_options
        self._start_timeout = start_timeout
        self._restart = restart
        self._progress = progress
        # Held while a connection is made: who comes meanwhile waits for that one.
        self._lock = threading.Lock()
        self._connection: Optional[Connection] = None
        self._closed = False
        self._losses: Deque[float] = collections.deque(maxlen=MOST_RESTARTS)
        self.server_info: Dict[str, Any] = {}
        self.capabilities: Dict[str, Any] = {}

    def open(self) -> None:
        """Makes sure that there is a server; raises why there can be none."""
        self._current()

    def close(self) -> None:
        """Ends the session, and with it a server that was started for it. Calls still running fail."""
        with self._lock:
            self._closed = True
            connection = self._connection
        if connection is not None:
            connection.close()

    def start(self, request: Request[Result], progress: Optional[ProgressCallback] = None) -> Call[Result]:
        """Sends a request, to a new server if the last one is gone. `progress` takes the place of what it asks for."""
        call = Call(request, progress or self._callback(request.progress))
        self._submit(call)
        return call

    def _submit(self, call: Call[Any]) -> None:
        connection = self._current()
        try:
            connection.submit(call)
        except ServerStopped:
            if not self._restart:
                raise
            # It died just now, with nothing of this call.
            self._current().submit(call)

    def _callback(self, wanted: ProgressOption) -> Optional[ProgressCallback]:
        wanted = self._progress if wanted is None else wanted
        if callable(wanted):
            return wanted
        if wanted is False or (wanted is None and not progress.is_watched()):
            return None
        return progress.Bar()

    def _current(self) -> Connection:
        with self._lock:
            if self._closed:
                raise ServerStopped("this client has been closed")
            if self._connection is not None:
                if self._connection.usable or not self._restart:
                    return self._connection
                now = time.monotonic()
                self._losses.append(now)
                if len(self._losses) == MOST_RESTARTS and now - self._losses[0] < RESTART_SECONDS:
                    raise ServerStopped(
                        f"the server stopped {MOST_RESTARTS} times within {RESTART_SECONDS:g} s and is not started "
                        "again by this client; make a new one to go on"
                    )
            self._connection = self._connect()
            return self._connection

    def _connect(self) -> Connection:
        transport = self._transport()
        connection = Connection(transport, self._lost)
        # The packages of this Python may hold ONNX Runtime, which the server needs to run models.
        options = {"python": absolute(sys.prefix), **(self._initialization_options or {})}
        params = {
            "processId": transport.process_id,
            "clientInfo": {"name": "espalier-python", "version": VERSION},
            "capabilities": {},
            "protocolVersion": PROTOCOL_VERSION,
            "initializationOptions": options,
        }
        hello = Call(Request("initialize", params, _object, writes=True))
        try:
            connection.submit(hello)
            answer = hello.result(self._start_timeout)
            connection.notify("initialized", {})
        except BaseException:
            connection.close()
            raise
        self.server_info = answer.get("serverInfo", {})
        self.capabilities = answer.get("capabilities", {})
        return connection

    def _lost(self, calls: List[Call[Any]], error: EspalierError) -> None:
        """Told by a connection that has ended which calls it leaves."""
        again: List[Call[Any]] = []
        for call in calls:
            if not isinstance(error, ServerStopped) or not self._restart or self._closed or call.cancelled():
                call.fail(error)
            elif call.request.writes:
                call.fail(_not_repeated(call, error) if call.request.method == "compress" else error)
            elif call.repeated:
                call.fail(error)
            else:
                again.append(call)
        if again:
            threading.Thread(target=self._repeat, args=(again,), name="espalier-repeat", daemon=True).start()

    def _repeat(self, calls: List[Call[Any]]) -> None:
        for call in calls:
            call.repeated = True
            try:
                self._submit(call)
            except EspalierError as error:
                call.fail(error)
            done = threading.Event()
            call.add_done_callback(done.set)
            done.wait()


def _not_repeated(call: Call[Any], error: ServerStopped) -> ServerStopped:
    path = (call.request.params or {}).get("output_path")
    reason = (
        f"{error.reason}\n  not asked again, since it may be done: either the whole file is at {path} now, or nothing"
    )
    return ServerStopped(reason, error.exit_status, error.stderr)


def _object(answer: Any) -> Dict[str, Any]:
    if not isinstance(answer, dict):
        raise ProtocolError(f"expected an object, found {answer!r:.60}")
    return answer
