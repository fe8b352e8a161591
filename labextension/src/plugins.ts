/** The plugins for what of Compute is shown outside the panel: status bar, Running, launcher. And its settings. */
import { ILabShell, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { INotebookTracker } from '@jupyterlab/notebook';
import { IRunningSessionManagers } from '@jupyterlab/running';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { AttachedKernelspecs } from './attachedspecs';
import { CurrentNotebook } from './current';
import { RunningMachines } from './running';
import { ISettings, Settings } from './settings';
import { ComputeStatus } from './status';
import { IComputeModel, IMetricsModel } from './tokens';

const TRANSLATION_DOMAIN = 'jupyter_dsvm';

/** Whose schema has the settings: that of the panel and its commands. */
const SETTINGS_ID = 'jupyter-dsvm:plugin';

/** On the left, behind what JupyterLab has there of kernels; a higher one is closer to the middle. */
const STATUS_RANK = 3;

export const settingsPlugin: JupyterFrontEndPlugin<ISettings> = {
  id: 'jupyter-dsvm:settings',
  description:
    'What a person has chosen in the settings of “Compute”; the defaults until it is loaded.',
  autoStart: true,
  provides: ISettings,
  optional: [ISettingRegistry],
  activate: (_: JupyterFrontEnd, registry: ISettingRegistry | null): ISettings => {
    const settings = new Settings();
    // Not waited for: the panel need not be late for them.
    registry
      ?.load(SETTINGS_ID)
      .then(loaded => settings.use(loaded))
      .catch(reason => {
        console.warn('jupyter-dsvm: the settings could not be loaded; the defaults count', reason);
      });
    return settings;
  }
};

export const statusPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-dsvm:status',
  description:
    'The status bar’s item that says where the notebook runs and how much of it is in use.',
  autoStart: true,
  requires: [IComputeModel, ISettings],
  optional: [IStatusBar, ILabShell, INotebookTracker, IMetricsModel, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    model: IComputeModel,
    settings: ISettings,
    bar: IStatusBar | null,
    shell: ILabShell | null,
    tracker: INotebookTracker | null,
    metrics: IMetricsModel | null,
    translator: ITranslator | null
  ): void => {
    if (!bar) {
      return; // Notebook 7 has none
    }
    const item = new ComputeStatus({
      model,
      metrics,
      settings,
      current: new CurrentNotebook(tracker),
      isInFront: () => !shell || shell.currentWidget === tracker?.currentWidget,
      commands: app.commands,
      trans: (translator ?? nullTranslator).load(TRANSLATION_DOMAIN)
    });
    shell?.currentChanged.connect(() => item.refresh());
    bar.registerStatusItem(statusPlugin.id, {
      item,
      align: 'left',
      rank: STATUS_RANK,
      isActive: () => item.isActive,
      activeStateChanged: item.activeStateChanged
    });
  }
};

export const runningPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-dsvm:running',
  description: 'The section “Virtual Machines” of the Running panel.',
  autoStart: true,
  requires: [IComputeModel],
  optional: [IRunningSessionManagers, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    model: IComputeModel,
    managers: IRunningSessionManagers | null,
    translator: ITranslator | null
  ): void => {
    const trans = (translator ?? nullTranslator).load(TRANSLATION_DOMAIN);
    managers?.add(new RunningMachines({ model, commands: app.commands, trans }));
  }
};

export const kernelspecPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-dsvm:kernelspecs',
  description: 'Has launcher and kernel picker show the kernels of machines that notebooks run on.',
  autoStart: true,
  requires: [IComputeModel],
  activate: (app: JupyterFrontEnd, model: IComputeModel): void => {
    new AttachedKernelspecs(model, app.serviceManager.kernelspecs);
  }
};

export const fillPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-dsvm:fill',
  description: 'Fills the cells of a notebook with what they have put out while no page was there.',
  autoStart: true,
  requires: [ISettings, INotebookTracker],
  optional: [ITranslator],
  activate: (
    app: JupyterFrontEnd,
    settings: ISettings,
    tracker: INotebookTracker,
    translator: ITranslator | null
  ): void => {
    const trans = (translator ?? nullTranslator).load(TRANSLATION_DOMAIN);
    const { serverSettings } = app.serviceManager;
    // Of several views of one notebook the first one's; they show the same cells.
    const filled = new WeakSet<object>();
    tracker.widgetAdded.connect(async (_, panel) => {
      const { NotebookFill } = await import('./fill');
      if (!panel.isDisposed && !filled.has(panel.context)) {
        filled.add(panel.context);
        new NotebookFill({ panel, serverSettings, settings, trans });
      }
    });
  }
};
