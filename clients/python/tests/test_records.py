"""The client's records and requests have the members of docs/protocol.schema.json, no more and no fewer; the editors'
plugins read none that is not there."""

import dataclasses
import inspect
import json
import re
from pathlib import Path
from typing import get_type_hints

import pytest

import espalier
from espalier import errors, requests, results

REPOSITORY = Path(__file__).resolve().parents[3]
SCHEMA = json.loads((REPOSITORY / "docs" / "protocol.schema.json").read_text())
DEFINITIONS = SCHEMA["$defs"]
RECORDS = {
    name: record
    for name, record in vars(results).items()
    if dataclasses.is_dataclass(record) and record.__module__ == results.__name__
}
# Objects of replies that the client leaves as dictionaries, or takes apart.
PLAIN = {
    "Balance", "Certificate", "Requested", "Achieved", "Saved", "CachedModels", "Released", "InitializeResult", "Capabilities",
    "OptionDescription",
}  # fmt: skip


def replied() -> set:
    """Names of all objects in replies."""
    found, todo = set(), [entry["result"] for entry in SCHEMA["methods"].values() if "result" in entry]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += re.findall(r"#/\$defs/(\w+)", json.dumps(DEFINITIONS[name]))
    return {name for name in found if DEFINITIONS[name].get("type") == "object"}


def test_every_object_of_a_reply_is_a_record():
    assert set(RECORDS) == replied() - PLAIN


@pytest.mark.parametrize("name", RECORDS)
def test_records_have_the_members_of_the_schema(name):
    fields = {field.name: field for field in dataclasses.fields(RECORDS[name]) if field.name != "raw"}
    schema = DEFINITIONS[name]
    assert set(fields) == set(schema["properties"])
    required = {
        field.name for field in fields.values()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }  # fmt: skip
    assert required <= set(schema["required"]), "the client insists on what need not be there"
    hints = get_type_hints(RECORDS[name])
    nullable = {member for member in schema["required"] if "null" in json.dumps(schema["properties"][member])}
    assert not [member for member in nullable if type(None) not in getattr(hints[member], "__args__", ())]


@pytest.mark.parametrize(
    "function, definition",
    [
        (requests.inspect, "InspectParams"),
        (requests.recommend, "RecommendParams"),
        (requests.compress, "CompressParams"),
        (requests.sensitivity, "SensitivityParams"),
        (requests.verify, "VerifyParams"),
        (requests.release, "ReleaseParams"),
    ],
)
def test_requests_have_the_params_of_the_schema(function, definition):
    named = set(inspect.signature(function).parameters) - {"progress", "timeout", "on_group"}
    if "compression" in named:  # `verify` takes the reply instead of its members
        named = named - {"compression"} | {"removed", "copied", "replaced", "adjusted"}
    assert named == set(DEFINITIONS[definition]["properties"]) - {"workDoneToken", "partialResultToken"}


def test_words_are_those_of_the_schema():
    assert list(espalier.COMPRESSION_METHODS) == DEFINITIONS["CompressionMethod"]["enum"]
    assert set(espalier.Options.__annotations__) == set(DEFINITIONS["Options"]["properties"])
    codes = {value for name, value in vars(errors).items() if name.isupper()}
    assert codes == set(DEFINITIONS["Error"]["properties"]["code"]["enum"])


def members() -> set:
    return {
        member for definition in DEFINITIONS.values() for member in definition.get("properties", {}) if "_" in member
    }


@pytest.mark.parametrize("folder, pattern", [("clients/vscode/src", "*.js"), ("clients/neovim/lua", "*.lua")])
def test_editors_read_what_is_sent(folder, pattern):
    """Members of several words; what an editor defines, calls, or has from its editor is its own."""
    text = "\n".join(path.read_text() for path in sorted((REPOSITORY / folder).rglob(pattern)))
    text = re.sub(r"vim\.(?:\w+\.)*\w+|nvim_\w+|require\S+|health\.\w+", "", text)
    defined = set(re.findall(r"function \w+[.:](\w+)", text))
    used = set(re.findall(r"\.([a-z]+(?:_[a-z]+)+)\b(?! *[=(])", text)) - defined
    assert used <= members() and "available_layers" in used, used - members()
