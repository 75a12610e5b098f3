"""The way out of a sandbox: closed but for what is declared, headers set outside, every request on its own."""

import asyncio
import base64
import ipaddress
from collections.abc import Iterator

import pytest

from local.e2b.egress import DestinationError, Network, Policy, canonical_host, parse_destination
from local.e2b.gate import Gate
from tests.local.e2b_world import Server, only, serving, until, upstream

# Sends requests over one connection, in the ways that its argument lists, and prints the answers' statuses.
CLIENT = """
import http.client, sys
host, port = sys.argv[1].split(':')
c = http.client.HTTPConnection(host, int(port))
for n in range(3):
    c.request('GET', f'/{n}', headers={'Authorization': 'Bearer egress', 'AUTHORIZATION': 'second', 'X-Mine': str(n)})
    r = c.getresponse(); print(r.status, r.read().decode())
c.request('POST', '/chunked', body=iter([b'a' * 70000, b'b' * 3]), encode_chunked=True)
r = c.getresponse(); print(r.status, r.read().decode())
c.request('POST', '/length', body=b'c' * 100000)
r = c.getresponse(); print(r.status, r.read().decode())
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("gate")) as started:
        yield started


async def test_every_request_of_a_connection_gets_the_header(server: Server) -> None:
    """Keep-alive requests, chunked and sized bodies: each has the real header once, and none of the sandbox's own."""
    async with upstream() as web, server.sandbox(network=only(web.netloc, Authorization="Bearer real")) as sandbox:
        await sandbox.files.write("client.py", CLIENT)
        result = await sandbox.commands.run(f"python3 client.py {web.netloc}")
        assert result.stdout == "200 ok\n" * 5
        assert web.connections == 1
        for head in web.requests:
            lines = head.lower().split(b"\r\n")
            assert [line for line in lines if line.startswith(b"authorization")] == [b"authorization: bearer real"]
        assert [body[:1] + body[-1:] for body in web.bodies[3:]] == [b"ab", b"cc"]
        assert [len(body) for body in web.bodies] == [0, 0, 0, 70003, 100000]
        assert b"x-mine: 2" in web.requests[2].lower()


async def test_the_injected_value_is_nowhere_inside(server: Server) -> None:
    """The credential that requests get is in no environment, command line or readable file of the sandbox."""
    canary = "canary-5e1d"
    async with upstream() as web, server.sandbox(network=only(web.netloc, Authorization=canary)) as sandbox:
        await sandbox.commands.run(f"curl -s http://{web.netloc}/")
        found = await sandbox.commands.run(
            f"cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -a '{canary[:6]}' | grep -v grep;"
            f" grep -rsl '{canary[:6]}.5e1d' /home /tmp /app /run /etc /opt/sandstream 2>/dev/null; true"
        )
        assert canary not in found.stdout
        assert canary.encode() in web.requests[0]


async def test_all_spellings_of_loopback_are_one_declared_port(server: Server) -> None:
    """A declared port is reached as 127.0.0.1 or localhost; its neighbour by no spelling, directly or by proxy."""
    async with upstream() as web, upstream() as hidden, server.sandbox(network=only(web.netloc)) as sandbox:
        for host in ("127.0.0.1", "localhost"):
            answer = await sandbox.commands.run(f"curl -s http://{host}:{web.port}/")
            assert answer.stdout == "ok"
        spellings = ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "0x7f.1", "127.1", "x.localhost")
        for host in (*spellings, "[::ffff:127.0.0.1]", "127.0.0.1.", "0177.0.0.1"):
            direct = await sandbox.commands.run(f"curl -s --noproxy '*' -m 5 'http://{host}:{hidden.port}/' || echo no")
            assert direct.stdout == "no\n", host
            proxied = await sandbox.commands.run(
                f"curl -s --noproxy '' -x http://127.0.0.1:3128 -o /dev/null -w '%{{http_code}}'"
                f" 'http://{host}:{hidden.port}/'"
            )
            assert proxied.stdout in ("403", "400"), host
        assert hidden.connections == 0


