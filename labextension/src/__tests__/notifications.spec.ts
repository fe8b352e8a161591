import { Notification } from '@jupyterlab/apputils';
import { nullTranslator } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';

import { IOperation, OperationKind } from '../api';
import { CommandIDs } from '../commands';
import { describeOperation, OperationNotifications } from '../notifications';
import { FakeModel } from './fakeModel';
import * as fixtures from './fixtures';

const ended = { ended: '2026-11-21T10:01:52.000Z' };
const done: IOperation = {
  ...fixtures.attach,
  ...ended,
  state: 'done',
  notice: 'Variables stayed behind'
};
const failed: IOperation = {
  ...fixtures.attach,
  ...ended,
  state: 'failed',
  error: fixtures.problem
};

describe('notifications of operations', () => {
  let model: FakeModel;
  let notifications: OperationNotifications;

  const start = (operations: IOperation[] = []) => {
    model = new FakeModel();
    model.operations = operations;
    notifications = new OperationNotifications(model, nullTranslator.load('jupyter_dsvm'));
  };
  const shown = () => Notification.manager.notifications;

  afterEach(() => {
    notifications.dispose();
    Notification.manager.dismiss();
  });

  it('show one that is updated in place, from the first step to the end', () => {
    start();
    model.set({ operations: [fixtures.attach] });
    expect(shown()).toHaveLength(1);
    const { id } = shown()[0];
    expect(shown()[0]).toMatchObject({
      type: 'in-progress',
      message: 'Moving analysis.ipynb to gpu-vm. Step 2 of 4: Connecting to gpu-vm.'
    });
    model.set({ operations: [done] });
    expect(shown()).toHaveLength(1);
    expect(shown()[0]).toMatchObject({
      id,
      type: 'success',
      message: 'Moved to gpu-vm in 1 min 52 s. Variables stayed behind.'
    });
  });

  it('say the end once more where the server finds out something after it', () => {
    start();
    model.set({ operations: [done] });
    const { id } = shown()[0];
    model.set({ operations: [{ ...done, notice: 'Missing there: pandas.' }] });
    expect(shown()).toHaveLength(1);
    expect(shown()[0]).toMatchObject({
      id,
      message: 'Moved to gpu-vm in 1 min 52 s. Missing there: pandas.'
    });
  });

  it('say that nothing was lost when a move fails, with the reason behind “Details”', () => {
    start();
    model.set({ operations: [failed] });
    expect(shown()[0]).toMatchObject({
      type: 'error',
      message: 'Could not move to gpu-vm. Still on Free tier. Nothing was lost.'
    });
    expect(shown()[0].options.actions?.map(action => action.label)).toEqual(['Details']);
    expect(shown()[0].options.autoClose).toBe(false);
  });

  it('say the reason at once where it fits', () => {
    start();
    model.set({
      operations: [
        { ...failed, error: { code: 'x', message: 'No route to host', advice: 'Check it.' } }
      ]
    });
    expect(shown()[0].message).toBe(
      'Could not move to gpu-vm. Still on Free tier. Nothing was lost. No route to host. Check it.'
    );
  });

  it('say of files what was asked for here, and what failed', () => {
    start();
    model.set({ operations: [fixtures.sync] });
    model.set({ operations: [{ ...fixtures.sync, ...ended, state: 'done' }] });
    expect(shown()).toEqual([]);
    const failure = { ...fixtures.sync, ...ended, state: 'failed', error: fixtures.problem };
    model.set({ operations: [failure as IOperation] });
    expect(shown()).toMatchObject([
      { type: 'error', message: 'Could not copy the files of analysis.ipynb.' }
    ]);
    Notification.manager.dismiss();
    const own: IOperation = { ...fixtures.sync, id: 'op-own' };
    model.askedHere = [own.id];
    model.set({ operations: [own] });
    expect(shown()[0]).toMatchObject({
      type: 'in-progress',
      message: 'Copying files of analysis.ipynb. Copying 12 of 340 files.'
    });
    shown()[0].options.actions![0].callback(new MouseEvent('click'));
    expect(model.done).toEqual([['cancel', 'op-own', false]]);
    const notice = 'In step: 3 files came here.';
    model.set({ operations: [{ ...own, ...ended, state: 'done', notice }] });
    expect(shown()).toMatchObject([{ type: 'success', message: notice }]);
  });

  it('follow pip, let it be cancelled, and say what was installed', () => {
    start();
    model.set({ operations: [fixtures.install] });
    expect(shown()[0].message).toBe('Installing on cpu-vm. Collecting plotly.');
    const [cancel] = shown()[0].options.actions!;
    expect(cancel.label).toBe('Cancel');
    cancel.callback(new MouseEvent('click'));
    expect(model.done).toEqual([['cancel', 'op-install', false]]);
    const notice = 'plotly is installed for Python 3 on cpu-vm.';
    model.set({ operations: [{ ...fixtures.install, ...ended, state: 'done', notice }] });
    expect(shown()).toHaveLength(1);
    expect(shown()[0]).toMatchObject({ type: 'success', message: notice });
    expect(shown()[0].options.actions).toEqual([]);
  });

  it('say where the notebook is after a cancelled move', () => {
    start();
    model.set({ operations: [{ ...fixtures.attach, ...ended, state: 'cancelled' }] });
    expect(shown()[0].message).toBe(
      'The move to gpu-vm was cancelled. Still on Free tier. Nothing was lost.'
    );
  });

  describe('of a move that carried variables', () => {
    const steps = [{ name: 'variables', text: 'Carrying variables', state: 'done' as const }];
    const carried: IOperation = {
      ...done,
      steps,
      notice: 'The notebook runs on gpu-vm. 12 variables came along (1.2 GB).'
    };
    const there = { ...fixtures.kernel, compute: fixtures.gpu.id };
    const labels = () => shown()[0].options.actions?.map(({ label }) => label);
    let executed: unknown[];

    beforeEach(() => {
      executed = [];
      model = new FakeModel();
      const commands = new CommandRegistry();
      for (const id of [CommandIDs.attach, CommandIDs.detach]) {
        commands.addCommand(id, {
          isEnabled: () => !model.kernels[0].moving_to,
          execute: args => executed.push([id, args])
        });
      }
      const trans = nullTranslator.load('jupyter_dsvm');
      notifications = new OperationNotifications(model, trans, commands);
      model.set({ operations: [fixtures.attach] });
    });

    it('say so, and undo it with the variables as they are then', () => {
      // The list of kernels may be a moment later than that of operations.
      model.set({ operations: [carried] });
      expect(labels()).toEqual([]);
      model.set({ kernels: [there] });
      expect(shown()).toHaveLength(1);
      expect(shown()[0].message).toBe(
        'Moved to gpu-vm in 1 min 52 s. 12 variables came along (1.2 GB).'
      );
      const [undo] = shown()[0].options.actions!;
      expect([undo.label, undo.caption]).toEqual([
        'Undo',
        'Move back to Free tier, with the variables as they are then'
      ]);
      undo.callback(new MouseEvent('click'));
      expect(executed).toEqual([
        [CommandIDs.detach, { kernel: there.id, compute: 'free', carry: true }]
      ]);
    });

    it('offer no way back once the notebook is elsewhere, and do not come up again for that', () => {
      model.set({ operations: [carried], kernels: [there] });
      expect(labels()).toEqual(['Undo']);
      model.set({ kernels: [{ ...there, moving_to: 'free' }] });
      expect(labels()).toEqual([]);
      model.set({ kernels: [there] });
      expect(labels()).toEqual(['Undo']);
      Notification.manager.dismiss();
      model.set({ kernels: [fixtures.kernel] });
      expect(shown()).toEqual([]);
    });

    it('name what stayed behind, all of it in the details', () => {
      const notice = `12 variables came along (1.2 GB). 3 stayed behind: conn (an open connection cannot move), ${'x'.repeat(60)}.`;
      model.set({ operations: [{ ...carried, notice }], kernels: [there] });
      expect(shown()[0].message).toBe(
        'Moved to gpu-vm in 1 min 52 s. 12 variables came along (1.2 GB).'
      );
      expect(labels()).toEqual(['Undo', 'Details']);
    });

    it('offer nothing of the kind where nothing was carried', () => {
      model.set({ operations: [done], kernels: [there] });
      expect(labels()).toEqual([]);
      model.set({
        operations: [{ ...carried, steps: [{ ...steps[0], state: 'pending' }] }]
      });
      expect(labels()).toEqual([]);
    });
  });

  it('follow saved variables that are loaded', () => {
    start();
    model.set({ operations: [fixtures.load] });
    expect(shown()[0].message).toBe(
      'Loading the saved variables of analysis.ipynb. Loading variables (340 MB of 1.2 GB).'
    );
    expect(shown()[0].options.actions?.map(({ label }) => label)).toEqual(['Cancel']);
    const notice = '12 variables are back.';
    model.set({ operations: [{ ...fixtures.load, ...ended, state: 'done', notice }] });
    expect(shown()).toMatchObject([{ type: 'success', message: notice }]);
  });

  describe('of a stop that nobody asked for in this page', () => {
    const stop: IOperation = {
      ...done,
      kind: 'stop',
      kernel: null,
      notice:
        'gpu-vm was stopped after 30 idle minutes. analysis.ipynb is back on the free tier; its variables are lost.'
    };

    it('say why, and where the notebooks are, until it is read', () => {
      start();
      model.set({ operations: [stop] });
      expect(shown()[0]).toMatchObject({ type: 'warning', message: stop.notice });
      expect(shown()[0].options.autoClose).toBe(false);
    });

    it('say as many sentences as fit, and the rest as details', () => {
      start();
      const notice = `${stop.notice} ${'Its files are back. '.repeat(6).trim()}`;
      model.set({ operations: [{ ...stop, notice }] });
      const [{ message, options }] = shown();
      expect(message).toBe(`${stop.notice} Its files are back.`);
      expect(options.actions?.map(({ label }) => label)).toEqual(['Details']);
    });

    it('say how long it took where somebody asked', () => {
      start();
      model.askedHere = [stop.id];
      model.set({ operations: [stop] });
      expect(shown()[0]).toMatchObject({
        type: 'success',
        message: 'gpu-vm is off and released after 1 min 52 s.'
      });
    });
  });

  it.each<[OperationKind, string, string, string, string]>([
    [
      'start',
      'Starting gpu-vm.',
      'gpu-vm is on after 1 min 52 s.',
      'Could not start gpu-vm.',
      'No longer waiting for gpu-vm to start.'
    ],
    [
      'resize',
      'Changing the size of gpu-vm.',
      'gpu-vm has its new size after 1 min 52 s.',
      'Could not change the size of gpu-vm.',
      'Changing the size of gpu-vm was cancelled.'
    ],
    [
      'create',
      'Creating gpu-vm.',
      'Created gpu-vm in 1 min 52 s.',
      'Could not create gpu-vm.',
      'Creating gpu-vm was cancelled.'
    ],
    [
      'access',
      'Setting up access to gpu-vm.',
      'Access to gpu-vm is set up.',
      'Could not set up access to gpu-vm.',
      'Setting up access to gpu-vm was cancelled.'
    ],
    [
      'forget',
      'Taking the access to gpu-vm away.',
      'The access to gpu-vm was taken away.',
      'Could not take the access to gpu-vm away.',
      'Taking the access to gpu-vm away was cancelled.'
    ]
  ])('say what goes on and how it ended: %s', (kind, running, done, failed, cancelled) => {
    const operation = { ...fixtures.attach, kind, kernel: null };
    const said = (change: Partial<IOperation>) =>
      describeOperation(
        { ...operation, ...change },
        new FakeModel(),
        nullTranslator.load('jupyter_dsvm')
      ).message;
    expect(said({})).toBe(`${running} Step 2 of 4: Connecting to gpu-vm.`);
    expect(said({ elsewhere: true })).toBe(
      `${running} Started elsewhere, for example in the Azure portal.`
    );
    expect(said({ ...ended, state: 'done' })).toBe(done);
    expect(said({ ...ended, state: 'failed' })).toBe(failed);
    expect(said({ ...ended, state: 'cancelled' })).toBe(cancelled);
  });

  it('call a machine new while it is in no list', () => {
    const operation = { ...fixtures.attach, kind: 'create' as const, compute: null, kernel: null };
    const trans = nullTranslator.load('jupyter_dsvm');
    expect(describeOperation(operation, new FakeModel(), trans).message).toMatch(
      /^Creating a new machine\. Step 2 of 4/
    );
    const { message } = describeOperation(
      { ...operation, ...ended, state: 'failed' },
      new FakeModel(),
      trans
    );
    expect(message).toBe('Could not create a new machine.');
  });

  it('say nothing of what had ended before the page was opened', () => {
    start([done, { ...failed, id: 'op-0' }]);
    expect(shown()).toEqual([]);
    model.stateChanged.emit();
    expect(shown()).toEqual([]);
  });

  it('do not come back while the operation runs, but say how it ended', () => {
    start();
    model.set({ operations: [fixtures.attach] });
    Notification.manager.dismiss();
    model.set({ operations: [{ ...fixtures.attach, progress: 0.5 }] });
    expect(shown()).toEqual([]);
    model.set({ operations: [done] });
    expect(shown()).toHaveLength(1);
  });

  it('go away with an operation that the server no longer knows', () => {
    start();
    model.set({ operations: [fixtures.attach] });
    model.set({ operations: [] });
    expect(shown()).toEqual([]);
  });
});
