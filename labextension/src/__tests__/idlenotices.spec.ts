import { Notification } from '@jupyterlab/apputils';
import { IStateDB } from '@jupyterlab/statedb';
import { nullTranslator } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';

import { IBudget, ICompute, IIdleStop, IOperation } from '../api';
import { CommandIDs } from '../commands';
import { BudgetNotices, IdleNotices } from '../idlenotices';
import { IOpenedNotebook } from '../opened';
import { clockText } from '../words';
import { FakeModel } from './fakeModel';
import { settle } from './fakeServer';
import { FakeSettings } from './fakeSettings';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');
const shown = () => Notification.manager.notifications;
const messages = (): string[] => shown().map(({ message }) => message);
const AT = clockText(fixtures.idleStop.stops_at!);

const soon = (idle: Partial<IIdleStop> = {}, attached = ['work/analysis.ipynb']): ICompute => ({
  ...fixtures.cpu,
  attached,
  idle: { ...fixtures.idleStop, state: 'stops_soon', lost: [], ...idle }
});
const there = { ...fixtures.kernel, compute: fixtures.cpu.id };

let commands: CommandRegistry;
let done: unknown[][];

beforeEach(() => {
  done = [];
  commands = new CommandRegistry();
  for (const id of [CommandIDs.keepOn, CommandIDs.autoStop, CommandIDs.open]) {
    commands.addCommand(id, { execute: args => void done.push([id, args.compute]) });
  }
});

afterEach(() => Notification.manager.dismiss());

describe('the notice that a machine is stopped soon', () => {
  let model: FakeModel;
  let settings: FakeSettings;
  let notices: IdleNotices;
  let open: string[];

  beforeEach(() => {
    model = new FakeModel();
    model.kernels = [there];
    settings = new FakeSettings();
    open = [there.id];
    notices = new IdleNotices({
      model,
      opened: kernel => (open.includes(kernel) ? ({} as IOpenedNotebook) : null),
      commands,
      settings,
      trans
    });
  });

  afterEach(() => notices.dispose());

  it('names the moment, keeps the machine on, and goes once it is', () => {
    model.set({ computes: [soon()] });
    expect(messages()).toEqual([
      `cpu-vm stops at ${AT}, because nothing runs there. Variables that cannot be saved are lost then.`
    ]);
    const [{ id, options, type }] = shown();
    expect([type, options.autoClose]).toEqual(['warning', false]);
    const [action] = options.actions ?? [];
    expect(action.label).toBe('Keep on 1 h');
    action.callback(new MouseEvent('click'));
    expect(done).toEqual([[CommandIDs.keepOn, fixtures.cpu.id]]);
    model.set({ computes: [soon({ stops_at: '2026-11-28T13:00:00.000Z' })] });
    expect(shown().map(notice => notice.id)).toEqual([id]); // in its place
    expect(messages()[0]).toContain(clockText('2026-11-28T13:00:00.000Z'));
    model.set({ computes: [soon({ state: 'kept', stops_at: null })] });
    expect(messages()).toEqual([]);
  });

  it('is not said again of the same stop where somebody has closed it', () => {
    model.set({ computes: [soon()] });
    Notification.dismiss(shown()[0].id);
    model.set({ computes: [soon({ stops_at: '2026-11-28T13:00:00.000Z' })] });
    expect(messages()).toEqual([]);
    model.set({ computes: [soon({ state: 'busy' })] });
    model.set({ computes: [soon()] });
    expect(messages()).toHaveLength(1);
  });

  it('is for pages with a notebook there, or that had it started', () => {
    open = [];
    model.set({ computes: [soon()] });
    expect(messages()).toEqual([]);
    const start: IOperation = {
      ...fixtures.attach,
      kind: 'start',
      state: 'done',
      compute: fixtures.cpu.id
    };
    model.set({ operations: [start] });
    expect(messages()).toEqual([]); // somebody else had
    model.askedHere = [start.id];
    model.set({ operations: [start] });
    expect(messages()).toHaveLength(1);
    model.set({ operations: [] }); // forgotten by the server
    expect(messages()).toHaveLength(1);
  });

  it('says what is lost, and what a time limit is', () => {
    model.set({ computes: [soon({ lost: ['/mnt/model.bin'] })] });
    expect(messages()[0]).toContain(
      'Variables that cannot be saved, and files on its temporary disk, are lost then.'
    );
    model.set({ computes: [soon({ lost: ['/mnt/model.bin'] }, [])] });
    expect(messages()[0]).toContain('there. Files on its temporary disk are lost then.');
    model.set({ computes: [soon({ hard: true }, [])] });
    expect(messages()).toEqual([
      `cpu-vm stops at ${AT}, since its time limit ends, whatever runs.`
    ]);
    const [action] = shown()[0].options.actions ?? [];
    expect(action.label).toBe('Auto-stop…');
    action.callback(new MouseEvent('click'));
    expect(done).toEqual([[CommandIDs.autoStop, fixtures.cpu.id]]);
  });

  it('goes while the machine is being stopped, and is not for who does not want it', () => {
    model.set({ computes: [soon()] });
    const stop: IOperation = { ...fixtures.attach, kind: 'stop', compute: fixtures.cpu.id };
    model.set({ operations: [stop] });
    expect(messages()).toEqual([]);
    model.set({ operations: [] });
    expect(messages()).toHaveLength(1);
    settings.set({ idleNotices: false });
    expect(messages()).toEqual([]);
    settings.set({ idleNotices: true });
    expect(messages()).toHaveLength(1);
    notices.dispose();
    model.set({ computes: [fixtures.cpu] });
    expect(messages()).toHaveLength(1);
  });
});

