"""What Microsoft Entra says when it refuses a sign-in or a token, as sentences with a next step: one table by AADSTS number.

Called by ``signin`` and ``credentials`` with every refusal of Entra. Pure. Numbers are from
https://learn.microsoft.com/entra/identity-platform/reference-error-codes; one that no row knows keeps Entra's own words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...errors import SignInRequired, printable

AGAIN = "Sign in again: in the Compute panel, with %dsvm signin, or with `jupyter dsvm signin`."
SIGN_IN_ADVICE = (
    "Sign in in the Compute panel, with %dsvm signin, or with `jupyter dsvm signin`. Without being asked: run `az login` where "
    "this server runs, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET for it."
)
OTHER_WAYS = (
    "Another way in: run `az login` where this server runs, or `jupyter dsvm signin --paste` with a token from a computer "
    "where you may sign in."
)
TENANT = "Name the tenant: `jupyter dsvm signin --tenant TENANT`, with the directory's id or a domain of it."
SERVER = "Correct AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET (or the certificate) of this server."

LONGEST = 400


@dataclass(frozen=True)
class Row:
    numbers: frozenset[int]
    words: frozenset[str]
    """OAuth's own codes, for refusals without a number."""
    sentence: str
    advice: str


def _row(numbers: str, sentence: str, advice: str, words: str = "") -> Row:
    return Row(frozenset(map(int, numbers.split())), frozenset(words.split()), sentence, advice)


_PASSING_WORDS = "temporarily_unavailable server_error"
_PASSING = "90009 90010 90033 90038 50168 90100", "7000110 90055 90092"
_ENDED = "50173 50132 50133 50089 70008 70043 70044 700082 700084 50058 50196 54005"

TABLE = (
    _row(
        "70016",
        "The code has not been entered yet.",
        "Open the page, enter the code, and sign in.",
        "authorization_pending slow_down",
    ),
    _row(
        "70019 70020",
        "The code has expired before it was entered.",
        "Ask for a new one and enter it within 15 minutes.",
        "expired_token",
    ),
    _row("70018", "Entra does not know the code.", "Ask for a new one.", "bad_verification_code"),
    _row(
        "65004",
        "The sign-in was declined on the page where the code was entered.",
        "Ask for a new code if you want to sign in after all.",
        "authorization_declined access_denied",
    ),
    _row(
        "53003 53004 530032 530034 530035 50005",
        "A rule of your organisation (conditional access) blocks this sign-in; many organisations block sign-in by code.",
        OTHER_WAYS + " Or ask whoever administers the directory to allow it for Azure management.",
    ),
    _row(
        "53000 53001 53002 50097 50129 530003 700003 50131",
        "Your organisation lets only devices that it manages sign in, and a code was entered for a server, which is none.",
        OTHER_WAYS,
    ),
    _row(
        "50074 50076 50078 50079 50072 50158",
        "Your organisation asks for a second factor (multifactor authentication), here for this tenant or these rights.",
        "Sign in once more and confirm it with the second factor; set one up at https://aka.ms/mfasetup if you have none. If it "
        "is for one tenant only: `jupyter dsvm signin --tenant TENANT`.",
    ),
    _row(
        "65001 90094 90095 650056 650057",
        "The application has not been given consent in this tenant.",
        "Ask an administrator of the tenant for consent to it, or set AzureCompute.client_id to an application that has it.",
    ),
    _row(
        "50020 90072 50177 50178 51004",
        "The account is no member and no guest of that tenant.",
        "Sign in with an account of that tenant, ask to be invited as a guest, or choose another one. " + TENANT,
    ),
    _row(
        "50034 50128 50059", "Entra does not know that account or its directory.", "Check the account's name. " + TENANT
    ),
    _row(
        "90002 900023 900021 50001",
        "There is no such tenant in this cloud.",
        "Check the tenant's id or domain, and AzureCompute.cloud: a tenant belongs to one of Azure's clouds.",
    ),
    _row(
        "50105",
        "The application requires that users are assigned to it, and the account is not.",
        "Ask whoever administers the application to assign you, or set AzureCompute.client_id to another one.",
    ),
    _row(
        "700016 7000112 70001",
        "The tenant does not know the application, or it is disabled there.",
        "Check AzureCompute.client_id; without it the Azure CLI's application is used.",
        "unauthorized_client",
    ),
    _row(
        "7000218",
        "The application does not allow public client flows, so nobody can sign in to it with a code.",
        "Let whoever registered it switch on *Allow public client flows*, or leave AzureCompute.client_id out.",
    ),
    _row("7000215 7000222 700027 700024", "The server's own secret or certificate is wrong or has expired.", SERVER),
    _row(
        "70021 700211 700212 700213 7002131",
        "The workload identity's federation does not fit: issuer, subject or audience differ from what is registered.",
        "Compare the federated credential of the application with the pod's service account.",
    ),
    _row(
        "500011 500014 650052",
        "The tenant does not know Azure's Resource Manager as it was asked for.",
        "Check AzureCompute.cloud: the account may belong to another of Azure's clouds.",
    ),
    _row(
        "500021 500212",
        "Your network lets you sign in to certain tenants only.",
        "Ask whoever runs the network. " + TENANT,
    ),
    _row(
        _ENDED,
        "The sign-in has expired, or was revoked (a new password, or your organisation's rules for how long it holds).",
        AGAIN,
        "interaction_required login_required consent_required invalid_grant",
    ),
    _row("50053", "The account is locked after too many failed attempts.", "Wait some minutes, then sign in again."),
    _row(
        "50055 50144",
        "The account's password has expired.",
        "Change it at https://myaccount.microsoft.com, then sign in again.",
    ),
    _row("50057", "The account is disabled.", "Ask whoever administers the directory."),
    _row("50126 50056", "The user name or the password is wrong.", AGAIN),
    _row(
        _PASSING[0],
        "Entra had a fault of its own.",
        "Try again in a few minutes.",
        _PASSING_WORDS,
    ),
    _row(_PASSING[1], "Entra has had too many requests.", "Try again in a few minutes."),
)


