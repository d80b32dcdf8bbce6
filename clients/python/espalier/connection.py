"""JSON-RPC 2.0 over a transport: requests with their answers, progress and cancellation.

One thread writes, one reads; callers only queue and wait, so that an interrupt in a caller never leaves half a message
on the wire. `_lock` guards the calls in flight and the reason why there can be no more; nothing blocks under it.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import threading
from dataclasses import dataclass
from typing import Any, Callable, Dict, Generic, Mapping, Optional, TypeVar

from . import errors, framing
from .errors import CallTimeout, EspalierError, ProtocolError, ServerError, ServerStopped
from .transport import EXIT_SECONDS, Transport

Result = TypeVar("Result")

log = logging.getLogger("espalier")
# `type` of window/logMessage.
LOG_LEVELS = {1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO, 4: logging.DEBUG}


@dataclass(frozen=True)
class Progress:
    """One step of a running call. `kind` is "begin", "report" or "end"; what a step does not tell is None."""

    kind: str
    title: Optional[str] = None
    message: Optional[str] = None
    percentage: Optional[int] = None


ProgressCallback = Callable[[Progress], None]


class Call(Generic[Result]):
    """A request on its way. Any thread may wait for it or cancel it."""

    def __init__(
        self,
        connection: Connection,
        identifier: int,
        method: str,
        decode: Callable[[Any], Result],
        progress: Optional[ProgressCallback],
    ):
        self.method = method
        self._connection = connection
        self._id = identifier
        self._decode = decode
        self._progress = progress
        self._answered = threading.Event()
        self._result: Optional[Result] = None
        self._error: Optional[EspalierError] = None

    def done(self) -> bool:
        return self._answered.is_set()

    def cancel(self) -> None:
        """Asks the server to give up; `result` then raises `Cancelled`, or returns if the answer was on its way."""
        if not self.done():
            self._connection.notify("$/cancelRequest", {"id": self._id})

    def result(self, timeout: Optional[float] = None) -> Result:
        """Waits for the answer. After `timeout` seconds, or on KeyboardInterrupt, the call is cancelled first."""
        self._connection.refuse_own_thread()
        try:
            if not self._answered.wait(timeout):
                self.cancel()
                raise CallTimeout(f"{self.method} was not answered within {timeout:g} s")
        except KeyboardInterrupt:
            self.cancel()
            raise
        if self._error is not None:
            # A fresh traceback each time: the exception may be raised in several threads.
            raise self._error.with_traceback(None)
        return self._result  # type: ignore[return-value]

    def _resolve(self, result: Any) -> None:
        try:
            self._result = self._decode(result)
        except ProtocolError as error:
            self._error = error
        self._answered.set()

    def _fail(self, error: EspalierError) -> None:
        self._error = error
        self._answered.set()

    def _report(self, value: Mapping[str, Any]) -> None:
        if self._progress is None:
            return
        step = Progress(value.get("kind", "report"), value.get("title"), value.get("message"), value.get("percentage"))
        try:
            self._progress(step)
        except Exception:
            log.exception("the progress callback of %s failed", self.method)


class Connection:
    def __init__(self, transport: Transport):
        self._transport = transport
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._identifiers = itertools.count(1)
        self._calls: Dict[int, Call[Any]] = {}
        self._ended: Optional[EspalierError] = None
        self._closing = False
        self._outbox: queue.SimpleQueue[Optional[bytes]] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="espalier-writer", daemon=True)
        self._reader = threading.Thread(target=self._read, name="espalier-reader", daemon=True)
        self._writer.start()
        self._reader.start()

    def start(
        self,
        method: str,
        params: Optional[Dict[str, Any]],
        decode: Callable[[Any], Result],
        progress: Optional[ProgressCallback] = None,
    ) -> Call[Result]:
        """Sends a request. With `progress`, its steps are asked for and reported on the reading thread."""
        with self._lock:
            identifier = next(self._identifiers)
            call = Call(self, identifier, method, decode, progress)
            if self._ended is not None:
                raise self._ended.with_traceback(None)
            self._calls[identifier] = call
        if progress is not None:
            params = {**(params or {}), "workDoneToken": identifier}
        try:
            self._send({"id": identifier, "method": method}, params)
        except BaseException:
            with self._lock:
                self._calls.pop(identifier, None)
            raise
        return call

    def notify(self, method: str, params: Optional[Dict[str, Any]] = None) -> None:
        self._send({"method": method}, params)

    def close(self) -> None:
        """Says goodbye as LSP asks, then ends the transport, whatever the server makes of it."""
        if os.getpid() != self._process:
            return  # a forked child does not own its parent's server
        if threading.current_thread() is self._reader:
            # From a progress callback, or collected there: the goodbye needs this thread to read its answer.
            threading.Thread(target=self.close, name="espalier-close").start()
            return
        with self._lock:
            first, self._closing = not self._closing, True
            alive = self._ended is None
        if first and alive:
            try:
                self.start("shutdown", None, lambda _: None).result(EXIT_SECONDS)
            except EspalierError as error:
                log.debug("shutdown: %s", error)
            self.notify("exit")
            self._outbox.put(None)
            self._transport.close()
        self._reader.join()
        self._writer.join()

    def refuse_own_thread(self) -> None:
        if threading.current_thread() is self._reader:
            raise RuntimeError("a progress callback cannot wait for the server: it runs on the thread that reads")

    def _send(self, envelope: Dict[str, Any], body: Optional[Dict[str, Any]], member: str = "params") -> None:
        message = {"jsonrpc": "2.0", **envelope}
        if body is not None:
            message[member] = body
        self._outbox.put(framing.encode(message))

    def _write(self) -> None:
        try:
            while True:
                message = self._outbox.get()
                if message is None:
                    break
                self._transport.send(message)
        except OSError as error:
            # The reader meets the end of the stream too, and tells the callers.
            log.debug("cannot write to the server: %s", error)
        self._transport.finish_sending()

    def _read(self) -> None:
        reason, broken = "it ended the stream", None
        with self._transport.reader as stream:
            try:
                while True:
                    message = framing.read(stream)
                    if message is None:
                        break
                    self._receive(message)
            except ProtocolError as error:
                broken = error
            except OSError as error:
                reason = str(error)
        self._outbox.put(None)
        # A stream that makes no sense is reported at once; an ended one with how its process ended.
        self._end(broken or self._transport.stopped(reason))
        self._transport.close()

    def _end(self, error: EspalierError) -> None:
        with self._lock:
            self._ended = ServerStopped("this client has been closed") if self._closing else error
            calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call._fail(self._ended)

    def _receive(self, message: Dict[str, Any]) -> None:
        method, identifier = message.get("method"), message.get("id")
        if isinstance(method, str):
            params = message.get("params")
            params = params if isinstance(params, dict) else {}
            if identifier is None:
                self._receive_notification(method, params)
            elif method == "window/workDoneProgress/create":
                self._outbox.put(framing.encode({"jsonrpc": "2.0", "id": identifier, "result": None}))
            else:
                error = {"code": errors.METHOD_NOT_FOUND, "message": f"{method} is not a method of this client"}
                self._send({"id": identifier}, error, "error")
        elif "error" in message and identifier is None:
            self._fail_all(message["error"])
        else:
            self._receive_answer(identifier, message)

    def _fail_all(self, error: Any) -> None:
        """The server could not read a message and cannot say which: no call that waits may wait forever."""
        log.error("the server could not read a message: %s", error)
        with self._lock:
            calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call._fail(ProtocolError(f"the server could not read a message, perhaps {call.method}: {error}"))

    def _receive_notification(self, method: str, params: Mapping[str, Any]) -> None:
        if method == "$/progress":
            with self._lock:
                call = self._calls.get(params.get("token"))  # type: ignore[arg-type]
            value = params.get("value")
            if call is not None and isinstance(value, dict):
                call._report(value)
        elif method == "window/logMessage":
            kind = params.get("type")
            log.log(LOG_LEVELS[kind] if kind in LOG_LEVELS else logging.INFO, "%s", params.get("message"))
        else:
            log.debug("ignored notification %s", method)

    def _receive_answer(self, identifier: Any, message: Dict[str, Any]) -> None:
        with self._lock:
            call = self._calls.pop(identifier, None) if isinstance(identifier, int) else None
        if call is None:
            log.debug("ignored an answer to %r", identifier)
        elif "error" in message:
            try:
                call._fail(ServerError.from_json(message["error"]))
            except (KeyError, TypeError):
                call._fail(ProtocolError(f"{call.method} was answered with a malformed error: {message['error']!r}"))
        else:
            call._resolve(message.get("result"))
