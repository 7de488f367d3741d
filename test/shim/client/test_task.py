#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""test_task.py - the Task service on init processes: verbs, exits, events, standard streams.

Tests of the verbs themselves run under both names of the service.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time

from shim import (CREATED, RUNNING, STOPPED, Closed, RpcError, alive, bytes_in, children, fds, read_all, read_file,
                  sockets, until)
from tap import Skip, better, check, contains, equal, long, main, takes, test, test_both, within
from ttrpc import ALREADY_EXISTS, DEADLINE_EXCEEDED, NOT_FOUND, PATIENCE, UNKNOWN
from wire import ZERO_TIME, pack

NOT_CREATED = (NOT_FOUND, "container not created: not found")
FINISHED = (NOT_FOUND, "process already finished: not found")
GROUP = {"io.kubernetes.cri.sandbox-id": "pod"}
HOUR = 3600 * 10**9  # of a deadline that nobody is to reach, in ns


def recent(stamp):
    """A time within the last minutes."""
    return abs(stamp["seconds"] - time.time()) < 300 and 0 <= stamp["nanos"] < 1000000000


def pod(w, *names, args=("sleep", "1000"), **more):
    """Tasks in one daemon."""
    tasks = [w.task(args, container=name, annotations=GROUP, **more) for name in names]
    equal(len({t.daemon() for t in tasks}), 1, "daemons")
    return tasks


def finish(*tasks):
    """Kill, Wait, Delete of running tasks."""
    for t in tasks:
        t.kill()
        equal(t.wait()["exit_status"], 137, "status")
        t.delete()


# ---- the life of a container ------------------------------------------------------------------------


@test_both
def life_of_a_container(w):
    t = w.task(["sh", "-c", "exit 7"], stdio="all")
    out, err = t.open_stdout(), t.open_stderr()
    paths = {"stdin": t.stdin, "stdout": t.stdout, "stderr": t.stderr, "terminal": 0}
    common = dict(paths, id="c1", bundle=t.bundle.path, exec_id="")

    check(t.create() > 0, "a pid")
    equal(int(read_file(t.bundle.file("init.pid"))), t.pid, "init.pid")
    equal(t.state(), dict(common, pid=t.pid, status=CREATED, exit_status=0, exited_at=ZERO_TIME), "State, created")
    equal(t.call("Connect"), {"shim_pid": t.daemon(), "task_pid": t.pid, "version": ""}, "Connect")
    waiting = t.send("Wait")

    equal(t.start(), t.pid, "pid by Start")
    end = waiting.result()
    equal(end["exit_status"], 7, "status by Wait")
    check(recent(end["exited_at"]), f"time by Wait {end}")
    equal(t.state(), dict(common, pid=t.pid, status=STOPPED, **end), "State, stopped")
    equal((out.all(), err.all()), (b"", b""), "output")
    equal(t.wait(), end, "a second Wait")

    equal(t.delete(), {"pid": t.pid, **end}, "Delete")
    equal(t.error("State"), NOT_CREATED, "State, deleted")
    equal(w.mounts(), [], "mounts")
    create, start, exit_, delete = t.events("create", "start", "exit", "delete")
    mount = dict(t.bundle.rootfs_mount(), target="")
    equal(create.fields, {"container_id": "c1", "bundle": t.bundle.path, "rootfs": [mount], "io": paths,
                          "checkpoint": "", "pid": t.pid}, "TaskCreate")
    equal(start.fields, {"container_id": "c1", "pid": t.pid}, "TaskStart")
    equal(exit_.fields, {"container_id": "c1", "id": "c1", "pid": t.pid, **end}, "TaskExit")
    equal(delete.fields, {"container_id": "c1", "pid": t.pid, "id": "", **end}, "TaskDelete")
    for event in (create, start, exit_, delete):
        equal(event.envelope["namespace"], w.namespace, "namespace")
        check(recent(event.envelope["timestamp"]), f"timestamp {event.envelope}")
    equal([e.type for e in (create, start, exit_, delete)], ["containerd.events.Task" + n for n in
                                                            ("Create", "Start", "Exit", "Delete")], "types")
    equal(t.call("Connect")["task_pid"], 0, "Connect, deleted")
    t.shutdown()
    check(not os.path.exists(t.address), "no socket")


@test_both
def a_running_container(w):
    t = w.task()
    t.create()
    t.start()
    state = t.state()
    equal((state["status"], state["pid"], state["exit_status"], state["exited_at"]), (RUNNING, t.pid, 0, ZERO_TIME))
    check(alive(t.pid), "the container is alive")
    equal(t.error("Start"), (UNKNOWN, "cannot start a running process"), "Start")
    equal(t.error("Delete"), (UNKNOWN, "cannot delete a running process"), "Delete")
    # A refused verb changes nothing.
    equal(t.state(), state, "State")
    finish(t)
    t.events("create", "start", "exit", "delete")


@test_both
def a_stopped_container(w):
    t = w.task(["true"])
    t.create()
    t.start()
    t.wait()
    equal(t.error("Start"), (UNKNOWN, "cannot start a stopped process"), "Start")
    equal(t.error("Kill", signal=9), FINISHED, "Kill 9")
    equal(t.error("Kill", signal=15), FINISHED, "Kill 15")
    equal(t.call("CloseIO", stdin=True), {}, "CloseIO")
    equal((t.state()["status"], t.state()["pid"]), (STOPPED, t.pid), "State")
    equal(t.call("Connect")["task_pid"], t.pid, "pid by Connect")
    t.delete()
    t.events("create", "start", "exit", "delete")


@test
@better("the Go shim of 1.6 says yes to kill --all")
def kill_all_of_a_stopped_container(w):
    t = w.task(["true"])
    t.create()
    t.start()
    t.wait()
    equal(t.error("Kill", signal=9, all=True), FINISHED, "Kill all")


@test_both
def a_created_container_can_be_killed(w):
    t = w.task()
    t.create()
    waiting = t.send("Wait")
    t.kill()
    end = waiting.result()
    equal(end["exit_status"], 137, "status")
    check(recent(end["exited_at"]), f"time {end}")
    equal(t.state()["status"], STOPPED, "State")
    equal(t.error("Start"), (UNKNOWN, "cannot start a stopped process"), "Start")
    equal(t.delete(), {"pid": t.pid, **end}, "Delete")
    t.events("create", "exit", "delete")


@test_both
def a_created_container_can_be_deleted(w):
    t = w.task()
    t.create()
    equal(t.delete(), {"pid": t.pid, "exit_status": 0, "exited_at": ZERO_TIME}, "Delete")
    until(lambda: not alive(t.pid), "the init to be gone")
    equal(t.error("State"), NOT_CREATED, "State")
    equal(w.mounts(), [], "mounts")
    _, exit_, delete = t.events("create", "exit", "delete")
    equal(exit_.fields, {"container_id": "c1", "id": "c1", "pid": t.pid, "exit_status": 137, "exited_at": ZERO_TIME})
    equal(delete.fields, {"container_id": "c1", "pid": t.pid, "id": "", "exit_status": 0, "exited_at": ZERO_TIME})


@test
@better("the Go shim drains the output of a process that never ran")
def a_created_container_is_deleted_at_once(w):
    def created():
        t = w.task(container=f"c{len(w.tasks)}", stdio="out")
        w.reader(t.stdout), w.reader(t.stderr)
        t.create()
        return t.delete
    within(10, "the drain's", "Delete", created)
    w.tasks[-1].events("create", "exit", "delete")


@test
@better("the Go shim lets this Wait hang")
def wait_for_a_container_that_is_deleted_unstarted(w):
    t = w.task()
    t.create()
    waits = [t.send("Wait") for _ in range(3)]
    t.delete()
    for wait in waits:
        equal(wait.result(), {"exit_status": 0, "exited_at": ZERO_TIME}, "Wait")


@test_both
def unknown_exec_ids(w):
    t = w.task()
    t.create()
    t.start()
    for method in ("State", "Start", "Delete", "Kill", "Wait"):
        equal(t.error(method, exec_id="e1"), (NOT_FOUND, "process does not exist e1: not found"), method)
    code, text = t.error("CloseIO", exec_id="e1", stdin=True)
    equal(text, "process does not exist e1: not found", "CloseIO")
    check(code in (NOT_FOUND, UNKNOWN), f"CloseIO: code {code}")
    equal(t.error("State", exec_id="c1"), (NOT_FOUND, "process does not exist c1: not found"), "the init's own id")
    equal(t.state()["status"], RUNNING, "State")


