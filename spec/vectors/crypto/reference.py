"""The sender of spec/crypto.md in plain Python 3.10, written from the specification alone.

Slow, not constant in time, and deterministic: for vectors, not for use. Owns: the primitives (AES-256-CBC, HKDF,
OAEP, PSS, key generation) and how INIT and envelopes are built of them. Which vectors there are: generate.py.
"""

import hashlib
import hmac
from dataclasses import dataclass


# ---- Randomness that is the same in every run ----


class Stream:
    """SHA-256 in counter mode over a label."""

    def __init__(self, label):
        self.label, self.counter, self.pool = label.encode(), 0, b""

    def take(self, count):
        while len(self.pool) < count:
            self.pool += hashlib.sha256(self.label + self.counter.to_bytes(8, "big")).digest()
            self.counter += 1
        out, self.pool = self.pool[:count], self.pool[count:]
        return out


# ---- Notation ----


def u(value, size):
    return value.to_bytes(size, "big")


def sha256(data):
    return hashlib.sha256(data).digest()


def T(label):
    return bytes([len(label)]) + label.encode("ascii")


def LP(data):
    return u(len(data), 4) + data


def H(label, *values):
    return sha256(T(label) + b"".join(map(LP, values)))


def HMAC(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def M(key, label, *values):
    return HMAC(key, T(label) + b"".join(map(LP, values)))


def HKDF(length, salt, ikm, info):
    prk = HMAC(salt or bytes(32), ikm)
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = HMAC(prk, block + info + bytes([counter]))
        out += block
        counter += 1
    return out[:length]


def K(length, salt, ikm, label, context):
    return HKDF(length, salt, ikm, T(label) + context)


# ---- AES-256-CBC, FIPS 197 and SP 800-38A ----


def _xtime(a):
    return ((a << 1) ^ (0x11B if a & 0x80 else 0)) & 0xFF


def _multiply(a, b):
    out = 0
    while b:
        if b & 1:
            out ^= a
        a, b = _xtime(a), b >> 1
    return out


def _sbox():
    box = []
    for value in range(256):
        inverse = next((x for x in range(256) if _multiply(value, x) == 1), 0)
        out = 0x63
        for shift in range(5):
            out ^= ((inverse << shift) | (inverse >> (8 - shift))) & 0xFF
        box.append(out)
    return box


SBOX = _sbox()
DOUBLE = [_xtime(a) for a in range(256)]


def _round_keys(key):
    words = [list(key[i : i + 4]) for i in range(0, 32, 4)]
    rcon = 1
    for i in range(8, 60):
        word = list(words[-1])
        if i % 8 == 0:
            word = [SBOX[b] for b in word[1:] + word[:1]]
            word[0] ^= rcon
            rcon = _xtime(rcon)
        elif i % 8 == 4:
            word = [SBOX[b] for b in word]
        words.append([a ^ b for a, b in zip(words[i - 8], word)])
    return [sum(words[i : i + 4], []) for i in range(0, 60, 4)]


def _encrypt_block(keys, block):
    state = [a ^ b for a, b in zip(block, keys[0])]
    for index, key in enumerate(keys[1:], 1):
        state = [SBOX[state[(4 * (column + row) + row) % 16]] for column in range(4) for row in range(4)]
        if index < 14:
            mixed = []
            for column in range(0, 16, 4):
                a = state[column : column + 4]
                total = a[0] ^ a[1] ^ a[2] ^ a[3]
                mixed += [a[i] ^ total ^ DOUBLE[a[i] ^ a[(i + 1) % 4]] for i in range(4)]
            state = mixed
        state = [a ^ b for a, b in zip(state, key)]
    return bytes(state)


def cbc_encrypt_blocks(key, iv, data):
    """Without padding: whole blocks."""
    keys, out, last = _round_keys(key), b"", iv
    for i in range(0, len(data), 16):
        last = _encrypt_block(keys, bytes(a ^ b for a, b in zip(data[i : i + 16], last)))
        out += last
    return out


def pkcs7(data):
    count = 16 - len(data) % 16
    return data + bytes([count]) * count


# ---- RSA-2048, RFC 8017 ----


@dataclass
class Key:
    p: int
    q: int

    @property
    def n(self):
        return self.p * self.q

    @property
    def modulus(self):
        return u(self.n, 256)

    @property
    def kid(self):
        return sha256(self.modulus)[:8]

    @property
    def fp(self):
        return H("RLY1/id", self.modulus)

    def private(self, value):
        return pow(value, pow(65537, -1, (self.p - 1) * (self.q - 1)), self.n)


SMALL_PRIMES = [p for p in range(3, 2000, 2) if all(p % d for d in range(3, int(p**0.5) + 1, 2))]


def _is_prime(n, stream):
    if any(n % p == 0 for p in SMALL_PRIMES):
        return False
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(24):
        x = pow(int.from_bytes(stream.take(127), "big") + 2, odd, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def make_key(name):
    stream = Stream("key " + name)

    def prime():
        while True:
            n = int.from_bytes(stream.take(128), "big") | 3 << 1022 | 1
            if n % 65537 != 1 and _is_prime(n, stream):
                return n

    return Key(prime(), prime())


def _mgf1(seed, length):
    out = b"".join(sha256(seed + u(i, 4)) for i in range((length + 31) // 32))
    return out[:length]


def _xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def oaep(key, label, message, stream):
    db = sha256(label) + bytes(256 - 66 - len(message)) + b"\x01" + message
    seed = stream.take(32)
    masked = _xor(db, _mgf1(seed, len(db)))
    em = b"\x00" + _xor(seed, _mgf1(masked, 32)) + masked
    return u(pow(int.from_bytes(em, "big"), 65537, key.n), 256)


def pss(key, message, stream, salt_bytes=32):
    salt = stream.take(salt_bytes)
    digest = sha256(bytes(8) + sha256(message) + salt)
    db = bytes(256 - 34 - len(salt)) + b"\x01" + salt
    masked = bytearray(_xor(db, _mgf1(digest, len(db))))
    masked[0] &= 0x7F
    em = bytes(masked) + digest + b"\xbc"
    return u(key.private(int.from_bytes(em, "big")), 256)


# ---- The construction ----


def login_bytes(version, purpose, relay_id, nonce, name, key):
    return T("RLY1/login") + u(version, 2) + u(purpose, 1) + relay_id + nonce + LP(name.encode()) + key.fp


def spk_bytes(name, identity, spk, made, profile):
    return T("RLY1/spk") + LP(name.encode()) + identity.fp + spk.modulus + u(made, 8) + u(profile, 1)


def opk_bytes(identity, spk, opks):
    hashes = b"".join(sha256(opk.modulus) for opk in opks)
    return T("RLY1/opk") + identity.fp + spk.kid + u(len(opks), 1) + hashes


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


class Session:
    """The starting end of a session. What a vector is to break is given by keyword."""

    def __init__(self, label, initiator, responder, spk, opk=None, *, ratchet, profile=0, **wrong):
        (name_a, key_a), (name_b, key_b) = initiator, responder
        self.stream = stream = Stream("session " + label)
        self.spk = spk
        self.s1 = wrong.get("s1", stream.take(32))
        self.s2 = stream.take(32) if opk else b""
        label_for = lambda key: H("RLY1/init-label", key_a.fp, wrong.get("label_fp", key_b.fp), key.modulus)
        self.c1_label = label_for(spk)
        self.c1 = wrong.get("c1") or oaep(spk, self.c1_label, self.s1, stream)
        self.c2 = oaep(opk, label_for(opk), self.s2, stream) if opk else b""
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
            u(profile, 1),
        )
        self.sid = self.th[:16]
        sig = pss(key_a, T("RLY1/init-sig") + self.th, stream, wrong.get("salt_bytes", 32))
        self.kid_opk = opk.kid if opk else bytes(8)
        kid_opk = wrong.get("kid_opk", self.kid_opk)
        self.init = key_a.modulus + n_r + u(profile, 1) + wrong.get("kid_spk", spk.kid) + kid_opk
        self.init += self.c1 + self.c2 + wrong.get("sig", sig)
        okm = K(64, self.th, self.s1 + self.s2, "RLY1/init", b"")
        self.root, self.ck = okm[:32], okm[32:]
        self.number = 0

    def skip(self, count=1):
        for _ in range(count):
            self.ck = M(self.ck, "RLY1/ck")
            self.number += 1

    def seal(self, plain, *, bare=False, **wrong):
        """The envelope of the next number. Remembers every intermediate value."""
        stream = self.stream
        self.chain_key = self.ck
        self.mk = M(self.ck, "RLY1/mk")
        number, epoch = wrong.get("number", self.number), wrong.get("epoch", 0)
        self.iv = stream.take(16)
        self.ctx = self.th + u(epoch, 4) + u(number, 4) + self.iv
        self.k = wrong.get("k", stream.take(32))
        label = H("RLY1/msg-label", self.th, u(epoch, 4), u(wrong.get("label_number", number), 4))
        self.ek = wrong.get("ek") if "ek" in wrong else oaep(self.spk, label, self.k, stream)
        self.k_enc = K(32, self.mk, self.k, "RLY1/enc", self.ctx)
        okm = K(64, self.mk, b"", "RLY1/auth", self.ctx)
        self.k_mac, self.k_ack = okm[:32], okm[32:]
        padded = wrong["padded"] if "padded" in wrong else pkcs7(plain)
        self.data = cbc_encrypt_blocks(self.k_enc, self.iv, padded)
        self.preamble = b"" if bare else self.init
        kind = wrong.get("type", 1 if bare else 2)
        header = u(wrong.get("version", 1), 1) + u(kind, 1) + wrong.get("zero", bytes(2))
        header += wrong.get("sid", self.sid) + u(epoch, 4) + u(number, 4) + u(wrong.get("prior", 0), 4)
        header += u(len(self.preamble), 2) + u(len(self.ek), 2) + u(wrong.get("len_data", len(self.data)), 4)
        self.header = header + self.iv
        self.tag = M(self.k_mac, "RLY1/tag", self.th, self.header, self.preamble, self.ek, self.data)
        self.receipt = M(self.k_ack, "RLY1/ack", self.tag)
        self.skip()
        return self.header + self.preamble + self.ek + self.data + self.tag
