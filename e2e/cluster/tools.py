"""Programs built from Go modules, once, into the cache."""

import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster.command import exclusive, run, step
from e2e.cluster.errors import ClusterError

KUBERNETES_VERSION = "v1.34.4"
GO_MINIMUM = (1, 26)
COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubeadm",
    "kubectl",
)
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class GoProgram:
    """A program that `go install` builds as published."""

    name: str
    package: str
    version: str
    tags: str = ""
    """Build tags, separated by commas; a change of them needs a change of version to be seen."""
    uses_c: bool = False
    """Whether parts of it are in C, which `cc` compiles."""
    main_module: str = field(default="", repr=False)
    """Folder of the repository with a go.mod to build it by, where its own go.mod replaces modules."""


@dataclass(frozen=True)
class NodeProgram:
    """A program of the npm registry, and the script that starts it."""

    name: str
    version: str
    script: str


@dataclass(frozen=True)
class NodeFile:
    """A file of a package of the npm registry that stands alone."""

    name: str
    version: str
    path: str
    sha256: str


#: Draws the diagrams of the docs site, in the reader's browser.
MERMAID = NodeFile(
    "mermaid",
    "12.3.0",
    "dist/mermaid.min.js",
    sha256="336df803d87a38b70a01e736e666c8f7601d2ce42f5e47c8fafe5d721074b9a3",
)
IFRAME_WORKER = NodeFile(
    "iframe-worker",
    "1.0.3",
    "shim/index.js",
    sha256="512d74bf24286113a2b20770062004dd13c3a3711fc8f836a7fc8d5a3ee6cebf",
)
#: Azure Blob Storage for tests.
AZURITE = NodeProgram("azurite", "3.37.0", "node_modules/azurite/dist/src/blob/main.js")
HELM = GoProgram("helm", "helm.sh/helm/v3/cmd/helm", "v3.22.0")
KUBECONFORM = GoProgram("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", "v0.8.0")
#: Reads workflows of GitHub.
ACTIONLINT = GoProgram("actionlint", "github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12")
#: Runs workflows of GitHub, on this machine itself.
ACT = GoProgram("act", "github.com/nektos/act", "v0.2.89")
#: What GitHub's API takes and answers, in its own words.
GITHUB_OPENAPI = NodeFile(
    "@octokit/openapi",
    "23.0.2",
    "generated/api.github.com.json",
    sha256="829b4bebb19a53133289f7b0bc819f4f1118115821db2ca9f25e9ee995a7da2a",
)
COREDNS = GoProgram("coredns", "github.com/coredns/coredns", "v1.13.2")
METRICS_SERVER = GoProgram("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server", "v0.9.0")
PROMETHEUS_VERSION = "v0.316.0"
PROMETHEUS, PROMTOOL = (
    GoProgram(
        name,
        f"github.com/prometheus/prometheus/cmd/{name}",
        PROMETHEUS_VERSION,
        tags="remove_all_sd,enable_kubernetes_sd",
    )
    for name in ("prometheus", "promtool")
)
ENVOY_GATEWAY_MODULE, ENVOY_GATEWAY_VERSION = "github.com/envoyproxy/gateway", "v1.9.1"
ENVOY_GATEWAY = GoProgram("envoy-gateway", f"{ENVOY_GATEWAY_MODULE}/cmd/envoy-gateway", ENVOY_GATEWAY_VERSION)
#: The newest whose module has its own pages in it, without which newer ones do not build.
ALERTMANAGER_VERSION = "v0.31.1"
ALERTMANAGER, AMTOOL = (
    GoProgram(name, f"github.com/prometheus/alertmanager/cmd/{name}", ALERTMANAGER_VERSION)
    for name in ("alertmanager", "amtool")
)
#: Holds docs to the words of the field. The newest whose every module is published.
VALE = GoProgram("vale", "github.com/vale-cli/vale/v3/cmd/vale", "v3.22.0", uses_c=True)
#: Runs the docs' commands of jq, whose language it speaks. The newest whose modules are all published.
GOJQ = GoProgram("gojq", "github.com/itchyny/gojq/cmd/gojq", "v0.12.17")
#: Holds a server to HTTP/2 case by case.
H2SPEC = GoProgram("h2spec", "github.com/summerwind/h2spec/cmd/h2spec", "v2.2.1+incompatible")
#: An OCI registry for tests, and what images are pushed with.
CRANE = GoProgram("crane", "github.com/google/go-containerregistry/cmd/crane", "v0.22.1")
#: Pushes and attaches artifacts as people do, in tests.
ORAS = GoProgram("oras", "oras.land/oras/cmd/oras", "v1.3.6")
#: Signs and verifies manifests as people do, in tests.
COSIGN = GoProgram("cosign", "github.com/sigstore/cosign/v3/cmd/cosign", "v3.1.3")
#: The newest of its line that builds as it is published.
ARGOCD = GoProgram("argocd", "github.com/argoproj/argo-cd/v3/cmd", "v3.2.11", main_module="e2e/images/argocd")
#: The schema of advisories, as its module carries it.
OSV_SCHEMA = ("github.com/ossf/osv-schema", "v1.9.0")
#: What kube-network-policies writes its rules with, of which `node/policies` replaces a file.
NFTABLES_MODULE, NFTABLES_VERSION = "github.com/google/nftables", "v0.3.0"
KIND = GoProgram("kind", "sigs.k8s.io/kind", "v0.30.0")


