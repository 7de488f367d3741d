# SPDX-License-Identifier: Apache-2.0
"""tap.py - runs test functions side by side and prints TAP.

Every test gets a World of its own, which is closed after it; what the shim left behind fails the
test. A test marked @better asserts what nanoshim does better than the Go shim: when the shim under
test is built by Go, its failure is reported as a TODO and does not count. A test marked @long waits
for a long time that the product waits: it is run only with --long, or TAP_LONG=1 in the environment.

usage: test_*.py [--long] [-j N] [-v] [-l] [NAME...]    (a NAME matches where it occurs in a test's name)
"""

import argparse
import concurrent.futures.thread
import os
import signal
import sys
import time
import traceback

import shim
import ttrpc

TESTS = []


class Skip(Exception):
    """This machine cannot run the test."""


def test(fn):
    TESTS.append(fn)
    return fn


def better(reason):
    """Put below @test: nanoshim is to be better than the Go shim here."""
    def mark(fn):
        fn.better = reason
        return fn
    return mark


def takes(seconds):
    """Put below @test: it waits that long for a time limit of the product, so it is begun first."""
    def mark(fn):
        fn.seconds = seconds
        return fn
    return mark


def long(seconds):
    """Put below @test: it needs so many seconds of real time, too many for every day."""
    def mark(fn):
        fn.long = True
        return takes(seconds)(fn)
    return mark


def test_both(fn):
    """A test that is run with each name of the Task service."""
    TESTS.append(fn)

    def v3(world):
        world.service = ttrpc.TASK3
        fn(world)
    v3.__name__ = fn.__name__ + "_by_v3"
    v3.better = "Task v3 is from 2.0"
    TESTS.append(v3)
    return fn


# ---- assertions -----------------------------------------------------------------------------------


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def equal(got, wanted, what="value"):
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r}, wanted {wanted!r}")


def contains(text, part, what="text"):
    if part not in text:
        raise AssertionError(f"{what}: {part!r} is not in {text!r}")


def within(limit, whose, what, prepare):
    """What prepare() returns is called, and takes less time than somebody's limit. A machine may be busy for a
    moment: it is given three chances. The result is the call's."""
    took = []
    for _ in range(3):
        act = prepare()
        begin = time.monotonic()
        result = act()
        took.append(time.monotonic() - begin)
        if took[-1] < limit:
            return result
    raise AssertionError(f"{what} took {', '.join(f'{t:.1f}' for t in took)} s, and {whose} limit is {limit} s")


# ---- running --------------------------------------------------------------------------------------


def run_one(fn):
    """(passed, skipped, text of the trouble, seconds)"""
    begin = time.monotonic()
    trouble, skipped, world = "", "", None
    try:
        world = shim.World()
        fn(world)
    except Skip as e:
        skipped = str(e)
    except Exception as e:
        # Only the lines of the tests themselves: what the library does is beside the point.
        lines = [f"{os.path.basename(f.filename)}:{f.lineno}: {f.line}" for f in traceback.extract_tb(e.__traceback__)
                 if f.filename not in (__file__, shim.__file__, ttrpc.__file__, concurrent.futures.thread.__file__)]
        trouble = f"{type(e).__name__}: {e}\n" + "\n".join("  " + line for line in lines)
        trouble += "".join("\nlog: " + line for line in world.log().splitlines()[-15:]) if world else ""
    if world:
        try:
            leaks = world.close(orderly=not trouble)
        except Exception as e:
            leaks = [f"close failed: {e!r}"]
        if leaks:
            trouble += "\n" + "\n".join("left behind: " + leak for leak in leaks)
    return not trouble, skipped, trouble.strip(), time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-j", type=int, default=10, help="tests at a time")
    parser.add_argument("-v", action="store_true", help="print how long each took")
    parser.add_argument("-l", action="store_true", help="list the tests")
    parser.add_argument("--long", action="store_true", default=os.environ.get("TAP_LONG") == "1",
                        help="also the tests that wait long")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    tests = [t for t in TESTS if args.long or not getattr(t, "long", False)]
    tests = [t for t in tests if not args.names or any(n in t.__name__ for n in args.names)]
    if args.l:
        print("\n".join(t.__name__ for t in tests))
        return 0
    if not tests:
        print("1..0 # no such test")
        return 1
    shim.make_room_for_crun()
    go = shim.is_go(shim.SHIM)
    failed = 0
    print(f"1..{len(tests)}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pool = concurrent.futures.ThreadPoolExecutor(args.j)
    try:
        # The longest begin first; they are told in their own order.
        futures = {t: pool.submit(run_one, t) for t in sorted(tests, key=lambda t: -getattr(t, "seconds", 0))}
        for number, fn in enumerate(tests, 1):
            passed, skipped, trouble, seconds = futures[fn].result()
            reason = getattr(fn, "better", None) if go else None
            line = f"{'ok' if passed else 'not ok'} {number} - {fn.__name__.replace('_', ' ')}"
            line += f" # SKIP {skipped}" if skipped else f" # TODO {reason}" if reason else ""
            print(line)
            if args.v:
                print(f"# {seconds:.1f} s")
            # Of an expected failure the first line will do.
            for text in trouble.splitlines()[:1 if reason else None]:
                print("# " + (text if len(text) < 400 else text[:400] + " ..."))
            sys.stdout.flush()
            failed += not passed and not reason
    finally:
        pool.shutdown(cancel_futures=True)  # those under way still clean up after themselves
    return 1 if failed else 0
