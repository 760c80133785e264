#!/usr/bin/env python3
"""Writes the folder wire/ beside this file, exactly; with --check says instead whether it would change.

Owns: which vectors there are. The format of their files: README.md. What reads and builds frames here, from
the specification alone: wire_format.py. Each vector states what is expected, and nothing is written unless
that reader agrees.
"""

import hashlib
import os
import shutil
import sys

sys.dont_write_bytecode = True

from wire_format import *  # noqa: E402,F403

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wire")
FILES = {}
EARLY = HEADER + ROUTING


def add(path, about, parts, expect, *, then=b"", cut=None, limit=BODY_MAX, direction=None):
    """Takes a vector in: the bytes of `parts`, cut off after `cut` bytes, or followed by `then`."""
    whole = join(parts)
    data = whole[:cut] + then
    kind = NAMES.get(whole[5]) if len(whole) > 5 else None
    direction = direction or (TYPES[kind][1] if kind else "both")
    outcome = read(data, limit, direction)
    lines = [f"vector: {path}", f"about: {about}", f"direction: {direction}"]
    if limit != BODY_MAX:
        lines.append(f"limit: {limit}")
    lines.append(f"expect: {expect}")
    match outcome:
        case ("frame", kind, fields, end):
            assert expect == f"frame {kind}", (path, outcome)
            lines.append(f"frame bytes: {end}")
            lines += [f"field {name}: {shown(value)}".rstrip() for name, value in fields.items()]
        case ("skip", end):
            assert expect == "skip", (path, outcome)
            lines.append(f"frame bytes: {end}")
        case ("incomplete", needed):
            assert expect == "incomplete", (path, outcome)
            if needed:
                lines.append(f"frame bytes: {needed}")
        case ("error", code):
            assert expect == f"error {code}", (path, outcome)
            lines.append(f"after: {known_after(path, data, limit, direction, outcome)}")
    assert path not in FILES, path
    FILES[path] = "\n".join([*lines, "", *dump(parts, cut, then)]) + "\n"


def known_after(path, data, limit, direction, outcome):
    """How many bytes must be there before the error can be told; fewer are incomplete."""
    candidates = sorted({*range(min(len(data), EARLY) + 1), len(data) - 1, len(data)})
    after = next(n for n in candidates if read(data[:n], limit, direction) == outcome)
    assert all(read(data[:n], limit, direction)[0] == "incomplete" for n in candidates if n < after), path
    assert after <= EARLY or after == len(data), path
    return after


def shown(value):
    if not isinstance(value, tuple):
        return str(value)
    at, data = value
    return data.hex() if len(data) <= 32 else f"@{at}+{len(data)}"


def dump(parts, cut, then):
    at = 0
    for comment, data in parts:
        if cut is not None:
            data = data[: max(0, cut - at)]
            if not data:
                break
        at += len(data)
        if not data:
            continue
        if len(data) <= 8:
            yield f"{data.hex():<16}  # {comment}"
            continue
        yield f"# {comment}"
        yield from (data[i : i + 32].hex() for i in range(0, len(data), 32))
    if then:
        yield "# what follows"
        yield then.hex()


def good(path, about, parts, **more):
    add(path, about, parts, f"frame {NAMES[join(parts)[5]]}", **more)


def bad(path, about, parts, code="MALFORMED", **more):
    add(path, about, parts, f"error {code}", **more)


def cut_off(path, about, parts, at, **more):
    add(path, about, parts, "incomplete", cut=at, **more)


def zeros(kind, body):
    """One vector for each byte of `body` that must be zero and is not."""
    seen = 0
    for i, (comment, data) in enumerate(body):
        if comment != "zero":
            continue
        for k in range(len(data)):
            seen += 1
            wrong = data[:k] + b"\x01" + data[k + 1 :]
            spoilt = [*body[:i], ("zero, but it is not", wrong), *body[i + 1 :]]
            bad(f"{kind.lower()}/zero-byte-{seen}-not-zero", "A byte that must be zero.", frame(kind, spoilt))


def not_lengths(kind, body, *wrong):
    """One vector for each length that no body of this type has: `body` made longer or shorter."""
    for length in wrong:
        raw = join(body)
        fill = (raw + bytes(max(0, length - len(raw))))[:length]
        bad(
            f"{kind.lower()}/body-of-{length}-bytes",
            "No body of this type has this length.",
            frame(kind, [("a body of that length", fill)]),
        )