@dataclass(frozen=True)
class Tools:
    """Builds into and finds programs in one cache folder."""

    cache: Path

    @property
    def bin(self) -> Path:
        """Folder with kubectl and helm, for PATH."""
        return self.cache / "bin"

    def kubernetes(self) -> Path:
        """Folder with one link per component of Kubernetes, all to one program."""
        source = HERE / "node" / "kubernetes"
        major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
        stamps = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor}
        stamp = " ".join(f"-X k8s.io/component-base/version.{name}={text}" for name, text in stamps.items())
        folder = self._build_module(f"kubernetes-{KUBERNETES_VERSION}", source, f"-s -w {stamp}")
        for component in COMPONENTS:
            link_to(folder / component, Path("program"))
        return folder

    def forward(self) -> Path:
        """The program that carries connections from the machine's loopback to the node's network."""
        return self.build("forward", HERE / "node" / "forward")

    def network_policies(self) -> Path:
        """The program that enforces NetworkPolicies for the pods of a node."""
        source = HERE / "node" / "policies"
        return self._build_module("network-policies", source, "-s -w", _with_nftables) / "program"

    def build(self, name: str, source: Path) -> Path:
        """A program of this repository that is a Go module of its own, built again when its files change."""
        return self._build_module(name, source, "-s -w") / "program"

    def registry(self) -> Path:
        """An OCI registry that answers what refers to a manifest; :data:`CRANE` brings one that does not."""
        return self._build_module("registry", HERE / "registry", "-s -w") / "program"

    def pause(self) -> Path:
        """The static program that holds a pod's, and a node's, namespaces."""
        source = HERE / "node" / "pause" / "pause.c"
        built = self.cache / "tools" / f"pause-{_digest([source])}"
        with exclusive(self.cache / "tools.lock", "building"):
            if not built.exists():
                with _beside(built) as made:
                    run(["cc", "-Os", "-static", "-s", "-o", made, source])
        return built

    def has(self, program: GoProgram) -> bool:
        """Whether a program is built."""
        return self._path(program).exists()

    def has_kubernetes(self) -> bool:
        """Whether Kubernetes of this version is built, from these sources or others."""
        return any((self.cache / "tools").glob(f"kubernetes-{KUBERNETES_VERSION}-*/program"))

    def install(self, program: GoProgram) -> Path:
        """The program at its pinned version, built by the first call."""
        built = self._path(program)
        with exclusive(self.cache / "tools.lock", "building"):
            if not built.exists():
                title = f"building {program.name} {program.version}"
                with step(title), tempfile.TemporaryDirectory() as out, _beside(built) as made:
                    static = {"GOBIN": out, "CGO_ENABLED": "1" if program.uses_c else "0"}
                    flags = ("-trimpath", f"-tags={program.tags}", "-ldflags", "-s -w")
                    if program.main_module:
                        folder = HERE.parents[1] / program.main_module
                        _go("build", *flags, "-o", str(made), program.package, env=static, cwd=folder)
                    else:
                        _go("install", *flags, f"{program.package}@{program.version}", env=static)
                        shutil.copy(Path(out) / program.name, made)
        return built

    def install_node(self, program: NodeProgram) -> Path:
        """The script of a Node.js program at its pinned version, fetched by the first call."""
        folder = self.cache / "tools" / f"{program.name}-{program.version}"
        with exclusive(self.cache / "tools.lock", "installing"):
            if not (folder / program.script).exists():
                if not shutil.which("npm"):
                    raise ClusterError(
                        "npm is not installed: install Node.js 20 or newer from https://nodejs.org"
                    )
                with step(f"installing {program.name} {program.version}"), _beside(folder) as made:
                    made.mkdir()
                    # None of its packages needs what its scripts would do.
                    words = ["npm", "install", "--no-save", "--ignore-scripts", "--loglevel=error"]
                    source = f"{program.name}@{program.version}"
                    run(["nice", "-n", "10", *words, "--prefix", made, source], cwd=Path("/"))
        return folder / program.script

    def fetch_npm(self, file: NodeFile) -> Path:
        """The file at its pinned version, fetched by the first call without what its package depends on."""
        plain = file.name.removeprefix("@").replace("/", "-")
        kept = self.cache / "tools" / f"{plain}-{file.version}-{Path(file.path).name}"
        with exclusive(self.cache / "tools.lock", "installing"):
            if not kept.exists():
                if not shutil.which("npm"):
                    raise ClusterError(
                        "npm is not installed: install Node.js 20 or newer from https://nodejs.org"
                    )
                with step(f"fetching {file.name} {file.version}"), tempfile.TemporaryDirectory() as scratch:
                    source = f"{file.name}@{file.version}"
                    packed = run(["npm", "pack", "--silent", source], cwd=Path(scratch)).split()[-1]
                    with tarfile.open(Path(scratch) / packed) as archive, _beside(kept) as made:
                        found = archive.extractfile(f"package/{file.path}")
                        content = found.read() if found else b""
                        if hashlib.sha256(content).hexdigest() != file.sha256:
                            raise ClusterError(
                                f"{file.path} of {source} is not the file with the SHA-256 {file.sha256}: "
                                "the registry has another one"
                            )
                        made.write_bytes(content)
        return kept

    def gateway_crds(self) -> Path:
        """Folder with the CRDs of the Gateway API and of Envoy Gateway, as its module carries them."""
        return module(ENVOY_GATEWAY_MODULE, ENVOY_GATEWAY_VERSION) / "charts/gateway-helm/charts/crds/crds"

    def argocd_manifests(self) -> Path:
        """Folder with the manifests that install Argo CD, as its module carries them."""
        return module(ARGOCD.package.removesuffix("/cmd"), ARGOCD.version) / "manifests"

    def kind_files(self) -> Path:
        """Folder with the files that kind puts into the image of its nodes, as its module carries them."""
        found = json.loads(_go("mod", "download", "-json", f"{KIND.package}@{KIND.version}"))
        return Path(found["Dir"]) / "images/base/files"

    def expose(self) -> None:
        """Link kubectl and helm into `bin`."""
        link_to(self.bin / "kubectl", self.kubernetes() / "kubectl")
        link_to(self.bin / HELM.name, self.install(HELM))

    def _path(self, program: GoProgram) -> Path:
        return self.cache / "tools" / f"{program.name}-{program.version}"

    def _build_module(
        self,
        name: str,
        source: Path,
        ldflags: str,
        prepare: Callable[[Path], AbstractContextManager[Path]] = nullcontext,
    ) -> Path:
        """The folder with the module's program; ``prepare`` makes a folder to build it in from its own."""
        sources = sorted(path for path in source.iterdir() if path.suffix in (".go", ".mod", ".sum"))
        folder = self.cache / "tools" / f"{name}-{_digest(sources)}"
        with exclusive(self.cache / "tools.lock", "building"):
            if not (folder / "program").exists():
                with step(f"building {name}"), _beside(folder / "program") as made, prepare(source) as cwd:
                    _go("build", "-trimpath", "-ldflags", ldflags, "-o", str(made), ".", cwd=cwd)
        return folder


