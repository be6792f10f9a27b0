from __future__ import annotations

from hypothesis import settings

# The same examples on every run, and no deadline: a busy machine is no bug.
settings.register_profile("slipway", deadline=None, derandomize=True)
settings.load_profile("slipway")
