#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""test_faults.py - the daemon among runtimes, clients, loggers and machines that misbehave.

The runtime is the fake one (runtime.c), except where a real container is what the test is about.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../shim/client"))

from shim import REPO, read_file, until  # noqa: E402
from tap import check, contains, equal, main, test  # noqa: E402

FAKE = os.path.join(REPO, "build/test/fake-runtime")
GROUP = {"io.kubernetes.cri.sandbox-id": "pod"}


def fake(w, words="", container="c1", *, pid="host", **more):
    """A task whose runtime is the fake one, told to behave like this."""
    w.runtime = FAKE
    return w.task(container=container, pid=pid, annotations={**GROUP, "test": "fake: " + words}, **more)


def add_exec(t, exec_id, words=""):
    t.exec(exec_id, ["x"], env=["X=fake: " + words])


def end(t, status=137):
    """Kill, Wait, Delete: the rest of a normal life."""
    t.kill()
    equal(t.wait()["exit_status"], status, "status")
    t.delete()


# ---- runtimes -------------------------------------------------------------------------------------


@test
def an_exec_that_is_made_while_init_ends(w):
    """The processes of the container have been killed already when the runtime makes one more."""
    t = fake(w, "exit=3").run()
    add_exec(t, "e", "exec.between=500000")
    start, wait, init = t.send("Start", exec_id="e"), t.send("Wait", exec_id="e"), t.send("Wait")
    until(lambda: len(w.processes()) >= 3, "the exec to be under way")
    os.kill(t.pid, 9)
    equal(init.result(10)["exit_status"], 137, "status of init")
    start.result()
    equal(wait.result()["exit_status"], 137, "status of the exec")
    t.delete()
    t.events("create", "start", "exec-added", "exec-started", "exit", "exit", "delete")


if __name__ == "__main__":
    sys.exit(main())
