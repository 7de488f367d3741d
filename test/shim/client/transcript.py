#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""transcript.py - scenarios driven against any shim, written down in a form that can be compared.

Every line is a request with its reply or error, or an event. What differs from run to run is
replaced: paths by <dir>, pids by <pid1>, <pid2>..., times by <time1>..., where equal ones get equal
names. Two shims behave alike if their transcripts are equal: see test_transcript.py.

usage: transcript.py [SCENARIO...]      ($SHIM is the shim)
"""

import os
import re
import signal
import sys
import time

import shim
from shim import alive, json_any, read_all, until
from ttrpc import PATIENCE, REQUEST, TASK2, Closed, Late, RpcError, frame, request
from wire import Malformed, ZERO_TIME, decode, field, pack, read_varint

SCENARIOS = {}


def scenario(fn):
    SCENARIOS[fn.__name__] = fn
    return fn


class Transcript:
    """One scenario's world and its lines."""

    def __init__(self, binary):
        self.world = shim.World(binary)
        self.lines, self.calls = [], []
        self.by_pid, self.by_time = {}, {}
        self.replace = [(self.world.shim, shim.SHIM_NAME),
                        (self.world.dir, "<dir>"), (os.path.dirname(self.world.dir), "<base>"),
                        (self.world.namespace, "<ns>"), (self.world.binary, "<shim>")]

    # -- writing down

    def say(self, *words):
        self.lines.append(self.normal(" ".join(str(w) for w in words)))

    def normal(self, text):
        for old, new in self.replace:
            text = text.replace(old, new)
        text = re.sub(r"/run/containerd/s/[0-9a-f]{64}", "<socket>", text)
        text = re.sub(r"runc-process\d+", "runc-process<n>", text)
        text = re.sub(r"/pty\d+/", "/pty<n>/", text)
        text = re.sub(r"usage: \d+", "usage: <n>", text)
        return text.replace("\n", "\\n")

    def pid(self, pid):
        if pid == 0xFFFFFFFF:
            return "-1"
        return self.by_pid.setdefault(pid, f"<pid{len(self.by_pid) + 1}>") if pid else 0

    def value(self, key, value):
        """One field of a message as text."""
        if key in ("pid", "shim_pid", "task_pid"):
            return self.pid(value)
        if isinstance(value, dict) and value.keys() == ZERO_TIME.keys():
            if value == ZERO_TIME:
                return "<never>"
            stamp = (value["seconds"], value["nanos"])
            return self.by_time.setdefault(stamp, f"<time{len(self.by_time) + 1}>")
        if isinstance(value, dict):
            return "{" + self.message(value) + "}"
        if isinstance(value, list):
            items = [str(self.value(None, v)) for v in value]
            return "[" + ", ".join(sorted(items) if key == "processes" else items) + "]"
        return self.normal(repr(value))

    def message(self, fields):
        return " ".join(f"{k}={self.value(k, v)}" for k, v in fields.items()) or "{}"

    # -- doing

    def task(self, *args, **more):
        """A task whose requests are remembered, for the events they must cause."""
        task = self.world.task(*args, **more)
        send = task.send

        def remembered(method, **fields):
            call = send(method, **fields)
            self.calls.append((method, fields, call))
            return call
        task.send = remembered
        return task

    def outcome(self, call, timeout=PATIENCE):
        try:
            return self.message(call.result(timeout))
        except RpcError as e:
            return f"error {e.code}: {self.normal(e.text)}"
        except Closed:
            return "connection closed"
        except Late:
            return "no reply"

    def call(self, task, method, own_words=False, **fields):
        """A request and its reply on a line. With own_words every shim may word its error freely."""
        asked = " ".join(f"{k}={fields[k]!r}" for k in fields if k in ("signal", "all", "exec_id"))
        result = self.outcome(task.send(method, **fields))
        if own_words:
            result = re.sub(r"(error \d+: ).*", r"\1<words>", result)
        self.say(f"{method} {task.id}", asked + " ->" if asked else "->", result)

    def create(self, task, **more):
        self.call(task, "Create", **task.create_request(**more))
        return task

    def exec(self, task, exec_id, args, **more):
        try:
            task.exec(exec_id, args, **more)
            self.say(f"Exec {task.id} {exec_id} -> {{}}")
        except RpcError as e:
            self.say(f"Exec {task.id} {exec_id} -> error {e.code}: {e.text}")

    def events_due(self, ended):
        """How many events the requests cause that have succeeded, when all processes have ended or none."""
        due = 0
        for method, fields, call in self.calls:
            try:
                reply = call.result()
            except (RpcError, Closed):
                continue
            exec_id = fields.get("exec_id")
            due += method in ("Create", "Start", "Exec", "Pause", "Resume") or method == "Delete" and not exec_id
            # A process to end, and not what is to be restored.
            due += ended and method == ("Start" if exec_id else "Create") and reply["pid"] > 0
        return due

    def told(self):
        """Those of the events that are compared. Not TaskOOM: on cgroup v1 the Go shim also tells it when a
        cgroup is removed, if it is quick enough."""
        return [e for e in self.world.events.events if e.topic != "/tasks/oom"]

    def until_told(self, ended=True):
        """The Go shim forgets the events that it has not got rid of when it goes."""
        until(lambda: len(self.told()) >= self.events_due(ended), "all events")

    def shut_down(self, task):
        """Shutdown, written down; waits for the daemon. The Go shim sometimes closes the connection
        instead of replying; test_task.py sees to that."""
        pid = task.daemon()
        self.until_told()
        result = self.outcome(task.send("Shutdown"))
        self.say("Shutdown", task.id, "->", "{}" if result == "connection closed" else result)
        until(lambda: not alive(pid), "the daemon to exit")
        self.say("the daemon is gone, its socket", "is left" if os.path.exists(task.address) else "too")

    def reap(self, *tasks):
        """Whatever state they are in, they are deleted; not written down."""
        for task in tasks:
            for method, fields in (("Kill", {"signal": 9}), ("Wait", {"timeout_nano": 0}), ("Delete", {})):
                if method == "Wait" and task.state()["status"] not in (shim.RUNNING, shim.PAUSED):
                    continue
                try:
                    task.call(method, **fields)
                except RpcError:
                    pass

    def events(self):
        """All events in their order."""
        for event in self.told():
            self.say(f"event {event.topic} {event.type}", self.message(event.fields))
            if event.envelope["namespace"] != self.world.namespace:
                self.say("in namespace", event.envelope["namespace"])

    def files(self, task):
        """What is in the bundle."""
        for name in sorted(os.listdir(task.bundle.path)):
            path = task.bundle.file(name)
            self.say(f"file {name} {os.lstat(path).st_mode:o}")

    def file(self, task, name):
        self.say(f"file {name} contains", shim.read_file(task.bundle.file(name), "nothing"))

    def output(self, what, output):
        self.say(what, f"-> exit {output.code}, stdout {output.out.decode(errors='replace')!r},",
                 f"stderr {output.err.decode(errors='replace')!r}")

    def delete_action(self, task):
        result = self.world.delete(task.bundle)
        reply = self.message(decode("DeleteResponse", result.out)) if result.code == 0 else f"exit {result.code}"
        self.say(f"delete {task.id} ->", reply)

    def left_over(self):
        try:
            self.world.until_gone()
        except Late:
            pass
        self.say("left over:", *(list(self.world.left_over_of_containers()) or ["nothing"]))

    def raw(self, conn, what, data, stream=None):
        stream = stream or conn.next_stream()
        call = conn.expect(stream)
        conn.raw(frame(stream, REQUEST, data))
        try:
            call.result(PATIENCE)
            self.say(f"{what} -> a reply")
        except RpcError as e:
            # Behind the documented prefix of a decoding error every library has its own words.
            text = re.sub(r"(unmarshal request error: |unmarshalling payload: ).*", r"\1<why>", e.text)
            self.say(f"{what} -> error {e.code}:", text)
        except Late:
            self.say(f"{what} -> no reply")


