import { IDisposable } from '@lumino/disposable';
import { Signal } from '@lumino/signaling';

/** What hears signals until it is disposed. Each kind connects methods of its own, with itself as the receiver. */
export abstract class Listener implements IDisposable {
  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    this._isDisposed = true;
    Signal.disconnectReceiver(this);
  }

  private _isDisposed = false;
}
