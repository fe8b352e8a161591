import { nullTranslator } from '@jupyterlab/translation';
import { Signal } from '@lumino/signaling';
import { act, cleanup, render, screen } from '@testing-library/react';

import { IGPUUse, IMetrics } from '../api';
import { Gauges } from '../components/Gauge';
import { WatchedGauges } from '../components/WatchedGauges';
import { gaugesOf, levelOf, together, usageText } from '../gauges';
import { h } from '../jsx';
import { FakeMetrics } from './fakeMetrics';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');
const texts = (metrics: IMetrics | undefined) => gaugesOf(metrics, trans).map(gauge => gauge.text);

describe('what the gauges say', () => {
  it('of the free tier: its limits', () => {
    expect(texts(fixtures.freeMetrics)).toEqual(['Memory 2.9 of 4 GB', 'Data 0.6 of 1 GB']);
    expect(texts({ ...fixtures.freeMetrics, disk: null })).toEqual(['Memory 2.9 of 4 GB']);
  });

  it('of a machine: what it does', () => {
    expect(texts(fixtures.metrics)).toEqual([
      'CPU 25 %',
      'Memory 6.5 of 28 GB',
      'GPU T4 61 %',
      'GPU memory 3.5 of 16 GB'
    ]);
    const full = { ...fixtures.metrics, disk: { used_gib: 140, total_gib: 150 } };
    expect(texts(full)).toContain('Disk 140 of 150 GB');
  });

  it('does not call full what is nearly so', () => {
    const said = (used_gib: number, total_gib: number) => usageText({ used_gib, total_gib }, trans);
    expect([said(0.96, 1), said(1, 1), said(1.3, 1), said(27.7, 28), said(0.04, 1)]).toEqual([
      '0.9 of 1 GB',
      '1 of 1 GB',
      '1.3 of 1 GB',
      '27 of 28 GB',
      '0 of 1 GB'
    ]);
  });

  it('nothing of what is not known', () => {
    const nothing = { ...fixtures.metrics, cpu: null, memory: null, disk: null, gpus: [] };
    expect(texts(nothing)).toEqual([]);
    expect(texts(undefined)).toEqual([]);
    const mig = { ...nothing, gpus: [{ name: 'NVIDIA H100', utilization: null, memory: null }] };
    expect(texts(mig)).toEqual([]);
  });

  it('many GPUs as one', () => {
    const gpu: IGPUUse = {
      name: 'NVIDIA A100 80GB PCIe',
      utilization: 0.5,
      memory: { used_gib: 10, total_gib: 80 }
    };
    const idle = { ...gpu, utilization: 0, memory: { used_gib: 0, total_gib: 80 } };
    expect(texts({ ...fixtures.metrics, cpu: null, memory: null, gpus: [gpu, idle] })).toEqual([
      '2 × A100 80GB PCIe 25 %',
      'GPU memory 10 of 160 GB'
    ]);
    expect(together([gpu, { ...gpu, memory: null, utilization: null }])).toMatchObject({
      utilization: 0.5,
      memory: null
    });
    expect(together([])).toBeNull();
  });

  it('warns from 80 % and from 90 % on', () => {
    expect([0.79, 0.8, 0.89, 0.9, 1.2].map(levelOf)).toEqual([
      'normal',
      'high',
      'high',
      'full',
      'full'
    ]);
    const busy = gaugesOf({ ...fixtures.metrics, cpu: 1 }, trans)[0];
    expect([busy.text, busy.level]).toEqual(['CPU 100 %', 'normal']);
  });
});

describe('a gauge', () => {
  afterEach(cleanup);

  it('is a meter with its text beside it', () => {
    render(<Gauges gauges={gaugesOf(fixtures.freeMetrics, trans)} trans={trans} />);
    const meter = screen.getByRole('meter', { name: 'Memory' });
    expect(meter.getAttribute('aria-valuenow')).toBe('73');
    expect(meter.getAttribute('aria-valuemin')).toBe('0');
    expect(meter.getAttribute('aria-valuemax')).toBe('100');
    expect(meter.getAttribute('aria-valuetext')).toBe('2.9 of 4 GB');
    expect(screen.getByText('Data 0.6 of 1 GB')).toBeTruthy();
    expect(screen.queryByText('nearly full')).toBeNull();
  });

  it('says in words that it is nearly full, and goes no further than full', () => {
    const metrics = { ...fixtures.freeMetrics, memory: { used_gib: 4.4, total_gib: 4 } };
    render(<Gauges gauges={gaugesOf(metrics, trans)} trans={trans} />);
    expect(screen.getByText('nearly full')).toBeTruthy();
    expect(screen.getByRole('meter', { name: 'Memory' }).getAttribute('aria-valuenow')).toBe('100');
    cleanup();
    const high = { ...fixtures.freeMetrics, disk: { used_gib: 0.85, total_gib: 1 } };
    render(<Gauges gauges={gaugesOf(high, trans)} trans={trans} />);
    expect(screen.getByText('getting full')).toBeTruthy();
  });

  it('shows nothing where nothing is known', () => {
    const { container } = render(<Gauges gauges={[]} trans={trans} />);
    expect(container.innerHTML).toBe('');
  });
});

describe('gauges of a compute', () => {
  afterEach(cleanup);

  it('are watched while they are shown, and follow the figures', () => {
    const metrics = new FakeMetrics();
    const { rerender, unmount, container } = render(
      <WatchedGauges metrics={metrics} compute="free" trans={trans} />
    );
    expect(metrics.watched).toEqual(['free']);
    expect(container.innerHTML).toBe('');
    act(() => metrics.set(fixtures.freeMetrics));
    expect(screen.getByText('Memory 2.9 of 4 GB')).toBeTruthy();
    rerender(<WatchedGauges metrics={metrics} compute={fixtures.gpu.id} trans={trans} />);
    expect(metrics.watched).toEqual([fixtures.gpu.id]);
    expect(container.innerHTML).toBe('');
    act(() => metrics.set(fixtures.metrics));
    expect(screen.getByText('CPU 25 %')).toBeTruthy();
    unmount();
    expect(metrics.watched).toEqual([]);
    Signal.clearData(metrics);
  });
});