def module(name: str, version: str) -> Path:
    """The folder of a Go module's files."""
    return Path(json.loads(_go("mod", "download", "-json", f"{name}@{version}"))["Dir"])


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A path next to the target that becomes the target only when all went well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield made
        made.replace(target)
    finally:
        if made.is_dir():
            shutil.rmtree(made)
        else:
            made.unlink(missing_ok=True)


@contextmanager
def _with_nftables(source: Path) -> Iterator[Path]:
    """A folder with a module and, in `nftables`, what its go.mod replaces: all of it but one file."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "module"
        shutil.copytree(source, folder)
        shutil.copytree(module(NFTABLES_MODULE, NFTABLES_VERSION), folder / "nftables")
        replaced = folder / "nftables/expr/queue.go"
        replaced.unlink()
        (folder / "queue.go").rename(replaced)
        yield folder


def link_to(link: Path, target: Path) -> None:
    """Make a symbolic link point at the target, replacing it in one step."""
    if link.is_symlink() and link.readlink() == target:
        return
    with _beside(link) as made:
        made.unlink(missing_ok=True)
        made.symlink_to(target)


def _go(*words: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    if not shutil.which("go"):
        raise ClusterError(f"Go is not installed: install Go {_minimum()} or newer from https://go.dev/dl/")
    found = re.search(r"go(\d+)\.(\d+)", run(["go", "env", "GOVERSION"], cwd=Path("/")))
    if found is None or (int(found[1]), int(found[2])) < GO_MINIMUM:
        raise ClusterError(f"Go {found[0] if found else '?'} is too old: install Go {_minimum()} or newer")
    # A go.mod, go.work or flags of the caller's would change what is built.
    plain = {"GOWORK": "off", "GOFLAGS": "", **(env or {})}
    return run(["nice", "-n", "10", "go", *words], env=plain, cwd=cwd or Path("/"))


def _minimum() -> str:
    return ".".join(map(str, GO_MINIMUM))


def _digest(files: list[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()[:12]
