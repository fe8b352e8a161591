import { Notification } from '@jupyterlab/apputils';
import { nullTranslator } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';

import { CommandIDs } from '../commands';
import { IOpenedNotebook } from '../opened';
import { SavedNotices } from '../variablecommands';
import { FakeModel } from './fakeModel';
import * as fixtures from './fixtures';

const saved = fixtures.savedVariables;
const away = { ...fixtures.kernel, saved };
const there = { ...away, compute: saved.compute };

describe('the offer of saved variables', () => {
  let model: FakeModel;
  let notices: SavedNotices;
  let loaded: unknown[];
  let opened: IOpenedNotebook | null;

  const start = (kernels = [away]) => {
    model = new FakeModel();
    model.kernels = kernels;
    loaded = [];
    opened = {
      path: 'a.ipynb',
      busy: false,
      language: 'python',
      sources: null,
      isShared: false,
      others: 0
    };
    const commands = new CommandRegistry();
    commands.addCommand(CommandIDs.loadVariables, { execute: args => loaded.push(args) });
    const trans = nullTranslator.load('jupyter_dsvm');
    notices = new SavedNotices({ model, opened: () => opened, commands, trans });
  };
  const shown = () => Notification.manager.notifications;

  afterEach(() => {
    notices.dispose();
    Notification.manager.dismiss();
  });

  it('comes when the notebook is attached again, once, and goes when they are loaded', () => {
    start();
    expect(shown()).toEqual([]);
    model.set({ kernels: [{ ...there, moving_to: 'free' }] });
    expect(shown()).toEqual([]);
    model.set({ kernels: [there] });
    expect(shown()).toMatchObject([
      { type: 'info', message: '12 variables were saved when gpu-vm stopped (1.2 GB).' }
    ]);
    const [load] = shown()[0].options.actions!;
    expect(load.label).toBe('Load');
    load.callback(new MouseEvent('click'));
    expect(loaded).toEqual([{ kernel: there.id }]);
    Notification.manager.dismiss();
    model.stateChanged.emit();
    expect(shown()).toEqual([]);
    model.set({ kernels: [away] });
    model.set({ kernels: [there] });
    expect(shown()).toHaveLength(1);
    model.set({ kernels: [{ ...there, saved: null }] });
    expect(shown()).toEqual([]);
  });

  it('does not come in a page that does not have the notebook, nor for what there was before', () => {
    start([there]);
    model.stateChanged.emit();
    expect(shown()).toEqual([]);
    opened = null;
    model.set({ kernels: [away] });
    model.set({ kernels: [there] });
    expect(shown()).toEqual([]);
  });
});
