"""OpenStack Swift on the loopback address: its own proxy, account, container and object servers, one replica on one device.

swift_service.py FOLDER USER KEY [keystone PASSWORD]

It takes tokens of its own log-in (version 1) as account:user, and with `keystone` those of a Keystone server (version 3)
that it starts as well. Prints one line of JSON once it can be reached, and ends with its standard input.
"""

import ctypes
import getpass
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

# What the servers import comes first, so that it is loaded once for all of them.
from swift.common import utils
from swift.common.ring import RingBuilder


class Cache:
    """What the proxy remembers of log-ins. There is one proxy, so it needs no server for that."""

    kept = {}

    def __init__(self, app):
        self.app = app

    def __call__(self, env, start_response):
        env["swift.cache"] = self
        return self.app(env, start_response)

    def get(self, key, **_):
        return self.kept.get(key)

    def set(self, key, value, **_):
        # As it would come back from elsewhere.
        self.kept[key] = json.loads(json.dumps(value))

    def incr(self, key, delta=1, **_):
        self.kept[key] = self.kept.get(key, 0) + delta
        return self.kept[key]

    def decr(self, key, delta=1, **_):
        return self.incr(key, -delta)

    def delete(self, key, **_):
        self.kept.pop(key, None)


def cache(_, **__):
    return Cache


def fork():
    """As os.fork; the child ends with this process."""
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    return child


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w") as f:
        f.write(text)
    return path


def listen(port):
    for _ in range(1200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("nothing listens at port %d" % port)


def keystone(folder, password):
    """Keystone with the administrator `admin` of project `admin`; its address."""
    port = free_port()
    # What it imports would be in the way of the storage's servers.
    if fork() == 0:
        serve_keystone(folder, password, port)
        os._exit(1)
    listen(port)
    return "http://127.0.0.1:%d/v3" % port


def serve_keystone(folder, password, port):
    os.dup2(2, 1)
    from cheroot import wsgi
    from keystone.cmd import manage
    from keystone.server.wsgi import initialize_public_application

    for keys in ("fernet", "credential"):
        os.makedirs(os.path.join(folder, keys), 0o700)
    text = (
        "[DEFAULT]\nlog_file = F/keystone.log\n[database]\nconnection = sqlite:///F/keystone.db\n"
        "[fernet_tokens]\nkey_repository = F/fernet\n[credential]\nkey_repository = F/credential\n"
        # Test passwords need no slow hash.
        "[identity]\npassword_hash_rounds = 4\n"
    )
    conf = write(folder, "keystone.conf", text.replace("F/", folder + "/"))
    url = "http://127.0.0.1:%d/v3" % port
    user = ["--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid())]
    for command in (
        ["db_sync"],
        ["fernet_setup"] + user,
        ["credential_setup"] + user,
        ["bootstrap", "--bootstrap-password", password, "--bootstrap-region-id", "here"]
        + ["--bootstrap-public-url", url, "--bootstrap-internal-url", url],
    ):
        child = fork()
        if child == 0:
            sys.argv = ["keystone-manage", "--config-file", conf] + command
            manage.main()
            os._exit(0)
        if os.waitpid(child, 0)[1] != 0:
            raise SystemExit("keystone-manage %s failed" % command[0])
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = conf
    sys.argv = sys.argv[:1]
    wsgi.Server(("127.0.0.1", port), initialize_public_application()).start()


def tell_keystone(url, password, storage):
    """Puts the storage into the catalogue."""

    def ask(path, body, token=None):
        request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        if token:
            request.add_header("X-Auth-Token", token)
        answer = urllib.request.urlopen(request)
        return answer.headers.get("X-Subject-Token"), json.loads(answer.read())

    who = {"name": "admin", "domain": {"id": "default"}}
    scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
    login = {"identity": {"methods": ["password"], "password": {"user": {**who, "password": password}}}, "scope": scope}
    token, _ = ask("/auth/tokens", {"auth": login})
    service = ask("/services", {"service": {"type": "object-store", "name": "swift"}}, token)[1]["service"]["id"]
    for region, port in (("elsewhere", "9"), ("here", "")):
        place = {"service_id": service, "interface": "public", "url": storage + port + "/v1/KEY_%(project_id)s"}
        if region != "here":
            ask("/regions", {"region": {"id": region}}, token)
        ask("/endpoints", {"endpoint": {**place, "region_id": region}}, token)


COMMON = """[DEFAULT]
swift_dir = {folder}
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {owner}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
log_level = ERROR
"""
STORE = """[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
PROXY = """[pipeline:main]
pipeline = catch_errors kept {tokens} tempauth proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:kept]
paste.filter_factory = __main__:cache
[filter:tempauth]
use = egg:swift#tempauth
user_{user} = {key} .admin
"""
TOKENS = """[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = {identity}
auth_url = {identity}
auth_type = password
username = admin
password = {password}
project_name = admin
user_domain_id = default
project_domain_id = default
delay_auth_decision = True
[filter:keystoneauth]
use = egg:swift#keystoneauth
reseller_prefix = KEY
operator_roles = admin
"""


def main(folder, user, key, password=None):
    folder = os.path.abspath(folder)
    ports = {kind: free_port() for kind in ("object", "container", "account", "proxy")}
    told = {"folder": folder, "owner": getpass.getuser(), "user": user.replace(":", "_"), "key": key, "password": password}
    told["identity"] = keystone(folder, password) if password else None
    told["tokens"] = "authtoken keystoneauth" if password else ""
    os.makedirs(os.path.join(folder, "devices", "d1"))
    policy = "[swift-hash]\nswift_hash_path_suffix = test\n[storage-policy:0]\nname = only\ndefault = yes\n"
    utils.SWIFT_CONF_FILE = write(folder, "swift.conf", policy)
    utils.HASH_PATH_SUFFIX, utils.HASH_PATH_PREFIX = b"test", b""
    confs = {}
    for kind, port in ports.items():
        text = COMMON + (PROXY + TOKENS if kind == "proxy" else STORE)
        confs[kind] = write(folder, kind + ".conf", text.format(kind=kind, port=port, **told))
        if kind != "proxy":
            ring = RingBuilder(2, 1, 0)
            ring.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1", "weight": 1})
            ring.rebalance()
            ring.get_ring().save(os.path.join(folder, kind + ".ring.gz"))
    for kind, conf in confs.items():
        if fork() == 0:
            from swift.common.wsgi import run_wsgi

            sys.exit(run_wsgi(conf, kind + "-server", default_port=ports[kind]))
    for port in ports.values():
        listen(port)
    url = "http://127.0.0.1:%d" % ports["proxy"]
    if password:
        tell_keystone(told["identity"], password, url)
    return {"url": url + "/auth/v1.0", "identity": told["identity"]}


print(json.dumps(main(*sys.argv[1:])), flush=True)
sys.stdin.read()
