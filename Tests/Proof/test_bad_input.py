"""Acceptance: bad input gets a typed error within a second, leaves the daemon alive and no file behind.

Every case goes through the real daemon, by inspect, recommend and compress alike.
"""

import contextlib
import os
import pathlib
import subprocess
import time

import numpy as np
import onnx
import pytest

import daemon
import espalier
import hostile

# Half a second on a fast processor alone; what hangs takes minutes.
SECONDS = 4.0
UNTYPED = {None, ""}


def listing(folder):
    return sorted((p.name, p.lstat().st_size) for p in pathlib.Path(folder).iterdir())


def attempts(client, model, output):
    """Each way of asking for a model, by name."""
    return {
        "inspect": lambda: client.inspect(model, timeout=30),
        "recommend": lambda: client.recommend(model, recommendation_ratio=0.5, timeout=30),
        "compress": lambda: client.compress(model, output, recommendation_ratio=0.5, timeout=30),
    }


def outcome(client, action):
    """The kind of the error that answered, None where there was none; and that it came in time, daemon alive."""
    began = time.monotonic()
    kind = None
    try:
        action()
    except espalier.ServerError as error:
        assert error.code == -32803 or error.code == -32602, f"an error of code {error.code}: {error}"
        assert error.kind not in UNTYPED, f"an error without a kind: {error}"
        assert error.message and str(error)
        kind = error.kind
    seconds = time.monotonic() - began
    client.ping(timeout=5)
    assert seconds < SECONDS, f"answered after {seconds:.2f} s"
    return kind


def check_refused(client, model, folder, kinds):
    """All three requests are refused with one of `kinds`, or (no kinds given) answered in any typed way."""
    output = pathlib.Path(folder) / "output.onnx"
    before = listing(folder)
    for name, action in attempts(client, model, output).items():
        kind = outcome(client, action)
        if kinds:
            assert kind in kinds, f"{name}: {kind}, expected one of {sorted(kinds)}"
        if name == "compress" and kind is None:
            output.unlink()
        assert listing(folder) == before, name


def save(model, path):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    path.write_bytes(data)
    return path


# MARK: contents


@pytest.mark.parametrize("name", hostile.FILES)
def test_hostile_file(client, tmp_path, name):
    build, kinds = hostile.FILES[name]
    check_refused(client, save(build(), tmp_path / "model.onnx"), tmp_path, kinds)


def test_truncated_anywhere(client, tmp_path):
    whole = hostile.good().SerializeToString()
    path = tmp_path / "model.onnx"
    refused = 0
    for length in [*range(0, 600), *range(600, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        kind = outcome(client, lambda: client.inspect(path, timeout=30))
        assert kind in {"model.malformed", "model.unsupportedFormat"}, f"{length} bytes of {len(whole)}: {kind}"
        refused += 1
    assert refused > 600
    check_refused(client, path, tmp_path, {"model.malformed"})


def test_random_bytes(client, tmp_path):
    rng = np.random.default_rng(0)
    for size in (1, 16, 1000, 100_000):
        for _ in range(25):
            path = save(rng.bytes(size), tmp_path / "model.onnx")
            kind = outcome(client, lambda: client.inspect(path, timeout=30))
            assert kind in {"model.malformed", "model.unsupportedFormat"}


def test_mutated_bytes(client, tmp_path):
    """A byte changed, removed or added anywhere: answered in some typed way, never a crash, and never a lie on disk."""
    rng = np.random.default_rng(1)
    whole = hostile.good().SerializeToString()
    path, output = tmp_path / "model.onnx", tmp_path / "output.onnx"
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(data)))
            kind = int(rng.integers(3))
            if kind == 0:
                data[at] = int(rng.integers(256))
            elif kind == 1:
                del data[at]
            else:
                data.insert(at, int(rng.integers(256)))
        path.write_bytes(data)
        kind = outcome(client, lambda: client.compress(path, output, recommendation_ratio=0.5, timeout=30))
        assert output.exists() == (kind is None)
        output.unlink(missing_ok=True)
        assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    "location, kinds",
    [
        ("../secret.bin", {"model.unsafe"}),
        ("a/../../secret.bin", {"model.unsafe"}),
        ("/etc/passwd", {"model.unsafe"}),
        ("link.bin", {"model.unsafe"}),
        ("way/secret.bin", {"model.unsafe"}),
        ("", {"model.malformed", "model.unsafe"}),
        ("absent.bin", {"model.notFound", "model.malformed", "model.unreadable"}),
        ("folder", {"model.unreadable", "model.unsafe", "model.malformed"}),
        ("pipe", {"model.unreadable", "model.unsafe", "model.malformed"}),
        (".", {"model.unreadable", "model.unsafe", "model.malformed"}),
    ],
)
def test_external_data_stays_beside_the_model(client, tmp_path, location, kinds):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\1" * 4096)
    (home / "link.bin").symlink_to("../secret.bin")
    (home / "way").symlink_to("..")
    (home / "folder").mkdir()
    os.mkfifo(home / "pipe")
    check_refused(client, save(hostile.external(location), home / "model.onnx"), home, kinds)


