#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""test_faults.py - the daemon among runtimes, clients, loggers and machines that misbehave.

The runtime is the fake one (runtime.c), except where a real container is what the test is about.
"""

import mmap
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../shim/client"))

from shim import CREATED, PAUSED, REPO, RUNNING, STOPPED, alive, children, fds, json_any, until  # noqa: E402
from tap import Skip, check, contains, equal, long, main, takes, test, within  # noqa: E402
from ttrpc import DEADLINE_EXCEEDED, INVALID_ARGUMENT, PATIENCE, UNKNOWN, RpcError  # noqa: E402

FAKE = os.path.join(REPO, "build/test/fake-runtime")
GROUP = {"io.kubernetes.cri.sandbox-id": "pod"}
SHORT = 300 * 10**6  # of a request that is to end by its deadline, in ns


def fake(w, words="", container="c1", *, pid="host", **more):
    """A task whose runtime is the fake one, told to behave like this."""
    w.runtime = FAKE
    return w.task(container=container, pid=pid, annotations={**GROUP, "test": "fake: " + words}, **more)


def tell(t, words):
    """Its runtime behaves like this from now on."""
    t.bundle.config["annotations"]["test"] = "fake: " + words
    t.bundle.write_config(t.bundle.config)


def add_exec(t, exec_id, words="", **more):
    t.exec(exec_id, ["x"], env=["X=fake: " + words], **more)


def run_exec(t, exec_id, status=5):
    """A whole exec."""
    add_exec(t, exec_id, f"run=0 exit={status}")
    wait = t.send("Wait", exec_id=exec_id)
    t.start(exec_id=exec_id)
    equal(wait.result()["exit_status"], status, "status of an exec")
    t.delete(exec_id=exec_id)


def end(t, **which):
    """Kill, Wait, Delete: the rest of a normal life."""
    t.kill(**which)
    equal(t.wait(**which)["exit_status"], 137, "status")
    t.delete(**which)


def life(w, container):
    """A whole life in which nothing goes wrong."""
    t = fake(w, container=container).run()
    run_exec(t, "e")
    end(t)
    t.events("create", "start", "exec-added", "exec-started", "exit", "exit", "delete")


UPDATE = {"resources": json_any("LinuxResources", {})}

# ---- runtimes -------------------------------------------------------------------------------------


def recent(stamp):
    """A time within the last minutes."""
    return abs(stamp["seconds"] - time.time()) < 300


def beside(pid, others):
    """Those of them that are in its process group."""
    def group(other):
        try:
            return os.getpgid(other)
        except ProcessLookupError:
            return None
    return [other for other in others if other != pid and group(other) == os.getpgid(pid)]


@test
def an_exec_that_is_made_while_init_ends(w):
    """The processes of the container have been killed already when the runtime makes one more."""
    t = fake(w, "exit=3").run()
    add_exec(t, "e", "exec.between=500000")
    start, wait, init = t.send("Start", exec_id="e"), t.send("Wait", exec_id="e"), t.send("Wait")
    until(lambda: beside(t.pid, w.processes()), "the runtime to be in the container")
    os.kill(t.pid, 9)
    equal(init.result()["exit_status"], 137, "status of init")
    start.result()
    equal(wait.result()["exit_status"], 137, "status of the exec")
    check(recent(wait.result()["exited_at"]), "it has a time of its own")
    t.delete()
    t.events("create", "start", "exec-added", "exec-started", "exit", "exit", "delete")


@test
def a_runtime_that_cannot_kill_what_is_left(w):
    """The daemon does it itself, as far as the processes are its children."""
    t = fake(w, "kill.fail=1").run()
    add_exec(t, "e")
    t.start(exec_id="e")
    os.kill(t.pid, 9)
    equal(t.wait()["exit_status"], 137, "status of init")
    t.delete()
    t.events("create", "start", "exec-added", "exec-started", "exit", "exit", "delete")


@test
@long(10)
def a_runtime_that_hangs_while_it_kills_what_is_left(w):
    t = fake(w, "kill.stop=1").run()
    os.kill(t.pid, 9)
    equal(t.wait()["exit_status"], 137, "status of init")
    t.delete()


def deleted_before_it_ran(w, words):
    """The runtime's delete leaves processes behind; every one that was started has its exit told."""
    t = fake(w, words, container=f"c{len(w.tasks)}")
    t.create()
    add_exec(t, "e")
    t.start(exec_id="e")
    wait = t.send("Wait", exec_id="e")

    def deletion():
        t.delete()
        equal(wait.result()["exit_status"], 137, "status of the exec")
        check(recent(wait.result()["exited_at"]), "it has a time of its own")
        t.events("create", "exec-added", "exec-started", "exit", "exit", "delete")
        ids = [e["id"] for e in w.events.events if e.topic == "/tasks/exit" and e.id == t.id]
        equal(ids, ["e", t.id], "whose exits")
        until(lambda: not alive(t.pid), "init to go")
    return deletion


