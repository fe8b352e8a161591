import { ICodeCellModel } from '@jupyterlab/cells';
import { IOutput } from '@jupyterlab/nbformat';
import { NotebookModel, NotebookPanel } from '@jupyterlab/notebook';
import { OutputArea } from '@jupyterlab/outputarea';
import { RenderMimeRegistry, standardRendererFactories } from '@jupyterlab/rendermime';
import { Kernel, KernelConnection, ServerConnection } from '@jupyterlab/services';
import { nullTranslator } from '@jupyterlab/translation';
import { Signal } from '@lumino/signaling';
import { Widget } from '@lumino/widgets';

import { ICellRun, ICellRunList } from '../api';
import { NotebookFill } from '../fill';
import { FakeSettings } from './fakeSettings';
import * as fixtures from './fixtures';
import { FakeSocket, HEADER } from './frontEnd';

const stream = (text: string, name = 'stdout'): IOutput => ({ output_type: 'stream', name, text });

/** What the server has kept, and what it was asked. */
class Kept {
  readonly rows = new Map<string, ICellRun>();
  /** By cell, all outputs, for who asks from the beginning. */
  readonly whole = new Map<string, IOutput[]>();
  readonly asked: string[] = [];
  version = 100;
  sessions: string[] = [];
  status = 200;

  /** A cell's run is so now; only `kept` of its outputs are as they were. */
  has(cell: string, run: Partial<ICellRun> = {}, whole?: IOutput[]): void {
    this.version++;
    const before = this.rows.get(cell);
    const known = this.whole.get(cell) ?? [];
    this.whole.set(cell, whole ?? [...known.slice(0, run.kept ?? 0), ...(run.outputs ?? [])]);
    this.rows.set(cell, {
      ...(before ?? {
        ...fixtures.outputs.rows[0],
        cell,
        msg_id: `m-${cell}`,
        session: 'gone',
        source: `# ${cell}`,
        prompts: [],
        cut: null
      }),
      state: 'done',
      status: 'ok',
      execution_count: 1,
      ended: '2026-03-01T12:00:00.000000Z',
      kept: 0,
      kept_text: 0,
      version: this.version,
      ...run
    });
  }

  readonly answer = async (input: RequestInfo): Promise<Response> => {
    const { method, url } = input as Request;
    const { pathname, searchParams } = new URL(url);
    if (!pathname.endsWith('/kernels/k/outputs') || !pathname.includes('jupyter-dsvm')) {
      return new Response('{}');
    }
    this.asked.push(`${method} ${searchParams.get('msg_id') ?? searchParams.get('since')}`);
    if (method === 'DELETE') {
      return new Response(null, { status: 204 });
    }
    const since = Number(searchParams.get('since'));
    const answer: ICellRunList = {
      version: this.version,
      rows: [...this.rows.values()]
        .filter(({ version }) => version > since)
        .map(row =>
          since ? row : { ...row, kept: 0, kept_text: 0, outputs: this.whole.get(row.cell)! }
        ),
      next: null,
      sessions: this.sessions
    };
    return new Response(JSON.stringify(answer), { status: this.status });
  };
}

/** A notebook of the cells a, b and c in a page, with a real kernel connection. */
class Opened {
  constructor(
    readonly kept = new Kept(),
    saved = '2026-03-01T11:00:00Z',
    held: Record<string, IOutput[]> = {}
  ) {
    this.serverSettings = ServerConnection.makeSettings({
      baseUrl: 'http://localhost/',
      WebSocket: FakeSocket as unknown as typeof WebSocket,
      fetch: kept.answer
    });
    this.kernel = new KernelConnection({
      model: { id: 'k', name: 'python3' },
      serverSettings: this.serverSettings
    });
    this.socket = FakeSocket.last;
    this.model.fromJSON({
      cells: ['a', 'b', 'c'].map(id => ({
        cell_type: 'code',
        id,
        source: `# ${id}`,
        metadata: {},
        outputs: held[id] ?? [],
        execution_count: held[id] ? 1 : null
      })),
      metadata: {},
      nbformat: 4,
      nbformat_minor: 5
    });
    this.model.dirty = false;
    this.areas = [...this.model.cells].map(cell => ({
      model: cell,
      outputArea: new OutputArea({
        model: (cell as ICodeCellModel).outputs,
        rendermime: this.rendermime
      })
    }));
    this.areas.forEach(({ outputArea }) => Widget.attach(outputArea, document.body));
    const panel = {
      context: {
        model: this.model,
        ready: Promise.resolve(),
        isReady: true,
        contentsModel: { last_modified: saved }
      },
      sessionContext: {
        session: { kernel: this.kernel },
        ready: Promise.resolve(),
        kernelChanged: new Signal(this),
        connectionStatusChanged: this.connection
      },
      content: { widgets: this.areas, rendermime: this.rendermime, activeCellIndex: 0 },
      contentHeader: {
        addWidget: (line: Widget) => {
          this.line = line;
          Widget.attach(line, document.body);
        }
      },
      disposed: new Signal(this)
    };
    this.fill = new NotebookFill({
      panel: panel as unknown as NotebookPanel,
      serverSettings: this.serverSettings,
      settings: this.settings,
      trans: nullTranslator.load('')
    });
  }

