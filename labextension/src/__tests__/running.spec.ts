import { nullTranslator } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { waitFor } from '@testing-library/dom';

import { ICompute } from '../api';
import { CommandIDs } from '../commands';
import { RequestError } from '../request';
import { RunningMachines, runningMachines } from '../running';
import { FakeModel } from './fakeModel';
import { closeDialogs } from './closeDialogs';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');

const busy: ICompute = {
  ...fixtures.gpu,
  power_state: 'running',
  attached: ['work/analysis.ipynb', 'train.ipynb']
};
const lab: ICompute = { ...fixtures.host, attached: ['b.ipynb'] };

describe('the Running section', () => {
  let model: FakeModel;
  let commands: CommandRegistry;
  let section: RunningMachines;
  let done: unknown[][];

  beforeEach(() => {
    model = new FakeModel();
    commands = new CommandRegistry();
    done = [];
    for (const id of [CommandIDs.open, CommandIDs.stop]) {
      commands.addCommand(id, { execute: args => done.push([id, args]) });
    }
    section = new RunningMachines({ model, commands, trans });
  });

  afterEach(() => {
    closeDialogs();
    document.body.textContent = '';
  });

  it('has what is on, billed, changing or attached, and nothing else', () => {
    // Off: gpu-vm, win-vm; a host is not ours to watch unless a notebook is there.
    expect(runningMachines(model).map(c => c.name)).toEqual(['cpu-vm', 'old-vm']);
    model.operations = [fixtures.attach];
    expect(runningMachines(model).map(c => c.name)).toEqual(['cpu-vm', 'gpu-vm', 'old-vm']);
    model.operations = [];
    model.computes = [fixtures.free, lab];
    expect(runningMachines(model).map(c => c.name)).toEqual(['lab']);
  });

  it('shows a machine with its state, price and notebooks', () => {
    model.computes = [fixtures.free, busy];
    const [item] = section.running({ mode: 'tree' });
    expect(item.label()).toBe('gpu-vm · on');
    expect(item.detail?.()).toBe('~$0.53/h');
    expect(item.labelTitle?.()).toBe('gpu-vm: Running analysis.ipynb and train.ipynb.');
    expect(item.children?.map(child => child.label())).toEqual(['analysis.ipynb', 'train.ipynb']);
    expect(section.running({ mode: 'list' })[0].children).toBeUndefined();
    item.open?.();
    item.children?.[1].open?.();
    expect(done).toEqual([
      [CommandIDs.open, {}],
      [CommandIDs.open, {}]
    ]);
  });

  it('stops a machine by the command that asks', () => {
    model.computes = [busy];
    section.running({ mode: 'tree' })[0].shutdown?.();
    expect(section.shutdownLabel()).toBe('Stop');
    expect(done).toEqual([[CommandIDs.stop, { compute: busy.id, ask: true }]]);
  });

  it('has no button for a host, nor for what is changing', () => {
    model.computes = [lab, { ...fixtures.cpu, power_state: 'starting' }];
    expect(section.running({ mode: 'tree' }).map(item => item.shutdown)).toEqual([
      undefined,
      undefined
    ]);
    expect(section.shutdownAllConfirmationText()).toBe(
      'There is no machine that could be stopped now.'
    );
    section.shutdownAll();
    expect(model.done).toEqual([]);
  });

  it('names the machines and notebooks that “Stop All” affects', async () => {
    model.computes = [fixtures.free, fixtures.cpu, busy, lab];
    expect(section.shutdownAllConfirmationText()).toBe(
      'Stop cpu-vm, gpu-vm? These notebooks run there: work/analysis.ipynb (gpu-vm), train.ipynb (gpu-vm). ' +
        'Their variables will be lost, and they go back to the free tier; the files and their outputs stay.'
    );
    section.shutdownAll();
    await waitFor(() =>
      expect(model.done).toEqual([
        ['change', fixtures.cpu.id, 'stop'],
        ['change', busy.id, 'stop']
      ])
    );
    model.computes = [fixtures.cpu];
    expect(section.shutdownAllConfirmationText()).toBe('Stop cpu-vm? No notebook runs there.');
  });

  it('says which machine was not stopped, and stops the others', async () => {
    model.computes = [fixtures.cpu, busy];
    const change = model.change.bind(model);
    jest.spyOn(model, 'change').mockImplementation(async (compute, action) => {
      if (compute === busy.id) {
        throw new RequestError(fixtures.problem, 409);
      }
      return change(compute, action);
    });
    section.shutdownAll();
    await waitFor(() =>
      expect(document.querySelector('.jp-Dialog')?.textContent).toContain(
        `gpu-vm: ${fixtures.problem.message}`
      )
    );
    expect(document.querySelector('.jp-Dialog')?.textContent).toContain(
      'Not every machine was stopped'
    );
    expect(model.done).toEqual([['change', fixtures.cpu.id, 'stop']]);
  });

  it('follows the model, and has the cloud asked when a person wants that', () => {
    let changes = 0;
    section.runningChanged.connect(() => changes++);
    model.set({ computes: [] });
    expect(changes).toBe(1);
    section.refreshRunning();
    expect(model.done).toEqual([['refresh']]);
  });
});
