"""The command line of ``slipway``, in one place: what is parsed, completed and documented is the same.

Nothing here imports what a command needs to run, so that ``--help`` and a wrong argument cost nothing.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.cli import candidates
from slipway.cli.words import EXIT_CODES

Add = Callable[[argparse.ArgumentParser], None]

#: Shells that completion is written for.
SHELLS = ("bash", "zsh", "fish")
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class CommandLine:
    """A subcommand.

    Attributes:
        module: has ``run(arguments)``; it is imported only to run the command.
        summary: what it does, in one line.
        add: adds its arguments.
        examples: what a user types after ``slipway``, and what that does.
    """

    module: str
    summary: str
    add: Add
    examples: tuple[tuple[str, str], ...]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of one subcommand, and ``command``, its name.

    Raises:
        SystemExit: with code 2 where they are wrong.
    """
    return parser().parse_args(list(arguments))


def parser(program: str | None = None) -> argparse.ArgumentParser:
    """The whole command line; ``program`` is how it is called, as seen by its user unless given."""
    made = argparse.ArgumentParser(
        prog=program or _program(), description="Model serving on Kubernetes.", epilog=EXIT_CODES
    )
    made.add_argument("--version", action="store_true", help="print the version of this command and exit")
    commands = made.add_subparsers(dest="command", required=False, metavar="COMMAND")
    for name, line in COMMANDS.items():
        subparser = commands.add_parser(
            name,
            help=line.summary,
            description=line.summary[0].upper() + line.summary[1:] + ".",
            epilog="\n".join(_examples(made.prog, line)),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        line.add(subparser)
    return made


def _examples(program: str, line: CommandLine) -> Iterator[str]:
    yield "examples:" if len(line.examples) > 1 else "example:"
    for typed, meaning in line.examples:
        yield f"  # {meaning}"
        yield f"  {typed.replace('slipway', program, 1)}"


def _program() -> str:
    """By what name it was called: kubectl calls its plugins ``kubectl-NAME``."""
    return "kubectl slipway" if sys.argv and sys.argv[0].endswith("kubectl-slipway") else "slipway"


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


def _get(made: argparse.ArgumentParser) -> None:
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


def _status(made: argparse.ArgumentParser) -> None:
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


def _check(made: argparse.ArgumentParser) -> None:
    made.add_argument("paths", metavar="PATH", nargs="+", help="files or folders; - is standard input")
    made.add_argument("-R", "--recursive", action="store_true", help="read folders within folders too")
    made.add_argument(
        "--format",
        choices=("text", "github", "json", "sarif"),
        default="text",
        help="text: a line for each fault; github: annotations and summary of a workflow; sarif: 2.1.0",
    )


def _report(made: argparse.ArgumentParser) -> None:
    _name(made)
    made.add_argument(
        "-o", "--output", metavar="FILE", help="where the page goes; NAME-report.html, - for standard output"
    )
    _connection(made)


def _profile(made: argparse.ArgumentParser) -> None:
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


def _plan(made: argparse.ArgumentParser) -> None:
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
        "--offline",
        action="store_true",
        help="use no cluster: check by the CRD's schema and rules of this version, and compare with nothing",
    )
    made.add_argument(
        "--detailed-exitcode", action="store_true", help="exit with 3 where applying would change something"
    )
    made.add_argument(
        "--server-image", help="image of the installed chart; unless given, that of the stable revision"
    )
    made.add_argument("-o", "--output", choices=("json", "yaml", "name"), help="output format")
    _color(made)
    _connection(made)


def _serve(made: argparse.ArgumentParser) -> None:
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