# ---- the process interface ------------------------------------------------------------------------------


@scenario
def command_line(s):
    for argv in (["start"], ["-namespace", "x", "-bogus"], ["-id"], ["-debug=maybe"], ["---x"], ["-=x"]):
        result = s.world.run(*argv)
        s.say(*argv, f"-> exit {result.code}, stdout {result.out!r}, stderr {result.err.decode().splitlines()[0]!r}")
    result = s.world.run("-v")
    text = re.sub(r"(Version: |Revision:|version:).*", r"\1 <version>", result.out.decode())
    s.say("-v ->", result.code, text, result.err)


@scenario
def start_action(s):
    t = s.task(started=False)
    s.output("start", s.world.start(t.bundle))
    s.output("start again", s.world.start(t.bundle, debug=True))
    s.files(t)
    s.file(t, "address")
    t.connect(s.world.socket_path("c1"))
    s.shut_down(t)
    os.unlink(t.bundle.file("config.json"))
    s.output("start without config.json", s.world.start(t.bundle))
    s.say("daemons", len(s.world.daemons()), "socket", os.path.exists(t.address))


@scenario
def delete_action(s):
    t = s.task()
    s.create(t)
    s.delete_action(t)
    s.call(t, "Wait")
    s.call(t, "State")
    s.delete_action(t)
    s.call(t, "Delete")
    s.left_over()
    u = s.task(container="c2")
    s.create(u)
    s.call(u, "Start")
    s.call(u, "Kill", signal=9)
    s.call(u, "Wait")
    s.call(u, "Delete")
    s.delete_action(u)
    s.shut_down(t), s.shut_down(u)
    s.events()


@scenario
def delete_action_on_a_running_container(s):
    t = s.task(stdio="out").run()
    s.say("State is", t.state()["status"])
    s.delete_action(t)
    s.call(t, "Wait")
    s.call(t, "State")
    t.out.all(), t.err.all()
    s.call(t, "Delete")
    s.left_over()
    s.shut_down(t)
    s.events()


@scenario
def termination(s):
    t = s.task()
    s.create(t)
    s.call(t, "Start")
    s.until_told(ended=False)
    os.kill(t.daemon(), signal.SIGTERM)
    until(lambda: not alive(t.daemon()), "the daemon to exit")
    s.say("socket", os.path.exists(t.address))
    s.delete_action(t)
    s.left_over()
    s.events()


