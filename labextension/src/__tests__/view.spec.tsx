import { nullTranslator } from '@jupyterlab/translation';
import { act, cleanup, fireEvent, render, screen, within } from '@testing-library/react';
import * as React from 'react';

import { ICompute } from '../api';
import { ComputePanelView } from '../components/ComputePanelView';
import { IWorkspaceActions } from '../components/Workspace';
import { INotebook } from '../current';
import { DEFAULT_FILTERS, IFilters } from '../filters';
import { h } from '../jsx';
import { PrimaryAction } from '../states';
import { clockText } from '../words';
import { FakeCurrent, FakeModel } from './fakeModel';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');

function show(
  model: FakeModel,
  notebook: INotebook | null = new FakeCurrent().notebook,
  filters: IFilters = DEFAULT_FILTERS
) {
  const done: unknown[][] = [];
  render(view(model, notebook, filters, done));
  return done;
}

/** Shown, and to be shown again when the model has changed. */
show.again = (model: FakeModel) => {
  const { notebook } = new FakeCurrent();
  const { rerender } = render(view(model, notebook, DEFAULT_FILTERS, []));
  return { rerender: () => rerender(view(model, notebook, DEFAULT_FILTERS, [])) };
};

function view(
  model: FakeModel,
  notebook: INotebook | null,
  filters: IFilters,
  done: unknown[][]
): React.ReactElement {
  const note =
    (name: string) =>
    (...args: unknown[]) =>
      void done.push([name, ...args]);
  return (
    <ComputePanelView
      model={model}
      notebook={notebook}
      onAction={(compute: ICompute, action: PrimaryAction) => note('action')(compute.name, action)}
      menuOf={compute => (compute.kind === 'dsvm' ? ['dsvm:start'] : [])}
      onMenu={(compute, items) => note('menu')(compute.name, items)}
      onDetach={() => note('detach')()}
      onCancel={(operation, choice) => note('cancel')(operation.id, choice)}
      onAccountMenu={() => note('account')()}
      files={noteActions(note)}
      onLoadVariables={() => note('load')()}
      onForgetVariables={() => note('forget')()}
      onCreate={() => note('create')()}
      onRefresh={() => note('refresh')()}
      filters={filters}
      onFilters={change => note('filters')(change)}
      onMoveTo={() => note('move to')()}
      onSettings={() => note('settings')()}
      trans={trans}
    />
  );
}

/** Buttons for files that write down what they were pressed for. */
const noteActions = (
  note: (name: string) => (...args: unknown[]) => undefined
): IWorkspaceActions => ({
  sync: ({ id }) => note('sync')(id),
  force: ({ id }) => note('force')(id),
  show: ({ id }, { path }) => note('show')(id, path),
  keep: ({ id }, { path }, keep) => note('keep')(id, path, keep),
  fetch: ({ id }, paths) => note('fetch')(id, paths),
  cancel: ({ id }) => note('cancel sync')(id)
});

const card = (name: string) => within(screen.getByRole('listitem', { name }));
const notebookSection = () => screen.getByRole('region', { name: 'This notebook' });

afterEach(cleanup);

