#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""cri.py ADDRESS call METHOD JSON: one call of the CRI; the answer is printed as JSON.
cri.py ADDRESS exec ID TIMEOUT WORD...: ExecSync; its output and exit code become those of cri.py.
cri.py ADDRESS stream METHOD JSON: Exec or Attach, over the websocket they name. What comes on stdin
is typed, what the process writes is printed, its exit code becomes that of cri.py.

The messages are those of cri.proto beside this file; the directory CRI_PB holds what protoc made
of it. An error is printed as its code and text, the exit code is then 125.
"""
import base64
import json
import os
import socket
import struct
import sys
import threading
import urllib.parse

sys.path.insert(0, os.environ["CRI_PB"])
import cri_pb2  # noqa: E402
import grpc  # noqa: E402
from google.protobuf import json_format  # noqa: E402

LIMIT = 60
EMPTY = {"StopPodSandbox", "RemovePodSandbox", "StartContainer", "StopContainer", "RemoveContainer",
         "ReopenContainerLog", "UpdateContainerResources"}


def call(address, method, request):
    """request: the fields by name; unary, as every method here is."""
    message = getattr(cri_pb2, method + "Request")()
    json_format.ParseDict(request, message)
    answer = cri_pb2.Empty if method in EMPTY else getattr(cri_pb2, method + "Response")
    service = "ImageService" if method.startswith("Image") else "RuntimeService"
    # grpc-go refuses the authority that grpc makes of a socket's path.
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel("unix://" + address, options=options) as channel:
        return channel.unary_unary(
            f"/runtime.v1.{service}/{method}",
            request_serializer=type(message).SerializeToString,
            response_deserializer=answer.FromString)(message, timeout=LIMIT, wait_for_ready=True)


class WebSocket:
    """As much of a websocket as the kubelet's streaming protocol needs."""

    def __init__(self, url):
        parts = urllib.parse.urlparse(url)
        self.sock = socket.create_connection((parts.hostname, parts.port), LIMIT)
        self.file = self.sock.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall((f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                           f"Upgrade: websocket\r\nConnection: Upgrade\r\nOrigin: http://x\r\n"
                           f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                           f"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n").encode())
        head = self.file.readline()
        if b" 101 " not in head:
            raise OSError(f"no websocket: {head!r}")
        while self.file.readline().strip():
            pass

    def send(self, channel, data):
        data = bytes([channel]) + data
        mask = os.urandom(4)
        size = (bytes([0x80 | len(data)]) if len(data) < 126
                else bytes([0x80 | 126]) + struct.pack(">H", len(data)))
        self.sock.sendall(b"\x82" + size + mask +
                          bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def receive(self):
        """(channel, data), None at the end."""
        while True:
            head = self.file.read(2)
            if len(head) < 2:
                return None
            size = head[1] & 127
            if size == 126:
                size, = struct.unpack(">H", self.file.read(2))
            elif size == 127:
                size, = struct.unpack(">Q", self.file.read(8))
            data = self.file.read(size)
            if head[0] & 15 == 8:
                return None
            if head[0] & 15 in (1, 2) and data:
                return data[0], data[1:]


def stream(url):
    web = WebSocket(url)
    code = 0

    def typed():
        for data in iter(lambda: os.read(0, 4096), b""):
            web.send(0, data)

    threading.Thread(target=typed, daemon=True).start()
    for channel, data in iter(web.receive, None):
        if channel in (1, 2):
            os.write(channel, data)
        elif channel == 3 and data:
            status = json.loads(data)
            if status.get("status") != "Success":
                causes = status.get("details", {}).get("causes", [{}])
                code = causes[0].get("message", "")
                if not code.isdigit():
                    print(status, file=sys.stderr)
                    code = 125
    return int(code)


def main():
    address, verb, *words = sys.argv[1:]
    try:
        if verb == "call":
            answer = call(address, words[0], json.loads(words[1]))
            print(json_format.MessageToJson(answer, preserving_proto_field_name=True,
                                            including_default_value_fields=True))
            return 0
        if verb == "stream":
            return stream(call(address, words[0], json.loads(words[1])).url)
        request = {"container_id": words[0], "timeout": words[1], "cmd": words[2:]}
        answer = call(address, "ExecSync", request)
        sys.stdout.buffer.write(answer.stdout)
        sys.stderr.buffer.write(answer.stderr)
        return answer.exit_code
    except grpc.RpcError as error:
        print(f"{error.code().name}: {error.details()}", file=sys.stderr)
        return 125


# Threads that still read must not hold it up.
status = main()
sys.stdout.flush()
sys.stderr.flush()
os._exit(status)
