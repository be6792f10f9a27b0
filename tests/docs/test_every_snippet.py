"""Nothing is printed for readers to run that no test runs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e import snippets
from e2e.snippets import ROOT, Block, Command
from e2e.tests import test_docs_on_cluster as on_cluster
from slipway.cli.parser import COMMANDS, parse
from tests.convert import test_release as releases
from tests.docs import test_evidence_page as evidence
from tests.docs import test_installation as installation
from tests.docs import test_operating_page as operating
from tests.docs import test_requests as requests
from tests.docs import test_tutorial_page as tutorial
from tests.models import test_certificates as certificates
from tests.models import test_cosign as cosign
from tests.models import test_oci_attached as attached
from tests.models import test_provenance as provenance
from tests.models import test_signing as signing
from tests.models import test_whole_folders as folders
from tests.observability import test_real_parts as alerts
from tests.policies import test_access_page as access
from tests.policies import test_security_page as security
from tests.unit.cli import test_convert_manifest as migrating
from tests.unit.cli import test_reference as reference
from tests.unit.notebook import test_handle as notebook

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
README, MODEL_SERVER, SOURCES = "README.md", "docs/model-server.md", "docs/model-sources.md"
TUTORIAL, ACCESS, SECURITY = "docs/tutorial.md", "docs/access.md", "docs/security.md"

#: Page and program → the test that runs what is printed.
RUN: dict[tuple[str, str], Callable[..., object]] = {
    (README, "curl"): requests.test_the_readmes_curl_is_answered,
    (README, "export"): installation.test_the_readmes_recipe_installs_exactly_what_it_pushed,
    (README, "for"): installation.test_the_readmes_recipe_installs_exactly_what_it_pushed,
    (README, "helm"): installation.test_the_readmes_recipe_installs_exactly_what_it_pushed,
    (README, "kubectl"): on_cluster.test_the_readmes_quickstart_works_as_printed,
    (MODEL_SERVER, "curl"): requests.test_labels_come_back_by_the_commands_that_are_printed,
    (MODEL_SERVER, "grpcurl"): requests.test_grpcurl_would_be_answered,
    ("docs/security.md", "kubectl"): security.test_the_guide_does_what_it_says,
    ("docs/security.md", "openssl"): signing.test_the_pages_commands_sign_and_verify_as_printed,
    ("docs/security.md", "model_signing"): signing.test_the_pages_commands_sign_and_verify_as_printed,
    ("docs/security.md", "cosign"): cosign.test_the_pages_commands_sign_as_printed,
    ("docs/security.md", "export"): cosign.test_the_pages_commands_sign_as_printed,
    (SOURCES, "sha256sum"): requests.test_the_digest_is_what_the_page_tells_to_compute,
    (SOURCES, "oras"): attached.test_the_pages_command_attaches_a_profile,
    (SOURCES, "find"): requests.test_the_digest_is_what_the_page_tells_to_compute,
    ("docs/servers-of-your-own.md", "find"): (
        folders.test_all_files_are_brought_wherever_they_are_by_the_same_digest_and_found_again
    ),
    ("docs/operating.md", "jq"): operating.test_a_backup_is_restored_by_the_commands_that_are_printed,
    ("docs/migrating.md", "cat"): migrating.test_the_pages_manifest_converts_as_printed,
    ("docs/evidence.md", "python"): evidence.test_the_pages_program_prints_what_it_shows,
    ("docs/cli.md", "cat"): reference.test_an_example_runs_as_printed,
    ("docs/cli.md", "source"): reference.test_an_example_runs_as_printed,
    ("docs/rollouts.md", "kubectl"): on_cluster.test_a_pipeline_waits_as_the_page_on_rollouts_shows,
    (SOURCES, "kubectl"): on_cluster.test_the_secret_for_a_model_store_has_the_keys_that_are_read,
    ("docs/alerts.md", "amtool"): alerts.test_the_example_of_routes_is_valid_and_the_page_shows_what_it_does,
    (TUTORIAL, "mlflow"): tutorial.test_the_page_is_followed_from_top_to_bottom,
    (TUTORIAL, "export"): tutorial.test_the_page_is_followed_from_top_to_bottom,
    (TUTORIAL, "curl"): tutorial.test_the_page_is_followed_from_top_to_bottom,
    (TUTORIAL, "kubectl"): tutorial.test_the_commands_of_the_cluster_are_the_quickstarts,
    ("charts/slipway/README.md", "helm"): (
        installation.test_the_charts_own_recipe_installs_what_the_readmes_pushed
    ),
    ("docs/gitops.md", "kubectl"): (on_cluster.test_argo_cd_gets_the_scripts_that_are_shipped),
}
#: What the pages on who may do what tell to type within a sentence → the test that does, or why none can.
SPOKEN: dict[tuple[str, str], Callable[..., object] | str] = {
    **dict.fromkeys(
        (
            (ACCESS, "kubectl slipway key new fraud shop"),
            (ACCESS, "kubectl slipway key list fraud"),
            (ACCESS, "kubectl slipway key revoke fraud shop --old"),
            (ACCESS, "kubectl slipway key revoke fraud shop"),
        ),
        access.test_keys_are_made_listed_replaced_and_revoked_as_the_page_says,
    ),
    (ACCESS, "kubectl create token checkout -n shop --audience slipway.dev/payments"): (
        access.test_a_token_that_is_made_by_hand_as_the_page_says_lets_its_service_account_in
    ),
    **dict.fromkeys(
        (
            (SECURITY, "kubectl slipway doctor"),
            (SECURITY, "kubectl slipway promote fraud"),
            (SECURITY, "kubectl slipway history fraud"),
        ),
        reference.test_an_example_runs_as_printed,
    ),
    (SECURITY, "slipway verify fraud --trust-root trusted_root.json --issuer URL --identity uri:URI"): (
        certificates.test_the_command_verifies_by_a_trust_root
    ),
    (SECURITY, "slipway verify fraud --key release.pub --builder URI --source github.com/acme/fraud"): (
        provenance.test_the_command_says_where_a_model_was_built_and_signs_around_it
    ),
    (SECURITY, "slipway sign mlflow://fraud/3 --key release.key"): (
        signing.test_a_version_in_mlflow_is_signed_where_it_is
    ),
    (SECURITY, "model_signing sign sigstore fraud --signature fraud/model.sig"): (
        "it takes an identity that an issuer knows, and a Fulcio and a Rekor"
    ),
    (SECURITY, "gh attestation verify"): "it asks GitHub about a release",
    (SECURITY, "gh attestation download"): "it asks GitHub about a release",
}
#: Spoken of rather than typed: a command without what it is for.
_NAMED = re.compile(
    r"(kubectl )?slipway [-a-z]+|cosign [a-z]+( --certificate| --type slsaprovenance1)?|make [-a-z]+",
    re.ASCII,
)
PYTHON: dict[str, Callable[..., None]] = {
    README: requests.test_the_readmes_python_is_answered,
    SOURCES: requests.test_the_alias_leads_to_the_version_that_the_page_registered,
    "docs/converting.md": (
        releases.test_what_the_pages_python_releases_is_resolved_and_served_with_the_models_own_answers
    ),
    "docs/evidence.md": evidence.test_the_pages_program_prints_what_it_shows,
    "docs/notebooks.md": notebook.test_the_pages_python_runs_as_printed,
    TUTORIAL: tutorial.test_the_page_is_followed_from_top_to_bottom,
    "docs/monitoring.md": requests.test_a_profile_that_is_logged_as_the_page_shows_comes_along_with_the_model,
}
TYPED = [
    command for block in snippets.all_blocks(*snippets.SHELLS) for command in snippets.commands_of(block)
]
SPANS = [
    command
    for page in snippets.PAGES
    for command in snippets.inline_commands(page, "slipway", "kubectl", "make", "pip")
]


def assert_parses(command: Command) -> None:
    """As the tool's own command line; a name that stands alone is spoken of, not typed."""
    typed = re.split("[#>]", command.text)[0]
    words = typed.removeprefix("kubectl ").removeprefix("slipway ").split()
    assert words[0] in COMMANDS, command
    if len(words) > 1:
        assert parse(words).command == words[0]


