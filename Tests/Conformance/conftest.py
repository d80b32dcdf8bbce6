"""Sessions with the real daemon, as a process, over standard streams and over a Unix socket."""
import pathlib
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from wire_session import SocketDaemon, StdioDaemon  # noqa: E402

# A test run in the background of a shell inherits SIGINT as ignored, and so would the daemons it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def stdio():
    """Starts daemons over standard streams; whatever still runs at the end of the test is ended."""
    daemons = []

    def start(*arguments, **options):
        daemons.append(StdioDaemon(*arguments, **options))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.kill()


@pytest.fixture
def listening(tmp_path):
    """Starts daemons on a socket in a directory of the test's own."""
    tmp_path.chmod(0o700)
    daemons = []

    def start(*arguments, path=None, **options):
        daemons.append(SocketDaemon(path or tmp_path / "d.sock", *arguments, **options))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.kill()


class Sessions:
    """Opens sessions over one of the transports: a process each over standard streams, one process on a socket."""

    def __init__(self, transport, stdio, listening):
        self._transport, self._stdio, self._listening = transport, stdio, listening
        self._daemon = None
        self.opened = []

    def __call__(self, *arguments, initialize=True):
        if self._transport == "stdio":
            self._daemon = self._stdio(*arguments)
            session = self._daemon.session
        else:
            self._daemon = self._daemon or self._listening(*arguments)
            session = self._daemon.connect()
        self.opened.append(session)
        if initialize:
            session.initialize()
        return session

    @property
    def process(self):
        """The daemon of the latest session."""
        return self._daemon.process


@pytest.fixture(params=["stdio", "socket"])
def sessions(request, stdio, listening):
    """Each test runs over both transports, and every transcript is checked at its end."""
    opener = Sessions(request.param, stdio, listening)
    yield opener
    for session in opener.opened:
        session.check_transcript()


@pytest.fixture(scope="session")
def large_model(tmp_path_factory):
    """A network of 95 MB whose compression takes long enough to be interrupted."""
    from large_network import write_large_network
    path = tmp_path_factory.mktemp("large") / "large.onnx"
    write_large_network(path)
    return path