@test_both
def exit_statuses(w):
    cases = (("exit 0", 0), ("exit 7", 7), ("exit 127", 127), ("exit 255", 255), ("nonexistent-command", 127),
             ("exec nonexistent-command", 127))
    tasks = pod(w, *(f"c{n}" for n in range(len(cases))))
    for t, (script, status) in zip(tasks, cases):
        t.bundle.config["process"]["args"] = ["sh", "-c", script]
        t.bundle.write_config(t.bundle.config)
        t.create()
    waits = [t.send("Wait") for t in tasks]
    for t in tasks:
        t.start()
    equal([x.result()["exit_status"] for x in waits], [status for _, status in cases], "statuses")
    for t, (_, status) in zip(tasks, cases):
        equal(t.delete()["exit_status"], status, "status by Delete")
        equal(t.events("create", "start", "exit", "delete")[2]["exit_status"], status, "status in the event")


@test_both
def deadly_signals(w):
    numbers = (signal.SIGHUP, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)
    # An init ignores what it has no handler for, but not in the host's pid namespace.
    for t, number in zip(pod(w, "a", "b", "c", "d", pid="host"), numbers):
        t.create()
        t.start()
        t.until_its_program_runs()
        equal(t.kill(number), {}, "Kill")
        equal(t.wait()["exit_status"], 128 + number, "status")
        equal(t.delete()["exit_status"], 128 + number, "status by Delete")


@test_both
def signals_are_delivered(w):
    script = "trap 'echo usr1' USR1; trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    t = w.task(["sh", "-c", script], stdio="out")
    t.run().out.until(b"ready\n")
    t.kill(signal.SIGUSR1)
    t.out.until(b"usr1\n")
    equal(t.kill(0), {}, "Kill 0")
    t.kill(signal.SIGTERM)
    equal(t.out.all(), b"ready\nusr1\nterm\n", "output")
    equal(t.wait()["exit_status"], 3, "status")


@test
def an_impossible_signal(w):
    t = w.task()
    t.create()
    t.start()
    code, text = t.error("Kill", signal=99)
    equal(code, UNKNOWN, "code")
    check(text.startswith("unknown error after kill: "), text)
    contains(text.lower(), "invalid argument", "text")
    equal(t.state()["status"], RUNNING, "State")


@test
def kill_all_reaches_every_process(w):
    t = w.task(["sh", "-c", "sleep 1000 & sleep 1000 & echo ready; wait; wait; sleep 1000"], stdio="out", pid="host")
    t.run().out.until(b"ready\n")
    until(lambda: len(w.cgroup_processes()) >= 3, "three processes")
    pids = list(w.cgroup_processes())
    t.kill(signal.SIGKILL, all=True)
    equal(t.wait()["exit_status"], 137, "status")
    until(lambda: not any(alive(p) for p in pids), "all to die")


@test_both
def pids_lists_the_processes(w):
    t = w.task(["sh", "-c", "sleep 1000 & sleep 1000 & echo ready; wait"], stdio="out")
    t.run().out.until(b"ready\n")
    until(lambda: len(w.cgroup_processes()) == 3, "three processes")
    reply = t.call("Pids")["processes"]
    equal(sorted(p["pid"] for p in reply), sorted(w.cgroup_processes()), "pids")
    equal({p["info"] and p["info"]["type_url"] for p in reply}, {None}, "info")


@test
def pids_of_a_created_container(w):
    t = w.task()
    t.create()
    equal([p["pid"] for p in t.call("Pids")["processes"]], [t.pid], "pids")


@test
def pids_of_a_stopped_container_is_no_error(w):
    """A daemon that reloads would take an error for a leaked shim; an empty list or the old pid will do."""
    t = w.task(["true"])
    t.create()
    t.start()
    t.wait()
    check([p["pid"] for p in t.call("Pids")["processes"]] in ([], [t.pid]), "Pids")


@test_both
def waits_of_all_kinds(w):
    t = w.task()
    t.create()
    early = [t.send("Wait") for _ in range(3)]
    other = w.connect(t.address).send("Wait", {"id": "c1"}, service=t.service)
    t.start()
    late = t.send("Wait")
    check(not any(x.finished() for x in (*early, other, late)), "no Wait is over yet")
    t.kill()
    ends = [x.result() for x in (*early, other, late)] + [t.wait(), t.wait(timeout_nano=HOUR)]
    equal(len({str(e) for e in ends}), 1, "answers")
    equal(ends[0]["exit_status"], 137, "status")


@test
def runtime_does_not_see_notify_socket(w):
    """systemd's readiness socket is containerd's: a runtime that found it would speak for it."""
    seen = os.path.join(w.dir, "environment")
    t = w.task(opts=w.wrapper("create", before=f"env >{seen}"), started=False)
    result = w.start(t.bundle, env={"NOTIFY_SOCKET": "@none", "STAYS": "1"})
    equal((result.code, result.err), (0, b""), "start")
    t.connect(result.out.decode()[len("unix://"):])
    t.create()
    names = [line.partition("=")[0] for line in read_file(seen).splitlines()]
    equal(("STAYS" in names, "NOTIFY_SOCKET" in names), (True, False), "the runtime's environment")
    t.start()
    finish(t)


@test
@takes(4)
@better("the Go shim waits for it")
def delete_action_does_not_wait_for_a_runtime_that_hangs(w):
    """containerd gives it five seconds; the mounts are to be gone by then."""
    gate = os.path.join(w.dir, "hangs")
    open(gate, "w").close()
    t = w.task(opts=w.wrapper("delete", before=f"[ -e {gate} ] && exec sleep 1000"))
    t.create()
    t.start()
    t.kill()
    t.wait()
    for pid in w.daemons():
        os.kill(pid, signal.SIGKILL)
    result = within(5, "containerd's", "`delete`", lambda: lambda: w.delete(t.bundle))
    equal(result.code, 0, "exit status")
    equal(w.mounts(), [], "mounts")
    equal(b"failed to remove runc container" in result.err, True, "it says what it could not do")
    os.unlink(gate)
    equal(w.delete(t.bundle).err, b"", "once more, with a runtime that works")


@test
def two_starts_at_once(w):
    gate = w.gate("start")
    t = w.task(opts=gate.options)
    t.create()
    calls = [t.send("Start") for _ in range(3)]
    gate.reached()
    t.settle()
    gate.open()
    replies = []
    for call in calls:
        try:
            replies.append(call.result()["pid"])
        except RpcError as e:
            replies.append((e.code, e.text))
    refusal = (UNKNOWN, "cannot start a running process")
    equal(sorted(replies, key=str), [refusal, refusal, t.pid], "replies")
    finish(t)
    t.events("create", "start", "exit", "delete")


@test
def two_deletes_at_once(w):
    gate = w.gate("delete")
    t = w.task(["true"], opts=gate.options)
    t.create()
    t.start()
    t.wait()
    calls = [t.send("Delete") for _ in range(3)]
    gate.reached()
    t.settle()
    gate.open()
    good, bad = [], []
    for call in calls:
        try:
            good.append(call.result())
        except RpcError as e:
            bad.append(e.code)
    equal((len(good), bad), (1, [NOT_FOUND, NOT_FOUND]), "replies")
    t.events("create", "start", "exit", "delete")


@test
@better("the Go shim unmounts the first one's rootfs")
def create_of_an_id_that_exists(w):
    t = w.task()
    t.create()
    code, text = t.error("Create", **t.create_request())
    check(code in (UNKNOWN, ALREADY_EXISTS), f"code {code}")
    contains(text, "already exists", "text")
    equal(w.mounts(), [t.bundle.file("rootfs")], "mounts")
    equal(t.start(), t.pid, "Start of the first")
    code, text = t.error("Create", **t.create_request())
    contains(text, "already exists", "text")
    equal(t.state()["status"], RUNNING, "State of the first")
    finish(t)
    t.events("create", "start", "exit", "delete")


@test_both
def an_id_can_be_used_again(w):
    t = w.task()
    for _ in range(3):
        t.create()
        t.start()
        finish(t)
    t.events(*("create", "start", "exit", "delete") * 3)


