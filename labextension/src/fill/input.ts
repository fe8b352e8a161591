import { CodeCell, ICodeCellModel } from '@jupyterlab/cells';
import { Notebook } from '@jupyterlab/notebook';
import { OutputArea } from '@jupyterlab/outputarea';
import { Kernel, KernelMessage } from '@jupyterlab/services';
import { Widget } from '@lumino/widgets';

import { IInputRequest } from '../api';

/** What `input()` asks in a cell that another page has run: JupyterLab's own field for it, which answers the kernel. */
export class Prompts {
  constructor(private readonly _notebook: Notebook) {}

  /** Have the cell show these, and no others. */
  show(
    cell: ICodeCellModel,
    requests: readonly IInputRequest[],
    kernel: Kernel.IKernelConnection | null
  ): void {
    const area = this._areaOf(cell);
    const shown = this._shown.get(cell) ?? new Map<string, Widget>();
    for (const [id, field] of shown) {
      if (!requests.some(request => request.id === id)) {
        shown.delete(id);
        // One that was answered here goes by itself, and keeps the focus for a moment.
        if (!field.isDisposed && !field.hasClass(HIDING)) {
          field.dispose();
        }
      }
    }
    for (const request of requests) {
      const isThere = shown.get(request.id)?.isDisposed === false;
      if (area && kernel && !isThere && !this._answered.has(request.id)) {
        const field = this._ask(area, request, kernel);
        if (field) {
          shown.set(request.id, field);
        }
      }
    }
    this._shown.set(cell, shown);
  }

  private _ask(
    area: OutputArea,
    request: IInputRequest,
    kernel: Kernel.IKernelConnection
  ): Widget | null {
    const header: KernelMessage.IHeader<'input_request'> = {
      msg_id: request.id,
      msg_type: 'input_request',
      session: '',
      username: '',
      date: '',
      version: ''
    };
    // Of a future, the field uses this only. (The area would take no future of a request that this page has not sent.)
    const future = {
      sendInputReply: (
        content: KernelMessage.IInputReplyMsg['content'],
        parent: KernelMessage.IInputReplyMsg['parent_header']
      ): void => {
        this._answered.add(request.id);
        kernel.sendInputReply(content, parent);
      }
    };
    const { prompt, password } = request;
    (area as unknown as IAsking).onInputRequest({ header, content: { prompt, password } }, future);
    return area.widgets[area.widgets.length - 1] ?? null;
  }

  private _areaOf(cell: ICodeCellModel): OutputArea | null {
    const widget = this._notebook.widgets.find(({ model }) => model === cell);
    return (widget as CodeCell | undefined)?.outputArea ?? null;
  }

  private readonly _shown = new WeakMap<ICodeCellModel, Map<string, Widget>>();
  private readonly _answered = new Set<string>();
}

/** What `OutputArea` has for its own future's questions. */
interface IAsking {
  onInputRequest(message: object, future: object): void;
}

const HIDING = 'jp-OutputArea-stdin-hiding';
