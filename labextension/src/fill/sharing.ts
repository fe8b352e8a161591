import { IDisposable } from '@lumino/disposable';

/** What there is of `y-protocols` in a shared document that somebody provides for. */
interface IAwareness {
  clientID: number;
  getStates(): Map<number, { dsvmFill?: { kernel?: string } }>;
  setLocalStateField(name: string, value: unknown): void;
  on(event: 'change', listener: () => void): void;
  off(event: 'change', listener: () => void): void;
}

/**
 * Which of the pages that share a document writes outputs into it that none of them sees by itself: of those that have
 * this extension and the same kernel, the one with the least number. All pages know who is there, and so agree.
 */
export class Sharing implements IDisposable {
  constructor(shared: unknown, changed: () => void) {
    this._awareness = (shared as { awareness?: IAwareness }).awareness ?? null;
    this._changed = () => {
      if (this._wasWriter !== this.isWriter) {
        this._wasWriter = this.isWriter;
        changed();
      }
    };
    this._awareness?.on('change', this._changed);
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    this._isDisposed = true;
    this._awareness?.off('change', this._changed);
  }

  /** Tell the others. */
  follow(kernel: string): void {
    this._kernel = kernel;
    this._awareness?.setLocalStateField('dsvmFill', { kernel });
  }

  get isWriter(): boolean {
    const { _awareness: awareness, _kernel: kernel } = this;
    return (
      !awareness ||
      ![...awareness.getStates()].some(
        ([id, state]) => id < awareness.clientID && state.dsvmFill?.kernel === kernel
      )
    );
  }

  private readonly _awareness: IAwareness | null;
  private readonly _changed: () => void;
  private _kernel = '';
  private _wasWriter = true;
  private _isDisposed = false;
}
