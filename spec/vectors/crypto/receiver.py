"""A plain recipient for spec/crypto.md, "Receiving": with it the generator proves what its vectors expect.

Not in it: limits over time or number (budgets, failures of a prekey, skipped keys, records), and what a directory says.
"""

import copy
from dataclasses import dataclass, field

from primitives import *

DATA_LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 12288)
PREAMBLE_LENGTHS = {1: (0,), 2: (1041, 1297), 3: (544,)}
INIT_FIELDS = ((0, 256), (256, 512), (512, 513), (513, 521), (521, 529))  # before c1


class Reject(Exception):
    """Its argument is the rule that was broken."""


def require(holds, rule):
    if not holds:
        raise Reject(rule)


@dataclass
class Envelope:
    version: int
    type: int
    zero: bytes
    sid: bytes
    e: int
    n: int
    pn: int
    header: bytes = b""
    preamble: bytes = b""
    ek: bytes = b""
    data: bytes = b""
    tag: bytes = b""


def parse_envelope(data):
    """Step 1 of "Receiving", but for the peer."""
    require(len(data) >= 56, "Malformed")
    number = lambda start, end: int.from_bytes(data[start:end], "big")
    v = Envelope(data[0], data[1], data[2:4], data[4:20], number(20, 24), number(24, 28), number(28, 32))
    preamble, ek, length = number(32, 34), number(34, 36), number(36, 40)
    require(v.version == 1 and v.type in (1, 2, 3) and v.zero == bytes(2), "Malformed")
    require(v.type == 1 or (v.type == 2) == (v.e == 0), "Malformed")
    require(v.n <= 999 and v.pn <= (1000 if v.e >= 2 else 0), "Malformed")
    require(preamble in PREAMBLE_LENGTHS[v.type] and ek in (0, 256) and length in DATA_LENGTHS, "Malformed")
    require(len(data) == 56 + preamble + ek + length + 32, "Malformed")
    v.header, v.preamble, rest = data[:56], data[56 : 56 + preamble], data[56 + preamble :]
    v.ek, v.data, v.tag = rest[:ek], rest[ek:-32], rest[-32:]
    return v


@dataclass
class Held:
    """One end of a session: what receiving needs of it, and root for its own steps."""

    role: str  # initiator or responder
    th: bytes
    root: bytes  # of E
    epoch: int  # E
    profile: int  # one's own
    spk: Key = None  # what epoch 0 was wrapped to, if that is one's own
    ratchets: dict = field(default_factory=dict)  # one's own R by the epoch that announced it
    chain: tuple = (None, 0, b"")  # the peer's last: epoch, next number, ck
    skipped: dict = field(default_factory=dict)  # (epoch, number): mk

    def is_peers(self, e):
        return e % 2 == (1 if self.role == "initiator" else 0)

    def take(self, n):
        """mk of number n of the peer's chain, keeping those skipped."""
        require(n >= self.chain[1], "NumberUsed")
        self.skip(n)
        epoch, _, ck = self.chain
        self.chain = (epoch, n + 1, M(ck, "RLY1/ck"))
        return M(ck, "RLY1/mk")

    def skip(self, end):
        """Keeps the keys of the numbers below `end` that have not come."""
        epoch, number, ck = self.chain
        for i in range(number, end):
            self.skipped[epoch, i] = M(ck, "RLY1/mk")
            ck = M(ck, "RLY1/ck")
        self.chain = (epoch, max(number, end), ck)

    def step(self, s, sh, e, ratchet=None):
        """Goes to epoch e, one's own if a ratchet key comes with it."""
        okm = K(64, self.root, s, "RLY1/root", sh)
        self.root, self.epoch = okm[:32], e
        if ratchet:
            self.ratchets[e] = ratchet
        else:
            self.chain = (e, 0, okm[32:])

    def erase_old(self):
        """The R that epoch a announced opens STEP a + 1 and chain a + 1, which STEP a + 3 closes."""
        for a in list(self.ratchets):
            if self.epoch >= a + 3 and not any(epoch == a + 1 for epoch, _ in self.skipped):
                del self.ratchets[a]


