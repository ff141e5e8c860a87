"""Settings that every test shares."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, settings

# Networks here are tiny: more threads only get in each other's way.
torch.set_num_threads(1)

# Shared machines pause at random, which is no fault of the code under test.
settings.register_profile(
    "nervcodec", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("nervcodec")
