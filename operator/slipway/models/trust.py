"""Who may have signed a model: what a resolver is given of ``spec.model.verify.signature``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from slipway.names import PUBLIC_KEYS_ENV

#: The signature next to a model, as OpenSSF Model Signing calls it: no part of the model.
SIGNATURE_FILE = "model.sig"


@dataclass(frozen=True)
class Trust:
    """Who may have signed a model.

    Attributes:
        keys: public keys in PEM, one after the other.
        named: what messages call the place of the keys.
    """

    keys: str = ""
    named: str = "spec.model.verify.signature.publicKeys"

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Trust:
        """As a resolver's pod has it in environment variables."""
        return cls(environment.get(PUBLIC_KEYS_ENV, ""))