  readonly serverSettings: ServerConnection.ISettings;
  readonly kernel: KernelConnection;
  readonly socket: FakeSocket;
  readonly settings = new FakeSettings();
  readonly model = new NotebookModel();
  readonly rendermime = new RenderMimeRegistry({ initialFactories: standardRendererFactories });
  readonly areas: { model: unknown; outputArea: OutputArea }[];
  readonly connection = new Signal<this, Kernel.ConnectionStatus>(this);
  readonly fill: NotebookFill;
  line: Widget | null = null;

  cell(id: string): ICodeCellModel {
    return [...this.model.cells].find(cell => cell.id === id) as ICodeCellModel;
  }

  /** Text, number and state of the cell. */
  holds(id: string): [string, number | null, string] {
    const cell = this.cell(id);
    const text = cell.outputs.toJSON().map(output => output.text);
    return [text.join('|'), cell.executionCount, cell.executionState];
  }

  /** The kernel says something about somebody's request. */
  hear(msg_type: string, content: object, run: string, session = 'gone', channel = 'iopub'): void {
    const header = { ...HEADER, msg_id: `h${++this._count}`, msg_type };
    const parent_header = { ...HEADER, session, msg_id: run, msg_type: 'execute_request' };
    this.socket.onmessage({
      data: JSON.stringify({ channel, header, parent_header, metadata: {}, content })
    });
  }

  /** The page runs a cell; the request's id. */
  run(cellId: string): string {
    const future = this.kernel.requestExecute({ code: `# ${cellId}` }, true, { cellId });
    future.done.catch(() => undefined);
    return future.msg.header.msg_id;
  }

  dispose(): void {
    this.fill.dispose();
    this.areas.forEach(({ outputArea }) => outputArea.dispose());
    this.line?.dispose();
    this.kernel.dispose();
    this.model.dispose();
  }

  private _count = 0;
}

