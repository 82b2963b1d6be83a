"""Whether what a document names exists: images, ports, volumes, accounts, pods and namespaces."""

import pathlib
import re

from manifest_checks.documents import GATEWAY, WORKLOADS, at, image_title, volumes_of

DEPLOY = pathlib.Path(__file__).resolve().parent.parent
PROBES = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}


class Image:
    """What a Containerfile says about the image that build.sh makes of it."""

    def __init__(self, text):
        self.title = re.search(r'image\.title="([^"]+)"', text)[1]
        self.ports = {
            int(port) for line in re.findall(r"^EXPOSE (.*)$", text, re.M) for port in re.findall(r"(\d+)/tcp", line)
        }
        user = re.search(r"^USER (\S+)$", text, re.M)
        self.user = user[1] if user else ""


def own_images():
    images = [Image(file.read_text("utf-8")) for file in sorted((DEPLOY / "images").glob("*.Containerfile"))]
    return {image.title: image for image in images}


def workspace_version():
    text = (DEPLOY.parent / "Cargo.toml").read_text("utf-8")
    return re.search(r'^\[workspace\.package\][^\[]*^version = "([^"]+)"', text, re.M)[1]


def image_faults(document, _world):
    images, version = own_images(), workspace_version()
    for container in document.containers:
        name, image = container["name"], container.get("image", "")
        tag = re.search(r":([^:/@]+)(@sha256:[0-9a-f]{64})?$", image)
        if not tag or tag[1] == "latest":
            yield f"container {name}: image {image!r} has no fixed tag"
            continue
        title = image_title(container)
        if title not in images:
            if title.startswith("podgate"):
                yield f"container {name}: no Containerfile builds {title!r}"
            continue
        if tag[1] != version:
            yield f"container {name}: image {image!r} is not of the workspace's version {version}"
        if not re.fullmatch(r"[1-9]\d*(:\d+)?", images[title].user):
            yield f"container {name}: the image's USER {images[title].user!r} is no number other than root's"
        for port in at(container, "ports"):
            if port["containerPort"] not in images[title].ports:
                yield f"container {name}: the image does not EXPOSE {port['containerPort']}"


def probe_faults(document, _world):
    for container in document.containers:
        ports = {port["containerPort"]: port["containerPort"] for port in at(container, "ports")}
        ports |= {port["name"]: port["containerPort"] for port in at(container, "ports") if "name" in port}
        is_gateway = image_title(container) == GATEWAY
        for probe, path in PROBES.items():
            where = f"container {container['name']}: {probe}"
            if probe not in container:
                if is_gateway:
                    yield f"{where} is missing"
                continue
            http = at(container, probe, "httpGet")
            if is_gateway and at(http, "path") != path:
                yield f"{where} asks {at(http, 'path') or 'nothing'}, expected {path}"
            if http and at(http, "port") not in ports:
                yield f"{where}: the container has no port {at(http, 'port')!r}"
            elif is_gateway and ports.get(at(http, "port")) != ports.get("http"):
                yield f"{where}: asks port {at(http, 'port')!r}, expected http"


def volume_faults(document, world):
    volumes, mounted = volumes_of(document), set()
    for container in document.containers:
        for mount in at(container, "volumeMounts"):
            mounted.add(mount["name"])
            if mount["name"] not in volumes:
                yield f"container {container['name']}: mounts {mount['name']!r}, which is no volume of the pod"
    for name in sorted(volumes.keys() - mounted):
        yield f"volume {name!r} is mounted nowhere"
    sources = [source for volume in volumes.values() for source in (volume, *at(volume, "projected", "sources"))]
    environment = [variable for container in document.containers for variable in at(container, "env")]
    everywhere = [source for container in document.containers for source in at(container, "envFrom")]
    references = [
        *(("ConfigMap", at(source, "configMap", "name"), at(source, "configMap", "items")) for source in sources),
        *(
            (
                "Secret",
                at(source, "secret", "secretName") or at(source, "secret", "name"),
                at(source, "secret", "items"),
            )
            for source in sources
        ),
        *(("PersistentVolumeClaim", at(source, "persistentVolumeClaim", "claimName"), []) for source in sources),
        *(
            (
                "ConfigMap",
                at(variable, "valueFrom", "configMapKeyRef", "name"),
                [at(variable, "valueFrom", "configMapKeyRef")],
            )
            for variable in environment
        ),
        *(
            ("Secret", at(variable, "valueFrom", "secretKeyRef", "name"), [at(variable, "valueFrom", "secretKeyRef")])
            for variable in environment
        ),
        *(("ConfigMap", at(source, "configMapRef", "name"), []) for source in everywhere),
        *(("Secret", at(source, "secretRef", "name"), []) for source in everywhere),
    ]
    for kind, name, items in references:
        if not name:
            continue
        target = world.find(kind, document.namespace, name)
        if target is None:
            yield f"no {kind} {document.namespace}/{name}"
            continue
        keys = {*target.at("data"), *target.at("binaryData"), *target.at("stringData")}
        for item in items:
            if item["key"] not in keys:
                yield f"{kind} {name} has no key {item['key']!r}"


def account_faults(document, world):
    account = at(document.pod, "serviceAccountName")
    if not account:
        yield "names no serviceAccountName"
    elif not world.find("ServiceAccount", document.namespace, account):
        yield f"no ServiceAccount {document.namespace}/{account}"


def selector_faults(document, world):
    selector = document.at("spec", "selector", "matchLabels")
    if document.kind in WORKLOADS - {"Job"} and not (
        selector and selector.items() <= dict(document.pod_labels).items()
    ):
        yield f"its selector {dict(selector)} does not match its own pods {dict(document.pod_labels)}"
    if document.kind == "StatefulSet":
        service = world.find("Service", document.namespace, document.at("spec", "serviceName"))
        if service is None or service.at("spec", "clusterIP") != "None":
            yield f"serviceName {document.at('spec', 'serviceName')!r} is no headless Service"


def service_faults(document, world):
    selector = document.at("spec", "selector")
    pods = world.pods(document.namespace, selector) if selector else []
    if not pods:
        yield f"its selector {dict(selector)} matches no pod"
    for pod in pods:
        for port in document.at("spec", "ports"):
            target = port.get("targetPort", port["port"])
            if target not in pod.ports:
                yield f"port {port['port']}: {pod.kind} {pod.name} has no port {target!r}"


def policy_faults(document, world):
    pods = world.pods(document.namespace, document.at("spec", "podSelector", "matchLabels"))
    if not pods:
        yield "its podSelector matches no pod"
    for rule in document.at("spec", "ingress"):
        for port in at(rule, "ports"):
            if any(port.get("port") not in pod.ports for pod in pods):
                yield f"ingress: its pods have no port {port.get('port')!r}"
        if not at(rule, "from"):
            yield "ingress: a rule without `from` lets everyone in"
        for peer in at(rule, "from"):
            labels = at(peer, "namespaceSelector", "matchLabels")
            if not labels:
                yield "ingress: a peer names no namespace by its labels"
            elif labels.keys() != {"kubernetes.io/metadata.name"} and not any(
                other.kind == "Namespace" and labels.items() <= dict(other.at("metadata", "labels")).items()
                for other in world.documents
            ):
                yield f"ingress: no Namespace here is labelled {labels}"


def namespace_faults(document, world):
    home = world.find("Namespace", None, document.namespace)
    if home is None:
        yield f"no Namespace {document.namespace}"
    elif document.has_pod and home.at("metadata", "labels", "pod-security.kubernetes.io/enforce") != "restricted":
        yield f"Namespace {document.namespace} does not enforce restricted pod security"