@test
def a_delete_that_leaves_execs_running(w):
    """Init ends when the runtime knows nothing of the container any more. Nobody waits for what can be killed."""
    within(10, "an unseen exit's", "Delete", lambda: deleted_before_it_ran(w, "delete.late=300000"))


@test
@long(12)
def a_delete_that_leaves_all_running(w):
    """It is waited for."""
    begin = time.monotonic()
    deleted_before_it_ran(w, "delete.late=12000000")()
    check(time.monotonic() - begin > 9.9, "the daemon has waited")


@test
@long(10)
def a_runtime_that_hangs_while_a_create_is_undone(w):
    """The client has its answer all the same, and the next Create its chance."""
    t = fake(w, "create.fail=1 delete.stop=1")
    code, text = t.create_send().error()
    equal(code, UNKNOWN, "code")
    contains(text, "create refused", "error")
    tell(t, "")
    t.run()
    end(t)


@test
def stopped_runtimes_end_with_the_deadline(w):
    """SIGSTOP, in each verb; afterwards all goes on as if it had never been asked."""
    t = fake(w, "create.stop=1")
    equal(t.create_send(timeout_nano=SHORT).error()[0], DEADLINE_EXCEEDED, "Create")
    tell(t, "")
    t.create()
    for verb, method, more, state in (("start", "Start", {}, CREATED), ("", "Start", {}, 0),
                                      ("pause", "Pause", {}, RUNNING), ("update", "Update", UPDATE, RUNNING),
                                      ("kill", "Kill", {"signal": 9}, RUNNING),
                                      ("checkpoint", "Checkpoint", {"path": w.dir + "/image"}, RUNNING)):
        tell(t, f"{verb}.stop=1")
        if not verb:
            t.call(method)
            continue
        equal(t.error(method, timeout_nano=SHORT, **more)[0], DEADLINE_EXCEEDED, method)
        equal(t.state()["status"], state, f"State after {method}")
    add_exec(t, "e", "exec.stop=1")
    equal(t.error("Start", exec_id="e", timeout_nano=SHORT)[0], DEADLINE_EXCEEDED, "Start of an exec")
    t.delete(exec_id="e")
    tell(t, "delete.stop=1")
    t.kill()
    t.wait()
    equal(t.error("Delete", timeout_nano=SHORT)[0], DEADLINE_EXCEEDED, "Delete")
    equal(t.state()["status"], STOPPED, "State")
    tell(t, "")
    t.delete()
    equal(children(t.daemon()), [], "children of the daemon")