@pytest.mark.parametrize(
    "offset, length",
    [
        (-1, 256),
        (0, 2**62),
        (2**62, 256),
        (2**63 - 1, 2**63 - 1),
        (1000, 256),
        (0, 255),
        ("x", 256),
        (0, -256),
        (2**64, 256),
    ],
)
def test_external_data_within_its_file(client, tmp_path, offset, length):
    (tmp_path / "data.bin").write_bytes(b"\1" * 1024)
    model = hostile.external("data.bin", offset, length)
    check_refused(client, save(model, tmp_path / "model.onnx"), tmp_path, {"model.malformed"})


# MARK: paths


@pytest.mark.parametrize(
    "place, kinds",
    [
        ("absent.onnx", {"model.notFound"}),
        ("absent/model.onnx", {"model.notFound"}),
        ("folder", {"model.unreadable"}),
        ("folder.onnx", {"model.unreadable"}),
        ("pipe.onnx", {"model.unreadable"}),
        ("socket.onnx", {"model.unreadable"}),
        ("loop.onnx", {"model.unreadable", "model.notFound"}),
        ("dangling.onnx", {"model.notFound"}),
        ("file/model.onnx", {"model.notFound", "model.unreadable"}),
        ("n" * 300 + ".onnx", {"model.notFound", "model.unreadable"}),
        ("/dev/zero", {"model.unreadable"}),
        ("/dev/null", {"model.unreadable"}),
    ],
)
def test_paths_that_hold_no_model(client, tmp_path, place, kinds):
    import socket

    for name in ("folder", "folder.onnx"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "loop.onnx").symlink_to("loop.onnx")
    (tmp_path / "dangling.onnx").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(tmp_path):
        listening.bind("socket.onnx")
        check_refused(client, tmp_path / place, tmp_path, kinds)


@pytest.fixture
def unprivileged():
    """A daemon that has to ask for permission like anybody else: as root, one without capabilities."""
    command = [daemon.server_path()]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    with espalier.connect(command, restart=False) as connected:
        yield connected


def test_unreadable_file(unprivileged, tmp_path):
    path = save(hostile.good(), tmp_path / "model.onnx")
    path.chmod(0)
    check_refused(unprivileged, path, tmp_path, {"model.unreadable"})


def test_unwritable_folder(unprivileged, tmp_path):
    path = save(hostile.good(), tmp_path / "model.onnx")
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    kind = outcome(unprivileged, lambda: unprivileged.compress(path, folder / "o.onnx", recommendation_ratio=0.5))
    assert kind == "output.unwritable"
    assert listing(folder) == []


# MARK: outputs


@pytest.mark.parametrize("place", ["file", "folder", "pipe", "link", "dangling", "model.onnx"])
def test_existing_output(client, tmp_path, place):
    path = save(hostile.good(), tmp_path / "model.onnx")
    (tmp_path / "file").write_bytes(b"precious")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    before = listing(tmp_path)
    kind = outcome(client, lambda: client.compress(path, tmp_path / place, recommendation_ratio=0.5))
    assert kind == "output.exists" or (place == "folder" and kind == "output.unwritable")
    assert listing(tmp_path) == before
    assert (tmp_path / "file").read_bytes() == b"precious"


