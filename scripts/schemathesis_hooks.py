"""What schemathesis has to be told about this API, and what it must find.

Failures travel in an envelope on transport status 200, so a check of our own looks into it. Credentials are form fields,
so a hook fills them in, and names things that exist: without it nearly every call would end at the door. There is no
device: what calls ask of one would be done on this machine. As a program, `prepare` furnishes the server and `judge`
looks at what was called.
"""

import atexit
import collections
import http.client
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
# A caller may change or lock its own log-in, so these calls have callers of their own that nothing else touches.
SPARES = [f"spare-{n}" for n in range(20)]
CALLERS = [f"caller-{n}" for n in range(70)]
# Whom the calls are about.
ACCOUNTS = [f"account-{n}" for n in range(15)]
# Ways a call ends that are no fault: not supported; a device that is off line, told as such.
HONEST = {501, 503}
# An endpoint only ever answering like this was not tested: wrong credentials, a missing factor.
DOOR = "refused"
# On a slow machine the time may be over before everything was called; this part must have been.
CALLED = 0.9



def post(path, fields):
    data = urllib.parse.urlencode(fields).encode()
    with urllib.request.urlopen(URL + path, data, timeout=10) as answer:
        return json.load(answer)


def credentials(name):
    return {"Username": name, "AuthType": "Password", "Password": PASSWORD}


def left_out(path):
    return path.endswith(("/shutdown-service", "/restart-service", "/server-config/set"))


def run():
    """Tells one run of the server from another."""
    return post("/api/v1/admin/meta/version", credentials(ADMIN)).get("ServerStartHash")


def wait_for_restart(before):
    """Waits until the server is back that takes over a new configuration by starting again."""
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        try:
            if run() not in (None, before):
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.1)
    sys.exit("the server did not come back with its new configuration")


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
    before = run()
    admin("meta/server-config/set", {"Config": json.dumps(config)})
    wait_for_restart(before)
    for name in SPARES:
        admin("admin-user/new", {"TargetUser": name, "TargetPassword": PASSWORD})
    for name in CALLERS + ACCOUNTS:
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
    missed = [f"{path} was never called" for path in sorted(wanted - calls.keys())]
    if missed:
        print("\n".join(missed))
    faults = missed if len(missed) > (1 - CALLED) * len(wanted) else []
    total = sum(sum(statuses.values()) for statuses in calls.values())
    refused = sum(statuses.get(DOOR, 0) for statuses in calls.values())
    good = sum(statuses.get("200", 0) for statuses in calls.values())
    worked = sum("200" in statuses for statuses in calls.values())
    print(f"{total} calls of {len(calls)} endpoints: {good} succeeded, of {worked} endpoints; {refused} were refused")
    # A device that is not there is refused like one of somebody else.
    tested = {path for path, statuses in calls.items() if statuses.keys() - {DOOR} or "/dispatcher/" in path}
    faults += [f"{path} was refused whenever it was called" for path in sorted((wanted & calls.keys()) - tested)]
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


def outcome(response):
    """What a call came to, for the judge: a status, or that the caller was not let in. Nothing for a wrong method."""
    status = envelope_status(response)
    if status == 405:
        return None
    if status == 449 or status == 403 and b'"Message":"Unauthorised"' in response.content:
        return DOOR
    return status


def register():
    import schemathesis

    lock = threading.Lock()
    calls = collections.defaultdict(collections.Counter)
    with open(FACTS, encoding="utf-8") as file:
        facts = json.load(file)

    own = {}

    def caller(path):
        """Whose credentials a call goes with: an endpoint's own, where it could spoil those of others."""
        user = path.startswith("/api/v1/user/") or path.startswith("/api/v1/hybrid/")
        if not user and "/account/" not in path and "session" not in path:
            return ADMIN
        with lock:
            pool = CALLERS if user else SPARES
            return own.setdefault(path, pool[len(own) % len(pool)])

    @schemathesis.hook
    def before_call(context, case, kwargs):
        if not isinstance(case.body, dict):
            return
        # Of its own seed: the generator sets the global one anew for every call.
        dice = random.Random(repr(case.body))
        body = dict(case.body)
        # One call in ten shows what the generator made of the credentials; not the first ones.
        if dice.random() < 0.9 or sum(calls[case.path].values()) < 10:
            for field in ("TOTP", "SessionKey"):
                body.pop(field, None)
            body.update(credentials(caller(case.path)))
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
        result = outcome(response)
        if result is not None:
            with lock:
                calls[case.path][result] += 1

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
