"""A client that knows frames and nothing else, so that it can also send what no client should.

Every message that passes is kept in order; `check_transcript` holds what every session must obey: each request answered
exactly once, progress and parts of results only on tokens of requests not yet answered; progress as one begin, reports that never go
back, one end.
"""
import itertools
import json
import os
import pathlib
import queue
import socket
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "clients" / "python" / "examples" / "models"


def server_path():
    return os.environ.get("ESPALIER_SERVER") or str(ROOT / ".build" / "release" / "espalierd")


def frame(message):
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


# Long enough for any machine: who waits so long waits in vain.
PATIENCE = 120


class Session:
    """One connection: `write` takes bytes, `read` is a buffered binary file."""

    def __init__(self, write, read, close_input, close):
        self._write, self._read = write, read
        self.close_input, self.close = close_input, close
        self._ids = itertools.count(1)
        self._arrived = queue.Queue()
        self._seen = []
        self.transcript = []
        self.ended = threading.Event()
        self._reader = None
        self._may_read = threading.Event()
        self._may_read.set()

    def start_reading(self):
        if self._reader is None:
            self._reader = threading.Thread(target=self._collect, daemon=True)
            self._reader.start()

    def _collect(self):
        while True:
            self._may_read.wait()
            try:
                message = read_message(self._read)
            except ConnectionResetError:
                # A Unix socket closed with something unread at the other end.
                message = None
            if message is None:
                break
            self.transcript.append(("received", message))
            self._arrived.put(message)
        self.ended.set()
        self._arrived.put(None)

    def pause_reading(self):
        """Takes at most one more message until `resume_reading`."""
        self._may_read.clear()

    def resume_reading(self):
        self._may_read.set()

    # Sending

    def send_bytes(self, data):
        self._write(data)

    def send(self, message):
        self.transcript.append(("sent", message))
        self._write(frame(message))

    def request(self, method, params=None, identifier=None):
        identifier = next(self._ids) if identifier is None else identifier
        message = {"jsonrpc": "2.0", "id": identifier, "method": method}
        if params is not None:
            message["params"] = params
        self.send(message)
        return identifier

    def notify(self, method, params=None):
        message = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        self.send(message)

    # Receiving

    def wait_for(self, matches, seconds=PATIENCE):
        """The first message, received now or before and not yet taken, that `matches`."""
        self.start_reading()
        for index, message in enumerate(self._seen):
            if matches(message):
                return self._seen.pop(index)
        deadline = time.monotonic() + seconds
        while True:
            try:
                message = self._arrived.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"nothing such arrived within {seconds} s; there were {self._seen[-3:]}") from None
            assert message is not None, f"the connection ended; there were {self._seen[-3:]}"
            if matches(message):
                return message
            self._seen.append(message)

    def response(self, identifier, seconds=PATIENCE):
        def is_it(message):
            return "method" not in message and message.get("id") == identifier and type(message["id"]) is type(identifier)
        return self.wait_for(is_it, seconds)

    def call(self, method, params=None, seconds=PATIENCE):
        """The response, whole."""
        return self.response(self.request(method, params), seconds)

    def result(self, method, params=None, seconds=PATIENCE):
        answer = self.call(method, params, seconds)
        assert "result" in answer, answer
        return answer["result"]

    def error(self, method, params=None, seconds=PATIENCE):
        answer = self.call(method, params, seconds)
        assert "error" in answer, answer
        return answer["error"]

    def initialize(self, **params):
        result = self.result("initialize", {"processId": None, **params})
        self.notify("initialized", {})
        return result

    def wait_for_end(self, seconds=10):
        self.start_reading()
        assert self.ended.wait(seconds), "the daemon did not close the connection"

    # Checking

    def check_transcript(self, may_miss_answers=False):
        unanswered, tokens = [], {}
        for direction, message in list(self.transcript):
            if not isinstance(message, dict):
                continue
            if direction == "sent":
                if "method" in message and isinstance(message.get("id"), (int, str)):
                    unanswered.append(message["id"])
                    params = message.get("params") if isinstance(message.get("params"), dict) else {}
                    for name, stage in ("workDoneToken", "silent"), ("partialResultToken", "parts"):
                        token = params.get(name)
                        if isinstance(token, (int, str)) and token not in tokens:
                            tokens[token] = {"request": message["id"], "stage": stage, "percentage": 0}
            elif message.get("method") == "$/progress":
                check_progress(message["params"], tokens)
            elif "method" not in message:
                assert ("result" in message) != ("error" in message), message
                if message["id"] is None:
                    continue
                assert message["id"] in unanswered, f"an answer to nothing: {message}"
                unanswered.remove(message["id"])
                for name in [n for n, t in tokens.items() if t["request"] == message["id"]]:
                    assert tokens[name]["stage"] != "begun", "answered before the end of its progress"
                    del tokens[name]
        assert may_miss_answers or not unanswered, f"never answered: {unanswered}"


def check_progress(params, tokens):
    assert params["token"] in tokens, f"progress on a token that is nobody's: {params}"
    token, value = tokens[params["token"]], params["value"]
    if token["stage"] == "parts":
        return
    steps = {("silent", "begin"): "begun", ("begun", "report"): "begun", ("begun", "end"): "ended"}
    step = (token["stage"], value["kind"])
    assert step in steps, f"{value['kind']} at stage {token['stage']}"
    token["stage"] = steps[step]
    if "percentage" in value:
        assert token["percentage"] <= value["percentage"] <= 100, "percentages must not go back"
        token["percentage"] = value["percentage"]


def read_message(stream):
    """The next message; None at the end of the stream."""
    length = None
    while True:
        line = stream.readline()
        if not line:
            return None
        assert line.endswith(b"\r\n"), line
        if line == b"\r\n":
            break
        name, value = line.split(b":", 1)
        if name.lower() == b"content-length":
            length = int(value)
    body = stream.read(length)
    return json.loads(body) if len(body) == length else None


class StdioDaemon:
    """A daemon that is a child of the test."""

    def __init__(self, *arguments, stderr=subprocess.DEVNULL, **options):
        self.process = subprocess.Popen(
            [server_path(), *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, **options)
        self.session = Session(self._write, self.process.stdout, self._close_input, self.kill)

    def _write(self, data):
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # A daemon that refused what came before is gone, as it should be.

    def _close_input(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def exit_status(self, seconds=10):
        return self.process.wait(seconds)


class SocketDaemon:
    """A daemon that listens."""

    def __init__(self, path, *arguments, stderr=subprocess.DEVNULL):
        self.path = pathlib.Path(path)
        self.process = subprocess.Popen(
            [server_path(), "--pipe", str(path), *map(str, arguments)], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=stderr)

    def connect(self, seconds=5):
        deadline = time.monotonic() + seconds
        while True:
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                peer.connect(str(self.path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                peer.close()
                assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}"
                assert time.monotonic() < deadline, "the daemon does not listen"
                time.sleep(0.005)

        def write(data):
            try:
                peer.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # Closed for what was sent before.

        def close_input():
            try:
                peer.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        def close():
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            peer.close()

        return Session(write, peer.makefile("rb"), close_input, close)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
