#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# needs: machine
"""bench.py - nanoshim beside the Go shim, figure by figure: a table, bench.csv, bench.png, bench.svg.

Both do the same work in the same run, by turns (A B A B), and each figure is the median of its
turns. Times are of CLOCK_MONOTONIC as a client sees them, CPU is what the kernel has accounted to
the daemon's threads. Where a target is near what any program would take for the same messages,
processes and files, that is measured, too: the column "floor" (floor.c).

Environment: N (turns), RUNTIME (crun or runc), SHIM, OUT (the directory for the files), TMPDIR,
FIGURES (a regular expression: only these groups), TIME_FACTOR (how much longer than on a machine of
its own everything may take). With --tap it is a test: no plot, fewer figures.
"""

import json
import os
import re
import select
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
REPO = os.path.realpath(os.path.join(HERE, "../.."))
sys.path.insert(0, os.path.join(REPO, "test/shim/client"))
os.environ["RUNTIME"] = os.environ.get("RUNTIME") or "crun"
# As containerd has it: bundles in memory (a disk's file system would be measured, too), and a PATH.
os.environ.setdefault("TMPDIR", "/dev/shm")
os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

import shim
from shim import GO_SHIM, RUNTIME, SHIM, World
from ttrpc import REQUEST, TASK2, frame, request
from wire import decode, encode, pack

N = int(os.environ.get("N") or 15)
OUT = os.environ.get("OUT") or os.path.join(REPO, "build/bench")
BINARIES = {"nanoshim": SHIM, "Go shim": GO_SHIM}
FLOOR = "floor"
TESTED = "--tap" in sys.argv
PATIENCE = 60 * float(os.environ.get("TIME_FACTOR") or 1)  # whatever takes longer hangs
TRAFFIC = 1000  # execs before memory is measured again
GIB = 1 << 30


# ---- figures ----------------------------------------------------------------------------------------


class Figure:
    """One line of the table. The target: `times` better than the Go shim, or `limit` for its own
    value. `guard` (times better) is the test's limit, for the best turn of each, which a busy machine
    spoils least."""

    all = []

    def __init__(self, name, unit, times=None, limit=None, more_is_better=False, plotted=True, guard=None):
        self.name, self.unit, self.times, self.limit = name, unit, times, limit
        self.more_is_better, self.plotted, self.guard = more_is_better, plotted, guard
        self.values = {who: [] for who in (*BINARIES, FLOOR)}
        Figure.all.append(self)

    def add(self, who, value):
        self.values[who].append(value)

    def median(self, who):
        return statistics.median(self.values[who]) if self.values[who] else None

    def best(self, who):
        return (max if self.more_is_better else min)(self.values[who]) if self.values[who] else None

    def ratio(self, of=None):
        ours, theirs = ((of or Figure.median)(self, who) for who in BINARIES)
        if self.more_is_better:
            ours, theirs = theirs, ours
        return theirs / ours if ours and theirs is not None else None

    def verdict(self):
        """(target, met) as texts"""
        if self.times:
            met = (self.ratio() or 0) >= self.times
            return f"{self.times:g} x", "yes" if met else "NO"
        if self.limit:
            return f"{self.limit:g}", "yes" if self.median("nanoshim") <= self.limit else "NO"
        return "", ""


def number(value):
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def turns(count, everybody=BINARIES):
    """(turn, who), by turns."""
    for turn in range(count):
        for who in everybody:
            yield turn, who


def clock():
    return time.clock_gettime(time.CLOCK_MONOTONIC)


# ---- processes ----------------------------------------------------------------------------------------


