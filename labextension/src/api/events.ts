/** What the server says by itself. */

/** Jupyter event that says which list changed and its new revision; never what changed in it. */
export const CHANGED_SCHEMA_ID = 'https://events.jupyter.org/jupyter_dsvm/changed';

/** The data of a Jupyter event with `CHANGED_SCHEMA_ID`. */
export interface IChanged {
  what: 'computes' | 'kernels' | 'operations' | 'signin' | 'questions' | 'workspaces' | 'spend';
  id?: string;
  revision: number;
}
