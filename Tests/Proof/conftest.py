"""One daemon for the whole run, reached through the Python client; a new one only where a test ended it."""

import daemon
import espalier
import pytest


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


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Models come and go under few names here, so that a long run leaves little behind."""
    return tmp_path_factory.mktemp("proof")