def ends_sign_in(code: str) -> bool:
    """Whether an error's code says that the sign-in itself is over, whatever it was used for."""
    return code == "SignInExpired" or code.removeprefix("AADSTS") in _ENDED.split()


def passes(code: str) -> bool:
    """Whether an error's code says nothing about the account: Entra could not answer just then."""
    return code in _PASSING_WORDS.split() or code.removeprefix("AADSTS") in " ".join(_PASSING).split()


def number_of(text: str) -> int | None:
    """The first AADSTS number in a text."""
    found = re.search(r"AADSTS(\d{5,9})\b", text)
    return int(found[1]) if found else None


def refusal(word: str, description: str, tried: str = "Could not sign in to Azure") -> SignInRequired:
    """A refusal as our error.

    Args:
        word: OAuth's code (``invalid_grant``), or "" where there is none.
        description: Entra's text, which starts with its AADSTS number; also azure-identity's message around it.
        tried: Starts the message.
    """
    number = number_of(description)
    row = next((r for r in TABLE if number in r.numbers), None)
    if row is None:
        row = next((r for r in TABLE if number is None and word in r.words), None)
    code = f"AADSTS{number}" if number is not None else word or "SignInRequired"
    said = shown(description)
    if row is None:
        return SignInRequired(f"{tried}. Entra said: {said or word or 'nothing'}", advice=AGAIN, code=code)
    # Its own words name the tenant, application or rule in question, in a form that an administrator can look up.
    return SignInRequired(
        f"{tried}. {row.sentence}" + (f" Entra said: {said}" if said else ""), advice=row.advice, code=code
    )


def shown(description: str) -> str:
    """Entra's text from its number on, without the ids for tracing at its end."""
    start = description.find("AADSTS")
    text = re.split(r"\s*(?:Trace ID|Correlation ID|Timestamp):", description[max(0, start) :])[0]
    text = " ".join(text.split())
    return printable(text if len(text) <= LONGEST else text[:LONGEST] + " …")
