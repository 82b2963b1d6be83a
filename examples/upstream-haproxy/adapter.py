"""Keeps an HAProxy map in step with podgate: an address is in it while a grant lets it reach what the proxy guards.

The map is all the state there is (`10.8.3.17 000000000000002a:1`). An adapter that starts again reads it back. An
HAProxy that starts again has lost it, which is another epoch: podgate then applies every living grant once more.
"""
import argparse, socket, sys, threading, time
from concurrent import futures
from fnmatch import fnmatchcase
from pathlib import Path

import grpc, grpc_tools

sys.path += [str(Path(__file__).resolve().parents[2] / "proto"), str(Path(grpc_tools.__file__).parent / "_proto")]
messages, services = grpc.protos_and_services("podgate/upstream/v1/acl_backend_service.proto")


class Adapter(services.AclBackendServiceServicer):
    def __init__(self, flags):
        self.flags, self.lock, self.epoch, self.is_doubtful = flags, threading.Lock(), "", True
        self.held = {}  # address → {grant id: generation}, as the map has it
        self.revoked = {}  # grant id → (generation, when), oldest first: lest a late Apply brings one back
        self.guards = [(host, int(port)) for host, port in (guard.rsplit(":", 1) for guard in flags.guards)]

    def haproxy(self, command):
        with socket.socket(socket.AF_UNIX) as runtime:
            runtime.settimeout(1)
            runtime.connect(self.flags.socket)
            runtime.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: runtime.recv(65536), b"")).decode().strip()

    def read_back(self):
        info = dict(line.split(": ", 1) for line in self.haproxy("show info").splitlines() if ": " in line)
        epoch = f"{info['Pid']} of {info['Start_time_sec']}"
        if epoch != self.epoch or self.is_doubtful:
            self.held = {}
            for _, address, grants in map(str.split, self.haproxy(f"show map {self.flags.map}").splitlines()):
                pairs = (grant.split(":") for grant in grants.split(","))
                self.held[address] = {grant_id: int(generation) for grant_id, generation in pairs}
            self.epoch, self.is_doubtful = epoch, False

    def hold(self, address, grants):
        if grants == self.held.get(address, {}):
            return ""
        verb = "del" if not grants else "set" if address in self.held else "add"
        value = ",".join(f"{grant_id}:{generation}" for grant_id, generation in grants.items())
        error = self.haproxy(f"{verb} map {self.flags.map} {address} {value}")
        self.is_doubtful |= error != ""
        self.held.pop(address, None)
        if grants:
            self.held[address] = grants
        return error

    def apply(self, grant):
        grants = dict(self.held.get(grant.address, {}))
        known = max(grants.pop(grant.grant_id, 0), self.revoked.get(grant.grant_id, (0, 0))[0])
        over_tcp = [to for to in grant.destinations if to.protocol == messages.PROTOCOL_TCP]
        if any(fnmatchcase(host, to.host) and to.port <= port <= to.last_port
               for to in over_tcp for host, port in self.guards):
            grants[grant.grant_id] = grant.generation
        return self.hold(grant.address, grants) if grant.generation > known else ""

    def revoke(self, grant):
        earlier, now = self.revoked.pop(grant.grant_id, (0, 0))[0], time.monotonic()
        self.revoked[grant.grant_id] = (max(earlier, grant.generation), now)
        while next(iter(self.revoked.values()))[1] < now - 3600:
            del self.revoked[next(iter(self.revoked))]
        held = self.held.get(grant.address, {}).items()
        kept = {one: generation for one, generation in held if one != grant.grant_id or generation > grant.generation}
        return self.hold(grant.address, kept)

    def each(self, do, request, response, context):
        with self.lock:
            try:
                self.read_back()
                for grant in request.grants:
                    if error := do(grant):
                        response.failures.add(grant_id=grant.grant_id, reason=f"HAProxy says: {error}")
            except OSError as error:
                self.is_doubtful = True
                context.abort(grpc.StatusCode.UNAVAILABLE, f"HAProxy cannot be reached: {error}")
            response.epoch = self.epoch
        return response

    def Apply(self, request, context):
        return self.each(self.apply, request, messages.ApplyResponse(), context)

    def Revoke(self, request, context):
        return self.each(self.revoke, request, messages.RevokeResponse(), context)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for flag, count in {"--guards": "+", "--socket": None, "--map": None, "--listen": None}.items():
    parser.add_argument(flag, nargs=count, required=True)
adapter = Adapter(parser.parse_args())
server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=[("grpc.so_reuseport", 0)])
services.add_AclBackendServiceServicer_to_server(adapter, server)
print("listening on port", server.add_insecure_port(adapter.flags.listen), flush=True)
server.start()
server.wait_for_termination()
