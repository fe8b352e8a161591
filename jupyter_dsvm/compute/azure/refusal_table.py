"""What Azure's refusals mean, and what to do next: one table, first row that fits.

Read by ``errors.from_fault`` only. Codes and texts are from recorded answers of Azure and from
https://learn.microsoft.com/troubleshoot/azure/virtual-machines/ (quota, allocation, throttling).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...errors import (
    ComputeError,
    DSVMError,
    Forbidden,
    MissingResource,
    OperationRefused,
    SignInRequired,
    Throttled,
    UnknownCompute,
)
from .aadsts import SIGN_IN_ADVICE
from .faults import AzureFault


@dataclass(frozen=True)
class Row:
    error: type[DSVMError]
    sentence: str
    """What it means, with ``{names}`` of ``errors.facts`` in it; empty: Azure's own words have to do."""
    advice: str
    codes: frozenset[str] = frozenset()
    statuses: frozenset[int] = frozenset()
    text: str = ""
    """A pattern that has to be in the text as well."""
    status: int | None = None
    """The answer itself has this status and one of these codes; a detail that has it is not enough."""

    def fits(self, fault: AzureFault) -> bool:
        named = bool(self.codes & fault.codes) or fault.status in self.statuses
        if self.status is not None:
            named = fault.status == self.status and fault.code.lower() in self.codes
        return named and bool(re.search(self.text, fault.text, re.IGNORECASE))


def _row(
    error: type[DSVMError],
    codes: str,
    sentence: str,
    advice: str,
    *,
    statuses: tuple[int, ...] = (),
    text: str = "",
    status: int | None = None,
) -> Row:
    return Row(error, sentence, advice, frozenset(codes.lower().split()), frozenset(statuses), text, status)


_QUOTA = "OperationNotAllowed QuotaExceeded"
_QUOTA_TEXT = r"exceeding (approved|quota)|quota limits"

_GONE = "ResourceNotFound NotFound ResourceGroupNotFound DeploymentNotFound ParentResourceNotFound"
_NOT_THE_VM = (
    r"resource (of type )?'(?!(/subscriptions/[^']*/providers/)?microsoft\.compute/virtualmachines(/[^'/]*)?')"
    r"|\b(disk|snapshot|image|network interface|extension)\b"
)
"""In what Azure says when it does not find something else: a disk, the network interface, an extension."""

