import { ISessionContext } from '@jupyterlab/apputils';
import { Kernel, KernelMessage, Session } from '@jupyterlab/services';
import { ISignal, Signal } from '@lumino/signaling';

/**
 * Which cells this page has sent to kernels that have not begun to run: during a move they wait, and run in order where it ends.
 *
 * A cell begins with its `execute_input`; one that is aborted has a reply and nothing else.
 */
export class WaitingCells {
  /** The id of a kernel for which more or fewer wait. */
  get changed(): ISignal<this, string> {
    return this._changed;
  }

  count(kernel: string): number {
    return [...this._waiting.values()].filter(id => id === kernel).length;
  }

  /** Called for each notebook that is opened. */
  watch(context: ISessionContext): void {
    context.session?.anyMessage.connect(this._onMessage, this);
    context.sessionChanged.connect((_, { newValue }) => {
      newValue?.anyMessage.connect(this._onMessage, this);
    });
    // Another kernel, or none, or the same one started anew: what had been sent is not run any more.
    context.kernelChanged.connect((_, { oldValue }) => this._forget(oldValue?.id));
    context.statusChanged.connect((_, status) => {
      if (status === 'restarting' || status === 'autorestarting' || status === 'dead') {
        this._forget(context.session?.kernel?.id);
      }
    });
  }

  private _onMessage(
    { kernel }: Session.ISessionConnection,
    { msg, direction }: Kernel.IAnyMessageArgs
  ): void {
    const { msg_type: type, msg_id: id } = msg.header;
    if (direction === 'send') {
      if (kernel && type === 'execute_request' && 'cellId' in msg.metadata) {
        this._waiting.set(id, kernel.id);
        this._changed.emit(kernel.id);
      }
    } else if (type === 'execute_input' || type === 'execute_reply') {
      const parent = (msg.parent_header as KernelMessage.IHeader).msg_id;
      const waited = this._waiting.get(parent);
      if (waited !== undefined) {
        this._waiting.delete(parent);
        this._changed.emit(waited);
      }
    }
  }

  private _forget(kernel: string | undefined): void {
    for (const [id, where] of this._waiting) {
      if (where === kernel) {
        this._waiting.delete(id);
      }
    }
    if (kernel) {
      this._changed.emit(kernel);
    }
  }

  /** The kernel of each, by the id of the request. */
  private readonly _waiting = new Map<string, string>();
  private readonly _changed = new Signal<this, string>(this);
}