async def test_undeclared_hosts_are_refused(server: Server) -> None:
    """Names and addresses that are not declared get 403 from the proxy, for plain HTTP and for CONNECT."""
    async with upstream() as web, server.sandbox(network=only(web.netloc)) as sandbox:
        show = "curl -s -o /dev/null -m 10 -w '%{http_code} %{http_connect}\\n'"
        result = await sandbox.commands.run(
            f"{show} http://example.com/; {show} https://example.com/;"
            f" {show} http://10.1.2.3/; {show} https://8.8.8.8/; true"
        )
        assert result.stdout.split("\n")[:4] == ["403 000", "000 403", "403 000", "000 403"]
        raw = await sandbox.commands.run(
            "python3 -c \"import socket; socket.create_connection(('8.8.8.8', 53), 3)\" || true"
        )
        assert "unreachable" in raw.stderr


# Opens 300 connections to the gate, says nothing on any, and prints how many the gate closes at once.
GREEDY = """
import select, socket
held = [socket.socket(socket.AF_UNIX) for _ in range(300)]
for one in held: one.connect('/run/sandstream/gate/gate.sock')
closed = set()
while len(closed) < 44:
    ready, _, _ = select.select([one for one in held if one not in closed], [], [], 8)
    if not ready: break
    closed |= {one for one in ready if one.recv(1) == b''}
print(len(closed))
"""


async def test_one_sandbox_cannot_take_all_connections(server: Server) -> None:
    """Past 256 a sandbox's connections are closed; its neighbours go out as before, and so does it afterwards."""
    async with upstream() as web, server.sandbox(network=only(web.netloc)) as greedy:
        await greedy.files.write("greedy.py", GREEDY)
        counted = await greedy.commands.run("python3 greedy.py")
        assert int(counted.stdout) >= 300 - 256
        async with server.sandbox(network=only(web.netloc)) as neighbour:
            answers = [await each.commands.run(f"curl -s http://{web.netloc}/") for each in (neighbour, greedy)]
        assert [answer.stdout for answer in answers] == ["ok", "ok"]


async def test_a_host_header_cannot_redirect_a_credential(server: Server) -> None:
    """A request whose Host or URL names another destination than its connection's is refused, not forwarded."""
    async with (
        upstream() as web,
        upstream() as other,
        server.sandbox(network=only(web.netloc, other.netloc, Authorization="Bearer real")) as sandbox,
    ):
        for trick in ("-H 'Host: evil.example'", f"-H 'Host: {other.netloc}'"):
            answer = await sandbox.commands.run(
                f"curl -s -o /dev/null -w '%{{http_code}}' {trick} http://{web.netloc}/"
            )
            assert answer.stdout == "403"
        absolute = await sandbox.commands.run(
            f"curl -s -o /dev/null -w '%{{http_code}}' --request-target http://evil.example/ http://{web.netloc}/"
        )
        assert absolute.stdout == "403"
        proxied = await sandbox.commands.run(
            f"curl -s --noproxy '' -x http://127.0.0.1:3128 -H 'Host: evil.example' http://{web.netloc}/"
        )
        assert proxied.stdout == "ok"
        assert f"host: {web.netloc}".encode() in web.requests[-1].lower()


async def test_smuggled_requests_are_not_believed(server: Server) -> None:
    """A request with both framings is passed on with one, so that two parsers cannot disagree about its end."""
    async with upstream() as web, server.sandbox(network=only(web.netloc, Authorization="Bearer real")) as sandbox:
        raw = base64.b64encode(
            f"POST / HTTP/1.1\r\nHost: {web.netloc}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            f"3\r\nabc\r\n0\r\n\r\n".encode()
        ).decode()
        program = (
            f"import base64,socket;s=socket.create_connection(('127.0.0.1',{web.port}));"
            f"s.sendall(base64.b64decode('{raw}'));print(s.recv(100).split()[1].decode())"
        )
        result = await sandbox.commands.run(f'python3 -c "{program}"')
        assert result.stdout in ("200\n", "400\n")
        assert all(b"content-length" not in head.lower() for head in web.requests)
        assert web.bodies in ([b"abc"], [])


