import { Event, EventManager } from '@jupyterlab/services';
import { DisposableDelegate, IDisposable } from '@lumino/disposable';

/** How often an event stream that is down is looked at, in milliseconds; JupyterLab itself reopens it. */
const LOOK_EVERY = 1000;

/**
 * Call `resync` whenever events may have been missed: the event stream had closed and is open again, or the page
 * becomes visible or online.
 *
 * JupyterLab 4 has no signal for the first, so this looks at the manager's own poll and socket, and does without where
 * another version (or another kind of manager) has none. Nothing is asked of the server while the stream is up.
 */
export function watchForMissedEvents(events: Event.IManager, resync: () => void): IDisposable {
  let timer: number | undefined;
  let isDisposed = false;
  const manager = events as EventManager;

  const whenOpen = () => {
    timer = undefined;
    const socket = manager['_socket'];
    if (isDisposed || !socket) {
      return;
    }
    if (socket.readyState === WebSocket.OPEN) {
      resync();
    } else {
      timer = window.setTimeout(whenOpen, LOOK_EVERY);
    }
  };
  const onTick = (_: unknown, state: { phase: string }) => {
    // The poll's promise never resolves: it is rejected when the socket closes.
    if (state.phase === 'rejected' && timer === undefined) {
      timer = window.setTimeout(whenOpen, LOOK_EVERY);
    }
  };
  const onPage = () => {
    if (document.visibilityState === 'visible') {
      resync();
    }
  };

  manager['_poll']?.ticked.connect(onTick);
  document.addEventListener('visibilitychange', onPage);
  window.addEventListener('online', onPage);
  return new DisposableDelegate(() => {
    isDisposed = true;
    window.clearTimeout(timer);
    manager['_poll']?.ticked.disconnect(onTick);
    document.removeEventListener('visibilitychange', onPage);
    window.removeEventListener('online', onPage);
  });
}
