"""The emulated Microsoft Entra without its HTTP side: tenants, people, applications, codes and tokens.

``entra.py`` serves it; ``routes.py`` asks it whether a token is one of its own. No I/O, and time is an argument of nothing but
``clock``, so tests can move it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlencode

from .aadsts import ERRORS, Refused
from .machines import HOME, Tenant
from .ssh_authority import SSHAuthority

Json = dict[str, Any]

AZURE_CLI_APP = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
PARTNER_TENANT_ID = "2c9a7f10-6d3e-4b85-9f04-b8d1e5a3c762"
ANY_TENANT = {"common", "organizations"}

CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXYZ23456789"


@dataclass(frozen=True)
class Person:
    username: str
    name: str
    oid: str
    home: str
    """Tenant."""
    guest_in: tuple[str, ...] = ()

    def may_enter(self, tenant: str) -> bool:
        return tenant == self.home or tenant in self.guest_in


PARTNER = Tenant(PARTNER_TENANT_ID, "Partner Institute", "partner.example")
"""A tenant that the first person is a guest in, beside those that the emulated Azure has."""
ADA, GRACE = "ada@example.com", "grace@partner.example"


@dataclass
class Behaviour:
    """What tests set: ``PUT /control/entra``."""

    interval: int = 5
    """Seconds between two questions of a client, as it is told."""
    slow_down: int = 0
    """How many of the next questions are answered with ``slow_down``."""
    code_lifetime: float = 900.0
    token_lifetime: float = 3900.0
    at_code: int | None = None
    """AADSTS number that the question for a code is answered with."""
    at_sign_in: int | None = None
    """The same for everybody who enters a code."""
    at_refresh: int | None = None
    """The same for every refresh, and for tenants and scopes that are new to a sign-in."""
    tenants: dict[str, int] = field(default_factory=dict)
    """The same for tokens of single tenants."""

    def update(self, values: Any) -> None:
        """Raises ValueError."""
        known = {f.name for f in fields(self)}
        if not isinstance(values, dict) or set(values) - known:
            raise ValueError(f"Entra's behaviour is an object with some of {', '.join(sorted(known))}")
        numbers = [values.get(n) for n in ("at_code", "at_sign_in", "at_refresh")] + list(
            (values.get("tenants") or {}).values()
        )
        if any(n is not None and n not in ERRORS for n in numbers):
            raise ValueError(f"an AADSTS number is one of {', '.join(map(str, sorted(ERRORS)))}")
        for name, value in values.items():
            setattr(self, name, value)


@dataclass
class DeviceCode:
    user_code: str
    client_id: str
    tenant: str
    scope: str
    expires: float
    person: Person | None = None
    refused: int | None = None
    spent: bool = False


@dataclass(frozen=True)
class LoginCode:
    """What the page of a web application's login gave to its address, good once."""

    person: Person
    client_id: str
    tenant: str
    scope: str
    redirect_uri: str
    challenge: str
    expires: float


@dataclass(frozen=True)
class Grant:
    """What a refresh token stands for."""

    person: Person
    client_id: str
    tenant: str
    """Where it was given; it is good in others too."""


