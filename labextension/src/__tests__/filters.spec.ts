import { StateDB } from '@jupyterlab/statedb';

import { ICompute } from '../api';
import {
  cleaned,
  DEFAULT_FILTERS,
  Filters,
  IFilters,
  IKeptFilters,
  isFiltering,
  matching,
  StateFilters,
  subscriptionsOf
} from '../filters';
import * as fixtures from './fixtures';

const { cpu, gpu, host, old, win } = fixtures;
const machines = [cpu, gpu, old, win, host];
const other: ICompute = { ...cpu, id: 'azure:o', name: 'other', subscription: '22' };

const names = (filters: Partial<IFilters>, all: readonly ICompute[] = machines) =>
  matching(all, { ...DEFAULT_FILTERS, ...filters }).map(({ name }) => name);

describe('the filters', () => {
  it.each<[Partial<IFilters>, string[]]>([
    [{}, ['cpu-vm', 'gpu-vm', 'old-vm', 'win-vm', 'lab']],
    [{ text: 'GPU' }, ['gpu-vm']],
    [{ text: ' vm  d4s ' }, ['cpu-vm', 'old-vm', 'win-vm']],
    [{ text: 't4' }, ['gpu-vm']],
    [{ text: 'westeurope research' }, ['cpu-vm', 'gpu-vm', 'old-vm', 'win-vm']],
    [{ text: 'nothing' }, []],
    [{ withGpu: true }, ['gpu-vm']],
    [{ memory: 16 }, ['cpu-vm', 'gpu-vm', 'old-vm', 'win-vm']],
    [{ memory: 32 }, []],
    [{ state: 'on' }, ['cpu-vm']],
    [{ state: 'off' }, ['gpu-vm', 'old-vm', 'win-vm', 'lab']],
    [{ state: 'attached' }, []],
    [{ withGpu: true, state: 'on' }, []]
  ])('%j leave %j', (filters, expected) => {
    expect(names(filters)).toEqual(expected);
  });

  it('know several subscriptions, and forget one that is not there', () => {
    const all = [cpu, other, host];
    expect(subscriptionsOf(all)).toEqual([cpu.subscription, '22']);
    expect(names({ subscription: '22' }, all)).toEqual(['other']);
    expect(names({ subscription: 'gone' }, all)).toHaveLength(3);
  });

  it('know whether they filter', () => {
    expect(isFiltering({ ...DEFAULT_FILTERS, text: '  ' })).toBe(false);
    expect(isFiltering({ ...DEFAULT_FILTERS, text: 'x' })).toBe(true);
    expect(isFiltering({ ...DEFAULT_FILTERS, memory: 8 })).toBe(true);
  });

  it.each([null, 'text', 7, [], { text: 1, memory: 17, state: 'odd', withGpu: 'yes', more: true }])(
    'make sense of whatever was kept (%j)',
    kept => {
      expect(cleaned(kept)).toEqual(DEFAULT_FILTERS);
    }
  );

  it('are quick with hundreds of machines', () => {
    const many = Array.from({ length: 5000 }, (_, n) => ({ ...gpu, id: `${n}`, name: `vm-${n}` }));
    const begun = performance.now();
    expect(names({ text: 'vm-499', withGpu: true, memory: 8 }, many)).toHaveLength(11);
    expect(performance.now() - begun).toBeLessThan(500);
  });
});

describe('keeping the filters', () => {
  const wait = (ms: number) => new Promise(resolve => setTimeout(resolve, ms));

  it('outlives the page', async () => {
    const state = new StateDB();
    const filters = new Filters(new StateFilters(state), 1);
    await wait(1);
    filters.set({ text: 'gpu' });
    filters.set({ memory: 16 });
    await wait(20);
    const later = new Filters(new StateFilters(state), 1);
    const changed = jest.fn();
    later.changed.connect(changed);
    await wait(5);
    expect(later.value).toEqual({ ...DEFAULT_FILTERS, text: 'gpu', memory: 16 });
    expect(changed).toHaveBeenCalledTimes(1);
    later.clear();
    expect(later.value).toEqual(DEFAULT_FILTERS);
    filters.dispose();
    later.dispose();
  });

  it('goes on without a state database', async () => {
    const filters = new Filters(new StateFilters(null), 1);
    filters.set({ withGpu: true });
    await wait(10);
    expect(filters.value.withGpu).toBe(true);
    filters.dispose();
  });

  it('writes once for many keys, and does not undo what was typed meanwhile', async () => {
    let answer: (kept: unknown) => void = () => undefined;
    const saved: IFilters[] = [];
    const kept: IKeptFilters = {
      load: () => new Promise(resolve => (answer = resolve)),
      save: async filters => void saved.push(filters)
    };
    const filters = new Filters(kept, 5);
    for (const text of ['g', 'gp', 'gpu']) {
      filters.set({ text });
    }
    answer({ text: 'kept' });
    await wait(30);
    expect(filters.value.text).toBe('gpu');
    expect(saved.map(({ text }) => text)).toEqual(['gpu']);
    filters.dispose();
  });

  it('is no more than a warning where it fails', async () => {
    const warn = jest.spyOn(console, 'warn').mockImplementation(() => undefined);
    const fail = () => Promise.reject(new Error('full'));
    const filters = new Filters({ load: fail, save: fail }, 1);
    await wait(1);
    expect(filters.value).toEqual(DEFAULT_FILTERS);
    filters.set({ text: 'x' });
    await wait(20);
    expect(warn).toHaveBeenCalledTimes(1);
    filters.dispose();
    warn.mockRestore();
  });
});
