"""What the server is told by its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from slipway.contract import (
    ADMIN_PORT,
    HTTP_PORT,
    MODEL_DIR,
    SERVING_CONFIG_ENV,
    TERMINATION_PATH,
    ServingConfig,
)


class SettingsError(Exception):
    """The environment does not say what to serve; the message names the variable."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All but ``serving`` has the contract's value in a pod; environment variables may change it."""

    serving: ServingConfig
    model_dir: Path
    termination_path: Path
    host: str | None
    http_port: int
    admin_port: int
    log_level: str


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from environment variables; raises :class:`SettingsError`."""
    text = environment.get(SERVING_CONFIG_ENV)
    if not text:
        raise SettingsError(f"{SERVING_CONFIG_ENV} is not set: it holds the serving configuration as JSON")
    try:
        serving = ServingConfig.model_validate_json(text)
    except ValidationError as error:
        raise SettingsError(f"{SERVING_CONFIG_ENV} is not a serving configuration: {error}") from None
    return Settings(
        serving=serving,
        model_dir=Path(environment.get("SLIPWAY_MODEL_DIR", MODEL_DIR)),
        termination_path=Path(environment.get("SLIPWAY_TERMINATION_PATH", TERMINATION_PATH)),
        host=environment.get("SLIPWAY_HOST") or None,
        http_port=_port(environment, "SLIPWAY_HTTP_PORT", HTTP_PORT),
        admin_port=_port(environment, "SLIPWAY_ADMIN_PORT", ADMIN_PORT),
        log_level=environment.get("SLIPWAY_LOG_LEVEL", "info"),
    )


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise SettingsError(f"{name} is {text!r}, which is no port: use a number from 1 to 65535")
    return int(text)
