"""The cluster's certificate authority, certificates and kubeconfigs, made with openssl."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.command import run
from e2e.cluster.node.layout import API_PORT, API_SERVICE_ADDRESS, Layout

DAYS = "3650"


@dataclass(frozen=True)
class Identity:
    """Who a certificate is for: its subject, and the names and addresses it answers to."""

    file: str
    subject: str
    answers: tuple[str, ...] = ()


def control_plane_identities(address: str) -> list[Identity]:
    """Identities of the components that run once."""
    api = (
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    )
    names = (*(f"DNS:{name}" for name in (*api, "localhost")), "IP:127.0.0.1", f"IP:{API_SERVICE_ADDRESS}")
    return [
        Identity("apiserver", "/CN=kube-apiserver", (*names, f"IP:{address}")),
        Identity("apiserver-kubelet", "/O=system:masters/CN=apiserver-kubelet"),
        Identity("admin", "/O=system:masters/CN=admin"),
        Identity("controller-manager", "/CN=system:kube-controller-manager"),
        Identity("scheduler", "/CN=system:kube-scheduler"),
        Identity("proxy", "/CN=system:kube-proxy"),
        Identity("network-policies", "/CN=slipway-test:network-policies"),
        Identity("front-proxy", "/CN=front-proxy-client"),
    ]


def kubelet_identity(node: str, address: str) -> Identity:
    """A kubelet both calls the API server and answers it, so its certificate carries the node's address."""
    answers = (f"DNS:{node}", f"IP:{address}", "IP:127.0.0.1")
    return Identity(f"kubelet-{node}", f"/O=system:nodes/CN=system:node:{node}", answers)


def make_authority(pki: Path) -> None:
    """Make the authority and the service accounts' key pair, where they are missing."""
    pki.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (pki / "ca.crt").exists():
        key, made = pki / "ca.key", pki / "ca.crt.new"
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        run([*new, "-keyout", key, "-out", made, "-subj", "/CN=slipway-test", "-days", DAYS])
        for orphan in pki.glob("*.crt"):
            orphan.unlink()
        made.replace(pki / "ca.crt")
    if not (pki / "sa.pub").exists():
        made = pki / "sa.pub.new"
        run(["openssl", "genrsa", "-out", pki / "sa.key", "2048"])
        run(["openssl", "rsa", "-in", pki / "sa.key", "-pubout", "-out", made])
        made.replace(pki / "sa.pub")


def make_certificate(pki: Path, identity: Identity) -> None:
    """Make the key and the certificate where they are missing; the certificate is there last."""
    target = pki / f"{identity.file}.crt"
    if target.exists():
        return
    key, request, made = (pki / f"{identity.file}.{end}" for end in ("key", "csr", "crt.new"))
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run([*new, "-keyout", key, "-out", request, "-subj", identity.subject])
    extensions = pki / f"{identity.file}.ext"
    answers = f"subjectAltName={','.join(identity.answers)}\n" if identity.answers else ""
    extensions.write_text(f"{answers}extendedKeyUsage=serverAuth,clientAuth\n")
    authority: list[str | Path] = ["-CA", pki / "ca.crt", "-CAkey", pki / "ca.key", "-CAcreateserial"]
    run(
        [
            "openssl",
            "x509",
            "-req",
            "-in",
            request,
            *authority,
            "-out",
            made,
            "-days",
            DAYS,
            "-extfile",
            extensions,
        ]
    )
    request.unlink()
    extensions.unlink()
    made.replace(target)


def component_kubeconfig(layout: Layout, identity: str, address: str) -> str:
    """A kubeconfig (JSON is YAML) for a component, with the certificates by path."""
    user = {
        "client-certificate": str(layout.pki / f"{identity}.crt"),
        "client-key": str(layout.pki / f"{identity}.key"),
    }
    server = {"server": f"https://{address}:{API_PORT}", "certificate-authority": str(layout.pki / "ca.crt")}
    return _kubeconfig(layout.name, server, user)


def admin_kubeconfig(layout: Layout, port: int) -> str:
    """A kubeconfig for people and tests: through the machine's loopback, certificates inside."""
    user = {
        "client-certificate-data": _inline(layout.pki / "admin.crt"),
        "client-key-data": _inline(layout.pki / "admin.key"),
    }
    authority = _inline(layout.pki / "ca.crt")
    return _kubeconfig(
        layout.name, {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": authority}, user
    )


def _kubeconfig(name: str, server: dict[str, str], user: dict[str, str]) -> str:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": server}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return json.dumps(content, indent=2) + "\n"


def _inline(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
