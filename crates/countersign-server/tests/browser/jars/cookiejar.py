"""Python's http.cookiejar reads `Set-Cookie` fields and says what it would send. JSON in, JSON out."""

import email.message
import http.cookiejar
import json
import sys
import urllib.request

REFERENCE = "reference"
REFERENCE_LIVES = 100_000


class Answer:
    def __init__(self, fields):
        self.message = email.message.Message()
        for field in fields:
            self.message["Set-Cookie"] = field

    def info(self):
        return self.message


def kept(jar):
    return {f"{cookie.name} {cookie.path}": cookie.expires for cookie in jar if cookie.name != REFERENCE}


def seen(case):
    jar = http.cookiejar.CookieJar()
    jar.extract_cookies(Answer(case["set"]), urllib.request.Request(case["url"]))
    end = next(cookie.expires for cookie in jar if cookie.name == REFERENCE)
    lives = {
        name: None if expires is None else expires - end + REFERENCE_LIVES for name, expires in kept(jar).items()
    }
    sent = {}
    for probe in case["probes"]:
        request = urllib.request.Request(probe["url"])
        jar.add_cookie_header(request)
        pairs = (request.get_header("Cookie") or "").split("; ")
        sent[probe["name"]] = [pair for pair in pairs if pair and not pair.startswith(REFERENCE + "=")]
    jar.extract_cookies(Answer(case["removal"]), urllib.request.Request(case["url"]))
    return {"sent": sent, "lives": lives, "left": list(kept(jar))}


json.dump([seen(case) for case in json.load(sys.stdin)], sys.stdout)
