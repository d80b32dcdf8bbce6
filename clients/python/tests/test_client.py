"""The client against a scripted server: what it sends, how it waits, and every way in which a server can fail it."""

import gc
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import espalier
from espalier import servers, transport

INSPECTION = {
    "model": {"path": "/m.onnx", "format": "onnx", "size_bytes": 9, "opset": 17, "sha": "new in 2.0"},
    "cached": True,
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 3, None]}],
    "outputs": [],
    "parameters": 12,
    "macs": 34,
    "layers": [
        {"name": "conv", "op": "Conv", "parameter": "w", "channels": [3, 8], "kernel": [3, 3], "groups": 1,
         "parameters": 12, "macs": 34, "methods": ["PR_L2"], "group": 0},
    ],
    "groups": [{"id": 0, "size": 8, "prunable": False, "layers": ["conv"], "reason": "a graph output"}],
    "colour": "green",
}  # fmt: skip

RECOMMENDATION = {
    "available_layers": [
        {"name": "conv", "channels": [8], "values": [0.25], "use": True},
        {"name": "head", "channels": [4], "values": [0, 2], "use": False},
    ],
    "skipped": [{"name": "stem", "reason": "excluded"}],
    "estimate": {
        "original": {"parameters": 10, "macs": 20, "size_bytes": 40},
        "compressed": {"parameters": 7, "macs": 12, "size_bytes": 28},
        "achieved_ratio": 0.25,
    },
}


def answer(result):
    return {"id": "$id", "result": result}


def failure(code, message, **data):
    return {"id": "$id", "error": {"code": code, "message": message, "data": data}}


def progress(kind, **value):
    return {"method": "$/progress", "params": {"token": "$token", "value": {"kind": kind, **value}}}