/** What is kept over a reload of the page. */
class FakeState {
  kept: unknown;

  fetch = async (): Promise<unknown> => this.kept;
  save = async (_: string, value: unknown): Promise<void> => {
    this.kept = value;
  };
}

describe('the notice of a budget', () => {
  const [budget] = fixtures.spend.budgets;
  let model: FakeModel;
  let state: FakeState;
  let notices: BudgetNotices;

  const start = (): void => {
    model = new FakeModel();
    notices = new BudgetNotices({
      model,
      state: state as unknown as IStateDB,
      commands,
      trans
    });
  };
  const spend = async (budgets: IBudget[], as_of = fixtures.spend.as_of): Promise<void> => {
    model.set({ spend: { ...fixtures.spend, budgets, as_of } });
    await settle();
  };

  beforeEach(() => {
    state = new FakeState();
    start();
  });

  afterEach(() => notices.dispose());

  it('is said once, also after a reload, and again when it is spent', async () => {
    await spend([{ ...budget, state: 'ok' }]);
    expect(messages()).toEqual([]);
    await spend([budget]);
    await spend([{ ...budget, spent: 18 }]);
    expect(messages()).toEqual(['Budget for this month: ~$17 of $20 is spent, 87\u00a0%.']);
    shown()[0].options.actions?.[0].callback(new MouseEvent('click'));
    expect(done).toEqual([[CommandIDs.open, undefined]]);
    notices.dispose();
    start();
    await spend([budget]);
    expect(messages()).toHaveLength(1);
    await spend([{ ...budget, state: 'exceeded', spent: 21 }]);
    expect(messages()).toHaveLength(2);
  });

  it('is said again in another month', async () => {
    await spend([budget]);
    await spend([budget], '2026-12-20T12:00:00.000Z');
    expect(messages()).toHaveLength(2);
  });

  it('of a day is said again on another day, and of a month is not', async () => {
    const day: IBudget = { ...budget, period: 'day' };
    await spend([budget, day]);
    expect(messages()).toHaveLength(2);
    await spend([budget, day], '2026-11-27T12:00:00.000Z');
    expect(messages()).toHaveLength(3);
  });
});
