"""The command line of ``slipway``, in one place: what is parsed, completed and documented is the same.

Nothing here imports what a command needs to run, so that ``--help`` and a wrong argument cost nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from slipway.cli import arguments
from slipway.cli.words import EXIT_CODES

Add = Callable[[argparse.ArgumentParser], None]


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


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments of one subcommand, and ``command``, its name.

    Raises:
        SystemExit: with code 2 where they are wrong.
    """
    return parser().parse_args(list(words))


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


_ROLLOUTS = "slipway.cli.command"

COMMANDS: dict[str, CommandLine] = {
    "get": CommandLine(
        "slipway.cli.get",
        "list ModelDeployments: which version serves, and how far a rollout is",
        arguments.get,
        (
            ("slipway get", "those of this namespace"),
            ("slipway get -A -l team=risk -o wide", "those of a team in all namespaces, with more columns"),
            ("slipway get fraud -o yaml", "one of them, as the API server has it"),
        ),
    ),
    "status": CommandLine(
        "slipway.cli.status",
        "show what serves, and how far a rollout is",
        arguments.status,
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
        arguments.plan,
        (
            ("slipway plan -f fraud.yaml", "checked by the API server, compared with what is there"),
            ("cat models/*.yaml | slipway plan -f -", "what another program prints, such as kustomize build"),
            ("slipway plan --offline -R -f models", "a folder, without a cluster"),
            ("slipway plan --base origin/main -R -f models", "what a branch changes, for a pull request"),
        ),
    ),
    "check": CommandLine(
        "slipway.cli.check",
        "check ModelDeployments in files, without a cluster, for pull requests and editors",
        arguments.check,
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
        arguments.serve,
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
        arguments.command,
        (("slipway promote fraud", "approve the step"),),
    ),
    "approve": CommandLine(
        _ROLLOUTS,
        "let a rollout take the step that it waits at: promote, by the name of the right that it may take",
        arguments.command,
        (("slipway approve fraud", "approve the step"),),
    ),
    "promote-full": CommandLine(
        _ROLLOUTS,
        "give a canary all traffic as soon as it has the pods for it",
        arguments.command,
        (("slipway promote-full fraud", "skip the steps that are left"),),
    ),
    "abort": CommandLine(
        _ROLLOUTS,
        "take all traffic from a canary and reject its revision",
        arguments.command,
        (("slipway abort fraud", "back to the stable revision"),),
    ),
    "retry": CommandLine(
        _ROLLOUTS,
        "allow the most recently rejected revision to be tried again",
        arguments.command,
        (("slipway retry fraud", "start its rollout again"),),
    ),
    "pause": CommandLine(
        _ROLLOUTS, "hold a rollout at its step", arguments.command, (("slipway pause fraud", "hold it"),)
    ),
    "resume": CommandLine(
        _ROLLOUTS,
        "let a rollout continue that was paused by pause",
        arguments.command,
        (("slipway resume fraud", "continue"),),
    ),
    "history": CommandLine(
        "slipway.cli.history",
        "list what was decided of rollouts, and who or what decided it",
        arguments.history,
        (
            ("slipway history fraud", "the last 20 decisions, the newest last"),
            ("slipway history fraud -o json", "for programs: the ModelDeployment, with status.history"),
        ),
    ),
    "undo": CommandLine(
        "slipway.cli.undo",
        "go back to an earlier stable revision: write its model and runtime into the spec",
        arguments.undo,
        (
            ("slipway undo fraud", "the revision before the one that serves"),
            ("slipway undo fraud --to-revision 6f1d2c3b4a --dry-run", "only say what would be written"),
        ),
    ),
    "set-model": CommandLine(
        "slipway.cli.set_model",
        "serve another model: write spec.model.uri",
        arguments.set_model,
        (
            ("slipway set-model fraud mlflow://fraud/7", "pin a version"),
            ("slipway set-model fraud mlflow://fraud@champion", "follow an alias"),
        ),
    ),
    "pin": CommandLine(
        "slipway.cli.pin",
        "write what aliases, tags and branches mean now into files, as versions and digests",
        arguments.pin,
        (
            ("slipway pin -R models --from-cluster", "what serves, and was verified, in the cluster"),
            ("slipway pin models/fraud.yaml", "what its store says now"),
            ("slipway pin -R models --check", "in a pipeline: 1 where a model follows a name"),
        ),
    ),
    "key": CommandLine(
        "slipway.cli.key",
        "make, revoke or list API keys of a model's callers",
        arguments.key,
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
        arguments.report,
        (("slipway report fraud -o fraud.html", "a page to open in a browser"),),
    ),
    "profile": CommandLine(
        "slipway.cli.profile",
        "describe a model's training data, to compare live data with",
        arguments.profile,
        (
            (
                "slipway profile --data train.parquet --model model.onnx --labels fraud",
                "write profile.json",
            ),
        ),
    ),
    "convert": CommandLine(
        "slipway.cli.convert",
        "make ONNX of a framework's model, and prove that it answers as the original",
        arguments.convert,
        (
            (
                "slipway convert fraud.joblib --allow-pickle --data train.parquet --ignore fraud -o "
                "model.onnx",
                "write model.onnx and conversion.json",
            ),
            (
                "slipway convert mlflow://fraud/4 --allow-pickle --data train.parquet --ignore fraud",
                "a model of scikit-learn, XGBoost, LightGBM or CatBoost that MLflow keeps",
            ),
            (
                "slipway convert digits.pt2 --allow-pickle --data digits.npy",
                "a program of PyTorch's torch.export, and arrays of rows",
            ),
            ("slipway convert flowers.keras --data flowers.parquet", "a model of Keras"),
        ),
    ),
    "sign": CommandLine(
        "slipway.cli.sign",
        "sign a model and its profile, for spec.model.verify.signature: write model.sig next to it",
        arguments.sign,
        (
            ("slipway sign fraud --key release.key", "all files of a folder"),
            ("slipway sign fraud/model.onnx --key release.key", "a file, with what is served next to it"),
            ("slipway sign mlflow://fraud/3 --key release.key", "a version that is in MLflow"),
            (
                "slipway sign fraud --key release.key --certificate release.crt",
                "with a certificate, for whoever trusts its authority",
            ),
        ),
    ),
    "verify": CommandLine(
        "slipway.cli.verify",
        "say who signed a model, by the code of the resolver; 1 if nobody did who is trusted",
        arguments.verify,
        (
            ("slipway verify fraud --key release.pub", "what Slipway's own server would serve of a folder"),
            ("slipway verify mlflow://fraud@champion --key release.pub", "before the alias is followed"),
            (
                "slipway verify fraud --authorities ca.pem --identity email:release@example.com",
                "by a certificate of an authority",
            ),
            (
                "slipway verify fraud --key release.pub --builder https://ci.example.com/release "
                "--source github.com/acme/fraud",
                "with where it was built, and from what",
            ),
        ),
    ),
    "doctor": CommandLine(
        "slipway.cli.doctor",
        "say what an installation and its models do not hold, as far as you may see it; it changes nothing",
        arguments.doctor,
        (
            ("slipway doctor", "the installation, and the models of all namespaces that you may list"),
            ("slipway doctor -n payments -o json", "with the models of one namespace, for programs"),
        ),
    ),
    "convert-manifest": CommandLine(
        "slipway.cli.convert_manifest",
        "write ModelDeployments for InferenceServices of KServe, and list what is not carried over",
        arguments.convert_manifest,
        (
            ("slipway convert-manifest service.yaml > model.yaml", "one file; comments list what to check"),
            ("slipway convert-manifest -R services", "every file below a folder"),
        ),
    ),
    "version": CommandLine(
        "slipway.cli.version",
        "print the versions of this command, and of the CRD and the operator in the cluster",
        arguments.version,
        (
            ("slipway version", "all of them"),
            ("slipway version --client", "of this command, without a cluster"),
        ),
    ),
    "completion": CommandLine(
        "slipway.cli.completion",
        "write a script that completes this command line in a shell",
        arguments.completion,
        (
            ("source <(slipway completion bash)", "in ~/.bashrc; zsh alike, in ~/.zshrc"),
            ("slipway completion fish > ~/.config/fish/completions/slipway.fish", "for fish, once"),
        ),
    ),
}
