import { nullTranslator } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { waitFor } from '@testing-library/dom';

import { addCommands, CommandIDs } from '../commands';
import { FolderChoices } from '../folderchoices';
import { KnownComputes } from '../knowncomputes';
import { RequestError } from '../request';
import { settle } from './fakeServer';
import { FakeCurrent, FakeModel } from './fakeModel';
import { FakeSettings } from './fakeSettings';
import { closeDialogs } from './closeDialogs';
import * as fixtures from './fixtures';

const onGpu = { ...fixtures.kernel, compute: fixtures.gpu.id };

describe('the commands', () => {
  let commands: CommandRegistry;
  let model: FakeModel;
  let current: FakeCurrent;
  let opened: number;
  let settings: FakeSettings;

  beforeEach(() => {
    commands = new CommandRegistry();
    model = new FakeModel();
    current = new FakeCurrent();
    opened = 0;
    settings = new FakeSettings();
    addCommands(commands, {
      model,
      current,
      known: new KnownComputes(null),
      folders: new FolderChoices(null),
      settings,
      trans: nullTranslator.load('jupyter_dsvm'),
      openPanel: () => opened++
    });
  });

  afterEach(() => {
    closeDialogs();
    document.body.textContent = '';
  });

  const press = async (label: string): Promise<void> => {
    const button = () =>
      [...document.querySelectorAll<HTMLElement>('.jp-Dialog-button')].find(
        ({ textContent }) => textContent === label
      );
    await waitFor(() => expect(button()).toBeDefined());
    button()!.click();
    await settle(50);
  };

  it('each have a label, a caption and a description of their arguments', async () => {
    for (const id of Object.values(CommandIDs)) {
      expect(commands.label(id)).not.toBe('');
      expect(commands.caption(id)).not.toBe('');
      expect((await commands.describedBy(id)).args).toMatchObject({ type: 'object' });
    }
  });

  it.each<[string, string, boolean]>([
    [CommandIDs.attach, 'gpu-vm', true],
    [CommandIDs.attach, 'cpu-vm', true],
    [CommandIDs.attach, 'lab', true],
    [CommandIDs.attach, 'win-vm', false],
    [CommandIDs.attach, 'Free tier', false],
    [CommandIDs.attach, 'nobody', false],
    [CommandIDs.start, 'gpu-vm', true],
    [CommandIDs.start, 'win-vm', true],
    [CommandIDs.start, 'cpu-vm', false],
    [CommandIDs.start, 'lab', false],
    [CommandIDs.stop, 'cpu-vm', true],
    [CommandIDs.stop, 'old-vm', true],
    [CommandIDs.stop, 'gpu-vm', false],
    [CommandIDs.stop, 'Free tier', false],
    [CommandIDs.restart, 'cpu-vm', true],
    [CommandIDs.restart, 'old-vm', false],
    [CommandIDs.resize, 'gpu-vm', true],
    [CommandIDs.resize, 'cpu-vm', true],
    [CommandIDs.resize, 'win-vm', true],
    [CommandIDs.resize, 'lab', false],
    [CommandIDs.resize, 'Free tier', false]
  ])('%s of %s is possible: %s', (id, compute, possible) => {
    expect(commands.isEnabled(id, { compute })).toBe(possible);
  });

  it('do not resize a machine that is asleep or busy', () => {
    model.computes = [{ ...fixtures.gpu, hibernated: true }, fixtures.cpu];
    model.operations = [{ ...fixtures.attach, compute: fixtures.cpu.id }];
    expect(commands.isEnabled(CommandIDs.resize, { compute: 'gpu-vm' })).toBe(false);
    expect(commands.isEnabled(CommandIDs.resize, { compute: 'cpu-vm' })).toBe(false);
    expect(commands.isEnabled(CommandIDs.resize)).toBe(false);
  });

  it('open the resize dialog', async () => {
    const done = commands.execute(CommandIDs.resize, { compute: 'gpu-vm' });
    await waitFor(() =>
      expect(document.querySelector('.jp-Dialog-header')?.textContent).toBe('Resize gpu-vm')
    );
    await press('Cancel');
    await done;
    expect(model.done).toEqual([]);
  });

  it('sign in by choosing how, and out where somebody signed in here', async () => {
    await commands.execute(CommandIDs.signIn);
    expect(opened).toBe(1);
    await commands.execute(CommandIDs.signOut);
    expect(model.done).toEqual([['choose'], ['sign out']]);
    model.signIn.status = { ...fixtures.signedIn, method: 'azure_cli' };
    expect(commands.isEnabled(CommandIDs.signOut)).toBe(false);
    model.signIn.status = null;
    expect(commands.isEnabled(CommandIDs.signIn)).toBe(false);
  });

  it('take an id as well as a name', () => {
    expect(commands.isEnabled(CommandIDs.attach, { compute: fixtures.gpu.id })).toBe(true);
  });

  it('need a notebook to attach, and one that is away to return', () => {
    expect(commands.isEnabled(CommandIDs.detach)).toBe(false);
    model.kernels = [onGpu];
    expect(commands.isEnabled(CommandIDs.detach)).toBe(true);
    expect(commands.isEnabled(CommandIDs.attach, { compute: 'gpu-vm' })).toBe(false);
    current.notebook = null;
    expect(commands.isEnabled(CommandIDs.detach)).toBe(false);
    expect(commands.isEnabled(CommandIDs.attach)).toBe(false);
    expect(
      commands.isEnabled(CommandIDs.attach, { compute: 'cpu-vm', kernel: fixtures.kernel.id })
    ).toBe(true);
  });

  it('do nothing to a machine or a notebook while an operation is under way', () => {
    model.operations = [fixtures.attach];
    model.kernels = [{ ...fixtures.kernel, moving_to: fixtures.gpu.id }];
    expect(commands.isEnabled(CommandIDs.start, { compute: 'gpu-vm' })).toBe(false);
    expect(commands.isEnabled(CommandIDs.attach, { compute: 'cpu-vm' })).toBe(false);
  });

  it('say so when what is possible may have changed', () => {
    let changes = 0;
    commands.commandChanged.connect(() => changes++);
    model.stateChanged.emit();
    current.changed.emit();
    expect(changes).toBe(2);
  });

  it('move after a yes, with the focus on Move', async () => {
    const done = commands.execute(CommandIDs.attach, { compute: 'gpu-vm' });
    await waitFor(() =>
      expect(document.querySelector('.jp-Dialog-header')?.textContent).toBe(
        'Move analysis.ipynb to gpu-vm?'
      )
    );
    await waitFor(() => expect(document.activeElement?.textContent).toBe('Move'));
    await waitFor(() => expect(document.body.textContent).toContain('84 MB'));
    await press('Move');
    await done;
    expect(model.done).toEqual([['move', 'k-1', { compute: fixtures.gpu.id, sync: true }]]);
  });

  it('move nothing after a no', async () => {
    const done = commands.execute(CommandIDs.attach, { compute: 'gpu-vm' });
    await press('Cancel');
    await done;
    expect(model.done).toEqual([]);
  });

  it('warn of JavaScript only the first time', async () => {
    for (const warned of [true, false]) {
      const done = commands.execute(CommandIDs.attach, { compute: 'gpu-vm' });
      await waitFor(() =>
        expect(
          document.querySelector('.jp-Dialog-content')?.textContent?.includes('JavaScript')
        ).toBe(warned)
      );
      await press('Move');
      await done;
    }
  });

  it('interrupt a running cell where a person wants that', async () => {
    current.notebook = { ...current.notebook!, busy: true };
    const done = commands.execute(CommandIDs.attach, { compute: 'gpu-vm' });
    await waitFor(() => expect(document.querySelector('.jp-Dsvm-busy')).not.toBeNull());
    await waitFor(() => expect(document.body.textContent).toContain('84 MB'));
    document.querySelector<HTMLElement>('.jp-Dsvm-busy input[value=interrupt]')!.click();
    await press('Move');
    await done;
    expect(model.done).toEqual([
      ['move', 'k-1', { compute: fixtures.gpu.id, interrupt: true, sync: true }]
    ]);
  });

  it('move unasked where a person wants that, but not while a cell runs or for the first time', async () => {
    settings.set({ confirmMove: false });
    const first = commands.execute(CommandIDs.attach, { compute: 'cpu-vm' });
    await press('Move');
    await first;
    await commands.execute(CommandIDs.attach, { compute: 'cpu-vm' });
    expect(model.done).toHaveLength(2);
    model.kernels = [{ ...fixtures.kernel, execution_state: 'busy' }];
    const busy = commands.execute(CommandIDs.attach, { compute: 'cpu-vm' });
    await press('Cancel');
    await busy;
    expect(model.done).toHaveLength(2);
    model.kernels = [onGpu];
    await commands.execute(CommandIDs.detach);
    expect(model.done[2]).toEqual(['move', 'k-1', { compute: 'free' }]);
  });

  describe('with variables', () => {
    const problem = {
      code: 'CarryNeedsYes',
      message: 'Loading what gpu-vm sends runs it here',
      advice: 'Say yes only to a machine you trust.'
    };
    const needsYes = new RequestError(problem, 409);
    const content = () => document.querySelector('.jp-Dialog-content')?.textContent;

    it('bring them along unasked where somebody has said so, and ask what the server asks', async () => {
      model.kernels = [onGpu];
      model.refusals = [needsYes];
      const done = commands.execute(CommandIDs.detach, { carry: true });
      await waitFor(() => expect(content()).toContain('Carry variables from gpu-vm?'));
      expect(content()).toContain('Loading what gpu-vm sends runs it here. Say yes only');
      await press('Carry them');
      await done;
      const request = { compute: 'free', carry: true };
      expect(model.done).toEqual([
        ['move', 'k-1', request],
        ['move', 'k-1', { ...request, allow_carry: true }]
      ]);
    });

    it('move nothing after a no to that', async () => {
      model.kernels = [onGpu];
      model.refusals = [needsYes];
      const done = commands.execute(CommandIDs.detach, { carry: true });
      await press('Not now');
      await done;
      expect(model.done).toHaveLength(1);
      expect(document.querySelector('.jp-Dialog')).toBeNull();
    });

    it('load what was saved, where it is', async () => {
      const saved = fixtures.savedVariables;
      const enabled = () =>
        [CommandIDs.loadVariables, CommandIDs.forgetVariables].map(id => commands.isEnabled(id));
      expect(enabled()).toEqual([false, false]);
      model.kernels = [{ ...fixtures.kernel, saved }];
      expect(enabled()).toEqual([false, true]);
      model.kernels = [{ ...onGpu, saved }];
      expect(enabled()).toEqual([true, true]);
      await commands.execute(CommandIDs.loadVariables);
      expect(model.done).toEqual([['load', 'k-1']]);
    });

    it('forget it after a yes', async () => {
      model.kernels = [{ ...fixtures.kernel, saved: fixtures.savedVariables }];
      const first = commands.execute(CommandIDs.forgetVariables);
      await waitFor(() => expect(content()).toContain('removed from the disk of gpu-vm'));
      await press('Cancel');
      await first;
      expect(model.done).toEqual([]);
      const second = commands.execute(CommandIDs.forgetVariables);
      await press('Forget them');
      await second;
      expect(model.done).toEqual([['forget', 'k-1']]);
    });
  });

  it.each([
    [CommandIDs.stop, 'Stop', { confirmStop: true }, {}],
    [CommandIDs.restart, 'Restart', { confirmRestart: true }, {}],
    [CommandIDs.stop, 'Stop', {}, { ask: true }]
  ])('%s asks where nothing runs too, if that is wanted (%#)', async (id, label, wanted, args) => {
    settings.set(wanted);
    const asked = commands.execute(id, { compute: 'cpu-vm', ...args });
    await waitFor(() =>
      expect(document.querySelector('.jp-Dialog-content')?.textContent).toContain(
        'No notebook of yours runs there.'
      )
    );
    await press(label);
    await asked;
    expect(model.done).toEqual([['change', fixtures.cpu.id, label.toLowerCase()]]);
  });

  it('return to the free tier', async () => {
    model.kernels = [onGpu];
    const done = commands.execute(CommandIDs.detach);
    await press('Move');
    await done;
    expect(model.done).toEqual([['move', 'k-1', { compute: 'free' }]]);
  });

  it('start at once, and stop only after a yes where notebooks run', async () => {
    await commands.execute(CommandIDs.start, { compute: 'gpu-vm' });
    await commands.execute(CommandIDs.stop, { compute: 'old-vm' });
    expect(model.done).toEqual([
      ['change', fixtures.gpu.id, 'start'],
      ['change', fixtures.old.id, 'stop']
    ]);
    model.computes = [{ ...fixtures.cpu, attached: ['train.ipynb'] }];
    const done = commands.execute(CommandIDs.stop, { compute: 'cpu-vm' });
    await waitFor(() =>
      expect(document.querySelector('.jp-Dialog-content')?.textContent).toContain(
        'train.ipynb runs there.'
      )
    );
    await press('Cancel');
    await done;
    expect(model.done).toHaveLength(2);
  });

  it('name what a stop loses, also where no notebook runs', async () => {
    const asked: string[] = [];
    model.loss = async compute => {
      asked.push(compute);
      return fixtures.stopLoss;
    };
    const done = commands.execute(CommandIDs.stop, { compute: 'cpu-vm' });
    await waitFor(() =>
      expect(document.querySelector('.jp-Dialog-content')?.textContent).toContain(
        fixtures.stopLoss.text
      )
    );
    await press('Cancel');
    await done;
    expect([asked, model.done]).toEqual([[fixtures.cpu.id], []]);
    // A machine that does not say it is stopped all the same, by what was known before.
    model.loss = () => Promise.reject(new Error('out of reach'));
    await commands.execute(CommandIDs.stop, { compute: 'cpu-vm' });
    expect(model.done).toEqual([['change', fixtures.cpu.id, 'stop']]);
    model.computes = [{ ...fixtures.cpu, idle: fixtures.idleStop }];
    const again = commands.execute(CommandIDs.stop, { compute: 'cpu-vm' });
    await waitFor(() =>
      expect(document.querySelector('.jp-Dialog-content')?.textContent).toContain(
        'Lost with its temporary disk: /mnt/scratch/model.bin.'
      )
    );
    await press('Cancel');
    await again;
    expect(asked).toHaveLength(1);
  });

  it('say of files that travel that they come back before a machine is stopped', async () => {
    const [workspace] = fixtures.workspaceList.workspaces;
    model.computes = [{ ...fixtures.cpu, attached: ['train.ipynb'] }];
    for (const [state, command, said] of [
      ['in_step', CommandIDs.stop, true],
      ['off', CommandIDs.stop, false],
      ['in_step', CommandIDs.restart, false]
    ] as const) {
      model.workspaces = [{ ...workspace, compute: fixtures.cpu.id, state }];
      const done = commands.execute(command, { compute: 'cpu-vm' });
      await settle(50);
      const text = document.querySelector('.jp-Dialog-content')?.textContent ?? '';
      expect(text).toContain('train.ipynb runs there.');
      expect(text.includes('Files that have changed there come back first.')).toBe(said);
      await press('Cancel');
      await done;
    }
  });

  it('name what is lost with the temporary disk before a machine is stopped, also where no notebook runs', async () => {
    model.computes = [{ ...fixtures.cpu, idle: fixtures.idleStop }];
    const done = commands.execute(CommandIDs.stop, { compute: 'cpu-vm' });
    await waitFor(() =>
      expect(document.querySelector('.jp-Dialog-content')?.textContent).toContain(
        'Lost with its temporary disk: /mnt/scratch/model.bin.'
      )
    );
    await press('Cancel');
    await done;
    const restart = commands.execute(CommandIDs.restart, { compute: 'cpu-vm' });
    await restart; // its disk stays: nothing to ask
    expect(model.done).toEqual([['change', fixtures.cpu.id, 'restart']]);
  });

  it('synchronize the files of the notebook in front', async () => {
    const [workspace] = fixtures.workspaceList.workspaces;
    const enabled = () => commands.isEnabled(CommandIDs.sync);
    expect(enabled()).toBe(false);
    model.workspaces = [{ ...workspace, state: 'copying' }];
    expect(enabled()).toBe(false);
    model.workspaces = [workspace];
    expect(enabled()).toBe(true);
    await commands.execute(CommandIDs.sync);
    expect(model.done).toEqual([['sync', 'w-1', {}]]);
  });

  it('show what the server said when it refuses', async () => {
    model.change = () => Promise.reject(new Error('it said no'));
    const done = commands.execute(CommandIDs.start, { compute: 'gpu-vm' });
    await waitFor(() =>
      expect(document.querySelector('.jp-Dialog-header')?.textContent).toBe(
        'gpu-vm was not started'
      )
    );
    await waitFor(() =>
      expect(document.querySelector('.jp-Dialog-body')?.textContent).toBe('it said no')
    );
    document.querySelector<HTMLElement>('.jp-Dialog-button')!.click();
    await done;
  });

  it('open the panel and ask again', async () => {
    await commands.execute(CommandIDs.open);
    await commands.execute(CommandIDs.refresh);
    expect(opened).toBe(1);
    expect(model.done).toEqual([['refresh']]);
  });

  it('tell machines of one name apart, in menus and where one is picked', async () => {
    const twin = { ...fixtures.gpu, id: 'azure:twin', resource_group: 'teaching' };
    model.set({ computes: [fixtures.free, fixtures.gpu, twin] });
    const label = (compute: string) => commands.label(CommandIDs.attach, { compute, menu: true });
    expect(label(fixtures.gpu.id)).toBe('gpu-vm · research · off');
    expect(label('azure:twin')).toBe('gpu-vm · teaching · off');
    void commands.execute(CommandIDs.start);
    await settle(50);
    const list = document.querySelector<HTMLSelectElement>('.jp-Dialog select')!;
    list.selectedIndex = 1;
    await press('Continue');
    expect(model.done).toEqual([['change', 'azure:twin', 'start']]);
  });

  describe('to reconnect', () => {
    const lost = (id: string, compute: string) => ({
      ...fixtures.kernel,
      id,
      compute,
      link: { ...fixtures.local, state: 'reconnecting' as const, attempt: 2 }
    });

    it('is there for a machine that does not answer, and for no other', () => {
      model.kernels = [fixtures.kernel, lost('k-2', fixtures.cpu.id)];
      const enabled = (compute?: string) =>
        commands.isEnabled(CommandIDs.reconnect, compute ? { compute } : {});
      expect(enabled(fixtures.cpu.id)).toBe(true);
      expect(enabled(fixtures.gpu.id)).toBe(false);
      expect(enabled()).toBe(false);
      model.kernels = [lost(fixtures.kernel.id, fixtures.gpu.id)];
      expect(enabled()).toBe(true);
    });

    it('asks for the notebook in front, or for the one that is there', async () => {
      model.kernels = [
        lost(fixtures.kernel.id, fixtures.cpu.id),
        lost('k-2', fixtures.cpu.id),
        lost('k-3', fixtures.gpu.id)
      ];
      await commands.execute(CommandIDs.reconnect);
      await commands.execute(CommandIDs.reconnect, { compute: fixtures.cpu.id });
      await commands.execute(CommandIDs.reconnect, { compute: fixtures.gpu.id });
      expect(model.done).toEqual([
        ['reconnect', fixtures.kernel.id],
        ['reconnect', fixtures.kernel.id],
        ['reconnect', 'k-3']
      ]);
    });
  });
});
