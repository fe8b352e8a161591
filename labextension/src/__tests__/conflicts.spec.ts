import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { Contents, ServerConnection } from '@jupyterlab/services';
import { nullTranslator } from '@jupyterlab/translation';
import { Signal } from '@lumino/signaling';

import { IFileState } from '../api';
import { knowOwnChanges } from '../conflicts';

const trans = nullTranslator.load('');
const first = { last_modified: '2026-03-01T12:00:00Z', hash: '1' };
const second = { last_modified: '2026-03-01T12:01:00Z', hash: '2' };
const third = { last_modified: '2026-03-01T12:02:00Z', hash: '3' };

/** A page that has the notebook as it was in one state, and finds it in another when it saves. */
async function saving(
  mine: Partial<IFileState>,
  disk: Partial<IFileState>,
  states: IFileState[],
  status = 200
): Promise<string[]> {
  const did: string[] = [];
  const model = (state: object) => ({ path: 'a.ipynb', ...state }) as Contents.IModel;
  const context = {
    sessionContext: { session: { kernel: { id: 'k-1' } } },
    _contentsModel: model(mine),
    get contentsModel() {
      return { ...this._contentsModel };
    },
    _raiseConflict: async () => did.push('asks'),
    _maybeSave: async () => did.push(`saves over ${context._contentsModel.last_modified}`)
  };
  const widgetAdded = new Signal<object, NotebookPanel>({});
  const settings = ServerConnection.makeSettings({
    fetch: async () =>
      new Response(JSON.stringify({ files: [{ path: 'a.ipynb', states }] }), { status })
  });
  knowOwnChanges({ widgetAdded } as unknown as INotebookTracker, settings, trans);
  widgetAdded.emit({ context } as unknown as NotebookPanel);
  await (context._raiseConflict as (disk: object, options: object) => Promise<unknown>)(
    model(disk),
    {}
  );
  return did;
}

describe('a notebook whose file has changed on disk', () => {
  it.each([
    ['once', first, second, [first, second]],
    ['twice', first, third, [first, second, third]],
    ['again', second, third, [first, second, third]]
  ])(
    'is saved without a question where only outputs were put in, %s',
    async (_, mine, disk, states) => {
      expect(await saving(mine, disk, states)).toEqual([`saves over ${disk.last_modified}`]);
    }
  );

  it('is told by its time where there is no hash', async () => {
    const bare = ({ last_modified }: IFileState) => ({ last_modified, hash: null });
    expect(await saving(bare(first), bare(second), [first, second].map(bare))).toHaveLength(1);
    expect(await saving(bare(first), bare(third), [first, second].map(bare))).toEqual(['asks']);
  });

  it.each([
    ['somebody has saved it since', first, third, [first, second]],
    ['somebody had saved it before', first, third, [second, third]],
    ['nothing was put in', first, second, []]
  ])('is asked about where %s', async (_, mine, disk, states) => {
    expect(await saving(mine, disk, states)).toEqual(['asks']);
  });

  it('is asked about where the server does not say', async () => {
    expect(await saving(first, second, [first, second], 404)).toEqual(['asks']);
  });

  it('is left to a JupyterLab that does it in another way', () => {
    const widgetAdded = new Signal<object, NotebookPanel>({});
    const context = { sessionContext: {} };
    knowOwnChanges(
      { widgetAdded } as unknown as INotebookTracker,
      ServerConnection.makeSettings(),
      trans
    );
    widgetAdded.emit({ context } as unknown as NotebookPanel);
    expect(Object.keys(context)).toEqual(['sessionContext']);
  });
});
