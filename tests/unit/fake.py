"""An API server in memory: server-side apply as far as Slipway goes, and faults at will.

It holds what Slipway counts on: fields are owned by managers, a field that left a manager's manifest leaves
the object unless another manager has it, a forced apply takes fields over, lists of containers, variables,
ports, volumes, mounts, owners and conditions are merged by their keys, and the rest of lists and selectors
are atomic; ``resourceVersion``, ``generation`` and ``uid`` move as they should; writing what is there already
writes nothing; ``status`` is a resource of its own; some defaults and canonical amounts are filled in.

Known limits: no schema validation but that of a ModelDeployment's status; list keys are known by field
name only; no ``managedFields``, no finalizers; events reach whoever listens at once and in order. HTTP,
watches with their history and lists page by page are in :mod:`tests.unit.served_kube`. ``tests/contract``
holds what it has in common with a real one, and ``e2e/`` runs that on a real one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from slipway.api.status import ModelDeploymentStatus
from slipway.api.types import KIND
from slipway.core import naming
from slipway.core.objects.diff import quantity
from slipway.core.observed import Manifest, ObjectKind
from slipway.engine.errors import ApiError
from slipway.engine.kube import Page, Patch
from slipway.engine.observers.looks import UnreadError

Place = tuple[str, str, str]
Path = tuple[Any, ...]
#: Named, since the class below has a method ``list``.
Objects = list[dict[str, Any]]
Manifests = list[Manifest]
Places = list[Place]

WRITES = frozenset({"create", "apply", "patch", "apply_status", "replace_status", "delete", "emit", "repeat"})

_LIST_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("port", "containerPort", "protocol"),
    "ownerReferences": ("uid",),
    "conditions": ("type",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
_ATOMIC = frozenset({"selector", "labelSelector", "nodeSelector", "affinity"})
_IMMUTABLE: dict[str, tuple[str, ...]] = {
    ObjectKind.CONTROLLER_REVISION: ("data",),
    ObjectKind.DEPLOYMENT: ("spec", "selector"),
}

#: Ends the name of a manager where it did not apply but create: the two are not the same.
_CREATION = " (creation)"


@dataclass(frozen=True)
class Request:
    """One call that reached the API server."""

    number: int
    verb: str
    kind: str
    name: str

    @property
    def is_write(self) -> bool:
        return self.verb in WRITES

    def __str__(self) -> str:
        return f"{self.verb} {self.kind} {self.name}"


Requests = list[Request]
Hook = Callable[[Request], None]
Listeners = list[Callable[[str, Manifest], None]]
Admission = Callable[[dict[str, Any]], dict[str, Any]]


class FakeKube:
    """Implements :class:`slipway.engine.kube.Kube`.

    Attributes:
        requests: every call since the start.
        before: called before a request takes effect; what it raises is the answer.
        after: called once it has taken effect; what it raises is what the caller sees of it.
        admission: sees every object that is applied, may raise, and returns what is stored instead.
        events: Events that were emitted.
        unknown: kinds that the cluster does not know.
        page: objects on a page of a list.
        undeclared: fields of status that the CRD does not declare.
        status_schema: what the status of a ModelDeployment has to fit; None for a CRD of another version.
        issuers: by address, text of the keys of an issuer, or why they cannot be read.
        cluster_keys: text of the keys of ServiceAccounts' tokens, or why they cannot be read.
        listeners: told ``ADDED``, ``MODIFIED`` or ``DELETED`` with the object.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._objects: dict[Place, dict[str, Any]] = {}
        self._owned: dict[Place, dict[str, set[Path]]] = defaultdict(dict)
        self._version = 1000
        self._uids = 0
        self.requests: Requests = []
        self.before: Hook | None = None
        self.after: Hook | None = None
        self.admission: Admission = lambda manifest: manifest
        self.events: Objects = []
        self.unknown: set[str] = set()
        self.page = 500
        self.status_schema: type[BaseModel] | None = ModelDeploymentStatus
        self.undeclared: set[str] = set()
        self.listeners: Listeners = []
        self.issuers: dict[str, str | UnreadError] = {}
        self.cluster_keys: str | UnreadError = '{"issuer": "https://cluster", "keys": [{"kid": "1"}]}'

    # What the operator calls.

    async def read_issuer(self, address: str) -> str:
        found = self.issuers.get(address) or UnreadError(f"{address} does not answer in time")
        if isinstance(found, UnreadError):
            raise found
        return found

    async def read_cluster_keys(self) -> str:
        if isinstance(self.cluster_keys, UnreadError):
            raise self.cluster_keys
        return self.cluster_keys

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        request = self._begin("get", kind, name)
        found = self._objects.get((kind, namespace, name))
        self._end(request)
        return found

    async def list(self, kind: str, namespace: str | None) -> tuple[Manifests, int]:
        request = self._begin("list", kind, namespace or "")
        if kind in self.unknown:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        found: Manifests = [
            item
            for item in self.all(kind)
            if namespace in (None, item["metadata"]["namespace"]) and concerns_slipway(item)
        ]
        self._end(request)
        return found, self._version

    async def pages(self, kind: str, namespace: str | None) -> AsyncIterator[Page]:
        found, version = await self.list(kind, namespace)
        for begin in range(0, max(len(found), 1), self.page):
            if begin:
                self._end(self._begin("list", kind, namespace or ""))
            yield Page(tuple(found[begin : begin + self.page]), version)

    async def create(self, manifest: Manifest, manager: str) -> Manifest:
        place = place_of(manifest)
        request = self._begin("create", place[0], place[2])
        if place in self._objects:
            raise ApiError(409, "AlreadyExists", f'{place[0]} "{place[2]}" already exists')
        wanted = self.admission(copied({key: value for key, value in manifest.items() if key != "status"}))
        # A creation's defaults count as written, as a real one's do.
        _fill_in(wanted)
        wanted["metadata"]["managedFields"] = [{"manager": manager, "operation": "Update"}]
        self._merge(place, wanted, f"{manager}{_CREATION}")
        self._end(request)
        return self.find(*place)

    async def apply(self, manifest: Manifest, manager: str) -> Manifest:
        request = self._begin("apply", manifest["kind"], manifest["metadata"]["name"])
        self._refuse_another(place_of(manifest), manifest)
        self.refuse_if_old(place_of(manifest), manifest)
        # Status is a resource of its own.
        plain = {key: value for key, value in manifest.items() if key != "status"}
        wanted = self.admission(copied(plain))
        self._merge(place_of(manifest), wanted, manager)
        self._end(request)
        return self.find(*place_of(manifest))

    async def apply_status(self, manifest: Manifest, manager: str) -> Manifest:
        place = place_of(manifest)
        request = self._begin("apply_status", place[0], place[2])
        live = self._objects.get(place)
        if live is None:
            raise ApiError(404, "NotFound", f'{place[0]} "{place[2]}" not found')
        # A uid counts for nothing here: the metadata of a status is put aside, but for its version.
        self.refuse_if_old(place, manifest)
        if unknown := sorted(self.undeclared & manifest["status"].keys()):
            raise ApiError(500, "", f".status.{unknown[0]}: field not declared in schema")
        self.refuse_status(manifest["status"])
        self._merge(place, {"status": manifest["status"]}, manager)
        self._end(request)
        return self.find(*place)

    async def replace_status(self, manifest: Manifest, manager: str) -> Manifest:
        place = place_of(manifest)
        request = self._begin("replace_status", place[0], place[2])
        live = self._objects.get(place)
        if live is None:
            raise ApiError(404, "NotFound", f'{place[0]} "{place[2]}" not found')
        if live["metadata"]["uid"] != manifest["metadata"]["uid"]:
            raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request")
        self.refuse_if_old(place, manifest)
        self.refuse_status(manifest["status"])
        self.update({**live, "status": copied(dict(manifest["status"]))}, manager)
        self._end(request)
        return self.find(*place)

    def refuse_status(self, status: Mapping[str, Any]) -> None:
        """What the schema says of a status as it would be."""
        try:
            if self.status_schema is not None:
                self.status_schema.model_validate(status)
        except ValidationError as error:
            raise ApiError(422, "Invalid", str(error)) from error

    async def patch(self, manifest: Manifest, operations: Patch, manager: str) -> Manifest:
        place = place_of(manifest)
        request = self._begin("patch", place[0], place[2])
        live = self._objects.get(place)
        if live is None or live["metadata"]["uid"] != manifest["metadata"]["uid"]:
            raise ApiError(404, "NotFound", f'{place[0]} "{place[2]}" not found')
        self.refuse_if_old(place, manifest)
        changed = copied(live)
        if operations[0]["path"].startswith("/metadata/managedFields/"):
            return self._own_creation(place, changed, operations[0], request)
        for operation in operations:
            *parents, last = [
                part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
            ]
            node: Any = changed
            for part in parents:
                node = node[int(part)] if isinstance(node, list) else node[part]
            at = int(last) if isinstance(node, list) else last
            if operation["op"] == "remove":
                del node[at]
            else:
                assert operation["op"] == "replace", operation
                node[at] = operation["value"]
        self.update(self.admission(changed), manager)
        self._end(request)
        return self.find(*place)

    async def delete(self, manifest: Manifest) -> None:
        place = place_of(manifest)
        request = self._begin("delete", place[0], place[2])
        live = self._objects.get(place)
        if live is not None and live["metadata"]["uid"] == manifest["metadata"]["uid"]:
            self.take(place)
        self._end(request)

    async def emit(self, namespace: str, event: dict[str, Any]) -> None:
        request = self._begin("emit", "Event", event["reason"])
        assert event["metadata"]["namespace"] == namespace
        self.events.append(event)
        self._end(request)

    async def repeat(self, namespace: str, name: str, series: dict[str, Any]) -> None:
        request = self._begin("repeat", "Event", name)
        places = [(event["metadata"]["namespace"], event["metadata"]["name"]) for event in self.events]
        if (namespace, name) not in places:
            raise ApiError(404, "NotFound", f'events "{name}" not found')
        self.events[places.index((namespace, name))]["series"] = dict(series)
        self._end(request)

    def _own_creation(
        self, place: Place, changed: dict[str, Any], operation: Mapping[str, Any], request: Request
    ) -> Manifest:
        """What a creation wrote counts as applied from now on."""
        number = operation["path"].split("/")[3]
        entry = changed["metadata"]["managedFields"][int(number)]
        assert operation == {
            "op": "replace",
            "path": f"/metadata/managedFields/{number}/operation",
            "value": "Apply",
        }
        entry["operation"] = "Apply"
        owned, manager = self._owned[place], entry["manager"]
        owned[manager] = owned.pop(f"{manager}{_CREATION}")
        self._store(place, changed, self._objects[place])
        self._end(request)
        return self.find(*place)

    # What tests and the other controllers do; none of it counts as a request.

    def now(self) -> datetime:
        return self._clock()

    def all(self, kind: str) -> Objects:
        """Every object of a kind, oldest first."""
        return [item for (found, _, _), item in self._objects.items() if found == kind]

    def find(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """One object; not to be changed in place."""
        return self._objects[kind, namespace, name]

    def has(self, kind: str, namespace: str, name: str) -> bool:
        return (kind, namespace, name) in self._objects

    def places(self) -> Places:
        return sorted(self._objects)

    def update(self, manifest: Mapping[str, Any], manager: str = "kubectl") -> dict[str, Any]:
        """Create or replace an object as somebody else would; fields that change become theirs."""
        place = place_of(manifest)
        live = self._objects.get(place)
        before = flatten(live) if live else {}
        after = flatten(manifest)
        changed = {path for path, value in after.items() if before.get(path) != value}
        for owned in self._owned[place].values():
            owned -= changed | (set(before) - set(after))
        self._owned[place].setdefault(manager, set()).update(changed)
        self._store(place, copied(dict(manifest)), live)
        return self.find(*place)

    def edit(self, place: Place, change: Callable[[dict[str, Any]], None], manager: str = "kubectl") -> None:
        """Change an object in place as somebody else would."""
        manifest = copied(self.find(*place))
        change(manifest)
        self.update(manifest, manager)

    def take(self, place: Place) -> None:
        """Delete an object; a pod lingers until :meth:`drop`, as it drains first."""
        live = self._objects[place]
        if place[0] == ObjectKind.POD and "deletionTimestamp" not in live["metadata"]:
            self.edit(place, lambda pod: pod["metadata"].update(deletionTimestamp=stamp(self._clock())))
        elif place[0] != ObjectKind.POD:
            self.drop(place)

    def drop(self, place: Place) -> None:
        """Remove an object for good."""
        gone = copied(self._objects.pop(place))
        self._owned.pop(place, None)
        self._version += 1
        gone["metadata"]["resourceVersion"] = str(self._version)
        self._tell("DELETED", gone)

    def managers(self, place: Place) -> dict[str, set[Path]]:
        """Who owns which fields."""
        return {manager: set(paths) for manager, paths in self._owned[place].items() if paths}

    # How it is done.

    def _begin(self, verb: str, kind: str, name: str) -> Request:
        request = Request(len(self.requests) + 1, verb, kind, name)
        self.requests.append(request)
        if self.before is not None:
            self.before(request)
        return request

    def _end(self, request: Request) -> None:
        if self.after is not None:
            self.after(request)

    def refuse_conflicts(self, place: Place, manifest: Mapping[str, Any], manager: str) -> None:
        """What an apply without force does where another manager has a field."""
        live = self._objects.get(place)
        before = flatten(live) if live else {}
        others = {
            path
            for name, paths in self._owned[place].items()
            if name != manager
            for path in paths
            if path in before
        }
        conflicts = {
            path for path, value in flatten(manifest).items() if path in others and before[path] != value
        }
        if conflicts:
            causes = frozenset({"FieldManagerConflict"})
            raise ApiError(409, "Conflict", f"Apply failed with {len(conflicts)} conflict", causes)

    def _refuse_another(self, place: Place, manifest: Manifest) -> None:
        """A uid in what is applied has to be the object's own, and so there has to be one."""
        asked, live = manifest["metadata"].get("uid"), self._objects.get(place)
        found = live["metadata"]["uid"] if live is not None else None
        if asked is not None and found is not None and asked != found:
            message = f"metadata.uid: Invalid value: {asked}: field is immutable"
            raise ApiError(422, "Invalid", f'{place[0]} "{place[2]}" is invalid: {message}')
        if asked not in (None, found):
            message = f"Precondition failed: UID in precondition: {asked}, UID in object meta: {found}"
            raise ApiError(
                409, "Conflict", f'Operation cannot be fulfilled on {place[0]} "{place[2]}": {message}'
            )

    def refuse_if_old(self, place: Place, manifest: Manifest) -> None:
        """A resourceVersion in what is applied has to be the object's own."""
        asked, live = manifest["metadata"].get("resourceVersion"), self._objects.get(place)
        if asked is not None and live is not None and live["metadata"]["resourceVersion"] != asked:
            raise ApiError(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {place[0]} "{place[2]}": the object has been modified; '
                "please apply your changes to the latest version and try again",
            )

    def _merge(self, place: Place, wanted: dict[str, Any], manager: str) -> None:
        live = self._objects.get(place)
        before = flatten(live) if live else {}
        applied = {path: value for path, value in flatten(wanted).items() if not _is_identity(path)}
        owned = self._owned[place]
        others = {path for name, paths in owned.items() if name != manager for path in paths}
        left = owned.get(manager, set()) - set(applied) - others
        identity = {path: value for path, value in flatten(wanted).items() if _is_identity(path)}
        merged = {**identity, **applied}
        merged.update(
            {path: value for path, value in before.items() if path not in merged and path not in left}
        )
        made = unflatten(merged)
        if "status" in wanted:
            # What another manager has of a block that goes stays, and may be no whole block.
            self.refuse_status(made["status"])
        for name, paths in owned.items():
            if name != manager:
                paths -= {path for path, value in applied.items() if path in before and before[path] != value}
        self._store(place, made, live)
        owned[manager] = set(applied)

    def _store(self, place: Place, manifest: dict[str, Any], live: dict[str, Any] | None) -> None:
        _fill_in(manifest)
        _refuse_no_image(manifest)
        if place[0] == KIND:
            # Nobody wrote it, so that nobody takes it back.
            manifest.setdefault("status", {"observedGeneration": 0})
        meta = manifest["metadata"]
        if live is None:
            self._uids += 1
            meta.update(uid=f"uid-{self._uids}", generation=1, creationTimestamp=stamp(self._clock()))
        elif manifest == live:
            return
        else:
            path = _IMMUTABLE.get(place[0])
            if path and _dig(manifest, path) != _dig(live, path):
                raise ApiError(422, "Invalid", f"{place[0]} {'.'.join(path)}: field is immutable")
            if _content(manifest) != _content(live):
                meta["generation"] = live["metadata"]["generation"] + 1
        self._version += 1
        meta["resourceVersion"] = str(self._version)
        self._objects[place] = manifest
        self._tell("ADDED" if live is None else "MODIFIED", manifest)

    def _tell(self, type_: str, manifest: Manifest) -> None:
        for listener in self.listeners:
            listener(type_, manifest)


def place_of(manifest: Mapping[str, Any]) -> Place:
    return manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"]


def concerns_slipway(manifest: Manifest) -> bool:
    """Whether the operator's watches would show it."""
    return manifest["kind"] == KIND or naming.MODEL_LABEL in (manifest["metadata"].get("labels") or {})


def copied(value: Any) -> Any:
    """A deep copy of plain JSON."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def flatten(value: Any, path: Path = (), name: str = "") -> dict[Path, Any]:
    """Every leaf of an object by its path; items of keyed lists are found by their keys."""
    if isinstance(value, Mapping) and value and name not in _ATOMIC:
        found: dict[Path, Any] = {}
        for key, item in value.items():
            found.update(flatten(item, (*path, key), key))
        return found
    keys = _LIST_KEYS.get(name)
    if isinstance(value, list) and not value and keys:
        # As if it were not there: the API server leaves it out.
        return {}
    if isinstance(value, list) and value and keys and all(isinstance(item, Mapping) for item in value):
        found = {}
        for item in value:
            key = ("item", *(item.get(part) for part in keys))
            found.update(flatten(item, (*path, key)))
        return found
    return {path: value}


def unflatten(leaves: Mapping[Path, Any]) -> dict[str, Any]:
    """The object that has these leaves; items of keyed lists in the order in which they first appear."""
    root: dict[Any, Any] = {}
    for path, value in leaves.items():
        node = root
        for step in path[:-1]:
            below = node.setdefault(step, {})
            node = below
        if value == {} and isinstance(node.get(path[-1]), dict):
            continue
        node[path[-1]] = value
    built: dict[str, Any] = _rebuilt(root)
    return built


def _rebuilt(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if node and all(isinstance(key, tuple) for key in node):
        return [_rebuilt(item) for item in node.values()]
    return {key: _rebuilt(item) for key, item in node.items()}


def _is_identity(path: Path) -> bool:
    return path[0] in ("apiVersion", "kind") or path in (
        ("metadata", "name"),
        ("metadata", "namespace"),
        ("metadata", "uid"),
        ("metadata", "resourceVersion"),
    )


def _content(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in manifest.items() if key not in ("metadata", "status")}


def _dig(manifest: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = manifest
    for step in path:
        found = found.get(step, {})
    return found


def _refuse_no_image(manifest: Mapping[str, Any]) -> None:
    """What the API server says of a container that has none."""
    spec = manifest.get("spec") or {}
    pod = (spec.get("template") or {}).get("spec") or spec
    for group in ("initContainers", "containers"):
        for number, container in enumerate(pod.get(group) or ()):
            if container.get("image") == "":
                path = f"spec.template.spec.{group}[{number}].image"
                raise ApiError(422, "Invalid", f"{manifest['kind']} is invalid: {path}: Required value")


def _fill_in(manifest: dict[str, Any]) -> None:
    """A few of the defaults, and amounts in their canonical form."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == ObjectKind.DEPLOYMENT:
        spec.setdefault("replicas", 1)
        template = spec["template"]["spec"]
        template.setdefault("restartPolicy", "Always")
        template.setdefault("dnsPolicy", "ClusterFirst")
    elif manifest["kind"] == ObjectKind.SERVICE:
        spec.setdefault("clusterIP", "10.96.7.7")
        spec.setdefault("sessionAffinity", "None")
    elif manifest["kind"] == ObjectKind.POD:
        template = spec
    else:
        return
    for container in [*spec.get("template", {}).get("spec", spec).get("containers", ())]:
        for amounts in container.get("resources", {}).values():
            if "cpu" in amounts:
                cores = quantity(amounts["cpu"])
                amounts["cpu"] = str(int(cores)) if cores == int(cores) else f"{int(cores * 1000)}m"
            for name, amount in amounts.items():
                if str(amount).endswith("i"):
                    amounts[name] = _binary(int(quantity(amount)))


def _binary(number: int) -> str:
    """A whole number by the largest unit of 1024 that divides it."""
    units = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
    power = max(n for n in range(len(units)) if number % 1024**n == 0)
    return f"{number // 1024**power}{units[power]}"