@test
def failing_runtimes_change_nothing(w):
    """Each verb fails in each way: the client gets a reason it can read, and the container goes on."""
    t = fake(w)
    ways = ("fail=1", "fail=255", "signal=9", "signal=11", "fail=1 VERB.log=none", "fail=1 VERB.log=torn",
            "fail=1 VERB.log=garbage", "fail=1 VERB.log=long", "noise=3000000 VERB.fail=1")
    injected = 0

    def fails(verb, call, way):
        nonlocal injected
        tell(t, f"{verb}.{way}".replace("VERB", verb))
        code, text = call().error()
        tell(t, "")
        injected += 1
        equal(code, UNKNOWN, f"{verb} {way}: code of {text!r}")
        check(10 < len(text) < 20000, f"{verb} {way}: a reason, not {text!r}")
        if way in ("fail=1", "fail=255"):
            contains(text, f"{verb} refused", f"{verb} {way}")
    for way in ways:
        fails("create", t.create_send, way)
    t.create()
    for way in ways:
        fails("start", lambda: t.send("Start"), way)
    t.start()
    for way in ways:
        fails("pause", lambda: t.send("Pause"), way)
        fails("update", lambda: t.send("Update", **UPDATE), way)
        fails("kill", lambda: t.send("Kill", signal=9), way)
        fails("checkpoint", lambda: t.send("Checkpoint", path=w.dir + "/image"), way)
    t.call("Pause")
    for way in ways:
        fails("resume", lambda: t.send("Resume"), way)
    t.call("Resume")
    for number, way in enumerate(ways):
        add_exec(t, f"e{number}", f"exec.{way}".replace("VERB", "exec"))
        equal(t.error("Start", exec_id=f"e{number}")[0], UNKNOWN, f"exec {way}")
        equal(t.wait(exec_id=f"e{number}")["exit_status"], 0, "Wait of an exec that never ran")
        t.delete(exec_id=f"e{number}")
    equal(t.state()["status"], RUNNING, "State")
    run_exec(t, "good")
    t.kill()
    t.wait()
    for way in ways:
        fails("delete", lambda: t.send("Delete"), way)
    t.delete()
    print(f"# {injected + len(ways)} failures of the runtime")


@test
def runtimes_that_die_when_all_is_done(w):
    """Their work is done, but they do not say so: what they made goes again."""
    t = fake(w, "create.die=9")
    equal(t.create_send().error()[0], UNKNOWN, "Create")
    equal(list(w.left_over_of_containers()), [], "left over")
    tell(t, "")
    t.create()
    tell(t, "start.die=9")
    equal(t.error("Start")[0], UNKNOWN, "Start")
    tell(t, "")
    end(t)
    check(not w.cgroup_processes(), "no process")


BAD_PID_FILES = "none", "garbage", "empty", "1"


@test
def bad_pid_files(w):
    for number, kind in enumerate(BAD_PID_FILES):
        t = fake(w, f"pid={kind}", container=f"c{number}")
        code, text = t.create_send().error()
        equal(code, UNKNOWN, f"{kind}: code of {text!r}")
        contains(text, "init.pid", kind)
        until(lambda: children(t.daemon()) == [], f"{kind}: nothing to be left running")
        equal(t.events(), [], "events")
    keep = fake(w, container="keep").run()
    for kind in BAD_PID_FILES:
        add_exec(keep, kind, f"run=1000000 pid={kind}")
        equal(keep.error("Start", exec_id=kind)[0], UNKNOWN, kind)
        keep.delete(exec_id=kind)
    end(keep)


@test
def pid_files_that_come_too_late(w):
    """On a busy machine they come in time: once more, then."""
    def created_too_late():
        t = fake(w, "pid=late", container=f"c{len(w.tasks)}")
        try:
            t.create()
        except RpcError as e:
            equal(e.code, UNKNOWN, f"code of {e.text!r}")
            contains(e.text, "init.pid", "text")
            until(lambda: children(t.daemon()) == [], "nothing to be left running")
            equal(t.events(), [], "events")
            return True
        t.delete()
        return False

    def started_too_late():
        add_exec(keep, "e", "pid=late")
        try:
            keep.start(exec_id="e")
        except RpcError as e:
            equal(e.code, UNKNOWN, f"code of {e.text!r}")
            keep.delete(exec_id="e")
            return True
        end(keep, exec_id="e")
        return False
    until(created_too_late, "a Create to fail")
    keep = fake(w, container="keep").run()
    until(started_too_late, "a Start to fail")
    end(keep)


