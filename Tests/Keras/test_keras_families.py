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


@pytest.fixture(scope="module")
def proved():
    """By network: what its first file lost, and the weights and outputs of what came of it, which were right."""
    return {}


def parameters(model):
    """How often a Normalization was adapted is a weight for Keras, and what was measured of a kernel, but nothing that the
    network computes with; one number for all is none of its parameters for us."""
    uncounted = [weight for weight in model.weights if not weight.shape or weight.name == "vector_u"]
    return model.count_params() - sum(int(np.prod(weight.shape)) for weight in uncounted)


@pytest.mark.parametrize("name, form", CASES)
def test_pruned_equals_masked_and_trains(client, network, proved, workspace, name, form):
    settings = networks_keras.NETWORKS[name]
    half = Half(client, settings, *network(name), form, workspace)
    if name in networks_keras.APPLICATIONS and name in proved:
        half.hold_to_another(*proved[name])
        return
    proved[name] = half.told()
    half.prove_and_train()


class Half:
    """A network of which half was removed, as the reply says."""

    def __init__(self, client, settings, original, inputs, form, workspace):
        self.settings, self.original, self.inputs = settings, original, inputs
        self.source = files_keras.write(original, workspace / f"original{form}")
        self.again = workspace / f"again{form}"
        output, graph = workspace / f"half{form}", workspace / f"half{form}.onnx"
        besides = {"onnx_output_path": graph} if settings.runs else {}
        self.reply = reply = client.compress(self.source, output, recommendation_ratio=RATIO, **besides)
        assert reply.original.parameters == parameters(original)
        assert reply.compressed.parameters < settings.left * reply.original.parameters, "hardly anything was removed"
        assert reply.compressed.macs < reply.original.macs
        self.removed = [entry.to_json() for entry in reply.removed]
        hold_to_the_reply(original, self.source, output, reply)

        self.compressed = compressed = files_keras.read(output)
        assert reply.compressed.parameters == parameters(compressed)
        assert type(compressed) is type(original)
        assert [layer.name for layer in compressed.layers] == [layer.name for layer in original.layers]
        self.predicted = files_keras.predict(compressed, inputs)
        # ONNX Runtime adds in another order.
        assert not settings.runs or masking_keras.distance(self.predicted, run(graph, compressed, inputs)) <= 10 * TOLERANCE

    def told(self):
        return self.removed, self.compressed.get_weights(), self.predicted

    def hold_to_another(self, removed, weights, predicted):
        """Large ones are proved and trained in one form. In the other they are the same network, number by number."""
        assert self.removed == removed and all(map(same, self.compressed.get_weights(), weights))
        assert masking_keras.distance(predicted, self.predicted) <= TOLERANCE

    def prove_and_train(self):
        whole = masking_keras.silence(files_keras.read(self.source), self.removed, self.settings.products)
        verdict = masking_keras.judge(self.original, whole, self.compressed, self.inputs, TOLERANCE)
        assert verdict.status != "wrong", f"{verdict}"
        assert verdict.effect > 1e-3, "what was removed had no effect: nothing was proved"
        assert bool(verdict.mixing) == bool(self.reply.verification.approximations), f"{verdict}"
        if not verdict.mixing:
            assert masking_keras.distance(files_keras.called(whole, self.inputs), self.predicted) <= TOLERANCE
        train(self.compressed, self.inputs, self.predicted)
        hold_what_was_saved(self.compressed, self.inputs, self.again)
        return verdict


def hold_what_was_saved(model, inputs, path):
    """That Keras saves the model again, and has the same one back."""
    again = files_keras.read(files_keras.write(model, path))
    assert all(map(same, again.get_weights(), model.get_weights()))
    assert masking_keras.distance(files_keras.called(model, inputs), files_keras.called(again, inputs)) <= TOLERANCE


def hold_to_the_reply(model, source, output, reply):
    """Of what the original file holds, everything but the slices that the reply says were removed; `model` is what Keras
    makes of it."""
    datasets = files_keras.datasets(model, source)
    removed, adjusted = (
        kernels.by_dataset([entry.to_json() for entry in entries], datasets) for entries in (reply.removed, reply.adjusted)
    )
    expected = kernels.remaining(files_keras.weights(source), removed, adjusted)
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
    """Two batches of `fit`: every number stays finite, and everything that is trained moves."""
    rng = np.random.default_rng(1)
    wanted = [rng.standard_normal((2 * len(value), *value.shape[1:])).astype("float32") for value in outputs]
    fed = [np.concatenate([value] * 2) for value in inputs]
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
