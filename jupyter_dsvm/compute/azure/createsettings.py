"""The options of ``AzureCompute`` that say which machines may be made, and from what."""

from __future__ import annotations

from traitlets import Bool, Enum, List, Unicode
from traitlets.config import Configurable

SECURITY_TYPES = ("Standard", "TrustedLaunch")


class CreateSettings(Configurable):
    may_create = Bool(True, help="Whether DSVMs can be made from the panel and with `jupyter dsvm create`.").tag(
        config=True
    )
    create_image = Unicode(
        "microsoft-dsvm:ubuntu-2204:2204-gen2:latest",
        help="What new DSVMs are made from: PUBLISHER:OFFER:SKU:VERSION of the marketplace, or the resource id of a managed "
        "image or of a gallery image, so that a team has one image. Linux only.",
    ).tag(config=True)
    create_image_plan = Unicode(
        "", help="PUBLISHER:PRODUCT:NAME of the image's purchase plan, where it has one. The default image has none."
    ).tag(config=True)
    create_security_type = Enum(
        SECURITY_TYPES,
        default_value="Standard",
        help="Security type of new DSVMs. With TrustedLaunch they have a virtual TPM; see `create_secure_boot`.",
    ).tag(config=True)
    create_secure_boot = Bool(
        False, help="Secure Boot for new DSVMs with TrustedLaunch. The image's NVIDIA driver may not load with it."
    ).tag(config=True)
    create_admin = Unicode(
        "", help="Account of new DSVMs. The default is `ssh_user`, and `azureuser` where that is not set."
    ).tag(config=True)
    create_group = Unicode("jupyter-dsvm", help="Resource group of new DSVMs unless another is named.").tag(config=True)
    create_resource_group = Bool(
        True,
        help="Whether a resource group that is not there is made. One that was made is deleted if the VM then fails.",
    ).tag(config=True)
    create_subnet = Unicode(
        "",
        help="Resource id of the subnet that new DSVMs go into. The default is a network of its own for each. Their own rules "
        "for what may reach them apply in both cases.",
    ).tag(config=True)
    create_source_address = Unicode(
        "",
        help="Address of this server as the internet sees it, or its network (203.0.113.0/24): the only one that may reach the "
        "SSH port of new DSVMs. The default is to ask whoever makes one.",
    ).tag(config=True)
    create_private_only = Bool(
        False, help="Whether new DSVMs never have a public address, as for a hub in the network of `create_subnet`."
    ).tag(config=True)
    create_owner = Unicode(
        "",
        help="Value of the tag `owner` on what is made. The default is the account that is signed in, as far as known.",
    ).tag(config=True)
    create_subscriptions = List(
        Unicode(), help="Ids or names of the subscriptions in which DSVMs may be made. The default is all."
    ).tag(config=True)
    create_locations = List(Unicode(), help="Regions in which DSVMs may be made. The default is all.").tag(config=True)
    create_sizes = List(
        Unicode(), help="Sizes that new DSVMs may have, or patterns of them (Standard_D*ds_v5). The default is all."
    ).tag(config=True)
