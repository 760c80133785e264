#!/usr/bin/env python3
"""Writes keys.txt and the folders beside this file, exactly; with --check says instead whether it would change.

Owns: which vectors there are of single messages and values; those of epochs: stepping.py. How a file is made: cases.py.
Takes some thirty seconds, most of it for the keys.
"""

import os
import sys

sys.dont_write_bytecode = True

from cases import *  # noqa: E402,F403
from stepping import stepping  # noqa: E402

FOLDER = os.path.dirname(os.path.abspath(__file__))


def opening():
    c = Case("open/init-with-opk", "A first message, with a one-time prekey.")
    c.opens(session(c.path, OPK_1), message(c.path), 3)
    c.done()

    c = Case("open/init-without-opk", "A first message, the relay having had no one-time prekey.")
    c.opens(session(c.path), message(c.path), 2)
    c.done()

    c = Case("open/pinned", "A first message from a name that is pinned to this key.", pinned="alice-ik")
    c.opens(session(c.path, OPK_1), message(c.path), 3)
    c.done()

    c = Case("open/light-initiator", "The sender wants profile 1 for answers; its own messages are strict all the same.")
    c.opens(session(c.path, OPK_1, profile_a=1), message(c.path), 3)
    c.done()

    c = Case("open/light", "The recipient is light: no wrapped key.", profile=1)
    s = session(c.path, OPK_1, profile_b=1)
    c.opens(s, message("1"), 2)
    c.opens(s, message("2"), 0)
    c.done()

    c = Case("open/init-then-bare", "The second message carries INIT still, the third none.")
    s = session(c.path, OPK_1)
    c.opens(s, message("1"), 3)
    c.opens(s, message("2"), 1)
    c.opens(s, message("3"), 1, bare=True)
    c.done()

    c = Case("open/out-of-order", "The third message first, then the first, then the second.")
    s = session(c.path, OPK_1)
    sent = [message(str(i)) for i in range(3)]
    made = [s.seal(plaintext(*m)) for m in sent]
    for i, operations in [(2, 3), (0, 1), (1, 1)]:
        c.opened(made[i], sent[i], operations)
    c.done()

    c = Case("open/last-number", "Number 999, with all before it missing.")
    s = session(c.path, OPK_1)
    s.epochs[0].skip(999)
    c.opens(s, message(c.path), 3)
    c.done()

    c = Case("open/again", "An envelope that comes twice has the same receipt, and is not opened again.")
    c.again(c.opens(session(c.path, OPK_1), message(c.path), 3))
    c.done()

    c = Case("open/known-id", "A message that comes in a second envelope is receipted, and not shown again.")
    s = session(c.path, OPK_1)
    c.opens(s, message(c.path), 3)
    c.opens(s, message(c.path), 1, known=True)
    c.done()

    c = Case("open/second-session", "A second INIT, with the next one-time prekey, beside the first session.")
    first, second = session(c.path + " 1", OPK_1), session(c.path + " 2", OPK_2)
    c.opens(first, message("1"), 3)
    c.opens(second, message("2"), 3)
    c.opens(first, message("3"), 1)
    c.done()

    for path, about, kind, body in [
        ("kind-nothing", "An empty message.", 0, b""),
        ("kind-bytes", "Bytes that are no text.", 2, bytes(range(256))),
        ("kind-unknown", "An unknown kind is opened and receipted.", 200, b"what?"),
        ("body-98", "The longest body with the shortest data.", 1, b"." * 98),
        ("body-99", "One more, and the data doubles.", 1, b"." * 99),
        ("body-4066", "The longest body up to which data doubles.", 1, b"." * 4066),
        ("body-4067", "One more, and data grows by 4096.", 1, b"." * 4067),
        ("body-12258", "The longest body.", 1, b"." * 12258),
    ]:
        c = Case("open/" + path, about)
        c.opens(session(c.path, OPK_1), message(c.path, body, kind), 3)
        c.done()

    c = Case("open/other-padding", "What follows the body is ignored, and PKCS #7 may take 16 bytes.")
    m = message(c.path)
    c.opens(session(c.path, OPK_1), m, 3, plain=plaintext(*m).rstrip(b"\0").ljust(112, b"\x55"))
    c.done()


