/** Sizes that machines can have, and new machines. */
import { IPrice, ISize } from './computes';

/** A size that a machine could have. */
export interface ISizeOffer {
  size: ISize;
  price: IPrice | null;
  current: boolean;
  available: boolean;
  /** Why it cannot be had; empty where it can. */
  reason: string;
  warnings: string[];
}

export interface ISizeOfferList {
  sizes: ISizeOffer[];
  /** What a resize does to this machine, or why it cannot be resized at all. */
  notice: string;
}

/** The body of `POST computes/{id}/resize`. */
export interface IResizeRequest {
  size: string;
  /** Whether the kernels that run there may end with it. */
  end_kernels?: boolean;
}

/** What somebody wants to have made; what is null is the server's to choose. */
export interface INewCompute {
  name: string;
  location: string;
  size: string;
  /** Its id or its name. */
  subscription: string | null;
  resource_group: string | null;
  /** Without a public address. */
  private: boolean | null;
  /** Who may reach its SSH port: an address, or a network in CIDR notation. */
  source_address: string | null;
  /** As large as the image when null. */
  disk_gib: number | null;
}

export interface ISubscriptionOffer {
  id: string;
  name: string;
  available: boolean;
  /** Why nothing can be made there; empty where it can. */
  reason: string;
}

export interface ILocationOffer {
  name: string;
  text: string;
}

/** What a new machine can be like. */
export interface ICreation {
  allowed: boolean;
  /** Why none can be made; empty where one can. */
  reason: string;
  subscriptions: ISubscriptionOffer[];
  /** The one that the rest is about. */
  subscription: string | null;
  locations: ILocationOffer[];
  /** The one that the sizes are about. */
  location: string | null;
  sizes: ISizeOffer[];
  image: string;
  /** Where it goes unless somebody says otherwise. */
  resource_group: string;
  /** Who may reach its SSH port; empty: whoever makes it has to say. */
  source_address: string;
  /** Whether new machines never have a public address. */
  private_only: boolean;
  /** What it costs beside the price per hour. */
  notice: string;
}