@test
def what_is_written_into_the_bundle(w):
    t = w.task(["true"], opts=w.options(no_new_keyring=True, io_uid=5, io_gid=6))
    t.create()
    written = {"root": w.runtime_root, "no_new_keyring": True, "io_uid": 5, "io_gid": 6}
    if w.runtime != "runc":
        written["binary_name"] = w.runtime
    equal(json.loads(read_file(t.bundle.file("options.json"))), written, "options.json")
    equal(read_file(t.bundle.file("runtime")), written.get("binary_name", ""), "runtime")
    for name in ("options.json", "runtime"):
        equal(os.stat(t.bundle.file(name)).st_mode & 0o7777, 0o600, name)
    equal(read_file(t.bundle.file("init.pid")), str(t.pid), "init.pid")
    check(os.path.isdir(os.path.join(w.runtime_root, w.namespace, "c1")), "the runtime's state is below Options.root")
    t.start()
    t.wait()
    t.delete()
    equal(os.listdir(t.bundle.file("rootfs")), [], "rootfs")
    os.rmdir(t.bundle.file("rootfs"))  # containerd's way to remove it


@test
def create_without_options(w):
    t = w.task(["true"])
    t.create(options=None)
    state = os.path.join("/run/containerd/runc", w.namespace)
    equal(os.listdir(state), ["c1"], "the runtime's state")
    equal(json.loads(read_file(t.bundle.file("options.json"), "{}")), {}, "options.json")
    t.start()
    equal(t.wait()["exit_status"], 0, "status")
    t.delete()
    equal(os.listdir(state), [], "the runtime's state")


@test
def create_with_a_rootfs_of_its_own(w):
    """No mounts in the request: root.path of the spec is somebody else's business."""
    t = w.task()
    t.bundle.config["root"]["path"] = w.rootfs
    t.bundle.write_config(t.bundle.config)
    t.create(rootfs=[])
    equal(w.mounts(), [], "mounts")
    t.start()
    finish(t)
    equal(t.events("create", "start", "exit", "delete")[0]["rootfs"], [], "rootfs in the event")
    check(os.path.exists(os.path.join(w.rootfs, "bin/busybox")), "it is still there")


@test
def create_with_several_mounts(w):
    """A bind mount below an overlay on the same point, with one of all the option words."""
    for name in ("upper", "work"):
        os.mkdir(os.path.join(w.dir, name))
    t = w.task(["cat", "/etc/note"], stdio="out", opts=None)
    os.makedirs(os.path.join(w.dir, "upper/etc"))
    with open(os.path.join(w.dir, "upper/etc/note"), "w") as f:
        f.write("from above\n")
    words = ["nosuid", "nodev", "exec", "noatime", "nodiratime", "async", "index=off"]
    overlay = {"type": "overlay", "source": "overlay", "options": words + [
        f"lowerdir={w.rootfs}", f"upperdir={w.dir}/upper", f"workdir={w.dir}/work"]}
    t.out = t.open_stdout()
    t.open_stderr()
    try:
        t.create(rootfs=[t.bundle.rootfs_mount(), overlay])
    except RpcError as e:
        if "overlay" in e.text and "invalid argument" in e.text:
            raise Skip("an overlay cannot have its upper layer here") from None
        raise
    equal(w.mounts(), [t.bundle.file("rootfs")] * 2, "mounts")
    line = [m for m in read_file("/proc/self/mountinfo").splitlines() if t.bundle.file("rootfs") in m][-1]
    for word in ("nosuid", "nodev", "noatime", "nodiratime"):
        contains(line.split()[5].split(","), word, "mount options")
    t.start()
    equal(t.out.all(), b"from above\n", "output")
    t.wait()
    t.delete()
    equal(w.mounts(), [], "mounts")


