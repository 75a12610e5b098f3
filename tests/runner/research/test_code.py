"""Programs in other languages: which commands are written out in them."""

from __future__ import annotations

import pytest

from sandbox_scripts.drivers.research.code import Within, within

TEXTS = [
    ("python", "import os; os.system('a b')", ["a b"]),
    ("python3", "__import__('os').system('a')", ["a"]),
    ("python", "from os import popen\npopen('a')", ["a"]),
    ("python", "import subprocess\nsubprocess.run('a', shell=True)", ["a"]),
    ("python", "import os; os.system('a' + ' b')", ["a b"]),
    ("python", "exec(\"import os; os.system('a')\")", ["a"]),
    ("python", "import asyncio; asyncio.run(main())", []),
    ("python", "print('os.system(1)')", []),
    ("perl", "system('a b')", ["a b"]),
    ("perl", 'exec "a"', ["a"]),
    ("perl", "print `a b`", ["a b"]),
    ("perl", "qx{a b}", ["a b"]),
    ("ruby", "system 'a'", ["a"]),
    ("php", "shell_exec('a');", ["a"]),
    ("node", "require('child_process').execSync('a b')", ["a b"]),
    ("node", "console.log(`text`)", []),
    ("awk", 'BEGIN { system("a b") }', ["a b"]),
    ("awk", 'BEGIN { "a b" | getline x }', ["a b"]),
    ("awk", "{ print $1 }", []),
]
COMMANDS = [
    ("import subprocess as s; s.run(['a', 'b'])", ("a", "b")),
    ("import subprocess as s; s.Popen(('a', '-x'))", ("a", "-x")),
    ("import shutil; shutil.rmtree('/x')", ("rm", "-rf", "/x")),
    ("import shutil, os; shutil.rmtree(os.path.expanduser('~'))", ("rm", "-rf", "/home/user")),
    ("import os; os.execvp('a', ['a', 'b'])", ("a", "b")),
    ("open('/x')", (":", "/x")),
]
RULES = [
    ("python", "import os; os.kill(1, 9)", ["stops-machine"]),
    ("python", "import os; os.kill(-1, 9)", ["stops-machine"]),
    ("python", "import os; os.setuid(0)", ["privilege"]),
    ("python", "import base64; exec(base64.b64decode('eA=='))", ["unknown-command"]),
    ("python", "import socket,os; os.dup2(socket.socket().fileno(), 0)", ["reverse-shell"]),
    ("perl", "fork while fork", ["fork-bomb"]),
    ("ruby", "require 'socket'; exec '/bin/sh' if TCPSocket.new('a', 1)", ["reverse-shell"]),
    ("python", "import socket; socket.create_connection(('a', 1))", []),
    ("python", "import os; os.kill(pid, 9)", []),
]


@pytest.mark.parametrize(("language", "code", "texts"), TEXTS)
def test_shell_text_in_a_program_is_found(language: str, code: str, texts: list[str]) -> None:
    """What is written out as a text for a shell."""
    assert within(language, code).texts == texts


@pytest.mark.parametrize(("code", "command"), COMMANDS)
def test_commands_in_python_are_found(code: str, command: tuple[str, ...]) -> None:
    """Lists of words, and calls that do what a command would."""
    assert command in within("python", code).commands


@pytest.mark.parametrize(("language", "code", "rules"), RULES)
def test_a_program_breaks_rules_by_itself(language: str, code: str, rules: list[str]) -> None:
    """Without any command."""
    assert within(language, code).rules == rules


def test_what_a_program_feeds_to_a_shell_is_told_apart() -> None:
    """The shell's command is known, what it reads is not."""
    assert within("awk", '{ print | "sh" }').fed == ["sh"]


def test_a_program_that_is_no_python_is_searched_all_the_same() -> None:
    """An older Python's, or one with a slip."""
    assert within("python", "print 'x'; os.system('a')").texts == ["a"]


def test_an_empty_program_does_nothing() -> None:
    """In any language."""
    for language in ("python", "perl", "node", "awk"):
        assert within(language, "") == Within()
