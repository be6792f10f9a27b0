"""The arguments of each subcommand, and how their values are read."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from slipway.cli import candidates
from slipway.cli.steps import add_steps

#: Shells that completion is written for.
SHELLS = ("bash", "zsh", "fish")
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """Seconds of a duration as kubectl takes them, such as ``30``, ``90s``, ``5m`` or ``1h30m``.

    Raises:
        argparse.ArgumentTypeError: if it is none.
    """
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write one such as 30s, 5m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _connection(made: argparse.ArgumentParser) -> None:
    """Which cluster, and as whom, named as kubectl names them."""
    group = made.add_argument_group("cluster")
    namespace = group.add_argument(
        "-n", "--namespace", help="the namespace; that of the context unless given"
    )
    _complete(namespace, candidates.namespaces)
    _complete(group.add_argument("--context", help="context of the kubeconfig"), candidates.contexts)
    group.add_argument("--kubeconfig", help="path of the kubeconfig; KUBECONFIG unless given")
    group.add_argument(
        "-s", "--server", metavar="URL", help="address of the API server, instead of the kubeconfig's"
    )
    group.add_argument(
        "--certificate-authority",
        metavar="FILE",
        help="PEM file of the authority that the API server is known by, instead of the kubeconfig's",
    )
    group.add_argument("--token", help="bearer token to be known by, instead of the kubeconfig's user")
    group.add_argument("--as", dest="as_user", metavar="USER", help="user to impersonate")
    group.add_argument(
        "--as-group",
        action="append",
        default=[],
        metavar="GROUP",
        help="group to impersonate, with --as; can be given several times",
    )
    group.add_argument(
        "--request-timeout",
        type=duration,
        default=15.0,
        metavar="DURATION",
        help="how long to wait for one answer of the API server; 0 waits without end (default: 15s)",
    )


def _color(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="auto: on a terminal, unless NO_COLOR is set (default: auto)",
    )


def _name(made: argparse.ArgumentParser) -> None:
    name = made.add_argument("name", metavar="NAME", help="name of the ModelDeployment")
    _complete(name, candidates.model_deployments)


def _complete(action: argparse.Action, with_: Callable[..., list[str]]) -> None:
    """What argcomplete looks for."""
    action.completer = with_  # type: ignore[attr-defined]


def _output(made: argparse.ArgumentParser, *more: str, text: str = "") -> None:
    choices = (*more, "json", "yaml", "name")
    made.add_argument("-o", "--output", choices=choices, help=f"output format{text}")


def get(made: argparse.ArgumentParser) -> None:
    """Of ``slipway get``."""
    names = made.add_argument(
        "names", metavar="NAME", nargs="*", help="names of ModelDeployments; all unless given"
    )
    _complete(names, candidates.model_deployments)
    made.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    made.add_argument(
        "-l", "--selector", metavar="LABELS", help="label selector, such as team=risk,tier!=test"
    )
    made.add_argument("--no-headers", action="store_true", help="print no header line")
    _output(made, "wide", text="; a table unless given, wide has more columns")
    _color(made)
    _connection(made)


def status(made: argparse.ArgumentParser) -> None:
    """Of ``slipway status``."""
    _name(made)
    made.add_argument("-w", "--watch", action="store_true", help="print it again whenever it changes")
    made.add_argument(
        "--wait",
        action="store_true",
        help="wait until the revision that the spec asks for serves (exit code 0) or has failed (1)",
    )
    made.add_argument(
        "--timeout",
        type=duration,
        metavar="DURATION",
        help="with --wait or --watch: give up after so long (exit code 3); 0s looks once",
    )
    _output(made, text="; text for people unless given")
    _color(made)
    _connection(made)


def check(made: argparse.ArgumentParser) -> None:
    """Of ``slipway check``."""
    made.add_argument("paths", metavar="PATH", nargs="+", help="files or folders; - is standard input")
    made.add_argument("-R", "--recursive", action="store_true", help="read folders within folders too")
    made.add_argument(
        "--format",
        choices=("text", "github", "json", "sarif"),
        default="text",
        help="text: a line for each fault; github: annotations and summary of a workflow; sarif: 2.1.0",
    )


def convert_manifest(made: argparse.ArgumentParser) -> None:
    """Of ``slipway convert-manifest``."""
    made.add_argument("paths", metavar="PATH", nargs="+", help="files or folders; - is standard input")
    made.add_argument("-R", "--recursive", action="store_true", help="read folders within folders too")


def pin(made: argparse.ArgumentParser) -> None:
    """Of ``slipway pin``."""
    made.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        help="files or folders; - is standard input, whose pinned text goes to standard output",
    )
    made.add_argument("-R", "--recursive", action="store_true", help="read folders within folders too")
    made.add_argument(
        "--from-cluster",
        action="store_true",
        help="take what serves in the cluster, where its bytes were verified; else the stores are queried "
        "from this machine, with what its environment has under the keys of a credentials Secret",
    )
    made.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 where something is not pinned"
    )
    made.add_argument("--diff", action="store_true", help="write nothing; print what would change")
    _output(made, text=": print what each model was and is; a sentence for each unless given")
    _connection(made)


def report(made: argparse.ArgumentParser) -> None:
    """Of ``slipway report``."""
    _name(made)
    made.add_argument(
        "-o", "--output", metavar="FILE", help="where the page goes; NAME-report.html, - for standard output"
    )
    _connection(made)


def profile(made: argparse.ArgumentParser) -> None:
    """Of ``slipway profile``."""
    made.add_argument("--data", required=True, type=Path, help="training data: a parquet or CSV file")
    made.add_argument("--model", required=True, type=Path, help="the ONNX model")
    made.add_argument("--labels", metavar="COLUMN", help="column with the true answers")
    made.add_argument(
        "--sensitive",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns whose groups are to be treated alike; up to 3",
    )
    made.add_argument(
        "--ignore", nargs="+", default=[], metavar="COLUMN", help="columns that the model does not take"
    )
    made.add_argument(
        "--holdout", type=Path, help="data that the model was not trained on, to see how often it is right"
    )
    made.add_argument("-o", "--output", type=Path, default=Path("profile.json"), help="default: profile.json")


def sign(made: argparse.ArgumentParser) -> None:
    """Of ``slipway sign``."""
    made.add_argument(
        "model",
        metavar="MODEL",
        help="a folder, all of whose files are signed; or an ONNX file, with its weights, profile.json and "
        "conversion.json next to it; or a version in MLflow, such as mlflow://fraud/3 or mlflow://fraud@champion",
    )
    made.add_argument(
        "--key",
        required=True,
        type=Path,
        metavar="FILE",
        help="private key in PEM, of the curves P-256, P-384 or P-521, or Ed25519; one with a password "
        "prompts for it, or reads it from SLIPWAY_KEY_PASSWORD",
    )
    made.add_argument(
        "--certificate",
        type=Path,
        metavar="FILE",
        help="certificate of the key in PEM, and after it the ones between it and its authority, for "
        "spec.model.verify.signature.certificate",
    )


def verify(made: argparse.ArgumentParser) -> None:
    """Of ``slipway verify``."""
    made.add_argument(
        "model",
        metavar="MODEL",
        help="an ONNX file, a folder, or a URI as spec.model.uri has it, such as mlflow://fraud@champion",
    )
    by = made.add_mutually_exclusive_group(required=True)
    by.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="public keys in PEM, one after the other, as the ConfigMap has them",
    )
    by.add_argument(
        "--authorities",
        type=Path,
        metavar="FILE",
        help="certificates of authorities in PEM that the signer's certificate has to lead to",
    )
    by.add_argument(
        "--trust-root",
        type=Path,
        metavar="FILE",
        help="Sigstore's trusted_root.json, for a keyless signature",
    )
    made.add_argument(
        "--identity",
        action="append",
        default=[],
        type=identity,
        metavar="KIND:NAME",
        help="whom the certificate may name, such as email:release@example.com, "
        "uri:spiffe://example.com/release or dns:release.example.com; can be given several times",
    )
    made.add_argument(
        "--issuer",
        metavar="URL",
        help="the OpenID issuer that knows them, for --trust-root",
    )
    made.add_argument(
        "--builder",
        metavar="URI",
        help="the builder that has to have built it, as spec.model.verify.provenance has it; with --source",
    )
    made.add_argument(
        "--source",
        metavar="REPOSITORY",
        help="the repository that it has to have been built from, such as github.com/acme/fraud",
    )
    made.add_argument(
        "--all",
        action="store_true",
        help="every file of the folder, as a server of one's own gets them (spec.runtime.server: External); "
        "so it is for a folder without an ONNX file",
    )


def identity(text: str) -> tuple[str, str]:
    """The kind and the value of whom a certificate names.

    Raises:
        argparse.ArgumentTypeError: if it is none.
    """
    kind, _, value = text.partition(":")
    if kind not in ("email", "uri", "dns") or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is none of email:ADDRESS, uri:URI and dns:NAME")
    return kind, value


def convert(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "model",
        metavar="MODEL",
        help="a file (.joblib, .pkl, .ubj, .json, .cbm, .pt2, .keras), or mlflow://NAME/VERSION or "
        "mlflow://NAME@ALIAS; with --pipeline, a .onnx file",
    )
    made.add_argument(
        "--data",
        required=True,
        type=Path,
        help="rows to compare the answers on: a parquet or CSV file, for networks also .npy or .npz; with "
        "--pipeline image, a folder of pictures",
    )
    made.add_argument(
        "--ignore", nargs="+", default=[], metavar="COLUMN", help="columns that the model does not take"
    )
    made.add_argument(
        "--allow-pickle",
        action="store_true",
        help="load a pickle, which runs the code that is in it: only where you trust whoever made it",
    )
    made.add_argument(
        "--tolerance",
        type=_tolerance,
        metavar="NUMBER",
        help="largest difference of probabilities, and of values relative to those above 1 (default: 0.0001, "
        "of pictures 0.02)",
    )
    made.add_argument(
        "--accept",
        nargs="+",
        default=[],
        choices=("thresholds", "missing", "unknown", "outside", "extremes"),
        metavar="EDGE",
        help="edges at which differences are written down, but not refused: thresholds, missing, unknown, "
        "outside; at extremes none are unless --strict is given",
    )
    made.add_argument(
        "--strict", action="store_true", help="refuse differences at 3.4e38 and infinities, too"
    )
    made.add_argument(
        "--float64",
        action=argparse.BooleanOptionalAction,
        help="let the model take numbers of 64 bits, or of 32 (default: of 32 where it answers as the "
        "original then, else of 64)",
    )
    made.add_argument(
        "--keep-output-names",
        action="store_true",
        help="leave the outputs the names that the converter or exporter gives (default: label, "
        "probabilities, scores or variable, after what they mean)",
    )
    made.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("model.onnx"),
        help="default: model.onnx; conversion.json goes next to it",
    )

    add_steps(made)


def _tolerance(text: str) -> float:
    try:
        tolerance = float(text)
    except ValueError:
        tolerance = -1.0
    if not 0 <= tolerance < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number that is 0 or more, such as 0.001")
    return tolerance


def plan(made: argparse.ArgumentParser) -> None:
    """Of ``slipway plan``."""
    made.add_argument(
        "-f",
        "--filename",
        required=True,
        action="append",
        metavar="PATH",
        help="a file with ModelDeployments, a folder of such files, or - for standard input; "
        "can be given several times",
    )
    made.add_argument("-R", "--recursive", action="store_true", help="read folders with their subfolders")
    made.add_argument(
        "--base",
        metavar="COMMIT",
        help="plan only what differs from where the branch left this one, such as origin/main, by git",
    )
    made.add_argument(
        "--offline",
        action="store_true",
        help="use no cluster: check by the CRD's schema and rules of this version, and compare with the base",
    )
    made.add_argument(
        "--resolve",
        action="store_true",
        help="ask the stores of models what URIs mean now, by the credentials in this environment",
    )
    made.add_argument(
        "--detailed-exitcode", action="store_true", help="exit with 3 where applying would change something"
    )
    made.add_argument(
        "--server-image", help="image of the installed chart; unless given, that of the stable revision"
    )
    made.add_argument(
        "-o",
        "--output",
        choices=("json", "yaml", "name", "markdown", "github"),
        help="output format; github: also a summary of the workflow, and one comment on its pull request",
    )
    _color(made)
    _connection(made)


def serve(made: argparse.ArgumentParser) -> None:
    """Of ``slipway serve``."""
    made.add_argument(
        "model",
        metavar="MODEL",
        nargs="*",
        help="an ONNX file, a folder with one, or a URI such as mlflow://fraud@champion; with -f: instead of "
        "the model that the file names",
    )
    made.add_argument(
        "-f",
        "--filename",
        action="append",
        default=[],
        metavar="PATH",
        help="a file with a ModelDeployment; with --split twice, the stable one first",
    )
    made.add_argument(
        "--split",
        metavar="STABLE/CANARY",
        help="serve two models, with so many percent of requests for each, and judge the second as an "
        "operator would; such as 90/10",
    )
    made.add_argument(
        "--name", help="name of the model to clients; that of the file or of the model unless given"
    )
    made.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    made.add_argument("--port", type=port, default=8080, help="port of REST (default: 8080)")
    made.add_argument("--grpc-port", type=port, default=9000, help="port of gRPC (default: 9000)")
    made.add_argument("--metrics-port", type=port, default=8081, help="port of /metrics (default: 8081)")
    made.add_argument(
        "--volume",
        action="append",
        default=[],
        metavar="CLAIM=FOLDER",
        help="folder that stands for a PersistentVolumeClaim of pvc:// URIs; can be given several times",
    )
    made.add_argument(
        "--config-map",
        action="append",
        default=[],
        metavar="NAME/KEY=FILE",
        help="file that stands for a ConfigMap's key, such as that with the public keys of "
        "spec.model.verify.signature; can be given several times",
    )


def port(text: str) -> int:
    """The number of a port.

    Raises:
        argparse.ArgumentTypeError: if it is none.
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port; use a number from 1 to 65535")
    return int(text)


