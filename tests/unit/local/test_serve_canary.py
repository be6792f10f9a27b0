"""Two models on this machine behind a real Envoy, and what an operator would do."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import onnx

from tests.server import onnx_models
from tests.unit.local.serving import Serve, is_alive

ROW = {"name": "X", "datatype": "FP32", "shape": [1, 30], "data": [1.0] * 30}


def test_a_canary_gets_its_share_and_is_judged_until_it_would_be_promoted(tmp_path: Path) -> None:
    onnx_models.save(onnx_models.classifier(), tmp_path, "fraud.onnx")
    found = onnx.load(tmp_path / "fraud.onnx")
    found.doc_string = "the next one"
    onnx.save(found, tmp_path / "next.onnx")
    serve = Serve(tmp_path, "fraud.onnx", "next.onnx", "--split", "50/50")
    try:
        serve.curl()
        versions = [re.search("version ([0-9a-f]{12})", line)[1] for line in serve.lines[:2]]  # type: ignore[index]
        assert len(set(versions)) == 2
        seen: list[str] = []
        with httpx.Client(base_url=serve.url, timeout=30) as client:
            # From the first one on, all of them are evidence.
            for _ in range(200):
                answer = client.post("/v2/models/fraud/infer", json={"inputs": [ROW]})
                seen.append(answer.json()["model_version"])
            counts = [seen.count(version) for version in versions]
            serve.line(f" {counts[0]} requests answered by stable, {counts[1]} by the canary")
            while "the operator would promote it" not in serve.output and len(seen) < 20_000:
                answer = client.post("/v2/models/fraud/infer", json={"inputs": [ROW]})
                assert answer.status_code == 200, answer.text
                seen.append(answer.json()["model_version"])
        serve.line("the operator would promote it: every gate that acts has passed")
        serve.line("error-rate: Pass: canary 0 errors in .*: evidence .* ≥ 40")
        assert set(seen) == set(versions)
        assert 0.4 < seen.count(versions[1]) / len(seen) < 0.6
        processes = serve.processes()
    finally:
        code = serve.end()
    assert code == 0
    assert [one for one in processes if is_alive(one)] == []
    assert list(serve.scratch.iterdir()) == []
