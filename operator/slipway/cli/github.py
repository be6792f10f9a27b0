"""A workflow of GitHub: its summary, and one comment on its pull request, which later runs update."""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from slipway.cli.errors import CommandError

#: Comments on one page, and pages that are read to find one's own.
_PAGE, _MOST_PAGES = 100, 30
_TIMEOUT = urllib3.Timeout(total=30)
#: What GitHub answers a token that may not.
_DENIED = (401, 403, 404)
_HINT = "the job needs permissions: pull-requests: write, which pull requests from forks never have"


class _RefusedError(Exception):
    """GitHub did not do what it was asked for."""


def append_summary(text: str, environment: Mapping[str, str] = os.environ) -> None:
    """Show text in the run's summary; nothing outside of a workflow.

    Raises:
        CommandError: where the summary cannot be written.
    """
    place = environment.get("GITHUB_STEP_SUMMARY")
    if not place:
        return
    try:
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CommandError(f"{place} cannot be written: {error.strerror}") from error


def stop_commands() -> str:
    """Have the runner take nothing that is printed from here on for a command to it; gives what ends that."""
    token = secrets.token_hex(16)
    print(f"::stop-commands::{token}", flush=True)
    return f"::{token}::"


def marker(environment: Mapping[str, str] = os.environ) -> str:
    """The first line of this job's comment, by which it is found again."""
    job = re.sub(r"[^\w-]", "", environment.get("GITHUB_JOB", ""))
    return f"<!-- slipway plan {job} -->"


def publish(text: str, *, is_worth_one: bool, environment: Mapping[str, str] = os.environ) -> None:
    """Make the text this job's comment on the pull request, or say on standard error why there is none.

    That there is none is no failure: the summary has the same.

    Args:
        text: begins with :func:`marker`.
        is_worth_one: whether to make a comment where there is none yet.
        environment: of the workflow.
    """
    token, number = environment.get("GITHUB_TOKEN", ""), _pull_request(environment)
    if number is None:
        _note("this run is for no pull request")
        return
    if not token:
        _note("GITHUB_TOKEN is not set")
        return
    api = _Api(environment.get("GITHUB_API_URL") or "https://api.github.com", token)
    comments = f"/repos/{environment.get('GITHUB_REPOSITORY', '')}/issues"
    try:
        own = _own(api, f"{comments}/{number}/comments", text.partition("\n")[0])
        if own is not None:
            api.send("PATCH", f"{comments}/comments/{own}", {"body": text})
        elif is_worth_one:
            api.send("POST", f"{comments}/{number}/comments", {"body": text})
    except (_RefusedError, HTTPError) as error:
        _note(str(error).partition(" (Caused by")[0])


def _own(api: _Api, path: str, first: str) -> int | None:
    """The comment that an earlier run made: others may begin one of theirs with the same line."""
    me: str | None = None
    for one in _pages(api, path):
        if not str(one.get("body") or "").startswith(first):
            continue
        user = one.get("user") or {}
        if user.get("type") == "Bot":
            return int(one["id"])
        if me is None:
            me = api.login()
        if me and user.get("login") == me:
            return int(one["id"])
    return None


def _pages(api: _Api, path: str) -> Iterator[dict[str, Any]]:
    for page in range(1, _MOST_PAGES + 1):
        found = api.get(path, {"per_page": str(_PAGE), "page": str(page)})
        yield from found
        if len(found) < _PAGE:
            return


def _pull_request(environment: Mapping[str, str]) -> int | None:
    """The number of the pull request that the workflow runs for."""
    try:
        event = json.loads(Path(environment.get("GITHUB_EVENT_PATH", "")).read_text(encoding="utf-8"))
        return int(event["pull_request"]["number"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _note(why: str) -> None:
    print(f"no comment on the pull request: {why}", file=sys.stderr)


class _Api:
    """GitHub's REST API, as far as it is needed."""

    def __init__(self, address: str, token: str) -> None:
        self._address = address.rstrip("/")
        self._headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "User-Agent": "slipway",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        # What makes a comment is not repeated: it may have been made. Nor is a token sent anywhere else.
        again = urllib3.Retry(
            total=3, redirect=False, backoff_factor=0.5, status_forcelist=(502, 503, 504),
            allowed_methods=("GET", "PATCH"), raise_on_status=False,
        )  # fmt: skip
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT, retries=again)

    def get(self, path: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """A page of a list."""
        found: list[dict[str, Any]] = self._asked("GET", path, fields=dict(query))
        return found

    def send(self, method: str, path: str, body: Mapping[str, str]) -> None:
        """Write."""
        self._asked(method, path, body=json.dumps(body).encode())

    def login(self) -> str:
        """Whose token it is; empty for one of an installation, which is told from no other."""
        try:
            return str(self._asked("GET", "/user")["login"])
        except (_RefusedError, KeyError, TypeError):
            return ""

    def _asked(self, method: str, path: str, **more: Any) -> Any:
        answer = self._pool.request(method, f"{self._address}{path}", headers=self._headers, **more)
        if answer.status not in (200, 201):
            hint = f"; {_HINT}" if answer.status in _DENIED else ""
            raise _RefusedError(f"GitHub answered {answer.status}, {_said(answer.data)!r}{hint}")
        try:
            return json.loads(answer.data)
        except ValueError as error:
            raise _RefusedError(f"{self._address} does not answer as GitHub's API: {error}") from error


def _said(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])[:200]
    except (ValueError, KeyError, TypeError):
        return ""
