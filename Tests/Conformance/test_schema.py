"""docs/protocol.schema.json against the daemon: what it sends is what the schema says, member by member, in both
directions: nothing is sent that is not there, and nothing is there that is never sent.

protocol.md's examples are held to it by test_protocol_examples.py, the Python client's records by its own tests.
"""
import copy
import re

import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import hazards
import protocol_schema
import skeletons
from protocol_schema import DEFINITIONS, METHODS, SCHEMA, complaints, complaints_about_params
from wire_session import MODELS, ROOT

SOURCES = ROOT / "Sources"
RESNET = str(MODELS / "digits_resnet.onnx")
CALIBRATION = str(MODELS / "digits_calibration.npy")
ATTENTION = str(ROOT / "Tests" / "FormatsTests" / "Fixtures" / "wrapped.keras3.keras")


def objects():
    """(name, schema) of every object in the definitions, nested ones included."""
    def walk(name, schema):
        if isinstance(schema, dict):
            if "properties" in schema and "type" in schema:
                yield name, schema
            for key, member in schema.items():
                yield from walk(f"{name}/{key}", member)
        elif isinstance(schema, list):
            for index, member in enumerate(schema):
                yield from walk(f"{name}/{index}", member)
    return [found for name, schema in DEFINITIONS.items() for found in walk(name, schema)]


def test_the_schema_is_one_and_every_definition_is_used():
    Draft202012Validator.check_schema(SCHEMA)
    used = set(re.findall(r"#/\$defs/(\w+)", protocol_schema.PATH.read_text()))
    for entry in METHODS.values():
        used |= {entry["params"], entry.get("result", entry["params"])}
    assert used == set(DEFINITIONS)


def test_every_object_is_closed_so_that_drift_fails():
    assert not [name for name, schema in objects() if schema.get("additionalProperties") is not False]
    assert not [name for name, schema in objects() if not set(schema.get("required", [])) <= set(schema["properties"])]


def test_the_methods_are_the_daemons():
    table = re.findall(r'^    "(\S+)": \.', (SOURCES / "Server" / "RequestHandler.swift").read_text(), re.M)
    notifications = re.findall(
        r'case "(\S+)":', (SOURCES / "Server" / "Session" / "Session+Notifications.swift").read_text())
    requests = {name for name, entry in METHODS.items() if "result" in entry}
    assert requests == set(table)
    assert {n for n, e in METHODS.items() if "result" not in e and e["from"] == "client"} == {*notifications, "exit"}


def test_the_details_of_errors_are_the_daemons():
    """Members of `data` are named in the sources where failures are made."""
    named = set()
    for path in SOURCES.rglob("*.swift"):
        text = path.read_text()
        named |= set(re.findall(r'details\["(\w+)"\] = ', text))
        for start in re.finditer(r"details(?:: \[String: Failure\.Detail\])?(?::| =) \[", text):
            depth, end = 1, start.end()
            while depth and end < len(text):
                depth += {"[": 1, "]": -1}.get(text[end], 0)
                end += 1
            named |= set(re.findall(r'"(\w+)": ', text[start.end():end]))
    assert len(named) > 30, "the sources spell it otherwise than this test reads"
    assert set(DEFINITIONS["ErrorData"]["properties"]) == named | {"kind", "retryable", "path", "supported"}


def test_the_words_are_those_that_initialize_tells(stdio):
    capabilities = stdio().session.initialize()["capabilities"]
    assert DEFINITIONS["CompressionMethod"]["enum"] == capabilities["compression_methods"]
    assert DEFINITIONS["RecommendationMethod"]["enum"] == capabilities["recommendation_methods"]
    assert DEFINITIONS["ReconstructionMethod"]["enum"] == capabilities["reconstruction_methods"]
    assert DEFINITIONS["Format"]["enum"] == capabilities["formats"]["read"]
    options = DEFINITIONS["Options"]["properties"]
    assert list(options) == list(capabilities["options"]) == DEFINITIONS["OptionName"]["enum"]
    for name, told in capabilities["options"].items():
        if "values" in told:
            assert sorted(options[name]["enum"], key=str) == sorted(told["values"], key=str), name
        if told["default"] is not None:
            assert not complaints_about_params("recommend", {
                "model": "/m", "compression_method": "PR_L2", "recommendation_method": "SLAMP",
                "recommendation_ratio": 0.5, "options": {name: told["default"]}}), name