def rejecting():
    def one(path, about, reason, operations=0, *, envelope=None, setting=None, opk=OPK_1, **wrong):
        """A first envelope that breaks one rule."""
        c = Case("reject/" + path, about, **(setting or {}))
        s = session(c.path, opk, **wrong)
        plain = plaintext(*message(c.path))
        data = envelope(s, plain) if envelope else s.seal(plain).envelope
        c.rejects(data, reason, operations)
        c.done()

    def sealed(**wrong):
        return lambda s, plain: s.seal(plain, **wrong).envelope

    def flipped(offset):
        def envelope(s, plain):
            data = bytearray(s.seal(plain).envelope)
            data[offset] ^= 1
            return bytes(data)

        return envelope

    def step_in_epoch_0(s, plain):
        s.epochs[0].preamble = copy.deepcopy(s).step(KEYS["bob-r-1"]).preamble
        return s.seal(plain, type=3).envelope

    # Bounds: each envelope is authentic but for the one thing.
    bounds = [
        ("version", "Envelope version 2.", sealed(version=2)),
        ("type-0", "Type 0.", sealed(type=0)),
        ("type-step", "Type 3, with a STEP, in epoch 0.", step_in_epoch_0),
        ("zero", "The reserved bytes are not zero.", sealed(zero=b"\0\1")),
        ("epoch-1", "Type 2 in epoch 1.", sealed(epoch=1)),
        ("number-1000", "Number 1000: a chain ends at 999.", sealed(number=1000)),
        ("prior", "A prior chain's length in epoch 0.", sealed(pn=1)),
        ("bare-with-init", "Type 1, and a preamble.", sealed(type=1)),
        ("init-without-preamble", "Type 2, and no preamble.", sealed(type=2, bare=True)),
        ("no-ek", "No wrapped key.", sealed(ek=b"")),
        ("data-0", "No data.", sealed(padded=b"")),
        ("data-112", "A data length that padding never gives.", sealed(padded=bytes(112))),
        ("data-384", "A multiple of 128 that padding never gives.", sealed(padded=bytes(384))),
        ("data-16384", "More data than an envelope may hold.", sealed(padded=bytes(16384))),
        ("len-data", "The header's data length is longer than the data.", sealed(len_data=256)),
        ("header-only", "Nothing after the header.", lambda s, plain: s.seal(plain).envelope[:56]),
        ("header-cut", "55 bytes.", lambda s, plain: s.seal(plain).envelope[:55]),
        ("empty", "Nothing.", lambda s, plain: b""),
        ("cut", "The last byte is missing.", lambda s, plain: s.seal(plain).envelope[:-1]),
        ("trailing", "A byte too many.", lambda s, plain: s.seal(plain).envelope + b"\0"),
    ]
    for path, about, envelope in bounds:
        one("bounds/" + path, about, "Malformed", envelope=envelope)
    one("bounds/profile-2", "An unknown profile in INIT.", "Malformed", profile_a=2)
    one("bounds/opk-zero-kid", "c2, but kid(OPK) zero.", "Malformed", kid_opk=bytes(8))
    one("bounds/opk-without-c2", "kid(OPK), but no c2.", "Malformed", opk=None, kid_opk=OPK_1.kid)

    one("light-ek", "A wrapped key, and the recipient is light.", "Malformed", setting={"profile": 1})

    # Who and when.
    one("own-name", "The relay says that it comes from the recipient itself.", "OwnName",
        initiator=BOB, setting={"sender": "bob"})
    one("unknown-session", "No INIT, and no session.", "UnknownSession", envelope=sealed(bare=True))
    one("key-changed", "The name is pinned to another key.", "KeyChanged", setting={"pinned": "carol-ik"})
    one("sender-name", "INIT was made under another name than the relay says.", "BadInit",
        initiator=("alicia", ALICE[1]))
    one("recipient-name", "INIT was made for another name with the same key.", "BadInit", responder=("bobby", BOB[1]))
    one("recipient-key", "INIT was made for another key of the same name.", "BadInit",
        responder=("bob", KEYS["carol-ik"]))
    one("unknown-spk", "INIT uses a signed prekey that the recipient never had.", "UnknownPrekey",
        spk=KEYS["alice-spk"], opk=None)
    one("unknown-opk", "INIT uses a one-time prekey that the recipient never had.", "UnknownPrekey",
        opk=KEYS["alice-opk"])

    # INIT is authentic or nothing is decrypted.
    one("init-signature", "The signature is of something else.", "BadInit",
        sig=pss(ALICE[1], b"something else", Stream("else").take(32)))
    one("init-signer", "The signature is somebody else's.", "BadInit",
        initiator=("alice", KEYS["carol-ik"]), sig=pss(ALICE[1], b"", Stream("else").take(32)))
    one("init-salt", "A signature with a salt of 20 bytes.", "BadInit", salt_bytes=20)
    one("init-ratchet", "N(R) is even.", "BadInit", n_r=KEYS["alice-r"].modulus[:-1] + b"\0")
    one("sid", "The session id is not th's.", "BadInit", envelope=sealed(sid=bytes(16)))

    # OAEP in INIT fails: a random secret takes the place of the true one, and the tag tells.
    garbage = u(1, 256)
    one("c1-garbage", "c1 is no OAEP ciphertext.", "BadTag", 2, c1=garbage)
    one("c1-too-large", "c1 is not below the modulus.", "BadTag", 2, c1=b"\xff" * 256)
    one("c1-label", "c1 and c2 are wrapped with the label of another recipient.", "BadTag", 2, label_fp=bytes(32))
    one("c1-31-bytes", "c1 holds 31 bytes.", "BadTag", 2, s1=bytes(31))
    one("c2-garbage", "c2 is no OAEP ciphertext.", "BadTag", 2, c2=garbage)

    # The tag.
    offsets = [("iv", 40), ("ek", 56 + 1297), ("data", 56 + 1297 + 256), ("tag", -1)]
    for name, offset in offsets:
        one("flip-" + name, f"One bit of the {name} is changed.", "BadTag", 2, envelope=flipped(offset))
    one("number", "The key of number 0 with number 1 in the header.", "BadTag", 2, envelope=sealed(number=1))

    # Behind a valid tag.
    one("k-31-bytes", "The wrapped key has 31 bytes.", "BadWrappedKey", 3, envelope=sealed(k=bytes(31)))
    one("k-33-bytes", "The wrapped key has 33 bytes.", "BadWrappedKey", 3, envelope=sealed(k=bytes(33)))
    one("k-label", "The wrapped key is that of another number.", "BadWrappedKey", 3, envelope=sealed(label_number=1))
    one("k-garbage", "The wrapped key is no OAEP ciphertext.", "BadWrappedKey", 3, envelope=sealed(ek=garbage))
    one("padding", "The last byte decrypts to 0, which is no PKCS #7.", "BadPlaintext", 3,
        envelope=sealed(padded=bytes(128)))
    one("body-length", "The body is said to be longer than the plaintext.", "BadPlaintext", 3,
        envelope=lambda s, plain: s.seal(plain[:25] + u(99, 4) + plain[29:]).envelope)

    # State.
    c = Case("reject/opk-spent", "A second INIT with the same one-time prekey.")
    c.opens(session(c.path + " 1", OPK_1), message("1"), 3)
    c.rejects(session(c.path + " 2", OPK_1).seal(plaintext(*message("2"))).envelope, "UnknownPrekey")
    c.done()

    c = Case("reject/number-used", "Another envelope with a number that was used.")
    s, twin = session(c.path, OPK_1), session(c.path, OPK_1)
    c.opens(s, message("1"), 3)
    c.rejects(twin.seal(plaintext(*message("2"))).envelope, "NumberUsed")
    c.done()

    c = Case("reject/then-open", "A forged envelope changes nothing: the INIT is not decrypted again, and the true one opens.")
    s = session(c.path, OPK_1)
    m = s.seal(plaintext(*(sent := message(c.path))))
    c.rejects(m.envelope[:-1] + bytes([m.envelope[-1] ^ 1]), "BadTag", 2)
    c.opened(m, sent, 1)
    c.done()

    c = Case("reject/session-erased", "After a wrapped key that can't be unwrapped the session is gone, for good.")
    s = session(c.path, OPK_1)
    c.rejects(s.seal(plaintext(*message("1")), k=bytes(31)).envelope, "BadWrappedKey", 3)
    c.rejects(s.seal(plaintext(*message("2"))).envelope, "UnknownPrekey")
    c.rejects(s.seal(plaintext(*message("3")), bare=True).envelope, "UnknownSession")
    c.done()

    c = Case("reject/init-used", "The same without a one-time prekey: the INIT is remembered.")
    s = session(c.path)
    c.rejects(s.seal(plaintext(*message("1")), k=bytes(31)).envelope, "BadWrappedKey", 2)
    c.rejects(s.seal(plaintext(*message("2"))).envelope, "InitUsed")
    c.done()


