"""Verify webhooks with nothing but Python's standard library (3.9 or newer).

Copy the functions above the line; below it is a command that tries them on recorded requests.

The body must be the bytes that came: request.get_data() in Flask, request.body in Django. Headers
are a dict whose names are in lower case. Each function returns, or raises Refused: answer 401 then,
and keep the reason to yourself.
"""

import base64
import binascii
import hashlib
import hmac
import re
import time
from urllib.parse import urlsplit

TOLERANCE = 300  # seconds, either way


class Refused(Exception):
    """The request is not genuine, or not of this time."""


def _decode(text):
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def verify_standard(headers, body, keys, now=None):
    """Standard Webhooks. Keys are those in force: "whsec_..." (v1) or "whpk_..." (v1a)."""
    now = time.time() if now is None else now
    try:
        msg_id, stamp, entries = (headers["webhook-" + name] for name in ("id", "timestamp", "signature"))
    except KeyError as missing:
        raise Refused("a header is missing") from missing
    if not re.fullmatch("[0-9]{1,15}", stamp) or abs(now - int(stamp)) > TOLERANCE:
        raise Refused("the time is not now")
    content = f"{msg_id}.{stamp}.".encode() + body
    for entry in entries.split(" "):
        version, _, text = entry.partition(",")
        signature = _decode(text)
        for key in keys:
            raw = _decode(key.partition("_")[2])
            if version == "v1" and key.startswith("whsec_"):
                if hmac.compare_digest(signature, hmac.digest(raw, content, "sha256")):
                    return msg_id
            elif version == "v1a" and key.startswith("whpk_") and ed25519_verifies(raw, content, signature):
                return msg_id
    raise Refused("no signature matches")


def verify_jewelmusic(headers, body, secrets):
    """JewelMusic. Secrets are the texts in force. The signature does not cover the time."""
    given = headers.get("x-jewelmusic-signature", "").encode()
    for secret in secrets:
        if hmac.compare_digest(given, b"sha256=" + hmac.new(secret.encode(), body, "sha256").hexdigest().encode()):
            return
    raise Refused("no signature matches")


_LABEL = r"[a-z*][a-z0-9_.*-]*"
_PARAM = rf'({_LABEL})=(?:"((?:[^"\\]|\\.)*)"|(-?[0-9]+))'
_INPUT = re.compile(rf'({_LABEL})=(\(((?:"[^"\\]+"(?: "[^"\\]+")*)?)\)((?:;{_PARAM})*))(?=\s*,|$)')


def verify_message(method, url, headers, body, keys, now=None):
    """An HTTP message signature (RFC 9421) by Ed25519 or ECDSA.

    The URL is the one that is registered, with the query that came; keys are a dict of keyid to the
    base64 of the public key's SubjectPublicKeyInfo, as the signing-key API gives it.
    """
    now = time.time() if now is None else now
    for found in _INPUT.finditer(headers.get("signature-input", "")):
        label, params, components, rest = found.group(1, 2, 3, 4)
        names = [name[1:-1] for name in components.split(" ") if name]
        given = {name: int(number) if number else text for name, text, number in re.findall(";" + _PARAM, rest)}
        signature = re.search(rf"(?:^|,)\s*{re.escape(label)}=:([A-Za-z0-9+/=]*):", headers.get("signature", ""))
        key = keys.get(given.get("keyid"))
        if not signature or not key or given.get("tag") != "webhook":
            continue  # of somebody else
        algorithm, verifies = public_key(_decode(key))
        if given.get("alg", algorithm) != algorithm:
            raise Refused("the algorithm is not the key's")
        created, expires = (given.get(name) for name in ("created", "expires"))
        if not (isinstance(created, int) and isinstance(expires, int) and now - TOLERANCE <= created <= now + 60 and expires > now):
            raise Refused("the time is not now")
        if not ({"@method", "@target-uri"} <= set(names) or {"@method", "@authority", "@path", "@query"} <= set(names)):
            raise Refused("the URL is not covered")
        if body and "content-digest" not in names:
            raise Refused("the body is not covered")
        if len(set(names)) != len(names):
            raise Refused("a component is there twice")
        base = "".join(f'"{name}": {_component(name, method, url, headers)}\n' for name in names)
        if not verifies((base + f'"@signature-params": {params}').encode("latin-1"), _decode(signature.group(1))):
            raise Refused("no signature matches")
        digest = "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode() + ":"
        if "content-digest" in names and headers.get("content-digest") != digest:
            raise Refused("the body is another")
        return headers.get("webhook-id") if "webhook-id" in names else None
    raise Refused("no signature by a known key")


def _component(name, method, url, headers):
    parts = urlsplit(url)
    derived = {
        "@method": method,
        "@target-uri": url,
        "@authority": parts.netloc.lower(),
        "@path": parts.path or "/",
        "@query": "?" + parts.query,
    }
    value = derived.get(name) if name.startswith("@") else headers.get(name)
    if value is None:
        raise Refused(f"{name} is missing")
    return value.strip()


# Python's standard library has no public-key signatures, and verifying needs no secret: what follows
# is the arithmetic of RFC 8032 (section 6) and of FIPS 186-5. It takes some milliseconds. With the
# package `cryptography` at hand, use that.

