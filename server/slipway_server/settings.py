"""What the server is told by its environment.

The serving configuration is read without pydantic, whose import alone takes longer than a cold start may; a
test holds :class:`Serving` and the contract's model together, field by field and bound by bound.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import orjson

from slipway.names import (
    ACCESS_ISSUERS_DIR,
    ACCESS_KEYS_DIR,
    ADMIN_PORT,
    CLIENT_CA_FILE,
    FEEDBACK_KEYS_DIR,
    GRPC_PORT,
    HTTP_PORT,
    INHERITED_ENV,
    MODEL_DIR,
    SERVING_CONFIG_ENV,
    TERMINATION_PATH,
    TLS_DIR,
)

_INPUTS = {"columns", "onViolation"}


class SettingsError(Exception):
    """The environment does not say what to serve; the message names the variable."""


def _bounded(low: int, high: int | None = None, default: int | None = None) -> Any:
    bounds = {"low": low, "high": high}
    return field(metadata=bounds) if default is None else field(default=default, metadata=bounds)


@dataclass(frozen=True, slots=True)
class InputColumn:
    """``slipway.contract.InputColumn``; the names are the contract's."""

    name: str
    tensor: str
    column: int
    type: str = "Number"
    minimum: float | None = None
    maximum: float | None = None
    nullable: bool = True
    enum: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inputs:
    """``slipway.contract.Inputs``."""

    columns: tuple[InputColumn, ...]
    onViolation: str = "Reject"


@dataclass(frozen=True, slots=True)
class SensitiveAttribute:
    """``slipway.contract.SensitiveAttribute``: rows are told apart by a column, a parameter or a header."""

    name: str
    groups: tuple[str, ...]
    tensor: str = ""
    column: int = 0
    parameter: str = ""
    header: str = ""


@dataclass(frozen=True, slots=True)
class Freshness:
    """``slipway.contract.Freshness``: where the time of a request's data is."""

    source: str
    name: str
    maxAgeSeconds: int
    column: int = 0


@dataclass(frozen=True, slots=True)
class AccessRule:
    """``slipway.contract.AccessRule``: these callers may do these things."""

    callers: tuple[str, ...]
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """``slipway.contract.CallerLimits``; 0 for no limit."""

    requestsPerSecond: int = 0
    burst: int = 0
    rowsPerDay: int = 0
    concurrent: int = 0
    bytesInFlight: int = 0


@dataclass(frozen=True, slots=True)
class AccessLimits:
    """``slipway.contract.AccessLimits``: of each caller, and of all strangers together."""

    perCaller: CallerLimits | None = None
    anonymous: CallerLimits | None = None


