# SPDX-License-Identifier: Apache-2.0
"""shim.py - plays containerd towards a shim, with no containerd running.

A World is a containerd of its own: a namespace, a directory with bundles, FIFOs and runc's state,
an events server. Worlds share nothing but the read-only root filesystem, so tests may run side by
side. World.close() takes everything down the way containerd would, and returns what was left over.

The shim under test is $SHIM (default: build/nanoshim); it is always executed as
containerd-shim-runc-v2 by a symbolic link, since it may be a multi-call binary. $RUNTIME is the
OCI runtime: runc (the default) or crun.
"""

import atexit
import errno
import fcntl
import functools
import hashlib
import json
import os
import posixpath
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import termios
import threading
import time

from ttrpc import PATIENCE, TASK2, Closed, Conn, EventServer, Late, RpcError
from wire import decode, encode, options, pack

REPO = os.path.realpath(os.path.join(os.path.dirname(__file__), "../../.."))
SHIM = os.path.realpath(os.environ.get("SHIM") or os.path.join(REPO, "build/nanoshim"))
GO_SHIM = "/usr/bin/containerd-shim-runc-v2"
RUNTIME = os.environ.get("RUNTIME") or "runc"
SANITIZED = bool(os.environ.get("SANITIZED"))  # the shim is build/asan/nanoshim
SHIM_NAME = "containerd-shim-runc-v2"
SOCKET_DIR = "/run/containerd/s"
CREATED, RUNNING, STOPPED, PAUSED, PAUSING = 1, 2, 3, 4, 5


@functools.lru_cache
def is_go(binary):
    """Built by Go? (It then has Go's build information in it.)"""
    with open(binary, "rb") as f:
        return b"\xff Go buildinf:" in f.read()


def make_room_for_crun():
    """crun refuses a hybrid cgroup layout: hide the v2 half, in a mount namespace of our own."""
    unified = "/sys/fs/cgroup/unified"
    if os.path.basename(RUNTIME) == "crun" and os.path.ismount(unified):
        script = f'umount {unified} && exec "$@"'
        os.execvp("unshare", ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, *sys.argv])


def until(condition, what, timeout=PATIENCE):
    """Polls until condition() is true, and returns its value."""
    end = time.monotonic() + timeout
    pause = 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Late(f"{what}: not within {timeout} s")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def read_file(path, default=None):
    try:
        with open(path) as f:
            return f.read()
    except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
        if default is None:
            raise
        return default


# ---- processes ------------------------------------------------------------------------------------


def alive(pid):
    """Is there such a process, and is it no zombie?"""
    status = read_file(f"/proc/{pid}/stat", "")
    return bool(status) and status.rpartition(")")[2].split()[0] not in "ZX"