@test
def runtimes_that_leak_their_descriptors(w):
    """Somebody still holds what they were given, but they have ended: that is what counts."""
    hour = 3600 * 10**6
    t = fake(w, " ".join(f"{verb}.leak={hour}" for verb in ("start", "pause", "kill", "delete")))
    t.create()
    t.start()
    t.call("Pause")
    t.call("Resume")
    t.call("Kill", signal=9, all=True)
    equal(t.wait()["exit_status"], 137, "status")
    t.delete()
    tell(t, "")
    holders = children(t.daemon())
    check(len(holders) >= 4, f"who still holds them: {holders}")
    for pid in holders:
        os.kill(pid, signal.SIGKILL)


@test
def two_hundred_execs_at_once(w):
    """All in flight on one connection, each with a Wait from before its start."""
    t = fake(w).run()
    names = [f"e{n}" for n in range(200)]
    for n, name in enumerate(names):
        add_exec(t, name, f"run={n * 100} exit={n}")
    waits = [t.send("Wait", exec_id=name) for name in names]
    for call in [t.send("Start", exec_id=name) for name in names]:
        call.result()
    equal([x.result()["exit_status"] for x in waits], list(range(200)), "statuses")
    for call in [t.send("Delete", exec_id=name) for name in names]:
        call.result()
    end(t)
    w.events.wait_for(lambda seen: seen and seen[-1].topic == "/tasks/delete", "the last event")
    exits = [e["exit_status"] for e in w.events.events if e.topic == "/tasks/exit"]
    equal(sorted(exits), sorted([*range(200), 137]), "statuses in the events")


# ---- clients ---------------------------------------------------------------------------------------


@test
def clients_that_go_after_each_request(w):
    """As if containerd were killed at every step: what was asked for is done, and nothing twice."""
    t = fake(w, "create.wait=50000 start.wait=50000 kill.wait=50000 delete.wait=50000")

    def ask_and_go(send, done, what):
        send()
        t.conn.close()
        t.connect()
        until(done, what)

    def status(wanted, **more):
        def reached():
            try:
                return t.state(**more)["status"] == wanted
            except RpcError:
                return wanted == 0
        return reached
    ask_and_go(t.create_send, status(CREATED), "Create")
    ask_and_go(lambda: t.send("Start"), status(RUNNING), "Start")
    spec = json_any("Process", {"args": ["x"], "cwd": "/", "env": ["X=fake: exec.wait=50000 run=100000 exit=6"]})
    ask_and_go(lambda: t.send("Exec", exec_id="e", spec=spec), status(CREATED, exec_id="e"), "Exec")
    ask_and_go(lambda: t.send("Start", exec_id="e"), status(STOPPED, exec_id="e"), "Start of an exec")
    ask_and_go(lambda: t.send("Wait"), status(RUNNING), "Wait")
    ask_and_go(lambda: t.send("Pause"), status(PAUSED), "Pause")
    ask_and_go(lambda: t.send("Resume"), status(RUNNING), "Resume")
    ask_and_go(lambda: t.send("Kill", signal=9), status(STOPPED), "Kill")
    equal(t.wait(exec_id="e")["exit_status"], 6, "status of the exec")
    ask_and_go(lambda: t.send("Delete"), status(0), "Delete")
    t.events("create", "start", "exec-added", "exec-started", "exit", "paused", "resumed", "exit", "delete")
    until(lambda: children(t.daemon()) == [], "no child")


def connected(w, path):
    try:
        return w.connect(path, deaf=True)
    except BlockingIOError:
        return None


@test
def seven_hundred_connections(w):
    """More than the daemon has room for: the others are closed, and those it has go on."""
    t = fake(w).run()
    before = len(fds(t.daemon()))
    conns = []
    for _ in range(700):
        conns.append(until(lambda: connected(w, t.address), "room in the backlog"))
    t.state()
    run_exec(t, "e")
    for conn in conns:
        conn.sock.close()
    until(lambda: len(fds(t.daemon())) <= before + 1, "their descriptors to be closed")
    t.connect()
    end(t)