class Seen:
    """Which members of which definitions have been sent."""

    def __init__(self):
        self.members = set()

    def note(self, definition, value):
        schema = DEFINITIONS[definition] if isinstance(definition, str) else definition
        name = definition if isinstance(definition, str) else ""
        if "$ref" in schema:
            self.note(schema["$ref"].rsplit("/", 1)[1], value)
        for option in schema.get("oneOf", []):
            if "$ref" in option and value is not None:
                self.note(option, value)
        if isinstance(value, dict):
            for member, inner in value.items():
                if member in schema.get("properties", {}):
                    self.members.add((name, member))
                    self.note(schema["properties"][member], inner)
        elif isinstance(value, list) and isinstance(schema.get("items"), dict):
            for element in value:
                self.note(schema["items"], element)


def zoo(folder, name, exporter="torchscript"):
    path = folder / f"{name}.onnx"
    onnx.save(skeletons.materialize(name, exporter), path)
    return str(path)


def stale_normalization(folder):
    """A normalization behind a weight that is computed, of statistics that pruning changes."""
    rng = np.random.default_rng(3)
    stored = {"first": rng.normal(size=(8, 3, 1, 1)), "bias": np.linspace(0, 8, 8), "raw": rng.normal(size=(4, 8, 3, 3)),
              "two": np.array(2.0), "scale": np.ones(4), "shift": np.zeros(4), "mean": np.zeros(4), "var": np.ones(4)}
    nodes = [helper.make_node("Conv", ["x", "first", "bias"], ["a"], "first"),
             helper.make_node("Mul", ["raw", "two"], ["weight"], "weight"),
             helper.make_node("Conv", ["a", "weight"], ["b"], "second"),
             helper.make_node("BatchNormalization", ["b", "scale", "shift", "mean", "var"], ["y"], "norm")]
    tensors = {name: numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()}
    shapes = [helper.make_tensor_value_info(name, 1, ["n", *rest]) for name, rest in (("x", [3, 6, 6]), ("b", [4, 4, 4]))]
    graph = helper.make_graph(nodes[:3], "net", shapes[:1], shapes[1:], list(tensors.values()))
    opset = dict(opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    images = rng.normal(size=(64, 3, 6, 6)).astype(np.float32)
    before = ReferenceEvaluator(helper.make_model(graph, **opset)).run(None, {"x": images})[0]
    for name, numbers in (("mean", before.mean((0, 2, 3))), ("var", before.var((0, 2, 3)))):
        tensors[name].CopyFrom(numpy_helper.from_array(numbers, name))
    shapes[1].name = "y"
    np.save(folder / "images.npy", images)
    onnx.save(helper.make_model(helper.make_graph(nodes, "net", shapes[:1], shapes[1:], list(tensors.values())), **opset),
              folder / "stale.onnx")
    return str(folder / "stale.onnx"), str(folder / "images.npy")


def conversation(session, folder):
    """One of everything that a daemon answers. Results only."""
    def output(name="o.onnx"):
        return str(folder / name)

    def compress(model, output_path, **params):
        return session.result("compress", {"model": model, "overwrite": True, "output_path": output_path, **params})

    def by(method, **goal):
        return {"compression_method": method, "recommendation_method": "VBMF" if method[0] == "F" else "SLAMP",
                **(goal or {"recommendation_ratio": 0.5})}

    few, fine = str(folder / "few.npy"), {"step_size": 1, "min_num_of_value": 1}
    np.save(few, np.load(CALIBRATION)[:64])
    grouped, transformer, shared = zoo(folder, "wav2vec2"), zoo(folder, "gpt2"), str(folder / "shared.onnx")
    onnx.save(hazards.everything()["bias_shared_by_two_layers"](), shared)
    for model in (RESNET, grouped, transformer, shared, MODELS / "digits_resnet.keras", MODELS / "digits_resnet.pt2"):
        session.result("inspect", {"model": str(model)})
    session.result("inspect", {"model": {"path": str(MODELS / "digits_resnet.pt"), "format": "torch.fx"},
                               "input_shapes": [{"batch": 1, "channel": 1, "dimension": [8, 8]}], "workDoneToken": "t"})
    session.result("recommend", {"model": RESNET, **by("PR_GROUP_L2", target={"macs": 0.5})})
    session.result("recommend", {"model": transformer, **by("PR_L2"), "options": {"group_policy": "count"}})
    session.result("recommend", {"model": RESNET, **by("PR_L2", target={"parameters": 0.5})})
    session.result("recommend", {"model": RESNET, **by("FD_TK", target={"size_bytes": 0.5})})
    for measure in ("parameters", "macs", "size_bytes"):
        session.result("recommend", {"model": RESNET, "target": {measure: 0.5}, "options": fine})
    automatic = {"model": RESNET, "target": {"macs": 0.5}, "options": fine, "dataset_path": few}
    advice = session.result("recommend", {**automatic, "reconstruct": "least_squares"})
    session.result("compress", {**automatic, "dry_run": True})
    session.result("compress", {"model": RESNET, "layers": advice["available_layers"], "options": fine, "dry_run": True,
                                "dataset_path": few, "reconstruct": "least_squares"})
    session.result("recommend", {"model": RESNET, **by("PR_REC"), "dataset_path": CALIBRATION})
    session.result("recommend", {"model": RESNET, **by("FD_TK")})
    session.result("recommend", {"model": RESNET, **by("FD_SVD", target={"energy": 0.9}), "dataset_path": CALIBRATION})
    session.result("sensitivity", {"model": RESNET, "dataset_path": CALIBRATION, "ratios": [0.5]})
    session.result("sensitivity", {"model": RESNET, "dataset_path": CALIBRATION, "partialResultToken": "groups"})
    advice = session.result("recommend", {"model": RESNET, **by("PR_NN"), "dataset_path": CALIBRATION})
    compress(RESNET, output(), compression_method="PR_L2", layers=advice["available_layers"])
    compress(grouped, output(), **by("PR_L2"), options={"group_policy": "count"})
    compress(shared, output(), **by("PR_L2"), options=fine)
    made = compress(transformer, output("t.onnx"), **by("PR_L2"), verify=True)
    session.result("verify", {"model": transformer, "compressed": output("t.onnx"), "removed": made["removed"],
                              "copied": made["copied"], "dataset_path": None})
    made = compress(RESNET, output("s.onnx"), **by("FD_SVD", target={"energy": 0.9}), dataset_path=CALIBRATION,
                    verify=True)
    session.result("verify", {"model": RESNET, "compressed": output("s.onnx"), "replaced": made["replaced"],
                              "adjusted": made["adjusted"], "dataset_path": CALIBRATION})
    compress(RESNET, output(), **by("PR_L2"), dataset_path=few, reconstruct="least_squares")
    model, images = stale_normalization(folder)
    compress(model, output(), compression_method="PR_ID", dataset_path=images, reconstruct="least_squares",
             layers=[{"name": "first", "values": [6, 7], "use": True}])
    compress(ATTENTION, output("k.keras"), **by("PR_L2"), options={**fine, "scope": "layer"})
    session.result("compress", {"model": RESNET, **by("PR_L2"), "dry_run": True, "reconstruct": "bias"})
    session.result("models")
    session.result("release", {"model": RESNET})
    session.result("release")


@pytest.fixture(scope="module")
def transcript(tmp_path_factory):
    from wire_session import StdioDaemon

    daemon = StdioDaemon()
    try:
        daemon.session.initialize()
        conversation(daemon.session, tmp_path_factory.mktemp("schema"))
    finally:
        daemon.kill()
    return daemon.session.transcript


def results(transcript):
    asked = {m["id"]: m["method"] for direction, m in transcript if direction == "sent" and "id" in m}
    return [(METHODS[asked[m["id"]]]["result"], m["result"])
            for direction, m in transcript if direction == "received" and "result" in m]


def test_what_the_daemon_sends_is_what_the_schema_says(transcript):
    assert protocol_schema.check_transcript(transcript) == []


def test_what_the_schema_says_is_sent(transcript):
    seen = Seen()
    for definition, result in results(transcript):
        seen.note(definition, result)
    replied = {method["result"] for method in METHODS.values() if "result" in method}
    reached, todo = set(), list(replied)
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += re.findall(r"#/\$defs/(\w+)", str(DEFINITIONS[name]))
    told = {(name, member) for name in reached for member in DEFINITIONS[name].get("properties", {})
            if name not in ("InitializeResult", "Capabilities", "OptionDescription")}
    assert told - seen.members == set()


def test_drift_is_noticed(transcript):
    """A reply with any one member renamed, left out where it must be there, or of another type is not the schema's."""
    by_definition = dict(results(transcript))
    for definition in {"Inspection", "Recommendation", "Compression", "Verification", "PredictedSensitivity"}:
        reply = by_definition[definition]
        assert not complaints(definition, reply)
        for member in reply:
            renamed = {("x_" + name if name == member else name): value for name, value in reply.items()}
            assert complaints(definition, renamed), member
            assert complaints(definition, {**reply, member: {"of": "another type"}}), member
    layers = copy.deepcopy(by_definition["Inspection"])
    layers["layers"][0]["methods"].append("PR_L3")
    assert complaints("Inspection", layers)


@pytest.mark.parametrize("error", [
    {"code": -32803, "message": "m"}, {"code": -32803, "message": "m", "data": {"kind": "busy", "retryable": False}},
    {"code": -32803, "message": "m", "data": {"kind": "no.such", "retryable": False}},
    {"code": -32602, "message": "m", "data": {"path": "model"}}, {"code": -32602, "message": "m"},
    {"code": 1, "message": "m"},
    {"code": -32803, "message": "m", "data": {"kind": "target.unreachable", "retryable": False}}])
def test_the_schema_refuses_errors_that_are_none(error):
    assert complaints("Error", error)
