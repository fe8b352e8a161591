import { ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, IToolbarWidgetRegistry } from '@jupyterlab/apputils';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { IStateDB } from '@jupyterlab/statedb';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { ComputeChip } from './chip';
import { addCommands, CommandIDs } from './commands';
import { CurrentNotebook } from './current';
import { Filters } from './filters';
import { keepFocus } from './focus';
import { FolderChoices } from './folderchoices';
import { BudgetNotices, IdleNotices } from './idlenotices';
import { memoryPlugin, metricsPlugin } from './memoryPlugins';
import { ComputeModel } from './model';
import { KnownComputes } from './knowncomputes';
import { notebooksPlugin } from './notebooksPlugin';
import { OperationNotifications } from './notifications';
import { deliverOnce } from './once';
import { openedIn } from './opened';
import { ComputePanel } from './panel';
import {
  fillPlugin,
  kernelspecPlugin,
  runningPlugin,
  settingsPlugin,
  statusPlugin
} from './plugins';
import { questionsPlugin } from './questions';
import { watchForMissedEvents } from './reconnect';
import { ISettings } from './settings';
import { IComputeModel, IMetricsModel } from './tokens';
import { SavedNotices } from './variablecommands';
import { WaitingCells } from './waitingcells';

export { ISettings } from './settings';
export { IComputeModel, IMetricsModel } from './tokens';

const TRANSLATION_DOMAIN = 'jupyter_dsvm';

/** Left sidebar; 501 to 899 are for third parties. */
const SIDEBAR_RANK = 550;

const oncePlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-dsvm:once',
  description: 'Has messages of kernels that are sent again after a break reach the page once.',
  autoStart: true,
  // It needs nothing else, so that it is there before the first notebook connects to its kernel.
  activate: (app: JupyterFrontEnd): void => deliverOnce(app.serviceManager.serverSettings)
};

const modelPlugin: JupyterFrontEndPlugin<IComputeModel> = {
  id: 'jupyter-dsvm:model',
  description:
    'What the page knows of the computes a notebook can run on, kept current by Jupyter events.',
  autoStart: true,
  provides: IComputeModel,
  optional: [ITranslator, INotebookTracker],
  activate: (
    app: JupyterFrontEnd,
    translator: ITranslator | null,
    tracker: INotebookTracker | null
  ): IComputeModel => {
    const { events, serverSettings } = app.serviceManager;
    const cells = new WaitingCells();
    const model = new ComputeModel({
      serverSettings,
      stream: events.stream,
      cells,
      trans: (translator ?? nullTranslator).load(TRANSLATION_DOMAIN)
    });
    watchForMissedEvents(events, () => model.resync());
    // JupyterLab starts a session under a made-up path and gives it the notebook's afterwards; no event tells of that,
    // nor of a later renaming.
    tracker?.widgetAdded.connect((_, { sessionContext }) => {
      cells.watch(sessionContext);
      sessionContext.sessionChanged.connect(() => model.resync());
      sessionContext.propertyChanged.connect((_, property) => {
        if (property === 'path') {
          model.resync();
        }
      });
    });
    return model;
  }
};

const panelPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-dsvm:plugin',
  description: 'The sidebar “Compute” and its commands.',
  autoStart: true,
  requires: [IComputeModel, ISettings],
  optional: [
    ITranslator,
    INotebookTracker,
    ICommandPalette,
    IStateDB,
    IMetricsModel,
    ILayoutRestorer
  ],
  activate: (
    app: JupyterFrontEnd,
    model: IComputeModel,
    settings: ISettings,
    translator: ITranslator | null,
    tracker: INotebookTracker | null,
    palette: ICommandPalette | null,
    state: IStateDB | null,
    metrics: IMetricsModel | null,
    restorer: ILayoutRestorer | null
  ): void => {
    const trans = (translator ?? nullTranslator).load(TRANSLATION_DOMAIN);
    const { commands, shell } = app;
    const current = new CurrentNotebook(tracker);
    const known = new KnownComputes(state);

    addCommands(commands, {
      model,
      current,
      known,
      folders: new FolderChoices(state),
      settings,
      trans,
      openPanel: () => shell.activateById(panel.id),
      opened: openedIn(tracker)
    });
    const filters = new Filters(settings);
    const panel = new ComputePanel({
      model,
      metrics,
      current,
      filters,
      settings,
      commands,
      trans
    });
    shell.add(panel, 'left', { rank: SIDEBAR_RANK, type: 'Compute' });
    // Open again in a page that is loaded again, if it was.
    restorer?.add(panel, panel.id);

    keepFocus(app);
    for (const command of Object.values(CommandIDs)) {
      palette?.addItem({ command, category: trans.__('Compute'), args: { isPalette: true } });
    }

    // What the page remembers of a kernel (its banner, its features) was the former backend's: ask again.
    model.kernelMoved.connect((_, { kernel }) => {
      tracker?.forEach(notebook => {
        const connection = notebook.sessionContext.session?.kernel;
        if (connection?.id === kernel.id) {
          connection.requestKernelInfo().catch(reason => {
            console.warn(
              `jupyter-dsvm: kernel ${kernel.id} moved but did not answer kernel_info_request`,
              reason
            );
          });
        }
      });
    });
  }
};

const chipPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-dsvm:chip',
  description: 'The notebook toolbar item that says where the notebook runs.',
  autoStart: true,
  requires: [IComputeModel, IToolbarWidgetRegistry],
  optional: [ITranslator],
  activate: (
    app: JupyterFrontEnd,
    model: IComputeModel,
    toolbars: IToolbarWidgetRegistry,
    translator: ITranslator | null
  ): void => {
    const trans = (translator ?? nullTranslator).load(TRANSLATION_DOMAIN);
    toolbars.addFactory<NotebookPanel>(
      'Notebook',
      'dsvm-compute',
      panel => new ComputeChip({ panel, model, commands: app.commands, trans })
    );
  }
};

const notificationPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-dsvm:notifications',
  description:
    'One notification per operation, updated in place; and the offer of saved variables.',
  autoStart: true,
  requires: [IComputeModel],
  optional: [ITranslator, INotebookTracker],
  activate: (
    { commands }: JupyterFrontEnd,
    model: IComputeModel,
    translator: ITranslator | null,
    tracker: INotebookTracker | null
  ): void => {
    const trans = (translator ?? nullTranslator).load(TRANSLATION_DOMAIN);
    new OperationNotifications(model, trans, commands);
    new SavedNotices({ model, opened: openedIn(tracker), commands, trans });
  }
};

const moneyPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-dsvm:money',
  description: 'Says when a machine that nobody uses is stopped soon, and when a budget is spent.',
  autoStart: true,
  requires: [IComputeModel, ISettings],
  optional: [ITranslator, INotebookTracker, IStateDB],
  activate: (
    { commands }: JupyterFrontEnd,
    model: IComputeModel,
    settings: ISettings,
    translator: ITranslator | null,
    tracker: INotebookTracker | null,
    state: IStateDB | null
  ): void => {
    const trans = (translator ?? nullTranslator).load(TRANSLATION_DOMAIN);
    new IdleNotices({ model, opened: openedIn(tracker), commands, settings, trans });
    new BudgetNotices({ model, state, commands, trans });
  }
};

export default [
  oncePlugin,
  modelPlugin,
  settingsPlugin,
  metricsPlugin,
  panelPlugin,
  chipPlugin,
  statusPlugin,
  runningPlugin,
  kernelspecPlugin,
  notificationPlugin,
  moneyPlugin,
  memoryPlugin,
  questionsPlugin,
  fillPlugin,
  notebooksPlugin
];
