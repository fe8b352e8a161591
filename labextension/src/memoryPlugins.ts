/** The plugins for what is in use: the figures, and the offers that are made of them. */
import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { CurrentNotebook } from './current';
import { MemoryOffers } from './memory';
import { MetricsModel } from './metrics';
import { ISettings } from './settings';
import { IComputeModel, IMetricsModel } from './tokens';

const TRANSLATION_DOMAIN = 'jupyter_dsvm';

export const metricsPlugin: JupyterFrontEndPlugin<IMetricsModel> = {
  id: 'jupyter-dsvm:metrics',
  description: 'How much of a compute is in use, asked for while somebody looks.',
  autoStart: true,
  provides: IMetricsModel,
  optional: [ITranslator],
  activate: (app: JupyterFrontEnd, translator: ITranslator | null): IMetricsModel =>
    new MetricsModel({
      serverSettings: app.serviceManager.serverSettings,
      trans: (translator ?? nullTranslator).load(TRANSLATION_DOMAIN)
    })
};

export const memoryPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-dsvm:memory',
  description: 'Offers a larger machine when the free tier’s memory is nearly full.',
  autoStart: true,
  requires: [IComputeModel, IMetricsModel],
  optional: [ITranslator, INotebookTracker, ISettings],
  activate: (
    app: JupyterFrontEnd,
    model: IComputeModel,
    metrics: IMetricsModel,
    translator: ITranslator | null,
    tracker: INotebookTracker | null,
    settings: ISettings | null
  ): void => {
    new MemoryOffers({
      model,
      metrics,
      current: new CurrentNotebook(tracker),
      commands: app.commands,
      settings,
      trans: (translator ?? nullTranslator).load(TRANSLATION_DOMAIN)
    });
  }
};
