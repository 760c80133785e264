"""The wire format of ../wire.md, written and read a second time, so that two implementations check each other.

Owns: building frames field by field (also wrong ones) and saying what some bytes are. Its only source is
the specification, section numbers are given; it knows nothing of the code beside it and uses nothing but
the standard library. What is made of it: generate.py.
"""

import zlib

# Section 3.
MAGIC = bytes([0xE2, 0x52, 0x4C, 0x59])
VERSION = 1
HEADER = 20
ROUTING = 44
SKIPPABLE, ROUTED, REDELIVERED = 0x0001, 0x0002, 0x0100

# Section 9.
BODY_MAX = 16_428
BODY_MAX_BEFORE_LOGIN = 1_024
ENVELOPE_MAX = 16_384
RANGE_MAX = 512
TTL_MAX = 2_592_000
BATCH_MAX = 16
TEXT_MAX = 120
ROLL_OVERS_MAX = 8
QUERY_MAX = 64
WHO_MAX = 64
PRESENCE_MAX = 255

# Section 1: number, and who reads it.
TYPES = {
    "HELLO": (0x01, "to relay"),
    "CHALLENGE": (0x02, "to client"),
    "PROOF": (0x03, "to relay"),
    "WELCOME": (0x04, "to client"),
    "ERROR": (0x05, "to client"),
    "PING": (0x06, "both"),
    "PONG": (0x07, "both"),
    "SEND": (0x10, "to relay"),
    "DELIVER": (0x11, "to client"),
    "NOTICE": (0x12, "to client"),
    "ACK": (0x13, "to relay"),
    "RESULT": (0x14, "to client"),
    "QUERY": (0x15, "to relay"),
    "STATES": (0x16, "to client"),
    "LOOKUP": (0x20, "to relay"),
    "ENTRY": (0x21, "to client"),
    "PUBLISH": (0x22, "to relay"),
    "PUBLISHED": (0x23, "to client"),
    "ROLL": (0x24, "to relay"),
    "ROLLED": (0x25, "to client"),
    "ROLLS": (0x26, "to client"),
    "WHO": (0x28, "to relay"),
    "PRESENCE": (0x29, "to client"),
    "BLOCK": (0x2A, "to relay"),
    "BLOCKED": (0x2B, "to client"),
    "REMOVE": (0x2C, "to relay"),
    "REMOVED": (0x2D, "to client"),
}
NAMES = {number: name for name, (number, _) in TYPES.items()}

# Section 5.
RESULTS = {1: "COLLECTED", 2: "STORED", 3: "REFUSED", 4: "UNCERTAIN", 5: "EXPIRED", 6: "DONE", 7: "ACCEPTED"}
STATES = {0: "UNKNOWN", 1: "WAITING", 2: "STORED", 3: "DONE", 4: "ACCEPTED"}

# Section 6.
PRESENCE = {0: "nobody", 1: "offline", 2: "online"}

