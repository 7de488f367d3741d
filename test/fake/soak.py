#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""soak.py - real containers and execs, one after the other in several lanes, through one daemon for
a while: nothing it holds may have become more. (The fake runtime's soak is test/race --soak.)

usage: soak.py [SECONDS]        $RUNTIME: runc (the default) or crun
"""

import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../shim/client"))

from shim import RUNTIME, SANITIZED, World, children, fds, make_room_for_crun, read_file, sockets, until  # noqa: E402

LANES, EXECS = 4, 8
GROUP = {"io.kubernetes.cri.sandbox-id": "pod"}


def private_kb(pid):
    return sum(int(line.split()[1]) for line in read_file(f"/proc/{pid}/smaps_rollup").splitlines()
               if line.startswith(("Private_Clean:", "Private_Dirty:")))


def wake_ups(pid):
    return sum(int(line.split()[1]) for line in read_file(f"/proc/{pid}/status").splitlines()
               if "ctxt_switches" in line)


def sleeps(pid):
    """Has it nothing to do, and is it waiting for nothing that comes by itself? Its timers are shorter."""
    before = wake_ups(pid)
    time.sleep(1.5)
    return wake_ups(pid) == before


class Soak:
    def __init__(self, world, keep):
        self.world, self.keep, self.pid = world, keep, keep.daemon()
        self.lock = threading.Lock()
        self.containers = self.execs = 0
        self.wrong = []

    def one(self, name):
        """A container's life, with its execs, and all statuses as they should be."""
        w = self.world
        bundle = w.bundle(name, ("sleep", "1000"), annotations=GROUP)
        t = type(self.keep)(w, bundle, "null", False, None)
        t.connect(self.keep.address)
        t.run()
        for n in range(EXECS):
            t.exec(f"e{n}", ["sh", "-c", f"exit {n}"])
            wait = t.send("Wait", exec_id=f"e{n}")
            t.start(exec_id=f"e{n}")
            status = wait.result()["exit_status"]
            if status != n:
                self.wrong.append(f"{name} e{n}: {status}")
            t.delete(exec_id=f"e{n}")
        t.kill()
        status = t.wait()["exit_status"]
        if status != 137:
            self.wrong.append(f"{name}: {status}")
        t.delete()
        t.conn.close()
        bundle.close_log()
        with self.lock:
            w.bundles.remove(bundle)
            w.closers.remove(t.conn.close)
            self.containers += 1
            self.execs += EXECS

    def lane(self, lane, phase, end, least):
        number = 0
        try:
            while time.monotonic() < end or self.execs < least:
                self.one(f"{phase}{lane}-{number}")
                number += 1
        except Exception as e:  # a thread must not die unseen
            self.wrong.append(f"lane {lane}: {e!r}")

    def run(self, phase, seconds, least=0):
        lanes = [threading.Thread(target=self.lane, args=(n, phase, time.monotonic() + seconds, least))
                 for n in range(LANES)]
        for thread in lanes:
            thread.start()
        for thread in lanes:
            thread.join()
        until(lambda: children(self.pid) == [self.keep.pid], "its children to be reaped")
        until(lambda: sockets(self.pid) == 2, "only our connection to be left, and where it listens")
        until(lambda: sleeps(self.pid), "it to fall asleep, with its memory given back")
        return private_kb(self.pid), len(fds(self.pid))


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20
    make_room_for_crun()
    w = World()
    keep = w.task(("sleep", "100000"), container="keep", annotations=GROUP)
    keep.run()
    soak = Soak(w, keep)
    memory, count = soak.run("a", 0, least=min(1000, seconds * 4))
    print(f"# {RUNTIME}: after {soak.execs} execs {memory} kB private, {count} descriptors", flush=True)
    after, count_after = soak.run("b", seconds)
    before = wake_ups(soak.pid)
    time.sleep(10)
    woken = wake_ups(soak.pid) - before
    events = [e for e in w.events.events if e.topic == "/tasks/exit"]
    expected = soak.containers + soak.execs
    keep.kill()
    keep.wait()
    keep.delete()
    leaks = w.close()
    results = [
        (not soak.wrong, "every status is right"),
        (len(events) == expected, "every exit is told once"),
        (after <= memory + 4, "memory has not grown by more than a page"),
        (count_after == count, "no descriptor is leaked"),
        (woken == 0, "idle, it does not wake up"),
        (not leaks, "nothing is left behind"),
    ]
    if SANITIZED:
        results[2] = (True, "memory # SKIP it is the sanitizers'")
    print(f"# {RUNTIME}: {soak.containers} containers, {soak.execs} execs; exits lost: {expected - len(events)}; "
          f"descriptors leaked: {count_after - count}; bytes of growth: {(after - memory) * 1024}; "
          f"wake-ups in 10 idle seconds: {woken}")
    for trouble in soak.wrong[:20] + leaks[:20]:
        print(f"# {trouble}")
    print(f"1..{len(results)}")
    for number, (good, what) in enumerate(results, 1):
        print(f"{'ok' if good else 'not ok'} {number} - {what}")
    return 0 if all(good for good, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
