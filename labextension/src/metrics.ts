import { ServerConnection } from '@jupyterlab/services';
import { TranslationBundle } from '@jupyterlab/translation';
import { DisposableDelegate, IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';

import { IMetrics } from './api';
import { request } from './request';
import { IMetricsModel } from './tokens';

/** How often a compute is asked that somebody looks at, in milliseconds. */
const EVERY = 5000;

/** The longest wait after failures. */
const LONGEST = 60_000;

/** How long figures count that could not be renewed. */
const STALE = 15_000;

/** What is known of one compute, and who looks at it. */
interface IWatched {
  poll: Poll;
  watchers: number;
  metrics?: IMetrics;
  /** When they came, by this page's clock. */
  at: number;
}

/**
 * Asks for the metrics of computes that are watched, one poll each.
 *
 * Nothing is asked while the page is hidden, and nothing is said of failures: what is not known is not shown.
 */
export class MetricsModel implements IMetricsModel {
  constructor(private readonly _options: MetricsModel.IOptions) {}

  get changed(): ISignal<this, string> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  metrics(compute: string): IMetrics | undefined {
    return this._watched.get(compute)?.metrics;
  }

  watch(compute: string): IDisposable {
    if (this._isDisposed) {
      return new DisposableDelegate(() => undefined);
    }
    let watched = this._watched.get(compute);
    if (!watched) {
      watched = { poll: this._poll(compute), watchers: 0, at: 0 };
      this._watched.set(compute, watched);
    }
    watched.watchers += 1;
    return new DisposableDelegate(() => this._leave(compute));
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    for (const { poll } of this._watched.values()) {
      poll.dispose();
    }
    this._watched.clear();
    Signal.clearData(this);
  }

  private _leave(compute: string): void {
    const watched = this._watched.get(compute);
    if (!watched) {
      return;
    }
    watched.watchers -= 1;
    if (watched.watchers === 0) {
      watched.poll.dispose();
      this._watched.delete(compute);
    }
  }

  private _poll(compute: string): Poll {
    const interval = this._options.interval ?? EVERY;
    return new Poll({
      name: `jupyter-dsvm:metrics-${compute}`,
      factory: () => this._ask(compute),
      frequency: { interval, backoff: true, max: LONGEST },
      // Not `when-hidden`, which asks once more, and does not know of a page that was opened hidden.
      standby: () => document.visibilityState === 'hidden'
    });
  }

  /** Rejects where there was no answer, which makes the poll wait longer. */
  private async _ask(compute: string): Promise<void> {
    const { serverSettings, trans } = this._options;
    const asking = this._watched.get(compute);
    try {
      const path = `computes/${encodeURIComponent(compute)}/metrics`;
      const metrics = await request<IMetrics>(path, serverSettings, trans);
      this._accept(compute, asking, metrics);
    } catch (reason) {
      if (asking?.metrics && Date.now() - asking.at >= STALE) {
        this._accept(compute, asking, undefined);
      }
      throw reason;
    }
  }

  private _accept(compute: string, asked: IWatched | undefined, metrics?: IMetrics): void {
    // Nobody may look any more, or somebody else look again.
    if (asked && this._watched.get(compute) === asked) {
      asked.metrics = metrics;
      asked.at = Date.now();
      this._changed.emit(compute);
    }
  }

  private readonly _watched = new Map<string, IWatched>();
  private readonly _changed = new Signal<this, string>(this);
  private _isDisposed = false;
}

export namespace MetricsModel {
  export interface IOptions {
    serverSettings: ServerConnection.ISettings;
    trans: TranslationBundle;
    /** Milliseconds between two questions; only tests are in more of a hurry. */
    interval?: number;
  }
}
