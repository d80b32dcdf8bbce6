"""A server with a script instead of a brain, for the client's tests: python fake_server.py SCRIPT --stdio.

SCRIPT is JSON: {method: [step, ...]}. A step is sent as it stands, with "$id" and "$token" replaced by the request's;
or it is {"do": ...}, see `perform`. Progress that nobody asked for is not sent.
Methods without a script are answered with null, `initialize` with a name. What was received is appended to the file
named by FAKE_SERVER_LOG, one message a line.
"""

import json
import os
import signal
import sys
import time


def read():
    length = None
    while True:
        line = sys.stdin.buffer.readline()
        if not line:
            return None
        if line == b"\r\n":
            return json.loads(sys.stdin.buffer.read(length))
        name, value = line.split(b":")
        if name.lower() == b"content-length":
            length = int(value)


def write(message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    sys.stdout.buffer.flush()


def filled(step, request):
    if isinstance(step, dict):
        return {name: filled(value, request) for name, value in step.items()}
    if isinstance(step, list):
        return [filled(value, request) for value in step]
    if step == "$id":
        return request.get("id")
    if step == "$token":
        return request["params"].get("workDoneToken")
    return step


def perform(step, request, cancelled):
    do = step.get("do")
    if do is None:
        message = filled(step, request)
        if message.get("method") != "$/progress" or message["params"]["token"] is not None:
            write(message)
    elif do == "exit":
        print(step["stderr"], file=sys.stderr, flush=True)
        os._exit(step["status"])
    elif do == "die once":
        mark = os.environ["FAKE_SERVER_LOG"] + ".died"
        if not os.path.exists(mark):
            open(mark, "w").close()
            if "saying" in step:
                write(filled(step["saying"], request))
            os._exit(step["status"])
    elif do == "sleep":
        time.sleep(step["seconds"])
    elif do == "raw":
        sys.stdout.buffer.write(step["bytes"].encode())
        sys.stdout.buffer.flush()
    elif do == "wait":
        cancelled[request["id"]] = True
    elif do == "ignore the end":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("staying", file=sys.stderr, flush=True)
        while True:
            time.sleep(60)


def main():
    script = json.loads(sys.argv[1])
    assert sys.argv[2:] == ["--stdio"]
    waiting = {}
    log = open(os.environ["FAKE_SERVER_LOG"], "a") if "FAKE_SERVER_LOG" in os.environ else None
    while (message := read()) is not None:
        method = message.get("method")
        if log is not None:
            print(json.dumps(message), file=log, flush=True)
        if method == "exit":
            return 0
        if method == "$/cancelRequest":
            if waiting.pop(message["params"]["id"], None):
                error = {"code": -32800, "message": "cancelled as asked"}
                write({"id": message["params"]["id"], "error": error})
        elif method in script:
            for step in script[method]:
                perform(step, message, waiting)
        elif method == "initialize":
            write({"id": message["id"], "result": {"serverInfo": {"name": "fake", "version": "0"}, "capabilities": {}}})
        elif "id" in message and method is not None:
            write({"id": message["id"], "result": None})
    return 0


if __name__ == "__main__":
    sys.exit(main())
