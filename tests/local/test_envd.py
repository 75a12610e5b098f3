"""What the SDK can do inside a sandbox: processes, terminals, files, watches; and what the inside cannot do or see."""

# The temporary directories are those of sandboxes.
# ruff: noqa: S108

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import websockets
from e2b import AsyncSandbox, FileType, PtySize
from e2b.exceptions import (
    AuthenticationException,
    FileNotFoundException,
    InvalidArgumentException,
    NotFoundException,
    SandboxException,
    TimeoutException,
)  # fmt: skip
from e2b.sandbox.commands.command_handle import CommandExitException
from e2b.sandbox.filesystem.watch_handle import FilesystemEvent, FilesystemEventType
from websockets.typing import Subprotocol

from tests.local.e2b_world import Server, serving, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("envd")) as started:
        yield started


@pytest.fixture(scope="module")
async def sandbox(server: Server) -> AsyncSandbox:
    return await AsyncSandbox.create(envs={"CREATED": "yes"}, timeout=600, **server.options)


async def test_streams_exit_codes_and_signals_are_told_apart(sandbox: AsyncSandbox) -> None:
    """A failing command raises with both streams; one that a signal ended has exit code -1 and its name."""
    with pytest.raises(CommandExitException) as failed:
        await sandbox.commands.run("echo out; echo err >&2; exit 7")
    assert (failed.value.stdout, failed.value.stderr, failed.value.exit_code) == ("out\n", "err\n", 7)
    assert failed.value.error == "exit status 7"
    with pytest.raises(CommandExitException) as killed:
        await sandbox.commands.run("kill -9 $$")
    assert (killed.value.exit_code, killed.value.error) == (-1, "signal: killed")


async def test_environment_directory_and_user_are_as_asked(sandbox: AsyncSandbox) -> None:
    """Environment of the sandbox and of the call reach the command, the call's first; unknown users are refused."""
    result = await sandbox.commands.run("echo $CREATED $MINE; pwd; whoami", envs={"MINE": "2"}, cwd="/tmp")
    assert result.stdout == "yes 2\n/tmp\nuser\n"
    assert (await sandbox.commands.run("echo $CREATED", envs={"CREATED": "no"})).stdout == "no\n"
    assert (await sandbox.commands.run("id -u", user="root")).stdout == "1000\n"
    with pytest.raises(AuthenticationException):
        await sandbox.commands.run("id", user="nobody")
    with pytest.raises(NotFoundException):
        await sandbox.commands.run("id", cwd="/nowhere")


async def test_much_output_arrives_whole_and_is_not_held(sandbox: AsyncSandbox) -> None:
    """40 MB come through, every byte of them."""
    seen = 0

    def count(text: str) -> None:
        nonlocal seen
        seen += len(text)

    await sandbox.commands.run("head -c 40000000 /dev/zero | tr '\\0' x", on_stdout=count, retain_output=False)
    assert seen == 40_000_000


async def test_a_process_outlives_its_caller_and_can_be_followed_again(sandbox: AsyncSandbox) -> None:
    """Disconnecting does not end a command; it is listed, connected to and killed by its id."""
    handle = await sandbox.commands.run(
        "while [ ! -e /tmp/go ]; do sleep 0.02; done; echo done", background=True, timeout=0
    )
    await handle.disconnect()
    listed = {p.pid: p for p in await sandbox.commands.list()}
    assert listed[handle.pid].cmd == "/bin/bash"
    again = await sandbox.commands.connect(handle.pid, timeout=0)
    await sandbox.files.write("/tmp/go", "")
    assert (await again.wait()).stdout == "done\n"
    with pytest.raises(NotFoundException):
        await sandbox.commands.connect(handle.pid)
    other = await sandbox.commands.run("sleep 500", background=True, timeout=0)
    assert await sandbox.commands.kill(other.pid) is True
    with pytest.raises(CommandExitException):
        await other.wait()
    assert await sandbox.commands.kill(other.pid) is False


async def test_standard_input_is_sent_and_closed(sandbox: AsyncSandbox) -> None:
    """Input arrives in order, and its end is seen."""
    handle = await sandbox.commands.run("sort -n", background=True, stdin=True)
    await handle.send_stdin("3\n1\n")
    await sandbox.commands.send_stdin(handle.pid, b"2\n")
    await sandbox.commands.close_stdin(handle.pid)
    assert (await handle.wait()).stdout == "1\n2\n3\n"
    streaming = await sandbox.commands.run("cat", background=True, stdin=True)
    stream = sandbox.commands.stream_input(streaming.pid)
    for word in ("a", "b", "c"):
        await stream.send(word)
    await stream.close()
    await streaming.close_stdin()
    assert (await streaming.wait()).stdout == "abc"


