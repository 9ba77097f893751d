"""Storage services on the loopback address for the tests, and questions to them with another client than ours.

services.py s3                                 runs S3 and IAM that check every signature and policy
services.py webdav FOLDER USER PASSWORD        runs WebDAV
services.py ftp FOLDER USER PASSWORD CERTIFICATE  runs FTP; with the file of a certificate and its key, only by TLS,
                                               which with a further `implicit` begins with the first byte
services.py sftp FOLDER USER PASSWORD          runs SFTP, where keys do not open; prints its own key as well
services.py smtp FOLDER KIND USER PASSWORD CERTIFICATE PORT  runs SMTP (plain, starttls, tls) that keeps mails in a folder
services.py container URL ACCOUNT KEY NAME     makes a container of Azure Blob Storage
services.py ask URL KEY SECRET QUESTION ...    prints the answer, or the code of the refusal
A service prints one line of JSON once it can be reached, and ends with its standard input.
"""

import json
import os
import sys
import threading


def client(url, kind, key, secret):
    import boto3
    from botocore.config import Config

    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0})
    return boto3.client(
        kind,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=config,
    )


def sign_as_services_do():
    """The mock compares signatures over the query as it was sent; the services write it anew first."""
    from urllib.parse import parse_qsl, quote, urlencode
    from moto.iam.access_control import IAMRequestBase

    calculate = IAMRequestBase._calculate_signature

    def calculate_anew(request):
        path, _, query = request._path.partition("?")
        if query:
            pairs = parse_qsl(query, keep_blank_values=True)
            request._path = path + "?" + urlencode(pairs, quote_via=quote, safe="-_.~")
        return calculate(request)

    IAMRequestBase._calculate_signature = calculate_anew


def run_s3():
    os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "1000"
    import urllib.request
    from moto.server import ThreadedMotoServer

    sign_as_services_do()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://%s:%s" % server.get_host_and_port()
    iam = client(url, "iam", "nobody", "nothing")
    keys = {}
    # The one who may everything, and one who may only begin to make users.
    for user, actions in [("owner", "*"), ("half", ["iam:CreateUser", "iam:DeleteUser*", "iam:*AccessKey*"])]:
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
        iam.create_user(UserName=user)
        iam.put_user_policy(UserName=user, PolicyName="may", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=user)["AccessKey"]
        keys[user] = [key["AccessKeyId"], key["SecretAccessKey"]]
    client(url, "s3", "nobody", "nothing").create_bucket(Bucket="master")
    start = urllib.request.Request(url + "/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"})
    urllib.request.urlopen(start).read()
    return {"url": url, "keys": keys}


def run_webdav(folder, user, password):
    from cheroot import wsgi
    from wsgidav.wsgidav_app import WsgiDAVApp

    app = WsgiDAVApp(
        {
            "provider_mapping": {"/": folder},
            "simple_dc": {"user_mapping": {"*": {user: {"password": password}}}},
            "logging": {"enable": False},
            "verbose": 0,
        }
    )
    server = wsgi.Server(("127.0.0.1", 0), app)
    server.prepare()
    threading.Thread(target=server.serve, daemon=True).start()
    return {"url": "http://127.0.0.1:%d" % server.bind_addr[1]}


def run_sftp(folder, user, password):
    import asyncio
    import asyncssh

    class Server(asyncssh.SSHServer):
        def password_auth_supported(self):
            return True

        def validate_password(self, name, word):
            return (name, word) == (user, password)

    key = asyncssh.generate_private_key("ssh-ed25519")
    told = {}
    ready = threading.Event()

    async def serve():
        listening = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=Server,
            server_host_keys=[key],
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=folder.encode()),
        )
        told.update(url="sftp://127.0.0.1:%d" % listening.get_port(), key=key.export_public_key().decode().strip())
        ready.set()
        await listening.wait_closed()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait()
    return told


def run_ftp(folder, user, password, certificate, mode=""):
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
    from pyftpdlib.servers import ThreadedFTPServer

    class Handler(TLS_FTPHandler if certificate else FTPHandler):
        pass

    class Implicit(Handler):
        def handle(self):
            self.secure_connection(self.ssl_context)

        def handle_ssl_established(self):
            super().handle()

    if mode == "implicit":
        Handler = Implicit
    Handler.authorizer = DummyAuthorizer()
    Handler.authorizer.add_user(user, password, folder, perm="elradfmwMT")
    Handler.use_sendfile = False
    if certificate:
        Handler.certfile = certificate
        Handler.tls_control_required = Handler.tls_data_required = True
    server = ThreadedFTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return {"url": "ftp://127.0.0.1:%d" % server.address[1]}


