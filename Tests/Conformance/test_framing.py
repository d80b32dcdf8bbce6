"""Bytes on the wire: rows F1 to F4, J1 and J2 of the robustness catalogue, against the process."""
import json
import random
import time

import pytest

from wire_session import MODELS, frame

MODEL = str(MODELS / "digits_resnet.onnx")
SESSION = [
    {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"processId": None}},
    {"jsonrpc": "2.0", "method": "initialized", "params": {}},
    {"jsonrpc": "2.0", "id": 2, "method": "ping"},
    {"jsonrpc": "2.0", "id": "näme", "method": "nonsense"},
    {"jsonrpc": "2.0", "id": 3, "method": "inspect", "params": {"model": MODEL}},
    {"jsonrpc": "2.0", "id": 4, "method": "shutdown"},
]


def pieces(data, seed):
    """How the bytes are split: one by one, all at once, or at random."""
    if seed == 0:
        return [data[i:i + 1] for i in range(len(data))]
    if seed == 1:
        return [data]
    generator, result = random.Random(seed), []
    while data:
        count = generator.randint(1, 1 << generator.randint(0, 8))
        result.append(data[:count])
        data = data[count:]
    return result


def test_any_split_gives_the_same_answers(sessions):  # F1
    answers = []
    for seed in range(12):
        session = sessions(initialize=False)
        # shutdown would cancel the inspection, so it is sent once that is answered.
        for piece in pieces(b"".join(map(frame, SESSION[:-1])), seed):
            session.send_bytes(piece)
        identifiers = [m["id"] for m in SESSION if "id" in m]
        got = [session.response(identifier) for identifier in identifiers[:-1]]
        for message in SESSION:
            session.transcript.insert(0, ("sent", message))
        session.send_bytes(frame(SESSION[-1]))
        got.append(session.response(4))
        got[3]["result"]["cached"] = None
        answers.append(json.dumps(got, sort_keys=True))
    assert len(set(answers)) == 1


@pytest.mark.parametrize("header", [
    b"\r\n", b"X: 1\r\n\r\n", b"Content-Length: 0\r\n\r\n", b"Content-Length: -1\r\n\r\n",
    b"Content-Length: 0x10\r\n\r\n", b"Content-Length: 1e3\r\n\r\n", b"Content-Length: " + b"9" * 31 + b"\r\n\r\n",
    b"Content-Length: 40\r\nContent-Length: 41\r\n\r\n", b"Content-Length: 40\n\n", b"Content-\0Length: 40\r\n\r\n",
    b"Content-Type: application/json; charset=utf-16\r\nContent-Length: 40\r\n\r\n",
    b"Content-Length: 99999999999\r\n\r\n", b"a" * (1 << 20), b"X: 1\r\n" * 100_000])
def test_what_is_not_framed_ends_the_connection(sessions, header):  # F2, F3
    session = sessions()
    session.send_bytes(header + b'{"jsonrpc":"2.0","id":9,"method":"ping"}')
    error = session.wait_for(lambda m: m.get("id", 0) is None)["error"]
    assert error["code"] == -32700
    session.wait_for_end(5)
    if header.startswith(b"Content-Length: 999"):
        assert "limit" in error["message"] or "Content-Length" in error["message"]


def test_a_length_that_is_wrong_by_one_ends_the_connection(sessions):  # F2
    body = b'{"jsonrpc":"2.0","id":9,"method":"ping"}'
    for wrong in (len(body) - 1, len(body) + 1):
        session = sessions()
        session.send_bytes(b"Content-Length: %d\r\n\r\n%s%s" % (wrong, body, frame({"jsonrpc": "2.0", "method": "x"})))
        assert session.wait_for(lambda m: m.get("id", 0) is None)["error"]["code"] == -32700
        session.wait_for_end(5)


def test_the_limit_is_the_longest_message(sessions):  # F4
    def ping(length):
        message = b'{"jsonrpc":"2.0","id":77,"method":"ping","pad":"' + b"x" * length
        return message[:length - 2] + b'"}'

    session = sessions("--max-message-bytes", 100_000)
    session.transcript.append(("sent", {"method": "ping", "id": 77}))
    session.send_bytes(frame(ping(100_000)))
    assert session.response(77)["result"] is None
    session.send_bytes(frame(ping(100_001)))
    assert session.wait_for(lambda m: m.get("id", 0) is None)["error"]["code"] == -32700
    session.wait_for_end(5)


def test_half_a_body_and_the_end_is_a_clean_exit(stdio):  # F4
    daemon = stdio()
    daemon.session.initialize()
    daemon.session.send_bytes(b'Content-Length: 100\r\n\r\n{"jsonrpc"')
    daemon.session.close_input()
    assert daemon.exit_status() == 1


@pytest.mark.parametrize("body", [
    b'{"a":"\xff"}', b'{"a":"\\ud800"}', b'\xef\xbb\xbf{}', b'{"a":"\\u0000"}', b'{"a":1,"a":2}',
    b"[" * 65 + b"]" * 65, b"[" * 1_000_000 + b"]" * 1_000_000, b'{"a":' * 1_000_000, b"{", b"nonsense",
    b"{" + b",".join(b'"k%d":0' % i for i in range(1_000_000)) + b"}",
], ids=["utf8", "surrogate", "bom", "nul", "duplicate", "65", "deep", "unclosed", "cut", "text", "members"])
def test_hostile_json_is_answered_and_survived(sessions, body):  # J1
    session = sessions()
    began = time.monotonic()
    session.send_bytes(frame(body))
    answer = session.wait_for(lambda m: m.get("id", 0) is None)
    assert answer["error"]["code"] == -32700
    assert time.monotonic() - began < 1.5
    assert session.result("ping") is None


def test_ids_are_integers_or_strings(sessions):  # J2
    session = sessions()
    for identifier in (0, -1, 2**63 - 1, "", "1", 1 << 40, "x" * (1 << 20)):
        session.request("ping", identifier=identifier)
        assert session.response(identifier)["result"] is None
    for text, code in ((b"9223372036854775808", -32700), (b"3.0", -32600), (b"null", -32600), (b"{}", -32600),
                       (b"true", -32600)):
        session.send_bytes(frame(b'{"jsonrpc":"2.0","id":%s,"method":"ping"}' % text))
        assert session.wait_for(lambda m: m.get("id", 0) is None)["error"]["code"] == code, text
    assert session.result("ping") is None
