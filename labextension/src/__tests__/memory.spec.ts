import { Notification } from '@jupyterlab/apputils';
import { nullTranslator } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { Signal } from '@lumino/signaling';

import { ICompute, IKernel, IProblem } from '../api';
import { CommandIDs } from '../commands';
import {
  decide,
  ILook,
  IOfferState,
  largerMachine,
  MemoryOffers,
  newDeaths,
  NO_OFFER,
  SILENCE,
  silenced
} from '../memory';
import { ISettings } from '../settings';
import { FakeMetrics } from './fakeMetrics';
import { FakeCurrent, FakeModel } from './fakeModel';
import * as fixtures from './fixtures';

const usage = (share: number) => ({ used_gib: 4 * share, total_gib: 4 });
const look = (share: number | null, change: Partial<ILook> = {}): ILook => ({
  memory: share === null ? null : usage(share),
  isUsed: true,
  isWanted: true,
  now: 1000,
  ...change
});
const offered: IOfferState = { armed: false, quietUntil: 0, shown: true };
const outOfMemory: IProblem = {
  code: 'OutOfMemory',
  message: 'Out of memory at 4 GB: the kernel was ended, and its variables are lost.',
  advice: 'Move the notebook to a bigger machine.',
  retry_after: null
};

describe('when to offer a larger machine', () => {
  it.each<[string, IOfferState, ILook, 'offer' | 'withdraw' | null, Partial<IOfferState>]>([
    ['there is room', NO_OFFER, look(0.5), null, NO_OFFER],
    ['it gets full', NO_OFFER, look(0.85), null, NO_OFFER],
    ['it is nearly full', NO_OFFER, look(0.9), 'offer', offered],
    ['the offer is there already', offered, look(0.95), null, offered],
    ['it is a little better', offered, look(0.85), null, offered],
    ['there is room again', offered, look(0.7), 'withdraw', NO_OFFER],
    ['nothing is known', offered, look(null), null, offered],
    ['no notebook runs there', NO_OFFER, look(0.95, { isUsed: false }), null, NO_OFFER],
    ['the notebook has moved', offered, look(0.95, { isUsed: false }), 'withdraw', NO_OFFER],
    ['nobody wants offers', NO_OFFER, look(0.95, { isWanted: false }), null, NO_OFFER],
    ['a person wants to be left alone', silenced(offered, 0), look(0.95), null, { shown: false }]
  ])('%s', (_, before, seen, action, after) => {
    const decided = decide(before, seen);
    expect(decided.action).toBe(action);
    expect(decided.state).toMatchObject(after);
  });

  it('“Not now” counts until there was room, and for half an hour at least', () => {
    const quiet = silenced(offered, 0);
    expect(decide(quiet, look(0.95, { now: 10 * SILENCE })).action).toBeNull(); // there was no room in between
    const room = decide(quiet, look(0.5, { now: 1000 })).state;
    expect(decide(room, look(0.95, { now: SILENCE - 1 })).action).toBeNull();
    expect(decide(room, look(0.95, { now: SILENCE })).action).toBe('offer');
  });
});

describe('the machine that is named', () => {
  const machine = (name: string, change: Partial<ICompute>): ICompute => ({
    ...fixtures.gpu,
    id: `azure:${name}`,
    name,
    ...change
  });
  const price = (amount: number) => ({ amount, currency: 'USD', as_of: '2026-11-01' });
  const size = (memory_gib: number | null) => ({ ...fixtures.gpu.size!, memory_gib });
  const named = (...computes: ICompute[]) => largerMachine(computes, 4, () => true)?.name;

  it('has more memory, and is the cheapest, then the smallest', () => {
    const dear = machine('dear', { price: price(2), size: size(8) });
    const cheap = machine('cheap', { price: price(0.5), size: size(64) });
    const same = machine('same', { price: price(0.5), size: size(32) });
    const unknown = machine('unknown', { price: null, size: size(8) });
    expect(named(dear, cheap, unknown, same)).toBe('same');
    expect(named(unknown, dear)).toBe('dear');
    expect(named(machine('small', { size: size(4) }), machine('odd', { size: null }))).toBe(
      undefined
    );
  });

  it('is one that runs, where there is one', () => {
    const off = machine('off', { price: price(0.1) });
    const on = machine('on', { price: price(3), power_state: 'running' });
    expect(named(off, on)).toBe('on');
  });

  it('is none that this account may not start, or where the notebook cannot go', () => {
    const forbidden = machine('forbidden', { not_allowed: ['start'] });
    expect(named(forbidden)).toBeUndefined();
    expect(named({ ...forbidden, power_state: 'running' })).toBe('forbidden');
    expect(largerMachine([machine('any', {})], 4, () => false)).toBeUndefined();
  });
});

describe('kernels that died of memory', () => {
  it('are told of once, and not where that was before the page', () => {
    const dead: IKernel = { ...fixtures.kernel, problem: outOfMemory };
    const other: IKernel = { ...fixtures.kernel, problem: { ...outOfMemory, code: 'KernelDied' } };
    const known = new Map([['k-1', outOfMemory.message]]);
    expect(newDeaths([dead], null)).toEqual({ died: [], known });
    expect(newDeaths([dead], new Map())).toEqual({ died: [dead], known });
    expect(newDeaths([dead], known).died).toEqual([]);
    expect(newDeaths([other], known)).toEqual({ died: [], known: new Map() });
    expect(newDeaths([dead], new Map([['k-1', 'Out of memory once.']])).died).toEqual([dead]);
  });
});