# ---- loggers ----------------------------------------------------------------------------------------


def logged(w, body, **more):
    """A task that writes to a logging binary."""
    t = fake(w, **more)
    t.stdout = t.stderr = "binary-v2://" + w.script(f"logger-{len(os.listdir(w.dir + '/bin'))}", body)
    return t


@test
def a_logger_that_is_never_ready(w):
    t = logged(w, "exec sleep 1000")
    equal(t.create_send(timeout_nano=SHORT).error()[0], DEADLINE_EXCEEDED, "Create")
    until(lambda: children(t.daemon()) == [], "the logger to be ended")
    life(w, "c2")


@test
def a_logger_that_dies_at_once(w):
    t = logged(w, "kill -9 $$")
    code, text = t.create_send().error()
    equal(code, UNKNOWN, "code")
    contains(text, "logging binary did not call ready", "error")
    life(w, "c2")


@test
def a_logger_that_dies_later(w):
    t = logged(w, "echo ready >&5; exec 5>&-; kill -9 $$")
    t.create()
    t.start()
    equal(t.state()["status"], RUNNING, "State")
    run_exec(t, "e")
    end(t)


@test
def a_logger_that_goes_when_it_is_asked(w):
    asked = os.path.join(w.dir, "asked")
    t = logged(w, f"trap ': >{asked}; exit' TERM; echo ready >&5; exec 5>&-; while :; do sleep 0.05; done")
    t.create()
    t.start()
    t.kill()
    equal(t.wait()["exit_status"], 137, "status")
    check(not os.path.exists(asked), "nobody has asked it yet")
    t.delete()
    check(os.path.exists(asked), "Delete has asked it")


@test
@long(12)
def a_logger_that_never_reads_and_never_ends(w):
    """Delete asks it to go, waits, and then sees to it."""
    t = logged(w, "trap '' TERM; echo ready >&5; exec 5>&-; while :; do sleep 1; done")
    t.create()
    t.start()
    t.kill()
    equal(t.wait()["exit_status"], 137, "status")
    t.delete()


# ---- the machine -------------------------------------------------------------------------------------


@test
def a_bundle_that_is_removed_under_a_running_container(w):
    t = fake(w)
    t.create(rootfs=[])
    t.start()
    shutil.rmtree(t.bundle.path)
    equal(t.state()["status"], RUNNING, "State")
    t.kill()
    equal(t.wait()["exit_status"], 137, "status")
    t.delete()
    t.events("create", "start", "exit", "delete")