def spawn(argv, cwd=None, stdin=os.devnull, env=None):
    """Runs a command to its end: (seconds, of these CPU, what it printed). It fails loudly."""
    out_path = os.path.join(shim.base(), "out")
    actions = [(os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0),
               (os.POSIX_SPAWN_OPEN, 1, out_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
               (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
    before = os.getcwd()
    if cwd:
        os.chdir(cwd)
    try:
        begin = clock()
        pid = os.posix_spawnp(argv[0], argv, os.environ if env is None else env, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        took = clock() - begin
    finally:
        os.chdir(before)
    with open(out_path, "rb") as f:
        out = f.read()
    if status:
        raise RuntimeError(f"{argv}: status {status}: {out[-500:]!r}")
    return took, usage.ru_utime + usage.ru_stime, out


def cpu(pid):
    """Seconds of CPU of all its threads."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as f:
            total += int(f.read().split()[0])
    return total / 1e9


def memory(pid):
    """What one process takes."""
    def fields(path):
        with open(path) as f:
            return {line.split(":")[0]: line.split()[1] for line in f if len(line.split()) > 1}
    rollup, status = fields(f"/proc/{pid}/smaps_rollup"), fields(f"/proc/{pid}/status")
    return {"private": int(rollup["Private_Clean"]) + int(rollup["Private_Dirty"]), "PSS": int(rollup["Pss"]),
            "RSS": int(rollup["Rss"]), "VSZ": int(status["VmSize"]), "page tables": int(status["VmPTE"]),
            "threads": int(status["Threads"]), "open files": len(os.listdir(f"/proc/{pid}/fd"))}


def settled(pid):
    """The same, once it has not changed for two seconds: both give memory back only after a while, and
    the Go shim of a pod may never come to rest."""
    last, same, end = None, 0, clock() + PATIENCE
    while same < 4 and clock() < end:
        got = memory(pid)
        same = same + 1 if got == last else 0
        last = got
        time.sleep(0.5)
    return last


# ---- a client without threads ---------------------------------------------------------------------------


class Line:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(path)
        self.stream = -1

    def send(self, method, message):
        self.stream += 2
        self.sock.sendall(frame(self.stream, REQUEST, request(TASK2, method, encode(method + "Request", message))))

    def answer(self):
        data = self.sock.recv(1 << 16)
        while len(data) < 10 or len(data) < 10 + int.from_bytes(data[:4], "big"):
            more = self.sock.recv(1 << 20)
            if not more:
                raise RuntimeError("the shim has closed the connection")
            data += more
        return data[10:]

    def call(self, method, may_fail=False, **message):
        self.send(method, message)
        response = decode("Response", self.answer())
        if response["status"] and response["status"]["code"] and not may_fail:
            raise RuntimeError(f"{method}: {response['status']['message']}")
        return response["payload"]

    def timed(self, method, **message):
        """Seconds until the answer is there, undecoded."""
        self.stream += 2
        data = frame(self.stream, REQUEST, request(TASK2, method, encode(method + "Request", message)))
        begin = clock()
        self.sock.sendall(data)
        self.answer()
        return clock() - begin

    def run_exec(self, container, exec_id, args=("true",), stdout="", stderr=""):
        body = {"args": list(args), "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
                "noNewPrivileges": True}
        self.call("Exec", id=container, exec_id=exec_id, stdout=stdout, stderr=stderr,
                  spec=pack("types.containerd.io/opencontainers/runtime-spec/1/Process",
                            message=json.dumps(body).encode()))
        self.call("Start", id=container, exec_id=exec_id)
        self.call("Wait", id=container, exec_id=exec_id)
        self.call("Delete", id=container, exec_id=exec_id)

    def close(self):
        self.sock.close()


class Drain(threading.Thread):
    """Reads a FIFO to its end."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(self.fd, True)
        self.bytes, self.end = 0, None

    def run(self):
        buffer = bytearray(1 << 20)
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        poll.poll()  # a FIFO nobody has written to yet is not at its end
        while True:
            got = os.readv(self.fd, [buffer])
            if not got:
                break
            self.bytes += got
        self.end = clock()
        os.close(self.fd)


# ---- what no program can do for less -------------------------------------------------------------------------


class Floor:
    """floor.c: it answers like a shim, and does only what cannot be left out."""

    def __init__(self):
        self.path = os.path.join(shim.base(), "floor")
        compile_static("floor.c", self.path)
        self.children = []

    def serve(self, *what):
        """(its pid, a line to it)"""
        address = f"{self.path}.{len(self.children)}"
        self.children.append(subprocess.Popen([self.path, "serve", address, *what]))
        end = clock() + PATIENCE
        while clock() < end:
            try:
                return self.children[-1].pid, Line(address)
            except OSError:
                time.sleep(0.01)
        raise RuntimeError("floor does not listen")

    def close(self):
        for child in self.children:
            child.terminate()
            child.wait()


def compile_static(source, target):
    subprocess.run(["musl-gcc", "-D_GNU_SOURCE", "-Os", "-static", "-s", "-o", target, os.path.join(HERE, source)],
                   check=True)


def cgroup_files(pid):
    """The files of its cgroup that Stats is made of, behind each directory: what floor.c wants."""
    # v1; on v2 one directory has them all
    of = {"pids": ("current", "max"), "cpuacct": ("usage", "stat", "usage_percpu"), "cpu": ("stat", "pressure"),
          "memory": ("stat", "limit_in_bytes", "usage_in_bytes", "max_usage_in_bytes", "failcnt", "oom_control",
                     "current", "max", "swap.current", "swap.max", "events", "pressure",
                     *(f"{kind}.{file}" for kind in ("memsw", "kmem", "kmem.tcp")
                       for file in ("limit_in_bytes", "usage_in_bytes", "max_usage_in_bytes", "failcnt"))),
          "blkio": ("throttle.io_service_bytes", "throttle.io_serviced"), "io": ("stat", "pressure")}
    where = {}
    with open(f"/proc/{pid}/cgroup") as f:
        for line in f:
            _, controllers, path = line.strip().split(":", 2)
            for controller in controllers.split(","):
                where[controller] = path
    files = []
    for controller, names in of.items():
        directory = f"/sys/fs/cgroup/{controller}{where[controller]}" if controller in where else \
            f"/sys/fs/cgroup{where.get('', '/')}"
        found = [name for name in (f"{controller}.{file}" for file in names)
                 if os.path.exists(os.path.join(directory, name))]
        if found:
            files += [directory, *found]
    return files


# ---- without containerd -----------------------------------------------------------------------------------


def bench_start(worlds, floor):
    version = Figure("process start (-v)", "ms", times=10)
    version_cpu = Figure("process start (-v), CPU", "ms", guard=5)
    start = Figure("start action", "ms", times=10)
    start_cpu = Figure("start action, CPU", "ms", guard=3)
    for turn, who in turns(5 * N):
        took, used, _ = spawn([BINARIES[who], "-v"])
        version.add(who, 1e3 * took)
        version_cpu.add(who, 1e3 * used)
    # What ran before has left the caches as it likes them: so each has a run of its own, unmeasured, before.
    for turn, who in turns(2 * N, (*BINARIES, FLOOR)):
        world = worlds["nanoshim" if who == FLOOR else who]
        task = world.task(container=f"start{turn}{who == FLOOR:d}", started=False)
        options = os.path.join(task.bundle.path, "stdin")
        with open(options, "wb") as f:
            f.write(encode("Any", task.opts))
        argv = [floor.path, "start"] if who == FLOOR else [world.shim, *world.argv(task.id, "start")]
        spawn([argv[0], "-v"])
        took, used, out = spawn(argv, cwd=task.bundle.path, stdin=options, env=world.environ())
        start.add(who, 1e3 * took)
        start_cpu.add(who, 1e3 * used)
        if who != FLOOR:
            task.connect(out.decode().strip()[len("unix://"):])
            task.shutdown()


class Timed:
    """A runtime that notes how long each of its calls took. For the shim it is one more program to
    execute, which counts as the shim's time."""

    def __init__(self, world):
        self.path = os.path.join(world.dir, "timed", RUNTIME)
        os.mkdir(os.path.dirname(self.path))
        compile_static("timed.c", self.path)
        os.symlink(shutil.which(RUNTIME), self.path + ".real")
        self.options = world.options(binary_name=self.path)
        self.taken()

    def taken(self):
        """Seconds of all calls since this was asked last."""
        with open(self.path + ".log", "a+") as log:
            log.seek(0)
            total = sum(int(line) for line in log) / 1e9
            log.truncate(0)
        return total


def bench_cycle(worlds, floor):
    create, begin, delete = (Figure(f"{verb} (RPC)", "ms") for verb in ("Create", "Start", "Delete"))
    action = Figure("delete action", "ms", times=2, guard=2)
    whole = Figure("Create + Start + Wait + Delete", "ms")
    alone = Figure(f"  {RUNTIME}'s own time in that", "ms", plotted=False)
    over = Figure("  the cycle without it", "ms")
    exec_ = Figure("Exec + Start + Wait + Delete", "ms")
    exec_alone = Figure(f"  {RUNTIME}'s own time in that", "ms", plotted=False)
    exec_over = Figure("  the exec without it", "ms")
    exec_cpu = Figure("the shim's CPU per exec", "µs", times=10, guard=3)
    runtimes = {who: Timed(world) for who, world in worlds.items()}
    for turn, who in turns(2 * N):
        world, runtime = worlds[who], runtimes[who]
        task = world.task(["true"], container=f"cycle{turn}", opts=runtime.options)
        line = Line(task.address)
        t = [clock()]
        line.call("Create", id=task.id, **task.create_request())
        t.append(clock())
        line.call("Start", id=task.id)
        t.append(clock())
        line.call("Wait", id=task.id)
        t.append(clock())
        line.call("Delete", id=task.id)
        t.append(clock())
        took = runtime.taken()
        for figure, seconds in ((create, t[1] - t[0]), (begin, t[2] - t[1]), (delete, t[4] - t[3]),
                                (whole, t[4] - t[0]), (alone, took), (over, t[4] - t[0] - took)):
            figure.add(who, 1e3 * seconds)
        line.close()
        task.shutdown()
        argv = [world.shim, *world.argv(task.id, "delete", bundle=task.bundle.path)]
        action.add(who, 1e3 * spawn(argv, cwd=task.bundle.path, env=world.environ())[0])
    tasks = {who: world.task(container="execs", opts=runtimes[who].options).run() for who, world in worlds.items()}
    lines = {who: Line(task.address) for who, task in tasks.items()}
    for who in BINARIES:
        runtimes[who].taken()
    bare, line = floor.serve("exec")
    for turn, who in turns(10 * N):
        if who == "nanoshim":
            cpu_before = cpu(bare)
            line.run_exec("execs", f"x{turn}")
            exec_cpu.add(FLOOR, 1e6 * (cpu(bare) - cpu_before))
        pid = tasks[who].daemon()
        before, cpu_before = clock(), cpu(pid)
        lines[who].run_exec("execs", f"x{turn}")
        seconds, took = clock() - before, runtimes[who].taken()
        exec_cpu.add(who, 1e6 * (cpu(pid) - cpu_before))
        for figure, value in ((exec_, seconds), (exec_alone, took), (exec_over, seconds - took)):
            figure.add(who, 1e3 * value)


def bench_requests(worlds, floor):
    times = {"State": 2, "Pids": 20, "Stats": 3, "Connect": None}
    guards = {"State": 1.5, "Pids": 8, "Stats": 2.5, "Connect": None}
    tasks = {who: world.task(container="requests").run() for who, world in worlds.items()}
    lines = {who: Line(task.address) for who, task in tasks.items()}
    pids = {who: task.daemon() for who, task in tasks.items()}
    files = {"State": (), "Stats": cgroup_files(tasks["nanoshim"].pid)}
    for method, target in times.items():
        latency = Figure(f"{method}, time to the answer", "µs", times=target)
        work = Figure(f"{method}, the shim's CPU", "µs", guard=guards[method])
        count = 5 if method == "Pids" else 100
        everybody = BINARIES
        if method in files:
            pids[FLOOR], lines[FLOOR] = floor.serve(*files[method])
            everybody = (*BINARIES, FLOOR)
        for _, who in turns(N, everybody):
            pid = pids[who]
            lines[who].timed(method, id="requests")
            before = cpu(pid)
            latency.add(who, 1e6 * statistics.median(lines[who].timed(method, id="requests") for _ in range(count)))
            work.add(who, 1e6 * (cpu(pid) - before) / count)


def bench_output(worlds, _):
    size = 256 << 20
    speed = Figure("stdout, blocks of 64 KiB", "MiB/s", times=1.5, more_is_better=True, guard=1.2)
    work = Figure("the shim's CPU per GiB of stdout", "ms", times=5, guard=3)
    for turn, who in turns(max(3, N // 2)):
        world = worlds[who]
        task = world.task(["dd", "if=/dev/zero", "bs=65536", f"count={size >> 16}"], container=f"output{turn}",
                          stdio="out")
        drain, errors = Drain(task.stdout), Drain(task.stderr)
        errors.start()
        task.create()
        before = cpu(task.daemon())
        begin = clock()
        drain.start()
        task.start()
        task.wait()
        drain.join(PATIENCE)
        if drain.bytes != size:
            raise RuntimeError(f"{drain.bytes} bytes of {size} came through")
        work.add(who, 1e3 * (cpu(task.daemon()) - before) * GIB / size)
        speed.add(who, size / (1 << 20) / (drain.end - begin))
        task.delete()
        task.shutdown()


def bench_pod(worlds, _):
    each = Figure("a further container in a pod's daemon, private", "KiB", limit=4)
    for who, world in worlds.items():
        if TESTED and who != "nanoshim":
            continue  # the test is a limit for ours
        pod = {"io.kubernetes.cri.sandbox-id": "pod"}
        tasks = [world.task(container=f"pod{i}", annotations=pod).run() for i in range(2)]
        before = settled(tasks[0].daemon())["private"]
        for i in range(2, 12):
            world.task(container=f"pod{i}", annotations=pod).run()
        each.add(who, (settled(tasks[0].daemon())["private"] - before) / 10)


# ---- under a containerd ---------------------------------------------------------------------------------


LAB = """
. "$0"
trap lab_down EXIT
lab_up containerd-shim-runc-v2="$SHIM" || exit
ctr_run -d box sleep 100000 && ctr_run -d other sleep 100000 || exit
printf '%s\\n' "$LAB" "$NS" "$LAB_MNT" "$(shim_pid box)" "$(shim_socket box)"
read -r _
"""


class Lab:
    """A private containerd with two containers running, each with a daemon of its own."""

    def __init__(self, binary):
        self.bash = subprocess.Popen(["bash", "-c", LAB, os.path.join(REPO, "test/shim/lib.bash")],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                     env=dict(os.environ, SHIM=os.path.realpath(binary)))
        said = [self.bash.stdout.readline().strip() for _ in range(5)]
        if not said[4]:
            raise RuntimeError("no containerd")
        self.dir, self.namespace, self.mounts, pid, self.socket = said
        self.pid = int(pid)

    def ctr(self, *args):
        return spawn(["nsenter", "--mount=" + self.mounts, "--", "timeout", "-s", "KILL", str(PATIENCE), "ctr", "-a",
                      self.dir + "/c.sock", "-n", self.namespace, *args])[0]

    def run(self, name):
        return self.ctr("run", "--rm", "--snapshotter", "overlayfs",
                        *([] if RUNTIME == "runc" else ["--runc-binary", RUNTIME]), "nanoshim.test/busybox:1", name,
                        "true")

    def close(self):
        self.bash.stdin.close()
        self.bash.wait(PATIENCE)


def bench_containerd(labs):
    run = Figure("ctr run --rm true", "ms")
    exec_ = Figure("ctr task exec true", "ms")
    for turn, who in turns(N):
        run.add(who, 1e3 * labs[who].run(f"run{turn}"))
        exec_.add(who, 1e3 * labs[who].ctr("task", "exec", "--exec-id", f"x{turn}", "box", "true"))


MEMORY = {"private": (32, "KiB"), "PSS": (40, "KiB"), "RSS": (None, "KiB"), "VSZ": (1024, "KiB"),
          "page tables": (48, "KiB"), "threads": (1, ""), "open files": (None, "")}


def bench_memory(labs):
    for when in ("idle", "after traffic"):
        if when == "after traffic":
            together([threading.Thread(target=traffic, args=(lab,)) for lab in labs.values()])
        figures = {what: Figure(f"{what}, {when}", unit, limit=limit, plotted=what == "private" or when == "idle")
                   for what, (limit, unit) in MEMORY.items()}
        for who, lab in labs.items():
            for what, value in settled(lab.pid).items():
                figures[what].add(who, value)


def together(threads, meanwhile=lambda: None):
    for thread in threads:
        thread.start()
    meanwhile()
    for thread in threads:
        thread.join()


def traffic(lab):
    """1,000 execs, a request of 4 MiB, 10 MiB of output."""
    line = Line(lab.socket)
    for i in range(TRAFFIC):
        line.run_exec("box", f"t{i}")
    line.call("State", may_fail=True, id="box", exec_id="x" * ((4 << 20) - 200))
    fifos = [os.path.join(lab.dir, "fifo", name) for name in ("out", "err")]
    for fifo in fifos:
        os.mkfifo(fifo)
    drains = [Drain(fifo) for fifo in fifos]
    together(drains, lambda: line.run_exec("box", "output", ["head", "-c", str(10 << 20), "/dev/zero"], *fifos))
    if drains[0].bytes != 10 << 20:
        raise RuntimeError(f"{drains[0].bytes} bytes of output")
    line.close()


def bench_size(_):
    size = Figure("binary", "KiB", limit=128)
    for who, binary in BINARIES.items():
        size.add(who, os.stat(os.path.realpath(binary)).st_size / 1024)


# ---- the report ----------------------------------------------------------------------------------------


def report():
    print(f"{'':46} {'':6} {'nanoshim':>10} {'Go shim':>10} {'ratio':>8} {'target':>8} {'met':3} {FLOOR:>8}")
    with open(os.path.join(OUT, "bench.csv"), "w") as csv:
        csv.write("figure,unit,nanoshim,go,ratio,target,met,floor\n")
        for f in Figure.all:
            target, met = f.verdict()
            ours, theirs, ratio = number(f.median("nanoshim")), number(f.median("Go shim")), number(f.ratio())
            floor = number(f.median(FLOOR)) if f.values[FLOOR] else ""
            print(f"{f.name:46} {f.unit:6} {ours:>10} {theirs:>10} {ratio:>8} {target:>8} {met:3} {floor:>8}")
            csv.write(f'"{f.name.strip()}",{f.unit},{ours},{theirs},{ratio},{target},{met},{floor}\n')


def tap():
    """For test/run: what is guarded, and limits of what no load changes."""
    tests = []
    for f in Figure.all:
        if f.guard:
            got = f.ratio(Figure.best) or 0
            tests.append((got, got >= f.guard, f"{f.name} is {f.guard:g} times better"))
        elif f.limit:
            got = f.median("nanoshim")
            tests.append((got, got <= f.limit, f"{f.name} <= {f.limit:g}"))
    print(f"1..{len(tests)}")
    for i, (got, good, what) in enumerate(tests, 1):
        print(f"{'ok' if good else 'not ok'} {i} - {what}\n# {number(got)}")
    return not all(good for _, good, _ in tests)


def plot():
    """How many times less, on a logarithmic scale, for what has a ratio."""
    shown = [f for f in Figure.all if f.plotted and (f.ratio() or 0) > 0]
    with open(os.path.join(OUT, "bench.dat"), "w") as data:
        for i, f in enumerate(reversed(shown)):
            data.write(f'{f.ratio():.4g} {i} "{f.name.strip()}"\n')
    subprocess.run(["gnuplot", "-e", f"dir='{OUT}'", os.path.join(HERE, "bench.gp")], check=True)


def main():
    if RUNTIME == "crun" and os.path.ismount("/sys/fs/cgroup/unified"):
        shim.make_room_for_crun()
    only = re.compile(os.environ.get("FIGURES") or ("start|requests|cycle|output|pod" if TESTED else "."))
    os.makedirs(OUT, exist_ok=True)
    begin = clock()
    # A line of TAP, too.
    print(f"# nanoshim beside {GO_SHIM}, with {RUNTIME}; {N} turns each\n", flush=True)
    groups = {"start": bench_start, "requests": bench_requests, "cycle": bench_cycle, "output": bench_output,
              "pod": bench_pod}
    worlds = {who: World(binary) for who, binary in BINARIES.items()}
    floor = Floor()
    try:
        for name, group in groups.items():
            if only.search(name):
                group(worlds, floor)
                print(f"# {name}: {clock() - begin:.0f} s", file=sys.stderr, flush=True)
    finally:
        floor.close()
        for world in worlds.values():
            world.close(orderly=False)
    groups = {"containerd": bench_containerd, "memory": bench_memory}
    if any(only.search(name) for name in groups):
        labs = {}
        try:
            for who, binary in BINARIES.items():
                labs[who] = Lab(binary)
            for name, group in groups.items():
                if only.search(name):
                    group(labs)
                    print(f"# {name}: {clock() - begin:.0f} s", file=sys.stderr, flush=True)
        finally:
            for lab in labs.values():
                lab.close()
    if TESTED:
        return tap()
    bench_size(None)
    report()
    plot()
    print(f"\n# {clock() - begin:.0f} s; figures and plot: {OUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
