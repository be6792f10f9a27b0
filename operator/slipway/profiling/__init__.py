"""Makes profiles and logs them beside models; needs ``pip install slipway-serving[profile]``.

>>> from slipway.profiling import log_profile, make_profile
>>> log_profile(make_profile(frame, "model.onnx", labels="default"), model_info)  # doctest: +SKIP
"""

from slipway.profiling.make import make_profile
from slipway.profiling.registry import log_profile

__all__ = ["log_profile", "make_profile"]
