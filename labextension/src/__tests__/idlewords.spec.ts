import { nullTranslator } from '@jupyterlab/translation';

import { ICompute, IIdleStop } from '../api';
import { autoStopText, canKeep, leftText, safetyWarning } from '../idlewords';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');

const AT = '2026-11-28T12:25:00.000Z';
const compute = (idle: Partial<IIdleStop>): ICompute => ({
  ...fixtures.cpu,
  idle: { ...fixtures.idleStop, ...idle }
});

describe('when a machine is stopped by itself', () => {
  it.each([
    [125 * 60, '2 h 5 min'],
    [60 * 60, '1 h 0 min'],
    [24 * 60 + 1, '25 min'],
    [60, '1 min'],
    [3, '1 min'],
    [-90, '1 min']
  ])('%d s before, %s are left', (seconds, text) => {
    expect(leftText(AT, Date.parse(AT) - seconds * 1000, trans)).toBe(text);
  });

  it.each<[Partial<IIdleStop>, boolean]>([
    [{ state: 'idle' }, true],
    [{ state: 'stops_soon' }, true],
    [{ state: 'busy', hard: true }, true],
    [{ state: 'stops_soon', hard: true }, false],
    [{ state: 'never' }, false]
  ])('keeping it on helps (%p): %s', (idle, helps) => {
    expect(canKeep(compute(idle).idle)).toBe(helps);
  });

  it('warns of a safety stop that is not there, or comes in any case', () => {
    const safety = fixtures.idleStop.safety!;
    const none = { ...safety, kind: 'none' as const, text: 'No safety stop: not registered' };
    expect(safetyWarning(compute({ safety: none }))).toBe('No safety stop: not registered.');
    expect(safetyWarning(compute({ safety: { ...safety, averted: false } }))).toBe(safety.text);
    expect(safetyWarning(compute({}))).toBe('');
    expect(safetyWarning({ ...compute({ safety: none }), power_state: 'deallocated' })).toBe('');
    expect(safetyWarning(fixtures.cpu)).toBe('');
  });

  it('says it to who is about to use the machine', () => {
    expect(autoStopText(compute({ hard_limit_hours: 8 }), trans)).toBe(
      'It stops by itself after 30 min in which nobody uses it. 8 h after its start it stops whatever runs.'
    );
    expect(autoStopText(compute({ state: 'never', text: 'It is not stopped' }), trans)).toBe(
      'It is not stopped.'
    );
    expect(autoStopText(fixtures.cpu, trans)).toBe('');
  });

  it('says it of one that is off, where the move starts it', () => {
    const off = (idle: Partial<IIdleStop>): string =>
      autoStopText(
        { ...compute({ state: 'never', text: 'It is off.', ...idle }), power_state: 'deallocated' },
        trans
      );
    expect(off({})).toBe('It stops by itself after 30 min in which nobody uses it.');
    expect(off({ idle_minutes: null })).toBe(
      'It does not stop by itself: stop it when you are done.'
    );
  });
});
