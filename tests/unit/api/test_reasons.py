from __future__ import annotations

import re

from slipway.api.docs import reasons
from slipway.api.reasons import EXPLANATIONS, ConditionType, Reason
from slipway.contract import ModelFault


def test_every_reason_is_explained_and_nothing_else_is() -> None:
    assert set(EXPLANATIONS) == set(Reason)


def test_an_explanation_is_a_sentence_and_a_next_step() -> None:
    for reason, explanation in EXPLANATIONS.items():
        for text in (explanation.meaning, explanation.next_step):
            assert re.fullmatch(r"[A-Z].*\.", text), f"{reason}: {text}"


def test_every_fault_of_a_model_is_a_reason() -> None:
    assert {fault.value for fault in ModelFault} <= {reason.value for reason in Reason}
    assert all(Reason[fault.name].value == fault.value for fault in ModelFault)


def test_reasons_and_types_are_what_kubernetes_allows() -> None:
    for word in (*Reason, *ConditionType):
        assert re.fullmatch(r"[A-Z][A-Za-z]+", word), word


def test_the_page_has_a_row_for_every_reason() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", reasons(), re.MULTILINE)
    assert rows == [reason.value for reason in Reason]