# Section 7: number, where.
CODES = {
    "BAD_MAGIC": (0x0101, "closes"),
    "UNSUPPORTED_VERSION": (0x0102, "closes"),
    "TOO_LONG": (0x0103, "closes"),
    "BAD_CRC": (0x0104, "closes"),
    "UNKNOWN_TYPE": (0x0105, "closes"),
    "MALFORMED": (0x0106, "closes"),
    "UNEXPECTED_FRAME": (0x0107, "closes"),
    "LOGIN_FAILED": (0x0108, "closes"),
    "NAME_TAKEN": (0x0109, "closes"),
    "REGISTRATION_CLOSED": (0x010A, "closes"),
    "BAD_TOKEN": (0x010B, "closes"),
    "REPLACED": (0x010C, "closes"),
    "BAD_ACK": (0x010E, "closes"),
    "UNKNOWN_NAME": (0x0120, "request"),
    "UNKNOWN_RECIPIENT": (0x0121, "refused"),
    "KEY_CHANGED": (0x0122, "closes, refused"),
    "ID_CONFLICT": (0x0123, "refused"),
    "ID_TOO_OLD": (0x0124, "refused"),
    "BAD_BUNDLE": (0x0125, "request"),
    "PREKEYS_FULL": (0x0126, "request"),
    "BAD_ROLL": (0x0127, "request"),
    "PRESENCE_PRIVATE": (0x0128, "request"),
    "BLOCKED": (0x0129, "refused, request"),
    "WATCHES_FULL": (0x012A, "request"),
    "BLOCKS_FULL": (0x012B, "request"),
    "BAD_REMOVAL": (0x012C, "request"),
    "NAME_REMOVED": (0x012D, "closes"),
    "LOGIN_TIMEOUT": (0x0201, "closes"),
    "IDLE_TIMEOUT": (0x0202, "closes"),
    "SLOW_READER": (0x0203, "closes"),
    "TOO_MANY_CONNECTIONS": (0x0204, "closes"),
    "RESTARTING": (0x0205, "closes"),
    "DIRECTORY_FULL": (0x0206, "closes"),
    "NO_BUNDLE": (0x0220, "request"),
    "MAILBOX_FULL": (0x0221, "refused"),
    "BUSY": (0x0222, "refused, request"),
    "STORE_FAILED": (0x0223, "closes, refused, request"),
    "MAILBOX_NOT_EMPTY": (0x0224, "request"),
    "SHARE_FULL": (0x0225, "refused"),
    "QUOTA_FULL": (0x0226, "refused"),
}
CODE_NAMES = {number: name for name, (number, _) in CODES.items()}


def code_name(number):
    """A code as the vectors write it: its name, or 0x and four digits."""
    return CODE_NAMES.get(number, f"0x{number:04X}")


def crc32(data):
    """Section 3: the common CRC-32, which is zlib's."""
    return zlib.crc32(data) & 0xFFFFFFFF


assert crc32(b"123456789") == 0xCBF43926

# Building. A frame is a list of parts (comment, bytes), so that it can be shown field by field.


def uint(size):
    return lambda value: value.to_bytes(size, "big")


u8, u16, u32, u64 = uint(1), uint(2), uint(4), uint(8)


def counted(what, data, length=None):
    """1+n; `length` stands in for the true one."""
    return [(f"length of the {what}", u8(len(data) if length is None else length)), (what, data)]


def join(parts):
    return b"".join(data for _, data in parts)


def routing(peer, lane, number, sequence=0, time=0, ttl=TTL_MAX):
    """The 44 bytes with which the body of a routed frame starts."""
    return [
        ("peer uid", u64(peer)),
        ("lane", u64(lane)),
        ("number", u64(number)),
        ("sequence", u64(sequence)),
        ("time", u64(time)),
        ("ttl", u32(ttl)),
    ]


def frame(kind, body, flags=None, *, magic=MAGIC, version=VERSION, length=None, body_crc=None, header_crc=None):
    """A frame as parts. What is not given is right."""
    number = kind if isinstance(kind, int) else TYPES[kind][0]
    if flags is None:
        flags = ROUTED if kind in ("SEND", "DELIVER", "NOTICE") else 0
    raw = join(body)
    split = ROUTING if flags & ROUTED else 0
    if length is None:
        length = len(raw)
    if body_crc is None:
        body_crc = crc32(raw[split:])
    header = [
        ("magic", magic),
        ("header version", u8(version)),
        (f"type {NAMES.get(number, 'that nobody knows')}", u8(number)),
        ("flags", u16(flags)),
        ("length of the body", u32(length)),
        ("body CRC", u32(body_crc)),
    ]
    if header_crc is None:
        header_crc = crc32(join(header) + raw[:split])
    return [*header, ("header CRC", u32(header_crc)), *body]


# Reading. An outcome is ("incomplete", frame bytes or None), ("error", code), ("skip", frame bytes) or
# ("frame", type, fields, frame bytes). Byte fields are (offset in the frame, bytes).


class Malformed(Exception):
    pass


def must(condition):
    if not condition:
        raise Malformed


