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
const another: ICompute = { ...cpu, id: 'azure:o', name: 'other', subscription: '22' };

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
    const all = [cpu, another, host];
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

/** Settings as JupyterLab has them: loaded some time after the page, and shared by its tabs. */
class Kept implements IKeptFilters {
  filters: unknown = {};
  readonly saved: unknown[] = [];
  readonly changed = new Signal<this, void>(this);

  async keepFilters(filters: ReadonlyPartialJSONObject): Promise<void> {
    this.saved.push(filters);
    this.filters = filters;
    this.changed.emit();
  }

  load(filters: unknown): void {
    this.filters = filters;
    this.changed.emit();
  }
}

describe('keeping the filters', () => {
  const wait = (ms: number) => new Promise(resolve => setTimeout(resolve, ms));

  it('outlives the page', async () => {
    const kept = new Kept();
    const filters = new Filters(kept, 1);
    filters.set({ text: 'gpu' });
    filters.set({ memory: 16 });
    await wait(20);
    expect(kept.saved).toEqual([{ ...DEFAULT_FILTERS, text: 'gpu', memory: 16 }]);
    const later = new Filters(new Kept(), 1);
    const changed = jest.fn();
    later.changed.connect(changed);
    (later['_kept'] as Kept).load(kept.filters);
    expect(later.value).toEqual({ ...DEFAULT_FILTERS, text: 'gpu', memory: 16 });
    expect(changed).toHaveBeenCalledTimes(1);
    later.clear();
    expect(later.value).toEqual(DEFAULT_FILTERS);
    filters.dispose();
    later.dispose();
  });

  it('goes on where nothing can be kept', async () => {
    const kept = new Kept();
    kept.keepFilters = () => Promise.reject(new Error('read only'));
    const warned = jest.spyOn(console, 'warn').mockImplementation(() => undefined);
    const filters = new Filters(kept, 1);
    filters.set({ withGpu: true });
    await wait(10);
    expect(filters.value.withGpu).toBe(true);
    expect(warned).toHaveBeenCalledTimes(1);
    warned.mockRestore();
    filters.dispose();
  });

  it('writes once for many keys, and does not undo what was typed meanwhile', async () => {
    const kept = new Kept();
    const filters = new Filters(kept, 5);
    for (const text of ['g', 'gp', 'gpu']) {
      filters.set({ text });
    }
    kept.load({ text: 'old' });
    expect(filters.value.text).toBe('gpu');
    await wait(30);
    expect(kept.saved).toEqual([{ ...DEFAULT_FILTERS, text: 'gpu' }]);
    filters.dispose();
  });

  it('takes nonsense for no filter', () => {
    const kept = new Kept();
    const filters = new Filters(kept, 1);
    kept.load({ text: 5, memory: 'much', state: 'odd', other: 1 });
    expect(filters.value).toEqual(DEFAULT_FILTERS);
    filters.dispose();
  });
});