@test
def a_full_disk(w):
    """The bundles lie in a file system that is full; when there is room again all works."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", w.dir + "/b"], check=True)
    t = fake(w).run()
    other = fake(w, container="c2")
    ballast = os.open(w.dir + "/b/ballast", os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(ballast, b"x" * 4096):
            pass
    except OSError as e:
        contains(str(e), "No space left", "the end of the ballast")
    os.close(ballast)
    code, text = other.create_send().error()
    contains(text, "no space left on device", "Create")
    code, text = t.send("Exec", exec_id="e", spec=json_any("Process", {"args": ["x"], "cwd": "/"})).error()
    contains(text, "no space left on device", "Exec")
    equal(t.state()["status"], RUNNING, "State")
    os.unlink(w.dir + "/b/ballast")
    run_exec(t, "e")
    other.run()
    end(other)
    end(t)
    t.shutdown()
    subprocess.run(["umount", "-l", w.dir + "/b"], check=True)


@test
def a_full_pid_table(w):
    """No process can be made: verbs fail, what runs runs on, exits are told, and it can be killed."""
    top = "/sys/fs/cgroup/pids"
    if not os.path.exists(top + "/cgroup.procs"):
        raise Skip("no cgroup v1 hierarchy of pids")
    group = os.path.join(top, w.namespace + "-full")
    os.mkdir(group)
    w.closers.append(lambda: os.rmdir(group))
    t = fake(w).run()
    add_exec(t, "running")
    t.start(exec_id="running")
    add_exec(t, "e")

    def limit(text):
        with open(group + "/pids.max", "w") as f:
            f.write(text)
    with open(group + "/cgroup.procs", "w") as f:
        f.write(str(t.daemon()))
    w.closers.append(lambda: open(top + "/cgroup.procs", "w").write(str(t.daemon())) if alive(t.daemon()) else 0)
    limit("1")
    other = fake(w, container="c2", started=False)
    other.connect(t.address)
    for call in (t.send("Start", exec_id="e"), t.send("Kill", signal=9), t.send("Pause"), other.create_send()):
        code, text = call.error()
        equal(code, UNKNOWN, "code")
        contains(text, "resource temporarily unavailable", "error")
    equal(t.state()["status"], RUNNING, "State")
    t.kill(exec_id="running")
    equal(t.wait(exec_id="running")["exit_status"], 137, "status")
    limit("max")
    t.start(exec_id="e")
    with open(top + "/cgroup.procs", "w") as f:
        f.write(str(t.daemon()))
    end(t)
    t.shutdown()


class Faults:
    """Makes system calls of the shim fail: fault.h's page, as the test's side sees it."""

    with open(os.path.join(REPO, "test/fake/fault.h"), encoding="ascii") as source:
        NAMES = re.findall(r"^\tX\((\w+), ", source.read(), re.M)
    CALLS, FAILED = 24, 24 + 4 * 64

    def __init__(self, w):
        self.path = os.path.join(w.dir, "faults")
        os.unlink(w.shim)
        os.symlink(os.path.join(REPO, "build/test/nanoshim-faults"), w.shim)
        environ = w.environ
        w.environ = lambda **more: environ(FAULT_FILE=self.path, **more)
        with open(self.path, "w+b") as f:
            f.truncate(4096)
            self.page = mmap.mmap(f.fileno(), 4096)
        w.closers.append(self.off)

    def on(self, *names, one_in=1):
        only = sum(1 << self.NAMES.index(name) for name in names)
        self.page[0:24] = struct.pack("<IIQQ", 1, one_in, 0x9e3779b97f4a7c15, only)

    def off(self):
        self.page[0:4] = bytes(4)

    def failed(self, name):
        return struct.unpack_from("<I", self.page, self.FAILED + 4 * self.NAMES.index(name))[0]


@test
def start_up_without_a_log_or_more_descriptors(w):
    """What makes the daemon's life better is not what it cannot live without."""
    faults = Faults(w)
    faults.on("dup3", "prlimit")
    life(w, "c1")
    for name in "dup3", "prlimit":
        check(faults.failed(name) > 0, f"{name} has failed")


@test
def a_stream_to_a_logger_that_cannot_be_handed_over(w):
    """Without it the container would run, and nobody ever read what it says."""
    faults = Faults(w)
    t = logged(w, "echo ready >&5; exec 5>&-; cat <&3 >/dev/null")
    faults.on("fcntl", one_in=2)
    for _ in range(200):
        call = t.create_send()
        check(call.done.wait(PATIENCE), "an answer")
        if call.response["status"]:
            contains(call.error()[1], "too many open files", "Create")
        else:
            contains(os.readlink(f"/proc/{call.result()['pid']}/fd/1"), "pipe:", "its stdout")
            t.delete()
        if faults.failed("fcntl") > 20:
            break
    check(faults.failed("fcntl") > 20, "it has failed often")


def cannot_watch(w):
    """(a daemon that was left alone, and could not watch its bundle; what makes it fail)"""
    faults, t = Faults(w), fake(w)
    t.daemon()
    faults.on("inotify_init1", "inotify_add_watch")
    t.conn.close()
    until(lambda: faults.failed("inotify_init1") and faults.failed("inotify_add_watch"), "them to fail")
    t.connect()
    t.create(rootfs=[])
    t.start()
    return t, faults


@test
@takes(5)
def a_lonely_daemon_that_cannot_watch_its_bundle(w):
    """It serves as ever."""
    t, _ = cannot_watch(w)
    equal(t.call("Connect")["shim_pid"], t.shim_pid, "the daemon's pid")
    end(t)


