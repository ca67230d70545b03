"""A mail server (aiosmtpd) that misbehaves as it is told.

  mail_server.py starttls|implicit|none CERTIFICATE KEY

It listens on a free port of 127.0.0.1. Each line on stdin is an order as a JSON object, and is confirmed on stdout when it
is carried out; what happens in between is told there too, one JSON object a line:

  {"do": "listen"} and {"do": "close"}, which ends all connections too
  {"do": "flush"}                       nothing, so that everything before has been told
  {"behave": {…}}                       replaces how it behaves from now on; {} is good behaviour:
      "starttls": "missing"             does not offer STARTTLS
      "starttls": "inject"              answers STARTTLS, and more behind it in the clear
      "utf8": false                     does not offer SMTPUTF8
      "mail", "rcpt", "data": "550 …"   answers this; "hang" never answers; "drop" ends the connection
      "greeting": "hang" or "drop"
"""
import asyncio
import email
import email.policy
import json
import logging
import ssl
import sys
import warnings

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

# What goes wrong here goes wrong on purpose.
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")

MODE, CERTIFICATE, KEY = sys.argv[1:]
USER, PASSWORD = b"mailer@example.com", "p@ss: \u00e4".encode()


def tell(**event):
    print(json.dumps(event), flush=True)


class Server:
    def __init__(self):
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.tls.load_cert_chain(CERTIFICATE, KEY)
        self.behaviour = {}
        self.listener = None
        self.port = 0
        self.connections = set()
        self.count = 0

    def connection(self):
        self.count += 1
        starttls = MODE == "starttls" and self.behaviour.get("starttls") != "missing"
        return Connection(
            self,
            self.count,
            hostname="mail.test",
            tls_context=self.tls if starttls else None,
            enable_SMTPUTF8=self.behaviour.get("utf8", True),
            auth_required=MODE != "none",
            auth_require_tls=MODE == "starttls",
            authenticator=self.authenticate,
        )

    def authenticate(self, server, session, envelope, mechanism, data):
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (USER, PASSWORD)
        tell(login=mechanism, good=good, tls=session.ssl is not None)
        return AuthResult(success=good, handled=False)

    async def listen(self):
        tls = self.tls if MODE == "implicit" else None
        loop = asyncio.get_running_loop()
        self.listener = await loop.create_server(self.connection, "127.0.0.1", self.port, ssl=tls, reuse_address=True)
        self.port = self.listener.sockets[0].getsockname()[1]

    def close(self):
        self.listener.close()
        for connection in list(self.connections):
            connection.drop()

    async def misbehave(self, connection, stage):
        """What is said at a stage instead of the usual, if it is said at all."""
        what = self.behaviour.get(stage)
        if what == "hang":
            tell(hangs=stage)
            await asyncio.get_running_loop().create_future()
        if what == "drop":
            connection.drop()
            await asyncio.get_running_loop().create_future()
        return what

    async def handle_MAIL(self, connection, session, envelope, address, options):
        envelope.mail_from, envelope.mail_options = address, options
        reply = await self.misbehave(connection, "mail")
        if reply:
            envelope.mail_from = None
        return reply or "250 OK"

    async def handle_RCPT(self, connection, session, envelope, address, options):
        reply = await self.misbehave(connection, "rcpt")
        if not reply:
            envelope.rcpt_tos.append(address)
        return reply or "250 OK"

    async def handle_DATA(self, connection, session, envelope):
        reply = await self.misbehave(connection, "data")
        if reply:
            return reply
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        parts = message.walk() if message.is_multipart() else [message]
        tell(
            message=dict(
                connection=connection.number,
                hello=session.host_name,
                tls=session.ssl is not None,
                sender=envelope.mail_from,
                options=envelope.mail_options,
                recipients=envelope.rcpt_tos,
                headers={name.lower(): str(value) for name, value in message.items()},
                names=message.keys(),
                parts={part.get_content_type(): part.get_content().replace("\r\n", "\n") for part in parts if not part.is_multipart()},
                defects=[str(defect) for part in message.walk() for defect in part.defects],
            )
        )
        return "250 OK"


class Connection(SMTP):
    def __init__(self, owner, number, **options):
        self.owner, self.number = owner, number
        super().__init__(owner, **options)

    def connection_made(self, transport):
        super().connection_made(transport)
        self.owner.connections.add(self)

    def connection_lost(self, error):
        self.owner.connections.discard(self)
        super().connection_lost(error)

    def drop(self):
        (self._original_transport or self.transport).abort()

    async def _handle_client(self):
        if not self.session.ssl:
            await self.owner.misbehave(self, "greeting")
        await super()._handle_client()

    async def smtp_STARTTLS(self, arg):
        if self.owner.behaviour.get("starttls") == "inject":
            self._writer.write(b"220 go on\r\n250-mail.test\r\n250 AUTH PLAIN\r\n")
            await asyncio.get_running_loop().create_future()
        await super().smtp_STARTTLS(arg)


async def main():
    server = Server()
    await server.listen()
    tell(port=server.port)
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while line := await stdin.readline():
        order = json.loads(line)
        if "behave" in order:
            server.behaviour = order["behave"]
        elif order["do"] == "listen":
            await server.listen()
        elif order["do"] == "close":
            server.close()
        tell(done=order)


asyncio.run(main())
