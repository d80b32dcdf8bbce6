"""One daemon for the whole run, reached through the Python client; a new one only where a test ended it."""

import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
for _folder in ("clients/python", "Tests/Zoo", "Tests/Proof"):
    if str(ROOT / _folder) not in sys.path:
        sys.path.insert(0, str(ROOT / _folder))

import daemon
import espalier
import watched


@pytest.fixture(scope="session")
def running_client():
    held = []
    yield held
    for connected in held:
        connected.close()


@pytest.fixture
def client(running_client):
    """A client whose daemon answers: a crash fails the test that caused it and no other."""
    try:
        if running_client:
            running_client[0].ping(timeout=5)
    except espalier.EspalierError:
        running_client.pop().close()
    if not running_client:
        running_client.append(espalier.connect(daemon.server_path(), restart=False))
    return running_client[0]


@pytest.fixture(scope="module")
def running_watched():
    held = []
    yield held
    for running in held:
        running.close()


@pytest.fixture
def watched_daemon(running_watched, tmp_path_factory):
    """One for all files of a module; a new one only where a file ended it."""
    if running_watched and running_watched[0].process.poll() is not None:
        running_watched.pop()
    if not running_watched:
        running_watched.append(watched.WatchedDaemon(tmp_path_factory.mktemp("daemon")))
    return running_watched[0]
