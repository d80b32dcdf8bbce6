"""The client and the real daemon together, on the networks of the demo."""

import subprocess
import threading
import time
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import espalier

MODELS = Path(__file__).resolve().parents[1] / "examples" / "models"
RESNET = MODELS / "digits_resnet.onnx"
MOBILE = MODELS / "digits_mobile.onnx"


@pytest.fixture
def client(espalierd):
    with espalier.connect(espalierd) as client:
        yield client


@pytest.fixture(scope="module")
def held_out():
    with np.load(MODELS / "digits_heldout.npz") as file:
        return file["images"], file["labels"]


def logits(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": images})[0]


@pytest.mark.parametrize("model", [RESNET, MOBILE])
def test_the_three_steps_replay_to_the_same_file(client, model, held_out, tmp_path):
    report = client.inspect(model)
    assert report.inputs == [espalier.Port("image", "float32", ["batch", 1, 8, 8])]
    assert not report.cached and client.inspect(model).cached

    advice = client.recommend(model, recommendation_ratio=0.3)
    direct = client.compress(model, tmp_path / "direct.onnx", recommendation_ratio=0.3)
    replay = client.compress(model, tmp_path / "replay.onnx", layers=advice.available_layers)
    assert (tmp_path / "direct.onnx").read_bytes() == (tmp_path / "replay.onnx").read_bytes()

    assert direct.original.parameters == report.parameters and direct.original.macs == report.macs
    assert replay.compressed.parameters == advice.estimate.compressed.parameters < 0.85 * report.parameters
    assert replay.compressed.macs == advice.estimate.compressed.macs < 0.85 * report.macs
    assert replay.compressed.size_bytes == (tmp_path / "replay.onnx").stat().st_size < model.stat().st_size
    assert replay.removed and replay.verification.status != "failed"

    images, labels = held_out
    answers = logits(tmp_path / "replay.onnx", images)
    assert answers.shape == (len(labels), 10) and np.isfinite(answers).all()
    # Far above the one in ten of a network that has lost its way.
    assert (answers.argmax(axis=1) == labels).mean() > 0.5


def test_held_out_accuracy_of_the_shipped_networks(held_out):
    images, labels = held_out
    for model in (RESNET, MOBILE):
        assert (logits(model, images).argmax(axis=1) == labels).mean() >= 0.98


def test_errors_have_the_kinds_of_the_contract(client, tmp_path):
    existing = tmp_path / "existing.onnx"
    existing.write_bytes(b"precious")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(RESNET.read_bytes()[:1000])

    with pytest.raises(espalier.ServerError) as caught:
        client.inspect(tmp_path / "absent.onnx")
    assert (caught.value.kind, caught.value.code) == ("model.notFound", -32803)
    with pytest.raises(espalier.ServerError) as caught:
        client.inspect(broken)
    assert caught.value.kind == "model.malformed"
    with pytest.raises(espalier.ServerError) as caught:
        client.compress(RESNET, existing, recommendation_ratio=0.3)
    assert caught.value.kind == "output.exists" and existing.read_bytes() == b"precious"
    with pytest.raises(espalier.InvalidParams) as invalid:
        client.recommend(RESNET, recommendation_ratio=0.3, options={"stepsize": 2})
    assert invalid.value.path == "/options/stepsize"
    client.ping()


def test_the_cache_is_seen_and_emptied(client):
    client.inspect(RESNET)
    client.inspect(MOBILE)
    assert {model.path for model in client.models()} == {RESNET, MOBILE}
    client.release(RESNET)
    assert [model.path for model in client.models()] == [MOBILE]
    client.release()
    assert client.models() == []


def once_it_listens(path) -> espalier.Client:
    for _ in range(100):
        try:
            return espalier.connect(pipe=path)
        except espalier.ServerNotFound:
            time.sleep(0.05)
    raise AssertionError(f"nothing listens at {path} after 5 s")


def test_clients_of_one_daemon_share_its_models(espalierd, tmp_path):
    path = tmp_path / "socket"
    daemon = subprocess.Popen([espalierd, "--pipe", path], stderr=subprocess.DEVNULL)
    try:
        with once_it_listens(path) as first, espalier.connect(pipe=path) as second:
            assert not first.inspect(MOBILE).cached
            assert second.inspect(MOBILE).cached
        with espalier.connect(pipe=path) as third:
            assert third.inspect(MOBILE).cached
    finally:
        daemon.terminate()
        assert daemon.wait(10) == 0


def test_ten_threads_share_one_session(client, tmp_path):
    expected = client.recommend(RESNET, recommendation_ratio=0.4)
    wrong = []

    def work(index):
        if client.recommend(RESNET, recommendation_ratio=0.4) != expected:
            wrong.append(index)
        client.compress(RESNET, tmp_path / f"{index}.onnx", recommendation_ratio=0.4)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len({path.read_bytes() for path in tmp_path.glob("*.onnx")}) == 1


def test_cancelled_calls_leave_nothing_behind(client, tmp_path):
    for index in range(20):
        call = client.start_compress(RESNET, tmp_path / f"{index}.onnx", recommendation_ratio=0.5)
        call.cancel()
        try:
            call.result(10)
        except espalier.Cancelled:
            assert not (tmp_path / f"{index}.onnx").exists()
        else:
            assert (tmp_path / f"{index}.onnx").exists()
    assert all(path.suffix == ".onnx" for path in tmp_path.iterdir())
    client.ping()


@pytest.mark.parametrize("method,target", [("FD_TK", {"macs": 0.5}), ("FD_SVD", {"energy": 0.9})])
def test_a_decomposition_is_verified_while_and_after_it_is_written(client, method, target, tmp_path):
    output, images = tmp_path / "out.onnx", MODELS / "digits_calibration.npy"
    wanted = {"compression_method": method, "target": target, "dataset_path": images}
    made = client.compress(RESNET, output, verify=True, **wanted)
    assert made.replaced and not made.removed and bool(made.adjusted) == (method == "FD_SVD")
    assert made.verification.status == "approximate" and made.verification.twin.status == "exact"
    again = client.verify(RESNET, output, made, dataset_path=images)
    assert (again.status, again.twin) == ("approximate", made.verification.twin)
    with pytest.raises(espalier.InvalidParams, match="factors"):
        client.verify(RESNET, RESNET, made)


@pytest.mark.parametrize("model", [RESNET, MOBILE])
def test_a_result_is_verified_while_and_after_it_is_written(client, model, held_out, tmp_path):
    output, data = tmp_path / "out.onnx", tmp_path / "images.npy"
    np.save(data, held_out[0])
    made = client.compress(model, output, recommendation_ratio=0.5, verify=True, dataset_path=data)
    assert made.verification.status == "exact" and made.verification.max_rel_error <= made.verification.tolerance
    assert client.verify(model, output, made, dataset_path=data) == made.verification
    assert client.verify(model, model, made).status == "failed"


def test_sensitivity_comes_group_by_group_and_is_drawn(client, tmp_path):
    heard = []
    ratios = [0.25, 0.5, 0.75]
    data = MODELS / "digits_calibration.npy"
    found = client.sensitivity(RESNET, data, ratios=ratios, on_group=heard.append)
    assert heard == found.groups and len(found.groups) == 8 and found.ratios == ratios
    assert all(group.predicted_errors == sorted(group.predicted_errors) for group in found.groups)
    # Measured once, and the same whether told in parts or at once.
    again = client.sensitivity(RESNET, data, ratios=ratios)
    assert again == found
    html, path = found._repr_html_(), tmp_path / "curves.svg"
    assert html.count("<polyline") == 8 and html.count("<tr>") == 9 and "<script" not in html
    assert xml.etree.ElementTree.fromstring(found.plot(path)).tag.endswith("svg") and path.stat().st_size > 1000
    assert found.table().splitlines()[0].split()[:3] == ["group", "channels", "−25"]
    # What is predicted for all groups together is told beforehand, by whatever they are chosen.
    for method in "PR_L2", "PR_REC":
        advice = client.recommend(RESNET, recommendation_ratio=0.7, compression_method=method, dataset_path=data)
        errors = [layer.predicted_error or 0.0 for layer in advice.available_layers]
        assert advice.predicted_error == pytest.approx(sum(error**2 for error in errors) ** 0.5)
        assert 0 < advice.predicted_error < 1
