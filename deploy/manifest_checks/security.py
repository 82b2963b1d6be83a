"""The schema, and the restricted pod security standard."""

import kubernetes_validate

from manifest_checks.documents import at

# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
VOLUME_KINDS = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def schema_faults(document, version):
    try:
        kubernetes_validate.validate(document.content, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path)) or 'document'}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield error.message


def security_faults(document):
    """The restricted pod security standard, and beyond it a read-only root, a numeric user and stated resources."""
    pod = document.pod
    pod_context = at(pod, "securityContext")
    for flag in ("hostNetwork", "hostPID", "hostIPC"):
        if at(pod, flag):
            yield f"{flag} is set"
    if at(pod_context, "sysctls"):
        yield "sets sysctls"
    for volume in at(pod, "volumes"):
        for kind in volume.keys() - {"name"} - VOLUME_KINDS:
            yield f"volume {volume['name']}: {kind} is not allowed"
    if at(pod, "enableServiceLinks") is not False:
        yield "enableServiceLinks has to be false: a Service named podgate would set PODGATE_* variables"
    if at(pod, "automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken has to be false"
    for container in document.containers:
        for fault in container_faults(container, pod_context):
            yield f"container {container['name']}: {fault}"


def container_faults(container, pod_context):
    own = at(container, "securityContext")

    def effective(*path):
        found = at(own, *path)
        return at(pod_context, *path) if found == {} else found

    if effective("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if not (isinstance(effective("runAsUser"), int) and effective("runAsUser") > 0):
        yield "runAsUser is not the number of a user other than root"
    if effective("seccompProfile", "type") != "RuntimeDefault":
        yield "seccompProfile is not RuntimeDefault"
    if at(own, "allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if at(own, "readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem is not true"
    if at(own, "capabilities", "drop") != ["ALL"]:
        yield "capabilities.drop is not [ALL]"
    if at(own, "capabilities", "add"):
        yield "adds capabilities"
    if at(own, "privileged"):
        yield "is privileged"
    if at(own, "procMount") not in ({}, "Default"):
        yield "procMount is not Default"
    if any(port.get("hostPort") for port in at(container, "ports")):
        yield "takes a hostPort"
    for kind, what in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
        if not at(container, "resources", kind, what):
            yield f"resources.{kind}.{what} is missing"
