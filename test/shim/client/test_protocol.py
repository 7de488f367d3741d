#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""test_protocol.py - the process interface and TTRPC of a shim, seen from containerd's side.

Only what happens around the Task service: the command line, `start`, `delete`, the daemon as a
process, frames, connections, deadlines. What the verbs do is in test_task.py.
"""

import concurrent.futures
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from shim import (SHIM_NAME, SOCKET_DIR, STOPPED, Closed, RpcError, alive, fds, is_socket, read_file, sockets,
                  until)
from tap import better, check, contains, equal, main, test
from ttrpc import (DATA, DEADLINE_EXCEEDED, INTERNAL, INVALID_ARGUMENT, MAX_DATA, NOT_FOUND, PATIENCE, REQUEST,
                   RESOURCE_EXHAUSTED, RESPONSE, TASK2, TASK3, UNIMPLEMENTED, frame, read_frame, request)
from wire import decode, encode, field, options, pack

NOBODY = 65534
NOT_CREATED = (NOT_FOUND, "container not created: not found")
PREFIX = "io.containerd.runc.v2: "


def started(output):
    """The socket path a successful `start` printed."""
    check(output.code == 0 and output.err == b"" and output.out.startswith(b"unix:///"), f"start: {output}")
    return output.out.decode()[len("unix://"):]


def fails(output, text, code=1):
    """An error exit: this text on stderr without a newline, nothing on stdout."""
    equal((output.code, output.out, output.err.decode()), (code, b"", PREFIX + text), "failure")


# ---- command line ---------------------------------------------------------------------------------


@test
def version_in_every_spelling(w):
    for argv in (["-v"], ["--v"], ["-v=true"], ["-v=1"], ["-id", "x", "-v"], ["-id=x", "--debug", "-v", "start"]):
        result = w.run(*argv)
        equal((result.code, result.err), (0, b""), f"{argv}")
        check(re.fullmatch(rf"(.*/)?{SHIM_NAME}:\n  Version:  \S.*\n  Revision: .*\n  Go version: .*\n\n",
                           result.out.decode()), f"{argv}: {result}")


@test
@better("-version is from 2.3")
def version_by_its_long_name(w):
    for argv in (["-version"], ["--version"]):
        equal(w.run(*argv).out, w.run("-v").out, f"{argv}")


@test
def help_names_every_flag(w):
    for argv in (["-h"], ["-help"], ["--help"], ["-namespace", "x", "-h"]):
        result = w.run(*argv)
        equal((result.code, result.out), (0, b""), f"{argv}")
        check(result.err.startswith(b"Usage of "), f"{argv}: {result}")
        for name in ("namespace", "id", "address", "publish-binary", "bundle", "socket", "debug", "v"):
            check(re.search(rf"^  -{name}\b", result.err.decode(), re.M), f"{argv}: no -{name}")


@test
def bad_flags_exit_with_two(w):
    for argv, text in ((["-bogus"], "flag provided but not defined: -bogus"),
                       (["--bogus", "start"], "flag provided but not defined: -bogus"),
                       (["-v", "-bogus=1"], "flag provided but not defined: -bogus"),
                       (["-id"], "flag needs an argument: -id"),
                       (["--namespace"], "flag needs an argument: -namespace"),
                       (["-debug=maybe"], 'invalid boolean value "maybe" for -debug: parse error'),
                       (["---id", "x"], "bad flag syntax: ---id"),
                       (["-=x"], "bad flag syntax: -=x")):
        result = w.run(*argv)
        equal((result.code, result.out), (2, b""), f"{argv}")
        equal(result.err.decode().split("\n")[0], text, f"{argv}")
        contains(result.err, b"\nUsage of ", f"{argv}")


@test
def namespace_must_be_given(w):
    for argv in ([], ["start"], ["delete"], ["-namespace", "", "start"], ["-namespace=", "delete"], ["-", "-v"],
                 ["--", "-v"], ["word", "-v"], ["-id", "x", "start", "-namespace", "x"]):
        fails(w.run(*argv), "shim namespace cannot be empty")


@test
def daemon_needs_log_and_socket(w):
    """Any word but start and delete means the daemon, which has neither log nor socket here."""
    for word in ([], ["serve"], ["START"]):
        result = w.run("-namespace", w.namespace, "-id", "x", *word)
        equal((result.code, result.out), (1, b""), f"{word}")
        check(result.err.startswith(PREFIX.encode()), f"{word}: {result}")


@test
def start_takes_every_spelling_of_its_flags(w):
    b = w.bundle()
    w.sockets.add(w.socket_path("c1"))
    argvs = (["-namespace", w.namespace, "-address", w.grpc, "-publish-binary", "/x", "-id", "c1", "start"],
             ["--namespace", w.namespace, "--address", w.grpc, "--publish-binary", "/x", "--id", "c1", "start"],
             [f"-namespace={w.namespace}", f"-address={w.grpc}", "-publish-binary=", "-id=c1", "-bundle=/x", "start"],
             [f"--namespace={w.namespace}", f"--address={w.grpc}", "--id=c1", "-debug=false", "--", "start"],
             ["-namespace", "other", "-address", w.grpc, "-id", "c1", "-namespace", w.namespace, "start", "-bogus"],
             ["-namespace", w.namespace, "-address", w.grpc, "-debug", "-id", "c1", "start", "delete"])
    for argv in argvs:
        equal(started(w.run(*argv, cwd=b.path)), w.socket_path("c1"), f"{argv}")
    equal(len(w.daemons()), 1, "daemons")
    shut_down(w, w.socket_path("c1"))


@test
@better("-info is from 2.0")
def info_tells_name_options_and_features(w):
    opts = options(binary_name=w.runtime)
    for stdin in (b"", encode("Any", opts)):
        result = w.run("-info", cwd="/", stdin=stdin)
        equal((result.code, result.err), (0, b""), "-info")
        info = decode("RuntimeInfo", result.out)
        equal(info["name"], "io.containerd.runc.v2")
        check(info["version"]["version"], "a version")
        if stdin:
            equal(info["options"], opts, "options")
        features = subprocess.run([w.runtime if stdin else "runc", "features"], capture_output=True)
        if features.returncode:  # crun 1.8 does not know its own
            equal(info["features"], None, "features")
            continue
        equal(info["features"]["type_url"], "types.containerd.io/opencontainers/runtime-spec/1/features/Features")
        equal(json.loads(info["features"]["value"]), json.loads(features.stdout), "features")


@test
@better("-info is from 2.0")
def info_of_a_runtime_without_features(w):
    binary = w.script("plain", 'echo "unknown command" >&2; exit 1')
    info = decode("RuntimeInfo", w.run("-info", stdin=encode("Any", options(binary_name=binary))).out)
    equal((info["name"], info["features"]), ("io.containerd.runc.v2", None), "name and features")


@test
@better("-info is from 2.0")
def info_of_a_missing_runtime_fails(w):
    result = w.run("-info", stdin=encode("Any", options(binary_name="/nonexistent/runc")))
    equal((result.code, result.out), (1, b""), "-info")
    contains(result.err.decode(), "/nonexistent/runc", "stderr")


# ---- start ----------------------------------------------------------------------------------------


def shut_down(w, path):
    """Shutdown of a daemon that has no containers; waits until it is gone."""
    conn = w.connect(path)
    pid = conn.call("Connect")["shim_pid"]
    try:
        equal(conn.call("Shutdown"), {}, "Shutdown")
    except Closed:
        pass
    until(lambda: not alive(pid), "the daemon to exit")
    until(lambda: not os.path.exists(path), "the socket to be removed")


@test
def start_prints_the_documented_address(w):
    for dialect in ("1.6", "1.7", "2.0"):
        b = w.bundle("c-" + dialect)
        result = w.start(b, dialect=dialect)
        path = w.socket_path(b.id)
        equal((result.code, result.out, result.err), (0, b"unix://" + path.encode(), b""), dialect)
        check(is_socket(path), "a socket")
        equal(os.stat(path).st_mode & 0o7777, 0o600, "mode of the socket")
        equal(os.stat(path).st_uid, 0, "owner of the socket")
        equal(read_file(b.file("address")), "unix://" + path, "file address")
        equal(sorted(os.listdir(b.path)), ["address", "config.json", "log", "rootfs"], "files in the bundle")
        shut_down(w, path)


@test
def start_cleans_the_path_it_hashes(w):
    plain = w.grpc
    for grpc in (plain.replace("/c.sock", "//c.sock"), plain.replace("/c.sock", "/./x/../c.sock"), plain + "/"):
        w.grpc = grpc
        b = w.bundle(f"c{len(w.bundles)}")
        path = started(w.start(b))
        w.grpc = plain
        equal(path, w.socket_path(b.id), grpc)
        shut_down(w, path)


@test
def groups_are_found_by_annotation(w):
    ours, cri = "io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"
    cases = (({ours: "g1"}, "g1"), ({cri: "g2"}, "g2"), ({cri: "no", ours: "g3"}, "g3"), ({ours: "", cri: "g4"}, ""),
             ({"io.other": "no"}, None), ({ours: 'g "6" \u00fc/x'}, 'g "6" \u00fc/x'))
    for number, (annotations, group) in enumerate(cases):
        b = w.bundle(f"c{number}", annotations=annotations)
        path = started(w.start(b))
        equal(path, w.socket_path(b.id if group is None else group), f"{annotations}")
        shut_down(w, path)


@test
def annotations_are_found_only_where_they_belong(w):
    b = w.bundle()
    config = dict(b.config, extra={"annotations": {"io.containerd.runc.v2.group": "no"}})
    config["process"] = dict(config["process"], annotations={"io.kubernetes.cri.sandbox-id": "no"})
    config["annotations"] = {"note": '"io.kubernetes.cri.sandbox-id": "no"', "a": "\\"}
    b.write_config(config)
    path = started(w.start(b))
    equal(path, w.socket_path("c1"), "socket")
    shut_down(w, path)


@test
def second_start_of_a_group_joins_it(w):
    group = {"io.kubernetes.cri.sandbox-id": "pod"}
    bundles = [w.bundle(f"c{n}", annotations=group) for n in range(3)]
    outputs = [w.start(b) for b in bundles]
    equal({o.out for o in outputs}, {b"unix://" + w.socket_path("pod").encode()}, "addresses")
    equal({(o.code, o.err) for o in outputs}, {(0, b"")}, "exits")
    equal(len(w.daemons()), 1, "daemons")
    for b in bundles:
        equal(read_file(b.file("address")), "unix://" + w.socket_path("pod"), "file address")
    shut_down(w, w.socket_path("pod"))


def start_at_once(w, group, count):
    bundles = [w.bundle(f"{group}-{n}", annotations={"io.kubernetes.cri.sandbox-id": group}) for n in range(count)]
    # Each waits at a gate, a FIFO that is then opened for all of them.
    gate = w.fifo("gate-" + group)
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        runs = [pool.submit(w.start, b, wrap=["/bin/sh", "-c", ': <"$0" && exec "$@"', gate]) for b in bundles]
        until(lambda: sum(line[0] == "/bin/sh" for line in w.processes().values()) == count,
              "all to wait at the gate")
        writer = w.writer(gate)
        outputs = [r.result() for r in runs]
        writer.close()
    path = w.socket_path(group)
    w.sockets.add(path)
    for output in outputs:
        equal(started(output), path, "address")
    pids = {w.connect(path).call("Connect")["shim_pid"] for _ in range(3)}
    equal(len(pids), 1, "daemons that answer")
    # A daemon that lost the race may take a moment to see it.
    until(lambda: set(w.daemons()) == pids, "exactly one daemon")
    shut_down(w, path)


@test
@better("the Go shim's start can lose this race")
def eight_starts_at_once_give_one_daemon(w):
    for turn in range(4):
        start_at_once(w, f"pod{turn}", 8)


@test
@better("the Go shim's start can lose this race")
def eight_starts_at_once_over_a_stale_socket(w):
    for turn in range(4):
        make_stale(w.socket_path(f"pod{turn}"))
        start_at_once(w, f"pod{turn}", 8)


def make_stale(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)


@test
def stale_socket_is_replaced(w):
    b = w.bundle()
    path = w.socket_path("c1")
    make_stale(path)
    w.sockets.add(path)
    equal(started(w.start(b)), path, "address")
    equal(os.stat(path).st_mode & 0o7777, 0o600, "mode")
    shut_down(w, path)


@test
@better("Go's runtime does not come up with so few descriptors")
def a_socket_that_cannot_be_asked_stays(w):
    """Out of descriptors, `start` does not know whether a daemon is there: it fails, and removes nothing."""
    group = {"io.kubernetes.cri.sandbox-id": "pod"}
    path = started(w.start(w.bundle("c1", annotations=group)))
    output = w.start(w.bundle("c2", annotations=group), wrap=["/bin/sh", "-c", 'ulimit -n 4 && exec "$@"', "sh"])
    equal(output.code, 1, "exit status")
    check(os.path.exists(path), "the socket is still there")
    equal(w.connect(path).call("Connect")["shim_pid"], w.daemons()[0], "who answers")
    shut_down(w, path)


@test
def nothing_but_sockets_is_left_in_the_socket_directory(w):
    """No temporary name, no lock file with this group's name."""
    path = started(w.start(w.bundle()))
    name = os.path.basename(path)
    equal([f for f in os.listdir(SOCKET_DIR) if name[:16] in f], [name], "names")
    shut_down(w, path)
    equal([f for f in os.listdir(SOCKET_DIR) if name[:16] in f], [], "names after Shutdown")


