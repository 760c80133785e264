"""Vectors of spec/crypto.md, "Stepping": whole conversations, and what a recipient in a given state makes of a STEP.

How a file is made, and by what it is proven: cases.py.
"""

import copy

from cases import *

RATCHETS = [KEYS[name] for name in "alice-r bob-r-1 alice-r-2 bob-r-3 alice-r-4".split()]

# What happens, in this order: `step e` opens epoch e, `send e` makes the next message of epoch e, `receive I` opens
# message I, and with `receipt I` its sender has verified the receipt.
SCRIPT = """
    send 0, send 0, receive 1, receipt 1, send 0, send 0, receive 3,
    step 1, send 1, send 1, receive 6, receive 2,
    step 2, send 2, receive 7, send 2, receive 4, receipt 7, send 2,
    send 1, step 3, send 3, receive 11, receive 10, receive 5, receive 8, receive 9, send 3,
    step 4, send 4, send 4, receive 14, receive 13, receive 12
"""


def transcript(path, about, profile_a, profile_b):
    s = session(path, OPK_1, profile_a=profile_a, profile_b=profile_b)
    alice = Held("initiator", s.th, s.epochs[0].root, 0, profile_a, ratchets={0: RATCHETS[0]})
    ends = [Recipient("alice", ALICE[1], "bob"), Recipient("bob", BOB[1], "alice", [SPK], [OPK_1], profile_b)]
    ends[0].sessions[s.sid] = alice
    order, sent, operations, served = [], [], {}, set()
    for event, number in (event.split() for event in SCRIPT.split(",")):
        number = int(number)
        if event == "step":
            made = s.step(RATCHETS[number])
            ends[number % 2].sessions[s.sid].step(made.values["s"], made.values["sh"], number, RATCHETS[number])
        elif event == "send":
            what = message(f"transcript {len(sent) + 1}", f"message {len(sent) + 1}".encode())
            sent.append((s.seal(plaintext(*what), e=number, bare=number in served), what))
        elif event == "receipt":
            served.add(sent[number - 1][0].epoch)
        else:
            m, what = sent[number - 1]
            outcome, values, operations[number] = ends[1 - m.epoch % 2].receive(m.envelope)
            assert outcome == "open" and values["id"] == what[0] and values["receipt"] == m.receipt, (path, number)
            served.add(m.epoch - 1)
        order.append(f"{event} {len(sent) if event == 'send' else number}")
    assert len(operations) == len(sent) and list(ends[0].sessions[s.sid].ratchets) == [2, 4]

    lines = [("vector", path), ("about", about), ("initiator", "alice"), ("responder", "bob")]
    lines += [("initiator profile", profile_a), ("responder profile", profile_b)]
    lines += [("spk", "bob-spk"), ("opk", "bob-opk-1")]
    lines += [("order", ", ".join(order)), ("initiator fp", ALICE[1].fp), ("responder fp", BOB[1].fp)]
    names = "s1 c1_label c1_seed c1 s2 c2_label c2_seed c2 th sid sig_salt sig init".split()
    lines += [(name.replace("_", " "), getattr(s, name)) for name in names]
    for epoch in s.epochs:
        values = {"ratchet": key_name(epoch.ratchet), "wrapped to": key_name(epoch.wrapped_to), **epoch.values}
        values |= {"root": epoch.root, "chain key": epoch.first_ck}
        lines += [(f"epoch {epoch.e} {key}", value) for key, value in values.items()]
    names = "chain_key mk iv k ek_label ek_seed ek ctx k_enc k_mac k_ack header plaintext data tag receipt".split()
    for i, (m, what) in enumerate(sent, 1):
        values = {name: getattr(m, name) for name in ("epoch", "number", "pn", "type")}
        values |= dict(zip(("id", "kind", "time", "body"), what))
        values |= {name.replace("_", " "): getattr(m, name) for name in names}
        values |= {"envelope": m.envelope, "private operations": operations[i]}
        lines += [(f"message {i} {key}", value) for key, value in values.items()]
    add(path, lines)


def at(label, *counts, profile_a=0, profile_b=0):
    """A session without OPK, stepped to the last of these epochs; so many messages of each were sent."""
    s = session(label, profile_a=profile_a, profile_b=profile_b)
    s.epochs[0].skip(counts[0])
    for e, count in enumerate(counts[1:], 1):
        s.step(RATCHETS[e]).skip(count)
    return s


def next_step(s, **wrong):
    return s.step(RATCHETS[len(s.epochs)], **wrong)