@test
def create_with_a_pile_of_mounts(w):
    """Thirty file systems on one point; all of them go, in Delete as well as after a failure."""
    tmpfs = {"type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "nosuid", "mode=0755"]}
    t = w.task(["true"])
    code, text = t.error("Create", **t.create_request(rootfs=[tmpfs] * 30))
    equal(code, UNKNOWN, f"code of {text!r}")  # there is no program in an empty root
    equal(w.mounts(), [], "mounts after a failure")
    t.create(rootfs=[tmpfs] * 30 + [t.bundle.rootfs_mount()])
    equal(len(w.mounts()), 31, "mounts")
    t.start()
    equal(t.wait()["exit_status"], 0, "status")
    t.delete()
    equal(w.mounts(), [], "mounts")
    equal(len(t.events("create", "start", "exit", "delete")[0]["rootfs"]), 31, "mounts in the event")


@test
def long_names(w):
    """An id of 76 characters, and paths of 2000."""
    deep = os.path.join(w.dir, "io", *["d" * 200] * 10)
    os.makedirs(deep)
    t = w.task(["sh", "-c", "cat; echo end"], container="c" * 76)
    for name in ("stdin", "stdout", "stderr"):
        path = os.path.join(deep, name)
        os.mkfifo(path)
        setattr(t, name, path)
    t.run()
    state = t.state()
    equal([state[n] for n in ("id", "stdin", "stdout", "stderr")], [t.id, t.stdin, t.stdout, t.stderr], "State")
    stdin = t.open_stdin()
    stdin.write(b"hello\n")
    stdin.close()
    t.call("CloseIO")
    equal(read_all(t.out, t.err), [b"hello\nend\n", b""], "output")
    equal(t.wait()["exit_status"], 0, "status")
    t.delete()
    event = t.events("create", "start", "exit", "delete")[0]
    equal(event["io"], {"stdin": t.stdin, "stdout": t.stdout, "stderr": t.stderr, "terminal": 0}, "paths in the event")


@test
@takes(3)
def forty_containers_in_one_daemon(w):
    tasks = pod(w, *(f"c{n}" for n in range(40)), stdio="out")
    for t in tasks:
        t.out, t.err = t.open_stdout(), t.open_stderr()
    for lot in range(0, 40, 10):
        for call in [t.create_send() for t in tasks[lot:lot + 10]]:
            call.result()
    equal({t.state()["status"] for t in tasks}, {CREATED}, "States")
    for call in [t.send("Start") for t in tasks]:
        call.result()
    for call in [t.send("Kill", signal=9) for t in tasks]:
        call.result()
    equal({t.wait()["exit_status"] for t in tasks}, {137}, "statuses")
    for call in [t.send("Delete") for t in tasks]:
        call.result()
    for t in tasks:
        t.events("create", "start", "exit", "delete")
        equal(read_all(t.out, t.err), [b"", b""], "output")


@test
def a_read_only_bind_mount_is_read_only(w):
    t = w.task()
    t.bundle.config["root"]["readonly"] = False
    t.bundle.write_config(t.bundle.config)
    t.create()
    equal(w.mounts(), [t.bundle.file("rootfs")], "mounts")
    line, = [m for m in read_file("/proc/self/mountinfo").splitlines() if t.bundle.file("rootfs") in m]
    if w.runtime == "runc":  # crun makes it writable again
        contains(line.split()[5].split(","), "ro", "mount options")
    t.delete()


# ---- what can go wrong in Create ----------------------------------------------------------------------


def create_fails(t, text, *, part=False, code=UNKNOWN, **more):
    """Create with this error; nothing of it remains, and the daemon goes at Shutdown."""
    got = t.error("Create", **t.create_request(**more))
    equal(got[0], code, f"code of {got[1]!r}")
    contains(got[1], text, "text") if part else equal(got[1], text, "text")
    equal(t.error("State"), NOT_CREATED, "State")
    equal(t.error("Delete"), NOT_CREATED, "Delete")
    until(lambda: not t.world.mounts(), "nothing to be mounted")
    t.shutdown()
    equal(t.delete_action()["exit_status"], 137, "`delete`")
    equal(t.events(), [], "events")


@test
def create_with_a_missing_runtime(w):
    for number, (name, why) in enumerate((
            ("/nonexistent/runc", "fork/exec /nonexistent/runc: no such file or directory"),
            ("nonexistent-runc", 'exec: "nonexistent-runc": executable file not found in $PATH'))):
        t = w.task(container=f"c{number}", opts=w.options(binary_name=name))
        log = t.bundle.file("log.json")
        create_fails_by_runtime(t, "OCI runtime create failed: unable to retrieve OCI runtime error "
                                f"(open {log}: no such file or directory): {why}")


def create_fails_by_runtime(t, text):
    """As create_fails, but `delete` cannot run that runtime either."""
    equal(t.error("Create", **t.create_request()), (UNKNOWN, text), "Create")
    equal(t.error("State"), NOT_CREATED, "State")
    equal(t.world.mounts(), [], "mounts")
    t.shutdown()
    equal(t.world.delete(t.bundle).code, 0, "exit of `delete`")


@test
def create_with_a_runtime_that_may_not_be_executed(w):
    name = os.path.join(w.dir, "not-executable")
    with open(name, "w") as f:
        f.write("#!/bin/sh\n")
    t = w.task(opts=w.options(binary_name=name))
    create_fails_by_runtime(t, "OCI runtime create failed: unable to retrieve OCI runtime error (open "
                            f"{t.bundle.file('log.json')}: no such file or directory): "
                            f"fork/exec {name}: permission denied")


@test
def create_with_a_runtime_that_fails_silently(w):
    name = w.script("silent", "exit 5")
    t = w.task(opts=w.options(binary_name=name))
    create_fails_by_runtime(t, "OCI runtime create failed: unable to retrieve OCI runtime error (open "
                            f"{t.bundle.file('log.json')}: no such file or directory): "
                            f"{name} did not terminate successfully: exit status 5")


@test
def create_with_a_runtime_that_logs_its_error(w):
    """The last object of level error counts, its message trimmed and unescaped."""
    body = r"""while [ "$1" != --log ]; do shift; done
time='"time":"2026-01-01T00:00:00Z"}'
printf '%s\n' '{"level":"error","msg":"first",'$time >> "$2"
printf '%s\n' '{"level":"error","msg":"  second \"\u00fc\\ \n\t",'$time' {"level":"info","msg":"third",'$time >> "$2"
exit 1"""
    t = w.task(opts=w.options(binary_name=w.script("talking", body)))
    create_fails_by_runtime(t, 'OCI runtime create failed: second "\u00fc\\')


@test
def create_with_a_runtime_that_logs_no_error(w):
    body = """while [ "$1" != --log ]; do shift; done
echo '{"level":"info","msg":"all is well","time":"2026-01-01T00:00:00Z"}' >> "$2"
exit 1"""
    name = w.script("talking", body)
    t = w.task(opts=w.options(binary_name=name))
    create_fails_by_runtime(t, f"OCI runtime create failed: {name} did not terminate successfully: exit status 1")


@test
def create_with_a_runtime_that_is_killed(w):
    name = w.script("suicidal", "kill -9 $$")
    t = w.task(opts=w.options(binary_name=name))
    create_fails_by_runtime(t, "OCI runtime create failed: unable to retrieve OCI runtime error (open "
                            f"{t.bundle.file('log.json')}: no such file or directory): "
                            f"{name} did not terminate successfully: exit status 137")


@test
def create_with_a_program_that_is_not_there(w):
    create_fails(w.task(["/nonexistent"]), "OCI runtime create failed: " + {
        "runc": 'runc create failed: unable to start container process: exec: "/nonexistent": stat /nonexistent: '
                "no such file or directory",
        "crun": "executable file `/nonexistent` not found in $PATH: No such file or directory"}[w.runtime])


@test
def create_with_a_broken_config(w):
    t = w.task()
    t.bundle.write_config("{")
    create_fails(t, "OCI runtime create failed: " + {"runc": "runc create failed: unexpected EOF",
                                                     "crun": "error loading config.json"}[w.runtime])


@test
def create_without_a_config(w):
    t = w.task()
    os.unlink(t.bundle.file("config.json"))
    create_fails(t, "OCI runtime create failed: " + {
        "runc": "runc create failed: JSON specification file config.json not found",
        "crun": "error loading config.json"}[w.runtime])


@test
def create_with_a_mount_that_fails(w):
    for number, (mount, why) in enumerate((
            ({"type": "bind", "source": "/nonexistent", "options": ["rbind"]}, "no such file or directory"),
            ({"type": "nonsense", "source": "x"}, "no such device"),
            ({"type": "tmpfs", "source": "x", "options": ["nonsense=1"]}, "invalid argument"))):
        t = w.task(container=f"a{number}")
        create_fails(t, "failed to mount rootfs component", part=True, rootfs=[mount])
        # What was mounted before it is unmounted again.
        t = w.task(container=f"b{number}")
        create_fails(t, why, part=True, rootfs=[t.bundle.rootfs_mount(), mount])


@test
def create_with_options_that_are_none(w):
    broken = pack("containerd.runc.v1.Options", None, b"\x0a\xff\xff")
    for number, opts in enumerate((pack("x.Y", None, b""), broken)):
        t = w.task(container=f"c{number}", opts=opts)
        _, text = t.error("Create", **t.create_request())
        check(text, "a text")
        equal(t.error("State"), NOT_CREATED, "State")
        equal(w.mounts(), [], "mounts")
        t.shutdown()


@test
@better("the Go shim takes only its own type of options")
def create_takes_the_options_of_other_runtime_names(w):
    t = w.task(container="prefix", opts=dict(w.options(), type_url="type.googleapis.com/containerd.runc.v1.Options"))
    t.create()
    check(os.path.isdir(os.path.join(w.runtime_root, w.namespace, t.id)), "Options.root is heeded")
    t.delete()
    t = w.task(container="linux", opts=pack("containerd.linux.runc.CreateOptions", "CreateOptions",
                                            {"no_new_keyring": True, "io_uid": 5}))
    if w.runtime == "runc":  # these options cannot name another one
        t.create()
        equal(json.loads(read_file(t.bundle.file("options.json"))), {"no_new_keyring": True, "io_uid": 5}, "options")
        t.delete()


@test
@better("the Go shim knows nothing of the options CRI sends for runtime names but runc's own")
def create_takes_the_options_of_cri(w):
    toml = f'BinaryName = "{w.runtime}"\nRoot = "{w.runtime_root}"\n'.encode()
    config = os.path.join(w.dir, "options.toml")
    with open(config, "wb") as f:
        f.write(toml)
    for how in ({"config_body": toml}, {"config_path": config}):
        opts = pack("runtimeoptions.v1.Options", "RuntimeOptions", {"type_url": "io.containerd.runc.v1.Options", **how})
        t = w.task(container=f"c{len(w.tasks)}", opts=opts)
        t.create()
        check(os.path.isdir(os.path.join(w.runtime_root, w.namespace, t.id)), f"Root by {list(how)}")
        t.delete()


@test
def create_with_missing_fifos(w):
    for number, name in enumerate(("stdout", "stderr")):
        t = w.task(container=f"c{number}", stdio="out")
        t.open_stdout(), t.open_stderr()
        missing = os.path.join(w.dir, "io", "missing")
        create_fails(t, f'opening file "{missing}" failed: open {missing}: no such file or directory', part=True,
                     **{name: missing})
        check(not os.path.exists(missing), "it is not created")


@test
def create_with_a_missing_stdin(w):
    t = w.task(stdio="out")
    t.open_stdout(), t.open_stderr()
    missing = os.path.join(w.dir, "io", "missing")
    create_fails(t, missing, part=True, stdin=missing)


@test
def create_with_an_unknown_scheme(w):
    create_fails(w.task(), "failed to create init process I/O: unknown STDIO scheme foo", stdout="foo:///x")


@test
def after_a_failed_create_it_can_be_tried_again(w):
    t = w.task()
    t.bundle.write_config("{")
    t.error("Create", **t.create_request())
    t.bundle.write_config(t.bundle.config)
    t.create()
    t.start()
    finish(t)
    t.events("create", "start", "exit", "delete")


# ---- groups and the end of the daemon -----------------------------------------------------------------


@test_both
def shutdown_waits_for_the_last_container(w):
    a, b = pod(w, "a", "b")
    a.create(), b.create()
    a.start()
    daemon = a.daemon()
    equal(a.call("Shutdown"), {}, "Shutdown with two")
    equal(b.call("Shutdown", now=True), {}, "Shutdown now, with two")
    finish(a)
    equal(a.call("Shutdown"), {}, "Shutdown with one")
    equal(b.state()["status"], CREATED, "State of the other")
    b.start()
    finish(b)
    check(alive(daemon), "nobody asked it to go")
    b.shutdown()
    check(not os.path.exists(b.address), "no socket")


@test_both
def shutdown_before_any_container(w):
    t = w.task()
    daemon = t.daemon()
    try:
        equal(t.call("Shutdown", id="somebody else"), {}, "Shutdown")
    except Closed:
        check(w.go, "nanoshim always replies")
    until(lambda: not alive(daemon), "the daemon to exit")
    until(lambda: not os.path.exists(t.address), "the socket to be removed")


@test
@better("the Go shim sometimes closes the connection instead")
def shutdown_is_always_answered(w):
    for n in range(10):
        t = w.task(container=f"c{n}")
        equal(t.call("Shutdown"), {}, "Shutdown")


@test
@better("the Go shim removes its socket later")
def a_start_after_shutdown_gets_a_new_daemon(w):
    """The path is free before Shutdown is answered, so nobody can join a daemon that is going."""
    for n in range(5):
        t = w.task(container=f"c{n}", annotations=GROUP)
        t.create()
        t.start()
        finish(t)
        t.call("Shutdown")
    # Each task above talked to a daemon of its own; had one joined the last, Create would have failed.


@test
def create_for_ids_that_had_no_start(w):
    t = w.task(container="sandbox")
    t.create()
    others = []
    for n in range(3):
        other = w.task(container=f"c{n}", started=False)
        other.connect(t.address)
        other.create()
        other.start()
        others.append(other)
    t.delete()  # the container of -id is gone, the others stay
    equal(t.call("Shutdown"), {}, "Shutdown")
    equal({o.state()["status"] for o in others}, {RUNNING}, "States")
    equal({o.daemon() for o in others}, {t.daemon()}, "daemons")
    finish(*others)
    others[0].shutdown()


@test
def the_first_bundle_may_go(w):
    """The daemon's working directory is removed; life goes on in it."""
    a, b = pod(w, "a", "b")
    a.create()
    a.start()
    finish(a)
    a.delete_action()
    a.bundle.close_log()
    shutil.rmtree(a.bundle.path)
    b.create()
    b.start()
    equal(b.state()["status"], RUNNING, "State")
    finish(b)
    b.events("create", "start", "exit", "delete")
    b.shutdown()
    check(not os.path.exists(b.address), "no socket")


@test
def containers_of_a_group_on_their_own_connections(w):
    tasks = pod(w, *(f"c{n}" for n in range(6)))
    calls = [t.create_send() for t in tasks]
    for t, call in zip(tasks, calls):
        t.pid = call.result()["pid"]
    waits = [t.send("Wait") for t in tasks]
    for call in [t.send("Start") for t in tasks]:
        call.result()
    equal(len({t.pid for t in tasks}), 6, "pids")
    for t in tasks[::2]:
        t.conn.close()
    for t in tasks[::2]:
        t.connect()
        equal(t.state()["status"], RUNNING, "State on a new connection")
    for t in tasks:
        t.kill()
    for t, wait in list(zip(tasks, waits))[1::2]:
        equal(wait.result()["exit_status"], 137, "status")
    for t in tasks:
        equal(t.wait()["exit_status"], 137, "status")
        t.delete()
        t.events("create", "start", "exit", "delete")


@test
@takes(3)
@better("the Go shim keeps pipes and watchers until its garbage collector finds them")
def nothing_is_kept_of_containers_that_were(w):
    group = pod(w, "keep", *(f"c{n}" for n in range(12)), args=("true",), stdio="all")
    keep = group[0]
    keep.bundle.config["process"]["args"] = ["sleep", "1000"]
    keep.bundle.write_config(keep.bundle.config)
    keep.run()
    keep.events("create", "start")
    counts = []
    for t in group[1:]:
        t.run()
        equal(t.wait()["exit_status"], 0, "status")
        t.delete()
        t.conn.close()
        until(lambda: sockets(keep.daemon()) <= len(group) + 3, "the connection to be closed")
        counts.append(len(fds(keep.daemon())))
    until(lambda: len(fds(keep.daemon())) <= counts[0] - 11, f"11 connections less and nothing more, after {counts}")
    equal(children(keep.daemon()), [keep.pid], "children of the daemon")
    equal(keep.state()["status"], RUNNING, "State")


# ---- exits --------------------------------------------------------------------------------------------


@test
def early_exits_are_not_lost(w):
    """Processes that are gone before Start returns."""
    tasks = pod(w, *(f"c{n}" for n in range(8)), args=("true",))
    for t in tasks:
        t.create()
    waits = [t.send("Wait") for t in tasks]
    for call in [t.send("Start") for t in tasks]:
        call.result()
    equal({x.result()["exit_status"] for x in waits}, {0}, "statuses")
    for t in tasks:
        t.delete()
        t.events("create", "start", "exit", "delete")


# Of a runtime that has more to do: it goes on when the init that this file names has ended, and been reaped.
UNTIL_REAPED = "while kill -0 $(cat {}) 2>/dev/null; do sleep 0.05; done"


@test
def exit_before_start_returns(w):
    t = w.task(["sh", "-c", "exit 5"])
    t.opts = w.wrapper("start", after=UNTIL_REAPED.format(t.bundle.file("init.pid")) + "; exit $code")
    t.create()
    wait, start = t.send("Wait"), t.send("Start")
    equal(start.result()["pid"], t.pid, "pid by Start")
    equal(wait.result()["exit_status"], 5, "status")
    equal(t.state()["status"], STOPPED, "State")
    t.delete()
    equal(t.events("create", "start", "exit", "delete")[2]["exit_status"], 5, "status in the event")


@test
def exit_before_create_returns(w):
    """The init is killed while the runtime's create is still running."""
    t = w.task()
    pid = t.bundle.file("init.pid")
    t.opts = w.wrapper("create", after=f"kill -9 $(cat {pid}); {UNTIL_REAPED.format(pid)}; exit $code")
    t.create()
    equal(t.wait()["exit_status"], 137, "status")
    equal(t.state()["status"], STOPPED, "State")
    equal(t.error("Start"), (UNKNOWN, "cannot start a stopped process"), "Start")
    t.delete()
    t.events("create", "exit", "delete")


@test
@takes(3)
def fifty_exits_at_once(w):
    """One after the other they wait for a FIFO to open; then all of them exit with their own status."""
    count = 50
    gate = w.fifo("gate")
    mount = {"destination": "/tmp/gate", "type": "bind", "source": gate, "options": ["bind"]}
    tasks = pod(w, *(f"c{n}" for n in range(count)))
    for number, t in enumerate(tasks):
        t.bundle.config["process"]["args"] = ["sh", "-c", f": < /tmp/gate; exit {number}"]
        t.bundle.config["mounts"].append(mount)
        t.bundle.write_config(t.bundle.config)
    for lot in range(0, count, 10):
        for call in [t.create_send() for t in tasks[lot:lot + 10]]:
            call.result()
    waits = [t.send("Wait") for t in tasks]
    for call in [t.send("Start") for t in tasks]:
        call.result()
    check(not any(x.finished() for x in waits), "all run")
    w.writer(gate)
    equal([x.result()["exit_status"] for x in waits], list(range(count)), "statuses")
    for number, t in enumerate(tasks):
        equal(t.events("create", "start", "exit")[2]["exit_status"], number, "status in the event")
    for call in [t.send("Delete") for t in tasks]:
        call.result()
    tasks[0].shutdown()


@test
def orphans_of_a_host_pid_container_are_reaped_silently(w):
    t = w.task(["sh", "-c", "(sleep 0.1 & sleep 0.2 &); echo ready; exec sleep 1000"], stdio="out", pid="host")
    t.run().out.until(b"ready\n")
    until(lambda: list(w.cgroup_processes()) == [t.pid], "the orphans to end")
    until(lambda: children(t.daemon()) == [t.pid], "them to be reaped")
    equal(t.state()["status"], RUNNING, "State")
    finish(t)
    t.events("create", "start", "exit", "delete")


@test
def left_overs_are_killed_before_the_exit_is_told(w):
    """Without a pid namespace of its own a container can leave processes behind."""
    t = w.task(["sh", "-c", "sleep 1000 & sleep 1000 & echo ready; read x; exit 4"], stdio="all", pid="host")
    t.run().out.until(b"ready\n")
    stdin = t.open_stdin()
    until(lambda: len(w.cgroup_processes()) == 3, "three processes")
    pids = list(w.cgroup_processes())
    stdin.write(b"\n")
    equal(t.wait()["exit_status"], 4, "status")
    # They have been sent SIGKILL by now; give the kernel its time.
    until(lambda: not any(alive(p) for p in pids), "all to be gone")
    t.delete()
    t.events("create", "start", "exit", "delete")


@test
def a_joined_pid_namespace_is_not_private(w):
    a = w.task(container="a")
    a.create()
    a.start()
    b = w.task(["sh", "-c", "sleep 1000 & echo ready; read x; exit 4"], container="b", stdio="all",
               pid=f"/proc/{a.pid}/ns/pid")
    b.run().out.until(b"ready\n")
    until(lambda: len(w.cgroup_processes()) == 3, "a's process and b's two")
    b.open_stdin().write(b"\n")
    equal(b.wait()["exit_status"], 4, "status")
    until(lambda: list(w.cgroup_processes()) == [a.pid], "only a's process to be left")
    equal(a.state()["status"], RUNNING, "State of the other")
    b.delete()
    finish(a)


@test
def a_runtime_that_kills_itself_is_not_the_container(w):
    """The pids of runtime processes are reaped by the same waitpid."""
    t = w.task(opts=w.wrapper("kill", after="kill -9 $$; sleep 1000"))
    t.create()
    t.start()
    code, _ = t.error("Kill", signal=0)
    equal(code, UNKNOWN, "code")
    equal(t.state()["status"], RUNNING, "State")
    t.send("Kill", signal=9)
    equal(t.wait()["exit_status"], 137, "status")
    t.delete()


# ---- a slow runtime does not hold up the others ---------------------------------------------------------


def quick(act, what="State"):
    """The reply must come within the 2 s that containerd gives State."""
    return within(2, "containerd's", what, lambda: act)


@test
@better("up to 2.3.1 the Go shim holds a lock during create")
def slow_create_holds_up_nobody(w):
    a, b = pod(w, "a", "b")
    gate = w.gate("create")
    b.opts = gate.options
    a.create()
    a.start()
    creating = b.create_send()
    gate.reached()
    equal(quick(a.state)["status"], RUNNING, "State of the other")
    quick(lambda: a.call("Connect"), "Connect")
    quick(lambda: a.call("Pids"), "Pids")
    equal(quick(lambda: b.error("State")), NOT_CREATED, "State of the one")
    finish(a)
    equal(a.events("create", "start", "exit", "delete")[3]["exit_status"], 137, "TaskDelete")
    check(not creating.finished(), "Create is still on its way")
    gate.open()
    b.pid = creating.result()["pid"]
    equal(b.state()["status"], CREATED, "State")


@test
@better("the Go shim holds the container's lock during start")
def slow_start_holds_up_nobody(w):
    gate = w.gate("start")
    t = w.task(opts=gate.options)
    t.create()
    starting = t.send("Start")
    gate.reached()
    equal(quick(t.state)["status"], CREATED, "State")
    quick(lambda: t.call("Connect"), "Connect")
    check(not starting.finished(), "Start is still on its way")
    gate.open()
    equal(starting.result()["pid"], t.pid, "pid by Start")
    equal(t.state()["status"], RUNNING, "State")


@test
@better("the Go shim holds the container's lock during kill")
def slow_kill_holds_up_nobody(w):
    gate = w.gate("kill")
    t = w.task(opts=gate.options)
    t.create()
    t.start()
    # With all=true it takes a run of the runtime in every shim.
    killing = t.send("Kill", signal=9, all=True)
    gate.reached()
    equal(quick(t.state)["status"], RUNNING, "State")
    check(not killing.finished(), "Kill is still on its way")
    gate.open()
    killing.result()
    equal(t.wait()["exit_status"], 137, "status")


@test
@better("up to 2.3.1 the Go shim creates one after the other")
def creates_run_side_by_side(w):
    tasks = pod(w, *"abcd")
    gates = [w.gate("create") for t in tasks]
    for t, gate in zip(tasks, gates):
        t.opts = gate.options
    calls = [t.create_send() for t in tasks]
    for gate in gates:
        gate.reached()
    for t, gate, call in reversed(list(zip(tasks, gates, calls))):
        gate.open()
        t.pid = call.result()["pid"]
    equal({t.state()["status"] for t in tasks}, {CREATED}, "States")


# ---- events -------------------------------------------------------------------------------------------


LIFE = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]


