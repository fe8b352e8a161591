import { nullTranslator } from '@jupyterlab/translation';

import { ICompute, IIdleStop, IKernel, ILinkState, IOperation, IProblem, LinkPhase } from '../api';
import { computeState, ISituation, PrimaryAction, StateName, STATES } from '../states';
import { primaryLabel } from '../statewords';
import { usualSeconds } from '../usual';
import { clockText, Tone } from '../words';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');

const current = fixtures.kernel;
const linked = (state: LinkPhase, attempt = 0): ILinkState => ({
  ...fixtures.local,
  state,
  attempt
});
const there = (compute: ICompute, state: LinkPhase = 'connected'): IKernel => ({
  ...current,
  compute: compute.id,
  link: linked(state)
});
const machine = (change: Partial<ICompute>): ICompute => ({ ...fixtures.gpu, ...change });
const KEPT = '2026-11-28T14:10:00.000Z';
const watched = (idle: Partial<IIdleStop>, attached: string[] = []): ICompute => ({
  ...fixtures.cpu,
  attached,
  idle: { ...fixtures.idleStop, ...idle }
});
const failed = (error: IProblem): IOperation => ({ ...fixtures.attach, state: 'failed', error });
const resize: IOperation = {
  ...fixtures.attach,
  kind: 'resize',
  kernel: null,
  steps: [
    { name: 'release', text: 'Release gpu-vm', state: 'running' },
    { name: 'change', text: 'Change gpu-vm to D4ds_v5', state: 'pending' },
    { name: 'start', text: 'Start gpu-vm', state: 'pending' }
  ]
};
const quota: IProblem = {
  code: 'OperationNotAllowed',
  message:
    'Its quota is 0. Azure said: exceeding approved quota, Current Limit: 0, Current Usage: 0, Additional Required: 4',
  advice: 'Request quota at https://aka.ms/quota'
};
const freeAccount = {
  ...quota,
  advice: `${quota.advice} This is a free trial, which gets no GPU sizes.`
};

