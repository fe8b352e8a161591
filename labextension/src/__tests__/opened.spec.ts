import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';

import { openedIn } from '../opened';

interface IStates {
  [client: number]: { user?: { username?: string } };
}

const cell = (type: string, source: string) => ({ type, sharedModel: { getSource: () => source } });

const trackerOf = (more: object, metadata: Record<string, unknown> = {}): INotebookTracker => {
  const panel = {
    sessionContext: { session: { kernel: { id: 'k-1', status: 'busy' } } },
    context: {
      path: 'work/a.ipynb',
      model: {
        cells: [cell('code', 'import a'), cell('markdown', 'import b'), cell('code', 'x = 1')],
        getMetadata: (key: string) => metadata[key],
        sharedModel: {},
        ...more
      }
    }
  } as unknown as NotebookPanel;
  return {
    find: (test: (panel: NotebookPanel) => boolean) => (test(panel) ? panel : undefined)
  } as unknown as INotebookTracker;
};

const shared = (states: IStates) => ({
  collaborative: true,
  sharedModel: {
    awareness: {
      clientID: 1,
      getStates: () => new Map(Object.entries(states).map(([id, state]) => [Number(id), state]))
    }
  }
});

describe('a notebook that is open in the page', () => {
  it('is found by its kernel, with the cells that import something', () => {
    const find = openedIn(trackerOf({}));
    expect(find('k-2')).toBeNull();
    expect(find('k-1')).toEqual({
      path: 'work/a.ipynb',
      busy: true,
      language: '',
      sources: ['import a'],
      isShared: false,
      others: 0
    });
    expect(openedIn(null)('k-1')).toBeNull();
  });

  it.each([
    [{ language_info: { name: 'R' } }, null],
    [{ kernelspec: { language: 'julia' } }, null],
    [{ language_info: { name: 'python' }, kernelspec: { language: 'R' } }, ['import a']]
  ])('shows the code of Python only (%#)', (metadata, sources) => {
    expect(openedIn(trackerOf({}, metadata))('k-1')?.sources).toEqual(sources);
  });

  it('counts the others, not their pages, nor a page that has not said whose it is', () => {
    const ada = { user: { username: 'ada' } };
    const bob = { user: { username: 'bob' } };
    const find = openedIn(trackerOf(shared({ 1: ada, 2: ada, 3: bob, 4: bob, 5: {} })));
    expect(find('k-1')).toMatchObject({ isShared: true, others: 1 });
    expect(openedIn(trackerOf({ collaborative: true }))('k-1')).toMatchObject({
      isShared: true,
      others: 0
    });
  });
});
