"""The 19 headers that Chrome sends with a page over HTTP/1.1."""


def headers(host: str, cookie: str) -> dict[str, str]:
    return {
        "Host": host,
        "Connection": "keep-alive",
        "Cache-Control": "max-age=0",
        "sec-ch-ua": '"Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"',
        "sec-ch-ua-mobile": "?0",
        "sec-ch-ua-platform": '"Linux"',
        "DNT": "1",
        "Upgrade-Insecure-Requests": "1",
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/140.0.0.0 Safari/537.36",
        "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
        "application/signed-exchange;v=b3;q=0.7",
        "Sec-Fetch-Site": "same-origin",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-User": "?1",
        "Sec-Fetch-Dest": "document",
        "Referer": f"https://{host}/t/acme/orders",
        "Accept-Encoding": "gzip, deflate, br, zstd",
        "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
        "If-None-Match": 'W/"5f3c-18f0a4d2b7c"',
        "Cookie": cookie,
    }


def request(host: str, cookie: str, path: str) -> str:
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers(host, cookie).items())]
    return "\r\n".join(lines) + "\r\n\r\n"