def case_for(name, path, about, s, received=None):
    """A case whose recipient is that end of the session, as it is now."""
    peer = {"alice": "bob", "bob": "alice"}[name]
    state = state_lines(s, "initiator" if name == "alice" else "responder", received)
    return Case(path, about, state, recipient=name, sender=peer, pinned=peer + "-ik")


def sealed(s, label, **how):
    """A message that is on its way, and what it says."""
    sent = message(label)
    return s.seal(plaintext(*sent), **how), sent


def flip(data, offset):
    changed = bytearray(data)
    changed[offset] ^= 1
    return bytes(changed)


def opening():
    for prefix, tail, profile in [("", "", 0), ("light-", " In the profile light.", 1)]:
        k = 1 - profile  # the operation that unwraps k
        both = {"profile_a": profile, "profile_b": profile}

        path = f"step/{prefix}first-answer"
        s = at(path, 1, **both)
        about = "The first answer, with its STEP: in two messages, and in the third no more." + tail
        c = case_for("alice", path, about, s)
        next_step(s)
        c.opens(s, message("1"), 1 + k)
        c.opens(s, message("2"), k)
        c.opens(s, message("3"), k, bare=True)
        c.done()

        path = f"step/{prefix}prior-skipped"
        s = at(path, 2, 1, **both)
        about = "Three messages of the former chain come after the step, which says that it has five." + tail
        c = case_for("bob", path, about, s)
        late = [sealed(s, str(i), e=0, bare=True) for i in (2, 3, 4)]
        next_step(s)
        c.opens(s, message("new"), 1 + k)
        for i in (2, 0, 1):
            c.opened(*late[i], k)
        c.opens(s, message("newer"), k, bare=True)
        c.done()

        path = f"step/{prefix}out-of-order"
        s = at(path, 2, 1, 1, **both)
        about = "Of a new epoch the third message comes first, then the first, then the second." + tail
        c = case_for("alice", path, about, s)
        next_step(s)
        made = [sealed(s, str(i)) for i in range(3)]
        for i, operations in [(2, 1 + k), (0, k), (1, k)]:
            c.opened(*made[i], operations)
        c.done()

    path = "step/last-number"
    s = at(path, 2, 1)
    c = case_for("bob", path, "A new epoch's number 999, with all before it missing; one of them comes later.", s)
    next_step(s)
    early = sealed(s, "0")
    s.epochs[2].skip(998)
    c.opens(s, message("999"), 2)
    c.opened(*early, 1)
    c.done()

    path = "step/prior-1000"
    s = at(path, 0, 1)
    c = case_for("bob", path, "The former chain was full, and only its last message comes.", s)
    s.epochs[0].skip(999)
    late = sealed(s, "999", e=0, bare=True)
    next_step(s)
    c.opens(s, message("new"), 2)
    c.opened(*late, 1)
    c.done()

    path = "step/prior-below"
    s = at(path, 3, 1)
    c = case_for("bob", path, "pn says that the former chain has one message, and three came: nothing is kept.", s)
    next_step(s)
    c.opens(s, message("1"), 2, pn=1)
    c.done()

    path = "step/again"
    s = at(path, 2, 1)
    c = case_for("bob", path, "An envelope with a STEP that comes twice has the same receipt.", s)
    next_step(s)
    c.again(c.opens(s, message("1"), 2))
    c.done()

    path = "step/former-chain"
    s = at(path, 1, 1, 1)
    c = case_for("alice", path, "The peer has not seen the recipient's step and goes on in its chain, then steps.", s)
    c.opens(s, message("1"), 1, e=1)
    c.opens(s, message("2"), 1, e=1, bare=True)
    next_step(s)
    c.opens(s, message("3"), 2)
    c.done()

    path = "step/on-turn"
    s = at(path, 1, 1, 1)
    c = case_for("bob", path, "The recipient is on turn, and the chain goes on: its second message, fourth, third.", s)
    made = [sealed(s, str(i), bare=True) for i in range(3)]
    for i in (0, 2, 1):
        c.opened(*made[i], 1)
    c.done()

    path = "step/preamble-unread"
    s = at(path, 1, 1)
    c = case_for("bob", path, "The STEP of a known epoch is not looked at: zeros that the tag covers are as good.", s)
    step = next_step(s)
    c.opens(s, message("1"), 2)
    step.preamble = bytes(544)
    c.opens(s, message("2"), 1)
    c.done()

    path = "step/mixed-strict"
    s = at(path, 1, 1, profile_a=1)
    c = case_for("bob", path, "The recipient is strict, its peer light.", s)
    next_step(s)
    c.opens(s, message("1"), 2)
    c.done()

    path = "step/mixed-light"
    s = at(path, 1, profile_a=1)
    c = case_for("alice", path, "The recipient is light, its peer strict.", s)
    next_step(s)
    c.opens(s, message("1"), 1)
    c.done()


