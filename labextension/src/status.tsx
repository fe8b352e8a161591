import { ReactWidget } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';
import * as React from 'react';

import { FREE, ICompute, IKernel, IMetrics, ISpend, IUsage } from './api';
import { chipText, IChipText } from './chipwords';
import { Passing } from './clock';
import { CommandIDs } from './commands';
import { ToneIcon } from './components/ToneIcon';
import { ICurrentNotebook } from './current';
import { canKeep, idleOf, isStoppedSoon, keepLabel, shortCountdown } from './idlewords';
import { h } from './jsx';
import { ISettings } from './settings';
import { todayText } from './spendwords';
import { IComputeModel, IMetricsModel } from './tokens';
import { dotted, memoryText, nameOf, priceText } from './words';

/**
 * `gpu-t4 · GPU 61 % · ~$1.12 today · stops in 18 min`, `cpu-vm · 6.5 of 28 GB · ~$0.23/h`, `Free tier · 2.9 of 4 GB`. What is
 * not known is left out; the price per hour is said where nothing is known of what was spent. While the notebook moves, its
 * kernel is out of reach or its machine stops soon, it is the chip's text.
 *
 * @param now by the server's clock, in milliseconds
 */
export function statusText(
  kernel: IKernel,
  compute: ICompute | undefined,
  metrics: IMetrics | undefined,
  spend: ISpend | null,
  moving: Parameters<typeof chipText>[2],
  now: number,
  trans: TranslationBundle
): IChipText {
  const chip = chipText(kernel, compute, moving, now, trans);
  if (chip.tone !== 'on') {
    return chip;
  }
  const price = compute?.price ? priceText(compute.price, trans) : '';
  return {
    tone: 'on',
    text: dotted(
      nameOf(compute, kernel.compute, trans),
      useText(metrics, trans),
      todayText(spend, now, trans) || price,
      shortCountdown(idleOf(compute), now, trans).text
    )
  };
}

/** Of the GPUs together where there are any, otherwise of the memory. */
function useText(metrics: IMetrics | undefined, trans: TranslationBundle): string {
  const known = (metrics?.gpus ?? []).flatMap(gpu => gpu.utilization ?? []);
  if (known.length > 0) {
    const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
    return trans.__('GPU %1 %', Math.round(mean * 100));
  }
  return metrics?.memory ? usageText(metrics.memory, trans) : '';
}

function usageText({ used_gib, total_gib }: IUsage, trans: TranslationBundle): string {
  const used = used_gib >= 10 ? Math.round(used_gib) : Math.round(used_gib * 10) / 10;
  return trans.__('%1 of %2', used, memoryText(total_gib, trans));
}

/**
 * The status bar's item for the notebook in front. A press opens the panel.
 *
 * Its compute is watched only while the item is shown. It is no live region: its figures change every few seconds, and what
 * matters of them is said elsewhere.
 */
export class ComputeStatus extends ReactWidget {
  constructor(private readonly _options: ComputeStatus.IOptions) {
    super();
    this.addClass('jp-Dsvm-status');
    const { model, metrics, current, settings } = _options;
    model.stateChanged.connect(this.refresh, this);
    current.changed.connect(this.refresh, this);
    settings.changed.connect(this.refresh, this);
    metrics?.changed.connect(this._onMetrics, this);
    this.refresh();
  }

  /** Called when another widget than before may be in front. */
  refresh(): void {
    const active = this.isActive;
    if (active !== this._wasActive) {
      this._wasActive = active;
      this._activeStateChanged.emit();
    }
    this._watch(active ? this._worthWatching() : null);
    this.update();
  }

  /** Whether there is a notebook whose compute is known, and the item is wanted. */
  get isActive(): boolean {
    const { settings, isInFront } = this._options;
    return settings.statusBar && this._kernel !== undefined && isInFront();
  }

  get activeStateChanged(): ISignal<this, void> {
    return this._activeStateChanged;
  }

  dispose(): void {
    if (this.isDisposed) {
      return;
    }
    this._watch(null);
    Signal.disconnectReceiver(this);
    super.dispose();
  }

  protected render(): React.ReactElement | null {
    const { model } = this._options;
    const isPassing = !!idleOf(this._compute)?.stops_at || !!model.spend?.per_hour;
    return this.isActive ? (
      <Passing isNeeded={isPassing}>{now => this._renderAt(now)}</Passing>
    ) : null;
  }

  private _renderAt(now: number): React.ReactElement | null {
    const { trans, commands, settings } = this._options;
    const said = this._said(now);
    const compute = this._compute;
    const idle = idleOf(compute);
    return (
      said && (
        <>
          <button
            className="jp-Dsvm-statusButton"
            data-tone={said.tone}
            title={trans.__('This notebook runs on: %1. Click to open Compute.', said.text)}
            onClick={() => void commands.execute(CommandIDs.open)}
          >
            <ToneIcon tone={said.tone} />
            <span>{said.text}</span>
          </button>
          {compute && isStoppedSoon(idle) && canKeep(idle) && (
            <button
              className="jp-Dsvm-statusButton jp-mod-keep"
              onClick={() => void commands.execute(CommandIDs.keepOn, { compute: compute.id })}
            >
              {keepLabel(settings.keepOnHours, trans)}
            </button>
          )}
        </>
      )
    );
  }

  private get _kernel(): IKernel | undefined {
    const { model, current } = this._options;
    return model.status === 'ready' ? model.kernel(current.notebook?.kernelId ?? null) : undefined;
  }

  private get _compute(): ICompute | undefined {
    return this._options.model.compute(this._kernel?.compute ?? null);
  }

  private _said(now: number): IChipText | null {
    const { model, metrics, trans } = this._options;
    const kernel = this._kernel;
    if (!kernel || !this.isActive) {
      return null;
    }
    const moving = {
      operation: model.moving(kernel.id),
      target: model.compute(kernel.moving_to),
      waiting: model.waiting(kernel.id)
    };
    const figures = metrics?.metrics(kernel.compute);
    const compute = model.compute(kernel.compute);
    return statusText(kernel, compute, figures, model.spend, moving, now, trans);
  }

  private _onMetrics(_: IMetricsModel, compute: string): void {
    if (compute === this._watched) {
      this.update();
    }
  }

  /** Figures of a machine that cannot be reached would only be errors. */
  private _worthWatching(): string | null {
    const kernel = this._kernel;
    const there = kernel && (kernel.compute === FREE || kernel.link.state === 'connected');
    return there ? kernel.compute : null;
  }

  private _watch(compute: string | null): void {
    if (compute === this._watched) {
      return;
    }
    this._watching?.dispose();
    this._watched = compute;
    this._watching = compute === null ? null : (this._options.metrics?.watch(compute) ?? null);
  }

  private _wasActive = false;
  private _watched: string | null = null;
  private _watching: IDisposable | null = null;
  private readonly _activeStateChanged = new Signal<this, void>(this);
}

export namespace ComputeStatus {
  export interface IOptions {
    model: IComputeModel;
    /** Absent where the server has no figures. */
    metrics: IMetricsModel | null;
    current: ICurrentNotebook;
    settings: ISettings;
    /** Whether the current notebook is what a person looks at, and not a launcher or a terminal. */
    isInFront: () => boolean;
    commands: CommandRegistry;
    trans: TranslationBundle;
  }
}
