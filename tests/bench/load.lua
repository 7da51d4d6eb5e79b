-- Arguments: mode, the file of `turn`, then names and values of headers. Modes:
-- same, close: each request is like the one before. turn: each has the cookie of the next line of a file.
-- new: two of the headers differ in every request: the page it comes from, and a cookie of the application's.

function init(args)
  for index = 3, #args, 2 do
    wrk.headers[args[index]] = args[index + 1]
  end
  if args[1] == "new" then
    local referer, cookie, number = wrk.headers["Referer"], wrk.headers["Cookie"], 0
    request = function()
      number = number + 1
      wrk.headers["Referer"] = referer .. "?page=" .. number
      wrk.headers["Cookie"] = cookie .. "; last-seen=" .. number
      return wrk.format()
    end
  elseif args[1] == "turn" then
    local requests, number = {}, 0
    for cookie in io.lines(args[2]) do
      wrk.headers["Cookie"] = cookie
      requests[#requests + 1] = wrk.format()
    end
    request = function()
      number = number % #requests + 1
      return requests[number]
    end
  end
end

-- Names under .localhost are this machine (RFC 6761, 6.3), whatever the system's resolver says of them.
function wrk.resolve(_, service)
  wrk.addrs = wrk.lookup("127.0.0.1", service)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "bytes": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "failed": %d, "refused": %d}\n',
    summary.requests, summary.bytes, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.timeout, errors.status
  ))
end
