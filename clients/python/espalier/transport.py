"""Where the bytes come from and go to: a server started as a child process, or a Unix socket.

Both are one thing to the connection above: two byte streams and a way to end. A child's stderr is drained all the
time (a full pipe would stall the server) into the logger `espalier.server`, and its last lines are kept for the
exception that reports its death.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import socket
import subprocess
import threading
from typing import IO, Deque, Optional, Sequence, Union

from .errors import ServerNotFound, ServerStopped

Command = Union[str, "os.PathLike[str]", Sequence[str]]

STDERR_LINES_KEPT = 20
# After the end of its input a server has this long to exit, then as long again after SIGTERM.
EXIT_SECONDS = 5.0

log = logging.getLogger("espalier.server")


class Transport:
    """`reader` belongs to the connection's reading thread, `send` to its writing one."""

    reader: IO[bytes]
    # Told to a server that can watch whether its client lives.
    process_id: Optional[int] = None

    def send(self, message: bytes) -> None:
        raise NotImplementedError

    def is_alive(self) -> bool:
        """Whether the other side is there, as far as can be told without asking it."""
        return True

    def finish_sending(self) -> None:
        """Tells the other side that nothing more will come; the last thing that the writing thread does."""
        raise NotImplementedError

    def close(self) -> None:
        """Waits until the other side has let go, by force after a while. Any thread may call it, repeatedly."""
        raise NotImplementedError

    def stopped(self, reason: str) -> ServerStopped:
        """Closes a stream that has ended by itself; the exception that says how."""
        raise NotImplementedError


class ChildProcess(Transport):
    """A server of our own, on its standard streams, in its own session so that the terminal's ^C reaches only us."""

    def __init__(self, command: Sequence[str]):
        try:
            self._process = subprocess.Popen(
                [*command, "--stdio"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ServerNotFound(f"cannot start {command[0]}: {error.strerror or error}") from error
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._name = command[0]
        self.reader = self._process.stdout
        self._writer = self._process.stdin
        self.process_id = os.getpid()
        self._last_lines: Deque[str] = collections.deque(maxlen=STDERR_LINES_KEPT)
        self._drain = threading.Thread(
            target=self._drain_stderr, args=(self._process.stderr,), name="espalier-stderr", daemon=True
        )
        self._drain.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def _drain_stderr(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                text = line.decode("utf-8", "replace").rstrip()
                self._last_lines.append(text)
                log.info("%s", text)

    def send(self, message: bytes) -> None:
        self._writer.write(message)
        self._writer.flush()

    def finish_sending(self) -> None:
        with contextlib.suppress(OSError):  # what is still buffered has nobody left to read it
            self._writer.close()

    def close(self) -> None:
        self._wait()

    def stopped(self, reason: str) -> ServerStopped:
        status = self._wait()
        outcome = f"was ended by signal {-status}" if status < 0 else f"exited with status {status}"
        return ServerStopped(f"{self._name} {outcome}: {reason}", status, list(self._last_lines))

    def _wait(self) -> int:
        """Waits for the process to exit, asking ever more firmly, and reaps it; its exit status."""
        for ask in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(EXIT_SECONDS)
                break
            except subprocess.TimeoutExpired:
                ask()
        status = self._process.wait()
        self._drain.join(EXIT_SECONDS)
        return status


class NobodyListens(ServerNotFound):
    """There is no socket at the path, or one that a daemon left behind."""


class UnixSocket(Transport):
    """A shared server. The socket must belong to us: another user's could answer anything."""

    def __init__(self, path: str):
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            owner = os.stat(path).st_uid
            if owner != os.geteuid():
                raise ServerNotFound(f"the socket {path} belongs to user {owner}, not {os.geteuid()}: not connecting")
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            nobody = isinstance(error, (FileNotFoundError, ConnectionRefusedError))
            raise (NobodyListens if nobody else ServerNotFound)(
                f"no server listens at {path} ({error.strerror or error}); start one: espalierd --pipe {path}"
            ) from error
        except ServerNotFound:
            self._socket.close()
            raise
        self.reader = self._socket.makefile("rb")

    def send(self, message: bytes) -> None:
        self._socket.sendall(message)

    def finish_sending(self) -> None:
        with contextlib.suppress(OSError):  # the other side was faster
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        # Both threads leave their system calls; the descriptor goes when the reader has let go of it.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def stopped(self, reason: str) -> ServerStopped:
        self.close()
        return ServerStopped(f"the server at {self._path} closed the connection: {reason}")
