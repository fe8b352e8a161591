import { Event, ServerConnection } from '@jupyterlab/services';
import { TranslationBundle } from '@jupyterlab/translation';
import { ISignal, IStream, Signal } from '@lumino/signaling';

import {
  CHANGED_SCHEMA_ID,
  ComputeAction,
  IChanged,
  ICompute,
  IComputeList,
  IConflictRequest,
  ICreation,
  IFetchRequest,
  IInstallRequest,
  IKernel,
  IKernelList,
  IKernelspec,
  IKernelspecList,
  IModule,
  IModuleList,
  IAdvice,
  IAdviceRequest,
  IModulesRequest,
  IMoveRequest,
  INewCompute,
  IOperation,
  IOperationList,
  IProblem,
  IResizeRequest,
  ISignIn,
  ISizeOfferList,
  ISSHCommand,
  ISyncRequest,
  ITerminal,
  IWorkspace,
  IWorkspaceEstimate,
  IWorkspaceList,
  Keep
} from './api';
import { RevisionedList } from './lists';
import { asProblem, NO_ANSWER, request, SERVER_EXTENSION_MISSING } from './request';
import { SignInModel } from './signin';
import { IComputeModel, IKernelMoved, ISignInModel, ModelStatus } from './tokens';

/** What there is to show without knowing who is signed in, which can take longer: it may start the Azure CLI. */
const NEEDED = ['computes', 'kernels', 'operations'];

/**
 * The page's copy of the server's lists, and of who is signed in.
 *
 * Each list is fetched once, and again only when a Jupyter event names a newer revision, when the event stream had been
 * away (`resync`), or when a person asks (`refresh`). Nothing polls.
 */
export class ComputeModel implements IComputeModel {
  constructor(options: ComputeModel.IOptions) {
    this._settings = options.serverSettings;
    this._trans = options.trans;
    this._stream = options.stream;
    const gap = options.minimumGap ?? 100;
    const list = <T extends { revision: number }>(
      path: string,
      take: (answer: T) => void,
      fetch = () => request<T>(path, this._settings, this._trans)
    ) =>
      new RevisionedList<T>({
        fetch,
        accept: answer => {
          take(answer);
          this._received.add(path);
          this._errors.delete(path);
          if (NEEDED.every(name => this._received.has(name))) {
            this._status = 'ready';
          }
          this._changed();
        },
        failed: reason => this._failed(path, reason),
        minimumGap: gap,
        isUnreached: reason => asProblem(reason).code === NO_ANSWER,
        retry: options.retry ?? { first: 1000, longest: 30_000 }
      });
    this._signIn = new SignInModel({
      serverSettings: this._settings,
      trans: this._trans,
      changed: () => this._changed(),
      fetchAgain: () => this._lists.signin.fetchAgain()
    });
    this._lists = {
      computes: list<IComputeList>('computes', answer => {
        this._computes = answer.computes;
        this._problems = answer.problems;
        this._asOf = answer.as_of;
      }),
      kernels: list<IKernelList>('kernels', answer => this._takeKernels(answer.kernels)),
      operations: list<IOperationList>('operations', answer => {
        this._operations = answer.operations;
      }),
      signin: list<ISignIn>(
        'signin',
        answer => {
          this._signIn.accept(answer);
          void this._learnCreation(answer);
        },
        () => this._signIn.fetch()
      ),
      workspaces: list<IWorkspaceList>('workspaces', answer => {
        this._workspaces = answer.workspaces;
      })
    };
    this._stream.connect(this._onEvent, this);
    this.resync();
  }

  get status(): ModelStatus {
    return this._status;
  }

  get error(): IProblem | null {
    return [...this._errors.values()][0] ?? null;
  }

  get computes(): readonly ICompute[] {
    return this._computes;
  }

  get problems(): readonly IProblem[] {
    return this._problems;
  }

  get asOf(): string | null {
    return this._asOf;
  }

  get kernels(): readonly IKernel[] {
    return this._kernels;
  }

  get operations(): readonly IOperation[] {
    return this._operations;
  }