@test
def start_without_config_fails(w):
    b = w.bundle()
    os.unlink(b.file("config.json"))
    fails(w.start(b), "open config.json: no such file or directory")
    equal((w.daemons(), os.path.exists(w.socket_path("c1"))), ([], False), "daemons and socket")


@test
def start_with_a_broken_config_fails(w):
    b = w.bundle()
    for text in ("", "{", '{"annotations": ', "[1, 2", "nonsense"):
        b.write_config(text)
        result = w.start(b)
        equal((result.code, result.out), (1, b""), f"config {text!r}")
        check(result.err.startswith(PREFIX.encode()), f"config {text!r}: {result}")
    equal((w.daemons(), os.path.exists(w.socket_path("c1"))), ([], False), "daemons and socket")


@test
def start_without_options(w):
    b = w.bundle()
    path = started(w.start(b, opts=None))
    shut_down(w, path)


@test
def start_with_undecodable_stdin_fails(w):
    b = w.bundle()
    w.sockets.add(w.socket_path("c1"))
    result = w.start(b, stdin=b"\x0a\xff\xff")
    equal((result.code, result.out), (1, b""), "start")
    check(result.err.startswith(PREFIX.encode()), f"{result}")
    until(lambda: not w.daemons(), "no daemon")
    check(not os.path.exists(w.socket_path("c1")), "no socket")