@scenario
def frames(s):
    t = s.task()
    c = t.conn
    s.raw(c, "unknown service", request("x.Y", "State"))
    s.raw(c, "unknown method", request(TASK2, "Nope"))
    s.raw(c, "empty request", b"")
    s.raw(c, "undecodable request", b"\xff\xff\xff")
    s.raw(c, "undecodable payload", request(TASK2, "State", b"\xff\xff\xff"))
    s.raw(c, "cut payload", request(TASK2, "State", b"\x0a\x05ab"))
    s.raw(c, "unknown fields", request(TASK2, "State", field(99, "x") + field(1, "y")))
    s.raw(c, "no payload", request(TASK2, "State"))
    s.raw(c, "even stream", request(TASK2, "Connect"), 1000)
    s.raw(c, "too large", b"\0" * (4194304 + 1))
    s.raw(c, "after all that", request(TASK2, "Connect"))
    s.shut_down(t)


# ---- the verbs of the init process ----------------------------------------------------------------------


@scenario
def without_options(s):
    t = s.task(["true"])
    s.create(t, options=None)
    s.files(t)
    s.file(t, "runtime")
    s.call(t, "Start")
    s.call(t, "Wait")
    s.call(t, "Delete")


@scenario
def life(s):
    t = s.task(["sh", "-c", "echo out; echo err >&2; exit 7"], stdio="all")
    t.out, t.err = t.open_stdout(), t.open_stderr()
    s.call(t, "Connect")
    s.call(t, "State")
    s.create(t)
    s.files(t)
    for name in ("options.json", "runtime"):
        s.file(t, name)
    s.call(t, "State")
    s.call(t, "Connect")
    s.call(t, "Pids")
    s.call(t, "Start")
    s.call(t, "Wait")
    s.say("output", *read_all(t.out, t.err))
    s.call(t, "Wait")
    s.call(t, "State")
    s.call(t, "Connect")
    s.call(t, "Delete")
    s.call(t, "State")
    s.call(t, "Connect")
    s.files(t)
    s.left_over()
    s.shut_down(t)
    s.delete_action(t)
    s.events()


@scenario
def unknown_container(s):
    t = s.task()
    for method in ("State", "Start", "Delete", "Pids", "Kill", "CloseIO", "Wait", "Connect"):
        s.call(t, method)
    s.call(t, "State", exec_id="e1")
    s.shut_down(t)


@scenario
def unknown_exec(s):
    t = s.task()
    s.create(t)
    for method in ("State", "Start", "Delete", "Kill", "CloseIO", "Wait"):
        s.call(t, method, exec_id="e1")
    s.reap(t)
    s.shut_down(t)


@scenario
def created(s):
    """Every verb in the state created."""
    t = s.task()
    s.create(t)
    s.call(t, "State")
    s.call(t, "Pids")
    s.call(t, "CloseIO")
    s.call(t, "Kill", signal=0)
    s.call(t, "Delete")
    s.shut_down(t)
    s.events()


@scenario
def created_and_killed(s):
    t = s.task()
    s.create(t)
    s.call(t, "Kill", signal=9)
    s.call(t, "Wait")
    s.call(t, "State")
    s.call(t, "Start")
    s.call(t, "Delete")
    s.shut_down(t)
    s.events()


@scenario
def running(s):
    t = s.task()
    s.create(t)
    s.call(t, "Start")
    s.call(t, "State")
    s.call(t, "Pids")
    s.call(t, "Start")
    s.call(t, "Delete")
    s.call(t, "CloseIO")
    s.call(t, "Kill", signal=0)
    s.call(t, "Kill", signal=99)
    s.call(t, "Kill", signal=9)
    s.call(t, "Wait")
    s.call(t, "Delete")
    s.shut_down(t)
    s.events()


@scenario
def stopped(s):
    t = s.task(["sh", "-c", "exit 3"])
    s.create(t)
    s.call(t, "Start")
    s.call(t, "Wait")
    s.call(t, "State")
    s.call(t, "Pids")
    s.call(t, "Start")
    s.call(t, "CloseIO")
    s.call(t, "Kill", signal=9)
    s.call(t, "Kill", signal=9, all=True)
    s.call(t, "Wait")
    s.call(t, "Delete")
    s.call(t, "Delete")
    s.shut_down(t)
    s.events()


@scenario
def exit_statuses(s):
    for name, args in (("a", ["true"]), ("b", ["false"]), ("c", ["sh", "-c", "exit 255"]),
                       ("d", ["sh", "-c", "nonexistent-command 2>/dev/null"])):
        t = s.task(args, container=name)
        s.create(t)
        s.call(t, "Start")
        s.call(t, "Wait")
        s.call(t, "Delete")
        s.shut_down(t)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV):
        t = s.task(container=f"signal{int(number)}", pid="host")
        s.create(t)
        s.call(t, "Start")
        t.until_its_program_runs()
        s.call(t, "Kill", signal=int(number))
        s.call(t, "Wait")
        s.call(t, "Delete")
        s.shut_down(t)
    s.events()


