import { Signal } from '@lumino/signaling';

import {
  ComputeAction,
  ICompute,
  ICreation,
  IIdleRequest,
  IIdleStop,
  IInstallRequest,
  IKernel,
  IKernelspec,
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
} from '../api';
import { ICurrentNotebook, INotebook } from '../current';
import { IComputeModel, IKernelMoved, ISignInModel, ModelStatus } from '../tokens';
import * as fixtures from './fixtures';

/** A sign-in that is as the test says and writes down what it is asked to do. */
export class FakeSignIn implements ISignInModel {
  constructor(private readonly _done: unknown[][]) {}

  status: ISignIn | null = fixtures.signedIn;
  attempt: ISignIn | null = null;
  isAsking = false;
  isChoosing = false;
  error: IProblem | null = null;

  async begin(options?: { tenant?: string; keep?: boolean }): Promise<void> {
    this._done.push(['begin', options]);
  }

  async paste(token: string): Promise<void> {
    this._done.push(['paste', token]);
  }

  async cancel(): Promise<void> {
    this._done.push(['cancel sign-in']);
  }

  async signOut(): Promise<void> {
    this._done.push(['sign out']);
  }

  choose(): void {
    this._done.push(['choose']);
  }

  dismiss(): void {
    this._done.push(['dismiss']);
  }
}

/** A model that holds what the test says and writes down what it is asked to do. */
export class FakeModel implements IComputeModel {
  status: ModelStatus = 'ready';
  error: IProblem | null = null;
  computes: ICompute[] = [...fixtures.computeList.computes];
  problems: IProblem[] = [];
  asOf: string | null = null;
  kernels: IKernel[] = [fixtures.kernel];
  operations: IOperation[] = [];
  workspaces: IWorkspace[] = [];
  spend: ISpend | null = null;
  isDisposed = false;
  readonly done: unknown[][] = [];
  readonly signIn = new FakeSignIn(this.done);
  loss: (compute: string) => Promise<IStopLoss> = async () => fixtures.nobodyKnows;
  offers: () => Promise<ISizeOfferList> = async () => fixtures.sizeOffers;
  readonly stateChanged = new Signal<this, void>(this);
  readonly kernelMoved = new Signal<this, IKernelMoved>(this);
  private readonly _dismissed = new Set<string>();

  compute(id: string | null): ICompute | undefined {
    return this.computes.find(compute => compute.id === id);
  }

  kernel(id: string | null): IKernel | undefined {
    return this.kernels.find(kernel => kernel.id === id);
  }

  workspace(kernel: string | null): IWorkspace | undefined {
    return this.workspaces.find(({ kernels }) => kernel !== null && kernels.includes(kernel));
  }

  runningOn(compute: string): IOperation | undefined {
    return this.operations.find(o => o.compute === compute && o.state === 'running');
  }

  moving(kernel: string): IOperation | undefined {
    return this.operations.find(o => o.kernel === kernel && o.state === 'running');
  }

  failedOn(compute: string): IOperation | undefined {
    return this.operations.find(
      o => o.compute === compute && o.state === 'failed' && !this._dismissed.has(o.id)
    );
  }

  dismiss(operation: string): void {
    this._dismissed.add(operation);
    this.stateChanged.emit();
  }

  askedHere: string[] = [];

  isAskedHere(operation: string): boolean {
    return this.askedHere.includes(operation);
  }

  async refresh(): Promise<void> {
    this.done.push(['refresh']);
  }

  async change(compute: string, action: ComputeAction): Promise<IOperation> {
    this.done.push(['change', compute, action]);
    return fixtures.attach;
  }

  async move(kernel: string, request: IMoveRequest): Promise<IOperation> {
    this.done.push(['move', kernel, request]);
    const refusal = this.refusals.shift();
    return refusal ? Promise.reject(refusal) : fixtures.attach;
  }

  /** What moves are answered, in turn, before one is done. */
  refusals: unknown[] = [];

  /** Which variables could go along; none where a test is not about them. */
  planned: () => Promise<IVariables> = async () => ({ ...fixtures.variables, variables: [] });

  async variables(_kernel: string, _compute: string): Promise<IVariables> {
    return this.planned();
  }

  async loadVariables(kernel: string): Promise<IOperation> {
    this.done.push(['load', kernel]);
    return this.refusal ? Promise.reject(this.refusal) : fixtures.load;
  }

  async forgetVariables(kernel: string): Promise<void> {
    this.done.push(['forget', kernel]);
    return this.refusal ? Promise.reject(this.refusal) : undefined;
  }

