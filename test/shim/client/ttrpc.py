# SPDX-License-Identifier: Apache-2.0
"""ttrpc.py - TTRPC by hand: a client with raw access to its frames, and the events server."""

import fcntl
import os
import socket
import struct
import sys
import termios
import threading
import time

from wire import Malformed, decode, encode

REQUEST, RESPONSE, DATA = 1, 2, 3
MAX_DATA = 4 << 20
TASK2, TASK3 = "containerd.task.v2.Task", "containerd.task.v3.Task"
EVENTS = "containerd.services.events.ttrpc.v1.Events"
# Seconds until something that must happen counts as not happening. It guards against hanging and
# measures nothing: the runner raises it where all is slow (sanitizers, emulators).
PATIENCE = 60 * float(os.environ.get("TIME_FACTOR") or 1)

OK, CANCELED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS = range(7)
RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNIMPLEMENTED, INTERNAL = 8, 9, 12, 13


class RpcError(Exception):
    def __init__(self, code, text):
        super().__init__(f"code {code}: {text}")
        self.code, self.text = code, text


class Closed(Exception):
    """The connection went away before the answer came."""


class Late(Exception):
    """No answer in time."""


def frame(stream, kind, data=b"", flags=0, length=None):
    return struct.pack(">IIBB", len(data) if length is None else length, stream, kind, flags) + data


def request(service, method, payload=b"", **more):
    fields = dict(service=service, method=method, payload=payload, **more)
    return encode("Request", fields)


def read_exactly(sock, size):
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(min(size - len(data), 1 << 20))
        if not piece:
            return None
        data += piece
    return bytes(data)


def read_frame(sock):
    """(stream, type, flags, data), or None at the end."""
    head = read_exactly(sock, 10)
    if head is None:
        return None
    length, stream, kind, flags = struct.unpack(">IIBB", head)
    data = read_exactly(sock, length) if length else b""
    return None if data is None else (stream, kind, flags, data)


class Call:
    """One request on its way."""

    def __init__(self, name, reply):
        self.name, self.reply = name, reply
        self.done = threading.Event()
        self.response = None

    def finished(self):
        return self.done.is_set()

    def result(self, timeout=PATIENCE):
        """The decoded reply message; RpcError, Closed or Late otherwise."""
        if not self.done.wait(timeout):
            raise Late(f"{self.name}: no reply in {timeout} s")
        if self.response is None:
            raise Closed(f"{self.name}: connection closed")
        status = self.response["status"]
        if status and status["code"]:
            if self.reply:  # Go's client decodes the payload before it looks at the status
                decode(self.reply, self.response["payload"])
            raise RpcError(status["code"], status["message"])
        return decode(self.reply, self.response["payload"]) if self.reply else self.response["payload"]

    def error(self, timeout=PATIENCE):
        """(code, text) of a call that must fail."""
        try:
            reply = self.result(timeout)
        except RpcError as e:
            return e.code, e.text
        raise AssertionError(f"{self.name} succeeded: {reply}")


