"""What the makers of vectors share: keys, messages, and files that are one case each, proven by receiver.py.

The format of a file: spec/crypto.md, "Vectors".
"""

from receiver import *
from reference import *

FILES = {}
TIME = 1_790_000_000_000

KEY_NAMES = "alice-ik alice-r alice-spk alice-opk bob-ik bob-spk bob-spk-2 bob-opk-1 bob-opk-2 carol-ik".split()
KEY_NAMES += "bob-r-1 alice-r-2 bob-r-3 alice-r-4".split()
KEYS = {name: make_key(name) for name in KEY_NAMES}
ALICE, BOB = ("alice", KEYS["alice-ik"]), ("bob", KEYS["bob-ik"])
SPK, OPK_1, OPK_2 = KEYS["bob-spk"], KEYS["bob-opk-1"], KEYS["bob-opk-2"]


def key_name(key):
    return next(name for name, other in KEYS.items() if other == key)


def add(path, lines):
    assert path + ".txt" not in FILES, path
    assert len(dict(lines)) == len(lines), path
    FILES[path + ".txt"] = "".join(f"{key}: {text(value)}".rstrip() + "\n" for key, value in lines)


def text(value):
    return value.hex() if isinstance(value, bytes) else str(value)


def session(label, opk=None, *, initiator=ALICE, responder=BOB, spk=SPK, **more):
    return Session(label, initiator, responder, spk, opk, ratchet=KEYS["alice-r"], **more)


def message(label, body=b"hello, bob", kind=1):
    """A message: id, kind, time, body."""
    return (Stream("message " + label).take(16), kind, TIME, body)


def recipient_of(lines):
    """Who stands in a file's lines, before its first envelope."""
    name, pinned = lines["recipient"], lines["pinned"]
    prekeys = ([SPK], [OPK_1, OPK_2]) if name == "bob" else ((), ())
    r = Recipient(name, KEYS[name + "-ik"], lines["sender"], *prekeys, profile=int(lines.get("profile", 0)))
    r.pinned = None if pinned == "none" else KEYS[pinned].fp
    if "state th" in lines:
        held = held_of({key[6:]: value for key, value in lines.items() if key.startswith("state ")})
        r.sessions[held.th[:16]] = held
    return r


def held_of(state):
    th, root = bytes.fromhex(state["th"]), bytes.fromhex(state["root"])
    held = Held(state["role"], th, root, int(state["epoch"]), int(state["profile"]), KEYS[state["spk"]])
    held.ratchets = {int(key[8:]): KEYS[name] for key, name in state.items() if key.startswith("ratchet ")}
    if "receiving" in state:
        epoch, number, ck = state["receiving"].split()
        held.chain = (int(epoch), int(number), bytes.fromhex(ck))
    return held


def state_lines(s, role, received=None):
    """One end of the session, where `received` numbers of the peer's last chain have come, by default all."""
    epoch = len(s.epochs) - 1
    own, peer = (s.epochs[first::2] for first in ((0, 1) if role == "initiator" else (1, 0)))
    profiles = (s.profile_a, s.profile_b) if role == "initiator" else (s.profile_b, s.profile_a)
    lines = {"role": role, "th": s.th, "root": s.epochs[-1].root, "epoch": epoch}
    lines |= {"profile": profiles[0], "peer profile": profiles[1], "spk": key_name(s.epochs[0].wrapped_to)}
    lines |= {f"ratchet {x.e}": key_name(x.ratchet) for x in own if x.e + 3 > epoch}
    if peer:
        last = peer[-1]
        received = last.number if received is None else received
        ck = last.first_ck
        for _ in range(received):
            ck = M(ck, "RLY1/ck")
        lines |= {"peer ratchet": key_name(last.ratchet), "receiving": f"{last.e} {received} {ck.hex()}"}
    if own:
        last = own[-1]
        lines["sending"] = f"{last.e} {last.number} {last.ck.hex()} {key_name(last.wrapped_to)}"
    return [("state " + key, text(value)) for key, value in lines.items()]


class Case:
    """One file: envelopes in the order in which they arrive, and what becomes of each."""

    def __init__(self, path, about, state=(), **setting):
        self.path, self.count = path, 0
        setting = {"recipient": "bob", "sender": "alice", "pinned": "none", **setting}
        self.lines = [("vector", path), ("about", about), *setting.items(), *state]
        self.recipient = recipient_of(dict(self.lines))

    def envelope(self, data, expect, operations, fields=()):
        self.count += 1
        made = self.recipient.receive(data)
        assert made == (expect, dict(fields), operations), (self.path, self.count, made, expect, operations)
        self.lines += [(f"envelope {self.count}", data.hex()), (f"expect {self.count}", expect)]
        self.lines += [(f"{key} {self.count}", text(value)) for key, value in fields]
        self.lines.append((f"private operations {self.count}", operations))

    def opened(self, m, sent, operations, *, known=False):
        names = zip(("id", "kind", "time", "body"), sent)
        self.envelope(m.envelope, "open known" if known else "open", operations, [*names, ("receipt", m.receipt)])

    def opens(self, s, sent, operations, *, known=False, plain=None, **how):
        m = s.seal(plain or plaintext(*sent), **how)
        self.opened(m, sent, operations, known=known)
        return m

    def again(self, m):
        self.envelope(m.envelope, "again", 0, [("receipt", m.receipt)])

    def rejects(self, data, reason, operations=0):
        self.envelope(data, f"reject {reason}", operations)

    def done(self):
        add(self.path, self.lines)
