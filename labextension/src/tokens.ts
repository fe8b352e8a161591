import { Token } from '@lumino/coreutils';
import { IDisposable } from '@lumino/disposable';
import { ISignal } from '@lumino/signaling';

import { ComputeAction, ICompute, IKernel, IKernelspec, IOperation, IProblem } from './api';

/**
 * How much of the server's lists this page holds.
 *
 * - `loading`: the first answer is still out.
 * - `ready`: there are lists; `error` may say why they could not be renewed.
 * - `missing`: the server has no jupyter-dsvm.
 * - `failed`: there is no list yet, and `error` says why.
 */
export type ModelStatus = 'loading' | 'ready' | 'missing' | 'failed';

/** Emitted when a kernel is on another compute than before. */
export interface IKernelMoved {
  kernel: IKernel;
  from: string;
}

/** What the page knows of computes, kernels and operations, and how it asks for changes. */
export interface IComputeModel extends IDisposable {
  readonly status: ModelStatus;
  readonly error: IProblem | null;
  /** The free tier first, then machines, as the server sorts them. */
  readonly computes: readonly ICompute[];
  /** What the server could not ask, for example one subscription. */
  readonly problems: readonly IProblem[];
  readonly asOf: string | null;
  readonly kernels: readonly IKernel[];
  /** Newest first. */
  readonly operations: readonly IOperation[];

  readonly stateChanged: ISignal<IComputeModel, void>;
  readonly kernelMoved: ISignal<IComputeModel, IKernelMoved>;

  compute(id: string | null): ICompute | undefined;
  kernel(id: string | null): IKernel | undefined;
  /** The operation that is changing this compute or moving something to it. */
  runningOn(compute: string): IOperation | undefined;
  /** The operation that is moving this kernel. */
  moving(kernel: string): IOperation | undefined;
  /** The newest operation on this compute, if it failed and nobody has dismissed it. */
  failedOn(compute: string): IOperation | undefined;
  dismiss(operation: string): void;

  /** All of these reject with a `RequestError`. */
  refresh(): Promise<void>;
  change(compute: string, action: ComputeAction): Promise<IOperation>;
  move(kernel: string, compute: string, kernelspec?: string): Promise<IOperation>;
  cancel(operation: string): Promise<void>;
  kernelspecs(compute: string): Promise<IKernelspec[]>;
}

export const IComputeModel = new Token<IComputeModel>(
  'jupyter-dsvm:IComputeModel',
  'What the page knows of the computes a notebook can run on, and how it moves notebooks between them.'
);
