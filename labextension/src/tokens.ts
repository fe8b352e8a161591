import { Token } from '@lumino/coreutils';
import { IDisposable } from '@lumino/disposable';
import { ISignal } from '@lumino/signaling';

import {
  ComputeAction,
  ICompute,
  ICreation,
  IIdleRequest,
  IIdleStop,
  IInstallRequest,
  IKernel,
  IKernelspec,
  IMetrics,
  IModule,
  IAdvice,
  IAdviceRequest,
  IModulesRequest,
  IMoveRequest,
  INewCompute,
  IOperation,
  IProblem,
  IResizeRequest,
  ISignIn,
  ISizeOfferList,
  ISpend,
  ISSHCommand,
  IStopLoss,
  ISyncRequest,
  ITerminal,
  IVariables,
  IWorkspace,
  IWorkspaceEstimate,
  Keep
} from './api';

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

/**
 * What the sign-in shows.
 *
 * - `hidden`: nothing is known yet, or there is no cloud to sign in to.
 * - `not_set_up`, `expired`, `failed`, `elsewhere`, `signed_in`: what the server says; `elsewhere` is another page's attempt.
 * - `choosing`, `asking`, `prompting`, `refused`: what this page is at.
 */
export type SignInView =
  | 'hidden'
  | 'not_set_up'
  | 'expired'
  | 'failed'
  | 'elsewhere'
  | 'signed_in'
  | 'choosing'
  | 'asking'
  | 'prompting'
  | 'refused';

/** Signing in to the cloud. Nothing here rejects: what was refused is in `error`. */
export interface ISignInModel {
  /** Who is signed in; null until the server has said. */
  readonly status: ISignIn | null;
  /** The open attempt of this page, with its code. */
  readonly attempt: ISignIn | null;
  /** Whether a code has been asked for, or a token sent, and there is no answer yet. */
  readonly isAsking: boolean;
  /** Whether the person is choosing how to sign in. */
  readonly isChoosing: boolean;
  /** Why the last attempt of this page came to nothing. */
  readonly error: IProblem | null;

  /** Ask for a code. */
  begin(options?: { tenant?: string; keep?: boolean }): Promise<void>;
  /** Sign in with a token from elsewhere. It is sent, and kept nowhere. */
  paste(token: string): Promise<void>;
  /** End the attempt of this page, or the question for one. */
  cancel(): Promise<void>;
  signOut(): Promise<void>;
  /** Let the person choose a tenant, or another way. */
  choose(): void;
  /** Away with the choice or the error. */
  dismiss(): void;
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
  /** Folders whose files are on a machine too. */
  readonly workspaces: readonly IWorkspace[];
  /** What machines have cost; null where the server does not say. */
  readonly spend: ISpend | null;

  readonly signIn: ISignInModel;
  /** Whether who is signed in may have machines made. */
  readonly canCreate: boolean;
  /** Machines that are being made, or whose making failed and nobody has dismissed it; those that are listed are not among them. */
  readonly creations: readonly IOperation[];

  readonly stateChanged: ISignal<IComputeModel, void>;
  readonly kernelMoved: ISignal<IComputeModel, IKernelMoved>;

  compute(id: string | null): ICompute | undefined;
  kernel(id: string | null): IKernel | undefined;
  /** The folder that travels with this kernel's notebook. */
  workspace(kernel: string | null): IWorkspace | undefined;
  /** The operation that is changing this compute or moving something to it. */
  runningOn(compute: string): IOperation | undefined;
  /** The operation that is moving this kernel. */
  moving(kernel: string): IOperation | undefined;
  /** How many cells this page has sent to a kernel that have not begun to run. */
  waiting(kernel: string): number;
  /** The newest operation on this compute, if it failed and nobody has dismissed it. */
  failedOn(compute: string): IOperation | undefined;
  dismiss(operation: string): void;
  /** Whether it was asked for in this page. */
  isAskedHere(operation: string): boolean;

  /** All of these reject with a `RequestError`. */
  refresh(): Promise<void>;
  change(compute: string, action: ComputeAction): Promise<IOperation>;
  move(kernel: string, request: IMoveRequest): Promise<IOperation>;
  /** Which variables could go along to a compute. The kernel has some seconds to say so. */
  variables(kernel: string, compute: string): Promise<IVariables>;
  /** Have variables that were saved on the machine where the kernel runs put into it. */
  loadVariables(kernel: string): Promise<IOperation>;
  forgetVariables(kernel: string): Promise<void>;
  /** What would go along. It looks through the notebook's folder, which can take a while. */
  estimate(kernel: string, compute: string): Promise<IWorkspaceEstimate>;
  /** Bring a folder here and on the machine into step. */
  sync(workspace: string, request?: ISyncRequest): Promise<IOperation>;
  /** Of a file that both sides had changed, keep one version. */
  resolve(workspace: string, path: string, keep: Keep): Promise<void>;
  /** Copy files here that had stayed on the machine. */
  fetch(workspace: string, paths: string[]): Promise<IOperation>;
  /** Have the machine of a kernel that is out of reach tried at once. */
  reconnect(kernel: string): Promise<void>;
  /** With `release`, a machine whose start is no longer waited for is turned off again. */
  cancel(operation: string, release?: boolean): Promise<void>;
  /** Have a machine kept on for a while, or say when it is stopped by itself. */
  setIdle(compute: string, request: IIdleRequest): Promise<IIdleStop>;
  /** What a stop of that machine loses; it may take some seconds. */
  stopLoss(compute: string): Promise<IStopLoss>;
  /** The sizes that a machine could have. */
  sizes(compute: string): Promise<ISizeOfferList>;
  resize(compute: string, request: IResizeRequest): Promise<IOperation>;
  /** What a new machine can be like there; null leaves the choice to the server. */
  creation(subscription: string | null, location: string | null): Promise<ICreation>;
  create(wanted: INewCompute): Promise<IOperation>;
  kernelspecs(compute: string): Promise<IKernelspec[]>;
  /** What of the modules that some code imports a kernel there has; the machine must be on. */
  modules(compute: string, request: IModulesRequest): Promise<IModule[]>;
  /** CPU or GPU for a kernel's notebook, and what fits. */
  advice(kernel: string, request: IAdviceRequest): Promise<IAdvice>;
  /** Have pip install packages for a kernel there. */
  install(compute: string, request: IInstallRequest): Promise<IOperation>;
  /** Have a terminal of this Jupyter server made that is a shell on the machine. */
  openTerminal(compute: string): Promise<ITerminal>;
  /** What to type in a terminal of this server for a shell on the machine. */
  sshCommand(compute: string): Promise<ISSHCommand>;
}

export const IComputeModel = new Token<IComputeModel>(
  'jupyter-dsvm:IComputeModel',
  'What the page knows of the computes a notebook can run on, and how it moves notebooks between them.'
);

/** How much of computes is in use, asked for while somebody looks and not otherwise. */
export interface IMetricsModel extends IDisposable {
  /** The newest answer; undefined where nobody looks, or nothing is known. */
  metrics(compute: string): IMetrics | undefined;
  /** Have a compute looked at (every 5 s at most, and only while the page is visible) until what it gives is disposed of. */
  watch(compute: string): IDisposable;
  /** The id of a compute of which there are new figures, or none any more. */
  readonly changed: ISignal<IMetricsModel, string>;
}

export const IMetricsModel = new Token<IMetricsModel>(
  'jupyter-dsvm:IMetricsModel',
  'How much memory, data and GPU of a compute is in use.'
);
