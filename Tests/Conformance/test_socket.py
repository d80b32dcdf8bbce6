"""The daemon that listens: who may connect, who listens, and how it ends (rows S1 and S3 to S5)."""
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

from wire_session import MODELS, SocketDaemon, server_path

MODEL = str(MODELS / "digits_resnet.onnx")


def refused(path, *arguments):
    run = subprocess.run(
        [server_path(), "--pipe", str(path), *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    return run.returncode, run.stderr.decode()


def test_clients_share_what_is_warm(listening):
    daemon = listening()
    first, second = daemon.connect(), daemon.connect()
    first.initialize()
    second.initialize()
    assert first.result("inspect", {"model": MODEL})["cached"] is False
    assert second.result("inspect", {"model": MODEL})["cached"] is True
    assert first.result("shutdown") is None
    first.notify("exit")
    first.wait_for_end()
    assert second.result("ping") is None
    assert daemon.process.poll() is None


def test_stopping(listening):
    daemon = listening()
    session, other = daemon.connect(), daemon.connect()
    session.initialize()
    other.initialize()
    assert session.result("daemon/stop") is None
    assert daemon.process.wait(6) == 0
    assert not daemon.path.exists()
    other.wait_for_end()


def test_a_killed_daemon_is_replaced(listening, tmp_path):  # S1
    daemon = listening()
    clients = [daemon.connect() for _ in range(8)]
    for client in clients:
        client.initialize()
    daemon.process.kill()
    daemon.process.wait()
    for client in clients:
        client.wait_for_end()
    assert daemon.path.exists(), "the kill left its socket"
    assert listening().connect().initialize()


def test_of_many_starters_one_listens(tmp_path):  # S3
    tmp_path.chmod(0o700)
    starters = [SocketDaemon(tmp_path / "d.sock") for _ in range(25)]
    try:
        deadline = time.monotonic() + 20
        while sum(s.process.poll() is None for s in starters) > 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        running = [s for s in starters if s.process.poll() is None]
        assert len(running) == 1
        assert {s.process.returncode for s in starters if s not in running} == {69}
        assert running[0].connect().initialize()
    finally:
        for starter in starters:
            starter.kill()


def test_unsafe_places_are_refused(tmp_path):  # S4
    tmp_path.chmod(0o700)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    for path, reason in ((tmp_path / "open" / "s", "other users can write"), (tmp_path / "link" / "s", "symbolic link"),
                         (tmp_path / ("s" * 200), "shorter"), (tmp_path / "missing" / "s", "cannot look"),
                         (tmp_path / "file", "no socket")):
        status, message = refused(path)
        assert status == 78 and reason in message, message


def test_the_default_address(tmp_path):
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}

    def address(*arguments):
        return subprocess.run([server_path(), "--print-address", *arguments], env=environment, capture_output=True,
                              text=True, check=True).stdout.strip()

    assert address() == address()
    assert address() != address("--cache-bytes", "1000000")
    assert pathlib.Path(address()).parent == tmp_path / "espalier"
    process = subprocess.Popen([server_path(), "--listen"], env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 5
        while not os.path.exists(address()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert os.stat(address()).st_mode & 0o777 == 0o600
        assert (tmp_path / "espalier").stat().st_mode & 0o777 == 0o700
    finally:
        process.terminate()
        assert process.wait(6) == 0


def test_a_daemon_that_nobody_uses_ends(listening):
    daemon = listening("--idle-minutes", 0.005)
    session = daemon.connect()
    session.initialize()
    time.sleep(0.6)
    assert daemon.process.poll() is None, "it has a client"
    session.close_input()
    assert daemon.process.wait(5) == 0
    assert not daemon.path.exists()


def activated(listener, *arguments, count=1):
    """A daemon that is started as systemd does: the socket is descriptor 3, and the environment says whose it is."""
    script = f'exec 3<&{listener.fileno()}; LISTEN_PID=$$ LISTEN_FDS={count} exec "$0" --listen "$@"'
    return subprocess.Popen(
        ["bash", "-c", script, server_path(), *map(str, arguments)], pass_fds=[listener.fileno()],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)


def ask(path):
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(10)
    peer.connect(str(path))
    peer.sendall(b'Content-Length: 40\r\n\r\n{"jsonrpc":"2.0","id":1,"method":"ping"}')
    return peer


def test_a_socket_that_is_passed_on_outlives_the_daemon(tmp_path):
    path = tmp_path / "activated.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        for _ in range(2):
            early = ask(path)  # before there is a daemon, which systemd then starts
            with activated(listener, "--idle-minutes", 0.005) as process:
                assert b"-32002" in early.recv(4096)
                early.close()
                assert process.wait(10) == 0
            assert path.exists()
        waiting = ask(path)
        with activated(listener) as process:
            assert b"-32002" in waiting.recv(4096)
            process.terminate()
            assert process.wait(10) == 0
        assert path.exists()
        # Nothing was shut down: who connects now waits for the next daemon.
        ask(path).close()


def test_only_one_listening_socket_is_taken(tmp_path):
    with socket.socket(socket.AF_UNIX) as silent, socket.socket() as network:
        network.listen()
        for passed, count, reason in (silent, 1, "no Unix socket"), (network, 1, "no Unix socket"), (silent, 2, "2 sockets"):
            with activated(passed, count=count) as process:
                assert process.wait(10) == 78 and reason in process.stderr.read().decode()


def test_comings_and_goings_leave_nothing(listening):  # S5
    daemon = listening()
    daemon.connect().initialize()
    before = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    for _ in range(300):
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(daemon.path))
        peer.close()
    deadline = time.monotonic() + 5
    while len(os.listdir(f"/proc/{daemon.process.pid}/fd")) > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(os.listdir(f"/proc/{daemon.process.pid}/fd")) <= before
    assert daemon.connect().initialize()


def test_too_many_sessions_are_turned_away(listening):
    daemon = listening()
    clients = [daemon.connect() for _ in range(64)]
    for client in clients:
        client.initialize()
    late = daemon.connect()
    assert late.wait_for(lambda m: m["id"] is None)["error"]["data"] == {"kind": "busy", "retryable": True}
    late.wait_for_end()
    clients[0].close()
    clients[0].close_input()
    deadline = time.monotonic() + 5
    while True:
        again = daemon.connect()
        try:
            assert again.initialize()
            break
        except AssertionError:
            assert time.monotonic() < deadline


def test_running_out_of_descriptors_is_survived(tmp_path):  # S5
    tmp_path.chmod(0o700)
    path = tmp_path / "d.sock"
    process = subprocess.Popen(
        ["sh", "-c", 'ulimit -n 20; exec "$0" --pipe "$1"', server_path(), str(path)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 5
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        peers = []
        for _ in range(40):
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(2)
            peer.connect(str(path))
            peers.append(peer)
        time.sleep(0.2)
        for peer in peers:
            peer.close()
        time.sleep(0.2)
        survivor = socket.socket(socket.AF_UNIX)
        survivor.settimeout(5)
        survivor.connect(str(path))
        survivor.sendall(b'Content-Length: 40\r\n\r\n{"jsonrpc":"2.0","id":1,"method":"ping"}')
        assert b"-32002" in survivor.recv(4096)
    finally:
        process.terminate()
        assert process.wait(6) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_is_turned_away(listening, tmp_path):  # S4
    daemon = listening()
    daemon.connect().initialize()
    # The directory keeps others out; opened for the test, the daemon itself has to.
    for folder in [tmp_path, *tmp_path.parents]:
        if str(folder).startswith("/tmp/") or folder == pathlib.Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    daemon.path.chmod(0o666)
    script = ("import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
              "s.settimeout(5); print(s.recv(100))")
    run = subprocess.run([os.sys.executable, "-c", script, str(daemon.path)], capture_output=True, text=True)
    assert run.stdout.strip() == "b''" or "Error" in run.stderr, run
    assert "Content-Length" not in run.stdout


def test_sigterm_ends_every_session(listening):
    daemon = listening()
    sessions = [daemon.connect() for _ in range(3)]
    for session in sessions:
        session.initialize()
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(6) == 0
    for session in sessions:
        session.wait_for_end()
    assert not daemon.path.exists()