def live(t):
    """A whole life; its events are those of LIFE."""
    t.create()
    t.start()
    t.kill()
    t.wait()
    t.delete()


def life_arrives(w, t):
    """All events have come, in order; an event may have come twice where its reply was lost."""
    w.events.wait_for(lambda seen: len({e.topic for e in seen if e.id == t.id}) == len(LIFE), "all events")
    got = w.events.topics(t.id)
    equal([topic for n, topic in enumerate(got) if topic not in got[:n]], LIFE, f"order of {got}")


@test
@better("the Go shim tries an event once more while the first attempt is under way")
def events_go_out_one_at_a_time(w):
    """The next one is not sent before the one before has its reply."""
    queued, early = threading.Event(), []

    def answer(event):
        queued.wait()
        early.append(w.events.unread())
        return "ok"
    w.events.answer = answer
    t = w.task(["true"])
    t.create()
    t.start()
    t.wait()
    t.delete()
    t.settle()
    equal({e.topic for e in w.events.attempts}, {"/tasks/create"}, "events sent before the first reply")
    queued.set()
    life_arrives(w, t)
    equal(set(early), {b""}, "sent before the reply")


@test
def events_are_queued_while_the_server_is_slow(w):
    """The verbs do not wait for it."""
    released = threading.Event()
    w.events.answer = lambda event: released.wait() and "ok"
    t = w.task(["true"])
    t.create()
    t.start()
    t.wait()
    t.delete()
    equal(w.events.events, [], "events that a verb waited for")
    released.set()
    life_arrives(w, t)


