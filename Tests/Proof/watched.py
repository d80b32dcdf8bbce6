"""A daemon whose process and working directory are known, for files that must do nothing: what a payload would make
would show in that folder, and what it costs in memory.
"""

import os
import pathlib
import subprocess
import threading
import time

import daemon
import espalier

# What a daemon may take for a file besides twice its size.
MARGIN = 100 << 20


class WatchedDaemon:
    """A daemon on a socket. `helpers_peak` is the most memory that one of the processes it started was seen with."""

    def __init__(self, folder):
        self.home = folder / "home"
        self.home.mkdir()
        socket = folder / "socket"
        self.process = subprocess.Popen(
            [daemon.server_path(), "--pipe", str(socket)], cwd=self.home, stderr=subprocess.DEVNULL
        )
        self.helpers_peak = 0
        threading.Thread(target=self.watch_helpers, daemon=True).start()
        deadline = time.monotonic() + 10
        while True:
            try:
                self.client = espalier.connect(pipe=socket, restart=False)
                return
            except espalier.ServerNotFound:
                assert time.monotonic() < deadline, "the daemon does not listen"
                time.sleep(0.02)

    def memory(self, field):
        return memory(self.process.pid, field)

    def forget_peak(self):
        self.helpers_peak = 0
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def watch_helpers(self):
        """They live for milliseconds, unless something is wrong with them."""
        strangers = set()
        while self.process.poll() is None:
            running = {int(name) for name in os.listdir("/proc") if name.isdecimal()}
            strangers &= running
            for process in running - strangers:
                try:
                    if memory(process, "PPid", unit=1) == self.process.pid:
                        self.helpers_peak = max(self.helpers_peak, memory(process, "VmHWM"))
                    else:
                        strangers.add(process)
                except (OSError, IndexError):
                    pass  # it has ended in the meantime
            time.sleep(0.005)

    def outcome(self, action, within):
        """The kind of the error that answered, None where there was none; and that it came in time, daemon alive."""
        began = time.monotonic()
        kind = None
        try:
            action()
        except espalier.ServerError as error:
            assert error.code in (-32803, -32602), f"an error of code {error.code}: {error}"
            assert error.message and (error.kind or error.code == -32602), f"an error without a kind: {error}"
            kind = error.kind or "InvalidParams"
        seconds = time.monotonic() - began
        self.client.ping(timeout=5)
        assert seconds < within, f"answered after {seconds:.2f} s"
        return kind

    def hold(self, folder, file, seconds, request, inspection):
        """Gives it the file, whose `must_fail` says that no reading of it is right; nothing may come of it but a typed
        error or an answer, in time and in the memory that a file of its size may take."""
        path, output = folder / f"model{file.suffix}", folder / f"output{file.suffix}"
        content = file.content()
        path.write_bytes(content)
        self.forget_peak()
        kinds = {
            self.outcome(action, seconds)
            for action in (
                lambda: self.client.inspect(path, timeout=30, **inspection),
                lambda: self.client.compress(path, output, timeout=30, **request),
            )
        }
        for peak in (self.memory("VmHWM"), self.helpers_peak):
            assert peak < 2 * len(content) + MARGIN, f"{peak >> 20} MiB for a file of {len(content)} bytes"
        if file.must_fail:
            assert None not in kinds, "taken for a good file"
            assert all(kind.startswith(("model.", "resource.")) for kind in kinds), f"{kinds}"
        output.unlink(missing_ok=True)
        assert os.listdir(folder) == [path.name], "something was left behind"
        assert os.listdir(self.home) == [], "something was executed"
        self.client.release()

    def close(self):
        self.client.close()
        self.process.terminate()
        self.process.wait(10)


def memory(process, field, unit=1024):
    """A field of the process's status; sizes in bytes."""
    status = pathlib.Path(f"/proc/{process}/status").read_text()
    return int(status.split(field + ":")[1].split()[0]) * unit
