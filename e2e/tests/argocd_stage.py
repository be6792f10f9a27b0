"""Argo CD as its own manifests install it, a git server beside it, and what people do with both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import yaml

from e2e.cluster.command import run, step
from e2e.cluster.settings import Settings
from e2e.cluster.tools import ARGOCD, Tools
from e2e.images.archives import build, load
from e2e.images.catalog import find_image
from e2e.kube import Kube, Object
from e2e.tests.conditions import wait_for
from e2e.tests.pods import script_pod
from release import argocd as shipped

NAMESPACE = "argocd"
#: What Argo CD's own manifests call its images.
IMAGES = ("quay.io/argoproj/argocd:", "public.ecr.aws/docker/library/redis:")
#: Of these the tests need nothing.
LEFT_OUT = ("argocd-dex-server", "argocd-notifications-controller")
GIT = "http://git.argocd.svc:8080"
#: Two people of Argo CD: one may approve, the other may only stop.
POLICY = """
p, role:risk, applications, get, */*, allow
p, role:risk, applications, action/slipway.dev/ModelDeployment/promote, */*, allow
p, role:risk, applications, action/slipway.dev/ModelDeployment/retry, */*, allow
p, role:engineer, applications, get, */*, allow
p, role:engineer, applications, action/slipway.dev/ModelDeployment/abort, */*, allow
p, role:engineer, applications, action/slipway.dev/ModelDeployment/pause, */*, allow
p, role:engineer, applications, action/slipway.dev/ModelDeployment/resume, */*, allow
g, alice, role:risk
g, bob, role:engineer
"""
PASSWORD = "only-for-tests"
CONTROLLER = "statefulset/argocd-application-controller"
#: Argo CD's server, in its own pod.
SERVER = "localhost:8080"


@dataclass(frozen=True)
class Repository:
    """A clone on this machine, pushed to the cluster's git server."""

    folder: Path
    remote: str
    url: str
    """As Argo CD has it."""

    def commit(self, files: Mapping[str, str | None], words: str = "change") -> str:
        """Write files (None deletes), commit and push; returns the commit."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
        self._git("add", "--all")
        self._git("commit", "--quiet", f"--message={words}")
        self._git("push", "--quiet", "--force", self.remote, "HEAD:main")
        return self._git("rev-parse", "HEAD").strip()

    def manifest(self, name: str, *objects: Object) -> str:
        """Commit a file of manifests."""
        return self.commit({name: yaml.safe_dump_all(objects, sort_keys=False)})

    def _git(self, *words: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "http.postBuffer=50000000")
        return run(["git", "-C", self.folder, *who, *words], timeout=60)


@dataclass(frozen=True)
class ArgoCD:
    """Argo CD on the cluster, by kubectl and by its own command line."""

    kube: Kube
    program: Path
    folder: Path
    git: str
    """The git server, from this machine."""
    known: set[str] = field(default_factory=set)
    """Users that are logged in."""

    def repository(self, name: str) -> Repository:
        """A repository of this name, new or as this run left it."""
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir(parents=True)
            run(["git", "init", "--quiet", "--initial-branch=main", folder])
        return Repository(folder, f"{self.git}/{name}.git", f"{GIT}/{name}.git")

    def apply(self, application: Object) -> None:
        self.kube.apply(application)

    def found(self, name: str) -> Object:
        return self.kube.get("application", name, NAMESPACE) or {}

    def refresh(self, name: str, how: str = "normal") -> None:
        """Have Argo CD look at Git and the cluster now, and wait until it did."""
        key = "argocd.argoproj.io/refresh"
        where = ("application", name, f"--namespace={NAMESPACE}", "--overwrite")
        self.kube.kubectl("annotate", *where, f"{key}={how}")
        wait_for(
            lambda: key not in self.found(name)["metadata"].get("annotations", {}),
            60,
            f"{name} is not refreshed",
        )

    def state(self, name: str) -> tuple[str, str]:
        """Whether it is in sync, and its health."""
        status = self.found(name).get("status", {})
        return status.get("sync", {}).get("status", ""), status.get("health", {}).get("status", "")

    def resource(self, name: str, resource: str) -> tuple[str, str]:
        """Health of one of its resources, and the message."""
        for each in self.found(name).get("status", {}).get("resources", ()):
            if each["name"] == resource and each["kind"] == "ModelDeployment":
                health = each.get("health", {})
                return health.get("status", ""), health.get("message", "")
        return "", ""

    def wait_for(self, name: str, sync: str, health: str, *, commit: str = "", within: float = 120) -> None:
        """Wait until an Application is in this state, of this commit where one is given."""

        def reached() -> bool:
            of = self.found(name).get("status", {}).get("sync", {}).get("revision", "")
            return self.state(name) == (sync, health) and (not commit or of == commit)

        wait_for(reached, within, lambda: f"{name} is {self.state(name)}\n{self.explain(name)}")

    def synced(self, name: str) -> tuple[str, str]:
        """Which commit was applied last, and when; empty before the first time."""
        status = self.found(name).get("status", {})
        operation = status.get("operationState", {})
        succeeded = operation.get("phase") == "Succeeded" and status.get("sync", {}).get("status") == "Synced"
        commit = operation.get("syncResult", {}).get("revision", "")
        return (commit, operation["finishedAt"]) if succeeded else ("", "")

    def wait_until_synced(self, name: str, commit: str, within: float = 120) -> tuple[str, str]:
        """Wait until a commit was applied and nothing is different from it; gives what `synced` does."""
        wait_for(
            lambda: self.synced(name)[0] == commit,
            within,
            lambda: f"{name} is not in sync with {commit}\n{self.explain(name)}",
        )
        return self.synced(name)

    def logged(self, since: datetime) -> Iterator[Object]:
        """What the application controller wrote since."""
        where = (f"--namespace={NAMESPACE}", f"--since-time={since.isoformat(timespec='seconds')}")
        for line in self.kube.kubectl("logs", CONTROLLER, *where).splitlines():
            yield json.loads(line)

    def change_settings(self, data: Mapping[str, str | None]) -> None:
        """Change `argocd-cm` (None takes a setting away), and wait until the controller has read it."""
        since, patch = datetime.now(UTC), json.dumps({"data": data})
        self.kube.kubectl("patch", "configmap", "argocd-cm", f"--namespace={NAMESPACE}", f"--patch={patch}")
        wait_for(
            lambda: any("cache invalidated" in line["msg"] for line in self.logged(since)),
            60,
            "the settings are not read again",
        )

    def explain(self, name: str) -> str:
        status = dict(self.found(name).get("status", {}))
        status.pop("history", None)
        return yaml.safe_dump(status)[:6000]

    def delete(self, name: str) -> None:
        """Delete an Application and all that it holds, and wait until both are gone; fine where it is not."""
        if not self.found(name):
            return
        patch = {"metadata": {"finalizers": ["resources-finalizer.argocd.argoproj.io"]}}
        where = ("application", name, f"--namespace={NAMESPACE}")
        self.kube.kubectl("patch", *where, "--type=merge", f"--patch={json.dumps(patch)}")
        self.kube.kubectl("delete", *where, "--timeout=180s", seconds=200)

    def admin(self, *words: str) -> str:
        """What Argo CD's own code makes of settings and a resource in files."""
        return run([self.program, "admin", "settings", "resource-overrides", *words], timeout=60)

    def run_action(self, user: str, application: str, action: str, resource: str) -> str:
        """Click an action, as a user of Argo CD; ClusterError where that is refused."""
        where = ("--kind=ModelDeployment", f"--resource-name={resource}")
        return self.cli(user, "app", "actions", "run", application, action, *where)

    def offered(self, user: str, application: str, resource: str) -> set[str]:
        """Actions that are enabled."""
        where = ("--kind=ModelDeployment", f"--resource-name={resource}", "-o", "json")
        found = json.loads(self.cli(user, "app", "actions", "list", application, *where))
        return {each["Action"] for each in found if each.get("Disabled") in (False, "false")}

    def cli(self, user: str, *words: str) -> str:
        """Argo CD's command line as one of its users.

        It runs beside the server: a forward through the API server does not outlive how it looks for TLS.
        """
        config = f"--config=/tmp/{user}.config"
        if user not in self.known:
            self._exec("login", SERVER, "--plaintext", config, *self._password(user))
            self.known.add(user)
        return self._exec(*words, config, f"--server={SERVER}", "--plaintext")

    def _exec(self, *words: str) -> str:
        where = ("exec", "deployment/argocd-server", f"--namespace={NAMESPACE}", "--", "argocd")
        return self.kube.kubectl(*where, *words, seconds=120)

    def _password(self, user: str) -> tuple[str, str]:
        password = PASSWORD
        if user == "admin":
            secret = self.kube.get("secret", "argocd-initial-admin-secret", NAMESPACE) or {}
            password = run(["base64", "-d"], stdin=secret["data"]["password"].encode())
        return f"--username={user}", f"--password={password}"

    def let_in(self, *users: str) -> None:
        """Give users their password."""
        current = self._password("admin")[1].partition("=")[2]
        for user in users:
            words = (f"--account={user}", f"--current-password={current}", f"--new-password={PASSWORD}")
            self.cli("admin", "account", "update-password", *words)


def installed_manifests(tools: Tools, image: str) -> list[Object]:
    """Argo CD's own manifests, with this image and without what the tests do not need."""
    text = (tools.argocd_manifests() / "install.yaml").read_text()
    found: list[Object] = []
    for each in yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        name, kind = each["metadata"]["name"], each["kind"]
        if name.startswith(LEFT_OUT) or kind == "NetworkPolicy":
            continue
        for subject in each.get("subjects", ()):
            subject["namespace"] = NAMESPACE
        template = each["spec"].get("template", {}) if kind in ("Deployment", "StatefulSet") else {}
        for container in _containers(template):
            assert container["image"].startswith(IMAGES), container["image"]
            container |= {"image": image, "imagePullPolicy": "IfNotPresent"}
            if container["name"] == "redis":
                container["command"] = ["redis-server"]
            if container["name"] == "argocd-repo-server":
                # No commit here is signed, and the image has no gpg.
                container["env"].append({"name": "ARGOCD_GPG_ENABLED", "value": "false"})
        found.append(each)
    return found


def _containers(template: Object) -> list[Object]:
    spec = template.get("spec", {})
    return [*spec.get("containers", ()), *spec.get("initContainers", ())]


def settings_of_argocd() -> dict[str, dict[str, str]]:
    """What differs from an installation as it comes: shorter waits, two users, and what Slipway ships."""
    return {
        "argocd-cm": {
            "timeout.reconciliation": "20s",
            "timeout.reconciliation.jitter": "0s",
            "accounts.alice": "login",
            "accounts.bob": "login",
            **shipped.customizations(),
        },
        "argocd-cmd-params-cm": {
            "applicationsetcontroller.enable.progressive.syncs": "true",
            "controller.resource.health.persist": "true",
            "controller.self.heal.timeout.seconds": "2",
            "server.insecure": "true",
        },
        "argocd-rbac-cm": {"policy.csv": POLICY},
    }


@contextmanager
def argo_cd(kube: Kube, settings: Settings, folder: Path) -> Iterator[ArgoCD]:
    """Argo CD and a git server, gone at the end with all of their Applications' traces."""
    image = load(build([find_image("argocd")], settings.cache), settings)["argocd"]
    program = folder / "argocd"
    shutil.copy(Tools(settings.cache).install(ARGOCD), program)
    try:
        with step("installing Argo CD"):
            install(kube, settings, image)
        with kube.port_forward("service/git", NAMESPACE, 8080) as git:
            made = ArgoCD(kube, program, folder, git)
            made.let_in("alice", "bob")
            yield made
    finally:
        remove(kube)


def install(kube: Kube, settings: Settings, image: str) -> None:
    """Argo CD and a git server, ready."""
    manifests = installed_manifests(Tools(settings.cache), image)
    for name, data in settings_of_argocd().items():
        [there] = [
            each for each in manifests if (each["kind"], each["metadata"]["name"]) == ("ConfigMap", name)
        ]
        there["data"] = {**there.get("data", {}), **data}
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    text = yaml.dump_all(manifests, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))
    words = ("apply", "--server-side", "--force-conflicts", f"--namespace={NAMESPACE}", "-f", "-")
    kube.kubectl(*words, stdin=text, seconds=180)
    kube.apply(*git_server(image))
    for target in (
        "deployment/git",
        "deployment/argocd-redis",
        "deployment/argocd-repo-server",
        "deployment/argocd-server",
        "deployment/argocd-applicationset-controller",
        CONTROLLER,
    ):
        kube.wait_for_rollout(target, NAMESPACE, 240)


def remove(kube: Kube) -> None:
    """Take Argo CD away, and leave what it deployed."""
    where = f"--namespace={NAMESPACE}"
    kube.kubectl("delete", "applicationsets", "--all", where, "--wait=false")
    for each in kube.items("applications", NAMESPACE):
        patch = '--patch={"metadata":{"finalizers":null}}'
        kube.kubectl("patch", "application", each["metadata"]["name"], where, "--type=merge", patch)
    kube.kubectl("delete", "applications", "--all", where, "--wait=false")
    kube.kubectl("delete", "namespace", NAMESPACE, "--timeout=180s", seconds=200)
    for kind in ("crd", "clusterrole", "clusterrolebinding"):
        kube.kubectl(
            "delete", kind, "--selector=app.kubernetes.io/part-of=argocd", "--timeout=60s", seconds=90
        )


def git_server(image: str) -> list[Object]:
    """The git server's objects."""
    script, template = script_pod("git", "git_server.py", image, {}, ready_port=8080)
    template["spec"]["volumes"].append({"name": "repositories", "emptyDir": {}})
    template["spec"]["containers"][0]["volumeMounts"].append(
        {"name": "repositories", "mountPath": "/repositories"}
    )
    template["spec"]["containers"][0]["command"][0] = "python3"
    labels = template["metadata"]["labels"]
    made: list[Object] = [
        script,
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "git"},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "git"},
            "spec": {"selector": labels, "ports": [{"port": 8080}]},
        },
    ]
    for each in made:
        each["metadata"]["namespace"] = NAMESPACE
    return made
