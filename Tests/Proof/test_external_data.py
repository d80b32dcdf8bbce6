"""Models whose weights lie in other files: pruned like any, the layout kept, the originals untouched."""

import hostile
import onnx
import pytest

import plans


def save(folder, one_file):
    path = folder / "model.onnx"
    location = "model.data" if one_file else None
    options = {"save_as_external_data": True, "all_tensors_to_one_file": one_file, "size_threshold": 64}
    onnx.save_model(hostile.good(), path, location=location, **options)
    return path


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.mark.parametrize("one_file", [True, False])
@pytest.mark.parametrize("beside", [True, False])
def test_external_weights_are_pruned(client, tmp_path, one_file, beside):
    path = save(tmp_path, one_file)
    before = contents(tmp_path)
    folder = tmp_path if beside else tmp_path / "elsewhere"
    folder.mkdir(exist_ok=True)
    case = plans.Case("SLAMP", {"recommendation_ratio": 0.4, "options": plans.STRESS})
    proof = plans.prove(client, onnx.load(path), path, folder, case)
    assert proof.elements_removed > 0
    assert {name: data for name, data in contents(tmp_path).items() if name in before} == before
    held = onnx.load(folder / "compressed.onnx", load_external_data=False)
    original = onnx.load(path, load_external_data=False)
    external = {t.name for t in original.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL}
    assert external == {t.name for t in held.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL}
    files = {e.value for t in held.graph.initializer for e in t.external_data if e.key == "location"}
    assert len(files) == (1 if one_file else len(external))


def test_existing_data_of_the_output_is_kept(client, tmp_path):
    """A file that would hold the output's weights exists: nothing is written over it unasked."""
    path = save(tmp_path, True)
    other = tmp_path / "other"
    other.mkdir()
    client.compress(path, other / "output.onnx", recommendation_ratio=0.4)
    data = next(name for name in contents(other) if name != "output.onnx")
    (tmp_path / data).write_bytes(b"precious")
    before = contents(tmp_path)
    with pytest.raises(plans.espalier.ServerError) as refusal:
        client.compress(path, tmp_path / "output.onnx", recommendation_ratio=0.4)
    assert refusal.value.kind == "output.exists"
    assert contents(tmp_path) == before