class Directory:
    def __init__(self, tenants: Iterable[Tenant] = (HOME,), clock: Callable[[], float] = time.time) -> None:
        """The first person is at home in the first tenant and a guest in all others, the second in ``PARTNER`` only."""
        self.tenants = {t.id: t.domain for t in (*tenants, PARTNER)}
        home, *others = self.tenants
        self.people = (
            Person(ADA, "Ada Lovelace", "8b1f0c52-4f7e-4d09-9c7b-3a5d2e6f1a01", home, tuple(others)),
            Person(GRACE, "Grace Hopper", "8b1f0c52-4f7e-4d09-9c7b-3a5d2e6f1a02", PARTNER.id),
        )
        self.behaviour = Behaviour()
        self.ssh = SSHAuthority()
        self.applications: dict[str, str | None] = {AZURE_CLI_APP: None}
        """Client ids and their secrets; None: a public client."""
        self._clock = clock
        self.addresses: dict[str, str] = {}
        """Where the logins of web applications may lead, by client id."""
        self._codes: dict[str, DeviceCode] = {}
        self._logins: dict[str, LoginCode] = {}
        self._grants: dict[str, Grant] = {}
        self._tokens: dict[str, tuple[float, str, str]] = {}

    # -- questions of clients -----------------------------------------------------------------------------------------

    def tenant(self, name: str) -> str:
        """The id; ``common`` and ``organizations`` stay. Raises ``Refused``."""
        name = name.lower()
        if name in ANY_TENANT or name in self.tenants:
            return name
        for tenant_id, domain in self.tenants.items():
            if name == domain:
                return tenant_id
        raise Refused(90002, tenant=name)

    def device_code(self, tenant: str, client_id: str, scope: str) -> Json:
        tenant = self.tenant(tenant)
        if self.behaviour.at_code is not None:
            raise Refused(self.behaviour.at_code, app=client_id, tenant=tenant)
        self._check_application(client_id, tenant)
        if not scope:
            raise Refused(70011)
        user_code = "".join(secrets.choice(CODE_LETTERS) for _ in range(9))
        device_code = secrets.token_urlsafe(96)
        expires = self._clock() + self.behaviour.code_lifetime
        self._codes[device_code] = DeviceCode(user_code, client_id, tenant, scope, expires)
        return {
            "user_code": user_code,
            "device_code": device_code,
            "expires_in": int(self.behaviour.code_lifetime),
            "interval": self.behaviour.interval,
        }

    def token(self, tenant: str, form: dict[str, str], issuer: str) -> Json:
        """The token endpoint."""
        tenant, client_id = self.tenant(tenant), form.get("client_id", "")
        grant_type = form.get("grant_type")
        if grant_type == "urn:ietf:params:oauth:grant-type:device_code":
            return self._by_code(tenant, client_id, form, issuer)
        if grant_type == "refresh_token":
            return self._by_refresh(tenant, client_id, form, issuer)
        if grant_type == "client_credentials":
            return self._by_secret(tenant, client_id, form, issuer)
        if grant_type == "authorization_code":
            return self._by_login(tenant, client_id, form, issuer)
        raise Refused(70003)

    def web_application(self, secret: str, redirect_uri: str) -> str:
        """Register one, as in the portal; its client id."""
        client_id = str(uuid.uuid4())
        self.applications[client_id], self.addresses[client_id] = secret, redirect_uri
        return client_id

    def login(self, tenant: str, form: dict[str, str], username: str) -> str:
        """Somebody logs in to a web application; the address that their browser goes to. Raises ``Refused``, and ValueError
        for an unknown name."""
        tenant, client_id = self.tenant(tenant), form.get("client_id", "")
        if client_id not in self.addresses:
            raise Refused(700016, app=client_id, tenant=tenant)
        if form.get("redirect_uri") != self.addresses[client_id] or form.get("response_type") != "code":
            raise Refused(50011, app=client_id)
        person = next((p for p in self.people if p.username == username), None)
        if person is None:
            raise ValueError(f"there is no account {username}")
        where, code = person.home if tenant in ANY_TENANT else tenant, secrets.token_urlsafe(96)
        self._logins[code] = LoginCode(
            person,
            client_id,
            where,
            form.get("scope", ""),
            self.addresses[client_id],
            form.get("code_challenge", ""),
            self._clock() + 600,
        )
        answer = {"code": code, "state": form.get("state", ""), "session_state": str(uuid.uuid4())}
        return f"{self.addresses[client_id]}?{urlencode(answer)}"

    def _by_login(self, tenant: str, client_id: str, form: dict[str, str], issuer: str) -> Json:
        self._check_secret(client_id, tenant, form)
        login = self._logins.pop(form.get("code", ""), None)
        if login is None or login.client_id != client_id or login.redirect_uri != form.get("redirect_uri"):
            raise Refused(70008)
        verifier = form.get("code_verifier", "")
        proof = _base64(hashlib.sha256(verifier.encode()).digest())
        if login.expires <= self._clock() or (login.challenge and login.challenge != proof):
            raise Refused(70008)
        return self._issue(login.person, client_id, login.tenant, login.scope, issuer)

    def _check_secret(self, client_id: str, tenant: str, form: dict[str, str]) -> None:
        """Of an application that has one; what has none needs none."""
        if client_id not in self.applications:
            raise Refused(700016, app=client_id, tenant=tenant)
        secret = self.applications[client_id]
        if secret is not None and form.get("client_secret") != secret:
            raise Refused(7000215, app=client_id)

    def _check_application(self, client_id: str, tenant: str) -> None:
        if client_id not in self.applications:
            raise Refused(700016, app=client_id, tenant=tenant)
        if self.applications[client_id] is not None:
            raise Refused(7000218)

    def _by_code(self, tenant: str, client_id: str, form: dict[str, str], issuer: str) -> Json:
        code = self._codes.get(form.get("device_code", ""))
        if code is None or code.client_id != client_id or code.tenant != tenant:
            raise Refused(70018)
        if code.spent or code.expires <= self._clock():
            raise Refused(70020)
        if self.behaviour.slow_down > 0:
            self.behaviour.slow_down -= 1
            raise Refused(70016, "slow_down")
        if code.refused is not None:
            raise Refused(code.refused, app=client_id, tenant=tenant)
        if code.person is None:
            raise Refused(70016)
        code.spent = True
        where = code.person.home if tenant in ANY_TENANT else tenant
        return self._issue(code.person, client_id, where, code.scope, issuer)

    def _by_refresh(self, tenant: str, client_id: str, form: dict[str, str], issuer: str) -> Json:
        grant = self._grants.get(form.get("refresh_token", ""))
        if grant is None or grant.client_id != client_id:
            raise Refused(70008)
        self._check_secret(client_id, tenant, form)
        if self.behaviour.at_refresh is not None:
            raise Refused(self.behaviour.at_refresh, app=client_id, tenant=tenant, user=grant.person.username)
        where = grant.tenant if tenant in ANY_TENANT else tenant
        answer = self._issue(grant.person, client_id, where, form.get("scope", ""), issuer)
        if form.get("token_type") == "ssh-cert":
            try:
                lifetime = self.behaviour.token_lifetime
                body = self.ssh.certificate(form.get("req_cnf", ""), grant.person.username, lifetime)
            except (ValueError, TypeError, KeyError):
                raise Refused(90014) from None
            answer |= {"token_type": form["token_type"], "access_token": body}
        return answer

    def _by_secret(self, tenant: str, client_id: str, form: dict[str, str], issuer: str) -> Json:
        if client_id not in self.applications:
            raise Refused(700016, app=client_id, tenant=tenant)
        if self.applications[client_id] is None or self.applications[client_id] != form.get("client_secret"):
            raise Refused(7000215, app=client_id)
        who = {"appid": client_id, "oid": str(uuid.uuid5(uuid.NAMESPACE_URL, client_id)), "idtyp": "app"}
        token, expires_in = self._access_token(who, tenant, form.get("scope", ""), issuer)
        return {"token_type": "Bearer", "expires_in": expires_in, "ext_expires_in": expires_in, "access_token": token}

    def _issue(self, person: Person, client_id: str, tenant: str, scope: str, issuer: str) -> Json:
        facts = {"user": person.username, "home": person.home, "tenant": tenant, "app": client_id}
        if not person.may_enter(tenant):
            raise Refused(50020, **facts)
        if tenant in self.behaviour.tenants:
            raise Refused(self.behaviour.tenants[tenant], **facts)
        if not scope:
            raise Refused(70011)
        who = {"appid": client_id, "oid": person.oid, "upn": person.username, "unique_name": person.username}
        token, expires_in = self._access_token({**who, "scp": "user_impersonation"}, tenant, scope, issuer)
        refresh = secrets.token_urlsafe(120)
        self._grants[refresh] = Grant(person, client_id, tenant)
        now = int(self._clock())
        id_token = {
            "aud": client_id,
            "iss": f"{issuer}/{tenant}/v2.0",
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "name": person.name,
            "oid": person.oid,
            "preferred_username": person.username,
            "sub": secrets.token_urlsafe(32),
            "tid": tenant,
            "ver": "2.0",
        }
        client_info = {"uid": person.oid, "utid": person.home}
        return {
            "token_type": "Bearer",
            "scope": " ".join(s for s in scope.split() if s not in ("openid", "profile", "offline_access")),
            "expires_in": expires_in,
            "ext_expires_in": expires_in,
            "access_token": token,
            "refresh_token": refresh,
            "foci": "1",
            "id_token": unsigned_jwt(id_token),
            "client_info": _base64(json.dumps(client_info).encode()),
        }

    def _access_token(self, who: Json, tenant: str, scope: str, issuer: str) -> tuple[str, int]:
        audience = next((s for s in scope.split() if "/" in s), "")
        audience = audience.removesuffix("/.default").removesuffix("/user_impersonation")
        now = self._clock()
        expires = now + self.behaviour.token_lifetime
        claims = {
            "aud": audience,
            "iss": f"{issuer}/{tenant}/",
            "iat": int(now),
            "nbf": int(now),
            "exp": int(expires),
            "tid": tenant,
            "uti": secrets.token_urlsafe(16),
            "ver": "1.0",
            **who,
        }
        token = unsigned_jwt(claims)
        self._tokens[token] = (expires, audience.rstrip("/").lower(), tenant)
        return token, int(self.behaviour.token_lifetime)

    # -- questions of the emulated Resource Manager ---------------------------------------------------------------------

    def accepts(self, token: str, audience: str) -> bool:
        """Whether it is one of ours, for that service, and not expired."""
        expires, its_audience, _ = self._tokens.get(token, (0.0, "", ""))
        return expires > self._clock() and its_audience == audience.rstrip("/").lower()

    def tenant_of(self, token: str) -> str | None:
        """The tenant that one of our tokens is for."""
        return self._tokens[token][2] if token in self._tokens else None

    # -- people --------------------------------------------------------------------------------------------------------

    def enter(self, user_code: str, username: str = ADA, refuse: int | None = None) -> None:
        """Somebody enters a code on Entra's page, and signs in; or is refused with that AADSTS number (65004: declines).
        Raises ValueError for a code that is none or has expired, and for an unknown name."""
        wanted = user_code.strip().replace("-", "").upper()
        person = next((p for p in self.people if p.username == username), None)
        if person is None:
            raise ValueError(f"there is no account {username}")
        if refuse is not None and refuse not in ERRORS:
            raise ValueError(f"there is no error AADSTS{refuse}")
        for code in self._codes.values():
            if code.user_code == wanted and not code.spent and code.person is None and code.expires > self._clock():
                code.person, code.refused = person, refuse if refuse is not None else self.behaviour.at_sign_in
                return
        raise ValueError("that code did not work; check the code and try again")

    def revoke(self) -> None:
        """Every sign-in ends: tokens are refused, and cannot be renewed."""
        self._grants.clear()
        self._tokens.clear()

    def state(self) -> Json:
        now = self._clock()
        waiting = [c.user_code for c in self._codes.values() if not c.spent and c.person is None and c.expires > now]
        return {
            "behaviour": vars(self.behaviour),
            "waiting": waiting,
            "signed_in": [g.person.username for g in self._grants.values()],
        }


def unsigned_jwt(claims: Json) -> str:
    """A token in Entra's form. Its signature is random: clients must not read tokens, and the emulated Azure knows its own."""
    header = {"typ": "JWT", "alg": "RS256", "kid": "emulator"}
    parts = [_base64(json.dumps(part).encode()) for part in (header, claims)]
    return ".".join([*parts, secrets.token_urlsafe(256)])


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
