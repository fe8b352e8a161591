import { nullTranslator } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { configure, waitFor } from '@testing-library/dom';

import { IWorkspaceActions } from '../components/Workspace';
import { fileActions, OPEN_FILE } from '../files';
import { FakeModel } from './fakeModel';
import { settle } from './fakeServer';
import { closeDialogs } from './closeDialogs';
import * as fixtures from './fixtures';

const [workspace] = fixtures.workspaceList.workspaces;
const [conflict] = workspace.conflicts;

// Rendered when React finds the time.
configure({ asyncUtilTimeout: 10_000 });

describe('the buttons for files', () => {
  let commands: CommandRegistry;
  let model: FakeModel;
  let shown: unknown[];

  beforeEach(() => {
    commands = new CommandRegistry();
    model = new FakeModel();
    shown = [];
  });

  afterEach(() => {
    closeDialogs();
    document.body.textContent = '';
  });

  const actions = (): IWorkspaceActions =>
    fileActions({ model, commands, trans: nullTranslator.load('jupyter_dsvm') });
  const withFiles = (): void => {
    commands.addCommand(OPEN_FILE, {
      execute: args => {
        shown.push(args);
        return { id: 'widget-1' };
      }
    });
  };
  const dialog = () => document.querySelector('.jp-Dialog');
  const press = async (label: string): Promise<void> => {
    const button = () =>
      [...document.querySelectorAll<HTMLElement>('.jp-Dialog-button')].find(
        ({ textContent }) => textContent === label
      );
    await waitFor(() => expect(button()).toBeDefined());
    button()!.click();
    await settle(50);
  };

  it('ask the server for what they say', async () => {
    const { sync, keep, fetch, cancel } = actions();
    sync(workspace);
    keep(workspace, conflict, 'theirs');
    fetch(workspace, ['model.bin']);
    cancel(fixtures.sync);
    await settle();
    expect(model.done).toEqual([
      ['sync', 'w-1', {}],
      ['resolve', 'w-1', 'data (gpu-vm 2026-11-21 10.00).csv', 'theirs'],
      ['fetch', 'w-1', ['model.bin']],
      ['cancel', 'op-sync', false]
    ]);
  });

  it('do what looked wrong after a yes that says what it is', async () => {
    const problem = { ...fixtures.problem, message: '7 of 9 files would be deleted on gpu-vm' };
    actions().force({ ...workspace, state: 'halted', problem });
    await waitFor(() => expect(dialog()?.textContent).toContain('7 of 9 files would be deleted'));
    expect(dialog()?.textContent).toContain('here or on gpu-vm');
    await waitFor(() => expect(document.activeElement?.textContent).toBe('Cancel'));
    await press('Cancel');
    expect(model.done).toEqual([]);
    actions().force(workspace);
    await press('Sync anyway');
    expect(model.done).toEqual([['sync', 'w-1', { force: true }]]);
  });

  it('copy what is much without asking again: the button says it', async () => {
    const problem = { ...fixtures.problem, code: 'NeedsYes' };
    actions().force({ ...workspace, state: 'halted', problem });
    await settle();
    expect(model.done).toEqual([['sync', 'w-1', { yes: true }]]);
  });

  it('open both versions side by side, where files can be opened', async () => {
    expect(actions().show).toBeUndefined();
    withFiles();
    actions().show!(workspace, conflict);
    await settle();
    expect(shown).toEqual([
      { path: 'work/data.csv' },
      {
        path: 'work/data (gpu-vm 2026-11-21 10.00).csv',
        options: { mode: 'split-right', ref: 'widget-1' }
      }
    ]);
    actions().show!({ ...workspace, folder: '' }, conflict);
    await settle();
    expect(shown[2]).toEqual({ path: 'data.csv' });
  });

  it('show why the server refuses', async () => {
    model.refusal = new Error('It is gone');
    actions().keep(workspace, conflict, 'mine');
    await waitFor(() => expect(dialog()?.textContent).toContain('It is gone'));
    expect(document.querySelector('.jp-Dialog-header')?.textContent).toBe(
      'data.csv stays as it is'
    );
  });
});
