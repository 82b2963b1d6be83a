"""Whether the gateway's embedded configuration and profiles fit the manifests around them, and its clients fit it."""

import pathlib
import re
from urllib.parse import urlsplit

import yaml

from manifest_checks.documents import GATEWAY, INIT, UniqueKeyLoader, at, image_title, volumes_of


def duration_s(text):
    """A duration in seconds; none for what is no duration."""
    parts = re.findall(r"(\d+)(ms|[smhd])", str(text))
    if not parts or "".join(map("".join, parts)) != str(text):
        return None
    return sum(int(count) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit] for count, unit in parts)


def is_loopback(address):
    return address.startswith(("127.", "[::1]"))


def read_mapping(text):
    """A YAML mapping, and what is wrong with it."""
    try:
        content = yaml.load(text, UniqueKeyLoader)
    except yaml.YAMLError as error:
        return {}, " ".join(str(error).split())
    return (content, None) if isinstance(content, dict) else ({}, "is no mapping, or empty")


class Gateway:
    """A gateway's container with what is mounted into it."""

    def __init__(self, document, container, world):
        self.document, self.container, self.world = document, container, world
        volumes = volumes_of(document)
        self.mounts = {mount["mountPath"]: (mount, volumes[mount["name"]]) for mount in at(container, "volumeMounts")}
        arguments = at(container, "args") or []
        self.config_path = arguments[arguments.index("--config") + 1] if "--config" in arguments[:-1] else None
        directory, _, self.config_key = (self.config_path or "").rpartition("/")
        self.config_map = self.config_map_at(directory)
        self.config_text = self.config_map.at("data", self.config_key) or "" if self.config_map else ""
        self.config, self.config_fault = read_mapping(self.config_text)
        self.profiles = self.config_map_at(self.config.get("profiles"))

    def config_map_at(self, path):
        """The ConfigMap that is mounted, whole, at this path."""
        mount, volume = self.mounts.get(path, ({}, {}))
        name = at(volume, "configMap", "name")
        return self.world.find("ConfigMap", self.document.namespace, name) if name and "subPath" not in mount else None


def gateways(world):
    return [
        Gateway(document, container, world)
        for document in world.documents
        if document.has_pod
        for container in document.containers
        if image_title(container) == GATEWAY
    ]


def gateway_faults(gateway):
    if gateway.config_fault:
        yield f"--config {gateway.config_path!r}, in a mounted ConfigMap: {gateway.config_fault}"
        return
    config, container_ports = gateway.config, {}
    for port in at(gateway.container, "ports"):
        container_ports[port.get("name")] = port["containerPort"]
    for key, port_name in (("listen", "grpc"), ("http", "http")):
        address = str(config.get(key, ""))
        if is_loopback(address) or ":" not in address:
            yield f"{key} {address!r} cannot be reached from outside the pod"
        elif address.rsplit(":", 1)[1] != str(container_ports.get(port_name)):
            yield f"{key} {address!r} is not the container's port {port_name!r} ({container_ports.get(port_name)})"
    if config.get("insecure") is not True:
        yield "listens beyond loopback without authentication, and does not say `insecure: true`"
    policies = [
        other
        for other in gateway.world.documents
        if other.kind == "NetworkPolicy"
        and gateway.document in gateway.world.pods(other.namespace, other.at("spec", "podSelector", "matchLabels"))
    ]
    if not policies:
        yield "no NetworkPolicy limits who may ask it"
    if gateway.profiles is None:
        yield f"profiles {config.get('profiles')!r} is not where a ConfigMap is mounted as a directory"
    if not any(
        ("claim" in volume or "persistentVolumeClaim" in volume) and not mount.get("readOnly")
        for path, (mount, volume) in gateway.mounts.items()
        if pathlib.PurePosixPath(str(config.get("store"))).is_relative_to(path)
    ):
        yield f"store {config.get('store')!r} is on no writable, persistent volume"
    drain_s = duration_s(config.get("drainTimeout", "20s"))
    pause_s = at(gateway.container, "lifecycle", "preStop", "sleep", "seconds") or 0
    grace_s = at(gateway.document.pod, "terminationGracePeriodSeconds") or 30
    if drain_s is None:
        yield f"drainTimeout {config['drainTimeout']!r} is no duration"
    elif grace_s <= pause_s + drain_s:
        yield f"terminationGracePeriodSeconds {grace_s} is not longer than draining takes ({pause_s + drain_s:g} s)"
    if gateway.document.at("spec", "replicas") != 1:
        yield "replicas is not 1: the store has one writer"