@dataclass(frozen=True, slots=True)
class RequiredClaim:
    """``slipway.contract.RequiredClaim``: a claim that a token has to have, with one of these values."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Issuer:
    """``slipway.contract.Issuer``: whose signed tokens are taken."""

    name: str
    issuer: str
    audiences: tuple[str, ...]
    callerClaim: str = "sub"
    requiredClaims: tuple[RequiredClaim, ...] = ()


@dataclass(frozen=True, slots=True)
class Access:
    """``slipway.contract.Access``: who may ask; whom no rule allows may not."""

    allow: tuple[AccessRule, ...]
    limits: AccessLimits | None = None
    peers: str = ""
    apiKeys: bool = True
    issuers: tuple[Issuer, ...] = ()
    serviceAccountAudience: str = ""
    tls: bool = False
    clientCertificates: bool = False


@dataclass(frozen=True, slots=True)
class Serving:
    """``slipway.contract.ServingConfig`` as this server reads it; the names are the contract's."""

    modelName: str
    modelVersion: str
    digest: str
    threads: int = _bounded(1, 256, 1)
    requestTimeoutMilliseconds: int = _bounded(1, None, 2000)
    maxBodyBytes: int = _bounded(1024, None, 64 * 1024 * 1024)
    drainSeconds: int = _bounded(0, 600, 15)
    processes: int = _bounded(0, 64, 1)
    batching: str = field(default="Auto", metadata={"words": ("Auto", "Off")})
    maxBatchRows: int = _bounded(1, 128, 128)
    device: str = field(default="CPU", metadata={"words": ("CPU", "CUDA")})
    monitoredFeatures: int = _bounded(0, 200, 20)
    inputs: Inputs | None = None
    feedbackMaxAgeDays: int = _bounded(0, 3650, 0)
    sensitiveAttributes: tuple[SensitiveAttribute, ...] = ()
    favorableOutcomes: tuple[str, ...] = ()
    freshness: Freshness | None = None
    access: Access | None = None
    suspectInputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files; with ``client_ca`` each client has to show a certificate of that authority.

    Unless ``is_required``: then one that is shown has to be of that authority, and all are let in, as probes
    are. Where the file of the authority is missing, none is looked at.
    """

    certificate: Path
    key: Path
    client_ca: Path | None
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class Inherited:
    """File descriptors of whoever started this server on ports that another one answers until it is ready.

    ``sockets`` listen for REST, gRPC and the admin port; a byte is written to ``ready`` once all is ready.
    """

    sockets: tuple[int, int, int]
    ready: int


@dataclass(frozen=True, slots=True)
class Settings:
    """All but ``serving`` has the contract's value in a pod; environment variables may change it."""

    serving: Serving
    model_dir: Path
    termination_path: Path
    feedback_keys: Path
    access_keys: Path
    access_issuers: Path
    host: str | None
    http_port: int
    grpc_port: int
    admin_port: int
    log_level: str
    tls: TlsFiles | None
    twin: bool
    inherited: Inherited | None = None


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from environment variables; raises :class:`SettingsError`."""
    text = environment.get(SERVING_CONFIG_ENV)
    if not text:
        raise SettingsError(f"{SERVING_CONFIG_ENV} is not set: it holds the serving configuration as JSON")
    twin = environment.get("SLIPWAY_HTTP_STACK", "own") == "asgi"
    serving = parse_serving(text)
    issuers = Path(environment.get("SLIPWAY_ACCESS_ISSUERS_DIR", ACCESS_ISSUERS_DIR))
    tls = _tls(environment)
    if serving.access is not None and serving.access.tls:
        directory = Path(environment.get("SLIPWAY_TLS_DIR", TLS_DIR))
        client_ca = issuers / CLIENT_CA_FILE if serving.access.clientCertificates else None
        tls = TlsFiles(directory / "tls.crt", directory / "tls.key", client_ca, is_required=False)
    if twin and tls:
        raise SettingsError("SLIPWAY_HTTP_STACK=asgi serves no TLS: leave one of the two out")
    return Settings(
        serving=serving,
        model_dir=Path(environment.get("SLIPWAY_MODEL_DIR", MODEL_DIR)),
        termination_path=Path(environment.get("SLIPWAY_TERMINATION_PATH", TERMINATION_PATH)),
        feedback_keys=Path(environment.get("SLIPWAY_FEEDBACK_KEYS_DIR", FEEDBACK_KEYS_DIR)),
        access_keys=Path(environment.get("SLIPWAY_ACCESS_KEYS_DIR", ACCESS_KEYS_DIR)),
        access_issuers=issuers,
        host=environment.get("SLIPWAY_HOST") or None,
        http_port=_port(environment, "SLIPWAY_HTTP_PORT", HTTP_PORT),
        grpc_port=_port(environment, "SLIPWAY_GRPC_PORT", GRPC_PORT),
        admin_port=_port(environment, "SLIPWAY_ADMIN_PORT", ADMIN_PORT),
        log_level=environment.get("SLIPWAY_LOG_LEVEL", "info"),
        tls=tls,
        twin=twin,
        inherited=_inherited(environment),
    )


def parse_serving(text: str) -> Serving:
    """The serving configuration in a JSON document; raises :class:`SettingsError`."""
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _wrong(f"it is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise _wrong("it must be a JSON object")
    known = {each.name: each for each in fields(Serving)}
    for name, value in given.items():
        if name not in known:
            raise _wrong(f"there is no field {name!r}")
        if name == "inputs":
            given[name] = None if value is None else _inputs(value)
            continue
        if name == "freshness":
            given[name] = None if value is None else _freshness(value)
            continue
        if name == "access":
            given[name] = None if value is None else _access(value)
            continue
        if name in _LISTS:
            given[name] = _list(name, value, _LISTS[name])
            continue
        if known[name].type == "str":
            words = known[name].metadata.get("words")
            if type(value) is not str or (words and value not in words):
                raise _wrong(f"{name} must be {' or '.join(words) if words else 'a string'}, not {value!r}")
            continue
        low, high = known[name].metadata["low"], known[name].metadata["high"]
        if type(value) is not int or value < low or (high is not None and value > high):
            raise _wrong(f"{name} must be a whole number from {low} to {high or 'any'}, not {value!r}")
    missing = [name for name, each in known.items() if each.default is MISSING and name not in given]
    if missing:
        raise _wrong(f"it lacks {', '.join(missing)}")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", given["digest"]):
        raise _wrong("digest must be 'sha256:' and 64 hexadecimal digits")
    return Serving(**given)


_COLUMN_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "tensor": (str,),
    "column": (int,),
    "type": (str,),
    "minimum": (int, float, type(None)),
    "maximum": (int, float, type(None)),
    "nullable": (bool,),
    "enum": (list,),
}


def _inputs(given: Any) -> Inputs:
    if not isinstance(given, dict) or not isinstance(given.get("columns"), list) or given.keys() - _INPUTS:
        raise _wrong("inputs must be an object with a list 'columns'")
    reaction = given.get("onViolation", "Reject")
    if reaction not in ("Reject", "Report"):
        raise _wrong(f"inputs.onViolation must be Reject or Report, not {reaction!r}")
    return Inputs(tuple(_column(each) for each in given["columns"]), reaction)


def _column(given: Any) -> InputColumn:
    if (
        not isinstance(given, dict)
        or not {"name", "tensor", "column"} <= given.keys() <= _COLUMN_TYPES.keys()
    ):
        raise _wrong(f"inputs.columns must hold objects with name, tensor and column, not {given!r}"[:300])
    for name, value in given.items():
        if type(value) not in _COLUMN_TYPES[name]:
            raise _wrong(f"{name} of a column in inputs must not be {value!r}"[:300])
    if given.get("type", "Number") not in ("Number", "Integer", "String") or given["column"] < 0:
        raise _wrong(f"a column in inputs has a wrong type or place: {given!r}"[:300])
    return InputColumn(**{**given, "enum": tuple(map(str, given.get("enum", ())))})


def _freshness(given: Any) -> Freshness:
    kinds = {"source": str, "name": str, "maxAgeSeconds": int, "column": int}
    if not isinstance(given, dict) or not kinds.keys() - {"column"} <= given.keys() <= kinds.keys():
        raise _wrong("freshness must be an object with source, name and maxAgeSeconds")
    if any(type(value) is not kinds[name] for name, value in given.items()):
        raise _wrong("freshness has a member of the wrong type")
    if given["source"] not in ("Header", "Parameter", "Tensor"):
        raise _wrong(f"freshness.source must be Header, Parameter or Tensor, not {given['source']!r}")
    if given["maxAgeSeconds"] < 1 or given.get("column", 0) < 0:
        raise _wrong("freshness has a number that is too small")
    return Freshness(**given)


def _access(given: Any) -> Access:
    known = {each.name for each in fields(Access)}
    if not isinstance(given, dict) or not {"allow"} <= given.keys() <= known:
        raise _wrong(f"access must be an object with a list 'allow', and {', '.join(sorted(known))} at most")
    kinds: dict[str, type] = {"peers": str, "serviceAccountAudience": str}
    kinds |= dict.fromkeys(("apiKeys", "tls", "clientCertificates"), bool)
    for name, kind in kinds.items():
        if type(given.get(name, kind())) is not kind:
            raise _wrong(f"access.{name} must be of another type, not {given[name]!r}"[:300])
    limits, issuers = given.get("limits"), given.get("issuers", [])
    return Access(
        **{
            **given,
            "allow": _list("access.allow", given["allow"], _access_rule),
            "limits": None if limits is None else _access_limits(limits),
            "issuers": _list("access.issuers", issuers, _issuer),
        }
    )


def _issuer(given: Any) -> Issuer:
    least, most = {"name", "issuer", "audiences"}, {each.name for each in fields(Issuer)}
    if not isinstance(given, dict) or not least <= given.keys() <= most:
        raise ValueError("needs name, issuer and audiences")
    audiences = _texts(given["audiences"])
    if not audiences:
        raise ValueError("audiences must have one at least")
    return Issuer(
        _text(given["name"]),
        _text(given["issuer"]),
        audiences,
        _text(given.get("callerClaim", "sub")),
        tuple(map(_claim, given.get("requiredClaims", ()))),
    )


def _claim(given: Any) -> RequiredClaim:
    if not isinstance(given, dict) or given.keys() != {"name", "values"}:
        raise ValueError("requiredClaims must hold objects with name and values")
    return RequiredClaim(_text(given["name"]), _texts(given["values"]))


def _texts(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list):
        raise ValueError("must have a list of strings")
    return tuple(map(_text, given))


def _access_limits(given: Any) -> AccessLimits:
    if not isinstance(given, dict) or not given.keys() <= {"perCaller", "anonymous"}:
        raise _wrong("access.limits must be an object with perCaller and anonymous")
    known = {each.name for each in fields(CallerLimits)}
    for each in given.values():
        if each is None:
            continue
        if not isinstance(each, dict) or not each.keys() <= known:
            raise _wrong(f"limits in access must be objects with {', '.join(sorted(known))}")
        if any(type(value) is not int or value < 0 for value in each.values()):
            raise _wrong("limits in access must be whole numbers from 0")
    return AccessLimits(**{name: each and CallerLimits(**each) for name, each in given.items()})


def _access_rule(given: Any) -> AccessRule:
    if not isinstance(given, dict) or given.keys() != {"callers", "actions"}:
        raise ValueError("needs callers and actions")
    if not all(isinstance(each, list) for each in given.values()):
        raise ValueError("callers and actions must be lists")
    actions = tuple(map(_text, given["actions"]))
    if not set(actions) <= {"Infer", "Feedback", "Metadata"}:
        raise ValueError("actions must be Infer, Feedback or Metadata")
    return AccessRule(tuple(map(_text, given["callers"])), actions)


def _attribute(given: Any) -> SensitiveAttribute:
    kinds = {"name": str, "groups": list, "tensor": str, "column": int, "parameter": str, "header": str}
    if (
        not isinstance(given, dict)
        or not kinds.keys() >= given.keys()
        or not {"name", "groups"} <= given.keys()
    ):
        raise ValueError("needs name and groups, and tensor and column, parameter or header")
    if any(type(value) is not kinds[name] for name, value in given.items()):
        raise ValueError("has a member of the wrong type")
    return SensitiveAttribute(**{**given, "groups": tuple(map(_text, given["groups"]))})


def _text(given: Any) -> str:
    if type(given) is not str:
        raise ValueError("must hold strings")
    return given


def _detector(given: Any) -> str:
    if given not in ("Nearby", "Turned"):
        raise ValueError(f"must be Nearby or Turned, not {given!r}"[:100])
    return _text(given)


_LISTS: dict[str, Callable[[Any], Any]] = {
    "sensitiveAttributes": _attribute,
    "favorableOutcomes": _text,
    "suspectInputs": _detector,
}


def _list(name: str, given: Any, read: Callable[[Any], Any]) -> tuple[Any, ...]:
    if not isinstance(given, list):
        raise _wrong(f"{name} must be a list")
    try:
        return tuple(map(read, given))
    except ValueError as error:
        raise _wrong(f"{name}: {error}") from None


def _wrong(message: str) -> SettingsError:
    return SettingsError(f"{SERVING_CONFIG_ENV} is not a serving configuration: {message}")


def _tls(environment: Mapping[str, str]) -> TlsFiles | None:
    certificate, key = environment.get("SLIPWAY_TLS_CERT_FILE"), environment.get("SLIPWAY_TLS_KEY_FILE")
    client_ca = environment.get("SLIPWAY_TLS_CLIENT_CA_FILE")
    if certificate and key:
        return TlsFiles(Path(certificate), Path(key), Path(client_ca) if client_ca else None)
    if certificate or key or client_ca:
        raise SettingsError("TLS needs both SLIPWAY_TLS_CERT_FILE and SLIPWAY_TLS_KEY_FILE")
    return None


def _inherited(environment: Mapping[str, str]) -> Inherited | None:
    text = environment.get(INHERITED_ENV)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,6}(,[0-9]{1,6}){3}", text):
        raise SettingsError(f"{INHERITED_ENV} must be four file descriptors with commas, not {text!r}")
    http, grpc, admin, ready = map(int, text.split(","))
    return Inherited((http, grpc, admin), ready)


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise SettingsError(f"{name} is {text!r}, which is no port: use a number from 1 to 65535")
    return int(text)
