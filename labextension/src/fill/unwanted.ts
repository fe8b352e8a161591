import { ICodeCellModel } from '@jupyterlab/cells';
import { INotebookModel } from '@jupyterlab/notebook';
import { IDisposable } from '@lumino/disposable';
import { Signal } from '@lumino/signaling';

/** Milliseconds until a cell counts as deleted or cleared: one that is moved goes and comes back, one that is run is cleared first. */
const SURE = 800;

/** Notices what a person clears or deletes in this page: outputs that are not to come back when it is opened again. */
export class Unwanted implements IDisposable {
  /** `runOf`: the request that a cell's outputs are of, as far as is known. */
  constructor(
    private readonly _model: INotebookModel,
    private readonly _runOf: (cell: string) => string | undefined,
    private readonly _forget: (run: string) => void
  ) {
    _model.cells.changed.connect(this._look, this);
    this._look();
  }

  /** While it is set, what is cleared is cleared in order to be filled. */
  isWriting = false;

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    this._isDisposed = true;
    Signal.clearData(this);
  }

  private _look(): void {
    const cells = this._cells();
    for (const cell of cells) {
      if (!this._watched.has(cell)) {
        this._watched.add(cell);
        cell.outputs.changed.connect((_, { type }) => {
          // (What somebody else clears in a shared document comes as `remove`.)
          if (type === 'clear' && !this.isWriting && this._cells().includes(cell)) {
            this._suspect(cell.id, false);
          }
        }, this);
      }
    }
    const there = new Set(cells.map(({ id }) => id));
    for (const id of this._there) {
      if (!there.has(id)) {
        this._suspect(id, true);
      }
    }
    this._there = there;
  }

  private _suspect(id: string, isGone: boolean): void {
    const run = this._runOf(id);
    if (run === undefined) {
      return;
    }
    window.setTimeout(() => {
      if (this._isDisposed || this._model.isDisposed || this._runOf(id) !== run) {
        return;
      }
      const cell = this._cells().find(cell => cell.id === id);
      if (isGone ? !cell : cell && isClear(cell)) {
        this._forget(run);
      }
    }, SURE);
  }

  private _cells(): ICodeCellModel[] {
    return [...this._model.cells].filter((c): c is ICodeCellModel => c.type === 'code');
  }

  private _there: ReadonlySet<string> = new Set();
  private readonly _watched = new WeakSet<ICodeCellModel>();
  private _isDisposed = false;
}

function isClear(cell: ICodeCellModel): boolean {
  return (
    cell.outputs.length === 0 && cell.executionCount === null && cell.executionState === 'idle'
  );
}