def profile_faults(config_map):
    for key, text in config_map.at("data").items():
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.ya?ml", key):
            yield f"{key!r} is no name of a profile file"
        try:
            contents = list(yaml.load_all(text, UniqueKeyLoader))
        except yaml.YAMLError as error:
            yield f"{key}: {' '.join(str(error).split())}"
            continue
        for content in contents:
            if at(content, "apiVersion") != "podgate.io/v1" or at(content, "kind") not in ("AppProfile", "CommonPorts"):
                yield f"{key}: a document is neither AppProfile nor CommonPorts of podgate.io/v1"


# How long podgate-init waits for a grant unless told otherwise.
INIT_WAIT_S = 540


def sidecar_faults(container):
    """A native sidecar gates what starts after it, and gives its lease back when the others have ended."""
    if at(container, "args")[:1] != ["sidecar"]:
        yield f"restartPolicy Always, but args {at(container, 'args') or []} do not begin with sidecar"
    command = at(container, "startupProbe", "exec", "command")
    if command != ["/podgate-init", "ready"]:
        yield f"its startupProbe runs {command or 'nothing'}, expected /podgate-init ready"
    patience_s = (at(container, "startupProbe", "periodSeconds") or 10) * (
        at(container, "startupProbe", "failureThreshold") or 3
    )
    environment = {variable["name"]: variable.get("value") for variable in at(container, "env")}
    wait_s = duration_s(environment.get("PODGATE_WAIT", f"{INIT_WAIT_S}s"))
    if wait_s is None or patience_s <= wait_s:
        yield f"its startupProbe gives up after {patience_s} s, and it waits for a grant for {wait_s} s"
    if "preStop" in at(container, "lifecycle"):
        yield "has a preStop hook, which runs while the other containers still drain"


def client_faults(document, world):
    """An init container asks a Service that exists, as an app whose profile lists its service account."""
    profiles = [
        content
        for gateway in gateways(world)
        if gateway.profiles
        for text in gateway.profiles.at("data").values()
        for content in yaml.safe_load_all(text)
    ]
    for container in document.containers:
        if image_title(container) != INIT:
            continue
        where = f"container {container['name']}"
        if container.get("restartPolicy") == "Always":
            yield from (f"{where}: {fault}" for fault in sidecar_faults(container))
        environment = {variable["name"]: variable.get("value") for variable in at(container, "env")}
        endpoint = urlsplit(environment.get("PODGATE_ENDPOINT") or "")
        name, namespace, *rest = [*(endpoint.hostname or "").split("."), "", ""]
        service = world.find("Service", namespace, name)
        if (
            service is None
            or rest[:1] != ["svc"]
            or endpoint.port not in {port["port"] for port in service.at("spec", "ports")}
        ):
            yield f"{where}: PODGATE_ENDPOINT {environment.get('PODGATE_ENDPOINT')!r} is no port of a Service"
        app, account = environment.get("PODGATE_APP"), at(document.pod, "serviceAccountName")
        accounts = [
            at(subject, "serviceAccount")
            for profile in profiles
            if at(profile, "kind") == "AppProfile" and at(profile, "metadata", "name") == app
            for subject in at(profile, "spec", "subjects")
        ]
        if not any(
            (at(subject, "namespace"), at(subject, "name")) == (document.namespace, account) for subject in accounts
        ):
            yield f"{where}: no profile of app {app!r} lists the service account {document.namespace}/{account}"
        if not any(
            at(source, "serviceAccountToken", "audience") == "podgate"
            for volume in at(document.pod, "volumes")
            for source in at(volume, "projected", "sources")
        ):
            yield f"{where}: no projected token of audience podgate"
