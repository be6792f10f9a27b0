"""Where a model was built, and from what repository: SLSA's provenance, by the word of a trusted signer.

It is a statement of in-toto in a Sigstore bundle, as builders make it: next to the model, or attached to the
manifest that has it. The signature is verified as that of the model is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.contract import LONGEST_BUILDER, Built, BuiltBy
from slipway.models.bundle import STATEMENT, InvalidError, object_of
from slipway.models.cosign import PROVENANCE, Offer
from slipway.models.faults import ModelError, listed
from slipway.models.oci_layers import maps
from slipway.models.signature import LARGEST_SIGNATURE, stated
from slipway.models.signed import DAMAGED, Signable, told
from slipway.models.trust import PROVENANCE_FILE, Trust
from slipway.names import ModelFault

#: ``cosign attest`` writes the older one, whose subjects are the same.
_STATEMENTS = (STATEMENT, "https://in-toto.io/Statement/v0.1")
#: Bundles in one file.
_MOST = 50
#: Where builders say what they were asked to build: GitHub's; GitLab's and slsa-github-generator's; Google's.
_PLACES = (("workflow", "repository"), ("source", "uri"), ("source", ""), ("sourceToBuild", "repository"))
_REPOSITORY = re.compile(
    r"(?:git\+)?(?:(?:https|ssh)://)?(?:git@)?(?P<host>[-.A-Za-z0-9]+(?::[0-9]{1,5})?)/(?P<path>[^@#?\s]+)"
    r"(?:[@#]\S*)?"
)
_COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_FIELD = "spec.model.verify.provenance"


@dataclass(frozen=True)
class Subject:
    """What a statement has to be about: the whole by its digest, or each of the files.

    Attributes:
        digest: of the model, ``sha256:`` and 64 hexadecimal digits.
        sums: SHA-256 (64 hexadecimal digits) of each file, by path.
        manifest: what names the files, where they are in a registry.
    """

    digest: str
    sums: Mapping[str, str]
    manifest: Signable | None = None

    def check(self, statement: Mapping[str, Any]) -> None:
        """Raise :class:`InvalidError` where a statement is not about it."""
        digests = (each.get("digest") for each in maps(statement.get("subject")))
        found = {str(each.get("sha256")).lower() for each in digests if isinstance(each, dict)}
        wholes = [self.digest, *([self.manifest.digest] if self.manifest is not None else [])]
        if any(whole.removeprefix("sha256:") in found for whole in wholes):
            return
        missing = sorted(path for path, known in self.sums.items() if known not in found)
        if self.sums and not missing:
            return
        if len(missing) < len(self.sums):
            raise InvalidError(
                f"it is not about {listed(missing)}: have the build attest all files of the model at once"
            )
        others = listed([f"sha256:{each[:64]}" for each in sorted(found)]) if found else "nothing"
        raise InvalidError(
            f"it is about {others}, and not about {' or '.join(wholes)}: have the build attest what is to be "
            "served, or restore what was built"
        )


def built(beside: bytes | None, where: str, subject: Subject, wanted: BuiltBy, trust: Trust) -> Built:
    """Where a model was built: one statement that counts is enough.

    Args:
        beside: the bundles next to it, if there are any.
        where: what messages call these.
        subject: what has to have been built.
        wanted: where, and from what.
        trust: whose word counts.

    Raises:
        ModelError: where nobody who is trusted says so.
    """
    problems: list[str] = []
    for offer in _offers(beside, where, subject.manifest):
        try:
            return _by(offer, subject, wanted, trust)
        except InvalidError as error:
            problems.append(f"{offer.where} does not count: {error}")
        except ModelError as error:
            if error.reason not in DAMAGED:
                raise
            problems.append(f"{offer.where} does not count: {error}")
    if problems:
        raise ModelError(ModelFault.PROVENANCE_INVALID, told(problems))
    attached = "" if subject.manifest is None else f", and none is attached to {subject.manifest.called}"
    also = "" if subject.manifest is None else ", or attach it by cosign attest"
    raise ModelError(
        ModelFault.PROVENANCE_MISSING,
        f"there is no {where}{attached}, and {_FIELD} asks for it: put the attestation that the build made "
        f"next to the model as {PROVENANCE_FILE} (gh attestation download gets GitHub's){also}",
    )


def _offers(beside: bytes | None, where: str, manifest: Signable | None) -> Iterator[Offer]:
    if beside is not None:
        lines = [line for line in beside.splitlines() if line.strip()]
        # Of one bundle the second line does not begin so.
        if len(lines) > 1 and len(beside) <= LARGEST_SIGNATURE and all(line[:1] == b"{" for line in lines):
            for number, line in enumerate(lines[:_MOST], start=1):
                yield Offer(f"line {number} of {where}", lambda line=line: line)  # type: ignore[misc]
        else:
            yield Offer(where, lambda: beside)
    if manifest is not None:
        yield from manifest.provenances()


def _by(offer: Offer, subject: Subject, wanted: BuiltBy, trust: Trust) -> Built:
    """What one bundle says; raises :class:`InvalidError` where it does not count, and ``ModelError``."""
    content = offer.read()
    if len(content) > LARGEST_SIGNATURE:
        raise InvalidError(f"it has more than {LARGEST_SIGNATURE // 1024**2} MiB")
    try:
        statement = json.loads(stated(content, trust)[1])
    except (ValueError, RecursionError):
        raise InvalidError("it is not a bundle of Sigstore with a statement of in-toto") from None
    if not isinstance(statement, dict) or statement.get("_type") not in _STATEMENTS:
        raise InvalidError("it holds no statement of in-toto, version 1")
    kind = statement.get("predicateType")
    if kind != PROVENANCE:
        raise InvalidError(
            f"its statement is of {str(kind)[:200]!r}, and only {PROVENANCE} is read: have the "
            "build attest that"
        )
    subject.check(statement)
    predicate = object_of(statement, "predicate")
    definition = object_of(predicate, "buildDefinition")
    return Built(
        builder=_builder(predicate, wanted.builder),
        source=(source := _source(definition, wanted.source)),
        commit=_commit(definition, source),
    )


def _builder(predicate: Mapping[str, Any], wanted: str) -> str:
    found = str(object_of(object_of(predicate, "runDetails"), "builder").get("id", ""))
    if found == wanted or ("@" not in wanted and found.startswith(f"{wanted}@")):
        if len(found) <= LONGEST_BUILDER and found.isprintable():
            return found
        raise InvalidError(f"the id of its builder has more than {LONGEST_BUILDER} characters, or odd ones")
    raise InvalidError(
        f"it was built by {found[:200]!r}, and {_FIELD}.builder is {wanted!r}: build the model there, or "
        "name that builder, if its word is to count"
    )


def _source(definition: Mapping[str, Any], wanted: str) -> str:
    """The repository, which is the one that is wanted."""
    given = object_of(definition, "externalParameters")
    said = [str(found) for place in _PLACES if (found := _at(given, *place)) is not None]
    # Builders that have no place for it list it among what the build was made of, with whatever else.
    said = said or [uri for uri, _ in _dependencies(definition) if uri.startswith("git+")]
    right = repository_of(wanted)
    others = sorted({uri for uri in said if repository_of(uri) != right})
    if right is None or others or not said:
        shown = listed([uri[:200] for uri in others]) if others else "no repository that it names"
        raise InvalidError(
            f"it was built from {shown}, and {_FIELD}.source is {wanted!r}: build the model from there, or "
            "name that repository, if it is to be trusted"
        )
    return right


def _at(given: Mapping[str, Any], name: str, part: str) -> Any:
    found = given.get(name)
    if isinstance(found, dict):
        return found.get(part) if part else None
    return None if part else found


def _commit(definition: Mapping[str, Any], source: str) -> str | None:
    found = {
        str(digest.get("gitCommit") or digest.get("sha1"))
        for uri, digest in _dependencies(definition)
        if repository_of(uri) == source
    }
    commit = found.pop() if len(found) == 1 else ""
    return commit if _COMMIT.fullmatch(commit) else None


def _dependencies(definition: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for each in maps(definition.get("resolvedDependencies")):
        digest = each.get("digest")
        yield str(each.get("uri")), digest if isinstance(digest, dict) else {}


def repository_of(uri: str) -> str | None:
    """``HOST/PATH`` of a repository, whatever its address's scheme, ``.git`` and ref; None for others."""
    match = _REPOSITORY.fullmatch(uri)
    if match is None:
        return None
    return f"{match['host'].lower()}/{match['path'].rstrip('/').removesuffix('.git')}"
