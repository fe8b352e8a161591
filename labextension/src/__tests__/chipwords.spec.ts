import { nullTranslator } from '@jupyterlab/translation';

import { ILinkState, LinkPhase } from '../api';
import { chipText } from '../chipwords';
import { clockText } from '../words';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');

const NOW = Date.parse('2026-11-28T12:00:00.000Z');

const linked = (state: LinkPhase, attempt = 0): ILinkState => ({
  ...fixtures.local,
  state,
  attempt
});

describe('chipText', () => {
  const moving = { operation: fixtures.attach, target: fixtures.gpu };

  it('names the free tier and its memory', () => {
    expect(chipText(fixtures.kernel, fixtures.free, undefined, NOW, trans)).toEqual({
      tone: 'on',
      text: 'Free tier · 4 GB'
    });
  });

  it('counts the steps of a move', () => {
    const kernel = { ...fixtures.kernel, moving_to: fixtures.gpu.id };
    expect(chipText(kernel, fixtures.free, moving, NOW, trans)).toEqual({
      tone: 'busy',
      text: 'gpu-vm · moving 2 of 4'
    });
    const steps = fixtures.attach.steps.map((step, index) => ({
      ...step,
      state: index === 0 ? ('running' as const) : ('pending' as const)
    }));
    const starting = { operation: { ...fixtures.attach, steps }, target: fixtures.gpu };
    expect(chipText(kernel, fixtures.free, starting, NOW, trans).text).toBe(
      'gpu-vm · starting 1 of 4'
    );
  });

  it('says that variables are carried, and how many cells wait', () => {
    const kernel = { ...fixtures.kernel, moving_to: fixtures.gpu.id };
    const { steps } = fixtures.attach;
    const text = 'Carrying variables (340 MB of 1.2 GB)';
    const carrying = {
      operation: {
        ...fixtures.attach,
        steps: [
          ...steps.slice(0, 3).map(step => ({ ...step, state: 'done' as const })),
          { name: 'variables', text, state: 'running' as const },
          steps[3]
        ]
      },
      target: fixtures.gpu
    };
    const said = (waiting?: number) =>
      chipText(kernel, fixtures.free, { ...carrying, waiting }, NOW, trans);
    expect(said()).toEqual({ tone: 'busy', text: 'gpu-vm · carrying 4 of 5' });
    expect(said(1)).toEqual({
      tone: 'busy',
      text: 'gpu-vm · carrying · 1 cell waits',
      label: 'gpu-vm · carrying 4 of 5 · 1 cell waits'
    });
    expect(said(2).text).toBe('gpu-vm · carrying · 2 cells wait');
  });

  it.each<[LinkPhase, string, string]>([
    ['connected', 'on', 'gpu-vm · T4 · ~$0.53/h'],
    ['connecting', 'warn', 'gpu-vm · connecting'],
    ['reconnecting', 'warn', 'gpu-vm · reconnecting'],
    ['gone', 'gone', 'gpu-vm · gone']
  ])('%s: %s, %s', (state, tone, text) => {
    const kernel = { ...fixtures.kernel, compute: fixtures.gpu.id, link: linked(state) };
    expect(chipText(kernel, fixtures.gpu, undefined, NOW, trans)).toEqual({ tone, text });
  });

  it('says so where the machine is no longer listed', () => {
    const kernel = { ...fixtures.kernel, compute: 'azure:0000', link: linked('connected') };
    expect(chipText(kernel, undefined, undefined, NOW, trans).text).toBe(
      'a machine that is no longer listed'
    );
  });

  it('counts down what is stopped when nobody uses it, and says the moment to who hears it', () => {
    const kernel = { ...fixtures.kernel, compute: fixtures.gpu.id, link: linked('connected') };
    const compute = { ...fixtures.gpu, power_state: 'running' as const, idle: fixtures.idleStop };
    const at = clockText(fixtures.idleStop.stops_at!);
    const label = `gpu-vm · T4 · ~$0.53/h · stops at ${at}`;
    const after = (minutes: number, machine = compute) =>
      chipText(kernel, machine, undefined, NOW + minutes * 60_000, trans);
    expect(after(0)).toEqual({ tone: 'on', text: 'gpu-vm · T4 · ~$0.53/h', label });
    expect(after(17)).toEqual({ tone: 'on', text: 'gpu-vm · stops in 8 min', label });
    const soon = { ...compute, idle: { ...fixtures.idleStop, state: 'stops_soon' as const } };
    expect(after(22, soon)).toEqual({ tone: 'warn', text: 'gpu-vm · stops in 3 min', label });
    const over = { ...soon, idle: { ...soon.idle, state: 'stop' as const, stops_at: null } };
    expect(after(26, over).text).toBe('gpu-vm · stopping');
    const off = { ...compute, power_state: 'deallocated' as const };
    expect(chipText(kernel, off, undefined, NOW, trans).text).toBe('gpu-vm · T4 · ~$0.53/h');
  });
});
