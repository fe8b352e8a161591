import { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import { Signal } from '@lumino/signaling';

import { ICompute } from '../api';
import {
  cleaned,
  DEFAULT_FILTERS,
  Filters,
  IFilters,
  IKeptFilters,
  isFiltering,
  matching,
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

/** Settings in memory, as the page's are. */
class Kept implements IKeptFilters {
  constructor(public filters: ReadonlyPartialJSONObject = {}) {}

  readonly changed = new Signal<this, void>(this);
  readonly saved: ReadonlyPartialJSONObject[] = [];
  error: Error | null = null;

  async keepFilters(filters: ReadonlyPartialJSONObject): Promise<void> {
    if (this.error) {
      throw this.error;
    }
    this.saved.push(filters);
    this.filters = filters;
    this.changed.emit();
  }
}

describe('keeping the filters', () => {
  const wait = (ms: number) => new Promise(resolve => setTimeout(resolve, ms));
  let kept: Kept;
  let filters: Filters;

  beforeEach(() => {
    kept = new Kept();
    filters = new Filters(kept, 5);
  });

  afterEach(() => filters.dispose());

  it('outlives the page', async () => {
    filters.set({ text: 'gpu' });
    filters.set({ memory: 16 });
    await wait(30);
    const later = new Filters(kept, 5);
    expect(later.value).toEqual({ ...DEFAULT_FILTERS, text: 'gpu', memory: 16 });
    later.dispose();
  });

  it('writes once for many keys', async () => {
    for (const text of ['g', 'gp', 'gpu']) {
      filters.set({ text });
    }
    await wait(30);
    expect(kept.saved.map(({ text }) => text)).toEqual(['gpu']);
  });

  it('takes over what is changed elsewhere, but not what is older than a key just pressed', async () => {
    const changed = jest.fn();
    filters.changed.connect(changed);
    kept.filters = { text: 'other tab' };
    kept.changed.emit();
    expect(filters.value.text).toBe('other tab');
    kept.changed.emit();
    expect(changed).toHaveBeenCalledTimes(1);
    filters.set({ text: 'typed' });
    kept.filters = { text: 'older' };
    kept.changed.emit();
    expect(filters.value.text).toBe('typed');
    await wait(30);
    expect(kept.filters.text).toBe('typed');
    kept.filters = {};
    kept.changed.emit();
    expect(filters.value).toEqual(DEFAULT_FILTERS);
  });

  it('is no more than a warning where it fails', async () => {
    const warn = jest.spyOn(console, 'warn').mockImplementation(() => undefined);
    kept.error = new Error('full');
    filters.set({ text: 'x' });
    await wait(30);
    expect(warn).toHaveBeenCalledTimes(1);
    expect(filters.value.text).toBe('x');
    warn.mockRestore();
  });

  it('says nothing once it is disposed of', async () => {
    filters.set({ text: 'x' });
    filters.dispose();
    await wait(30);
    expect(kept.saved).toEqual([]);
  });
});
