"""GitHub's API as far as a comment needs it; every request and answer is held to GitHub's own description."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from openapi_schema_validator import OAS30ReadValidator, OAS30WriteValidator

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import GITHUB_OPENAPI, Tools
from tests.unit.cli.listening import listening

BOT = "github-actions[bot]"
REPOSITORY, NUMBER = "octo/models", 7
_COMMENTS = "/repos/{owner}/{repo}/issues/{issue_number}/comments"
_COMMENT = "/repos/{owner}/{repo}/issues/comments/{comment_id}"


@cache
def description() -> dict[str, Any]:
    """GitHub's own."""
    path = Tools(read_settings().cache).fetch_npm(GITHUB_OPENAPI)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@dataclass
class GitHub:
    """What a test may set and see of it.

    Attributes:
        url: of the API.
        comments: on the pull request, the oldest first.
        asked: every request, as method and path.
        wrong: what was not as GitHub describes it.
        tokens: by token, the login that it is of; a bot's are of no user.
        readers: tokens that may write nothing, as those of forks.
        status: of every answer, where GitHub is unwell.
    """

    url: str = ""
    comments: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=lambda: {"secret": BOT})
    readers: set[str] = field(default_factory=set)
    status: int = 0

    def add(self, login: str, body: str) -> dict[str, Any]:
        """A comment of somebody."""
        made: dict[str, Any] = copy.deepcopy(
            description()["components"]["examples"]["issue-comment"]["value"]
        )
        made["user"] |= {"login": login, "type": "Bot" if login.endswith("[bot]") else "User"}
        made |= {"id": len(self.comments) + 1, "body": body}
        self.comments.append(made)
        return made

    @property
    def written(self) -> list[tuple[str, str]]:
        """Requests that write."""
        return [one for one in self.asked if one[0] != "GET"]

    def answer(
        self, method: str, place: str, query: dict[str, str], body: Any, token: str
    ) -> tuple[int, Any]:
        """What GitHub says."""
        login = self.tokens.get(token)
        if login is None:
            return 401, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"}
        denied = {
            "message": "Resource not accessible by integration",
            "documentation_url": "https://x.example",
        }
        if place == "/user":
            if login.endswith("[bot]"):
                return 403, denied
            content = description()["paths"]["/user"]["get"]["responses"]["200"]["content"][
                "application/json"
            ]
            example = _resolved(next(iter(content["examples"].values())))
            return 200, {**example["value"], "login": login, "user_view_type": "private"}
        if method == "GET":
            size, page = int(query.get("per_page", 30)), int(query.get("page", 1))
            return 200, self.comments[(page - 1) * size : page * size]
        if token in self.readers:
            return 403, denied
        if len(body["body"]) > 65_536:
            return 422, {"message": "Validation Failed", "documentation_url": "https://x.example"}
        if method == "POST":
            return 201, self.add(login, body["body"])
        [found] = [one for one in self.comments if str(one["id"]) == place.rpartition("/")[2]]
        found["body"] = body["body"]
        return 200, found

    def check(
        self, method: str, place: str, query: dict[str, str], body: Any, answer: tuple[int, Any]
    ) -> None:
        """Hold a request and its answer to the description."""
        template = next((one for one in (_COMMENTS, _COMMENT, "/user") if _matches(one, place)), None)
        operation = description()["paths"].get(template, {}).get(method.lower())
        if operation is None:
            self.wrong.append(f"no {method} {place}")
            return
        known = {one["name"]: one for one in map(_resolved, operation.get("parameters", ()))}
        values = dict(zip(re.findall("{(.*?)}", template or ""), _parts(template or "", place), strict=True))
        for name, value in (values | query).items():
            if name not in known:
                self.wrong.append(f"{method} {place} takes no {name}")
                continue
            schema = known[name]["schema"]
            self._hold(
                OAS30WriteValidator, int(value) if schema["type"] == "integer" else value, schema, name
            )
        if (wanted := operation.get("requestBody")) is not None:
            schema = wanted["content"]["application/json"]["schema"]
            self._hold(OAS30WriteValidator, body, schema, f"{method} {place}")
            for name in set(body) - schema["properties"].keys():
                self.wrong.append(f"{method} {place} has no {name}")
        status, said = answer
        if str(status) not in operation["responses"]:
            return  # such as 401 and 502, which GitHub describes nowhere
        content = _resolved(operation["responses"][str(status)])["content"]["application/json"]
        self._hold(OAS30ReadValidator, said, content["schema"], f"answer {status} of {method} {place}")

    def _hold(self, validator: Any, value: Any, schema: dict[str, Any], what: str) -> None:
        if (discriminator := schema.get("discriminator")) is not None:
            schema = {"$ref": discriminator["mapping"][value[discriminator["propertyName"]]]}
        whole = {"allOf": [schema], "components": description()["components"]}
        self.wrong += [f"{what}: {error.message[:200]}" for error in validator(whole).iter_errors(value)]


def _matches(template: str, place: str) -> bool:
    return re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), place) is not None


def _parts(template: str, place: str) -> tuple[str, ...]:
    found = re.fullmatch(re.sub(r"{\w+}", "([^/]+)", template), place)
    return found.groups() if found else ()


def _resolved(part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    found: Any = description()
    for step in part["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return dict(found)


@contextmanager
def serving() -> Iterator[GitHub]:
    """A GitHub that answers; at the end nothing may have been other than it describes."""
    hub = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = dict(parse_qsl(url.query))
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            hub.asked.append((self.command, url.path))
            if self.headers.get("X-GitHub-Api-Version") != "2022-11-28" or not self.headers.get("User-Agent"):
                hub.wrong.append("headers")
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            answer = (hub.status, {"message": "unwell"}) if hub.status else None
            answer = answer or hub.answer(self.command, url.path, query, body, token)
            hub.check(self.command, url.path, query, body, answer)
            said = json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_PATCH = do_GET

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with listening(Handler) as port:
        hub.url = f"http://127.0.0.1:{port}"
        yield hub
    assert hub.wrong == []