@pytest.mark.parametrize("place", ["folder", "absent/o.onnx", "file/o.onnx", "n" * 300, "/proc/o.onnx", "pipe"])
def test_impossible_output(client, tmp_path, place):
    path = save(hostile.good(), tmp_path / "model.onnx")
    (tmp_path / "file").write_bytes(b"precious")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = listing(tmp_path)
    request = {"recommendation_ratio": 0.5, "overwrite": True}
    kind = outcome(client, lambda: client.compress(path, tmp_path / place, **request))
    assert kind == "output.unwritable"
    assert listing(tmp_path) == before


def test_overwrite_replaces_the_file_and_nothing_else(client, tmp_path):
    path = save(hostile.good(), tmp_path / "model.onnx")
    output = tmp_path / "o.onnx"
    output.write_bytes(b"old")
    client.compress(path, output, recommendation_ratio=0.5, overwrite=True)
    onnx.checker.check_model(onnx.load(output), full_check=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "o.onnx"]


@contextlib.contextmanager
def small_disk(folder, kilobytes):
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a tmpfs is not permitted here; test_no_room_for_the_file covers a failing write")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_full_disk(client, tmp_path):
    path = save(hostile.good(), tmp_path / "model.onnx")
    with small_disk(tmp_path / "disk", 8) as disk:
        kind = outcome(client, lambda: client.compress(path, disk / "o.onnx", recommendation_ratio=0.1))
        assert kind == "output.unwritable"
        assert listing(disk) == []
        (disk / "o.onnx").write_bytes(b"precious")
        before = listing(disk)
        request = {"recommendation_ratio": 0.1, "overwrite": True}
        assert outcome(client, lambda: client.compress(path, disk / "o.onnx", **request)) == "output.unwritable"
        assert listing(disk) == before and (disk / "o.onnx").read_bytes() == b"precious"


def test_full_disk_with_external_data(client, tmp_path):
    """The data fits where the model no longer does, or the other way round: neither stays."""
    path = tmp_path / "model.onnx"
    onnx.save_model(hostile.good(), path, save_as_external_data=True, location="model.data", size_threshold=64)
    for kilobytes in (4, 16, 20, 24):
        with small_disk(tmp_path / f"disk{kilobytes}", kilobytes) as disk:
            request = {"recommendation_ratio": 0.1}
            assert outcome(client, lambda: client.compress(path, disk / "o.onnx", **request)) == "output.unwritable"
            assert listing(disk) == []


def test_no_room_for_the_file(tmp_path):
    """The same by a limit on the size of files, which needs no privilege."""
    path = save(hostile.good(), tmp_path / "model.onnx")
    command = ["prlimit", "--fsize=4096", daemon.server_path()]
    before = listing(tmp_path)
    with espalier.connect(command, restart=False) as limited:
        kind = outcome(limited, lambda: limited.compress(path, tmp_path / "o.onnx", recommendation_ratio=0.1))
        assert kind == "output.unwritable"
        assert listing(tmp_path) == before


# MARK: memory


def test_claims_cost_no_memory(tmp_path):
    """Every hostile file through one daemon whose address space could not hold what they claim."""
    with espalier.connect(["prlimit", f"--as={8 << 30}", daemon.server_path()], restart=False) as limited:
        for build, _ in hostile.FILES.values():
            path = save(build(), tmp_path / "model.onnx")
            outcome(limited, lambda: limited.inspect(path, timeout=30))


def test_a_good_model_still_works(client, tmp_path):
    """After all of the above, the same daemon does its job."""
    path = save(hostile.good(), tmp_path / "model.onnx")
    client.compress(path, tmp_path / "o.onnx", recommendation_ratio=0.5)
    onnx.checker.check_model(onnx.load(tmp_path / "o.onnx"), full_check=True)
