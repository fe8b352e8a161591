/**
 * When to offer a larger machine: the free tier's memory is nearly full, or a kernel has died of it. Decisions are pure
 * functions; `MemoryOffers` shows them.
 */
import { Notification } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { IDisposable } from '@lumino/disposable';
import { Signal } from '@lumino/signaling';

import { canAttach, canResize, machinesOf } from './actions';
import { FREE, ICompute, IKernel, IMetrics, IUsage } from './api';
import { CommandIDs } from './commands';
import { ICurrentNotebook } from './current';
import { FULL, HIGH, shareOf, usageText } from './gauges';
import { ISettings } from './settings';
import { IComputeModel, IMetricsModel } from './tokens';
import { memoryText } from './words';

/** The least time that “Not now” counts, in milliseconds. */
export const SILENCE = 30 * 60_000;

/** The problem's code of a kernel that died of memory. */
export const OUT_OF_MEMORY = 'OutOfMemory';

/** What is remembered between two looks. */
export interface IOfferState {
  /** Whether there was room since the last offer: one that was shown is not shown again before. */
  armed: boolean;
  /** Until when a person does not want to be asked. */
  quietUntil: number;
  /** Whether an offer is on screen. */
  shown: boolean;
}

export const NO_OFFER: IOfferState = { armed: true, quietUntil: 0, shown: false };

export interface ILook {
  /** In use; undefined where nothing is known. */
  memory: IUsage | null | undefined;
  /** Whether a notebook runs on the free tier. */
  isUsed: boolean;
  /** Whether a person wants offers at all. */
  isWanted: boolean;
  now: number;
}

/**
 * What to do after a look, and what to remember.
 *
 * | memory        | armed | quiet | shown | then                  |
 * |---------------|-------|-------|-------|-----------------------|
 * | below 80 %    | any   | any   | yes   | withdraw; armed       |
 * | below 80 %    | any   | any   | no    | armed                 |
 * | 80 % to 90 %  | any   | any   | any   | nothing               |
 * | 90 % or more  | yes   | no    | no    | offer; not armed      |
 * | 90 % or more  | no, or quiet, or shown |       | nothing |
 * | unknown       | any   | any   | any   | nothing               |
 *
 * Where no notebook runs there any more, or nobody wants offers, one that is shown is withdrawn.
 */
export function decide(
  state: IOfferState,
  look: ILook
): { state: IOfferState; action: 'offer' | 'withdraw' | null } {
  if (!look.isUsed || !look.isWanted) {
    return state.shown
      ? { state: { ...state, shown: false, armed: true }, action: 'withdraw' }
      : { state, action: null };
  }
  if (!look.memory) {
    return { state, action: null };
  }
  const share = shareOf(look.memory);
  if (share < HIGH) {
    return {
      state: { ...state, armed: true, shown: false },
      action: state.shown ? 'withdraw' : null
    };
  }
  if (share >= FULL && state.armed && !state.shown && look.now >= state.quietUntil) {
    return { state: { ...state, armed: false, shown: true }, action: 'offer' };
  }
  return { state, action: null };
}

/** A person has said “Not now”. */
export function silenced(state: IOfferState, now: number): IOfferState {
  return { armed: false, quietUntil: now + SILENCE, shown: false };
}

/**
 * The machine to name: one with more memory where the notebook can go. One that runs is preferred, since it is paid for already;
 * then the cheapest, then the smallest.
 */
export function largerMachine(
  computes: readonly ICompute[],
  than: number,
  canGo: (compute: ICompute) => boolean
): ICompute | undefined {
  const order = (compute: ICompute): number[] => [
    compute.power_state === 'running' ? 0 : 1,
    compute.price?.amount ?? Infinity,
    compute.size?.memory_gib ?? Infinity
  ];
  const fitting = computes.filter(
    compute =>
      (compute.size?.memory_gib ?? 0) > than &&
      (compute.power_state === 'running' || !compute.not_allowed.includes('start')) &&
      canGo(compute)
  );
  return fitting.sort((a, b) => {
    const [first, second] = [order(a), order(b)];
    const index = first.findIndex((value, i) => value !== second[i]);
    return index < 0 ? 0 : first[index] - second[index];
  })[0];
}

/**
 * Kernels whose death of memory has not been told of: those that had died when the page was opened are the panel's to show. One that
 * dies again, before a person has restarted it, has a problem with another text. `known`: the texts, by kernel.
 */
export function newDeaths(
  kernels: readonly IKernel[],
  known: ReadonlyMap<string, string> | null
): { died: IKernel[]; known: Map<string, string> } {
  const dead = kernels.filter(kernel => kernel.problem?.code === OUT_OF_MEMORY);
  return {
    died: known ? dead.filter(kernel => known.get(kernel.id) !== kernel.problem?.message) : [],
    known: new Map(dead.map(kernel => [kernel.id, kernel.problem?.message ?? '']))
  };
}

/** Shows the offers: one notification at a time for the free tier's memory, and one for each kernel that died of it. */
export class MemoryOffers implements IDisposable {
  constructor(private readonly _options: MemoryOffers.IOptions) {
    const { model, metrics, current, settings } = _options;
    model.stateChanged.connect(this._update, this);
    metrics.changed.connect(this._update, this);
    current.changed.connect(this._update, this);
    settings?.changed.connect(this._update, this);
    this._update();
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this._watch?.dispose();
    Signal.disconnectReceiver(this);
  }