def descendants_marked(mark):
    """{pid: command line} of all live processes that inherited `mark` in their environment."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                if mark.encode() not in f.read().split(b"\0"):
                    continue
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                line = f.read().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:
            continue
        if int(pid) != os.getpid() and alive(pid):
            found[int(pid)] = line
    return found


def fds(pid):
    """What the process has open, by number."""
    result = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            result[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            pass
    return result


@functools.lru_cache
def hierarchies():
    """Mount points of cgroup hierarchies."""
    tops = ["/sys/fs/cgroup", *("/sys/fs/cgroup/" + h for h in os.listdir("/sys/fs/cgroup"))]
    return [t for t in tops if os.path.ismount(t) and not os.path.islink(t)]


def sockets(pid):
    """How many sockets the process has open."""
    return sum(name.startswith("socket:") for name in fds(pid).values())


def children(pid):
    return [int(c) for t in os.listdir(f"/proc/{pid}/task")
            for c in read_file(f"/proc/{pid}/task/{t}/children", "").split()]


# ---- FIFOs ----------------------------------------------------------------------------------------


class Reader:
    """The reading end of a FIFO, as a client holds it. Nothing is read but on demand."""

    def __init__(self, path, blocking=False):
        self.fd = os.open(path, os.O_RDONLY | (0 if blocking else os.O_NONBLOCK))
        os.set_blocking(self.fd, False)
        self.data, self.eof = b"", False

    def wait_for_more(self, timeout):
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        events = poll.poll(max(timeout, 0) * 1000)
        if not events:
            return
        piece = os.read(self.fd, 1 << 20)
        if piece:
            self.data += piece
        elif events[0][1] & select.POLLHUP:
            self.eof = True

    def until(self, text, timeout=PATIENCE):
        """Reads until `text` has been seen."""
        end = time.monotonic() + timeout
        while text not in self.data:
            if self.eof:
                raise AssertionError(f"end of file before {text!r}: {self.data[-200:]!r}")
            if time.monotonic() > end:
                raise Late(f"{text!r} not read, only {self.data[-200:]!r}")
            self.wait_for_more(end - time.monotonic())
        return self.data

    def all(self, timeout=PATIENCE):
        """Reads to the end of file."""
        end = time.monotonic() + timeout
        while not self.eof:
            if time.monotonic() > end:
                raise Late(f"no end of file after {self.data[-200:]!r}")
            self.wait_for_more(end - time.monotonic())
        return self.data

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def read_all(*readers, timeout=PATIENCE):
    """Reads all of them to their ends, whoever has something to say."""
    end = time.monotonic() + timeout
    while open_ones := {r.fd: r for r in readers if not r.eof}:
        poll = select.poll()
        for fd in open_ones:
            poll.register(fd, select.POLLIN)
        ready = poll.poll(max(end - time.monotonic(), 0) * 1000)
        if not ready:
            raise Late(f"no end of file after {[r.data[-50:] for r in readers]}")
        for fd, _ in ready:
            open_ones[fd].wait_for_more(0)
    return [r.data for r in readers]


def bytes_in(path):
    """How much is in a FIFO that somebody has open for reading; nothing is taken out of it."""
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
    finally:
        os.close(fd)


class Writer:
    """The writing end of a container's stdin."""

    def __init__(self, path, timeout=PATIENCE):
        def opened():
            try:
                return [os.open(path, os.O_WRONLY | os.O_NONBLOCK)]
            except OSError as e:
                if e.errno != errno.ENXIO:
                    raise
        self.fd = until(opened, f"a reader of {path}", timeout)[0]
        os.set_blocking(self.fd, True)

    def write(self, data):
        while data:
            data = data[os.write(self.fd, data):]

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


# ---- what all worlds share --------------------------------------------------------------------------

_lock = threading.Lock()
_count = 0
_base = None


def base():
    """The directory of this run, with the root filesystem in it."""
    global _base
    with _lock:
        if _base is None:
            made = tempfile.mkdtemp(prefix="shimtest.", dir=os.environ.get("TMPDIR", "/tmp"))
            rootfs = os.path.join(made, "rootfs")
            for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
                os.makedirs(os.path.join(rootfs, name))
            shutil.copy("/bin/busybox", os.path.join(rootfs, "bin/busybox"))
            for applet in subprocess.check_output(["/bin/busybox", "--list"], text=True).split():
                if applet != "busybox":
                    os.symlink("busybox", os.path.join(rootfs, "bin", applet))
            atexit.register(_remove_base, made)
            _base = made
    return _base


def _remove_base(path):
    if path not in read_file("/proc/self/mountinfo"):
        shutil.rmtree(path, ignore_errors=True)


def spec(args, cgroups_path, *, terminal=False, annotations=None, pid="private", env=(), uid=0, memory=None):
    """An OCI spec that runc 1.1 and crun take, on cgroup v1 or v2, without any privilege root may
    lack. pid is "private", "host", or the path of a namespace to join."""
    namespaces = [{"type": t} for t in ("ipc", "uts", "mount")]
    if pid != "host":
        namespaces.append({"type": "pid"} if pid == "private" else {"type": "pid", "path": pid})
    capabilities = ["CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_ADMIN"]
    result = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": terminal, "user": {"uid": uid, "gid": uid}, "args": args, "cwd": "/",
            "env": ["PATH=/bin", "TERM=dumb", *env],
            "capabilities": {s: capabilities for s in ("bounding", "effective", "permitted")},
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "shimtest",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "mode=755", "size=64k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "size=16m"]},
        ],
        "linux": {
            "cgroupsPath": cgroups_path,
            "namespaces": namespaces,
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }
    if annotations:
        result["annotations"] = annotations
    if memory:
        result["linux"]["resources"]["memory"] = {"limit": memory}
    return result


