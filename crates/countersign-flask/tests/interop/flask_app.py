"""A Flask application with the real Flask-JWT-Extended, driven by lines of JSON.

The first line is its configuration, to which `{"generate": "RS256"}` adds a new key pair. Each further line is a
command, answered by a line.
"""
import json
import sys

import flask
import flask_jwt_extended as fje


def main():
    start = json.loads(sys.stdin.readline())
    keys = key_pair(start["generate"]) if start.get("generate") else {}
    app = flask.Flask("interop")
    app.config.update(start["config"], **keys)
    revoked = set()
    jwt = fje.JWTManager(app)
    jwt.token_in_blocklist_loader(lambda header, claims: claims["jti"] in revoked)
    app.add_url_rule("/me", "me", me, methods=["GET", "POST"])
    app.add_url_rule("/refresh", "refresh", refresh, methods=["POST"])
    app.add_url_rule("/login/<identity>", "login", login, methods=["POST"])
    client = app.test_client(use_cookies=False)
    say(keys)
    for line in sys.stdin:
        command = json.loads(line)
        if "revoke" in command:
            revoked.add(command["revoke"])
            say({})
        else:
            answer = client.open(command["path"], method=command["method"], headers=command.get("headers", []))
            say({
                "status": answer.status_code,
                "json": answer.get_json(silent=True),
                "set_cookies": answer.headers.getlist("Set-Cookie"),
            })


@fje.jwt_required()
def me():
    return {"identity": fje.get_jwt_identity(), "claims": fje.get_jwt(), "location": fje.get_jwt_request_location()}


@fje.jwt_required(refresh=True)
def refresh():
    return {"access_token": fje.create_access_token(fje.get_jwt_identity())}


def login(identity):
    access = fje.create_access_token(identity, fresh=True, additional_claims={"team": 7})
    renewing = fje.create_refresh_token(identity)
    response = flask.jsonify(access_token=access, refresh_token=renewing)
    fje.set_access_cookies(response, access)
    fje.set_refresh_cookies(response, renewing)
    return response


def key_pair(algorithm):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    private = {
        "RS256": lambda: rsa.generate_private_key(65537, 2048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }[algorithm]()
    pem = serialization.Encoding.PEM
    return {
        "JWT_PRIVATE_KEY": private.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        "JWT_PUBLIC_KEY": private.public_key()
        .public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    }


def say(answer):
    print(json.dumps(answer), flush=True)


main()