@scenario
def twice(s):
    """The same id again, after Delete."""
    t = s.task(["true"])
    for _ in range(2):
        s.create(t)
        s.call(t, "Start")
        s.call(t, "Wait")
        s.call(t, "Delete")
    s.shut_down(t)
    s.events()


@scenario
def pod(s):
    group = {"io.kubernetes.cri.sandbox-id": "pod"}
    a = s.task(container="a", annotations=group)
    b = s.task(container="b", annotations=group)
    s.say("same address", a.address == b.address)
    s.create(a), s.create(b)
    s.call(a, "Start"), s.call(b, "Start")
    s.call(a, "Connect"), s.call(b, "Connect")
    s.call(a, "Shutdown")
    s.call(a, "Kill", signal=9)
    s.call(a, "Wait")
    s.call(a, "Delete")
    s.call(a, "Shutdown")
    s.delete_action(a)
    s.call(b, "State")
    s.call(b, "Kill", signal=9)
    s.call(b, "Wait")
    s.call(b, "Delete")
    s.shut_down(b)
    s.delete_action(b)
    s.events()


@scenario
def left_overs(s):
    """Init ends, its children do not: without a pid namespace the shim kills them."""
    for name, pid in (("private", "private"), ("host", "host")):
        t = s.task(["sh", "-c", "sleep 1000 & sleep 1000 & echo ready; read x; exit 4"], container=name,
                   stdio="all", pid=pid)
        t.run().out.until(b"ready\n")
        stdin = t.open_stdin()
        until(lambda: len(s.world.cgroup_processes()) == 3, "three processes")
        stdin.write(b"\n")
        s.call(t, "Wait")
        until(lambda: not s.world.cgroup_processes(), "all to be gone")
        t.out.all(), t.err.all()
        s.call(t, "Delete")
        s.shut_down(t)
    s.events()


@scenario
def streams(s):
    t = s.task(["sh", "-c", "cat; echo end"], stdio="all")
    t.out, t.err = t.open_stdout(), t.open_stderr()
    s.create(t)
    s.call(t, "Start")
    stdin = t.open_stdin()
    stdin.write(b"one\n")
    s.say("output", t.out.until(b"one\n"))
    stdin.close()
    t.settle()  # that a client has gone ends nothing
    stdin = t.open_stdin()
    s.call(t, "CloseIO", stdin=True)
    stdin.write(b"two\n")
    s.say("output", t.out.until(b"two\n"))
    stdin.close()
    s.say("output", *read_all(t.out, t.err))
    s.call(t, "CloseIO", stdin=True)
    s.call(t, "Wait")
    s.call(t, "Delete")
    s.shut_down(t)
    s.events()


@scenario
def create_failures(s):
    number = 0

    def attempt(what, change=None, opts=None, args=("sleep", "1000"), stdio="null", **more):
        nonlocal number
        number += 1
        t = s.task(list(args), container=f"c{number}", opts=opts, stdio=stdio)
        for name in ("stdout", "stderr"):
            if getattr(t, name):
                s.world.reader(getattr(t, name))
        if change:
            change(t)
        s.say("--", what)
        if more.get("rootfs"):
            more["rootfs"] = [m or t.bundle.rootfs_mount() for m in more["rootfs"]]
        s.create(t, **more)
        s.call(t, "State")
        s.say("mounts", len(s.world.mounts()))
        s.shut_down(t)
        s.delete_action(t)

    w = s.world
    attempt("a missing runtime", opts=w.options(binary_name="/nonexistent/runc"))
    attempt("a missing runtime in PATH", opts=w.options(binary_name="nonexistent-runc"))
    attempt("a silent runtime", opts=w.options(binary_name=w.script("silent", "exit 5")))
    attempt("a broken config", lambda t: t.bundle.write_config("{"))
    attempt("no config", lambda t: os.unlink(t.bundle.file("config.json")))
    attempt("a missing program", args=["/nonexistent"])
    attempt("a program not in PATH", args=["nonexistent"])
    attempt("a missing mount source", rootfs=[{"type": "bind", "source": "/nonexistent", "options": ["rbind"]}])
    attempt("an unknown file system", rootfs=[None, {"type": "nonsense", "source": "x"}])
    attempt("an unknown mount option", rootfs=[None, {"type": "tmpfs", "source": "x", "options": ["nonsense=1"]}])
    attempt("an unknown scheme", stdout="foo:///x")
    attempt("a missing stdout", stdio="out", stdout="/nonexistent/out")
    attempt("a missing stderr", stdio="out", stderr="/nonexistent/err")
    s.left_over()
    s.events()


@scenario
def create_deadline(s):
    """Nobody reads stdout. The deadline leaves the runtime many times what it needs on this machine."""
    u = s.task(container="quick")
    begin = time.monotonic()
    s.create(u)
    seconds = 1 + 10 * (time.monotonic() - begin)
    s.call(u, "Delete")
    s.shut_down(u)
    t = s.task(stdio="out")
    s.call(t, "Create", timeout_nano=int(seconds * 1e9), **t.create_request())
    s.call(t, "State")
    s.delete_action(t)
    s.left_over()
    s.shut_down(t)
    s.events()