_P = 2**255 - 19
_Q = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_I = pow(2, (_P - 1) // 4, _P)


def _add(a, b):
    s = (a[1] - a[0]) * (b[1] - b[0]) % _P
    t = (a[1] + a[0]) * (b[1] + b[0]) % _P
    u = 2 * a[3] * b[3] * _D % _P
    v = 2 * a[2] * b[2] % _P
    e, f, g, h = t - s, v - u, v + u, t + s
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _multiply(n, point):
    result = (0, 1, 1, 0)
    while n:
        if n & 1:
            result = _add(result, point)
        point, n = _add(point, point), n >> 1
    return result


def _point(raw):
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= _P:
        return None
    x2 = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(x2, (_P + 3) // 8, _P)
    if (x * x - x2) % _P:
        x = x * _I % _P
    if (x * x - x2) % _P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


_BASE = _point((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))


def ed25519_verifies(public, message, signature):
    """Says whether an Ed25519 signature over a message is by the key, 32 bytes."""
    if len(public) != 32 or len(signature) != 64:
        return False
    a, r, s = _point(public), _point(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= _Q:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % _Q
    left, right = _multiply(s, _BASE), _add(r, _multiply(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % _P == 0 and (left[1] * right[2] - right[1] * left[2]) % _P == 0


# p, b, order, and the base point of the curves; a is -3.
_P256 = (
    0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF,
    0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_P384 = (
    0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFFFF0000000000000000FFFFFFFF,
    0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
    0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
    0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F,
)


def _curve_add(p, a, b):
    if a is None or b is None:
        return b if a is None else a
    if a[0] == b[0]:
        if (a[1] + b[1]) % p == 0:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, p)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, p)
    x = (slope * slope - a[0] - b[0]) % p
    return x, (slope * (a[0] - x) - a[1]) % p


def _curve_multiply(p, n, point):
    result = None
    while n:
        if n & 1:
            result = _curve_add(p, result, point)
        point, n = _curve_add(p, point, point), n >> 1
    return result


def ecdsa_verifies(curve, algorithm, point, message, signature):
    """Says whether an ECDSA signature (r and s side by side) over a message is by the key."""
    p, b, order, gx, gy = curve
    size = (p.bit_length() + 7) // 8
    x, y = int.from_bytes(point[:size], "big"), int.from_bytes(point[size:], "big")
    if len(point) != 2 * size or len(signature) != 2 * size or x >= p or y >= p or (x**3 - 3 * x + b - y * y) % p:
        return False
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    if not (0 < r < order and 0 < s < order):
        return False
    e = int.from_bytes(hashlib.new(algorithm, message).digest(), "big")
    w = pow(s, -1, order)
    found = _curve_add(p, _curve_multiply(p, e * w % order, (gx, gy)), _curve_multiply(p, r * w % order, (x, y)))
    return found is not None and found[0] % order == r


def public_key(spki):
    """The algorithm of a SubjectPublicKeyInfo, and the function that verifies with it."""
    for prefix, algorithm, verifies in (
        ("302a300506032b6570032100", "ed25519", ed25519_verifies),
        (
            "3059301306072a8648ce3d020106082a8648ce3d03010703420004",
            "ecdsa-p256-sha256",
            lambda point, message, signature: ecdsa_verifies(_P256, "sha256", point, message, signature),
        ),
        (
            "3076301006072a8648ce3d020106052b8104002203620004",
            "ecdsa-p384-sha384",
            lambda point, message, signature: ecdsa_verifies(_P384, "sha384", point, message, signature),
        ),
    ):
        if spki.startswith(bytes.fromhex(prefix)):
            point = spki[len(prefix) // 2 :]
            return algorithm, lambda message, signature: verifies(point, message, signature)
    raise Refused("the key is of an unknown kind")


# ---------------------------------------------------------------------------------------------
# python3 verify.py standard|jewelmusic|message FILE...   Each file is a request as it was recorded:
# request line, headers, an empty line, body. WEBHOOK_KEYS holds the secrets or keys, separated by
# spaces (for message: keyid=base64 each), WEBHOOK_ORIGIN the beginning of the registered URL, and
# WEBHOOK_NOW the time to judge by, for recordings.
def main(form, *files):
    import os

    keys = os.environ.get("WEBHOOK_KEYS", "").split(" ")
    now = float(os.environ.get("WEBHOOK_NOW", time.time()))
    failed = 0
    for file in files:
        with open(file, "rb") as f:
            head, _, body = f.read().partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip()
            headers[name] = headers[name] + ", " + value if name in headers else value
        method, path = first.split(" ")[:2]
        try:
            if form == "standard":
                verify_standard(headers, body, keys, now)
            elif form == "jewelmusic":
                verify_jewelmusic(headers, body, keys)
            else:
                known = dict(key.split("=", 1) for key in keys)
                verify_message(method, os.environ.get("WEBHOOK_ORIGIN", "") + path, headers, body, known, now)
            print(f"{file}: genuine")
        except Refused as reason:
            print(f"{file}: refused: {reason}")
            failed = 1
    return failed


if __name__ == "__main__":
    import sys

    sys.exit(main(*sys.argv[1:]))