describe('MemoryOffers', () => {
  let model: FakeModel;
  let metrics: FakeMetrics;
  let commands: CommandRegistry;
  let done: unknown[][];
  let settings: { memoryOffers: boolean; changed: Signal<ISettings, void> };
  let offers: MemoryOffers;
  let now: number;

  const shown = () => Notification.manager.notifications;
  const press = (label: string) => {
    const action = shown()[0].options.actions?.find(each => each.label === label);
    action!.callback(new MouseEvent('click'));
  };
  const use = (share: number) => metrics.set({ ...fixtures.freeMetrics, memory: usage(share) });

  beforeEach(() => {
    model = new FakeModel();
    metrics = new FakeMetrics();
    commands = new CommandRegistry();
    done = [];
    now = 1_000_000;
    for (const id of [CommandIDs.attach, CommandIDs.resize, CommandIDs.open]) {
      commands.addCommand(id, { execute: args => void done.push([id, args]) });
    }
    settings = { memoryOffers: true, changed: new Signal({} as ISettings) };
    offers = new MemoryOffers({
      model,
      metrics,
      current: new FakeCurrent(),
      commands,
      settings,
      trans: nullTranslator.load('jupyter_dsvm'),
      now: () => now
    });
  });

  afterEach(() => {
    offers.dispose();
    Notification.manager.dismiss();
  });

  it('look at the free tier while a notebook runs there', () => {
    expect(metrics.watched).toEqual(['free']);
    model.set({ kernels: [{ ...fixtures.kernel, compute: fixtures.gpu.id }] });
    expect(metrics.watched).toEqual([]);
    model.set({ kernels: [fixtures.kernel] });
    expect(metrics.watched).toEqual(['free']);
    offers.dispose();
    expect(metrics.watched).toEqual([]);
  });

  it('name a machine, and move there in the ordinary way', () => {
    use(0.5);
    expect(shown()).toEqual([]);
    use(0.9);
    expect(shown()).toHaveLength(1);
    expect(shown()[0].message).toBe(
      'Memory is nearly full (3.6 of 4 GB). Move to 16 GB on cpu-vm?'
    );
    expect(shown()[0].options.autoClose).toBe(false);
    use(0.95);
    expect(shown()).toHaveLength(1);
    press('Move…');
    expect(done).toEqual([
      [CommandIDs.attach, { kernel: fixtures.kernel.id, compute: fixtures.cpu.id }]
    ]);
  });

  it('go away when there is room again', () => {
    use(0.9);
    use(0.85);
    expect(shown()).toHaveLength(1);
    use(0.7);
    expect(shown()).toEqual([]);
    use(0.9);
    expect(shown()).toHaveLength(1);
  });

  it('leave a person alone who has said so', () => {
    use(0.9);
    press('Not now');
    Notification.manager.dismiss();
    use(0.7);
    use(0.95);
    expect(shown()).toEqual([]);
    now += SILENCE;
    use(0.96);
    expect(shown()).toHaveLength(1);
  });

  it('are general where there is no machine, and show the panel', () => {
    model.set({ computes: [fixtures.free] });
    use(0.9);
    expect(shown()[0].message).toBe(
      'Memory is nearly full (3.6 of 4 GB). A bigger machine would have more.'
    );
  });

  it('are not made where nobody wants them', () => {
    settings.memoryOffers = false;
    settings.changed.emit();
    expect(metrics.watched).toEqual([]);
    use(0.99);
    model.set({ kernels: [{ ...fixtures.kernel, problem: outOfMemory }] });
    expect(shown()).toEqual([]);
  });

  it('come after a death of memory, once, until it is no longer so', () => {
    model.set({ kernels: [{ ...fixtures.kernel, problem: outOfMemory }] });
    expect(shown()[0]).toMatchObject({ type: 'error', message: outOfMemory.message });
    expect(shown()[0].options.actions?.map(action => action.label)).toEqual(['Move…']);
    model.stateChanged.emit();
    expect(shown()).toHaveLength(1);
    press('Move…');
    expect(done[0]).toEqual([
      CommandIDs.attach,
      { kernel: fixtures.kernel.id, compute: fixtures.cpu.id }
    ]);
    model.set({ kernels: [fixtures.kernel] });
    expect(shown()).toEqual([]);
  });

  it('come again after a second death, in place of the first', () => {
    model.set({ kernels: [{ ...fixtures.kernel, problem: outOfMemory }] });
    const message = 'Out of memory at 4 GB again (2 times).';
    model.set({ kernels: [{ ...fixtures.kernel, problem: { ...outOfMemory, message } }] });
    expect(shown().map(each => each.message)).toEqual([message]);
  });

  it('offer a resize too after a death on a machine', () => {
    const there = { ...fixtures.kernel, compute: fixtures.cpu.id, problem: outOfMemory };
    model.set({ kernels: [there] });
    expect(shown()[0].options.actions?.map(action => action.label)).toEqual(['Move…', 'Resize…']);
    press('Resize…');
    press('Move…');
    expect(done).toEqual([
      [CommandIDs.resize, { compute: fixtures.cpu.id }],
      [CommandIDs.attach, { kernel: fixtures.kernel.id, compute: fixtures.gpu.id }]
    ]);
  });
});
