"""Arguments, errors, colours, widths, and what starting it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

import pytest

from slipway.cli import terminal
from slipway.cli.arguments import duration
from slipway.cli.main import main
from slipway.cli.parser import COMMANDS, parse
from slipway.cli.terminal import Line, Tone, lay_out
from tests.unit.cli.conftest import Run
from tests.unit.cli.serving import CONFIG, RESOURCE, Served
from tests.unit.world import NAME, NAMESPACE


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("250ms", 0.25), ("0", 0), ("1.5s", 1.5)],
)
def test_a_duration_is_written_as_for_kubectl(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "5x", "-1", "5 m", "m5"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="write one such as 30s, 5m or 1h30m"):
        duration(text)


def test_wrong_arguments_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(["status"])
    assert end.value.code == 2
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_what_to_type(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for called, program in (("/bin/slipway", "slipway"), ("/bin/kubectl-slipway", "kubectl slipway")):
        monkeypatch.setattr(sys, "argv", [called])
        with pytest.raises(SystemExit) as end:
            parse([command, "--help"])
        assert end.value.code == 0
        said = capsys.readouterr().out
        assert f"usage: {program} {command}" in said
        for typed, why in COMMANDS[command].examples:
            assert f"  # {why}\n  {typed.replace('slipway', program, 1)}" in said


def test_somebody_is_impersonated(cluster: Served, run: Run) -> None:
    assert run("status", NAME, "--as", "ann", "--as-group", "dev", "--as-group", "ops") == 0
    sent = [
        (name.lower(), value) for name, value in cluster.headers[-1] if name.lower().startswith("impersonate")
    ]
    assert sent == [("impersonate-user", "ann"), ("impersonate-group", "dev"), ("impersonate-group", "ops")]
    assert run("status", NAME) == 0
    assert not [name for name, _ in cluster.headers[-1] if name.lower().startswith("impersonate")]


def headers(cluster: Served, name: str) -> list[str]:
    """Values of a header of the last request."""
    return [value for found, value in cluster.headers[-1] if found.lower() == name]


def server_of(cluster: Served) -> str:
    """The address that the kubeconfig has."""
    return cluster.kubeconfig.read_text().split('server: "')[1].split('"')[0]


def test_a_token_goes_before_what_the_kubeconfig_knows_its_user_by(cluster: Served, run: Run) -> None:
    text = cluster.kubeconfig.read_text()
    cluster.kubeconfig.write_text(text.replace("user: {}", "user: {token: of-the-kubeconfig}"))
    assert run("status", NAME) == 0
    assert headers(cluster, "authorization") == ["Bearer of-the-kubeconfig"]
    assert run("status", NAME, "--token", "given") == 0
    assert headers(cluster, "authorization") == ["Bearer given"]


def test_a_server_goes_before_the_kubeconfigs(
    cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    here = server_of(cluster)
    cluster.kubeconfig.write_text(cluster.kubeconfig.read_text().replace(here, "http://127.0.0.1:1"))
    assert run("status", NAME) == 1
    assert run("status", NAME, "--server", f"{here}/") == 0
    capsys.readouterr()
    assert run("status", NAME, "--server", here.removeprefix("http://")) == 1
    assert "write an address such as https://cluster.example.com:6443" in capsys.readouterr().err


def test_a_server_and_a_token_need_no_kubeconfig(
    cluster: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    where = ["-n", NAMESPACE, "--server", server_of(cluster)]
    assert main(["status", NAME, *where, "--token", "given"]) == 0
    assert headers(cluster, "authorization") == ["Bearer given"]


def test_another_server_is_not_shown_the_token_of_the_pod_that_this_runs_in(
    cluster: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert main(["status", NAME, "-n", NAMESPACE, "--server", server_of(cluster)]) == 0
    assert headers(cluster, "authorization") == []


def test_an_authority_that_cannot_be_read_is_told_in_a_line(
    cluster: Served, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("status", NAME, "--certificate-authority", str(tmp_path / "none.pem")) == 1
    said = capsys.readouterr().err
    assert said == f"error: --certificate-authority {tmp_path / 'none.pem'}: there is no such file\n"
    assert cluster.asked == []


def test_a_group_alone_is_not_impersonated(
    cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("status", NAME, "--as-group", "ops") == 1
    assert "--as-group needs --as" in capsys.readouterr().err
    assert cluster.asked == []


def test_a_request_has_an_end(cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    import time

    cluster.answer = lambda *_: time.sleep(3)  # type: ignore[func-returns-value]
    begun = time.monotonic()
    assert run("status", NAME, "--request-timeout", "200ms") == 1
    assert time.monotonic() - begun < 2.5
    said = capsys.readouterr().err
    assert said.startswith("error: the API server at 127.0.0.1:")
    assert "does not answer" in said


def test_an_api_server_that_is_down_is_told_in_a_line(
    tmp_path: Path, cluster: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    text = cluster.kubeconfig.read_text()
    port = text.split("127.0.0.1:")[1].split('"')[0]
    path = tmp_path / "down"
    path.write_text(text.replace(port, "1"))
    assert main(["status", NAME, "--kubeconfig", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the API server at 127.0.0.1:1 does not answer: " in said
    assert "refused" in said
    assert "HTTPConnection" not in said


def answer(code: int, body: Any) -> tuple[int, str, bytes]:
    return code, "application/json", body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.mark.parametrize(
    ("code", "body", "says"),
    [
        (
            403,
            {"kind": "Status", "message": 'User "me" cannot get resource'},
            f'ModelDeployment {NAMESPACE}/{NAME}: User "me" cannot get resource',
        ),
        (
            401,
            {"kind": "Status", "message": "Unauthorized"},
            f"ModelDeployment {NAMESPACE}/{NAME}: Unauthorized",
        ),
        (
            500,
            b"oh",
            f"ModelDeployment {NAMESPACE}/{NAME}: the API server answered 500 Internal Server Error",
        ),
        (502, b'["oh"]', f"ModelDeployment {NAMESPACE}/{NAME}: the API server answered 502 Bad Gateway"),
        (404, {"kind": "Status", "message": "no"}, f"there is no ModelDeployment {NAMESPACE}/{NAME}"),
        (200, b"[1]", "what answered is no API server: "),
        (200, {"no": "metadata"}, "what answered is no API server: "),
    ],
)
def test_what_the_api_server_says_is_passed_on(
    cluster: Served, run: Run, capsys: pytest.CaptureFixture[str], code: int, body: Any, says: str
) -> None:
    cluster.answer = lambda *_: answer(code, body)
    assert run("status", NAME) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert says in said


def test_a_list_that_is_none_is_refused(
    cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.answer = lambda *_: answer(200, {"items": 7})
    assert run("get") == 1
    assert f"ModelDeployments in {NAMESPACE}: what answered is no API server" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("choice", "is_terminal", "environment", "colored"),
    [
        ("auto", True, {}, True),
        ("auto", False, {}, False),
        ("auto", True, {"NO_COLOR": "1"}, False),
        ("auto", True, {"NO_COLOR": ""}, True),
        ("auto", True, {"TERM": "dumb"}, False),
        ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {}, False),
    ],
)
def test_colour_is_for_terminals_and_can_be_off(
    choice: str,
    is_terminal: bool,
    environment: dict[str, str],
    colored: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    assert terminal.is_colored(choice) is colored


def test_lines_have_the_colour_of_their_tone() -> None:
    drawn = [Line("good", Tone.GOOD), Line("plain"), Line("", Tone.BAD)]
    assert lay_out(drawn, None, color=True) == "\033[32mgood\033[0m\nplain\n"
    assert lay_out(drawn, None, color=False) == "good\nplain\n"


def test_long_lines_go_on_below_their_own_beginning() -> None:
    drawn = [Line("  Ready  a sentence of several-words", Tone.BAD)]
    assert lay_out(drawn, 22, color=False) == "  Ready  a sentence of\n    several-words"
    assert lay_out(drawn, 36, color=False) == drawn[0].text
    assert lay_out(drawn, 35, color=False).count("\n") == 1
    assert lay_out([Line("x" * 50)], 40, color=False) == "x" * 50, "no name is broken"


def test_the_width_is_that_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "77")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert terminal.width() is None
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert terminal.width() == 77
    monkeypatch.setenv("COLUMNS", "5")
    assert terminal.width() == 40


@pytest.mark.parametrize("words", [("status", NAME), ("get",)])
def test_colour_reaches_what_is_printed(
    run: Run, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(*words, "--color", "always") == 0
    assert "\033[1m" in capsys.readouterr().out
    assert run(*words, "--color", "never") == 0
    assert "\033" not in capsys.readouterr().out


MINIMAL = {
    "apiVersion": "slipway.dev/v1alpha1",
    "kind": "ModelDeployment",
    "spec": {"model": {"uri": "mlflow://a@b"}},
}


def imported(*words: str) -> set[str]:
    """What a command has imported once it is done."""
    code = (
        "import sys; from slipway.cli import main as m; m.main(sys.argv[1:]); sys.exit(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    return set(done.stderr.split())


HEAVY = {"kubernetes", "aiohttp", "kopf", "numpy", "onnxruntime", "rich", "urllib3", "requests", "mlflow"}


@pytest.mark.parametrize("words", [("version", "--client"), ("--version",), ("completion", "bash")])
def test_what_needs_no_cluster_imports_next_to_nothing(words: tuple[str, ...]) -> None:
    found = imported(*words)
    assert found & (HEAVY | {"pydantic", "yaml"}) == set()
    assert len(found) < 200


def test_a_plan_without_a_cluster_imports_no_client(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(json.dumps({"metadata": {"name": "a"}, **MINIMAL}))
    assert imported("plan", "--offline", "-f", str(path)) & (HEAVY - {"rich"}) == set()


#: What else a command may import that asks a cluster: a client of HTTP, and what reads a kubeconfig.
FOR_A_CLUSTER = {"kubernetes", "urllib3", "yaml"}


@pytest.mark.parametrize("words", [("get",), ("get", "-A", "-o", "json"), ("status", NAME)])
def test_what_asks_a_cluster_imports_a_client_and_no_more(tmp_path: Path, words: tuple[str, ...]) -> None:
    """So that it starts within 0.3 s of CPU; nobody answers at the address."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(CONFIG.format(port=1, namespace=NAMESPACE))
    found = imported(*words, "--kubeconfig", str(kubeconfig))
    assert found >= FOR_A_CLUSTER
    others = {"oauthlib", "requests_oauthlib", "google.auth", "websocket", "dateutil", "pydantic"}
    assert found & (HEAVY | others) == FOR_A_CLUSTER & HEAVY
    assert len(found) < 350


