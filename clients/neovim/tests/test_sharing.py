"""Ten Python processes and Neovim, on one daemon with one copy of the model, at once."""

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import espalier
from test_neovim import HERE, MODELS, SERVER, neovim

PROCESSES = 10
MODEL = MODELS / "digits_resnet.onnx"
# Connects, says so, works when told to, and stays connected until told to stop.
WORK = """
import sys, espalier
with espalier.connect() as client:
    print("ready", flush=True)
    sys.stdin.readline()
    layers = client.inspect(sys.argv[1]).layers
    estimate = client.recommend(sys.argv[1], recommendation_ratio=0.3).estimate
    print(len(layers), estimate.compressed.parameters, flush=True)
    sys.stdin.readline()
"""


def await_file(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not come"
        time.sleep(0.01)


def await_daemon(address: str) -> None:
    await_file(Path(address))
    with socket.socket(socket.AF_UNIX) as probe:
        for _ in range(1000):
            if probe.connect_ex(address) == 0:
                return
            time.sleep(0.01)
    raise AssertionError("the daemon does not listen")


def test_ten_processes_and_neovim_share_one_daemon_and_one_model(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))  # where the default socket is
    monkeypatch.setenv("ESPALIER_SERVER", str(SERVER))
    address = subprocess.run([SERVER, "--print-address"], capture_output=True, text=True, check=True).stdout.strip()
    daemon = subprocess.Popen([SERVER, "--listen"], stderr=subprocess.DEVNULL)
    await_daemon(address)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, str(MODEL)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(PROCESSES)
    ]
    failures = []

    def edit():
        try:
            neovim(HERE / "sharing.lua", "shares_the_daemon", tmp_path)
        except BaseException as failure:
            failures.append(failure)

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * PROCESSES
        await_file(tmp_path / "neovim-ready")
        (tmp_path / "go").touch()
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        assert {worker.stdout.readline() for worker in workers} == {"14 96320\n"}
        await_file(tmp_path / "neovim-done")

        # All are still connected. There is one copy; those that asked while it was being loaded waited for it, which
        # is no hit, and all found it when they asked again.
        with espalier.connect() as client:
            (held,) = client.models()
        assert Path(held.path) == MODEL
        assert PROCESSES + 1 <= held.hits < 2 * (PROCESSES + 1)
    finally:
        (tmp_path / "stop").touch()
        for worker in workers:
            worker.communicate("stop\n", timeout=30)
        editor.join(30)
        daemon.terminate()
        daemon.wait(10)
    assert not failures, failures[0]
    assert [worker.returncode for worker in workers] == [0] * PROCESSES
    assert daemon.returncode == 0
