/** Kernels, and where they run. */
import { IProblem } from './problems';
import { ISavedVariables } from './variables';

export type LinkPhase = 'local' | 'connecting' | 'connected' | 'reconnecting' | 'gone';

/** Whether a kernel can be reached. Only `gone` is confirmed; everything else may still be running. */
export interface ILinkState {
  state: LinkPhase;
  since: string;
  attempt: number;
  reason: string;
}

/** A kernel whose front the server holds. */
export interface IKernel {
  id: string;
  path: string | null;
  /** The id of the compute it runs on. */
  compute: string;
  kernelspec: string;
  link: ILinkState;
  execution_state: string;
  last_activity: string;
  /** The id of the compute of a move that is under way. */
  moving_to: string | null;
  /** The id of the compute where the notebook last ran, if that is elsewhere and it was not brought back from there. */
  last_compute: string | null;
  /** Why its process ended without anybody's asking; `OutOfMemory` is one code. */
  problem: IProblem | null;
  /** Variables of its notebook that wait on a VM's disk. */
  saved: ISavedVariables | null;
}

export interface IKernelList {
  revision: number;
  kernels: IKernel[];
}

export interface IKernelspec {
  name: string;
  display_name: string;
  language: string;
}

export interface IKernelspecList {
  kernelspecs: IKernelspec[];
}

/** The body of `PUT kernels/{kernel_id}/compute`. */
export interface IMoveRequest {
  compute: string;
  kernelspec?: string;
  /** What still runs once the new kernel has answered is interrupted rather than waited for. */
  interrupt?: boolean;
  /** Whether the notebook's folder goes along; true also is the yes for a large one. As the server is set when absent. */
  sync?: boolean;
  /** Which variables go along: all that can, or these. None when absent or false. */
  carry?: boolean | string[];
  /** The yes to `IVariables.needs_yes`; it is kept for that VM. */
  allow_carry?: boolean;
}