async def test_a_commands_time_limit_kills_it(sandbox: AsyncSandbox) -> None:
    """The caller's time limit ends the process inside as well, as E2B's envd does."""
    with pytest.raises(TimeoutException):
        await sandbox.commands.run("exec sleep 8000", timeout=0.5)

    async def ended() -> bool:
        return not [p for p in await sandbox.commands.list() if "8000" in " ".join(p.args)]

    await until(ended, "the process is killed")


async def test_a_terminal_is_a_terminal(sandbox: AsyncSandbox) -> None:
    """A pty has the size it was given and the one it is changed to, and is interactive."""
    output = bytearray()
    terminal = await sandbox.pty.create(PtySize(rows=20, cols=90), on_data=output.extend, timeout=0)
    await sandbox.pty.send_stdin(terminal.pid, b"tty; stty size\n")
    await until(lambda: b"20 90" in output and b"/dev/pts/" in output, "the size is shown")
    await sandbox.pty.resize(terminal.pid, PtySize(rows=30, cols=100))
    await sandbox.pty.send_stdin(terminal.pid, b"stty size\n")
    await until(lambda: b"30 100" in output, "the new size is shown")
    await sandbox.pty.send_stdin(terminal.pid, b"exit 0\n")
    assert (await terminal.wait()).exit_code == 0


async def test_orphans_are_reaped(sandbox: AsyncSandbox) -> None:
    """Processes whose parents have ended leave no zombies."""
    await sandbox.commands.run("for i in 1 2 3 4 5; do (sh -c 'true &' &); done")

    async def clean() -> bool:
        return (await sandbox.commands.run("ps -eo stat= | grep -c '^Z' || true")).stdout.strip() == "0"

    await until(clean, "no zombie is left")


async def test_files_are_written_read_and_described(sandbox: AsyncSandbox) -> None:
    """Text, bytes, several at once, streams and gzip; parents are made, and what is told of a file is true."""
    written = await sandbox.files.write("deep/er/ü.txt", "häuser")
    assert (written.name, written.path, written.type) == ("ü.txt", "/home/user/deep/er/ü.txt", FileType.FILE)
    assert await sandbox.files.read("/home/user/deep/er/ü.txt") == "häuser"
    await sandbox.files.write_files([{"path": "m/1", "data": "one"}, {"path": "m/2", "data": b"\x00two"}])
    assert bytes(await sandbox.files.read("m/2", format="bytes")) == b"\x00two"
    big = os.urandom(3_000_000)
    await sandbox.files.write("big", big, use_octet_stream=True, gzip=True)
    assert b"".join([chunk async for chunk in await sandbox.files.read("big", format="stream")]) == big
    info = await sandbox.files.get_info("big")
    assert (info.size, info.owner, info.group, info.permissions) == (3_000_000, "user", "user", "-rw-r--r--")
    assert (await sandbox.commands.run("stat -c %U:%s big")).stdout == "user:3000000\n"
    await sandbox.files.write("tagged", "1", metadata={"origin": "test"})
    assert (await sandbox.files.get_info("tagged")).metadata == {"origin": "test"}
    await sandbox.files.write("big", "short")
    assert await sandbox.files.read("big") == "short"


async def test_file_errors_are_the_sdks_own(sandbox: AsyncSandbox) -> None:
    """What is not there, is a directory or may not be written is told as E2B tells it."""
    with pytest.raises(FileNotFoundException):
        await sandbox.files.read("nothing")
    with pytest.raises(FileNotFoundException):
        await sandbox.files.get_info("nothing")
    with pytest.raises(InvalidArgumentException):
        await sandbox.files.read("/home/user")
    with pytest.raises(InvalidArgumentException):
        await sandbox.files.write("/home/user", "x")
    with pytest.raises(SandboxException):
        await sandbox.files.write("/usr/bin/evil", "x")
    assert await sandbox.files.exists("nothing") is False


async def test_directories_are_made_listed_moved_and_removed(sandbox: AsyncSandbox) -> None:
    """Listing goes as deep as asked, in order; a move crosses mounts; removing what is gone is no error."""
    assert await sandbox.files.make_dir("tree/a/b") is True
    assert await sandbox.files.make_dir("tree/a/b") is False
    await sandbox.files.write("tree/a/b/leaf", "1")
    assert [e.name for e in await sandbox.files.list("tree")] == ["a"]
    assert [e.path for e in await sandbox.files.list("tree", depth=3)] == [
        "/home/user/tree/a", "/home/user/tree/a/b", "/home/user/tree/a/b/leaf",
    ]  # fmt: skip
    moved = await sandbox.files.rename("tree/a", "/app/moved")
    assert (moved.path, moved.type) == ("/app/moved", FileType.DIR)
    assert await sandbox.files.read("/app/moved/b/leaf") == "1"
    await sandbox.files.remove("/app/moved")
    await sandbox.files.remove("/app/moved")
    assert await sandbox.files.exists("/app/moved") is False


