/** Long changes. */
import { IProblem } from './problems';

export type OperationKind =
  | 'start'
  | 'stop'
  | 'restart'
  | 'resize'
  | 'create'
  | 'access'
  | 'forget'
  | 'attach'
  | 'detach'
  | 'install'
  | 'sync'
  | 'load'
  | 'update';

export type OperationPhase = 'running' | 'done' | 'failed' | 'cancelled';

export type StepPhase = 'pending' | 'running' | 'done' | 'failed';

export interface IStep {
  name: string;
  text: string;
  state: StepPhase;
}

/** A long change. `compute` is what it changes or moves to; `kernel` what it moves. */
export interface IOperation {
  id: string;
  kind: OperationKind;
  compute: string | null;
  kernel: string | null;
  state: OperationPhase;
  steps: IStep[];
  /** 0 to 1. */
  progress: number | null;
  error: IProblem | null;
  started: string;
  ended: string | null;
  /** A sentence for the user when it is done. */
  notice: string;
  /** Begun by somebody else, in the portal or by another server. */
  elsewhere: boolean;
}

export interface IOperationList {
  revision: number;
  operations: IOperation[];
}