def test_a_status_as_it_was_answered_imports_nothing_that_reads_it(cluster: Served) -> None:
    found = imported("status", NAME, "-o", "json", "--kubeconfig", str(cluster.kubeconfig))
    assert ("GET", RESOURCE) in cluster.asked
    assert not {"pydantic", "slipway.api.status"} & found


#: What of kubectl's arguments every command has that asks a cluster.
OF_KUBECTL = {"--namespace", "--context", "--kubeconfig", "--server", "--token", "--certificate-authority"}
OF_KUBECTL |= {"--as", "--as-group", "--request-timeout"}
WITHOUT_A_CLUSTER = {
    "check",
    "serve",
    "profile",
    "convert",
    "sign",
    "verify",
    "convert-manifest",
    "completion",
}
#: They print something else than ModelDeployments.
NAMELESS = {"key", "doctor", "version"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_asks_a_cluster_takes_what_kubectl_takes(command: str) -> None:
    made = ArgumentParser()
    COMMANDS[command].add(made)
    choices = {option: one.choices for one in made._actions for option in one.option_strings}
    has_cluster = command not in WITHOUT_A_CLUSTER
    assert set(choices) & OF_KUBECTL == (OF_KUBECTL if has_cluster else set())
    if has_cluster and command != "report":  # which writes a page
        assert {"json", "yaml"} <= set(choices["--output"] or ())
        assert ("name" in (choices["--output"] or ())) == (command not in NAMELESS)


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    folder = tmp_path / "many.yaml"
    documents = ({"metadata": {"name": f"a{number}"}, **MINIMAL} for number in range(200))
    folder.write_text("\n---\n".join(map(json.dumps, documents)))
    done = subprocess.run(
        [
            "bash",
            "-c",
            f'set -o pipefail; "{sys.executable}" -m slipway.cli.main plan --offline -f "{folder}" | head -1',
        ],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "default/a0\n", "")
