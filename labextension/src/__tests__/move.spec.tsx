import { nullTranslator } from '@jupyterlab/translation';
import { waitFor } from '@testing-library/dom';

import { ICompute, IModule, IOperation, IVariables, IWorkspaceEstimate } from '../api';
import { FolderChoices } from '../folderchoices';
import { KnownComputes } from '../knowncomputes';
import { askToMove, IMoveAnswer, IMoveOptions } from '../move';
import { IOpenedNotebook } from '../opened';
import { FakeModel } from './fakeModel';
import { settle } from './fakeServer';
import { closeDialogs } from './closeDialogs';
import * as fixtures from './fixtures';

const opened: IOpenedNotebook = {
  path: 'work/analysis.ipynb',
  busy: false,
  language: 'python',
  sources: ['import sklearn'],
  isShared: false,
  others: 0
};

const missing: IModule[] = [
  { name: 'sklearn', package: 'scikit-learn', state: 'missing' },
  { name: 'plotly', package: 'plotly', state: 'missing' },
  { name: 'old_thing', package: '', state: 'missing' },
  { name: 'numpy', package: '', state: 'present' }
];

describe('the move dialog', () => {
  let model: FakeModel;
  let known: KnownComputes;
  let folders: FolderChoices;
  let answer: Promise<IMoveAnswer | null>;

  beforeEach(() => {
    model = new FakeModel();
    known = new KnownComputes(null);
    folders = new FolderChoices(null);
  });

  afterEach(() => {
    closeDialogs();
    document.body.textContent = '';
  });

  const options = (): Omit<IMoveOptions, 'compute'> => ({
    model,
    kernel: fixtures.kernel,
    notebook: 'analysis.ipynb',
    busy: false,
    opened,
    known,
    folders,
    trans: nullTranslator.load('jupyter_dsvm')
  });
  const open = async (compute: ICompute, more: Partial<IMoveOptions> = {}): Promise<void> => {
    answer = askToMove({ ...options(), compute, ...more });
    await settle(50);
    if (more.confirm !== false) {
      await waitFor(() => expect(document.querySelector('.jp-Dsvm-moveSummary')).not.toBeNull());
      await waitFor(() => expect(document.querySelector('.jp-Dsvm-move [aria-busy]')).toBeNull());
    }
  };
  const body = () => document.querySelector('.jp-Dsvm-move')?.textContent ?? '';
  const titles = () =>
    [...document.querySelectorAll<HTMLElement>('.jp-Dsvm-move [title]')].map(node => node.title);
  const button = (label: string) =>
    [...document.querySelectorAll<HTMLElement>('.jp-Dialog button')].find(
      node => node.textContent === label
    );
  const act = async (action: () => unknown): Promise<void> => {
    await action();
    await settle(50);
  };
  const press = async (label: string) =>
    act(async () => {
      await waitFor(() => expect(button(label)).toBeDefined());
      button(label)!.click();
      await settle(50);
    });
  const key = async (target: Element, name: string) =>
    act(async () => {
      target.dispatchEvent(new KeyboardEvent('keydown', { key: name, bubbles: true }));
      await settle(50);
    });
  const end = async (operation: Partial<IOperation>) =>
    act(async () => {
      model.set({ operations: [{ ...fixtures.install, ...operation }] });
      await settle(50);
    });

  it('says what a machine that is off will cost, and that its kernel is chosen later', async () => {
    await open(fixtures.gpu);
    expect(body()).toContain(
      'gpu-vm is off. It is started first, and billed ~$0.53/h from then on.'
    );
    expect(titles()).toEqual([expect.stringContaining('Retail Prices of 2026-11-01')]);
    expect(body()).toContain('Variables stay behind on Free tier');
    expect(body()).toContain('Once gpu-vm is on, the kernel most like this notebook’s is chosen');
    expect(document.querySelector('.jp-Dsvm-move select')).toBeNull();
    expect(model.done).toEqual([]); // nothing can be asked of it
    await press('Cancel');
    expect(await answer).toBeNull();
    expect(await known.has(fixtures.gpu.id)).toBe(false);
  });

  it('says when a machine that is on is stopped by itself', async () => {
    await open({ ...fixtures.cpu, idle: fixtures.idleStop });
    expect(body()).toContain('It stops by itself after 30 min in which nobody uses it.');
    await press('Cancel');
    await open({
      ...fixtures.gpu,
      idle: { ...fixtures.idleStop, state: 'never', text: 'It is off.' }
    });
    expect(body()).toContain('It stops by itself after 30 min in which nobody uses it.');
    await press('Cancel');
    await open({ ...fixtures.gpu, idle: null });
    expect(body()).not.toContain('by itself');
    await press('Cancel');
  });

  it('says whether a GPU is worth it, of the code as it is in the page', async () => {
    model.advised = fixtures.advice;
    await open(fixtures.gpu);
    await waitFor(() => expect(body()).toContain(fixtures.advice.sentences[0]));
    expect(model.askedAdvice).toEqual([[fixtures.kernel.id, { sources: opened.sources }]]);
    await press('Cancel');
    await open(fixtures.free);
    await press('Cancel');
    await open(fixtures.gpu, { opened: null });
    await press('Cancel');
    expect(model.askedAdvice).toHaveLength(1);
  });

  it('says that a price is not known, and that a stopped machine is billed', async () => {
    await open({ ...fixtures.gpu, price: null });
    expect(body()).toContain('its price is not known');
    await press('Cancel');
    await open(fixtures.old);
    expect(body()).toContain('is off, but billed');
    await press('Cancel');
  });

  it('moves by Enter and stays by Escape', async () => {
    await open(fixtures.gpu);
    await waitFor(() => expect(document.activeElement).toBe(button('Move')));
    await key(document.activeElement!, 'Enter');
    expect(await answer).toEqual({ sync: true });
    await open(fixtures.gpu);
    await key(document.activeElement!, 'Escape');
    expect(await answer).toBeNull();
  });

  it('names what is missing, has it installed, and looks again', async () => {
    model.found = async () => missing;
    await open(fixtures.cpu);
    expect(model.done).toEqual([
      ['modules', fixtures.cpu.id, { sources: opened.sources, kernelspec: null, path: opened.path }]
    ]);
    expect(body()).toContain(
      '3 modules are missing there: sklearn (scikit-learn), plotly, old_thing.'
    );
    // Enter on that button does what it says, and moves nothing.
    button('Install')!.focus();
    await key(button('Install')!, 'Enter');
    expect(document.querySelector('.jp-Dialog')).not.toBeNull();
    await press('Install');
    expect(model.done[1]).toEqual([
      'install',
      fixtures.cpu.id,
      { packages: ['scikit-learn', 'plotly'], kernelspec: null }
    ]);
    await waitFor(() => expect(body()).toContain('Collecting plotly'));
    expect(button('Install')).toBeUndefined();
    model.found = async () => [missing[3]];
    await end({ state: 'done', ended: '2026-11-21T10:00:09.000Z' });
    await waitFor(() => expect(body()).toContain('cpu-vm has all that the notebook imports.'));
    await press('Move');
    expect(await answer).toEqual({ sync: true });
  });

  it.each<[Partial<IOperation> | null, string]>([
    [{ state: 'failed', error: { code: 'x', message: 'pip said no', advice: '' } }, 'pip said no.'],
    [null, 'no longer knows what became of installing on cpu-vm.']
  ])('says why nothing was installed (%#)', async (operation, said) => {
    model.found = async () => missing;
    await open(fixtures.cpu);
    await press('Install');
    button('Cancel installing')!.focus();
    await press('Cancel installing');
    expect(model.done[model.done.length - 1]).toEqual(['cancel', 'op-install', false]);
    if (operation) {
      await end(operation);
    } else {
      await act(async () => model.set({ operations: [] }));
    }
    await waitFor(() => expect(body()).toContain(said));
    expect(button('Install')).toBeDefined();
    // The button that had the focus is gone, and Escape is heard all the same.
    await key(document.activeElement!, 'Escape');
    expect(await answer).toBeNull();
  });

  it('moves while something is being installed', async () => {
    model.found = async () => missing;
    await open(fixtures.cpu);
    await press('Install');
    await press('Move');
    expect(await answer).toEqual({ sync: true });
  });

  it('looks for the modules of the kernel that is chosen', async () => {
    await open(fixtures.cpu);
    const select = document.querySelector<HTMLSelectElement>('.jp-Dsvm-move select')!;
    await act(async () => {
      select.value = 'pytorch';
      select.dispatchEvent(new Event('change', { bubbles: true }));
      await settle(50);
    });
    await waitFor(() =>
      expect(model.done[model.done.length - 1]).toMatchObject([
        'modules',
        fixtures.cpu.id,
        { kernelspec: 'pytorch' }
      ])
    );
    await press('Move');
    expect(await answer).toEqual({ kernelspec: 'pytorch', sync: true });
  });

  it('says what could not be found out, and what lies beside the notebook', async () => {
    model.found = async () => [
      { name: 'helpers', package: '', state: 'local' },
      { name: 'odd', package: '', state: 'unknown' }
    ];
    await open(fixtures.cpu);
    expect(body()).toContain(
      'helpers lies beside the notebook, and is there if its folder is copied.'
    );
    expect(body()).toContain('Whether cpu-vm has odd could not be found out.');
    await press('Cancel');
    model.found = () => Promise.reject(new Error('It cannot be reached'));
    await open(fixtures.cpu);
    expect(body()).toContain('It cannot be reached.');
    expect(button('Move')).toBeDefined();
    await press('Cancel');
  });

  it('looks for no modules of other languages and of the free tier', async () => {
    await open(fixtures.cpu, { opened: { ...opened, sources: null } });
    await press('Cancel');
    await open(fixtures.cpu, { opened: null });
    await press('Cancel');
    await open(fixtures.free, { kernel: { ...fixtures.kernel, compute: fixtures.cpu.id } });
    expect(document.querySelector('.jp-Dialog-header')?.textContent).toBe(
      'Move analysis.ipynb to Free tier?'
    );
    expect(body()).toContain('Variables stay behind on cpu-vm');
    expect(body()).not.toContain('JavaScript');
    await press('Move');
    expect(await answer).toEqual({});
    expect(model.done).toEqual([]);
  });

  it('waits for a running cell unless it is told to interrupt', async () => {
    for (const [choice, expected] of [
      ['wait', { sync: true }],
      ['interrupt', { interrupt: true, sync: true }]
    ] as const) {
      await open(fixtures.gpu, { busy: true });
      expect(document.querySelector('.jp-Dsvm-busy legend')?.textContent).toBe(
        'A cell is running.'
      );
      const radio = (value: string) =>
        document.querySelector<HTMLInputElement>(`.jp-Dsvm-busy input[value=${value}]`)!;
      expect(radio('wait').checked).toBe(true);
      await act(async () => radio(choice).click());
      await press('Move');
      expect(await answer).toEqual(expected);
    }
  });

  it('can be answered where the kernels cannot be listed, and warns of JavaScript once', async () => {
    model.kernelspecs = () => Promise.reject(new Error('no answer'));
    await open(fixtures.cpu);
    expect(body()).toContain('The kernels of cpu-vm could not be listed: no answer.');
    expect(body()).toContain('can run JavaScript in this page');
    await press('Move');
    expect(await answer).toEqual({ sync: true });
    const r = { name: 'ir', display_name: 'R', language: 'R' };
    model.kernelspecs = async () => [r, fixtures.kernelspecList.kernelspecs[0]];
    await open(fixtures.cpu);
    expect(body()).toContain('Kernel on cpu-vm: Python 3');
    expect(body()).not.toContain('JavaScript');
    await press('Cancel');
    model.kernelspecs = async () => [r];
    await open(fixtures.cpu);
    expect(body()).toContain('cpu-vm has no kernel of this notebook’s language.');
    await press('Cancel');
  });

  it('says who moves along', async () => {
    await open(fixtures.gpu, { opened: { ...opened, isShared: true } });
    expect(body()).toContain('Whoever else opens this notebook shares its kernel');
    await press('Cancel');
    await open(fixtures.gpu, { opened: { ...opened, isShared: true, others: 2 } });
    expect(body()).toContain('2 other people work in this notebook');
    await press('Cancel');
  });

  describe('about the notebook’s folder', () => {
    const box = () =>
      document.querySelector<HTMLInputElement>('.jp-Dsvm-filesChoice input[type=checkbox]')!;
    const estimate = fixtures.workspaceEstimate;

    it('copies it unless told not to, and remembers that for the folder', async () => {
      await open(fixtures.gpu);
      expect(body()).toContain('Copy the notebook’s folder (84 MB, 340 files)');
      expect(box().checked).toBe(true);
      await act(async () => box().click());
      expect(body()).toContain('What is beside the notebook cannot be read there then.');
      await press('Move');
      expect(await answer).toEqual({ sync: false });
      await open(fixtures.gpu);
      expect(box().checked).toBe(false);
      await press('Cancel');
      model.estimated = async () => ({ ...estimate, folder: 'other', files: 0, bytes: 0 });
      await open(fixtures.gpu);
      expect(box().checked).toBe(true);
      expect(body()).toContain('(it is there already)');
      await press('Cancel');
      expect(await folders.get('other')).toBeUndefined();
    });

    it('does not wait for how much it is', async () => {
      let found = (_: IWorkspaceEstimate): void => undefined;
      model.estimated = () => new Promise(resolve => (found = resolve));
      const begin = async (): Promise<void> => {
        answer = askToMove({
          ...options(),
          compute: fixtures.gpu
        });
        await waitFor(() => expect(body()).toContain('Looking how much is in it…'));
      };
      await begin();
      await press('Move');
      expect(await answer).toEqual({});
      await begin();
      await act(async () => box().click());
      await press('Move');
      expect(await answer).toEqual({ sync: false });
      // What a person has said stays when it is known.
      await begin();
      await act(async () => box().click());
      await act(async () => found(estimate));
      await waitFor(() => expect(body()).toContain('84 MB'));
      expect(box().checked).toBe(false);
      await press('Cancel');
    });

    it('asks for a tick where it is much', async () => {
      model.estimated = async () => ({ ...estimate, bytes: 3_200_000_000, needs_yes: true });
      await folders.set(estimate.folder, true);
      await open(fixtures.gpu);
      expect(box().checked).toBe(false);
      expect(body()).toContain('3.2 GB is much; tick to copy it.');
      await act(async () => box().click());
      await press('Move');
      expect(await answer).toEqual({ sync: true });
      // Also of somebody who does not want to be asked, unless they never copy it.
      await known.add(fixtures.cpu.id);
      await open(fixtures.cpu, { confirm: false });
      await waitFor(() => expect(document.querySelector('.jp-Dialog')).not.toBeNull());
      await press('Cancel');
      await folders.set(estimate.folder, false);
      await open(fixtures.cpu, { confirm: false });
      expect(await answer).toEqual({ sync: false });
    });

    it('says why it cannot go along', async () => {
      const reason = 'This notebook lies in your home folder; put it in a folder of its own';
      model.estimated = async () => ({ ...estimate, allowed: false, reason });
      await open(fixtures.gpu);
      expect([box().checked, box().disabled]).toEqual([false, true]);
      expect(body()).toContain(`${reason}.`);
      await press('Move');
      expect(await answer).toEqual({ sync: false });
      expect(await folders.get(estimate.folder)).toBeUndefined();
    });

    it('says what could not be found out, and moves all the same', async () => {
      model.estimated = () => Promise.reject(new Error('It cannot be read'));
      await open(fixtures.gpu);
      expect(body()).toContain('How much is in it could not be found out: It cannot be read.');
      await press('Move');
      expect(await answer).toEqual({});
    });

    it('says on the way back that what has changed comes first', async () => {
      const there = { ...fixtures.kernel, compute: fixtures.cpu.id };
      const link = { ...fixtures.local, state: 'connected' as const };
      model.workspaces = fixtures.workspaceList.workspaces;
      await open(fixtures.free, { kernel: { ...there, link } });
      expect(box()).toBeNull();
      expect(body()).toContain('Files that have changed on cpu-vm come back first.');
      await press('Cancel');
      await open(fixtures.free, { kernel: { ...there, link: { ...link, state: 'gone' } } });
      expect(body()).toContain('Files that have changed on cpu-vm since it was last reached');
      await press('Cancel');
      model.workspaces = [];
      await open(fixtures.free, { kernel: { ...there, link } });
      expect(body()).not.toContain('Files that');
      await press('Cancel');
    });
  });

  describe('about the variables', () => {
    const { variables } = fixtures;
    const small: IVariables = {
      ...variables,
      bytes: 84_000_000,
      variables: variables.variables.map(one => ({ ...one, bytes: one.bytes && 42_000_000 }))
    };
    const back: Partial<IMoveOptions> = {
      kernel: { ...fixtures.kernel, compute: fixtures.gpu.id }
    };
    const box = (name: RegExp) =>
      [...document.querySelectorAll('.jp-Dsvm-variables label')]
        .find(label => name.test(label.textContent ?? ''))
        ?.querySelector('input') ?? null;
    const row = () => document.querySelector('.jp-Dsvm-variables');
    const tick = (name: RegExp) => act(() => box(name)!.click());
    const ask = (plan: Partial<IVariables>, compute = fixtures.gpu, more = {}) => {
      model.planned = async () => ({ ...small, ...plan });
      return open(compute, more);
    };
    const moved = async () => {
      await press('Move');
      return answer;
    };

    it('carries all that can be moved, and names what cannot', async () => {
      await ask({});
      expect(box(/^Carry/)!.checked).toBe(true);
      expect(row()!.textContent).toContain(
        'Carry variables (2 of 3 · 84 MB · 15 s; 1 cannot be moved: conn)'
      );
      expect(row()!.textContent).toContain('An open connection cannot move.');
      expect(row()!.textContent).toContain('pandas.DataFrame · 42 MB');
      expect(body()).not.toContain('Variables stay behind');
      expect(await moved()).toEqual({ sync: true, carry: true });
    });

    it('leaves them behind where somebody says so', async () => {
      await ask({});
      await tick(/^Carry/);
      expect(body()).toContain('Variables stay behind on Free tier');
      expect(await moved()).toEqual({ sync: true });
    });

    it('carries those that are chosen', async () => {
      await ask({});
      await tick(/^model/);
      expect(row()!.textContent).toContain('Carry variables (1 of 3 · 42 MB · 5 s;');
      expect(await moved()).toEqual({ sync: true, carry: ['df'] });
      await ask({});
      await tick(/^model/);
      await tick(/^df/);
      expect(box(/^Carry/)!.checked).toBe(false);
      // All of them again, or one alone.
      await tick(/^Carry/);
      expect([box(/^df/)!.checked, box(/^model/)!.checked]).toEqual([true, true]);
      await tick(/^Carry/);
      await tick(/^model/);
      expect(await moved()).toEqual({ sync: true, carry: ['model'] });
    });

    it('asks for a tick where they are much, or may not fit', async () => {
      await ask({ bytes: 2 ** 30 });
      expect(box(/^Carry/)!.checked).toBe(false);
      await tick(/^Carry/);
      expect(await moved()).toEqual({ sync: true, carry: true });
      const little = { ...fixtures.free, size: { ...fixtures.free.size!, memory_gib: 1 } };
      await ask({ bytes: 900_000_000 }, little, back);
      expect(box(/^Carry/)!.checked).toBe(false);
      expect(row()!.textContent).toContain(
        '900 MB may not fit: Free tier has 1 GB of memory in all.'
      );
      await press('Cancel');
    });

    it('does not wait for what can be moved', async () => {
      let found = (_: IVariables): void => undefined;
      model.planned = () => new Promise(resolve => (found = resolve));
      const begin = async (): Promise<void> => {
        answer = askToMove({ ...options(), compute: fixtures.gpu });
        await waitFor(() => expect(body()).toContain('Looking which of them can be moved…'));
      };
      await begin();
      expect(await moved()).not.toHaveProperty('carry');
      await begin();
      await tick(/^Carry/);
      expect(await moved()).toMatchObject({ carry: true });
      // What a person has said stays when it is known.
      await begin();
      await tick(/^Carry/);
      await act(async () => found(variables));
      await waitFor(() => expect(row()!.textContent).toContain('1.2 GB'));
      expect(box(/^Carry/)!.checked).toBe(true);
      await press('Cancel');
    });

    it('can be told to while a cell runs', async () => {
      await ask({ state: 'busy', reason: 'A cell runs.', variables: [] }, fixtures.gpu, {
        busy: true
      });
      expect(row()!.textContent).toContain('Those that can be moved then are carried');
      expect(box(/^Carry/)!.checked).toBe(false);
      await tick(/^Carry/);
      expect(await moved()).toEqual({ sync: true, carry: true });
    });

    it('says why none can be carried, and shows nothing where there are none', async () => {
      await ask(fixtures.noVariables);
      expect(row()!.textContent).toBe('Variables of an R kernel cannot be carried yet.');
      expect(row()!.querySelector('input')).toBeNull();
      await press('Cancel');
      await ask({ variables: [variables.variables[0]], bytes: 0 });
      expect(row()!.textContent).toContain('None of the variables can be moved; they stay behind');
      expect(row()!.querySelector('input')).toBeNull();
      expect(await moved()).toEqual({ sync: true });
      await ask({ variables: [] });
      expect(row()).toBeNull();
      await press('Cancel');
      model.planned = () => Promise.reject(new Error('It does not answer'));
      await open(fixtures.gpu);
      expect(row()!.textContent).toContain('could not be found out: It does not answer.');
      expect(box(/^Carry/)!.checked).toBe(false);
      await press('Cancel');
    });

    it('asks before what a machine sends is loaded here', async () => {
      await ask({ needs_yes: true }, fixtures.free, back);
      expect(box(/^Carry/)!.checked).toBe(false);
      expect(box(/^Allow/)).toBeNull();
      expect(await moved()).toEqual({});
      await ask({ needs_yes: true }, fixtures.free, back);
      await tick(/^Carry/);
      expect(box(/^Allow that for gpu-vm/)!.checked).toBe(false);
      // The server then asks.
      expect(await moved()).toEqual({ carry: true });
      await ask({ needs_yes: true }, fixtures.free, { ...back, carry: true });
      await tick(/^Allow/);
      expect(await moved()).toEqual({ carry: true, allow_carry: true });
      await ask({ needs_yes: true }, fixtures.free, back);
      await tick(/^Carry/);
      await tick(/^Allow/);
      await tick(/^Carry/);
      expect(box(/^Allow/)).toBeNull();
      expect(await moved()).toEqual({});
    });

    it('opens its list with Enter, and moves nothing by that', async () => {
      await ask({});
      const summary = row()!.querySelector('summary')!;
      await key(summary, 'Enter');
      expect(document.querySelector('.jp-Dialog')).not.toBeNull();
      await press('Cancel');
    });

    it('carries them unasked as the dialog would, and asks where a yes is needed', async () => {
      await known.add(fixtures.cpu.id);
      const quiet = { confirm: false };
      await ask({}, fixtures.cpu, quiet);
      expect(await answer).toEqual({ carry: true });
      await ask({ bytes: 2 ** 30 }, fixtures.cpu, quiet);
      expect(await answer).toEqual({});
      await ask({ bytes: 2 ** 30 }, fixtures.cpu, { ...quiet, carry: true });
      expect(await answer).toEqual({ carry: true });
      await ask({ needs_yes: true }, fixtures.free, { ...back, ...quiet });
      await waitFor(() => expect(box(/^Carry/)).not.toBeNull());
      await press('Cancel');
      // Who has said it before need not say it again.
      await ask({ state: 'busy' }, fixtures.free, { ...back, busy: true, carry: true });
      expect(box(/^Carry/)!.checked).toBe(true);
      expect(await moved()).toEqual({ carry: true });
    });
  });

  it('asks all the same where something must be known', async () => {
    await known.add(fixtures.cpu.id);
    const quiet = { confirm: false };
    await open(fixtures.cpu, quiet);
    expect(await answer).toEqual({});
    expect(document.querySelector('.jp-Dialog')).toBeNull();
    model.found = () => Promise.reject(new Error('no answer'));
    await open(fixtures.cpu, quiet);
    expect(await answer).toEqual({});
    model.found = async () => missing;
    await known.add(fixtures.gpu.id);
    const reasons: [ICompute, Partial<IMoveOptions>][] = [
      [fixtures.cpu, {}], // missing modules
      [fixtures.gpu, {}], // is started
      [{ ...fixtures.cpu, id: 'azure:other' }, {}], // for the first time
      [fixtures.cpu, { busy: true }],
      [fixtures.cpu, { opened: { ...opened, sources: [], isShared: true } }]
    ];
    for (const [compute, more] of reasons) {
      await open(compute, { ...quiet, ...more });
      await waitFor(() => expect(document.querySelector('.jp-Dialog')).not.toBeNull());
      await press('Cancel');
      expect(await answer).toBeNull();
    }
  });
});
