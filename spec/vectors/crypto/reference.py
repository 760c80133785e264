"""The sending side of spec/crypto.md in plain Python 3.10, written from the specification alone.

For vectors, not for use: it knows the secrets of both ends, remembers every value on the way, and can be told to do
one thing wrong. Owns: how INIT, STEP and envelopes are built. What they are built of: primitives.py. The other side:
receiver.py. Which vectors there are: generate.py.
"""

import hashlib
from dataclasses import dataclass, field

from primitives import *

# ---- What keys sign, and what people compare ----


def login_bytes(version, purpose, relay_id, nonce, name, key):
    return T("RLY1/login") + u(version, 2) + u(purpose, 1) + relay_id + nonce + LP(name.encode()) + key.fp


def spk_bytes(name, identity, spk, made, profile):
    return T("RLY1/spk") + LP(name.encode()) + identity.fp + spk.modulus + u(made, 8) + u(profile, 1)


def opk_bytes(identity, spk, opks):
    hashes = b"".join(sha256(opk.modulus) for opk in opks)
    return T("RLY1/opk") + identity.fp + spk.kid + u(len(opks), 1) + hashes


def roll_bytes(name, old, new, time):
    return T("RLY1/roll") + LP(name.encode()) + old.fp + new.fp + u(time, 8)


def remove_bytes(relay_id, uid, name, identity):
    return T("RLY1/remove") + relay_id + u(uid, 8) + LP(name.encode()) + identity.fp


def digest_of(identity, name):
    return hashlib.sha512(T("RLY1/number") + identity.modulus + LP(name.encode())).digest()


def digits_of(identity, name):
    """30 digits."""
    digest = digest_of(identity, name)
    return "".join(f"{int.from_bytes(digest[i : i + 5], 'big') % 100_000:05}" for i in range(0, 30, 5))


# ---- Plaintext ----


def padded_length(count):
    """The smallest of 128, 256, ... 4096, 8192, 12288 that is not below `count`."""
    length = 128
    while length < count:
        length += length if length < 4096 else 4096
    return length


def plaintext(message_id, kind, time, body, data_bytes=None):
    """Zeros fill it up so that PKCS #7 adds one byte."""
    out = message_id + u(kind, 1) + u(time, 8) + LP(body)
    data_bytes = data_bytes or padded_length(len(out) + 1)
    return out + bytes(data_bytes - 1 - len(out))


# ---- At rest ----


def state_keys(passphrase, log2n, salt):
    """K_enc and K_mac. scrypt takes 128 * 8 * N bytes, and its wrapper wants to be told that it may."""
    memory = 128 * 8 * (2**log2n + 4)
    okm = hashlib.scrypt(passphrase, salt=salt, n=2**log2n, r=8, p=1, maxmem=memory, dklen=64)
    return okm[:32], okm[32:]


def state_file(passphrase, log2n, salt, iv, path, content):
    """A protected file that lies at `path`."""
    k_enc, k_mac = state_keys(passphrase, log2n, salt)
    file = T("RLY1/state") + u(log2n, 1) + salt + iv + cbc_encrypt_blocks(k_enc, iv, pkcs7(content))
    return file + M(k_mac, "RLY1/state", path.encode(), file)


# ---- Sessions ----


@dataclass
class Epoch:
    """One end's chain of messages, and what opened it."""

    e: int
    wrapped_to: Key  # SPK for epoch 0, else R_peer
    ratchet: Key  # the R that it announces
    preamble: bytes  # INIT or STEP
    root: bytes
    first_ck: bytes  # of number 0
    prior: int = 0  # pn: how many messages epoch e - 2 has
    values: dict = field(default_factory=dict)  # what STEP was made of

    def __post_init__(self):
        self.ck, self.number = self.first_ck, 0  # of the next message

    def skip(self, count=1):
        for _ in range(count):
            self.ck = M(self.ck, "RLY1/ck")
            self.number += 1


@dataclass
class Message:
    """An envelope, and every value on the way to it."""

    epoch: int
    number: int
    pn: int
    type: int
    chain_key: bytes
    mk: bytes
    iv: bytes
    ctx: bytes
    k: bytes = b""
    ek_label: bytes = b""
    ek_seed: bytes = b""
    ek: bytes = b""
    k_enc: bytes = b""
    k_mac: bytes = b""
    k_ack: bytes = b""
    header: bytes = b""
    plaintext: bytes = b""
    data: bytes = b""
    tag: bytes = b""
    receipt: bytes = b""
    envelope: bytes = b""


