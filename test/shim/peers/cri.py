#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""cri.py ADDRESS SOCKET: takes the orders of ask.py on SOCKET, for the containerd at ADDRESS.

call METHOD JSON: one call of the CRI; the answer is printed as JSON.
exec ID TIMEOUT WORD...: ExecSync; its output and exit code become those of ask.py.
stream METHOD JSON: Exec or Attach, over the websocket they name. What comes on stdin is typed, what
the process writes is printed, its exit code becomes that of ask.py.

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
import traceback
import urllib.parse

sys.path.insert(0, os.environ["CRI_PB"])
import cri_pb2  # noqa: E402
import grpc  # noqa: E402
from google.protobuf import json_format  # noqa: E402

LIMIT = 60 * float(os.environ.get("TIME_FACTOR") or 1)
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


def write(fd, data):
    while data:
        data = data[os.write(fd, data):]


def stream(url, stdin, stdout, stderr):
    web = WebSocket(url)
    code = 0

    def typed():
        source = os.dup(stdin)
        ready.set()
        try:
            for data in iter(lambda: os.read(source, 4096), b""):
                web.send(0, data)
        except OSError:
            pass  # the other side has ended
        os.close(source)

    ready = threading.Event()
    threading.Thread(target=typed, daemon=True).start()
    ready.wait()
    for channel, data in iter(web.receive, None):
        if channel in (1, 2):
            write(stdout if channel == 1 else stderr, data)
        elif channel == 3 and data:
            status = json.loads(data)
            if status.get("status") != "Success":
                causes = status.get("details", {}).get("causes", [{}])
                code = causes[0].get("message", "")
                if not code.isdigit():
                    write(stderr, f"{status}\n".encode())
                    code = 125
    return int(code)


def obey(address, words, stdin, stdout, stderr):
    verb, *words = words
    if verb == "call":
        answer = call(address, words[0], json.loads(words[1]))
        write(stdout, json_format.MessageToJson(answer, preserving_proto_field_name=True,
                                                including_default_value_fields=True).encode())
        return 0
    if verb == "stream":
        url = call(address, words[0], json.loads(words[1])).url
        return stream(url, stdin, stdout, stderr)
    request = {"container_id": words[0], "timeout": words[1], "cmd": words[2:]}
    answer = call(address, "ExecSync", request)
    write(stdout, answer.stdout)
    write(stderr, answer.stderr)
    return answer.exit_code


def one(address, sock):
    words, fds, _, _ = socket.recv_fds(sock, 1 << 18, 3)
    code = 125
    try:
        code = obey(address, words.decode().split("\0"), *fds)
    except grpc.RpcError as error:
        write(fds[2], f"{error.code().name}: {error.details()}\n".encode())
    except Exception:  # whatever it is, it belongs into the test's report
        write(fds[2], traceback.format_exc().encode())
    for fd in fds:
        os.close(fd)
    try:
        sock.send(bytes([code]))
    except OSError:
        pass  # nobody waits any more
    sock.close()


def main():
    address, path = sys.argv[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen(64)
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=one, args=(address, sock), daemon=True).start()


main()
