"""What `slipway sign` signs is resolved and verified by the library of OpenSSF; what is changed is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from model_signing import signing as oms_signing
from model_signing import verifying as oms

from e2e import snippets
from slipway.cli.main import main
from slipway.contract import CREDENTIAL_ENV_PREFIX, PUBLIC_KEYS_ENV, Resolved
from slipway.profiling import make_profile
from tests.models.authorities import Authority, Leaf, pem
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier, save_wide
from tests.models.registry import ADMIN, log_folder, move_alias, register
from tests.models.servers import Mlflow
from tests.models.stores import S3

URI = "pvc://models/fraud"
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def save(key: PrivateKey, folder: Path, password: str | None = None) -> tuple[Path, Path]:
    """Private and public key as files."""
    private, public = folder / "release.key", folder / "release.pub"
    hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        hidden = serialization.BestAvailableEncryption(password.encode())
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return save(ec.generate_private_key(ec.SECP256R1()), tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "fraud"
    save_wide(folder)
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(100, 64)).astype(np.float32)).rename(
        columns=str
    )
    (folder / "profile.json").write_bytes(make_profile(rows, folder / "model.onnx").text())
    (folder / "notes.md").write_text("of nobody's interest")
    return folder


@pytest.fixture
def folder(slipway_model: SlipwayModel, made: Path) -> Path:
    """A model with weights next to it and a profile, unsigned."""
    return Path(shutil.copytree(made, slipway_model.claim / "fraud"))


def oms_verify(folder: Path, public: Path, ignores: bool = False) -> None:
    """By OpenSSF Model Signing itself; raises where it is not as it was signed."""
    config = oms.Config().use_elliptic_key_verifier(public_key=public)
    config.set_ignore_unsigned_files(ignores).verify(folder, folder / "model.sig")


def is_resolved(slipway_model: SlipwayModel, public: Path, uri: str = URI, folder: bool = False) -> bool:
    """By the command of the resolver's pod."""
    task = {"uri": uri, "isSigned": True, "folder": folder or None}
    outcome = slipway_model("resolve", task, **{PUBLIC_KEYS_ENV: public.read_text()}).outcome
    return isinstance(outcome, Resolved) and outcome.resolution.signedBy is not None


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda one: one.name)
def test_a_folder_that_is_signed_is_resolved_and_the_library_verifies_it(
    slipway_model: SlipwayModel, folder: Path, tmp_path: Path, curve: ec.EllipticCurve
) -> None:
    private, public = save(ec.generate_private_key(curve), tmp_path)
    assert not is_resolved(slipway_model, public)
    assert main(["sign", str(folder), "--key", str(private)]) == 0
    assert is_resolved(slipway_model, public)
    assert is_resolved(slipway_model, public, folder=True), "a server of one's own gets every file"
    oms_verify(folder, public)
    assert main(["verify", str(folder), "--key", str(public)]) == 0
    assert main(["verify", str(folder), "--key", str(public), "--all"]) == 0


@pytest.mark.parametrize("changed", ["model.onnx", "weights.bin", "profile.json"])
def test_whatever_is_changed_later_is_neither_resolved_nor_verified(
    slipway_model: SlipwayModel,
    folder: Path,
    keys: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    changed: str,
) -> None:
    private, public = keys
    assert main(["sign", str(folder), "--key", str(private)]) == 0
    if changed == "profile.json":
        content = json.dumps(json.loads((folder / changed).read_text()), indent=3).encode()
    elif changed == "model.onnx":
        # Another model, with its own profile's digest nowhere.
        content = onnx_classifier().SerializeToString()
    else:
        content = (folder / changed).read_bytes()[:-1] + b"x"
    (folder / changed).write_bytes(content)
    assert not is_resolved(slipway_model, public)
    with pytest.raises(ValueError, match="mismatch"):
        oms_verify(folder, public)
    capsys.readouterr()
    assert main(["verify", str(folder), "--key", str(public)]) == 1
    assert changed in capsys.readouterr().err


