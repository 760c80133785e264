"""What spec/crypto.md is made of, in plain Python 3.10: its notation, AES-256-CBC, and RSA-2048 with OAEP and PSS.

Slow, not constant in time, and deterministic: for vectors, not for use. Knows nothing of sessions: reference.py.
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
INVERSE_SBOX = [SBOX.index(value) for value in range(256)]
DOUBLE = [_xtime(a) for a in range(256)]
TIMES_9, TIMES_11, TIMES_13, TIMES_14 = ([_multiply(a, factor) for a in range(256)] for factor in (9, 11, 13, 14))


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


def _decrypt_block(keys, block):
    state = [a ^ b for a, b in zip(block, keys[14])]
    for index in range(13, -1, -1):
        state = [INVERSE_SBOX[state[(4 * (column - row) + row) % 16]] for column in range(4) for row in range(4)]
        state = [a ^ b for a, b in zip(state, keys[index])]
        if index > 0:
            mixed = []
            for column in range(0, 16, 4):
                a = state[column : column + 4]
                for i in range(4):
                    product = TIMES_14[a[i]] ^ TIMES_11[a[(i + 1) % 4]] ^ TIMES_13[a[(i + 2) % 4]]
                    mixed.append(product ^ TIMES_9[a[(i + 3) % 4]])
            state = mixed
    return bytes(state)


def cbc_decrypt_blocks(key, iv, data):
    """Without padding: whole blocks."""
    keys, out, last = _round_keys(key), b"", iv
    for i in range(0, len(data), 16):
        block = data[i : i + 16]
        out += bytes(a ^ b for a, b in zip(_decrypt_block(keys, block), last))
        last = block
    return out


def pkcs7(data):
    count = 16 - len(data) % 16
    return data + bytes([count]) * count


def without_pkcs7(data):
    """The data before the padding, or None if that is not right."""
    count = data[-1]
    return data[:-count] if 1 <= count <= 16 and data.endswith(bytes([count]) * count) else None


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
        """By the Chinese remainder theorem."""
        at_p = pow(value, pow(65537, -1, self.p - 1), self.p)
        at_q = pow(value, pow(65537, -1, self.q - 1), self.q)
        return at_q + self.q * ((at_p - at_q) * pow(self.q, -1, self.p) % self.p)


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


def oaep(key, label, message, seed):
    db = sha256(label) + bytes(256 - 66 - len(message)) + b"\x01" + message
    masked = _xor(db, _mgf1(seed, len(db)))
    em = b"\x00" + _xor(seed, _mgf1(masked, 32)) + masked
    return u(pow(int.from_bytes(em, "big"), 65537, key.n), 256)


def oaep_open(key, label, wrapped):
    """The 32 bytes, or None."""
    if int.from_bytes(wrapped, "big") >= key.n:
        return None
    em = u(key.private(int.from_bytes(wrapped, "big")), 256)
    seed = _xor(em[1:33], _mgf1(em[33:], 32))
    db = _xor(em[33:], _mgf1(seed, 223))
    right = em[0] == 0 and db[:32] == sha256(label) and db[32:].lstrip(b"\0") == b"\x01" + db[-32:]
    return db[-32:] if right else None


def pss(key, message, salt):
    digest = sha256(bytes(8) + sha256(message) + salt)
    db = bytes(256 - 34 - len(salt)) + b"\x01" + salt
    masked = bytearray(_xor(db, _mgf1(digest, len(db))))
    masked[0] &= 0x7F
    em = bytes(masked) + digest + b"\xbc"
    return u(key.private(int.from_bytes(em, "big")), 256)


def pss_verifies(modulus, message, signature):
    n, value = int.from_bytes(modulus, "big"), int.from_bytes(signature, "big")
    if value >= n:
        return False
    em = u(pow(value, 65537, n), 256)
    masked, digest = em[:223], em[223:255]
    db = bytearray(_xor(masked, _mgf1(digest, 223)))
    db[0] &= 0x7F
    right = em[0] < 0x80 and em[255] == 0xBC and bytes(db[:191]) == bytes(190) + b"\x01"
    return right and digest == sha256(bytes(8) + sha256(message) + bytes(db[191:]))
