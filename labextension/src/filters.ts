/** Which machines a person wants to see, and where that is kept. */
import { JSONExt, ReadonlyPartialJSONObject } from '@lumino/coreutils';
import { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';

import { ICompute } from './api';

export type StateFilter = 'any' | 'on' | 'off' | 'attached';

export interface IFilters {
  /** Words of which each must be in a machine's name, size, GPU, region or resource group. */
  text: string;
  withGpu: boolean;
  /** GB at least; 0: any. */
  memory: number;
  /** A subscription's id; empty: any. */
  subscription: string;
  state: StateFilter;
}

export const DEFAULT_FILTERS: IFilters = {
  text: '',
  withGpu: false,
  memory: 0,
  subscription: '',
  state: 'any'
};

/** What can be chosen for the memory, in GB. */
export const MEMORY_CHOICES: readonly number[] = [8, 16, 32, 64, 128, 256];

const FITS: Record<StateFilter, (compute: ICompute) => boolean> = {
  any: () => true,
  on: ({ power_state }) => power_state === 'running' || power_state === 'starting',
  off: ({ power_state }) => power_state !== 'running' && power_state !== 'starting',
  attached: ({ attached }) => attached.length > 0
};

/** The machines that fit, in their order. Of what is not known nobody can say that it fits. */
export function matching(computes: readonly ICompute[], filters: IFilters): ICompute[] {
  const words = filters.text.toLowerCase().split(/\s+/).filter(Boolean);
  // One that is kept may be of an account that sees other subscriptions.
  const subscription = subscriptionsOf(computes).includes(filters.subscription)
    ? filters.subscription
    : '';
  const fits = FITS[filters.state];
  return computes.filter(
    compute =>
      fits(compute) &&
      (!filters.withGpu || !!compute.size?.gpus) &&
      (!filters.memory || (compute.size?.memory_gib ?? 0) >= filters.memory) &&
      (!subscription || compute.subscription === subscription) &&
      (words.length === 0 || hasAll(haystack(compute), words))
  );
}

function haystack({ name, size, location, resource_group }: ICompute): string {
  return [name, size?.name, size?.gpu_model, location, resource_group].join(' ').toLowerCase();
}

function hasAll(text: string, words: readonly string[]): boolean {
  return words.every(word => text.includes(word));
}

export function subscriptionsOf(computes: readonly ICompute[]): string[] {
  const ids = computes.map(({ subscription }) => subscription).filter(id => id !== null);
  return [...new Set(ids as string[])].sort();
}

/** Whether they may leave out a machine. */
export function isFiltering(filters: IFilters): boolean {
  return (
    filters.text.trim() !== '' ||
    (['withGpu', 'memory', 'subscription', 'state'] as const).some(
      name => filters[name] !== DEFAULT_FILTERS[name]
    )
  );
}

/** What was kept, as far as it makes sense: it may be of another version, or be written by hand. */
export function cleaned(kept: unknown): IFilters {
  const found = (typeof kept === 'object' && kept !== null ? kept : {}) as Record<string, unknown>;
  const take = <T>(name: keyof IFilters, fits: (value: unknown) => boolean): T =>
    (fits(found[name]) ? found[name] : DEFAULT_FILTERS[name]) as T;
  return {
    text: take('text', value => typeof value === 'string'),
    withGpu: take('withGpu', value => typeof value === 'boolean'),
    memory: take('memory', value => value === 0 || MEMORY_CHOICES.includes(value as number)),
    subscription: take('subscription', value => typeof value === 'string'),
    state: take('state', value => typeof value === 'string' && Object.keys(FITS).includes(value))
  };
}

/** Where the filters outlive the page: JupyterLab's settings. */
export interface IKeptFilters {
  /** What is kept, of whatever shape. */
  readonly filters: ReadonlyPartialJSONObject;
  readonly changed: ISignal<IKeptFilters, void>;
  keepFilters(filters: ReadonlyPartialJSONObject): Promise<void>;
}

/**
 * The filters as they are now. What a person changes is kept a moment later, once for many keys; what is changed where they
 * are kept (the settings editor, another tab) is taken over.
 */
export class Filters implements IDisposable {
  constructor(
    private readonly _kept: IKeptFilters,
    private readonly _delay = 500
  ) {
    this._value = cleaned(_kept.filters);
    _kept.changed.connect(this._onKept, this);
  }

  get value(): IFilters {
    return this._value;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  set(change: Partial<IFilters>): void {
    this._take({ ...this._value, ...change });
    window.clearTimeout(this._timer);
    this._timer = window.setTimeout(() => void this._keep(), this._delay);
  }

  dispose(): void {
    this._isDisposed = true;
    window.clearTimeout(this._timer);
    this._kept.changed.disconnect(this._onKept, this);
    Signal.clearData(this);
  }

  private async _keep(): Promise<void> {
    this._timer = undefined;
    try {
      await this._kept.keepFilters({ ...this._value });
    } catch (reason) {
      console.warn('jupyter-dsvm: the filters of the Compute panel could not be kept', reason);
    }
  }

  private _onKept(): void {
    // What a person has just typed, and is not kept yet, is newer.
    if (this._timer === undefined) {
      this._take(cleaned(this._kept.filters));
    }
  }

  private _take(value: IFilters): void {
    if (!JSONExt.deepEqual({ ...value }, { ...this._value })) {
      this._value = value;
      this._changed.emit();
    }
  }

  private readonly _changed = new Signal<this, void>(this);
  private _value: IFilters;
  private _isDisposed = false;
  private _timer: number | undefined;
}