def unwilling(s, verb, message):
    """Options for a runtime that refuses this verb as long as the file `unwilling` is there."""
    refuses = os.path.join(s.world.dir, "unwilling")
    open(refuses, "w").close()
    entry = '{"level":"error","msg":"%s","time":"2026-01-01T00:00:00Z"}' % message
    return s.world.options(binary_name=s.world.script("unwilling-" + verb, f"""
case " $* " in *" --force "*) ;; *" {verb} "*)
    if [ -e {refuses} ]; then
        echo '{entry}' >> "$(echo "$*" | sed 's/.*--log \\([^ ]*\\).*/\\1/')"
        echo '{message}' >&2
        exit 1
    fi;; esac
exec {s.world.runtime} "$@" """))


@scenario
def start_failure(s):
    """The runtime's start fails; the container stays created."""
    t = s.task(opts=unwilling(s, "start", "not today"))
    s.create(t)
    s.call(t, "Start")
    s.call(t, "State")
    os.unlink(os.path.join(s.world.dir, "unwilling"))
    s.call(t, "Start")
    s.call(t, "Kill", signal=9)
    s.call(t, "Wait")
    s.call(t, "Delete")
    s.shut_down(t)
    s.events()


@scenario
def delete_failure(s):
    """The runtime's delete fails: the container stays, its rootfs does not."""
    t = s.task(["true"], opts=unwilling(s, "delete", "not today"))
    s.create(t)
    s.call(t, "Start")
    s.call(t, "Wait")
    s.call(t, "Delete")
    s.call(t, "State")
    s.say("mounts", len(s.world.mounts()))
    os.unlink(os.path.join(s.world.dir, "unwilling"))
    s.call(t, "Delete")
    s.shut_down(t)
    s.events()


@scenario
def kill_failure(s):
    t = s.task(opts=unwilling(s, "kill", "not today"))
    s.create(t)
    s.call(t, "Start")
    s.call(t, "Kill", signal=9, all=True)
    s.call(t, "State")
    os.unlink(os.path.join(s.world.dir, "unwilling"))
    s.call(t, "Kill", signal=9, all=True)
    s.call(t, "Wait")
    s.call(t, "Delete")
    s.shut_down(t)
    s.events()


@scenario
def what_the_runtime_forgot(s):
    """`does not exist` is NotFound in Kill, and no error in Delete."""
    t = s.task(opts=unwilling(s, "kill", "container does not exist"))
    s.create(t)
    s.call(t, "Kill", signal=9, all=True)
    s.call(t, "Start")
    os.unlink(os.path.join(s.world.dir, "unwilling"))
    s.call(t, "Kill", signal=9)
    s.call(t, "Wait")
    s.call(t, "Delete")
    s.shut_down(t)
    t = s.task(["true"], container="c2", opts=unwilling(s, "delete", "container does not exist"))
    s.create(t)
    s.call(t, "Start")
    s.call(t, "Wait")
    s.call(t, "Delete")
    s.shut_down(t)
    s.delete_action(t)
    s.events()


# ---- exec -----------------------------------------------------------------------------------------------


@scenario
def exec_life(s):
    t = s.task()
    s.create(t)
    s.call(t, "Start")
    paths = [s.world.fifo("e1-" + n) for n in ("in", "out", "err")]
    out, err = s.world.reader(paths[1]), s.world.reader(paths[2])
    s.exec(t, "e1", ["sh", "-c", "cat; echo err >&2; exit 9"], stdio=paths)
    s.call(t, "State", exec_id="e1")
    s.call(t, "Start", exec_id="e1")
    s.call(t, "State", exec_id="e1")
    s.call(t, "State")
    s.call(t, "ResizePty", exec_id="e1", width=80, height=25)
    stdin = s.world.writer(paths[0])
    stdin.write(b"hello\n")
    s.say("output", out.until(b"hello\n"))
    s.call(t, "Pids")  # three: the init, the shell, its cat
    stdin.close()
    s.call(t, "CloseIO", exec_id="e1", stdin=True)
    s.say("output", *read_all(out, err))
    s.call(t, "Wait", exec_id="e1")
    s.call(t, "State", exec_id="e1")
    s.call(t, "Kill", exec_id="e1", signal=9)
    s.call(t, "Start", exec_id="e1")
    s.call(t, "ResizePty", exec_id="e1", width=80, height=25)
    s.call(t, "CloseIO", exec_id="e1", stdin=True)
    s.call(t, "Delete", exec_id="e1")
    s.call(t, "State", exec_id="e1")
    s.reap(t)
    s.shut_down(t)
    s.events()


