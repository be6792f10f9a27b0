"""What is known of a conversion is shown where people look before they trust a model."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from slipway.api.status import ConversionStatus, ModelStatus
from slipway.cli.main import main
from slipway.contract import Proved
from slipway.core.proof import is_proved, told
from slipway.core.resource import read
from slipway.names import API_VERSION, KIND
from slipway.report.live import Counted, report_of
from tests.unit.cli.serving import served
from tests.unit.engine.test_conversion_proofs import FOUND, PROOF, SPEC, URI, serving
from tests.unit.world import NAME, NAMESPACE

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
WORDS = (
    "converted from sklearn.pipeline.Pipeline on 2026-11-30: of 150 rows 0 have another label, and the "
    "largest difference is 1.2e-07 (tolerance 0.0001); 812 rows at edges were compared too; beyond that, as "
    "was accepted: extremes"
)
OTHER = Proved(
    digest=PROOF.digest,
    modelDigest=f"sha256:{'e' * 64}",
    problem=f"it is of the model sha256:{'e' * 64}, and not of this one",
)
WRONG = f"conversion.json proves nothing of this model: {OTHER.problem}"


@pytest.mark.parametrize(
    ("proof", "words"), [(PROOF, WORDS), (OTHER, WRONG), (None, "")], ids=["good", "of another", "none"]
)
async def test_status_plan_and_report_say_what_a_proof_says_and_nothing_where_there_is_none(
    proof: Proved | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = await serving(proof)
    file = tmp_path / "model.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "metadata": {"name": NAME},
                "spec": SPEC,
            }
        )
    )
    with served(world, tmp_path) as cluster:
        at = ["--kubeconfig", str(cluster.kubeconfig)]
        shown = {}
        for name, command in {"status": ["status", "fraud"], "plan": ["plan", "-f", str(file)]}.items():
            assert main([*command, *at]) == 0
            shown[name] = " ".join(capsys.readouterr().out.split())
    version = world.status()["model"]["version"]
    assert (f"version {version}: {words}" in shown["status"]) == bool(words)
    assert (f"proof {words}" in shown["plan"]) == bool(words)
    assert ("conversion" in shown["status"] + shown["plan"]) == (proof is OTHER)

    resource = read(world.kube.find(KIND, NAMESPACE, NAME))
    labels = {"model": "fraud", "model_version": version}
    stable = world.status()["stable"]["revision"]
    counted = Counted("fraud-a", stable, AT, (("slipway_rows_total", labels, 1.0),))
    page = report_of(resource, [counted], {}, (), AT)
    assert page.facts.get("Conversion", "") == words


def test_a_proof_that_an_older_operator_carried_on_to_another_model_is_said_to_be_of_another() -> None:
    proof = ConversionStatus(**PROOF.model_dump())
    model = ModelStatus(
        uri=URI, resolvedURI=FOUND.uri, version="2", digest=f"sha256:{'2' * 64}", bytes=1, conversion=proof
    )
    assert not is_proved(model)
    assert f"it is of the model {FOUND.digest}, and not of this one" in told(model)
