"""Settings and fixtures that every test shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# Networks here are tiny: more threads only get in each other's way.
torch.set_num_threads(1)

# Shared machines pause at random, which is no fault of the code under test.
settings.register_profile(
    "nervcodec", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("nervcodec")


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder of development clips that HFSV_CLIPS names."""
    folder = os.environ.get("HFSV_CLIPS")
    if not folder:
        pytest.skip("HFSV_CLIPS is not set: no folder of real clips")
    return Path(folder)