@test
@better("the Go shim dies of options of another type")
def start_takes_the_options_of_other_runtime_names(w):
    for number, opts in enumerate((
            pack("containerd.linux.runc.CreateOptions", "CreateOptions", {"no_new_keyring": True}),
            dict(w.options(), type_url="type.googleapis.com/containerd.runc.v1.Options"))):
        b = w.bundle(f"c{number}")
        shut_down(w, started(w.start(b, opts=opts)))


@test
@better("the Go shim knows nothing of the options CRI sends for runtime names but runc's own")
def start_takes_the_options_of_cri(w):
    toml = f'BinaryName = "{w.runtime}"\nRoot = "{w.runtime_root}"\n'.encode()
    opts = pack("runtimeoptions.v1.Options", "RuntimeOptions",
                {"type_url": "io.containerd.runc.v1.Options", "config_body": toml})
    shut_down(w, started(w.start(w.bundle(), opts=opts)))


@test
@better("BootstrapParams are from 2.3")
def start_takes_bootstrap_params(w):
    mine = os.path.join(w.dir, "s")  # not there yet
    for number, (opts, where) in enumerate(((w.options(), None), (None, None), (w.options(), mine))):
        b = w.bundle(f"c{number}")
        path = started(w.start(b, dialect="2.3", opts=opts, socket_dir=where))
        equal(path, w.socket_path(b.id, where), "address")
        equal(os.stat(path).st_mode & 0o7777, 0o600, "mode")
        equal(read_file(b.file("address")), "unix://" + path, "file address")
        if where:
            equal(os.stat(where).st_mode & 0o7777, 0o700, "mode of the socket directory")
        shut_down(w, path)


@test
@better("BootstrapParams are from 2.3")
def bootstrap_params_carry_the_debug_level(w):
    for level, wanted in ((0, False), (-4, True), (-8, True), (4, False)):
        b = w.bundle(f"c{level + 9}")
        stdin = w.bootstrap_params(b.id, w.options(), log_level=level, socket_dir=SOCKET_DIR)
        path = started(w.start(b, dialect="2.3", stdin=stdin))
        daemon, = until(w.daemons, "the daemon")
        equal("-debug" in w.processes()[daemon], wanted, f"-debug at level {level}")
        shut_down(w, path)


@test
@better("the Go shim of 2.3 mistakes options for BootstrapParams")
def params_of_another_container_are_options(w):
    """What does not repeat -id and -namespace is an Any."""
    b = w.bundle()
    result = w.start(b, stdin=w.bootstrap_params("other", socket_dir="/nonexistent"))
    check(result.code == 1 or result.out == b"unix://" + w.socket_path("c1").encode(), f"{result}")
    if result.code == 0:
        shut_down(w, w.socket_path("c1"))


