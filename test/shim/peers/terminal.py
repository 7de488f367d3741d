#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""terminal.py [STEP...] -- COMMAND...: runs a command on a terminal of its own.

Steps, one after the other:
    see:REGEX       wait until this has appeared after what the step before saw
    say:TEXT        type this; \\n, \\r, \\x03 and the like are understood
    size:ROWSxCOLS  change the size, which sends SIGWINCH
    fit:ROWSxCOLS:REGEX  the same, again and again until this appears
    close           hang up
Then it waits for the end. What the terminal showed goes to stdout, the exit status is the
command's (128 + signal). A step that does not come about is named on stderr, the command is killed
and the status is 99.
"""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

LIMIT = 60 * float(os.environ.get("TIME_FACTOR") or 1)  # seconds


class Gone(Exception):
    """The terminal shows nothing more: everybody has closed it."""


class Terminal:
    def __init__(self, command):
        self.shown = b""
        self.seen = 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.execvp(command[0], command)
            finally:
                os._exit(127)
        self.size("24x80")

    def size(self, text):
        rows, cols = map(int, text.split("x"))
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def fit(self, text):
        size, regex = text.split(":", 1)
        rows, cols = map(int, size.split("x"))
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            self.size(f"{rows}x{cols - 1}")
            self.size(size)
            try:
                self.see(regex, 0.25)
                return
            except TimeoutError:
                pass
        raise TimeoutError

    def read(self, end):
        if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
            raise TimeoutError
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        if not data:
            raise Gone
        self.shown += data

    def see(self, regex, limit=LIMIT):
        end = time.monotonic() + limit
        while True:
            found = re.compile(regex.encode(), re.M).search(self.shown, self.seen)
            if found:
                self.seen = found.end()
                return
            self.read(end)

    def say(self, text):
        data = text.encode().decode("unicode_escape").encode("latin-1")
        while data:
            data = data[os.write(self.fd, data):]

    def finish(self):
        end = time.monotonic() + LIMIT
        try:
            while self.fd >= 0:
                self.read(end)
        except Gone:
            pass
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return status
            time.sleep(0.02)
        raise TimeoutError

    def close(self):
        os.close(self.fd)
        self.fd = -1


def main():
    words = sys.argv[1:]
    split = words.index("--")
    terminal = Terminal(words[split + 1:])
    step = ""
    try:
        for step in words[:split]:
            verb, _, text = step.partition(":")
            if verb == "close":
                terminal.close()
            else:
                {"see": terminal.see, "say": terminal.say,
                 "size": terminal.size, "fit": terminal.fit}[verb](text)
        step = "the end"
        status = terminal.finish()
        code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    except (TimeoutError, Gone) as why:
        print(f"terminal: no {step}: {type(why).__name__}", file=sys.stderr)
        os.kill(terminal.pid, signal.SIGKILL)
        os.waitpid(terminal.pid, 0)
        code = 99
    sys.stdout.flush()
    os.write(1, terminal.shown)
    return code


sys.exit(main())