@test
@better("the Go shim lets later events overtake")
def events_survive_an_outage_in_order(w):
    for unlink in (False, True):  # its socket is there, but nobody listens; it is gone
        t = w.task(container=f"c{unlink}")
        t.create()
        t.events("create")
        w.events.down(unlink)
        t.start()
        t.kill()
        t.wait()
        until(lambda: "they are kept" in t.bundle.drain_log() or w.go, "an attempt to fail")
        w.events.up()
        t.delete()
        life_arrives(w, t)


@test
@long(22)
@better("the Go shim gives up after 15 s")
def events_survive_a_long_outage(w):
    w.events.down(unlink=True)
    t = w.task()
    live(t)
    time.sleep(22)
    w.events.up()
    life_arrives(w, t)


@test
@takes(6)
@better("the Go shim lets later events overtake")
def events_survive_a_hanging_server(w):
    """The first attempt is never answered; it is repeated after its 5 s."""
    seen = []
    w.events.answer = lambda event: "ok" if seen else seen.append(event) or "hang"
    t = w.task()
    live(t)
    life_arrives(w, t)
    check(len(w.events.attempts) >= 5, "the first one was tried again")


@test
@better("the Go shim lets later events overtake")
def events_survive_resets(w):
    """Every event's first attempt ends in a closed connection."""
    tried = set()
    w.events.answer = lambda event: "ok" if event.topic in tried else tried.add(event.topic) or "reset"
    t = w.task()
    live(t)
    life_arrives(w, t)


@test
def events_survive_a_refusal(w):
    """The server answers the first attempt with an error status; the other events come all the same."""
    seen = []
    w.events.answer = lambda event: "ok" if seen else seen.append(event) or "error"
    t = w.task()
    live(t)
    others = {"/tasks/start", "/tasks/exit", "/tasks/delete"}
    w.events.wait_for(lambda got: others <= {e.topic for e in got}, "the other events")


@test
def events_of_two_containers_keep_their_order(w):
    w.events.answer = lambda event: time.sleep(0.02) or "ok"  # so that there is a queue now and then
    tasks = pod(w, "a", "b", "c")
    for t in tasks:
        t.create()
    for t in tasks:
        t.start()
    finish(*tasks)
    for t in tasks:
        t.events("create", "start", "exit", "delete")


@test
def exit_is_told_to_a_server_that_comes_back_after_the_client_went(w):
    """A restart of containerd: all connections break, the container exits meanwhile."""
    t = w.task(["sh", "-c", "read x; exit 9"], stdio="all")
    t.run()
    t.events("create", "start")
    stdin = t.open_stdin()
    t.conn.close()
    w.events.down()
    stdin.write(b"\n")
    until(lambda: not alive(t.pid), "the container to exit")
    w.events.up()
    t.connect()
    equal(t.wait()["exit_status"], 9, "status by Wait")
    equal(t.events("create", "start", "exit")[2]["exit_status"], 9, "status in the event")
    t.delete()


@test
def shutdown_flushes_slow_events(w):
    """Two events are still to be sent when Shutdown has been answered."""
    asked = threading.Event()
    w.events.answer = lambda event: (event.topic in LIFE[:2] or asked.wait()) and "ok"
    t = w.task(["true"])
    t.create()
    t.start()
    t.wait()
    t.delete()
    pid, call = t.daemon(), t.send("Shutdown")
    call.done.wait(PATIENCE)
    asked.set()
    until(lambda: not alive(pid), "the daemon to exit")
    equal(w.events.topics("c1"), LIFE, "events")


@test
def termination_flushes_slow_events(w):
    asked = threading.Event()
    w.events.answer = lambda event: asked.wait() and "ok"
    t = w.task()
    t.create()
    t.start()
    os.kill(t.daemon(), signal.SIGTERM)
    until(lambda: not os.path.exists(t.address) or w.go, "the daemon to be about to end")
    asked.set()
    until(lambda: not alive(t.daemon()), "the daemon to exit")
    equal(w.events.topics("c1"), ["/tasks/create", "/tasks/start"], "events")