  private _update(): void {
    const { model } = this._options;
    if (model.status !== 'ready') {
      return;
    }
    const kernel = this._here();
    const isWanted = this._options.settings?.memoryOffers ?? true;
    this._watchFree(!!kernel && isWanted);
    this._tellDeaths(isWanted);
    const look = {
      memory: this._options.metrics.metrics(FREE)?.memory,
      isUsed: !!kernel,
      isWanted,
      now: this._now()
    };
    const { state, action } = decide(this._state, look);
    this._state = state;
    if (action === 'withdraw') {
      Notification.dismiss(this._offer);
    } else if (action === 'offer' && kernel && look.memory) {
      this._show(kernel, look.memory);
    }
  }

  /** A kernel on the free tier: the current notebook's if it is there, else any notebook's. */
  private _here(): IKernel | undefined {
    const { model, current } = this._options;
    const own = model.kernel(current.notebook?.kernelId ?? null);
    return [...(own ? [own] : []), ...model.kernels].find(
      kernel => kernel.compute === FREE && !kernel.moving_to && !!kernel.path
    );
  }

  private _watchFree(isNeeded: boolean): void {
    if (isNeeded && !this._watch) {
      this._watch = this._options.metrics.watch(FREE);
    } else if (!isNeeded && this._watch) {
      this._watch.dispose();
      this._watch = null;
    }
  }

  private _show(kernel: IKernel, memory: IUsage): void {
    const { trans } = this._options;
    const target = this._larger(kernel, memory.total_gib);
    const usage = usageText(memory, trans);
    const message = target?.size?.memory_gib
      ? trans.__(
          'Memory is nearly full (%1). Move to %2 on %3?',
          usage,
          memoryText(target.size.memory_gib, trans),
          target.name
        )
      : trans.__('Memory is nearly full (%1). A bigger machine would have more.', usage);
    this._offer = Notification.emit(message, 'warning', {
      autoClose: false,
      actions: [
        this._move(kernel, target),
        {
          label: trans.__('Not now'),
          callback: () => {
            this._state = silenced(this._state, this._now());
          }
        }
      ]
    });
  }

  private _tellDeaths(isWanted: boolean): void {
    const { model } = this._options;
    const { died, known } = newDeaths(model.kernels, this._dead);
    for (const kernel of died) {
      if (isWanted && kernel.problem) {
        Notification.dismiss(this._deaths.get(kernel.id) ?? '');
        this._deaths.set(
          kernel.id,
          Notification.emit(kernel.problem.message, 'error', {
            autoClose: false,
            actions: this._afterDeath(kernel)
          })
        );
      }
    }
    for (const [id, notification] of this._deaths) {
      if (!known.has(id)) {
        this._deaths.delete(id);
        Notification.dismiss(notification);
      }
    }
    this._dead = known;
  }

  private _afterDeath(kernel: IKernel): Notification.IAction[] {
    const { model, commands, trans } = this._options;
    const compute = model.compute(kernel.compute);
    const actions = [this._move(kernel, this._larger(kernel, compute?.size?.memory_gib ?? 0))];
    if (compute && canResize(compute, model.runningOn(compute.id))) {
      actions.push({
        label: trans.__('Resize…'),
        callback: () => void commands.execute(CommandIDs.resize, { compute: compute.id })
      });
    }
    return actions;
  }

  /** The ordinary way: it asks, and says the price. Without a machine to go to, a person chooses one, or sees that there is none. */
  private _move(kernel: IKernel, target: ICompute | undefined): Notification.IAction {
    const { model, commands, trans } = this._options;
    return {
      label: trans.__('Move…'),
      displayType: 'accent',
      callback: () => {
        // Much may have happened since.
        const still = target && this._canGo(kernel, model.compute(target.id));
        const args = { kernel: kernel.id, ...(still ? { compute: target.id } : {}) };
        const isPossible = commands.isEnabled(CommandIDs.attach, args);
        void commands.execute(isPossible ? CommandIDs.attach : CommandIDs.open, args);
      }
    };
  }

  private _larger(kernel: IKernel, than: number): ICompute | undefined {
    return largerMachine(machinesOf(this._options.model), than, compute =>
      this._canGo(kernel, compute)
    );
  }

  private _canGo(kernel: IKernel, compute: ICompute | undefined): boolean {
    const { model } = this._options;
    return (
      !!compute &&
      canAttach(compute, model.runningOn(compute.id), model.kernel(kernel.id) ?? kernel)
    );
  }

  private _now(): number {
    return this._options.now?.() ?? Date.now();
  }

  private _state = NO_OFFER;
  private _offer = '';
  private _watch: IDisposable | null = null;
  private _dead: ReadonlyMap<string, string> | null = null;
  private readonly _deaths = new Map<string, string>();
  private _isDisposed = false;
}

export namespace MemoryOffers {
  export interface IOptions {
    model: IComputeModel;
    metrics: Pick<IMetricsModel, 'watch' | 'changed'> & {
      metrics(compute: string): IMetrics | undefined;
    };
    current: ICurrentNotebook;
    commands: CommandRegistry;
    /** Offers are wanted where there are none. */
    settings: Pick<ISettings, 'memoryOffers' | 'changed'> | null;
    trans: TranslationBundle;
    now?: () => number;
  }
}
