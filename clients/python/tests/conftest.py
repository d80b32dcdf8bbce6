import contextlib
import json
import os
import sys
from pathlib import Path

import pytest

import espalier

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]


class FakeServer:
    """Clients of the scripted server, and what it received from them."""

    def __init__(self, log: Path):
        self.log = log
        self.clients = contextlib.ExitStack()

    def __call__(self, **script) -> espalier.Client:
        return self.clients.enter_context(espalier.connect(self.command(**script)))

    @staticmethod
    def command(**script) -> list:
        return [sys.executable, str(HERE / "fake_server.py"), json.dumps(script)]

    def received(self, method: str) -> list:
        messages = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [message for message in messages if message.get("method") == method]


@pytest.fixture
def fake(tmp_path, monkeypatch):
    server = FakeServer(tmp_path / "received.jsonl")
    monkeypatch.setenv("FAKE_SERVER_LOG", str(server.log))
    with server.clients:
        yield server


@pytest.fixture(scope="session")
def espalierd() -> str:
    """The real server, as `make build` leaves it."""
    path = Path(os.environ.get("ESPALIER_SERVER", REPOSITORY / ".build" / "release" / "espalierd"))
    assert path.is_file(), f"{path} is missing: run `make build`"
    return str(path)
