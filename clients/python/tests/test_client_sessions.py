"""A client outlives its server, and processes share one: what is asked again, what is not, and who may start what."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import espalier
from espalier import framing, servers, session
from espalier.decoding import decode
from test_client import COMPRESSION, INSPECTION, RECOMMENDATION, answer, children, progress
from test_espalierd import MOBILE, RESNET, once_it_listens

DEATH = {"do": "exit", "status": 70, "stderr": "out of cheese"}
OLD_DEATH = {"do": "die once", "status": 70, "stderr": "out of cheese"}


# A server that dies


def test_a_question_is_asked_again_of_the_next_server(fake):
    client = fake(inspect=[OLD_DEATH, answer(INSPECTION)])
    assert client.inspect("/m.onnx").cached
    assert len(fake.received("inspect")) == 2 and len(fake.received("initialize")) == 2
    client.ping()
    assert len(fake.received("initialize")) == 2


def test_a_question_to_a_server_that_is_being_stopped_is_asked_again(fake):
    farewell = {"id": "$id", "error": {"code": -32802, "message": "the server is shutting down"}}
    client = fake(inspect=[{**OLD_DEATH, "saying": farewell}, answer(INSPECTION)])
    assert client.inspect("/m.onnx").macs == INSPECTION["macs"]
    assert len(fake.received("inspect")) == 2 and len(fake.received("initialize")) == 2


def test_a_question_that_kills_is_asked_twice_and_no_more(fake):
    client = fake(inspect=[DEATH])
    with pytest.raises(espalier.ServerStopped, match="out of cheese") as caught:
        client.inspect("/m.onnx")
    assert caught.value.exit_status == 70 and len(fake.received("inspect")) == 2
    client.ping()  # of a third server
    assert len(fake.received("initialize")) == 3


def test_what_may_have_been_written_is_not_written_again(fake):
    client = fake(compress=[DEATH])
    with pytest.raises(espalier.ServerStopped, match="either the whole file is at /o.onnx now, or nothing"):
        client.compress("/m.onnx", "/o.onnx", recommendation_ratio=0.5)
    assert len(fake.received("compress")) == 1
    client.ping()
    with pytest.raises(espalier.ServerStopped, match="out of cheese"):
        client.compress("/m.onnx", dry_run=True, recommendation_ratio=0.5)
    assert len(fake.received("compress")) == 3, "a dry run writes nothing, and may be repeated"


def test_a_call_that_kills_takes_the_others_along_once(fake):
    client = fake(inspect=[{"do": "wait"}], recommend=[{"do": "sleep", "seconds": 0.3}, answer(RECOMMENDATION)],
                  verify=[DEATH])  # fmt: skip
    innocent = [client.start_recommend("/m.onnx", recommendation_ratio=0.3) for _ in range(3)]
    killer = client.start_verify("/m.onnx", "/o.onnx", decode(espalier.Compression, COMPRESSION))
    assert [call.result(20).estimate.compressed.macs for call in innocent] == [12, 12, 12]
    with pytest.raises(espalier.ServerStopped):
        killer.result(20)


def test_a_call_cancelled_while_its_server_dies_is_not_repeated(fake):
    client = fake(inspect=[{"do": "sleep", "seconds": 0.3}, DEATH])
    call = client.start_inspect("/m.onnx")
    call.cancel()
    with pytest.raises(espalier.ServerStopped):
        call.result(10)
    assert len(fake.received("inspect")) == 1


def await_death(process):
    """Until nothing is left of it but what its parent may ask for."""
    deadline = time.monotonic() + 30
    while True:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_idle_server_that_died_is_replaced(fake):
    others = set(children())
    client = fake(compress=[answer(COMPRESSION)])
    client.ping()
    for count in (2, 3):
        (server,) = set(children()) - others
        others.add(server)
        os.kill(int(server), signal.SIGKILL)
        await_death(server)
        # Nothing of this one was sent, so that it may be.
        assert str(client.compress("/m.onnx", "/o.onnx", recommendation_ratio=0.5).output_path) == "/o.onnx"
        assert len(fake.received("initialize")) == count and len(fake.received("compress")) == count - 1


def test_a_server_that_dies_again_and_again_is_given_up(fake):
    client = fake(compress=[DEATH])
    for _ in range(session.MOST_RESTARTS):
        with pytest.raises(espalier.ServerStopped, match="out of cheese"):
            client.compress("/m.onnx", "/o.onnx", recommendation_ratio=0.5)
    with pytest.raises(espalier.ServerStopped, match="5 times within 180 s"):
        client.ping()
    assert len(fake.received("initialize")) == session.MOST_RESTARTS


def test_without_restart_a_client_ends_with_its_server(fake):
    client = espalier.connect(fake.command(inspect=[DEATH]), restart=False)
    for _ in range(2):
        with pytest.raises(espalier.ServerStopped, match="status 70"):
            client.inspect("/m.onnx")
    assert len(fake.received("inspect")) == 1
    client.close()


def test_a_begun_progress_ends_with_its_server_too(fake):
    steps = []
    client = fake(inspect=[progress("begin", title="Inspecting"), OLD_DEATH, progress("end"), answer(INSPECTION)])
    client.inspect("/m.onnx", progress=lambda step: steps.append(step.kind))
    assert steps == ["begin", "begin", "end"]
    steps.clear()
    client = fake(verify=[], compress=[progress("begin", title="Compressing"), DEATH])
    with pytest.raises(espalier.ServerStopped):
        client.compress("/m.onnx", "/o", recommendation_ratio=0.5, progress=lambda step: steps.append(step.kind))
    assert steps == ["begin", "end"]


def test_a_forked_child_gets_a_server_of_its_own(fake):
    client = fake(inspect=[answer(INSPECTION)])
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if client.inspect("/m.onnx", timeout=10).cached else 1
            client.close()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    client.ping(5)
    assert len(fake.received("initialize")) == 2


# One daemon for many processes


@pytest.fixture
def shared(espalierd, tmp_path, monkeypatch):
    """A place of its own for the shared daemon, which is ended with the test."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("ESPALIER_SERVER", espalierd)
    yield servers.address([espalierd])
    with espalier.Client(daemon="running") as client:
        if client.server_info and os.path.exists(servers.address([espalierd])):
            client.stop_server()


