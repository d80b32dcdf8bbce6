"""Work that is cancelled, files that change under it, clients that do not read: rows C1 to C3, P1 and B1."""
import os
import pathlib
import random
import shutil
import statistics
import threading
import time

import pytest

from wire_session import MODELS, frame

MODEL = str(MODELS / "digits_resnet.onnx")


def compress(model, output, **more):
    return {"model": str(model), "compression_method": "PR_L2", "recommendation_method": "SLAMP",
            "recommendation_ratio": 0.5, "output_path": str(output), **more}


def private_bytes(process):
    """Memory that is not a mapped file's."""
    for line in pathlib.Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the system does not tell")


def test_cancelling_anything_is_answered_once(sessions, tmp_path):  # C1
    session, other = sessions(), sessions()
    assert session.result("inspect", {"model": MODEL})["cached"] in (False, True)
    theirs = other.request("inspect", {"model": MODEL}, identifier=9)
    for round in range(30):
        running = session.request("compress", compress(MODEL, tmp_path / f"{round}.onnx"), identifier=1000 + round)
        if round % 3:
            time.sleep(random.Random(round).random() * 0.02)
        session.notify("$/cancelRequest", {"id": running})
        session.notify("$/cancelRequest", {"id": running})
        session.notify("$/cancelRequest", {"id": 9})
        session.notify("$/cancelRequest", {"id": "unknown"})
        answer = session.response(running)
        written = (tmp_path / f"{round}.onnx").exists()
        assert written == ("result" in answer), answer
        assert written or answer["error"]["code"] == -32800
    assert "result" in other.response(theirs)
    # Nothing but whole results was left behind.
    assert all(name.endswith((".onnx", ".sock", ".lock")) for name in os.listdir(tmp_path))


def test_cancelling_at_any_moment_of_a_compression(sessions, large_model, tmp_path):  # C2
    session = sessions()
    began = time.monotonic()
    session.result("compress", compress(large_model, tmp_path / "whole.onnx"), 60)
    warm = time.monotonic()
    session.result("compress", compress(large_model, tmp_path / "whole.onnx", overwrite=True), 60)
    seconds = time.monotonic() - warm
    baseline = private_bytes(sessions.process)
    delays = []
    for step in range(12):
        output = tmp_path / f"cancelled{step}.onnx"
        running = session.request("compress", compress(large_model, output, workDoneToken=f"t{step}"))
        time.sleep(seconds * step / 14)
        cancelled = time.monotonic()
        session.notify("$/cancelRequest", {"id": running})
        answer = session.response(running)
        delays.append(time.monotonic() - cancelled)
        assert "result" in answer or answer["error"]["code"] == -32800, answer
        assert output.exists() == ("result" in answer)
    assert statistics.median(delays) < 0.1, delays
    assert max(delays) < 1, delays
    assert not [n for n in os.listdir(tmp_path) if not n.endswith((".onnx", ".sock", ".lock"))]
    assert private_bytes(sessions.process) < baseline + (40 << 20)
    assert warm - began < 60


def test_progress_of_a_long_compression(sessions, large_model, tmp_path):  # P1
    session = sessions()
    for index in range(3):
        session.result("release")
        answer = session.call("compress", compress(large_model, tmp_path / f"{index}.onnx", workDoneToken="same"), 60)
        assert "result" in answer, answer
    session.result("compress", compress(large_model, tmp_path / "silent.onnx"), 60)
    failing = session.error("compress", compress(large_model, "/nowhere/x.onnx", workDoneToken="same"), 60)
    assert failing["data"]["kind"] == "output.unwritable"
    values = [m["params"]["value"] for d, m in session.transcript if d == "received" and m.get("method") == "$/progress"]
    # Fast machines may finish before anything is told; what is told is checked with the transcript.
    assert all(v["kind"] != "begin" or (v["title"] == "Compressing" and v["cancellable"]) for v in values)


CHANGES = {
    "replace": lambda path, other: os.replace(other, path),
    "delete": lambda path, other: os.unlink(path),
    "truncate": lambda path, other: os.truncate(path, 5000),
    "empty": lambda path, other: os.truncate(path, 0),
    "rewrite": lambda path, other: path.write_bytes(other.read_bytes()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_models_that_change_under_a_compression(sessions, large_model, tmp_path, change):  # C3
    session = sessions()
    reference = tmp_path / "reference.onnx"
    session.result("compress", compress(large_model, reference), 60)
    expected = reference.read_bytes()
    for step, delay in enumerate((0, 0.005, 0.02, 0.05, 0.1, 0.2)):
        model, other, output = (tmp_path / f"{name}{step}.onnx" for name in ("model", "other", "output"))
        shutil.copyfile(large_model, model)
        shutil.copyfile(MODEL, other)
        if step % 2:
            session.result("inspect", {"model": str(model)}, 60)
        running = session.request("compress", compress(model, output))
        time.sleep(delay)
        CHANGES[change](model, other)
        answer = session.response(running, 60)
        if "error" in answer:
            assert answer["error"]["code"] in (-32801, -32803), answer
            assert answer["error"]["data"]["kind"]
            assert not output.exists()
        else:
            # It was read before the change, or the small model after it; nothing in between.
            is_small = answer["result"]["original"]["size_bytes"] == os.path.getsize(MODEL)
            assert is_small or output.read_bytes() == expected
        assert session.result("ping") is None
        for path in (model, other, output):
            path.unlink(missing_ok=True)
    assert not [n for n in os.listdir(tmp_path) if not n.endswith((".onnx", ".sock", ".lock"))]


def test_a_client_that_sends_without_reading(sessions):  # B1
    session = sessions()
    count = 10_000
    requests = []
    for index in range(count):
        method = "inspect" if index % 50 == 0 else "ping" if index % 3 else "nonsense"
        message = {"jsonrpc": "2.0", "id": 10_000 + index, "method": method}
        if method == "inspect":
            message["params"] = {"model": MODEL}
        session.transcript.append(("sent", message))
        requests.append(frame(message))
    session.pause_reading()
    sender = threading.Thread(target=session.send_bytes, args=(b"".join(requests),))
    began = time.monotonic()
    sender.start()
    sender.join(20)
    assert not sender.is_alive(), "the daemon stopped reading because nobody reads its answers"
    time.sleep(max(0, 2 - (time.monotonic() - began)))
    assert private_bytes(sessions.process) < 100 << 20
    session.resume_reading()
    answers = [session.response(10_000 + index) for index in range(count)]
    for index, answer in enumerate(answers):
        if index % 50 == 0:
            assert "result" in answer or answer["error"]["data"]["kind"] == "busy"
        elif index % 3:
            assert answer["result"] is None
        else:
            assert answer["error"]["code"] == -32601
