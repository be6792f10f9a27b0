"""By which files of tests a module is tried, those that are meant for it first."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from bench.mutants.forked import OPERATOR, ROOT, module_of

TESTS = ROOT / "tests/unit"
#: Not tried: their tests start servers, or need frameworks in environments of their own.
LEFT_OUT = ("cli/convert.py", "cli/profile.py", "cli/serve.py", "cli/sign.py", "cli/verify.py")
#: Not asked: a busy machine may fail it, which would say nothing about the fault.
NOT_ASKED = ("router/test_router_prometheus.py",)
#: Part of a package → files that try it from outside, as commands are tried by their command line.
_FROM_OUTSIDE: dict[str, tuple[str, ...]] = {
    "cli/arguments": ("reference", "how_it_is_called", "version_and_completion", "get_and_wait"),
    "cli/assumed": ("plan_with_a_base", "plan_on_github"),
    "cli/base": ("plan_with_a_base",),
    "cli/candidates": ("version_and_completion",),
    "cli/changes": ("changes_of_the_spec", "on_a_cluster_over_http"),
    "cli/check": ("check",),
    "cli/cluster": (
        "how_it_is_called",
        "get_and_wait",
        "version_and_completion",
        "report_reads",
        "plan_compares",
        "plan_reads_and_checks",
        "keys",
        "changes_of_the_spec",
        "on_a_cluster_over_http",
        "doctor",
    ),
    "cli/command": ("rollout_commands", "on_a_cluster_over_http"),
    "cli/comment": ("plan_on_github",),
    "cli/completion": ("version_and_completion",),
    "cli/connection": ("how_it_is_called", "version_and_completion", "on_a_cluster_over_http"),
    "cli/convert_manifest": ("convert_manifest",),
    "cli/doctor": ("doctor",),
    "cli/drawing": ("rollout_commands", "how_it_is_called", "proofs_shown"),
    "cli/edits": ("pin",),
    "cli/errors": ("on_a_cluster_over_http", "plan_reads_and_checks"),
    "cli/facts": ("doctor",),
    "cli/findings": ("doctor",),
    "cli/get": ("get_and_wait",),
    "cli/github": ("plan_on_github", "check"),
    "cli/history": ("history",),
    "cli/inference_services": ("convert_manifest",),
    "cli/installed_pods": ("plan_compares", "plan_reads_and_checks"),
    "cli/key": ("keys",),
    "cli/main": ("how_it_is_called", "version_and_completion", "rollout_commands"),
    "cli/manifests": ("plan_reads_and_checks", "check", "on_a_cluster_over_http", "pin"),
    "cli/markdown": ("check", "plan_on_github"),
    "cli/meant": ("pin",),
    "cli/output": ("get_and_wait", "plan_reads_and_checks"),
    "cli/parser": ("how_it_is_called", "version_and_completion", "reference", "get_and_wait"),
    "cli/parts": ("check", "pin"),
    "cli/pin": ("pin",),
    "cli/plan": (
        "plan_on_github",
        "plan_reads_and_checks",
        "plan_compares",
        "on_a_cluster_over_http",
        "plan_with_a_base",
    ),
    "cli/planned": ("rollout_commands", "plan_compares", "plan_reads_and_checks", "proofs_shown"),
    "cli/proposals": ("plan_with_a_base", "plan_on_github"),
    "cli/reference": ("reference",),
    "cli/report": ("report_reads", "../report/test_live"),
    "cli/schema": ("plan_reads_and_checks", "schema_without_a_cluster", "check"),
    "cli/set_model": ("changes_of_the_spec",),
    "cli/sides": ("plan_with_a_base", "plan_on_github"),
    "cli/status": ("rollout_commands", "get_and_wait", "on_a_cluster_over_http"),
    "cli/steps": ("how_it_is_called", "reference"),
    "cli/terminal": ("how_it_is_called", "get_and_wait"),
    "cli/undo": ("changes_of_the_spec",),
    "cli/version": ("version_and_completion",),
    "cli/waiting": ("get_and_wait",),
    "cli/words": ("reference", "how_it_is_called"),
    "core/crd_schema": ("../engine/test_installed",),
    "core/diagnosis": ("what_is_said", "../engine/test_control_plane_cases"),
    "core/endpoint": ("../engine/test_black_holes", "external"),
    "core/garbage": ("what_is_said", "../engine/test_converging", "../engine/test_rollouts"),
    "core/monitoring": (
        "monitoring/test_one_caller",
        "../engine/test_judging",
        "../engine/test_honest_judging",
    ),
    "core/objects/diff": ("manifests", "../cli/test_plan_compares", "../engine/test_control_plane_cases"),
    "core/objects": ("manifests", "pod_options", "what_is_said", "tables", "../engine/test_audits"),
    "core/plan": (
        "what_is_said",
        "tables",
        "identity",
        "../engine/test_gateway_api",
        "../engine/test_rollouts",
    ),
    "core/proof": ("../engine/test_conversion_proofs",),
    "core/resolution": ("what_is_said", "../engine/test_aliases", "../cli/test_pin"),
    "core/revision": ("what_is_said", "../engine/test_upgrades"),
    "core/rollout/audit_run": ("../engine/test_audits", "../engine/test_audit_loop"),
    "core/rollout/audits": ("../engine/test_audits", "../engine/test_robustness_audits"),
    "core/rollout/breach": ("tables", "../engine/test_breaches"),
    "core/rollout/due": ("interest", "../engine/test_audits"),
    "core/rollout/new_look": ("../engine/test_look_observers", "../engine/test_rollouts"),
    "core/rollout/pod_evidence": ("../engine/test_replica_ratio", "../engine/test_agreement_gate"),
    "core/rollout/way_back": ("../engine/test_breaches", "../engine/test_devices"),
    "core/rollout": (
        "rollout",
        "what_is_said",
        "tables",
        "../engine/test_rollouts",
        "../engine/test_control_plane_cases",
    ),
    "core/scaling_deadline": ("../engine/test_control_plane_cases", "../engine/test_rollouts"),
    "core/signers": ("resolution", "../engine/test_rollouts"),
    "core/status/audits": ("../engine/test_audits",),
    "core/status/crashes": ("../engine/test_crashes_in_status",),
    "core/status/decisions": ("../engine/test_decisions", "../engine/test_history"),
    "core/status/events": ("what_is_said", "../engine/test_events"),
    "core/status/watched": ("../engine/test_external",),
    "core/status": (
        "what_is_said",
        "tables",
        "../engine/test_control_plane_cases",
        "../engine/test_rollouts",
    ),
    "core/traffic/envoy/readback": ("../router/test_router_facts", "../router/test_router_readback"),
    "core/traffic/envoy": (
        "../router/test_router_golden",
        "../router/test_router_objects",
        "../router/test_router_facts",
        "external",
    ),
    "core/traffic/gateway_api": ("../engine/test_gateway_api",),
    "core/traffic": ("../engine/test_replica_ratio", "../engine/test_rollouts"),
    "core/upgrade": ("../engine/test_upgrades",),
    # What stands nowhere above.
    "core": (
        "what_is_said",
        "tables",
        "manifests",
        "../engine/test_rollouts",
        "../engine/test_control_plane_cases",
    ),
}


def modules(package: str) -> list[Path]:
    """Files of a package that are tried."""
    folder = OPERATOR / "slipway"
    return [
        path
        for path in sorted((folder / package).rglob("*.py"))
        if path.name != "__init__.py" and str(path.relative_to(folder)) not in LEFT_OUT
    ]


def files_for(path: Path) -> list[Path]:
    """Files of tests that import the module, and those that try it from outside."""
    place = path.relative_to(OPERATOR / "slipway").with_suffix("")
    package, name = place.parts[0], module_of(path)
    folders = (package, "router") if package == "core" else (package,)
    direct = [
        file
        for folder in folders
        for file in sorted((TESTS / folder).rglob("test_*.py"))
        if name in _imports(file) and str(file.relative_to(TESTS)) not in NOT_ASKED
    ]
    # Those that are about it alone first; properties and whole simulations take longest.
    direct.sort(key=lambda file: (_cost(file), len(_imports(file))))
    part = next((str(folder) for folder in (place, *place.parents) if str(folder) in _FROM_OUTSIDE), None)
    outside = [_file(package, one) for one in (_FROM_OUTSIDE[part] if part else ())]
    return sorted(dict.fromkeys([*direct, *outside]), key=_cost)


@cache
def _cost(file: Path) -> int:
    """What it takes to run: properties most, then whole simulations and what asks a server."""
    text = file.read_text()
    simulates = any(word in text for word in ("tests.unit.world", "conftest import", "cluster: Served"))
    return 2 if "hypothesis" in text else int(simulates)


def _file(package: str, name: str) -> Path:
    folder, _, last = name.rpartition("/")
    named = last if last.startswith("test_") else f"test_{last}"
    return (TESTS / package / folder / f"{named}.py").resolve()


@cache
def _imports(file: Path) -> frozenset[str]:
    """Modules that a file of tests names in its imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)
