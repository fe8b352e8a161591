import { IDisposable } from '@lumino/disposable';

/**
 * One list of the server, renewed when its revision is known to have changed.
 *
 * - One fetch at a time, so answers cannot overtake each other.
 * - What arrives meanwhile is remembered as one wish, however often it is made: a burst of events leads to at most one
 *   fetch after the one under way, and not before `minimumGap` milliseconds have passed.
 * - Where the server was not reached at all (a network that changed, a server that restarts) it asks again, less and less
 *   often, until there is an answer; an answer that is an error stays until something changes.
 * - The answer's own revision counts, not the event's: a fetch that was under way may already hold what an event names.
 */
export class RevisionedList<T extends { revision: number }> implements IDisposable {
  constructor(private readonly _options: RevisionedList.IOptions<T>) {}

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** An event says that the list is at `revision` now; older ones are ignored. */
  expect(revision: number): void {
    if (revision > this._expected && revision > this._known) {
      this._expected = revision;
      this._schedule();
    }
  }

  /** Fetch whatever is known, and believe the answer even if its revision is lower: the server may have restarted. */
  fetchAgain(): void {
    this._again = true;
    this._schedule();
  }

  dispose(): void {
    this._isDisposed = true;
    window.clearTimeout(this._timer);
    this._timer = undefined;
  }

  /** Fetch when the gap is over; `delay`, after a failure, is a wait that any other wish cuts short. */
  private _schedule(delay = 0): void {
    if (this._isDisposed || this._fetching || (this._timer !== undefined && !this._isRetry)) {
      return;
    }
    window.clearTimeout(this._timer);
    this._isRetry = delay > 0;
    const wait = Math.max(delay, this._lastFetch + this._options.minimumGap - Date.now());
    this._timer = window.setTimeout(() => {
      this._timer = undefined;
      this._isRetry = false;
      void this._fetch();
    }, wait);
  }

  private async _fetch(): Promise<void> {
    this._fetching = true;
    this._again = false;
    const expected = this._expected;
    let retryIn = 0;
    this._lastFetch = Date.now();
    try {
      const answer = await this._options.fetch();
      if (this._isDisposed) {
        return;
      }
      this._known = answer.revision;
      this._failures = 0;
      this._options.accept(answer);
    } catch (reason) {
      if (!this._isDisposed) {
        this._options.failed(reason);
        if (this._options.isUnreached(reason)) {
          const { first, longest } = this._options.retry;
          retryIn = Math.min(longest, first * 2 ** this._failures++);
        }
      }
    } finally {
      // What this fetch was for has had its answer; an event that came since counts only if it is news to the answer.
      if (this._expected === expected) {
        this._expected = this._known;
      }
      this._fetching = false;
    }
    if (this._again || this._expected > this._known) {
      this._schedule();
    } else if (retryIn > 0) {
      this._schedule(retryIn);
    }
  }

  private _known = -1;
  private _expected = -1;
  private _again = false;
  private _fetching = false;
  private _lastFetch = 0;
  private _timer: number | undefined;
  /** Whether the timer is for asking again after a failure. */
  private _isRetry = false;
  private _failures = 0;
  private _isDisposed = false;
}

export namespace RevisionedList {
  export interface IOptions<T> {
    fetch: () => Promise<T>;
    accept: (answer: T) => void;
    failed: (reason: unknown) => void;
    /** Milliseconds from the start of one fetch to the start of the next. */
    minimumGap: number;
    /** Whether the server was not reached, so that asking again can help. */
    isUnreached: (reason: unknown) => boolean;
    /** Milliseconds until it is asked again; doubled each time up to the longest. */
    retry: { first: number; longest: number };
  }
}
