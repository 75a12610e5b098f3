"""The inside of a sandbox as bubblewrap builds it: what is mounted, which interpreter, which user.

Started as root, bubblewrap builds the mounts with root's rights and envd then becomes user 1000 for good: a process
that the kernel knows as root could write to /proc/sys even in a user namespace. Started as anyone else, it uses a user
namespace that maps them to 1000, inside which no further one can be made.
"""

from __future__ import annotations

import compileall
import contextlib
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.bubblewrap import BubblewrapMissingError, bwrap_path
from local.e2b.templates import Template

USER_ID = 1000
HOME = "/home/user"
PYTHON = "/opt/python"
LIBRARY = "/run/sandstream/lib"
PROXY_PORT = 3128
GATE = "/run/sandstream/gate/gate.sock"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
# The directories that are the sandbox's own and last as long as it does: inside -> place below its own directory.
WRITABLE = {HOME: "home/user", "/tmp": "tmp", "/app": "app", "/opt/sandstream": "opt/sandstream"}  # noqa: S108 inside the sandbox
INSIDE = ("envd", "envd_files", "envd_process", "envd_tunnels", "envd_unisolated", "envd_watch", "envd_wire")
BOOT = "import sys;sys.path.insert(0,{lib!r});from local.e2b.envd import main;main()"

# Of the host's /etc only what programs need to link, to resolve alternatives and to check certificates.
ETC_FROM_HOST = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "debian_version", "ld.so.cache",
    "ld.so.conf", "ld.so.conf.d", "localtime", "magic", "mime.types", "os-release", "pki/ca-trust", "pki/tls/certs",
    "protocols", "services", "ssl/certs", "ssl/openssl.cnf", "terminfo",
)  # fmt: skip

ETC = {
    "passwd": f"root:x:0:0:root:/root:/bin/bash\nuser:x:{USER_ID}:{USER_ID}:user:{HOME}:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": f"root:x:0:\nuser:x:{USER_ID}:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "hostname": "sandbox\n",
    "host.conf": "multi on\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n",
    "resolv.conf": "# No resolver: names are resolved by the egress proxy (see HTTP_PROXY).\n",
    "profile": "umask 022\n",
    "shells": "/bin/sh\n/bin/bash\n",
}


@dataclass(frozen=True)
class Assets:
    """What all sandboxes of one server share, read-only: envd's compiled modules and the files of /etc."""

    library: Path
    etc: Path


@dataclass(frozen=True)
class Descriptors:
    """The open files that bubblewrap and envd inherit, by number."""

    listener: int
    information: int
    gate_closed: int


def prepare(root: Path) -> Assets:
    """Write the shared files below `root`. Raises OSError."""
    assets = Assets(root / "lib", root / "etc")
    package = assets.library / "local" / "e2b"
    package.mkdir(parents=True, exist_ok=True)
    for name in INSIDE:
        shutil.copyfile(Path(__file__).with_name(f"{name}.py"), package / f"{name}.py")
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    # The mount is read-only inside, so bytecode that is missing now would be compiled again at every start.
    compileall.compile_dir(package.parent, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    assets.etc.mkdir(exist_ok=True)
    for name, text in ETC.items():
        (assets.etc / name).write_text(text)
    return assets


def make_directories(directory: Path) -> None:
    """The sandbox's writable directories below `directory`, owned by the one it runs as. Raises OSError."""
    for name in WRITABLE.values():
        path = directory / "files" / name
        path.mkdir(parents=True)
        path.chmod(0o1777 if name == "tmp" else 0o755)
        if os.geteuid() == 0:
            os.chown(path, USER_ID, USER_ID)


def arguments(directory: Path, assets: Assets, template: Template, fds: Descriptors) -> list[str]:
    """Bubblewrap's options for the sandbox in `directory`; the command is `boot()`."""
    return [
        *_namespaces(),
        *("--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"),
        *("--info-fd", str(fds.information), "--block-fd", str(fds.gate_closed)),
        *_system(),
        *_etc(assets.etc),
        *_own(directory),
        *_offered(template),
        *("--ro-bind", str(assets.library), LIBRARY, "--ro-bind", str(directory / "gate"), str(Path(GATE).parent)),
        *("--setenv", "PATH", "/usr/bin:/bin", "--chdir", "/", "--remount-ro", "/"),
    ]


def boot(listener: int) -> list[str]:
    """The command that bubblewrap starts: envd on its socket."""
    command = [f"{python_prefix()}/bin/python3", "-I", "-S", "-c", BOOT.format(lib=LIBRARY), str(listener)]
    return [*command, str(USER_ID)] if os.geteuid() == 0 else command


def search_path(template: Template, isolated: bool) -> str:
    """PATH inside: what the template puts first, then the host's own interpreter, where it is not the system's."""
    prefix = python_prefix() if isolated else sys.base_prefix
    first = [place for place in (template.path, f"{prefix}/bin") if place not in ("", "/usr/bin")]
    return ":".join([*first, SYSTEM_PATH])


def proxy_variables() -> dict[str, str]:
    """Programs go out by the gate's proxy, but for loopback, where declared ports lead to the gate by themselves."""
    proxy = f"http://127.0.0.1:{PROXY_PORT}"
    names = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "NO_PROXY": "127.0.0.1,localhost,::1"}
    return names | {name.lower(): value for name, value in names.items()}