class Cursor:
    def __init__(self, data, at, end):
        self.data, self.at, self.end = data, at, end

    def bytes(self, count):
        must(self.at + count <= self.end)
        start, self.at = self.at, self.at + count
        return start, self.data[start : self.at]

    def uint(self, count):
        return int.from_bytes(self.bytes(count)[1], "big")

    def zero(self, count):
        must(self.uint(count) == 0)

    def counted(self):
        return self.bytes(self.uint(1))[1]

    def name(self):
        return check_name(self.counted())


def check_name(raw):
    """Section 2: 1 to 32 of a-z 0-9 . _ -, the first a letter or a digit."""
    first = b"abcdefghijklmnopqrstuvwxyz0123456789"
    must(1 <= len(raw) <= 32 and raw[0] in first and all(byte in first + b"._-" for byte in raw))
    return raw.decode()


ROLL_OVER = 8 + 256 + 256 + 256


def lengths(kind):
    """The lengths that a body of this type can have, by the layouts of section 1."""
    names = range(1, 33)
    counts = range(1, RANGE_MAX + 1)
    batch = range(1, BATCH_MAX + 1)
    signed_prekey = 256 + 8 + 1 + 256
    match kind:
        case "HELLO":
            return {2 + 2 + 1 + 3}
        case "CHALLENGE":
            return {2 + 1 + 1 + 32 + 32}
        case "PROOF":
            return {1 + 4 + 4 + 256 + 256 + 32 + 1 + n for n in names}
        case "WELCOME":
            return {8 + 8 + 8 + 8 + 2 + 1 + 1 + 2 + 2 + 4 + 4}
        case "ERROR":
            return {2 + 1 + 1 + 4 + 4 + 1 + n for n in range(TEXT_MAX + 1)}
        case "PING" | "PONG":
            return {8}
        case "SEND" | "DELIVER":
            return range(ROUTING + 1, ROUTING + ENVELOPE_MAX + 1)
        case "NOTICE":
            return {ROUTING + 1 + 3 + 32}
        case "ACK":
            return {8 + 2 + 2 + 32 * n for n in counts}
        case "RESULT":
            return {8 + 8 + 2 + 1 + 1 + 2 + 2 + 4 + 32 * n for n in [0, *counts]}
        case "LOOKUP":
            return {4 + 1 + 3 + 8 + 1 + n for n in [0, *names]}
        case "ENTRY":
            address = {4 + 8 + 32 + 1 + 1 + 2 + 1 + n for n in names}
            bundle = {n + 256 + signed_prekey for n in address}
            return address | bundle | {n + 256 + 256 + 1 + 32 * c for n in bundle for c in batch}
        case "PUBLISH":
            batches = {8 + 256 + 1 + 256 * c for c in batch}
            return {8 + n for n in {signed_prekey} | batches | {signed_prekey + n for n in batches}}
        case "PUBLISHED":
            return {4 + 8 + 2 + 2}
        case "ROLL":
            return {4 + 8 + 256 + 256 + 256}
        case "ROLLED":
            return {4 + 8}
        case "ROLLS":
            return {4 + 1 + 3 + 256 + ROLL_OVER * n for n in range(ROLL_OVERS_MAX + 1)}
        case "QUERY":
            return {4 + 8 + 8 + 2 + 2}
        case "STATES":
            return {4 + 8 + 8 + 2 + 2 + n for n in range(1, QUERY_MAX + 1)}
        case "WHO":
            return sums(4 + 1 + 1 + 2 + 4, {1 + n for n in names}, WHO_MAX)
        case "PRESENCE":
            return sums(4 + 4 + 1 + 3, {1 + 1 + n for n in names}, PRESENCE_MAX)
        case "BLOCK":
            return {4 + 1 + 3 + 1 + n for n in names}
        case "BLOCKED":
            return {4 + 1 + 3}
        case "REMOVE":
            return {4 + 256}
        case "REMOVED":
            return {4}


def sums(fixed, lengths, count_max):
    """The lengths of a fixed part with up to so many items, each of one of these lengths."""
    low, high = min(lengths), max(lengths)
    return {fixed} | {n for count in range(1, count_max + 1) for n in range(fixed + low * count, fixed + high * count + 1)}


