# SPDX-License-Identifier: Apache-2.0
"""wire.py - protobuf by hand: the messages a shim and its clients exchange.

Written from the documented field numbers, independent of any .proto file and of generated code, so
that it can disagree with the shim under test. Messages are dicts; encode() leaves out zero values
like every proto3 writer; decode() fills in defaults, gives None for an absent message, and keeps a
field it does not know under its number, so that a comparison shows it.
"""

SCHEMA = """
Any: 1 type_url s, 2 value b
Timestamp: 1 seconds i, 2 nanos i
Entry: 1 key s, 2 value s

Request: 1 service s, 2 method s, 3 payload b, 4 timeout_nano i, 5 metadata *Entry
Response: 1 status Status, 2 payload b
Status: 1 code i, 2 message s, 3 details *Any

Mount: 1 type s, 2 source s, 3 target s, 4 options *s
CreateRequest: 1 id s, 2 bundle s, 3 rootfs *Mount, 4 terminal u, 5 stdin s, 6 stdout s, 7 stderr s, 8 checkpoint s, 9 parent_checkpoint s, 10 options Any
CreateResponse: 1 pid u
StartRequest: 1 id s, 2 exec_id s
StartResponse: 1 pid u
DeleteRequest: 1 id s, 2 exec_id s
DeleteResponse: 1 pid u, 2 exit_status u, 3 exited_at Timestamp
ExecRequest: 1 id s, 2 exec_id s, 3 terminal u, 4 stdin s, 5 stdout s, 6 stderr s, 7 spec Any
ResizePtyRequest: 1 id s, 2 exec_id s, 3 width u, 4 height u
StateRequest: 1 id s, 2 exec_id s
StateResponse: 1 id s, 2 bundle s, 3 pid u, 4 status u, 5 stdin s, 6 stdout s, 7 stderr s, 8 terminal u, 9 exit_status u, 10 exited_at Timestamp, 11 exec_id s
KillRequest: 1 id s, 2 exec_id s, 3 signal u, 4 all u
CloseIORequest: 1 id s, 2 exec_id s, 3 stdin u
PidsRequest: 1 id s
PidsResponse: 1 processes *ProcessInfo
ProcessInfo: 1 pid u, 2 info Any
ProcessDetails: 1 exec_id s
CheckpointRequest: 1 id s, 2 path s, 3 options Any
UpdateRequest: 1 id s, 2 resources Any, 3 annotations *Entry
WaitRequest: 1 id s, 2 exec_id s
WaitResponse: 1 exit_status u, 2 exited_at Timestamp
StatsRequest: 1 id s
StatsResponse: 1 stats Any
ConnectRequest: 1 id s
ConnectResponse: 1 shim_pid u, 2 task_pid u, 3 version s
ShutdownRequest: 1 id s, 2 now u
PauseRequest: 1 id s
ResumeRequest: 1 id s
Empty:

Options: 1 no_pivot_root u, 2 no_new_keyring u, 3 shim_cgroup s, 4 io_uid u, 5 io_gid u, 6 binary_name s, 7 root s, 8 criu_path s, 9 systemd_cgroup u, 10 criu_image_path s, 11 criu_work_path s
CreateOptions: 1 no_pivot_root u, 8 no_new_keyring u, 9 shim_cgroup s, 10 io_uid u, 11 io_gid u
RuntimeOptions: 1 type_url s, 2 config_path s, 3 config_body b
CheckpointOptions: 1 exit u, 2 open_tcp u, 3 external_unix_sockets u, 4 terminal u, 5 file_locks u, 6 empty_namespaces *s, 7 cgroups_mode s, 8 image_path s, 9 work_path s
BootstrapParams: 1 instance_id s, 2 namespace s, 3 log_level i, 4 containerd_version s, 5 containerd_ttrpc_address s, 6 containerd_grpc_address s, 7 containerd_binary s, 8 extensions *Extension, 9 socket_dir s
Extension: 1 value Any
RuntimeInfo: 1 name s, 2 version RuntimeVersion, 3 options Any, 4 features Any, 5 annotations *Entry
RuntimeVersion: 1 version s, 2 revision s

ForwardRequest: 1 envelope Envelope
Envelope: 1 timestamp Timestamp, 2 namespace s, 3 topic s, 4 event Any
TaskCreate: 1 container_id s, 2 bundle s, 3 rootfs *Mount, 4 io TaskIO, 5 checkpoint s, 6 pid u
TaskIO: 1 stdin s, 2 stdout s, 3 stderr s, 4 terminal u
TaskStart: 1 container_id s, 2 pid u
TaskDelete: 1 container_id s, 2 pid u, 3 exit_status u, 4 exited_at Timestamp, 5 id s
TaskExit: 1 container_id s, 2 id s, 3 pid u, 4 exit_status u, 5 exited_at Timestamp
TaskOOM: 1 container_id s
TaskExecAdded: 1 container_id s, 2 exec_id s
TaskExecStarted: 1 container_id s, 2 exec_id s, 3 pid u
TaskPaused: 1 container_id s
TaskResumed: 1 container_id s
TaskCheckpointed: 1 container_id s, 2 checkpoint s
"""

