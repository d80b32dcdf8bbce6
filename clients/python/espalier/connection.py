"""JSON-RPC 2.0 over a transport: requests with their answers, progress and cancellation.

One thread writes, one reads; callers only queue and wait, so that an interrupt in a caller never leaves half a message
on the wire. `_lock` guards the calls in flight and the reason why there can be no more; nothing blocks under it. What
becomes of calls whose connection ends is their owner's affair (`on_end`).
"""

from __future__ import annotations

import contextvars
import itertools
import logging
import os
import queue
import threading
from dataclasses import dataclass
from typing import Any, Callable, Dict, Generic, List, Mapping, Optional, TypeVar, Union

from . import errors, framing
from .errors import CallTimeout, EspalierError, ProtocolError, ServerError, ServerStopped
from .transport import EXIT_SECONDS, Transport

Result = TypeVar("Result")

log = logging.getLogger("espalier")
# What tells the tokens of parts of answers from those of progress.
PART = "part-"
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
# A callback, True for a bar, False for nothing, None for what the client has been told.
ProgressOption = Union[ProgressCallback, bool, None]


@dataclass(frozen=True)
class Request(Generic[Result]):
    """What is to be asked, and how to read the answer.

    Whatever `writes` is never sent a second time: whether the first has done its work, nobody may be left to tell.
    """

    method: str
    params: Optional[Mapping[str, Any]]
    decode: Callable[[Any], Result]
    progress: ProgressOption = None
    timeout: Optional[float] = None
    writes: bool = False
    # A list among the answer's members that is told in parts, and who hears of each of its elements.
    streamed: Optional[str] = None
    on_part: Optional[Callable[[Any], None]] = None


class Call(Generic[Result]):
    """A request on its way. Any thread may wait for it or cancel it."""

    def __init__(self, request: Request[Result], progress: Optional[ProgressCallback] = None):
        self.request = request
        # Whether it was sent a second time, to the server after the one that died with it.
        self.repeated = False
        self._progress = progress
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._connection: Optional[Connection] = None
        self._id: Optional[int] = None
        self._cancelled = False
        self._in_progress = False
        self._answered = threading.Event()
        self._callbacks: List[Callable[[], None]] = []
        # What was told of the answer so far, and how much of it whoever listens has heard, of whichever server.
        self._parts: List[Any] = []
        self._heard = 0
        self._result: Optional[Result] = None
        self._error: Optional[EspalierError] = None

    def done(self) -> bool:
        return self._answered.is_set()

    def cancel(self) -> None:
        """Asks the server to give up; `result` then raises `Cancelled`, or returns if the answer was on its way."""
        with self._lock:
            self._cancelled = True
            connection, identifier = self._connection, self._id
        if connection is not None and not self.done():
            connection.notify("$/cancelRequest", {"id": identifier})

    def cancelled(self) -> bool:
        """Whether `cancel` has been called."""
        return self._cancelled

    def result(self, timeout: Optional[float] = None) -> Result:
        """Waits for the answer. After `timeout` seconds (else the request's own), or on KeyboardInterrupt, the call is
        cancelled first.
        """
        if self._connection is not None:
            self._connection.refuse_own_thread()
        timeout = self.request.timeout if timeout is None else timeout
        try:
            if not self._answered.wait(timeout):
                raise self.expire(timeout)
        except KeyboardInterrupt:
            self.cancel()
            raise
        return self.outcome()

    def expire(self, timeout: Optional[float]) -> CallTimeout:
        """Cancels a call that took too long; the exception that says so."""
        self.cancel()
        return CallTimeout(f"{self.request.method} was not answered within {timeout:g} s")

    def outcome(self) -> Result:
        """The result of a call that is done, or its exception."""
        if self._error is not None:
            # A fresh traceback each time: the exception may be raised in several threads.
            raise self._error.with_traceback(None)
        return self._result  # type: ignore[return-value]

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        """Calls back once the call is done: on a thread of the connection, or at once."""
        with self._lock:
            if not self.done():
                self._callbacks.append(callback)
                return
        callback()

    def bind(self, connection: Connection, identifier: int) -> None:
        with self._lock:
            self._connection, self._id = connection, identifier
        self._parts = []

    def add_part(self, value: Mapping[str, Any]) -> None:
        """Takes a part of the answer, which appends to those before."""
        found = value.get(self.request.streamed or "")
        self._parts += found if isinstance(found, list) else []
        fresh, self._heard = self._parts[self._heard :], max(self._heard, len(self._parts))
        for part in fresh:
            self._tell(self.request.on_part, part)

    def resolve(self, answer: Any) -> None:
        streamed = self.request.streamed
        if streamed is not None and self._parts and isinstance(answer, dict):
            answer = {**answer, streamed: self._parts + list(answer.get(streamed) or [])}
        try:
            self._finish(self.request.decode(answer), None)
        except ProtocolError as error:
            self._finish(None, error)

    def fail(self, error: EspalierError) -> None:
        self._finish(None, error)

    def _finish(self, result: Optional[Result], error: Optional[EspalierError]) -> None:
        if self._in_progress:
            # A server that died said nothing; whoever was told of a begin is told of an end.
            self.report({"kind": "end"})
        with self._lock:
            self._result, self._error = result, error
            self._answered.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def report(self, value: Mapping[str, Any]) -> None:
        step = Progress(value.get("kind", "report"), value.get("title"), value.get("message"), value.get("percentage"))
        self._in_progress = step.kind != "end"
        self._tell(self._progress, step)

    def _tell(self, callback: Optional[Callable[[Any], None]], what: Any) -> None:
        if callback is None:
            return
        try:
            # As in the caller's thread: a notebook finds the cell that a call belongs to in its context.
            self._context.run(callback, what)
        except Exception:
            log.exception("the progress callback of %s failed", self.request.method)

    @property
    def wants_progress(self) -> bool:
        return self._progress is not None


