"""What schemathesis has to be told about this API, and what it must find.

Failures travel in an envelope on transport status 200, so a check of our own looks into it. Credentials are form fields,
so a hook fills them in, and names things that exist: without it nearly every call would end at the door. There is no
device: what calls ask of one would be done on this machine. As a program, `prepare` furnishes the server and `judge`
looks at what was called.
"""

import atexit
import collections
import json
import os
import random
import sys
import threading
import time
import urllib.parse
import urllib.request

URL = os.environ["ENCKE_URL"]
WORK = os.environ["ENCKE_WORK"]
CALLS = os.path.join(WORK, "calls.json")
FACTS = os.path.join(WORK, "facts.json")
PASSWORD = "one-password-for-all"
ADMIN = "admin"
# A caller may change or lock its own log-in, so there are many.
SPARES = [f"spare-{n}" for n in range(20)]
ACCOUNTS = [f"account-{n}" for n in range(40)]
# Ways a call ends that are no fault: not supported; a device that is off line, told as such.
HONEST = {501, 503}
# More than this part of the calls must get past the door.
PAST_THE_DOOR = 0.7


def post(path, fields):
    data = urllib.parse.urlencode(fields).encode()
    with urllib.request.urlopen(URL + path, data, timeout=10) as answer:
        return json.load(answer)


def credentials(name):
    return {"Username": name, "AuthType": "Password", "Password": PASSWORD}


def left_out(path):
    return path.endswith(("/shutdown-service", "/restart-service", "/server-config/set"))


def wait_for_restart():
    """Waits until the server is back that takes over a new configuration by starting again."""
    limit = time.monotonic() + 30
    while True:
        try:
            config = post("/api/v1/admin/meta/server-config/get", credentials(ADMIN))
            if config["LoginProtection"]["FailureThreshold"] == 1000000:
                return
        except OSError:
            pass
        if time.monotonic() > limit:
            sys.exit("the server did not come back with its new configuration")
        time.sleep(0.1)


def prepare():
    def admin(path, fields):
        answer = post("/api/v1/admin/" + path, credentials(ADMIN) | fields)
        if answer.get("Status") != 200:
            sys.exit(f"the server could not be furnished: {path}: {answer}")
        return answer

    admin("add-first-admin-user", {"TargetUser": ADMIN, "TargetPassword": PASSWORD})
    # What is measured here is not how guessing is slowed down.
    config = post("/api/v1/admin/meta/server-config/get", credentials(ADMIN))
    config["LoginProtection"] = {"Enabled": True, "FailureThreshold": 1000000}
    admin("meta/server-config/set", {"Config": json.dumps(config)})
    wait_for_restart()
    for name in SPARES:
        admin("admin-user/new", {"TargetUser": name, "TargetPassword": PASSWORD})
    for name in ACCOUNTS:
        admin("add-user", {"TargetUser": name, "TargetPassword": PASSWORD})
    organization = admin("organization/set", {"Organization": json.dumps({"Name": "North", "Hosts": ["north.test"]})})
    admin("policies/set", {"PolicyID": "policy-1", "Policy": json.dumps({"Description": "Standard"})})
    quota = json.dumps({"Description": "Team", "LimitBytes": 1000000})
    admin("squota/set-with-hash", {"SharedStorageQuotaID": "quota-1", "SharedStorageQuota": quota})
    facts = {
        "TargetUser": ACCOUNTS,
        "Users": [json.dumps(ACCOUNTS[:2])],
        "PolicyID": ["policy-1"],
        "SharedStorageQuotaID": ["quota-1"],
        "GroupID": [admin("user-groups/new", {"Name": "Offices"})["UserGroupID"]],
        "BucketID": [admin("storage/register-bucket", {})["NewBucketID"] for _ in range(3)],
        "OrganizationID": [organization["ID"]] if "ID" in organization else [],
    }
    with open(FACTS, "w", encoding="utf-8") as file:
        json.dump(facts, file)


def judge():
    with urllib.request.urlopen(URL + "/docs/openapi.json", timeout=10) as answer:
        paths = json.load(answer)["paths"]
    with open(CALLS, encoding="utf-8") as file:
        calls = json.load(file)
    wanted = {
        path
        for path, methods in paths.items()
        if any(o.get("x-encke-support") == "supported" for o in methods.values()) and not left_out(path)
    }
    faults = [f"{path} was never called" for path in sorted(wanted - calls.keys())]
    total = sum(sum(statuses.values()) for statuses in calls.values())
    refused = sum(statuses.get(s, 0) for statuses in calls.values() for s in ("403", "449"))
    good = sum(statuses.get("200", 0) for statuses in calls.values())
    worked = sum("200" in statuses for statuses in calls.values())
    print(f"{total} calls of {len(calls)} endpoints: {good} succeeded, of {worked} endpoints; {refused} were refused")
    if total - refused < PAST_THE_DOOR * total:
        faults.append("too many calls were refused at the door: this run tested little")
    alive = post("/api/v1/admin/meta/version", credentials(ADMIN))
    if "Version" not in alive:
        faults.append(f"the administrator can not sign in any more: {alive}")
    if faults:
        sys.exit("\n".join(faults))


def envelope_status(response):
    """Status of an envelope; 200 for every other answer."""
    if response.status_code != 200:
        return response.status_code
    try:
        answer = json.loads(response.content)
    except ValueError:
        return 200
    if isinstance(answer, dict) and isinstance(answer.get("Status"), int) and "Message" in answer:
        return answer["Status"]
    return 200


def register():
    import schemathesis

    lock = threading.Lock()
    calls = collections.defaultdict(collections.Counter)
    with open(FACTS, encoding="utf-8") as file:
        facts = json.load(file)

    def caller(path, dice):
        if path.startswith("/api/v1/user/") or path.startswith("/api/v1/hybrid/"):
            return dice.choice(ACCOUNTS)
        return dice.choice(SPARES) if "/account/" in path or "session" in path else ADMIN

    @schemathesis.hook
    def before_call(context, case, kwargs):
        if not isinstance(case.body, dict):
            return
        # Of its own seed: the generator sets the global one anew for every call.
        dice = random.Random(repr(case.body))
        body = dict(case.body)
        # One call in ten shows what the generator made of the credentials.
        if dice.random() < 0.9:
            for field in ("TOTP", "SessionKey"):
                body.pop(field, None)
            body.update(credentials(caller(case.path, dice)))
        for name in body.keys() & facts.keys():
            if facts[name] and dice.random() < 0.7:
                body[name] = dice.choice(facts[name])
        # Structures are JSON text inside their field.
        for name, value in body.items():
            if isinstance(value, (dict, list, bool)) or value is None:
                body[name] = json.dumps(value)
        case.body = body

    @schemathesis.hook
    def after_call(context, case, response):
        with lock:
            calls[case.path][envelope_status(response)] += 1

    @schemathesis.check
    def no_internal_error(ctx, response, case):
        status = envelope_status(response)
        assert status < 500 or status in HONEST, f"status {status}: {response.content[:500]!r}"

    @atexit.register
    def write():
        with open(CALLS, "w", encoding="utf-8") as file:
            json.dump(calls, file)


if __name__ == "__main__":
    {"prepare": prepare, "judge": judge}[sys.argv[1]]()
else:
    register()
