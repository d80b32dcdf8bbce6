"""docs/protocol.schema.json, as a judge of messages.

It judges as the daemon reads: in params null means absent, and words may be written in any letter case. What the daemon
sends has no such freedom.
"""
import json

from jsonschema import Draft202012Validator, ValidationError, validators

from wire_session import ROOT

PATH = ROOT / "docs" / "protocol.schema.json"
SCHEMA = json.loads(PATH.read_text())
METHODS = SCHEMA["methods"]
DEFINITIONS = SCHEMA["$defs"]
_SENT, _RECEIVED = {}, {}


def _words_in_any_case(validator, words, value, schema):
    wanted = value.casefold() if isinstance(value, str) else value
    if not any((w.casefold() if isinstance(w, str) else w) == wanted and isinstance(w, bool) == isinstance(value, bool)
               for w in words):
        yield ValidationError(f"{value!r} is not one of {words!r}")


_Reader = validators.extend(Draft202012Validator, {"enum": _words_in_any_case})


def judge(definition, kind=Draft202012Validator, kept=_RECEIVED):
    """A validator of the definition, made once."""
    if definition not in kept:
        kept[definition] = kind({"$ref": f"#/$defs/{definition}", "$defs": DEFINITIONS})
    return kept[definition]


def complaints(definition, value):
    """What is wrong with a value that the daemon sent, as sentences; none is well."""
    return [f"{definition}{e.json_path[1:]}: {e.message[:300]}" for e in judge(definition).iter_errors(value)]


def complaints_about_params(method, params):
    """The same of what a client sends."""
    if isinstance(params, dict):
        params = {name: value for name, value in params.items() if value is not None}
    found = judge(METHODS[method]["params"], _Reader, _SENT).iter_errors(params)
    return [f"{method}{error.json_path[1:]}: {error.message[:300]}" for error in found]


def check_transcript(transcript):
    """Everything that a session received is as the schema says, and so is what it sent where the daemon took it.

    What the daemon calls wrong as written (-32602), the schema calls wrong too, unless one has to know more than the
    message for that: returns those, as (method, pointer).
    """
    asked, only_the_daemon_knows = {}, []
    for direction, message in transcript:
        if direction == "sent":
            asked[message.get("id")] = message
        elif "method" in message:
            entry = METHODS[message["method"]]
            wrong = complaints("Notification", message) + complaints(entry["params"], message["params"])
            assert entry["from"] == "daemon" and not wrong, wrong
        else:
            only_the_daemon_knows += check_answer(asked[message["id"]], message)
    return only_the_daemon_knows


def check_answer(request, answer):
    method, code = request["method"], answer.get("error", {}).get("code")
    wrong = complaints("Response", answer)
    if code is None:
        wrong += complaints(METHODS[method]["result"], answer["result"])
    assert not wrong, wrong
    if method not in METHODS:
        assert code == -32601, answer
    elif code == -32602:
        if not complaints_about_params(method, request.get("params")):
            return [(method, answer["error"]["data"]["path"])]
    elif code != -32002:
        wrong = complaints_about_params(method, request.get("params"))
        assert not wrong, f"the daemon takes what the schema does not: {wrong}"
    return []
