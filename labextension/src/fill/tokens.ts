import { NotebookPanel } from '@jupyterlab/notebook';
import { ServerConnection } from '@jupyterlab/services';
import { TranslationBundle } from '@jupyterlab/translation';

import { ISettings } from '../settings';

export interface IFillOptions {
  panel: NotebookPanel;
  serverSettings: ServerConnection.ISettings;
  settings: Pick<ISettings, 'fillOutputs' | 'changed'>;
  trans: TranslationBundle;
}
