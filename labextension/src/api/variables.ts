/** A kernel's variables that go along with a move, or wait on a VM's disk until they are wanted. */

/** One name of the notebook. */
export interface IVariable {
  name: string;
  type: string;
  /** What would be sent, uncompressed; null where that is not known. */
  bytes: number | null;
  moves: boolean;
  /** A sentence: why it cannot move; empty where it can. */
  reason: string;
}

/** The answer to `GET kernels/{kernel_id}/variables?to=COMPUTE`. Nothing has been sent. */
export interface IVariables {
  kernel: string;
  compute: string;
  state: 'ready' | 'busy' | 'unsupported' | 'unreachable';
  /** A sentence: why nothing is known; empty when ready. */
  reason: string;
  variables: IVariable[];
  /** So many more are not listed. */
  more: number;
  /** Of those that move. */
  bytes: number;
  seconds: number | null;
  /** They come back from a VM from which nobody has allowed that yet. */
  needs_yes: boolean;
}

/** Variables that were saved on a VM's disk before it was stopped for being idle. */
export interface ISavedVariables {
  compute: string;
  saved: string;
  /** The first hundred. */
  names: string[];
  count: number;
  bytes: number;
  /** Names that could not be saved. */
  left: string[];
}