class Output:
    """What a short-lived run of the shim binary gave."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return f"exit {self.code}, stdout {self.out!r}, stderr {self.err!r}"


# ---- one containerd -----------------------------------------------------------------------------------


class World:
    def __init__(self, binary=None):
        global _count
        root = base()
        with _lock:
            _count += 1
            number = _count
        self.binary = binary or SHIM
        self.go = is_go(self.binary)
        self.runtime = RUNTIME
        self.service = TASK2  # the name of the Task service that tasks use
        self.namespace = f"st{os.getpid()}-{number}"
        self.mark = "SHIM_TEST_WORLD=" + self.namespace
        self.dir = os.path.join(root, str(number))
        self.rootfs = os.path.join(root, "rootfs")
        self.runtime_root = os.path.join(self.dir, "runc")
        for name in ("", "bin", "b", "io", "tmp"):
            os.mkdir(os.path.join(self.dir, name))
        self.shim = os.path.join(self.dir, "bin", SHIM_NAME)
        os.symlink(self.binary, self.shim)
        self.grpc = os.path.join(self.dir, "c.sock")
        self.socket_dir = SOCKET_DIR
        self.events = EventServer(os.path.join(self.dir, "e.sock"))
        self.bundles, self.tasks, self.closers, self.sockets = [], [], [], set()
        self.socket_dirs = {SOCKET_DIR}

    # -- the shim's command line

    def environ(self, **more):
        env = {k: v for k, v in os.environ.items() if k not in ("SHIM", "NOTIFY_SOCKET", "XDG_RUNTIME_DIR")}
        env.update(GOMAXPROCS="2", TTRPC_ADDRESS=self.events.path, TMPDIR=os.path.join(self.dir, "tmp"))
        env[self.mark.partition("=")[0]] = self.namespace
        env.update(more)
        return {k: v for k, v in env.items() if v is not None}

    def run(self, *argv, cwd=None, stdin=b"", timeout=PATIENCE, env=None, wrap=()):
        """Runs the shim binary with these arguments until its output ends, like containerd. `wrap`
        is a command that executes the one behind it."""
        process = subprocess.Popen([*wrap, self.shim, *argv], cwd=cwd or self.dir, env=self.environ(**(env or {})),
                                   stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(stdin or None, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Late(f"{' '.join(argv)}: still running after {timeout} s") from None
        return Output(process.returncode, out, err)

    def argv(self, container, action, *, dialect="1.6", debug=False, bundle=None):
        """containerd's arguments for `start` or `delete`, by its version."""
        argv = ["-namespace", self.namespace, "-address", self.grpc, "-publish-binary", "/usr/bin/containerd",
                "-id", container]
        if action == "delete":
            argv += ["-bundle", bundle]
        if debug and not (action == "delete" and dialect == "1.6"):
            argv += ["-debug"]
        return argv + [action]

    def dialect_env(self, dialect):
        if dialect == "1.6":
            return {}
        return {"MAX_SHIM_VERSION": "2", "GRPC_ADDRESS": self.grpc, "NAMESPACE": self.namespace}

    def bootstrap_params(self, container, opts=None, **more):
        """What containerd 2.3 and later sends to `start`."""
        params = dict(instance_id=container, namespace=self.namespace, containerd_version="2.3.4",
                      containerd_ttrpc_address=self.events.path, containerd_grpc_address=self.grpc,
                      containerd_binary="/usr/bin/containerd", extensions=[{"value": opts}] if opts else [])
        params.update(more)
        return encode("BootstrapParams", params)

    def start(self, bundle, *, dialect="1.6", opts="default", stdin=None, debug=False, env=None, socket_dir=None,
              wrap=()):
        """`start` as this version of containerd does it. The Output as it is."""
        if opts == "default":
            opts = self.options()
        if stdin is None:
            if dialect == "2.3":
                self.socket_dirs.add(socket_dir or SOCKET_DIR)
                stdin = self.bootstrap_params(bundle.id, opts, socket_dir=socket_dir or SOCKET_DIR)
            else:
                stdin = encode("Any", opts) if opts else b""
        result = self.run(*self.argv(bundle.id, "start", dialect=dialect, debug=debug), cwd=bundle.path, stdin=stdin,
                          env={**self.dialect_env(dialect), **(env or {})}, wrap=wrap)
        if result.code == 0 and result.out.startswith(b"unix://"):
            self.sockets.add(result.out.decode()[len("unix://"):].strip())
        return result

    def delete(self, bundle, *, dialect="1.6", debug=False, cwd=None):
        """The `delete` action, run after every removal. The Output as it is."""
        return self.run(*self.argv(bundle.id, "delete", dialect=dialect, debug=debug, bundle=bundle.path),
                        cwd=cwd or bundle.path, env=self.dialect_env(dialect))

    def socket_path(self, group, socket_dir=None):
        """Where the daemon of this group listens, by the documented rule."""
        text = posixpath.normpath("/".join((self.grpc, self.namespace, group)))
        return os.path.join(socket_dir or self.socket_dir, hashlib.sha256(text.encode()).hexdigest())

    # -- containers

    def options(self, **fields):
        """Runtime options, with the runtime's state in a directory of this world's own."""
        name = "" if self.runtime == "runc" else self.runtime
        return options(**{"root": self.runtime_root, "binary_name": name, **fields})

    def bundle(self, container="c1", args=("sleep", "1000"), *, config=None, **more):
        bundle = Bundle(self, container, list(args), config, more)
        self.bundles.append(bundle)
        return bundle

    def task(self, args=("sleep", "1000"), container="c1", *, stdio="null", terminal=False, started=True, opts=None,
             dialect="1.6", **more):
        """A bundle with a running shim and a connection to it; Create is up to the test."""
        bundle = self.bundle(container, args, terminal=terminal, **more)
        task = Task(self, bundle, stdio, terminal, opts)
        self.tasks.append(task)
        if started:
            result = self.start(bundle, dialect=dialect)
            if result.code or result.err or not result.out.startswith(b"unix://"):
                raise AssertionError(f"start failed: {result}")
            task.connect(result.out.decode()[len("unix://"):])
        return task

    def connect(self, path, **more):
        conn = Conn(path, **more)
        self.closers.append(conn.close)
        return conn

    def reader(self, path, **more):
        reader = Reader(path, **more)
        self.closers.append(reader.close)
        return reader

    def writer(self, path, **more):
        writer = Writer(path, **more)
        self.closers.append(writer.close)
        return writer

    def fifo(self, name):
        path = os.path.join(self.dir, "io", name)
        os.mkfifo(path, 0o700)
        return path

    def wrapper(self, verb, before=":", after="exit $code"):
        """Options for a runtime that does something before or after this verb ($code: its result)."""
        body = f'case " $* " in *" {verb} "*) {before}; {self.runtime} "$@"; code=$?; {after};; esac\n'
        name = f"{verb}-{len(os.listdir(os.path.join(self.dir, 'bin')))}"
        return self.options(binary_name=self.script(name, body + f'exec {self.runtime} "$@"'))

    def gate(self, verb):
        return Gate(self, verb)

    def script(self, name, body):
        """An executable shell script, for instance as a runtime binary."""
        path = os.path.join(self.dir, "bin", name)
        with open(path, "w") as f:
            f.write("#!/bin/sh\n" + body + "\n")
        os.chmod(path, 0o755)
        return path

    # -- looking around

    def processes(self):
        return descendants_marked(self.mark)

    def daemons(self):
        """Pids of the serving shims of this world."""
        return [pid for pid, line in self.processes().items()
                if os.path.basename(line[0]).startswith("containerd-shim") and line[-1] not in ("start", "delete")]

    def mounts(self):
        return [line.split()[4] for line in read_file("/proc/self/mountinfo").splitlines()
                if line.split()[4].startswith(self.dir + "/")]

    def cgroups(self):
        """Cgroups of containers of this world, in any hierarchy."""
        found = []
        for hierarchy in hierarchies():
            try:
                with os.scandir(f"{hierarchy}/{self.namespace}") as entries:
                    found += [entry.path for entry in entries if entry.is_dir()]
            except FileNotFoundError:
                pass
        return found

    def cgroup_processes(self):
        return {int(p): cgroup for cgroup in self.cgroups()
                for p in read_file(os.path.join(cgroup, "cgroup.procs"), "").split()}

    def log(self):
        return "".join(b.drain_log() for b in self.bundles)

    def left_over(self):
        """What should not be there once everything is gone; what costs most to look for comes last."""
        yield from (f"socket {s}" for s in self.sockets if os.path.exists(s))
        yield from (f"temporary file {f}" for f in os.listdir(os.path.join(self.dir, "tmp")))
        yield from self.left_over_of_containers()
        yield from (f"process {pid} {line}" for pid, line in self.processes().items())

    def left_over_of_containers(self):
        """What should not be there once all containers are gone, while their shim may run on."""
        yield from (f"mount {m}" for m in self.mounts())
        state = os.path.join(self.runtime_root, self.namespace)
        yield from (f"runtime state of {c}" for c in (os.listdir(state) if os.path.isdir(state) else []))
        yield from (f"container process {pid} in {cgroup}" for pid, cgroup in self.cgroup_processes().items())
        yield from (f"cgroup {c}" for c in self.cgroups())

    def until_gone(self):
        """Waits until all containers are gone; their shim may run on."""
        until(lambda: not any(self.left_over_of_containers()), "nothing to be left")

    # -- the end

    def close(self, orderly=True):
        """Removes everything. Returns what the shim left behind after an orderly end, as texts."""
        leaks = []
        if orderly:
            for task in self.tasks:
                task.remove()
            try:
                until(lambda: not any(self.left_over()), "everything to be gone")
            except Late:
                leaks = list(self.left_over())
                leaks += [f"(runtime's log of {b.id}) {line}" for b in self.bundles
                          for line in read_file(b.file("log.json"), "").splitlines()[-3:]]
            leaks += [f"bad event: {f}" for f in self.events.faults]
        for closer in self.closers:
            closer()
        self._clear()
        return leaks

    def _clear(self):
        """By force, for what is left."""
        for pid in self.processes():
            _kill(pid)
        state = os.path.join(self.runtime_root, self.namespace)
        for container in os.listdir(state) if os.path.isdir(state) else []:
            subprocess.run([self.runtime, "--root", state, "delete", "--force", container], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for pid in self.cgroup_processes():
            _kill(pid)
        for path in sorted(self.mounts(), reverse=True):
            subprocess.run(["umount", "-l", path])
        for path in self.sockets:
            if os.path.exists(path):
                os.unlink(path)
        self.events.down()
        for cgroup in self.cgroups():
            _rmdir(cgroup)
        for hierarchy in hierarchies():
            _rmdir(os.path.join(hierarchy, self.namespace))
        # crun makes one where a hybrid layout's v2 hierarchy was unmounted, in the plain directory.
        if not os.path.ismount("/sys/fs/cgroup/unified"):
            shutil.rmtree(os.path.join("/sys/fs/cgroup/unified", self.namespace), ignore_errors=True)
        # Where Options.root was not given:
        shutil.rmtree(os.path.join("/run/containerd/runc", self.namespace), ignore_errors=True)
        for bundle in self.bundles:
            bundle.close_log()
        if not self.mounts():
            shutil.rmtree(self.dir, ignore_errors=True)


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _rmdir(path):
    def gone():
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True
    if os.path.isdir(path):
        try:
            until(gone, f"rmdir {path}")
        except Late:
            pass


class Gate:
    """A runtime that stands still in one of its verbs until it is let through."""

    def __init__(self, world, verb):
        name = f"gate-{len(os.listdir(os.path.join(world.dir, 'io')))}"
        self.world, self.path = world, world.fifo(name)
        self.options = world.wrapper(verb, before=f": > {self.path}.reached; : < {self.path}")

    def reached(self, timeout=PATIENCE):
        until(lambda: os.path.exists(self.path + ".reached"), "the runtime to reach the gate", timeout)

    def open(self):
        self.world.writer(self.path)


class Bundle:
    """A bundle directory as containerd makes it: config.json, rootfs, and the log FIFO held open."""

    def __init__(self, world, container, args, config, more):
        self.world, self.id = world, container
        self.path = os.path.join(world.dir, "b", container)
        os.makedirs(os.path.join(self.path, "rootfs"))
        os.chmod(self.path, 0o700)
        self.cgroups_path = f"/{world.namespace}/{container}"
        self.config = config or spec(args, self.cgroups_path, **more)
        self.write_config(self.config)
        log = os.path.join(self.path, "log")
        os.mkfifo(log, 0o700)
        self.log_fd = os.open(log, os.O_RDWR | os.O_NONBLOCK)
        self.logged = ""

    def write_config(self, config):
        with open(os.path.join(self.path, "config.json"), "w") as f:
            f.write(config if isinstance(config, str) else json.dumps(config))

    def file(self, name):
        return os.path.join(self.path, name)

    def drain_log(self):
        try:
            while self.log_fd >= 0:
                self.logged += os.read(self.log_fd, 65536).decode(errors="replace")
        except BlockingIOError:
            pass
        return self.logged

    def close_log(self):
        self.drain_log()
        if self.log_fd >= 0:
            os.close(self.log_fd)
            self.log_fd = -1

    def rootfs_mount(self):
        """The mount for CreateTaskRequest.rootfs."""
        return {"type": "bind", "source": self.world.rootfs, "options": ["rbind", "ro"]}


class Task:
    """A container and the connection containerd has for it. All verbs, with the id filled in."""

    def __init__(self, world, bundle, stdio, terminal, opts):
        self.world, self.bundle, self.id = world, bundle, bundle.id
        self.terminal, self.service = terminal, world.service
        self.opts = world.options() if opts is None else opts
        self.conn = self.address = None
        self.pid = self.shim_pid = 0
        self.stdin = self.stdout = self.stderr = ""
        wanted = {"null": (), "all": ("stdin", "stdout", "stderr"), "out": ("stdout", "stderr")}.get(stdio, stdio)
        for name in wanted:
            setattr(self, name, world.fifo(f"{self.id}-{name}"))

    def connect(self, path=None):
        """Another connection to the shim becomes the current one."""
        self.address = path or self.address
        self.conn = self.world.connect(self.address)
        return self.conn

    def open_stdout(self):
        return self.world.reader(self.stdout)

    def open_stderr(self):
        return self.world.reader(self.stderr)

    def open_stdin(self):
        return self.world.writer(self.stdin)

    def send(self, method, **more):
        """The request on its way: a ttrpc.Call."""
        timeout_nano = more.pop("timeout_nano", 0)
        return self.conn.send(method, {"id": self.id, **more}, service=self.service, timeout_nano=timeout_nano)

    def call(self, method, **more):
        return self.send(method, **more).result()

    def error(self, method, **more):
        return self.send(method, **more).error()

    def create_request(self, **more):
        return {"bundle": self.bundle.path, "rootfs": [self.bundle.rootfs_mount()], "terminal": self.terminal,
                "stdin": self.stdin, "stdout": self.stdout, "stderr": self.stderr, "options": self.opts, **more}

    def create_send(self, **more):
        return self.send("Create", **self.create_request(**more))

    def create(self, **more):
        self.pid = self.create_send(**more).result()["pid"]
        return self.pid

    def start(self, **more):
        return self.call("Start", **more)["pid"]

    def run(self):
        """Create and Start, with readers where there are FIFOs (kept as .out and .err)."""
        if self.stdout:
            self.out = self.open_stdout()
        if self.stderr:
            self.err = self.open_stderr()
        self.create()
        self.start()
        return self

    def state(self, **more):
        return self.call("State", **more)

    def wait(self, **more):
        return self.call("Wait", **more)

    def kill(self, number=signal.SIGKILL, **more):
        return self.call("Kill", signal=int(number), **more)

    def delete(self, **more):
        return self.call("Delete", **more)

    def exec(self, exec_id, args, *, stdio=("", "", ""), terminal=False, **process):
        """Registers an exec process."""
        body = {"args": list(args), "cwd": "/", "env": ["PATH=/bin", "TERM=dumb"], "user": {"uid": 0, "gid": 0},
                "noNewPrivileges": True, "terminal": terminal, **process}
        return self.call("Exec", exec_id=exec_id, terminal=terminal, stdin=stdio[0], stdout=stdio[1], stderr=stdio[2],
                         spec=json_any("Process", body))

    def daemon(self):
        """Pid of the shim that serves this task."""
        self.shim_pid = self.shim_pid or self.call("Connect")["shim_pid"]
        return self.shim_pid

    def until_its_program_runs(self):
        """Start has let the init go, but until its execve(2) it is the runtime's: that takes some signals for
        itself, and ends by others with a status of its own."""
        pid, program = read_file(self.bundle.file("init.pid")), self.bundle.config["process"]["args"][0]
        until(lambda: read_file(f"/proc/{pid}/cmdline", "").split("\0")[0] == program, "the container's own program")

    def settle(self):
        """Lets the daemon deal with all that has happened up to now: it has answered two requests since, and
        between them it has looked at everything it watches."""
        for _ in range(2):
            self.conn.error("Nope", service=self.service, payload=b"")

    def events(self, *topics, timeout=PATIENCE):
        """Waits for the last of these events of this container, and returns them in order. Fails if
        others came between; with none named gives what has come so far. On cgroup v1 the Go shim also
        tells TaskOOM when a cgroup has been removed and made again; that is passed over."""
        wanted = ["/tasks/" + t for t in topics]

        def ours(seen):
            return [e for e in seen if e.id == self.id and not (self.world.go and e.topic == "/tasks/oom")]
        if wanted:
            self.world.events.wait_for(lambda seen: len(ours(seen)) >= len(wanted),
                                       f"events {topics} of {self.id}", timeout)
        got = ours(list(self.world.events.events))
        if wanted and [e.topic for e in got] != wanted:
            raise AssertionError(f"events of {self.id}: {[e.topic for e in got]}, not {wanted}")
        return got

    def delete_action(self, **more):
        """The `delete` action; its reply decoded."""
        result = self.world.delete(self.bundle, **more)
        if result.code:
            raise AssertionError(f"delete failed: {result}")
        return decode("DeleteResponse", result.out)

    def shutdown(self):
        """Shutdown, and waits for the daemon to go."""
        pid = self.daemon()
        try:
            self.call("Shutdown")
        except Closed:
            pass
        until(lambda: not alive(pid), "the daemon to exit")

    def remove(self):
        """What containerd does to get rid of a task in whatever state, ending with `delete`."""
        try:
            conn = Conn(self.address) if self.address else None
        except OSError:
            conn = None
        if conn:
            for method, more in (("Kill", {"signal": 9, "all": True}), ("Wait", {}), ("Delete", {}), ("Shutdown", {})):
                if method == "Wait" and not self._lives(conn):
                    continue
                try:
                    conn.call(method, {"id": self.id, **more}, timeout_nano=int(PATIENCE * 1e9))
                except (RpcError, Closed, Late):
                    pass
            conn.close()
        if os.path.isdir(self.bundle.path):
            self.world.delete(self.bundle)

    def _lives(self, conn):
        try:
            return conn.call("State", {"id": self.id})["status"] in (RUNNING, PAUSED)
        except (RpcError, Closed, Late):
            return False


def json_any(kind, document):
    """An OCI document as an Any (Process, LinuxResources)."""
    return pack("types.containerd.io/opencontainers/runtime-spec/1/" + kind, None, json.dumps(document).encode())


def is_socket(path):
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