@test
def debug_reaches_the_daemon(w):
    for debug in (True, False):
        b = w.bundle(f"c{debug}")
        path = started(w.start(b, debug=debug))
        daemon, = until(w.daemons, "the daemon")
        equal("-debug" in w.processes()[daemon], debug, "-debug")
        shut_down(w, path)


# ---- the daemon as a process ----------------------------------------------------------------------


@test
def daemon_is_detached(w):
    t = w.task()
    pid = t.daemon()
    equal(w.daemons(), [pid], "daemons")
    open_files = fds(pid)
    equal((open_files[0], open_files[1]), ("/dev/null", "/dev/null"), "stdin and stdout")
    equal(open_files[2], t.bundle.file("log"), "stderr")
    equal(os.getpgid(pid), pid, "process group")
    equal(os.getsid(pid), os.getsid(0), "session")
    equal(os.readlink(f"/proc/{pid}/cwd"), t.bundle.path, "working directory")
    argv = w.processes()[pid]
    equal(argv[1:], ["-namespace", w.namespace, "-id", "c1", "-address", w.grpc], "arguments")
    equal(os.path.realpath(f"/proc/{pid}/exe"), w.binary, "executable")
    check(f"TTRPC_ADDRESS={w.events.path}" in read_file(f"/proc/{pid}/environ").split("\0"), "environment")


@test
def start_does_not_wait_for_the_log(w):
    """The daemon's log may have no reader; `start` and the daemon do not care."""
    b = w.bundle()
    b.close_log()
    holder = os.open(b.file("log"), os.O_RDONLY | os.O_NONBLOCK)
    path = started(w.start(b))
    check(w.connect(path).call("Connect")["shim_pid"] in w.daemons(), "answers")
    os.close(holder)
    shut_down(w, path)


