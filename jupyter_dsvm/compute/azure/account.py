"""The options of ``AzureCompute`` that say which Azure it is and who signs in, and the one ``SignIn`` made of them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir
from traitlets import Bool, Enum, Unicode, default
from traitlets.config import Configurable

from .credentials import CLOUDS
from .hub_tokens import announced
from .signin import SignIn
from .signin_settings import SignInSettings
from .signin_store import SignInStore


class AzureAccount(Configurable):
    cloud = Enum(
        list(CLOUDS), default_value="public", help="Which Azure cloud: public, usgov (US Government) or china."
    ).tag(config=True)
    arm_endpoint = Unicode(
        help="Address of Azure's Resource Manager. The default is the one of `cloud`. With any other address, tokens "
        "come from `token_file` or `authority` only; plain http is allowed on loopback only."
    ).tag(config=True)
    token_file = Unicode(
        "",
        help="A file, mode 0600, with the bearer token for an `arm_endpoint` that is no Azure cloud. Not used for one.",
    ).tag(config=True)
    authority = Unicode(
        "",
        help="Address (https) where people sign in to an `arm_endpoint` that is no Azure cloud. Azure's clouds have their own.",
    ).tag(config=True)
    authority_ca_file = Unicode(
        "", help="Certificates (PEM) to trust for the authority instead of the computer's own."
    ).tag(config=True)
    tenant = Unicode(
        "", help="Id or domain of the tenant to sign in to. The default is the one that the account belongs to."
    ).tag(config=True)
    client_id = Unicode(
        "",
        help="The application that people sign in to: one registered as a public client, with permission for Azure Service "
        "Management. The default is the Azure CLI's.",
    ).tag(config=True)
    managed_identity = Unicode(
        "",
        help="Use this machine's managed identity where nobody signed in: `system`, or the client id of a user-assigned one; "
        "under a hub, `workload` for the workload identity of the user's pod. Every user of this server then acts as the machine, "
        "so it is off by default and belongs on single-user machines only.",
    ).tag(config=True)
    hub_sign_in = Bool(
        help="Take tokens from the hub that has started this server: those of the account with which its user logged in there. "
        "Hubs with `jupyter_dsvm.hub.handover` say so themselves.",
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sign_in: SignIn | None = None
        self._sign_in_lock = threading.Lock()

    @default("arm_endpoint")
    def _default_arm_endpoint(self) -> str:
        return CLOUDS[self.cloud].endpoint

    @default("hub_sign_in")
    def _default_hub_sign_in(self) -> bool:
        return announced()

    @property
    def sign_in(self) -> SignIn:
        """Raises ``ConfigurationError``. Asks nobody and imports nothing of Azure's."""
        with self._sign_in_lock:
            if self._sign_in is None:
                names = (
                    "token_file",
                    "authority",
                    "authority_ca_file",
                    "tenant",
                    "client_id",
                    "managed_identity",
                    "hub_sign_in",
                )
                settings = SignInSettings(self.arm_endpoint, **{name: getattr(self, name) for name in names})
                self._sign_in = SignIn(settings, SignInStore(Path(jupyter_data_dir()) / "jupyter-dsvm" / "signin"))
            return self._sign_in

    def _end_sign_in(self) -> None:
        with self._sign_in_lock:
            sign_in, self._sign_in = self._sign_in, None
        if sign_in is not None:
            sign_in.close()
