"""Which server a client talks to: where its program is found, and how the daemon that processes share is reached.

The daemon's own `--print-address` says where it listens: in $XDG_RUNTIME_DIR/espalier, under a name that depends on the
program, so that one which was rebuilt is never taken for another. A lock beside the socket settles which of several
daemons that were started at once stays; the others end, and their starters find the one that stayed.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time
from typing import Callable, List, Literal, Optional

from .errors import ServerNotFound
from .requests import PathLike
from .transport import ChildProcess, Command, NobodyListens, Transport, UnixSocket

Daemon = Literal["private", "shared", "running"]

EXECUTABLE = "espalierd"
ENVIRONMENT_VARIABLE = "ESPALIER_SERVER"
# Where somebody else (systemd) sees to a shared daemon: the socket that it listens on.
PIPE_VARIABLE = "ESPALIER_PIPE"
ADDRESS_SECONDS = 10.0
LISTEN_SECONDS = 30.0
# How a daemon ends that finds another one listening (EX_UNAVAILABLE).
ANOTHER_LISTENS = 69


def transport_factory(server: Optional[Command], pipe: Optional[PathLike], daemon: Daemon) -> Callable[[], Transport]:
    """What makes a connection to the server that is meant, each time it is called."""
    if pipe is not None:
        if server is not None or daemon != "private":
            raise ValueError("either a server to start or the pipe of a running one, not both")
        path = os.fspath(pipe)
        return lambda: UnixSocket(path)
    if daemon == "private":
        return lambda: ChildProcess(find_server(server))
    kept = os.environ.get(PIPE_VARIABLE)
    if kept and server is None and daemon in ("shared", "running"):
        return lambda: UnixSocket(kept)
    if daemon == "shared":
        return lambda: shared(find_server(server))
    if daemon == "running":
        return lambda: running(find_server(server))
    raise ValueError(f'daemon is "private", "shared" or "running", not {daemon!r}')


def find_server(explicit: Optional[Command] = None) -> List[str]:
    """The command that starts the server: as given, else `ESPALIER_SERVER`, beside this package, or on `PATH`."""
    if explicit is not None:
        return [os.fspath(explicit)] if isinstance(explicit, (str, os.PathLike)) else list(explicit)
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        return [named]
    beside = pathlib.Path(__file__).resolve().parent / EXECUTABLE
    if os.access(beside, os.X_OK):
        return [str(beside)]
    on_path = shutil.which(EXECUTABLE)
    if on_path:
        return [on_path]
    raise ServerNotFound(
        f"{EXECUTABLE} was found neither in the environment variable {ENVIRONMENT_VARIABLE}, nor beside this package "
        f"({beside}), nor on PATH; install the wheel that has it inside (`make wheel`), or build it (`make build`) and "
        f"set {ENVIRONMENT_VARIABLE} to its path"
    )


def address(command: List[str]) -> str:
    """The path of the socket on which this program listens for all processes of its user."""
    try:
        asked = subprocess.run([*command, "--print-address"], capture_output=True, text=True, timeout=ADDRESS_SECONDS)
    except OSError as error:
        raise ServerNotFound(f"cannot start {command[0]}: {error.strerror or error}") from error
    except subprocess.TimeoutExpired as error:
        raise ServerNotFound(f"{command[0]} did not tell its address within {ADDRESS_SECONDS:g} s") from error
    if asked.returncode != 0 or not asked.stdout.startswith("/"):
        raise ServerNotFound(
            f"{command[0]} did not tell its address (status {asked.returncode}): {asked.stderr.strip()}"
        )
    return asked.stdout.rstrip("\n")


def is_running(server: Optional[Command] = None) -> bool:
    """Whether the shared daemon runs."""
    kept = os.environ.get(PIPE_VARIABLE) if server is None else None
    try:
        UnixSocket(kept or address(find_server(server))).close()
    except NobodyListens:
        return False
    return True


def running(command: List[str]) -> Transport:
    """The shared daemon if it runs, else one of our own."""
    try:
        return UnixSocket(address(command))
    except NobodyListens:
        return ChildProcess(command)


def shared(command: List[str]) -> Transport:
    """The shared daemon, started where none runs."""
    path = address(command)
    try:
        return UnixSocket(path)
    except NobodyListens:
        return _started(command, path)


def _started(command: List[str], path: str) -> Transport:
    log = f"{path}.log"
    # The daemon looks whether the directory is safe; it opens its log before it makes one.
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    program = os.path.abspath(command[0]) if os.sep in command[0] else command[0]
    with tempfile.TemporaryFile() as stderr:
        # In a session of its own, so that no terminal takes it along; in "/", so that it keeps no directory in use.
        process = subprocess.Popen(
            [program, *command[1:], "--listen", "--log-file", log],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
            cwd="/",
        )
        # Reaps it, should it end before we do.
        threading.Thread(target=process.wait, name="espalier-daemon", daemon=True).start()
        deadline = time.monotonic() + LISTEN_SECONDS
        while True:
            try:
                return UnixSocket(path)
            except NobodyListens:
                if process.poll() not in (None, ANOTHER_LISTENS):
                    stderr.seek(0)
                    said = stderr.read().decode("utf-8", "replace").strip()
                    raise ServerNotFound(
                        f"{command[0]} --listen ended with status {process.returncode}: {said or f'see {log}'}"
                    ) from None
                if time.monotonic() > deadline:
                    raise ServerNotFound(f"no daemon listens at {path} after {LISTEN_SECONDS:g} s; see {log}") from None
            time.sleep(0.01)