class Session:
    """Both ends of a session. What a vector is to break is given by keyword."""

    def __init__(self, label, initiator, responder, spk, opk=None, *, ratchet, profile_a=0, profile_b=0, **wrong):
        (name_a, key_a), (name_b, key_b) = initiator, responder
        self.stream = stream = Stream("session " + label)
        self.profile_a, self.profile_b = profile_a, profile_b
        self.s1 = wrong.get("s1", stream.take(32))
        self.s2 = stream.take(32) if opk else b""
        label_for = lambda key: H("RLY1/init-label", key_a.fp, wrong.get("label_fp", key_b.fp), key.modulus)
        self.c1_label, self.c2_label = label_for(spk), label_for(opk) if opk else b""
        self.c1_seed = b"" if "c1" in wrong else stream.take(32)
        self.c1 = wrong.get("c1") or oaep(spk, self.c1_label, self.s1, self.c1_seed)
        self.c2_seed = stream.take(32) if opk else b""
        self.c2 = oaep(opk, self.c2_label, self.s2, self.c2_seed) if opk else b""
        if opk and "c2" in wrong:
            self.c2 = wrong["c2"]
        n_r = wrong.get("n_r", ratchet.modulus)
        self.th = H(
            "RLY1/th",
            u(1, 2),
            name_a.encode(),
            key_a.fp,
            name_b.encode(),
            key_b.fp,
            spk.modulus,
            opk.modulus if opk else b"",
            self.c1,
            self.c2,
            n_r,
            u(profile_a, 1),
        )
        self.sid = self.th[:16]
        self.sig_salt = stream.take(wrong.get("salt_bytes", 32))
        self.sig = wrong.get("sig") or pss(key_a, T("RLY1/init-sig") + self.th, self.sig_salt)
        kid_opk = wrong.get("kid_opk", opk.kid if opk else bytes(8))
        self.init = key_a.modulus + n_r + u(profile_a, 1) + wrong.get("kid_spk", spk.kid) + kid_opk
        self.init += self.c1 + self.c2 + self.sig
        okm = K(64, self.th, self.s1 + self.s2, "RLY1/init", b"")
        self.epochs = [Epoch(0, spk, ratchet, self.init, okm[:32], okm[32:])]

    def step(self, ratchet, **wrong):
        """Opens the next epoch, as whichever end is on turn. `ratchet` is R_new."""
        last = self.epochs[-1]
        e, th, r_peer = last.e + 1, wrong.get("th", self.th), wrong.get("r_peer", last.ratchet)
        s = self.stream.take(32)
        c_label = H("RLY1/step-label", th, u(e, 4), r_peer.modulus)
        c_seed = self.stream.take(32)
        c = wrong.get("c") or oaep(r_peer, c_label, s, c_seed)
        n_r = wrong.get("n_r", ratchet.modulus)
        sh = H("RLY1/step", th, u(e, 4), r_peer.modulus, c, n_r)
        auth_key = K(32, last.root, b"", "RLY1/step-auth", b"")
        auth = M(auth_key, "RLY1/step-auth", sh)
        okm = K(64, last.root, s, "RLY1/root", sh)
        epoch = Epoch(e, r_peer, ratchet, n_r + c + auth, okm[:32], okm[32:])
        epoch.prior = self.epochs[e - 2].number if e >= 2 else 0
        epoch.values = {"s": s, "c label": c_label, "c seed": c_seed, "c": c}
        epoch.values |= {"sh": sh, "auth key": auth_key, "auth": auth, "step": epoch.preamble}
        self.epochs.append(epoch)
        return epoch

    def seal(self, plain, *, e=-1, bare=False, **wrong):
        """The next message of epoch e, by default the last one."""
        chain, stream = self.epochs[e], self.stream
        number, epoch, pn = wrong.get("number", chain.number), wrong.get("epoch", chain.e), wrong.get("pn", chain.prior)
        kind = wrong.get("type", 1 if bare else 3 if chain.e else 2)
        iv = stream.take(16)
        ctx = self.th + u(epoch, 4) + u(number, 4) + iv
        m = Message(epoch, number, pn, kind, chain.ck, M(chain.ck, "RLY1/mk"), iv, ctx)
        profile = self.profile_b if chain.e % 2 == 0 else self.profile_a  # the recipient's
        if wrong.get("profile", profile) == 0:
            m.k = wrong.get("k", stream.take(32))
            m.ek_label = H("RLY1/msg-label", self.th, u(epoch, 4), u(wrong.get("label_number", number), 4))
            m.ek_seed = b"" if "ek" in wrong else stream.take(32)
            m.ek = wrong["ek"] if "ek" in wrong else oaep(chain.wrapped_to, m.ek_label, m.k, m.ek_seed)
        m.k_enc = K(32, m.mk, m.k, "RLY1/enc", ctx)
        okm = K(64, m.mk, b"", "RLY1/auth", ctx)
        m.k_mac, m.k_ack = okm[:32], okm[32:]
        m.plaintext = plain
        m.data = cbc_encrypt_blocks(m.k_enc, iv, wrong["padded"] if "padded" in wrong else pkcs7(plain))
        preamble = b"" if bare else chain.preamble
        m.header = u(wrong.get("version", 1), 1) + u(kind, 1) + wrong.get("zero", bytes(2))
        m.header += wrong.get("sid", self.sid) + u(epoch, 4) + u(number, 4) + u(pn, 4)
        m.header += u(len(preamble), 2) + u(len(m.ek), 2) + u(wrong.get("len_data", len(m.data)), 4) + iv
        m.tag = M(m.k_mac, "RLY1/tag", self.th, m.header, preamble, m.ek, m.data)
        m.receipt = M(m.k_ack, "RLY1/ack", m.tag)
        m.envelope = m.header + preamble + m.ek + m.data + m.tag
        chain.skip()
        return m
