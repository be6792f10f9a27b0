"""`python -m e2e.demo`: from an MLflow model to scraped inference on a real cluster; safe to repeat."""

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console

from e2e import credit
from e2e.cluster.command import step, tell
from e2e.cluster.errors import ClusterError
from e2e.cluster.provider import choose_provider
from e2e.cluster.settings import Settings, read_settings
from e2e.cluster.tools import ALERTMANAGER, COREDNS, HELM, METRICS_SERVER, PROMETHEUS, Tools
from e2e.demo import monitoring, rollout, training
from e2e.demo.serving import CALL_SECONDS, input_name, predict, read_figures
from e2e.demo.trust import MISTAKE, Trust
from e2e.helm import IMAGES, RELEASE, Helm, image_values
from e2e.helm import NAMESPACE as OPERATOR_NAMESPACE
from e2e.images.archives import build, load
from e2e.images.base import name_base
from e2e.images.catalog import find_image
from e2e.kube import Kube, Object
from e2e.load import loading
from e2e.services import start

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "slipway-demo"
MLFLOW_URI = "http://mlflow.mlflow:5000"
SERVICE_PORT = 80
READY_SECONDS = 240.0
REQUESTS = 200
TOLERANCE = 1e-5
#: Share of rows that the broken version fails for.
BROKEN_SHARE = 0.1

#: CPU-minutes of what empty caches lack, as measured on one machine; minutes of the rest.
BUILD_MINUTES = {HELM: 3.5, COREDNS: 4.5, METRICS_SERVER: 3.0, PROMETHEUS: 5.0, ALERTMANAGER: 2.0}
KUBERNETES_MINUTES, IMAGES_MINUTES, WARM_MINUTES = 13.0, 5.0, 4.0

out = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run the demo; returns the exit code."""
    began = time.monotonic()
    try:
        run_demo(read_settings())
    except (ClusterError, httpx.HTTPError) as error:
        tell(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        tell("stopped; the same command goes on from here")
        return 130
    out.print(f"\nAll of it took {time.monotonic() - began:.0f} s.")
    out.print("demo: ok")
    return 0


def run_demo(settings: Settings) -> None:
    """Every step finds what an earlier run left and does only what is missing."""
    _say_how_long(settings)
    _title("A cluster, and the images on it")
    choose_provider(settings).up()
    # No audit here attacks a model: the image for that is not built, and the server's explains that.
    names = [short for short in IMAGES if short != "audit"]
    references = load(build(map(find_image, names), settings.cache), settings)

    _title("MLflow, Prometheus, Alertmanager and the operator")
    start(["mlflow", "prometheus", "alertmanager"], settings)
    kube = Kube.of(settings)
    kube.ensure_namespace(OPERATOR_NAMESPACE)
    with step(f"helm upgrade --install {RELEASE} charts/slipway"):
        images = {**references, "audit": references["server"]}
        values = image_values(images, mlflow={"trackingURI": MLFLOW_URI})
        Helm.of(settings).upgrade(RELEASE, OPERATOR_NAMESPACE, values)

    _title("A model, trained by scikit-learn and registered in MLflow")
    with step("training on scikit-learn's wine data"):
        trained = training.train()
    with (
        step(f"registering {training.NAME}@{training.ALIAS}"),
        kube.port_forward("service/mlflow", "mlflow", 5000) as url,
    ):
        registered = training.register(trained, url)
    what = "registered as" if registered.new else "is still"
    out.print(f"  accuracy {trained.accuracy:.3f} on held-out rows; {what} version {registered.version}")

    _title("One resource")
    quickstart = ROOT / "examples" / "quickstart.yaml"
    out.print(quickstart.read_text().rstrip(), style="cyan")
    kube.ensure_namespace(NAMESPACE)
    rollout.go_at_once(kube, NAMESPACE)
    Trust(kube, NAMESPACE).undo()
    kube.apply_file(quickstart, NAMESPACE)
    _wait_until_ready(kube, registered.version, references["server"])

    _title("A prediction, beside scikit-learn's own")
    _compare(kube, trained, registered.version)

    _title("What the cluster shows")
    out.print(kube.kubectl("get", "mdep,pods,hpa", f"--namespace={NAMESPACE}").rstrip())

    _title("What Prometheus has seen")
    with kube.port_forward("service/prometheus", "monitoring", 9090) as url, _client(url) as prometheus:
        figures = read_figures(prometheus, NAMESPACE, training.NAME, REQUESTS)
    out.print(f"  requests answered   {figures.answered:.0f}")
    out.print(f"  p99 latency         {figures.p99_seconds * 1000:.1f} ms in the server")
    out.print(f"  ready pods          {figures.ready_pods:.0f}")
    _roll_out(kube, trained, references["server"])
    _watch(kube, settings)
    _trust(kube)
    _say_what_next(settings)


def _roll_out(kube: Kube, trained: training.Trained, image: str) -> None:
    """A broken version, then a good one, each by nothing but the alias."""
    with ExitStack() as stack:
        url = stack.enter_context(kube.port_forward("service/mlflow", "mlflow", 5000))
        _title("A canary that is judged: from now on, new versions go by steps")
        rollout.go_by_steps(kube, NAMESPACE)
        plan = rollout.traffic(trained, NAMESPACE, _tensor(kube))
        requests = stack.enter_context(loading(kube, NAMESPACE, image, plan))
        requests.wait_for(500, 60)

        _title("A broken version is registered, and the alias moves to it")
        bad = rollout.register(rollout.broken(trained.onnx, trained.rows, BROKEN_SHARE), url)
        out.print(
            f"  version {bad} fails for one row in {1 / BROKEN_SHARE:.0f}; nobody does anything about it"
        )
        verdict = rollout.wait_for_rollback(kube, NAMESPACE, bad)
        out.print(f"  [bold]rolled back by itself[/bold] after {verdict.seconds:.0f} s: {verdict.words}")

        _title("A good version is registered, and the alias moves to it")
        good = rollout.register(rollout.renewed(trained.onnx), url)
        verdict = rollout.wait_for_promotion(kube, NAMESPACE, good)
        out.print(f"  [bold]version {good} took over[/bold] after {verdict.seconds:.0f} s: {verdict.words}")
        account = requests.stop()
        failed = account["failed"]
        out.print(f"  {account['sent']} requests meanwhile, {failed} failed: what the broken version got")
        if failed > account["sent"] * BROKEN_SHARE * 0.25:
            raise ClusterError(f"more failed than a broken canary can explain: {account['failures'][:3]}")


def _watch(kube: Kube, settings: Settings) -> None:
    """The applicants of another model change; nobody tells the cluster."""
    with ExitStack() as stack:
        _title("A second model, whose training data is known")
        url = stack.enter_context(kube.port_forward("service/mlflow", "mlflow", 5000))
        watch = monitoring.Watch(kube, NAMESPACE, stack)
        with step(f"registering {credit.NAME} with the profile of its data, and serving it"):
            version = watch.serve(url)
        out.print(f"  {credit.NAME} serves version {version}")
        with step(f"{monitoring.USUAL_ROWS} applicants like those it was trained on"):
            watch.ask(monitoring.USUAL_ROWS)
            feature, moved = watch.furthest()
        out.print(f"  {feature} moved most: PSI {moved:.3f} beyond noise, where 0.05 would be a warning")

        _title("Applicants become richer and more indebted")
        with step(f"{monitoring.SHIFTED_ROWS} of them, and what became of each"):
            labels = watch.ask(monitoring.SHIFTED_ROWS, shift=credit.SHIFT)
        with step("waiting for Prometheus and Alertmanager"):
            drift = watch.wait_for_drift()
        out.print(f"  [bold]an alert in Alertmanager[/bold] after {drift.seconds:.0f} s:")
        for summary in drift.summaries:
            out.print(f"    {summary}")
        out.print(f"  the operator's condition Drift is True: {watch.wait_for_verdict()}")
        found = watch.accuracy()
        interval = f"{found.low:.1%} to {found.high:.1%}"
        out.print(
            f"  {labels} labels came back; right for {found.share:.1%} of all so far, {interval} at 95%"
        )

        _title("A report, for those who ask")
        out.print(f"  {watch.report(settings.kubeconfig.parent / f'{credit.NAME}-report.html')}")


def _trust(kube: Kube) -> None:
    """Strangers are refused from now on, and so is a version that is wrong, before anybody meets it."""
    trust = Trust(kube, NAMESPACE)
    _title("A key for the shop, and from now on nobody is answered without one")
    with step(f"kubectl slipway key new {credit.NAME} shop, and spec.access"):
        key = trust.new_key()
        trust.close()
    shown = {"without a key": trust.code(None), "with a wrong one": trust.code("guessed")}
    shown["with the key"] = trust.code(key)
    out.print("  " + "   ".join(f"{words}: {code}" for words, code in shown.items()))
    if list(shown.values()) != [401, 401, 200]:
        raise ClusterError("that should have been 401, 401 and 200")

    _title("A version that says no to nearly everybody, and never fails a request")
    with step("an audit by 2,000 people who paid back or not, which the version that serves has to pass too"):
        trust.demand_audit()
    with kube.port_forward("service/mlflow", "mlflow", 5000) as url:
        wrong = credit.register(credit.NAME, url, MISTAKE)
    stopped = trust.release(wrong)
    out.print(
        f"  [bold]version {wrong} stopped at its audit[/bold] after {stopped.seconds:.0f} s: {stopped.words}"
    )
    out.print(f"  no pod of it was ever there; the model has {', '.join(stopped.deployments)} alone")
    if len(stopped.deployments) != 1:
        raise ClusterError("a version that failed its audit should have no Deployment")


def _wait_until_ready(kube: Kube, version: str, server_image: str) -> None:
    """Tell each change of a condition until this image serves this version of the model, and all is Ready."""
    told: dict[str, str] = {}
    end = time.monotonic() + READY_SECONDS
    with step(f"waiting until {training.NAME} is Ready with version {version}"):
        while time.monotonic() < end:
            resource = kube.get("modeldeployment", training.NAME, NAMESPACE) or {}
            for condition in resource.get("status", {}).get("conditions", []):
                now = f"{condition['status']} {condition['reason']}: {condition['message']}"
                if told.get(condition["type"]) != now:
                    told[condition["type"]] = now
                    tell(f"    {condition['type']:14} {now}")
            if _is_ready(resource, version) and _serving_image(kube, resource) == server_image:
                return
            time.sleep(0.5)
    seen = kube.kubectl("describe", "mdep", training.NAME, f"--namespace={NAMESPACE}")
    raise ClusterError(f"{training.NAME} is not Ready after {READY_SECONDS:.0f} s:\n{seen}")


def _is_ready(resource: Object, version: str) -> bool:
    status = resource.get("status", {})
    ready = [found for found in status.get("conditions", []) if found["type"] == "Ready"]
    return (
        status.get("stable", {}).get("version") == version
        and bool(ready)
        and ready[0]["status"] == "True"
        and ready[0]["observedGeneration"] == resource["metadata"]["generation"]
    )


def _serving_image(kube: Kube, resource: Object) -> str:
    """The image of the stable revision's pods; an upgrade of the operator may be about to change it."""
    name = f"{training.NAME}-{resource['status']['stable']['revision']}"
    deployment = kube.get("deployment", name, NAMESPACE)
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"]) if deployment else ""