@test
@long(11)
def a_lonely_daemon_that_could_not_watch_its_bundle(w):
    """When it can again, it goes as ever."""
    t, faults = cannot_watch(w)
    faults.off()
    end(t)
    shutil.rmtree(t.bundle.path)
    goes(t, leave(t))


@test
def rootfs_mounts_that_fail(w):
    """Whatever goes wrong with them, the delete action leaves nothing mounted, and then all works."""
    faults = Faults(w)
    names = "mount", "statfs", "umount2", "chdir", "fchdir"
    common = os.path.join(w.dir, "layers" + "x" * 100)
    layers = [os.path.join(common, str(n)) for n in range(40)]  # more than one page of options
    for layer in layers:
        os.makedirs(layer)
    t = fake(w)
    overlay = {"type": "overlay", "source": "overlay", "options": ["lowerdir=" + ":".join(layers)]}
    rootfs = [overlay, t.bundle.rootfs_mount()]
    outcomes = {True: 0, False: 0}
    faults.on(*names, one_in=4)
    while sum(outcomes.values()) < 1000 and not all(map(faults.failed, names)):
        call = t.create_send(rootfs=rootfs)
        check(call.done.wait(PATIENCE), "an answer")
        made = not call.response["status"]
        outcomes[made] += 1
        while made:  # Delete fails when its umount2 does
            delete = t.send("Delete")
            check(delete.done.wait(PATIENCE), "an answer")
            made = bool(delete.response["status"])
    faults.off()
    print(f"# {outcomes[True]} Creates succeeded, {outcomes[False]} failed; failures:",
          {name: faults.failed(name) for name in names})
    for name in names:
        check(faults.failed(name) > 0, f"{name} has failed")
    equal(w.delete(t.bundle).code, 0, "the delete action")
    equal(w.mounts(), [], "mounts")
    t.create(rootfs=rootfs)
    t.start()
    end(t)


# ---- a daemon that has been forgotten -------------------------------------------------------------------


def leave(t):
    """The client goes; when."""
    t.daemon()
    now = time.monotonic()
    t.conn.close()
    return now


def goes(t, left):
    """The daemon goes by itself, and gives a containerd that is just coming the time to come."""
    until(lambda: not alive(t.shim_pid), "the daemon to go by itself")
    alone_for = time.monotonic() - left
    check(alone_for > 4.9, f"it has waited for a client: {alone_for:.1f} s")
    check(not os.path.exists(t.address), "its socket is gone")


def lonely(w, container):
    """A task with a daemon of its own."""
    w.runtime = FAKE
    return w.task(container=container, pid="host")


def running(t):
    t.create(rootfs=[])
    t.start()


@test
@takes(5)
def a_daemon_that_is_needed_stays(w):
    """It outlives one that is not, and that was left alone after it."""
    unused, connected_, busy, dead, last = (lonely(w, f"c{n}") for n in range(5))
    leave(unused)  # its bundle is still there
    for t in connected_, busy, dead:
        running(t)
    end(connected_)
    dead.kill()
    dead.wait()
    for t in connected_, busy, dead, last:
        shutil.rmtree(t.bundle.path)
    leave(busy)
    leave(dead)
    connected_.daemon()
    goes(last, leave(last))
    for t in unused, connected_, busy, dead:
        check(alive(t.shim_pid), f"the daemon of {t.id} stays")
    equal(connected_.call("Connect")["shim_pid"], connected_.shim_pid, "the daemon's pid")
    busy.connect()
    equal(busy.state()["status"], RUNNING, "State")
    end(busy)
    dead.connect()
    equal(dead.delete()["exit_status"], 137, "status")
    # It has been alone for long enough now, and watches its bundle.
    os.rename(unused.bundle.path, unused.bundle.path + ".gone")  # thus containerd
    shutil.rmtree(unused.bundle.path + ".gone")
    until(lambda: not alive(unused.shim_pid), "the daemon of a container that never came to go")
    check(not os.path.exists(unused.address), "its socket is gone")