def test_a_file_is_signed_with_what_is_served_of_its_folder(
    slipway_model: SlipwayModel, folder: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = keys
    assert main(["sign", str(folder / "model.onnx"), "--key", str(private)]) == 0
    assert f"{folder / 'model.sig'}: 3 files signed by sha256:" in capsys.readouterr().out
    assert is_resolved(slipway_model, public)
    (folder / "notes.md").unlink()
    oms_verify(folder, public)
    (folder / "profile.json").unlink()
    assert is_resolved(slipway_model, public), "a profile may go, but none may come"
    (folder / "more.md").write_text("more")
    assert main(["verify", str(folder), "--key", str(public)]) == 0
    assert main(["verify", str(folder), "--key", str(public), "--all"]) == 1


def test_what_the_library_signed_is_verified(
    folder: Path, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = keys
    assert main(["verify", str(folder), "--key", str(public)]) == 1
    assert "is not signed" in capsys.readouterr().err
    oms_signing.Config().use_elliptic_key_signer(private_key=private).sign(folder, folder / "model.sig")
    assert main(["verify", str(folder), "--key", str(public), "--all"]) == 0
    (tmp_path / "other").mkdir()
    _, other = save(ec.generate_private_key(ec.SECP256R1()), tmp_path / "other")
    assert main(["verify", str(folder), "--key", str(other)]) == 1
    assert f"none of the keys of {other}" in capsys.readouterr().err


def test_a_key_with_a_password_signs_and_without_it_the_message_asks_for_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = save(ed25519.Ed25519PrivateKey.generate(), tmp_path, password="of the tests")
    sign = ["sign", str(folder), "--key", str(private)]
    monkeypatch.delenv("SLIPWAY_KEY_PASSWORD", raising=False)
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    assert main(sign) == 1
    assert "is encrypted: give its password in SLIPWAY_KEY_PASSWORD" in capsys.readouterr().err
    monkeypatch.setenv("SLIPWAY_KEY_PASSWORD", "of others")
    assert main(sign) == 1
    assert "the password is wrong" in capsys.readouterr().err
    monkeypatch.setenv("SLIPWAY_KEY_PASSWORD", "of the tests")
    assert main(sign) == 0
    assert main(["verify", str(folder), "--key", str(public)]) == 0


def test_what_cannot_be_signed_is_told_with_what_to_do(
    folder: Path, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = keys
    (tmp_path / "rsa").mkdir()
    other, _ = save(rsa.generate_private_key(65537, 2048), tmp_path / "rsa")
    (tmp_path / "empty").mkdir()
    (folder / "link").symlink_to(folder / "notes.md")
    for model, key, words in (
        (folder / "model.onnx", other, "another kind"),
        (folder / "model.onnx", public, "no private key in PEM"),
        (folder / "model.onnx", tmp_path / "gone", "cannot be read"),
        (folder, private, "a symbolic link"),
        (tmp_path / "empty", private, "has no files"),
        (tmp_path / "gone.onnx", private, "does not exist"),
        ("s3://models/fraud/", private, "sign the folder or the file before it is uploaded"),
    ):
        assert main(["sign", str(model), "--key", str(key)]) == 1
        assert words in capsys.readouterr().err, model
    assert not (folder / "model.sig").exists()


def test_a_version_in_mlflow_is_signed_where_it_is(
    slipway_model: SlipwayModel,
    mlflow: Mlflow,
    made: Path,
    keys: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    private, public = keys
    flavors = {"flavors": {"onnx": {"data": "model.onnx"}}}
    whole = Path(shutil.copytree(made, private.parent / "whole"))
    (whole / "MLmodel").write_text(json.dumps(flavors))
    stored = log_folder(mlflow, "signed-there", whole)
    move_alias(mlflow, "signed-there", "champion", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)

    def sign(uri: str, login: tuple[str, str]) -> int:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", login[0])
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", login[1])
        return main(["sign", uri, "--key", str(private)])

    def takes(uri: str, **more: object) -> bool:
        login = {"MLFLOW_TRACKING_URI": mlflow.url, "MLFLOW_TRACKING_USERNAME": ADMIN[0]}
        login |= {"MLFLOW_TRACKING_PASSWORD": ADMIN[1]}
        given = {f"{CREDENTIAL_ENV_PREFIX}{name}": value for name, value in login.items()}
        task = {"uri": uri, "isSigned": True, **more}
        outcome = slipway_model("resolve", task, **{PUBLIC_KEYS_ENV: public.read_text()}, **given).outcome
        return isinstance(outcome, Resolved) and outcome.resolution.signedBy is not None

    uri = "mlflow://signed-there/1"
    assert not takes(uri)
    assert sign("mlflow://signed-there@champion", ADMIN) == 0
    assert f"{uri}/model.sig: 5 files signed by sha256:" in capsys.readouterr().out
    assert takes(uri)
    assert takes("mlflow://signed-there@champion")
    assert takes(uri, folder=True), "a server of one's own gets every file"
    oms_verify(stored, public)
    (stored / "profile.json").write_text(json.dumps(json.loads((stored / "profile.json").read_text())))
    assert not takes(uri)
    # Again, over what was there.
    assert sign(uri, ADMIN) == 0
    assert takes(uri)
    capsys.readouterr()
    assert sign("mlflow://signed-there@missing", ADMIN) == 1
    assert "has no alias 'missing'" in capsys.readouterr().err
    assert sign(uri, ("nobody", "knows-this-password")) == 1
    assert "MLFLOW_TRACKING_USERNAME" in capsys.readouterr().err


def test_a_version_whose_files_mlflow_keeps_in_s3_is_signed_there(
    s3: S3,
    mlflow: Mlflow,
    folder: Path,
    keys: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    private, public = keys
    (folder / "MLmodel").write_text(json.dumps({"flavors": {"onnx": {"data": "model.onnx"}}}))
    for path in folder.iterdir():
        s3.put("models", f"mlflow/signed/{path.name}", path.read_bytes())
    register(mlflow, "signed-in-s3", "s3://models/mlflow/signed")
    login = {"MLFLOW_TRACKING_USERNAME": ADMIN[0], "MLFLOW_TRACKING_PASSWORD": ADMIN[1]}

    def enter(user: str) -> None:
        there = {name.removeprefix(CREDENTIAL_ENV_PREFIX): value for name, value in s3.keys(user).items()}
        for name, value in {"MLFLOW_TRACKING_URI": mlflow.url, **login, **there}.items():
            monkeypatch.setenv(name, value)

    uri = "mlflow://signed-in-s3/1"
    enter("reader")
    assert main(["verify", uri, "--key", str(public)]) == 1
    assert main(["sign", uri, "--key", str(private)]) == 1
    enter("admin")
    assert main(["sign", uri, "--key", str(private)]) == 0
    enter("reader")
    assert main(["verify", uri, "--key", str(public)]) == 0


def certify(folder: Path) -> None:
    """What an authority gives to whoever has the page's key: ``release.crt``, and its own ``ca.pem``."""
    key = serialization.load_pem_private_key((folder / "release.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    root = Authority("root")
    between = Authority("between", above=root)
    (folder / "release.crt").write_bytes(pem(between.issue(Leaf(), key.public_key()), between.certificate))
    (folder / "ca.pem").write_bytes(pem(root.certificate))


def test_the_pages_commands_sign_and_verify_as_printed(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "fraud")
    (tmp_path / "fraud/notes.md").unlink()
    program = tmp_path / "bin/slipway"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m slipway.cli.main "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    run = 0
    for command in snippets.commands("docs/security.md"):
        # What is in a registry is the business of test_cosign.py.
        if command.program not in ("openssl", "slipway", "model_signing") or "oci://" in command.text:
            continue
        if "release.crt" in command.text:
            certify(tmp_path)
        done = subprocess.run(
            ["bash", "-ec", command.text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (command.text, done.stderr)
        assert len(done.stdout.splitlines()) >= len(command.output.splitlines()), command.text
        run += 1
    assert run >= 8