# Types: s string, b bytes, u unsigned or bool, i signed, anything else a message; * means repeated.
MESSAGES = {}
for _line in filter(None, SCHEMA.splitlines()):
    _name, _, _fields = _line.partition(":")
    MESSAGES[_name] = {}
    for _field in filter(None, (f.strip() for f in _fields.split(","))):
        _number, _key, _kind = _field.split()
        MESSAGES[_name][int(_number)] = (_key, _kind.lstrip("*"), _kind.startswith("*"))

ZERO_TIME = {"seconds": -62135596800, "nanos": 0}  # Go's zero time: "has not happened yet"


class Malformed(ValueError):
    """These bytes are not a message."""


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def read_varint(data, at):
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Malformed("varint")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & (1 << 64) - 1, at


def field(number, value):
    """One field, its wire type chosen by the type of the value."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def encode(name, message):
    out = b""
    known = {key: (number, kind, many) for number, (key, kind, many) in MESSAGES[name].items()}
    for key, value in message.items():
        number, kind, many = known[key]
        for item in value if many else [value]:
            if kind in MESSAGES:
                if item is not None:
                    out += field(number, encode(kind, item))
            elif item or many:
                out += field(number, int(item) if kind in "ui" else item)
    return out


def decode(name, data):
    fields, at = MESSAGES[name], 0
    message = {}
    for key, kind, many in fields.values():
        message[key] = [] if many else {"s": "", "b": b"", "u": 0, "i": 0}.get(kind)
    while at < len(data):
        tag, at = read_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, at = read_varint(data, at)
        elif wire_type in (1, 2, 5):
            size = {1: 8, 5: 4}.get(wire_type)
            if size is None:
                size, at = read_varint(data, at)
            if at + size > len(data):
                raise Malformed(f"{name}.{number} is cut off")
            value, at = bytes(data[at:at + size]), at + size
        else:
            raise Malformed(f"{name}.{number}: wire type {wire_type}")
        key, kind, many = fields.get(number, (number, None, False))
        if kind is not None and wire_type != (0 if kind in "ui" else 2):
            raise Malformed(f"{name}.{key}: wire type {wire_type}")
        if kind == "s":
            value = value.decode()
        elif kind == "i" and value >> 63:
            value -= 1 << 64
        elif kind in MESSAGES:
            value = decode(kind, value)
        if many:
            message[key].append(value)
        else:
            message[key] = value
    return message


def pack(type_url, name=None, message=None):
    """An Any: of a message, or of bytes."""
    value = encode(name, message) if name else message or b""
    return {"type_url": type_url, "value": value}


def options(**fields):
    return pack("containerd.runc.v1.Options", "Options", fields)