@test
@takes(5)
def a_daemon_whose_containers_are_deleted_goes_with_its_bundle(w):
    """In either order: the bundle goes before the client does, or after; or before the container."""
    before, after, early = (lonely(w, f"c{n}") for n in range(3))
    for t in before, after, early:
        running(t)
    end(before)
    shutil.rmtree(before.bundle.path)
    left = {before: leave(before)}
    end(after)
    left[after] = leave(after)
    shutil.rmtree(after.bundle.path)
    leave(early)
    shutil.rmtree(early.bundle.path)
    early.connect()
    end(early)
    left[early] = leave(early)
    for t, when in left.items():
        goes(t, when)


@test
@takes(6)
def a_client_that_comes_in_time_is_served(w):
    t = lonely(w, "c1")
    leave(t)
    shutil.rmtree(t.bundle.path)
    time.sleep(1)  # of the 5 s that the daemon waits
    t.connect()
    equal(t.call("Connect")["shim_pid"], t.shim_pid, "the daemon's pid")
    goes(t, leave(t))  # it begins to wait again


# ---- what must not get out, or in --------------------------------------------------------------------


@test
def no_descriptor_leaks_into_anybody(w):
    """Not into an init, an exec, or the runtime, which looks for itself, while many are open."""
    keep = fake(w, container="keep", stdio="all").run()
    for _ in range(20):
        keep.connect()
    lists = []
    t = fake(w, "fds=1", stdio="all")
    t.run()
    out = w.fifo("exec-out")
    t.exec("e", ["x"], env=["X=fake: fds=1 run=0"], stdio=("", out, ""))
    reader = w.reader(out)
    t.start(exec_id="e")
    lists.append(reader.all().split())
    t.wait(exec_id="e")
    t.delete(exec_id="e")
    t.out.until(b"2 ")  # it may be slow, and its end is near
    end(t)
    lists.append(t.out.all().split())
    for found in lists:
        equal(found, [b"0", b"1", b"2"], "descriptors of a process")
    end(keep)


BAD_IDS = ("", ".", "..", "a/b", "/", "../c9", "a\nb", "a\x01", "a\x7f", "x" * 77, "x" * 4000)


@test
def ids_that_are_no_file_names(w):
    """A container's or exec's id becomes the name of files."""
    t = fake(w).run()
    before = sorted(os.listdir(t.bundle.path)), sorted(os.listdir(w.dir + "/b"))
    spec = json_any("Process", {"args": ["x"], "cwd": "/"})
    for bad in BAD_IDS:
        code, text = t.conn.error("Create", {**t.create_request(), "id": bad})
        equal(code, INVALID_ARGUMENT, f"Create of {bad[:80]!r}: {text}")
        code, text = t.error("Exec", exec_id=bad, spec=spec)
        equal(code, INVALID_ARGUMENT, f"Exec of {bad[:80]!r}: {text}")
    equal((sorted(os.listdir(t.bundle.path)), sorted(os.listdir(w.dir + "/b"))), before, "files")
    run_exec(t, "x" * 76)
    end(t)


@test
def the_socket_and_its_directory_are_private(w):
    path = os.path.join(w.dir, "s")
    bundle = w.bundle("c1")
    w.runtime = FAKE
    result = w.start(bundle, dialect="2.3", socket_dir=path)
    found = os.listdir(path)
    equal(len(found), 1, f"files in the socket directory after {result}")
    equal(os.stat(path).st_mode & 0o777, 0o700, "mode of the directory")
    equal(os.stat(os.path.join(path, found[0])).st_mode & 0o777, 0o600, "mode of the socket")
    # Before it answers it may not yet know what to do on a signal.
    w.connect(os.path.join(path, found[0])).send("Connect", {"id": "c1"}).result()
    for pid in w.daemons():
        os.kill(pid, signal.SIGTERM)
    until(lambda: not w.daemons(), "the daemon to go")
    equal(os.listdir(path), [], "files in the socket directory at the end")


if __name__ == "__main__":
    sys.exit(main())
