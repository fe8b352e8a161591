import { DisposableDelegate, IDisposable } from '@lumino/disposable';
import { Signal } from '@lumino/signaling';

import { IMetrics } from '../api';
import { IMetricsModel } from '../tokens';

/** Metrics that are as the test says. */
export class FakeMetrics implements IMetricsModel {
  readonly changed = new Signal<this, string>(this);
  isDisposed = false;
  /** What is looked at now. */
  watched: string[] = [];

  metrics(compute: string): IMetrics | undefined {
    return this._known.get(compute);
  }

  watch(compute: string): IDisposable {
    this.watched.push(compute);
    return new DisposableDelegate(() => {
      this.watched.splice(this.watched.indexOf(compute), 1);
    });
  }

  set(metrics: IMetrics): void {
    this._known.set(metrics.compute, metrics);
    this.changed.emit(metrics.compute);
  }

  dispose(): void {
    this.isDisposed = true;
  }

  private readonly _known = new Map<string, IMetrics>();
}