TABLE = (
    _row(
        Throttled,
        "TooManyRequests SubscriptionRequestsThrottled RateLimiting",
        "Azure has had too many requests for this account or subscription{measured}.",
        "Try again in {wait}.",
        statuses=(429,),
    ),
    _row(
        OperationRefused,
        _QUOTA,
        "The subscription's quota of cores for all sizes of the region is used up{counts}.",
        "Stop (deallocate) or delete another VM there, use another region, or request more{new_limit} at {quota_link}",
        text=r"total regional cores|exceeding quota limits of cores?\b",
    ),
    _row(
        OperationRefused,
        _QUOTA,
        "The subscription's quota of cores for Spot VMs is used up{counts}.",
        "Stop (deallocate) or delete another Spot VM, or request more{new_limit} at {quota_link}",
        text=r"lowprioritycores",
    ),
    _row(
        OperationRefused,
        _QUOTA,
        "This subscription may not use that family of sizes at all: its quota is 0{of_family}.",
        "Free, trial and student subscriptions have no quota for GPUs: upgrade to pay-as-you-go, or use a size without "
        "GPU. With any other subscription, request quota{new_limit} at {quota_link}",
        text=r"(current limit|maximum allowed): 0\b",
    ),
    _row(
        OperationRefused,
        _QUOTA,
        "The subscription's quota of cores is used up{of_family}{counts}.",
        "Stop (deallocate) or delete another VM of that family, choose a size of another one, or request more{new_limit} "
        "at {quota_link}",
        text=_QUOTA_TEXT,
    ),
    _row(
        OperationRefused,
        "SkuNotAvailable",
        "The VM's size is not available there now, or not for this subscription.",
        "Choose another size or another region.",
    ),
    _row(
        OperationRefused,
        "OverconstrainedAllocationRequest OverconstrainedZonalAllocationRequest",
        "Azure has no capacity that fits all that was asked for (size, zone, networking, placement).",
        "Choose another size, or give up the zone or the placement. The VM's disk is kept.",
    ),
    _row(
        OperationRefused,
        "ZonalAllocationFailed",
        "Azure has no capacity for this size in the VM's zone at the moment.",
        "Try again later, or choose another size; a VM without a zone may find room elsewhere in the region. The VM's disk "
        "is kept, and nothing is billed for a VM that did not start.",
    ),
    _row(
        OperationRefused,
        "AllocationFailed",
        "Azure has no capacity for this size there at the moment.",
        "Try again later, or choose another size. The VM's disk is kept, and nothing is billed for a VM that did not start.",
    ),
    _row(
        OperationRefused,
        "OperationNotAllowed",
        "The VM cannot get this size where it runs now.",
        "Stop (deallocate) it first, then change its size: then every size of the region is possible.",
        text=r"not available in the current hardware cluster",
    ),
    _row(
        OperationRefused,
        "OperationNotAllowed",
        "One of the two sizes has a temporary disk and the other has none, and Azure does not change between such sizes.",
        "Choose a size that has a temporary disk exactly if the present one has (newer ones say so with a `d`: D4ds_v5, "
        "D4ads_v5; all NC sizes have one).",
        text=r"resource disk to non-resource disk|non-resource disk to resource disk",
    ),
    _row(
        OperationRefused,
        "BadRequest InvalidParameter OperationNotAllowed",
        "The size cannot boot the VM's generation.",
        "Choose a size that supports it; a generation 1 VM can be upgraded to generation 2 in the Azure portal.",
        text=r"cannot boot hypervisor generation",
    ),
    _row(
        OperationRefused,
        "InvalidParameter",
        "Azure knows no such size in that region.",
        "Choose a size from the list that the panel offers.",
        text=r"provided for the vm size is not valid",
    ),
    _row(
        OperationRefused,
        "PropertyChangeNotAllowed",
        "This cannot be changed in a VM that exists.",
        "Create another VM with the value you want.",
    ),
    _row(
        OperationRefused,
        "OperationNotAllowed",
        "The VM has to run for this.",
        "Start it, then try again.",
        text=r"requires the vm to be running",
    ),
    _row(
        OperationRefused,
        "MarketplacePurchaseEligibilityFailed ResourcePurchaseValidationFailed ResourcePurchaseCanceling "
        "MarketplaceTermsNotAccepted",
        "The image's terms in the Azure Marketplace are not accepted, or this subscription may not buy there.",
        "Accept them once (`az vm image terms accept --urn PUBLISHER:OFFER:SKU:latest`), or ask whoever pays for the "
        "subscription.",
    ),
    _row(
        OperationRefused,
        "MissingSubscriptionRegistration SubscriptionNotRegistered",
        "The subscription is not registered for this part of Azure{namespace}.",
        "Let an owner or contributor of the subscription run `az provider register --namespace {provider}`.",
    ),
    _row(
        OperationRefused,
        "ReadOnlyDisabledSubscription DisabledSubscription SubscriptionDisabled",
        "The subscription is disabled, so nothing in it can be changed.",
        "Re-enable it in the Azure portal; a spending limit or an expired credit is the usual cause.",
    ),
    _row(
        OperationRefused,
        "RequestDisallowedByAzure",
        "Azure itself does not allow it there: the region takes no new customers, or not this subscription.",
        "Use another region.",
    ),
    _row(
        OperationRefused,
        "RequestDisallowedByPolicy",
        "A policy of the organisation forbids it.",
        "Ask whoever administers the subscription.",
    ),
    _row(
        OperationRefused,
        "ScopeLocked",
        "A lock on the VM or its resource group forbids it.",
        "Remove the lock in the Azure portal, or ask whoever set it.",
    ),
    _row(
        SignInRequired,
        "InvalidAuthenticationTokenTenant",
        "The sign-in is for another tenant than the subscription's.",
        "Sign in to the subscription's tenant: `jupyter dsvm signin --tenant TENANT`, or `az login --tenant TENANT`.",
    ),
    _row(
        SignInRequired,
        "ClaimsChallenge",
        "The organisation asks for a new sign-in (conditional access, or something about the account has changed).",
        SIGN_IN_ADVICE,
    ),
    _row(SignInRequired, "", "Azure does not accept the sign-in, or it has expired.", SIGN_IN_ADVICE, statuses=(401,)),
    _row(
        Forbidden,
        "LinkedAuthorizationFailed",
        "The account may do this, but not with something that it is linked to, in another tenant or subscription.",
        "Ask for access to what Azure names.",
        text=r"is not authorized to access linked subscription",
    ),
    _row(
        Forbidden,
        "AuthorizationFailed LinkedAuthorizationFailed",
        "The account lacks the permission {action}.",
        "Ask for the role {role} on {where}. If you have it already, it may have to be activated first (Privileged Identity "
        "Management), or was given minutes ago: then sign in again.",
    ),
    _row(Forbidden, "", "The account may not do that.", "Ask whoever administers the subscription.", statuses=(403,)),
    _row(
        ComputeError,
        "SubscriptionNotFound InvalidSubscriptionId",
        "The account's tenant has no such subscription.",
        "Sign in to the subscription's tenant: `jupyter dsvm signin --tenant TENANT`, or `az login --tenant TENANT`.",
    ),
    # By code only: a 404 without one is not Azure's word, and "unknown" ends what runs there.
    _row(
        UnknownCompute,
        _GONE,
        "It is not in Azure any more.",
        "Reload the list of computes.",
        text=rf"\A(?s:(?!.*({_NOT_THE_VM})))",
        status=404,
    ),
    _row(
        MissingResource,
        _GONE,
        "Something that belongs to it is not in Azure any more.",
        "Look in the Azure portal for what Azure names; the VM itself may still be there.",
    ),
    _row(
        OperationRefused,
        "Conflict OperationPreempted AttachDiskWhileBeingDetached OperationNotAllowedOnVMBeingChanged AnotherOperationInProgress",
        "Another operation on this VM, started elsewhere, is under way or took its place.",
        "Wait until the VM's state is settled, then try again.",
    ),
    _row(
        OperationRefused,
        "VMExtensionProvisioningTimeout VMExtensionProvisioningError VMAgentStatusCommunicationError",
        "The agent inside the VM did not do it, or did not answer.",
        "See that the VM runs and reaches the internet on port 443, restart it, then try again.",
    ),
    _row(
        ComputeError,
        "ServerTimeout InternalServerError InternalExecutionError GatewayTimeout",
        "Azure had a fault of its own.",
        "Try again in a few minutes; https://azure.status.microsoft lists known outages.",
        statuses=(500, 502, 503, 504),
    ),
    _row(OperationRefused, "", "", "", statuses=(409,)),
)
