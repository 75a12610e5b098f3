"""Rule `deletes-roots`: a command that takes the system or a home away, or all that is in it."""

from __future__ import annotations

from . import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .simple import Simple

RULE = "deletes-roots"
_NARROW = (
    *("-name", "-iname", "-path", "-ipath", "-wholename", "-regex", "-iregex", "-empty", "-size", "-newer", "-user"),
    *("-mtime", "-mmin", "-atime", "-amin", "-ctime", "-cmin"),
)
_FIND_OPTIONS = ("-H", "-L", "-P", "-D", "-O")


def removes(simple: Simple) -> Iterator[str]:
    """`rm`, `unlink`, `srm`."""
    recursive = simple.has("-r", "-R", "--recursive", "--no-preserve-root") or simple.name == "srm"
    for target in simple.operands():
        if (recursive or places.is_glob(target)) and places.is_root(target, simple.standing):
            yield RULE


def overwrites(simple: Simple) -> Iterator[str]:
    """`shred`, `wipe`, `truncate`: no file of the system, nor a whole folder."""
    for target in simple.operands(("-s", "-n", "--size", "--iterations")):
        if places.is_root(target, simple.standing) or places.is_system(target, simple.standing):
            yield RULE


def finds(simple: Simple) -> Iterator[str]:
    """`find … -delete` or with a command that removes. What it narrows down to is only asked of homes."""
    if "-delete" not in simple.arguments and not _removes_found(simple.arguments):
        return
    words = simple.arguments
    narrow = any(word in _NARROW for word in words) and not {"!", "-not", "-o", "-or"} & set(words)
    for start in _starts(simple):
        if places.is_root(start, simple.standing, homes=not narrow) and not (narrow and _is_shared(start, simple)):
            yield RULE


def moves(simple: Simple) -> Iterator[str]:
    """`mv` of a root, or of what is in it."""
    target = simple.value("-t", "--target-directory")
    sources = simple.operands(("-t",))
    for source in sources if target is not None else sources[:-1]:
        if places.is_root(source, simple.standing):
            yield RULE


def mirrors(simple: Simple) -> Iterator[str]:
    """`rsync --delete` onto a root."""
    deletes = any(word.startswith("--del") for word in simple.arguments)
    if deletes and any(places.is_root(target, simple.standing) for target in simple.operands()[-1:]):
        yield RULE


def _starts(simple: Simple) -> list[str]:
    """Where find begins: the first arguments, up to its expression."""
    found: list[str] = []
    for word in simple.arguments:
        if word[:1] in "-(!" and word not in _FIND_OPTIONS:
            break
        if word not in _FIND_OPTIONS:
            found.append(word)
    return found or ["."]


def _removes_found(arguments: tuple[str, ...]) -> bool:
    executed = [place for place, word in enumerate(arguments) if word in ("-exec", "-execdir", "-ok", "-okdir")]
    return any(
        word.rsplit("/", 1)[-1] in ("rm", "shred", "unlink", "rmdir")
        for place in executed
        for word in arguments[place:]
    )


def _is_shared(start: str, simple: Simple) -> bool:
    return places.absolute(start, simple.standing) == places.SHARED


RULES = {
    **dict.fromkeys(("rm", "unlink", "srm"), removes),
    **dict.fromkeys(("shred", "wipe", "truncate"), overwrites),
    "find": finds,
    "mv": moves,
    "rsync": mirrors,
}
