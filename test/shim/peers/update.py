#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""update.py ADDRESS NAMESPACE ID JSON: new resources for a running task, as ctr cannot give them.

JSON is the linux.resources of an OCI spec. An error is printed as its text, the exit code is 1.
"""
import os
import sys

import grpc

LIMIT = 60 * float(os.environ.get("TIME_FACTOR") or 1)
RESOURCES = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"


def field(number, data):
    """A string, a byte string or a message, encoded."""
    size, head = len(data), bytearray([number << 3 | 2])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes(head) + bytes([size]) + data


def main(address, namespace, task, resources):
    request = field(1, task.encode()) + \
        field(2, field(1, RESOURCES.encode()) + field(2, resources.encode()))
    # grpc-go refuses the authority that grpc makes of a socket's path.
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel("unix://" + address, options=options) as channel:
        update = channel.unary_unary("/containerd.services.tasks.v1.Tasks/Update")
        try:
            update(request, timeout=LIMIT, metadata=[("containerd-namespace", namespace)])
        except grpc.RpcError as error:
            sys.exit(error.details())


main(*sys.argv[1:])
