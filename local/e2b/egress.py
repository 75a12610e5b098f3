"""What a sandbox may reach: E2B's allow_out, deny_out and rules, with a port where a host is written with one.

Loopback is never open by default: a loopback address is reached when its exact port is declared, by whatever name or
spelling, and by no name that merely resolves to it.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK = "127.0.0.1"
EVERYTHING = ("0.0.0.0/0", "::/0")
# An allowed name without a port stands for the web: so it does at E2B, where names are seen in Host and SNI only.
WEB_PORTS = (80, 443)
DEFAULT_PORTS = {"http": 80, "https": 443}


class DestinationError(Exception):
    """The sandbox may not go there."""


class Transform(BaseModel):
    """Headers that a rule sets."""

    model_config = ConfigDict(extra="ignore")
    headers: dict[str, str] = Field(default_factory=dict)


class Rule(BaseModel):
    """One rule of a host."""

    model_config = ConfigDict(extra="ignore")
    transform: Transform = Field(default_factory=Transform)


class Network(BaseModel):
    """A network configuration as it comes over the wire; what is left out is open."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    allow_out: list[str] = Field(default_factory=list, alias="allowOut")
    deny_out: list[str] = Field(default_factory=list, alias="denyOut")
    rules: dict[str, list[Rule]] = Field(default_factory=dict)
    allow_internet_access: bool | None = None
    allow_public_traffic: bool | None = Field(default=None, alias="allowPublicTraffic")

    def wire(self) -> dict[str, Any]:
        """As E2B shows it again; the values of headers are secrets and are left out."""
        fields = {"allow_out", "deny_out", "allow_public_traffic"}
        shown = self.model_dump(by_alias=True, exclude_none=True, include=fields)
        shown["rules"] = {host: [] for host in self.rules}
        return shown


@dataclass(frozen=True)
class Destination:
    """A host, in its one spelling (lower case, loopback as 127.0.0.1), and a port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine, spelled as such."""
        return self.host == LOOPBACK

    @property
    def address(self) -> IPAddress | None:
        """The address, when the host is one."""
        return _address(self.host)


@dataclass(frozen=True)
class Pattern:
    """One entry: a name, `*.name`, an address or a network, with or without a port."""

    name: str = ""
    network: IPNetwork | None = None
    port: int | None = None

    def matches_name(self, target: Destination) -> bool:
        """By what the sandbox asked for."""
        if not self.name or not self._has_port(target.port, WEB_PORTS):
            return False
        wildcard = self.name.startswith("*.")
        return target.host.endswith(self.name[1:]) if wildcard else target.host == self.name

    def matches_address(self, address: IPAddress, port: int) -> bool:
        """By where that leads; loopback takes an exact port."""
        if self.network is None or address not in self.network:
            return False
        return self.port == port if address.is_loopback else self._has_port(port, None)

    def _has_port(self, port: int, default: tuple[int, ...] | None) -> bool:
        if self.port is not None:
            return port == self.port
        return default is None or port in default


