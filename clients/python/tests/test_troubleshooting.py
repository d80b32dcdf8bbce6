"""docs/troubleshooting.md has every kind of error that the daemon can send, and says what the daemon says."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import espalier
from test_espalierd import MODELS, MOBILE, RESNET

REPOSITORY = MODELS.parents[3]
PAGE = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
SOURCES = "\n".join(path.read_text() for path in sorted((REPOSITORY / "Sources").rglob("*.swift")))
# What a Failure becomes on the wire is a response without a kind; those two kinds never leave the daemon.
INTERNAL = {"params.invalid", "cancelled"}


def sections() -> dict:
    """By kind, the messages of its section."""
    found = {}
    for part in re.split(r"^### ", PAGE, flags=re.M)[1:]:
        (kind,) = re.findall(r"^`(\S+)`\n", part)
        found[kind] = re.findall(r"^> (.*)$", part.split("\n## ")[0], re.M)
    return found


def sent() -> set:
    """The kinds in the sources: those of Failure, and those of the session itself."""
    source = (REPOSITORY / "Sources" / "ModelGraph" / "Failure.swift").read_text()
    failures = re.search(r"enum Kind: .*?\n  }", source, re.S).group()
    kinds = set(re.findall(r'= "([\w.]+)"', failures)) | set(re.findall(r"^    case (\w+)$", failures, re.M))
    own = set(re.findall(r'requestFailed\("([\w.]+)"', SOURCES)) | set(re.findall(r'"kind": "([\w.]+\.\w+)"', SOURCES))
    return (kinds | own) - INTERNAL


def test_page_protocol_schema_and_sources_list_the_same_kinds():
    table = (REPOSITORY / "protocol.md").read_text().split("\n## Errors\n")[1].split("\n```")[0]
    schema = json.loads((REPOSITORY / "docs" / "protocol.schema.json").read_text())
    kinds = sent()
    assert len(kinds) >= 30 and "model.notFound" in kinds and "nothingToCompress" in kinds and "busy" in kinds
    assert set(sections()) == kinds
    assert set(re.findall(r"^\| `([\w.]+)` \|", table, re.M)) == kinds
    assert set(schema["$defs"]["ErrorKind"]["enum"]) == kinds
    assert all(sections().values()), "every kind has an example of its message"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Everything that can be wrong with files."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(RESNET, "model.onnx")
    shutil.copy(MOBILE, "mobile.onnx")
    shutil.copy(MODELS / "digits_resnet.pt", "model.pt")
    shutil.copy(MODELS / "digits_resnet.keras", "model.keras")
    shutil.copy(RESNET, "smaller.onnx")
    Path("cut.onnx").write_bytes(RESNET.read_bytes()[:300000])
    images = np.load(MODELS / "digits_calibration.npy")
    np.save("images.npy", images)
    np.save("double.npy", images.astype("float64"))
    np.save("nan.npy", images * np.float32("nan"))
    Path("cut.npy").write_bytes(Path("images.npy").read_bytes()[:5000])
    Path("empty").mkdir()
    os.mkfifo("pipe")
    Path("notes.onnx").write_text("not a network, but a text")
    model = onnx.load("model.onnx")
    tensor = next(t for t in model.graph.initializer if t.name == "stem.0.weight")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret.bin")
    Path("outside.onnx").write_bytes(model.SerializeToString())
    shape = [1, 3, 8, 8]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    weights = [numpy_helper.from_array(np.ones((o, i, 1, 1), "f"), name) for o, i, name in ((16, 3, "v"), (3, 16, "w"))]
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["a"]), helper.make_node("Conv", ["a", "w"], ["b"]),
        helper.make_node("Odd", ["b"], ["y"], domain="com.example"),
    ]  # fmt: skip
    graph = helper.make_graph(nodes, "odd", ports[:1], ports[1:], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    Path("odd.onnx").write_bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())
    return tmp_path


def asked(client):
    """What to ask for each kind, once or more."""
    half = {"recommendation_ratio": 0.5}
    maps = {"compression_method": "PR_NN", **half}

    def recommend(**request):
        return lambda: client.recommend("model.onnx", **request)

    def compress(model, output, **request):
        return lambda: client.compress(model, output, **request)

    gemm = espalier.LayerSetting("/classifier/Gemm", [0])
    return [
        ("model.notFound", lambda: client.inspect("modell.onnx")),
        ("model.unreadable", lambda: client.inspect(".")),
        ("model.unsupportedFormat", lambda: client.inspect("notes.onnx")),
        ("model.malformed", lambda: client.inspect("cut.onnx")),
        ("model.unsafe", lambda: client.inspect("outside.onnx")),
        ("model.inputShapes", lambda: client.inspect("model.pt")),
        ("model.inputShapes", lambda: client.inspect("model.onnx", input_shapes=[{"shape": [1, 3, 8, 8]}])),
        ("option.invalidCombination", recommend(recommendation_method="VBMF", **half)),
        ("layer.unknown", recommend(options={"exclude": ["*/head/*"]}, **half)),
        ("layer.unavailable", compress("model.onnx", "o.onnx", compression_method="PR_ID", layers=[gemm])),
        ("nothingToCompress", compress("model.onnx", "o.onnx", options={"min_num_of_value": 100}, **half)),
        ("nothingToCompress", compress("mobile.onnx", "o.onnx", compression_method="FD_TK", recommendation_ratio=0)),
        ("target.unreachable", recommend(target={"macs": 0.01})),
        ("dataset.required", recommend(**maps)),
        ("dataset.notFound", recommend(dataset_path="image.npy", **maps)),
        ("dataset.notFound", recommend(dataset_path="empty", **maps)),
        ("dataset.unreadable", recommend(dataset_path="pipe", **maps)),
        ("dataset.malformed", recommend(dataset_path="cut.npy", **maps)),
        ("dataset.mismatch", recommend(dataset_path="double.npy", **maps)),
        ("dataset.nonFinite", recommend(dataset_path="nan.npy", **maps)),
        ("runtime.failed", compress("odd.onnx", "o.onnx", verify=True, **half)),
        ("output.exists", compress("model.onnx", "smaller.onnx", **half)),
        ("output.unwritable", compress("model.onnx", "nowhere/smaller.onnx", **half)),
        ("verify.impossible", compress("model.onnx", "o.onnx", verify=True, dataset_path="nan.npy", **half)),
    ]


def is_message(quoted: str, message: str) -> bool:
    """Whether the page's message, which leaves parts out, is the daemon's."""
    return re.fullmatch(".*".join(re.escape(part.strip()) for part in quoted.split("…")), message, re.S) is not None


def refusal(request) -> espalier.ServerError:
    with pytest.raises(espalier.ServerError) as caught:
        request()
    return caught.value


def test_the_messages_are_what_the_daemon_says(espalierd, folder, monkeypatch):
    said = []
    with espalier.Client(espalierd, progress=False) as client:
        said += [(kind, refusal(request)) for kind, request in asked(client)]
    with espalier.Client([espalierd, "--onnxruntime", str(folder / "nothing")], progress=False) as client:
        (folder / "nothing").mkdir()
        request = {"recommendation_ratio": 0.5, "compression_method": "PR_NN", "dataset_path": "images.npy"}
        said.append(("runtime.unavailable", refusal(lambda: client.recommend("model.onnx", **request))))
    with espalier.Client([espalierd, "--max-message-bytes", "4000"], progress=False) as client:
        said.append(("resource.limit", refusal(lambda: client.inspect("model.onnx"))))
    monkeypatch.setenv("ESPALIER_HDF5", "/nonexistent")
    with espalier.Client(espalierd, progress=False) as client:
        said.append(("runtime.unavailable", refusal(lambda: client.inspect("model.keras"))))
    page = sections()
    confirmed = set()
    for kind, error in said:
        message = error.message.replace(str(folder), "/models")
        assert error.kind == kind, message
        matching = [quoted for quoted in page[kind] if is_message(quoted, message)]
        assert matching, f"{kind}: {message}"
        confirmed |= set(matching)
    # What is not brought about here is at least how the sources put it: the longest words in a row that do not vary.
    told = re.sub(r'"\s*\n?\s*\+\s*"', "", SOURCES)
    for quoted in {quoted for quotes in page.values() for quoted in quotes} - confirmed:
        span = min(18, len(quoted))
        assert any(quoted[k : k + span] in told for k in range(len(quoted) - span + 1)), quoted


def test_wrong_requests_are_told_as_the_page_says(espalierd, folder):
    quoted = re.findall(r"^> (.*)$", PAGE.split("## A request that is wrong")[1].split("\n## ")[0], re.M)
    with espalier.Client(espalierd, progress=False) as client:
        said = [
            refusal(lambda: client.recommend("model.onnx", recommendation_ratio=0.5, options={"step_sise": 4})),
            refusal(lambda: client.recommend("model.onnx", recommendation_ratio=3)),
        ]
    assert [error.path for error in said] == ["/options/step_sise", "/recommendation_ratio"]
    assert all(is_message(text, error.message) for text, error in zip(quoted, said, strict=True))
