import { nullTranslator } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { MessageLoop } from '@lumino/messaging';
import { DisposableDelegate, IDisposable } from '@lumino/disposable';
import { Signal } from '@lumino/signaling';
import { Widget } from '@lumino/widgets';
import { act } from '@testing-library/react';

import { IKernel, IMetrics, ISpend } from '../api';
import { CommandIDs } from '../commands';
import { ComputeStatus, statusText } from '../status';
import { IMetricsModel } from '../tokens';
import { FakeCurrent, FakeModel } from './fakeModel';
import { FakeSettings } from './fakeSettings';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');

const NOW = Date.parse(fixtures.spend.as_of);

const connected = { ...fixtures.local, state: 'connected' as const };
const onGpu = { ...fixtures.kernel, compute: fixtures.gpu.id, link: connected };

/** Says what the test says, and writes down which computes are looked at. */
class FakeMetrics implements IMetricsModel {
  known = new Map<string, IMetrics>();
  watched: string[] = [];
  isDisposed = false;
  readonly changed = new Signal<this, string>(this);

  metrics(compute: string): IMetrics | undefined {
    return this.known.get(compute);
  }

  watch(compute: string): IDisposable {
    this.watched.push(compute);
    return new DisposableDelegate(() => {
      this.watched.splice(this.watched.indexOf(compute), 1);
    });
  }

  take(metrics: IMetrics): void {
    this.known.set(metrics.compute, metrics);
    this.changed.emit(metrics.compute);
  }

  dispose(): void {
    this.isDisposed = true;
  }
}

describe('statusText', () => {
  const said = (
    kernel: IKernel = onGpu,
    compute: Parameters<typeof statusText>[1] = fixtures.gpu,
    metrics?: IMetrics,
    spend: ISpend | null = null
  ): string => statusText(kernel, compute, metrics, spend, undefined, NOW, trans).text;

  it('says the GPU and the price of a machine', () => {
    expect(said(onGpu, fixtures.gpu, fixtures.metrics)).toBe('gpu-vm · GPU 61 % · ~$0.53/h');
  });

  it('says what was spent today in place of the price, as it grows, and when the machine stops', () => {
    const compute = { ...fixtures.gpu, power_state: 'running' as const, idle: fixtures.idleStop };
    expect(said(onGpu, compute, fixtures.metrics, fixtures.spend)).toBe(
      'gpu-vm · GPU 61 % · ~$1.12 today · stops in 25 min'
    );
    const later = NOW + 20 * 60_000;
    expect(
      statusText(onGpu, compute, undefined, fixtures.spend, undefined, later, trans).text
    ).toBe('gpu-vm · ~$1.30 today · stops in 5 min');
    expect(said(fixtures.kernel, fixtures.free, undefined, fixtures.spend)).toBe(
      'Free tier · ~$1.12 today'
    );
    const unknown = { ...fixtures.spend, currency: null };
    expect(said(onGpu, fixtures.gpu, undefined, unknown)).toBe('gpu-vm · ~$0.53/h');
  });

  it('says the mean of several GPUs', () => {
    const [gpu] = fixtures.metrics.gpus;
    const gpus = [gpu, { ...gpu, utilization: 0.2 }, { ...gpu, utilization: null }];
    expect(said(onGpu, fixtures.gpu, { ...fixtures.metrics, gpus })).toContain('GPU 41 %');
  });

  it('says the memory where there is no GPU, or nothing is known of it', () => {
    const gpus = [{ ...fixtures.metrics.gpus[0], utilization: null }];
    expect(said(onGpu, fixtures.gpu, { ...fixtures.metrics, gpus })).toBe(
      'gpu-vm · 6.5 of 28 GB · ~$0.53/h'
    );
    expect(said(fixtures.kernel, fixtures.free, fixtures.freeMetrics)).toBe(
      'Free tier · 2.9 of 4 GB'
    );
  });

  it('leaves out what is not known', () => {
    expect(said()).toBe('gpu-vm · ~$0.53/h');
    expect(said(fixtures.kernel, { ...fixtures.free, size: null })).toBe('Free tier');
    expect(statusText(onGpu, undefined, undefined, null, undefined, NOW, trans).text).toBe(
      'a machine that is no longer listed'
    );
  });

  it('is the chip’s text while the kernel is out of reach or moves', () => {
    const link = { ...connected, state: 'reconnecting' as const };
    const lost = statusText(
      { ...onGpu, link },
      fixtures.gpu,
      fixtures.metrics,
      fixtures.spend,
      undefined,
      NOW,
      trans
    );
    expect(lost).toEqual({ tone: 'warn', text: 'gpu-vm · reconnecting' });
    const moving = { operation: fixtures.attach, target: fixtures.gpu };
    const kernel = { ...fixtures.kernel, moving_to: fixtures.gpu.id };
    expect(statusText(kernel, fixtures.free, undefined, null, moving, NOW, trans).text).toBe(
      'gpu-vm · moving 2 of 4'
    );
  });
});