def run_smtp(folder, kind, user, password, certificate, port):
    import asyncio
    import ssl
    import uuid
    from aiosmtpd.smtp import SMTP, AuthResult

    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

    class Handler:
        async def handle_DATA(self, server, session, envelope):
            # What a test wants to be answered first, one line a mail.
            answers = os.path.join(folder, "answers")
            if os.path.exists(answers):
                with open(answers) as file:
                    first, *rest = file.read().splitlines() or [""]
                os.remove(answers)
                if rest:
                    with open(answers, "w") as file:
                        file.write("\n".join(rest))
                if first:
                    return first
            mail = {
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "data": envelope.content.decode("utf-8", "replace"),
                "tls": kind == "tls" or session.ssl is not None,
                "user": session.auth_data.login.decode() if session.auth_data else None,
                "hello": session.host_name,
            }
            draft = os.path.join(folder, uuid.uuid4().hex)
            with open(draft, "w") as file:
                json.dump(mail, file)
            os.rename(draft, draft + ".json")
            return "250 taken"

    def authenticate(server, session, envelope, mechanism, data):
        good = data.login == user.encode() and data.password == password.encode()
        return AuthResult(success=good, handled=good, auth_data=data)

    loop = asyncio.new_event_loop()

    def connection():
        return SMTP(
            Handler(),
            hostname="mail.test",
            loop=loop,
            enable_SMTPUTF8=True,
            tls_context=context if kind == "starttls" else None,
            require_starttls=kind == "starttls",
            authenticator=authenticate,
            auth_required=bool(user),
            auth_require_tls=kind == "starttls",
        )

    made = loop.create_server(connection, "127.0.0.1", int(port), ssl=context if kind == "tls" else None)
    server = loop.run_until_complete(made)
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return {"url": "smtp://127.0.0.1:%d" % server.sockets[0].getsockname()[1]}


def container(url, account, key, name):
    import base64
    import hashlib
    import hmac
    import urllib.request
    from email.utils import formatdate

    # https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
    date, version = formatdate(usegmt=True), "2020-10-02"
    path = "/%s/%s" % (url.split("/", 3)[3], name)
    headers = "x-ms-date:%s\nx-ms-version:%s\n" % (date, version)
    text = "PUT" + "\n" * 12 + headers + "/%s%s\nrestype:container" % (account, path)
    signed = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
    request = urllib.request.Request(url + "/" + name + "?restype=container", method="PUT")
    request.add_header("x-ms-date", date)
    request.add_header("x-ms-version", version)
    request.add_header("Authorization", "SharedKey %s:%s" % (account, base64.b64encode(signed).decode()))
    return urllib.request.urlopen(request).status


def ask_versions(s3, question, bucket):
    """Questions about all versions of all objects of a bucket; the answer has an entry for each."""
    from botocore.exceptions import ClientError

    answer = {}
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for version in page.get("Versions", []):
            what = {"Bucket": bucket, "Key": version["Key"], "VersionId": version["VersionId"]}
            if question == "locks":
                head = s3.head_object(**what)
                until = head["ResponseMetadata"]["HTTPHeaders"].get("x-amz-object-lock-retain-until-date", "")
                told = [version["Key"], version["IsLatest"], until]
            elif question == "destroy":
                try:
                    s3.delete_object(**what)
                    told = "deleted"
                except ClientError as e:
                    told = e.response["Error"]["Code"]
            else:
                # As if the time of the lock had passed, which this service does not refuse to be told.
                passed = {"Mode": "COMPLIANCE", "RetainUntilDate": "2020-01-01T00:00:00Z"}
                s3.put_object_retention(Retention=passed, **what)
                told = "unlocked"
            answer[version["VersionId"]] = told
    return answer


def ask(url, key, secret, question, *more):
    from botocore.exceptions import ClientError

    iam, s3 = client(url, "iam", key, secret), client(url, "s3", key, secret)
    try:
        if question in ("locks", "destroy", "unlock"):
            return ask_versions(s3, question, *more)
        if question == "users":
            return [u["UserName"] for u in iam.list_users()["Users"]]
        if question == "buckets":
            return [b["Name"] for b in s3.list_buckets()["Buckets"]]
        if question == "objects":
            found = s3.list_objects_v2(Bucket=more[0], Prefix=more[1])
            return [o["Key"] for o in found.get("Contents", [])]
        if question == "lockable":
            s3.create_bucket(Bucket=more[0], ObjectLockEnabledForBucket=True)
            return "done"
        if question == "put":
            s3.put_object(Bucket=more[0], Key=more[1], Body=b"hello")
            return "done"
        raise SystemExit("no such question: " + question)
    except ClientError as e:
        return e.response["Error"]["Code"]


if sys.argv[1] == "ask":
    print(json.dumps(ask(*sys.argv[2:])))
elif sys.argv[1] == "container":
    print(container(*sys.argv[2:]))
else:
    run = {"s3": run_s3, "webdav": run_webdav, "ftp": run_ftp, "sftp": run_sftp, "smtp": run_smtp}[sys.argv[1]]
    print(json.dumps(run(*sys.argv[2:])), flush=True)
    sys.stdin.read()
