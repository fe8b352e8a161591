/** The one clock for all that is counted down or grows with the time. */
import { DisposableDelegate, IDisposable } from '@lumino/disposable';
import { Signal } from '@lumino/signaling';
import * as React from 'react';

/** Milliseconds; nobody wants to see seconds run by. */
const TICK = 10_000;

/** Milliseconds: clocks that differ by less count as the same, since the server's answers name whole seconds. */
const SAME = 2500;

/** Milliseconds: the server writes the `Date` when it begins with an answer. */
const QUICK = 1000;

/** Ticks while somebody listens and the page is visible, and otherwise not. Knows by how much the server's clock differs. */
export class Clock {
  /** The time by the server's clock, in milliseconds since 1970: that is the clock of all moments it names. */
  now(): number {
    return Date.now() + this._ahead;
  }

  /** An answer of the server carried this `Date`, and came `after` so many milliseconds: a slow one says nothing. */
  learn(date: string | null, after: number): void {
    const ahead = Date.parse(date ?? '') - Date.now();
    if (Number.isFinite(ahead) && after < QUICK) {
      this._ahead = Math.abs(ahead) < SAME ? 0 : ahead;
    }
  }

  /** Have this called with every tick, until what it gives is disposed of. */
  watch(tick: () => void): IDisposable {
    // A listener of its own, so that the same function can be given twice.
    const listener = (): void => tick();
    this._ticked.connect(listener);
    this._watchers += 1;
    if (this._watchers === 1) {
      document.addEventListener('visibilitychange', this._onVisibility);
      this._run();
    }
    return new DisposableDelegate(() => {
      this._ticked.disconnect(listener);
      this._watchers -= 1;
      if (this._watchers === 0) {
        document.removeEventListener('visibilitychange', this._onVisibility);
        this._run();
      }
    });
  }

  /** Whether it ticks just now. */
  get isRunning(): boolean {
    return this._timer !== undefined;
  }

  private readonly _onVisibility = (): void => {
    this._run();
    if (this.isRunning) {
      this._ticked.emit(); // time has passed while the page was hidden
    }
  };

  private _run(): void {
    const runs = this._watchers > 0 && document.visibilityState !== 'hidden';
    if (runs && !this.isRunning) {
      this._timer = window.setInterval(() => this._ticked.emit(), TICK);
    } else if (!runs) {
      window.clearInterval(this._timer);
      this._timer = undefined;
    }
  }

  private readonly _ticked = new Signal<this, void>(this);
  private _ahead = 0;
  private _watchers = 0;
  private _timer: number | undefined;
}

/** This page's. */
export const clock = new Clock();

/** Whether a person can see what is in it: a sidebar may be closed. */
export const IsShown = React.createContext(true);

/** The time now, in a component that is shown anew with every tick while `isNeeded`. */
export function useNow(isNeeded: boolean): number {
  const isWatching = React.useContext(IsShown) && isNeeded;
  const [, setTick] = React.useState(0);
  React.useEffect(() => {
    const watching = isWatching ? clock.watch(() => setTick(tick => tick + 1)) : null;
    return () => watching?.dispose();
  }, [isWatching]);
  return clock.now();
}

/** What goes with the time: shown anew with every tick while `isNeeded`. */
export function Passing(props: {
  isNeeded?: boolean;
  children: (now: number) => React.ReactElement | null;
}): React.ReactElement | null {
  return props.children(useNow(props.isNeeded ?? true));
}
