"""What Microsoft Entra can be told to say no with, by AADSTS number: status, OAuth's word, and text.

Texts are Entra's, shortened where they name what is not here. ``directory.py`` raises them and ``entra.py`` serves them.
"""

from __future__ import annotations

ERRORS: dict[int, tuple[int, str, str]] = {
    16000: (
        400,
        "interaction_required",
        "User account from identity provider does not exist in tenant and cannot access the application.",
    ),
    50020: (
        400,
        "invalid_grant",
        "User account '{user}' from identity provider 'https://sts.windows.net/{home}/' does not exist in "
        "tenant '{tenant}' and cannot access the application '{app}' in that tenant.",
    ),
    50011: (
        400,
        "invalid_request",
        "The redirect URI specified in the request does not match the redirect URIs configured for the application '{app}'.",
    ),
    50034: (
        400,
        "invalid_grant",
        "The user account does not exist in the {tenant} directory. To sign into this application, the "
        "account must be added to the directory.",
    ),
    50049: (400, "invalid_instance", "Unknown or invalid instance."),
    50057: (400, "invalid_grant", "The user account is disabled."),
    50076: (
        400,
        "interaction_required",
        "Due to a configuration change made by your administrator, or because you moved to a new location, "
        "you must use multi-factor authentication to access '797f4846-ba00-4fd7-ba43-dac1f8f63013'.",
    ),
    50079: (
        400,
        "interaction_required",
        "Due to a configuration change made by your administrator, or because you moved to a new location, "
        "you must enroll in multi-factor authentication to access '797f4846-ba00-4fd7-ba43-dac1f8f63013'.",
    ),
    50105: (
        400,
        "invalid_grant",
        "Your administrator has configured the application ('{app}') to block users unless they are "
        "specifically granted ('assigned') access to the application.",
    ),
    50173: (
        400,
        "invalid_grant",
        "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might"
        " have changed or reset their password.",
    ),
    53000: (
        400,
        "interaction_required",
        "Device is not in required device state: compliant. Conditional Access policy requires a compliant "
        "device, and the device is not compliant.",
    ),
    53003: (
        400,
        "invalid_grant",
        "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.",
    ),
    65001: (
        400,
        "invalid_grant",
        "The user or administrator has not consented to use the application with ID '{app}'. Send an "
        "interactive authorization request for this user and resource.",
    ),
    65004: (400, "authorization_declined", "User declined to consent to access the app."),
    70003: (400, "unsupported_grant_type", "The app requested an unsupported grant type."),
    70008: (
        400,
        "invalid_grant",
        "The provided authorization code or refresh token has expired due to inactivity. Send a new "
        "interactive authorization request for this user and resource.",
    ),
    70011: (400, "invalid_scope", "The provided request must include a 'scope' input parameter."),
    70016: (400, "authorization_pending", "OAuth 2.0 device flow error. Authorization is pending. Continue polling."),
    70018: (400, "bad_verification_code", "Invalid verification code."),
    70020: (
        400,
        "expired_token",
        "The provided value for the input parameter 'device_code' is not valid. This device code has expired.",
    ),
    70043: (
        400,
        "invalid_grant",
        "The refresh token has expired or is invalid due to sign-in frequency checks by conditional access.",
    ),
    90002: (
        400,
        "invalid_tenant",
        "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into "
        "the correct cloud.",
    ),
    90014: (
        400,
        "invalid_request",
        "The required field is missing from the credential. Ensure that you have all the necessary parameters"
        " for the login request.",
    ),
    90033: (503, "temporarily_unavailable", "A transient error has occurred. Please try again."),
    700016: (
        400,
        "unauthorized_client",
        "Application with identifier '{app}' was not found in the directory '{tenant}'. This can happen if "
        "the application has not been installed by the administrator of the tenant or consented to by any "
        "user in the tenant.",
    ),
    7000215: (
        401,
        "invalid_client",
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret "
        "value, not the client secret ID, for a secret added to app '{app}'.",
    ),
    7000218: (
        401,
        "invalid_client",
        "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
    ),
}


class Refused(Exception):
    """An answer of Entra's that is an error."""

    def __init__(self, number: int, word: str = "", **facts: str) -> None:
        super().__init__(number)
        self.number = number
        self.status, own_word, text = ERRORS[number]
        self.word = word or own_word
        self.text = text.format(**{"user": "", "home": "", "tenant": "", "app": "", **facts})
