import { act, render, screen, cleanup } from '@testing-library/react';

import { Clock, clock, IsShown, Passing } from '../clock';
import { h } from '../jsx';

const NOW = Date.parse('2026-11-28T12:00:00.000Z');

const hide = (hidden: boolean): void => {
  jest.spyOn(document, 'visibilityState', 'get').mockReturnValue(hidden ? 'hidden' : 'visible');
  document.dispatchEvent(new Event('visibilitychange'));
};

describe('the clock', () => {
  beforeEach(() => {
    jest.useFakeTimers({ now: NOW });
  });

  afterEach(() => {
    cleanup();
    jest.restoreAllMocks();
    jest.useRealTimers();
  });

  it('ticks for all who listen, with one timer, and stops with the last of them', () => {
    const made = new Clock();
    const ticks: string[] = [];
    expect(made.isRunning).toBe(false);
    const one = made.watch(() => ticks.push('one'));
    const other = made.watch(() => ticks.push('other'));
    expect(jest.getTimerCount()).toBe(1);
    jest.advanceTimersByTime(10_000);
    expect(ticks).toEqual(['one', 'other']);
    one.dispose();
    one.dispose();
    jest.advanceTimersByTime(10_000);
    expect(ticks).toEqual(['one', 'other', 'other']);
    other.dispose();
    expect([made.isRunning, jest.getTimerCount()]).toEqual([false, 0]);
  });

  it('rests while nobody sees the page, and ticks at once when somebody does again', () => {
    const made = new Clock();
    const tick = jest.fn();
    const watching = made.watch(tick);
    hide(true);
    jest.advanceTimersByTime(60_000);
    expect([tick.mock.calls.length, made.isRunning]).toEqual([0, false]);
    hide(false);
    expect([tick.mock.calls.length, made.isRunning]).toEqual([1, true]);
    watching.dispose();
    hide(false);
    expect(tick).toHaveBeenCalledTimes(1);
    expect(made.isRunning).toBe(false);
  });

  it('goes by the server’s clock where this computer’s differs', () => {
    const made = new Clock();
    made.learn('Sat, 28 Nov 2026 12:10:00 GMT', 50);
    expect(made.now() - NOW).toBe(600_000);
    made.learn('Sat, 28 Nov 2026 12:30:00 GMT', 5000); // long under way
    made.learn(null, 50);
    expect(made.now() - NOW).toBe(600_000);
    made.learn('Sat, 28 Nov 2026 11:59:59 GMT', 50); // rounded
    expect(made.now()).toBe(NOW);
  });

  it('shows anew what goes with the time, and leaves alone what does not', () => {
    const { rerender } = render(<Passing>{now => <p>{(now - NOW) / 1000} s</p>}</Passing>);
    expect(screen.getByText('0 s')).toBeTruthy();
    act(() => jest.advanceTimersByTime(20_000));
    expect(screen.getByText('20 s')).toBeTruthy();
    rerender(<Passing isNeeded={false}>{now => <p>{(now - NOW) / 1000} s</p>}</Passing>);
    act(() => jest.advanceTimersByTime(20_000));
    expect(screen.getByText('20 s')).toBeTruthy();
    expect(clock.isRunning).toBe(false);
  });

  it('rests while what is shown is in a sidebar that is closed', () => {
    const inSidebar = (isOpen: boolean) => (
      <IsShown.Provider value={isOpen}>
        <Passing>{now => <p>{(now - NOW) / 1000} s</p>}</Passing>
      </IsShown.Provider>
    );
    const { rerender } = render(inSidebar(true));
    expect(clock.isRunning).toBe(true);
    rerender(inSidebar(false));
    expect(clock.isRunning).toBe(false);
    act(() => jest.advanceTimersByTime(20_000));
    rerender(inSidebar(true));
    expect(screen.getByText('20 s')).toBeTruthy();
    expect(clock.isRunning).toBe(true);
  });
});
