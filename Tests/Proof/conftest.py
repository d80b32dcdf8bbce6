"""One daemon for the whole run, reached through the Python client; found by ESPALIER_SERVER or in the build folder."""
import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "clients" / "python"))
sys.path.insert(0, str(ROOT / "Tests" / "Zoo"))

import espalier  # noqa: E402


def server_path():
    return os.environ.get("ESPALIER_SERVER") or str(ROOT / ".build" / "release" / "espalierd")


@pytest.fixture(scope="session")
def client():
    with espalier.connect(server_path()) as connected:
        yield connected


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Models come and go under few names here, so that a long run leaves little behind."""
    return tmp_path_factory.mktemp("proof")