/** Every row of the table in the design, and those that a machine can be in beside them. */
const ROWS: [StateName, Tone, ISituation, string, PrimaryAction | null][] = [
  [
    'resizing',
    'busy',
    { compute: machine({ attached: ['a.ipynb', 'b.ipynb'] }), operation: resize, current },
    'Step 1 of 3: Release gpu-vm. 2 notebooks go back to the free tier.',
    null
  ],
  [
    'resizing',
    'busy',
    { compute: fixtures.gpu, operation: resize },
    'Step 1 of 3: Release gpu-vm.',
    null
  ],
  [
    'busy',
    'busy',
    { compute: fixtures.gpu, operation: fixtures.attach, usual: 112, current },
    'Step 2 of 4: Connecting to gpu-vm. Usually 2 min.',
    null
  ],
  [
    'busy',
    'busy',
    { compute: fixtures.gpu, operation: fixtures.attach },
    'Step 2 of 4: Connecting to gpu-vm.',
    null
  ],
  [
    'ended',
    'gone',
    {
      compute: fixtures.gpu,
      kernel: there(fixtures.gpu, 'gone'),
      current: there(fixtures.gpu, 'gone')
    },
    'The kernel that ran here has ended, and its variables with it.',
    'detach'
  ],
  [
    'connecting',
    'warn',
    { compute: fixtures.cpu, kernel: there(fixtures.cpu, 'connecting'), current },
    'Connecting.',
    null
  ],
  [
    'attached',
    'on',
    {
      compute: { ...fixtures.cpu, attached: ['work/analysis.ipynb'] },
      current: there(fixtures.cpu)
    },
    'Running analysis.ipynb.',
    'detach'
  ],
  [
    'freeAccount',
    'warn',
    { compute: fixtures.gpu, failed: failed(freeAccount), current },
    'Azure free accounts cannot use GPU sizes.',
    'cpuSizes'
  ],
  [
    'overQuota',
    'warn',
    { compute: fixtures.gpu, failed: failed(quota), current },
    'Quota is 0 of 4 vCPUs for this family.',
    'quota'
  ],
  [
    'overQuota',
    'warn',
    {
      compute: fixtures.gpu,
      failed: failed({ code: 'QuotaExceeded', message: 'Quota.', advice: '' })
    },
    'The quota for this family of sizes is used up.',
    null
  ],
  [
    'noCapacity',
    'warn',
    { compute: fixtures.gpu, failed: failed(fixtures.problem), current },
    'Azure has no NC4as_T4_v3 in westeurope now.',
    'resize'
  ],
  [
    'noCapacity',
    'warn',
    { compute: machine({ size: null, not_allowed: ['resize'] }), failed: failed(fixtures.problem) },
    'Azure has no machine of this size now.',
    null
  ],
  [
    'notReleasable',
    'warn',
    { compute: machine({ power_state: 'stopped', not_allowed: ['stop'] }), current },
    'Off, but still billed ~$0.53/h. You can see this machine but not release it.',
    null
  ],
  [
    'notAllowed',
    'off',
    { compute: machine({ not_allowed: ['start'] }), current },
    'You can see this machine but not start it.',
    null
  ],
  [
    'hibernated',
    'off',
    { compute: machine({ hibernated: true }), current },
    'Asleep. Memory is kept; it can only be started as it is.',
    'start'
  ],
  [
    'windows',
    'off',
    { compute: fixtures.win, current },
    'Off. Start, stop and resize work; notebooks cannot run there yet.',
    'start'
  ],
  [
    'windows',
    'on',
    { compute: { ...fixtures.win, power_state: 'running' }, current },
    'On. Start, stop and resize work; notebooks cannot run there yet.',
    null
  ],
  [
    'windows',
    'warn',
    { compute: { ...fixtures.win, power_state: 'stopped' }, current },
    'Off, but still billed. Start, stop and resize work; notebooks cannot run there yet.',
    'release'
  ],
  ['running', 'on', { compute: fixtures.cpu, current }, 'On. Nothing attached.', 'attach'],
  ['running', 'on', { compute: fixtures.cpu }, 'On. Nothing attached.', null],
  [
    'running',
    'on',
    { compute: watched({ state: 'busy', text: 'In use: a cell runs.', stops_at: null }) },
    'On. Nothing attached. In use: a cell runs.',
    null
  ],
  [
    'running',
    'on',
    { compute: watched({ state: 'never', text: 'It is not stopped by itself', stops_at: null }) },
    'On. Nothing attached. It is not stopped by itself.',
    null
  ],
  [
    'running',
    'on',
    { compute: watched({ state: 'kept', text: 'Kept on.', kept_until: KEPT, stops_at: null }) },
    `On. Nothing attached. Kept on until ${clockText(KEPT)}.`,
    null
  ],
  [
    'attached',
    'on',
    {
      compute: watched({ state: 'busy', text: 'In use: a cell runs.' }, ['work/analysis.ipynb']),
      current: there(fixtures.cpu)
    },
    'Running analysis.ipynb.',
    'detach'
  ],
  [
    'idleSoon',
    'warn',
    { compute: watched({ state: 'stops_soon' }, ['a.ipynb']), current: there(fixtures.cpu) },
    `No activity. Stops at ${clockText(fixtures.idleStop.stops_at!)}.`,
    'keep'
  ],
  [
    'idleSoon',
    'warn',
    { compute: watched({ state: 'stops_soon', hard: true }) },
    `Its time limit ends at ${clockText(fixtures.idleStop.stops_at!)}. It is stopped then, whatever runs.`,
    'autoStop'
  ],
  [
    'idleSoon',
    'warn',
    { compute: watched({ state: 'stop', text: 'It could not be stopped and is still billed' }) },
    'It could not be stopped and is still billed.',
    'keep'
  ],
  [
    'idleSoon',
    'warn',
    {
      compute: watched({ state: 'stop', text: 'It is still billed.' }),
      failed: { ...failed(fixtures.problem), kind: 'stop' }
    },
    'It is still billed.',
    'release'
  ],
  [
    'overBudget',
    'warn',
    {
      compute: fixtures.gpu,
      failed: failed({ ...fixtures.problem, code: 'BudgetExceeded' }),
      current
    },
    'Off, and not started: a budget is spent.',
    null
  ],
  [
    'running',
    'on',
    { compute: { ...fixtures.cpu, attached: ['x/a.ipynb', 'b.ipynb'] }, current },
    'Running a.ipynb and b.ipynb.',
    'attach'
  ],
  [
    'deallocated',
    'off',
    { compute: fixtures.gpu, current },
    'Off. Disk and static address still cost a little.',
    'attach'
  ],
  [
    'deallocated',
    'off',
    { compute: fixtures.gpu },
    'Off. Disk and static address still cost a little.',
    'start'
  ],
  [
    'deallocated',
    'off',
    { compute: fixtures.gpu, current, defaultAction: 'start' },
    'Off. Disk and static address still cost a little.',
    'start'
  ],
  [
    'stopped',
    'warn',
    { compute: machine({ power_state: 'stopped' }), current },
    'Off, but still billed ~$0.53/h.',
    'release'
  ],
  ['stopped', 'warn', { compute: fixtures.old }, 'Off, but still billed.', 'release'],
  [
    'changing',
    'busy',
    { compute: machine({ power_state: 'starting' }), current },
    'Starting.',
    null
  ],
  [
    'changing',
    'busy',
    { compute: machine({ power_state: 'stopping' }), current },
    'Stopping.',
    null
  ],
  [
    'changing',
    'busy',
    { compute: machine({ power_state: 'deallocating' }), current },
    'Stopping and releasing.',
    null
  ],
  [
    'host',
    'off',
    { compute: fixtures.host, current },
    'Reached over SSH when you attach.',
    'attach'
  ],
  [
    'unknown',
    'off',
    { compute: machine({ power_state: 'unknown' }), current },
    'Azure does not say whether it is on.',
    null
  ]
];

