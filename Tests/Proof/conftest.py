"""One daemon for the whole run, reached through the Python client."""

import daemon
import espalier
import pytest


@pytest.fixture(scope="session")
def client():
    with espalier.connect(daemon.server_path()) as connected:
        yield connected


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Models come and go under few names here, so that a long run leaves little behind."""
    return tmp_path_factory.mktemp("proof")
