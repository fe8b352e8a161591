import { nullTranslator } from '@jupyterlab/translation';

import { ICompute, ILinkState, LinkPhase, PowerState } from '../api';
import {
  chipText,
  computeState,
  durationText,
  gpuText,
  operationText,
  priceText,
  sizeText
} from '../words';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');

const linked = (state: LinkPhase, attempt = 0): ILinkState => ({
  ...fixtures.local,
  state,
  attempt
});

describe('sizes, prices and times', () => {
  it('says a size in plain words and leaves out what is not known', () => {
    expect(sizeText(fixtures.gpu.size, trans)).toBe('4 CPU · 28 GB · 1 × T4');
    expect(sizeText(fixtures.cpu.size, trans)).toBe('4 CPU · 16 GB');
    expect(
      sizeText({ name: 'x', vcpus: null, memory_gib: 3.84, gpus: 2, gpu_model: null }, trans)
    ).toBe('3.8 GB · 2 GPU');
    expect(sizeText(null, trans)).toBe('');
  });

  it.each([
    ['NVIDIA T4 16 GB', 'T4'],
    ['NVIDIA H100 NVL 94 GB', 'H100 NVL'],
    ['T4', 'T4']
  ])('shortens %s to %s', (model, short) => {
    expect(gpuText(model)).toBe(short);
  });

  it('marks a price as an estimate', () => {
    expect(priceText(fixtures.gpu.price!, trans)).toBe('~$0.53/h');
    expect(priceText({ amount: 1, currency: 'not a currency', as_of: '' }, trans)).toBe(
      '~1 not a currency/h'
    );
  });

  it.each([
    ['10:00:00', '10:00:09', '9 s'],
    ['10:00:00', '10:01:52', '1 min 52 s'],
    ['10:00:00', '12:05:00', '2 h 5 min']
  ])('from %s to %s is %s', (from, to, text) => {
    expect(durationText(`2026-11-21T${from}Z`, `2026-11-21T${to}Z`, trans)).toBe(text);
  });

  it('says which step of how many is under way', () => {
    expect(operationText(fixtures.attach, trans)).toBe('Step 2 of 4: Connecting to gpu-vm.');
    expect(operationText({ ...fixtures.attach, steps: [] }, trans)).toBe('Working on it.');
  });
});