class Recipient:
    """Somebody with keys and one peer."""

    def __init__(self, name, identity, peer, spks=(), opks=(), profile=0, pinned=None):
        self.name, self.identity, self.peer, self.profile, self.pinned = name, identity, peer, profile, pinned
        self.spks, self.opks = {key.kid: key for key in spks}, {key.kid: key for key in opks}
        self.sessions, self.records, self.sids, self.memory = {}, {}, set(), {}
        self.chance = Stream("chance " + name)

    def receive(self, data):
        """The outcome in a word or two, the values that belong to it, and how many private operations it took."""
        self.operations = 0
        try:
            return *self.open(data), self.operations
        except Reject as reject:
            return f"reject {reject}", {}, self.operations

    def unwrap(self, key, label, wrapped):
        self.operations += 1
        return oaep_open(key, label, wrapped)

    def open(self, data):
        v = parse_envelope(data)
        require(self.peer != self.name, "OwnName")
        record = self.records.get((v.sid, v.e, v.n))
        if record and record["tag"] == v.tag:
            return "again", {"receipt": record["receipt"]}
        held = copy.deepcopy(self.sessions.get(v.sid))  # everything is done on a copy
        starts = held is None
        if starts:
            require(v.type == 2, "UnknownSession")
            held, commit = self.evaluate_init(v)
        require(held.is_peers(v.e) and v.e <= held.epoch + 1, "WrongEpoch")
        self.require_ek(v, held.profile)
        if (v.e, v.n) in held.skipped:
            mk = held.skipped.pop((v.e, v.n))
        else:
            if v.e > held.epoch:
                require(v.type == 3, "WrongEpoch")
                self.evaluate_step(v, held)
            require(v.e == held.chain[0], "NumberUsed")
            mk = held.take(v.n)

        ctx = held.th + u(v.e, 4) + u(v.n, 4) + v.header[40:]
        okm = K(64, mk, b"", "RLY1/auth", ctx)
        tag = M(okm[:32], "RLY1/tag", held.th, v.header, v.preamble, v.ek, v.data)
        require(tag == v.tag, "BadTag")
        receipt = M(okm[32:], "RLY1/ack", v.tag)

        if starts:
            commit()
        self.sessions[v.sid] = held
        k = b""
        if held.profile == 0:
            key = held.spk if v.e == 0 else held.ratchets[v.e - 1]
            k = self.unwrap(key, H("RLY1/msg-label", held.th, u(v.e, 4), u(v.n, 4)), v.ek)
            if k is None:
                del self.sessions[v.sid]
                raise Reject("BadWrappedKey")
        held.erase_old()
        plain = without_pkcs7(cbc_decrypt_blocks(K(32, mk, k, "RLY1/enc", ctx), v.header[40:], v.data))
        require(plain is not None and len(plain) >= 29, "BadPlaintext")
        length = int.from_bytes(plain[25:29], "big")
        require(length <= min(12258, len(plain) - 29), "BadPlaintext")
        known = any(record["id"] == plain[:16] for record in self.records.values())
        self.records[v.sid, v.e, v.n] = {"tag": v.tag, "receipt": receipt, "id": plain[:16]}
        fields = {"id": plain[:16], "kind": plain[16], "time": int.from_bytes(plain[17:25], "big")}
        return "open known" if known else "open", {**fields, "body": plain[29 : 29 + length], "receipt": receipt}

    def require_ek(self, v, profile):
        """Before any private operation."""
        require(len(v.ek) == (256 if profile == 0 else 0), "Malformed")

    def evaluate_init(self, v):
        """The session that INIT gives, and what is to be done should the tag be valid."""
        n_ik, n_r, profile_a, kid_spk, kid_opk = (v.preamble[i:j] for i, j in INIT_FIELDS)
        c1, c2, sig = v.preamble[529:785], v.preamble[785:-256], v.preamble[-256:]
        require(profile_a[0] <= 1 and bool(c2) == (kid_opk != bytes(8)), "Malformed")
        fp = H("RLY1/id", n_ik)
        require(self.pinned in (None, fp), "KeyChanged")
        spk, opk = self.spks.get(kid_spk), self.opks.get(kid_opk)
        require(spk and (opk or not c2), "UnknownPrekey")
        require(v.sid not in self.sids, "InitUsed")
        n_opk = opk.modulus if opk else b""
        ends = (self.peer.encode(), fp, self.name.encode(), self.identity.fp)
        th = H("RLY1/th", u(1, 2), *ends, spk.modulus, n_opk, c1, c2, n_r, profile_a)
        require(v.sid == th[:16] and is_modulus(n_r), "BadInit")
        require(is_modulus(n_ik) and pss_verifies(n_ik, T("RLY1/init-sig") + th, sig), "BadInit")
        self.require_ek(v, self.profile)
        if th not in self.memory:
            secrets = b""
            for key, c in ((spk, c1), (opk, c2)):
                if key:
                    label = H("RLY1/init-label", fp, self.identity.fp, key.modulus)
                    secrets += self.unwrap(key, label, c) or self.chance.take(32)
            self.memory[th] = K(64, th, secrets, "RLY1/init", b"")
        okm = self.memory[th]

        def commit():
            self.pinned = fp
            self.opks.pop(kid_opk, None)
            self.sids.add(v.sid)

        return Held("responder", th, okm[:32], 0, self.profile, spk, chain=(0, 0, okm[32:])), commit

    def evaluate_step(self, v, held):
        """Moves `held` into the epoch that STEP opens; the former chain's numbers up to pn are kept."""
        n_r, c, auth = v.preamble[:256], v.preamble[256:512], v.preamble[512:]
        r_peer = held.ratchets[held.epoch]
        sh = H("RLY1/step", held.th, u(v.e, 4), r_peer.modulus, c, n_r)
        auth_key = K(32, held.root, b"", "RLY1/step-auth", b"")
        require(M(auth_key, "RLY1/step-auth", sh) == auth and is_modulus(n_r), "BadStep")
        if sh not in self.memory:
            s = self.unwrap(r_peer, H("RLY1/step-label", held.th, u(v.e, 4), r_peer.modulus), c)
            if s is None:
                del self.sessions[v.sid]
                raise Reject("BadWrappedKey")
            self.memory[sh] = s
        held.skip(v.pn)
        held.step(self.memory[sh], sh, v.e)


def is_modulus(data):
    return data[0] >= 0x80 and data[-1] % 2 == 1