LENGTHS = {kind: lengths(kind) for kind in TYPES}


def flags_fit(kind, flags):
    match kind:
        case "SEND":
            return flags == ROUTED
        case "DELIVER" | "NOTICE":
            return flags in (ROUTED, ROUTED | REDELIVERED)
    return flags == 0


def read(data, limit=BODY_MAX, direction=None):
    """Section 3, "Reading a frame": steps 1 to 8, and 9 as far as it is a matter of direction."""
    for byte, expected in zip(data, MAGIC):
        if byte != expected:
            return ("error", "BAD_MAGIC")
    if len(data) > 4 and data[4] != VERSION:
        return ("error", "UNSUPPORTED_VERSION")
    if len(data) < 12:
        return ("incomplete", None)
    flags = int.from_bytes(data[6:8], "big")
    length = int.from_bytes(data[8:12], "big")
    if length > limit:
        return ("error", "TOO_LONG")
    split = ROUTING if flags & ROUTED else 0
    if length < split:
        return ("error", "MALFORMED")
    if len(data) < HEADER + split:
        return ("incomplete", None)
    if crc32(data[:16] + data[HEADER : HEADER + split]) != int.from_bytes(data[16:20], "big"):
        return ("error", "BAD_CRC")
    kind = NAMES.get(data[5])
    if kind is None and not flags & SKIPPABLE:
        return ("error", "UNKNOWN_TYPE")
    if kind is not None and not (flags_fit(kind, flags) and length in LENGTHS[kind]):
        return ("error", "MALFORMED")
    end = HEADER + length
    if len(data) < end:
        return ("incomplete", end)
    if crc32(data[HEADER + split : end]) != int.from_bytes(data[12:16], "big"):
        return ("error", "BAD_CRC")
    if kind is None:
        return ("skip", end)
    try:
        fields = read_body(kind, flags, Cursor(data, HEADER, end))
    except Malformed:
        return ("error", "MALFORMED")
    if direction and TYPES[kind][1] not in ("both", direction):
        return ("error", "UNEXPECTED_FRAME")
    return ("frame", kind, fields, end)


def read_body(kind, flags, c):
    if kind in ("SEND", "DELIVER", "NOTICE"):
        fields = read_routed(kind, flags, c)
    else:
        fields = BODIES[kind](c)
    must(c.at == c.end)
    return fields


def read_routed(kind, flags, c):
    f = {name: c.uint(8) for name in ("peer_uid", "lane", "number", "sequence", "time")}
    f["ttl"] = c.uint(4)
    must(f["number"] >= 1 and f["ttl"] <= TTL_MAX)
    if kind == "SEND":
        must(f["sequence"] == 0 and f["time"] == 0)
    else:
        must(f["ttl"] >= 1)
        f["redelivered"] = int(bool(flags & REDELIVERED))
    if kind != "NOTICE":
        f["envelope"] = c.bytes(c.end - c.at)
        return f
    code = c.uint(1)
    must(code in (1, 5))
    c.zero(3)
    f["code"], f["receipt"] = RESULTS[code], c.bytes(32)
    must(code == 1 or not any(f["receipt"][1]))
    return f


def read_hello(c):
    f = {"version_min": c.uint(2), "version_max": c.uint(2), "purpose": c.uint(1)}
    c.zero(3)
    must(f["version_min"] <= f["version_max"] and f["purpose"] in (1, 2))
    return f


def read_challenge(c):
    f = {"version": c.uint(2), "registration": c.uint(1)}
    c.zero(1)
    must(f["registration"] in (0, 1, 2))
    return f | {"relay_id": c.bytes(32), "nonce": c.bytes(32)}


