/** The plugin for what is done to notebooks themselves. */
import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { knowOwnChanges } from './conflicts';
import { showDeadWidgets } from './widgets';

export const notebooksPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-dsvm:notebooks',
  description:
    'Saves a notebook whose file got outputs while no page was open, and shows widgets whose kernel is gone.',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ITranslator],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker,
    translator: ITranslator | null
  ): void => {
    const trans = (translator ?? nullTranslator).load('jupyter_dsvm');
    knowOwnChanges(tracker, app.serviceManager.serverSettings, trans);
    showDeadWidgets(tracker, trans);
  }
};
