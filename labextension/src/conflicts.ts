import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { Contents, ServerConnection } from '@jupyterlab/services';
import { TranslationBundle } from '@jupyterlab/translation';

import { IFileState, ISavedOutputs } from './api';
import { request } from './request';

type Raise = (disk: Contents.IModel, options: object) => Promise<Contents.IModel>;

/** What there is of a `Context` to hook into. */
interface IContext {
  contentsModel: Contents.IModel | null;
  _contentsModel: Contents.IModel;
  _raiseConflict?: Raise;
  _maybeSave(options: object): Promise<Contents.IModel>;
}

/**
 * Have a notebook saved without a question where its file has changed only by what its cells have put out.
 *
 * The server puts that into the file while it sees no page, and so also while this page's computer sleeps. The page gets the same
 * outputs when it is back; JupyterLab would then say that the file has changed on disk, and ask. JupyterLab 4 has no other place for
 * this than a private method; where a version does not have it, it asks.
 */
export function knowOwnChanges(
  tracker: INotebookTracker,
  settings: ServerConnection.ISettings,
  trans: TranslationBundle
): void {
  tracker.widgetAdded.connect((_, { context }) => hook(context, settings, trans));
}

function hook(
  context: NotebookPanel['context'],
  settings: ServerConnection.ISettings,
  trans: TranslationBundle
): void {
  const inner = context as unknown as IContext;
  const raise = inner._raiseConflict?.bind(inner);
  if (!raise) {
    return;
  }
  inner._raiseConflict = async (disk, options) => {
    const mine = inner.contentsModel;
    const kernel = context.sessionContext.session?.kernel?.id;
    const saved =
      kernel &&
      (await request<ISavedOutputs>(
        `kernels/${encodeURIComponent(kernel)}/saved`,
        settings,
        trans
      ).catch(() => null));
    const states = (saved && saved.files.find(({ path }) => path === disk.path)?.states) || [];
    const now = states[states.length - 1];
    if (!now || !mine || !isAt(disk, now) || !states.some(state => isAt(mine, state))) {
      return raise(disk, options);
    }
    const { hash, last_modified } = disk;
    inner._contentsModel = { ...mine, hash, last_modified };
    return inner._maybeSave(options);
  };
}

function isAt(file: Contents.IModel, { hash, last_modified }: IFileState): boolean {
  return file.hash && hash ? file.hash === hash : file.last_modified === last_modified;
}