async def test_changes_are_watched(sandbox: AsyncSandbox) -> None:
    """A recursive watch tells of changes in directories that did not exist when it began."""
    await sandbox.files.make_dir("watched")
    events: list[FilesystemEvent] = []
    watch = await sandbox.files.watch_dir("watched", events.append, recursive=True, timeout=0)
    await sandbox.files.make_dir("watched/new")
    await until(lambda: any(e.type is FilesystemEventType.CREATE for e in events), "the directory is told")
    await sandbox.files.write("watched/new/file", "1")
    await sandbox.commands.run("mv watched/new/file watched/new/other; rm watched/new/other")
    wanted = {
        ("new/file", FilesystemEventType.WRITE), ("new/file", FilesystemEventType.RENAME),
        ("new/other", FilesystemEventType.CREATE), ("new/other", FilesystemEventType.REMOVE),
    }  # fmt: skip
    await until(lambda: wanted <= {(e.name, e.type) for e in events}, "all changes are told")
    await watch.stop()
    with pytest.raises(FileNotFoundException):
        await sandbox.files.watch_dir("unwatchable", events.append)


async def test_signed_urls_open_one_file_for_one_purpose(server: Server, sandbox: AsyncSandbox) -> None:
    """A signed URL works without a token, for its own path and operation, until it expires."""
    await sandbox.files.write("signed.txt", "public")
    async with httpx.AsyncClient() as http:
        url = sandbox.download_url("signed.txt", use_signature_expiration=60)
        assert (await http.get(url)).text == "public"
        assert (await http.get(url.replace("signed.txt", "other.txt"))).status_code == 401
        assert (await http.post(url, files={"file": b"x"})).status_code == 401
        assert (await http.get(sandbox.download_url("signed.txt", use_signature_expiration=-5))).status_code == 401
        upload = sandbox.upload_url("uploaded.txt")
        assert (await http.post(upload, files={"file": b"via url"})).status_code == 200
    assert await sandbox.files.read("uploaded.txt") == "via url"


async def test_a_preview_address_reaches_the_port_inside(server: Server, sandbox: AsyncSandbox) -> None:
    """HTTP by host name is proxied to the port, with method, query, body and status; a closed port is told as such."""
    program = (
        "import http.server as h\n"
        "class H(h.BaseHTTPRequestHandler):\n"
        "    def do_POST(self):\n"
        "        body = self.rfile.read(int(self.headers['Content-Length']))\n"
        "        self.send_response(201); self.end_headers()\n"
        "        self.wfile.write(self.path.encode() + b' ' + body + b' ' + self.headers['Host'].encode())\n"
        "h.ThreadingHTTPServer(('127.0.0.1', 8000), H).serve_forever()\n"
    )
    await sandbox.files.write("web.py", program)
    await sandbox.commands.run("python3 web.py", background=True, timeout=0)
    host = sandbox.get_host(8000)
    assert host == f"8000-{sandbox.sandbox_id}.localhost:{server.url.rpartition(':')[2]}"
    async with httpx.AsyncClient(base_url=server.url) as http:

        async def open_() -> bool:
            return (await http.post("/", headers={"Host": host}, content=b"")).status_code == 201

        await until(open_, "the server inside listens")
        answer = await http.post("/a%20b?c=d", headers={"Host": host}, content=b"body")
        assert (answer.status_code, answer.text) == (201, f"/a%20b?c=d body {host}")
        closed = await http.get("/", headers={"Host": sandbox.get_host(9)})
        assert (closed.status_code, closed.json()["message"]) == (502, "The sandbox is running but port is not open")


async def test_the_host_is_invisible_from_inside(server: Server, sandbox: AsyncSandbox) -> None:
    """No process, file, environment variable or secret of the host is seen, and the system cannot be changed."""
    canary = Path("/tmp") / f"canary-{secrets.token_hex(8)}"
    canary.write_text("host secret")
    try:
        result = await sandbox.commands.run(
            f"cat {canary}; ls /work /etc/shadow /sys; env; cat /proc/*/environ /proc/*/cmdline;"
            " touch /usr/x /etc/x /opt/python/x /run/sandstream/lib/x; echo core > /proc/sys/kernel/core_pattern; true"
        )
    finally:
        canary.unlink()
    everything = result.stdout + result.stderr
    assert "host secret" not in everything
    assert server.api_key not in everything
    assert str(server.root) not in everything
    assert (sandbox._envd_access_token or "none") not in everything
    for denied in ("/work", "/etc/shadow", "/sys"):
        assert f"cannot access '{denied}'" in result.stderr or f"cannot open directory '{denied}'" in result.stderr
    assert result.stderr.count("Read-only file system") == 5
    # An interpreter that was built for a place below /root is mounted there too, and nothing else is.
    shown = (await sandbox.commands.run("ls -A /root || true")).stdout.split()
    assert set(shown) <= {*Path(sys.base_prefix).parts[2:3]}


