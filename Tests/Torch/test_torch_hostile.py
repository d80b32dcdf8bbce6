"""Acceptance: hostile and damaged PyTorch files get a typed error within a second, in little memory, and do nothing.

Every file goes through the real daemon, by inspect and compress alike; the daemon runs in a folder of its own, where
what a payload would make would show.
"""

import os
import pathlib
import subprocess
import time

import pytest

import espalier
import files
import hostile_corpus
from make_hostile import FILES

SECONDS = 1.0
MARGIN = 100 << 20
# The network is narrower than the usual minima.
REQUEST = {
    "recommendation_ratio": 0.5,
    "options": {"step_size": 1, "min_num_of_value": 1},
    "input_shapes": [{"shape": hostile_corpus.SHAPE}],
}
INPUTS = [{"shape": hostile_corpus.SHAPE}]


class Daemon:
    """A daemon on a socket, whose process and working directory are known."""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        socket = folder / "socket"
        self.process = subprocess.Popen(
            [files.server_path(), "--pipe", str(socket)], cwd=self.home, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                self.client = espalier.connect(pipe=socket, restart=False)
                return
            except espalier.ServerNotFound:
                assert time.monotonic() < deadline, "the daemon does not listen"
                time.sleep(0.02)

    def memory(self, field):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(field + ":")[1].split()[0]) << 10

    def forget_peak(self):
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def close(self):
        self.client.close()
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    daemons = []
    yield daemons
    for daemon in daemons:
        daemon.close()


@pytest.fixture
def daemon(held, tmp_path_factory):
    """One for all files; a new one only where a file ended it."""
    if held and held[0].process.poll() is not None:
        held.pop()
    if not held:
        held.append(Daemon(tmp_path_factory.mktemp("daemon")))
    return held[0]


def outcome(daemon, action):
    """The kind of the error that answered, None where there was none; and that it came in time, daemon alive."""
    began = time.monotonic()
    kind = None
    try:
        action()
    except espalier.ServerError as error:
        assert error.code in (-32803, -32602), f"an error of code {error.code}: {error}"
        assert error.message and (error.kind or error.code == -32602), f"an error without a kind: {error}"
        kind = error.kind or "InvalidParams"
    seconds = time.monotonic() - began
    daemon.client.ping(timeout=5)
    assert seconds < SECONDS, f"answered after {seconds:.2f} s"
    return kind


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_the_good_file_is_taken(daemon, tmp_path, suffix):
    """Or all that follows would prove nothing."""
    path = tmp_path / f"model{suffix}"
    path.write_bytes(hostile_corpus.good(suffix))
    assert daemon.client.inspect(path, input_shapes=INPUTS).parameters > 0
    output = tmp_path / f"output{suffix}"
    daemon.client.compress(path, output, **REQUEST)
    assert output.stat().st_size < path.stat().st_size


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file(daemon, tmp_path, name):
    file = FILES[name]
    path, output = tmp_path / f"model{file.suffix}", tmp_path / f"output{file.suffix}"
    content = file.content()
    path.write_bytes(content)
    daemon.forget_peak()
    kinds = {
        outcome(daemon, lambda: daemon.client.inspect(path, input_shapes=INPUTS, timeout=30)),
        outcome(
            daemon,
            lambda: daemon.client.compress(path, output, timeout=30, **REQUEST),
        ),
    }
    assert daemon.memory("VmHWM") < 2 * len(content) + MARGIN
    if file.must_fail:
        assert None not in kinds, "taken for a good file"
        assert all(kind.startswith(("model.", "resource.")) for kind in kinds), f"{kinds}"
    output.unlink(missing_ok=True)
    assert os.listdir(tmp_path) == [path.name], "something was left behind"
    assert os.listdir(daemon.home) == [], "something was executed"
    assert not os.path.exists(hostile_corpus.MARK)
    daemon.client.release()


def test_the_corpus_is_large_and_reaches_every_layer():
    assert sum(file.must_fail for file in FILES.values()) >= 200
    starts = (
        "zip_",
        "pickle_",
        "pickle_code_",
        "pickle_imports_",
        "pickle_weight_",
        "json_",
        "json_weights_",
        "samples_",
    )
    for start in starts:
        assert sum(name.startswith(start) for name in FILES) > 1, start