  /** How many cells wait, of any kernel. */
  waits = 0;

  waiting(_kernel: string): number {
    return this.waits;
  }

  /** What would go along; tests that are about it give an answer. */
  estimated: () => Promise<IWorkspaceEstimate> = async () => fixtures.workspaceEstimate;

  async estimate(_kernel: string, _compute: string): Promise<IWorkspaceEstimate> {
    return this.estimated();
  }

  async sync(workspace: string, request: ISyncRequest = {}): Promise<IOperation> {
    this.done.push(['sync', workspace, request]);
    return this.refusal ? Promise.reject(this.refusal) : fixtures.sync;
  }

  async resolve(workspace: string, path: string, keep: Keep): Promise<void> {
    this.done.push(['resolve', workspace, path, keep]);
    return this.refusal ? Promise.reject(this.refusal) : undefined;
  }

  async fetch(workspace: string, paths: string[]): Promise<IOperation> {
    this.done.push(['fetch', workspace, paths]);
    return this.refusal ? Promise.reject(this.refusal) : fixtures.sync;
  }

  /** What is found there, by kernelspec. */
  found: (request: IModulesRequest) => Promise<IModule[]> = async () => [];

  async modules(compute: string, request: IModulesRequest): Promise<IModule[]> {
    this.done.push(['modules', compute, request]);
    return this.found(request);
  }

  /** What is advised; a failure where there is nothing. */
  advised: IAdvice | null = null;

  async advice(kernel: string, request: IAdviceRequest): Promise<IAdvice> {
    this.askedAdvice.push([kernel, request]);
    if (!this.advised) {
      throw new Error('There is no advice.');
    }
    return this.advised;
  }

  readonly askedAdvice: [string, IAdviceRequest][] = [];

  async install(compute: string, request: IInstallRequest): Promise<IOperation> {
    this.done.push(['install', compute, request]);
    this.set({ operations: [fixtures.install, ...this.operations] });
    return fixtures.install;
  }

  async reconnect(kernel: string): Promise<void> {
    this.done.push(['reconnect', kernel]);
  }

  async cancel(operation: string, release = false): Promise<void> {
    this.done.push(['cancel', operation, release]);
  }

  async setIdle(compute: string, request: IIdleRequest): Promise<IIdleStop> {
    this.done.push(['idle', compute, request]);
    return this.refusal ? Promise.reject(this.refusal) : fixtures.idleStop;
  }

  async stopLoss(compute: string): Promise<IStopLoss> {
    return this.loss(compute);
  }

  async sizes(_: string): Promise<ISizeOfferList> {
    return this.offers();
  }

  async resize(compute: string, request: IResizeRequest): Promise<IOperation> {
    this.done.push(['resize', compute, request]);
    return fixtures.attach;
  }

  canCreate = false;
  places: unknown[][] = [];
  choices: ICreation = fixtures.creation;

  get creations(): IOperation[] {
    return this.operations.filter(
      ({ id, kind, compute, state }) =>
        kind === 'create' &&
        !this.compute(compute) &&
        (state === 'running' || (state === 'failed' && !this._dismissed.has(id)))
    );
  }

  async creation(subscription: string | null, location: string | null): Promise<ICreation> {
    this.places.push([subscription, location]);
    return this.choices;
  }

  async create(wanted: INewCompute): Promise<IOperation> {
    this.done.push(['create', wanted]);
    return fixtures.attach;
  }

  async kernelspecs(_: string): Promise<IKernelspec[]> {
    return fixtures.kernelspecList.kernelspecs;
  }

  refusal: unknown = null;

  async openTerminal(compute: string): Promise<ITerminal> {
    this.done.push(['terminal', compute]);
    return this.refusal ? Promise.reject(this.refusal) : fixtures.terminal;
  }

  async sshCommand(compute: string): Promise<ISSHCommand> {
    this.done.push(['ssh', compute]);
    return this.refusal ? Promise.reject(this.refusal) : fixtures.sshCommand;
  }

  dispose(): void {
    this.isDisposed = true;
  }

  /** Put something in place of what it holds, and say so. */
  set(change: Partial<FakeModel>): void {
    Object.assign(this, change);
    this.stateChanged.emit();
  }
}

export class FakeCurrent implements ICurrentNotebook {
  notebook: INotebook | null = {
    path: 'work/analysis.ipynb',
    name: 'analysis.ipynb',
    kernelId: fixtures.kernel.id,
    busy: false
  };
  readonly changed = new Signal<this, void>(this);
}
