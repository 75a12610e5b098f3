"""Rules on what belongs to the machine: privilege, devices, disks, permissions, stopping it."""

from __future__ import annotations

import re

from . import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .simple import Simple

PRIVILEGE, DEVICES, DISKS = "privilege", "writes-devices", "disks"
PERMISSIONS, STOPS = "opens-permissions", "stops-machine"
_SETUID = re.compile(r"0?[2-7][0-7]{3}|[ugoa]*[+=][rwxX]*s[rwxXst]*")
_OPEN_TO_ALL = re.compile(r"[0-7]*[2367]")
_WRITE = re.compile(r"([ugoa]*)[+=]([rwxXst]*)")
_LIFE = ("poweroff", "reboot", "halt", "kexec", "suspend", "hibernate", "rescue", "emergency")


def always(rule: str) -> Rule:
    """A rule that the program breaks whatever its arguments, unless it is asked for its version only."""

    def broken(simple: Simple) -> Iterator[str]:
        if simple.arguments not in (("--version",), ("--help",), ("-V",)):
            yield rule

    return broken


def grants(simple: Simple) -> Iterator[str]:
    """`usermod`, `passwd` and the like: somebody may do more than before."""
    if not simple.has("--help", "--version"):
        yield PRIVILEGE


def modes(simple: Simple) -> Iterator[str]:
    """`chmod`: setuid bits, everybody may write, or the whole system at once."""
    operands = [word for word in simple.arguments if not word.startswith("--") and not _is_option(word)]
    mode = operands[0] if operands else ""
    for part in mode.split(","):
        if _SETUID.fullmatch(part):
            yield PRIVILEGE
        if _opens(part):
            yield PERMISSIONS
    yield from _whole_system(simple, operands[1:])


def owners(simple: Simple) -> Iterator[str]:
    """`chown -R` and the like on the whole system."""
    yield from _whole_system(simple, simple.operands()[1:])


def creates(simple: Simple) -> Iterator[str]:
    """`mkdir -m` and `install -m` with a mode that `chmod` may not set."""
    mode = simple.value("-m", "--mode") or ""
    if _SETUID.fullmatch(mode) and simple.name == "install":
        yield PRIVILEGE
    if _opens(mode):
        yield PERMISSIONS
    if simple.name == "install":
        yield from copies(simple)


def masks(simple: Simple) -> Iterator[str]:
    """`umask 0`: everybody may write what is made from now on."""
    if any(re.fullmatch("0+", word) for word in simple.operands()):
        yield PERMISSIONS


def copies(simple: Simple) -> Iterator[str]:
    """`cp`, `mv`, `tee`, `ln`, `sed -i`: where they write."""
    operands = simple.operands(("-m", "-o", "-g"))
    in_place = simple.name in ("tee", "sponge", "truncate", "shred")
    for target in operands if in_place else operands[-1:]:
        yield from writes(target, simple.standing)


def writes(target: str, standing: str) -> Iterator[str]:
    """The rules broken by writing to a path."""
    if places.absolute(target, standing) in ("/proc/sysrq-trigger", "/sys/power/state"):
        yield STOPS
    elif places.is_device(target, standing):
        yield DEVICES
    if places.is_account(target, standing):
        yield PRIVILEGE


def replaces(simple: Simple) -> Iterator[str]:
    """`mv` onto a device, with `/dev/null` among them: what is moved there is gone."""
    yield from copies(simple)
    if simple.operands()[-1:] == ["/dev/null"]:
        yield DEVICES


def transfers(simple: Simple) -> Iterator[str]:
    """`dd of=`."""
    for word in simple.arguments:
        if word.startswith("of="):
            yield from writes(word[3:], simple.standing)


def partitions(simple: Simple) -> Iterator[str]:
    """`mount`, `fdisk` and the like, unless they only list."""
    listing = not simple.arguments or simple.has("-l", "--list", "--version", "--help")
    if not listing:
        yield DISKS


def kills(simple: Simple) -> Iterator[str]:
    """`kill` of everything, of the first process, or of the runner."""
    words = list(simple.arguments)
    if words[:1] in (["-l"], ["-L"], ["--list"]):
        return
    if len(words) > 1 and words[0].startswith("-"):
        del words[: 2 if words[0] in ("-s", "-n", "--signal") else 1]
    if {"-1", "1", "0"} & set(words) - {"0"}:
        yield STOPS


def kills_by_name(simple: Simple) -> Iterator[str]:
    """`pkill` and `killall` of everybody's processes."""
    everything = {".", ".*", "", "*", "init", "systemd"} & set(simple.operands(("-s", "--signal")))
    if everything or (simple.has("-u", "-U", "--user") and not simple.operands(("-u", "-U", "--user", "-s"))):
        yield STOPS


def runlevel(simple: Simple) -> Iterator[str]:
    """`init 0`, `telinit 6`."""
    if {"0", "1", "6", "s", "S"} & set(simple.arguments):
        yield STOPS


def manages(simple: Simple) -> Iterator[str]:
    """`systemctl reboot` and the like; that it starts services is another rule."""
    if set(_LIFE) & set(simple.arguments):
        yield STOPS


def _is_option(word: str) -> bool:
    """An option, and not a mode that takes rights away, as `-w`."""
    return bool(re.fullmatch("-[RfvcLHP]+", word))


def _opens(mode: str) -> bool:
    if mode.isdigit():
        return len(mode) >= 3 and bool(_OPEN_TO_ALL.fullmatch(mode))
    match = _WRITE.fullmatch(mode)
    return match is not None and "w" in match[2] and bool({"o", "a"} & set(match[1]))


def _whole_system(simple: Simple, targets: list[str]) -> Iterator[str]:
    if simple.has("-R", "--recursive") and any(places.is_root(one, simple.standing, homes=False) for one in targets):
        yield PERMISSIONS


if TYPE_CHECKING:
    from collections.abc import Callable

    Rule = Callable[[Simple], Iterator[str]]

_AS_ANOTHER = ("sudo", "sudoedit", "su", "doas", "pkexec", "runuser", "gosu", "su-exec", "setcap", "visudo", "chroot")
_ACCOUNTS = (
    "usermod",
    "useradd",
    "adduser",
    "passwd",
    "chpasswd",
    "groupmod",
    "gpasswd",
    "nsenter",
    "unshare",
    "capsh",
)
_DISK_MAKERS = ("mkswap", "swapon", "swapoff", "wipefs", "blkdiscard", "cryptsetup", "pvcreate", "vgcreate", "lvcreate")
RULES: dict[str, Rule] = {
    **dict.fromkeys(_AS_ANOTHER, always(PRIVILEGE)),
    **dict.fromkeys(_ACCOUNTS, grants),
    **dict.fromkeys(_DISK_MAKERS, always(DISKS)),
    **dict.fromkeys(("mount", "umount", "fdisk", "sfdisk", "gdisk", "parted", "losetup", "hdparm"), partitions),
    **dict.fromkeys(("shutdown", "reboot", "halt", "poweroff", "killall5"), always(STOPS)),
    **dict.fromkeys(("init", "telinit"), runlevel),
    **dict.fromkeys(("cp", "tee", "ln", "sponge", "truncate", "shred"), copies),
    **dict.fromkeys(("chown", "chgrp", "setfacl"), owners),
    **dict.fromkeys(("mkdir", "install", "mkfifo"), creates),
    **dict.fromkeys(("pkill", "killall"), kills_by_name),
    "mknod": always(DEVICES),
    "badblocks": always(DISKS),
    "mv": replaces,
    "chmod": modes,
    "umask": masks,
    "dd": transfers,
    "kill": kills,
    "systemctl": manages,
}
