import { PathExt } from '@jupyterlab/coreutils';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';

/** A notebook that is open in the page, as far as moving it is concerned. */
export interface INotebook {
  path: string;
  /** The file's name. */
  name: string;
  /** The id of its kernel, which is also the id of its row in `GET kernels`. */
  kernelId: string | null;
  /** Whether a cell is running. */
  busy: boolean;
}

export function notebookOf(panel: NotebookPanel): INotebook {
  const kernel = panel.sessionContext.session?.kernel ?? null;
  const path = panel.context.path;
  return {
    path,
    name: PathExt.basename(path),
    kernelId: kernel?.id ?? null,
    busy: kernel?.status === 'busy'
  };
}

/** What the rest of the page needs to know of the notebook in front. */
export interface ICurrentNotebook {
  readonly notebook: INotebook | null;
  /** Another notebook, another kernel or another name. */
  readonly changed: ISignal<ICurrentNotebook, void>;
}

/** Follows the notebook tracker; without one (a page that has no notebooks) there is no current notebook. */
export class CurrentNotebook implements ICurrentNotebook, IDisposable {
  constructor(private readonly _tracker: INotebookTracker | null) {
    this._tracker?.currentChanged.connect(this._onCurrent, this);
    this._onCurrent();
  }

  get notebook(): INotebook | null {
    return this._panel && !this._panel.isDisposed ? notebookOf(this._panel) : null;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    Signal.disconnectReceiver(this);
    Signal.clearData(this);
  }

  private _onCurrent(): void {
    if (this._panel && !this._panel.isDisposed) {
      this._panel.sessionContext.kernelChanged.disconnect(this._emit, this);
      this._panel.context.pathChanged.disconnect(this._emit, this);
    }
    this._panel = this._tracker?.currentWidget ?? null;
    if (this._panel) {
      this._panel.sessionContext.kernelChanged.connect(this._emit, this);
      this._panel.context.pathChanged.connect(this._emit, this);
    }
    this._emit();
  }

  private _emit(): void {
    this._changed.emit();
  }

  private _panel: NotebookPanel | null = null;
  private readonly _changed = new Signal<this, void>(this);
  private _isDisposed = false;
}
