"""Recommending, replaying the recommendation by hand, and compressing in one go give the same file, byte for byte."""

import pytest

import daemon
import espalier
import graphs
import onnx
import plans
import skeletons


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"step_size": 1, "min_num_of_value": 1},
        {"step_size": 4, "step_op": "round_up", "min_num_of_value": 2, "group_policy": "none"},
    ],
    ids=["default", "fine", "coarse"],
)
def test_replayed_values_give_the_identical_file(client, folder, seed, options):
    path, direct, replayed = folder / "original.onnx", folder / "direct.onnx", folder / "replayed.onnx"
    onnx.save(graphs.random_graph(1000 + seed), path)
    request = {"recommendation_ratio": 0.4, "options": options}
    if not any(group.prunable for group in client.inspect(path).groups):
        with pytest.raises(espalier.ServerError) as refusal:
            client.recommend(path, **request)
        assert refusal.value.kind == "nothingToCompress"
        return
    recommendation = client.recommend(path, **request)
    if not any(layer.values for layer in recommendation.available_layers):
        for arguments in request, {"layers": recommendation.available_layers, "options": options}:
            with pytest.raises(espalier.ServerError) as refusal:
                client.compress(path, direct, overwrite=True, **arguments)
            assert refusal.value.kind == "nothingToCompress"
        assert options.get("min_num_of_value") != 1, "with a minimum of one there is something to remove"
        return
    first = client.compress(path, direct, overwrite=True, **request)
    second = client.compress(path, replayed, overwrite=True, layers=recommendation.available_layers, options=options)
    assert replayed.read_bytes() == direct.read_bytes()
    assert second.removed == first.removed
    assert (first.compressed.parameters, first.compressed.macs) == (
        recommendation.estimate.compressed.parameters,
        recommendation.estimate.compressed.macs,
    )


def test_the_same_request_gives_the_same_bytes(client, folder):
    path = folder / "original.onnx"
    onnx.save(graphs.random_graph(7), path)
    files = []
    for run in range(3):
        client.release()
        client.compress(path, folder / f"run{run}.onnx", overwrite=True, recommendation_ratio=0.5)
        files.append((folder / f"run{run}.onnx").read_bytes())
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize("seed", range(3))
def test_the_number_of_threads_changes_no_byte(folder, seed):
    path, files = folder / "original.onnx", []
    onnx.save(skeletons.materialize("resnet18", "dynamic") if seed == 0 else graphs.random_graph(seed), path)
    for threads in (1, 2, 7):
        output = folder / f"threads{threads}.onnx"
        with espalier.connect([daemon.server_path(), "--threads", str(threads)]) as connected:
            connected.compress(path, output, overwrite=True, recommendation_ratio=0.5, options=plans.STRESS)
        files.append(output.read_bytes())
    assert files[0] == files[1] == files[2]