@scenario
def exec_refusals(s):
    t = s.task()
    s.exec(t, "e1", ["true"])
    s.create(t)
    s.exec(t, "early", ["sleep", "1000"])
    s.call(t, "State", exec_id="early")
    s.call(t, "Kill", exec_id="early", signal=9)
    s.call(t, "ResizePty", exec_id="early", width=1, height=1)
    s.call(t, "CloseIO", exec_id="early")
    s.call(t, "Delete", exec_id="early")
    s.call(t, "Start")
    s.exec(t, "e1", ["sleep", "1000"])
    s.exec(t, "e1", ["sleep", "1000"])
    s.call(t, "Start", exec_id="e1")
    s.call(t, "Delete", exec_id="e1")
    s.call(t, "Kill", exec_id="e1", signal=99)
    s.call(t, "Kill", exec_id="e1", signal=9)
    s.call(t, "Wait", exec_id="e1")
    s.call(t, "Delete", exec_id="e1")
    s.call(t, "Delete", exec_id="e1")
    s.exec(t, "e1", ["true"])  # the id is free again
    s.call(t, "Delete", exec_id="e1")
    s.exec(t, "late", ["true"])
    s.call(t, "Kill", signal=9)
    s.call(t, "Wait")
    s.exec(t, "later", ["true"])
    s.call(t, "Start", exec_id="late")
    s.call(t, "State", exec_id="late")
    s.call(t, "Delete", exec_id="late")
    s.call(t, "Delete")
    s.shut_down(t)
    s.events()


@scenario
def exec_failures(s):
    t = s.task()
    s.create(t)
    s.call(t, "Start")
    for number, (args, process) in enumerate(((["/nonexistent"], {}), (["nonexistent"], {}), (["/etc"], {}),
                                              (["true"], {"cwd": "/nonexistent"}))):
        exec_id = f"e{number}"
        s.exec(t, exec_id, args, **process)
        s.call(t, "Start", exec_id=exec_id)
        s.call(t, "State", exec_id=exec_id)
        s.call(t, "Wait", exec_id=exec_id)
        s.call(t, "Delete", exec_id=exec_id)
    s.call(t, "Exec", exec_id="bad", spec=pack("x", None, b"not json"), own_words=True)
    s.call(t, "Start", exec_id="bad")
    s.exec(t, "fifo", ["true"], stdio=("", "/nonexistent/out", "/nonexistent/err"))
    s.call(t, "Start", exec_id="fifo")
    s.call(t, "Delete", exec_id="fifo")
    s.call(t, "State")
    s.reap(t)
    s.shut_down(t)
    s.events()


@scenario
def exec_exits(s):
    """Execs end before the init is told to have ended, in whatever order they really do."""
    t = s.task()
    s.create(t)
    s.call(t, "Start")
    for status in (0, 5):
        s.exec(t, f"e{status}", ["sh", "-c", f"exit {status}"])
        s.call(t, "Start", exec_id=f"e{status}")
        s.call(t, "Wait", exec_id=f"e{status}")
    s.exec(t, "long", ["sleep", "1000"])
    s.call(t, "Start", exec_id="long")
    s.call(t, "Kill", signal=9)
    s.call(t, "Wait")
    s.call(t, "Wait", exec_id="long")
    for exec_id in ("e0", "e5", "long"):
        s.call(t, "Delete", exec_id=exec_id)
    s.call(t, "Delete")
    s.shut_down(t)
    s.events()


@scenario
def exec_left_at_delete(s):
    """Delete of the container does not ask for its execs."""
    t = s.task()
    s.create(t)
    s.call(t, "Start")
    s.exec(t, "never", ["true"])
    s.exec(t, "done", ["true"])
    s.call(t, "Start", exec_id="done")
    s.call(t, "Wait", exec_id="done")
    s.call(t, "Kill", signal=9, all=True)
    s.call(t, "Wait")
    s.call(t, "Delete")
    s.call(t, "State", exec_id="done")
    s.files(t)
    s.shut_down(t)
    s.events()


# ---- pause, resume, update, stats, checkpoint -------------------------------------------------------------


@scenario
def pause(s):
    t = s.task()
    s.create(t)
    s.call(t, "Pause")
    s.call(t, "Resume")
    s.call(t, "Start")
    s.call(t, "Resume")
    s.exec(t, "e1", ["sleep", "1000"])
    s.call(t, "Start", exec_id="e1")
    s.call(t, "Pause")
    s.call(t, "State")
    s.call(t, "State", exec_id="e1")
    s.call(t, "Pids")
    s.call(t, "Pause")
    s.call(t, "Start")
    s.call(t, "Delete")
    s.exec(t, "e2", ["true"])
    s.call(t, "Resume")
    s.call(t, "State")
    s.call(t, "State", exec_id="e1")
    s.call(t, "Kill", exec_id="e1", signal=9)
    s.call(t, "Wait", exec_id="e1")
    s.call(t, "Delete", exec_id="e1")
    s.call(t, "Kill", signal=9)
    s.call(t, "Wait")
    s.call(t, "Pause")
    s.call(t, "Resume")
    s.call(t, "Delete")
    s.shut_down(t)
    s.events()


@scenario
def paused_and_killed(s):
    t = s.task()
    s.create(t)
    s.call(t, "Start")
    s.call(t, "Pause")
    s.call(t, "Kill", signal=9)
    s.call(t, "Wait")
    s.call(t, "Resume")
    s.call(t, "State")
    s.call(t, "Delete")
    s.shut_down(t)
    s.events()


