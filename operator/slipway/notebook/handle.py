"""A handle on one ModelDeployment, and on all of a namespace."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from slipway.api.rollout_status import RolloutStatus
from slipway.api.status import ModelDeploymentStatus
from slipway.cli.cluster import Cluster, Manifest
from slipway.cli.command import RESUME, carry_out
from slipway.cli.report import page_of
from slipway.cli.waiting import Outcome, progress
from slipway.core.observed import Fault
from slipway.core.resource import Resource, read
from slipway.core.rollout.situation import Command
from slipway.notebook.card import html_of, table_of, text_of
from slipway.notebook.errors import NotServedError, PredictionError
from slipway.notebook.predictions import Predictions, predictions_of
from slipway.notebook.serving import Way, ask
from slipway.notebook.shown import Display, Picture, Report
from slipway.notebook.tables import inputs_of, requests_of

#: Labels in one request of feedback, which is the most that a model server takes.
_MOST_LABELS = 1_000
#: Seconds between two looks of a wait.
_INTERVAL = 1.0


class Model:
    """A ModelDeployment; in Jupyter it shows what serves, how far a rollout is, and what was found of it.

    Attributes:
        name: of the ModelDeployment.
        namespace: of the ModelDeployment.
    """

    def __init__(self, there: Cluster, name: str, way: Way | None = None) -> None:
        self.name, self.namespace = name, there.namespace
        self._there, self._way = there, way or Way()

    def __repr__(self) -> str:
        return f"<slipway.model {self.namespace}/{self.name}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        resource, now = self._read(), datetime.now(UTC)
        return {"text/plain": text_of(resource, now), "text/html": html_of(resource, now)}

    @property
    def manifest(self) -> Manifest:
        """The resource as the API server has it now.

        Raises:
            SlipwayError: where it cannot be read.
        """
        return self._there.get(self.name)

    @property
    def status(self) -> ModelDeploymentStatus:
        """What the operator reports now.

        Raises:
            SlipwayError: where it cannot be read.
        """
        return self._read().status

    @property
    def rollout(self) -> RolloutStatus | None:
        """The rollout that is under way, as it is now; None where there is none.

        Raises:
            SlipwayError: where it cannot be read.
        """
        return self.status.rollout

    @property
    def version(self) -> str | None:
        """Version of the model that serves; None where nothing does.

        Raises:
            SlipwayError: where it cannot be read.
        """
        stable = self.status.stable
        return stable.version if stable is not None else None

    def predict(self, table: Any, parameters: Mapping[str, Any] | None = None) -> Predictions:
        """What the model answers to the rows of a table, by the Open Inference Protocol.

        Columns are found by their names: those of the model's inputs or, for an input with several values a
        row, those that ``spec.inputs`` gives it; where it gives none, the columns are the input's in their
        order.

        Args:
            table: a frame of pandas or polars, a mapping from names to columns, or an array of rows where the
                model has one input.
            parameters: of the request, such as the attribute that ``spec.fairness`` groups rows by; a
                sequence has one value for each row.

        Raises:
            PredictionError: where the table does not fit the model, or the model server refuses a request.
            SlipwayError: where no model server answers.
        """
        metadata = ask(self._there, self._way, self.name, "")
        requests = list(requests_of(table, inputs_of(metadata, self._columns()), parameters))
        if not requests:
            raise PredictionError("the table has no rows")
        answers = [ask(self._there, self._way, self.name, "/infer", request) for request in requests]
        return predictions_of(answers, getattr(table, "index", None))

    def feedback(self, tokens: Predictions | Sequence[str], labels: Sequence[Any]) -> dict[str, int]:
        """Report what turned out to be true of rows that were predicted.

        Args:
            tokens: of the rows, or the predictions that have them.
            labels: the truth, in the same order.

        Returns:
            How many were ``accepted``, ``duplicate``, ``expired`` and ``invalid``.

        Raises:
            PredictionError: where there is not one label for each token.
            SlipwayError: where no model server answers.
        """
        marks = tokens.tokens if isinstance(tokens, Predictions) else tuple(tokens)
        if not marks and len(labels):
            raise PredictionError(
                "the answer has no feedback tokens; spec.monitoring.performance.feedback asks for them"
            )
        if len(marks) != len(labels):
            raise PredictionError(
                f"{len(marks)} tokens and {len(labels)} labels: give one label for each token"
            )
        plain = [one.item() if hasattr(one, "item") else one for one in labels]
        pairs = [{"token": mark, "label": label} for mark, label in zip(marks, plain, strict=True)]
        found = dict.fromkeys(("accepted", "duplicate", "expired", "invalid"), 0)
        for start in range(0, len(pairs), _MOST_LABELS):
            batch = {"feedback": pairs[start : start + _MOST_LABELS]}
            answer = ask(self._there, self._way, self.name, "/feedback", batch)
            found = {kind: count + int(answer.get(kind, 0)) for kind, count in found.items()}
        return found

    def wait(self, timeout: float | None = None) -> Model:
        """Wait until the revision that the spec asks for serves all traffic.

        Args:
            timeout: seconds; None waits without end.

        Raises:
            NotServedError: where it was rejected or cannot be served.
            TimeoutError: where ``timeout`` passed; it says what is waited for.
            SlipwayError: where the resource cannot be read.
        """
        for manifest in self._looks(timeout):
            state = progress(manifest)
            if state.outcome is Outcome.DONE:
                return self
            if state.outcome is Outcome.FAILED:
                raise NotServedError(f"{self.namespace}/{self.name}: {state.message}")
        raise TimeoutError(f"{self.namespace}/{self.name} is not done after {timeout:g} s: {state.message}")

    def follow(self, timeout: float | None = None) -> None:
        """Show the card, and again whenever the resource changes, until no rollout is under way.

        Args:
            timeout: seconds; None follows to the end.

        Raises:
            SlipwayError: where the resource cannot be read.
        """
        shown, seen = Display(), None
        for manifest in self._looks(timeout):
            if (mark := manifest["metadata"].get("resourceVersion")) != seen:
                seen = mark
                shown.show(Picture(read(manifest), datetime.now(UTC)))
            if progress(manifest).outcome is not Outcome.OPEN:
                return

    def promote(self, *, full: bool = False) -> str:
        """Let the rollout go on from the step that waits for a person; with ``full``, skip all that are left.

        Returns:
            What that does, in words.

        Raises:
            SlipwayError: where nothing waits, or the user has no right to it.
        """
        return self._command(Command.PROMOTE_FULL if full else Command.PROMOTE)

    def abort(self) -> str:
        """Take the canary out; its revision stays out until :meth:`retry`. As :meth:`promote` otherwise."""
        return self._command(Command.ABORT)

    def pause(self) -> str:
        """Hold the rollout where it is. As :meth:`promote` otherwise."""
        return self._command(Command.PAUSE)

    def resume(self) -> str:
        """Let a paused rollout go on. As :meth:`promote` otherwise."""
        return self._command(RESUME)

    def retry(self) -> str:
        """Allow the revision that was rejected last to be tried again. As :meth:`promote` otherwise."""
        return self._command(Command.RETRY)

    def report(self) -> Report:
        """The report of what the model is asked, answers and gets right, by its pods' counters of now.

        Raises:
            SlipwayError: where there is nothing to report, or no pod answers.
        """
        return Report(page_of(self._there, self.name).html)

    def _command(self, command: str) -> str:
        return carry_out(command, self._there, self.name)[1]

    def _read(self) -> Resource:
        return read(self._there.get(self.name))

    def _columns(self) -> dict[str, list[str]]:
        spec = self._read().spec
        if isinstance(spec, Fault) or spec.inputs is None:
            return {}
        return {one.name: [column.name for column in one.columns] for one in spec.inputs.tensors}

    def _looks(self, timeout: float | None) -> Iterator[Manifest]:
        """The resource again and again, and once at least."""
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            yield self._there.get(self.name)
            if time.monotonic() + _INTERVAL > end:
                return
            time.sleep(_INTERVAL)


class Models(tuple[Model, ...]):
    """Handles on several ModelDeployments; shown as a table of what they were when they were listed."""

    __slots__ = ()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        manifests = [one.manifest for one in self]
        several = len({one.namespace for one in self}) > 1
        text, html = table_of(manifests, datetime.now(UTC), namespaces=several)
        return {"text/plain": text, "text/html": html}


def model(
    name: str,
    namespace: str | None = None,
    *,
    url: str | None = None,
    key: str | None = None,
    context: str | None = None,
    kubeconfig: str | None = None,
    user: str | None = None,
    groups: Sequence[str] = (),
    timeout: float = 15.0,
) -> Model:
    """A handle on a ModelDeployment; nothing is read yet.

    Args:
        name: of the ModelDeployment.
        namespace: that of the context, or of the pod that this runs in, unless given.
        url: at which the model's Service can be reached; unless given, the Service itself in the cluster, and
            the API server elsewhere.
        key: an API key, where the model has ``spec.access``.
        context: of the kubeconfig.
        kubeconfig: its path; ``KUBECONFIG`` unless given. In a pod without one, its ServiceAccount is used.
        user: to impersonate.
        groups: to impersonate, with ``user``.
        timeout: seconds to wait for one answer.

    Raises:
        SlipwayError: where there is no cluster to use.
    """
    return Model(_cluster(namespace, context, kubeconfig, user, groups, timeout), name, Way(url, key))


def models(
    namespace: str | None = None,
    *,
    everywhere: bool = False,
    selector: str = "",
    context: str | None = None,
    kubeconfig: str | None = None,
    user: str | None = None,
    groups: Sequence[str] = (),
    timeout: float = 15.0,
) -> Models:
    """Handles on the ModelDeployments of a namespace, or of all.

    Args:
        everywhere: of all namespaces.
        selector: of labels, such as ``team=risk``.

    The other arguments are those of :func:`model`.

    Raises:
        SlipwayError: where they cannot be listed.
    """
    there = _cluster(namespace, context, kubeconfig, user, groups, timeout)
    found = [one["metadata"] for one in there.select(selector, everywhere=everywhere)]
    return Models(Model(there.within(one["namespace"]), one["name"]) for one in found)


def _cluster(
    namespace: str | None,
    context: str | None,
    kubeconfig: str | None,
    user: str | None,
    groups: Sequence[str],
    timeout: float,
) -> Cluster:
    return Cluster(
        Namespace(
            namespace=namespace,
            context=context,
            kubeconfig=kubeconfig,
            server=None,
            token=None,
            certificate_authority=None,
            as_user=user,
            as_group=list(groups),
            request_timeout=timeout,
        )
    )
