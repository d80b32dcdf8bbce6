"""Messages, the life cycle and the process: rows R1 to R3, S1, S2 and L1 of the robustness catalogue."""
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

from wire_session import MODELS, frame, server_path

MODEL = str(MODELS / "digits_resnet.onnx")


def test_messages_that_are_none(sessions):  # R1
    session = sessions()
    for body, identifier in ((b"[]", None), (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', None), (b"5", None),
                             (b'{"jsonrpc":"2.0","id":8,"method":5}', 8), (b'{"id":8,"method":"ping"}', 8),
                             (b'{"jsonrpc":"2.0","id":8,"result":1,"error":{}}', 8)):
        session.transcript.append(("sent", {"method": "?", "id": 8}) if identifier else ("sent", {}))
        session.send_bytes(frame(body))
        answer = session.wait_for(lambda m: "error" in m)
        assert (answer["id"], answer["error"]["code"]) == (identifier, -32600), body
    session.send_bytes(frame({"jsonrpc": "2.0", "id": 12345, "result": {}}))
    assert session.error("ping", ["positional"])["code"] == -32602
    assert session.error("nonsense")["code"] == -32601
    assert session.result("ping") is None


def test_states(sessions):  # R2
    session = sessions(initialize=False)
    assert session.error("inspect", {"model": MODEL})["code"] == -32002
    session.initialize()
    assert session.error("initialize", {})["code"] == -32600
    assert session.result("shutdown") is None
    assert session.error("inspect", {"model": MODEL})["code"] == -32600


@pytest.mark.parametrize("messages,status", [
    (["exit"], 1), (["initialize", "exit"], 1), (["initialize", "shutdown", "exit"], 0), ([], 1),
    (["initialize"], 1), (["initialize", "shutdown"], 0)], ids=lambda v: "-".join(v) if isinstance(v, list) else None)
def test_exit_status(stdio, messages, status):  # R2
    daemon = stdio()
    for method in messages:
        if method == "exit":
            daemon.session.notify("exit")
        else:
            daemon.session.result(method, {} if method == "initialize" else None)
    if "exit" not in messages:
        daemon.session.close_input()
    assert daemon.exit_status() == status


def test_an_id_in_use_is_taken(sessions, large_model):  # R3
    session = sessions()
    compress = {"model": str(large_model), "compression_method": "PR_L2", "recommendation_method": "SLAMP",
                "recommendation_ratio": 0.5, "dry_run": True}
    session.request("compress", compress, identifier=500)
    session.request("ping", identifier=500)
    answers = [session.response(500) for _ in range(2)]
    assert [a.get("error", {}).get("code") for a in answers] == [-32600, None]
    session.request("ping", identifier=500)
    assert session.response(500)["result"] is None


def test_the_usage_is_checked():
    def status(*arguments):
        run = subprocess.run([server_path(), *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
        return run.returncode, run.stdout, run.stderr

    for arguments in (["--nonsense"], ["file"], ["--threads", "0"], ["--threads"], ["--stdio", "--pipe", "/x"],
                      ["--log-level", "loud"], ["--stdio=1"], ["--cache-bytes", "1e9"]):
        code, out, error = status(*arguments)
        assert code == 64 and out == b"" and error, arguments
    assert status("--log-file", "/nonexistent/log")[0] == 78
    code, out, _ = status("--version")
    assert code == 0 and out.startswith(b"0.")
    code, out, _ = status("--help", "--stdio")
    assert code == 0 and b"--pipe PATH" in out


# MARK: The process and its client


def cpu_seconds(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_daemon_ends_with_its_client(stdio):  # S1
    for how in ("initialize", "option"):
        # The test holds the daemon's input open, so that only the client's process can tell.
        client = subprocess.Popen(["sleep", "60"])
        daemon = stdio() if how == "initialize" else stdio("--clientProcessId", client.pid)
        daemon.session.initialize(**({"processId": client.pid} if how == "initialize" else {}))
        assert daemon.session.result("ping") is None
        client.kill()
        client.wait()
        assert daemon.exit_status(5) == 1


def test_a_client_of_another_namespace_is_not_missed(stdio):  # S1
    daemon = stdio()
    daemon.session.initialize(processId=2**31 - 1)
    time.sleep(0.2)
    assert daemon.session.result("ping") is None


def test_clients_killed_in_the_middle_of_a_message_are_forgotten(listening):  # S1
    daemon = listening()
    daemon.connect().initialize()
    before = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    for _ in range(20):
        session = daemon.connect()
        session.initialize()
        session.request("inspect", {"model": MODEL})
        session.send_bytes(b'Content-Length: 100\r\n\r\n{"half')
        session.close()
    deadline = time.monotonic() + 5
    while len(os.listdir(f"/proc/{daemon.process.pid}/fd")) > before + 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(os.listdir(f"/proc/{daemon.process.pid}/fd")) <= before + 1
    assert daemon.connect().initialize()["serverInfo"]["name"] == "espalierd"


def test_input_that_ends(stdio):  # S2
    daemon = stdio()
    daemon.session.initialize()
    daemon.session.close_input()
    assert daemon.exit_status() == 1


def test_output_that_nobody_reads_any_more(stdio):  # S2
    process = stdio().process
    process.stdin.write(frame({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}))
    process.stdin.flush()
    assert os.read(process.stdout.fileno(), 1 << 16).startswith(b"Content-Length")
    process.stdout.close()
    process.stdin.write(frame({"jsonrpc": "2.0", "id": 2, "method": "ping"}))
    process.stdin.flush()
    # Its input is still open: the broken output alone ends it.
    assert process.wait(10) == 1


def test_a_log_that_is_broken(stdio):  # S2
    daemon = stdio("--log-level", "trace", stderr=subprocess.PIPE)
    daemon.session.initialize()
    daemon.process.stderr.close()
    for _ in range(200):
        assert daemon.session.result("ping") is None
        daemon.session.notify("unknown")
    assert daemon.session.error("inspect", {"model": "/nowhere"})["code"] == -32803
    before = cpu_seconds(daemon.process)
    time.sleep(0.5)
    assert cpu_seconds(daemon.process) - before < 0.1, "spinning on a broken log"
    assert daemon.session.result("shutdown") is None
    daemon.session.notify("exit")
    assert daemon.exit_status() == 0


def test_a_log_that_nobody_reads_stops_nothing(stdio):  # S2
    daemon = stdio("--log-level", "trace", stderr=subprocess.PIPE)
    daemon.session.initialize()
    # Each leaves a line; a pipe holds 64 KiB.
    for _ in range(3000):
        daemon.session.notify("an/unknown/notification/with/a/long/name/" + "x" * 100)
    assert daemon.session.result("ping") is None


def test_idle_costs_nothing(stdio):
    daemon = stdio()
    daemon.session.initialize()
    before = cpu_seconds(daemon.process)
    time.sleep(1)
    assert cpu_seconds(daemon.process) - before < 0.02


@pytest.mark.parametrize("number,status", [(signal.SIGTERM, 0), (signal.SIGINT, 0)])
def test_signals_end_the_process_in_order(stdio, number, status):
    daemon = stdio()
    daemon.session.initialize()
    daemon.process.send_signal(number)
    assert daemon.exit_status(6) == status


def test_a_second_signal_does_not_wait(stdio):
    daemon = stdio()
    daemon.session.initialize()
    daemon.session.pause_reading()
    # Answers that nobody reads: the daemon would wait some seconds for them to be taken.
    daemon.session.send_bytes(frame({"jsonrpc": "2.0", "id": 1, "method": "nonsense"}) * 5000)
    daemon.process.terminate()
    time.sleep(0.3)
    assert daemon.process.poll() is None
    daemon.process.terminate()
    assert daemon.exit_status(2) == 128 + signal.SIGTERM


def test_hanging_up_means_nothing_in_the_background(stdio):
    daemon = stdio(start_new_session=True)
    daemon.session.initialize()
    daemon.process.send_signal(signal.SIGHUP)
    assert daemon.session.result("ping") is None


PRINTING_LIBRARY = r"""
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
static struct stat given;
static int is_given(void) {
  struct stat now;
  return fstat(1, &now) == 0 && now.st_ino == given.st_ino && now.st_dev == given.st_dev;
}
static void *chatter(void *unused) {
  // Libraries print once the program runs, which on a busy machine begins late.
  for (int i = 0; i < 10000 && is_given(); i++) usleep(500);
  for (int i = 0; i < 200; i++) {
    usleep(2000);
    printf("a library prints\n");
    fflush(stdout);
    if (write(1, "Content-Length: 2\r\n\r\n{}", 23) < 0) return unused;
  }
  return unused;
}
__attribute__((constructor)) static void start(void) {
  pthread_t thread;
  fstat(1, &given);
  pthread_create(&thread, NULL, chatter, NULL);
}
"""


def test_what_libraries_print_stays_out_of_the_stream(stdio, tmp_path):  # L1
    compiler = shutil.which("clang") or shutil.which("cc")
    assert compiler, "the Swift toolchain brings clang"
    (tmp_path / "chatter.c").write_text(PRINTING_LIBRARY)
    library = tmp_path / "chatter.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "chatter.c", "-lpthread"], check=True)
    daemon = stdio(stderr=subprocess.PIPE, env={**os.environ, "LD_PRELOAD": str(library)})
    daemon.session.initialize()
    began = time.monotonic()
    while time.monotonic() - began < 0.4:
        assert daemon.session.result("ping") is None
    daemon.process.terminate()
    log = daemon.process.stderr.read()
    assert log.count(b"a library prints") > 10 and b"Content-Length" in log
    daemon.session.check_transcript()


def test_parts_of_a_result(sessions):
    """Told on the token that was given, all of them before the response, which then has none."""
    session = sessions()
    params = {"model": MODEL, "dataset_path": str(MODELS / "digits_calibration.npy"), "ratios": [0.25, 0.5]}
    identifier = session.request("sensitivity", {**params, "partialResultToken": "parts", "workDoneToken": 77})
    answer = session.wait_for(lambda m: m.get("id") == identifier)["result"]
    sent = [m for way, m in session.transcript if way == "received"]
    told = [m["params"]["value"]["groups"] for m in sent if m.get("params", {}).get("token") == "parts"]
    assert answer["groups"] == [] and sent[-1].get("id") == identifier and all(told)
    whole = session.result("sensitivity", params)
    assert [group for part in told for group in part] == whole["groups"] and len(whole["groups"]) == 8
    error = session.error("sensitivity", {**params, "partialResultToken": 5, "workDoneToken": 5})
    assert (error["code"], error["data"]["path"]) == (-32602, "/partialResultToken")