@scenario
def update(s):
    t = s.task(memory=64 << 20)
    limit = json_any("LinuxResources", {"memory": {"limit": 32 << 20}})
    s.create(t)
    s.call(t, "Update", resources=limit)
    s.call(t, "Start")
    s.call(t, "Update", resources=json_any("LinuxResources", {"memory": {"limit": 48 << 20}}))
    path = f"/sys/fs/cgroup/memory/{s.world.namespace}/c1/memory.limit_in_bytes"
    if os.path.exists(path):
        s.say("limit", shim.read_file(path))
    s.call(t, "Update", resources=json_any("LinuxResources", {"memory": {"limit": 1}}))
    s.call(t, "Update", resources=pack("x", None, b"not json"), own_words=True)
    s.call(t, "Kill", signal=9)
    s.call(t, "Wait")
    s.call(t, "Update", resources=limit)
    s.call(t, "Delete")
    s.shut_down(t)
    s.events()


# What of the metrics is there on every host and cannot be zero in `stats` below, by field numbers.
METRICS = {
    "io.containerd.cgroups.v1.Metrics": {
        "2": "pids", "2.1": "pids.current", "3": "cpu", "3.1": "cpu.usage", "3.1.1": "cpu.usage.total",
        "3.1.4": "cpu.usage.per_cpu", "3.2": "cpu.throttling", "4": "memory", "4.2": "memory.rss",
        "4.9": "memory.pgfault",
        "4.16": "memory.hierarchical_memory_limit", "4.19": "memory.total_rss", "4.33": "memory.usage",
        "4.33.1": "memory.usage.limit", "4.33.2": "memory.usage.usage", "4.33.3": "memory.usage.max", "5": "blkio",
        "9": "memory_oom_control"},
    "io.containerd.cgroups.v2.Metrics": {
        "1": "pids", "1.1": "pids.current", "2": "cpu", "2.1": "cpu.usage_usec", "4": "memory", "4.1": "memory.anon",
        "4.18": "memory.pgfault", "4.32": "memory.usage", "4.33": "memory.usage_limit", "8": "memory_events"},
}


def field_numbers(data, prefix="", depth=3):
    """The numbers of all fields of a message and of its sub-messages: "3", "3.1"..."""
    found, at = set(), 0
    while at < len(data):
        tag, at = read_varint(data, at)
        found.add(f"{prefix}{tag >> 3}")
        if tag & 7 == 0:
            _, at = read_varint(data, at)
        elif tag & 7 == 2:
            size, at = read_varint(data, at)
            try:
                if depth > 1:
                    found |= field_numbers(data[at:at + size], f"{prefix}{tag >> 3}.", depth - 1)
            except Malformed:
                pass  # text
            at += size
        elif tag & 7 == 1:
            at += 8
        else:
            raise Malformed(f"wire type {tag & 7}")
    return found


@scenario
def stats(s):
    t = s.task(["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo ready; sleep 1000"], stdio="out",
               memory=64 << 20)
    s.call(t, "Stats")
    t.out, t.err = t.open_stdout(), t.open_stderr()
    s.create(t)
    s.say("type in created", t.call("Stats")["stats"]["type_url"])
    s.call(t, "Start")
    t.out.until(b"ready\n")
    reply = t.call("Stats")["stats"]
    s.say("type", reply["type_url"])
    present = field_numbers(reply["value"])
    for number, name in METRICS[reply["type_url"]].items():
        s.say("field", name, number in present)
    s.call(t, "Kill", signal=9)
    s.call(t, "Wait")
    t.out.all(), t.err.all()
    s.call(t, "Delete")
    s.call(t, "Stats")
    s.shut_down(t)
    s.events()


@scenario
def checkpoint_refusals(s):
    t = s.task()
    s.create(t)
    path = os.path.join(s.world.dir, "image")
    s.call(t, "Checkpoint", path=path)
    s.call(t, "Kill", signal=9)
    s.call(t, "Wait")
    s.call(t, "Checkpoint", path=path)
    s.call(t, "Delete")
    s.shut_down(t)
    s.events()


@scenario
def restore_refusals(s):
    """With a checkpoint Create runs nothing; Start fails where there is no image."""
    t = s.task()
    s.create(t, checkpoint=os.path.join(s.world.dir, "no-image"))
    s.call(t, "State")
    for method in ("Pause", "Resume", "Checkpoint"):
        s.call(t, method)
    s.exec(t, "e1", ["true"])
    s.call(t, "Delete")
    s.call(t, "State")
    s.left_over()
    s.shut_down(t)
    s.events()


# ---- terminals --------------------------------------------------------------------------------------------


@scenario
def terminal(s):
    t = s.task(["sh", "-c", "stty size; read x; stty size; read x; echo you said $x; exit 6"],
               stdio=("stdin", "stdout"), terminal=True)
    t.out = t.open_stdout()
    s.create(t)
    s.call(t, "ResizePty", width=100, height=40)
    s.call(t, "Start")
    s.call(t, "State")
    t.out.until(b"40 100\r\n")
    s.call(t, "ResizePty", width=120, height=50)
    stdin = t.open_stdin()
    stdin.write(b"\n")
    t.out.until(b"50 120\r\n")
    stdin.write(b"hello\n")
    s.say("output", t.out.all())
    s.call(t, "Wait")
    s.call(t, "ResizePty", width=1, height=1)
    s.call(t, "Delete")
    s.shut_down(t)
    s.left_over()
    s.events()


