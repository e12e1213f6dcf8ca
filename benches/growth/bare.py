"""Floors: what the same costs without any runtime, in plain Python."""

import contextlib
import random
import socket
import subprocess
import sys

MESSAGE = b"0123456789"
ECHO = """
import socket, sys
peer = socket.socket(fileno=int(sys.argv[1]))
while data := peer.recv(1 << 16):
    peer.sendall(data)
"""
#: Messages on their way at once: fewer than a socket holds in one direction, or both sides could wait for room for ever.
IN_FLIGHT = 200


class BareProcesses:
    """Processes that send back what they get over a socket pair, one pair each."""

    def __init__(self):
        self.sockets = []
        self._children = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for ours in self.sockets:
            ours.close()
        self._children.close()

    def grow(self, n):
        while len(self.sockets) < n:
            ours, theirs = socket.socketpair()
            with theirs:
                command = [sys.executable, "-S", "-c", ECHO, str(theirs.fileno())]
                self._children.enter_context(subprocess.Popen(command, pass_fds=[theirs.fileno()]))
            self.sockets.append(ours)
            ours.sendall(MESSAGE)
            assert ours.recv(len(MESSAGE)) == MESSAGE

    def one_by_one(self, n, messages):
        """Each message is answered before the next one is sent, to the next process."""
        for number in range(messages):
            peer = self.sockets[number % n]
            peer.sendall(MESSAGE)
            peer.recv(len(MESSAGE))

    def all_at_once(self, n, messages):
        """Messages to all in turn, then all answers, `IN_FLIGHT` at a time."""
        for begun in range(0, messages, IN_FLIGHT):
            awaited = [0] * n
            for number in range(begun, min(messages, begun + IN_FLIGHT)):
                self.sockets[number % n].sendall(MESSAGE)
                awaited[number % n] += len(MESSAGE)
            for peer, expected in zip(self.sockets, awaited, strict=False):
                while expected > 0:
                    expected -= len(peer.recv(1 << 16))


class Entry:
    """Stands for a reference in :func:`fill`."""

    __slots__ = ("__weakref__",)


def fill(n):
    """Objects, and a table of what they stand for."""
    keys = [Entry() for _ in range(n)]
    return keys, {key: number for number, key in enumerate(keys)}


def look_up(keys, table):
    return [table[key] for key in keys]


def shuffled(keys):
    """The keys in an order that is not the table's, as ids are."""
    return random.Random(0).sample(keys, len(keys))
