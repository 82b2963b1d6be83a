#!/usr/bin/env python3
"""Checks the manifests: Kubernetes' own schema, restricted pod security, and that whatever they name exists.

Needs PyPI's kubernetes-validate. Ends with 0 if everything passed, 1 if something failed, 2 if it could not check.
"""

import argparse
import pathlib
import sys

sys.dont_write_bytecode = True
DEPLOY = pathlib.Path(__file__).resolve().parent


def fail(why):
    print(f"check_manifests.py: {why}", file=sys.stderr)
    sys.exit(2)


try:
    import kubernetes_validate

    from manifest_checks.documents import INIT, World, image_title, load
    from manifest_checks.gateway import client_faults, gateway_faults, gateways, profile_faults
    from manifest_checks.references import (
        account_faults,
        image_faults,
        namespace_faults,
        policy_faults,
        probe_faults,
        selector_faults,
        service_faults,
        volume_faults,
    )
    from manifest_checks.security import schema_faults, security_faults
except ImportError as missing:
    fail(f"{missing}; install it with: pip install kubernetes-validate")


class Outcome:
    """Counts and prints what passed and what failed."""

    def __init__(self):
        self.passed = self.failed = 0
        self.failed_checks = set()

    def record(self, subject, check, faults):
        faults = list(faults)
        if not faults:
            self.passed += 1
            return
        self.failed += 1
        self.failed_checks.add(check)
        for fault in faults:
            print(f"FAIL {subject}: {check}: {fault}")


def check_documents(world, outcome):
    for document in world.documents:
        if document.has_pod:
            outcome.record(document, "pod security", security_faults(document))
        if document.namespace:
            outcome.record(document, "namespace", namespace_faults(document, world))
        if document.kind == "Service":
            outcome.record(document, "service", service_faults(document, world))
        if document.kind == "NetworkPolicy":
            outcome.record(document, "network policy", policy_faults(document, world))
        if document.has_pod:
            for check, faults in (
                ("image", image_faults),
                ("probes", probe_faults),
                ("volumes", volume_faults),
                ("service account", account_faults),
                ("selector", selector_faults),
            ):
                outcome.record(document, check, faults(document, world))


def check_podgate(world, outcome):
    found = gateways(world)
    outcome.record("manifests", "gateway", [] if found else ["no container runs the gateway's image"])
    for gateway in found:
        outcome.record(gateway.document, "configuration", gateway_faults(gateway))
        if gateway.profiles:
            outcome.record(gateway.profiles, "profiles", profile_faults(gateway.profiles))
    for document in world.documents:
        asks = document.has_pod and any(image_title(container) == INIT for container in document.containers)
        if asks and "profiles" not in outcome.failed_checks:
            outcome.record(document, "client", client_faults(document, world))
    return found


def extract(found, directory, config_file):
    """Writes out what the manifests embed, so that podgate itself can judge it."""
    if directory:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            fail(f"{directory} is not empty")
        for gateway in found:
            for key, text in gateway.profiles.at("data").items():
                (directory / key).write_text(text, "utf-8")
    if config_file:
        for gateway in found:
            config_file.write_text(gateway.config_text, "utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--manifests", type=pathlib.Path, default=DEPLOY / "manifests", metavar="DIR", help="what to check"
    )
    parser.add_argument(
        "--extract", type=pathlib.Path, metavar="DIR", help="write the embedded profiles to this empty directory"
    )
    parser.add_argument(
        "--extract-config", type=pathlib.Path, metavar="FILE", help="write the embedded configuration to this file"
    )
    options = parser.parse_args()

    version = kubernetes_validate.latest_version()
    print(f"schema: Kubernetes {version}, strict (kubernetes-validate {kubernetes_validate.__version__})")
    outcome = Outcome()
    documents = load(options.manifests, outcome)
    outcome.record("manifests", "documents", [] if documents else [f"{options.manifests} holds none"])
    twice = {str(one) for one in documents for other in documents if one is not other and one.key == other.key}
    outcome.record("manifests", "names", [f"{name} is there twice" for name in sorted(twice)])
    for document in documents:
        outcome.record(document, "schema", schema_faults(document, version))
    # Each step looks into what the one before has found in order; where that failed, it would only guess.
    world = World(documents)
    if outcome.failed == 0:
        check_documents(world, outcome)
    if outcome.failed_checks <= {"pod security", "image", "probes"}:
        found = check_podgate(world, outcome)
    else:
        found = []
        print("podgate's own settings were not checked: what they build on failed")
    if outcome.failed == 0:
        extract(found, options.extract, options.extract_config)
    print(f"{outcome.passed} passed, {outcome.failed} failed")
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
