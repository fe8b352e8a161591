/** Loaded with the first notebook: `index.ts` of the extension has what decides that. */
export { NotebookFill } from './notebook';
