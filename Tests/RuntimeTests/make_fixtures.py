"""Writes Fixtures/: datasets as NumPy itself saves them (made with numpy 2.4.6 and Python 3.11).

Run from anywhere: python Tests/RuntimeTests/make_fixtures.py
"""

import pathlib
import zipfile

import numpy as np

FIXTURES = pathlib.Path(__file__).parent / "Fixtures"

# Five samples of three numbers: 0, 0.5, 1, ... and an id for each.
X = np.arange(15, dtype=np.float32).reshape(5, 3) / 2
IDS = np.arange(5, dtype=np.int64) * 7
TYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]


def main() -> None:
    FIXTURES.mkdir(exist_ok=True)
    for path in FIXTURES.iterdir():
        path.unlink()
    np.save(FIXTURES / "x.npy", X)
    for version in (2, 3):
        with open(FIXTURES / f"version{version}.npy", "wb") as file:
            np.lib.format.write_array(file, X, version=(version, 0))
    for name in TYPES:
        np.save(FIXTURES / f"type_{np.dtype(name).name}.npy", np.array([[0, 1], [1, 0]]).astype(name))
    np.savez(FIXTURES / "stored.npz", x=X, ids=IDS, labels=np.array(["a", "b"]))
    np.savez_compressed(FIXTURES / "packed.npz", x=np.tile(X, (200, 1)), ids=np.arange(1000), scale=np.float32(2))
    limit, zipfile.ZIP64_LIMIT = zipfile.ZIP64_LIMIT, 0
    np.savez(FIXTURES / "zip64.npz", x=X, ids=IDS)
    zipfile.ZIP64_LIMIT = limit
    np.save(FIXTURES / "fortran.npy", np.asfortranarray(X))
    np.save(FIXTURES / "big_endian.npy", X.astype(">f4"))
    np.save(FIXTURES / "objects.npy", np.array([{}, []], dtype=object))
    np.save(FIXTURES / "records.npy", np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]))
    np.save(FIXTURES / "text.npy", np.array(["a", "b"]))
    np.save(FIXTURES / "scalar.npy", np.float32(1))


if __name__ == "__main__":
    main()