class Conn:
    """A connection to a TTRPC server. A thread of its own takes the replies, unless deaf."""

    def __init__(self, path, deaf=False):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        try:
            self.sock.connect(path)
        except OSError:
            self.sock.close()
            raise
        self.stream = -1  # the last id used
        self.calls = {}
        self.strays = []  # frames nobody waits for
        self.closed = threading.Event()
        self.lock, self.writing = threading.Lock(), threading.Lock()
        self.thread = None
        if not deaf:
            self.sock.settimeout(None)
            self.thread = threading.Thread(target=self._receive, daemon=True)
            self.thread.start()

    def _receive(self):
        try:
            while True:
                got = read_frame(self.sock)
                if got is None:
                    break
                stream, kind, _, data = got
                call = self.calls.pop(stream, None)
                if call is None or kind != RESPONSE:
                    self.strays.append(got)
                    continue
                call.response = decode("Response", data)
                call.done.set()
        except (OSError, Malformed, UnicodeDecodeError) as e:
            self.strays.append(e)
        with self.lock:
            self.closed.set()
            for call in self.calls.values():
                call.done.set()

    def raw(self, data):
        with self.writing:
            self.sock.sendall(data)

    def unsent(self):
        """How much the peer has not taken yet."""
        return int.from_bytes(fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    def expect(self, stream, name="raw", reply=None):
        """The call object for a frame that is sent by hand."""
        call = Call(name, reply)
        with self.lock:
            if self.closed.is_set():
                call.done.set()
            self.calls[stream] = call
        return call

    def next_stream(self):
        with self.lock:
            self.stream += 2
            return self.stream

    def send(self, method, message=None, service=TASK2, timeout_nano=0, payload=None, reply=True):
        """Sends a request and returns its Call; message is encoded as <method>Request."""
        if payload is None:
            payload = encode(method + "Request", message or {})
        if reply is True:
            reply = method + "Response"
            if reply not in ("CreateResponse", "StartResponse", "DeleteResponse", "StateResponse", "PidsResponse",
                             "WaitResponse", "StatsResponse", "ConnectResponse"):
                reply = "Empty"
        stream = self.next_stream()
        call = self.expect(stream, method, reply)
        try:
            self.raw(frame(stream, REQUEST, request(service, method, payload, timeout_nano=timeout_nano)))
        except OSError:
            call.done.set()
        return call

    def call(self, method, message=None, wait=PATIENCE, **more):
        return self.send(method, message, **more).result(wait)

    def error(self, method, message=None, wait=PATIENCE, **more):
        return self.send(method, message, **more).error(wait)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        if self.thread:
            self.thread.join(PATIENCE)
        self.sock.close()


class Event:
    """One Forward call: the envelope and the event in it."""

    def __init__(self, request_):
        envelope = decode("ForwardRequest", request_["payload"])["envelope"]
        self.request, self.envelope = request_, envelope
        self.topic = envelope["topic"]
        self.type = envelope["event"]["type_url"]
        self.fields = decode(self.type.replace("containerd.events.", ""), envelope["event"]["value"])
        self.id = self.fields.get("container_id")
        self.at = time.time()

    def __getitem__(self, key):
        return self.fields[key]

    def __repr__(self):
        return f"{self.topic} {self.fields}"


class EventServer:
    """containerd's events service. How it answers is up to the test:

    answer(event) -> "ok", "hang" (no reply), "reset" (close the connection) or "error"; the reply waits
    until it returns. Every attempt is in `attempts`, every acknowledged event in `events`.
    """

    def __init__(self, path):
        self.path = path
        self.answer = lambda event: "ok"
        self.events, self.attempts, self.faults = [], [], []
        self.changed = threading.Condition()
        self.listener = None
        self.conns = set()
        self.up()

    def up(self):
        """Starts listening: the first time, or after down()."""
        listener = socket.socket(socket.AF_UNIX)
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
        listener.bind(self.path)
        os.chmod(self.path, 0o600)
        listener.listen(64)
        self.listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def down(self, unlink=False):
        """Dies: connections break, and the socket refuses (or is gone)."""
        listener, self.listener = self.listener, None
        if listener is None:
            return
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        if unlink:
            os.unlink(self.path)
        with self.changed:
            conns = list(self.conns)
        for conn in conns:
            self._drop(conn)

    def _drop(self, conn):
        try:
            conn.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _accept(self, listener):
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            with self.changed:
                self.conns.add(conn)
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        last = -1
        try:
            while True:
                got = read_frame(conn)
                if got is None:
                    break
                stream, kind, flags, data = got
                self._check(kind == REQUEST and flags == 0, f"frame type {kind} flags {flags}")
                self._check(stream % 2 == 1 and stream > last, f"stream {stream} after {last}")
                last = stream
                if not self._forward(conn, stream, decode("Request", data)):
                    break
        except OSError:
            pass
        except (Malformed, UnicodeDecodeError, KeyError, TypeError) as e:
            self._check(False, f"undecodable event: {e!r}")
        with self.changed:
            self.conns.discard(conn)
        conn.close()

    def _check(self, good, what):
        if not good:
            self.faults.append(what)

    def _forward(self, conn, stream, req):
        self._check((req["service"], req["method"]) == (EVENTS, "Forward"), f"{req['service']}/{req['method']}")
        event = Event(req)
        with self.changed:
            self.attempts.append(event)
            self.changed.notify_all()
        what = self.answer(event)
        if what == "hang":
            return True
        if what == "reset":
            return False
        if what == "error":
            refusal = encode("Response", {"status": {"code": UNKNOWN, "message": "not now"}})
            conn.sendall(frame(stream, RESPONSE, refusal))
            return True
        with self.changed:  # whoever sees the event, and then breaks the connection, finds it acknowledged
            conn.sendall(frame(stream, RESPONSE))
            self.events.append(event)
            self.changed.notify_all()
        return True

    def wait_for(self, accept, what, timeout=PATIENCE, attempts=False):
        """Waits until accept(list of events) gives something true, and returns that."""
        seen = self.attempts if attempts else self.events
        end = time.monotonic() + timeout
        with self.changed:
            while True:
                result = accept(seen)
                if result:
                    return result
                left = end - time.monotonic()
                if left <= 0:
                    raise Late(f"{what}: not among {len(seen)} events: {[e.topic for e in seen]}")
                self.changed.wait(min(left, 1))

    def unread(self):
        """What has been sent behind the requests that are being answered."""
        found = b""
        with self.changed:
            for conn in self.conns:
                try:
                    found += conn.recv(1024, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                except BlockingIOError:
                    pass
        return found

    def topics(self, container):
        with self.changed:
            return [e.topic for e in self.events if e.id == container]