describe('the states of a machine', () => {
  it.each(ROWS)('%s (%s) %#', (name, tone, situation, text, primary) => {
    expect(computeState(situation, trans)).toMatchObject({ name, tone, text, primary });
  });

  it('are all in the table above', () => {
    const shown = new Set<string>([...ROWS.map(([name]) => name), 'unreachable']);
    expect(STATES.map(({ name }) => name).filter(name => !shown.has(name))).toEqual([]);
  });

  it('have a label for each action, and a text without marks left', () => {
    for (const [, , situation] of ROWS) {
      const { primary, text } = computeState(situation, trans);
      expect(text).not.toMatch(/%\d/);
      expect(primary === null || primaryLabel(primary, situation.compute, trans)).toBeTruthy();
    }
  });

  it('never call a machine out of reach dead', () => {
    const kernel = { ...there(fixtures.cpu), link: linked('reconnecting', 3) };
    const state = computeState({ compute: fixtures.cpu, kernel, current: kernel }, trans);
    expect(state).toMatchObject({ name: 'unreachable', tone: 'warn', primary: 'reconnect' });
    expect(state.text).toMatch(
      /^Lost contact at .*\. Your kernel may still be running; reconnecting\.$/
    );
    expect(state.shown?.(Date.parse(kernel.link.since) + 40_000)).toBe(
      'Lost contact 40 s ago. Your kernel may still be running; reconnecting (3).'
    );
  });

  it('count down for the eyes, and say nothing new to those who hear them', () => {
    const at = Date.parse(fixtures.idleStop.stops_at!);
    const shown = (idle: Partial<IIdleStop>, attached: string[] = []) => {
      const state = computeState({ compute: watched(idle, attached) }, trans);
      return [state.shown?.(at - 24.5 * 60_000), state.text, state.detail];
    };
    const moment = clockText(fixtures.idleStop.stops_at!);
    expect(shown({})).toEqual([
      'On. Nothing attached. Stops in 25 min.',
      'On. Nothing attached.',
      `Stops at ${moment}.`
    ]);
    expect(shown({}, ['a.ipynb'])).toEqual([
      'Running a.ipynb. Stops in 25 min.',
      'Running a.ipynb.',
      `Stops at ${moment}.`
    ]);
    expect(shown({ state: 'busy', text: 'In use: a cell runs.', hard: true })).toEqual([
      'On. Nothing attached. In use: a cell runs. Its time limit ends in 25 min.',
      'On. Nothing attached. In use: a cell runs.',
      `Its time limit ends at ${moment}.`
    ]);
    expect(shown({ state: 'stops_soon' })[0]).toBe('No activity. Stops in 25 min.');
    expect(shown({ state: 'busy', stops_at: null })[0]).toBeUndefined();
  });

  it('count nothing down of a machine that is off', () => {
    const compute = { ...watched({}), power_state: 'deallocated' as const };
    expect(computeState({ compute }, trans)).toMatchObject({ name: 'deallocated', detail: '' });
  });

  it.each<LinkPhase>(['connected', 'connecting', 'gone'])(
    'offer no second way back (%s)',
    state => {
      const kernel = { ...there(fixtures.cpu, state), moving_to: 'free' };
      expect(
        computeState({ compute: fixtures.cpu, kernel, current: kernel }, trans).primary
      ).toBeNull();
    }
  );

  it('say what costs money in words that stand out', () => {
    const compute = machine({ power_state: 'stopped' });
    const { text, strong } = computeState({ compute }, trans);
    expect(text).toContain(strong);
    expect(strong).toBe('still billed');
  });

  it('do with a machine that is off what the person has chosen', () => {
    const primary = (situation: Partial<ISituation>) =>
      computeState({ compute: fixtures.gpu, defaultAction: 'start', ...situation }, trans).primary;
    expect(primary({ current })).toBe('start');
    expect(primary({ current, defaultAction: 'attach' })).toBe('attach');
    expect(primary({ current, compute: fixtures.cpu })).toBe('attach');
  });

  it('forget a refusal once the machine runs', () => {
    const state = computeState({ compute: fixtures.cpu, failed: failed(fixtures.problem) }, trans);
    expect(state).toMatchObject({ name: 'running', explains: false });
  });

  it('say whether they explain what failed', () => {
    const explains = (error: IProblem) =>
      computeState({ compute: fixtures.gpu, failed: failed(error) }, trans).explains;
    expect(explains(fixtures.problem)).toBe(true);
    expect(explains({ ...fixtures.problem, code: 'ScopeLocked' })).toBe(false);
  });

  it('offer what may still be done to a machine that may not be started', () => {
    const compute = machine({ power_state: 'stopped', not_allowed: ['start'] });
    expect(computeState({ compute, current }, trans).primary).toBe('release');
  });
});

describe('how long it usually takes', () => {
  const took = (seconds: number, change: Partial<IOperation> = {}): IOperation => ({
    ...fixtures.attach,
    id: `took-${seconds}`,
    state: 'done',
    ended: new Date(Date.parse(fixtures.attach.started) + seconds * 1000).toISOString(),
    ...change
  });

  it('is what it took before, on this machine if it is known', () => {
    expect(usualSeconds([took(90), took(110), took(400)], fixtures.attach)).toBe(110);
    const other = took(30, { compute: fixtures.cpu.id });
    expect(usualSeconds([other, took(90)], fixtures.attach)).toBe(90);
    expect(usualSeconds([other], fixtures.attach)).toBe(30);
  });

  it.each<[string, Partial<IOperation>]>([
    ['failed', { state: 'failed' }],
    ['was something else', { kind: 'start' }],
    ['had other steps', { steps: fixtures.attach.steps.slice(1) }],
    ['was begun elsewhere', { elsewhere: true }],
    ['has no end', { ended: null }]
  ])('is not what one took that %s', (_, change) => {
    expect(usualSeconds([took(90, change)], fixtures.attach)).toBeUndefined();
  });
});