async def test_a_protocol_switch_passes_with_the_header(server: Server) -> None:
    """A websocket's handshake gets the header, and then bytes go both ways untouched."""
    heads: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello ")
        writer.write(await reader.readexactly(5))
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(echo, "127.0.0.1", 0)
    netloc = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with server.sandbox(network=only(netloc, Authorization="Bearer real")) as sandbox:
        program = (
            "import socket,sys;h,p=sys.argv[1].split(':');s=socket.create_connection((h,int(p)))\n"
            "s.sendall(f'GET / HTTP/1.1\\r\\nHost: {sys.argv[1]}\\r\\n'.encode())\n"
            "s.sendall(b'Connection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n')\n"
            "s.sendall(b'world');d=b''\n"
            "while not d.endswith(b'world'): d+=s.recv(100)\n"
            "print(d.split(b'\\r\\n\\r\\n')[1].decode())"
        )
        await sandbox.files.write("ws.py", program)
        assert (await sandbox.commands.run(f"python3 ws.py {netloc}")).stdout == "hello world\n"
    assert b"Authorization: Bearer real" in heads[0]
    listener.close()


async def test_bodies_are_streamed_both_ways(server: Server) -> None:
    """The first half of an answer arrives while the second has not been sent, also for an unframed answer."""
    go_on = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfirst\n")
        await writer.drain()
        await go_on.wait()
        writer.write(b"second\n")
        writer.close()

    listener = await asyncio.start_server(drip, "127.0.0.1", 0)
    netloc = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    got: list[str] = []
    async with server.sandbox(network=only(netloc, Authorization="x")) as sandbox:
        handle = await sandbox.commands.run(f"curl -sN http://{netloc}/", background=True, on_stdout=got.append)
        await until(lambda: got == ["first\n"], "the first half arrives")
        go_on.set()
        assert (await handle.wait()).stdout == "first\nsecond\n"
    listener.close()


async def test_the_network_of_a_living_sandbox_is_replaced(server: Server) -> None:
    """New rules hold at once, for old connections too: what is no longer declared is cut off."""
    async with upstream() as old, upstream() as new, server.sandbox(network=only(old.netloc)) as sandbox:
        assert (await sandbox.commands.run(f"curl -s http://{old.netloc}/")).stdout == "ok"
        told: list[str] = []
        holding = (
            f"import socket; s = socket.create_connection(('127.0.0.1', {old.port})); print('open', flush=True);"
            " print('cut', s.recv(1))"
        )
        held = await sandbox.commands.run(f'python3 -c "{holding}"', background=True, on_stdout=told.append)
        await until(lambda: told == ["open\n"], "a connection is open")
        await sandbox.update_network(only(new.netloc, Authorization="Bearer new"))
        assert "cut" in (await held.wait()).stdout
        assert (await sandbox.commands.run(f"curl -s http://{new.netloc}/")).stdout == "ok"
        assert b"Bearer new" in new.requests[0]
        gone = await sandbox.commands.run(f"curl -s -m 5 http://{old.netloc}/ || echo $?")
        assert gone.stdout == "7\n"


# Sends a request over one connection for each line that it reads, for as long as the connection holds.
POOLED = """
import http.client, sys
host, port = sys.argv[1].split(':')
c = http.client.HTTPConnection(host, int(port))
for line in sys.stdin:
    try:
        c.request('GET', '/'); print(c.getresponse().read().decode(), flush=True)
    except (OSError, http.client.HTTPException) as error:
        print('cut', flush=True); c.close()
"""


@pytest.mark.parametrize("slept", [False, True], ids=["running", "just woken"])
async def test_a_pooled_connection_never_goes_on_with_the_old_header(server: Server, slept: bool) -> None:
    """After new rules every request has the new header, also one over a connection that was open before."""
    said: list[str] = []
    async with upstream() as web, server.sandbox(network=only(web.netloc, Authorization="Bearer old")) as sandbox:
        await sandbox.files.write("pooled.py", POOLED)
        await sandbox.commands.run("mkfifo lines")
        await sandbox.commands.run(f"setsid -f python3 -u pooled.py {web.netloc} <> lines > said 2>&1")

        async def ask() -> None:
            said.append("")
            await sandbox.commands.run("echo > lines")

            async def answered() -> bool:
                return len((await sandbox.files.read("said")).splitlines()) == len(said)

            await until(answered, "an answer")

        await ask()
        if slept:
            await sandbox.pause()
            await sandbox.connect(timeout=60)
        await sandbox.update_network(only(web.netloc, Authorization="Bearer new"))
        await ask()
        await ask()
        heads = [head for head in web.requests if b"Bearer" in head]
        assert b"Bearer old" in heads[0]
        assert heads[1:]
        assert all(b"Bearer new" in head for head in heads[1:])
        assert (await sandbox.files.read("said")).split()[-1] == "ok"


