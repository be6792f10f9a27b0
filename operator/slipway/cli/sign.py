"""``slipway sign``: sign a model and its profile as the resolver verifies them."""

from __future__ import annotations

import getpass
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.cli.errors import CommandError
from slipway.models.faults import ModelError
from slipway.models.trust import SIGNATURE_FILE
from slipway.names import DISTRIBUTION

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from slipway.models.signing import PrivateKey

PASSWORD_ENV = "SLIPWAY_KEY_PASSWORD"


def run(arguments: Namespace) -> int:
    """Sign, and write the signature next to the model, or store it there in MLflow.

    Raises:
        CommandError: where the model or the key cannot be used, or the signature cannot be written.
    """
    if arguments.model.startswith("oci://"):
        name = arguments.model.removeprefix("oci://")
        raise CommandError(
            f"{arguments.model} cannot be written to from here: sign its manifest with 'cosign sign --key "
            f"KEY {name}', or sign the folder and attach its {SIGNATURE_FILE}"
        )
    in_mlflow = arguments.model.startswith("mlflow://")
    if "://" in arguments.model and not in_mlflow:
        raise CommandError(
            f"{arguments.model} cannot be written to from here: sign the folder or the file before it is "
            f"uploaded, and upload {SIGNATURE_FILE} with it"
        )
    try:
        key = _key(arguments.key)
        chain = _certificates(arguments.certificate, key)
        where, count = (_in_mlflow if in_mlflow else _on_disk)(arguments.model, key, chain)
        signer = _called(key, chain)
    except ImportError as error:
        raise not_installed(error) from error
    except ModelError as error:
        raise CommandError(str(error)) from error
    files = "1 file" if count == 1 else f"{count} files"
    print(f"{where}: {files} signed by {signer}")
    return 0


def not_installed(error: ImportError) -> CommandError:
    """What to install for it."""
    return CommandError(f"{error.name} is not installed: pip install '{DISTRIBUTION}[serve]'")


def _key(path: Path) -> PrivateKey:
    from slipway.models.signing import EncryptedError, UnusableKeyError, private_key

    try:
        pem = path.read_bytes()
        try:
            return private_key(pem)
        except EncryptedError:
            return private_key(pem, _password(path))
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from error
    except UnusableKeyError as error:
        raise CommandError(f"{path} cannot sign: {error}") from error


def _certificates(path: Path | None, key: PrivateKey) -> tuple[Certificate, ...]:
    from slipway.models.signing import UnusableKeyError, certificates

    if path is None:
        return ()
    try:
        return certificates(path.read_bytes(), key)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from error
    except UnusableKeyError as error:
        raise CommandError(f"{path} cannot be signed with: {error}") from error


def _called(key: PrivateKey, chain: tuple[Certificate, ...]) -> str:
    """Who signed, as whoever verifies it has it."""
    from slipway.models.bundle import fingerprint
    from slipway.models.certificates import names_of

    if not chain:
        return fingerprint(key.public_key())
    return ", ".join(f"{kind}:{value}" for kind, value in names_of(chain[0]))


def _password(path: Path) -> str:
    found = os.environ.get(PASSWORD_ENV)
    if found is not None:
        return found
    if not sys.stdin.isatty():
        raise CommandError(f"{path} is encrypted: give its password in {PASSWORD_ENV}")
    return getpass.getpass(f"password of {path}: ")


def _on_disk(model: str, key: PrivateKey, chain: tuple[Certificate, ...]) -> tuple[str, int]:
    """Where the signature was written, and how many files it covers."""
    from slipway.local.files import FileSource
    from slipway.models.signing import signature
    from slipway.models.source import sums_of_files
    from slipway.models.whole import sums_of_folder

    path = Path(model)
    source = FileSource(path)
    whole = source.whole(model)
    sums = sums_of_files(source.locate(model).files) if whole is None else sums_of_folder(whole)
    folder = path.parent if whole is None else path
    written = folder / SIGNATURE_FILE
    try:
        written.write_bytes(signature(sums, key, folder.resolve().name, chain))
    except OSError as error:
        raise CommandError(f"{written} cannot be written: {error.strerror}") from error
    return str(written), len(sums)


def _in_mlflow(model: str, key: PrivateKey, chain: tuple[Certificate, ...]) -> tuple[str, int]:
    """Where the signature was stored, and how many files it covers: all of the version's, as of a folder."""
    from slipway.local.bringing import surroundings
    from slipway.models.mlflow import MlflowSource
    from slipway.models.signing import signature
    from slipway.models.whole import sums_of_folder

    around = surroundings({})
    source = MlflowSource(around.credentials, around.mlflow_tracking_uri)
    whole = source.whole(model)
    sums = sums_of_folder(whole)
    # The version that was read, whatever an alias means by now.
    source.put(whole.uri, SIGNATURE_FILE, signature(sums, key, whole.uri.removeprefix("mlflow://"), chain))
    return f"{whole.uri}/{SIGNATURE_FILE}", len(sums)