@test
@takes(5)
def shutdown_does_not_wait_for_ever(w):
    """About 5 s for an event server that hangs."""
    w.events.answer = lambda event: "hang"
    t = w.task(["true"])
    t.create()
    t.start()
    t.wait()
    t.delete()
    t.shutdown()
    check(not os.path.exists(t.address), "no socket")


@test
@better("the Go shim retries while it should go")
def shutdown_does_not_wait_for_nobody(w):
    for unlink in (False, True):
        w.events.down(unlink=unlink)

        def deleted():
            t = w.task(["true"], container=f"c{len(w.tasks)}")
            t.create()
            t.start()
            t.wait()
            t.delete()
            return t.shutdown
        within(5, "a flush's", "Shutdown", deleted)
        w.events.up()


@test
@better("containerd passes a bare path, and the Go shim takes no other")
def event_address_with_a_scheme(w):
    b = w.bundle()
    result = w.start(b, env={"TTRPC_ADDRESS": "unix://" + w.events.path})
    equal((result.code, result.err), (0, b""), "start")
    t = w.task(started=False, container="c2")
    t.connect(result.out.decode()[len("unix://"):])
    live(t)
    t.events("create", "start", "exit", "delete")
    t.shutdown()


@test
def without_an_event_address(w):
    for address in ("", None, "/nonexistent/e.sock"):
        b = w.bundle(f"b{len(w.bundles)}")
        result = w.start(b, env={"TTRPC_ADDRESS": address})
        equal((result.code, result.err), (0, b""), "start")
        t = w.task(started=False, container=f"c{len(w.bundles)}")
        t.connect(result.out.decode()[len("unix://"):])
        t.daemon()
        live(t)
        t.shutdown()
    equal(w.events.attempts, [], "events")


# ---- standard streams ---------------------------------------------------------------------------------


@test
def output_is_kept_apart(w):
    t = w.task(["sh", "-c", "echo out; echo err >&2; printf 'a\\0b\\377' "], stdio="out").run()
    equal((t.out.all(), t.err.all()), (b"out\na\0b\xff", b"err\n"), "stdout and stderr")


