"""Password hashes by the libraries that users come from: werkzeug, Flask-Bcrypt, Django, passlib and argon2-cffi.

  python libraries.py make            writes hashes of some passwords, as JSON
  python libraries.py verify          reads [{"password", "hash"}] and writes which libraries accept each

The costs are low, because the hashes are for tests. `hashes.json` beside this file is what `make` once wrote.
"""
import json
import sys

import argon2
import bcrypt
import django
from argon2.low_level import Type, hash_secret
from django.conf import settings
from flask import Flask
from flask_bcrypt import Bcrypt
from passlib import hash as passlib
from werkzeug.security import generate_password_hash

settings.configure(PASSWORD_HASHERS=["django.contrib.auth.hashers.Argon2PasswordHasher"])
django.setup()

from django.contrib.auth import hashers  # noqa: E402, it needs the settings

PASSWORDS = [
    "short",
    "correct horse battery staple",
    "trailing space ",
    " leading space",
    "pässwörd ünïcödé 日本語 😀",
    "cafe\u0301 noir",
    "nul\0inside",
    "x" * 71 + "y",
    "x" * 72 + "z",
    "é" * 100,
    "",
]


class Argon2(hashers.Argon2PasswordHasher):
    time_cost, memory_cost, parallelism = 1, 64, 2


class BCrypt(hashers.BCryptPasswordHasher):
    rounds = 4


class BCryptSHA256(hashers.BCryptSHA256PasswordHasher):
    rounds = 4


def flask_bcrypt(long):
    app = Flask(__name__)
    app.config.update(BCRYPT_LOG_ROUNDS=4, BCRYPT_HANDLE_LONG_PASSWORDS=long)
    return Bcrypt(app)


def django_hash(hasher, password, **costs):
    return hasher.encode(password, hasher.salt(), **costs)


def argon2_cffi(password, kind, version):
    salt = b"sixteen bytes of"
    return hash_secret(password.encode(), salt, 2, 64, 1, 32, kind, version).decode()


MAKERS = [
    ("werkzeug scrypt", lambda p: generate_password_hash(p, "scrypt:1024:8:1")),
    ("werkzeug scrypt, other costs", lambda p: generate_password_hash(p, "scrypt:16:4:3")),
    ("werkzeug pbkdf2 sha256", lambda p: generate_password_hash(p, "pbkdf2:sha256:1000")),
    ("werkzeug pbkdf2 sha512", lambda p: generate_password_hash(p, "pbkdf2:sha512:1000")),
    ("werkzeug pbkdf2 sha1", lambda p: generate_password_hash(p, "pbkdf2:sha1:1000")),
    ("Flask-Bcrypt 2b", lambda p: flask_bcrypt(False).generate_password_hash(p).decode()),
    ("Flask-Bcrypt 2a", lambda p: flask_bcrypt(False).generate_password_hash(p, prefix="2a").decode()),
    ("bcrypt 2y", lambda p: bcrypt.hashpw(p.encode(), bcrypt.gensalt(4).replace(b"$2b", b"$2y")).decode()),
    ("Flask-Bcrypt, long passwords", lambda p: flask_bcrypt(True).generate_password_hash(p).decode()),
    ("Django pbkdf2_sha256", lambda p: django_hash(hashers.PBKDF2PasswordHasher(), p, iterations=1000)),
    ("Django pbkdf2_sha1", lambda p: django_hash(hashers.PBKDF2SHA1PasswordHasher(), p, iterations=1000)),
    ("Django scrypt", lambda p: django_hash(hashers.ScryptPasswordHasher(), p, n=1024)),
    ("Django argon2", lambda p: django_hash(Argon2(), p)),
    ("Django bcrypt_sha256", lambda p: django_hash(BCryptSHA256(), p)),
    ("Django bcrypt", lambda p: django_hash(BCrypt(), p)),
    ("passlib pbkdf2_sha1", passlib.pbkdf2_sha1.using(rounds=1000).hash),
    ("passlib pbkdf2_sha256", passlib.pbkdf2_sha256.using(rounds=1000).hash),
    ("passlib pbkdf2_sha512", passlib.pbkdf2_sha512.using(rounds=1000).hash),
    ("passlib scrypt", passlib.scrypt.using(rounds=8, block_size=8, parallelism=2).hash),
    ("passlib bcrypt", passlib.bcrypt.using(rounds=4).hash),
    ("passlib bcrypt_sha256, version 1", passlib.bcrypt_sha256.using(rounds=4, version=1).hash),
    ("passlib bcrypt_sha256, version 2", passlib.bcrypt_sha256.using(rounds=4).hash),
    ("passlib argon2", lambda p: passlib.argon2.using(rounds=1, memory_cost=64, parallelism=1).hash(p)),
    ("argon2-cffi id 19", lambda p: argon2_cffi(p, Type.ID, 19)),
    ("argon2-cffi i 19", lambda p: argon2_cffi(p, Type.I, 19)),
    ("argon2-cffi d 19", lambda p: argon2_cffi(p, Type.D, 19)),
    ("argon2-cffi i 16", lambda p: argon2_cffi(p, Type.I, 16)),
    ("argon2-cffi i from before versions", lambda p: argon2_cffi(p, Type.I, 16).replace("$v=16", "")),
]


def make():
    made = []
    for form, maker in MAKERS:
        for password in PASSWORDS:
            try:
                made.append({"form": form, "password": password, "hash": maker(password)})
            except Exception as refused:  # libraries refuse some passwords, each with errors of its own
                made.append({"form": form, "password": password, "refused": type(refused).__name__})
    return made


def accepts(check):
    try:
        return bool(check())
    except argon2.exceptions.VerifyMismatchError:
        return False


def verify(given):
    hasher = hashers.Argon2PasswordHasher()
    return [
        {
            "argon2-cffi": accepts(lambda: argon2.PasswordHasher().verify(hash, password)),
            "passlib": accepts(lambda: passlib.argon2.verify(password, hash)),
            "Django": accepts(lambda: hasher.verify(password, "argon2" + hash)),
        }
        for password, hash in ((each["password"], each["hash"]) for each in given)
    ]


if sys.argv[1:] == ["make"]:
    json.dump(make(), sys.stdout, indent=1)
    sys.stdout.write("\n")
elif sys.argv[1:] == ["verify"]:
    json.dump(verify(json.load(sys.stdin)), sys.stdout)
else:
    sys.exit(__doc__)