def python_prefix() -> str:
    """Where the interpreter that runs us is found inside: under /usr as it is, anywhere else at a neutral path."""
    return sys.base_prefix if Path(sys.base_prefix).is_relative_to("/usr") else PYTHON


def _namespaces() -> list[str]:
    shared = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0:
        return [*shared, "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    user = ["--unshare-user", "--uid", str(USER_ID), "--gid", str(USER_ID), "--disable-userns"]
    return [*shared, *user, "--cap-drop", "ALL"]


def _system() -> list[str]:
    options = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        place = Path("/") / name
        if place.is_symlink():
            options += ["--symlink", str(place.readlink()), str(place)]
        elif place.is_dir():
            options += ["--ro-bind", str(place), str(place)]
    options += ["--perms", "1777", "--tmpfs", "/run"]
    for made in ("/etc", "/etc/pki", "/etc/pki/tls", "/etc/ssl", "/home", "/opt", "/var", "/run/sandstream"):
        options += ["--perms", "0755", "--dir", made]
    options += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"]
    options += ["--ro-bind-try", "/proc/sysrq-trigger", "/proc/sysrq-trigger", "--dev", "/dev"]
    options += ["--perms", "1777", "--tmpfs", "/dev/shm", "--symlink", "/tmp", "/var/tmp"]  # noqa: S108 inside
    return [*options, *_interpreter()]


def _interpreter() -> list[str]:
    if python_prefix() != PYTHON:
        return []
    options = _bare_interpreter(PYTHON)
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        # Its shared library may be looked for at the place it was built for.
        for parent in reversed(Path(sys.base_prefix).parents[:-1]):
            options += ["--perms", "0755", "--dir", str(parent)]
        options += _bare_interpreter(sys.base_prefix)
    return options


def _bare_interpreter(place: str) -> list[str]:
    """The interpreter at `place`, without the packages that its owner has installed."""
    packages = Path(sysconfig.get_path("purelib", vars={"base": place}))
    return ["--ro-bind", sys.base_prefix, place, "--tmpfs", str(packages), "--remount-ro", str(packages)]


def _etc(etc: Path) -> list[str]:
    options: list[str] = []
    for name in ETC_FROM_HOST:
        options += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for name in ETC:
        options += ["--ro-bind", str(etc / name), f"/etc/{name}"]
    return options


def _own(directory: Path) -> list[str]:
    options: list[str] = []
    for inside, name in WRITABLE.items():
        options += ["--bind", str(directory / "files" / name), inside]
    return options


def _offered(template: Template) -> list[str]:
    return [word for outside, inside in template.mounts for word in ("--ro-bind", str(outside), inside)]


def probe() -> None:
    """Raises BubblewrapMissingError when bubblewrap is there but may not build a sandbox on this machine."""
    true = shutil.which("true") or "/bin/true"
    command = [str(bwrap_path()), *_namespaces(), "--ro-bind", "/", "/", "--proc", "/proc", "--", true]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 our own arguments
    if done.returncode != 0:
        message = f"bubblewrap cannot build a sandbox here ({done.stderr.strip()}): user namespaces may be switched off"
        raise BubblewrapMissingError(message)


def sealed(options: list[str]) -> int:
    """Bubblewrap's options in a file without a name: on its command line every process inside could read them."""
    with tempfile.TemporaryFile() as file:
        file.write(b"".join(os.fsencode(option) + b"\0" for option in options))
        file.flush()
        fd = os.dup(file.fileno())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def remove_tree(directory: Path) -> None:
    """Whatever is in it: a directory that its owner cannot enter is opened first."""

    def open_and_retry(function: Any, path: str, _: BaseException) -> None:
        parent = Path(path).parent
        with contextlib.suppress(OSError):
            parent.chmod(0o700)
            if not Path(path).is_symlink():
                Path(path).chmod(0o700)
            function(path)

    with contextlib.suppress(FileNotFoundError):
        if sys.version_info >= (3, 12):
            shutil.rmtree(directory, onexc=open_and_retry)
        else:
            shutil.rmtree(directory, onerror=lambda f, p, e: open_and_retry(f, p, e[1]))
