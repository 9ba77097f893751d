-- For wrk: posts the form in the environment's BODY, and prints requests a second and bytes an answer.
wrk.method = "POST"
wrk.body = os.getenv("BODY")
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"

function done(summary, latency)
  local bad = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
    + summary.errors.timeout
  io.write(string.format("RESULT %.0f %.0f %.2f %d\n", summary.requests / summary.duration * 1e6,
    summary.bytes / summary.requests, latency:percentile(99) / 1000, bad))
end
