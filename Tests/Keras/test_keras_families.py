"""Acceptance: networks of every family, as both of Keras's files, pruned by half: Keras loads the answer, and it computes
what its masked original does, trains, and can be saved again. The same model as ONNX computes the same."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

import files_keras
import kernels
import masking_keras
import networks_keras

TOLERANCE = 1e-5
RATIO = 0.5
CASES = [(name, form) for name, network in networks_keras.NETWORKS.items() for form in network.forms]


@pytest.fixture(scope="module")
def network():
    """The last network that was asked for, so that both of its files are made from one."""
    held = {}

    def get(name):
        if name not in held:
            held.clear()
            held[name] = networks_keras.made(name)
        return held[name]

    return get


@pytest.mark.parametrize("name, form", CASES)
def test_pruned_equals_masked_and_trains(client, network, workspace, name, form):
    settings = networks_keras.NETWORKS[name]
    original, inputs = network(name)
    source = files_keras.write(original, workspace / f"original{form}")
    output, graph = workspace / f"half{form}", workspace / "half.onnx"
    reply = client.compress(source, output, recommendation_ratio=RATIO, onnx_output_path=graph)
    assert reply.original.parameters == original.count_params()
    assert reply.compressed.parameters < settings.left * reply.original.parameters, "hardly anything was removed"
    assert reply.compressed.macs < reply.original.macs
    removed = [entry.to_json() for entry in reply.removed]
    whole = files_keras.read(source)
    hold_to_the_reply(whole, source, output, removed)

    compressed = files_keras.read(output)
    assert reply.compressed.parameters == compressed.count_params()
    assert type(compressed) is type(original)
    assert [layer.name for layer in compressed.layers] == [layer.name for layer in original.layers]
    masking_keras.silence(whole, removed, settings.products)
    verdict = masking_keras.judge(original, whole, compressed, inputs, TOLERANCE)
    assert verdict.status != "wrong", f"{verdict}"
    assert verdict.effect > 1e-3, "what was removed had no effect: nothing was proved"
    assert bool(verdict.mixing) == bool(reply.verification.approximations), f"{verdict}"
    predicted = files_keras.predict(compressed, inputs)
    if not verdict.mixing:
        assert masking_keras.distance(files_keras.predict(whole, inputs), predicted) <= TOLERANCE

    # ONNX Runtime adds in another order.
    assert masking_keras.distance(predicted, run(graph, compressed, inputs)) <= 10 * TOLERANCE

    if form == ".h5" and name in networks_keras.APPLICATIONS:
        return  # Loaded, it is the network that was trained from the other file, or one of the two is wrong above.
    train(compressed, inputs, predicted)
    again = files_keras.write(compressed, workspace / f"again{form}")
    trained = files_keras.predict(compressed, inputs)
    assert masking_keras.distance(trained, files_keras.predict(files_keras.read(again), inputs)) <= TOLERANCE


def hold_to_the_reply(model, source, output, removed):
    """Of what the original file holds, everything but the slices that the reply says were removed; `model` is what Keras
    makes of it."""
    datasets = files_keras.datasets(model, source)
    expected = kernels.remaining(files_keras.weights(source), kernels.by_dataset(removed, datasets))
    found = files_keras.weights(output)
    assert list(found) == list(expected)
    different = [name for name, value in expected.items() if not same(value, found[name])]
    assert not different, f"other numbers or shapes: {different}"


def same(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def run(graph, model, inputs):
    """The ONNX file's outputs; its inputs have the names and the layout of Keras's."""
    onnx.checker.check_model(onnx.load(graph), full_check=True)
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in model.inputs]
    assert [entry.name for entry in session.get_inputs()] == names
    return session.run(None, dict(zip(names, inputs)))


def train(model, inputs, outputs):
    """Three batches of `fit`: every number stays finite, and everything that is trained moves."""
    rng = np.random.default_rng(1)
    wanted = [rng.standard_normal((3 * len(value), *value.shape[1:])).astype("float32") for value in outputs]
    fed = [np.concatenate([value] * 3) for value in inputs]
    before = [np.array(value) for value in model.get_weights()]
    trained = {id(variable) for variable in model.trainable_variables}
    model.compile(optimizer=keras.optimizers.Adam(1e-5), loss="mse" if len(wanted) == 1 else ["mse"] * len(wanted))
    history = model.fit(files_keras.given(fed), files_keras.given(wanted), batch_size=len(inputs[0]), epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    after = model.get_weights()
    assert all(np.isfinite(value).all() for value in after if np.issubdtype(value.dtype, np.floating))
    moved = [
        not np.array_equal(old, new)
        for old, new, variable in zip(before, after, model.weights, strict=True)
        if id(variable) in trained
    ]
    assert sum(moved) > 0.9 * len(moved)


def test_a_compiled_model_comes_back_without_its_optimizer(client, network, workspace):
    """The state of an optimizer has the shapes of the original's weights; the reply says that it is gone."""
    for form in networks_keras.BOTH:
        original, inputs = network("sequential")
        source = workspace / f"compiled{form}"
        train(original, inputs, files_keras.predict(original, inputs))
        files_keras.write(original, source)
        output = workspace / f"half{form}"
        reply = client.compress(source, output, recommendation_ratio=RATIO)
        assert any("optimizer" in warning for warning in reply.warnings), reply.warnings
        assert not [name for name in files_keras.weights(output) if "optimizer" in name]
        compressed = files_keras.read(output)
        removed = [entry.to_json() for entry in reply.removed]
        whole = masking_keras.silence(files_keras.read(source), removed, False)
        verdict = masking_keras.judge(original, whole, compressed, inputs, TOLERANCE)
        assert verdict.status == "exact" and verdict.effect > 1e-3, f"{verdict}"
        train(compressed, inputs, files_keras.predict(compressed, inputs))