def assert_is_a_target(command: Command) -> None:
    named = re.match(r"make ([a-z0-9-]+)", command.text)
    assert named is None or named[1] in TARGETS, command


def assert_installs_ours(command: Command) -> None:
    """From a clone: there are no published packages yet."""
    found = re.search(r"pip install '\.\[([a-z,]+)\]'", command.text)
    assert found is not None, command
    assert set(found[1].split(",")) <= set(PROJECT["optional-dependencies"]), command


#: By what a command begins with.
CHECKS: dict[str, Callable[[Command], None]] = {
    "kubectl slipway ": assert_parses,
    "slipway ": assert_parses,
    "make ": assert_is_a_target,
    "pip ": assert_installs_ours,
}


@pytest.mark.parametrize("command", TYPED, ids=str)
def test_every_command_that_is_typed_is_run_or_checked(command: Command) -> None:
    for begin, check in CHECKS.items():
        if command.text.startswith(begin):
            check(command)
            return
    assert (command.where.partition(":")[0], command.program) in RUN, f"no test runs {command}"


@pytest.mark.parametrize("command", SPANS, ids=str)
def test_commands_within_sentences_are_those_of_the_tools(command: Command) -> None:
    for begin, check in CHECKS.items():
        if command.text.startswith(begin):
            check(command)
            return


