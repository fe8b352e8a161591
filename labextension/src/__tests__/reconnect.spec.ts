import { EventManager, ServerConnection } from '@jupyterlab/services';

import { watchForMissedEvents } from '../reconnect';
import { settle } from './fakeServer';

/** A socket that the test opens and closes. */
class FakeSocket {
  static readonly all: FakeSocket[] = [];
  readyState: number = WebSocket.CONNECTING;
  onopen = () => {};
  onclose = () => {};
  onmessage = () => {};

  constructor() {
    FakeSocket.all.push(this);
  }

  open(): void {
    this.readyState = WebSocket.OPEN;
    this.onopen();
  }

  close(): void {
    this.readyState = WebSocket.CLOSED;
    this.onclose();
  }
}

describe('watchForMissedEvents', () => {
  let events: EventManager;
  let resyncs: number;

  beforeEach(() => {
    FakeSocket.all.length = 0;
    resyncs = 0;
    events = new EventManager({
      standby: 'never',
      serverSettings: ServerConnection.makeSettings({
        WebSocket: FakeSocket as unknown as typeof WebSocket
      })
    });
  });

  afterEach(() => events.dispose());

  it('asks for everything again when the event stream is back, and not before', async () => {
    const watch = watchForMissedEvents(events, () => resyncs++);
    await settle();
    FakeSocket.all[0].open();
    await settle(1200);
    expect(resyncs).toBe(0);
    FakeSocket.all[0].close();
    await settle(3500);
    expect(FakeSocket.all.length).toBeGreaterThan(1);
    expect(resyncs).toBe(0);
    FakeSocket.all[FakeSocket.all.length - 1].open();
    await settle(1200);
    expect(resyncs).toBe(1);
    watch.dispose();
  });

  it('asks again when the page becomes visible or online, until disposed', () => {
    const watch = watchForMissedEvents(events, () => resyncs++);
    document.dispatchEvent(new Event('visibilitychange'));
    window.dispatchEvent(new Event('online'));
    expect(resyncs).toBe(2);
    watch.dispose();
    document.dispatchEvent(new Event('visibilitychange'));
    expect(resyncs).toBe(2);
  });
});
