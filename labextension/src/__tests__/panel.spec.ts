import { nullTranslator } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import { Widget } from '@lumino/widgets';
import { fireEvent, screen, waitFor, within } from '@testing-library/dom';

import { addCommands, CommandIDs } from '../commands';
import { Filters } from '../filters';
import { FolderChoices } from '../folderchoices';
import { KnownComputes } from '../knowncomputes';
import { ComputePanel } from '../panel';
import { Settings } from '../settings';
import { FakeCurrent, FakeModel } from './fakeModel';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');

describe('the sidebar', () => {
  let commands: CommandRegistry;
  let model: FakeModel;
  let panel: ComputePanel;
  let filters: Filters;
  let ran: [string, ReadonlyPartialJSONObject][];

  const show = async () => {
    Widget.attach(panel, document.body);
    await waitFor(() => expect(screen.getByRole('region', { name: 'This notebook' })).toBeTruthy());
  };
  const card = (name: string) => within(screen.getByRole('listitem', { name }));
  const press = (scope: ReturnType<typeof card>, name: string | RegExp) =>
    fireEvent.click(scope.getByRole('button', { name }));
  const items = () =>
    [...document.querySelectorAll('.lm-Menu-itemLabel')]
      .map(label => label.textContent)
      .filter(Boolean);
  const add = (id: string, label: string) =>
    commands.addCommand(id, { label, execute: () => undefined });

  beforeEach(() => {
    commands = new CommandRegistry();
    model = new FakeModel();
    const current = new FakeCurrent();
    const settings = new Settings();
    filters = new Filters(settings, 1);
    addCommands(commands, {
      model,
      current,
      known: new KnownComputes(null),
      folders: new FolderChoices(null),
      settings,
      trans,
      openPanel: () => undefined
    });
    ran = [];
    const execute = commands.execute.bind(commands);
    jest.spyOn(commands, 'execute').mockImplementation((id, args = {}) => {
      ran.push([id, args]);
      return id.startsWith('dsvm:') ? Promise.resolve() : execute(id, args);
    });
    panel = new ComputePanel({
      model,
      metrics: null,
      current,
      filters,
      settings,
      commands,
      trans
    });
  });

  afterEach(() => {
    panel.dispose();
    filters.dispose();
    document.body.textContent = '';
    jest.restoreAllMocks();
  });

  it('has behind a machine’s menu button what is possible there and not on its button', async () => {
    await show();
    press(card('gpu-vm'), 'More actions for gpu-vm');
    expect(items()).toEqual(['Start gpu-vm', 'Resize gpu-vm…']);
  });

  it('has a terminal and the SSH command there', async () => {
    add('terminal:open', 'Open');
    await show();
    press(card('cpu-vm'), 'More actions for cpu-vm');
    expect(items().slice(-2)).toEqual(['Open Terminal on cpu-vm', 'Copy SSH Command of cpu-vm']);
  });

  it('keeps the way back at hand where the machine is out of reach', async () => {
    const link = { ...fixtures.local, state: 'reconnecting' as const, attempt: 1 };
    model.kernels = [{ ...fixtures.kernel, compute: fixtures.cpu.id, link }];
    await show();
    press(card('cpu-vm'), 'Reconnect now');
    expect(ran).toEqual([[CommandIDs.reconnect, { compute: fixtures.cpu.id }]]);
    press(card('cpu-vm'), 'More actions for cpu-vm');
    expect(items()).toContain('Return Notebook to Free Tier…');
    expect(items()).not.toContain('Reconnect to the Notebook’s Machine');
  });

  it('leads a free account to sizes without GPU', async () => {
    const error = {
      code: 'SkuNotAvailable',
      message: 'No.',
      advice: 'This is a free trial, which gets no GPU sizes.'
    };
    model.operations = [{ ...fixtures.attach, state: 'failed', error }];
    await show();
    press(card('gpu-vm'), 'Show CPU sizes');
    expect(ran).toEqual([[CommandIDs.resize, { compute: fixtures.gpu.id, withoutGpu: true }]]);
  });

  it('moves the notebook from a menu of places', async () => {
    await show();
    fireEvent.click(screen.getByRole('button', { name: 'Move to…' }));
    expect(items()).toEqual([
      'Free tier · 2 CPU · 4 GB',
      'cpu-vm · on',
      'gpu-vm · off',
      'old-vm · off, still billed',
      'win-vm · Windows',
      'lab'
    ]);
  });

  it('lets one of very many machines be picked in a dialog', async () => {
    model.computes = [
      fixtures.free,
      ...Array.from({ length: 50 }, (_, n) => ({
        ...fixtures.gpu,
        id: `azure:${n}`,
        name: `vm-${n}`
      }))
    ];
    await show();
    fireEvent.click(screen.getByRole('button', { name: 'Move to…' }));
    expect(ran).toEqual([[CommandIDs.attach, {}]]);
    expect(items()).toEqual([]);
  });

  it('shows at once what the filters leave', async () => {
    await show();
    filters.set({ text: 'gpu' });
    await waitFor(() => expect(screen.getByText('Showing 1 of 5.')).toBeTruthy());
    expect(screen.queryByRole('listitem', { name: 'cpu-vm' })).toBeNull();
  });

  it('leads to the settings where the page has an editor for them', async () => {
    add('settingeditor:open', 'Settings');
    await show();
    fireEvent.click(screen.getByRole('button', { name: 'Settings' }));
    expect(ran).toEqual([[CommandIDs.openSettings, {}]]);
  });

  it('has no way there where the page has none', async () => {
    await show();
    expect(screen.queryByRole('button', { name: 'Settings' })).toBeNull();
  });
});