@test
def ten_mebibytes_arrive_intact(w):
    size = 10 << 20
    script = f"yes 0123456789abcdefghijklmnopqrstuvwxyz | head -c {size}; yes error | head -c 1000000 >&2"
    t = w.task(["sh", "-c", script], stdio="out").run()
    wanted = b"0123456789abcdefghijklmnopqrstuvwxyz\n" * (size // 37 + 1)
    got, errors = read_all(t.out, t.err)
    equal((len(got), hashlib.sha256(got).hexdigest()), (size, hashlib.sha256(wanted[:size]).hexdigest()), "stdout")
    check(errors == (b"error\n" * 166667)[:1000000], "stderr")
    equal(t.wait()["exit_status"], 0, "status")


@test
def end_of_file_comes_before_delete(w):
    """And not before the last word."""
    t = w.task(["sh", "-c", "echo x; read y; echo z; exit 0"], stdio="all").run()
    t.out.until(b"x\n")
    t.settle()
    t.open_stdin().write(b"\n")
    equal((t.out.all(), t.err.all()), (b"x\nz\n", b""), "output")
    equal(t.wait()["exit_status"], 0, "status")
    t.delete()


@test
def end_of_file_when_the_container_closes_its_end(w):
    t = w.task(["sh", "-c", "echo x; exec >&-; read y; echo z >&2; exec sleep 1000"], stdio="all").run()
    equal(t.out.all(), b"x\n", "stdout")
    t.open_stdin().write(b"\n")
    t.err.until(b"z\n")  # that one goes on
    equal(t.state()["status"], RUNNING, "State")


@test
def end_of_file_waits_for_the_last_writer(w):
    """Not the exit of init ends a stream but the last process that holds it."""
    t = w.task(["sh", "-c", "read x"], stdio="all")
    t.out, t.err = t.open_stdout(), t.open_stderr()
    t.create()
    t.start()
    holder = os.open(f"/proc/{t.pid}/fd/1", os.O_WRONLY)
    try:
        t.open_stdin().write(b"\n")
        t.wait()
        t.err.all()
        t.settle()
        os.write(holder, b"after the exit")
        t.out.until(b"after the exit")
    finally:
        os.close(holder)
    equal(t.out.all(), b"after the exit", "stdout")
    t.delete()


@test
@long(10)
def delete_does_not_wait_for_a_held_stream_for_ever(w):
    """The Go shims of our versions drain for 2 or 10 s."""
    t = w.task(["sh", "-c", "read x"], stdio="all")
    t.out, t.err = t.open_stdout(), t.open_stderr()
    t.create()
    t.start()
    holder = os.open(f"/proc/{t.pid}/fd/1", os.O_WRONLY)
    try:
        t.open_stdin().write(b"\n")
        t.wait()
        begin = time.monotonic()
        t.delete()
        took = time.monotonic() - begin
        check(took > 1.9, f"Delete took {took:.1f} s")
        t.out.all()
    finally:
        os.close(holder)


@test
def create_waits_for_a_late_reader(w):
    a, b = pod(w, "a", "b")
    a.create()
    for name in ("stdout", "stderr"):
        setattr(b, name, w.fifo("b-" + name))
    b.bundle.config["process"]["args"] = ["sh", "-c", "echo out; echo err >&2"]
    b.bundle.write_config(b.bundle.config)
    creating = b.create_send()
    until(lambda: os.path.exists(b.bundle.file("init.pid")), "the runtime to be done")
    a.settle()
    check(not creating.finished(), "Create waits")
    b.out = b.open_stdout()
    until(lambda: b.stdout in fds(a.daemon()).values(), "the daemon to have opened stdout")
    a.settle()
    check(not creating.finished(), "Create waits for the other reader too")
    b.err = b.open_stderr()
    b.pid = creating.result()["pid"]
    b.start()
    equal((b.out.all(), b.err.all()), (b"out\n", b"err\n"), "output")
    finish_created(a)


def finish_created(t):
    t.start()
    finish(t)


@test
@better("up to 2.3.1 the Go shim holds a lock during create")
def a_late_reader_holds_up_nobody(w):
    a, b = pod(w, "a", "b")
    for name in ("stdout", "stderr"):
        setattr(b, name, w.fifo("b-" + name))
    a.create()
    creating = b.create_send()
    until(lambda: os.path.exists(b.bundle.file("init.pid")), "the runtime to be done")
    for _ in range(5):
        equal(quick(a.state)["status"], CREATED, "State of the other")
        quick(lambda: w.connect(a.address).call("Connect"), "Connect on a new connection")
    a.start()
    check(not creating.finished(), "Create waits")
    b.open_stdout(), b.open_stderr()
    b.pid = creating.result()["pid"]
    finish(a)


@test
def create_without_a_reader_ends_at_its_deadline(w):
    quick_one, t = w.task(container="quick"), w.task(stdio="out")
    begin = time.monotonic()
    quick_one.create()
    seconds = 1 + 10 * (time.monotonic() - begin)  # many times what the runtime needs on this machine
    t.open_stdout()
    begin = time.monotonic()
    code, text = t.error("Create", **t.create_request(), timeout_nano=int(seconds * 1e9))
    took = time.monotonic() - begin
    equal(code, DEADLINE_EXCEEDED, f"code of {text!r}")
    check(text.endswith("context deadline exceeded"), text)
    check(took > seconds - 0.1, f"after {took:.1f} s of {seconds:.1f}")
    equal(t.error("State"), NOT_CREATED, "State")
    quick_one.delete()
    t.delete_action()
    w.until_gone()


@test
@long(30)
def create_without_a_reader_gives_up_after_thirty_seconds(w):
    t = w.task(stdio="out")
    begin = time.monotonic()
    code, text = t.create_send().error()
    took = time.monotonic() - begin
    check(took > 29, f"after {took:.1f} s")
    check(code in (UNKNOWN, DEADLINE_EXCEEDED), f"code {code}")
    contains(text, t.stdout, "text")
    equal(t.error("State"), NOT_CREATED, "State")
    t.delete_action()
    w.until_gone()
    t.shutdown()


@test
def a_full_fifo_stops_only_its_stream(w):
    """The reader of stdout sleeps; stderr, the daemon and other containers go on."""
    a, b = pod(w, "a", "b", stdio="out")
    script = "yes full | head -c 1000000 & yes other | head -c 1000000 >&2; echo done >&2; wait"
    a.bundle.config["process"]["args"] = ["sh", "-c", script]
    a.bundle.write_config(a.bundle.config)
    b.bundle.config["process"]["args"] = ["sh", "-c", "echo hello; echo world >&2"]
    b.bundle.write_config(b.bundle.config)
    a.run()
    a.err.until(b"done\n")
    equal(a.state()["status"], RUNNING, "State")
    b.run()
    equal((b.out.all(), b.err.all()), (b"hello\n", b"world\n"), "the other container")
    equal(b.wait()["exit_status"], 0, "status of the other")
    b.delete()
    equal(a.state()["status"], RUNNING, "State")
    check(a.out.all() == (b"full\n" * 200000), "nothing of stdout is lost")
    equal(a.wait()["exit_status"], 0, "status")


@test
def the_reader_goes_and_comes_back(w):
    t = w.task(["sh", "-c", "echo one; read x; echo two; : >/tmp/said; read x; echo three"], stdio="all").run()
    stdin = t.open_stdin()
    t.out.until(b"one\n")
    t.out.close()
    t.err.close()
    stdin.write(b"\n")
    until(lambda: os.path.exists(f"/proc/{t.pid}/root/tmp/said"), "it to speak to nobody")
    t.settle()
    equal(t.state()["status"], RUNNING, "State")
    t.out, t.err = t.open_stdout(), t.open_stderr()
    t.out.until(b"two\n")
    stdin.write(b"\n")
    equal(t.out.all(), b"two\nthree\n", "what came after the first reader")
    equal(t.err.all(), b"", "stderr")
    equal(t.wait()["exit_status"], 0, "status")


@test
def what_nobody_reads_waits_for_the_next_reader(w):
    """The reader goes, 300 kB are written, a new reader gets all of them."""
    t = w.task(["sh", "-c", "read x; yes line | head -c 300000; echo end"], stdio="all").run()
    t.out.close()
    t.open_stdin().write(b"\n")
    until(lambda: bytes_in(t.stdout) > 60000, "the FIFO to be full")
    equal(t.state()["status"], RUNNING, "State")
    t.out = t.open_stdout()
    check(t.out.all() == b"line\n" * 60000 + b"end\n", "all of it")
    t.err.all()
    equal(t.wait()["exit_status"], 0, "status")


@test
def stdin_is_piped_through(w):
    t = w.task(["cat"], stdio="all").run()
    stdin = t.open_stdin()
    stdin.write(b"hello\0\xff\n")
    t.out.until(b"hello\0\xff\n")
    data = os.urandom(1 << 16) * 4
    stdin.write(b"begin" + data[:1 << 15])
    t.out.until(data[:1 << 15])
    stdin.close()
    t.call("CloseIO", stdin=True)
    t.out.all(), t.err.all()
    equal(t.wait()["exit_status"], 0, "status")


@test
def stdin_ends_only_by_closeio(w):
    t = w.task(["sh", "-c", "cat; echo end"], stdio="all").run()
    first = t.open_stdin()
    first.write(b"one\n")
    t.out.until(b"one\n")
    first.close()
    t.settle()  # a client that goes does not end stdin
    second = t.open_stdin()
    second.write(b"two\n")
    t.out.until(b"two\n")
    equal(t.call("CloseIO", stdin=True), {}, "CloseIO")
    second.write(b"three\n")
    t.out.until(b"three\n")
    t.settle()  # a client that stays keeps it open
    second.write(b"four\n")
    t.out.until(b"four\n")
    second.close()
    equal(t.out.all(), b"one\ntwo\nthree\nfour\nend\n", "output")
    for _ in range(3):
        equal(t.call("CloseIO", stdin=True), {}, "CloseIO again")
    equal(t.wait()["exit_status"], 0, "status")


@test
def closeio_before_start(w):
    t = w.task(["sh", "-c", "cat; echo end"], stdio="all")
    t.out, t.err = t.open_stdout(), t.open_stderr()
    t.create()
    stdin = t.open_stdin()
    stdin.write(b"early\n")
    stdin.close()
    t.call("CloseIO")  # the bool is not looked at
    t.start()
    equal(t.out.all(), b"early\nend\n", "output")


@test
def closeio_without_stdin(w):
    t = w.task()
    t.create()
    for _ in range(2):
        equal(t.call("CloseIO", stdin=True), {}, "CloseIO")
    t.start()
    equal(t.call("CloseIO", stdin=True), {}, "CloseIO")
    equal(t.state()["status"], RUNNING, "State")


@test
def a_container_that_never_reads_stdin(w):
    """Its FIFO fills and blocks the client, nothing else; what was not read is lost with the container."""
    t = w.task(["sleep", "1000"], stdio="all").run()
    stdin = t.open_stdin()
    os.set_blocking(stdin.fd, False)
    try:
        while True:
            os.write(stdin.fd, b"x" * 4096)
    except BlockingIOError:
        pass
    equal(t.state()["status"], RUNNING, "State")
    finish(t)
    equal((t.out.all(), t.err.all()), (b"", b""), "output")
    t.shutdown()


@test
def a_container_that_closes_stdin(w):
    t = w.task(["sh", "-c", "exec <&-; echo closed; sleep 1000"], stdio="all").run()
    t.out.until(b"closed\n")
    stdin = t.open_stdin()
    try:
        for _ in range(100):
            stdin.write(b"x" * 1000)
    except BrokenPipeError:
        pass
    equal(t.state()["status"], RUNNING, "State")
    check(alive(t.daemon()), "the daemon lives")


@test
@better("the Go shim gives containers without streams a /dev/null they cannot write to")
def null_streams_can_be_written_to(w):
    t = w.task(["sh", "-c", "echo x && echo y >&2 && ! read z"])
    t.create()
    for fd in (0, 1, 2):
        equal(os.readlink(f"/proc/{t.pid}/fd/{fd}"), "/dev/null", f"descriptor {fd}")
    t.start()
    equal(t.wait()["exit_status"], 0, "status")


@test
def null_streams_end(w):
    t = w.task(["sh", "-c", "read z; exit 6"])
    t.create()
    t.start()
    equal(t.wait()["exit_status"], 6, "status")


@test
@better("the Go shim fails to open an empty path, or hangs")
def a_missing_stream_is_null(w):
    script = "echo out; echo err >&2; read x || echo end"
    for number, names in enumerate((("stdout",), ("stderr",), ("stdin", "stdout"), ("stdin", "stderr"))):
        t = w.task(["sh", "-c", script], container=f"c{number}", stdio=names)
        if t.stdout:
            t.out = t.open_stdout()
        if t.stderr:
            t.err = t.open_stderr()
        t.pid = t.create_send().result()["pid"]
        if t.stdin:
            t.open_stdin().close()
            t.call("CloseIO", stdin=True)
        t.start()
        t.wait()
        if t.stdout:
            equal(t.out.all(), b"out\nend\n", f"stdout of {names}")
        if t.stderr:
            equal(t.err.all(), b"err\n", f"stderr of {names}")
        t.delete()


@test
def streams_have_the_owner_that_was_asked_for(w):
    # Where they are others, runc puts in the container's user, and crun its user and group.
    owner = {"runc": b"1234:4321\n", "crun": b"1234:1234\n"}[w.runtime]
    t = w.task(["sh", "-c", "stat -L -c '%u:%g' /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2"], stdio="all",
               uid=1234, opts=w.options(io_uid=1234, io_gid=4321)).run()
    equal(t.out.all(), owner * 3, "owners")
    equal(t.err.all(), b"", "stderr")


@test
def a_container_gets_only_its_three_descriptors(w):
    t = w.task(["sh", "-c", "ls /proc/self/fd; exec sleep 1000"], stdio="all").run()
    t.out.until(b"3\n")  # the directory itself
    equal(t.out.data, b"0\n1\n2\n3\n", "descriptors")
    for fd in (0, 1, 2):
        check(os.readlink(f"/proc/{t.pid}/fd/{fd}").startswith("pipe:"), "a pipe")


@test
def output_of_a_short_life_is_complete(w):
    """Many short containers, each read from only after its exit."""
    tasks = pod(w, *(f"c{n}" for n in range(6)), args=("sh", "-c", "echo out; echo err >&2"), stdio="out")
    for t in tasks:
        t.run()
    for t in tasks:
        equal(t.wait()["exit_status"], 0, "status")
        equal((t.out.all(), t.err.all()), (b"out\n", b"err\n"), "output")
        t.delete()


if __name__ == "__main__":
    sys.exit(main())
