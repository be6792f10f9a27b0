"""``POST /v2/models/NAME/feedback``: labels for what was predicted, on any replica and at any time."""

from __future__ import annotations

import time
from typing import Any

import orjson

from slipway_server.errors import schema_error, show
from slipway_server.feedback.account import Account, Result
from slipway_server.feedback.seen import Seen
from slipway_server.feedback.tokens import TokenError, Tokens
from slipway_server.wire.response import Response, json_response

#: Labels in one request; each costs a few microseconds of the event loop.
MOST_LABELS = 1000
#: Of a number's true value: the sum of errors stays finite, and what others sent can be seen in it.
MOST_LABEL = 1e15
#: Clocks of nodes may differ by so much.
_SKEW_SECONDS = 300
_STATUS = {Result.DUPLICATE: 409, Result.EXPIRED: 410, Result.INVALID: 400}


class Desk:
    """Takes labels back."""

    def __init__(self, tokens: Tokens, account: Account, seen: Seen, max_age_days: int) -> None:
        self._tokens = tokens
        self._account = account
        self._seen = seen
        self._days = max_age_days

    def answer(self, body: bytes, cohort: int = 0) -> Response:
        """The response to one ``{"token": …, "label": …}`` or to ``{"feedback": [{…}, …]}``.

        Labels of a batch are taken or refused one by one: the response counts them and names the refused ones
        by position. ``cohort`` is that of whoever sends it.

        Raises :class:`RequestError` for a body of another form.
        """
        document = _parse(body)
        many = document.get("feedback")
        if many is None:
            result, message = self._take(document, "the feedback", cohort)
            if message is not None:
                return json_response({"error": message, "result": result}, _STATUS[result])
            return json_response({"accepted": 1})
        if type(many) is not list or len(many) > MOST_LABELS:
            raise schema_error(
                f"'feedback' must be a list of at most {MOST_LABELS} objects, not {show(many)}"
            )
        counts: dict[str, Any] = {result.value: 0 for result in Result}
        refused = []
        for position, each in enumerate(many):
            result, message = self._take(each, f"feedback[{position}]", cohort)
            counts[result] += 1
            if message is not None:
                refused.append({"position": position, "result": result, "error": message})
        return json_response({**counts, "refused": refused})

    def _take(self, given: object, where: str, cohort: int) -> tuple[Result, str | None]:
        result, message = self._judged(given, where, cohort)
        if result is not Result.ACCEPTED:
            self._account.refused(result)
        return result, message

    def _judged(self, given: object, where: str, cohort: int) -> tuple[Result, str | None]:
        if type(given) is not dict or type(given.get("token")) is not str or "label" not in given:
            return Result.INVALID, f"{where} must be an object with 'token', a string, and 'label'"
        try:
            said = self._tokens.read(given["token"])
        except TokenError as error:
            return Result.INVALID, f"{where}: 'token' is refused: {error}"
        age = time.time() - said.at
        if age > self._days * 86400:
            return Result.EXPIRED, f"{where}: the prediction is older than {self._days} days"
        if age < -_SKEW_SECONDS or not self._account.knows(said.version):
            return Result.INVALID, f"{where}: 'token' is of another time, or of a version long gone"
        label = given["label"]
        if not said.is_class and type(label) not in (int, float):
            return Result.INVALID, f"{where}: 'label' must be a number, as was predicted; not {show(label)}"
        if not said.is_class and abs(label) > MOST_LABEL:
            return Result.INVALID, f"{where}: 'label' must be between -{MOST_LABEL:g} and {MOST_LABEL:g}"
        if not isinstance(label, str | int | float) or label == "":
            return Result.INVALID, f"{where}: 'label' must be the true class or number, not {show(label)}"
        if not self._seen.add(said.identity):
            return Result.DUPLICATE, f"{where}: a label for this prediction is there already"
        self._account.labelled(said, label, age, cohort)
        return Result.ACCEPTED, None


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise schema_error(f"the body is not JSON: {error}") from None
    if type(document) is not dict:
        raise schema_error("the body must be an object with 'token' and 'label', or with 'feedback'")
    return document