describe('the panel', () => {
  it('offers saved variables, where they are', () => {
    const saved = fixtures.savedVariables;
    const model = new FakeModel();
    model.kernels = [{ ...fixtures.kernel, saved }];
    const { rerender } = show.again(model);
    const group = () => within(screen.getByRole('group', { name: 'Saved variables' }));
    group().getByText('12 variables were saved when gpu-vm stopped (1.2 GB).');
    group().getByText('They can be loaded once the notebook runs on gpu-vm again.');
    group().getByText('df, model.');
    group().getByText('And 10 more.');
    group().getByText('These could not be saved: conn.');
    expect(group().queryByRole('button', { name: 'Load' })).toBeNull();
    model.kernels = [{ ...fixtures.kernel, saved, compute: saved.compute }];
    rerender();
    expect(group().queryByText(/can be loaded once/)).toBeNull();
    group().getByRole('button', { name: 'Load' });
    model.kernels = [{ ...fixtures.kernel, saved, compute: saved.compute, moving_to: 'free' }];
    rerender();
    expect(group().queryByRole('button', { name: 'Load' })).toBeNull();
    cleanup();
    model.kernels = [{ ...fixtures.kernel, saved, compute: saved.compute }];
    const done = show(model);
    fireEvent.click(group().getByRole('button', { name: 'Load' }));
    fireEvent.click(group().getByRole('button', { name: 'Forget…' }));
    expect(done).toEqual([['load'], ['forget']]);
  });

  it('says what waits for a move, and what becomes of it', () => {
    const model = new FakeModel();
    model.kernels = [{ ...fixtures.kernel, moving_to: fixtures.gpu.id }];
    const { rerender } = show.again(model);
    expect(notebookSection().textContent).not.toContain('wait');
    model.waits = 2;
    rerender();
    expect(notebookSection().textContent).toContain(
      '2 cells wait their turn, in order. Once the notebook is on gpu-vm they run there; if the move is cancelled, on Free tier.'
    );
    model.kernels = [fixtures.kernel];
    rerender();
    expect(notebookSection().textContent).not.toContain('wait');
  });

  it('shows the files of the notebook in front, and of no other', () => {
    const model = new FakeModel();
    const [workspace] = fixtures.workspaceList.workspaces;
    model.workspaces = [{ ...workspace, kernels: ['k-2'] }];
    show(model);
    expect(screen.queryByRole('group', { name: 'Files of this notebook' })).toBeNull();
    cleanup();
    model.workspaces = [{ ...workspace, state: 'copying' }];
    model.operations = [fixtures.sync];
    const done = show(model);
    const files = within(notebookSection()).getByRole('group', { name: 'Files of this notebook' });
    fireEvent.click(within(files).getByRole('button', { name: 'Cancel' }));
    fireEvent.click(within(files).getByRole('button', { name: 'Keep theirs of data.csv' }));
    expect(done).toEqual([
      ['cancel sync', 'op-sync'],
      ['keep', 'w-1', 'data.csv', 'theirs']
    ]);
    expect(files.textContent).toContain('That of gpu-vm');
  });

  it('shows where the notebook runs, and every machine with its size, its state and one button', () => {
    const done = show(new FakeModel());
    expect(notebookSection().textContent).toContain(
      'analysis.ipynb runs on Free tier (2 CPU · 4 GB).'
    );
    expect(card('gpu-vm').getByText('4 CPU · 28 GB · 1 × T4')).toBeTruthy();
    expect(card('gpu-vm').getByText('~$0.53/h').title).toContain('2026-11-01');
    expect(card('gpu-vm').getByRole('status').textContent).toBe(
      'Off. Disk and static address still cost a little.'
    );
    fireEvent.click(card('gpu-vm').getByRole('button', { name: 'Start and attach' }));
    fireEvent.click(card('cpu-vm').getByRole('button', { name: 'Attach this notebook' }));
    fireEvent.click(card('old-vm').getByRole('button', { name: 'Release' }));
    fireEvent.click(card('win-vm').getByRole('button', { name: 'Start' }));
    fireEvent.click(card('cpu-vm').getByRole('button', { name: 'More actions for cpu-vm' }));
    expect(done).toEqual([
      ['action', 'gpu-vm', 'attach'],
      ['action', 'cpu-vm', 'attach'],
      ['action', 'old-vm', 'release'],
      ['action', 'win-vm', 'start'],
      ['menu', 'cpu-vm', ['dsvm:start']]
    ]);
  });

  it('shows what is stopped soon, what is lost then, and how to keep it', () => {
    const model = new FakeModel();
    const idle = { ...fixtures.idleStop, state: 'stops_soon' as const };
    model.computes = [fixtures.free, { ...fixtures.cpu, idle }];
    const done = show(model);
    const status = card('cpu-vm').getByRole('status');
    expect(status.textContent).toBe(`No activity. Stops at ${clockText(idle.stops_at!)}.`);
    const passing = card('cpu-vm').getByText(/^No activity\. Stops in \d+ (min|h \d+ min)\.$/);
    expect(passing.getAttribute('aria-hidden')).toBe('true');
    expect(passing.title).toBe('Azure stops it at 15:00 UTC unless it is used then.');
    expect(card('cpu-vm').getByRole('group').textContent).toBe(
      'Files on its temporary disk are lost then/mnt/scratch/model.bin'
    );
    fireEvent.click(card('cpu-vm').getByRole('button', { name: 'Keep on 1 h' }));
    expect(done).toEqual([['action', 'cpu-vm', 'keep']]);
  });

  it('says that nothing would stop a machine whose server is no more', () => {
    const model = new FakeModel();
    const safety = {
      kind: 'none' as const,
      text: 'No safety stop: a lock',
      at: null,
      averted: true
    };
    const idle = { ...fixtures.idleStop, state: 'busy' as const, safety };
    model.computes = [fixtures.free, { ...fixtures.cpu, idle }];
    show(model);
    expect(card('cpu-vm').getByText('No safety stop: a lock.')).toBeTruthy();
    model.computes = [fixtures.free, { ...fixtures.cpu, idle: fixtures.idleStop }];
    cleanup();
    show(model);
    expect(card('cpu-vm').queryByText(/safety stop/)).toBeNull();
    expect(
      card('cpu-vm').getByText(`Stops at ${clockText(fixtures.idleStop.stops_at!)}.`)
    ).toBeTruthy();
  });

  it('shows what was spent, and budgets, where they are known', () => {
    const model = new FakeModel();
    show(model);
    expect(document.querySelector('.jp-Dsvm-spend')).toBeNull();
    cleanup();
    model.spend = { ...fixtures.spend, per_hour: 0 };
    show(model);
    expect(screen.getByText('~$1.12 today · ~$17 this month')).toBeTruthy();
    expect(
      screen.getByText(/^Budget for this month: ~\$17 of \$20 is spent, 87.%\.$/)
    ).toBeTruthy();
  });

  it('has no menu button where nothing would be behind it', () => {
    show(new FakeModel());
    expect(card('lab').queryByRole('button', { name: /More actions/ })).toBeNull();
  });

  it('shows the steps of a move, and cancels it', () => {
    const model = new FakeModel();
    model.operations = [fixtures.attach];
    model.kernels = [{ ...fixtures.kernel, moving_to: fixtures.gpu.id }];
    const done = show(model);
    expect(notebookSection().textContent).toContain(
      'analysis.ipynb runs on Free tier and is moving to gpu-vm.'
    );
    expect(card('gpu-vm').getByRole('status').textContent).toBe(
      'Step 2 of 4: Connecting to gpu-vm.'
    );
    const steps = card('gpu-vm').getAllByRole('listitem');
    expect(steps.map(step => step.textContent)).toEqual([
      'Starting gpu-vm (done)',
      'Connecting to gpu-vm (under way)',
      'Starting a kernel there (to do)',
      'Moving the notebook (to do)'
    ]);
    expect(steps[1].getAttribute('aria-current')).toBe('step');
    expect(card('gpu-vm').getByRole<HTMLProgressElement>('progressbar').value).toBe(0.25);
    expect(card('gpu-vm').queryByRole('button', { name: 'Start and attach' })).toBeNull();
    fireEvent.click(card('gpu-vm').getByRole('button', { name: 'Cancel' }));
    expect(done).toEqual([['cancel', 'op-1', 'cancel']]);
  });

  it('offers the way back from the machine the notebook runs on', () => {
    const model = new FakeModel();
    model.kernels = [
      {
        ...fixtures.kernel,
        compute: fixtures.cpu.id,
        link: { ...fixtures.local, state: 'connected' }
      }
    ];
    const done = show(model);
    expect(notebookSection().textContent).toContain('analysis.ipynb runs on cpu-vm.');
    fireEvent.click(card('cpu-vm').getByRole('button', { name: 'Return to free tier' }));
    expect(done).toEqual([['action', 'cpu-vm', 'detach']]);
  });

  it('offers the way back from a machine that is no longer listed', () => {
    const model = new FakeModel();
    model.kernels = [
      { ...fixtures.kernel, compute: 'azure:0000', link: { ...fixtures.local, state: 'gone' } }
    ];
    const done = show(model);
    fireEvent.click(screen.getByRole('button', { name: 'Return to free tier' }));
    expect(done).toEqual([['detach']]);
  });

  it('shows why an operation failed and what to do, until dismissed', () => {
    const model = new FakeModel();
    const error = { ...fixtures.problem, code: 'ScopeLocked' };
    model.operations = [{ ...fixtures.attach, state: 'failed', error }];
    show(model);
    const alert = card('gpu-vm').getByRole('alert');
    expect(alert.textContent).toContain(error.message);
    expect(alert.textContent).toContain(error.advice);
    fireEvent.click(card('gpu-vm').getByRole('button', { name: 'Dismiss' }));
    expect(model.failedOn(fixtures.gpu.id)).toBeUndefined();
  });

  it('says once that Azure has no such machine, and leads to other sizes', () => {
    const model = new FakeModel();
    model.operations = [{ ...fixtures.attach, state: 'failed', error: fixtures.problem }];
    const done = show(model);
    expect(card('gpu-vm').queryByRole('alert')).toBeNull();
    expect(card('gpu-vm').getByRole('status').textContent).toBe(
      'Azure has no NC4as_T4_v3 in westeurope now.'
    );
    expect(card('gpu-vm').getByText(fixtures.problem.advice).closest('details')).not.toBeNull();
    fireEvent.click(card('gpu-vm').getByRole('button', { name: 'Try another size' }));
    expect(done).toEqual([['action', 'gpu-vm', 'resize']]);
    fireEvent.click(card('gpu-vm').getByRole('button', { name: 'Dismiss' }));
    expect(model.failedOn(fixtures.gpu.id)).toBeUndefined();
  });

  it('leads to the page where quota is asked for', () => {
    const model = new FakeModel();
    const error = {
      code: 'OperationNotAllowed',
      message:
        'The quota of cores is used up. Azure said: Location: westeurope, Current Limit: 0, Current Usage: 0, Additional Required: 4, …',
      advice: 'Request more at https://portal.azure.com/#view/quotas.'
    };
    model.operations = [{ ...fixtures.attach, state: 'failed', error }];
    show(model);
    expect(card('gpu-vm').getByRole('status').textContent).toBe(
      'Quota is 0 of 4 vCPUs for this family.'
    );
    const link = card('gpu-vm').getByRole<HTMLAnchorElement>('link', { name: 'Request quota' });
    expect([link.href, link.target, link.rel]).toEqual([
      'https://portal.azure.com/#view/quotas',
      '_blank',
      'noopener noreferrer'
    ]);
  });

  it('lets the eyes see for how long a machine is lost, and has nobody read it out', () => {
    jest.useFakeTimers({ now: Date.parse('2026-11-21T10:00:40.000Z') });
    const model = new FakeModel();
    const link = {
      ...fixtures.local,
      state: 'reconnecting' as const,
      attempt: 3,
      reason: 'No answer.'
    };
    model.kernels = [{ ...fixtures.kernel, compute: fixtures.cpu.id, link }];
    const done = show(model);
    const text = 'Lost contact %1 ago. Your kernel may still be running; reconnecting (3).';
    const seen = card('cpu-vm').getByText(text.replace('%1', '40 s'));
    expect(seen.closest('[role="status"], [aria-live]')).toBeNull();
    expect(seen.getAttribute('aria-hidden')).toBe('true');
    expect(seen.title).toBe('No answer.');
    const said = card('cpu-vm').getByRole('status').textContent;
    expect(said).toMatch(/^Lost contact at .*\. Your kernel may still be running; reconnecting\.$/);
    act(() => void jest.advanceTimersByTime(9000));
    expect(seen.textContent).toBe(text.replace('%1', '40 s'));
    act(() => void jest.advanceTimersByTime(1000));
    expect(seen.textContent).toBe(text.replace('%1', '50 s'));
    expect(card('cpu-vm').getByRole('status').textContent).toBe(said);
    fireEvent.click(card('cpu-vm').getByRole('button', { name: 'Reconnect now' }));
    expect(done).toEqual([['action', 'cpu-vm', 'reconnect']]);
    jest.useRealTimers();
  });

  it('names one of many notebooks, and all to whoever asks', () => {
    const model = new FakeModel();
    const attached = ['a.ipynb', 'work/b.ipynb', 'c.ipynb'];
    model.computes = [fixtures.free, { ...fixtures.cpu, attached }];
    show(model);
    const status = card('cpu-vm').getByRole('status');
    expect(status.textContent).toBe('Running a.ipynb and 2 more.');
    expect(status.title).toBe(attached.join('\n'));
    const all = card('cpu-vm').getByText('All 3 notebooks').closest('details')!;
    expect(
      within(all)
        .getAllByRole('listitem', { hidden: true })
        .map(i => i.textContent)
    ).toEqual(attached);
  });

  it('makes the words stand out that cost money', () => {
    const model = new FakeModel();
    model.computes = [fixtures.free, { ...fixtures.gpu, power_state: 'stopped' }];
    show(model);
    const status = card('gpu-vm').getByRole('status');
    expect(status.textContent).toBe('Off, but still billed ~$0.53/h.');
    expect(status.querySelector('strong')?.textContent).toBe('still billed');
  });

  it('keeps the keyboard in the card when its button changes', () => {
    const model = new FakeModel();
    const { rerender } = show.again(model);
    card('gpu-vm').getByRole('button', { name: 'Start and attach' }).focus();
    model.operations = [fixtures.attach];
    rerender();
    expect(document.activeElement).toBe(screen.getByRole('listitem', { name: 'gpu-vm' }));
    card('gpu-vm').getByRole('button', { name: 'Cancel' }).focus();
    model.operations = [];
    rerender();
    expect(document.activeElement).toBe(
      card('gpu-vm').getByRole('button', { name: 'Start and attach' })
    );
  });

  it('has the filters, and says what they leave out', () => {
    const model = new FakeModel();
    const done = show(model, undefined, { ...DEFAULT_FILTERS, withGpu: true });
    const names = screen.getAllByRole('heading', { level: 4 }).map(heading => heading.textContent);
    expect(names).toEqual(['gpu-vm']);
    expect(screen.getByText('Showing 1 of 5.')).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: 'Clear filters' }));
    expect(done).toEqual([['filters', DEFAULT_FILTERS]]);
  });

  it('ends with when Azure was asked, and the way to the settings', () => {
    const model = new FakeModel();
    model.asOf = '2026-11-21T10:00:00.000Z';
    const done = show(model);
    expect(screen.getByText(/^Azure was last asked at /)).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: 'Settings' }));
    expect(done).toEqual([['settings']]);
  });

  it('shows what text a machine sends as text', () => {
    const model = new FakeModel();
    const name = '<img src=x onerror="window.hacked=1">';
    model.computes = [
      fixtures.free,
      { ...fixtures.gpu, name, problem: { ...fixtures.problem, message: name } }
    ];
    show(model);
    expect(document.querySelector('img')).toBeNull();
    expect(card(name).getByRole('alert').textContent).toContain(name);
  });

  it('shows what could not be listed beside what could', () => {
    const model = new FakeModel();
    model.problems = [fixtures.problem];
    show(model);
    expect(screen.getByRole('alert').textContent).toContain(fixtures.problem.message);
    expect(card('gpu-vm')).toBeTruthy();
  });

  it('leads from a refusal that a sign-in may help with to the sign-in', () => {
    const model = new FakeModel();
    model.problems = [{ ...fixtures.signInRequired, code: 'InvalidAuthenticationToken' }];
    const done = show(model);
    fireEvent.click(within(screen.getByRole('alert')).getByRole('button'));
    expect(model.done).toEqual([['choose']]);
    expect(done).toEqual([]);
  });

  it('says once that nobody is signed in, and goes on showing machines of others', () => {
    const model = new FakeModel();
    model.computes = [fixtures.free, fixtures.host];
    model.problems = [fixtures.signInRequired, fixtures.problem];
    model.signIn.status = fixtures.signedOut;
    show(model);
    expect(
      screen.getByText('Connect your Azure subscription to use bigger machines.')
    ).toBeTruthy();
    const alerts = screen.getAllByRole('alert').map(alert => alert.textContent);
    expect(alerts).toEqual([expect.stringContaining(fixtures.problem.message)]);
    expect(card('lab')).toBeTruthy();
    expect(screen.queryByText(/^No machines yet\./)).toBeNull();
  });

  it('forgets the machines of somebody who has signed out, but not where notebooks run', () => {
    const model = new FakeModel();
    model.computes = [fixtures.gpu, { ...fixtures.cpu, attached: ['a.ipynb'] }, fixtures.host];
    model.signIn.status = fixtures.signedOut;
    show(model);
    const names = screen.getAllByRole('heading', { level: 4 }).map(heading => heading.textContent);
    expect(names).toEqual(['cpu-vm', 'lab']);
  });

  it('lets a person stop waiting for a start, and have the machine released', () => {
    const model = new FakeModel();
    model.operations = [{ ...fixtures.attach, kind: 'start', kernel: null }];
    const done = show(model);
    fireEvent.click(card('gpu-vm').getByRole('button', { name: 'Stop waiting' }));
    fireEvent.click(card('gpu-vm').getByRole('button', { name: 'Stop waiting and release' }));
    expect(done).toEqual([
      ['cancel', 'op-1', 'wait'],
      ['cancel', 'op-1', 'release']
    ]);
  });

  it('offers no cancel of what was started elsewhere', () => {
    const model = new FakeModel();
    model.operations = [{ ...fixtures.attach, kind: 'stop', kernel: null, elsewhere: true }];
    show(model);
    expect(
      card('gpu-vm').getByText('Started elsewhere, for example in the Azure portal.')
    ).toBeTruthy();
    expect(card('gpu-vm').queryByRole('button', { name: /Cancel|waiting/ })).toBeNull();
  });

  it('tells machines of the same name apart', () => {
    const model = new FakeModel();
    model.computes = [fixtures.gpu, { ...fixtures.gpu, id: 'azure:2', resource_group: 'teaching' }];
    show(model);
    expect(screen.getByText('teaching')).toBeTruthy();
    expect(screen.getByText('research')).toBeTruthy();
  });

  it('is busy while the first answer is out, and says so', () => {
    const model = new FakeModel();
    model.status = 'loading';
    show(model);
    expect(document.querySelector('[aria-busy="true"]')).not.toBeNull();
    expect(screen.getByRole('status').textContent).toBe('Loading the list of machines.');
    expect(screen.queryByRole('button')).toBeNull();
  });

  it('says that there are no machines', () => {
    const model = new FakeModel();
    model.computes = [fixtures.free];
    show(model);
    expect(screen.getByText(/^No machines yet\./)).toBeTruthy();
  });

  it('offers to create one where that is allowed', () => {
    const model = new FakeModel();
    model.computes = [fixtures.free];
    model.canCreate = true;
    const done = show(model);
    expect(
      screen.getByText('No machines yet. Ask your administrator, or create one.')
    ).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: 'Create…' }));
    fireEvent.click(screen.getByRole('button', { name: 'Create a machine' }));
    expect(done).toEqual([['create'], ['create']]);
  });

  it('shows a machine that is being made, and why it was not', () => {
    const model = new FakeModel();
    const making = { ...fixtures.attach, kind: 'create' as const, compute: null, kernel: null };
    model.computes = [fixtures.free];
    model.operations = [
      making,
      { ...making, id: 'op-0', state: 'failed', error: fixtures.problem }
    ];
    const done = show(model);
    const [running, failed] = screen.getAllByRole('listitem', { name: 'New machine' });
    fireEvent.click(within(running).getByRole('button', { name: 'Cancel' }));
    expect(done).toEqual([['cancel', 'op-1', 'cancel']]);
    expect(within(failed).getByRole('alert').textContent).toContain(fixtures.problem.message);
    expect(screen.queryByText(/^No machines yet\./)).toBeNull();
  });

  it('says that the server has no jupyter-dsvm, and asks again', () => {
    const model = new FakeModel();
    model.status = 'missing';
    model.error = fixtures.problem;
    const done = show(model);
    expect(screen.getByRole('alert').textContent).toContain(fixtures.problem.advice);
    fireEvent.click(screen.getByRole('button', { name: 'Try again' }));
    expect(done).toEqual([['refresh']]);
  });

  it.each([
    [null, 'Open a notebook to see where it runs.'],
    [
      { path: 'a.ipynb', name: 'a.ipynb', kernelId: null, busy: false },
      'a.ipynb has no kernel yet.'
    ],
    [{ path: 'a.ipynb', name: 'a.ipynb', kernelId: 'k-9', busy: false }, 'cannot be moved']
  ])('says what is the matter where nothing can be moved (%#)', (notebook, text) => {
    show(new FakeModel(), notebook);
    expect(notebookSection().textContent).toContain(text);
    expect(card('gpu-vm').getByRole('button', { name: 'Start' })).toBeTruthy();
    expect(screen.queryByRole('button', { name: 'Attach this notebook' })).toBeNull();
  });
});
