"""Makes the calls that bench/jobs.sh measures, and prints a table."""

import json
import socket
import statistics
import sys
import threading
import time
import urllib.parse

url, pid, credentials, rounds, jobs = sys.argv[1:]
rounds, jobs = int(rounds), int(jobs)
host, port = url.removeprefix("http://").split(":")
now = int(time.time())
DAY = 86_400
# What a call that only asks for a count or one account's jobs may add to the process's memory says nothing; what a list
# of gigabytes adds must stay below this, in MiB.
FLAT = 64


def memory(what):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith(what))
    return int(line.split()[1]) // 1024


def forget_peak():
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def call(path, fields, pause=0.0, stop=None):
    """Posts; answers seconds to the first byte, seconds in all, bytes, and the beginning of the answer."""
    body = (credentials + "&" + urllib.parse.urlencode(fields)).encode()
    head = (
        f"POST /api/v1/admin/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    began = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=600) as connection:
        connection.sendall(head.encode() + body)
        # The head comes before the first row is found; the answer begins with its body.
        start = b""
        while b"\r\n\r\n" not in start or start.endswith(b"\r\n\r\n"):
            piece = connection.recv(65536)
            if not piece:
                break
            start += piece
        first = time.monotonic() - began
        size = len(start)
        while piece := connection.recv(1 << 20):
            size += len(piece)
            if stop and stop.is_set():
                break
            time.sleep(pause)
    if b'{"Status":4' in start[:2000] or b'{"Status":5' in start[:2000]:
        sys.exit(f"{path} answered {start[:600]}")
    return first, time.monotonic() - began, size


def rule(field, operator, value):
    return {"RuleField": field, "RuleOperator": operator, "RuleValue": str(value)}


def search(*rules, kind="and"):
    return {"Query": json.dumps({"ClauseType": kind, "ClauseChildren": list(rules)})}


def guid(number):
    return f"{number:08x}-0000-4000-8000-{number:012x}"


RECENT = rule("BackupJobDetail.StartTime", "int_gt", now - DAY)
FAILED = rule("BackupJobDetail.Status", "int_eq", 7002)
CALLS = [
    ("get-jobs-recent (3 days)", "get-jobs-recent", {}),
    ("get-jobs-for-date-range, 1 hour", "get-jobs-for-date-range", {"Start": now - 40 * DAY, "End": now - 40 * DAY + 3600}),
    ("… 1 week", "get-jobs-for-date-range", {"Start": now - 40 * DAY, "End": now - 33 * DAY}),
    ("… what runs now", "get-jobs-for-date-range", {"Start": 0, "End": 0}),
    ("get-jobs-for-user", "get-jobs-for-user", {"TargetUser": "account-00042"}),
    ("get-jobs-all", "get-jobs-all", {}),
    ("search: one account", "get-jobs-for-custom-search", search(rule("Username", "str_eq", "account-00042"))),
    ("… one device", "get-jobs-for-custom-search", search(rule("DeviceID", "str_eq", "00000054-0001-4000-8000-000000000054"))),
    ("… failed, last day", "get-jobs-for-custom-search", search(FAILED, RECENT)),
    ("… failed, all", "get-jobs-for-custom-search", search(FAILED)),
    ("… not good, one of two kinds, last day", "get-jobs-for-custom-search", search(
        {"ClauseType": "not_or", "ClauseChildren": [rule("Status", "int_eq", 5000), rule("Status", "int_eq", 7001)]},
        {"ClauseType": "or", "ClauseChildren": [rule("Classification", "int_eq", 4001), rule("Classification", "int_eq", 4005)]},
        RECENT)),
    ("… large ones, last day", "get-jobs-for-custom-search", search(rule("TotalSize", "int_gt", 900_000_000), RECENT)),
    ("… large ones, all (reads every job)", "get-jobs-for-custom-search", search(rule("TotalSize", "int_gt", 1_000_000_000))),
    ("… name by pattern (reads every name)", "get-jobs-for-custom-search", search(rule("Username", "str_regexmatch", "^account-0042[0-3]$"))),
    ("count: everything", "count-jobs-for-custom-search", search()),
    ("count: failed", "count-jobs-for-custom-search", search(FAILED)),
    ("get-job-properties", "get-job-properties", {"JobID": guid(jobs // 2)}),
    ("get-job-log, usual", "get-job-log", {"JobID": guid(jobs // 2)}),
    ("get-job-log, longest", "get-job-log", {"JobID": guid(0)}),
    ("get-job-log-entries, longest, warnings", "get-job-log-entries", {"JobID": guid(0), "MinSeverity": "W"}),
]

call("meta/version", {})
print("| call | MiB | first byte, ms | seconds | memory before | peak |\n| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
grown = []
for name, path, fields in CALLS:
    forget_peak()
    before = memory("VmRSS")
    results = [call(path, fields) for _ in range(rounds)]
    peak = memory("VmHWM")
    first, seconds = (statistics.median(r[n] for r in results) for n in (0, 1))
    print(f"| {name} | {results[0][2] / 2**20:.2f} | {first * 1000:.1f} | {seconds:.3f} | {before} | {peak} |", flush=True)
    if peak - before > FLAT:
        grown.append(name)

# Clients that hardly read must neither fill the memory nor keep others waiting.
forget_peak()
before = memory("VmRSS")
stop = threading.Event()
readers = [threading.Thread(target=call, args=("get-jobs-all", {}, 0.2, stop), daemon=True) for _ in range(20)]
for reader in readers:
    reader.start()
time.sleep(2)
results = []
for _ in range(rounds):
    try:
        results.append(call("get-jobs-for-user", {"TargetUser": "account-00042"}))
    except TimeoutError:
        sys.exit("twenty slow readers keep every other call waiting")
stop.set()
first, seconds = (statistics.median(r[n] for r in results) for n in (0, 1))
peak = memory("VmHWM")
print(f"| get-jobs-for-user beside 20 slow readers | {results[0][2] / 2**20:.2f} | {first * 1000:.1f} | {seconds:.3f} | {before} | {peak} |")
if grown:
    sys.exit(f"memory follows the size of the answer: {grown}")
