"""Every example in protocol.md, executed against the daemon; what goes over the wire is what the schema says."""
import json
import re
import shutil

import pytest

import protocol_schema
from wire_session import MODELS, ROOT

BLOCK = re.compile(r"^```json (request|response|notification|message)\n(.*?)^```$", re.M | re.S)
KINDS = {"request", "response", "notification", "message"}


def sections():
    """(heading, [(kind, text)]) for every heading that has examples."""
    text = (ROOT / "protocol.md").read_text()
    fences = re.findall(r"^```(.*)$", text, re.M)
    assert all(f == "" or f.removeprefix("json ") in KINDS for f in fences), f"a fence that nothing executes: {fences}"
    found = []
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        blocks = BLOCK.findall(part)
        if blocks:
            found.append((part.split("\n", 1)[0], blocks))
    return found


ANYTHING = "\0anything"


def parse_pattern(text):
    """JSON in which `...` stands for any value or, as last member or element, for any more of them."""
    pieces, stack, position = [], [], 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|\.\.\.|[\[\]{}]', text):
        pieces.append(text[position:match.start()])
        position = match.end()
        token = match.group()
        if token in "[{":
            stack.append(token)
        elif token in "]}":
            stack.pop()
        elif token == "...":
            is_member = stack and stack[-1] == "{" and text[:match.start()].rstrip()[-1] in "{,"
            token = json.dumps(ANYTHING) + (": 0" if is_member else "")
        pieces.append(token)
    return json.loads("".join(pieces) + text[position:])


def check(pattern, value, where="$"):
    if pattern == ANYTHING:
        return
    if isinstance(pattern, dict):
        assert isinstance(value, dict), f"{where}: expected an object, found {value!r}"
        is_open = ANYTHING in pattern
        expected = [k for k in pattern if k != ANYTHING]
        missing = [k for k in expected if k not in value]
        assert not missing, f"{where}: {missing} missing in {value}"
        more = [k for k in value if k not in pattern]
        assert is_open or not more, f"{where}: {more} not in the example"
        for name in expected:
            check(pattern[name], value[name], f"{where}.{name}")
    elif isinstance(pattern, list):
        assert isinstance(value, list), f"{where}: expected an array, found {value!r}"
        is_open = bool(pattern) and pattern[-1] == ANYTHING
        expected = pattern[:-1] if is_open else pattern
        assert len(value) >= len(expected) if is_open else len(value) == len(expected), f"{where}: {value}"
        for index, element in enumerate(expected):
            check(element, value[index], f"{where}[{index}]")
    else:
        assert type(pattern) is type(value) and pattern == value, f"{where}: expected {pattern!r}, found {value!r}"


@pytest.mark.parametrize("heading,blocks", sections(), ids=lambda v: v if isinstance(v, str) else "")
def test_examples(heading, blocks, stdio, tmp_path):
    models, output = tmp_path / "models", tmp_path / "output"
    shutil.copytree(MODELS, models)
    output.mkdir()

    def real(text):
        return text.replace("/models/", f"{models}/").replace("/output/", f"{output}/")

    daemon = stdio()
    session = daemon.session
    if not any('"method": "initialize"' in text for _, text in blocks):
        session.initialize()
    last_request = None
    for kind, text in blocks:
        if kind in ("request", "notification"):
            message = json.loads(real(text))
            assert (kind == "request") == ("id" in message), text
            session.send(message)
            last_request = message.get("id", last_request)
        else:
            pattern = parse_pattern(real(text))
            if kind == "response":
                found = session.response(pattern["id"])
                assert pattern["id"] == last_request, "a response follows its request"
            else:
                found = session.wait_for(lambda m: m.get("method") == pattern["method"])
            check(pattern, found)
    if any('"method": "exit"' in text for _, text in blocks):
        assert daemon.exit_status() == 0
    session.check_transcript()
    # All that the examples get wrong as written can be seen in the message.
    assert protocol_schema.check_transcript(session.transcript) == []


def test_the_document_has_examples_of_every_method():
    methods = {json.loads(text)["method"] for _, blocks in sections() for kind, text in blocks
               if kind in ("request", "notification")}
    assert methods >= {"initialize", "initialized", "shutdown", "exit", "ping", "inspect", "recommend", "compress", "verify",
                       "models", "release", "daemon/stop", "$/cancelRequest", "$/setTrace"}


@pytest.mark.parametrize("pattern,value", [
    ('{"a": 1}', {"a": 2}), ('{"a": 1}', {"a": 1, "b": 2}), ('{"a": 1, ...}', {"b": 1}), ("[1, ...]", []),
    ("[1]", [1, 2]), ("[...]", {}), ('{"a": [..., 1]}', {"a": [5, 2]}), ("1", 1.0), ("null", 0), ("{...}", [])])
def test_the_comparison_can_fail(pattern, value):
    with pytest.raises(AssertionError):
        check(parse_pattern(pattern), value)
