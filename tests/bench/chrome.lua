-- The 19 headers that Chrome sends with a page over HTTP/1.1. Arguments: host, cookie, and "new" if two of the headers
-- shall differ in every request: the page it comes from, and a cookie of the application's.

function init(args)
  local version = '"Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"'
  wrk.headers["Host"] = args[1]
  wrk.headers["Connection"] = "keep-alive"
  wrk.headers["Cache-Control"] = "max-age=0"
  wrk.headers["sec-ch-ua"] = version
  wrk.headers["sec-ch-ua-mobile"] = "?0"
  wrk.headers["sec-ch-ua-platform"] = '"Linux"'
  wrk.headers["DNT"] = "1"
  wrk.headers["Upgrade-Insecure-Requests"] = "1"
  wrk.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
  wrk.headers["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
  wrk.headers["Sec-Fetch-Site"] = "same-origin"
  wrk.headers["Sec-Fetch-Mode"] = "navigate"
  wrk.headers["Sec-Fetch-User"] = "?1"
  wrk.headers["Sec-Fetch-Dest"] = "document"
  wrk.headers["Referer"] = "https://" .. args[1] .. "/t/acme/orders"
  wrk.headers["Accept-Encoding"] = "gzip, deflate, br, zstd"
  wrk.headers["Accept-Language"] = "en-GB,en;q=0.9,de;q=0.8"
  wrk.headers["If-None-Match"] = 'W/"5f3c-18f0a4d2b7c"'
  wrk.headers["Cookie"] = args[2]
  if args[3] == "new" then
    local referer, cookie, number = wrk.headers["Referer"], args[2], 0
    request = function()
      number = number + 1
      wrk.headers["Referer"] = referer .. "?page=" .. number
      wrk.headers["Cookie"] = cookie .. "; last-seen=" .. number
      return wrk.format()
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
    '\n{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
