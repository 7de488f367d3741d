#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""daemon.py ARCH PROGRAM - another machine's whole program under qemu-user: TAP.

The daemon is started as `start` would start it, with its listening socket as fd 3: to execute
itself, it would need the kernel's help (binfmt_misc). The runtime is the fake one (fake/runtime.c), which
is a program of this machine, like the processes it makes. The daemon's monotonic clock is past 2^31
seconds.
"""

import ctypes
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "../shim/client"))

from ttrpc import PATIENCE, Conn, EventServer, RpcError
from wire import ZERO_TIME, decode, encode, options, pack

ARCH, PROGRAM = sys.argv[1], os.path.realpath(sys.argv[2])
NAMESPACE, NAME = "ns", "containerd-shim-runc-v2"
CREATED, RUNNING, STOPPED = 1, 2, 3
BEGAN = time.time()

RUNTIME = os.path.join(HERE, "../../build/test/fake-runtime")
LINE = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n"  # of its output
LINES = 20000


def equal(got, wanted, what):
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r}, wanted {wanted!r}")


class Daemon:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="nanoshim-arch.")
        self.runtime = os.path.realpath(RUNTIME)
        os.symlink(PROGRAM, os.path.join(self.dir, NAME))
        self.events = EventServer(os.path.join(self.dir, "events"))
        os.mkdir(os.path.join(self.dir, "s"), 0o700)
        self.bundle("c")
        digest = hashlib.sha256(f"{self.dir}/grpc/{NAMESPACE}/c".encode()).hexdigest()
        self.socket = os.path.join(self.dir, "s", digest)
        self.log = open(os.path.join(self.dir, "daemon.log"), "w+")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.socket)
        listener.listen()
        self.child = subprocess.Popen(
            ["unshare", "-T", "--monotonic", "3000000000", *self.command("-debug")],
            cwd=self.path("c"), env=self.environ(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            pass_fds=[3], preexec_fn=lambda: os.dup2(listener.fileno(), 3, True))
        listener.close()
        self.conn = Conn(self.socket)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, text, mode=0o644):
        with open(self.path(name), "w") as f:
            f.write(text)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def bundle(self, name):
        os.mkdir(self.path(name))
        self.says(name, "")
        self.write(name + "/address", "unix://" + self.path("s", "x"))

    def says(self, name, words):
        """The runtime behaves like that, for this container."""
        self.write(name + "/config.json", '{"linux": {"namespaces": [{"type": "pid"}]},'
                                          ' "annotations": {"test": "fake: %s"}}' % words)

    def environ(self):
        return dict(os.environ, TTRPC_ADDRESS=self.events.path)

    def command(self, *args):
        return [os.path.join(HERE, "emulate"), ARCH, self.path(NAME), "-namespace", NAMESPACE, "-id", "c",
                "-address", self.path("grpc"), *args]

    def run(self, *args, stdin=b""):
        return subprocess.run(self.command(*args), cwd=self.path("c"), env=self.environ(), input=stdin,
                              capture_output=True, timeout=PATIENCE, check=False)

    def call(self, method, **fields):
        fields.setdefault("id", "c")
        return self.conn.call(method, fields)

    def options(self):
        return options(binary_name=self.runtime, root=self.path("root"))

    def create(self, words, stdout="", **more):
        self.says("c", words)
        return self.call("Create", bundle=self.path("c"), options=self.options(), stdout=stdout, **more)["pid"]

    def event(self, topic):
        """The next event: it must be this one."""
        got = self.events.wait_for(lambda seen: seen and seen.pop(0), topic)
        equal(got.topic, "/tasks/" + topic, "topic")
        return got

    def close(self):
        if self.child.poll() is None:
            for pid in children(self.child.pid) | {self.child.pid}:
                os.kill(pid, signal.SIGKILL)
            self.child.wait()
        self.events.down()
        self.log.close()
        shutil.rmtree(self.dir)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return {int(child) for child in f.read().split()}


def recent(stamp):
    if not (int(BEGAN) <= stamp["seconds"] <= time.time() and 0 <= stamp["nanos"] < 1000000000):
        raise AssertionError(f"not a time since this test began: {stamp}")


# ---- the tests, in this order, on one daemon -------------------------------------------------------


def says_its_version(d):
    done = d.run("-v")
    equal((done.returncode, done.stderr), (0, b""), "status and stderr")
    equal(done.stdout.decode().split("\n")[0], NAME + ":", "the first line")


def says_what_the_runtime_can_do(d):
    done = d.run("-info", stdin=encode("Any", d.options()))
    equal((done.returncode, done.stderr), (0, b""), "status and stderr")
    info = decode("RuntimeInfo", done.stdout)
    equal(info["name"], "io.containerd.runc.v2", "name")
    equal(info["features"]["value"], b'{"ociVersionMin":"1.0.0"}', "features")


def start_finds_the_daemon(d):
    params = encode("BootstrapParams", {"instance_id": "c", "namespace": NAMESPACE, "socket_dir": d.path("s"),
                                        "containerd_grpc_address": d.path("grpc")})
    done = d.run("start", stdin=params)
    equal((done.returncode, done.stderr), (0, b""), "status and stderr")
    equal(done.stdout.decode(), "unix://" + d.socket, "address")


def a_container_lives(d):
    pid = d.create("run=0 exit=7")
    equal(d.event("create")["pid"], pid, "pid of TaskCreate")
    state = d.call("State")
    equal((state["pid"], state["status"], state["exited_at"]), (pid, CREATED, ZERO_TIME), "State, created")
    waiting = d.conn.send("Wait", {"id": "c"})
    equal(d.call("Start")["pid"], pid, "pid by Start")
    end = waiting.result()
    equal(end["exit_status"], 7, "status by Wait")
    recent(end["exited_at"])
    d.event("start")
    exit_ = d.event("exit")
    equal((exit_["exit_status"], exit_["exited_at"]), (7, end["exited_at"]), "TaskExit")
    recent(exit_.envelope["timestamp"])
    state = d.call("State")
    equal((state["status"], state["exited_at"]), (STOPPED, end["exited_at"]), "State, stopped")
    equal(d.call("Delete"), {"pid": pid, **end}, "Delete")
    d.event("delete")


def output_comes_through(d):
    fifo = d.path("stdout")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    d.create(f"run=0 out={LINES * len(LINE)}", stdout=fifo)
    d.call("Start")
    os.set_blocking(reader, True)
    with os.fdopen(reader, "rb") as f:
        got = f.read()
    wanted = LINE * LINES
    equal((len(got), got == wanted), (len(wanted), True), "output")
    equal(d.call("Wait")["exit_status"], 0, "status")
    d.call("Delete")
    for topic in ("create", "start", "exit", "delete"):
        d.event(topic)


def an_exec_lives(d):
    pid = d.create("")
    d.call("Start")
    d.call("Exec", exec_id="x", spec=pack("types.containerd.io/opencontainers/runtime-spec/1/Process",
                                          message=b'{"args": ["x"], "env": ["X=fake: run=0 exit=5"]}'))
    exec_pid = d.call("Start", exec_id="x")["pid"]
    end = d.call("Wait", exec_id="x")
    equal(end["exit_status"], 5, "status by Wait")
    equal(d.call("Delete", exec_id="x"), {"pid": exec_pid, **end}, "Delete")
    for topic in ("create", "start", "exec-added", "exec-started", "exit"):
        event = d.event(topic)
    equal((event["id"], event["exit_status"]), ("x", 5), "TaskExit")
    equal(d.call("Connect")["task_pid"], pid, "pid by Connect")


def stats_are_told(d):
    metrics = d.call("Stats")["stats"]
    equal(metrics["type_url"].startswith("io.containerd.cgroups.v"), True, metrics["type_url"])
    equal(len(metrics["value"]) > 0, True, "metrics")


def errors_are_told(d):
    for method, fields, wanted in (
            ("State", {"id": "none"}, (5, "container not created: not found")),
            ("State", {"id": "c", "exec_id": "x"}, (5, "process does not exist x: not found")),
            ("Start", {"id": "c"}, (2, "cannot start a running process"))):
        try:
            raise AssertionError(f"{method}: {d.conn.call(method, fields)}")
        except RpcError as e:
            equal((e.code, e.text), wanted, method)


def a_container_is_killed(d):
    d.call("Kill", signal=signal.SIGKILL)
    equal(d.call("Wait")["exit_status"], 128 + signal.SIGKILL, "status")
    equal(d.call("Delete")["exit_status"], 128 + signal.SIGKILL, "status by Delete")
    equal(d.event("exit")["exit_status"], 128 + signal.SIGKILL, "TaskExit")
    d.event("delete")


def a_large_request_is_taken(d):
    """4 MiB of an id: decoded, not found, and quoted in part or whole."""
    try:
        d.conn.call("State", {"id": "c", "exec_id": "x" * ((4 << 20) - 1000)})
        raise AssertionError("it should not be found")
    except RpcError as e:
        equal(e.code, 5, "code")


def delete_cleans_up(d):
    d.write("c/options.json", '{"binary_name": "%s", "root": "%s"}' % (d.runtime, d.path("root")))
    done = d.run("delete")
    equal((done.returncode, done.stderr), (0, b""), "status and stderr")
    reply = decode("DeleteResponse", done.stdout)
    equal(reply["exit_status"], 137, "status")
    recent(reply["exited_at"])


def it_shuts_down(d):
    d.call("Shutdown", id="c")
    equal(d.child.wait(PATIENCE), 0, "exit status")
    equal(d.events.faults, [], "events")


TESTS = [says_its_version, says_what_the_runtime_can_do, start_finds_the_daemon, a_container_lives,
         output_comes_through, an_exec_lives, stats_are_told, errors_are_told, a_container_is_killed,
         a_large_request_is_taken, delete_cleans_up, it_shuts_down]


def main():
    print(f"1..{len(TESTS)}", flush=True)
    failed = 0
    daemon = Daemon()
    try:
        for number, test in enumerate(TESTS, 1):
            trouble = []
            try:
                test(daemon)
            except Exception:  # whatever it is, the next test is run
                daemon.log.seek(0)
                trouble = traceback.format_exc().splitlines()[-3:] + daemon.log.read().splitlines()[-5:]
            print(f"{'not ok' if trouble else 'ok'} {number} - {test.__name__.replace('_', ' ')}")
            for line in trouble:
                print("# " + line[:400])
            failed += bool(trouble)
            sys.stdout.flush()
    finally:
        daemon.close()
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
