/** Computes: the free tier and machines. */
import { IIdleStop } from './idle';
import { IProblem } from './problems';

/** The id of the free tier: the Jupyter server that serves the page. */
export const FREE = 'free';

export type PowerState =
  'starting' | 'running' | 'stopping' | 'stopped' | 'deallocating' | 'deallocated' | 'unknown';

export type ComputeKind = 'free' | 'dsvm' | 'host';

export type ComputeAction = 'start' | 'stop' | 'restart';

/** An Azure VM size, or the limits of the free tier. What is not known is null, never 0. */
export interface ISize {
  name: string;
  vcpus: number | null;
  memory_gib: number | null;
  gpus: number | null;
  gpu_model: string | null;
}

/** An estimate per hour. */
export interface IPrice {
  amount: number;
  currency: string;
  as_of: string;
}

/** Something a notebook can run on. */
export interface ICompute {
  /** Opaque, stable, URL-safe. */
  id: string;
  name: string;
  kind: ComputeKind;
  power_state: PowerState;
  os: 'linux' | 'windows';
  location: string | null;
  subscription: string | null;
  resource_group: string | null;
  image: string | null;
  size: ISize | null;
  price: IPrice | null;
  /** Paths of the notebooks that run there. */
  attached: string[];
  /** Deallocated with its memory kept: it can be started as it is, and not be resized. */
  hibernated: boolean;
  problem: IProblem | null;
  /** What this account was told that it may not do with it. */
  not_allowed: ('start' | 'stop' | 'resize')[];
  /** Of one that is off, what will hold once it is started from here. Null where nobody watches it. */
  idle: IIdleStop | null;
}

export interface IComputeList {
  revision: number;
  computes: ICompute[];
  /** What could not be asked, for example one subscription of several. */
  problems: IProblem[];
  /** When the cloud was last asked. */
  as_of: string | null;
}

/** GiB. */
export interface IUsage {
  used_gib: number;
  total_gib: number;
}

export interface IGPUUse {
  name: string;
  /** 0 to 1. */
  utilization: number | null;
  memory: IUsage | null;
}

/** How much of a compute is in use now. What is not known is null. */
export interface IMetrics {
  compute: string;
  as_of: string;
  /** 0 to 1, of all CPUs. */
  cpu: number | null;
  /** Of the free tier: what counts against its limit. */
  memory: IUsage | null;
  /** The file system of the home folder; of the free tier the user's data against its limit. */
  disk: IUsage | null;
  gpus: IGPUUse[];
}

/** A terminal of the Jupyter server. */
export interface ITerminal {
  /** As `api/terminals` names it. */
  name: string;
}

/** A line for a shell of the Jupyter server. */
export interface ISSHCommand {
  command: string;
}