async def test_sandboxes_do_not_see_each_other(server: Server, sandbox: AsyncSandbox) -> None:
    """Files and processes of one are not those of another."""
    await sandbox.files.write("/tmp/mine", "1")
    await sandbox.commands.run("sleep 9000", background=True, timeout=0)
    async with server.sandbox() as other:
        result = await other.commands.run("ls /tmp /home/user; ps ax | grep -c '[s]leep 9000' || true")
        assert "mine" not in result.stdout
        assert result.stdout.endswith("0\n")


async def test_links_lead_nowhere_but_inside(server: Server, sandbox: AsyncSandbox) -> None:
    """Paths are resolved inside: a link to a host file, or up and out, gives the sandbox's view of that path."""
    secret = server.root / "secret.txt"
    secret.write_text("host secret")
    try:
        await sandbox.commands.run(f"ln -sfn {secret} a; ln -sfn {server.root} b; ln -sfn / c; ln -sfn /proc/1/root d")
        for path in ("a", "b/secret.txt", f"c{secret}", f"../../../../..{secret}", f"d{secret}"):
            with pytest.raises(SandboxException):
                await sandbox.files.read(path)
        with pytest.raises(SandboxException):
            await sandbox.files.write("b/new.txt", "escaped")
        assert not (server.root / "new.txt").exists()
        await sandbox.files.remove("b")
        assert secret.exists()
    finally:
        secret.unlink()


async def test_processes_and_memory_are_limited(tmp_path: Path) -> None:
    """A memory hog and a fork bomb hit their limits, and the sandbox is still usable afterwards."""
    if not os.access("/sys/fs/cgroup/pids", os.W_OK):
        pytest.skip("needs writable control groups")
    with serving(tmp_path, LOCAL_SANDBOX_PROCESSES="64", LOCAL_SANDBOX_MEMORY_MB="96") as server:
        async with server.sandbox() as sandbox:
            with pytest.raises(CommandExitException):
                await sandbox.commands.run("python3 -c 'x = bytearray(400 << 20)'")
            # Bash tries again for a while when it cannot fork; one refusal is what this is about.
            bomb = "for i in $(seq 100); do sleep 60 & done > out 2> errors"
            await sandbox.commands.run(bomb, background=True, timeout=0)

            async def refused() -> bool:
                return await sandbox.files.exists("errors") and "fork" in await sandbox.files.read("errors")

            await until(refused, "a fork is refused")
            assert await sandbox.files.read("/etc/hostname") == "sandbox\n"


async def test_a_preview_carries_websockets(server: Server, sandbox: AsyncSandbox) -> None:
    """A websocket by host name is joined to one inside: text and bytes both ways, subprotocol, close code."""
    program = (
        "import base64,hashlib,socket\n"
        "s=socket.create_server(('127.0.0.1',8001)); c,_=s.accept(); head=c.recv(65536).decode()\n"
        "key=[l.split(': ')[1] for l in head.split('\\r\\n') if l.lower().startswith('sec-websocket-key')][0]\n"
        "guid='258EAFA5-E914-47DA-95CA-C5AB0DC85B11'\n"
        "accept=base64.b64encode(hashlib.sha1((key+guid).encode()).digest()).decode()\n"
        "c.sendall(f'HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
        "Sec-WebSocket-Accept: {accept}\\r\\nSec-WebSocket-Protocol: chat\\r\\n\\r\\n'.encode())\n"
        "f=c.recv(65536); n=f[1]&127; m=f[2:6]; d=bytes(b^m[i%4] for i,b in enumerate(f[6:6+n]))\n"
        "c.sendall(bytes([0x81,len(d)])+d+bytes([0x82,2])+b'\\x00\\xff'+bytes([0x88,2])+(4001).to_bytes(2,'big'))\n"
        "c.recv(100)\n"
    )
    await sandbox.files.write("ws.py", program)
    await sandbox.commands.run("python3 ws.py", background=True, timeout=0)
    listening = "until grep -q :1F41 /proc/net/tcp; do sleep 0.02; done"
    await sandbox.commands.run(listening)
    port = int(server.url.rpartition(":")[2])
    uri = f"ws://{sandbox.get_host(8001)}/path?q=1"
    async with websockets.connect(uri, host="127.0.0.1", port=port, subprotocols=[Subprotocol("chat")]) as visitor:
        assert visitor.subprotocol == "chat"
        await visitor.send("hello")
        assert await visitor.recv() == "hello"
        assert await visitor.recv() == b"\x00\xff"
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await visitor.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4001