OnEnd = Callable[[List[Call[Any]], EspalierError], None]


def fail_all(calls: List[Call[Any]], error: EspalierError) -> None:
    """What becomes of calls where nobody has another idea."""
    for call in calls:
        call.fail(error)


class Connection:
    def __init__(self, transport: Transport, on_end: OnEnd = fail_all):
        self._transport = transport
        self._on_end = on_end
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._identifiers = itertools.count(1)
        self._calls: Dict[int, Call[Any]] = {}
        self._ended: Optional[EspalierError] = None
        self._closing = False
        self._leaving = False
        self._outbox: queue.SimpleQueue[Optional[bytes]] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="espalier-writer", daemon=True)
        self._reader = threading.Thread(target=self._read, name="espalier-reader", daemon=True)
        self._writer.start()
        self._reader.start()

    @property
    def usable(self) -> bool:
        """Whether a call may be submitted. A forked child has its parent's connection, and none of its threads."""
        ended = self._ended is not None or self._leaving
        return not ended and os.getpid() == self._process and self._transport.is_alive()

    def submit(self, call: Call[Any]) -> None:
        """Sends a call's request. Its progress is asked for if it wants any, and reported on the reading thread."""
        request = call.request
        with self._lock:
            if self._ended is not None:
                raise self._ended.with_traceback(None)
            identifier = next(self._identifiers)
            call.bind(self, identifier)
            self._calls[identifier] = call
        params = request.params
        if call.wants_progress:
            params = {**(params or {}), "workDoneToken": identifier}
        if request.on_part is not None:
            params = {**(params or {}), "partialResultToken": f"{PART}{identifier}"}
        try:
            self._send({"id": identifier, "method": request.method}, params)
        except BaseException:
            with self._lock:
                self._calls.pop(identifier, None)
            raise
        if call.cancelled():
            call.cancel()  # while it was on its way from one connection to the next

    def notify(self, method: str, params: Optional[Mapping[str, Any]] = None) -> None:
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
                goodbye: Call[Any] = Call(Request("shutdown", None, lambda _: None))
                self.submit(goodbye)
                goodbye.result(EXIT_SECONDS)
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

    def _send(self, envelope: Dict[str, Any], body: Optional[Mapping[str, Any]], member: str = "params") -> None:
        message: Dict[str, Any] = {"jsonrpc": "2.0", **envelope}
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
        if calls:
            (fail_all if self._closing else self._on_end)(calls, self._ended)

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
            self._fail_unread(message["error"])
        else:
            self._receive_answer(identifier, message)

    def _fail_unread(self, error: Any) -> None:
        """The server could not read a message and cannot say which: no call that waits may wait forever."""
        log.error("the server could not read a message: %s", error)
        with self._lock:
            calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call.fail(ProtocolError(f"the server could not read a message, perhaps {call.request.method}: {error}"))

    def _receive_notification(self, method: str, params: Mapping[str, Any]) -> None:
        if method == "$/progress":
            token, value = params.get("token"), params.get("value")
            of_part = token[len(PART) :] if isinstance(token, str) and token.startswith(PART) else None
            known = int(of_part) if of_part is not None and of_part.isdigit() else token
            with self._lock:
                call = self._calls.get(known) if isinstance(known, int) else None
            if call is not None and isinstance(value, dict):
                (call.report if of_part is None else call.add_part)(value)
        elif method == "window/logMessage":
            kind = params.get("type")
            log.log(LOG_LEVELS[kind] if kind in LOG_LEVELS else logging.INFO, "%s", params.get("message"))
        else:
            log.debug("ignored notification %s", method)

    def _receive_answer(self, identifier: Any, message: Dict[str, Any]) -> None:
        with self._lock:
            if self._is_farewell(message):
                # Somebody stops the server. What becomes of the call is settled with the others, when the stream ends.
                self._leaving = True
                return
            call = self._calls.pop(identifier, None) if isinstance(identifier, int) else None
        if call is None:
            log.debug("ignored an answer to %r", identifier)
        elif "error" in message:
            try:
                call.fail(ServerError.from_json(message["error"]))
            except (KeyError, TypeError):
                what = f"{call.request.method} was answered with a malformed error: {message['error']!r}"
                call.fail(ProtocolError(what))
        else:
            call.resolve(message.get("result"))

    def _is_farewell(self, message: Mapping[str, Any]) -> bool:
        error = message.get("error")
        return not self._closing and isinstance(error, dict) and error.get("code") == errors.SERVER_CANCELLED
