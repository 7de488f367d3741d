#!/usr/bin/python3 -IS
# SPDX-License-Identifier: Apache-2.0
"""ask.py SOCKET WORD...: has the program that listens there do what the words say, with stdin,
stdout and stderr of ours. The exit code is the byte that it answers with. Starting Python with all
that gRPC wants takes five times as long.
"""
import socket
import sys

with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
    sock.connect(sys.argv[1])
    socket.send_fds(sock, ["\0".join(sys.argv[2:]).encode()], [0, 1, 2])
    answer = sock.recv(1)
sys.exit(answer[0] if answer else 125)