def rejecting():
    def one(name, about, reason, operations=0, *, counts=(1, 1), end="bob", profile=0, steps=True, wrong={},
            change=None, make=None, **how):
        """One envelope in a new epoch, which breaks one rule: in the step, after it, or in the message."""
        path = "reject/step-" + name
        s = at(path, *counts, profile_a=profile, profile_b=profile)
        c = case_for(end, path, about, s)
        if steps:
            next_step(s, **wrong)
        if change:
            s.epochs[-1].preamble = change(s.epochs[-1].preamble)
        c.rejects(make(s) if make else sealed(s, path, **how)[0].envelope, reason, operations)
        c.done()

    # Bounds: each envelope is authentic but for the one thing.
    one("pn-1001", "A former chain of 1,001 messages.", "Malformed", pn=1001)
    one("pn-epoch-1", "A former chain's length in epoch 1.", "Malformed", counts=(1,), end="alice", pn=1)
    one("length", "A STEP of 543 bytes.", "Malformed", change=lambda step: step[:-1])
    one("bare-with-step", "Type 1, and a STEP.", "Malformed", type=1)
    one("without-preamble", "Type 3, and no STEP.", "Malformed", type=3, bare=True)
    one("no-ek", "No wrapped key, and the recipient is strict.", "Malformed", ek=b"")
    one("light-ek", "A wrapped key, and the recipient is light.", "Malformed", profile=1,
        make=lambda s: sealed(s, "ek", profile=0)[0].envelope)

    # Epochs.
    one("bare", "A new epoch, and no STEP.", "WrongEpoch", bare=True)
    one("own-epoch", "A message of the epoch that is the recipient's own.", "WrongEpoch", steps=False, bare=True)
    one("own-turn", "A STEP to the epoch that is the recipient's to open.", "WrongEpoch", counts=(1, 1, 1))
    one("epoch-ahead", "A STEP to the peer's next epoch but one.", "WrongEpoch",
        make=lambda s: [next_step(s) for _ in range(2)] and sealed(s, "ahead")[0].envelope)
    one("epoch-far", "The highest epoch there is.", "WrongEpoch", epoch=0xFFFFFFFE)

    # STEP is authentic or nothing is decrypted.
    one("auth", "One bit of auth is changed.", "BadStep", change=lambda step: flip(step, -1))
    one("c", "One bit of c is changed.", "BadStep", change=lambda step: flip(step, 511))
    one("ratchet", "One bit of N(R_new) is changed.", "BadStep", change=lambda step: flip(step, 100))
    one("th", "The STEP was made for another session.", "BadStep", wrong={"th": sha256(b"another")})
    one("r-peer", "The STEP is wrapped to the key that the recipient announced two epochs before.", "BadStep",
        counts=(1, 1, 1, 1), wrong={"r_peer": RATCHETS[1]})
    one("modulus-even", "N(R_new) is even, and auth right.", "BadStep",
        wrong={"n_r": RATCHETS[2].modulus[:-1] + b"\0"})
    one("modulus-small", "N(R_new) has not its top bit, and auth is right.", "BadStep",
        wrong={"n_r": b"\x7f" + RATCHETS[2].modulus[1:]})
    one("tag", "The STEP is right, and one bit of the tag is not.", "BadTag", 1,
        make=lambda s: flip(sealed(s, "tag")[0].envelope, -1))
    one("light-tag", "The STEP is right, and one bit of the tag is not, in the profile light.", "BadTag", 1, profile=1,
        make=lambda s: flip(sealed(s, "tag")[0].envelope, -1))

    path = "reject/step-unknown-session"
    s = at(path, 1, 1)
    next_step(s)
    c = Case(path, "A STEP, and no session.")
    c.rejects(sealed(s, "1")[0].envelope, "UnknownSession")
    c.done()

    path = "reject/step-then-open"
    s = at(path, 1, 1)
    c = case_for("bob", path, "Forgeries change nothing: STEP is not decrypted again, and the true one opens.", s)
    step = next_step(s)
    m, sent = sealed(s, "1")
    true = step.preamble
    step.preamble = flip(true, -1)
    c.rejects(sealed(s, "2")[0].envelope, "BadStep")
    c.rejects(flip(m.envelope, -1), "BadTag", 1)
    c.rejects(flip(m.envelope, 60 + 544), "BadTag")
    c.opened(m, sent, 1)
    c.done()

    path = "reject/step-preamble"
    s = at(path, 1, 1)
    c = case_for("bob", path, "The STEP of a known epoch is not looked at, but the tag covers it.", s)
    next_step(s)
    c.opens(s, message("1"), 2)
    m, sent = sealed(s, "2")
    c.rejects(flip(m.envelope, 100), "BadTag")
    c.opened(m, sent, 1)
    c.done()

    path = "reject/step-replayed"
    s = at(path, 1)
    first = next_step(s).preamble
    s.epochs[1].skip()
    next_step(s).skip()
    c = case_for("alice", path, "The STEP of the peer's former epoch, in an epoch that it does not open.", s)
    next_step(s).preamble = first
    c.rejects(sealed(s, "1")[0].envelope, "BadStep")
    c.done()

    path = "reject/step-number-used"
    s = at(path, 1, 1)
    before = sealed(s, "1", e=0, bare=True)[0]
    c = case_for("bob", path, "Numbers of the former epoch that were used: before the state, and in this file.", s)
    twin = copy.deepcopy(s)
    late = sealed(s, "2", e=0, bare=True)
    next_step(s)
    c.opens(s, message("3"), 2)
    c.opened(*late, 1)
    c.rejects(sealed(twin, "4", e=0, bare=True)[0].envelope, "NumberUsed")
    c.rejects(before.envelope, "NumberUsed")
    c.done()

    path = "reject/step-beyond-prior"
    s = at(path, 2, 1)
    c = case_for("bob", path, "pn says that the former chain has three messages: the third opens, and no fourth.", s)
    late = [sealed(s, "2", e=0, bare=True), sealed(s, "3", e=0, bare=True)]
    next_step(s)
    c.opens(s, message("4"), 2, pn=3)
    c.rejects(late[1][0].envelope, "NumberUsed")
    c.opened(*late[0], 1)
    c.done()

    path = "reject/step-prior-below"
    s = at(path, 2, 1)
    c = case_for("bob", path, "pn says that the former chain has one message, but two came; there is no third.", s)
    late = sealed(s, "2", e=0, bare=True)
    next_step(s)
    c.opens(s, message("3"), 2, pn=1)
    c.rejects(late[0].envelope, "NumberUsed")
    c.done()

    path = "reject/step-padding"
    s = at(path, 2, 1)
    c = case_for("bob", path, "An epoch's first message has no PKCS #7: its number is used, and the epoch stands.", s)
    late = sealed(s, "2", e=0, bare=True)
    next_step(s)
    c.rejects(sealed(s, "3", padded=bytes(128))[0].envelope, "BadPlaintext", 2)
    c.opens(s, message("4"), 1, bare=True)
    c.opened(*late, 1)
    c.done()

    for name, about, operations, wrong in [
        ("c-garbage", "auth is right, and c no OAEP ciphertext: the session is erased.", 1, {"c": u(1, 256)}),
        ("c-too-large", "auth is right, and c not below the modulus: the session is erased.", 1, {"c": b"\xff" * 256}),
        ("k", "STEP is right, and the wrapped key no OAEP ciphertext: the session is erased.", 2, {}),
    ]:
        path = "reject/step-" + name
        s = at(path, 2, 1)
        c = case_for("bob", path, about, s)
        bad = copy.deepcopy(s)
        next_step(bad, **wrong)
        bad_envelope = sealed(bad, "1", **({} if wrong else {"ek": u(1, 256)}))[0].envelope
        former = sealed(s, "2", e=0, bare=True)[0].envelope
        next_step(s)
        c.rejects(bad_envelope, "BadWrappedKey", operations)
        c.rejects(sealed(s, "3")[0].envelope, "UnknownSession")
        c.rejects(former, "UnknownSession")
        c.done()


def stepping():
    transcript("transcript/strict", "A conversation over five epochs, both ends strict.", 0, 0)
    transcript("transcript/light", "A conversation over five epochs, both ends light.", 1, 1)
    transcript("transcript/mixed", "Five epochs, the initiator strict and the responder light.", 0, 1)
    opening()
    rejecting()