@test
@better("the Go shim blocks on a full log")
def full_log_does_not_stop_the_daemon(w):
    t = w.task()
    filler = os.open(t.bundle.file("log"), os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            os.write(filler, b"x" * 4096)
    except BlockingIOError:
        os.close(filler)
    t.create()
    t.kill(all=True)
    equal(t.wait()["exit_status"], 137, "status")
    t.delete()
    t.shutdown()


@test
def daemon_survives_signals_of_broken_pipes(w):
    t = w.task()
    os.kill(t.daemon(), signal.SIGPIPE)
    t.bundle.close_log()  # from now on its log lines have no reader
    equal(t.error("State"), NOT_CREATED, "State")
    t.create()
    equal(t.state()["status"], 1, "status")


@test
def oom_score_is_one_above_containerds(w):
    parent = int(read_file("/proc/self/oom_score_adj"))
    t = w.task()
    equal(int(read_file(f"/proc/{t.daemon()}/oom_score_adj")), min(parent + 1, 1000), "oom_score_adj")


@test
def oom_score_stops_at_a_thousand(w):
    b = w.bundle()
    w.sockets.add(w.socket_path("c1"))
    done = subprocess.run(["sh", "-c", 'echo 1000 > /proc/self/oom_score_adj; "$@"; exit $?', "sh", w.shim,
                           *w.argv("c1", "start")], cwd=b.path, env=w.environ(), stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=PATIENCE)
    equal((done.returncode, done.stderr), (0, b""), "start")
    daemon, = until(w.daemons, "the daemon")
    equal(int(read_file(f"/proc/{daemon}/oom_score_adj")), 1000, "oom_score_adj")
    shut_down(w, w.socket_path("c1"))


@test
def termination_leaves_the_containers_alone(w):
    for number in (signal.SIGTERM, signal.SIGINT):
        t = w.task(container=f"c{number}")
        t.create()
        t.start()
        os.kill(t.daemon(), number)
        until(lambda: not alive(t.daemon()), "the daemon to exit")
        until(lambda: not os.path.exists(t.address), "the socket to be removed")
        check(alive(t.pid), "the container lives on")
        equal(t.delete_action()["exit_status"], 137, "exit status by `delete`")
        until(lambda: not alive(t.pid), "the container to be killed")


@test
def termination_at_once_after_start(w):
    b = w.bundle()
    path = started(w.start(b))
    daemon, = until(w.daemons, "the daemon")
    w.connect(path).call("Connect")  # it has its handlers by now
    os.kill(daemon, signal.SIGTERM)
    until(lambda: not alive(daemon), "the daemon to exit")
    until(lambda: not os.path.exists(path), "the socket to be removed")


@test
def grouped_socket_is_removed_at_the_end(w):
    t = w.task(annotations={"io.kubernetes.cri.sandbox-id": "pod"})
    equal(t.address, w.socket_path("pod"), "address")
    t.shutdown()
    check(not os.path.exists(t.address), "no socket")


@test
def explicit_socket(w):
    """-socket listens there, without a file descriptor from `start`."""
    b = w.bundle()
    path = os.path.join(w.dir, "x.sock")
    daemon = subprocess.Popen([w.shim, "-namespace", w.namespace, "-id", "c1", "-address", w.grpc, "-socket", path],
                              cwd=b.path, env=w.environ(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        until(lambda: is_socket(path), "the socket")

        def answer():
            try:
                return w.connect(path).call("Connect")["shim_pid"]
            except ConnectionRefusedError:
                return None
        equal(until(answer, "an answer"), daemon.pid, "shim_pid")
        daemon.send_signal(signal.SIGTERM)
        equal(daemon.wait(PATIENCE), 0, "exit status")
    finally:
        daemon.kill()
        daemon.wait()
    return path


@test
@better("the Go shim forgets this socket")
def explicit_socket_is_removed(w):
    check(not os.path.exists(explicit_socket(w)), "the socket is removed")


@test
def explicit_socket_must_fit(w):
    b = w.bundle()
    for length in (107, 200):
        path = os.path.join(w.dir, "x" * (length - len(w.dir) - 1))
        result = w.run("-namespace", w.namespace, "-id", "c1", "-socket", path, cwd=b.path)
        equal((result.code, result.out, os.path.exists(path)), (1, b"", False), f"{length} bytes")


# ---- delete ---------------------------------------------------------------------------------------


@test
@better("the Go shim before 2.1 wants the file `runtime`")
def delete_of_a_container_that_never_was(w):
    b = w.bundle()
    before = time.time()
    result = w.delete(b)
    equal((result.code, result.err), (0, b""), "delete")
    reply = decode("DeleteResponse", result.out)
    equal((reply["pid"], reply["exit_status"]), (0, 137), "pid and status")
    check(before - 1 <= reply["exited_at"]["seconds"] <= time.time() + 1, f"time {reply['exited_at']}")


@test
def delete_kills_what_still_runs(w):
    for dialect in ("1.6", "1.7", "2.3"):
        t = w.task(container="c" + dialect)
        t.create()
        t.start()
        result = w.delete(t.bundle, dialect=dialect, debug=dialect != "1.6")
        equal(result.code, 0, "delete")
        reply = decode("DeleteResponse", result.out)
        equal((reply["pid"], reply["exit_status"]), (t.pid, 137), "pid and status")
        until(lambda: not alive(t.pid), "the container to be gone")
        check(not w.mounts(), "nothing is mounted")
        equal(t.wait()["exit_status"], 137, "status by the daemon")


@test
@better("the Go shim logs that it starts")
def delete_says_nothing_when_all_is_well(w):
    t = w.task()
    t.create()
    equal(w.delete(t.bundle).err, b"", "stderr")


@test
def delete_can_be_repeated(w):
    t = w.task()
    t.create()
    t.start()
    pids = [t.delete_action()["pid"] for _ in range(3)]
    equal(pids, [t.pid] * 3, "pids")


@test
@better("the Go shim runs it always")
def delete_needs_no_runtime_for_what_is_gone(w):
    log = os.path.join(w.dir, "calls")
    opts = w.options(binary_name=w.script(os.path.basename(w.runtime), f'''echo "$*" >>{log}; exec {w.runtime} "$@"'''))
    gone, there = (w.task(["sleep", "1000"], container=name, opts=opts) for name in ("gone", "there"))
    for t in (gone, there):
        t.create()
    gone.delete()
    os.truncate(log, 0)
    equal(gone.delete_action()["pid"], gone.pid, "pid")
    equal(read_file(log), "", "calls of the runtime")
    equal(there.delete_action()["pid"], there.pid, "pid")
    check("delete --force there" in read_file(log), "the runtime was called")
    until(lambda: not alive(there.pid), "the container to be gone")


@test
def delete_leaves_the_group_alone(w):
    group = {"io.kubernetes.cri.sandbox-id": "pod"}
    a = w.task(container="a", annotations=group)
    b = w.task(container="b", annotations=group)
    a.create(), a.start(), b.create(), b.start()
    equal(a.delete_action()["pid"], a.pid, "pid")
    equal(b.state()["status"], 2, "status of the other")
    equal(w.connect(b.address).call("Connect", {"id": "b"})["task_pid"], b.pid, "a new connection")


@test
def delete_after_the_daemon_was_killed(w):
    t = w.task(stdio="out")
    t.run()
    os.kill(t.daemon(), signal.SIGKILL)
    until(lambda: not alive(t.shim_pid), "the daemon to die")
    check(alive(t.pid), "the container lives on")
    reply = t.delete_action()
    equal((reply["pid"], reply["exit_status"]), (t.pid, 137), "pid and status")
    until(lambda: not alive(t.pid), "the container to die")
    equal(w.mounts(), [], "mounts")
    # The dead daemon's socket is stale now; the next start of the group takes it over.
    b = w.bundle("c2", annotations={"io.kubernetes.cri.sandbox-id": "c1"})
    equal(started(w.start(b)), t.address, "address")
    shut_down(w, t.address)


# ---- frames ---------------------------------------------------------------------------------------


def answers(conn):
    """The connection is still good."""
    check(conn.call("Connect")["shim_pid"] > 0, "answers")


def ask(conn, data, stream):
    """Sends bytes and returns the (code, text) of the error reply to this stream."""
    call = conn.expect(stream)
    conn.raw(data)
    result = call.error()
    answers(conn)
    return result


def daemon_conn(w):
    """A connection to a daemon without containers, which is shut down by World.close()."""
    return w.task().conn


@test
def unknown_services_and_methods(w):
    c = daemon_conn(w)
    for service, method, text in (("x.Y", "Connect", "service x.Y"), ("", "", "service "),
                                  ("containerd.task.v2.Tas", "Connect", "service containerd.task.v2.Tas"),
                                  ("containerd.task.v9.Task", "Connect", "service containerd.task.v9.Task"),
                                  (TASK2, "Nope", "method Nope"), (TASK2, "", "method "),
                                  (TASK2, "connect", "method connect"), (TASK2, "Connec", "method Connec")):
        equal(c.error(method, service=service, payload=b""), (UNIMPLEMENTED, text), f"{service}/{method}")
    answers(c)


@test
@better("Task v3 is from 2.0")
def both_services_on_one_connection(w):
    c = daemon_conn(w)
    equal(c.call("Connect", service=TASK3), c.call("Connect", service=TASK2), "Connect")
    equal(c.error("State", {"id": "x"}, service=TASK3), NOT_CREATED, "State")
    equal(c.error("Nope", service=TASK3, payload=b""), (UNIMPLEMENTED, "method Nope"), "unknown method")


@test
def unknown_containers(w):
    c = daemon_conn(w)
    for method in ("State", "Start", "Delete", "Pids", "Kill", "CloseIO", "Wait", "Pause", "Resume", "Exec", "ResizePty",
                   "Update", "Stats", "Checkpoint"):
        equal(c.error(method, {"id": "x"}), NOT_CREATED, method)
        equal(c.error(method, {}), NOT_CREATED, method + " of an empty id")
        if method not in ("Pids", "Pause", "Resume", "Update", "Stats", "Checkpoint"):
            equal(c.error(method, {"id": "x", "exec_id": "e"}), NOT_CREATED, method + " of an exec")
    for id_ in ("c1" * 500, "../x", "a\nb", "\u00fc" * 40):
        equal(c.error("State", {"id": id_}), NOT_CREATED, "State")
    equal(c.call("Connect", {"id": "x"})["task_pid"], 0, "Connect")


@test
def even_stream_ids(w):
    c = daemon_conn(w)
    text = "StreamID must be odd for client initiated streams"
    for stream in (0, 2, 4, (1 << 32) - 2):
        got = ask(c, frame(stream, REQUEST, request(TASK2, "Connect")), stream)
        equal(got, (INVALID_ARGUMENT, text), f"stream {stream}")


@test
@better("from ttrpc 1.2 on")
def stream_ids_must_increase(w):
    c = daemon_conn(w)
    text = "StreamID cannot be re-used and must increment"
    answers(c)
    equal(ask(c, frame(1, REQUEST, request(TASK2, "Connect")), 1), (INVALID_ARGUMENT, text), "used")
    c.stream = 101
    equal(c.call("Connect", payload=b"")["task_pid"], 0, "a jump")
    equal(ask(c, frame(53, REQUEST, request(TASK2, "Connect")), 53), (INVALID_ARGUMENT, text), "backwards")


@test
def stream_ids_to_the_end(w):
    c = daemon_conn(w)
    c.stream = (1 << 32) - 3
    answers(c)  # the last odd one


@test
def undecodable_requests(w):
    c = daemon_conn(w)
    for data in (b"\xff\xff\xff", b"\x0a\x05ab", b"\x20\x80", b"\x0b", b"\x0a\xff\xff\xff\xff\x0f", b"\x07"):
        c.stream += 2
        code, text = ask(c, frame(c.stream, REQUEST, data), c.stream)
        equal(code, INVALID_ARGUMENT, f"{data}")
        check(text.startswith("unmarshal request error: "), f"{data}: {text}")


@test
def undecodable_payloads(w):
    c = daemon_conn(w)
    for method in ("State", "Create", "Start", "Delete", "Wait", "Kill", "Pids", "Connect", "Shutdown", "CloseIO",
                   "Pause", "Resume", "Exec", "ResizePty", "Update", "Stats", "Checkpoint"):
        for payload in (b"\xff\xff", b"\x0a\x05ab", b"\x0a\xff\xff\xff\xff\x0f"):
            code, text = c.error(method, payload=payload)
            equal(code, INTERNAL, f"{method} {payload}: code of {text!r}")
            check(text.startswith("ttrpc: error unmarshalling payload: "), f"{method} {payload}: {text}")
    answers(c)


@test
@better("the Go shim of 1.6 takes any bytes for text")
def text_must_be_utf8(w):
    c = daemon_conn(w)
    for bad in (b"\xff", b"a\xc0\xafb", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"):
        code, text = c.error("State", payload=field(1, bad))
        equal(code, INTERNAL, f"{bad}")
        check(text.startswith("ttrpc: error unmarshalling payload: "), f"{bad}: {text}")
    answers(c)


@test
def unknown_fields_are_skipped(w):
    c = daemon_conn(w)
    more = field(99, "text") + field(98, 7) + field(97, b"\xff\xff") + b"\x91\x06" + b"8" * 8 + b"\x95\x06" + b"4" * 4
    equal(c.error("State", payload=more + field(1, "x") + more), NOT_CREATED, "in the payload")
    c.stream += 2
    data = more + request(TASK2, "State", field(1, "x")) + more
    equal(ask(c, frame(c.stream, REQUEST, data), c.stream), NOT_CREATED, "in the request")


@test
def metadata_is_ignored(w):
    c = daemon_conn(w)
    c.stream += 2
    metadata = [{"key": "containerd-namespace-ttrpc", "value": "other"}, {"key": "traceparent", "value": "00-x"}, {}]
    data = request(TASK2, "State", field(1, "x"), metadata=metadata)
    equal(ask(c, frame(c.stream, REQUEST, data), c.stream), NOT_CREATED, "State")


@test
def last_of_a_repeated_field_wins(w):
    t = w.task()
    t.create()
    reply = t.conn.call("State", payload=field(1, "other") + field(1, "c1"))
    equal(reply["id"], "c1", "id")


@test
def unknown_frame_types_are_ignored(w):
    c = daemon_conn(w)
    for kind in (0, RESPONSE, 4, 77, 255):
        for data in (b"", b"abc", request(TASK2, "Shutdown", field(1, "x"))):
            c.raw(frame(c.next_stream(), kind, data))
    answers(c)
    equal(c.strays, [], "frames nobody asked for")


@test
@better("from ttrpc 1.2 on")
def data_frames_belong_to_no_stream(w):
    c = daemon_conn(w)
    stream = c.next_stream()
    call = c.expect(stream)
    c.raw(frame(stream, DATA, b"abc"))
    equal(call.error(), (INVALID_ARGUMENT, "StreamID is no longer active"), "error")


@test
def largest_frame_is_accepted(w):
    c = daemon_conn(w)
    for size in (MAX_DATA, MAX_DATA - 1, 1 << 20, 4096, 4097, 4086):
        fixed = len(request(TASK2, "State", field(1, "x") + field(200, b"")))
        padding = size - fixed
        while True:  # the lengths themselves take more bytes, the larger they are
            data = request(TASK2, "State", field(1, "x") + field(200, b"\0" * padding))
            if len(data) == size:
                break
            padding -= len(data) - size
        stream = c.next_stream()
        equal(ask(c, frame(stream, REQUEST, data), stream), NOT_CREATED, f"{size} bytes")


@test
def larger_frames_are_refused(w):
    c = daemon_conn(w)
    for size in (MAX_DATA + 1, 3 * MAX_DATA):
        stream = c.next_stream()
        equal(ask(c, frame(stream, REQUEST, b"\x0a" * size), stream),
              (RESOURCE_EXHAUSTED, f"message length {size} exceed maximum message size of 4194304"), f"{size} bytes")


@test
def largest_length_is_refused(w):
    """4 GiB are announced and some sent; others are not kept waiting."""
    t = w.task()
    c = w.connect(t.address)
    c.raw(frame(1, REQUEST, b"\x0a" * 100000, length=(1 << 32) - 1))
    answers(t.conn)
    c.close()
    answers(t.conn)


@test
def memory_does_not_grow_with_large_frames(w):
    t = w.task()
    pid = t.daemon()

    def resident():
        return int(re.search(r"^Rss:\s+(\d+)", read_file(f"/proc/{pid}/smaps_rollup"), re.M).group(1))
    before = resident()
    data = frame(1, REQUEST, request(TASK2, "State", field(200, b"\xaa" * (MAX_DATA - 100))))
    for _ in range(12):
        c = w.connect(t.address, deaf=True)
        c.raw(data)
        check(read_frame(c.sock)[0] == 1, "a reply")
        c.close()
    grown = resident() - before
    check(grown < 24 << 10, f"{grown} KiB more after 48 MiB of requests")


@test
def requests_byte_by_byte(w):
    t = w.task()
    c = w.connect(t.address)
    call = c.expect(1)
    for byte in frame(1, REQUEST, request(TASK2, "State", field(1, "x"))):
        c.raw(bytes([byte]))
        until(lambda: not c.unsent(), "the daemon to have taken it")
    equal(call.error(), NOT_CREATED, "State")
    # Two requests cut in the middle of the second's header, then its rest.
    both = frame(3, REQUEST, request(TASK2, "State", field(1, "x"))) + frame(5, REQUEST, request(TASK2, "Connect"))
    calls = [c.expect(3), c.expect(5)]
    cut = len(both) - len(request(TASK2, "Connect")) - 4
    c.raw(both[:cut])
    equal(calls[0].error(), NOT_CREATED, "the first")
    check(not calls[1].finished(), "the second is not answered before it is whole")
    c.raw(both[cut:])
    calls[1].result()


@test
def many_requests_in_one_write(w):
    c = daemon_conn(w)
    calls, data = [], b""
    for n in range(500):
        calls.append(c.expect(2 * n + 1))
        data += frame(2 * n + 1, REQUEST, request(TASK2, "State", field(1, f"x{n}")))
    c.raw(data)
    equal({call.error() for call in calls}, {NOT_CREATED}, "errors")


@test
def half_frames_harm_nobody(w):
    t = w.task()
    whole = frame(1, REQUEST, request(TASK2, "Shutdown", field(1, "x")))
    halves = [w.connect(t.address, deaf=True) for _ in range(12)]
    for number, c in enumerate(halves):
        c.raw(whole[:number * (len(whole) - 1) // 11])
    answers(t.conn)
    for c in halves:
        c.close()
    answers(t.conn)
    check(alive(t.daemon()), "no Shutdown was made of halves")


# ---- connections ----------------------------------------------------------------------------------


@test
def probes_without_a_byte(w):
    t = w.task()
    before = sockets(t.daemon())
    for _ in range(100):
        w.connect(t.address, deaf=True).close()
    linger = struct.pack("ii", 1, 0)
    for _ in range(20):
        c = w.connect(t.address, deaf=True)
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        c.close()
    answers(t.conn)
    until(lambda: sockets(t.daemon()) <= before, "the daemon to forget them")


@test
def two_hundred_connections(w):
    t = w.task()
    t.create()
    t.events("create")  # its connection is there now
    before = sockets(t.daemon())
    conns = [w.connect(t.address) for _ in range(200)]
    waits = [c.send("Wait", {"id": "c1"}) for c in conns]
    states = [c.send("State", {"id": "c1"}) for c in conns]
    equal({s.result()["pid"] for s in states}, {t.pid}, "pids")
    check(not any(x.finished() for x in waits), "no Wait is over yet")
    t.start()
    t.kill()
    equal({x.result()["exit_status"] for x in waits}, {137}, "statuses")
    for c in conns:
        c.close()
    until(lambda: sockets(t.daemon()) <= before, "the daemon to close them")
    answers(t.conn)


@test
def three_hundred_waits_on_one_connection(w):
    t = w.task()
    t.create()
    waits = [t.send("Wait") for _ in range(300)]
    equal(t.state()["status"], 1, "status")  # answered past all the Waits
    t.start()
    check(not any(x.finished() for x in waits), "no Wait is over yet")
    t.kill()
    results = [x.result() for x in waits]
    equal({r["exit_status"] for r in results}, {137}, "statuses")
    equal(len({str(r["exited_at"]) for r in results}), 1, "exit times")


@test
def waits_of_lost_connections_cost_nothing(w):
    t = w.task()
    t.create()
    t.events("create")
    before = sockets(t.daemon())
    for _ in range(20):
        c = w.connect(t.address)
        for _ in range(20):
            c.send("Wait", {"id": "c1"})
        answers(c)
        c.close()
    until(lambda: sockets(t.daemon()) <= before, "the daemon to close them")
    last = t.send("Wait")
    t.start()
    t.kill()
    equal(last.result()["exit_status"], 137, "status")


def talk(t, deaf, most):
    """Requests on a connection whose replies nobody reads, until the daemon stops reading them, which is the
    right thing to do: (how many are sent, what is left of the last one)."""
    deaf.sock.setblocking(False)
    sent, data, full = 0, b"", False
    while sent < most:
        data = data or frame(2 * sent + 1, REQUEST, request(TASK2, "State", field(1, "x")))
        try:
            data = data[deaf.sock.send(data):]
        except BlockingIOError:
            if full:
                break
            t.settle()
            full = True
            continue
        full = False
        sent += not data
    return sent, data


@test
def client_that_never_reads(w):
    t = w.task()
    deaf = w.connect(t.address, deaf=True)
    sent, data = talk(t, deaf, 20000)
    check(sent > 100, f"only {sent} requests were taken")
    answers(t.conn)
    other = w.connect(t.address)
    answers(other)
    t.create()
    equal(t.state()["status"], 1, "status")
    # Nothing was lost: all replies come once it reads, in whatever order; the last request was cut.
    deaf.sock.settimeout(PATIENCE)
    sent += bool(data)
    rest = threading.Thread(target=deaf.sock.sendall, args=(data,))
    rest.start()
    streams = set()
    while len(streams) < sent:
        got = read_frame(deaf.sock)
        check(got is not None, f"the connection broke after {len(streams)} of {sent} replies")
        equal(decode("Response", got[3])["status"]["code"], NOT_FOUND, "code")
        streams.add(got[0])
    rest.join(PATIENCE)
    check(streams == set(range(1, 2 * sent, 2)), "every stream once")


@test
def client_that_never_reads_and_goes(w):
    t = w.task()
    before = sockets(t.daemon())
    for _ in range(5):
        deaf = w.connect(t.address, deaf=True)
        talk(t, deaf, 3000)
        deaf.close()
    answers(t.conn)
    until(lambda: sockets(t.daemon()) <= before, "the daemon to close them")


@test
def disconnect_after_the_request(w):
    """The client is gone before the reply; what it asked for has been done."""
    t = w.task()
    t.create()
    t.start()
    c = w.connect(t.address, deaf=True)
    c.raw(frame(1, REQUEST, request(TASK2, "Kill", encode("KillRequest", {"id": "c1", "signal": 9, "all": True}))))
    read_frame(c.sock)
    c.close()
    equal(t.wait()["exit_status"], 137, "status")
    equal(t.state()["status"], STOPPED, "status")


@test
@better("the Go shim kills runc when its client goes")
def disconnect_during_create(w):
    gate = w.gate("create")
    t = w.task(opts=gate.options)
    before = sockets(t.daemon())
    c = w.connect(t.address)
    c.send("Create", {"id": "c1", **t.create_request()})
    gate.reached()
    c.close()
    until(lambda: sockets(t.daemon()) <= before, "the daemon to see it")
    gate.open()

    def created():
        try:
            return t.state()["status"] == 1
        except RpcError:
            return False
    until(created, "the container to be created all the same")
    equal(t.events("create")[0]["pid"], t.state()["pid"], "pid in the event")


@test
def other_users_are_refused(w):
    """Same socket, other credentials: the connection is closed without an answer."""
    t = w.task()
    os.chmod(t.address, 0o666)
    handle = os.open(t.address, os.O_PATH)
    hello = frame(1, REQUEST, request(TASK2, "Connect")).hex()
    code = f"""
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout({PATIENCE})
s.connect("/proc/self/fd/{handle}")
try:
    s.sendall(bytes.fromhex("{hello}"))
    sys.exit(len(s.recv(1)))
except (BrokenPipeError, ConnectionResetError):
    sys.exit(0)
"""
    try:
        for user, group, wanted in ((0, 0, 1), (NOBODY, NOBODY, 0), (NOBODY, 0, 0), (0, NOBODY, 0)):
            got = subprocess.run(["/usr/bin/python3", "-c", code], user=user, group=group, extra_groups=[],
                                 pass_fds=[handle], timeout=2 * PATIENCE).returncode
            equal(got, wanted, f"bytes of an answer for {user}:{group}")
    finally:
        os.close(handle)
    answers(t.conn)


# ---- deadlines ------------------------------------------------------------------------------------

EXCEEDED = (DEADLINE_EXCEEDED, "context deadline exceeded")


@test
@better("before 2.2 Wait ignores its deadline")
def wait_ends_at_its_deadline(w):
    t = w.task()
    t.create()
    begin = time.monotonic()
    late = t.send("Wait", timeout_nano=3600 * 10**9)
    none = t.send("Wait", timeout_nano=0)
    equal(t.send("Wait", timeout_nano=int(0.3e9)).error(), EXCEEDED, "0.3 s")
    took = time.monotonic() - begin
    check(took >= 0.29, f"answered after {took:.3f} s")
    for past in (-1, -int(1e9), -(1 << 63), 1):
        equal(t.error("Wait", timeout_nano=past), EXCEEDED, f"{past} ns")
    check(not late.finished() and not none.finished(), "the others wait on")
    t.start()
    t.kill()
    equal((late.result()["exit_status"], none.result()["exit_status"]), (137, 137), "statuses")


@test
def largest_deadline_is_none(w):
    t = w.task()
    t.create()
    wait = t.send("Wait", timeout_nano=(1 << 63) - 1)
    t.start()
    check(not wait.finished(), "waits on")
    t.kill()
    equal(wait.result()["exit_status"], 137, "status")


@test
@better("the Go shim answers with what killing runc looks like")
def create_ends_at_its_deadline(w):
    t = w.task(opts=w.wrapper("create", before="exec sleep 1000"))
    begin = time.monotonic()
    equal(t.error("Create", **t.create_request(), timeout_nano=int(0.5e9)), EXCEEDED, "Create")
    took = time.monotonic() - begin
    check(took >= 0.49, f"answered after {took:.3f} s")
    equal(t.error("State"), NOT_CREATED, "State")
    until(lambda: not any("sleep" in line for line in w.processes().values()), "the runtime to be killed")
    until(lambda: not w.mounts(), "the rootfs to be unmounted")


@test
@better("the Go shim keeps what it was started with")
def nothing_inherited_is_kept(w):
    result = w.start(w.bundle(), wrap=("sh", "-c", 'exec 9</dev/null; exec "$@"', "sh"))
    equal(result.code, 0, "exit status")
    path = result.out.decode()[len("unix://"):]
    pid = w.connect(path).call("Connect")["shim_pid"]
    check(9 not in fds(pid), f"open in the daemon: {fds(pid)}")
    shut_down(w, path)


if __name__ == "__main__":
    sys.exit(main())