@dataclass
class Policy:
    """Decides about destinations; made anew from each configuration."""

    allowed: list[Pattern] = field(default_factory=list)
    denied: list[Pattern] = field(default_factory=list)
    headers: list[tuple[Pattern, dict[str, str]]] = field(default_factory=list)

    @classmethod
    def of(cls, network: Network) -> Policy:
        """Raises ValueError for an entry that is no host."""
        denied = list(network.deny_out)
        if network.allow_internet_access is False:
            denied += EVERYTHING
        rules = [(parse_pattern(host), _headers(rules)) for host, rules in network.rules.items()]
        # An exact name goes before wildcards, and the longest wildcard before shorter ones.
        rules.sort(key=lambda rule: (rule[0].name.startswith("*"), -len(rule[0].name)))
        return cls([parse_pattern(e) for e in network.allow_out], [parse_pattern(e) for e in denied], rules)

    def loopback_ports(self) -> list[int]:
        """The ports of this machine that are declared."""
        return sorted({p.port for p in self.allowed if p.port is not None and _is_loopback_pattern(p)})

    def check(self, target: Destination, addresses: list[IPAddress]) -> IPAddress:
        """The one of the target's `addresses` to connect to. Raises DestinationError when none is allowed."""
        for address in addresses:
            if self._allows(target, _unmapped(address)):
                return address
        raise DestinationError(f"{target.host}:{target.port} is not allowed")

    def may_be_allowed(self, target: Destination) -> bool:
        """False when no address could make it allowed, so that not even the name is resolved."""
        if target.is_loopback:
            return target.port in self.loopback_ports()
        if any(p.matches_name(target) for p in self.allowed):
            return True
        by_address = any(p.network is not None and not _is_loopback_pattern(p) for p in self.allowed)
        return by_address or not self._denies_everything()

    def injected(self, target: Destination) -> dict[str, str]:
        """The headers that requests to the target get."""
        for pattern, headers in self.headers:
            address = target.address
            if pattern.matches_name(target) or (address and pattern.matches_address(address, target.port)):
                return headers
        return {}

    def _allows(self, target: Destination, address: IPAddress) -> bool:
        if address.is_loopback or address.is_unspecified:
            return target.is_loopback and target.port in self.loopback_ports()
        if any(p.matches_address(address, target.port) for p in self.allowed):
            return True
        if any(p.matches_name(target) for p in self.allowed):
            return not address.is_link_local
        if any(p.matches_address(address, target.port) for p in self.denied):
            return False
        return address.is_global

    def _denies_everything(self) -> bool:
        return any(p.network is not None and str(p.network) in EVERYTHING for p in self.denied)


def parse_destination(authority: str, default_port: int) -> Destination:
    """`host[:port]` as a client writes it. Raises ValueError."""
    host, port = _split(authority)
    return Destination(canonical_host(host), port if port is not None else default_port)


def canonical_host(host: str) -> str:
    """One spelling for each host: lower case, no final dot, addresses as usual, all of loopback as 127.0.0.1.

    Decimal, octal, hexadecimal and shortened IPv4 addresses are read as `inet_aton` reads them. Raises ValueError.
    """
    host = host.strip("[]").rstrip(".").lower()
    if not host or any(c.isspace() or c in "/@\\\0" for c in host):
        raise ValueError("not a host")
    address = _address(host)
    if address is not None and (address.is_loopback or address.is_unspecified):
        return LOOPBACK
    if host == "localhost" or host.endswith(".localhost"):
        return LOOPBACK
    return str(address) if address is not None else host


def parse_pattern(entry: str) -> Pattern:
    """An entry of allow_out, deny_out or rules. Raises ValueError."""
    try:
        return Pattern(network=ipaddress.ip_network(entry, strict=False))
    except ValueError:
        host, port = _split(entry)
    if host.startswith("*."):
        return Pattern(name=host.lower(), port=port)
    host = canonical_host(host)
    address = _address(host)
    if address is not None:
        return Pattern(network=ipaddress.ip_network(host), port=port)
    return Pattern(name=host, port=port)


def _is_loopback_pattern(pattern: Pattern) -> bool:
    return pattern.network is not None and str(pattern.network) == f"{LOOPBACK}/32"


def _headers(rules: list[Rule]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for rule in rules:
        merged.update(rule.transform.headers)
    return merged


def _split(authority: str) -> tuple[str, int | None]:
    if authority.startswith("["):
        host, closed, rest = authority[1:].partition("]")
        if not closed or rest[:1] not in ("", ":"):
            raise ValueError(f"not a host: {authority}")
        port = rest.removeprefix(":")
    elif authority.count(":") > 1:
        host, port = authority, ""
    else:
        host, _, port = authority.partition(":")
    if not port:
        return host, None
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"not a port: {port}")
    return host, int(port)


def _address(host: str) -> IPAddress | None:
    try:
        return _unmapped(ipaddress.ip_address(host.split("%")[0]))
    except ValueError:
        return _inet_aton(host)


def _inet_aton(host: str) -> IPAddress | None:
    """What the resolver would make of `2130706433`, `0x7f.1` or `127.1`."""
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host)) if host[:1].isdigit() and " " not in host else None
    except OSError:
        return None


def _unmapped(address: IPAddress) -> IPAddress:
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address
