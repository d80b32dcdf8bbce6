"""Sweeps and sensitivities: on this machine, on a Dask cluster that loses a worker, and as people see them."""

import os
import signal
import sys
import time

import cloudpickle
import dask
import distributed
import pandas
import pytest

import espalier
from espalier import sweeps, tables
from test_client import COMPRESSION, answer
from test_espalierd import RESNET

RATIOS = [0.2, 0.4, 0.6]


@pytest.fixture
def client(espalierd):
    with espalier.Client(espalierd) as client:
        yield client


def file_size(path):
    return float(path.stat().st_size)


def test_points_are_all_combinations_or_those_given():
    assert sweeps.points_of({"a": [1, 2], "b": ["x", "y"]}) == [
        {"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}
    ]  # fmt: skip
    assert sweeps.points_of([{"a": 1}, {"b": 2}]) == [{"a": 1}, {"b": 2}]
    with pytest.raises(TypeError, match="'a' is a list of values to try, not 'xy'"):
        sweeps.points_of({"a": "xy"})


def test_a_sweep_is_what_single_calls_give(client, tmp_path):
    grid = {"compression_method": ["PR_L2", "PR_GM"], "recommendation_ratio": RATIOS}
    found = espalier.sweep(RESNET, grid, output_dir=tmp_path / "out", evaluate=file_size, client=client, step_size=4)
    assert [point.parameters for point in found] == sweeps.points_of(grid)
    for index, point in enumerate(found):
        single = client.compress(RESNET, tmp_path / f"{index}.onnx", options={"step_size": 4}, **point.parameters)
        assert (point.compressed, point.error) == (single.compressed, None)
        assert point.output_path == tmp_path / "out" / f"digits_resnet-{index}.onnx"
        assert point.output_path.read_bytes() == single.output_path.read_bytes()
        assert point.metric == single.compressed.size_bytes and point.share("macs") < 1
    assert len(client.models()) == 1, "the model was loaded once"
    with pytest.raises(FileExistsError, match="digits_resnet-0.onnx is there already"):
        espalier.sweep(RESNET, grid, output_dir=tmp_path / "out", client=client)
    espalier.sweep(RESNET, grid, output_dir=tmp_path / "out", client=client, overwrite=True)


def test_without_a_folder_nothing_stays(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen, grid = [], {"recommendation_ratio": RATIOS}
    found = espalier.sweep(RESNET, grid, client=client, evaluate=lambda path: seen.append(path) or 1)
    assert len(seen) == 3 and not any(path.exists() for path in seen)
    assert [point.output_path for point in found] == [None] * 3 and not list(tmp_path.iterdir())
    dry = espalier.sweep(RESNET, grid, client=client)
    assert [point.compressed.macs for point in dry] == [point.compressed.macs for point in found]


def test_points_that_fail_are_kept_with_their_errors(client, capsys):
    grid = [{"recommendation_ratio": 0.3}, {"recommendation_ratio": 1.5}, {"target": {"macs": 0.001}},
            {"compression_method": "PR_NN", "recommendation_ratio": 0.3},
            {"policy": "loud", "recommendation_ratio": 0.3}, {}]  # fmt: skip
    found = espalier.sweep(RESNET, grid, client=client, show=True)
    kinds = [point.error_kind for point in found]
    assert kinds == [None, None, "target.unreachable", "dataset.required", None, "ValueError"]
    assert [point.error is None for point in found] == [True, False, False, False, False, False]
    assert len(found.failed) == 5 and found[1].compressed is None
    shown = capsys.readouterr().out
    assert shown.count("failed: ") == 5 and "certified" in shown and "macs=0.001" in shown
    assert found.table().count("failed: ") == 5


def test_what_evaluate_raises_is_the_points_error(client):
    def picky(path):
        if path.stat().st_size < 400_000:
            raise RuntimeError("too small to be of use")
        return 1.0

    found = espalier.sweep(RESNET, {"recommendation_ratio": RATIOS}, client=client, evaluate=picky)
    assert [point.error_kind for point in found] == [None, "RuntimeError", "RuntimeError"]
    assert found[2].error == "too small to be of use"


def test_a_daemon_that_dies_under_a_sweep_costs_no_point(fake):
    client = fake(compress=[{"do": "die once", "status": 70}, answer({**COMPRESSION, "output_path": None})])
    found = espalier.sweep("/m.onnx", {"recommendation_ratio": RATIOS}, client=client, evaluate=lambda path: 1.0)
    assert [point.error for point in found] == [None] * 3


def test_a_sweep_as_a_frame(client):
    frame = espalier.sweep(RESNET, {"recommendation_ratio": [0.3, 2.0]}, client=client).to_dataframe()
    assert isinstance(frame, pandas.DataFrame) and list(frame["recommendation_ratio"]) == [0.3, 2.0]
    assert frame["macs_left"][0] == frame["macs"][0] / 2846160 and "above 0" in frame["error"][1]


def test_the_table_grows_in_the_order_of_arrival(fake, capsys):
    found = {}
    update = tables.growing([{"recommendation_ratio": 0.25}, {"recommendation_ratio": 0.5}])
    client = fake(compress=[answer(COMPRESSION)])
    for index in (1, 0):
        ratio = {"recommendation_ratio": 0.25 + index / 4}
        task = sweeps.Task("/m.onnx", ratio, ratio, "/o", None, None)
        found[index] = task.run(client)
        update(found)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["0.5", "0.25"]
    assert lines[2].split() == "0.5 7 (70 %) 12 (60 %) 28 (70 %) verified, approximate".split()
    assert fake.received("compress")[0]["params"]["overwrite"] is True


def test_sensitivity_names_what_hurts(client):
    def parameters(path):
        return float(client.inspect(path, progress=False).parameters)

    found = espalier.sensitivity(RESNET, parameters, ratios=[0.25, 0.5], client=client)
    assert found.baseline == 178810 and len(found.metrics) == 8
    assert all(two < one < found.baseline for one, two in found.metrics.values())
    html = found._repr_html_()
    assert html.count("<tr>") == 9 and "1.788e+05 as it is" in html


def test_a_plot_has_every_point_and_escapes_what_it_shows(client):
    grid = {"compression_method": ["PR_L2", "PR_GM"], "recommendation_ratio": RATIOS}
    found = espalier.sweep(RESNET, grid, client=client)
    html = found._repr_html_()
    assert html.count("<circle") == 6 and html.count("<polyline") == 2 and "% of the MACs left" in html
    bad = espalier.Sweep([espalier.SweepPoint({"x": "<script>"}, error="<b>")])
    assert (
        "<script>" not in bad._repr_html_()
        and "&lt;script&gt;" in bad._repr_html_()
        and "1 failed" in bad._repr_html_()
    )


# On a cluster


def slow_size(path):
    time.sleep(0.1)
    return float(path.stat().st_size)


def poison(path):
    """Ends the worker that evaluates it, whichever that is."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster(espalierd, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("ESPALIER_SERVER", espalierd)
    # A worker that is killed leaves its temporary files.
    patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("workers")))
    # A worker that is killed is replaced; one point may take two along before Dask gives it up.
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            with distributed.Client(cluster) as client:
                yield client
    patch.undo()


@pytest.fixture
def importable(cluster):
    """Functions of this file reach the workers by value."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield cluster
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_a_cluster_gives_the_same_and_survives_the_death_of_a_worker(importable, client, tmp_path):
    ratios = [round(0.1 + 0.04 * index, 2) for index in range(16)]
    arrived = []

    def kill_one(found):
        if len(found) == 4:
            os.kill(next(iter(importable.run(os.getpid).values())), signal.SIGKILL)
        arrived.append(len(found))

    tasks = {"recommendation_ratio": ratios}
    before = sweeps._board
    sweeps._board = lambda *arguments: kill_one
    try:
        found = espalier.sweep(RESNET, tasks, on=importable, output_dir=tmp_path / "out", evaluate=slow_size)
    finally:
        sweeps._board = before
    assert len(arrived) == 16
    here = espalier.sweep(RESNET, tasks, client=client, evaluate=file_size)
    assert [point.error for point in found] == [None] * 16
    assert [point.metric for point in found] == [point.metric for point in here]
    assert [point.compressed for point in found] == [point.compressed for point in here]
    assert len(list((tmp_path / "out").iterdir())) == 16, "nothing half-written is left"


def test_a_point_that_kills_its_workers_is_kept_as_failed(importable, tmp_path):
    (point,) = espalier.sweep(RESNET, {"recommendation_ratio": [0.3]}, on=importable, evaluate=poison)
    assert point.error_kind == "KilledWorker" and point.compressed is None
    grid = {"recommendation_ratio": [0.3, 1.5]}
    fine, refused = espalier.sweep(RESNET, grid, on=importable.scheduler.address, show=False)
    assert fine.error is None and "above 0" in refused.error
