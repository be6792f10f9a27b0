"""What a model needs to be watched by group and to take labels back, put together."""

from __future__ import annotations

import logging
from pathlib import Path

import orjson

from slipway.names import PROFILE_FILE
from slipway_server.feedback.account import Account
from slipway_server.feedback.desk import Desk
from slipway_server.feedback.groups import GroupReader
from slipway_server.feedback.keys import FeedbackKeyError, Keyring
from slipway_server.feedback.outcomes import OutcomeReader, text_of
from slipway_server.feedback.seen import Seen
from slipway_server.feedback.tokens import Tokens
from slipway_server.feedback.witness import Witness
from slipway_server.metrics.ledger import Page
from slipway_server.runtime.model import Model
from slipway_server.settings import Settings

__all__ = ["FeedbackKeyError", "open_feedback"]

log = logging.getLogger(__name__)


def open_feedback(settings: Settings, model: Model, page: Page, seen: Seen) -> tuple[Witness, Desk | None]:
    """Who counts groups and gives tokens, and who takes labels, if the configuration wants it.

    Raises :class:`FeedbackKeyError` where tokens are wanted and there is no key for them.
    """
    config = settings.serving
    attributes, days = config.sensitiveAttributes, config.feedbackMaxAgeDays
    outcomes = OutcomeReader(model.outputs)
    account = Account(
        page,
        config.modelName,
        config.modelVersion,
        _classes(settings.model_dir, config.digest),
        attributes,
        config.favorableOutcomes,
    )
    tokens, desk = None, None
    if days:
        account.offer_feedback(attributes, outcomes.tells_classes)
        tokens = Tokens(Keyring(settings.feedback_keys), config.modelName)
        desk = Desk(tokens, account, seen, days)
    groups = GroupReader(attributes) if attributes else None
    return Witness(config.modelVersion, outcomes, account, groups, tokens), desk


def _classes(directory: Path, digest: str) -> list[str]:
    """The classes that the profile knows; none without one."""
    try:
        profile = orjson.loads((directory / PROFILE_FILE).read_bytes())
        if profile["modelDigest"] != digest:
            return []
        found = [each["bins"] for each in profile["predictions"] if each["bins"]["kind"] == "Categories"]
        return [text_of(name) for name in found[0]["categories"]] if found else []
    except (OSError, ValueError, KeyError, TypeError):
        log.info("without a profile the classes of labels count as other")
        return []