def port(text: str) -> int:
    """The number of a port.

    Raises:
        argparse.ArgumentTypeError: if it is none.
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port; use a number from 1 to 65535")
    return int(text)


def _command(made: argparse.ArgumentParser) -> None:
    _name(made)
    _output(made, text=": print the changed ModelDeployment; a sentence unless given")
    _connection(made)


def _dry_run(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--dry-run", action="store_true", help="let the API server check the change, and change nothing"
    )


def _undo(made: argparse.ArgumentParser) -> None:
    _command(made)
    made.add_argument(
        "--to-revision", metavar="REVISION", help="an earlier revision; the last stable one unless given"
    )
    _dry_run(made)


def _set_model(made: argparse.ArgumentParser) -> None:
    _name(made)
    made.add_argument("uri", metavar="URI", help="the new spec.model.uri, such as mlflow://fraud/7")
    made.add_argument("--digest", help="the new spec.model.digest; without it the model may have any")
    _output(made, text=": print the changed ModelDeployment; a sentence unless given")
    _dry_run(made)
    _connection(made)


def _key(made: argparse.ArgumentParser) -> None:
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


def _version(made: argparse.ArgumentParser) -> None:
    made.add_argument("--client", action="store_true", help="use no cluster")
    made.add_argument("-o", "--output", choices=("json", "yaml"), help="output format")
    _connection(made)


def _completion(made: argparse.ArgumentParser) -> None:
    made.add_argument("shell", choices=SHELLS, help="the shell to write the script for")


_ROLLOUTS = "slipway.cli.command"

COMMANDS: dict[str, CommandLine] = {
    "get": CommandLine(
        "slipway.cli.get",
        "list ModelDeployments: which version serves, and how far a rollout is",
        _get,
        (
            ("slipway get", "those of this namespace"),
            ("slipway get -A -l team=risk -o wide", "those of a team in all namespaces, with more columns"),
            ("slipway get fraud -o yaml", "one of them, as the API server has it"),
        ),
    ),
    "status": CommandLine(
        "slipway.cli.status",
        "show what serves, and how far a rollout is",
        _status,
        (
            ("slipway status fraud -n payments", "one look"),
            ("slipway status fraud --watch", "follow a rollout"),
            (
                "slipway status fraud --wait --timeout 30m",
                "in a pipeline: 0 once the new model serves, 1 if it was rejected, 3 after 30 minutes",
            ),
        ),
    ),
    "plan": CommandLine(
        "slipway.cli.plan",
        "check ModelDeployments and show what applying them would do",
        _plan,
        (
            ("slipway plan -f fraud.yaml", "checked by the API server, compared with what is there"),
            ("cat models/*.yaml | slipway plan -f -", "what another program prints, such as kustomize build"),
            ("slipway plan --offline -R -f models", "a folder, without a cluster"),
        ),
    ),
    "check": CommandLine(
        "slipway.cli.check",
        "check ModelDeployments in files, without a cluster, for pull requests and editors",
        _check,
        (
            (
                "slipway check -R models",
                "every file below a folder; a line for each fault, with file and line",
            ),
            ("slipway check fraud.yaml --format sarif", "for code scanning"),
        ),
    ),
    "serve": CommandLine(
        "slipway.cli.serve",
        "serve a model on this machine, without a cluster, by the same model server",
        _serve,
        (
            ("slipway serve model.onnx", "a file; when it changes, the new one takes over"),
            ("slipway serve -f fraud.yaml model.onnx", "with the contract and the rest of a ModelDeployment"),
            ("slipway serve mlflow://fraud@champion", "from the MLflow of MLFLOW_TRACKING_URI"),
            ("slipway serve old.onnx new.onnx --split 90/10", "a canary, judged as an operator judges it"),
        ),
    ),
    "promote": CommandLine(
        _ROLLOUTS,
        "let a rollout take the step that it waits at",
        _command,
        (("slipway promote fraud", "approve the step"),),
    ),
    "promote-full": CommandLine(
        _ROLLOUTS,
        "give a canary all traffic as soon as it has the pods for it",
        _command,
        (("slipway promote-full fraud", "skip the steps that are left"),),
    ),
    "abort": CommandLine(
        _ROLLOUTS,
        "take all traffic from a canary and reject its revision",
        _command,
        (("slipway abort fraud", "back to the stable revision"),),
    ),
    "retry": CommandLine(
        _ROLLOUTS,
        "allow the most recently rejected revision to be tried again",
        _command,
        (("slipway retry fraud", "start its rollout again"),),
    ),
    "pause": CommandLine(
        _ROLLOUTS, "hold a rollout at its step", _command, (("slipway pause fraud", "hold it"),)
    ),
    "resume": CommandLine(
        _ROLLOUTS,
        "let a rollout continue that was paused by pause",
        _command,
        (("slipway resume fraud", "continue"),),
    ),
    "undo": CommandLine(
        "slipway.cli.undo",
        "go back to an earlier stable revision: write its model and runtime into the spec",
        _undo,
        (
            ("slipway undo fraud", "the revision before the one that serves"),
            ("slipway undo fraud --to-revision 6f1d2c3b4a --dry-run", "only say what would be written"),
        ),
    ),
    "set-model": CommandLine(
        "slipway.cli.set_model",
        "serve another model: write spec.model.uri",
        _set_model,
        (
            ("slipway set-model fraud mlflow://fraud/7", "pin a version"),
            ("slipway set-model fraud mlflow://fraud@champion", "follow an alias"),
        ),
    ),
    "key": CommandLine(
        "slipway.cli.key",
        "make, revoke or list API keys of a model's callers",
        _key,
        (
            ("slipway key new fraud shop", "a key for the caller shop; the Secret gets its hash"),
            ("slipway key list fraud", "who has keys"),
            ("slipway key revoke fraud shop --old", "once shop uses the newer key"),
            ("slipway key revoke fraud shop", "shut it out"),
        ),
    ),
    "report": CommandLine(
        "slipway.cli.report",
        "write one page about a model's inputs, predictions and accuracy",
        _report,
        (("slipway report fraud -o fraud.html", "a page to open in a browser"),),
    ),
    "profile": CommandLine(
        "slipway.cli.profile",
        "describe a model's training data, to compare live data with",
        _profile,
        (
            (
                "slipway profile --data train.parquet --model model.onnx --labels fraud",
                "write profile.json",
            ),
        ),
    ),
    "version": CommandLine(
        "slipway.cli.version",
        "print the versions of this command, and of the CRD and the operator in the cluster",
        _version,
        (
            ("slipway version", "all of them"),
            ("slipway version --client", "of this command, without a cluster"),
        ),
    ),
    "completion": CommandLine(
        "slipway.cli.completion",
        "write a script that completes this command line in a shell",
        _completion,
        (
            ("source <(slipway completion bash)", "in ~/.bashrc; zsh alike, in ~/.zshrc"),
            ("slipway completion fish > ~/.config/fish/completions/slipway.fish", "for fish, once"),
        ),
    ),
}