describe('a notebook that is opened', () => {
  let opened: Opened | null = null;

  const open = (...args: ConstructorParameters<typeof Opened>): Opened => {
    opened = new Opened(...args);
    return opened;
  };

  /** Until this is so. */
  const until = async (found: () => unknown): Promise<void> => {
    const end = performance.now() + 20_000;
    while (!found()) {
      if (performance.now() > end) {
        throw new Error(`It is not so: ${found}`);
      }
      await pass(10);
    }
  };

  const pass = (milliseconds: number): Promise<void> =>
    new Promise(resolve => setTimeout(resolve, milliseconds));

  beforeEach(() => {
    jest.spyOn(console, 'debug').mockImplementation(); // each kernel connection says that it opens
    jest.spyOn(console, 'warn').mockImplementation(); // @jupyter/ydoc reads texts before they belong to a document
  });

  afterEach(() => {
    opened?.dispose();
    opened = null;
  });

  it('gets what its cells have put out, and is to be saved', async () => {
    const kept = new Kept();
    kept.has('a', { outputs: [stream('one\n')] });
    kept.has('b', { outputs: [stream('x')], source: '# edited' });
    kept.has('c', { outputs: [], state: 'running', execution_count: 2, ended: null });
    const page = open(kept);
    await until(() => page.holds('c')[2] === 'running');
    expect(page.holds('a')).toEqual(['one\n', 1, 'idle']);
    expect(page.cell('a').trusted).toBe(true);
    expect(page.holds('b')).toEqual(['', null, 'idle']);
    expect(page.holds('c')).toEqual(['', null, 'running']);
    expect(page.model.dirty).toBe(true);
    await until(() => page.line?.node.textContent?.includes('Outputs that found no cell (1)'));
  });

  it('is not to be saved where it holds all that', async () => {
    const kept = new Kept();
    kept.has('a', { outputs: [stream('one\n')] });
    const page = open(kept, undefined, { a: [stream('one\n')] });
    await until(() => kept.asked.length > 0);
    await pass(50);
    expect(page.holds('a')).toEqual(['one\n', 1, 'idle']);
    expect(page.model.dirty).toBe(false);
  });

  it('goes on being filled while a cell runs, and asks no more than once for many messages', async () => {
    const kept = new Kept();
    const running: Partial<ICellRun> = { state: 'running', execution_count: null, ended: null };
    kept.has('a', { ...running, outputs: [stream(' 10%|#|')] });
    const page = open(kept);
    await until(() => page.holds('a')[0] === ' 10%|#|');
    const asked = kept.asked.length;
    kept.has('a', { ...running, outputs: [stream('100%|###|\n')] });
    for (let i = 0; i < 100; i++) {
      page.hear('stream', { name: 'stdout', text: 'never put in' }, 'm-a');
    }
    await until(() => page.holds('a')[0] === '100%|###|\n');
    expect(kept.asked.length - asked).toBeLessThanOrEqual(2);
    kept.has('a', { kept: 1, outputs: [stream('late\n', 'stderr')], execution_count: 5 });
    page.hear('status', { execution_state: 'idle' }, 'm-a');
    await until(() => page.holds('a')[2] === 'idle');
    expect(page.holds('a')).toEqual(['100%|###|\n|late\n', 5, 'idle']);
    // A thread that goes on after the end.
    kept.has('a', {
      kept: 1,
      kept_text: 5,
      outputs: [stream('later\n', 'stderr')],
      execution_count: 5
    });
    page.hear('stream', { name: 'stderr', text: '' }, 'm-a');
    await until(() => page.holds('a')[0].endsWith('late\nlater\n'));
  });

  it('leaves a cell alone that it has run itself', async () => {
    const kept = new Kept();
    const page = open(kept);
    await until(() => kept.asked.length > 0);
    const run = page.run('a');
    kept.has('a', { msg_id: 'older', outputs: [stream('older')] });
    kept.has('b', { msg_id: 'other', outputs: [stream('b')] });
    page.hear('stream', { name: 'stdout', text: '' }, 'other');
    await until(() => page.holds('b')[0] === 'b');
    kept.has('a', { msg_id: run, session: page.kernel.clientId, outputs: [stream('own')] });
    kept.has('b', { outputs: [stream('b2')] });
    page.hear('stream', { name: 'stdout', text: '' }, 'other');
    await until(() => page.holds('b')[0] === 'b2');
    expect(page.holds('a')).toEqual(['', null, 'idle']);
  });

  it('asks nothing for what it runs itself, nor again for what nobody keeps', async () => {
    const kept = new Kept();
    const page = open(kept);
    await until(() => kept.asked.length > 0);
    const run = page.run('a');
    page.hear('stream', { name: 'stdout', text: 'x' }, run, page.kernel.clientId);
    await pass(400);
    expect(kept.asked).toEqual(['GET 0']);
    page.hear('stream', { name: 'stdout', text: 'x' }, 'console');
    await until(() => kept.asked.length > 1);
    await pass(100);
    page.hear('stream', { name: 'stdout', text: 'x' }, 'console');
    await pass(400);
    expect(kept.asked.length).toBe(2);
  });

  it('is not to be saved where the page that has run it does that, until that page has gone', async () => {
    const kept = new Kept();
    kept.sessions = ['other'];
    kept.has('a', { session: 'other', outputs: [stream('one')] });
    const page = open(kept);
    await until(() => page.holds('a')[0] === 'one');
    await pass(50);
    expect(page.model.dirty).toBe(false);
    kept.sessions = [];
    page.hear('stream', { name: 'stdout', text: '' }, 'm-a');
    await until(() => page.model.dirty);
    expect(page.holds('a')).toEqual(['one', 1, 'idle']);
  });

  it('says what is not wanted any more: cleared, deleted, but neither moved nor run again', async () => {
    const kept = new Kept();
    for (const id of 'abc') {
      kept.has(id, { outputs: [stream(id)] });
    }
    const page = open(kept);
    await until(() => page.holds('c')[0] === 'c');
    page.cell('a').clearExecution();
    page.model.sharedModel.moveCell(1, 2);
    page.model.sharedModel.deleteCell(1);
    await until(() => kept.asked.filter(asked => asked.startsWith('DELETE')).length === 2);
    expect(kept.asked.slice(-2)).toEqual(['DELETE m-a', 'DELETE m-c']);
    page.cell('b').clearExecution();
    page.cell('b').executionState = 'running';
    page.run('b');
    await pass(1200);
    expect(kept.asked.filter(asked => asked.startsWith('DELETE')).length).toBe(2);
  });

  it('shows what input() asks, and answers it', async () => {
    const kept = new Kept();
    const asks: Partial<ICellRun> = {
      state: 'running',
      ended: null,
      execution_count: null,
      outputs: []
    };
    kept.has('a', { ...asks, prompts: [{ id: 'p1', prompt: 'name: ', password: false }] });
    const page = open(kept);
    const { outputArea } = page.areas[0];
    const field = (): HTMLInputElement | null => outputArea.node.querySelector('input');
    await until(field);
    page.hear('stream', { name: 'stdout', text: '' }, 'm-a');
    await pass(300);
    expect(outputArea.node.querySelectorAll('input').length).toBe(1);
    field()!.value = 'Ada';
    field()!.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter' }));
    const {
      channel,
      content,
      parent_header: parent
    } = JSON.parse(page.socket.sent[page.socket.sent.length - 1]);
    expect([channel, content, parent.msg_id]).toEqual([
      'stdin',
      { status: 'ok', value: 'Ada' },
      'p1'
    ]);
    kept.has('a', { prompts: [], outputs: [stream('name:  Ada\n', 'stdin')] });
    page.hear('status', { execution_state: 'idle' }, 'm-a');
    await until(() => page.holds('a')[1] === 1);
    expect(page.holds('a')).toEqual(['name:  Ada\n', 1, 'idle']);
    // Another page was faster.
    kept.has('b', { ...asks, prompts: [{ id: 'p2', prompt: '', password: true }] });
    page.hear('input_request', { prompt: '', password: true }, 'm-b', 'gone', 'stdin');
    const other = page.areas[1].outputArea;
    await until(() => other.node.querySelector('input[type=password]'));
    kept.has('b', { ...asks, prompts: [] });
    page.hear('stream', { name: 'stdout', text: '' }, 'm-b');
    await until(() => other.node.querySelector('input') === null);
  });

  it('marks nothing as running once the kernel is restarted', async () => {
    const kept = new Kept();
    kept.has('a', { state: 'running', ended: null, execution_count: null, outputs: [] });
    const page = open(kept);
    await until(() => page.holds('a')[2] === 'running');
    kept.has('a', { state: 'aborted', execution_count: null, outputs: [] });
    page.hear('status', { execution_state: 'restarting' }, '');
    await until(() => page.holds('a')[2] === 'idle');
  });

  it('asks for everything again where it lacks what an answer goes on from', async () => {
    const kept = new Kept();
    const page = open(kept);
    await until(() => kept.asked.length === 1);
    await pass(50);
    const two = stream('two', 'stderr');
    kept.has('a', { kept: 1, outputs: [two] }, [stream('one'), two]);
    page.hear('stream', { name: 'stdout', text: '' }, 'm-a');
    await until(() => page.holds('a')[0] === 'one|two');
    expect(kept.asked).toEqual(['GET 0', 'GET 100', 'GET 0']);
  });

  it('is filled only where the setting says so, and from then on', async () => {
    const kept = new Kept();
    kept.has('a', { outputs: [stream('one')] });
    kept.status = 404; // no kernel of ours: nothing is said
    const page = open(kept);
    await until(() => kept.asked.length > 0);
    kept.status = 200;
    page.settings.set({ fillOutputs: false });
    page.hear('stream', { name: 'stdout', text: '' }, 'm-a');
    await pass(400);
    expect(page.holds('a')).toEqual(['', null, 'idle']);
    page.settings.set({ fillOutputs: true });
    await until(() => page.holds('a')[0] === 'one');
    expect(console.warn).not.toHaveBeenCalledWith(
      expect.stringContaining('jupyter-dsvm'),
      expect.anything()
    );
  });

  it('does not offer any more what is run again', async () => {
    const kept = new Kept();
    kept.has('a', { source: '# other', outputs: [stream('x')] });
    const page = open(kept);
    await until(() => page.line?.node.textContent?.includes('(1)'));
    page.run('a');
    await until(() => page.line?.isHidden);
  });
});