def _compare(kube: Kube, trained: training.Trained, version: str) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(kube.port_forward(f"service/{training.NAME}", NAMESPACE, SERVICE_PORT))
        client = stack.enter_context(_client(url))
        tensor = input_name(client, training.NAME)
        answer = predict(client, training.NAME, tensor, trained.rows)
        served = answer.outputs["probabilities"]
        difference = float(np.abs(served - trained.probabilities).max())
        for name, one, other in zip(trained.classes, served[0], trained.probabilities[0], strict=True):
            out.print(f"  {name}   served {one:.6f}   scikit-learn {other:.6f}")
        out.print(
            f"  largest difference over {len(served)} rows: {difference:.1e}, from version {answer.version}"
        )
        if difference > TOLERANCE:
            raise ClusterError(f"the served model differs from scikit-learn's by {difference:.1e}")
        if answer.version != version:
            raise ClusterError(f"version {answer.version} answered, not {version}")
        with step(f"{REQUESTS} requests more, so that there is something to see"):
            for number in range(REQUESTS):
                start_row = number % (len(trained.rows) - 4)
                predict(client, training.NAME, tensor, trained.rows[start_row : start_row + 4])


def _tensor(kube: Kube) -> str:
    with (
        kube.port_forward(f"service/{training.NAME}", NAMESPACE, SERVICE_PORT) as url,
        _client(url) as client,
    ):
        return input_name(client, training.NAME)


def _client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=CALL_SECONDS, trust_env=False)


def _title(text: str) -> None:
    out.print(f"\n[bold]{text}[/bold]")


def _say_how_long(settings: Settings) -> None:
    tools = Tools(settings.cache)
    missing = {program.name: minutes for program, minutes in BUILD_MINUTES.items() if not tools.has(program)}
    if not tools.has_kubernetes():
        missing["kubernetes"] = KUBERNETES_MINUTES
    if not name_base(settings.cache / "images").run.exists():
        missing["images"] = IMAGES_MINUTES
    if not missing:
        out.print(f"This takes about {WARM_MINUTES:.0f} minutes.")
        return
    cores = os.cpu_count() or 1
    minutes = WARM_MINUTES + sum(missing.values()) / cores
    built = f"{', '.join(missing)} are built first ({sum(missing.values()):.0f} CPU-minutes)"
    out.print(f"This takes about {minutes:.0f} minutes on {cores} quiet cores, once: {built}.")


def _say_what_next(settings: Settings) -> None:
    where = settings.kubeconfig.relative_to(ROOT)
    _title("What to try next")
    out.print(
        f"""  eval "$(.venv/bin/python -m e2e.cluster env)"   kubectl and helm for this cluster ({where})
  kubectl config set-context --current --namespace={NAMESPACE}
  kubectl scale mdep/wine --replicas=3           and watch: kubectl get mdep,pods --watch
  kubectl delete deployment --all                they come back
  kubectl patch mdep wine --type=merge -p '{{"spec":{{"model":{{"uri":"mlflow://wine@nobody"}}}}}}'
  kubectl describe mdep wine                     says why and what to do, and the old version goes on serving
  kubectl port-forward -n mlflow service/mlflow 5000           MLflow's own pages
  kubectl port-forward -n monitoring service/prometheus 9090   rules, alerts and queries
  kubectl slipway key list credit                who may ask; and: kubectl slipway history credit
  examples/README.md                             s3, gs, az, oci, dvc, https, volumes; servers of your own
  make cluster-down                              removes all of it"""
    )


if __name__ == "__main__":
    sys.exit(main())
