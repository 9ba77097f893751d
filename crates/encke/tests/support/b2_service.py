"""Backblaze B2 on the loopback address: the simulator that the vendor's own library (b2sdk) is tested with, behind HTTP.

b2_service.py BUCKET     runs it with a bucket; prints one line of JSON, and ends with its standard input

Besides B2's own calls `GET /files` answers the names of what is not hidden, `GET /versions` the number of all versions and
`POST /expire` ends every session.
"""

import io
import json
import re
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from b2sdk._internal.raw_simulator import RawSimulator
from b2sdk.v2.exception import B2Error, FileNotPresent, InvalidAuthToken, NonExistentBucket, Unauthorized

sim = RawSimulator()
account, key = sim.create_account()
session = sim.authorize_account("", account, key)["authorizationToken"]
# One call at a time: the simulator is made for one thread.
lock = threading.Lock()
bucket = None


def refusal(e):
    """Status and code of https://www.backblaze.com/apidocs/b2-error-codes."""
    if isinstance(e, InvalidAuthToken):
        code = {"auth_token_expired": "expired_auth_token"}.get(e.code, e.code)
        return 401, code
    if isinstance(e, Unauthorized):
        return 401, "unauthorized"
    if isinstance(e, FileNotPresent):
        return 404, "not_found"
    if isinstance(e, NonExistentBucket):
        return 400, "bad_bucket_id"
    return 400, "bad_request"


def decode(text):
    return urllib.parse.unquote(text)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=()):
        body = body if isinstance(body, bytes) else json.dumps(body, default=list).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def guarded(self, call):
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        if len(content) < length:
            return
        with lock:
            try:
                status, body = call(content)
            except B2Error as e:
                status, code = refusal(e)
                body = {"status": status, "code": code, "message": str(e)}
        self.answer(status, body)

    def checked(self):
        token = self.headers.get("Authorization")
        if token not in sim.auth_token_to_key:
            raise InvalidAuthToken("no such token", "bad_auth_token")
        if token in sim.expired_auth_tokens:
            raise InvalidAuthToken("expired", "auth_token_expired")
        return token

    def do_GET(self):
        self.guarded(self.get)

    def do_POST(self):
        self.guarded(self.post)

    def get(self, _):
        path = self.path
        if path == "/files":
            return 200, [f["fileName"] for f in sim.list_file_names(sim.API_URL, session, bucket, None, 10000)["files"]]
        if path == "/versions":
            return 200, len(sim.list_file_versions(sim.API_URL, session, bucket, None, None, 10000)["files"])
        if path.endswith("/b2_authorize_account"):
            import base64

            login = base64.b64decode(self.headers["Authorization"].split(" ")[1]).decode()
            told = sim.authorize_account("", *login.split(":", 1))
            here = "http://" + self.headers["Host"]
            told["apiInfo"]["storageApi"].update(apiUrl=here, downloadUrl=here)
            return 200, told
        if path.startswith("/file/"):
            token = self.checked()
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
            span = tuple(map(int, wanted.groups())) if wanted else None
            with sim.download_file_from_url(token, sim.DOWNLOAD_URL + path, range_=span) as found:
                data = found.data_bytes
            if span and not data:
                return 416, {"status": 416, "code": "range_not_satisfiable", "message": ""}
            return (206 if span else 200), data
        return 404, {"status": 404, "code": "not_found", "message": path}

    def post(self, content):
        path = self.path
        if path == "/expire":
            sim.expired_auth_tokens.update(set(sim.auth_token_to_key) - {session})
            return 200, "done"
        if path.startswith("/upload/"):
            if self.headers["Authorization"].rsplit("/", 1)[1] in sim.expired_auth_tokens:
                raise InvalidAuthToken("expired", "auth_token_expired")
            h = self.headers
            place = "https://upload.example.com" + path[len("/upload") :]
            return 200, sim.upload_file(
                place,
                h["Authorization"],
                decode(h["X-Bz-File-Name"]),
                len(content),
                h["Content-Type"],
                h["X-Bz-Content-Sha1"],
                {},
                io.BytesIO(content),
            )
        token, asked = self.checked(), json.loads(content)
        operation = path.rsplit("/", 1)[1]
        one = lambda *names: [asked.get(name) for name in names]
        if operation == "b2_list_buckets":
            return 200, sim.list_buckets(sim.API_URL, token, *one("accountId", "bucketId", "bucketName"))
        if operation == "b2_get_upload_url":
            told = sim.get_upload_url(sim.API_URL, token, asked["bucketId"])
            here = "http://" + self.headers["Host"] + "/upload"
            return 200, {**told, "uploadUrl": told["uploadUrl"].replace("https://upload.example.com", here)}
        if operation == "b2_list_file_names":
            names = ("bucketId", "startFileName", "maxFileCount", "prefix")
            return 200, sim.list_file_names(sim.API_URL, token, *one(*names))
        if operation == "b2_list_file_versions":
            names = ("bucketId", "startFileName", "startFileId", "maxFileCount", "prefix")
            return 200, sim.list_file_versions(sim.API_URL, token, *one(*names))
        if operation == "b2_hide_file":
            return 200, sim.hide_file(sim.API_URL, token, *one("bucketId", "fileName"))
        if operation == "b2_delete_file_version":
            return 200, sim.delete_file_version(sim.API_URL, token, *one("fileId", "fileName"))
        return 400, {"status": 400, "code": "bad_request", "message": operation}


def main(name):
    global bucket
    bucket = sim.create_bucket(sim.API_URL, session, account, name, "allPrivate")["bucketId"]
    # A key that opens only this bucket and may not list others, as people make them.
    limited = sim.create_key(
        sim.API_URL, session, account, ["listFiles", "readFiles", "writeFiles", "deleteFiles"], "one", None, [bucket], None
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    keys = {"owner": [account, key], "limited": [limited["applicationKeyId"], limited["applicationKey"]]}
    return {"url": "http://127.0.0.1:%d" % server.server_port, "keys": keys}


print(json.dumps(main(sys.argv[1])), flush=True)
sys.stdin.read()