async def test_a_connection_under_way_is_judged_by_the_new_rules() -> None:
    """Rules that are replaced while a connection is being made hold for it: it is not handed out."""
    async with upstream() as web:
        gate = Gate(Policy.of(Network(allow_out=[web.netloc])))
        target = parse_destination(web.netloc, 80)
        connecting = asyncio.create_task(gate.connect(target))
        await asyncio.sleep(0)  # it has looked at the rules, and waits for the connection
        gate.set_policy(Policy.of(Network(deny_out=["0.0.0.0/0"])))
        with pytest.raises(DestinationError, match="hold no more"):
            await connecting


async def test_a_port_of_ones_own_is_not_the_hosts(server: Server) -> None:
    """Servers inside listen on loopback undisturbed, and what they say does not come from the host."""
    async with upstream() as web, server.sandbox() as sandbox:
        await sandbox.commands.run(f"echo inside > f; python3 -m http.server {web.port}", background=True, timeout=0)

        async def answered() -> bool:
            return (await sandbox.commands.run(f"curl -s http://127.0.0.1:{web.port}/f || true")).stdout == "inside\n"

        await until(answered, "the server inside answers")
        assert web.connections == 0


async def test_a_name_that_resolves_to_loopback_is_refused() -> None:
    """DNS cannot turn an allowed name into a way to this machine or its neighbours."""
    policy = Policy.of(Network(allow_out=["api.example.com", "*.wild.example"], deny_out=["0.0.0.0/0"]))
    target = parse_destination("api.example.com:443", 80)
    public = ipaddress.ip_address("93.184.216.34")
    assert policy.check(target, [ipaddress.ip_address("127.0.0.1"), public]) == public
    for address in ("127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "::ffff:127.0.0.1"):
        with pytest.raises(DestinationError):
            policy.check(target, [ipaddress.ip_address(address)])
    assert policy.check(parse_destination("a.b.wild.example", 80), [public]) == public
    for other in ("wild.example", "api.example.com:8443", "api.example.com.evil.example", "example.com"):
        with pytest.raises(DestinationError):
            policy.check(parse_destination(other, 80), [public])


@pytest.mark.parametrize("open_", [Network(), Network(allow_out=["127.0.0.1:5432"])])
def test_open_by_default_means_the_internet_and_not_this_machine(open_: Network) -> None:
    """Without a deny list public addresses are open; private ones and undeclared loopback ports are not."""
    policy = Policy.of(open_)
    public = ipaddress.ip_address("93.184.216.34")
    assert policy.check(parse_destination("example.com", 443), [public]) == public
    for address in ("10.0.0.1", "192.168.1.1", "169.254.169.254", "127.0.0.1"):
        with pytest.raises(DestinationError):
            policy.check(parse_destination(address, 80), [ipaddress.ip_address(address)])


def test_hosts_have_one_spelling() -> None:
    """Every way to write a loopback address is the same host, and what is no host is refused."""
    for spelling in (
        "127.0.0.1",
        "LOCALHOST",
        "localhost.",
        "[::1]",
        "0.0.0.0",
        "2130706433",
        "0x7f000001",
        "127.9.9.9",
    ):
        assert canonical_host(spelling) == "127.0.0.1", spelling
    assert canonical_host("Example.COM.") == "example.com"
    for nonsense in ("", "a b", "a/b", "user@host", "a\\b"):
        with pytest.raises(ValueError, match="not a host"):
            canonical_host(nonsense)
