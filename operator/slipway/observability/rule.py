"""What a rule file is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Record:
    """A series that is computed at every evaluation."""

    record: str
    expr: str
    labels: dict[str, str] = field(default_factory=dict)

    def manifest(self) -> dict[str, Any]:
        """As in a rule file."""
        labels = {"labels": self.labels} if self.labels else {}
        return {"record": self.record, "expr": self.expr, **labels}


@dataclass(frozen=True)
class Alert:
    """What fires once its expression has had a result for as long as ``wait``."""

    alert: str
    expr: str
    severity: str
    wait: str
    summary: str
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    def manifest(self) -> dict[str, Any]:
        """As in a rule file."""
        annotations = {"summary": self.summary}
        if self.description:
            annotations["description"] = self.description
        return {
            "alert": self.alert,
            "expr": self.expr,
            "for": self.wait,
            "labels": {"severity": self.severity, **self.labels},
            "annotations": annotations,
        }


Rule = Record | Alert
#: Of an alert's text: the model, the value, and the value as a share.
MODEL_WORDS = "{{ $labels.model }} {{ $labels.model_version }} in {{ $labels.namespace }}"
VALUE_WORDS = '{{ $value | printf "%.3g" }}'
SHARE_WORDS = "{{ $value | humanizePercentage }}"
