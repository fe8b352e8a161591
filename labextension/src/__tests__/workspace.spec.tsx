import { nullTranslator } from '@jupyterlab/translation';
import { cleanup, fireEvent, render, screen, within } from '@testing-library/react';
import * as React from 'react';

import { IOperation, IWorkspace } from '../api';
import { Workspace } from '../components/Workspace';
import { h } from '../jsx';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');
const [full] = fixtures.workspaceList.workspaces;
const quiet: IWorkspace = { ...full, conflicts: [], left_there: [], skipped: [] };

function element(
  workspace: IWorkspace,
  done: unknown[],
  more: { operation?: IOperation; canShow?: boolean } = {}
): React.ReactElement {
  return (
    <Workspace
      workspace={workspace}
      name="gpu-vm"
      operation={more.operation}
      actions={{
        sync: ({ id }) => void done.push(['sync', id]),
        force: ({ id }) => void done.push(['force', id]),
        show:
          more.canShow === false
            ? undefined
            : (_, conflict) => void done.push(['show', conflict.kept_as]),
        keep: (_, { path }, keep) => void done.push(['keep', path, keep]),
        fetch: (_, paths) => void done.push(['fetch', paths]),
        cancel: ({ id }) => void done.push(['cancel', id])
      }}
      trans={trans}
    />
  );
}

function show(workspace: IWorkspace, more = {}): unknown[] {
  const done: unknown[] = [];
  render(element(workspace, done, more));
  return done;
}

const text = () => document.body.textContent ?? '';
const button = (name: string) => screen.queryByRole('button', { name });

afterEach(cleanup);

describe('a notebook’s files', () => {
  it('say that they are in step, and can be looked at now', () => {
    const done = show(quiet);
    expect(screen.getByRole('status').textContent).toBe('84 MB, in step.');
    expect(screen.getByRole('group', { name: 'Files of this notebook' })).toBeTruthy();
    expect(screen.queryByRole('progressbar')).toBeNull();
    fireEvent.click(button('Sync now')!);
    expect(done).toEqual([['sync', 'w-1']]);
  });

  it('show how many are copied, without reading each number out', () => {
    const copying: IWorkspace = {
      ...quiet,
      state: 'copying',
      text: 'copying 12 of 340 files',
      progress: 0.25
    };
    const done = show(copying, { operation: fixtures.sync });
    expect(text()).toContain('copying 12 of 340 files.');
    expect(screen.getByRole('status').textContent).toBe('Files are being copied.');
    expect((screen.getByRole('progressbar') as HTMLProgressElement).value).toBe(0.25);
    expect(button('Sync now')).toBeNull();
    fireEvent.click(button('Cancel')!);
    expect(done).toEqual([['cancel', 'op-sync']]);
    cleanup();
    // Copied by itself, after an execution: there is nothing to cancel.
    show(copying);
    expect(button('Cancel')).toBeNull();
  });

  it('name what both sides had changed, with both versions and what to do', () => {
    const done = show({ ...quiet, state: 'conflicts', conflicts: full.conflicts });
    expect(screen.getByRole('status').textContent).toBe('84 MB, in step but for 1 conflict.');
    const list = screen.getByRole('list', {
      name: 'This file was changed here and on gpu-vm. Both versions are there.'
    });
    expect(within(list).getByRole('listitem').textContent).toContain(
      'That of gpu-vm: data (gpu-vm 2026-11-21 10.00).csv'
    );
    for (const name of [
      'Show both versions of data.csv',
      'Keep mine of data.csv',
      'Keep theirs of data.csv'
    ]) {
      fireEvent.click(button(name)!);
    }
    expect(done).toEqual([
      ['show', 'data (gpu-vm 2026-11-21 10.00).csv'],
      ['keep', 'data.csv', 'mine'],
      ['keep', 'data.csv', 'theirs']
    ]);
    cleanup();
    show({ ...quiet, state: 'conflicts', conflicts: full.conflicts }, { canShow: false });
    expect(button('Show both versions of data.csv')).toBeNull();
  });

  it('say of many only how many more there are', () => {
    const conflicts = Array.from({ length: 60 }, (_, i) => ({
      path: `in/${i}.csv`,
      kept_as: `in/${i} (gpu-vm).csv`
    }));
    show({ ...quiet, state: 'conflicts', conflicts });
    expect(text()).toContain('60 conflicts');
    expect(screen.getAllByRole('listitem')).toHaveLength(50);
    expect(text()).toContain('And 10 more.');
    expect(text()).toContain('That of gpu-vm: 49 (gpu-vm).csv');
  });

  it('name what has no room here, and fetch it', () => {
    const left = { ...quiet, left_there: full.left_there };
    const done = show(left);
    expect(text()).toContain('1 file stays on gpu-vm: there is not enough room here.');
    expect(text()).toContain('model.bin · 2 GB');
    fireEvent.click(button('Fetch model.bin')!);
    expect(done).toEqual([['fetch', ['model.bin']]]);
    cleanup();
    show(left, { operation: fixtures.sync });
    expect((button('Fetch model.bin') as HTMLButtonElement).disabled).toBe(true);
  });

  it('say what does not travel and why, to whom that matters', () => {
    show({ ...quiet, skipped: full.skipped });
    const details = document.querySelector('details')!;
    expect(details.open).toBe(false);
    expect(details.querySelector('summary')?.textContent).toBe('1 file does not travel');
    expect(details.textContent).toContain('it is a link to a place outside.');
    expect(details.querySelector('ul')?.tabIndex).toBe(0);
  });

  it('say why nothing was done, and how to go on', () => {
    const problem = { ...fixtures.problem, message: '7 of 9 files would be deleted on gpu-vm.' };
    const done = show({ ...quiet, state: 'halted', text: '', problem });
    expect(screen.getByRole('alert').textContent).toContain('7 of 9 files would be deleted');
    expect(button('Sync now')).toBeNull();
    fireEvent.click(button('Sync anyway…')!);
    fireEvent.click(button('Look again')!);
    expect(screen.getByRole('status').textContent).toBe('Nothing was copied.');
    expect(done).toEqual([
      ['force', 'w-1'],
      ['sync', 'w-1']
    ]);
    cleanup();
    show({ ...quiet, state: 'halted', problem: { ...problem, code: 'NeedsYes' } });
    expect(button('Copy all of it')).not.toBeNull();
  });

  it('say what failed, and try again', () => {
    const done = show({ ...quiet, state: 'failed', text: '', problem: fixtures.problem });
    expect(screen.getByRole('status').textContent).toBe('The files could not be copied.');
    fireEvent.click(button('Try again')!);
    expect(done).toEqual([['sync', 'w-1']]);
  });

  it('are left alone where they do not travel', () => {
    show({ ...quiet, state: 'off', text: 'This folder is your home folder' });
    expect(text()).toContain('This folder is your home folder.');
    expect(screen.queryAllByRole('button')).toEqual([]);
  });

  it('keep the keyboard in place when a button goes', () => {
    const { rerender } = render(element(quiet, []));
    button('Sync now')!.focus();
    rerender(element({ ...quiet, state: 'copying' }, [], { operation: fixtures.sync }));
    expect(document.activeElement?.textContent).toBe('Cancel');
  });
});