def read_proof(c):
    f = {"receive": c.uint(1), "credit_messages": c.uint(4), "credit_bytes": c.uint(4)}
    credit = (f["credit_messages"], f["credit_bytes"])
    must(f["receive"] in (0, 1, 2))
    must(credit == (0, 0) if f["receive"] == 0 else credit[0] >= 1 and credit[1] >= HEADER + BODY_MAX)
    f |= {"identity_key": c.bytes(256), "signature": c.bytes(256), "token_proof": c.bytes(32)}
    return f | {"name": c.name()}


def read_welcome(c):
    f = {name: c.uint(8) for name in ("uid", "time", "queued")}
    f |= {"signed_prekey_kid": c.bytes(8), "prekeys_left": c.uint(2), "receiving": c.uint(1)}
    c.zero(1)
    must(f["receiving"] in (0, 1))
    f |= {"keepalive": c.uint(2), "in_flight": c.uint(2), "envelope_max": c.uint(4), "ttl_max": c.uint(4)}
    return f


def read_error(c):
    f = {"code": code_name(c.uint(2)), "closes": c.uint(1)}
    c.zero(1)
    must(f["closes"] in (0, 1))
    f |= {"request": c.uint(4), "retry_after": c.uint(4)}
    text = c.counted()
    must(len(text) <= TEXT_MAX and all(0x20 <= byte <= 0x7E for byte in text))
    return f | {"text": text.decode()}


def read_ping(c):
    return {"opaque": c.bytes(8)}


def read_ack(c):
    f = {"first_sequence": c.uint(8), "count": c.uint(2)}
    c.zero(2)
    must(1 <= f["count"] <= RANGE_MAX)
    return f | {"receipts": c.bytes(32 * f["count"])}


def read_result(c):
    f = {"lane": c.uint(8), "first_number": c.uint(8), "count": c.uint(2)}
    code = c.uint(1)
    c.zero(1)
    reason = c.uint(2)
    c.zero(2)
    retry_after = c.uint(4)
    must(1 <= f["count"] <= RANGE_MAX and f["first_number"] >= 1 and code in RESULTS)
    must(f["first_number"] + f["count"] - 1 < 1 << 64)
    must(reason != 0 if code == 3 else reason == 0 and retry_after == 0)
    f["code"] = RESULTS[code]
    if code == 3:
        f |= {"reason": code_name(reason), "retry_after": retry_after}
    if code == 1:
        f["receipts"] = c.bytes(32 * f["count"])
    return f


def read_lookup(c):
    f = {"request": c.uint(4), "want": c.uint(1)}
    c.zero(3)
    f["uid"], name = c.uint(8), c.counted()
    must(f["request"] != 0 and f["want"] in (1, 2, 3, 4) and (f["uid"] == 0) != (name == b""))
    return f | {"name": check_name(name) if name else ""}


def read_signed_prekey(c):
    return {
        "signed_prekey": c.bytes(256),
        "signed_prekey_made": c.uint(8),
        "profile": c.uint(1),
        "signed_prekey_signature": c.bytes(256),
    }


def read_entry(c):
    f = {"request": c.uint(4), "uid": c.uint(8), "fingerprint": c.bytes(32), "parts": c.uint(1)}
    c.zero(1)
    f |= {"prekeys_left": c.uint(2), "name": c.name()}
    must(f["request"] != 0 and f["parts"] in (0, 1, 2) and (f["parts"] or f["prekeys_left"] == 0))
    if f["parts"]:
        f |= {"identity_key": c.bytes(256)} | read_signed_prekey(c)
    if f["parts"] == 2:
        f |= {"batch_signature": c.bytes(256), "one_time_prekey": c.bytes(256), "batch_count": c.uint(1)}
        must(1 <= f["batch_count"] <= BATCH_MAX)
        f["batch_hashes"] = c.bytes(32 * f["batch_count"])
    return f


def read_publish(c):
    f = {"request": c.uint(4), "parts": c.uint(1)}
    c.zero(3)
    must(f["request"] != 0 and f["parts"] in (1, 2, 3))
    if f["parts"] in (1, 3):
        f |= read_signed_prekey(c)
    if f["parts"] in (2, 3):
        f |= {"batch_kid": c.bytes(8), "batch_signature": c.bytes(256), "batch_count": c.uint(1)}
        must(1 <= f["batch_count"] <= BATCH_MAX)
        f["one_time_prekeys"] = c.bytes(256 * f["batch_count"])
    return f


