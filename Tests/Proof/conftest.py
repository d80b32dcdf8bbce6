import numpy as np
import pytest

import trained


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Models come and go under few names here, so that a long run leaves little behind."""
    return tmp_path_factory.mktemp("proof")


@pytest.fixture(scope="session")
def sample():
    """Of the trained digits networks: `calibration` without labels, `images` with `labels`."""
    return trained.sample()


@pytest.fixture(scope="session")
def digits(sample, folder):
    path = folder / "digits_without_labels.npy"
    np.save(path, sample["calibration"])
    return path
