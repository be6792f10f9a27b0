"""What is done with each answer: its groups and the age of its data are counted, and it gets a token for its
label to come with."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from slipway_server.call.call import Call
from slipway_server.feedback.account import Account
from slipway_server.feedback.groups import GroupReader, Groups
from slipway_server.feedback.tokens import Tokens, asked_by, content, stamp
from slipway_server.monitoring.ages import AgeCounter
from slipway_server.monitoring.outcomes import OutcomeReader

log = logging.getLogger(__name__)

#: A larger request gets no tokens: they would be longer than its answer.
MOST_ROWS = 1024
_MOST_REMEMBERED = 4096


class Witness:
    """Sees every batch after its answers are written; any thread may call."""

    def __init__(
        self,
        version: str,
        outcomes: OutcomeReader,
        account: Account,
        groups: GroupReader | None,
        tokens: Tokens | None,
        ages: AgeCounter | None = None,
    ) -> None:
        """Without ``groups`` none are counted; without ``tokens`` none are given."""
        self._version = version
        self._outcomes = outcomes
        self._account = account
        self.groups = groups
        self._tokens = tokens
        self._ages = ages
        self._contents: dict[tuple[str, Groups], bytes] = {}

    def is_told_by(self, parameters: Mapping[str, Any]) -> bool:
        """Whether a request's parameters say something of its rows."""
        if self._ages is not None and self._ages.parameter in parameters:
            return True
        return self.groups is not None and not self.groups.parameters.isdisjoint(parameters)

    def flush(self) -> None:
        """Count what waits to be counted."""
        if self._ages is not None:
            self._ages.flush()

    def see(
        self, calls: Sequence[Call], inputs: Mapping[str, Any], names: Sequence[str], answers: Sequence[Any]
    ) -> None:
        """Count and mark; ``inputs`` and ``answers`` are of all calls together, in their order.

        What fails here is logged: the client gets its answer all the same.
        """
        try:
            self._see(calls, inputs, names, answers)
        except Exception:
            log.exception("an answer could not be marked for feedback")

    def _see(
        self, calls: Sequence[Call], inputs: Mapping[str, Any], names: Sequence[str], answers: Sequence[Any]
    ) -> None:
        rows = sum(call.rows for call in calls)
        if not rows:
            return
        if self._ages is not None:
            self._ages.add(calls, inputs)
            if self.groups is None and self._tokens is None:
                return
        found = self._outcomes.read(names, answers, rows)
        if found is None:
            return
        now, start = stamp(time.time()), 0
        for call in calls:
            stop = start + call.rows
            texts, pairs = found.texts[start:stop], self._of(call, inputs, start)
            cohort = call.cohort() if self._account.cohorts else 0
            if pairs and found.is_class:
                self._account.predicted(texts, pairs, cohort)
            if self._tokens is not None and call.codec is None and call.rows <= MOST_ROWS:
                who = (asked_by(cohort),) if self._account.cohorts else ()
                parts = [
                    self._content(text, found.is_class, (pairs[row] if pairs else ()) + who)
                    for row, text in enumerate(texts)
                ]
                _mark(call, self._tokens.make(now, parts))
            start = stop

    def _of(self, call: Call, inputs: Mapping[str, Any], start: int) -> list[Groups]:
        if self.groups is None:
            return []
        parameters = {} if call.request is None else call.request.parameters
        return self.groups.read(inputs, parameters, call.header, start, call.rows)

    def _content(self, outcome: str, is_class: bool, groups: Groups) -> bytes:
        if not is_class:
            return content(self._version, outcome, False, groups)
        known = self._contents.get((outcome, groups))
        if known is None:
            if len(self._contents) >= _MOST_REMEMBERED:
                self._contents.clear()
            known = self._contents[outcome, groups] = content(self._version, outcome, True, groups)
        return known


def _mark(call: Call, tokens: Sequence[bytes]) -> None:
    """Give a written answer the parameter ``feedback_token``: one for each row, with spaces between."""
    whole = call.content
    if whole is None:
        return
    end = len(whole) if call.header_length is None else call.header_length
    parameter = b'"parameters":{"feedback_token":"%b"}}' % b" ".join(tokens)
    call.content = b"%b,%b%b" % (whole[: end - 1], parameter, whole[end:])
    if call.header_length is not None:
        call.header_length = end + len(parameter)