describe('computeState', () => {
  const current = fixtures.kernel;
  const there = (compute: ICompute, link = linked('connected')) => ({
    ...current,
    compute: compute.id,
    link
  });

  it.each<[PowerState, string, string | null]>([
    ['running', 'On. Nothing attached.', 'attach'],
    ['deallocated', 'Off. Only its disk is still billed.', 'attach'],
    ['stopped', 'Off, but still billed (~$0.53/h).', 'release'],
    ['starting', 'Starting.', null],
    ['stopping', 'Stopping.', null],
    ['deallocating', 'Stopping and releasing.', null],
    ['unknown', 'Azure does not say whether it is on.', null]
  ])('a machine that is %s: %s', (power_state, text, primary) => {
    const state = computeState({ compute: { ...fixtures.gpu, power_state }, current }, trans);
    expect(state).toMatchObject({ text, primary });
  });

  it('offers to start a machine where there is no notebook to attach', () => {
    expect(computeState({ compute: fixtures.gpu }, trans).primary).toBe('start');
    expect(computeState({ compute: fixtures.cpu }, trans).primary).toBeNull();
  });

  it('shows the step of a running operation and no other action', () => {
    const state = computeState(
      { compute: fixtures.gpu, operation: fixtures.attach, current },
      trans
    );
    expect(state).toEqual({
      tone: 'busy',
      text: 'Step 2 of 4: Connecting to gpu-vm.',
      primary: null
    });
  });

  it('offers the way back where the notebook runs', () => {
    const compute = { ...fixtures.cpu, attached: ['work/analysis.ipynb'] };
    const kernel = there(compute);
    expect(computeState({ compute, kernel, current: kernel }, trans)).toEqual({
      tone: 'on',
      text: 'Running analysis.ipynb.',
      primary: 'detach'
    });
  });

  it.each<LinkPhase>(['connected', 'reconnecting', 'gone'])(
    'offers no second way back (%s)',
    state => {
      const kernel = { ...there(fixtures.cpu, linked(state)), moving_to: 'free' };
      expect(
        computeState({ compute: fixtures.cpu, kernel, current: kernel }, trans).primary
      ).toBeNull();
    }
  );

  it('never calls a machine out of reach dead', () => {
    const kernel = there(fixtures.cpu, linked('reconnecting', 3));
    const state = computeState({ compute: fixtures.cpu, kernel, current: kernel }, trans);
    expect(state.tone).toBe('warn');
    expect(state.text).toMatch(
      /^Lost contact at .*\. Your kernel may still be running; reconnecting \(3\)\.$/
    );
    expect(state.primary).toBe('detach');
  });

  it('says when the kernel there has ended', () => {
    const kernel = there(fixtures.gpu, linked('gone'));
    const state = computeState({ compute: fixtures.gpu, kernel, current: kernel }, trans);
    expect(state).toMatchObject({ tone: 'gone', primary: 'detach' });
  });

  it('says what a Windows machine can do', () => {
    const state = computeState({ compute: fixtures.win, current }, trans);
    expect(state.text).toContain('notebooks cannot run on Windows yet');
    expect(state.primary).toBe('start');
    const on: ICompute = { ...fixtures.win, power_state: 'running' };
    expect(computeState({ compute: on, current }, trans).primary).toBeNull();
  });

  it('says that a hibernated machine is asleep, and offers to start it', () => {
    const compute = { ...fixtures.gpu, hibernated: true };
    expect(computeState({ compute, current }, trans)).toEqual({
      tone: 'off',
      text: 'Asleep. Memory is kept; it can only be started as it is.',
      primary: 'start'
    });
  });

  it('lets a notebook attach to a host whose state nobody knows', () => {
    expect(computeState({ compute: fixtures.host, current }, trans).primary).toBe('attach');
  });
});

describe('chipText', () => {
  const moving = { operation: fixtures.attach, target: fixtures.gpu };

  it('names the free tier and its memory', () => {
    expect(chipText(fixtures.kernel, fixtures.free, undefined, trans)).toEqual({
      tone: 'on',
      text: 'Free tier · 4 GB'
    });
  });

  it('counts the steps of a move', () => {
    const kernel = { ...fixtures.kernel, moving_to: fixtures.gpu.id };
    expect(chipText(kernel, fixtures.free, moving, trans)).toEqual({
      tone: 'busy',
      text: 'gpu-vm · moving 2 of 4'
    });
    const steps = fixtures.attach.steps.map((step, index) => ({
      ...step,
      state: index === 0 ? ('running' as const) : ('pending' as const)
    }));
    const starting = { operation: { ...fixtures.attach, steps }, target: fixtures.gpu };
    expect(chipText(kernel, fixtures.free, starting, trans).text).toBe('gpu-vm · starting 1 of 4');
  });

  it.each<[LinkPhase, string, string]>([
    ['connected', 'on', 'gpu-vm · T4 · ~$0.53/h'],
    ['connecting', 'warn', 'gpu-vm · connecting'],
    ['reconnecting', 'warn', 'gpu-vm · reconnecting'],
    ['gone', 'gone', 'gpu-vm · gone']
  ])('%s: %s, %s', (state, tone, text) => {
    const kernel = { ...fixtures.kernel, compute: fixtures.gpu.id, link: linked(state) };
    expect(chipText(kernel, fixtures.gpu, undefined, trans)).toEqual({ tone, text });
  });

  it('says so where the machine is no longer listed', () => {
    const kernel = { ...fixtures.kernel, compute: 'azure:0000', link: linked('connected') };
    expect(chipText(kernel, undefined, undefined, trans).text).toBe(
      'a machine that is no longer listed'
    );
  });
});
