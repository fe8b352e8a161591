import { TranslationBundle } from '@jupyterlab/translation';

import type * as dialogs from './dialogs';

/** The dialogs, fetched once. Rejects with a sentence for people where the server has them no more, or is not reached. */
export async function loadDialogs(trans: TranslationBundle): Promise<typeof dialogs> {
  try {
    return await import('./dialogs');
  } catch (reason) {
    console.warn('jupyter-dsvm: the dialogs could not be loaded', reason);
    throw new Error(
      trans.__(
        'A part of this page could not be loaded: the server is not reached, or has been upgraded. Load the page again.'
      )
    );
  }
}
