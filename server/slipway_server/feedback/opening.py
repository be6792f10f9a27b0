"""What a model needs to be watched by group and by age of its data and to take labels back, put together."""

from __future__ import annotations

from slipway_server.feedback.account import Account
from slipway_server.feedback.desk import Desk
from slipway_server.feedback.groups import GroupReader
from slipway_server.feedback.keys import FeedbackKeyError, Keyring
from slipway_server.feedback.seen import Seen
from slipway_server.feedback.tokens import Tokens
from slipway_server.feedback.witness import Witness
from slipway_server.metrics.ledger import Page
from slipway_server.monitoring.ages import AgeCounter, FreshnessError
from slipway_server.monitoring.cohorts import count_cohorts
from slipway_server.monitoring.outcomes import OutcomeReader, text_of
from slipway_server.monitoring.reference import Reference
from slipway_server.runtime.model import Model
from slipway_server.settings import Settings

__all__ = ["FeedbackKeyError", "FreshnessError", "open_feedback"]


def open_feedback(
    settings: Settings, model: Model, reference: Reference, page: Page, seen: Seen
) -> tuple[Witness, Desk | None]:
    """Who counts groups and ages and gives tokens, and who takes labels, if the configuration wants it.

    Raises :class:`FeedbackKeyError` where tokens are wanted and there is no key for them, and
    :class:`FreshnessError` where the model has no such input.
    """
    config = settings.serving
    attributes, days = config.sensitiveAttributes, config.feedbackMaxAgeDays
    outcomes = OutcomeReader(model.outputs)
    cohorts = count_cohorts(config, reference)
    account = Account(
        page,
        config.modelName,
        config.modelVersion,
        _classes(reference),
        attributes,
        config.favorableOutcomes,
        cohorts,
    )
    tokens, desk = None, None
    if days:
        # First, so that a missing key is said before anything is counted.
        tokens = Tokens(Keyring(settings.feedback_keys), config.modelName)
        account.offer_feedback(attributes, outcomes.tells_classes)
        desk = Desk(tokens, account, seen, days)
    groups = GroupReader(attributes) if attributes else None
    ages = None
    if config.freshness is not None:
        names = (config.modelName, config.modelVersion)
        ages = AgeCounter(config.freshness, model.inputs, page, *names, cohorts)
    return Witness(config.modelVersion, outcomes, account, groups, tokens, ages), desk


def _classes(reference: Reference) -> list[str]:
    """The classes that the profile knows; none without one."""
    for prediction in reference.predictions:
        if prediction.bins.edges is None:
            return [text_of(name) for name in prediction.bins.categories]
    return []