def read_published(c):
    f = {"request": c.uint(4), "signed_prekey_kid": c.bytes(8), "prekeys_left": c.uint(2)}
    c.zero(2)
    must(f["request"] != 0)
    return f


def read_roll(c):
    f = {"request": c.uint(4), "time": c.uint(8)}
    f |= {name: c.bytes(256) for name in ("identity_key", "former_signature", "signature")}
    must(f["request"] != 0)
    return f


def read_rolled(c):
    f = {"request": c.uint(4), "uid": c.uint(8)}
    must(f["request"] != 0)
    return f


def read_rolls(c):
    f = {"request": c.uint(4), "count": c.uint(1)}
    c.zero(3)
    must(f["request"] != 0 and f["count"] <= ROLL_OVERS_MAX)
    return f | {"identity_key": c.bytes(256), "roll_overs": c.bytes(ROLL_OVER * f["count"])}


def read_query(c):
    f = {"request": c.uint(4), "lane": c.uint(8), "first_number": c.uint(8), "count": c.uint(2)}
    c.zero(2)
    must(f["request"] != 0 and f["first_number"] >= 1 and 1 <= f["count"] <= QUERY_MAX)
    must(f["first_number"] + f["count"] - 1 < 1 << 64)
    return f


def read_states(c):
    f = read_query(c)
    states = [c.uint(1) for _ in range(f["count"])]
    must(all(state in STATES for state in states))
    return f | {"states": " ".join(STATES[state] for state in states)}


def read_who(c):
    f = {"request": c.uint(4), "watch": c.uint(1), "count": c.uint(1)}
    c.zero(2)
    f["from"] = c.uint(4)
    must(f["request"] != 0 and f["watch"] in (0, 1, 2) and f["count"] <= WHO_MAX)
    must(f["from"] == 0 if f["count"] else f["watch"] == 0)
    return f | {"names": " ".join(c.name() for _ in range(f["count"]))}


def read_presence(c):
    f = {"request": c.uint(4), "next": c.uint(4), "count": c.uint(1)}
    c.zero(3)
    must(f["request"] != 0 or (f["count"] and not f["next"]))
    shown = []
    for _ in range(f["count"]):
        state = c.uint(1)
        must(state in PRESENCE)
        shown.append(f"{c.name()} {PRESENCE[state]}")
    return f | {"states": ", ".join(shown)}


def read_block(c):
    f = {"request": c.uint(4), "block": c.uint(1)}
    c.zero(3)
    must(f["request"] != 0 and f["block"] in (0, 1))
    return f | {"name": c.name()}


def read_blocked(c):
    f = {"request": c.uint(4), "block": c.uint(1)}
    c.zero(3)
    must(f["request"] != 0 and f["block"] in (0, 1))
    return f


def read_remove(c):
    f = {"request": c.uint(4), "signature": c.bytes(256)}
    must(f["request"] != 0)
    return f


def read_removed(c):
    f = {"request": c.uint(4)}
    must(f["request"] != 0)
    return f


BODIES = {
    "HELLO": read_hello,
    "CHALLENGE": read_challenge,
    "PROOF": read_proof,
    "WELCOME": read_welcome,
    "ERROR": read_error,
    "PING": read_ping,
    "PONG": read_ping,
    "ACK": read_ack,
    "RESULT": read_result,
    "LOOKUP": read_lookup,
    "ENTRY": read_entry,
    "PUBLISH": read_publish,
    "PUBLISHED": read_published,
    "ROLL": read_roll,
    "ROLLED": read_rolled,
    "ROLLS": read_rolls,
    "QUERY": read_query,
    "STATES": read_states,
    "WHO": read_who,
    "PRESENCE": read_presence,
    "BLOCK": read_block,
    "BLOCKED": read_blocked,
    "REMOVE": read_remove,
    "REMOVED": read_removed,
}
