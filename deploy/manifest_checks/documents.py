"""Reads the documents of the manifests, and looks up what they name."""

import yaml

WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"}
CLUSTER_WIDE = {"Namespace", "PersistentVolume", "StorageClass", "ClusterRole", "ClusterRoleBinding"}
# The images whose containers are podgate's own.
GATEWAY, INIT = "podgate", "podgate-init"


class UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, as the API server does and PyYAML does not."""


def mapping_with_unique_keys(loader, node):
    seen = set()
    for key, _ in node.value:
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
        seen.add(key.value)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping_with_unique_keys)


def at(value, *path):
    """What lies at a path; an empty mapping where it ends early."""
    for step in path:
        value = (value or {}).get(step)
    return {} if value is None else value


def is_text(content, *path):
    for step in path:
        content = content.get(step) if isinstance(content, dict) else None
    return isinstance(content, str) and content != ""


class Document:
    """One document of a manifest."""

    def __init__(self, content, file):
        self.content, self.file = content, file
        self.kind, self.name = content.get("kind"), at(content, "metadata", "name")
        self.namespace = None if self.kind in CLUSTER_WIDE else at(content, "metadata", "namespace") or "default"
        self.key = (self.kind, self.namespace, self.name)

    def __str__(self):
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.file.name}: {self.kind} {where}"

    def at(self, *path):
        return at(self.content, *path)

    @property
    def pod(self):
        """The pod's spec, of a pod or a workload."""
        return self.at("spec") if self.kind == "Pod" else self.at("spec", "template", "spec")

    @property
    def pod_labels(self):
        return at(self.at("metadata") if self.kind == "Pod" else self.at("spec", "template", "metadata"), "labels")

    @property
    def has_pod(self):
        return self.kind in WORKLOADS or self.kind == "Pod"

    @property
    def containers(self):
        return [*at(self.pod, "initContainers"), *at(self.pod, "containers"), *at(self.pod, "ephemeralContainers")]

    @property
    def ports(self):
        """The pod's ports by name and by number."""
        ports = [port for container in self.containers for port in at(container, "ports")]
        return {port.get("name") for port in ports} - {None} | {port["containerPort"] for port in ports}


class World:
    """All documents, to look up what they name."""

    def __init__(self, documents):
        self.documents = documents
        self.by_key = {document.key: document for document in documents}

    def find(self, kind, namespace, name):
        return self.by_key.get((kind, namespace, name))

    def pods(self, namespace, labels):
        """The workloads whose pods carry these labels."""
        return [
            document
            for document in self.documents
            if document.has_pod
            and document.namespace == namespace
            and labels.items() <= dict(document.pod_labels).items()
        ]


def load(directory, outcome):
    documents = []
    for file in sorted([*directory.glob("*.yaml"), *directory.glob("*.yml")]):
        try:
            contents = [
                content for content in yaml.load_all(file.read_text("utf-8"), UniqueKeyLoader) if content is not None
            ]
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            outcome.record(file.name, "yaml", [" ".join(str(error).split())])
            continue
        shapeless = [
            f"document {number}: apiVersion, kind and metadata.name have to be there, as strings"
            for number, content in enumerate(contents, start=1)
            if not all(is_text(content, *path) for path in (["apiVersion"], ["kind"], ["metadata", "name"]))
        ]
        outcome.record(file.name, "yaml", shapeless if contents else ["holds no document"])
        if not shapeless:
            documents += [Document(content, file) for content in contents]
    return documents


def image_title(container):
    """The image's name without registry, tag and digest."""
    return container["image"].split("@")[0].rsplit("/", 1)[-1].split(":")[0]


def volumes_of(document):
    """What can be mounted, by name."""
    volumes = {volume["name"]: volume for volume in at(document.pod, "volumes")}
    claims = {claim["metadata"]["name"]: {"claim": claim} for claim in document.at("spec", "volumeClaimTemplates")}
    return volumes | claims
