import pytest


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Models come and go under few names here, so that a long run leaves little behind."""
    return tmp_path_factory.mktemp("proof")
