import { Clipboard, Notification } from '@jupyterlab/apputils';
import { nullTranslator } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { waitFor } from '@testing-library/dom';

import { addCommands, CommandIDs } from '../commands';
import { OPEN_TERMINAL } from '../machinecommands';
import { FolderChoices } from '../folderchoices';
import { KnownComputes } from '../knowncomputes';
import { RequestError } from '../request';
import { SETTING_EDITOR } from '../waitingcommands';
import { FakeCurrent, FakeModel } from './fakeModel';
import { FakeSettings } from './fakeSettings';
import { closeDialogs } from './closeDialogs';
import * as fixtures from './fixtures';

describe('the commands for a machine', () => {
  let commands: CommandRegistry;
  let model: FakeModel;
  let done: unknown[][];

  beforeEach(() => {
    commands = new CommandRegistry();
    model = new FakeModel();
    done = [];
    addCommands(commands, {
      model,
      current: new FakeCurrent(),
      known: new KnownComputes(null),
      folders: new FolderChoices(null),
      settings: new FakeSettings(),
      trans: nullTranslator.load('jupyter_dsvm'),
      openPanel: () => undefined
    });
    for (const id of [OPEN_TERMINAL, SETTING_EDITOR]) {
      commands.addCommand(id, { execute: args => void done.push([id, args]) });
    }
  });

  afterEach(() => {
    closeDialogs();
    Notification.dismiss();
    document.body.textContent = '';
    jest.restoreAllMocks();
  });

  const press = async (label: string): Promise<void> => {
    const button = await waitFor(() => {
      const buttons = [...document.querySelectorAll<HTMLElement>('.jp-Dialog-button')];
      const found = buttons.find(({ textContent }) => textContent === label);
      expect(found).toBeDefined();
      return found!;
    });
    button.click();
  };

  it.each<[string, string, boolean]>([
    [CommandIDs.openTerminal, 'cpu-vm', true],
    [CommandIDs.openTerminal, 'lab', true],
    [CommandIDs.openTerminal, 'gpu-vm', false],
    [CommandIDs.openTerminal, 'win-vm', false],
    [CommandIDs.openTerminal, 'Free tier', false],
    [CommandIDs.copySSH, 'cpu-vm', true],
    [CommandIDs.copySSH, 'old-vm', false]
  ])('%s on %s is possible: %s', (id, compute, possible) => {
    expect(commands.isEnabled(id, { compute })).toBe(possible);
  });

  it('open a terminal there in the page', async () => {
    await commands.execute(CommandIDs.openTerminal, { compute: 'cpu-vm' });
    expect(model.done).toEqual([['terminal', fixtures.cpu.id]]);
    expect(done).toEqual([[OPEN_TERMINAL, { name: '1' }]]);
    expect(commands.label(CommandIDs.openTerminal, { compute: 'cpu-vm' })).toBe(
      'Open Terminal on cpu-vm'
    );
  });

  it('say why there is no terminal', async () => {
    model.refusal = new RequestError(fixtures.problem, 409);
    const opening = commands.execute(CommandIDs.openTerminal, { compute: 'cpu-vm' });
    const shown = () => document.querySelector('.jp-Dialog-content')?.textContent;
    await waitFor(() => expect(shown()).toContain(fixtures.problem.message));
    expect(shown()).toContain('No terminal was opened on cpu-vm');
    document.querySelector<HTMLElement>('.jp-Dialog-button')!.click();
    await opening;
    expect(done).toEqual([]);
  });

  it('offer no terminal in a page without them', () => {
    const bare = new CommandRegistry();
    addCommands(bare, {
      model,
      current: new FakeCurrent(),
      known: new KnownComputes(null),
      folders: new FolderChoices(null),
      settings: new FakeSettings(),
      trans: nullTranslator.load('jupyter_dsvm'),
      openPanel: () => undefined
    });
    expect(bare.isEnabled(CommandIDs.openTerminal, { compute: 'cpu-vm' })).toBe(false);
    expect(bare.isEnabled(CommandIDs.openSettings)).toBe(false);
  });

  it('copy the SSH command and say so', async () => {
    const copied = jest.spyOn(Clipboard, 'copyToSystem').mockImplementation(() => undefined);
    await commands.execute(CommandIDs.copySSH, { compute: 'cpu-vm' });
    expect(copied).toHaveBeenCalledWith(fixtures.sshCommand.command);
    expect(Notification.manager.notifications.map(({ message }) => message)).toEqual([
      'Copied. Paste it into a terminal of this Jupyter server to be on cpu-vm.'
    ]);
  });

  it('open the settings', async () => {
    await commands.execute(CommandIDs.openSettings);
    expect(done).toEqual([[SETTING_EDITOR, { query: 'Compute' }]]);
  });

  it('cancel the move of the current notebook, if it moves', async () => {
    expect(commands.isEnabled(CommandIDs.cancelMove)).toBe(false);
    model.operations = [fixtures.attach];
    expect(commands.isEnabled(CommandIDs.cancelMove)).toBe(true);
    await commands.execute(CommandIDs.cancelMove);
    expect(model.done).toEqual([['cancel', fixtures.attach.id, false]]);
  });

  const starting = { ...fixtures.attach, kind: 'start' as const, kernel: null };

  it.each([
    ['Stop Waiting', [['cancel', starting.id, false]]],
    ['Stop Waiting and Release', [['cancel', starting.id, true]]],
    ['Cancel', []]
  ])('stop waiting for a machine that starts: %s', async (label, expected) => {
    expect(commands.isEnabled(CommandIDs.stopWaiting)).toBe(false);
    model.operations = [starting];
    expect(commands.isEnabled(CommandIDs.stopWaiting, { compute: 'gpu-vm' })).toBe(true);
    const stopping = commands.execute(CommandIDs.stopWaiting, { compute: 'gpu-vm' });
    await press(label);
    await stopping;
    expect(model.done).toEqual(expected);
  });

  it('stop waiting at once for a machine that stops, and never for what others began', async () => {
    model.operations = [{ ...starting, kind: 'stop' }];
    await commands.execute(CommandIDs.stopWaiting, { compute: 'gpu-vm' });
    expect(model.done).toEqual([['cancel', starting.id, false]]);
    model.operations = [{ ...starting, elsewhere: true }];
    expect(commands.isEnabled(CommandIDs.stopWaiting)).toBe(false);
  });

  it('reconnect a kernel whose machine is out of reach', async () => {
    const link = { ...fixtures.local, state: 'reconnecting' as const };
    model.kernels = [{ ...fixtures.kernel, compute: fixtures.gpu.id, link }];
    const asked: string[] = [];
    Object.assign(model, { reconnect: async (kernel: string) => asked.push(kernel) });
    expect(commands.isEnabled(CommandIDs.reconnect)).toBe(true);
    await commands.execute(CommandIDs.reconnect);
    expect(asked).toEqual([fixtures.kernel.id]);
    model.kernels = [fixtures.kernel];
    expect(commands.isEnabled(CommandIDs.reconnect)).toBe(false);
  });
});
