#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""test_transcript.py - plays every scenario against the Go shim and against $SHIM, and compares.

The transcripts must be equal line by line but for the differences below, which we chose. Each is a
pair of lines (what the Go shim says, what we say; None where one side says nothing), in which * is
anything, with its reason. A difference that is no longer seen fails too: the table stays true.

usage: test_transcript.py [-j N] [SCENARIO...]
"""

import argparse
import concurrent.futures
import difflib
import inspect
import os
import re
import sys

import shim
import transcript

DIFFERENCES = [
    # (scenario, the Go shim's line, our line, reason)
    ("unknown_exec", "CloseIO c1 exec_id='e1' -> error 2: *", "CloseIO c1 exec_id='e1' -> error 5: *",
     "what does not exist is NotFound in every verb"),
    ("stopped", "Pids c1 -> processes=[]", "Pids c1 -> processes=[{pid=<pid1> info=None}]",
     "an empty list makes containerd 1.7 and later delete a stopped task at its restart"),
    ("stopped", "Kill c1 signal=9 all=True -> {}",
     "Kill c1 signal=9 all=True -> error 5: process already finished: not found",
     "newer Go shims say so, and what clients expect before Delete"),
    ("create_failures", "delete c* -> pid=-1 exit_status=137 *", "delete c* -> pid=0 exit_status=137 *",
     "there is no process 4294967295"),
    ("create_failures", "Create c* -> error 2: failed to mount rootfs component &{*}: *",
     'Create c* -> error 2: failed to mount rootfs component: mount source: "*", *, err: *',
     "the text of newer Go shims"),
    ("create_deadline", "Create c1 -> error 4: *: context deadline exceeded",
     "Create c1 -> error 4: context deadline exceeded", "a deadline has one text, whatever it cuts short"),
    ("exec_refusals",
     "Start c1 exec_id='late' -> error 2: OCI runtime exec failed: exec failed: cannot exec in a stopped container",
     "Start c1 exec_id='late' -> error 9: container c1 init process is not running: failed precondition",
     "newer Go shims refuse this without asking the runtime"),
    ("without_options", "file options.json 100600", None, "it would hold {}, in a page of its own"),
    ("exec_left_at_delete", "file done.pid 100644", None, "pid files of execs go with the container"),
]


def matches(pattern, line):
    if pattern is None or line is None:
        return pattern is line
    return re.fullmatch(".*".join(re.escape(p) for p in pattern.split("*")), line) is not None


def compare(name, go, ours):
    """(lines that differ without leave, the differences that were seen)"""
    allowed = [d for d in DIFFERENCES if d[0] == name]
    seen = set()
    trouble = [line for line in go + ours if line.startswith("the scenario broke")]  # were it on both sides
    for kind, a, b, c, d in difflib.SequenceMatcher(None, go, ours, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        left, right = go[a:b], ours[c:d]
        for n in range(max(len(left), len(right))):
            pair = [lines[n] if n < len(lines) else None for lines in (left, right)]
            known = [x for x in allowed if matches(x[1], pair[0]) and matches(x[2], pair[1])]
            seen.update(known)
            if not known:
                trouble += [f"{sign} {line}" for sign, line in zip("-+", pair) if line is not None]
    return trouble, [d for d in allowed if d not in seen]


def run(name):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        go, ours = pool.map(lambda binary: transcript.play(name, binary), (shim.GO_SHIM, shim.SHIM))
    return compare(name, go, ours)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-j", type=int, default=6, help="scenarios at a time")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    if shim.RUNTIME != "runc":
        print("1..1\nok 1 # SKIP the differences are those with runc")
        return 0
    if not os.path.exists(shim.GO_SHIM):
        sys.exit(f"no {shim.GO_SHIM} to compare with: make deps-test")
    names = args.names or list(transcript.SCENARIOS)
    same = shim.is_go(shim.SHIM)
    failed = 0
    print(f"1..{len(names)}", flush=True)
    with concurrent.futures.ThreadPoolExecutor(args.j) as pool:
        # The longest begin first; they are told in their own order.
        first = sorted(names, key=lambda name: -len(inspect.getsource(transcript.SCENARIOS[name])))
        futures = {name: pool.submit(run, name) for name in first}
        for number, name in enumerate(names, 1):
            trouble, unseen = futures[name].result()
            if not same:
                trouble += [f"this difference is gone: {d[1]!r} / {d[2]!r} ({d[3]})" for d in unseen]
            failed += bool(trouble)
            print(f"{'not ok' if trouble else 'ok'} {number} - transcript of {name.replace('_', ' ')}")
            for line in trouble:
                print("#", line)
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
