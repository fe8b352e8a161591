import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';

import { notebookOf } from './current';

/** What the move dialog wants to know of a notebook that is open in the page. */
export interface IOpenedNotebook {
  path: string;
  /** Whether a cell is running. */
  busy: boolean;
  /** In lower case, as kernelspecs name it; empty where the notebook does not say. */
  language: string;
  /** The code cells as they are in the page, saved or not; null where their language is not Python. */
  sources: string[] | null;
  /** Whether others can work in it at the same time. */
  isShared: boolean;
  /** How many others do just now, as far as is known. */
  others: number;
}

/** The notebook of a kernel; null where the page has none open. */
export type FindOpened = (kernel: string) => IOpenedNotebook | null;

/** Looks among the notebooks that are open in this page; of several with one kernel the first counts. */
export function openedIn(tracker: INotebookTracker | null): FindOpened {
  return kernel => {
    const panel = tracker?.find(
      ({ sessionContext }) => sessionContext.session?.kernel?.id === kernel
    );
    return panel ? describe(panel) : null;
  };
}

function describe(panel: NotebookPanel): IOpenedNotebook {
  const { model } = panel.context;
  const { path, busy } = notebookOf(panel);
  const language = languageOf(panel);
  return {
    path,
    busy,
    language,
    sources: language === '' || language === 'python' ? sourcesOf(panel) : null,
    isShared: model.collaborative ?? false,
    others: model.collaborative ? others(model.sharedModel) : 0
  };
}

/** Cells that cannot import anything are left out: they need not travel. */
function sourcesOf(panel: NotebookPanel): string[] {
  return [...panel.context.model.cells]
    .filter(cell => cell.type === 'code')
    .map(cell => cell.sharedModel.getSource())
    .filter(source => source.includes('import'));
}

function languageOf(panel: NotebookPanel): string {
  const { model } = panel.context;
  const info = model.getMetadata('language_info') as { name?: unknown } | undefined;
  const spec = model.getMetadata('kernelspec') as { language?: unknown } | undefined;
  return String(info?.name ?? spec?.language ?? '').toLowerCase();
}

/** What there is of `y-protocols` in a shared document that somebody provides for. */
interface IAware {
  awareness?: { clientID: number; getStates(): Map<number, { user?: { username?: string } }> };
}

/**
 * People, not pages: somebody may have the notebook open twice. A page that has not said whose it is will soon, or is no more and
 * is remembered for half a minute.
 */
function others(shared: unknown): number {
  const awareness = (shared as IAware).awareness;
  if (!awareness) {
    return 0;
  }
  const states = awareness.getStates();
  const names = new Set<string>();
  states.forEach(({ user }) => user?.username && names.add(user.username));
  names.delete(states.get(awareness.clientID)?.user?.username ?? '');
  return names.size;
}
