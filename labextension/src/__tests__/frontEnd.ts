/** JupyterLab's own front end without a network, and sequences of messages for it. */
import { readFileSync } from 'fs';
import * as path from 'path';

import { ISessionContext } from '@jupyterlab/apputils';
import { IOutput } from '@jupyterlab/nbformat';
import { OutputArea, OutputAreaModel } from '@jupyterlab/outputarea';
import { RenderMimeRegistry, standardRendererFactories } from '@jupyterlab/rendermime';
import { KernelConnection, ServerConnection } from '@jupyterlab/services';
import { Widget } from '@lumino/widgets';

/** As `tests/support/outputarea.py` describes it. */
export interface IEvent {
  do: 'execute' | 'iopub' | 'reply' | 'input' | 'restart';
  cell?: string;
  run?: string;
  type?: string;
  content?: Record<string, unknown>;
  prompt?: string;
  password?: boolean;
  value?: string;
}

export interface ICase {
  events: IEvent[];
  /** What a notebook holds that was watched all along. */
  cells: Record<string, IOutput[]>;
}

export const CASES = JSON.parse(
  readFileSync(path.join(__dirname, '../../../tests/data/cell_outputs.json'), 'utf8')
) as ICase[];

export const HEADER = {
  session: 'kernel',
  username: '',
  version: '5.4',
  date: '2026-01-01T00:00:00Z'
};

/** The kernel's end of a websocket, without a network. */
export class FakeSocket {
  static last: FakeSocket;
  /** Messages of the page. */
  readonly sent: string[] = [];
  readyState: number = WebSocket.OPEN;
  protocol = '';
  binaryType = '';
  onopen = () => {};
  onclose = () => {};
  onmessage = (_: { data: string }) => {};
  onerror = () => {};

  constructor() {
    FakeSocket.last = this;
    setTimeout(() => this.onopen());
  }

  send(data: string): void {
    this.sent.push(data);
    const { header } = JSON.parse(data);
    if (header.msg_type === 'kernel_info_request') {
      const about = { parent_header: header, metadata: {} };
      const answer = (channel: string, msg_type: string, content: object) =>
        this.onmessage({
          data: JSON.stringify({
            channel,
            header: { ...HEADER, msg_id: msg_type, msg_type },
            ...about,
            content
          })
        });
      answer('shell', 'kernel_info_reply', {
        status: 'ok',
        language_info: { name: 'python' },
        help_links: []
      });
      answer('iopub', 'status', { execution_state: 'idle' });
    }
  }

  close(): void {}
}

/** A real kernel connection and a real output area for each cell. */
export class Page {
  readonly areas = new Map<string, OutputArea>();

  /** Ids of requests by the names of runs. */
  private _ids = new Map<string, string>();
  private _count = 0;
  private _rendermime = new RenderMimeRegistry({ initialFactories: standardRendererFactories });
  private _kernel = new KernelConnection({
    model: { id: 'k', name: 'python3' },
    serverSettings: ServerConnection.makeSettings({
      baseUrl: 'http://localhost/',
      WebSocket: FakeSocket as unknown as typeof WebSocket,
      fetch: () => Promise.resolve(new Response('{}'))
    })
  });
  private _socket = FakeSocket.last;

  async happens(event: IEvent): Promise<void> {
    switch (event.do) {
      case 'execute':
        return this._execute(event.cell!, event.run!);
      case 'restart':
        // What both `restart()` and a kernel that says `restarting` come to.
        (this._kernel as unknown as { _clearKernelState: () => void })._clearKernelState();
        return;
      case 'iopub':
        return this._hear('iopub', event.type!, event.run!, event.content!);
      case 'reply':
        return this._hear('shell', 'execute_reply', event.run!, event.content!);
      case 'input':
        return this._type(event);
    }
  }

  dispose(): void {
    this.areas.forEach(area => area.dispose());
    this._kernel.dispose();
  }

  private async _execute(cell: string, run: string): Promise<void> {
    let area = this.areas.get(cell);
    if (!area) {
      area = new OutputArea({
        model: new OutputAreaModel({ trusted: true }),
        rendermime: this._rendermime
      });
      Widget.attach(area, document.body);
      this.areas.set(cell, area);
    }
    const context = { session: { kernel: this._kernel } } as unknown as ISessionContext;
    OutputArea.execute('code', area, context, { cellId: cell }).catch(() => {
      // Another execution of the cell takes its place, or the kernel is restarted.
    });
    this._ids.set(run, area.future.msg.header.msg_id);
  }

  private async _hear(
    channel: string,
    type: string,
    run: string,
    content: Record<string, unknown>
  ): Promise<void> {
    const message = {
      channel,
      header: { ...HEADER, msg_id: `m${++this._count}`, msg_type: type },
      parent_header: { ...HEADER, msg_id: this._ids.get(run), msg_type: 'execute_request' },
      metadata: {},
      content
    };
    this._socket.onmessage({ data: JSON.stringify(message) });
    await passed();
  }

  /** The kernel asks, and somebody types. */
  private async _type(event: IEvent): Promise<void> {
    const { prompt, password, run } = event;
    await this._hear('stdin', 'input_request', run!, { prompt, password });
    for (const area of this.areas.values()) {
      const input = area.node.querySelector<HTMLInputElement>('input.jp-Stdin-input');
      if (input && area.future.msg.header.msg_id === this._ids.get(run!)) {
        input.value = event.value!;
        input.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter' }));
        await passed();
        // The box goes half a second later, and the next one is to be found before.
        input.classList.remove('jp-Stdin-input');
      }
    }
  }
}

/** All that a message has set off. */
export function passed(): Promise<void> {
  return new Promise(resolve => setTimeout(resolve));
}