def deriving():
    s = session("derive", OPK_1)
    s.epochs[0].skip(2)
    sent = message("derive")
    m = s.seal(plaintext(*sent))
    names = "chain_key mk iv k ctx k_enc k_mac k_ack ek data header tag receipt envelope".split()
    lines = [("vector", "derive/session"), ("about", "Every value on the way to the third message of a session.")]
    lines += [("initiator", "alice"), ("responder", "bob"), ("profile", 0)]
    lines += [("initiator fp", ALICE[1].fp), ("responder fp", BOB[1].fp)]
    lines += [("kid spk", SPK.kid), ("kid opk", OPK_1.kid), ("c1 label", s.c1_label)]
    lines += [("number", 2), ("plaintext", m.plaintext)]
    lines += [(name, getattr(s, name)) for name in "s1 s2 c1 c2 th sid init".split()]
    lines += [("root", s.epochs[0].root)]
    add("derive/session", lines + [(name.replace("_", " "), getattr(m, name)) for name in names])

    relay_id, nonce = Stream("relay").take(32), Stream("nonce").take(32)
    for name, purpose in [("login", 1), ("register", 2)]:
        signed = login_bytes(1, purpose, relay_id, nonce, "alice", ALICE[1])
        add(f"derive/{name}", [
            ("vector", f"derive/{name}"),
            ("about", "The bytes of a login, a signature of them, and the proof of the token `swordfish`."),
            ("version", 1), ("purpose", purpose), ("relay id", relay_id), ("nonce", nonce),
            ("name", "alice"), ("identity", "alice-ik"), ("signed", signed),
            ("signature", pss(ALICE[1], signed, Stream(name).take(32))),
            ("token", b"swordfish"), ("token proof", M(b"swordfish", "RLY1/token", signed)),
        ])

    spk, opks = spk_bytes("bob", BOB[1], SPK, TIME, 0), opk_bytes(BOB[1], SPK, [OPK_1, OPK_2])
    add("derive/bundle", [
        ("vector", "derive/bundle"),
        ("about", "A signed prekey and a batch of two one-time prekeys, with signatures."),
        ("name", "bob"), ("identity", "bob-ik"), ("spk", "bob-spk"), ("made", TIME), ("profile", 0),
        ("spk signed", spk), ("spk signature", pss(BOB[1], spk, Stream("spk").take(32))),
        ("opks", "bob-opk-1 bob-opk-2"), ("batch signed", opks),
        ("batch signature", pss(BOB[1], opks, Stream("opk").take(32))),
    ])

    # The cost that is written, and a small one for those who test more than that.
    for name, log2n, path, content in [
        ("state", 15, "peers/bob", b"what is kept of a contact"),
        ("state-small", 4, "identity", bytes(range(64))),
        ("state-empty", 1, "outbox/00000000000000ab-0000000000000001", b""),
    ]:
        passphrase, stream = "correct horse battery st\u00e4ple".encode(), Stream("state " + name)
        salt, iv = stream.take(16), stream.take(16)
        k_enc, k_mac = state_keys(passphrase, log2n, salt)
        add(f"derive/{name}", [
            ("vector", f"derive/{name}"),
            ("about", "A state file protected with a passphrase."),
            ("passphrase", passphrase.hex()), ("log2n", log2n), ("salt", salt.hex()), ("iv", iv.hex()),
            ("path", path), ("content", content.hex()), ("k enc", k_enc.hex()), ("k mac", k_mac.hex()),
            ("file", state_file(passphrase, log2n, salt, iv, path, content).hex()),
        ])


    old, new = ALICE[1], KEYS["carol-ik"]
    signed = roll_bytes("alice", old, new, TIME)
    add("derive/roll", [
        ("vector", "derive/roll"),
        ("about", "The statement that moves a name to a new key, and both signatures of it."),
        ("name", "alice"), ("old identity", "alice-ik"), ("new identity", "carol-ik"), ("time", TIME),
        ("signed", signed),
        ("old signature", pss(old, signed, Stream("roll old").take(32))),
        ("new signature", pss(new, signed, Stream("roll new").take(32))),
    ])

    relay_id, uid = Stream("relay id of a removal").take(32), 0x0000_0003_0000_0001
    signed = remove_bytes(relay_id, uid, "alice", old)
    add("derive/remove", [
        ("vector", "derive/remove"),
        ("about", "The removal of a name, and its signature."),
        ("name", "alice"), ("identity", "alice-ik"), ("relay id", relay_id), ("uid", uid),
        ("signed", signed),
        ("signature", pss(old, signed, Stream("remove").take(32))),
    ])

    people = [(1, "alice"), (2, "bob"), (3, "carol")]
    lines = [("vector", "derive/number"), ("about", "The numbers of three keys, and what each two people compare.")]
    digits = {}
    for i, name in people:
        identity = KEYS[name + "-ik"]
        digits[i] = digits_of(identity, name)
        lines += [(f"name {i}", name), (f"identity {i}", name + "-ik"), (f"digest {i}", digest_of(identity, name))]
        lines.append((f"digits {i}", digits[i]))
    lines += [(f"number {i} {j}", "".join(sorted((digits[i], digits[j])))) for i, j in ((1, 2), (1, 3), (2, 3))]
    add("derive/number", lines)


def main():
    opening()
    rejecting()
    deriving()
    stepping()
    FILES["keys.txt"] = "".join(f"{name}: {u(key.p, 128).hex()} {u(key.q, 128).hex()}\n" for name, key in KEYS.items())
    there = {
        os.path.relpath(os.path.join(folder, file), FOLDER)
        for folder, _, files in os.walk(FOLDER)
        for file in files
        if file.endswith(".txt")
    }
    wrong = there - set(FILES)
    for path, content in FILES.items():
        full = os.path.join(FOLDER, path)
        if not os.path.exists(full) or open(full).read() != content:
            wrong.add(path)
            if "--check" not in sys.argv:
                os.makedirs(os.path.dirname(full), exist_ok=True)
                with open(full, "w") as file:
                    file.write(content)
    if "--check" in sys.argv and wrong:
        sys.exit("not as generated: " + ", ".join(sorted(wrong)))
    for path in there - set(FILES):
        if "--check" not in sys.argv:
            os.remove(os.path.join(FOLDER, path))
    print(f"{len(FILES)} files")


main()
