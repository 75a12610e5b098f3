"""What a network configuration means, entry by entry."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from local.e2b.egress import (
    LOOPBACK,
    Destination,
    DestinationError,
    Network,
    Policy,
    canonical_host,
    parse_destination,
    parse_pattern,
)  # fmt: skip

PUBLIC = ipaddress.ip_address("93.184.216.34")
ALL = ["0.0.0.0/0"]


def policy(*allowed: str, deny: list[str] | None = None, **rules: dict[str, str]) -> Policy:
    wire = {host: [{"transform": {"headers": headers}}] for host, headers in rules.items()}
    return Policy.of(Network.model_validate({"allowOut": list(allowed), "denyOut": deny or ALL, "rules": wire}))


def allows(decides: Policy, target: str, address: str = str(PUBLIC), default_port: int = 443) -> bool:
    try:
        decides.check(parse_destination(target, default_port), [ipaddress.ip_address(address)])
    except DestinationError:
        return False
    return True


@pytest.mark.parametrize(
    ("entry", "target", "expected"),
    [
        ("packages.test", "packages.test:443", True),
        ("packages.test", "packages.test:80", True),
        ("packages.test", "Packages.Test.:443", True),
        ("packages.test", "packages.test:22", False),
        ("packages.test", "files.packages.test", False),
        ("packages.test", "packages.test.evil.example", False),
        ("packages.test:8443", "packages.test:8443", True),
        ("packages.test:8443", "packages.test:443", False),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "notexample.com", False),
        ("*.example.com:99", "a.example.com:99", True),
    ],
)
def test_names_are_allowed_with_the_webs_ports_or_their_own(entry: str, target: str, expected: bool) -> None:
    """A name without a port stands for 80 and 443, one with a port for that; a wildcard for what is below it."""
    assert allows(policy(entry), target) is expected


@pytest.mark.parametrize(
    ("entry", "address", "port", "expected"),
    [
        ("8.8.8.8", "8.8.8.8", 53, True),
        ("8.8.8.8", "8.8.4.4", 53, False),
        ("8.8.0.0/16", "8.8.4.4", 53, True),
        ("8.8.8.8:53", "8.8.8.8", 53, True),
        ("8.8.8.8:53", "8.8.8.8", 54, False),
        ("10.0.0.0/8", "10.1.2.3", 5432, True),
        ("2001:db8::/32", "2001:db8::1", 80, True),
        ("[2001:db8::1]:80", "2001:db8::1", 80, True),
        ("[2001:db8::1]:80", "2001:db8::1", 81, False),
        ("0.0.0.0/0", "127.0.0.1", 80, False),
        ("127.0.0.0/8", "127.0.0.1", 80, False),
        ("127.0.0.1", "127.0.0.1", 80, False),
        ("127.0.0.1:80", "127.0.0.1", 80, True),
        ("localhost:80", "127.0.0.1", 80, True),
    ],
)
def test_addresses_and_networks_are_allowed_as_written(entry: str, address: str, port: int, expected: bool) -> None:
    """Without a port every port is meant, except for loopback, where only an exact port is."""
    target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    assert allows(policy(entry), target, address) is expected


def test_allowed_goes_before_denied_and_denied_before_open() -> None:
    """As at E2B: allow_out wins over deny_out, and what neither names is open."""
    decides = policy("8.8.8.8", deny=["8.8.0.0/16"])
    assert allows(decides, "8.8.8.8")
    assert not allows(decides, "8.8.4.4", "8.8.4.4")
    assert allows(decides, "example.com")
    closed = Policy.of(Network(allow_internet_access=False))
    assert not allows(closed, "example.com")


def test_a_denied_host_is_not_even_resolved() -> None:
    """Where only names and loopback are declared, another name is refused before any resolver hears of it."""
    decides = policy("packages.test", "127.0.0.1:54321")
    assert decides.may_be_allowed(Destination("packages.test", 443))
    assert not decides.may_be_allowed(Destination("secret-data.evil.example", 443))
    assert not decides.may_be_allowed(Destination(LOOPBACK, 5432))
    assert decides.may_be_allowed(Destination(LOOPBACK, 54321))


def test_the_most_exact_rule_gives_the_headers() -> None:
    """An exact host goes before a wildcard and a longer wildcard before a shorter; they are not merged."""
    decides = policy(
        **{
            "*.com": {"X": "1"},
            "*.example.com": {"X": "2"},
            "api.example.com": {"X": "3"},
            "127.0.0.1:99": {"Authorization": "a", "X-Other": "b"},
        }
    )
    assert decides.injected(Destination("a.com", 443)) == {"X": "1"}
    assert decides.injected(Destination("a.example.com", 443)) == {"X": "2"}
    assert decides.injected(Destination("api.example.com", 443)) == {"X": "3"}
    assert decides.injected(parse_destination("localhost:99", 80)) == {"Authorization": "a", "X-Other": "b"}
    assert decides.injected(parse_destination("localhost:98", 80)) == {}
    assert decides.injected(Destination("other.org", 443)) == {}


def test_a_rule_alone_opens_nothing() -> None:
    """Headers for a host do not allow the host."""
    decides = policy(**{"127.0.0.1:99": {"X": "1"}})
    assert decides.loopback_ports() == []
    assert not allows(decides, "127.0.0.1:99", "127.0.0.1")


@pytest.mark.parametrize("entry", ["", "a b", "host:0", "host:65536", "host:http", "http://host", "[::1", "a@b"])
def test_nonsense_is_refused_when_it_is_configured(entry: str) -> None:
    """An entry that is no host is an error of the request, not a rule that never matches."""
    with pytest.raises(ValueError, match="not a"):
        parse_pattern(entry)


def test_secrets_are_not_shown_again() -> None:
    """What a client can read back of its network has no header values."""
    network = Network.model_validate(
        {"allowOut": ["a.example"], "rules": {"a.example": [{"transform": {"headers": {"Authorization": "s3cret"}}}]}}
    )
    assert network.wire() == {"allowOut": ["a.example"], "denyOut": [], "rules": {"a.example": []}}


def test_wire_types_are_checked() -> None:
    """A list where a table belongs is refused with the field's name."""
    with pytest.raises(ValidationError, match="rules"):
        Network.model_validate({"rules": ["a.example"]})


@given(st.integers(min_value=0x7F000000, max_value=0x7FFFFFFF))
def test_every_loopback_address_in_every_base_is_one_host(number: int) -> None:
    """Decimal, hexadecimal and dotted forms of 127.0.0.0/8 are the same destination."""
    dotted = str(ipaddress.IPv4Address(number))
    for spelling in (str(number), hex(number), dotted, f"[::ffff:{dotted}]", f"{dotted}."):
        assert canonical_host(spelling) == LOOPBACK


@given(st.text(max_size=40))
def test_any_text_is_a_host_or_refused(text: str) -> None:
    """The parser of destinations fails in one way only, and what it lets through is stable."""
    try:
        target = parse_destination(text, 80)
    except ValueError:
        return
    assert canonical_host(target.host) == target.host