def children():
    """Processes whose parent we are, the unreaped dead included."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # pid (name) state parent ...; the name may hold anything.
            parent = path.read_text().rpartition(")")[2].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == os.getpid():
            found.append(path.parent.name)
    return found


# What a call says and what it gives


def test_inspect_is_a_record_and_keeps_what_it_does_not_know(fake):
    report = fake(inspect=[answer(INSPECTION)]).inspect("/m.onnx")
    assert report.model.opset == 17 and report.model.framework is None
    assert report.inputs == [espalier.Port("x", "float32", ["batch", 3, None])]
    assert report.layers[0].kernel == [3, 3] and report.layers[0].reason is None
    assert report.groups[0].reason == "a graph output" and not report.groups[0].prunable
    assert report.raw["colour"] == "green"


def test_paths_leave_absolute(fake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    client = fake(inspect=[answer(INSPECTION)], compress=[failure(-32803, "no")])
    client.inspect("models/../a.onnx")
    client.inspect("file:///b%20c.onnx")
    client.inspect(os.fsdecode(b"/caf\xe9.onnx"))
    with pytest.raises(espalier.ServerError):
        client.compress(tmp_path / "a.onnx", "out.onnx", recommendation_ratio=0.5)
    sent = [message["params"] for message in fake.received("inspect")]
    # Not tidied: "models/.." leads elsewhere if models is a symbolic link.
    assert [params["model"] for params in sent] == [
        f"{tmp_path}/models/../a.onnx", "file:///b%20c.onnx", "file:///caf%E9.onnx"
    ]  # fmt: skip
    assert fake.received("compress")[0]["params"]["output_path"] == f"{tmp_path}/out.onnx"


def test_the_server_learns_which_python_this_is(fake):
    client = fake(inspect=[answer(INSPECTION)])
    client.inspect("/m.onnx")
    assert fake.received("initialize")[0]["params"]["initializationOptions"] == {"python": sys.prefix}


def test_only_what_was_asked_is_sent(fake):
    client = fake(inspect=[answer(INSPECTION)], recommend=[answer(RECOMMENDATION)])
    client.inspect("/m.onnx")
    client.recommend("/m.onnx", recommendation_ratio=0.3, options={"step_size": 8}, input_shapes={"x": (1, 3, 8, 8)})
    assert fake.received("inspect")[0]["params"] == {"model": "/m.onnx"}
    assert fake.received("recommend")[0]["params"] == {
        "model": "/m.onnx",
        "compression_method": "PR_L2",
        "recommendation_method": "SLAMP",
        "recommendation_ratio": 0.3,
        "options": {"step_size": 8},
        "input_shapes": [{"name": "x", "shape": [1, 3, 8, 8]}],
    }


def test_a_recommendation_is_replayed_as_it_came(fake):
    client = fake(recommend=[answer(RECOMMENDATION)], compress=[failure(-32803, "enough")])
    advice = client.recommend("/m.onnx", recommendation_ratio=0.25)
    assert advice.estimate.compressed == espalier.Size(7, 12, 28)
    assert advice.skipped == [espalier.SkippedLayer("stem", "excluded")]
    with pytest.raises(espalier.ServerError):
        client.compress("/m.onnx", "/o.onnx", layers=advice.available_layers)
    params = fake.received("compress")[0]["params"]
    assert params["layers"] == RECOMMENDATION["available_layers"]
    assert "recommendation_ratio" not in params and "recommendation_method" not in params
    # An index that became 2.0 on the way would be refused.
    assert all(isinstance(index, int) for index in params["layers"][1]["values"])


@pytest.mark.parametrize(
    "layers",
    [
        {"a": 0.25, "b": [0, 5]},
        [espalier.LayerSetting("a", [0.25]), espalier.LayerSetting("b", [0, 5])],
    ],
)
def test_layers_of_ones_own_need_names_and_values_alone(fake, layers):
    client = fake(compress=[failure(-32803, "enough")])
    with pytest.raises(espalier.ServerError):
        client.compress("/m.onnx", "/o.onnx", layers=layers)
    assert fake.received("compress")[0]["params"]["layers"] == [
        {"name": "a", "values": [0.25], "use": True}, {"name": "b", "values": [0, 5], "use": True},
    ]  # fmt: skip


COMPRESSION = {
    "output_path": "/o.onnx",
    "original": {"parameters": 10, "macs": 20, "size_bytes": 40},
    "compressed": {"parameters": 7, "macs": 12, "size_bytes": 28},
    "layers": [],
    "removed": [
        {"parameter": "w", "axis": 0, "indices": [1, 2]},
        {"parameter": "v", "axis": 1, "indices_per_group": [[0], [1]]},
    ],
    "copied": [{"parameter": "b", "node": "conv", "input": 2, "axis": 0, "indices": [3]}],
    "replaced": [
        {"layer": "fc", "parameter": "w", "method": "FD_SVD", "ranks": [8], "relative_error": 0.5,
         "by": [{"name": "fc_in", "op": "Gemm", "parameter": "w_in", "shape": [8, 9]}]},
    ],
    "skipped": [],
    "verification": {
        "status": "approximate",
        "certificate": {},
        "approximations": [{"name": "norm", "op": "LayerNormalization", "reason": "so"}],
        "max_abs_error": 0.5,
        "max_rel_error": None,
        "twin": {"status": "exact", "max_abs_error": 0.0, "max_rel_error": 0.0},
        "tolerance": 1e-05,
        "samples": 3,
        "reason": "so",
    },
}  # fmt: skip


def test_what_compress_answered_is_what_verify_is_asked(fake):
    client = fake(compress=[answer(COMPRESSION)], verify=[answer(COMPRESSION["verification"])])
    made = client.compress("/m.onnx", "/o.onnx", recommendation_ratio=0.5, verify=True, dataset_path="/d.npy")
    assert fake.received("compress")[0]["params"]["verify"] is True
    assert fake.received("compress")[0]["params"]["dataset_path"] == "/d.npy"
    assert made.verification.twin == espalier.Twin("exact", 0.0, 0.0)
    assert made.verification.approximations == [espalier.Approximation("norm", "LayerNormalization", "so")]
    assert made.verification.max_rel_error is None
    assert client.verify("/m.onnx", "/o.onnx", made) == made.verification
    params = fake.received("verify")[0]["params"]
    assert params == {
        "model": "/m.onnx",
        "compressed": "/o.onnx",
        "removed": COMPRESSION["removed"],
        "copied": COMPRESSION["copied"],
        "replaced": COMPRESSION["replaced"],
    }


def test_compress_wants_a_ratio_or_layers(fake):
    client = fake()
    for arguments in ({}, {"recommendation_ratio": 0.5, "layers": []}):
        with pytest.raises(ValueError, match="either"):
            client.compress("/m.onnx", "/o.onnx", **arguments)


def test_handshake_and_goodbye(fake):
    client = fake()
    assert client.server_info["name"] == "fake"
    client.close()
    assert fake.received("initialize")[0]["params"]["processId"] == os.getpid()
    order = [line.split('"method": ')[1].split('"')[1] for line in fake.log.read_text().splitlines()]
    assert order == ["initialize", "initialized", "shutdown", "exit"]


# Progress and cancellation


def test_progress_arrives_before_the_answer(fake):
    steps = []
    script = [progress("begin", title="Inspecting"), progress("report", message="layer 1/2", percentage=50)]
    client = fake(inspect=[*script, progress("end"), answer(INSPECTION)])
    client.inspect("/m.onnx", progress=steps.append)
    assert [step.kind for step in steps] == ["begin", "report", "end"]
    assert steps[1] == espalier.Progress("report", None, "layer 1/2", 50)
    client.inspect("/m.onnx")
    assert len(steps) == 3


def test_a_progress_callback_that_fails_harms_nothing(fake, caplog):
    def clumsy(step):
        raise KeyError("oops")

    assert fake(inspect=[progress("begin", title="x"), answer(INSPECTION)]).inspect("/m.onnx", progress=clumsy).cached
    assert "progress callback of inspect failed" in caplog.text


def test_a_progress_callback_may_cancel_but_not_wait(fake):
    client = fake(inspect=[progress("begin", title="x"), {"do": "wait"}])
    waited = []

    def callback(step):
        with pytest.raises(RuntimeError, match="cannot wait"):
            client.ping()
        waited.append(step)
        started.wait()
        call.cancel()

    started = threading.Event()
    call = client.start_inspect("/m.onnx", progress=callback)
    started.set()
    with pytest.raises(espalier.Cancelled):
        call.result(5)
    assert waited


def test_cancel(fake):
    client = fake(inspect=[{"do": "wait"}])
    call = client.start_inspect("/m.onnx")
    assert not call.done()
    call.cancel()
    with pytest.raises(espalier.Cancelled) as caught:
        call.result(5)
    assert caught.value.code == -32800
    call.cancel()  # too late, and harmless
    client.ping()
    assert len(fake.received("$/cancelRequest")) == 1


def test_timeout_cancels(fake):
    client = fake(inspect=[{"do": "wait"}])
    with pytest.raises(TimeoutError, match="inspect was not answered within 0.05 s"):
        client.inspect("/m.onnx", timeout=0.05)
    client.ping()
    assert fake.received("$/cancelRequest")[0]["params"]["id"] == fake.received("inspect")[0]["id"]


def test_keyboard_interrupt_cancels(fake):
    client = fake(inspect=[{"do": "wait"}])
    main = threading.main_thread().ident
    # A test run in the background of a shell inherits SIGINT as ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt():
        time.sleep(0.2)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            client.inspect("/m.onnx")
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    client.ping()
    assert len(fake.received("$/cancelRequest")) == 1


def test_calls_from_many_threads_find_their_own_answers(fake):
    client = fake(inspect=[answer({**INSPECTION, "parameters": "$id"})])
    failures = []

    def work():
        for _ in range(50):
            call = client.start_inspect("/m.onnx")
            if call.result(10).parameters != call._id:
                failures.append(call)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# Errors


def test_errors_carry_kind_code_and_data(fake):
    client = fake(
        inspect=[failure(-32803, "there is no file /m.onnx", kind="model.notFound", retryable=False)],
        recommend=[failure(-32602, "expected a number below 1, found 2", path="/recommendation_ratio")],
        ping=[{"id": "$id", "error": {"code": -32603, "message": "incident 4711"}}],
    )
    with pytest.raises(espalier.ServerError) as caught:
        client.inspect("/m.onnx")
    error = caught.value
    assert (error.kind, error.code, error.data["retryable"]) == ("model.notFound", -32803, False)
    assert str(error) == "model.notFound: there is no file /m.onnx"
    with pytest.raises(espalier.InvalidParams, match=r"found 2 \(at /recommendation_ratio\)"):
        client.recommend("/m.onnx", recommendation_ratio=2)
    with pytest.raises(espalier.ServerError, match="error -32603: incident 4711"):
        client.ping()


@pytest.mark.parametrize(
    "result, complaint",
    [
        (None, "expected an object, found NoneType"),
        ({k: v for k, v in INSPECTION.items() if k != "macs"}, "Inspection.macs is missing"),
        ({**INSPECTION, "macs": "many"}, "Inspection.macs: expected int, found str 'many'"),
        ({**INSPECTION, "cached": 1}, "Inspection.cached: expected bool"),
        ({**INSPECTION, "layers": [{"name": "a"}]}, r"Inspection.layers\[0\].op is missing"),
    ],
)
def test_a_result_of_another_shape_is_a_protocol_error(fake, result, complaint):
    client = fake(inspect=[answer(result)])
    with pytest.raises(espalier.ProtocolError, match=complaint):
        client.inspect("/m.onnx")
    client.ping()


def test_death_of_the_server_is_told_with_its_last_words(fake):
    client = fake(inspect=[{"do": "exit", "status": 70, "stderr": "line one\nout of cheese"}])
    with pytest.raises(espalier.ServerStopped) as caught:
        client.inspect("/m.onnx")
    assert caught.value.exit_status == 70
    assert caught.value.stderr == ["line one", "out of cheese"]
    assert "exited with status 70" in str(caught.value) and "out of cheese" in str(caught.value)
    assert children() == []


def test_death_by_signal_fails_every_call(fake):
    client = fake(compress=[{"do": "wait"}])
    calls = [client.start_compress("/m.onnx", "/o.onnx", recommendation_ratio=0.5) for _ in range(3)]
    client.ping()
    os.kill(int(children()[0]), 9)
    for call in calls:
        with pytest.raises(espalier.ServerStopped, match="ended by signal 9"):
            call.result(5)


@pytest.mark.parametrize(
    "noise, complaint",
    [
        ("hello, I am a server\n", "expected a header"),
        ("X: y\r\n\r\n", "without Content-Length"),
        ("Content-Length: -4\r\n\r\n", "is not a length"),
        ("Content-Length: 99999999999\r\n\r\n", "is not a length"),
        ("Content-Length: 4\r\n\r\noops", "not JSON"),
        ("Content-Length: 2\r\n\r\n[]", "not a JSON object"),
        ("A: " + "b" * 9000, "expected a header"),
    ],
)
def test_noise_on_the_wire_is_a_protocol_error(fake, noise, complaint):
    client = fake(inspect=[{"do": "raw", "bytes": noise}])
    begin = time.monotonic()
    with pytest.raises(espalier.ProtocolError, match=complaint):
        client.inspect("/m.onnx", timeout=5)
    client.close()
    assert time.monotonic() - begin < 3
    assert children() == []


def test_the_server_may_ask_and_say_what_we_do_not_know(fake, caplog):
    asks = [
        {"id": 1, "method": "workspace/configuration", "params": {}},
        {"id": "t", "method": "window/workDoneProgress/create", "params": {"token": 5}},
        {"method": "window/logMessage", "params": {"type": 2, "message": "low on memory"}},
        {"method": "$/unheardOf"},
        {"id": 987, "result": "of nothing"},
        {"method": "$/progress", "params": {"token": "nobody's", "value": {"kind": "report"}}},
    ]
    client = fake(ping=[*asks, answer(None)])
    client.ping()
    client.close()
    replies = [line for line in fake.log.read_text().splitlines() if '"method"' not in line]
    assert '"code": -32601' in replies[0] and '"id": "t", "result": null' in replies[1]
    assert ("espalier", 30, "low on memory") in caplog.record_tuples


# Beginning and end


def test_a_server_that_hangs_is_ended_by_force(fake, monkeypatch):
    monkeypatch.setattr(transport, "EXIT_SECONDS", 0.2)
    monkeypatch.setattr("espalier.connection.EXIT_SECONDS", 0.2)
    client = fake(inspect=[{"do": "ignore the end"}])
    call = client.start_inspect("/m.onnx")
    client.close()
    with pytest.raises(espalier.ServerStopped, match="this client has been closed"):
        call.result(5)
    assert children() == []


def test_a_forgotten_client_takes_its_server_along(fake):
    client = espalier.connect(fake.command())
    client.ping()
    assert len(children()) == 1
    del client
    gc.collect()
    assert children() == []


def test_leaving_without_close_leaves_no_process(fake):
    code = "import espalier, sys; c = espalier.connect(sys.argv[1:]); print(c._session._connection._transport.pid)"
    run = subprocess.run([sys.executable, "-c", code, *fake.command()], capture_output=True, text=True, timeout=20)
    assert run.returncode == 0 and run.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(run.stdout), 0)


def test_a_server_that_fails_to_start_says_why(tmp_path):
    with pytest.raises(espalier.ServerNotFound, match="cannot start /no/such/server: No such file"):
        espalier.connect("/no/such/server")
    script = tmp_path / "broken"
    script.write_text("#!/bin/sh\necho 'libjansson.so.4: not found' >&2\nexit 127\n")
    script.chmod(0o755)
    with pytest.raises(espalier.ServerStopped, match="(?s)status 127.*libjansson"):
        espalier.connect(script)
    with pytest.raises(espalier.CallTimeout, match="initialize"):
        espalier.connect([sys.executable, "-c", "import sys; sys.stdin.read()"], start_timeout=0.3)
    assert children() == []


def test_where_the_server_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("ESPALIER_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(espalier.ServerNotFound, match="ESPALIER_SERVER"):
        servers.find_server()
    executable = tmp_path / "espalierd"
    executable.write_text("")
    executable.chmod(stat.S_IRWXU)
    assert servers.find_server() == [str(executable)]
    monkeypatch.setenv("ESPALIER_SERVER", "/elsewhere/espalierd")
    assert servers.find_server() == ["/elsewhere/espalierd"]
    assert servers.find_server(tmp_path / "mine") == [str(tmp_path / "mine")]
    assert servers.find_server(["ssh", "host", "espalierd"]) == ["ssh", "host", "espalierd"]