def filler(label, count):
    """Bytes that look random and are the same each time."""
    blocks = (hashlib.sha256(f"{label} {i}".encode()).digest() for i in range(count // 32 + 1))
    return b"".join(blocks)[:count]


def modulus(label):
    raw = filler(label, 256)
    return bytes([raw[0] | 0x80]) + raw[1:-1] + bytes([raw[-1] | 1])


ALICE, BOB = 0x0000_0003_0000_0001, 0x0000_0007_0000_0002
LANE = int.from_bytes(filler("lane", 8), "big")
TIME = 1_767_225_600_123
ENVELOPE = b"opaque to the relay\x00\xff"


def hello(low=1, high=1, purpose=1):
    return [("lowest version", u16(low)), ("highest version", u16(high)), ("purpose", u8(purpose)), ("zero", bytes(3))]


def challenge(version=1, registration=0):
    return [
        ("session version", u16(version)),
        ("registration", u8(registration)),
        ("zero", bytes(1)),
        ("relay id", bytes(range(0x00, 0x20))),
        ("nonce", bytes(range(0x40, 0x60))),
    ]


def proof(receive=1, messages=1000, size=1 << 20, name=b"alice", length=None, token=bytes(32)):
    return [
        ("receive", u8(receive)),
        ("credit, messages", u32(messages)),
        ("credit, bytes", u32(size)),
        ("N(IK)", modulus("alice")),
        ("signature", filler("signature of alice", 256)),
        ("token proof", token),
        *counted("name", name, length),
    ]


def welcome(queued=3, kid=filler("kid", 8), prekeys=112, receiving=1):
    return [
        ("uid", u64(ALICE)),
        ("time", u64(TIME)),
        ("queued", u64(queued)),
        ("kid(SPK)", kid),
        ("prekeys left", u16(prekeys)),
        ("receiving", u8(receiving)),
        ("zero", bytes(1)),
        ("keepalive", u16(60)),
        ("in flight", u16(64)),
        ("envelope max", u32(ENVELOPE_MAX)),
        ("ttl max", u32(TTL_MAX)),
    ]


def error(code, closes=1, request=0, retry_after=0, text=b"", length=None):
    return [
        (f"code {code_name(code)}", u16(code)),
        ("closes", u8(closes)),
        ("zero", bytes(1)),
        ("request", u32(request)),
        ("retry after", u32(retry_after)),
        *counted("text", text, length),
    ]


def ping(opaque=b"\x00\x01\x02\x03\xfc\xfd\xfe\xff"):
    return [("opaque", opaque)]


def send(envelope=ENVELOPE, number=41, **fields):
    return [*routing(BOB, LANE, number, **fields), ("envelope", envelope)]


def deliver(envelope=ENVELOPE, number=41, sequence=1009, time=TIME, ttl=TTL_MAX):
    return [*routing(ALICE, LANE, number, sequence, time, ttl), ("envelope", envelope)]


def notice(code=1, receipt=filler("receipt", 32), number=41, ttl=TTL_MAX):
    return [
        *routing(BOB, LANE, number, 77, TIME + 5000, ttl),
        (f"code {RESULTS.get(code, 'that nobody knows')}", u8(code)),
        ("zero", bytes(3)),
        ("receipt", receipt),
    ]


def receipts(count):
    return [(f"receipt {i + 1}", filler(f"receipt {i}", 32)) for i in range(count)]


def ack(count=1, listed=None, first=1009):
    shown = receipts(count if listed is None else listed)
    return [("first sequence", u64(first)), ("count", u16(count)), ("zero", bytes(2)), *shown]


def result(code, count=1, listed=None, first=41, reason=0, retry_after=0):
    if listed is None:
        listed = count if code == 1 else 0
    return [
        ("lane", u64(LANE)),
        ("first number", u64(first)),
        ("count", u16(count)),
        (f"code {RESULTS.get(code, 'that nobody knows')}", u8(code)),
        ("zero", bytes(1)),
        ("reason", u16(reason)),
        ("zero", bytes(2)),
        ("retry after", u32(retry_after)),
        *receipts(listed),
    ]


def lookup(request=5, want=1, uid=0, name=b"bob", length=None):
    return [
        ("request", u32(request)),
        ("want", u8(want)),
        ("zero", bytes(3)),
        ("uid", u64(uid)),
        *counted("name", name, length),
    ]


def signed_prekey():
    return [
        ("N(SPK)", modulus("spk")),
        ("made", u64(TIME)),
        ("profile", u8(1)),
        ("signature of the signed prekey", filler("signature of spk", 256)),
    ]


def bundle():
    return [("N(IK)", modulus("bob")), *signed_prekey()]


def one_time(count, hashes=None):
    hashes = count if hashes is None else hashes
    return [
        ("signature of the batch", filler("signature of batch", 256)),
        ("N(OPK)", modulus("opk 0")),
        ("count", u8(count)),
        *((f"SHA-256 of N(OPK) {i + 1}", hashlib.sha256(modulus(f"opk {i}")).digest()) for i in range(hashes)),
    ]


def entry(parts=0, more=(), request=5, prekeys=0, name=b"bob", length=None):
    return [
        ("request", u32(request)),
        ("uid", u64(BOB)),
        ("fingerprint", filler("fingerprint of bob", 32)),
        ("parts", u8(parts)),
        ("zero", bytes(1)),
        ("prekeys left", u16(prekeys)),
        *counted("name", name, length),
        *more,
    ]


def batch(count, listed=None):
    listed = count if listed is None else listed
    return [
        ("kid(SPK)", hashlib.sha256(modulus("spk")).digest()[:8]),
        ("signature of the batch", filler("signature of batch", 256)),
        ("count", u8(count)),
        *((f"N(OPK) {i + 1}", modulus(f"opk {i}")) for i in range(listed)),
    ]


def publish(parts, more, request=6):
    return [("request", u32(request)), ("parts", u8(parts)), ("zero", bytes(3)), *more]


def published(request=6, kid=filler("kid", 8), prekeys=16):
    return [("request", u32(request)), ("kid(SPK)", kid), ("prekeys left", u16(prekeys)), ("zero", bytes(2))]


def roll(request=7, time=TIME, key=modulus("new alice")):
    return [
        ("request", u32(request)),
        ("time", u64(time)),
        ("N(new IK)", key),
        ("signature by the old key", filler("roll by alice", 256)),
        ("signature by the new key", filler("roll by new alice", 256)),
    ]


def rolled(request=7, uid=ALICE + 1):
    return [("request", u32(request)), ("uid", u64(uid))]


def roll_overs(count):
    for i in range(1, count + 1):
        yield (f"time of roll-over {i}", u64(TIME + i))
        yield (f"N(IK) {i}", modulus(f"identity {i}"))
        yield ("signature by the former key", filler(f"roll {i} by the former", 256))
        yield ("signature by this key", filler(f"roll {i} by this", 256))


def rolls(count, listed=None, request=5):
    listed = count if listed is None else listed
    head = [("request", u32(request)), ("count", u8(count)), ("zero", bytes(3)), ("N(oldest IK)", modulus("identity 0"))]
    return [*head, *roll_overs(listed)]


def query(request=8, first=41, count=3, lane=LANE):
    return [
        ("request", u32(request)),
        ("lane", u64(lane)),
        ("first number", u64(first)),
        ("count", u16(count)),
        ("zero", bytes(2)),
    ]


def states(listed=(3, 2, 0), count=None, **fields):
    shown = [(f"state {STATES.get(state, 'that nobody knows')}", u8(state)) for state in listed]
    return [*query(count=len(listed) if count is None else count, **fields), *shown]


def who(names=(b"bob", b"carol"), request=9, watch=1, start=0, count=None):
    return [
        ("request", u32(request)),
        ("watch", u8(watch)),
        ("count", u8(len(names) if count is None else count)),
        ("zero", bytes(2)),
        ("from", u32(start)),
        *(part for name in names for part in counted("name", name)),
    ]


def presence(shown=((2, b"bob"), (1, b"carol")), request=9, following=0, count=None):
    listed = []
    for state, name in shown:
        listed += [(f"state {PRESENCE.get(state, 'that nobody knows')}", u8(state)), *counted("name", name)]
    return [
        ("request", u32(request)),
        ("next", u32(following)),
        ("count", u8(len(shown) if count is None else count)),
        ("zero", bytes(3)),
        *listed,
    ]


def block(on=1, request=10, name=b"mallory", length=None):
    return [("request", u32(request)), ("block", u8(on)), ("zero", bytes(3)), *counted("name", name, length)]


def blocked(on=1, request=10):
    return [("request", u32(request)), ("block", u8(on)), ("zero", bytes(3))]


def remove(request=11):
    return [("request", u32(request)), ("signature", filler("removal by alice", 256))]


def removed(request=11):
    return [("request", u32(request))]


BODIES_OF = {
    "HELLO": hello(),
    "CHALLENGE": challenge(),
    "PROOF": proof(),
    "WELCOME": welcome(),
    "ERROR": error(CODES["REPLACED"][0], text=b"another connection receives"),
    "PING": ping(),
    "PONG": ping(),
    "SEND": send(),
    "DELIVER": deliver(),
    "NOTICE": notice(),
    "ACK": ack(3),
    "RESULT": result(1, 3),
    "LOOKUP": lookup(),
    "ENTRY": entry(),
    "PUBLISH": publish(1, signed_prekey()),
    "PUBLISHED": published(),
    "ROLL": roll(),
    "ROLLED": rolled(),
    "ROLLS": rolls(1),
    "QUERY": query(),
    "STATES": states(),
    "WHO": who(),
    "PRESENCE": presence(),
    "BLOCK": block(),
    "BLOCKED": blocked(),
    "REMOVE": remove(),
    "REMOVED": removed(),
}


def reading():
    """Section 3, "Reading a frame", with PING and SEND as examples."""
    a_ping, a_send = frame("PING", ping()), frame("SEND", send())
    for i in range(4):
        magic = MAGIC[:i] + bytes([MAGIC[i] ^ 1]) + MAGIC[i + 1 :]
        bad(f"reading/magic-byte-{i + 1}", "Not a frame, by one bit.", frame("PING", ping(), magic=magic), "BAD_MAGIC")
    bad("reading/zeros", "Not a frame at all.", [("zeros", bytes(28))], "BAD_MAGIC")
    for version in (0, 2, 255):
        spoilt = frame("PING", ping(), version=version)
        bad(f"reading/version-{version}", "Not this version's header.", spoilt, "UNSUPPORTED_VERSION")

    lengths = {"4-gib": 0xFFFFFFFF, "2-gib": 0x80000000, "one-over": BODY_MAX + 1}
    for name, length in lengths.items():
        spoilt = frame("PING", ping(), length=length)
        bad(f"reading/length-{name}", "Refused before anything is allocated.", spoilt, "TOO_LONG", cut=HEADER)
    over = frame("SEND", send(bytes(BODY_MAX_BEFORE_LOGIN + 1 - ROUTING)))
    bad("reading/length-over-limit-before-login", "Over the limit before login.", over, "TOO_LONG", limit=1024)
    for name, flags in (("skippable", SKIPPABLE | ROUTED), ("unknown", ROUTED)):
        spoilt = frame(0x7F, [("43 bytes", filler("43", 43))], flags)
        bad(f"reading/routed-of-43-bytes-{name}", "No room for the routing fields.", spoilt)

    swapped = int.from_bytes(join(a_ping)[16:20], "little")
    spoilt = frame("PING", ping(), header_crc=swapped)
    bad("reading/header-crc-little-endian", "Big-endian everywhere.", spoilt, "BAD_CRC")
    short = crc32(join(a_send)[:16])
    spoilt = frame("SEND", send(), header_crc=short)
    bad("reading/header-crc-without-routing-fields", "It covers them in a routed frame.", spoilt, "BAD_CRC")
    spoilt = frame("SEND", send(), body_crc=crc32(join(send())))
    bad("reading/body-crc-with-routing-fields", "It doesn't cover them.", spoilt, "BAD_CRC")
    for i, (comment, data) in enumerate(send()[:6]):
        wrong = [*a_send]
        wrong[7 + i] = (f"{comment}, changed on the way", data[:-1] + bytes([data[-1] ^ 1]))
        about = "The header CRC covers the routing fields."
        bad(f"reading/changed-{comment.replace(' ', '-')}", about, wrong, "BAD_CRC")
    for i, (comment, data) in enumerate(a_ping[:7]):
        if i in (0, 1, 4):
            continue
        wrong = [*a_ping]
        wrong[i] = (f"{comment}, changed on the way", data[:-1] + bytes([data[-1] ^ 4]))
        about = "The header CRC covers the header's first 16 bytes."
        bad(f"reading/changed-{comment.split()[0]}-{i}", about, wrong, "BAD_CRC")

    for number in (0x00, 0x08, 0x17, 0x27, 0x2E, 0x7F, 0xFF):
        spoilt = frame(number, [("a body", b"a body")])
        bad(f"reading/unknown-type-{number:02x}", "And not skippable.", spoilt, "UNKNOWN_TYPE")
    spoilt = frame(0x7F, send(), ROUTED)
    bad("reading/unknown-type-routed", "Known once the header CRC is looked at.", spoilt, "UNKNOWN_TYPE")

    for bit in range(16):
        if 1 << bit != ROUTED:
            bad(f"reading/flag-{1 << bit:04x}-in-ping", "PING has no flags.", frame("PING", ping(), 1 << bit))
        if 1 << bit not in (ROUTED, REDELIVERED):
            spoilt = frame("DELIVER", deliver(), ROUTED | 1 << bit)
            bad(f"reading/flag-{1 << bit:04x}-in-deliver", "DELIVER has no such flag.", spoilt)
    bad("reading/routed-in-ping", "Known by the length already.", frame("PING", ping(), ROUTED))
    spoilt = frame("ACK", ack(3), ROUTED)
    bad("reading/routed-in-ack", "ACK is not routed; its length would do.", spoilt)

    good("reading/more-follows", "A frame and the start of the next.", a_ping, then=MAGIC + b"\x01")
    good("reading/garbage-follows", "What follows is the next frame's business.", a_ping, then=b"garbage")
    order()


def order():
    """Frames that break two rules: the first in the order of section 3 counts."""
    about = "Two rules are broken, the earlier counts."
    bad("order/magic-before-version", about, frame("PING", ping(), magic=b"\xe2RL1", version=9), "BAD_MAGIC")
    spoilt = frame("PING", ping(), version=9, length=0xFFFFFFFF)
    bad("order/version-before-length", about, spoilt, "UNSUPPORTED_VERSION", cut=HEADER)
    spoilt = frame("PING", ping(), length=0xFFFFFFFF, header_crc=0)
    bad("order/length-before-header-crc", about, spoilt, "TOO_LONG", cut=HEADER)
    spoilt = frame("PING", ping(), ROUTED, header_crc=0)
    bad("order/routed-length-before-header-crc", about, spoilt, "MALFORMED")
    bad("order/header-crc-before-type", about, frame(0x7F, ping(), header_crc=0), "BAD_CRC")
    bad("order/header-crc-before-flags", about, frame("PING", ping(), 0x8000, header_crc=0), "BAD_CRC")
    bad("order/type-before-body-crc", about, frame(0x7F, ping(), body_crc=0), "UNKNOWN_TYPE")
    bad("order/flags-before-body-crc", about, frame("PING", ping(), 0x8000, body_crc=0))
    for kind, body in {
        "HELLO": hello()[:-1],
        "ACK": ack(RANGE_MAX + 1),
        "ENTRY": [*entry(), ("51 bytes too many", bytes(51))],
        "PUBLISH": publish(2, batch(17)),
        "ROLLS": rolls(9),
    }.items():
        bad(f"order/{kind.lower()}-length-before-body-crc", about, frame(kind, body, body_crc=0))
    bad("order/body-crc-before-fields", about, frame("HELLO", hello(2, 1), body_crc=0), "BAD_CRC")
    spoilt = frame("CHALLENGE", challenge(1, 3))
    bad("order/fields-before-direction", about, spoilt, "MALFORMED", direction="to relay")


def cuts():
    """What is there of a frame that is not all there."""
    a_ping, a_send = frame("PING", ping()), frame("SEND", send())
    about = "The frame goes on."
    for at in (0, 1, 3, 4, 5, 6, 8, 11, 12, 16, 19, 20, 21, 27):
        cut_off(f"incomplete/ping-{at}", about, a_ping, at)
    for at in (20, 63, 64, len(join(a_send)) - 1):
        cut_off(f"incomplete/send-{at}", about, a_send, at)
    spoilt = frame("HELLO", hello(2, 1))
    cut_off("incomplete/hello-malformed-27", "Fields are looked at when the frame is complete.", spoilt, 27)
    unknown = frame(0x7F, [("a body", b"a body")], SKIPPABLE)
    cut_off("incomplete/skippable-25", "Skipped once it is complete.", unknown, 25)
    largest = frame("SEND", send(bytes(ENVELOPE_MAX)))
    cut_off("incomplete/send-largest-64", "The largest frame, by its header.", largest, 64)


def skipped():
    def skip(name, about, body, flags=SKIPPABLE, **more):
        add(f"skip/{name}", about, frame(0x7F, body, flags), "skip", **more)

    small = [("a body", b"a body of a later version")]
    skip("small", "An unknown type, flagged as skippable.", small)
    skip("empty", "Without a body.", [])
    skip("routed", "With routing fields, covered by the header CRC.", send(), SKIPPABLE | ROUTED)
    skip("routed-only", "Routing fields and nothing else.", send(b"")[:-1], SKIPPABLE | ROUTED)
    skip("unknown-flags", "Other flags of an unknown type are not looked at.", small, SKIPPABLE | 0xFF00)
    skip("more-follows", "And the next frame follows.", small, then=join(frame("PING", ping())))
    largest = [("a body", filler("skip", BODY_MAX_BEFORE_LOGIN))]
    skip("largest-before-login", "A body of 1,024 bytes.", largest, limit=BODY_MAX_BEFORE_LOGIN)
    skip("largest", "A body of 16,428 bytes.", [("a body", filler("skip", BODY_MAX))])
    about = "What is skipped must fit its CRC too."
    bad("skip/bad-body-crc", about, frame(0x7F, small, SKIPPABLE, body_crc=0), "BAD_CRC")
    bad("skip/bad-header-crc", about, frame(0x7F, small, SKIPPABLE, header_crc=0), "BAD_CRC")


def every_type():
    """What holds for each type alike."""
    for kind, body in BODIES_OF.items():
        folder = kind.lower()
        intact = frame(kind, body)
        crc = int.from_bytes(join(intact)[16:20], "big")
        about = "The header CRC is one bit off."
        bad(f"{folder}/bad-header-crc", about, frame(kind, body, header_crc=crc ^ 1), "BAD_CRC")
        spoilt = [*intact[:-1], (f"{body[-1][0]}, changed on the way", body[-1][1][:-1] + bytes([body[-1][1][-1] ^ 1]))]
        bad(f"{folder}/bad-body-crc", "The body's last bit was changed.", spoilt, "BAD_CRC")
        flags = (ROUTED if kind in ("SEND", "DELIVER", "NOTICE") else 0) | SKIPPABLE
        bad(f"{folder}/skippable", "A known type must not be flagged as skippable.", frame(kind, body, flags))
        reader = TYPES[kind][1]
        if reader != "both":
            other = "to client" if reader == "to relay" else "to relay"
            about = f"This frame is never sent {other}."
            bad(f"{folder}/wrong-way", about, intact, "UNEXPECTED_FRAME", direction=other)
        zeros(kind, body)


def bad_names(folder, made):
    """The rule for names. `made` builds a frame from a name's bytes."""
    for case, name in {
        "upper-case": b"Alice",
        "starts-with-dot": b".alice",
        "starts-with-hyphen": b"-alice",
        "starts-with-underscore": b"_alice",
        "space": b"alice b",
        "at-sign": b"alice@x",
        "nul": b"alice\x00",
        "utf-8": "ålice".encode(),
    }.items():
        bad(f"{folder}/name-{case}", "Not a name.", made(name))


def login():
    good("hello/login", "Log in, session version 1.", frame("HELLO", hello()))
    good("hello/register", "Claim a name.", frame("HELLO", hello(purpose=2)))
    good("hello/versions-1-to-7", "A client that speaks later versions too.", frame("HELLO", hello(1, 7)))
    good("hello/versions-258-to-772", "Tells the bytes of a version apart.", frame("HELLO", hello(258, 772)))
    good("hello/before-login", "Within the limit before login.", frame("HELLO", hello()), limit=BODY_MAX_BEFORE_LOGIN)
    bad("hello/versions-2-to-1", "The lowest is above the highest.", frame("HELLO", hello(2, 1)))
    for purpose in (0, 3):
        bad(f"hello/purpose-{purpose}", "Neither login nor register.", frame("HELLO", hello(purpose=purpose)))
    not_lengths("HELLO", hello(), 0, 7, 9)

    for number, name in ((0, "open"), (1, "token"), (2, "closed")):
        good(f"challenge/{name}", f"Registration is {name}.", frame("CHALLENGE", challenge(1, number)))
    good("challenge/version-258", "A later session version.", frame("CHALLENGE", challenge(258)))
    bad("challenge/registration-3", "No such value.", frame("CHALLENGE", challenge(1, 3)))
    not_lengths("CHALLENGE", challenge(), 67, 69)

    good("proof/receive-0", "Only sends.", frame("PROOF", proof(0, 0, 0)))
    good("proof/receive-1", "Receives, and takes over.", frame("PROOF", proof(1)))
    good("proof/receive-2", "Receives if nobody does.", frame("PROOF", proof(2)))
    good("proof/least-credit", "One message, one frame.", frame("PROOF", proof(1, 1, 16_448)))
    good("proof/most-credit", "All that the fields hold.", frame("PROOF", proof(2, 0xFFFFFFFF, 0xFFFFFFFF)))
    good("proof/with-token", "Registers with a token.", frame("PROOF", proof(token=filler("token proof", 32))))
    good("proof/shortest-name", "One byte, a digit.", frame("PROOF", proof(name=b"7")))
    longest = b"a-name.of_32-bytes-0123456789xyz"
    before_login = {"limit": BODY_MAX_BEFORE_LOGIN}
    good("proof/longest-name", "32 bytes; the longest PROOF.", frame("PROOF", proof(name=longest)), **before_login)
    bad("proof/receive-3", "No such value.", frame("PROOF", proof(3)))
    bad("proof/receive-0-with-messages", "Credit without receiving.", frame("PROOF", proof(0, 1, 0)))
    bad("proof/receive-0-with-bytes", "Credit without receiving.", frame("PROOF", proof(0, 0, 16_448)))
    for receive in (1, 2):
        bad(f"proof/receive-{receive}-no-messages", "At least 1.", frame("PROOF", proof(receive, 0)))
        bad(f"proof/receive-{receive}-few-bytes", "At least 16,448.", frame("PROOF", proof(receive, 1, 16_447)))
    bad_names("proof", lambda name: frame("PROOF", proof(name=name)))
    bad("proof/name-longer-than-body", "It would go on behind the end.", frame("PROOF", proof(length=6)))
    bad("proof/name-shorter-than-body", "A byte is left over.", frame("PROOF", proof(length=4)))
    not_lengths("PROOF", proof(), 554, 587)

    good("welcome/receiving", "An old mailbox with three messages.", frame("WELCOME", welcome()))
    fresh = welcome(0, bytes(8), 0, 0)
    good("welcome/fresh", "A new name that only sends, with no prekeys.", frame("WELCOME", fresh))
    bad("welcome/receiving-2", "No such value.", frame("WELCOME", welcome(receiving=2)))
    not_lengths("WELCOME", welcome(), 47, 49)


def errors():
    for name, (number, where) in CODES.items():
        folder = f"error/code-{name.lower().replace('_', '-')}"
        retry_after = 30 if number >> 8 == 2 else 0
        text = name.lower().replace("_", " ").encode()
        closes, asked = "closes" in where, "request" in where
        if closes or not asked:
            about = "Closes the connection." if closes else "A reader takes any code here."
            good(folder, about, frame("ERROR", error(number, int(closes), 0, retry_after, text)))
        if asked:
            path = f"{folder}-of-a-request" if closes else folder
            good(path, "Answers a request.", frame("ERROR", error(number, 0, 5, retry_after, text)))
    good("error/unknown-final", "Of a later version: no use in trying again.", frame("ERROR", error(0x01F0, 0, 5)))
    good("error/unknown-try-later", "Of a later version: try again later.", frame("ERROR", error(0x02F0, 1)))
    busy = CODES["BUSY"][0]
    good("error/no-text", "The text may be empty.", frame("ERROR", error(busy, 0, 0xFFFFFFFF, 0xFFFFFFFF)))
    good("error/longest-text", "120 bytes.", frame("ERROR", error(busy, 0, 5, 1, (bytes(range(0x20, 0x7F)) * 2)[:120])))
    bad("error/closes-2", "No such value.", frame("ERROR", error(busy, 2)))
    unprintable = {"newline": b"a\n", "nul": b"a\x00", "del": b"a\x7f", "utf-8": "é".encode(), "high": b"\xff"}
    for case, text in unprintable.items():
        bad(f"error/text-{case}", "Not printable ASCII.", frame("ERROR", error(busy, text=text)))
    said = lambda length: frame("ERROR", error(busy, text=b"text", length=length))
    bad("error/text-longer-than-body", "It would go on behind the end.", said(5))
    bad("error/text-shorter-than-body", "A byte is left over.", said(3))
    bad("error/text-of-121-bytes", "One too many.", frame("ERROR", error(busy, text=b"x" * 121)))
    not_lengths("ERROR", error(busy), 12)

    good("ping/ping", "Are you there?", frame("PING", ping()))
    good("pong/pong", "With the same bytes.", frame("PONG", ping()))
    good("ping/zeros", "Any bytes will do.", frame("PING", ping(bytes(8))))
    not_lengths("PING", ping(), 0, 7, 9)
    not_lengths("PONG", ping(), 0, 7, 9)


def routed():
    good("send/typical", "deliver/typical is what the relay makes of it.", frame("SEND", send()))
    good("send/one-byte", "The smallest envelope.", frame("SEND", send(b"\x00")))
    good("send/largest", "An envelope of 16,384 bytes.", frame("SEND", send(filler("envelope", ENVELOPE_MAX))))
    good("send/ttl-0", "For the most.", frame("SEND", send(ttl=0)))
    good("send/ttl-1", "For a second.", frame("SEND", send(ttl=1)))
    good("send/first-number", "Numbers count from 1.", frame("SEND", send(number=1)))
    good("send/last-number", "The highest number.", frame("SEND", send(number=(1 << 64) - 1)))
    bad("send/number-0", "Numbers count from 1.", frame("SEND", send(number=0)))
    bad("send/sequence", "Sequences are given by the relay.", frame("SEND", send(sequence=1)))
    bad("send/time", "The time is given by the relay.", frame("SEND", send(time=TIME)))
    bad("send/ttl-too-long", "Over 30 days.", frame("SEND", send(ttl=TTL_MAX + 1)))
    bad("send/redelivered", "A flag of DELIVER and NOTICE.", frame("SEND", send(), ROUTED | REDELIVERED))
    bad("send/not-routed", "SEND starts with the routing fields.", frame("SEND", send(), 0))
    bad("send/no-envelope", "At least one byte.", frame("SEND", send(b"")))
    bad("send/routing-fields-cut", "Known by the length already.", frame("SEND", [("43 bytes", join(send())[:43])]))

    good("deliver/typical", "What the relay made of send/typical.", frame("DELIVER", deliver()))
    assert join(frame("DELIVER", deliver()))[12:16] == join(frame("SEND", send()))[12:16]
    again = ROUTED | REDELIVERED
    good("deliver/redelivered", "Sent on an earlier connection already.", frame("DELIVER", deliver(), again))
    good("deliver/one-byte", "The smallest envelope.", frame("DELIVER", deliver(b"\x00", ttl=1)))
    good("deliver/largest", "An envelope of 16,384 bytes.", frame("DELIVER", deliver(filler("envelope", ENVELOPE_MAX))))
    bad("deliver/number-0", "Numbers count from 1.", frame("DELIVER", deliver(number=0)))
    bad("deliver/ttl-0", "The relay replaces 0.", frame("DELIVER", deliver(ttl=0)))
    bad("deliver/ttl-too-long", "Over 30 days.", frame("DELIVER", deliver(ttl=TTL_MAX + 1)))
    bad("deliver/not-routed", "DELIVER starts with the routing fields.", frame("DELIVER", deliver(), 0))
    bad("deliver/no-envelope", "At least one byte.", frame("DELIVER", deliver(b"")))

    good("notice/collected", "With the recipient's receipt.", frame("NOTICE", notice()))
    good("notice/rejected", "Collected, and could not be opened.", frame("NOTICE", notice(receipt=bytes(32))))
    good("notice/expired", "Without a receipt.", frame("NOTICE", notice(5, bytes(32))))
    good("notice/redelivered", "Sent on an earlier connection already.", frame("NOTICE", notice(), again))
    for code in (0, 2, 3, 4, 6, 7, 255):
        bad(f"notice/code-{code}", "Neither COLLECTED nor EXPIRED.", frame("NOTICE", notice(code, bytes(32))))
    bad("notice/expired-with-receipt", "Nobody could have made one.", frame("NOTICE", notice(5)))
    bad("notice/number-0", "Numbers count from 1.", frame("NOTICE", notice(number=0)))
    bad("notice/ttl-0", "It is 2,592,000.", frame("NOTICE", notice(ttl=0)))
    bad("notice/ttl-too-long", "It is 2,592,000.", frame("NOTICE", notice(ttl=TTL_MAX + 1)))
    bad("notice/not-routed", "NOTICE starts with the routing fields.", frame("NOTICE", notice(), 0))
    not_lengths("NOTICE", notice(), 44, 79, 81)


def ranges():
    good("ack/one", "One message.", frame("ACK", ack(1)))
    good("ack/three", "Three, one after the other.", frame("ACK", ack(3)))
    good("ack/512", "The most.", frame("ACK", ack(RANGE_MAX)))
    rejected = [*ack(1)[:-1], ("receipt", bytes(32))]
    good("ack/rejected", "It could not be opened.", frame("ACK", rejected))
    bad("ack/count-0", "A range is not empty.", frame("ACK", ack(0, 1)))
    bad("ack/count-513", "One too many.", frame("ACK", ack(513, 512)))
    bad("ack/count-over-receipts", "A receipt is missing.", frame("ACK", ack(2, 1)))
    bad("ack/count-under-receipts", "A receipt is left over.", frame("ACK", ack(1, 2)))
    not_lengths("ACK", ack(1), 12, 43, 45, BODY_MAX)

    good("result/collected-one", "With its receipt.", frame("RESULT", result(1)))
    good("result/collected-three", "With their receipts, in order.", frame("RESULT", result(1, 3)))
    good("result/collected-512", "The most.", frame("RESULT", result(1, RANGE_MAX)))
    for code in (2, 4, 5, 6, 7):
        name = RESULTS[code].lower()
        good(f"result/{name}", "One message.", frame("RESULT", result(code)))
        good(f"result/{name}-512", "The most.", frame("RESULT", result(code, RANGE_MAX)))
        bad(f"result/{name}-with-reason", "Only REFUSED has one.", frame("RESULT", result(code, reason=0x0222)))
        bad(f"result/{name}-with-retry-after", "Only REFUSED has one.", frame("RESULT", result(code, retry_after=1)))
        bad(f"result/{name}-with-receipt", "Only COLLECTED has one.", frame("RESULT", result(code, 1, 1)))
    for name, (number, where) in CODES.items():
        if "refused" in where:
            seconds = 30 if number >> 8 == 2 else 0
            body = result(3, 2, reason=number, retry_after=seconds)
            good(f"result/refused-{name.lower().replace('_', '-')}", "Two messages.", frame("RESULT", body))
    busy = CODES["BUSY"][0]
    body = result(3, RANGE_MAX, reason=busy, retry_after=0xFFFFFFFF)
    good("result/refused-512", "The most.", frame("RESULT", body))
    good("result/refused-unknown-try-later", "A code of a later version.", frame("RESULT", result(3, reason=0x02F0)))
    last = (1 << 64) - 1
    good("result/last-number", "The highest number.", frame("RESULT", result(2, 1, first=last)))
    good("result/up-to-last-number", "The highest number ends it.", frame("RESULT", result(2, 2, first=last - 1)))
    bad("result/past-last-number", "There is no such number.", frame("RESULT", result(2, 2, first=last)))
    bad("result/number-0", "Numbers count from 1.", frame("RESULT", result(2, first=0)))
    bad("result/count-0", "A range is not empty.", frame("RESULT", result(2, 0)))
    bad("result/count-513", "One too many.", frame("RESULT", result(2, 513)))
    for code in (0, 8, 255):
        bad(f"result/code-{code}", "No such code.", frame("RESULT", result(code)))
    bad("result/refused-without-reason", "Why?", frame("RESULT", result(3)))
    bad("result/refused-with-receipt", "Only COLLECTED has one.", frame("RESULT", result(3, 1, 1, reason=busy)))
    bad("result/collected-with-reason", "Only REFUSED has one.", frame("RESULT", result(1, reason=busy)))
    bad("result/collected-with-retry-after", "Only REFUSED has one.", frame("RESULT", result(1, retry_after=1)))
    bad("result/collected-without-receipt", "One each.", frame("RESULT", result(1, 1, 0)))
    bad("result/collected-with-too-few", "One each.", frame("RESULT", result(1, 3, 2)))
    bad("result/collected-with-too-many", "One each.", frame("RESULT", result(1, 2, 3)))
    not_lengths("RESULT", result(2), 27, 29, 59, 16_427)


def directory():
    for want, name in ((1, "address"), (2, "bundle"), (3, "one-time-prekey"), (4, "roll-overs")):
        good(f"lookup/{name}-by-name", "Of a name.", frame("LOOKUP", lookup(want=want)))
        good(f"lookup/{name}-by-uid", "Of a uid.", frame("LOOKUP", lookup(want=want, uid=BOB, name=b"")))
    good("lookup/longest-name", "32 bytes.", frame("LOOKUP", lookup(0xFFFFFFFF, name=b"z" * 32)))
    bad("lookup/request-0", "Not zero.", frame("LOOKUP", lookup(0)))
    for want in (0, 5):
        bad(f"lookup/want-{want}", "No such value.", frame("LOOKUP", lookup(want=want)))
    bad("lookup/nobody", "Neither a uid nor a name.", frame("LOOKUP", lookup(name=b"")))
    bad("lookup/uid-and-name", "One or the other.", frame("LOOKUP", lookup(uid=BOB)))
    bad_names("lookup", lambda name: frame("LOOKUP", lookup(name=name)))
    bad("lookup/name-longer-than-body", "It would go on behind the end.", frame("LOOKUP", lookup(length=4)))
    bad("lookup/name-shorter-than-body", "A byte is left over.", frame("LOOKUP", lookup(length=2)))
    left_over = [*lookup(uid=BOB, name=b""), ("left over", b"x")]
    bad("lookup/uid-and-left-over", "A byte is left over.", frame("LOOKUP", left_over))
    not_lengths("LOOKUP", lookup(), 16, 50)

    with_opk = lambda count, hashes=None: [*bundle(), *one_time(count, hashes)]
    good("entry/address", "The address only.", frame("ENTRY", entry()))
    good("entry/bundle", "Without a one-time prekey; none is left.", frame("ENTRY", entry(1, bundle())))
    good("entry/bundle-prekeys-left", "None was wanted.", frame("ENTRY", entry(1, bundle(), prekeys=99)))
    good("entry/one-time-prekey", "Of a batch of one.", frame("ENTRY", entry(2, with_opk(1), prekeys=0)))
    most = entry(2, with_opk(16), 0xFFFFFFFF, 127, b"b" * 32)
    good("entry/one-time-prekey-of-16", "The largest ENTRY.", frame("ENTRY", most))
    bad("entry/request-0", "An answer to nothing.", frame("ENTRY", entry(request=0)))
    bad("entry/parts-3", "No such value.", frame("ENTRY", entry(3, bundle())))
    bad("entry/address-with-prekeys-left", "Zero without a bundle.", frame("ENTRY", entry(0, prekeys=1)))
    bad("entry/address-with-bundle", "Bytes are left over.", frame("ENTRY", entry(0, bundle())))
    bad("entry/bundle-missing", "It ends too soon.", frame("ENTRY", entry(1)))
    bad("entry/bundle-with-one-time-prekey", "Bytes are left over.", frame("ENTRY", entry(1, with_opk(1))))
    bad("entry/one-time-prekey-missing", "It ends too soon.", frame("ENTRY", entry(2, bundle())))
    bad("entry/batch-count-0", "1 to 16.", frame("ENTRY", entry(2, with_opk(0, 1))))
    bad("entry/batch-count-17", "1 to 16.", frame("ENTRY", entry(2, with_opk(17, 16))))
    bad("entry/batch-count-over-hashes", "A hash is missing.", frame("ENTRY", entry(2, with_opk(3, 2))))
    bad("entry/batch-count-under-hashes", "A hash is left over.", frame("ENTRY", entry(2, with_opk(2, 3))))
    bad_names("entry", lambda name: frame("ENTRY", entry(name=name)))
    bad("entry/name-longer-than-body", "It would go on behind the end.", frame("ENTRY", entry(length=4)))
    bad("entry/name-shorter-than-body", "A byte is left over.", frame("ENTRY", entry(length=2)))
    bad("entry/name-of-33-bytes", "One too many.", frame("ENTRY", entry(1, bundle(), name=b"b" * 33)))
    largest = entry(2, with_opk(16), name=b"b" * 32)
    not_lengths("ENTRY", largest, 49, 82, 826, 859, 1371, 1884)

    both = lambda count, listed=None: [*signed_prekey(), *batch(count, listed)]
    good("publish/signed-prekey", "Alone.", frame("PUBLISH", publish(1, signed_prekey())))
    good("publish/batch-of-1", "The smallest batch.", frame("PUBLISH", publish(2, batch(1))))
    good("publish/batch-of-16", "The largest batch.", frame("PUBLISH", publish(2, batch(16))))
    good("publish/both", "A signed prekey and a batch.", frame("PUBLISH", publish(3, both(2))))
    good("publish/both-with-16", "The largest PUBLISH.", frame("PUBLISH", publish(3, both(16), 0xFFFFFFFF)))
    bad("publish/request-0", "Not zero.", frame("PUBLISH", publish(1, signed_prekey(), 0)))
    for parts in (0, 4):
        bad(f"publish/parts-{parts}", "No such value.", frame("PUBLISH", publish(parts, signed_prekey())))
    bad("publish/batch-count-0", "1 to 16.", frame("PUBLISH", publish(2, batch(0, 1))))
    bad("publish/batch-count-17", "1 to 16.", frame("PUBLISH", publish(2, batch(17, 16))))
    bad("publish/batch-count-over-prekeys", "A prekey is missing.", frame("PUBLISH", publish(2, batch(3, 2))))
    bad("publish/batch-count-under-prekeys", "A prekey is left over.", frame("PUBLISH", publish(2, batch(2, 3))))
    bad("publish/both-count-0", "1 to 16.", frame("PUBLISH", publish(3, both(0, 1))))
    bad("publish/signed-prekey-with-batch", "Bytes are left over.", frame("PUBLISH", publish(1, both(1))))
    bad("publish/batch-missing", "It ends too soon.", frame("PUBLISH", publish(3, signed_prekey())))
    not_lengths("PUBLISH", publish(3, both(16)), 8, 528, 530, 4370, 4625, 4889, 5146)

    good("published/batch", "A batch is on disk.", frame("PUBLISHED", published()))
    good("published/most", "8 batches of 16.", frame("PUBLISHED", published(prekeys=128)))
    bad("published/request-0", "An answer to nothing.", frame("PUBLISHED", published(0)))
    not_lengths("PUBLISHED", published(), 15, 17)


def roll_over():
    good("roll/typical", "A name is to have a new key.", frame("ROLL", roll()))
    good("roll/first-time", "The lowest time that a relay can take.", frame("ROLL", roll(time=1)))
    good("roll/last-time", "The highest.", frame("ROLL", roll(0xFFFFFFFF, (1 << 64) - 1)))
    even = modulus("new alice")[:-1] + b"\x02"
    good("roll/even-modulus", "A frame; the relay answers BAD_ROLL.", frame("ROLL", roll(key=even)))
    good("roll/low-modulus", "A frame; the relay answers BAD_ROLL.", frame("ROLL", roll(key=bytes(255) + b"\x01")))
    good("roll/time-0", "A frame; the relay answers BAD_ROLL.", frame("ROLL", roll(time=0)))
    bad("roll/request-0", "Not zero.", frame("ROLL", roll(0)))
    not_lengths("ROLL", roll(), 524, 779, 781, 1036)

    good("rolled/typical", "The roll-over is on disk.", frame("ROLLED", rolled()))
    good("rolled/highest", "All that the fields hold.", frame("ROLLED", rolled(0xFFFFFFFF, (1 << 64) - 1)))
    bad("rolled/request-0", "An answer to nothing.", frame("ROLLED", rolled(0)))
    not_lengths("ROLLED", rolled(), 11, 13)

    good("rolls/none", "A name with its first key.", frame("ROLLS", rolls(0)))
    good("rolls/one", "Of a name that rolled over once.", frame("ROLLS", rolls(1)))
    good("rolls/eight", "The most.", frame("ROLLS", rolls(8, request=0xFFFFFFFF)))
    bad("rolls/request-0", "An answer to nothing.", frame("ROLLS", rolls(1, request=0)))
    bad("rolls/count-9", "One too many.", frame("ROLLS", rolls(9, 8)))
    bad("rolls/count-over-roll-overs", "A roll-over is missing.", frame("ROLLS", rolls(3, 2)))
    bad("rolls/count-under-roll-overs", "A roll-over is left over.", frame("ROLLS", rolls(2, 3)))
    bad("rolls/count-0-with-roll-over", "A roll-over is left over.", frame("ROLLS", rolls(0, 1)))
    not_lengths("ROLLS", rolls(8), 263, 265, 1039, 1041, 6471, 6473, 7248)


def ids():
    """Section 5, QUERY and STATES."""
    last = (1 << 64) - 1
    good("query/one", "One id.", frame("QUERY", query(count=1)))
    good("query/64", "The most.", frame("QUERY", query(0xFFFFFFFF, 1, 64)))
    good("query/last-number", "The highest number.", frame("QUERY", query(first=last, count=1)))
    bad("query/past-last-number", "There is no such number.", frame("QUERY", query(first=last, count=2)))
    bad("query/request-0", "Not zero.", frame("QUERY", query(0)))
    bad("query/number-0", "Numbers count from 1.", frame("QUERY", query(first=0)))
    bad("query/count-0", "A range is not empty.", frame("QUERY", query(count=0)))
    bad("query/count-65", "One too many.", frame("QUERY", query(count=65)))
    not_lengths("QUERY", query(), 23, 25)

    good("states/all", "Each state once.", frame("STATES", states(tuple(STATES))))
    good("states/64", "The most.", frame("STATES", states((2,) * 64)))
    bad("states/request-0", "An answer to nothing.", frame("STATES", states(request=0)))
    bad("states/number-0", "Numbers count from 1.", frame("STATES", states(first=0)))
    bad("states/past-last-number", "There is no such number.", frame("STATES", states(first=last)))
    bad("states/count-0", "A range is not empty.", frame("STATES", states((2,), count=0)))
    bad("states/count-65", "One too many.", frame("STATES", states((2,) * 64, count=65)))
    bad("states/count-over-states", "A state is missing.", frame("STATES", states(count=4)))
    bad("states/count-under-states", "A state is left over.", frame("STATES", states(count=2)))
    for state in (5, 255):
        bad(f"states/state-{state}", "No such state.", frame("STATES", states((2, state))))
    not_lengths("STATES", states(), 24, 89)


def people():
    """Section 6, WHO, BLOCK and REMOVE."""
    longest = [b"%03d" % i + b"x" * 29 for i in range(255)]
    good("who/ask", "Once.", frame("WHO", who(watch=0)))
    good("who/watch", "And about changes.", frame("WHO", who(watch=1)))
    good("who/unwatch", "No more.", frame("WHO", who(watch=2)))
    good("who/64", "The most, with the longest names.", frame("WHO", who(longest[:64], 0xFFFFFFFF)))
    good("who/everybody", "From the first on.", frame("WHO", who((), watch=0)))
    good("who/everybody-from", "And on.", frame("WHO", who((), watch=0, start=0xFFFFFFFF)))
    bad("who/request-0", "Not zero.", frame("WHO", who(request=0)))
    bad("who/watch-3", "No such value.", frame("WHO", who(watch=3)))
    bad("who/watch-everybody", "Only chosen names can be watched.", frame("WHO", who((), watch=1)))
    bad("who/names-from", "Names are asked for, or everybody.", frame("WHO", who(start=1)))
    bad("who/count-65", "One too many.", frame("WHO", who([b"a"] * 65)))
    bad("who/count-over-names", "A name is missing.", frame("WHO", who(count=3)))
    bad("who/count-under-names", "A name is left over.", frame("WHO", who(count=1)))
    bad_names("who", lambda name: frame("WHO", who([b"bob", name])))
    not_lengths("WHO", who(longest[:64]), 11, 13, 12 + 64 * 33 + 1)

    good("presence/all", "Each state once.", frame("PRESENCE", presence(((0, b"dave"), (1, b"bob"), (2, b"carol")))))
    good("presence/changed", "Of a name that is watched.", frame("PRESENCE", presence(((2, b"bob"),), request=0)))
    good("presence/nobody", "Nobody is registered.", frame("PRESENCE", presence(())))
    good("presence/goes-on", "There are more.", frame("PRESENCE", presence(following=0xFFFFFFFF)))
    good("presence/255", "The most, with the longest names.", frame("PRESENCE", presence([(1, n) for n in longest])))
    bad("presence/state-3", "No such state.", frame("PRESENCE", presence(((3, b"bob"),))))
    bad("presence/changed-nothing", "Nothing is told.", frame("PRESENCE", presence((), request=0)))
    bad("presence/changed-goes-on", "There is nothing to ask.", frame("PRESENCE", presence(request=0, following=1)))
    bad("presence/count-over-states", "One is missing.", frame("PRESENCE", presence(count=3)))
    bad("presence/count-under-states", "One is left over.", frame("PRESENCE", presence(count=1)))
    bad_names("presence", lambda name: frame("PRESENCE", presence(((1, b"bob"), (2, name)))))
    not_lengths("PRESENCE", presence([(1, n) for n in longest]), 11, 13, 14, 12 + 255 * 34 + 1)

    good("block/block", "From now on.", frame("BLOCK", block()))
    good("block/unblock", "No more.", frame("BLOCK", block(0, 0xFFFFFFFF)))
    good("block/longest-name", "32 bytes.", frame("BLOCK", block(name=b"m" * 32)))
    bad("block/request-0", "Not zero.", frame("BLOCK", block(request=0)))
    bad("block/block-2", "No such value.", frame("BLOCK", block(2)))
    bad_names("block", lambda name: frame("BLOCK", block(name=name)))
    bad("block/name-longer-than-body", "It would go on behind the end.", frame("BLOCK", block(length=8)))
    bad("block/name-shorter-than-body", "A byte is left over.", frame("BLOCK", block(length=6)))
    not_lengths("BLOCK", block(), 9, 42)

    good("blocked/blocked", "It is on disk.", frame("BLOCKED", blocked()))
    good("blocked/unblocked", "It is on disk.", frame("BLOCKED", blocked(0)))
    bad("blocked/request-0", "An answer to nothing.", frame("BLOCKED", blocked(request=0)))
    bad("blocked/block-2", "No such value.", frame("BLOCKED", blocked(2)))
    not_lengths("BLOCKED", blocked(), 7, 9)

    good("remove/typical", "One's own name.", frame("REMOVE", remove()))
    bad("remove/request-0", "Not zero.", frame("REMOVE", remove(0)))
    not_lengths("REMOVE", remove(), 259, 261)
    good("removed/typical", "It is on disk.", frame("REMOVED", removed()))
    bad("removed/request-0", "An answer to nothing.", frame("REMOVED", removed(0)))
    not_lengths("REMOVED", removed(), 0, 3, 5)


def on_disk():
    found = {}
    for folder, _, names in os.walk(FOLDER):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, encoding="ascii", newline="") as file:
                found[os.path.relpath(path, FOLDER).removesuffix(".txt")] = file.read()
    return found


def main():
    for part in (reading, cuts, skipped, every_type, login, errors, routed, ranges, ids, directory, roll_over, people):
        part()
    if "--check" in sys.argv[1:]:
        found = on_disk()
        stale = sorted(path for path in FILES.keys() | found.keys() if FILES.get(path) != found.get(path))
        for path in stale:
            print(f"differs: wire/{path}.txt", file=sys.stderr)
        sys.exit(1 if stale else 0)
    shutil.rmtree(FOLDER, ignore_errors=True)
    for path, text in sorted(FILES.items()):
        target = os.path.join(FOLDER, path + ".txt")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w", encoding="ascii", newline="\n") as file:
            file.write(text)
    print(f"{len(FILES)} vectors")


if __name__ == "__main__":
    main()
