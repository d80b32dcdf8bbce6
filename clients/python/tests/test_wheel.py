"""The wheel with the daemon in it, installed where nothing else is: what a new user has after `pip install`."""

import os
import pathlib
import subprocess
import sys

import pytest

from test_espalierd import MODELS, RESNET

sys.path.insert(0, str(MODELS.parents[1]))
import make_wheel  # noqa: E402

# What every Linux with the glibc that the wheel's name states has (manylinux's list), as far as it is used here.
EVERYWHERE = {"linux-vdso", "libm", "libz", "libstdc++", "libgcc_s", "libc", "libpthread", "libdl", "ld-linux-x86-64"}


@pytest.fixture(scope="module")
def wheel(espalierd, tmp_path_factory):
    return make_wheel.make(pathlib.Path(espalierd).resolve().parent, tmp_path_factory.mktemp("dist"), compression=1)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of programs of an environment that holds the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", folder / "bin" / "python"]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", wheel], check=True)
    return folder / "bin"


def run(folder, *command):
    """With nothing of this environment: neither ESPALIER_SERVER nor PATH leads to a daemon."""
    environment = {"XDG_RUNTIME_DIR": str(folder), "PATH": "/nowhere", "HOME": str(folder)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_the_wheel_is_for_this_kind_of_machine_and_any_python(wheel):
    assert wheel.name.startswith("espalier-") and "-py3-none-manylinux_" in wheel.name
    assert wheel.name.endswith(f"_{os.uname().machine}.whl") and wheel.stat().st_size < 30e6


def test_the_first_result_takes_the_wheel_alone(installed, tmp_path):
    done = run(tmp_path, installed / "espalier", "inspect", RESNET)
    assert (done.returncode, done.stderr) == (0, "") and "178,810 parameters" in done.stdout
    output = tmp_path / "smaller.onnx"
    done = run(tmp_path, installed / "espalier", "compress", RESNET, "--ratio", "0.5", "-o", output)
    assert done.returncode == 0 and output.stat().st_size < 0.5 * RESNET.stat().st_size
    code = "import espalier, sys; print(espalier.Client().inspect(sys.argv[1]).macs)"
    done = run(tmp_path, installed / "python", "-c", code, RESNET)
    assert (done.stdout, done.stderr) == ("2846160\n", "")


def test_linear_algebra_is_in_it(installed, tmp_path):
    """Whatever this machine has: the library that the daemon has open is the wheel's."""
    code = """
import espalier, glob, sys
with espalier.Client() as client:
    for method in ("PR_GM", "FD_TK"):
        client.compress(sys.argv[1], dry_run=True, compression_method=method, target={"macs": 0.5})
    (daemon,) = " ".join(open(path).read() for path in glob.glob("/proc/self/task/*/children")).split()
    print(*{line.split()[-1] for line in open(f"/proc/{daemon}/maps") if "openblas" in line})
"""
    done = run(tmp_path, installed / "python", "-c", code, RESNET)
    package = next(installed.parent.glob("lib*/python*/site-packages/espalier"))
    assert done.stdout.split() == [str(package / make_wheel.OPENBLAS)], done.stderr


def test_licences_of_what_it_carries_are_in_it(installed):
    packages = next(installed.parent.glob("lib*/python*/site-packages"))
    (folder,) = packages.glob("espalier-*.dist-info/licenses")
    assert "Apache License" in (folder / "LICENSE").read_text()
    notice = (folder / "NOTICE").read_text()
    for library in ("libopenblas", *(path.name.partition("-")[0] for path in packages.glob("espalier.libs/*"))):
        assert library in notice


def test_what_needs_more_says_what(installed, tmp_path):
    arguments = ("compress", RESNET, "--ratio", "0.5", "-o", tmp_path / "o.onnx", "--verify")
    done = run(tmp_path, installed / "espalier", *arguments)
    assert done.returncode == 1 and "runtime.unavailable" in done.stderr and "pip install onnxruntime" in done.stderr
    done = run(tmp_path, installed / "python", "-c", "import espalier.torch")
    assert "pip install torch" in done.stderr.splitlines()[-1]


def test_no_library_is_missing_and_none_of_this_machine_is_used(installed):
    package = next(installed.parent.glob("lib*/python*/site-packages/espalier"))
    for program in make_wheel.PROGRAMS:
        assert os.access(package / program, os.X_OK)
        told = subprocess.run(["ldd", package / program], capture_output=True, text=True)
        for line in told.stdout.splitlines():
            name, _, place = line.strip().partition(" => ")
            assert "not found" not in line
            library = pathlib.Path(name.split()[0]).name.partition(".so")[0]
            assert library in EVERYWHERE or f"{package.parent}/espalier.libs/" in os.path.realpath(place), line