describe('the status bar’s item', () => {
  let model: FakeModel;
  let metrics: FakeMetrics;
  let current: FakeCurrent;
  let settings: FakeSettings;
  let commands: CommandRegistry;
  let item: ComputeStatus;
  let inFront: boolean;

  const make = (figures: IMetricsModel | null): ComputeStatus => {
    const made = new ComputeStatus({
      model,
      metrics: figures,
      current,
      settings,
      isInFront: () => inFront,
      commands,
      trans
    });
    act(() => Widget.attach(made, document.body));
    return made;
  };

  const shown = async (): Promise<string> => {
    await act(async () => MessageLoop.flush());
    return item.node.textContent ?? '';
  };

  beforeEach(() => {
    model = new FakeModel();
    metrics = new FakeMetrics();
    current = new FakeCurrent();
    settings = new FakeSettings();
    commands = new CommandRegistry();
    inFront = true;
    item = make(metrics);
  });

  afterEach(() => {
    act(() => item.dispose());
  });

  it('shows the figures of where the notebook runs as they come', async () => {
    expect(await shown()).toBe('Free tier');
    expect(metrics.watched).toEqual(['free']);
    metrics.take(fixtures.freeMetrics);
    expect(await shown()).toBe('Free tier · 2.9 of 4 GB');
    model.set({ kernels: [onGpu] });
    metrics.take(fixtures.metrics);
    expect(await shown()).toBe('gpu-vm · GPU 61 % · ~$0.53/h');
    expect(metrics.watched).toEqual([fixtures.gpu.id]);
  });

  it('looks at nothing that cannot be reached, nor when nobody looks', async () => {
    model.set({ kernels: [{ ...onGpu, link: { ...connected, state: 'reconnecting' } }] });
    expect(await shown()).toBe('gpu-vm · reconnecting');
    expect(metrics.watched).toEqual([]);
    model.set({ kernels: [onGpu] });
    expect(metrics.watched).toEqual([fixtures.gpu.id]);
    act(() => item.dispose());
    expect(metrics.watched).toEqual([]);
  });

  it('goes away where there is no notebook, or it is not wanted', async () => {
    const changes: boolean[] = [];
    item.activeStateChanged.connect(() => changes.push(item.isActive));
    current.notebook = null;
    current.changed.emit();
    expect([await shown(), item.isActive, metrics.watched]).toEqual(['', false, []]);
    current.notebook = new FakeCurrent().notebook;
    current.changed.emit();
    expect([await shown(), item.isActive]).toEqual(['Free tier', true]);
    settings.set({ statusBar: false });
    expect([await shown(), item.isActive, metrics.watched]).toEqual(['', false, []]);
    expect(changes).toEqual([false, true, false]);
    settings.set({ statusBar: true });
    inFront = false; // a launcher is
    item.refresh();
    expect([await shown(), item.isActive, metrics.watched]).toEqual(['', false, []]);
  });

  it('opens the panel, and is no live region', async () => {
    let opened = 0;
    commands.addCommand(CommandIDs.open, { execute: () => opened++ });
    await shown();
    const button = item.node.querySelector('button')!;
    button.click();
    expect(opened).toBe(1);
    expect(item.node.closest('[aria-live]') ?? item.node.querySelector('[aria-live]')).toBeNull();
    expect(button.title).toContain('Free tier');
  });

  it('does without figures where there is nobody to ask', async () => {
    act(() => item.dispose());
    item = make(null);
    model.set({ kernels: [onGpu] });
    expect(await shown()).toBe('gpu-vm · ~$0.53/h');
  });
});