@scenario
def terminal_of_an_exec(s):
    t = s.task()
    s.create(t)
    s.call(t, "Start")
    stdin, stdout = s.world.fifo("e1-in"), s.world.fifo("e1-out")
    out = s.world.reader(stdout)
    s.exec(t, "e1", ["sh", "-c", "tty >/dev/null && echo a terminal; read x; echo you said $x"],
           stdio=(stdin, stdout, ""), terminal=True)
    s.call(t, "Start", exec_id="e1")
    s.call(t, "State", exec_id="e1")
    s.call(t, "ResizePty", exec_id="e1", width=100, height=40)
    out.until(b"a terminal\r\n")
    s.world.writer(stdin).write(b"hello\n")
    s.say("output", out.all())
    s.call(t, "Wait", exec_id="e1")
    s.call(t, "ResizePty", exec_id="e1", width=1, height=1)
    s.call(t, "Delete", exec_id="e1")
    s.reap(t)
    s.shut_down(t)
    s.events()


@scenario
def terminal_hang_up(s):
    """When stdin ends the terminal is closed, and the shell gets SIGHUP."""
    t = s.task(["sh", "-c", "trap 'exit 8' HUP; echo ready; while :; do sleep 0.05; done"], stdio=("stdin", "stdout"),
               terminal=True)
    t.out = t.open_stdout()
    s.create(t)
    s.call(t, "Start")
    t.out.until(b"ready\r\n")
    stdin = t.open_stdin()
    s.call(t, "CloseIO", stdin=True)
    stdin.close()
    s.call(t, "Wait")
    s.call(t, "Delete")
    s.shut_down(t)
    s.events()


@scenario
def resize_without_a_terminal(s):
    t = s.task()
    s.create(t)
    s.call(t, "ResizePty", width=1, height=1)
    s.call(t, "Start")
    s.call(t, "ResizePty", width=1, height=1)
    s.call(t, "Kill", signal=9)
    s.call(t, "Wait")
    s.call(t, "ResizePty", width=1, height=1)
    s.call(t, "Delete")
    s.shut_down(t)


# ---- other streams ----------------------------------------------------------------------------------------


@scenario
def file_streams(s):
    """A file of its own for each stream: of one file for both the Go shim may lose a part."""
    for name, scheme in (("plain", ""), ("url", "file://")):
        paths = [os.path.join(s.world.dir, f"{name}-{n}") for n in ("out", "err")]
        script = "echo out" if scheme else "echo out; echo err >&2"
        if not scheme:
            for path in paths:
                with open(path, "w") as f:
                    f.write("before\n")
        t = s.task(["sh", "-c", script], container=name)
        s.create(t, stdout=scheme + paths[0], stderr=scheme + paths[1])
        s.call(t, "Start")
        s.call(t, "Wait")
        s.call(t, "Delete")
        s.shut_down(t)
        for path in paths:
            s.say("file", path, repr(shim.read_file(path, "none")), oct(os.stat(path).st_mode) if os.path.exists(path) else "")
    s.events()


@scenario
def logger_streams(s):
    result = os.path.join(s.world.dir, "logged")
    logger = s.world.script("logger", f"""trap '' TERM
exec 5>&-
echo "$CONTAINER_ID $CONTAINER_NAMESPACE $1=$2" > {result}
cat <&3 >> {result}
cat <&4 >> {result}
echo end >> {result}""")
    t = s.task(["sh", "-c", "echo out; echo err >&2"])
    s.create(t, stdout=f"binary://{logger}?key=some%20value", stderr=f"binary://{logger}")
    s.call(t, "Start")
    s.call(t, "Wait")
    s.call(t, "State")
    s.call(t, "Delete")
    until(lambda: "end" in shim.read_file(result), "the logger to end")
    s.say("logged", shim.read_file(result).splitlines())
    s.shut_down(t)
    s.events()


@scenario
def out_of_memory(s):
    t = s.task(["sh", "-c", "read x; tail /dev/zero; echo $?; read x; exit 5"], stdio="all", memory=8 << 20)
    t.bundle.config["linux"]["resources"]["memory"]["swap"] = 8 << 20
    t.bundle.write_config(t.bundle.config)
    t.run()
    stdin = t.open_stdin()
    stdin.write(b"\n")
    oom = s.world.events.wait_for(lambda seen: [e for e in seen if e.topic == "/tasks/oom"], "TaskOOM")[0]
    s.say(f"event {oom.topic} {oom.type}", s.message(oom.fields))
    stdin.write(b"\n")
    s.call(t, "Wait")
    s.say("output", *read_all(t.out, t.err))
    s.call(t, "Delete")
    s.shut_down(t)
    s.events()


# ---- running --------------------------------------------------------------------------------------------


def play(name, binary):
    """The lines of one scenario."""
    s = Transcript(binary)
    try:
        SCENARIOS[name](s)
    except Exception as e:
        s.say(f"the scenario broke: {type(e).__name__}: {e}")
    finally:
        leaks = s.world.close()
        for leak in leaks:
            s.say("left behind:", leak)
    return s.lines


def main():
    shim.make_room_for_crun()
    for name in sys.argv[1:] or SCENARIOS:
        print(f"== {name}")
        print("\n".join(play(name, shim.SHIM)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