WORK = """
import sys, espalier
with espalier.connect() as client:
    client.recommend(sys.argv[1], recommendation_ratio=0.3)
    print(client.inspect(sys.argv[1]).cached)
"""


def test_ten_processes_that_start_at_once_share_one_daemon_and_one_model(shared):
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, RESNET], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(10)
    ]
    for worker in workers:
        out, err = worker.communicate(timeout=60)
        assert (worker.returncode, out, err) == (0, "True\n", "")
    with espalier.connect() as client:
        (model,) = client.models()
        assert model.path == RESNET and model.hits >= 10


def test_a_shared_daemon_that_was_stopped_is_started_again(shared):
    with espalier.connect() as client, espalier.connect() as other:
        client.inspect(RESNET)
        client.stop_server()
        deadline = time.monotonic() + 10
        while os.path.exists(shared):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with ThreadPoolExecutor(4) as pool:
            reports = list(pool.map(lambda each: each.inspect(RESNET), [client, other] * 2))
        assert {report.macs for report in reports} == {2846160}
        assert len(client.models()) == 1


def test_a_running_daemon_is_used_and_none_is_started(shared):
    with espalier.Client(daemon="running") as private:
        private.inspect(MOBILE)
        assert not os.path.exists(shared)
        with espalier.connect() as client, espalier.Client(daemon="running") as other:
            client.inspect(RESNET)
            assert [model.path for model in other.models()] == [RESNET]


def test_a_daemon_that_somebody_else_keeps_is_used(espalierd, tmp_path, monkeypatch):
    path = tmp_path / "kept.sock"
    monkeypatch.setenv("ESPALIER_PIPE", str(path))
    monkeypatch.setenv("ESPALIER_SERVER", "/no/such/server")
    with pytest.raises(espalier.ServerNotFound, match="kept.sock"):
        espalier.connect()
    daemon = subprocess.Popen([espalierd, "--pipe", path], stderr=subprocess.DEVNULL)
    with once_it_listens(path) as client:
        for other in (espalier.connect(), espalier.Client(daemon="running")):
            with other:
                other.inspect(RESNET)
        assert [model.hits for model in client.models()] == [1]
        client.stop_server()
    assert daemon.wait(10) == 0


def test_a_daemon_that_cannot_listen_says_why(espalierd, tmp_path, monkeypatch):
    open_to_all = tmp_path / "espalier"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(espalier.ServerNotFound, match="status 78: .*other users can write to it"):
        espalier.Client(espalierd, daemon="shared")
    with pytest.raises(espalier.ServerNotFound, match="did not tell its address"):
        espalier.Client([sys.executable, "-c", "import sys; sys.exit(3)"], daemon="shared")
    with pytest.raises(ValueError, match="private.*shared.*running"):
        espalier.Client(daemon="mine")


def test_interrupting_a_call_leaves_the_daemon_alone(shared):
    with espalier.connect() as client:
        client.inspect(RESNET)
        main = threading.main_thread().ident
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        timer = threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGINT))
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                while True:
                    client.recommend(RESNET, recommendation_ratio=0.3, compression_method="PR_GM")
        finally:
            timer.join()
            signal.signal(signal.SIGINT, before)
        assert client.inspect(RESNET).cached


# A socket of somebody else


def test_over_a_socket(tmp_path):
    path = tmp_path / "s"
    with pytest.raises(espalier.ServerNotFound, match="no server listens"):
        espalier.connect(pipe=path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    with pytest.raises(espalier.ServerNotFound, match="refused"):
        espalier.connect(pipe=path)
    listener.listen()

    def serve():
        peer = listener.accept()[0]
        with peer, peer.makefile("rb") as stream:
            for result in ('{"serverInfo":{},"capabilities":{}}', "null", None):
                request = framing.read(stream)
                while "id" not in request:
                    request = framing.read(stream)
                if result is None:
                    return  # hangs up on the third request
                body = b'{"jsonrpc":"2.0","id":%d,"result":%s}' % (request["id"], result.encode())
                peer.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    thread = threading.Thread(target=serve)
    thread.start()
    with espalier.connect(pipe=path, restart=False) as client:
        client.ping(5)
        with pytest.raises(espalier.ServerStopped, match="closed the connection"):
            client.ping(5)
    thread.join()
    listener.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's socket")
def test_another_users_socket_is_refused(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        os.chown(path, 12345, -1)
        with pytest.raises(espalier.ServerNotFound, match="belongs to user 12345"):
            espalier.connect(pipe=path)