def test_what_the_pages_on_who_may_do_what_tell_to_type_is_run_or_it_is_said_why_not() -> None:
    programs = ("kubectl", "slipway", "cosign", "model_signing", "openssl", "gh", "curl", "make")
    spoken = [
        (page, one.text) for page in (ACCESS, SECURITY) for one in snippets.inline_commands(page, *programs)
    ]
    assert {one for one in spoken if one not in SPOKEN and not _NAMED.fullmatch(one[1])} == set()
    assert set(SPOKEN) - set(spoken) == set()


def test_the_table_names_nothing_that_is_gone() -> None:
    typed = {(command.where.partition(":")[0], command.program) for command in TYPED}
    assert set(RUN) - typed == set()
    assert set(PYTHON) == {block.page for block in snippets.all_blocks("python")}


def test_every_block_is_closed_and_of_a_language_that_tests_know() -> None:
    known = {*snippets.SHELLS, "yaml", "python", "mermaid", "text"}
    blocks: list[Block] = [block for page in snippets.PAGES for block in snippets.blocks(page)]
    assert {block.language for block in blocks} <= known
    # What a notebook's cell prints.
    assert {block.page for block in blocks if block.language == "text"} == {TUTORIAL}
    fences = sum(Path(ROOT / page).read_text().count("```") for page in snippets.PAGES)
    assert fences == 2 * len(blocks), "a block without a language, or one that is not closed"
    assert {block.page for block in blocks} >= {README, MODEL_SERVER, SOURCES, "docs/monitoring.md"}


def test_commands_and_what_they_print_are_told_apart() -> None:
    block = Block("page", 1, "console", "$ for a in b; do\n    echo $a\n  done\nb\n$ cat <<EOF\nx\nEOF\nx\n")
    assert [(one.text, one.output) for one in snippets.commands_of(block)] == [
        ("for a in b; do\n    echo $a\n  done", "b\n"),
        ("cat <<EOF\nx\nEOF", "x\n"),
    ]
    with pytest.raises(ValueError, match="a command that does not end"):
        snippets.commands_of(Block("page", 1, "console", "$ for a in b; do\n"))