def command(made: argparse.ArgumentParser) -> None:
    """Of a command to a rollout."""
    _name(made)
    _output(made, text=": print the changed ModelDeployment; a sentence unless given")
    _connection(made)


def history(made: argparse.ArgumentParser) -> None:
    """Of ``slipway history``."""
    _name(made)
    made.add_argument("--no-headers", action="store_true", help="print no header line")
    _output(made, text="; a table unless given")
    _color(made)
    _connection(made)


def _dry_run(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--dry-run", action="store_true", help="let the API server check the change, and change nothing"
    )


def undo(made: argparse.ArgumentParser) -> None:
    """Of ``slipway undo``."""
    command(made)
    made.add_argument(
        "--to-revision", metavar="REVISION", help="an earlier revision; the last stable one unless given"
    )
    _dry_run(made)


def set_model(made: argparse.ArgumentParser) -> None:
    """Of ``slipway set-model``."""
    _name(made)
    made.add_argument("uri", metavar="URI", help="the new spec.model.uri, such as mlflow://fraud/7")
    made.add_argument("--digest", help="the new spec.model.digest; without it the model may have any")
    _output(made, text=": print the changed ModelDeployment; a sentence unless given")
    _dry_run(made)
    _connection(made)


def key(made: argparse.ArgumentParser) -> None:
    """Of ``slipway key``."""
    made.add_argument(
        "action",
        choices=("new", "revoke", "list"),
        metavar="ACTION",
        help="new: make a key for a caller, and print it, once; revoke: take keys of a caller away; list: "
        "show callers and the beginnings of the hashes of their keys",
    )
    _name(made)
    made.add_argument("caller", metavar="CALLER", nargs="?", help="name of the caller, with new and revoke")
    made.add_argument(
        "--secret", help="the Secret; that of the ModelDeployment's spec.access.apiKeys unless given"
    )
    made.add_argument("--hash", help="with revoke: only the key whose hash begins so, as list shows it")
    made.add_argument("--old", action="store_true", help="with revoke: all keys of the caller but the newest")
    made.add_argument(
        "--offline",
        action="store_true",
        help="with new: use no cluster; the line for the Secret goes to standard error",
    )
    made.add_argument(
        "-o", "--output", choices=("json", "yaml"), help="with list: output format; a table unless given"
    )
    _connection(made)


def doctor(made: argparse.ArgumentParser) -> None:
    """Of ``slipway doctor``."""
    made.add_argument(
        "-A", "--all-namespaces", action="store_true", help="models of all namespaces, unless -n is given"
    )
    made.add_argument("--no-headers", action="store_true", help="print no header line")
    made.add_argument("-o", "--output", choices=("json", "yaml"), help="output format; a table unless given")
    _color(made)
    _connection(made)


def version(made: argparse.ArgumentParser) -> None:
    """Of ``slipway version``."""
    made.add_argument("--client", action="store_true", help="use no cluster")
    made.add_argument("-o", "--output", choices=("json", "yaml"), help="output format")
    _connection(made)


def completion(made: argparse.ArgumentParser) -> None:
    """Of ``slipway completion``."""
    made.add_argument("shell", choices=SHELLS, help="the shell to write the script for")