  get workspaces(): readonly IWorkspace[] {
    return this._workspaces;
  }

  get signIn(): ISignInModel {
    return this._signIn;
  }

  get canCreate(): boolean {
    return this._canCreate;
  }

  get creations(): readonly IOperation[] {
    return this._operations.filter(
      ({ id, kind, compute, state }) =>
        kind === 'create' &&
        !this.compute(compute) &&
        (state === 'running' || (state === 'failed' && !this._dismissed.has(id)))
    );
  }

  get stateChanged(): ISignal<this, void> {
    return this._stateChanged;
  }

  get kernelMoved(): ISignal<this, IKernelMoved> {
    return this._kernelMoved;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  compute(id: string | null): ICompute | undefined {
    return this._computes.find(compute => compute.id === id);
  }

  kernel(id: string | null): IKernel | undefined {
    return this._kernels.find(kernel => kernel.id === id);
  }

  workspace(kernel: string | null): IWorkspace | undefined {
    return this._workspaces.find(({ kernels }) => kernel !== null && kernels.includes(kernel));
  }

  runningOn(compute: string): IOperation | undefined {
    return this._operations.find(
      o => o.compute === compute && o.state === 'running' && changesMachine(o)
    );
  }

  moving(kernel: string): IOperation | undefined {
    return this._operations.find(
      o => o.kernel === kernel && o.state === 'running' && changesMachine(o)
    );
  }

  failedOn(compute: string): IOperation | undefined {
    const newest = this._operations.find(o => o.compute === compute && changesMachine(o));
    return newest?.state === 'failed' && !this._dismissed.has(newest.id) ? newest : undefined;
  }

  dismiss(operation: string): void {
    this._dismissed.add(operation);
    this._changed();
  }

  isAskedHere(operation: string): boolean {
    return this._askedHere.has(operation);
  }

  /** Have the server ask the cloud again. A person asked for it; events do not lead here. */
  async refresh(): Promise<void> {
    try {
      // The answer itself is read by the list below, so that one place alone decides which answer is the newest.
      await request<IComputeList>('computes?refresh=true', this._settings, this._trans);
    } catch (reason) {
      this._failed('computes', reason);
      throw reason;
    }
    this.resync();
  }

  async change(compute: string, action: ComputeAction): Promise<IOperation> {
    return this._begin(`computes/${encodeURIComponent(compute)}/${action}`, { method: 'POST' });
  }

  async move(
    kernel: string,
    compute: string,
    kernelspec?: string,
    interrupt = false,
    sync?: boolean
  ): Promise<IOperation> {
    const body: IMoveRequest = {
      compute,
      ...(kernelspec === undefined ? {} : { kernelspec }),
      ...(interrupt ? { interrupt } : {}),
      ...(sync === undefined ? {} : { sync })
    };
    return this._begin(`kernels/${encodeURIComponent(kernel)}/compute`, {
      method: 'PUT',
      body: JSON.stringify(body)
    });
  }

  async estimate(kernel: string, compute: string): Promise<IWorkspaceEstimate> {
    const path = `kernels/${encodeURIComponent(kernel)}/workspace?compute=${encodeURIComponent(compute)}`;
    return request<IWorkspaceEstimate>(path, this._settings, this._trans);
  }

  async sync(workspace: string, body: ISyncRequest = {}): Promise<IOperation> {
    return this._begin(`workspaces/${encodeURIComponent(workspace)}/sync`, {
      method: 'POST',
      body: JSON.stringify(body)
    });
  }

  async resolve(workspace: string, file: string, keep: Keep): Promise<void> {
    const path = `workspaces/${encodeURIComponent(workspace)}/conflicts`;
    const body: IConflictRequest = { path: file, keep };
    await request<void>(path, this._settings, this._trans, {
      method: 'POST',
      body: JSON.stringify(body)
    });
    this._lists.workspaces.fetchAgain();
  }

  async fetch(workspace: string, paths: string[]): Promise<IOperation> {
    const body: IFetchRequest = { paths };
    return this._begin(`workspaces/${encodeURIComponent(workspace)}/fetch`, {
      method: 'POST',
      body: JSON.stringify(body)
    });
  }

  async reconnect(kernel: string): Promise<void> {
    const path = `kernels/${encodeURIComponent(kernel)}/reconnect`;
    await request<void>(path, this._settings, this._trans, { method: 'POST' });
  }

  async cancel(operation: string, release = false): Promise<void> {
    const path = `operations/${encodeURIComponent(operation)}${release ? '?release=true' : ''}`;
    await request<void>(path, this._settings, this._trans, { method: 'DELETE' });
    this._lists.operations.fetchAgain();
  }

  async sizes(compute: string): Promise<ISizeOfferList> {
    const path = `computes/${encodeURIComponent(compute)}/sizes`;
    return request<ISizeOfferList>(path, this._settings, this._trans);
  }

  async resize(compute: string, body: IResizeRequest): Promise<IOperation> {
    return this._begin(`computes/${encodeURIComponent(compute)}/resize`, {
      method: 'POST',
      body: JSON.stringify(body)
    });
  }

  async creation(subscription: string | null, location: string | null): Promise<ICreation> {
    const where = Object.entries({ subscription, location })
      .filter(([, value]) => value)
      .map(([name, value]) => `${name}=${encodeURIComponent(value ?? '')}`);
    const path = ['creation', where.join('&')].filter(Boolean).join('?');
    return request<ICreation>(path, this._settings, this._trans);
  }

  async create(wanted: INewCompute): Promise<IOperation> {
    return this._begin('computes', { method: 'POST', body: JSON.stringify(wanted) });
  }

  async kernelspecs(compute: string): Promise<IKernelspec[]> {
    const path = `computes/${encodeURIComponent(compute)}/kernelspecs`;
    return (await request<IKernelspecList>(path, this._settings, this._trans)).kernelspecs;
  }

  async modules(compute: string, body: IModulesRequest): Promise<IModule[]> {
    const path = `computes/${encodeURIComponent(compute)}/modules`;
    const init = { method: 'POST', body: JSON.stringify(body) };
    return (await request<IModuleList>(path, this._settings, this._trans, init)).modules;
  }

  async advice(kernel: string, body: IAdviceRequest): Promise<IAdvice> {
    const path = `kernels/${encodeURIComponent(kernel)}/advice`;
    const init = { method: 'POST', body: JSON.stringify(body) };
    return request<IAdvice>(path, this._settings, this._trans, init);
  }

  async install(compute: string, body: IInstallRequest): Promise<IOperation> {
    return this._begin(`computes/${encodeURIComponent(compute)}/install`, {
      method: 'POST',
      body: JSON.stringify(body)
    });
  }

  async openTerminal(compute: string): Promise<ITerminal> {
    const path = `computes/${encodeURIComponent(compute)}/terminals`;
    return request<ITerminal>(path, this._settings, this._trans, { method: 'POST' });
  }

  async sshCommand(compute: string): Promise<ISSHCommand> {
    const path = `computes/${encodeURIComponent(compute)}/ssh`;
    return request<ISSHCommand>(path, this._settings, this._trans);
  }

  /**
   * Fetch everything, whatever revision is known: events may have been missed, and a restarted server counts anew.
   *
   * Called when the event stream is back, when the page becomes visible or online, and after `refresh`.
   */
  resync(): void {
    for (const list of Object.values(this._lists)) {
      list.fetchAgain();
    }
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this._stream.disconnect(this._onEvent, this);
    for (const list of Object.values(this._lists)) {
      list.dispose();
    }
    Signal.clearData(this);
  }

  /** Send what starts an operation, and show the operation at once: the event about it may be a moment away. */
  private async _begin(path: string, init: RequestInit): Promise<IOperation> {
    const operation = await request<IOperation>(path, this._settings, this._trans, init);
    this._askedHere.add(operation.id);
    if (!this._operations.some(known => known.id === operation.id)) {
      this._operations = [operation, ...this._operations];
      this._changed();
    }
    this._lists.operations.fetchAgain();
    this._lists.kernels.fetchAgain();
    return operation;
  }

  private _onEvent(_: Event.IManager, emission: Event.Emission): void {
    if (emission.schema_id !== CHANGED_SCHEMA_ID) {
      return;
    }
    const { what, revision } = emission as unknown as IChanged;
    if (
      what !== 'questions' &&
      what !== 'spend' &&
      Object.prototype.hasOwnProperty.call(this._lists, what) &&
      Number.isFinite(revision)
    ) {
      this._lists[what].expect(revision);
    }
  }

  /** Once for each account: whether it may have machines made. A server that cannot say cannot make any. */
  private async _learnCreation({ state, account, tenant }: ISignIn): Promise<void> {
    const who = state === 'signed_in' ? `${account}@${tenant}` : '';
    if (who === this._creator) {
      return;
    }
    this._creator = who;
    this._canCreate = false;
    const allowed = who !== '' && (await this.creation(null, null).catch(() => null))?.allowed;
    if (allowed && this._creator === who) {
      this._canCreate = true;
      this._changed();
    }
  }

  private _takeKernels(kernels: IKernel[]): void {
    const before = new Map(this._kernels.map(kernel => [kernel.id, kernel.compute]));
    this._kernels = kernels;
    for (const kernel of kernels) {
      const from = before.get(kernel.id);
      if (from !== undefined && from !== kernel.compute) {
        this._kernelMoved.emit({ kernel, from });
      }
    }
  }

  private _failed(list: string, reason: unknown): void {
    const error = asProblem(reason);
    this._errors.set(list, error);
    if (error.code === SERVER_EXTENSION_MISSING) {
      this._status = 'missing';
    } else if (this._status !== 'ready') {
      this._status = 'failed';
    }
    this._changed();
  }

  private _changed(): void {
    if (!this._isDisposed) {
      this._stateChanged.emit();
    }
  }

  private readonly _settings: ServerConnection.ISettings;
  private readonly _trans: TranslationBundle;
  private readonly _stream: IStream<Event.IManager, Event.Emission>;
  private readonly _lists: Record<
    Exclude<IChanged['what'], 'questions' | 'spend'>,
    Pick<RevisionedList<never>, 'expect' | 'fetchAgain' | 'dispose'>
  >;
  private readonly _signIn: SignInModel;
  private readonly _received = new Set<string>();
  /** Why a list could not be fetched, by its path, until it could. */
  private readonly _errors = new Map<string, IProblem>();
  /** Ids of operations that this page began. */
  private readonly _askedHere = new Set<string>();
  private readonly _dismissed = new Set<string>();
  private readonly _stateChanged = new Signal<this, void>(this);
  private readonly _kernelMoved = new Signal<this, IKernelMoved>(this);
  private _status: ModelStatus = 'loading';
  private _computes: ICompute[] = [];
  private _problems: IProblem[] = [];
  private _asOf: string | null = null;
  private _kernels: IKernel[] = [];
  private _operations: IOperation[] = [];
  private _workspaces: IWorkspace[] = [];
  /** Whose `_canCreate` is known. */
  private _creator = '';
  private _canCreate = false;
  private _isDisposed = false;
}

/**
 * Whether an operation is about the machine, or moves a notebook there. That pip failed there says nothing of the machine, nor
 * that files are being copied: the notification and the notebook's section have those.
 */
function changesMachine({ kind }: IOperation): boolean {
  return kind !== 'install' && kind !== 'sync';
}

export namespace ComputeModel {
  export interface IOptions {
    serverSettings: ServerConnection.ISettings;
    /** `app.serviceManager.events.stream`. */
    stream: IStream<Event.IManager, Event.Emission>;
    /** For what is said of a request that failed. */
    trans: TranslationBundle;
    /** Milliseconds between two fetches of the same list: a burst of events leads to one. */
    minimumGap?: number;
    /** Milliseconds until a server that was not reached is asked again: the first time, and at most. */
    retry?: { first: number; longest: number };
  }
}
