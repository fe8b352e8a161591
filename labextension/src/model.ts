import { Event, ServerConnection } from '@jupyterlab/services';
import { TranslationBundle } from '@jupyterlab/translation';
import { ISignal, IStream, Signal } from '@lumino/signaling';

import {
  CHANGED_SCHEMA_ID,
  IChanged,
  ICompute,
  IComputeList,
  IIdleStop,
  IKernel,
  IKernelList,
  IOperation,
  IOperationList,
  IProblem,
  ISignIn,
  ISpend,
  IWorkspace,
  IWorkspaceList
} from './api';
import { RevisionedList } from './lists';
import { asProblem, NO_ANSWER, SERVER_EXTENSION_MISSING } from './request';
import { ComputeRequests, ListName } from './requests';
import { SignInModel } from './signin';
import { IComputeModel, IKernelMoved, ISignInModel, ModelStatus } from './tokens';
import { WaitingCells } from './waitingcells';

/** What there is to show without knowing who is signed in, which can take longer: it may start the Azure CLI. */
const NEEDED = ['computes', 'kernels', 'operations'];

/**
 * The page's copy of the server's lists, and of who is signed in.
 *
 * Each list is fetched once, and again only when a Jupyter event names a newer revision, when the event stream had been
 * away (`resync`), or when a person asks (`refresh`). Nothing polls.
 */
export class ComputeModel extends ComputeRequests implements IComputeModel {
  constructor(options: ComputeModel.IOptions) {
    super(options.serverSettings, options.trans);
    this._stream = options.stream;
    const gap = options.minimumGap ?? 100;
    const list = <T extends { revision: number }>(
      path: ListName,
      take: (answer: T) => void,
      fetch = () => this.ask<T>(path)
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
      serverSettings: this.serverSettings,
      trans: this.trans,
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
      }),
      spend: list<ISpend>('spend', answer => {
        this._spend = answer;
      })
    };
    this._stream.connect(this._onEvent, this);
    this._cells = options.cells;
    this._cells?.changed.connect((_, kernel) => {
      // Nobody is told of cells while nothing moves.
      if (this.kernel(kernel)?.moving_to) {
        this._changed();
      }
    });
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

  get spend(): ISpend | null {
    return this._spend;
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

  waiting(kernel: string): number {
    return this._cells?.count(kernel) ?? 0;
  }

  failedOn(compute: string): IOperation | undefined {
    const newest = this._operations.find(o => o.compute === compute && changesMachine(o));
    return newest?.state === 'failed' && !this._dismissed.has(newest.id) ? newest : undefined;
  }

  dismiss(operation: string): void {
    this._dismissed.add(operation);
    this._changed();
    void this.forgetOperation(operation);
  }

  isAskedHere(operation: string): boolean {
    return this._askedHere.has(operation);
  }

  /** Have the server ask the cloud again. A person asked for it; events do not lead here. */
  async refresh(): Promise<void> {
    try {
      // The answer itself is read by the list below, so that one place alone decides which answer is the newest.
      await this.ask<IComputeList>('computes?refresh=true');
    } catch (reason) {
      this._failed('computes', reason);
      throw reason;
    }
    this.resync();
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

  protected begun(operation: IOperation): void {
    this._askedHere.add(operation.id);
    if (!this._operations.some(known => known.id === operation.id)) {
      this._operations = [operation, ...this._operations];
      this._changed();
    }
    this.renew('operations', 'kernels');
  }

  protected takeIdle(id: string, idle: IIdleStop): void {
    this._computes = this._computes.map(compute =>
      compute.id === id ? { ...compute, idle } : compute
    );
    this._changed();
    this.renew('computes');
  }

  protected renew(...lists: ListName[]): void {
    for (const name of lists) {
      this._lists[name].fetchAgain();
    }
  }

  private _onEvent(_: Event.IManager, emission: Event.Emission): void {
    if (emission.schema_id !== CHANGED_SCHEMA_ID) {
      return;
    }
    const { what, revision } = emission as unknown as IChanged;
    if (
      what !== 'questions' &&
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

  private _failed(list: ListName, reason: unknown): void {
    if (list === 'spend') {
      return; // what is not known is not shown
    }
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

  private readonly _stream: IStream<Event.IManager, Event.Emission>;
  private readonly _lists: Record<
    ListName,
    Pick<RevisionedList<never>, 'expect' | 'fetchAgain' | 'dispose'>
  >;
  private readonly _signIn: SignInModel;
  private readonly _cells: WaitingCells | undefined;
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
  private _spend: ISpend | null = null;
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
  return kind !== 'install' && kind !== 'sync' && kind !== 'load';
}

export namespace ComputeModel {
  export interface IOptions {
    serverSettings: ServerConnection.ISettings;
    /** `app.serviceManager.events.stream`. */
    stream: IStream<Event.IManager, Event.Emission>;
    /** For what is said of a request that failed. */
    trans: TranslationBundle;
    /** Those of the page's notebooks. */
    cells?: WaitingCells;
    /** Milliseconds between two fetches of the same list: a burst of events leads to one. */
    minimumGap?: number;
    /** Milliseconds until a server that was not reached is asked again: the first time, and at most. */
    retry?: { first: number; longest: number };
  }
}
